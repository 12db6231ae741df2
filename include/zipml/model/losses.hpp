#pragma once
/// \file
/// Room model: losses, functions of the margin z = a'x + c and the label y.

#include <cmath>
#include <concepts>
#include <string>

#include <zipml/base/error.hpp>
#include <zipml/base/exponential.hpp>
#include <zipml/base/index.hpp>
#include <zipml/base/rounded.hpp>
#include <zipml/model/logistic_lanes.hpp>
#include <zipml/quantization/statistics.hpp>

namespace zipml::inline ZIPML_ABI {

/// label' = (label - offset) / scale: how a loss wants its labels.
struct LabelMap {
  double offset = 0.0;
  double scale = 1.0;

  float apply(float label) const { return static_cast<float>((static_cast<double>(label) - offset) / scale); }
};

/// Value and derivative in the margin, and the map from the user's labels to those that the loss is defined
/// on.
template <class L>
concept Loss = requires(const L loss, float z, float y, double margin, const LabelStatistics& statistics) {
  { L::name } -> std::convertible_to<const char*>;
  { loss.value(margin, margin) } -> std::convertible_to<double>;
  { loss.derivative(z, y) } -> std::convertible_to<float>;
  { loss.label_map(statistics) } -> std::convertible_to<LabelMap>;
  { L::classifies } -> std::convertible_to<bool>;
};

/// A loss whose derivative is affine in the margin, l'(z, y) = slope * z + (a function of y). Only for such a
/// loss is E l'(Q(a)'x, y) = l'(a'x, y) when E Q(a) = a, which double sampling, sum code and variance
/// correction rest on.
template <class L>
concept AffineLoss = Loss<L> && requires {
  { L::slope } -> std::convertible_to<float>;
};

/// A loss of the margins of several models together, one for each class: `z[k][i]` is the margin of row i for class k, and
/// `y[k][i]` is above 0 where that is the row's class. Residuals r[k][i] = dl/dz_k may be written over the margins.
/// `curvature` bounds the largest eigenvalue of the second derivatives in the k margins of a row.
///
///     void slopes(z, y, classes, n, r) const;
///     double total(z, y, weights, classes, n) const;   // sum_i w_i l_i; null weights: 1
template <class L>
concept JointLoss = requires(const L loss, const float* const* in, float* const* out, const float* weights,
                             Index n, const LabelStatistics& statistics) {
  { L::name } -> std::convertible_to<const char*>;
  loss.slopes(in, in, n, n, out);
  { loss.total(in, in, weights, n, n) } -> std::convertible_to<double>;
  { loss.label_map(statistics) } -> std::convertible_to<LabelMap>;
  { L::classifies } -> std::convertible_to<bool>;
  { L::curvature } -> std::convertible_to<float>;
};

/// A loss that says how large l'' gets: the slope of an affine one, else `curvature`. Steps that are derived
/// from the samples follow it. One whose l' is bounded may say so as well, `bounded_slope`: steps can then begin larger
/// (AutomaticStep).
template <class L>
concept BoundedCurvature = AffineLoss<L> || JointLoss<L> ||(Loss<L>&& requires {
  { L::curvature } -> std::convertible_to<float>;
});

/// max_z l''(z).
template <BoundedCurvature L>
constexpr float curvature_bound() {
  if constexpr (AffineLoss<L>)
    return L::slope;
  else
    return L::curvature;
}

/// Derivatives of a loss in the margin.
struct LossDerivatives {
  double first = 0.0;
  double second = 0.0;
  double third = 0.0;  ///< 0 where a loss has none, or none but at a few margins
};

/// A loss with derivatives in double precision, of which the second is never negative: what Newton's method
/// (analysis/newton.hpp) and a pilot (storage/pilot.hpp) need.
template <class L>
concept ConvexLoss = Loss<L> && requires(const L loss, double z, double y) {
  { loss.derivatives(z, y) } -> std::convertible_to<LossDerivatives>;
};

/// What the corrected loss makes of a margin whose noise has variance v (estimators/corrected_loss.hpp).
struct CorrectedSlopes {
  double value = 0.0;     ///< of the corrected loss
  double residual = 0.0;  ///< its derivative in the margin
  double factor = 0.0;    ///< minus twice its derivative in v: what Dbar x is multiplied with
};

/// A loss that can be corrected for the noise which rounding brings into a margin: `corrected(z, y, v)` has the
/// expectation l(z', y) when z = z' + noise of variance v, up to second order in v, and `most_noise` is the variance
/// up to which that is worth using.
template <class L>
concept CorrectableLoss = Loss<L> && requires(const L loss, double z, double y, double v) {
  { loss.corrected(z, y, v) } -> std::convertible_to<CorrectedSlopes>;
  { L::most_noise } -> std::convertible_to<double>;
};

/// Whether predictions are e^z of the margin, in units of the mean label: `log_link`.
template <class L>
constexpr bool has_log_link() {
  if constexpr (requires { L::log_link; }) return L::log_link;
  return false;
}

/// The target t of an affine loss at a label, l(z, y) = slope / 2 (z - t)^2 + (a function of y).
template <AffineLoss L>
double target_of(const L& loss, double label) {
  return (loss.value(-1.0, label) - loss.value(1.0, label)) / (2.0 * static_cast<double>(L::slope));
}

/// Least squares: (z - y)^2 / 2 on standardised labels. A constant label is centred to 0.
struct SquaredLoss {
  static constexpr const char* name = "least-squares";
  static constexpr bool classifies = false;
  static constexpr float slope = 1.0f;

