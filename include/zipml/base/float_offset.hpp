#pragma once
/// \file
/// Room base: what to subtract from a column of doubles before it is rounded to float32. Timestamps and
/// identifiers are large numbers that differ little: 1700000001 and 1700000002 are one float32.

#include <algorithm>
#include <cmath>

#include <zipml/base/config.hpp>
#include <zipml/base/index.hpp>

namespace zipml::inline ZIPML_ABI {

/// What float32 makes of a column.
struct FloatOffset {
  double offset = 0.0;  ///< to subtract before rounding; 0 where float32 holds the column as it is
  double merged =
      0.0;  ///< share of the different values of the sample that float32 cannot tell apart even then
};

/// Rows of a sample that float_offset() looks at, and which row the k-th of m is: spread over all n.
inline constexpr Index offset_sample_rows = 1024;
inline Index offset_sample_row(Index k, Index m, Index n) {
  return m == n ? k
                : static_cast<Index>((static_cast<double>(k) + 0.5) * static_cast<double>(n) /
                                     static_cast<double>(m));
}

/// Of a column with a value that float32 does not hold exactly. `sample` is up to some thousand of its
/// values, whose order is lost; `low` and `high` are its ends. The offset is the median, taken where the middle
/// half of the values is more than 16 times as far from zero as it is wide, so that four bits are gained, or
/// where float32 makes one of hundred different values equal to its neighbour, and the median does better.
/// O(m log m).
FloatOffset float_offset(double* sample, Index m, double low, double high);

#if ZIPML_DEFINES

namespace detail {
/// A type of ours: std::sort of doubles alone may merge at link time with that of a file with other -m flags.
struct LessDouble {
  bool operator()(double a, double b) const { return a < b; }
};
}  // namespace detail

ZIPML_FUNCTION FloatOffset float_offset(double* sample, Index m, double low, double high) {
  if (m == 0 || low == high) return {};
  std::sort(sample, sample + m, detail::LessDouble{});
  const double first = sample[m / 4], median = sample[m / 2], third = sample[(std::min)(m - 1, 3 * m / 4)];
  double width = third - first;
  if (width == 0.0) width = sample[m - 1] - sample[0];
  if (width == 0.0) width = high - low;
  const auto merged_at = [&](double offset) {
    Index different = 1, merged = 0;
    for (Index i = 1; i < m; ++i) {
      if (sample[i] == sample[i - 1]) continue;
      ++different;
      merged += static_cast<float>(sample[i] - offset) == static_cast<float>(sample[i - 1] - offset) ? 1 : 0;
    }
    return 100 * merged >= different ? static_cast<double>(merged) / static_cast<double>(different) : 0.0;
  };
  const double largest = (std::max)(std::fabs(first), std::fabs(third));
  const bool coarse = largest > 16.0 * width;
  const double plain = merged_at(0.0);
  if (!coarse && plain == 0.0) return {};
  const double moved = merged_at(median);
  if (moved > plain || (moved == plain && !coarse)) return {0.0, plain};
  return {median, moved};
}

#endif

}  // namespace zipml::inline ZIPML_ABI
