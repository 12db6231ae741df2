#pragma once
/// \file
/// Room kernels: sums of products of codes (kernels/gram.hpp) in AVX-512 VNNI: 8 columns of one block, each of whose 4 rows are
/// spread over a register, times 32 columns of two others: 16 independent sums hide the latency of vpdpbusd, named, since
/// g++ 12 keeps arrays of them in memory. It multiplies unsigned bytes with signed ones: of codes above 127 the signed
/// ones are 128 less, which is brought back by 128 times the sums of the others.

#include <zipml/base/config.hpp>
#include <zipml/base/intrinsics.hpp>
#include <zipml/kernels/gram.hpp>

#if ZIPML_X86

#include <cstring>

namespace zipml::inline ZIPML_ABI::detail {

/// The codes of 4 rows of a column in each dword.
ZIPML_INLINE_AVX512 inline __m512i spread_avx512(const std::uint8_t* four) {
  std::int32_t bits;
  std::memcpy(&bits, four, sizeof bits);
  return _mm512_set1_epi32(bits);
}

/// sum += u v, in place: of the intrinsic g++ 12 makes copies.
ZIPML_INLINE_AVX512 inline void dot_fours(__m512i& sum, __m512i u, __m512i v) {
  asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(u), "v"(v));
}

/// 8 columns of block a times the 16 of b and, where Two, the 16 of c. Wide: codes up to 255.
template <bool Two, bool Wide>
ZIPML_TARGET_AVX512 void gram_columns_avx512(const std::uint8_t* a, const std::uint8_t* b,
                                             const std::uint8_t* c, Index fours, std::int32_t* to_b,
                                             std::int32_t* to_c, Index stride) {
  const __m512i sign = _mm512_set1_epi8(-128), ones = _mm512_set1_epi8(1);
  __m512i p0 = _mm512_setzero_si512(), p1 = p0, p2 = p0, p3 = p0, p4 = p0, p5 = p0, p6 = p0, p7 = p0;
  __m512i q0 = p0, q1 = p0, q2 = p0, q3 = p0, q4 = p0, q5 = p0, q6 = p0, q7 = p0;
  __m512i sums_of_a = p0;  // of all 16 columns of the block, for codes above 127
  const std::uint8_t* const whole = a - (reinterpret_cast<std::uintptr_t>(a) & 32);
  for (Index f = 0; f < fours; ++f) {
    __m512i v = _mm512_loadu_si512(b + f * 64), w = v;
    if constexpr (Two) w = _mm512_loadu_si512(c + f * 64);
    if constexpr (Wide) {
      v = _mm512_xor_si512(v, sign);
      if constexpr (Two) w = _mm512_xor_si512(w, sign);
      dot_fours(sums_of_a, _mm512_loadu_si512(whole + f * 64), ones);
    }
    const std::uint8_t* const of = a + f * 64;
    const auto add = [&](const std::uint8_t* four, __m512i& p, __m512i& q) ZIPML_INLINE_AVX512 {
      const __m512i u = spread_avx512(four);
      dot_fours(p, u, v);
      if constexpr (Two) dot_fours(q, u, w);
    };
    add(of, p0, q0);
    add(of + 4, p1, q1);
    add(of + 8, p2, q2);
    add(of + 12, p3, q3);
    add(of + 16, p4, q4);
    add(of + 20, p5, q5);
    add(of + 24, p6, q6);
    add(of + 28, p7, q7);
  }
  alignas(64) std::int32_t missing[gram_columns];
  _mm512_store_si512(missing, _mm512_slli_epi32(sums_of_a, 7));
  const Index first = (a - whole) / gram_fours;
  const auto store = [&](Index row, __m512i p, __m512i q) ZIPML_INLINE_AVX512 {
    const __m512i more = _mm512_set1_epi32(Wide ? missing[first + row] : 0);
    std::int32_t* const at = to_b + row * stride;
    _mm512_storeu_si512(at, _mm512_add_epi32(_mm512_loadu_si512(at), _mm512_add_epi32(p, more)));
    if constexpr (Two) {
      std::int32_t* const there = to_c + row * stride;
      _mm512_storeu_si512(there, _mm512_add_epi32(_mm512_loadu_si512(there), _mm512_add_epi32(q, more)));
    }
  };
  store(0, p0, q0);
  store(1, p1, q1);
  store(2, p2, q2);
  store(3, p3, q3);
  store(4, p4, q4);
  store(5, p5, q5);
  store(6, p6, q6);
  store(7, p7, q7);
}

template <bool Wide>
void gram_avx512(const GramPanel& panel, std::int32_t* sums) {
  const Index columns = panel.columns();
  for (Index b = 0; b < panel.blocks; b += 2)  // two blocks stay in cache while others pass
    for (Index a = b; a < panel.blocks; ++a)
      for (Index row = 0; row < gram_columns; row += 8) {
        const std::uint8_t* const of_a = panel.block(a) + row * 4;
        std::int32_t* const to = sums + (a * gram_columns + row) * columns + b * gram_columns;
        if (a > b)
          gram_columns_avx512<true, Wide>(of_a, panel.block(b), panel.block(b + 1), panel.fours, to,
                                          to + gram_columns, columns);
        else
          gram_columns_avx512<false, Wide>(of_a, panel.block(b), nullptr, panel.fours, to, nullptr, columns);
      }
}

}  // namespace zipml::inline ZIPML_ABI::detail

#endif
