#pragma once
/// \file
/// Room kernels: kernels in AVX-512 (F, BW, VL, VNNI, VBMI) with GFNI. Integers equal the scalar kernels bit
/// for bit; float sums differ from them by their order alone.
///
/// The instructions that carry the loops (512 bit; latency, and how many start per cycle):
///
///     intrinsic                instruction      Zen 5     Ice Lake   here
///     dpbusd_epi32             vpdpbusd         4,  2     5,  1      4 codes x 4 int8 into int32, exact
///     multishift_epi64_epi8    vpmultishiftqb   3,  2     3,  1      a byte of 4 rows to 4 bytes
///     gf2p8affine_epi64_epi8   vgf2p8affineqb   3,  2     3,  1      bits of a plane to their place in codes
///     and_si512                vpandd           1,  4     1,  2      the first rows' bits of a byte
///     shuffle_epi8             vpshufb          2,  2     1,  1      tables of residual sums, of levels
///     permutex(2)var_epi8      vperm(i2)b       6,  2     3,  1      tables of 64 and 128 levels; to dwords
///     unpacklo/hi_epi8         vpunpck*         2,  2     1,  1      rows side by side
///     permutexvar_ps           vpermps          4,  2     3,  1      codes of up to 4 bits to floats
///     fmadd_ps                 vfmadd*ps        4,  2     4,  2
///
/// 512 and not 256 bits: on Zen 5 both start as many instructions per cycle, and on Intel two of 512 against
/// three of 256.
///
/// Preconditions used (kernel_policy.hpp): padded model, padded gradient, whole groups, code 0, readable
/// tail.

#include <zipml/base/index.hpp>
#include <zipml/kernels/avx512_gram.hpp>

#if ZIPML_X86

namespace zipml::inline ZIPML_ABI {

/// See kernel_policy.hpp for the contract. The loops stand in layers, each of which derives from the one
/// before: Avx512Codes, which derives from Avx2Kernels, Avx512Integers, Avx512Tables, Avx512Floats,
/// Avx512Gram. Here is which of them an operation takes. Tables of levels for each column are those of AVX2.
struct Avx512Kernels : Avx512Gram {
  static constexpr Isa isa = Isa::avx512;
  static constexpr const char* name = name_of(isa);

  using Avx2Kernels::accumulate;
  using Avx2Kernels::margins;

  template <class Codes>
  static void margins(const PackedView& view, const PlaneList& planes, GroupRange groups,
                      const std::int8_t* model, std::int32_t* out) {
    choose_margins<Codes>(view, planes, groups, model, out);
  }
  template <class Codes>
  static void margins(const PackedView& view, const PlaneList& planes, GroupRange groups,
                      ModelBlock<const std::int8_t> models, ModelBlock<std::int32_t> out) {
    choose_margins<Codes>(view, planes, groups, models, out);
  }

