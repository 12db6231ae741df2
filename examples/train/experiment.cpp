#include "experiment.hpp"

#include <chrono>
#include <cstdio>
#include <zipml/io/generated.hpp>
#include <zipml/io/load.hpp>
#include <zipml/training/recommend.hpp>

Samples load_samples(const Options& options) {
  const auto start = std::chrono::steady_clock::now();
  Samples samples;
  if (options.file.empty()) {
    const zipml::GeneratedOptions size{.rows = options.rows, .seed = options.seed};
    samples.sets = options.loss == "ls-svm" ? zipml::two_class(size) : zipml::skewed(size);
  } else {
    zipml::LoadOptions load;
    load.format = options.format;
    load.label = options.label;
    load.threads = options.threads;
    load.memory_limit = static_cast<std::uint64_t>(options.memory_gib * 1024.0 * 1024.0 * 1024.0);
    samples.sets.train = zipml::load(options.file, load);
    if (!options.test_file.empty()) {
      load.columns = samples.sets.train.cols;
      samples.sets.test = zipml::load(options.test_file, load);
      if (samples.sets.test.cols != samples.sets.train.cols)
        throw zipml::Error(zipml::Place{options.test_file}, "the test file has another number of columns",
                           std::to_string(samples.sets.train.cols), std::to_string(samples.sets.test.cols));
    }
  }
  samples.seconds_load = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  for (const auto* data : {&samples.sets.train, &samples.sets.test})
    for (const std::string& warning : data->warnings)
      std::fprintf(stderr, "train: warning: %s: %s\n", data->source.c_str(), warning.c_str());
  if (options.loss == "ls-svm") {
    const auto labels = zipml::label_statistics(samples.sets.train.labels.data(), samples.sets.train.rows);
    (void)zipml::LeastSquaresSvm{}.label_map(
        labels);  // says what is wrong with labels that are not two classes
    std::fprintf(stderr, "train: classes: label %g is -1, label %g is +1\n", static_cast<double>(labels.min),
                 static_cast<double>(labels.max));
  }
  return samples;
}

const char* test_metric_name(const Options& options) {
  return options.loss == "ls-svm" ? "accuracy" : "rmse";
}

zipml::FitOptions fit_options_of(const Options& options, zipml::Index columns, bool integers) {
  const auto channel = [&](int bits) -> zipml::Channel {
    if (bits == 32) return {};
    return {.bits = bits,
            .scaling = options.channel_scaling == "norm"    ? zipml::ChannelScaling::norm
                       : options.channel_scaling == "block" ? zipml::ChannelScaling::block
                                                            : zipml::ChannelScaling::max,
            .error_feedback = options.error_feedback,
            .levels = options.channel_levels == "optimal" ? zipml::ChannelLevels::optimal
                                                          : zipml::ChannelLevels::uniform};
  };
  const bool large = options.batch >= 16 && options.batch * columns >= 4096;
  const bool fast = integers && large && columns <= zipml::max_int8_columns;
  return {.epochs = options.epochs,
          .batch = options.batch,
          .model = options.model_bits != 0 ? channel(options.model_bits) : zipml::Channel{fast ? 8 : 32},
          .gradient = channel(options.gradient_bits),
          .safety = options.safety == "shrink"  ? zipml::Safety::shrink
                    : options.safety == "ridge" ? zipml::Safety::ridge
                                                : zipml::Safety::warn,
          .pilot = options.pilot != zipml::Index{0},
          .threads = options.threads,
          .isa = options.isa};
}

void choose_representation(Options& options, const Samples& samples) {
  if (!options.choose) return;
  zipml::RecommendOptions wanted{.excess = options.excess, .seed = options.seed};
  wanted.fit = fit_options_of(options, samples.sets.train.cols, true);
  const zipml::ElasticNet penalty(options.l2, options.l1);
  const auto best = options.loss == "ls-svm"
                        ? zipml::recommend(samples.sets.train, zipml::LeastSquaresSvm{}, penalty, wanted)
                        : zipml::recommend(samples.sets.train, zipml::SquaredLoss{}, penalty, wanted);
  options.take(best.representation);
  std::fprintf(stderr,
               "train: chose %s: %.3f stored bits, predicted excess %.3g %% (%d representations trained on "
               "%td rows)\n",
               zipml::to_string(best.representation).c_str(), best.stored_bits, 100.0 * best.predicted_excess,
               best.measured, best.sample_rows);
  if (!best.met)
    std::fprintf(
        stderr,
        "train: %.3g %% is not met: that is the least within reach; 32 bits end at %.3g %% in as many "
        "epochs\n",
        100.0 * options.excess, 100.0 * best.full_excess.value_or(0.0));
}

std::vector<Result> run(const Options& options, const Samples& samples) {
  return options.loss == "ls-svm" ? run_ls_svm(options, samples) : run_least_squares(options, samples);
}
