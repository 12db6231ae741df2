#pragma once
// --refine: from packed samples to the exact optimum, by readings of the rows in full precision.

#include <algorithm>
#include <cstdio>
#include <string>
#include <zipml/estimators/any_store.hpp>
#include <zipml/training/refinement.hpp>
#include <zipml/zipml.hpp>

#include "../interrupt.hpp"
#include "experiment.hpp"

/// Refines as the options say; what it took goes into the result, its weights are returned.
template <class Loss, class Estimator, class Objective>
zipml::Refined refine_as_asked(const Options& options, const zipml::AnyStore& store, Estimator estimator,
                               const Objective& objective, Result& result) {
  constexpr bool can =
      zipml::BilinearEstimator<Estimator> && (zipml::AffineLoss<Loss> || zipml::ConvexLoss<Loss>);
  if constexpr (!can) {
    throw zipml::Error("this cannot be refined", "a smooth loss, and an estimator that is bilinear",
                       std::string(Loss::name) + " with " + estimator.name);
  } else {
    const auto watch = [&](const zipml::EpochEvent& event) {
      if (!options.quiet && !options.json) std::printf("reading %3d  %8.3f s\n", event.epoch, event.seconds);
      result.interrupted = interrupt::asked != 0;
      return result.interrupted ? zipml::Flow::stop : zipml::Flow::go_on;
    };
    const zipml::Refined refined = zipml::refine(store, estimator, objective,
                                                 {.passes = options.passes,
                                                  .tolerance = options.tolerance,
                                                  .threads = options.threads,
                                                  .isa = options.isa},
                                                 watch);
    result.isa = zipml::name_of(zipml::active_isa(options.isa));
    result.model_bits = 32;
    result.residual_levels.reset();
    result.status = zipml::to_string(refined.status);
    result.advice = refined.advice;
    result.success = refined.success();
    result.seconds_train = refined.seconds;
    result.pilot_rows = refined.pilot_rows;
    result.refinement =
        Refinement{refined.full_passes,  refined.packed_passes,  refined.full_bytes, refined.packed_bytes,
                   refined.seconds_full, refined.seconds_packed, refined.value,      refined.gap};
    return refined;
  }
}
