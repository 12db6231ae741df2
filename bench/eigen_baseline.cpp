#include "eigen_baseline.hpp"

#include <Eigen/Cholesky>
#include <Eigen/Core>
#include <algorithm>

void eigen_epoch(const float* samples, const float* labels, std::ptrdiff_t n, std::ptrdiff_t d,
                 std::ptrdiff_t batch, float step, float* x) {
  using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const Eigen::Map<const Matrix> a(samples, n, d);
  const Eigen::Map<const Eigen::VectorXf> y(labels, n);
  Eigen::Map<Eigen::VectorXf> model(x, d);
  if (batch == 1) {
    for (std::ptrdiff_t i = 0; i < n; ++i) {
      const float residual = a.row(i).dot(model) - y[i];
      model -= (step * residual) * a.row(i).transpose();
    }
    return;
  }
  Eigen::VectorXf residuals(batch);
  for (std::ptrdiff_t first = 0; first < n; first += batch) {
    const std::ptrdiff_t count = std::min(batch, n - first);
    const auto rows = a.middleRows(first, count);
    residuals.head(count).noalias() = rows * model - y.segment(first, count);
    model.noalias() -= (step / static_cast<float>(count)) * (rows.transpose() * residuals.head(count));
  }
}

void eigen_normal_equations(const float* samples, const float* labels, std::ptrdiff_t n, std::ptrdiff_t d,
                            double* x) {
  using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const Eigen::Map<const Matrix> a(samples, n, d);
  const Eigen::Map<const Eigen::VectorXf> y(labels, n);
  Eigen::MatrixXd gram = Eigen::MatrixXd::Zero(d + 1, d + 1);
  Eigen::VectorXd right = Eigen::VectorXd::Zero(d + 1);
  Eigen::MatrixXf product(d, d);
  for (std::ptrdiff_t first = 0; first < n; first += 4096) {
    const std::ptrdiff_t count = std::min<std::ptrdiff_t>(4096, n - first);
    const auto rows = a.middleRows(first, count);
    const auto targets = y.segment(first, count);
    product.setZero();
    product.selfadjointView<Eigen::Lower>().rankUpdate(rows.transpose());
    gram.topLeftCorner(d, d) += product.cast<double>();
    gram.row(d).head(d) += rows.colwise().sum().cast<double>();
    right.head(d) += (rows.transpose() * targets).cast<double>();
    right(d) += targets.cast<double>().sum();
  }
  gram(d, d) = static_cast<double>(n);
  const Eigen::VectorXd solution = Eigen::LDLT<Eigen::MatrixXd, Eigen::Lower>(gram).solve(right);
  std::copy_n(solution.data(), d + 1, x);
}

void eigen_gram(const float* samples, std::ptrdiff_t n, std::ptrdiff_t d, float* gram) {
  using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const Eigen::Map<const Matrix> a(samples, n, d);
  Eigen::Map<Eigen::MatrixXf> sum(gram, d, d);
  sum.setZero();
  for (std::ptrdiff_t first = 0; first < n; first += 2048)
    sum.selfadjointView<Eigen::Lower>().rankUpdate(
        a.middleRows(first, std::min<std::ptrdiff_t>(2048, n - first)).transpose());
}
