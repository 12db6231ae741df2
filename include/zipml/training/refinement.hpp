#pragma once
/// \file
/// Room training: to the exact optimum by readings of the samples in full precision, with the matrix of the packed ones as
/// preconditioner: what rounding did to it costs readings, never accuracy. Needs more of Eigen than its Core; not part of
/// zipml.hpp.

#include <Eigen/Eigenvalues>
#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include <zipml/analysis/clipped_inverse.hpp>
#include <zipml/analysis/full_pass.hpp>
#include <zipml/analysis/lbfgs.hpp>
#include <zipml/analysis/objective.hpp>
#include <zipml/analysis/realised_system.hpp>
#include <zipml/base/error.hpp>
#include <zipml/base/isa.hpp>
#include <zipml/estimators/anchor.hpp>
#include <zipml/estimators/requirements.hpp>
#include <zipml/training/fit.hpp>
#include <zipml/training/observer.hpp>
#include <zipml/training/original_units.hpp>
#include <zipml/training/packed_solver.hpp>
#include <zipml/training/proximal_refinement.hpp>
#include <zipml/training/sgd.hpp>

namespace zipml::inline ZIPML_ABI {

/// Named options of refine().
struct RefineOptions {
  int passes = 100;  ///< at most as many readings of the samples in full precision
  double tolerance =
      1e-6;  ///< ends when F - F* is below this share of F, as a last reading tells; 0: after all passes
  int threads = 1;       ///< 0: all of the machine. The same bits for any
  std::string isa = {};  ///< as FitOptions::isa
  /// Up to so many columns P is formed, in some 32 d^2 bytes, and factorised, in d^3 / 3 operations; beyond them it is divided
  /// by in some readings of the packed samples, which then depend on the instruction set in their last bits.
  Index direct_columns = 4096;
};

/// What refine() returns.
struct Refined {
  LinearModel model;       ///< in the user's units
  Buffer<double> weights;  ///< standardised
  double intercept = 0.0;  ///< standardised
  double value = 0.0;      ///< of the objective, in full precision, where it was last read or followed to
  double gap = 0.0;        ///< estimate of F - F* of the weights
  FitStatus status = FitStatus::completed;  ///< converged: the gap was read to be below the tolerance
  std::string advice;                       ///< what hinders; empty when all is well
  int full_passes = 0;                      ///< readings of the samples in full precision
  int packed_passes = 0;                    ///< of the packed ones
  double full_bytes = 0.0;                  ///< of all these readings
  double packed_bytes = 0.0;
  double seconds_full = 0.0;    ///< in them
  double seconds_packed = 0.0;  ///< reading packed samples, and factorising what they make
  double seconds = 0.0;         ///< in all
  Index pilot_rows = 0;         ///< that the start was fitted to; 0: started at zero, which costs a reading

  bool success() const { return status != FitStatus::diverged; }
};

/// The minimum of an affine loss, or of another convex one, from a store and the rows in full precision that it was packed
/// from. Steps start at the pilot of the store, whose gradient is known without a reading, and use the
/// matrix P of the packed samples (detail::ClippedInverse), of a loss that is not affine times its second derivatives at the
/// start:
///
/// - an affine loss: conjugate gradients on the full-precision problem, preconditioned by P (Hestenes, Stiefel 1952; Saad
///   2003, algorithm 9.1), a reading each, and a last step P^-1 r without one;
/// - another: quasi-Newton steps (L-BFGS, Nocedal, Wright 2006, algorithm 7.4) whose first matrix is P, a reading each;
/// - with a penalty that is not smooth (l1, elastic net, box): proximal quasi-Newton steps from P, a reading each
///   (training/proximal_refinement.hpp).
///
/// Any error of P costs readings, never accuracy; at 2 to 4 bits it takes one to five of them. (Mixed-precision refinement of
/// linear systems: Carson, Higham 2018. Packed samples as the preconditioner of their own problem: ours.) Directions whose
/// variance is below 10^-10 of the largest are beyond what float32 products tell, and are left where they are.
///
/// Of more columns than RefineOptions::direct_columns P is not formed: each use of it is a few readings of the packed samples.
///
/// Every reading is an event for the observers: its epoch counts them. O(n d^2 + d^3) for P, O(n d) a reading. Throws Error
/// for an objective of other rows than the store's, as far as their number and the labels tell, penalties that do not act on each weight alone, and options out of range.
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

namespace detail {

/// A point of refinement, and what is known there.
struct RefinedPoint {
  Eigen::VectorXd x;         ///< d + 1, the intercept last
  Eigen::VectorXd residual;  ///< minus the gradient
  double value = 0.0;
};

/// The spectrum of P^-1 H, as far as conjugate gradients have met it: the eigenvalues of the tridiagonal matrix that their
/// coefficients make (Saad 2003, section 6.7.3).
class MetSpectrum {
 public:
  void add(double alpha, double beta);
  bool empty() const { return diagonal_.empty(); }
  /// The smallest and the largest eigenvalue; 1 and 1 where nothing is known.
  std::pair<double, double> ends() const;

