#pragma once
// What programs do for one loss.

#include <zipml/training/recommend_classes.hpp>
#include <zipml/training/recommend_refinement.hpp>

#include "classes_of.hpp"
#include "experiment_of.hpp"
#include "packed_of.hpp"
#include "path_of.hpp"

template <class Loss>
decltype(LossProgram::recommend_refinement) refinement_recommender() {
  if constexpr (zipml::AffineLoss<Loss> || zipml::ConvexLoss<Loss>)
    return [](const zipml::Dataset& data, const zipml::ElasticNet& penalty,
              const zipml::RefinementSearch& search) {
      return zipml::recommend_refinement(data, Loss{}, penalty, search);
    };
  else
    return nullptr;
}

template <class Loss>
LossProgram loss_program() {
  return {Loss::name,
          [](const Options& options, const Samples& samples) -> std::vector<Result> {
            if constexpr (Loss::classifies)
              if (samples.several_classes) return ClassesExperiment<Loss>(options, samples).run();
            if (options.chooses_penalty()) return PathExperiment<Loss>(options, samples).run();
            if (samples.store) return PackedExperiment<Loss>(options, samples).run();
            return Experiment<Loss>(options, samples).run();
          },
          [](const zipml::Dataset& data, bool several_classes, const zipml::ElasticNet& penalty,
             const zipml::RecommendOptions& wanted) {
            if constexpr (Loss::classifies)
              if (several_classes) return zipml::recommend_classes(data, Loss{}, penalty, wanted);
            return zipml::recommend(data, Loss{}, penalty, wanted);
          },
          refinement_recommender<Loss>(),
          [](int bits, bool with_pilot) { return zipml::default_representation<Loss>(bits, with_pilot); },
          zipml::pilot_loss_of(Loss{}),
          zipml::PilotableLoss<Loss>,
          Loss::classifies};
}
