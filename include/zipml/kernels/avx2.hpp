#pragma once
/// \file
/// Layer 3: kernels in AVX2 and FMA. Integers equal the scalar kernels bit for bit; float sums differ from
/// them by their order alone.
///
/// The instructions that carry the loops (256 bit; latency, and how many start per cycle):
///
///     intrinsic            instruction   Zen 3/4     Skylake     here
///     maddubs_epi16        vpmaddubsw    3,  2       5,  2       code x model, widening sums
///     madd_epi16           vpmaddwd      3,  2       5,  2       int16 to int32
///     shuffle_epi8         vpshufb       1,  2       1,  1       16-entry table of residual sums
///     unpacklo/hi_epi8     vpunpck*      1,  2       1,  1       two tables side by side
///     and, add_epi16       vpand, vpaddw 1,  4/4     1,  3/3
///     srli_epi16           vpsrlw        1,  2       1,  2
///     cvtepu8_epi32        vpmovzxbd     4,  1       3,  1       code to float
///     cvtepi32_ps          vcvtdq2ps     3,  2       4,  2
///     fmadd_ps             vfmadd*ps     4,  2       4,  2       eight independent sums hide the latency
///     setr_ps              vinsertps     1,  2       1,  1       tables of levels per column: eight loads
///
/// Preconditions used (kernel_policy.hpp): padded model, padded gradient, whole groups, code 0. Panels are
/// not aligned.

#include <zipml/cpu.hpp>
#include <zipml/kernels/batch_math_x86.hpp>
#include <zipml/kernels/planes.hpp>
#include <zipml/kernels/scalar.hpp>
#include <zipml/philox_lanes.hpp>

#if ZIPML_X86

#include <algorithm>
#include <bit>
#include <cstring>

namespace zipml::inline ZIPML_ABI {

/// See kernel_policy.hpp for the contract.
struct Avx2Kernels : ScalarKernels {
  static constexpr Isa isa = Isa::avx2;
  static constexpr const char* name = name_of(isa);

  static void margins(const PackedView& view, const PlaneList& planes, GroupRange groups,
                      ModelBlock<const std::int8_t> models, std::int32_t* out) {
    for (int m = 0; m < models.count; ++m, out += groups.rows()) {
      if (detail::visit_several(
              planes, [&](auto bits) { code_margins<bits()>(view, planes, groups, models[m], out); }))
        continue;
      std::memset(out, 0, static_cast<std::size_t>(groups.rows()) * sizeof *out);
      for (int p = 0; p < planes.count; ++p)
        detail::visit_width(planes[p].width, [&](auto width) {
          add_margins<width()>(view, planes[p], groups, models[m], out);
        });
    }
  }

  static void accumulate(const PackedView& view, const PlaneList& planes, GroupRange groups,
                         const std::int8_t* residuals, ModelBlock<std::int32_t> gradients) {
    for (int m = 0; m < gradients.count; ++m, residuals += groups.rows())
      for (int p = 0; p < planes.count; ++p)
        detail::visit_width(planes[p].width, [&](auto width) {
          if constexpr (width() <= 2)
            add_table_rows<width()>(view, planes[p], groups, residuals, gradients[m]);
          else if constexpr (width() == 4)
            add_rows4(view, planes[p], groups, residuals, gradients[m]);
          else
            add_rows8(view, planes[p], groups, residuals, gradients[m]);
        });
  }

  static void margins(const PackedView& view, const PlaneList& planes, GroupRange groups,
                      ModelBlock<const float> models, float* out) {
    for (int m = 0; m < models.count; ++m, out += groups.rows()) {
      if (planes.count > 1 && detail::visit_bytes(planes, [&](auto bits, auto draw) {
            byte_margins<bits(), draw()>(view, planes, groups, models[m], out);
          }))
        continue;
      detail::visit_single(planes,
                           [&](auto width) { float_margins<width()>(view, planes, groups, models[m], out); });
    }
  }
  static void accumulate(const PackedView& view, const PlaneList& planes, GroupRange groups,
                         const float* residuals, ModelBlock<float> gradients) {
    for (int m = 0; m < gradients.count; ++m, residuals += groups.rows()) {
      if (planes.count > 1 && detail::visit_bytes(planes, [&](auto bits, auto draw) {
            add_byte_rows<bits(), draw()>(view, planes, groups, residuals, gradients[m]);
          }))
        continue;
      detail::visit_single(
          planes, [&](auto width) { float_rows<width()>(view, planes, groups, residuals, gradients[m]); });
    }
  }

  static void margins(const PackedView& view, const PlaneList& planes, TableView table, GroupRange groups,
                      ModelBlock<const float> models, float* out) {
    for (int m = 0; m < models.count; ++m)
      level_margins(view, planes, table, groups, models[m], out + m * groups.rows());
  }
  static void accumulate(const PackedView& view, const PlaneList& planes, TableView table, GroupRange groups,
                         const float* residuals, ModelBlock<float> gradients) {
    for (int m = 0; m < gradients.count; ++m)
      level_rows(view, planes, table, groups, residuals + m * groups.rows(), gradients[m]);
  }

  static void margins(const PackedView& view, const PlaneList& planes, CodeTable table, GroupRange groups,
                      ModelBlock<const std::int8_t> models, std::int32_t* out) {
    const bool wide = !planes.has_draw_plane && planes.code_bits >= 5 && planes.code_bits <= 8;
    for (int m = 0; m < models.count; ++m, out += groups.rows()) {
      if (wide) {
        detail::visit_code_bits<5, 8>(planes.code_bits, [&](auto bits) {
          wide_table_margins<bits()>(view, planes, table, groups, models[m], out);
        });
      } else if (!is_shuffled(planes)) {
        entry_margins(view, planes, table, groups, models[m], out);
      } else if (planes.code_bits == 2) {
        table_margins<2>(view, planes, table, groups, models[m], out);
      } else if (planes.code_bits == 3) {
        table_margins<3>(view, planes, table, groups, models[m], out);
      } else {
        table_margins<4>(view, planes, table, groups, models[m], out);
      }
    }
  }
  static void accumulate(const PackedView& view, const PlaneList& planes, CodeTable table, GroupRange groups,
                         const std::int8_t* residuals, ModelBlock<std::int32_t> gradients) {
    const bool wide = !planes.has_draw_plane && planes.code_bits >= 5 && planes.code_bits <= 8;
    for (int m = 0; m < gradients.count; ++m, residuals += groups.rows()) {
      if (wide) {
        detail::visit_code_bits<5, 8>(planes.code_bits, [&](auto bits) {
          add_wide_entries<bits()>(view, planes, table, groups, residuals, gradients[m]);
        });
      } else if (!is_shuffled(planes)) {
        add_entries(view, planes, table, groups, residuals, gradients[m]);
      } else if (planes.code_bits == 2) {
        add_pair_tables(view, planes, table, groups, residuals, gradients[m]);
      } else if (planes.code_bits == 3) {
        add_levels<3>(view, planes, table, groups, residuals, gradients[m]);
      } else {
        add_levels<4>(view, planes, table, groups, residuals, gradients[m]);
      }
    }
  }

