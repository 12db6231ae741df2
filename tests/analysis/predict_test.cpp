// Predictions for matrices, tables and packed stores; objectives on other rows; the way back into standardised units.

#include <cmath>
#include <limits>
#include <string>
#include <vector>
#include <zipml/analysis/exact_solver.hpp>
#include <zipml/zipml.hpp>

#include "catch.hpp"
#include "message.hpp"

using namespace zipml;

namespace {

Dataset table(const char* text, const LoadOptions& options = {}) {
  LineReader reader = LineReader::from_memory(text, "f");
  return load(reader, options);
}

LinearModel line() {  // 2 a - b + 3
  LinearModel model;
  model.weights = Buffer<double>(2);
  model.weights[0] = 2.0;
  model.weights[1] = -1.0;
  model.intercept = 3.0;
  return model;
}

}  // namespace

TEST_CASE("predictions for any matrix, and errors that name both sizes", "[predict]") {
  const LinearModel model = line();
  Eigen::MatrixXd samples(3, 2);
  samples << 1, 2, 3, 4, 5, 6;
  const Eigen::MatrixXf columns = samples.cast<float>();
  const RowMajorMatrix rows = columns;
  for (const Buffer<double>& predicted : {predict(model, samples), predict(model, columns),
                                          predict(model, rows), predict(model, 2.0 * samples / 2.0)})
    CHECK((predicted[0] == 3.0 && predicted[1] == 5.0 && predicted[2] == 7.0));
  const Eigen::Vector3d labels(3.0, 5.0, 9.0);
  CHECK(rmse(model, samples, labels) == Approx(std::sqrt(4.0 / 3.0)));
  CHECK(*evaluate(model, samples, labels).r_squared == Approx(1.0 - 4.0 / (56.0 / 3.0)));

  LinearModel classifier = line();
  classifier.classifies = true;
  CHECK(message_of([&] { evaluate(classifier, samples, Eigen::Vector3d(-1, 1, 0)); }) ==
        "a label is of neither class: expected -1 or 1, got 0 in row 3");
  const Eigen::MatrixXd narrow = samples.leftCols(1);
  CHECK(message_of([&] { predict(model, narrow); }) ==
        "model and samples differ in features: expected 2, got 1");
  CHECK(message_of([&] { rmse(model, narrow, labels); }) ==
        "model and samples differ in features: expected 2, got 1");
  const Eigen::VectorXd two = labels.head(2);
  CHECK(message_of([&] { rmse(model, samples, two); }) ==
        "samples and labels differ in number: expected 3 labels, got 2");
  CHECK(message_of([&] { accuracy(model, samples, labels); }) ==
        "accuracy is of a classifier: expected a classifier, got regression");
  CHECK_FALSE(evaluate(model, samples, Eigen::Vector3d(1, 1, 1)).r_squared);
  const double none = std::numeric_limits<double>::quiet_NaN();
  const Eigen::Vector3f some(3.0f, static_cast<float>(none), 9.0f);
  CHECK(evaluate(model, samples, some).rows == 2);
  CHECK_FALSE(message_of([&] {
                evaluate(model, samples, Eigen::Vector3f::Constant(static_cast<float>(none)));
              }).empty());
}

TEST_CASE("a store judges other rows as the objective of its own rows does", "[predict]") {
  const auto [train, held] = hold_out(skewed({.rows = 900, .test_rows = 0}).train, 0.3);
  const auto classes = hold_out(two_class({.rows = 900, .test_rows = 0}).train, 0.3);
  const auto check = [](const Dataset& rows, const Dataset& other, auto loss) {
    const auto store = quantize<8>(rows);
    const Objective<decltype(loss)> objective(rows, loss);
    const std::vector<double> x(static_cast<std::size_t>(rows.cols), 0.05);
    CHECK(objective_on(store, other, loss)(x, 0.3) == Approx(objective.on(other)(x, 0.3)).epsilon(1e-12));
  };
  check(train, held, SquaredLoss{});
  check(classes.train, classes.test, LeastSquaresSvm{});
  Dataset far_away = train;  // labels and columns that have lost offsets
  far_away.label_offset = 1.5e9;
  Dataset other = held;
  other.label_offset = 1.5e9;
  check(far_away, other, SquaredLoss{});
  CHECK_FALSE(message_of([&] {
                (void)objective_on(quantize<8>(far_away), synthetic(5, {.rows = 9}).train);
              }).empty());
}

