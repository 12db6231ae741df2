#pragma once
/// \file
/// Room packing: policies that fit a table of levels to each column.

#include <algorithm>

#include <zipml/base/error.hpp>
#include <zipml/base/rounded.hpp>
#include <zipml/base/views.hpp>
#include <zipml/packing/levels_policy.hpp>
#include <zipml/quantization/clipping.hpp>
#include <zipml/quantization/lloyd_max.hpp>
#include <zipml/quantization/optimal_levels.hpp>
#include <zipml/quantization/value_histogram.hpp>

namespace zipml::inline ZIPML_ABI {

/// Histograms of the columns of a stream of rows, from which every table is fitted: rows may come from
/// memory, a file or a stream, in any order, over any number of collectors that are then merged, and the
/// levels are the same. `columns` tells where each column's values lie (its mean, moved into the range, as
/// the histogram's centre) and which of them count (min to max: outliers that are kept elsewhere do not).
///
///     LevelsCollector collector(columns);
///     for (...) collector.add(row);
///     const ColumnTables tables = collector.tables(zipml::optimal_levels, 4);
class LevelsCollector {
 public:
  /// `centred` false takes 0 as the centre, for tables with a level there.
  explicit LevelsCollector(std::span<const ColumnStatistics> columns, bool centred = true)
      : LevelsCollector(columns, centred, 0, static_cast<Index>(columns.size())) {}

  void add(const float* row) { add({row, 1, cols_, cols_}); }

  /// Rows of a matrix of as many columns. A few at a time stay in cache while column after column is counted.
  void add(const MatrixView& rows);

  /// Adds what another collector for the same columns has seen.
  void merge(const LevelsCollector& other);

  /// The tables of 2^bits levels that `policy` fits; shorter ones repeat their last level. A column of which
  /// no value was added has levels at 0.
  template <class Policy>
  ColumnTables tables(const Policy& policy, int bits) const {
    ColumnTables tables(static_cast<Index>(histograms_.size()), 1 << bits);
    for (Index j = 0; j < tables.size(); ++j)
      if (const ValueHistogram& histogram = histograms_[static_cast<std::size_t>(j)]; histogram.count() > 0)
        policy.fit(histogram, {tables.table(j), static_cast<std::size_t>(tables.count)});
    tables.fitted = true;
    return tables;
  }

  /// The tables of a matrix in memory, 64 columns at a time, so that histograms take no
  /// more memory than that of these.
  template <class Policy>
  static ColumnTables fit(const Policy& policy, const MatrixView& rows,
                          std::span<const ColumnStatistics> columns, bool centred, int bits) {
    constexpr Index together = 64;
    ColumnTables all(rows.cols, 1 << bits);
    all.fitted = true;
    for (Index first = 0; first < rows.cols; first += together) {
      const Index count = (std::min)(together, rows.cols - first);
      LevelsCollector collector(columns, centred, first, count);
      collector.add(rows);
      const ColumnTables some = collector.tables(policy, bits);
      std::copy(some.values.begin(), some.values.end(), all.table(first));
    }
    return all;
  }

 private:
  LevelsCollector(std::span<const ColumnStatistics> columns, bool centred, Index first, Index count);

  Index cols_;
  Index first_;  // column that the first histogram counts
  List<ValueHistogram> histograms_;
  List<Range> ranges_;
};

namespace detail {

/// Levels as floats; a shorter table repeats its last one.
inline void fill_table(const FoundLevels& found, std::span<float> table) {
  for (std::size_t k = 0; k < table.size(); ++k)
    table[k] = static_cast<float>(found.levels[(std::min)(k, found.levels.size() - 1)]);
}

}  // namespace detail

/// Per column, the 2^bits levels that minimise the variance of stochastic rounding, on the edges of a
/// histogram (quantization/value_histogram.hpp): at 16 levels within 0.02 % of the exact optimum on normal
/// data; exact on columns of up to 256 distinct values, and without variance when there are no more of them
/// than levels. ZipML 2017, section 3. O(n d) for the histograms, then a search of some
/// thousand edges a column.
struct OptimalLevelsPolicy {
  using Decoder = TableDecoder;
  static constexpr const char* name = "optimal";

  bool zero = false;  ///< one level is 0, so that zeros are exact (3 levels at least: not for 1 bit)

  ColumnTables levels(const MatrixView& features, const Buffer<ColumnStatistics>& columns, int bits) const {
    return LevelsCollector::fit(*this, features, columns.span(), !zero, bits);
  }