 private:
  List<double> diagonal_, off_;
  double alpha_ = 0.0, beta_ = 0.0;
};

/// Steps of refinement on a problem that reads through functions:
///
///     read(x, gradient)  -> value       // one reading
///     multiply(p, out)                  // out = H p, one reading
///     inverse(r)         -> P^-1 r
///     watch(point, gap)  -> Flow        // after each reading
template <class Read, class Multiply, class Inverse, class Watch>
class Refiner {
 public:
  Refiner(const RefineOptions& options, Read read, Multiply multiply, Inverse inverse, Watch watch)
      : options_(options),
        read_(std::move(read)),
        multiply_(std::move(multiply)),
        inverse_(std::move(inverse)),
        watch_(std::move(watch)) {}

  /// From a point whose residual and value are known (`is_known`) or not.
  void run(RefinedPoint& at, bool is_known, Refined& result) {
    if (!is_known && !take(at, result)) return;
    double before = 0.0;
    for (int stalls = 0; stalls < 3;) {
      const bool ended = follow(at, result);
      if (!ended) half_step(at, result);
      if (result.status == FitStatus::stopped || options_.tolerance <= 0.0 ||
          result.full_passes >= options_.passes)
        return;
      // The residual was followed, in float32 products: the end is what a reading says.
      if (!take(at, result)) break;
      if (result.gap <= options_.tolerance * std::fabs(at.value)) {
        result.status = FitStatus::converged;
        break;
      }
      // The step at the end has left more than the spectrum that was met had said.
      if (!ended) learned_ = std::sqrt(result.gap / (std::max)(expected_from_, 1e-300));
      if (before > 0.0 && result.gap > 0.25 * before) ++stalls;
      before = result.gap;
      if (ended && stalls > 0) break;
    }
    half_step(at, result);
  }

 private:
  /// Reads value and residual.
  bool take(RefinedPoint& at, Refined& result) {
    Eigen::VectorXd gradient(at.x.size());
    at.value = read_(at.x, gradient);
    ++result.full_passes;
    at.residual = -gradient;
    result.gap = gap_of(at.residual);
    return goes_on(at, result);
  }
  bool goes_on(const RefinedPoint& at, Refined& result) {
    if (watch_(at, result) != Flow::stop) return true;
    result.status = FitStatus::stopped;
    return false;
  }
  /// F - F* is r'H^-1 r / 2, and H at least the smallest eigenvalue times P.
  double gap_of(const Eigen::VectorXd& r) const {
    return 0.5 * r.dot(inverse_(r)) / (std::max)(spectrum_.ends().first, 1e-6);
  }
  /// How much of an error the step P^-1 r leaves, in the norm of the problem.
  double leaves() const {
    if (spectrum_.empty()) return (std::max)(0.1, learned_);
    const auto [low, high] = spectrum_.ends();
    return (std::max)({0.01, learned_, std::fabs(1.0 - low), std::fabs(high - 1.0)});
  }

