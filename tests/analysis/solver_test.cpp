// The exact solver against conditions of optimality and closed forms.

#include <cmath>
#include <zipml/analysis/exact_solver.hpp>
#include <zipml/io/generated.hpp>

#include "catch.hpp"

using namespace zipml;

namespace {

/// Gradient of the smooth part (loss and l2) by central differences, intercept last.
template <class F>
std::vector<double> gradient(const F& objective, const Optimum& at, double mu) {
  std::vector<double> result;
  const auto smooth = [&](const Buffer<double>& x, double c) {
    double l1 = 0.0;
    for (const double v : x) l1 += std::fabs(v);
    return objective(x.span(), c) - mu * l1;
  };
  const double h = 1e-5;
  for (Index j = 0; j < at.weights.size(); ++j) {
    Buffer<double> plus = at.weights;
    Buffer<double> minus = at.weights;
    plus[j] += h;
    minus[j] -= h;
    result.push_back((smooth(plus, at.intercept) - smooth(minus, at.intercept)) / (2 * h));
  }
  result.push_back((smooth(at.weights, at.intercept + h) - smooth(at.weights, at.intercept - h)) / (2 * h));
  return result;
}

}  // namespace

TEST_CASE("least squares and ridge: the gradient vanishes, the intercept's included") {
  const Dataset data = synthetic(7, {.rows = 400, .test_rows = 0}).train;
  for (const float lambda : {0.0f, 0.3f}) {
    const Objective objective(data, SquaredLoss{}, ElasticNet(lambda, 0.0f));
    const auto optimum = exact_solution(objective);
    REQUIRE(optimum);
    for (const double g : gradient(objective, *optimum, 0.0)) CHECK(std::abs(g) < 1e-8);
    CHECK(optimum->value == Approx(objective(optimum->weights.span(), optimum->intercept)));
  }
}

TEST_CASE("without standardisation the intercept and the offsets are found") {
  RowMajorMatrix a(50, 2);
  Eigen::VectorXf y(50);
  for (Index i = 0; i < 50; ++i) {
    a(i, 0) = 1000.0f + static_cast<float>(i);
    a(i, 1) = static_cast<float>(i * i % 17);
    y[i] = 3.0f * a(i, 0) - 2.0f * a(i, 1) + 5.0f;
  }
  const Dataset data = make_dataset(a, y);
  struct RawLoss : SquaredLoss {
    LabelMap label_map(const LabelStatistics&) const { return {}; }
  };
  const Objective objective(data, RawLoss{}, NoRegularizer{}, false);
  const auto optimum = exact_solution(objective);
  CHECK(optimum->weights[0] == Approx(3.0).epsilon(1e-9));
  CHECK(optimum->weights[1] == Approx(-2.0).epsilon(1e-9));
  CHECK(optimum->intercept == Approx(5.0).epsilon(1e-6));
  CHECK(optimum->value < 1e-12);
}

TEST_CASE("l1 and elastic net: subgradient conditions, zeros are exact") {
  const Dataset data = synthetic(12, {.rows = 300, .test_rows = 0}).train;
  for (const float lambda : {0.0f, 0.1f}) {
    const double mu = 0.15;
    const Objective objective(data, SquaredLoss{}, ElasticNet(lambda, 0.15f));
    const auto optimum = exact_solution(objective);
    const auto g = gradient(objective, *optimum, static_cast<double>(0.15f));
    int zeros = 0;
    for (Index j = 0; j < 12; ++j) {
      const double x = optimum->weights[j];
      const double slope = g[static_cast<std::size_t>(j)];
      if (x == 0.0) {
        ++zeros;
        CHECK(std::abs(slope) <= mu + 1e-6);
      } else {
        CHECK(slope == Approx(x > 0.0 ? -mu : mu).margin(1e-6));
      }
    }
    CHECK(zeros > 0);
    CHECK(zeros < 12);
  }
}

TEST_CASE("collinear and constant columns: the optimum is that without them, of smallest norm") {
  const Dataset base = synthetic(3, {.rows = 200, .test_rows = 0}).train;
  RowMajorMatrix a(200, 6);
  a.leftCols(3) = base.matrix();
  a.col(3) = base.matrix().col(0);
  a.col(4) = base.matrix().col(1) * -2.0f;
  a.col(5).setConstant(4.0f);
  const Dataset wide = make_dataset(a, base.label_vector());
  const auto small = exact_solution(Objective(base));
  const auto large = exact_solution(Objective(wide));
  CHECK(large->value == Approx(small->value).epsilon(1e-9));
  CHECK(large->weights[0] == Approx(large->weights[3]).epsilon(1e-6));
  CHECK(large->weights[5] == Approx(0.0).margin(1e-9));
}

TEST_CASE("ls-svm optimum equals least squares on the mapped labels") {
  const Dataset data = two_class({.rows = 500, .test_rows = 0}).train;
  const auto svm = exact_solution(Objective(data, LeastSquaresSvm{}));
  struct RawLoss : SquaredLoss {
    LabelMap label_map(const LabelStatistics&) const { return {}; }
  };
  const auto squares = exact_solution(Objective(data, RawLoss{}));
  CHECK(svm->value == Approx(squares->value));
  CHECK(svm->weights[17] == Approx(squares->weights[17]));
}

TEST_CASE("box and ball have no exact solver; more columns than rows interpolate") {
  const Dataset data = synthetic(5, {.rows = 40, .test_rows = 0}).train;
  CHECK_FALSE(exact_solution(Objective(data, SquaredLoss{}, Box(-1.0f, 1.0f))));
  CHECK_FALSE(exact_solution(Objective(data, SquaredLoss{}, L2Ball(1.0f))));
  const Dataset wide = synthetic(60, {.rows = 30, .test_rows = 0}).train;
  CHECK(exact_solution(Objective(wide))->value < 1e-20);
}
