#pragma once
/// \file
/// Room model: the trained model, in the user's own units.

#include <memory>
#include <string>

#include <zipml/base/error.hpp>
#include <zipml/base/views.hpp>
#include <zipml/model/losses.hpp>

namespace zipml::inline ZIPML_ABI {

/// prediction = <weights, a> + intercept for a sample a in the user's units; for a classifier the sign of that
/// margin chooses between `low_label` and `high_label`, and with a log link it is e^margin. To predict whole matrices, tables and packed stores:
/// analysis/predict.hpp.
struct LinearModel {
  Buffer<double> weights;  ///< d
  double intercept = 0.0;
  bool classifies = false;
  double low_label = -1.0;
  double high_label = 1.0;

  std::string loss = {};            ///< that it was trained with, "least-squares"; empty: unknown
  std::string representation = {};  ///< of the samples, "variance-corrected:2,uniform"; empty: unknown
  Index rows = 0;                   ///< that it was trained on; 0: unknown
  Buffer<double> means = {};        ///< d, of the training rows; empty: unknown
  Buffer<double> deviations = {};   ///< d, of the training rows; empty: unknown
  /// What its features are called and how a table is read for it; null only in a model made by hand.
  std::shared_ptr<const Schema> schema = nullptr;

  Index cols() const { return weights.size(); }

  /// The margin of one sample of d features, which the caller answers for, O(d).
  double margin(const float* sample) const {
    double sum = intercept;
    for (Index j = 0; j < cols(); ++j) sum += weights[j] * static_cast<double>(sample[j]);
    return sum;
  }
  /// Whether margins are logarithms of what is predicted: of a Poisson regression.
  bool has_log_link() const { return !classifies && loss == PoissonLoss::name; }
  /// The label that a margin stands for: itself, e^margin with a log link, or for a classifier one of the two label values.
  double label_of(double margin) const {
    if (has_log_link()) return exponential(margin);
    return classifies ? (margin < 0.0 ? low_label : high_label) : margin;
  }
  /// Whether margins are log-odds, so that they stand for probabilities: of a logistic regression.
  bool has_probabilities() const { return classifies && loss == LogisticLoss::name; }
  /// The probability of `high_label` that a margin stands for, 1 / (1 + e^-margin), where there are probabilities.
  static double probability_of(double margin) { return LogisticLoss::probability(margin); }
  /// The predicted label of one sample of d features.
  double predict(const float* sample) const { return label_of(margin(sample)); }
  /// A label as the user's table writes it: its text where labels were text, else the number.
  std::string label_text(double label) const {
    if (schema && !schema->classes.empty() && label >= 0.0 &&
        label < static_cast<double>(schema->classes.size()))
      return schema->classes[static_cast<std::size_t>(label)];
    return number_text(label);
  }
  /// How much feature j matters: its weight on columns of deviation 1; the weight itself where deviations are
  /// unknown.
  double standardised_weight(Index j) const {
    return deviations.empty() ? weights[j] : weights[j] * deviations[j];
  }
};

}  // namespace zipml::inline ZIPML_ABI
