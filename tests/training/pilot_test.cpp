// The pilot: its gradient, what training with it solves, and when it is left alone.

#include <Eigen/LU>
#include <cmath>
#include <vector>
#include <zipml/analysis/realised_system.hpp>
#include <zipml/zipml.hpp>

#include "catch.hpp"
#include "training/doubled_squares.hpp"
#include "training/same_bits.hpp"

using namespace zipml;

namespace {

const Dataset& table() {
  static const Dataset train = skewed({.rows = 4'000, .test_rows = 0}).train;
  return train;
}

/// A table of few columns, whose realised systems are solved by hand.
const Dataset& narrow_table() {
  static const Dataset train = synthetic(5, {.rows = 1'500, .test_rows = 0}).train;
  return train;
}

/// Standardised rows with a 1 behind.
Eigen::MatrixXd exact_rows(const Dataset& data) {
  const Objective objective(data);
  Eigen::MatrixXd rows(data.rows, data.cols + 1);
  for (Index i = 0; i < data.rows; ++i) {
    for (Index j = 0; j < data.cols; ++j) rows(i, j) = objective.standardised(i, j);
    rows(i, data.cols) = 1.0;
  }
  return rows;
}

Eigen::VectorXd standardised_labels(const Dataset& data) {
  const Objective objective(data);
  Eigen::VectorXd labels(data.rows);
  for (Index i = 0; i < data.rows; ++i) labels(i) = objective.label(i);
  return labels;
}

/// (w0, c0) for standardised labels.
Eigen::VectorXd pilot_of(const Pilot& pilot, const LabelStatistics& labels) {
  Eigen::VectorXd w(pilot.weights.size() + 1);
  for (Index j = 0; j < pilot.weights.size(); ++j)
    w(j) = static_cast<double>(pilot.weights[j]) / labels.deviation;
  w(pilot.weights.size()) = (pilot.intercept - labels.mean) / labels.deviation;
  return w;
}

Eigen::VectorXd weights_of(const Fit& fit) {
  Eigen::VectorXd w(fit.weights.size() + 1);
  for (Index j = 0; j < fit.weights.size(); ++j) w(j) = fit.weights[j];
  w(fit.weights.size()) = fit.intercept;
  return w;
}

template <class L>
double excess_percent(const Dataset& data, const Fit& fit, L loss) {
  const Objective objective(data, loss);
  return 100.0 * excess(objective(fit.weights.span(), fit.intercept), exact_solution(objective)->value);
}

/// Least squares on the square of the label: no affine function of it.
struct SquareOfLabel {
  static constexpr const char* name = "square";
  static constexpr bool classifies = false;
  static constexpr float slope = 1.0f;
  double value(double z, double y) const { return 0.5 * (z - y * y) * (z - y * y); }
  float derivative(float z, float y) const { return z - y * y; }
  LabelMap label_map(const LabelStatistics& labels) const { return SquaredLoss{}.label_map(labels); }
};

}  // namespace

TEST_CASE("the pilot's gradient is that of all rows in full precision, at its weights") {
  Dataset data = table();
  // Columns far from 0, in other units, and a constant one.
  for (Index i = 0; i < data.rows; ++i) {
    data.values[i * data.cols] = 1e4f + 3.0f * data.values[i * data.cols];
    data.values[i * data.cols + 1] *= 1e-5f;
    data.values[i * data.cols + 2] = 7.0f;
    data.labels[i] = 500.0f + 20.0f * data.labels[i];
  }
  const auto store = quantize<2>(data, variance_corrected, {.outliers = 0.003});
  const Pilot& pilot = store.pilot;
  REQUIRE(pilot.rows == data.rows / 2);  // 100 for each column are more than half of them
  const Eigen::MatrixXd a = exact_rows(data);
  const LabelStatistics& labels = store.label_statistics();
  const Eigen::VectorXd r = a * pilot_of(pilot, labels) - standardised_labels(data);
  const Eigen::VectorXd gradient = labels.deviation / static_cast<double>(data.rows) * (a.transpose() * r);
  const double scale = labels.deviation * std::sqrt(r.squaredNorm() / static_cast<double>(data.rows));
  for (Index j = 0; j <= data.cols; ++j) {
    INFO(j);
    CHECK(std::fabs(pilot.gradient[j] - gradient(j)) < 1e-5 * scale);
  }
  CHECK(pilot.squares == Approx(scale * scale).epsilon(1e-5));
  CHECK(pilot.weights[2] == 0.0f);
}

TEST_CASE(
    "values near the end of float32 leave no pilot that is not finite, and training stays what it was") {
  Dataset data = narrow_table();
  for (const float size : {1e18f, 1e30f, 1e36f}) {
    for (const bool standardize : {true, false}) {
      Dataset large = data;
      large.values[7 * large.cols + 2] = size;
      large.labels[11] = size;
      INFO(size << (standardize ? ", standardised" : ""));
      const auto store =
          quantize<4>(large, variance_corrected, {.standardize = standardize, .outliers = 0.003});
      const Pilot& pilot = store.pilot;
      for (const double g : pilot.gradient) CHECK(std::isfinite(g));
      for (const float w : pilot.weights) CHECK(std::isfinite(w));
      const auto fit = Sgd{}.fit(store, {.epochs = 3});
      for (const double w : fit.weights) CHECK(std::isfinite(w));
    }
  }
}

TEST_CASE("a pilot has the same bits on every instruction set, for any threads, from any matrix") {
  const Dataset& data = table();
  const auto of = [&](const QuantizeOptions& options) {
    return quantize<2>(data, variance_corrected, options).pilot;
  };
  const auto same = [](const Pilot& a, const Pilot& b) {
    return a.rows == b.rows && a.intercept == b.intercept && a.squares == b.squares && a.labels == b.labels &&
           std::equal(a.weights.begin(), a.weights.end(), b.weights.begin()) &&
           std::equal(a.gradient.begin(), a.gradient.end(), b.gradient.begin());
  };
  const Pilot expected = of({.isa = "scalar"});
  REQUIRE_FALSE(expected.empty());
  for (const Isa isa : all_isas)
    if (available(isa)) CHECK(same(of({.isa = name_of(isa)}), expected));
  for (const int threads : {2, 3}) CHECK(same(of({.threads = threads}), expected));
  const Eigen::MatrixXd columns = data.matrix().cast<double>();
  const Eigen::VectorXd labels = data.label_vector().cast<double>();
  CHECK(same(quantize<2>(columns, labels, variance_corrected).pilot, expected));
  CHECK(same(quantize<5>(data, naive, lloyd_max_levels, nearest).pilot, expected));
  CHECK_FALSE(same(of({.seed = 2}), expected));
}

TEST_CASE(
    "training with a pilot ends where P (x - w0) = -grad F(w0), as far from x* as (I - P^-1 H)(w0 - x*)") {
  const Dataset& data = narrow_table();
  const Eigen::MatrixXd a = exact_rows(data);
  const Eigen::VectorXd y = standardised_labels(data);
  const auto n = static_cast<double>(data.rows);
  const Eigen::MatrixXd h = a.transpose() * a / n;
  const Eigen::VectorXd optimum = h.ldlt().solve(Eigen::VectorXd(a.transpose() * y / n));
  const auto check = [&](const auto& store, auto estimator) {
    const Pilot& pilot = store.pilot;
    REQUIRE(pilot.rows == 750);
    Eigen::MatrixXd p;
    Eigen::VectorXd right;
    const Buffer<float> zero(data.rows);
    detail::realised_system(store.samples(), estimator, zero, p, right);
    const LabelStatistics& labels = store.label_statistics();
    Eigen::VectorXd gradient(data.cols + 1);
    for (Index j = 0; j <= data.cols; ++j) gradient(j) = pilot.gradient[j] / labels.deviation;
    const Eigen::VectorXd w0 = pilot_of(pilot, labels);
    const Eigen::VectorXd expected = w0 - p.partialPivLu().solve(gradient);
    const auto fit =
        Sgd<SquaredLoss, NoRegularizer, ConstantStep>(SquaredLoss{}, NoRegularizer{}, ConstantStep(0.02f))
            .fit(store, estimator, {.epochs = 400, .batch = 250});
    INFO(estimator.name);
    CHECK(fit.pilot_rows == 750);
    CHECK(fit.kept_correction == 1.0);
    // Noise is gone with the difference: what is left is float32.
    CHECK((weights_of(fit) - expected).norm() < 1e-4);
    const Eigen::VectorXd claimed =
        optimum +
        (Eigen::MatrixXd::Identity(p.rows(), p.cols()) - p.partialPivLu().inverse() * h) * (w0 - optimum);
    CHECK((expected - claimed).norm() < 1e-5);
    CHECK((expected - optimum).norm() < 0.5 * (w0 - optimum).norm());
    // Loss on the store: the matrix is rounded, the gradient exact.
    const Objective objective(data);
    CHECK(fit.quantized_loss == Approx(objective(fit.weights.span(), fit.intercept)).epsilon(0.02));
  };
  check(quantize<3>(data, variance_corrected), variance_corrected);
  check(quantize<3>(data, naive), naive);
  check(quantize<3>(data, double_sampling), double_sampling);
  check(quantize<3>(data, symmetrized), symmetrized);
  check(quantize<2>(data, sum_code), sum_code);
  check(quantize<2>(data, naive, lloyd_max_levels, nearest), naive);
}

TEST_CASE(
    "the direct solution is the one that SGD goes towards, and is there where the matrix is indefinite") {
  const Dataset& data = table();
  const Objective objective(data);
  const double optimum = exact_solution(objective)->value;
  const auto excess_of = [&](const auto& store, auto estimator) {
    const auto solution = pilot_solution(store, estimator, objective);
    REQUIRE(solution);
    CHECK(objective(solution->weights.span(), solution->intercept) == solution->value);
    return excess(solution->value, optimum);
  };
  // P is what it is where nothing had to be clipped, but for the ridge of 10^-6.
  const auto six = quantize<6>(data, variance_corrected, {.outliers = 0.003});
  const auto fit = Sgd{}.fit(six, {.epochs = 400});
  const auto solution = pilot_solution(six, variance_corrected, objective);
  double distance = 0.0, length = 0.0;
  for (Index j = 0; j < data.cols; ++j) {
    distance += std::pow(fit.weights[j] - solution->weights[j], 2);
    length += std::pow(fit.weights[j], 2);
  }
  CHECK(std::sqrt(distance / length) < 0.01);
  // One bit, 44 rows for a column: indefinite, and solved all the same.
  const auto one = quantize<1>(data, variance_corrected, {.outliers = 0.003});
  CHECK_FALSE(realised_solution(one, variance_corrected, objective)->definite);
  const double of_pilot =
      excess(objective(Sgd{}.fit(one, {.epochs = 0}).weights.span(), Sgd{}.fit(one, {.epochs = 0}).intercept),
             optimum);
  CHECK(excess_of(one, variance_corrected) < of_pilot);
  CHECK(excess_of(quantize<1>(data, double_sampling), double_sampling) < of_pilot);
  CHECK(excess_of(quantize<2>(data, naive, lloyd_max_levels, nearest), naive) < of_pilot);
  CHECK_FALSE(
      pilot_solution(quantize<2>(data, variance_corrected, {.pilot = 0}), variance_corrected, objective));
  CHECK_FALSE(pilot_solution(one, variance_corrected, Objective(data, SquaredLoss{}, L1(0.1f))));
}

TEST_CASE("a pilot serves losses of any slope, two classes, and every penalty") {
  const Dataset& data = table();
  const auto store = quantize<3>(data, variance_corrected, {.outliers = 0.003});
  const auto single = Sgd{}.fit(store, {.epochs = 40});
  CHECK(single.pilot_rows == 2'000);
  // Slope 2 doubles the gradient, and half the step undoes it, for powers of two exactly.
  const auto at_step = [&](auto loss, float step) {
    return Sgd<decltype(loss), NoRegularizer, ConstantStep>(loss, NoRegularizer{}, ConstantStep(step))
        .fit(store, {.epochs = 3});
  };
  CHECK(same_bits(at_step(SquaredLoss{}, 0.0078125f), at_step(DoubledSquares{}, 0.00390625f)));
  CHECK(excess_percent(data, Sgd{DoubledSquares{}}.fit(store, {.epochs = 40}), DoubledSquares{}) ==
        Approx(excess_percent(data, single, SquaredLoss{})).margin(0.05));

  const Dataset classes = two_class({.rows = 6'000, .test_rows = 0}).train;
  const auto store_of_classes = quantize<2>(classes, variance_corrected, {.outliers = 0.003});
  const auto svm = Sgd{LeastSquaresSvm{}}.fit(store_of_classes, {.epochs = 40});
  CHECK(svm.pilot_rows == 3'000);
  CHECK(excess_percent(classes, svm, LeastSquaresSvm{}) < 1.0);

  for (const float lambda : {0.01f, 0.3f}) {
    const L2 penalty(lambda);
    const Objective objective(data, SquaredLoss{}, penalty);
    const auto fit = Sgd{SquaredLoss{}, penalty}.fit(store, {.epochs = 40});
    CHECK(fit.pilot_rows == 2'000);
    const auto without = Sgd{SquaredLoss{}, penalty}.fit(store, {.epochs = 40, .pilot = false});
    CHECK(objective(fit.weights.span(), fit.intercept) <
          objective(without.weights.span(), without.intercept));
  }
  const L1 lasso(0.05f);
  const Objective objective(data, SquaredLoss{}, lasso);
  const auto sparse = Sgd{SquaredLoss{}, lasso}.fit(store, {.epochs = 40});
  const auto without = Sgd{SquaredLoss{}, lasso}.fit(store, {.epochs = 40, .pilot = false});
  CHECK(objective(sparse.weights.span(), sparse.intercept) <
        objective(without.weights.span(), without.intercept));
}

TEST_CASE("one bit with a pilot is closer to the optimum than three without") {
  // Seeds 1 to 3, chosen before the first run; deterministic.
  const Dataset data = skewed({.rows = 20'000, .test_rows = 0}).train;
  for (const std::uint64_t seed : {1u, 2u, 3u}) {
    const auto three =
        Sgd{}.fit(quantize<3>(data, variance_corrected, {.seed = seed, .outliers = 0.003, .pilot = 0}));
    const auto one = Sgd{}.fit(quantize<1>(data, variance_corrected, {.seed = seed, .outliers = 0.003}));
    CHECK(one.success());
    CHECK(one.status == FitStatus::completed);
    CHECK(one.advice.empty());
    CHECK(excess_percent(data, one, SquaredLoss{}) < excess_percent(data, three, SquaredLoss{}));
  }
}

TEST_CASE(
    "the bits of a fit with a pilot do not depend on instruction sets, threads or how batches are cut") {
  const Dataset& data = table();
  const auto store = quantize<2>(data, variance_corrected, {.outliers = 0.003});
  const auto with = [&](const FitOptions& options) { return Sgd{}.fit(store, options); };
  const auto integers = with({.epochs = 2, .model = {8}, .gradient = {8}, .isa = "scalar"});
  for (const Isa isa : all_isas)
    if (available(isa))
      CHECK(same_bits(with({.epochs = 2, .model = {8}, .gradient = {8}, .isa = name_of(isa)}), integers));
  CHECK(same_bits(with({.epochs = 2, .batch = 2'000, .threads = 2}), with({.epochs = 2, .batch = 2'000})));
  // Rounded models round the difference: at 2 bits they are as good as at 32.
  const double exact = excess_percent(data, with({.epochs = 40}), SquaredLoss{});
  CHECK(excess_percent(data, with({.epochs = 40, .model = {4}, .gradient = {8}}), SquaredLoss{}) <
        exact + 0.2);
  CHECK(with({.epochs = 2, .batch = 1}).success());
}

TEST_CASE("a start, a linear term and no epochs mean the weights, not their differences from the pilot") {
  const Dataset& data = table();
  const auto store = quantize<4>(data, variance_corrected, {.outliers = 0.003});
  const auto d = static_cast<std::size_t>(data.cols);
  const Eigen::VectorXd w0 = pilot_of(store.pilot, store.label_statistics());
  const auto untrained = Sgd{}.fit(store, {.epochs = 0});
  CHECK((weights_of(untrained) - w0).norm() < 1e-5);
  std::vector<double> start(d + 1, 0.25);
  const auto started = Sgd{}.fit(store, {.epochs = 0, .start = start});
  CHECK(started.weights[3] == 0.25);
  // The linear term moves the solution by P^-1 of it, with a pilot and without.
  std::vector<double> term(d + 1, 0.0);
  term[0] = 0.05;
  const auto moved = [&](bool pilot) {
    const FitOptions plain{.epochs = 60, .safety = Safety::shrink, .pilot = pilot};
    FitOptions pushed = plain;
    pushed.linear_term = term;
    return Eigen::VectorXd(weights_of(Sgd{}.fit(store, pushed)) - weights_of(Sgd{}.fit(store, plain)));
  };
  CHECK((moved(true) - moved(false)).norm() < 0.05 * moved(false).norm());
}

TEST_CASE("a pilot that does not fit is not used, and the fit says why") {
  const Dataset& data = table();
  const auto store = quantize<3>(data, variance_corrected);
  const auto without = quantize<3>(data, variance_corrected, {.pilot = 0});
  CHECK(without.pilot.empty());
  CHECK(same_bits(Sgd{}.fit(store, {.epochs = 2, .pilot = false}), Sgd{}.fit(without, {.epochs = 2})));

  std::vector<float> others(data.labels.begin(), data.labels.end());
  others[17] += 0.5f;
  const Targets targets(store.placement(), {others});
  const auto fit = Sgd{}.fit_models(store, targets, variance_corrected, {.epochs = 2})[0];
  CHECK(fit.pilot_rows == 0);
  CHECK(fit.without_pilot == "the pilot belongs to other labels");
  CHECK(same_bits(fit, Sgd{}.fit_models(without, targets, variance_corrected, {.epochs = 2})[0]));

  const auto square = Sgd{SquareOfLabel{}}.fit(store, {.epochs = 2});
  CHECK(square.pilot_rows == 0);
  CHECK(square.without_pilot == "the targets of the loss are no affine function of the labels");
  const Targets two(store.placement(), {data.labels.span(), others});
  CHECK(Sgd{}.fit_models(store, two, variance_corrected, {.epochs = 2})[1].without_pilot ==
        "a pilot serves one model");

  Dataset constant = data;
  std::fill(constant.labels.begin(), constant.labels.end(), 3.0f);
  CHECK(quantize<3>(constant, variance_corrected).pilot.empty());
  CHECK(quantize<3>(MatrixRef(data.matrix().topRows(200)), data.label_vector().head(200), variance_corrected)
            .pilot.empty());
  CHECK(quantize<3>(data, variance_corrected, {.pilot = 500}).pilot.rows == 500);
  CHECK_THROWS_AS(quantize<3>(data, variance_corrected, {.pilot = data.rows + 1}), Error);
  CHECK_THROWS_AS(quantize<3>(data, variance_corrected, {.pilot = -1}), Error);
  CHECK(quantize_fresh<3>(data, double_sampling).pilot.empty());
}
