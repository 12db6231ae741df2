#pragma once
// The experiment itself, for one loss; each has a file of its own, so that they compile side by side.

#include <chrono>
#include <cmath>
#include <cstdio>
#include <span>
#include <zipml/analysis/predict.hpp>
#include <zipml/analysis/realised_system.hpp>
#include <zipml/estimators/any_store.hpp>
#include <zipml/zipml.hpp>

#include "../interrupt.hpp"
#include "experiment.hpp"
#include "refine_of.hpp"

using Clock = std::chrono::steady_clock;
inline double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// --step, or the safe default.
struct StepChoice {
  std::optional<float> step;
  zipml::FallingStep resolve(const zipml::Curvature& curvature, zipml::Index batch) const {
    return step ? zipml::FallingStep(*step) : zipml::AutomaticStep{}.resolve(curvature, batch);
  }
};

inline const char* refetch_name(zipml::RefetchBound bound) {
  return bound == zipml::RefetchBound::l1     ? "refetch-l1"
         : bound == zipml::RefetchBound::norm ? "refetch-norm"
                                              : "refetch-jl";
}

/// An estimator with what the user has said of it.
template <class Estimator>
Estimator as_asked(const Options& options, Estimator estimator) {
  if constexpr (zipml::RangedEstimator<Estimator>)
    if (options.range > 0.0) estimator.range = options.range;
  (void)options;
  return estimator;
}

/// What a result says of the samples that it was trained on.
template <class Estimator>
void describe_store(const Options& options, const zipml::AnyStore& store, Estimator estimator,
                    double seconds_quantize, Result& result) {
  const zipml::Representation& representation = store.representation();
  const zipml::SampleView samples = store.samples();
  result.bits = representation.bits;
  result.l2 = options.l2;
  result.stored_bits = samples.stored_bits;
  result.estimator = options.refetch ? refetch_name(*options.refetch) : estimator.name;
  if (!samples.is_dense()) {
    result.levels = zipml::to_string(representation.levels);
    result.rounding = zipml::to_string(representation.rounding);
  }
  const bool integers = samples.has_integer_path();
  result.model_bits = fit_options_of(options, samples.cols, integers).model.bits;
  result.gradient_bits = options.gradient_bits;
  if (integers && result.model_bits != 32) result.residual_levels = zipml::residual_levels_of(samples);
  result.store_bytes = samples.store_bytes;
  result.label_bytes = store.targets().bytes();
  result.compression = 4.0 * static_cast<double>(samples.rows) * static_cast<double>(samples.cols) /
                       static_cast<double>(samples.store_bytes);
  result.seconds_quantize = seconds_quantize;
}

/// And of the fit.
inline void describe_fit(const zipml::Fit& fit, Result& result) {
  result.isa = fit.isa;
  result.samples_moved = fit.samples_moved;
  result.model_moved = fit.model_moved;
  result.gradient_moved = fit.gradient_moved;
  result.step = fit.step;
  result.epochs = fit.epochs;
  result.advice = fit.advice;
  result.success = fit.success();
  result.seconds_train = fit.seconds;
  result.seconds_per_epoch = fit.seconds_per_epoch;
  result.status = zipml::to_string(fit.status);
  result.pilot_rows = fit.pilot_rows;
  result.refetched.assign(fit.refetched.begin(), fit.refetched.end());
}

/// Replaces the weights of a fit by those that did best on the validation rows.
template <class Loss, class Early>
void keep_best(const Early& early, bool waited_out, int patience, const zipml::AnyStore& store,
               const zipml::LabelMap& labels, zipml::Fit& fit, Result& result) {
  if (!fit.success() || early.best_epoch() == 0 || early.best_epoch() >= fit.epochs) return;
  result.kept_epoch = early.best_epoch();
  fit.weights = early.best_weights();
  fit.intercept = early.best_intercept();
  const std::string representation_text = fit.model.representation;
  fit.model = zipml::in_original_units<Loss>(fit.weights.span(), fit.intercept, store, labels);
  fit.model.representation = representation_text;
  if (waited_out)
    result.advice = "the loss of the validation rows has not fallen for " + std::to_string(patience) +
                    " epochs: the weights are those of epoch " + std::to_string(result.kept_epoch);
}

