// Several classes, one against the rest: training, predictions, model files.

#include <cmath>
#include <vector>
#include <zipml/analysis/newton.hpp>
#include <zipml/analysis/predict_classes.hpp>
#include <zipml/analysis/softmax_objective.hpp>
#include <zipml/io/class_model_file.hpp>
#include <zipml/training/class_validation.hpp>
#include <zipml/training/classes.hpp>
#include <zipml/training/recommend_classes.hpp>
#include <zipml/zipml.hpp>

#include "catch.hpp"
#include "folder.hpp"
#include "message.hpp"

using namespace zipml;

namespace {

/// n rows of d columns around k centres; labels 10, 20, ...
struct Blobs {
  RowMajorMatrix a;
  Eigen::VectorXf y;
};
Blobs blobs(Index n, Index d, int k, std::uint64_t seed) {
  const Random random(seed);
  Blobs result{RowMajorMatrix(n, d), Eigen::VectorXf(n)};
  const auto uniform = [&](Index i, Index j) {
    return static_cast<float>(random.word(Stream::batch_order, static_cast<std::uint32_t>(i),
                                          static_cast<std::uint32_t>(j), 0)) /
               4294967296.0f -
           0.5f;
  };
  for (Index i = 0; i < n; ++i) {
    const auto of = static_cast<int>(i % k);
    result.y(i) = static_cast<float>(10 * (of + 1));
    for (Index j = 0; j < d; ++j)
      result.a(i, j) = 2.0f * uniform(i, j) + 1.5f * (static_cast<int>(j % k) == of ? 1.0f : 0.0f);
  }
  return result;
}

}  // namespace

TEST_CASE("several classes are told apart on few bits as on 32, each model as it is alone") {
  const Blobs train = blobs(6000, 12, 5, 1), test = blobs(2000, 12, 5, 2);
  const Sgd sgd{LogisticLoss{}, L2{1e-4f}};
  const auto full = fit_classes(sgd, quantize<32>(train.a, train.y, full_precision), full_precision);
  const auto store = quantize<2>(train.a, train.y, naive, lloyd_max_levels, nearest, {.pilot = 0});
  const auto few = fit_classes(sgd, store, naive);
  REQUIRE(full.success());
  REQUIRE(few.success());
  REQUIRE(few.model.classes() == 5);
  const ClassMetrics of_full = evaluate(full.model, test.a, test.y),
                     of_few = evaluate(few.model, test.a, test.y);
  CHECK(of_full.accuracy > 0.85);
  CHECK(of_few.accuracy > of_full.accuracy - 0.02);
  // The model of a class is that of the two-class problem.
  std::vector<float> third;
  for (const float y : train.y) third.push_back(y == 30.0f ? 1.0f : -1.0f);
  const Targets alone(store.placement(), {LabelView(third)});
  const auto fit = std::move(sgd.fit_models(store, alone, naive)[0]);
  CHECK(few.model.label(2) == 30.0);
  for (Index j = 0; j < 12; ++j) CHECK(few.fits[2].weights[j] == fit.weights[j]);
}

TEST_CASE(
    "predictions of classes are the largest margin; probabilities, confusion and log loss belong together") {
  const Blobs train = blobs(3000, 8, 4, 3), test = blobs(500, 8, 4, 4);
  const auto classes =
      fit_classes(Sgd{LogisticLoss{}}, quantize<32>(train.a, train.y, full_precision), full_precision);
  const ClassModel& model = classes.model;
  const Buffer<double> predicted = predict(model, test.a);
  const ClassNumbers z = margins(model, test.a), p = probabilities(model, test.a);
  const ClassMetrics metrics = evaluate(model, test.a, test.y);
  double right = 0.0, surprise = 0.0;
  std::vector<Index> confusion(16);
  for (Index i = 0; i < 500; ++i) {
    Index best = 0;
    double sum = 0.0;
    for (Index k = 0; k < 4; ++k) {
      CHECK(z[i][k] == Approx(model[k].margin(&test.a(i, 0))).margin(1e-9));
      if (z[i][k] > z[i][best]) best = k;
      sum += p[i][k];
    }
    CHECK(sum == Approx(1.0));
    CHECK(predicted[i] == model.label(best));
    const Index is = model.class_of(static_cast<double>(test.y(i)));
    right += is == best ? 1.0 : 0.0;
    surprise -= std::log(p[i][is]);
    ++confusion[static_cast<std::size_t>(4 * is + best)];
  }
  CHECK(metrics.accuracy == Approx(right / 500.0));
  CHECK(*metrics.log_loss == Approx(surprise / 500.0));
  CHECK(std::equal(confusion.begin(), confusion.end(), metrics.confusion.begin()));
  const Eigen::VectorXf odd = Eigen::VectorXf::Constant(500, 15.0f);
  CHECK(holds(message_of([&] { (void)evaluate(model, test.a, odd); }), "a label is of no class"));
}

