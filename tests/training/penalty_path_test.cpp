// Several penalties and folds over one reading: every model is the one that it is alone, held-out rows are not seen, and
// the losses of cross-validation are those of the exact optima.

#include <cmath>
#include <vector>
#include <zipml/analysis/exact_solver.hpp>
#include <zipml/analysis/newton.hpp>
#include <zipml/training/cross_validation.hpp>
#include <zipml/zipml.hpp>

#include "catch.hpp"
#include "message.hpp"
#include "training/same_bits.hpp"

using namespace zipml;

namespace {

const List<L2> penalties{L2{0.0f}, L2{1e-3f}, L2{0.1f}, L2{2.0f}};

/// Each model of a path against the fit with its penalty: the weakest to the bit, the others as they are beside the weakest
/// alone, whose correction and step they share.
template <class L, class Store, class Estimator>
void check_path(const L& loss, const Store& store, Estimator estimator, const FitOptions& options) {
  const Sgd sgd{loss, L2{0.0f}};
  const auto fits = fit_path(sgd, store, estimator, penalties, options);
  REQUIRE(fits.size() == penalties.size());
  for (std::size_t p = 0; p < penalties.size(); ++p) {
    const List<L2> pair{penalties[0], penalties[p]};
    const Fit alone = p == 0 ? sgd.with(penalties[p]).fit(store, estimator, options)
                             : fit_path(sgd, store, estimator, pair, options)[1];
    INFO(L::name << ", " << Estimator::name << ", penalty " << p << ", model bits " << options.model.bits
                 << ", pilot of " << alone.pilot_rows << " rows, batch " << options.batch);
    CHECK(same_bits(fits[p], alone));
    CHECK(fits[p].status == alone.status);
    CHECK(fits[p].quantized_loss == Approx(alone.quantized_loss).epsilon(1e-12));
    CHECK(fits[p].pilot_rows == alone.pilot_rows);
    if (p > 1) CHECK(fits[p].quantized_loss > fits[p - 1].quantized_loss);
  }
}

TrainTest two_classes(Index rows) {
  TrainTest sets = skewed({.rows = rows});
  for (Dataset* set : {&sets.train, &sets.test})
    for (float& y : set->labels) y = y > 0.0f ? 1.0f : -1.0f;
  return sets;
}

/// The gradient of a batch in which a model does not see some rows, against that of all rows less theirs.
template <class Store, class Add>
void check_hidden_gradient(const Store& store, const Buffer<float>& correction, const Add& add) {
  const SampleView samples = store.samples();
  const MappedTargets labels(store.targets(), std::vector<LabelMap>(1));
  const Index n = samples.rows, d = samples.cols, width = padded(d);
  const RowRange hidden{37, 150};
  const std::vector<RowRange> held_out{hidden, {}};
  GradientDevice both(kernels_of(Isa::scalar), samples, labels, {.models = 2, .held_out = held_out});
  GradientDevice one(kernels_of(Isa::scalar), samples, labels, {});
  Buffer<float> x(2 * width), g(width), all(width), of_hidden(width);
  for (int m = 0; m < 2; ++m)
    for (Index j = 0; j < d; ++j) x[m * width + j] = 0.1f * static_cast<float>(j % 5) - 0.2f;
  const float c[2] = {0.3f, 0.3f};
  for (GradientDevice* device : {&both, &one}) device->set_correction(correction);
  const auto gradient_of = [&](GradientDevice& device, RowRange rows, int m, Buffer<float>& out) {
    device.begin_batch(rows.first, rows.count, x.data(), c, 0);
    while (device.next_pass()) add(device);
    float of_c = 0.0f;
    Buffer<float> others(width);
    for (int k = 0; k < device.models(); ++k) {
      const float found = device.end_batch(k == m ? out.data() : others.data(), k);
      if (k == m) of_c = found;
    }
    return of_c;
  };
  const RowRange batch{11, 400};
  const auto k = static_cast<double>(hidden.count), rest = static_cast<double>(batch.count - hidden.count);
  const double c_all = static_cast<double>(gradient_of(one, batch, 0, all));
  const double c_hidden = static_cast<double>(gradient_of(one, hidden, 0, of_hidden));
  const double c_seen = static_cast<double>(gradient_of(both, batch, 0, g));
  CHECK(c_seen * rest == Approx((rest + k) * c_all - k * c_hidden).margin(1e-2));
  for (Index j = 0; j < d; ++j)
    CHECK(static_cast<double>(g[j]) * rest ==
          Approx((rest + k) * static_cast<double>(all[j]) - k * static_cast<double>(of_hidden[j]))
              .margin(1e-2));
  // Nothing is seen, nothing moves; and the other model sees all.
  gradient_of(both, {50, 60}, 0, g);
  CHECK(both.seen_rows(0) == 0);
  for (Index j = 0; j < d; ++j) CHECK(g[j] == 0.0f);
  gradient_of(both, batch, 1, g);
  for (Index j = 0; j < d; ++j) CHECK(g[j] == Approx(all[j]).margin(1e-5));
  CHECK(n > batch.count);
}

}  // namespace

