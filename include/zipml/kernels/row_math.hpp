#pragma once
/// \file
/// Layer 3: the work on single rows, for batches too small to fill a group of 8: the codes of a row become
/// float32 once, and the row is then what a float32 row is. Values and models are the same bits on every
/// instruction set, margins equal within the rounding of their sums.

#include <cmath>
#include <cstdint>
#include <numeric>
#include <type_traits>

#include <zipml/intrinsics.hpp>
#include <zipml/kernels/batch_math.hpp>
#include <zipml/storage/plane_layout.hpp>

namespace zipml::inline ZIPML_ABI {

/// Where the codes of one row stand: code_j = sum over planes of (bytes[j] >> shift & mask) << weight.
/// Up to 63 bytes behind column d of each panel are read.
struct RowCodes {
  RowCodes(const std::uint8_t* codes, const PlaneLayout& layout, const PlaneList& planes, Index row)
      : count(planes.count) {
    const auto in_group = static_cast<int>(row % group_rows);
    for (int p = 0; p < count; ++p) {
      const int bit = in_group * planes[p].width;  // of the 8 / width rows in a byte
      bytes[p] = codes + layout.offset(planes[p], row / group_rows) + bit / 8 * layout.cols;
      shift[p] = bit % 8;
      mask[p] = (1 << planes[p].width) - 1;
      weight[p] = planes[p].shift;
    }
  }
  int operator[](Index j) const {
    int code = 0;
    for (int p = 0; p < count; ++p) code += (bytes[p][j] >> shift[p] & mask[p]) << weight[p];
    return code;
  }

  int count;
  const std::uint8_t* bytes[max_planes];
  int shift[max_planes];
  int mask[max_planes];
  int weight[max_planes];
};

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

namespace detail {

/// offset + step * t with an exact product, in double: what an FMA gives, but where the sum in double stands
/// on a tie of float32 and the bits that it has lost would have decided (the smaller of offset and product
/// below 2^-24 of the larger; 1 in 10^8 at most). Of the float path alone, which promises no bits between
/// instruction sets.
ZIPML_ALWAYS_INLINE float affine_value(float offset, float step, float t) {
  return static_cast<float>(static_cast<double>(offset) + static_cast<double>(step) * static_cast<double>(t));
}

/// Writes the values of d codes to `values`, padded with 0 to `padded` entries, and returns <values, x>.
/// O(d).
inline float decode_row_plainly(const RowCodes& row, const RowLevels& levels, const float* x, Index d,
                                float* values, Index padded) {
  float margin[16] = {};
  for (Index j = 0; j < d; ++j) {
    const int code = row[j];
    if (levels.tables != nullptr) {
      values[j] = levels.tables[j * levels.stride + code];
    } else {
      const float t = levels.entries != nullptr ? levels.entries[code] : static_cast<float>(code);
      values[j] = levels.step != nullptr ? affine_value(levels.offset[j], levels.step[j], t)
                                         : affine_value(levels.row_offset, levels.row_step, t);
    }
    margin[j % 16] += values[j] * x[j];
  }
  for (Index j = d; j < padded; ++j) values[j] = 0.0f;
  return std::accumulate(margin, margin + 16, 0.0f);
}

/// x -= factor * row - step * diagonal * model.
template <Diagonal D>
ZIPML_ALWAYS_INLINE void descend_row_body(const float* __restrict row, float factor,
                                          const float* __restrict diagonal, const float* __restrict model,
                                          float step, float* __restrict x, Index padded) {
  const Rounded<float> rounded;
  for (Index j = 0; j < padded; j += math_block)
    for (Index l = 0; l < math_block; ++l) {
      float move = rounded(row[j + l] * factor);
      if constexpr (D != Diagonal::none) {
        const float surplus = rounded(diagonal[j + l] * (D == Diagonal::of_itself ? x : model)[j + l]);
        const float back = rounded(surplus * step);
        move -= back;
      }
      x[j + l] -= move;
    }
}

ZIPML_ALWAYS_INLINE void descend_row_body(const float* row, float factor, const float* diagonal,
                                          const float* model, float step, float* x, Index padded) {
  if (diagonal == nullptr)
    return descend_row_body<Diagonal::none>(row, factor, nullptr, nullptr, step, x, padded);
  if (model == x)
    return descend_row_body<Diagonal::of_itself>(row, factor, diagonal, nullptr, step, x, padded);
  descend_row_body<Diagonal::of_another>(row, factor, diagonal, model, step, x, padded);
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

template <int Planes>
ZIPML_TARGET_AVX2 float decode_bytes_avx2(const RowCodes& row, const RowLevels& levels, const float* x,
                                          float* values, Index padded) {
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
  __m256 margin[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps()};
  const auto store = [&](Index at, __m128i eight, __m256& sum) ZIPML_TARGET_AVX2 {
    const __m256 t = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(eight));
    const __m256 v = _mm256_fmadd_ps(_mm256_load_ps(step + at), t, _mm256_load_ps(offset + at));
    _mm256_store_ps(values + at, v);
    sum = _mm256_fmadd_ps(v, _mm256_load_ps(x + at), sum);
  };
  for (Index j = 0; j < padded; j += 32) {
    __m256i codes = _mm256_setzero_si256();
    for (int p = 0; p < Planes; ++p) {
      const __m256i plane = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bytes[p] + j));
      const __m256i bits = _mm256_and_si256(_mm256_srl_epi16(plane, shift[p]), mask[p]);
      codes = _mm256_add_epi8(codes, _mm256_sll_epi16(bits, weight[p]));
    }
    const __m128i low = _mm256_castsi256_si128(codes);
    const __m128i high = _mm256_extracti128_si256(codes, 1);
    store(j, low, margin[0]);
    store(j + 8, _mm_srli_si128(low, 8), margin[1]);
    store(j + 16, high, margin[2]);
    store(j + 24, _mm_srli_si128(high, 8), margin[3]);
  }
  const __m256 eight =
      _mm256_add_ps(_mm256_add_ps(margin[0], margin[1]), _mm256_add_ps(margin[2], margin[3]));
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}

