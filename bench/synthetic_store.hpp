#pragma once
// Stores of random codes, made without a float32 matrix: benchmarks of epochs and kernels need gigabytes of
// them.

#include <cmath>
#include <cstdlib>
#include <string>
#include <zipml/zipml.hpp>

namespace bench {

/// A fast generator of bytes that look random; statistics do not matter here.
inline std::uint64_t next_word(std::uint64_t& state) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state;
}

inline zipml::StoreHeader header(zipml::Index n, zipml::Index d) {
  zipml::Buffer<zipml::ColumnStatistics> columns(d);
  Eigen::VectorXf labels(n);
  std::uint64_t state = 88172645463325252ull;
  for (zipml::Index i = 0; i < n; ++i) labels[i] = (next_word(state) & 1) != 0 ? 1.0f : -1.0f;
  return zipml::StoreHeader(zipml::MatrixView{nullptr, n, d, d}, zipml::VectorRef(labels), columns, false, 1);
}

/// n x d codes of `bits` bits with levels over [-2, 2].
template <class Encoding>
zipml::PackedStore<Encoding, zipml::AffineDecoder> packed(zipml::Index n, zipml::Index d, int bits) {
  zipml::PackedStore<Encoding, zipml::AffineDecoder> store(header(n, d), bits);
  std::uint64_t state = 1234567;
  auto& codes = store.mutable_codes();
  zipml::Index k = 0;
  for (; k + 8 <= codes.size(); k += 8) {
    const std::uint64_t word = next_word(state);
    std::memcpy(codes.data() + k, &word, 8);
  }
  for (; k < codes.size(); ++k) codes[k] = static_cast<std::uint8_t>(next_word(state));
  store.decoder.offset = zipml::Buffer<float>(d);
  store.decoder.step = zipml::Buffer<float>(d);
  for (zipml::Index j = 0; j < d; ++j) {
    store.decoder.offset[j] = -2.0f;
    store.decoder.step[j] = 4.0f / static_cast<float>((1 << bits) - 1);
  }
  if (Encoding::has_bias) {
    store.bias = zipml::Buffer<float>(d);
    for (float& v : store.bias) v = 0.01f;
  }
  return store;
}

/// Outliers at random places, `fraction` of all values.
inline zipml::Outliers random_outliers(zipml::Index n, zipml::Index d, double fraction) {
  zipml::Outliers outliers(d);
  std::uint64_t state = 987654321;
  const auto mean_gap = static_cast<std::uint64_t>(2.0 / fraction);
  for (std::uint64_t place = next_word(state) % mean_gap; place < static_cast<std::uint64_t>(n * d);
       place += 1 + next_word(state) % mean_gap)
    outliers.add(static_cast<zipml::Index>(place) / d, static_cast<zipml::Index>(place) % d, 0.5f);
  outliers.close(n);
  return outliers;
}

inline zipml::DenseStore dense(zipml::Index n, zipml::Index d) {
  zipml::Buffer<float> values(n * d);
  std::uint64_t state = 42;
  for (float& v : values) v = static_cast<float>(next_word(state) >> 40) / 4194304.0f - 2.0f;
  return zipml::DenseStore(header(n, d), std::move(values));
}

/// MB of float32 that a benchmark's samples stand for: ZIPML_BENCH_MB, else 2,048, so that even 2 bits exceed
/// twice a 32 MB L3.
inline zipml::Index float_bytes() {
  const char* variable = std::getenv("ZIPML_BENCH_MB");
  const zipml::Index mb = variable != nullptr ? std::atol(variable) : 2048;
  return (mb > 0 ? mb : 2048) << 20;
}

}  // namespace bench
