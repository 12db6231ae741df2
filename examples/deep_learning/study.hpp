#pragma once
// Trainings of a net with many quantizers, and what they say together.

#include <functional>
#include <vector>

#include "packed_net.hpp"
#include "training.hpp"

namespace deep {

/// Runs side by side, each on one thread: the same bits for any number of threads (0: one for each processor). `tell` hears of
/// every run that has ended, one at a time.
std::vector<Run> run_all(const ImageSet& set, const std::vector<Quantizer>& quantizers, int seeds,
                         int threads, const TrainingOptions& options,
                         const std::function<void(const Run&)>& tell);

/// The seeds of a quantizer together.
struct Row {
  Quantizer quantizer = {};
  int runs = 0, diverged = 0;
  double training_loss = 0.0;  // means over the runs that have not diverged
  double test_accuracy = 0.0,
         deviation = 0.0;  // mean and standard deviation; a run that diverged has chance's accuracy
  double seconds_per_epoch = 0.0, fitting_share = 0.0;
  std::vector<double> losses = {};  // mean of each epoch
};
std::vector<Row> rows_of(const std::vector<Run>& runs, int classes);

/// The best evenly spaced and the best optimal quantizer of a number of levels, by accuracy.
struct Contest {
  int levels = 0;
  const Row *even_largest = nullptr, *even = nullptr, *optimal = nullptr;
};
std::vector<Contest> contests_of(const std::vector<Row>& rows);

}  // namespace deep