inline std::string interrupted_advice(const zipml::Fit& fit, const Options& options) {
  return "interrupted after epoch " + std::to_string(fit.epochs) + " of " + std::to_string(options.epochs) +
         ": this is what it had reached";
}

/// The rows in a representation.
template <class Loss>
zipml::AnyStore pack_rows(const Options& options, const zipml::Dataset& rows,
                          const zipml::Representation& representation, double& seconds) {
  const auto start = Clock::now();
  zipml::AnyStore store =
      zipml::quantize(rows, representation,
                      {.seed = options.seed,
                       .pilot = zipml::PilotableLoss<Loss> ? options.pilot : std::optional<zipml::Index>(0),
                       .pilot_loss = zipml::pilot_loss_of(Loss{}),
                       .threads = options.threads,
                       .isa = options.isa},
                      options.fresh && representation.estimator != zipml::EstimatorKind::full);
  seconds = seconds_since(start);
  return store;
}

/// Whether packing such rows fits a pilot.
inline bool has_pilot(const Options& options, const zipml::Dataset& rows) {
  return options.pilot != zipml::Index{0} && zipml::pilot_rows(rows.rows, rows.cols, options.pilot) > 0;
}

inline double rows_of_a_column(const zipml::Dataset& rows) {
  return static_cast<double>(rows.rows) / static_cast<double>(std::max<zipml::Index>(rows.cols, 1));
}

/// What `train` makes of the representation that the user has asked for, or else of the loss's own; of nearest Lloyd-Max
/// levels where rounding brings more into the margins than a corrected loss can undo.
template <class Loss, class Train>
Result train_as_asked(const Options& options, int bits, const std::string& estimator, bool with_pilot,
                      double rows_of_column, const Train& train) {
  if (!options.by_loss || bits == 32) {
    zipml::Representation asked = options.representation(bits, estimator);
    // With few rows for a column the variance of rounding is worse than a bias, which refinement takes away.
    if (options.refines && options.representation_is_free && rows_of_column < 50.0) {
      asked.estimator = zipml::EstimatorKind::naive;
      asked.rounding = zipml::RoundingKind::nearest;
    }
    return train(asked);
  }
  zipml::Representation representation = zipml::default_representation<Loss>(bits, with_pilot);
  representation.outliers = options.outliers;
  Result result = train(representation);
  if (representation.estimator != zipml::EstimatorKind::variance_corrected ||
      (result.status != "indefinite" && result.success))
    return result;
  const std::string found = result.advice;
  representation.estimator = zipml::EstimatorKind::naive;
  representation.levels = zipml::LevelsKind::lloyd_max;
  representation.rounding = zipml::RoundingKind::nearest;
  result = train(representation);
  if (result.advice.empty()) result.advice = "trained on nearest Lloyd-Max levels, since else " + found;
  return result;
}

template <class Loss, class Train>
Result train_as_asked(const Options& options, const zipml::Dataset& rows, const Train& train) {
  return train_as_asked<Loss>(options, options.bits, options.estimator, has_pilot(options, rows),
                              rows_of_a_column(rows), train);
}

