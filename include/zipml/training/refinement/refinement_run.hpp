#pragma once
/// \file
/// Room training: what every way of refining an objective has: its readings, observers, clock and result.

#include <bit>
#include <cstdint>
#include <cstdio>
#include <span>
#include <string>
#include <utility>

#include <zipml/analysis/objective.hpp>
#include <zipml/base/collective.hpp>
#include <zipml/base/error.hpp>
#include <zipml/base/fingerprint.hpp>
#include <zipml/model/losses.hpp>
#include <zipml/model/regularizers.hpp>
#include <zipml/training/observer.hpp>
#include <zipml/training/original_units.hpp>
#include <zipml/training/refinement/full_problem.hpp>
#include <zipml/training/refinement/refined.hpp>
#include <zipml/training/refinement/shared_readings.hpp>

namespace zipml::inline ZIPML_ABI::detail {

/// Throws Error for options out of range.
void check_refinement(const RefineOptions& options);

/// Says what is left where a refinement has used up its passes.
void advise(const RefineOptions& options, Refined& result);

/// Throws Error on all workers of the options unless all of them refine as many models on samples of one shape, to one tolerance;
/// `problems` tells losses, estimators, penalties and labels from others.
void require_same_refinement(const RefineOptions& options, const SampleView& samples, Index models,
                             const Fingerprint& problems);

/// What is part of the smooth problem: all of a smooth penalty, nothing of another. Throws Error for one that does not act on
/// each weight alone.
template <Regularizer R>
PenaltyStrengths smooth_part(const R& regularizer) {
  const auto penalty = strengths_of(regularizer);
  if (penalty && penalty->l1 == 0.0) return *penalty;
  if constexpr (!SeparableRegularizer<R>)
    throw Error("refinement is for penalties of each weight alone", "none, l2, l1, an elastic net or a box",
                R::name);
  return {};
}

/// What every refinement of an objective has: its problem, observers and clock.
template <Loss L, Regularizer R>
class RefinementRun {
 public:
  /// `smooth` is the part of the penalty that readings take in: a smooth one, or none. The penalty stands for that of the
  /// objective. Model `model` of those that share readings.
  RefinementRun(const Objective<L, R>& objective, const R& regularizer, const PenaltyStrengths& smooth,
                const RefineOptions& options, std::span<const ObserverRef> observers,
                SharedReadings<L, R>& readings, Index model = 0)
      : objective_(objective),
        regularizer_(regularizer),
        options_(options),
        observers_(observers),
        penalty_(smooth),
        clock_(readings.clock()),
        model_(static_cast<int>(model)),
        problem_(objective, penalty_, readings, model) {
    check_refinement(options);
  }

  Goal goal() const { return {options_.tolerance, 1e-12 * loss_without_weights(objective_)}; }
  double l2() const { return penalty_.l2; }
  /// Whether the penalty is none of the smooth problem.
  bool is_proximal() const {
    const auto penalty = strengths_of(regularizer_);
    return !penalty || penalty->l1 > 0.0;
  }
  FullProblem<L, R>& problem() { return problem_; }
  Refined& result() { return result_; }

  auto reader() {
    return [this](const Eigen::VectorXd& x, Eigen::VectorXd& out) { return problem_.read(x, out); };
  }
  auto multiplier() {
    return [this](const Eigen::VectorXd& p, Eigen::VectorXd& out) { problem_.multiply(p, out); };
  }
  /// Tells the observers; what they take is no time of the refinement.
  auto watcher() {
    return [this](const RefinedPoint& point, const Refined& so_far) {
      const Index d = point.x.size() - 1;
      const EpochEvent event{
          so_far.full_passes, options_.passes,  {point.x.data(), static_cast<std::size_t>(d)},
          point.x(d),         clock_.seconds(), model_};
      bool stop = false;
      clock_.pause([&] {
        for (const ObserverRef& observer : observers_) stop = (observer(event) == Flow::stop) || stop;
        if (options_.reducer != nullptr) stop = options_.reducer->any(stop);
      });
      return stop ? Flow::stop : Flow::go_on;
    };
  }

  Refined finish(const RefinedPoint& at, const std::string& representation) {
    const Index d = at.x.size() - 1;
    Refined result = std::move(result_);
    result.value = at.value;
    result.weights = Buffer<double>(d);
    for (Index j = 0; j < d; ++j) result.weights[j] = at.x(j);
    result.intercept = at.x(d);
    result.full_bytes = problem_.bytes();
    result.seconds_full = problem_.seconds();
    result.model = zipml::in_original_units(objective_, result.weights.span(), result.intercept);
    result.model.representation = representation;
    advise(options_, result);
    result.seconds = clock_.seconds();
    return result;
  }

 private:
  const Objective<L, R>& objective_;
  const R& regularizer_;
  const RefineOptions& options_;
  std::span<const ObserverRef> observers_;
  PenaltyStrengths penalty_;
  RefinementClock& clock_;
  int model_;
  FullProblem<L, R> problem_;
  Refined result_;
};

#if ZIPML_DEFINES

ZIPML_FUNCTION void check_refinement(const RefineOptions& options) {
  if (options.passes < 0)
    throw Error("the number of passes is out of range", "at least 0", std::to_string(options.passes));
  if (!(options.tolerance >= 0.0))
    throw Error("the tolerance is out of range", "at least 0", number_text(options.tolerance));
}

ZIPML_FUNCTION void require_same_refinement(const RefineOptions& options, const SampleView& samples,
                                            Index models, const Fingerprint& problems) {
  const auto count = [](auto value) { return static_cast<std::uint64_t>(value); };
  require_agreement(*options.reducer, {{"numbers of rows", count(samples.rows)},
                                       {"numbers of columns", count(samples.cols)},
                                       {"bits", count(samples.bits)},
                                       {"numbers of models", count(models)},
                                       {"losses, estimators, penalties or labels", problems.value()},
                                       {"numbers of passes", count(options.passes)},
                                       {"tolerances", std::bit_cast<std::uint64_t>(options.tolerance)},
                                       {"direct columns", count(options.direct_columns)}});
}

ZIPML_FUNCTION void advise(const RefineOptions& options, Refined& result) {
  if (!(options.tolerance > 0.0) || result.status != FitStatus::completed || !result.advice.empty()) return;
  char gap[32];
  std::snprintf(gap, sizeof gap, "%.2g", result.gap);
  result.advice = std::string("F - F* is about ") + gap +
                  ", more than was asked for: allow more passes, or take more bits";
}

#endif

}  // namespace zipml::inline ZIPML_ABI::detail
