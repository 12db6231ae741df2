// What is measured on samples before training: against the formulas, value by value, on every instruction set.

#include <cmath>
#include <cstring>
#include <string>
#include <vector>
#include <zipml/estimators/any_store.hpp>
#include <zipml/training/curvature.hpp>
#include <zipml/zipml.hpp>

#include "catch.hpp"

using namespace zipml;

namespace {

struct Set {
  RowMajorMatrix values;
  std::vector<float> labels, weights;
};

Set make_set(Index n, Index d) {
  const Random random(21);
  Set set{RowMajorMatrix(n, d), {}, {}};
  for (Index i = 0; i < n; ++i) {
    for (Index j = 0; j < d; ++j) {
      const std::uint32_t word =
          random.word(Stream::generated, 4, static_cast<std::uint32_t>(j), static_cast<std::uint64_t>(i));
      set.values(i, j) = static_cast<float>(word >> 16) / 4096.0f + (word % 131 == 0 ? 300.0f : 0.0f);
    }
    set.labels.push_back(static_cast<float>(i % 5));
    set.weights.push_back(static_cast<float>(i % 4));
  }
  return set;
}

}  // namespace

TEST_CASE("norms of rows are those of the formulas, and the same on every instruction set") {
  for (const auto& [n, d] : {std::pair<Index, Index>{700, 13}, {129, 64}, {3, 1}, {500, 257}})
    for (const char* text : {"variance-corrected:3,outliers=0.01", "naive:1", "double-sampling:2,optimal",
                             "full:32", "sum-code:2,outliers=0.01"})
      for (const bool weighted : {false, true}) {
        INFO(n << " x " << d << ", " << text << (weighted ? ", weighted" : ""));
        const Set set = make_set(n, d);
        const LabelView labels = weighted ? LabelView(set.labels, 0.0, set.weights) : LabelView(set.labels);
        const AnyStore store = quantize(MatrixRef(set.values).view(), labels, parse_representation(text));
        const SampleView samples = store.samples();
        // E |q|^2 and E |q|^4 / E |q|^2 with a 1 for the intercept; of a column, E |q|^2 q_j^2 / E q_j^2.
        std::vector<double> squares(static_cast<std::size_t>(d)), times(squares);
        std::vector<float> row(static_cast<std::size_t>(d));
        double norms = 0.0, steps = 0.0;
        for (Index i = 0; i < n; ++i) {
          samples.decode_row(i, 0, row.data());
          const double w = samples.weights != nullptr ? static_cast<double>(samples.weights[i]) : 1.0;
          double norm = 1.0;
          for (const float v : row) norm += static_cast<double>(v) * static_cast<double>(v);
          for (std::size_t j = 0; j < row.size(); ++j) {
            const double square = w * static_cast<double>(row[j]) * static_cast<double>(row[j]);
            squares[j] += square;
            times[j] += w * norm * square;
          }
          norms += w * norm;
          steps += w * w * norm;
        }
        double expected = steps / static_cast<double>(n);
        for (std::size_t j = 0; j < row.size(); ++j)
          if (squares[j] > 0.0) expected = std::max(expected, times[j] / squares[j]);
        const Curvature scalar = measure_curvature(store.kernels(Isa::scalar), samples, Isa::scalar);
        CHECK(scalar.mean_norm == Approx(norms / static_cast<double>(n)).epsilon(1e-6));
        CHECK(scalar.weighted_norm == Approx(expected).epsilon(1e-6));
        CHECK(scalar.mean_eigenvalue == Approx(scalar.mean_norm / static_cast<double>(d + 1)));
        for (const Isa isa : {Isa::avx2, Isa::avx_vnni, Isa::avx512}) {
          if (!available(isa)) continue;
          const Curvature other = measure_curvature(store.kernels(isa), samples, isa);
          CHECK(other.mean_norm == scalar.mean_norm);
          CHECK(other.weighted_norm == scalar.weighted_norm);
          CHECK(other.top_eigenvalue == scalar.top_eigenvalue);
        }
      }
}

TEST_CASE("a sum over more rows than are measured is over a selection of them") {
  const Set set = make_set(90'000, 200);  // 18 million values
  const AnyStore store = quantize(MatrixRef(set.values).view(), set.labels, parse_representation("naive:8"));
  const Curvature curvature =
      measure_curvature(store.kernels(active_isa({})), store.samples(), active_isa({}));
  CHECK(curvature.mean_norm == Approx(201.0).epsilon(0.1));
  CHECK(curvature.weighted_norm >= curvature.mean_norm);
}
