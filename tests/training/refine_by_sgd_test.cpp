// Variance reduction with anchors that move: the exact optimum by SGD on packed samples and a few readings.

#include <zipml/analysis/newton.hpp>
#include <zipml/training/refine_by_sgd.hpp>
#include <zipml/training/refinement.hpp>
#include <zipml/zipml.hpp>

#include "catch.hpp"
#include "message.hpp"

using namespace zipml;

namespace {

const Dataset& table() {
  static const Dataset data = skewed({.rows = 6'000, .test_rows = 0}).train;
  return data;
}

template <class L, class R>
double excess_of(const Refined& refined, const Objective<L, R>& objective, double optimum) {
  return objective(refined.weights.span(), refined.intercept) / optimum - 1.0;
}

}  // namespace

TEST_CASE("rounds of SGD about exact gradients end at the optimum of the float32 rows, whatever the bits") {
  const Objective objective(table(), SquaredLoss{}, L2{1e-3f});
  const double optimum = exact_solution(objective)->value;
  const AnchoredOptions options{.passes = 40, .tolerance = 1e-6};
  const auto check = [&](const auto& store) {
    int readings = 0;
    const Refined refined = refine_by_sgd(store, variance_corrected, objective, options,
                                          [&](const EpochEvent& event) { readings = event.epoch; });
    INFO(store.samples().bits << " bits, " << refined.full_passes << " readings");
    CHECK(refined.status == FitStatus::converged);
    CHECK(excess_of(refined, objective, optimum) < 3e-6);
    CHECK(readings == refined.full_passes);
    CHECK(refined.full_bytes == 4.0 * 6'000 * 90 * refined.full_passes);
    CHECK(refined.packed_passes >= 10 * (refined.full_passes - 1));
    return refined.full_passes;
  };
  const int two = check(quantize<2>(table(), variance_corrected, {.outliers = 0.003}));
  const int eight = check(quantize<8>(table(), variance_corrected, {.outliers = 0.003}));
  CHECK(eight <= two);
  // Without a pilot it starts at no weights.
  const auto bare = quantize<4>(table(), variance_corrected, {.outliers = 0.003, .pilot = 0});
  check(bare);
  CHECK(refine_by_sgd(bare, variance_corrected, objective, options).pilot_rows == 0);
  // SGD alone stays where rounding has put it.
  const auto store = quantize<4>(table(), naive, {.outliers = 0.003});
  const Refined once = refine_by_sgd(store, naive, objective, {.passes = 2, .tolerance = 0.0});
  const Refined often = refine_by_sgd(store, naive, objective, {.passes = 8, .tolerance = 0.0});
  CHECK(excess_of(often, objective, optimum) < 0.1 * excess_of(once, objective, optimum));
  CHECK(once.full_passes == 2);
}

TEST_CASE("rounds of SGD serve losses and penalties that SGD takes, and weights of the rows") {
  const Dataset classes = two_class({.rows = 6'000}).train;
  {
    const Objective objective(classes, LogisticLoss{}, L2{1e-2f});
    const auto store =
        quantize<4>(classes, variance_corrected, {.outliers = 0.003, .pilot_loss = LogisticLoss{}});
    const Refined refined = refine_by_sgd(store, variance_corrected, objective);
    CHECK(refined.status == FitStatus::converged);
    CHECK(excess_of(refined, objective, exact_solution(objective)->value) < 3e-6);
  }
  {
    Dataset weighted = classes;
    weighted.weights = Buffer<float>(weighted.rows);
    for (Index i = 0; i < weighted.rows; ++i) weighted.weights[i] = i % 3 == 0 ? 4.0f : 1.0f;
    const Objective objective(weighted, LeastSquaresSvm{}, L2{1e-2f});
    const auto store = quantize<4>(weighted, variance_corrected, {.outliers = 0.003});
    const Refined refined = refine_by_sgd(store, variance_corrected, objective);
    CHECK(refined.status == FitStatus::converged);
    CHECK(excess_of(refined, objective, exact_solution(objective)->value) < 3e-6);
  }
  {
    const Objective sparse(table(), SquaredLoss{}, L1(0.01f));
    const auto store = quantize<4>(table(), variance_corrected, {.outliers = 0.003});
    const Refined refined = refine_by_sgd(store, variance_corrected, sparse);
    const Refined other = refine(store, variance_corrected, sparse);
    CHECK(refined.status == FitStatus::converged);
    CHECK(sparse(refined.weights.span(), refined.intercept) / other.value - 1.0 < 3e-6);
  }
  {  // a penalty that refine() has no steps for
    const Objective ball(table(), SquaredLoss{}, L2Ball{0.05f});
    const auto store = quantize<4>(table(), variance_corrected, {.outliers = 0.003});
    const Refined refined = refine_by_sgd(store, variance_corrected, ball);
    const Refined longer =
        refine_by_sgd(store, variance_corrected, ball, {.tolerance = 0.0, .fit = {.epochs = 40}});
    CHECK(ball(refined.weights.span(), refined.intercept) <
          ball(longer.weights.span(), longer.intercept) * (1.0 + 1e-5));
  }
}

TEST_CASE("rounds of SGD say what they cannot do, and stop when an observer wants it") {
  const auto store = quantize<4>(table(), variance_corrected, {.outliers = 0.003});
  const Objective objective(table());
  const auto says = [&](const auto& of, const AnchoredOptions& options) {
    return message_of([&] { (void)refine_by_sgd(store, variance_corrected, of, options); });
  };
  CHECK(holds(says(objective, {.passes = 0}), "at least 1"));
  CHECK(holds(says(objective, {.tolerance = -1.0}), "at least 0"));
  const Dataset others = skewed({.rows = 5'999, .test_rows = 0}).train;
  CHECK(holds(says(Objective(others), {}), "the rows are not those"));
  // Few rows for a column at two bits: the first round runs away, which is no success.
  const Dataset wide = skewed({.rows = 50, .test_rows = 0}).train;
  const Objective of_wide(wide, SquaredLoss{}, L2{1e-3f});
  const auto rough = quantize<2>(wide, naive, {.outliers = 0.003});
  const Refined lost = refine_by_sgd(rough, naive, of_wide, {.passes = 3});
  CHECK(lost.status != FitStatus::converged);
  CHECK(lost.gap > 0.1 * (of_wide(lost.weights.span(), lost.intercept) - exact_solution(of_wide)->value));
  Dataset alike = wide;
  for (Index i = 0; i < alike.rows; ++i) alike.labels[i] = 3.0f;
  CHECK(holds(message_of([&] { (void)refine_by_sgd(quantize<4>(alike, naive), naive, Objective(alike)); }),
              "all labels are equal"));
  // A loss that is not affine, from no weights.
  const Dataset classes = two_class({.rows = 4'000}).train;
  const Objective logistic(classes, LogisticLoss{}, L2{1e-2f});
  const auto bare = quantize<4>(classes, variance_corrected, {.outliers = 0.003, .pilot = 0});
  CHECK(refine_by_sgd(bare, variance_corrected, logistic).status == FitStatus::converged);
  const Refined stopped =
      refine_by_sgd(store, variance_corrected, objective, {}, [](const EpochEvent&) { return Flow::stop; });
  CHECK(stopped.status == FitStatus::stopped);
  CHECK(stopped.full_passes == 1);
  const Refined few = refine_by_sgd(store, variance_corrected, objective, {.passes = 1});
  CHECK(few.status == FitStatus::completed);
  CHECK_FALSE(few.advice.empty());
  const Refined threads =
      refine_by_sgd(store, variance_corrected, objective, {.fit = {.epochs = 10, .threads = 3}});
  const Refined alone = refine_by_sgd(store, variance_corrected, objective);
  CHECK(std::equal(alone.weights.begin(), alone.weights.end(), threads.weights.begin()));
}
