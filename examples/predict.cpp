// Predicts the rows of a file with a saved model. `predict --help` tells the rest.

#include <cstdio>
#include <nlohmann/json.hpp>
#include <zipml/analysis/predict.hpp>
#include <zipml/analysis/predict_classes.hpp>
#include <zipml/io/class_model_file.hpp>
#include <zipml/io/load.hpp>
#include <zipml/io/model_file.hpp>
#include <zipml/io/npy.hpp>
#include <zipml/io/output_file.hpp>

#include "program.hpp"
#include "table_options.hpp"

namespace {

struct Options {
  std::string model_file;
  std::string file;
  std::string output;
  std::string id;
  bool json = false;
  TableOptions table;
};

/// A field of a CSV line: in quotes where it holds what separates.
std::string csv_field(const std::string& text) {
  if (text.find_first_of(",\"\n\r") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + '"';
}

/// A line for each row: its id, if asked for, what is predicted, and for classes the margin, whose sign decides.
std::string csv_of(const Options& options, const zipml::LinearModel& model, const zipml::Dataset& data) {
  const zipml::Buffer<double> margins = zipml::margins(model, data.features());
  const bool numbered = options.id.find_first_not_of("0123456789") == std::string::npos;
  std::string text = options.id.empty() ? std::string() : csv_field(numbered ? "id" : options.id) + ",";
  text += "prediction";
  if (model.classifies) text += ",margin";
  if (model.has_probabilities()) text += ",probability of " + model.label_text(model.high_label);
  text += "\n";
  for (zipml::Index i = 0; i < margins.size(); ++i) {
    if (!data.ids.empty()) text += csv_field(data.ids[static_cast<std::size_t>(i)]) + ",";
    text += csv_field(model.label_text(model.label_of(margins[i])));
    if (model.classifies) text += "," + zipml::number_text(margins[i]);
    if (model.has_probabilities())
      text += "," + zipml::number_text(zipml::LinearModel::probability_of(margins[i]));
    text += "\n";
  }
  return text;
}

/// The same for several classes: what is predicted, then a number for each class.
std::string csv_of(const Options& options, const zipml::ClassModel& model, const zipml::Dataset& data) {
  const bool likely = model.has_probabilities();
  const zipml::ClassNumbers numbers =
      likely ? zipml::probabilities(model, data.features()) : zipml::margins(model, data.features());
  const bool numbered = options.id.find_first_not_of("0123456789") == std::string::npos;
  std::string text = options.id.empty() ? std::string() : csv_field(numbered ? "id" : options.id) + ",";
  text += "prediction";
  for (zipml::Index k = 0; k < model.classes(); ++k)
    text += "," + csv_field((likely ? "probability of " : "margin of ") + model.label_text(k));
  text += "\n";
  for (zipml::Index i = 0; i < numbers.rows; ++i) {
    if (!data.ids.empty()) text += csv_field(data.ids[static_cast<std::size_t>(i)]) + ",";
    text += csv_field(model.label_text(numbers.largest(i)));
    for (zipml::Index k = 0; k < model.classes(); ++k) (text += ',') += zipml::number_text(numbers[i][k]);
    text += "\n";
  }
  return text;
}

void run(const Options& options) {
  if (!options.output.empty() && options.output != "-") {
    for (const std::string* input : {&options.model_file, &options.file})
      if (zipml::is_same_file(options.output, *input))
        throw zipml::Error(zipml::Place{options.output}, "would be replaced, and is read",
                           "another file to write to", *input);
    zipml::require_writable(options.output);
  }
  // One model, or one for each of several classes.
  std::optional<zipml::ClassModel> classes;
  if (zipml::is_class_model_file(options.model_file)) classes = zipml::load_class_model(options.model_file);
  const zipml::LinearModel model = classes ? (*classes)[0] : zipml::load_model(options.model_file);
  zipml::LoadOptions load = options.table.load_options();
  load.like = model.schema;
  load.predicting = true;
  load.id = options.id;
  const zipml::Dataset data = zipml::load(options.file, load);
  for (const std::string& warning : data.warnings)
    std::fprintf(stderr, "predict: warning: %s: %s\n", data.source.c_str(), warning.c_str());

  zipml::Index labelled = 0;
  if (data.has_labels)
    for (const float y : data.labels) labelled += y == y ? 1 : 0;
  std::optional<zipml::Metrics> metrics;
  if (labelled > 0 && classes) {
    const zipml::ClassMetrics of_classes = zipml::evaluate(*classes, data);
    metrics = zipml::Metrics{.rows = of_classes.rows,
                             .rmse = 0.0,
                             .r_squared = std::nullopt,
                             .accuracy = of_classes.accuracy,
                             .auc = std::nullopt,
                             .deviance = std::nullopt,
                             .log_loss = of_classes.log_loss};
  } else if (labelled > 0) {
    metrics = zipml::evaluate(model, data);
  }

  const std::string& output = options.output;
  if (output.size() > 4 && output.compare(output.size() - 4, 4, ".npy") == 0) {
    const zipml::Buffer<double> numbers = classes            ? zipml::predict(*classes, data.features())
                                          : model.classifies ? zipml::margins(model, data.features())
                                                             : zipml::predict(model, data);
    zipml::save_npy(output, numbers.span());
  } else if (!output.empty() || !options.json) {
    zipml::write_file(output.empty() ? "-" : output,
                      classes ? csv_of(options, *classes, data) : csv_of(options, model, data));
  }
  if (options.json) {
    using Json = nlohmann::ordered_json;
    const auto number = [](std::optional<double> value) { return value ? Json(*value) : Json(nullptr); };
    Json out = {{"rows", data.rows}, {"features", data.cols}, {"warnings", Json::array()}};
    for (const std::string& warning : data.warnings) out["warnings"].push_back(warning);
    out["metrics"] = metrics
                         ? Json{{"rows", metrics->rows},
                                {"rmse", metrics->accuracy ? Json(nullptr) : Json(metrics->rmse)},
                                {"r_squared", metrics->accuracy ? Json(nullptr) : number(metrics->r_squared)},
                                {"accuracy", number(metrics->accuracy)},
                                {"auc", number(metrics->auc)},
                                {"deviance", number(metrics->deviance)},
                                {"log_loss", number(metrics->log_loss)}}
                         : Json(nullptr);
    std::printf("%s\n", out.dump(2, ' ', false, Json::error_handler_t::replace).c_str());
  } else if (metrics) {
    std::fprintf(stderr, "predict: ");
    if (metrics->accuracy)
      std::fprintf(stderr, "accuracy %.6g", *metrics->accuracy);
    else
      std::fprintf(stderr, "rmse %.6g", metrics->rmse);
    if (metrics->auc) std::fprintf(stderr, ", AUC %.6g", *metrics->auc);
    if (metrics->deviance) std::fprintf(stderr, ", deviance %.6g", *metrics->deviance);
    if (metrics->log_loss) std::fprintf(stderr, ", log loss %.6g", *metrics->log_loss);
    if (!metrics->accuracy && metrics->r_squared) std::fprintf(stderr, ", R^2 %.4f", *metrics->r_squared);
    std::fprintf(stderr, " on the %td rows that have a label\n", metrics->rows);
  }
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app{
      "Predicts the rows of a file with a model that train has saved: a line of CSV for each, and how good "
      "they are "
      "where the file has labels. Columns are matched by name; categories and missing cells are read as in "
      "the "
      "training table."};
  app.set_version_flag("--version", std::string("predict (zipml ") + ZIPML_VERSION + ")");
  app.option_defaults()->always_capture_default();
  app.add_option("MODEL", options.model_file, "what train --save-model has written")->required();
  app.add_option("FILE", options.file, "LIBSVM or CSV file, with or without labels; - for standard input")
      ->required();
  app.add_option("--id", options.id, "CSV: a column that stands beside each prediction, by name or number");
  app.add_option(
      "--output", options.output,
      "write the predictions to this file instead of standard output; NAME.npy: the numbers alone (of "
      "classifiers the margins, of several classes their labels), as numpy reads them");
  app.add_flag("--json", options.json, "metrics and warnings as one JSON object on standard output");
  app.add_option("--threads", options.table.threads, "that read the file; 0: all")
      ->check(CLI::Range(0, 1024));
  options.table.streams = true;
  options.table.add_to(app, false);
  return run_program("predict", app, argc, argv, [&] { run(options); });
}
