#pragma once
/// \file
/// Room kernels: integer model and residuals in AVX-512: exact margins, exact accumulation, for codes that
/// stand for themselves.
///
/// Margins: bytes are multiplied with the bits of the first row, of the first two, and so on, up to all of
/// them, which need no mask; sums are told apart at the end, by differences and a shift. vpdpbusd multiplies
/// by int8 without intermediate saturation, so that this needs no more room than |sum| <= 255 * 127 * d <
/// 2^31.
///
/// Accumulation of planes of 4 and 8 bits: four rows' codes of a column side by side in a dword, times the
/// four residuals, into int32: no table, no budget of int16, no bound on the residuals but int8. Planes of 1
/// and 2 bits hold four and two rows in a nibble and look up their residuals' sum, which is a fifth faster at
/// 2 bits. Eight panels are read side by side, like eight streams, over a tile of columns whose sums stay in
/// the first-level cache: columns outside and all rows inside need no sums in memory, but at d = 4,096 their
/// lines fall into one set of the cache, and half the speed is lost.

#include <zipml/base/index.hpp>
#include <zipml/kernels/avx512_codes.hpp>

#if ZIPML_X86

#include <cstring>
#include <type_traits>

namespace zipml::inline ZIPML_ABI {

/// Margins and accumulation of integers, over Avx512Codes.
struct Avx512Integers : Avx512Codes {
 protected:
  // ---- integer margins

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
    const ModelBlock<const std::int8_t> model{x};
    LookAhead ahead(view.ahead, view.codes);
    Index g = 0;
    for (; g + 2 <= groups.count; g += 2, out += 2 * group_rows)
      group_margins<Codes, 2, 1, Add>(view, planes, groups.first + g, model, {out}, ahead);
    if (g < groups.count)
      group_margins<Codes, 1, 1, Add>(view, planes, groups.first + g, model, {out}, ahead);
  }

  /// Of several models: two of them at a time, so that codes are loaded and put together once for both.
  template <class Codes, bool Add>
  ZIPML_TARGET_AVX512 static void code_margins(const PackedView& view, const PlaneList& planes,
                                               GroupRange groups, ModelBlock<const std::int8_t> models,
                                               ModelBlock<std::int32_t> out) {
    PackedView again = view;
    int m = 0;
    for (; m + 2 <= models.count; m += 2) {
      LookAhead ahead(again.ahead, again.codes);
      for (Index g = 0; g < groups.count; ++g)
        group_margins<Codes, 1, 2, Add>(again, planes, groups.first + g, {models[m], models.stride, 2},
                                        {out[m] + g * group_rows, out.stride, 2}, ahead);
      again.ahead = nullptr;
    }
    if (m < models.count) code_margins<Codes, Add>(again, planes, groups, models[m], out[m]);
  }

  /// Of two groups, or of one group and two models: 16 sums.
  template <class Codes, int Groups, int Models, bool Add>
  ZIPML_TARGET_AVX512 static void group_margins(const PackedView& view, const PlaneList& planes, Index group,
                                                ModelBlock<const std::int8_t> models,
                                                ModelBlock<std::int32_t> out, Ahead& to_touch) {
    static_assert(Groups == 1 || Models == 1);
    constexpr int W = Codes::width;
    const Index d = view.layout.cols;
    const Index width = view.width;
    const detail::GroupPanels first(view, planes, group);
    const detail::GroupPanels second(view, planes, group + Groups - 1);
    const std::int8_t* const x0 = models[0];
    const std::int8_t* const x1 = models[Models - 1];
    Ahead ahead = to_touch;
    __m512i acc[Groups * Models * 8];
    clear<Groups * Models * 8>(acc);
    for (Index j = 0; j < width; j += 64) {
      const __m512i x_i8x64[2] = {_mm512_load_si512(x0 + j), _mm512_load_si512(x1 + j)};
      for (int g = 0; g < Groups; ++g)
        for (int k = 0; k < W; ++k) {
          __m512i codes = Codes::load(g == 0 ? first : second, j, d, k);
          // One load: g++ 12 makes one of every use, and panels are not aligned, so that most of them touch two lines.
          asm("" : "+v"(codes));
          add_rows_up_to<W, 8 / W, Models>(codes, x_i8x64, acc + g * 8 + k * (8 / W));
        }
      for (int k = 0; k < (Groups * Codes::bits + 3) / 4; ++k) ahead.touch();
    }
    __m512i sums = rows_apart<W>(sums_of(acc));
    if constexpr (Codes::is_plane) sums = _mm512_sll_epi32(sums, _mm_cvtsi32_si128(planes[0].shift));
    store_sums<Groups, Add>(sums, out[0]);
    if constexpr (Models == 2) store_sums<1, Add>(_mm512_shuffle_i32x4(sums, sums, 0xee), out[1]);
    to_touch = ahead;
  }

