#pragma once
/// \file
/// Room quantization: what a data set is like before it is quantized: per-column range, mean and deviation,
/// and the same for the labels. Computed in double precision in fixed chunks of rows, so that the numbers
/// depend on the data alone.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <type_traits>

#include <zipml/base/error.hpp>
#include <zipml/base/rounded.hpp>
#include <zipml/base/thread_team.hpp>
#include <zipml/base/vector_math.hpp>
#include <zipml/base/views.hpp>

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

/// Of float32 or double. An exponent of all ones is an infinity or a NaN; a test on bits survives every
/// compiler flag.
template <class T>
bool all_finite(const T* values, Index n) {
  using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
  const T infinity = std::numeric_limits<T>::infinity();
  Bits exponent;
  std::memcpy(&exponent, &infinity, sizeof exponent);
  Bits bad = 0;
  for (Index i = 0; i < n; ++i) {
    Bits bits;
    std::memcpy(&bits, values + i, sizeof bits);
    bad |= static_cast<Bits>((bits & exponent) == exponent);
  }
  return bad == 0;
}

}  // namespace detail

/// Throws Error that names row and column (from 1) of the first value that is NaN or infinite.
void require_finite(const MatrixView& matrix, const char* what);

namespace detail {

/// Sums over rows, shared among threads: f(part, row, sums) adds row to the d sums of a chunk of rows; the
/// sums of the chunks are added up in their order, whoever has formed them.
template <class F>
Buffer<double> sums_over_rows(ThreadTeam& team, const MatrixView& matrix, const F& f) {
  const Index d = matrix.cols;
  const Index chunks = (matrix.rows + statistics_chunk - 1) / statistics_chunk;
  Buffer<double> of_chunks(checked_product(chunks, d, "the sums of columns"));
  team.run([&](int part) {
    const Share share = share_of(chunks, 1, part, team.size());
    MatrixRows rows(matrix);
    for (Index chunk = share.first; chunk < share.first + share.count; ++chunk) {
      const Index first = chunk * statistics_chunk;
      const Index end = (std::min)(first + statistics_chunk, matrix.rows);
      for (Index i = first; i < end; ++i) f(part, rows(i), of_chunks.data() + chunk * d);
    }
  });
  Buffer<double> total(d);
  for (Index chunk = 0; chunk < chunks; ++chunk)
    for (Index j = 0; j < d; ++j) total[j] += of_chunks[chunk * d + j];
  return total;
}

}  // namespace detail

/// Range, mean and deviation of every column: two passes, O(n d), shared among threads (0: all of the
/// machine), the same bits for any number. Throws Error for n = 0 or values that are not finite.
Buffer<ColumnStatistics> column_statistics(const MatrixView& matrix, int threads = 1);

/// The affine map between the user's units and standardised ones, standard = (value - mean) / scale, kept so
/// that it can be undone on the weights. A constant column has scale 1, which makes it exactly 0.
struct Standardization {
  Buffer<double> mean;   ///< d
  Buffer<double> scale;  ///< d, never 0
  /// What the samples have lost before they were rounded to float32, as MatrixView::offsets; null: nothing.
  /// The user's value is offset + mean + scale * standard.
  std::shared_ptr<const Buffer<double>> offsets = nullptr;
  std::shared_ptr<const Schema> schema = nullptr;  ///< whose columns these are, or null

  Index cols() const { return mean.size(); }
  /// Mean of column j in the user's units.
  double user_mean(Index j) const { return mean[j] + (offsets ? (*offsets)[j] : 0.0); }
  /// A value of column j in standardised units.
  double apply(double value, Index j) const { return (value - mean[j]) / scale[j]; }
};

/// Standardization to mean 0 and variance 1, from the training rows' statistics.
Standardization standardization_of(const Buffer<ColumnStatistics>& columns);

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
  /// What was subtracted from the labels before they were rounded to float32 (LabelView): all of the above
  /// are of what is left.
  double offset = 0.0;
};

/// O(n). Throws Error for n = 0 or labels that are not finite.
LabelStatistics label_statistics(const LabelView& labels);

#if ZIPML_DEFINES

