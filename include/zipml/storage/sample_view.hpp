#pragma once
/// \file
/// Room storage: samples as training reads them, codes or float32 rows, in memory that somebody else owns.
/// Stores of this library, a mapped file and an array of the user's are the same behind it.

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include <zipml/storage/outliers.hpp>
#include <zipml/storage/pilot.hpp>
#include <zipml/storage/row_codes.hpp>

namespace zipml::inline ZIPML_ABI {

/// What the codes of packed samples stand for, in standardised units. With t = entries[code] where there are
/// entries, else the code itself, the value of code k in row i and column j is
///     tables[j * levels + k]                             where there are tables
///     offset_j + step_j * t                              where there are steps
///     offset_j + step_j * (row_offset_i + row_step_i t)  where rows are scaled as well
struct CodeLevels {
  const float* offset = nullptr;      ///< d
  const float* step = nullptr;        ///< d, 0 for a constant column
  const float* row_offset = nullptr;  ///< n, or null
  const float* row_step = nullptr;    ///< n, or null

  const std::uint8_t* entries = nullptr;  ///< one table on the grid of bytes for all columns, or null
  const float* entry_values = nullptr;    ///< the same as floats
  int entry_count = 0;                    ///< at least one for every code

  const float* tables = nullptr;  ///< d x levels, or null
  int levels = 0;

  /// Whether margins can be sums of integers.
  bool is_affine() const { return step != nullptr; }
  bool scales_rows() const { return row_step != nullptr; }

  /// offset + step * t in double, where the product is exact: no contraction can change it.
  static float affine_value(float offset, float step, float t) {
    return static_cast<float>(static_cast<double>(offset) +
                              static_cast<double>(step) * static_cast<double>(t));
  }
  float value(Index i, Index j, int code) const;
  /// Codes of row i become values, in place.
  void decode(Index i, Index d, float* codes) const;
};

/// n rows and d columns of samples: float32 rows (`values`), or codes. Promised by whoever makes one: codes
/// and float32 rows (but for `has_tail`) have 64 readable bytes behind their last, which are finite as floats; rows of the last
/// group behind the last row have code 0; everything stays where it is and as it is for as long as `owner`
/// lives or, where that is null, for as long as the view is used.
///
///     zipml::SampleView view = store.samples();
struct SampleView {
  Index rows = 0;
  Index cols = 0;
  int bits = 32;              ///< of one draw; 32: float32 rows
  int draws = 1;              ///< independent roundings of a value that can be read apart
  double stored_bits = 32.0;  ///< per value, of all draws and outliers
  Index codes_bytes = 0;      ///< what an epoch reads whatever the levels
  Index store_bytes = 0;      ///< and with levels, bias terms and outliers

  const float* values = nullptr;  ///< float32 rows; null: codes
  Index stride = 0;               ///< floats from one row to the next
  bool has_tail = true;           ///< false: float32 rows behind whose last value nothing may be read

  const std::uint8_t* codes = nullptr;  ///< as PlaneLayout says
  PlaneLayout layout;
  CodeLevels levels;
  OutlierView outliers;
  const Pilot* pilot = nullptr;  ///< or null: none
  /// For each column the mean variance of what is read, which E q q' has too much on the diagonal (d values,
  /// standardised units squared); null where the encoding does not know it.
  const float* bias = nullptr;
  /// How much each row counts in the loss, n of mean 1; null: 1. Bias and pilot are weighted with them.
  const float* weights = nullptr;

  std::shared_ptr<const void> owner;  ///< keeps the memory, or null

  bool is_dense() const { return values != nullptr; }
  /// Whether margins can be sums of integers: packed, with affine levels or one table for all columns.
  bool has_integer_path() const { return !is_dense() && levels.is_affine(); }

  const float* row(Index i) const { return values + i * stride; }

  /// The planes that all draws share: the code of the only draw, or of the lower level.
  PlaneList base_planes() const {
    return PlaneList::of_code(draws > 1 ? layout.stored_bits - draws : layout.stored_bits);
  }
  /// The planes whose sum is the code of one draw.
  PlaneList planes(int draw) const {
    PlaneList list = base_planes();
    if (draws > 1) list.push_draw_plane(list.code_bits + draw);
    return list;
  }

