// expect: 1 to 8 bits
#include "samples.hpp"

int main() {
#ifdef FIXED
  constexpr int bits = 8;
#else
  constexpr int bits = 9;
#endif
  return zipml::quantize<bits>(A, y, zipml::double_sampling).bits();
}
