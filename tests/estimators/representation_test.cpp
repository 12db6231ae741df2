// A representation as a value: text and back, what goes together, and the store that it makes.

#include <zipml/analysis/exact_solver.hpp>
#include <zipml/estimators/any_store.hpp>
#include <zipml/zipml.hpp>

#include "catch.hpp"

using namespace zipml;

TEST_CASE("a representation is printed as a text that reads back as the same value") {
  for (const char* text :
       {"full", "naive:2,lloyd-max,nearest", "naive:1", "variance-corrected:4,outliers=0.003",
        "double-sampling:8,optimal", "sum-code-4:6", "variance-corrected:3,optimal-shared,outliers=0.01"}) {
    const Representation representation = parse_representation(text);
    CHECK(to_string(representation) == text);
    CHECK(parse_representation(to_string(representation)) == representation);
  }
  CHECK(parse_representation("naive:2,lloyd-max").rounding == RoundingKind::nearest);
  CHECK(parse_representation("naive:2,nearest,outliers=0.5e-2,optimal") ==
        Representation{EstimatorKind::naive, 2, LevelsKind::optimal, RoundingKind::nearest, 0.005});
  CHECK(Representation{}.estimator == EstimatorKind::variance_corrected);
}

TEST_CASE("what is no representation, or does not go together, is refused with the reason") {
  const auto message_of = [](const char* text) -> std::string {
    try {
      (void)parse_representation(text);
    } catch (const Error& error) {
      return error.what();
    }
    return {};
  };
  CHECK(message_of("niave:4").find("full|naive|double-sampling") != std::string::npos);
  CHECK(message_of("").find("NAME:BITS") != std::string::npos);
  CHECK(message_of("naive").find("naive:4") != std::string::npos);
  CHECK(message_of("naive:x").find("'naive:x'") != std::string::npos);
  CHECK(message_of("naive:9").find("1 to 8 bits") != std::string::npos);
  CHECK(message_of("full:4").find("32") != std::string::npos);
  CHECK(message_of("sum-code-8:8").find("9 stored bits") != std::string::npos);
  CHECK(message_of("variance-corrected:4,nearest").find("naive estimator") != std::string::npos);
  CHECK(message_of("naive:4,lloyd-max,stochastic").find("Lloyd-Max") != std::string::npos);
  CHECK(message_of("sum-code:4,optimal-shared").find("shared table") != std::string::npos);
  CHECK(message_of("naive:4,outliers=half").find("outliers=0.003") != std::string::npos);
  CHECK(message_of("naive:4,outliers=0.6").find("out of range") != std::string::npos);
  CHECK(message_of("naive:4,speed").find("'speed'") != std::string::npos);
}

TEST_CASE("a store of a representation that is known at run time is the one of the types") {
  const Dataset data = skewed({.rows = 2'000, .test_rows = 0}).train;
  const auto check = [&](const char* text, const auto& typed) {
    INFO(text);
    const AnyStore any = quantize(data, parse_representation(text), {.seed = typed.seed()});
    CHECK(to_string(any.representation()) == text);
    const SampleView a = any.samples(), b = typed.samples();
    CHECK(a.stored_bits == b.stored_bits);
    CHECK(a.store_bytes == b.store_bytes);
    if (!a.is_dense()) CHECK(std::equal(a.codes, a.codes + a.codes_bytes, b.codes));
    const FitOptions options{.epochs = 1, .model = {8}};
    const Fit one = visit_estimator(any.representation().estimator,
                                    [&](auto estimator) { return Sgd{}.fit(any, estimator, options); });
    const Fit other = Sgd{}.fit(typed, options);
    CHECK(std::equal(one.weights.begin(), one.weights.end(), other.weights.begin()));
  };
  check("full", quantize<32>(data, full_precision));
  check("naive:3,lloyd-max,nearest", quantize<3>(data, naive, lloyd_max_levels, nearest));
  check("variance-corrected:2,outliers=0.003", quantize<2>(data, variance_corrected, {.outliers = 0.003}));
  check("variance-corrected:5,optimal", quantize<5>(data, variance_corrected, optimal_levels));
  check("symmetrized:4,optimal-shared", quantize<4>(data, symmetrized, shared_optimal_levels));
  check("sum-code-8:6", quantize<6>(data, sum_code_of<8>));
  check("double-sampling:1", quantize<1>(data, double_sampling));
  const AnyStore store = quantize(data, {.bits = 3});
  CHECK(store.fresh() == nullptr);
  CHECK_THROWS_AS(Sgd{}.fit(store, double_sampling), Error);
}

TEST_CASE("fresh draws of a representation are those of quantize_fresh") {
  const Dataset data = skewed({.rows = 1'000, .test_rows = 0}).train;
  const auto typed = quantize_fresh<3>(data, double_sampling);
  const AnyStore any = quantize(data, parse_representation("double-sampling:3"), {}, true);
  REQUIRE(any.fresh() != nullptr);
  const Fit one = Sgd{}.fit(any, double_sampling, {.epochs = 3});
  const Fit other = Sgd{}.fit(typed, {.epochs = 3});
  CHECK(std::equal(one.weights.begin(), one.weights.end(), other.weights.begin()));
  const Fit frozen = Sgd{}.fit(quantize<3>(data, double_sampling), {.epochs = 3});
  CHECK_FALSE(std::equal(one.weights.begin(), one.weights.end(), frozen.weights.begin()));
}
