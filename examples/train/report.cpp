#include "report.hpp"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>
#include <zipml/io/class_model_file.hpp>
#include <zipml/io/model_file.hpp>
#include <zipml/io/number.hpp>

namespace {

// Ordered as the members are set, which is the order that a person expects.
using Json = nlohmann::ordered_json;

Json number(std::optional<double> value) {
  return value && std::isfinite(*value) ? Json(*value) : Json(nullptr);
}
Json text(const std::string& value) { return value.empty() ? Json(nullptr) : Json(value); }

/// Bytes in all epochs.
Json to_json(const zipml::Traffic& moved) {
  return {{"payload_bytes", moved.payload_bytes}, {"scale_bytes", moved.scale_bytes}};
}

Json to_json(const std::optional<zipml::Metrics>& metrics) {
  if (!metrics) return nullptr;
  return {{"rows", metrics->rows},
          {"rmse", number(metrics->rmse)},
          {"r_squared", number(metrics->r_squared)},
          {"accuracy", number(metrics->accuracy)},
          {"auc", number(metrics->auc)},
          {"deviance", number(metrics->deviance)},
          {"log_loss", number(metrics->log_loss)}};
}

/// The classes where there are more than two, and the test rows of each that are taken for each.
Json classes_of(const Result& result) {
  if (!result.classes) return nullptr;
  Json labels = Json::array(), confusion = Json::array();
  const auto k = static_cast<std::size_t>(result.classes->classes());
  for (std::size_t a = 0; a < k; ++a) {
    labels.push_back(result.classes->label_text(static_cast<zipml::Index>(a)));
    if (result.confusion.empty()) continue;
    const auto row = result.confusion.begin() + static_cast<std::ptrdiff_t>(a * k);
    confusion.push_back(std::vector<zipml::Index>(row, row + static_cast<std::ptrdiff_t>(k)));
  }
  return {{"labels", labels}, {"confusion", result.confusion.empty() ? Json(nullptr) : confusion}};
}

/// The penalties that the one of the fit was chosen from, and their losses of held-out rows.
Json path_of(const Options& options, const Result& result) {
  if (result.path.empty()) return nullptr;
  Json points = Json::array();
  for (const PathPoint& point : result.path)
    points.push_back({{"l2", point.l2},
                      {"loss", number(point.loss)},
                      {"standard_error", number(point.standard_error)},
                      {"diverged", point.failed},
                      {"chosen", point.chosen}});
  return {{"folds", options.folds > 0 ? Json(options.folds) : Json(nullptr)},
          {"seconds", result.seconds_path},
          {"penalties", points}};
}

/// What --refine moved and took, and what it thinks is left.
Json refinement_of(const Result& result) {
  if (!result.refinement) return nullptr;
  const Refinement& of = *result.refinement;
  return {{"full_bytes", of.full_bytes},     {"packed_bytes", of.packed_bytes},
          {"seconds_full", of.seconds_full}, {"seconds_packed", of.seconds_packed},
          {"value", number(of.value)},       {"gap", number(of.gap)}};
}

/// What a process of several has sent, and how long it has waited for others.
Json exchange_of(const Result& result) {
  if (!result.exchange) return nullptr;
  const Exchange& of = *result.exchange;
  return {{"bytes_sent", of.bytes_sent},
          {"bytes_per_step", of.bytes_per_step},
          {"seconds_computing", (std::max)(0.0, result.seconds_train - of.seconds_waiting)},
          {"seconds_waiting", of.seconds_waiting}};
}

Json warnings_of(const Samples& samples) {
  Json list = Json::array();
  for (const auto* data : {&samples.sets.train, &samples.sets.test, &samples.validation})
    for (const std::string& warning : data->warnings) list.push_back(data->source + ": " + warning);
  return list;
}

Json to_json(const Options& options, const Samples& samples, const Result& result) {
  const zipml::TrainTest& sets = samples.sets;
  return {{"rows", sets.train.rows},
          {"cols", sets.train.cols},
          {"loss", options.loss},
          {"bits", result.bits},
          {"stored_bits", result.stored_bits},
          {"estimator", result.estimator},
          {"levels", text(result.levels)},
          {"rounding", text(result.rounding)},
          {"outliers", result.bits == 32 ? Json(nullptr) : Json(options.outliers)},
          {"model_bits", result.model_bits},
          {"gradient_bits", result.gradient_bits},
          {"error_feedback", options.error_feedback},
          {"channel_scaling", options.channel_scaling},
          {"channel_levels", options.channel_levels},
          {"residual_levels", result.residual_levels ? Json(*result.residual_levels) : Json(nullptr)},
          {"isa", result.isa},
          {"threads", options.threads},
          {"seed", options.seed},
          {"l2", result.l2},
          {"l1", options.l1},
          {"step", result.step},
          {"epochs", result.epochs},
          {"batch", options.batch},
          {"test_rows", sets.test.rows > 0 ? Json(sets.test.rows) : Json(nullptr)},
          {"samples_moved", to_json(result.samples_moved)},
          {"model_moved", to_json(result.model_moved)},
          {"gradient_moved", to_json(result.gradient_moved)},
          {"store_bytes", result.store_bytes},
          {"label_bytes", result.label_bytes},
          {"compression", result.compression},
          {"train_loss", number(result.train_loss)},
          {"loss_of", result.loss_of_store ? "packed samples" : "rows"},
          {"optimum_loss", number(result.optimum_loss)},
          {"excess", number(result.excess)},
          {"label", text(sets.train.label_name())},
          {"optimum_test_metric", number(result.optimum_test_metric)},
          {"test", to_json(result.test)},
          {"classes", classes_of(result)},
          {"validation_rows", samples.validation.rows > 0 ? Json(samples.validation.rows) : Json(nullptr)},
          {"validation_loss", number(result.validation_loss)},
          {"validation", to_json(result.validation)},
          {"kept_epoch", result.kept_epoch > 0 ? Json(result.kept_epoch) : Json(nullptr)},
          {"warnings", warnings_of(samples)},
          {"test_metric_name", result.test_metric ? Json(test_metric_name(options)) : Json(nullptr)},
          {"test_metric", number(result.test_metric)},
          {"seconds_load", samples.seconds_load},
          {"seconds_quantize", result.seconds_quantize},
          {"seconds_train", result.seconds_train},
          {"seconds_per_epoch", result.seconds_per_epoch},
          {"speedup", number(result.speedup)},
          {"pilot", result.pilot_rows > 0
                        ? Json{{"rows", result.pilot_rows}, {"excess", number(result.pilot_excess)}}
                        : Json(nullptr)},
          {"refetched", result.refetched.empty()
                            ? Json(nullptr)
                            : Json{{"bits", result.refetch_bits}, {"shares", result.refetched}}},
          {"full_passes", result.refinement ? Json(result.refinement->full_passes) : Json(nullptr)},
          {"packed_passes", result.refinement ? Json(result.refinement->packed_passes) : Json(nullptr)},
          {"tolerance", result.refinement ? Json(options.tolerance) : Json(nullptr)},
          {"refinement", refinement_of(result)},
          {"path", path_of(options, result)},
          {"processes", result.exchange ? result.exchange->processes : 1},
          {"exchange", exchange_of(result)},
          {"status", result.status},
          {"interrupted", result.interrupted},
          {"advice", text(result.advice)}};
}

/// A fixed width, whatever the number: diverged runs have losses of 1e30.
std::string cell(std::optional<double> value, const char* format, double largest) {
  if (!value || !std::isfinite(*value)) return "-";
  char buffer[64];
  std::snprintf(buffer, sizeof buffer, std::fabs(*value) < largest ? format : "%.1e", *value);
  return buffer;
}

}  // namespace