TEST_CASE("a path of penalties trains each model as it is without the others") {
  const TrainTest sets = skewed({.rows = 3000});
  const TrainTest classes = two_classes(3000);
  const FitOptions floats{.epochs = 4}, integers{.epochs = 4, .model = {8}};
  const FitOptions channels{.epochs = 3, .batch = 200, .model = {5}, .gradient = {6}};
  for (const Index pilot : {Index{0}, Index{600}}) {
    const auto corrected = quantize<4>(sets.train, variance_corrected, {.outliers = 0.003, .pilot = pilot});
    for (const FitOptions& options : {floats, integers, channels})
      check_path(SquaredLoss{}, corrected, variance_corrected, options);
    const auto tables = quantize<2>(sets.train, naive, lloyd_max_levels, nearest, {.pilot = pilot});
    check_path(SquaredLoss{}, tables, naive, floats);
    const auto logistic = quantize<4>(classes.train, naive, uniform_levels, nearest,
                                      {.pilot = pilot, .pilot_loss = pilot_loss_of(LogisticLoss{})});
    check_path(LogisticLoss{}, logistic, naive, integers);
  }
  const auto two = quantize<3>(sets.train, double_sampling, {.pilot = 0});
  check_path(SquaredLoss{}, two, double_sampling, {.epochs = 3, .batch = 1});
  const auto plain = quantize<4>(classes.train, variance_corrected, {.pilot = 0});
  check_path(LogisticLoss{}, plain, variance_corrected, integers);
  check_path(HingeLoss{}, quantize<32>(classes.train, full_precision), full_precision,
             {.epochs = 3, .batch = 1});
}

TEST_CASE("a model's gradient is that of the rows that it sees") {
  const TrainTest sets = two_classes(700);
  const auto corrected = quantize<3>(sets.train, variance_corrected, {.pilot = 0});
  Buffer<float> bias(corrected.samples().cols);
  std::copy_n(corrected.samples().bias, bias.size(), bias.data());
  check_hidden_gradient(corrected, bias,
                        [](GradientDevice& device) { device.add_pass(variance_corrected, SquaredLoss{}); });
  check_hidden_gradient(corrected, bias, [](GradientDevice& device) {
    device.add_rowwise_pass(
        [&](int m) { return detail::corrected_loss(LogisticLoss{}, device.margin_variance(m)); });
  });
  const auto doubled = quantize<3>(sets.train, double_sampling, {.pilot = 0});
  check_hidden_gradient(doubled, Buffer<float>(),
                        [](GradientDevice& device) { device.add_pass(double_sampling, SquaredLoss{}); });
  const auto full = quantize<32>(sets.train, full_precision);
  check_hidden_gradient(full, Buffer<float>(),
                        [](GradientDevice& device) { device.add_pass(full_precision, SquaredHingeLoss{}); });
}

TEST_CASE("labels of held-out rows change nothing in a model") {
  const TrainTest sets = two_classes(2000);
  const auto store = quantize<4>(sets.train, variance_corrected, {.pilot = 0});
  const RowRange fold = fold_of(2000, 5, 2);
  CHECK(fold.first == 800);
  CHECK(fold.count == 400);
  Buffer<float> flipped = store.targets().values();
  for (Index i = fold.first; i < fold.first + fold.count; ++i) flipped[i] = -flipped[i];
  const Targets other(std::move(flipped), {store.targets().statistics(0)});
  const List<Variant<L2>> variants{{L2{1e-3f}, 0, fold}, {L2{1e-3f}}};
  const Sgd sgd{LogisticLoss{}, L2{0.0f}};
  for (const FitOptions& options :
       {FitOptions{.epochs = 3}, FitOptions{.epochs = 3, .model = {8}}, FitOptions{.epochs = 1, .batch = 1},
        FitOptions{.epochs = 9, .batch = 2000}}) {
    const auto before = sgd.fit_variants(store, store.targets(), variants, variance_corrected, options);
    const auto after = sgd.fit_variants(store, other, variants, variance_corrected, options);
    CHECK(same_bits(before[0], after[0]));
    CHECK_FALSE(same_bits(before[1], after[1]));
    CHECK(before[0].model.rows == 1600);
  }
}

