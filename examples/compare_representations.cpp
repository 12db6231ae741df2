// Which representation of the samples keeps the answer, at which stored bits? Packs one data set in every
// way, on uniform and on fitted levels, without a pilot and with one, and measures the excess over the exact optimum twice: of the solution
// that the packed rows define (what frozen draws converge to), and of SGD on them. Then it makes the bias of
// a single draw visible: naive lands where ridge regression with the mean variance of the rounding as penalty
// does.

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <map>
#include <string>
#include <vector>
#include <zipml/analysis/realised_system.hpp>
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
  std::string loss = "least-squares";
  Index rows = 50'000;
  float l2 = 0.0f;
  std::vector<int> bits{1, 2, 3, 4, 6, 8};
  std::vector<double> outliers{0.0, 0.003};
  std::vector<std::string> levels{"uniform", "optimal"};
  int seeds = 3;
  int epochs = 20;
  std::string csv;
  std::string svg;
};

struct Mean {
  double sum = 0.0;
  double squares = 0.0;
  int count = 0;
  void add(double value) {
    sum += value;
    squares += value * value;
    ++count;
  }
  double mean() const { return sum / count; }
  double spread() const {
    return count < 2 ? 0.0 : std::sqrt(std::max(0.0, (squares - sum * sum / count) / (count - 1)));
  }
};

/// One representation, over the seeds.
struct Row {
  std::string name;
  std::string levels;
  int bits = 0;
  double outliers = 0.0;
  Mean stored_bits{};
  Mean solved{};   // excess of the realised system's solution
  Mean trained{};  // excess after SGD
  Mean pilot{};    // excess of the pilots themselves, of the stores that had one
  int indefinite = 0;
  int diverged = 0;
};

/// What a single draw is predicted to do, and does.
struct Bias {
  int bits = 0;
  double ridge = 0.0;  // excess of ridge regression with penalty dbar
  double naive = 0.0;  // excess of the naive solution
  double apart = 0.0;  // distance of the two models / distance of ridge from the optimum
};

/// Least squares throughout: ls-svm is least squares on labels of -1 and +1, and the excess, being a ratio,
/// is the same for labels that are shifted and scaled.
class Comparison {
 public:
  Comparison(const Options& options, const zipml::Dataset& data)
      : options_(options),
        data_(data),
        objective_(data, zipml::SquaredLoss{}, zipml::L2(options.l2)),
        optimum_(*zipml::exact_solution(objective_)) {
    const zipml::Buffer<double> zero(data.cols);
    if (!zipml::excess(optimum_.value, optimum_.value, objective_(zero.span(), 0.0)))
      throw zipml::Error(zipml::Place{data.source},
                         "the exact optimum is 0, so that no excess over it means anything",
                         "labels that differ, and more rows than columns (or --l2)",
                         std::to_string(data.rows) + " rows, " + std::to_string(data.cols) + " columns");
  }

  std::vector<Row> rows() {
    std::vector<Row> rows;
    for (const double outliers : options_.outliers)
      for (const int bits : options_.bits)
        for (const std::string& levels : options_.levels) {
          for (const zipml::Representation& representation : representations(bits, outliers, levels)) {
            rows.push_back(row(representation, false));
            if (!serves_pilot(representation)) continue;
            Row with_pilot = row(representation, true);
            if (with_pilot.pilot.count > 0) rows.push_back(std::move(with_pilot));
          }
          std::fprintf(stderr, "compare_representations: %d bits, outliers %g, %s levels\n", bits, outliers,
                       levels.c_str());
        }
    return rows;
  }

