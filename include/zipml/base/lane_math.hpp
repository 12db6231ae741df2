#pragma once
/// \file
/// Room base: dot products and multiples of vectors in sixteen lanes of float32, by vectors where the machine
/// has AVX2: the same bits with them and without. (The kernels' float paths contract products into FMA, and
/// promise no bits between instruction sets.)

#include <zipml/base/index.hpp>
#include <zipml/base/isa.hpp>
#if ZIPML_DEFINES
#include <zipml/base/intrinsics.hpp>
#include <zipml/base/rounded.hpp>
#include <zipml/base/vector_math.hpp>
#endif

namespace zipml::inline ZIPML_ABI::detail {

inline constexpr Index lane_count = 16;

/// <a, b> of n entries, a multiple of lane_count: lane k sums the entries k mod 16, the lanes are added up in
/// a fixed order, products are rounded. `scratch` holds n.
float lane_dot(Isa isa, const float* a, const float* b, float* scratch, Index n);
/// y += factor * a for n entries, a multiple of lane_count, products rounded. `scratch` holds n.
void lane_add(Isa isa, float factor, const float* a, float* y, float* scratch, Index n);

#if ZIPML_DEFINES

#if ZIPML_X86

// The products are pinned: a file with -mfma must not contract them.
__attribute__((target("avx2"))) inline void lane_sums_avx2(const float* a, const float* b, Index n,
                                                           float* lanes) {
  __m256 low = _mm256_setzero_ps(), high = low;
  for (Index j = 0; j < n; j += lane_count) {
    __m256 p = _mm256_mul_ps(_mm256_loadu_ps(a + j), _mm256_loadu_ps(b + j));
    __m256 q = _mm256_mul_ps(_mm256_loadu_ps(a + j + 8), _mm256_loadu_ps(b + j + 8));
    asm("" : "+x"(p), "+x"(q));
    low = _mm256_add_ps(low, p);
    high = _mm256_add_ps(high, q);
  }
  _mm256_storeu_ps(lanes, low);
  _mm256_storeu_ps(lanes + 8, high);
}

__attribute__((target("avx2"))) inline void lane_add_avx2(float factor, const float* a, float* y, Index n) {
  const __m256 f = _mm256_set1_ps(factor);
  for (Index j = 0; j < n; j += 8) {
    __m256 p = _mm256_mul_ps(f, _mm256_loadu_ps(a + j));
    asm("" : "+x"(p));
    _mm256_storeu_ps(y + j, _mm256_add_ps(_mm256_loadu_ps(y + j), p));
  }
}

#endif

ZIPML_FUNCTION float lane_dot(Isa isa, const float* a, const float* b, float* scratch, Index n) {
  float lanes[lane_count] = {};
#if ZIPML_X86
  if (isa != Isa::scalar) {
    lane_sums_avx2(a, b, n, lanes);
  } else
#endif
  {
    (void)isa;
    multiply(a, b, scratch, n);
    barrier();
    for (Index j = 0; j < n; j += lane_count)
      for (Index lane = 0; lane < lane_count; ++lane) lanes[lane] += scratch[j + lane];
  }
  for (Index half = lane_count / 2; half > 0; half /= 2)
    for (Index lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
  return lanes[0];
}

ZIPML_FUNCTION void lane_add(Isa isa, float factor, const float* a, float* y, float* scratch, Index n) {
#if ZIPML_X86
  if (isa != Isa::scalar) return lane_add_avx2(factor, a, y, n);
#endif
  (void)isa;
  add_multiple(factor, a, y, scratch, n);
}

#endif

}  // namespace zipml::inline ZIPML_ABI::detail