template <class Loss>
class Experiment {
 public:
  Experiment(const Options& options, const Samples& samples)
      : options_(options),
        train_(samples.sets.train),
        test_(samples.sets.test),
        objective_(train_, Loss{}, zipml::ElasticNet(options.l2, options.l1)),
        sgd_(Loss{}, zipml::ElasticNet(options.l2, options.l1), StepChoice{options.step}) {
    check_labels(test_);
    check_labels(samples.validation);
    if (samples.validation.rows > 0) validation_.emplace(objective_.on(samples.validation));
    validation_set_ = &samples.validation;
    const zipml::Buffer<double> zero(train_.cols);
    at_zero_ = objective_(zero.span(), 0.0);
    if (!options_.start.empty()) start_ = zipml::load_model(options_.start);
    if constexpr (!has_optimum) return;
    // The exact solver takes minutes where samples are large, and then the excess is left out.
    if (options_.solver != "exact") {
      zipml::SolverCost cost = zipml::exact_solution_cost(train_.rows, train_.cols, options_.l1 > 0.0f);
      if (!zipml::AffineLoss<Loss>) cost.operations *= 10.0;  // steps of Newton's method
      if (!options_.needs_optimum) return;
      if (cost.operations > 1e11 || cost.bytes > options_.table.memory_gib * 0.5 * 1024.0 * 1024.0 * 1024.0) {
        std::fprintf(stderr, "train: the exact optimum is left out, it would take too long at this size\n");
        return;
      }
    }
    if constexpr (has_optimum) optimum_ = zipml::exact_solution(objective_);
    if (options_.solver == "exact" && !optimum_)
      throw zipml::Error("there is no exact solver for this penalty", "--l2 alone", "--l1");
  }

  std::vector<Result> run() {
    if (options_.solver == "exact") return {take_optimum()};
    if (!options_.sweep) return {run_width(options_.bits, options_.estimator)};
    std::vector<Result> results{run_width(32, "full")};
    for (int bits = 1; bits <= 8 && !results.back().interrupted; ++bits) {
      results.push_back(run_width(bits, options_.estimator));
      results.back().speedup = results.front().seconds_per_epoch / results.back().seconds_per_epoch;
    }
    results.front().speedup = 1.0;
    return results;
  }

  /// Trains on a store of the training rows.
  template <class Estimator>
  Result train(const zipml::AnyStore& store, Estimator estimator, double seconds_quantize) {
    const zipml::SampleView samples = store.samples();
    Result result;
    describe_store(options_, store, estimator, seconds_quantize, result);
    const zipml::LabelMap labels = Loss{}.label_map(store.targets().statistics(0));
    if (options_.solver == "direct") {
      solve(store, estimator, labels, result);
      return result;
    }
    if (options_.refines) {
      const zipml::Refined refined = refine_as_asked<Loss>(options_, store, estimator, objective_, result);
      if (refined.pilot_rows > 0) result.pilot_excess = pilot_excess(store, estimator);
      judge(refined.weights.span(), refined.intercept, refined.model, result);
      return result;
    }
    const int patience = options_.patience > 0 ? options_.patience : options_.epochs + 1;
    std::optional<zipml::EarlyStopping<zipml::Objective<Loss>>> early;
    if (validation_) early.emplace(*validation_, patience, 0.0);
    zipml::FitOptions how = fit_options_of(options_, samples.cols, samples.has_integer_path());
    zipml::Buffer<double> start;
    if (start_) {
      start = zipml::in_standardised_units<Loss>(*start_, store);
      how.start = start.span();
    }
    std::optional<zipml::Refetcher> refetcher;
    if (options_.refetch) {
      how.refetcher = &refetcher.emplace(store, train_, zipml::RefetchOptions{.bound = *options_.refetch});
      result.refetch_bits = refetcher->stored_bits();
    }
    bool waited_out = false;
    const auto watch = [&](const zipml::EpochEvent& event) {
      if (options_.records_losses) result.losses.push_back(objective_(event.weights, event.intercept));
      if (early) waited_out = (*early)(event) == zipml::Flow::stop;
      if (!options_.quiet)
        show(event, store, labels, early ? early->last() : std::optional<double>(), result);
      result.interrupted = interrupt::asked != 0 && event.epoch < event.epochs;
      return waited_out || result.interrupted ? zipml::Flow::stop : zipml::Flow::go_on;
    };
    zipml::Fit fit = sgd_.fit(store, as_asked(options_, estimator), how, watch);
    describe_fit(fit, result);
    if (early) keep_best<Loss>(*early, waited_out, patience, store, labels, fit, result);
    if (fit.pilot_rows > 0) result.pilot_excess = pilot_excess(store, estimator);
    judge(fit.weights.span(), fit.intercept, fit.model, result);
    if (result.interrupted) result.advice = interrupted_advice(fit, options_);
    return result;
  }

