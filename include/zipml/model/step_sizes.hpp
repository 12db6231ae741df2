#pragma once
/// \file
/// Room model: step sizes, functions of (epoch, iteration), and the default that is derived from the samples
/// as stored.

#include <algorithm>
#include <cmath>
#include <concepts>

#include <zipml/base/error.hpp>
#include <zipml/base/index.hpp>
#include <zipml/base/rounded.hpp>

namespace zipml::inline ZIPML_ABI {

/// The step of iteration `iteration` (counted over the whole fit, from 0) in epoch `epoch` (from 0).
template <class S>
concept StepSize = requires(const S step, int epoch, Index iteration) {
  { step(epoch, iteration) } -> std::convertible_to<float>;
};

/// Measurements on samples that safe steps depend on (training/curvature.hpp).
struct Curvature {
  double mean_norm = 0.0;        ///< E |q|^2, with the variance of the rounding: of the samples as stored
  double weighted_norm = 0.0;    ///< max_j E |q|^2 q_j^2 / E q_j^2: what bounds a step on single rows
  double top_eigenvalue = 0.0;   ///< of E q q'
  double noise_gain = 1.0;       ///< see Definiteness::noise_gain; 1 where nothing is corrected
  double mean_eigenvalue = 1.0;  ///< of E q q'
  double model_noise = 0.0;      ///< Channel::relative_variance of the model's channel
  double gradient_noise = 0.0;   ///< and of the gradient's
  /// Mean of 1 / max(lambda, 1 / what the steps of a fit add up to) over the eigenvalues of E q q': how the
  /// noise of channels adds up in the directions where nothing pulls back. 1 where it is not needed.
  double mean_inverse = 1.0;
  double loss = 1.0;  ///< max l'', see curvature_bound
  double mean_weighted_norm =
      0.0;  ///< E |q|^4 / E |q|^2: weighted_norm for columns as they are on average; 0: unknown
  /// Epochs over which steps fall: those of a fit of a loss that is not affine; else 0.
  int falling_epochs = 0;
  bool has_pilot = false;      ///< differences from a pilot are trained, whose noise vanishes by itself
  bool bounded_slope = false;  ///< l' is bounded, so that no step runs away
};

/// A step size that is computed from the store when training begins.
template <class S>
concept DerivedStepSize = requires(const S step, const Curvature& curvature, Index batch) {
  { step.resolve(curvature, batch) } -> StepSize;
};

namespace detail {
inline float checked_step(float step) {
  if (!(step > 0.0f) || !std::isfinite(step))
    throw Error("the step size is out of range", "a finite number > 0", number_text(step));
  return step;
}
}  // namespace detail

/// step: with tail averaging the one to use. The one to copy when adding a rule.
class ConstantStep {
 public:
  explicit ConstantStep(float step) : step_(detail::checked_step(step)) {}
  float operator()(int, Index) const { return step_; }

 private:
  float step_;
};

/// step / (1 + decay * iteration) (Robbins, Monro 1951).
class InverseTimeStep {
 public:
  InverseTimeStep(float step, float decay) : step_(detail::checked_step(step)), decay_(decay) {
    if (!(decay >= 0.0f) || !std::isfinite(decay))
      throw Error("the decay is out of range", "a finite number >= 0", number_text(decay));
  }
  float operator()(int, Index iteration) const {
    return step_ / (1.0f + pinned(decay_ * static_cast<float>(iteration)));
  }

 private:
  float step_;
  float decay_;
};

/// step * factor^floor(epoch / every).
class StepDecay {
 public:
  StepDecay(float step, float factor, int every)
      : step_(detail::checked_step(step)), factor_(factor), every_(every) {
    if (!(factor > 0.0f && factor <= 1.0f))
      throw Error("the factor of a step decay is out of range", "0 < factor <= 1", number_text(factor));
    if (every < 1) throw Error("a step decays every so many epochs", "at least 1", std::to_string(every));
  }
  float operator()(int epoch, Index) const {
    float step = step_;
    for (int k = 0; k < epoch / every_; ++k) step *= factor_;
    return step;
  }

