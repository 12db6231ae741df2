#pragma once
/// \file
/// Room quantization: where levels may lie, and what the values between two of them cost.

#include <algorithm>
#include <cmath>
#include <span>
#include <string>

#include <zipml/base/buffer.hpp>
#include <zipml/base/error.hpp>
#include <zipml/base/rounded.hpp>

namespace zipml::inline ZIPML_ABI {

/// Increasing positions, with the weight, the sum and the sum of squares of the values up to each: what the
/// searches for levels read. A level on every position but the first and the last is optional; all values lie
/// between these two.
///
/// The positions are the distinct values themselves (then the search is exact: some optimal table lies on
/// values, ZipML 2017, section 3.1), or edges of bins (then it is exact among tables on edges).
///
/// Costs are differences of sums, and sums of values far from zero, or of a long tail, would cancel. So
/// values are taken less the median, and summed from the median outwards: what an interval loses to rounding
/// is of the size of what lies between it and the median.
///
///     const auto candidates = zipml::LevelCandidates::of_sorted(values);
class LevelCandidates {
 public:
  /// The values in (previous position, position], as moments about the position.
  struct Bin {
    double position;
    double weight;
    double distance = 0.0;  ///< sum weight * (value - position): not positive
    double squares = 0.0;   ///< sum weight * (value - position)^2
  };

  LevelCandidates() = default;

  /// `count` bins, bin(i) the i-th: positions do not decrease, weights are not negative; equal positions are
  /// one. O(count).
  template <class BinOf>
  LevelCandidates(Index count, const BinOf& bin) : nodes_(count) {
    if (count < 1) throw Error("there are no values to place levels on", "at least one value", "none");
    if (count >= Index{1} << 31)
      throw Error("there are too many values to place levels on", "below 2^31", std::to_string(count));
    for (Index i = 0; i < count; ++i) {
      const Bin next = bin(i);
      if (size_ == 0 || next.position > nodes_[size_ - 1].x) nodes_[size_++].x = next.position;
      Node& node = nodes_[size_ - 1];
      node.sum += next.distance;
      node.squares += next.squares;
      add_weight(next.weight);
    }
    sum_from_the_median();
  }

  /// Of increasing (equal ones allowed) finite values, each with a weight above 0, or 1. O(n). Throws Error
  /// for no values, for values that decrease or are not finite, for weights that are not positive and finite
  /// or of another number.
  static LevelCandidates of_sorted(std::span<const double> values, std::span<const double> weights = {});

  /// Of values in any order: sorts a copy. O(n log n).
  static LevelCandidates of_values(std::span<const float> values);

  Index size() const { return size_; }
  double position(Index i) const { return nodes_[i].x; }
  /// The candidate at this very position, or -1. O(log n).
  Index find(double where) const;
  double total_weight() const { return total_weight_; }
  /// Weight of the values in (position j, position m].
  double weight(Index j, Index m) const {
    return weights_.empty() ? static_cast<double>(m - j) : weights_[m] - weights_[j];
  }

  /// Variance of stochastic rounding between neighbouring levels on positions j < m:
  /// sum weight (x - x_j)(x_m - x) over the values between them, from the sums in O(1). Satisfies the
  /// quadrangle inequality, and never grows when the interval shrinks.
  double rounding_variance(Index j, Index m) const;

  /// What lies in (position j, position m], as one cell of a table for nearest rounding; j = -1 takes the
  /// first position in. O(1).
  struct Cell {
    double weight;
    double mean;           ///< the level that serves the cell best
    double squared_error;  ///< sum weight * (value - mean)^2; satisfies the quadrangle inequality
  };
  Cell cell(Index j, Index m) const;

 private:
  struct Node {
    double x;
    double sum;
    double squares;
  };

  /// Compensated (Neumaier 1974): the error of one rounding, however many terms.
  class Sum {
   public:
    explicit Sum(double first = 0.0) : total_(first) {}
    double add(double term) {
      const double next = total_ + term;
      rest_ += std::fabs(total_) >= std::fabs(term) ? (total_ - next) + term : (term - next) + total_;
      total_ = next;
      return value();
    }
    double value() const { return total_ + rest_; }

   private:
    double total_;
    double rest_ = 0.0;
  };

  /// Adds to the weight of the last position. As long as every position weighs 1 there is no array of
  /// weights.
  void add_weight(double weight);

  Index median() const;

  /// Turns what belongs to each position into sums from the median to it: of (median, position] behind it,
  /// minus (position, median] before it.
  void sum_from_the_median();

