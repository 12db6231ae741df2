#pragma once
/// \file
/// Room kernels: integer model and residuals in AVX-512 where a code stands for its entry in a table of bytes
/// that all columns share.

#include <zipml/base/index.hpp>
#include <zipml/kernels/avx512_integers.hpp>

#if ZIPML_X86

namespace zipml::inline ZIPML_ABI {

/// The same with a CodeTable, over Avx512Integers.
struct Avx512Tables : Avx512Integers {
 protected:
  // ---- codes of 2 to 4 bits

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

  // ---- codes of 5 to 8 bits: tables of 64 bytes in each register

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
};

}  // namespace zipml::inline ZIPML_ABI

#endif  // ZIPML_X86
