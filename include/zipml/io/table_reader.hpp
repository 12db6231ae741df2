#pragma once
/// \file
/// Room io: from the cells of a table, as they were read, to the features of its rows: texts become one feature for
/// each of them, missing numbers the mean of their column.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <utility>

#include <zipml/base/buffer.hpp>
#include <zipml/base/schema.hpp>
#include <zipml/base/views.hpp>
#include <zipml/io/pieces.hpp>

namespace zipml::inline ZIPML_ABI::detail {

/// What a row of cells becomes.
struct RowExpansion {
  std::shared_ptr<const Schema> schema;
  List<List<Index>> renumbered;  ///< category of a slot in the order it was met -> its place in the schema
  bool is_plain = false;         ///< cells are the features: numbers alone, none of them missing

  Index cells() const { return static_cast<Index>(schema->columns.size()); }
  /// The features of a row: `cells` themselves, or in `out`.
  const double* operator()(const double* cells, double* out) const {
    if (is_plain) return cells;
    expand(cells, out);
    return out;
  }

 private:
  void expand(const double* cells, double* out) const;
};

/// The rows of a table whose cells stay where they are, in pieces that may be in a scratch file.
class TableReader final : public RowReader {
 public:
  /// `rows` are those of the cells that count, in their order; empty: all.
  TableReader(Pieces<double> cells, RowExpansion expansion, std::shared_ptr<const Buffer<double>> offsets,
              Buffer<Index> rows)
      : cells_(std::move(cells)),
        expansion_(std::move(expansion)),
        offsets_(std::move(offsets)),
        rows_(std::move(rows)) {
    cells_.index();
  }

  void read(Index first, Index count, float* out) const override;

 private:
  Pieces<double> cells_;
  RowExpansion expansion_;
  std::shared_ptr<const Buffer<double>> offsets_;
  Buffer<Index> rows_;
};

#if ZIPML_DEFINES

ZIPML_FUNCTION void RowExpansion::expand(const double* cells, double* out) const {
  for (std::size_t slot = 0; slot < schema->columns.size(); ++slot) {
    const TableColumn& column = schema->columns[slot];
    const double v = cells[slot];
    if (column.categorical) {
      const auto count = column.categories.size();
      std::fill_n(out, count, 0.0);
      Index place = -1;
      if (!std::isnan(v) && v >= 0.0)
        place = renumbered.empty() ? static_cast<Index>(v) : renumbered[slot][static_cast<std::size_t>(v)];
      else if (std::isnan(v) && count > 0 && column.categories[0].empty())
        place = 0;  // "" comes first in byte order
      if (place >= 0) out[place] = 1.0;
      out += count;
    } else {
      *out++ = std::isnan(v) ? column.fill.value_or(0.0) : v;
      if (column.flagged) *out++ = std::isnan(v) ? 1.0 : 0.0;
    }
  }
}

ZIPML_FUNCTION void TableReader::read(Index first, Index count, float* out) const {
  const Index width = expansion_.cells();
  const Index d = expansion_.schema->cols;
  const Index together = std::clamp<Index>(12288 / std::max<Index>(width, 1), 1, count);
  Buffer<double> cells(together * width), features(expansion_.is_plain ? 0 : d);
  const double* const offsets = offsets_ ? offsets_->data() : nullptr;
  for (Index at = 0; at < count;) {
    Index some = (std::min)(together, count - at);
    Index row = first + at;
    if (!rows_.empty()) {  // those that are side by side
      row = rows_[first + at];
      Index neighbours = 1;
      while (neighbours < some && rows_[first + at + neighbours] == row + neighbours) ++neighbours;
      some = neighbours;
    }
    cells_.read(static_cast<std::size_t>(row * width), static_cast<std::size_t>(some * width), cells.data());
    for (Index k = 0; k < some; ++k) {
      const double* const v = expansion_(cells.data() + k * width, features.data());
      if (offsets == nullptr)
        for (Index j = 0; j < d; ++j) *out++ = static_cast<float>(v[j]);
      else
        for (Index j = 0; j < d; ++j) *out++ = static_cast<float>(v[j] - offsets[j]);
    }
    at += some;
  }
}

#endif

}  // namespace zipml::inline ZIPML_ABI::detail