  /// Without outliers: A'A/n + diag(dbar) against the matrix of one draw.
  std::vector<Bias> biases() {
    std::vector<Bias> result;
    Eigen::MatrixXd matrix;
    Eigen::VectorXd right;
    const auto samples = zipml::quantize<32>(data_, zipml::full_precision);
    zipml::Buffer<float> labels(data_.rows);
    for (Index i = 0; i < data_.rows; ++i)
      labels[i] = static_cast<float>(objective_.label(samples.row_id(i)));
    zipml::detail::realised_system(samples.samples(), zipml::full_precision, labels, matrix, right);
    for (const int bits : options_.bits) {
      const auto store = zipml::visit_bits(
          bits, [&](auto b) { return zipml::quantize<b()>(data_, zipml::variance_corrected); });
      Eigen::MatrixXd ridge = matrix;
      for (Index j = 0; j < data_.cols; ++j)
        ridge(j, j) += static_cast<double>(store.bias[j]) + static_cast<double>(options_.l2);
      const Eigen::VectorXd x = Eigen::CompleteOrthogonalDecomposition<Eigen::MatrixXd>(ridge).solve(right);
      const auto naive = *zipml::realised_solution(store, zipml::naive, objective_);
      zipml::Buffer<double> weights(data_.cols);
      double apart = 0.0;
      double away = 0.0;
      for (Index j = 0; j < data_.cols; ++j) {
        weights[j] = x(j);
        apart += std::pow(naive.weights[j] - x(j), 2.0);
        away += std::pow(optimum_.weights[j] - x(j), 2.0);
      }
      result.push_back({bits, excess(objective_(weights.span(), x(data_.cols))), excess(naive.value),
                        std::sqrt(apart / away)});
    }
    return result;
  }

  double optimum() const { return optimum_.value; }

  /// Excess of SGD on the samples in float32; 0 without epochs.
  double float32() const {
    if (options_.epochs == 0) return 0.0;
    const zipml::Sgd sgd{zipml::SquaredLoss{}, zipml::L2(options_.l2)};
    const auto fit = sgd.fit(zipml::quantize<32>(data_, zipml::full_precision), zipml::full_precision,
                             {.epochs = options_.epochs});
    return excess(objective_(fit.weights.span(), fit.intercept));
  }

 private:
  double excess(double value) const { return zipml::excess(value, optimum_.value); }

  /// The estimators that levels of this name serve. Lloyd-Max levels are the fitted ones of nearest rounding; means of
  /// draws are on no shared table.
  static std::vector<zipml::Representation> representations(int bits, double outliers,
                                                            const std::string& levels) {
    using zipml::EstimatorKind, zipml::LevelsKind, zipml::RoundingKind;
    const LevelsKind drawn = levels == "uniform"   ? LevelsKind::uniform
                             : levels == "optimal" ? LevelsKind::optimal
                                                   : LevelsKind::optimal_shared;
    const bool shared = drawn == LevelsKind::optimal_shared;
    std::vector<zipml::Representation> all;
    const auto add = [&](EstimatorKind estimator, LevelsKind kind, RoundingKind rounding) {
      all.push_back({estimator, bits, kind, rounding, outliers});
    };
    add(EstimatorKind::naive, drawn, RoundingKind::stochastic);
    if (!shared)
      add(EstimatorKind::naive, drawn == LevelsKind::uniform ? drawn : LevelsKind::lloyd_max,
          RoundingKind::nearest);
    add(EstimatorKind::double_sampling, drawn, RoundingKind::stochastic);
    if (!shared) add(EstimatorKind::sum_code, drawn, RoundingKind::stochastic);
    add(EstimatorKind::variance_corrected, drawn, RoundingKind::stochastic);
    return all;
  }

  /// Where a pilot is compared: with the two that need no more than their bits.
  static bool serves_pilot(const zipml::Representation& representation) {
    return representation.estimator == zipml::EstimatorKind::variance_corrected ||
           representation.rounding == zipml::RoundingKind::nearest;
  }

  template <class Estimator>
  double pilot_excess(const zipml::AnyStore& store) const {
    const auto anchor =
        zipml::anchor_for<Estimator>(store.samples().pilot, zipml::SquaredLoss{}, store.targets());
    zipml::Buffer<double> weights(data_.cols);
    for (Index j = 0; j < weights.size(); ++j) weights[j] = anchor.weight(j);
    return excess(objective_(weights.span(), anchor.intercept()));
  }

