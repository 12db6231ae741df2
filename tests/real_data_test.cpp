// The promises of the README on real sets, where they are at hand: the folder ZIPML_DATA holds
// NAME.libsvm.xz. Without it the tests are skipped and say so; their twins on generated data are in
// training_test.cpp.

#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <zipml/training/recommend.hpp>
#include <zipml/zipml.hpp>

#include "catch.hpp"

using namespace zipml;

namespace {

std::optional<Dataset> real_set(const std::string& name) {
  const char* folder = std::getenv("ZIPML_DATA");
  const std::string file = (folder != nullptr ? std::string(folder) : ".") + "/" + name + ".libsvm.xz";
  std::FILE* exists = folder != nullptr ? std::fopen(file.c_str(), "rb") : nullptr;
  if (exists == nullptr) {
    WARN("skipped: ZIPML_DATA names no folder with " << name << ".libsvm.xz");
    return std::nullopt;
  }
  std::fclose(exists);
  std::FILE* pipe = popen(("xz -dc '" + file + "'").c_str(), "r");
  REQUIRE(pipe != nullptr);
  Dataset data = load("/dev/fd/" + std::to_string(fileno(pipe)));
  REQUIRE(pclose(pipe) == 0);
  return data;
}

/// Excess in per cent after 20 epochs with the default step: 32 bits, then 8 bits with double sampling.
template <class L>
void check_defaults(const std::string& name, Index rows, Index cols) {
  const auto data = real_set(name);
  if (!data) return;
  CHECK(data->rows == rows);
  CHECK(data->cols == cols);
  const Objective objective(*data, L{});
  const double optimum = exact_solution(objective)->value;
  const auto percent = [&](const Fit& fit) {
    CHECK(fit.success());
    return 100.0 * excess(objective(fit.weights.span(), fit.intercept), optimum);
  };
  for (const std::uint64_t seed : {1u, 2u, 3u}) {
    CHECK(percent(Sgd{L{}}.fit(quantize<32>(*data, full_precision, {.seed = seed}))) < 0.05);
    CHECK(percent(Sgd{L{}}.fit(quantize<8>(*data, double_sampling, {.seed = seed}))) < 0.1);
  }
}

}  // namespace

TEST_CASE("cadata: default steps end close to the optimum") {
  check_defaults<SquaredLoss>("cadata", 20640, 8);
}
TEST_CASE("cpusmall: default steps end close to the optimum") {
  check_defaults<SquaredLoss>("cpusmall", 8192, 12);
}
TEST_CASE("cod-rna: default steps end close to the optimum") {
  check_defaults<LeastSquaresSvm>("cod-rna", 59535, 8);
}

TEST_CASE("recommend: 1 % within 3.2 stored bits, 0.1 % within 4.3, without being told the set") {
  const auto check = [](const char* name, auto loss) {
    const auto data = real_set(name);
    if (!data) return;
    const Objective objective(*data, loss);
    const double optimum = exact_solution(objective)->value;
    for (const auto& [acceptable, bits] : {std::pair{0.01, 3.2}, std::pair{0.001, 4.3}}) {
      const auto best = recommend(*data, loss, NoRegularizer{}, {.excess = acceptable});
      INFO(name << ": " << to_string(best.representation));
      CHECK(best.met);
      CHECK(best.stored_bits <= bits);
      // The seed is one of the two that were measured: SGD has to end where the solution is.
      const AnyStore store = quantize(*data, best.representation);
      const Fit fit = visit_estimator(best.representation.estimator,
                                      [&](auto estimator) { return Sgd{loss}.fit(store, estimator); });
      CHECK(fit.success());
      CHECK(excess(objective(fit.weights.span(), fit.intercept), optimum) <= acceptable);
    }
  };
  check("cadata", SquaredLoss{});
  check("cpusmall", SquaredLoss{});
  check("cod-rna", LeastSquaresSvm{});
}

TEST_CASE("a9a: one-hot columns of 180 deviations do not diverge with the default step") {
  const auto data = real_set("a9a");
  if (!data) return;
  const Objective objective(*data, LeastSquaresSvm{});
  const auto fit = Sgd{LeastSquaresSvm{}}.fit(quantize<32>(*data, full_precision));
  CHECK(fit.success());
  CHECK(excess(objective(fit.weights.span(), fit.intercept), exact_solution(objective)->value) < 0.001);
}
