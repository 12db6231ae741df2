// Shows what is in a model file. `inspect --help` tells the rest.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <numeric>
#include <zipml/io/model_file.hpp>
#include <zipml/io/number.hpp>

#include "program.hpp"

namespace {

struct Options {
  std::string model_file;
  zipml::Index top = 0;
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

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app{
      "Shows a model that train has saved: its weights in the user's units, the largest first as they would "
      "be on "
      "columns of deviation 1."};
  app.set_version_flag("--version", std::string("inspect (zipml ") + ZIPML_VERSION + ")");
  app.option_defaults()->always_capture_default();
  app.add_option("MODEL", options.model_file, "what train --save-model has written; - for standard input")
      ->required();
  app.add_option("--top", options.top, "only so many features; 0: all")
      ->check(CLI::Range(zipml::Index{0}, zipml::Index{1} << 40));
  app.add_flag("--json", options.json, "one JSON object");
  return run_program("inspect", app, argc, argv, [&] {
    const zipml::LinearModel model = zipml::load_model(options.model_file);
    options.json ? print_json(options, model) : print_text(options, model);
  });
}
