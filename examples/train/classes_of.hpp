#pragma once
// Training on labels of more than two classes: a model for each against the rest, all over one reading an epoch.

#include <cmath>
#include <cstdio>
#include <string>
#include <vector>
#include <zipml/analysis/predict_classes.hpp>
#include <zipml/estimators/any_store.hpp>
#include <zipml/training/classes.hpp>
#include <zipml/zipml.hpp>

#include "experiment_of.hpp"

template <class Loss>
class ClassesExperiment {
 public:
  ClassesExperiment(const Options& options, const Samples& samples)
      : options_(options),
        samples_(samples),
        train_(samples.sets.train),
        penalty_(options.l2, options.l1),
        sgd_(Loss{}, penalty_, StepChoice{options.step}) {
    const auto refuse = [](bool given, const char* option) {
      if (given)
        throw zipml::Error(std::string(option) + " is for labels of two classes",
                           "without it, or two classes", "more classes");
    };
    refuse(options.sweep, "--sweep");
    refuse(!options.history.empty(), "--history");
    refuse(!options.start.empty(), "--start");
    refuse(options.solver != "sgd", "--solver");
    refuse(samples.validation.rows > 0, "--validation");
    refuse(options.refetch.has_value(), "--estimator refetch-...");
    refuse(options.folds > 0, "--cv");
    refuse(options.l2_path.size() > 1, "--l2 FROM:TO:COUNT");
  }

  std::vector<Result> run() const {
    if (samples_.store) return {train(*samples_.store, 0.0)};
    return {train_as_asked<Loss>(options_, options_.bits, options_.estimator, false,
                                 [&](const zipml::Representation& how) { return pack_and_train(how); })};
  }

 private:
  Result pack_and_train(const zipml::Representation& representation) const {
    const auto start = Clock::now();
    const zipml::AnyStore store =
        zipml::quantize(train_, representation,
                        {.seed = options_.seed, .pilot = 0, .threads = options_.threads, .isa = options_.isa},
                        options_.fresh && representation.estimator != zipml::EstimatorKind::full);
    const double seconds = seconds_since(start);
    return train(store, seconds);
  }

  Result train(const zipml::AnyStore& store, double seconds_quantize) const {
    return zipml::visit_estimator_for<Loss>(store.representation().estimator, [&](auto estimator) {
      Result result;
      describe_store(options_, store, estimator, seconds_quantize, result);
      const zipml::SampleView samples = store.samples();
      const zipml::FitOptions how = fit_options_of(options_, samples.cols, samples.has_integer_path());
      const auto watch = [&](const zipml::EpochEvent& event) {
        if (event.model == 0) {
          if (!options_.quiet) zipml::progress_bar()(event);
          result.interrupted = interrupt::asked != 0 && event.epoch < event.epochs;
        }
        return result.interrupted ? zipml::Flow::stop : zipml::Flow::go_on;
      };
      const zipml::ClassesFit fit =
          zipml::fit_classes(sgd_, store, as_asked(options_, estimator), how, watch);
      describe(fit, result);
      if (result.success) result.classes = fit.model;
      if (samples_.sets.test.rows > 0) {
        const zipml::ClassMetrics metrics = zipml::evaluate(fit.model, samples_.sets.test);
        result.test = zipml::Metrics{.rows = metrics.rows,
                                     .rmse = NAN,
                                     .r_squared = std::nullopt,
                                     .accuracy = metrics.accuracy,
                                     .auc = std::nullopt,
                                     .deviance = std::nullopt,
                                     .log_loss = metrics.log_loss};
        result.test_metric = metrics.accuracy;
        result.confusion.assign(metrics.confusion.begin(), metrics.confusion.end());
      }
      if (samples_.store) {
        result.loss_of_store = true;
        for (const zipml::Fit& one : fit.fits)
          result.train_loss += one.quantized_loss / static_cast<double>(fit.fits.size());
      } else {
        judge(fit, result);
      }
      return result;
    });
  }

  /// Of several fits the worst status, and what all of them moved.
  static void describe(const zipml::ClassesFit& fit, Result& result) {
    const auto badness = [](const zipml::Fit& one) {
      return one.success() ? static_cast<int>(one.status) : 1000;  // a warning comes after what is none
    };
    const zipml::Fit* worst = &fit.fits[0];
    for (const zipml::Fit& one : fit.fits)
      if (badness(one) > badness(*worst)) worst = &one;
    describe_fit(*worst, result);
    for (std::size_t k = 1; k < fit.fits.size(); ++k) {
      result.model_moved.payload_bytes += fit.fits[k].model_moved.payload_bytes;
      result.model_moved.scale_bytes += fit.fits[k].model_moved.scale_bytes;
      result.gradient_moved.payload_bytes += fit.fits[k].gradient_moved.payload_bytes;
      result.gradient_moved.scale_bytes += fit.fits[k].gradient_moved.scale_bytes;
    }
    result.success = fit.success();
  }

  /// Mean over the classes of the objective, and of its optimum where it can be had.
  void judge(const zipml::ClassesFit& fit, Result& result) const {
    const auto k = static_cast<double>(fit.fits.size());
    zipml::SolverCost cost = zipml::exact_solution_cost(train_.rows, train_.cols, options_.l1 > 0.0f);
    cost.operations *= k * (zipml::AffineLoss<Loss> ? 1.0 : 10.0);
    constexpr bool has_optimum = zipml::AffineLoss<Loss> || zipml::ConvexLoss<Loss>;
    const bool wants_optimum = has_optimum && options_.needs_optimum && cost.operations < 1e11;
    double at_zero = 0.0, optimum = 0.0;
    bool complete = wants_optimum;
    const zipml::List<float> values = zipml::class_values(train_.labels.span());
    zipml::Buffer<float> labels(train_.rows);
    for (std::size_t c = 0; c < values.size(); ++c) {
      for (zipml::Index i = 0; i < train_.rows; ++i) labels[i] = train_.labels[i] == values[c] ? 1.0f : -1.0f;
      const zipml::Objective objective(
          train_.features(), zipml::LabelView(std::as_const(labels).span(), 0.0, train_.weights.span()),
          Loss{}, penalty_);
      result.train_loss += objective(fit.fits[c].weights.span(), fit.fits[c].intercept) / k;
      if (!complete) continue;
      const zipml::Buffer<double> zero(train_.cols);
      at_zero += objective(zero.span(), 0.0) / k;
      if constexpr (has_optimum) {
        const auto best = zipml::exact_solution(objective);
        complete = best.has_value();
        if (best) optimum += best->value / k;
      }
    }
    if (!complete) return;
    result.optimum_loss = optimum;
    result.excess = zipml::excess(result.train_loss, optimum, at_zero);
    if (result.success && result.advice.empty() && *result.excess > 0.1 &&
        result.train_loss - optimum > 1e-3 * at_zero) {
      char times[64];
      std::snprintf(times, sizeof times, "%.3g", 100.0 * *result.excess);
      result.advice = std::string("it ended ") + times +
                      " % above the exact optima of the classes: more --epochs or more --bits come closer";
    }
  }

  const Options& options_;
  const Samples& samples_;
  const zipml::Dataset& train_;
  zipml::ElasticNet penalty_;
  zipml::Sgd<Loss, zipml::ElasticNet, StepChoice> sgd_;
};
