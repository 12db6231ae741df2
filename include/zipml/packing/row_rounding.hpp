#pragma once
/// \file
/// Room packing: rounding rows of float32 samples to the codes of their levels: what an O(n d) packer spends its time on, in plain C++ and in the vector instructions of this
/// machine. Codes are the same bits on all of them: they follow UniformGrid::lower and the word of (seed,
/// row, column, draw).

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include <zipml/base/buffer.hpp>
#include <zipml/base/isa.hpp>
#include <zipml/base/random.hpp>
#include <zipml/quantization/levels.hpp>
#if ZIPML_DEFINES
#include <zipml/base/philox_lanes.hpp>
#endif

namespace zipml::inline ZIPML_ABI {

/// Vectors of d columns are padded to a multiple of this.
inline constexpr Index column_piece = 64;

/// Accepted range per column; values outside it are reported. Padded, with entries that nothing is
/// outside of.
struct ColumnRanges {
  ColumnRanges() = default;
  explicit ColumnRanges(Index d) : lowest(round_up(d, column_piece)), highest(lowest.size()) {
    constexpr float infinity = std::numeric_limits<float>::infinity();
    std::fill(lowest.begin() + d, lowest.end(), -infinity);
    std::fill(highest.begin() + d, highest.end(), infinity);
  }

  bool outside(Index j, float value) const { return value < lowest[j] || value > highest[j]; }

  Buffer<float> lowest;
  Buffer<float> highest;
};

/// Uniform levels of d columns, as many in each, as vectors. Padded with columns of a single level.
struct UniformColumns {
  UniformColumns() = default;
  UniformColumns(const Buffer<UniformGrid>& levels, int levels_of_a_column);

  Position lower(Index j, float x) const { return UniformGrid::lower(x, offset[j], step[j], last, snap); }
  /// What a value of column j with this lower level adds to the spread, 2^-24 p the probability of going up.
  std::uint64_t spread(Index /*j*/, int /*code*/, std::uint32_t p) const {
    return std::uint64_t{p} * (16777216u - p);
  }

  Buffer<float> offset;
  Buffer<float> step;
  float last = 1.0f;  ///< the highest code
  float snap = 0.0f;  ///< see UniformGrid
};

/// Tables of levels of d columns, as many in each, level by level, so that vectors of columns find their
/// places by comparing with one level after the other. Padded with columns of level 0.
struct TableColumns {
  static constexpr int most_levels = 32;  ///< with more of them bisection is faster

  TableColumns() = default;
  /// `tables` holds d times `count` increasing levels; `scales`, as many or none, what P (2^24 - P) of an
  /// interval is multiplied with.
  TableColumns(const float* tables, const Buffer<float>& scales, Index d, int levels_of_a_column);

  /// LevelTable::lower.
  Position lower(Index j, float x) const;
  /// floor(p (2^24 - p) scale): p (2^24 - p) is exact in double, and the product is added to nothing.
  std::uint64_t spread(Index j, int code, std::uint32_t p) const {
    return scaled_spread(p, scales[code * padded + j]);
  }
  static std::uint64_t scaled_spread(std::uint32_t p, float scale) {
    const double units = static_cast<double>(p) * static_cast<double>(16777216u - p);
    return static_cast<std::uint64_t>(units * static_cast<double>(scale));
  }