  template <class Codes>
  static void accumulate(const PackedView& view, const PlaneList& planes, GroupRange groups,
                         const std::int8_t* residuals, std::int32_t* gradient) {
    choose_accumulate<Codes>(view, planes, groups, residuals, gradient);
  }
  template <class Codes>
  static void accumulate(const PackedView& view, const PlaneList& planes, GroupRange groups,
                         ModelBlock<const std::int8_t> residuals, ModelBlock<std::int32_t> gradients) {
    choose_accumulate<Codes>(view, planes, groups, residuals, gradients);
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
          if constexpr (bits() <= 4)
            add_entries<bits()>(view, planes, table, groups, residuals, gradient);
          else
            add_wide_entries<bits()>(view, planes, table, groups, residuals, gradient);
        }))
      return;
    if constexpr (detail::reads_entries<Codes>())
      Avx2Tables::add_entries(view, planes, table, groups, residuals, gradient);
    else
      detail::refuse_codes();
  }

  template <class Codes>
  static void margins(const PackedView& view, const PlaneList& planes, GroupRange groups, const float* model,
                      float* out) {
    if (visit_joined<Codes>(planes, [&](auto codes) {
          joined_float_margins<decltype(codes)>(view, planes, groups, model, out);
          return true;
        }))
      return;
    detail::visit_single<Codes>(
        planes, [&](auto width) { float_margins<width()>(view, planes, groups, model, out); });
  }
  template <class Codes>
  static void accumulate(const PackedView& view, const PlaneList& planes, GroupRange groups,
                         const float* residuals, float* gradient) {
    if (visit_joined<Codes>(planes, [&](auto codes) {
          joined_float_rows<decltype(codes)>(view, planes, groups, residuals, gradient);
          return true;
        }))
      return;
    detail::visit_single<Codes>(
        planes, [&](auto width) { float_rows<width()>(view, planes, groups, residuals, gradient); });
  }

  static void margins(const DenseRows& rows, const float* model, float* out) {
    if (rows.cols <= 8) return Avx2Kernels::margins(rows, model, out);
    dense_margins(rows, model, out);
  }
  static void accumulate(const DenseRows& rows, const float* residuals, float* gradient) {
    if (rows.cols <= 8) return Avx2Kernels::accumulate(rows, residuals, gradient);
    dense_rows(rows, residuals, gradient);
  }

  ZIPML_TARGET_AVX512 static void round_symmetric(const float* v, Index n, const VectorRounding& how,
                                                  std::int8_t* codes) {
    const detail::PhiloxPlace place(how.random, how.place.stream, how.place.draw, how.place.row);
    if (how.nearest) return round_to_nearest(v, n, how, codes);
    if (how.two_level) return round_blocks<true>(v, n, how, place, codes);
    round_blocks<false>(v, n, how, place, codes);
  }

  ZIPML_TARGET_AVX512 static void half_words(const Random& random, const RandomPlace& at, Index n,
                                             std::uint16_t* out) {
    const detail::PhiloxPlace place(random, at.stream, at.draw, at.row);
    const auto group = static_cast<std::uint32_t>(at.first_column / 8);
    for (Index j = 0; j < n; j += 64) {
      __m512i words[2];
      detail::philox_words<1>(place, group + static_cast<std::uint32_t>(j / 8), words);
      for (int k = 0; k < 2 && j + 32 * k < n; ++k) {
        const Index left = n - j - 32 * k;
        _mm512_mask_storeu_epi16(out + j + 32 * k, left < 32 ? (__mmask32{1} << left) - 1 : ~__mmask32{0},
                                 words[k]);
      }
    }
  }

  ZIPML_VECTOR_MATH(ZIPML_TARGET_AVX512)
  ZIPML_TARGET_AVX512 static float fold(const float* step, const float* x, float* folded, Index padded) {
    return detail::fold_body(step, x, folded, padded);
  }
  static double unfold(const std::int8_t* codes, float scale, const float* ratio, const float* inverse_step,
                       float* x, Index padded) {
    return detail::unfold_avx512(codes, scale, ratio, inverse_step, x, padded);
  }
  static float descend(const GradientFrame& frame, float step, float* x, Index padded) {
    return detail::descend_avx512(frame, step, x, padded);
  }
  static void decode_row(const RowCodes& row, const RowLevels& levels, Index d, float* values, Index padded) {
    detail::decode_row_avx512(row, levels, d, values, padded);
  }
  ZIPML_ROW_MATH(ZIPML_TARGET_AVX512)

 private:
  // ---- which kernel: of a model, or of a block of them

  template <class Codes, class Models, class Sums>
  static void choose_margins(const PackedView& view, const PlaneList& planes, GroupRange groups,
                             const Models& models, const Sums& out) {
    if (visit_joined<Codes>(planes, [&](auto codes) {
          // A plane costs 12 to 15 instructions for 512 values, codes put together 24 in nibbles, 32 and
          // more in bytes; but planes are added up for each row, one after the other.
          if (codes.width == 8 && view.width > short_row) return false;
          code_margins<decltype(codes), false>(view, planes, groups, models, out);
          return true;
        }))
      return;
    for (int p = 0; p < planes.count; ++p)
      detail::visit_plane<Codes>(planes[p].width, [&](auto width) {
        if constexpr (detail::is_later_plane<Codes>(width()))
          if (p > 0)
            return code_margins<PlaneCodes<width()>, true>(view, only(planes[p]), groups, models, out);
        code_margins<PlaneCodes<width()>, false>(view, only(planes[p]), groups, models, out);
      });
  }

  template <class Codes, class Residuals, class Sums>
  static void choose_accumulate(const PackedView& view, const PlaneList& planes, GroupRange groups,
                                const Residuals& residuals, const Sums& gradients) {
    if (visit_joined<Codes>(planes, [&](auto codes) {
          // Planes of 1 and 2 bits go through tables, made for each group: 11 and 22 instructions for 512
          // values and what the tables cost; codes put together take 40 in nibbles, 48 to 56 in bytes.
          const bool at_any_length = !planes.has_draw_plane && planes.code_bits >= 6;
          constexpr bool one = std::is_pointer_v<Residuals>;
          if (codes.width == 4 ? one : !(at_any_length || view.width <= short_row)) return false;
          add_rows<decltype(codes)>(view, planes, groups, residuals, gradients);
          return true;
        }))
      return;
    for (int p = 0; p < planes.count; ++p)
      detail::visit_plane<Codes>(planes[p].width, [&](auto width) {
        if constexpr (width() == 1 || (width() == 2 && std::is_pointer_v<Residuals>))
          for_each_of(residuals, gradients, [&](const std::int8_t* r, std::int32_t* g) {
            add_table_rows<width()>(view, planes[p], groups, r, g);
          });
        else
          add_rows<PlaneCodes<width()>>(view, only(planes[p]), groups, residuals, gradients);
      });
  }
  template <class F>
  static void for_each_of(const std::int8_t* residuals, std::int32_t* gradient, const F& f) {
    f(residuals, gradient);
  }
  template <class F>
  static void for_each_of(ModelBlock<const std::int8_t> residuals, ModelBlock<std::int32_t> gradients,
                          const F& f) {
    for (int m = 0; m < residuals.count; ++m) f(residuals[m], gradients[m]);
  }

  // ---- rounding of model and residuals

  template <bool TwoLevel>
  ZIPML_INLINE_AVX512 static void round_blocks(const float* v, Index n, const VectorRounding& how,
                                               const detail::PhiloxPlace& place, std::int8_t* codes) {
    const auto group = static_cast<std::uint32_t>(how.place.first_column / 8);
    Index j = 0;
    if (how.half_words != nullptr) {
      for (; j < n; j += 16) {
        const auto inside = static_cast<__mmask16>(n - j < 16 ? (1u << (n - j)) - 1u : 0xffffu);
        const __m512i random = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(inside, how.half_words + j));
        _mm512_mask_cvtepi32_storeu_epi8(
            codes + j, inside, round16<TwoLevel>(_mm512_maskz_loadu_ps(inside, v + j), random, how));
      }
      return;
    }
    for (; j + 256 <= n; j += 256) {
      __m512i words[8];
      detail::philox_words<4>(place, group + static_cast<std::uint32_t>(j / 8), words);
      for (int k = 0; k < 16; ++k)
        _mm_storeu_si128(reinterpret_cast<__m128i*>(codes + j + 16 * k),
                         _mm512_cvtepi32_epi8(round16<TwoLevel>(_mm512_loadu_ps(v + j + 16 * k),
                                                                random_of(words[k / 2], k % 2), how)));
    }
    for (; j < n; j += 64) {
      __m512i words[2];
      detail::philox_words<1>(place, group + static_cast<std::uint32_t>(j / 8), words);
      for (int k = 0; k < 4 && j + 16 * k < n; ++k) {
        const Index left = n - j - 16 * k;
        const auto inside = static_cast<__mmask16>(left < 16 ? (1u << left) - 1u : 0xffffu);
        const __m512 values = _mm512_maskz_loadu_ps(inside, v + j + 16 * k);
        _mm512_mask_cvtepi32_storeu_epi8(codes + j + 16 * k, inside,
                                         round16<TwoLevel>(values, random_of(words[k / 2], k % 2), how));
      }
    }
  }

  ZIPML_INLINE_AVX512 static void round_to_nearest(const float* v, Index n, const VectorRounding& how,
                                                   std::int8_t* codes) {
    const __m512 highest = _mm512_set1_ps(static_cast<float>(how.levels));
    const __m512 lowest = _mm512_set1_ps(-static_cast<float>(how.levels));
    for (Index j = 0; j < n; j += 16) {
      const auto inside = static_cast<__mmask16>(n - j < 16 ? (1u << (n - j)) - 1u : 0xffffu);
      const __m512 values = _mm512_maskz_loadu_ps(inside, v + j);
      const __m512 t =
          _mm512_min_ps(_mm512_max_ps(_mm512_div_ps(values, _mm512_set1_ps(how.scale)), lowest), highest);
      const __m512 code =
          how.two_level ? _mm512_mask_blend_ps(_mm512_cmp_ps_mask(values, _mm512_setzero_ps(), _CMP_LT_OQ),
                                               highest, lowest)
                        : _mm512_roundscale_ps(_mm512_add_ps(t, _mm512_set1_ps(0.5f)),
                                               _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
      _mm512_mask_cvtepi32_storeu_epi8(codes + j, inside, _mm512_cvttps_epi32(code));
    }
  }

  /// The random numbers of 16 columns.
  ZIPML_INLINE_AVX512 static __m512i random_of(__m512i words, int upper) {
    return _mm512_cvtepu16_epi32(upper != 0 ? _mm512_extracti64x4_epi64(words, 1)
                                            : _mm512_castsi512_si256(words));
  }

  template <bool TwoLevel>
  ZIPML_INLINE_AVX512 static __m512i round16(__m512 v, __m512i random, const VectorRounding& how) {
    const __m512 highest = _mm512_set1_ps(static_cast<float>(how.levels));
    const __m512 lowest = _mm512_set1_ps(-static_cast<float>(how.levels));
    const __m512 t =
        _mm512_min_ps(_mm512_max_ps(_mm512_div_ps(v, _mm512_set1_ps(how.scale)), lowest), highest);
    if constexpr (TwoLevel) {
      const __m512 share = _mm512_div_ps(_mm512_add_ps(t, highest), _mm512_add_ps(highest, highest));
      return _mm512_mask_blend_epi32(_mm512_cmplt_epi32_mask(random, threshold(share)),
                                     _mm512_set1_epi32(-how.levels), _mm512_set1_epi32(how.levels));
    } else {
      const __m512 low = _mm512_roundscale_ps(t, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
      const __m512i code = _mm512_cvttps_epi32(low);
      const __mmask16 up = _mm512_cmplt_epi32_mask(random, threshold(_mm512_sub_ps(t, low)));
      return _mm512_mask_add_epi32(code, up, code, _mm512_set1_epi32(1));
    }
  }
  /// Exact with and without FMA: the product is.
  ZIPML_INLINE_AVX512 static __m512i threshold(__m512 fraction) {
    return _mm512_cvttps_epi32(_mm512_fmadd_ps(fraction, _mm512_set1_ps(65536.0f), _mm512_set1_ps(0.5f)));
  }
};

static_assert(KernelPolicy<Avx512Kernels>);

}  // namespace zipml::inline ZIPML_ABI

#endif  // ZIPML_X86
