// How near the exact optimum is, after how many seconds and bytes: float32 by SGD and by conjugate gradients, packed rows by
// SGD, and packed rows with readings in full precision (refinement). One thread unless asked for more; packing is in the
// seconds, and apart.

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>
#include <zipml/analysis/exact_solver.hpp>
#include <zipml/analysis/newton.hpp>
#include <zipml/estimators/any_store.hpp>
#include <zipml/io/output_file.hpp>
#include <zipml/training/refinement.hpp>
#include <zipml/zipml.hpp>

#include "gnuplot.hpp"
#include "program.hpp"
#include "table_options.hpp"

namespace {

using zipml::Index;

struct Options {
  std::string file;
  TableOptions table;
  std::string loss = "least-squares";
  Index rows = 200'000;
  float l2 = 0.0f;
  std::vector<int> bits{1, 2, 3, 4, 8};
  int epochs = 30;
  double tolerance = 1e-9;
  std::uint64_t seed = 1;
  std::string csv;
  std::string svg;
};

/// What a method has reached after a reading.
struct Point {
  int readings;  // epochs of SGD, or passes in full precision
  double seconds;
  double megabytes;
  double excess;
};

struct Method {
  std::string name;
  double packing = 0.0;  // seconds, in those of the points
  std::vector<Point> points{};
  const char* colour = colour::black;
  int symbol = 7;
  bool dashed = false;

  /// The point from which on an excess stays below a bound; null: none.
  const Point* reaches(double bound) const {
    const Point* first = nullptr;
    for (const Point& point : points)
      if (!(point.excess <= bound))
        first = nullptr;
      else if (first == nullptr)
        first = &point;
    return first;
  }
};

using Clock = std::chrono::steady_clock;
double since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

template <class Loss>
class Study {
 public:
  Study(const Options& options, const zipml::Dataset& data)
      : options_(options), data_(data), objective_(data, Loss{}, zipml::L2(options.l2)) {
    const auto optimum = zipml::exact_solution(objective_);
    const zipml::Buffer<double> zero(data.cols);
    const double at_zero = objective_(zero.span(), 0.0);
    if (!optimum || !zipml::excess(optimum->value, optimum->value, at_zero))
      throw zipml::Error(zipml::Place{data.source},
                         "the exact optimum is 0 or unknown, so that no excess means anything",
                         "labels that differ, and more rows than columns (or --l2)",
                         std::to_string(data.rows) + " rows, " + std::to_string(data.cols) + " columns");
    optimum_ = optimum->value;
    start_ = zipml::excess(at_zero, optimum_);
  }

  double optimum() const { return optimum_; }

  std::vector<Method> methods() {
    std::vector<Method> all;
    all.push_back(sgd({zipml::EstimatorKind::full, 32}, "SGD, float32", colour::grey, 7));
    if constexpr (zipml::AffineLoss<Loss>) all.push_back(plain());
    all.push_back(sgd(representation(4), "SGD, 4 bits", colour::blue, 7));
    const char* const colours[] = {colour::purple, colour::green, colour::vermilion, colour::black,
                                   colour::blue};
    std::size_t k = 0;
    for (const int bits : options_.bits) {
      all.push_back(refinement(bits, colours[k++ % 5]));
      std::fprintf(stderr, "refine: %d bits\n", bits);
    }
    return all;
  }

 private:
  double excess(std::span<const double> weights, double intercept) const {
    return zipml::excess(objective_(weights, intercept), optimum_);
  }
  double float_megabytes() const {
    return 4e-6 * static_cast<double>(data_.rows) * static_cast<double>(data_.cols);
  }

  /// Nearest rounding where rows are few for a column, where variance is worse than a bias.
  zipml::Representation representation(int bits) const {
    zipml::Representation how = zipml::default_representation<Loss>(bits);
    if (zipml::AffineLoss<Loss> && data_.rows < 50 * data_.cols) {
      how.estimator = zipml::EstimatorKind::naive;
      how.rounding = zipml::RoundingKind::nearest;
    }
    return how;
  }

  zipml::AnyStore packed(const zipml::Representation& how, double& seconds) const {
    const auto start = Clock::now();
    zipml::AnyStore store = zipml::quantize(data_, how,
                                            {.seed = options_.seed,
                                             .pilot_loss = zipml::pilot_loss_of(Loss{}),
                                             .threads = options_.table.threads});
    seconds = since(start);
    return store;
  }

