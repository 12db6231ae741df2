// Several classes, one against the rest: training, predictions, model files.

#include <cmath>
#include <vector>
#include <zipml/analysis/predict_classes.hpp>
#include <zipml/io/class_model_file.hpp>
#include <zipml/training/classes.hpp>
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
