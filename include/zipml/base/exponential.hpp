#pragma once
/// \file
/// Room base: the exponential function, and the logarithm that goes with it, with the same bits on every machine. Those
/// of the C library are chosen by the processor and differ in their last bits; what residuals, losses and pilots rest on
/// must not.

#include <bit>
#include <cmath>
#include <cstdint>

#include <zipml/base/config.hpp>
#include <zipml/base/rounded.hpp>

namespace zipml::inline ZIPML_ABI {

/// e^x within 2 units in the last place. Below -708 it is 0, above 709 that of 709.
///
/// e^x = 2^n e^r with n = round(x / ln 2) and |r| <= ln 2 / 2, where ln 2 is split into two parts (Cody, Waite 1980,
/// chapter 6) and e^r is its Taylor polynomial of degree 13, whose rest is below 4e-18.
inline double exponential(double x) {
  if (!(x > -708.0)) return x != x ? x : 0.0;
  if (x > 709.0) x = 709.0;
  constexpr double log2_e = 1.4426950408889634, high = 0x1.62e42fee00000p-1, low = 0x1.a39ef35793c76p-33;
  const double n = std::nearbyint(x * log2_e);
  const double r = (x - pinned(n * high)) - pinned(n * low);
  constexpr double terms[] = {
      1.0 / 6227020800, 1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320, 1.0 / 5040,
      1.0 / 720,        1.0 / 120,       1.0 / 24,       1.0 / 6,       0.5,          1.0,         1.0};
  double sum = terms[0];
  for (int k = 1; k < 14; ++k) sum = terms[k] + pinned(sum * r);
  const auto exponent = static_cast<std::uint64_t>(1023 + static_cast<std::int64_t>(n));
  return sum * std::bit_cast<double>(exponent << 52);
}

/// 2 artanh(s) for |s| <= 1/3, by its series, whose rest after 17 terms is below 1e-17 of it.
inline double twice_artanh(double s) {
  const double square = s * s;
  double sum = 0.0;
  for (int k = 16; k >= 0; --k) sum = 1.0 / (2 * k + 1) + pinned(sum * square);
  return 2.0 * s * sum;
}

/// log(x) for finite x > 0, within 2 units in the last place of the larger of it and 1, the same bits everywhere: x = m 2^n
/// with m in [sqrt(1/2), sqrt(2)), and log m = 2 artanh((m - 1) / (m + 1)).
inline double logarithm(double x) {
  int n = 0;
  double m = std::frexp(x, &n);
  if (m < 0.7071067811865476) {
    m *= 2.0;
    --n;
  }
  return pinned(n * 0.6931471805599453) + twice_artanh((m - 1.0) / (m + 1.0));
}

/// log(1 + x) for 0 <= x <= 1, within 4 units in the last place: 2 artanh(s) with s = x / (2 + x) <= 1/3.
inline double log_one_plus(double x) { return twice_artanh(x / (2.0 + x)); }

namespace detail {

/// log(1 + e^-|x|), the bits that log_one_plus(exponential(-|x|)) has, without a branch, as DecayingExponential.
class LogOnePlusDecay {
 public:
  ZIPML_ALWAYS_INLINE LogOnePlusDecay() { asm("" : "+m"(least_)); }

  ZIPML_ALWAYS_INLINE double operator()(double x) const {
    x = -std::fabs(x);
    const double bounded = least_ < x ? x : least_;
    constexpr double log2_e = 1.4426950408889634, high = 0x1.62e42fee00000p-1, low = 0x1.a39ef35793c76p-33;
    constexpr double nearest = 0x1.8p52;  // sums with it have no fraction, and n in their last bits
    const double shifted = rounded(bounded * log2_e) + nearest;
    const double n = shifted - nearest;
    const double r = (bounded - rounded(n * high)) - rounded(n * low);
    const double sum = taylor<1>(1.0 / 6227020800, r);
    const std::uint64_t exponent = std::bit_cast<std::uint64_t>(shifted) + 1023;
    const double power = std::bit_cast<double>(exponent << 52);
    const double e = sum * (least_ < x ? power : 0.0);
    const double s = e / (2.0 + e);
    const double square = s * s;
    return rounded(2.0 * s * artanh<16>(0.0, square));
  }

 private:
  // Written out: g++ 12 keeps a loop of 17 steps, and the loop around it does not vectorise then.

  template <int K>
  ZIPML_ALWAYS_INLINE double taylor(double sum, double r) const {
    constexpr double terms[] = {
        0.0,       1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320, 1.0 / 5040,
        1.0 / 720, 1.0 / 120,       1.0 / 24,       1.0 / 6,       0.5,          1.0,         1.0};
    const double next = terms[K] + rounded(sum * r);
    if constexpr (K == 13)
      return next;
    else
      return taylor<K + 1>(next, r);
  }
  template <int K>
  ZIPML_ALWAYS_INLINE double artanh(double sum, double square) const {
    const double next = 1.0 / (2 * K + 1) + rounded(sum * square);
    if constexpr (K == 0)
      return next;
    else
      return artanh<K - 1>(next, square);
  }

  Rounded<double> rounded;
  double least_ = -708.0;
};

/// e^-|x| of floats, within 2 units in the last place, e^-87 beyond 87: the polynomial of degree 6 of Cephes' expf
/// (Moshier 1989) on the same reduction. Without a branch, so that loops over it vectorise: the limits are values that
/// the compiler does not know (base/rounded.hpp), or it would split the loop along them.
class DecayingExponential {
 public:
  ZIPML_ALWAYS_INLINE DecayingExponential() { asm("" : "+m"(least_)); }

  ZIPML_ALWAYS_INLINE float operator()(float x) const {
    x = -std::fabs(x);
    x = least_ < x ? x : least_;
    constexpr float nearest = 12582912.0f;  // 1.5 * 2^23: sums with it have no fraction
    const float n = (rounded(x * 1.44269504f) + nearest) - nearest;
    const float t = (x - rounded(n * 0.693359375f)) - rounded(n * -2.12194440e-4f);
    float sum = 1.9875691500e-4f;
    sum = rounded(sum * t) + 1.3981999507e-3f;
    sum = rounded(sum * t) + 8.3334519073e-3f;
    sum = rounded(sum * t) + 4.1665795894e-2f;
    sum = rounded(sum * t) + 1.6666665459e-1f;
    sum = rounded(sum * t) + 5.0000001201e-1f;
    sum = (rounded(rounded(sum * t) * t) + t) + 1.0f;
    return sum * std::bit_cast<float>((static_cast<std::int32_t>(n) + 127) << 23);
  }
  Rounded<float> rounded;

 private:
  float least_ = -87.0f;
};

/// `negative` where x is below 0 or -0, else `other`, without a branch.
ZIPML_ALWAYS_INLINE float by_sign(float x, float negative, float other) {
  const std::int32_t mask = std::bit_cast<std::int32_t>(x) >> 31;
  return std::bit_cast<float>((std::bit_cast<std::int32_t>(negative) & mask) |
                              (std::bit_cast<std::int32_t>(other) & ~mask));
}

}  // namespace detail

}  // namespace zipml::inline ZIPML_ABI
