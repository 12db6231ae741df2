// Losses whose derivative is not affine: values, derivatives, the exact optimum, and training on few bits.

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>
#include <zipml/analysis/newton.hpp>
#include <zipml/base/exponential.hpp>
#include <zipml/zipml.hpp>

#include "catch.hpp"
#include "message.hpp"

using namespace zipml;

namespace {

TrainTest classes() { return two_class({.rows = 6000, .test_rows = 2000, .seed = 3}); }

/// The gradient of an objective by differences, at x with the intercept last.
template <class Objective>
double largest_slope(const Objective& objective, Buffer<double> x, double intercept) {
  double largest = 0.0;
  const double h = 1e-5;
  for (Index j = 0; j <= x.size(); ++j) {
    double& at = j < x.size() ? x[j] : intercept;
    const double before = at;
    at = before + h;
    const double above = objective(x.span(), intercept);
    at = before - h;
    const double below = objective(x.span(), intercept);
    at = before;
    largest = std::max(largest, std::fabs(above - below) / (2.0 * h));
  }
  return largest;
}

template <class L>
void check_derivatives(const L& loss) {
  for (const double y : {-1.0, 1.0})
    for (double z = -6.003; z <= 6.0; z += 0.371) {
      INFO(L::name << " at " << z << ", " << y);
      const double h = 1e-5;
      const LossDerivatives slopes = loss.derivatives(z, y);
      CHECK(slopes.first == Approx((loss.value(z + h, y) - loss.value(z - h, y)) / (2 * h)).margin(1e-8));
      CHECK(slopes.second ==
            Approx((loss.derivatives(z + h, y).first - loss.derivatives(z - h, y).first) / (2 * h))
                .margin(1e-5));
      CHECK(static_cast<double>(loss.derivative(static_cast<float>(z), static_cast<float>(y))) ==
            Approx(slopes.first).margin(1e-6));
      CHECK(slopes.second >= 0.0);
      CHECK(slopes.second <= static_cast<double>(L::curvature) + 1e-12);
    }
}

}  // namespace

TEST_CASE("the exponential is that of the C library, to two units in the last place") {
  double worst = 0.0;
  for (int k = -70'000; k <= 70'000; ++k) {
    const double x = k * 0.01 + 1e-4 * (k % 7);
    const double expected = std::exp(x);
    worst = std::max(worst, std::fabs(exponential(x) - expected) / expected);
  }
  CHECK(worst <= 2.0 * std::numeric_limits<double>::epsilon());
  CHECK(exponential(0.0) == 1.0);
  CHECK(exponential(-1e4) == 0.0);
  CHECK(exponential(-std::numeric_limits<double>::infinity()) == 0.0);
  CHECK(exponential(1e4) == exponential(709.0));
  CHECK(std::isfinite(exponential(1e4)));
  CHECK(std::isnan(exponential(std::numeric_limits<double>::quiet_NaN())));
  // The same bits everywhere: golden.
  double sum = 0.0;
  for (int k = -1000; k <= 1000; ++k) sum += exponential(k * 0.013);
  CHECK(sum == 0x1.055556ae33df3p+25);
}

TEST_CASE("the logarithm of one and something is that of the C library, to four units in the last place") {
  double worst = 0.0;
  for (int k = 1; k <= 100'000; ++k) {
    const double x = k * 1e-5, expected = std::log1p(x);
    worst = std::max(worst, std::fabs(log_one_plus(x) - expected) / expected);
  }
  CHECK(worst <= 4.0 * std::numeric_limits<double>::epsilon());
  CHECK(log_one_plus(0.0) == 0.0);
  CHECK(log_one_plus(1e-300) == 1e-300);
}

TEST_CASE("the logarithm is that of the C library, to four units in the last place of it or of one") {
  double worst = 0.0;
  for (double x = 1e-9; x < 1e9; x *= 1.0137) {
    const double expected = std::log(x);
    worst = std::max(worst, std::fabs(logarithm(x) - expected) / std::max(std::fabs(expected), 1.0));
  }
  CHECK(worst <= 4.0 * std::numeric_limits<double>::epsilon());
  CHECK(logarithm(1.0) == 0.0);
  CHECK(logarithm(8.0) == Approx(3.0 * std::log(2.0)).epsilon(1e-15));
}

TEST_CASE("derivatives are those of the values, and curvature is bounded as each loss says") {
  check_derivatives(LogisticLoss{});
  check_derivatives(SquaredHingeLoss{});
  check_derivatives(PoissonLoss{});
  check_derivatives(HuberLoss{});
  check_derivatives(HuberLoss{0.4f});
  CHECK(LogisticLoss{}.value(-1e4, 1.0) == 1e4);
  CHECK(LogisticLoss{}.value(1e4, 1.0) == 0.0);
  CHECK(LogisticLoss{}.derivative(-1e30f, 1.0f) == -1.0f);
}

