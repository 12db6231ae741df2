#pragma once
/// \file
/// Room base: Philox4x32-10 (random.hpp) in vector registers: one counter in each 64-bit lane, the same
/// words.
///
/// 64 and not 32 bits, because a lane is multiplied as a whole: low and high half of a product are then where
/// the next round wants them, and what stands in the upper half of a lane does not matter to the next
/// multiplication. A lane's four words belong to four neighbouring columns; counters are dealt to lanes in
/// the order in which unpacking returns them, so that the results hold consecutive columns.

#include <zipml/base/intrinsics.hpp>
#include <zipml/base/random.hpp>

#if ZIPML_X86

namespace zipml::inline ZIPML_ABI::detail {

inline constexpr int philox_rounds = 10;
inline constexpr std::uint32_t philox_multiplier[2] = {0xD2511F53u, 0xCD9E8D57u};
inline constexpr std::uint32_t philox_weyl[2] = {0x9E3779B9u, 0xBB67AE85u};

/// A counter but for its first word, which counts groups of four columns; the keys of all rounds.
struct PhiloxPlace {
  PhiloxPlace(const Random& random, Stream stream, std::uint32_t draw, std::uint64_t row)
      : row_low(static_cast<std::uint32_t>(row)),
        row_high(static_cast<std::uint32_t>(row >> 32)),
        stream_and_draw(static_cast<std::uint32_t>(stream) << 24 | (draw & 0xFFFFFFu)) {
    PhiloxKey key = random.key();
    for (auto& k : keys) {
      k = key;
      key[0] += philox_weyl[0];
      key[1] += philox_weyl[1];
    }
  }

  std::uint32_t row_low;
  std::uint32_t row_high;
  std::uint32_t stream_and_draw;
  PhiloxKey keys[philox_rounds];
};

/// The words of columns 4 * group .. 4 * group + 16 Sets - 1, eight to a register. Sets hide the latency of
/// each other's multiplications.
template <int Sets>
ZIPML_INLINE_AVX2 inline void philox_words(const PhiloxPlace& place, std::uint32_t group,
                                           __m256i (&words)[2 * Sets]) {
  const __m256i dealt = _mm256_setr_epi64x(0, 2, 1, 3);
  const __m256i m0 = _mm256_set1_epi64x(philox_multiplier[0]);
  const __m256i m1 = _mm256_set1_epi64x(philox_multiplier[1]);
  __m256i a[Sets], b[Sets], c[Sets], d[Sets];
  for (int k = 0; k < Sets; ++k) {
    a[k] = _mm256_add_epi64(_mm256_set1_epi64x(static_cast<long long>(group) + 4 * k), dealt);
    b[k] = _mm256_set1_epi64x(place.row_low);
    c[k] = _mm256_set1_epi64x(place.row_high);
    d[k] = _mm256_set1_epi64x(place.stream_and_draw);
  }
  for (const PhiloxKey& key : place.keys) {
    const __m256i key0 = _mm256_set1_epi32(static_cast<int>(key[0]));
    const __m256i key1 = _mm256_set1_epi32(static_cast<int>(key[1]));
    for (int k = 0; k < Sets; ++k) {
      const __m256i product0 = _mm256_mul_epu32(a[k], m0);
      const __m256i product1 = _mm256_mul_epu32(c[k], m1);
      a[k] = _mm256_xor_si256(_mm256_srli_epi64(product1, 32), _mm256_xor_si256(b[k], key0));
      c[k] = _mm256_xor_si256(_mm256_srli_epi64(product0, 32), _mm256_xor_si256(d[k], key1));
      b[k] = product1;
      d[k] = product0;
    }
  }
  for (int k = 0; k < Sets; ++k) {
    const __m256i ab = _mm256_blend_epi32(a[k], _mm256_slli_epi64(b[k], 32), 0xaa);
    const __m256i cd = _mm256_blend_epi32(c[k], _mm256_slli_epi64(d[k], 32), 0xaa);
    words[2 * k] = _mm256_unpacklo_epi64(ab, cd);
    words[2 * k + 1] = _mm256_unpackhi_epi64(ab, cd);
  }
}

/// The words of columns 4 * group .. 4 * group + 32 Sets - 1, sixteen to a register.
template <int Sets>
ZIPML_INLINE_AVX512 inline void philox_words(const PhiloxPlace& place, std::uint32_t group,
                                             __m512i (&words)[2 * Sets]) {
  const __m512i dealt = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);
  const __m512i m0 = _mm512_set1_epi64(philox_multiplier[0]);
  const __m512i m1 = _mm512_set1_epi64(philox_multiplier[1]);
  __m512i a[Sets], b[Sets], c[Sets], d[Sets];
  for (int k = 0; k < Sets; ++k) {
    a[k] = _mm512_add_epi64(_mm512_set1_epi64(static_cast<long long>(group) + 8 * k), dealt);
    b[k] = _mm512_set1_epi64(place.row_low);
    c[k] = _mm512_set1_epi64(place.row_high);
    d[k] = _mm512_set1_epi64(place.stream_and_draw);
  }
  for (const PhiloxKey& key : place.keys) {
    const __m512i key0 = _mm512_set1_epi32(static_cast<int>(key[0]));
    const __m512i key1 = _mm512_set1_epi32(static_cast<int>(key[1]));
    for (int k = 0; k < Sets; ++k) {
      const __m512i product0 = _mm512_mul_epu32(a[k], m0);
      const __m512i product1 = _mm512_mul_epu32(c[k], m1);
      // 0x96: the exclusive or of three
      a[k] = _mm512_ternarylogic_epi32(_mm512_srli_epi64(product1, 32), b[k], key0, 0x96);
      c[k] = _mm512_ternarylogic_epi32(_mm512_srli_epi64(product0, 32), d[k], key1, 0x96);
      b[k] = product1;
      d[k] = product0;
    }
  }
  for (int k = 0; k < Sets; ++k) {
    const __m512i ab = _mm512_mask_shuffle_epi32(a[k], 0xaaaa, b[k], _MM_PERM_CCAA);
    const __m512i cd = _mm512_mask_shuffle_epi32(c[k], 0xaaaa, d[k], _MM_PERM_CCAA);
    words[2 * k] = _mm512_unpacklo_epi64(ab, cd);
    words[2 * k + 1] = _mm512_unpackhi_epi64(ab, cd);
  }
}

}  // namespace zipml::inline ZIPML_ABI::detail

#endif  // ZIPML_X86
