#pragma once
/// \file
/// Room packing: the loss that a pilot is fitted for (storage/pilot.hpp), without its type, so that packing is compiled
/// once for all of them.

#include <concepts>
#include <cstdint>
#include <memory>

#include <zipml/base/fingerprint.hpp>
#include <zipml/quantization/statistics.hpp>

namespace zipml::inline ZIPML_ABI {

/// A loss with two derivatives in double precision: ConvexLoss of model/losses.hpp, or one with a constant second.
template <class L>
concept PilotableLoss = requires {
  L::slope;
}
|| requires(const L loss, double z, double y, const LabelStatistics& statistics) {
  { loss.value(z, y) } -> std::convertible_to<double>;
  { loss.derivatives(z, y).first } -> std::convertible_to<double>;
  { loss.derivatives(z, y).second } -> std::convertible_to<double>;
  { loss.label_map(statistics).offset } -> std::convertible_to<double>;
};

/// Tells losses apart, their parameters too: other derivatives give another number, accidents aside. Never 0.
template <class L>
std::uint64_t loss_fingerprint(const L& loss) {
  Fingerprint all;
  for (const double y : {-1.0, 0.0, 1.0, 2.5})
    for (double z = -4.5; z < 5.0; z += 0.75) all.add(loss.derivatives(z, y).first);
  return all.value() | 1u;
}

/// Least squares, which serves every affine loss, or the loss of which it is made.
///
///     const auto store = zipml::quantize<2>(data, zipml::variance_corrected, {.pilot_loss = zipml::LogisticLoss{}});
class PilotLoss {
 public:
  /// Value and two derivatives at a margin.
  struct Slopes {
    double value, first, second;
  };

  PilotLoss() = default;
  template <PilotableLoss L>
  PilotLoss(const L& loss) {  // NOLINT: a loss is meant to be given
    if constexpr (!requires { L::slope; }) {
      erased_ = std::make_shared<Of<L>>(loss);
      fingerprint_ = loss_fingerprint(loss);
    }
  }

  bool is_quadratic() const { return erased_ == nullptr; }
  /// 0 for least squares, else loss_fingerprint().
  std::uint64_t fingerprint() const { return fingerprint_; }
  /// Takes the map of the labels from their statistics. Errors: those of the loss, for labels that are not its own.
  void see(const LabelStatistics& statistics) {
    if (erased_ != nullptr) erased_->map(statistics, offset_, scale_);
  }
  /// A label as the loss wants it.
  double target(float label) const {
    return static_cast<double>(static_cast<float>((static_cast<double>(label) - offset_) / scale_));
  }
  Slopes at(double margin, double target) const { return erased_->at(margin, target); }

 private:
  struct Erased {
    virtual ~Erased() = default;
    virtual void map(const LabelStatistics& statistics, double& offset, double& scale) const = 0;
    virtual Slopes at(double margin, double target) const = 0;
  };
  template <class L>
  struct Of final : Erased {
    explicit Of(const L& of) : loss(of) {}
    void map(const LabelStatistics& statistics, double& offset, double& scale) const override {
      const auto labels = loss.label_map(statistics);
      offset = labels.offset;
      scale = labels.scale;
    }
    Slopes at(double margin, double target) const override {
      const auto slopes = loss.derivatives(margin, target);
      return {loss.value(margin, target), slopes.first, slopes.second};
    }
    L loss;
  };

  std::shared_ptr<const Erased> erased_;
  std::uint64_t fingerprint_ = 0;
  double offset_ = 0.0, scale_ = 1.0;
};

/// The loss, where pilots can be of it, else least squares.
template <class L>
PilotLoss pilot_loss_of(const L& loss) {
  if constexpr (PilotableLoss<L>) return PilotLoss(loss);
  (void)loss;
  return {};
}

}  // namespace zipml::inline ZIPML_ABI
