// Losses whose derivative is not affine, on rounded samples: the corrected loss, and differences from a pilot.

#include <cmath>
#include <filesystem>
#include <vector>
#include <zipml/analysis/newton.hpp>
#include <zipml/analysis/predict.hpp>
#include <zipml/estimators/any_store.hpp>
#include <zipml/estimators/corrected_loss.hpp>
#include <zipml/zipml.hpp>

#include "catch.hpp"
#include "folder.hpp"
#include "message.hpp"

using namespace zipml;

namespace {

/// E f(z + noise) over Gaussian noise of variance v, by the midpoint rule.
template <class F>
double mean_over_noise(double z, double v, const F& f) {
  constexpr int points = 4000;
  double sum = 0.0;
  for (int k = 0; k < points; ++k) {
    const double t = -8.0 + 16.0 * (k + 0.5) / points;
    sum += std::exp(-0.5 * t * t) * f(z + std::sqrt(v) * t) * 16.0 / points;
  }
  return sum / std::sqrt(2.0 * 3.14159265358979324);
}

/// The bias of a gradient over all 2^d roundings of one row to levels h apart, largest entry. `corrected`: that of the
/// corrected loss with the row's own variances.
template <class L>
double bias(const L& loss, double h, bool corrected) {
  constexpr int d = 5;
  const double up[d] = {0.3, 0.55, 0.2, 0.75, 0.4};  // where the values lie between their levels
  const double a[d] = {0.4, -0.7, 1.1, 0.2, -0.5};
  const double x[d] = {0.6, -0.4, 0.3, 0.9, 0.5};
  const double y = 1.0;
  double margin = 0.0, v = 0.0, variance[d];
  for (int j = 0; j < d; ++j) {
    margin += a[j] * x[j];
    variance[j] = up[j] * (1.0 - up[j]) * h * h;
    v += variance[j] * x[j] * x[j];
  }
  double mean[d] = {};
  for (unsigned code = 0; code < 1u << d; ++code) {
    double chance = 1.0, z = 0.0, q[d];
    for (int j = 0; j < d; ++j) {
      const bool rounds_up = (code >> j & 1u) != 0;
      chance *= rounds_up ? up[j] : 1.0 - up[j];
      q[j] = a[j] + (rounds_up ? 1.0 - up[j] : -up[j]) * h;
      z += q[j] * x[j];
    }
    const CorrectedSlopes at = loss.corrected(z, y, corrected ? v : 0.0);
    for (int j = 0; j < d; ++j)
      mean[j] += chance * (at.residual * q[j] - (corrected ? at.factor * variance[j] * x[j] : 0.0));
  }
  double largest = 0.0;
  for (int j = 0; j < d; ++j)
    largest = std::max(largest, std::fabs(mean[j] - loss.corrected(margin, y, 0.0).residual * a[j]));
  return largest;
}

/// Least squares in the clothes of a CorrectableLoss.
struct CorrectedSquare : SquaredLoss {
  CorrectedSlopes corrected(double z, double y, double v) const {
    return {value(z, y) - 0.5 * v, z - y, 1.0};
  }
};

TrainTest classes(Index rows = 20'000) { return two_class({.rows = rows, .test_rows = 2000, .seed = 11}); }

/// Gradient of a loss at standardised weights, in double precision, the intercept's entry last.
template <class L>
std::vector<double> gradient_of(const Objective<L, NoRegularizer>& objective, const Pilot& pilot) {
  std::vector<double> sum(static_cast<std::size_t>(objective.cols()) + 1);
  MatrixRows rows(objective.features());
  for (Index i = 0; i < objective.rows(); ++i) {
    double z = pilot.intercept;
    for (Index j = 0; j < objective.cols(); ++j)
      z += objective.standardise(rows(i)[j], j) * static_cast<double>(pilot.weights[j]);
    const double slope = objective.loss().derivatives(z, objective.label(i)).first * objective.weight(i);
    for (Index j = 0; j < objective.cols(); ++j)
      sum[static_cast<std::size_t>(j)] += slope * objective.standardise(rows(i)[j], j);
    sum.back() += slope;
  }
  for (double& v : sum) v /= static_cast<double>(objective.rows());
  return sum;
}

}  // namespace

TEST_CASE("noise in the margin of a Poisson regression is undone exactly") {
  for (const double z : {-2.0, 0.0, 0.7})
    for (const double y : {0.0, 1.0, 3.5})
      for (const double v :
           {0.1, 0.3}) {  // the rates stay where the exponential is not capped, but for 1e-5 of the noise
        INFO(z << ", " << y << ", " << v);
        const PoissonLoss loss;
        const auto mean_of = [&](const auto& f) { return mean_over_noise(z - (v > 0.2 ? 0.7 : 0.0), v, f); };
        const double at = z - (v > 0.2 ? 0.7 : 0.0);
        CHECK(mean_of([&](double m) { return loss.corrected(m, y, v).value; }) ==
              Approx(loss.value(at, y)).margin(2e-4));
        CHECK(mean_of([&](double m) { return loss.corrected(m, y, v).residual; }) ==
              Approx(loss.derivatives(at, y).first).margin(2e-4));
      }
}

TEST_CASE("a Poisson regression predicts rates, on few bits as on 32") {
  TrainTest sets = skewed({.rows = 12'000});
  const Random random(21);
  const auto count = [&](Dataset& set, std::uint32_t draw) {
    for (Index i = 0; i < set.rows; ++i) {
      // Of a rate of e^(1 + margin), by inversion.
      const float* const a = set.values.data() + i * set.cols;
      const double rate =
          std::exp(1.0 + 0.4 * std::tanh(static_cast<double>(a[0])) -
                   0.3 * std::tanh(static_cast<double>(a[1])) + 0.2 * std::tanh(static_cast<double>(a[4])));
      double u = random.word(Stream::batch_order, draw, static_cast<std::uint32_t>(i), 0) / 4294967296.0;
      double p = std::exp(-rate), k = 0.0;
      for (; u > p && k < 100.0; ++k) {
        u -= p;
        p *= rate / (k + 1.0);
      }
      set.labels[i] = static_cast<float>(k);
    }
    set.label_offset = 0.0;
  };
  count(sets.train, 0);
  count(sets.test, 1);
  const L2 penalty{1e-4f};
  const Objective objective(sets.train, PoissonLoss{}, penalty);
  const auto optimum = exact_solution(objective);
  REQUIRE(optimum);
  const LinearModel exact = in_original_units(objective, optimum->weights.span(), optimum->intercept);
  CHECK(exact.has_log_link());
  // At the optimum rates add up to the counts, since the intercept has no penalty.
  const Buffer<double> rates = predict(exact, sets.train);
  double predicted = 0.0, counted = 0.0;
  for (Index i = 0; i < sets.train.rows; ++i) {
    predicted += rates[i];
    counted += static_cast<double>(sets.train.labels[i]);
    CHECK(rates[i] > 0.0);
  }
  CHECK(predicted == Approx(counted).epsilon(1e-6));
  const Metrics of_exact = evaluate(exact, sets.test);
  REQUIRE(of_exact.deviance);
  CHECK(*of_exact.deviance < 1.3);  // about 1 for Poisson counts
  const Sgd sgd{PoissonLoss{}, penalty};
  const auto check = [&](const Fit& fit, double most) {
    INFO(to_string(fit.status) << " " << fit.advice);
    CHECK(objective(fit.weights.span(), fit.intercept) / optimum->value - 1.0 < most);
    CHECK(*evaluate(fit.model, sets.test).deviance < 1.02 * *of_exact.deviance);
  };
  check(sgd.fit(quantize<32>(sets.train, full_precision)), 0.01);
  check(sgd.fit(quantize<2>(sets.train, naive, lloyd_max_levels, nearest,
                            {.outliers = 0.003, .pilot_loss = pilot_loss_of(PoissonLoss{})}),
                naive),
        0.01);
  check(sgd.fit(quantize<5>(sets.train, variance_corrected, {.outliers = 0.003, .pilot = 0})), 0.015);
  // A model is a start, and its file keeps the link.
  const auto store = quantize<32>(sets.train, full_precision);
  const Buffer<double> start = in_standardised_units<PoissonLoss>(exact, store);
  CHECK(start[0] == Approx(optimum->weights[0]).epsilon(1e-9));
  CHECK(start[sets.train.cols] == Approx(optimum->intercept).epsilon(1e-9));
  sets.train.labels[0] = -1.0f;
  CHECK_THROWS_AS(Objective(sets.train, PoissonLoss{}, penalty), Error);
}

TEST_CASE("a corrected loss undoes the noise of a margin to second order") {
  // Where a loss is smooth over the noise. Halving the variance divides what is left by four, and by two without.
  const LogisticLoss loss;
  for (const double z : {-3.0, -0.4, 0.0, 1.3, 4.0}) {
    const auto left = [&](double v) {
      return std::fabs(mean_over_noise(z, v, [&](double m) { return loss.corrected(m, 1.0, v).value; }) -
                       loss.value(z, 1.0));
    };
    const auto naive_error = [&](double v) {
      return std::fabs(mean_over_noise(z, v, [&](double m) { return loss.value(m, 1.0); }) -
                       loss.value(z, 1.0));
    };
    INFO("z " << z);
    CHECK(left(0.2) / left(0.1) > 3.4);
    CHECK(naive_error(0.2) / naive_error(0.1) < 2.3);
    CHECK(left(0.3) < 0.25 * naive_error(0.3));
  }
  // The hinges have a kink: there they gain on the loss as it is, everywhere.
  const auto gains = [](const auto& hinge, double v) {
    double worst = 0.0, worst_naive = 0.0;
    for (double z = -2.0; z <= 3.0; z += 0.1) {
      worst = std::max(
          worst, std::fabs(mean_over_noise(z, v, [&](double m) { return hinge.corrected(m, 1.0, v).value; }) -
                           hinge.value(z, 1.0)));
      worst_naive = std::max(worst_naive,
                             std::fabs(mean_over_noise(z, v, [&](double m) { return hinge.value(m, 1.0); }) -
                                       hinge.value(z, 1.0)));
    }
    return worst / worst_naive;
  };
  CHECK(gains(SquaredHingeLoss{}, 0.2) < 0.5);
  CHECK(gains(HingeLoss{}, 0.2) < 0.75);
}

TEST_CASE("residual and factor are the derivatives of a corrected loss in margin and variance") {
  const auto check = [](const auto& loss) {
    for (const double y : {-1.0, 1.0})
      for (double z = -3.01; z < 3.0; z += 0.37)
        for (const double v : {0.05, 0.3, 0.8}) {
          INFO(loss.name << " at " << z << ", " << y << ", v " << v);
          const double h = 1e-5;
          const CorrectedSlopes at = loss.corrected(z, y, v);
          const double in_margin =
              (loss.corrected(z + h, y, v).value - loss.corrected(z - h, y, v).value) / (2 * h);
          const double in_variance =
              (loss.corrected(z, y, v + h).value - loss.corrected(z, y, v - h).value) / (2 * h);
          CHECK(at.residual == Approx(in_margin).margin(2e-6));
          CHECK(at.factor == Approx(-2.0 * in_variance).margin(5e-5));
        }
  };
  check(LogisticLoss{});
  check(SquaredHingeLoss{});
  check(HingeLoss{});
  check(CorrectedSquare{});
}

TEST_CASE(
    "the bias of a gradient over all roundings falls with the third power of the levels' distance or "
    "faster") {
  const LogisticLoss logistic;
  CHECK(std::log2(bias(logistic, 0.4, false) / bias(logistic, 0.2, false)) < 2.2);
  CHECK(std::log2(bias(logistic, 0.4, true) / bias(logistic, 0.2, true)) > 2.8);
  CHECK(std::log2(bias(logistic, 0.2, true) / bias(logistic, 0.1, true)) > 2.8);
  CHECK(bias(logistic, 0.4, true) < 0.1 * bias(logistic, 0.4, false));
  CHECK(bias(CorrectedSquare{}, 0.4, true) < 1e-14);
  CHECK(bias(CorrectedSquare{}, 0.4, false) > 1e-3);
}

TEST_CASE("lists of rows have the bits of single rows") {
  const LogisticLoss loss;
  std::vector<float> z, y, anchors;
  for (int i = 0; i < 77; ++i) {  // no multiple of what is worked on together
    z.push_back(0.37f * static_cast<float>(i - 40));
    y.push_back(i % 3 == 0 ? -1.0f : 1.0f);
    anchors.push_back(0.01f * static_cast<float>(i * i % 101) - 0.5f);
  }
  const auto n = static_cast<Index>(z.size());
  std::vector<float> r(z.size(), -9.0f);
  detail::AnchoredLoss<LogisticLoss>{loss}.slopes(z.data(), y.data(), anchors.data(), nullptr, n, r.data());
  for (std::size_t i = 0; i < r.size(); ++i)
    CHECK(r[i] == loss.derivative(z[i] + anchors[i], y[i]) - loss.derivative(anchors[i], y[i]));
  const detail::CorrectedLoss<LogisticLoss> corrected{loss, 0.4};
  const double sum = corrected.slopes(z.data(), y.data(), nullptr, nullptr, n, r.data());
  double expected = 0.0;
  for (std::size_t i = 0; i < r.size(); ++i) {
    const CorrectedSlopes at = loss.corrected(static_cast<double>(z[i]), static_cast<double>(y[i]), 0.4);
    CHECK(static_cast<double>(r[i]) == Approx(at.residual).margin(1e-6));
    expected += at.factor;
  }
  CHECK(sum == Approx(expected));
  std::vector<float> plain(z.size());
  float* const data = plain.data();
  (void)estimate(naive, loss, {z.data(), n, n}, y, DrawLists<float>{data, n, n});
  for (std::size_t i = 0; i < r.size(); ++i) CHECK(plain[i] == loss.derivative(z[i], y[i]));
  // Golden: the same on every machine.
  double all = 0.0;
  for (const float v : plain) all += static_cast<double>(v);
  CHECK(all == -0x1.cffff9aa044dp+3);
}

TEST_CASE("without a pilot the corrected loss ends nearer to the optimum than the loss as it is") {
  const TrainTest sets = classes();
  const Objective objective(sets.train, LogisticLoss{}, L2(1e-4f));
  const auto optimum = exact_solution(objective);
  const auto excess_of = [&](const auto& store) {
    const Fit fit = Sgd{LogisticLoss{}, L2(1e-4f)}.fit(store, {.epochs = 20});
    REQUIRE(fit.success());
    CHECK(fit.pilot_rows == 0);
    if (store.samples().bias != nullptr)  // the loss of the packed samples is then that of the rows
      CHECK(fit.quantized_loss == Approx(objective(fit.weights.span(), fit.intercept)).epsilon(0.01));
    return objective(fit.weights.span(), fit.intercept) / optimum->value - 1.0;
  };
  const QuantizeOptions how{.outliers = 0.003, .pilot = 0};
  const double corrected = excess_of(quantize<4>(sets.train, variance_corrected, how));
  const double biased = excess_of(quantize<4>(sets.train, naive, how));
  CHECK(corrected < 0.002);
  CHECK(biased > 2.0 * corrected);
  // Integer sums, and the mean of two draws with its own variance.
  const auto integers =
      Sgd{LogisticLoss{}, L2(1e-4f)}.fit(quantize<4>(sets.train, variance_corrected, how), {.model = {8}});
  CHECK(objective(integers.weights.span(), integers.intercept) / optimum->value - 1.0 < 0.002);
  CHECK(excess_of(quantize<4>(sets.train, sum_code, how)) < 0.002);
}

TEST_CASE("noise beyond what can be undone is told, and nothing runs away") {
  const TrainTest sets = classes(6000);
  const auto store = quantize<1>(sets.train, variance_corrected, {.pilot = 0});
  const Fit fit = Sgd{LogisticLoss{}, L2(1e-4f)}.fit(store, {.epochs = 30});
  CHECK(fit.status != FitStatus::completed);
  CHECK(fit.advice.find("bits") != std::string::npos);
  for (const double w : fit.weights) CHECK(std::fabs(w) < 1e3);
  // A convex problem, whose noise is too much for its large weights.
  const Random random(5);
  RowMajorMatrix a(5000, 2);
  Eigen::VectorXf y(5000);
  for (Index i = 0; i < 5000; ++i) {
    const PhiloxWords words = random.words(Stream::batch_order, static_cast<std::uint32_t>(i), 0, 0);
    a(i, 0) = static_cast<float>(words[0]) / 2147483648.0f - 1.0f;
    a(i, 1) = static_cast<float>(words[1]) / 2147483648.0f - 1.0f;
    y(i) = a(i, 0) + 0.05f * (static_cast<float>(words[2]) / 2147483648.0f - 1.0f) > 0.0f ? 1.0f : -1.0f;
  }
  const Fit steep =
      Sgd{LogisticLoss{}}.fit(quantize<2>(a, y, variance_corrected, {.pilot = 0}), {.epochs = 50});
  REQUIRE(steep.smallest_eigenvalue);
  CHECK(*steep.smallest_eigenvalue > 0.0);
  CHECK(steep.status == FitStatus::indefinite);
  CHECK(steep.advice.find("Lloyd-Max") != std::string::npos);
}

TEST_CASE("a pilot helps at one bit too, where rounded columns agree") {
  const TrainTest sets = classes();
  const Objective objective(sets.train, LogisticLoss{}, L2(1e-4f));
  const auto optimum = exact_solution(objective);
  const auto store =
      quantize<1>(sets.train, naive, lloyd_max_levels, nearest, {.pilot_loss = LogisticLoss{}});
  const Pilot& pilot = *store.samples().pilot;
  Buffer<double> weights(sets.train.cols);
  for (Index j = 0; j < weights.size(); ++j) weights[j] = static_cast<double>(pilot.weights[j]);
  const double of_pilot = objective(weights.span(), pilot.intercept) / optimum->value - 1.0;
  const Fit fit = Sgd{LogisticLoss{}, L2(1e-4f)}.fit(store);
  CHECK(objective(fit.weights.span(), fit.intercept) / optimum->value - 1.0 < 0.5 * of_pilot);
}

TEST_CASE("a pilot that is worse than none, with the penalty or of one class alone, is left alone") {
  // Classes that a plane separates: the loss wants weights without end, the penalty small ones.
  RowMajorMatrix a(4000, 2);
  Eigen::VectorXf y(4000), rare(4000);
  const Random random(9);
  for (Index i = 0; i < 4000; ++i) {
    const PhiloxWords words = random.words(Stream::batch_order, static_cast<std::uint32_t>(i), 0, 0);
    a(i, 0) = static_cast<float>(words[0]) / 2147483648.0f - 1.0f;
    a(i, 1) = static_cast<float>(words[1]) / 2147483648.0f - 1.0f;
    y(i) = a(i, 0) > 0.0f ? 1.0f : -1.0f;
    rare(i) = i == 7 ? 1.0f : -1.0f;
  }
  const Sgd sgd{LogisticLoss{}, L2{1.0f}};
  const Fit fit = sgd.fit(quantize<4>(a, y, naive, uniform_levels, nearest, {.pilot_loss = LogisticLoss{}}));
  CHECK(fit.pilot_rows == 0);
  CHECK(fit.without_pilot.find("worse than no weights") != std::string::npos);
  CHECK(fit.success());
  CHECK(std::fabs(fit.weights[0]) < 1.0);
  CHECK(
      quantize<4>(a, rare, naive, uniform_levels, nearest, {.pilot_loss = LogisticLoss{}}).samples().pilot ==
      nullptr);
}

TEST_CASE("a pilot of a loss has its exact gradient, and takes few bits to the optimum") {
  const TrainTest sets = classes();
  std::vector<float> weights;
  for (Index i = 0; i < sets.train.rows; ++i) weights.push_back(static_cast<float>(i % 3));
  const auto check = [&](auto loss, bool weighted) {
    INFO(loss.name << (weighted ? ", weighted" : ""));
    using L = decltype(loss);
    const LabelView labels = weighted ? LabelView(sets.train.labels, 0.0, weights) : sets.train.label_view();
    const Objective objective(sets.train.features(), labels, loss, NoRegularizer{});
    const auto optimum = exact_solution(objective);
    const auto store = quantize<2>(sets.train.features(), labels, naive, lloyd_max_levels, nearest,
                                   {.outliers = 0.003, .pilot_loss = loss});
    const Pilot* const pilot = store.samples().pilot;
    REQUIRE(pilot != nullptr);
    const std::vector<double> expected = gradient_of(objective, *pilot);
    for (std::size_t j = 0; j < expected.size(); ++j)
      CHECK(pilot->gradient[static_cast<Index>(j)] == Approx(expected[j]).margin(2e-5));
    const Buffer<double> at = [&] {
      Buffer<double> w(sets.train.cols);
      for (Index j = 0; j < w.size(); ++j) w[j] = static_cast<double>(pilot->weights[j]);
      return w;
    }();
    CHECK(0.5 * pilot->squares == Approx(objective(at.span(), pilot->intercept)).epsilon(1e-5));
    const Fit with = Sgd{loss}.fit(store, {.epochs = 20});
    const Fit without = Sgd{loss}.fit(store, {.epochs = 20, .pilot = false});
    CHECK(with.pilot_rows == pilot->rows);
    const auto excess_of = [&](const Fit& fit) {
      return objective(fit.weights.span(), fit.intercept) / optimum->value - 1.0;
    };
    CHECK(excess_of(with) < 0.002);
    CHECK(excess_of(with) < 0.2 * excess_of(without));
    CHECK(with.quantized_loss == Approx(objective(with.weights.span(), with.intercept)).epsilon(0.005));
    // Of another loss it says so.
    if constexpr (!std::is_same_v<L, HuberLoss>) {
      const Fit other = Sgd{HuberLoss{}}.fit(store, {.epochs = 1});
      CHECK(other.pilot_rows == 0);
      CHECK(other.without_pilot.find("another loss") != std::string::npos);
      CHECK(Sgd{}.fit(store, {.epochs = 1}).without_pilot.find("another loss") != std::string::npos);
    }
  };
  check(LogisticLoss{}, false);
  check(LogisticLoss{}, true);
  check(SquaredHingeLoss{}, false);
  check(HuberLoss{}, false);
  // Parameters belong to a loss.
  CHECK(loss_fingerprint(HuberLoss{1.0f}) != loss_fingerprint(HuberLoss{1.5f}));
  CHECK(loss_fingerprint(LogisticLoss{}) != loss_fingerprint(SquaredHingeLoss{}));
}

TEST_CASE("a packed file keeps the pilot of a loss: the same weights") {
  const Folder folder;
  const TrainTest sets = classes(3000);
  const Representation nearest_levels{EstimatorKind::naive, 3, LevelsKind::lloyd_max, RoundingKind::nearest,
                                      0.003};
  const AnyStore packed = quantize(sets.train, nearest_levels, {.pilot_loss = LogisticLoss{}});
  const std::string path = folder / "classes.zipml";
  save_store(path, packed);
  const AnyStore opened = open_store(path);
  const Sgd sgd{LogisticLoss{}};
  const Fit before = sgd.fit(packed, naive), after = sgd.fit(opened, naive);
  REQUIRE(before.pilot_rows > 0);
  CHECK(after.pilot_rows == before.pilot_rows);
  CHECK(std::equal(before.weights.begin(), before.weights.end(), after.weights.begin()));
  CHECK(before.intercept == after.intercept);
  // A bit of the file, its end, or the pilot's loss: nothing else opens.
  const std::string small_file = folder / "small.zipml";
  save_store(small_file, quantize(classes(400).train, nearest_levels, {.pilot_loss = LogisticLoss{}}));
  REQUIRE(open_store(small_file).samples().pilot != nullptr);
  const std::string bytes = contents(small_file);
  for (std::size_t at = 0; at < bytes.size(); at += 11) {
    INFO("byte " << at);
    std::string flipped = bytes;
    flipped[at] = static_cast<char>(flipped[at] ^ (1 << at % 8));
    CHECK_FALSE(message_of([&] { (void)open_store(folder.write("flipped", flipped)); }).empty());
    CHECK_FALSE(message_of([&] { (void)open_store(folder.write("cut", bytes.substr(0, at))); }).empty());
  }
}

TEST_CASE("an estimator that needs an affine loss is refused at run time with what to take") {
  const auto ask = [](EstimatorKind kind) {
    return visit_estimator_for<LogisticLoss>(kind,
                                             [](auto estimator) { return std::string(estimator.name); });
  };
  CHECK(ask(EstimatorKind::naive) == "naive");
  CHECK(ask(EstimatorKind::sum_code) == "sum-code");
  CHECK(message_of([&] { (void)ask(EstimatorKind::double_sampling); }).find("naive, variance-corrected") !=
        std::string::npos);
}

TEST_CASE("probabilities, log loss and the area under the curve are what their definitions say") {
  const TrainTest sets = classes(3000);
  const auto store = quantize<32>(sets.train, full_precision);
  const Fit fit = Sgd{LogisticLoss{}}.fit(store);
  const Metrics metrics = evaluate(fit.model, sets.test);
  const Buffer<double> z = margins(fit.model, sets.test.features());
  const Buffer<double> p = probabilities(fit.model, sets.test.features());
  double loss = 0.0, pairs = 0.0, above = 0.0;
  for (Index i = 0; i < z.size(); ++i) {
    CHECK(p[i] == Approx(1.0 / (1.0 + std::exp(-z[i]))));
    const bool high = static_cast<double>(sets.test.labels[i]) == fit.model.high_label;
    loss -= std::log(high ? p[i] : 1.0 - p[i]) / static_cast<double>(z.size());
    for (Index k = 0; k < z.size() && high; ++k) {
      if (static_cast<double>(sets.test.labels[k]) == fit.model.high_label) continue;
      pairs += 1.0;
      above += z[i] > z[k] ? 1.0 : z[i] == z[k] ? 0.5 : 0.0;
    }
  }
  REQUIRE(metrics.log_loss);
  REQUIRE(metrics.auc);
  CHECK(*metrics.log_loss == Approx(loss));
  CHECK(*metrics.auc == Approx(above / pairs).epsilon(1e-12));
  const Fit svm = Sgd{LeastSquaresSvm{}}.fit(store);
  CHECK_FALSE(evaluate(svm.model, sets.test).log_loss);
  CHECK(message_of([&] { (void)probabilities(svm.model, sets.test.features()); }).find("logistic") !=
        std::string::npos);
  // Ties count half.
  LinearModel flat = fit.model;
  for (double& w : flat.weights) w = 0.0;
  CHECK(*evaluate(flat, sets.test).auc == 0.5);
}
