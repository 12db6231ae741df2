#pragma once
/// \file
/// Room training: the refinement of one model or of several over the same readings, step by step.

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include <zipml/analysis/objective.hpp>
#include <zipml/base/buffer.hpp>
#include <zipml/base/fingerprint.hpp>
#include <zipml/base/isa.hpp>
#include <zipml/estimators/anchor.hpp>
#include <zipml/estimators/requirements.hpp>
#include <zipml/model/losses.hpp>
#include <zipml/model/regularizers.hpp>
#include <zipml/training/observer.hpp>
#include <zipml/training/refinement/conjugate_steps.hpp>
#include <zipml/training/refinement/full_problem.hpp>
#include <zipml/training/refinement/packed_inverse.hpp>
#include <zipml/training/refinement/proximal_steps.hpp>
#include <zipml/training/refinement/quasi_newton_steps.hpp>
#include <zipml/training/refinement/refined.hpp>
#include <zipml/training/refinement/refinement_run.hpp>
#include <zipml/training/refinement/shared_readings.hpp>
#include <zipml/training/sgd.hpp>

namespace zipml::inline ZIPML_ABI::detail {

/// One of the models that are refined together: rows, labels and loss of an objective, a penalty that stands for the objective's, and
/// its labels in store order. All of it must outlive the refinement.
template <Loss L, Regularizer R>
struct RefinementTask {
  const Objective<L, R>* objective;
  const R* regularizer;
  const Targets* targets;
  int target = 0;
};

/// Packed samples and what divides by them.
struct PackedSide {
  const KernelTable& kernels;
  const SampleView& samples;
  SharedInverses& inverses;
};

/// Refines one model. Its start is the pilot of the samples where that is of its labels and loss, else no weights.
template <BilinearEstimator Estimator, Loss L, Regularizer R>
Refined refine_one(const PackedSide& packed, const RefinementTask<L, R>& task, const RefineOptions& options,
                   RefinementRun<L, R>& run) {
  const SampleView& samples = packed.samples;
  const Index d = samples.cols;
  const L& loss = task.objective->loss();
  Refined& result = run.result();
  RefinedPoint at{Eigen::VectorXd::Zero(d + 1), Eigen::VectorXd::Zero(d + 1), 0.0};
  const Anchor anchor = anchor_for<Estimator>(samples.pilot, loss, *task.targets);
  if (anchor.used()) {
    result.pilot_rows = anchor.pilot->rows;
    for (Index j = 0; j < d; ++j) {
      at.x(j) = anchor.weight(j);
      at.residual(j) = -anchor.gradient(j) - run.l2() * at.x(j);
    }
    at.x(d) = anchor.intercept();
    at.residual(d) = -anchor.gradient(d);
    at.value = anchor.loss() + run.problem().penalty(at.x);
  }
  const auto invert = [&](const Eigen::VectorXd& x) {
    return PackedInverse<Estimator>(packed.kernels, samples, loss, *task.targets, task.target, run.l2(), x,
                                    options, packed.inverses, result);
  };
  const auto read = run.reader();
  const auto watch = run.watcher();
  const bool is_quadratic = AffineLoss<L> && !run.is_proximal();
  bool goes_on = true;
  if (!is_quadratic && !anchor.used() && options.passes > 0) {
    at.value = read(at.x, at.residual);
    at.residual = -at.residual;
    ++result.full_passes;
    goes_on = watch(at, result) != Flow::stop;
    if (!goes_on) result.status = FitStatus::stopped;
  }
  if (is_quadratic)
    ConjugateSteps(options, run.goal(), read, run.multiplier(), invert(at.x), watch)
        .run(at, anchor.used(), result);
  else if (goes_on && !run.is_proximal())
    quasi_newton_steps(at, options, run.goal(), read, invert, watch, result);
  else if (goes_on)
    if constexpr (SeparableRegularizer<R>)  // smooth_part has refused others
      proximal_steps(at, options, run.goal(), invert(at.x).matrix(), *task.regularizer, read, watch, result);
  return run.finish(at, std::string(Estimator::name) + ":" + std::to_string(samples.bits));
}

/// Refines the models of tasks, at least one, whose objectives are on the same rows in the same units; these are checked but for
/// their labels. The result of a model has the bits that it has alone.
template <SampleStore Store, BilinearEstimator Estimator, Loss L, Regularizer R>
List<Refined> refine_together(const Store& store, Estimator estimator,
                              std::span<const RefinementTask<L, R>> tasks, const RefineOptions& options,
                              std::span<const ObserverRef> observers) {
  static_assert(StoreHasEnoughDraws<Estimator, Store> && StoreHasBias<Estimator, Store>,
                "zipml: this store was not quantized for this estimator");
  SharedReadings<L, R> readings(*tasks[0].objective, options);
  List<std::unique_ptr<RefinementRun<L, R>>> runs;
  for (const RefinementTask<L, R>& task : tasks)
    runs.push_back(std::make_unique<RefinementRun<L, R>>(*task.objective, *task.regularizer,
                                                         smooth_part(*task.regularizer), options, observers,
                                                         readings, static_cast<Index>(runs.size())));
  const SampleView samples = store.samples();
  require_samples_for(estimator, samples);
  check_samples(*tasks[0].objective, samples);
  if (options.reducer != nullptr) {
    Fingerprint problems;
    for (const std::string_view name : {L::name, Estimator::name, R::name}) problems.add(name);
    for (const RefinementTask<L, R>& task : tasks)
      problems.add(penalty_fingerprint(*task.regularizer, samples.cols))
          .add(label_fingerprint(task.targets->of(task.target)));
    require_same_refinement(options, samples, static_cast<Index>(tasks.size()), problems);
  }
  const KernelTable kernels = kernels_for_store(store, active_isa(options.isa));
  SharedInverses inverses;
  const PackedSide packed{kernels, samples, inverses};
  List<Refined> results(tasks.size());
  readings.run(static_cast<Index>(tasks.size()), [&](Index model) {
    const auto m = static_cast<std::size_t>(model);
    results[m] = refine_one<Estimator>(packed, tasks[m], options, *runs[m]);
  });
  // Of samples in a file: what was read of a part that was lost is no result.
  if constexpr (requires { store.require_intact(); }) store.require_intact();
  return results;
}

}  // namespace zipml::inline ZIPML_ABI::detail
