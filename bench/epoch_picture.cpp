// The picture of epoch_bench: values per ns against stored bits, one curve per instruction set, from memory
// under the wall that its bandwidth is, and from the second-level cache.
//
//     cmake --build build --target epoch_picture
//         runs epoch_bench (ZIPML_BENCH_MB as there), writes build/epochs.json, epochs.csv and epochs.svg
//     build/bench/draw_epochs FILE --svg FILE
//         draws what epoch_bench wrote by --benchmark_out=FILE --benchmark_out_format=json
//
// Per instruction set and width the fastest run counts, over batches and repetitions: of the integer kernels
// (/int8) at 1 to 8 bits, of the float kernels at 32.

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <regex>
#include <string>
#include <system_error>
#include <vector>
#include <zipml/base/error.hpp>

#include "gnuplot.hpp"
#include "program.hpp"

namespace {

using Json = nlohmann::json;

struct Options {
  std::string json;
  std::string svg;
  std::string csv;
  long columns = 1024;
};

struct Run {
  std::string batch;
  bool integers = false;
  double stored_bits = 0.0;
  double values_per_ns = 0.0;
  double gb_per_s = 0.0;
};

/// The best run of every width, of one instruction set.
struct Line {
  std::string isa;
  std::map<int, Run> runs;
};

/// Lines in the order of the file.
struct Panel {
  const char* where;
  const char* title;
  std::vector<Line> lines{};

  Line& line(const std::string& isa) {
    const auto found =
        std::find_if(lines.begin(), lines.end(), [&isa](const Line& l) { return l.isa == isa; });
    return found != lines.end() ? *found : lines.emplace_back(Line{isa, {}});
  }
};

struct Measured {
  Panel memory{.where = "memory", .title = "epochs from memory"};
  Panel cache{.where = "cache", .title = "epochs from the second-level cache"};
  double read_gb_per_s = NAN;