  double value(double z, double y) const { return 0.5 * (z - y) * (z - y); }
  float derivative(float z, float y) const { return z - y; }
  LabelMap label_map(const LabelStatistics& labels) const {
    return {labels.mean, labels.deviation > 0.0 ? labels.deviation : 1.0};
  }
};

namespace detail {
/// -1 for the lower of two label values, +1 for the other. `name` is the loss's. Throws Error unless there are
/// exactly two.
inline LabelMap two_classes(const LabelStatistics& labels, const char* name) {
  if (!labels.two_values)
    throw Error(std::string(name) + " takes labels of two classes", "exactly two label values",
                labels.min == labels.max
                    ? "one value, " + number_text(labels.min)
                    : "more than two between " + number_text(labels.min) + " and " + number_text(labels.max));
  const auto low = static_cast<double>(labels.min);
  const auto high = static_cast<double>(labels.max);
  return {(low + high) / 2.0, (high - low) / 2.0};
}
}  // namespace detail

/// Least-squares support vector machine: (1 - y z)^2 / 2 = (z - y)^2 / 2 on labels -1 and +1 (Suykens,
/// Vandewalle 1999; ZipML 2017, section 2). The lower of the two label values becomes -1. Throws Error unless
/// there are exactly two.
struct LeastSquaresSvm {
  static constexpr const char* name = "ls-svm";
  static constexpr bool classifies = true;
  static constexpr float slope = 1.0f;

  double value(double z, double y) const { return 0.5 * (1.0 - y * z) * (1.0 - y * z); }
  float derivative(float z, float y) const { return y * (y * z - 1.0f); }
  LabelMap label_map(const LabelStatistics& labels) const { return detail::two_classes(labels, name); }
};

namespace detail {
/// Density and distribution function of the standard normal distribution at t, both from exponential(): the latter by
/// Abramowitz, Stegun 1964, 26.2.17, with an error below 7.5e-8.
struct Gaussian {
  explicit Gaussian(double at) : t(at), density(0.3989422804014327 * exponential(-0.5 * at * at)) {
    const double k = 1.0 / (1.0 + 0.2316419 * (t < 0.0 ? -t : t));
    constexpr double terms[] = {1.330274429, -1.821255978, 1.781477937, -0.356563782, 0.319381530};
    double sum = 0.0;
    for (const double term : terms) sum = pinned((sum + term) * k);
    const double tail = density * sum;
    below = t < 0.0 ? tail : 1.0 - tail;
  }
  double t, density, below = 0.0;
};
}  // namespace detail

/// Logistic regression: log(1 + e^(-y z)) on labels -1 and +1, the lower of the two label values being -1: minus the
/// logarithm of the probability 1 / (1 + e^(-y z)) of the label. Curvature at most 1/4. Throws Error unless
/// there are exactly two label values.
///
///     const zipml::Sgd sgd{zipml::LogisticLoss{}, zipml::L2{1e-4f}};
struct LogisticLoss {
  static constexpr const char* name = "logistic";
  static constexpr bool classifies = true;
  static constexpr float curvature = 0.25f;
  static constexpr bool bounded_slope = true;

