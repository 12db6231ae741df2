#pragma once
/// \file
/// Room kernels: the Gram matrix of codes in AVX2: four rows of eight columns by those of one, by one of three
/// products, the first that has room for the largest value:
///
///     values    product                                   instructions for 32 products
///     to 31     maddubs into int16 sums, widened after    2, and 4 now and then
///               as many steps as fit
///     to 127    maddubs, madd with 1 into int32           3
///     to 255    madd of int16 into int32                  4
///
/// A pair of maddubs is 2 * 127^2 = 32,258 at most, which fits int16. Tiles of 4 rows and 16 columns keep 8 sums in
/// the 16 registers.

#include <zipml/kernels/avx2_floats.hpp>
#include <zipml/kernels/gram.hpp>

#if ZIPML_X86

namespace zipml::inline ZIPML_ABI {

/// The Gram matrix, over Avx2Floats. See gram.hpp for the contract.
struct Avx2Gram : Avx2Floats {
  static void gram(const PackedView& view, const PlaneList& planes, CodeTable table, GroupRange groups,
                   GramSums out) {
    if (detail::largest_code(planes) > 255)  // codes are decoded to bytes
      return detail::gram_plainly(view, planes, table, groups, out);
    const int largest = detail::largest_value(planes, table);
    if (largest <= 31) return gram_by(NarrowProducts{short_steps(largest)}, view, planes, table, groups, out);
    if (largest <= 127) return gram_by(ByteProducts{}, view, planes, table, groups, out);
    gram_by(WideProducts{}, view, planes, table, groups, out);
  }

 protected:
  template <class Engine>
  static void gram_by(const Engine& engine, const PackedView& view, const PlaneList& planes, CodeTable table,
                      GroupRange groups, GramSums out) {
    detail::GramInPanels<Engine>(engine, view.width).add(view, planes, table, groups, out);
  }

  // ---- codes to panels

  /// How the bits of each row of a group come from the bytes of a plane to their place in the code: two shifts, one
  /// of them by 0.
  struct RowShifts {
    int right[max_planes][group_rows];
    int left[max_planes][group_rows];
    int mask[max_planes];
    Index panel[max_planes][group_rows];  // offset in bytes
    RowShifts(const PlaneList& planes, Index d) {
      for (int p = 0; p < planes.count; ++p) {
        mask[p] = ((1 << planes[p].width) - 1) << planes[p].shift;
        for (int row = 0; row < group_rows; ++row) {
          const int bit = row * planes[p].width;
          const int by = bit % 8 - planes[p].shift;
          right[p][row] = by > 0 ? by : 0;
          left[p][row] = by < 0 ? -by : 0;
          panel[p][row] = bit / 8 * d;
        }
      }
    }
  };

  template <int Planes>
  ZIPML_INLINE_AVX2 static __m256i panel_codes(const detail::GroupPanels& panels, const RowShifts& shifts,
                                               int row, Index j) {
    __m256i codes = _mm256_setzero_si256();
    for (int p = 0; p < Planes; ++p) {
      const __m256i bytes = load32(panels.plane[p] + shifts.panel[p][row] + j);
      const __m256i moved = _mm256_sll_epi16(_mm256_srl_epi16(bytes, _mm_cvtsi32_si128(shifts.right[p][row])),
                                             _mm_cvtsi32_si128(shifts.left[p][row]));
      codes = _mm256_add_epi8(codes,
                              _mm256_and_si256(moved, _mm256_set1_epi8(static_cast<char>(shifts.mask[p]))));
    }
    return codes;
  }

  /// Four registers that hold, in each half, the quarters of a block's line, to the lines of two blocks.
  ZIPML_INLINE_AVX2 static void store_lines(__m256i q0, __m256i q1, __m256i q2, __m256i q3,
                                            std::uint8_t* line, Index block_bytes) {
    const auto store = [](std::uint8_t* to, __m256i v)
                           ZIPML_TARGET_AVX2 { _mm256_store_si256(reinterpret_cast<__m256i*>(to), v); };
    store(line, _mm256_permute2x128_si256(q0, q1, 0x20));
    store(line + 32, _mm256_permute2x128_si256(q2, q3, 0x20));
    store(line + block_bytes, _mm256_permute2x128_si256(q0, q1, 0x31));
    store(line + block_bytes + 32, _mm256_permute2x128_si256(q2, q3, 0x31));
  }

