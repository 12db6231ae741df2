// A store that was quantized for one draw has no second one.
// expect: too few draws
#include "samples.hpp"

int main() {
#ifdef FIXED
  const auto store = zipml::quantize<4>(A, y, zipml::symmetrized);
#else
  const auto store = zipml::quantize<4>(A, y, zipml::naive);
#endif
  return zipml::Sgd{}.fit(store, zipml::double_sampling).epochs;
}