TEST_CASE("large numbers in doubles and tables are trained on and predicted as they are", "[predict]") {
  const Index n = 200;
  Eigen::MatrixXd samples(n, 2);
  Eigen::VectorXd labels(n);
  std::string text = "t,x,y\n";
  for (Index i = 0; i < n; ++i) {
    samples(i, 0) = 1.7e9 + static_cast<double>(i * 37 % n);
    samples(i, 1) = static_cast<double>(i % 7);
    labels(i) = 1.6e9 + 2.0 * (samples(i, 0) - 1.7e9) - 3.0 * samples(i, 1);
    text += std::to_string(static_cast<long>(samples(i, 0))) + "," + std::to_string(i % 7) + "," +
            std::to_string(static_cast<long>(labels(i))) + "\n";
  }
  const Dataset data = table(text.c_str());
  const auto of_table = Sgd{}.fit(quantize<32>(data, full_precision));
  const auto of_matrix = Sgd{}.fit(quantize<32>(samples, labels, full_precision));
  const auto of_bits = Sgd{}.fit(quantize<4>(samples, labels));
  CHECK(rmse(of_table.model, data) < 0.01);
  CHECK(rmse(of_table.model, samples, labels) < 0.01);
  CHECK(rmse(of_matrix.model, data) < 0.01);
  CHECK(rmse(of_bits.model, samples, labels) < 5.0);  // of a deviation of 115
  CHECK(of_matrix.model.weights[0] == Approx(2.0).epsilon(1e-4));
  CHECK(of_table.model.means[0] == Approx(1.7e9 + 99.5).epsilon(1e-12));
  CHECK(predict(of_table.model, samples)[5] == Approx(labels(5)).margin(0.05));
  const Objective objective(data);
  CHECK(exact_solution(objective)->value < 1e-12);
}

TEST_CASE("features are matched by name where both sides have names", "[predict]") {
  const Dataset train = table("a,b,y\n1,2,3\n2,1,6\n5,5,8\n7,1,16\n");
  auto fit = Sgd{}.fit(quantize<32>(train, full_precision), {.epochs = 400});
  CHECK(rmse(fit.model, train) < 0.1);
  CHECK(rmse(fit.model, table("y,b,a\n3,2,1\n6,1,2\n", {.label = "y"})) < 0.1);
  CHECK(rmse(fit.model, table("c,b,a,y\n9,2,1,3\n9,1,2,6\n")) < 0.1);
  CHECK(message_of([&] { rmse(fit.model, table("a,c,y\n1,2,3\n2,3,4\n")); }) ==
        "a feature of the model is missing: expected 2 features by name, got none named \"b\"");
  CHECK(message_of([&] { rmse(fit.model, table("1,2,3,4\n2,3,4,5\n")); }) ==
        "model and samples differ in features: expected 2, got 3");
}

TEST_CASE("predictions for packed stores are those of their decoded rows, in the user's order", "[predict]") {
  const auto [train, test] = skewed({.rows = 500, .test_rows = 10});
  const auto exact = quantize<32>(train, full_precision);
  const auto fit = Sgd{}.fit(exact);
  const Buffer<double> of_rows = predict(fit.model, train), of_store = predict(fit.model, exact);
  for (Index i = 0; i < train.rows; ++i) CHECK(of_store[i] == Approx(of_rows[i]).margin(1e-4));

  const auto packed = quantize<3>(train, naive, {.outliers = 0.01});
  const Buffer<double> of_codes = predict(fit.model, packed);
  const auto view = packed.samples();
  for (const Index at : {Index{0}, Index{77}, Index{499}}) {
    double sum = fit.model.intercept;
    for (Index j = 0; j < train.cols; ++j)
      sum +=
          fit.model.weights[j] * (packed.standardization().mean[j] +
                                  packed.standardization().scale[j] * static_cast<double>(view.value(at, j)));
    CHECK(of_codes[packed.row_id(at)] == Approx(sum));
  }
  CHECK(message_of([&] { predict(line(), packed); }) ==
        "model and samples differ in features: expected 2, got 90");
}

