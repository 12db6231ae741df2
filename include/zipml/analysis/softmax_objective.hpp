#pragma once
/// \file
/// Room analysis: the objective of multinomial logistic regression on full-precision samples, and its exact optimum.

#include <algorithm>
#include <cmath>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include <zipml/analysis/lbfgs.hpp>
#include <zipml/analysis/objective.hpp>
#include <zipml/base/buffer.hpp>
#include <zipml/base/error.hpp>
#include <zipml/base/exponential.hpp>
#include <zipml/base/views.hpp>
#include <zipml/eigen.hpp>
#include <zipml/io/dataset.hpp>

namespace zipml::inline ZIPML_ABI {

/// F(x_1, c_1, ..., x_k, c_k) = 1/n sum_i w_i (log sum_j e^(z_ij) - z_i,y(i)) + l2/2 sum_j |x_j|^2, z_ij = a_i'x_j + c_j, on
/// standardised samples in double precision: SoftmaxLoss as Objective has other losses. The model of a class is d weights and
/// its intercept; those of all classes stand one behind the other. Holds a view: the samples must outlive it.
class SoftmaxObjective {
 public:
  /// `values` are the labels of the classes, ascending. Throws Error for a label that is none of them, and where samples,
  /// labels and weights differ in number.
  SoftmaxObjective(const MatrixView& features, const LabelView& labels, std::span<const float> values,
                   double l2 = 0.0)
      : SoftmaxObjective(Objective<SquaredLoss>(features, labels, SquaredLoss{}, NoRegularizer{}), labels,
                         values, l2) {}
  SoftmaxObjective(const Dataset& data, std::span<const float> values, double l2 = 0.0)
      : SoftmaxObjective(data.features(), data.label_view(), values, l2) {}
  /// Samples, weights and units of another objective.
  SoftmaxObjective(const Objective<SquaredLoss>& rows, const LabelView& labels, std::span<const float> values,
                   double l2 = 0.0)
      : rows_(rows), classes_(static_cast<Index>(values.size())), l2_(l2), class_of_(rows.rows()) {
    take_classes(labels, values);
  }

  Index rows() const { return rows_.rows(); }
  Index cols() const { return rows_.cols(); }
  Index classes() const { return classes_; }
  /// Variables: classes() times cols() + 1.
  Index size() const { return classes_ * (cols() + 1); }

  /// F at a point of size() entries. O(n d k).
  double operator()(std::span<const double> point) const { return evaluate(point.data(), nullptr); }
  /// The same; writes the gradient, size() entries.
  double with_gradient(const double* point, double* gradient) const { return evaluate(point, gradient); }

 private:
  void take_classes(const LabelView& labels, std::span<const float> values);
  double evaluate(const double* point, double* gradient) const;

  Objective<SquaredLoss> rows_;  // samples in its units
  Index classes_;
  double l2_;
  Buffer<std::int32_t> class_of_;  // of each row
};

/// The minimum of a SoftmaxObjective.
struct SoftmaxOptimum {
  Buffer<double> point;  ///< as SoftmaxObjective has them
  double value = 0.0;
  int readings = 0;  ///< of the samples
};

/// By L-BFGS from 0, until ten steps gain less than 1e-11 of log(classes). Classes that can be separated have no minimum
/// without a penalty: the value is then near the infimum. nullopt after 2,000 steps. O(n d k) a step, some 50 to 500 of them.
///
///     const auto optimum = zipml::exact_solution(zipml::SoftmaxObjective(data, values, 1e-4));
std::optional<SoftmaxOptimum> exact_solution(const SoftmaxObjective& objective);

#if ZIPML_DEFINES

ZIPML_FUNCTION void SoftmaxObjective::take_classes(const LabelView& labels, std::span<const float> values) {
  if (classes_ < 2) throw Error("softmax is of several classes", "at least 2", std::to_string(classes_));
  for (Index i = 0; i < rows(); ++i) {
    const float label = labels.values[static_cast<std::size_t>(i)];
    const auto at = std::lower_bound(values.begin(), values.end(), label);
    if (at == values.end() || *at != label)
      throw Error("a label is of no class", "one of " + std::to_string(classes_) + " values",
                  number_text(static_cast<double>(label)) + " in row " + std::to_string(i + 1));
    class_of_[i] = static_cast<std::int32_t>(at - values.begin());
  }
}

ZIPML_FUNCTION double SoftmaxObjective::evaluate(const double* point, double* gradient) const {
  using Eigen::MatrixXd;
  const Index n = rows(), d = cols(), k = classes_;
  constexpr Index piece = 256;
  const Eigen::Map<const MatrixXd> models(point, d + 1, k);
  MatrixXd block(d + 1, piece);  // a column for each row
  MatrixXd slopes = MatrixXd::Zero(d + 1, gradient != nullptr ? k : 0);
  MatrixRows matrix(rows_.features());
  double total = 0.0;
  for (Index begin = 0; begin < n; begin += piece) {
    const Index count = (std::min)(piece, n - begin);
    for (Index i = 0; i < count; ++i) {
      const float* const row = matrix(begin + i);
      for (Index j = 0; j < d; ++j) block(j, i) = rows_.standardise(row[j], j);
      block(d, i) = 1.0;
    }
    MatrixXd margins = models.transpose() * block.leftCols(count);
    for (Index i = 0; i < count; ++i) {
      const double most = margins.col(i).maxCoeff(), weight = rows_.weight(begin + i);
      const Index of = class_of_[begin + i];
      const double margin = margins(of, i);
      double sum = 0.0;
      for (Index c = 0; c < k; ++c) sum += margins(c, i) = exponential(margins(c, i) - most);
      total += weight * (most + logarithm(sum) - margin);
      margins.col(i) *= weight / sum;
      margins(of, i) -= weight;
    }
    if (gradient != nullptr) slopes.noalias() += block.leftCols(count) * margins.transpose();
  }
  const double penalty = 0.5 * l2_ * models.topRows(d).squaredNorm();
  if (gradient != nullptr) {
    slopes /= static_cast<double>(n);
    slopes.topRows(d) += l2_ * models.topRows(d);
    std::copy_n(slopes.data(), size(), gradient);
  }
  return total / static_cast<double>(n) + penalty;
}

ZIPML_FUNCTION std::optional<SoftmaxOptimum> exact_solution(const SoftmaxObjective& objective) {
  LbfgsResult found =
      minimise_lbfgs(Buffer<double>(objective.size()),
                     [&](const double* x, double* gradient) { return objective.with_gradient(x, gradient); });
  if (!found.converged) return std::nullopt;
  return SoftmaxOptimum{std::move(found.point), found.value, found.evaluations};
}

#endif

}  // namespace zipml::inline ZIPML_ABI
