#pragma once
/// \file
/// Room base: the exponential function with the same bits on every machine. That of the C library is chosen by the
/// processor and differs in its last bits; what residuals rest on must not.

#include <bit>
#include <cmath>
#include <cstdint>

#include <zipml/base/rounded.hpp>

namespace zipml::inline ZIPML_ABI {

/// e^x within 2 units in the last place. Below -708 it is 0, above 709 that of 709.
///
/// e^x = 2^n e^r with n = round(x / ln 2) and |r| <= ln 2 / 2, where ln 2 is split into two parts (Cody, Waite 1980,
/// chapter 6) and e^r is its Taylor polynomial of degree 13, whose rest is below 4e-18.
inline double exponential(double x) {
  if (!(x > -708.0)) return x != x ? x : 0.0;
  if (x > 709.0) x = 709.0;
  constexpr double log2_e = 1.4426950408889634, high = 0x1.62e42fee00000p-1, low = 0x1.a39ef35793c76p-33;
  const double n = std::nearbyint(x * log2_e);
  const double r = (x - pinned(n * high)) - pinned(n * low);
  constexpr double terms[] = {
      1.0 / 6227020800, 1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320, 1.0 / 5040,
      1.0 / 720,        1.0 / 120,       1.0 / 24,       1.0 / 6,       0.5,          1.0,         1.0};
  double sum = terms[0];
  for (int k = 1; k < 14; ++k) sum = terms[k] + pinned(sum * r);
  const auto exponent = static_cast<std::uint64_t>(1023 + static_cast<std::int64_t>(n));
  return sum * std::bit_cast<double>(exponent << 52);
}

}  // namespace zipml::inline ZIPML_ABI
