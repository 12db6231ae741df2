#pragma once
/// \file
/// Room kernels: the kernel for sums of products of codes (kernels/gram.hpp) of an instruction set.

#include <zipml/base/isa.hpp>
#include <zipml/kernels/avx2_gram.hpp>
#include <zipml/kernels/avx512_gram.hpp>
#include <zipml/kernels/gram.hpp>

namespace zipml::inline ZIPML_ABI {

/// Adds the products of a panel to columns x columns sums, of the lower triangle at least: what detail::gram_body() does, the
/// specification, with the same integers on every instruction set. (Apart from KernelTable: who sums products needs none of
/// the other kernels, and these take long to compile.)
using GramKernel = void (*)(const GramPanel& panel, std::int32_t* sums);

/// The kernel of an instruction set that is available.
///
///     zipml::gram_kernel(zipml::active_isa())(panel, sums);
inline GramKernel gram_kernel(Isa isa) {
#if ZIPML_X86
  if (isa == Isa::avx512)
    return [](const GramPanel& panel, std::int32_t* sums) {
      panel.largest > 127 ? detail::gram_avx512<true>(panel, sums) : detail::gram_avx512<false>(panel, sums);
    };
  if (isa != Isa::scalar) return detail::gram_avx2;
#endif
  (void)isa;
  return detail::gram_body;
}

}  // namespace zipml::inline ZIPML_ABI
