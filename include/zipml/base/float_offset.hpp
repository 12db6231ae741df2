#pragma once
/// \file
/// Room base: what to subtract from a column of doubles before it is rounded to float32. Timestamps and
/// identifiers are large numbers that differ little: 1700000001 and 1700000002 are one float32.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>

#include <zipml/base/buffer.hpp>
#include <zipml/base/config.hpp>
#include <zipml/base/index.hpp>

namespace zipml::inline ZIPML_ABI {

/// What float32 makes of a column.
struct FloatOffset {
  double offset = 0.0;  ///< to subtract before rounding; 0 where float32 holds the column as it is
  double merged =
      0.0;  ///< share of the different values of the sample that float32 cannot tell apart even then
};

/// Of a column with a value that float32 does not hold exactly. `sample` is up to some thousand of its
/// values, whose order is lost; `low` and `high` are its ends. The offset is the median, taken where the middle
/// half of the values is more than 16 times as far from zero as it is wide, so that four bits are gained, or
/// where float32 makes one of hundred different values equal to its neighbour, and the median does better.
/// O(m log m).
FloatOffset float_offset(double* sample, Index m, double low, double high);

/// Looks for the offsets of d columns, in two readings: note() every value, then give the values of the rows that
/// wants_row() names. NaN stands for no value. Memory 25 bytes a column, and a sample of at most 1,024 rows of
/// the columns that float32 does not hold exactly.
///
///     zipml::OffsetSurvey survey(d);
///     for (...) survey.note(j, value);
///     survey.begin_sample(n);
///     for (Index i = 0; i < n; ++i)
///       if (survey.wants_row(i)) for (...) survey.take(j, value);
///     const auto offsets = survey.offsets([](Index j, double merged) {});
class OffsetSurvey {
 public:
  explicit OffsetSurvey(Index cols) : low_(cols), high_(cols), seen_(cols) {}

  void note(Index j, double v) {
    if (v != v) return;
    if ((seen_[j] & seen) == 0) low_[j] = high_[j] = v;
    low_[j] = v < low_[j] ? v : low_[j];
    high_[j] = v > high_[j] ? v : high_[j];
    // What float32 cannot hold at all is refused elsewhere.
    const bool fits = v <= largest && v >= -largest;
    const bool exact = fits && static_cast<double>(static_cast<float>(v)) == v;
    seen_[j] |= static_cast<std::uint8_t>(exact ? seen : seen | inexact);
  }
  /// Whether column j has a value that float32 does not hold: others keep theirs.
  bool is_inexact(Index j) const { return (seen_[j] & inexact) != 0; }

  /// Of n rows, which are then read in their order.
  void begin_sample(Index rows);
  /// Whether row i is in the sample: asked once for each row, in their order.
  bool wants_row(Index i) {
    if (next_ == sampled_ || row_of(next_) != i) return false;
    ++next_;
    return true;
  }
  /// Value of column j in the row that was last wanted; a column that is not given holds 0 there.
  void take(Index j, double v) {
    if (slot_of_[j] >= 0) sample_[slot_of_[j] * sampled_ + next_ - 1] = v;
  }

  /// The offsets, or null where all are 0; says which columns float32 cannot tell apart even so, and which share
  /// of their values (FloatOffset::merged).
  template <class OnMerge>
  std::shared_ptr<const Buffer<double>> offsets(const OnMerge& on_merge) {
    std::shared_ptr<Buffer<double>> found;
    for (Index j = 0; j < low_.size(); ++j) {
      const FloatOffset column = offset_of(j);
      if (column.merged > 0.0) on_merge(j, column.merged);
      if (column.offset == 0.0) continue;
      if (!found) found = std::make_shared<Buffer<double>>(low_.size());
      (*found)[j] = column.offset;
    }
    return found;
  }

 private:
  static constexpr std::uint8_t seen = 1, inexact = 2;
  static constexpr double largest = 3.4e38;
  static constexpr Index most_rows = 1024, most_values = Index{1} << 23;

  Index row_of(Index k) const {
    return sampled_ == rows_ ? k
                             : static_cast<Index>((static_cast<double>(k) + 0.5) *
                                                  static_cast<double>(rows_) / static_cast<double>(sampled_));
  }
  FloatOffset offset_of(Index j);

  Buffer<double> low_, high_;
  Buffer<std::uint8_t> seen_;
  Buffer<Index> slot_of_;  // in the sample, -1 for a column that float32 holds
  Buffer<double> sample_;
  Index rows_ = 0, sampled_ = 0, next_ = 0;
};

#if ZIPML_DEFINES

namespace detail {
/// Types of ours: std::sort of doubles alone may merge at link time with that of a file with other -m flags.
struct LessDouble {
  bool operator()(double a, double b) const { return a < b; }
};
struct NoValue {
  bool operator()(double v) const { return !(v <= 3.4e38 && v >= -3.4e38); }
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

ZIPML_FUNCTION void OffsetSurvey::begin_sample(Index rows) {
  slot_of_ = Buffer<Index>(low_.size());
  Index width = 0;
  for (Index j = 0; j < low_.size(); ++j) slot_of_[j] = is_inexact(j) ? width++ : -1;
  rows_ = rows;
  sampled_ = width == 0 ? 0 : (std::min)(rows, std::clamp<Index>(most_values / width, 16, most_rows));
  sample_ = Buffer<double>(checked_product(sampled_, width, "a sample of the columns"));
  next_ = 0;
}

ZIPML_FUNCTION FloatOffset OffsetSurvey::offset_of(Index j) {
  if (slot_of_[j] < 0) return {};
  double* const values = sample_.data() + slot_of_[j] * sampled_;
  double* const end = std::remove_if(values, values + next_, detail::NoValue{});
  return float_offset(values, end - values, low_[j], high_[j]);
}

#endif

}  // namespace zipml::inline ZIPML_ABI
