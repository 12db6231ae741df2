#pragma once
/// \file
/// Room training: the correction that a fit subtracts, after a look at whether the problem that it leaves is
/// convex.

#include <algorithm>
#include <optional>
#include <utility>

#include <zipml/training/definiteness.hpp>
#include <zipml/training/fit.hpp>

namespace zipml::inline ZIPML_ABI {

/// The correction of a fit, and what was measured of it. Of a loss of slope s the gradient is s (M x - ...),
/// M the realised matrix; `correction` belongs to M.
struct SafeCorrection {
  Buffer<float> correction;  ///< d, or empty
  bool indefinite = false;
  double noise_gain = 1.0;                    ///< Definiteness::noise_gain
  std::optional<double> smallest_eigenvalue;  ///< before anything was shrunk or added; of s M + penalty I
  double kept = 1.0;                          ///< share of the bias terms that Safety::shrink has left
  double added_ridge = 0.0;                   ///< that Safety::ridge has added to s M
};

/// The correction of an estimator on the samples that `device` reads, which has exact channels. `penalty` is
/// that of the regularizer's quadratic part, `slope` of the loss. O(24 n d), seven times more where a
/// correction is shrunk.
template <GradientEstimator Estimator>
SafeCorrection make_safe(GradientDevice& device, const SampleView& samples, const Estimator&, Safety safety,
                         double penalty, double slope, std::uint64_t seed) {
  SafeCorrection safe;
  if (Estimator::corrected && samples.bias != nullptr) {
    safe.correction = Buffer<float>(samples.cols);
    std::copy_n(samples.bias, samples.cols, safe.correction.data());
  }
  if constexpr (BilinearEstimator<Estimator> && Estimator::needs_affine_loss) {
    if (samples.is_dense()) return safe;
    Buffer<float>& correction = safe.correction;
    const double share = penalty / slope;
    DefinitenessTest<Estimator> test(device, samples, seed);
    Definiteness found = test.measure(correction, share, safety == Safety::ridge);
    safe.smallest_eigenvalue = slope * found.smallest_eigenvalue;
    if (found.indefinite() && safety != Safety::warn) {
      if (safety == Safety::shrink && Estimator::corrected) {
        safe.kept = test.safe_share(correction, share);
        for (float& v : correction) v *= static_cast<float>(safe.kept);
      } else {  // two draws subtract nothing that could be shrunk: they take the ridge
        const double least = test.measure(correction, share, true).smallest_eigenvalue;
        const double ridge = detail::rounded_up((std::max)(-1.1 * least, 0.0) + 1e-3 * found.scale);
        if (correction.empty()) correction = Buffer<float>(samples.cols);
        for (float& v : correction) v -= static_cast<float>(ridge);
        safe.added_ridge = slope * ridge;
      }
      found = test.measure(correction, share);
    }
    safe.indefinite = found.indefinite();
    safe.noise_gain = found.noise_gain;
  }
  return safe;
}

/// Of differences from a pilot (detail::AnchoredLoss): minus the square of the share that nearest rounding has taken from
/// the variance of each column, which is then added, so that no direction in which rounded columns agree is without
/// curvature. The share itself makes the way to the optimum too short at 2 and 3 bits (training/README.md). Empty where
/// rounding adds variance, and 0 for columns that are not standardised. `mean_squares` are of the columns as stored.
SafeCorrection correction_of_lost_variance(const Buffer<double>& mean_squares, const Standardization& map);

#if ZIPML_DEFINES

ZIPML_FUNCTION SafeCorrection correction_of_lost_variance(const Buffer<double>& mean_squares,
                                                          const Standardization& map) {
  SafeCorrection safe;
  Buffer<float> correction(mean_squares.size());
  bool lost = false;
  for (Index j = 0; j < correction.size(); ++j) {
    const double missing = 1.0 - mean_squares[j];
    if (!(missing > 0.0) || map.scale[j] == 1.0) continue;
    correction[j] = -static_cast<float>(detail::rounded_up(missing * missing));
    lost = true;
  }
  if (lost) safe.correction = std::move(correction);
  return safe;
}

#endif

}  // namespace zipml::inline ZIPML_ABI
