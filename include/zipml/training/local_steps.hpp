#pragma once
/// \file
/// Room training: workers that step by themselves and now and then agree on the mean of their models.

#include <algorithm>
#include <cstdint>
#include <span>

#include <zipml/base/buffer.hpp>
#include <zipml/base/rounded.hpp>
#include <zipml/kernels/kernel_policy.hpp>
#include <zipml/training/channel_sums.hpp>
#include <zipml/training/channels.hpp>
#include <zipml/training/reducer.hpp>

namespace zipml::inline ZIPML_ABI {

/// The mean over workers of what their models have moved since they last met, each through its channel (local SGD: Stich 2019; with
/// rounded differences: Reisizadeh et al. 2020). O(d) a meeting.
class LocalSteps {
 public:
  /// For `models` models of d weights, padded. `channel` is that of the differences.
  LocalSteps(Reducer& reducer, const KernelTable& kernels, const Channel& channel, Index d, int models,
             std::uint64_t seed);

  /// Takes the models as they are, the same on all workers: what differences are from.
  void begin(const float* x, const float* intercepts);
  /// Replaces a model by the mean of all workers' ones.
  void meet(int m, float* x, float& intercept);
  /// Replaces weights that were averaged over steps by their mean over the workers.
  void mean(std::span<double> weights, double& intercept) const;

  const Traffic& traffic(int m) const { return channels_[static_cast<std::size_t>(m)].traffic(); }

 private:
  Reducer& reducer_;
  const KernelTable& kernels_;
  Index d_, padded_;
  float share_;
  List<ChannelEncoder> channels_;  // of each model
  Buffer<float> agreed_;           // m x padded
  Buffer<float> agreed_intercepts_;
  std::uint64_t met_ = 0;
};

#if ZIPML_DEFINES

ZIPML_FUNCTION LocalSteps::LocalSteps(Reducer& reducer, const KernelTable& kernels, const Channel& channel,
                                      Index d, int models, std::uint64_t seed)
    : reducer_(reducer),
      kernels_(kernels),
      d_(d),
      padded_(padded(d)),
      share_(1.0f / static_cast<float>(reducer.workers())),
      agreed_(padded_ * models),
      agreed_intercepts_(models) {
  for (int m = 0; m < models; ++m)
    channels_.emplace_back(channel, d, worker_random(seed, &reducer), Stream::gradient);
}

ZIPML_FUNCTION void LocalSteps::begin(const float* x, const float* intercepts) {
  std::copy_n(x, agreed_.size(), agreed_.data());
  std::copy_n(intercepts, agreed_intercepts_.size(), agreed_intercepts_.data());
}

ZIPML_FUNCTION void LocalSteps::meet(int m, float* x, float& intercept) {
  ChannelEncoder& channel = channels_[static_cast<std::size_t>(m)];
  float* const agreed = agreed_.data() + m * padded_;
  for (Index j = 0; j < d_; ++j) x[j] -= agreed[j];
  if (channel.rounds()) {
    sum_through_channel(reducer_, kernels_, channel, met_++, d_, x);
  } else {
    reducer_.sum(std::span<float>(x, static_cast<std::size_t>(d_)));
    channel.count();
  }
  for (Index j = 0; j < d_; ++j) x[j] = agreed[j] += pinned(share_ * x[j]);
  auto sum = static_cast<double>(intercept);
  reducer_.sum(std::span<double>(&sum, 1));
  intercept = agreed_intercepts_[m] = static_cast<float>(sum / reducer_.workers());
}

ZIPML_FUNCTION void LocalSteps::mean(std::span<double> weights, double& intercept) const {
  reducer_.sum(weights);
  reducer_.sum(std::span<double>(&intercept, 1));
  for (double& weight : weights) weight /= reducer_.workers();
  intercept /= reducer_.workers();
}

#endif

}  // namespace zipml::inline ZIPML_ABI
