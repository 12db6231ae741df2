#pragma once
/// \file
/// Room base: margins and multiples of four float32 rows from which the means of their columns are subtracted on the way, in
/// sixteen lanes, products rounded: the same bits with vectors and without.

#include <algorithm>

#include <zipml/base/buffer.hpp>
#include <zipml/base/index.hpp>
#include <zipml/base/isa.hpp>
#if ZIPML_DEFINES
#include <zipml/base/intrinsics.hpp>
#include <zipml/base/rounded.hpp>
#endif

namespace zipml::inline ZIPML_ABI::detail {

/// Rows that are read together: their columns' means, weights and sums are loaded once for all of them.
inline constexpr Index rows_at_once = 4;

/// Columns of a group of lanes.
inline constexpr Index centred_lanes = 16;

/// z[r] = sum_j (row[r][j] - mean[j]) weights[j] for four rows of d values; `mean` and `weights` are padded to centred_lanes
/// with zeros. Nothing behind a row is read.
void centred_margins(Isa isa, const float* const* rows, Index d, const float* mean, const float* weights,
                     float* z);

/// sums[j] += sum_r factor[r] (row[r][j] - mean[j]), row after row; `sums` is padded as well.
void add_centred(Isa isa, const float* const* rows, Index d, const float* mean, const float* factor,
                 float* sums);

#if ZIPML_DEFINES

/// The columns [first, d) of four rows, with zeros behind them.
struct RowTails {
  RowTails(const float* const* rows, Index first, Index d) {
    for (Index r = 0; r < rows_at_once; ++r) {
      std::copy_n(rows[r] + first, d - first, values[r]);
      pointers[r] = values[r];
    }
  }
  float values[rows_at_once][centred_lanes] = {};
  const float* pointers[rows_at_once];
};

/// lanes[r][l] += (row[r][at + l] - mean[at + l]) weights[at + l] over whole groups from column `at` to `end`.
inline void margin_lanes(const float* const* rows, Index at, Index end, const float* mean,
                         const float* weights, float (*lanes)[centred_lanes]) {
  for (Index r = 0; r < rows_at_once; ++r)
    for (Index j = at; j < end; j += centred_lanes)
      for (Index l = 0; l < centred_lanes; ++l)
        lanes[r][l] += pinned((rows[r][j + l] - mean[j + l]) * weights[j + l]);
}
inline void add_lanes(const float* const* rows, Index at, Index end, const float* mean, const float* factor,
                      float* sums) {
  for (Index j = at; j < end; ++j)
    for (Index r = 0; r < rows_at_once; ++r) sums[j] += pinned(factor[r] * (rows[r][j] - mean[j]));
}

#if ZIPML_X86

// Products are pinned: a file with -mfma must not contract them.
__attribute__((target("avx2"))) inline void margin_lanes_avx2(const float* const* rows, Index at, Index end,
                                                              const float* mean, const float* weights,
                                                              float (*lanes)[centred_lanes]) {
  const float *a = rows[0], *b = rows[1], *c = rows[2], *d = rows[3];
  for (Index half = 0; half < centred_lanes; half += 8) {
    __m256 sa = _mm256_loadu_ps(lanes[0] + half), sb = _mm256_loadu_ps(lanes[1] + half);
    __m256 sc = _mm256_loadu_ps(lanes[2] + half), sd = _mm256_loadu_ps(lanes[3] + half);
    for (Index j = at + half; j < end; j += centred_lanes) {
      const __m256 m = _mm256_loadu_ps(mean + j), w = _mm256_loadu_ps(weights + j);
      __m256 pa = _mm256_mul_ps(_mm256_sub_ps(_mm256_loadu_ps(a + j), m), w);
      __m256 pb = _mm256_mul_ps(_mm256_sub_ps(_mm256_loadu_ps(b + j), m), w);
      __m256 pc = _mm256_mul_ps(_mm256_sub_ps(_mm256_loadu_ps(c + j), m), w);
      __m256 pd = _mm256_mul_ps(_mm256_sub_ps(_mm256_loadu_ps(d + j), m), w);
      asm("" : "+x"(pa), "+x"(pb), "+x"(pc), "+x"(pd));
      sa = _mm256_add_ps(sa, pa);
      sb = _mm256_add_ps(sb, pb);
      sc = _mm256_add_ps(sc, pc);
      sd = _mm256_add_ps(sd, pd);
    }
    _mm256_storeu_ps(lanes[0] + half, sa);
    _mm256_storeu_ps(lanes[1] + half, sb);
    _mm256_storeu_ps(lanes[2] + half, sc);
    _mm256_storeu_ps(lanes[3] + half, sd);
  }
}

__attribute__((target("avx2"))) inline void add_lanes_avx2(const float* const* rows, Index at, Index end,
                                                           const float* mean, const float* factor,
                                                           float* sums) {
  const float *a = rows[0], *b = rows[1], *c = rows[2], *d = rows[3];
  const __m256 fa = _mm256_set1_ps(factor[0]), fb = _mm256_set1_ps(factor[1]);
  const __m256 fc = _mm256_set1_ps(factor[2]), fd = _mm256_set1_ps(factor[3]);
  for (Index j = at; j < end; j += 8) {
    const __m256 m = _mm256_loadu_ps(mean + j);
    __m256 pa = _mm256_mul_ps(fa, _mm256_sub_ps(_mm256_loadu_ps(a + j), m));
    __m256 pb = _mm256_mul_ps(fb, _mm256_sub_ps(_mm256_loadu_ps(b + j), m));
    __m256 pc = _mm256_mul_ps(fc, _mm256_sub_ps(_mm256_loadu_ps(c + j), m));
    __m256 pd = _mm256_mul_ps(fd, _mm256_sub_ps(_mm256_loadu_ps(d + j), m));
    asm("" : "+x"(pa), "+x"(pb), "+x"(pc), "+x"(pd));
    __m256 s = _mm256_add_ps(_mm256_loadu_ps(sums + j), pa);
    s = _mm256_add_ps(s, pb);
    s = _mm256_add_ps(s, pc);
    _mm256_storeu_ps(sums + j, _mm256_add_ps(s, pd));
  }
}

#endif

ZIPML_FUNCTION void centred_margins(Isa isa, const float* const* rows, Index d, const float* mean,
                                    const float* weights, float* z) {
  float lanes[rows_at_once][centred_lanes] = {};
  const auto add = [&](const float* const* from, Index end, const float* m, const float* w) {
#if ZIPML_X86
    if (isa != Isa::scalar) return margin_lanes_avx2(from, 0, end, m, w, lanes);
#endif
    margin_lanes(from, 0, end, m, w, lanes);
  };
  (void)isa;
  const Index whole = d / centred_lanes * centred_lanes;
  add(rows, whole, mean, weights);
  if (whole < d) add(RowTails(rows, whole, d).pointers, centred_lanes, mean + whole, weights + whole);
  for (Index r = 0; r < rows_at_once; ++r) {
    for (Index half = centred_lanes / 2; half > 0; half /= 2)
      for (Index l = 0; l < half; ++l) lanes[r][l] += lanes[r][l + half];
    z[r] = lanes[r][0];
  }
}

ZIPML_FUNCTION void add_centred(Isa isa, const float* const* rows, Index d, const float* mean,
                                const float* factor, float* sums) {
  const auto add = [&](const float* const* from, Index end, const float* m, float* to) {
#if ZIPML_X86
    if (isa != Isa::scalar) return add_lanes_avx2(from, 0, end, m, factor, to);
#endif
    add_lanes(from, 0, end, m, factor, to);
  };
  (void)isa;
  const Index whole = d / centred_lanes * centred_lanes;
  add(rows, whole, mean, sums);
  if (whole < d) add(RowTails(rows, whole, d).pointers, centred_lanes, mean + whole, sums + whole);
}

#endif

}  // namespace zipml::inline ZIPML_ABI::detail