  double centre_ = 0.0;
  double total_weight_ = 0.0;
  Index size_ = 0;
  Node before_{};  // sums up to, and without, the first position
  double weight_of_first_ = 0.0;
  Buffer<Node> nodes_;
  Buffer<double> weights_;  // empty while every position is one value of weight 1
};

#if ZIPML_DEFINES

ZIPML_FUNCTION LevelCandidates LevelCandidates::of_sorted(std::span<const double> values,
                                                          std::span<const double> weights) {
  if (!weights.empty() && weights.size() != values.size())
    throw Error("values and weights differ in number", std::to_string(values.size()) + " weights",
                std::to_string(weights.size()));
  return LevelCandidates(static_cast<Index>(values.size()), [&](Index index) {
    const auto i = static_cast<std::size_t>(index);
    const double weight = weights.empty() ? 1.0 : weights[i];
    const auto at = [i] { return " at place " + std::to_string(i + 1); };
    if (!std::isfinite(values[i]))
      throw Error("a value to place levels on is not finite", "finite numbers",
                  number_text(values[i]) + at());
    if (!(weight > 0.0) || !std::isfinite(weight))
      throw Error("a weight is not a positive number", "above 0", number_text(weight) + at());
    if (i > 0 && values[i] < values[i - 1])
      throw Error("values to place levels on must not decrease", "at least " + number_text(values[i - 1]),
                  number_text(values[i]) + at());
    return Bin{values[i], weight};
  });
}

ZIPML_FUNCTION LevelCandidates LevelCandidates::of_values(std::span<const float> values) {
  List<double> sorted(values.begin(), values.end());
  for (const double v : sorted)  // NaN would break the order before it could be named
    if (!std::isfinite(v))
      throw Error("a value to place levels on is not finite", "finite numbers", number_text(v));
  std::sort(sorted.begin(), sorted.end());
  return of_sorted({sorted.data(), sorted.size()});
}

ZIPML_FUNCTION Index LevelCandidates::find(double where) const {
  Index low = 0;
  Index high = size_;
  while (low < high) {
    const Index middle = low + (high - low) / 2;
    if (position(middle) < where)
      low = middle + 1;
    else
      high = middle;
  }
  return low < size_ && position(low) == where ? low : -1;
}

ZIPML_FUNCTION double LevelCandidates::rounding_variance(Index j, Index m) const {
  const Node& a = nodes_[j];
  const Node& b = nodes_[m];
  const double low = a.x - centre_;
  const double high = b.x - centre_;
  return pinned((low + high) * (b.sum - a.sum)) - (b.squares - a.squares) -
         pinned(pinned(low * high) * weight(j, m));
}

ZIPML_FUNCTION LevelCandidates::Cell LevelCandidates::cell(Index j, Index m) const {
  const Node& a = j < 0 ? before_ : nodes_[j];
  const Node& b = nodes_[m];
  const double between = j < 0 ? weight(0, m) + weight_of_first_ : weight(j, m);
  if (!(between > 0.0)) return {0.0, position(m), 0.0};
  const double sum = b.sum - a.sum;
  return {between, centre_ + sum / between,
          (std::max)(0.0, (b.squares - a.squares) - pinned(sum * sum) / between)};
}

ZIPML_FUNCTION void LevelCandidates::add_weight(double weight) {
  total_weight_ += weight;
  if (weights_.empty() && total_weight_ == static_cast<double>(size_)) return;
  if (weights_.empty()) {
    weights_ = Buffer<double>(nodes_.size());
    std::fill_n(weights_.data(), size_ - 1, 1.0);
    weights_[size_ - 1] = total_weight_ - static_cast<double>(size_ - 1);
  } else {
    weights_[size_ - 1] += weight;
  }
}

ZIPML_FUNCTION Index LevelCandidates::median() const {
  if (weights_.empty()) return size_ / 2;
  double below = 0.0;
  Index i = 0;
  while (i + 1 < size_ && (below += weights_[i]) < 0.5 * total_weight_) ++i;
  return i;
}

ZIPML_FUNCTION void LevelCandidates::sum_from_the_median() {
  const Index middle = median();
  centre_ = nodes_[middle].x;
  Sum weight;
  Sum sum;
  Sum squares;
  const auto moments = [this](Index i) {  // of bin i, about the centre
    const Node& node = nodes_[i];
    const double x = node.x - centre_;
    const double w = weights_.empty() ? 1.0 : weights_[i];
    const double moved = pinned(w * x);
    return Node{node.x, moved + node.sum, pinned(moved * x) + pinned(2.0 * x * node.sum) + node.squares};
  };
  const Node own = moments(middle);
  const double own_weight = weights_.empty() ? 1.0 : weights_[middle];
  for (Index i = middle + 1; i < size_; ++i) {
    const Node bin = moments(i);
    if (!weights_.empty()) weights_[i] = weight.add(weights_[i]);
    nodes_[i] = {bin.x, sum.add(bin.sum), squares.add(bin.squares)};
  }
  weight = Sum(-own_weight);
  sum = Sum(-own.sum);
  squares = Sum(-own.squares);
  for (Index i = middle - 1; i >= 0; --i) {
    const Node bin = moments(i);
    const double bin_weight = weights_.empty() ? 1.0 : weights_[i];
    nodes_[i] = {bin.x, sum.value(), squares.value()};
    if (!weights_.empty()) weights_[i] = weight.value();
    sum.add(-bin.sum);
    squares.add(-bin.squares);
    weight.add(-bin_weight);
  }
  before_ = {0.0, sum.value(), squares.value()};
  weight_of_first_ = (weights_.empty() ? -static_cast<double>(middle)
                      : middle == 0    ? 0.0
                                       : weights_[0]) -
                     weight.value();
  if (!std::isfinite(nodes_[0].squares) || !std::isfinite(nodes_[size_ - 1].squares))
    throw Error("values to place levels on are too far apart to be squared", "squares that fit a double",
                number_text(position(0)) + " to " + number_text(position(size_ - 1)));
  nodes_[middle] = {centre_, 0.0, 0.0};
  if (!weights_.empty()) weights_[middle] = 0.0;
}

#endif

}  // namespace zipml::inline ZIPML_ABI
