#pragma once
/// \file
/// Room analysis: the objective on full-precision samples, which every comparison is made with.

#include <optional>
#include <utility>

#include <zipml/base/error.hpp>
#include <zipml/base/sample_weights.hpp>
#include <zipml/base/views.hpp>
#include <zipml/io/dataset.hpp>
#include <zipml/model/losses.hpp>
#include <zipml/model/regularizers.hpp>
#include <zipml/storage/sample_store.hpp>

namespace zipml::inline ZIPML_ABI {

/// F(x, c) = 1/n sum_i w_i loss(a_i'x + c, y_i) + penalty(x) on standardised samples and the loss's own
/// labels, in double precision; the weights that came with the labels have mean 1. (They have no part in the
/// standardisation.) Holds a view: the samples must outlive it. Each value costs O(n d).
template <Loss L = SquaredLoss, Regularizer R = NoRegularizer>
class Objective {
 public:
  explicit Objective(const Dataset& data, L loss = {}, R regularizer = R{}, bool standardize = true)
      : Objective(data.features(), data.label_view(), loss, regularizer, standardize) {}
  /// Throws Error when samples, labels and weights differ in number, or a weight is out of range.
  Objective(const MatrixView& features, const LabelView& labels, L loss, R regularizer,
            bool standardize = true)
      : features_(features),
        loss_(loss),
        regularizer_(regularizer),
        standardization_(standardize ? standardization_of(column_statistics(features))
                                     : identity_standardization(features.cols)),
        labels_(features.rows),
        weights_(sample_weights(labels.weights, features.rows)) {
    if (labels.size() != features.rows)
      throw Error("samples and labels differ in number", std::to_string(features.rows) + " labels",
                  std::to_string(labels.size()));
    standardization_.offsets = features.offsets;
    standardization_.schema = features.schema;
    label_statistics_ = zipml::label_statistics(labels);
    label_map_ = loss.label_map(label_statistics_);
    label_map_.offset += labels.offset;
    map_labels(labels);
  }

  /// The mean loss, without penalty, of the same models on other rows, those held out for validation: in the
  /// units of this objective, whose statistics are the training rows'. Throws Error when they have another
  /// number of columns.
  ///
  ///     const zipml::Objective objective(train);
  ///     const auto validation = objective.on(held_out);
  Objective<L> on(const Dataset& other) const { return on(other.features(), other.label_view()); }
  Objective<L> on(const MatrixView& features, const LabelView& labels) const {
    return {features, labels, loss_, NoRegularizer{}, standardization_, label_statistics_, label_map_};
  }

  /// The same rows and weights in the same units, with other labels, of which `statistics` are those of the training rows,
  /// and another loss and penalty: a class among several, say.
  template <Loss M, Regularizer S = NoRegularizer>
  Objective<M, S> with_labels(std::span<const float> labels, const LabelStatistics& statistics, M loss,
                              S regularizer = S{}) const {
    Objective<M, S> other(features_, LabelView(labels), loss, regularizer, standardization_, statistics,
                          loss.label_map(statistics));
    other.standardization_ = standardization_;
    other.weights_ = weights_;
    return other;
  }

