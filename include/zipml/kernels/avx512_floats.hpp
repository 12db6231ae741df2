#pragma once
/// \file
/// Room kernels: the float model in AVX-512: codes of one plane and of several, and rows of float32.

#include <zipml/base/index.hpp>
#include <zipml/kernels/avx512_tables.hpp>

#if ZIPML_X86

namespace zipml::inline ZIPML_ABI {

/// Margins and accumulation of floats, over the layers before.
struct Avx512Floats : Avx512Tables {
 protected:
  // ---- float model

  /// The values of the low W bits of each dword.
  template <int W>
  ZIPML_INLINE_AVX512 static __m512 to_floats(__m512i bits) {
    if constexpr (W == 8) return _mm512_cvtepi32_ps(bits);
    // vpermps reads the low four bits of an index: those above the code are another row's.
    __m512 values = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    if constexpr (W == 1) values = _mm512_setr_ps(0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1);
    if constexpr (W == 2) values = _mm512_setr_ps(0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3);
    return _mm512_permutexvar_ps(bits, values);
  }

  ZIPML_INLINE_AVX512 static __m512i load16(const std::uint8_t* bytes) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes)));
  }

  template <int W>
  ZIPML_INLINE_AVX512 static void multiply_bits(const std::uint8_t* panels, Index d, __m512 x,
                                                __m512 (&acc)[8]) {
    constexpr int per_byte = 8 / W;
    for (int k = 0; k < W; ++k) {
      const __m512i bytes = load16(panels + k * d);
      for (int r = 0; r < per_byte; ++r)
        acc[k * per_byte + r] = _mm512_fmadd_ps(
            to_floats<W>(_mm512_srli_epi32(bytes, static_cast<unsigned>(r * W))), x, acc[k * per_byte + r]);
    }
  }

  template <int W>
  ZIPML_INLINE_AVX512 static void add_bits_times(const std::uint8_t* panels, Index d,
                                                 const __m512 (&factors)[8], __m512 (&sums)[2]) {
    constexpr int per_byte = 8 / W;
    for (int k = 0; k < W; ++k) {
      const __m512i bytes = load16(panels + k * d);
      for (int r = 0; r < per_byte; ++r) {
        const int row = k * per_byte + r;
        sums[row % 2] = _mm512_fmadd_ps(to_floats<W>(_mm512_srli_epi32(bytes, static_cast<unsigned>(r * W))),
                                        factors[row], sums[row % 2]);
      }
    }
  }

  ZIPML_INLINE_AVX512 static __m512 four_sums(__m512 a, __m512 b, __m512 c, __m512 d) {
    const __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    const __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    const __m512d low = _mm512_unpacklo_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd));
    const __m512d high = _mm512_unpackhi_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd));
    return _mm512_add_ps(_mm512_castpd_ps(low), _mm512_castpd_ps(high));
  }
  ZIPML_INLINE_AVX512 static __m512 lane_sums(__m512 a, __m512 b) {
    return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
  }
  /// Sums of 8 vectors, in their order.
  ZIPML_INLINE_AVX512 static __m256 sums_of(const __m512 (&v)[8]) {
    const __m512 pairs = lane_sums(four_sums(v[0], v[1], v[2], v[3]), four_sums(v[4], v[5], v[6], v[7]));
    return _mm512_castps512_ps256(lane_sums(pairs, pairs));
  }

  /// Width: that of a code that is one plane, or 0 for what fits no byte, 9 bits, or 8 and a draw's: plane by
  /// plane, which is faster than eight codes in registers at once.
  template <int Width>
  ZIPML_TARGET_AVX512 static void float_margins(const PackedView& view, const PlaneList& planes,
                                                GroupRange groups, const float* x, float* out) {
    const Index d = view.layout.cols;
    const Index width = view.width;
    LookAhead ahead(view.ahead, view.codes);
    for (Index g = 0; g < groups.count; ++g, out += group_rows) {
      const detail::GroupPanels panels(view, planes, groups.first + g);
      __m512 acc[8];
      clear<8>(acc);
      for (Index j = 0; j < width; j += 16) {
        const __m512 x_f32x16 = _mm512_load_ps(x + j);
        if constexpr (Width > 0) {
          multiply_bits<Width>(panels.plane[0] + j, d, x_f32x16, acc);
        } else {
          for (int p = 0; p < planes.count; ++p) {
            const __m512 weighted =
                _mm512_mul_ps(x_f32x16, _mm512_set1_ps(static_cast<float>(1 << planes[p].shift)));
            switch (planes[p].width) {
              case 1:
                multiply_bits<1>(panels.plane[p] + j, d, weighted, acc);
                break;
              case 2:
                multiply_bits<2>(panels.plane[p] + j, d, weighted, acc);
                break;
              case 4:
                multiply_bits<4>(panels.plane[p] + j, d, weighted, acc);
                break;
              default:
                multiply_bits<8>(panels.plane[p] + j, d, weighted, acc);
                break;
            }
          }
        }
        if (j % 64 == 0)
          for (int k = 0; k < (view.layout.stored_bits + 1) / 2; ++k) ahead.touch();
      }
      _mm256_storeu_ps(out, sums_of(acc));
    }
  }

  template <int Width>
  ZIPML_TARGET_AVX512 static void float_rows(const PackedView& view, const PlaneList& planes,
                                             GroupRange groups, const float* residuals, float* gradient) {
    const Index d = view.layout.cols;
    const Index width = view.width;
    LookAhead ahead(view.ahead, view.codes);
    for (Index g = 0; g < groups.count; ++g, residuals += group_rows) {
      const detail::GroupPanels panels(view, planes, groups.first + g);
      __m512 factors[Width > 0 ? 1 : max_planes][8];  // residuals times the weight of a plane
      for (int p = 0; p < (Width > 0 ? 1 : planes.count); ++p)
        for (int r = 0; r < 8; ++r)
          factors[p][r] = _mm512_set1_ps(residuals[r] * static_cast<float>(1 << planes[p].shift));
      for (Index j = 0; j < width; j += 16) {
        __m512 sums[2] = {_mm512_load_ps(gradient + j), _mm512_setzero_ps()};
        if constexpr (Width > 0) {
          add_bits_times<Width>(panels.plane[0] + j, d, factors[0], sums);
        } else {
          for (int p = 0; p < planes.count; ++p) switch (planes[p].width) {
              case 1:
                add_bits_times<1>(panels.plane[p] + j, d, factors[p], sums);
                break;
              case 2:
                add_bits_times<2>(panels.plane[p] + j, d, factors[p], sums);
                break;
              case 4:
                add_bits_times<4>(panels.plane[p] + j, d, factors[p], sums);
                break;
              default:
                add_bits_times<8>(panels.plane[p] + j, d, factors[p], sums);
                break;
            }
        }
        _mm512_store_ps(gradient + j, _mm512_add_ps(sums[0], sums[1]));
        if (j % 64 == 0)
          for (int k = 0; k < (view.layout.stored_bits + 1) / 2; ++k) ahead.touch();
      }
    }
  }

  // ---- float model, codes of several planes

  /// Codes of 64 columns, of one row after the other, as floats.
  struct SixteenOf {
    __m512i places[4];
    ZIPML_INLINE_AVX512 SixteenOf() {
      const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
      for (int k = 0; k < 4; ++k) places[k] = _mm512_add_epi32(lanes, _mm512_set1_epi32(16 * k));
    }
    /// Columns 16 k .. 16 k + 15 of row r of a register of codes of W bits.
    template <int W>
    ZIPML_INLINE_AVX512 __m512 floats(__m512i bytes, int k, int r) const {
      const __m512i codes = _mm512_maskz_permutexvar_epi8(0x1111111111111111, places[k], bytes);
      return to_floats<W>(_mm512_srli_epi32(codes, static_cast<unsigned>(r * W)));
    }
  };

  template <class Codes>
  ZIPML_TARGET_AVX512 static void joined_float_margins(const PackedView& view, const PlaneList& planes,
                                                       GroupRange groups, const float* x, float* out) {
    constexpr int W = Codes::width;
    const Index d = view.layout.cols;
    const SixteenOf sixteen;
    LookAhead ahead(view.ahead, view.codes);
    for (Index g = 0; g < groups.count; ++g, out += group_rows) {
      const detail::GroupPanels panels(view, planes, groups.first + g);
      __m512 acc[8];
      clear<8>(acc);
      for (Index j = 0; j < view.width; j += 64) {
        __m512 x_f32x16[4];
        for (int k = 0; k < 4; ++k) x_f32x16[k] = _mm512_load_ps(x + j + 16 * k);
        for (int i = 0; i < W; ++i) {
          const __m512i bytes = Codes::load(panels, j, d, i);
          for (int r = 0; r < 8 / W; ++r)
            for (int k = 0; k < 4; ++k)
              acc[i * (8 / W) + r] =
                  _mm512_fmadd_ps(sixteen.template floats<W>(bytes, k, r), x_f32x16[k], acc[i * (8 / W) + r]);
        }
        for (int k = 0; k < (Codes::bits + 1) / 2; ++k) ahead.touch();
      }
      _mm256_storeu_ps(out, sums_of(acc));
    }
  }

  template <class Codes>
  ZIPML_TARGET_AVX512 static void joined_float_rows(const PackedView& view, const PlaneList& planes,
                                                    GroupRange groups, const float* residuals,
                                                    float* gradient) {
    constexpr int W = Codes::width;
    const Index d = view.layout.cols;
    const SixteenOf sixteen;
    LookAhead ahead(view.ahead, view.codes);
    for (Index g = 0; g < groups.count; ++g, residuals += group_rows) {
      const detail::GroupPanels panels(view, planes, groups.first + g);
      for (Index j = 0; j < view.width; j += 64) {
        __m512 sums[4];
        for (int k = 0; k < 4; ++k) sums[k] = _mm512_load_ps(gradient + j + 16 * k);
        for (int i = 0; i < W; ++i) {
          const __m512i bytes = Codes::load(panels, j, d, i);
          for (int r = 0; r < 8 / W; ++r)
            for (int k = 0; k < 4; ++k)
              sums[k] = _mm512_fmadd_ps(sixteen.template floats<W>(bytes, k, r),
                                        _mm512_set1_ps(residuals[i * (8 / W) + r]), sums[k]);
        }
        for (int k = 0; k < 4; ++k) _mm512_store_ps(gradient + j + 16 * k, sums[k]);
        for (int k = 0; k < (Codes::bits + 1) / 2; ++k) ahead.touch();
      }
    }
  }

  // ---- float32 rows

  ZIPML_INLINE_AVX512 static float row_margin(const float* row, Index d, const float* x) {
    __m512 acc[4];
    clear<4>(acc);
    Index j = 0;
    for (; j + 64 <= d; j += 64)
      for (int k = 0; k < 4; ++k)
        acc[k] = _mm512_fmadd_ps(_mm512_loadu_ps(row + j + 16 * k), _mm512_load_ps(x + j + 16 * k), acc[k]);
    for (; j < d; j += 16) acc[0] = _mm512_fmadd_ps(_mm512_loadu_ps(row + j), _mm512_load_ps(x + j), acc[0]);
    return _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(acc[0], acc[1]), _mm512_add_ps(acc[2], acc[3])));
  }
  ZIPML_TARGET_AVX512 static void dense_margins(const DenseRows& rows, const float* x, float* out) {
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
      __m512 acc[8];
      clear<8>(acc);
      for (Index j = 0; j < rows.cols; j += 16) {
        const __m512 x_f32x16 = _mm512_load_ps(x + j);
        for (int k = 0; k < 8; ++k) acc[k] = _mm512_fmadd_ps(_mm512_loadu_ps(row[k] + j), x_f32x16, acc[k]);
        for (int k = 0; k < 4; ++k) ahead.touch();
      }
      const Index left = rows.count - i;
      _mm256_mask_storeu_ps(out + i, static_cast<__mmask8>(left < 8 ? (1u << left) - 1u : 0xffu),
                            sums_of(acc));
    }
  }

  ZIPML_TARGET_AVX512 static void dense_rows(const DenseRows& rows, const float* residuals, float* gradient) {
    LookAhead ahead(rows.ahead, rows.values);
    for (Index i = 0; i < rows.count; i += 8) {
      const float* row[8];
      __m512 r[8];
      for (Index k = 0; k < 8; ++k) {
        const bool inside = i + k < rows.count;
        row[k] = rows.values + (inside ? i + k : rows.count - 1) * rows.stride;
        r[k] = _mm512_set1_ps(inside ? residuals[i + k] : 0.0f);
      }
      for (Index j = 0; j < rows.cols; j += 16) {
        __m512 a = _mm512_load_ps(gradient + j);
        __m512 b = _mm512_mul_ps(_mm512_loadu_ps(row[1] + j), r[1]);
        for (int k = 0; k < 8; k += 2) a = _mm512_fmadd_ps(_mm512_loadu_ps(row[k] + j), r[k], a);
        for (int k = 3; k < 8; k += 2) b = _mm512_fmadd_ps(_mm512_loadu_ps(row[k] + j), r[k], b);
        _mm512_store_ps(gradient + j, _mm512_add_ps(a, b));
        for (int k = 0; k < 4; ++k) ahead.touch();
      }
    }
  }
};

}  // namespace zipml::inline ZIPML_ABI

#endif  // ZIPML_X86