void print_table(const Options& options, const Samples& samples, const std::vector<Result>& results) {
  const Result& first = results.front();
  std::printf("%s: %td rows, %td columns, %s; %d epochs, batch %td, seed %llu, %s kernels\n",
              samples.sets.train.source.c_str(), samples.sets.train.rows, samples.sets.train.cols,
              options.loss.c_str(), options.epochs, options.batch,
              static_cast<unsigned long long>(options.seed), first.isa.c_str());
  if (first.optimum_loss) std::printf("exact optimum: loss %.6g\n", *first.optimum_loss);
  std::printf("\n%4s  %-15s  %6s  %11s  %6s  %10s  %12s  %9s  %8s  %7s  %s\n", "bits", "estimator", "stored",
              "bytes", "ratio", "loss", "excess", test_metric_name(options), "s/epoch", "speedup", "status");
  for (const Result& r : results) {
    std::printf("%4d  %-15s  %6.4g  %11td  %6.2f  %10s  %10s %%  %9s  %8s  %7s  %s\n", r.bits,
                r.estimator.c_str(), r.stored_bits, r.store_bytes, r.compression,
                cell(r.train_loss, "%.6f", 1e3).c_str(),
                cell(r.excess ? 100.0 * *r.excess : NAN, "%.4f", 1e5).c_str(),
                cell(r.test_metric, "%.5g", 1e8).c_str(), cell(r.seconds_per_epoch, "%.4f", 1e4).c_str(),
                cell(r.speedup, "%.2f", 1e4).c_str(), r.status.c_str());
  }
  std::printf(
      "\nstored: bits per value with all draws. ratio: float32 bytes / bytes of the store. excess: (loss - "
      "optimum) /\n"
      "optimum, on full-precision training rows. speedup: against the 32-bit run above, same batches, same "
      "kernels.\n");
  std::string advice;
  for (const Result& r : results)
    if (!r.advice.empty() && r.advice != advice)
      std::printf("%s: %s\n", r.status.c_str(), (advice = r.advice).c_str());
}

