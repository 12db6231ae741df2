#pragma once
/// \file
/// Room kernels: every kernel policy of this build, and a table of the kernels of one of them.

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

/// A set of the kernels of an instruction set.
template <class Codes, unsigned Families>
KernelTable table_of(Isa isa) {
  constexpr KernelSet<Codes, Families> set;
  KernelTable table(ScalarKernels{}, set);
  for_each_kernels([&](auto kernels) {
    if (kernels.isa == isa) table = KernelTable(kernels, set);
  });
  return table;
}

}  // namespace detail

}  // namespace zipml::inline ZIPML_ABI