  double wall(double stored_bits) const { return read_gb_per_s * 8.0 / stored_bits; }
};

Json read_benchmarks(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw zipml::Error(zipml::Place{path}, "cannot open: " + std::generic_category().message(errno));
  const std::string format = "what epoch_bench writes with --benchmark_out_format=json";
  try {
    return Json::parse(file).at("benchmarks").get<Json::array_t>();
  } catch (const Json::parse_error& error) {
    throw zipml::Error(zipml::Place{path}, "is not JSON", format,
                       "an error at byte " + std::to_string(error.byte));
  } catch (const std::ios_base::failure& error) {
    throw zipml::Error(zipml::Place{path}, "cannot read: " + error.code().message());
  } catch (const Json::exception&) {
    throw zipml::Error(zipml::Place{path}, "has no list of benchmarks", format, "other JSON");
  }
}

double counter(const Options& options, const Json& entry, const char* name) {
  const auto found = entry.find(name);
  if (found == entry.end() || !found->is_number() || !(found->get<double>() > 0.0))
    throw zipml::Error(zipml::Place{options.json},
                       std::string(name) + " of " + entry["name"].get<std::string>(), "a positive number",
                       found == entry.end() ? "none" : found->dump());
  return found->get<double>();
}

Measured read(const Options& options) {
  // Google Benchmark's additions. The aggregates of repetitions end with _mean and the like, and match
  // nothing.
  const std::string additions = "(/(min_time|min_warmup_time|iterations|repeats):[0-9.]+|/manual_time)*";
  const std::string d = "/d:" + std::to_string(options.columns);
  const std::regex epoch("(epoch|cached)/([a-z0-9-]+)/([1-8]|32)" + d + "/batch:([0-9]+)(/int8)?" +
                         additions);
  const std::regex reading("read" + d + additions);

  const Json benchmarks = read_benchmarks(options.json);
  Measured measured;
  for (const Json& entry : benchmarks) {
    const auto found = entry.find("name");
    if (found == entry.end() || !found->is_string() || entry.value("error_occurred", Json(false)) == true)
      continue;
    const auto name = found->get<std::string>();
    std::smatch part;
    if (std::regex_match(name, reading)) {
      measured.read_gb_per_s = std::fmax(measured.read_gb_per_s, counter(options, entry, "packed_gb_per_s"));
    } else if (std::regex_match(name, part, epoch)) {
      const bool cached = part.str(1) == "cached";
      const int bits = std::stoi(part.str(3));
      const bool integers = part[5].matched;
      // In cache a run with the float model will do where there is none of integers.
      if (bits == 32 ? integers : !integers && !cached) continue;
      const Run run{.batch = part.str(4),
                    .integers = integers,
                    .stored_bits = counter(options, entry, "stored_bits"),
                    .values_per_ns = counter(options, entry, "values_per_ns"),
                    .gb_per_s = counter(options, entry, "packed_gb_per_s")};
      Run& best = (cached ? measured.cache : measured.memory).line(part.str(2)).runs[bits];
      if (run.integers == best.integers ? run.values_per_ns > best.values_per_ns : run.integers) best = run;
    }
  }
  if (measured.memory.lines.empty() && measured.cache.lines.empty())
    throw zipml::Error(zipml::Place{options.json}, "has no runs to draw",
                       "epoch/ISA/BITS" + d + "/batch:B, with /int8 at 1 to 8 bits",
                       std::to_string(benchmarks.size()) + " benchmarks of other names");
  if (!measured.memory.lines.empty() && std::isnan(measured.read_gb_per_s))
    std::fprintf(stderr, "draw_epochs: %s: has no run read%s, so the memory wall is left out\n",
                 options.json.c_str(), d.c_str());
  return measured;
}

void write_csv(const std::string& path, const Measured& measured) {
  std::FILE* file = path.empty() ? stdout : std::fopen(path.c_str(), "w");
  if (file == nullptr) throw zipml::Error(zipml::Place{path}, "cannot write", "a writable file", "none");
  std::fprintf(file, "where,isa,bits,stored_bits,batch,values_per_ns,packed_gb_per_s,wall_values_per_ns\n");
  for (const Panel* panel : {&measured.memory, &measured.cache})
    for (const Line& line : panel->lines)
      for (const auto& [bits, run] : line.runs) {
        std::fprintf(file, "%s,%s,%d,%.6g,%s,%.6g,%.6g,", panel->where, line.isa.c_str(), bits,
                     run.stored_bits, run.batch.c_str(), run.values_per_ns, run.gb_per_s);
        const double wall = measured.wall(run.stored_bits);
        if (panel == &measured.memory && !std::isnan(wall)) std::fprintf(file, "%.6g", wall);
        std::fprintf(file, "\n");
      }
  if (file == stdout) return;
  const bool good = std::ferror(file) == 0;
  if (std::fclose(file) != 0 || !good)
    throw zipml::Error(zipml::Place{path}, "cannot write", "space", "none left");
}

/// One panel: integers at 1 to 8 bits as a curve, float32 as a point of its own. In cache there is no wall.
void plot_panel(Chart& chart, const Panel& panel, double read_gb_per_s) {
  struct Style {
    const char* isa;
    const char* name;
    const char* colour;
    int symbol;
  };
  constexpr Style styles[] = {{"scalar", "scalar", colour::grey, 5},
                              {"avx2", "AVX2", colour::blue, 9},
                              {"avx-vnni", "AVX-VNNI", colour::green, 11},
                              {"avx512", "AVX-512", colour::vermilion, 7},
                              {"eigen-native", "Eigen loop", colour::black, 2}};
  if (!std::isnan(read_gb_per_s)) {
    char name[64];
    std::snprintf(name, sizeof name, "memory bandwidth, %.3g GB/s", read_gb_per_s);
    chart.add({.name = name,
               .colour = colour::black,
               .points = {{1.0, read_gb_per_s * 8.0}, {32.0, read_gb_per_s * 8.0 / 32.0}},
               .symbol = 0,
               .dashed = true});
  }
  for (auto at = panel.lines.rbegin(); at != panel.lines.rend(); ++at) {  // Eigen, the first one, on top
    const Line& line = *at;
    const auto* const style =
        std::find_if(std::begin(styles), std::end(styles), [&](const Style& s) { return line.isa == s.isa; });
    const bool known = style != std::end(styles);
    Chart::Curve integers{known ? style->name : line.isa,
                          known ? style->colour : colour::purple,
                          {},
                          known ? style->symbol : 13};
    Chart::Curve float32 = integers;
    for (const auto& [bits, run] : line.runs)
      (bits == 32 ? float32 : integers).points.push_back({run.stored_bits, run.values_per_ns});
    if (!integers.points.empty()) float32.name.clear();
    chart.add(std::move(integers));
    chart.add(std::move(float32));
  }
  chart.draw();
}

/// The panels share their axes, so that heights compare.
void write_svg(const std::string& path, const Measured& measured, long columns) {
  std::vector<const Panel*> panels;
  double low = INFINITY;
  double high = 0.0;
  const auto include = [&](double value) {
    low = std::fmin(low, value);
    high = std::fmax(high, value);
  };
  for (const Panel* panel : {&measured.memory, &measured.cache}) {
    if (panel->lines.empty()) continue;
    panels.push_back(panel);
    for (const Line& line : panel->lines)
      for (const auto& [bits, run] : line.runs) include(run.values_per_ns);
  }
  if (!measured.memory.lines.empty()) {
    include(measured.wall(1.0));
    include(measured.wall(32.0));
  }
  Gnuplot picture(path, 960, 500);
  std::fprintf(picture.stream(),
               "set multiplot\nset xtics (1, 2, 3, 4, '' 5, 6, '' 7, 8, 'float32' 32)\nset format y '%%g'\n"
               "set xlabel 'stored bits per value' offset 0,0.3 tc rgb '%s'\n",
               colour::grey);
  const double width = picture.width() / static_cast<double>(panels.size());
  for (std::size_t k = 0; k < panels.size(); ++k) {
    const double left = width * static_cast<double>(k);
    Chart chart(picture, {left + 60.0, 70.0, left + width - 25.0, 445.0}, {0.9, low / 1.3, 36.0, high * 1.6},
                true);
    chart.head(panels[k]->title, "values per ns, " + std::to_string(columns) + " columns");
    plot_panel(chart, *panels[k], panels[k] == &measured.memory ? measured.read_gb_per_s : NAN);
  }
  std::fprintf(picture.stream(), "unset multiplot\n");
  picture.finish();
}

void run(const Options& options) {
  const Measured measured = read(options);
  write_csv(options.csv, measured);
  if (!options.svg.empty()) write_svg(options.svg, measured, options.columns);
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app{"Draws the epochs that epoch_bench measured: values per ns against stored bits."};
  app.set_version_flag("--version", std::string("draw_epochs (zipml ") + ZIPML_VERSION + ")");
  app.option_defaults()->always_capture_default();
  app.add_option("JSON", options.json, "what epoch_bench wrote with --benchmark_out_format=json")->required();
  app.add_option("--svg", options.svg, "draw the picture, with gnuplot");
  app.add_option("--csv", options.csv, "write the table to this file (standard output)");
  app.add_option("--columns", options.columns, "of the runs to draw")->check(CLI::Range(1L, 1L << 32));
  return run_program("draw_epochs", app, argc, argv, [&options] { run(options); });
}