  static void margins(const DenseRows& rows, ModelBlock<const float> models, float* out) {
    for (int m = 0; m < models.count; ++m) dense_margins(rows, models[m], out + m * rows.count);
  }
  static void accumulate(const DenseRows& rows, const float* residuals, ModelBlock<float> gradients) {
    for (int m = 0; m < gradients.count; ++m) dense_rows(rows, residuals + m * rows.count, gradients[m]);
  }

  static void round_symmetric(const float* v, Index n, const VectorRounding& how, std::int8_t* codes) {
    const detail::PhiloxPlace place(how.random, how.place.stream, how.place.draw, how.place.row);
    const auto group = static_cast<std::uint32_t>(how.place.first_column / 8);
    Index j = 0;
    for (; j + 64 <= n; j += 64)
      round64(v + j, how, place, group + static_cast<std::uint32_t>(j / 8), codes + j);
    if (j == n) return;
    float rest[64] = {};
    std::int8_t rounded[64];
    std::copy(v + j, v + n, rest);
    round64(rest, how, place, group + static_cast<std::uint32_t>(j / 8), rounded);
    std::copy_n(rounded, n - j, codes + j);
  }

  ZIPML_VECTOR_MATH(ZIPML_TARGET_AVX2)
  static float fold(const float* step, const float* x, float* folded, Index padded) {
    return detail::fold_avx2(step, x, folded, padded);
  }
  static double dot(const float* a, const float* b, Index padded) { return detail::dot_avx2(a, b, padded); }
  static double unfold(const std::int8_t* codes, float scale, const float* ratio, const float* inverse_step,
                       float* x, Index padded) {
    return detail::unfold_avx2(codes, scale, ratio, inverse_step, x, padded);
  }
  static float descend(const GradientFrame& frame, float step, float* x, Index padded) {
    return detail::descend_avx2(frame, step, x, padded);
  }
  static void decode_row(const RowCodes& row, const RowLevels& levels, Index d, float* values, Index padded) {
    detail::decode_row_avx2(row, levels, d, values, padded);
  }
  ZIPML_ROW_MATH(ZIPML_TARGET_AVX2)
  static float descend_to_row(const RowStep& by, float* x, const float* next, Index padded) {
    if (by.diagonal == nullptr) return descend_to<false>(by, x, next, padded);
    return descend_to<true>(by, x, next, padded);
  }

