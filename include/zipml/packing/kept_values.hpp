#pragma once
/// \file
/// Room packing: values outside of the levels while rows are packed in any order, until they become the
/// outliers of a store, which are in its order.

#include <algorithm>
#include <cstdint>
#include <span>

#include <zipml/base/buffer.hpp>
#include <zipml/quantization/statistics.hpp>
#include <zipml/storage/outliers.hpp>
#include <zipml/storage/sample_view.hpp>

namespace zipml::inline ZIPML_ABI::detail {

/// A value outside of its column's range, and the code that it is stored as.
struct KeptValue {
  Index row;  ///< of the store
  std::int32_t column;
  std::int32_t code;
  float value;  ///< in the units of the matrix
  bool operator<(const KeptValue& other) const {
    return row != other.row ? row < other.row : column < other.column;
  }
};

/// The outliers of n rows: what each thread has kept, as corrections of what `levels` read its code as, in
/// the units of `map`. O(values log(values of a block) + blocks).
Outliers outliers_of(std::span<const List<KeptValue>> kept, const Standardization& map,
                     const CodeLevels& levels, Index rows);

#if ZIPML_DEFINES

ZIPML_FUNCTION Outliers outliers_of(std::span<const List<KeptValue>> kept, const Standardization& map,
                                    const CodeLevels& levels, Index rows) {
  const Index together = OutlierView::block_rows_of(map.cols());
  // Counted into blocks of rows, each of which is then sorted.
  List<std::uint64_t> first(static_cast<std::size_t>((rows + together - 1) / together + 1));
  for (const List<KeptValue>& part : kept)
    for (const KeptValue& one : part) ++first[static_cast<std::size_t>(one.row / together + 1)];
  for (std::size_t block = 1; block < first.size(); ++block) first[block] += first[block - 1];
  List<KeptValue> sorted(static_cast<std::size_t>(first.back()));
  List<std::uint64_t> next = first;
  for (const List<KeptValue>& part : kept)
    for (const KeptValue& one : part)
      sorted[static_cast<std::size_t>(next[static_cast<std::size_t>(one.row / together)]++)] = one;
  for (std::size_t block = 0; block + 1 < first.size(); ++block)
    std::sort(sorted.data() + first[block], sorted.data() + first[block + 1]);
  Outliers outliers(map.cols());
  for (const KeptValue& one : sorted) {
    const auto exact = static_cast<float>(map.apply(static_cast<double>(one.value), one.column));
    outliers.add(one.row, one.column, exact - levels.value(one.row, one.column, one.code));
  }
  outliers.close(rows);
  return outliers;
}

#endif

}  // namespace zipml::inline ZIPML_ABI::detail
