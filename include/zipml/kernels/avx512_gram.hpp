#pragma once
/// \file
/// Room kernels: the Gram matrix of codes in AVX-512: vpdpbusd multiplies four rows of 16 columns by those of one.
///
/// It takes unsigned bytes times signed ones: values above 127 stand less 128 on one side, for which the sums of
/// the columns make up (gram.hpp). Tiles of 8 rows and 48 columns keep 24 sums in registers, 11 loads for 24
/// products: latency 4 or 5 times 2 a cycle asks for 10 sums, two loads a cycle for 2 products a load.

#include <zipml/kernels/avx512_floats.hpp>
#include <zipml/kernels/gram.hpp>

#if ZIPML_X86

namespace zipml::inline ZIPML_ABI {

/// The Gram matrix, over Avx512Floats. See gram.hpp for the contract.
struct Avx512Gram : Avx512Floats {
  static void gram(const PackedView& view, const PlaneList& planes, CodeTable table, GroupRange groups,
                   GramSums out) {
    if (detail::largest_code(planes) > 255)  // codes are decoded to bytes
      return detail::gram_plainly(view, planes, table, groups, out);
    const int largest = detail::largest_value(planes, table);
    if (largest > 127)
      detail::GramInPanels<Engine<128>>(Engine<128>{}, view.width).add(view, planes, table, groups, out);
    else
      detail::GramInPanels<Engine<0>>(Engine<0>{}, view.width).add(view, planes, table, groups, out);
  }

 private:
  // ---- codes to panels

  /// Rows 0 .. 3 of a step, 64 columns each, to the lines of 4 blocks.
  ZIPML_INLINE_AVX512 static void store_lines(__m512i a, __m512i b, __m512i c, __m512i d, std::uint8_t* line,
                                              Index block_bytes) {
    const __m512i ab_low = _mm512_unpacklo_epi8(a, b), ab_high = _mm512_unpackhi_epi8(a, b);
    const __m512i cd_low = _mm512_unpacklo_epi8(c, d), cd_high = _mm512_unpackhi_epi8(c, d);
    // In lane b of q: four columns of block b, as dwords of four rows.
    const __m512i q0 = _mm512_unpacklo_epi16(ab_low, cd_low), q1 = _mm512_unpackhi_epi16(ab_low, cd_low);
    const __m512i q2 = _mm512_unpacklo_epi16(ab_high, cd_high), q3 = _mm512_unpackhi_epi16(ab_high, cd_high);
    const __m512i even01 = _mm512_shuffle_i32x4(q0, q1, 0x88), odd01 = _mm512_shuffle_i32x4(q0, q1, 0xdd);
    const __m512i even23 = _mm512_shuffle_i32x4(q2, q3, 0x88), odd23 = _mm512_shuffle_i32x4(q2, q3, 0xdd);
    _mm512_store_si512(line, _mm512_shuffle_i32x4(even01, even23, 0x88));
    _mm512_store_si512(line + block_bytes, _mm512_shuffle_i32x4(odd01, odd23, 0x88));
    _mm512_store_si512(line + 2 * block_bytes, _mm512_shuffle_i32x4(even01, even23, 0xdd));
    _mm512_store_si512(line + 3 * block_bytes, _mm512_shuffle_i32x4(odd01, odd23, 0xdd));
  }

  /// How the bits of each row of a group come from the bytes of a plane to their place in the code.
  struct RowBits {
    long long matrix[max_planes][group_rows];
    Index panel[max_planes][group_rows];  // offset in bytes
    RowBits(const PlaneList& planes, Index d) {
      for (int p = 0; p < planes.count; ++p)
        for (int row = 0; row < group_rows; ++row) {
          const int bit = row * planes[p].width;
          matrix[p][row] = static_cast<long long>(moved_bits(planes[p].width, bit % 8, planes[p].shift));
          panel[p][row] = bit / 8 * d;
        }
    }
  };

  /// (The matrix stays in a register: clang 14 encodes the displacement of a broadcast operand of vgf2p8affineqb
  /// wrongly, 8 bytes become 64.)
  ZIPML_INLINE_AVX512 static __m512i bits_of(const detail::GroupPanels& panels, const RowBits& bits,
                                             int plane, int row, Index j) {
    __m512i matrix = _mm512_set1_epi64(bits.matrix[plane][row]);
    asm("" : "+v"(matrix));
    return _mm512_gf2p8affine_epi64_epi8(load64(panels.plane[plane] + bits.panel[plane][row] + j), matrix, 0);
  }
  template <int Planes>
  ZIPML_INLINE_AVX512 static __m512i codes_of(const detail::GroupPanels& panels, const RowBits& bits, int row,
                                              Index j) {
    __m512i codes = bits_of(panels, bits, 0, row, j);
    for (int p = 1; p < Planes; ++p) codes = _mm512_add_epi8(codes, bits_of(panels, bits, p, row, j));
    return codes;
  }

  template <int Planes>
  ZIPML_TARGET_AVX512 static void decode_panel(const PackedView& view, const PlaneList& planes,
                                               GroupRange groups, std::uint8_t* panel, Index block_bytes) {
    const RowBits bits(planes, view.layout.cols);
    const Index next_block = block_groups * view.layout.stored_bits * view.layout.cols;
    for (Index g = 0; g < groups.count; ++g) {
      const detail::GroupPanels panels(view, planes, groups.first + g);
      for (Index j = 0; j < view.width; j += 64) {
        std::uint8_t* line = panel + j / detail::gram_block * block_bytes + g * 128;
        for (int p = 0; p < Planes; ++p)  // codes of short rows come too slowly without
          for (int k = 0; k < planes[p].width; ++k)
            __builtin_prefetch(panels.plane[p] + next_block + k * view.layout.cols + j, 0, 2);
        for (int half = 0; half < 2; ++half)
          store_lines(codes_of<Planes>(panels, bits, 4 * half, j),
                      codes_of<Planes>(panels, bits, 4 * half + 1, j),
                      codes_of<Planes>(panels, bits, 4 * half + 2, j),
                      codes_of<Planes>(panels, bits, 4 * half + 3, j), line + half * 64, block_bytes);
      }
    }
  }

