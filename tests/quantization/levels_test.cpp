// The searches for levels: against brute force, against a simple solver, against each other, and at their
// edges.

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>
#include <zipml/base/random.hpp>
#include <zipml/packing/fitted_levels.hpp>
#include <zipml/quantization/adaquant.hpp>
#include <zipml/quantization/lloyd_max.hpp>
#include <zipml/quantization/optimal_levels.hpp>
#include <zipml/quantization/value_histogram.hpp>

#include "catch.hpp"

using namespace zipml;

namespace {

/// Uniform in (0, 1), from a counter.
double uniform(std::uint64_t seed, std::uint64_t i) {
  const std::uint32_t word = Random(seed).word(Stream::generated, 0, static_cast<std::uint32_t>(i % 4), i);
  return (static_cast<double>(word) + 0.5) / 4294967296.0;
}
double normal(std::uint64_t seed, std::uint64_t i) {
  return std::sqrt(-2.0 * std::log(uniform(seed, 2 * i))) *
         std::cos(6.283185307179586 * uniform(seed, 2 * i + 1));
}

/// Data of many kinds, sorted.
constexpr int kinds = 9;
std::vector<double> sample(int kind, int n, std::uint64_t seed) {
  std::vector<double> v;
  for (int i = 0; i < n; ++i) {
    const auto k = static_cast<std::uint64_t>(i);
    const double z = normal(seed, k);
    switch (kind) {
      case 0:
        v.push_back(z);
        break;
      case 1:  // a lattice: ties everywhere
        v.push_back(i);
        break;
      case 2:  // few distinct values
        v.push_back(std::floor(7.0 * uniform(seed, k)));
        break;
      case 3:  // a heavy tail
        v.push_back(std::pow(z, 5.0));
        break;
      case 4:  // far from zero
        v.push_back(1e6 + z);
        break;
      case 5:  // clusters
        v.push_back(100.0 * std::floor(3.0 * uniform(seed, k)) + 0.01 * z);
        break;
      case 6:  // duplicates
        v.push_back(std::round(4.0 * z));
        break;
      case 7:  // constant
        v.push_back(3.0);
        break;
      default:  // a Cauchy tail
        v.push_back(std::tan(3.14159 * (uniform(seed, k) - 0.5)));
        break;
    }
  }
  std::sort(v.begin(), v.end());
  return v;
}

/// What stochastic rounding of weighted values to a table costs, by its definition.
double variance_on(const std::vector<double>& values, const std::vector<double>& weights,
                   const std::vector<double>& levels) {
  double sum = 0.0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto above = std::lower_bound(levels.begin(), levels.end(), values[i]);
    if (above == levels.end()) return std::numeric_limits<double>::infinity();
    if (*above == values[i]) continue;
    if (above == levels.begin()) return std::numeric_limits<double>::infinity();
    sum += (weights.empty() ? 1.0 : weights[i]) * (values[i] - *(above - 1)) * (*above - values[i]);
  }
  return sum;
}
double variance_on(const std::vector<double>& values, const List<double>& levels) {
  return variance_on(values, {}, {levels.begin(), levels.end()});
}
double error_on(const std::vector<double>& values, const List<double>& levels) {
  double sum = 0.0;
  for (const double v : values) {
    double least = std::numeric_limits<double>::max();
    for (const double l : levels) least = std::min(least, (v - l) * (v - l));
    sum += least;
  }
  return sum;
}

