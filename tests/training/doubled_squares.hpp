#pragma once
// A loss as a user would write it, for tests of what a slope changes.

#include <zipml/model/losses.hpp>

namespace zipml {

/// A user's squared loss without the half: slope 2.
struct DoubledSquares {
  static constexpr const char* name = "doubled-squares";
  static constexpr bool classifies = false;
  static constexpr float slope = 2.0f;
  double value(double z, double y) const { return (z - y) * (z - y); }
  float derivative(float z, float y) const { return 2.0f * (z - y); }
  LabelMap label_map(const LabelStatistics& labels) const { return SquaredLoss{}.label_map(labels); }
};

}  // namespace zipml
