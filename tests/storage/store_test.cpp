// Packed and dense stores: exact bits, order, decoding, determinism.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <vector>
#include <zipml/base/visit_bits.hpp>
#include <zipml/estimators/quantize.hpp>

#include "catch.hpp"
#include "message.hpp"

using namespace zipml;

namespace {

/// Uniform data from the library's own counters: no libm, so that golden hashes hold everywhere.
RowMajorMatrix uniform_matrix(Index n, Index d, std::uint64_t seed = 1) {
  const Random random(seed);
  RowMajorMatrix a(n, d);
  for (Index i = 0; i < n; ++i)
    for (Index j = 0; j < d; ++j)
      a(i, j) = static_cast<float>(random.word(Stream::generated, 0, static_cast<std::uint32_t>(j),
                                               static_cast<std::uint64_t>(i)) >>
                                   8) /
                    16777216.0f * 4.0f -
                1.5f;
  return a;
}

std::uint64_t fnv1a(const Buffer<std::uint8_t>& bytes) {
  std::uint64_t hash = 14695981039346656037ull;
  for (const std::uint8_t byte : bytes) hash = (hash ^ byte) * 1099511628211ull;
  return hash;
}

}  // namespace

static_assert(SampleStore<PackedStore<SeparateDraws<1>, AffineDecoder>>);
static_assert(SampleStore<PackedStore<SeparateDraws<2>, TableDecoder>>);

TEST_CASE("planes split a code into its bits") {
  for (int bits = 1; bits <= 8; ++bits) {
    const PlaneList list = PlaneList::of_code(bits);
    int total = 0;
    int covered = 0;
    for (int p = 0; p < list.count; ++p) {
      CHECK(list[p].start == total);
      total += list[p].width;
      covered |= ((1 << list[p].width) - 1) << list[p].shift;
    }
    CHECK(total == bits);
    CHECK(covered == (1 << bits) - 1);
  }
}

TEST_CASE("a store wastes at most 3 % of its bits at 10,000 rows, every width, one draw and two") {
  const Index n = 10'000;
  for (const Index d : {1, 8, 90, 1000}) {
    const RowMajorMatrix a = uniform_matrix(n, d);
    const Eigen::VectorXf y = Eigen::VectorXf::Zero(n);
    for (int bits = 1; bits <= 8; ++bits) {
      if (d == 1000 && bits != 3) continue;  // packing 10 million values a width: one width stands for all
      const auto check = [&](const auto& store, double stored) {
        CHECK(store.stored_bits() == stored);
        const double exact = static_cast<double>(n * d) * stored / 8.0;
        CHECK(static_cast<double>(store.store_bytes()) <= 1.03 * exact);
        CHECK(static_cast<double>(store.store_bytes()) >= exact);
        CHECK(store.label_bytes() == 4 * n);
      };
      check(visit_bits(bits, [&](auto b) { return quantize<b()>(a, y, naive); }), bits);
      check(visit_bits(bits, [&](auto b) { return quantize<b()>(a, y, double_sampling); }),
            bits == 1 ? 2 : bits + 2);
      check(visit_bits(bits, [&](auto b) { return quantize<b()>(a, y, sum_code); }), bits + 1);
      check(visit_bits(bits, [&](auto b) { return quantize<b()>(a, y, variance_corrected); }), bits);
      if (bits <= 7)
        check(visit_bits(bits, [&](auto b) { return quantize<(b() <= 7 ? b() : 7)>(a, y, sum_code_of<4>); }),
              bits + 2);
      check(visit_bits(bits,
                       [&](auto b) {
                         return pack<SeparateDraws<3>>(MatrixRef(a), VectorRef(y), uniform_levels, stochastic,
                                                       b(), {});
                       }),
            bits == 1 ? 3 : bits + 3);
    }
  }
}

TEST_CASE("codes are those of the rounding, value by value, in the order of the permutation") {
  for (const Index n : {1, 7, 8, 9, 63, 64, 65, 200})
    for (const Index d : {1, 3, 4, 5, 33}) {
      const RowMajorMatrix a = uniform_matrix(n, d);
      const Eigen::VectorXf y = Eigen::VectorXf::LinSpaced(n, 0.0f, 1.0f);
      const auto store = quantize<3>(a, y, double_sampling, {.seed = 5});
      const auto columns = column_statistics(MatrixRef(a));
      const Random random(5);
      bool equal = true;
      for (Index i = 0; i < n; ++i) {
        const Index original = store.row_id(i);
        equal = equal && store.labels()[i] == y[original];
        for (Index j = 0; j < d; ++j)
          for (std::uint32_t draw = 0; draw < 2; ++draw) {
            const UniformLevels<3> levels(columns[j].min, columns[j].max);
            const std::uint32_t word = random.word(Stream::samples, draw, static_cast<std::uint32_t>(j),
                                                   static_cast<std::uint64_t>(original));
            const int code = round_to_code(levels, stochastic, a(original, j), word);
            equal = equal && store.code(i, j, static_cast<int>(draw)) == code;
          }
      }
      CHECK(equal);
    }
}

TEST_CASE("decoded values are within a step of the standardised ones, for every scaling") {
  const Index n = 300;
  const Index d = 11;
  const RowMajorMatrix a = uniform_matrix(n, d);
  const Eigen::VectorXf y = Eigen::VectorXf::Zero(n);
  const DenseStore dense = quantize<32>(a, y, full_precision, {.seed = 3});
  for (const Scaling scaling :
       {Scaling::column_range, Scaling::column_max_abs, Scaling::row_range, Scaling::row_max_abs}) {
    const auto store = quantize<6>(a, y, naive, {.seed = 3, .scaling = scaling});
    double error = 0.0;
    double worst = 0.0;
    std::vector<float> row(static_cast<std::size_t>(d));
    for (Index i = 0; i < n; ++i) {
      store.decode_row(i, 0, row.data());
      for (Index j = 0; j < d; ++j) {
        CHECK(row[static_cast<std::size_t>(j)] == store.value(i, j));
        const double e = static_cast<double>(store.value(i, j)) - static_cast<double>(dense.value(i, j));
        error += e;
        worst = std::max(worst, std::abs(e));
      }
    }
    // Columns span about 3.5 deviations: a step is at most 4/63.
    CHECK(worst < 4.0 / 63.0);
    // n d errors of deviation at most 0.5 * 4/63, 6 standard errors.
    CHECK(std::abs(error / (n * d)) < 6.0 * 0.5 * 4.0 / 63.0 / std::sqrt(n * d));
  }
}

TEST_CASE("max-abs scaling is symmetric about the mean") {
  const RowMajorMatrix a = uniform_matrix(100, 2);
  const auto store = quantize<4>(a, Eigen::VectorXf::Zero(100), naive, {.scaling = Scaling::column_max_abs});
  for (Index j = 0; j < 2; ++j) {
    const double low = store.samples().levels.value(0, j, 0);
    const double high = store.samples().levels.value(0, j, 15);
    CHECK(low == Approx(-high).epsilon(1e-5));
  }
}

