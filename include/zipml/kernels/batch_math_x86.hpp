#pragma once
/// \file
/// Room kernels: batch_math.hpp in AVX2, and in AVX-512 where that is faster, the same bits. An asm keeps a
/// product from becoming part of an FMA at no cost, where C++ needs a comparison, and largest values and sums
/// stay in registers.

#include <type_traits>

#include <zipml/base/index.hpp>
#include <zipml/base/intrinsics.hpp>
#include <zipml/kernels/batch_math.hpp>

#if ZIPML_X86

namespace zipml::inline ZIPML_ABI::detail {

/// a * b, rounded before it feeds a sum.
ZIPML_INLINE_AVX2 inline __m256 product_avx2(__m256 a, __m256 b) {
  __m256 product = _mm256_mul_ps(a, b);
  asm("" : "+x"(product));
  return product;
}

/// The sum of four lanes by halving.
ZIPML_INLINE_AVX2 inline double sum_avx2(__m256d four) {
  const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
  return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}

/// Magnitudes as integers, in whose order NaN is above infinity, and the largest of eight.
ZIPML_INLINE_AVX2 inline __m256i magnitudes_avx2(__m256 v) {
  return _mm256_and_si256(_mm256_castps_si256(v), _mm256_set1_epi32(0x7fffffff));
}
ZIPML_INLINE_AVX2 inline float largest_avx2(__m256i magnitudes) {
  const __m128i four =
      _mm_max_epi32(_mm256_castsi256_si128(magnitudes), _mm256_extracti128_si256(magnitudes, 1));
  const __m128i two = _mm_max_epi32(four, _mm_shuffle_epi32(four, 0x4e));
  return _mm_cvtss_f32(_mm_castsi128_ps(_mm_max_epi32(two, _mm_shuffle_epi32(two, 0xb1))));
}

/// See fold_body.
ZIPML_TARGET_AVX2 inline float fold_avx2(const float* step, const float* x, float* folded, Index padded) {
  __m256i largest = _mm256_setzero_si256();
  for (Index j = 0; j < padded; j += 8) {
    const __m256 v = _mm256_mul_ps(_mm256_loadu_ps(step + j), _mm256_loadu_ps(x + j));
    _mm256_storeu_ps(folded + j, v);
    largest = _mm256_max_epi32(largest, magnitudes_avx2(v));
  }
  return largest_avx2(largest);
}

/// sum_j a_j b_j, see ScalarKernels::dot.
ZIPML_TARGET_AVX2 inline double dot_avx2(const float* a, const float* b, Index padded) {
  __m256d lanes[4];
  for (__m256d& four : lanes) four = _mm256_setzero_pd();
  for (Index j = 0; j < padded; j += 16)
    for (int k = 0; k < 4; ++k) {
      const __m128 products = _mm_mul_ps(_mm_loadu_ps(a + j + 4 * k), _mm_loadu_ps(b + j + 4 * k));
      lanes[k] = _mm256_add_pd(lanes[k], _mm256_cvtps_pd(products));
    }
  return sum_avx2(_mm256_add_pd(_mm256_add_pd(lanes[0], lanes[2]), _mm256_add_pd(lanes[1], lanes[3])));
}

/// Eight codes times the scale.
ZIPML_INLINE_AVX2 inline __m256 scaled_codes_avx2(const std::int8_t* codes, __m256 scale) {
  const __m128i eight = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(codes));
  return _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(eight)), scale);
}

/// See unfold_body: 32 lanes, and x in the same pass.
template <bool HasX>
ZIPML_TARGET_AVX2 double unfold_avx2(const std::int8_t* codes, float scale, const float* ratio,
                                     const float* inverse_step, float* x, Index padded) {
  const __m256 factor = _mm256_set1_ps(scale);
  __m256d lanes[8];
  for (__m256d& four : lanes) four = _mm256_setzero_pd();
  for (Index j = 0; j < padded; j += math_block)
    for (int k = 0; k < 4; ++k) {
      const Index at = j + 8 * k;
      const __m256 rounded = scaled_codes_avx2(codes + at, factor);
      const __m256 products = _mm256_mul_ps(rounded, _mm256_loadu_ps(ratio + at));
      lanes[2 * k] = _mm256_add_pd(lanes[2 * k], _mm256_cvtps_pd(_mm256_castps256_ps128(products)));
      lanes[2 * k + 1] = _mm256_add_pd(lanes[2 * k + 1], _mm256_cvtps_pd(_mm256_extractf128_ps(products, 1)));
      if constexpr (HasX)
        _mm256_storeu_ps(x + at, _mm256_mul_ps(rounded, _mm256_loadu_ps(inverse_step + at)));
    }
  for (int half = 4; half > 0; half /= 2)
    for (int k = 0; k < half; ++k) lanes[k] = _mm256_add_pd(lanes[k], lanes[k + half]);
  return sum_avx2(lanes[0]);
}