  /// Conjugate gradients until the step P^-1 r that follows is likely to end within the tolerance, or there are no passes
  /// left. True where they go no further, for want of curvature or for an observer.
  bool follow(RefinedPoint& at, Refined& result) {
    Eigen::VectorXd z = inverse_(at.residual), direction = z, product(z.size());
    double length = at.residual.dot(z);
    while (result.full_passes < options_.passes) {
      const double share = (std::min)(leaves(), 1.0);
      expected_from_ = gap_of(at.residual);
      if (share * share * expected_from_ <= 0.25 * options_.tolerance * std::fabs(at.value)) break;
      if (!(length > 0.0)) return true;
      multiply_(direction, product);
      ++result.full_passes;
      const double curvature = direction.dot(product);
      // Where columns are collinear, what is left of such directions is rounding.
      if (!(curvature > 1e-7 * direction.squaredNorm() * scale(product, direction))) return true;
      const double alpha = length / curvature;
      at.x += alpha * direction;
      const Eigen::VectorXd before = at.residual;
      at.residual -= alpha * product;
      at.value -= 0.5 * alpha * length;
      z = inverse_(at.residual);
      const double now = at.residual.dot(z);
      const double beta = (std::max)(0.0, z.dot(at.residual - before) / length);
      spectrum_.add(alpha, now / length);
      direction = z + beta * direction;
      length = now;
      result.gap = gap_of(at.residual);
      if (!goes_on(at, result)) return true;
    }
    return false;
  }
  /// The largest curvature that was met: rounding is relative to it.
  double scale(const Eigen::VectorXd& product, const Eigen::VectorXd& direction) {
    return largest_ = (std::max)(largest_, product.norm() / (std::max)(direction.norm(), 1e-300));
  }

  /// x + P^-1 r, where that brings the optimum nearer. The residual there is not known.
  void half_step(RefinedPoint& at, Refined& result) {
    const double left = leaves();
    if (!(left < 1.0)) return;
    const Eigen::VectorXd z = inverse_(at.residual);
    at.x += z;
    result.gap *= left * left;
  }

  const RefineOptions& options_;
  Read read_;
  Multiply multiply_;
  Inverse inverse_;
  Watch watch_;
  MetSpectrum spectrum_;
  double largest_ = 0.0;
  double learned_ = 0.0;        // of leaves(), from a reading
  double expected_from_ = 0.0;  // the gap before the step at the end
};

}  // namespace detail

namespace detail {

/// The full-precision problem of an objective: what readings of it tell.
template <Loss L, Regularizer R>
class FullProblem {
 public:
  FullProblem(const Objective<L, R>& objective, const PenaltyStrengths& penalty, const RefineOptions& options)
      : objective_(objective),
        l2_(penalty.l2),
        pass_(objective.features(), objective.weights(), objective.standardization(), options.threads,
              active_isa(options.isa)) {}

  double seconds() const { return seconds_; }
  double bytes() const {
    return static_cast<double>(pass_.readings()) * 4.0 * static_cast<double>(pass_.rows()) *
           static_cast<double>(pass_.cols());
  }
  double penalty(const Eigen::VectorXd& x) const { return 0.5 * l2_ * x.head(pass_.cols()).squaredNorm(); }

  /// The value; writes the gradient.
  double read(const Eigen::VectorXd& x, Eigen::VectorXd& gradient) {
    const double value = reading(x, gradient, [&](Index i, double z) {
      const double label = objective_.label(i);
      FullPass::Slope slope{objective_.loss().value(z, label), 0.0};
      if constexpr (AffineLoss<L>)
        slope.first = static_cast<double>(L::slope) * (z - target_of(objective_.loss(), label));
      else
        slope.first = objective_.loss().derivatives(z, label).first;
      return slope;
    });
    return value + penalty(x);
  }
  /// H p of an affine loss.
  void multiply(const Eigen::VectorXd& p, Eigen::VectorXd& out) {
    if constexpr (AffineLoss<L>)
      (void)reading(p, out, [](Index, double z) {
        return FullPass::Slope{0.0, static_cast<double>(L::slope) * z};
      });
  }

