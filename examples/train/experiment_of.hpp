#pragma once
// The experiment itself, for one loss; each has a file of its own, so that they compile side by side.

#include <chrono>
#include <cstdio>
#include <zipml/analysis/realised_system.hpp>
#include <zipml/estimators/any_store.hpp>
#include <zipml/zipml.hpp>

#include "experiment.hpp"

using Clock = std::chrono::steady_clock;
inline double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// --step, or the safe default.
struct StepChoice {
  std::optional<float> step;
  zipml::ConstantStep resolve(const zipml::Curvature& curvature, zipml::Index batch) const {
    return step ? zipml::ConstantStep(*step) : zipml::AutomaticStep{}.resolve(curvature, batch);
  }
};

template <class Loss>
class Experiment {
 public:
  Experiment(const Options& options, const Samples& samples)
      : options_(options),
        train_(samples.sets.train),
        test_(samples.sets.test),
        objective_(train_, Loss{}, zipml::ElasticNet(options.l2, options.l1)),
        sgd_(Loss{}, zipml::ElasticNet(options.l2, options.l1), StepChoice{options.step}) {
    check_test_labels();
    // The exact solver costs n d^2: minutes where this is large, and then the excess is left out.
    const auto d = static_cast<double>(train_.cols);
    if (!options_.needs_optimum) return;
    if (static_cast<double>(train_.rows) * d * d < 1e11) {
      optimum_ = zipml::exact_solution(objective_)->value;
      const zipml::Buffer<double> zero(train_.cols);
      if (*optimum_ < 1e-12 * objective_(zero.span(), 0.0)) optimum_.reset();
    } else {
      std::fprintf(stderr, "train: the exact optimum is left out, it would take too long at this size\n");
    }
  }

  std::vector<Result> run() {
    if (!options_.sweep) return {run_width(options_.bits, options_.estimator)};
    std::vector<Result> results{run_width(32, "full")};
    for (int bits = 1; bits <= 8; ++bits) {
      results.push_back(run_width(bits, options_.estimator));
      results.back().speedup = results.front().seconds_per_epoch / results.back().seconds_per_epoch;
    }
    results.front().speedup = 1.0;
    return results;
  }

 private:
  void check_test_labels() const {
    if (!Loss::classifies || test_.rows == 0) return;
    const zipml::LabelStatistics labels = zipml::label_statistics(train_.labels.data(), train_.rows);
    for (const float y : test_.labels)
      if (y != labels.min && y != labels.max)
        throw zipml::Error(zipml::Place{test_.source}, "a test label is of neither class",
                           std::to_string(labels.min) + " or " + std::to_string(labels.max),
                           std::to_string(y));
  }

  Result run_width(int bits, const std::string& estimator) {
    const zipml::Representation representation = options_.representation(bits, estimator);
    const auto start = Clock::now();
    const zipml::AnyStore store = zipml::quantize(
        train_, representation,
        {.seed = options_.seed, .pilot = options_.pilot, .threads = options_.threads, .isa = options_.isa},
        options_.fresh && representation.estimator != zipml::EstimatorKind::full);
    const double seconds = seconds_since(start);
    return zipml::visit_estimator(representation.estimator,
                                  [&](auto kind) { return train(store, kind, seconds); });
  }

