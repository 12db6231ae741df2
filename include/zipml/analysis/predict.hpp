#pragma once
/// \file
/// Room analysis: predictions of a model for whole matrices, tables and packed stores, and how good they are.

#include <algorithm>
#include <cmath>
#include <concepts>
#include <optional>
#include <string>

#include <zipml/base/buffer.hpp>
#include <zipml/base/error.hpp>
#include <zipml/base/sample_weights.hpp>
#include <zipml/eigen.hpp>
#include <zipml/io/dataset.hpp>
#include <zipml/model/linear_model.hpp>
#include <zipml/model/losses.hpp>
#include <zipml/storage/sample_store.hpp>

namespace zipml::inline ZIPML_ABI {

namespace detail {

/// For each feature of the model, which column of `schema` it is: by name where both have names, else the
/// same place. Throws Error that names what is missing, or says the two counts.
Buffer<Index> columns_for(const LinearModel& model, Index cols, const Schema* schema);

}  // namespace detail

/// The margins <weights, a_i> + intercept of n samples in the user's units: any Eigen matrix of floats or
/// doubles, row-major or column-major, or the features() of a Dataset. Where model and data both have names,
/// columns are matched by name, in any order, and columns that the model does not know are left out. O(n d).
/// Throws Error when a feature is missing, or without names when the numbers of features differ.
///
///     const auto margins = zipml::margins(model, matrix);
Buffer<double> margins(const LinearModel& model, const MatrixRef& samples);

/// The predictions: the margins, their exponentials with a log link, or for a classifier one of its two label values. As margins().
Buffer<double> predict(const LinearModel& model, const MatrixRef& samples);
inline Buffer<double> predict(const LinearModel& model, const Dataset& data) {
  return predict(model, data.features());
}

/// The probabilities of the higher label, of a model that has them (LinearModel::has_probabilities); else Error. As
/// margins().
///
///     const auto probabilities = zipml::probabilities(fit.model, data.features());
Buffer<double> probabilities(const LinearModel& model, const MatrixRef& samples);

namespace detail {
Buffer<double> store_margins(const LinearModel& model, const SampleView& samples, const Standardization& map);
}

/// The margins of packed samples as the first draw of their codes stands for them; of float32 stores, exactly.
/// In the order of the user's rows where the store knows it (`row_id`), else in that of the store. O(n d).
template <SampleStore Store>
Buffer<double> margins(const LinearModel& model, const Store& store) {
  const SampleView samples = store.samples();
  Buffer<double> placed = detail::store_margins(model, samples, store.standardization());
  if constexpr (requires {
                  { store.row_id(Index{}) } -> std::convertible_to<Index>;
                }) {
    Buffer<double> result(placed.size());
    for (Index i = 0; i < placed.size(); ++i) result[store.row_id(i)] = placed[i];
    return result;
  } else {
    return placed;
  }
}
/// The predictions for packed samples, as margins().
template <SampleStore Store>
Buffer<double> predict(const LinearModel& model, const Store& store) {
  Buffer<double> result = margins(model, store);
  for (double& z : result) z = model.label_of(z);
  return result;
}

/// How good predictions are, over the rows that have a label, each counted by its weight where the labels
/// bring weights.
struct Metrics {
  Index rows = 0;
  double rmse = 0.0;                ///< root mean squared error, in the labels' units
  std::optional<double> r_squared;  ///< 1 - mean squared error / variance of these labels; none where they
                                    ///< are all equal
  std::optional<double> accuracy;   ///< share of the labels that a classifier predicts
  /// Area under the ROC curve of a classifier: the probability that a row of the higher label has the larger margin
  /// of two, ties counting half (Fawcett 2006); none where one class is missing.
  std::optional<double> auc;
  std::optional<double>
      deviance;  ///< mean Poisson deviance 2 (mu - y + y log(y / mu)), of a model with a log link
  std::optional<double> log_loss;  ///< mean of -log of the probability of the label, where a model has these
};

/// Compares predictions with labels; a label that is NaN is none. Throws Error when their numbers differ, no
/// row has a label, or one is of neither class.
Metrics evaluate(const LinearModel& model, const MatrixRef& samples, const VectorRef& labels);
/// The same for a table.
///
///     const auto metrics = zipml::evaluate(fit.model, test);
inline Metrics evaluate(const LinearModel& model, const Dataset& data) {
  if (!data.has_labels) throw Error(Place{data.source}, "has no labels to compare predictions with");
  return evaluate(model, data.features(), data.label_view());
}

/// Root mean squared error of the predictions, in the labels' units. Errors: as evaluate().
inline double rmse(const LinearModel& model, const MatrixRef& samples, const VectorRef& labels) {
  return evaluate(model, samples, labels).rmse;
}
inline double rmse(const LinearModel& model, const Dataset& data) { return evaluate(model, data).rmse; }

/// Share of the labels that a classifier predicts; Error for a model that is none. Else as evaluate().
double accuracy(const LinearModel& model, const MatrixRef& samples, const VectorRef& labels);
inline double accuracy(const LinearModel& model, const Dataset& data) {
  return accuracy(model, data.features(), data.label_view());
}

#if ZIPML_DEFINES

namespace detail {

ZIPML_FUNCTION Buffer<Index> columns_for(const LinearModel& model, Index cols, const Schema* schema) {
  const Index d = model.cols();
  Buffer<Index> columns(d);
  const bool by_name = model.schema && model.schema->has_names() && schema != nullptr && schema->has_names();
  if (!by_name) {
    if (cols != d)
      throw Error("model and samples differ in features", std::to_string(d), std::to_string(cols));
    for (Index j = 0; j < d; ++j) columns[j] = j;
    return columns;
  }
  const List<std::string>& wanted = model.schema->names;
  if (wanted == schema->names) {
    for (Index j = 0; j < d; ++j) columns[j] = j;
    return columns;
  }
  List<Index> order;  // of the samples' columns by name
  for (Index j = 0; j < cols; ++j) order.push_back(j);
  const auto name = [&](Index j) -> const std::string& { return schema->names[static_cast<std::size_t>(j)]; };
  std::stable_sort(order.begin(), order.end(), [&](Index a, Index b) { return name(a) < name(b); });
  std::string missing;
  Index count = 0;
  for (Index j = 0; j < d; ++j) {
    const std::string& text = wanted[static_cast<std::size_t>(j)];
    const auto found = std::lower_bound(order.begin(), order.end(), text,
                                        [&](Index a, const std::string& b) { return name(a) < b; });
    if (found == order.end() || name(*found) != text) {
      if (++count <= 5) missing += (count > 1 ? ", \"" : "\"") + text + '"';
      continue;
    }
    if (found + 1 != order.end() && name(*(found + 1)) == text)
      throw Error("two columns have the name of a feature", "one \"" + text + '"', "two");
    columns[j] = *found;
  }
  if (count > 0)
    throw Error(count == 1 ? "a feature of the model is missing" : "features of the model are missing",
                std::to_string(d) + " features by name",
                "none named " + missing + (count > 5 ? " and " + std::to_string(count - 5) + " more" : ""));
  return columns;
}

ZIPML_FUNCTION Buffer<double> store_margins(const LinearModel& model, const SampleView& samples,
                                            const Standardization& map) {
  const Buffer<Index> columns = columns_for(model, samples.cols, map.schema.get());
  const Index d = samples.cols;
  Buffer<double> folded(d);
  double constant = model.intercept;
  for (Index j = 0; j < model.cols(); ++j) {
    folded[columns[j]] += model.weights[j] * map.scale[columns[j]];
    constant += model.weights[j] * map.user_mean(columns[j]);
  }
  Buffer<double> result(samples.rows);
  Buffer<float> decoded(d);
  for (Index i = 0; i < samples.rows; ++i) {
    const float* row = samples.is_dense() ? samples.row(i) : decoded.data();
    if (!samples.is_dense()) samples.decode_row(i, 0, decoded.data());
    double sum = constant;
    for (Index j = 0; j < d; ++j) sum += folded[j] * static_cast<double>(row[j]);
    result[i] = sum;
  }
  return result;
}

}  // namespace detail

ZIPML_FUNCTION Buffer<double> margins(const LinearModel& model, const MatrixRef& samples) {
  const MatrixView& view = samples.view();
  const Buffer<Index> columns = detail::columns_for(model, view.cols, view.schema.get());
  Buffer<double> weights(view.cols);
  double constant = model.intercept;
  for (Index j = 0; j < model.cols(); ++j) {
    weights[columns[j]] += model.weights[j];
    constant += model.weights[j] * view.offset(columns[j]);
  }
  Buffer<double> result(view.rows);
  MatrixRows rows(view);
  for (Index i = 0; i < view.rows; ++i) {
    const float* row = rows(i);
    double sum = constant;
    for (Index j = 0; j < view.cols; ++j) sum += weights[j] * static_cast<double>(row[j]);
    result[i] = sum;
  }
  return result;
}

ZIPML_FUNCTION Buffer<double> predict(const LinearModel& model, const MatrixRef& samples) {
  Buffer<double> result = margins(model, samples);
  for (double& z : result) z = model.label_of(z);
  return result;
}

ZIPML_FUNCTION Buffer<double> probabilities(const LinearModel& model, const MatrixRef& samples) {
  if (!model.has_probabilities())
    throw Error("the model gives no probabilities", "one of logistic regression",
                model.loss.empty() ? "a model of unknown loss" : model.loss);
  Buffer<double> result = margins(model, samples);
  for (double& z : result) z = LinearModel::probability_of(z);
  return result;
}

namespace detail {

/// The area under the ROC curve of margins, by ranks; `is_high` and `weight` are of row i. O(n log n).
template <class IsHigh, class Weight>
std::optional<double> area_under_curve(const Buffer<double>& margins, List<Index> rows, const IsHigh& is_high,
                                       const Weight& weight) {
  std::sort(rows.begin(), rows.end(), [&](Index a, Index b) { return margins[a] < margins[b]; });
  double low = 0.0, high = 0.0, area = 0.0;
  for (std::size_t first = 0; first < rows.size();) {
    double tied_low = 0.0, tied_high = 0.0;
    std::size_t end = first;
    for (; end < rows.size() && margins[rows[end]] == margins[rows[first]]; ++end)
      (is_high(rows[end]) ? tied_high : tied_low) += weight(rows[end]);
    area += tied_high * (low + 0.5 * tied_low);
    low += tied_low;
    high += tied_high;
    first = end;
  }
  if (!(low > 0.0 && high > 0.0)) return std::nullopt;
  return area / (low * high);
}

}  // namespace detail

ZIPML_FUNCTION Metrics evaluate(const LinearModel& model, const MatrixRef& samples, const VectorRef& labels) {
  if (labels.size() != samples.rows())
    throw Error("samples and labels differ in number", std::to_string(samples.rows()) + " labels",
                std::to_string(labels.size()));
  const Buffer<double> margin = margins(model, samples);
  Metrics metrics;
  const Buffer<float> weights = sample_weights(labels.weights(), labels.size());
  const auto weight = [&](Index i) { return weights.empty() ? 1.0 : static_cast<double>(weights[i]); };
  double squares = 0.0, mean = 0.0, right = 0.0, total = 0.0, surprise = 0.0, deviance = 0.0;
  List<Index> with_label;
  const auto is_high = [&](Index i) {
    return labels.offset() + static_cast<double>(labels[i]) == model.high_label;
  };
  for (Index i = 0; i < labels.size(); ++i) {
    if (std::isnan(labels[i])) continue;
    const double label = labels.offset() + static_cast<double>(labels[i]);
    const double predicted = model.label_of(margin[i]);
    ++metrics.rows;
    total += weight(i);
    mean += weight(i) * static_cast<double>(labels[i]);
    squares += weight(i) * (predicted - label) * (predicted - label);
    right += predicted == label ? weight(i) : 0.0;
    if (model.has_log_link()) {
      if (label < 0.0)
        throw Error("a label is no count", "at least 0",
                    number_text(label) + " in row " + std::to_string(i + 1));
      deviance +=
          weight(i) * 2.0 * (predicted - label + (label > 0.0 ? label * (std::log(label) - margin[i]) : 0.0));
    }
    if (!model.classifies) continue;
    with_label.push_back(i);
    if (label != model.low_label && label != model.high_label)
      throw Error("a label is of neither class",
                  model.label_text(model.low_label) + " or " + model.label_text(model.high_label),
                  model.label_text(label) + " in row " + std::to_string(i + 1));
    if (model.has_probabilities())
      surprise += weight(i) * LogisticLoss{}.value(margin[i], is_high(i) ? 1.0 : -1.0);
  }
  if (metrics.rows == 0) throw Error("there are no labels to compare predictions with");
  if (!(total > 0.0)) throw Error("all rows that have a label have weight 0");
  mean /= total;
  double variance = 0.0;
  for (Index i = 0; i < labels.size(); ++i) {
    const double distance = static_cast<double>(labels[i]) - mean;
    if (!std::isnan(labels[i])) variance += weight(i) * distance * distance;
  }
  metrics.rmse = std::sqrt(squares / total);
  if (variance > 0.0) metrics.r_squared = 1.0 - squares / variance;
  if (model.has_log_link()) metrics.deviance = deviance / total;
  if (model.classifies) {
    metrics.accuracy = right / total;
    metrics.auc = detail::area_under_curve(margin, std::move(with_label), is_high, weight);
  }
  if (model.has_probabilities()) metrics.log_loss = surprise / total;
  return metrics;
}

ZIPML_FUNCTION double accuracy(const LinearModel& model, const MatrixRef& samples, const VectorRef& labels) {
  const Metrics metrics = evaluate(model, samples, labels);
  if (!metrics.accuracy) throw Error("accuracy is of a classifier", "a classifier", "regression");
  return *metrics.accuracy;
}

#endif

}  // namespace zipml::inline ZIPML_ABI
