#pragma once
/// \file
/// Room kernels: the kernels of an instruction set, chosen once per fit.

#include <tuple>

#include <zipml/base/isa.hpp>
#include <zipml/kernels/avx2.hpp>
#include <zipml/kernels/avx512.hpp>
#include <zipml/kernels/avx_vnni.hpp>
#include <zipml/kernels/scalar.hpp>

namespace zipml::inline ZIPML_ABI {

/// All kernel policies of this build, the best last.
#if ZIPML_X86
using AllKernels = std::tuple<ScalarKernels, Avx2Kernels, AvxVnniKernels, Avx512Kernels>;
#else
using AllKernels = std::tuple<ScalarKernels>;
#endif

namespace detail {

template <class F>
void for_each_kernels(F&& f) {
  std::apply([&](auto... kernels) { (f(kernels), ...); }, AllKernels{});
}

}  // namespace detail

/// The kernels of an instruction set that is available, of active_isa(), say: those of a set of codes and of
/// some families (code_set.hpp). Other operations on packed codes throw Error.
///
///     using namespace zipml;
///     kernels_for<OneCode<4, false>, kernel_families::packed_integers>(active_isa())
template <class Codes, unsigned Families>
KernelTable kernels_for(Isa isa) {
  constexpr KernelSet<Codes, Families> kernels_of_set;
  KernelTable table(ScalarKernels{}, kernels_of_set);
  detail::for_each_kernels([&](auto kernels) {
    if (kernels.isa == isa) table = KernelTable(kernels, kernels_of_set);
  });
  return table;
}

/// All of them.
inline KernelTable kernels_of(Isa isa) { return kernels_for<AnyCode, kernel_families::all>(isa); }

}  // namespace zipml::inline ZIPML_ABI