  Method sgd(const zipml::Representation& how, const char* name, const char* colour, int symbol) const {
    Method method{.name = name, .colour = colour, .symbol = symbol, .dashed = true};
    const zipml::AnyStore store = packed(how, method.packing);
    const zipml::SampleView samples = store.samples();
    zipml::FitOptions fit{.epochs = options_.epochs, .threads = options_.table.threads};
    if (samples.has_integer_path() && samples.cols >= 64) fit.model = {8};
    method.points.push_back({0, method.packing, 0.0, start_});
    const auto watch = [&](const zipml::EpochEvent& event) {
      const double moved = 1e-6 * static_cast<double>(samples.store_bytes) * event.epoch;
      method.points.push_back(
          {event.epoch, method.packing + event.seconds, moved, excess(event.weights, event.intercept)});
    };
    zipml::visit_estimator_for<Loss>(how.estimator, [&](auto estimator) {
      return zipml::Sgd{Loss{}, zipml::L2(options_.l2)}.fit(store, estimator, fit, watch).epochs;
    });
    return method;
  }

  /// Conjugate gradients of the same code without a preconditioner.
  Method plain() const {
    Method method{.name = "conjugate gradients", .colour = colour::black, .symbol = 9, .dashed = true};
    method.points.push_back({0, 0.0, 0.0, start_});
    const auto watch = [&](const zipml::EpochEvent& event) {
      method.points.push_back({event.epoch, event.seconds, float_megabytes() * event.epoch,
                               excess(event.weights, event.intercept)});
    };
    (void)zipml::conjugate_gradients(
        objective_, {.passes = 500, .tolerance = options_.tolerance, .threads = options_.table.threads},
        watch);
    return method;
  }

  Method refinement(int bits, const char* colour) const {
    Method method{.name = "refined, " + std::to_string(bits) + (bits == 1 ? " bit" : " bits"),
                  .colour = colour,
                  .symbol = 5};
    const zipml::Representation how = representation(bits);
    const zipml::AnyStore store = packed(how, method.packing);
    method.points.push_back({0, method.packing, 0.0, start_});
    zipml::visit_estimator_for<Loss>(how.estimator, [&](auto estimator) -> int {
      if constexpr (zipml::BilinearEstimator<decltype(estimator)>) {
        const double read =
            1e-6 * static_cast<double>(store.samples().store_bytes) * (zipml::AffineLoss<Loss> ? 1.0 : 2.0);
        const auto watch = [&](const zipml::EpochEvent& event) {
          method.points.push_back({event.epoch, method.packing + event.seconds,
                                   read + float_megabytes() * event.epoch,
                                   excess(event.weights, event.intercept)});
        };
        const zipml::Refined refined =
            zipml::refine(store, estimator, objective_,
                          {.tolerance = options_.tolerance, .threads = options_.table.threads}, watch);
        method.points.push_back({refined.full_passes, method.packing + refined.seconds,
                                 1e-6 * (refined.full_bytes + refined.packed_bytes),
                                 excess(refined.weights.span(), refined.intercept)});
        return refined.full_passes;
      }
      return 0;
    });
    return method;
  }

