#pragma once
/// \file
/// Room kernels: integer model and residuals in AVX2 where a code stands for its entry in a table of bytes
/// that all columns share: shuffles for 2 to 4 bits, several of them for 5 to 8, loads for what is left.

#include <zipml/base/index.hpp>
#include <zipml/kernels/avx2_integers.hpp>

#if ZIPML_X86

#include <algorithm>

namespace zipml::inline ZIPML_ABI {

/// The same with a CodeTable, over Avx2Integers.
struct Avx2Tables : Avx2Integers {
 protected:
  // ---- codes of 2 to 4 bits

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

  // ---- codes of 5 to 8 bits: 2 to 16 tables of 16 entries

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

  // ---- all other codes: 1 bit, draw planes

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
};

}  // namespace zipml::inline ZIPML_ABI

#endif  // ZIPML_X86
