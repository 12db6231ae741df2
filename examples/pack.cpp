// Packs a table once, to be trained on as often as one likes. `pack --help` tells the rest.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>
#include <zipml/estimators/any_store.hpp>
#include <zipml/io/npy_table.hpp>
#include <zipml/io/output_file.hpp>
#include <zipml/training/classes.hpp>
#include <zipml/training/recommend.hpp>

#include "program.hpp"
#include "progress_line.hpp"
#include "table_options.hpp"
#include "train/experiment.hpp"

namespace {

struct PackOptions {
  std::vector<std::string> files;
  std::string labels;  // an NPY file of them
  std::string output;
  TableOptions table;
  std::string bits = "4";  // or "auto"
  double excess = 0.01;
  std::string loss = "least-squares";
  std::string representation;
  std::string class_weights;  // as those of train
  std::uint64_t seed = 1;
  std::string isa;
  bool json = false;
};

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Rows in memory while a table is read, before they go to the scratch file: packing needs no more of them.
constexpr std::uint64_t kept_in_memory = std::uint64_t{32} << 20;

zipml::Dataset load(const PackOptions& options, ProgressLine& line) {
  zipml::LoadOptions load = options.table.load_options();
  load.keep_in_memory = kept_in_memory;
  load.progress = &line;
  const zipml::List<std::string> files(options.files.begin(), options.files.end());
  const auto is_npy = [](const std::string& file) { return file != "-" && zipml::is_npy_file(file); };
  if (options.labels.empty()) return zipml::load(files, load);
  for (const std::string& file : files)
    if (!is_npy(file))
      throw zipml::Error(zipml::Place{file}, "--labels belong to an NPY file", "an NPY file", "another");
  return zipml::load_npy(files, load, options.labels);
}

/// Rows that tell how many of them have been read.
class WatchedRows final : public zipml::RowReader {
 public:
  WatchedRows(const zipml::MatrixView& rows, ProgressLine& line) : rows_(rows), line_(line) {}
  void read(zipml::Index first, zipml::Index count, float* out) const override {
    rows_.read(first, count, out);
    if (count > 1)
      line_.show(static_cast<std::uint64_t>(first + count), static_cast<std::uint64_t>(rows_.rows));
  }

