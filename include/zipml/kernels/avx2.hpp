#pragma once
/// \file
/// Room kernels: kernels in AVX2 and FMA. Integers equal the scalar kernels bit for bit; float sums differ
/// from them by their order alone.
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

#include <zipml/base/cpu.hpp>
#include <zipml/base/index.hpp>
#include <zipml/base/philox_lanes.hpp>
#include <zipml/kernels/avx2_gram.hpp>
#include <zipml/kernels/batch_math_x86.hpp>

#if ZIPML_X86

#include <algorithm>
#include <cstring>
#include <type_traits>

namespace zipml::inline ZIPML_ABI {

/// See kernel_policy.hpp for the contract. The loops stand in layers, each of which derives from the one
/// before: Avx2Codes, Avx2Integers, Avx2Tables, Avx2Floats, Avx2Gram. Here is which of them an operation
/// takes.
struct Avx2Kernels : Avx2Gram {
  static constexpr Isa isa = Isa::avx2;
  static constexpr const char* name = name_of(isa);

  template <class Codes>
  static void margins(const PackedView& view, const PlaneList& planes, GroupRange groups,
                      const std::int8_t* model, std::int32_t* out) {
    if (detail::visit_several<Codes>(
            planes, [&](auto bits) { code_margins<bits()>(view, planes, groups, model, out); }))
      return;
    std::memset(out, 0, static_cast<std::size_t>(groups.rows()) * sizeof *out);
    for (int p = 0; p < planes.count; ++p)
      detail::visit_plane<Codes>(
          planes[p].width, [&](auto width) { add_margins<width()>(view, planes[p], groups, model, out); });
  }

  template <class Codes>
  static void margins(const PackedView& view, const PlaneList& planes, GroupRange groups,
                      ModelBlock<const std::int8_t> models, ModelBlock<std::int32_t> out) {
    block_margins<Avx2Kernels, Codes>(view, planes, groups, models, out);
  }

  template <class Codes>
  static void accumulate(const PackedView& view, const PlaneList& planes, GroupRange groups,
                         ModelBlock<const std::int8_t> residuals, ModelBlock<std::int32_t> gradients) {
    if (!is_shared_plane(planes) || planes[0].width != 4)
      return for_blocks_of<1>(view, residuals, gradients,
                              [&](const PackedView& of, const std::int8_t* r, std::int32_t* g) {
                                accumulate<Codes>(of, planes, groups, r, g);
                              });
    if constexpr (Codes::has_plane(4)) {
      const auto add = [&](const PackedView& of, auto r, auto g) {
        if constexpr (std::is_pointer_v<decltype(r)>)
          add_rows4(of, planes[0], groups, r, g);
        else
          add_rows4_of_models<4>(of, planes[0], groups, r, g);
      };
      for_blocks_of<4>(view, residuals, gradients, add);
    } else {
      detail::refuse_codes();
    }
  }

  template <class Codes>
  static void accumulate(const PackedView& view, const PlaneList& planes, GroupRange groups,
                         const std::int8_t* residuals, std::int32_t* gradient) {
    for (int p = 0; p < planes.count; ++p)
      detail::visit_plane<Codes>(planes[p].width, [&](auto width) {
        if constexpr (width() <= 2)
          add_table_rows<width()>(view, planes[p], groups, residuals, gradient);
        else if constexpr (width() == 4)
          add_rows4(view, planes[p], groups, residuals, gradient);
        else
          add_rows8(view, planes[p], groups, residuals, gradient);
      });
  }

  template <class Codes>
  static void margins(const PackedView& view, const PlaneList& planes, GroupRange groups, const float* model,
                      float* out) {
    if (detail::visit_bytes<Codes>(planes, [&](auto bits, auto draw) {
          byte_margins<bits(), draw()>(view, planes, groups, model, out);
        }))
      return;
    detail::visit_single<Codes>(
        planes, [&](auto width) { float_margins<width()>(view, planes, groups, model, out); });
  }
  template <class Codes>
  static void accumulate(const PackedView& view, const PlaneList& planes, GroupRange groups,
                         const float* residuals, float* gradient) {
    if (detail::visit_bytes<Codes>(planes, [&](auto bits, auto draw) {
          add_byte_rows<bits(), draw()>(view, planes, groups, residuals, gradient);
        }))
      return;
    detail::visit_single<Codes>(
        planes, [&](auto width) { float_rows<width()>(view, planes, groups, residuals, gradient); });
  }

