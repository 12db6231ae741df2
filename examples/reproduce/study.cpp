#include "study.hpp"

#include <atomic>
#include <cmath>
#include <limits>
#include <zipml/base/thread_team.hpp>

namespace {

std::string bits_text(int bits) { return std::to_string(bits) + (bits == 1 ? " bit" : " bits"); }

}  // namespace

std::string Setting::text() const {
  std::string text;
  const auto add = [&](const std::string& part) { text += (text.empty() ? "" : "; ") + part; };
  if (bits != 32) {
    add(estimator + ", " + bits_text(bits));
    if (nearest) text += ", nearest";
    if (levels != "uniform") text += ", " + levels + " levels";
    if (outliers > 0.0) text += ", 0.3 % outliers";
    if (fresh) text += ", fresh";
    if (pilot) text += ", pilot";
  }
  if (model_bits != 32) add("model " + bits_text(model_bits));
  if (gradient_bits != 32) add("gradient " + bits_text(gradient_bits));
  if (error_feedback) text += ", error feedback";
  if (channel_levels != "uniform") text += ", optimal levels";
  return text.empty() ? "32 bits" : text;
}

Study::Study(Set set, int seeds, int epochs, int threads, bool thorough)
    : name_(std::move(set.name)),
      loss_(std::move(set.loss)),
      l2_(set.l2),
      epochs_(epochs),
      threads_(zipml::thread_count(threads)),
      thorough_(thorough),
      full_losses_(static_cast<std::size_t>(seeds)) {
  samples_.sets.train = std::move(set.data);
  in_parallel(0, full_losses_.size(), [&](std::size_t k) {
    full_losses_[k] = run(options_of({}, k + 1), samples_).front().train_loss;
  });
}

template <class Work>
void Study::in_parallel(std::size_t first, std::size_t last, const Work& work) const {
  zipml::ThreadTeam team(threads_);
  std::atomic<std::size_t> next{first};
  team.run([&](int) {
    for (std::size_t k = next++; k < last; k = next++) work(k);
  });
}

Options Study::options_of(const Setting& setting, std::uint64_t seed) const {
  Options options;
  options.file = name_;
  options.loss = loss_;
  options.l2 = l2_;
  options.epochs = epochs_;
  options.seed = seed;
  options.bits = setting.bits;
  options.estimator = setting.estimator;
  if (setting.estimator == "refetch-l1") {
    options.estimator = "variance-corrected";
    options.refetch = zipml::RefetchBound::l1;
  }
  options.levels = setting.levels;
  options.rounding = setting.nearest ? "nearest" : "stochastic";
  options.outliers = setting.outliers;
  options.fresh = setting.fresh;
  if (!setting.pilot) options.pilot = 0;
  options.model_bits = setting.model_bits;
  options.gradient_bits = setting.gradient_bits;
  options.error_feedback = setting.error_feedback;
  options.channel_levels = setting.channel_levels;
  options.quiet = true;
  options.needs_optimum = false;
  return options;
}

const Measured& Study::measure(const Setting& setting) {
  const auto found = known_.find(setting.text());
  if (found != known_.end()) return found->second;
  std::vector<Result> results(full_losses_.size());
  const auto first = first_.find(setting.text());
  if (first != first_.end()) results[0] = first->second;
  in_parallel(first != first_.end() ? 1 : 0, results.size(),
              [&](std::size_t k) { results[k] = run(options_of(setting, k + 1), samples_).front(); });
  Measured mean;
  for (std::size_t k = 0; k < results.size(); ++k) {
    mean.gap += gap_of(results[k], k) / static_cast<double>(results.size());
    mean.indefinite = mean.indefinite || results[k].status == "indefinite";
  }
  mean.epochs = results.front().epochs;
  if (!results.front().refetched.empty()) mean.refetched = results.front().refetched.back();
  mean.samples = results.front().samples_moved;
  mean.model = results.front().model_moved;
  mean.gradient = results.front().gradient_moved;
  return known_[setting.text()] = mean;
}

double Study::gap_of(const Result& result, std::size_t seed) const {
  if (!result.success || !std::isfinite(result.train_loss)) return std::numeric_limits<double>::infinity();
  return result.train_loss / full_losses_[seed] - 1.0;
}

void Study::begin(const std::vector<Setting>& settings) {
  std::vector<Setting> fresh;
  for (const Setting& setting : settings)
    if (known_.count(setting.text()) == 0 && first_.count(setting.text()) == 0) fresh.push_back(setting);
  std::vector<Result> results(fresh.size());
  in_parallel(0, fresh.size(),
              [&](std::size_t k) { results[k] = run(options_of(fresh[k], 1), samples_).front(); });
  for (std::size_t k = 0; k < fresh.size(); ++k) first_[fresh[k].text()] = results[k];
}

bool Study::keeps(const Setting& setting, double allowed) {
  begin({setting});
  const auto first = first_.find(setting.text());
  if (first != first_.end() &&
      gap_of(first->second, 0) > 1.5 * static_cast<double>(full_losses_.size()) * allowed)
    return false;
  return measure(setting).gap <= allowed;
}

double Study::seconds_per_epoch(const Setting& setting) const {
  Options options = options_of(setting, 1);
  options.batch = 256;
  double fastest = std::numeric_limits<double>::infinity();
  for (int turn = 0; turn < 3; ++turn)
    fastest = std::min(fastest, run(options, samples_).front().seconds_per_epoch);
  return fastest;
}

Result Study::curve(const Setting& setting) {
  Options options = options_of(setting, 1);
  options.records_losses = true;
  options.needs_optimum = !optimum_;
  Result result = run(options, samples_).front();
  if (result.optimum_loss) optimum_ = result.optimum_loss;
  result.optimum_loss = optimum_;
  return result;
}
