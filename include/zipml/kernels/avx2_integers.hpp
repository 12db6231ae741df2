#pragma once
/// \file
/// Room kernels: integer model and residuals in AVX2: exact margins, exact accumulation, for codes that stand
/// for themselves. The instructions are listed in avx2.hpp.

#include <zipml/base/index.hpp>
#include <zipml/kernels/avx2_codes.hpp>

#if ZIPML_X86

#include <cstring>

namespace zipml::inline ZIPML_ABI {

/// Margins and accumulation of integers, over Avx2Codes.
struct Avx2Integers : Avx2Codes {
 protected:
  // ---- integer margins

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

  /// Of W models, for W = 2 and 4: bytes of 8 / W rows are taken apart once for all of them, which makes eight sums.
  template <int W>
  ZIPML_TARGET_AVX2 static void add_margins_of_models(const PackedView& view, const Plane& plane,
                                                      GroupRange groups, ModelBlock<const std::int8_t> models,
                                                      ModelBlock<std::int32_t> out) {
    static_assert(W == 2 || W == 4);
    constexpr int per_byte = 8 / W;
    constexpr Index segment = 32 * margin_budget<W>;
    const Index d = view.layout.cols;
    const Index width = view.width;
    const __m256i ones_i16x16 = _mm256_set1_epi16(1);
    const std::int8_t* x[W];
    for (int m = 0; m < W; ++m) x[m] = models[m];
    LookAhead ahead(view.ahead, view.codes);
    for (Index g = 0; g < groups.count; ++g)
      for (int k = 0; k < W; ++k) {
        const std::uint8_t* panel = view.group(plane, groups.first + g) + k * d;
        __m256i acc_i32x8[8];
        for (__m256i& acc : acc_i32x8) acc = _mm256_setzero_si256();
        for (Index begin = 0; begin < width; begin += segment) {
          const Index end = begin + segment < width ? begin + segment : width;
          __m256i acc_i16x16[8];
          for (__m256i& acc : acc_i16x16) acc = _mm256_setzero_si256();
          for (Index j = begin; j < end; j += 32) {
            const __m256i codes_u8x32 = load32(panel + j);
            const __m256i nibbles[2] = {codes_u8x32, _mm256_srli_epi16(codes_u8x32, 4)};
            for (int r = 0; r < per_byte; ++r) {
              const int position = W == 2 ? r % 2 * 2 : 0;
              const __m256i mask = _mm256_set1_epi8(static_cast<char>(((1 << W) - 1) << position));
              const __m256i bits = _mm256_and_si256(nibbles[r * W / 4], mask);
              for (int m = 0; m < W; ++m) {
                const __m256i x_i8x32 = _mm256_load_si256(reinterpret_cast<const __m256i*>(x[m] + j));
                __m256i& sum = acc_i16x16[m * per_byte + r];
                sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(bits, x_i8x32));
              }
            }
          }
          for (int r = 0; r < 8; ++r)
            acc_i32x8[r] = _mm256_add_epi32(acc_i32x8[r], _mm256_madd_epi16(acc_i16x16[r], ones_i16x16));
        }
        const __m256i positions = W == 2 ? _mm256_setr_epi32(0, 2, 0, 2, 0, 2, 0, 2) : _mm256_setzero_si256();
        const __m256i sums = _mm256_srav_epi32(row_sums(acc_i32x8), positions);
        add_sums_of_models<W>(sums, plane.shift, out, g * group_rows + k * per_byte);
        ahead.touch(width / 64);
      }
  }
  /// Adds sums of 8 / W rows from `row` on of each of W models.
  template <int W>
  ZIPML_TARGET_AVX2 static void add_sums_of_models(__m256i sums, int shift, ModelBlock<std::int32_t> out,
                                                   Index row) {
    constexpr int rows = 8 / W;
    alignas(32) std::int32_t shifted[8];
    _mm256_store_si256(reinterpret_cast<__m256i*>(shifted), _mm256_sll_epi32(sums, _mm_cvtsi32_si128(shift)));
    for (int m = 0; m < W; ++m)
      for (int r = 0; r < rows; ++r) out[m][row + r] += shifted[m * rows + r];
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

  // ---- integer accumulation

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

  /// The same of several models: rows are put side by side once for all of them. Two groups at a time, over tiles of 1,024
  /// columns, whose sums in int16 are 2 KB a model.
  template <int Models>
  ZIPML_TARGET_AVX2 static void add_rows4_of_models(const PackedView& view, const Plane& plane,
                                                    GroupRange groups,
                                                    ModelBlock<const std::int8_t> residuals,
                                                    ModelBlock<std::int32_t> gradients) {
    constexpr Index budget_groups = 8;
    constexpr Index columns = 1024;
    static_assert(budget_groups * 4 * 2 * 15 * 31 <= 32767);
    const Index d = view.layout.cols;
    const Index width = view.width;
    const __m256i nibble = _mm256_set1_epi8(15);
    LookAhead ahead(view.ahead, view.codes);
    alignas(32) std::int16_t tile[Models * columns];
    for (Index first = 0; first < groups.count; first += budget_groups) {
      const Index count = groups.count - first < budget_groups ? groups.count - first : budget_groups;
      // The residuals of two rows, twice: a dword, which loads broadcast.
      std::int32_t pairs[4 * budget_groups][Models];
      for (Index k = 0; k < 4 * count; ++k)
        for (int m = 0; m < Models; ++m) {
          std::uint16_t pair;
          std::memcpy(&pair, residuals[m] + first * group_rows + 2 * k, 2);
          pairs[k][m] = static_cast<std::int32_t>(std::uint32_t{pair} | std::uint32_t{pair} << 16);
        }
      for (Index begin = 0; begin < width; begin += columns) {
        const Index end = width - begin < columns ? width : begin + columns;
        for (Index g = 0; g < count; g += 2) {
          const Index together = count - g < 2 ? count - g : 2;
          const std::uint8_t* const panels[2] = {view.group(plane, groups.first + first + g),
                                                 view.group(plane, groups.first + first + g + together - 1)};
          for (Index j = begin; j < end; j += 32) {
            __m256i* sums = reinterpret_cast<__m256i*>(tile + Models * (j - begin));
            __m256i acc[Models][2];
            for (int m = 0; m < Models; ++m)
              for (int half = 0; half < 2; ++half)
                acc[m][half] = g == 0 ? _mm256_setzero_si256() : _mm256_load_si256(sums + 2 * m + half);
            for (Index of = 0; of < together; ++of) {
              for (int k = 0; k < 4; ++k) {
                const __m256i codes = load32(panels[of] + k * d + j);
                const __m256i a = _mm256_and_si256(codes, nibble);
                const __m256i b = _mm256_and_si256(_mm256_srli_epi16(codes, 4), nibble);
                const __m256i low = _mm256_unpacklo_epi8(a, b), high = _mm256_unpackhi_epi8(a, b);
                for (int m = 0; m < Models; ++m) {
                  const __m256i factors = _mm256_set1_epi32(pairs[4 * (g + of) + k][m]);
                  acc[m][0] = _mm256_add_epi16(acc[m][0], _mm256_maddubs_epi16(low, factors));
                  acc[m][1] = _mm256_add_epi16(acc[m][1], _mm256_maddubs_epi16(high, factors));
                }
              }
              for (int k = 0; k < 2; ++k) ahead.touch();
            }
            for (int m = 0; m < Models; ++m)
              for (int half = 0; half < 2; ++half) _mm256_store_si256(sums + 2 * m + half, acc[m][half]);
          }
        }
        for (Index j = begin; j < end; j += 32)
          for (int m = 0; m < Models; ++m) {
            const __m256i* sums = reinterpret_cast<const __m256i*>(tile + Models * (j - begin)) + 2 * m;
            flush(_mm256_load_si256(sums), _mm256_load_si256(sums + 1), plane.shift, gradients[m] + j);
          }
      }
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
};

}  // namespace zipml::inline ZIPML_ABI

#endif  // ZIPML_X86
