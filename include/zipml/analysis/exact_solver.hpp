#pragma once
/// \file
/// Room analysis: the exact optimum, in double precision: what every excess is measured against. The one
/// header that needs more of Eigen than its Core, hence not part of zipml.hpp.

#include <Eigen/QR>
#include <algorithm>
#include <cmath>
#include <optional>

#include <zipml/analysis/objective.hpp>
#include <zipml/base/buffer.hpp>
#include <zipml/eigen.hpp>

namespace zipml::inline ZIPML_ABI {

/// Minimiser and minimum of an objective on standardised samples.
struct Optimum {
  Buffer<double> weights;
  double intercept = 0.0;
  double value = 0.0;
};

namespace detail {

/// [A y] of centred standardised samples, each row times the root of its weight, reduced to the triangular factor R of a QR decomposition: R'R = [A
/// y]'[A y], without squaring the condition number. O(n d^2), in pieces that stay in cache.
template <class Objective>
Eigen::MatrixXd triangular_factor(const Objective& objective, const Eigen::VectorXd& means,
                                  double label_mean) {
  const Index d = objective.cols();
  const Index width = d + 1;
  const Index piece = std::max<Index>(2 * width, 256);
  Eigen::MatrixXd work = Eigen::MatrixXd::Zero(width + piece, width);
  MatrixRows rows(objective.features());
  for (Index first = 0; first < objective.rows(); first += piece) {
    const Index count = (std::min)(piece, objective.rows() - first);
    for (Index i = 0; i < count; ++i) {
      const double root = std::sqrt(objective.weight(first + i));
      const float* const row = rows(first + i);
      for (Index j = 0; j < d; ++j) work(width + i, j) = root * (objective.standardise(row[j], j) - means(j));
      work(width + i, d) = root * (target_of(objective.loss(), objective.label(first + i)) - label_mean);
    }
    const Eigen::HouseholderQR<Eigen::MatrixXd> qr(work.topRows(width + count));
    const Eigen::MatrixXd upper = qr.matrixQR().topRows(width).template triangularView<Eigen::Upper>();
    work.topRows(width) = upper;
  }
  return work.topRows(width);
}

/// argmin |R x - r|^2 / (2n) + lambda/2 |x|^2 of minimal norm for factor = [R r], by a rank-revealing
/// decomposition.
Eigen::VectorXd ridge_solution(const Eigen::MatrixXd& factor, double n, double lambda);

/// Coordinate descent for 1/(2n)|Ax - y|^2 + lambda/2 |x|^2 + mu |x|_1 on the normal equations (Friedman,
/// Hastie, Tibshirani 2010), started at `x`, until no coordinate moves by more than 1e-13 of the largest.
Eigen::VectorXd coordinate_descent(const Eigen::MatrixXd& factor, double n, double lambda, double mu,
                                   Eigen::VectorXd x);

/// The same of centred standardised samples with fewer rows than columns: x = Q z with the orthonormal Q of A' =
/// Q R, which spans the rows, and z the solution for R'. O(d n^2).
template <class Objective>
Eigen::VectorXd wide_ridge_solution(const Objective& objective, const Eigen::VectorXd& means,
                                    double label_mean, double lambda) {
  const Index n = objective.rows(), d = objective.cols();
  Eigen::MatrixXd columns(d, n);  // A'
  Eigen::MatrixXd factor(n, n + 1);
  MatrixRows rows(objective.features());
  for (Index i = 0; i < n; ++i) {
    const double root = std::sqrt(objective.weight(i));
    const float* const row = rows(i);
    for (Index j = 0; j < d; ++j) columns(j, i) = root * (objective.standardise(row[j], j) - means(j));
    factor(i, n) = root * (target_of(objective.loss(), objective.label(i)) - label_mean);
  }
  const Eigen::HouseholderQR<Eigen::Ref<Eigen::MatrixXd>> qr(columns);  // in place
  factor.leftCols(n) =
      Eigen::MatrixXd(qr.matrixQR().topRows(n).template triangularView<Eigen::Upper>()).transpose();
  Eigen::VectorXd x = Eigen::VectorXd::Zero(d);
  x.head(n) = ridge_solution(factor, static_cast<double>(n), lambda);
  x.applyOnTheLeft(qr.householderQ());
  return x;
}

}  // namespace detail

/// What exact_solution() costs: operations and bytes. For callers who would rather do without than wait.
struct SolverCost {
  double operations = 0.0;
  double bytes = 0.0;
};
inline SolverCost exact_solution_cost(Index rows, Index cols, bool l1 = false) {
  const auto n = static_cast<double>(rows), d = static_cast<double>(cols);
  if (n < d && !l1) return {n * n * d, 8.0 * n * d + 24.0 * n * n};
  return {n * d * d + 8.0 * d * d * d, 8.0 * 6.0 * d * d};
}

/// The exact minimum of an affine loss (least squares, ls-svm) with no penalty, l2, l1 or both;
/// rank-deficient samples get the solution of smallest norm. nullopt for other regularizers (box, ball),
/// which have no exact solver. O(n d^2 + d^3), of fewer rows than columns without l1 O(n^2 d).
template <AffineLoss L, Regularizer R>
std::optional<Optimum> exact_solution(const Objective<L, R>& objective) {
  const auto penalty = strengths_of(objective.regularizer());
  if (!penalty) return std::nullopt;
  // slope / 2 (z - t)^2 with a penalty is (z - t)^2 / 2 with 1 / slope of it.
  const double lambda = penalty->l2 / static_cast<double>(L::slope);
  const double mu = penalty->l1 / static_cast<double>(L::slope);
  const Index d = objective.cols();
  const auto n = static_cast<double>(objective.rows());
  // The intercept is eliminated by centring: c = mean(y) - <mean(a), x>.
  Eigen::VectorXd means = Eigen::VectorXd::Zero(d);
  double label_mean = 0.0;
  double total = 0.0;  // n, as far as float weights of mean 1 are exact
  MatrixRows rows(objective.features());
  for (Index i = 0; i < objective.rows(); ++i) {
    const double weight = objective.weight(i);
    const float* const row = rows(i);
    for (Index j = 0; j < d; ++j) means(j) += weight * objective.standardise(row[j], j);
    label_mean += weight * target_of(objective.loss(), objective.label(i));
    total += weight;
  }
  means /= total;
  label_mean /= total;

  Eigen::VectorXd x;
  if (mu == 0.0 && objective.rows() < d) {
    x = detail::wide_ridge_solution(objective, means, label_mean, lambda);
  } else if (d > 0) {
    const Eigen::MatrixXd factor = detail::triangular_factor(objective, means, label_mean);
    x = detail::ridge_solution(factor, n, lambda);
    if (mu > 0.0) x = detail::coordinate_descent(factor, n, lambda, mu, x);
  }
  Optimum optimum;
  optimum.weights = Buffer<double>(d);
  for (Index j = 0; j < d; ++j) optimum.weights[j] = x(j);
  optimum.intercept = label_mean - (d > 0 ? means.dot(x) : 0.0);
  optimum.value = objective(optimum.weights.span(), optimum.intercept);
  return optimum;
}

#if ZIPML_DEFINES

namespace detail {

ZIPML_FUNCTION Eigen::VectorXd ridge_solution(const Eigen::MatrixXd& factor, double n, double lambda) {
  const Index d = factor.cols() - 1, rows = factor.rows();
  Eigen::MatrixXd system = Eigen::MatrixXd::Zero(rows + d, d);
  Eigen::VectorXd right = Eigen::VectorXd::Zero(rows + d);
  system.topRows(rows) = factor.leftCols(d);
  right.head(rows) = factor.col(d);
  for (Index j = 0; j < d; ++j) system(rows + j, j) = std::sqrt(n * lambda);
  return Eigen::CompleteOrthogonalDecomposition<Eigen::MatrixXd>(system).solve(right);
}

ZIPML_FUNCTION Eigen::VectorXd coordinate_descent(const Eigen::MatrixXd& factor, double n, double lambda,
                                                  double mu, Eigen::VectorXd x) {
  const Index d = x.size();
  const Eigen::MatrixXd gram = factor.leftCols(d).transpose() * factor.leftCols(d) / n;
  const Eigen::VectorXd target = factor.leftCols(d).transpose() * factor.col(d) / n;
  Eigen::VectorXd gradient = gram * x - target;
  for (int sweep = 0; sweep < 100'000; ++sweep) {
    double moved = 0.0;
    for (Index j = 0; j < d; ++j) {
      const double curvature = gram(j, j);
      if (curvature + lambda <= 0.0) continue;
      const double pull = curvature * x(j) - gradient(j);
      const double shrunk = pull > mu ? pull - mu : pull < -mu ? pull + mu : 0.0;
      const double change = shrunk / (curvature + lambda) - x(j);
      if (change == 0.0) continue;
      x(j) += change;
      gradient += change * gram.col(j);
      moved = (std::max)(moved, std::fabs(change));
    }
    if (moved <= 1e-13 * (std::max)(1.0, x.cwiseAbs().maxCoeff())) break;
  }
  return x;
}

}  // namespace detail

#endif

}  // namespace zipml::inline ZIPML_ABI
