#pragma once
/// \file
/// Room kernels: the work on single rows, for batches too small to fill a group of 8: the codes of a row
/// become float32 once, and the row is then what a float32 row is; and the steps of classic SGD along such
/// rows. Values, and models for given residuals, are the same bits on every instruction set, margins equal
/// within the rounding of their sums.

#include <cmath>
#include <cstdint>
#include <type_traits>

#include <zipml/base/index.hpp>
#include <zipml/base/intrinsics.hpp>
#include <zipml/base/rounded.hpp>
#include <zipml/kernels/batch_math.hpp>
#include <zipml/storage/row_codes.hpp>

namespace zipml::inline ZIPML_ABI {

/// What the codes of a row stand for, with t = entries[code] where there are entries, else the code itself:
///     tables[j * stride + code]     where there are tables
///     offset_j + step_j * t         where there are steps: padded vectors, as those of batch_math.hpp
///     row_offset + row_step * t     else
struct RowLevels {
  const float* offset = nullptr;
  const float* step = nullptr;
  const float* entries = nullptr;
  const float* tables = nullptr;
  Index stride = 0;
  float row_offset = 0.0f;
  float row_step = 1.0f;
};

/// A step of classic SGD along a row: x -= factor * row - step * diagonal * x.
struct RowStep {
  const float* row;                 ///< padded
  float factor;                     ///< step size times residual
  const float* diagonal = nullptr;  ///< or null
  float step = 0.0f;
};

namespace detail {

/// offset + step * t with an exact product, in double: what an FMA gives, but where the sum in double stands
/// on a tie of float32 and the bits that it has lost would have decided (the smaller of offset and product
/// below 2^-24 of the larger; 1 in 10^8 at most). Of the float path alone, which promises no bits between
/// instruction sets.
ZIPML_ALWAYS_INLINE float affine_value(float offset, float step, float t) {
  return static_cast<float>(static_cast<double>(offset) + static_cast<double>(step) * static_cast<double>(t));
}

/// Writes the values of d codes to `values`, padded with 0 to `padded` entries. O(d).
inline void decode_row_plainly(const RowCodes& row, const RowLevels& levels, Index d, float* values,
                               Index padded) {
  for (Index j = 0; j < d; ++j) {
    const int code = row[j];
    if (levels.tables != nullptr) {
      values[j] = levels.tables[j * levels.stride + code];
    } else {
      const float t = levels.entries != nullptr ? levels.entries[code] : static_cast<float>(code);
      values[j] = levels.step != nullptr ? affine_value(levels.offset[j], levels.step[j], t)
                                         : affine_value(levels.row_offset, levels.row_step, t);
    }
  }
  for (Index j = d; j < padded; ++j) values[j] = 0.0f;
}

template <bool HasDiagonal>
ZIPML_ALWAYS_INLINE void descend_row_body(const RowStep& by, float* __restrict x, Index padded) {
  const Rounded<float> rounded;
  const float* __restrict row = by.row;
  const float* __restrict diagonal = by.diagonal;
  for (Index j = 0; j < padded; j += math_block)
    for (Index l = 0; l < math_block; ++l) {
      float move = rounded(row[j + l] * by.factor);
      if constexpr (HasDiagonal) {
        const float surplus = rounded(diagonal[j + l] * x[j + l]);
        const float back = rounded(surplus * by.step);
        move -= back;
      }
      x[j + l] -= move;
    }
}

/// Takes the step.
ZIPML_ALWAYS_INLINE void descend_row_body(const RowStep& by, float* x, Index padded) {
  if (by.diagonal == nullptr) return descend_row_body<false>(by, x, padded);
  descend_row_body<true>(by, x, padded);
}

#if ZIPML_X86

/// Whether there are codes that fit a byte each, columns have steps, and codes stand for themselves.
inline bool decodes_in_bytes(const RowCodes& row, const RowLevels& levels, Index d) {
  int largest = 0;
  for (int p = 0; p < row.count; ++p) largest += row.mask[p] << row.weight[p];
  return d > 0 && row.count > 0 && largest <= 255 && levels.tables == nullptr && levels.entries == nullptr &&
         levels.step != nullptr;
}

// Bits behind column d are not 0, but their steps and offsets are.

/// Bytes 8 half .. 8 half + 7 of 16 that stand in both lanes, as floats: by a shuffle within 128 bits,
/// which widening would cross.
ZIPML_INLINE_AVX2 inline __m256 eight_floats_avx2(__m256i sixteen, int half) {
  constexpr char z = -64;  // with 8 added still negative: 0
  const __m256i spread = _mm256_add_epi8(_mm256_setr_epi8(0, z, z, z, 1, z, z, z, 2, z, z, z, 3, z, z, z, 4,
                                                          z, z, z, 5, z, z, z, 6, z, z, z, 7, z, z, z),
                                         _mm256_set1_epi8(static_cast<char>(8 * half)));
  return _mm256_cvtepi32_ps(_mm256_shuffle_epi8(sixteen, spread));
}

template <int Planes>
ZIPML_TARGET_AVX2 void decode_bytes_avx2(const RowCodes& row, const RowLevels& levels, float* values,
                                         Index padded) {
  const std::uint8_t* bytes[Planes];
  __m128i shift[Planes], weight[Planes];
  __m256i mask[Planes];
  for (int p = 0; p < Planes; ++p) {
    bytes[p] = row.bytes[p];
    shift[p] = _mm_cvtsi32_si128(row.shift[p]);
    weight[p] = _mm_cvtsi32_si128(row.weight[p]);
    mask[p] = _mm256_set1_epi8(static_cast<char>(row.mask[p]));
  }
  const float* offset = levels.offset;
  const float* step = levels.step;
  const auto store = [&](Index at, __m256 t) ZIPML_TARGET_AVX2 {
    _mm256_store_ps(values + at, _mm256_fmadd_ps(_mm256_load_ps(step + at), t, _mm256_load_ps(offset + at)));
  };
  for (Index j = 0; j < padded; j += 32) {
    __m256i codes = _mm256_setzero_si256();
    for (int p = 0; p < Planes; ++p) {
      const __m256i plane = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bytes[p] + j));
      const __m256i bits = _mm256_and_si256(_mm256_srl_epi16(plane, shift[p]), mask[p]);
      codes = _mm256_add_epi8(codes, _mm256_sll_epi16(bits, weight[p]));
    }
    const __m256i low = _mm256_permute2x128_si256(codes, codes, 0x00);
    const __m256i high = _mm256_permute2x128_si256(codes, codes, 0x11);
    store(j, eight_floats_avx2(low, 0));
    store(j + 8, eight_floats_avx2(low, 1));
    store(j + 16, eight_floats_avx2(high, 0));
    store(j + 24, eight_floats_avx2(high, 1));
  }
}

