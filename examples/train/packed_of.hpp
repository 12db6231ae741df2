#pragma once
// Training on a packed file: the rows are not there, so that losses are those of the packed samples.

#include <cstdio>
#include <span>
#include <zipml/analysis/objective.hpp>
#include <zipml/analysis/predict.hpp>
#include <zipml/estimators/any_store.hpp>
#include <zipml/zipml.hpp>

#include "experiment_of.hpp"

template <class Loss>
class PackedExperiment {
 public:
  PackedExperiment(const Options& options, const Samples& samples)
      : options_(options),
        samples_(samples),
        store_(*samples.store),
        test_(samples.sets.test),
        validation_(samples.validation),
        sgd_(Loss{}, zipml::ElasticNet(options.l2, options.l1), StepChoice{options.step}) {}

  std::vector<Result> run() const {
    return {zipml::visit_estimator_for<Loss>(store_.representation().estimator,
                                             [&](auto estimator) { return train(estimator); })};
  }

  template <class Estimator>
  Result train(Estimator estimator) const {
    Result result;
    describe_store(options_, store_, estimator, 0.0, result);
    result.loss_of_store = true;
    const zipml::LabelMap labels = Loss{}.label_map(store_.targets().statistics(0));
    if (options_.refines) {
      const auto objective =
          zipml::objective_on(store_, samples_.full, Loss{}, zipml::ElasticNet(options_.l2, options_.l1));
      const zipml::Refined refined = refine_as_asked<Loss>(options_, store_, estimator, objective, result);
      result.loss_of_store = false;
      result.train_loss = refined.value;
      if (test_.rows > 0) {
        result.test = zipml::evaluate(refined.model, test_);
        result.test_metric = metric_of(*result.test);
      }
      if (result.success) result.model = refined.model;
      return result;
    }
    const int patience = options_.patience > 0 ? options_.patience : options_.epochs + 1;
    std::optional<zipml::Objective<Loss>> elsewhere;
    std::optional<zipml::EarlyStopping<zipml::Objective<Loss>>> early;
    if (validation_.rows > 0)
      early.emplace(elsewhere.emplace(zipml::objective_on(store_, validation_, Loss{})), patience, 0.0);
    const zipml::SampleView samples = store_.samples();
    zipml::FitOptions how = fit_options_of(options_, samples.cols, samples.has_integer_path());
    zipml::Buffer<double> start;
    if (!options_.start.empty()) {
      start = zipml::in_standardised_units<Loss>(zipml::load_model(options_.start), store_);
      how.start = start.span();
    }
    bool waited_out = false;
    const auto watch = [&](const zipml::EpochEvent& event) {
      if (early) waited_out = (*early)(event) == zipml::Flow::stop;
      show(event, labels, early ? early->last() : std::optional<double>());
      result.interrupted = interrupt::asked != 0 && event.epoch < event.epochs;
      return waited_out || result.interrupted ? zipml::Flow::stop : zipml::Flow::go_on;
    };
    zipml::Fit fit = sgd_.fit(store_, as_asked(options_, estimator), how, watch);
    describe_fit(fit, result);
    if (!fit.without_pilot.empty())
      std::fprintf(stderr, "train: without the pilot of the file: %s\n", fit.without_pilot.c_str());
    result.train_loss = fit.quantized_loss;
    if (early) keep_best<Loss>(*early, waited_out, patience, store_, labels, fit, result);
    if (test_.rows > 0) {
      result.test = zipml::evaluate(fit.model, test_);
      result.test_metric = metric_of(*result.test);
    }
    if (elsewhere) {
      result.validation_loss = (*elsewhere)(fit.weights.span(), fit.intercept);
      result.validation = zipml::evaluate(fit.model, validation_);
    }
    if (result.success) result.model = fit.model;
    if (result.interrupted) result.advice = interrupted_advice(fit, options_);
    return result;
  }

 private:
  void show(const zipml::EpochEvent& event, const zipml::LabelMap& labels,
            std::optional<double> validation_loss) const {
    if (options_.json) return zipml::progress_bar()(event);
    if (event.epoch == 1) {
      std::printf("%5s", "epoch");
      if (test_.rows > 0) std::printf("  %12s", test_metric_name(options_));
      if (validation_loss) std::printf("  %12s", "validation");
      std::printf("  %8s\n", "seconds");
    }
    std::printf("%5d", event.epoch);
    if (test_.rows > 0)
      std::printf(
          "  %12.6g",
          metric_of(zipml::evaluate(
              zipml::in_original_units<Loss>(event.weights, event.intercept, store_, labels), test_)));
    if (validation_loss) std::printf("  %12.6g", *validation_loss);
    std::printf("  %8.3f\n", event.seconds);
    std::fflush(stdout);
  }

  const Options& options_;
  const Samples& samples_;
  const zipml::AnyStore& store_;
  const zipml::Dataset& test_;
  const zipml::Dataset& validation_;
  zipml::Sgd<Loss, zipml::ElasticNet, StepChoice> sgd_;
};
