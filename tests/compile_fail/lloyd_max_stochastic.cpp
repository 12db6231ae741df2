// The ends of a Lloyd-Max table lie inside the data: stochastic rounding would be biased beyond them.
// expect: Lloyd-Max levels are for nearest rounding
#include "samples.hpp"

int main() {
#ifdef FIXED
  constexpr auto rounding = zipml::nearest;
#else
  constexpr auto rounding = zipml::stochastic;
#endif
  const auto store = zipml::quantize<4>(A, y, zipml::naive, zipml::lloyd_max_levels, rounding);
  return store.bits();
}
