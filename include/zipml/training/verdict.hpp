#pragma once
/// \file
/// Room training: how a fit has ended, told from the store that it was trained on.

#include <cmath>
#include <limits>
#include <span>
#include <string>

#include <zipml/estimators/estimator.hpp>
#include <zipml/training/fit.hpp>
#include <zipml/training/gradient_device.hpp>

namespace zipml::inline ZIPML_ABI {

/// Gradients and residuals beyond this are divergence: standardised labels are of size 1.
inline constexpr float runaway = 1e12f;

/// Whether the step of a batch has left the range of a fit that goes well, or is no number.
inline bool has_diverged(float residual, float largest_gradient) {
  return !(std::fabs(residual) < runaway) || !(largest_gradient < runaway * runaway);
}

namespace detail {

/// Mean loss of each model over rows of the samples of `device`, which has exact channels: what `loss_of(m)` makes of the
/// margins of a pass, less slope/2 x'diag(correction) x. Models padded, one behind the other. One reading, of which each
/// worker takes some pieces: the same bits for any number of them.
template <class LossOf>
List<double> mean_losses(GradientDevice& device, Index cols, SharedRows rows, unsigned draws, double slope,
                         const Buffer<float>& correction, const float* x, const float* intercepts,
                         const LossOf& loss_of) {
  const auto models = static_cast<std::size_t>(device.models());
  constexpr Index piece = 4096;
  const RowRange all = rows.rows;
  List<double> sums(static_cast<std::size_t>((all.count + piece - 1) / piece) * models);
  rows.for_pieces(piece, [&](Index k, RowRange part) {
    device.begin_batch(part.first, part.count, x, intercepts, 0);
    while (device.next_pass()) {
      device.margins(draws);
      for (std::size_t m = 0; m < models; ++m)
        sums[static_cast<std::size_t>(k) * models + m] += loss_of(static_cast<int>(m));
    }
  });
  if (rows.workers != nullptr) rows.workers->sum(std::span<double>(sums.data(), sums.size()));
  List<double> total(models);
  for (std::size_t at = 0; at < sums.size(); ++at) total[at % models] += sums[at];
  for (std::size_t m = 0; m < models; ++m) {
    const float* of_model = x + static_cast<Index>(m) * padded(cols);
    double surplus = 0.0;
    for (Index j = 0; j < correction.size(); ++j)
      surplus += static_cast<double>(correction[j]) * static_cast<double>(of_model[j]) *
                 static_cast<double>(of_model[j]);
    total[m] = total[m] / static_cast<double>(all.count) - 0.5 * slope * surplus;
  }
  return total;
}

}  // namespace detail

/// Mean loss of each model as the estimator tells it from rows of the samples of `device`, which has exact channels and d
/// columns; models padded, one behind the other, `correction` as it is subtracted for a loss of this slope. One
/// reading.
template <GradientEstimator Estimator, class L>
List<double> losses_on(GradientDevice& device, Index d, SharedRows rows, const Estimator& estimator,
                       const L& loss, double slope, const Buffer<float>& correction, const float* x,
                       const float* intercepts) {
  return detail::mean_losses(
      device, d, rows, loss_draws<Estimator>(), slope, correction, x, intercepts, [&](int m) {
        return estimated_loss(estimator, loss, device.margins_of(m), device.labels(m), device.weights());
      });
}

/// The same for an estimator that reads one draw, and a RowwiseLoss: `loss_of(m)` is that of a model.
template <class LossOf>
List<double> rowwise_losses_on(GradientDevice& device, Index d, SharedRows rows, double slope,
                               const Buffer<float>& correction, const float* x, const float* intercepts,
                               const LossOf& loss_of) {
  return detail::mean_losses(device, d, rows, 1u, slope, correction, x, intercepts, [&](int m) {
    const std::span<const float> weights = device.weights();
    return loss_of(m).total(device.margins_of(m)[0].data(), device.labels(m).data(), device.anchors(),
                            weights.empty() ? nullptr : weights.data(), device.rows());
  });
}

/// The same of a JointLoss, for models of `classes` side by side, which share it: that of all of them, for each.
template <JointLoss L>
List<double> joint_losses_on(GradientDevice& device, Index d, SharedRows rows, const L& loss, int classes,
                             const float* x, const float* intercepts) {
  List<double> result = detail::mean_losses(
      device, d, rows, 1u, 0.0, Buffer<float>(), x, intercepts,
      [&](int m) { return m % classes == 0 ? device.joint_total(loss, m, classes) : 0.0; });
  for (std::size_t m = 0; m < result.size(); ++m)
    result[m] = result[m - m % static_cast<std::size_t>(classes)];
  return result;
}

/// Writes status and advice. A model that is worse than none, on the very samples that it was trained on, is
/// no success, nor is one whose corrected loss is far below zero: it has followed a direction of negative
/// curvature. `value` and `value_of_zero` are quantized losses, with the linear term where there is one.
void judge(Fit& fit, double value, double value_of_zero, bool has_linear_term, bool indefinite);

#if ZIPML_DEFINES

ZIPML_FUNCTION void judge(Fit& fit, double value, double value_of_zero, bool has_linear_term,
                          bool indefinite) {
  const bool worse =
      !(value <=
        (has_linear_term ? value_of_zero + 0.5 * std::fabs(value_of_zero) : 1.5 * value_of_zero) + 1e-12);
  const bool below = !has_linear_term && value < -0.1 * value_of_zero;
  if (fit.epochs > 0 && (worse || below)) fit.status = FitStatus::diverged;
  if (indefinite && fit.status != FitStatus::diverged) fit.status = FitStatus::indefinite;
  fit.advice = detail::advice_for(fit, indefinite);
}

#endif

}  // namespace zipml::inline ZIPML_ABI
