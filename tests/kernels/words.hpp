#pragma once
// Random words for kernel tests: the same on every machine (xorshift, Marsaglia 2003).

#include <cstdint>

struct Words {
  std::uint64_t state = 88172645463325252ull;
  std::uint32_t operator()() {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return static_cast<std::uint32_t>(state >> 32);
  }
  float real() { return static_cast<float>((*this)() >> 8) / 8388608.0f - 1.0f; }
};