  /// 32 columns of 4 rows, as bytes: a step of two blocks; as int16: two of them.
  template <bool Wide>
  ZIPML_INLINE_AVX2 static void store_rows(__m256i a, __m256i b, __m256i c, __m256i d, std::uint8_t* line,
                                           Index block_bytes) {
    const __m256i ab_low = _mm256_unpacklo_epi8(a, b), ab_high = _mm256_unpackhi_epi8(a, b);
    const __m256i cd_low = _mm256_unpacklo_epi8(c, d), cd_high = _mm256_unpackhi_epi8(c, d);
    if constexpr (Wide) {
      const __m256i zero = _mm256_setzero_si256();
      store_lines(_mm256_unpacklo_epi8(ab_low, zero), _mm256_unpackhi_epi8(ab_low, zero),
                  _mm256_unpacklo_epi8(ab_high, zero), _mm256_unpackhi_epi8(ab_high, zero), line,
                  block_bytes);
      store_lines(_mm256_unpacklo_epi8(cd_low, zero), _mm256_unpackhi_epi8(cd_low, zero),
                  _mm256_unpacklo_epi8(cd_high, zero), _mm256_unpackhi_epi8(cd_high, zero), line + 64,
                  block_bytes);
    } else {
      store_lines(_mm256_unpacklo_epi16(ab_low, cd_low), _mm256_unpackhi_epi16(ab_low, cd_low),
                  _mm256_unpacklo_epi16(ab_high, cd_high), _mm256_unpackhi_epi16(ab_high, cd_high), line,
                  block_bytes);
    }
  }

  template <int Planes, bool Wide>
  ZIPML_TARGET_AVX2 static void decode_panel(const PackedView& view, const PlaneList& planes,
                                             GroupRange groups, std::uint8_t* panel, Index block_bytes) {
    constexpr Index half_bytes = Wide ? 128 : 64;
    const RowShifts shifts(planes, view.layout.cols);
    const Index next_block = block_groups * view.layout.stored_bits * view.layout.cols;
    for (Index g = 0; g < groups.count; ++g) {
      const detail::GroupPanels panels(view, planes, groups.first + g);
      for (Index j = 0; j < view.width; j += 32) {
        std::uint8_t* line = panel + j / detail::gram_block * block_bytes + g * 2 * half_bytes;
        for (int p = 0; p < Planes && j % 64 == 0; ++p)
          for (int k = 0; k < planes[p].width; ++k)
            __builtin_prefetch(panels.plane[p] + next_block + k * view.layout.cols + j, 0, 2);
        for (int row = 0; row < group_rows; row += 4)
          store_rows<Wide>(
              panel_codes<Planes>(panels, shifts, row, j), panel_codes<Planes>(panels, shifts, row + 1, j),
              panel_codes<Planes>(panels, shifts, row + 2, j),
              panel_codes<Planes>(panels, shifts, row + 3, j), line + row / 4 * half_bytes, block_bytes);
      }
    }
  }

  /// Codes of a panel become their entries: by shuffles where there are at most 16.
  ZIPML_TARGET_AVX2 static void shuffle_panel(CodeTable table, Index blocks, Index bytes, std::uint8_t* panel,
                                              Index block_bytes) {
    std::uint8_t entries[16];
    for (int k = 0; k < 16; ++k) entries[k] = table.entries[k < table.count ? k : table.count - 1];
    const __m256i shuffled = both_lanes(entries);
    for (Index b = 0; b < blocks; ++b, panel += block_bytes)
      for (Index k = 0; k < bytes; k += 32)
        _mm256_store_si256(reinterpret_cast<__m256i*>(panel + k),
                           _mm256_shuffle_epi8(shuffled, load32(panel + k)));
  }
  /// Codes of T, one byte or two.
  template <class T>
  static void look_up_panel(CodeTable table, Index blocks, Index bytes, std::uint8_t* panel,
                            Index block_bytes) {
    // Columns behind the last one may have codes that the table lacks.
    std::uint8_t entries[256];
    for (int k = 0; k < 256; ++k) entries[k] = table.entries[k < table.count ? k : table.count - 1];
    for (Index b = 0; b < blocks; ++b, panel += block_bytes)
      for (Index k = 0; k < bytes; k += Index{sizeof(T)}) {
        T code;
        std::memcpy(&code, panel + k, sizeof code);
        code = entries[code];
        std::memcpy(panel + k, &code, sizeof code);
      }
  }

