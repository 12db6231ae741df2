#pragma once
/// \file
/// Room model: the logistic function and what follows from it for some rows at a time, in loops that vectorise, with the
/// same bits as row by row and on every machine.

#include <zipml/base/config.hpp>
#include <zipml/base/cpu.hpp>
#include <zipml/base/exponential.hpp>

namespace zipml::inline ZIPML_ABI::detail {

/// Rows whose derivatives are formed together: a constant, so that the loops over them vectorise.
inline constexpr int rows_together = 32;

/// 1 / (1 + e^m), the probability of the other label where the signed margin is m, without a branch.
ZIPML_ALWAYS_INLINE float probability_of_other(float m, const DecayingExponential& decay) {
  const float e = decay(m);
  const float larger = 1.0f / (1.0f + e);
  return by_sign(m, larger, e * larger);
}

/// l' of log(1 + e^(-y z)).
ZIPML_ALWAYS_INLINE void logistic_derivatives(const float* __restrict z, const float* __restrict y,
                                              float* __restrict out) {
  const DecayingExponential decay;
  for (int i = 0; i < rows_together; ++i) out[i] = -y[i] * probability_of_other(y[i] * z[i], decay);
}

/// l' - (v/2) l''' and l''.
ZIPML_ALWAYS_INLINE void corrected_logistic(const float* __restrict z, const float* __restrict y, float v,
                                            float* __restrict residual, float* __restrict factor) {
  const DecayingExponential decay;
  for (int i = 0; i < rows_together; ++i) {
    const float other = probability_of_other(y[i] * z[i], decay);
    const float second = other * (1.0f - other);
    const float third = second * (decay.rounded(2.0f * other) - 1.0f);
    factor[i] = second;
    residual[i] = -y[i] * (other + decay.rounded(0.5f * v * third));
  }
}

/// log(1 + e^(-y z)).
ZIPML_ALWAYS_INLINE void logistic_values(const float* __restrict z, const float* __restrict y,
                                         double* __restrict out) {
  const LogOnePlusDecay logarithm_of;
  for (int i = 0; i < rows_together; ++i) {
    const double m = static_cast<double>(y[i]) * static_cast<double>(z[i]);
    out[i] = logarithm_of(m) + (m > 0.0 ? 0.0 : -m);
  }
}

#if ZIPML_X86
// Eight lanes of the same operations.
ZIPML_KERNEL("avx2") inline void logistic_derivatives_avx2(const float* z, const float* y, float* out) {
  logistic_derivatives(z, y, out);
}
ZIPML_KERNEL("avx2") inline void logistic_values_avx2(const float* z, const float* y, double* out) {
  logistic_values(z, y, out);
}
ZIPML_KERNEL("avx2")
inline void corrected_logistic_avx2(const float* z, const float* y, float v, float* residual, float* factor) {
  corrected_logistic(z, y, v, residual, factor);
}
#endif

/// logistic_derivatives() of rows_together rows with the instructions that there are.
inline void logistic_derivatives_of_rows(const float* z, const float* y, float* out) {
#if ZIPML_X86
  if (cpu_features().avx2) return logistic_derivatives_avx2(z, y, out);
#endif
  logistic_derivatives(z, y, out);
}

/// logistic_values() likewise.
inline void logistic_values_of_rows(const float* z, const float* y, double* out) {
#if ZIPML_X86
  if (cpu_features().avx2) return logistic_values_avx2(z, y, out);
#endif
  logistic_values(z, y, out);
}

/// corrected_logistic() likewise.
inline void corrected_logistic_of_rows(const float* z, const float* y, float v, float* residual,
                                       float* factor) {
#if ZIPML_X86
  if (cpu_features().avx2) return corrected_logistic_avx2(z, y, v, residual, factor);
#endif
  corrected_logistic(z, y, v, residual, factor);
}

}  // namespace zipml::inline ZIPML_ABI::detail
