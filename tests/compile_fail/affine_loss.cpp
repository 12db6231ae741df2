// Double sampling multiplies independent draws, which is unbiased only for an affine derivative.
// expect: AffineLoss
#include <cmath>

#include "samples.hpp"

struct LogisticLoss {
  static constexpr const char* name = "logistic";
  static constexpr bool classifies = true;
#ifdef FIXED
  static constexpr float slope = 0.25f;  // a lie, but what the concept asks for
#endif

  double value(double z, double label) const { return std::log1p(std::exp(-label * z)); }
  float derivative(float z, float label) const { return -label / (1.0f + std::exp(label * z)); }
  zipml::LabelMap label_map(const zipml::LabelStatistics&) const { return {}; }
};
static_assert(zipml::Loss<LogisticLoss>);

int main() {
  const auto store = zipml::quantize<4>(A, y, zipml::double_sampling);
  return zipml::Sgd{LogisticLoss{}}.fit(store).epochs;
}
