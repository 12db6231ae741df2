#pragma once
/// \file
/// Room base: the float work of a batch: short loops over d values that give the same bits on every compiler.
/// A product and the sum that it feeds are in different loops, with a barrier between them, so that no
/// compiler contracts them into an FMA, and each loop still vectorises.

#include <cmath>
#include <cstdint>

#include <zipml/base/index.hpp>
#include <zipml/base/rounded.hpp>

namespace zipml::inline ZIPML_ABI::detail {

inline void multiply(const float* a, const float* b, float* out, Index n) {
  for (Index j = 0; j < n; ++j) out[j] = a[j] * b[j];
}

inline void multiply(const float* a, float factor, float* out, Index n) {
  for (Index j = 0; j < n; ++j) out[j] = a[j] * factor;
}

/// Sum in eight lanes of double, added up in a fixed order.
inline double sum(const float* a, Index n) {
  double lanes[8] = {};
  Index j = 0;
  for (; j + 8 <= n; j += 8)
    for (Index lane = 0; lane < 8; ++lane) lanes[lane] += static_cast<double>(a[j + lane]);
  for (Index lane = 0; j < n; ++j, ++lane) lanes[lane] += static_cast<double>(a[j]);
  return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

/// <a, b>; `scratch` holds n products.
inline double dot(const float* a, const float* b, float* scratch, Index n) {
  multiply(a, b, scratch, n);
  barrier();
  return sum(scratch, n);
}

/// y += factor * a; `scratch` holds n products.
inline void add_multiple(float factor, const float* a, float* y, float* scratch, Index n) {
  multiply(a, factor, scratch, n);
  barrier();
  for (Index j = 0; j < n; ++j) y[j] += scratch[j];
}

}  // namespace zipml::inline ZIPML_ABI::detail