TEST_CASE("constant columns and rows are exact") {
  RowMajorMatrix a = uniform_matrix(50, 3);
  a.col(1).setConstant(0.1f);
  const auto standardised = quantize<2>(a, Eigen::VectorXf::Zero(50), double_sampling);
  const auto raw = quantize<2>(a, Eigen::VectorXf::Zero(50), double_sampling, {.standardize = false});
  for (Index i = 0; i < 50; ++i)
    for (int draw = 0; draw < 2; ++draw) {
      CHECK(standardised.value(i, 1, draw) == 0.0f);
      CHECK(raw.value(i, 1, draw) == 0.1f);
    }
  const RowMajorMatrix rows = RowMajorMatrix::Constant(20, 4, 2.5f);
  const auto by_row = quantize<2>(rows, Eigen::VectorXf::Zero(20), naive,
                                  {.scaling = Scaling::row_range, .standardize = false});
  CHECK(by_row.value(7, 2) == 2.5f);
}

TEST_CASE("two draws of a value lie on neighbouring levels and differ independently") {
  const Index n = 2000;
  const RowMajorMatrix a = uniform_matrix(n, 4);
  const Eigen::VectorXf y = Eigen::VectorXf::Zero(n);
  const auto check = [&](const auto& store) {
    double mean[2] = {};
    double product = 0.0;
    for (Index i = 0; i < n; ++i)
      for (Index j = 0; j < 4; ++j) {
        const int c0 = store.code(i, j, 0);
        const int c1 = store.code(i, j, 1);
        CHECK(std::abs(c0 - c1) <= 1);
        const double exact = (static_cast<double>(a(store.row_id(i), j)) - store.standardization().mean[j]) /
                             store.standardization().scale[j];
        const double e0 = store.value(i, j, 0) - exact;
        const double e1 = store.value(i, j, 1) - exact;
        mean[0] += e0;
        mean[1] += e1;
        product += e0 * e1;
      }
    // Errors are bounded by a step of 1.2: 8,000 of them, six standard errors of means and of the product.
    for (const double m : mean) CHECK(std::abs(m / 8000) < 6.0 * 0.6 / std::sqrt(8000.0));
    CHECK(std::abs(product / 8000) < 6.0 * 0.36 / std::sqrt(8000.0));
  };
  check(quantize<2>(a, y, double_sampling));
  check(quantize<2>(a, y, double_sampling, {.scaling = Scaling::row_range}));  // value by value
}

TEST_CASE("a sum of draws holds their multiset: decoding gives back what separate draws show") {
  // The same seed gives the same draws, whatever the encoding.
  const RowMajorMatrix a = uniform_matrix(150, 9);
  const Eigen::VectorXf y = Eigen::VectorXf::Zero(150);
  const auto check = [&](const auto& apart, const auto& summed, int k, int bits) {
    bool equal = true;
    std::vector<float> draws(static_cast<std::size_t>(k) * 9);
    for (Index i = 0; i < 150; ++i) {
      summed.draws_of(i, 3, draws.data());
      for (Index j = 0; j < 9; ++j) {
        int sum = 0;
        std::vector<float> one, other;
        for (int t = 0; t < k; ++t) {
          sum += apart.code(i, j, t);
          one.push_back(apart.value(i, j, t));
          other.push_back(draws[static_cast<std::size_t>(t * 9 + j)]);
        }
        std::sort(one.begin(), one.end());
        std::sort(other.begin(), other.end());
        equal = equal && summed.code(i, j) == sum && split_sum(sum, k, bits).low <= (1 << bits) - 2;
        for (std::size_t t = 0; t < one.size(); ++t) equal = equal && std::abs(one[t] - other[t]) < 1e-5f;
      }
    }
    CHECK(equal);
  };
  const auto two = [&](auto b) {
    check(pack<SeparateDraws<2>>(MatrixRef(a), VectorRef(y), uniform_levels, stochastic, b(), {}),
          quantize<b()>(a, y, sum_code), 2, b());
    return 0;
  };
  for (int bits = 1; bits <= 8; ++bits) visit_bits(bits, two);
  check(pack<SeparateDraws<4>>(MatrixRef(a), VectorRef(y), uniform_levels, stochastic, 3, {}),
        quantize<3>(a, y, sum_code_of<4>), 4, 3);
  check(pack<SeparateDraws<8>>(MatrixRef(a), VectorRef(y), uniform_levels, stochastic, 6, {.outliers = 0.05}),
        quantize<6>(a, y, sum_code_of<8>, {.outliers = 0.05}), 8, 6);
}

TEST_CASE("arrangements of a count are equally likely") {
  for (const int k : {2, 4, 8})
    for (int up = 0; up <= k; ++up) {
      std::vector<int> seen(256, 0);
      const std::uint32_t words = 1u << 16;
      for (std::uint32_t w = 0; w < words; ++w) ++seen[arrangement(k, up, w << 16 | 0x8000u)];
      int kinds = 0;
      for (unsigned mask = 0; mask < 256; ++mask) {
        if (seen[mask] == 0) continue;
        ++kinds;
        CHECK(__builtin_popcount(mask) == up);
      }
      int binomial = 1;
      for (int t = 0; t < up; ++t) binomial = binomial * (k - t) / (t + 1);
      CHECK(kinds == binomial);
      for (const int count : seen)
        if (count > 0) CHECK(std::abs(count * binomial - static_cast<int>(words)) <= 2 * binomial);
    }
}

TEST_CASE("dbar is the mean variance of the rounding, in full precision, for every scaling and for tables") {
  const RowMajorMatrix a = uniform_matrix(3000, 3);
  const Eigen::VectorXf y = Eigen::VectorXf::Zero(3000);
  const auto uniform = quantize<3>(a, y, variance_corrected);
  const auto sum = quantize<3>(a, y, sum_code);
  const auto sum_by_row = quantize<3>(a, y, sum_code, {.scaling = Scaling::row_range});
  const auto by_row = quantize<3>(a, y, variance_corrected, {.scaling = Scaling::row_range});
  const auto columns = column_statistics(MatrixRef(a));
  TablePerColumn<3> tables;
  for (Index j = 0; j < 3; ++j) {
    TableLevels<3>::Table table;
    for (std::size_t k = 0; k < 8; ++k) {  // denser below
      const auto t = static_cast<float>(k * k) / 49.0f;
      table[k] = columns[j].min + t * (columns[j].max - columns[j].min);
    }
    tables.tables.push_back(TableLevels<3>(table));
  }
  const auto by_table = quantize<3>(a, y, variance_corrected, tables);
  for (Index j = 0; j < 3; ++j) {
    const UniformLevels<3> levels(columns[j].min, columns[j].max);
    double exact = 0.0;
    double exact_table = 0.0;
    double seen_by_row = 0.0;
    for (Index i = 0; i < 3000; ++i) {
      const double scale = uniform.standardization().scale[j];
      const Position p = levels.lower(a(i, j));
      const double f = static_cast<double>(p.fraction);
      exact += f * (1.0 - f) * std::pow(static_cast<double>(levels.step()) / scale, 2.0) / 3000.0;
      const auto& table = tables.tables[static_cast<std::size_t>(j)];
      const Position q = table.lower(a(i, j));
      const double gap = static_cast<double>(table.value(q.code + 1) - table.value(q.code)) / scale;
      exact_table +=
          static_cast<double>(q.fraction) * (1.0 - static_cast<double>(q.fraction)) * gap * gap / 3000.0;
      const double v =
          (static_cast<double>(a(by_row.row_id(i), j)) - by_row.standardization().mean[j]) / scale;
      seen_by_row += std::pow(static_cast<double>(by_row.value(i, j)) - v, 2.0) / 3000.0;
    }
    CHECK(static_cast<double>(uniform.bias[j]) == Approx(exact).epsilon(1e-5));
    CHECK(static_cast<double>(by_table.bias[j]) == Approx(exact_table).epsilon(1e-5));
    // Squared errors of 3,000 values: their mean is within 15 % at more than six standard errors.
    CHECK(static_cast<double>(by_row.bias[j]) == Approx(seen_by_row).epsilon(0.15));
    // w estimates half of it from the draws.
    CHECK(static_cast<double>(sum.bias[j]) == Approx(exact / 2.0).epsilon(0.15));
    CHECK(static_cast<double>(sum_by_row.bias[j]) == Approx(seen_by_row / 2.0).epsilon(0.15));
  }
}

