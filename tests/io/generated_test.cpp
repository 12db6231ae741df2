// The generated sets: what they promise about their shape, statistics and sequence.

#include <Eigen/Eigenvalues>
#include <cmath>
#include <zipml/analysis/exact_solver.hpp>
#include <zipml/io/generated.hpp>

#include "catch.hpp"

using namespace zipml;

TEST_CASE("skewed: standardised, heavy-tailed, as hard as promised") {
  const Index n = 60'000;
  const auto [train, test] = skewed({.rows = n, .test_rows = 2'000});
  CHECK(train.rows == n);
  CHECK(train.cols == 90);
  CHECK(test.rows == 2'000);
  const auto columns = column_statistics(train.features());
  float largest = 0.0f;
  for (Index j = 0; j < 90; ++j) {
    CHECK(columns[j].mean == Approx(0.0).margin(1e-4));
    CHECK(columns[j].deviation == Approx(1.0).epsilon(1e-4));
    largest = std::max({largest, columns[j].max, -columns[j].min});
  }
  CHECK(largest > 20.0f);
  CHECK(largest < 60.0f);
  Eigen::MatrixXd gram = Eigen::MatrixXd::Zero(90, 90);
  for (Index i = 0; i < n; ++i) {
    const Eigen::VectorXd row = train.matrix().row(i).transpose().cast<double>();
    gram.selfadjointView<Eigen::Lower>().rankUpdate(row);
  }
  const auto values =
      Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd>(gram.selfadjointView<Eigen::Lower>()).eigenvalues();
  CHECK(values(89) / values(0) > 35.0);
  CHECK(values(89) / values(0) < 85.0);
  // f* is half of the noise's share, 0.09 / 1.09 = 0.0826, less d/n of it.
  CHECK(2.0 * exact_solution(Objective(train))->value ==
        Approx(0.0826 * (1.0 - 91.0 / 60'000)).epsilon(0.03));
}

TEST_CASE("rows of a smaller set begin the same sequence before standardisation; seeds differ") {
  const auto small = synthetic(4, {.rows = 100, .test_rows = 10});
  const auto large = synthetic(4, {.rows = 110, .test_rows = 0});
  for (Index k = 0; k < 400; ++k) CHECK(small.train.values[k] == large.train.values[k]);
  for (Index k = 0; k < 40; ++k) CHECK(small.test.values[k] == large.train.values[400 + k]);
  CHECK(synthetic(4, {.rows = 100, .test_rows = 0, .seed = 2}).train.values[0] != small.train.values[0]);
}

TEST_CASE("synthetic: noise of a tenth") {
  const auto sets = synthetic(10);
  CHECK(sets.train.rows == 10'000);
  CHECK(sets.test.rows == 10'000);
  CHECK(2.0 * exact_solution(Objective(sets.train))->value ==
        Approx(0.0909 * (1.0 - 11.0 / 10'000)).epsilon(0.05));
}

TEST_CASE("two-class: both labels, a tenth flipped") {
  const auto sets = two_class({.rows = 5'000, .test_rows = 0});
  const auto regression = skewed({.rows = 5'000, .test_rows = 0});
  int flipped = 0;
  int positive = 0;
  for (Index i = 0; i < 5'000; ++i) {
    CHECK(std::abs(sets.train.labels[i]) == 1.0f);
    positive += sets.train.labels[i] > 0.0f ? 1 : 0;
    flipped += (sets.train.labels[i] > 0.0f) != (regression.train.labels[i] >= 0.0f) ? 1 : 0;
  }
  // 500 expected, deviation 21: six of them.
  CHECK(std::abs(flipped - 500) < 127);
  CHECK(std::abs(positive - 2500) < 400);
}

TEST_CASE("sets that cannot be generated are refused") {
  CHECK_THROWS_AS(skewed({.rows = 1}), Error);
  CHECK_THROWS_AS(synthetic(0), Error);
  CHECK(skewed({.rows = 90}).test.rows == 10);
}
