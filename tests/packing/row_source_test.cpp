// Rows that are not in memory: whatever they come from, packing, training and all that reads rows gives the same bits.

#include <atomic>
#include <cmath>
#include <memory>
#include <vector>
#include <zipml/analysis/exact_solver.hpp>
#include <zipml/analysis/objective.hpp>
#include <zipml/analysis/predict.hpp>
#include <zipml/estimators/any_store.hpp>
#include <zipml/io/generated.hpp>
#include <zipml/io/hold_out.hpp>
#include <zipml/storage/in_place.hpp>
#include <zipml/zipml.hpp>

#include "catch.hpp"
#include "message.hpp"

using namespace zipml;

namespace {

/// Counts what is read, and fails at a row when it is told to.
class Counted {
 public:
  explicit Counted(const MatrixView& matrix) : matrix_(matrix) {}
  Index rows() const { return matrix_.rows; }
  Index cols() const { return matrix_.cols; }
  void read(Index first, Index count, float* out) const {
    ++calls;
    values += count * matrix_.cols;
    if (first <= broken_row && broken_row < first + count) throw Error("the line is dead");
    REQUIRE(first >= 0);
    REQUIRE(count > 0);
    REQUIRE(first + count <= matrix_.rows);
    matrix_.read(first, count, out);
  }
  mutable std::atomic<Index> calls{0}, values{0};
  Index broken_row = -1;

 private:
  MatrixView matrix_;
};
static_assert(RowSource<Counted>);

Dataset some_rows(Index n, Index d) {
  const Random random(5);
  Dataset data;
  data.rows = n;
  data.cols = d;
  data.values = Buffer<float>(n * d);
  data.labels = Buffer<float>(n);
  for (Index i = 0; i < n; ++i) {
    for (Index j = 0; j < d; ++j) {
      const std::uint32_t word =
          random.word(Stream::generated, 0, static_cast<std::uint32_t>(j), static_cast<std::uint64_t>(i));
      data.values[i * d + j] = static_cast<float>(word >> 8) / 1048576.0f + (word % 97 == 0 ? 50.0f : 0.0f);
    }
    data.labels[i] = data.values[i * d] - 0.5f * data.values[i * d + d - 1] + static_cast<float>(i % 7);
  }
  return data;
}

bool same(const Buffer<double>& a, const Buffer<double>& b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin());
}

bool same_bits(const AnyStore& a, const AnyStore& b) {
  const SampleView x = a.samples(), y = b.samples();
  if (x.codes_bytes != y.codes_bytes || x.outliers.entries != y.outliers.entries) return false;
  Buffer<float> left(x.cols), right(x.cols);
  for (Index i = 0; i < x.rows; ++i)
    for (int draw = 0; draw < x.draws; ++draw) {
      x.decode_row(i, draw, left.data());
      y.decode_row(i, draw, right.data());
      if (std::memcmp(left.data(), right.data(), left.bytes()) != 0) return false;
    }
  if ((x.bias == nullptr) != (y.bias == nullptr) || (x.pilot == nullptr) != (y.pilot == nullptr))
    return false;
  if (x.bias != nullptr && std::memcmp(x.bias, y.bias, left.bytes()) != 0) return false;
  return x.pilot == nullptr ||
         (x.pilot->rows == y.pilot->rows &&
          std::equal(x.pilot->weights.begin(), x.pilot->weights.end(), y.pilot->weights.begin()) &&
          std::equal(x.pilot->gradient.begin(), x.pilot->gradient.end(), y.pilot->gradient.begin()));
}

}  // namespace

TEST_CASE(
    "every representation of a source is that of the matrix, for shapes around the pieces that are read") {
  for (const auto& [n, d] :
       {std::pair<Index, Index>{1, 1}, {7, 3}, {64, 5}, {1025, 17}, {3000, 40}, {130, 1500}}) {
    INFO(n << " x " << d);
    const Dataset data = some_rows(n, d);
    const Counted source(data.features());
    for (const char* text : {"variance-corrected:4,outliers=0.003", "variance-corrected:2,optimal",
                             "double-sampling:3,outliers=0.01", "sum-code:2", "naive:1,lloyd-max,nearest",
                             "naive:3,optimal-shared", "full:32"}) {
      INFO(text);
      const Representation representation = parse_representation(text);
      for (const int threads : {1, 3})
        CHECK(same_bits(quantize(rows_of(source), data.label_view(), representation, {.threads = threads}),
                        quantize(data, representation)));
    }
  }
}

