#pragma once
/// \file
/// Room packing: range, mean and deviation of columns from the one reading that also rounds them: sums about
/// a centre that a sample of the rows has told, in double and in chunks of rows in the user's order, so that
/// they are the same bits on every instruction set, for any number of threads, and from a stream.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>

#include <zipml/base/buffer.hpp>
#include <zipml/base/isa.hpp>
#include <zipml/quantization/statistics.hpp>
#if ZIPML_DEFINES
#include <zipml/base/intrinsics.hpp>
#include <zipml/base/rounded.hpp>
#endif

namespace zipml::inline ZIPML_ABI::detail {

/// The sums of one thread over chunks of rows. With the centre c_j of a column, a chunk has S1 = sum (v - c)
/// and S2 = sum (v - c)^2; then mean = c + S1 / n and variance = S2 / n - (S1 / n)^2, where c is so near to
/// the mean that nothing cancels.
class ColumnSums {
 public:
  /// `centres` are statistics of a sample.
  explicit ColumnSums(const Buffer<ColumnStatistics>& centres);

  /// Entries that close_chunk writes: S1 and S2 of each column.
  static Index entries(Index cols) { return 2 * cols; }

  /// Adds up to 8 rows. False when one of them has a value that is not finite.
  bool add(Isa isa, std::span<const float* const> rows);
  /// Writes the sums since the last call and begins anew.
  void close_chunk(double* out);

  float lowest(Index j) const { return low_[j]; }
  float highest(Index j) const { return high_[j]; }

 private:
  Index d_;
  Buffer<double> centre_, sums_, squares_;  // padded
  Buffer<float> low_, high_;
};

/// Statistics of n rows from the sums of their chunks, about the same centres, and the extremes that every
/// thread has seen.
Buffer<ColumnStatistics> statistics_of(const Buffer<ColumnStatistics>& centres, std::span<const double> sums,
                                       std::span<const ColumnSums> of_threads, Index rows);

#if ZIPML_DEFINES

inline constexpr Index strip_columns = 16;

/// 16 columns of some rows. The square is pinned: a file with -mfma must not contract it.
ZIPML_FUNCTION bool add_strip(std::span<const float* const> rows, Index j, const double* centre, double* sums,
                              double* squares, float* low, float* high) {
  bool finite = true;
  for (Index k = 0; k < strip_columns; ++k) {
    double s = sums[k], q = squares[k];
    for (const float* row : rows) {
      const float v = row[j + k];
      finite = finite && v - v == 0.0f;
      low[k] = v < low[k] ? v : low[k];
      high[k] = high[k] < v ? v : high[k];
      const double distance = static_cast<double>(v) - centre[k];
      s += distance;
      q += pinned(distance * distance);
    }
    sums[k] = s;
    squares[k] = q;
  }
  return finite;
}

#if ZIPML_X86

__attribute__((target("avx2"))) inline bool add_strip_avx2(std::span<const float* const> rows, Index j,
                                                           const double* centre, double* sums,
                                                           double* squares, float* low, float* high) {
  __m256 bad = _mm256_setzero_ps();
  for (Index k = 0; k < strip_columns; k += 8) {
    __m256d s0 = _mm256_loadu_pd(sums + k), s1 = _mm256_loadu_pd(sums + k + 4);
    __m256d q0 = _mm256_loadu_pd(squares + k), q1 = _mm256_loadu_pd(squares + k + 4);
    const __m256d c0 = _mm256_loadu_pd(centre + k), c1 = _mm256_loadu_pd(centre + k + 4);
    __m256 lowest = _mm256_loadu_ps(low + k), highest = _mm256_loadu_ps(high + k);
    for (const float* row : rows) {
      const __m256 v = _mm256_loadu_ps(row + j + k);
      const __m256 zero = _mm256_sub_ps(v, v);
      bad = _mm256_or_ps(bad, _mm256_cmp_ps(zero, zero, _CMP_UNORD_Q));
      lowest = _mm256_min_ps(v, lowest);
      highest = _mm256_max_ps(v, highest);
      const __m256d d0 = _mm256_sub_pd(_mm256_cvtps_pd(_mm256_castps256_ps128(v)), c0);
      const __m256d d1 = _mm256_sub_pd(_mm256_cvtps_pd(_mm256_extractf128_ps(v, 1)), c1);
      __m256d p0 = _mm256_mul_pd(d0, d0), p1 = _mm256_mul_pd(d1, d1);
      asm("" : "+x"(p0), "+x"(p1));
      s0 = _mm256_add_pd(s0, d0);
      s1 = _mm256_add_pd(s1, d1);
      q0 = _mm256_add_pd(q0, p0);
      q1 = _mm256_add_pd(q1, p1);
    }
    _mm256_storeu_pd(sums + k, s0);
    _mm256_storeu_pd(sums + k + 4, s1);
    _mm256_storeu_pd(squares + k, q0);
    _mm256_storeu_pd(squares + k + 4, q1);
    _mm256_storeu_ps(low + k, lowest);
    _mm256_storeu_ps(high + k, highest);
  }
  return _mm256_movemask_ps(bad) == 0;
}

ZIPML_TARGET_AVX512 inline bool add_strip_avx512(std::span<const float* const> rows, Index j,
                                                 const double* centre, double* sums, double* squares,
                                                 float* low, float* high) {
  __mmask16 bad = 0;
  __m512d s0 = _mm512_loadu_pd(sums), s1 = _mm512_loadu_pd(sums + 8);
  __m512d q0 = _mm512_loadu_pd(squares), q1 = _mm512_loadu_pd(squares + 8);
  const __m512d c0 = _mm512_loadu_pd(centre), c1 = _mm512_loadu_pd(centre + 8);
  __m512 lowest = _mm512_loadu_ps(low), highest = _mm512_loadu_ps(high);
  for (const float* row : rows) {
    const __m512 v = _mm512_loadu_ps(row + j);
    const __m512 zero = _mm512_sub_ps(v, v);
    bad = static_cast<__mmask16>(bad | _mm512_cmp_ps_mask(zero, zero, _CMP_UNORD_Q));
    lowest = _mm512_min_ps(v, lowest);
    highest = _mm512_max_ps(v, highest);
    const __m512d d0 = _mm512_sub_pd(_mm512_cvtps_pd(_mm512_castps512_ps256(v)), c0);
    const __m512d d1 =
        _mm512_sub_pd(_mm512_cvtps_pd(_mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(v), 1))), c1);
    __m512d p0 = _mm512_mul_pd(d0, d0), p1 = _mm512_mul_pd(d1, d1);
    asm("" : "+v"(p0), "+v"(p1));
    s0 = _mm512_add_pd(s0, d0);
    s1 = _mm512_add_pd(s1, d1);
    q0 = _mm512_add_pd(q0, p0);
    q1 = _mm512_add_pd(q1, p1);
  }
  _mm512_storeu_pd(sums, s0);
  _mm512_storeu_pd(sums + 8, s1);
  _mm512_storeu_pd(squares, q0);
  _mm512_storeu_pd(squares + 8, q1);
  _mm512_storeu_ps(low, lowest);
  _mm512_storeu_ps(high, highest);
  return bad == 0;
}

