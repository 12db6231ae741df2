#pragma once
/// \file
/// Room quantization: where to clip a column so that its levels are spent on the bulk of its values.

#include <algorithm>
#include <cmath>
#include <limits>

#include <zipml/base/buffer.hpp>
#include <zipml/base/error.hpp>
#include <zipml/base/views.hpp>
#include <zipml/quantization/statistics.hpp>

namespace zipml::inline ZIPML_ABI {

/// An interval of values, ends included.
struct Range {
  float min = 0.0f;
  float max = 0.0f;
};

namespace detail {

// Types of ours: std::sort by std::less is a function that the linker may keep from a file with other -m
// flags.
struct Ascending {
  bool operator()(float a, float b) const { return a < b; }
};
struct Descending {
  bool operator()(float a, float b) const { return a > b; }
};

}  // namespace detail

/// Finds, for each column of a stream of rows, the shortest interval that holds all but floor(fraction * n)
/// of the n values. On a symmetric column these are the central ones; on a skewed one it cuts the long tail
/// only.
///
/// One pass in any order; keeps the floor(fraction * n) + 1 smallest and largest values of each column, so
/// that the answer is exact, the same for memory, file and stream, and the same however the rows were dealt
/// over collectors that are then merged. n is known first. Memory 8 d (floor(fraction * n) + 1) bytes.
///
///     ClippingCollector collector(d, n, 0.003);
///     for (...) collector.add(row);
///     const Buffer<Range> ranges = collector.ranges();
class ClippingCollector {
 public:
  /// Throws Error unless 0 <= fraction < 0.5.
  ClippingCollector(Index d, Index n, double fraction);

  void add(const float* row);

  /// Adds what another collector of the same shape has seen.
  void merge(const ClippingCollector& other);

  /// The interval of each column. At least one row must have been added.
  Buffer<Range> ranges() const;

 private:
  struct Tail {
    Index smallest = 0;  // values held so far
    Index largest = 0;
  };

  float* smallest(Index j) { return smallest_.data() + j * keep_; }
  float* largest(Index j) { return largest_.data() + j * keep_; }

  /// A heap of the keep_ foremost values, the least of them on top.
  template <class Before>
  void add_to(float* heap, Index& size, float value, Before before) {
    if (size < keep_) {
      Index k = size++;
      for (; k > 0 && before(heap[(k - 1) / 2], value); k = (k - 1) / 2) heap[k] = heap[(k - 1) / 2];
      heap[k] = value;
      return;
    }
    if (!before(value, heap[0])) return;
    Index k = 0;
    for (Index child = 1; child < size; child = 2 * k + 1) {
      if (child + 1 < size && before(heap[child], heap[child + 1])) ++child;
      if (!before(value, heap[child])) break;
      heap[k] = heap[child];
      k = child;
    }
    heap[k] = value;
  }