  static void margins(const PackedView& view, const PlaneList& planes, TableView table, GroupRange groups,
                      const float* model, float* out) {
    level_margins(view, planes, table, groups, model, out);
  }
  static void accumulate(const PackedView& view, const PlaneList& planes, TableView table, GroupRange groups,
                         const float* residuals, float* gradient) {
    level_rows(view, planes, table, groups, residuals, gradient);
  }

  template <class Codes>
  static void margins(const PackedView& view, const PlaneList& planes, CodeTable table, GroupRange groups,
                      const std::int8_t* model, std::int32_t* out) {
    if (!planes.has_draw_plane &&
        detail::visit_code_bits<Codes, false, 2, 8>(planes.code_bits, [&](auto bits) {
          if constexpr (bits() <= 4)
            table_margins<bits()>(view, planes, table, groups, model, out);
          else
            wide_table_margins<bits()>(view, planes, table, groups, model, out);
        }))
      return;
    if constexpr (detail::reads_entries<Codes>())
      entry_margins(view, planes, table, groups, model, out);
    else
      detail::refuse_codes();
  }
  template <class Codes>
  static void accumulate(const PackedView& view, const PlaneList& planes, CodeTable table, GroupRange groups,
                         const std::int8_t* residuals, std::int32_t* gradient) {
    if (!planes.has_draw_plane &&
        detail::visit_code_bits<Codes, false, 2, 8>(planes.code_bits, [&](auto bits) {
          if constexpr (bits() == 2)
            add_pair_tables(view, planes, table, groups, residuals, gradient);
          else if constexpr (bits() <= 4)
            add_levels<bits()>(view, planes, table, groups, residuals, gradient);
          else
            add_wide_entries<bits()>(view, planes, table, groups, residuals, gradient);
        }))
      return;
    if constexpr (detail::reads_entries<Codes>())
      add_entries(view, planes, table, groups, residuals, gradient);
    else
      detail::refuse_codes();
  }

  static void margins(const DenseRows& rows, const float* model, float* out) {
    dense_margins(rows, model, out);
  }
  static void accumulate(const DenseRows& rows, const float* residuals, float* gradient) {
    dense_rows(rows, residuals, gradient);
  }

