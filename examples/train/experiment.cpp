#include "experiment.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <zipml/io/generated.hpp>
#include <zipml/io/hold_out.hpp>
#include <zipml/io/load.hpp>
#include <zipml/io/output_file.hpp>
#include <zipml/training/classes.hpp>
#include <zipml/training/recommend.hpp>

#include "../gnuplot.hpp"

void take_class_weights(const std::string& text, zipml::Dataset& train, zipml::Dataset* held_out) {
  const zipml::List<float> values = zipml::class_values(train.labels.span());
  if (values.empty())
    throw zipml::Error("--class-weights are of classes", "at most 1000 values of the label", "more");
  zipml::List<double> weights;
  if (text == "balanced") {
    weights = zipml::balanced_class_weights(train.labels.span(), train.weights.span(), values);
  } else {
    weights.assign(values.size(), 1.0);
    zipml::LinearModel words;
    words.schema = train.schema;
    for (std::size_t begin = 0; begin < text.size();) {
      const std::size_t end = std::min(text.find(',', begin), text.size());
      const std::string part = text.substr(begin, end - begin);
      begin = end + 1;
      const std::size_t colon = part.rfind(':');
      const std::string name = part.substr(0, colon),
                        number = colon < part.size() ? part.substr(colon + 1) : "";
      double weight = -1.0;
      if (zipml::is_number(number))
        (void)zipml::parse_number(number.data(), number.data() + number.size(), weight);
      if (!(weight >= 0.0) || !std::isfinite(weight))
        throw zipml::Error("--class-weights are balanced, or LABEL:WEIGHT,... with weights of at least 0",
                           "as 0:1,1:5", part);
      std::size_t at = 0;
      while (at < values.size() &&
             words.label_text(train.label_offset + static_cast<double>(values[at])) != name)
        ++at;
      if (at == values.size())
        throw zipml::Error(zipml::Place{train.source}, "there is no such class for --class-weights",
                           "a label of the training rows", name);
      weights[at] = weight;
    }
  }
  const auto weigh = [&](zipml::Dataset& rows) {
    if (rows.rows == 0) return;
    const double shift = rows.label_offset - train.label_offset;
    zipml::Buffer<float> of_rows(rows.rows);
    for (zipml::Index i = 0; i < rows.rows; ++i) {
      const auto label = static_cast<float>(static_cast<double>(rows.labels[i]) + shift);
      const auto at =
          static_cast<std::size_t>(std::find(values.begin(), values.end(), label) - values.begin());
      const double own = rows.weights.empty() ? 1.0 : static_cast<double>(rows.weights[i]);
      of_rows[i] = static_cast<float>(own * (at < values.size() ? weights[at] : 1.0));
    }
    rows.weights = std::move(of_rows);
  };
  weigh(train);
  if (held_out != nullptr) weigh(*held_out);
}

namespace {

/// Rows count as they did when they were packed, whatever their file says.
void take_packed_weights(const zipml::StoreHeader& packed, zipml::Dataset& rows) {
  if (packed.weights().empty() || rows.rows != packed.rows()) return;
  rows.weights = zipml::Buffer<float>(rows.rows);
  for (zipml::Index i = 0; i < rows.rows; ++i) rows.weights[packed.row_id(i)] = packed.weights()[i];
}

}  // namespace

