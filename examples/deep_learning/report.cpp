#include "report.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "../gnuplot.hpp"

namespace deep {

namespace {

std::string label_of(const Quantizer& quantizer) {
  return quantizer.name() + (quantizer.by_channel ? ", by channel" : "");
}

nlohmann::json number(double value) {
  return std::isfinite(value) ? nlohmann::json(value) : nlohmann::json();
}

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
std::unique_ptr<std::FILE, CloseFile> open(const std::string& path) {
  std::unique_ptr<std::FILE, CloseFile> file(std::fopen(path.c_str(), "w"));
  if (!file) throw zipml::Error(zipml::Place{path}, "cannot write", "a writable file", "none");
  return file;
}

/// The number of levels that pictures show: 5, or what there is.
int shown_levels(const std::vector<Row>& rows) {
  int shown = 0;
  for (const Row& row : rows)
    if (shown == 0 || row.quantizer.levels == 5) shown = std::max(shown, row.quantizer.levels);
  for (const Row& row : rows)
    if (row.quantizer.levels == 5) return 5;
  return shown;
}

const char* colour_of(Spacing spacing) {
  switch (spacing) {
    case Spacing::even_largest:
      return colour::vermilion;
    case Spacing::even_best:
    case Spacing::sign:
      return colour::purple;
    case Spacing::optimal_stochastic:
      return colour::grey;
    case Spacing::optimal_nearest:
      return colour::blue;
    case Spacing::lloyd_max:
      return colour::green;
    default:
      return colour::black;
  }
}

void draw_curves(const std::vector<Row>& rows, const std::string& path) {
  const int levels = shown_levels(rows);
  double low = INFINITY, high = 0.0;
  std::size_t epochs = 2;
  std::vector<const Row*> shown;
  for (const Row& row : rows) {
    if (row.quantizer.by_channel || row.losses.empty()) continue;
    if (row.quantizer.spacing != Spacing::none && row.quantizer.levels != levels) continue;
    shown.push_back(&row);
    for (const double loss : row.losses) low = std::min(low, loss), high = std::max(high, loss);
    epochs = std::max(epochs, row.losses.size());
  }
  if (shown.empty()) return;
  Gnuplot picture(path, 900, 560);
  // Room at the right for the names.
  const auto last = static_cast<double>(epochs);
  Chart chart(picture, {70.0, 50.0, 880.0, 480.0}, {1.0, 0.8 * low, 1.0 + 1.35 * (last - 1.0), 1.2 * high});
  std::fprintf(picture.stream(),
               "set xtics 1,%d,%zu\nset ytics (0.001,0.002,0.005,0.01,0.02,0.05,0.1,0.2,0.5,1,2,5,10)\n",
               epochs > 15 ? 5 : 1, epochs);
  chart.head("Training loss with " + std::to_string(levels) + " levels for the weights",
             "cross-entropy, by epoch");
  for (const Row* row : shown) {
    Chart::Curve curve{.name = row->quantizer.spacing == Spacing::none ? "32 bits" : row->quantizer.name(),
                       .colour = colour_of(row->quantizer.spacing)};
    for (std::size_t e = 0; e < row->losses.size(); ++e)
      curve.points.push_back({static_cast<double>(e + 1), row->losses[e]});
    chart.add(std::move(curve));
  }
  chart.draw();
  picture.finish();
}

/// The layer with the most weights.
std::size_t largest_layer(const std::vector<Parameters<float>*>& parameters) {
  std::size_t best = 0;
  for (std::size_t k = 0; k < parameters.size(); ++k)
    if (parameters[k]->value.size() > parameters[best]->value.size()) best = k;
  return best;
}

void draw_levels(const Run& full, const std::vector<Row>& rows, const std::string& path) {
  const std::vector<Parameters<float>*> parameters = full.trained->net.parameters();
  const Weights& weights = parameters[largest_layer(parameters)]->value;
  const std::span<const float> values(weights.data(), static_cast<std::size_t>(weights.size()));
  const auto largest = static_cast<double>(weights.cwiseAbs().maxCoeff());
  if (!(largest > 0.0)) return;
  constexpr std::size_t bins = 121;
  std::array<double, bins> density{};
  for (const float w : values) {
    const double at = (static_cast<double>(w) / largest + 1.0) / 2.0 * (bins - 1);
    density[static_cast<std::size_t>(std::lround(at))] += 1.0;
  }
  const double top = *std::max_element(density.begin(), density.end());
  const int levels = shown_levels(rows);
  std::vector<Quantizer> shown;
  for (const Row& row : rows)
    if (row.quantizer.levels == levels && !row.quantizer.by_channel && row.quantizer.spacing != Spacing::none)
      shown.push_back(row.quantizer);
  Gnuplot picture(path, 900, 560);
  std::FILE* const plot = picture.stream();
  const auto lines = static_cast<double>(shown.size());
  std::fprintf(
      plot,
      "set termoption font 'sans-serif,16'\nunset key\nset border 1\nunset ytics\nset xtics nomirror out\n"
      "set margins screen 0.24, screen 0.97, screen 0.1, screen 0.92\nset xrange [%g:%g]\nset yrange "
      "[%g:1.1]\n"
      "set label 'Weights of a layer trained in 32 bits, and where %d levels would lie' at screen "
      "0.22,0.96\n",
      -1.02 * largest, 1.02 * largest, -0.12 * lines - 0.06, levels);
  for (std::size_t k = 0; k < shown.size(); ++k)
    std::fprintf(plot, "set label %s at screen 0.23, first %g right noenhanced tc rgb '%s'\n",
                 Gnuplot::quoted(shown[k].name()).c_str(), -0.12 * static_cast<double>(k + 1),
                 colour_of(shown[k].spacing));
  std::fprintf(plot, "plot '-' using 1:2 with filledcurves y1=0 lc rgb '%s'", colour::light);
  for (const Quantizer& quantizer : shown)
    std::fprintf(plot, ", '-' using 1:2 with points pt 7 ps 1.1 lc rgb '%s'", colour_of(quantizer.spacing));
  std::fprintf(plot, "\n");
  for (std::size_t b = 0; b < bins; ++b)
    std::fprintf(plot, "%g %g\n", (2.0 * static_cast<double>(b) / (bins - 1) - 1.0) * largest,
                 density[b] / top);
  std::fprintf(plot, "e\n");
  for (std::size_t k = 0; k < shown.size(); ++k) {
    const LevelTable table =
        fit_levels(values, shown[k], shown[k].clips() ? best_clipping(values, shown[k]) : 0.0);
    for (const float level : table.values)
      std::fprintf(plot, "%g %g\n", static_cast<double>(level), -0.12 * static_cast<double>(k + 1));
    std::fprintf(plot, "e\n");
  }
  picture.finish();
}

/// Up to 16 filters of the first layer, side by side, of each net a line.
void draw_filters(const std::vector<const Run*>& nets, const std::string& path) {
  QuantizedNet& first = *nets.front()->trained;
  const Parameters<float>& p = *first.net.parameters().front();
  const Shape in = first.net.input();
  const bool is_dense = p.value.cols() == in.size();
  const Index channels = in.channels, pixels = p.value.cols() / channels;
  const Index width =
      is_dense ? in.width : static_cast<Index>(std::lround(std::sqrt(static_cast<double>(pixels))));
  const Index height = pixels / width, count = std::min<Index>(p.value.rows(), 16);
  Gnuplot picture(path, static_cast<int>(60 * count + 180),
                  static_cast<int>(70 * static_cast<Index>(nets.size()) + 40), "pngcairo");
  std::FILE* const plot = picture.stream();
  const Index all_width = count * (width + 1), line = height + 1;
  const Index all_height = line * static_cast<Index>(nets.size());
  std::fprintf(plot,
               "set termoption font 'sans-serif,12'\nunset key\nunset border\nunset xtics\nunset "
               "ytics\nunset colorbox\n"
               "set palette defined (-1 '%s', 0 'white', 1 '%s')\nset cbrange [-1:1]\n"
               "set margins screen 0, screen %g, screen 0.02, screen 0.98\nset xrange [-0.5:%g]\nset yrange "
               "[%g:-0.5]\n",
               colour::vermilion, colour::blue,
               60.0 * static_cast<double>(count) / (60.0 * static_cast<double>(count) + 180.0),
               static_cast<double>(all_width) - 0.5, static_cast<double>(all_height) - 0.5);
  for (std::size_t k = 0; k < nets.size(); ++k) {
    std::string name = nets[k]->quantizer.spacing == Spacing::none
                           ? "32 bits"
                           : nets[k]->quantizer.name() + " " + std::to_string(nets[k]->quantizer.levels);
    std::fprintf(plot, "set label %s at first %g, first %g left noenhanced\n", Gnuplot::quoted(name).c_str(),
                 static_cast<double>(all_width), static_cast<double>(line) * (static_cast<double>(k) + 0.45));
  }
  std::fprintf(plot, "plot '-' using 1:2:3 with image\n");
  for (std::size_t k = 0; k < nets.size(); ++k) {
    const Weights& used = nets[k]->trained->net.parameters().front()->used;
    for (Index y = 0; y < line; ++y)
      for (Index x = 0; x < all_width; ++x) {
        const Index filter = x / (width + 1), u = x % (width + 1);
        double value = 0.0;
        if (u < width && y < height) {
          const auto largest = static_cast<double>(used.row(filter).cwiseAbs().maxCoeff());
          for (Index c = 0; c < channels; ++c)
            value += static_cast<double>(used(filter, (y * width + u) * channels + c)) /
                     static_cast<double>(channels);
          value /= largest > 0.0 ? largest : 1.0;
        }
        std::fprintf(plot, "%td %td %g\n", x, static_cast<Index>(k) * line + y, value);
      }
  }
  std::fprintf(plot, "e\n");
  picture.finish();
}

}  // namespace

void print_table(const std::vector<Row>& rows, const std::vector<PackedReport>& packed,
                 const Circumstances& how) {
  std::printf(
      "%s, %td images to train on and %td to test, %s net, %d epochs of batches of %td, %d seed%s\n\n",
      how.set.c_str(), how.train, how.test, how.net.c_str(), how.epochs, how.batch, how.seeds,
      how.seeds == 1 ? "" : "s");
  std::printf("%-32s %6s %5s %10s %16s %8s %8s\n", "weights", "levels", "bits", "loss", "test accuracy",
              "s/epoch", "fitting");
  for (const Row& row : rows) {
    const bool full = row.quantizer.spacing == Spacing::none;
    char levels[16] = "-";
    if (!full) std::snprintf(levels, sizeof levels, "%d", row.quantizer.levels);
    std::printf("%-32s %6s %5.2f %10.4g %7.2f +- %4.2f %% %8.2f %6.2f %%", label_of(row.quantizer).c_str(),
                levels, row.quantizer.bits(), row.training_loss, 100.0 * row.test_accuracy,
                100.0 * row.deviation, row.seconds_per_epoch, 100.0 * row.fitting_share);
    if (row.diverged > 0) std::printf("  %d diverged", row.diverged);
    std::printf("\n");
  }
  std::printf("\nThe best of each kind, levels of a layer:\n");
  for (const Contest& contest : contests_of(rows)) {
    if (contest.even == nullptr || contest.optimal == nullptr) continue;
    std::printf("%6d levels: evenly spaced %.2f %% (%s), optimal %.2f %% (%s)", contest.levels,
                100.0 * contest.even->test_accuracy, contest.even->quantizer.name().c_str(),
                100.0 * contest.optimal->test_accuracy, contest.optimal->quantizer.name().c_str());
    if (contest.even_largest != nullptr)
      std::printf("; to the largest weight %.2f %%", 100.0 * contest.even_largest->test_accuracy);
    std::printf("\n");
  }
  bool head = false;
  for (std::size_t k = 0; k < rows.size(); ++k) {
    if (!packed[k].ran) continue;
    if (!head)
      std::printf(
          "\nDense layers on packed weights (%s, activations in 8 bits, 7 where levels are not evenly "
          "spaced), us an image:\n",
          packed[k].isa.c_str());
    head = true;
    std::printf(
        "%-24s %3d levels: %d bit%s, %.3g KB of %.3g; %.2f us, Eigen float32 %.2f one by one, %.2f in 256; "
        "same answers %.2f %%, accuracy %.2f %% (float %.2f)\n",
        label_of(rows[k].quantizer).c_str(), rows[k].quantizer.levels, packed[k].bits,
        packed[k].bits == 1 ? "" : "s", packed[k].bytes / 1024.0, packed[k].float_bytes / 1024.0,
        packed[k].us_packed, packed[k].us_eigen_one, packed[k].us_eigen, 100.0 * packed[k].same_answers,
        100.0 * packed[k].accuracy, 100.0 * packed[k].float_accuracy);
  }
}

void print_json(const std::vector<Run>& runs, const std::vector<Row>& rows,
                const std::vector<PackedReport>& packed, const Circumstances& how) {
  nlohmann::json all{{"program", "deep_learning"},
                     {"data", how.set},
                     {"net", how.net},
                     {"train_images", how.train},
                     {"test_images", how.test},
                     {"seeds", how.seeds},
                     {"epochs", how.epochs},
                     {"batch", how.batch},
                     {"step", how.step},
                     {"refit", how.refit},
                     {"gradient_bits", how.gradient_bits},
                     {"seconds", how.seconds}};
  all["runs"] = nlohmann::json::array();
  for (const Run& run : runs)
    all["runs"].push_back({{"quantizer", run.quantizer.name()},
                           {"levels", run.quantizer.levels},
                           {"bits", run.quantizer.bits()},
                           {"by_channel", run.quantizer.by_channel},
                           {"seed", run.seed},
                           {"diverged", run.diverged},
                           {"training_loss", run.diverged ? nlohmann::json() : number(run.training_loss)},
                           {"test_accuracy", run.diverged ? nlohmann::json() : number(run.test_accuracy)},
                           {"losses",
                            [&] {
                              nlohmann::json list = nlohmann::json::array();
                              for (const double loss : run.losses) list.push_back(number(loss));
                              return list;
                            }()},
                           {"accuracies", run.accuracies},
                           {"seconds_per_epoch", run.seconds_per_epoch()},
                           {"fitting_share", run.fitting_share()}});
  all["packed"] = nlohmann::json::array();
  for (std::size_t k = 0; k < rows.size(); ++k)
    if (const PackedReport& report = packed[k]; report.ran)
      all["packed"].push_back({{"quantizer", rows[k].quantizer.name()},
                               {"levels", rows[k].quantizer.levels},
                               {"isa", report.isa},
                               {"bits", report.bits},
                               {"bytes", report.bytes},
                               {"float_bytes", report.float_bytes},
                               {"same_answers", report.same_answers},
                               {"accuracy", report.accuracy},
                               {"float_accuracy", report.float_accuracy},
                               {"us_packed", report.us_packed},
                               {"us_eigen_one", report.us_eigen_one},
                               {"us_eigen", report.us_eigen}});
  std::printf("%s\n", all.dump(2).c_str());
}

void write_csv(const std::vector<Run>& runs, const std::vector<Row>& rows, const std::string& folder) {
  const auto table = open(folder + "/table.csv");
  std::fprintf(table.get(),
               "quantizer,by_channel,levels,bits,runs,diverged,training_loss,test_accuracy,deviation,"
               "seconds_per_epoch,fitting_share\n");
  for (const Row& row : rows)
    std::fprintf(table.get(), "%s,%d,%d,%.4f,%d,%d,%.6g,%.6f,%.6f,%.4f,%.5f\n", row.quantizer.name().c_str(),
                 row.quantizer.by_channel ? 1 : 0, row.quantizer.levels, row.quantizer.bits(), row.runs,
                 row.diverged, row.training_loss, row.test_accuracy, row.deviation, row.seconds_per_epoch,
                 row.fitting_share);
  const auto epochs = open(folder + "/runs.csv");
  std::fprintf(epochs.get(), "quantizer,by_channel,levels,seed,epoch,loss,test_accuracy\n");
  for (const Run& run : runs)
    for (std::size_t e = 0; e < run.losses.size(); ++e)
      std::fprintf(epochs.get(), "%s,%d,%d,%llu,%zu,%.6g,%.6f\n", run.quantizer.name().c_str(),
                   run.quantizer.by_channel ? 1 : 0, run.quantizer.levels,
                   static_cast<unsigned long long>(run.seed), e + 1, run.losses[e], run.accuracies[e]);
}

void draw_pictures(const std::vector<Run>& runs, const std::vector<Row>& rows, const std::string& folder) {
  draw_curves(rows, folder + "/curves.svg");
  const int levels = shown_levels(rows);
  std::vector<const Run*> nets;
  for (const Run& run : runs) {
    if (run.diverged || run.quantizer.by_channel || !run.trained) continue;
    if (run.quantizer.spacing != Spacing::none && run.quantizer.levels != levels) continue;
    const auto same = [&](const Run* other) { return other->quantizer == run.quantizer; };
    if (std::none_of(nets.begin(), nets.end(), same)) nets.push_back(&run);
  }
  if (nets.empty()) return;
  draw_filters(nets, folder + "/filters.png");
  if (nets.front()->quantizer.spacing == Spacing::none)
    draw_levels(*nets.front(), rows, folder + "/levels.svg");
}

}  // namespace deep