TEST_CASE("one value, or a thousand and one, are no classes") {
  const Blobs rows = blobs(1200, 2, 3, 5);
  const Eigen::VectorXf one = Eigen::VectorXf::Ones(1200),
                        many = Eigen::VectorXf::LinSpaced(1200, 0.0f, 1199.0f);
  const auto fails = [&](const Eigen::VectorXf& y) {
    return message_of([&] {
      (void)fit_classes(Sgd{LogisticLoss{}}, quantize<32>(rows.a, y, full_precision), full_precision);
    });
  };
  CHECK(holds(fails(one), "one"));
  CHECK(holds(fails(many), "more"));
  // Two are as good as a model of two classes.
  Eigen::VectorXf two = rows.y;
  for (float& y : two) y = y > 15.0f ? 7.0f : 3.0f;
  const auto pair =
      fit_classes(Sgd{LogisticLoss{}}, quantize<32>(rows.a, two, full_precision), full_precision);
  CHECK(pair.model.classes() == 2);
  CHECK(pair.model[1].low_label == 3.0);
}

TEST_CASE("a file of a classifier reads back to the last bit, and nothing else does") {
  const Folder folder;
  const Blobs train = blobs(600, 3, 3, 6);
  const auto classes =
      fit_classes(Sgd{LogisticLoss{}}, quantize<32>(train.a, train.y, full_precision), full_precision);
  const std::string path = folder / "classes";
  save_model(path, classes.model);
  CHECK(is_class_model_file(path));
  const ClassModel loaded = load_class_model(path);
  REQUIRE(loaded.classes() == 3);
  for (Index k = 0; k < 3; ++k) {
    CHECK(loaded.label(k) == classes.model.label(k));
    CHECK(loaded[k].intercept == classes.model[k].intercept);
    for (Index j = 0; j < 3; ++j) CHECK(loaded[k].weights[j] == classes.model[k].weights[j]);
  }
  const std::string text = contents(path);
  for (std::size_t at = 0; at < text.size(); at += 7) {
    std::string flipped = text;
    flipped[at] = static_cast<char>(flipped[at] ^ 1);
    INFO("byte " << at);
    CHECK_FALSE(message_of([&] { (void)load_class_model(folder.write("flipped", flipped)); }).empty());
    CHECK_FALSE(message_of([&] { (void)load_class_model(folder.write("cut", text.substr(0, at))); }).empty());
  }
  CHECK_FALSE(message_of([&] { (void)load_class_model(folder.write("more", text + "x\n")); }).empty());
  CHECK_FALSE(message_of([&] { (void)load_model(path); }).empty());
  save_model(folder / "one", classes.model[0]);
  CHECK_FALSE(is_class_model_file(folder / "one"));
}

namespace {

double log_sum(const std::vector<double>& z) {
  double sum = 0.0;
  for (const double v : z) sum += std::exp(v);
  return std::log(sum);
}

}  // namespace