  double value(double z, double y) const {
    const double m = y * z;
    return log_one_plus(exponential(m > 0.0 ? -m : m)) + (m > 0.0 ? 0.0 : -m);
  }
  /// The same of detail::rows_together rows, for loops over rows: the same bits.
  void values(const float* z, const float* y, double* out) const {
    detail::logistic_values_of_rows(z, y, out);
  }
  /// 1 / (1 + e^-z), the probability of the label +1.
  static double probability(double z) {
    const double other = exponential(z > 0.0 ? -z : z);  // at most 1
    return (z > 0.0 ? 1.0 : other) / (1.0 + other);
  }
  float derivative(float z, float y) const {
    return -y * detail::probability_of_other(y * z, detail::DecayingExponential());
  }
  /// The same of detail::rows_together rows, for loops over rows.
  void derivatives(const float* z, const float* y, float* out) const {
    detail::logistic_derivatives_of_rows(z, y, out);
  }
  LossDerivatives derivatives(double z, double y) const {
    const double wrong = probability(-y * z);  // the probability of the other label
    const double second = y * y * wrong * (1.0 - wrong);
    return {-y * wrong, second, y * second * (2.0 * wrong - 1.0)};
  }
  /// exp(-(v/2) d^2/dz^2) l to first order in v, l - (v/2) l''. l'' is the density of the logistic distribution, whose
  /// variance is pi^2 / 3: noise of more can be undone by nothing.
  static constexpr double most_noise = 2.5;
  CorrectedSlopes corrected(double z, double y, double v) const {
    const LossDerivatives slopes = derivatives(z, y);
    return {value(z, y) - 0.5 * v * slopes.second, slopes.first - 0.5 * v * slopes.third, slopes.second};
  }
  /// Residual and factor of detail::rows_together rows.
  void corrected(const float* z, const float* y, float v, float* residual, float* factor) const {
    detail::corrected_logistic_of_rows(z, y, v, residual, factor);
  }
  LabelMap label_map(const LabelStatistics& labels) const { return detail::two_classes(labels, name); }
};

/// Support vector machine with the squared hinge loss, max(0, 1 - y z)^2 / 2 on labels -1 and +1 (L2-SVM: Fan et
/// al. 2008, LIBLINEAR, section 2, halved). Curvature at most 1. Throws Error unless there are exactly two label
/// values.
struct SquaredHingeLoss {
  static constexpr const char* name = "squared-hinge";
  static constexpr bool classifies = true;
  static constexpr double kink = 1.0;  ///< of y z
  static constexpr float curvature = 1.0f;