  int count = 0;
  Index padded = 0;
  Buffer<float> levels;  ///< count x padded
  Buffer<float> scales;  ///< count x padded, or empty
};

/// How a row is rounded: `draws` independent times, 1 to 8, draw t with the words of `first_draw` + t.
struct RowRounding {
  Random random;
  std::uint64_t row;  ///< the original row
  std::uint32_t first_draw;
  int draws;
  bool stochastic;  ///< or nearest
};

/// Where the values of a row went, each vector with room for round_up(d, column_piece) entries, those behind
/// column d being anything: code of the lower level, a bit for each draw that went up (null: there is
/// one draw, and `low` is to be its code), and `spread`, to which what the levels call the spread of a value
/// is added (null: not wanted).
struct RoundedRow {
  std::uint8_t* low;
  std::uint8_t* ups;
  std::uint64_t* spread;
  std::uint32_t* outside;  ///< of each 32 columns, a bit where the value is outside of its column's range
};

/// Rounds a row of d values, of which `readable` >= d may be read; true when one of the d lies outside of its
/// column's range. O(d draws).
bool round_row(Isa isa, const float* values, Index d, Index readable, const UniformColumns& columns,
               const ColumnRanges& ranges, const RowRounding& how, const RoundedRow& out);

/// The same for tables.
bool round_row(Isa isa, const float* values, Index d, Index readable, const TableColumns& columns,
               const ColumnRanges& ranges, const RowRounding& how, const RoundedRow& out);

#if ZIPML_DEFINES

ZIPML_FUNCTION UniformColumns::UniformColumns(const Buffer<UniformGrid>& levels, int levels_of_a_column)
    : offset(round_up(levels.size(), column_piece)),
      step(offset.size()),
      last(static_cast<float>(levels_of_a_column - 1)),
      snap(UniformGrid::snap_of(levels_of_a_column)) {
  for (Index j = 0; j < levels.size(); ++j) {
    offset[j] = levels[j].offset();
    step[j] = levels[j].step();
  }
}

ZIPML_FUNCTION TableColumns::TableColumns(const float* tables, const Buffer<float>& of_intervals, Index d,
                                          int levels_of_a_column)
    : count(levels_of_a_column),
      padded(round_up(d, column_piece)),
      levels(count * padded),
      scales(of_intervals.empty() ? 0 : count * padded) {
  for (Index j = 0; j < d; ++j)
    for (int k = 0; k < count; ++k) {
      levels[k * padded + j] = tables[j * count + k];
      if (!scales.empty()) scales[k * padded + j] = of_intervals[j * count + k];
    }
}

ZIPML_FUNCTION Position TableColumns::lower(Index j, float x) const {
  float table[most_levels];
  for (int k = 0; k < count; ++k) table[k] = levels[k * padded + j];
  return LevelTable{table, count}.lower(x);
}

namespace detail {

#if ZIPML_X86

/// Lower levels and probabilities of 8 values.
struct Positions8 {
  __m256i low;
  __m256i threshold;
  __m256 fraction;
};
ZIPML_INLINE_AVX2 inline Positions8 positions8(const float* v, const UniformColumns& columns, Index j,
                                               float* /*scale*/) {
  const float* const offset = columns.offset.data() + j;
  const float* const step = columns.step.data() + j;
  const float last = columns.last, snap = columns.snap;
  const __m256 steps = _mm256_loadu_ps(step);
  __m256 t = _mm256_div_ps(_mm256_sub_ps(_mm256_loadu_ps(v), _mm256_loadu_ps(offset)), steps);
  t = _mm256_min_ps(_mm256_max_ps(t, _mm256_setzero_ps()), _mm256_set1_ps(last));
  t = _mm256_and_ps(t, _mm256_cmp_ps(steps, _mm256_setzero_ps(), _CMP_NEQ_OQ));  // a single level
  const __m256i low = _mm256_min_epi32(_mm256_cvttps_epi32(t), _mm256_set1_epi32(static_cast<int>(last) - 1));
  __m256 fraction = _mm256_sub_ps(t, _mm256_cvtepi32_ps(low));
  const __m256 one = _mm256_set1_ps(1.0f);
  fraction = _mm256_andnot_ps(_mm256_cmp_ps(fraction, _mm256_set1_ps(snap), _CMP_LT_OQ), fraction);
  fraction =
      _mm256_blendv_ps(fraction, one, _mm256_cmp_ps(fraction, _mm256_set1_ps(1.0f - snap), _CMP_GT_OQ));
  return {low, _mm256_cvttps_epi32(_mm256_mul_ps(fraction, _mm256_set1_ps(16777216.0f))), fraction};
}

/// The same by tables. Stores what P (2^24 - P) is to be multiplied with.
ZIPML_INLINE_AVX2 inline Positions8 positions8(const float* v, const TableColumns& columns, Index j,
                                               float* scale) {
  const float* level = columns.levels.data() + j;
  const bool scales = !columns.scales.empty();
  const float* of = scales ? columns.scales.data() + j : level;
  const Index next = columns.padded;
  const __m256 first = _mm256_loadu_ps(level);
  __m256 x = _mm256_loadu_ps(v);
  x = _mm256_min_ps(_mm256_max_ps(x, first), _mm256_loadu_ps(level + (columns.count - 1) * next));
  __m256 low = first, high = _mm256_loadu_ps(level + next), factor = _mm256_loadu_ps(of);
  __m256i code = _mm256_setzero_si256();
  for (int k = 1; k + 1 < columns.count; ++k) {
    const __m256 at = _mm256_loadu_ps(level + k * next);
    const __m256 above = _mm256_cmp_ps(at, x, _CMP_LT_OQ);
    low = _mm256_blendv_ps(low, at, above);
    high = _mm256_blendv_ps(high, _mm256_loadu_ps(level + (k + 1) * next), above);
    if (scales) factor = _mm256_blendv_ps(factor, _mm256_loadu_ps(of + k * next), above);
    code = _mm256_sub_epi32(code, _mm256_castps_si256(above));
  }
  _mm256_storeu_ps(scale, factor);
  const __m256 width = _mm256_sub_ps(high, low);
  __m256 fraction = _mm256_div_ps(_mm256_sub_ps(x, low), width);
  fraction = _mm256_and_ps(fraction, _mm256_cmp_ps(width, _mm256_setzero_ps(), _CMP_GT_OQ));
  return {code, _mm256_cvttps_epi32(_mm256_mul_ps(fraction, _mm256_set1_ps(16777216.0f))), fraction};
}

/// Low bytes of four registers of dwords, in their order.
ZIPML_INLINE_AVX2 inline __m256i low_bytes(__m256i a, __m256i b, __m256i c, __m256i d) {
  const __m256i bytes = _mm256_packus_epi16(_mm256_packus_epi32(a, b), _mm256_packus_epi32(c, d));
  return _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

/// Adds the spread of 32 values.
ZIPML_INLINE_AVX2 inline void add_spread_avx2(const UniformColumns&, const Positions8 (&at)[4],
                                              const float* /*scales*/, std::uint64_t* spread) {
  for (int k = 0; k < 4; ++k) {
    const __m256i p = at[k].threshold;
    const __m256i q = _mm256_sub_epi32(_mm256_set1_epi32(16777216), p);
    for (int half = 0; half < 2; ++half) {
      const __m256i wide_p =
          _mm256_cvtepu32_epi64(half == 0 ? _mm256_castsi256_si128(p) : _mm256_extracti128_si256(p, 1));
      const __m256i wide_q =
          _mm256_cvtepu32_epi64(half == 0 ? _mm256_castsi256_si128(q) : _mm256_extracti128_si256(q, 1));
      __m256i* to = reinterpret_cast<__m256i*>(spread + 8 * k + 4 * half);
      _mm256_storeu_si256(to, _mm256_add_epi64(_mm256_loadu_si256(to), _mm256_mul_epu32(wide_p, wide_q)));
    }
  }
}
ZIPML_INLINE_AVX2 inline void add_spread_avx2(const TableColumns&, const Positions8 (&at)[4],
                                              const float* scales, std::uint64_t* spread) {
  alignas(32) std::uint32_t p[32];
  for (int k = 0; k < 4; ++k) _mm256_store_si256(reinterpret_cast<__m256i*>(p + 8 * k), at[k].threshold);
  for (int k = 0; k < 32; ++k) spread[k] += TableColumns::scaled_spread(p[k], scales[k]);
}

/// 32 columns from `j`. OneDraw says that how.draws is 1, Stochastic what how.stochastic says: constants, so
/// that registers are not kept in memory.
template <bool OneDraw, bool Stochastic, class Columns>
ZIPML_TARGET_AVX2 bool round_piece_avx2(const float* values, Index j, const Columns& columns,
                                        const ColumnRanges& ranges, const RowRounding& how,
                                        const RoundedRow& out) {
  Positions8 at[4];
  float scales[32];
  for (int k = 0; k < 4; ++k) at[k] = positions8(values + 8 * k, columns, j + 8 * k, scales + 8 * k);
  __m256i ups[4] = {_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(),
                    _mm256_setzero_si256()};
  for (int t = 0; t < (OneDraw ? 1 : how.draws); ++t) {
    const __m256i bit = _mm256_set1_epi32(1 << t);
    if constexpr (Stochastic) {
      const PhiloxPlace place(how.random, Stream::samples, how.first_draw + static_cast<std::uint32_t>(t),
                              how.row);
      __m256i words[4];
      philox_words<2>(place, static_cast<std::uint32_t>(j / 4), words);
      for (int k = 0; k < 4; ++k) {
        const __m256i up = _mm256_cmpgt_epi32(at[k].threshold, _mm256_srli_epi32(words[k], 8));
        ups[k] = _mm256_or_si256(ups[k], _mm256_and_si256(up, bit));
      }
    } else {
      for (int k = 0; k < 4; ++k) {
        const __m256 up = _mm256_cmp_ps(at[k].fraction, _mm256_set1_ps(0.5f), _CMP_GE_OQ);
        ups[k] = _mm256_or_si256(ups[k], _mm256_and_si256(_mm256_castps_si256(up), bit));
      }
    }
  }
  __m256i low = low_bytes(at[0].low, at[1].low, at[2].low, at[3].low);
  const __m256i up_bits = low_bytes(ups[0], ups[1], ups[2], ups[3]);
  if (out.ups == nullptr)
    low = _mm256_add_epi8(low, up_bits);
  else
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out.ups), up_bits);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out.low), low);
  std::uint32_t bits_outside = 0;
  for (int k = 0; k < 4; ++k) {
    const __m256 v = _mm256_loadu_ps(values + 8 * k);
    const __m256 lowest = _mm256_loadu_ps(ranges.lowest.data() + j + 8 * k);
    const __m256 highest = _mm256_loadu_ps(ranges.highest.data() + j + 8 * k);
    const __m256 beyond =
        _mm256_or_ps(_mm256_cmp_ps(v, lowest, _CMP_LT_OQ), _mm256_cmp_ps(v, highest, _CMP_GT_OQ));
    bits_outside |= static_cast<std::uint32_t>(_mm256_movemask_ps(beyond)) << (8 * k);
  }
  *out.outside = bits_outside;
  const bool any = bits_outside != 0;
  if (out.spread == nullptr) return any;
  add_spread_avx2(columns, at, scales, out.spread);
  return any;
}