  /// Fits one table.
  void fit(const ValueHistogram& histogram, std::span<float> table) const;
};
inline constexpr OptimalLevelsPolicy optimal_levels{};

/// Per column, the 2^bits levels of least squared error, for nearest rounding (quantization/lloyd_max.hpp).
struct LloydMaxLevelsPolicy {
  using Decoder = TableDecoder;
  static constexpr const char* name = "lloyd-max";
  static constexpr bool nearest_only =
      true;  ///< the ends lie inside the data: stochastic rounding is biased there

  ColumnTables levels(const MatrixView& features, const Buffer<ColumnStatistics>& columns, int bits) const {
    return LevelsCollector::fit(*this, features, columns.span(), true, bits);
  }
  void fit(const ValueHistogram& histogram, std::span<float> table) const {
    detail::fill_table(find_lloyd_max_levels(histogram.candidates(), static_cast<Index>(table.size())),
                       table);
  }
};
inline constexpr LloydMaxLevelsPolicy lloyd_max_levels{};

/// One optimal table for all columns, on the grid of 256 points over each column's range: rounding happens to
/// the points themselves, so that it stays unbiased, and integer kernels can read them. Minimises the sum
/// over columns of the variance in standardised units, exactly on the grid. Not for the sum code, whose means
/// lie between. O(n d).
struct SharedOptimalLevelsPolicy {
  using Decoder = SharedTableDecoder;
  static constexpr const char* name = "optimal-shared";