TEST_CASE("a validation objective is the training's, on other rows", "[predict]") {
  const auto [train, test] = skewed({.rows = 800, .test_rows = 300});
  const Objective objective(train, SquaredLoss{}, L2(0.1f));
  const auto optimum = exact_solution(objective);
  const Dataset rows = select_rows(test, std::vector<Index>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11});
  const auto on = objective.on(rows);
  const LabelStatistics& labels = objective.label_statistics();
  const LinearModel model =
      in_original_units<SquaredLoss>(optimum->weights.span(), optimum->intercept, objective.standardization(),
                                     labels, objective.label_map());
  double sum = 0.0;
  for (Index i = 0; i < rows.rows; ++i) {
    const double error =
        (model.predict(rows.features().row(i)) - static_cast<double>(rows.labels[i])) / labels.deviation;
    sum += 0.5 * error * error;
  }
  CHECK(on(optimum->weights.span(), optimum->intercept) == Approx(sum / 12.0).epsilon(1e-6));
  const Dataset same_rows = train;
  CHECK(objective.on(same_rows)(optimum->weights.span(), optimum->intercept) <
        objective(optimum->weights.span(), optimum->intercept));  // by the penalty
  // By hand: both columns in the units of three rows far from zero.
  const Dataset far_rows = table("a,y\n50,1\n52,2\n57,4\n"), two = table("a,y\n60,5\n61,7\n");
  const Objective by_hand(far_rows);
  const double x[] = {0.7}, c = 0.1, deviation = std::sqrt(26.0 / 3.0), spread = std::sqrt(14.0) / 3.0;
  double expected = 0.0;
  for (const auto& [a, y] : {std::pair(60.0, 5.0), std::pair(61.0, 7.0)}) {
    const double error = x[0] * (a - 53.0) / deviation + c - (y - 7.0 / 3.0) / spread;
    expected += 0.25 * error * error;
  }
  CHECK(by_hand.on(two)(std::span<const double>(x), c) == Approx(expected));
  CHECK(message_of([&] { objective.on(table("1,2\n3,4\n")); }) ==
        "the rows have another number of columns than those of the training: expected 90, got 1");
}

TEST_CASE("a saved model is a start: standardised units and back", "[predict]") {
  const auto [train, test] = skewed({.rows = 600, .test_rows = 10});
  const auto store = quantize<32>(train, full_precision);
  const auto fit = Sgd{}.fit(store);
  const Buffer<double> start = in_standardised_units<SquaredLoss>(fit.model, store);
  for (Index j = 0; j < train.cols; ++j) CHECK(start[j] == Approx(fit.weights[j]).margin(1e-12));
  CHECK(start[train.cols] == Approx(fit.intercept).margin(1e-9));
  const Dataset named = table("b,a,y\n1,2,3\n4,1,6\n5,7,8\n");
  LinearModel other = line();
  other.schema = table("a,b,y\n1,2,3\n").schema;
  const auto moved = quantize<32>(named, full_precision);
  const Buffer<double> by_name = in_standardised_units<SquaredLoss>(other, moved);
  const double scale = std::sqrt(moved.label_statistics().deviation * moved.label_statistics().deviation);
  CHECK(by_name[0] == Approx(-moved.standardization().scale[0] / scale));
  CHECK(by_name[1] == Approx(2.0 * moved.standardization().scale[1] / scale));
  const auto again = Sgd{}.fit(store, {.epochs = 1, .start = start.span()});
  const Objective objective(train);
  CHECK(objective(again.weights.span(), again.intercept) <
        1.01 * objective(fit.weights.span(), fit.intercept));
  CHECK_FALSE(message_of([&] { in_standardised_units<SquaredLoss>(line(), store); }).empty());
}

TEST_CASE("rows are held out at random, each once", "[predict]") {
  std::string text;
  for (int i = 0; i < 100; ++i) text += std::to_string(i) + "," + std::to_string(2 * i) + "\n";
  const auto [train, held_out] = hold_out(table(text.c_str()), 0.25, 7);
  CHECK((train.rows == 75 && held_out.rows == 25));
  std::vector<int> seen(100);
  for (const Dataset* part : {&train, &held_out})
    for (Index i = 0; i < part->rows; ++i) {
      ++seen[static_cast<std::size_t>(part->values[i])];
      CHECK(part->labels[i] == 2.0f * part->values[i]);
    }
  CHECK(std::count(seen.begin(), seen.end(), 1) == 100);
  CHECK(held_out.values[0] != hold_out(table(text.c_str()), 0.25, 8).test.values[0]);
  CHECK_FALSE(message_of([&] { hold_out(table(text.c_str()), 1.0); }).empty());
}

TEST_CASE("an excess over nothing is none", "[predict]") {
  CHECK(*excess(1.1, 1.0, 2.0) == Approx(0.1));
  CHECK_FALSE(excess(0.0, 0.0, 0.0));
  CHECK_FALSE(excess(1e-9, 1e-20, 0.5));
}