/// A row in pieces of `Width` columns. Where it may not be read behind its end, its last piece is copied to
/// where there is room for a whole one, so that pieces need no masks. True when a piece says so of its
/// values.
template <Index Width, class Piece>
bool round_pieces(const float* values, Index d, Index readable, const RoundedRow& out, const Piece& piece) {
  bool outside = false;
  for (Index j = 0; j < d; j += Width) {
    const RoundedRow to{out.low + j, out.ups != nullptr ? out.ups + j : nullptr,
                        out.spread != nullptr ? out.spread + j : nullptr, out.outside + j / 32};
    if (j + Width <= readable) {
      outside = piece(values + j, j, to) || outside;
    } else {
      float tail[Width] = {};
      std::memcpy(tail, values + j, static_cast<std::size_t>((std::min)(Width, d - j)) * sizeof(float));
      outside = piece(tail, j, to) || outside;
    }
  }
  return outside;
}

/// 64 columns from `j`.
template <bool OneDraw, bool Stochastic>
ZIPML_TARGET_AVX512 bool round_piece_avx512(const float* values, Index j, const UniformColumns& columns,
                                            const ColumnRanges& ranges, const RowRounding& how,
                                            const RoundedRow& out) {
  const __m512 one = _mm512_set1_ps(1.0f), last = _mm512_set1_ps(columns.last);
  const __m512 snap = _mm512_set1_ps(columns.snap), unsnap = _mm512_set1_ps(1.0f - columns.snap);
  const __m512i highest = _mm512_set1_epi32(static_cast<int>(columns.last) - 1);
  __m512i low[4], threshold[4], ups[4];
  __mmask16 nearest_up[4];
  std::uint64_t outside = 0;
  for (int k = 0; k < 4; ++k) {
    const __m512 step = _mm512_load_ps(columns.step.data() + j + 16 * k);
    const __m512 offset = _mm512_load_ps(columns.offset.data() + j + 16 * k);
    const __mmask16 steps =
        _mm512_cmp_ps_mask(step, _mm512_setzero_ps(), _CMP_NEQ_OQ);  // else a single level
    const __m512 v = _mm512_loadu_ps(values + 16 * k);
    const __mmask16 below =
        _mm512_cmp_ps_mask(v, _mm512_load_ps(ranges.lowest.data() + j + 16 * k), _CMP_LT_OQ);
    const __mmask16 above =
        _mm512_cmp_ps_mask(v, _mm512_load_ps(ranges.highest.data() + j + 16 * k), _CMP_GT_OQ);
    outside |= static_cast<std::uint64_t>(below | above) << (16 * k);
    __m512 t = _mm512_maskz_div_ps(steps, _mm512_sub_ps(v, offset), step);
    t = _mm512_min_ps(_mm512_max_ps(t, _mm512_setzero_ps()), last);
    low[k] = _mm512_min_epi32(_mm512_cvttps_epi32(t), highest);
    __m512 fraction = _mm512_sub_ps(t, _mm512_cvtepi32_ps(low[k]));
    fraction = _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(fraction, snap, _CMP_GE_OQ), fraction);
    fraction = _mm512_mask_mov_ps(fraction, _mm512_cmp_ps_mask(fraction, unsnap, _CMP_GT_OQ), one);
    threshold[k] = _mm512_cvttps_epi32(_mm512_mul_ps(fraction, _mm512_set1_ps(16777216.0f)));
    nearest_up[k] = _mm512_cmp_ps_mask(fraction, _mm512_set1_ps(0.5f), _CMP_GE_OQ);
    ups[k] = _mm512_setzero_si512();
  }
  for (int t = 0; t < (OneDraw ? 1 : how.draws); ++t) {
    const __m512i bit = _mm512_set1_epi32(1 << t);
    if constexpr (Stochastic) {
      const PhiloxPlace place(how.random, Stream::samples, how.first_draw + static_cast<std::uint32_t>(t),
                              how.row);
      __m512i words[4];
      philox_words<2>(place, static_cast<std::uint32_t>(j / 4), words);
      for (int k = 0; k < 4; ++k)
        ups[k] = _mm512_mask_or_epi32(
            ups[k], _mm512_cmplt_epi32_mask(_mm512_srli_epi32(words[k], 8), threshold[k]), ups[k], bit);
    } else {
      for (int k = 0; k < 4; ++k) ups[k] = _mm512_mask_or_epi32(ups[k], nearest_up[k], ups[k], bit);
    }
  }
  if (out.ups == nullptr)
    for (int k = 0; k < 4; ++k) low[k] = _mm512_add_epi32(low[k], ups[k]);
  else
    for (int k = 0; k < 4; ++k)
      _mm_storeu_si128(reinterpret_cast<__m128i*>(out.ups + 16 * k), _mm512_cvtepi32_epi8(ups[k]));
  for (int k = 0; k < 4; ++k)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out.low + 16 * k), _mm512_cvtepi32_epi8(low[k]));
  std::memcpy(out.outside, &outside, sizeof outside);
  if (out.spread == nullptr) return outside != 0;
  for (int k = 0; k < 4; ++k) {
    const __m512i p = threshold[k];
    const __m512i q = _mm512_sub_epi32(_mm512_set1_epi32(16777216), p);
    for (int half = 0; half < 2; ++half) {
      const __m512i wide_p =
          _mm512_cvtepu32_epi64(half == 0 ? _mm512_castsi512_si256(p) : _mm512_extracti64x4_epi64(p, 1));
      const __m512i wide_q =
          _mm512_cvtepu32_epi64(half == 0 ? _mm512_castsi512_si256(q) : _mm512_extracti64x4_epi64(q, 1));
      void* to = out.spread + 16 * k + 8 * half;
      _mm512_storeu_si512(to, _mm512_add_epi64(_mm512_loadu_si512(to), _mm512_mul_epu32(wide_p, wide_q)));
    }
  }
  return outside != 0;
}

