// expect: quantize<32>
#include "samples.hpp"

int main() {
#ifdef FIXED
  constexpr int bits = 32;
#else
  constexpr int bits = 4;
#endif
  return zipml::quantize<bits>(A, y, zipml::full_precision).bits();
}
