#pragma once
/// \file
/// Room kernels: what all AVX2 kernels do with codes: load the bytes of a panel, put the codes of a row
/// together, add up registers.

#include <zipml/base/index.hpp>
#include <zipml/kernels/planes.hpp>
#include <zipml/kernels/scalar.hpp>

#if ZIPML_X86

#include <cstdint>

namespace zipml::inline ZIPML_ABI {

/// The lowest layer of Avx2Kernels.
struct Avx2Codes : ScalarKernels {
 protected:
  // ---- loads

  /// 32 bytes of a panel. Behind its last column they belong to the next panel, or to the readable bytes
  /// behind the store, and are multiplied by a padded 0 or land in a padded gradient.
  ZIPML_INLINE_AVX2 static __m256i load32(const std::uint8_t* bytes) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bytes));
  }

  /// A table of 16 bytes for shuffles, which work in 128-bit halves.
  ZIPML_INLINE_AVX2 static __m256i both_lanes(const void* entries) {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128(static_cast<const __m128i*>(entries)));
  }

  /// 8 bytes of a panel, widened to int32.
  ZIPML_INLINE_AVX2 static __m256i load8(const std::uint8_t* bytes) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(bytes)));
  }

  // ---- codes of a row

  /// Bits of 32 columns of row `row` of a group in a plane of width W, where they stand in a code.
  template <int W, int Shift>
  ZIPML_INLINE_AVX2 static __m256i row_bits(const std::uint8_t* panels, Index d, int row) {
    const __m256i bytes = load32(panels + row / (8 / W) * d);
    const int by = row % (8 / W) * W - Shift;
    const __m256i moved = by > 0 ? _mm256_srli_epi16(bytes, by) : _mm256_slli_epi16(bytes, -by);
    return _mm256_and_si256(moved, _mm256_set1_epi8(static_cast<char>(((1 << W) - 1) << Shift)));
  }

  /// The codes of 32 columns of a row, from the panels of its planes: 3 bits are 2 and 1; 5, 6 and 7 are 4
  /// and 1, 4 and 2, 4, 2 and 1.
  template <int Bits>
  ZIPML_INLINE_AVX2 static __m256i row_codes(const std::uint8_t* const* panels, Index j, Index d, int row) {
    constexpr int widest = Bits == 8 ? 8 : Bits >= 4 ? 4 : Bits >= 2 ? 2 : 1;
    constexpr int below = Bits - widest;
    if constexpr (Bits == 8) return load32(panels[0] + row * d + j);
    __m256i codes = row_bits<widest, below>(panels[0] + j, d, row);
    if constexpr (below >= 2) codes = _mm256_or_si256(codes, row_bits<2, below - 2>(panels[1] + j, d, row));
    if constexpr (below % 2 == 1)
      codes = _mm256_or_si256(codes, row_bits<1, 0>(panels[below == 1 ? 1 : 2] + j, d, row));
    return codes;
  }

  /// Adds the bits of a plane of width W, moved to their weight, to the codes of the 8 rows of a group in 8
  /// columns.
  template <int W>
  ZIPML_TARGET_AVX2 static void add_bits(const std::uint8_t* panels, Index d, __m128i weight,
                                         __m256i (&codes)[8]) {
    constexpr int per_byte = 8 / W;
    const __m256i mask = _mm256_set1_epi32((1 << W) - 1);
    for (int k = 0; k < W; ++k) {
      const __m256i bytes = load8(panels + k * d);
      for (int r = 0; r < per_byte; ++r) {
        const __m256i bits = _mm256_and_si256(_mm256_srli_epi32(bytes, r * W), mask);
        codes[k * per_byte + r] = _mm256_add_epi32(codes[k * per_byte + r], _mm256_sll_epi32(bits, weight));
      }
    }
  }

  /// Codes of the 8 rows of a group, columns j .. j + 7.
  ZIPML_TARGET_AVX2 static void read_codes(const PlaneList& planes, const detail::GroupPanels& panels,
                                           Index d, Index j, __m256i (&codes)[8]) {
    for (__m256i& code : codes) code = _mm256_setzero_si256();
    for (int p = 0; p < planes.count; ++p) {
      const std::uint8_t* bytes = panels.plane[p] + j;
      const __m128i weight = _mm_cvtsi32_si128(planes[p].shift);
      switch (planes[p].width) {
        case 1:
          add_bits<1>(bytes, d, weight, codes);
          break;
        case 2:
          add_bits<2>(bytes, d, weight, codes);
          break;
        case 4:
          add_bits<4>(bytes, d, weight, codes);
          break;
        default:
          add_bits<8>(bytes, d, weight, codes);
          break;
      }
    }
  }

  // ---- sums of rows

  /// The sums of eight vectors, in their order.
  ZIPML_INLINE_AVX2 static __m256i row_sums(const __m256i* v) {
    const __m256i a = _mm256_hadd_epi32(_mm256_hadd_epi32(v[0], v[1]), _mm256_hadd_epi32(v[2], v[3]));
    const __m256i b = _mm256_hadd_epi32(_mm256_hadd_epi32(v[4], v[5]), _mm256_hadd_epi32(v[6], v[7]));
    return _mm256_add_epi32(_mm256_permute2x128_si256(a, b, 0x20), _mm256_permute2x128_si256(a, b, 0x31));
  }
  ZIPML_INLINE_AVX2 static __m256 row_sums(const __m256* v) {
    const __m256 a = _mm256_hadd_ps(_mm256_hadd_ps(v[0], v[1]), _mm256_hadd_ps(v[2], v[3]));
    const __m256 b = _mm256_hadd_ps(_mm256_hadd_ps(v[4], v[5]), _mm256_hadd_ps(v[6], v[7]));
    return _mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
  }
};

}  // namespace zipml::inline ZIPML_ABI

#endif  // ZIPML_X86
