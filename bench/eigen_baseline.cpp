#include "eigen_baseline.hpp"

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