void print_summary(const Options& options, const Samples& samples, const Result& r) {
  const std::string label = samples.sets.train.label_name();
  const std::string what = label.empty() ? "" : ", label " + zipml::quote_input(label);
  std::printf("\n%s: %td rows, %td features%s; ", samples.sets.train.source.c_str(), samples.sets.train.rows,
              samples.sets.train.cols, what.c_str());
  if (options.solver == "exact") {
    std::printf("the exact optimum on float32 rows\n");
  } else {
    std::printf("%s, %d bits (%g stored), %s kernels, step %.4g\n", r.estimator.c_str(), r.bits,
                r.stored_bits, r.isa.c_str(), r.step);
    std::printf("store %td bytes, %.2f times smaller than float32; load %.2f s, ", r.store_bytes,
                r.compression, samples.seconds_load);
    if (!options.packed) std::printf("quantize %.2f s, ", r.seconds_quantize);
    std::printf("train %.2f s\n", r.seconds_train);
  }
  if (r.pilot_rows > 0) {
    std::printf("pilot of %td rows", r.pilot_rows);
    if (r.pilot_excess) std::printf(", itself %.4g %% above the exact optimum", 100.0 * *r.pilot_excess);
    std::printf("\n");
  }
  if (!r.refetched.empty())
    std::printf(
        "rows fetched in full precision: %.4g %% in the first epoch, %.4g %% in the last; %.3g bits a value "
        "say which\n",
        100.0 * r.refetched.front(), 100.0 * r.refetched.back(), r.refetch_bits);
  if (r.refinement)
    std::printf("%d readings in full precision, %.4g MB in %.3g s; of packed samples %d, %.4g MB in %.3g s\n",
                r.refinement->full_passes, 1e-6 * r.refinement->full_bytes, r.refinement->seconds_full,
                r.refinement->packed_passes, 1e-6 * r.refinement->packed_bytes, r.refinement->seconds_packed);
  if (r.exchange)
    std::printf("%d processes, each of which has sent %.4g MB, %.4g bytes a step, and waited %.3g s\n",
                r.exchange->processes, 1e-6 * r.exchange->bytes_sent, r.exchange->bytes_per_step,
                r.exchange->seconds_waiting);
  if (r.kept_epoch > 0)
    std::printf("the weights are those of epoch %d, the best of the validation rows\n", r.kept_epoch);
  std::printf("%s: loss %.6g", r.status.c_str(), r.train_loss);
  if (r.loss_of_store) std::printf(" as the packed samples tell it");
  if (r.excess && options.solver != "exact")
    std::printf(", %.4g %% above the exact optimum", 100.0 * *r.excess);
  std::printf("\n");
  const auto say = [&](const char* name, const std::optional<zipml::Metrics>& metrics) {
    if (!metrics) return;
    std::printf("%s: %s %.6g", name, test_metric_name(options), metric_of(*metrics));
    if (metrics->auc) std::printf(", AUC %.6g", *metrics->auc);
    if (metrics->log_loss) std::printf(", log loss %.6g", *metrics->log_loss);
    if (metrics->deviance) std::printf(", deviance %.6g", *metrics->deviance);
    if (!metrics->accuracy && metrics->r_squared) std::printf(", R^2 %.4f", *metrics->r_squared);
    std::printf(" on %td rows\n", metrics->rows);
  };
  say("validation", r.validation);
  say("test", r.test);
  if (r.classes && !r.confusion.empty() && r.classes->classes() <= 20) {
    std::printf("\ntest rows of each class, and what they are taken for:\n%12s", "");
    const zipml::Index k = r.classes->classes();
    for (zipml::Index b = 0; b < k; ++b) std::printf("  %8.8s", r.classes->label_text(b).c_str());
    for (zipml::Index a = 0; a < k; ++a) {
      std::printf("\n%12.12s", r.classes->label_text(a).c_str());
      for (zipml::Index b = 0; b < k; ++b)
        std::printf("  %8td", r.confusion[static_cast<std::size_t>(a * k + b)]);
    }
    std::printf("\n");
  }
  if (r.optimum_test_metric && options.solver != "exact")
    std::printf("the exact optimum there: %s %.6g\n", test_metric_name(options), *r.optimum_test_metric);
}