  Index rows() const { return features_.rows; }
  Index cols() const { return features_.cols; }
  const MatrixView& features() const { return features_; }
  const Standardization& standardization() const { return standardization_; }
  const L& loss() const { return loss_; }
  const R& regularizer() const { return regularizer_; }
  /// The map from the user's labels to those of the loss.
  const LabelMap& label_map() const { return label_map_; }
  /// Of the training rows' labels.
  const LabelStatistics& label_statistics() const { return label_statistics_; }
  /// Label i as the loss sees it.
  double label(Index i) const { return labels_[i]; }
  /// How much row i counts.
  double weight(Index i) const { return weights_.empty() ? 1.0 : static_cast<double>(weights_[i]); }
  /// The same of all rows; empty: 1.
  std::span<const float> weights() const { return std::as_const(weights_).span(); }
  /// A value of column j as the model sees it.
  double standardise(float value, Index j) const {
    return standardization_.apply(static_cast<double>(value), j);
  }
  /// Value (i, j) as the model sees it. Of rows that are not in memory, this reads one.
  double standardised(Index i, Index j) const { return standardise(features_(i, j), j); }

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
      const double loss = loss_.value(z, labels_[i]);
      total += weights_.empty() ? loss : weight(i) * loss;
    }
    return total / static_cast<double>(rows()) + regularizer_.value(x);
  }

 private:
  template <Loss, Regularizer>
  friend class Objective;
  template <SampleStore Store, Loss Of, Regularizer With>
  friend Objective<Of, With> objective_on(const Store& store, const Dataset& other, Of loss,
                                          With regularizer);

  /// In the units of other, training rows.
  Objective(const MatrixView& features, const LabelView& labels, L loss, R regularizer,
            const Standardization& training, const LabelStatistics& label_statistics,
            const LabelMap& label_map)
      : features_(features),
        loss_(loss),
        regularizer_(regularizer),
        standardization_(training),
        label_statistics_(label_statistics),
        label_map_(label_map),
        labels_(features.rows),
        weights_(sample_weights(labels.weights, features.rows)) {
    if (features.cols != training.cols())
      throw Error("the rows have another number of columns than those of the training",
                  std::to_string(training.cols()), std::to_string(features.cols));
    if (labels.size() != features.rows)
      throw Error("samples and labels differ in number", std::to_string(features.rows) + " labels",
                  std::to_string(labels.size()));
    // Both have lost offsets of their own.
    for (Index j = 0; j < features.cols; ++j)
      standardization_.mean[j] = training.user_mean(j) - features.offset(j);
    standardization_.offsets = features.offsets;
    map_labels(labels);
  }

  void map_labels(const LabelView& labels) {
    const double offset = label_map_.offset - labels.offset;
    for (Index i = 0; i < features_.rows; ++i)
      labels_[i] =
          (static_cast<double>(labels.values[static_cast<std::size_t>(i)]) - offset) / label_map_.scale;
  }

  MatrixView features_;
  L loss_;
  R regularizer_;
  Standardization standardization_;
  LabelStatistics label_statistics_;
  LabelMap label_map_;
  Buffer<double> labels_;
  Buffer<float> weights_;  // of mean 1, or empty
};

/// The mean loss of models that were trained on a store, on other rows, in the units of the store: Objective::on() where the
/// training rows themselves are not at hand; with a penalty on the rows that the store was packed from (refine(),
/// training/refinement.hpp), without a reading for their statistics. `other` must outlive it. Throws Error when it has
/// another number of columns than the store.
///
///     const auto validation = zipml::objective_on(store, held_out, zipml::SquaredLoss{});
template <SampleStore Store, Loss L = SquaredLoss, Regularizer R = NoRegularizer>
Objective<L, R> objective_on(const Store& store, const Dataset& other, L loss = {}, R regularizer = R{}) {
  const LabelStatistics& labels = store.targets().statistics(0);
  LabelMap map = loss.label_map(labels);
  map.offset += labels.offset;
  return {other.features(), other.label_view(), loss, regularizer, store.standardization(), labels, map};
}

/// (f - f*) / f*, the relative distance from the optimum.
inline double excess(double value, double optimum) { return (value - optimum) / optimum; }
/// The same, where it means something: null when f* is less than 1e-12 of `at_zero`, the value at no weights
/// at all, and so nothing but rounding: of labels that are all equal, or as many columns as rows.
inline std::optional<double> excess(double value, double optimum, double at_zero) {
  if (!(optimum > 1e-12 * at_zero)) return std::nullopt;
  return excess(value, optimum);
}

}  // namespace zipml::inline ZIPML_ABI
