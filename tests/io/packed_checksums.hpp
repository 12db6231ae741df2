#pragma once
// Packed files that lie with right checksums.

#include <algorithm>
#include <cstdint>
#include <string>
#include <zipml/base/crc32c.hpp>

/// Puts right every checksum of a file whose bytes were changed.
inline void put_checksums(std::string& bytes) {
  const auto get = [&](std::size_t at, std::size_t width) {
    std::uint64_t value = 0;
    for (std::size_t k = 0; k < width; ++k)
      value |= std::uint64_t{static_cast<unsigned char>(bytes[at + k])} << (8 * k);
    return static_cast<std::size_t>(value);
  };
  const auto put = [&](std::size_t at, std::uint32_t value) {
    for (std::size_t k = 0; k < 4; ++k) bytes[at + k] = static_cast<char>(value >> (8 * k) & 255u);
  };
  const std::size_t count = get(12, 4);
  if (count == 0 || 64 + 32 * count + 4 > bytes.size()) return;
  const std::size_t list = get(64 + 32 * (count - 1) + 8, 8), listed = get(64 + 32 * (count - 1) + 16, 8);
  const bool has_list = list <= bytes.size() && listed <= bytes.size() - list;
  for (std::size_t k = 0; k + 1 < count; ++k) {
    const std::size_t at = 64 + 32 * k, offset = get(at + 8, 8), size = get(at + 16, 8),
                      first = get(at + 28, 4);
    if (offset > bytes.size() || size > bytes.size() - offset || !has_list) continue;
    for (std::size_t chunk = 0; chunk << 20 < size; ++chunk)
      if (4 * (first + chunk) + 4 <= listed)
        put(list + 4 * (first + chunk), zipml::crc32c(bytes.data() + offset + (chunk << 20),
                                                      std::min<std::size_t>(1u << 20, size - (chunk << 20))));
  }
  if (has_list) put(64 + 32 * (count - 1) + 28, zipml::crc32c(bytes.data() + list, listed));
  put(64 + 32 * count, zipml::crc32c(bytes.data(), 64 + 32 * count));
}