TEST_CASE(
    "softmax: residuals are probabilities less the class, the loss is minus its log, for any number of "
    "rows") {
  const Random random(7);
  for (const Index classes : {2, 3, 10})
    for (const Index n : {1, 31, 32, 33, 100}) {
      std::vector<std::vector<float>> z, y, r;
      for (Index k = 0; k < classes; ++k) {
        z.emplace_back();
        y.emplace_back();
        r.emplace_back(static_cast<std::size_t>(n), -7.0f);
        for (Index i = 0; i < n; ++i) {
          const double u = random.word(Stream::batch_order, static_cast<std::uint32_t>(i),
                                       static_cast<std::uint32_t>(k), 0) /
                           4294967296.0;
          z.back().push_back(static_cast<float>(i % 5 == 0 ? 200.0 * (u - 0.5) : 4.0 * (u - 0.5)));
          y.back().push_back(i % classes == k ? 1.0f : -1.0f);
        }
      }
      std::vector<const float*> margins, labels;
      std::vector<float*> residuals;
      for (std::size_t k = 0; k < z.size(); ++k) {
        margins.push_back(z[k].data());
        labels.push_back(y[k].data());
        residuals.push_back(r[k].data());
      }
      const SoftmaxLoss loss;
      loss.slopes(margins.data(), labels.data(), classes, n, residuals.data());
      double total = 0.0;
      for (Index i = 0; i < n; ++i) {
        std::vector<double> of_row;
        for (const std::vector<float>& of : z)
          of_row.push_back(static_cast<double>(of[static_cast<std::size_t>(i)]));
        const double norm = log_sum(of_row);
        for (Index k = 0; k < classes; ++k) {
          const double p = std::exp(of_row[static_cast<std::size_t>(k)] - norm);
          INFO(classes << " classes, row " << i << " of " << n);
          CHECK(static_cast<double>(r[static_cast<std::size_t>(k)][static_cast<std::size_t>(i)]) ==
                Approx(p - (i % classes == k ? 1.0 : 0.0)).margin(3e-7));
        }
        total += norm - of_row[static_cast<std::size_t>(i % classes)];
      }
      CHECK(loss.total(margins.data(), labels.data(), nullptr, classes, n) == Approx(total).epsilon(1e-9));
      // Over the margins, and with the loops that have no vectors, the bits are the same.
      std::vector<std::vector<float>> again = z;
      std::vector<float*> in_place;
      for (std::vector<float>& of : again) in_place.push_back(of.data());
      loss.slopes(in_place.data(), labels.data(), classes, n, in_place.data());
      CHECK(again == r);
      if (n == 32) {
        detail::softmax_slopes(margins.data(), labels.data(), classes, residuals.data());
        CHECK(again == r);
      }
    }
}

TEST_CASE("the exact optimum of softmax has no gradient; of two classes it is that of logistic regression") {
  const Blobs train = blobs(900, 6, 3, 8);
  const std::vector<float> values{10.0f, 20.0f, 30.0f};
  const MatrixRef samples(train.a);
  const LabelView labels(std::span<const float>(train.y.data(), 900));
  const SoftmaxObjective objective(samples.view(), labels, values, 1e-3);
  const auto optimum = exact_solution(objective);
  REQUIRE(optimum);
  Buffer<double> gradient(objective.size()), near(objective.size());
  CHECK(objective.with_gradient(optimum->point.data(), gradient.data()) == optimum->value);
  for (const double g : gradient) CHECK(std::fabs(g) < 1e-5);
  // The gradient is that of differences, away from the optimum.
  for (Index i = 0; i < near.size(); ++i) near[i] = 0.1 * static_cast<double>(i % 7);
  (void)objective.with_gradient(near.data(), gradient.data());
  for (Index i = 0; i < near.size(); i += 3) {
    Buffer<double> more = near, less = near;
    more[i] += 1e-5;
    less[i] -= 1e-5;
    CHECK(gradient[i] == Approx((objective(more.span()) - objective(less.span())) / 2e-5).margin(1e-8));
  }
  // z_1 - z_0 is the margin of logistic regression, with half the penalty.
  Eigen::VectorXf two = train.y;
  for (float& y : two) y = y > 15.0f ? 20.0f : 10.0f;
  const LabelView of_two(std::span<const float>(two.data(), 900));
  const auto pair =
      exact_solution(SoftmaxObjective(samples.view(), of_two, std::span(values).first(2), 1e-2));
  const auto alone = exact_solution(Objective(samples.view(), of_two, LogisticLoss{}, L2{5e-3f}));
  REQUIRE(pair);
  REQUIRE(alone);
  CHECK(pair->value == Approx(alone->value).epsilon(1e-7));
  for (Index j = 0; j < 6; ++j)
    CHECK(pair->point[7 + j] - pair->point[j] == Approx(alone->weights[j]).margin(1e-4));
}