template <int Planes>
ZIPML_TARGET_AVX512 float decode_bytes_avx512(const RowCodes& row, const RowLevels& levels, const float* x,
                                              float* values, Index padded) {
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
  __m512 margin[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
  const auto store = [&](Index at, __m128i sixteen, __m512& sum) ZIPML_TARGET_AVX512 {
    const __m512 t = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(sixteen));
    const __m512 v = _mm512_fmadd_ps(_mm512_load_ps(step + at), t, _mm512_load_ps(offset + at));
    _mm512_store_ps(values + at, v);
    sum = _mm512_fmadd_ps(v, _mm512_load_ps(x + at), sum);
  };
  for (Index j = 0; j < padded; j += 64) {
    __m512i codes = _mm512_setzero_si512();
    for (int p = 0; p < Planes; ++p) {
      const __m512i plane = _mm512_loadu_si512(bytes[p] + j);
      const __m512i bits = _mm512_and_si512(_mm512_srl_epi16(plane, shift[p]), mask[p]);
      codes = _mm512_add_epi8(codes, _mm512_sll_epi16(bits, weight[p]));
    }
    store(j, _mm512_castsi512_si128(codes), margin[0]);
    store(j + 16, _mm512_extracti32x4_epi32(codes, 1), margin[1]);
    store(j + 32, _mm512_extracti32x4_epi32(codes, 2), margin[2]);
    store(j + 48, _mm512_extracti32x4_epi32(codes, 3), margin[3]);
  }
  return _mm512_reduce_add_ps(
      _mm512_add_ps(_mm512_add_ps(margin[0], margin[1]), _mm512_add_ps(margin[2], margin[3])));
}

/// f with the number of planes, 1 to 4, as a constant.
template <class F>
float visit_plane_count(int planes, const F& f) {
  if (planes == 1) return f(std::integral_constant<int, 1>{});
  if (planes == 2) return f(std::integral_constant<int, 2>{});
  if (planes == 3) return f(std::integral_constant<int, 3>{});
  return f(std::integral_constant<int, 4>{});
}

inline float decode_row_avx2(const RowCodes& row, const RowLevels& levels, const float* x, Index d,
                             float* values, Index padded) {
  if (!decodes_in_bytes(row, levels, d)) return decode_row_plainly(row, levels, x, d, values, padded);
  return visit_plane_count(
      row.count, [&](auto planes) { return decode_bytes_avx2<planes()>(row, levels, x, values, padded); });
}
inline float decode_row_avx512(const RowCodes& row, const RowLevels& levels, const float* x, Index d,
                               float* values, Index padded) {
  if (!decodes_in_bytes(row, levels, d)) return decode_row_plainly(row, levels, x, d, values, padded);
  return visit_plane_count(
      row.count, [&](auto planes) { return decode_bytes_avx512<planes()>(row, levels, x, values, padded); });
}

#endif  // ZIPML_X86

}  // namespace detail

/// descend_row of a kernel policy, with its target attribute.
#define ZIPML_ROW_MATH(target)                                                                              \
  target static void descend_row(const float* row, float factor, const float* diagonal, const float* model, \
                                 float step, float* x, Index padded) {                                      \
    detail::descend_row_body(row, factor, diagonal, model, step, x, padded);                                \
  }

}  // namespace zipml::inline ZIPML_ABI
