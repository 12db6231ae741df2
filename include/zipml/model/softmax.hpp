#pragma once
/// \file
/// Room model: multinomial logistic regression, the loss of all classes together.

#include <algorithm>

#include <zipml/base/config.hpp>
#include <zipml/base/cpu.hpp>
#include <zipml/base/exponential.hpp>
#include <zipml/base/index.hpp>
#include <zipml/model/logistic_lanes.hpp>
#include <zipml/model/losses.hpp>

namespace zipml::inline ZIPML_ABI {

namespace detail {

/// p_k - [k is the class] of rows_together rows, p_k = e^(z_k - m) / sum_j e^(z_j - m) with m = max_j z_j, so that no
/// exponent is above 0. `z` and `r` are lists of classes, rows_together floats each, and may be the same.
ZIPML_ALWAYS_INLINE void softmax_slopes(const float* const* z, const float* const* y, Index classes,
                                        float* const* r) {
  const DecayingExponential decay;
  float most[rows_together], sum[rows_together];
  for (int i = 0; i < rows_together; ++i) most[i] = z[0][i];
  for (Index k = 1; k < classes; ++k) {
    const float* const of = z[k];
    for (int i = 0; i < rows_together; ++i) most[i] = of[i] > most[i] ? of[i] : most[i];
  }
  for (int i = 0; i < rows_together; ++i) sum[i] = 0.0f;
  for (Index k = 0; k < classes; ++k) {
    float e[rows_together];
    const float* const of = z[k];
    for (int i = 0; i < rows_together; ++i) e[i] = decay(of[i] - most[i]);
    for (int i = 0; i < rows_together; ++i) sum[i] += e[i];
    float* const out = r[k];
    for (int i = 0; i < rows_together; ++i) out[i] = e[i];
  }
  for (Index k = 0; k < classes; ++k) {
    float* const out = r[k];
    const float* const label = y[k];
    for (int i = 0; i < rows_together; ++i) {
      const float p = out[i] / sum[i];
      out[i] = p - (label[i] > 0.0f ? 1.0f : 0.0f);
    }
  }
}

#if ZIPML_X86
// Eight lanes of the same operations.
ZIPML_KERNEL("avx2")
inline void softmax_slopes_avx2(const float* const* z, const float* const* y, Index classes,
                                float* const* r) {
  softmax_slopes(z, y, classes, r);
}
#endif

/// softmax_slopes() with the instructions that there are.
inline void softmax_slopes_of_rows(const float* const* z, const float* const* y, Index classes,
                                   float* const* r) {
#if ZIPML_X86
  if (cpu_features().avx2) return softmax_slopes_avx2(z, y, classes, r);
#endif
  softmax_slopes(z, y, classes, r);
}

}  // namespace detail

/// Multinomial logistic regression: log(sum_k e^(z_k)) - z_y, minus the logarithm of the probability e^(z_y) / sum_k
/// e^(z_k) of the row's class (Bishop 2006, section 4.3.4), for a model of each class, which are trained together. The
/// largest eigenvalue of the second derivatives diag(p) - p p' is at most 1/2. For fit_classes(), with estimators that read one
/// draw and correct nothing: naive, full_precision.
///
///     const auto digits = zipml::fit_classes(zipml::Sgd{zipml::SoftmaxLoss{}, zipml::L2{1e-4f}}, store, zipml::naive);
struct SoftmaxLoss {
  static constexpr const char* name = "softmax";
  static constexpr bool classifies = true;
  static constexpr float curvature = 0.5f;
  static constexpr bool bounded_slope = true;

  void slopes(const float* const* z, const float* const* y, Index classes, Index n, float* const* r) const {
    constexpr Index together = detail::rows_together;
    const auto k = static_cast<std::size_t>(classes);
    List<const float*> margins(k), labels(k);
    List<float*> residuals(k);
    List<float> rest;
    for (Index first = 0; first < n; first += together) {
      const Index count = n - first < together ? n - first : together;
      for (std::size_t c = 0; c < k; ++c) {
        margins[c] = z[c] + first;
        labels[c] = y[c] + first;
        residuals[c] = r[c] + first;
      }
      if (count == together) {
        detail::softmax_slopes_of_rows(margins.data(), labels.data(), classes, residuals.data());
        continue;
      }
      // The last rows are padded with zeros: the loops over them have a constant length.
      rest.assign(2 * k * static_cast<std::size_t>(together), 0.0f);
      for (std::size_t c = 0; c < k; ++c) {
        residuals[c] = rest.data() + 2 * c * static_cast<std::size_t>(together);
        float* const label = residuals[c] + together;
        std::copy_n(margins[c], count, residuals[c]);
        std::copy_n(labels[c], count, label);
        margins[c] = residuals[c];
        labels[c] = label;
      }
      detail::softmax_slopes_of_rows(margins.data(), labels.data(), classes, residuals.data());
      for (std::size_t c = 0; c < k; ++c) std::copy_n(residuals[c], count, r[c] + first);
    }
  }

  /// In double precision.
  double total(const float* const* z, const float* const* y, const float* weights, Index classes,
               Index n) const {
    double sum = 0.0;
    for (Index i = 0; i < n; ++i) {
      double most = static_cast<double>(z[0][i]), of_class = 0.0, others = 0.0;
      for (Index k = 1; k < classes; ++k) most = (std::max)(most, static_cast<double>(z[k][i]));
      for (Index k = 0; k < classes; ++k) {
        const auto margin = static_cast<double>(z[k][i]);
        others += exponential(margin - most);
        if (y[k][i] > 0.0f) of_class = margin;
      }
      sum += (weights != nullptr ? static_cast<double>(weights[i]) : 1.0) *
             (most + logarithm(others) - of_class);
    }
    return sum;
  }

  LabelMap label_map(const LabelStatistics& labels) const { return detail::two_classes(labels, name); }
};

static_assert(JointLoss<SoftmaxLoss> && BoundedCurvature<SoftmaxLoss>);

}  // namespace zipml::inline ZIPML_ABI
