#include <zipml/training/recommend_classes.hpp>

#include "classes_of.hpp"

// Of several classes always: two are as good as more.
LossProgram softmax_program() {
  using Loss = zipml::SoftmaxLoss;
  return {Loss::name,
          [](const Options& options, const Samples& samples) {
            return ClassesExperiment<Loss>(options, samples).run();
          },
          [](const zipml::Dataset& data, bool, const zipml::ElasticNet& penalty,
             const zipml::RecommendOptions& wanted) {
            return zipml::recommend_classes(data, Loss{}, penalty, wanted);
          },
          nullptr,
          [](int bits, bool with_pilot) { return zipml::default_representation<Loss>(bits, with_pilot); },
          zipml::PilotLoss(),
          false,
          true};
}
