#pragma once
/// \file
/// Room training: the full-precision problem of refinement: value, gradient and products from readings of the rows.

#include <cmath>
#include <string>

#include <zipml/analysis/objective.hpp>
#include <zipml/base/error.hpp>
#include <zipml/eigen.hpp>
#include <zipml/model/losses.hpp>
#include <zipml/model/regularizers.hpp>
#include <zipml/storage/sample_view.hpp>
#include <zipml/training/refinement/refined.hpp>
#include <zipml/training/refinement/shared_readings.hpp>

namespace zipml::inline ZIPML_ABI::detail {

/// The full-precision problem of an objective: what readings of it tell.
template <Loss L, Regularizer R>
class FullProblem {
 public:
  /// Of model `model` among those that the readings serve.
  FullProblem(const Objective<L, R>& objective, const PenaltyStrengths& penalty,
              SharedReadings<L, R>& readings, Index model)
      : objective_(objective), l2_(penalty.l2), readings_(readings), model_(model) {}

  /// Of all readings so far, the model's share.
  double seconds() const { return seconds_; }
  double bytes() const { return bytes_; }
  double penalty(const Eigen::VectorXd& x) const { return 0.5 * l2_ * x.head(x.size() - 1).squaredNorm(); }

  /// The value; writes the gradient.
  double read(const Eigen::VectorXd& x, Eigen::VectorXd& gradient) {
    return reading(x, false, gradient) + penalty(x);
  }
  /// H p of an affine loss.
  void multiply(const Eigen::VectorXd& p, Eigen::VectorXd& out) {
    if constexpr (AffineLoss<L>) (void)reading(p, true, out);
  }

 private:
  double reading(const Eigen::VectorXd& x, bool is_product, Eigen::VectorXd& out) {
    ReadingRequest<L, R> request{&objective_, &x, is_product, &out};
    readings_.read(model_, request);
    for (Index j = 0; j + 1 < x.size(); ++j) out(j) += l2_ * x(j);
    seconds_ += request.seconds;
    bytes_ += request.bytes;
    return request.value;
  }

  const Objective<L, R>& objective_;
  double l2_;
  SharedReadings<L, R>& readings_;
  Index model_;
  double seconds_ = 0.0;
  double bytes_ = 0.0;
};

/// The mean loss of margins of 0. O(n).
template <Loss L, Regularizer R>
double loss_without_weights(const Objective<L, R>& objective) {
  double sum = 0.0;
  for (Index i = 0; i < objective.rows(); ++i)
    sum += objective.weight(i) * objective.loss().value(0.0, objective.label(i));
  return std::fabs(sum) / static_cast<double>(objective.rows());
}

/// Throws Error where the labels of an objective and of the store have other means or mean squares: these are other rows.
/// Both are in units of the loss. O(n).
template <class L, class R>
void check_labels(const Objective<L, R>& objective, const Targets& targets) {
  const LabelMap map = objective.loss().label_map(targets.statistics(0));
  double means[2] = {}, squares[2] = {};
  const std::span<const float> packed = targets.of(0);
  for (Index i = 0; i < objective.rows(); ++i) {
    const double here = objective.label(i);
    const auto there = static_cast<double>(map.apply(packed[static_cast<std::size_t>(i)]));
    means[0] += here;
    means[1] += there;
    squares[0] += here * here;
    squares[1] += there * there;
  }
  const double most =
      1e-3 * std::sqrt(static_cast<double>(objective.rows()) * (std::max)(squares[0], squares[1]));
  if (std::fabs(means[0] - means[1]) > most ||
      std::fabs(squares[0] - squares[1]) > 1e-3 * (std::max)(squares[0], squares[1]))
    throw Error("the labels are not those that the store was packed with", "the rows of the store", "others");
}

/// Throws Error unless the rows count as those of the samples do, which are in another order: as their squares tell.
template <Loss L, Regularizer R>
void check_weights(const Objective<L, R>& objective, const SampleView& samples) {
  double here = 0.0, there = 0.0;
  for (Index i = 0; i < samples.rows; ++i) {
    const double packed = samples.weights != nullptr ? static_cast<double>(samples.weights[i]) : 1.0;
    here += objective.weight(i) * objective.weight(i);
    there += packed * packed;
  }
  if (std::fabs(here - there) > 1e-3 * (std::max)(here, there))
    throw Error("the weights of the rows are not those that the store was packed with",
                samples.weights != nullptr ? "the weights of the store" : "rows that count alike",
                objective.weights().empty() ? "rows that count alike" : "other weights");
}

/// Throws Error unless the rows of an objective are those that samples were packed from, as far as their number and weights
/// tell.
template <Loss L, Regularizer R>
void check_samples(const Objective<L, R>& objective, const SampleView& samples) {
  if (objective.rows() != samples.rows || objective.cols() != samples.cols)
    throw Error("the rows are not those that the store was packed from",
                std::to_string(samples.rows) + " x " + std::to_string(samples.cols),
                std::to_string(objective.rows()) + " x " + std::to_string(objective.cols()));
  check_weights(objective, samples);
}

/// The same, as far as their labels tell as well.
template <Loss L, Regularizer R>
void check_rows(const Objective<L, R>& objective, const SampleView& samples, const Targets& targets) {
  check_samples(objective, samples);
  check_labels(objective, targets);
}

}  // namespace zipml::inline ZIPML_ABI::detail
