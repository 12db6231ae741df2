#pragma once
/// \file
/// Room analysis: ridge regression for many penalties from one matrix of packed samples, and the loss of rows that were left
/// out, for next to nothing. Needs more of Eigen than its Core; not part of zipml.hpp.

#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>
#include <optional>
#include <span>
#include <utility>

#include <zipml/analysis/clipped_inverse.hpp>
#include <zipml/analysis/realised_system.hpp>
#include <zipml/base/buffer.hpp>
#include <zipml/base/error.hpp>
#include <zipml/estimators/anchor.hpp>
#include <zipml/estimators/requirements.hpp>

namespace zipml::inline ZIPML_ABI {

/// The solution for one penalty, and what is expected of it.
struct RidgePoint {
  double l2 = 0.0;
  Buffer<double> weights;  ///< standardised
  double intercept = 0.0;  ///< standardised
  double loss = 0.0;       ///< mean loss, without penalty, of the rows that it was solved on
  double degrees =
      0.0;  ///< of freedom, the intercept's with them: the trace of the matrix that makes predictions of labels
  /// Estimate of the mean loss of rows that it was not solved on: generalised cross-validation, loss / (1 - degrees / n)^2,
  /// which is leave-one-out in a basis where all rows count the same (Golub, Heath, Wahba 1979). Infinite where degrees
  /// reach n.
  double left_out = 0.0;
};

/// What ridge_path() returns.
struct RidgePath {
  List<RidgePoint> points;  ///< of each penalty, in their order
  std::size_t best = 0;     ///< of the least left_out
};

/// Ridge regression of an affine loss for each penalty from a store with a pilot: with the matrix P of its packed samples and the
/// exact gradient g at the pilot (w0, c0) the solutions are w0 - (P + l2 I)^-1 (g + l2 w0), the intercept without penalty, and
///
///     loss(x) = loss(w0) + g'(x - w0) + (x - w0)'P (x - w0) / 2:
///
/// what rounding did to P multiplies x - w0 alone. One eigendecomposition serves all penalties. nullopt where the store has no pilot for
/// these labels. Throws Error for a penalty below 0 or none at all. O(n d^2 + d^3 + penalties d^2).
///
///     const auto path = zipml::ridge_path(store, zipml::variance_corrected, zipml::SquaredLoss{}, strengths);
///     const auto& best = path->points[path->best];
template <SampleStore Store, BilinearEstimator Estimator, AffineLoss L>
std::optional<RidgePath> ridge_path(const Store& store, Estimator estimator, const L& loss,
                                    std::span<const double> strengths, int threads = 1);

namespace detail {

/// See ridge_path(): P less its correction, clipped, the anchor's point, gradient and loss.
RidgePath ridge_path_from(const Eigen::MatrixXd& matrix, const Eigen::VectorXd& start,
                          const Eigen::VectorXd& gradient, double loss, Index rows,
                          std::span<const double> strengths);

}  // namespace detail

template <SampleStore Store, BilinearEstimator Estimator, AffineLoss L>
std::optional<RidgePath> ridge_path(const Store& store, Estimator estimator, const L& loss,
                                    std::span<const double> strengths, int threads) {
  static_assert(StoreHasEnoughDraws<Estimator, Store> && StoreHasBias<Estimator, Store>,
                "zipml: this store was not quantized for this estimator");
  if (strengths.empty()) throw Error("a path has penalties", "at least one", "none");
  for (const double l2 : strengths)
    if (!(l2 >= 0.0) || !std::isfinite(l2))
      throw Error("a penalty is out of range", "a finite number of at least 0", number_text(l2));
  const SampleView samples = store.samples();
  require_samples_for(estimator, samples);
  const Anchor anchor = anchor_for<Estimator>(samples.pilot, loss, store.targets());
  if (!anchor.used()) return std::nullopt;
  const Index d = samples.cols;
  Eigen::MatrixXd matrix;
  Eigen::VectorXd right, variance = Eigen::VectorXd::Zero(d + 1), start(d + 1), gradient(d + 1);
  detail::realised_system(samples, Estimator::pairs, false, Buffer<float>(samples.rows), matrix, right,
                          threads);
  matrix *= anchor.slope;
  for (Index j = 0; j <= d; ++j) {
    start(j) = j < d ? anchor.weight(j) : anchor.intercept();
    gradient(j) = anchor.gradient(j);
    if (j < d && Estimator::corrected) variance(j) = anchor.slope * static_cast<double>(samples.bias[j]);
  }
  const double clip = 2.0 * std::sqrt(static_cast<double>(d) / static_cast<double>(samples.rows));
  // Of samples in a file: what was read of a part that was lost is no result.
  if constexpr (requires { store.require_intact(); }) store.require_intact();
  return detail::ridge_path_from(detail::ClippedInverse(matrix, variance, clip).matrix(), start, gradient,
                                 anchor.loss(), samples.rows, strengths);
}

#if ZIPML_DEFINES

namespace detail {

ZIPML_FUNCTION RidgePath ridge_path_from(const Eigen::MatrixXd& matrix, const Eigen::VectorXd& start,
                                         const Eigen::VectorXd& gradient, double loss, Index rows,
                                         std::span<const double> strengths) {
  const Index d = matrix.rows() - 1;
  const auto n = static_cast<double>(rows);
  // The intercept, which has no penalty, follows the weights: delta_d = -(g_d + p'delta) / P_dd.
  const Eigen::VectorXd means = matrix.row(d).head(d).transpose() / matrix(d, d);
  const Eigen::MatrixXd centred = matrix.topLeftCorner(d, d) - matrix(d, d) * means * means.transpose();
  const Eigen::VectorXd slopes = gradient.head(d) - gradient(d) * means;
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> spectrum(centred);
  const Eigen::ArrayXd values = spectrum.eigenvalues().array().max(0.0);
  const Eigen::MatrixXd& basis = spectrum.eigenvectors();
  const Eigen::ArrayXd of_slopes = (basis.transpose() * slopes).array();
  const Eigen::ArrayXd of_start = (basis.transpose() * start.head(d)).array();
  // Directions without variance stay where they are.
  const double floor = 1e-12 * (d > 0 ? values.maxCoeff() : 0.0) + 1e-300;
  RidgePath path;
  for (const double l2 : strengths) {
    const Eigen::ArrayXd divisor = (values + l2).max(floor);
    const Eigen::ArrayXd step =
        (values + l2 > floor).select(-(of_slopes + l2 * of_start) / divisor, Eigen::ArrayXd::Zero(d));
    const Eigen::VectorXd delta = basis * step.matrix();
    RidgePoint point;
    point.l2 = l2;
    point.weights = Buffer<double>(d);
    for (Index j = 0; j < d; ++j) point.weights[j] = start(j) + delta(j);
    const double of_intercept = -gradient(d) / matrix(d, d) - means.dot(delta);
    point.intercept = start(d) + of_intercept;
    point.loss = loss + gradient.head(d).dot(delta) + gradient(d) * of_intercept +
                 0.5 * (step.square() * values).sum() +
                 0.5 * matrix(d, d) * std::pow(of_intercept + means.dot(delta), 2);
    point.degrees = 1.0 + (values / divisor).sum();
    const double free = 1.0 - point.degrees / n;
    point.left_out = free > 0.0 ? point.loss / (free * free) : INFINITY;
    if (!path.points.empty() && point.left_out < path.points[path.best].left_out)
      path.best = path.points.size();
    path.points.push_back(std::move(point));
  }
  return path;
}

}  // namespace detail

#endif

}  // namespace zipml::inline ZIPML_ABI