TEST_CASE("rows of a source are read in large pieces, and about as often as they must be") {
  const Dataset data = some_rows(100'000, 50);  // its levels come from a sample
  const Counted source(data.features());
  const AnyStore store = quantize(rows_of(source), data.label_view(),
                                  parse_representation("variance-corrected:4,outliers=0.003"));
  const Index sampled = detail::sample_rows(100'000, 50), pilot = pilot_rows(100'000, 50, std::nullopt);
  CHECK(sampled < 100'000);
  CHECK(source.values >= (100'000 + sampled + pilot) * 50);
  CHECK(source.values <= 3 * 100'000 * 50);
  CHECK(source.calls <= 2 * 100'000 / (4096 / 50) + 7);
  // More rows than are in memory together.
  CHECK(same_bits(store, quantize(data, parse_representation("variance-corrected:4,outliers=0.003"))));
}

TEST_CASE("fresh draws read their source again in each epoch") {
  const Dataset data = some_rows(900, 12);
  const Counted source(data.features());
  const Representation representation = parse_representation("double-sampling:2");
  const AnyStore fresh = quantize(rows_of(source), data.label_view(), representation, {}, true);
  const AnyStore memory = quantize(data.features(), data.label_view(), representation, {}, true);
  const auto weights = [&](const AnyStore& store) {
    return Sgd{}.fit(store, double_sampling, {.epochs = 5}).model.weights;
  };
  const Index before = source.values;
  CHECK(same(weights(fresh), weights(memory)));
  CHECK(source.values >= before + 4 * 900 * 12);
}

TEST_CASE("losses and predictions of a source are those of the matrix") {
  const Dataset data = some_rows(2500, 30);
  const Counted source(data.features());
  const AnyStore store = quantize(data, parse_representation("variance-corrected:4"));
  const auto fit = Sgd{}.fit(store, variance_corrected, {.epochs = 3});
  const Buffer<double>& weights = fit.model.weights;
  const Objective memory(data.features(), data.label_view(), SquaredLoss{}, NoRegularizer{});
  const Objective elsewhere(rows_of(source), data.label_view(), SquaredLoss{}, NoRegularizer{});
  CHECK(memory(weights.span(), fit.model.intercept) == elsewhere(weights.span(), fit.model.intercept));
  CHECK(exact_solution(memory)->value == exact_solution(elsewhere)->value);
  CHECK(same(predict(fit.model, data.features()), predict(fit.model, rows_of(source))));
}

TEST_CASE("what a source throws comes out, from any thread, and a value that is not finite is named") {
  Dataset data = some_rows(5000, 8);
  Counted source(data.features());
  source.broken_row = 4321;
  for (const int threads : {1, 4})
    for (const char* text : {"variance-corrected:4,outliers=0.003", "naive:2", "full:32"})
      CHECK(holds(message_of([&] {
                    quantize(rows_of(source), data.label_view(), parse_representation(text),
                             {.threads = threads});
                  }),
                  "the line is dead"));
  source.broken_row = -1;
  data.values[4321 * 8 + 5] = NAN;
  CHECK(
      holds(message_of([&] { quantize(rows_of(source), data.label_view(), {.bits = 4, .outliers = 0.003}); }),
            "row 4322, column 6"));
}

TEST_CASE("float32 rows are trained on where they lie, to the bits of rows with room behind them") {
  for (const auto& [n, d] : {std::pair<Index, Index>{1000, 13}, {513, 16}, {200, 3}, {77, 100}, {64, 1}}) {
    INFO(n << " x " << d);
    const Dataset data = some_rows(n, d);
    // Of exactly this size: a sanitizer sees what is read behind it.
    const std::unique_ptr<float[]> exact(new float[static_cast<std::size_t>(n * d)]);
    std::vector<float> roomy(static_cast<std::size_t>(n * d + 16));
    for (Index k = 0; k < n * d; ++k)
      exact[static_cast<std::size_t>(k)] = roomy[static_cast<std::size_t>(k)] = data.values[k] / 8.0f - 1.0f;
    const std::vector<float> weights(static_cast<std::size_t>(n), 2.0f);
    for (const Index batch : {Index{1}, Index{7}, Index{64}, Index{1000}}) {
      const SampleSet in_memory = in_place({exact.get(), n, d, d}, data.label_view(), 3);
      SampleView view = in_memory.samples();
      CHECK(view.values == exact.get());
      view.values = roomy.data();
      view.has_tail = true;
      const SampleSet with_room(view, in_memory.targets(), identity_standardization(d), 3);
      const FitOptions how{.epochs = 3, .batch = batch};
      const Fit fit = Sgd{}.fit(in_memory, full_precision, how);
      CHECK(same(fit.weights, Sgd{}.fit(with_room, full_precision, how).weights));
    }
  }
  const Dataset data = some_rows(500, 6);
  Sgd<> sgd;
  const Fit fit = sgd.fit(in_place(data.features(), data.label_view()), full_precision, {.epochs = 60});
  CHECK(evaluate(fit.model, data).rmse < 0.4 * label_statistics(data.label_view()).deviation);  // noise: 0.24
  const Counted source(data.features());
  CHECK(holds(message_of([&] { in_place(rows_of(source), data.label_view()); }), "side by side"));
  CHECK(holds(message_of([&] {
                in_place({data.values.data(), 100, 3, 6}, data.label_view());
              }),
              "6 values apart"));
  CHECK(holds(message_of([&] { in_place({data.values.data(), 100, 6, 6}, data.label_view()); }), "500"));
}