  // ---- products

  /// 4 rows j and 16 columns k, of which a step is a dword of each row and two registers of columns. Rows are
  /// unfolded by templates and a sum is pinned to its register: else g++ 12 keeps sums in memory.
  template <class Step>
  ZIPML_INLINE_AVX2 static void add_steps(const std::uint8_t* j, const std::uint8_t* k, Index steps,
                                          __m256i* sum) {
    for (Index s = 0; s < steps; ++s, j += 64, k += 64) add_row<Step, 0>(j, load32(k), load32(k + 32), sum);
  }
  template <class Step, int Row>
  ZIPML_INLINE_AVX2 static void add_row(const std::uint8_t* j, __m256i low, __m256i high, __m256i* sum) {
    std::int32_t four;
    std::memcpy(&four, j + 4 * Row, 4);
    const __m256i row = _mm256_set1_epi32(four);
    sum[2 * Row] = Step::add(sum[2 * Row], row, low);
    asm("" : "+x"(sum[2 * Row]));
    sum[2 * Row + 1] = Step::add(sum[2 * Row + 1], row, high);
    asm("" : "+x"(sum[2 * Row + 1]));
    if constexpr (Row < 3) add_row<Step, Row + 1>(j, low, high, sum);
  }
  template <int N>
  ZIPML_INLINE_AVX2 static void clear(__m256i* v) {
    if constexpr (N > 1) clear<N - 1>(v);
    v[N - 1] = _mm256_setzero_si256();
  }

  template <int At = 0>
  ZIPML_INLINE_AVX2 static void add_to_tile(const __m256i* sum, std::int32_t* tile, Index width) {
    auto* to = reinterpret_cast<__m256i*>(tile + At / 2 * width + At % 2 * 8);
    _mm256_storeu_si256(to, _mm256_add_epi32(_mm256_loadu_si256(to), sum[At]));
    if constexpr (At < 7) add_to_tile<At + 1>(sum, tile, width);
  }

  ZIPML_INLINE_AVX2 static __m256i widened(__m256i sums_of_pairs) {
    return _mm256_madd_epi16(sums_of_pairs, _mm256_set1_epi16(1));
  }

  /// Values up to L: an int16 has room for 32,767 / (2 L^2) products of pairs, 17 for 31.
  static Index short_steps(int largest) {
    const Index pair = Index{2} * largest * largest;
    return 32767 / (pair > 0 ? pair : 1);
  }
  static_assert(32767 / (2 * 31 * 31) == 17);

  struct NarrowStep {
    ZIPML_INLINE_AVX2 static __m256i add(__m256i sum, __m256i row, __m256i columns) {
      return _mm256_add_epi16(sum, _mm256_maddubs_epi16(columns, row));
    }
  };
  struct ByteStep {
    ZIPML_INLINE_AVX2 static __m256i add(__m256i sum, __m256i row, __m256i columns) {
      return _mm256_add_epi32(sum, widened(_mm256_maddubs_epi16(columns, row)));
    }
  };
  struct WideStep {
    ZIPML_INLINE_AVX2 static __m256i add(__m256i sum, __m256i row, __m256i columns) {
      return _mm256_add_epi32(sum, _mm256_madd_epi16(columns, row));
    }
  };

  template <class Step>
  ZIPML_TARGET_AVX2 static void multiply_part(const std::uint8_t* j, const std::uint8_t* k, Index steps,
                                              std::int32_t* tile, Index width) {
    __m256i sum[8];
    clear<8>(sum);
    add_steps<Step>(j, k, steps, sum);
    add_to_tile(sum, tile, width);
  }
  ZIPML_TARGET_AVX2 static void multiply_narrow(const std::uint8_t* j, const std::uint8_t* k, Index steps,
                                                Index steps_of_a_sum, std::int32_t* tile, Index width) {
    for (Index done = 0; done < steps; done += steps_of_a_sum) {
      const Index count = steps - done < steps_of_a_sum ? steps - done : steps_of_a_sum;
      __m256i sum[8];
      clear<8>(sum);
      add_steps<NarrowStep>(j + 64 * done, k + 64 * done, count, sum);
      for (__m256i& s : sum) s = widened(s);
      add_to_tile(sum, tile, width);
    }
  }

