#pragma once
/// \file
/// Layer 0: the float work of a batch: short loops over d values that give the same bits on every compiler. A
/// product and the sum that it feeds are in different loops, with a barrier between them, so that no compiler
/// contracts them into an FMA, and each loop still vectorises.

#include <cmath>
#include <cstdint>
#include <limits>

#include <zipml/types.hpp>

namespace zipml::inline ZIPML_ABI::detail {

/// The compiler may not move memory accesses across: stored products stay rounded.
inline void barrier() { asm volatile("" ::: "memory"); }

/// Rounds products: no compiler contracts one and the sum that it feeds into an FMA when it is compared with
/// a limit in between, of which the compiler does not know that it is infinite. Loops still vectorise.
/// (Neither an empty asm nor __builtin_assoc_barrier does both in g++ 12.)
template <class T>
class Rounded {
 public:
  ZIPML_ALWAYS_INLINE Rounded() { asm("" : "+m"(limit_)); }
  ZIPML_ALWAYS_INLINE T operator()(T product) const { return limit_ < product ? limit_ : product; }

 private:
  T limit_ = std::numeric_limits<T>::infinity();
};

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
