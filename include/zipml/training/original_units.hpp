#pragma once
/// \file
/// Room training: the way back from standardised weights to the user's units.

#include <span>

#include <zipml/base/buffer.hpp>
#include <zipml/model/linear_model.hpp>
#include <zipml/model/losses.hpp>
#include <zipml/storage/sample_store.hpp>

namespace zipml::inline ZIPML_ABI {

/// The model that predicts in the user's units what (weights, intercept) predicts in those of the store: with
/// columns (a - mean) / scale and labels (y - offset) / s, w_j = s x_j / scale_j and c' = s c + offset -
/// sum_j w_j mean_j. A classifier keeps its margin, whose units are labels of -1 and 1.
template <Loss L>
LinearModel in_original_units(std::span<const double> weights, double intercept, const Standardization& map,
                              const LabelStatistics& statistics, const LabelMap& labels) {
  const LabelMap units = L::classifies ? LabelMap{} : labels;
  LinearModel model;
  model.weights = Buffer<double>(map.cols());
  model.intercept = intercept * units.scale + units.offset;
  for (Index j = 0; j < map.cols(); ++j) {
    model.weights[j] = weights[static_cast<std::size_t>(j)] * units.scale / map.scale[j];
    model.intercept -= model.weights[j] * map.mean[j];
  }
  model.classifies = L::classifies;
  model.low_label = static_cast<double>(statistics.min);
  model.high_label = static_cast<double>(statistics.max);
  return model;
}
/// The same for a store of one model's targets.
template <Loss L, SampleStore Store>
LinearModel in_original_units(std::span<const double> weights, double intercept, const Store& store,
                              const LabelMap& labels) {
  return in_original_units<L>(weights, intercept, store.standardization(), store.targets().statistics(0),
                              labels);
}

}  // namespace zipml::inline ZIPML_ABI
