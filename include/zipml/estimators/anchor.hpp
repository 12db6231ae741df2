#pragma once
/// \file
/// Room estimators: what a fit makes of the pilot of a store: training in the form of differences from it.

#include <cmath>
#include <cstdint>
#include <string>

#include <zipml/estimators/requirements.hpp>
#include <zipml/model/losses.hpp>
#include <zipml/packing/pilot_loss.hpp>
#include <zipml/storage/pilot.hpp>
#include <zipml/storage/targets.hpp>

namespace zipml::inline ZIPML_ABI {

/// What a fit makes of a pilot, in the units of its loss l(z, y) = slope / 2 (z - t)^2, whose targets are t =
/// offset + scale * label. The device then multiplies delta = x - w0 and sees targets 0: the gradient is
///
///     slope P delta + grad F(w0),   P delta = mean_i q_i q_i'delta - diag(bias) delta,
///
/// the noise of its batches vanishes with delta, and a rounded model rounds delta alone.
struct Anchor {
  const Pilot* pilot = nullptr;  ///< null: none, x is trained itself
  double offset = 0.0;
  double scale = 1.0;
  double slope = 1.0;
  /// The pilot is of this loss, which is not affine: the device sees the labels, and the gradient is that of
  /// detail::AnchoredLoss (estimators/corrected_loss.hpp).
  bool keeps_labels = false;
  std::string reason = {};  ///< why a pilot that is there is not used

  bool used() const { return pilot != nullptr; }

  // Where a pilot is used, in standardised units and those of the targets:
  /// Entry j of w0.
  double weight(Index j) const { return scale * static_cast<double>(pilot->weights[j]); }
  double intercept() const { return offset + scale * pilot->intercept; }
  /// Entry j of grad F(w0), the intercept's for j = d.
  double gradient(Index j) const { return slope * scale * pilot->gradient[j]; }
  /// F(w0), up to what a loss has that does not depend on the margin.
  double loss() const { return 0.5 * slope * scale * scale * pilot->squares; }
};

namespace detail {

/// Offset, scale and slope of an anchor for an affine loss; no pilot, and the reason, where the loss's targets are no
/// affine function of the labels. O(n).
template <AffineLoss L>
Anchor affine_anchor(const Pilot& pilot, const L& loss, const Targets& targets) {
  const LabelStatistics& statistics = targets.statistics(0);
  const LabelMap map = loss.label_map(statistics);
  const auto target = [&](float label) { return target_of(loss, static_cast<double>(map.apply(label))); };
  const auto low = static_cast<double>(statistics.min);
  const auto high = static_cast<double>(statistics.max);
  if (!(high > low)) return Anchor{.reason = "all labels are equal"};
  const double at_low = target(statistics.min);
  const double scale = (target(statistics.max) - at_low) / (high - low);
  const double tolerance = 1e-5 * std::fabs(scale) * (high - low);
  for (const float label : targets.of(0))
    if (!(std::fabs(at_low + scale * (static_cast<double>(label) - low) - target(label)) <= tolerance))
      return Anchor{.reason = "the targets of the loss are no affine function of the labels"};
  return Anchor{&pilot, at_low - scale * low, scale, static_cast<double>(L::slope)};
}

}  // namespace detail

/// The anchor of a fit of one model, none (with the reason) where the pilot belongs to another loss or other labels, or
/// there are no pilots for loss and estimator: those of affine losses serve every bilinear estimator, of other convex ones
/// an estimator that reads one draw. O(n).
template <class Estimator, class L>
Anchor anchor_for(const Pilot* pilot, const L& loss, const Targets& targets) {
  if (pilot == nullptr) return Anchor{};
  if constexpr (!BilinearEstimator<Estimator>) {
    return Anchor{.reason = "the estimator is not bilinear"};
  } else if constexpr (!AffineLoss<L> && !(ConvexLoss<L> && OneDrawEstimator<Estimator>)) {
    return Anchor{.reason = std::string("there are no pilots for ") + L::name + " with " + Estimator::name};
  } else {
    std::uint64_t of_loss = 0;
    if constexpr (!AffineLoss<L>) of_loss = loss_fingerprint(loss);
    if (pilot->loss != of_loss)
      return Anchor{.reason = std::string("the pilot is of another loss than ") + L::name};
    if (targets.models() != 1) return Anchor{.reason = "a pilot serves one model"};
    if (label_fingerprint(targets.of(0)) != pilot->labels)
      return Anchor{.reason = "the pilot belongs to other labels"};
    if constexpr (AffineLoss<L>)
      return detail::affine_anchor(*pilot, loss, targets);
    else
      return Anchor{.pilot = pilot, .keeps_labels = true};
  }
}

}  // namespace zipml::inline ZIPML_ABI