/// f with a condition as a constant.
template <class F>
auto visit_bool(bool condition, const F& f) {
  return condition ? f(std::true_type{}) : f(std::false_type{});
}

#endif  // ZIPML_X86

template <class Columns>
bool round_columns(const float* values, Index d, const Columns& columns, const ColumnRanges& ranges,
                   const RowRounding& how, const RoundedRow& out) {
  PhiloxWords words[8] = {};
  bool outside = false;
  std::fill_n(out.outside, (d + 31) / 32, 0u);
  for (Index j = 0; j < d; ++j) {
    const auto within = static_cast<std::size_t>(j % 4);
    if (how.stochastic && within == 0)
      for (int t = 0; t < how.draws; ++t)
        words[t] = how.random.words(Stream::samples, how.first_draw + static_cast<std::uint32_t>(t),
                                    static_cast<std::uint32_t>(j / 4), how.row);
    const Position position = columns.lower(j, values[j]);
    const auto p = static_cast<std::uint32_t>(position.fraction * 16777216.0f);
    unsigned ups = 0;
    for (int t = 0; t < how.draws; ++t) {
      const bool up = how.stochastic ? words[t][within] >> 8 < p : position.fraction >= 0.5f;
      ups |= (up ? 1u : 0u) << t;
    }
    out.low[j] = static_cast<std::uint8_t>(position.code + (out.ups == nullptr ? static_cast<int>(ups) : 0));
    if (out.ups != nullptr) out.ups[j] = static_cast<std::uint8_t>(ups);
    if (out.spread != nullptr) out.spread[j] += columns.spread(j, position.code, p);
    if (!ranges.outside(j, values[j])) continue;
    outside = true;
    out.outside[j / 32] |= 1u << (j % 32);
  }
  return outside;
}

