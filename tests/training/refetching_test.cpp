// Refetching: decisions at the kink of a hinge loss are those of full precision, in whatever way rounding fell.

#include <cmath>
#include <vector>
#include <zipml/training/refetching.hpp>
#include <zipml/zipml.hpp>

#include "catch.hpp"
#include "message.hpp"

using namespace zipml;

namespace {

/// Two classes whose margins crowd around the kink.
TrainTest two_classes(Index rows) {
  TrainTest sets = skewed({.rows = rows});
  for (Dataset* set : {&sets.train, &sets.test})
    for (float& y : set->labels) y = y > 0.0f ? 1.0f : -1.0f;
  return sets;
}

/// Rows that are fetched, and rows whose decision is not that of full precision.
struct Decisions {
  Index fetched = 0;
  Index wrong = 0;
};
template <class Store>
Decisions decide(const Store& store, const Dataset& data, const RefetchOptions& options) {
  const Refetcher refetcher(store, data, options);
  const SampleView samples = store.samples();
  const Index n = samples.rows, d = samples.cols;
  Buffer<float> x(padded(d));
  for (Index j = 0; j < d; ++j) x[j] = 0.3f / static_cast<float>(1 + j % 7) * (j % 2 == 0 ? 1.0f : -1.0f);
  const double intercept = 0.2;
  const MappedTargets labels(store.targets(), std::vector<LabelMap>(1));
  GradientDevice device(kernels_of(Isa::scalar), samples, labels, {.refetcher = &refetcher});
  Decisions result;
  std::vector<char> fetched(static_cast<std::size_t>(n));
  std::vector<float> z;
  device.begin_batch(0, n, x.data(), static_cast<float>(intercept), 0);
  while (device.next_pass()) {
    device.margins(1u);
    z.insert(z.end(), device.margins_of()[0].begin(), device.margins_of()[0].end());
  }
  const float* const y = store.targets().of(0).data();
  result.fetched = detail::refetch(refetcher, x.data(), static_cast<double>(static_cast<float>(intercept)), 0,
                                   n, 1.0, y, z.data(), fetched.data());
  const Standardization& map = store.standardization();
  for (Index i = 0; i < n; ++i) {
    double exact = static_cast<double>(static_cast<float>(intercept));
    const float* const a = data.values.data() + store.row_id(i) * d;
    for (Index j = 0; j < d; ++j)
      exact += map.apply(static_cast<double>(a[j]), j) * static_cast<double>(x[j]);
    const auto u = static_cast<std::size_t>(i);
    const bool inside = static_cast<double>(y[u]) * exact < 1.0;
    if ((HingeLoss{}.derivative(z[u], y[u]) != 0.0f) != inside) ++result.wrong;
  }
  return result;
}

}  // namespace

TEST_CASE(
    "decisions are those of full precision on every row, for every draw, and few bits fetch more rows") {
  const TrainTest sets = two_classes(1500);
  for (const RefetchBound bound : {RefetchBound::l1, RefetchBound::norm}) {
    Index before = 1500;
    const auto check = [&](const auto& store) {
      const Decisions found = decide(store, sets.train, {.bound = bound});
      INFO("fetched " << found.fetched << ", before " << before);
      CHECK(found.wrong == 0);
      CHECK(found.fetched <= before);
      before = found.fetched;
    };
    for (const std::uint64_t seed : {1u, 2u, 3u}) {
      before = 1500;
      check(quantize<1>(sets.train, variance_corrected, {.seed = seed, .outliers = 0.003, .pilot = 0}));
      check(quantize<3>(sets.train, variance_corrected, {.seed = seed, .outliers = 0.003, .pilot = 0}));
      check(quantize<5>(sets.train, variance_corrected, {.seed = seed, .outliers = 0.003, .pilot = 0}));
      check(quantize<8>(sets.train, variance_corrected, {.seed = seed, .outliers = 0.003, .pilot = 0}));
    }
    CHECK(before < 400);
    const Decisions tables = decide(quantize<4>(sets.train, naive, lloyd_max_levels, nearest, {.pilot = 0}),
                                    sets.train, {.bound = bound});
    CHECK(tables.wrong == 0);
    const Decisions full = decide(quantize<32>(sets.train, full_precision), sets.train, {.bound = bound});
    CHECK(full.wrong == 0);
    CHECK(full.fetched < 15);
  }
  // Without the rows that are fetched decisions would differ: the set has rows to err on.
  RefetchOptions sloppy{.bound = RefetchBound::sketch, .sketch_size = 200, .failure = 0.9999};
  CHECK(sketch_error(200, 0.9999) < 0.2);
  CHECK(decide(quantize<2>(sets.train, variance_corrected, {.pilot = 0}), sets.train, sloppy).wrong > 0);
}