TEST_CASE("softmax trains all classes together, to the optimum, on few bits and for any number of threads") {
  const Blobs train = blobs(6000, 12, 5, 1), test = blobs(2000, 12, 5, 2);
  const Sgd sgd{SoftmaxLoss{}, L2{1e-3f}};
  const auto full = fit_classes(sgd, quantize<32>(train.a, train.y, full_precision), full_precision);
  REQUIRE(full.success());
  const std::vector<float> values{10.0f, 20.0f, 30.0f, 40.0f, 50.0f};
  const MatrixRef samples(train.a);
  const SoftmaxObjective objective(samples.view(), LabelView(std::span<const float>(train.y.data(), 6000)),
                                   values, 1e-3);
  const auto optimum = exact_solution(objective);
  REQUIRE(optimum);
  Buffer<double> point(objective.size());
  for (Index k = 0; k < 5; ++k) {
    const Fit& fit = full.fits[static_cast<std::size_t>(k)];
    std::copy(fit.weights.begin(), fit.weights.end(), point.data() + 13 * k);
    point[13 * k + 12] = fit.intercept;
    // What a fit tells is the loss of all classes, without penalty.
    CHECK(fit.quantized_loss == full.fits[0].quantized_loss);
  }
  CHECK(objective(point.span()) < 1.005 * optimum->value);
  CHECK(objective(point.span()) >= optimum->value);

  const auto store = quantize<2>(train.a, train.y, naive, lloyd_max_levels, nearest, {.pilot = 0});
  const auto few = fit_classes(sgd, store, naive, {.model = {8}});
  REQUIRE(few.success());
  const ClassMetrics of_full = evaluate(full.model, test.a, test.y),
                     of_few = evaluate(few.model, test.a, test.y);
  CHECK(of_few.accuracy > of_full.accuracy - 0.02);
  const ClassNumbers p = probabilities(few.model, test.a);
  for (Index i = 0; i < 5; ++i) {
    double sum = 0.0;
    for (Index k = 0; k < 5; ++k) sum += p[i][k];
    CHECK(sum == Approx(1.0));
  }
  // Probabilities of one against the rest know less.
  const auto rest = fit_classes(Sgd{LogisticLoss{}, L2{1e-3f}}, store, naive, {.model = {8}});
  CHECK(*of_few.log_loss < *evaluate(rest.model, test.a, test.y).log_loss);
  const auto threads = fit_classes(sgd, store, naive, {.model = {8}, .threads = 2});
  for (std::size_t k = 0; k < 5; ++k)
    CHECK(
        std::equal(few.fits[k].weights.begin(), few.fits[k].weights.end(), threads.fits[k].weights.begin()));
}

TEST_CASE("models that share a loss converge, stop and diverge together") {
  const Blobs train = blobs(2000, 6, 3, 9);
  const auto store = quantize<4>(train.a, train.y, naive, lloyd_max_levels, nearest, {.pilot = 0});
  const Sgd sgd{SoftmaxLoss{}, L2{1e-2f}};
  const auto same = [](const ClassesFit& fit, FitStatus status) {
    for (const Fit& one : fit.fits) {
      CHECK(one.status == status);
      CHECK(one.epochs == fit.fits[0].epochs);
    }
  };
  const auto converged = fit_classes(sgd, store, naive, {.epochs = 500, .tolerance = 1e-3});
  same(converged, FitStatus::converged);
  CHECK(converged.fits[0].epochs < 500);
  const auto stopped = fit_classes(sgd, store, naive, {.epochs = 10}, [](const EpochEvent& event) {
    return event.model == 1 && event.epoch == 2 ? Flow::stop : Flow::go_on;
  });
  same(stopped, FitStatus::stopped);
  CHECK(stopped.fits[2].epochs == 2);
  const Sgd wild{SoftmaxLoss{}, NoRegularizer{}, ConstantStep{1e30f}};
  same(fit_classes(wild, store, naive, {.epochs = 2}), FitStatus::diverged);
}

