#pragma once
/// \file
/// Room training: to the exact optimum by readings of the samples in full precision, with the matrix of the packed ones as
/// preconditioner: what rounding did to it costs readings, never accuracy. Needs more of Eigen than its Core; not part of
/// zipml.hpp. The steps stand in training/refinement/.

#include <array>
#include <utility>

#include <zipml/analysis/objective.hpp>
#include <zipml/base/error.hpp>
#include <zipml/estimators/requirements.hpp>
#include <zipml/model/losses.hpp>
#include <zipml/model/regularizers.hpp>
#include <zipml/training/observer.hpp>
#include <zipml/training/refinement/conjugate_steps.hpp>
#include <zipml/training/refinement/full_problem.hpp>
#include <zipml/training/refinement/refine_together.hpp>
#include <zipml/training/refinement/refined.hpp>
#include <zipml/training/refinement/refinement_run.hpp>
#include <zipml/training/refinement/shared_readings.hpp>

namespace zipml::inline ZIPML_ABI {

/// The minimum of an affine loss, or of another convex one, from a store and the rows in full precision that it was packed
/// from. Steps start at the pilot of the store, whose gradient is known without a reading, and use the
/// matrix P of the packed samples (detail::ClippedInverse), of a loss that is not affine times its second derivatives at the
/// start:
///
/// - an affine loss: conjugate gradients on the full-precision problem, preconditioned by P (Hestenes, Stiefel 1952; Saad
///   2003, algorithm 9.1), a reading each, and a last step P^-1 r without one;
/// - another: quasi-Newton steps (L-BFGS, Nocedal, Wright 2006, algorithm 7.4) whose first matrix is P, a reading each;
/// - with a penalty that is not smooth (l1, elastic net, box): proximal quasi-Newton steps from P, a reading each
///   (training/refinement/proximal_steps.hpp).
///
/// Any error of P costs readings, never accuracy; at 2 to 4 bits it takes one to five of them. (Mixed-precision refinement of
/// linear systems: Carson, Higham 2018. Packed samples as the preconditioner of their own problem: ours.) Directions whose
/// variance is below 10^-10 of the largest are beyond what float32 products tell, and are left where they are.
///
/// Of more columns than RefineOptions::direct_columns P is not formed: each use of it is a few readings of the packed samples.
///
/// Every reading is an event for the observers: its epoch counts them. O(n d^2 + d^3) for P, O(n d) a reading. Throws Error
/// for an objective of other rows than the store's, as far as their number, labels and weights tell, penalties that do not act on each weight alone, and options out of range.
///
///     const auto store = zipml::quantize<2>(data, zipml::variance_corrected, {.outliers = 0.003});
///     const auto exact = zipml::refine(store, zipml::variance_corrected, zipml::Objective(data));
template <SampleStore Store, BilinearEstimator Estimator, Loss L, Regularizer R, class... Observers>
requires(AffineLoss<L> || ConvexLoss<L>) Refined
    refine(const Store& store, Estimator estimator, const Objective<L, R>& objective,
           const RefineOptions& options = {}, Observers&&... observers);

/// The same minimum of an affine loss without packed samples, by conjugate gradients from zero: what refinement is compared
/// with, and a solver for those who have no store. As many readings as the square root of the condition number, about.
///
///     const auto plain = zipml::conjugate_gradients(zipml::Objective(data), {.tolerance = 1e-6});
template <AffineLoss L, Regularizer R, class... Observers>
Refined conjugate_gradients(const Objective<L, R>& objective, const RefineOptions& options = {},
                            Observers&&... observers);

template <SampleStore Store, BilinearEstimator Estimator, Loss L, Regularizer R, class... Observers>
requires(AffineLoss<L> || ConvexLoss<L>) Refined
    refine(const Store& store, Estimator estimator, const Objective<L, R>& objective,
           const RefineOptions& options, Observers&&... observers) {
  const std::array<detail::ObserverRef, sizeof...(Observers)> watching{detail::ObserverRef(observers)...};
  detail::check_rows(objective, store.samples(), store.targets());
  const detail::RefinementTask<L, R> task{&objective, &objective.regularizer(), &store.targets()};
  return std::move(
      detail::refine_together<Store, Estimator, L, R>(store, estimator, {&task, 1}, options, watching)[0]);
}

template <AffineLoss L, Regularizer R, class... Observers>
Refined conjugate_gradients(const Objective<L, R>& objective, const RefineOptions& options,
                            Observers&&... observers) {
  const std::array<detail::ObserverRef, sizeof...(Observers)> watching{detail::ObserverRef(observers)...};
  detail::SharedReadings<L, R> readings(objective, options);
  detail::RefinementRun<L, R> run(objective, objective.regularizer(),
                                  detail::smooth_part(objective.regularizer()), options, watching, readings);
  if (run.is_proximal()) throw Error("conjugate gradients are for smooth penalties", "none or l2", R::name);
  const Index size = objective.cols() + 1;
  detail::RefinedPoint at{Eigen::VectorXd::Zero(size), Eigen::VectorXd::Zero(size), 0.0};
  const auto identity = [](const Eigen::VectorXd& r) { return r; };
  detail::ConjugateSteps(options, run.goal(), run.reader(), run.multiplier(), identity, run.watcher())
      .run(at, false, run.result());
  return run.finish(at, "full:32");
}

}  // namespace zipml::inline ZIPML_ABI
