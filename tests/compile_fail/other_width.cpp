// Tables of 8 levels serve 3 bits.
// expect: these tables of levels are of another width
#include "samples.hpp"

int main() {
  const zipml::TablePerColumn<3> tables{{{}, {}, {}}};
#ifdef FIXED
  constexpr int bits = 3;
#else
  constexpr int bits = 4;
#endif
  const auto store = zipml::quantize<bits>(A, y, zipml::naive, tables);
  return store.bits();
}