  /// Where the rows [first, first + count) lie, to be prefetched: exactly their groups where a code is one
  /// plane, else as many bytes from the beginning of their block on, which are whole blocks where rows are.
  std::span<const std::byte> memory_of(Index first, Index count) const;

  /// The code that draw `draw` of value (i, j) is read as; of an outlier, the clipped one. Packed samples
  /// only.
  int code(Index i, Index j, int draw = 0) const { return RowCodes(codes, layout, planes(draw), i)[j]; }
  /// Value (i, j) of a draw in standardised units. O(outliers of a block).
  float value(Index i, Index j, int draw = 0) const;
  /// Decodes row i of one draw into `out` (d values, standardised units). O(d).
  void decode_row(Index i, int draw, float* out) const;
};

#if ZIPML_DEFINES

ZIPML_FUNCTION float CodeLevels::value(Index i, Index j, int code) const {
  if (tables != nullptr) return tables[j * levels + code];
  float t = entries != nullptr ? entry_values[code] : static_cast<float>(code);
  if (scales_rows()) t = affine_value(row_offset[i], row_step[i], t);
  return affine_value(offset[j], step[j], t);
}

ZIPML_FUNCTION void CodeLevels::decode(Index i, Index d, float* codes) const {
  if (tables != nullptr) {
    for (Index j = 0; j < d; ++j) codes[j] = tables[j * levels + static_cast<Index>(codes[j])];
    return;
  }
  if (entries != nullptr)
    for (Index j = 0; j < d; ++j) codes[j] = entry_values[static_cast<Index>(codes[j])];
  if (scales_rows())
    for (Index j = 0; j < d; ++j) codes[j] = affine_value(row_offset[i], row_step[i], codes[j]);
  for (Index j = 0; j < d; ++j) codes[j] = affine_value(offset[j], step[j], codes[j]);
}

ZIPML_FUNCTION std::span<const std::byte> SampleView::memory_of(Index first, Index count) const {
  if (is_dense()) return std::as_bytes(std::span(row(first), static_cast<std::size_t>(count * stride)));
  const bool one_plane = std::has_single_bit(static_cast<unsigned>(layout.stored_bits)) && draws == 1;
  const Index before = one_plane ? first % group_rows : first % block_rows;
  const Index group_bytes = layout.stored_bits * cols;
  const Index offset = (first - before) / group_rows * group_bytes;
  const Index bytes = (std::min)((before + count + 7) / 8 * group_bytes, layout.bytes() - offset);
  return std::as_bytes(std::span(codes + offset, static_cast<std::size_t>(bytes)));
}

ZIPML_FUNCTION float SampleView::value(Index i, Index j, int draw) const {
  if (is_dense()) return row(i)[j];
  float v = levels.value(i, j, code(i, j, draw));
  List<Outlier> found;
  outliers.find(i, 1, found);
  for (const Outlier& outlier : found)
    if (outlier.column == j) v += outlier.correction;
  return v;
}

ZIPML_FUNCTION void SampleView::decode_row(Index i, int draw, float* out) const {
  if (is_dense()) {
    std::copy_n(row(i), cols, out);
    return;
  }
  const RowCodes row_codes(codes, layout, planes(draw), i);
  std::fill_n(out, cols, 0.0f);
  for (int p = 0; p < row_codes.count; ++p) {  // plane by plane, so that compilers use vectors
    const std::uint8_t* bytes = row_codes.bytes[p];
    const int shift = row_codes.shift[p], mask = row_codes.mask[p], weight = row_codes.weight[p];
    for (Index j = 0; j < cols; ++j) out[j] += static_cast<float>((bytes[j] >> shift & mask) << weight);
  }
  levels.decode(i, cols, out);
  if (outliers.empty()) return;
  List<Outlier> found;
  outliers.find(i, 1, found);
  for (const Outlier& outlier : found) out[outlier.column] += outlier.correction;
}

#endif

}  // namespace zipml::inline ZIPML_ABI
