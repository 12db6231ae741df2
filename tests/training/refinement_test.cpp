// Refinement: readings in full precision, and the exact optimum from few of them whatever the packed samples are.

#include <cmath>
#include <limits>
#include <vector>
#include <zipml/analysis/full_pass.hpp>
#include <zipml/analysis/newton.hpp>
#include <zipml/estimators/any_store.hpp>
#include <zipml/training/refinement.hpp>
#include <zipml/zipml.hpp>

#include "catch.hpp"
#include "message.hpp"

using namespace zipml;

namespace {

const Dataset& table() {
  static const Dataset train = skewed({.rows = 4'000, .test_rows = 0}).train;
  return train;
}

/// Values of a counter, between -1/2 and 1/2.
double uniform(Index i, Index j) {
  static const Random random(3);
  return random.word(Stream::batch_order, static_cast<std::uint32_t>(i), static_cast<std::uint32_t>(j), 0) /
             4294967296.0 -
         0.5;
}

/// n x d values with means, and scales from 1e-3 to 1e3; columns beyond `distinct` repeat the first ones.
RowMajorMatrix matrix_of(Index n, Index d, Index distinct) {
  RowMajorMatrix a(n, d);
  for (Index i = 0; i < n; ++i)
    for (Index j = 0; j < d; ++j) {
      const Index of = j % distinct;
      a(i, j) = static_cast<float>(std::pow(10.0, static_cast<double>(of % 7) - 3.0) *
                                   (uniform(i, of) + 0.3 * uniform(i, 1000) + static_cast<double>(of % 3)));
    }
  return a;
}

Eigen::VectorXf labels_of(const RowMajorMatrix& a) {
  Eigen::VectorXf y(a.rows());
  for (Index i = 0; i < a.rows(); ++i) {
    double sum = 5.0 + uniform(i, 2000);
    for (Index j = 0; j < a.cols(); ++j)
      sum += static_cast<double>(a(i, j)) * std::pow(10.0, 3.0 - static_cast<double>(j % 7));
    y(i) = static_cast<float>(sum);
  }
  return y;
}

double excess_of(const Refined& refined, const auto& objective, const Optimum& optimum) {
  return excess(objective(refined.weights.span(), refined.intercept), optimum.value);
}

}  // namespace

TEST_CASE("a reading in full precision: value, gradient and product are those of double precision") {
  for (const Index d : {1, 15, 16, 17, 40})
    for (const Index n : {1, 3, 255, 256, 1001}) {
      INFO(n << " x " << d);
      const RowMajorMatrix a = matrix_of(n, d, d);
      const Eigen::VectorXf y = Eigen::VectorXf::LinSpaced(n, -1.0f, 2.0f);
      const Objective objective(MatrixRef(a).view(),
                                LabelView(std::span<const float>(y.data(), static_cast<std::size_t>(n))),
                                SquaredLoss{}, NoRegularizer{});
      std::vector<float> weights;
      for (Index i = 0; i < n; ++i) weights.push_back(static_cast<float>(1.0 + uniform(i, 7)));
      std::vector<double> point;
      for (Index j = 0; j <= d; ++j) point.push_back(uniform(j, 5));
      const auto slope = [&](Index i, double z) {
        const double r = z - static_cast<double>(y(i));
        return FullPass::Slope{0.5 * r * r, r};
      };
      FullPass pass(MatrixRef(a).view(), weights, objective.standardization());
      Eigen::VectorXd gradient(d + 1), expected = Eigen::VectorXd::Zero(d + 1);
      const double value = pass(point, slope, gradient.data());
      double sum = 0.0;
      for (Index i = 0; i < n; ++i) {
        double z = point.back();
        for (Index j = 0; j < d; ++j) z += point[static_cast<std::size_t>(j)] * objective.standardised(i, j);
        const FullPass::Slope of = slope(i, z);
        const auto weight = static_cast<double>(weights[static_cast<std::size_t>(i)]);
        for (Index j = 0; j < d; ++j) expected(j) += weight * of.first * objective.standardised(i, j);
        expected(d) += weight * of.first;
        sum += weight * of.value;
      }
      const auto rows = static_cast<double>(n);
      CHECK(value == Approx(sum / rows).epsilon(1e-5));
      CHECK((gradient - expected / rows).norm() <= 2e-6 * (expected / rows).norm() + 2e-6);
      CHECK(pass.readings() == 1);
      // The same bits on every instruction set, for any number of threads, and of rows that are not in memory.
      struct Rows {
        const RowMajorMatrix& of;
        Index rows() const { return of.rows(); }
        Index cols() const { return of.cols(); }
        void read(Index first, Index count, float* out) const {
          std::copy_n(of.data() + first * of.cols(), count * of.cols(), out);
        }
      };
      const Rows rows_of_source{a};
      const auto same = [&](FullPass&& other) {
        Eigen::VectorXd again(d + 1);
        CHECK(other(point, slope, again.data()) == value);
        CHECK(again == gradient);
      };
      for (const Isa isa : {Isa::scalar, active_isa()})
        for (const int threads : {1, 3})
          same(FullPass(MatrixRef(a).view(), weights, objective.standardization(), threads, isa));
      same(FullPass(rows_of(rows_of_source), weights, objective.standardization()));
    }
}

TEST_CASE("refinement ends at the exact optimum, whatever rounding has done to the samples") {
  const Objective objective(table(), SquaredLoss{}, L2{1e-3f});
  const Optimum optimum = *exact_solution(objective);
  const auto check = [&](const char* what, const auto& store, auto estimator) {
    INFO(what);
    const Refined refined = refine(store, estimator, objective, {.tolerance = 1e-11});
    CHECK(refined.status == FitStatus::converged);
    CHECK(refined.advice.empty());
    CHECK(excess_of(refined, objective, optimum) < 1e-10);
    CHECK(refined.gap <= 1e-10 * optimum.value);
    CHECK(refined.full_passes <= 80);
    CHECK(refined.packed_passes == 1);
    for (Index j = 0; j < table().cols; ++j)
      CHECK(refined.weights[j] == Approx(optimum.weights[j]).margin(2e-5));
    // The model predicts in the user's units.
    const LinearModel exact = in_original_units(objective, optimum.weights.span(), optimum.intercept);
    CHECK(refined.model.margin(table().values.data()) ==
          Approx(exact.margin(table().values.data())).epsilon(1e-4));
  };
  check("1 bit, naive", quantize<1>(table(), naive), naive);
  check("1 bit, corrected", quantize<1>(table(), variance_corrected, {.outliers = 0.003}),
        variance_corrected);
  check("2 bits, corrected, no outliers", quantize<2>(table(), variance_corrected), variance_corrected);
  check("2 bits, nearest Lloyd-Max", quantize<2>(table(), naive, lloyd_max_levels, nearest), naive);
  check("3 bits, double sampling", quantize<3>(table(), double_sampling), double_sampling);
  check("4 bits, sum code", quantize<4>(table(), sum_code, {.outliers = 0.003}), sum_code);
  check("8 bits, no pilot", quantize<8>(table(), variance_corrected, {.pilot = 0}), variance_corrected);
}

TEST_CASE("more bits need fewer readings, and none is wasted without a pilot but the first") {
  const Objective objective(table());
  const auto passes = [&](const auto& store) {
    return refine(store, variance_corrected, objective).full_passes;
  };
  const int one = passes(quantize<1>(table(), variance_corrected, {.outliers = 0.003}));
  const int two = passes(quantize<2>(table(), variance_corrected, {.outliers = 0.003}));
  const int eight = passes(quantize<8>(table(), variance_corrected, {.outliers = 0.003}));
  CHECK(one >= two);
  CHECK(two >= eight);
  CHECK(eight <= 2);
  CHECK(passes(quantize<8>(table(), variance_corrected, {.outliers = 0.003, .pilot = 0})) <= eight + 1);
}

TEST_CASE("refinement counts sample weights, and trains classifiers by least squares") {
  Dataset data = two_class({.rows = 3'000, .test_rows = 0}).train;
  data.weights = Buffer<float>(data.rows);
  for (Index i = 0; i < data.rows; ++i) data.weights[i] = static_cast<float>(i % 4);
  const Objective objective(data, LeastSquaresSvm{}, L2{1e-4f});
  const Optimum optimum = *exact_solution(objective);
  const auto store = quantize<2>(data, variance_corrected, {.outliers = 0.003});
  const Refined refined = refine(store, variance_corrected, objective);
  CHECK(refined.status == FitStatus::converged);
  CHECK(excess_of(refined, objective, optimum) < 1e-6);
  // The rows of an opened file, in the units of the store: no reading for their statistics.
  const Refined again =
      refine(store, variance_corrected, objective_on(store, data, LeastSquaresSvm{}, L2{1e-4f}));
  CHECK(excess_of(again, objective, optimum) < 1e-6);
  CHECK(again.model.classifies);
}

TEST_CASE("columns that are equal, constant, or sum to one are refined without running away") {
  const Index n = 2'000, d = 21;
  RowMajorMatrix a = matrix_of(n, d, 9);
  a.col(d - 1).setConstant(3.0f);
  for (Index i = 0; i < n; ++i)
    for (Index j = 0; j < 3; ++j) a(i, 9 + j) = static_cast<Index>(i % 3) == j ? 1.0f : 0.0f;
  const Dataset data = make_dataset(a, labels_of(a));
  const Objective objective(data);
  const Optimum optimum = *exact_solution(objective);
  for (const int bits : {1, 2, 4, 8}) {
    INFO(bits << " bits");
    const AnyStore store = quantize(data, {.bits = bits, .outliers = 0.003});
    for (const double tolerance : {1e-6, 0.0}) {
      const Refined refined =
          refine(store, variance_corrected, objective, {.passes = 60, .tolerance = tolerance});
      const double value = objective(refined.weights.span(), refined.intercept);
      // Labels follow from the columns up to a twelfth of noise: excess in shares of the value at no weights.
      CHECK(value - optimum.value < 1e-6 * 0.5);
      for (const double w : refined.weights) CHECK(std::fabs(w) < 10.0);
    }
  }
}

TEST_CASE("as many readings as asked for, observers that stop, and no readings at all") {
  const Objective objective(table());
  const auto store = quantize<2>(table(), variance_corrected, {.outliers = 0.003});
  std::vector<double> values;
  const auto watch = [&](const EpochEvent& event) {
    CHECK(event.epoch == static_cast<int>(values.size()) + 1);
    values.push_back(objective(event.weights, event.intercept));
  };
  const Refined three = refine(store, variance_corrected, objective, {.passes = 3, .tolerance = 0.0}, watch);
  CHECK(three.full_passes == 3);
  CHECK(values.size() == 3);
  CHECK(values[2] < values[0]);
  CHECK(three.full_bytes == 3.0 * 4.0 * 4000.0 * 90.0);
  CHECK(three.status == FitStatus::completed);
  const Refined stopped =
      refine(store, variance_corrected, objective, {}, [](const EpochEvent&) { return Flow::stop; });
  CHECK(stopped.status == FitStatus::stopped);
  CHECK(stopped.full_passes == 1);
  // Without readings: what the packed samples and the pilot know.
  const Refined none = refine(store, variance_corrected, objective, {.passes = 0});
  const auto solved = pilot_solution(store, variance_corrected, objective);
  CHECK(none.full_passes == 0);
  CHECK(none.gap > 0.0);
  for (Index j = 0; j < 90; ++j) CHECK(none.weights[j] == Approx(solved->weights[j]).margin(1e-9));
  CHECK(holds(none.advice, "more than was asked for"));
  const Refined threads = refine(store, variance_corrected, objective, {.threads = 3});
  const Refined alone = refine(store, variance_corrected, objective);
  CHECK(std::equal(alone.weights.begin(), alone.weights.end(), threads.weights.begin()));
}

TEST_CASE("an optimum of zero is reached, and is said to be") {
  Dataset exact = table();
  for (Index i = 0; i < exact.rows; ++i)
    exact.labels[i] = exact.values[i * exact.cols] - 2.0f * exact.values[i * exact.cols + 1];
  const auto store = quantize<4>(exact, variance_corrected, {.outliers = 0.003});
  const Objective objective(exact);
  const double at_zero = objective(Buffer<double>(exact.cols).span(), 0.0);
  for (const Refined& refined :
       {refine(store, variance_corrected, objective), conjugate_gradients(objective)}) {
    CHECK(refined.status == FitStatus::converged);
    CHECK(refined.advice.empty());
    CHECK(objective(refined.weights.span(), refined.intercept) < 1e-11 * at_zero);
    CHECK(refined.full_passes < 60);
  }
}

TEST_CASE("refinement says what it cannot do") {
  const auto store = quantize<2>(table(), variance_corrected);
  const auto says = [&](const auto& objective, const RefineOptions& options = {}) {
    return message_of([&] { (void)refine(store, variance_corrected, objective, options); });
  };
  const Dataset others = skewed({.rows = 3'999, .test_rows = 0}).train;
  CHECK(holds(says(Objective(others)), "the rows are not those that the store was packed from"));
  Dataset shifted = table();
  for (Index i = 0; i < 400; ++i) shifted.labels[i] += 3.0f;
  CHECK(holds(says(objective_on(store, shifted)), "the labels are not those"));
  Dataset weighted = table();
  weighted.weights = Buffer<float>(weighted.rows);
  for (Index i = 0; i < weighted.rows; ++i) weighted.weights[i] = i % 2 == 0 ? 1.0f : 3.0f;
  CHECK(holds(says(objective_on(store, weighted)), "rows that count alike"));
  const auto of_weighted = quantize<2>(weighted, variance_corrected);
  CHECK(holds(
      message_of([&] { (void)refine(of_weighted, variance_corrected, objective_on(of_weighted, table())); }),
      "the weights of the store"));
  CHECK(refine(of_weighted, variance_corrected, objective_on(of_weighted, weighted)).success());
  CHECK(holds(says(Objective(table()), {.passes = -1}), "at least 0"));
  CHECK(holds(says(Objective(table()), {.tolerance = -1.0}), "at least 0"));
  CHECK(
      holds(says(Objective(table()), {.tolerance = std::numeric_limits<double>::quiet_NaN()}), "at least 0"));
  CHECK(holds(says(Objective(table(), SquaredLoss{}, L2Ball{1.0f})), "penalties of each weight alone"));
}

TEST_CASE(
    "penalties that are not smooth are refined to their exact optimum, weights at 0 and at the walls of a "
    "box") {
  const auto check = [&](const auto& regularizer, double optimum, bool exact) {
    const Objective objective(table(), SquaredLoss{}, regularizer);
    for (const int bits : {2, 4}) {
      const AnyStore store = quantize(table(), {.bits = bits, .outliers = 0.003});
      const Refined refined =
          refine(store, variance_corrected, objective, {.passes = 300, .tolerance = 1e-8});
      INFO(std::decay_t<decltype(regularizer)>::name << ", " << bits << " bits, " << refined.full_passes
                                                     << " readings");
      CHECK(refined.status == FitStatus::converged);
      const double value = objective(refined.weights.span(), refined.intercept);
      if (exact) CHECK(excess(value, optimum) < 1e-6);
      // No weight can be moved to a better value.
      Buffer<double> near = refined.weights;
      for (Index j = 0; j < near.size(); j += 7)
        for (const double by : {-0.01, 0.01}) {
          std::vector<float> moved{static_cast<float>(near[j] + by)};
          regularizer.prox(moved, 0.0f);
          const double before = std::exchange(near[j], static_cast<double>(moved[0]));
          CHECK(objective(near.span(), refined.intercept) >= value * (1.0 - 1e-6));
          near[j] = before;
        }
      CHECK(refined.value == Approx(value).epsilon(1e-6));
    }
  };
  const ElasticNet net(1e-3f, 0.02f);
  const Optimum optimum = *exact_solution(Objective(table(), SquaredLoss{}, net));
  check(net, optimum.value, true);
  check(L1{0.05f}, exact_solution(Objective(table(), SquaredLoss{}, L1{0.05f}))->value, true);
  check(Box(-0.05f, 0.05f), 0.0, false);
  // Of nearest rounding, which takes variance away, P is less than the matrix of the problem.
  const Dataset rows = skewed({.rows = 3'000, .test_rows = 0}).train;
  const Objective sparse(rows, SquaredLoss{}, L1{0.02f});
  const AnyStore nearest_rows = quantize(
      rows,
      {.estimator = EstimatorKind::naive, .bits = 2, .rounding = RoundingKind::nearest, .outliers = 0.003});
  const Refined of_nearest = refine(nearest_rows, naive, sparse);
  INFO(of_nearest.full_passes << " readings");
  CHECK(of_nearest.status == FitStatus::converged);
  CHECK(excess_of(of_nearest, sparse, *exact_solution(sparse)) < 2e-6);
  // Exact zeros stay exact.
  const AnyStore store = quantize(table(), {.bits = 2, .outliers = 0.003});
  const Objective objective(table(), SquaredLoss{}, net);
  const Refined refined = refine(store, variance_corrected, objective, {.passes = 300, .tolerance = 1e-9});
  Index zeros = 0;
  for (Index j = 0; j < table().cols; ++j) {
    CHECK((refined.weights[j] == 0.0) == (optimum.weights[j] == 0.0));
    zeros += refined.weights[j] == 0.0 ? 1 : 0;
  }
  CHECK(zeros > 5);
}

TEST_CASE("losses that are not affine are refined to the optimum of Newton's method") {
  const Dataset data = two_class({.rows = 4'000, .test_rows = 0}).train;
  const auto check = [&](const auto& loss, const Dataset& of) {
    const L2 penalty{1e-3f};
    const Objective objective(of, loss, penalty);
    const Optimum optimum = *exact_solution(objective);
    for (const int bits : {2, 4})
      for (const bool pilot : {true, false}) {
        Representation how = default_representation<std::decay_t<decltype(loss)>>(bits);
        const AnyStore store = quantize(of, how,
                                        {.pilot = pilot ? std::optional<Index>() : std::optional<Index>(0),
                                         .pilot_loss = pilot_loss_of(loss)});
        const Refined refined = refine(store, naive, objective);
        INFO(std::decay_t<decltype(loss)>::name << ", " << bits << " bits, pilot " << refined.pilot_rows
                                                << ", " << refined.full_passes << " readings");
        CHECK(refined.status == FitStatus::converged);
        CHECK(excess_of(refined, objective, optimum) < 2e-6);
        CHECK(refined.full_passes <= 30);
        CHECK(refined.packed_passes >= 2);
      }
  };
  check(LogisticLoss{}, data);
  check(SquaredHingeLoss{}, data);
  check(HuberLoss{}, table());
  const Objective l1(data, LogisticLoss{}, L1{0.01f});
  const AnyStore store = quantize(data, {.bits = 4, .outliers = 0.003}, {.pilot_loss = LogisticLoss{}});
  const Refined sparse = refine(store, variance_corrected, l1, {.passes = 300});
  CHECK(sparse.status == FitStatus::converged);
  Index zeros = 0;
  for (const double w : sparse.weights) zeros += w == 0.0 ? 1 : 0;
  CHECK(zeros > 5);
}

TEST_CASE("conjugate gradients without packed samples end at the same optimum, after more readings") {
  const Objective objective(table(), SquaredLoss{}, L2{1e-3f});
  const Optimum optimum = *exact_solution(objective);
  const Refined plain = conjugate_gradients(objective, {.tolerance = 1e-8});
  CHECK(plain.status == FitStatus::converged);
  CHECK(excess_of(plain, objective, optimum) < 1e-8);
  const auto store = quantize<4>(table(), variance_corrected, {.outliers = 0.003});
  CHECK(plain.full_passes >
        2 * refine(store, variance_corrected, objective, {.tolerance = 1e-8}).full_passes);
}

TEST_CASE("of many columns the packed matrix is not formed, and the optimum is the same") {
  const Dataset data = two_class({.rows = 4'000, .test_rows = 0}).train;
  const auto check = [&](const auto& loss, const Dataset& of) {
    const Objective objective(of, loss, L2{1e-3f});
    const Optimum optimum = *exact_solution(objective);
    for (const int bits : {2, 4}) {
      const AnyStore store =
          quantize(of, {.bits = bits, .outliers = 0.003}, {.pilot_loss = pilot_loss_of(loss)});
      const Refined refined = refine(store, variance_corrected, objective, {.direct_columns = 16});
      INFO(std::decay_t<decltype(loss)>::name << ", " << bits << " bits, " << refined.full_passes
                                              << " readings, " << refined.packed_passes << " packed");
      CHECK(refined.status == FitStatus::converged);
      CHECK(excess_of(refined, objective, optimum) < 2e-6);
      CHECK(refined.full_passes <= 40);
      CHECK(refined.packed_passes > refined.full_passes);
    }
  };
  check(SquaredLoss{}, table());
  check(LogisticLoss{}, data);
  const AnyStore store = quantize(table(), {.bits = 4, .outliers = 0.003});
  CHECK(holds(message_of([&] {
                (void)refine(store, variance_corrected, Objective(table(), SquaredLoss{}, L1{0.1f}),
                             {.direct_columns = 16});
              }),
              "at most 16 columns"));
  // More columns than rows.
  const Dataset wide = synthetic(300, {.rows = 100, .test_rows = 0}).train;
  const Objective few(wide, SquaredLoss{}, L2{0.1f});
  const Optimum best = *exact_solution(few);
  for (const Index direct : {16, 4096}) {
    const AnyStore packed =
        quantize(wide, {.estimator = EstimatorKind::naive, .bits = 4, .rounding = RoundingKind::nearest});
    const Refined refined = refine(packed, naive, few, {.direct_columns = direct});
    CHECK(refined.status == FitStatus::converged);
    CHECK(excess_of(refined, few, best) < 2e-6);
  }
}
