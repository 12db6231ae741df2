#pragma once
/// \file
/// Room quantization: levels, the increasing table of values that one draw of a b-bit number can take.

#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <string>

#include <zipml/base/error.hpp>

namespace zipml::inline ZIPML_ABI {

/// Where a value lies among the levels: between level(code) and level(code + 1), `fraction` of the way up.
/// 0 <= code <= count - 2 and 0 <= fraction <= 1, so that the highest level is (count - 2, 1).
struct Position {
  int code;
  float fraction;
};

/// An increasing table of 2^bits levels. `value(code)` is the level; `lower(x)` places a value among the
/// levels, after clamping it to the lowest or highest one.
template <class L>
concept Levels = requires(const L levels, int code, float x) {
  { L::bits } -> std::convertible_to<int>;
  { levels.value(code) } -> std::convertible_to<float>;
  { levels.lower(x) } -> std::same_as<Position>;
};

/// Levels of the form offset + step * code: what the integer kernels need, since the affine part can be
/// folded into the model once per batch.
template <class L>
concept AffineLevels = Levels<L> && requires(const L levels) {
  { levels.offset() } -> std::convertible_to<float>;
  { levels.step() } -> std::convertible_to<float>;
};

/// `count` equally spaced levels over [lowest, highest], both ends included; their number is known at run
/// time. UniformLevels is the same with the number in its type.
///
/// A value within float32 rounding of a level (count * 2^-23 of a step) counts as that level, so that levels
/// are fixed points of every rounding. A single point (lowest == highest) has step 0 and every code decodes
/// to it exactly. Throws Error when the range is not finite in float32.
class UniformGrid {
 public:
  UniformGrid() = default;
  UniformGrid(float lowest, float highest, int count)
      : last_(static_cast<float>(count - 1)), snap_(snap_of(count)), offset_(lowest) {
    const double range = static_cast<double>(highest) - static_cast<double>(lowest);
    if (!(range >= 0.0 && range <= 3.4e38))
      throw Error("uniform levels need a range that fits float32", "lowest <= highest",
                  number_text(lowest) + " to " + number_text(highest));
    step_ = static_cast<float>(range / static_cast<double>(last_));
    // Rounding the step up would place `highest` below the last level: exact ends are worth the last bit of
    // it.
    while (step_ > 0.0f && (highest - lowest) / step_ < last_) step_ = std::nextafter(step_, 0.0f);
  }

  /// How near to a level counts as that level, in steps.
  static constexpr float snap_of(int count) { return static_cast<float>(count) / 8388608.0f; }

  int count() const { return static_cast<int>(last_) + 1; }
  float offset() const { return offset_; }
  float step() const { return step_; }

  float value(int code) const { return static_cast<float>(offset_ + static_cast<double>(step_) * code); }

  Position lower(float x) const { return lower(x, offset_, step_, last_, snap_); }

  /// The same from the parts of a grid, `last` the highest code.
  static Position lower(float x, float offset, float step, float last, float snap) {
    if (step == 0.0f) return {0, 0.0f};
    // Nothing here multiplies before it adds, so that contraction into FMA cannot change a bit.
    // A NaN, which packing refuses but may have rounded before it looks, goes to 0: no conversion is undefined.
    const float place = (std::min)((std::max)(0.0f, (x - offset) / step), last);
    const int code = (std::min)(static_cast<int>(place), static_cast<int>(last) - 1);
    float fraction = place - static_cast<float>(code);
    if (fraction < snap) fraction = 0.0f;
    if (fraction > 1.0f - snap) fraction = 1.0f;
    return {code, fraction};
  }

 private:
  float last_ = 1.0f;  // the highest code
  float snap_ = 0.0f;
  float offset_ = 0.0f;
  float step_ = 0.0f;
};

/// 2^Bits equally spaced levels over [lowest, highest]: a UniformGrid.
///
///     zipml::UniformLevels<2> levels(0.0f, 3.0f);   // 0, 1, 2, 3
template <int Bits>
class UniformLevels : public UniformGrid {
  static_assert(Bits >= 1 && Bits <= 8, "zipml: a draw has 1 to 8 bits");

 public:
  static constexpr int bits = Bits;
  static constexpr int count = 1 << Bits;

  UniformLevels() : UniformLevels(0.0f, 0.0f) {}
  UniformLevels(float lowest, float highest) : UniformGrid(lowest, highest, count) {}
};

/// `count` levels at increasing values that somebody else owns; repeated ones are allowed.
struct LevelTable {
  const float* values;
  int count;

  float value(int code) const { return values[code]; }

  /// Throws Error when the lowest and the highest level are farther apart than float32 reaches.
  void require_range() const {
    if (!(static_cast<double>(values[count - 1]) - static_cast<double>(values[0]) <= 3.4e38))
      throw Error("levels need a range that fits float32", "lowest <= highest, 3.4e38 apart at most",
                  number_text(values[0]) + " to " + number_text(values[count - 1]));
  }

  /// O(log count) by bisection. Among repeated levels the lowest code is taken.
  Position lower(float x) const {
    const float v = (std::min)((std::max)(values[0], x), values[count - 1]);  // a NaN goes to the lowest
    const float* above = std::lower_bound(values + 1, values + count - 1, v);
    const int code = static_cast<int>(above - values) - 1;
    const float low = values[code];
    const float width = values[code + 1] - low;
    return {code, width > 0.0f ? (v - low) / width : 0.0f};
  }
};

/// 2^Bits levels at arbitrary increasing values, `fewer` distinct ones allowed at the end (repeat the last).
/// The float-model kernels decode them by table.
///
///     zipml::TableLevels<1> signs({-1.0f, 1.0f});
template <int Bits>
class TableLevels {
  static_assert(Bits >= 1 && Bits <= 8, "zipml: a draw has 1 to 8 bits");

 public:
  static constexpr int bits = Bits;
  static constexpr int count = 1 << Bits;
  using Table = std::array<float, static_cast<std::size_t>(count)>;

  TableLevels() : table_{} {}
  /// Throws Error when a level is not finite or lower than the one before it.
  explicit TableLevels(const Table& table) : table_(table) {
    for (std::size_t k = 0; k < table_.size(); ++k) {
      if (!std::isfinite(table_[k]))
        throw Error("a level is not a finite number", "finite levels", "level " + std::to_string(k));
      if (k > 0 && table_[k] < table_[k - 1])
        throw Error("levels must not decrease",
                    "level " + std::to_string(k) + " >= " + number_text(table_[k - 1]),
                    number_text(table_[k]));
    }
    LevelTable{table_.data(), count}.require_range();
  }

  const Table& table() const { return table_; }
  float value(int code) const { return table_[static_cast<std::size_t>(code)]; }
  Position lower(float x) const { return LevelTable{table_.data(), count}.lower(x); }

 private:
  Table table_;
};

}  // namespace zipml::inline ZIPML_ABI
