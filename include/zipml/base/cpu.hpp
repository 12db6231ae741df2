#pragma once
/// \file
/// Room base: what this processor has and its operating system saves. A vector instruction that the processor
/// knows still faults, or loses its registers at the next task switch, unless the operating system has
/// enabled their state: XCR0 tells (Intel SDM vol. 1, sections 13.3 and 15.2).

#include <cstdint>

#include <zipml/base/config.hpp>

#if ZIPML_X86
#include <cpuid.h>
#endif

namespace zipml::inline ZIPML_ABI {

/// The instruction sets of which this library has kernels.
struct CpuFeatures {
  bool avx2 = false;      ///< AVX2 and FMA
  bool avx_vnni = false;  ///< AVX2, FMA and AVX-VNNI: dot products of bytes in 256-bit registers
  bool avx512 = false;    ///< AVX-512 F, BW, VL, VNNI, VBMI; GFNI, AVX2, FMA
};

namespace detail {

inline CpuFeatures detect_cpu() {
  CpuFeatures found;
#if ZIPML_X86
  const auto bit = [](unsigned word, int k) { return (word >> k & 1u) != 0; };
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0) return found;
  const bool fma = bit(c, 12);
  const bool xsave = bit(c, 27);
  const bool avx = bit(c, 28);
  if (!xsave || !avx) return found;
  unsigned low = 0, high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  constexpr unsigned ymm_state = 0x06;  // SSE and AVX registers
  constexpr unsigned zmm_state = 0xe6;  // and masks, upper halves, registers 16 to 31
  if ((low & ymm_state) != ymm_state) return found;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return found;
  const unsigned subleaves = a;
  found.avx2 = fma && bit(b, 5);
  found.avx512 = found.avx2 && (low & zmm_state) == zmm_state && bit(b, 16) && bit(b, 30) && bit(b, 31) &&
                 bit(c, 1) && bit(c, 8) && bit(c, 11);
  if (subleaves >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0)
    found.avx_vnni = found.avx2 && bit(a, 4);
#endif
  return found;
}

}  // namespace detail

/// Asked once: cpuid costs microseconds in a virtual machine.
inline const CpuFeatures& cpu_features() {
  static const CpuFeatures features = detail::detect_cpu();
  return features;
}

}  // namespace zipml::inline ZIPML_ABI
