#pragma once
/// \file
/// Room base: the compiler's vector intrinsics, included before anybody else includes them: g++ 12 warns of
/// its own _mm512_undefined_epi32 wherever the kernels use it (gcc.gnu.org/PR105593), unless the header came
/// in with that warning off. (Eigen includes it under -mavx, which is why eigen.hpp includes this file
/// first.)

#include <zipml/base/config.hpp>

#if ZIPML_X86
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop
#else
#include <immintrin.h>
#endif
#endif
