#pragma once
/// \file
/// Room analysis: curves of a classifier of two classes: what it finds at each threshold, and whether its probabilities
/// are those that come true.

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <string>

#include <zipml/analysis/predict.hpp>
#include <zipml/base/sample_weights.hpp>
#include <zipml/io/dataset.hpp>
#include <zipml/model/linear_model.hpp>

namespace zipml::inline ZIPML_ABI {

/// A point of the ROC curve (Fawcett 2006): rows of a margin of at least `threshold` are taken for the higher label.
struct RocPoint {
  double threshold = 0.0;
  double false_positives = 0.0;  ///< share of the rows of the lower label that are
  double true_positives = 0.0;   ///< share of those of the higher one
};

/// The ROC curve of the rows that have a label, from (0, 0), threshold infinity, to (1, 1), a point for each margin that
/// occurs; rows count by their weights. Throws Error for a model that is no classifier of two classes, when a class is
/// missing, and as evaluate(). O(n d + n log n).
///
///     for (const zipml::RocPoint& point : zipml::roc_curve(fit.model, test)) ...
List<RocPoint> roc_curve(const LinearModel& model, const MatrixRef& samples, const VectorRef& labels);
inline List<RocPoint> roc_curve(const LinearModel& model, const Dataset& data) {
  return roc_curve(model, data.features(), data.label_view());
}

/// Rows whose probability of the higher label lies in one of equal parts of [0, 1].
struct CalibrationBin {
  double rows = 0.0;       ///< their weights, of mean 1
  double predicted = 0.0;  ///< mean probability
  double observed = 0.0;   ///< share of the higher label
};

/// How often what is predicted with a probability comes true: the bins that have rows, ascending (a reliability diagram:
/// Niculescu-Mizil, Caruana 2005). Throws Error for a model without probabilities, fewer than one bin, and as evaluate().
/// O(n d).
List<CalibrationBin> calibration(const LinearModel& model, const MatrixRef& samples, const VectorRef& labels,
                                 int bins = 10);
inline List<CalibrationBin> calibration(const LinearModel& model, const Dataset& data, int bins = 10) {
  return calibration(model, data.features(), data.label_view(), bins);
}

/// Mean distance of predicted and observed over the rows (expected calibration error: Naeini, Cooper, Hauskrecht 2015).
double calibration_error(std::span<const CalibrationBin> bins);

#if ZIPML_DEFINES

namespace detail {

/// Margins, labels and weights of the rows that have a label; +1 for the higher one.
struct LabelledMargins {
  List<double> margins;
  List<char> is_high;
  List<double> weights;
};
ZIPML_FUNCTION LabelledMargins labelled_margins(const LinearModel& model, const MatrixRef& samples,
                                                const VectorRef& labels) {
  if (!model.classifies)
    throw Error("curves are of a classifier", "a model of two classes",
                model.loss.empty() ? "another" : "one of " + model.loss);
  if (labels.size() != samples.rows())
    throw Error("samples and labels differ in number", std::to_string(samples.rows()) + " labels",
                std::to_string(labels.size()));
  const Buffer<double> of_rows = margins(model, samples);
  const Buffer<float> weights = sample_weights(labels.weights(), labels.size());
  LabelledMargins found;
  for (Index i = 0; i < labels.size(); ++i) {
    if (std::isnan(labels[i])) continue;
    const double label = labels.offset() + static_cast<double>(labels[i]);
    if (label != model.low_label && label != model.high_label)
      throw Error("a label is of neither class",
                  model.label_text(model.low_label) + " or " + model.label_text(model.high_label),
                  model.label_text(label) + " in row " + std::to_string(i + 1));
    found.margins.push_back(of_rows[i]);
    found.is_high.push_back(label == model.high_label);
    found.weights.push_back(weights.empty() ? 1.0 : static_cast<double>(weights[i]));
  }
  return found;
}

}  // namespace detail

ZIPML_FUNCTION List<RocPoint> roc_curve(const LinearModel& model, const MatrixRef& samples,
                                        const VectorRef& labels) {
  const detail::LabelledMargins rows = detail::labelled_margins(model, samples, labels);
  double low = 0.0, high = 0.0;
  List<std::size_t> order;
  for (std::size_t i = 0; i < rows.margins.size(); ++i) {
    order.push_back(i);
    (rows.is_high[i] != 0 ? high : low) += rows.weights[i];
  }
  if (!(low > 0.0 && high > 0.0)) throw Error("a ROC curve needs rows of both classes", "both labels", "one");
  std::sort(order.begin(), order.end(),
            [&](std::size_t a, std::size_t b) { return rows.margins[a] > rows.margins[b]; });
  List<RocPoint> curve{{std::numeric_limits<double>::infinity(), 0.0, 0.0}};
  double false_sum = 0.0, true_sum = 0.0;
  for (std::size_t k = 0; k < order.size(); ++k) {
    const std::size_t i = order[k];
    (rows.is_high[i] != 0 ? true_sum : false_sum) += rows.weights[i];
    if (k + 1 < order.size() && rows.margins[order[k + 1]] == rows.margins[i]) continue;
    curve.push_back({rows.margins[i], false_sum / low, true_sum / high});
  }
  return curve;
}

ZIPML_FUNCTION List<CalibrationBin> calibration(const LinearModel& model, const MatrixRef& samples,
                                                const VectorRef& labels, int bins) {
  if (bins < 1) throw Error("the number of bins is out of range", "at least 1", std::to_string(bins));
  if (!model.has_probabilities())
    throw Error("the model gives no probabilities", "one of logistic regression",
                model.loss.empty() ? "a model of unknown loss" : model.loss);
  const detail::LabelledMargins rows = detail::labelled_margins(model, samples, labels);
  List<CalibrationBin> all(static_cast<std::size_t>(bins));
  for (std::size_t i = 0; i < rows.margins.size(); ++i) {
    const double p = LinearModel::probability_of(rows.margins[i]);
    const auto at = (std::min)(static_cast<std::size_t>(p * bins), all.size() - 1);
    all[at].rows += rows.weights[i];
    all[at].predicted += rows.weights[i] * p;
    all[at].observed += rows.is_high[i] != 0 ? rows.weights[i] : 0.0;
  }
  List<CalibrationBin> filled;
  for (CalibrationBin bin : all) {
    if (!(bin.rows > 0.0)) continue;
    bin.predicted /= bin.rows;
    bin.observed /= bin.rows;
    filled.push_back(bin);
  }
  return filled;
}

ZIPML_FUNCTION double calibration_error(std::span<const CalibrationBin> bins) {
  double rows = 0.0, distance = 0.0;
  for (const CalibrationBin& bin : bins) {
    rows += bin.rows;
    distance += bin.rows * std::fabs(bin.predicted - bin.observed);
  }
  return rows > 0.0 ? distance / rows : 0.0;
}

#endif

}  // namespace zipml::inline ZIPML_ABI
