#pragma once
/// \file
/// Room training: variance reduction with anchors that move: SGD on packed samples, and now and then a reading in full precision.
/// Needs more of Eigen than its Core; not part of zipml.hpp.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <string>
#include <utility>

#include <zipml/analysis/objective.hpp>
#include <zipml/base/error.hpp>
#include <zipml/estimators/anchor.hpp>
#include <zipml/estimators/requirements.hpp>
#include <zipml/packing/pilot_loss.hpp>
#include <zipml/storage/pilot.hpp>
#include <zipml/storage/sample_store.hpp>
#include <zipml/training/refinement/refined.hpp>
#include <zipml/training/refinement/refinement_run.hpp>
#include <zipml/training/refinement/shared_readings.hpp>
#include <zipml/training/sgd.hpp>

namespace zipml::inline ZIPML_ABI {

/// Named options of refine_by_sgd().
struct AnchoredOptions {
  int passes = 20;          ///< at most as many readings of the samples in full precision
  double tolerance = 1e-6;  ///< as RefineOptions::tolerance
  FitOptions fit = {.epochs =
                        10};  ///< of the SGD from one anchor to the next; its start and pilot are the anchor
};

namespace detail {

/// A store whose pilot is another.
template <SampleStore Store>
class Reanchored {
 public:
  Reanchored(const Store& store, const Pilot& pilot) : store_(store), pilot_(pilot) {}
  SampleView samples() const {
    SampleView view = store_.samples();
    view.pilot = &pilot_;
    return view;
  }
  const Targets& targets() const { return store_.targets(); }
  const Standardization& standardization() const { return store_.standardization(); }
  std::uint64_t seed() const { return store_.seed(); }
  KernelTable kernels(Isa isa) const { return kernels_for_store(store_, isa); }
  void require_intact() const {
    if constexpr (requires { store_.require_intact(); }) store_.require_intact();
  }

