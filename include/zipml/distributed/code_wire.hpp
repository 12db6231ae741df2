#pragma once
/// \file
/// Room distributed: integers of few bits as bytes, side by side as they travel between machines.

#include <bit>
#include <cstdint>
#include <cstring>
#include <span>

#include <zipml/base/index.hpp>
#include <zipml/quantization/quantized_vector.hpp>

namespace zipml::inline ZIPML_ABI {

/// How integers travel: lowest + step u, the code u in `bits` bits.
struct Wire {
  int lowest = 0;
  int step = 1;  ///< 1 or 2
  int bits = 8;  ///< 1 to 32

  /// Bytes of n integers.
  constexpr Index bytes(Index n) const { return (n * bits + 7) / 8; }
};

/// The codes of a channel of `bits` bits: -1 and 1 at 1 bit, else -levels to levels. What has no scale, all 0, may come back
/// as -1 at 1 bit: times that scale it is 0 again.
constexpr Wire wire_of_codes(int bits) {
  const int levels = symmetric_levels(bits);
  return bits == 1 ? Wire{-1, 2, 1} : Wire{-levels, 1, bits};
}

/// Sums of such codes of so many workers.
constexpr Wire wire_of_sums(int bits, int workers) {
  const int most = workers * symmetric_levels(bits);
  const int last = bits == 1 ? most : 2 * most;  // the largest u
  return {-most, bits == 1 ? 2 : 1, static_cast<int>(std::bit_width(static_cast<unsigned>(last)))};
}

/// Writes integers in wire.bytes(values.size()) bytes, the first in the lowest bits. O(n).
template <class Integer>
void write_wire(const Wire& wire, std::span<const Integer> values, std::uint8_t* out) {
  const int halve = wire.step - 1;
  const auto code = [&](Integer value) {
    return static_cast<std::uint64_t>(static_cast<std::uint32_t>(static_cast<int>(value) - wire.lowest) >>
                                      halve);
  };
  const std::size_t n = values.size();
  std::size_t i = 0;
  if (wire.bits <= 8)  // eight integers are whole bytes, and fit into a word
    for (; i + 8 <= n; i += 8) {
      std::uint64_t word = 0;
      for (int k = 0; k < 8; ++k) word |= code(values[i + static_cast<std::size_t>(k)]) << (k * wire.bits);
      if constexpr (std::endian::native == std::endian::little) {
        std::memcpy(out, &word, static_cast<std::size_t>(wire.bits));
      } else {
        for (int k = 0; k < wire.bits; ++k) out[k] = static_cast<std::uint8_t>(word >> (8 * k));
      }
      out += wire.bits;
    }
  std::uint64_t word = 0;
  int held = 0;
  for (; i < n; ++i) {
    word |= code(values[i]) << held;
    for (held += wire.bits; held >= 8; held -= 8, word >>= 8) *out++ = static_cast<std::uint8_t>(word);
  }
  if (held > 0) *out = static_cast<std::uint8_t>(word);
}

/// f(i, value) for n integers that write_wire has written. O(n).
template <class F>
void read_wire(const Wire& wire, const std::uint8_t* in, Index n, const F& f) {
  const std::uint64_t mask = (std::uint64_t{1} << wire.bits) - 1;
  const auto value = [&](std::uint64_t code) {
    return wire.lowest + wire.step * static_cast<int>(static_cast<std::uint32_t>(code & mask));
  };
  Index i = 0;
  if (wire.bits <= 8)
    for (; i + 8 <= n; i += 8) {
      std::uint64_t word = 0;
      if constexpr (std::endian::native == std::endian::little) {
        std::memcpy(&word, in, static_cast<std::size_t>(wire.bits));
      } else {
        for (int k = 0; k < wire.bits; ++k) word |= std::uint64_t{in[k]} << (8 * k);
      }
      for (int k = 0; k < 8; ++k) f(i + k, value(word >> (k * wire.bits)));
      in += wire.bits;
    }
  std::uint64_t word = 0;
  int held = 0;
  for (; i < n; ++i) {
    for (; held < wire.bits; held += 8) word |= std::uint64_t{*in++} << held;
    f(i, value(word));
    word >>= wire.bits;
    held -= wire.bits;
  }
}

}  // namespace zipml::inline ZIPML_ABI