  const Options& options_;
  const zipml::Dataset& data_;
  zipml::Objective<Loss, zipml::L2> objective_;
  double optimum_ = 0.0;
  double start_ = 0.0;
};

std::string cell(double seconds) {
  char text[32];
  std::snprintf(text, sizeof text, seconds < 0.0 ? "-" : "%.4f", seconds);
  return text;
}

void print(const std::vector<Method>& methods) {
  std::printf("%-22s %8s %8s %9s %9s %9s %10s %12s\n", "", "readings", "to 1e-6", "packing", "to 1e-3",
              "to 1e-6", "MB to 1e-6", "least excess");
  for (const Method& method : methods) {
    double least = INFINITY;
    for (const Point& point : method.points) least = std::min(least, point.excess);
    const Point *soon = method.reaches(1e-3), *there = method.reaches(1e-6);
    const auto seconds = [](const Point* point) { return cell(point != nullptr ? point->seconds : -1.0); };
    std::printf("%-22s %8d %8s %9.4f %9s %9s %10s %12.2g\n", method.name.c_str(),
                method.points.back().readings,
                there != nullptr ? std::to_string(there->readings).c_str() : "-", method.packing,
                seconds(soon).c_str(), seconds(there).c_str(),
                cell(there != nullptr ? there->megabytes : -1.0).c_str(), std::max(least, 0.0));
  }
  std::printf(
      "\nreadings: epochs of SGD, passes in full precision, in all and until the excess stays below 1e-6. "
      "seconds, with "
      "packing,\nuntil it stays below. The last step of a refinement reads nothing.\n");
}

void write_csv(const std::string& path, const std::vector<Method>& methods) {
  std::string text = "method,readings,seconds,megabytes,excess\n";
  for (const Method& method : methods)
    for (const Point& point : method.points)
      text += method.name + "," + std::to_string(point.readings) + "," + zipml::number_text(point.seconds) +
              "," + zipml::number_text(point.megabytes) + "," + zipml::number_text(point.excess) + "\n";
  zipml::write_file(path, text);
}

/// Excess against seconds on the left, against megabytes on the right.
void write_svg(const std::string& path, const std::vector<Method>& methods, const std::string& title) {
  constexpr double floor = 1e-10;
  Gnuplot picture(path, 1280, 560);
  std::fprintf(picture.stream(), "set multiplot\nset format y '10^{%%L}'\n");
  for (const bool bytes : {false, true}) {
    double left = INFINITY, right = 0.0, top = 1e-2;
    for (const Method& method : methods)
      for (const Point& point : method.points) {
        const double x = bytes ? point.megabytes : point.seconds;
        if (x > 0.0) left = std::min(left, x);
        right = std::max(right, x);
        top = std::max(top, point.excess);
      }
    std::fprintf(picture.stream(), "set xlabel '%s' offset 0,0.3 tc rgb '%s'\nset format x '%%.2g'\n",
                 bytes ? "MB read after packing" : "seconds, packing included", colour::grey);
    if (bytes) std::fprintf(picture.stream(), "set format x '%%g'\n");
    const double at = bytes ? 640.0 : 0.0;
    Chart chart(picture, {at + 85.0, 70.0, at + 560.0, 500.0}, {0.8 * left, floor, 1.6 * right, 2.0 * top},
                true);
    if (!bytes) chart.head(title, "excess over the exact optimum");
    chart.add_level(1e-6, "");
    for (const Method& method : methods) {
      Chart::Curve curve{
          .name = method.name, .colour = method.colour, .symbol = method.symbol, .dashed = method.dashed};
      for (const Point& point : method.points) {
        const double x = bytes ? point.megabytes : point.seconds;
        if (x > 0.0) curve.points.push_back({x, std::max(point.excess, floor)});
        if (point.excess < floor) break;
      }
      chart.add(std::move(curve));
    }
    chart.draw();
  }
  picture.finish();
}

template <class Loss>
void study(const Options& options, const zipml::Dataset& data) {
  Study<Loss> of(options, data);
  std::printf("%s: %td rows, %td columns, %s, l2 %g; optimum %.8g; %s kernels\n\n", data.source.c_str(),
              data.rows, data.cols, Loss::name, static_cast<double>(options.l2), of.optimum(),
              zipml::name_of(zipml::active_isa()));
  const std::vector<Method> methods = of.methods();
  print(methods);
  if (!options.csv.empty()) write_csv(options.csv, methods);
  const std::string name = std::filesystem::path(data.source).stem().string();
  if (!options.svg.empty())
    write_svg(options.svg, methods,
              name + ": " + std::to_string(data.rows) + " rows x " + std::to_string(data.cols) +
                  " columns, " + Loss::name);
}

void run(const Options& options) {
  zipml::Dataset data;
  if (options.file.empty()) {
    const zipml::GeneratedOptions size{.rows = options.rows, .test_rows = 0, .seed = options.seed};
    data = options.loss == "logistic" ? zipml::two_class(size).train : zipml::skewed(size).train;
  } else {
    data = load_table(options.file, options.table, "refine");
  }
  if (options.loss == "logistic")
    study<zipml::LogisticLoss>(options, data);
  else
    study<zipml::SquaredLoss>(options, data);
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app{
      "How near the exact optimum is, after how many seconds and bytes: SGD, conjugate gradients, and packed "
      "samples "
      "with a few readings in full precision.\nWithout FILE on a generated set of 90 skewed, correlated "
      "columns."};
  app.set_version_flag("--version", std::string("refine (zipml ") + ZIPML_VERSION + ")");
  app.option_defaults()->always_capture_default();
  app.add_option("FILE", options.file, "LIBSVM or CSV file, - for standard input");
  options.table.add_to(app, true);
  app.add_option("--loss", options.loss)->check(CLI::IsMember({"least-squares", "logistic"}));
  app.add_option("--rows", options.rows, "of the generated set")->check(CLI::Range(Index{2}, Index{1} << 32));
  app.add_option("--l2", options.l2, "penalty LAMBDA/2 |x|^2")->check(CLI::NonNegativeNumber);
  app.add_option("--bits", options.bits, "widths to refine from")->check(CLI::Range(1, 8))->delimiter(',');
  app.add_option("--epochs", options.epochs, "of SGD")->check(CLI::Range(1, 100'000));
  app.add_option("--tolerance", options.tolerance, "excess that is asked for")->check(CLI::PositiveNumber);
  app.add_option("--seed", options.seed, "of everything random");
  app.add_option("--csv", options.csv, "write every point to this file");
  app.add_option("--svg", options.svg, "draw excess against seconds and bytes, with gnuplot");
  return run_program("refine", app, argc, argv, [&options] { run(options); });
}
