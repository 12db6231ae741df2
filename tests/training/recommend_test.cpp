// The choice of a representation, on generated data; real sets are in real_data_test.cpp.

#include <zipml/training/recommend.hpp>
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
    const double solved = visit_estimator(best.representation.estimator, [&](auto estimator) {
      return realised_solution(store, estimator, objective)->value;
    });
    CHECK(excess(solved, optimum) < 4.0 * acceptable);
  }
  const auto tight = recommend(train, SquaredLoss{}, NoRegularizer{},
                               {.excess = 1e-9, .stored_bits = 3.0, .sample_rows = 4'000});
  CHECK_FALSE(tight.met);
  CHECK(tight.stored_bits <= 3.0);
  CHECK(tight.sample_rows == 4'000);
  CHECK_THROWS_AS(recommend(train, SquaredLoss{}, NoRegularizer{}, {.excess = -1.0}), Error);
  CHECK_THROWS_AS(recommend(train, SquaredLoss{}, L1(0.1f)), Error);
}
