#pragma once
/// \file
/// Room kernels: the float model in AVX2: codes of one plane and of several, levels by a table for each
/// column, and rows of float32.

#include <zipml/base/index.hpp>
#include <zipml/kernels/avx2_tables.hpp>

#if ZIPML_X86

#include <bit>

namespace zipml::inline ZIPML_ABI {

/// Margins and accumulation of floats, over the layers before.
struct Avx2Floats : Avx2Tables {
 protected:
  // ---- float model

  /// The bits times x, added to the sums of the rows: without eight codes in registers at once.
  template <int W>
  ZIPML_TARGET_AVX2 static void multiply_bits(const std::uint8_t* panels, Index d, __m256 x,
                                              __m256 (&acc)[8]) {
    constexpr int per_byte = 8 / W;
    const __m256i mask = _mm256_set1_epi32((1 << W) - 1);
    for (int k = 0; k < W; ++k) {
      const __m256i bytes = load8(panels + k * d);
      for (int r = 0; r < per_byte; ++r) {
        const __m256i bits = _mm256_and_si256(_mm256_srli_epi32(bytes, r * W), mask);
        acc[k * per_byte + r] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(bits), x, acc[k * per_byte + r]);
      }
    }
  }

  /// The same for all planes of a code.
  ZIPML_TARGET_AVX2 static void multiply_planes(const PlaneList& planes, const detail::GroupPanels& panels,
                                                Index d, Index j, __m256 x, __m256 (&acc)[8]) {
    for (int p = 0; p < planes.count; ++p) {
      const std::uint8_t* bytes = panels.plane[p] + j;
      const __m256 weighted = _mm256_mul_ps(x, _mm256_set1_ps(static_cast<float>(1 << planes[p].shift)));
      switch (planes[p].width) {
        case 1:
          multiply_bits<1>(bytes, d, weighted, acc);
          break;
        case 2:
          multiply_bits<2>(bytes, d, weighted, acc);
          break;
        case 4:
          multiply_bits<4>(bytes, d, weighted, acc);
          break;
        default:
          multiply_bits<8>(bytes, d, weighted, acc);
          break;
      }
    }
  }

