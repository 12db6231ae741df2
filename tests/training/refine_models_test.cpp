// Several models to their exact optima over the same readings: what each of them is alone, and what is shared.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <string>
#include <vector>
#include <zipml/analysis/full_pass.hpp>
#include <zipml/analysis/newton.hpp>
#include <zipml/analysis/predict_classes.hpp>
#include <zipml/analysis/softmax_objective.hpp>
#include <zipml/estimators/any_store.hpp>
#include <zipml/training/refine_models.hpp>
#include <zipml/zipml.hpp>

#include "catch.hpp"
#include "message.hpp"

using namespace zipml;

namespace {

double uniform(Index i, Index j) {
  static const Random random(11);
  return random.word(Stream::batch_order, static_cast<std::uint32_t>(i), static_cast<std::uint32_t>(j), 0) /
             4294967296.0 -
         0.5;
}

/// n rows of d correlated columns around four centres; labels 10, 20, 30, 40, of which the last is rare.
Dataset four_classes(Index n, Index d) {
  RowMajorMatrix a(n, d);
  Eigen::VectorXf y(n);
  for (Index i = 0; i < n; ++i) {
    const Index of = (std::min)(i % 7 / 2, Index{3});
    y(i) = static_cast<float>(10 * (of + 1));
    for (Index j = 0; j < d; ++j)
      a(i, j) = static_cast<float>(uniform(i, j) + 0.5 * uniform(i, j / 2 + 500) + (j % 4 == of ? 0.4 : 0.0));
  }
  return make_dataset(a, y);
}
const Dataset& table() {
  static const Dataset data = four_classes(3'001, 21);
  return data;
}

/// The same rows with labels 1 of a class and -1 of the others.
Dataset of_class(const Dataset& data, std::size_t k) {
  Dataset result = data;
  for (Index i = 0; i < data.rows; ++i)
    result.labels[i] =
        static_cast<double>(data.labels[i]) + data.label_offset == 10.0 * (static_cast<double>(k) + 1.0)
            ? 1.0f
            : -1.0f;
  result.label_offset = 0.0;
  return result;
}

void check_same(const Refined& together, const Refined& alone) {
  CHECK(std::equal(together.weights.begin(), together.weights.end(), alone.weights.begin(),
                   alone.weights.end()));
  CHECK(together.intercept == alone.intercept);
  CHECK(together.value == alone.value);
  CHECK(together.gap == alone.gap);
  CHECK(together.status == alone.status);
  CHECK(together.advice == alone.advice);
  CHECK(together.full_passes == alone.full_passes);
  CHECK(together.pilot_rows == alone.pilot_rows);
  CHECK(together.model.weights.size() == alone.model.weights.size());
  CHECK(together.model.representation == alone.model.representation);
}

int most_passes(const List<Refined>& all) {
  int most = 0;
  for (const Refined& one : all) most = (std::max)(most, one.full_passes);
  return most;
}

/// Rows that count how many of them were read, and fail when they have been read so often.
struct CountedRows {
  const Dataset& of;
  mutable std::atomic<Index> read_rows{0};
  mutable Index fails_at = -1;

  Index rows() const { return of.rows; }
  Index cols() const { return of.cols; }
  void read(Index first, Index count, float* out) const {
    read_rows += count;
    if (fails_at >= 0 && read_rows > fails_at) throw Error("the disk is gone");
    std::copy_n(of.values.data() + first * of.cols, count * of.cols, out);
  }
};

}  // namespace

TEST_CASE("a reading at several points has for each the bits of a reading of its own") {
  const Dataset data = four_classes(1'003, 19);
  const Objective objective(data);
  std::vector<float> weights;
  for (Index i = 0; i < data.rows; ++i) weights.push_back(static_cast<float>(1.0 + uniform(i, 700)));
  const auto slope = [&](std::size_t q, Index i, double z) {
    const double r = z - static_cast<double>(data.labels[i]) - static_cast<double>(q);
    return FullPass::Slope{0.5 * r * r, r};
  };
  std::vector<std::vector<double>> points(5), gradients(5, std::vector<double>(20));
  for (std::size_t q = 0; q < points.size(); ++q)
    for (Index j = 0; j < 20; ++j) points[q].push_back(uniform(j, 800 + static_cast<Index>(q)));
  for (const Isa isa : {Isa::scalar, active_isa()})
    for (const int threads : {1, 3}) {
      FullPass pass(data.features(), weights, objective.standardization(), threads, isa);
      std::vector<FullPass::Question> questions;
      for (std::size_t q = 0; q < points.size(); ++q) questions.push_back({points[q], gradients[q].data()});
      pass.answer(questions, slope);
      CHECK(pass.readings() == 1);
      for (std::size_t q = 0; q < points.size(); ++q) {
        std::vector<double> gradient(20);
        FullPass alone(data.features(), weights, objective.standardization());
        const double value = alone(
            points[q], [&](Index i, double z) { return slope(q, i, z); }, gradient.data());
        CHECK(questions[q].value == value);
        CHECK(gradients[q] == gradient);
      }
    }
}

TEST_CASE("members of a lock step run in turns, and are answered when all that go on wait") {
  std::string order;
  detail::LockStep steps;
  const auto body = [&](Index k) {
    for (Index round = 0; round < k; ++round) {
      order += static_cast<char>('a' + k);
      steps.wait(k);
    }
    order += static_cast<char>('A' + k);
  };
  const auto answer = [&](std::span<const Index> waiting) { order += std::to_string(waiting.size()); };
  steps.run(4, body, answer);
  CHECK(order == "Abcd3Bcd2Cd1D");
  order.clear();
  steps.run(2, body, answer);  // again
  CHECK(order == "Ab1B");
  steps.run(0, body, answer);
  CHECK(order == "Ab1B");
}

TEST_CASE("what a member of a lock step or an answer throws ends all of them and comes out") {
  detail::LockStep steps;
  int unwound = 0;
  struct Count {
    int& unwound;
    ~Count() { ++unwound; }
  };
  const auto fails = [&](Index who, int when_answered) {
    return message_of([&] {
      int answered = 0;
      steps.run(
          5,
          [&](Index k) {
            const Count count{unwound};
            for (int round = 0; round < 3; ++round) {
              if (k == who && round == 1) throw Error("member " + std::to_string(k));
              steps.wait(k);
            }
          },
          [&](std::span<const Index>) {
            if (++answered == when_answered) throw Error("no answer");
          });
    });
  };
  CHECK(holds(fails(0, 0), "member 0"));
  CHECK(unwound == 5);
  CHECK(holds(fails(4, 0), "member 4"));
  CHECK(unwound == 10);
  CHECK(holds(fails(-1, 2), "no answer"));
  CHECK(unwound == 15);
  CHECK(fails(-1, 0).empty());
  CHECK(unwound == 20);
}

TEST_CASE("a model among several has the bits that it has alone") {
  const Dataset& data = table();
  const QuantizeOptions packing{.seed = 5, .pilot = 0};
  std::vector<Dataset> rows;
  for (std::size_t k = 0; k < 4; ++k) rows.push_back(of_class(data, k));
  const auto check = [&]<class L, class R>(const L& loss, const R& penalty, const RefineOptions& options,
                                           const Representation& how, auto estimator) {
    INFO(L::name << ", " << R::name << ", " << options.threads << " threads");
    const AnyStore store = quantize(data, how, packing);
    const Objective<L, R> first(rows[0], loss, penalty);
    List<Objective<L, R>> objectives;
    for (const Dataset& one : rows)
      objectives.push_back(
          first.with_labels(one.labels.span(), label_statistics(one.label_view()), loss, penalty));
    const List<Refined> all = refine_models(store, estimator, objectives, options);
    REQUIRE(all.size() == 4);
    const RefinedClasses classes = refine_classes(store, estimator, data, loss, penalty, options);
    double full_bytes = 0.0;
    for (std::size_t k = 0; k < 4; ++k) {
      INFO("class " << k);
      const Refined alone = refine(quantize(rows[k], how, packing), estimator, objectives[k], options);
      CHECK(alone.success());
      check_same(all[k], alone);
      check_same(classes.refined[k], alone);
      full_bytes += all[k].full_bytes;
    }
    CHECK(full_bytes == Approx(most_passes(all) * 4.0 * 3001.0 * 21.0));
  };
  const Representation two{.bits = 2, .outliers = 0.003};
  const LeastSquaresSvm affine;
  check(affine, L2{1e-3f}, {.passes = 60}, two, variance_corrected);
  check(affine, L2{1e-3f}, {.passes = 60, .threads = 3}, two, variance_corrected);
  check(affine, L2{1e-3f}, {.passes = 60, .isa = "scalar"}, two, variance_corrected);
  check(affine, L2{1e-3f}, {.passes = 60}, {.estimator = EstimatorKind::double_sampling, .bits = 3},
        double_sampling);
  // P is not formed; penalties that are not smooth; losses that are not affine.
  check(affine, L2{1e-3f}, {.passes = 60, .direct_columns = 8}, two, variance_corrected);
  check(affine, ElasticNet{1e-3f, 0.02f}, {.passes = 60}, two, variance_corrected);
  check(LogisticLoss{}, L2{1e-3f}, {.passes = 60}, two, variance_corrected);
  check(LogisticLoss{}, L2{1e-3f}, {.passes = 60, .threads = 2, .isa = "scalar"}, two, variance_corrected);
  check(LogisticLoss{}, ElasticNet{1e-3f, 0.01f}, {.passes = 60}, two, variance_corrected);
  check(SquaredHingeLoss{}, L2{1e-3f}, {.passes = 60}, two, variance_corrected);
}

TEST_CASE("classifiers of four classes are refined to the optimum of each, from 2 and 4 bits") {
  Dataset weighted = table();
  weighted.weights = Buffer<float>(weighted.rows);
  for (Index i = 0; i < weighted.rows; ++i) weighted.weights[i] = static_cast<float>(1 + i % 3);
  for (const Dataset* data : {&table(), static_cast<const Dataset*>(&weighted)})
    for (const int bits : {2, 4}) {
      const auto check = [&](const auto& loss) {
        INFO(std::decay_t<decltype(loss)>::name << ", " << bits << " bits");
        const AnyStore store = quantize(*data, {.bits = bits, .outliers = 0.003});
        const RefinedClasses found =
            refine_classes(store, variance_corrected, *data, loss, L2{1e-3f}, {.tolerance = 2e-7});
        REQUIRE(found.success());
        REQUIRE(found.model.classes() == 4);
        for (std::size_t k = 0; k < 4; ++k) {
          const Dataset rows = of_class(*data, k);
          const Objective objective(rows, loss, L2{1e-3f});
          const Optimum optimum = *exact_solution(objective);
          const Refined& one = found.refined[k];
          CHECK(one.status == FitStatus::converged);
          CHECK(excess(objective(one.weights.span(), one.intercept), optimum.value) <= 1e-6);
          CHECK(found.model.label(static_cast<Index>(k)) == 10.0 * (static_cast<double>(k) + 1.0));
        }
        CHECK(evaluate(found.model, *data).accuracy > 0.5);
      };
      check(LeastSquaresSvm{});
      check(LogisticLoss{});
    }
}

TEST_CASE("readings of the rows serve all classes, and the packed matrix of an affine loss all of them") {
  const CountedRows source{table()};
  Dataset data = table();
  const AnyStore store = quantize(data, {.bits = 2, .outliers = 0.003});
  data.values = Buffer<float>(0);
  data.reader = rows_of(source).reader;
  const auto check = [&](const auto& loss, bool is_affine) {
    source.read_rows = 0;
    const RefinedClasses found = refine_classes(store, variance_corrected, data, loss, L2{1e-4f});
    REQUIRE(found.success());
    const int readings = most_passes(found.refined);
    CHECK(readings > 2);
    CHECK(source.read_rows == readings * table().rows);
    int alone = 0, packed = 0;
    double seconds = 0.0;
    for (const Refined& one : found.refined) {
      alone += one.full_passes;
      packed += one.packed_passes;
      seconds = (std::max)(seconds, one.seconds);
      CHECK(one.seconds_full <= one.seconds);
    }
    CHECK(alone > 2 * readings);
    if (is_affine) CHECK(packed == 1);
    if (!is_affine) CHECK(packed >= 8);
    CHECK(seconds > 0.0);
  };
  check(LeastSquaresSvm{}, true);
  check(LogisticLoss{}, false);
}

TEST_CASE("a path of penalties is refined from one packed matrix and the pilot") {
  const Dataset data = skewed({.rows = 3'000, .test_rows = 0}).train;
  const auto store = quantize<2>(data, variance_corrected, {.outliers = 0.003});
  List<L2> penalties;
  for (const double l2 : geometric_strengths(1e-4, 1.0, 5)) penalties.emplace_back(static_cast<float>(l2));
  penalties.emplace_back(1e-4f);
  const Objective objective(data, SquaredLoss{}, L2{0.5f});  // whose own penalty plays no part
  const List<Refined> path = refine_path(store, variance_corrected, objective, penalties);
  REQUIRE(path.size() == 6);
  int packed = 0;
  for (std::size_t p = 0; p < path.size(); ++p) {
    const Objective alone(data, SquaredLoss{}, penalties[p]);
    check_same(path[p], refine(store, variance_corrected, alone));
    CHECK(path[p].pilot_rows > 0);
    CHECK(excess(alone(path[p].weights.span(), path[p].intercept), exact_solution(alone)->value) <= 2e-6);
    packed += path[p].packed_passes;
  }
  CHECK(packed == 1);
  // Smooth penalties and others on one path, and of a loss that is not affine.
  const auto mixed = [&](const auto& loss, const Dataset& rows) {
    const AnyStore of_rows =
        quantize(rows, {.bits = 4, .outliers = 0.003}, {.pilot_loss = pilot_loss_of(loss)});
    const List<ElasticNet> nets{ElasticNet{1e-3f, 0.0f}, ElasticNet{1e-3f, 0.02f}, ElasticNet{0.1f, 0.0f}};
    const List<Refined> found =
        refine_path(of_rows, variance_corrected, Objective(rows, loss, nets[0]), nets, {.passes = 200});
    for (std::size_t p = 0; p < nets.size(); ++p)
      check_same(found[p],
                 refine(of_rows, variance_corrected, Objective(rows, loss, nets[p]), {.passes = 200}));
  };
  mixed(SquaredLoss{}, data);
  mixed(LogisticLoss{}, two_class({.rows = 3'000, .test_rows = 0}).train);
}

TEST_CASE("models with the labels of the store start at its pilot, those with others at no weights") {
  const Dataset data = skewed({.rows = 2'000, .test_rows = 0}).train;
  const auto store = quantize<4>(data, variance_corrected, {.outliers = 0.003});
  const Objective first(data, SquaredLoss{}, L2{1e-3f});
  Dataset others = data;
  for (Index i = 0; i < data.rows; ++i) others.labels[i] = 3.0f + data.values[i * data.cols + 2];
  const List<Objective<SquaredLoss, L2>> objectives{
      first, first.with_labels(others.labels.span(), label_statistics(LabelView(others.labels.span())),
                               SquaredLoss{}, L2{1e-3f})};
  const List<Refined> both = refine_models(store, variance_corrected, objectives);
  check_same(both[0], refine(store, variance_corrected, first));
  CHECK(both[0].pilot_rows > 0);
  CHECK(both[1].pilot_rows == 0);
  for (const std::size_t m : {0u, 1u}) {
    const Refined& one = both[m];
    CHECK(one.status == FitStatus::converged);
    CHECK(excess(objectives[m](one.weights.span(), one.intercept), exact_solution(objectives[m])->value) <=
          2e-6);
  }
  // In the user's units.
  double error = 0.0;
  for (Index i = 0; i < 100; ++i)
    error = (std::max)(error, std::fabs(both[1].model.margin(data.values.data() + i * data.cols) -
                                        static_cast<double>(others.labels[i])));
  CHECK(error < 0.02);
}

TEST_CASE("an observer stops one of several models, and hears of all of them") {
  const AnyStore store = quantize(table(), {.bits = 2, .outliers = 0.003});
  const RefinedClasses all = refine_classes(store, variance_corrected, table(), LogisticLoss{}, L2{1e-4f});
  std::vector<int> events(4);
  const RefinedClasses some = refine_classes(
      store, variance_corrected, table(), LogisticLoss{}, L2{1e-4f}, {}, [&](const EpochEvent& event) {
        CHECK(event.epoch >= ++events[static_cast<std::size_t>(event.model)]);
        CHECK(event.weights.size() == 21);
        return event.model == 1 && event.epoch >= 2 ? Flow::stop : Flow::go_on;
      });
  for (const std::size_t k : {0u, 2u, 3u}) {
    check_same(some.refined[k], all.refined[k]);
    CHECK(events[k] > 2);
  }
  CHECK(some.refined[1].status == FitStatus::stopped);
  CHECK(some.refined[1].full_passes < all.refined[1].full_passes);
}

TEST_CASE("what observers and sources throw ends the refinement of all models") {
  const AnyStore store = quantize(table(), {.bits = 2, .outliers = 0.003});
  for (const int who : {0, 3})
    for (const int threads : {1, 2})
      CHECK(holds(message_of([&] {
                    (void)refine_classes(store, variance_corrected, table(), LogisticLoss{}, L2{1e-4f},
                                         {.threads = threads}, [&](const EpochEvent& event) {
                                           if (event.model == who && event.epoch == 2)
                                             throw Error("enough of model " + std::to_string(who));
                                         });
                  }),
                  "enough of model " + std::to_string(who)));
  const CountedRows source{table()};
  Dataset data = table();
  data.values = Buffer<float>(0);
  data.reader = rows_of(source).reader;
  for (const double readings : {0.5, 2.5}) {
    source.read_rows = 0;
    source.fails_at = static_cast<Index>(readings * static_cast<double>(data.rows));
    CHECK(holds(message_of([&] {
                  (void)refine_classes(store, variance_corrected, data, LeastSquaresSvm{}, L2{1e-4f});
                }),
                "the disk is gone"));
  }
}

TEST_CASE("all classes together are refined to the optimum of softmax, from any estimator") {
  Dataset weighted = table();
  weighted.weights = Buffer<float>(weighted.rows);
  for (Index i = 0; i < weighted.rows; ++i) weighted.weights[i] = static_cast<float>(1 + i % 3);
  const auto check = [&](const Dataset& data, const Representation& how, auto estimator, float l2,
                         const RefineOptions& options) {
    INFO(to_string(how) << ", l2 " << l2);
    const AnyStore store = quantize(data, how);
    const RefinedClasses found = refine_classes(store, estimator, data, SoftmaxLoss{}, L2{l2}, options);
    REQUIRE(found.refined.size() == 4);
    const SoftmaxObjective objective(data, class_values(data.labels.span()), static_cast<double>(l2));
    const SoftmaxOptimum optimum = *exact_solution(objective);
    CHECK(excess(objective(class_point(found.refined).span()), optimum.value) <= 1e-6);
    const Refined& first = found.refined[0];
    INFO(first.full_passes << " readings");
    CHECK(first.status == FitStatus::converged);
    CHECK(first.value == Approx(optimum.value).epsilon(2e-6));
    CHECK(first.full_passes <= 40);
    CHECK(found.model.is_joint());
    CHECK(evaluate(found.model, data).accuracy > 0.5);
    double bytes = 0.0;
    for (const Refined& one : found.refined) bytes += one.full_bytes;
    CHECK(bytes == Approx(first.full_passes * 4.0 * 3001.0 * static_cast<double>(data.cols)));
    return found;
  };
  const Representation nearest_levels{.estimator = EstimatorKind::naive,
                                      .bits = 2,
                                      .levels = LevelsKind::lloyd_max,
                                      .rounding = RoundingKind::nearest};
  const RefineOptions how{.tolerance = 2e-7};
  const RefinedClasses one = check(table(), nearest_levels, naive, 1e-3f, how);
  check(table(), {.bits = 4, .outliers = 0.003}, variance_corrected, 1e-3f, how);
  check(table(), {.bits = 1}, variance_corrected, 1e-2f, how);
  check(table(), {.estimator = EstimatorKind::double_sampling, .bits = 3}, double_sampling, 0.1f, how);
  check(weighted, {.bits = 4, .outliers = 0.003}, variance_corrected, 1e-3f, how);
  const Dataset narrow = four_classes(3'001, 3);
  for (const int bits : {1, 2, 8})
    for (const float l2 : {1e-4f, 1e-2f}) check(narrow, {.bits = bits}, variance_corrected, l2, how);
  check(table(), {.bits = 4, .outliers = 0.003}, variance_corrected, 1e-2f,
        {.tolerance = 2e-7, .direct_columns = 8});
  // The same bits for any number of threads and instruction set.
  const RefinedClasses again =
      check(table(), nearest_levels, naive, 1e-3f, {.tolerance = 2e-7, .threads = 3, .isa = "scalar"});
  for (std::size_t k = 0; k < 4; ++k) check_same(again.refined[k], one.refined[k]);
}

TEST_CASE("softmax is refined until an observer stops it, and with smooth penalties only") {
  const AnyStore store = quantize(table(), {.bits = 4, .outliers = 0.003});
  const auto refined = [&](const auto& penalty, const RefineOptions& options, const auto& watch) {
    return refine_classes(store, variance_corrected, table(), SoftmaxLoss{}, penalty, options, watch);
  };
  int events = 0;
  const RefinedClasses stopped = refined(L2{1e-4f}, {}, [&](const EpochEvent& event) {
    CHECK(event.model == events++ % 4);
    return event.epoch == 2 ? Flow::stop : Flow::go_on;
  });
  CHECK(events == 8);
  for (const Refined& one : stopped.refined) CHECK(one.status == FitStatus::stopped);
  const auto silent = [](const EpochEvent&) {};
  const RefinedClasses few = refined(L2{1e-4f}, {.passes = 2}, silent);
  CHECK(few.refined[3].status == FitStatus::completed);
  CHECK(holds(few.refined[3].advice, "more than was asked for"));
  CHECK(holds(message_of([&] { (void)refined(L1{0.1f}, {}, silent); }), "smooth penalties"));
  CHECK(holds(message_of([&] { (void)refined(L2{1e-4f}, {.tolerance = -1.0}, silent); }), "at least 0"));
}

TEST_CASE("refinement of several models says what it cannot do") {
  const AnyStore store = quantize(table(), {.bits = 2});
  const auto says = [&](const Dataset& data, const auto& penalty, const RefineOptions& options = {}) {
    return message_of(
        [&] { (void)refine_classes(store, variance_corrected, data, LogisticLoss{}, penalty, options); });
  };
  CHECK(says(table(), L2{1e-3f}).empty());
  Dataset other = table();
  std::swap(other.labels[0], other.labels[1]);
  other.labels[2] = other.labels[6];
  CHECK(holds(says(other, L2{1e-4f}), "as many rows of each class"));
  other.labels[2] = 17.0f;
  CHECK(holds(says(other, L2{1e-4f}), "the 4 classes of the store"));
  CHECK(holds(says(four_classes(3'000, 21), L2{1e-4f}), "the rows are not those"));
  CHECK(holds(says(table(), L2Ball{1.0f}), "penalties of each weight alone"));
  CHECK(holds(says(table(), L2{1e-4f}, {.passes = -1}), "at least 0"));
  CHECK(holds(says(table(), L1{0.1f}, {.direct_columns = 4}), "at most 4 columns"));
  const Objective first(table(), SquaredLoss{}, L2{1e-4f});
  const Dataset copy = table();
  List<Objective<SquaredLoss, L2>> objectives{first, Objective(copy, SquaredLoss{}, L2{1e-4f})};
  const auto together = [&] {
    return message_of([&] { (void)refine_models(store, variance_corrected, objectives); });
  };
  CHECK(holds(together(), "share their readings"));
  objectives.pop_back();
  CHECK(together().empty());
  objectives.clear();
  CHECK(holds(together(), "the number of objectives is out of range"));
  CHECK(holds(message_of([&] { (void)refine_path(store, variance_corrected, first, {}); }),
              "the number of penalties is out of range"));
}