inline double unfold_avx2(const std::int8_t* codes, float scale, const float* ratio,
                          const float* inverse_step, float* x, Index padded) {
  if (x == nullptr) return unfold_avx2<false>(codes, scale, ratio, inverse_step, x, padded);
  return unfold_avx2<true>(codes, scale, ratio, inverse_step, x, padded);
}

/// The same in AVX-512, the lanes added in the same order.
template <bool HasX>
ZIPML_TARGET_AVX512 double unfold_avx512(const std::int8_t* codes, float scale, const float* ratio,
                                         const float* inverse_step, float* x, Index padded) {
  const __m512 factor = _mm512_set1_ps(scale);
  __m512d lanes[4];
  for (__m512d& eight : lanes) eight = _mm512_setzero_pd();
  for (Index j = 0; j < padded; j += math_block)
    for (int k = 0; k < 2; ++k) {
      const Index at = j + 16 * k;
      const __m128i sixteen = _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes + at));
      const __m512 rounded = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(sixteen)), factor);
      const __m512 products = _mm512_mul_ps(rounded, _mm512_loadu_ps(ratio + at));
      const __m256 upper = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(products), 1));
      lanes[2 * k] = _mm512_add_pd(lanes[2 * k], _mm512_cvtps_pd(_mm512_castps512_ps256(products)));
      lanes[2 * k + 1] = _mm512_add_pd(lanes[2 * k + 1], _mm512_cvtps_pd(upper));
      if constexpr (HasX)
        _mm512_storeu_ps(x + at, _mm512_mul_ps(rounded, _mm512_loadu_ps(inverse_step + at)));
    }
  const __m512d eight = _mm512_add_pd(_mm512_add_pd(lanes[0], lanes[2]), _mm512_add_pd(lanes[1], lanes[3]));
  return sum_avx2(_mm256_add_pd(_mm512_castpd512_pd256(eight), _mm512_extractf64x4_pd(eight, 1)));
}

inline double unfold_avx512(const std::int8_t* codes, float scale, const float* ratio,
                            const float* inverse_step, float* x, Index padded) {
  if (x == nullptr) return unfold_avx512<false>(codes, scale, ratio, inverse_step, x, padded);
  return unfold_avx512<true>(codes, scale, ratio, inverse_step, x, padded);
}

/// See descend_body.
template <bool Integers, bool HasSteps, bool HasOutliers, Diagonal D>
ZIPML_TARGET_AVX2 float descend_avx2(const GradientFrame& frame, float model_step, float* x, Index padded) {
  const __m256 code_scale = _mm256_set1_ps(frame.code_scale);
  const __m256 inner = _mm256_set1_ps(frame.inner);
  const __m256 outer = _mm256_set1_ps(frame.outer);
  const __m256 share = _mm256_set1_ps(frame.share);
  const __m256 by = _mm256_set1_ps(model_step);
  __m256i largest = _mm256_setzero_si256();
  for (Index j = 0; j < padded; j += 8) {
    __m256 g;
    if constexpr (Integers) {
      __m256i* codes = reinterpret_cast<__m256i*>(frame.codes + j);
      g = product_avx2(_mm256_cvtepi32_ps(_mm256_loadu_si256(codes)), code_scale);
      _mm256_storeu_si256(codes, _mm256_setzero_si256());
    } else {
      g = _mm256_loadu_ps(frame.sums + j);
      _mm256_storeu_ps(frame.sums + j, _mm256_setzero_ps());
    }
    if constexpr (HasSteps)
      g = _mm256_add_ps(product_avx2(_mm256_add_ps(g, inner), _mm256_loadu_ps(frame.step + j)),
                        product_avx2(_mm256_loadu_ps(frame.offset + j), outer));
    if constexpr (HasOutliers) g = _mm256_add_ps(g, _mm256_loadu_ps(frame.outliers + j));
    g = product_avx2(g, share);
    const __m256 before = _mm256_loadu_ps(x + j);
    if constexpr (D != Diagonal::none) {
      const __m256 model = D == Diagonal::of_itself ? before : _mm256_loadu_ps(frame.model + j);
      g = _mm256_sub_ps(g, product_avx2(_mm256_loadu_ps(frame.diagonal + j), model));
    }
    _mm256_storeu_ps(x + j, _mm256_sub_ps(before, product_avx2(g, by)));
    largest = _mm256_max_epi32(largest, magnitudes_avx2(g));
  }
  return largest_avx2(largest);
}

