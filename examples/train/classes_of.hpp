#pragma once
// Training on labels of more than two classes: a model for each, against the rest or all of them together, over one reading
// an epoch.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>
#include <zipml/analysis/class_objective.hpp>
#include <zipml/analysis/predict_classes.hpp>
#include <zipml/estimators/any_store.hpp>
#include <zipml/training/class_validation.hpp>
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
        values_(zipml::class_values(samples.store ? samples.store->targets().of(0) : train_.labels.span())) {
    const auto refuse = [](bool given, const char* option) {
      if (given)
        throw zipml::Error(std::string(option) + " is for labels of two classes",
                           "without it, or two classes", "more classes");
    };
    refuse(options.sweep, "--sweep");
    refuse(!options.history.empty(), "--history");
    refuse(!options.start.empty(), "--start");
    refuse(options.solver != "sgd", "--solver");
    refuse(options.refetch.has_value(), "--estimator refetch-...");
    refuse(options.refines && options.chooses_penalty(), "--l2 FROM:TO:COUNT with --refine");
  }

  std::vector<Result> run() const {
    if (samples_.store) return {choose_and_train(*samples_.store, 0.0)};
    return {train_as_asked<Loss>(options_, options_.bits, options_.estimator, false, rows_of_a_column(train_),
                                 [&](const zipml::Representation& how) { return pack_and_train(how); })};
  }

 private:
  using Sgd = zipml::Sgd<Loss, zipml::ElasticNet, StepChoice>;

  Sgd sgd(float l2) const {
    return Sgd(Loss{}, zipml::ElasticNet(l2, options_.l1), StepChoice{options_.step});
  }

  Result pack_and_train(const zipml::Representation& representation) const {
    const auto start = Clock::now();
    const zipml::AnyStore store =
        zipml::quantize(train_, representation,
                        {.seed = options_.seed, .pilot = 0, .threads = options_.threads, .isa = options_.isa},
                        options_.fresh && representation.estimator != zipml::EstimatorKind::full);
    const double seconds = seconds_since(start);
    return choose_and_train(store, seconds);
  }

  Result choose_and_train(const zipml::AnyStore& store, double seconds_quantize) const {
    if (!options_.chooses_penalty()) return train(store, options_.l2, seconds_quantize);
    const auto start = Clock::now();
    std::vector<PathPoint> points = path_of(store);
    const double seconds = seconds_since(start);
    const auto chosen =
        std::find_if(points.begin(), points.end(), [](const PathPoint& point) { return point.chosen; });
    if (!options_.json) show_path(options_, points);
    Result result = train(store, chosen->l2, seconds_quantize);
    result.path = std::move(points);
    result.seconds_path = seconds;
    return result;
  }

  zipml::FitOptions how(const zipml::AnyStore& store) const {
    const zipml::SampleView samples = store.samples();
    return fit_options_of(options_, samples.cols, samples.has_integer_path());
  }

  /// Of several classes each against the rest the mean is told, as of one.
  double told(double value) const {
    return zipml::JointLoss<Loss> ? value : value / static_cast<double>(values_.size());
  }

  /// The loss of other rows than those of the training, in the units of a store; their labels are kept in `labels`.
  zipml::ClassObjective<Loss> objective_on(const zipml::AnyStore& store, const zipml::Dataset& rows,
                                           zipml::Buffer<float>& labels) const {
    const double offset = rows.label_offset - store.targets().statistics(0).offset;
    labels = zipml::Buffer<float>(rows.rows);
    for (zipml::Index i = 0; i < rows.rows; ++i)
      labels[i] = static_cast<float>(static_cast<double>(rows.labels[i]) + offset);
    try {
      return zipml::ClassObjective<Loss>(
          zipml::objective_on(store, rows),
          zipml::LabelView(std::as_const(labels).span(), 0.0, rows.weights.span()), values_, Loss{});
    } catch (const zipml::Error& error) {
      throw zipml::Error(zipml::Place{rows.source}, error.what());
    }
  }

  std::vector<PathPoint> path_of(const zipml::AnyStore& store) const {
    std::vector<zipml::ElasticNet> penalties;
    for (const float l2 : options_.l2_path) penalties.emplace_back(l2, options_.l1);
    const auto watch = [](const zipml::EpochEvent& event) {
      if (event.model == 0) zipml::progress_bar()(event);
      return interrupt::asked != 0 ? zipml::Flow::stop : zipml::Flow::go_on;
    };
    return zipml::visit_estimator_for<Loss>(store.representation().estimator, [&](auto estimator) {
      std::vector<PathPoint> points;
      if (options_.folds > 0) {
        zipml::FoldOptions folds{.folds = options_.folds};
        if (!samples_.store) folds.exact = &train_;
        const zipml::CrossValidation found = zipml::cross_validate_classes(
            sgd(options_.l2), store, as_asked(options_, estimator), penalties, folds, how(store), watch);
        for (std::size_t p = 0; p < found.losses.size(); ++p) {
          points.push_back({.l2 = options_.l2_path[p],
                            .loss = told(found.losses[p]),
                            .standard_error = told(found.standard_errors[p]),
                            .chosen = p == (options_.simplest ? found.simplest : found.best)});
          for (const zipml::Fit& fit : found.fits[p]) points.back().failed += fit.success() ? 0 : 1;
        }
      } else {
        const auto fits = zipml::fit_class_path(sgd(options_.l2), store, as_asked(options_, estimator),
                                                penalties, how(store), watch);
        zipml::Buffer<float> labels;
        const auto objective = objective_on(store, samples_.validation, labels);
        std::size_t best = 0;
        for (std::size_t p = 0; p < fits.size(); ++p) {
          points.push_back({.l2 = options_.l2_path[p], .loss = INFINITY, .standard_error = std::nullopt});
          for (const zipml::Fit& fit : fits[p]) points.back().failed += fit.success() ? 0 : 1;
          if (points.back().failed == 0)
            points.back().loss = told(objective(zipml::class_point(fits[p]).span()));
          if (points[p].loss < points[best].loss) best = p;
        }
        points[best].chosen = true;
      }
      return points;
    });
  }

  /// The point of all classes that did best on the validation rows, and when training has waited long enough for a better
  /// one.
  struct Early {
    const zipml::ClassObjective<Loss>& objective;
    int patience;
    zipml::Buffer<double> point, best;
    double least = INFINITY;
    int best_epoch = 0;

    /// True when it is time to stop.
    bool operator()(const zipml::EpochEvent& event) {
      const zipml::Index width = objective.cols() + 1;
      double* const of = point.data() + event.model * width;
      std::copy(event.weights.begin(), event.weights.end(), of);
      of[width - 1] = event.intercept;
      if (event.model + 1 < objective.classes()) return false;
      if (const double value = objective(point.span()); value < least) {
        least = value;
        best = point;
        best_epoch = event.epoch;
      }
      return event.epoch - best_epoch >= patience;
    }
  };

  Result train(const zipml::AnyStore& store, float l2, double seconds_quantize) const {
    return zipml::visit_estimator_for<Loss>(store.representation().estimator, [&](auto estimator) {
      Result result;
      describe_store(options_, store, estimator, seconds_quantize, result);
      result.l2 = l2;
      if (options_.refines) {
        refine(store, estimator, l2, result);
        return result;
      }
      zipml::Buffer<float> labels;
      std::optional<zipml::ClassObjective<Loss>> elsewhere;
      std::optional<Early> early;
      const int patience = options_.patience > 0 ? options_.patience : options_.epochs + 1;
      if (samples_.validation.rows > 0) {
        elsewhere.emplace(objective_on(store, samples_.validation, labels));
        early.emplace(Early{*elsewhere, patience, zipml::Buffer<double>(elsewhere->size()), {}});
      }
      bool waited_out = false;
      const auto watch = [&](const zipml::EpochEvent& event) {
        if (early) waited_out = (*early)(event) || waited_out;
        if (event.model == 0) {
          if (!options_.quiet) zipml::progress_bar()(event);
          result.interrupted = interrupt::asked != 0 && event.epoch < event.epochs;
        }
        return waited_out || result.interrupted ? zipml::Flow::stop : zipml::Flow::go_on;
      };
      zipml::ClassesFit fit =
          zipml::fit_classes(sgd(l2), store, as_asked(options_, estimator), how(store), watch);
      describe(fit, result);
      if (early && result.success && early->best_epoch > 0 && early->best_epoch < result.epochs)
        keep(*early, waited_out, store, fit, result);
      take(fit.model, result);
      if (elsewhere) result.validation_loss = told((*elsewhere)(zipml::class_point(fit.fits).span()));
      if (samples_.store) {
        result.loss_of_store = true;
        for (const zipml::Fit& one : fit.fits)  // of a loss of all classes the same in each
          result.train_loss += one.quantized_loss / static_cast<double>(fit.fits.size());
      } else {
        judge(zipml::class_point(fit.fits), l2, result);
      }
      return result;
    });
  }

  template <class Estimator>
  void refine(const zipml::AnyStore& store, Estimator estimator, float l2, Result& result) const {
    const zipml::RefinedClasses refined =
        refine_classes_as_asked<Loss>(options_, store, estimator, samples_.store ? samples_.full : train_,
                                      zipml::ElasticNet(l2, options_.l1), result);
    take(refined.model, result);
    const zipml::Buffer<double> point = zipml::class_point(refined.refined);
    if (samples_.validation.rows > 0) {
      zipml::Buffer<float> labels;
      result.validation_loss = told(objective_on(store, samples_.validation, labels)(point.span()));
    }
    if (samples_.store)
      result.train_loss = result.refinement->value;
    else
      judge(point, l2, result);
  }

  /// The model, and what it says of rows that it has not seen.
  void take(const zipml::ClassModel& model, Result& result) const {
    if (result.success) result.classes = model;
    if (samples_.sets.test.rows > 0) {
      const zipml::ClassMetrics metrics = zipml::evaluate(model, samples_.sets.test);
      result.test = told_of(metrics);
      result.test_metric = metrics.accuracy;
      result.confusion.assign(metrics.confusion.begin(), metrics.confusion.end());
    }
    if (samples_.validation.rows > 0)
      result.validation = told_of(zipml::evaluate(model, samples_.validation));
  }

  static zipml::Metrics told_of(const zipml::ClassMetrics& metrics) {
    return {.rows = metrics.rows,
            .rmse = NAN,
            .r_squared = std::nullopt,
            .accuracy = metrics.accuracy,
            .auc = std::nullopt,
            .deviance = std::nullopt,
            .log_loss = metrics.log_loss};
  }

  /// Replaces the weights by those that did best on the validation rows.
  void keep(const Early& early, bool waited_out, const zipml::AnyStore& store, zipml::ClassesFit& fit,
            Result& result) const {
    const zipml::Index width = early.objective.cols() + 1;
    const zipml::LabelStatistics statistics = zipml::label_statistics(zipml::LabelView(both_labels));
    for (std::size_t k = 0; k < fit.fits.size(); ++k) {
      zipml::Fit& one = fit.fits[k];
      const double* const of = early.best.data() + static_cast<zipml::Index>(k) * width;
      std::copy_n(of, width - 1, one.weights.data());
      one.intercept = of[width - 1];
      const auto kept = std::pair(one.model.representation, one.model.rows);
      one.model = zipml::in_original_units<Loss>(one.weights.span(), one.intercept, store.standardization(),
                                                 statistics, Loss{}.label_map(statistics));
      one.model.representation = kept.first;
      one.model.rows = kept.second;
    }
    fit.model = zipml::class_model(fit.fits, values_, store.targets().statistics(0).offset);
    result.kept_epoch = early.best_epoch;
    if (waited_out)
      result.advice = "the loss of the validation rows has not fallen for " + std::to_string(early.patience) +
                      " epochs: the weights are those of epoch " + std::to_string(result.kept_epoch);
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

  /// The objective, and its optimum where it can be had.
  void judge(const zipml::Buffer<double>& point, float l2, Result& result) const {
    const zipml::ClassObjective objective(train_, values_, Loss{}, zipml::ElasticNet(l2, options_.l1));
    result.train_loss = told(objective(point.span()));
    if (!options_.needs_optimum || objective.optimum_cost() >= 1e11) return;
    const std::optional<double> optimum = objective.optimum();
    if (!optimum) return;
    const double at_zero = told(objective(zipml::Buffer<double>(objective.size()).span()));
    result.optimum_loss = told(*optimum);
    result.excess = zipml::excess(result.train_loss, *result.optimum_loss, at_zero);
    if (result.success && result.advice.empty() && result.excess && *result.excess > 0.1 &&
        result.train_loss - *result.optimum_loss > 1e-3 * at_zero) {
      char times[64];
      std::snprintf(times, sizeof times, "%.3g", 100.0 * *result.excess);
      result.advice = std::string("it ended ") + times +
                      " % above the exact optima of the classes: more --epochs or more --bits come closer";
    }
  }

  static constexpr float both_labels[] = {-1.0f, 1.0f};

  const Options& options_;
  const Samples& samples_;
  const zipml::Dataset& train_;
  zipml::List<float> values_;
};
