#pragma once
/// \file
/// Room training: rows of samples as floats, outliers and all, decoded by the kernels: what measures samples before
/// training reads.

#include <algorithm>

#include <zipml/base/buffer.hpp>
#include <zipml/kernels/kernel_policy.hpp>
#include <zipml/kernels/row_decoder.hpp>
#include <zipml/storage/sample_view.hpp>

namespace zipml::inline ZIPML_ABI {

/// Reads some rows at a time, of the first draw. Samples and kernels must outlive it.
class SampleRows {
 public:
  static constexpr Index most = 64;  ///< rows at a time

  SampleRows(const KernelTable& kernels, const SampleView& samples)
      : kernels_(kernels),
        samples_(samples),
        decoder_(samples),
        stride_(padded(samples.cols)),
        values_(most * stride_) {}

  /// Floats from one row to the next; those behind the columns are 0.
  Index stride() const { return stride_; }

  /// Rows first, first + 1, ... Valid until the next call. O(count d).
  const float* read(Index first, Index count);

 private:
  const KernelTable& kernels_;
  const SampleView& samples_;
  RowDecoder decoder_;
  Index stride_;
  Buffer<float> values_;
  List<Outlier> outliers_;
};

#if ZIPML_DEFINES

ZIPML_FUNCTION const float* SampleRows::read(Index first, Index count) {
  for (Index r = 0; r < count; ++r) {
    float* const to = values_.data() + r * stride_;
    const float* const from = decoder_.read(kernels_, first + r, 0, to);
    if (from != to) std::copy_n(from, samples_.cols, to);
  }
  samples_.outliers.find(first, count, outliers_);
  for (const Outlier& outlier : outliers_)
    values_[outlier.row * stride_ + outlier.column] += outlier.correction;
  return values_.data();
}

#endif

}  // namespace zipml::inline ZIPML_ABI
