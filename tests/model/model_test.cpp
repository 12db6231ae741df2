// Losses, proximal operators, step sizes.

#include <cmath>
#include <vector>
#include <zipml/model/losses.hpp>
#include <zipml/model/regularizers.hpp>
#include <zipml/model/step_sizes.hpp>

#include "catch.hpp"

using namespace zipml;

namespace {

std::vector<double> as_double(const std::vector<float>& x) { return {x.begin(), x.end()}; }

/// prox(v, s) minimises |x - v|^2 / 2 + s penalty(x): no point of a grid around it is better.
template <class R>
void check_prox_minimises(const R& regularizer, const std::vector<float>& v, float step) {
  std::vector<float> p = v;
  regularizer.prox(p, step);
  const auto cost = [&](const std::vector<double>& x) {
    double sum = 0.0;
    for (std::size_t j = 0; j < x.size(); ++j) sum += 0.5 * (x[j] - v[j]) * (x[j] - v[j]);
    return sum + step * regularizer.value(x);
  };
  const double best = cost(as_double(p));
  for (std::size_t j = 0; j < v.size(); ++j)
    for (const double move : {-1.0, -0.1, -0.01, 0.01, 0.1, 1.0}) {
      auto x = as_double(p);
      x[j] += move;
      CHECK(cost(x) >= best - 1e-6);
    }
}

}  // namespace

TEST_CASE("derivatives are those of the values") {
  const auto check = [](const auto& loss, double y) {
    for (const double z : {-2.0, -0.5, 0.0, 0.7, 3.0}) {
      const double h = 1e-5;
      CHECK(loss.derivative(static_cast<float>(z), static_cast<float>(y)) ==
            Approx((loss.value(z + h, y) - loss.value(z - h, y)) / (2 * h)).margin(1e-5));
    }
  };
  check(SquaredLoss{}, 0.3);
  check(LeastSquaresSvm{}, 1.0);
  check(LeastSquaresSvm{}, -1.0);
}

TEST_CASE("ls-svm is least squares on labels of -1 and 1") {
  for (const float y : {-1.0f, 1.0f})
    for (const float z : {-1.5f, 0.0f, 0.25f, 2.0f}) {
      CHECK(LeastSquaresSvm{}.value(z, y) == Approx(SquaredLoss{}.value(z, y)));
      CHECK(LeastSquaresSvm{}.derivative(z, y) == SquaredLoss{}.derivative(z, y));
    }
}

TEST_CASE("label maps: standardised for least squares, two classes for ls-svm") {
  LabelStatistics labels{2.0f, 6.0f, 3.0, 1.5, true};
  CHECK(SquaredLoss{}.label_map(labels).apply(6.0f) == 2.0f);
  CHECK(LeastSquaresSvm{}.label_map(labels).apply(2.0f) == -1.0f);
  CHECK(LeastSquaresSvm{}.label_map(labels).apply(6.0f) == 1.0f);
  labels.two_values = false;
  CHECK_THROWS_AS(LeastSquaresSvm{}.label_map(labels), Error);
  const LabelStatistics constant{4.0f, 4.0f, 4.0, 0.0, false};
  CHECK(SquaredLoss{}.label_map(constant).apply(4.0f) == 0.0f);
  CHECK_THROWS_AS(LeastSquaresSvm{}.label_map(constant), Error);
}

TEST_CASE("proximal operators: closed forms") {
  std::vector<float> x{3.0f, -3.0f, 0.5f, -0.2f, 0.0f};
  L1(2.0f).prox(x, 0.5f);
  CHECK(x == std::vector<float>{2.0f, -2.0f, 0.0f, 0.0f, 0.0f});
  x = {3.0f, -1.0f};
  L2(2.0f).prox(x, 0.5f);
  CHECK(x == std::vector<float>{1.5f, -0.5f});
  x = {5.0f};
  ElasticNet(1.0f, 2.0f).prox(x, 1.0f);
  CHECK(x[0] == 1.5f);
  x = {-3.0f, 0.2f, 9.0f};
  Box(-1.0f, 2.0f).prox(x, 0.1f);
  CHECK(x == std::vector<float>{-1.0f, 0.2f, 2.0f});
  x = {3.0f, 4.0f};
  L2Ball(2.5f).prox(x, 0.1f);
  CHECK(x[0] == Approx(1.5f));
  CHECK(x[1] == Approx(2.0f));
  x = {0.3f, 0.4f};
  L2Ball(2.5f).prox(x, 0.1f);
  CHECK(x == std::vector<float>{0.3f, 0.4f});
  NoRegularizer{}.prox(x, 1.0f);
  CHECK(x == std::vector<float>{0.3f, 0.4f});
}

TEST_CASE("proximal operators minimise what they claim") {
  for (const float step : {0.1f, 0.7f}) {
    const std::vector<float> v{1.3f, -0.4f, 0.05f, 2.0f};
    check_prox_minimises(NoRegularizer{}, v, step);
    check_prox_minimises(L1(0.8f), v, step);
    check_prox_minimises(L2(0.8f), v, step);
    check_prox_minimises(ElasticNet(0.5f, 0.3f), v, step);
  }
}