  Row row(const zipml::Representation& representation, bool pilot) {
    const bool is_nearest = representation.rounding == zipml::RoundingKind::nearest;
    Row result{.name = std::string(is_nearest ? "nearest" : zipml::to_string(representation.estimator)) +
                       (pilot ? " + pilot" : ""),
               .levels = zipml::to_string(representation.levels),
               .bits = representation.bits,
               .outliers = representation.outliers};
    const zipml::Sgd sgd{zipml::SquaredLoss{}, zipml::L2(options_.l2)};
    for (int seed = 1; seed <= options_.seeds; ++seed) {
      const zipml::AnyStore store =
          zipml::quantize(data_, representation,
                          {.seed = static_cast<std::uint64_t>(seed),
                           .pilot = pilot ? std::nullopt : std::optional<Index>(0)});
      result.stored_bits.add(store.samples().stored_bits);
      zipml::visit_estimator(representation.estimator, [&](auto estimator) {
        const auto from_pilot = zipml::pilot_solution(store, estimator, objective_);
        const auto solution =
            from_pilot ? from_pilot : zipml::realised_solution(store, estimator, objective_);
        if (from_pilot) result.pilot.add(pilot_excess<decltype(estimator)>(store));
        result.solved.add(excess(solution->value));
        result.indefinite += solution->definite ? 0 : 1;
        if (options_.epochs == 0) return;
        const auto fit = sgd.fit(store, estimator, {.epochs = options_.epochs});
        result.diverged += fit.success() ? 0 : 1;
        result.trained.add(excess(objective_(fit.weights.span(), fit.intercept)));
      });
    }
    return result;
  }

  const Options& options_;
  const zipml::Dataset& data_;
  zipml::Objective<zipml::SquaredLoss, zipml::L2> objective_;
  zipml::Optimum optimum_;
};

std::string percent(const Mean& mean) {
  if (mean.count == 0) return "-";
  char text[64];
  const double m = 100.0 * mean.mean();
  std::snprintf(text, sizeof text, std::fabs(m) < 1e4 ? "%.4f +- %.4f" : "%.1e +- %.0e", m,
                100.0 * mean.spread());
  return text;
}

void print(const std::vector<Row>& rows, const std::vector<Bias>& biases) {
  std::printf("%8s  %4s  %-26s  %-14s  %7s  %22s  %22s  %s\n", "outliers", "bits", "representation", "levels",
              "stored", "excess, solved (%)", "excess, SGD (%)", "of the seeds");
  for (const Row& r : rows) {
    std::printf("%8g  %4d  %-26s  %-14s  %7.3f  %22s  %22s", r.outliers, r.bits, r.name.c_str(),
                r.levels.c_str(), r.stored_bits.mean(), percent(r.solved).c_str(),
                percent(r.trained).c_str());
    if (r.pilot.count > 0) std::printf("  pilot itself %.4f %%", 100.0 * r.pilot.mean());
    if (r.indefinite > 0) std::printf("  %d indefinite", r.indefinite);
    if (r.diverged > 0) std::printf("  %d diverged", r.diverged);
    std::printf("\n");
  }
  std::printf(
      "\nThe bias of one draw (naive, no outliers): it solves ridge regression with the mean variance of the "
      "rounding "
      "as\npenalty. apart: distance between the two models over the distance of that ridge solution from the "
      "optimum.\n");
  std::printf("%4s  %18s  %18s  %8s\n", "bits", "ridge excess (%)", "naive excess (%)", "apart");
  for (const Bias& b : biases)
    std::printf("%4d  %18.4f  %18.4f  %8.4f\n", b.bits, 100 * b.ridge, 100 * b.naive, b.apart);
}

std::FILE* open_or_die(const std::string& path) {
  std::FILE* file = std::fopen(path.c_str(), "w");
  if (file == nullptr) throw zipml::Error(zipml::Place{path}, "cannot write", "a writable file", "none");
  return file;
}

