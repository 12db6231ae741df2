#pragma once
/// \file
/// Room kernels: sums of products of the codes of columns, sum_i c_ij c_ik, over rows whose codes were put together in bytes.
///
/// The codes stand in a panel, 16 columns and 4 rows in 64 bytes, which is what vpdpbusd reads:
///
///     panel: [ columns 0..15: rows 0..3 | rows 4..7 | ... ][ columns 16..31: ... ] ...
///     64 bytes: [ column 0: 4 rows ][ column 1: 4 rows ] ... [ column 15: 4 rows ]
///
/// Rows and columns that do not fill the last of these have code 0 and add nothing. Sums are int32 and exact as long as no
/// more than gram_rows rows are added to them.

#include <cstdint>

#include <zipml/base/index.hpp>

namespace zipml::inline ZIPML_ABI {

/// Columns and rows of 64 bytes of a panel.
inline constexpr Index gram_columns = 16;
inline constexpr Index gram_fours = 4;

/// Most rows whose products fit int32: codes are bytes.
inline constexpr Index gram_rows = 32768;
static_assert(gram_rows * 255 * 255 < (Index{1} << 31));

/// Codes of rows, as a gram kernel reads them.
struct GramPanel {
  const std::uint8_t* bytes;  ///< at a multiple of 64
  Index blocks;               ///< of gram_columns columns
  Index fours;                ///< of gram_fours rows
  int largest;                ///< no code is larger: at most 255

  const std::uint8_t* block(Index b) const { return bytes + b * fours * 64; }
  Index columns() const { return blocks * gram_columns; }
};

namespace detail {

/// sums[j * columns + k] += sum_i c_ij c_ik for the columns k of the blocks up to that of column j: the lower triangle, and
/// some of the other.
inline void gram_body(const GramPanel& panel, std::int32_t* sums) {
  const Index columns = panel.columns();
  for (Index a = 0; a < panel.blocks; ++a)
    for (Index b = 0; b <= a; ++b)
      for (Index f = 0; f < panel.fours; ++f) {
        const std::uint8_t *of_a = panel.block(a) + f * 64, *of_b = panel.block(b) + f * 64;
        for (Index j = 0; j < gram_columns; ++j)
          for (Index k = 0; k < gram_columns; ++k) {
            std::int32_t sum = 0;
            for (Index r = 0; r < gram_fours; ++r)
              sum += std::int32_t{of_a[j * gram_fours + r]} * std::int32_t{of_b[k * gram_fours + r]};
            sums[(a * gram_columns + j) * columns + b * gram_columns + k] += sum;
          }
      }
}

}  // namespace detail

}  // namespace zipml::inline ZIPML_ABI