/// The table of ZipML 2017, section 3.1: O(L n^2), costs by their definition. Levels on the values.
double reference_variance(const std::vector<double>& values, const std::vector<double>& weights, int levels) {
  const std::size_t n = values.size();
  std::vector<double> best(n, std::numeric_limits<double>::infinity());
  best[0] = 0.0;
  for (int k = 1; k < levels; ++k) {
    std::vector<double> next = best;  // a level fewer is allowed
    for (std::size_t m = 1; m < n; ++m)
      for (std::size_t j = 0; j < m; ++j) {
        double cost = 0.0;
        for (std::size_t i = j + 1; i < m; ++i)
          cost += (weights.empty() ? 1.0 : weights[i]) * (values[i] - values[j]) * (values[m] - values[i]);
        next[m] = std::min(next[m], best[j] + cost);
      }
    best = next;
  }
  return best[n - 1];
}
double reference_error(const std::vector<double>& values, int levels) {
  const std::size_t n = values.size();
  std::vector<double> best(n + 1, std::numeric_limits<double>::infinity());
  best[0] = 0.0;
  for (int k = 1; k <= levels; ++k) {
    std::vector<double> next = best;
    for (std::size_t m = 1; m <= n; ++m)
      for (std::size_t j = 0; j < m; ++j) {
        double mean = 0.0;
        for (std::size_t i = j; i < m; ++i) mean += values[i] / static_cast<double>(m - j);
        double cost = 0.0;
        for (std::size_t i = j; i < m; ++i) cost += (values[i] - mean) * (values[i] - mean);
        next[m] = std::min(next[m], best[j] + cost);
      }
    best = next;
  }
  return best[n];
}

LevelCandidates candidates_of(const std::vector<double>& values, const std::vector<double>& weights = {}) {
  return LevelCandidates::of_sorted(values, weights);
}

}  // namespace

TEST_CASE("the optimum equals brute force over all tables") {
  for (int kind = 0; kind < kinds; ++kind)
    for (int n = 2; n <= 12; ++n) {
      const auto v = sample(kind, n, 7);
      const double spread = v.back() - v.front();
      for (int levels = 2; levels <= 7; ++levels) {
        double least = std::numeric_limits<double>::infinity();
        for (unsigned inner = 0; inner < 1u << n; ++inner) {  // any set of values that holds both ends
          if ((inner & 1u) == 0 || (inner >> (n - 1) & 1u) == 0 || __builtin_popcount(inner) > levels)
            continue;
          std::vector<double> table;
          for (int i = 0; i < n; ++i)
            if ((inner >> i & 1u) != 0) table.push_back(v[static_cast<std::size_t>(i)]);
          table.erase(std::unique(table.begin(), table.end()), table.end());
          least = std::min(least, variance_on(v, {}, table));
        }
        const FoundLevels found = find_optimal_levels(candidates_of(v), levels);
        INFO("kind " << kind << " n " << n << " levels " << levels);
        CHECK(found.cost == Approx(least).margin(1e-9 * spread * spread));
        CHECK(variance_on(v, found.levels) == Approx(least).margin(1e-9 * spread * spread));
        CHECK(static_cast<int>(found.levels.size()) <= levels);
      }
    }
}

TEST_CASE("the optimum equals the reference solver, weights and all") {
  for (int kind = 0; kind < kinds; ++kind)
    for (const int n : {30, 90})
      for (const bool weighted : {false, true}) {
        const auto v = sample(kind, n, 11);
        std::vector<double> w;
        if (weighted)
          for (int i = 0; i < n; ++i) w.push_back(0.1 + 10.0 * uniform(12, static_cast<std::uint64_t>(i)));
        const LevelCandidates candidates = candidates_of(v, w);
        const double spread = v.back() - v.front();
        double before = std::numeric_limits<double>::infinity();
        for (const int levels : {2, 3, 5, 8, 16, 33}) {
          const FoundLevels found = find_optimal_levels(candidates, levels);
          INFO("kind " << kind << " n " << n << " levels " << levels << " weighted " << weighted);
          const double expected = reference_variance(v, w, levels);
          CHECK(found.cost == Approx(expected).margin(1e-10 * n * spread * spread));
          CHECK(variance_on(v, w, {found.levels.begin(), found.levels.end()}) ==
                Approx(expected).margin(1e-10 * n * spread * spread));
          CHECK(found.levels.front() == v.front());
          CHECK(found.levels.back() == v.back());
          CHECK(found.cost <= before + 1e-10 * n * spread * spread);  // more levels never cost more
          before = found.cost;
        }
      }
}

