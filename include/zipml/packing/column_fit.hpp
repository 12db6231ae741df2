#pragma once
/// \file
/// Room packing: what levels are fitted to before any value is rounded: all rows where these are few, else a
/// random sample of them. What lies outside of a sample's range is an outlier and stays exact, so that a
/// sample makes nothing biased; where no outliers are kept the range is that of all rows.

#include <algorithm>
#include <utility>

#include <zipml/base/error.hpp>
#include <zipml/base/views.hpp>
#include <zipml/packing/levels_policy.hpp>
#include <zipml/quantization/clipping.hpp>
#include <zipml/storage/targets.hpp>

namespace zipml::inline ZIPML_ABI::detail {

/// Columns before they are rounded.
struct ColumnFit {
  Buffer<ColumnStatistics>
      columns;           ///< their ranges without the outliers that are kept, symmetric where asked
  bool sampled = false;  ///< of a sample: mean and deviation of all rows are still to be summed
  MatrixView rows;       ///< what levels are fitted to
  Buffer<float> values;  ///< of these, where they are copies
};

/// Rows that levels, centres and clipping points come from: all of n where n d <= 2^21, else n / 25, but at
/// most 2^23 values, and at least 4,096 rows and 2^21 values.
inline Index sample_rows(Index rows, Index cols) {
  const Index wide = std::max<Index>(cols, 1);
  const Index share = (std::min)(rows / 25, (Index{1} << 23) / wide);
  const Index enough = (std::max)({Index{4096}, share, (Index{1} << 21) / wide});
  return enough < rows / 2 ? enough : rows;
}

/// Makes the range symmetric about `middle`.
void center(ColumnStatistics& column, double middle);

/// O(n d) where there is no sample. Throws Error for options out of range, no rows, values not finite.
ColumnFit fit_columns(const MatrixView& features, const QuantizeOptions& options);

#if ZIPML_DEFINES

ZIPML_FUNCTION void center(ColumnStatistics& column, double middle) {
  const double reach =
      (std::max)(static_cast<double>(column.max) - middle, middle - static_cast<double>(column.min));
  column.min = static_cast<float>(middle - reach);
  column.max = static_cast<float>(middle + reach);
}

ZIPML_FUNCTION ColumnFit fit_columns(const MatrixView& features, const QuantizeOptions& options) {
  if (!(options.outliers >= 0.0 && options.outliers < 0.5))
    throw Error("the fraction of outliers is out of range", "0 <= fraction < 0.5",
                number_text(options.outliers));
  if (options.outliers > 0.0 && options.scales_rows())
    throw Error("outliers are clipped from columns", "scaling by column, or no outliers", "scaling by row");
  ColumnFit fit;
  fit.rows = features;
  const Index rows = sample_rows(features.rows, features.cols);
  fit.sampled = options.outliers > 0.0 && rows < features.rows;
  if (fit.sampled) {
    Buffer<Index> ids(rows);
    RowPlacement(options.seed, features.rows).row_ids(0, rows, ids.data());
    fit.values = gathered_rows(features, std::as_const(ids).span());
    if (!all_finite(fit.values.data(), fit.values.size()))
      require_finite(features, "the sample matrix");  // names the first
    fit.rows = {fit.values.data(), rows, features.cols, features.cols};
  } else if (options.outliers > 0.0 && features.reader) {  // few, and looked at several times
    fit.values = Buffer<float>::uninitialised(checked_product(features.rows, features.cols, "the rows"));
    features.read(0, features.rows, fit.values.data());
    fit.rows = {fit.values.data(), features.rows, features.cols, features.cols};
  }
  fit.columns = column_statistics(fit.rows, options.threads);
  if (options.outliers > 0.0) {
    const Buffer<Range> ranges = clipping_ranges(fit.rows, options.outliers);
    for (Index j = 0; j < features.cols; ++j) {
      fit.columns[j].min = ranges[j].min;
      fit.columns[j].max = ranges[j].max;
    }
  }
  if (options.scaling == Scaling::column_max_abs)
    for (Index j = 0; j < features.cols; ++j)
      center(fit.columns[j], options.standardize ? fit.columns[j].mean : 0.0);
  return fit;
}

#endif

}  // namespace zipml::inline ZIPML_ABI::detail