TEST_CASE("proximal operators are firmly nonexpansive, projections idempotent") {
  const std::vector<float> a{1.0f, -2.0f, 0.5f};
  const std::vector<float> b{-0.3f, 0.9f, 4.0f};
  const auto check = [&](const auto& regularizer) {
    auto pa = a;
    auto pb = b;
    regularizer.prox(pa, 0.4f);
    regularizer.prox(pb, 0.4f);
    double inner = 0.0;
    double square = 0.0;
    for (std::size_t j = 0; j < a.size(); ++j) {
      inner += double{pa[j] - pb[j]} * double{a[j] - b[j]};
      square += double{pa[j] - pb[j]} * double{pa[j] - pb[j]};
    }
    CHECK(square <= inner + 1e-6);
  };
  check(L1(0.5f));
  check(ElasticNet(0.5f, 0.5f));
  check(Box(-1.0f, 1.0f));
  check(L2Ball(1.0f));
  auto once = a;
  L2Ball(1.0f).prox(once, 1.0f);
  auto twice = once;
  L2Ball(1.0f).prox(twice, 1.0f);
  CHECK(twice[1] == Approx(once[1]));
}

TEST_CASE("strengths, boxes, radii and steps out of range are refused") {
  const float nan = std::nanf("");
  CHECK_THROWS_AS(L2(-1.0f), Error);
  CHECK_THROWS_AS(L1(nan), Error);
  CHECK_THROWS_AS(ElasticNet(0.0f, HUGE_VALF), Error);
  CHECK_THROWS_AS(Box(1.0f, 0.0f), Error);
  CHECK_THROWS_AS(Box(nan, 0.0f), Error);
  CHECK_THROWS_AS(L2Ball(-1.0f), Error);
  CHECK_THROWS_AS(ConstantStep(0.0f), Error);
  CHECK_THROWS_AS(ConstantStep(nan), Error);
  CHECK_THROWS_AS(InverseTimeStep(1.0f, -1.0f), Error);
  CHECK_THROWS_AS(StepDecay(1.0f, 1.5f, 2), Error);
  CHECK_THROWS_AS(StepDecay(1.0f, 0.5f, 0), Error);
}

TEST_CASE("step sizes") {
  CHECK(ConstantStep(0.25f)(7, 1000) == 0.25f);
  CHECK(InverseTimeStep(1.0f, 0.5f)(0, 0) == 1.0f);
  CHECK(InverseTimeStep(1.0f, 0.5f)(3, 6) == 0.25f);
  const StepDecay decay(0.8f, 0.5f, 2);
  CHECK(decay(0, 0) == 0.8f);
  CHECK(decay(1, 99) == 0.8f);
  CHECK(decay(2, 100) == 0.4f);
  CHECK(decay(5, 100) == 0.2f);
  // 1 / (L + R / B)
  const Curvature curvature{5.0, 64.0, 3.0};
  CHECK(AutomaticStep{}.resolve(curvature, 1)(0, 0) == Approx(1.0 / 67.0));
  CHECK(AutomaticStep{}.resolve(curvature, 64)(0, 0) == Approx(0.25));
  // L + R/B = 3 + 1; (2 + 3) / 2 * (l + R/B) = 2.5 * 1.5; 2 * 3 * 5 * (L + R/B)
  Curvature rounded = curvature;
  rounded.model_noise = 2.0;
  rounded.gradient_noise = 3.0;
  rounded.mean_inverse = 5.0;
  rounded.mean_eigenvalue = 0.5;
  CHECK(AutomaticStep{}.resolve(rounded, 64)(0, 0) == Approx(1.0 / (4.0 + 3.75 + 120.0)));
  // Falling to a tenth, from a larger one where l' is bounded: 1 / (3 + 16 / 16).
  Curvature falling = curvature;
  falling.falling_epochs = 5;
  CHECK(AutomaticStep{}.resolve(falling, 16)(0, 0) == Approx(1.0 / 7.0));
  CHECK(AutomaticStep{}.resolve(falling, 16)(4, 0) == Approx(0.1 / 7.0));
  CHECK(AutomaticStep{}.resolve(falling, 16)(99, 0) == Approx(0.1 / 7.0));
  falling.bounded_slope = true;
  falling.mean_weighted_norm = 16.0;
  CHECK(AutomaticStep{}.resolve(falling, 16)(0, 0) == Approx(0.25));
  CHECK(AutomaticStep{}.resolve(falling, 16)(2, 0) == Approx(0.5 * (0.25 + 0.1 / 7.0)));
  CHECK(AutomaticStep{}.resolve(falling, 16)(4, 0) == Approx(0.1 / 7.0));
  falling.has_pilot = true;
  CHECK(AutomaticStep{}.resolve(falling, 16)(4, 0) == Approx(1.0 / 7.0));
}
