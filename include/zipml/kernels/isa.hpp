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

/// The kernels of an instruction set that is available: of active_isa(), say.
inline KernelTable kernels_of(Isa isa) {
  KernelTable table{ScalarKernels{}};
  detail::for_each_kernels([&](auto kernels) {
    if (kernels.isa == isa) table = KernelTable(kernels);
  });
  return table;
}

}  // namespace zipml::inline ZIPML_ABI