TEST_CASE("levels fitted to a matrix, to a stream of its rows and to parts of it are the same") {
  RowMajorMatrix a = uniform_matrix(3000, 70);  // more columns than are counted together
  a.col(1) = a.col(1).array().cube() + 1e4f;
  a.col(69) = a.col(69).array().square();
  const MatrixRef ref(a);
  const MatrixView& view = ref.view();
  Buffer<ColumnStatistics> columns = column_statistics(view);
  columns[5].max = 0.9f;  // values beyond are outliers: they do not count
  for (const int bits : {1, 3, 8}) {
    const ColumnTables whole = optimal_levels.levels(view, columns, bits);
    LevelsCollector rows(columns.span());
    for (Index i = 0; i < view.rows; ++i) rows.add(view.row(i));
    LevelsCollector odd(columns.span());
    LevelsCollector even(columns.span());
    for (Index i = view.rows; i-- > 0;) (i % 2 == 0 ? even : odd).add(view.row(i));
    odd.merge(even);
    const auto same = [&](const ColumnTables& tables) {
      return tables.count == whole.count &&
             std::equal(whole.values.begin(), whole.values.end(), tables.values.begin());
    };
    CHECK(same(rows.tables(optimal_levels, bits)));
    CHECK(same(odd.tables(optimal_levels, bits)));
    CHECK_FALSE(same(rows.tables(lloyd_max_levels, bits)));
    for (Index j = 0; j < 70; ++j) {
      const LevelTable table = whole[j];
      CHECK(std::is_sorted(table.values, table.values + table.count));
      CHECK(table.value(0) == columns[j].min);
      if (j != 5) CHECK(table.value(table.count - 1) == columns[j].max);
    }
    CHECK(whole[5].value(whole.count - 1) <= 0.9f);
  }
}

TEST_CASE("columns of few values are exact on fitted levels, and their rounding has no variance") {
  const Index n = 2000;
  RowMajorMatrix a(n, 4);
  for (Index i = 0; i < n; ++i) {
    a(i, 0) = static_cast<float>(i * i % 7);     // 4 values
    a(i, 1) = i % 3 == 0 ? -1e6f : 3e-3f;        // 2
    a(i, 2) = 42.0f;                             // 1
    a(i, 3) = static_cast<float>(i % 4) + 1e5f;  // 4, far from zero
  }
  const Eigen::VectorXf y = Eigen::VectorXf::Zero(n);
  const DenseStore dense = quantize<32>(a, y, full_precision);
  const auto check = [&](const auto& store) {
    for (Index i = 0; i < n; ++i)
      for (Index j = 0; j < 4; ++j) REQUIRE(store.value(i, j) == Approx(dense.value(i, j)).margin(1e-6));
    CHECK(store.clamped == 0);
    CHECK(store.outliers.empty());
  };
  const auto corrected = quantize<2>(a, y, variance_corrected, optimal_levels);
  check(corrected);
  for (Index j = 0; j < 4; ++j) CHECK(corrected.bias[j] == 0.0f);
  check(quantize<2>(a, y, sum_code, optimal_levels));
  check(quantize<2>(a, y, naive, lloyd_max_levels, nearest));
  check(quantize<3>(a, y, naive, OptimalLevelsPolicy{.zero = true}));  // 0 comes to the values
}

TEST_CASE("outliers do not reach the levels that are fitted without them") {
  RowMajorMatrix a = uniform_matrix(1000, 2);
  const auto clean =
      quantize<4>(a, Eigen::VectorXf::Zero(1000), variance_corrected, optimal_levels, {.standardize = false});
  for (const float far : {1e9f, 1e30f}) {
    a(7, 1) = far;
    const auto store = quantize<4>(a, Eigen::VectorXf::Zero(1000), variance_corrected, optimal_levels,
                                   {.standardize = false, .outliers = 0.01});
    CHECK(store.outliers.count() >= 1);
    CHECK(store.bias[1] < 1.05f * clean.bias[1]);
    CHECK(store.bias[1] > 0.8f * clean.bias[1]);
  }
  a.col(0).head(500).setConstant(-3e38f);
  a.col(0).tail(500).setConstant(3e38f);
  CHECK_THROWS_WITH(quantize<4>(a, Eigen::VectorXf::Zero(1000), naive, optimal_levels),
                    Catch::Contains("fits float32"));
}

