#pragma once
/// \file
/// Room io: generated data sets, a pure function of (name, rows, seed): what examples, tests and benchmarks
/// run on when no file is given. Random numbers are those of Stream::generated: draw 0 the samples, 1 the
/// mixing matrix, 2 the true model, 3 the noise, 4 flipped labels.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include <zipml/base/buffer.hpp>
#include <zipml/base/error.hpp>
#include <zipml/base/random.hpp>
#include <zipml/base/rounded.hpp>
#include <zipml/io/dataset.hpp>
#include <zipml/quantization/statistics.hpp>

namespace zipml::inline ZIPML_ABI {

/// Training and test rows of one distribution; the test rows follow the training rows in the counter, and are
/// standardised by the training rows' statistics.
struct TrainTest {
  Dataset train;
  Dataset test;
};

/// Size and seed of a generated set. `test_rows` < 0: a ninth of the training rows.
struct GeneratedOptions {
  Index rows = 200'000;
  Index test_rows = -1;
  std::uint64_t seed = 1;
};

namespace detail {

enum class GeneratedDraw : std::uint32_t { samples, mixing, truth, noise, flips };

/// Columns 0 .. d-1 of a row of N(0, 1) numbers.
void normal_row(const Random& random, GeneratedDraw draw, std::uint64_t row, Index d, double* out);

Dataset empty_dataset(Index rows, Index cols, const char* source);

inline void check_generated(const GeneratedOptions& options) {
  if (options.rows < 2)
    throw Error("a generated set is too small", "at least 2 rows", std::to_string(options.rows));
}

inline Index test_rows_of(const GeneratedOptions& options) {
  return options.test_rows < 0 ? options.rows / 9 : options.test_rows;
}

/// Labels b = a'x* scaled to variance 1 over the training rows, plus N(0, noise_variance), x* ~ N(0, I/d).
void linear_labels(TrainTest& sets, double noise_variance, std::uint64_t seed);

/// The columns of `skewed` and `two_class`.
TrainTest skewed_columns(const GeneratedOptions& options, const char* source);

}  // namespace detail

/// Gaussian regression after the paper's synthetic sets: a ~ N(0, I_d), b = a'x* of variance 1 plus N(0,
/// 0.1). O((rows + test rows) d).
TrainTest synthetic(Index d, const GeneratedOptions& options = {.rows = 10'000, .test_rows = 10'000});

/// 90 correlated columns with tails from Gaussian to cubed Gaussian, the size and difficulty of
/// YearPredictionMSD at 463,715 rows: u = M z with unit rows, M = 0.6 W + 0.4 I, a_j = sign(u_j) |u_j|^p, p =
/// 1, 1.5, 2, 3 in turn, then standardised; b = a'x* of variance 1 plus N(0, 0.09). O(8,100 rows).
///
///     const auto [train, test] = zipml::skewed({.rows = 50'000});
inline TrainTest skewed(const GeneratedOptions& options = {}) {
  TrainTest sets = detail::skewed_columns(options, "skewed");
  detail::linear_labels(sets, 0.09, options.seed);
  return sets;
}

/// The columns of `skewed` with labels sign(a'x* + N(0, 0.09)), 10 % of them flipped.
TrainTest two_class(const GeneratedOptions& options = {});

#if ZIPML_DEFINES

namespace detail {

ZIPML_FUNCTION void normal_row(const Random& random, GeneratedDraw draw, std::uint64_t row, Index d,
                               double* out) {
  for (Index first = 0; first < d; first += 4) {
    const auto z = normals(random.words(Stream::generated, static_cast<std::uint32_t>(draw),
                                        static_cast<std::uint32_t>(first / 4), row));
    for (Index k = 0; k < std::min<Index>(4, d - first); ++k) out[first + k] = z[static_cast<std::size_t>(k)];
  }
}

ZIPML_FUNCTION Dataset empty_dataset(Index rows, Index cols, const char* source) {
  Dataset data;
  data.rows = rows;
  data.cols = cols;
  data.values = Buffer<float>(checked_product(rows, cols, "a generated set"));
  data.labels = Buffer<float>(rows);
  data.source = source;
  return data;
}

ZIPML_FUNCTION void linear_labels(TrainTest& sets, double noise_variance, std::uint64_t seed) {
  const Random random(seed);
  const Index d = sets.train.cols;
  Buffer<double> truth(d);
  normal_row(random, GeneratedDraw::truth, 0, d, truth.data());
  const auto signal = [&](const Dataset& data, Index i) {
    double sum = 0.0;
    for (Index j = 0; j < d; ++j) sum += pinned(static_cast<double>(data.values[i * d + j]) * truth[j]);
    return sum / std::sqrt(static_cast<double>(d));
  };
  Buffer<double> clean(sets.train.rows);
  double mean = 0.0;
  for (Index i = 0; i < sets.train.rows; ++i) mean += clean[i] = signal(sets.train, i);
  mean /= static_cast<double>(sets.train.rows);
  double variance = 0.0;
  for (const double s : clean) variance += pinned((s - mean) * (s - mean));
  const double deviation = std::sqrt(variance / static_cast<double>(sets.train.rows));
  const double noise_deviation = std::sqrt(noise_variance);
  for (Index i = 0; i < sets.train.rows + sets.test.rows; ++i) {
    const bool training = i < sets.train.rows;
    Dataset& data = training ? sets.train : sets.test;
    const Index row = training ? i : i - sets.train.rows;
    const double s = training ? clean[row] : signal(data, row);
    double noise = 0.0;
    normal_row(random, GeneratedDraw::noise, static_cast<std::uint64_t>(i), 1, &noise);
    data.labels[row] = static_cast<float>(s / deviation + pinned(noise_deviation * noise));
  }
}

ZIPML_FUNCTION TrainTest skewed_columns(const GeneratedOptions& options, const char* source) {
  check_generated(options);
  constexpr Index d = 90;
  constexpr Index together = 8;  // rows mixed at once: the matrix is read once for all of them
  const Random random(options.seed);
  TrainTest sets{empty_dataset(options.rows, d, source), empty_dataset(test_rows_of(options), d, source)};

  Buffer<double> mixing(d * d);
  for (Index j = 0; j < d; ++j) {
    double* row = mixing.data() + j * d;
    normal_row(random, GeneratedDraw::mixing, static_cast<std::uint64_t>(j), d, row);
    double squares = 0.0;
    for (Index k = 0; k < d; ++k) {
      row[k] = 0.6 * row[k] / std::sqrt(static_cast<double>(d)) + (j == k ? 0.4 : 0.0);
      squares += row[k] * row[k];
    }
    for (Index k = 0; k < d; ++k) row[k] /= std::sqrt(squares);
  }

  const Index total = sets.train.rows + sets.test.rows;
  Buffer<double> z(d * together);
  Buffer<double> line(d);
  for (Index first = 0; first < total; first += together) {
    for (Index r = 0; r < together; ++r) {
      normal_row(random, GeneratedDraw::samples, static_cast<std::uint64_t>(first + r), d, line.data());
      for (Index k = 0; k < d; ++k) z[k * together + r] = line[k];
    }
    for (Index j = 0; j < d; ++j) {
      double u[together] = {};
      for (Index k = 0; k < d; ++k) {
        const double m = mixing[j * d + k];
        for (Index r = 0; r < together; ++r) u[r] += m * z[k * together + r];
      }
      for (Index r = 0; r < together && first + r < total; ++r) {
        const double magnitude = std::fabs(u[r]);
        const double power = j % 4 == 0   ? magnitude
                             : j % 4 == 1 ? magnitude * std::sqrt(magnitude)
                             : j % 4 == 2 ? magnitude * magnitude
                                          : magnitude * magnitude * magnitude;
        const Index i = first + r;
        float& value = i < sets.train.rows ? sets.train.values[i * d + j]
                                           : sets.test.values[(i - sets.train.rows) * d + j];
        value = static_cast<float>(u[r] < 0.0 ? -power : power);
      }
    }
  }
  const Standardization map = standardization_of(column_statistics(sets.train.features()));
  for (Dataset* data : {&sets.train, &sets.test})
    for (Index i = 0; i < data->rows; ++i)
      for (Index j = 0; j < d; ++j) {
        float& value = data->values[i * d + j];
        value = static_cast<float>(map.apply(static_cast<double>(value), j));
      }
  return sets;
}

}  // namespace detail

ZIPML_FUNCTION TrainTest synthetic(Index d, const GeneratedOptions& options) {
  detail::check_generated(options);
  if (d < 1) throw Error("a generated set needs columns", "at least 1", std::to_string(d));
  const Random random(options.seed);
  const std::string name = "synthetic-" + std::to_string(d);
  TrainTest sets{detail::empty_dataset(options.rows, d, name.c_str()),
                 detail::empty_dataset(detail::test_rows_of(options), d, name.c_str())};
  Buffer<double> line(d);
  for (Index i = 0; i < sets.train.rows + sets.test.rows; ++i) {
    detail::normal_row(random, detail::GeneratedDraw::samples, static_cast<std::uint64_t>(i), d, line.data());
    float* row = i < sets.train.rows ? sets.train.values.data() + i * d
                                     : sets.test.values.data() + (i - sets.train.rows) * d;
    for (Index j = 0; j < d; ++j) row[j] = static_cast<float>(line[j]);
  }
  detail::linear_labels(sets, 0.1, options.seed);
  return sets;
}

ZIPML_FUNCTION TrainTest two_class(const GeneratedOptions& options) {
  TrainTest sets = detail::skewed_columns(options, "two-class");
  detail::linear_labels(sets, 0.09, options.seed);
  const Random random(options.seed);
  for (Index i = 0; i < sets.train.rows + sets.test.rows; ++i) {
    const bool training = i < sets.train.rows;
    float& label = training ? sets.train.labels[i] : sets.test.labels[i - sets.train.rows];
    const bool flipped =
        uniform24(random.word(Stream::generated, static_cast<std::uint32_t>(detail::GeneratedDraw::flips), 0,
                              static_cast<std::uint64_t>(i))) < 0.1;
    label = (label < 0.0f) != flipped ? -1.0f : 1.0f;
  }
  return sets;
}

#endif

}  // namespace zipml::inline ZIPML_ABI
