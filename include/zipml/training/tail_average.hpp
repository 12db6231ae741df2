#pragma once
/// \file
/// Room training: the average of the late iterates, which removes the noise that a constant step leaves
/// (Polyak, Juditsky 1992).

#include <zipml/base/buffer.hpp>
#include <zipml/kernels/kernel_policy.hpp>

namespace zipml::inline ZIPML_ABI {

/// Averages over a tail that holds half to three quarters of the epochs so far: from epoch 2^(k-1) on while
/// the epoch is in (2^k, 2^(k+1)]. Two sums of d doubles, whatever the number of epochs.
class TailAverage {
 public:
  explicit TailAverage(Index d) : older_(d), newer_(d) {}

  /// Epochs count from 1.
  void begin_epoch(int epoch);

  /// x has as many entries as the sums, a multiple of model_padding.
  void add(const KernelTable& kernels, const float* x, float intercept) {
    kernels.add_to_doubles(x, newer_.x.data(), newer_.x.size());
    newer_.c += static_cast<double>(intercept);
    newer_.count += 1.0;
  }

  /// The first d entries of the average.
  Buffer<double> weights(Index d) const {
    Buffer<double> mean(d);
    for (Index j = 0; j < mean.size(); ++j) mean[j] = (older_.x[j] + newer_.x[j]) / count();
    return mean;
  }
  double intercept() const { return (older_.c + newer_.c) / count(); }

 private:
  struct Sums {
    explicit Sums(Index d) : x(d) {}
    Buffer<double> x;
    double c = 0.0;
    double count = 0.0;
  };
  double count() const { return older_.count + newer_.count; }

  Sums older_;
  Sums newer_;
  int next_restart_ = 1;
};

#if ZIPML_DEFINES

ZIPML_FUNCTION void TailAverage::begin_epoch(int epoch) {
  if (epoch - 1 < next_restart_) return;
  std::swap(older_, newer_);
  newer_ = Sums(older_.x.size());
  next_restart_ *= 2;
}

#endif

}  // namespace zipml::inline ZIPML_ABI
