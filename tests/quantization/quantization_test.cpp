// Levels, rounding, statistics: the statements of section 2 of ZipML 2017 that a quantizer rests on.

#include <cmath>
#include <limits>
#include <vector>
#include <zipml/quantization/levels.hpp>
#include <zipml/quantization/quantized_vector.hpp>
#include <zipml/quantization/rounding.hpp>
#include <zipml/quantization/statistics.hpp>

#include <zipml/eigen.hpp>

#include "catch.hpp"

using namespace zipml;

static_assert(AffineLevels<UniformLevels<4>> && Levels<TableLevels<4>> && !AffineLevels<TableLevels<4>>);

namespace {

template <class L>
void check_levels_are_fixed_points(const L& levels) {
  for (int code = 0; code < L::count; ++code)
    for (const std::uint32_t word : {0u, 0x80000000u, 0xffffffffu}) {
      CHECK(levels.value(round_to_code(levels, stochastic, levels.value(code), word)) == levels.value(code));
      CHECK(levels.value(round_to_code(levels, nearest, levels.value(code), word)) == levels.value(code));
    }
}

/// E Q(v) = v and Var Q(v) = (v - low)(high - v), exactly, by weighing the two outcomes with their 24-bit
/// probability.
template <class L>
void check_unbiased(const L& levels, float v) {
  const Position p = levels.lower(v);
  const double low = levels.value(p.code);
  const double high = levels.value(p.code + 1);
  const double up = std::floor(static_cast<double>(p.fraction) * 16777216.0) / 16777216.0;
  const double range = levels.value(L::count - 1) - levels.value(0);
  CHECK(low <= static_cast<double>(v) + 1e-6 * range);
  CHECK(high >= static_cast<double>(v) - 1e-6 * range);
  const double mean = low + up * (high - low);
  CHECK(mean == Approx(v).margin(1e-6 * range));
  const double variance = up * (1.0 - up) * (high - low) * (high - low);
  CHECK(variance == Approx((v - low) * (high - v)).margin(2e-6 * range * (high - low)));
  // The decision uses exactly that probability.
  const auto threshold = static_cast<std::uint32_t>(up * 16777216.0);
  if (threshold > 0) CHECK(StochasticRounding::up(p, (threshold - 1) << 8 | 0xffu));
  if (threshold < 0x1000000) CHECK_FALSE(StochasticRounding::up(p, threshold << 8));
}

}  // namespace

TEMPLATE_TEST_CASE_SIG("uniform levels: count, ends, fixed points, unbiased", "", ((int Bits), Bits), 1, 2, 3,
                       4, 5, 6, 7, 8) {
  for (const auto& [low, high] :
       {std::pair{0.0f, 1.0f}, {-3.7f, 11.1f}, {-1e-3f, 2e-3f}, {-1e30f, 1e30f}, {5.0f, 5.1f}}) {
    const UniformLevels<Bits> levels(low, high);
    CHECK(UniformLevels<Bits>::count == 1 << Bits);
    CHECK(levels.value(0) == low);
    CHECK(levels.value(levels.count - 1) == Approx(high));
    // The ends of the range are exact for every word: code 0 and the last code.
    for (const std::uint32_t word : {0u, 0xffffffffu}) {
      CHECK(round_to_code(levels, stochastic, low, word) == 0);
      CHECK(round_to_code(levels, stochastic, high, word) == levels.count - 1);
    }
    if (high - low > 0.5f) check_levels_are_fixed_points(levels);
    for (int k = 0; k <= 64; ++k) check_unbiased(levels, low + (high - low) * static_cast<float>(k) / 64.0f);
  }
}

