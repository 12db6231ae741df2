#pragma once
/// \file
/// Room kernels: rows of any samples as padded float32 rows, one at a time: what batches too small for the
/// kernels of groups read.

#include <algorithm>
#include <cstddef>

#include <zipml/kernels/kernel_policy.hpp>
#include <zipml/storage/sample_view.hpp>

namespace zipml::inline ZIPML_ABI {

/// Reads rows of samples, without their outliers. The samples must outlive it.
class RowDecoder {
 public:
  RowDecoder() = default;
  explicit RowDecoder(const SampleView& samples);
  RowDecoder(RowDecoder&&) = default;
  RowDecoder& operator=(RowDecoder&&) = default;

  /// Row i of a draw, padded with 0 to model_padding: in `values`, which has that room, or where it stands.
  /// O(d).
  const float* read(const KernelTable& kernels, Index i, int draw, float* values) const;

 private:
  const SampleView* samples_ = nullptr;
  Index padded_ = 0;
  List<PlaneList> planes_;  // of each draw
  RowLevels levels_;        // but for the scales of rows
  Buffer<float> step_;
  Buffer<float> offset_;
};

#if ZIPML_DEFINES

ZIPML_FUNCTION RowDecoder::RowDecoder(const SampleView& samples)
    : samples_(&samples), padded_(padded(samples.cols)) {
  if (samples.is_dense()) return;
  for (int draw = 0; draw < samples.draws; ++draw) planes_.push_back(samples.planes(draw));
  const CodeLevels& from = samples.levels;
  if (from.tables != nullptr) {
    levels_.tables = from.tables;
    levels_.stride = from.levels;
    return;
  }
  levels_.entries = from.entries != nullptr ? from.entry_values : nullptr;
  if (from.scales_rows()) return;
  step_ = Buffer<float>(padded_);
  offset_ = Buffer<float>(padded_);
  std::copy_n(from.step, samples.cols, step_.data());
  std::copy_n(from.offset, samples.cols, offset_.data());
  levels_.step = step_.data();
  levels_.offset = offset_.data();
}

ZIPML_FUNCTION const float* RowDecoder::read(const KernelTable& kernels, Index i, int draw,
                                             float* values) const {
  const SampleView& samples = *samples_;
  if (samples.is_dense()) {
    if (samples.cols == padded_) return samples.row(i);
    std::copy_n(samples.row(i), samples.cols, values);
    return values;
  }
  RowLevels levels = levels_;
  if (samples.levels.scales_rows()) {
    levels.row_offset = samples.levels.row_offset[i];
    levels.row_step = samples.levels.row_step[i];
  }
  const RowCodes codes(samples.codes, samples.layout, planes_[static_cast<std::size_t>(draw)], i);
  kernels.decode_row(codes, levels, samples.cols, values, padded_);
  return values;
}

#endif

}  // namespace zipml::inline ZIPML_ABI