TEST_CASE("a shared table lies on the grid of bytes, is the best one there, and decodes to its levels") {
  const Index n = 4000;
  RowMajorMatrix a = uniform_matrix(n, 4);
  a.col(0) = (2.0f * a.col(0).array() - 1.0f).pow(5.0f);
  a.col(1) = 100.0f * a.col(1).array().pow(3.0f) + 7.0f;
  a.col(3).setConstant(5.0f);
  const Eigen::VectorXf y = Eigen::VectorXf::Zero(n);
  const DenseStore dense = quantize<32>(a, y, full_precision);
  const auto columns = column_statistics(MatrixRef(a));
  for (const int bits : {1, 2, 3, 5, 8}) {
    const SharedLevels levels = shared_optimal_levels.levels(MatrixRef(a), columns, bits);
    CHECK(levels.entries.size() == Index{1} << bits);
    CHECK(levels.entries[0] == 0);
    CHECK(levels.entries[levels.entries.size() - 1] == 255);
    const auto store = visit_bits(
        bits, [&](auto b) { return quantize<b()>(a, y, variance_corrected, shared_optimal_levels); });
    CHECK(store.decoder.entries.empty() ==
          (bits == 1 || bits == 8));  // evenly spaced: codes are their own entries
    for (Index j = 0; j < 4; ++j) {
      const double scale = dense.standardization().scale[j];
      double exact = 0.0;
      for (Index i = 0; i < n; ++i) {
        const auto value = static_cast<float>(static_cast<double>(dense.value(i, j)) * scale +
                                              dense.standardization().mean[j]);
        const Position p = levels[j].lower(value);
        const double gap = static_cast<double>(levels[j].value(p.code + 1) - levels[j].value(p.code)) / scale;
        const double f = static_cast<double>(p.fraction);
        exact += f * (1.0 - f) * gap * gap / static_cast<double>(n);
        // The value is one of its two neighbours.
        const auto level = [&](int code) {
          return (static_cast<double>(levels[j].value(code)) - dense.standardization().mean[j]) / scale;
        };
        const auto got = static_cast<double>(store.value(i, j));
        REQUIRE((got == Approx(level(p.code)).margin(1e-5) || got == Approx(level(p.code + 1)).margin(1e-5)));
      }
      CHECK(static_cast<double>(store.bias[j]) == Approx(exact).epsilon(1e-3).margin(1e-12));
    }
  }
  // Not beaten by other tables on the grid.
  const auto variance = [&](const Buffer<std::uint8_t>& entries) {
    double sum = 0.0;
    const SharedLevels grid = shared_optimal_levels.levels(MatrixRef(a), columns, 3);
    for (Index j = 0; j < 3; ++j)
      for (Index i = 0; i < n; ++i) {
        const double place = (static_cast<double>(a(i, j)) - static_cast<double>(columns[j].min)) /
                             static_cast<double>(grid.grids[j].step());
        Index k = 0;
        while (k + 2 < entries.size() && place > static_cast<double>(entries[k + 1])) ++k;
        sum += std::max(0.0, (place - static_cast<double>(entries[k])) *
                                 (static_cast<double>(entries[k + 1]) - place)) *
               std::pow(static_cast<double>(grid.grids[j].step()) / columns[j].deviation, 2.0);
      }
    return sum;
  };
  const SharedLevels best = shared_optimal_levels.levels(MatrixRef(a), columns, 3);
  const double least = variance(best.entries);
  for (Index k = 1; k < 7; ++k)
    for (const int move : {-9, -1, 1, 9}) {
      Buffer<std::uint8_t> other = best.entries;
      const int moved = other[k] + move;
      if (moved <= other[k - 1] || moved >= other[k + 1]) continue;
      other[k] = static_cast<std::uint8_t>(moved);
      CHECK(variance(other) >= least * (1.0 - 1e-4));
    }
}

TEST_CASE("optimal levels beat uniform ones, Lloyd-Max levels beat both at nearest rounding; none clamps") {
  const Index n = 20'000;
  RowMajorMatrix a = uniform_matrix(n, 3);
  a.col(1) = (2.0f * a.col(1).array() - 1.0f).pow(5.0f);
  a.col(2) = a.col(2).array().pow(4.0f);
  const Eigen::VectorXf y = Eigen::VectorXf::Zero(n);
  const auto uniform = quantize<3>(a, y, variance_corrected);
  const auto optimal = quantize<3>(a, y, variance_corrected, optimal_levels);
  for (const Index j : {1, 2}) CHECK(optimal.bias[j] < 0.75f * uniform.bias[j]);
  CHECK(optimal.bias[0] < 1.02f * uniform.bias[0]);  // uniform data: uniform levels are best
  const DenseStore dense = quantize<32>(a, y, full_precision);
  const auto error = [&](const auto& store, Index j) {
    double sum = 0.0;
    for (Index i = 0; i < n; ++i)
      sum += std::pow(static_cast<double>(store.value(i, j)) - static_cast<double>(dense.value(i, j)), 2.0);
    return sum;
  };
  const auto lloyd = quantize<3>(a, y, naive, lloyd_max_levels, nearest);
  CHECK(lloyd.clamped == 0);
  for (const Index j : {1, 2}) {
    CHECK(error(lloyd, j) < error(quantize<3>(a, y, naive, optimal_levels, nearest), j));
    CHECK(error(lloyd, j) < 0.7 * error(quantize<3>(a, y, naive, uniform_levels, nearest), j));
  }
  const auto apart = quantize<3>(a, y, naive, lloyd_max_levels, nearest, {.outliers = 0.01});
  CHECK(apart.outliers.count() > 0);
  CHECK(apart.outliers.count() <=
        n * 3 / 100);  // what lies beyond the levels, but not beyond the range, is none
}

TEST_CASE("outliers are exact in every representation, and counted") {
  RowMajorMatrix a = uniform_matrix(5000, 7);
  for (Index i = 0; i < 5000; i += 500) a(i + 3, 2) *= 100.0f;
  a.col(4).setZero();
  a(1234, 4) = 3.0f;  // a rare value: the column is clipped to a constant
  const Eigen::VectorXf y = Eigen::VectorXf::Zero(5000);
  const DenseStore dense = quantize<32>(a, y, full_precision);
  const auto ranges = clipping_ranges(MatrixRef(a), 0.01);
  const auto check = [&](const auto& store, double stored) {
    Index outside = 0;
    bool near = true;
    bool exact = true;
    for (Index i = 0; i < 5000; ++i) {
      const Index row = store.row_id(i);
      for (Index j = 0; j < 7; ++j) {
        const bool inside = a(row, j) >= ranges[j].min && a(row, j) <= ranges[j].max;
        outside += inside ? 0 : 1;
        for (int draw = 0; draw < store.draws; ++draw) {
          const double error = std::abs(static_cast<double>(store.value(i, j, draw) - dense.value(i, j)));
          const double step =
              static_cast<double>(ranges[j].max - ranges[j].min) / 7.0 / dense.standardization().scale[j];
          near = near && error <= step * 1.001 + 1e-6;
          if (!inside || j == 4)
            exact = exact && error <= 2e-6 * (1.0 + std::abs(static_cast<double>(dense.value(i, j))));
        }
      }
    }
    CHECK(near);
    CHECK(exact);
    CHECK(outside > 100);
    CHECK(outside <= 50 * 7);
    CHECK(store.outliers.count() == outside);  // no gap is long enough to need a bridge
    CHECK(store.stored_bits() == Approx(stored + 48.0 * static_cast<double>(outside) / 35000.0));
    CHECK(static_cast<double>(store.store_bytes()) <= 1.03 * store.stored_bits() * 35000.0 / 8.0);
    CHECK(store.clamped == 0);
  };
  const QuantizeOptions options{.outliers = 0.01};
  check(quantize<3>(a, y, naive, options), 3);
  check(quantize<3>(a, y, naive, uniform_levels, nearest, options), 3);
  check(quantize<3>(a, y, double_sampling, options), 5);
  check(quantize<3>(a, y, sum_code, options), 4);
  check(quantize<3>(a, y, variance_corrected, options), 3);
  CHECK_THROWS_AS(quantize<3>(a, y, naive, {.outliers = 0.5}), Error);
  CHECK_THROWS_AS(quantize<3>(a, y, naive, {.scaling = Scaling::row_range, .outliers = 0.01}), Error);

  // Tables of the caller's: what lies outside of them is kept when outliers are on.
  const TablePerColumn<1> table{{TableLevels<1>({-1.0f, 1.0f})}};
  const auto kept = quantize<1>(a.col(0), y, naive, table, {.standardize = false, .outliers = 0.01});
  CHECK(kept.clamped == 0);
  CHECK(kept.outliers.count() > 1000);
}

