#pragma once
/// \file
/// Room training: refinement where the penalty is not smooth but acts on each weight alone: l1, elastic net, box. Part of
/// training/refinement.hpp.

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>

#include <zipml/eigen.hpp>
#include <zipml/model/regularizers.hpp>
#include <zipml/training/fit.hpp>
#include <zipml/training/observer.hpp>

namespace zipml::inline ZIPML_ABI::detail {

/// argmin_z g'(z - x) + t/2 (z - x)'P (z - x) + penalty(z) by coordinate descent from x (Friedman, Hastie, Tibshirani 2010),
/// until no coordinate moves by more than 10^-9 of the largest, or 2,000 sweeps; the last entry, the intercept, has no penalty. O(d^2) a sweep.
template <SeparableRegularizer R>
Eigen::VectorXd proximal_step(const Eigen::MatrixXd& matrix, double t, const Eigen::VectorXd& gradient,
                              const Eigen::VectorXd& x, const R& regularizer) {
  const Index size = x.size();
  Eigen::VectorXd z = x, slope = gradient;  // slope = g + t P (z - x)
  for (int sweep = 0; sweep < 2000; ++sweep) {
    double largest = 0.0, moved = 0.0;
    for (Index j = 0; j < size; ++j) {
      const double curvature = t * matrix(j, j), before = z(j);
      z(j) -= slope(j) / curvature;
      if (j + 1 < size) {
        auto single = static_cast<float>(z(j));
        regularizer.prox(std::span<float>(&single, 1), static_cast<float>(1.0 / curvature));
        // A prox is of floats: what it has moved is taken over, not its rounding.
        const auto unmoved = static_cast<float>(z(j));
        z(j) = single == 0.0f ? 0.0 : z(j) + (static_cast<double>(single) - static_cast<double>(unmoved));
      }
      const double change = z(j) - before;
      if (change != 0.0) slope += (t * change) * matrix.col(j);
      moved = (std::max)(moved, std::fabs(change));
      largest = (std::max)(largest, std::fabs(z(j)));
    }
    if (moved <= 1e-9 * largest) break;
  }
  return z;
}

/// Proximal steps in the metric of P from a point whose gradient and value (of the loss alone) are known, a reading each; of
/// a quadratic loss accelerated (Beck, Teboulle 2009; restarted: O'Donoghue, Candes 2015), since its gradient between two
/// points follows from theirs. t grows where P is less than the matrix of the problem.
template <class Point, SeparableRegularizer R, class Read, class Watch, class Result, class Options>
void minimise_proximal(Point& at, const Options& options, const Eigen::MatrixXd& matrix, const R& regularizer,
                       bool is_quadratic, const Read& read, const Watch& watch, Result& result) {
  const Index d = at.x.size() - 1;
  const auto penalty = [&](const Eigen::VectorXd& x) {
    return regularizer.value({x.data(), static_cast<std::size_t>(d)});
  };
  double t = 1.0, momentum = 1.0;
  Point from = at;  // where the next step begins
  for (;;) {
    const Eigen::VectorXd gradient = -from.residual;
    const Eigen::VectorXd z = proximal_step(matrix, t, gradient, from.x, regularizer);
    const Eigen::VectorXd step = z - from.x;
    const double linear = gradient.dot(step), square = 0.5 * t * step.dot(matrix * step);
    const double objective = at.value + penalty(at.x);
    // What the model of the loss gains where the step begins, and over the best that was read.
    const double there = from.value + linear + square + penalty(z);
    result.gap = (std::max)({0.0, objective - there, from.value + penalty(from.x) - there});
    const bool close = result.full_passes > 0 && result.gap <= options.tolerance * std::fabs(objective);
    if (close) result.status = FitStatus::converged;
    if (close || result.full_passes >= options.passes) {  // the last step needs no reading
      at.x = z;
      at.value = there;
      return;
    }
    Point next{z, Eigen::VectorXd(d + 1), 0.0};
    next.value = read(next.x, next.residual);
    next.residual = -next.residual;
    ++result.full_passes;
    const double rounding = 1e-9 * std::fabs(from.value);
    if (!(next.value <= from.value + linear + square + rounding)) {
      t *= 2.0;
      from = at;
      momentum = 1.0;
    } else if (next.value + penalty(next.x) > objective + rounding && momentum > 1.0) {
      from = at;  // too much momentum
      momentum = 1.0;
    } else {
      const Point before = std::exchange(at, next);
      from = at;
      if (is_quadratic) {
        const double following = 0.5 * (1.0 + std::sqrt(1.0 + 4.0 * momentum * momentum));
        const double share = (momentum - 1.0) / following;
        momentum = following;
        const Eigen::VectorXd way = at.x - before.x;
        from.x += share * way;
        from.residual += share * (at.residual - before.residual);
        from.value +=
            -share * at.residual.dot(way) - 0.5 * share * share * (at.residual - before.residual).dot(way);
      }
    }
    if (watch(at, result) == Flow::stop) {
      result.status = FitStatus::stopped;
      at.value += penalty(at.x);
      return;
    }
  }
}

}  // namespace zipml::inline ZIPML_ABI::detail