template <int Planes>
ZIPML_TARGET_AVX512 void decode_bytes_avx512(const RowCodes& row, const RowLevels& levels, float* values,
                                             Index padded) {
  const std::uint8_t* bytes[Planes];
  __m128i shift[Planes], weight[Planes];
  __m512i mask[Planes];
  for (int p = 0; p < Planes; ++p) {
    bytes[p] = row.bytes[p];
    shift[p] = _mm_cvtsi32_si128(row.shift[p]);
    weight[p] = _mm_cvtsi32_si128(row.weight[p]);
    mask[p] = _mm512_set1_epi8(static_cast<char>(row.mask[p]));
  }
  const float* offset = levels.offset;
  const float* step = levels.step;
  const auto store = [&](Index at, __m128i sixteen) ZIPML_TARGET_AVX512 {
    const __m512 t = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(sixteen));
    _mm512_store_ps(values + at, _mm512_fmadd_ps(_mm512_load_ps(step + at), t, _mm512_load_ps(offset + at)));
  };
  for (Index j = 0; j < padded; j += 64) {
    __m512i codes = _mm512_setzero_si512();
    for (int p = 0; p < Planes; ++p) {
      const __m512i plane = _mm512_loadu_si512(bytes[p] + j);
      const __m512i bits = _mm512_and_si512(_mm512_srl_epi16(plane, shift[p]), mask[p]);
      codes = _mm512_add_epi8(codes, _mm512_sll_epi16(bits, weight[p]));
    }
    store(j, _mm512_castsi512_si128(codes));
    store(j + 16, _mm512_extracti32x4_epi32(codes, 1));
    store(j + 32, _mm512_extracti32x4_epi32(codes, 2));
    store(j + 48, _mm512_extracti32x4_epi32(codes, 3));
  }
}

/// f with the number of planes, 1 to 4, as a constant.
template <class F>
void visit_plane_count(int planes, const F& f) {
  if (planes == 1) return f(std::integral_constant<int, 1>{});
  if (planes == 2) return f(std::integral_constant<int, 2>{});
  if (planes == 3) return f(std::integral_constant<int, 3>{});
  return f(std::integral_constant<int, 4>{});
}

inline void decode_row_avx2(const RowCodes& row, const RowLevels& levels, Index d, float* values,
                            Index padded) {
  if (!decodes_in_bytes(row, levels, d)) return decode_row_plainly(row, levels, d, values, padded);
  visit_plane_count(row.count,
                    [&](auto planes) { decode_bytes_avx2<planes()>(row, levels, values, padded); });
}
inline void decode_row_avx512(const RowCodes& row, const RowLevels& levels, Index d, float* values,
                              Index padded) {
  if (!decodes_in_bytes(row, levels, d)) return decode_row_plainly(row, levels, d, values, padded);
  visit_plane_count(row.count,
                    [&](auto planes) { decode_bytes_avx512<planes()>(row, levels, values, padded); });
}

#endif  // ZIPML_X86

}  // namespace detail

/// descend_row of a kernel policy, with its target attribute.
#define ZIPML_ROW_MATH(target)                                                \
  target static void descend_row(const RowStep& by, float* x, Index padded) { \
    detail::descend_row_body(by, x, padded);                                  \
  }

}  // namespace zipml::inline ZIPML_ABI