TEST_CASE("a model of a class alone is no softmax") {
  const Blobs train = blobs(300, 4, 3, 10);
  const auto store = quantize<32>(train.a, train.y, full_precision);
  const Sgd sgd{SoftmaxLoss{}};
  const Targets targets = class_targets(store.targets().of(0), class_values(store.targets().of(0)));
  const Variant<NoRegularizer> variants[] = {{{}, 0}, {{}, 2}, {{}, 1}};
  CHECK(holds(message_of([&] { (void)sgd.fit_variants(store, targets, variants, full_precision); }),
              "softmax is of all classes together"));
  CHECK(holds(message_of([&] {
                (void)sgd.fit_variants(store, targets, std::span(variants).first(2), full_precision);
              }),
              "softmax is of all classes together"));
  // A file that mixes losses is damaged.
  const Folder folder;
  auto fit = fit_classes(sgd, store, full_precision);
  save_model(folder / "softmax", fit.model);
  const ClassModel loaded = load_class_model(folder / "softmax");
  CHECK(loaded.is_joint());
  const ClassNumbers here = probabilities(fit.model, train.a), there = probabilities(loaded, train.a);
  CHECK(std::equal(here.values.begin(), here.values.end(), there.values.begin()));
  fit.model.models[1].loss = "logistic";
  save_model(folder / "mixed", fit.model);
  CHECK(holds(message_of([&] { (void)load_class_model(folder / "mixed"); }), "loss of the first model"));
}

TEST_CASE("penalties of a classifier are judged by rows held out, from the rows and from the store") {
  // Few rows for the columns, and wrong labels in a quarter of them, so that a penalty is wanted.
  Blobs rows = blobs(240, 40, 3, 11), test = blobs(4000, 40, 3, 12);
  for (Blobs* of : {&rows, &test})
    for (Index i = 0; i < of->y.size(); i += 4)
      of->y(i) = static_cast<float>(10 * (1 + (i / 4 + i / 12) % 3));
  Dataset data = make_dataset(rows.a, rows.y);
  const auto check = [&](const auto& loss, double scale) {
    const Sgd sgd{loss, L2{0.0f}};
    const auto store = quantize<4>(rows.a, rows.y, naive, uniform_levels, nearest, {.pilot = 0});
    const L2 penalties[] = {L2{1e-6f}, L2{3e-2f}, L2{10.0f}};
    const FitOptions how{.epochs = 60};
    const auto exact =
        cross_validate_classes(sgd, store, naive, penalties, {.folds = 4, .exact = &data}, how);
    const auto told = cross_validate_classes(sgd, store, naive, penalties, {.folds = 4}, how);
    REQUIRE(exact.losses.size() == 3);
    CHECK(exact.best == 1);
    CHECK(exact.fits[1].size() == 12);
    for (std::size_t p = 0; p < 3; ++p) CHECK(told.losses[p] == Approx(exact.losses[p]).epsilon(0.03));
    // The loss of held-out rows is that of rows never seen, about.
    const auto fit = fit_classes(sgd.with(penalties[1]), store, naive, how);
    const std::vector<float> values{10.0f, 20.0f, 30.0f};
    const Dataset others = make_dataset(test.a, test.y);
    const ClassObjective objective(objective_on(store, others), others.label_view(), values, loss);
    CHECK(exact.losses[1] == Approx(objective(class_point(fit.fits).span())).epsilon(scale));
    // One fold's models are those that are trained without it.
    const auto path = fit_class_path(sgd, store, naive, penalties, how);
    REQUIRE(path.size() == 3);
    for (Index j = 0; j < 40; ++j)
      CHECK(std::fabs(path[1][2].weights[j] - fit.fits[2].weights[j]) <
            0.02 + 0.1 * std::fabs(fit.fits[2].weights[j]));
  };
  check(SoftmaxLoss{}, 0.2);
  check(LogisticLoss{}, 0.2);
  check(LeastSquaresSvm{}, 0.2);
}

TEST_CASE("the representation for several classes keeps what it promises") {
  const Blobs rows = blobs(4000, 12, 4, 13);
  const Dataset data = make_dataset(rows.a, rows.y);
  const std::vector<float> values{10.0f, 20.0f, 30.0f, 40.0f};
  const auto check = [&](const auto& loss) {
    const L2 penalty{1e-3f};
    const auto best = recommend_classes(data, loss, penalty, {.excess = 0.01});
    CHECK(best.met);
    CHECK(best.representation.bits < 8);
    const AnyStore store = quantize(data, best.representation, {.seed = 5, .pilot = 0});
    const auto fit = fit_classes(Sgd{loss, penalty}, store, naive);
    const ClassObjective objective(data, values, loss, penalty);
    CHECK(excess(objective(class_point(fit.fits).span()), *objective.optimum()) < 0.012);
  };
  check(SoftmaxLoss{});
  check(LogisticLoss{});
}
