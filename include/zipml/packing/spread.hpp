#pragma once
/// \file
/// Room packing: the sums of what rounding adds to the variance of columns, from which bias terms are made:
/// integers, so that they are the same in whatever order rows come.

#include <algorithm>
#include <cstdint>

#include <zipml/base/buffer.hpp>

namespace zipml::inline ZIPML_ABI::detail {

/// Totals of columns, each of two words of 64 bits: what a row adds, at most 2^50, times its weight.
class SpreadTotals {
 public:
  explicit SpreadTotals(Index cols) : high_(cols), low_(cols) {}

  /// Weights are counted in units of the largest one, times 2^-24.
  static constexpr double weight_one = 0x1p24;
  /// From now on rows have weights, of which this is the largest.
  void weigh(double largest) {
    unit_ = weight_one / largest;
    weighted_ = true;
  }

  /// Adds what the last row has added to `spread`, which is emptied now or later.
  void add_row(Buffer<std::uint64_t>& spread, double weight) {
    if (weighted_) {
      const auto times = static_cast<std::uint64_t>(weight * unit_ + 0.5);  // at most 2^24
      for (Index j = 0; j < low_.size(); ++j) {
        const std::uint64_t mine = spread[j];  // 2^50 2^24 in parts of 32 bits
        add(j, (mine & 0xFFFFFFFFu) * times);
        add_high(j, (mine >> 32) * times);
        spread[j] = 0;
      }
    } else if (++rows_ == most_rows) {
      flush(spread);
    }
  }
  void flush(Buffer<std::uint64_t>& spread) {
    for (Index j = 0; j < low_.size() && !weighted_; ++j) {
      add(j, spread[j]);
      spread[j] = 0;
    }
    rows_ = 0;
  }
  void add(const SpreadTotals& other) {
    for (Index j = 0; j < low_.size(); ++j) {
      add(j, other.low_[j]);
      add_high(j, other.high_[j]);
    }
  }
  /// The totals, rounded once.
  Buffer<double> values() const {
    Buffer<double> result(low_.size());
    for (Index j = 0; j < low_.size(); ++j)
      result[j] = static_cast<double>(high_[j]) * 0x1p32 + static_cast<double>(low_[j]);
    return result;
  }

 private:
  static constexpr int most_rows = 4096;  // of 2^50 each, in 64 bits

  // total = high 2^32 + low, low below 2^32.
  void add(Index j, std::uint64_t value) {
    const std::uint64_t sum = low_[j] + (value & 0xFFFFFFFFu);
    low_[j] = sum & 0xFFFFFFFFu;
    high_[j] += (value >> 32) + (sum >> 32);
  }
  void add_high(Index j, std::uint64_t value) { high_[j] += value; }

  Buffer<std::uint64_t> high_, low_;
  double unit_ = 1.0;
  bool weighted_ = false;
  int rows_ = 0;
};

}  // namespace zipml::inline ZIPML_ABI::detail
