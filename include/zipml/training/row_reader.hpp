#pragma once
/// \file
/// Room training: rows of any store as padded float32 rows, one at a time: what batches too small for the
/// kernels of groups read.

#include <algorithm>
#include <array>
#include <cstddef>
#include <type_traits>

#include <zipml/base/buffer.hpp>
#include <zipml/kernels/kernel_policy.hpp>
#include <zipml/storage/dense_store.hpp>

namespace zipml::inline ZIPML_ABI {

/// Reads the rows of a store, without their outliers.
template <class Store>
class RowReader {
  static constexpr bool dense = std::is_base_of_v<DenseStore, Store>;

 public:
  RowReader() = default;
  /// `store` must outlive this.
  explicit RowReader(const Store& store) : store_(&store), padded_(padded(store.cols())) {
    if constexpr (!dense) prepare(store);
  }
  RowReader(RowReader&&) = default;
  RowReader& operator=(RowReader&&) = default;

  /// Row i of a draw, padded with 0 to model_padding: in `values`, which has that room, or where it stands.
  /// O(d).
  const float* read(const KernelTable& kernels, Index i, int draw, float* values) const {
    if constexpr (dense) {
      if (store_->cols() == padded_) return store_->row(i);
      std::copy_n(store_->row(i), store_->cols(), values);
    } else {
      RowLevels levels = levels_;
      if constexpr (requires { store_->decoder.row_step; })
        if (store_->decoder.scales_rows()) {
          levels.row_offset = store_->decoder.row_offset[i];
          levels.row_step = store_->decoder.row_step[i];
        }
      const RowCodes codes(store_->codes().data(), store_->layout(), planes_[static_cast<std::size_t>(draw)],
                           i);
      kernels.decode_row(codes, levels, store_->cols(), values, padded_);
    }
    return values;
  }

 private:
  void prepare(const Store& store) {
    for (int draw = 0; draw < Store::draws; ++draw)
      planes_[static_cast<std::size_t>(draw)] = store.planes(draw);
    const auto& decoder = store.decoder;
    if constexpr (requires { decoder.tables; }) {
      levels_.tables = decoder.tables.data();
      levels_.stride = decoder.levels;
    } else {
      if constexpr (requires { decoder.entries; })
        if (!decoder.entries.empty()) levels_.entries = decoder.entry_values.data();
      if (decoder.scales_rows()) return;
      step_ = Buffer<float>(padded_);
      offset_ = Buffer<float>(padded_);
      std::copy(decoder.step.begin(), decoder.step.end(), step_.begin());
      std::copy(decoder.offset.begin(), decoder.offset.end(), offset_.begin());
      levels_.step = step_.data();
      levels_.offset = offset_.data();
    }
  }

  const Store* store_ = nullptr;
  Index padded_ = 0;
  std::array<PlaneList, Store::draws> planes_{};
  RowLevels levels_;  // but for the scales of rows
  Buffer<float> step_;
  Buffer<float> offset_;
};

}  // namespace zipml::inline ZIPML_ABI
