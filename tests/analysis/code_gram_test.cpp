// The Gram matrix of a store from integers, against its decoded rows and against products of float32.

#include <algorithm>
#include <cmath>
#include <string>
#include <zipml/analysis/code_gram.hpp>
#include <zipml/analysis/realised_system.hpp>
#include <zipml/estimators/any_store.hpp>
#include <zipml/io/generated.hpp>

#include "catch.hpp"

using namespace zipml;

namespace {

/// Correlated columns around different means, every other one with long tails.
Dataset with_tails(Index n, Index d) {
  RowMajorMatrix a(n, d);
  Eigen::VectorXf y(n);
  std::uint64_t state = 88172645463325252ull;
  const auto real = [&state] {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return static_cast<float>(state >> 40) / 8388608.0f - 1.0f;
  };
  for (Index i = 0; i < n; ++i) {
    const float common = real();
    for (Index j = 0; j < d; ++j) {
      const float v = real() + 0.5f * common;
      a(i, j) = (j % 2 == 0 ? v : v * v * v * v * v) + static_cast<float>(j % 5);
    }
    y[i] = 2.0f * common + real();
  }
  return make_dataset(a, y);
}

/// Moments of the decoded rows of a draw, an intercept behind them, in double.
Eigen::MatrixXd moments_of_rows(const SampleView& samples, int draw) {
  const Index d = samples.cols;
  Eigen::MatrixXd sum = Eigen::MatrixXd::Zero(d + 1, d + 1);
  Eigen::VectorXf row = Eigen::VectorXf::Ones(d + 1);
  for (Index i = 0; i < samples.rows; ++i) {
    samples.decode_row(i, draw, row.data());
    const Eigen::VectorXd q = row.cast<double>();
    sum += q * q.transpose();
  }
  return sum / static_cast<double>(samples.rows);
}

/// Largest difference of two matrices of moments, relative to the roots of their diagonal.
double difference(const Eigen::MatrixXd& a, const Eigen::MatrixXd& b) {
  const Eigen::VectorXd size = b.diagonal().cwiseMax(1e-30).cwiseSqrt();
  return ((a - b).cwiseQuotient(size * size.transpose())).cwiseAbs().maxCoeff();
}

bool same_bits(const CodeGram& a, const CodeGram& b) {
  return std::equal(a.products.begin(), a.products.end(), b.products.begin(), b.products.end()) &&
         std::equal(a.sums.begin(), a.sums.end(), b.sums.begin(), b.sums.end()) && a.moments == b.moments;
}

KernelTable kernels_of_gram(Isa isa) { return kernels_for<AnyCode, kernel_families::gram>(isa); }

}  // namespace

TEST_CASE(
    "moments of codes are those of the decoded rows, on every instruction set and any number of threads") {
  for (const auto& [n, d] : {std::pair<Index, Index>{3, 1}, {701, 5}, {2000, 64}, {1003, 90}})
    for (const char* text :
         {"naive:1", "variance-corrected:2", "variance-corrected:3,outliers=0.01", "variance-corrected:8",
          "variance-corrected:4,outliers=0.003", "double-sampling:3,outliers=0.01", "double-sampling:1",
          "symmetrized:7", "sum-code:2", "sum-code:7", "naive:3,optimal-shared", "naive:6,optimal-shared",
          "naive:4,optimal-shared,outliers=0.01", "naive:8,optimal-shared"}) {
      INFO(n << " x " << d << ' ' << text);
      const Dataset data = with_tails(n, d);
      const AnyStore store = quantize(data, parse_representation(text));
      const SampleView samples = store.samples();
      REQUIRE(has_code_gram(samples));
      for (int draw = 0; draw < samples.draws; ++draw) {
        const CodeGram scalar = code_gram(kernels_of_gram(Isa::scalar), samples, draw);
        CHECK(difference(scalar.moments, moments_of_rows(samples, draw)) < 1e-6);
        CHECK(scalar.moments == scalar.moments.transpose());
        std::int64_t sum = 0, square = 0;
        for (Index i = 0; i < n; ++i) {
          const int code = samples.code(i, d - 1, draw);
          const std::int64_t t = samples.levels.entries != nullptr ? samples.levels.entries[code] : code;
          sum += t;
          square += t * t;
        }
        CHECK(scalar.sums[d - 1] == sum);
        CHECK(scalar.product(d - 1, d - 1) == square);
        CHECK(scalar.product(0, d - 1) == scalar.product(d - 1, 0));
        for (const Isa isa : all_isas) {
          if (!available(isa)) continue;
          INFO(name_of(isa));
          const CodeGram one = code_gram(kernels_of_gram(isa), samples, draw);
          CHECK(same_bits(one, code_gram(kernels_of_gram(isa), samples, draw, 2)));
          CHECK(same_bits(one, code_gram(kernels_of_gram(isa), samples, draw, 3)));
          CHECK(std::equal(one.products.begin(), one.products.end(), scalar.products.begin()));
          if (samples.outliers.empty())
            CHECK(one.moments == scalar.moments);
          else
            CHECK(difference(one.moments, scalar.moments) < 1e-7);
        }
      }
    }
}