  Index d_;
  Index keep_ = 1;
  Buffer<Tail> tails_;
  Buffer<float> smallest_;  // d heaps
  Buffer<float> largest_;
};

/// The clipping interval of each column of a matrix in memory, as a collector finds it. Expected O(n d +
/// outliers log), 64 n bytes. Throws Error unless 0 <= fraction < 0.5.
Buffer<Range> clipping_ranges(const MatrixView& matrix, double fraction);

#if ZIPML_DEFINES

ZIPML_FUNCTION ClippingCollector::ClippingCollector(Index d, Index n, double fraction) : d_(d), tails_(d) {
  if (!(fraction >= 0.0 && fraction < 0.5))
    throw Error("the fraction of outliers is out of range", "0 <= fraction < 0.5", number_text(fraction));
  keep_ = (std::min)(n, static_cast<Index>(fraction * static_cast<double>(n)) + 1);
  smallest_ = Buffer<float>(checked_product(keep_, d, "the tails of the columns"));
  largest_ = Buffer<float>(keep_ * d);
}

ZIPML_FUNCTION void ClippingCollector::add(const float* row) {
  for (Index j = 0; j < d_; ++j) {
    add_to(smallest(j), tails_[j].smallest, row[j], [](float a, float b) { return a < b; });
    add_to(largest(j), tails_[j].largest, row[j], [](float a, float b) { return a > b; });
  }
}

ZIPML_FUNCTION void ClippingCollector::merge(const ClippingCollector& other) {
  if (other.d_ != d_ || other.keep_ != keep_)
    throw Error("collectors of different shape cannot merge", std::to_string(d_) + " columns",
                std::to_string(other.d_) + " columns, or another fraction");
  for (Index j = 0; j < d_; ++j) {
    for (Index k = 0; k < other.tails_[j].smallest; ++k)
      add_to(smallest(j), tails_[j].smallest, other.smallest_[j * keep_ + k],
             [](float a, float b) { return a < b; });
    for (Index k = 0; k < other.tails_[j].largest; ++k)
      add_to(largest(j), tails_[j].largest, other.largest_[j * keep_ + k],
             [](float a, float b) { return a > b; });
  }
}

namespace detail {

/// The shortest interval that leaves out count - 1 values: i of the smallest, which are low[0 .. count)
/// in their order, and the rest of the largest, high[0 .. count) falling. Among equally short ones the most
/// central.
ZIPML_FUNCTION Range shortest_range(const float* low, const float* high, Index count) {
  const auto width = [&](Index i) {
    return static_cast<double>(high[count - 1 - i]) - static_cast<double>(low[i]);
  };
  const auto off_centre = [&](Index i) { return std::abs(2 * i - (count - 1)); };
  Index best = 0;
  for (Index i = 1; i < count; ++i)
    if (width(i) < width(best) || (width(i) == width(best) && off_centre(i) < off_centre(best))) best = i;
  return {low[best], high[count - 1 - best]};
}

/// The `keep` smallest of n values in their order (`Before` is Ascending), or the largest falling. A
/// threshold from some of the values tells those that may be among them, which are fewer than are worth
/// sorting.
template <class Before>
void tail_of(const float* values, Index n, Index keep, Before before, List<float>& tail) {
  constexpr Index some = 1024;
  if (n > 4 * some) {
    float probe[some];
    for (Index k = 0; k < some; ++k) probe[k] = values[k * n / some];
    const Index rank = (std::min)(some - 1, some * keep / n * 3 / 2 + 8);
    std::nth_element(probe, probe + rank, probe + some, before);
    const float threshold = probe[rank];
    tail.clear();
    for (Index i = 0; i < n; ++i)
      if (!before(threshold, values[i])) tail.push_back(values[i]);
  }
  if (n <= 4 * some || static_cast<Index>(tail.size()) < keep) tail.assign(values, values + n);
  std::nth_element(tail.begin(), tail.begin() + keep - 1, tail.end(), before);
  tail.resize(static_cast<std::size_t>(keep));
  std::sort(tail.begin(), tail.end(), before);
}

}  // namespace detail

ZIPML_FUNCTION Buffer<Range> ClippingCollector::ranges() const {
  Buffer<Range> result(d_);
  Buffer<float> low(keep_);
  Buffer<float> high(keep_);
  for (Index j = 0; j < d_; ++j) {
    const Index count = tails_[j].smallest;
    std::copy_n(smallest_.data() + j * keep_, count, low.data());
    std::copy_n(largest_.data() + j * keep_, tails_[j].largest, high.data());
    std::sort(low.data(), low.data() + count, detail::Ascending{});
    std::sort(high.data(), high.data() + count, detail::Descending{});
    if (count > 0) result[j] = detail::shortest_range(low.data(), high.data(), count);
  }
  return result;
}

ZIPML_FUNCTION Buffer<Range> clipping_ranges(const MatrixView& matrix, double fraction) {
  if (!(fraction >= 0.0 && fraction < 0.5))
    throw Error("the fraction of outliers is out of range", "0 <= fraction < 0.5", number_text(fraction));
  const Index n = matrix.rows, d = matrix.cols;
  const Index keep = (std::min)(n, static_cast<Index>(fraction * static_cast<double>(n)) + 1);
  Buffer<Range> result(d);
  if (n == 0) return result;
  constexpr Index together = 16;  // columns, a cache line of each row
  Buffer<float> values(together * n);
  List<float> low, high;
  for (Index first = 0; first < d; first += together) {
    const Index count = (std::min)(together, d - first);
    for (Index i = 0; i < n; ++i)
      for (Index k = 0; k < count; ++k) values[k * n + i] = matrix(i, first + k);
    for (Index k = 0; k < count; ++k) {
      detail::tail_of(values.data() + k * n, n, keep, detail::Ascending{}, low);
      detail::tail_of(values.data() + k * n, n, keep, detail::Descending{}, high);
      result[first + k] = detail::shortest_range(low.data(), high.data(), keep);
    }
  }
  return result;
}

#endif

}  // namespace zipml::inline ZIPML_ABI