Samples load_samples(const Options& options) {
  const auto start = std::chrono::steady_clock::now();
  Samples samples;
  if (options.packed) {
    zipml::OpenOptions open;
    if (options.reducer != nullptr) {
      open.verifier = options.reducer->rank();
      open.verifiers = options.reducer->workers();
    }
    samples.store = zipml::open_store(options.file, open);
    samples.sets.train.source = options.file;
    samples.sets.train.rows = samples.store->rows();
    samples.sets.train.cols = samples.store->cols();
    samples.sets.train.schema = samples.store->standardization().schema;
    zipml::LoadOptions load = options.table.load_options();
    load.like = samples.sets.train.schema;
    if (!options.full.empty()) {
      zipml::LoadOptions rows = load;
      rows.label = options.table.load_options().label;
      samples.full = zipml::load(options.full, rows);
      take_packed_weights(samples.store->header(), samples.full);
    }
    if (!options.test_file.empty()) samples.sets.test = zipml::load(options.test_file, load);
    if (!options.validation.empty()) samples.validation = zipml::load(options.validation, load);
  } else if (options.file.empty()) {
    const zipml::GeneratedOptions size{.rows = options.rows, .seed = options.seed};
    samples.sets = options.classifies() ? zipml::two_class(size) : zipml::skewed(size);
  } else {
    zipml::LoadOptions load = options.table.load_options();
    samples.sets.train = zipml::load(options.file, load);
    load.like = samples.sets.train.schema;
    load.label.clear();  // the schema knows it
    if (!options.test_file.empty()) samples.sets.test = zipml::load(options.test_file, load);
    if (!options.validation.empty() && options.held_out == 0.0)
      samples.validation = zipml::load(options.validation, load);
  }
  if (options.held_out > 0.0) {
    const std::vector<std::string> warnings(samples.sets.train.warnings.begin(),
                                            samples.sets.train.warnings.end());
    auto [train, held_out] = zipml::hold_out(samples.sets.train, options.held_out, options.seed);
    samples.sets.train = std::move(train);
    samples.sets.train.warnings.assign(warnings.begin(), warnings.end());
    samples.validation = std::move(held_out);
  }
  samples.seconds_load = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  zipml::Dataset& train = samples.sets.train;
  const auto labels =
      options.packed ? samples.store->targets().statistics(0) : zipml::label_statistics(train.label_view());
  if (labels.min == labels.max && !options.classifies())
    train.warnings.push_back("all labels are equal: there is nothing to learn but their value");
  for (const auto* data : {&train, &samples.sets.test, &samples.validation})
    for (const std::string& warning : data->warnings)
      std::fprintf(stderr, "train: warning: %s: %s\n", data->source.c_str(), warning.c_str());
  if (!options.class_weights.empty()) take_class_weights(options.class_weights, train, &samples.validation);
  const bool classes_are_text = train.schema && !train.schema->classes.empty();
  if (options.classifies()) {
    const auto values =
        zipml::class_values(options.packed ? samples.store->targets().of(0) : train.labels.span());
    // Numbers with a fraction are no classes.
    const bool whole = std::all_of(values.begin(), values.end(), [&](float value) {
      const double label = labels.offset + static_cast<double>(value);
      return label == std::floor(label);
    });
    const bool together = options.loss == "softmax";
    if (together && (values.size() < 2 || !whole))
      throw zipml::Error(zipml::Place{train.source}, "softmax is of classes",
                         "labels of 2 to " + std::to_string(zipml::most_classes) +
                             " whole numbers or texts, or another --loss",
                         values.size() == 1 ? "one value"
                         : values.empty()   ? "more values"
                                            : "fractions");
    samples.several_classes = (values.size() > 2 && whole) || together;
    // Else says what is wrong with labels that are not two classes.
    if (!samples.several_classes) (void)zipml::detail::two_classes(labels, options.loss.c_str());
    const auto name = [&](double label) {
      zipml::LinearModel words;
      words.schema = train.schema;
      return words.label_text(labels.offset + label);
    };
    if (samples.several_classes) {
      std::string list;
      for (std::size_t k = 0; k < values.size() && k < 12; ++k)
        list += (k > 0 ? ", " : "") + name(static_cast<double>(values[k]));
      std::fprintf(stderr, "train: %zu classes, %s: %s%s\n", values.size(),
                   together ? "all models together" : "a model for each against the rest", list.c_str(),
                   values.size() > 12 ? ", ..." : "");
    } else {
      std::fprintf(stderr, "train: classes: label %s is -1, label %s is +1\n",
                   name(static_cast<double>(labels.min)).c_str(),
                   name(static_cast<double>(labels.max)).c_str());
    }
  } else if (classes_are_text) {
    throw zipml::Error(zipml::Place{train.source},
                       "the labels are text, which " + options.loss + " cannot predict",
                       "numbers, or --loss logistic for two classes, or another --label",
                       std::to_string(train.schema->classes.size()) + " texts such as " +
                           zipml::quote_input(train.schema->classes.front()));
  }
  return samples;
}