ZIPML_FUNCTION void require_finite(const MatrixView& matrix, const char* what) {
  MatrixRows rows(matrix);
  for (Index i = 0; i < matrix.rows; ++i) {
    const float* row = rows(i);
    if (detail::all_finite(row, matrix.cols)) continue;
    for (Index j = 0; j < matrix.cols; ++j)
      if (!detail::all_finite(row + j, 1))
        throw Error(
            std::string(what) + " has a value that is not finite", "finite numbers",
            number_text(row[j]) + " at row " + std::to_string(i + 1) + ", column " + std::to_string(j + 1));
  }
}

ZIPML_FUNCTION Buffer<ColumnStatistics> column_statistics(const MatrixView& matrix, int threads) {
  if (matrix.rows == 0) throw Error("there are no samples", "at least one row", "0 rows");
  const Index d = matrix.cols;
  const auto n = static_cast<double>(matrix.rows);
  ThreadTeam team(thread_count(threads));
  List<Buffer<float>> lowest, highest;  // of each thread
  for (int part = 0; part < team.size(); ++part) {
    lowest.emplace_back(d);
    std::copy_n(MatrixRows(matrix)(0), d, lowest.back().data());
    highest.push_back(lowest.back());
  }
  const Buffer<double> total =
      detail::sums_over_rows(team, matrix, [&](int part, const float* row, double* __restrict sums) {
        float* __restrict low = lowest[static_cast<std::size_t>(part)].data();
        float* __restrict high = highest[static_cast<std::size_t>(part)].data();
        for (Index j = 0; j < d; ++j) {
          low[j] = row[j] < low[j] ? row[j] : low[j];
          high[j] = high[j] < row[j] ? row[j] : high[j];
        }
        for (Index j = 0; j < d; ++j) sums[j] += static_cast<double>(row[j]);
      });
  // What is not finite reaches its sum, and no other sum of floats leaves the range of double.
  if (!detail::all_finite(total.data(), d)) require_finite(matrix, "the sample matrix");
  Buffer<ColumnStatistics> columns(d);
  Buffer<double> mean(d);
  for (Index j = 0; j < d; ++j) {
    ColumnStatistics& column = columns[j];
    column.min = lowest[0][j];
    column.max = highest[0][j];
    for (std::size_t part = 1; part < lowest.size(); ++part) {
      column.min = (std::min)(column.min, lowest[part][j]);
      column.max = (std::max)(column.max, highest[part][j]);
    }
    mean[j] = column.min == column.max ? static_cast<double>(column.min) : total[j] / n;
    column.mean = mean[j];
  }
  const detail::Rounded<double> rounded;
  const Buffer<double> squares =
      detail::sums_over_rows(team, matrix, [&](int, const float* row, double* __restrict sums) {
        for (Index j = 0; j < d; ++j) {
          const double distance = static_cast<double>(row[j]) - mean[j];
          sums[j] += rounded(distance * distance);
        }
      });
  for (Index j = 0; j < d; ++j)
    columns[j].deviation = columns[j].min == columns[j].max ? 0.0 : std::sqrt(squares[j] / n);
  return columns;
}

ZIPML_FUNCTION Standardization standardization_of(const Buffer<ColumnStatistics>& columns) {
  Standardization map{Buffer<double>(columns.size()), Buffer<double>(columns.size())};
  for (Index j = 0; j < columns.size(); ++j) {
    map.mean[j] = columns[j].mean;
    map.scale[j] = columns[j].deviation > 0.0 ? columns[j].deviation : 1.0;
  }
  return map;
}

ZIPML_FUNCTION LabelStatistics label_statistics(const LabelView& labels) {
  const MatrixView column{labels.data(), labels.size(), 1, 1};
  require_finite(column, "the label vector");
  const auto columns = column_statistics(column);
  LabelStatistics result{columns[0].min,       columns[0].max, columns[0].mean,
                         columns[0].deviation, false,          labels.offset};
  result.two_values =
      result.min < result.max && std::all_of(labels.values.begin(), labels.values.end(),
                                             [&](float y) { return y == result.min || y == result.max; });
  return result;
}

#endif

}  // namespace zipml::inline ZIPML_ABI
