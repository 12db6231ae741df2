#pragma once
/// \file
/// Room analysis: the objective of a classifier of several classes on full-precision samples, and its exact optimum, for a
/// model of each class against the rest as for all of them together. Needs more of Eigen than its Core; not part of zipml.hpp.

#include <optional>
#include <span>
#include <utility>

#include <zipml/analysis/exact_solver.hpp>
#include <zipml/analysis/newton.hpp>
#include <zipml/analysis/objective.hpp>
#include <zipml/analysis/softmax_objective.hpp>
#include <zipml/base/buffer.hpp>
#include <zipml/model/losses.hpp>
#include <zipml/model/regularizers.hpp>

namespace zipml::inline ZIPML_ABI {

/// What fit_classes() minimises: of a loss of two classes the sum of the objectives of the classes, each against the rest;
/// of SoftmaxLoss its loss and the sum of the penalties. A point is d weights and an intercept of each class, one behind the
/// other, on standardised columns. Holds a view: the samples must outlive it.
///
///     const zipml::ClassObjective objective(data, values, zipml::SoftmaxLoss{}, zipml::L2{1e-4f});
///     const double least = objective.optimum()->value;
template <class L, Regularizer R = NoRegularizer>
class ClassObjective {
 public:
  /// `values` are the labels of the classes, ascending. Throws Error for a label that is none of them.
  ClassObjective(const Dataset& data, std::span<const float> values, L loss, R regularizer = R{})
      : ClassObjective(Objective<SquaredLoss>(data), data.label_view(), values, std::move(loss),
                       std::move(regularizer)) {}
  /// On samples in the units of another objective: rows that were held out, say.
  ClassObjective(const Objective<SquaredLoss>& rows, const LabelView& labels, std::span<const float> values,
                 L loss, R regularizer = R{})
      : rows_(rows),
        softmax_(rows, labels, values),
        labels_(labels),
        values_(values.begin(), values.end()),
        loss_(std::move(loss)),
        regularizer_(std::move(regularizer)) {}

  Index classes() const { return softmax_.classes(); }
  Index cols() const { return softmax_.cols(); }
  Index size() const { return softmax_.size(); }

  /// The value at a point of size() entries. O(n d k).
  double operator()(std::span<const double> point) const {
    const auto width = static_cast<std::size_t>(cols()) + 1;
    double sum = 0.0;
    if constexpr (JointLoss<L>) {
      sum = softmax_(point);
      for (std::size_t k = 0; k < static_cast<std::size_t>(classes()); ++k)
        sum += regularizer_.value(point.subspan(k * width, width - 1));
    } else {
      for (std::size_t k = 0; k < static_cast<std::size_t>(classes()); ++k) {
        Buffer<float> labels;
        sum += of_class(static_cast<Index>(k), labels)(point.subspan(k * width, width - 1),
                                                       point[k * width + width - 1]);
      }
    }
    return sum;
  }

  /// The least value: exact_solution() of the classes, or of all of them. nullopt where there is none: of a hinge loss, and
  /// of penalties beyond l2 for a loss that is not affine.
  std::optional<double> optimum() const {
    const std::optional<PenaltyStrengths> penalty = strengths_of(regularizer_);
    if constexpr (JointLoss<L>) {
      if (!penalty || penalty->l1 > 0.0) return std::nullopt;
      const auto found = exact_solution(SoftmaxObjective(rows_, labels_, values_, penalty->l2));
      return found ? std::optional<double>(found->value) : std::nullopt;
    } else if constexpr (AffineLoss<L> || ConvexLoss<L>) {
      double sum = 0.0;
      for (Index k = 0; k < classes(); ++k) {
        Buffer<float> labels;
        const auto found = exact_solution(of_class(k, labels));
        if (!found) return std::nullopt;
        sum += found->value;
      }
      return sum;
    } else {
      return std::nullopt;
    }
  }
  /// Operations of optimum(), about.
  double optimum_cost() const {
    const auto k = static_cast<double>(classes());
    const auto values = static_cast<double>(rows_.rows()) * static_cast<double>(cols());
    if (JointLoss<L>) return 4.0 * k * values * 200.0;
    constexpr double steps = AffineLoss<L> ? 1.0 : 10.0;  // Newton's
    return k * steps * exact_solution_cost(rows_.rows(), cols()).operations;
  }

 private:
  /// The objective of a class against the rest; its labels, 1 and -1, are kept by the caller.
  auto of_class(Index k, Buffer<float>& labels) const {
    const float value = values_[static_cast<std::size_t>(k)];
    labels = Buffer<float>(rows_.rows());
    for (Index i = 0; i < rows_.rows(); ++i)
      labels[i] = labels_.values[static_cast<std::size_t>(i)] == value ? 1.0f : -1.0f;
    const float both[] = {-1.0f, 1.0f};
    return rows_.with_labels(std::as_const(labels).span(), label_statistics(LabelView(std::span(both))),
                             loss_, regularizer_);
  }

  Objective<SquaredLoss> rows_;
  SoftmaxObjective softmax_;
  LabelView labels_;
  List<float> values_;
  L loss_;
  R regularizer_;
};

}  // namespace zipml::inline ZIPML_ABI