  double value(double z, double y) const {
    const double short_of = 1.0 - y * z;
    return short_of > 0.0 ? 0.5 * short_of * short_of : 0.0;
  }
  float derivative(float z, float y) const {
    const float short_of = 1.0f - y * z;
    return short_of > 0.0f ? -y * short_of : 0.0f;
  }
  LossDerivatives derivatives(double z, double y) const {
    const double short_of = 1.0 - y * z;
    return short_of > 0.0 ? LossDerivatives{-y * short_of, y * y} : LossDerivatives{};
  }
  /// Smoothed by a Gaussian of variance v/2, s(u) = ((1-u)^2 + v/2) / 2 Phi(t) + (1-u) w phi(t) / 2 with the signed
  /// margin u = y z, w^2 = v/2 and t = (1-u)/w; then s - (3/4) v s'' undoes noise and smoothing, 3/2 v together.
  static constexpr double most_noise = 1.0;
  CorrectedSlopes corrected(double z, double y, double v) const {
    if (!(v > 0.0)) return {value(z, y), derivatives(z, y).first, derivatives(z, y).second};
    const double short_of = 1.0 - y * z, w = std::sqrt(0.5 * v);
    const detail::Gaussian g(short_of / w);
    const double smooth = 0.5 * (short_of * short_of + 0.5 * v) * g.below + 0.5 * short_of * w * g.density;
    return {smooth - 0.75 * v * g.below, -y * (short_of * g.below - 0.5 * w * g.density),
            g.below - 0.75 * g.t * g.density};
  }
  LabelMap label_map(const LabelStatistics& labels) const { return detail::two_classes(labels, name); }
};

/// Support vector machine: max(0, 1 - y z) on labels -1 and +1 (Cortes, Vapnik 1995; ZipML 2017, section 4.2). Its
/// derivative jumps, so that it has no curvature: `curvature` 1 is what automatic steps take, that of the squared hinge
/// loss. Throws Error unless there are exactly two label values.
struct HingeLoss {
  static constexpr const char* name = "hinge";
  static constexpr bool classifies = true;
  static constexpr double kink = 1.0;  ///< of y z
  static constexpr float curvature = 1.0f;
  static constexpr bool bounded_slope = true;

  double value(double z, double y) const { return y * z < 1.0 ? 1.0 - y * z : 0.0; }
  float derivative(float z, float y) const { return y * z < 1.0f ? -y : 0.0f; }
  /// As of the squared hinge loss, s(u) = (1-u) Phi(t) + w phi(t). Worth it from 6 bits on, where v is small.
  static constexpr double most_noise = 1.0;
  CorrectedSlopes corrected(double z, double y, double v) const {
    const double short_of = 1.0 - y * z, w = std::sqrt(0.5 * v);
    if (!(v > 0.0)) return {value(z, y), y * z < 1.0 ? -y : 0.0, 0.0};
    const detail::Gaussian g(short_of / w);
    return {short_of * g.below + w * g.density - 0.75 * v * g.density / w,
            -y * (g.below + 1.5 * g.t * g.density), g.density * (0.25 + 0.75 * g.t * g.t) / w};
  }
  LabelMap label_map(const LabelStatistics& labels) const { return detail::two_classes(labels, name); }
};

/// Huber's loss on standardised labels: r^2 / 2 for residuals r = z - y of at most `reach` deviations of the labels,
/// beyond them reach (|r| - reach / 2), so that a far label pulls no harder than one at the reach (Huber 1964).
/// Curvature at most 1.
struct HuberLoss {
  static constexpr const char* name = "huber";
  static constexpr bool classifies = false;
  static constexpr float curvature = 1.0f;
  static constexpr bool bounded_slope = true;

  float reach = 1.0f;  ///< deviations of the labels

