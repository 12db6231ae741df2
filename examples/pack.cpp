// Packs a table once, to be trained on as often as one likes. `pack --help` tells the rest.

#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>
#include <zipml/estimators/any_store.hpp>
#include <zipml/io/npy.hpp>
#include <zipml/io/output_file.hpp>

#include "program.hpp"
#include "table_options.hpp"

namespace {

struct Options {
  std::string file;
  std::string labels;  // an NPY file of them
  std::string output;
  TableOptions table;
  int bits = 4;
  std::string representation;
  std::uint64_t seed = 1;
  std::string isa;
  bool json = false;
};

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Samples and labels: of a table, or of NPY files, whose samples stay where they are.
struct Input {
  zipml::Dataset data;  // of NPY files: labels, warnings
  zipml::MatrixView samples;
  std::optional<zipml::NpyFile> npy;
};

Input open_npy(const Options& options) {
  Input input;
  const zipml::NpyFile& file = input.npy.emplace(options.file);
  const zipml::Index cols = file.cols();
  const auto place = zipml::Place{options.file};
  if (file.rows() == 0) throw zipml::Error(place, "no data rows", "at least one", "none");
  if (!options.labels.empty()) {
    const zipml::NpyFile labels(options.labels);
    if (labels.cols() != 1 || labels.rows() != file.rows())
      throw zipml::Error(zipml::Place{options.labels}, "labels and samples differ in number",
                         std::to_string(file.rows()) + " labels",
                         std::to_string(labels.rows()) + " x " + std::to_string(labels.cols()));
    input.data = labels.labels();
    input.samples = file.matrix();
  } else {
    const bool first = options.table.label == "1";
    if (!first && !options.table.label.empty() && options.table.label != std::to_string(cols))
      throw zipml::Error(place, "the label of a matrix is its first or its last column",
                         "--label 1 or " + std::to_string(cols) + ", or --labels FILE", options.table.label);
    if (cols < 2)
      throw zipml::Error(place, "no column is left beside the label",
                         "at least one feature, or --labels FILE", "1 column");
    input.data = file.labels(first ? 0 : cols - 1);
    input.samples = file.columns(first ? 1 : 0, cols - 1);
  }
  input.data.source = options.file;
  return input;
}

Input open_input(const Options& options) {
  if (options.file != "-" && zipml::is_npy_file(options.file)) return open_npy(options);
  if (!options.labels.empty())
    throw zipml::Error(zipml::Place{options.file}, "--labels belong to an NPY file", "an NPY file",
                       "another");
  Input input;
  input.data = load_table(options.file, options.table, "pack");
  input.samples = input.data.features();
  return input;
}

void run(const Options& options) {
  zipml::Representation representation{.outliers = 0.003};
  if (options.bits == 32)
    representation = zipml::Representation{.estimator = zipml::EstimatorKind::full, .bits = 32};
  else
    representation.bits = options.bits;
  if (!options.representation.empty()) representation = zipml::parse_representation(options.representation);
  representation.check();
  for (const std::string& input : {options.file, options.labels})
    if (!input.empty() && zipml::is_same_file(options.output, input))
      throw zipml::Error(zipml::Place{options.output}, "would be replaced, and is read",
                         "another file to write to", input);
  zipml::require_writable(options.output);

  const auto start = Clock::now();
  const Input input = open_input(options);
  const zipml::Dataset& data = input.data;
  const double load = seconds_since(start);
  const auto loaded = Clock::now();
  const zipml::AnyStore store =
      zipml::quantize(input.samples, data.label_view(), representation,
                      {.seed = options.seed, .threads = options.table.threads, .isa = options.isa});
  const double pack = seconds_since(loaded);
  const auto packed = Clock::now();
  zipml::save_store(options.output, store);
  const double save = seconds_since(packed);

  const zipml::PackedFile file(options.output, {.verify = false});
  const zipml::SampleView samples = file.samples();
  const double ratio = 4.0 * static_cast<double>(samples.rows) * static_cast<double>(samples.cols) /
                       static_cast<double>(file.file_bytes());
  if (options.json) {
    using Json = nlohmann::ordered_json;
    Json out = {{"rows", samples.rows},
                {"cols", samples.cols},
                {"label", data.label_name().empty() ? Json(nullptr) : Json(data.label_name())},
                {"representation", file.representation()},
                {"stored_bits", samples.stored_bits},
                {"bytes", file.file_bytes()},
                {"compression", ratio},
                {"pilot_rows", samples.pilot != nullptr ? Json(samples.pilot->rows) : Json(nullptr)},
                {"seconds_load", load},
                {"seconds_pack", pack},
                {"seconds_save", save},
                {"warnings", Json::array()}};
    for (const std::string& warning : data.warnings) out["warnings"].push_back(data.source + ": " + warning);
    std::printf("%s\n", out.dump(2, ' ', false, Json::error_handler_t::replace).c_str());
    return;
  }
  const std::string label = data.label_name();
  std::printf("%s: %td rows, %td features%s%s\n", data.source.c_str(), samples.rows, samples.cols,
              label.empty() ? "" : ", label ", label.empty() ? "" : zipml::quote_input(label).c_str());
  std::printf("%s: %s, %.3f stored bits a value, %td bytes, %.2f times smaller than float32\n",
              options.output.c_str(), file.representation().c_str(), samples.stored_bits, file.file_bytes(),
              ratio);
  std::printf("load %.2f s, pack %.2f s, save %.2f s\n", load, pack, save);
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app{
      "Packs a table into a file of 1 to 8 bits a value, with its names, labels and a pilot: `train` begins "
      "at once on "
      "it, maps it, and needs neither the text nor memory for float32 rows."};
  app.set_version_flag("--version", std::string("pack (zipml ") + ZIPML_VERSION + ")");
  app.option_defaults()->always_capture_default();
  app.add_option("FILE", options.file,
                 "LIBSVM, CSV or NPY file, - for text on standard input; a matrix in an NPY file is packed "
                 "from where it "
                 "lies")
      ->required();
  app.add_option("--labels", options.labels, "NPY file of the labels, where FILE is one of features alone");
  app.add_option("-o,--output", options.output, "the packed file, NAME.zipml by custom")->required();
  app.add_option("--bits", options.bits, "bits of a value: 1 to 8, or 32 for float32 rows")
      ->check(CLI::IsMember({1, 2, 3, 4, 5, 6, 7, 8, 32}));
  app.add_option(
         "--representation", options.representation,
         "in one text: NAME:BITS[,LEVELS][,ROUNDING][,outliers=SHARE] (variance-corrected, outliers=0.003)")
      ->always_capture_default(false)
      ->excludes("--bits")
      ->check([](const std::string& text) {
        try {
          zipml::parse_representation(text).check();
          return std::string();
        } catch (const zipml::Error& error) {
          return std::string(error.what());
        }
      });
  options.table.add_to(app, true);
  app.add_option("--threads", options.table.threads,
                 "that read and pack; 0: all. The result does not depend on it")
      ->check(CLI::Range(0, 1024));
  app.add_option("--seed", options.seed, "of every random choice")->check(check_seed);
  app.add_option("--isa", options.isa,
                 "instruction set: scalar, avx2, avx-vnni, avx512 (ZIPML_ISA, else the best)")
      ->always_capture_default(false);
  app.add_flag("--json", options.json, "one JSON object on standard output");
  return run_program("pack", app, argc, argv, [&] { run(options); });
}
