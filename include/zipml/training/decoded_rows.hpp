#pragma once
/// \file
/// Layer 6: packed rows as float32 rows, for batches too small for the kernels of groups: classic SGD.

#include <span>

#include <zipml/kernels/kernel_policy.hpp>
#include <zipml/storage/outliers.hpp>
#include <zipml/vector_math.hpp>

namespace zipml::inline ZIPML_ABI {

/// The rows of a pass, fewer than a group, decoded once for every draw that is asked for, outliers included.
template <class Store>
class DecodedRows {
 public:
  DecodedRows() = default;
  explicit DecodedRows(const Store& store)
      : store_(&store), padded_(padded(store.cols())), values_(Store::draws * group_rows * padded_) {}

  /// The next rows: `count` of them from `first` on, with their outliers.
  void begin_pass(Index first, Index count, std::span<const Outlier> outliers) {
    first_ = first;
    count_ = count;
    outliers_ = outliers;
    decoded_ = 0;
  }

  /// The rows of a draw. `x` is the model, whose margins are written to z on the way when they are decoded;
  /// `steps` and `offsets` are padded vectors.
  DenseRows rows(const KernelTable& kernels, int draw, const float* x, const RowLevels& levels) {
    if ((decoded_ >> draw & 1u) == 0) {
      float unused[group_rows];
      decode(kernels, draw, x, levels, unused);
    }
    return {place_of(draw), padded_, store_->cols(), count_};
  }

  /// Decodes the rows of a draw and writes <row, x> of each to z. O(count d).
  void decode(const KernelTable& kernels, int draw, const float* x, RowLevels levels, float* z) {
    float* rows = place_of(draw);
    decoded_ |= 1u << draw;
    for (Index i = 0; i < count_; ++i) {
      if constexpr (requires { store_->decoder.row_step; })
        if (store_->decoder.scales_rows()) {
          levels.row_offset = store_->decoder.row_offset[first_ + i];
          levels.row_step = store_->decoder.row_step[first_ + i];
        }
      const RowCodes codes(store_->codes().data(), store_->layout(), store_->planes(draw), first_ + i);
      z[i] = kernels.decode_row(codes, levels, x, store_->cols(), rows + i * padded_, padded_);
    }
    for (const Outlier& outlier : outliers_) {
      rows[outlier.row * padded_ + outlier.column] += outlier.correction;
      z[outlier.row] += pinned(outlier.correction * x[outlier.column]);
    }
  }

 private:
  float* place_of(int draw) { return values_.data() + draw * group_rows * padded_; }

  const Store* store_ = nullptr;
  Index padded_ = 0;
  Index first_ = 0;
  Index count_ = 0;
  std::span<const Outlier> outliers_;
  unsigned decoded_ = 0;  // draws that are
  Buffer<float> values_;  // of each draw, padded
};

}  // namespace zipml::inline ZIPML_ABI