 private:
  template <class SlopeOf>
  double reading(const Eigen::VectorXd& x, Eigen::VectorXd& out, const SlopeOf& slope_of) {
    const auto start = std::chrono::steady_clock::now();
    const double value = pass_({x.data(), static_cast<std::size_t>(x.size())}, slope_of, out.data());
    for (Index j = 0; j < pass_.cols(); ++j) out(j) += l2_ * x(j);
    seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return value;
  }

  const Objective<L, R>& objective_;
  double l2_;
  FullPass pass_;
  double seconds_ = 0.0;
};

/// w_i l''(q_i'x + c) of the packed rows, for labels in store order.
template <class L>
Buffer<float> curvatures_at(const SampleView& samples, const L& loss, std::span<const float> labels,
                            const LabelMap& map, const Eigen::VectorXd& x) {
  Buffer<float> curvatures(samples.rows), row(samples.cols);
  for (Index i = 0; i < samples.rows; ++i) {
    samples.decode_row(i, 0, row.data());
    double z = x(samples.cols);
    for (Index j = 0; j < samples.cols; ++j) z += static_cast<double>(row[j]) * x(j);
    const auto label = static_cast<double>(map.apply(labels[static_cast<std::size_t>(i)]));
    const double weight = samples.weights != nullptr ? static_cast<double>(samples.weights[i]) : 1.0;
    curvatures[i] = static_cast<float>(weight * loss.derivatives(z, label).second);
  }
  return curvatures;
}

/// What packed samples make of the second derivatives at a point, inverted.
template <BilinearEstimator Estimator, class L>
ClippedInverse packed_inverse(const SampleView& samples, const L& loss, const Targets& targets, double l2,
                              const Eigen::VectorXd& x, const RefineOptions& options) {
  const Index n = samples.rows, d = samples.cols;
  SampleView weighted = samples;
  Buffer<float> curvatures;
  double slope = 1.0;
  if constexpr (AffineLoss<L>) {
    slope = static_cast<double>(L::slope);
  } else {
    curvatures = curvatures_at(samples, loss, targets.of(0), loss.label_map(targets.statistics(0)), x);
    weighted.weights = curvatures.data();
  }
  Eigen::MatrixXd matrix;
  Eigen::VectorXd right, variance = Eigen::VectorXd::Zero(d + 1);
  realised_system(weighted, Estimator::pairs, false, Buffer<float>(n), matrix, right, options.threads,
                  active_isa(options.isa));
  matrix *= slope;
  // The intercept's entry is the mean curvature, which rounding's variance is multiplied with.
  const double mean = matrix(d, d);
  for (Index j = 0; j < d; ++j) {
    matrix(j, j) += l2;
    if (Estimator::corrected) variance(j) = mean * static_cast<double>(samples.bias[j]);
  }
  return ClippedInverse(matrix, variance, 2.0 * std::sqrt(static_cast<double>(d) / static_cast<double>(n)));
}

/// Quasi-Newton steps from a point whose gradient and value are known: `read` and `watch` as Refiner has them; `invert(x)` makes
/// P^-1 at a point, which is done anew where the optimum is nearer by far than when that was done last, and steps fall short.
template <class Read, class Invert, class Watch>
void minimise_from(RefinedPoint& at, const RefineOptions& options, const Read& read, const Invert& invert,
                   const Watch& watch, Refined& result) {
  constexpr int most_inverses = 4;
  auto inverse = invert(at.x);
  int inverses = 1;
  double gap_there = -1.0, gap_before = -1.0;
  const Index size = at.x.size();
  LbfgsMemory memory(size, 30);
  const auto buffer = [size](const Eigen::VectorXd& v, double factor) {
    Buffer<double> copy(size);
    for (Index j = 0; j < size; ++j) copy[j] = factor * v(j);
    return copy;
  };
  const auto precondition = [&](Buffer<double>& v) {
    const Eigen::VectorXd solved = inverse(Eigen::Map<const Eigen::VectorXd>(v.data(), size));
    std::copy_n(solved.data(), size, v.data());
  };
  for (bool may_step = true; may_step;) {
    const Buffer<double> step = memory.direction(buffer(at.residual, -1.0), precondition);
    const Eigen::VectorXd direction = Eigen::Map<const Eigen::VectorXd>(step.data(), size);
    const double slope = at.residual.dot(direction);  // twice what a step of 1 gains, about
    result.gap = (std::max)(slope, 0.0);              // twice: second derivatives change on the way
    if (gap_there < 0.0) gap_there = result.gap;
    if (inverses < most_inverses && result.gap < 0.02 * gap_there && result.gap > 0.05 * gap_before &&
        result.gap > options.tolerance * std::fabs(at.value)) {
      if constexpr (requires { inverse = invert(at.x); })
        inverse = invert(at.x);
      else
        (void)invert(at.x);  // a function of what has been replaced
      ++inverses;
      gap_there = gap_before = -1.0;
      continue;
    }
    gap_before = result.gap;
    const bool close = result.full_passes > 0 && result.gap <= options.tolerance * std::fabs(at.value);
    if (close) result.status = FitStatus::converged;
    if (close || result.full_passes >= options.passes) {  // the last step needs no reading
      if (slope > 0.0) at.x += direction;
      return;
    }
    if (!(slope > 0.0)) return;
    RefinedPoint next{at.x, Eigen::VectorXd(size), 0.0};
    may_step = false;
    for (double length = 1.0; !may_step && length > 1e-4 && result.full_passes < options.passes;
         length *= 0.5) {
      next.x = at.x + length * direction;
      next.value = read(next.x, next.residual);
      next.residual = -next.residual;
      ++result.full_passes;
      may_step = next.value <= at.value - 1e-4 * length * slope + 1e-15 * std::fabs(at.value);
    }
    if (!may_step) return;
    memory.add(buffer(at.x, 1.0), buffer(next.x, 1.0), buffer(at.residual, -1.0),
               buffer(next.residual, -1.0));
    at = std::move(next);
    if (watch(at, result) == Flow::stop) {
      result.status = FitStatus::stopped;
      return;
    }
  }
}

/// Throws Error where the labels of an objective and of the store have other means or mean squares: these are other rows.
/// Both are in units of the loss. O(n).
template <class L, class R>
void check_labels(const Objective<L, R>& objective, const Targets& targets) {
  const LabelMap map = objective.loss().label_map(targets.statistics(0));
  double means[2] = {}, squares[2] = {};
  const std::span<const float> packed = targets.of(0);
  for (Index i = 0; i < objective.rows(); ++i) {
    const double here = objective.label(i);
    const auto there = static_cast<double>(map.apply(packed[static_cast<std::size_t>(i)]));
    means[0] += here;
    means[1] += there;
    squares[0] += here * here;
    squares[1] += there * there;
  }
  const double most =
      1e-3 * std::sqrt(static_cast<double>(objective.rows()) * (std::max)(squares[0], squares[1]));
  if (std::fabs(means[0] - means[1]) > most ||
      std::fabs(squares[0] - squares[1]) > 1e-3 * (std::max)(squares[0], squares[1]))
    throw Error("the labels are not those that the store was packed with", "the rows of the store", "others");
}

/// Throws Error for options out of range.
void check_refinement(const RefineOptions& options);

}  // namespace detail

namespace detail {

/// What every refinement of an objective has: its problem, observers and clock.
template <Loss L, Regularizer R>
class RefinementRun {
 public:
  RefinementRun(const Objective<L, R>& objective, const RefineOptions& options,
                std::span<const ObserverRef> observers)
      : objective_(objective),
        options_(options),
        observers_(observers),
        penalty_(smooth_part(objective.regularizer())),
        problem_(objective, penalty_, options) {
    check_refinement(options);
  }

