#pragma once
/// \file
/// Room training: refinement of a quadratic problem: conjugate gradients, and how they know that they are there.

#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>
#include <utility>

#include <zipml/base/buffer.hpp>
#include <zipml/training/observer.hpp>
#include <zipml/training/refinement/refined.hpp>

namespace zipml::inline ZIPML_ABI::detail {

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

/// Conjugate gradients on a quadratic problem that reads through functions, preconditioned by P:
///
///     read(x, gradient)  -> value       // one reading
///     multiply(p, out)                  // out = H p, one reading
///     inverse(r)         -> P^-1 r
///     watch(point, so_far)  -> Flow     // after each reading
template <class Read, class Multiply, class Inverse, class Watch>
class ConjugateSteps {
 public:
  ConjugateSteps(const RefineOptions& options, Goal goal, Read read, Multiply multiply, Inverse inverse,
                 Watch watch)
      : options_(options),
        goal_(goal),
        read_(std::move(read)),
        multiply_(std::move(multiply)),
        inverse_(std::move(inverse)),
        watch_(std::move(watch)) {}

  /// From a point whose residual and value are known (`is_known`) or not.
  void run(RefinedPoint& at, bool is_known, Refined& result) {
    if (is_known) {
      solve(at);
      result.gap = gap();
    } else if (!take(at, result)) {
      return;
    }
    double before = 0.0;
    for (int stalls = 0; stalls < 3;) {
      const bool ended = follow(at, result);
      if (!ended) half_step(at, result);
      if (result.status == FitStatus::stopped || options_.tolerance <= 0.0 ||
          result.full_passes >= options_.passes)
        return;
      // The residual was followed, in float32 products: the end is what a reading says.
      if (!take(at, result)) break;
      if (result.gap <= goal_.at(at.value)) {
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
    solve(at);
    result.gap = gap();
    return goes_on(at, result);
  }
  /// P^-1 r of a residual that is new: once, since it may take readings of the packed samples.
  void solve(const RefinedPoint& at) {
    solved_ = inverse_(at.residual);
    length_ = at.residual.dot(solved_);
  }
  bool goes_on(const RefinedPoint& at, Refined& result) {
    if (watch_(at, result) != Flow::stop) return true;
    result.status = FitStatus::stopped;
    return false;
  }
  /// F - F* is r'H^-1 r / 2, and H at least the smallest eigenvalue times P.
  double gap() const { return 0.5 * length_ / (std::max)(spectrum_.ends().first, 1e-6); }
  /// How much of an error the step P^-1 r leaves, in the norm of the problem.
  double leaves() const {
    if (spectrum_.empty()) return (std::max)(0.1, learned_);
    const auto [low, high] = spectrum_.ends();
    return (std::max)({0.01, learned_, std::fabs(1.0 - low), std::fabs(high - 1.0)});
  }

  /// Conjugate gradients until the step P^-1 r that follows is likely to end within the tolerance, or there are no passes
  /// left. True where they go no further, for want of curvature or for an observer.
  bool follow(RefinedPoint& at, Refined& result) {
    Eigen::VectorXd direction = solved_, product(direction.size());
    while (result.full_passes < options_.passes) {
      const double share = (std::min)(leaves(), 1.0);
      expected_from_ = gap();
      if (share * share * expected_from_ <= 0.25 * goal_.at(at.value)) break;
      if (!(length_ > 0.0)) return true;
      multiply_(direction, product);
      ++result.full_passes;
      const double curvature = direction.dot(product);
      // Where columns are collinear, what is left of such directions is rounding.
      if (!(curvature > 1e-7 * direction.squaredNorm() * scale(product, direction))) return true;
      const double before = length_, alpha = before / curvature;
      at.x += alpha * direction;
      at.residual -= alpha * product;
      at.value -= 0.5 * alpha * before;
      solve(at);
      // z'(r - r_before) for r'z: P^-1 may be another function each time (Notay 2000).
      const double beta = (std::max)(0.0, -alpha * solved_.dot(product) / before);
      spectrum_.add(alpha, length_ / before);
      direction = solved_ + beta * direction;
      result.gap = gap();
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
    at.x += solved_;
    result.gap *= left * left;
  }

  const RefineOptions& options_;
  Goal goal_;
  Read read_;
  Multiply multiply_;
  Inverse inverse_;
  Watch watch_;
  MetSpectrum spectrum_;
  Eigen::VectorXd solved_;  // P^-1 r
  double length_ = 0.0;     // r'P^-1 r
  double largest_ = 0.0;
  double learned_ = 0.0;        // of leaves(), from a reading
  double expected_from_ = 0.0;  // the gap before the step at the end
};

#if ZIPML_DEFINES

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

#endif

}  // namespace zipml::inline ZIPML_ABI::detail