TEST_CASE("outliers bridge long gaps, and are found in any range of rows") {
  const Index cols = 70'000;
  Outliers outliers(cols);
  outliers.add(0, 69'999, 1.0f);
  outliers.add(2, 5, 2.0f);
  outliers.add(2, 66'000, 3.0f);
  outliers.close(4);
  List<Outlier> found;
  outliers.find(2, 1, found);
  std::vector<std::pair<int, int>> places;
  for (const Outlier& o : found)
    if (o.correction != 0.0f) places.emplace_back(o.row, o.column);
  CHECK(places == std::vector<std::pair<int, int>>{{0, 5}, {0, 66'000}});
  outliers.find(1, 1, found);
  CHECK(found.empty());
  outliers.find(0, 4, found);
  CHECK(found.back().row == 2);
  CHECK(found.back().correction == 3.0f);
}

TEST_CASE("clipping finds the shortest interval, on a stream as in memory") {
  const Index n = 8192;
  RowMajorMatrix a = uniform_matrix(n, 3);
  for (Index i = 0; i < n; ++i) {
    a(i, 1) = a(i, 1) * a(i, 1) * a(i, 1);
    if (i % 8 == 0) a(i, 2) -= 10.0f;  // the values that the search probes are not like the others
  }
  for (const double fraction : {0.0, 0.001, 0.01, 0.2}) {
    const auto memory = clipping_ranges(MatrixRef(a), fraction);
    ClippingCollector first(3, n, fraction);
    ClippingCollector second(3, n, fraction);
    for (Index i = n; i-- > 0;) (i % 3 == 0 ? first : second).add(a.data() + 3 * i);
    first.merge(second);
    const auto merged = first.ranges();
    for (Index j = 0; j < 3; ++j) {
      CHECK(memory[j].min == merged[j].min);
      CHECK(memory[j].max == merged[j].max);
      std::vector<float> sorted;
      for (Index i = 0; i < n; ++i) sorted.push_back(a(i, j));
      std::sort(sorted.begin(), sorted.end());
      const auto keep = static_cast<std::size_t>(n - static_cast<Index>(fraction * static_cast<double>(n)));
      double shortest = 1e30;
      for (std::size_t k = 0; k + keep <= sorted.size(); ++k)
        shortest =
            std::min(shortest, static_cast<double>(sorted[k + keep - 1]) - static_cast<double>(sorted[k]));
      CHECK(static_cast<double>(memory[j].max) - static_cast<double>(memory[j].min) == shortest);
    }
  }
}

TEST_CASE("fresh draws: epoch 0 is the frozen store, later epochs draw anew, outliers stay") {
  const Dataset data = make_dataset(uniform_matrix(300, 5), Eigen::VectorXf::Zero(300));
  const auto frozen = quantize<3>(data, sum_code, {.outliers = 0.02});
  const auto fresh = quantize_fresh<3>(data, sum_code, {.outliers = 0.02});
  CHECK(fnv1a(fresh.codes()) == fnv1a(frozen.codes()));
  const auto codes_of = [](const SampleView& samples) {
    Buffer<std::uint8_t> codes(samples.layout.bytes());
    std::copy_n(samples.codes, codes.size(), codes.data());
    return fnv1a(codes);
  };
  const auto drawn = fresh.fresh();
  CHECK(codes_of(drawn->samples()) == fnv1a(frozen.codes()));
  drawn->draw(1);
  const auto hash = codes_of(drawn->samples());
  CHECK(hash != fnv1a(frozen.codes()));
  CHECK(drawn->samples().outliers.entries == frozen.outliers.count());
  drawn->draw(0);
  CHECK(codes_of(drawn->samples()) == fnv1a(frozen.codes()));
  CHECK(drawn->samples().bias[1] == frozen.bias[1]);
  drawn->draw(1);
  CHECK(codes_of(drawn->samples()) == hash);
  CHECK(fnv1a(fresh.codes()) == fnv1a(frozen.codes()));  // the store stays as it is
}

TEST_CASE("tables per column: decoding, clamping counted") {
  RowMajorMatrix a(4, 2);
  a << -2.0f, 10.0f, -1.0f, 11.0f, 0.5f, 12.0f, 5.0f, 30.0f;
  const TablePerColumn<1> tables{{TableLevels<1>({-1.0f, 1.0f}), TableLevels<1>({10.0f, 30.0f})}};
  const auto store = quantize<1>(a, Eigen::VectorXf::Zero(4), naive, tables, nearest, {.standardize = false});
  CHECK(store.clamped == 2);
  for (Index i = 0; i < 4; ++i) {
    const Index original = store.row_id(i);
    CHECK(store.value(i, 0) == (original < 2 ? -1.0f : 1.0f));
    CHECK(store.value(i, 1) == (original < 3 ? 10.0f : 30.0f));
  }
  CHECK_THROWS_AS(quantize<1>(a.leftCols(1), Eigen::VectorXf::Zero(4), naive, tables), Error);
}

TEST_CASE("same seed, same codes: golden hashes") {
  const RowMajorMatrix a = uniform_matrix(123, 17);
  const Eigen::VectorXf y = Eigen::VectorXf::Zero(123);
  CHECK(fnv1a(quantize<3>(a, y, naive, {.seed = 42}).codes()) == 0x9064fcda12118b6aull);
  CHECK(fnv1a(quantize<4>(a, y, double_sampling, {.seed = 42}).codes()) == 0x4d3533ec7440501full);
  CHECK(fnv1a(quantize<8>(a, y, naive, uniform_levels, nearest, {.seed = 42}).codes()) ==
        0x3238393d59c157a6ull);
  CHECK(fnv1a(quantize<3>(a, y, variance_corrected, optimal_levels, {.seed = 42}).codes()) ==
        0x31c60a21645b30d2ull);
  CHECK(fnv1a(quantize<4>(a, y, naive, lloyd_max_levels, nearest, {.seed = 42}).codes()) ==
        0x860504eb3f98ec1full);
  CHECK(fnv1a(quantize<3>(a, y, naive, shared_optimal_levels, {.seed = 42}).codes()) ==
        0x5bdc8f562f0a19c5ull);
  CHECK(fnv1a(quantize<3>(a, y, naive, {.seed = 43}).codes()) !=
        fnv1a(quantize<3>(a, y, naive, {.seed = 42}).codes()));
}

TEST_CASE("float32 and packed stores of one seed hold the same rows in the same places") {
  const RowMajorMatrix a = uniform_matrix(77, 2);
  const auto dense = quantize<32>(a, Eigen::VectorXf::Zero(77), full_precision, {.seed = 4});
  const auto packed = quantize<8>(a, Eigen::VectorXf::Zero(77), naive, {.seed = 4});
  for (Index i = 0; i < 77; ++i) CHECK(dense.row_id(i) == packed.row_id(i));
  CHECK(dense.stored_bits() == 32.0);
  CHECK(dense.store_bytes() == 77 * 2 * 4);
}

TEST_CASE("stores refuse what cannot be stored") {
  const RowMajorMatrix a = uniform_matrix(5, 2);
  CHECK_THROWS_AS(quantize<4>(a, Eigen::VectorXf::Zero(4), naive), Error);
  CHECK_THROWS_AS(quantize<4>(RowMajorMatrix(0, 2), Eigen::VectorXf::Zero(0), naive), Error);
  RowMajorMatrix bad = a;
  bad(3, 1) = std::nanf("");
  CHECK_THROWS_AS(quantize<4>(bad, Eigen::VectorXf::Zero(5), naive), Error);
  CHECK_THROWS_AS(quantize<32>(bad, Eigen::VectorXf::Zero(5), full_precision), Error);
  Eigen::VectorXf y = Eigen::VectorXf::Zero(5);
  y[2] = std::numeric_limits<float>::infinity();
  CHECK_THROWS_AS(quantize<4>(a, y, naive), Error);
  RowMajorMatrix wide = a;
  wide(0, 0) = -3e38f;
  wide(1, 0) = 3e38f;
  CHECK_THROWS_AS(quantize<4>(wide, Eigen::VectorXf::Zero(5), naive), Error);
  CHECK_THROWS_AS(visit_bits(9, [](auto b) { return b(); }), Error);
}

TEST_CASE("a matrix without columns, a matrix of one value") {
  const auto none = quantize<4>(RowMajorMatrix(3, 0), Eigen::VectorXf::Zero(3), naive);
  CHECK(none.store_bytes() == 0);
  const auto one = quantize<1>(RowMajorMatrix::Constant(1, 1, 7.0f), Eigen::VectorXf::Zero(1), naive,
                               {.standardize = false});
  CHECK(one.value(0, 0) == 7.0f);
}

TEST_CASE("any number of threads packs the same store") {
  RowMajorMatrix features = uniform_matrix(5000, 37);
  for (Index i = 0; i < features.rows(); i += 61) features(i, i % 37) = 9.0f;  // outliers
  const Dataset data = make_dataset(features, Eigen::VectorXf::LinSpaced(5000, 0.0f, 1.0f));
  const auto same = [&](auto pack) {
    const auto one = pack(1);
    for (const int threads : {2, 3, 7}) {
      const auto many = pack(threads);
      CHECK(fnv1a(many.codes()) == fnv1a(one.codes()));
      CHECK(many.clamped == one.clamped);
      CHECK(std::equal(many.bias.begin(), many.bias.end(), one.bias.begin(), one.bias.end()));
      List<Outlier> expected, got;
      one.outliers.find(0, 5000, expected);
      many.outliers.find(0, 5000, got);
      REQUIRE(got.size() == expected.size());
      for (std::size_t k = 0; k < got.size(); ++k)
        CHECK((got[k].row == expected[k].row && got[k].column == expected[k].column &&
               got[k].correction == expected[k].correction));
      for (Index i = 0; i < 5000; i += 97) CHECK(many.value(i, 3) == one.value(i, 3));
    }
  };
  same([&](int threads) {
    return quantize<3>(data, variance_corrected, {.outliers = 0.001, .threads = threads});
  });
  same([&](int threads) { return quantize<2>(data, sum_code, {.threads = threads}); });
  same([&](int threads) { return quantize<4>(data, double_sampling, {.threads = threads}); });
  same([&](int threads) {
    return quantize<3>(data, variance_corrected, {.scaling = Scaling::row_range, .threads = threads});
  });
  same([&](int threads) {
    return quantize<2>(data, variance_corrected, optimal_levels, {.outliers = 0.001, .threads = threads});
  });
  same([&](int threads) { return quantize<1>(data, naive, uniform_levels, nearest, {.threads = threads}); });
  CHECK_THROWS_AS(quantize<2>(data, naive, {.threads = -1}), Error);
  CHECK_THROWS_AS(quantize<2>(data, naive, {.threads = 1025}), Error);
}

TEST_CASE("a thread that throws is heard of, and the team goes on") {
  ThreadTeam team(3);
  for (const int bad : {0, 2}) {
    CHECK_THROWS_AS(team.run([&](int part) {
      if (part == bad) throw Error("no", "yes", "no");
    }),
                    Error);
    std::atomic<int> sum{0};
    team.run([&](int part) { sum += part; });
    CHECK(sum == 3);
  }
}

namespace {

/// 9,000 rows, so many that levels come from a sample of them, sorted by the first column; some columns have
/// long tails, one is constant, one is 0 in most rows.
struct ManyRows {
  static constexpr Index n = 9'000, d = 521;
  Buffer<float> values{n * d}, labels{n};

  ManyRows() {
    const Random random(11);
    for (Index i = 0; i < n; ++i) {
      PhiloxWords words{};
      for (Index j = 0; j < d; ++j) {
        if (j % 4 == 0)
          words = random.words(Stream::generated, 0, static_cast<std::uint32_t>(j / 4),
                               static_cast<std::uint64_t>(i));
        const double u = uniform24(words[static_cast<std::size_t>(j % 4)]) - 0.5;
        double v = j % 3 == 1 ? u * u * u * u * u * 100.0 : u;
        if (j == 0) v = static_cast<double>(i);
        if (j == 7) v = 2.5;
        if (j == 8) v = i % 2000 == 999 ? 1.0 : 0.0;
        values[i * d + j] = static_cast<float>(j % 5 == 2 ? 1e4 * v + 3e4 : v);
        labels[i] += j % 7 == 0 ? values[i * d + j] : 0.0f;
      }
    }
  }
  MatrixView view() const { return {values.data(), n, d, d}; }
};

const ManyRows& many_rows() {
  static const ManyRows rows;
  return rows;
}

template <class A, class B>
bool same_store(const A& a, const B& b) {
  const auto same = [](const auto& x, const auto& y) {
    return x.size() == y.size() && std::equal(x.begin(), x.end(), y.begin());
  };
  bool equal = same(a.codes(), b.codes()) && same(a.bias, b.bias) && same(a.labels(), b.labels()) &&
               same(a.standardization().mean, b.standardization().mean) &&
               same(a.standardization().scale, b.standardization().scale) &&
               same(a.pilot.weights, b.pilot.weights) && same(a.pilot.gradient, b.pilot.gradient) &&
               a.outliers.count() == b.outliers.count();
  const OutlierView x = a.outliers.view(), y = b.outliers.view();
  for (Index k = 0; k < a.outliers.count() && equal; ++k)
    equal = x.gaps[k] == y.gaps[k] && x.corrections[k] == y.corrections[k];
  return equal;
}

}  // namespace

TEST_CASE("levels of a sample of the rows: statistics are those of all, and what is outside stays exact",
          "[many]") {
  const ManyRows& rows = many_rows();
  REQUIRE(detail::sample_rows(rows.n, rows.d) < rows.n);
  CHECK(detail::sample_rows(20'000, 8) == 20'000);  // few values are all looked at
  CHECK(detail::sample_rows(1'000'000, 100) == 40'000);
  CHECK(detail::sample_rows(1'000'000'000, 1'000) == 8'388);
  CHECK(detail::sample_rows(1'000'000, 10'000) == 4'096);
  const double share = 0.003;
  const auto store =
      quantize<4>(rows.view(), LabelView(rows.labels), variance_corrected, {.outliers = share});
  const Buffer<ColumnStatistics> exact = column_statistics(rows.view());
  for (Index j = 0; j < rows.d; ++j) {
    const double scale = exact[j].deviation > 0.0 ? exact[j].deviation : 1.0;
    CHECK(std::fabs(store.standardization().mean[j] - exact[j].mean) <
          1e-12 * (std::fabs(exact[j].mean) + scale));
    CHECK(store.standardization().scale[j] == Approx(scale).epsilon(1e-12));
  }
  CHECK(static_cast<double>(store.outliers.count()) < 1.3 * share * rows.n * rows.d);
  CHECK(static_cast<double>(store.outliers.count()) > 0.5 * share * rows.n * rows.d);
  // Every value is within a step of what its code says, or exact.
  std::vector<float> decoded(static_cast<std::size_t>(rows.d));
  double worst = 0.0;
  for (Index i = 0; i < rows.n; i += 97) {
    store.decode_row(i, 0, decoded.data());
    const float* row = rows.view().row(store.row_id(i));
    for (Index j = 0; j < rows.d; ++j) {
      const double v = store.standardization().apply(static_cast<double>(row[j]), j);
      const double step = static_cast<double>(store.decoder.step[j]);
      worst = std::max(worst, std::fabs(v - static_cast<double>(decoded[static_cast<std::size_t>(j)])) -
                                  step * (1.0 + 1e-5) - 1e-6 * std::fabs(v));
    }
  }
  CHECK(worst <= 1e-6);
  // The pilot's gradient is that of all rows in their own units.
  std::vector<double> gradient(static_cast<std::size_t>(rows.d + 1));
  const Standardization& map = store.standardization();
  REQUIRE_FALSE(store.pilot.empty());
  for (Index i = 0; i < rows.n; ++i) {
    const float* row = rows.view().row(i);
    double r = store.pilot.intercept - static_cast<double>(rows.labels[i]);
    for (Index j = 0; j < rows.d; ++j)
      r += map.apply(static_cast<double>(row[j]), j) * static_cast<double>(store.pilot.weights[j]);
    for (Index j = 0; j < rows.d; ++j)
      gradient[static_cast<std::size_t>(j)] += r * map.apply(static_cast<double>(row[j]), j) / rows.n;
    gradient[static_cast<std::size_t>(rows.d)] += r / rows.n;
  }
  const double size = store.label_statistics().deviation;
  for (Index j = 0; j <= rows.d; ++j)
    CHECK(store.pilot.gradient[j] == Approx(gradient[static_cast<std::size_t>(j)]).margin(2e-5 * size));
}

namespace {
/// A source that is no matrix, whose rows another program might hold.
struct Elsewhere {
  MatrixView matrix;
  Index rows() const { return matrix.rows; }
  Index cols() const { return matrix.cols; }
  void read(Index first, Index count, float* out) const { matrix.read(first, count, out); }
};
static_assert(RowSource<Elsewhere>);
}  // namespace

TEST_CASE(
    "a packed store has the same bits for any threads, instruction set, layout of the matrix and source",
    "[many]") {
  const ManyRows& rows = many_rows();
  const LabelView labels(rows.labels);
  const auto check = [&](auto estimator, const auto& policy, QuantizeOptions options) {
    const auto expected = quantize<3>(rows.view(), labels, estimator, policy, options);
    for (const int threads : {2, 3}) {
      options.threads = threads;
      CHECK(same_store(quantize<3>(rows.view(), labels, estimator, policy, options), expected));
    }
    for (const Isa isa : all_isas) {
      if (!available(isa)) continue;
      options.isa = name_of(isa);
      CHECK(same_store(quantize<3>(rows.view(), labels, estimator, policy, options), expected));
    }
    options.isa.clear();
    const Eigen::MatrixXf columns = Eigen::Map<const RowMajorMatrix>(rows.values.data(), rows.n, rows.d);
    CHECK(same_store(quantize<3>(columns, labels, estimator, policy, options), expected));
    const Elsewhere source{rows.view()};
    for (const int threads : {1, 3}) {
      options.threads = threads;
      CHECK(same_store(quantize<3>(rows_of(source), labels, estimator, policy, options), expected));
    }
  };
  check(variance_corrected, uniform_levels, {.outliers = 0.003});
  check(variance_corrected, uniform_levels, {.outliers = 0.0, .pilot = 0});
  check(double_sampling, uniform_levels, {.outliers = 0.003, .pilot = 0});
  check(sum_code, uniform_levels, {.outliers = 0.003, .pilot = 0});
  check(variance_corrected, uniform_levels, {.scaling = Scaling::row_range, .pilot = 0});
  check(naive, shared_optimal_levels, {.outliers = 0.01, .pilot = 0});
  check(variance_corrected, optimal_levels, {.outliers = 0.003, .pilot = 0});
  check(sum_code, optimal_levels, {.outliers = 0.01, .pilot = 0});
  check(double_sampling, optimal_levels, {.outliers = 0.01, .pilot = 0});
}

TEST_CASE("a value that is not finite is named wherever it is, also behind the sample", "[many]") {
  ManyRows rows = many_rows();
  for (const Index row : {Index{0}, Index{4'567}, rows.n - 1}) {
    const float before = rows.values[row * rows.d + 300];
    for (const float bad :
         {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
      rows.values[row * rows.d + 300] = bad;
      for (const int threads : {1, 2})
        CHECK(message_of([&] {
                (void)quantize<4>(rows.view(), LabelView(rows.labels), variance_corrected,
                                  {.outliers = 0.003, .threads = threads});
              }).find("at row " + std::to_string(row + 1) + ", column 301") != std::string::npos);
    }
    rows.values[row * rows.d + 300] = before;
  }
}

TEST_CASE("rows are rounded and packed to the same bits by every instruction set") {
  std::vector<Isa> others;
  for (const Isa isa : all_isas)
    if (isa != Isa::scalar && available(isa)) others.push_back(isa);
  if (others.empty()) WARN("skipped: this machine has no vector instructions to compare");
  const Random random(31);
  for (Index d = 1; d <= 200; d += d < 70 ? 1 : 13)
    for (const int bits : {1, 2, 3, 8}) {
      Buffer<UniformGrid> levels(d);
      ColumnRanges ranges(d);
      std::vector<float> values(static_cast<std::size_t>(d + 100), 1e9f);
      for (Index j = 0; j < d; ++j) {
        const auto word = [&](std::uint32_t what) {
          return static_cast<float>(uniform24(random.word(
              Stream::generated, what, static_cast<std::uint32_t>(j), static_cast<std::uint64_t>(d))));
        };
        const float low = 4.0f * word(0) - 2.0f;
        const float high = j % 7 == 3 ? low : low + 3.0f * word(1);  // some columns are constant
        levels[j] = UniformGrid(low, high, 1 << bits);
        ranges.lowest[j] = low;
        ranges.highest[j] = high;
        // Inside, on a level, and (not for some rows) outside.
        values[static_cast<std::size_t>(j)] =
            j % 5 == 1 ? levels[j].value(static_cast<int>(word(2) * static_cast<float>(1 << bits)))
            : j % 11 == 4 && d % 3 == 0 ? high + word(2)
                                        : low + (high - low) * word(2);
      }
      const UniformColumns columns(levels, 1 << bits);
      for (const bool stochastic_rounding : {true, false})
        for (const int draws : {1, 2, 8}) {
          const RowRounding how{Random(5), 77, 3, draws, stochastic_rounding};
          const auto size = static_cast<std::size_t>(d);
          const auto room = static_cast<std::size_t>(round_up(d, column_piece));
          struct Rounded {
            std::vector<std::uint8_t> low, ups, code;
            std::vector<std::uint64_t> spread;
            std::vector<std::uint32_t> beyond;
            bool outside;
          };
          const auto round = [&](Isa isa, Index readable) {
            Rounded r{std::vector<std::uint8_t>(room),           std::vector<std::uint8_t>(room),
                      std::vector<std::uint8_t>(room),           std::vector<std::uint64_t>(room, 9),
                      std::vector<std::uint32_t>(room / 32, 7u), false};
            r.outside = round_row(isa, values.data(), d, readable, columns, ranges, how,
                                  {r.low.data(), r.ups.data(), r.spread.data(), r.beyond.data()});
            if (draws == 1)
              round_row(isa, values.data(), d, readable, columns, ranges, how,
                        {r.code.data(), nullptr, nullptr, r.beyond.data()});
            for (auto* v : {&r.low, &r.ups, &r.code}) v->resize(size);
            r.spread.resize(size);
            r.beyond.resize((size + 31) / 32);
            return r;
          };
          const Rounded expected = round(Isa::scalar, d);
          for (Index j = 0; j < d; ++j)
            REQUIRE((expected.beyond[static_cast<std::size_t>(j / 32)] >> (j % 32) & 1u) ==
                    (ranges.outside(j, values[static_cast<std::size_t>(j)]) ? 1u : 0u));
          if (draws == 1)
            for (std::size_t j = 0; j < size; ++j)
              REQUIRE(expected.code[j] == expected.low[j] + expected.ups[j]);
          for (const Isa isa : others) {
            INFO("d " << d << " bits " << bits << " draws " << draws << " stochastic "
                      << stochastic_rounding);
            // The rest of the matrix: with and without values behind the row, which are not to be told.
            for (const Index readable : {d, d + 7, d + 100}) {
              const Rounded got = round(isa, readable);
              CHECK((got.low == expected.low && got.ups == expected.ups && got.code == expected.code &&
                     got.spread == expected.spread && got.beyond == expected.beyond &&
                     got.outside == expected.outside));
            }
          }
        }
      std::vector<std::uint8_t> codes(static_cast<std::size_t>(d)), before(codes.size());
      for (std::size_t k = 0; k < codes.size(); ++k) {
        const PhiloxWords words = random.words(Stream::generated, 4, static_cast<std::uint32_t>(k), 0);
        codes[k] = static_cast<std::uint8_t>(words[0]);
        before[k] = static_cast<std::uint8_t>(words[1]);
      }
      const auto placed = [&](Isa isa, int width, int shift, int position) {
        std::vector<std::uint8_t> panel = before;
        place_codes(isa, width, codes.data(), d, shift, position, panel.data());
        return panel;
      };
      for (const int width : {1, 2, 4, 8})
        for (int shift = 0; shift + width <= 8; ++shift)
          for (int position = 0; position < 8 / width; ++position) {
            const std::vector<std::uint8_t> expected = placed(Isa::scalar, width, shift, position);
            const unsigned mask = (1u << width) - 1u;
            bool right = true;  // its bits are the code's, the others are as they were
            for (std::size_t k = 0; k < codes.size(); ++k)
              right = right && (expected[k] >> (position * width) & mask) == (codes[k] >> shift & mask) &&
                      ((expected[k] ^ before[k]) & ~(mask << (position * width))) == 0;
            CHECK(right);
            for (const Isa isa : others) CHECK(placed(isa, width, shift, position) == expected);
          }
    }
}

TEST_CASE("a row order is the permutation, one by one and many at once") {
  for (const Index n : {1, 2, 3, 7, 8, 100, 1000, 12345}) {
    const Permutation permutation(17, n, Stream::row_order);
    const RowOrder order(permutation);
    for (const Index first : {Index{0}, n / 3, n - 1}) {
      List<Index> places(static_cast<std::size_t>(n - first));
      order.places(first, n - first, places.data());
      bool equal = true;
      for (Index i = first; i < n; ++i)
        equal = equal && places[static_cast<std::size_t>(i - first)] == permutation(i) &&
                order(i) == permutation(i);
      List<Index> back(static_cast<std::size_t>(n - first));
      order.inverse(first, n - first, back.data());
      for (Index i = first; i < n; ++i)
        equal = equal && permutation(back[static_cast<std::size_t>(i - first)]) == i;
      CHECK(equal);
    }
  }
}

TEST_CASE(
    "the memory of rows: their groups where codes are one plane, from their block on else, never outside") {
  const RowMajorMatrix a = uniform_matrix(150, 11);
  const Eigen::VectorXf y = Eigen::VectorXf::LinSpaced(150, 0.0f, 1.0f);
  const auto check = [&](const auto& store, bool one_plane) {
    const auto* codes = reinterpret_cast<const std::byte*>(store.codes().data());
    const Index group_bytes = store.layout().stored_bits * store.cols();
    for (Index first = 0; first < 150; ++first)
      for (Index count = 1; first + count <= 150; count += 1 + count / 3) {
        const auto memory = store.samples().memory_of(first, count);
        const Index begin = memory.data() - codes;
        const Index end = begin + static_cast<Index>(memory.size());
        const Index behind = (first + count + 7) / 8 * group_bytes;
        REQUIRE(begin == (one_plane ? first / 8 : first / 64 * 8) * group_bytes);
        REQUIRE(end == behind);
        REQUIRE(end <= store.layout().bytes());
      }
  };
  check(quantize<2>(a, y, naive), true);
  check(quantize<8>(a, y, variance_corrected), true);
  check(quantize<3>(a, y, naive), false);
  check(quantize<2>(a, y, double_sampling), false);
  const auto dense = quantize<32>(a, y, full_precision);
  CHECK(dense.samples().memory_of(3, 4).size() == 4u * 11u * sizeof(float));
  CHECK(dense.samples().memory_of(3, 4).data() == reinterpret_cast<const std::byte*>(dense.row(3)));
}

TEST_CASE("float32 rows are standardised in double, in vectors and in what is behind them") {
  for (const Index d : {3, 8, 19}) {  // no vector, whole ones, both
    RowMajorMatrix a(50, d);
    Eigen::VectorXf y(50);
    for (Index i = 0; i < 50; ++i) {
      y(i) = static_cast<float>(i % 7);
      for (Index j = 0; j < d; ++j)
        a(i, j) = 30000.0f + 0.015625f * static_cast<float>((i * 37 + j * 11) % 101);
    }
    const auto store = quantize<32>(a, y, full_precision);
    const SampleView samples = store.samples();
    const Standardization& map = store.standardization();
    for (Index i = 0; i < 50; ++i)
      for (Index j = 0; j < d; ++j) {
        const double value = static_cast<double>(a(store.row_id(i), j));
        CHECK(samples.row(i)[j] == static_cast<float>((value - map.mean[j]) / map.scale[j]));
      }
  }
}
