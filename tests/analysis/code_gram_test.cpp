// Sums of products of codes in integers: every instruction set, every width, and what they make of samples.

#include <cstdint>
#include <vector>
#include <zipml/analysis/code_gram.hpp>
#include <zipml/analysis/realised_system.hpp>
#include <zipml/estimators/any_store.hpp>
#include <zipml/zipml.hpp>

#include "catch.hpp"

using namespace zipml;

namespace {

std::vector<Isa> available() {
  std::vector<Isa> all{Isa::scalar};
#if ZIPML_X86
  if (cpu_features().avx2) all.push_back(Isa::avx2);
  if (active_isa() == Isa::avx512) all.push_back(Isa::avx512);
#endif
  return all;
}

std::uint8_t byte(Index i, Index j, int largest) {
  static const Random random(5);
  return static_cast<std::uint8_t>(
      random.word(Stream::batch_order, static_cast<std::uint32_t>(i), static_cast<std::uint32_t>(j), 0) %
      static_cast<unsigned>(largest + 1));
}

}  // namespace

TEST_CASE("gram kernels add exact sums of products, the same integers on every instruction set") {
  for (const int largest : {1, 3, 15, 16, 127, 128, 255})
    for (const Index blocks : {1, 2, 3, 7})
      for (const Index fours : {1, 2, 71, 72, 73, 145}) {
        Buffer<std::uint8_t> bytes(blocks * fours * 64);
        for (Index k = 0; k < bytes.size(); ++k) bytes[k] = byte(k, blocks, largest);
        // The largest sums that there are stand in the first column.
        for (Index f = 0; f < fours; ++f)
          for (Index r = 0; r < 4; ++r) bytes[f * 64 + r] = static_cast<std::uint8_t>(largest);
        const GramPanel panel{bytes.data(), blocks, fours, largest};
        const Index columns = panel.columns();
        const auto code = [&](Index i, Index j) {
          return static_cast<std::int64_t>(panel.block(j / 16)[i / 4 * 64 + j % 16 * 4 + i % 4]);
        };
        for (const Isa isa : available()) {
          INFO(name_of(isa) << ", largest " << largest << ", " << columns << " columns, " << 4 * fours
                            << " rows");
          std::vector<std::int32_t> sums(static_cast<std::size_t>(columns * columns), 7);
          gram_kernel(isa)(panel, sums.data());
          bool same = true;
          for (Index j = 0; j < columns; ++j)
            for (Index k = 0; k <= j; ++k) {
              std::int64_t sum = 7;
              for (Index i = 0; i < 4 * fours; ++i) sum += code(i, j) * code(i, k);
              same = same && sums[static_cast<std::size_t>(j * columns + k)] == sum;
            }
          CHECK(same);
        }
      }
}

TEST_CASE("the largest codes do not overflow in as many rows as sums may have") {
  Buffer<std::uint8_t> bytes(gram_rows / 4 * 64);
  std::fill(bytes.begin(), bytes.end(), std::uint8_t{255});
  for (const Isa isa : available()) {
    std::vector<std::int32_t> sums(256);
    gram_kernel(isa)({bytes.data(), 1, gram_rows / 4, 255}, sums.data());
    for (Index j = 0; j < 16; ++j)
      for (Index k = 0; k <= j; ++k)
        CHECK(sums[static_cast<std::size_t>(j * 16 + k)] == 255 * 255 * gram_rows);
  }
}