 private:
  static constexpr bool has_optimum = zipml::AffineLoss<Loss> || zipml::ConvexLoss<Loss>;

  void check_labels(const zipml::Dataset& data) const {
    if (!Loss::classifies || data.rows == 0) return;
    const zipml::LabelStatistics& labels = objective_.label_statistics();
    for (const float y : data.labels) {
      const double label = data.label_offset - labels.offset + static_cast<double>(y);
      if (label != static_cast<double>(labels.min) && label != static_cast<double>(labels.max))
        throw zipml::Error(zipml::Place{data.source}, "a label is of neither class",
                           zipml::number_text(labels.offset + static_cast<double>(labels.min)) + " or " +
                               zipml::number_text(labels.offset + static_cast<double>(labels.max)),
                           zipml::number_text(data.label_offset + static_cast<double>(y)));
    }
  }

  Result run_width(int bits, const std::string& estimator) {
    return train_as_asked<Loss>(options_, bits, estimator, has_pilot(options_, train_),
                                rows_of_a_column(train_),
                                [&](const zipml::Representation& how) { return run(how); });
  }

  Result run(const zipml::Representation& representation) {
    double seconds = 0.0;
    const zipml::AnyStore store = pack_rows<Loss>(options_, train_, representation, seconds);
    return zipml::visit_estimator_for<Loss>(representation.estimator,
                                            [&](auto kind) { return train(store, kind, seconds); });
  }

  /// What weights have reached on all sets.
  void judge(std::span<const double> weights, double intercept, const zipml::LinearModel& model,
             Result& result) const {
    result.train_loss = objective_(weights, intercept);
    if (optimum_) {
      result.optimum_loss = optimum_->value;
      result.excess = zipml::excess(result.train_loss, optimum_->value, at_zero_);
      if (test_.rows > 0) result.optimum_test_metric = metric_of(zipml::evaluate(optimum_model(), test_));
    }
    result.test_metric = test_metric(model);
    if (test_.rows > 0) result.test = zipml::evaluate(model, test_);
    if (validation_) {
      result.validation_loss = (*validation_)(weights, intercept);
      result.validation = zipml::evaluate(model, *validation_set_);
    }
    if (result.success) result.model = model;
    if (result.success && result.advice.empty() && result.excess && *result.excess > 0.1 &&
        result.train_loss - optimum_->value > 1e-3 * at_zero_) {
      char times[64];
      std::snprintf(times, sizeof times, "%.3g", 100.0 * *result.excess);
      result.advice =
          std::string("it ended ") + times +
          " % above the exact optimum, far from it: --solver exact takes that, --solver direct, more "
          "--epochs or more --bits come closer; nearly equal columns are what SGD is slow on";
    }
  }

  /// Of the weights that training begins with.
  template <class Estimator>
  std::optional<double> pilot_excess(const zipml::AnyStore& store, Estimator) const {
    if (!optimum_) return std::nullopt;
    const zipml::Anchor anchor = zipml::anchor_for<Estimator>(store.samples().pilot, Loss{}, store.targets());
    zipml::Buffer<double> weights(train_.cols);
    for (zipml::Index j = 0; j < weights.size(); ++j) weights[j] = anchor.weight(j);
    return zipml::excess(objective_(weights.span(), anchor.intercept()), optimum_->value, at_zero_);
  }