TEST_CASE("losses of cross-validation are those of the optima of the other folds, on few bits too") {
  const TrainTest sets = two_classes(4000);
  const Dataset& train = sets.train;
  const int folds = 4;
  const List<L2> strengths{L2{1e-3f}, L2{1e-2f}, L2{0.3f}, L2{3.0f}};
  const Sgd sgd{LogisticLoss{}, L2{0.0f}};
  const auto full = quantize<32>(train, full_precision);
  // The optimum of each penalty without each fold, by Newton's method.
  std::vector<double> expected(strengths.size(), 0.0);
  for (int k = 0; k < folds; ++k) {
    const RowRange fold = fold_of(train.rows, folds, k);
    std::vector<Index> inside, outside;
    for (Index i = 0; i < train.rows; ++i)
      (i >= fold.first && i < fold.first + fold.count ? inside : outside).push_back(full.row_id(i));
    const Dataset seen = select_rows(train, outside), hidden = select_rows(train, inside);
    for (std::size_t p = 0; p < strengths.size(); ++p) {
      const Objective objective(seen, LogisticLoss{}, strengths[p]);
      const auto optimum = exact_solution(objective);
      REQUIRE(optimum);
      expected[p] += objective.on(hidden)(optimum->weights.span(), optimum->intercept) / folds;
    }
  }
  const auto check = [&](const CrossValidation& found, double tolerance) {
    REQUIRE(found.losses.size() == strengths.size());
    for (std::size_t p = 0; p < strengths.size(); ++p) {
      INFO("penalty " << p << ", tolerance " << tolerance);
      CHECK(found.losses[p] == Approx(expected[p]).epsilon(tolerance));
      CHECK(found.standard_errors[p] > 0.0);
      CHECK(found.fits[p].size() == 4);
    }
    CHECK(found.simplest >= found.best);
    CHECK(found.losses[found.simplest] <= found.losses[found.best] + found.standard_errors[found.best]);
  };
  const FitOptions long_enough{.epochs = 60};
  check(cross_validate(sgd, full, full_precision, strengths, {.folds = folds}, long_enough), 0.01);
  check(cross_validate(sgd, full, full_precision, strengths, {.folds = folds, .exact = &train}, long_enough),
        0.01);
  const auto corrected = quantize<5>(train, variance_corrected, {.outliers = 0.003, .pilot = 0});
  check(cross_validate(sgd, corrected, variance_corrected, strengths, {.folds = folds}, long_enough), 0.02);
  const auto few =
      quantize<2>(train, naive, lloyd_max_levels, nearest,
                  {.outliers = 0.003, .pilot = 1000, .pilot_loss = pilot_loss_of(LogisticLoss{})});
  const auto with_pilot =
      cross_validate(sgd, few, naive, strengths, {.folds = folds, .exact = &train}, long_enough);
  CHECK(with_pilot.fits[0][0].pilot_rows == 1000);
  check(with_pilot, 0.03);
  const auto affine = quantize<3>(train, variance_corrected, {.outliers = 0.003, .pilot = 1000});
  const Sgd squares{LeastSquaresSvm{}, L2{0.0f}};
  const auto of_three = cross_validate(squares, affine, variance_corrected, strengths,
                                       {.folds = folds, .exact = &train}, long_enough);
  const auto of_full =
      cross_validate(squares, full, full_precision, strengths, {.folds = folds}, long_enough);
  for (std::size_t p = 0; p < strengths.size(); ++p)
    CHECK(of_three.losses[p] == Approx(of_full.losses[p]).epsilon(0.03));
}