  template <class Estimator>
  Result train(const zipml::AnyStore& store, Estimator estimator, double seconds_quantize) {
    const zipml::Representation& representation = store.representation();
    const zipml::SampleView samples = store.samples();
    Result result;
    result.bits = representation.bits;
    result.stored_bits = samples.stored_bits;
    result.estimator = estimator.name;
    if (!samples.is_dense()) {
      result.levels = zipml::to_string(representation.levels);
      result.rounding = zipml::to_string(representation.rounding);
    }
    const bool integers = samples.has_integer_path();
    result.model_bits = fit_options_of(options_, samples.cols, integers).model.bits;
    result.gradient_bits = options_.gradient_bits;
    if (integers && result.model_bits != 32) result.residual_levels = zipml::residual_levels_of(samples);
    result.store_bytes = samples.store_bytes;
    result.label_bytes = store.targets().bytes();
    result.compression = 4.0 * static_cast<double>(samples.rows) * static_cast<double>(samples.cols) /
                         static_cast<double>(samples.store_bytes);
    result.seconds_quantize = seconds_quantize;
    result.optimum_loss = optimum_;

    const zipml::LabelMap labels = Loss{}.label_map(store.targets().statistics(0));
    if (options_.solver == "direct") {
      solve(store, estimator, labels, result);
      return result;
    }
    const auto watch = [&](const zipml::EpochEvent& event) {
      if (options_.records_losses) result.losses.push_back(objective_(event.weights, event.intercept));
      if (options_.quiet) return;
      if (options_.json || options_.sweep) return zipml::progress_bar()(event);
      const auto model = zipml::in_original_units<Loss>(event.weights, event.intercept, store, labels);
      print_epoch(event, objective_(event.weights, event.intercept), test_metric(model));
    };
    const zipml::Fit fit =
        sgd_.fit(store, estimator, fit_options_of(options_, samples.cols, integers), watch);
    result.isa = fit.isa;
    result.samples_moved = fit.samples_moved;
    result.model_moved = fit.model_moved;
    result.gradient_moved = fit.gradient_moved;
    result.step = fit.step;
    result.epochs = fit.epochs;
    result.train_loss = objective_(fit.weights.span(), fit.intercept);
    if (optimum_) result.excess = zipml::excess(result.train_loss, *optimum_);
    result.test_metric = test_metric(fit.model);
    result.seconds_train = fit.seconds;
    result.seconds_per_epoch = fit.seconds_per_epoch;
    result.status = zipml::to_string(fit.status);
    result.advice = fit.advice;
    result.pilot_rows = fit.pilot_rows;
    if (fit.pilot_rows > 0) result.pilot_excess = pilot_excess(store, estimator);
    result.success = fit.success();
    if (fit.success() && !options_.save_model.empty()) zipml::save_model(options_.save_model, fit.model);
    return result;
  }

  /// Of the weights that training begins with.
  template <class Estimator>
  std::optional<double> pilot_excess(const zipml::AnyStore& store, Estimator) const {
    if (!optimum_) return std::nullopt;
    const zipml::Anchor anchor = zipml::anchor_for<Estimator>(store.samples().pilot, Loss{}, store.targets());
    zipml::Buffer<double> weights(train_.cols);
    for (zipml::Index j = 0; j < weights.size(); ++j) weights[j] = anchor.weight(j);
    return zipml::excess(objective_(weights.span(), anchor.intercept()), *optimum_);
  }

  template <class Estimator>
  void solve(const zipml::AnyStore& store, Estimator estimator, const zipml::LabelMap& labels,
             Result& result) const {
    const auto start = Clock::now();
    const auto solution = zipml::pilot_solution(store, estimator, objective_);
    if (!solution)
      throw zipml::Error("the samples have no pilot to start at", "more rows, or --solver sgd",
                         std::to_string(train_.rows) + " rows");
    result.seconds_train = seconds_since(start);
    result.isa = zipml::name_of(zipml::active_isa(options_.isa));
    result.model_bits = 32;
    result.residual_levels.reset();
    result.pilot_rows = store.samples().pilot->rows;
    result.pilot_excess = pilot_excess(store, estimator);
    result.train_loss = solution->value;
    if (optimum_) result.excess = zipml::excess(result.train_loss, *optimum_);
    const zipml::LinearModel model =
        zipml::in_original_units<Loss>(solution->weights.span(), solution->intercept, store, labels);
    result.test_metric = test_metric(model);
    result.status = "solved";
    result.success = true;
    if (!options_.save_model.empty()) zipml::save_model(options_.save_model, model);
  }

  std::optional<double> test_metric(const zipml::LinearModel& model) const {
    if (test_.rows == 0) return std::nullopt;
    return Loss::classifies ? zipml::accuracy(model, test_.features(), test_.labels.data())
                            : zipml::rmse(model, test_.features(), test_.labels.data());
  }

  void print_epoch(const zipml::EpochEvent& event, double loss, std::optional<double> metric) const {
    if (event.epoch == 1)
      std::printf("%5s  %12s  %10s  %12s  %8s\n", "epoch", "loss", "excess", test_metric_name(options_),
                  "seconds");
    std::printf("%5d  %12.6g", event.epoch, loss);
    if (optimum_)
      std::printf("  %8.4f %%", 100.0 * zipml::excess(loss, *optimum_));
    else
      std::printf("  %10s", "-");
    if (metric)
      std::printf("  %12.6g", *metric);
    else
      std::printf("  %12s", "-");
    std::printf("  %8.3f\n", event.seconds);
    std::fflush(stdout);
  }

  const Options& options_;
  const zipml::Dataset& train_;
  const zipml::Dataset& test_;
  zipml::Objective<Loss, zipml::ElasticNet> objective_;
  zipml::Sgd<Loss, zipml::ElasticNet, StepChoice> sgd_;
  std::optional<double> optimum_;
};
