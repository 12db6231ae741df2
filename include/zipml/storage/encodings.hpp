#pragma once
/// \file
/// Room storage: encodings, how the independent draws of a value become bits. Each spends what the
/// mathematics needs:
///
///     encoding            read back                     bits of a value (b bits a draw)
///     SeparateDraws<1>    the draw                      b
///     CorrectedDraw       the draw; per column mean     b
///                         variance of the rounding
///     SeparateDraws<k>    each draw                     b + k planes (2^b - 1 intervals, a bit for each
///     draw) SummedDraws<k>      the mean of the draws, or     b + log2 k (k (2^b - 1) + 1 possible sums)
///                         their multiset
///
/// All draws of a value v lie on its two neighbouring levels. ZipML 2017, section 2.2, states "log2 k more
/// bits" for k draws; the authors' code stores them apart, in k b bits.

#include <cstdint>

#include <zipml/storage/plane_layout.hpp>

namespace zipml::inline ZIPML_ABI {

/// K draws that can be read apart. K = 1: the code of the level. K > 1: the code of the lower level once
/// (there are 2^b - 1 intervals; none to store at b = 1) and one bit a draw that says "upper".
template <int K>
struct SeparateDraws {
  static_assert(K >= 1 && K <= 8, "zipml: a store keeps 1 to 8 draws apart");
  static constexpr int draws = K;
  static constexpr int summed = 1;
  static constexpr bool has_bias = false;
  using Code = std::uint8_t;

  static constexpr int base_bits(int bits) { return K > 1 && bits == 1 ? 0 : bits; }
  static constexpr int stored_bits(int bits) { return base_bits(bits) + (K > 1 ? K : 0); }

  static PlaneList base_planes(int bits) { return PlaneList::of_code(base_bits(bits)); }
  /// The planes whose sum is the code of one draw.
  static PlaneList planes(int bits, int draw) {
    PlaneList list = base_planes(bits);
    if (K > 1) list.push_draw_plane(base_bits(bits) + draw);
    return list;
  }
};

/// One draw, and for each column the mean variance of its rounding, dbar_j = mean_i Var q_ij, taken in full
/// precision while packing: what variance correction subtracts.
struct CorrectedDraw : SeparateDraws<1> {
  static constexpr bool has_bias = true;
};

/// The sum of K draws, K = 2, 4 or 8: K (2^b - 1) + 1 values in b + log2 K bits, the sum code for K = 2. It
/// is read as one value, the mean m of the draws, with the unbiased estimate w_j = mean_i c (K - c) / (K^2 (K
/// - 1)) gap^2 of Var m_ij, c the number of draws that went up; for K = 2 that is the column mean of ((q1 -
/// q2) / 2)^2. The multiset of the draws is in the sum, see PackedStore::draws_of.
template <int K>
struct SummedDraws {
  static_assert(K == 2 || K == 4 || K == 8, "zipml: the number of summed draws is 2, 4 or 8");
  static constexpr int draws = 1;
  static constexpr int summed = K;
  static constexpr bool has_bias = true;
  using Code = std::uint16_t;

  static constexpr int log2 = K == 2 ? 1 : K == 4 ? 2 : 3;
  /// Widest code that the kernels read: a plane of 8 bits and one of 1.
  static constexpr int max_stored_bits = 9;
  static constexpr int base_bits(int bits) { return bits + log2; }
  static constexpr int stored_bits(int bits) { return bits + log2; }

  static PlaneList base_planes(int bits) { return PlaneList::of_code(bits + log2); }
  static PlaneList planes(int bits, int /*draw*/) { return base_planes(bits); }
};

/// The code of one draw's lower level, and how many of `draws` draws went up, from their sum.
struct DrawCount {
  int low;
  int up;
};
constexpr DrawCount split_sum(int sum, int draws, int bits) {
  const int highest = (1 << bits) - 2;
  const int low = sum / draws < highest ? sum / draws : highest;
  return {low, sum - low * draws};
}

/// Which of `draws` draws went up when `up` of them did: all arrangements equally likely (to 2^-26), chosen
/// by one random word. Bit t stands for draw t. O(draws).
constexpr unsigned arrangement(int draws, int up, std::uint32_t word) {
  unsigned mask = 0;
  // `word` / 2^32 is uniform: at each draw the share of arrangements in which it goes up is up / left, and
  // what remains of the word is uniform again.
  std::uint64_t rest = word;
  for (int t = 0, left = draws; t < draws; ++t, --left) {
    const std::uint64_t scaled = rest * static_cast<std::uint64_t>(left);
    const std::uint64_t border = static_cast<std::uint64_t>(up) << 32;
    if (up > 0 && scaled < border) {
      mask |= 1u << t;
      rest = scaled / static_cast<std::uint64_t>(up);
      --up;
    } else if (left > up) {
      rest = (scaled - border) / static_cast<std::uint64_t>(left - up);
    }
  }
  return mask;
}

}  // namespace zipml::inline ZIPML_ABI