  double l2() const { return penalty_.l2; }
  /// Whether the penalty is none of the smooth problem.
  bool is_proximal() const {
    const auto penalty = strengths_of(objective_.regularizer());
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
      const auto pause = Clock::now();
      const Index d = point.x.size() - 1;
      const EpochEvent event{
          so_far.full_passes, options_.passes, {point.x.data(), static_cast<std::size_t>(d)},
          point.x(d),         seconds(),       0};
      bool stop = false;
      for (const ObserverRef& observer : observers_) stop = (observer(event) == Flow::stop) || stop;
      watching_ += Clock::now() - pause;
      return stop ? Flow::stop : Flow::go_on;
    };
  }
  double seconds() const { return std::chrono::duration<double>(Clock::now() - begin_ - watching_).count(); }

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
    if (options_.tolerance > 0.0 && result.status == FitStatus::completed)
      result.advice = "F - F* is about " + number_text(result.gap) +
                      ", more than was asked for: allow more passes, or take more bits";
    result.seconds = seconds();
    return result;
  }

 private:
  using Clock = std::chrono::steady_clock;

  /// What is part of the smooth problem: all of a smooth penalty, nothing of another.
  static PenaltyStrengths smooth_part(const R& regularizer) {
    const auto penalty = strengths_of(regularizer);
    if (penalty && penalty->l1 == 0.0) return *penalty;
    if constexpr (!SeparableRegularizer<R>)
      throw Error("refinement is for penalties of each weight alone", "none, l2, l1, an elastic net or a box",
                  R::name);
    return {};
  }