  template <class Estimator>
  void solve(const zipml::AnyStore& store, Estimator estimator, const zipml::LabelMap& labels,
             Result& result) const {
    if constexpr (!zipml::AffineLoss<Loss>)
      throw zipml::Error("this loss is not solved directly");
    else {
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
      zipml::LinearModel model =
          zipml::in_original_units<Loss>(solution->weights.span(), solution->intercept, store, labels);
      model.representation = std::string(estimator.name) + ":" + std::to_string(store.samples().bits);
      result.status = "solved";
      result.success = true;
      judge(solution->weights.span(), solution->intercept, model, result);
    }
  }

  /// --solver exact.
  Result take_optimum() const {
    Result result;
    result.bits = 32;
    result.l2 = options_.l2;
    result.stored_bits = 32.0;
    result.estimator = "full";
    result.isa = zipml::name_of(zipml::active_isa(options_.isa));
    result.status = "solved";
    result.success = true;
    result.store_bytes = 4 * train_.rows * train_.cols;
    result.label_bytes = static_cast<zipml::Index>(train_.labels.bytes());
    result.compression = 1.0;
    judge(optimum_->weights.span(), optimum_->intercept, optimum_model(), result);
    return result;
  }
  zipml::LinearModel optimum_model() const {
    zipml::LinearModel model =
        zipml::in_original_units(objective_, optimum_->weights.span(), optimum_->intercept);
    model.representation = "exact";
    return model;
  }

  std::optional<double> test_metric(const zipml::LinearModel& model) const {
    if (test_.rows == 0) return std::nullopt;
    return metric_of(zipml::evaluate(model, test_));
  }

  /// An epoch, as it ends: a line, a bar, or a record for later.
  void show(const zipml::EpochEvent& event, const zipml::AnyStore& store, const zipml::LabelMap& labels,
            std::optional<double> validation_loss, Result& result) const {
    const bool lines = !options_.json && !options_.sweep;
    if (!lines) zipml::progress_bar()(event);
    if (!lines && options_.history.empty()) return;
    // Rows that are not in memory are read again for this: only when somebody wants the history.
    const bool measures = train_.in_memory() || !options_.history.empty();
    EpochRecord record{
        event.epoch, event.seconds,   measures ? objective_(event.weights, event.intercept) : NAN,
        {},          validation_loss, {}};
    if (optimum_ && measures) record.excess = zipml::excess(record.loss, optimum_->value, at_zero_);
    record.test_metric =
        test_metric(zipml::in_original_units<Loss>(event.weights, event.intercept, store, labels));
    if (!options_.history.empty()) result.history.push_back(record);
    if (!lines) return;
    const auto cell = [](std::optional<double> value, const char* format, const char* none) {
      if (value)
        std::printf(format, *value);
      else
        std::printf("%s", none);
    };
    if (event.epoch == 1)
      std::printf("%5s  %12s  %10s  %12s%s  %8s\n", "epoch", "loss", "excess", test_metric_name(options_),
                  validation_ ? "    validation" : "", "seconds");
    std::printf("%5d", record.epoch);
    cell(measures ? std::optional<double>(record.loss) : std::nullopt, "  %12.6g", "             -");
    cell(record.excess ? std::optional<double>(100.0 * *record.excess) : std::nullopt, "  %8.4f %%",
         "           -");
    cell(record.test_metric, "  %12.6g", "             -");
    if (validation_) cell(validation_loss, "  %12.6g", "             -");
    std::printf("  %8.3f\n", record.seconds);
    std::fflush(stdout);
  }

  const Options& options_;
  const zipml::Dataset& train_;
  const zipml::Dataset& test_;
  zipml::Objective<Loss, zipml::ElasticNet> objective_;
  zipml::Sgd<Loss, zipml::ElasticNet, StepChoice> sgd_;
  double at_zero_ = 0.0;  // the objective of no weights at all
  std::optional<zipml::Optimum> optimum_;
  std::optional<zipml::Objective<Loss>> validation_;
  const zipml::Dataset* validation_set_ = nullptr;
  std::optional<zipml::LinearModel> start_;
};
