// Polynomials in the place of a derivative: their coefficients, no bias over all draws, and fits.

#include <cmath>
#include <vector>
#include <zipml/analysis/newton.hpp>
#include <zipml/estimators/any_store.hpp>
#include <zipml/estimators/polynomial.hpp>
#include <zipml/zipml.hpp>

#include "catch.hpp"
#include "message.hpp"

using namespace zipml;

namespace {

double logistic_slope(double u) { return -1.0 / (1.0 + std::exp(u)); }

double value_of(std::span<const double> powers, double t) {
  double sum = 0.0;
  for (std::size_t k = powers.size(); k-- > 0;) sum = sum * t + powers[k];
  return sum;
}

double sup_error(int degree, double range) {
  const auto powers = chebyshev_series(logistic_slope, degree, range);
  double worst = 0.0;
  for (int i = -1000; i <= 1000; ++i)
    worst = std::max(worst, std::fabs(value_of(powers, i / 1000.0) - logistic_slope(range * i / 1000.0)));
  return worst;
}

/// The mean residual over all 2^(p d) roundings of a value with d columns in p draws, weighted by their probabilities,
/// against the polynomial at the margin of the value itself.
template <int Degree>
void check_unbiased(double label) {
  const PolynomialOf<Degree> estimator{.range = 6.0};
  const std::vector<double> a{0.3, 1.75}, x{0.9, -1.2};  // levels are whole numbers
  double exact = 0.0;
  for (std::size_t j = 0; j < a.size(); ++j) exact += a[j] * x[j];
  double mean = 0.0;
  const unsigned bits = 2 * Degree;
  for (unsigned roundings = 0; roundings < 1u << bits; ++roundings) {
    double probability = 1.0;
    std::vector<float> z(Degree + 1), r(Degree + 1);
    for (int draw = 0; draw < Degree; ++draw) {
      double margin = 0.0;
      for (std::size_t j = 0; j < a.size(); ++j) {
        const bool up = (roundings >> (2 * draw + static_cast<int>(j)) & 1u) != 0;
        const double share = a[j] - std::floor(a[j]);
        probability *= up ? share : 1.0 - share;
        margin += (std::floor(a[j]) + (up ? 1.0 : 0.0)) * x[j];
      }
      z[static_cast<std::size_t>(draw)] = static_cast<float>(margin);
    }
    const auto y = static_cast<float>(label);
    estimator.residuals(LogisticLoss{}, DrawLists<const float>{z.data(), 1, 1}, std::span(&y, 1),
                        DrawLists<float>{r.data(), 1, 1});
    mean += probability * static_cast<double>(r[Degree]);
  }
  const double expected = label * value_of(estimator.coefficients(LogisticLoss{}), label * exact / 6.0);
  CHECK(mean == Approx(expected).margin(1e-6));
}

}  // namespace

TEST_CASE("sup errors of the Chebyshev series for the logistic derivative are those of the literature") {
  CHECK(sup_error(3, 2.0) == Approx(2.4e-3).epsilon(0.05));
  CHECK(sup_error(5, 2.0) == Approx(2.1e-4).epsilon(0.05));
  CHECK(sup_error(7, 2.0) == Approx(1.8e-5).epsilon(0.05));
  CHECK(sup_error(3, 4.0) == Approx(2.7e-2).epsilon(0.05));
  CHECK(sup_error(7, 4.0) == Approx(1.5e-3).epsilon(0.05));
  CHECK(sup_error(15, 4.0) == Approx(4.8e-6).epsilon(0.05));
  CHECK(sup_error(7, 8.0) == Approx(2.6e-2).epsilon(0.05));
  CHECK(sup_error(15, 8.0) == Approx(1.3e-3).epsilon(0.05));
  // A polynomial is its own series.
  const auto cubic = chebyshev_series([](double u) { return 1.0 - 2.0 * u + 0.5 * u * u * u; }, 3, 2.0);
  CHECK(cubic[0] == Approx(1.0).margin(1e-12));
  CHECK(cubic[1] == Approx(-4.0).margin(1e-12));
  CHECK(cubic[2] == Approx(0.0).margin(1e-12));
  CHECK(cubic[3] == Approx(4.0).margin(1e-12));
  CHECK_THROWS_AS(chebyshev_series(logistic_slope, 16, 1.0), Error);
  CHECK_THROWS_AS(chebyshev_series(logistic_slope, 3, 0.0), Error);
}