TEST_CASE("the exact optimum of few rows and many columns", "[predict]") {
  const auto wide = synthetic(300, {.rows = 20, .test_rows = 10}).train;
  const Objective none(wide);
  const Objective ridge(wide, SquaredLoss{}, L2(0.5f));
  CHECK(exact_solution(none)->value < 1e-20);
  // Against the normal equations of the ridge: (A'A / n + lambda I) x = A'y / n with centred columns.
  const auto optimum = exact_solution(ridge);
  Eigen::MatrixXd a(20, 300);
  Eigen::VectorXd y(20);
  for (Index i = 0; i < 20; ++i) {
    for (Index j = 0; j < 300; ++j) a(i, j) = ridge.standardised(i, j);
    y(i) = ridge.label(i);
  }
  const Eigen::VectorXd x = (a.transpose() * a / 20.0 + 0.5 * Eigen::MatrixXd::Identity(300, 300))
                                .ldlt()
                                .solve(a.transpose() * y / 20.0);
  for (Index j = 0; j < 300; ++j) CHECK(optimum->weights[j] == Approx(x(j)).margin(1e-10));
}

TEST_CASE("early stopping waits, stops, and keeps the best weights", "[predict]") {
  const auto bowl = [](std::span<const double> x, double) { return (x[0] - 3.0) * (x[0] - 3.0); };
  EarlyStopping early(bowl, 2, 0.0);
  int epoch = 0;
  Flow flow = Flow::go_on;
  for (const double at : {1.0, 2.0, 1.5, 3.25, 5.0, 6.0}) {
    CHECK(flow == Flow::go_on);
    flow = early(EpochEvent{++epoch, 100, std::span<const double>(&at, 1), at, 0.0});
  }
  CHECK(flow == Flow::stop);
  CHECK(early.best_epoch() == 4);
  CHECK(early.best_weights()[0] == 3.25);
  CHECK(early.best_intercept() == 3.25);
  CHECK(early.best() == 0.0625);
  CHECK(early.last() == 9.0);
}

TEST_CASE("one-hot texts, filled cells and a ridge are what their definitions give in double", "[predict]") {
  // A table of three numbers far apart in size, of which some are missing, and a town.
  const char* const towns[] = {"Au", "Bern", "Chur", "Davos"};
  const Index n = 400, d = 3 + 4;
  Eigen::MatrixXd numbers(n, 3);
  Eigen::VectorXd y(n);
  std::string text = "x,town,y,z,w\n";
  std::uint32_t state = 5;
  const auto uniform = [&] {
    state = state * 1664525u + 1013904223u;
    return static_cast<double>(state >> 8) / 16777216.0 - 0.5;
  };
  std::vector<int> town(static_cast<std::size_t>(n));
  for (Index i = 0; i < n; ++i) {
    numbers.row(i) << std::round(1e4 * uniform()) / 1e4, std::round(1e6 * uniform()),
        5e5 + std::round(1e3 * uniform());
    const int k = town[static_cast<std::size_t>(i)] = static_cast<int>(4.0 * (uniform() + 0.5));
    y(i) = std::round(100.0 * (3.0 * numbers(i, 0) + 2e-6 * numbers(i, 1) + k * k + uniform())) / 100.0;
    const auto cell = [&](Index j) {
      return i % 19 == j + 3 ? std::string("NA") : number_text(numbers(i, j));
    };
    text += cell(0) + "," + towns[k] + "," + number_text(y(i)) + "," + cell(1) + "," + cell(2) + "\n";
  }
  const Dataset data = table(text.c_str(), {.label = "y", .categorical = {"town"}, .missing = Missing::mean});
  REQUIRE(data.cols == d);

  // The same by hand: means of the cells that are there, columns in the order x, towns, z, w.
  Eigen::MatrixXd a(n, d);
  for (Index j = 0; j < 3; ++j) {
    double sum = 0.0;
    Index there = 0;
    for (Index i = 0; i < n; ++i)
      if (i % 19 != j + 3) sum += numbers(i, j), ++there;
    for (Index i = 0; i < n; ++i)
      a(i, j == 0 ? 0 : j + 4) = i % 19 == j + 3 ? sum / static_cast<double>(there) : numbers(i, j);
  }
  for (Index i = 0; i < n; ++i)
    for (Index k = 0; k < 4; ++k) a(i, 1 + k) = town[static_cast<std::size_t>(i)] == k ? 1.0 : 0.0;
  const Eigen::RowVectorXd mean = a.colwise().mean();
  const Eigen::MatrixXd centred = a.rowwise() - mean;
  const Eigen::ArrayXd scale = (centred.colwise().squaredNorm() / static_cast<double>(n)).array().sqrt();
  const Eigen::MatrixXd standard = centred.array().rowwise() / scale.transpose();
  const double lambda = 0.05, label_mean = y.mean();
  const Eigen::VectorXd x =
      (standard.transpose() * standard / static_cast<double>(n) + lambda * Eigen::MatrixXd::Identity(d, d))
          .ldlt()
          .solve(standard.transpose() * (y.array() - label_mean).matrix() / static_cast<double>(n));
  const Eigen::VectorXd expected = (standard * x).array() + label_mean;

  const Objective objective(data, SquaredLoss{}, L2(static_cast<float>(lambda)));
  const auto optimum = exact_solution(objective);
  const LinearModel model = in_original_units(objective, optimum->weights.span(), optimum->intercept);
  const Buffer<double> predicted = predict(model, data);
  for (Index i = 0; i < n; ++i) CHECK(predicted[i] == Approx(expected(i)).margin(1e-5));
  CHECK(rmse(model, data) ==
        Approx(std::sqrt((expected - y).squaredNorm() / static_cast<double>(n))).epsilon(1e-5));
  // And SGD on 4 bits gives the metrics of it within half a percent.
  const auto fit = Sgd{SquaredLoss{}, L2(static_cast<float>(lambda))}.fit(quantize<4>(data), {.epochs = 60});
  CHECK(rmse(fit.model, data) == Approx(rmse(model, data)).epsilon(0.005));
}