  static void round_symmetric(const float* v, Index n, const VectorRounding& how, std::int8_t* codes) {
    const detail::PhiloxPlace place(how.random, how.place.stream, how.place.draw, how.place.row);
    const auto group = static_cast<std::uint32_t>(how.place.first_column / 8);
    const auto round = [&](const float* from, Index j, Index count, std::int8_t* to) ZIPML_TARGET_AVX2 {
      __m256i words[4];
      if (how.half_words == nullptr || how.nearest) {
        detail::philox_words<2>(place, group + static_cast<std::uint32_t>(j / 8), words);
      } else {
        alignas(32) std::uint16_t rest[64] = {};
        const std::uint16_t* drawn = how.half_words + j;
        if (count < 64) drawn = std::copy_n(drawn, count, rest) - count;
        for (int k = 0; k < 4; ++k)
          words[k] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(drawn + 16 * k));
      }
      round64(from, how, words, to);
    };
    Index j = 0;
    for (; j + 64 <= n; j += 64) round(v + j, j, 64, codes + j);
    if (j == n) return;
    float rest[64] = {};
    std::int8_t rounded[64];
    std::copy(v + j, v + n, rest);
    round(rest, j, n - j, rounded);
    std::copy_n(rounded, n - j, codes + j);
  }
  ZIPML_TARGET_AVX2 static void half_words(const Random& random, const RandomPlace& at, Index n,
                                           std::uint16_t* out) {
    const detail::PhiloxPlace place(random, at.stream, at.draw, at.row);
    const auto group = static_cast<std::uint32_t>(at.first_column / 8);
    for (Index j = 0; j < n; j += 64) {
      alignas(32) std::uint16_t drawn[64];
      __m256i words[4];
      detail::philox_words<2>(place, group + static_cast<std::uint32_t>(j / 8), words);
      std::uint16_t* const to = n - j >= 64 ? out + j : drawn;
      for (int k = 0; k < 4; ++k) _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + 16 * k), words[k]);
      if (to == drawn) std::copy_n(drawn, n - j, out + j);
    }
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
  // ---- several models

  /// Margins of several models by the loops of a policy: this one, or one that derives from it.
  template <class Kernels, class Codes>
  static void block_margins(const PackedView& view, const PlaneList& planes, GroupRange groups,
                            ModelBlock<const std::int8_t> models, ModelBlock<std::int32_t> out) {
    if (!is_shared_plane(planes))
      return for_blocks_of<1>(view, models, out,
                              [&](const PackedView& of, const std::int8_t* x, std::int32_t* z) {
                                Kernels::template margins<Codes>(of, planes, groups, x, z);
                              });
    for (int m = 0; m < out.count; ++m)
      std::memset(out[m], 0, static_cast<std::size_t>(groups.rows()) * sizeof *out.data);
    detail::visit_plane<Codes>(planes[0].width, [&](auto width) {
      if constexpr (width() == 2 || width() == 4)
        for_blocks_of<width()>(view, models, out, [&](const PackedView& of, auto x, auto z) {
          if constexpr (std::is_pointer_v<decltype(x)>)
            Kernels::template add_margins<width()>(of, planes[0], groups, x, z);
          else
            Kernels::template add_margins_of_models<width()>(of, planes[0], groups, x, z);
        });
    });
  }

  /// Whether codes are one plane, of a width that several models share the reading of.
  static bool is_shared_plane(const PlaneList& planes) {
    return planes.count == 1 && (planes[0].width == 2 || planes[0].width == 4);
  }

  /// work(view, x, y) for `Together` models at a time, as blocks, then for each of the others, as pointers. The first of
  /// them looks ahead for all.
  template <int Together, class X, class Y, class Work>
  static void for_blocks_of(const PackedView& view, ModelBlock<X> x, ModelBlock<Y> y, const Work& work) {
    PackedView again = view;
    int m = 0;
    if constexpr (Together > 1)
      for (; m + Together <= x.count; m += Together) {
        work(again, ModelBlock<X>{x[m], x.stride, Together}, ModelBlock<Y>{y[m], y.stride, Together});
        again.ahead = nullptr;
      }
    for (; m < x.count; ++m) {
      work(again, x[m], y[m]);
      again.ahead = nullptr;
    }
  }

 private:
  // ---- rounding of model and residuals

  ZIPML_TARGET_AVX2 static void round64(const float* v, const VectorRounding& how, const __m256i (&words)[4],
                                        std::int8_t* codes) {
    for (int k = 0; k < 2; ++k) {
      const float* from = v + 32 * k;
      const __m256i low = _mm256_packs_epi32(round8(from, random_of(words[2 * k], 0), how),
                                             round8(from + 8, random_of(words[2 * k], 1), how));
      const __m256i high = _mm256_packs_epi32(round8(from + 16, random_of(words[2 * k + 1], 0), how),
                                              round8(from + 24, random_of(words[2 * k + 1], 1), how));
      // Packing works in 128-bit halves: dwords 0, 4, 1, 5, ... are in order.
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes + 32 * k),
                          _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high),
                                                      _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)));
    }
  }

  /// The random numbers of 8 columns.
  ZIPML_INLINE_AVX2 static __m256i random_of(__m256i words, int upper) {
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
};

static_assert(KernelPolicy<Avx2Kernels>);

}  // namespace zipml::inline ZIPML_ABI

#endif  // ZIPML_X86
