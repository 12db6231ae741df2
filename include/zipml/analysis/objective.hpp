#pragma once
/// \file
/// Room analysis: the objective on full-precision samples, which every comparison is made with.

#include <zipml/base/views.hpp>
#include <zipml/io/dataset.hpp>
#include <zipml/model/losses.hpp>
#include <zipml/model/regularizers.hpp>

namespace zipml::inline ZIPML_ABI {

/// F(x, c) = 1/n sum_i loss(a_i'x + c, y_i) + penalty(x) on standardised samples and the loss's own labels,
/// in double precision. Holds a view: the samples must outlive it. Each value costs O(n d).
template <Loss L = SquaredLoss, Regularizer R = NoRegularizer>
class Objective {
 public:
  explicit Objective(const Dataset& data, L loss = {}, R regularizer = R{}, bool standardize = true)
      : Objective(data.features(), data.labels.data(), loss, regularizer, standardize) {}
  Objective(const MatrixView& features, const float* labels, L loss, R regularizer, bool standardize = true)
      : features_(features),
        loss_(loss),
        regularizer_(regularizer),
        standardization_(standardize ? standardization_of(column_statistics(features))
                                     : identity_standardization(features.cols)),
        labels_(features.rows) {
    const LabelMap map = loss.label_map(label_statistics(labels, features.rows));
    for (Index i = 0; i < features.rows; ++i)
      labels_[i] = (static_cast<double>(labels[i]) - map.offset) / map.scale;
  }

  Index rows() const { return features_.rows; }
  Index cols() const { return features_.cols; }
  const MatrixView& features() const { return features_; }
  const Standardization& standardization() const { return standardization_; }
  const L& loss() const { return loss_; }
  const R& regularizer() const { return regularizer_; }
  /// Label i as the loss sees it.
  double label(Index i) const { return labels_[i]; }
  /// Value (i, j) as the model sees it.
  double standardised(Index i, Index j) const {
    return standardization_.apply(static_cast<double>(features_(i, j)), j);
  }

  /// F at standardised weights x and intercept c.
  double operator()(std::span<const double> x, double intercept) const {
    const Index d = cols();
    Buffer<double> folded(d);
    for (Index j = 0; j < d; ++j) folded[j] = x[static_cast<std::size_t>(j)] / standardization_.scale[j];
    double total = 0.0;
    MatrixRows row_of(features_);
    for (Index i = 0; i < rows(); ++i) {
      const float* row = row_of(i);
      double lanes[4] = {};
      Index j = 0;
      for (; j + 4 <= d; j += 4)
        for (Index lane = 0; lane < 4; ++lane)
          lanes[lane] +=
              (static_cast<double>(row[j + lane]) - standardization_.mean[j + lane]) * folded[j + lane];
      for (; j < d; ++j) lanes[0] += (static_cast<double>(row[j]) - standardization_.mean[j]) * folded[j];
      const double z = (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]) + intercept;
      total += loss_.value(z, labels_[i]);
    }
    return total / static_cast<double>(rows()) + regularizer_.value(x);
  }

 private:
  MatrixView features_;
  L loss_;
  R regularizer_;
  Standardization standardization_;
  Buffer<double> labels_;
};

/// (f - f*) / f*, the relative distance from the optimum.
inline double excess(double value, double optimum) { return (value - optimum) / optimum; }

}  // namespace zipml::inline ZIPML_ABI
