#pragma once
/// \file
/// Layer 3: Philox4x32-10 (random.hpp) in vector registers: one counter in each 32-bit lane, the same words.
///
/// A lane's four words belong to four neighbouring columns. Transposing them in 128-bit pieces would leave the
/// columns scattered, were counters dealt to lanes in their order; they are dealt so that the transposed
/// registers hold consecutive columns.

#include <zipml/random.hpp>
#include <zipml/storage/quantized_vector.hpp>

#if ZIPML_X86

#if defined(__GNUC__) && !defined(__clang__)
// g++ 12 warns of its own _mm512_undefined_epi32: gcc.gnu.org/PR105593.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop
#else
#include <immintrin.h>
#endif

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
  PhiloxPlace(const Random& random, const RandomPlace& place)
      : PhiloxPlace(random, place.stream, place.draw, place.row) {}

  std::uint32_t row_low;
  std::uint32_t row_high;
  std::uint32_t stream_and_draw;
  PhiloxKey keys[philox_rounds];
};

/// The words of columns 4 * group .. 4 * group + 31, eight to a register.
ZIPML_INLINE_AVX2 inline void philox_words(const PhiloxPlace& place, std::uint32_t group, __m256i (&words)[4]) {
  const __m256i counters = _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7);
  __m256i a = _mm256_add_epi32(_mm256_set1_epi32(static_cast<int>(group)), counters);
  __m256i b = _mm256_set1_epi32(static_cast<int>(place.row_low));
  __m256i c = _mm256_set1_epi32(static_cast<int>(place.row_high));
  __m256i d = _mm256_set1_epi32(static_cast<int>(place.stream_and_draw));
  const __m256i m0 = _mm256_set1_epi32(static_cast<int>(philox_multiplier[0]));
  const __m256i m1 = _mm256_set1_epi32(static_cast<int>(philox_multiplier[1]));
  for (const PhiloxKey& key : place.keys) {
    const __m256i even0 = _mm256_mul_epu32(a, m0), odd0 = _mm256_mul_epu32(_mm256_srli_epi64(a, 32), m0);
    const __m256i even1 = _mm256_mul_epu32(c, m1), odd1 = _mm256_mul_epu32(_mm256_srli_epi64(c, 32), m1);
    const __m256i low0 = _mm256_blend_epi32(even0, _mm256_slli_epi64(odd0, 32), 0xaa);
    const __m256i high0 = _mm256_blend_epi32(_mm256_srli_epi64(even0, 32), odd0, 0xaa);
    const __m256i low1 = _mm256_blend_epi32(even1, _mm256_slli_epi64(odd1, 32), 0xaa);
    const __m256i high1 = _mm256_blend_epi32(_mm256_srli_epi64(even1, 32), odd1, 0xaa);
    a = _mm256_xor_si256(_mm256_xor_si256(high1, b), _mm256_set1_epi32(static_cast<int>(key[0])));
    c = _mm256_xor_si256(_mm256_xor_si256(high0, d), _mm256_set1_epi32(static_cast<int>(key[1])));
    b = low1;
    d = low0;
  }
  const __m256i ab_low = _mm256_unpacklo_epi32(a, b), ab_high = _mm256_unpackhi_epi32(a, b);
  const __m256i cd_low = _mm256_unpacklo_epi32(c, d), cd_high = _mm256_unpackhi_epi32(c, d);
  words[0] = _mm256_unpacklo_epi64(ab_low, cd_low);
  words[1] = _mm256_unpackhi_epi64(ab_low, cd_low);
  words[2] = _mm256_unpacklo_epi64(ab_high, cd_high);
  words[3] = _mm256_unpackhi_epi64(ab_high, cd_high);
}

/// The words of columns 4 * group .. 4 * group + 64 Blocks - 1, sixteen to a register. Two blocks hide the latency of
/// each other's multiplications.
template <int Blocks>
ZIPML_INLINE_AVX512 inline void philox_words(const PhiloxPlace& place, std::uint32_t group,
                                             __m512i (&words)[Blocks][4]) {
  const __m512i counters = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const __m512i m0 = _mm512_set1_epi32(static_cast<int>(philox_multiplier[0]));
  const __m512i m1 = _mm512_set1_epi32(static_cast<int>(philox_multiplier[1]));
  __m512i a[Blocks], b[Blocks], c[Blocks], d[Blocks];
  for (int k = 0; k < Blocks; ++k) {
    a[k] = _mm512_add_epi32(_mm512_set1_epi32(static_cast<int>(group) + 16 * k), counters);
    b[k] = _mm512_set1_epi32(static_cast<int>(place.row_low));
    c[k] = _mm512_set1_epi32(static_cast<int>(place.row_high));
    d[k] = _mm512_set1_epi32(static_cast<int>(place.stream_and_draw));
  }
  for (const PhiloxKey& key : place.keys) {
    const __m512i key0 = _mm512_set1_epi32(static_cast<int>(key[0]));
    const __m512i key1 = _mm512_set1_epi32(static_cast<int>(key[1]));
    for (int k = 0; k < Blocks; ++k) {
      const __m512i even0 = _mm512_mul_epu32(a[k], m0);
      const __m512i odd0 = _mm512_mul_epu32(_mm512_srli_epi64(a[k], 32), m0);
      const __m512i even1 = _mm512_mul_epu32(c[k], m1);
      const __m512i odd1 = _mm512_mul_epu32(_mm512_srli_epi64(c[k], 32), m1);
      const __m512i low0 = _mm512_mask_shuffle_epi32(even0, 0xaaaa, odd0, _MM_PERM_CCAA);
      const __m512i low1 = _mm512_mask_shuffle_epi32(even1, 0xaaaa, odd1, _MM_PERM_CCAA);
      const __m512i high0 = _mm512_mask_shuffle_epi32(odd0, 0x5555, even0, _MM_PERM_DDBB);
      const __m512i high1 = _mm512_mask_shuffle_epi32(odd1, 0x5555, even1, _MM_PERM_DDBB);
      a[k] = _mm512_ternarylogic_epi32(high1, b[k], key0, 0x96);  // the exclusive or of three
      c[k] = _mm512_ternarylogic_epi32(high0, d[k], key1, 0x96);
      b[k] = low1;
      d[k] = low0;
    }
  }
  for (int k = 0; k < Blocks; ++k) {
    const __m512i ab_low = _mm512_unpacklo_epi32(a[k], b[k]), ab_high = _mm512_unpackhi_epi32(a[k], b[k]);
    const __m512i cd_low = _mm512_unpacklo_epi32(c[k], d[k]), cd_high = _mm512_unpackhi_epi32(c[k], d[k]);
    words[k][0] = _mm512_unpacklo_epi64(ab_low, cd_low);
    words[k][1] = _mm512_unpackhi_epi64(ab_low, cd_low);
    words[k][2] = _mm512_unpacklo_epi64(ab_high, cd_high);
    words[k][3] = _mm512_unpackhi_epi64(ab_high, cd_high);
  }
}

}  // namespace zipml::inline ZIPML_ABI::detail

#endif  // ZIPML_X86
