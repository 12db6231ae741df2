#pragma once
/// \file
/// Room quantization: a vector in integers with one scale: how the model reaches the gradient device, and the
/// residuals of a batch reach the accumulation.

#include <algorithm>
#include <cmath>
#include <cstdint>

#include <zipml/base/index.hpp>
#include <zipml/base/random.hpp>
#include <zipml/quantization/rounding.hpp>

namespace zipml::inline ZIPML_ABI {

/// Whose random numbers a vector is rounded with: counter (column, row, draw) of a stream, see random.hpp.
struct RandomPlace {
  Stream stream;
  std::uint64_t row;
  std::uint32_t draw;
  Index first_column;  ///< of the vector's first entry, a multiple of 8

  bool operator==(const RandomPlace&) const = default;
};

/// Largest code of a symmetric channel of `bits` bits: levels -m .. m, zero among them, 2^bits - 1 in all; 1
/// bit has the two levels -1 and 1.
constexpr int symmetric_levels(int bits) { return bits == 1 ? 1 : (1 << (bits - 1)) - 1; }

/// How round_symmetric rounds: to scale * code, scale > 0, codes in -levels .. levels; `two_level` uses only
/// the two ends (the 1-bit channel).
struct VectorRounding {
  Random random;
  RandomPlace place;
  float scale;
  int levels;
  bool two_level = false;
  bool nearest = false;  ///< without random numbers: to the nearer code, halves up; two levels by the sign
  /// The random bits of every entry, as half_words() tells them for the same place, or null: drawn while
  /// rounding. For several vectors of one place.
  const std::uint16_t* half_words = nullptr;
};

/// The sixteen random bits of each of n entries of a vector. Kernel policies do the same faster.
void half_words(const Random& random, const RandomPlace& place, Index n, std::uint16_t* out);

/// Rounds v_j, j < n, stochastically unless nearest: E scale * code_j = v_j where |v_j| <= scale * levels.
/// O(n); v must be finite. Kernel policies do the same faster.
///
/// Sixteen random bits for a value, so that one Philox counter serves eight columns: up when they are below
/// round(fraction * 2^16), which misses the fraction by 2^-17 at most, by nothing in the mean. A step of an
/// 8-bit channel being 1/127 of the largest entry, that is 6e-8 of it, half a unit in the last place of
/// float32. (Samples take 24 bits: they are rounded once and read often.)
void round_symmetric(const float* v, Index n, const VectorRounding& how, std::int8_t* codes);

#if ZIPML_DEFINES

ZIPML_FUNCTION void half_words(const Random& random, const RandomPlace& place, Index n, std::uint16_t* out) {
  for (Index j = 0; j < n; j += 8) {
    const auto group = static_cast<std::uint32_t>((place.first_column + j) / 8);
    const PhiloxWords words = random.words(place.stream, place.draw, group, place.row);
    for (Index k = 0; k < (std::min)(n - j, Index{8}); ++k)
      out[j + k] = static_cast<std::uint16_t>(words[static_cast<std::size_t>(k / 2)] >> (16 * (k % 2)));
  }
}

ZIPML_FUNCTION void round_symmetric(const float* v, Index n, const VectorRounding& how, std::int8_t* codes) {
  const auto bound = static_cast<float>(how.levels);
  if (how.nearest) {
    for (Index j = 0; j < n; ++j) {
      const float t = std::clamp(v[j] / how.scale, -bound, bound);
      codes[j] =
          static_cast<std::int8_t>(how.two_level ? (v[j] < 0.0f ? -bound : bound) : std::floor(t + 0.5f));
    }
    return;
  }
  for (Index first = 0; first < n; first += 8) {
    const Index end = (std::min)(first + 8, n);
    std::uint16_t drawn[8];
    const std::uint16_t* words = drawn;
    if (how.half_words != nullptr) {
      words = how.half_words + first;
    } else {
      RandomPlace place = how.place;
      place.first_column += first;
      half_words(how.random, place, end - first, drawn);
    }
    for (Index j = first; j < end; ++j) {
      const auto random = static_cast<std::int32_t>(words[j - first]);
      const auto is_up = [random](float fraction) {
        return random < static_cast<std::int32_t>(fraction * 65536.0f + 0.5f);
      };
      const float t = std::clamp(v[j] / how.scale, -bound, bound);
      if (how.two_level) {
        codes[j] = static_cast<std::int8_t>(is_up((t + bound) / (2.0f * bound)) ? how.levels : -how.levels);
        continue;
      }
      const int towards_zero = static_cast<int>(t);
      const int low = towards_zero - (static_cast<float>(towards_zero) > t ? 1 : 0);
      codes[j] = static_cast<std::int8_t>(low + (is_up(t - static_cast<float>(low)) ? 1 : 0));
    }
  }
}

#endif

}  // namespace zipml::inline ZIPML_ABI