  /// Codes of a panel become their entries, those of Bits bits, 6 to 8.
  template <int Bits>
  ZIPML_TARGET_AVX512 static void look_up_panel(CodeTable table, Index blocks, Index bytes,
                                                std::uint8_t* panel, Index block_bytes) {
    const WideTable<Bits> entries(table);
    for (Index b = 0; b < blocks; ++b, panel += block_bytes)
      for (Index k = 0; k < bytes; k += 64)
        _mm512_store_si512(panel + k, look_up<Bits>(entries.part, load64(panel + k)));
  }

  // ---- products

  /// Sums of 8 rows and N blocks of 16 columns. Rows are unfolded by templates and a sum is pinned to its
  /// register after each product: else g++ 12 keeps sums in memory.
  template <int N, int Row>
  ZIPML_INLINE_AVX512 static void add_row(const std::uint8_t* j, const __m512i* k, __m512i* sum) {
    std::int32_t four;
    std::memcpy(&four, j + 4 * Row, 4);
    const __m512i rows = _mm512_set1_epi32(four);
    add_product<N, 0>(rows, k, sum + N * Row);
    if constexpr (Row < 7) add_row<N, Row + 1>(j, k, sum);
  }
  template <int N, int Block>
  ZIPML_INLINE_AVX512 static void add_product(__m512i rows, const __m512i* k, __m512i* sum) {
    sum[Block] = _mm512_dpbusd_epi32(sum[Block], rows, k[Block]);
    asm("" : "+v"(sum[Block]));
    if constexpr (Block + 1 < N) add_product<N, Block + 1>(rows, k, sum);
  }
  template <int N, int Offset, int Block = 0>
  ZIPML_INLINE_AVX512 static void load_blocks(const std::uint8_t* from, Index block_bytes, __m512i* k) {
    k[Block] = _mm512_load_si512(from + Block * block_bytes);
    if constexpr (Offset != 0)  // t - 128, as a signed byte
      k[Block] = _mm512_xor_si512(k[Block], _mm512_set1_epi8(static_cast<char>(Offset)));
    if constexpr (Block + 1 < N) load_blocks<N, Offset, Block + 1>(from, block_bytes, k);
  }
  template <int N, int At = 0>
  ZIPML_INLINE_AVX512 static void add_to_tile(const __m512i* sum, std::int32_t* tile) {
    std::int32_t* to = tile + 16 * At;
    _mm512_storeu_si512(to, _mm512_add_epi32(_mm512_loadu_si512(to), sum[At]));
    if constexpr (At + 1 < 8 * N) add_to_tile<N, At + 1>(sum, tile);
  }

  template <int N, int Offset>
  ZIPML_TARGET_AVX512 static void multiply_tile(const std::uint8_t* j, const std::uint8_t* k,
                                                Index block_bytes, Index steps, std::int32_t* tile) {
    for (int half = 0; half < 2; ++half, j += 32, tile += 8 * 16 * N) {
      __m512i sum[8 * N];
      clear<8 * N>(sum);
      for (Index s = 0; s < steps; ++s) {
        __m512i blocks[N];
        load_blocks<N, Offset>(k + 64 * s, block_bytes, blocks);
        add_row<N, 0>(j + 64 * s, blocks, sum);
      }
      add_to_tile<N>(sum, tile);
    }
  }

  ZIPML_TARGET_AVX512 static void add_block_columns(const std::uint8_t* panel, Index steps,
                                                    std::int32_t* sums) {
    __m512i sum = _mm512_loadu_si512(sums);
    for (Index s = 0; s < steps; ++s)
      sum = _mm512_dpbusd_epi32(sum, _mm512_load_si512(panel + 64 * s), _mm512_set1_epi8(1));
    _mm512_storeu_si512(sums, sum);
  }

  /// See detail::GramInPanels.
  template <int Offset>
  struct Engine {
    static constexpr Index value_bytes = 1;
    static constexpr int unsigned_offset = Offset;

    void decode(const PackedView& view, const PlaneList& planes, CodeTable table, GroupRange groups,
                std::uint8_t* panel, Index block_bytes) const {
      detail::visit_plane_count(
          planes.count, [&](auto count) { decode_panel<count()>(view, planes, groups, panel, block_bytes); });
      if (table.entries == nullptr) return;
      const Index blocks = (view.width + detail::gram_block - 1) / detail::gram_block;
      const Index bytes = groups.count * 128;
      const auto look_up = table.count <= 64    ? look_up_panel<6>
                           : table.count <= 128 ? look_up_panel<7>
                                                : look_up_panel<8>;
      look_up(table, blocks, bytes, panel, block_bytes);
    }
    void multiply(const std::uint8_t* j, const std::uint8_t* k, Index block_bytes, Index steps, Index count,
                  std::int32_t* tile) const {
      if (count == 3) return multiply_tile<3, Offset>(j, k, block_bytes, steps, tile);
      if (count == 2) return multiply_tile<2, Offset>(j, k, block_bytes, steps, tile);
      multiply_tile<1, Offset>(j, k, block_bytes, steps, tile);
    }
    void add_columns(const std::uint8_t* panel, Index steps, std::int32_t* sums) const {
      add_block_columns(panel, steps, sums);
    }
  };
};

}  // namespace zipml::inline ZIPML_ABI

#endif  // ZIPML_X86