TEST_CASE("sketches fail no more often than they say") {
  // 4 exp(-k (eps^2/4 - eps^3/6)), solved.
  const double eps = sketch_error(400, 0.05);
  CHECK(4.0 * std::exp(-400.0 * (eps * eps / 4.0 - eps * eps * eps / 6.0)) == Approx(0.05));
  CHECK(sketch_error(10, 0.05) == 1.0);
  const TrainTest sets = two_classes(3000);
  const auto store = quantize<3>(sets.train, variance_corrected, {.outliers = 0.003, .pilot = 0});
  const Index n = store.rows(), d = store.cols();
  const Refetcher refetcher(store, sets.train,
                            {.bound = RefetchBound::sketch, .sketch_size = 400, .failure = 0.05});
  CHECK(refetcher.stored_bits() == Approx(32.0 * 401 / static_cast<double>(d)));
  const SampleView samples = store.samples();
  Buffer<float> values(padded(d)), x(padded(d));
  Index failures = 0, pairs = 0;
  for (int model = 0; model < 5; ++model) {
    const Random random(static_cast<std::uint64_t>(100 + model));
    double squares = 0.0;
    for (Index j = 0; j < d; ++j) {
      x[j] = static_cast<float>(random.word(Stream::batch_order, 0, static_cast<std::uint32_t>(j), 0) >> 8) /
                 16777216.0f -
             0.5f;
      squares += static_cast<double>(x[j] * x[j]);
    }
    const Refetcher::Model at(refetcher, x.data(), 0.0);
    for (Index i = 0; i < n; ++i) {
      samples.decode_row(i, 0, values.data());
      const float* const a = sets.train.values.data() + store.row_id(i) * d;
      double product = 0.0, norm = 0.0;
      for (Index j = 0; j < d; ++j) {
        const double e =
            static_cast<double>(values[j]) - store.standardization().apply(static_cast<double>(a[j]), j);
        product += e * static_cast<double>(x[j]);
        norm += e * e;
      }
      ++pairs;
      if (std::fabs(at.shift(i) - product) > eps * std::sqrt(norm * squares)) ++failures;
      CHECK(at.bound(i) >= eps * std::sqrt(norm * squares));
    }
  }
  CHECK(static_cast<double>(failures) <= 0.05 * static_cast<double>(pairs));
}

TEST_CASE("a fit that refetches ends where full precision does, and says how many rows it fetched") {
  const TrainTest sets = two_classes(6000);
  const L2 penalty{1e-3f};
  const auto check = [&](auto loss, double few_bits, double many_bits) {
    using Loss = decltype(loss);
    const Sgd<Loss, L2> sgd{loss, penalty};
    const Objective objective(sets.train, loss, penalty);
    const FitOptions how{.epochs = 60};
    const Fit full = sgd.fit(quantize<32>(sets.train, full_precision), how);
    const double least = objective(full.weights.span(), full.intercept);
    const auto excess = [&](const Fit& fit) {
      return objective(fit.weights.span(), fit.intercept) / least - 1.0;
    };
    const auto three = quantize<3>(sets.train, variance_corrected, {.outliers = 0.003, .pilot = 0});
    const auto eight = quantize<8>(sets.train, variance_corrected, {.outliers = 0.003, .pilot = 0});
    for (const RefetchBound bound : {RefetchBound::l1, RefetchBound::norm, RefetchBound::sketch}) {
      const Refetcher of_three(three, sets.train, {.bound = bound}),
          of_eight(eight, sets.train, {.bound = bound});
      FitOptions fetching = how;
      fetching.refetcher = &of_three;
      const Fit few = sgd.fit(three, fetching);
      fetching.refetcher = &of_eight;
      const Fit many = sgd.fit(eight, fetching);
      INFO(Loss::name << ", bound " << static_cast<int>(bound) << ": fetched " << few.refetched.back()
                      << " and " << many.refetched.back() << ", excess " << excess(few) << " and "
                      << excess(many));
      REQUIRE(few.refetched.size() == 60);
      CHECK(excess(few) < few_bits);
      CHECK(std::fabs(excess(many)) < many_bits);
      CHECK(many.refetched.back() < few.refetched.back());
      for (const double share : few.refetched) CHECK((share >= 0.0 && share <= 1.0));
    }
    // With model and residuals in integers too.
    const Refetcher refetcher(eight, sets.train);
    FitOptions integers = how;
    integers.model = {8};
    integers.refetcher = &refetcher;
    CHECK(std::fabs(excess(sgd.fit(eight, integers))) < 2.0 * many_bits);
  };
  check(HingeLoss{}, 0.05, 0.005);
  check(SquaredHingeLoss{}, 0.05, 0.005);
}

