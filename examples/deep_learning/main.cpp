// A little bit of deep learning: nets whose weights are rounded while they train, to levels that are evenly spaced or where the
// error of rounding is least (ZipML 2017, sections 3 and 6). `deep_learning --help` tells the rest.

#include <chrono>
#include <filesystem>
#include <zipml/zipml.hpp>

#include "../program.hpp"
#include "report.hpp"

namespace {

using zipml::Index;

struct Arguments {
  std::string folder;  // --data
  std::string net = "convolutional";
  std::vector<int> levels{2, 3, 4, 5, 8, 16};
  std::vector<std::string> quantizers, granularity{"layer", "channel"};
  std::string out;
  deep::TrainingOptions training;
  Index train = 0, test = 0;
  int seeds = 3, threads = 0;
  bool quick = false, json = false;
};

std::vector<deep::Quantizer> quantizers_of(const Arguments& options) {
  std::vector<deep::Quantizer> all{{}};
  for (const std::string& granularity : options.granularity)
    for (const int levels : options.levels)
      for (const deep::Spacing spacing : deep::spacings()) {
        const auto wanted =
            std::find(options.quantizers.begin(), options.quantizers.end(), deep::name_of(spacing));
        if (deep::has_levels(spacing, levels) &&
            (options.quantizers.empty() || wanted != options.quantizers.end()))
          all.push_back({spacing, levels, granularity == "channel"});
      }
  return all;
}

void run(const Arguments& options) {
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  const auto seconds = [&] { return std::chrono::duration<double>(Clock::now() - start).count(); };
  if (!options.out.empty()) {
    std::error_code error;
    std::filesystem::create_directories(options.out, error);
    if (error) throw zipml::Error(zipml::Place{options.out}, "cannot create the folder: " + error.message());
  }
  const deep::ImageSet set = options.folder.empty() ? deep::generated_images(options.train > 0 ? options.train
                                                                             : options.quick   ? 3'000
                                                                                               : 8'000,
                                                                             options.test > 0 ? options.test
                                                                             : options.quick  ? 1'000
                                                                                              : 4'000,
                                                                             1)
                                                    : deep::load_images(options.folder,
                                                                        options.train > 0 ? options.train
                                                                        : options.quick   ? 2'000
                                                                                          : 0,
                                                                        options.test > 0 ? options.test
                                                                        : options.quick  ? 1'000
                                                                                         : 0);
  const std::vector<deep::Quantizer> quantizers = quantizers_of(options);
  const std::size_t all = quantizers.size() * static_cast<std::size_t>(options.seeds);
  std::size_t done = 0;
  const auto tell = [&](const deep::Run& ended) {
    ++done;
    const double left = seconds() / static_cast<double>(done) * static_cast<double>(all - done);
    char text[32] = "32 bits", result[16] = "diverged";
    if (!ended.diverged) std::snprintf(result, sizeof result, "%.2f %%", 100.0 * ended.test_accuracy);
    if (ended.quantizer.spacing != deep::Spacing::none)
      std::snprintf(text, sizeof text, "%s %d", ended.quantizer.name().c_str(), ended.quantizer.levels);
    std::fprintf(stderr, "deep_learning: %zu of %zu, %.0f s left  %s%s, seed %llu: %s\n", done, all, left,
                 text, ended.quantizer.by_channel ? " by channel" : "",
                 static_cast<unsigned long long>(ended.seed), result);
  };
  const std::vector<deep::Run> runs =
      deep::run_all(set, quantizers, options.seeds, options.threads, options.training, tell);
  const std::vector<deep::Row> rows = deep::rows_of(runs, set.classes);
  std::vector<deep::PackedReport> packed(rows.size());
  for (std::size_t k = 0; k < rows.size(); ++k) {
    const deep::Run& first = runs[k * static_cast<std::size_t>(options.seeds)];
    if (!first.diverged) packed[k] = deep::run_packed(*first.trained, set.test);
  }
  const deep::Circumstances how{.set = set.name,
                                .net = options.net,
                                .isa = zipml::name_of(zipml::active_isa()),
                                .train = set.train.count(),
                                .test = set.test.count(),
                                .seeds = options.seeds,
                                .epochs = options.training.epochs,
                                .refit = options.training.refit,
                                .gradient_bits = options.training.gradient_bits,
                                .batch = options.training.batch,
                                .step = options.training.step,
                                .seconds = seconds()};
  if (options.json)
    deep::print_json(runs, rows, packed, how);
  else
    deep::print_table(rows, packed, how);
  if (options.out.empty()) return;
  deep::write_csv(runs, rows, options.out);
  try {
    deep::draw_pictures(runs, rows, options.out);
  } catch (const zipml::Error& failure) {  // the numbers stand without them
    std::fprintf(stderr, "deep_learning: no pictures: %s\n", failure.what());
    return;
  }
  std::fprintf(stderr,
               "deep_learning: table.csv, runs.csv, curves.svg, levels.svg and filters.png are in %s\n",
               options.out.c_str());
}

}  // namespace