TEMPLATE_TEST_CASE_SIG("tables of levels: fixed points, unbiased, bisection", "", ((int Bits), Bits), 1, 2, 3,
                       5, 8) {
  typename TableLevels<Bits>::Table table{};
  for (int k = 0; k < 1 << Bits; ++k) table[static_cast<std::size_t>(k)] = static_cast<float>(k * k) - 7.5f;
  const TableLevels<Bits> levels(table);
  check_levels_are_fixed_points(levels);
  const float low = table.front();
  const float high = table.back();
  for (int k = 0; k <= 200; ++k) {
    const float v = low + (high - low) * static_cast<float>(k) / 200.0f;
    check_unbiased(levels, v);
    const Position p = levels.lower(v);
    CHECK((levels.value(p.code) <= v && v <= levels.value(p.code + 1)));
  }
}

TEST_CASE("values outside the levels are moved to their ends") {
  const UniformLevels<3> levels(-1.0f, 1.0f);
  for (const std::uint32_t word : {0u, 0xffffffffu}) {
    CHECK(round_to_code(levels, stochastic, -5.0f, word) == 0);
    CHECK(round_to_code(levels, stochastic, 1e30f, word) == 7);
    CHECK(round_to_code(TableLevels<1>({-1.0f, 2.0f}), stochastic, 3.0f, word) == 1);
  }
}

TEST_CASE("nearest rounding takes the nearer level, ties up") {
  const UniformLevels<2> levels(0.0f, 3.0f);
  CHECK(round_to_code(levels, nearest, 1.49f, 0) == 1);
  CHECK(round_to_code(levels, nearest, 1.5f, 0) == 2);
  CHECK(round_to_code(levels, nearest, 1.51f, 0) == 2);
}

TEST_CASE("a single point has step 0 and is exact") {
  const UniformLevels<4> levels(2.5f, 2.5f);
  CHECK(levels.step() == 0.0f);
  for (const std::uint32_t word : {0u, 0xffffffffu})
    CHECK(levels.value(round_to_code(levels, stochastic, 2.5f, word)) == 2.5f);
}

TEST_CASE("levels refuse what cannot be levels") {
  CHECK_THROWS_AS(UniformLevels<2>(1.0f, 0.0f), Error);
  CHECK_THROWS_AS(UniformLevels<2>(0.0f, std::numeric_limits<float>::infinity()), Error);
  CHECK_THROWS_AS(UniformLevels<2>(std::nanf(""), 1.0f), Error);
  CHECK_THROWS_AS(UniformLevels<2>(-3e38f, 3e38f), Error);
  CHECK_THROWS_AS(TableLevels<1>({1.0f, 0.0f}), Error);
  CHECK_THROWS_AS(TableLevels<1>({0.0f, std::nanf("")}), Error);
}

TEST_CASE("stochastic rounding is unbiased through the generator, at every fraction") {
  // 64 fractions x 40,000 words; the bound is 5.7 standard errors: family-wise error 64 * 1.2e-8 < 1e-6.
  const Random random(5);
  const UniformLevels<2> levels(0.0f, 3.0f);
  for (int k = 0; k < 64; ++k) {
    const float v = 3.0f * (static_cast<float>(k) + 0.02f) / 64.0f;
    const int n = 40'000;
    double sum = 0.0;
    for (int i = 0; i < n; ++i)
      sum += levels.value(round_to_code(
          levels, stochastic, v,
          random.word(Stream::samples, 0, static_cast<std::uint32_t>(k), static_cast<std::uint64_t>(i))));
    const double below = std::floor(v);
    const double deviation = std::sqrt((v - below) * (below + 1.0 - v) / n);
    CHECK(std::abs(sum / n - v) < 5.7 * deviation);
  }
}