TEST_CASE("the mean over all draws is the polynomial at the margin of the value itself") {
  for (const double label : {1.0, -1.0}) {
    check_unbiased<1>(label);
    check_unbiased<2>(label);
    check_unbiased<3>(label);
    check_unbiased<5>(label);
    check_unbiased<7>(label);
  }
}

TEST_CASE("beyond its range a polynomial counts as its end, and a fit that goes there says so") {
  const PolynomialOf<3> estimator{.range = 2.0};
  const std::vector<float> z{9.0f, 9.0f, 9.0f, 0.0f};
  std::vector<float> r(4);
  const float y = 1.0f;
  estimator.residuals(LogisticLoss{}, DrawLists<const float>{z.data(), 1, 1}, std::span(&y, 1),
                      DrawLists<float>{r.data(), 1, 1});
  CHECK(static_cast<double>(r[3]) ==
        Approx(value_of(estimator.coefficients(LogisticLoss{}), 1.0)).epsilon(1e-6));

  // Classes that a plane nearly tells apart have large margins.
  const Random random(3);
  RowMajorMatrix a(4000, 3);
  Eigen::VectorXf labels(4000);
  for (Index i = 0; i < 4000; ++i) {
    for (Index j = 0; j < 3; ++j)
      a(i, j) = static_cast<float>(random.word(Stream::generated, static_cast<std::uint32_t>(i),
                                               static_cast<std::uint32_t>(j), 0) >>
                                   8) /
                    16777216.0f -
                0.5f;
    labels(i) = a(i, 0) + 0.5f * a(i, 1) > 0.02f * a(i, 2) ? 1.0f : -1.0f;
  }
  const auto store = quantize<6>(a, labels, polynomial<3>, {.pilot = 0});
  const Fit fit = Sgd{LogisticLoss{}}.fit(store, PolynomialOf<3>{.range = 1.0}, {.epochs = 40});
  CHECK(fit.status == FitStatus::out_of_range);
  CHECK(fit.advice.find("take a larger range") != std::string::npos);
}

TEST_CASE("polynomials end near the optimum on few margins, from a representation known at run time too") {
  TrainTest sets = skewed({.rows = 6000});
  // Labels of little signal, so that margins are small.
  for (std::size_t i = 0; i < sets.train.labels.span().size(); ++i) {
    float& y = sets.train.labels.span()[i];
    y = y + 3.0f * static_cast<float>(std::sin(static_cast<double>(i) * 12.9898)) > 0.0f ? 1.0f : -1.0f;
  }
  const L2 penalty{1e-2f};
  const Objective objective(sets.train, LogisticLoss{}, penalty);
  const auto optimum = exact_solution(objective);
  REQUIRE(optimum);
  const Sgd sgd{LogisticLoss{}, penalty};
  const auto excess_of = [&](const Fit& fit) {
    return objective(fit.weights.span(), fit.intercept) / optimum->value - 1.0;
  };
  const Fit typed = sgd.fit(quantize<6>(sets.train, polynomial<3>, {.outliers = 0.003, .pilot = 0}));
  CHECK(typed.status == FitStatus::completed);
  CHECK(excess_of(typed) < 0.01);
  const Representation representation = parse_representation("polynomial-7:6,outliers=0.003");
  CHECK(to_string(representation) == "polynomial-7:6,outliers=0.003");
  CHECK(representation.code_bits() == 14);
  const AnyStore store = quantize(sets.train, representation, {.pilot = 0});
  const auto fit_of = [&](auto estimator) { return sgd.fit(store, estimator); };
  const Fit at_run_time = visit_estimator_for<LogisticLoss>(representation.estimator, fit_of);
  CHECK(at_run_time.status == FitStatus::completed);
  CHECK(excess_of(at_run_time) < 0.005);
  CHECK(visit_estimator_for<HingeLoss>(representation.estimator, [&](auto estimator) {
    return Sgd<HingeLoss, L2>{HingeLoss{}, penalty}.fit(store, estimator).success();
  }));
  const auto never = [](auto) { return 0; };
  CHECK_THROWS_AS(visit_estimator_for<SquaredLoss>(representation.estimator, never), Error);
  CHECK_THROWS_AS(visit_estimator(representation.estimator, never), Error);
}
