// The same calls of zipml, compiled for the baseline and with -mavx2 -mfma. The program that calls only the
// baseline's function has to run on a processor without AVX2, whichever copy of a template the linker kept.
//
// Integer path only: its results are the same bits on every processor. No libm, whose results are not.

#include <cstdint>
#include <cstring>
#include <string_view>

#include <zipml/zipml.hpp>

#include "fit.hpp"

namespace {

class Hash {
 public:
  void add(double value) {
    std::uint64_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    value_ = (value_ ^ bits) * 1099511628211u;
  }
  std::uint64_t value() const { return value_; }

 private:
  std::uint64_t value_ = 14695981039346656037u;
};

constexpr zipml::Index rows = 200;
constexpr zipml::Index cols = 37;

// Buffers, not Eigen matrices: Eigen aligns them to 16 or 32 bytes as the -m flags say, in functions that
// have the same names in both files. Two files that own Eigen matrices need one EIGEN_MAX_ALIGN_BYTES.
struct Samples {
  zipml::Buffer<float> values{rows * cols};
  zipml::Buffer<float> labels{rows};

  Samples() {
    std::uint32_t state = 1;
    const auto next = [&state] {
      state = state * 1664525u + 1013904223u;
      return static_cast<float>(state >> 8) / 16777216.0f;
    };
    for (float& value : values) value = next();
    for (zipml::Index i = 0; i < rows; ++i) labels[i] = values[i] > 0.5f ? 1.0f : next();
  }
};

template <class Matrix>
void train(const Matrix& samples, const zipml::VectorRef& labels, Hash& hash) {
  const auto store = zipml::quantize<4>(samples, labels, zipml::double_sampling, {.seed = 1});
  const auto watched = [](auto weights, double intercept) { return weights[0] + intercept; };
  zipml::History history(watched);
  const auto fit = zipml::Sgd{}.fit(store, {.epochs = 3, .model = {8}}, history);
  for (const double weight : fit.weights) hash.add(weight);
  for (const double value : history.values) hash.add(value);
  hash.add(fit.intercept);
}

// What a user meets when something goes wrong is made of more std:: than what goes well.
void fail(const zipml::MatrixRef& samples, const zipml::VectorRef& labels, Hash& hash) {
  const auto store = zipml::quantize<4>(samples, labels, zipml::double_sampling, {.seed = 1});
  const zipml::Sgd sgd{zipml::SquaredLoss{}, zipml::NoRegularizer{}, zipml::ConstantStep{1e3f}};
  const auto fit = sgd.fit(store, {.epochs = 2, .model = {8}});
  hash.add(fit.success() ? 1.0 : 0.0);
  hash.add(static_cast<double>(fit.advice.size()));
  try {
    zipml::Sgd{}.fit(store, {.tolerance = -1.0});
  } catch (const zipml::Error& error) {
    hash.add(static_cast<double>(std::string_view(error.what()).size()));
  }
}

void load(Hash& hash) {
  const char* text = "1 1:0.5 3:2\n-1 2:1e3\n1 3:7 1:4\n0.5 1:1\n";
  zipml::LineReader reader = zipml::LineReader::from_memory(text);
  const zipml::Dataset data = zipml::load(reader);
  for (const float value : data.values) hash.add(static_cast<double>(value));
  for (const float label : data.labels) hash.add(static_cast<double>(label));
  const char* table = "x,y,label\n1,2,3\n4,5.5,6\n7,8,9.25\n";
  zipml::LineReader lines = zipml::LineReader::from_memory(table);
  const zipml::Dataset csv = zipml::load(lines);
  for (const float value : csv.values) hash.add(static_cast<double>(value));
  for (const auto& name : csv.column_names()) hash.add(static_cast<double>(name.size()));
}

}  // namespace

std::uint64_t ZIPML_TWO_FLAGS_FUNCTION(bool column_major) {
  const Samples made;
  const Eigen::Map<const Eigen::VectorXf> labels(made.labels.data(), rows);
  const Eigen::Map<const zipml::RowMajorMatrix> samples(made.values.data(), rows, cols);
  Hash hash;
  if (column_major)
    train(Eigen::Map<const Eigen::MatrixXf>(made.values.data(), rows, cols), labels, hash);
  else
    train(samples, labels, hash);
  fail(samples, labels, hash);
  load(hash);
  return hash.value();
}
