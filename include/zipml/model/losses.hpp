#pragma once
/// \file
/// Room model: losses, functions of the margin z = a'x + c and the label y.

#include <concepts>

#include <zipml/base/error.hpp>
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

/// Least-squares support vector machine: (1 - y z)^2 / 2 = (z - y)^2 / 2 on labels -1 and +1 (Suykens,
/// Vandewalle 1999; ZipML 2017, section 2). The lower of the two label values becomes -1. Throws Error unless
/// there are exactly two.
struct LeastSquaresSvm {
  static constexpr const char* name = "ls-svm";
  static constexpr bool classifies = true;
  static constexpr float slope = 1.0f;

  double value(double z, double y) const { return 0.5 * (1.0 - y * z) * (1.0 - y * z); }
  float derivative(float z, float y) const { return y * (y * z - 1.0f); }
  LabelMap label_map(const LabelStatistics& labels) const {
    if (!labels.two_values)
      throw Error("ls-svm takes labels of two classes", "exactly two label values",
                  labels.min == labels.max ? "one value, " + number_text(labels.min)
                                           : "more than two between " + number_text(labels.min) + " and " +
                                                 number_text(labels.max));
    const auto low = static_cast<double>(labels.min);
    const auto high = static_cast<double>(labels.max);
    return {(low + high) / 2.0, (high - low) / 2.0};
  }
};

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
