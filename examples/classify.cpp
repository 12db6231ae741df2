// How few bits tell two classes apart as 32 do? Trains logistic regression at several widths on one table and measures on
// rows that it has not seen: accuracy, AUC, log loss, calibration; on request their ROC curves and reliability diagrams.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>
#include <zipml/analysis/curves.hpp>
#include <zipml/estimators/any_store.hpp>
#include <zipml/zipml.hpp>

#include "gnuplot.hpp"
#include "program.hpp"
#include "table_options.hpp"

namespace {

using zipml::Index;

struct Options {
  std::string file;
  TableOptions table;
  std::string test;
  double held_out = 0.25;
  Index rows = 50'000;
  std::vector<int> bits{1, 2, 4, 32};
  float l2 = 1e-4f;
  int epochs = 20;
  std::uint64_t seed = 1;
  std::string roc;
  std::string calibration;
};

struct Width {
  int bits;
  double stored;
  zipml::Fit fit;
  zipml::Metrics metrics;
  zipml::List<zipml::CalibrationBin> bins;
};

zipml::TrainTest load_sets(const Options& options) {
  if (options.file.empty()) return zipml::two_class({.rows = options.rows, .seed = options.seed});
  zipml::LoadOptions load = options.table.load_options();
  zipml::Dataset all = zipml::load(options.file, load);
  if (options.test.empty()) return zipml::hold_out(all, options.held_out, options.seed);
  load.like = all.schema;
  load.label.clear();
  zipml::Dataset test = zipml::load(options.test, load);
  return {std::move(all), std::move(test)};
}

Width train_at(const zipml::TrainTest& sets, int bits, const Options& options) {
  const zipml::LogisticLoss loss;
  zipml::Representation representation{.estimator = zipml::EstimatorKind::full, .bits = 32};
  if (bits != 32) {
    const bool with_pilot = zipml::pilot_rows(sets.train.rows, sets.train.cols, std::nullopt) > 0;
    representation = zipml::default_representation<zipml::LogisticLoss>(bits, with_pilot);
  }
  const zipml::AnyStore store = zipml::quantize(
      sets.train, representation, {.seed = options.seed, .pilot_loss = zipml::pilot_loss_of(loss)});
  const zipml::Sgd sgd{loss, zipml::L2{options.l2}};
  Width width{bits,
              store.samples().stored_bits,
              zipml::visit_estimator_for<zipml::LogisticLoss>(
                  representation.estimator,
                  [&](auto estimator) { return sgd.fit(store, estimator, {.epochs = options.epochs}); }),
              {},
              {}};
  width.metrics = zipml::evaluate(width.fit.model, sets.test);
  width.bins = zipml::calibration(width.fit.model, sets.test);
  return width;
}

/// Curves in the unit square, each with its name at the lower right.
void draw_square(const std::string& path, const char* title, const char* x, const char* y,
                 const std::vector<std::vector<std::pair<double, double>>>& curves,
                 const std::vector<Width>& widths, bool symbols) {
  static constexpr const char* colours[] = {colour::vermilion, colour::purple, colour::blue, colour::green,
                                            colour::black};
  Gnuplot picture(path, 640, 620);
  std::FILE* const plot = picture.stream();
  std::fprintf(
      plot,
      "set termoption font 'sans-serif,15'\nset title %s\nset xlabel %s\nset ylabel %s\n"
      "set xrange [0:1]\nset yrange [0:1]\nset size square\nset key bottom right\nplot x with lines lc rgb "
      "'%s' dt 2 notitle",
      Gnuplot::quoted(title).c_str(), Gnuplot::quoted(x).c_str(), Gnuplot::quoted(y).c_str(), colour::light);
  for (std::size_t k = 0; k < widths.size(); ++k) {
    const std::string name = std::to_string(widths[k].bits) + (widths[k].bits == 1 ? " bit" : " bits");
    std::fprintf(plot, ", '-' using 1:2 with %s lw 2 lc rgb '%s' title '%s'",
                 symbols ? "linespoints pt 7" : "lines", colours[std::min<std::size_t>(k, 4)], name.c_str());
  }
  std::fprintf(plot, "\n");
  for (const auto& curve : curves) {
    for (const auto& [a, b] : curve) std::fprintf(plot, "%.6g %.6g\n", a, b);
    std::fprintf(plot, "e\n");
  }
  picture.finish();
}

void run(const Options& options) {
  const zipml::TrainTest sets = load_sets(options);
  std::printf("%s: %td rows to train on, %td to test on, %td columns; logistic, l2 %g, %d epochs\n\n",
              sets.train.source.c_str(), sets.train.rows, sets.test.rows, sets.train.cols,
              static_cast<double>(options.l2), options.epochs);
  std::printf("%4s  %6s  %9s  %9s  %9s  %11s  %s\n", "bits", "stored", "accuracy", "AUC", "log loss",
              "calibration", "status");
  std::vector<Width> widths;
  for (const int bits : options.bits) {
    widths.push_back(train_at(sets, bits, options));
    const Width& w = widths.back();
    std::printf("%4d  %6.4g  %9.5f  %9.5f  %9.5f  %11.5f  %s\n", w.bits, w.stored,
                w.metrics.accuracy.value_or(NAN), w.metrics.auc.value_or(NAN),
                w.metrics.log_loss.value_or(NAN), zipml::calibration_error(w.bins),
                zipml::to_string(w.fit.status));
    std::fflush(stdout);
    if (!w.fit.advice.empty()) std::fprintf(stderr, "classify: %s\n", w.fit.advice.c_str());
  }
  std::printf(
      "\non the test rows. AUC: the probability that of two rows the right one has the larger margin. "
      "calibration: mean\n"
      "distance of the probability that is predicted, in ten parts, from the share that comes true.\n");
  std::vector<std::vector<std::pair<double, double>>> curves;
  if (!options.roc.empty()) {
    for (const Width& w : widths) {
      curves.emplace_back();
      for (const zipml::RocPoint& p : zipml::roc_curve(w.fit.model, sets.test)) {
        // A thousandth apart is all that a picture shows.
        if (curves.back().empty() || p.false_positives == 1.0 ||
            p.false_positives - curves.back().back().first + p.true_positives - curves.back().back().second >
                1e-3)
          curves.back().push_back({p.false_positives, p.true_positives});
      }
    }
    draw_square(options.roc, "What is found at each threshold", "false positives", "true positives", curves,
                widths, false);
  }
  if (options.calibration.empty()) return;
  curves.clear();
  for (const Width& w : widths) {
    curves.emplace_back();
    for (const zipml::CalibrationBin& bin : w.bins) curves.back().push_back({bin.predicted, bin.observed});
  }
  draw_square(options.calibration, "How often what is predicted comes true", "probability", "share", curves,
              widths, true);
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app{
      "Logistic regression at several widths on one table, measured on rows that were not trained on.\n"
      "Without FILE it takes a generated set of 90 columns."};
  app.option_defaults()->always_capture_default();
  app.add_option("FILE", options.file, "LIBSVM, CSV or NPY file with labels of two classes")
      ->capture_default_str();
  options.table.add_to(app, true);
  app.add_option("--test", options.test, "file of test rows");
  app.add_option("--held-out", options.held_out, "else this share of FILE, at random")
      ->check(CLI::Range(0.001, 0.999));
  app.add_option("--rows", options.rows, "rows of the generated set")
      ->check(CLI::Range(Index{100}, Index{1} << 30));
  app.add_option("--bits", options.bits, "widths, by commas")
      ->delimiter(',')
      ->check(CLI::IsMember({1, 2, 3, 4, 5, 6, 7, 8, 32}));
  app.add_option("--l2", options.l2, "penalty on standardised columns")->check(CLI::NonNegativeNumber);
  app.add_option("--epochs", options.epochs, "passes over the samples")->check(CLI::Range(1, 1'000'000));
  app.add_option("--seed", options.seed, "of every random choice");
  app.add_option("--roc", options.roc, "write the ROC curves to this .svg");
  app.add_option("--calibration", options.calibration, "write the reliability diagrams to this .svg");
  return run_program("classify", app, argc, argv, [&] { run(options); });
}
