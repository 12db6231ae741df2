#pragma once
// --cv and --l2 FROM:TO:COUNT: which penalty the rows held out want, all candidates over one reading an epoch; then the fit
// with it.

#include <cstdio>
#include <vector>
#include <zipml/analysis/ridge_path.hpp>
#include <zipml/training/cross_validation.hpp>
#include <zipml/training/penalty_path.hpp>

#include "experiment_of.hpp"
#include "packed_of.hpp"

template <class Loss>
class PathExperiment {
 public:
  PathExperiment(const Options& options, const Samples& samples) : options_(options), samples_(samples) {}

  std::vector<Result> run() const {
    if (samples_.store) return {choose_and_train(*samples_.store, 0.0)};
    return {train_as_asked<Loss>(options_, samples_.sets.train, [&](const zipml::Representation& how) {
      double seconds = 0.0;
      const zipml::AnyStore store = pack_rows<Loss>(options_, samples_.sets.train, how, seconds);
      return choose_and_train(store, seconds);
    })};
  }

 private:
  Result choose_and_train(const zipml::AnyStore& store, double seconds_quantize) const {
    return zipml::visit_estimator_for<Loss>(store.representation().estimator, [&](auto estimator) {
      const auto start = Clock::now();
      std::vector<PathPoint> points = options_.leaves_one_out() ? by_leaving_out(store, estimator)
                                      : options_.folds > 0      ? by_folds(store, estimator)
                                                                : by_validation(store, estimator);
      const double seconds = seconds_since(start);
      const PathPoint* chosen = &points[0];
      for (PathPoint& point : points)
        if (point.chosen) chosen = &point;
      Options one = options_;
      one.l2 = chosen->l2;
      if (!options_.json) show_path(options_, points);
      Result result = samples_.store
                          ? PackedExperiment<Loss>(one, samples_).train(estimator)
                          : Experiment<Loss>(one, samples_).train(store, estimator, seconds_quantize);
      result.path = std::move(points);
      result.seconds_path = seconds;
      return result;
    });
  }

  std::vector<zipml::ElasticNet> penalties() const {
    std::vector<zipml::ElasticNet> all;
    for (const float l2 : options_.l2_path) all.emplace_back(l2, options_.l1);
    return all;
  }
  zipml::Sgd<Loss, zipml::ElasticNet, StepChoice> sgd() const {
    return zipml::Sgd<Loss, zipml::ElasticNet, StepChoice>(
        Loss{}, zipml::ElasticNet(options_.l2, options_.l1), StepChoice{options_.step});
  }
  /// What all candidates are trained with: an interrupt ends them.
  zipml::FitOptions how(const zipml::AnyStore& store) const {
    const zipml::SampleView samples = store.samples();
    return fit_options_of(options_, samples.cols, samples.has_integer_path());
  }
  static auto watch() {
    return [](const zipml::EpochEvent& event) {
      if (event.model == 0) zipml::progress_bar()(event);
      return interrupt::asked != 0 ? zipml::Flow::stop : zipml::Flow::go_on;
    };
  }

  template <class Estimator>
  std::vector<PathPoint> by_folds(const zipml::AnyStore& store, Estimator estimator) const {
    zipml::FoldOptions folds{.folds = options_.folds};
    if (!samples_.store) folds.exact = &samples_.sets.train;
    const zipml::CrossValidation found = zipml::cross_validate(sgd(), store, as_asked(options_, estimator),
                                                               penalties(), folds, how(store), watch());
    std::vector<PathPoint> points;
    for (std::size_t p = 0; p < found.losses.size(); ++p) {
      PathPoint point{.l2 = options_.l2_path[p],
                      .loss = found.losses[p],
                      .standard_error = found.standard_errors[p],
                      .chosen = p == (options_.simplest ? found.simplest : found.best)};
      for (const zipml::Fit& fit : found.fits[p])
        if (!fit.success()) ++point.failed;
      points.push_back(point);
    }
    return points;
  }

  /// Generalised cross-validation of the packed system.
  template <class Estimator>
  std::vector<PathPoint> by_leaving_out(const zipml::AnyStore& store, Estimator estimator) const {
    std::vector<PathPoint> points;
    if constexpr (zipml::AffineLoss<Loss> && zipml::BilinearEstimator<Estimator>) {
      const std::vector<double> strengths(options_.l2_path.begin(), options_.l2_path.end());
      const auto path = zipml::ridge_path(store, estimator, Loss{}, strengths, options_.threads);
      if (!path)
        throw zipml::Error("the samples have no pilot to start at", "more rows, or --solver sgd",
                           std::to_string(store.samples().rows) + " rows");
      for (std::size_t p = 0; p < path->points.size(); ++p)
        points.push_back({.l2 = options_.l2_path[p],
                          .loss = path->points[p].left_out,
                          .standard_error = std::nullopt,
                          .chosen = p == path->best});
    } else {
      throw zipml::Error("this loss is not solved directly");
    }
    return points;
  }

  template <class Estimator>
  std::vector<PathPoint> by_validation(const zipml::AnyStore& store, Estimator estimator) const {
    if (!options_.refines)
      return judged(store, zipml::fit_path(sgd(), store, as_asked(options_, estimator), penalties(),
                                           how(store), watch()));
    if constexpr (can_be_refined<Loss, Estimator>) {
      const auto candidates = penalties();
      const zipml::Dataset& rows = samples_.store ? samples_.full : samples_.sets.train;
      const auto objective = zipml::objective_on(store, rows, Loss{}, candidates[0]);
      return judged(store, zipml::refine_path(store, estimator, objective, candidates,
                                              refine_options_of(options_), watch()));
    } else {
      refuse_refinement<Loss>(estimator);
    }
  }

  /// What the validation rows say of a range of Fit, or of Refined.
  template <class Fits>
  std::vector<PathPoint> judged(const zipml::AnyStore& store, const Fits& fits) const {
    const auto objective = zipml::objective_on(store, samples_.validation, Loss{});
    std::vector<PathPoint> points;
    std::size_t best = 0;
    for (std::size_t p = 0; p < fits.size(); ++p) {
      PathPoint point{.l2 = options_.l2_path[p], .loss = INFINITY, .standard_error = std::nullopt};
      if (fits[p].success())
        point.loss = objective(fits[p].weights.span(), fits[p].intercept);
      else
        point.failed = 1;
      points.push_back(point);
      if (points[p].loss < points[best].loss) best = p;
    }
    points[best].chosen = true;
    return points;
  }

  const Options& options_;
  const Samples& samples_;
};