/// product_avx2, magnitudes_avx2 and largest_avx2 in AVX-512.
ZIPML_INLINE_AVX512 inline __m512 product_avx512(__m512 a, __m512 b) {
  __m512 product = _mm512_mul_ps(a, b);
  asm("" : "+v"(product));
  return product;
}
ZIPML_INLINE_AVX512 inline __m512i magnitudes_avx512(__m512 v) {
  return _mm512_and_si512(_mm512_castps_si512(v), _mm512_set1_epi32(0x7fffffff));
}
ZIPML_INLINE_AVX512 inline float largest_avx512(__m512i magnitudes) {
  return largest_avx2(
      _mm256_max_epi32(_mm512_castsi512_si256(magnitudes), _mm512_extracti64x4_epi64(magnitudes, 1)));
}

/// The same in AVX-512.
template <bool Integers, bool HasSteps, bool HasOutliers, Diagonal D>
ZIPML_TARGET_AVX512 float descend_avx512(const GradientFrame& frame, float model_step, float* x,
                                         Index padded) {
  const __m512 code_scale = _mm512_set1_ps(frame.code_scale);
  const __m512 inner = _mm512_set1_ps(frame.inner);
  const __m512 outer = _mm512_set1_ps(frame.outer);
  const __m512 share = _mm512_set1_ps(frame.share);
  const __m512 by = _mm512_set1_ps(model_step);
  __m512i largest = _mm512_setzero_si512();
  for (Index j = 0; j < padded; j += 16) {
    __m512 g;
    if constexpr (Integers) {
      std::int32_t* codes = frame.codes + j;
      g = product_avx512(_mm512_cvtepi32_ps(_mm512_loadu_si512(codes)), code_scale);
      _mm512_storeu_si512(codes, _mm512_setzero_si512());
    } else {
      g = _mm512_loadu_ps(frame.sums + j);
      _mm512_storeu_ps(frame.sums + j, _mm512_setzero_ps());
    }
    if constexpr (HasSteps)
      g = _mm512_add_ps(product_avx512(_mm512_add_ps(g, inner), _mm512_loadu_ps(frame.step + j)),
                        product_avx512(_mm512_loadu_ps(frame.offset + j), outer));
    if constexpr (HasOutliers) g = _mm512_add_ps(g, _mm512_loadu_ps(frame.outliers + j));
    g = product_avx512(g, share);
    const __m512 before = _mm512_loadu_ps(x + j);
    if constexpr (D != Diagonal::none) {
      const __m512 model = D == Diagonal::of_itself ? before : _mm512_loadu_ps(frame.model + j);
      g = _mm512_sub_ps(g, product_avx512(_mm512_loadu_ps(frame.diagonal + j), model));
    }
    _mm512_storeu_ps(x + j, _mm512_sub_ps(before, product_avx512(g, by)));
    largest = _mm512_max_epi32(largest, magnitudes_avx512(g));
  }
  return largest_avx512(largest);
}

/// The step with the parts that a frame has, as constants: f(integers, steps, outliers, diagonal).
template <class F>
float visit_frame(const GradientFrame& frame, const float* x, const F& f) {
  const auto with_diagonal = [&](auto integers, auto steps, auto outliers) {
    if (frame.diagonal == nullptr)
      return f(integers, steps, outliers, std::integral_constant<Diagonal, Diagonal::none>{});
    if (frame.model == x)
      return f(integers, steps, outliers, std::integral_constant<Diagonal, Diagonal::of_itself>{});
    return f(integers, steps, outliers, std::integral_constant<Diagonal, Diagonal::of_another>{});
  };
  const auto with_outliers = [&](auto integers, auto steps) {
    if (frame.outliers != nullptr) return with_diagonal(integers, steps, std::true_type{});
    return with_diagonal(integers, steps, std::false_type{});
  };
  if (frame.sums == nullptr) return with_outliers(std::true_type{}, std::true_type{});
  if (frame.step != nullptr) return with_outliers(std::false_type{}, std::true_type{});
  return with_outliers(std::false_type{}, std::false_type{});
}

inline float descend_avx2(const GradientFrame& frame, float step, float* x, Index padded) {
  return visit_frame(frame, x, [&](auto integers, auto steps, auto outliers, auto diagonal) {
    return descend_avx2<integers(), steps(), outliers(), diagonal()>(frame, step, x, padded);
  });
}
inline float descend_avx512(const GradientFrame& frame, float step, float* x, Index padded) {
  return visit_frame(frame, x, [&](auto integers, auto steps, auto outliers, auto diagonal) {
    return descend_avx512<integers(), steps(), outliers(), diagonal()>(frame, step, x, padded);
  });
}

}  // namespace zipml::inline ZIPML_ABI::detail

#endif  // ZIPML_X86
