#pragma once
/// \file
/// Room model: the trained model, in the user's own units.

#include <cmath>
#include <string>

#include <zipml/base/views.hpp>

namespace zipml::inline ZIPML_ABI {

/// prediction = <weights, a> + intercept for a sample a in the user's units; for a classifier its sign
/// chooses between `low_label` and `high_label`.
struct LinearModel {
  Buffer<double> weights;  ///< d
  double intercept = 0.0;
  bool classifies = false;
  double low_label = -1.0;
  double high_label = 1.0;

  Index cols() const { return weights.size(); }

  /// The margin of one sample of d features, O(d).
  double margin(const float* sample) const {
    double sum = intercept;
    for (Index j = 0; j < cols(); ++j) sum += weights[j] * static_cast<double>(sample[j]);
    return sum;
  }
  /// The predicted label of one sample: the margin, or for a classifier one of the two label values.
  double predict(const float* sample) const {
    const double z = margin(sample);
    return classifies ? (z < 0.0 ? low_label : high_label) : z;
  }
};

/// Root mean squared error of the predictions, in the labels' units.
inline double rmse(const LinearModel& model, const MatrixView& features, const float* labels) {
  MatrixRows rows(features);
  double sum = 0.0;
  for (Index i = 0; i < features.rows; ++i) {
    const double error = model.predict(rows(i)) - static_cast<double>(labels[i]);
    sum += error * error;
  }
  return std::sqrt(sum / static_cast<double>(features.rows));
}

/// Share of the labels that a classifier predicts.
inline double accuracy(const LinearModel& model, const MatrixView& features, const float* labels) {
  MatrixRows rows(features);
  Index right = 0;
  for (Index i = 0; i < features.rows; ++i)
    right += model.predict(rows(i)) == static_cast<double>(labels[i]) ? 1 : 0;
  return static_cast<double>(right) / static_cast<double>(features.rows);
}

}  // namespace zipml::inline ZIPML_ABI