  double value(double z, double y) const {
    const double r = z - y, size = r < 0.0 ? -r : r, end = static_cast<double>(reach);
    return size <= end ? 0.5 * r * r : end * (size - 0.5 * end);
  }
  float derivative(float z, float y) const {
    const float r = z - y;
    return r > reach ? reach : r < -reach ? -reach : r;
  }
  LossDerivatives derivatives(double z, double y) const {
    const double r = z - y, end = static_cast<double>(reach);
    if (r > end) return {end, 0.0, 0.0};
    if (r < -end) return {-end, 0.0, 0.0};
    return {r, 1.0, 0.0};
  }
  /// l - (v/2) l'': noise within the reach is that of least squares.
  static constexpr double most_noise = 1.0;
  CorrectedSlopes corrected(double z, double y, double v) const {
    const LossDerivatives slopes = derivatives(z, y);
    return {value(z, y) - 0.5 * v * slopes.second, slopes.first, slopes.second};
  }
  LabelMap label_map(const LabelStatistics& labels) const { return SquaredLoss{}.label_map(labels); }
};

/// Poisson regression of counts y >= 0 with a log link: half the deviance, mu - y + y log(y / mu) with the rate mu = e^z
/// (McCullagh, Nelder 1989, section 6.2), labels and rates in units of the mean label. Rates beyond `most_rate` of these
/// count as e^z up to second order there, so that the curvature is at most that. Predictions are rates. Throws Error for a
/// label below 0, or labels that are all 0.
///
///     const zipml::Sgd sgd{zipml::PoissonLoss{}, zipml::L2{1e-4f}};
struct PoissonLoss {
  static constexpr const char* name = "poisson";
  static constexpr bool classifies = false;
  static constexpr bool log_link = true;
  static constexpr double most_rate = 8.0;
  static constexpr float curvature = 8.0f;

  double value(double z, double y) const {
    return rate(z).first - y - y * z + (y > 0.0 ? y * logarithm(y) : 0.0);
  }
  float derivative(float z, float y) const {
    return static_cast<float>(rate(static_cast<double>(z)).second) - y;
  }
  LossDerivatives derivatives(double z, double y) const {
    const LossDerivatives at = rate(z);
    return {at.second - y, at.third, z < most_margin ? at.third : 0.0};
  }
  /// A Gaussian multiplies e^z by e^(v/2): dividing by it undoes noise exactly, of any order.
  static constexpr double most_noise = 2.0;
  CorrectedSlopes corrected(double z, double y, double v) const {
    const LossDerivatives at = rate(z - 0.5 * v);
    return {value(z - 0.5 * v, y) - 0.5 * v * y, at.second - y, at.second};
  }
  LabelMap label_map(const LabelStatistics& labels) const {
    const double mean = labels.mean + labels.offset;
    if (static_cast<double>(labels.min) + labels.offset < 0.0 || !(mean > 0.0))
      throw Error("poisson takes counts or rates", "labels of at least 0, not all 0",
                  number_text(static_cast<double>(labels.min) + labels.offset));
    return {-labels.offset, mean};
  }

 private:
  static constexpr double most_margin = 2.0794415416798357;  // log(most_rate)
  /// e^z and its first two derivatives, as capped.
  static LossDerivatives rate(double z) {
    if (z < most_margin) {
      const double e = exponential(z);
      return {e, e, e};
    }
    const double beyond = z - most_margin;
    return {most_rate * (1.0 + beyond + 0.5 * beyond * beyond), most_rate * (1.0 + beyond), most_rate};
  }
};

static_assert(ConvexLoss<LogisticLoss> && ConvexLoss<SquaredHingeLoss> && ConvexLoss<HuberLoss> &&
              ConvexLoss<PoissonLoss>);
static_assert(AffineLoss<SquaredLoss> && AffineLoss<LeastSquaresSvm>);
static_assert(CorrectableLoss<LogisticLoss> && CorrectableLoss<SquaredHingeLoss> &&
              CorrectableLoss<HingeLoss> && CorrectableLoss<HuberLoss> && CorrectableLoss<PoissonLoss>);

namespace detail {

/// An affine loss without its targets, l = slope / 2 z^2: its gradient is slope * M x, M the matrix of the
/// samples, whatever the labels.
template <AffineLoss L>
struct QuadraticForm {
  static constexpr const char* name = "quadratic-form";
  static constexpr bool classifies = false;
  static constexpr float slope = L::slope;
  double value(double z, double) const { return 0.5 * static_cast<double>(slope) * z * z; }
  float derivative(float z, float) const { return slope * z; }
  LabelMap label_map(const LabelStatistics&) const { return {}; }
};

}  // namespace detail

}  // namespace zipml::inline ZIPML_ABI
