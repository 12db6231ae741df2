#include <cstdio>
#include <zipml/zipml.hpp>

int main() {
  const auto [train, test] = zipml::skewed({.rows = 50'000});  // or zipml::load("your.csv")
  const auto full = zipml::Sgd{}.fit(zipml::quantize<32>(train, zipml::full_precision));
  const auto packed = zipml::quantize<2>(train, zipml::variance_corrected, {.outliers = 0.003});
  const auto fit = zipml::Sgd{}.fit(packed, {.epochs = 20, .batch = 64});
  for (const auto* result : {&full, &fit})
    std::printf("test RMSE %.4f, %s\n", zipml::rmse(result->model, test), zipml::to_string(result->status));
  std::printf("%.1f stored bits instead of 32\n", packed.stored_bits());
}