int main(int argc, char** argv) {
  Arguments options;
  CLI::App app{
      "Trains nets whose weights are rounded to few levels while they learn: evenly spaced ones, and those\n"
      "where rounding costs least. On generated images, MNIST (IDX files) or CIFAR-10 (binary batches)."};
  app.set_version_flag("--version", std::string("deep_learning (zipml ") + ZIPML_VERSION + ")");
  app.option_defaults()->always_capture_default();
  std::vector<std::string> names;
  for (const deep::Spacing spacing : deep::spacings()) names.push_back(deep::name_of(spacing));
  app.add_option("--data", options.folder,
                 "folder with MNIST's IDX files or CIFAR-10's binary batches, told by their names; else "
                 "generated images");
  app.add_option("--net", options.net)->check(CLI::IsMember({"convolutional", "dense"}));
  app.add_option("--levels", options.levels, "numbers of levels, 2 to 16")
      ->delimiter(',')
      ->check(CLI::Range(2, 16));
  app.add_option("--quantizers", options.quantizers, "which, beside 32 bits; all unless named")
      ->delimiter(',')
      ->check(CLI::IsMember(names));
  app.add_option("--granularity", options.granularity, "levels of a layer, of each output channel, or both")
      ->delimiter(',')
      ->check(CLI::IsMember({"layer", "channel"}));
  auto* epochs = app.add_option("--epochs", options.training.epochs)->check(CLI::Range(1, 10'000));
  app.add_option("--batch", options.training.batch)->check(CLI::Range(1, 1'000'000));
  app.add_option("--step", options.training.step)->check(CLI::PositiveNumber);
  app.add_option("--refit", options.training.refit, "steps from one fit of the levels to the next")
      ->check(CLI::Range(1, 1'000'000));
  app.add_option("--gradient-bits", options.training.gradient_bits,
                 "1 to 8: gradients of weights through a channel with error feedback; 32: as they are")
      ->check(CLI::Range(1, 8) | CLI::IsMember({32}));
  app.add_option("--train", options.train,
                 "images to train on, at most; 0: 8,000 generated ones, all of a folder's");
  app.add_option("--test", options.test,
                 "images to test on, at most; 0: 4,000 generated ones, all of a folder's");
  app.add_option("--seed", options.training.seed, "of the first run");
  auto* seeds =
      app.add_option("--seeds", options.seeds, "runs of each quantizer")->check(CLI::Range(1, 1000));
  app.add_option("--threads", options.threads, "runs at a time; 0: one for each processor")
      ->check(CLI::Range(0, 1024));
  app.add_option("--out", options.out, "folder for table.csv, runs.csv, curves.svg, levels.svg, filters.png");
  app.add_flag("--quick", options.quick,
               "fewer images, one seed, 3 and 5 levels of a layer, 5 epochs: within a minute");
  app.add_flag("--json", options.json, "one JSON object on standard output");
  return run_program("deep_learning", app, argc, argv, [&] {
    options.training.dense = options.net == "dense";
    if (options.quick) {
      if (seeds->count() == 0) options.seeds = 1;
      if (epochs->count() == 0) options.training.epochs = 5;
      if (app.count("--levels") == 0) options.levels = {3, 5};
      if (app.count("--granularity") == 0) options.granularity = {"layer"};
    }
    run(options);
  });
}
