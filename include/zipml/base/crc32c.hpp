#pragma once
/// \file
/// Room base: CRC-32C (Castagnoli; the polynomial of iSCSI, RFC 3720), which processors compute: what files
/// are checked by.

#include <cstdint>
#include <cstring>

#include <zipml/base/config.hpp>
#if ZIPML_DEFINES
#include <zipml/base/intrinsics.hpp>
#endif

namespace zipml::inline ZIPML_ABI {

/// The CRC-32C of some bytes, or of those behind others whose CRC is `before`.
///
///     zipml::crc32c("123456789", 9) == 0xE3069283
std::uint32_t crc32c(const void* data, std::size_t bytes, std::uint32_t before = 0);

namespace detail {
/// The inverted CRC behind an inverted one, for processors that do not compute it.
std::uint32_t crc32c_by_tables(const unsigned char* p, std::size_t bytes, std::uint32_t crc);
}  // namespace detail

#if ZIPML_DEFINES

namespace detail {

/// Tables of the remainder of each byte, and of each byte with k zero bytes behind it, k below 8.
struct CrcTables {
  std::uint32_t of[8][256];
  constexpr CrcTables() : of{} {
    for (std::uint32_t byte = 0; byte < 256; ++byte) {
      std::uint32_t crc = byte;
      for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ ((crc & 1u) != 0 ? 0x82F63B78u : 0u);
      of[0][byte] = crc;
    }
    for (std::uint32_t byte = 0; byte < 256; ++byte)
      for (int k = 1; k < 8; ++k) of[k][byte] = of[k - 1][byte] >> 8 ^ of[0][of[k - 1][byte] & 255u];
  }
};

/// Eight bytes at a time (Kounavis, Berry 2005, "slicing by 8").
ZIPML_FUNCTION std::uint32_t crc32c_by_tables(const unsigned char* p, std::size_t bytes, std::uint32_t crc) {
  static constexpr CrcTables tables;
  for (; bytes >= 8; bytes -= 8, p += 8) {
    std::uint32_t next = 0;
    for (int k = 0; k < 4; ++k) next ^= tables.of[7 - k][(crc >> (8 * k) & 255u) ^ p[k]];
    for (int k = 4; k < 8; ++k) next ^= tables.of[7 - k][p[k]];
    crc = next;
  }
  for (; bytes > 0; --bytes, ++p) crc = crc >> 8 ^ tables.of[0][(crc ^ *p) & 255u];
  return crc;
}

#if ZIPML_X86 && defined(__x86_64__)
__attribute__((target("sse4.2"))) inline std::uint32_t crc32c_sse42(const unsigned char* p, std::size_t bytes,
                                                                    std::uint32_t crc) {
  std::uint64_t wide = crc;
  for (; bytes >= 8; bytes -= 8, p += 8) {
    std::uint64_t word;
    std::memcpy(&word, p, sizeof word);
    wide = _mm_crc32_u64(wide, word);
  }
  auto narrow = static_cast<std::uint32_t>(wide);
  for (; bytes > 0; --bytes, ++p) narrow = _mm_crc32_u8(narrow, *p);
  return narrow;
}
#endif

}  // namespace detail

ZIPML_FUNCTION std::uint32_t crc32c(const void* data, std::size_t bytes, std::uint32_t before) {
  const auto* const p = static_cast<const unsigned char*>(data);
#if ZIPML_X86 && defined(__x86_64__)
  if (__builtin_cpu_supports("sse4.2")) return ~detail::crc32c_sse42(p, bytes, ~before);
#endif
  return ~detail::crc32c_by_tables(p, bytes, ~before);
}

#endif

}  // namespace zipml::inline ZIPML_ABI