/// round_row() for either kind of levels. (Tables have no version in AVX-512.)
template <class Columns>
bool round_row_by(Isa isa, const float* values, Index d, Index readable, const Columns& columns,
                  const ColumnRanges& ranges, const RowRounding& how, const RoundedRow& out) {
#if ZIPML_X86
  if (isa != Isa::scalar)
    return visit_bool(how.draws == 1, [&](auto one_draw) {
      return visit_bool(how.stochastic, [&](auto is_stochastic) {
        constexpr bool one = one_draw(), random = is_stochastic();
        if constexpr (std::is_same_v<Columns, UniformColumns>)
          if (isa == Isa::avx512)
            return round_pieces<64>(values, d, readable, out,
                                    [&](const float* v, Index j, const RoundedRow& to) {
                                      return round_piece_avx512<one, random>(v, j, columns, ranges, how, to);
                                    });
        return round_pieces<32>(values, d, readable, out, [&](const float* v, Index j, const RoundedRow& to) {
          return round_piece_avx2<one, random>(v, j, columns, ranges, how, to);
        });
      });
    });
#endif
  (void)isa;
  (void)readable;
  return round_columns(values, d, columns, ranges, how, out);
}

}  // namespace detail

ZIPML_FUNCTION bool round_row(Isa isa, const float* values, Index d, Index readable,
                              const UniformColumns& columns, const ColumnRanges& ranges,
                              const RowRounding& how, const RoundedRow& out) {
  return detail::round_row_by(isa, values, d, readable, columns, ranges, how, out);
}
ZIPML_FUNCTION bool round_row(Isa isa, const float* values, Index d, Index readable,
                              const TableColumns& columns, const ColumnRanges& ranges, const RowRounding& how,
                              const RoundedRow& out) {
  return detail::round_row_by(isa, values, d, readable, columns, ranges, how, out);
}

#endif

}  // namespace zipml::inline ZIPML_ABI
