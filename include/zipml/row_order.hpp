#pragma once
/// \file
/// Layer 0: many places of a keyed permutation at once. One place costs 60 rounds of Philox that wait for
/// each other; eight places share vector registers.

#include <zipml/cpu.hpp>
#include <zipml/philox_lanes.hpp>
#include <zipml/random.hpp>

namespace zipml::inline ZIPML_ABI {

/// out[k] = the place of first + k, k < count: as permutation(first + k).
inline void places_of(const Permutation& permutation, Index first, Index count, Index* out) {
  Index k = 0;
#if ZIPML_X86
  if (cpu_features().avx2 && permutation.side() < (Index{1} << 32)) {
    const auto side = static_cast<std::uint64_t>(permutation.side());
    for (; k + 8 <= count; k += 8) {
      std::uint64_t left[8], right[8], mix[8];
      for (int l = 0; l < 8; ++l) {
        left[l] = static_cast<std::uint64_t>(first + k + l) / side;
        right[l] = static_cast<std::uint64_t>(first + k + l) % side;
      }
      for (std::uint32_t round = 0; round < Permutation::rounds; ++round) {
        const detail::PhiloxPlace place(permutation.random(), permutation.stream(), round, 0);
        detail::philox_first_words(place, permutation.column(), right, mix);
        for (int l = 0; l < 8; ++l) {
          const std::uint64_t next = (left[l] + mix[l]) % side;
          left[l] = right[l];
          right[l] = next;
        }
      }
      for (int l = 0; l < 8; ++l) {
        const auto place = static_cast<Index>(left[l] * side + right[l]);
        out[k + l] = place < permutation.size() ? place : permutation(place);  // the walk goes on, rarely
      }
    }
  }
#endif
  for (; k < count; ++k) out[k] = permutation(first + k);
}

}  // namespace zipml::inline ZIPML_ABI
