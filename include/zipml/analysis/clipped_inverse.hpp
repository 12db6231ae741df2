#pragma once
/// \file
/// Room analysis: the matrix of packed samples, made positive definite and factorised: what refinement and the pilot's solution
/// divide by. Needs Eigen's Cholesky and Eigenvalues modules; not part of zipml.hpp.

#include <Eigen/Cholesky>
#include <Eigen/Eigenvalues>
#include <algorithm>

#include <zipml/eigen.hpp>

namespace zipml::inline ZIPML_ABI::detail {

/// Eigen::Success, whose name is a macro of X.h.
inline bool has_solved(Eigen::ComputationInfo info) { return info == Eigen::ComputationInfo{}; }

/// The inverse of a matrix from packed samples: S = E q q' + 10^-6 (mean diagonal) I less the variance of rounding, diag(v),
/// clipped relative to that variance, since at few bits S - diag(v) is indefinite. With S = L L' and L^-1 diag(v) L^-T = U
/// diag(nu) U' it is the inverse of
///
///     P = L U diag(max(1 - nu, q nu)) U' L'
///
/// for up to `most_eigenvalues` columns, and of S - t diag(v) beyond them, t = 1 - q, q doubled until that is definite. O(d^3).
class ClippedInverse {
 public:
  static constexpr Index most_eigenvalues = 300;

  /// `matrix` symmetric up to rounding, `variance` at least 0 or empty, `clip` is q, some 2 (d / n)^(1/2).
  ClippedInverse(const Eigen::MatrixXd& matrix, const Eigen::VectorXd& variance, double clip);

  /// P^-1 r. O(d^2).
  Eigen::VectorXd operator()(const Eigen::VectorXd& r) const;
  /// P. O(d^3).
  Eigen::MatrixXd matrix() const;

 private:
  Eigen::LLT<Eigen::MatrixXd> factor_;
  Eigen::MatrixXd directions_;  // U, or empty
  Eigen::VectorXd clipped_;
};

#if ZIPML_DEFINES

ZIPML_FUNCTION ClippedInverse::ClippedInverse(const Eigen::MatrixXd& matrix, const Eigen::VectorXd& variance,
                                              double clip) {
  const Index size = matrix.rows();
  const Eigen::MatrixXd sum = 0.5 * (matrix + matrix.transpose());
  const Eigen::MatrixXd identity = Eigen::MatrixXd::Identity(size, size);
  const double least = 1e-6 * (std::max)(sum.trace() / static_cast<double>(size), 1e-300);
  const auto factorise = [&](const Eigen::MatrixXd& of, double ridge) {
    factor_.compute(of + ridge * identity);
    return has_solved(factor_.info());
  };
  const bool noisy = variance.size() > 0 && variance.maxCoeff() > 0.0;
  if (noisy && size > most_eigenvalues) {
    const Eigen::MatrixXd noise = variance.cwiseMax(0.0).asDiagonal();
    for (double q = clip; q < 1.0; q *= 2.0)
      if (factorise(sum - (1.0 - q) * noise, least)) return;
  }
  // Of products of two draws the symmetric part may be indefinite.
  for (double ridge = least; !factorise(sum, ridge);) ridge *= 4.0;
  if (!noisy || size > most_eigenvalues) return;
  const Eigen::MatrixXd half =
      factor_.matrixL().solve(Eigen::MatrixXd(variance.cwiseMax(0.0).cwiseSqrt().asDiagonal()));
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> spectrum(half * half.transpose());
  const Eigen::VectorXd nu = spectrum.eigenvalues();
  clipped_ = (1.0 - nu.array()).cwiseMax(clip * nu.array()).matrix();
  directions_ = spectrum.eigenvectors();
}

ZIPML_FUNCTION Eigen::VectorXd ClippedInverse::operator()(const Eigen::VectorXd& r) const {
  if (directions_.size() == 0) return factor_.solve(r);
  const Eigen::VectorXd reduced = directions_.transpose() * factor_.matrixL().solve(r);
  return factor_.matrixU().solve(directions_ * reduced.cwiseQuotient(clipped_));
}

ZIPML_FUNCTION Eigen::MatrixXd ClippedInverse::matrix() const {
  if (directions_.size() == 0) return factor_.reconstructedMatrix();
  const Eigen::MatrixXd half = factor_.matrixL() * directions_;
  return half * clipped_.asDiagonal() * half.transpose();
}

#endif

}  // namespace zipml::inline ZIPML_ABI::detail
