// Nearest rounding has no randomness, so that two draws would be one.
// expect: nearest rounding makes all draws equal
#include "samples.hpp"

int main() {
#ifdef FIXED
  constexpr auto estimator = zipml::naive;
#else
  constexpr auto estimator = zipml::double_sampling;
#endif
  const auto store = zipml::quantize<4>(A, y, estimator, zipml::uniform_levels, zipml::nearest);
  return store.bits();
}
