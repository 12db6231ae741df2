#include "experiment_of.hpp"

std::vector<Result> run_least_squares(const Options& options, const Samples& samples) {
  return Experiment<zipml::SquaredLoss>(options, samples).run();
}