 private:
  float step_;
  float factor_;
  int every_;
};

/// step in the first epoch, falling linearly to `last` of it in epoch `epochs`, and constant from there on. `epochs` 0:
/// constant.
class FallingStep {
 public:
  explicit FallingStep(float step, float last = 1.0f, int epochs = 0)
      : step_(detail::checked_step(step)), last_(last), epochs_(epochs) {
    if (!(last > 0.0f && last <= 1.0f))
      throw Error("what is left of a falling step is out of range", "0 < last <= 1", number_text(last));
  }
  float operator()(int epoch, Index) const {
    if (epochs_ < 2) return step_;
    const float share =
        static_cast<float>(epoch < epochs_ ? epoch : epochs_ - 1) / static_cast<float>(epochs_ - 1);
    return step_ * (1.0f - pinned(share * (1.0f - last_)));
  }

 private:
  float step_;
  float last_;
  int epochs_;
};

/// The default: a constant step that is safe for losses of l'' <= c with batches of B rows, 1 / (c (L + R /
/// B)), L the top eigenvalue of E q q' and R = max_j E |q|^2 q_j^2 / E q_j^2, both of the samples as stored,
/// so that rounding noise counts. It rests on E A_B^2 <= (L + R / B) E A_B for the mean A_B of B matrices q
/// q' (Bach, Moulines, NIPS 2013, for B = 1), with R measured along the columns. The mean norm in its place
/// diverges where a column is rare: one-hot columns of a standardised file reach 180. Where the variance of
/// the rounding is subtracted, or two draws are multiplied, its noise stays while the curvature that damps it
/// goes: R is multiplied by Curvature::noise_gain.
///
/// Channels that round model and gradient stochastically, with relative variances m and g, add noise as large
/// as what travels. Let y_u be the mean square of the error in eigendirection u, y their sum over d columns,
/// G the mean square of the gradient. At a fixed point with step s
///     2 lambda_u y_u = s (lambda_u^2 + R/B lambda_u) m y / d + s g G / d,
///     G = sum_u (lambda_u^2 + R/B lambda_u) (y_u + m y / d).
/// With l the mean eigenvalue, the model's noise alone has one while s m (l + R/B) / 2 < 1, the gradient's
/// while s g (l + R/B) / 2 < 1, and what they do together while s m g mean_u(1 / lambda_u) (L + R/B) / 2 < 1.
/// The bound grows by all three, the last one doubled.
///
/// Constant steps leave a bias of the averaged weights where l' is not affine, of the order of the step (Dieuleveut,
/// Durmus, Bach, Annals of Statistics 2020): there the step falls linearly to a tenth, unless differences from a pilot
/// are trained. And where l' is bounded, a rare column cannot run away: the first step takes E |q|^4 / E |q|^2 in the
/// place of R, which is far more where columns are rare, and the last one is what it would be else.
struct AutomaticStep {
  FallingStep resolve(const Curvature& curvature, Index batch) const {
    const float safe = step_for(curvature, curvature.weighted_norm, batch);
    if (curvature.falling_epochs == 0) return FallingStep(safe);
    const bool can_begin_larger = curvature.bounded_slope && curvature.mean_weighted_norm > 0.0;
    const float first =
        can_begin_larger ? (std::max)(safe, step_for(curvature, curvature.mean_weighted_norm, batch)) : safe;
    return FallingStep(first, (curvature.has_pilot ? 1.0f : 0.1f) * safe / first, curvature.falling_epochs);
  }

 private:
  static float step_for(const Curvature& curvature, double norm, Index batch) {
    const double noise = norm * curvature.noise_gain / static_cast<double>(batch);
    const double m = curvature.model_noise, g = curvature.gradient_noise;
    const double apart = 0.5 * (m + g) * (curvature.mean_eigenvalue + noise);
    const double together = m * g * curvature.mean_inverse * (curvature.top_eigenvalue + noise);
    const double bound = curvature.loss * (curvature.top_eigenvalue + noise + apart + together);
    return bound > 0.0 ? static_cast<float>(1.0 / bound) : 1.0f;
  }
};

static_assert(StepSize<ConstantStep> && StepSize<InverseTimeStep> && StepSize<StepDecay> &&
              StepSize<FallingStep> && DerivedStepSize<AutomaticStep>);

}  // namespace zipml::inline ZIPML_ABI