TEST_CASE("column statistics equal a direct computation; constant columns have deviation exactly 0") {
  RowMajorMatrix a(2500, 3);
  for (Index i = 0; i < a.rows(); ++i) {
    a(i, 0) = 1e6f + static_cast<float>(i % 17);
    a(i, 1) = 0.1f;
    a(i, 2) = static_cast<float>((i * 7919) % 1000) - 300.0f;
  }
  const auto columns = column_statistics(MatrixRef(a));
  for (Index j = 0; j < 3; ++j) {
    const Eigen::VectorXd column = a.col(j).cast<double>();
    const double mean = column.mean();
    CHECK(columns[j].mean == Approx(mean).epsilon(1e-12));
    CHECK(columns[j].deviation ==
          Approx(std::sqrt((column.array() - mean).square().mean())).epsilon(1e-9).margin(1e-12));
    CHECK(columns[j].min == a.col(j).minCoeff());
    CHECK(columns[j].max == a.col(j).maxCoeff());
  }
  CHECK(columns[1].deviation == 0.0);
  CHECK(columns[1].mean == static_cast<double>(0.1f));
  CHECK(standardization_of(columns).scale[1] == 1.0);
}

TEST_CASE("statistics name the place of a value that is not finite") {
  RowMajorMatrix a = RowMajorMatrix::Zero(4, 3);
  a(2, 1) = std::nanf("");
  try {
    (void)column_statistics(MatrixRef(a));
    FAIL("no error");
  } catch (const Error& error) {
    CHECK(std::string(error.what()).find("row 3, column 2") != std::string::npos);
  }
  a(2, 1) = -std::numeric_limits<float>::infinity();
  CHECK_THROWS_AS(column_statistics(MatrixRef(a)), Error);
  CHECK_THROWS_AS(column_statistics(MatrixRef(RowMajorMatrix(0, 3))), Error);
}

TEST_CASE("label statistics tell two values from one and from many") {
  const auto statistics = [](std::vector<float> y) { return label_statistics(y); };
  CHECK(statistics({1, 2, 1, 2}).two_values);
  CHECK_FALSE(statistics({1, 1, 1}).two_values);
  CHECK_FALSE(statistics({1, 2, 3}).two_values);
  CHECK_THROWS_AS(statistics({1, std::nanf("")}), Error);
}

TEST_CASE("symmetric vector quantization: support, scale, unbiasedness, zero vector") {
  const Random random(9);
  for (const int bits : {1, 2, 3, 5, 8}) {
    const int levels = symmetric_levels(bits);
    std::vector<float> v{0.3f, -0.9f, 0.0f, 1.0f, -1.0f, 0.5f, 1e-4f};
    const auto n = static_cast<Index>(v.size());
    std::vector<double> mean(v.size(), 0.0);
    std::vector<std::int8_t> codes(v.size());
    const int repeats = 20'000;
    float scale = 0.0f;
    for (int k = 0; k < repeats; ++k) {
      scale = 1.0f / static_cast<float>(levels);
      round_symmetric(
          v.data(), n,
          {random, {Stream::model, static_cast<std::uint64_t>(k), 0, 0}, scale, levels, bits == 1},
          codes.data());
      for (std::size_t j = 0; j < v.size(); ++j) {
        if (std::abs(codes[j]) > levels) FAIL("code out of range");
        mean[j] += static_cast<double>(scale) * codes[j] / repeats;
      }
    }
    CHECK(scale == Approx(1.0f / static_cast<float>(levels)));
    // |Q - v| <= scale (2 scale for one bit): 6 standard errors of a bounded variable; 35 checks, family-wise
    // 1e-7.
    const double bound = 6.0 * (bits == 1 ? 1.0 : 0.5) * static_cast<double>(scale) / std::sqrt(repeats);
    for (std::size_t j = 0; j < v.size(); ++j) CHECK(std::abs(mean[j] - v[j]) < bound + 1e-6);
    if (bits > 1) CHECK(codes[2] == 0);
  }
  // What lies on a level stays there, what lies beyond the last one is clamped.
  const std::vector<float> fixed{-7.0f, -1.0f, 0.0f, 3.0f, 7.0f, 9.0f, -11.0f};
  std::vector<std::int8_t> codes(fixed.size());
  round_symmetric(fixed.data(), 7, {random, {Stream::residual, 3, 0, 0}, 1.0f, 7}, codes.data());
  CHECK(codes == std::vector<std::int8_t>{-7, -1, 0, 3, 7, 7, -7});
}
