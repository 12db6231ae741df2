#include "experiment_of.hpp"

std::vector<Result> run_ls_svm(const Options& options, const Samples& samples) {
  return Experiment<zipml::LeastSquaresSvm>(options, samples).run();
}
