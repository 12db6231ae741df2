#pragma once
/// \file
/// Room training: norms of rows, and how they go with the columns: what the noise of a gradient depends on.

#include <algorithm>
#include <cstdint>

#include <zipml/base/buffer.hpp>
#include <zipml/base/isa.hpp>
#if ZIPML_DEFINES
#include <zipml/base/intrinsics.hpp>
#include <zipml/base/rounded.hpp>
#endif

namespace zipml::inline ZIPML_ABI::detail {

/// Sums over rows a of weight w, a 1 appended to each: of w |a|^2 and w^2 |a|^2, and for each column of w a_j^2 and
/// (w |a|^2) w a_j^2. In double, in lanes of a fixed number: the same bits on every instruction set.
class RowNorms {
 public:
  static constexpr Index together = 4;  ///< rows at most

  explicit RowNorms(Index cols);

  /// `count` rows, `stride` floats apart, a multiple of 8, with zeros behind their columns. `weights` has one for each,
  /// or is null.
  void add(Isa isa, const float* rows, Index stride, Index count, const float* weights);

  double norms = 0.0;
  double weighted = 0.0;
  /// Of a column.
  double squares(Index j) const { return squares_[j]; }
  double squares_times_norm(Index j) const { return times_norm_[j]; }

 private:
  Index padded_;
  Buffer<double> squares_, times_norm_;
};

#if ZIPML_DEFINES

// Products of floats are exact in double, whatever a compiler contracts; those of doubles are pinned.

ZIPML_FUNCTION double square_norm(const float* row, Index padded) {
  double lanes[8] = {};
  for (Index j = 0; j < padded; j += 8)
    for (Index l = 0; l < 8; ++l)
      lanes[l] += static_cast<double>(row[j + l]) * static_cast<double>(row[j + l]);
  return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

ZIPML_FUNCTION void add_columns(const float* rows, Index stride, Index count, const double* weights,
                                const double* norms, Index padded, double* squares, double* times_norm) {
  for (Index j = 0; j < padded; ++j)
    for (Index r = 0; r < count; ++r) {
      const auto v = static_cast<double>(rows[r * stride + j]);
      const double square = pinned(weights[r] * (v * v));
      squares[j] += square;
      times_norm[j] += pinned(norms[r] * square);
    }
}

#if ZIPML_X86

__attribute__((target("avx2"))) inline double square_norm_avx2(const float* row, Index padded) {
  __m256d low = _mm256_setzero_pd(), high = low;
  for (Index j = 0; j < padded; j += 8) {
    const __m256d a = _mm256_cvtps_pd(_mm_loadu_ps(row + j)), b = _mm256_cvtps_pd(_mm_loadu_ps(row + j + 4));
    low = _mm256_add_pd(low, _mm256_mul_pd(a, a));
    high = _mm256_add_pd(high, _mm256_mul_pd(b, b));
  }
  double lanes[8];
  _mm256_storeu_pd(lanes, low);
  _mm256_storeu_pd(lanes + 4, high);
  return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

__attribute__((target("avx2"))) inline void add_columns_avx2(const float* rows, Index stride, Index count,
                                                             const double* weights, const double* norms,
                                                             Index padded, double* squares,
                                                             double* times_norm) {
  for (Index j = 0; j < padded; j += 4) {
    __m256d s = _mm256_loadu_pd(squares + j), t = _mm256_loadu_pd(times_norm + j);
    for (Index r = 0; r < count; ++r) {
      const __m256d v = _mm256_cvtps_pd(_mm_loadu_ps(rows + r * stride + j));
      __m256d square = _mm256_mul_pd(_mm256_set1_pd(weights[r]), _mm256_mul_pd(v, v));
      asm("" : "+x"(square));
      __m256d product = _mm256_mul_pd(_mm256_set1_pd(norms[r]), square);
      asm("" : "+x"(product));
      s = _mm256_add_pd(s, square);
      t = _mm256_add_pd(t, product);
    }
    _mm256_storeu_pd(squares + j, s);
    _mm256_storeu_pd(times_norm + j, t);
  }
}

ZIPML_TARGET_AVX512 inline double square_norm_avx512(const float* row, Index padded) {
  __m512d sum = _mm512_setzero_pd();
  for (Index j = 0; j < padded; j += 8) {
    const __m512d a = _mm512_cvtps_pd(_mm256_loadu_ps(row + j));
    sum = _mm512_add_pd(sum, _mm512_mul_pd(a, a));
  }
  double lanes[8];
  _mm512_storeu_pd(lanes, sum);
  return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

ZIPML_TARGET_AVX512 inline void add_columns_avx512(const float* rows, Index stride, Index count,
                                                   const double* weights, const double* norms, Index padded,
                                                   double* squares, double* times_norm) {
  for (Index j = 0; j < padded; j += 8) {
    __m512d s = _mm512_loadu_pd(squares + j), t = _mm512_loadu_pd(times_norm + j);
    for (Index r = 0; r < count; ++r) {
      const __m512d v = _mm512_cvtps_pd(_mm256_loadu_ps(rows + r * stride + j));
      __m512d square = _mm512_mul_pd(_mm512_set1_pd(weights[r]), _mm512_mul_pd(v, v));
      asm("" : "+v"(square));
      __m512d product = _mm512_mul_pd(_mm512_set1_pd(norms[r]), square);
      asm("" : "+v"(product));
      s = _mm512_add_pd(s, square);
      t = _mm512_add_pd(t, product);
    }
    _mm512_storeu_pd(squares + j, s);
    _mm512_storeu_pd(times_norm + j, t);
  }
}

#endif

ZIPML_FUNCTION RowNorms::RowNorms(Index cols)
    : padded_(round_up(cols, Index{8})), squares_(padded_), times_norm_(padded_) {}

ZIPML_FUNCTION void RowNorms::add(Isa isa, const float* rows, Index stride, Index count,
                                  const float* weights) {
  double weight[together], norm[together];
  for (Index r = 0; r < count; ++r) {
    weight[r] = weights != nullptr ? static_cast<double>(weights[r]) : 1.0;
    const float* const row = rows + r * stride;
    double square = 0.0;
#if ZIPML_X86
    square = isa == Isa::avx512   ? square_norm_avx512(row, padded_)
             : isa != Isa::scalar ? square_norm_avx2(row, padded_)
                                  : square_norm(row, padded_);
#else
    square = square_norm(row, padded_);
#endif
    norm[r] = weight[r] * (1.0 + square);
    norms += norm[r];
    weighted += pinned(norm[r] * weight[r]);
  }
#if ZIPML_X86
  if (isa == Isa::avx512)
    return add_columns_avx512(rows, stride, count, weight, norm, padded_, squares_.data(),
                              times_norm_.data());
  if (isa != Isa::scalar)
    return add_columns_avx2(rows, stride, count, weight, norm, padded_, squares_.data(), times_norm_.data());
#endif
  (void)isa;
  add_columns(rows, stride, count, weight, norm, padded_, squares_.data(), times_norm_.data());
}

#endif

}  // namespace zipml::inline ZIPML_ABI::detail