 private:
  const Store& store_;
  const Pilot& pilot_;
};

/// How x, c and their gradient stand in a pilot: targets are offset + scale * label, the loss's second derivative is slope.
struct PilotUnits {
  double offset = 0.0, scale = 1.0, slope = 1.0;
};
template <class L>
PilotUnits pilot_units(const L& loss, const Targets& targets) {
  if constexpr (AffineLoss<L>) {
    const Pilot none;
    const Anchor anchor = affine_anchor(none, loss, targets);
    if (!anchor.reason.empty()) throw Error("there is no anchor for these labels: " + anchor.reason);
    return {anchor.offset, anchor.scale, anchor.slope};
  } else {
    (void)loss;
    (void)targets;
    return {};
  }
}

}  // namespace detail

/// The minimum of a convex objective by rounds of SGD on packed samples, each about an anchor: the weights that the round before
/// has ended at, whose gradient one reading in full precision tells exactly,
///
///     grad F_q(x) - grad F_q(w) + grad F(w)
///
/// (SVRG: Johnson, Zhang 2013; with w at rest what batches and rounding bring in is proportional to x - w, so that a constant
/// step converges to the optimum of the float32 rows, whatever the bits.) For those whose rows pass by, and whose columns are
/// too many for refine(): no matrix is formed, and every penalty goes that SGD takes. The excess falls by a factor a round, which
/// is better with more bits and more epochs in `options.fit`; refine() takes fewer readings where it can be used.
///
/// Starts at the pilot of the store, or at no weights. A round that does not make F less is the last, and is taken back. The
/// gap is estimated from how the last two rounds went down; before that it is F. Every anchor is an event for the observers. O(n d)
/// a reading and an epoch, memory O(d) beside the store. Throws Error as refine() and Sgd::fit, and for labels that are all
/// equal; for an estimator that no anchor serves it does not compile.
///
///     const auto exact = zipml::refine_by_sgd(store, zipml::variance_corrected, zipml::Objective(data));
template <SampleStore Store, BilinearEstimator Estimator, Loss L, Regularizer R, class... Observers>
requires(AffineLoss<L> || (ConvexLoss<L> && OneDrawEstimator<Estimator>)) Refined
    refine_by_sgd(const Store& store, Estimator estimator, const Objective<L, R>& objective,
                  const AnchoredOptions& options = {}, Observers&&... observers) {
  static_assert(StoreHasEnoughDraws<Estimator, Store> && StoreHasBias<Estimator, Store>,
                "zipml: this store was not quantized for this estimator");
  if (options.passes < 1)
    throw Error("the number of passes is out of range", "at least 1", std::to_string(options.passes));
  const std::array<detail::ObserverRef, sizeof...(Observers)> watching{detail::ObserverRef(observers)...};
  const RefineOptions reading{.passes = options.passes,
                              .tolerance = options.tolerance,
                              .threads = options.fit.threads,
                              .isa = options.fit.isa,
                              .reducer = options.fit.reducer};
  detail::SharedReadings<L, R> readings(objective, reading);
  // The penalty is SGD's.
  detail::RefinementRun<L, R> run(objective, objective.regularizer(), {}, reading, watching, readings);
  const SampleView samples = store.samples();
  require_samples_for(estimator, samples);
  detail::check_rows(objective, samples, store.targets());
  const Index d = samples.cols;
  Refined& result = run.result();
  const auto read = run.reader();
  const auto watch = run.watcher();
  const detail::Goal goal = run.goal();

  // The anchor in float32, as a pilot has it: what is read is the gradient there.
  const detail::PilotUnits units = detail::pilot_units(objective.loss(), store.targets());
  Pilot pilot;
  pilot.rows = samples.rows;
  pilot.weights = Buffer<float>(d);
  pilot.gradient = Buffer<double>(d + 1);
  pilot.labels = label_fingerprint(store.targets().of(0));
  if constexpr (!AffineLoss<L>) pilot.loss = loss_fingerprint(objective.loss());
  detail::RefinedPoint at{Eigen::VectorXd::Zero(d + 1), Eigen::VectorXd::Zero(d + 1), 0.0};
  const Anchor start = anchor_for<Estimator>(samples.pilot, objective.loss(), store.targets());
  if (start.used()) {
    result.pilot_rows = start.pilot->rows;
    for (Index j = 0; j < d; ++j) at.x(j) = start.weight(j);
    at.x(d) = start.intercept();
  }
  // Makes a point the anchor; its value is that of F.
  const auto take = [&](detail::RefinedPoint& point) {
    for (Index j = 0; j < d; ++j) {
      pilot.weights[j] = static_cast<float>(point.x(j) / units.scale);
      point.x(j) = units.scale * static_cast<double>(pilot.weights[j]);
    }
    pilot.intercept = (point.x(d) - units.offset) / units.scale;
    const double loss = read(point.x, point.residual);
    ++result.full_passes;
    for (Index j = 0; j <= d; ++j) pilot.gradient[j] = point.residual(j) / (units.slope * units.scale);
    pilot.squares = 2.0 * loss / (units.slope * units.scale * units.scale);
    point.residual = -point.residual;
    point.value = loss + objective.regularizer().value({point.x.data(), static_cast<std::size_t>(d)});
  };

  take(at);
  result.gap = std::fabs(at.value);  // nothing better is known before a round has gained something
  double gained = 0.0;
  const detail::Reanchored<Store> anchored(store, pilot);
  FitOptions inner = options.fit;
  inner.pilot = true;
  for (;;) {
    if (watch(at, result) == Flow::stop) {
      result.status = FitStatus::stopped;
      break;
    }
    if (result.status == FitStatus::converged || result.full_passes >= options.passes) break;
    inner.start = {at.x.data(), static_cast<std::size_t>(d + 1)};
    // Another order of the batches.
    inner.seed = options.fit.seed.value_or(store.seed()) + static_cast<std::uint64_t>(result.full_passes);
    const Fit fit = Sgd(objective.loss(), objective.regularizer()).fit(anchored, estimator, inner);
    result.packed_passes += fit.epochs;
    result.packed_bytes += fit.samples_moved.bytes();
    result.seconds_packed += fit.seconds;
    detail::RefinedPoint next = at;
    if (fit.success()) {
      std::copy_n(fit.weights.data(), d, next.x.data());
      next.x(d) = fit.intercept;
      take(next);
    }
    const double now = at.value - next.value;
    if (!(now > 0.0)) {  // nothing to gain, or no way to it
      const double enough = goal.at(at.value);
      if (enough > 0.0 && fit.success() && -now <= 1e-3 * enough) {  // but for rounding it stays where it is
        result.gap = (std::min)(result.gap, enough);
        result.status = FitStatus::converged;
      } else {
        result.advice = "a round of SGD made the loss no less: take more bits, or more epochs in a round";
      }
      break;
    }
    at = std::move(next);
    // What is left is what the next rounds would gain, each by the factor that the last one had, or half: slow directions show
    // last.
    const double factor = gained > 0.0 ? std::clamp(now / gained, 0.5, 0.98) : 0.5;
    result.gap = now * factor / (1.0 - factor);
    if (gained > 0.0 && result.gap <= goal.at(at.value)) result.status = FitStatus::converged;
    gained = now;
  }
  anchored.require_intact();
  return run.finish(at, std::string(Estimator::name) + ":" + std::to_string(samples.bits));
}

}  // namespace zipml::inline ZIPML_ABI
