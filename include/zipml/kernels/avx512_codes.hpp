#pragma once
/// \file
/// Room kernels: what all AVX-512 kernels do with codes: load a plane as it is stored, put the codes of
/// several planes together.
///
/// Codes of several planes (3, 5, 6, 7 bits, or a draw's own bit) are put together first, two to a byte up to
/// 15, where that is less work: JoinedCodes.

#include <zipml/base/index.hpp>
#include <zipml/kernels/avx2.hpp>

#if ZIPML_X86

#include <bit>
#include <cstdint>

namespace zipml::inline ZIPML_ABI {

/// The lowest layer of Avx512Kernels (avx512.hpp).
struct Avx512Codes : Avx2Kernels {
 protected:
  ZIPML_INLINE_AVX512 static __m512i load64(const std::uint8_t* bytes) { return _mm512_loadu_si512(bytes); }

  /// Zeros, written out: g++ makes a call to memset of a loop, and memory of the registers.
  template <int N>
  ZIPML_INLINE_AVX512 static void clear(__m512i* v) {
    if constexpr (N > 1) clear<N - 1>(v);
    v[N - 1] = _mm512_setzero_si512();
  }
  template <int N>
  ZIPML_INLINE_AVX512 static void clear(__m512* v) {
    if constexpr (N > 1) clear<N - 1>(v);
    v[N - 1] = _mm512_setzero_ps();
  }

  // ---- codes in bytes

  /// The matrix that moves `count` bits of a byte from place `from` to place `to`, for gf2p8affine.
  /// Bit i of the product is the parity of the byte and of byte 7 - i of the matrix (Intel SDM, vol. 2):
  /// the identity, less what other bits of the product would be, with columns moved.
  static constexpr std::uint64_t moved_bits(int count, int from, int to) {
    constexpr std::uint64_t identity = 0x0102040810204080;
    const std::uint64_t rows = ~std::uint64_t{0} >> (64 - 8 * count) << 8 * (8 - to - count);
    return from >= to ? (identity & rows) << (from - to) : (identity & rows) >> (to - from);
  }

  /// Codes of a group as kernels read them: `width` registers for 64 columns, register k with `width` bits
  /// for each of rows k * 8 / width on, the first of them lowest. Here a plane as it is stored.
  template <int W>
  struct PlaneCodes {
    static constexpr bool is_plane = true;
    static constexpr int bits = W;
    static constexpr int width = W;
    ZIPML_INLINE_AVX512 static __m512i load(const detail::GroupPanels& panels, Index j, Index d, int k) {
      return load64(panels.plane[0] + k * d + j);
    }
  };

  /// Codes of several planes, put together as a plane of 4 bits, or of 8, would be; the bit of a draw's own
  /// plane is added. 3 bits are planes of 2 and 1; 5, 6 and 7 are 4 and 1, 4 and 2, 4, 2 and 1.
  template <int Bits, bool Draw>
  struct JoinedCodes {
    static constexpr bool is_plane = false;
    static constexpr int bits = Bits + (Draw ? 1 : 0);
    static constexpr int width = (1 << Bits) - (Draw ? 0 : 1) <= 15 ? 4 : 8;

    ZIPML_INLINE_AVX512 static __m512i load(const detail::GroupPanels& panels, Index j, Index d, int k) {
      constexpr int widest = Bits >= 8 ? 8 : Bits >= 4 ? 4 : Bits >= 2 ? 2 : 1;
      constexpr int below = Bits - widest;
      constexpr int planes = std::popcount(static_cast<unsigned>(Bits));
      __m512i codes = load_plane<widest, below>(panels.plane[0] + j, d, k);
      if constexpr (below >= 2)
        codes = _mm512_or_si512(codes, load_plane<2, below - 2>(panels.plane[1] + j, d, k));
      if constexpr (below % 2 == 1)
        codes = _mm512_or_si512(codes, load_plane<1, 0>(panels.plane[planes - 1] + j, d, k));
      if constexpr (Draw) codes = _mm512_add_epi8(codes, load_plane<1, 0>(panels.plane[planes] + j, d, k));
      return codes;
    }

   private:
    /// The bits of a plane where they stand in the codes of register k: a product with a matrix of bits.
    template <int W, int Shift>
    ZIPML_INLINE_AVX512 static __m512i load_plane(const std::uint8_t* panels, Index d, int k) {
      constexpr int per_register = 8 / width;
      constexpr int per_byte = 8 / W;
      const int row = k * per_register;
      std::uint64_t matrix = 0;
      for (int i = 0; i < per_register; ++i)
        matrix |= moved_bits(W, (row + i) % per_byte * W, i * width + Shift);
      return _mm512_gf2p8affine_epi64_epi8(load64(panels + row / per_byte * d),
                                           _mm512_set1_epi64(static_cast<long long>(matrix)), 0);
    }
  };

  /// Calls f with the JoinedCodes of a list of several planes; false where f says so, or there are none.
  template <class Codes, class F>
  static bool visit_joined(const PlaneList& planes, const F& f) {
    bool done = false;
    detail::visit_bytes<Codes>(planes,
                               [&](auto bits, auto draw) { done = f(JoinedCodes<bits(), draw()>{}); });
    return done;
  }
  /// A list of one plane, for kernels that take PlaneCodes.
  static PlaneList only(const Plane& plane) {
    PlaneList list;
    list.code_bits = plane.width;
    list.push(plane);
    return list;
  }
};

}  // namespace zipml::inline ZIPML_ABI

#endif  // ZIPML_X86