TEST_CASE("products and sums of a store are those of its codes, for every width and any number of threads") {
  for (const Index d : {1, 15, 16, 17, 40})
    for (int bits = 1; bits <= 8; ++bits) {
      INFO(d << " columns, " << bits << " bits");
      const AnyStore store = quantize(with_tails(1037, d), {.estimator = EstimatorKind::naive, .bits = bits});
      const SampleView samples = store.samples();
      REQUIRE(has_code_gram(samples));
      const CodeGram gram = code_gram(kernels_of_gram(active_isa()), samples, 0);
      CHECK(gram.rows == samples.rows);
      CHECK(gram.cols == d);
      bool same = true;
      for (Index j = 0; j < d; ++j) {
        std::int64_t sum = 0;
        for (Index i = 0; i < samples.rows; ++i) sum += samples.code(i, j);
        same = same && gram.sums[j] == sum;
        for (Index k = 0; k < d; ++k) {
          std::int64_t product = 0;
          for (Index i = 0; i < samples.rows; ++i) product += samples.code(i, j) * samples.code(i, k);
          same = same && gram.product(j, k) == product;
        }
      }
      CHECK(same);
      CHECK(gram.moments(d, d) == 1.0);
      CHECK(same_bits(gram, code_gram(kernels_of_gram(Isa::scalar), samples, 0, 3)));
    }
}

TEST_CASE("outliers in several pieces of rows, threads change no bit") {
  const Dataset data = with_tails(70'000, 7);
  const AnyStore store = quantize(data, parse_representation("variance-corrected:3,outliers=0.02"));
  const SampleView samples = store.samples();
  REQUIRE_FALSE(samples.outliers.empty());
  const KernelTable kernels = kernels_of_gram(active_isa());
  const CodeGram one = code_gram(kernels, samples, 0);
  for (const int threads : {2, 3, 5}) CHECK(same_bits(one, code_gram(kernels, samples, 0, threads)));
  CHECK(difference(one.moments, moments_of_rows(samples, 0)) < 1e-6);
}

TEST_CASE("the realised system is that of float32 products") {
  const Dataset data = with_tails(3000, 40);
  for (const char* text : {"variance-corrected:4,outliers=0.003", "variance-corrected:3",
                           "naive:3,optimal-shared", "naive:4,optimal-shared,outliers=0.01", "sum-code:3"}) {
    INFO(text);
    const AnyStore store = quantize(data, parse_representation(text));
    SampleView samples = store.samples();
    Buffer<float> labels(samples.rows), ones(samples.rows);
    for (Index i = 0; i < samples.rows; ++i) {
      labels[i] = store.targets().of(0)[static_cast<std::size_t>(i)];
      ones[i] = 1.0f;
    }
    const DrawPair pairs[] = {{0, 0, 1.0f}};
    Eigen::MatrixXd by_integers, by_floats;
    Eigen::VectorXd right, right_by_floats;
    detail::realised_system(samples, pairs, false, labels, by_integers, right);
    samples.weights = ones.data();  // which integers do not have
    REQUIRE_FALSE(has_code_gram(samples));
    detail::realised_system(samples, pairs, false, labels, by_floats, right_by_floats);
    CHECK(difference(by_integers, moments_of_rows(store.samples(), 0)) < 1e-7);
    CHECK(difference(by_integers, by_floats) < 1e-5);  // float32 sums of 256 products
    CHECK((right - right_by_floats).cwiseAbs().maxCoeff() < 1e-6 * right.cwiseAbs().maxCoeff());
  }
}

TEST_CASE("samples without an integer form are refused") {
  const Dataset data = with_tails(200, 3);
  const KernelTable kernels = kernels_of_gram(Isa::scalar);
  for (const char* text : {"full:32", "naive:2,optimal", "naive:2,lloyd-max,nearest"}) {
    INFO(text);
    const AnyStore store = quantize(data, parse_representation(text));
    CHECK_FALSE(has_code_gram(store.samples()));
    CHECK_THROWS_AS(code_gram(kernels, store.samples(), 0), Error);
  }
  const AnyStore store = quantize(data, parse_representation("double-sampling:3"));
  CHECK_THROWS_AS(code_gram(kernels, store.samples(), 2), Error);
  CHECK_THROWS_AS(code_gram(kernels, store.samples(), -1), Error);
  CHECK_THROWS_AS(code_gram(kernels, store.samples(), 0, -1), Error);
  Dataset weighted = data;
  weighted.weights = Buffer<float>(data.rows);
  for (Index i = 0; i < data.rows; ++i) weighted.weights[i] = static_cast<float>(1 + i % 2);
  CHECK_FALSE(has_code_gram(quantize(weighted, parse_representation("variance-corrected:4")).samples()));
  SampleView by_row = store.samples();
  const Buffer<float> scales(200);
  by_row.levels.row_offset = by_row.levels.row_step = scales.data();
  CHECK_FALSE(has_code_gram(by_row));
}
