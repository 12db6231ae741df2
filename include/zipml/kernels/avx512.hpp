#pragma once
/// \file
/// Layer 3: kernels in AVX-512 (F, BW, VL, VNNI, VBMI) with GFNI. Integers equal the scalar kernels bit for
/// bit; float sums differ from them by their order alone.
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
/// Margins: bytes are multiplied with the bits of the first row, of the first two, and so on, up to all of
/// them, which need no mask; sums are told apart at the end, by differences and a shift. vpdpbusd multiplies
/// by int8 without intermediate saturation, so that this needs no more room than |sum| <= 255 * 127 * d <
/// 2^31.
///
/// Codes of several planes (3, 5, 6, 7 bits, or a draw's own bit) are put together first, two to a byte up to
/// 15, where that is less work: JoinedCodes.
///
/// Accumulation of planes of 4 and 8 bits: four rows' codes of a column side by side in a dword, times the
/// four residuals, into int32: no table, no budget of int16, no bound on the residuals but int8. Planes of 1
/// and 2 bits hold four and two rows in a nibble and look up their residuals' sum, which is a fifth faster at
/// 2 bits. Eight panels are read side by side, like eight streams, over a tile of columns whose sums stay in
/// the first-level cache: columns outside and all rows inside need no sums in memory, but at d = 4,096 their
/// lines fall into one set of the cache, and half the speed is lost.
///
/// 512 and not 256 bits: on Zen 5 both start as many instructions per cycle, and on Intel two of 512 against
/// three of 256.
///
/// Preconditions used (kernel_policy.hpp): padded model, padded gradient, whole groups, code 0, readable
/// tail.

#include <zipml/kernels/avx2.hpp>

#if ZIPML_X86

namespace zipml::inline ZIPML_ABI {

/// See kernel_policy.hpp for the contract. Tables of levels for each column are those of AVX2.
struct Avx512Kernels : Avx2Kernels {
  static constexpr Isa isa = Isa::avx512;
  static constexpr const char* name = name_of(isa);

  using Avx2Kernels::accumulate;
  using Avx2Kernels::margins;

  static void margins(const PackedView& view, const PlaneList& planes, GroupRange groups,
                      ModelBlock<const std::int8_t> models, std::int32_t* out) {
    for (int m = 0; m < models.count; ++m, out += groups.rows()) {
      if (planes.count > 1 && visit_joined(planes, [&](auto codes) {
            // A plane costs 12 to 15 instructions for 512 values, codes put together 24 in nibbles, 32 and
            // more in bytes; but planes are added up for each row, one after the other.
            if (codes.width == 8 && view.width > short_row) return false;
            code_margins<decltype(codes), false>(view, planes, groups, models[m], out);
            return true;
          }))
        continue;
      for (int p = 0; p < planes.count; ++p)
        detail::visit_width(planes[p].width, [&](auto width) {
          if (p == 0)
            code_margins<PlaneCodes<width()>, false>(view, only(planes[p]), groups, models[m], out);
          else
            code_margins<PlaneCodes<width()>, true>(view, only(planes[p]), groups, models[m], out);
        });
    }
  }

  static void accumulate(const PackedView& view, const PlaneList& planes, GroupRange groups,
                         const std::int8_t* residuals, ModelBlock<std::int32_t> gradients) {
    for (int m = 0; m < gradients.count; ++m, residuals += groups.rows()) {
      if (planes.count > 1 && visit_joined(planes, [&](auto codes) {
            // Planes of 1 and 2 bits go through tables, made for each group: 11 and 22 instructions for 512
            // values and what the tables cost; codes put together take 40 in nibbles, 48 to 56 in bytes.
            const bool at_any_length = !planes.has_draw_plane && planes.code_bits >= 6;
            if (codes.width == 4 || !(at_any_length || view.width <= short_row)) return false;
            add_rows<decltype(codes)>(view, planes, groups, residuals, gradients[m]);
            return true;
          }))
        continue;
      for (int p = 0; p < planes.count; ++p)
        detail::visit_width(planes[p].width, [&](auto width) {
          if constexpr (width() <= 2)
            add_table_rows<width()>(view, planes[p], groups, residuals, gradients[m]);
          else
            add_rows<PlaneCodes<width()>>(view, only(planes[p]), groups, residuals, gradients[m]);
        });
    }
  }

  static void margins(const PackedView& view, const PlaneList& planes, CodeTable table, GroupRange groups,
                      ModelBlock<const std::int8_t> models, std::int32_t* out) {
    if (planes.has_draw_plane || planes.code_bits < 2 || planes.code_bits > 8)
      return Avx2Kernels::margins(view, planes, table, groups, models, out);
    for (int m = 0; m < models.count; ++m, out += groups.rows())
      detail::visit_code_bits<2, 8>(planes.code_bits, [&](auto bits) {
        if constexpr (bits() <= 4)
          table_margins<bits()>(view, planes, table, groups, models[m], out);
        else
          wide_table_margins<bits()>(view, planes, table, groups, models[m], out);
      });
  }
  static void accumulate(const PackedView& view, const PlaneList& planes, CodeTable table, GroupRange groups,
                         const std::int8_t* residuals, ModelBlock<std::int32_t> gradients) {
    if (planes.has_draw_plane || planes.code_bits < 2 || planes.code_bits > 8)
      return Avx2Kernels::accumulate(view, planes, table, groups, residuals, gradients);
    for (int m = 0; m < gradients.count; ++m, residuals += groups.rows())
      detail::visit_code_bits<2, 8>(planes.code_bits, [&](auto bits) {
        if constexpr (bits() <= 4)
          add_entries<bits()>(view, planes, table, groups, residuals, gradients[m]);
        else
          add_wide_entries<bits()>(view, planes, table, groups, residuals, gradients[m]);
      });
  }

