#pragma once
/// \file
/// Room training: refinement of a convex problem that is not quadratic: quasi-Newton steps around the packed second derivatives.

#include <algorithm>
#include <cmath>
#include <utility>

#include <zipml/analysis/lbfgs.hpp>
#include <zipml/base/buffer.hpp>
#include <zipml/training/observer.hpp>
#include <zipml/training/refinement/refined.hpp>

namespace zipml::inline ZIPML_ABI::detail {

/// Quasi-Newton steps from a point whose gradient and value are known: `read` and `watch` as ConjugateSteps has them; `invert(x)` makes
/// P^-1 at a point, which is done anew where the optimum is nearer by far than when that was done last, and steps fall short.
template <class Read, class Invert, class Watch>
void quasi_newton_steps(RefinedPoint& at, const RefineOptions& options, Goal goal, const Read& read,
                        const Invert& invert, const Watch& watch, Refined& result) {
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
        result.gap > goal.at(at.value)) {
      inverse = invert(at.x);
      ++inverses;
      gap_there = gap_before = -1.0;
      continue;
    }
    gap_before = result.gap;
    const bool close = result.full_passes > 0 && result.gap <= goal.at(at.value);
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

}  // namespace zipml::inline ZIPML_ABI::detail