void close_or_die(std::FILE* file, const std::string& path) {
  const bool good = std::ferror(file) == 0;
  if (std::fclose(file) != 0 || !good)
    throw zipml::Error(zipml::Place{path}, "cannot write", "space", "none left");
}

void write_csv(const std::string& path, const std::vector<Row>& rows) {
  std::FILE* file = open_or_die(path);
  std::fprintf(file,
               "representation,levels,bits,outliers,stored_bits,excess_solved,spread_solved,excess_sgd,"
               "spread_sgd,indefinite,"
               "diverged,seeds\n");
  for (const Row& r : rows)
    std::fprintf(file, "%s,%s,%d,%g,%.6g,%.6g,%.6g,%.6g,%.6g,%d,%d,%d\n", r.name.c_str(), r.levels.c_str(),
                 r.bits, r.outliers, r.stored_bits.mean(), r.solved.mean(), r.solved.spread(),
                 r.trained.count > 0 ? r.trained.mean() : NAN, r.trained.spread(), r.indefinite, r.diverged,
                 r.solved.count);
  close_or_die(file, path);
}

/// What the picture draws of a row: a family of representations, with its colour and symbol.
struct Family {
  const char* name;
  const char* representation;
  bool with_outliers, without;
  const char* colour;
  int symbol;
  bool has(const Row& r) const {
    return r.name == representation && (r.outliers > 0.0 ? with_outliers : without);
  }
};
constexpr Family families[] = {
    {"double sampling", "double-sampling", true, true, colour::blue, 9},
    {"sum code", "sum-code", true, true, colour::green, 5},
    {"variance-corrected", "variance-corrected", true, true, colour::vermilion, 6},
    {"nearest", "nearest", true, true, colour::black, 11},
    {"variance-corrected, with a pilot", "variance-corrected + pilot", true, true, colour::vermilion, 7}};

/// The lowest excess of a family at every width, in per cent against stored bits, over levels and shares of
/// outliers, of the rows whose draws were all definite. It ends with the first point below `floor`.
std::vector<Chart::Point> frontier(const std::vector<Row>& rows, const Family& family, double floor) {
  std::map<int, Chart::Point> best;
  for (const Row& r : rows) {
    if (!family.has(r) || r.indefinite > 0 || !std::isfinite(r.solved.mean())) continue;
    const Chart::Point point{r.stored_bits.mean(), 100.0 * std::max(r.solved.mean(), 1e-9)};
    const auto [at, added] = best.try_emplace(r.bits, point);
    if (!added && point.y < at->second.y) at->second = point;
  }
  std::vector<Chart::Point> points;
  for (const auto& [bits, point] : best) {
    points.push_back(point);
    if (point.y < floor) break;
  }
  return points;
}

/// The frontier of every family; `float32` is the excess in per cent that SGD on float32 has, or 0.
void write_svg(const std::string& path, const std::vector<Row>& rows, const std::string& title,
               double float32) {
  std::vector<Chart::Curve> curves;
  double low = float32 > 0.0 ? float32 : 0.1, high = 2.0;
  double left = rows.front().stored_bits.mean(), right = left;
  for (const Family& family : families) {
    Chart::Curve curve{family.name, family.colour, frontier(rows, family, float32), family.symbol,
                       std::string(family.name) == "variance-corrected"};
    for (const Chart::Point& p : curve.points) {
      low = std::min(low, p.y), high = std::max(high, p.y);
      left = std::min(left, p.x), right = std::max(right, p.x);
    }
    curves.push_back(std::move(curve));
  }
  Gnuplot picture(path, 820, 480);
  std::fprintf(
      picture.stream(),
      "set xlabel 'stored bits per value' offset 0,0.3 tc rgb '%s'\nset format y '%%g %%%%'\nset xtics 1\n",
      colour::grey);
  Chart chart(picture, {105.0, 70.0, 800.0, 425.0}, {left - 0.25, 0.5 * low, right + 0.4, 2.0 * high});
  chart.head(title, "excess over the exact optimum at the best levels and outliers, mean of " +
                        std::to_string(rows.front().solved.count) + " draws");
  chart.add_level(1.0, "1 %");
  chart.add_level(0.1, "0.1 %");
  if (float32 > 0.0) chart.add_level(float32, "excess of SGD on float32", true);
  for (Chart::Curve& curve : curves) chart.add(std::move(curve));
  chart.draw();
  picture.finish();
}