  /// Bits of the 8 rows times their factors, added up.
  template <int W>
  ZIPML_TARGET_AVX2 static void add_rows(const std::uint8_t* panels, Index d, const __m256 (&factors)[8],
                                         __m256 (&sums)[2]) {
    constexpr int per_byte = 8 / W;
    const __m256i mask = _mm256_set1_epi32((1 << W) - 1);
    for (int k = 0; k < W; ++k) {
      const __m256i bytes = load8(panels + k * d);
      for (int r = 0; r < per_byte; ++r) {
        const __m256i bits = _mm256_and_si256(_mm256_srli_epi32(bytes, r * W), mask);
        const int row = k * per_byte + r;
        sums[row % 2] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(bits), factors[row], sums[row % 2]);
      }
    }
  }

  /// The same for all planes of a code.
  ZIPML_TARGET_AVX2 static void add_planes(const PlaneList& planes, const detail::GroupPanels& panels,
                                           Index d, Index j, const __m256 (*factors)[8], __m256 (&sums)[2]) {
    for (int p = 0; p < planes.count; ++p) {
      const std::uint8_t* bytes = panels.plane[p] + j;
      switch (planes[p].width) {
        case 1:
          add_rows<1>(bytes, d, factors[p], sums);
          break;
        case 2:
          add_rows<2>(bytes, d, factors[p], sums);
          break;
        case 4:
          add_rows<4>(bytes, d, factors[p], sums);
          break;
        default:
          add_rows<8>(bytes, d, factors[p], sums);
          break;
      }
    }
  }

  /// Width: that of a code that is one plane, or 0 for what fits no byte, 9 bits, or 8 and a draw's: plane by
  /// plane, which is faster than eight codes in registers at once.
  template <int Width>
  ZIPML_TARGET_AVX2 static void float_margins(const PackedView& view, const PlaneList& planes,
                                              GroupRange groups, const float* x, float* out) {
    const Index d = view.layout.cols;
    const Index width = view.width;
    for (Index g = 0; g < groups.count; ++g, out += group_rows) {
      const detail::GroupPanels panels(view, planes, groups.first + g);
      __m256 acc[8];
      for (__m256& a : acc) a = _mm256_setzero_ps();
      for (Index j = 0; j < width; j += 8) {
        const __m256 x_f32x8 = _mm256_load_ps(x + j);
        if constexpr (Width > 0)
          multiply_bits<Width>(panels.plane[0] + j, d, x_f32x8, acc);
        else
          multiply_planes(planes, panels, d, j, x_f32x8, acc);
      }
      _mm256_storeu_ps(out, row_sums(acc));
    }
  }

  template <int Width>
  ZIPML_TARGET_AVX2 static void float_rows(const PackedView& view, const PlaneList& planes, GroupRange groups,
                                           const float* residuals, float* gradient) {
    const Index d = view.layout.cols;
    const Index width = view.width;
    for (Index g = 0; g < groups.count; ++g, residuals += group_rows) {
      const detail::GroupPanels panels(view, planes, groups.first + g);
      __m256 factors[Width > 0 ? 1 : max_planes][8];  // residuals times the weight of a plane
      for (int p = 0; p < (Width > 0 ? 1 : planes.count); ++p)
        for (int r = 0; r < 8; ++r)
          factors[p][r] = _mm256_set1_ps(residuals[r] * static_cast<float>(1 << planes[p].shift));
      for (Index j = 0; j < width; j += 8) {
        __m256 sums[2] = {_mm256_load_ps(gradient + j), _mm256_setzero_ps()};
        if constexpr (Width > 0)
          add_rows<Width>(panels.plane[0] + j, d, factors[0], sums);
        else
          add_planes(planes, panels, d, j, factors, sums);
        _mm256_store_ps(gradient + j, _mm256_add_ps(sums[0], sums[1]));
      }
    }
  }

  // ---- float model, codes of several planes

  /// The codes of 32 columns of a row as bytes, the bit of a draw's own plane added: put together before they
  /// become floats.
  template <int Bits, bool Draw>
  struct RowBytes {
    alignas(32) std::uint8_t bytes[32];

    ZIPML_INLINE_AVX2 RowBytes(const detail::GroupPanels& panels, Index j, Index d, int row) {
      __m256i codes = row_codes<Bits>(panels.plane, j, d, row);
      if constexpr (Draw)
        codes = _mm256_add_epi8(
            codes, row_bits<1, 0>(panels.plane[std::popcount(static_cast<unsigned>(Bits))] + j, d, row));
      _mm256_store_si256(reinterpret_cast<__m256i*>(bytes), codes);
    }
    /// Columns 8 k .. 8 k + 7.
    ZIPML_INLINE_AVX2 __m256 eight(int k) const {
      return detail::eight_floats_avx2(both_lanes(bytes + k / 2 * 16), k % 2);
    }
  };

  template <int Bits, bool Draw>
  ZIPML_TARGET_AVX2 static void byte_margins(const PackedView& view, const PlaneList& planes,
                                             GroupRange groups, const float* x, float* out) {
    const Index d = view.layout.cols;
    for (Index g = 0; g < groups.count; ++g, out += group_rows) {
      const detail::GroupPanels panels(view, planes, groups.first + g);
      __m256 acc[8];
      for (__m256& a : acc) a = _mm256_setzero_ps();
      for (Index j = 0; j < view.width; j += 32) {
        __m256 x_f32x8[4];
        for (int k = 0; k < 4; ++k) x_f32x8[k] = _mm256_load_ps(x + j + 8 * k);
        for (int row = 0; row < 8; ++row) {
          const RowBytes<Bits, Draw> codes(panels, j, d, row);
          for (int k = 0; k < 4; ++k) acc[row] = _mm256_fmadd_ps(codes.eight(k), x_f32x8[k], acc[row]);
        }
      }
      _mm256_storeu_ps(out, row_sums(acc));
    }
  }

  template <int Bits, bool Draw>
  ZIPML_TARGET_AVX2 static void add_byte_rows(const PackedView& view, const PlaneList& planes,
                                              GroupRange groups, const float* residuals, float* gradient) {
    const Index d = view.layout.cols;
    for (Index g = 0; g < groups.count; ++g, residuals += group_rows) {
      const detail::GroupPanels panels(view, planes, groups.first + g);
      for (Index j = 0; j < view.width; j += 32) {
        __m256 sums[4];
        for (int k = 0; k < 4; ++k) sums[k] = _mm256_load_ps(gradient + j + 8 * k);
        for (int row = 0; row < 8; ++row) {
          const RowBytes<Bits, Draw> codes(panels, j, d, row);
          const __m256 factor = _mm256_broadcast_ss(residuals + row);
          for (int k = 0; k < 4; ++k) sums[k] = _mm256_fmadd_ps(codes.eight(k), factor, sums[k]);
        }
        for (int k = 0; k < 4; ++k) _mm256_store_ps(gradient + j + 8 * k, sums[k]);
      }
    }
  }

  // ---- float model, levels by a table for each column

  /// The tables of eight columns. Columns behind d take the first entry, and meet a padded 0 or a padded
  /// gradient.
  struct ColumnLevels {
    const float* tables;
    __m256i first;   // entry of each column
    __m256i inside;  // all ones before d

    ZIPML_TARGET_AVX2 ColumnLevels(TableView table, Index d, Index j)
        : tables(table.tables + j * table.stride) {
      const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
      first = _mm256_mullo_epi32(lane, _mm256_set1_epi32(static_cast<int>(table.stride)));
      inside = _mm256_cmpgt_epi32(_mm256_set1_epi32(d - j < 8 ? static_cast<int>(d - j) : 8), lane);
    }
    /// Eight loads, here and in WideTable: a gather gains a tenth at most on Zen 5, and QEMU 7.2 gets some
    /// wrong.
    ZIPML_TARGET_AVX2 __m256 look_up(__m256i codes) const {
      alignas(32) std::int32_t k[8];
      _mm256_store_si256(reinterpret_cast<__m256i*>(k),
                         _mm256_and_si256(_mm256_add_epi32(codes, first), inside));
      return _mm256_setr_ps(tables[k[0]], tables[k[1]], tables[k[2]], tables[k[3]], tables[k[4]],
                            tables[k[5]], tables[k[6]], tables[k[7]]);
    }
  };

  ZIPML_TARGET_AVX2 static void level_margins(const PackedView& view, const PlaneList& planes,
                                              TableView table, GroupRange groups, const float* x,
                                              float* out) {
    const Index d = view.layout.cols;
    const Index width = view.width;
    for (Index g = 0; g < groups.count; ++g, out += group_rows) {
      const detail::GroupPanels panels(view, planes, groups.first + g);
      __m256 acc[8];
      for (__m256& a : acc) a = _mm256_setzero_ps();
      for (Index j = 0; j < width; j += 8) {
        const ColumnLevels levels(table, width, j);
        const __m256 x_f32x8 = _mm256_load_ps(x + j);
        __m256i codes[8];
        read_codes(planes, panels, d, j, codes);
        for (int r = 0; r < 8; ++r) acc[r] = _mm256_fmadd_ps(levels.look_up(codes[r]), x_f32x8, acc[r]);
      }
      _mm256_storeu_ps(out, row_sums(acc));
    }
  }

  ZIPML_TARGET_AVX2 static void level_rows(const PackedView& view, const PlaneList& planes, TableView table,
                                           GroupRange groups, const float* residuals, float* gradient) {
    const Index d = view.layout.cols;
    const Index width = view.width;
    for (Index g = 0; g < groups.count; ++g, residuals += group_rows) {
      const detail::GroupPanels panels(view, planes, groups.first + g);
      for (Index j = 0; j < width; j += 8) {
        const ColumnLevels levels(table, width, j);
        __m256i codes[8];
        read_codes(planes, panels, d, j, codes);
        __m256 sums[2] = {_mm256_load_ps(gradient + j), _mm256_setzero_ps()};
        for (int r = 0; r < 8; ++r)
          sums[r % 2] =
              _mm256_fmadd_ps(levels.look_up(codes[r]), _mm256_broadcast_ss(residuals + r), sums[r % 2]);
        _mm256_store_ps(gradient + j, _mm256_add_ps(sums[0], sums[1]));
      }
    }
  }

  // ---- float32 rows

  ZIPML_INLINE_AVX2 static float row_margin(const float* row, Index d, const float* x) {
    __m256 acc[8];
    for (__m256& a : acc) a = _mm256_setzero_ps();
    Index j = 0;
    for (; j + 64 <= d; j += 64)
      for (int k = 0; k < 8; ++k)
        acc[k] = _mm256_fmadd_ps(_mm256_loadu_ps(row + j + 8 * k), _mm256_load_ps(x + j + 8 * k), acc[k]);
    for (; j < d; j += 8) acc[0] = _mm256_fmadd_ps(_mm256_loadu_ps(row + j), _mm256_load_ps(x + j), acc[0]);
    alignas(32) float sums[8];
    _mm256_store_ps(sums, row_sums(acc));
    return ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
  }
  ZIPML_TARGET_AVX2 static void dense_margins(const DenseRows& rows, const float* x, float* out) {
    if (rows.count == 1) {
      *out = row_margin(rows.values, rows.cols, x);
      return;
    }
    LookAhead ahead(rows.ahead, rows.values);
    for (Index i = 0; i < rows.count; i += 8) {
      // Behind the last row, the last one again: the same work, not stored.
      const float* row[8];
      for (Index k = 0; k < 8; ++k)
        row[k] = rows.values + (i + k < rows.count ? i + k : rows.count - 1) * rows.stride;
      __m256 acc[8];
      for (__m256& a : acc) a = _mm256_setzero_ps();
      for (Index j = 0; j < rows.cols; j += 8) {
        const __m256 x_f32x8 = _mm256_load_ps(x + j);
        for (int k = 0; k < 8; ++k) acc[k] = _mm256_fmadd_ps(_mm256_loadu_ps(row[k] + j), x_f32x8, acc[k]);
        for (int k = 0; k < 2; ++k) ahead.touch();
      }
      alignas(32) float sums[8];
      _mm256_store_ps(sums, row_sums(acc));
      for (Index k = 0; k < 8 && i + k < rows.count; ++k) out[i + k] = sums[k];
    }
  }

  /// The step and the next margin in one reading of x: one row waits for the other, and what is between them
  /// is all that counts. The products are rounded, as in descend_row: an asm in between keeps them from
  /// becoming an FMA.
  template <bool HasDiagonal>
  ZIPML_TARGET_AVX2 static float descend_to(const RowStep& by, float* x, const float* next, Index padded) {
    const __m256 factor = _mm256_set1_ps(by.factor);
    const __m256 step = _mm256_set1_ps(by.step);
    __m256 acc[4];
    for (__m256& a : acc) a = _mm256_setzero_ps();
    for (Index j = 0; j < padded; j += 32)
      for (int k = 0; k < 4; ++k) {
        const Index at = j + 8 * k;
        const __m256 before = _mm256_load_ps(x + at);
        __m256 move = _mm256_mul_ps(_mm256_loadu_ps(by.row + at), factor);
        asm("" : "+x"(move));
        if constexpr (HasDiagonal) {
          __m256 back = _mm256_mul_ps(_mm256_mul_ps(_mm256_loadu_ps(by.diagonal + at), before), step);
          asm("" : "+x"(back));
          move = _mm256_sub_ps(move, back);
        }
        const __m256 after = _mm256_sub_ps(before, move);
        _mm256_store_ps(x + at, after);
        acc[k] = _mm256_fmadd_ps(_mm256_loadu_ps(next + at), after, acc[k]);
      }
    const __m256 eight = _mm256_add_ps(_mm256_add_ps(acc[0], acc[1]), _mm256_add_ps(acc[2], acc[3]));
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
  }

  ZIPML_TARGET_AVX2 static void dense_rows(const DenseRows& rows, const float* residuals, float* gradient) {
    LookAhead ahead(rows.ahead, rows.values);
    for (Index i = 0; i < rows.count; i += 8) {
      const float* row[8];
      __m256 r[8];
      for (Index k = 0; k < 8; ++k) {
        const bool inside = i + k < rows.count;
        row[k] = rows.values + (inside ? i + k : rows.count - 1) * rows.stride;
        r[k] = _mm256_set1_ps(inside ? residuals[i + k] : 0.0f);
      }
      for (Index j = 0; j < rows.cols; j += 8) {
        __m256 a = _mm256_load_ps(gradient + j);
        __m256 b = _mm256_mul_ps(_mm256_loadu_ps(row[1] + j), r[1]);
        for (int k = 0; k < 8; k += 2) a = _mm256_fmadd_ps(_mm256_loadu_ps(row[k] + j), r[k], a);
        for (int k = 3; k < 8; k += 2) b = _mm256_fmadd_ps(_mm256_loadu_ps(row[k] + j), r[k], b);
        _mm256_store_ps(gradient + j, _mm256_add_ps(a, b));
        for (int k = 0; k < 2; ++k) ahead.touch();
      }
    }
  }
};

}  // namespace zipml::inline ZIPML_ABI

#endif  // ZIPML_X86