  const Objective<L, R>& objective_;
  const RefineOptions& options_;
  std::span<const ObserverRef> observers_;
  Clock::time_point begin_ = Clock::now();
  Clock::duration watching_{};
  PenaltyStrengths penalty_;
  FullProblem<L, R> problem_;
  Refined result_;
};

}  // namespace detail

template <SampleStore Store, BilinearEstimator Estimator, Loss L, Regularizer R, class... Observers>
requires(AffineLoss<L> || ConvexLoss<L>) Refined
    refine(const Store& store, Estimator estimator, const Objective<L, R>& objective,
           const RefineOptions& options, Observers&&... observers) {
  static_assert(StoreHasEnoughDraws<Estimator, Store> && StoreHasBias<Estimator, Store>,
                "zipml: this store was not quantized for this estimator");
  const std::array<detail::ObserverRef, sizeof...(Observers)> watching{detail::ObserverRef(observers)...};
  detail::RefinementRun<L, R> run(objective, options, watching);
  const SampleView samples = store.samples();
  require_samples_for(estimator, samples);
  const Index d = samples.cols;
  if (objective.rows() != samples.rows || objective.cols() != d)
    throw Error("the rows are not those that the store was packed from",
                std::to_string(samples.rows) + " x " + std::to_string(d),
                std::to_string(objective.rows()) + " x " + std::to_string(objective.cols()));
  detail::check_labels(objective, store.targets());
  Refined& result = run.result();

  detail::RefinedPoint at{Eigen::VectorXd::Zero(d + 1), Eigen::VectorXd::Zero(d + 1), 0.0};
  const Anchor anchor = anchor_for<Estimator>(samples.pilot, objective.loss(), store.targets());
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
    const double before = run.seconds();
    detail::ClippedInverse inverse =
        detail::packed_inverse<Estimator>(samples, objective.loss(), store.targets(), run.l2(), x, options);
    result.seconds_packed += run.seconds() - before;
    const int passes = AffineLoss<L> ? 1 : 2;  // margins first
    result.packed_passes += passes;
    result.packed_bytes += static_cast<double>(passes * samples.store_bytes);
    return inverse;
  };
  // Without forming it: a function, of which there is one at a time.
  std::unique_ptr<detail::PackedSolver<Estimator>> solver;
  const auto invert_packed = [&](const Eigen::VectorXd& x) {
    Buffer<float> curvatures;
    double slope = 1.0;
    if constexpr (AffineLoss<L>)
      slope = static_cast<double>(L::slope);
    else
      curvatures = detail::curvatures_at(samples, objective.loss(), store.targets().of(0),
                                         objective.loss().label_map(store.targets().statistics(0)), x);
    const double noise = 2.0 * std::sqrt(static_cast<double>(d) / static_cast<double>(samples.rows));
    solver = std::make_unique<detail::PackedSolver<Estimator>>(
        detail::kernels_for_store(store, active_isa(options.isa)), samples, std::move(curvatures), slope,
        run.l2(), AffineLoss<L> ? (std::max)(0.0, 1.0 - noise) : 0.0, options.threads);
    return [&](const Eigen::VectorXd& r) {
      const double before = run.seconds();
      const int passes = solver->passes();
      Eigen::VectorXd z = (*solver)(r);
      result.seconds_packed += run.seconds() - before;
      result.packed_passes += solver->passes() - passes;
      result.packed_bytes += static_cast<double>((solver->passes() - passes) * samples.store_bytes);
      return z;
    };
  };
  const auto read = run.reader();
  const auto watch = run.watcher();
  const auto refine_with = [&](const auto& inverted) {
    if constexpr (AffineLoss<L>)
      detail::Refiner(options, read, run.multiplier(), inverted(at.x), watch).run(at, anchor.used(), result);
    else
      detail::minimise_from(at, options, read, inverted, watch, result);
  };
  if ((!AffineLoss<L> || run.is_proximal()) && !anchor.used() && options.passes > 0) {
    at.value = read(at.x, at.residual);
    at.residual = -at.residual;
    ++result.full_passes;
    if (watch(at, result) == Flow::stop) result.status = FitStatus::stopped;
  }
  const bool forms = d <= options.direct_columns;
  if (result.status == FitStatus::stopped) {
  } else if (!run.is_proximal() && forms) {
    refine_with(invert);
  } else if (!run.is_proximal()) {
    refine_with(invert_packed);
  } else if (!forms) {
    throw Error(
        "a penalty that is not smooth needs the matrix of the packed samples",
        "at most " + std::to_string(options.direct_columns) + " columns (RefineOptions::direct_columns)",
        std::to_string(d));
  } else if constexpr (SeparableRegularizer<R>) {
    detail::minimise_proximal(at, options, invert(at.x).matrix(), objective.regularizer(), read, watch,
                              result);
  }
  return run.finish(at, std::string(Estimator::name) + ":" + std::to_string(samples.bits));
}

