#pragma once
/// \file
/// Room base: version, compiler facts, the target attributes of the kernels, and the namespace that keeps
/// object files with different -m flags apart.

#if defined(__FAST_MATH__) && !defined(ZIPML_ALLOW_FAST_MATH)
#error \
    "zipml: -ffast-math makes isnan() false and reorders sums, so checks and seeds no longer hold. " \
       "Build without it, or define ZIPML_ALLOW_FAST_MATH to give up those guarantees."
#endif

#if __cplusplus < 202002L
#error "zipml needs C++20 (-std=c++20)"
#endif

#define ZIPML_VERSION_MAJOR 0
#define ZIPML_VERSION_MINOR 1
#define ZIPML_VERSION_PATCH 0
#define ZIPML_VERSION "0.1.0"

#if defined(__x86_64__) || defined(__i386__)
#define ZIPML_X86 1
#else
#define ZIPML_X86 0
#endif

#if ZIPML_X86
/// Functions with these attributes may use an instruction set whatever the file is compiled for; they are
/// only called after cpu.hpp has found it. Feature lists, because g++ 12 rejects arch=haswell here.
///
/// Arrays of registers need loops that are unrolled whole, which g++ 12 does at -O3 alone: at -O2 kernels
/// took twice to three times as long.
#if defined(__clang__) || !defined(__OPTIMIZE__)
#define ZIPML_KERNEL(instructions) __attribute__((target(instructions)))
#else
#define ZIPML_KERNEL(instructions) __attribute__((target(instructions), optimize("O3")))
#endif
#define ZIPML_TARGET_AVX2 ZIPML_KERNEL("avx2,fma")
#define ZIPML_TARGET_AVX_VNNI ZIPML_KERNEL("avx2,fma,avxvnni")
#define ZIPML_TARGET_AVX512 ZIPML_KERNEL("avx2,fma,avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi,gfni")
#endif

// For bodies that several functions with other target attributes share, and for parts of a kernel that keep
// arrays of registers: an array whose address is passed lives in memory.
#define ZIPML_ALWAYS_INLINE inline __attribute__((always_inline))
#define ZIPML_INLINE_AVX2 ZIPML_TARGET_AVX2 __attribute__((always_inline))
#define ZIPML_INLINE_AVX512 ZIPML_TARGET_AVX512 __attribute__((always_inline))

// For functions that are called once a batch or once a fit, from code that is instantiated for each loss,
// step and estimator: one copy for all of them.
#define ZIPML_NOINLINE __attribute__((noinline))

// Two files of one program may be compiled with different -m flags. Inline functions of the same name then
// merge at link time into whichever came first, and an AVX2 body can end up in the program of an older CPU.
// The name of the inline namespace therefore spells the instruction sets that the compiler was free to use.
#if defined(__AVX512F__)
#if defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)
#if defined(__AVX512VNNI__) && defined(__AVX512VBMI__)
#if defined(__GFNI__)
#define ZIPML_ABI_VECTOR avx512gfni
#else
#define ZIPML_ABI_VECTOR avx512vnni
#endif
#else
#define ZIPML_ABI_VECTOR avx512bw
#endif
#else
#define ZIPML_ABI_VECTOR avx512f
#endif
#elif defined(__AVX2__)
#define ZIPML_ABI_VECTOR avx2
#elif defined(__AVX__)
#define ZIPML_ABI_VECTOR avx
#elif defined(__SSE4_2__)
#define ZIPML_ABI_VECTOR sse42
#elif defined(__SSE4_1__)
#define ZIPML_ABI_VECTOR sse41
#elif defined(__SSSE3__)
#define ZIPML_ABI_VECTOR ssse3
#elif defined(__SSE3__)
#define ZIPML_ABI_VECTOR sse3
#else
#define ZIPML_ABI_VECTOR base
#endif
#if defined(__FMA__)
#define ZIPML_ABI_FMA _fma
#else
#define ZIPML_ABI_FMA _
#endif
#if defined(__BMI2__)
#define ZIPML_ABI_BMI _bmi2
#elif defined(__BMI__)
#define ZIPML_ABI_BMI _bmi
#elif defined(__POPCNT__)
#define ZIPML_ABI_BMI _popcnt
#else
#define ZIPML_ABI_BMI _
#endif
// ZIPML_COMPILED, which comes with the CMake target zipml::kernels, takes the kernels and everything else that
// is no template from that library instead of from the headers. The library is compiled for the baseline, in
// the baseline's namespace: a file with other -m flags, which could not link to it, keeps to the headers. The
// namespace tells both kinds of files apart.
#if defined(ZIPML_COMPILED) && !defined(__SSE3__) && !defined(__FMA__) && !defined(__BMI__) && \
    !defined(__BMI2__) && !defined(__POPCNT__)
#define ZIPML_HAS_LIBRARY 1
#define ZIPML_ABI_LIBRARY _compiled
#else
#define ZIPML_HAS_LIBRARY 0
#define ZIPML_ABI_LIBRARY
#endif
// Whether this file defines such functions: the last part of a header, behind what it declares. ZIPML_FUNCTION
// begins such a definition.
#if !ZIPML_HAS_LIBRARY
#define ZIPML_DEFINES 1
#define ZIPML_FUNCTION inline
#elif defined(ZIPML_IS_LIBRARY)
#define ZIPML_DEFINES 1
#define ZIPML_FUNCTION
#else
#define ZIPML_DEFINES 0
#endif
#define ZIPML_ABI_PASTE_(a, b, c, d) v0_##a##b##c##d
#define ZIPML_ABI_PASTE(a, b, c, d) ZIPML_ABI_PASTE_(a, b, c, d)
#define ZIPML_ABI ZIPML_ABI_PASTE(ZIPML_ABI_VECTOR, ZIPML_ABI_FMA, ZIPML_ABI_BMI, ZIPML_ABI_LIBRARY)