 protected:
  ZIPML_TARGET_AVX2 static void round64(const float* v, const VectorRounding& how,
                                        const detail::PhiloxPlace& place, std::uint32_t group,
                                        std::int8_t* codes) {
    __m256i words[4];
    detail::philox_words<2>(place, group, words);
    for (int k = 0; k < 2; ++k) {
      const float* from = v + 32 * k;
      const __m256i low = _mm256_packs_epi32(round8(from, half_words(words[2 * k], 0), how),
                                             round8(from + 8, half_words(words[2 * k], 1), how));
      const __m256i high = _mm256_packs_epi32(round8(from + 16, half_words(words[2 * k + 1], 0), how),
                                              round8(from + 24, half_words(words[2 * k + 1], 1), how));
      // Packing works in 128-bit halves: dwords 0, 4, 1, 5, ... are in order.
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes + 32 * k),
                          _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high),
                                                      _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)));
    }
  }
  // ---- rounding of model and residuals
  // ----------------------------------------------------------------------------------

  /// The random numbers of 8 columns.
  ZIPML_INLINE_AVX2 static __m256i half_words(__m256i words, int upper) {
    return _mm256_cvtepu16_epi32(upper != 0 ? _mm256_extracti128_si256(words, 1)
                                            : _mm256_castsi256_si128(words));
  }

  ZIPML_INLINE_AVX2 static __m256i round8(const float* v, __m256i random, const VectorRounding& how) {
    const __m256 highest = _mm256_set1_ps(static_cast<float>(how.levels));
    const __m256 lowest = _mm256_set1_ps(-static_cast<float>(how.levels));
    const __m256 values = _mm256_loadu_ps(v);
    const __m256 quotient = _mm256_div_ps(values, _mm256_set1_ps(how.scale));
    const __m256 t = _mm256_min_ps(_mm256_max_ps(quotient, lowest), highest);
    if (how.nearest) {
      const __m256 code =
          how.two_level
              ? _mm256_blendv_ps(highest, lowest, _mm256_cmp_ps(values, _mm256_setzero_ps(), _CMP_LT_OQ))
              : _mm256_floor_ps(_mm256_add_ps(t, _mm256_set1_ps(0.5f)));
      return _mm256_cvttps_epi32(code);
    }
    if (how.two_level) {
      const __m256 share = _mm256_div_ps(_mm256_add_ps(t, highest), _mm256_add_ps(highest, highest));
      return _mm256_blendv_epi8(_mm256_set1_epi32(-how.levels), _mm256_set1_epi32(how.levels),
                                _mm256_cmpgt_epi32(threshold(share), random));
    }
    const __m256 low = _mm256_floor_ps(t);
    return _mm256_sub_epi32(_mm256_cvttps_epi32(low),
                            _mm256_cmpgt_epi32(threshold(_mm256_sub_ps(t, low)), random));
  }
  /// Exact with and without FMA: the product is.
  ZIPML_INLINE_AVX2 static __m256i threshold(__m256 fraction) {
    return _mm256_cvttps_epi32(_mm256_fmadd_ps(fraction, _mm256_set1_ps(65536.0f), _mm256_set1_ps(0.5f)));
  }

  // ---- loads
  // -----------------------------------------------------------------------------------------------------

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
  // ---------------------------------------------------------------------------------------------

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

  // ---- integer margins
  // -------------------------------------------------------------------------------------------

  /// The bits of a row are multiplied where they stand in their nibble, which saves shifts: values of up to
  /// 8, 12, 15 for W = 1, 2, 4. Pair sums of maddubs that fit int16:
  template <int W>
  static constexpr Index margin_budget = 32767 / (2 * max_model_code * (((1 << W) - 1) << (4 - W)));
  static_assert(margin_budget<1> == 16 && margin_budget<2> == 10 && margin_budget<4> == 8);

  /// Eight rows at once: one load of the model serves them all, and their sums are added up together.
  template <int W>
  ZIPML_TARGET_AVX2 static void add_margins(const PackedView& view, const Plane& plane, GroupRange groups,
                                            const std::int8_t* x, std::int32_t* out) {
    constexpr int per_byte = 8 / W;
    constexpr int per_nibble = W == 8 ? 1 : 4 / W;
    const Index d = view.layout.cols;
    const Index width = view.width;
    const __m256i ones_i16x16 = _mm256_set1_epi16(1);
    LookAhead ahead(view.ahead, view.codes);
    for (Index g = 0; g < groups.count; ++g, out += group_rows) {
      const std::uint8_t* panels = view.group(plane, groups.first + g);
      __m256i acc_i32x8[8];
      for (__m256i& acc : acc_i32x8) acc = _mm256_setzero_si256();
      if constexpr (W == 8) {
        for (Index j = 0; j < width; j += 32) {
          const __m256i x_i8x32 = _mm256_load_si256(reinterpret_cast<const __m256i*>(x + j));
          const WideModel model(x_i8x32);
          for (int r = 0; r < 8; ++r) model.add_product(load32(panels + r * d + j), acc_i32x8[r]);
          for (int k = 0; k < 2; ++k) ahead.touch();
        }
      } else {
        constexpr Index segment = 32 * margin_budget<W>;
        for (Index begin = 0; begin < width; begin += segment) {
          const Index end = begin + segment < width ? begin + segment : width;
          __m256i acc_i16x16[8];
          for (__m256i& acc : acc_i16x16) acc = _mm256_setzero_si256();
          for (Index j = begin; j < end; j += 32) {
            const __m256i x_i8x32 = _mm256_load_si256(reinterpret_cast<const __m256i*>(x + j));
            for (int k = 0; k < W; ++k) {
              const __m256i codes_u8x32 = load32(panels + k * d + j);
              const __m256i nibbles[2] = {codes_u8x32, _mm256_srli_epi16(codes_u8x32, 4)};
              for (int r = 0; r < per_byte; ++r) {
                const int position = r % per_nibble * W;
                const __m256i mask = _mm256_set1_epi8(static_cast<char>(((1 << W) - 1) << position));
                const __m256i bits = _mm256_and_si256(nibbles[r / per_nibble], mask);
                const int row = k * per_byte + r;
                acc_i16x16[row] = _mm256_add_epi16(acc_i16x16[row], _mm256_maddubs_epi16(bits, x_i8x32));
              }
            }
            if (W == 4 || j % 64 == 0) ahead.touch();
          }
          for (int r = 0; r < 8; ++r)
            acc_i32x8[r] = _mm256_add_epi32(acc_i32x8[r], _mm256_madd_epi16(acc_i16x16[r], ones_i16x16));
        }
      }
      // The sum of a row is a multiple of 2^position of its bits.
      __m256i positions = _mm256_setzero_si256();
      if constexpr (W == 1) positions = _mm256_setr_epi32(0, 1, 2, 3, 0, 1, 2, 3);
      if constexpr (W == 2) positions = _mm256_setr_epi32(0, 2, 0, 2, 0, 2, 0, 2);
      const __m256i sums =
          _mm256_sll_epi32(_mm256_srav_epi32(row_sums(acc_i32x8), positions), _mm_cvtsi32_si128(plane.shift));
      __m256i* to = reinterpret_cast<__m256i*>(out);
      _mm256_storeu_si256(to, _mm256_add_epi32(_mm256_loadu_si256(to), sums));
    }
  }

  /// 32 columns of a model in int16, for bytes that maddubs would saturate. Unpacking stays in 128-bit
  /// halves, which conversions cross.
  struct WideModel {
    __m256i low;
    __m256i high;
    ZIPML_INLINE_AVX2 explicit WideModel(__m256i x_i8x32) {
      const __m256i sign = _mm256_cmpgt_epi8(_mm256_setzero_si256(), x_i8x32);
      low = _mm256_unpacklo_epi8(x_i8x32, sign);
      high = _mm256_unpackhi_epi8(x_i8x32, sign);
    }
    ZIPML_INLINE_AVX2 void add_product(__m256i bytes, __m256i& acc) const {
      const __m256i zero = _mm256_setzero_si256();
      acc = _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_unpacklo_epi8(bytes, zero), low));
      acc = _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_unpackhi_epi8(bytes, zero), high));
    }
  };

  /// Codes of several planes are put together before they are multiplied, since a plane costs a product
  /// whatever its width. Pair sums of maddubs that fit int16: 18 for 3 bits, 4, 2, 1 for 5, 6, 7. The latter
  /// are widened at once: there are registers for one sum a row.
  template <int Bits>
  ZIPML_TARGET_AVX2 static void code_margins(const PackedView& view, const PlaneList& planes,
                                             GroupRange groups, const std::int8_t* x, std::int32_t* out) {
    constexpr Index budget = 32767 / (2 * max_model_code * ((1 << Bits) - 1));
    static_assert(budget >= 1);
    const Index d = view.layout.cols;
    const Index width = view.width;
    const __m256i ones_i16x16 = _mm256_set1_epi16(1);
    LookAhead ahead(view.ahead, view.codes);
    for (Index g = 0; g < groups.count; ++g, out += group_rows) {
      const detail::GroupPanels panels(view, planes, groups.first + g);
      __m256i acc_i32x8[8];
      for (__m256i& acc : acc_i32x8) acc = _mm256_setzero_si256();
      const auto product = [&](Index j, int row) ZIPML_TARGET_AVX2 {
        const __m256i x_i8x32 = _mm256_load_si256(reinterpret_cast<const __m256i*>(x + j));
        return _mm256_maddubs_epi16(row_codes<Bits>(panels.plane, j, d, row), x_i8x32);
      };
      if constexpr (Bits == 3) {
        for (Index begin = 0; begin < width; begin += 32 * budget) {
          const Index end = begin + 32 * budget < width ? begin + 32 * budget : width;
          __m256i acc_i16x16[8];
          for (__m256i& acc : acc_i16x16) acc = _mm256_setzero_si256();
          for (Index j = begin; j < end; j += 32) {
            for (int r = 0; r < 8; ++r) acc_i16x16[r] = _mm256_add_epi16(acc_i16x16[r], product(j, r));
            ahead.touch();
          }
          for (int r = 0; r < 8; ++r)
            acc_i32x8[r] = _mm256_add_epi32(acc_i32x8[r], _mm256_madd_epi16(acc_i16x16[r], ones_i16x16));
        }
      } else {
        for (Index j = 0; j < width; j += 32) {
          for (int r = 0; r < 8; ++r)
            acc_i32x8[r] = _mm256_add_epi32(acc_i32x8[r], _mm256_madd_epi16(product(j, r), ones_i16x16));
          for (int k = 0; k < 2; ++k) ahead.touch();
        }
      }
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), row_sums(acc_i32x8));
    }
  }

  /// The sums of eight vectors, in their order.
  ZIPML_INLINE_AVX2 static __m256i row_sums(const __m256i* v) {
    const __m256i a = _mm256_hadd_epi32(_mm256_hadd_epi32(v[0], v[1]), _mm256_hadd_epi32(v[2], v[3]));
    const __m256i b = _mm256_hadd_epi32(_mm256_hadd_epi32(v[4], v[5]), _mm256_hadd_epi32(v[6], v[7]));
    return _mm256_add_epi32(_mm256_permute2x128_si256(a, b, 0x20), _mm256_permute2x128_si256(a, b, 0x31));
  }

  // ---- integer accumulation
  // --------------------------------------------------------------------------------------

  static constexpr Index table_groups = 64;

  /// Planes of 1 and 2 bits: a nibble holds one column of 4 or 2 rows and indexes a table of their residual
  /// sums, so that one vpshufb multiplies and adds 4 or 2 rows of 32 columns. Two lookups are interleaved and
  /// added into int16. Budget: a table entry is at most 4 * 31 or 2 * 3 * 21, a pair 252; 64 groups bring 64
  /// or 128 pairs of 252 each.
  template <int W>
  ZIPML_TARGET_AVX2 static void add_table_rows(const PackedView& view, const Plane& plane, GroupRange groups,
                                               const std::int8_t* residuals, std::int32_t* gradient) {
    static_assert(4 * 31 <= 127 && 2 * 3 * 21 <= 127);
    static_assert(table_groups * W * 252 <= 32767);
    alignas(32) std::int8_t tables[table_groups * W * 32];
    LookAhead ahead(view.ahead, view.codes);
    const __m256i nibble = _mm256_set1_epi8(15);
    const __m256i ones_u8x32 = _mm256_set1_epi8(1);
    for (Index first = 0; first < groups.count; first += table_groups) {
      const Index count = groups.count - first < table_groups ? groups.count - first : table_groups;
      for (Index half = 0; half < 2 * W * count; ++half)
        residual_table<W>(residuals + first * group_rows + half * (4 / W), tables + half * 16);
      const GroupRange chunk{groups.first + first, count};
      add_tiles<8 / W>(
          view, plane, chunk, gradient,
          [&](const std::uint8_t* panels, Index d, Index g, __m256i& low, __m256i& high) ZIPML_TARGET_AVX2 {
            for (int k = 0; k < W; ++k) {
              const std::int8_t* table = tables + (g * W + k) * 32;
              const __m256i codes = load32(panels + k * d);
              const __m256i a = _mm256_shuffle_epi8(both_lanes(table), _mm256_and_si256(codes, nibble));
              const __m256i b = _mm256_shuffle_epi8(both_lanes(table + 16),
                                                    _mm256_and_si256(_mm256_srli_epi16(codes, 4), nibble));
              low = _mm256_add_epi16(low, _mm256_maddubs_epi16(ones_u8x32, _mm256_unpacklo_epi8(a, b)));
              high = _mm256_add_epi16(high, _mm256_maddubs_epi16(ones_u8x32, _mm256_unpackhi_epi8(a, b)));
            }
            if (W == 2 || g % 2 == 0) ahead.touch();
          });
    }
  }

  static constexpr Index tile_columns = 2048;
  static constexpr Index short_row = 256;

  /// Sums in int16 over a chunk of groups: add(first panel at the column, d, group of the chunk, low, high)
  /// for every group and 32 columns. Eight panels are read side by side, like eight streams, over a tile of
  /// columns whose sums stay in the first-level cache. (Columns outside and all rows inside need no sums in
  /// memory, but at d = 4,096 their lines fall into one set of the cache: that is for short rows.)
  template <Index SideBySide, class Add>
  ZIPML_INLINE_AVX2 static void add_tiles(const PackedView& view, const Plane& plane, GroupRange chunk,
                                          std::int32_t* gradient, const Add& add) {
    const Index d = view.layout.cols;
    const Index width = view.width;
    const Index side_by_side = width <= short_row ? table_groups : SideBySide;
    alignas(32) std::int16_t tile[tile_columns];
    for (Index begin = 0; begin < width; begin += tile_columns) {
      const Index end = width - begin < tile_columns ? width : begin + tile_columns;
      for (Index g = 0; g < chunk.count; g += side_by_side) {
        const Index rows = chunk.count - g < side_by_side ? chunk.count - g : side_by_side;
        const std::uint8_t* panels[table_groups];
        for (Index k = 0; k < rows; ++k) panels[k] = view.group(plane, chunk.first + g + k);
        for (Index j = begin; j < end; j += 32) {
          __m256i* sums = reinterpret_cast<__m256i*>(tile + (j - begin));
          __m256i low = g == 0 ? _mm256_setzero_si256() : _mm256_load_si256(sums);
          __m256i high = g == 0 ? _mm256_setzero_si256() : _mm256_load_si256(sums + 1);
          if (rows == SideBySide)
            for (Index k = 0; k < SideBySide; ++k) add(panels[k] + j, d, g + k, low, high);
          else
            for (Index k = 0; k < rows; ++k) add(panels[k] + j, d, g + k, low, high);
          _mm256_store_si256(sums, low);
          _mm256_store_si256(sums + 1, high);
        }
      }
      for (Index j = begin; j < end; j += 32) {
        const __m256i* sums = reinterpret_cast<const __m256i*>(tile + (j - begin));
        flush(_mm256_load_si256(sums), _mm256_load_si256(sums + 1), plane.shift, gradient + j);
      }
    }
  }

  /// Entry n of the table: the sum over the 4 / W rows of a nibble n of residual * bits of that row.
  template <int W>
  ZIPML_TARGET_AVX2 static void residual_table(const std::int8_t* r, std::int8_t* table) {
    const auto pair = [](std::int8_t a, std::int8_t b) {
      return static_cast<short>(static_cast<unsigned short>(
          static_cast<std::uint8_t>(a) | static_cast<unsigned>(static_cast<std::uint8_t>(b)) << 8));
    };
    __m128i low;   // entries 0..7, int16
    __m128i high;  // entries 8..15
    if constexpr (W == 2) {
      const __m128i codes_low = _mm_setr_epi8(0, 0, 1, 0, 2, 0, 3, 0, 0, 1, 1, 1, 2, 1, 3, 1);
      const __m128i codes_high = _mm_setr_epi8(0, 2, 1, 2, 2, 2, 3, 2, 0, 3, 1, 3, 2, 3, 3, 3);
      const __m128i factors = _mm_set1_epi16(pair(r[0], r[1]));
      low = _mm_maddubs_epi16(codes_low, factors);
      high = _mm_maddubs_epi16(codes_high, factors);
    } else {
      const __m128i bits01 = _mm_setr_epi8(0, 0, 1, 0, 0, 1, 1, 1, 0, 0, 1, 0, 0, 1, 1, 1);
      const __m128i bits23 = _mm_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 1, 0, 1, 0);
      const __m128i bit3 = _mm_set1_epi16(0x0100);
      const __m128i factors01 = _mm_set1_epi16(pair(r[0], r[1]));
      const __m128i factors23 = _mm_set1_epi16(pair(r[2], r[3]));
      const __m128i sums01 = _mm_maddubs_epi16(bits01, factors01);
      low = _mm_add_epi16(sums01, _mm_maddubs_epi16(bits23, factors23));
      high = _mm_add_epi16(sums01, _mm_maddubs_epi16(_mm_or_si128(bits23, bit3), factors23));
    }
    _mm_store_si128(reinterpret_cast<__m128i*>(table), _mm_packs_epi16(low, high));
  }

  /// Planes of 4 bits: the two rows of a byte are put side by side and multiplied by their residuals in one
  /// maddubs. Budget: |pair| <= 2 * 15 * 31 = 930, 35 of which fit int16; 8 groups bring 32.
  ZIPML_TARGET_AVX2 static void add_rows4(const PackedView& view, const Plane& plane, GroupRange groups,
                                          const std::int8_t* residuals, std::int32_t* gradient) {
    constexpr Index budget_groups = 8;
    static_assert(budget_groups * 4 * 2 * 15 * 31 <= 32767);
    const __m256i nibble = _mm256_set1_epi8(15);
    LookAhead ahead(view.ahead, view.codes);
    for (Index first = 0; first < groups.count; first += budget_groups) {
      const Index count = groups.count - first < budget_groups ? groups.count - first : budget_groups;
      const std::int8_t* chunk_residuals = residuals + first * group_rows;
      const GroupRange chunk{groups.first + first, count};
      add_tiles<2>(
          view, plane, chunk, gradient,
          [&](const std::uint8_t* panels, Index d, Index g, __m256i& low, __m256i& high) ZIPML_TARGET_AVX2 {
            for (int k = 0; k < 4; ++k) {
              const __m256i codes = load32(panels + k * d);
              const __m256i a = _mm256_and_si256(codes, nibble);
              const __m256i b = _mm256_and_si256(_mm256_srli_epi16(codes, 4), nibble);
              short pair;
              std::memcpy(&pair, chunk_residuals + g * group_rows + 2 * k, 2);
              const __m256i factors = _mm256_set1_epi16(pair);
              low = _mm256_add_epi16(low, _mm256_maddubs_epi16(_mm256_unpacklo_epi8(a, b), factors));
              high = _mm256_add_epi16(high, _mm256_maddubs_epi16(_mm256_unpackhi_epi8(a, b), factors));
              if (k % 2 == 0) ahead.touch();
            }
          });
    }
  }

  /// Planes of 8 bits: 255 * 127 * 2 would saturate maddubs, so codes of two rows are widened and multiplied
  /// in int32.
  ZIPML_TARGET_AVX2 static void add_rows8(const PackedView& view, const Plane& plane, GroupRange groups,
                                          const std::int8_t* residuals, std::int32_t* gradient) {
    const Index d = view.layout.cols;
    const Index width = view.width;
    const __m256i zero = _mm256_setzero_si256();
    LookAhead ahead(view.ahead, view.codes);
    for (Index g = 0; g < groups.count; ++g) {
      const std::uint8_t* panels = view.group(plane, groups.first + g);
      __m256i factors[4];
      for (int k = 0; k < 4; ++k) factors[k] = two_residuals(residuals + g * group_rows + 2 * k);
      for (Index j = 0; j < width; j += 32) {
        __m256i acc[4] = {zero, zero, zero, zero};
        for (int k = 0; k < 4; ++k) {
          const __m256i a = load32(panels + 2 * k * d + j);
          const __m256i b = load32(panels + (2 * k + 1) * d + j);
          add_two_rows(a, b, factors[k], acc);
        }
        flush32(acc, plane.shift, gradient + j);
        for (int k = 0; k < 2; ++k) ahead.touch();
      }
    }
  }

  /// The residuals of two rows as int16, in every dword.
  ZIPML_INLINE_AVX2 static __m256i two_residuals(const std::int8_t* r) {
    const auto a = static_cast<std::uint16_t>(r[0]);
    const auto b = static_cast<std::uint16_t>(r[1]);
    return _mm256_set1_epi32(static_cast<int>(std::uint32_t{a} | std::uint32_t{b} << 16));
  }
  /// Bytes of 32 columns of two rows, times the rows' residuals. Unpacking works in 128-bit halves: acc[i]
  /// takes columns 4 i .. 4 i + 3 and 16 + 4 i .. 16 + 4 i + 3.
  ZIPML_INLINE_AVX2 static void add_two_rows(__m256i a, __m256i b, __m256i factors, __m256i (&acc)[4]) {
    const __m256i zero = _mm256_setzero_si256();
    const __m256i low = _mm256_unpacklo_epi8(a, b);
    const __m256i high = _mm256_unpackhi_epi8(a, b);
    acc[0] = _mm256_add_epi32(acc[0], _mm256_madd_epi16(_mm256_unpacklo_epi8(low, zero), factors));
    acc[1] = _mm256_add_epi32(acc[1], _mm256_madd_epi16(_mm256_unpackhi_epi8(low, zero), factors));
    acc[2] = _mm256_add_epi32(acc[2], _mm256_madd_epi16(_mm256_unpacklo_epi8(high, zero), factors));
    acc[3] = _mm256_add_epi32(acc[3], _mm256_madd_epi16(_mm256_unpackhi_epi8(high, zero), factors));
  }
  ZIPML_INLINE_AVX2 static void flush32(const __m256i (&acc)[4], int shift, std::int32_t* gradient) {
    for (int i = 0; i < 4; ++i) {
      const __m256i sums = _mm256_slli_epi32(acc[i], shift);
      add_to(gradient + 4 * i, _mm256_castsi256_si128(sums));
      add_to(gradient + 16 + 4 * i, _mm256_extracti128_si256(sums, 1));
    }
  }

  ZIPML_TARGET_AVX2 static void add_to(std::int32_t* gradient, __m128i sums) {
    __m128i* to = reinterpret_cast<__m128i*>(gradient);
    _mm_storeu_si128(to, _mm_add_epi32(_mm_loadu_si128(to), sums));
  }

  /// Adds int16 sums to 32 columns. Unpacking works in 128-bit halves: `low` holds columns 0..7 and 16..23,
  /// `high` the others.
  ZIPML_TARGET_AVX2 static void flush(__m256i low, __m256i high, int shift, std::int32_t* gradient) {
    const __m256i columns[4] = {_mm256_cvtepi16_epi32(_mm256_castsi256_si128(low)),
                                _mm256_cvtepi16_epi32(_mm256_castsi256_si128(high)),
                                _mm256_cvtepi16_epi32(_mm256_extracti128_si256(low, 1)),
                                _mm256_cvtepi16_epi32(_mm256_extracti128_si256(high, 1))};
    for (int i = 0; i < 4; ++i) {
      __m256i* to = reinterpret_cast<__m256i*>(gradient + 8 * i);
      _mm256_storeu_si256(to, _mm256_add_epi32(_mm256_loadu_si256(to), _mm256_slli_epi32(columns[i], shift)));
    }
  }

  // ---- integers, levels by a table of bytes
  // ----------------------------------------------------------------------------------

  /// The table as shuffles read it. 4 bits: the entries. 3 bits: entry of nibble (l h h), the code being 2 h
  /// + l. 2 bits: entries by the lower and by the upper half of a nibble.
  struct ShuffledTable {
    __m256i low;
    __m256i high;
  };
  template <int Bits>
  ZIPML_TARGET_AVX2 static ShuffledTable shuffled(CodeTable table) {
    std::uint8_t low[16];
    std::uint8_t high[16];
    for (int n = 0; n < 16; ++n) {
      low[n] = table.entries[Bits == 4 ? n : Bits == 3 ? (n & 3) * 2 + (n >> 2 & 1) : n & 3];
      high[n] = table.entries[Bits == 2 ? n >> 2 : 0];
    }
    return {both_lanes(low), both_lanes(high)};
  }

  /// Table entries of rows 4 half .. 4 half + 3 of a group, 32 columns from j. `wide` are the panels of the
  /// widest plane, `bit` those of the plane of 1 bit (3 bits only).
  template <int Bits>
  ZIPML_TARGET_AVX2 static void read_levels(const std::uint8_t* wide, const std::uint8_t* bit, Index d,
                                            Index j, int half, const ShuffledTable& table,
                                            __m256i (&levels)[4]) {
    const __m256i nibble = _mm256_set1_epi8(15);
    if constexpr (Bits == 4) {
      for (int k = 0; k < 2; ++k) {
        const __m256i codes = load32(wide + (2 * half + k) * d + j);
        levels[2 * k] = _mm256_shuffle_epi8(table.low, _mm256_and_si256(codes, nibble));
        levels[2 * k + 1] =
            _mm256_shuffle_epi8(table.low, _mm256_and_si256(_mm256_srli_epi16(codes, 4), nibble));
      }
    } else {
      const __m256i codes = load32(wide + half * d + j);
      if constexpr (Bits == 2) {
        const __m256i a = _mm256_and_si256(codes, nibble);
        const __m256i b = _mm256_and_si256(_mm256_srli_epi16(codes, 4), nibble);
        levels[0] = _mm256_shuffle_epi8(table.low, a);
        levels[1] = _mm256_shuffle_epi8(table.high, a);
        levels[2] = _mm256_shuffle_epi8(table.low, b);
        levels[3] = _mm256_shuffle_epi8(table.high, b);
      } else {
        // Bits 0 .. 3 of a nibble go to bits 2 and 6 of two bytes, beside the two other bits of their rows.
        const __m256i even = _mm256_broadcastsi128_si256(
            _mm_setr_epi8(0, 4, 0, 4, 0x40, 0x44, 0x40, 0x44, 0, 4, 0, 4, 0x40, 0x44, 0x40, 0x44));
        const __m256i odd = _mm256_broadcastsi128_si256(
            _mm_setr_epi8(0, 0, 4, 4, 0, 0, 4, 4, 0x40, 0x40, 0x44, 0x44, 0x40, 0x40, 0x44, 0x44));
        const __m256i pairs = _mm256_set1_epi8(0x33);
        const __m256i bits = load32(bit + j);
        const __m256i four = _mm256_and_si256(half == 0 ? bits : _mm256_srli_epi16(bits, 4), nibble);
        const __m256i rows02 =
            _mm256_or_si256(_mm256_and_si256(codes, pairs), _mm256_shuffle_epi8(even, four));
        const __m256i rows13 = _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16(codes, 2), pairs),
                                               _mm256_shuffle_epi8(odd, four));
        levels[0] = _mm256_shuffle_epi8(table.low, _mm256_and_si256(rows02, nibble));
        levels[1] = _mm256_shuffle_epi8(table.low, _mm256_and_si256(rows13, nibble));
        levels[2] = _mm256_shuffle_epi8(table.low, _mm256_and_si256(_mm256_srli_epi16(rows02, 4), nibble));
        levels[3] = _mm256_shuffle_epi8(table.low, _mm256_and_si256(_mm256_srli_epi16(rows13, 4), nibble));
      }
    }
  }

  /// Pairs of maddubs fill int16 (2 * 255 * 63), so each is widened at once.
  template <int Bits>
  ZIPML_TARGET_AVX2 static void table_margins(const PackedView& view, const PlaneList& planes,
                                              CodeTable table, GroupRange groups, const std::int8_t* x,
                                              std::int32_t* out) {
    const Index d = view.layout.cols;
    const Index width = view.width;
    const ShuffledTable shuffles = shuffled<Bits>(table);
    const __m256i ones_i16x16 = _mm256_set1_epi16(1);
    for (Index g = 0; g < groups.count; ++g, out += group_rows) {
      const std::uint8_t* wide = view.group(planes[0], groups.first + g);
      const std::uint8_t* bit = Bits == 3 ? view.group(planes[1], groups.first + g) : nullptr;
      __m256i acc_i32x8[8];
      for (__m256i& acc : acc_i32x8) acc = _mm256_setzero_si256();
      for (Index j = 0; j < width; j += 32) {
        const __m256i x_i8x32 = _mm256_load_si256(reinterpret_cast<const __m256i*>(x + j));
        for (int half = 0; half < 2; ++half) {
          __m256i levels[4];
          read_levels<Bits>(wide, bit, d, j, half, shuffles, levels);
          for (int r = 0; r < 4; ++r) {
            const __m256i pairs = _mm256_maddubs_epi16(levels[r], x_i8x32);
            acc_i32x8[4 * half + r] =
                _mm256_add_epi32(acc_i32x8[4 * half + r], _mm256_madd_epi16(pairs, ones_i16x16));
          }
        }
      }
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), row_sums(acc_i32x8));
    }
  }

  /// 3 and 4 bits: entries of two rows side by side, times their residuals in one maddubs. Budget: a pair is
  /// at most 2 * 255 * 7 = 3,570; two groups bring 8.
  template <int Bits>
  ZIPML_TARGET_AVX2 static void add_levels(const PackedView& view, const PlaneList& planes, CodeTable table,
                                           GroupRange groups, const std::int8_t* residuals,
                                           std::int32_t* gradient) {
    const Index d = view.layout.cols;
    const Index width = view.width;
    const ShuffledTable shuffles = shuffled<Bits>(table);
    for (Index first = 0; first < groups.count; first += 2) {
      const Index count = groups.count - first < 2 ? groups.count - first : 2;
      const std::uint8_t* wide[2];
      const std::uint8_t* bit[2];
      __m256i factors[2][4];
      for (Index g = 0; g < count; ++g) {
        wide[g] = view.group(planes[0], groups.first + first + g);
        bit[g] = Bits == 3 ? view.group(planes[1], groups.first + first + g) : nullptr;
        for (int k = 0; k < 4; ++k) {
          short pair;
          std::memcpy(&pair, residuals + (first + g) * group_rows + 2 * k, 2);
          factors[g][k] = _mm256_set1_epi16(pair);
        }
      }
      for (Index j = 0; j < width; j += 32) {
        __m256i acc_low = _mm256_setzero_si256();
        __m256i acc_high = _mm256_setzero_si256();
        for (Index g = 0; g < count; ++g)
          for (int half = 0; half < 2; ++half) {
            __m256i levels[4];
            read_levels<Bits>(wide[g], bit[g], d, j, half, shuffles, levels);
            for (int k = 0; k < 2; ++k) {
              const __m256i a = levels[2 * k];
              const __m256i b = levels[2 * k + 1];
              const __m256i factor = factors[g][2 * half + k];
              acc_low = _mm256_add_epi16(acc_low, _mm256_maddubs_epi16(_mm256_unpacklo_epi8(a, b), factor));
              acc_high = _mm256_add_epi16(acc_high, _mm256_maddubs_epi16(_mm256_unpackhi_epi8(a, b), factor));
            }
          }
        flush(acc_low, acc_high, 0, gradient + j);
      }
    }
  }

  /// 2 bits: a nibble holds one column of two rows and indexes a table of the sums of their products, of 16
  /// bits: one shuffle for each byte of it. Entries are less 128 to stay small, 128 times the sum of the
  /// residuals is added at the end. Budget: 2 * 128 * 7 = 1,792, 18 of which fit int16; 4 groups bring 16.
  ZIPML_TARGET_AVX2 static void add_pair_tables(const PackedView& view, const PlaneList& planes,
                                                CodeTable table, GroupRange groups,
                                                const std::int8_t* residuals, std::int32_t* gradient) {
    constexpr Index budget_groups = 4;
    static_assert(4 * budget_groups * 2 * 128 * 7 <= 32767);
    const Index d = view.layout.cols;
    const Index width = view.width;
    const __m256i nibble = _mm256_set1_epi8(15);
    std::int32_t sum = 0;
    for (Index i = 0; i < groups.rows(); ++i) sum += residuals[i];
    const __m256i middle = _mm256_set1_epi32(128 * sum);
    for (Index j = 0; j < width; j += 8) {
      __m256i* to = reinterpret_cast<__m256i*>(gradient + j);
      _mm256_storeu_si256(to, _mm256_add_epi32(_mm256_loadu_si256(to), middle));
    }
    int centred[4];
    for (int k = 0; k < 4; ++k) centred[k] = table.entries[k] - 128;
    alignas(32) std::uint8_t low_bytes[budget_groups][4][16];
    alignas(32) std::uint8_t high_bytes[budget_groups][4][16];
    for (Index first = 0; first < groups.count; first += budget_groups) {
      const Index count = groups.count - first < budget_groups ? groups.count - first : budget_groups;
      const std::uint8_t* panels[budget_groups];
      for (Index g = 0; g < count; ++g) {
        panels[g] = view.group(planes[0], groups.first + first + g);
        for (int pair = 0; pair < 4; ++pair) {
          const std::int8_t* r = residuals + (first + g) * group_rows + 2 * pair;
          for (int n = 0; n < 16; ++n) {
            const int entry = r[0] * centred[n & 3] + r[1] * centred[n >> 2];
            low_bytes[g][pair][n] = static_cast<std::uint8_t>(entry & 255);
            high_bytes[g][pair][n] = static_cast<std::uint8_t>(entry >> 8 & 255);
          }
        }
      }
      for (Index j = 0; j < width; j += 32) {
        __m256i acc_low = _mm256_setzero_si256();
        __m256i acc_high = _mm256_setzero_si256();
        for (Index g = 0; g < count; ++g)
          for (int k = 0; k < 2; ++k) {
            const __m256i codes = load32(panels[g] + k * d + j);
            for (int upper = 0; upper < 2; ++upper) {
              const __m256i index =
                  _mm256_and_si256(upper == 0 ? codes : _mm256_srli_epi16(codes, 4), nibble);
              const __m256i low = _mm256_shuffle_epi8(both_lanes(low_bytes[g][2 * k + upper]), index);
              const __m256i high = _mm256_shuffle_epi8(both_lanes(high_bytes[g][2 * k + upper]), index);
              acc_low = _mm256_add_epi16(acc_low, _mm256_unpacklo_epi8(low, high));
              acc_high = _mm256_add_epi16(acc_high, _mm256_unpackhi_epi8(low, high));
            }
          }
        flush(acc_low, acc_high, 0, gradient + j);
      }
    }
  }

  // ---- float model
  // -----------------------------------------------------------------------------------------------

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

  /// Width: that of a code that is one plane, or 0.
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

  ZIPML_INLINE_AVX2 static __m256 row_sums(const __m256* v) {
    const __m256 a = _mm256_hadd_ps(_mm256_hadd_ps(v[0], v[1]), _mm256_hadd_ps(v[2], v[3]));
    const __m256 b = _mm256_hadd_ps(_mm256_hadd_ps(v[4], v[5]), _mm256_hadd_ps(v[6], v[7]));
    return _mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
  }

  // ---- float model, codes of several planes
  // ----------------------------------------------------------------------------------

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
  // ----------------------------------------------------------------------------------

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

  // ---- the same for codes of 5 to 8 bits: 2 to 16 tables of 16 entries
  // ----------------------------------------------------------------------------------

  /// Codes that the table lacks, of another panel, find its last entry.
  template <int Bits>
  struct SplitTable {
    static constexpr int parts = 1 << (Bits - 4);
    explicit SplitTable(CodeTable table) {
      for (int k = 0; k < 16 * parts; ++k) entries[k] = table.entries[k < table.count ? k : table.count - 1];
    }
    alignas(16) std::uint8_t entries[16 * parts];
  };

  /// A shuffle gives 0 for an index of 128 and more: what is not in a part is made one.
  template <int Bits>
  ZIPML_INLINE_AVX2 static __m256i look_up(const SplitTable<Bits>& table, __m256i codes) {
    const __m256i beyond = _mm256_set1_epi8(0x70);
    __m256i found = _mm256_setzero_si256();
    for (int k = 0; k < table.parts; ++k) {
      const __m256i inside = _mm256_xor_si256(codes, _mm256_set1_epi8(static_cast<char>(16 * k)));
      found = _mm256_or_si256(
          found, _mm256_shuffle_epi8(both_lanes(table.entries + 16 * k), _mm256_adds_epu8(inside, beyond)));
    }
    return found;
  }

  template <int Bits>
  ZIPML_TARGET_AVX2 static void wide_table_margins(const PackedView& view, const PlaneList& planes,
                                                   CodeTable table, GroupRange groups, const std::int8_t* x,
                                                   std::int32_t* out) {
    const Index d = view.layout.cols;
    const SplitTable<Bits> entries(table);
    for (Index g = 0; g < groups.count; ++g, out += group_rows) {
      const detail::GroupPanels panels(view, planes, groups.first + g);
      __m256i acc[8];
      for (__m256i& a : acc) a = _mm256_setzero_si256();
      for (Index j = 0; j < view.width; j += 32) {
        const __m256i x_i8x32 = _mm256_load_si256(reinterpret_cast<const __m256i*>(x + j));
        const WideModel model(x_i8x32);
        for (int row = 0; row < 8; ++row)
          model.add_product(look_up(entries, row_codes<Bits>(panels.plane, j, d, row)), acc[row]);
      }
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), row_sums(acc));
    }
  }

  template <int Bits>
  ZIPML_TARGET_AVX2 static void add_wide_entries(const PackedView& view, const PlaneList& planes,
                                                 CodeTable table, GroupRange groups,
                                                 const std::int8_t* residuals, std::int32_t* gradient) {
    const Index d = view.layout.cols;
    const SplitTable<Bits> entries(table);
    const __m256i zero = _mm256_setzero_si256();
    for (Index g = 0; g < groups.count; ++g, residuals += group_rows) {
      const detail::GroupPanels panels(view, planes, groups.first + g);
      for (Index j = 0; j < view.width; j += 32) {
        __m256i acc[4] = {zero, zero, zero, zero};
        for (int k = 0; k < 4; ++k)
          add_two_rows(look_up(entries, row_codes<Bits>(panels.plane, j, d, 2 * k)),
                       look_up(entries, row_codes<Bits>(panels.plane, j, d, 2 * k + 1)),
                       two_residuals(residuals + 2 * k), acc);
        flush32(acc, 0, gradient + j);
      }
    }
  }

  // ---- integers, levels by a table of bytes for all other codes: 1 bit, draw planes
  // ----------------------------------------------------------------------------------

  /// Entries as int32. Behind the last column codes are those of another panel, so that any code finds one.
  struct WideTable {
    alignas(32) std::int32_t entries[512];
    ZIPML_TARGET_AVX2 __m256i look_up(__m256i codes) const {
      alignas(32) std::int32_t c[8];
      _mm256_store_si256(reinterpret_cast<__m256i*>(c), codes);
      return _mm256_setr_epi32(entries[c[0]], entries[c[1]], entries[c[2]], entries[c[3]], entries[c[4]],
                               entries[c[5]], entries[c[6]], entries[c[7]]);
    }
    explicit WideTable(CodeTable table) {
      for (int k = 0; k < 512; ++k) entries[k] = table.entries[k < table.count ? k : table.count - 1];
    }
  };

  /// int8 model or residuals as int32.
  ZIPML_TARGET_AVX2 static __m256i widen8(const std::int8_t* values) {
    return _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(values)));
  }

  ZIPML_TARGET_AVX2 static void entry_margins(const PackedView& view, const PlaneList& planes,
                                              CodeTable table, GroupRange groups, const std::int8_t* x,
                                              std::int32_t* out) {
    const Index d = view.layout.cols;
    const Index width = view.width;
    const WideTable wide(table);
    for (Index g = 0; g < groups.count; ++g, out += group_rows) {
      const detail::GroupPanels panels(view, planes, groups.first + g);
      __m256i acc[8];
      for (__m256i& a : acc) a = _mm256_setzero_si256();
      for (Index j = 0; j < width; j += 8) {
        const __m256i x_i32x8 = widen8(x + j);
        __m256i codes[8];
        read_codes(planes, panels, d, j, codes);
        for (int r = 0; r < 8; ++r)
          acc[r] = _mm256_add_epi32(acc[r], _mm256_mullo_epi32(wide.look_up(codes[r]), x_i32x8));
      }
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), row_sums(acc));
    }
  }

  ZIPML_TARGET_AVX2 static void add_entries(const PackedView& view, const PlaneList& planes, CodeTable table,
                                            GroupRange groups, const std::int8_t* residuals,
                                            std::int32_t* gradient) {
    const Index d = view.layout.cols;
    const Index width = view.width;
    const WideTable wide(table);
    for (Index g = 0; g < groups.count; ++g, residuals += group_rows) {
      const detail::GroupPanels panels(view, planes, groups.first + g);
      for (Index j = 0; j < width; j += 8) {
        __m256i codes[8];
        read_codes(planes, panels, d, j, codes);
        __m256i* to = reinterpret_cast<__m256i*>(gradient + j);
        __m256i sum = _mm256_loadu_si256(to);
        for (int r = 0; r < 8; ++r)
          sum = _mm256_add_epi32(sum,
                                 _mm256_mullo_epi32(wide.look_up(codes[r]), _mm256_set1_epi32(residuals[r])));
        _mm256_storeu_si256(to, sum);
      }
    }
  }

  // ---- float32 rows
  // ----------------------------------------------------------------------------------------------

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

static_assert(KernelPolicy<Avx2Kernels>);

}  // namespace zipml::inline ZIPML_ABI

#endif  // ZIPML_X86