TEST_CASE("weights are repetition") {
  const auto v = sample(0, 60, 3);
  std::vector<double> w;
  std::vector<double> repeated;
  for (std::size_t i = 0; i < v.size(); ++i) {
    w.push_back(static_cast<double>(1 + i % 4));
    for (std::size_t k = 0; k <= i % 4; ++k) repeated.push_back(v[i]);
  }
  for (const Index levels : {2, 4, 9}) {
    const FoundLevels a = find_optimal_levels(candidates_of(v, w), levels);
    const FoundLevels b = find_optimal_levels(candidates_of(repeated), levels);
    CHECK(a.levels == b.levels);
    CHECK(a.cost == Approx(b.cost));
  }
}

TEST_CASE("the cost of an interval satisfies the quadrangle inequality and never grows when it shrinks") {
  for (int kind = 0; kind < kinds; ++kind) {
    const LevelCandidates c = candidates_of(sample(kind, 25, 5));
    const double tolerance = 1e-9 * std::max(1.0, c.rounding_variance(0, c.size() - 1));
    Index broken = 0;
    for (Index i = 0; i < c.size(); ++i)
      for (Index j = i; j < c.size(); ++j)
        for (Index k = j; k < c.size(); ++k)
          for (Index l = k; l < c.size(); ++l) {
            const bool crossing = c.rounding_variance(i, k) + c.rounding_variance(j, l) <=
                                  c.rounding_variance(i, l) + c.rounding_variance(j, k) + tolerance;
            const bool monotone = c.rounding_variance(j, k) <= c.rounding_variance(i, l) + tolerance;
            broken += crossing && monotone ? 0 : 1;
          }
    CHECK(broken == 0);
  }
}

TEST_CASE("no random table is better") {
  for (const int kind : {0, 3, 8}) {
    const auto v = sample(kind, 500, 21);
    const FoundLevels found = find_optimal_levels(candidates_of(v), 8);
    double best = std::numeric_limits<double>::infinity();
    for (std::uint64_t trial = 0; trial < 10'000; ++trial) {
      std::vector<double> table{v.front(), v.back()};
      for (std::uint64_t k = 0; k < 6; ++k)
        table.push_back(
            v[static_cast<std::size_t>(uniform(23, 6 * trial + k) * static_cast<double>(v.size()))]);
      std::sort(table.begin(), table.end());
      table.erase(std::unique(table.begin(), table.end()), table.end());
      best = std::min(best, variance_on(v, {}, table));
    }
    CHECK(found.cost <= best * (1.0 + 1e-12));
  }
}

