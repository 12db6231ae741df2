#pragma once
/// \file
/// Layer 6: the average of the late iterates, which removes the noise that a constant step leaves (Polyak,
/// Juditsky 1992).

#include <zipml/types.hpp>

namespace zipml::inline ZIPML_ABI {

/// Averages over a tail that holds half to three quarters of the epochs so far: from epoch 2^(k-1) on while
/// the epoch is in (2^k, 2^(k+1)]. Two sums of d doubles, whatever the number of epochs.
class TailAverage {
 public:
  explicit TailAverage(Index d) : older_(d), newer_(d) {}

  /// Epochs count from 1.
  void begin_epoch(int epoch) {
    if (epoch - 1 < next_restart_) return;
    std::swap(older_, newer_);
    newer_ = Sums(older_.x.size());
    next_restart_ *= 2;
  }

  void add(const float* x, float intercept) {
    for (Index j = 0; j < newer_.x.size(); ++j) newer_.x[j] += static_cast<double>(x[j]);
    newer_.c += static_cast<double>(intercept);
    newer_.count += 1.0;
  }

  Buffer<double> weights() const {
    Buffer<double> mean(newer_.x.size());
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

}  // namespace zipml::inline ZIPML_ABI