  template <int Groups, bool Add>
  ZIPML_INLINE_AVX512 static void store_sums(__m512i sums, std::int32_t* out) {
    const auto rows = static_cast<__mmask16>(Groups == 2 ? 0xffff : 0xff);
    if constexpr (Add) sums = _mm512_add_epi32(sums, _mm512_maskz_loadu_epi32(rows, out));
    _mm512_mask_storeu_epi32(out, rows, sums);
  }

  /// acc[r] += the fields of rows 0 .. r of each byte, times the model, for r < Rows; acc[8 + r] likewise of a second
  /// model.
  template <int W, int Rows, int Models>
  ZIPML_INLINE_AVX512 static void add_rows_up_to(__m512i bytes, const __m512i (&x_i8x64)[2], __m512i* acc) {
    if constexpr (Rows > 1) add_rows_up_to<W, Rows - 1, Models>(bytes, x_i8x64, acc);
    const __m512i fields =
        Rows * W == 8 ? bytes
                      : _mm512_and_si512(bytes, _mm512_set1_epi8(static_cast<char>((1 << Rows * W) - 1)));
    for (int m = 0; m < Models; ++m) {
      __m512i& sum = acc[8 * m + Rows - 1];
      sum = _mm512_dpbusd_epi32(sum, fields, x_i8x64[m]);
      // Keeps a sum in one register, where g++ 12 copies it around; with eight masks it has none to spare.
      if constexpr (W > 1) asm("" : "+v"(sum));
    }
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
  /// Four bytes of a column side by side, of 64 columns: lane q of out[m] holds columns 16 q + 4 m on.
  ZIPML_INLINE_AVX512 static void dwords_of(const __m512i (&bytes)[4], __m512i (&out)[4]) {
    const __m512i low01 = _mm512_unpacklo_epi8(bytes[0], bytes[1]);
    const __m512i low23 = _mm512_unpacklo_epi8(bytes[2], bytes[3]);
    const __m512i high01 = _mm512_unpackhi_epi8(bytes[0], bytes[1]);
    const __m512i high23 = _mm512_unpackhi_epi8(bytes[2], bytes[3]);
    out[0] = _mm512_unpacklo_epi16(low01, low23);
    out[1] = _mm512_unpackhi_epi16(low01, low23);
    out[2] = _mm512_unpacklo_epi16(high01, high23);
    out[3] = _mm512_unpackhi_epi16(high01, high23);
  }
  /// Bytes of 64 columns of four rows, times the rows' residuals, in the order of dwords_of.
  ZIPML_INLINE_AVX512 static void add_four_rows(const __m512i (&row)[4], __m512i r, __m512i (&acc)[4]) {
    __m512i four[4];
    dwords_of(row, four);
    for (int m = 0; m < 4; ++m) acc[m] = _mm512_dpbusd_epi32(acc[m], four[m], r);
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

  /// Of several models, up to four of them at a time, so that codes are told apart once for all: a dword is made of four
  /// bytes of a column, whose fields are multiplied with the residuals of their rows. A model alone pays more for the
  /// dwords than for the products.
  template <class Codes>
  ZIPML_TARGET_AVX512 static void add_rows(const PackedView& view, const PlaneList& planes, GroupRange groups,
                                           ModelBlock<const std::int8_t> residuals,
                                           ModelBlock<std::int32_t> gradients) {
    PackedView again = view;
    int m = 0;
    const auto add = [&](auto count) ZIPML_TARGET_AVX512 {
      for (; m + count() <= residuals.count; m += count()) {
        add_rows_of_models<Codes, count()>(again, planes, groups, {residuals[m], residuals.stride},
                                           {gradients[m], gradients.stride});
        again.ahead = nullptr;
      }
    };
    add(std::integral_constant<int, 4>{});
    add(std::integral_constant<int, 3>{});
    add(std::integral_constant<int, 2>{});
    add(std::integral_constant<int, 1>{});
  }

  static constexpr Index shared_tile_blocks = 16;  ///< of 64 columns: 4 KB of sums for each model

  template <class Codes, int Models>
  ZIPML_TARGET_AVX512 static void add_rows_of_models(const PackedView& view, const PlaneList& planes,
                                                     GroupRange groups,
                                                     ModelBlock<const std::int8_t> residuals,
                                                     ModelBlock<std::int32_t> gradients) {
    using Units = UnitsOf<Codes>;
    constexpr Index columns = 64 * shared_tile_blocks;
    const int shift = Codes::is_plane ? planes[0].shift : 0;
    const Index width = view.width;
    LookAhead ahead(view.ahead, view.codes);
    alignas(64) std::int32_t tile[Models * columns];
    for (Index begin = 0; begin < width; begin += columns) {
      const Index end = width - begin < columns ? width : begin + columns;
      for (Index g = 0; g < groups.count; g += Units::side_by_side) {
        const Index left = groups.count - g;
        add_units<Codes, Models>(
            view, planes, {groups.first + g, left < Units::side_by_side ? left : Units::side_by_side}, begin,
            end, {residuals[0] + g * group_rows, residuals.stride}, g == 0, tile, ahead);
      }
      for (int m = 0; m < Models; ++m)
        for (Index j = begin; j < end; j += 64)
          flush_lanes(tile + Models * (j - begin) + 64 * m, shift, gradients[m] + j);
    }
  }

  /// How dwords are made: bytes of four rows (8 bits), of a group (4 bits) or of two groups (2 bits), of which a unit
  /// makes `dwords`, each with `phases` fields in a byte.
  template <class Codes>
  struct UnitsOf {
    static constexpr int width = Codes::width;
    static constexpr Index groups = width == 2 ? 2 : 1;
    static constexpr Index count = 4;
    static constexpr Index side_by_side = count * groups;
    static constexpr int dwords = width == 8 ? 2 : 1;
    static constexpr int phases = 8 / width;
    /// The rows of the fields: of the four bytes in the first phase, in the next one, and in the dword after it.
    ZIPML_INLINE_AVX512 static __m128i order() {
      if (width == 2) return _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
      if (width == 4) return _mm_setr_epi8(0, 2, 4, 6, 1, 3, 5, 7, 8, 8, 8, 8, 8, 8, 8, 8);
      return _mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 8, 8, 8, 8, 8, 8, 8);
    }
  };

  /// Adds four units side by side to the sums of columns [begin, end), or begins these. The sums of 64 columns of a model
  /// stand in the order of dwords_of, those of all models behind each other. Groups that are missing repeat the last one,
  /// with residuals 0.
  template <class Codes, int Models>
  ZIPML_INLINE_AVX512 static void add_units(const PackedView& view, const PlaneList& planes,
                                            GroupRange groups, Index begin, Index end,
                                            ModelBlock<const std::int8_t> residuals, bool first,
                                            std::int32_t* tile, Ahead& to_touch) {
    using Units = UnitsOf<Codes>;
    const Index d = view.layout.cols;
    detail::GroupPanels panels[Units::side_by_side];
    for (Index g = 0; g < Units::side_by_side; ++g)
      panels[g] = detail::GroupPanels(view, planes, groups.first + (g < groups.count ? g : groups.count - 1));
    alignas(16) std::int32_t factors[Units::count][Models][4];
    const __m128i order = Units::order();
    for (Index u = 0; u < Units::count; ++u) {
      const Index before = u * Units::groups;
      const Index present = groups.count - before < Units::groups ? groups.count - before : Units::groups;
      const auto rows = static_cast<__mmask16>(present == 2 ? 0xffff : present == 1 ? 0xff : 0);
      for (int m = 0; m < Models; ++m) {
        const __m128i of_unit = _mm_maskz_loadu_epi8(rows, residuals[m] + before * group_rows);
        _mm_store_si128(reinterpret_cast<__m128i*>(factors[u][m]), _mm_shuffle_epi8(of_unit, order));
      }
    }
    Ahead ahead = to_touch;
    for (Index j = begin; j < end; j += 64) {
      std::int32_t* sums = tile + Models * (j - begin);
      __m512i acc[Models][4];
      for (int m = 0; m < Models; ++m)
        for (int q = 0; q < 4; ++q)
          acc[m][q] = first ? _mm512_setzero_si512() : _mm512_load_si512(sums + 64 * m + 16 * q);
      // Factors are broadcast anew: hoisted out of the loop, they are more than there are registers.
      const auto* of_units = &factors[0];
      asm("" : "+r"(of_units));
      add_unit<Codes, Models>(panels, j, d, of_units[0], acc);
      add_unit<Codes, Models>(panels + Units::groups, j, d, of_units[1], acc);
      add_unit<Codes, Models>(panels + 2 * Units::groups, j, d, of_units[2], acc);
      add_unit<Codes, Models>(panels + 3 * Units::groups, j, d, of_units[3], acc);
      for (int k = 0; k < Units::groups * Codes::bits; ++k) ahead.touch();
      for (int m = 0; m < Models; ++m)
        for (int q = 0; q < 4; ++q) _mm512_store_si512(sums + 64 * m + 16 * q, acc[m][q]);
    }
    to_touch = ahead;
  }

  template <class Codes, int Models>
  ZIPML_INLINE_AVX512 static void add_unit(const detail::GroupPanels* panels, Index j, Index d,
                                           const std::int32_t (&factors)[Models][4],
                                           __m512i (&acc)[Models][4]) {
    using Units = UnitsOf<Codes>;
    constexpr int W = Codes::width;
    const __m512i mask = _mm512_set1_epi8(static_cast<char>((1 << W) - 1));
    for (int k = 0; k < Units::dwords; ++k) {
      __m512i bytes[4], dwords[4];
      for (int i = 0; i < 4; ++i) {
        bytes[i] = Codes::load(panels[W == 2 ? i / 2 : 0], j, d, W == 2 ? i % 2 : 4 * k + i);
        asm("" : "+v"(bytes[i]));  // one load, as in group_margins
      }
      dwords_of(bytes, dwords);
      for (int phase = 0; phase < Units::phases; ++phase) {
        __m512i factor[Models];
        for (int m = 0; m < Models; ++m) factor[m] = _mm512_set1_epi32(factors[m][k * Units::phases + phase]);
        for (int q = 0; q < 4; ++q) {
          __m512i fields =
              phase == 0 ? dwords[q] : _mm512_srli_epi16(dwords[q], static_cast<unsigned>(phase * W));
          if constexpr (W < 8) fields = _mm512_and_si512(fields, mask);
          for (int m = 0; m < Models; ++m) {
            acc[m][q] = _mm512_dpbusd_epi32(acc[m][q], fields, factor[m]);
            asm("" : "+v"(acc[m][q]));  // as in add_rows_up_to
          }
        }
      }
    }
  }

  /// Sums of 64 columns in the order of dwords_of.
  ZIPML_TARGET_AVX512 static void flush_lanes(const std::int32_t* sums, int shift, std::int32_t* gradient) {
    const __m512i lanes[4] = {_mm512_load_si512(sums), _mm512_load_si512(sums + 16),
                              _mm512_load_si512(sums + 32), _mm512_load_si512(sums + 48)};
    flush_lanes(lanes, shift, gradient);
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
};

}  // namespace zipml::inline ZIPML_ABI

#endif  // ZIPML_X86
