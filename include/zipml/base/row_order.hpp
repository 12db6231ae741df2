#pragma once
/// \file
/// Room base: a keyed permutation of rows with its round functions in tables. Six rounds of Philox a place,
/// each waiting for the one before, took a quarter of the time of packing; a round function has just
/// ceil(sqrt(n)) arguments.

#include <cstdint>

#include <zipml/base/buffer.hpp>
#include <zipml/base/random.hpp>

namespace zipml::inline ZIPML_ABI {

/// The places that `Permutation` gives, at a few additions each. Built in O(sqrt n), which is also its
/// memory.
///
///     const zipml::RowOrder order(zipml::Permutation(seed, n, zipml::Stream::row_order));
class RowOrder {
 public:
  RowOrder() = default;
  explicit RowOrder(const Permutation& permutation)
      : size_(permutation.size()), side_(permutation.side()), mixed_(Permutation::rounds * side_) {
    for (std::uint32_t round = 0; round < Permutation::rounds; ++round)
      for (Index right = 0; right < side_; ++right)
        mixed_[round * side_ + right] = static_cast<std::uint32_t>(permutation.mix(round, right) % side_);
  }

  Index size() const { return size_; }

  /// The place of i, 0 <= i < n.
  Index operator()(Index i) const { return place(i / side_, i % side_); }

  /// out[k] = the place of first + k, k < count.
  void places(Index first, Index count, Index* out) const;
  /// out[k] = the i whose place is first + k, k < count: the rounds backwards.
  void inverse(Index first, Index count, Index* out) const;

 private:
  Index place(Index left, Index right) const;

  Index size_ = 0;
  Index side_ = 1;
  Buffer<std::uint32_t> mixed_;  // of each round, for each right half
};

#if ZIPML_DEFINES

ZIPML_FUNCTION void RowOrder::places(Index first, Index count, Index* out) const {
  Index left = first / side_;
  Index right = first % side_;
  for (Index k = 0; k < count; ++k) {
    out[k] = place(left, right);
    if (++right < side_) continue;
    right = 0;
    ++left;
  }
}

ZIPML_FUNCTION void RowOrder::inverse(Index first, Index count, Index* out) const {
  for (Index k = 0; k < count; ++k) {
    Index i = first + k;
    do {
      Index left = i / side_;
      Index right = i % side_;
      const std::uint32_t* mixed = mixed_.data() + mixed_.size();
      for (std::uint32_t round = 0; round < Permutation::rounds; ++round) {
        mixed -= side_;
        const Index difference = right - static_cast<Index>(mixed[left]);
        right = left;
        left = difference >= 0 ? difference : difference + side_;
      }
      i = left * side_ + right;
    } while (i >= size_);
    out[k] = i;
  }
}

ZIPML_FUNCTION Index RowOrder::place(Index left, Index right) const {
  while (true) {
    const std::uint32_t* mixed = mixed_.data();
    for (std::uint32_t round = 0; round < Permutation::rounds; ++round, mixed += side_) {
      const Index sum = left + static_cast<Index>(mixed[right]);
      left = right;
      right = sum < side_ ? sum : sum - side_;
    }
    const Index i = left * side_ + right;
    if (i < size_) return i;
    left = i / side_;
    right = i % side_;
  }
}

#endif

}  // namespace zipml::inline ZIPML_ABI
