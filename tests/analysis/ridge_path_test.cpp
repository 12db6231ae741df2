// Ridge regression for many penalties from one packed matrix, and the loss of rows that were left out.

#include <cmath>
#include <vector>
#include <zipml/analysis/exact_solver.hpp>
#include <zipml/analysis/ridge_path.hpp>
#include <zipml/estimators/any_store.hpp>
#include <zipml/zipml.hpp>

#include "catch.hpp"
#include "message.hpp"

using namespace zipml;

namespace {

const std::vector<double> strengths{0.0, 1e-4, 1e-2, 0.1, 1.0};

}  // namespace

TEST_CASE("solutions, losses and degrees of freedom for every penalty are those of the exact problem") {
  const Dataset data = skewed({.rows = 6'000, .test_rows = 0}).train;
  const auto store = quantize<8>(data, variance_corrected, {.outliers = 0.003});
  const auto path = ridge_path(store, variance_corrected, SquaredLoss{}, strengths);
  REQUIRE(path);
  REQUIRE(path->points.size() == strengths.size());
  const Objective plain(data);
  Eigen::MatrixXd moments = Eigen::MatrixXd::Zero(90, 90);
  Eigen::VectorXd row(90);
  for (Index i = 0; i < data.rows; ++i) {
    for (Index j = 0; j < 90; ++j) row(j) = plain.standardised(i, j);
    moments += row * row.transpose() / 6000.0;
  }
  const Eigen::VectorXd values = Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd>(moments).eigenvalues();
  for (std::size_t k = 0; k < strengths.size(); ++k) {
    const RidgePoint& point = path->points[k];
    INFO("l2 " << strengths[k]);
    const Objective objective(data, SquaredLoss{}, L2{static_cast<float>(strengths[k])});
    const Optimum optimum = *exact_solution(objective);
    CHECK(excess(objective(point.weights.span(), point.intercept), optimum.value) < 1e-5);
    CHECK(point.loss == Approx(plain(point.weights.span(), point.intercept)).epsilon(1e-3));
    double degrees = 1.0;
    for (Index j = 0; j < 90; ++j) degrees += values(j) / (values(j) + strengths[k]);
    CHECK(point.degrees == Approx(degrees).epsilon(1e-3));
    CHECK(point.left_out == Approx(point.loss / std::pow(1.0 - degrees / 6000.0, 2)).epsilon(1e-3));
  }
}

TEST_CASE("what is said of rows left out is what leaving each of them out gives, at few bits as well") {
  // Few rows, so that it matters; the exact leave-one-out loss is mean (r_i / (1 - h_i))^2 / 2.
  Dataset data = synthetic(40, {.rows = 400, .test_rows = 0}).train;
  const Random random(9);
  for (Index i = 0; i < data.rows; ++i)
    data.labels[i] += static_cast<float>(
        2.0 * (random.word(Stream::batch_order, static_cast<std::uint32_t>(i), 0, 0) / 4294967296.0 - 0.5));
  const Objective objective(data);
  Eigen::MatrixXd rows(400, 41);
  Eigen::VectorXd labels(400);
  for (Index i = 0; i < 400; ++i) {
    for (Index j = 0; j < 40; ++j) rows(i, j) = objective.standardised(i, j);
    rows(i, 40) = 1.0;
    labels(i) = objective.label(i);
  }
  for (const int bits : {4, 8}) {
    const AnyStore store = quantize(data, {.bits = bits, .outliers = 0.003});
    const auto path = ridge_path(store, variance_corrected, SquaredLoss{}, strengths);
    REQUIRE(path);
    std::size_t best = 0;
    std::vector<double> exact;
    for (std::size_t k = 0; k < strengths.size(); ++k) {
      Eigen::MatrixXd matrix = rows.transpose() * rows / 400.0;
      for (Index j = 0; j < 40; ++j) matrix(j, j) += strengths[k];
      const Eigen::MatrixXd hat = rows * matrix.ldlt().solve(rows.transpose()) / 400.0;
      const Eigen::VectorXd residual = labels - hat * labels;
      double sum = 0.0;
      for (Index i = 0; i < 400; ++i) sum += std::pow(residual(i) / (1.0 - hat(i, i)), 2) / 800.0;
      exact.push_back(sum);
      if (sum < exact[best]) best = k;
      INFO(bits << " bits, l2 " << strengths[k]);
      CHECK(path->points[k].left_out == Approx(sum).epsilon(0.03));
    }
    CHECK(path->best == best);
  }
}

TEST_CASE("a path needs penalties, and a pilot") {
  const Dataset data = skewed({.rows = 1'000, .test_rows = 0}).train;
  const auto without = quantize<4>(data, variance_corrected, {.pilot = 0});
  CHECK_FALSE(ridge_path(without, variance_corrected, SquaredLoss{}, strengths));
  const auto store = quantize<4>(data, variance_corrected);
  CHECK(holds(
      message_of([&] { (void)ridge_path(store, variance_corrected, SquaredLoss{}, std::vector<double>{}); }),
      "at least one"));
  CHECK(holds(message_of([&] {
                (void)ridge_path(store, variance_corrected, SquaredLoss{}, std::vector<double>{-1.0});
              }),
              "at least 0"));
}
