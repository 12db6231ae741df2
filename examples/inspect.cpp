// Shows what is in a model file or a packed file. `inspect --help` tells the rest.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <numeric>
#include <string>
#include <vector>
#include <zipml/io/class_model_file.hpp>
#include <zipml/io/model_file.hpp>
#include <zipml/io/number.hpp>
#include <zipml/io/packed_file.hpp>
#include <zipml/model/losses.hpp>
#include <zipml/packing/pilot_loss.hpp>

#include "program.hpp"

namespace {

/// What a pilot is of.
std::string pilot_loss_of(const zipml::Pilot& pilot) {
  const auto is = [&](const auto& loss) { return pilot.loss == zipml::loss_fingerprint(loss); };
  if (pilot.loss == 0) return "affine losses";
  if (is(zipml::LogisticLoss{})) return zipml::LogisticLoss::name;
  if (is(zipml::SquaredHingeLoss{})) return zipml::SquaredHingeLoss::name;
  if (is(zipml::HuberLoss{})) return zipml::HuberLoss::name;
  return "another loss";
}

struct Options {
  std::string model_file;
  zipml::Index top = 0;
  std::string levels;  // column whose levels are drawn
  bool json = false;
};

std::vector<zipml::Index> by_size(const zipml::LinearModel& model) {
  std::vector<zipml::Index> order(static_cast<std::size_t>(model.cols()));
  std::iota(order.begin(), order.end(), zipml::Index{0});
  std::stable_sort(order.begin(), order.end(), [&](zipml::Index a, zipml::Index b) {
    return std::fabs(model.standardised_weight(a)) > std::fabs(model.standardised_weight(b));
  });
  return order;
}

std::string name_of(const zipml::LinearModel& model, zipml::Index j) {
  return model.schema ? model.schema->describe(j) : "feature " + std::to_string(j + 1);
}

void print_json(const Options& options, const zipml::LinearModel& model) {
  using Json = nlohmann::ordered_json;
  const auto text = [](const std::string& value) { return value.empty() ? Json(nullptr) : Json(value); };
  Json out = {{"kind", model.classifies ? "classifier" : "regression"},
              {"loss", text(model.loss)},
              {"label", text(model.schema ? model.schema->label_name : "")},
              {"classes", model.classifies
                              ? Json{model.label_text(model.low_label), model.label_text(model.high_label)}
                              : Json(nullptr)},
              {"representation", text(model.representation)},
              {"rows", model.rows},
              {"intercept", model.intercept},
              {"features", Json::array()}};
  for (const zipml::Index j : by_size(model)) {
    if (options.top > 0 && static_cast<zipml::Index>(out["features"].size()) == options.top) break;
    out["features"].push_back(
        {{"name", name_of(model, j)},
         {"weight", model.weights[j]},
         {"standardised", model.standardised_weight(j)},
         {"mean", model.means.empty() ? Json(nullptr) : Json(model.means[j])},
         {"deviation", model.deviations.empty() ? Json(nullptr) : Json(model.deviations[j])}});
  }
  std::printf("%s\n", out.dump(2, ' ', false, Json::error_handler_t::replace).c_str());
}

void print_text(const Options& options, const zipml::LinearModel& model) {
  const std::string label = model.schema ? model.schema->label_name : "";
  std::printf("%s%s%s", model.classifies ? "classifier" : "regression", label.empty() ? "" : " of ",
              label.empty() ? "" : zipml::quote_input(label).c_str());
  if (model.classifies)
    std::printf(", %s (below 0) or %s", model.label_text(model.low_label).c_str(),
                model.label_text(model.high_label).c_str());
  if (!model.loss.empty()) std::printf("; %s", model.loss.c_str());
  if (!model.representation.empty()) std::printf(" on %s", model.representation.c_str());
  if (model.rows > 0) std::printf(", %td rows", model.rows);
  std::printf("\n%s = %.6g + sum of weight * feature\n\n", model.classifies ? "margin" : "prediction",
              model.intercept);
  std::printf("%14s  %14s  %12s  %12s  %s\n", "weight", "standardised", "mean", "deviation", "feature");
  zipml::Index shown = 0;
  for (const zipml::Index j : by_size(model)) {
    if (options.top > 0 && shown++ == options.top) {
      std::printf("and %td more\n", model.cols() - options.top);
      break;
    }
    std::printf("%14.6g  %14.6g  ", model.weights[j], model.standardised_weight(j));
    if (model.means.empty())
      std::printf("%12s  %12s", "-", "-");
    else
      std::printf("%12.6g  %12.6g", model.means[j], model.deviations[j]);
    std::printf("  %s\n", name_of(model, j).c_str());
  }
}

/// The column of this name, or of this number from 1.
zipml::Index column_of(const std::string& word, const zipml::Schema& schema) {
  for (zipml::Index j = 0; j < schema.cols; ++j)
    if (schema.has_names() && schema.names[static_cast<std::size_t>(j)] == word) return j;
  const bool number =
      !word.empty() && word.size() < 16 && word.find_first_not_of("0123456789") == std::string::npos;
  const zipml::Index j = number ? std::stoll(word) - 1 : -1;
  if (j < 0 || j >= schema.cols)
    throw zipml::Error("there is no such column",
                       "a name or a number from 1 to " + std::to_string(schema.cols),
                       zipml::quote_input(word));
  return j;
}

/// The levels of a column over the density of its values: a line for each level, its share of the values, and a bar
/// as long as that share is dense, the share for the width that the level stands for.
void draw_levels(const Options& options, const zipml::SampleView& samples,
                 const zipml::Standardization& map) {
  const zipml::Index j = column_of(options.levels, *map.schema);
  if (samples.is_dense() || samples.levels.scales_rows())
    throw zipml::Error("the samples have no levels of columns", "samples of 1 to 8 bits, scaled by column",
                       samples.is_dense() ? "float32" : "scaled by row");
  struct Level {
    double value;
    zipml::Index count = 0;
  };
  std::vector<Level> levels;
  std::vector<std::size_t> of_code(std::size_t{1} << samples.layout.stored_bits, ~std::size_t{0});
  for (zipml::Index i = 0; i < samples.rows; ++i) {
    const auto code = static_cast<std::size_t>(samples.code(i, j));
    if (of_code[code] == ~std::size_t{0}) {
      of_code[code] = levels.size();
      levels.push_back({map.user_mean(j) + map.scale[j] * static_cast<double>(samples.levels.value(
                                                              0, j, static_cast<int>(code)))});
    }
    ++levels[of_code[code]].count;
  }
  std::sort(levels.begin(), levels.end(), [](const Level& a, const Level& b) { return a.value < b.value; });
  std::vector<double> density(levels.size());
  double most = 0.0;
  for (std::size_t k = 0; k < levels.size(); ++k) {
    const double below = k > 0 ? levels[k].value - levels[k - 1].value : 0.0;
    const double above = k + 1 < levels.size() ? levels[k + 1].value - levels[k].value : 0.0;
    const double width = k == 0 ? above : k + 1 == levels.size() ? below : 0.5 * (below + above);
    density[k] = static_cast<double>(levels[k].count) / (width > 0.0 ? width : 1.0);
    most = std::max(most, density[k]);
  }
  std::printf("%s: %zu levels are used, mean %.6g, deviation %.6g\n\n%14s  %9s  density\n",
              map.schema->describe(j).c_str(), levels.size(), map.user_mean(j), map.scale[j], "level",
              "share");
  for (std::size_t k = 0; k < levels.size(); ++k) {
    const auto length = static_cast<int>(60.0 * density[k] / most + 0.5);
    std::printf("%14.6g  %7.3f %%  %s\n", levels[k].value,
                100.0 * static_cast<double>(levels[k].count) / static_cast<double>(samples.rows),
                std::string(static_cast<std::size_t>(length), '#').c_str());
  }
  zipml::List<zipml::Outlier> found;
  zipml::Index outliers = 0;
  constexpr zipml::Index together = 4096;
  for (zipml::Index first = 0; first < samples.rows && !samples.outliers.empty(); first += together) {
    samples.outliers.find(first, std::min(together, samples.rows - first), found);
    for (const zipml::Outlier& outlier : found) outliers += outlier.column == j ? 1 : 0;
  }
  if (outliers > 0)
    std::printf("%14s  %7.3f %%  beyond these levels, kept exactly\n", "outliers",
                100.0 * static_cast<double>(outliers) / static_cast<double>(samples.rows));
}

/// What is in a packed file, and whether all of it is as it was written.
void show_packed(const Options& options) {
  const zipml::PackedFile file(options.model_file);  // verifies
  const zipml::SampleView samples = file.samples();
  const zipml::Standardization& map = file.standardization();
  const zipml::Schema& schema = *map.schema;
  if (!options.levels.empty()) return draw_levels(options, samples, map);
  const double ratio = 4.0 * static_cast<double>(samples.rows) * static_cast<double>(samples.cols) /
                       static_cast<double>(file.file_bytes());
  const auto column = [&](zipml::Index j, float& low, float& high) {
    const zipml::CodeLevels& levels = samples.levels;
    if (samples.is_dense() || levels.scales_rows()) return false;
    const int last = levels.tables != nullptr    ? levels.levels - 1
                     : levels.entries != nullptr ? levels.entry_count - 1
                     : samples.draws > 1         ? (1 << samples.bits) - 1
                                                 : (1 << samples.layout.stored_bits) - 1 -
                                               ((1 << (samples.layout.stored_bits - samples.bits)) - 1);
    low = levels.value(0, j, 0);
    high = levels.value(0, j, last);
    return true;
  };
  const zipml::Index shown = options.top > 0 && options.top < samples.cols ? options.top : samples.cols;
  if (options.json) {
    using Json = nlohmann::ordered_json;
    Json out = {
        {"kind", "packed samples"},
        {"representation", file.representation()},
        {"rows", samples.rows},
        {"cols", samples.cols},
        {"bits", samples.bits},
        {"draws", samples.draws},
        {"stored_bits", samples.stored_bits},
        {"outliers", samples.outliers.entries},
        {"pilot_loss", samples.pilot != nullptr ? Json(pilot_loss_of(*samples.pilot)) : Json(nullptr)},
        {"pilot_rows", samples.pilot != nullptr ? Json(samples.pilot->rows) : Json(nullptr)},
        {"weighted", samples.weights != nullptr},
        {"label", schema.label_name.empty() ? Json(nullptr) : Json(schema.label_name)},
        {"seed", file.seed()},
        {"bytes", file.file_bytes()},
        {"compression", ratio},
        {"verified", true},
        {"sections", Json::array()},
        {"features", Json::array()}};
    for (const auto& section : file.sections())
      out["sections"].push_back({{"kind", section.kind},
                                 {"name", file.name_of(section)},
                                 {"offset", section.offset},
                                 {"bytes", section.bytes}});
    for (zipml::Index j = 0; j < shown; ++j) {
      float low = 0.0f, high = 0.0f;
      const bool known = column(j, low, high);
      out["features"].push_back(
          {{"name", schema.describe(j)},
           {"mean", map.user_mean(j)},
           {"deviation", map.scale[j]},
           {"lowest_level",
            known ? Json(map.user_mean(j) + map.scale[j] * static_cast<double>(low)) : Json(nullptr)},
           {"highest_level",
            known ? Json(map.user_mean(j) + map.scale[j] * static_cast<double>(high)) : Json(nullptr)}});
    }
    std::printf("%s\n", out.dump(2, ' ', false, Json::error_handler_t::replace).c_str());
    return;
  }
  std::printf("%td rows, %td features%s%s, %s\n", samples.rows, samples.cols,
              schema.label_name.empty() ? "" : ", label ",
              schema.label_name.empty() ? "" : zipml::quote_input(schema.label_name).c_str(),
              file.representation().c_str());
  std::printf("%.3f stored bits a value, %td outliers, %s; seed %llu\n", samples.stored_bits,
              samples.outliers.entries,
              samples.pilot != nullptr ? ("pilot of " + std::to_string(samples.pilot->rows) + " rows for " +
                                          pilot_loss_of(*samples.pilot))
                                             .c_str()
                                       : "no pilot",
              static_cast<unsigned long long>(file.seed()));
  std::printf("%td bytes, %.2f times smaller than float32; all checksums are right\n\n", file.file_bytes(),
              ratio);
  for (const auto& section : file.sections())
    std::printf("%14llu bytes  %s\n", static_cast<unsigned long long>(section.bytes), file.name_of(section));
  std::printf("\n%12s  %12s  %12s  %12s  %s\n", "mean", "deviation", "lowest level", "highest", "feature");
  for (zipml::Index j = 0; j < shown; ++j) {
    float low = 0.0f, high = 0.0f;
    std::printf("%12.6g  %12.6g  ", map.user_mean(j), map.scale[j]);
    if (column(j, low, high))
      std::printf("%12.6g  %12.6g", map.user_mean(j) + map.scale[j] * static_cast<double>(low),
                  map.user_mean(j) + map.scale[j] * static_cast<double>(high));
    else
      std::printf("%12s  %12s", "-", "-");
    std::printf("  %s\n", schema.describe(j).c_str());
  }
  if (shown < samples.cols) std::printf("and %td more\n", samples.cols - shown);
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app{
      "Shows a model that train has saved: its weights in the user's units, the largest first as they would "
      "be on "
      "columns of deviation 1. Or what is in a packed file: shape, bits, bytes, columns and levels; its "
      "checksums are "
      "verified."};
  app.set_version_flag("--version", std::string("inspect (zipml ") + ZIPML_VERSION + ")");
  app.option_defaults()->always_capture_default();
  app.add_option("FILE", options.model_file,
                 "what train --save-model or pack has written; - for a model on standard input")
      ->required();
  app.add_option("--top", options.top, "only so many features; 0: all")
      ->check(CLI::Range(zipml::Index{0}, zipml::Index{1} << 40));
  app.add_option("--levels", options.levels,
                 "of a packed file: the levels of this column, a name or a number from 1, over the density "
                 "of its values")
      ->always_capture_default(false);
  app.add_flag("--json", options.json, "one JSON object");
  return run_program("inspect", app, argc, argv, [&] {
    if (zipml::is_packed_file(options.model_file)) return show_packed(options);
    if (zipml::is_class_model_file(options.model_file)) {
      const zipml::ClassModel classes = zipml::load_class_model(options.model_file);
      if (!options.json)
        std::printf(
            "%td classes, %s\n", classes.classes(),
            classes.is_joint() ? "a model for each, trained together" : "a model for each against the rest");
      for (zipml::Index k = 0; k < classes.classes(); ++k) {
        if (options.json) std::printf("%s", k == 0 ? "[\n" : ",\n");
        if (!options.json) std::printf("\nclass %s: ", classes.label_text(k).c_str());
        options.json ? print_json(options, classes[k]) : print_text(options, classes[k]);
      }
      if (options.json) std::printf("]\n");
      return;
    }
    const zipml::LinearModel model = zipml::load_model(options.model_file);
    options.json ? print_json(options, model) : print_text(options, model);
  });
}
