#pragma once
// --refine: from packed samples to the exact optimum, by readings of the rows in full precision.

#include <algorithm>
#include <cstdio>
#include <span>
#include <string>
#include <zipml/estimators/any_store.hpp>
#include <zipml/training/refine_models.hpp>
#include <zipml/training/refinement.hpp>
#include <zipml/zipml.hpp>

#include "../interrupt.hpp"
#include "experiment.hpp"

inline zipml::RefineOptions refine_options_of(const Options& options) {
  return {.passes = options.passes,
          .tolerance = options.tolerance,
          .threads = options.threads,
          .isa = options.isa,
          .reducer = options.reducer};
}

/// Tells of each reading once, however many models it serves; an interrupt ends all of them.
inline auto refinement_watch(const Options& options, Result& result) {
  return [&options, &result, told = 0](const zipml::EpochEvent& event) mutable {
    if (event.epoch > told && !options.quiet && !options.json)
      std::printf("reading %3d  %8.3f s\n", event.epoch, event.seconds);
    told = std::max(told, event.epoch);
    result.interrupted = interrupt::asked != 0;
    return result.interrupted ? zipml::Flow::stop : zipml::Flow::go_on;
  };
}

/// What it took, of several models in all, and what all have reached, value and gap as means over them.
inline void describe_refinement(const Options& options, std::span<const zipml::Refined> models,
                                Result& result) {
  result.isa = zipml::name_of(zipml::active_isa(options.isa));
  result.model_bits = 32;
  result.residual_levels.reset();
  result.success = true;
  Refinement& all = result.refinement.emplace();
  const zipml::Refined* worst = &models[0];
  for (const zipml::Refined& one : models) {
    result.success = result.success && one.success();
    if (worst->status == zipml::FitStatus::converged) worst = &one;
    result.seconds_train = std::max(result.seconds_train, one.seconds);
    all.full_passes = std::max(all.full_passes, one.full_passes);
    all.packed_passes += one.packed_passes;
    all.full_bytes += one.full_bytes;
    all.packed_bytes += one.packed_bytes;
    all.seconds_full += one.seconds_full;
    all.seconds_packed += one.seconds_packed;
    all.value += one.value / static_cast<double>(models.size());
    all.gap += one.gap / static_cast<double>(models.size());
  }
  result.status = zipml::to_string(worst->status);
  result.advice = worst->advice;
  result.pilot_rows = models[0].pilot_rows;
}

template <class Loss, class Estimator>
constexpr bool can_be_refined = zipml::BilinearEstimator<Estimator> &&
                                (zipml::AffineLoss<Loss> || zipml::ConvexLoss<Loss> ||
                                 zipml::JointLoss<Loss>);

template <class Loss, class Estimator>
[[noreturn]] void refuse_refinement(Estimator estimator) {
  throw zipml::Error("this cannot be refined", "a smooth loss, and an estimator that is bilinear",
                     std::string(Loss::name) + " with " + estimator.name);
}

/// Refines as the options say; what it took goes into the result, its weights are returned.
template <class Loss, class Estimator, class Objective>
zipml::Refined refine_as_asked(const Options& options, const zipml::AnyStore& store, Estimator estimator,
                               const Objective& objective, Result& result) {
  if constexpr (can_be_refined<Loss, Estimator>) {
    zipml::Refined refined = zipml::refine(store, estimator, objective, refine_options_of(options),
                                           refinement_watch(options, result));
    describe_refinement(options, {&refined, 1}, result);
    return refined;
  } else {
    refuse_refinement<Loss>(estimator);
  }
}

/// The same of several classes, each against the rest or all together, on the rows that the store was packed from.
template <class Loss, class Estimator>
zipml::RefinedClasses refine_classes_as_asked(const Options& options, const zipml::AnyStore& store,
                                              Estimator estimator, const zipml::Dataset& rows,
                                              const zipml::ElasticNet& penalty, Result& result) {
  if constexpr (can_be_refined<Loss, Estimator>) {
    zipml::RefinedClasses refined =
        zipml::refine_classes(store, estimator, rows, Loss{}, penalty, refine_options_of(options),
                              refinement_watch(options, result));
    describe_refinement(options, refined.refined, result);
    return refined;
  } else {
    refuse_refinement<Loss>(estimator);
  }
}
