#pragma once
/// \file
/// Room quantization: rounding, how a value between two levels becomes one of them.

#include <concepts>
#include <cstdint>

#include <zipml/base/random.hpp>
#include <zipml/quantization/levels.hpp>

namespace zipml::inline ZIPML_ABI {

/// Decides between the two neighbouring levels: true means the upper one. `word` is 32 random bits that
/// belong to this value alone; `stochastic` says whether they matter.
template <class R>
concept Rounding = requires(Position position, std::uint32_t word) {
  { R::up(position, word) } -> std::same_as<bool>;
  { R::stochastic } -> std::convertible_to<bool>;
  { R::name } -> std::convertible_to<const char*>;
};

/// Up with probability `fraction` (to 24 bits), else down: E Q(v) = v, Var Q(v) = (v - low)(high - v).
/// ZipML 2017, section 2.
struct StochasticRounding {
  static constexpr const char* name = "stochastic";
  static constexpr bool stochastic = true;
  static bool up(Position position, std::uint32_t word) { return rounds_up(position.fraction, word); }
};

/// The nearer level, ties up. Biased, without variance.
struct NearestRounding {
  static constexpr const char* name = "nearest";
  static constexpr bool stochastic = false;
  static bool up(Position position, std::uint32_t) { return position.fraction >= 0.5f; }
};

inline constexpr StochasticRounding stochastic{};
inline constexpr NearestRounding nearest{};

/// The code of x: rounds x to one of the levels.
template <Levels L, Rounding R>
int round_to_code(const L& levels, R, float x, std::uint32_t word) {
  const Position position = levels.lower(x);
  return position.code + (R::up(position, word) ? 1 : 0);
}

}  // namespace zipml::inline ZIPML_ABI