  static void margins(const PackedView& view, const PlaneList& planes, GroupRange groups,
                      ModelBlock<const float> models, float* out) {
    for (int m = 0; m < models.count; ++m, out += groups.rows()) {
      if (planes.count > 1 && visit_joined(planes, [&](auto codes) {
            joined_float_margins<decltype(codes)>(view, planes, groups, models[m], out);
            return true;
          }))
        continue;
      detail::visit_single(planes,
                           [&](auto width) { float_margins<width()>(view, planes, groups, models[m], out); });
    }
  }
  static void accumulate(const PackedView& view, const PlaneList& planes, GroupRange groups,
                         const float* residuals, ModelBlock<float> gradients) {
    for (int m = 0; m < gradients.count; ++m, residuals += groups.rows()) {
      if (planes.count > 1 && visit_joined(planes, [&](auto codes) {
            joined_float_rows<decltype(codes)>(view, planes, groups, residuals, gradients[m]);
            return true;
          }))
        continue;
      detail::visit_single(
          planes, [&](auto width) { float_rows<width()>(view, planes, groups, residuals, gradients[m]); });
    }
  }

  static void margins(const DenseRows& rows, ModelBlock<const float> models, float* out) {
    if (rows.cols <= 8) return Avx2Kernels::margins(rows, models, out);
    for (int m = 0; m < models.count; ++m) dense_margins(rows, models[m], out + m * rows.count);
  }
  static void accumulate(const DenseRows& rows, const float* residuals, ModelBlock<float> gradients) {
    if (rows.cols <= 8) return Avx2Kernels::accumulate(rows, residuals, gradients);
    for (int m = 0; m < gradients.count; ++m) dense_rows(rows, residuals + m * rows.count, gradients[m]);
  }

  ZIPML_TARGET_AVX512 static void round_symmetric(const float* v, Index n, const VectorRounding& how,
                                                  std::int8_t* codes) {
    const detail::PhiloxPlace place(how.random, how.place.stream, how.place.draw, how.place.row);
    if (how.nearest) return round_to_nearest(v, n, how, codes);
    if (how.two_level) return round_blocks<true>(v, n, how, place, codes);
    round_blocks<false>(v, n, how, place, codes);
  }

  // The step along the gradient is AVX2's, which takes as long.
  ZIPML_VECTOR_MATH(ZIPML_TARGET_AVX512)
  ZIPML_TARGET_AVX512 static float fold(const float* step, const float* x, float* folded, Index padded) {
    return detail::fold_body(step, x, folded, padded);
  }
  static double unfold(const std::int8_t* codes, float scale, const float* ratio, const float* inverse_step,
                       float* x, Index padded) {
    return detail::unfold_avx512(codes, scale, ratio, inverse_step, x, padded);
  }
  static void decode_row(const RowCodes& row, const RowLevels& levels, Index d, float* values, Index padded) {
    detail::decode_row_avx512(row, levels, d, values, padded);
  }
  ZIPML_ROW_MATH(ZIPML_TARGET_AVX512)

 private:
  ZIPML_INLINE_AVX512 static __m512i load64(const std::uint8_t* bytes) { return _mm512_loadu_si512(bytes); }

  /// Zeros, written out: g++ makes a call to memset of a loop, and memory of the registers.
  template <int N>
  ZIPML_INLINE_AVX512 static void clear(__m512i* v) {
    if constexpr (N > 1) clear<N - 1>(v);
    v[N - 1] = _mm512_setzero_si512();
  }
  template <int N>
  ZIPML_INLINE_AVX512 static void clear(__m512* v) {
    if constexpr (N > 1) clear<N - 1>(v);
    v[N - 1] = _mm512_setzero_ps();
  }

  // ---- rounding of model and residuals
  // ----------------------------------------------------------------------------------

