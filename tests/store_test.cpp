// Packed and dense stores: exact bits, order, decoding, determinism.

#include <cmath>
#include <vector>
#include <zipml/estimators/quantize.hpp>
#include <zipml/visit_bits.hpp>

#include "catch.hpp"

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
      if (d == 1000 && bits > 2 && bits != 7)
        continue;  // packing 10 million values a width: three widths stand for all
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
    const double low = store.decoder.value(0, j, 0);
    const double high = store.decoder.value(0, j, 15);
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
  const auto store = quantize<2>(a, Eigen::VectorXf::Zero(n), double_sampling);
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
