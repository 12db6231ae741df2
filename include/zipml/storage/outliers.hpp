#pragma once
/// \file
/// Room storage: the few values that lie outside a column's levels, kept exactly beside the codes.
///
/// An outlier v is packed as the code of the end of the levels that it lies beyond, and the store keeps the
/// correction v - level(code) in float32, so that kernels read codes as ever and a short scalar loop adds the
/// rest. The value that the store stands for is v itself in every draw: its rounding has no variance.
///
/// An entry is 48 bits: a 16-bit gap to the entry before it, in row-major order inside a block of rows, and
/// the correction. A gap of more than 65,535 values is bridged by entries with correction 0. Blocks hold
/// about 8,192 values, so that the 64-bit index of a block costs less than 0.01 bits a value.

#include <algorithm>
#include <cstdint>

#include <zipml/base/buffer.hpp>

namespace zipml::inline ZIPML_ABI {

/// An outlier of a range of rows: `row` counts from the first row of the range.
struct Outlier {
  std::int32_t row;
  std::int32_t column;
  float correction;
};

/// Outliers of samples, in store order, in memory that somebody else owns.
///
/// Blocks hold block_rows_of(cols) rows, the last one fewer; `first` has an entry for each block and one for
/// the end.
struct OutlierView {
  Index cols = 0;
  Index entries = 0;  ///< those that bridge long gaps included
  const std::uint16_t* gaps = nullptr;
  const float* corrections = nullptr;
  const std::uint64_t* first = nullptr;  ///< of each block, and the end

  static constexpr Index block_rows_of(Index cols) {
    return std::max<Index>(1, 8192 / std::max<Index>(cols, 1));
  }
  bool empty() const { return entries == 0; }

  /// Replaces `out` by the outliers of the rows [begin, begin + count), in store order. O(entries of the
  /// blocks).
  void find(Index begin, Index count, List<Outlier>& out) const;

  /// Prefetches the entries of these rows. (In line, or g++ 12 drops the call.)
  ZIPML_ALWAYS_INLINE void prefetch(Index begin, Index count) const {
    if (empty()) return;
    const Index together = block_rows_of(cols);
    const std::uint64_t from = first[begin / together];
    const std::uint64_t end = first[(begin + count - 1) / together + 1];
    for (std::uint64_t k = from; k < end; k += 16) __builtin_prefetch(corrections + k, 0, 2);
    for (std::uint64_t k = from; k < end; k += 32) __builtin_prefetch(gaps + k, 0, 2);
  }
};

/// The owner of outliers: they are added while rows are packed.
class Outliers {
 public:
  static constexpr double bits_per_entry = 48.0;

  Outliers() = default;
  explicit Outliers(Index cols) : cols_(cols), block_rows_(OutlierView::block_rows_of(cols)) {
    first_.push_back(0);
  }

  bool empty() const { return corrections_.empty(); }
  /// Entries, those that bridge long gaps included.
  Index count() const { return static_cast<Index>(corrections_.size()); }
  Index bytes() const;
  /// What readers see; valid until the list changes.
  OutlierView view() const { return {cols_, count(), gaps_.data(), corrections_.data(), first_.data()}; }
  /// OutlierView::find.
  void find(Index first, Index count, List<Outlier>& out) const { view().find(first, count, out); }

  /// Appends an entry. Rows and, within a row, columns must increase.
  void add(Index row, Index column, float correction);

  /// Ends the list: no `add` after it.
  void close(Index rows);

 private:
  static constexpr Index longest_gap = 65535;

  void push(Index gap, float correction) {
    gaps_.push_back(static_cast<std::uint16_t>(gap));
    corrections_.push_back(correction);
  }
  void open_block(Index block);

  Index cols_ = 0;
  Index block_rows_ = 1;
  Index next_ = 0;  // the place behind the last entry, while entries are added
  List<std::uint16_t> gaps_;
  List<float> corrections_;
  List<std::uint64_t> first_;  // of each block, and the end
};

#if ZIPML_DEFINES

ZIPML_FUNCTION void OutlierView::find(Index begin, Index count, List<Outlier>& out) const {
  out.clear();
  if (empty() || count <= 0) return;
  const Index together = block_rows_of(cols);
  // Places of a block of several rows are below 2^13, and place * ceil(2^32 / cols) / 2^32 is place / cols,
  // rounded down, while place * cols < 2^32 (Granlund, Montgomery 1994). A block of one row has 0.
  const std::uint64_t inverse = together > 1
                                    ? ((std::uint64_t{1} << 32) + static_cast<std::uint64_t>(cols) - 1) /
                                          static_cast<std::uint64_t>(std::max<Index>(cols, 1))
                                    : 0;
  const Index last_block = (begin + count - 1) / together;
  for (Index block = begin / together; block <= last_block; ++block) {
    const Index base = block * together - begin;  // row of the block's first row in the range
    std::uint64_t next = 0;
    for (std::uint64_t k = first[block]; k < first[block + 1]; ++k) {
      const std::uint64_t place = next + gaps[k];
      next = place + 1;
      const auto in_block = static_cast<Index>(place * inverse >> 32);
      const Index row = base + in_block;
      if (row < 0) continue;
      if (row >= count) return;
      out.push_back({static_cast<std::int32_t>(row),
                     static_cast<std::int32_t>(static_cast<Index>(place) - in_block * cols), corrections[k]});
    }
  }
}

ZIPML_FUNCTION Index Outliers::bytes() const {
  return empty()
             ? 0
             : static_cast<Index>(gaps_.size() * sizeof(std::uint16_t) + corrections_.size() * sizeof(float) +
                                  first_.size() * sizeof(std::uint64_t));
}

ZIPML_FUNCTION void Outliers::add(Index row, Index column, float correction) {
  open_block(row / block_rows_);
  const Index place = row % block_rows_ * cols_ + column;
  for (; place - next_ > longest_gap; next_ += longest_gap + 1) push(longest_gap, 0.0f);
  push(place - next_, correction);
  next_ = place + 1;
}

ZIPML_FUNCTION void Outliers::close(Index rows) {
  open_block((rows + block_rows_ - 1) / block_rows_);
  gaps_.shrink_to_fit();
  corrections_.shrink_to_fit();
  first_.shrink_to_fit();
}

ZIPML_FUNCTION void Outliers::open_block(Index block) {
  while (static_cast<Index>(first_.size()) <= block) {
    first_.push_back(corrections_.size());
    next_ = 0;
  }
}

#endif

}  // namespace zipml::inline ZIPML_ABI
