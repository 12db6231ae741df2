// Weights of samples: what they mean, and that every path of training, every estimator and every measure has them.

#include <cmath>
#include <string>
#include <vector>
#include <zipml/analysis/exact_solver.hpp>
#include <zipml/analysis/realised_system.hpp>
#include <zipml/estimators/any_store.hpp>
#include <zipml/io/hold_out.hpp>
#include <zipml/zipml.hpp>

#include "catch.hpp"
#include "message.hpp"

using namespace zipml;

namespace {

/// Two groups of rows that follow different lines; the rows of the second count 0, 1, 2 or 3 times as whole numbers,
/// those of the first a ninth of it.
Dataset two_groups(Index rows) {
  Dataset data = synthetic(6, {.rows = rows, .test_rows = 0, .seed = 3}).train;
  data.weights = Buffer<float>(rows);
  for (Index i = 0; i < rows; ++i) {
    const bool second = i % 3 == 0;
    if (second)
      data.labels[i] = 2.0f * data.values[i * 6] - data.values[i * 6 + 1] + 0.1f * static_cast<float>(i % 7);
    data.weights[i] = second ? static_cast<float>(9 * (i % 4)) : static_cast<float>(i % 2);
  }
  return data;
}

/// Each row as often as its weight says.
Dataset repeated(const Dataset& data) {
  std::vector<Index> rows;
  for (Index i = 0; i < data.rows; ++i)
    for (float k = 0.0f; k < data.weights[i]; k += 1.0f) rows.push_back(i);
  Dataset result = select_rows(data, rows);
  result.weights = {};
  return result;
}

Dataset unweighted(const Dataset& data) {
  Dataset result = data;
  result.weights = {};
  return result;
}

}  // namespace

TEST_CASE("a row of weight k counts like k rows", "[weights]") {
  const Dataset data = two_groups(600);
  const Dataset rows = repeated(data);
  const Objective<> weighted(data, {}, {}, false), counted(rows, {}, {}, false);
  const std::vector<double> x{0.3, -0.2, 0.1, 0.0, 0.5, 1.0};
  // Their labels are scaled by other deviations, so that losses compare in units of the labels.
  const auto loss = [&](const Objective<>& objective) {
    std::vector<double> scaled = x;
    for (double& v : scaled) v /= objective.label_map().scale;
    const double c = (0.7 - objective.label_map().offset) / objective.label_map().scale;
    return objective(scaled, c) * objective.label_map().scale * objective.label_map().scale;
  };
  CHECK(loss(weighted) == Approx(loss(counted)).epsilon(1e-6));
  CHECK(loss(Objective<>(unweighted(data), {}, {}, false)) != Approx(loss(counted)).epsilon(0.05));

  const Objective<> objective(data), of_rows(rows);
  const auto optimum = exact_solution(objective), expected = exact_solution(of_rows);
  const LinearModel model = in_original_units(objective, optimum->weights.span(), optimum->intercept);
  const LinearModel same = in_original_units(of_rows, expected->weights.span(), expected->intercept);
  for (Index j = 0; j < 6; ++j) CHECK(model.weights[j] == Approx(same.weights[j]).epsilon(1e-5).margin(1e-6));
  CHECK(model.intercept == Approx(same.intercept).margin(1e-5));
  const Metrics metrics = evaluate(model, data), of_repeated = evaluate(model, rows);
  CHECK(metrics.rmse == Approx(of_repeated.rmse).epsilon(1e-6));
  CHECK(*metrics.r_squared == Approx(*of_repeated.r_squared).epsilon(1e-6));
  CHECK(metrics.rows == data.rows);
  // With an offset in other rows, which validate in the units of the training.
  const Dataset held = two_groups(300);
  CHECK(objective.on(held)(optimum->weights.span(), optimum->intercept) ==
        Approx(objective.on(repeated(held))(optimum->weights.span(), optimum->intercept)).epsilon(1e-6));
}

