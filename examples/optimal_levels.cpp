// Where should the levels of a column lie? Fits uniform, variance-optimal and Lloyd-Max levels to one column
// of a file, or of a generated set, prints the tables and what they cost, and draws them under the column's
// density.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>
#include <zipml/zipml.hpp>

#include "gnuplot.hpp"
#include "program.hpp"
#include "table_options.hpp"

namespace {

using zipml::Index;

struct Options {
  std::string file;
  TableOptions table;
  std::string column;
  Index rows = 200'000;
  int bits = 3;
  double outliers = 0.0;
  bool zero = false;
  std::string svg;
};

struct Column {
  std::string name;
  std::vector<float> values;  // sorted
};

/// One table of levels and what rounding to it costs, as a share of the column's variance.
struct Table {
  std::string name;
  std::vector<double> levels;
  double variance = NAN;       // of stochastic rounding; none where values lie outside of the levels
  double squared_error = 0.0;  // of nearest rounding
};

Column pick_column(const zipml::Dataset& data, const Options& options) {
  Index j = -1;
  const std::string& wanted = options.column;
  for (std::size_t k = 0; k < data.column_names().size(); ++k)
    if (data.column_names()[k] == wanted) j = static_cast<Index>(k);
  const bool is_label = !wanted.empty() && j < 0 && (wanted == "label" || wanted == data.label_name());
  if (j < 0 && !is_label) {
    if (wanted.empty()) {
      j = std::min<Index>(3, data.cols - 1);  // of the generated set: a heavy tail
    } else {
      char* end = nullptr;
      const long number = std::strtol(wanted.c_str(), &end, 10);
      if (*end == '\0' && number >= 1 && number <= data.cols) j = number - 1;
    }
    if (j < 0)
      throw zipml::Error(zipml::Place{data.source}, "there is no such column",
                         "a name, a number from 1 to " + std::to_string(data.cols) + ", or label",
                         "'" + wanted + "'");
  }
  Column column;
  column.name = is_label                      ? "the label"
                : data.column_names().empty() ? "column " + std::to_string(j + 1)
                                              : data.column_names()[static_cast<std::size_t>(j)];
  for (Index i = 0; i < data.rows; ++i)
    column.values.push_back(is_label ? data.labels[i] : data.features()(i, j));
  zipml::require_finite({column.values.data(), data.rows, 1, 1}, column.name.c_str());
  std::sort(column.values.begin(), column.values.end());
  return column;
}

/// Both costs by their definition.
void measure(Table& table, const std::vector<float>& values, double variance_of_column) {
  const std::vector<double>& levels = table.levels;
  double variance = 0.0;
  double error = 0.0;
  std::size_t k = 0;
  for (const float value : values) {
    const auto x = static_cast<double>(value);
    while (k + 1 < levels.size() && levels[k + 1] < x) ++k;
    const double below = x - levels[k];
    const double above = k + 1 < levels.size() ? levels[k + 1] - x : below;
    variance += below * above;
    error += std::min(below * below, above * above);
  }
  const double whole = variance_of_column * static_cast<double>(values.size());
  const bool spans = levels.front() <= static_cast<double>(values.front()) &&
                     static_cast<double>(values.back()) <= levels.back();
  table.variance = !spans ? NAN : whole > 0.0 ? variance / whole : 0.0;
  table.squared_error = whole > 0.0 ? error / whole : 0.0;
}

Table uniform(const std::vector<float>& values, int bits, double variance_of_column) {
  Table table{.name = "uniform", .levels = {}};
  const zipml::UniformGrid grid(values.front(), values.back(), 1 << bits);
  for (int k = 0; k < grid.count(); ++k) table.levels.push_back(static_cast<double>(grid.value(k)));
  table.levels.back() = static_cast<double>(values.back());  // the grid ends there up to float32 rounding
  table.levels.erase(std::unique(table.levels.begin(), table.levels.end()), table.levels.end());
  measure(table, values, variance_of_column);
  return table;
}

/// The column's density, and the tables as rows of marks below it.
void draw(const std::string& path, const Column& column, const std::vector<Table>& tables, int bits) {
  Gnuplot picture(path);
  std::FILE* plot = picture.stream();
  const auto low = static_cast<double>(column.values.front());
  const auto high = static_cast<double>(column.values.back());
  constexpr int bins = 240;
  const double width = high > low ? (high - low) / bins : 1.0;
  std::vector<double> density(bins);
  for (const float value : column.values) {
    const auto bin = static_cast<int>((static_cast<double>(value) - low) / width);
    density[static_cast<std::size_t>(std::min(bin, bins - 1))] +=
        1.0 / (static_cast<double>(column.values.size()) * width);
  }
  std::fprintf(plot,
               "set multiplot\n"
               "set lmargin 14\nset rmargin 3\nset xrange [%g:%g]\nset grid x\nunset key\n"
               "set title %s noenhanced\nset origin 0,0.38\nset size 1,0.62\nset logscale y\n"
               "set ylabel 'density'\nset format y '%%g'\nset style fill solid 0.5\nset boxwidth %g\nplot "
               "'-' using 1:2 with boxes lc rgb '#56b4e9'\n",
               low - 2 * width, high + 2 * width,
               Gnuplot::quoted(column.name + ", " + std::to_string(bits) + " bits").c_str(), width);
  for (int b = 0; b < bins; ++b)
    if (density[static_cast<std::size_t>(b)] > 0.0)
      std::fprintf(plot, "%.9g %.9g\n", low + (b + 0.5) * width, density[static_cast<std::size_t>(b)]);
  std::fprintf(plot,
               "e\nunset title\nunset logscale\nunset ylabel\nunset format\nset origin 0,0\nset size "
               "1,0.4\nset yrange [-0.5:%g]\n"
               "set ytics (",
               static_cast<double>(tables.size()) - 0.5);
  for (std::size_t t = 0; t < tables.size(); ++t)
    std::fprintf(plot, "%s'%s' %zu", t > 0 ? ", " : "", tables[t].name.c_str(), tables.size() - 1 - t);
  std::fprintf(plot,
               ")\nset xlabel 'value'\nplot '-' using 1:2 with points pt 2 ps 0.9 lw 2 lc rgb '#d55e00'\n");
  for (std::size_t t = 0; t < tables.size(); ++t)
    for (const double level : tables[t].levels)
      std::fprintf(plot, "%.9g %zu\n", level, tables.size() - 1 - t);
  std::fprintf(plot, "e\nunset multiplot\n");
  picture.finish();
}

void run(const Options& options) {
  zipml::Dataset data;
  if (options.file.empty()) {
    data = zipml::skewed({.rows = options.rows, .test_rows = 0}).train;
  } else {
    data = load_table(options.file, options.table, "optimal_levels");
  }
  Column column = pick_column(data, options);
  const auto all = static_cast<Index>(column.values.size());
  if (options.outliers > 0.0) {
    const zipml::Range range = zipml::clipping_ranges({column.values.data(), all, 1, 1}, options.outliers)[0];
    std::erase_if(column.values, [range](float v) { return v < range.min || v > range.max; });
  }
  const std::vector<float>& values = column.values;
  const zipml::ColumnStatistics statistics =
      zipml::column_statistics({values.data(), static_cast<Index>(values.size()), 1, 1})[0];
  const double variance = statistics.deviation * statistics.deviation;
  const auto distinct =
      std::adjacent_find(values.begin(), values.end()) == values.end() ? values.size() : [&] {
        std::vector<float> once = values;
        once.erase(std::unique(once.begin(), once.end()), once.end());
        return once.size();
      }();
  std::printf("%s of %s: %zu values, %zu distinct, %g to %g, mean %g, deviation %g", column.name.c_str(),
              data.source.c_str(), values.size(), distinct, static_cast<double>(values.front()),
              static_cast<double>(values.back()), statistics.mean, statistics.deviation);
  if (options.outliers > 0.0)
    std::printf(", %zu outliers kept aside", static_cast<std::size_t>(all) - values.size());

  const Index count = Index{1} << options.bits;
  zipml::ValueHistogram histogram;  // places zero among the candidates
  const zipml::LevelCandidates points = zipml::LevelCandidates::of_values(values);
  std::vector<Table> tables{uniform(values, options.bits, variance)};
  const auto add = [&](const char* name, const zipml::FoundLevels& found) {
    tables.push_back({.name = name, .levels = {found.levels.begin(), found.levels.end()}});
    measure(tables.back(), values, variance);
  };
  if (options.zero) {
    histogram.add(values.data(), static_cast<Index>(values.size()));
    const zipml::LevelCandidates with_zero = histogram.candidates(true);
    add("optimal", zipml::find_optimal_levels_through(with_zero, count, with_zero.find(0.0)));
  } else {
    add("optimal", zipml::find_optimal_levels(points, count));
  }
  add("lloyd-max", zipml::find_lloyd_max_levels(points, count));

  std::printf("\n\n%d bits, costs in %% of the column's variance\n%-10s  %22s  %22s\n", options.bits,
              "levels", "stochastic, variance", "nearest, squared error");
  for (const Table& table : tables)
    std::isnan(table.variance)
        ? std::printf("%-10s  %22s  %22.4f\n", table.name.c_str(), "-", 100.0 * table.squared_error)
        : std::printf("%-10s  %22.4f  %22.4f\n", table.name.c_str(), 100.0 * table.variance,
                      100.0 * table.squared_error);
  int bits = options.bits;
  while (bits < 12 && uniform(values, bits, variance).variance > tables[1].variance) ++bits;
  if (bits > options.bits)
    std::printf("\nUniform levels need %d bits for the variance of %d optimal ones: %.2f times the data.\n",
                bits, options.bits, static_cast<double>(bits) / options.bits);
  for (const Table& table : tables) {
    std::printf("\n%s:", table.name.c_str());
    for (const double level : table.levels) std::printf(" %.6g", level);
  }
  std::printf("\n");
  if (!options.svg.empty()) draw(options.svg, column, tables, options.bits);
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app{
      "Fits uniform, variance-optimal and Lloyd-Max levels to a column.\n"
      "Without FILE to one of a generated set of 90 skewed, correlated columns."};
  app.set_version_flag("--version", std::string("optimal_levels (zipml ") + ZIPML_VERSION + ")");
  app.option_defaults()->always_capture_default();
  app.add_option("FILE", options.file, "LIBSVM or CSV file, - for standard input");
  app.add_option("--column", options.column, "name, number from 1, or label (the 4th, or the last)");
  options.table.add_to(app, true);
  app.add_option("--rows", options.rows, "of the generated set")->check(CLI::Range(Index{2}, Index{1} << 28));
  app.add_option("--bits", options.bits, "log2 of the number of levels")->check(CLI::Range(1, 8));
  app.add_option("--outliers", options.outliers,
                 "share of the values, at most, that is left to a sparse structure")
      ->check(CLI::Range(0.0, 0.49));
  app.add_flag("--zero", options.zero, "one of the optimal levels is 0");
  app.add_option("--svg", options.svg, "draw density and levels, with gnuplot");
  app.callback([&options] {
    if (options.zero && options.bits < 2)
      throw CLI::ValidationError("--zero needs a level more: --bits 2 or more");
  });
  return run_program("optimal_levels", app, argc, argv, [&options] { run(options); });
}
