// The choice of a representation, on generated data; real sets are in real_data_test.cpp.

#include <zipml/training/recommend.hpp>
#include <zipml/training/recommend_refinement.hpp>
#include <zipml/zipml.hpp>

#include "catch.hpp"

using namespace zipml;

TEST_CASE("recommend finds a representation that keeps its promise, cheapest first") {
  const Dataset train = skewed({.rows = 10'000, .test_rows = 0}).train;
  const Objective objective(train);
  const double optimum = exact_solution(objective)->value;
  double before = 0.0;
  for (const double acceptable : {0.1, 0.01}) {
    const auto best = recommend(train, SquaredLoss{}, NoRegularizer{}, {.excess = acceptable});
    INFO(to_string(best.representation) << " " << best.predicted_excess);
    CHECK(best.met);
    CHECK(best.predicted_excess <= acceptable);
    CHECK(best.stored_bits >= before);
    before = best.stored_bits;
    // Another seed than the two that were measured may draw worse, rarely four times.
    const AnyStore store = quantize(train, best.representation, {.seed = 99});
    const Fit fit = visit_estimator(best.representation.estimator,
                                    [&](auto estimator) { return Sgd{}.fit(store, estimator); });
    CHECK(excess(objective(fit.weights.span(), fit.intercept), optimum) < 4.0 * acceptable);
  }
  const auto tight = recommend(train, SquaredLoss{}, NoRegularizer{},
                               {.excess = 1e-9, .stored_bits = 3.0, .sample_rows = 4'000});
  CHECK_FALSE(tight.met);
  CHECK(tight.stored_bits <= 3.0);
  CHECK(tight.sample_rows == 4'000);
  CHECK_THROWS_AS(recommend(train, SquaredLoss{}, NoRegularizer{}, {.excess = -1.0}), Error);
  CHECK(tight.full_excess.value() < 0.01);
  CHECK_FALSE(recommend(train, SquaredLoss{}, Box(-0.01f, 0.01f)).has_optimum);
  CHECK_THROWS_AS(recommend(train, SquaredLoss{}, NoRegularizer{}, {.stored_bits = 0.5}), Error);
}

TEST_CASE("recommend finds a representation for tables that are singular, exact, tiny or wide") {
  const auto trains = [](const Dataset& data, double acceptable) {
    const auto best = recommend(data, SquaredLoss{}, NoRegularizer{}, {.excess = acceptable});
    const AnyStore store = quantize(data, best.representation, {.seed = 5});
    const Fit fit = visit_estimator(best.representation.estimator,
                                    [&](auto estimator) { return Sgd{}.fit(store, estimator); });
    CHECK(fit.success());
    CHECK((best.met || best.full_excess.has_value()));
    const Objective objective(data);
    const double optimum = exact_solution(objective)->value;
    const Buffer<double> zero(data.cols);
    if (best.met && optimum > 1e-6 * objective(zero.span(), 0.0))
      CHECK(excess(objective(fit.weights.span(), fit.intercept), optimum) < 2.0 * acceptable);
    return best;
  };
  // A constant column, one that is there twice, and a full set of indicators beside the intercept.
  const Dataset plain = skewed({.rows = 6'000, .test_rows = 0}).train;
  Dataset singular = plain;
  singular.cols = plain.cols + 6;
  singular.values = Buffer<float>(singular.rows * singular.cols);
  for (Index i = 0; i < plain.rows; ++i) {
    float* row = singular.values.data() + i * singular.cols;
    std::copy_n(plain.values.data() + i * plain.cols, plain.cols, row);
    row[plain.cols] = 3.0f;
    row[plain.cols + 1] = row[4];
    for (Index k = 0; k < 4; ++k) row[plain.cols + 2 + k] = i % 4 == k ? 1.0f : 0.0f;
  }
  CHECK(trains(singular, 0.01).met);
  Dataset exact = synthetic(5, {.rows = 500, .test_rows = 0}).train;
  for (Index i = 0; i < exact.rows; ++i) exact.labels[i] = 2.0f * exact.values[i * exact.cols] - 1.0f;
  trains(exact, 0.01);
  Dataset equal = exact;
  std::fill(equal.labels.begin(), equal.labels.end(), 4.0f);
  CHECK(trains(equal, 0.01).met);
  trains(synthetic(5, {.rows = 12, .test_rows = 0}).train, 0.1);
  trains(synthetic(60, {.rows = 80, .test_rows = 0}).train, 0.1);
}

TEST_CASE("recommend_refinement finds the packed samples that move the fewest bytes to the optimum") {
  const Dataset train = skewed({.rows = 10'000, .test_rows = 0}).train;
  const auto best = recommend_refinement(train);
  REQUIRE(best.met);
  INFO(to_string(best.representation) << ": " << best.full_passes << " readings");
  // A reading of all values, packing, and what refinement reports itself.
  const AnyStore store = quantize(train, best.representation, {.seed = 1});
  const Objective objective(train);
  const auto refined_with = [&](const AnyStore& samples) {
    return visit_estimator(samples.representation().estimator, [&](auto estimator) -> Refined {
      if constexpr (BilinearEstimator<decltype(estimator)>)
        return refine(samples, estimator, objective);
      else
        throw Error("no such estimator");
    });
  };
  const Refined refined = refined_with(store);
  CHECK(refined.status == FitStatus::converged);
  CHECK(refined.full_passes <= best.full_passes);
  const double values = static_cast<double>(train.rows * train.cols);
  const double packing = values * (4.0 + best.stored_bits / 8.0);
  CHECK(best.bytes >= packing + refined.full_bytes);
  // No other width with a seed that it has measured moves fewer.
  for (int bits = 1; bits <= 8; ++bits) {
    const AnyStore other = quantize(train, default_representation<SquaredLoss>(bits), {.seed = 1});
    const Refined by_other = refined_with(other);
    CHECK(values * (4.0 + other.samples().stored_bits / 8.0) + by_other.full_bytes + by_other.packed_bytes >=
          best.bytes * (1.0 - 1e-9));
  }
  // Conjugate gradients need no packing, and more readings.
  REQUIRE(best.plain_bytes.has_value());
  CHECK(*best.plain_bytes > best.bytes);

  const auto tight =
      recommend_refinement(train, SquaredLoss{}, NoRegularizer{},
                           {.refine = {.passes = 0}, .stored_bits = 2.05, .sample_rows = 2'000});
  CHECK_FALSE(tight.met);
  CHECK(tight.stored_bits <= 2.05);
  CHECK(tight.sample_rows == 2'000);
  CHECK_FALSE(tight.plain_bytes.has_value());
  CHECK_THROWS_AS(recommend_refinement(train, SquaredLoss{}, NoRegularizer{}, {.stored_bits = 0.5}), Error);
  CHECK(recommend_refinement(train, SquaredLoss{}, L1(0.01f), {.sample_rows = 2'000}).met);
  // Labels that a linear model explains wholly: an optimum of zero.
  Dataset exact = train;
  for (Index i = 0; i < exact.rows; ++i) exact.labels[i] = exact.values[i * exact.cols];
  CHECK(recommend_refinement(exact).met);
}
