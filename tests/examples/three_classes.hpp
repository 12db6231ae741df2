#pragma once
// A table of three classes as text.

#include <cstdint>
#include <string>

/// Three classes, red, green and blue, by which of three noisy numbers is largest.
inline std::string three_classes(int n, std::uint32_t state) {
  const char* const names[] = {"red", "green", "blue"};
  std::string text = "a,b,c,colour\n";
  const auto next = [&] {
    state = state * 1664525u + 1013904223u;
    return static_cast<double>(state >> 8) / 16777216.0;
  };
  for (int i = 0; i < n; ++i) {
    const int of = i % 3;
    for (int j = 0; j < 3; ++j) text += std::to_string(next() + next() + (j == of ? 0.7 : 0.0)) + ",";
    text += std::string(names[of]) + "\n";
  }
  return text;
}
