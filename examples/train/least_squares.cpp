#include "experiment_of.hpp"
#include "packed_of.hpp"

std::vector<Result> run_least_squares(const Options& options, const Samples& samples) {
  if (samples.store) return PackedExperiment<zipml::SquaredLoss>(options, samples).run();
  return Experiment<zipml::SquaredLoss>(options, samples).run();
}
