#pragma once
/// \file
/// Room training: variance reduction with anchors that move: SGD on packed samples, and now and then a reading in full precision.
/// Needs more of Eigen than its Core; not part of zipml.hpp.

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <string>
#include <utility>

#include <zipml/analysis/objective.hpp>
#include <zipml/base/error.hpp>
#include <zipml/estimators/anchor.hpp>
#include <zipml/estimators/requirements.hpp>
#include <zipml/packing/pilot_loss.hpp>
#include <zipml/storage/pilot.hpp>
#include <zipml/storage/sample_store.hpp>
#include <zipml/training/refinement/full_problem.hpp>
#include <zipml/training/refinement/refined.hpp>
#include <zipml/training/sgd.hpp>

namespace zipml::inline ZIPML_ABI {

/// Named options of refine_by_sgd().
struct AnchoredOptions {
  int passes = 20;                  ///< at most as many readings of the samples in full precision
  double tolerance = 1e-6;          ///< as RefineOptions::tolerance
  FitOptions fit = {.epochs = 10};  ///< of the SGD from one anchor to the next; start and pilot are its own
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
/// gap is estimated from how the last two rounds went down. Every reading is an event for the observers. Memory O(d) beside the
/// store. Throws Error as refine() and Sgd::fit; for an estimator that no anchor serves it does not compile.
///
///     const auto exact = zipml::refine_by_sgd(store, zipml::variance_corrected, zipml::Objective(data));
template <SampleStore Store, BilinearEstimator Estimator, Loss L, Regularizer R, class... Observers>
requires(AffineLoss<L> || (ConvexLoss<L> && OneDrawEstimator<Estimator>)) Refined
    refine_by_sgd(const Store& store, Estimator estimator, const Objective<L, R>& objective,
                  const AnchoredOptions& options = {}, Observers&&... observers) {
  using Clock = std::chrono::steady_clock;
  const auto begin = Clock::now();
  if (options.passes < 1)
    throw Error("the number of passes is out of range", "at least 1", std::to_string(options.passes));
  if (!(options.tolerance >= 0.0))
    throw Error("the tolerance is out of range", "at least 0", number_text(options.tolerance));
  const SampleView samples = store.samples();
  const Index d = samples.cols;
  if (objective.rows() != samples.rows || objective.cols() != d)
    throw Error("the rows are not those that the store was packed from",
                std::to_string(samples.rows) + " x " + std::to_string(d),
                std::to_string(objective.rows()) + " x " + std::to_string(objective.cols()));
  detail::check_labels(objective, store.targets());
  detail::check_weights(objective, samples);
  const std::array<detail::ObserverRef, sizeof...(Observers)> watching{detail::ObserverRef(observers)...};
  const RefineOptions reading{
      .passes = options.passes, .threads = options.fit.threads, .isa = options.fit.isa};
  detail::FullProblem<L, R> problem(objective, {}, reading);  // the penalty is SGD's
  const detail::PilotUnits units = detail::pilot_units(objective.loss(), store.targets());

  // The anchor in float32, as a pilot has it: what is read is the gradient there.
  Pilot pilot;
  pilot.rows = samples.rows;
  pilot.weights = Buffer<float>(d);
  pilot.gradient = Buffer<double>(d + 1);
  pilot.labels = label_fingerprint(store.targets().of(0));
  if constexpr (!AffineLoss<L>) pilot.loss = loss_fingerprint(objective.loss());
  Eigen::VectorXd x = Eigen::VectorXd::Zero(d + 1), gradient(d + 1);
  Refined result;
  const Anchor start = anchor_for<Estimator>(samples.pilot, objective.loss(), store.targets());
  if (start.used()) {
    result.pilot_rows = start.pilot->rows;
    for (Index j = 0; j < d; ++j) x(j) = start.weight(j);
    x(d) = start.intercept();
  }
  const auto take = [&] {
    for (Index j = 0; j < d; ++j) {
      pilot.weights[j] = static_cast<float>(x(j) / units.scale);
      x(j) = units.scale * static_cast<double>(pilot.weights[j]);
    }
    pilot.intercept = (x(d) - units.offset) / units.scale;
    const double loss = problem.read(x, gradient);
    ++result.full_passes;
    for (Index j = 0; j <= d; ++j) pilot.gradient[j] = gradient(j) / (units.slope * units.scale);
    pilot.squares = 2.0 * loss / (units.slope * units.scale * units.scale);
    return loss + objective.regularizer().value({x.data(), static_cast<std::size_t>(d)});
  };
  const auto seconds = [&] { return std::chrono::duration<double>(Clock::now() - begin).count(); };
  const auto goes_on = [&] {
    const EpochEvent event{
        result.full_passes, options.passes, {x.data(), static_cast<std::size_t>(d)}, x(d), seconds(), 0};
    bool stop = false;
    for (const detail::ObserverRef& observer : watching) stop = (observer(event) == Flow::stop) || stop;
    if (stop) result.status = FitStatus::stopped;
    return !stop;
  };

  const detail::Goal goal{options.tolerance, 1e-12 * detail::loss_without_weights(objective)};
  result.value = take();
  double gained = 0.0;
  const detail::Reanchored<Store> anchored(store, pilot);
  FitOptions inner = options.fit;
  inner.pilot = true;
  for (bool more = goes_on(); more && result.full_passes < options.passes;) {
    Buffer<double> from(d + 1);
    std::copy_n(x.data(), d + 1, from.data());
    inner.start = from.span();
    inner.seed = store.seed() + static_cast<std::uint64_t>(result.full_passes);  // another order
    const Fit fit = Sgd(objective.loss(), objective.regularizer()).fit(anchored, estimator, inner);
    result.packed_passes += fit.epochs;
    result.packed_bytes += fit.samples_moved.bytes();
    result.seconds_packed += fit.seconds;
    if (fit.pilot_rows == 0) throw Error("there is no anchor for this fit: " + fit.without_pilot);
    const double before = result.value;
    double value = before;
    if (fit.success()) {
      std::copy_n(fit.weights.data(), d, x.data());
      x(d) = fit.intercept;
      value = take();
    }
    if (!(value < before)) {  // nothing to gain, or no way to it
      std::copy_n(from.data(), d + 1, x.data());
      result.gap = (std::max)(result.gap, 1e-15 * std::fabs(before));
      if (result.gap <= goal.at(before))
        result.status = FitStatus::converged;
      else
        result.advice = "a round of SGD made the loss no less: take more bits, or more epochs in a round";
      break;
    }
    result.value = value;
    // What is left is what the next rounds would gain, each by the factor that the last one had, or half: slow directions show
    // last.
    const double now = before - value, factor = gained > 0.0 ? std::clamp(now / gained, 0.5, 0.98) : 0.5;
    result.gap = now * factor / (1.0 - factor);
    more = goes_on();
    if (more && gained > 0.0 && result.gap <= goal.at(value)) {
      result.status = FitStatus::converged;
      break;
    }
    gained = now;
  }
  anchored.require_intact();
  if (result.status == FitStatus::completed && options.tolerance > 0.0 && result.advice.empty())
    result.advice = "F - F* is about " + number_text(result.gap) +
                    ", more than was asked for: allow more passes, or take more bits";
  result.weights = Buffer<double>(d);
  std::copy_n(x.data(), d, result.weights.data());
  result.intercept = x(d);
  result.full_bytes = problem.bytes();
  result.seconds_full = problem.seconds();
  result.model = in_original_units(objective, result.weights.span(), result.intercept);
  result.model.representation = std::string(Estimator::name) + ":" + std::to_string(samples.bits);
  result.seconds = seconds();
  return result;
}

}  // namespace zipml::inline ZIPML_ABI
