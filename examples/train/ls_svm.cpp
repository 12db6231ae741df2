#include "experiment_of.hpp"
#include "packed_of.hpp"

std::vector<Result> run_ls_svm(const Options& options, const Samples& samples) {
  if (samples.store) return PackedExperiment<zipml::LeastSquaresSvm>(options, samples).run();
  return Experiment<zipml::LeastSquaresSvm>(options, samples).run();
}