  template <bool Wide>
  ZIPML_TARGET_AVX2 static void add_block_columns(const std::uint8_t* panel, Index steps,
                                                  std::int32_t* sums) {
    auto* to = reinterpret_cast<__m256i*>(sums);
    __m256i sum[2] = {_mm256_loadu_si256(to), _mm256_loadu_si256(to + 1)};
    for (Index s = 0; s < steps; ++s)
      for (int half = 0; half < 2; ++half) {
        const __m256i values = load32(panel + 64 * s + 32 * half);
        sum[half] = _mm256_add_epi32(
            sum[half], widened(Wide ? values : _mm256_maddubs_epi16(values, _mm256_set1_epi8(1))));
      }
    for (int half = 0; half < 2; ++half) _mm256_storeu_si256(to + half, sum[half]);
  }

  // ---- engines, see detail::GramInPanels

  template <bool Wide>
  struct GramPanels {
    static constexpr Index value_bytes = Wide ? 2 : 1;
    static constexpr int unsigned_offset = 0;

    void decode(const PackedView& view, const PlaneList& planes, CodeTable table, GroupRange groups,
                std::uint8_t* panel, Index block_bytes) const {
      detail::visit_plane_count(planes.count, [&](auto count) {
        decode_panel<count(), Wide>(view, planes, groups, panel, block_bytes);
      });
      if (table.entries == nullptr) return;
      const Index blocks = (view.width + detail::gram_block - 1) / detail::gram_block;
      const Index bytes = groups.rows() * detail::gram_block * value_bytes;
      if (!Wide && detail::largest_code(planes) < 16)
        return shuffle_panel(table, blocks, bytes, panel, block_bytes);
      look_up_panel<std::conditional_t<Wide, std::uint16_t, std::uint8_t>>(table, blocks, bytes, panel,
                                                                           block_bytes);
    }
    void add_columns(const std::uint8_t* panel, Index steps, std::int32_t* sums) const {
      add_block_columns<Wide>(panel, steps, sums);
    }
    /// product(rows j, columns k, place) for the 4 rows and 16 columns of each part of a tile.
    template <class Product>
    static void for_each_part(const std::uint8_t* j, const std::uint8_t* k, Index block_bytes, Index count,
                              std::int32_t* tile, const Product& product) {
      const Index width = count * detail::gram_block;
      for (Index r = 0; r < detail::gram_block; r += 4)
        for (Index b = 0; b < count; ++b)
          product(j + 4 * r, k + b * block_bytes, tile + r * width + b * detail::gram_block, width);
    }
  };

  struct NarrowProducts : GramPanels<false> {
    Index steps_of_a_sum;
    explicit NarrowProducts(Index of_a_sum) : steps_of_a_sum(of_a_sum) {}
    void multiply(const std::uint8_t* j, const std::uint8_t* k, Index block_bytes, Index steps, Index count,
                  std::int32_t* tile) const {
      for_each_part(j, k, block_bytes, count, tile,
                    [&](const std::uint8_t* rows, const std::uint8_t* columns, std::int32_t* to,
                        Index width) { multiply_narrow(rows, columns, steps, steps_of_a_sum, to, width); });
    }
  };
  template <class Step, bool Wide>
  struct PartProducts : GramPanels<Wide> {
    void multiply(const std::uint8_t* j, const std::uint8_t* k, Index block_bytes, Index steps, Index count,
                  std::int32_t* tile) const {
      this->for_each_part(j, k, block_bytes, count, tile,
                          [&](const std::uint8_t* rows, const std::uint8_t* columns, std::int32_t* to,
                              Index width) { multiply_part<Step>(rows, columns, steps, to, width); });
    }
  };
  using ByteProducts = PartProducts<ByteStep, false>;
  using WideProducts = PartProducts<WideStep, true>;
};

}  // namespace zipml::inline ZIPML_ABI

#endif  // ZIPML_X86
