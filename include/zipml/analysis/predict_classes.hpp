#pragma once
/// \file
/// Room analysis: predictions of a classifier of several classes, and how good they are.

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>

#include <zipml/analysis/predict.hpp>
#include <zipml/base/buffer.hpp>
#include <zipml/base/error.hpp>
#include <zipml/base/exponential.hpp>
#include <zipml/base/sample_weights.hpp>
#include <zipml/eigen.hpp>
#include <zipml/io/dataset.hpp>
#include <zipml/model/class_model.hpp>

namespace zipml::inline ZIPML_ABI {

/// Numbers of n samples and k classes, those of a sample side by side.
struct ClassNumbers {
  Index rows = 0;
  Index classes = 0;
  Buffer<double> values;  ///< n x k

  const double* operator[](Index i) const { return values.data() + i * classes; }
  /// The place of the largest of a sample, the first of equal ones.
  Index largest(Index i) const {
    const double* const of = (*this)[i];
    return static_cast<Index>(std::max_element(of, of + classes) - of);
  }
};

/// The margins of n samples for every class, in one reading. Columns are matched as by margins() of one model
/// (analysis/predict.hpp). O(n d k).
ClassNumbers margins(const ClassModel& model, const MatrixRef& samples);

/// The probabilities of every class: e^margin over their sum where the models were trained together (ClassModel::is_joint),
/// else those that the models give, 1 / (1 + e^-margin), divided by their sum (one against the rest: Zadrozny, Elkan, KDD
/// 2002, section 5). Throws Error for a model without probabilities.
ClassNumbers probabilities(const ClassModel& model, const MatrixRef& samples);

/// The label of the class of the largest margin, for each sample.
///
///     const auto labels = zipml::predict(classes, matrix);
Buffer<double> predict(const ClassModel& model, const MatrixRef& samples);

/// How good predictions of classes are, over the rows that have a label, each counted by its weight.
struct ClassMetrics {
  Index rows = 0;
  double accuracy = 0.0;
  std::optional<double> log_loss;  ///< mean of -log of the probability of the label, where a model has these
  /// Rows of class a that are predicted as class b, at a * classes + b; without weights.
  List<Index> confusion;
};

/// Compares predictions with labels; a label that is NaN is none. Throws Error when their numbers differ, no row has a
/// label, or one is of no class.
ClassMetrics evaluate(const ClassModel& model, const MatrixRef& samples, const VectorRef& labels);
inline ClassMetrics evaluate(const ClassModel& model, const Dataset& data) {
  if (!data.has_labels) throw Error(Place{data.source}, "has no labels to compare predictions with");
  return evaluate(model, data.features(), data.label_view());
}

#if ZIPML_DEFINES

ZIPML_FUNCTION ClassNumbers margins(const ClassModel& model, const MatrixRef& samples) {
  const MatrixView& view = samples.view();
  ClassNumbers result{view.rows, model.classes(), {}};
  if (model.models.empty()) return result;
  const Buffer<Index> columns = detail::columns_for(model[0], view.cols, view.schema.get());
  const Index k = model.classes();
  Buffer<double> weights(checked_product(view.cols, k, "the weights of all classes"));  // d x k
  Buffer<double> constants(k);
  for (Index c = 0; c < k; ++c) {
    constants[c] = model[c].intercept;
    for (Index j = 0; j < model.cols(); ++j) {
      weights[columns[j] * k + c] += model[c].weights[j];
      constants[c] += model[c].weights[j] * view.offset(columns[j]);
    }
  }
  result.values = Buffer<double>(checked_product(view.rows, k, "the margins of all classes"));
  MatrixRows rows(view);
  for (Index i = 0; i < view.rows; ++i) {
    const float* const row = rows(i);
    double* const out = result.values.data() + i * k;
    std::copy(constants.begin(), constants.end(), out);
    for (Index j = 0; j < view.cols; ++j) {
      const auto value = static_cast<double>(row[j]);
      for (Index c = 0; c < k; ++c) out[c] += weights[j * k + c] * value;
    }
  }
  return result;
}

ZIPML_FUNCTION ClassNumbers probabilities(const ClassModel& model, const MatrixRef& samples) {
  if (!model.has_probabilities())
    throw Error("the model gives no probabilities", "one of softmax or logistic regression",
                model.models.empty() ? "none" : model[0].loss);
  ClassNumbers result = margins(model, samples);
  for (Index i = 0; i < result.rows; ++i) {
    double* const of = result.values.data() + i * result.classes;
    double sum = 0.0;
    const double most = model.is_joint() ? *std::max_element(of, of + result.classes) : 0.0;
    for (Index c = 0; c < result.classes; ++c)
      sum += of[c] = model.is_joint() ? exponential(of[c] - most) : LinearModel::probability_of(of[c]);
    // All that are 0 leave a uniform distribution.
    for (Index c = 0; c < result.classes; ++c)
      of[c] = sum > 0.0 ? of[c] / sum : 1.0 / static_cast<double>(result.classes);
  }
  return result;
}

ZIPML_FUNCTION Buffer<double> predict(const ClassModel& model, const MatrixRef& samples) {
  const ClassNumbers of = margins(model, samples);
  Buffer<double> result(of.rows);
  for (Index i = 0; i < of.rows; ++i) result[i] = model.label(of.largest(i));
  return result;
}

ZIPML_FUNCTION ClassMetrics evaluate(const ClassModel& model, const MatrixRef& samples,
                                     const VectorRef& labels) {
  if (labels.size() != samples.rows())
    throw Error("samples and labels differ in number", std::to_string(samples.rows()) + " labels",
                std::to_string(labels.size()));
  const ClassNumbers of = model.has_probabilities() ? probabilities(model, samples) : margins(model, samples);
  const Buffer<float> weights = sample_weights(labels.weights(), labels.size());
  ClassMetrics metrics;
  metrics.confusion.resize(
      static_cast<std::size_t>(checked_product(of.classes, of.classes, "the confusion")));
  double total = 0.0, right = 0.0, surprise = 0.0;
  for (Index i = 0; i < of.rows; ++i) {
    if (std::isnan(labels[i])) continue;
    const double label = labels.offset() + static_cast<double>(labels[i]);
    const Index is = model.class_of(label), predicted = of.largest(i);
    if (is < 0)
      throw Error("a label is of no class",
                  "one of the " + std::to_string(of.classes) + " classes of the model",
                  model[0].label_text(label) + " in row " + std::to_string(i + 1));
    const double weight = weights.empty() ? 1.0 : static_cast<double>(weights[i]);
    ++metrics.rows;
    ++metrics.confusion[static_cast<std::size_t>(is * of.classes + predicted)];
    total += weight;
    right += is == predicted ? weight : 0.0;
    if (model.has_probabilities()) surprise -= weight * std::log((std::max)(of[i][is], 1e-300));
  }
  if (metrics.rows == 0) throw Error("there are no labels to compare predictions with");
  if (!(total > 0.0)) throw Error("all rows that have a label have weight 0");
  metrics.accuracy = right / total;
  if (model.has_probabilities()) metrics.log_loss = surprise / total;
  return metrics;
}

#endif

}  // namespace zipml::inline ZIPML_ABI
