// The seams of training: samples in memory of somebody else, estimators and losses of a user's own, a start and a
// linear term, several models over one reading, several workers.

#include <Eigen/LU>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <thread>
#include <vector>
#include <zipml/analysis/realised_system.hpp>
#include <zipml/zipml.hpp>

#include "catch.hpp"
#include "training/doubled_squares.hpp"
#include "training/same_bits.hpp"

using namespace zipml;

namespace {

const Dataset& small_skewed() {
  static const Dataset train = skewed({.rows = 6'000, .test_rows = 0}).train;
  return train;
}

}  // namespace

TEST_CASE(
    "codes in memory that zipml does not own train to the bits of the store that they were copied from") {
  const Dataset& train = small_skewed();
  const auto store = quantize<3>(train, variance_corrected, {.outliers = 0.003});
  // As a mapped file would hold them: one piece of memory, the owner of which knows nothing of zipml.
  const SampleView from = store.samples();
  const auto codes = static_cast<std::size_t>(from.layout.bytes());
  const auto d = static_cast<std::size_t>(from.cols);
  auto memory = std::make_shared<std::vector<unsigned char>>(codes + 64 + 3 * d * sizeof(float));
  std::memcpy(memory->data(), from.codes, codes);
  auto* floats = reinterpret_cast<float*>(memory->data() + (codes + 64) / 64 * 64);
  std::memcpy(floats, from.levels.offset, d * sizeof(float));
  std::memcpy(floats + d, from.levels.step, d * sizeof(float));
  SampleView view = from;
  view.codes = memory->data();
  view.levels.offset = floats;
  view.levels.step = floats + d;
  view.owner = memory;
  const SampleSet set(view, store.targets(), store.standardization(), store.seed());
  view = {};
  memory.reset();  // the set keeps it
  for (const int model_bits : {32, 8}) {
    const FitOptions options{.epochs = 2, .model = {model_bits}};
    CHECK(same_bits(Sgd{}.fit(set, variance_corrected, options), Sgd{}.fit(store, options)));
  }
  // What such samples lack shows when training begins.
  CHECK_THROWS_AS(Sgd{}.fit(set, double_sampling), Error);
  SampleView without = set.samples();
  without.bias = nullptr;
  CHECK_THROWS_AS(Sgd{}.fit(SampleSet(without, store.targets(), store.standardization()), variance_corrected),
                  Error);
  CHECK_THROWS_AS(SampleSet(set.samples(), Targets{}, store.standardization()), Error);
}

TEST_CASE("float32 rows of somebody else, with a distance of their own, train as those of a store") {
  const Dataset& train = small_skewed();
  const auto store = quantize<32>(train, full_precision);
  const Index stride = train.cols + 7;
  Buffer<float> rows(train.rows * stride);
  for (Index i = 0; i < train.rows; ++i) std::copy_n(store.row(i), train.cols, rows.data() + i * stride);
  SampleView view = store.samples();
  view.values = rows.data();
  view.stride = stride;
  const SampleSet set(view, store.targets(), store.standardization(), store.seed());
  CHECK(same_bits(Sgd{}.fit(set, full_precision, {.epochs = 2}), Sgd{}.fit(store, {.epochs = 2})));
}

namespace {

/// An estimator as a user writes one: (l'(z0) + l'(z1)) / 2 q2 with three draws.
struct ThreeDraws {
  static constexpr const char* name = "three-draws";
  static constexpr int draws = 3;
  static constexpr unsigned margin_draws = 0b011, sample_draws = 0b100;
  static constexpr bool corrected = false, needs_affine_loss = true, needs_stochastic = true;
  using Encoding = SeparateDraws<3>;

  template <class L>
  double residuals(const L& loss, DrawLists<const float> z, std::span<const float> y,
                   DrawLists<float> r) const {
    for (std::size_t i = 0; i < y.size(); ++i)
      r[2][i] = 0.5f * (loss.derivative(z[0][i], y[i]) + loss.derivative(z[1][i], y[i]));
    return 0.0;
  }
};
static_assert(GradientEstimator<ThreeDraws> && !BilinearEstimator<ThreeDraws>);

/// The same as a table of pairs.
struct ThreeDrawsTable {
  static constexpr const char* name = "three-draws-table";
  static constexpr int draws = 3;
  static constexpr std::array<DrawPair, 2> pairs{{{0, 2, 0.5f}, {1, 2, 0.5f}}};
  static constexpr bool corrected = false, needs_affine_loss = true, needs_stochastic = true;
  using Encoding = SeparateDraws<3>;
};

}  // namespace

TEST_CASE("an estimator of fifteen lines with three draws trains, without a bias of its rounding") {
  const Dataset& train = small_skewed();
  const Objective objective(train);
  const auto store = quantize<5>(train, ThreeDraws{}, {.outliers = 0.003});
  CHECK(store.stored_bits() > 8.0);
  const double optimum = Sgd{}.fit(quantize<32>(train, full_precision)).quantized_loss;
  for (const int model_bits : {32, 8})
    for (const Index batch : {1, 64}) {
      const FitOptions options{.batch = batch, .model = {model_bits}};
      const Fit fit = Sgd{}.fit(store, options);
      INFO(model_bits << " bits, batch " << batch);
      CHECK(fit.success());
      CHECK(objective(fit.weights.span(), fit.intercept) < 1.05 * optimum);
      // The table says the same; it has single rows, the realised system and the test of definiteness besides.
      const Fit table = Sgd{}.fit(store, ThreeDrawsTable{}, options);
      CHECK(table.success());
      CHECK(table.smallest_eigenvalue.has_value());
      CHECK(objective(table.weights.span(), table.intercept) < 1.05 * optimum);
      if (batch == 64) CHECK(std::fabs(table.weights[3] - fit.weights[3]) < 0.01);
    }
  const auto solution = realised_solution(store, ThreeDrawsTable{}, objective);
  REQUIRE(solution);
  CHECK(solution->value < 1.05 * optimum);
}

namespace {

/// A smooth loss that is not affine.
struct Logistic {
  static constexpr const char* name = "logistic";
  static constexpr bool classifies = true;
  static constexpr float curvature = 0.25f;
  double value(double z, double y) const { return std::log1p(std::exp(-y * z)); }
  float derivative(float z, float y) const { return -y / (1.0f + std::exp(y * z)); }
  LabelMap label_map(const LabelStatistics& labels) const { return LeastSquaresSvm{}.label_map(labels); }
};
static_assert(BoundedCurvature<Logistic> && !AffineLoss<Logistic>);

}  // namespace

TEST_CASE("a loss of slope 2 trains to its optimum under every estimator: twice the loss, half the step") {
  const Dataset& train = small_skewed();
  const Objective one(train, SquaredLoss{}, L2(0.02f));
  const Objective two(train, DoubledSquares{}, L2(0.04f));
  CHECK(exact_solution(two)->value == Approx(2.0 * exact_solution(one)->value).epsilon(1e-12));
  const auto check = [&](const auto& store) {
    const auto estimator = typename std::remove_cvref_t<decltype(store)>::DefaultEstimator{};
    INFO(estimator.name);
    if constexpr (std::remove_cvref_t<decltype(store)>::draws > 1 || requires { store.bias; })
      CHECK(realised_solution(store, estimator, two)->value ==
            Approx(2.0 * realised_solution(store, estimator, one)->value).epsilon(1e-12));
    for (const FitOptions& options :
         {FitOptions{.epochs = 3}, FitOptions{.epochs = 3, .model = {8}}, FitOptions{.epochs = 2, .batch = 1},
          FitOptions{.epochs = 2, .model = {8}, .gradient = {8}},
          FitOptions{.epochs = 2, .safety = Safety::ridge},
          FitOptions{.epochs = 2, .safety = Safety::shrink}}) {
      const Fit half = Sgd{SquaredLoss{}, L2(0.02f)}.fit(store, options);
      const Fit whole = Sgd{DoubledSquares{}, L2(0.04f)}.fit(store, options);
      CHECK(whole.step == 0.5 * half.step);
      // Powers of two change no bit.
      CHECK(same_bits(half, whole));
      CHECK(whole.quantized_loss == Approx(2.0 * half.quantized_loss).epsilon(1e-6));
      CHECK(whole.added_ridge == Approx(2.0 * half.added_ridge));
      CHECK(whole.status == half.status);
    }
  };
  check(quantize<32>(train, full_precision));
  check(quantize<4>(train, naive, uniform_levels, nearest));
  check(quantize<2>(train, variance_corrected));
  check(quantize<4>(train, variance_corrected, {.outliers = 0.003}));
  check(quantize<4>(train, sum_code));
  check(quantize<2>(train, double_sampling));
  check(quantize<5>(train, symmetrized));
}

TEST_CASE("the automatic step follows the curvature bound of a loss that is not affine") {
  const Dataset classes = two_class({.rows = 6'000, .test_rows = 0}).train;
  const auto store = quantize<32>(classes, full_precision);
  const Fit logistic = Sgd{Logistic{}}.fit(store);
  CHECK(logistic.step == Approx(4.0 * Sgd{LeastSquaresSvm{}}.fit(store).step));
  CHECK(logistic.success());
  CHECK(accuracy(logistic.model, classes) > 0.75);
}

TEST_CASE("a linear term moves the solution to where the gradient is its negative") {
  const Dataset& train = small_skewed();
  const Index d = train.cols;
  Eigen::MatrixXd matrix;
  Eigen::VectorXd right;
  const auto full = quantize<32>(train, full_precision);
  const Objective objective(train);
  Buffer<float> labels(train.rows);
  for (Index i = 0; i < train.rows; ++i) labels[i] = static_cast<float>(objective.label(full.row_id(i)));
  Buffer<double> term(d + 1);
  for (Index j = 0; j <= d; ++j) term[j] = 0.02 * static_cast<double>(j % 5) - 0.04;
  const auto check = [&](const auto& store, auto estimator, const FitOptions& plain) {
    detail::realised_system(store.samples(), estimator, labels, matrix, right);
    Eigen::VectorXd shifted = right;
    for (Index j = 0; j <= d; ++j) shifted(j) -= term[j];
    const Eigen::VectorXd x = matrix.partialPivLu().solve(shifted);
    FitOptions options = plain;
    options.linear_term = std::as_const(term).span();
    const Fit fit = Sgd{}.fit(store, estimator, options);
    CHECK(fit.status == FitStatus::completed);
    double squares = 0.0;
    for (Index j = 0; j < d; ++j) squares += std::pow(fit.weights[j] - x(j), 2.0);
    CHECK(std::sqrt(squares) < 0.05 * x.norm());
    CHECK(fit.intercept == Approx(x(d)).margin(0.02));
  };
  const auto packed = quantize<6>(train, variance_corrected, {.outliers = 0.003});
  check(full, full_precision, {.epochs = 60});
  check(packed, variance_corrected, {.epochs = 60});
  check(packed, variance_corrected, {.epochs = 60, .model = {8}, .gradient = {8}});
  check(packed, variance_corrected, {.epochs = 40, .batch = 1});
  CHECK_THROWS_AS(Sgd{}.fit(packed, {.linear_term = std::as_const(term).span().first(3)}), Error);
}

TEST_CASE("training goes on from a start") {
  const Dataset& train = small_skewed();
  const auto store = quantize<6>(train, variance_corrected, {.pilot = 0});
  const Objective objective(train);
  const Fit first = Sgd{}.fit(store, {.epochs = 20});
  Buffer<double> start(train.cols + 1);
  std::copy(first.weights.begin(), first.weights.end(), start.begin());
  start[train.cols] = first.intercept;
  const Fit none = Sgd{}.fit(store, {.epochs = 0, .start = std::as_const(start).span()});
  CHECK(same_bits(none, first));
  const Fit on = Sgd{}.fit(store, {.epochs = 1, .start = std::as_const(start).span()});
  const Fit anew = Sgd{}.fit(store, {.epochs = 1});
  CHECK(objective(on.weights.span(), on.intercept) < 0.99 * objective(anew.weights.span(), anew.intercept));
  start[2] = std::nan("");
  CHECK_THROWS_AS(Sgd{}.fit(store, {.start = std::as_const(start).span()}), Error);
}

TEST_CASE("three models over one reading have the bits of three fits") {
  const Dataset& train = small_skewed();
  const Index n = train.rows;
  std::vector<std::vector<float>> labels(3);
  for (Index i = 0; i < n; ++i) {
    const auto at = static_cast<std::size_t>(i);
    labels[0].push_back(train.labels[i]);
    labels[1].push_back(train.values[i * train.cols] - 0.5f * train.labels[i]);
    labels[2].push_back(100.0f * train.values[i * train.cols + 3] + static_cast<float>(at % 7));
  }
  const std::vector<std::span<const float>> lists(labels.begin(), labels.end());
  const auto check = [&](const auto& store, auto estimator, FitOptions options) {
    options.pilot = false;  // which serves one model
    INFO(estimator.name << ", " << options.model.bits << " bits, batch " << options.batch);
    const Targets all(store.placement(), lists);
    const Sgd sgd{SquaredLoss{}, L2(1e-3f)};
    const List<Fit> together = sgd.fit_models(store, all, estimator, options);
    REQUIRE(together.size() == 3);
    for (std::size_t m = 0; m < 3; ++m) {
      const List<Fit> alone = sgd.fit_models(store, Targets(store.placement(), lists[m]), estimator, options);
      CHECK(same_bits(together[m], alone[0]));
      CHECK(together[m].status == alone[0].status);
      CHECK(std::equal(alone[0].model.weights.begin(), alone[0].model.weights.end(),
                       together[m].model.weights.begin()));
    }
  };
  const QuantizeOptions outliers{.outliers = 0.003};
  const auto corrected = quantize<3>(train, variance_corrected, outliers);
  const auto two = quantize<4>(train, double_sampling);
  for (const Index batch : {1, 5, 64, 3000}) {
    check(corrected, variance_corrected, {.epochs = 2, .batch = batch, .model = {8}});
    check(two, double_sampling, {.epochs = 2, .batch = batch, .model = {8}});
    check(two, symmetrized, {.epochs = 1, .batch = batch, .model = {4}, .gradient = {8}});
    check(corrected, variance_corrected, {.epochs = 2, .batch = batch});
  }
  check(quantize<4>(train, naive, {.scaling = Scaling::row_range}), naive, {.epochs = 2, .model = {8}});
  check(quantize<4>(train, variance_corrected, shared_optimal_levels), variance_corrected,
        {.epochs = 2, .model = {8}});
  check(quantize<3>(train, naive, optimal_levels), naive, {.epochs = 2});
  check(quantize<32>(train, full_precision), full_precision, {.epochs = 2});
}

TEST_CASE("one of several models diverges or is stopped; the others train on") {
  const Dataset& train = small_skewed();
  const auto store = quantize<4>(train, naive, {.pilot = 0});
  std::vector<float> small(train.labels.begin(), train.labels.end());
  std::vector<float> other = small;
  for (float& y : other) y = -2.0f * y + 1.0f;
  const std::vector<std::span<const float>> lists{small, other};
  const Targets both(store.placement(), lists);
  const Sgd sgd;
  const auto stop_second = [](const EpochEvent& event) {
    return event.model == 1 && event.epoch == 2 ? Flow::stop : Flow::go_on;
  };
  const List<Fit> fits = sgd.fit_models(store, both, naive, {.epochs = 5}, stop_second);
  CHECK(fits[0].epochs == 5);
  CHECK(fits[1].epochs == 2);
  CHECK(fits[1].status == FitStatus::stopped);
  CHECK(same_bits(fits[0], sgd.fit(store, {.epochs = 5})));
}

namespace {

/// Workers in threads of one process.
class Meeting {
 public:
  explicit Meeting(int workers) : workers_(workers), messages_(static_cast<std::size_t>(workers)) {}

  class Worker : public Reducer {
   public:
    Worker(Meeting& meeting, int rank) : meeting_(meeting), rank_(rank) {}
    int workers() const override { return meeting_.workers_; }
    int rank() const override { return rank_; }
    using Collective::largest;
    void largest(std::span<float> mine) override {
      std::vector<float> all(mine.begin(), mine.end());
      exchange(mine, [&all](std::span<const float> other) {
        for (std::size_t i = 0; i < other.size(); ++i) all[i] = std::max(all[i], other[i]);
      });
      std::copy(all.begin(), all.end(), mine.begin());
    }
    void sum(std::span<std::int32_t> mine) override { add(mine); }
    void sum(std::span<std::int64_t> mine) override { add(mine); }
    void sum(std::span<float> mine) override { add(mine); }
    void sum(std::span<double> mine) override { add(mine); }
    void sum_codes(std::span<const std::int8_t> mine, int bits, std::span<std::int32_t> total) override {
      for (const std::int8_t code : mine)
        if (std::abs(code) > symmetric_levels(bits)) throw Error("a code beyond its bits");
      std::copy(mine.begin(), mine.end(), total.begin());
      add(total);
    }
    List<Message> gather(const Message& mine) override {
      meeting_.messages_[static_cast<std::size_t>(rank_)] = &mine;
      meeting_.wait();
      List<Message> all;
      for (const void* message : meeting_.messages_) all.push_back(*static_cast<const Message*>(message));
      meeting_.wait();
      return all;
    }

   private:
    template <class T>
    void add(std::span<T> mine) {
      std::vector<T> total(mine.size());
      exchange(mine, [&total](std::span<const T> other) {
        for (std::size_t i = 0; i < other.size(); ++i) total[i] += other[i];
      });
      std::copy(total.begin(), total.end(), mine.begin());
    }
    template <class T, class F>
    void exchange(std::span<T> mine, const F& take) {
      meeting_.messages_[static_cast<std::size_t>(rank_)] = mine.data();
      meeting_.wait();
      for (const void* other : meeting_.messages_) take({static_cast<const T*>(other), mine.size()});
      meeting_.wait();
    }
    Meeting& meeting_;
    int rank_;
  };

 private:
  void wait() {
    std::unique_lock lock(mutex_);
    const int round = round_;
    if (++here_ == workers_) {
      here_ = 0;
      ++round_;
      all_here_.notify_all();
    } else {
      all_here_.wait(lock, [&] { return round_ != round; });
    }
  }
  int workers_;
  std::vector<const void*> messages_;
  std::mutex mutex_;
  std::condition_variable all_here_;
  int here_ = 0;
  int round_ = 0;
};

/// What fit(options) makes in each of several workers.
template <class F>
std::vector<Fit> by_workers(const FitOptions& options, int workers, const F& fit) {
  Meeting meeting(workers);
  std::vector<Fit> fits(static_cast<std::size_t>(workers));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < workers; ++rank)
    threads.emplace_back([&, rank] {
      Meeting::Worker worker(meeting, rank);
      FitOptions mine = options;
      mine.reducer = &worker;
      fits[static_cast<std::size_t>(rank)] = fit(mine);
    });
  for (std::thread& thread : threads) thread.join();
  return fits;
}
template <class Store>
std::vector<Fit> fit_by_workers(const Store& store, const FitOptions& options, int workers) {
  return by_workers(options, workers, [&](const FitOptions& mine) { return Sgd{}.fit(store, mine); });
}

}  // namespace

TEST_CASE("workers that share every batch and add integers train the very bits of one worker") {
  const Dataset& train = small_skewed();
  const auto check = [&](const auto& store, const FitOptions& options) {
    INFO(options.batch << " rows, " << store.stored_bits() << " bits");
    const Fit one = Sgd{}.fit(store, options);
    for (const int workers : {2, 3, 8})
      for (const Fit& fit : fit_by_workers(store, options, workers)) {
        CHECK(same_bits(fit, one));
        CHECK(fit.status == one.status);
        CHECK(fit.quantized_loss == one.quantized_loss);
      }
  };
  for (const Index batch : {8, 64, 100, 2000}) {
    check(quantize<3>(train, variance_corrected), {.epochs = 2, .batch = batch, .model = {8}});
    check(quantize<4>(train, symmetrized), {.epochs = 2, .batch = batch, .model = {4}});
    // What outliers have lost is added up exactly as well.
    check(quantize<2>(train, variance_corrected, {.outliers = 0.003}),
          {.epochs = 2, .batch = batch, .model = {8}});
  }
}

TEST_CASE("workers that run different fits are told so, all of them") {
  const Dataset& train = small_skewed();
  const auto store = quantize<4>(train, naive);
  const auto other = quantize<4>(train, naive, {.seed = 9});
  const auto message_of = [&](const auto& fit) {
    std::mutex mutex;
    std::vector<std::string> messages;
    (void)by_workers({.epochs = 2}, 3, [&](const FitOptions& mine) {
      try {
        return fit(mine);
      } catch (const Error& error) {
        const std::scoped_lock lock(mutex);
        messages.emplace_back(error.what());
        return Fit{};
      }
    });
    REQUIRE(messages.size() == 3);
    return messages[0];
  };
  const std::string of_epochs = message_of([&](FitOptions mine) {
    mine.epochs += mine.reducer->rank();
    return Sgd{}.fit(store, mine);
  });
  CHECK(of_epochs.find("different numbers of epochs") != std::string::npos);
  const std::string of_stores = message_of([&](const FitOptions& mine) {
    return mine.reducer->rank() == 1 ? Sgd{}.fit(other, mine) : Sgd{}.fit(store, mine);
  });
  CHECK(of_stores.find("different seeds of the store") != std::string::npos);
  const std::string of_penalties = message_of([&](const FitOptions& mine) {
    return Sgd(SquaredLoss{}, L2{0.1f * static_cast<float>(mine.reducer->rank())}).fit(store, mine);
  });
  CHECK(of_penalties.find("different strengths of penalties") != std::string::npos);
  const std::string of_losses = message_of([&](const FitOptions& mine) {
    return mine.reducer->rank() == 1 ? Sgd{HuberLoss{}}.fit(store, mine) : Sgd{}.fit(store, mine);
  });
  CHECK(of_losses.find("different") != std::string::npos);
  const std::vector<double> begin(91, 0.25);
  const std::string of_starts = message_of([&](FitOptions mine) {
    if (mine.reducer->rank() == 2) mine.start = begin;
    return Sgd{}.fit(store, mine);
  });
  CHECK(of_starts.find("different starts") != std::string::npos);
  const std::string of_steps = message_of([&](const FitOptions& mine) {
    return Sgd(SquaredLoss{}, NoRegularizer{},
               ConstantStep{0.01f + 0.01f * static_cast<float>(mine.reducer->rank())})
        .fit(store, mine);
  });
  CHECK(of_steps.find("different steps") != std::string::npos);
}

TEST_CASE("an observer of one worker stops all of them") {
  const auto store = quantize<4>(small_skewed(), naive);
  const std::vector<Fit> fits = by_workers({.epochs = 5}, 3, [&](const FitOptions& mine) {
    return Sgd{}.fit(store, naive, mine, [&](const EpochEvent& event) {
      return mine.reducer->rank() == 2 && event.epoch == 2 ? Flow::stop : Flow::go_on;
    });
  });
  for (const Fit& fit : fits) {
    CHECK(fit.epochs == 2);
    CHECK(fit.status == FitStatus::stopped);
    CHECK(same_bits(fit, fits[0]));
  }
}

TEST_CASE("workers whose sums are floats, or whose gradients travel in few bits, end near one worker") {
  const Dataset& train = small_skewed();
  const Objective objective(train);
  const Channel two_bits{.bits = 2, .error_feedback = true};
  const auto check = [&](const auto& store) {
    for (const FitOptions& options : {FitOptions{}, FitOptions{.model = {8}}, FitOptions{.gradient = {8}},
                                      FitOptions{.model = {8}, .gradient = two_bits},
                                      FitOptions{.model = two_bits, .gradient = two_bits}}) {
      INFO(store.stored_bits() << " bits, model " << options.model.bits << ", gradient "
                               << options.gradient.bits);
      const Fit one = Sgd{}.fit(store, options);
      const double expected = objective(one.weights.span(), one.intercept);
      for (const int workers : {2, 3}) {
        const std::vector<Fit> fits = fit_by_workers(store, options, workers);
        CHECK(same_bits(fits[0], fits[1]));
        CHECK(objective(fits[0].weights.span(), fits[0].intercept) == Approx(expected).epsilon(0.01));
      }
    }
  };
  check(quantize<6>(train, variance_corrected, {.outliers = 0.003}));
  // Here the bias terms are large: a worker that left its share of them out would show.
  check(quantize<3>(train, variance_corrected, {.outliers = 0.003}));
}

TEST_CASE("workers round with random numbers of their own, the first with those of one alone") {
  Meeting meeting(3);
  const Meeting::Worker first(meeting, 0), second(meeting, 1), third(meeting, 2);
  CHECK(worker_random(7, &first).key() == Random(7).key());
  CHECK(worker_random(7, nullptr).key() == Random(7).key());
  CHECK(worker_random(7, &second).key() != Random(7).key());
  CHECK(worker_random(7, &second).key() != worker_random(7, &third).key());
}

TEST_CASE("workers that step alone and meet now and then agree, and end near one worker") {
  const Dataset& train = small_skewed();
  const Objective objective(train);
  const auto store = quantize<4>(train, variance_corrected, {.outliers = 0.003});
  const double expected = [&] {
    const Fit one = Sgd{}.fit(store, {.batch = 256, .model = {8}});
    return objective(one.weights.span(), one.intercept);
  }();
  const Channel two_bits{.bits = 2, .error_feedback = true};
  for (const FitOptions& options :
       {FitOptions{.batch = 256, .model = {8}, .local_steps = 8}, FitOptions{.batch = 256, .local_steps = 3},
        FitOptions{.batch = 256, .average = false, .model = {8}, .local_steps = 4},
        FitOptions{.batch = 256, .model = {8}, .gradient = two_bits, .local_steps = 8}})
    for (const int workers : {2, 3}) {
      INFO(workers << " workers, " << options.local_steps << " steps, " << options.gradient.bits << " bits");
      const std::vector<Fit> fits = fit_by_workers(store, options, workers);
      CHECK(fits[0].success());
      CHECK(same_bits(fits[0], fits[1]));
      CHECK(objective(fits[0].weights.span(), fits[0].intercept) < 1.01 * expected);
      // A difference for each meeting, every so many of 24 batches.
      const double meetings = 20.0 * 24.0 / options.local_steps;
      const double vector = 90.0 * (options.gradient.bits == 32 ? 32.0 : 2.0) / 8.0;
      CHECK(fits[0].gradient_moved.payload_bytes == Approx(meetings * vector));
    }
  CHECK_THROWS_AS(Sgd{}.fit(store, {.local_steps = 0}), Error);
  // A step that is too long for one of them ends all of them.
  for (const Fit& fit : by_workers({.batch = 256, .local_steps = 4}, 3, [&](const FitOptions& mine) {
         return Sgd(SquaredLoss{}, NoRegularizer{}, ConstantStep{50.0f}).fit(store, variance_corrected, mine);
       }))
    CHECK(fit.status == FitStatus::diverged);
}

TEST_CASE(
    "workers end near one worker with losses that are corrected, rows that are held out, rows that are "
    "fetched") {
  Dataset train = small_skewed();
  for (float& y : train.labels) y = y > 0.0f ? 1.0f : -1.0f;
  const auto store = quantize<4>(train, variance_corrected, {.outliers = 0.003, .pilot = 0});
  const auto check = [&](const auto& loss, const FitOptions& options, const auto& fit) {
    const Objective objective(train, loss);
    const Fit one = fit(options);
    const double expected = objective(one.weights.span(), one.intercept);
    for (const int workers : {2, 3}) {
      const std::vector<Fit> fits = by_workers(options, workers, fit);
      CHECK(same_bits(fits[0], fits[1]));
      CHECK(objective(fits[0].weights.span(), fits[0].intercept) == Approx(expected).epsilon(0.005));
      REQUIRE(fits[0].refetched.size() == one.refetched.size());
      if (!one.refetched.empty())
        CHECK(fits[0].refetched.back() == Approx(one.refetched.back()).margin(0.02));
    }
  };
  const Refetcher refetcher(store, train);
  const List<Variant<L2>> without_some{{L2{1e-3f}, 0, {100, 400}}};
  for (const Channel& model : {Channel{}, Channel{8}}) {
    const FitOptions how{.epochs = 5, .model = model};
    check(LogisticLoss{}, how, [&](const FitOptions& mine) {
      return Sgd{LogisticLoss{}, L2{1e-3f}}.fit(store, mine);
    });
    check(LogisticLoss{}, how, [&](const FitOptions& mine) {
      return std::move(Sgd{LogisticLoss{}, L2{1e-3f}}.fit_variants(store, store.targets(), without_some,
                                                                   variance_corrected, mine)[0]);
    });
    FitOptions fetching = how;
    fetching.refetcher = &refetcher;
    check(HingeLoss{}, fetching, [&](const FitOptions& mine) {
      return Sgd{HingeLoss{}, L2{1e-3f}}.fit(store, mine);
    });
  }
}

TEST_CASE("the receiving end of a channel makes of its messages what the sending end has left") {
  const Index n = 300;
  for (const Stream stream : {Stream::model, Stream::gradient})
    for (const Channel& channel :
         {Channel{}, Channel{1}, Channel{4}, Channel{.bits = 2, .scaling = ChannelScaling::norm},
          Channel{.bits = 8, .scaling = ChannelScaling::block, .block = 64},
          Channel{.bits = 3, .nearest = true}, Channel{.bits = 2, .error_feedback = true},
          Channel{.bits = 8, .levels = ChannelLevels::optimal, .refit = 2},
          Channel{.bits = 3, .levels = ChannelLevels::optimal, .refit = 2}}) {
      ChannelEncoder encoder(channel, n, Random(3), stream);
      ChannelDecoder decoder(channel, n, stream);
      for (std::uint64_t row = 0; row < 5; ++row) {
        Buffer<float> v(padded(n)), got(padded(n));
        for (Index j = 0; j < n && row != 3; ++j)
          v[j] = static_cast<float>(
              normals(Random(9).words(Stream::generated, 0, static_cast<std::uint32_t>(j), row))[0]);
        const Message& message = encoder.send(kernels_of(Isa::scalar), row, v.data());
        if (!channel.rounds()) continue;
        decoder.receive(message, got.data());
        CHECK(std::equal(v.begin(), v.end(), got.begin()));
      }
    }
}

TEST_CASE("columns, doubles and blocks of matrices pack to the codes of contiguous float32 rows") {
  const Index n = 300, d = 21;
  Eigen::MatrixXd doubles(n, d);
  for (Index i = 0; i < n; ++i)
    for (Index j = 0; j < d; ++j)
      doubles(i, j) = static_cast<double>(static_cast<float>(uniform24(Random(4).word(
          Stream::generated, 0, static_cast<std::uint32_t>(j), static_cast<std::uint64_t>(i)))));
  const RowMajorMatrix rows = doubles.cast<float>();
  const Eigen::MatrixXf columns = rows;
  Eigen::MatrixXf large(n, 2 * d);
  large << columns, columns;
  const Eigen::VectorXd y = Eigen::VectorXd::LinSpaced(n, 0.0, 1.0);
  const auto expected = quantize<3>(rows, y.cast<float>(), variance_corrected, {.outliers = 0.02});
  const auto same = [&](const auto& store) {
    return std::equal(store.codes().begin(), store.codes().end(), expected.codes().begin()) &&
           store.outliers.count() == expected.outliers.count() && store.bias[4] == expected.bias[4] &&
           std::equal(store.labels().begin(), store.labels().end(), expected.labels().begin());
  };
  const QuantizeOptions options{.outliers = 0.02};
  CHECK(same(quantize<3>(columns, y, variance_corrected, options)));
  CHECK(same(quantize<3>(doubles, y, variance_corrected, options)));
  CHECK(same(
      quantize<3>(Eigen::Matrix<double, -1, -1, Eigen::RowMajor>(doubles), y, variance_corrected, options)));
  CHECK(same(quantize<3>(large.rightCols(d), y, variance_corrected, options)));
  CHECK(same(quantize<3>(2.0f * columns - columns, y, variance_corrected, options)));
  const auto fitted = quantize<3>(rows, y, naive, optimal_levels);
  const auto other = quantize<3>(doubles, y, naive, optimal_levels);
  CHECK(std::equal(fitted.codes().begin(), fitted.codes().end(), other.codes().begin()));
  const DenseStore dense = quantize<32>(doubles, y, full_precision);
  const DenseStore same_rows = quantize<32>(rows, y, full_precision);
  for (Index i = 0; i < n; i += 17) CHECK(std::equal(dense.row(i), dense.row(i) + d, same_rows.row(i)));
}
