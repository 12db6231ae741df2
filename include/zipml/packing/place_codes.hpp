#pragma once
/// \file
/// Room packing: placing the codes of one row in the planes of a store, wherever the row lies there, in plain
/// C++ and in the vector instructions of this machine.

#include <algorithm>
#include <cstdint>

#include <zipml/base/index.hpp>
#include <zipml/base/isa.hpp>
#if ZIPML_DEFINES
#include <zipml/base/intrinsics.hpp>
#include <zipml/storage/plane_layout.hpp>
#endif

namespace zipml::inline ZIPML_ABI {

/// Puts bits `shift` .. `shift` + width - 1 of the codes of one row into a panel of d bytes, where it is the
/// `position`-th of the 8 / width rows: whatever they were, and leaving the other rows' as they are. width is
/// 1, 2, 4 or 8. Reads and writes d bytes, O(d).
void place_codes(Isa isa, int width, const std::uint8_t* codes, Index d, int shift, int position,
                 std::uint8_t* panel);
/// The same of codes of 16 bits, which sums of draws need; they have no vectors.
void place_codes(Isa isa, int width, const std::uint16_t* codes, Index d, int shift, int position,
                 std::uint8_t* panel);

#if ZIPML_DEFINES

namespace detail {

template <int W, class Code>
void place_columns(const Code* codes, Index first, Index d, int shift, int position, std::uint8_t* panel) {
  constexpr unsigned mask = (1u << W) - 1u;
  const int left = position * W;
  const unsigned others = ~(mask << left);
  for (Index j = first; j < d; ++j)
    panel[j] =
        static_cast<std::uint8_t>((panel[j] & others) | ((unsigned{codes[j]} >> shift & mask) << left));
}

#if ZIPML_X86

/// 32 columns at a time. The last piece begins where it fits, on columns that are placed already: placing
/// twice is placing once.
template <int W>
ZIPML_TARGET_AVX2 void place_codes_avx2(const std::uint8_t* codes, Index d, int shift, int position,
                                        std::uint8_t* panel) {
  if (d < 32) return place_columns<W>(codes, 0, d, shift, position, panel);
  const __m256i mask = _mm256_set1_epi8(static_cast<char>((1 << W) - 1));
  const __m128i right = _mm_cvtsi32_si128(shift), left = _mm_cvtsi32_si128(position * W);
  const __m256i mine = _mm256_sll_epi16(mask, left);
  for (Index j = 0; j < d; j += 32) {
    const Index at = (std::min)(j, d - 32);
    const __m256i row = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes + at));
    const __m256i bits = _mm256_sll_epi16(_mm256_and_si256(_mm256_srl_epi16(row, right), mask), left);
    __m256i* const to = reinterpret_cast<__m256i*>(panel + at);
    _mm256_storeu_si256(to, _mm256_or_si256(_mm256_andnot_si256(mine, _mm256_loadu_si256(to)), bits));
  }
}

/// 64 columns at a time, the last piece masked.
template <int W>
ZIPML_TARGET_AVX512 void place_codes_avx512(const std::uint8_t* codes, Index d, int shift, int position,
                                            std::uint8_t* panel) {
  const __m512i mask = _mm512_set1_epi8(static_cast<char>((1 << W) - 1));
  const __m128i right = _mm_cvtsi32_si128(shift), left = _mm_cvtsi32_si128(position * W);
  const __m512i mine = _mm512_sll_epi16(mask, left);
  for (Index j = 0; j < d; j += 64) {
    const __mmask64 within = d - j < 64 ? (std::uint64_t{1} << (d - j)) - 1 : ~std::uint64_t{0};
    const __m512i row = _mm512_maskz_loadu_epi8(within, codes + j);
    const __m512i bits = _mm512_sll_epi16(_mm512_and_si512(_mm512_srl_epi16(row, right), mask), left);
    const __m512i old = _mm512_maskz_loadu_epi8(within, panel + j);
    _mm512_mask_storeu_epi8(panel + j, within, _mm512_or_si512(_mm512_andnot_si512(mine, old), bits));
  }
}

#endif

}  // namespace detail

ZIPML_FUNCTION void place_codes(Isa isa, int width, const std::uint8_t* codes, Index d, int shift,
                                int position, std::uint8_t* panel) {
  detail::visit_width(width, [&](auto constant) {
    constexpr int w = decltype(constant)::value;
#if ZIPML_X86
    if (isa == Isa::avx512) return detail::place_codes_avx512<w>(codes, d, shift, position, panel);
    if (isa != Isa::scalar) return detail::place_codes_avx2<w>(codes, d, shift, position, panel);
#endif
    detail::place_columns<w>(codes, 0, d, shift, position, panel);
  });
  (void)isa;
}

ZIPML_FUNCTION void place_codes(Isa, int width, const std::uint16_t* codes, Index d, int shift, int position,
                                std::uint8_t* panel) {
  detail::visit_width(width, [&](auto constant) {
    detail::place_columns<decltype(constant)::value>(codes, 0, d, shift, position, panel);
  });
}

#endif

}  // namespace zipml::inline ZIPML_ABI
