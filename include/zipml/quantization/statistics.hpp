#pragma once
/// \file
/// Layer 1: what a data set is like before it is quantized: per-column range, mean and deviation, and the
/// same for the labels. Computed in double precision in fixed chunks of rows, so that the numbers depend on
/// the data alone.

#include <algorithm>
#include <cmath>
#include <cstdint>

#include <zipml/types.hpp>

namespace zipml::inline ZIPML_ABI {

/// Of one column over the training rows, in the user's units.
struct ColumnStatistics {
  float min = 0.0f;
  float max = 0.0f;
  double mean = 0.0;
  double deviation =
      0.0;  ///< sqrt of the mean squared distance from the mean; exactly 0 for a constant column
};

namespace detail {

inline constexpr Index statistics_chunk = 1024;  // rows whose sums are added up before they join the total

inline bool all_finite(const float* values, Index n) {
  // An exponent of all ones is an infinity or a NaN; a test on bits survives every compiler flag.
  std::uint32_t bad = 0;
  for (Index i = 0; i < n; ++i) {
    std::uint32_t bits;
    std::memcpy(&bits, values + i, sizeof bits);
    bad |= static_cast<std::uint32_t>((bits & 0x7F800000u) == 0x7F800000u);
  }
  return bad == 0;
}

}  // namespace detail

/// Throws Error that names row and column (from 1) of the first value that is NaN or infinite.
inline void require_finite(const MatrixView& matrix, const char* what) {
  for (Index i = 0; i < matrix.rows; ++i) {
    if (detail::all_finite(matrix.row(i), matrix.cols)) continue;
    for (Index j = 0; j < matrix.cols; ++j)
      if (!detail::all_finite(matrix.row(i) + j, 1))
        throw Error(std::string(what) + " has a value that is not finite", "finite numbers",
                    number_text(matrix(i, j)) + " at row " + std::to_string(i + 1) + ", column " +
                        std::to_string(j + 1));
  }
}

/// Range, mean and deviation of every column: two passes, O(n d). Throws Error for n = 0 or values that are
/// not finite.
inline Buffer<ColumnStatistics> column_statistics(const MatrixView& matrix) {
  if (matrix.rows == 0) throw Error("there are no samples", "at least one row", "0 rows");
  require_finite(matrix, "the sample matrix");
  const Index d = matrix.cols;
  const auto n = static_cast<double>(matrix.rows);
  Buffer<ColumnStatistics> columns(d);
  for (Index j = 0; j < d; ++j) columns[j].min = columns[j].max = matrix(0, j);

  Buffer<double> total(d);
  Buffer<double> chunk(d);
  const auto flush = [&] {
    for (Index j = 0; j < d; ++j) {
      total[j] += chunk[j];
      chunk[j] = 0.0;
    }
  };
  for (Index i = 0; i < matrix.rows; ++i) {
    const float* row = matrix.row(i);
    for (Index j = 0; j < d; ++j) {
      columns[j].min = std::min(columns[j].min, row[j]);
      columns[j].max = std::max(columns[j].max, row[j]);
      chunk[j] += static_cast<double>(row[j]);
    }
    if ((i + 1) % detail::statistics_chunk == 0) flush();
  }
  flush();
  for (Index j = 0; j < d; ++j) {
    const bool constant = columns[j].min == columns[j].max;
    columns[j].mean = constant ? static_cast<double>(columns[j].min) : total[j] / n;
    total[j] = 0.0;
  }
  for (Index i = 0; i < matrix.rows; ++i) {
    const float* row = matrix.row(i);
    for (Index j = 0; j < d; ++j) {
      const double distance = static_cast<double>(row[j]) - columns[j].mean;
      chunk[j] += pinned(distance * distance);
    }
    if ((i + 1) % detail::statistics_chunk == 0) flush();
  }
  flush();
  for (Index j = 0; j < d; ++j)
    columns[j].deviation = columns[j].min == columns[j].max ? 0.0 : std::sqrt(total[j] / n);
  return columns;
}

/// The affine map between the user's units and standardised ones, standard = (value - mean) / scale, kept so
/// that it can be undone on the weights. A constant column has scale 1, which makes it exactly 0.
struct Standardization {
  Buffer<double> mean;   ///< d
  Buffer<double> scale;  ///< d, never 0

  Index cols() const { return mean.size(); }
};

/// Standardization to mean 0 and variance 1, from the training rows' statistics.
inline Standardization standardization_of(const Buffer<ColumnStatistics>& columns) {
  Standardization map{Buffer<double>(columns.size()), Buffer<double>(columns.size())};
  for (Index j = 0; j < columns.size(); ++j) {
    map.mean[j] = columns[j].mean;
    map.scale[j] = columns[j].deviation > 0.0 ? columns[j].deviation : 1.0;
  }
  return map;
}

/// The map that leaves d columns as they are.
inline Standardization identity_standardization(Index d) {
  Standardization map{Buffer<double>(d), Buffer<double>(d)};
  for (Index j = 0; j < d; ++j) map.scale[j] = 1.0;
  return map;
}

/// Of the labels, in the user's units.
struct LabelStatistics {
  float min = 0.0f;
  float max = 0.0f;
  double mean = 0.0;
  double deviation = 0.0;
  bool two_values = false;  ///< every label is min or max, and min < max
};

/// O(n). Throws Error for n = 0 or labels that are not finite.
inline LabelStatistics label_statistics(const float* labels, Index n) {
  require_finite(MatrixView{labels, n, 1, 1}, "the label vector");
  const auto columns = column_statistics(MatrixView{labels, n, 1, 1});
  LabelStatistics result{columns[0].min, columns[0].max, columns[0].mean, columns[0].deviation, false};
  result.two_values = result.min < result.max && std::all_of(labels, labels + n, [&](float y) {
                        return y == result.min || y == result.max;
                      });
  return result;
}

}  // namespace zipml::inline ZIPML_ABI