void compare(const Options& options, const zipml::Dataset& data) {
  Comparison comparison(options, data);
  std::printf(
      "%s: %td rows, %td columns, %s, l2 %g; optimum %.6g; %d seeds, %d epochs, %s "
      "kernels\n\n",
      data.source.c_str(), data.rows, data.cols, options.loss.c_str(), static_cast<double>(options.l2),
      comparison.optimum(), options.seeds, options.epochs, zipml::name_of(zipml::active_isa()));
  const auto rows = comparison.rows();
  print(rows, comparison.biases());
  const double float32 = 100.0 * comparison.float32();
  if (float32 > 0.0) std::printf("\nSGD on float32: excess %.4f %%\n", float32);
  if (!options.csv.empty()) write_csv(options.csv, rows);
  if (options.svg.empty()) return;
  const std::string title = std::filesystem::path(data.source).stem().string() + ": " +
                            std::to_string(data.rows) + " rows x " + std::to_string(data.cols) +
                            " columns, " + options.loss;
  write_svg(options.svg, rows, title, float32);
}

void run(const Options& options) {
  const bool svm = options.loss == "ls-svm";
  zipml::Dataset data;
  if (options.file.empty()) {
    const zipml::GeneratedOptions size{.rows = options.rows, .test_rows = 0};
    data = svm ? zipml::two_class(size).train : zipml::skewed(size).train;
  } else {
    data = load_table(options.file, options.table, "compare_representations");
    if (!svm && data.schema && !data.schema->classes.empty())
      throw zipml::Error(zipml::Place{data.source}, "the labels are text", "numbers, or --loss ls-svm",
                         "classes");
  }
  if (svm)  // says what is wrong with labels that are not two classes
    (void)zipml::LeastSquaresSvm{}.label_map(zipml::label_statistics(data.label_view()));
  compare(options, data);
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app{
      "Compares the representations of samples: excess over the exact optimum against stored bits.\n"
      "Without FILE on a generated set of 90 skewed, correlated columns."};
  app.set_version_flag("--version", std::string("compare_representations (zipml ") + ZIPML_VERSION + ")");
  app.option_defaults()->always_capture_default();
  app.add_option("FILE", options.file, "LIBSVM or CSV file, - for standard input");
  options.table.add_to(app, true);
  app.add_option("--loss", options.loss)->check(CLI::IsMember({"least-squares", "ls-svm"}));
  app.add_option("--rows", options.rows, "of the generated set")->check(CLI::Range(Index{2}, Index{1} << 32));
  app.add_option("--l2", options.l2, "penalty LAMBDA/2 |x|^2")->check(CLI::NonNegativeNumber);
  app.add_option("--bits", options.bits, "widths to compare")->check(CLI::Range(1, 8))->delimiter(',');
  app.add_option("--outliers", options.outliers, "shares of outliers to compare")
      ->check(CLI::Range(0.0, 0.49))
      ->delimiter(',');
  app.add_option(
         "--levels", options.levels,
         "levels to compare; optimal ones stand beside Lloyd-Max for nearest, shared are one table for "
         "all columns")
      ->check(CLI::IsMember({"uniform", "optimal", "shared"}))
      ->delimiter(',');
  app.add_option("--seeds", options.seeds, "draws of everything")->check(CLI::Range(1, 1000));
  app.add_option("--epochs", options.epochs, "of SGD; 0 solves only")->check(CLI::Range(0, 100'000));
  app.add_option("--csv", options.csv, "write the table to this file");
  app.add_option("--svg", options.svg,
                 "draw the lowest excess of every representation against stored bits, with gnuplot");
  return run_program("compare_representations", app, argc, argv, [&options] { run(options); });
}
