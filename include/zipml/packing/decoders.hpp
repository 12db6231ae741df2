#pragma once
/// \file
/// Room packing: what codes are read as: the levels that columns were rounded to, in the units that the
/// samples are trained in.

#include <cstdint>

#include <zipml/base/rounded.hpp>
#include <zipml/quantization/statistics.hpp>
#include <zipml/storage/packed_store.hpp>

namespace zipml::inline ZIPML_ABI::detail {

/// A value of column j in the units of `map`.
inline float standardised(double value, const Standardization& map, Index j) {
  return static_cast<float>(map.apply(value, j));
}

/// Fills a decoder but for what belongs to rows. `summed` draws of `bits` bits make a code (1: the draw is
/// the code), so that a level lies between those of the draws; `by_row`: values are standardised before
/// they are rounded to levels of their row. O(d levels).
inline void fill_decoder(const Buffer<UniformGrid>& levels, const Standardization& map, int summed,
                         int /*bits*/, bool by_row, AffineDecoder& decoder) {
  const Index d = map.cols();
  decoder.offset = Buffer<float>(d);
  decoder.step = Buffer<float>(d);
  for (Index j = 0; j < d; ++j) {
    decoder.offset[j] = by_row ? 0.0f : standardised(static_cast<double>(levels[j].offset()), map, j);
    const double step = static_cast<double>(levels[j].step()) / map.scale[j];
    decoder.step[j] = by_row ? 1.0f : static_cast<float>(step) / static_cast<float>(summed);
  }
}

inline void fill_decoder(const SharedLevels& levels, const Standardization& map, int /*summed*/, int /*bits*/,
                         bool /*by_row*/, SharedTableDecoder& decoder) {
  const Index d = map.cols();
  const Buffer<std::uint8_t>& entries = levels.entries;
  bool even = true;  // evenly spaced, as two levels always are: then a code times the gap
  for (Index k = 1; k < entries.size(); ++k)
    even = even && entries[k] - entries[k - 1] == entries[1] - entries[0];
  const double gap = even ? static_cast<double>(entries[1] - entries[0]) : 1.0;
  const double first = even ? static_cast<double>(entries[0]) : 0.0;
  decoder.offset = Buffer<float>(d);
  decoder.step = Buffer<float>(d);
  for (Index j = 0; j < d; ++j) {
    const double step = static_cast<double>(levels.grids[j].step());
    decoder.offset[j] =
        standardised(static_cast<double>(levels.grids[j].offset()) + pinned(step * first), map, j);
    decoder.step[j] = static_cast<float>(step * gap / map.scale[j]);
  }
  if (!even) {
    decoder.entries = entries;
    decoder.entry_values = Buffer<float>(entries.size());
    for (Index k = 0; k < entries.size(); ++k) decoder.entry_values[k] = static_cast<float>(entries[k]);
  }
}

inline void fill_decoder(const ColumnTables& levels, const Standardization& map, int summed, int bits,
                         bool /*by_row*/, TableDecoder& decoder) {
  const Index d = map.cols();
  const int count = summed * (levels.count - 1) + 1;
  decoder.levels = count;
  decoder.tables = Buffer<float>(checked_product(d, count, "the tables of levels"));
  for (Index j = 0; j < d; ++j)
    for (int code = 0; code < count; ++code) {
      const DrawCount draws = split_sum(code, summed, bits);
      const double low = static_cast<double>(levels[j].value(draws.low));
      const double high = draws.up > 0 ? static_cast<double>(levels[j].value(draws.low + 1)) : low;
      decoder.tables[j * count + code] =
          standardised((low * (summed - draws.up) + high * draws.up) / summed, map, j);
    }
}

}  // namespace zipml::inline ZIPML_ABI::detail
