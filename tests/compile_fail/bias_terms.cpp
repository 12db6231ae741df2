// A store that was quantized for the naive estimator has no variance to subtract.
// expect: no bias terms
#include "samples.hpp"

int main() {
#ifdef FIXED
  const auto store = zipml::quantize<4>(A, y, zipml::variance_corrected);
#else
  const auto store = zipml::quantize<4>(A, y, zipml::naive);
#endif
  return zipml::Sgd{}.fit(store, zipml::variance_corrected).epochs;
}
