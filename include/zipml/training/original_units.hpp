#pragma once
/// \file
/// Room training: the ways between standardised weights and a model in the user's units.

#include <cmath>
#include <span>

#include <zipml/analysis/objective.hpp>
#include <zipml/analysis/predict.hpp>
#include <zipml/base/buffer.hpp>
#include <zipml/base/error.hpp>
#include <zipml/model/linear_model.hpp>
#include <zipml/model/losses.hpp>
#include <zipml/storage/sample_store.hpp>

namespace zipml::inline ZIPML_ABI {

/// The model that predicts in the user's units what (weights, intercept) predicts in those of the store: with
/// columns (a - mean) / scale and labels (y - offset) / s, w_j = s x_j / scale_j and c' = s c + offset -
/// sum_j w_j mean_j. A classifier keeps its margin, whose units are labels of -1 and 1, and so does a loss with a log link,
/// whose intercept takes the logarithm of s.
template <class L>
LinearModel in_original_units(std::span<const double> weights, double intercept, const Standardization& map,
                              const LabelStatistics& statistics, const LabelMap& labels) {
  LabelMap units = L::classifies ? LabelMap{} : labels;
  if (has_log_link<L>()) units = {std::log(labels.scale), 1.0};
  LinearModel model;
  model.weights = Buffer<double>(map.cols());
  model.means = Buffer<double>(map.cols());
  model.deviations = map.scale;
  model.intercept = intercept * units.scale + units.offset;
  if (!L::classifies && !has_log_link<L>()) model.intercept += statistics.offset;
  for (Index j = 0; j < map.cols(); ++j) {
    model.weights[j] = weights[static_cast<std::size_t>(j)] * units.scale / map.scale[j];
    model.means[j] = map.user_mean(j);
    model.intercept -= model.weights[j] * model.means[j];
  }
  model.classifies = L::classifies;
  model.low_label = statistics.offset + static_cast<double>(statistics.min);
  model.high_label = statistics.offset + static_cast<double>(statistics.max);
  model.loss = L::name;
  model.schema = schema_or_unnamed(map.schema, map.cols());
  return model;
}
/// The same for a store of one model's targets.
template <Loss L, SampleStore Store>
LinearModel in_original_units(std::span<const double> weights, double intercept, const Store& store,
                              const LabelMap& labels) {
  LinearModel model = in_original_units<L>(weights, intercept, store.standardization(),
                                           store.targets().statistics(0), labels);
  model.rows = store.targets().rows();
  return model;
}

/// The model of weights that an objective judges, its exact optimum say.
///
///     const auto optimum = zipml::exact_solution(objective);
///     const auto model = zipml::in_original_units(objective, optimum->weights.span(), optimum->intercept);
template <Loss L, Regularizer R>
LinearModel in_original_units(const Objective<L, R>& objective, std::span<const double> weights,
                              double intercept) {
  const LabelStatistics& labels = objective.label_statistics();
  LinearModel model = in_original_units<L>(weights, intercept, objective.standardization(), labels,
                                           objective.loss().label_map(labels));
  model.rows = objective.rows();
  return model;
}

/// The way back, for FitOptions::start: standardised weights, the intercept behind them, that predict on this
/// store what the model predicts in the user's units. Features are matched as by predict(). Throws Error when
/// one is missing.
///
///     const auto start = zipml::in_standardised_units<zipml::SquaredLoss>(model, store);
///     const auto fit = zipml::Sgd{}.fit(store, {.start = start.span()});
template <Loss L, SampleStore Store>
Buffer<double> in_standardised_units(const LinearModel& model, const Store& store, const L& loss = {}) {
  const Standardization& map = store.standardization();
  const Buffer<Index> columns = detail::columns_for(model, map.cols(), map.schema.get());
  if (model.classifies != L::classifies)
    throw Error("the model to start from is of another kind", L::classifies ? "a classifier" : "regression",
                model.classifies ? "a classifier" : "regression");
  const LabelStatistics& statistics = store.targets().statistics(0);
  LabelMap units = L::classifies ? LabelMap{} : loss.label_map(statistics);
  if (has_log_link<L>())
    units = {std::log(units.scale), 1.0};
  else if (!L::classifies)
    units.offset += statistics.offset;
  Buffer<double> start(map.cols() + 1);
  double margin = model.intercept;  // at the means
  for (Index j = 0; j < model.cols(); ++j) {
    start[columns[j]] = model.weights[j] * map.scale[columns[j]] / units.scale;
    margin += model.weights[j] * map.user_mean(columns[j]);
  }
  start[map.cols()] = (margin - units.offset) / units.scale;
  return start;
}

}  // namespace zipml::inline ZIPML_ABI
