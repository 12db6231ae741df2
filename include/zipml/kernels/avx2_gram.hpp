#pragma once
/// \file
/// Room kernels: sums of products of codes (kernels/gram.hpp) in AVX2. 8 columns of one block are multiplied with 4 of another,
/// each of these 4 rows spread over a register. vpmaddubsw adds two products of bytes in int16, saturating: up to 127 times 127
/// they fit, and of codes up to 15 it takes 36 fours of rows until their sums do not.

#include <zipml/base/config.hpp>
#include <zipml/base/intrinsics.hpp>
#include <zipml/kernels/gram.hpp>

#if ZIPML_X86

#include <cstring>

namespace zipml::inline ZIPML_ABI::detail {

static_assert(2 * 127 * 127 <= 32767 && 72 * 2 * 15 * 15 <= 32767);

/// The codes of 4 rows of a column in each dword.
ZIPML_INLINE_AVX2 inline __m256i spread_avx2(const std::uint8_t* four) {
  std::int32_t bits;
  std::memcpy(&bits, four, sizeof bits);
  return _mm256_set1_epi32(bits);
}

/// Adds the sums of 4 columns times 8 to four rows of `sums`.
ZIPML_INLINE_AVX2 inline void add_sums_avx2(std::int32_t* sums, Index stride, __m256i s0, __m256i s1,
                                            __m256i s2, __m256i s3) {
  const auto add = [&](Index row, __m256i s) ZIPML_TARGET_AVX2 {
    auto* const at = reinterpret_cast<__m256i*>(sums + row * stride);
    _mm256_storeu_si256(at, _mm256_add_epi32(_mm256_loadu_si256(at), s));
  };
  add(0, s0);
  add(1, s1);
  add(2, s2);
  add(3, s3);
}

/// Codes up to 15: products of 72 fours of rows are added in int16 before they are widened.
ZIPML_TARGET_AVX2 inline void gram_nibbles_avx2(const std::uint8_t* a, const std::uint8_t* b, Index fours,
                                                std::int32_t* sums, Index stride) {
  const __m256i ones = _mm256_set1_epi16(1);
  __m256i t0 = _mm256_setzero_si256(), t1 = t0, t2 = t0, t3 = t0;
  for (Index first = 0; first < fours; first += 72) {
    const Index end = first + 72 < fours ? first + 72 : fours;
    __m256i s0 = _mm256_setzero_si256(), s1 = s0, s2 = s0, s3 = s0;
    for (Index f = first; f < end; ++f) {
      const __m256i v = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b + f * 64));
      const std::uint8_t* const of = a + f * 64;
      s0 = _mm256_add_epi16(s0, _mm256_maddubs_epi16(spread_avx2(of), v));
      s1 = _mm256_add_epi16(s1, _mm256_maddubs_epi16(spread_avx2(of + 4), v));
      s2 = _mm256_add_epi16(s2, _mm256_maddubs_epi16(spread_avx2(of + 8), v));
      s3 = _mm256_add_epi16(s3, _mm256_maddubs_epi16(spread_avx2(of + 12), v));
    }
    t0 = _mm256_add_epi32(t0, _mm256_madd_epi16(s0, ones));
    t1 = _mm256_add_epi32(t1, _mm256_madd_epi16(s1, ones));
    t2 = _mm256_add_epi32(t2, _mm256_madd_epi16(s2, ones));
    t3 = _mm256_add_epi32(t3, _mm256_madd_epi16(s3, ones));
  }
  add_sums_avx2(sums, stride, t0, t1, t2, t3);
}

/// Codes up to 127.
ZIPML_TARGET_AVX2 inline void gram_small_avx2(const std::uint8_t* a, const std::uint8_t* b, Index fours,
                                              std::int32_t* sums, Index stride) {
  const __m256i ones = _mm256_set1_epi16(1);
  __m256i s0 = _mm256_setzero_si256(), s1 = s0, s2 = s0, s3 = s0;
  for (Index f = 0; f < fours; ++f) {
    const __m256i v = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b + f * 64));
    const std::uint8_t* const of = a + f * 64;
    s0 = _mm256_add_epi32(s0, _mm256_madd_epi16(_mm256_maddubs_epi16(spread_avx2(of), v), ones));
    s1 = _mm256_add_epi32(s1, _mm256_madd_epi16(_mm256_maddubs_epi16(spread_avx2(of + 4), v), ones));
    s2 = _mm256_add_epi32(s2, _mm256_madd_epi16(_mm256_maddubs_epi16(spread_avx2(of + 8), v), ones));
    s3 = _mm256_add_epi32(s3, _mm256_madd_epi16(_mm256_maddubs_epi16(spread_avx2(of + 12), v), ones));
  }
  add_sums_avx2(sums, stride, s0, s1, s2, s3);
}

/// Codes up to 255, in int16: the low halves of both 128-bit lanes, and the high ones.
ZIPML_TARGET_AVX2 inline void gram_bytes_avx2(const std::uint8_t* a, const std::uint8_t* b, Index fours,
                                              std::int32_t* sums, Index stride) {
  const __m256i none = _mm256_setzero_si256();
  for (Index row = 0; row < 4; ++row) {
    __m256i low = none, high = none;
    for (Index f = 0; f < fours; ++f) {
      const __m256i v = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b + f * 64));
      const __m256i w = _mm256_unpacklo_epi8(spread_avx2(a + f * 64 + row * 4), none);
      low = _mm256_add_epi32(low, _mm256_madd_epi16(w, _mm256_unpacklo_epi8(v, none)));
      high = _mm256_add_epi32(high, _mm256_madd_epi16(w, _mm256_unpackhi_epi8(v, none)));
    }
    auto* const at = reinterpret_cast<__m256i*>(sums + row * stride);
    _mm256_storeu_si256(at, _mm256_add_epi32(_mm256_loadu_si256(at), _mm256_hadd_epi32(low, high)));
  }
}

inline void gram_avx2(const GramPanel& panel, std::int32_t* sums) {
  const Index columns = panel.columns();
  for (Index a = 0; a < panel.blocks; ++a)
    for (Index b = 0; b <= a; ++b)
      for (Index row = 0; row < gram_columns; row += 4)
        for (Index half = 0; half < gram_columns; half += 8) {
          const std::uint8_t* const of_a = panel.block(a) + row * 4;
          const std::uint8_t* const of_b = panel.block(b) + half * 4;
          std::int32_t* const to = sums + (a * gram_columns + row) * columns + b * gram_columns + half;
          if (panel.largest <= 15)
            gram_nibbles_avx2(of_a, of_b, panel.fours, to, columns);
          else if (panel.largest <= 127)
            gram_small_avx2(of_a, of_b, panel.fours, to, columns);
          else
            gram_bytes_avx2(of_a, of_b, panel.fours, to, columns);
        }
}

}  // namespace zipml::inline ZIPML_ABI::detail

#endif