TEST_CASE("what the folds bring to a pilot's gradient adds up to it, weighted or not; a linear term stays") {
  const TrainTest sets = two_classes(3000);
  for (const bool weighted : {false, true}) {
    Dataset data = sets.train;
    if (weighted) {
      data.weights = Buffer<float>(data.rows);
      for (Index i = 0; i < data.rows; ++i) data.weights[i] = i % 7 == 0 ? 9.0f : 1.0f;
    }
    const auto check = [&](const auto& loss, const auto& store) {
      const Anchor anchor = anchor_for<Naive>(store.samples().pilot, loss, store.targets());
      REQUIRE(anchor.used());
      std::vector<double> sum(static_cast<std::size_t>(data.cols) + 1);
      for (int k = 0; k < 7; ++k) {
        const RowRange fold = fold_of(data.rows, 7, k);
        const Buffer<double> part = detail::gradient_of_fold(store, data, loss, fold, anchor);
        for (Index j = 0; j <= data.cols; ++j)
          sum[static_cast<std::size_t>(j)] += part[j] * static_cast<double>(fold.count) / 3000.0;
      }
      for (Index j = 0; j <= data.cols; ++j)
        CHECK(sum[static_cast<std::size_t>(j)] == Approx(anchor.gradient(j)).margin(2e-6));
    };
    check(LogisticLoss{}, quantize<2>(data, naive, lloyd_max_levels, nearest,
                                      {.pilot = 1000, .pilot_loss = pilot_loss_of(LogisticLoss{})}));
    check(LeastSquaresSvm{}, quantize<4>(data, naive, {.pilot = 1000}));
  }
  // A user's linear term is the same for a model that sees all rows and for one that does not.
  const auto store = quantize<8>(sets.train, variance_corrected, {.outliers = 0.003, .pilot = 1000});
  const List<Variant<L2>> variants{{L2{1e-2f}}, {L2{1e-2f}, 0, {0, 1500}}};
  const Sgd sgd{LeastSquaresSvm{}, L2{0.0f}};
  // Of the intercept alone, which columns of mean 0 leave to itself: it moves by that much.
  const auto size = static_cast<std::size_t>(store.cols()) + 1;
  std::vector<double> term(2 * size);
  term[size - 1] = term[2 * size - 1] = 0.05;
  const FitOptions how{.epochs = 40};
  FitOptions with_term = how;
  with_term.linear_term = term;
  const auto plain = sgd.fit_variants(store, store.targets(), variants, variance_corrected, how);
  const auto moved = sgd.fit_variants(store, store.targets(), variants, variance_corrected, with_term);
  const auto way = [&](std::size_t m) { return moved[m].intercept - plain[m].intercept; };
  CHECK(way(0) == Approx(-0.05).margin(0.01));
  CHECK(way(1) == Approx(way(0)).margin(0.01));
}

TEST_CASE("strengths of a path stand in equal ratios; what is out of range is an error") {
  const auto path = geometric_strengths(1e-6, 1.0, 4);
  REQUIRE(path.size() == 4);
  CHECK(path[0] == 1e-6);
  CHECK(path[1] == Approx(1e-4));
  CHECK(path[3] == 1.0);
  CHECK_THROWS_AS(geometric_strengths(0.0, 1.0, 3), Error);
  CHECK_THROWS_AS(geometric_strengths(1.0, 0.5, 3), Error);
  CHECK_THROWS_AS(geometric_strengths(1.0, 2.0, 1), Error);
  const TrainTest sets = skewed({.rows = 100});
  const auto store = quantize<32>(sets.train, full_precision);
  const Sgd sgd{SquaredLoss{}, L2{0.0f}};
  CHECK_THROWS_AS(fit_path(sgd, store, full_precision, List<L2>{}), Error);
  CHECK_THROWS_AS(cross_validate(sgd, store, full_precision, penalties, {.folds = 1}), Error);
  CHECK_THROWS_AS(cross_validate(sgd, store, full_precision, penalties, {.folds = 101}), Error);
  CHECK_THROWS_AS(cross_validate(sgd, store, full_precision, List<L2>(300, L2{0.0f}), {.folds = 5}), Error);
  const List<Variant<L2>> none{{L2{0.0f}, 0, {0, 100}}}, beyond{{L2{0.0f}, 0, {90, 20}}},
      target{{L2{0.0f}, 1}};
  for (const auto* variants : {&none, &beyond, &target})
    CHECK_THROWS_AS(sgd.fit_variants(store, store.targets(), *variants, full_precision), Error);
}
