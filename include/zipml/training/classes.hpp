#pragma once
/// \file
/// Room training: several classes by a model for each, one against the rest or all of them together, over one reading of
/// the samples an epoch.

#include <algorithm>
#include <string>
#include <utility>

#include <zipml/base/buffer.hpp>
#include <zipml/base/error.hpp>
#include <zipml/model/class_model.hpp>
#include <zipml/model/linear_model.hpp>
#include <zipml/model/softmax.hpp>
#include <zipml/storage/targets.hpp>
#include <zipml/training/sgd.hpp>

namespace zipml::inline ZIPML_ABI {

/// The most classes that a store's labels are taken for; more of them are numbers.
inline constexpr Index most_classes = 1000;

/// The values of the labels of a model, ascending; nothing where there are more than most_classes. O(n log classes).
List<float> class_values(std::span<const float> labels);

/// Weights of the classes with which all of them count the same in sum: n / (k n_c), n_c the rows of class c, or the sum of
/// their weights; `values` ascending, as class_values gives them. Times these is what a row counts. Throws Error for a class
/// of no weight. O(n log classes).
///
///     const auto per_class = zipml::balanced_class_weights(data.labels.span(), data.weights.span(), values);
List<double> balanced_class_weights(std::span<const float> labels, std::span<const float> weights,
                                    const List<float>& values);

/// Targets of a model for each value: 1 for the rows of the class, else -1, in store order. O(n classes), and 4 n classes
/// bytes.
Targets class_targets(std::span<const float> labels, const List<float>& values);

/// class_values(). Throws Error unless they are 2 to most_classes.
List<float> checked_classes(std::span<const float> labels);

/// Weights and intercepts of a range of Fit, or of Refined, d + 1 entries of each, one behind the other.
template <class Fits>
Buffer<double> class_point(const Fits& fits) {
  const auto count = static_cast<Index>(fits.size());
  const Index width = count == 0 ? 0 : fits[0].weights.size() + 1;
  Buffer<double> point(width * count);
  double* of = point.data();
  for (const auto& fit : fits) {
    of = std::copy(fit.weights.begin(), fit.weights.end(), of);
    *of++ = fit.intercept;
  }
  return point;
}

/// The classifier of the models of all classes, each against the rest; `offset` is what the values have lost.
ClassModel class_model(List<LinearModel> models, const List<float>& values, double offset);

/// That of a range of Fit, or of Refined, one for each class.
template <class Fits>
ClassModel class_model(const Fits& fits, const List<float>& values, double offset) {
  List<LinearModel> models;
  for (const auto& fit : fits) models.push_back(fit.model);
  return class_model(std::move(models), values, offset);
}

/// What fit_classes() returns.
struct ClassesFit {
  ClassModel model;
  List<Fit> fits;  ///< of each class

  bool success() const {
    return std::all_of(fits.begin(), fits.end(), [](const Fit& fit) { return fit.success(); });
  }
};

/// Trains a classifier of all values that the labels of a store have: one model against the rest for each, with a loss
/// for two classes, or all of them together, with a JointLoss (SoftmaxLoss). An epoch reads the samples once for all of them. A pilot serves one model and is not used. Throws
/// Error for labels of less than two or more than most_classes values, and as Sgd::fit.
///
///     const auto digits = zipml::fit_classes(zipml::Sgd{zipml::LogisticLoss{}}, store, zipml::naive);
///     const auto metrics = zipml::evaluate(digits.model, test);
template <class L, Regularizer R, class Step, SampleStore Store, GradientEstimator Estimator,
          class... Observers>
ClassesFit fit_classes(const Sgd<L, R, Step>& sgd, const Store& store, Estimator estimator,
                       const FitOptions& options = {}, Observers&&... observers) {
  static_assert(L::classifies,
                "zipml: several classes need a loss that classifies: softmax, logistic, hinge, ls-svm");
  const std::span<const float> labels = store.targets().of(0);
  const List<float> values = checked_classes(labels);
  const Targets targets = class_targets(labels, values);
  ClassesFit result;
  result.fits = sgd.fit_models(store, targets, estimator, options, observers...);
  result.model = class_model(result.fits, values, store.targets().statistics(0).offset);
  return result;
}

#if ZIPML_DEFINES

ZIPML_FUNCTION List<float> class_values(std::span<const float> labels) {
  List<float> values;
  for (const float y : labels) {
    const auto at = std::lower_bound(values.begin(), values.end(), y);
    if (at != values.end() && *at == y) continue;
    if (static_cast<Index>(values.size()) == most_classes) return {};
    values.insert(at, y);
  }
  return values;
}

ZIPML_FUNCTION List<float> checked_classes(std::span<const float> labels) {
  List<float> values = class_values(labels);
  if (values.size() < 2)
    throw Error("classes are 2 to " + std::to_string(most_classes) + " values of the label", "as many",
                values.empty() ? "more" : "one");
  return values;
}

ZIPML_FUNCTION ClassModel class_model(List<LinearModel> models, const List<float>& values, double offset) {
  ClassModel result;
  for (std::size_t k = 0; k < values.size(); ++k) {
    LinearModel& model = models[k];
    model.high_label = offset + static_cast<double>(values[k]);
    model.low_label = values.size() == 2 ? offset + static_cast<double>(values[1 - k]) : -1.0;
    result.models.push_back(std::move(model));
  }
  return result;
}

ZIPML_FUNCTION List<double> balanced_class_weights(std::span<const float> labels,
                                                   std::span<const float> weights,
                                                   const List<float>& values) {
  List<double> sums(values.size(), 0.0);
  double total = 0.0;
  for (std::size_t i = 0; i < labels.size(); ++i) {
    const auto at = std::lower_bound(values.begin(), values.end(), labels[i]);
    if (at == values.end() || *at != labels[i]) continue;
    const double weight = weights.empty() ? 1.0 : static_cast<double>(weights[i]);
    sums[static_cast<std::size_t>(at - values.begin())] += weight;
    total += weight;
  }
  for (double& sum : sums) {
    if (!(sum > 0.0)) throw Error("a class has no rows that count", "a weight above 0 of each class", "none");
    sum = total / (static_cast<double>(values.size()) * sum);
  }
  return sums;
}

ZIPML_FUNCTION Targets class_targets(std::span<const float> labels, const List<float>& values) {
  const auto n = static_cast<Index>(labels.size());
  const auto k = static_cast<Index>(values.size());
  Buffer<float> placed(checked_product(n, k, "the targets of all classes"));
  List<LabelStatistics> statistics;
  for (Index c = 0; c < k; ++c) {
    float* const of = placed.data() + c * n;
    for (Index i = 0; i < n; ++i)
      of[i] = labels[static_cast<std::size_t>(i)] == values[static_cast<std::size_t>(c)] ? 1.0f : -1.0f;
    statistics.push_back(
        label_statistics(LabelView(std::span<const float>(of, static_cast<std::size_t>(n)))));
  }
  return Targets(std::move(placed), std::move(statistics));
}

#endif

}  // namespace zipml::inline ZIPML_ABI
