#pragma once
/// \file
/// Room kernels: the contract of the Gram matrix of packed codes: which sums a kernel adds up, how it lays codes
/// out for that, and why its integers cannot overflow; and the scalar kernel, the specification.
///
/// With t_ij = entries[code_ij] where there is a CodeTable, else the code itself, for the rows of a range:
///
///     products_jk += sum_i t_ij t_ik   for all k <= j
///     sums_j      += sum_i t_ij
///
/// exact, so that every policy and every division of the rows returns the same bits. Rows of the last group behind
/// the last row of the store count nothing, whatever entry code 0 has.
///
/// A policy may have, beside the operations that KernelPolicy asks for,
///
///     static void gram(const PackedView&, const PlaneList&, CodeTable, GroupRange, GramSums);
///
/// Without it KernelTable takes the scalar one.
///
/// The vector kernels decode a piece of rows into a panel of bytes and multiply that:
///
///     panel:  [block of 16 columns][step of 4 rows][16 columns][4 rows]
///     tiles:  [groups of 3 blocks k][blocks j from the group's first on][16 columns j][columns k of the group
///             that are in blocks up to j]
///
/// A step of a block is a cache line, and its dword of column j times all its dwords adds to row j of a tile. (As
/// words of 16 bits: steps of 2 rows.) The blocks k of a group stay in the first-level cache while the blocks j
/// pass by, and tiles are visited in the order of memory.
///
/// Budget of the integers:
///   int32 tile: 255 * 255 * 32,768 rows < 2^31, then it is added to int64.
///   int16 sums of maddubs: a pair of products is 2 L^2, L the largest value: 65,534 / (4 L^2) steps fit.

#include <cstdint>
#include <cstring>

#include <zipml/base/buffer.hpp>
#include <zipml/kernels/packed_view.hpp>
#include <zipml/storage/row_codes.hpp>

namespace zipml::inline ZIPML_ABI {

/// Where a Gram kernel adds its sums. Row j of the lower triangle, k = 0 .. j, stands at products + j (j + 1) / 2.
struct GramSums {
  std::int64_t* products;  ///< d (d + 1) / 2
  std::int64_t* sums;      ///< d
};

namespace detail {

/// Columns of a block, rows of a panel, and of the sums in int32.
inline constexpr Index gram_block = 16;
inline constexpr Index gram_group_blocks = 3;
inline constexpr Index gram_panel_rows = 512;
inline constexpr Index gram_tile_rows = 32768;
static_assert(Index{255} * 255 * gram_tile_rows < (Index{1} << 31));
static_assert(gram_tile_rows % gram_panel_rows == 0 && gram_panel_rows % group_rows == 0);

/// Largest code of these planes.
inline int largest_code(const PlaneList& planes) {
  int largest = 0;
  for (int p = 0; p < planes.count; ++p) largest += ((1 << planes[p].width) - 1) << planes[p].shift;
  return largest;
}
/// Largest value that a kernel multiplies.
inline int largest_value(const PlaneList& planes, CodeTable table) {
  if (table.entries == nullptr) return largest_code(planes);
  int largest = 0;
  for (int k = 0; k < table.count; ++k)
    if (table.entries[k] > largest) largest = table.entries[k];
  return largest;
}

/// visit(j block, first k block, k blocks, place of the tile) for every tile; the place counts blocks of 16 x 16.
template <class Visit>
void for_each_tile(Index blocks, const Visit& visit) {
  Index place = 0;
  for (Index k = 0; k < blocks; k += gram_group_blocks)
    for (Index j = k; j < blocks; ++j) {
      const Index count = j - k + 1 < gram_group_blocks ? j - k + 1 : gram_group_blocks;
      visit(j, k, count, place);
      place += count;
    }
}

/// A Gram kernel with vectors, made of an Engine:
///     value_bytes      1 or 2, of a value in the panel
///     unsigned_offset  Z: tiles hold sums of t_ij (t_ik - Z)
///     decode(view, planes, table, groups, panel, block_bytes)   the panel of a piece, 64 columns at a time
///     multiply(panel_j, panel_k, block_bytes, steps, count, tile)  adds the products of a step to a tile
///     add_columns(panel, steps, sums)                           adds the sums of a block's 16 columns
template <class Engine>
class GramInPanels {
 public:
  static constexpr Index step_rows = 4 / Engine::value_bytes;
  static constexpr Index panel_rows = gram_panel_rows / Engine::value_bytes;
  static constexpr Index block_bytes = panel_rows / step_rows * 64;

  GramInPanels(const Engine& engine, Index d)
      : engine_(engine),
        d_(d),
        blocks_((d + gram_block - 1) / gram_block),
        panel_(Buffer<std::uint8_t>::uninitialised(round_up(blocks_, 4) * block_bytes)),
        tiles_(blocks_ * (blocks_ + 1) / 2 * gram_block * gram_block),
        columns_(blocks_ * gram_block) {}