TEST_CASE("Newton's method ends where the gradient is 0, with and without a penalty, weighted or not") {
  const TrainTest sets = classes();
  const std::vector<float> weights = [&] {
    std::vector<float> list;
    for (Index i = 0; i < sets.train.rows; ++i) list.push_back(static_cast<float>(i % 3));
    return list;
  }();
  const auto check = [&](auto loss, float l2, bool weighted) {
    INFO(decltype(loss)::name << ", l2 " << l2);
    const LabelView labels = weighted ? LabelView(sets.train.labels, 0.0, weights) : sets.train.label_view();
    const Objective objective(sets.train.features(), labels, loss, L2(l2));
    const auto optimum = exact_solution(objective);
    REQUIRE(optimum);
    CHECK(largest_slope(objective, optimum->weights, optimum->intercept) < 1e-5);
    const Buffer<double> zero(sets.train.cols);
    CHECK(optimum->value < objective(zero.span(), 0.0));
  };
  for (const float l2 : {0.0f, 1e-3f, 0.3f})
    for (const bool weighted : {false, true}) {
      check(LogisticLoss{}, l2, weighted);
      check(SquaredHingeLoss{}, l2, weighted);
      check(HuberLoss{}, l2, weighted);
    }
  // A column that is 0 but in a row a little beyond Huber's reach: a gradient at 0, no second derivative, a short way.
  RowMajorMatrix far(2000, 2);
  std::vector<float> pulled;
  for (Index i = 0; i < 2000; ++i) {
    far(i, 0) = static_cast<float>(i % 7);
    far(i, 1) = i == 7 ? 1.0f : 0.0f;
    pulled.push_back(i == 7 ? 1.3f : i % 2 == 0 ? -1.0f : 1.0f);
  }
  const Objective huber(MatrixRef(far).view(), LabelView(pulled), HuberLoss{}, NoRegularizer{});
  const auto found = exact_solution(huber);
  REQUIRE(found);
  CHECK(largest_slope(huber, found->weights, found->intercept) < 1e-5);
  // Equal columns, and classes that a plane separates.
  RowMajorMatrix a(40, 2);
  std::vector<float> y;
  for (Index i = 0; i < 40; ++i) {
    a(i, 0) = a(i, 1) = static_cast<float>(i);
    y.push_back(i < 20 ? 0.0f : 1.0f);
  }
  const auto separated =
      exact_solution(Objective(MatrixRef(a).view(), LabelView(y), LogisticLoss{}, NoRegularizer{}));
  REQUIRE(separated);
  CHECK(separated->value < 1e-9);
  CHECK(std::isfinite(separated->weights[0]));
  CHECK_FALSE(exact_solution(Objective(sets.train, LogisticLoss{}, ElasticNet(0.1f, 0.1f))));
}

TEST_CASE("Huber with a reach beyond all residuals is least squares") {
  const TrainTest sets = synthetic(8, {.rows = 500, .test_rows = 0});
  const auto huber = exact_solution(Objective(sets.train, HuberLoss{1e6f}, L2(0.01f)));
  const auto squares = exact_solution(Objective(sets.train, SquaredLoss{}, L2(0.01f)));
  for (Index j = 0; j < 8; ++j) CHECK(huber->weights[j] == Approx(squares->weights[j]).margin(1e-9));
}

TEST_CASE("training comes within half a per cent of the optimum in float32, and close to it on few bits") {
  const TrainTest sets = classes();
  const auto check = [&](auto loss, double full_excess, double naive_excess) {
    INFO(decltype(loss)::name);
    const Sgd sgd{loss, L2(1e-4f)};
    const Objective objective(sets.train, loss, L2(1e-4f));
    const auto optimum = exact_solution(objective);
    const auto excess_of = [&](const Fit& fit) {
      CHECK(fit.success());
      return (objective(fit.weights.span(), fit.intercept) - optimum->value) / optimum->value;
    };
    CHECK(excess_of(sgd.fit(quantize<32>(sets.train, full_precision), {.epochs = 40})) < full_excess);
    const auto store = quantize<4>(sets.train, naive, lloyd_max_levels, nearest, {.outliers = 0.003});
    const Fit fit = sgd.fit(store, naive, {.epochs = 40});
    CHECK(excess_of(fit) < naive_excess);
    CHECK_FALSE(fit.without_pilot.empty());
    if (decltype(loss)::classifies) {
      const LinearModel best = in_original_units(objective, optimum->weights.span(), optimum->intercept);
      CHECK(accuracy(fit.model, sets.test) > accuracy(best, sets.test) - 0.01);
    }
  };
  check(LogisticLoss{}, 0.005, 0.02);
  check(SquaredHingeLoss{}, 0.005, 0.03);
  check(HuberLoss{}, 0.005, 0.03);
  const TrainTest numbers = synthetic(4, {.rows = 200, .test_rows = 0});
  CHECK(holds(message_of([&] { Sgd{LogisticLoss{}}.fit(quantize<32>(numbers.train, full_precision)); }),
              "logistic takes labels of two classes"));
}

TEST_CASE("the logistic loss of many rows has the bits of each row's") {
  const LogisticLoss loss;
  constexpr int rows = detail::rows_together;
  float z[rows], y[rows];
  double together[rows], plain[rows];
  for (std::uint32_t piece = 0; piece < 4000; ++piece) {
    for (std::uint32_t i = 0; i < rows; ++i) {
      const std::uint32_t bits = (piece * rows + i) * 2654435761u;
      // Any float, and margins as they are.
      z[i] = piece % 2 == 0 ? std::bit_cast<float>(bits) : static_cast<float>(bits) * 1e-8f - 20.0f;
      y[i] = i % 2 == 0 ? 1.0f : -1.0f;
    }
    loss.values(z, y, together);
    detail::logistic_values(z, y, plain);
    for (int i = 0; i < rows; ++i) {
      const double value = loss.value(double{z[i]}, double{y[i]});
      const bool same = value != value ? together[i] != together[i] && plain[i] != plain[i]
                                       : std::memcmp(&value, &together[i], sizeof value) == 0 &&
                                             std::memcmp(&value, &plain[i], sizeof value) == 0;
      INFO(z[i] << ' ' << y[i]);
      REQUIRE(same);
    }
  }
}
