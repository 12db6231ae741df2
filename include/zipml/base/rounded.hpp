#pragma once
/// \file
/// Room base: float expressions that decide bits. g++ contracts a product and the sum that it feeds into an
/// FMA where a target has one, and a header cannot forbid that: these make the rounding of the product final.

#include <limits>

#include <zipml/base/config.hpp>

namespace zipml::inline ZIPML_ABI {

/// `value`, with its rounding made final: a compiler may not contract the product that made it into an FMA.
/// For expressions that decide bits and cannot avoid a product that feeds a sum.
template <class T>
T pinned(T value) {
#if ZIPML_X86 && defined(__SSE2__)
  asm("" : "+x"(value));
#elif defined(__aarch64__)
  asm("" : "+w"(value));
#else
  volatile T stored = value;
  value = stored;
#endif
  return value;
}

namespace detail {

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

}  // namespace detail

}  // namespace zipml::inline ZIPML_ABI