TEST_CASE("sums over a store are those of its codes, for every width and any number of threads") {
  for (const Index d : {1, 15, 16, 17, 40})
    for (const int bits : {1, 2, 3, 4, 5, 6, 7, 8}) {
      INFO(d << " columns, " << bits << " bits");
      const Dataset data = synthetic(d, {.rows = 1'037, .test_rows = 0}).train;
      const AnyStore store = quantize(data, {.estimator = EstimatorKind::naive, .bits = bits}, {.pilot = 0});
      const SampleView samples = store.samples();
      REQUIRE(has_code_gram(samples));
      const Buffer<std::int64_t> sums = code_gram(samples);
      bool same = true;
      for (Index j = 0; j <= d; ++j)
        for (Index k = 0; k <= j; ++k) {
          std::int64_t sum = 0;
          for (Index i = 0; i < samples.rows; ++i)
            sum += (j < d ? samples.code(i, j) : 1) * (k < d ? samples.code(i, k) : 1);
          same = same && sums[j * (d + 1) + k] == sum;
        }
      CHECK(same);
      CHECK(std::equal(sums.begin(), sums.end(), code_gram(samples, 0, 3, Isa::scalar).begin()));
    }
}

TEST_CASE("second moments are those of the decoded rows, with outliers, several draws and shared levels") {
  const Dataset data = skewed({.rows = 3'001, .test_rows = 0}).train;
  const auto check = [&](const char* what, const auto& store, int draw) {
    INFO(what << ", draw " << draw);
    const SampleView samples = store.samples();
    REQUIRE(has_code_gram(samples, draw));
    const Index d = samples.cols;
    Eigen::MatrixXd expected = Eigen::MatrixXd::Zero(d + 1, d + 1);
    Buffer<float> row(d);
    Eigen::VectorXd q(d + 1);
    q(d) = 1.0;
    for (Index i = 0; i < samples.rows; ++i) {
      samples.decode_row(i, draw, row.data());
      for (Index j = 0; j < d; ++j) q(j) = static_cast<double>(row[j]);
      expected += q * q.transpose();
    }
    expected /= static_cast<double>(samples.rows);
    const Eigen::MatrixXd moments = second_moments(samples, draw);
    CHECK((moments - expected).cwiseAbs().maxCoeff() < 1e-6 * expected.cwiseAbs().maxCoeff());
    CHECK(moments == moments.transpose());
    CHECK(moments(d, d) == 1.0);
  };
  check("2 bits with outliers", quantize<2>(data, variance_corrected, {.outliers = 0.01}), 0);
  check("8 bits", quantize<8>(data, naive), 0);
  check("double sampling", quantize<3>(data, double_sampling), 0);
  check("double sampling", quantize<3>(data, double_sampling), 1);
  check("sum code with outliers", quantize<3>(data, sum_code, {.outliers = 0.003}), 0);
  const AnyStore shared =
      quantize(data, {.estimator = EstimatorKind::naive, .bits = 4, .levels = LevelsKind::optimal_shared});
  check("one table for all columns", shared, 0);
}

TEST_CASE("samples whose second moments are no sums of integers say so") {
  const Dataset data = skewed({.rows = 500, .test_rows = 0}).train;
  CHECK_FALSE(has_code_gram(quantize<32>(data, full_precision).samples()));
  CHECK_FALSE(has_code_gram(quantize<2>(data, naive, lloyd_max_levels, nearest).samples()));
  Dataset weighted = data;
  weighted.weights = Buffer<float>(data.rows);
  for (Index i = 0; i < data.rows; ++i) weighted.weights[i] = static_cast<float>(1 + i % 2);
  const auto store = quantize<4>(weighted, variance_corrected);
  CHECK_FALSE(has_code_gram(store.samples()));
  // Their system is summed in floats, to the same accuracy.
  Eigen::MatrixXd matrix, of_integers;
  Eigen::VectorXd right;
  const auto plain = quantize<4>(data, variance_corrected);
  SampleView ones = plain.samples();
  Buffer<float> weights(data.rows);
  std::fill(weights.begin(), weights.end(), 1.0f);
  ones.weights = weights.data();
  detail::realised_system(ones, variance_corrected, Buffer<float>(data.rows), matrix, right);
  detail::realised_system(plain.samples(), variance_corrected, Buffer<float>(data.rows), of_integers, right);
  CHECK((matrix - of_integers).cwiseAbs().maxCoeff() < 1e-5);
}