int report(const char* program, const Options& options, const Samples& samples,
           const std::vector<Result>& results) {
  if (options.json)
    print_json(options, samples, results);
  else if (options.sweep)
    print_table(options, samples, results);
  else
    print_summary(options, samples, results.front());
  const bool written = std::fflush(stdout) == 0 && std::ferror(stdout) == 0;
  const int reason = errno;
  const Result& result = results.front();
  if (!options.history.empty()) write_history(options, result);
  if (!options.save_model.empty() && result.model) zipml::save_model(options.save_model, *result.model);
  if (!options.save_model.empty() && result.classes) zipml::save_model(options.save_model, *result.classes);
  if (!written && reason != EPIPE) {
    std::fprintf(stderr, "%s: cannot write the results: %s\n", program, std::strerror(reason));
    return 1;
  }
  const bool interrupted = results.back().interrupted;
  if (interrupted && options.sweep)
    std::fprintf(stderr, "%s: interrupted: the widths behind the last row are missing\n", program);
  // Every row of a sweep says how it ended; a single run that failed is a failure of the program.
  if (options.sweep) return interrupted ? 130 : 0;
  if (!result.advice.empty())
    std::fprintf(stderr, "%s: %s: %s\n", program, result.status.c_str(), result.advice.c_str());
  return !result.success ? 1 : interrupted ? 130 : 0;
}

void print_json(const Options& options, const Samples& samples, const std::vector<Result>& results) {
  Json out;
  if (options.sweep) {
    out["runs"] = Json::array();
    for (const Result& result : results) out["runs"].push_back(to_json(options, samples, result));
  } else {
    out = to_json(options, samples, results.front());
  }
  std::printf("%s\n", out.dump(2, ' ', false, Json::error_handler_t::replace).c_str());
}
