// A table of pairs names draws from 0 to draws - 1.
// expect: names a draw beyond
#include <array>

#include "samples.hpp"

struct Mean {
  static constexpr const char* name = "mean";
  static constexpr int draws = 2;
#ifdef FIXED
  static constexpr std::array<zipml::DrawPair, 1> pairs{{{1, 0, 1.0f}}};
#else
  static constexpr std::array<zipml::DrawPair, 1> pairs{{{5, 0, 1.0f}}};
#endif
  static constexpr bool corrected = false, needs_affine_loss = true, needs_stochastic = true;
  using Encoding = zipml::SeparateDraws<2>;
};

int main() { return zipml::Sgd{}.fit(zipml::quantize<4>(A, y, Mean{})).epochs; }
