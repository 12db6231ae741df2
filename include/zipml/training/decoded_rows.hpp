#pragma once
/// \file
/// Room training: a few packed rows as float32 rows, for batches too small for the kernels of groups.

#include <span>

#include <zipml/base/buffer.hpp>
#include <zipml/storage/outliers.hpp>
#include <zipml/training/row_reader.hpp>

namespace zipml::inline ZIPML_ABI {

/// The rows of a pass, fewer than a group, decoded once for every draw that is asked for, outliers included.
template <class Store>
class DecodedRows {
 public:
  DecodedRows() = default;
  explicit DecodedRows(const Store& store)
      : reader_(store), d_(store.cols()), padded_(padded(d_)), values_(Store::draws * group_rows * padded_) {}

  /// The next rows: `count` of them from `first` on, with their outliers.
  void begin_pass(Index first, Index count, std::span<const Outlier> outliers) {
    first_ = first;
    count_ = count;
    outliers_ = outliers;
    decoded_ = 0;
  }

  /// The rows of a draw. O(count d) when they are first asked for.
  DenseRows rows(const KernelTable& kernels, int draw) {
    float* rows = values_.data() + draw * group_rows * padded_;
    if ((decoded_ >> draw & 1u) == 0) {
      for (Index i = 0; i < count_; ++i) reader_.read(kernels, first_ + i, draw, rows + i * padded_);
      for (const Outlier& outlier : outliers_)
        rows[outlier.row * padded_ + outlier.column] += outlier.correction;
      decoded_ |= 1u << draw;
    }
    return {rows, padded_, d_, count_};
  }

 private:
  RowReader<Store> reader_;
  Index d_ = 0;
  Index padded_ = 0;
  Index first_ = 0;
  Index count_ = 0;
  std::span<const Outlier> outliers_;
  unsigned decoded_ = 0;  // draws that are
  Buffer<float> values_;  // of each draw, padded
};

}  // namespace zipml::inline ZIPML_ABI