void check_outputs(const Options& options) {
  for (const std::string* output : {&options.save_model, &options.history}) {
    if (output->empty()) continue;
    for (const std::string* input : {&options.file, &options.test_file, &options.validation})
      if (!input->empty() && zipml::is_same_file(*output, *input))
        throw zipml::Error(zipml::Place{*output}, "would be replaced, and is read",
                           "another file to write to", *input);
    zipml::require_writable(*output);
  }
  if (!options.save_model.empty() && !options.history.empty() &&
      (options.save_model == options.history || zipml::is_same_file(options.save_model, options.history)))
    throw zipml::Error(zipml::Place{options.history}, "model and history cannot be one file");
}

void write_history(const Options& options, const Result& result) {
  const auto ends_with = [&](const std::string& end) {
    return options.history.size() > end.size() &&
           options.history.compare(options.history.size() - end.size(), end.size(), end) == 0;
  };
  if (ends_with(".svg")) {
    Gnuplot picture(options.history, 800, 500);
    double lowest = INFINITY, highest = 0.0;
    Chart::Curve training{"training", colour::blue, {}, 0, false},
        validation{"validation", colour::vermilion, {}, 0, false};
    const auto add = [&](Chart::Curve& curve, int epoch, double loss) {
      curve.points.push_back({static_cast<double>(epoch), loss});
      lowest = std::min(lowest, loss);
      highest = std::max(highest, loss);
    };
    for (const EpochRecord& record : result.history) {
      if (!(record.loss > 0.0) || !std::isfinite(record.loss)) continue;
      add(training, record.epoch, record.loss);
      if (record.validation_loss && *record.validation_loss > 0.0)
        add(validation, record.epoch, *record.validation_loss);
    }
    if (training.points.empty())
      throw zipml::Error(zipml::Place{options.history}, "there is no finite loss to draw");
    const bool optimum = result.optimum_loss && *result.optimum_loss > 0.5 * lowest;
    if (optimum) lowest = std::min(lowest, *result.optimum_loss);
    Chart chart(picture, {70, 50, 650, 430},
                {1.0, lowest / 1.05, std::max(2.0, static_cast<double>(result.history.back().epoch)),
                 highest * 1.05});
    chart.head("Loss of each epoch", "mean loss, " + options.loss);
    if (optimum) chart.add_level(*result.optimum_loss, "exact optimum", true);
    chart.add(training);
    chart.add(validation);
    chart.draw();
    picture.finish();
    return;
  }
  const auto cell = [](std::optional<double> value) {
    return value ? zipml::number_text(*value) : std::string();
  };
  std::string text =
      std::string("epoch,seconds,loss,excess,validation_loss,test_") + test_metric_name(options) + "\n";
  for (const EpochRecord& r : result.history)
    text += std::to_string(r.epoch) + "," + cell(r.seconds) + "," + cell(r.loss) + "," + cell(r.excess) +
            "," + cell(r.validation_loss) + "," + cell(r.test_metric) + "\n";
  zipml::write_file(options.history, text);
}

double metric_of(const zipml::Metrics& metrics) { return metrics.accuracy.value_or(metrics.rmse); }

const char* test_metric_name(const Options& options) { return options.classifies() ? "accuracy" : "rmse"; }

zipml::FitOptions fit_options_of(const Options& options, zipml::Index columns, bool integers) {
  const auto channel = [&](int bits) -> zipml::Channel {
    if (bits == 32) return {};
    return {.bits = bits,
            .scaling = options.channel_scaling == "norm"    ? zipml::ChannelScaling::norm
                       : options.channel_scaling == "block" ? zipml::ChannelScaling::block
                                                            : zipml::ChannelScaling::max,
            .error_feedback = options.error_feedback,
            .levels = options.channel_levels == "optimal" ? zipml::ChannelLevels::optimal
                                                          : zipml::ChannelLevels::uniform};
  };
  const bool large = options.batch >= 16 && options.batch * columns >= 4096;
  const bool fast = integers && large && columns <= zipml::max_int8_columns;
  return {.epochs = options.epochs,
          .batch = options.batch,
          .model = options.model_bits != 0 ? channel(options.model_bits) : zipml::Channel{fast ? 8 : 32},
          .gradient = channel(options.gradient_bits),
          .safety = options.safety == "shrink"  ? zipml::Safety::shrink
                    : options.safety == "ridge" ? zipml::Safety::ridge
                                                : zipml::Safety::warn,
          .pilot = options.pilot != zipml::Index{0},
          .threads = options.threads,
          .isa = options.isa,
          .reducer = options.reducer,
          .local_steps = options.local_steps};
}

