#include "study.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <mutex>
#include <zipml/base/thread_team.hpp>

namespace deep {

std::vector<Run> run_all(const ImageSet& set, const std::vector<Quantizer>& quantizers, int seeds,
                         int threads, const TrainingOptions& options,
                         const std::function<void(const Run&)>& tell) {
  std::vector<Run> runs(quantizers.size() * static_cast<std::size_t>(seeds));
  std::atomic<std::size_t> next{0};
  std::mutex telling;
  zipml::ThreadTeam team(zipml::thread_count(threads));
  team.run([&](int) {
    for (std::size_t k = next++; k < runs.size(); k = next++) {
      TrainingOptions of_run = options;
      of_run.seed = options.seed + k % static_cast<std::size_t>(seeds);
      runs[k] = train_net(set, quantizers[k / static_cast<std::size_t>(seeds)], of_run);
      const std::lock_guard<std::mutex> lock(telling);
      tell(runs[k]);
    }
  });
  return runs;
}

std::vector<Row> rows_of(const std::vector<Run>& runs, int classes) {
  std::vector<Row> rows;
  for (std::size_t first = 0; first < runs.size();) {
    std::size_t end = first;
    while (end < runs.size() && runs[end].quantizer == runs[first].quantizer) ++end;
    Row row;
    row.quantizer = runs[first].quantizer;
    row.runs = static_cast<int>(end - first);
    std::vector<double> accuracies;
    for (std::size_t k = first; k < end; ++k) {
      const Run& run = runs[k];
      accuracies.push_back(run.diverged ? 1.0 / classes : run.test_accuracy);
      row.test_accuracy += accuracies.back() / row.runs;
      row.seconds_per_epoch += run.seconds_per_epoch() / row.runs;
      row.fitting_share += run.fitting_share() / row.runs;
      if (run.diverged) {
        ++row.diverged;
        continue;
      }
      row.training_loss += run.training_loss;
      row.losses.resize(run.losses.size(), 0.0);
      for (std::size_t e = 0; e < run.losses.size(); ++e) row.losses[e] += run.losses[e];
    }
    const int kept = row.runs - row.diverged;
    row.training_loss = kept > 0 ? row.training_loss / kept : NAN;
    for (double& loss : row.losses) loss /= kept;
    double squares = 0.0;
    for (const double a : accuracies) squares += (a - row.test_accuracy) * (a - row.test_accuracy);
    row.deviation = row.runs > 1 ? std::sqrt(squares / (row.runs - 1)) : 0.0;
    rows.push_back(std::move(row));
    first = end;
  }
  return rows;
}

std::vector<Contest> contests_of(const std::vector<Row>& rows) {
  std::vector<int> levels;
  for (const Row& row : rows)
    if (row.quantizer.spacing != Spacing::none) levels.push_back(row.quantizer.levels);
  std::sort(levels.begin(), levels.end());
  levels.erase(std::unique(levels.begin(), levels.end()), levels.end());
  std::vector<Contest> contests;
  for (const int count : levels) {
    Contest contest{.levels = count};
    for (const Row& row : rows) {
      if (row.quantizer.levels != count || row.quantizer.by_channel) continue;
      const auto take = [&](const Row*& best) {
        if (best == nullptr || row.test_accuracy > best->test_accuracy) best = &row;
      };
      switch (row.quantizer.spacing) {
        case Spacing::none:
          break;
        case Spacing::even_largest:
          take(contest.even_largest);
          [[fallthrough]];
        case Spacing::sign:
        case Spacing::even_best:
          take(contest.even);
          break;
        default:
          take(contest.optimal);
      }
    }
    contests.push_back(contest);
  }
  return contests;
}

}  // namespace deep