TEST_CASE("large inputs go through a coarse selection: the same optimum") {
  // 60,000 values at 3 levels: coarse nodes are used, and the one inner level can be tried everywhere.
  for (const int kind : {0, 1, 3, 4, 8}) {
    const auto v = sample(kind, 60'000, 31);
    const LevelCandidates c = candidates_of(v);
    double least = std::numeric_limits<double>::infinity();
    for (Index m = 1; m + 1 < c.size(); ++m)
      least = std::min(least, c.rounding_variance(0, m) + c.rounding_variance(m, c.size() - 1));
    INFO("kind " << kind);
    CHECK(find_optimal_levels(c, 3).cost == Approx(least).epsilon(1e-12));
    // Four inner levels: no move of any one of them helps.
    const FoundLevels found = find_optimal_levels(c, 6);
    CHECK(variance_on(v, found.levels) == Approx(found.cost).epsilon(1e-7));
    for (std::size_t k = 1; k + 1 < found.levels.size(); ++k) {
      const Index below = c.find(found.levels[k - 1]);
      const Index above = c.find(found.levels[k + 1]);
      const Index own = c.find(found.levels[k]);
      REQUIRE(own > 0);
      const double now = c.rounding_variance(below, own) + c.rounding_variance(own, above);
      double least_here = now;
      for (Index m = below + 1; m < above; ++m)
        least_here = std::min(least_here, c.rounding_variance(below, m) + c.rounding_variance(m, above));
      CHECK(least_here >= now * (1.0 - 1e-9));
    }
  }
}

TEST_CASE("a lattice has a closed form, and its ties do not cost time or exactness") {
  std::vector<double> v;
  for (int i = 0; i <= 100'000; ++i) v.push_back(i);
  const LevelCandidates c = candidates_of(v);
  for (const Index levels : {4, 8, 256, 1000}) {
    // g points apart: (g^3 - g) / 6 an interval, gaps as equal as integers can be.
    const Index intervals = levels - 1;
    const Index gap = 100'000 / intervals;
    const auto cost = [](Index g) { return static_cast<double>((g * g * g - g) / 6); };
    const Index longer = 100'000 - gap * intervals;
    const double expected =
        static_cast<double>(longer) * cost(gap + 1) + static_cast<double>(intervals - longer) * cost(gap);
    CHECK(find_optimal_levels(c, levels).cost == Approx(expected).epsilon(1e-12));
  }
}

TEST_CASE("where more levels cost no less, fewer come back, and soon") {
  // Positions without values between a few that weigh: bins of a grid.
  for (const int stride : {1, 3, 10, 100}) {
    const LevelCandidates c(1000, [stride](Index i) {
      return LevelCandidates::Bin{static_cast<double>(i), i % stride == 0 ? 1.0 : 0.0};
    });
    const Index distinct = 999 / stride + 1;
    for (const Index levels : {3, 11, 90, 101, 400}) {
      const FoundLevels found = find_optimal_levels(c, levels);
      INFO("stride " << stride << " levels " << levels);
      CHECK(static_cast<Index>(found.levels.size()) <= levels);
      CHECK((found.cost == 0.0) == (levels >= distinct + (999 % stride == 0 ? 0 : 1)));
    }
  }
}

TEST_CASE("the scale of values and weights does not matter") {
  std::vector<double> v;
  for (int i = 0; i < 12'000; ++i) v.push_back(std::pow(i, 1.5));
  const FoundLevels expected = find_optimal_levels(candidates_of(v), 16);
  for (const double scale : {1e-94, 1e-30, 1e30, 1e70}) {
    std::vector<double> scaled;
    for (const double x : v) scaled.push_back(x * scale);
    const FoundLevels found = find_optimal_levels(candidates_of(scaled), 16);
    CHECK(found.levels.size() == 16);
    CHECK(found.cost / scale / scale == Approx(expected.cost));
  }
  for (const double weight : {1e-200, 1e200})
    CHECK(find_optimal_levels(candidates_of(v, std::vector<double>(v.size(), weight)), 16).cost / weight ==
          Approx(expected.cost));
  // A cluster that lies so far from the median that its costs are rounding alone: some table, soon.
  std::vector<double> far(51, 0.0);
  for (int i = 0; i < 49; ++i) far.push_back(1.7e9 + i);
  CHECK(find_optimal_levels(candidates_of(far), 16).levels.size() <= 16);
  CHECK(find_adaquant_levels(candidates_of(far), std::numeric_limits<Index>::max()).levels.size() == 50);
  CHECK(find_optimal_levels(candidates_of(far), std::numeric_limits<Index>::max()).levels.size() == 50);
}

TEST_CASE("a level can be asked for") {
  for (const int kind : {0, 3, 6}) {
    auto v = sample(kind, 40, 41);
    v.push_back(0.0);
    std::sort(v.begin(), v.end());
    const LevelCandidates c = candidates_of(v);
    const Index zero = c.find(0.0);
    REQUIRE(zero >= 0);
    for (const Index levels : {3, 4, 7, 12}) {
      const FoundLevels found = find_optimal_levels_through(c, levels, zero);
      CHECK(std::count(found.levels.begin(), found.levels.end(), 0.0) == 1);
      CHECK(static_cast<Index>(found.levels.size()) <= levels);
      // By the definition: the best of all ways to share the intervals out.
      double least = std::numeric_limits<double>::infinity();
      const auto n = static_cast<std::ptrdiff_t>(v.size());
      const auto at = std::find(v.begin(), v.end(), 0.0) - v.begin();
      const std::vector<double> below(v.begin(), v.begin() + at + 1);
      const std::vector<double> above(v.begin() + at, v.begin() + n);
      for (Index k = 1; k <= levels - 2; ++k)
        least = std::min(least, reference_variance(below, {}, static_cast<int>(k) + 1) +
                                    reference_variance(above, {}, static_cast<int>(levels - k)));
      CHECK(found.cost == Approx(least).margin(1e-9));
      CHECK(find_optimal_levels(c, levels).cost <= found.cost + 1e-9);
    }
  }
}

TEST_CASE("ADAQUANT keeps its promise") {
  for (int kind = 0; kind < kinds; ++kind)
    for (const int n : {10, 57, 400, 5000}) {
      const auto v = sample(kind, n, 51);
      const LevelCandidates c = candidates_of(v);
      for (const Index intervals : {1, 2, 5, 16}) {
        const FoundLevels greedy = find_adaquant_levels(c, intervals);
        INFO("kind " << kind << " n " << n << " intervals " << intervals);
        CHECK(static_cast<Index>(greedy.levels.size()) <= 4 * intervals + 1);
        const double optimum = find_optimal_levels(c, intervals + 1).cost;
        const double spread = v.back() - v.front();
        CHECK(greedy.cost <= 2.0 * optimum + 1e-9 * spread * spread);
        CHECK(variance_on(v, greedy.levels) == Approx(greedy.cost).margin(1e-6 * spread * spread));
      }
    }
}

TEST_CASE("Lloyd-Max levels are those of least squared error") {
  for (int kind = 0; kind < kinds; ++kind)
    for (const int n : {9, 40}) {
      const auto v = sample(kind, n, 61);
      const double spread = v.back() - v.front();
      for (const int levels : {1, 2, 3, 6, 16}) {
        const FoundLevels found = find_lloyd_max_levels(candidates_of(v), levels);
        INFO("kind " << kind << " n " << n << " levels " << levels);
        const double expected = reference_error(v, levels);
        CHECK(found.cost == Approx(expected).margin(1e-9 * n * spread * spread + 1e-20));
        CHECK(error_on(v, found.levels) == Approx(expected).margin(1e-9 * n * spread * spread + 1e-20));
      }
    }
  // Of the normal distribution, 16 levels: 0.009501 (Max 1960, table 1). 200,000 draws: the sample's own
  // optimum is within 1 % of it.
  std::vector<double> v;
  for (std::uint64_t i = 0; i < 200'000; ++i) v.push_back(normal(71, i));
  std::sort(v.begin(), v.end());
  CHECK(find_lloyd_max_levels(candidates_of(v), 16).cost / 200'000.0 == Approx(0.009501).epsilon(0.01));
}

TEST_CASE("a histogram gives nearly the exact optimum, whatever the tails") {
  for (const int kind : {0, 3, 4, 5, 8}) {
    std::vector<double> v = sample(kind, 100'000, 81);
    ValueHistogram histogram(kind == 4 ? 1e6f : 0.0f);
    std::vector<double> exact;
    for (const double x : v) {
      histogram.add(static_cast<float>(x));
      exact.push_back(static_cast<double>(static_cast<float>(x)));
    }
    const LevelCandidates binned = histogram.candidates();
    const LevelCandidates points = candidates_of(exact);
    CHECK(binned.total_weight() == 100'000.0);
    for (const Index levels : {4, 16}) {
      const FoundLevels found = find_optimal_levels(binned, levels);
      const double least = find_optimal_levels(points, levels).cost;
      INFO("kind " << kind << " levels " << levels);
      CHECK(variance_on(exact, found.levels) == Approx(found.cost).epsilon(1e-6));  // exact on its edges
      CHECK(found.cost >= least * (1.0 - 1e-9));
      // Clusters far narrower than their distance from the centre are seen as wide as a bin there, 1/128 of
      // that.
      const double unresolved = kind == 5 ? 100'000.0 * 0.5 * 0.5 : 0.0;
      CHECK(found.cost <= least * (levels == 4 || kind == 0 ? 1.0002 : 1.002) + unresolved);
    }
  }
}

TEST_CASE("a histogram does not care how its values came") {
  const auto v = sample(3, 30'000, 91);
  const auto value = [&v](std::size_t i) { return static_cast<float>(v[i]); };
  ValueHistogram whole(0.5f);
  for (std::size_t i = 0; i < v.size(); ++i) whole.add(value(i));
  ValueHistogram merged(0.5f);
  for (const std::size_t part : {2u, 0u, 1u}) {
    ValueHistogram one(0.5f);
    std::vector<float> backwards;
    for (std::size_t i = v.size(); i-- > 0;)
      if (i % 3 == part) backwards.push_back(value(i));
    one.add(backwards.data(), static_cast<Index>(backwards.size()));
    merged.merge(one);
  }
  CHECK(merged.count() == whole.count());
  CHECK(merged.lowest() == whole.lowest());
  CHECK(merged.highest() == whole.highest());
  for (const Index levels : {3, 16, 200}) {
    const FoundLevels a = find_optimal_levels(whole.candidates(), levels);
    const FoundLevels b = find_optimal_levels(merged.candidates(), levels);
    CHECK(a.levels == b.levels);
    CHECK(a.cost == b.cost);
  }
  CHECK_THROWS_AS(whole.merge(ValueHistogram(0.0f)), Error);
}

TEST_CASE("a histogram spills what its counters cannot hold") {
  // 2^24 values are more than a counter's 24 bits count; three distinct ones and one that breaks the list of
  // distinct values are all in one bin.
  ValueHistogram histogram;
  std::vector<float> few;
  for (int i = 0; i < 1 << 20; ++i) few.push_back(1.0f + static_cast<float>(i % 300) * 0x1p-23f);
  for (int k = 0; k < 17; ++k) histogram.add(few.data(), static_cast<Index>(few.size()));
  CHECK(histogram.count() == Index{17} << 20);
  double cost = 0.0;
  for (const float x : few)
    cost += (static_cast<double>(x) - 1.0) * (1.0 + 299.0 * 0x1p-23 - static_cast<double>(x));
  CHECK(find_optimal_levels(histogram.candidates(), 2).cost == Approx(17.0 * cost).epsilon(1e-9));
  CHECK(histogram.candidates().total_weight() == static_cast<double>(Index{17} << 20));
}

TEST_CASE("few distinct values are exact, and cost nothing when there are no more of them than levels") {
  for (const float offset : {0.0f, 1e6f, -3.5f}) {
    ValueHistogram histogram(offset + 40.0f);
    for (int i = 0; i < 20'000; ++i) histogram.add(offset + static_cast<float>(i * i % 7));
    const FoundLevels enough = find_optimal_levels(histogram.candidates(), 8);
    CHECK(enough.cost == 0.0);
    CHECK(enough.levels.size() == 4);  // squares mod 7: 0, 1, 2, 4
    for (const double level : enough.levels) {
      const double square = level - static_cast<double>(offset);
      CHECK((square == 0.0 || square == 1.0 || square == 2.0 || square == 4.0));
    }
    const FoundLevels lloyd = find_lloyd_max_levels(histogram.candidates(), 8);
    CHECK(lloyd.cost == Approx(0.0).margin(1e-9));
    CHECK(lloyd.levels.size() == 4);
  }
}

TEST_CASE("zero is a level on request") {
  for (const float shift : {0.0f, 2.0f, 50.0f, -50.0f}) {  // inside the range, and beyond either end of it
    ValueHistogram histogram;
    for (std::uint64_t i = 0; i < 5000; ++i) histogram.add(static_cast<float>(normal(95, i)) + shift);
    std::array<float, 8> table{};
    OptimalLevelsPolicy{.zero = true}.fit(histogram, table);
    CHECK(std::count(table.begin(), table.end(), 0.0f) >= 1);
    CHECK(std::is_sorted(table.begin(), table.end()));
    CHECK(table.front() <= histogram.lowest());
    CHECK(table.back() >= histogram.highest());
  }
}

TEST_CASE("what has no levels is a named error") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinity = std::numeric_limits<double>::infinity();
  CHECK_THROWS_WITH(candidates_of({}), Catch::Contains("no values"));
  CHECK_THROWS_WITH(candidates_of({1.0, nan}), Catch::Contains("not finite") && Catch::Contains("place 2"));
  CHECK_THROWS_WITH(candidates_of({1.0, infinity}), Catch::Contains("not finite"));
  CHECK_THROWS_WITH(candidates_of({2.0, 1.0}), Catch::Contains("must not decrease"));
  CHECK_THROWS_WITH(candidates_of({1.0, 2.0}, {1.0}), Catch::Contains("differ in number"));
  CHECK_THROWS_WITH(candidates_of({1.0, 2.0}, {1.0, 0.0}), Catch::Contains("weight"));
  CHECK_THROWS_WITH(candidates_of({1.0, 2.0}, {1.0, nan}), Catch::Contains("weight"));
  CHECK_THROWS_WITH(candidates_of({-1e200, 0.0, 1e200}), Catch::Contains("too far apart"));
  const LevelCandidates two = candidates_of({1.0, 2.0});
  CHECK_THROWS_WITH(find_optimal_levels(two, 1), Catch::Contains("two levels"));
  CHECK_THROWS_WITH(find_lloyd_max_levels(two, 0), Catch::Contains("needs a level"));
  CHECK_THROWS_WITH(find_adaquant_levels(two, 0), Catch::Contains("an interval"));
  CHECK_THROWS_WITH(find_optimal_levels_through(two, 4, 2), Catch::Contains("no such candidate"));
  CHECK_THROWS_WITH(find_optimal_levels(LevelCandidates(), 4), Catch::Contains("no values"));
  CHECK_THROWS_WITH(find_optimal_levels_through(candidates_of({1.0, 2.0, 3.0}), 2, 1),
                    Catch::Contains("at least 3"));
  ValueHistogram histogram;
  CHECK_THROWS_WITH(histogram.add(std::numeric_limits<float>::quiet_NaN()), Catch::Contains("not finite"));
  CHECK_THROWS_WITH(histogram.add(-std::numeric_limits<float>::infinity()), Catch::Contains("not finite"));
  CHECK_THROWS_WITH(ValueHistogram().candidates(), Catch::Contains("no values"));
  CHECK_THROWS_WITH(find_levels_of({}, 4), Catch::Contains("no values"));
  const std::vector<float> broken{1.0f, std::numeric_limits<float>::quiet_NaN()};
  CHECK_THROWS_WITH(find_levels_of(broken, 4), Catch::Contains("not finite"));
}

TEST_CASE("one value, equal values, extreme values: exact answers") {
  CHECK(find_optimal_levels(candidates_of({5.0}), 4).levels == List<double>{5.0});
  CHECK(find_optimal_levels(candidates_of({5.0, 5.0, 5.0}), 4).cost == 0.0);
  CHECK(find_lloyd_max_levels(candidates_of({5.0, 5.0}), 4).levels == List<double>{5.0});
  CHECK(find_adaquant_levels(candidates_of({5.0}), 3).levels == List<double>{5.0});
  const float huge = std::numeric_limits<float>::max();
  ValueHistogram histogram;
  for (const float x : {-huge, -1.0f, 0.0f, std::numeric_limits<float>::denorm_min(), 1.0f, huge})
    histogram.add(x);
  const FoundLevels found = find_optimal_levels(histogram.candidates(), 8);
  CHECK(found.cost == 0.0);
  CHECK(found.levels.size() == 6);
}

TEST_CASE("a vector's levels: sorted when short, binned when long") {
  std::vector<float> v;
  for (std::uint64_t i = 0; i < 20'000; ++i) v.push_back(static_cast<float>(std::pow(normal(99, i), 3.0)));
  for (const std::size_t n : {1'000u, 20'000u}) {
    const FoundLevels found = find_levels_of({v.data(), n}, 16);
    const double exact = find_optimal_levels(LevelCandidates::of_values({v.data(), n}), 16).cost;
    CHECK(found.cost <= exact * (n > 4096 ? 1.002 : 1.0));
    CHECK(found.levels.size() == 16);
  }
  for (std::size_t i = 0; i < v.size(); ++i)
    v[i] = 1000.0f + static_cast<float>(uniform(98, i));  // far from zero
  CHECK(find_levels_of(v, 16).cost <= 1.01 * find_optimal_levels(LevelCandidates::of_values(v), 16).cost);
}