  template <bool TwoLevel>
  ZIPML_INLINE_AVX512 static void round_blocks(const float* v, Index n, const VectorRounding& how,
                                               const detail::PhiloxPlace& place, std::int8_t* codes) {
    const auto group = static_cast<std::uint32_t>(how.place.first_column / 8);
    Index j = 0;
    for (; j + 256 <= n; j += 256) {
      __m512i words[8];
      detail::philox_words<4>(place, group + static_cast<std::uint32_t>(j / 8), words);
      for (int k = 0; k < 16; ++k)
        _mm_storeu_si128(reinterpret_cast<__m128i*>(codes + j + 16 * k),
                         _mm512_cvtepi32_epi8(round16<TwoLevel>(_mm512_loadu_ps(v + j + 16 * k),
                                                                half_words(words[k / 2], k % 2), how)));
    }
    for (; j < n; j += 64) {
      __m512i words[2];
      detail::philox_words<1>(place, group + static_cast<std::uint32_t>(j / 8), words);
      for (int k = 0; k < 4 && j + 16 * k < n; ++k) {
        const Index left = n - j - 16 * k;
        const auto inside = static_cast<__mmask16>(left < 16 ? (1u << left) - 1u : 0xffffu);
        const __m512 values = _mm512_maskz_loadu_ps(inside, v + j + 16 * k);
        _mm512_mask_cvtepi32_storeu_epi8(codes + j + 16 * k, inside,
                                         round16<TwoLevel>(values, half_words(words[k / 2], k % 2), how));
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
  ZIPML_INLINE_AVX512 static __m512i half_words(__m512i words, int upper) {
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

  // ---- codes in bytes
  // -----------------------------------------------------------------------------------------------

  /// Codes of a group as kernels read them: `width` registers for 64 columns, register k with `width` bits
  /// for each of rows k * 8 / width on, the first of them lowest. Here a plane as it is stored.
  template <int W>
  struct PlaneCodes {
    static constexpr bool is_plane = true;
    static constexpr int bits = W;
    static constexpr int width = W;
    ZIPML_INLINE_AVX512 static __m512i load(const detail::GroupPanels& panels, Index j, Index d, int k) {
      return load64(panels.plane[0] + k * d + j);
    }
  };

  /// Codes of several planes, put together as a plane of 4 bits, or of 8, would be; the bit of a draw's own
  /// plane is added. 3 bits are planes of 2 and 1; 5, 6 and 7 are 4 and 1, 4 and 2, 4, 2 and 1.
  template <int Bits, bool Draw>
  struct JoinedCodes {
    static constexpr bool is_plane = false;
    static constexpr int bits = Bits + (Draw ? 1 : 0);
    static constexpr int width = (1 << Bits) - (Draw ? 0 : 1) <= 15 ? 4 : 8;

    ZIPML_INLINE_AVX512 static __m512i load(const detail::GroupPanels& panels, Index j, Index d, int k) {
      constexpr int widest = Bits >= 8 ? 8 : Bits >= 4 ? 4 : Bits >= 2 ? 2 : 1;
      constexpr int below = Bits - widest;
      constexpr int planes = std::popcount(static_cast<unsigned>(Bits));
      __m512i codes = load_plane<widest, below>(panels.plane[0] + j, d, k);
      if constexpr (below >= 2)
        codes = _mm512_or_si512(codes, load_plane<2, below - 2>(panels.plane[1] + j, d, k));
      if constexpr (below % 2 == 1)
        codes = _mm512_or_si512(codes, load_plane<1, 0>(panels.plane[planes - 1] + j, d, k));
      if constexpr (Draw) codes = _mm512_add_epi8(codes, load_plane<1, 0>(panels.plane[planes] + j, d, k));
      return codes;
    }

   private:
    /// The bits of a plane where they stand in the codes of register k: a product with a matrix of bits.
    template <int W, int Shift>
    ZIPML_INLINE_AVX512 static __m512i load_plane(const std::uint8_t* panels, Index d, int k) {
      constexpr int per_register = 8 / width;
      constexpr int per_byte = 8 / W;
      const int row = k * per_register;
      std::uint64_t matrix = 0;
      for (int i = 0; i < per_register; ++i)
        matrix |= moved_bits(W, (row + i) % per_byte * W, i * width + Shift);
      return _mm512_gf2p8affine_epi64_epi8(load64(panels + row / per_byte * d),
                                           _mm512_set1_epi64(static_cast<long long>(matrix)), 0);
    }
    /// Bit i of the product is the parity of the byte and of byte 7 - i of the matrix (Intel SDM, vol. 2):
    /// the identity, less what other bits of the product would be, with columns moved.
    static constexpr std::uint64_t moved_bits(int count, int from, int to) {
      constexpr std::uint64_t identity = 0x0102040810204080;
      const std::uint64_t rows = ((std::uint64_t{1} << 8 * count) - 1) << 8 * (8 - to - count);
      return from >= to ? (identity & rows) << (from - to) : (identity & rows) >> (to - from);
    }
  };

  /// Calls f with the JoinedCodes of a list of several planes; false where f says so, or there are none.
  template <class F>
  static bool visit_joined(const PlaneList& planes, const F& f) {
    bool done = false;
    detail::visit_bytes(planes, [&](auto bits, auto draw) {
      if constexpr (draw() || std::popcount(static_cast<unsigned>(bits())) > 1)
        done = f(JoinedCodes<bits(), draw()>{});
    });
    return done;
  }
  static PlaneList only(const Plane& plane) {
    PlaneList list;
    list.code_bits = plane.width;
    list.push(plane);
    return list;
  }

  // ---- integer margins
  // -------------------------------------------------------------------------------------------

  /// Sums of 16 vectors, in their order. (Arrays are indexed by constants alone: else g++ keeps them in
  /// memory.)
  ZIPML_INLINE_AVX512 static __m512i sums_of(const __m512i (&v)[16]) {
    return lane_sums(lane_sums(four_sums(v[0], v[1], v[2], v[3]), four_sums(v[4], v[5], v[6], v[7])),
                     lane_sums(four_sums(v[8], v[9], v[10], v[11]), four_sums(v[12], v[13], v[14], v[15])));
  }
  /// Sums of 8 vectors, in the lower half.
  ZIPML_INLINE_AVX512 static __m512i sums_of(const __m512i (&v)[8]) {
    const __m512i pairs = lane_sums(four_sums(v[0], v[1], v[2], v[3]), four_sums(v[4], v[5], v[6], v[7]));
    return lane_sums(pairs, pairs);
  }
  /// In each 128-bit lane, that lane's sums of four vectors.
  ZIPML_INLINE_AVX512 static __m512i four_sums(__m512i a, __m512i b, __m512i c, __m512i d) {
    const __m512i ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    const __m512i cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    return _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
  }
  /// Lanes a0 + a1, a2 + a3, b0 + b1, b2 + b3.
  ZIPML_INLINE_AVX512 static __m512i lane_sums(__m512i a, __m512i b) {
    return _mm512_add_epi32(_mm512_shuffle_i32x4(a, b, 0x88), _mm512_shuffle_i32x4(a, b, 0xdd));
  }

  /// Two groups of 8 rows at a time, so that one load of the model serves 16 rows.
  template <class Codes, bool Add>
  ZIPML_TARGET_AVX512 static void code_margins(const PackedView& view, const PlaneList& planes,
                                               GroupRange groups, const std::int8_t* x, std::int32_t* out) {
    LookAhead ahead(view.ahead, view.codes);
    Index g = 0;
    for (; g + 2 <= groups.count; g += 2, out += 2 * group_rows)
      group_margins<Codes, 2, Add>(view, planes, groups.first + g, x, out, ahead);
    if (g < groups.count) group_margins<Codes, 1, Add>(view, planes, groups.first + g, x, out, ahead);
  }

  template <class Codes, int Groups, bool Add>
  ZIPML_TARGET_AVX512 static void group_margins(const PackedView& view, const PlaneList& planes, Index group,
                                                const std::int8_t* x, std::int32_t* out, Ahead& to_touch) {
    constexpr int W = Codes::width;
    const Index d = view.layout.cols;
    const Index width = view.width;
    const detail::GroupPanels first(view, planes, group);
    const detail::GroupPanels second(view, planes, group + Groups - 1);
    Ahead ahead = to_touch;
    __m512i acc[Groups * 8];
    clear<Groups * 8>(acc);
    for (Index j = 0; j < width; j += 64) {
      const __m512i x_i8x64 = _mm512_load_si512(x + j);
      for (int g = 0; g < Groups; ++g)
        for (int k = 0; k < W; ++k)
          add_rows_up_to<W, 8 / W>(Codes::load(g == 0 ? first : second, j, d, k), x_i8x64,
                                   acc + g * 8 + k * (8 / W));
      for (int k = 0; k < (Groups * Codes::bits + 3) / 4; ++k) ahead.touch();
    }
    __m512i sums = rows_apart<W>(sums_of(acc));
    if constexpr (Codes::is_plane) sums = _mm512_sll_epi32(sums, _mm_cvtsi32_si128(planes[0].shift));
    store_sums<Groups, Add>(sums, out);
    to_touch = ahead;
  }

  template <int Groups, bool Add>
  ZIPML_INLINE_AVX512 static void store_sums(__m512i sums, std::int32_t* out) {
    const auto rows = static_cast<__mmask16>(Groups == 2 ? 0xffff : 0xff);
    if constexpr (Add) sums = _mm512_add_epi32(sums, _mm512_maskz_loadu_epi32(rows, out));
    _mm512_mask_storeu_epi32(out, rows, sums);
  }

  /// acc[r] += the fields of rows 0 .. r of each byte, times the model, for r < Rows.
  template <int W, int Rows>
  ZIPML_INLINE_AVX512 static void add_rows_up_to(__m512i bytes, __m512i x_i8x64, __m512i* acc) {
    if constexpr (Rows > 1) add_rows_up_to<W, Rows - 1>(bytes, x_i8x64, acc);
    const __m512i fields =
        Rows * W == 8 ? bytes
                      : _mm512_and_si512(bytes, _mm512_set1_epi8(static_cast<char>((1 << Rows * W) - 1)));
    acc[Rows - 1] = _mm512_dpbusd_epi32(acc[Rows - 1], fields, x_i8x64);
    // Keeps a sum in one register, where g++ 12 copies it around; with eight masks it has none to spare.
    if constexpr (W > 1) asm("" : "+v"(acc[Rows - 1]));
  }
  /// From the sums of rows 0 .. r of a byte to those of row r: less the one before, a multiple of 2^(W r).
  template <int W>
  ZIPML_INLINE_AVX512 static __m512i rows_apart(__m512i sums) {
    if constexpr (W == 8) return sums;
    const auto not_first = static_cast<__mmask16>(W == 1 ? 0xfefe : W == 2 ? 0xeeee : 0xaaaa);
    __m512i positions = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7);
    if constexpr (W == 2) positions = _mm512_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6, 0, 2, 4, 6, 0, 2, 4, 6);
    if constexpr (W == 4) positions = _mm512_setr_epi32(0, 4, 0, 4, 0, 4, 0, 4, 0, 4, 0, 4, 0, 4, 0, 4);
    const __m512i before = _mm512_alignr_epi32(sums, sums, 15);
    return _mm512_srav_epi32(_mm512_mask_sub_epi32(sums, not_first, sums, before), positions);
  }

  // ---- integer accumulation
  // --------------------------------------------------------------------------------------

  static constexpr Index chunk_groups = 64;
  static constexpr Index tile_blocks = 32;  ///< of 64 columns: 8 KB of sums

  /// First panels of up to chunk_groups groups.
  struct Panels {
    const std::uint8_t* group[chunk_groups];
    Panels(const PackedView& view, const Plane& plane, Index first, Index count) {
      for (Index g = 0; g < count; ++g) group[g] = view.group(plane, first + g);
    }
  };

  /// Four residuals of consecutive rows in every dword.
  ZIPML_INLINE_AVX512 static __m512i four_residuals(const std::int8_t* r) {
    int four;
    std::memcpy(&four, r, 4);
    return _mm512_set1_epi32(four);
  }

  /// multishift control: bytes 0 .. 3 take the fields of the first column, 4 .. 7 those of the next one.
  /// A column has `column_bits` bits in the qword and fields of `width` bits; `part` is a pair of columns.
  ZIPML_TARGET_AVX512 static __m512i field_control(int column_bits, int width, int part, int start = 0) {
    std::uint64_t control = 0;
    for (int byte = 0; byte < 8; ++byte) {
      const int column = 2 * part + byte / 4;
      control |= static_cast<std::uint64_t>((column * column_bits + byte % 4 * width + start) & 63)
                 << (8 * byte);
    }
    return _mm512_set1_epi64(static_cast<long long>(control));
  }

  /// Adds int32 sums of 64 columns to the gradient: qword q of acc[m] holds columns 8 q + 2 m and the next
  /// one.
  ZIPML_INLINE_AVX512 static void flush_pairs(const __m512i* acc, int shift, std::int32_t* gradient) {
    const __m512i lanes[4] = {_mm512_unpacklo_epi64(acc[0], acc[1]), _mm512_unpacklo_epi64(acc[2], acc[3]),
                              _mm512_unpackhi_epi64(acc[0], acc[1]), _mm512_unpackhi_epi64(acc[2], acc[3])};
    flush_lanes(lanes, shift, gradient);
  }
  /// The same where lane q of lanes[m] holds columns 16 q + 4 m .. 16 q + 4 m + 3.
  ZIPML_INLINE_AVX512 static void flush_lanes(const __m512i* lanes, int shift, std::int32_t* gradient) {
    const __m512i a = _mm512_shuffle_i32x4(lanes[0], lanes[1], 0x44);
    const __m512i b = _mm512_shuffle_i32x4(lanes[0], lanes[1], 0xee);
    const __m512i c = _mm512_shuffle_i32x4(lanes[2], lanes[3], 0x44);
    const __m512i d = _mm512_shuffle_i32x4(lanes[2], lanes[3], 0xee);
    const __m512i columns[4] = {_mm512_shuffle_i32x4(a, c, 0x88), _mm512_shuffle_i32x4(a, c, 0xdd),
                                _mm512_shuffle_i32x4(b, d, 0x88), _mm512_shuffle_i32x4(b, d, 0xdd)};
    const __m128i by = _mm_cvtsi32_si128(shift);
    for (int i = 0; i < 4; ++i) {
      void* to = gradient + 16 * i;
      _mm512_storeu_si512(to, _mm512_add_epi32(_mm512_loadu_si512(to), _mm512_sll_epi32(columns[i], by)));
    }
  }

  /// Adds what 64 columns of one group bring to the sums of even and of odd steps (two, so that additions do
  /// not wait for each other).
  template <class Codes>
  ZIPML_INLINE_AVX512 static void add_group(const detail::GroupPanels& panels, Index j, Index d,
                                            const std::int8_t* residuals, const __m512i* controls,
                                            __m512i (&acc)[2][4]) {
    if constexpr (Codes::width == 4) {
      const __m512i nibble = _mm512_set1_epi8(15);
      for (int k = 0; k < 2; ++k) {
        const __m512i a = Codes::load(panels, j, d, 2 * k);
        const __m512i b = Codes::load(panels, j, d, 2 * k + 1);
        const __m512i r = four_residuals(residuals + 4 * k);
        const __m512i halves[2] = {_mm512_unpacklo_epi8(a, b), _mm512_unpackhi_epi8(a, b)};
        for (int m = 0; m < 4; ++m) {
          const __m512i rows =
              _mm512_and_si512(_mm512_multishift_epi64_epi8(controls[m % 2], halves[m / 2]), nibble);
          acc[k][m] = _mm512_dpbusd_epi32(acc[k][m], rows, r);
        }
      }
    } else {
      for (int k = 0; k < 2; ++k) {
        __m512i row[4];
        for (int i = 0; i < 4; ++i) row[i] = Codes::load(panels, j, d, 4 * k + i);
        add_four_rows(row, four_residuals(residuals + 4 * k), acc[k]);
      }
    }
  }
  /// Bytes of 64 columns of four rows, times the rows' residuals: lane q of acc[m] takes columns 16 q + 4 m
  /// on.
  ZIPML_INLINE_AVX512 static void add_four_rows(const __m512i (&row)[4], __m512i r, __m512i (&acc)[4]) {
    const __m512i low01 = _mm512_unpacklo_epi8(row[0], row[1]);
    const __m512i low23 = _mm512_unpacklo_epi8(row[2], row[3]);
    const __m512i high01 = _mm512_unpackhi_epi8(row[0], row[1]);
    const __m512i high23 = _mm512_unpackhi_epi8(row[2], row[3]);
    acc[0] = _mm512_dpbusd_epi32(acc[0], _mm512_unpacklo_epi16(low01, low23), r);
    acc[1] = _mm512_dpbusd_epi32(acc[1], _mm512_unpackhi_epi16(low01, low23), r);
    acc[2] = _mm512_dpbusd_epi32(acc[2], _mm512_unpacklo_epi16(high01, high23), r);
    acc[3] = _mm512_dpbusd_epi32(acc[3], _mm512_unpackhi_epi16(high01, high23), r);
  }

  /// Sums of 64 columns in the order of add_group.
  template <int W>
  ZIPML_TARGET_AVX512 static void flush(const std::int32_t* tile, int shift, std::int32_t* gradient) {
    __m512i sums[4];
    for (int m = 0; m < 4; ++m) sums[m] = _mm512_load_si512(tile + 16 * m);
    if constexpr (W == 2) {
      flush_pairs(sums, shift, gradient);
    } else if constexpr (W == 4) {
      const __m512i lanes[4] = {
          _mm512_unpacklo_epi64(sums[0], sums[1]), _mm512_unpackhi_epi64(sums[0], sums[1]),
          _mm512_unpacklo_epi64(sums[2], sums[3]), _mm512_unpackhi_epi64(sums[2], sums[3])};
      flush_lanes(lanes, shift, gradient);
    } else {
      flush_lanes(sums, shift, gradient);
    }
  }

  template <class Codes>
  ZIPML_TARGET_AVX512 static void add_rows(const PackedView& view, const PlaneList& planes, GroupRange groups,
                                           const std::int8_t* residuals, std::int32_t* gradient) {
    constexpr int W = Codes::width;
    const int shift = Codes::is_plane ? planes[0].shift : 0;
    const Index width = view.width;
    const __m512i controls[2] = {field_control(16, 4, 0), field_control(16, 4, 1)};
    LookAhead ahead(view.ahead, view.codes);
    alignas(64) std::int32_t tile[4 * 16 * tile_blocks];
    for (Index begin = 0; begin < width; begin += 64 * tile_blocks) {
      const Index end = width - begin < 64 * tile_blocks ? width : begin + 64 * tile_blocks;
      Index g = 0;
      const auto add = [&](auto side_by_side) ZIPML_TARGET_AVX512 {
        for (; g + side_by_side <= groups.count; g += side_by_side)
          add_groups<Codes, side_by_side>(view, planes, groups.first + g, begin, end,
                                          residuals + g * group_rows, g == 0, controls, tile, ahead);
      };
      // Eight panels side by side; in short rows 16, which have fewer sums to bring and to take away.
      if constexpr (W == 4) {
        if (width <= short_row) add(std::integral_constant<Index, 4>{});
        add(std::integral_constant<Index, 2>{});
      }
      add(std::integral_constant<Index, 1>{});
      for (Index j = begin; j < end; j += 64) flush<W>(tile + (j - begin), shift, gradient + j);
    }
  }

  /// Adds `Count` groups side by side to the sums of columns [begin, end), or begins these.
  template <class Codes, Index Count>
  ZIPML_INLINE_AVX512 static void add_groups(const PackedView& view, const PlaneList& planes, Index group,
                                             Index begin, Index end, const std::int8_t* residuals, bool first,
                                             const __m512i* controls, std::int32_t* tile, Ahead& to_touch) {
    const Index d = view.layout.cols;
    detail::GroupPanels panels[Count];
    for (Index g = 0; g < Count; ++g) panels[g] = detail::GroupPanels(view, planes, group + g);
    Ahead ahead = to_touch;
    for (Index j = begin; j < end; j += 64) {
      std::int32_t* sums = tile + (j - begin);
      __m512i acc[2][4];
      for (int m = 0; m < 4; ++m) {
        acc[0][m] = first ? _mm512_setzero_si512() : _mm512_load_si512(sums + 16 * m);
        acc[1][m] = _mm512_setzero_si512();
      }
      for (Index g = 0; g < Count; ++g) {
        add_group<Codes>(panels[g], j, d, residuals + g * group_rows, controls, acc);
        for (int k = 0; k < Codes::bits / 2; ++k) ahead.touch();
      }
      for (int m = 0; m < 4; ++m) _mm512_store_si512(sums + 16 * m, _mm512_add_epi32(acc[0][m], acc[1][m]));
    }
    to_touch = ahead;
  }

  /// Planes of 1 and 2 bits: a nibble holds one column of 4 or 2 rows and indexes a table of their residuals'
  /// sums, so that one vpshufb multiplies and adds them for 64 columns. Two lookups are interleaved and added
  /// into int16. Budget: an entry is at most 4 * 31 or 2 * 3 * 21, a pair 252; 64 groups bring 64 or 128
  /// pairs.
  template <int W>
  ZIPML_TARGET_AVX512 static void add_table_rows(const PackedView& view, const Plane& plane,
                                                 GroupRange groups, const std::int8_t* residuals,
                                                 std::int32_t* gradient) {
    static_assert(4 * 31 <= 127 && 2 * 3 * 21 <= 127 && chunk_groups * W * 252 <= 32767);
    constexpr Index few = 8 / W;
    const Index d = view.layout.cols;
    const Index width = view.width;
    const Index side_by_side = width <= short_row ? chunk_groups : few;
    const __m512i nibble = _mm512_set1_epi8(15);
    const __m512i ones_u8x64 = _mm512_set1_epi8(1);
    alignas(64) std::int8_t tables[chunk_groups * W * 32];
    alignas(64) std::int16_t tile[64 * tile_blocks];
    LookAhead ahead(view.ahead, view.codes);
    for (Index first = 0; first < groups.count; first += chunk_groups) {
      const Index count = groups.count - first < chunk_groups ? groups.count - first : chunk_groups;
      for (Index half = 0; half < 2 * W * count; ++half)
        residual_table<W>(residuals + first * group_rows + half * (4 / W), tables + half * 16);
      for (Index begin = 0; begin < width; begin += 64 * tile_blocks) {
        const Index end = width - begin < 64 * tile_blocks ? width : begin + 64 * tile_blocks;
        for (Index g = 0; g < count; g += side_by_side) {
          const Index rows = count - g < side_by_side ? count - g : side_by_side;
          const std::uint8_t* panels[chunk_groups];
          for (Index k = 0; k < rows; ++k) panels[k] = view.group(plane, groups.first + first + g + k);
          const std::int8_t* table = tables + g * W * 32;
          const auto add = [&](Index together) ZIPML_TARGET_AVX512 {
            for (Index j = begin; j < end; j += 64) {
              std::int16_t* sums = tile + (j - begin);
              __m512i low = g == 0 ? _mm512_setzero_si512() : _mm512_load_si512(sums);
              __m512i high = g == 0 ? _mm512_setzero_si512() : _mm512_load_si512(sums + 32);
              for (Index k = 0; k < together; ++k) {
                for (int p = 0; p < W; ++p) {
                  const __m512i codes = load64(panels[k] + p * d + j);
                  const __m512i a =
                      _mm512_shuffle_epi8(table16(table + (k * W + p) * 32), _mm512_and_si512(codes, nibble));
                  const __m512i b =
                      _mm512_shuffle_epi8(table16(table + (k * W + p) * 32 + 16),
                                          _mm512_and_si512(_mm512_srli_epi16(codes, 4), nibble));
                  low = _mm512_add_epi16(low, _mm512_maddubs_epi16(ones_u8x64, _mm512_unpacklo_epi8(a, b)));
                  high = _mm512_add_epi16(high, _mm512_maddubs_epi16(ones_u8x64, _mm512_unpackhi_epi8(a, b)));
                }
                if (W == 2 || k % 2 == 0) ahead.touch();
              }
              _mm512_store_si512(sums, low);
              _mm512_store_si512(sums + 32, high);
            }
          };
          if (rows == few)
            add(few);
          else
            add(rows);
        }
        for (Index j = begin; j < end; j += 64) flush16(tile + (j - begin), plane.shift, gradient + j);
      }
    }
  }

  /// Adds int16 sums of 64 columns to the gradient: lane q of the first 32 holds columns 16 q .. 16 q + 7.
  ZIPML_TARGET_AVX512 static void flush16(const std::int16_t* sums, int shift, std::int32_t* gradient) {
    const __m512i low = _mm512_load_si512(sums), high = _mm512_load_si512(sums + 32);
    const __m512i sign_low = _mm512_srai_epi16(low, 15), sign_high = _mm512_srai_epi16(high, 15);
    const __m512i lanes[4] = {_mm512_unpacklo_epi16(low, sign_low), _mm512_unpackhi_epi16(low, sign_low),
                              _mm512_unpacklo_epi16(high, sign_high), _mm512_unpackhi_epi16(high, sign_high)};
    flush_lanes(lanes, shift, gradient);
  }

  ZIPML_INLINE_AVX512 static __m512i table16(const void* entries) {
    return _mm512_broadcast_i32x4(_mm_loadu_si128(static_cast<const __m128i*>(entries)));
  }

  // ---- integers, levels by a table of bytes
  // ----------------------------------------------------------------------------------

  /// The table for shuffles by a code in the low bits of a nibble, whatever the others are.
  template <int Bits>
  ZIPML_TARGET_AVX512 static __m512i entry_table(CodeTable table) {
    std::uint8_t entries[16];
    for (int n = 0; n < 16; ++n) entries[n] = table.entries[n & ((1 << Bits) - 1)];
    return table16(entries);
  }

  template <int Bits>
  ZIPML_TARGET_AVX512 static void table_margins(const PackedView& view, const PlaneList& planes,
                                                CodeTable table, GroupRange groups, const std::int8_t* x,
                                                std::int32_t* out) {
    const Index d = view.layout.cols;
    const Index width = view.width;
    const __m512i entries = entry_table<Bits>(table);
    const __m512i nibble = _mm512_set1_epi8(15);
    for (Index g = 0; g < groups.count; ++g, out += group_rows) {
      const std::uint8_t* wide = view.group(planes[0], groups.first + g);
      const std::uint8_t* bit = Bits == 3 ? view.group(planes[1], groups.first + g) : nullptr;
      __m512i acc[8];
      clear<8>(acc);
      for (Index j = 0; j < width; j += 64) {
        const __m512i x_i8x64 = _mm512_load_si512(x + j);
        const __m512i bits = Bits == 3 ? load64(bit + j) : _mm512_setzero_si512();
        for (int row = 0; row < 8; ++row) {
          constexpr int bits_of_row = Bits == 4 ? 4 : 2;
          constexpr int per_byte = 8 / bits_of_row;
          const __m512i codes = load64(wide + row / per_byte * d + j);
          const int position = row % per_byte * bits_of_row;
          __m512i index;
          if constexpr (Bits == 3) {
            // 0xca: the upper bits from the wide plane, bit 0 from the other one.
            const __m512i upper = position == 0
                                      ? _mm512_slli_epi16(codes, 1)
                                      : _mm512_srli_epi16(codes, static_cast<unsigned>(position - 1));
            index = _mm512_ternarylogic_epi32(
                _mm512_set1_epi8(1), _mm512_srli_epi16(bits, static_cast<unsigned>(row)), upper, 0xca);
          } else {
            index = _mm512_srli_epi16(codes, static_cast<unsigned>(position));
          }
          const __m512i levels = _mm512_shuffle_epi8(entries, _mm512_and_si512(index, nibble));
          acc[row] = _mm512_dpbusd_epi32(acc[row], levels, x_i8x64);
        }
      }
      _mm512_mask_storeu_epi32(out, 0xff, sums_of(acc));
    }
  }

  template <int Bits>
  ZIPML_TARGET_AVX512 static void add_entries(const PackedView& view, const PlaneList& planes,
                                              CodeTable table, GroupRange groups,
                                              const std::int8_t* residuals, std::int32_t* gradient) {
    const Index d = view.layout.cols;
    const Index width = view.width;
    const __m512i entries = entry_table<Bits>(table);
    const __m512i nibble = _mm512_set1_epi8(15);
    __m512i controls[4];
    __m512i bit_controls[2][4];
    for (int m = 0; m < 4; ++m) {
      controls[m] = Bits == 4 ? field_control(16, 4, m % 2) : field_control(8, 2, m, Bits == 3 ? -1 : 0);
      for (int k = 0; k < 2; ++k) bit_controls[k][m] = field_control(8, 1, m, 4 * k);
    }
    for (Index first = 0; first < groups.count; first += chunk_groups) {
      const Index count = groups.count - first < chunk_groups ? groups.count - first : chunk_groups;
      const Panels wide(view, planes[0], groups.first + first, count);
      const Panels bit(view, planes[Bits == 3 ? 1 : 0], groups.first + first, count);
      for (Index j = 0; j < width; j += 64) {
        __m512i acc[2][4];
        for (auto& half : acc)
          for (__m512i& a : half) a = _mm512_setzero_si512();
        for (Index g = 0; g < count; ++g)
          for (int k = 0; k < 2; ++k) {
            const __m512i r = four_residuals(residuals + (first + g) * group_rows + 4 * k);
            __m512i source[2];
            if constexpr (Bits == 4) {
              const __m512i a = load64(wide.group[g] + 2 * k * d + j);
              const __m512i b = load64(wide.group[g] + (2 * k + 1) * d + j);
              source[0] = _mm512_unpacklo_epi8(a, b);
              source[1] = _mm512_unpackhi_epi8(a, b);
            } else {
              source[0] = source[1] = load64(wide.group[g] + k * d + j);
            }
            const __m512i bits = Bits == 3 ? load64(bit.group[g] + j) : _mm512_setzero_si512();
            for (int m = 0; m < 4; ++m) {
              __m512i index = _mm512_multishift_epi64_epi8(controls[m], source[Bits == 4 ? m / 2 : 0]);
              if constexpr (Bits == 3)
                index = _mm512_ternarylogic_epi32(
                    _mm512_set1_epi8(1), _mm512_multishift_epi64_epi8(bit_controls[k][m], bits), index, 0xca);
              const __m512i levels = _mm512_shuffle_epi8(entries, _mm512_and_si512(index, nibble));
              acc[k][m] = _mm512_dpbusd_epi32(acc[k][m], levels, r);
            }
          }
        alignas(64) std::int32_t sums[64];
        for (int m = 0; m < 4; ++m) _mm512_store_si512(sums + 16 * m, _mm512_add_epi32(acc[0][m], acc[1][m]));
        flush<Bits == 4 ? 4 : 2>(sums, 0, gradient + j);
      }
    }
  }

  // ---- the same for codes of 5 to 8 bits: tables of 64 bytes in each register
  // ----------------------------------------------------------------------------------

  /// 1, 2 or 4 registers of 64 entries; codes that the table lacks, of another panel, find its last entry.
  template <int Bits>
  struct WideTable {
    static constexpr int registers = Bits <= 6 ? 1 : Bits == 7 ? 2 : 4;
    ZIPML_TARGET_AVX512 explicit WideTable(CodeTable table) {
      std::uint8_t entries[64 * registers];
      for (int k = 0; k < 64 * registers; ++k)
        entries[k] = table.entries[k < table.count ? k : table.count - 1];
      for (int k = 0; k < registers; ++k) part[k] = load64(entries + 64 * k);
    }
    __m512i part[registers];
  };

  template <int Bits>
  ZIPML_INLINE_AVX512 static __m512i look_up(const __m512i* part, __m512i codes) {
    if constexpr (Bits <= 6) {
      return _mm512_permutexvar_epi8(codes, part[0]);
    } else if constexpr (Bits == 7) {
      return _mm512_permutex2var_epi8(part[0], codes, part[1]);
    } else {
      const __m512i low = _mm512_permutex2var_epi8(part[0], codes, part[1]);
      const __m512i high = _mm512_permutex2var_epi8(part[2], codes, part[3]);
      return _mm512_mask_blend_epi8(_mm512_movepi8_mask(codes), low, high);
    }
  }

  /// The table's entries for 64 columns of a row.
  template <int Bits>
  ZIPML_INLINE_AVX512 static __m512i row_entries(const detail::GroupPanels& panels, Index j, Index d, int row,
                                                 const __m512i* part) {
    if constexpr (Bits == 8)
      return look_up<8>(part, PlaneCodes<8>::load(panels, j, d, row));
    else
      return look_up<Bits>(part, JoinedCodes<Bits, false>::load(panels, j, d, row));
  }

  template <int Bits>
  ZIPML_TARGET_AVX512 static void wide_table_margins(const PackedView& view, const PlaneList& planes,
                                                     CodeTable table, GroupRange groups, const std::int8_t* x,
                                                     std::int32_t* out) {
    const Index d = view.layout.cols;
    const WideTable<Bits> entries(table);
    LookAhead ahead(view.ahead, view.codes);
    for (Index g = 0; g < groups.count; ++g, out += group_rows) {
      const detail::GroupPanels panels(view, planes, groups.first + g);
      __m512i acc[8];
      clear<8>(acc);
      for (Index j = 0; j < view.width; j += 64) {
        const __m512i x_i8x64 = _mm512_load_si512(x + j);
        for (int row = 0; row < 8; ++row)
          acc[row] =
              _mm512_dpbusd_epi32(acc[row], row_entries<Bits>(panels, j, d, row, entries.part), x_i8x64);
        for (int k = 0; k < Bits; ++k) ahead.touch();
      }
      _mm512_mask_storeu_epi32(out, 0xff, sums_of(acc));
    }
  }

  /// Entries are bytes of codes of 8 bits: what add_group does with those.
  template <int Bits>
  ZIPML_TARGET_AVX512 static void add_wide_entries(const PackedView& view, const PlaneList& planes,
                                                   CodeTable table, GroupRange groups,
                                                   const std::int8_t* residuals, std::int32_t* gradient) {
    const Index d = view.layout.cols;
    const WideTable<Bits> entries(table);
    LookAhead ahead(view.ahead, view.codes);
    for (Index g = 0; g < groups.count; ++g, residuals += group_rows) {
      const detail::GroupPanels panels(view, planes, groups.first + g);
      const __m512i r[2] = {four_residuals(residuals), four_residuals(residuals + 4)};
      for (Index j = 0; j < view.width; j += 64) {
        __m512i acc[4];
        clear<4>(acc);
        for (int k = 0; k < 2; ++k) {
          __m512i row[4];
          for (int i = 0; i < 4; ++i) row[i] = row_entries<Bits>(panels, j, d, 4 * k + i, entries.part);
          add_four_rows(row, r[k], acc);
        }
        flush_lanes(acc, 0, gradient + j);
        for (int k = 0; k < Bits; ++k) ahead.touch();
      }
    }
  }

  // ---- float model
  // -----------------------------------------------------------------------------------------------

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

  /// Width: that of a code that is one plane, or 0.
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
  // ----------------------------------------------------------------------------------

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
  // ----------------------------------------------------------------------------------------------

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

static_assert(KernelPolicy<Avx512Kernels>);

}  // namespace zipml::inline ZIPML_ABI

#endif  // ZIPML_X86
