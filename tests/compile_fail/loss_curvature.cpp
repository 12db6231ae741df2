// The automatic step rests on a bound of l'': a loss that says none needs a step of its own.
// expect: needs the loss's `slope` or `curvature`
#include <cmath>

#include "samples.hpp"

struct LogisticLoss {
  static constexpr const char* name = "logistic";
  static constexpr bool classifies = true;
#ifdef FIXED
  static constexpr float curvature = 0.25f;
#endif

  double value(double z, double label) const { return std::log1p(std::exp(-label * z)); }
  float derivative(float z, float label) const { return -label / (1.0f + std::exp(label * z)); }
  zipml::LabelMap label_map(const zipml::LabelStatistics&) const { return {}; }
};

int main() {
  const auto store = zipml::quantize<4>(A, y, zipml::naive);
  return zipml::Sgd{LogisticLoss{}}.fit(store).epochs;
}