  SharedLevels levels(const MatrixView& features, const Buffer<ColumnStatistics>& columns, int bits) const;
};
inline constexpr SharedOptimalLevelsPolicy shared_optimal_levels{};

/// The optimal levels of one vector, of a model or a gradient say: as find_optimal_levels, by sorting where
/// it is short and by a histogram where it is long. Fast enough to refit levels as the vector
/// changes (bench/levels_bench.cpp, levels/vector). Throws Error for an empty vector or entries that are not
/// finite.
///
///     const auto found = zipml::find_levels_of({x.data(), d}, 16);
FoundLevels find_levels_of(std::span<const float> vector, Index levels);

#if ZIPML_DEFINES

ZIPML_FUNCTION void LevelsCollector::add(const MatrixView& rows) {
  constexpr Index piece = 1024;
  float values[piece];
  Buffer<float> read(rows.reader ? (std::min)(piece, rows.rows) * rows.cols : 0);
  for (Index first = 0; first < rows.rows; first += piece) {
    const Index count = (std::min)(piece, rows.rows - first);
    if (rows.reader) {
      rows.read(first, count, read.data());
      add({read.data(), count, rows.cols, rows.cols});
      continue;
    }
    for (Index j = 0; j < static_cast<Index>(histograms_.size()); ++j) {
      const Range range = ranges_[static_cast<std::size_t>(j)];
      Index inside = 0;
      for (Index i = 0; i < count; ++i) {
        const float value = rows(first + i, first_ + j);
        values[inside] = value;
        inside += value < range.min || value > range.max ? 0 : 1;  // a NaN passes, and is named
      }
      histograms_[static_cast<std::size_t>(j)].add(values, inside);
    }
  }
}

ZIPML_FUNCTION void LevelsCollector::merge(const LevelsCollector& other) {
  if (other.histograms_.size() != histograms_.size())
    throw Error("collectors of different columns cannot merge",
                std::to_string(histograms_.size()) + " columns", std::to_string(other.histograms_.size()));
  for (std::size_t j = 0; j < histograms_.size(); ++j)
    if (histograms_[j].centre() != other.histograms_[j].centre() || ranges_[j].min != other.ranges_[j].min ||
        ranges_[j].max != other.ranges_[j].max)
      throw Error("collectors with different statistics cannot merge", "those of the same columns",
                  "others in column " + std::to_string(j + 1));
  for (std::size_t j = 0; j < histograms_.size(); ++j) histograms_[j].merge(other.histograms_[j]);
}

ZIPML_FUNCTION LevelsCollector::LevelsCollector(std::span<const ColumnStatistics> columns, bool centred,
                                                Index first, Index count)
    : cols_(static_cast<Index>(columns.size())), first_(first) {
  for (Index j = first; j < first + count; ++j) {
    const ColumnStatistics& column = columns[static_cast<std::size_t>(j)];
    // Outliers beyond the range move the mean, but not out of the range.
    const auto mean = static_cast<float>(column.mean);
    histograms_.emplace_back(centred ? std::clamp(mean, column.min, column.max) : 0.0f);
    ranges_.push_back({column.min, column.max});
  }
}

ZIPML_FUNCTION void OptimalLevelsPolicy::fit(const ValueHistogram& histogram, std::span<float> table) const {
  const LevelCandidates candidates = histogram.candidates(zero);
  const auto count = static_cast<Index>(table.size());
  detail::fill_table(zero ? find_optimal_levels_through(candidates, count, candidates.find(0.0))
                          : find_optimal_levels(candidates, count),
                     table);
}

ZIPML_FUNCTION SharedLevels SharedOptimalLevelsPolicy::levels(const MatrixView& features,
                                                              const Buffer<ColumnStatistics>& columns,
                                                              int bits) const {
  constexpr int points = 256;
  SharedLevels shared;
  shared.grids = Buffer<UniformGrid>(features.cols);
  for (Index j = 0; j < features.cols; ++j) shared.grids[j] = {columns[j].min, columns[j].max, points};

  // Of each interval between points, in columns with a range: count, sum and sum of squares of places below
  // 2^16, exact in any order.
  struct Moments {
    std::uint64_t count;
    std::uint64_t sum;
    std::uint64_t squares;
  };
  Buffer<Moments> moments(checked_product(features.cols, points - 1, "the histograms of the columns"));
  MatrixRows rows(features);
  for (Index i = 0; i < features.rows; ++i) {
    const float* row = rows(i);
    for (Index j = 0; j < features.cols; ++j) {
      const float value = row[j];
      if (value < columns[j].min || value > columns[j].max) continue;  // an outlier
      const Position position = shared.grids[j].lower(value);
      const auto place = static_cast<std::uint64_t>(position.fraction * 65536.0f);
      Moments& m = moments[j * (points - 1) + position.code];
      m.count += 1;
      m.sum += place;
      m.squares += place * place;
    }
  }
  List<LevelCandidates::Bin> bins;
  for (int k = 0; k < points; ++k) bins.push_back({static_cast<double>(k), 0.0});
  for (Index j = 0; j < features.cols; ++j) {
    if (!(columns[j].deviation > 0.0)) continue;
    const double step = static_cast<double>(shared.grids[j].step()) / columns[j].deviation;
    const double importance = step * step;
    for (int k = 1; k < points; ++k) {
      const Moments& m = moments[j * (points - 1) + k - 1];
      const auto count = static_cast<double>(m.count);
      const double sum = static_cast<double>(m.sum) / 65536.0;
      const double squares = static_cast<double>(m.squares) / (65536.0 * 65536.0);
      LevelCandidates::Bin& bin = bins[static_cast<std::size_t>(k)];
      bin.weight += pinned(importance * count);
      bin.distance += pinned(importance * (sum - count));
      bin.squares += pinned(importance * (squares - 2.0 * sum + count));
    }
  }
  const LevelCandidates candidates(points, [&bins](Index k) { return bins[static_cast<std::size_t>(k)]; });
  const FoundLevels found = find_optimal_levels(candidates, Index{1} << bits);

  shared.entries = Buffer<std::uint8_t>(Index{1} << bits);
  for (Index k = 0; k < shared.entries.size(); ++k)
    shared.entries[k] = static_cast<std::uint8_t>(
        found.levels[(std::min)(static_cast<std::size_t>(k), found.levels.size() - 1)]);
  shared.tables = ColumnTables(features.cols, 1 << bits);
  for (Index j = 0; j < features.cols; ++j)
    for (int k = 0; k < shared.tables.count; ++k)
      shared.tables.table(j)[k] = shared.grids[j].value(shared.entries[k]);
  return shared;
}

ZIPML_FUNCTION FoundLevels find_levels_of(std::span<const float> vector, Index levels) {
  constexpr std::size_t short_enough = 4096;
  if (vector.size() <= short_enough) return find_optimal_levels(LevelCandidates::of_values(vector), levels);
  double sum = 0.0;
  for (const float v : vector) sum += static_cast<double>(v);
  ValueHistogram histogram(static_cast<float>(sum / static_cast<double>(vector.size())));
  histogram.add(vector.data(), static_cast<Index>(vector.size()));
  return find_optimal_levels(histogram.candidates(), levels);
}

#endif

}  // namespace zipml::inline ZIPML_ABI