#endif

ZIPML_FUNCTION ColumnSums::ColumnSums(const Buffer<ColumnStatistics>& centres)
    : d_(centres.size()),
      centre_(round_up(d_, strip_columns)),
      sums_(centre_.size()),
      squares_(centre_.size()),
      low_(centre_.size()),
      high_(centre_.size()) {
  for (Index j = 0; j < d_; ++j) {
    centre_[j] = static_cast<double>(static_cast<float>(centres[j].mean));
    low_[j] = std::numeric_limits<float>::infinity();
    high_[j] = -low_[j];
  }
}

ZIPML_FUNCTION bool ColumnSums::add(Isa isa, std::span<const float* const> rows) {
  bool finite = true;
  const auto strip = [&](std::span<const float* const> from, Index at, Index j) {
    double *s = sums_.data() + j, *q = squares_.data() + j;
    float *low = low_.data() + j, *high = high_.data() + j;
#if ZIPML_X86
    if (isa == Isa::avx512) return add_strip_avx512(from, at, centre_.data() + j, s, q, low, high);
    if (isa != Isa::scalar) return add_strip_avx2(from, at, centre_.data() + j, s, q, low, high);
#endif
    return add_strip(from, at, centre_.data() + j, s, q, low, high);
  };
  (void)isa;
  const Index whole = d_ / strip_columns * strip_columns;
  for (Index j = 0; j < whole; j += strip_columns) finite = strip(rows, j, j) && finite;
  if (whole == d_) return finite;
  // The columns behind them with others of value 0, since nothing may be read behind the last row.
  float values[8][strip_columns] = {};
  const float* tails[8];
  for (std::size_t r = 0; r < rows.size(); ++r) {
    std::memcpy(values[r], rows[r] + whole, static_cast<std::size_t>(d_ - whole) * sizeof(float));
    tails[r] = values[r];
  }
  return strip({tails, rows.size()}, 0, whole) && finite;
}

ZIPML_FUNCTION void ColumnSums::close_chunk(double* out) {
  std::copy_n(sums_.data(), d_, out);
  std::copy_n(squares_.data(), d_, out + d_);
  std::fill(sums_.begin(), sums_.end(), 0.0);
  std::fill(squares_.begin(), squares_.end(), 0.0);
}

ZIPML_FUNCTION Buffer<ColumnStatistics> statistics_of(const Buffer<ColumnStatistics>& centres,
                                                      std::span<const double> sums,
                                                      std::span<const ColumnSums> of_threads, Index rows) {
  const Index d = centres.size();
  Buffer<double> total(2 * d);
  for (Index at = 0; at < static_cast<Index>(sums.size()); at += 2 * d)
    for (Index j = 0; j < 2 * d; ++j) total[j] += sums[static_cast<std::size_t>(at + j)];
  Buffer<ColumnStatistics> columns(d);
  const auto n = static_cast<double>(rows);
  for (Index j = 0; j < d; ++j) {
    ColumnStatistics& column = columns[j];
    column.min = of_threads[0].lowest(j);
    column.max = of_threads[0].highest(j);
    for (const ColumnSums& part : of_threads) {
      column.min = (std::min)(column.min, part.lowest(j));
      column.max = (std::max)(column.max, part.highest(j));
    }
    column.mean = static_cast<double>(column.min);
    if (column.min == column.max) continue;
    const double shift = total[j] / n;
    column.mean = static_cast<double>(static_cast<float>(centres[j].mean)) + shift;
    column.deviation = std::sqrt((std::max)(total[d + j] / n - pinned(shift * shift), 0.0));
  }
  return columns;
}

#endif

}  // namespace zipml::inline ZIPML_ABI::detail