 private:
  zipml::MatrixView rows_;
  ProgressLine& line_;
};

/// Labels of more than two classes have a model for each, which no pilot serves.
bool has_several_classes(const LossProgram& loss, const zipml::Dataset& data) {
  if (!loss.classifies) return false;
  const std::size_t values = zipml::class_values(data.labels.span()).size();
  return values != 2 && values != 1;
}

zipml::Representation representation_of(const PackOptions& options, const zipml::Dataset& data) {
  if (!options.representation.empty()) return zipml::parse_representation(options.representation);
  if (options.bits == "32") return {.estimator = zipml::EstimatorKind::full, .bits = 32};
  const LossProgram loss = loss_program(options.loss);
  const bool several_classes = has_several_classes(loss, data);
  if (options.bits != "auto")
    return loss.representation(std::stoi(options.bits),
                               !several_classes && zipml::pilot_rows(data.rows, data.cols, std::nullopt) > 0);
  zipml::RecommendOptions wanted{.excess = options.excess, .seed = options.seed};
  wanted.fit.threads = options.table.threads;
  wanted.fit.isa = options.isa;
  const auto best = loss.recommend(data, several_classes, zipml::ElasticNet(0.0f, 0.0f), wanted);
  std::fprintf(stderr,
               "pack: chose %s: %.3f stored bits, predicted excess of %s %.3g %% (%d representations "
               "trained on %td rows)\n",
               zipml::to_string(best.representation).c_str(), best.stored_bits, options.loss.c_str(),
               100.0 * best.predicted_excess, best.measured, best.sample_rows);
  if (!best.met)
    std::fprintf(stderr, "pack: %.3g %% is not met: that is the least within reach\n",
                 100.0 * options.excess);
  return best.representation;
}

void run(const PackOptions& options) {
  for (const std::string& input : options.files)
    if (input != "-" && zipml::is_same_file(options.output, input))
      throw zipml::Error(zipml::Place{options.output}, "would be replaced, and is read",
                         "another file to write to", input);
  if (!options.labels.empty() && zipml::is_same_file(options.output, options.labels))
    throw zipml::Error(zipml::Place{options.output}, "would be replaced, and is read",
                       "another file to write to", options.labels);
  zipml::require_writable(options.output);

  const auto start = Clock::now();
  ProgressLine reading("reading", "B", 1.0);
  zipml::Dataset data = load(options, reading);
  reading.end();
  say_warnings(data, "pack");
  if (!options.class_weights.empty()) take_class_weights(options.class_weights, data);
  const double load = seconds_since(start);
  const auto loaded = Clock::now();
  const zipml::Representation representation = representation_of(options, data);
  zipml::MatrixView samples_of_user = data.features();
  ProgressLine packing("packing", "B", 4.0 * static_cast<double>(data.cols));
  if (!data.in_memory()) samples_of_user.reader = std::make_shared<WatchedRows>(data.features(), packing);
  const LossProgram loss = loss_program(options.loss);
  const zipml::AnyStore store = zipml::quantize(
      samples_of_user, data.label_view(), representation,
      {.seed = options.seed,
       .pilot = loss.has_pilot && !has_several_classes(loss, data) ? std::optional<zipml::Index>()
                                                                   : zipml::Index{0},
       .pilot_loss = loss.pilot_loss,
       .threads = options.table.threads,
       .isa = options.isa});
  packing.end();
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
                {"files", options.files.size()},
                {"rows_in_memory", data.in_memory()},
                {"label", data.label_name().empty() ? Json(nullptr) : Json(data.label_name())},
                {"representation", file.representation()},
                {"stored_bits", samples.stored_bits},
                {"weighted", samples.weights != nullptr},
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
  PackOptions options;
  CLI::App app{
      "Packs a table into a file of 1 to 8 bits a value, with its names, labels and a pilot: `train` begins "
      "at once on "
      "it, maps it, and needs neither the text nor memory for float32 rows."};
  app.set_version_flag("--version", std::string("pack (zipml ") + ZIPML_VERSION + ")");
  app.option_defaults()->always_capture_default();
  app.add_option("FILE", options.files,
                 "LIBSVM, CSV or NPY files, several of one kind are one table; - for text on standard input. "
                 "Memory holds "
                 "what is packed, never the rows: a large NPY file is read where it lies, text by way of a "
                 "scratch file")
      ->required();
  app.add_option("--labels", options.labels, "NPY file of the labels, where FILE is one of features alone");
  app.add_option("-o,--output", options.output, "the packed file, NAME.zipml by custom")->required();
  app.add_option("--bits", options.bits,
                 "bits of a value: 1 to 8, 32 for float32 rows, or auto: the fewest that do for --loss, "
                 "measured")
      ->check(CLI::IsMember({"1", "2", "3", "4", "5", "6", "7", "8", "32", "auto"}));
  app.add_option(
         "--loss", options.loss,
         "that the pilot is of, and the representation is chosen for: least-squares serves ls-svm too")
      ->check(CLI::IsMember(loss_names()));
  app.add_option("--excess", options.excess, "acceptable excess for --bits auto")->check(CLI::PositiveNumber);
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
  app.add_option(
         "--class-weights", options.class_weights,
         "how much the rows of each class count, which the file keeps: balanced, all classes the same, "
         "or LABEL:WEIGHT,... (others 1); of a --loss of classes")
      ->always_capture_default(false);
  options.table.streams = true;
  options.table.add_to(app, true);
  app.add_option("--threads", options.table.threads,
                 "that read and pack; 0: all. The result does not depend on it")
      ->check(CLI::Range(0, 1024));
  app.add_option("--seed", options.seed, "of every random choice")->check(check_seed);
  app.add_option("--isa", options.isa,
                 "instruction set: scalar, avx2, avx-vnni, avx512 (ZIPML_ISA, else the best)")
      ->always_capture_default(false);
  app.add_flag("--json", options.json, "one JSON object on standard output");
  app.callback([&options] {
    if (!options.class_weights.empty() && !loss_program(options.loss).classifies)
      throw CLI::ValidationError(
          "--class-weights are of classes: --loss softmax, logistic, hinge, squared-hinge or ls-svm");
  });
  return run_program("pack", app, argc, argv, [&] { run(options); });
}