namespace {

/// The samples with which --refine moves the fewest bytes.
void choose_for_refinement(Options& options, const Samples& samples) {
  const LossProgram program = loss_program(options.loss);
  if (program.recommend_refinement == nullptr || samples.several_classes)
    throw zipml::Error("this cannot be refined", "a smooth loss of two classes or of numbers", options.loss);
  const auto best =
      program.recommend_refinement(samples.sets.train, zipml::ElasticNet(options.l2, options.l1),
                                   {.refine = {.passes = options.passes,
                                               .tolerance = options.tolerance,
                                               .threads = options.threads,
                                               .isa = options.isa},
                                    .seed = options.seed});
  options.take(best.representation);
  options.representation_is_free = false;
  std::fprintf(stderr,
               "train: chose %s: %.3f stored bits, %d readings in full precision, %.3g MB moved with packing "
               "(%d representations refined on %td rows)\n",
               zipml::to_string(best.representation).c_str(), best.stored_bits, best.full_passes,
               1e-6 * best.bytes, best.measured, best.sample_rows);
  if (best.plain_bytes)
    std::fprintf(stderr, "train: without packed samples %d readings, %.3g MB\n", best.plain_passes,
                 1e-6 * *best.plain_bytes);
  if (!best.met)
    std::fprintf(stderr,
                 "train: the tolerance of %.3g is not reached in %d readings: these are the nearest\n",
                 options.tolerance, options.passes);
}

}  // namespace

void choose_representation(Options& options, const Samples& samples) {
  if (!options.choose) return;
  if (options.refines) {
    choose_for_refinement(options, samples);
    return;
  }
  zipml::RecommendOptions wanted{.excess = options.excess, .seed = options.seed};
  wanted.fit = fit_options_of(options, samples.sets.train.cols, true);
  const auto best = loss_program(options.loss)
                        .recommend(samples.sets.train, samples.several_classes,
                                   zipml::ElasticNet(options.l2, options.l1), wanted);
  options.take(best.representation);
  std::fprintf(stderr,
               "train: chose %s: %.3f stored bits, predicted excess %.3g %% (%d representations trained on "
               "%td rows)\n",
               zipml::to_string(best.representation).c_str(), best.stored_bits, 100.0 * best.predicted_excess,
               best.measured, best.sample_rows);
  if (!best.met)
    std::fprintf(
        stderr,
        "train: %.3g %% is not met: that is the least within reach; 32 bits end at %.3g %% in as many "
        "epochs\n",
        100.0 * options.excess, 100.0 * best.full_excess.value_or(0.0));
}

void show_path(const Options& options, const std::vector<PathPoint>& points) {
  std::printf("%12s  %12s%s\n", "l2", "held out", options.folds > 0 ? "   std. error" : "");
  for (const PathPoint& point : points) {
    std::printf("%12.4g  %12.6g", static_cast<double>(point.l2), point.loss);
    if (point.standard_error) std::printf("  %11.2g", *point.standard_error);
    if (point.failed > 0) std::printf("  diverged");
    std::printf("%s\n", point.chosen ? "  <- taken" : "");
  }
  std::printf("\n");
  std::fflush(stdout);
}

LossProgram loss_program(const std::string& name) {
  for (const LossProgram& program :
       {least_squares_program(), ls_svm_program(), logistic_program(), hinge_program(),
        squared_hinge_program(), huber_program(), poisson_program(), softmax_program()})
    if (name == program.name) return program;
  throw zipml::Error("there is no such loss", "one that --help names", name);
}

std::vector<Result> run(const Options& options, const Samples& samples) {
  return loss_program(options.loss).run(options, samples);
}