  void add(const PackedView& view, const PlaneList& planes, CodeTable table, GroupRange groups,
           GramSums out) {
    constexpr Index most = panel_rows / group_rows;
    Index rows = 0;
    for (Index done = 0; done < groups.count; done += most) {
      const GroupRange piece{groups.first + done, groups.count - done < most ? groups.count - done : most};
      engine_.decode(view, planes, table, piece, panel_.data(), block_bytes);
      const Index left = view.layout.rows - piece.first * group_rows;
      for (Index i = left < 0 ? 0 : left; i < piece.rows(); ++i) clear_row(i);
      multiply(piece.rows() / step_rows);
      rows += panel_rows;
      if (rows < gram_tile_rows) continue;
      flush(out);
      rows = 0;
    }
    flush(out);
  }

 private:
  void clear_row(Index i) {
    constexpr Index bytes = Engine::value_bytes;
    std::uint8_t* row = panel_.data() + i / step_rows * 64 + i % step_rows * bytes;
    for (Index b = 0; b < blocks_; ++b)
      for (Index c = 0; c < gram_block; ++c)
        std::memset(row + b * block_bytes + c * 4, 0, static_cast<std::size_t>(bytes));
  }

  void multiply(Index steps) {
    const std::uint8_t* panel = panel_.data();
    for_each_tile(blocks_, [&](Index j, Index k, Index count, Index place) {
      engine_.multiply(panel + j * block_bytes, panel + k * block_bytes, block_bytes, steps, count,
                       tiles_.data() + place * (gram_block * gram_block));
    });
    for (Index b = 0; b < blocks_; ++b)
      engine_.add_columns(panel + b * block_bytes, steps, columns_.data() + b * gram_block);
  }

  void flush(GramSums out) {
    for_each_tile(blocks_, [&](Index j_block, Index k_block, Index count, Index place) {
      std::int32_t* tile = tiles_.data() + place * (gram_block * gram_block);
      const Index width = count * gram_block;
      const Index first = k_block * gram_block;
      for (Index r = 0; r < gram_block; ++r, tile += width) {
        const Index j = j_block * gram_block + r;
        if (j < d_) {
          const std::int64_t offset = std::int64_t{Engine::unsigned_offset} * columns_[j];
          std::int64_t* to = out.products + j * (j + 1) / 2 + first;
          const Index wanted = j + 1 - first < width ? j + 1 - first : width;
          for (Index c = 0; c < wanted; ++c) to[c] += tile[c] + offset;
        }
        std::memset(tile, 0, static_cast<std::size_t>(width) * sizeof *tile);
      }
    });
    for (Index j = 0; j < d_; ++j) out.sums[j] += columns_[j];
    std::memset(columns_.data(), 0, columns_.bytes());
  }

  const Engine& engine_;
  Index d_;
  Index blocks_;
  Buffer<std::uint8_t> panel_;
  Buffer<std::int32_t> tiles_;
  Buffer<std::int32_t> columns_;  // sums
};

/// The specification. O(rows d^2).
void gram_plainly(const PackedView& view, const PlaneList& planes, CodeTable table, GroupRange groups,
                  GramSums out);

}  // namespace detail

#if ZIPML_DEFINES

namespace detail {

/// 64 rows at a time, so that compilers use vectors: 511^2 * 64 < 2^31.
ZIPML_FUNCTION void gram_plainly(const PackedView& view, const PlaneList& planes, CodeTable table,
                                 GroupRange groups, GramSums out) {
  constexpr Index piece = block_rows;
  const Index d = view.width;
  const Index end = groups.first * group_rows + groups.rows();
  const Index last = end < view.layout.rows ? end : view.layout.rows;
  Buffer<std::int16_t> values(d * piece);  // by columns
  for (Index first = groups.first * group_rows; first < last; first += piece) {
    for (Index i = 0; i < piece; ++i) {
      if (first + i >= last) {
        for (Index j = 0; j < d; ++j) values[j * piece + i] = 0;
        continue;
      }
      const RowCodes codes(view.codes, view.layout, planes, first + i);
      for (Index j = 0; j < d; ++j)
        values[j * piece + i] =
            static_cast<std::int16_t>(table.entries != nullptr ? table.entries[codes[j]] : codes[j]);
    }
    std::int64_t* row = out.products;
    for (Index j = 0; j < d; row += ++j) {
      const std::int16_t* a = values.data() + j * piece;
      for (Index k = 0; k <= j; ++k) {
        const std::int16_t* b = values.data() + k * piece;
        std::int32_t product = 0;
        for (Index i = 0; i < piece; ++i) product += a[i] * b[i];
        row[k] += product;
      }
      std::int32_t sum = 0;
      for (Index i = 0; i < piece; ++i) sum += a[i];
      out.sums[j] += sum;
    }
  }
}

}  // namespace detail

#endif

}  // namespace zipml::inline ZIPML_ABI
