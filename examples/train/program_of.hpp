#pragma once
// What programs do for one loss.

#include "classes_of.hpp"
#include "experiment_of.hpp"
#include "packed_of.hpp"
#include "path_of.hpp"

template <class Loss>
LossProgram loss_program() {
  return {
      Loss::name,
      [](const Options& options, const Samples& samples) -> std::vector<Result> {
        if constexpr (Loss::classifies)
          if (samples.several_classes) return ClassesExperiment<Loss>(options, samples).run();
        if (options.chooses_penalty()) return PathExperiment<Loss>(options, samples).run();
        if (samples.store) return PackedExperiment<Loss>(options, samples).run();
        return Experiment<Loss>(options, samples).run();
      },
      [](const zipml::Dataset& data, const zipml::ElasticNet& penalty,
         const zipml::RecommendOptions& wanted) { return zipml::recommend(data, Loss{}, penalty, wanted); },
      [](int bits, bool with_pilot) { return zipml::default_representation<Loss>(bits, with_pilot); },
      zipml::pilot_loss_of(Loss{}),
      zipml::PilotableLoss<Loss>};
}