TEST_CASE("the ROC curve and the calibration of a few rows are those by hand", "[predict]") {
  LinearModel model;  // the margin is the only column
  model.weights = Buffer<double>(1);
  model.weights[0] = 1.0;
  model.classifies = true;
  model.loss = LogisticLoss::name;
  model.low_label = -1.0;
  model.high_label = 1.0;
  RowMajorMatrix a(5, 1);
  a << 2.0f, 1.0f, 1.0f, -1.0f, -3.0f;
  const std::vector<float> y{1.0f, -1.0f, 1.0f, 1.0f, -1.0f}, w{1.0f, 1.0f, 1.0f, 2.0f, 3.0f};
  const auto curve = roc_curve(model, a, LabelView(y));
  REQUIRE(curve.size() == 5);  // rows of one margin are one point
  const double expected[5][3] = {
      {INFINITY, 0.0, 0.0}, {2.0, 0.0, 1.0 / 3.0}, {1.0, 0.5, 2.0 / 3.0}, {-1.0, 0.5, 1.0}, {-3.0, 1.0, 1.0}};
  double area = 0.0;
  for (std::size_t k = 0; k < 5; ++k) {
    CHECK(curve[k].threshold == expected[k][0]);
    CHECK(curve[k].false_positives == Approx(expected[k][1]));
    CHECK(curve[k].true_positives == Approx(expected[k][2]));
    if (k > 0)
      area += 0.5 * (curve[k].false_positives - curve[k - 1].false_positives) *
              (curve[k].true_positives + curve[k - 1].true_positives);
  }
  CHECK(area == Approx(*evaluate(model, a, LabelView(y)).auc));
  const auto weighted = roc_curve(model, a, LabelView(y, 0.0, w));
  CHECK(weighted[2].false_positives == Approx(0.25));
  CHECK(weighted[2].true_positives == Approx(0.5));
  // Two bins: below and above a half.
  const auto bins = calibration(model, a, LabelView(y), 2);
  REQUIRE(bins.size() == 2);
  const auto p = [](double z) { return 1.0 / (1.0 + std::exp(-z)); };
  CHECK(bins[0].rows == 2.0);
  CHECK(bins[0].predicted == Approx(0.5 * (p(-1.0) + p(-3.0))));
  CHECK(bins[0].observed == 0.5);
  CHECK(bins[1].predicted == Approx((p(2.0) + 2.0 * p(1.0)) / 3.0));
  CHECK(bins[1].observed == Approx(2.0 / 3.0));
  CHECK(calibration_error(bins) == Approx((2.0 * std::fabs(bins[0].predicted - 0.5) +
                                           3.0 * std::fabs(bins[1].predicted - bins[1].observed)) /
                                          5.0));
  const std::vector<float> ones(5, 1.0f), other{1.0f, -1.0f, 1.0f, 1.0f, 0.0f};
  CHECK_THROWS_AS(roc_curve(model, a, LabelView(ones)), Error);
  CHECK_THROWS_AS(roc_curve(model, a, LabelView(other)), Error);
  CHECK_THROWS_AS(calibration(model, a, LabelView(y), 0), Error);
  LinearModel hinge = model;
  hinge.loss = HingeLoss::name;
  CHECK_THROWS_AS(calibration(hinge, a, LabelView(y)), Error);
  CHECK_THROWS_AS(roc_curve(line(), RowMajorMatrix(5, 2), LabelView(y)), Error);
}
