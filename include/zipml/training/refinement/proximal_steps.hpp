#pragma once
/// \file
/// Room training: refinement where the penalty is not smooth but acts on each weight alone: l1, elastic net, box.

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>

#include <zipml/eigen.hpp>
#include <zipml/model/regularizers.hpp>
#include <zipml/training/observer.hpp>
#include <zipml/training/refinement/refined.hpp>

namespace zipml::inline ZIPML_ABI::detail {

/// argmin_z g'(z - x) + (z - x)'P (z - x) / 2 + penalty(z) by coordinate descent from x (Friedman, Hastie, Tibshirani 2010),
/// until no coordinate moves by more than 10^-9 of the largest, or 2,000 sweeps; the last entry, the intercept, has no penalty. O(d^2) a sweep.
template <SeparableRegularizer R>
Eigen::VectorXd proximal_step(const Eigen::MatrixXd& matrix, const Eigen::VectorXd& gradient,
                              const Eigen::VectorXd& x, const R& regularizer) {
  const Index size = x.size();
  Eigen::VectorXd z = x, slope = gradient;  // slope = g + P (z - x)
  for (int sweep = 0; sweep < 2000; ++sweep) {
    double largest = 0.0, moved = 0.0;
    for (Index j = 0; j < size; ++j) {
      const double curvature = matrix(j, j), before = z(j);
      z(j) -= slope(j) / curvature;
      if (j + 1 < size) {
        auto single = static_cast<float>(z(j));
        regularizer.prox(std::span<float>(&single, 1), static_cast<float>(1.0 / curvature));
        // A prox is of floats: what it has moved is taken over, not its rounding.
        const auto unmoved = static_cast<float>(z(j));
        z(j) = single == 0.0f ? 0.0 : z(j) + (static_cast<double>(single) - static_cast<double>(unmoved));
      }
      const double change = z(j) - before;
      if (change != 0.0) slope += change * matrix.col(j);
      moved = (std::max)(moved, std::fabs(change));
      largest = (std::max)(largest, std::fabs(z(j)));
    }
    if (moved <= 1e-9 * largest) break;
  }
  return z;
}

/// Proximal steps in the metric of P from a point whose gradient and value (of the loss alone) are known, a reading each
/// (proximal quasi-Newton: Lee, Sun, Saunders 2014). The gradients of every step correct P along it (BFGS: Nocedal, Wright 2006,
/// section 6.1), that of a step which is no gain as well: the next one from there is another.
template <SeparableRegularizer R, class Read, class Watch>
void proximal_steps(RefinedPoint& at, const RefineOptions& options, Goal goal, Eigen::MatrixXd matrix,
                    const R& regularizer, const Read& read, const Watch& watch, Refined& result) {
  const Index d = at.x.size() - 1;
  const auto penalty = [&](const Eigen::VectorXd& x) {
    return regularizer.value({x.data(), static_cast<std::size_t>(d)});
  };
  // A pilot may be outside of a box, where its value is no bound: the first step goes in.
  bool is_inside = true;
  for (Index j = 0; j < d; ++j) {
    auto single = static_cast<float>(at.x(j));
    const float before = single;
    regularizer.prox(std::span<float>(&single, 1), 0.0f);
    is_inside = is_inside && single == before;
  }
  for (;;) {
    const Eigen::VectorXd z = proximal_step(matrix, -at.residual, at.x, regularizer);
    const Eigen::VectorXd step = z - at.x, image = matrix * step;
    const double linear = -at.residual.dot(step), square = step.dot(image);
    const double gains = penalty(at.x) - penalty(z) - linear;  // but for the square
    result.gap = (std::max)(0.0, gains - 0.5 * square);
    const double objective = at.value + penalty(at.x);
    const bool close = is_inside && result.full_passes > 0 && result.gap <= goal.at(objective);
    if (close) result.status = FitStatus::converged;
    if (close || result.full_passes >= options.passes) {  // the last step needs no reading
      at.x = z;
      at.value = objective - result.gap;
      return;
    }
    RefinedPoint next{z, Eigen::VectorXd(d + 1), 0.0};
    next.value = read(next.x, next.residual);
    next.residual = -next.residual;
    ++result.full_passes;
    const Eigen::VectorXd change = at.residual - next.residual;
    const double curvature = step.dot(change);
    if (curvature > 1e-12 * step.norm() * change.norm() && square > 0.0)
      matrix += change * change.transpose() / curvature - image * image.transpose() / square;
    // From gradients: near the optimum values differ by less than their rounding.
    if (!is_inside || gains - 0.5 * curvature >= 0.0) at = std::move(next);
    is_inside = true;
    if (watch(at, result) == Flow::stop) {
      result.status = FitStatus::stopped;
      at.value += penalty(at.x);
      return;
    }
  }
}

}  // namespace zipml::inline ZIPML_ABI::detail
