#pragma once
/// \file
/// Room estimators: what stands in the place of a loss whose derivative is not affine where an estimator subtracts
/// the variance of rounding, or trains differences from a pilot.
///
/// A rounded row q = a + e, E e = 0, has the margin q'x = a'x + noise of variance v = x'Dbar x, Dbar = diag(dbar), and
/// the noise is nearly Gaussian for more than a few columns. So E l(q'x) is l smoothed by a Gaussian of variance v, and
/// a loss l_v that undoes it, E l_v(q'x) = l(a'x) + O(v^2), makes
///
///     F(x) = mean_i l_v(q_i'x),   grad F = mean_i q_i l_v'(q_i'x) - mean_i f_i Dbar x,   f = -2 dl_v/dv
///
/// an objective of packed samples with the optimum of the full-precision one up to second order. For squared loss l_v =
/// l - v/2, f = 1: this is variance correction, exactly. (Beyond ZipML 2017, which draws p + 1 times for a polynomial.)

#include <algorithm>
#include <concepts>

#include <zipml/base/index.hpp>
#include <zipml/base/rounded.hpp>
#include <zipml/estimators/estimator.hpp>
#include <zipml/model/losses.hpp>

namespace zipml::inline ZIPML_ABI {

/// What stands for a loss in some rows: residuals for one draw, and what the bias terms are multiplied with.
///
///     double slopes(z, y, anchors, weights, n, r) const;   // margins, labels -> r[i]; returns sum_i w_i f_i
///     double total(z, y, anchors, weights, n) const;       // sum_i w_i l_i
///
/// `anchors` are the margins of a pilot, or null; `weights` null: 1.
template <class L>
concept RowwiseLoss = requires(const L loss, const float* in, Index n, float* out) {
  { loss.slopes(in, in, in, in, n, out) } -> std::convertible_to<double>;
  { loss.total(in, in, in, in, n) } -> std::convertible_to<double>;
};

namespace detail {

inline double weight_at(const float* weights, Index i) {
  return weights != nullptr ? static_cast<double>(weights[i]) : 1.0;
}

/// l_v of a loss for one model.
template <CorrectableLoss L>
struct CorrectedLoss {
  const L& loss;
  double variance = 0.0;  ///< v
  double share = 1.0;     ///< of v that is undone

  double slopes(const float* z, const float* y, const float*, const float* weights, Index n, float* r) const {
    double sum = 0.0;
    if constexpr (requires(float* out) { loss.corrected(z, y, 0.0f, out, out); }) {
      float residuals[rows_together], factors[rows_together];
      in_pieces(z, y, nullptr, n,
                [&](const float* margins, const float* labels, const float*, Index first, Index count) {
                  loss.corrected(margins, labels, static_cast<float>(share * variance), residuals, factors);
                  std::copy_n(residuals, count, r + first);
                  for (Index i = 0; i < count; ++i)
                    sum += pinned(weight_at(weights, first + i) * static_cast<double>(factors[i]));
                });
    } else {
      for (Index i = 0; i < n; ++i) {
        const CorrectedSlopes at =
            loss.corrected(static_cast<double>(z[i]), static_cast<double>(y[i]), share * variance);
        r[i] = static_cast<float>(at.residual);
        sum += pinned(weight_at(weights, i) * at.factor);
      }
    }
    return share * sum;
  }
  double total(const float* z, const float* y, const float*, const float* weights, Index n) const {
    double sum = 0.0;
    for (Index i = 0; i < n; ++i)
      sum += weight_at(weights, i) *
             loss.corrected(static_cast<double>(z[i]), static_cast<double>(y[i]), share * variance).value;
    return sum;
  }
};

/// l_v for a variance v of the margins. Noise beyond what can be undone is undone in part.
template <CorrectableLoss L>
CorrectedLoss<L> corrected_loss(const L& loss, double variance) {
  return {loss, variance, variance > L::most_noise ? L::most_noise / variance : 1.0};
}

/// The difference from a pilot, whose margin in row i is a_i: z is q_i'delta, the residual l'(a + z) - l'(a), and the
/// factor the mean second derivative at the pilot. The gradient is S delta, S = mean_i s_i q_i q_i' with s_i >= 0 the
/// mean second derivative on the way, which is positive semidefinite whatever was rounded. Stochastic rounding makes S = H + D
/// in expectation: the way from the pilot to the optimum gets too short, never too long. Nearest rounding takes variance
/// from each column, so that at 1 bit S may have directions of nearly no curvature: a share of that comes as a negative
/// correction. A positive one, by l'' Dbar, would belong to one point, and runs away at few bits (measured:
/// training/README.md).
template <ConvexLoss L>
struct AnchoredLoss {
  const L& loss;
  double mean_curvature = 0.0;

  double slopes(const float* z, const float* y, const float* anchors, const float*, Index n, float* r) const {
    float both[rows_together], here[rows_together], there[rows_together];
    in_pieces(
        z, y, anchors, n,
        [&](const float* margins, const float* labels, const float* of_pilot, Index first, Index count) {
          for (int i = 0; i < rows_together; ++i) both[i] = margins[i] + of_pilot[i];
          first_derivatives(loss, both, labels, here);
          first_derivatives(loss, of_pilot, labels, there);
          for (Index i = 0; i < count; ++i) r[first + i] = here[i] - there[i];
        });
    return mean_curvature * static_cast<double>(n);
  }
  /// l(a + z) - l(a) - l'(a) z.
  double total(const float* z, const float* y, const float* anchors, const float* weights, Index n) const {
    double sum = 0.0;
    for (Index i = 0; i < n; ++i) {
      const auto label = static_cast<double>(y[i]), anchor = static_cast<double>(anchors[i]);
      const auto difference = static_cast<double>(z[i]);
      sum += weight_at(weights, i) * (loss.value(anchor + difference, label) - loss.value(anchor, label) -
                                      loss.derivatives(anchor, label).first * difference);
    }
    return sum;
  }
};

}  // namespace detail

}  // namespace zipml::inline ZIPML_ABI