TEST_CASE("a fit that refetches is judged by what it knows: no warning of what it does not subtract") {
  // Few rows, collinear and constant columns, one bit: the corrected loss of such rows says nothing.
  const Random random(8);
  const auto normal = [&](Index i, std::uint32_t j) {
    double sum = 0.0;
    for (std::uint32_t k = 0; k < 12; ++k)
      sum += random.word(Stream::generated, k, j, static_cast<std::uint64_t>(i)) / 4294967296.0;
    return sum - 6.0;
  };
  Dataset data;
  data.rows = 400;
  data.cols = 4;
  data.values = Buffer<float>(1600);
  data.labels = Buffer<float>(400);
  for (Index i = 0; i < 400; ++i) {
    const double a = normal(i, 0);
    const double row[] = {a, 2.0 * a, normal(i, 1), 7.0};
    for (Index j = 0; j < 4; ++j) data.values[4 * i + j] = static_cast<float>(row[j]);
    data.labels[i] = a + normal(i, 2) > 0.0 ? 1.0f : -1.0f;
  }
  const auto check = [&](const auto& loss) {
    const auto store = quantize<1>(data, variance_corrected, {.pilot = 0});
    for (const RefetchBound bound : {RefetchBound::l1, RefetchBound::norm, RefetchBound::sketch}) {
      const Refetcher refetcher(store, data, {.bound = bound});
      const Fit fit = Sgd{loss}.fit(store, {.refetcher = &refetcher});
      INFO(fit.advice);
      CHECK(fit.success());
      if (bound != RefetchBound::l1) continue;
      // Nearly all rows are fetched: the loss is that of the rows themselves.
      const Objective objective(data, loss);
      CHECK(fit.quantized_loss == Approx(objective(fit.weights.span(), fit.intercept)).epsilon(0.02));
    }
  };
  check(HingeLoss{});
  check(SquaredHingeLoss{});
  const auto store = quantize<2>(data, variance_corrected, {.pilot = 0});
  const Refetcher refetcher(store, data);
  CHECK(Sgd{HingeLoss{}}.fit(store, {.refetcher = &refetcher}).status == FitStatus::completed);
}

TEST_CASE("a refetcher is for losses with a kink, one draw, and the rows of the store") {
  const TrainTest sets = two_classes(300);
  const auto store = quantize<4>(sets.train, naive, {.pilot = 0});
  const Refetcher refetcher(store, sets.train);
  const FitOptions how{.epochs = 1, .refetcher = &refetcher};
  CHECK_THROWS_AS(Sgd{LogisticLoss{}}.fit(store, naive, how), Error);
  CHECK_THROWS_AS(Sgd{HingeLoss{}}.fit(quantize<4>(sets.test, naive, {.pilot = 0}), naive, how), Error);
  CHECK_THROWS_AS(Refetcher(store, sets.test), Error);
  CHECK_THROWS_AS(Refetcher(store, sets.train, {.bound = RefetchBound::sketch, .sketch_size = 0}), Error);
  CHECK_THROWS_AS(Refetcher(store, sets.train, {.bound = RefetchBound::sketch, .failure = 1.0}), Error);
  CHECK(Refetcher(store, sets.train, {.bound = RefetchBound::l1}).stored_bits() ==
        Approx(32.0 / static_cast<double>(sets.train.rows)));
}
