#pragma once
/// \file
/// Room base: counter-based random numbers. Every random decision of the library is a pure function of
/// (seed, stream, draw, column, row), so that codes do not depend on threads, batches or instruction sets.
///
/// Generator: Philox4x32-10, J. Salmon, M. Moraes, R. Dror, D. Shaw, "Parallel Random Numbers: As Easy as
/// 1, 2, 3", SC 2011, section 3.3.

#include <array>
#include <cmath>
#include <cstdint>

#include <zipml/base/index.hpp>

namespace zipml::inline ZIPML_ABI {

using PhiloxWords = std::array<std::uint32_t, 4>;
using PhiloxKey = std::array<std::uint32_t, 2>;

/// Ten rounds of Philox4x32: 128 bits of counter and 64 bits of key become 128 random bits.
constexpr PhiloxWords philox4x32(PhiloxWords counter, PhiloxKey key) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product0 = std::uint64_t{0xD2511F53u} * counter[0];
    const std::uint64_t product1 = std::uint64_t{0xCD9E8D57u} * counter[2];
    counter = {static_cast<std::uint32_t>(product1 >> 32) ^ counter[1] ^ key[0],
               static_cast<std::uint32_t>(product1),
               static_cast<std::uint32_t>(product0 >> 32) ^ counter[3] ^ key[1],
               static_cast<std::uint32_t>(product0)};
    key[0] += 0x9E3779B9u;
    key[1] += 0xBB67AE85u;
  }
  return counter;
}

/// What a random number is for. Streams never share a counter, so their numbers are independent.
enum class Stream : std::uint32_t {
  samples = 0,      ///< column, original row, draw
  model = 1,        ///< column, batch counter, model index; half a word for each column
  gradient = 2,     ///< column, batch counter, model index; half a word
  residual = 3,     ///< place of the row in its batch, batch counter, model index; half a word
  row_order = 4,    ///< 0, index, round
  arrangement = 5,  ///< column, original row, reading pass
  generated = 6,    ///< column, row, what is generated
  batch_order = 7,  ///< epoch, index, round
  sketch = 8,       ///< 32 columns, row of the sketch
};

/// Random words of one seed. Stateless: copying it or sharing it between threads is harmless.
class Random {
 public:
  explicit constexpr Random(std::uint64_t seed)
      : key_{static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)} {}

  constexpr PhiloxKey key() const { return key_; }

  /// Four words: those of columns 4*group .. 4*group + 3.
  constexpr PhiloxWords words(Stream stream, std::uint32_t draw, std::uint32_t group,
                              std::uint64_t row) const {
    return philox4x32({group, static_cast<std::uint32_t>(row), static_cast<std::uint32_t>(row >> 32),
                       static_cast<std::uint32_t>(stream) << 24 | (draw & 0xFFFFFFu)},
                      key_);
  }

  /// The word of one column.
  constexpr std::uint32_t word(Stream stream, std::uint32_t draw, std::uint32_t column,
                               std::uint64_t row) const {
    return words(stream, draw, column / 4, row)[column % 4];
  }

 private:
  PhiloxKey key_;
};

/// True with probability floor(fraction * 2^24) / 2^24, for a fraction in [0, 1]: the decision "round up".
inline bool rounds_up(float fraction, std::uint32_t word) {
  // The product is not negative, so that truncation is floor; floor() itself is a call on a processor without
  // SSE4.1.
  return static_cast<std::int32_t>(word >> 8) < static_cast<std::int32_t>(fraction * 16777216.0f);
}

/// A uniform number in (0, 1) from the top 24 bits of a word: (k + 1/2) / 2^24.
constexpr double uniform24(std::uint32_t word) { return (static_cast<double>(word >> 8) + 0.5) / 16777216.0; }

/// Four independent N(0, 1) numbers from four words, by Box and Muller (1958), in double precision. Equal on
/// every machine up to the last bit of its log, sin and cos.
inline std::array<double, 4> normals(const PhiloxWords& words) {
  std::array<double, 4> z{};
  for (std::size_t pair = 0; pair < 4; pair += 2) {
    const double radius = std::sqrt(-2.0 * std::log(uniform24(words[pair])));
    const double angle = 6.283185307179586 * uniform24(words[pair + 1]);
    z[pair] = radius * std::cos(angle);
    z[pair + 1] = radius * std::sin(angle);
  }
  return z;
}

/// A keyed pseudo-random permutation of 0 .. n-1, computable at any index without storing it: a six-round
/// Feistel network on pairs (left, right) below ceil(sqrt(n)), with cycle walking for the indices beyond n -
/// 1 (fewer than 2 sqrt(n) + 1 of them, so that a walk is rare).
class Permutation {
 public:
  Permutation(std::uint64_t seed, Index n, Stream stream, std::uint32_t column = 0)
      : random_(seed), n_(n), side_(1), stream_(stream), column_(column) {
    while (side_ * side_ < n) ++side_;
  }

  static constexpr std::uint32_t rounds = 6;
  Index size() const { return n_; }
  Index side() const { return side_; }

  /// The round function: what a round adds to the left half, modulo the side.
  std::uint32_t mix(std::uint32_t round, Index right) const {
    return random_.words(stream_, round, column_, static_cast<std::uint64_t>(right))[0];
  }

  /// The place of i under the permutation, 0 <= i < n. (RowOrder is for many of them, and for the way back.)
  Index operator()(Index i) const {
    do i = walk(i);
    while (i >= n_);
    return i;
  }

 private:
  Index walk(Index i) const {
    Index left = i / side_;
    Index right = i % side_;
    for (std::uint32_t round = 0; round < rounds; ++round) {
      const Index next = (left + static_cast<Index>(mix(round, right))) % side_;
      left = right;
      right = next;
    }
    return left * side_ + right;
  }

  Random random_;
  Index n_;
  Index side_;
  Stream stream_;
  std::uint32_t column_;
};

}  // namespace zipml::inline ZIPML_ABI
