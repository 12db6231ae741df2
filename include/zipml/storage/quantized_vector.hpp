#pragma once
/// \file
/// Layer 2: a vector in integers with one scale: how the model reaches the gradient device, and the residuals
/// of a batch reach the accumulation.

#include <algorithm>
#include <cmath>
#include <cstdint>

#include <zipml/quantization/rounding.hpp>
#include <zipml/random.hpp>
#include <zipml/vector_math.hpp>

namespace zipml::inline ZIPML_ABI {

/// Whose random numbers a vector is rounded with: counter (column, row, draw) of a stream, see random.hpp.
struct RandomPlace {
  Stream stream;
  std::uint64_t row;
  std::uint32_t draw;
  Index first_column;  ///< of the vector's first entry, a multiple of 4
};

/// Largest code of a symmetric channel of `bits` bits: levels -m .. m, zero among them, 2^bits - 1 in all; 1
/// bit has the two levels -1 and 1.
constexpr int symmetric_levels(int bits) { return bits == 1 ? 1 : (1 << (bits - 1)) - 1; }

/// Rounds v_j, j < n, stochastically to scale * code_j with codes in -levels .. levels, and returns the
/// scale, max |v| / levels. E scale * code = v. A zero vector has scale 0 and codes 0. `two_level` uses only
/// -levels and levels (the 1-bit channel). O(n); v must be finite.
inline float quantize_symmetric(const float* v, Index n, int levels, bool two_level, const Random& random,
                                RandomPlace place, std::int8_t* codes) {
  const float largest = detail::max_abs(v, n);
  const float scale = largest / static_cast<float>(levels);
  if (!(scale > 0.0f)) {
    std::fill_n(codes, n, std::int8_t{0});
    return 0.0f;
  }
  const auto bound = static_cast<float>(levels);
  for (Index first = 0; first < n; first += 4) {
    const auto group = static_cast<std::uint32_t>((place.first_column + first) / 4);
    const PhiloxWords words = random.words(place.stream, place.draw, group, place.row);
    const Index end = std::min(first + 4, n);
    for (Index j = first; j < end; ++j) {
      const std::uint32_t word = words[static_cast<std::size_t>(j - first)];
      const float t = std::clamp(v[j] / scale, -bound, bound);
      if (two_level) {
        codes[j] = static_cast<std::int8_t>(rounds_up((t + bound) / (2.0f * bound), word) ? levels : -levels);
        continue;
      }
      const int towards_zero = static_cast<int>(t);
      const int low = towards_zero - (static_cast<float>(towards_zero) > t ? 1 : 0);
      codes[j] = static_cast<std::int8_t>(low + (rounds_up(t - static_cast<float>(low), word) ? 1 : 0));
    }
  }
  return scale;
}

}  // namespace zipml::inline ZIPML_ABI