template <AffineLoss L, Regularizer R, class... Observers>
Refined conjugate_gradients(const Objective<L, R>& objective, const RefineOptions& options,
                            Observers&&... observers) {
  const std::array<detail::ObserverRef, sizeof...(Observers)> watching{detail::ObserverRef(observers)...};
  detail::RefinementRun<L, R> run(objective, options, watching);
  const Index size = objective.cols() + 1;
  detail::RefinedPoint at{Eigen::VectorXd::Zero(size), Eigen::VectorXd::Zero(size), 0.0};
  const auto identity = [](const Eigen::VectorXd& r) { return r; };
  detail::Refiner(options, run.reader(), run.multiplier(), identity, run.watcher())
      .run(at, false, run.result());
  return run.finish(at, "full:32");
}

#if ZIPML_DEFINES

namespace detail {

ZIPML_FUNCTION void check_refinement(const RefineOptions& options) {
  if (options.passes < 0)
    throw Error("the number of passes is out of range", "at least 0", std::to_string(options.passes));
  if (!(options.tolerance >= 0.0))
    throw Error("the tolerance is out of range", "at least 0", number_text(options.tolerance));
}

ZIPML_FUNCTION void MetSpectrum::add(double alpha, double beta) {
  if (!diagonal_.empty()) off_.push_back(std::sqrt((std::max)(beta_, 0.0)) / alpha_);
  diagonal_.push_back(1.0 / alpha + (diagonal_.empty() ? 0.0 : beta_ / alpha_));
  alpha_ = alpha;
  beta_ = beta;
}

ZIPML_FUNCTION std::pair<double, double> MetSpectrum::ends() const {
  const auto size = static_cast<Index>(diagonal_.size());
  if (size == 0) return {1.0, 1.0};
  const Eigen::VectorXd diagonal = Eigen::Map<const Eigen::VectorXd>(diagonal_.data(), size);
  const Eigen::VectorXd off = Eigen::Map<const Eigen::VectorXd>(off_.data(), size - 1);
  Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver;
  solver.computeFromTridiagonal(diagonal, off, Eigen::EigenvaluesOnly);
  return {solver.eigenvalues()(0), solver.eigenvalues()(size - 1)};
}

}  // namespace detail

#endif

}  // namespace zipml::inline ZIPML_ABI
