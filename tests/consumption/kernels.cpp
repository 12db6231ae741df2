// A user's program that links zipml::kernels, of two files: this one compiled as it is, with a main function,
// and with -DFLAGGED and an -m flag, for which the library is in the wrong namespace.
#include <zipml/kernels/isa.hpp>

#if defined(FLAGGED) && ZIPML_HAS_LIBRARY
#error "a file with other -m flags cannot link to the compiled kernels"
#endif
#if !defined(FLAGGED) && !defined(__SSE3__) && !ZIPML_HAS_LIBRARY
#error "zipml::kernels was linked, but its kernels are not used"
#endif

int flagged_margin();
int baseline_margin();

#ifdef FLAGGED
int flagged_margin() {
#else
int baseline_margin() {
#endif
  using namespace zipml;
  alignas(64) std::uint8_t codes[4 * 64 + 64] = {};
  alignas(64) std::int8_t model[64] = {};
  for (int j = 0; j < 64; ++j) {
    codes[j] = static_cast<std::uint8_t>(j);
    model[j] = static_cast<std::int8_t>(j - 20);
  }
  std::int32_t margins[8];
  const auto kernels = kernels_for<OneCode<4, false>, kernel_families::packed_integers>(active_isa());
  kernels.margins({codes, PlaneLayout{8, 64, 4}}, PlaneList::of_code(4), {0, 1}, {model}, {margins});
  return margins[0];
}

#ifndef FLAGGED
int main() {
  int expected = 0;
  for (int j = 0; j < 64; ++j) expected += j % 16 * (j - 20);
  return baseline_margin() == expected && flagged_margin() == expected ? 0 : 1;
}
#endif
