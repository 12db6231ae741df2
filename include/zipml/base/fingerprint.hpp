#pragma once
/// \file
/// Room base: numbers that tell values apart.

#include <bit>
#include <cstdint>
#include <span>
#include <string_view>

namespace zipml::inline ZIPML_ABI {

/// A number of values in their order: h = (h xor v) p, h = h xor h / 2^32 for each, p an odd constant. Other values, or the same in
/// another order, give another number, accidents aside. Packed files hold such numbers: they stay what they are.
///
///     const std::uint64_t number = zipml::Fingerprint().add(weights).add(0.5).value();
class Fingerprint {
 public:
  /// Of no values yet; `start` tells lists apart that begin alike.
  explicit Fingerprint(std::uint64_t start = 0) : value_(0x9E3779B97F4A7C15u ^ start) {}

  Fingerprint& add(std::uint64_t value) {
    value_ = (value_ ^ value) * 0xD6E8FEB86659FD93u;
    value_ ^= value_ >> 32;
    return *this;
  }
  Fingerprint& add(float value) { return add(std::uint64_t{std::bit_cast<std::uint32_t>(value)}); }
  Fingerprint& add(double value) { return add(std::bit_cast<std::uint64_t>(value)); }
  /// The values of a list and their number. O(n).
  template <class T>
  Fingerprint& add(std::span<const T> values) {
    for (const T value : values) add(value);
    return add(static_cast<std::uint64_t>(values.size()));
  }
  Fingerprint& add(std::string_view text) {
    for (const char letter : text) add(static_cast<std::uint64_t>(static_cast<unsigned char>(letter)));
    return add(static_cast<std::uint64_t>(text.size()));
  }

  std::uint64_t value() const { return value_; }

 private:
  std::uint64_t value_;
};

}  // namespace zipml::inline ZIPML_ABI