TEST_CASE("fewer rows than columns have a weighted optimum too", "[weights]") {
  Dataset data = synthetic(20, {.rows = 12, .test_rows = 0, .seed = 5}).train;
  data.weights = Buffer<float>(12);
  for (Index i = 0; i < 12; ++i) data.weights[i] = static_cast<float>(1 + i % 3);
  const L2 penalty{0.1f};
  const Objective<SquaredLoss, L2> wide(data, {}, penalty);
  const auto optimum = exact_solution(wide);
  for (Index j = 0; j < 20; ++j) {  // no direction goes down
    Buffer<double> moved = optimum->weights;
    moved[j] += 1e-3;
    CHECK(wide(moved.span(), optimum->intercept) > optimum->value);
    moved[j] -= 2e-3;
    CHECK(wide(moved.span(), optimum->intercept) > optimum->value);
  }
  CHECK(wide(optimum->weights.span(), optimum->intercept + 1e-3) > optimum->value);
  CHECK(wide(optimum->weights.span(), optimum->intercept - 1e-3) > optimum->value);
}

TEST_CASE("every way of training goes to the weighted optimum", "[weights]") {
  const Dataset data = two_groups(6'000);
  const Objective<> objective(data);
  const double optimum = exact_solution(objective)->value;
  {
    const Dataset without = unweighted(data);
    const auto other = exact_solution(Objective<>(without));
    REQUIRE(excess(objective(other->weights.span(), other->intercept), optimum) > 0.2);
  }
  const auto excess_of = [&](const Fit& fit) {
    CHECK(fit.success());
    CHECK(fit.quantized_loss == Approx(objective(fit.weights.span(), fit.intercept)).epsilon(0.02));
    return excess(objective(fit.weights.span(), fit.intercept), optimum);
  };
  const auto check = [&](const auto& store) {
    for (const Index batch : {Index{1}, Index{5}, Index{64}})
      for (const bool pilot : {false, true}) {
        INFO(store.samples().bits << " bits, batch " << batch << ", pilot " << pilot);
        CHECK(excess_of(Sgd{}.fit(store, {.epochs = 40, .batch = batch, .pilot = pilot})) < 0.01);
      }
    if (store.samples().has_integer_path()) {
      CHECK(excess_of(Sgd{}.fit(store, {.epochs = 40, .model = {8}, .threads = 2})) < 0.01);
      CHECK(excess_of(Sgd{}.fit(store, {.epochs = 40, .model = {8}, .gradient = {8}})) < 0.01);
    }
  };
  check(quantize<32>(data, full_precision));
  check(quantize<8>(data, naive, uniform_levels, nearest));
  check(quantize<8>(data, naive, optimal_levels));
  check(quantize<7>(data, double_sampling));
  check(quantize<5>(data, variance_corrected, {.outliers = 0.003}));
  check(quantize<5>(data, variance_corrected, optimal_levels, {.outliers = 0.003}));
  check(quantize<5>(data, variance_corrected, {.scaling = Scaling::row_range}));
}

TEST_CASE("what a store says of its noise and its pilot is weighted", "[weights]") {
  const Index n = 40;
  Dataset data = two_groups(n);
  const auto bias_of = [&](const auto& policy, const QuantizeOptions& options, Index only) {
    Dataset one = data;
    if (only >= 0)
      for (Index i = 0; i < n; ++i) one.weights[i] = i == only ? 1.0f : 0.0f;
    const auto store = quantize<3>(one, variance_corrected, policy, options);
    return std::vector<double>(store.bias.begin(), store.bias.end());
  };
  const auto check = [&](const auto& policy, const QuantizeOptions& options) {
    std::vector<double> expected(6);
    double total = 0.0;
    for (const float w : data.weights) total += static_cast<double>(w);
    for (Index i = 0; i < n; ++i) {  // where one row alone counts, its variances are all that there is
      const std::vector<double> of_row = bias_of(policy, options, i);
      for (std::size_t j = 0; j < 6; ++j)
        expected[j] += static_cast<double>(data.weights[i]) / total * of_row[j];
    }
    CHECK(bias_of(policy, options, 0) != bias_of(policy, options, 1));
    const std::vector<double> bias = bias_of(policy, options, -1);
    for (std::size_t j = 0; j < 6; ++j) CHECK(bias[j] == Approx(expected[j]).epsilon(1e-5));
  };
  check(uniform_levels, {});
  check(uniform_levels, {.outliers = 0.1});
  check(optimal_levels, {});
  check(uniform_levels, {.scaling = Scaling::row_range});

  data = two_groups(2'000);
  const auto store = quantize<3>(data);
  REQUIRE_FALSE(store.pilot.empty());
  const Objective<> objective(data);
  const double deviation = store.label_statistics().deviation, mean = store.label_statistics().mean;
  std::vector<double> gradient(7);
  double squares = 0.0, total = 0.0;
  for (const float w : data.weights) total += static_cast<double>(w);
  for (Index i = 0; i < data.rows; ++i) {
    double r = store.pilot.intercept - (objective.label(i) * deviation + mean);
    for (Index j = 0; j < 6; ++j)
      r += objective.standardised(i, j) * static_cast<double>(store.pilot.weights[j]);
    const double w = static_cast<double>(data.weights[i]) / total;
    for (Index j = 0; j < 6; ++j)
      gradient[static_cast<std::size_t>(j)] += w * r * objective.standardised(i, j);
    gradient[6] += w * r;
    squares += w * r * r;
  }
  for (Index j = 0; j <= 6; ++j)
    CHECK(store.pilot.gradient[j] == Approx(gradient[static_cast<std::size_t>(j)]).margin(1e-5));
  CHECK(store.pilot.squares == Approx(squares).epsilon(1e-5));

  // Solved without SGD, both problems of the store are near the optimum.
  const double optimum = exact_solution(objective)->value;
  const auto fine = quantize<6>(data);
  CHECK(excess(realised_solution(fine, variance_corrected, objective)->value, optimum) < 0.002);
  CHECK(excess(pilot_solution(store, variance_corrected, objective)->value, optimum) < 0.01);
}

TEST_CASE("equal weights are none, and others go through the whole library", "[weights]") {
  Dataset data = two_groups(1'000);
  for (float& w : data.weights) w = 3.0f;
  const auto plain = Sgd{}.fit(quantize<4>(unweighted(data)), {.model = {8}});
  const auto same = Sgd{}.fit(quantize<4>(data), {.model = {8}});
  CHECK(std::equal(plain.weights.begin(), plain.weights.end(), same.weights.begin()));
  data = two_groups(1'000);
  const AnyStore store = quantize(data, Representation{.bits = 4});
  CHECK(store.samples().weights != nullptr);
  // Matrices of Eigen's bring them with their labels.
  const auto of_matrix = quantize<4>(data.features(), LabelView{data.labels, data.label_offset, data.weights},
                                     variance_corrected);
  const auto of_table = quantize<4>(data);
  CHECK(std::equal(of_matrix.weights().begin(), of_matrix.weights().end(), of_table.weights().begin()));
  const auto fresh = quantize_fresh<4>(data, double_sampling);
  const Objective<> objective(data);
  const Fit fit = Sgd{}.fit(fresh, {.epochs = 40});
  CHECK(excess(objective(fit.weights.span(), fit.intercept), exact_solution(objective)->value) < 0.02);
  const auto [train, held] = hold_out(data, 0.3);
  for (const Dataset* part : {&train, &held}) {
    REQUIRE(part->weights.size() == part->rows);
    for (Index i = 0; i < part->rows; ++i) {
      Index from = 0;
      while (data.labels[from] != part->labels[i] || data.values[from * 6] != part->values[i * 6]) ++from;
      CHECK(part->weights[i] == data.weights[from]);
    }
  }
}

TEST_CASE("weights that are none are refused", "[weights]") {
  Dataset data = two_groups(30);
  const auto refusal = [&] { return message_of([&] { (void)quantize<4>(data); }); };
  data.weights[4] = -1.0f;
  CHECK(refusal() ==
        "the weight of a sample is out of range: expected a finite number of at least 0, got -1 in row 5");
  CHECK(message_of([&] { (void)Objective<>(data); }) == refusal());
  data.weights[4] = std::numeric_limits<float>::infinity();
  CHECK_FALSE(refusal().empty());
  data.weights[4] = std::numeric_limits<float>::quiet_NaN();
  CHECK_FALSE(refusal().empty());
  for (float& w : data.weights) w = 0.0f;
  CHECK(refusal() == "all samples have weight 0: expected a weight above 0, got none");
  data.weights = Buffer<float>(29);
  CHECK(refusal() == "samples and weights differ in number: expected 30 weights, got 29");
  const auto store = quantize<4>(unweighted(data));
  const Buffer<float> ones(30);
  CHECK(message_of([&] {
          Targets(store.placement(), {LabelView{data.labels, 0.0, ones}});
        }) ==
        "weights belong to the samples, not to the targets of a model: expected labels without weights, got "
        "weights: give them to quantize");
}

TEST_CASE("a column of a table holds weights", "[weights]") {
  const auto read = [](const char* text, const LoadOptions& options) {
    LineReader reader = LineReader::from_memory(text, "f");
    return load(reader, options);
  };
  const char* const text = "a,w,b,y\n1,2,5,9\n2,0.5,6,8\n3,0,7,7\n";
  LoadOptions options{.weights = "w"};
  const Dataset data = read(text, options);
  CHECK(data.cols == 2);
  CHECK(data.column_names() == List<std::string>{"a", "b"});
  REQUIRE(data.weights.size() == 3);
  CHECK((data.weights[0] == 2.0f && data.weights[1] == 0.5f && data.weights[2] == 0.0f));
  CHECK(read("1,5,9,2\n2,6,8,3\n", {.weights = "4"}).labels[0] == 9.0f);  // the last column that is left
  // Rows that are left out take theirs with them.
  CHECK(read("a,w,b,y\n1,2,,9\n2,0.5,6,8\n", {.weights = "w", .missing = Missing::drop}).weights[0] == 0.5f);

  CHECK(message_of([&] { read("a,w,y\n1,2,3\n1,-2,3\n", options); }) ==
        "f:3:3: field 2 (\"w\") is no weight: expected a number from 0 to 1e30, got \"-2\"");
  CHECK(message_of([&] { read("a,w,y\n1,2,3\n1,,3\n", options); }).find("f:3:3") == 0);
  CHECK(message_of([&] { read("a,w,y\n1,2,3\n1,x,3\n", options); }).find("f:3:3") == 0);
  CHECK(message_of([&] { read(text, {.weights = "v"}); }).find("LoadOptions::weights (--weights)") !=
        std::string::npos);
  CHECK_FALSE(message_of([&] { read(text, {.label = "w", .weights = "w"}); }).empty());
  CHECK(message_of([&] { read("1 1:2\n", {.format = "libsvm", .weights = "w"}); }).find("weights") !=
        std::string::npos);

  // Other tables may have them or not.
  LoadOptions like{.like = data.schema};
  CHECK(read("y,b,a\n1,2,3\n", like).weights.empty());
  like.weights = "w";
  const Dataset test = read("y,w,b,a\n1,4,2,3\n", like);
  CHECK((test.weights[0] == 4.0f && test.values[0] == 3.0f && test.warnings.empty()));
  const Dataset without = read("y,b,a\n1,2,3\n", like);
  CHECK(without.weights.empty());
  REQUIRE(without.warnings.size() == 1);
  CHECK(without.warnings[0] == "no column is called \"w\": all rows count the same");
  like.weights = "a";
  CHECK(message_of([&] { read("y,b,a\n1,2,3\n", like); }).find("column of weights is a feature") !=
        std::string::npos);
  // The same rows whatever the threads.
  std::string long_text = "a,w,b,y\n";
  for (int i = 0; i < 40'000; ++i)
    long_text += std::to_string(i) + "," + std::to_string(i % 11) + "," + std::to_string(i % 5) + ",1\n";
  options.threads = 3;
  const Dataset parts = read(long_text.c_str(), options);
  REQUIRE(parts.rows == 40'000);
  for (Index i = 0; i < parts.rows; ++i)
    if (parts.weights[i] != static_cast<float>(i % 11)) FAIL("row " << i);
}
