#pragma once
/// \file
/// Room analysis: the exact optimum of a smooth convex loss, by Newton's method in double precision. Needs Eigen's
/// Cholesky module, so that it is not part of zipml.hpp.

#include <Eigen/Cholesky>
#include <algorithm>
#include <cmath>
#include <optional>

#include <zipml/analysis/exact_solver.hpp>
#include <zipml/analysis/objective.hpp>
#include <zipml/base/views.hpp>
#include <zipml/model/losses.hpp>

namespace zipml::inline ZIPML_ABI {

namespace detail {

/// Value, gradient and matrix of second derivatives of an objective at a point: d + 1 entries, the intercept last.
struct SecondOrder {
  double value = 0.0;
  Eigen::VectorXd gradient;
  Eigen::MatrixXd curvature;  ///< lower triangle
};

/// O(n d^2), in pieces of rows that stay in cache.
template <class Objective>
SecondOrder second_order_of(const Objective& objective, const Eigen::VectorXd& x, double l2) {
  const Index n = objective.rows(), d = objective.cols();
  constexpr Index piece = 256;
  SecondOrder result;
  result.gradient = Eigen::VectorXd::Zero(d + 1);
  result.curvature = Eigen::MatrixXd::Zero(d + 1, d + 1);
  Eigen::MatrixXd rows(d + 1, piece);  // a column for each
  Eigen::VectorXd first(piece), root(piece);
  MatrixRows matrix(objective.features());
  for (Index begin = 0; begin < n; begin += piece) {
    const Index count = (std::min)(piece, n - begin);
    for (Index i = 0; i < count; ++i) {
      const float* const row = matrix(begin + i);
      for (Index j = 0; j < d; ++j) rows(j, i) = objective.standardise(row[j], j);
      rows(d, i) = 1.0;
    }
    const Eigen::VectorXd margins = rows.leftCols(count).transpose() * x;
    for (Index i = 0; i < count; ++i) {
      const double label = objective.label(begin + i), weight = objective.weight(begin + i);
      const LossDerivatives slopes = objective.loss().derivatives(margins(i), label);
      result.value += weight * objective.loss().value(margins(i), label);
      first(i) = weight * slopes.first;
      root(i) = std::sqrt(weight * slopes.second);
    }
    result.gradient += rows.leftCols(count) * first.head(count);
    rows.leftCols(count) *= root.head(count).asDiagonal();
    result.curvature.template selfadjointView<Eigen::Lower>().rankUpdate(rows.leftCols(count));
  }
  const auto rows_in_all = static_cast<double>(n);
  result.value = result.value / rows_in_all + 0.5 * l2 * x.head(d).squaredNorm();
  result.gradient /= rows_in_all;
  result.gradient.head(d) += l2 * x.head(d);
  result.curvature /= rows_in_all;
  for (Index j = 0; j < d; ++j) result.curvature(j, j) += l2;
  return result;
}

}  // namespace detail

/// The exact minimum of a ConvexLoss with no penalty or l2, by damped Newton steps from 0 (Boyd, Vandenberghe 2004,
/// section 9.5): until half the squared Newton decrement, which is about f - f*, is below 1e-13 of the value at
/// 0. Where the step leads nowhere, since directions have a gradient and no second derivative (a column that is constant
/// in all rows within Huber's reach), a growing ridge shortens it (Marquardt 1963). nullopt for other regularizers.
/// Separable classes without a penalty have no minimum: the value is then within that of the infimum, and the weights are
/// large. O(n d^2) a step, some ten of them.
template <ConvexLoss L, Regularizer R>
requires(!AffineLoss<L>) std::optional<Optimum> exact_solution(const Objective<L, R>& objective) {
  const auto penalty = strengths_of(objective.regularizer());
  if (!penalty || penalty->l1 > 0.0) return std::nullopt;
  const Index d = objective.cols();
  const auto value_at = [&](const Eigen::VectorXd& x) {
    return objective({x.data(), static_cast<std::size_t>(d)}, x(d));
  };
  Eigen::VectorXd x = Eigen::VectorXd::Zero(d + 1);
  const double at_zero = value_at(x);
  constexpr int most_steps = 200;
  constexpr double least_ridge = 1e-11;  // of the largest entry: equal columns make the matrix singular
  double ridge = least_ridge;
  for (int step = 0; step < most_steps; ++step) {
    const detail::SecondOrder here = detail::second_order_of(objective, x, penalty->l2);
    const double largest = here.curvature.diagonal().maxCoeff() + 1e-300;
    const double before = value_at(x);
    bool moved = false;
    for (; !moved && ridge < 1e3; ridge *= 100.0) {
      Eigen::MatrixXd curvature = here.curvature;
      curvature.diagonal().array() += ridge * largest;
      const Eigen::VectorXd direction =
          curvature.template selfadjointView<Eigen::Lower>().ldlt().solve(-here.gradient);
      const double decrement = -here.gradient.dot(direction);
      if (!(decrement > 2e-13 * at_zero)) break;
      double length = 1.0;
      while (length > 1e-2 && !(value_at(x + length * direction) <= before - 0.1 * length * decrement))
        length *= 0.5;
      if (length <= 1e-2) continue;
      x += length * direction;
      moved = true;
    }
    if (!moved) break;                              // there, or rounding errors are all that is left
    ridge = (std::max)(least_ridge, ridge * 1e-4);  // a hundredth of what has moved
  }
  Optimum optimum;
  optimum.weights = Buffer<double>(d);
  for (Index j = 0; j < d; ++j) optimum.weights[j] = x(j);
  optimum.intercept = x(d);
  optimum.value = value_at(x);
  return optimum;
}

}  // namespace zipml::inline ZIPML_ABI
