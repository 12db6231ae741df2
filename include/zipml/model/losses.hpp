#pragma once
/// \file
/// Room model: losses, functions of the margin z = a'x + c and the label y.

#include <cmath>
#include <concepts>
#include <string>

#include <zipml/base/error.hpp>
#include <zipml/base/exponential.hpp>
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

/// A loss that says how large l'' gets: the slope of an affine one, else `curvature`. Steps that are derived
/// from the samples follow it.
template <class L>
concept BoundedCurvature = AffineLoss<L> ||(Loss<L>&& requires {
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

/// First and second derivative of a loss in the margin.
struct LossDerivatives {
  double first = 0.0;
  double second = 0.0;
};

/// A loss with derivatives in double precision, of which the second is never negative: what Newton's method
/// needs (analysis/newton.hpp).
template <class L>
concept ConvexLoss = Loss<L> && requires(const L loss, double z, double y) {
  { loss.derivatives(z, y) } -> std::convertible_to<LossDerivatives>;
};

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

/// Logistic regression: log(1 + e^(-y z)) on labels -1 and +1, the lower of the two label values being -1: minus the
/// logarithm of the probability 1 / (1 + e^(-y z)) of the label. Curvature at most 1/4. Throws Error unless
/// there are exactly two label values.
///
///     const zipml::Sgd sgd{zipml::LogisticLoss{}, zipml::L2{1e-4f}};
struct LogisticLoss {
  static constexpr const char* name = "logistic";
  static constexpr bool classifies = true;
  static constexpr float curvature = 0.25f;

  double value(double z, double y) const {
    const double m = y * z;
    return m > 0.0 ? std::log1p(std::exp(-m)) : std::log1p(std::exp(m)) - m;
  }
  float derivative(float z, float y) const {
    return static_cast<float>(derivatives(static_cast<double>(z), static_cast<double>(y)).first);
  }
  LossDerivatives derivatives(double z, double y) const {
    const double m = y * z;
    const double other = exponential(m > 0.0 ? -m : m);            // at most 1
    const double wrong = (m > 0.0 ? other : 1.0) / (1.0 + other);  // the probability of the other label
    return {-y * wrong, y * y * wrong * (1.0 - wrong)};
  }
  LabelMap label_map(const LabelStatistics& labels) const { return detail::two_classes(labels, name); }
};

/// Support vector machine with the squared hinge loss, max(0, 1 - y z)^2 / 2 on labels -1 and +1 (L2-SVM: Fan et
/// al. 2008, LIBLINEAR, section 2, halved). Curvature at most 1. Throws Error unless there are exactly two label
/// values.
struct SquaredHingeLoss {
  static constexpr const char* name = "squared-hinge";
  static constexpr bool classifies = true;
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
  LabelMap label_map(const LabelStatistics& labels) const { return detail::two_classes(labels, name); }
};

/// Huber's loss on standardised labels: r^2 / 2 for residuals r = z - y of at most `reach` deviations of the labels,
/// beyond them reach (|r| - reach / 2), so that a far label pulls no harder than one at the reach (Huber 1964).
/// Curvature at most 1.
struct HuberLoss {
  static constexpr const char* name = "huber";
  static constexpr bool classifies = false;
  static constexpr float curvature = 1.0f;

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
    if (r > end) return {end, 0.0};
    if (r < -end) return {-end, 0.0};
    return {r, 1.0};
  }
  LabelMap label_map(const LabelStatistics& labels) const { return SquaredLoss{}.label_map(labels); }
};

static_assert(ConvexLoss<LogisticLoss> && ConvexLoss<SquaredHingeLoss> && ConvexLoss<HuberLoss>);
static_assert(AffineLoss<SquaredLoss> && AffineLoss<LeastSquaresSvm>);

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
