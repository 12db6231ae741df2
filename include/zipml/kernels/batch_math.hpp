#pragma once
/// \file
/// Room kernels: the float work of a batch, O(d) for the model and the gradient: fused loops whose results
/// are the same bits on every instruction set and compiler.
///
/// The bodies are plain C++ on blocks of 32 entries, inlined into functions with the target attributes of
/// an instruction set (ZIPML_BATCH_MATH); AVX2 and AVX-512 have the most of them by hand
/// (batch_math_x86.hpp). What makes the bits equal: products are rounded before they feed a sum, and sums are
/// formed in a fixed number of lanes.
///
/// All vectors are padded to a multiple of model_padding = 64 entries, the padding being 0 in inputs.

#include <bit>
#include <cmath>
#include <cstdint>

#include <zipml/base/index.hpp>
#include <zipml/base/rounded.hpp>
#include <zipml/base/vector_math.hpp>

namespace zipml::inline ZIPML_ABI {

/// Entries of a model or gradient are padded to a multiple of this.
inline constexpr Index model_padding = 64;
constexpr Index padded(Index d) { return round_up(d > 0 ? d : 1, model_padding); }

/// How a gradient leaves codes, with sums of floats, or of integers times a scale:
///     g = ((sums + inner) * step + offset * outer + outliers) * share - diagonal * model
struct GradientFrame {
  float* sums;          ///< float sums, or null; 0 afterwards
  std::int32_t* codes;  ///< integer sums where `sums` is null; 0 afterwards
  float code_scale;
  const float* step;      ///< null: no scaling
  const float* offset;    ///< where `step` is not null
  const float* outliers;  ///< added after the steps, or null
  const float* diagonal;  ///< or null
  const float* model;     ///< what the diagonal multiplies; may be the model that descends
  float inner;
  float outer;
  float share;  ///< 1 / rows of the batch
};

/// The step of a penalty, for a model that may be a difference from an anchor:
///     v = x + anchor,    v = v - t, 0 or v + t (soft threshold),    v = v / divisor,    x = v - anchor
struct Shrinkage {
  float threshold = -1.0f;        ///< t; negative: none
  float divisor = 1.0f;           ///< 1: none
  const float* anchor = nullptr;  ///< padded, or null
};

namespace detail {

inline constexpr Index math_block = 32;
static_assert(model_padding == 2 * math_block);

/// Largest magnitudes in lanes, compared as integers: in their order NaN is above infinity and is not lost.
class LargestMagnitude {
 public:
  ZIPML_ALWAYS_INLINE void see(Index lane, float v) {
    const std::int32_t bits = std::bit_cast<std::int32_t>(v) & 0x7fffffff;
    lanes_[lane] = bits > lanes_[lane] ? bits : lanes_[lane];
  }
  /// By halving.
  ZIPML_ALWAYS_INLINE float value() {
    for (Index half = math_block / 2; half > 0; half /= 2)
      for (Index l = 0; l < half; ++l)
        lanes_[l] = lanes_[l + half] > lanes_[l] ? lanes_[l + half] : lanes_[l];
    return std::bit_cast<float>(lanes_[0]);
  }

 private:
  std::int32_t lanes_[math_block] = {};
};

/// max |v|, or NaN.
ZIPML_ALWAYS_INLINE float largest_body(const float* __restrict v, Index n) {
  LargestMagnitude largest;
  Index j = 0;
  for (; j + math_block <= n; j += math_block)
    for (Index l = 0; l < math_block; ++l) largest.see(l, v[j + l]);
  for (Index l = 0; j < n; ++j, ++l) largest.see(l, v[j]);
  return largest.value();
}

/// The sum of the lanes by halving.
ZIPML_ALWAYS_INLINE double sum_of(double* lanes) {
  for (Index half = math_block / 2; half > 0; half /= 2)
    for (Index l = 0; l < half; ++l) lanes[l] += lanes[l + half];
  return lanes[0];
}

/// folded = step * x; returns max |folded|, or NaN.
ZIPML_ALWAYS_INLINE float fold_body(const float* __restrict step, const float* __restrict x,
                                    float* __restrict folded, Index padded) {
  LargestMagnitude largest;
  for (Index j = 0; j < padded; j += math_block)
    for (Index l = 0; l < math_block; ++l) {
      const float v = step[j + l] * x[j + l];
      folded[j + l] = v;
      largest.see(l, v);
    }
  return largest.value();
}

/// r = scale * code; where asked for, x = inverse_step * r. Returns sum_j ratio_j * r_j.
ZIPML_ALWAYS_INLINE double unfold_body(const std::int8_t* __restrict codes, float scale,
                                       const float* __restrict ratio, const float* __restrict inverse_step,
                                       float* __restrict x, Index padded) {
  const Rounded<float> rounded;
  double lanes[math_block] = {};
  float products[model_padding];  // of 64 columns: a whole register of codes
  for (Index j = 0; j < padded; j += model_padding) {
    for (Index l = 0; l < model_padding; ++l) {
      const float r = static_cast<float>(codes[j + l]) * scale;
      products[l] = rounded(r * ratio[j + l]);
    }
    for (Index l = 0; l < math_block; ++l) lanes[l] += static_cast<double>(products[l]);
    for (Index l = 0; l < math_block; ++l) lanes[l] += static_cast<double>(products[math_block + l]);
  }
  if (x != nullptr)
    for (Index j = 0; j < padded; j += math_block)
      for (Index l = 0; l < math_block; ++l) {
        const float r = static_cast<float>(codes[j + l]) * scale;
        x[j + l] = r * inverse_step[j + l];
      }
  return sum_of(lanes);
}

/// gradient += scale * sums; sums = 0.
ZIPML_ALWAYS_INLINE void add_scaled_body(std::int32_t* __restrict sums, float scale,
                                         float* __restrict gradient, Index padded) {
  const Rounded<float> rounded;
  for (Index j = 0; j < padded; j += math_block)
    for (Index l = 0; l < math_block; ++l) {
      const float product = rounded(static_cast<float>(sums[j + l]) * scale);
      gradient[j + l] += product;
      sums[j + l] = 0;
    }
}

/// sums += a, in double.
ZIPML_ALWAYS_INLINE void add_to_doubles_body(const float* __restrict a, double* __restrict sums,
                                             Index padded) {
  for (Index j = 0; j < padded; j += math_block)
    for (Index l = 0; l < math_block; ++l) sums[j + l] += static_cast<double>(a[j + l]);
}

/// out = scale * sums + base, of any number of rows.
ZIPML_ALWAYS_INLINE void scale_sums_body(const std::int32_t* __restrict sums, float scale, float base,
                                         float* __restrict out, Index rows) {
  const Rounded<float> rounded;
  for (Index i = 0; i < rows; ++i) {
    const float product = rounded(static_cast<float>(sums[i]) * scale);
    out[i] = product + base;
  }
}

/// The sum of n codes, |sum| < 2^31.
ZIPML_ALWAYS_INLINE std::int32_t sum_codes_body(const std::int8_t* __restrict codes, Index n) {
  std::int32_t sum = 0;
  for (Index i = 0; i < n; ++i) sum += codes[i];
  return sum;
}

template <bool HasAnchor, bool HasThreshold>
ZIPML_ALWAYS_INLINE void shrink_body(const Shrinkage& by, float* __restrict x, Index padded) {
  const float* __restrict anchor = by.anchor;
  const float t = by.threshold, divisor = by.divisor;
  for (Index j = 0; j < padded; j += math_block)
    for (Index l = 0; l < math_block; ++l) {
      float v = x[j + l];
      if constexpr (HasAnchor) v += anchor[j + l];
      if constexpr (HasThreshold) {
        const float below = v - t, above = v + t;
        v = v > t ? below : v < -t ? above : 0.0f;
      }
      v /= divisor;  // by 1: exactly v
      if constexpr (HasAnchor) v -= anchor[j + l];
      x[j + l] = v;
    }
}

/// x <- prox(x), or prox(x + anchor) - anchor, see Shrinkage.
ZIPML_ALWAYS_INLINE void shrink_body(const Shrinkage& by, float* x, Index padded) {
  if (by.anchor != nullptr && by.threshold >= 0.0f) return shrink_body<true, true>(by, x, padded);
  if (by.anchor != nullptr) return shrink_body<true, false>(by, x, padded);
  if (by.threshold >= 0.0f) return shrink_body<false, true>(by, x, padded);
  shrink_body<false, false>(by, x, padded);
}

/// What the diagonal of a frame multiplies: the model that descends, which is then read before it is written,
/// or another one.
enum class Diagonal { none, of_itself, of_another };

/// x -= step * g with the gradient of a GradientFrame. Returns max |g|, or NaN.
template <bool Integers, bool HasSteps, bool HasOutliers, Diagonal D>
ZIPML_ALWAYS_INLINE float descend_body(const GradientFrame& frame, float model_step, float* __restrict x,
                                       Index padded) {
  const Rounded<float> rounded;
  LargestMagnitude largest;
  float* __restrict sums = frame.sums;
  std::int32_t* __restrict codes = frame.codes;
  const float* __restrict step = frame.step;
  const float* __restrict offset = frame.offset;
  const float* __restrict outliers = frame.outliers;
  const float* __restrict diagonal = frame.diagonal;
  const float* __restrict model = D == Diagonal::of_another ? frame.model : nullptr;
  const float code_scale = frame.code_scale;
  const float inner = frame.inner, outer = frame.outer, share = frame.share;
  for (Index j = 0; j < padded; j += math_block)
    for (Index l = 0; l < math_block; ++l) {
      float g;
      if constexpr (Integers) {
        g = rounded(static_cast<float>(codes[j + l]) * code_scale);
        codes[j + l] = 0;
      } else {
        g = sums[j + l];
        sums[j + l] = 0.0f;
      }
      if constexpr (HasSteps) {
        const float scaled = rounded((g + inner) * step[j + l]);
        const float shift = rounded(offset[j + l] * outer);
        g = scaled + shift;
      }
      if constexpr (HasOutliers) g += outliers[j + l];
      g = rounded(g * share);
      if constexpr (D != Diagonal::none) {
        const float surplus = rounded(diagonal[j + l] * (D == Diagonal::of_itself ? x : model)[j + l]);
        g -= surplus;
      }
      const float move = rounded(g * model_step);
      x[j + l] -= move;
      largest.see(l, g);
    }
  return largest.value();
}

template <bool Integers, bool HasSteps, bool HasOutliers>
ZIPML_ALWAYS_INLINE float descend_body(const GradientFrame& frame, float step, float* x, Index padded) {
  if (frame.diagonal == nullptr)
    return descend_body<Integers, HasSteps, HasOutliers, Diagonal::none>(frame, step, x, padded);
  if (frame.model == x)
    return descend_body<Integers, HasSteps, HasOutliers, Diagonal::of_itself>(frame, step, x, padded);
  return descend_body<Integers, HasSteps, HasOutliers, Diagonal::of_another>(frame, step, x, padded);
}

template <bool Integers, bool HasSteps>
ZIPML_ALWAYS_INLINE float descend_body(const GradientFrame& frame, float step, float* x, Index padded) {
  if (frame.outliers != nullptr) return descend_body<Integers, HasSteps, true>(frame, step, x, padded);
  return descend_body<Integers, HasSteps, false>(frame, step, x, padded);
}

ZIPML_ALWAYS_INLINE float descend_body(const GradientFrame& frame, float step, float* x, Index padded) {
  if (frame.sums == nullptr) return descend_body<true, true>(frame, step, x, padded);
  if (frame.step != nullptr) return descend_body<false, true>(frame, step, x, padded);
  return descend_body<false, false>(frame, step, x, padded);
}

}  // namespace detail

/// The functions of a kernel policy over these bodies, with its target attribute; ZIPML_VECTOR_MATH those
/// that no policy has a better way for.
#define ZIPML_VECTOR_MATH(target)                                                                            \
  target static float largest(const float* v, Index n) { return detail::largest_body(v, n); }                \
  target static void add_scaled(std::int32_t* sums, float scale, float* gradient, Index padded) {            \
    detail::add_scaled_body(sums, scale, gradient, padded);                                                  \
  }                                                                                                          \
  target static void add_to_doubles(const float* a, double* sums, Index padded) {                            \
    detail::add_to_doubles_body(a, sums, padded);                                                            \
  }                                                                                                          \
  target static void scale_sums(const std::int32_t* sums, float scale, float base, float* out, Index rows) { \
    detail::scale_sums_body(sums, scale, base, out, rows);                                                   \
  }                                                                                                          \
  target static std::int32_t sum_codes(const std::int8_t* codes, Index n) {                                  \
    return detail::sum_codes_body(codes, n);                                                                 \
  }                                                                                                          \
  target static void shrink(const Shrinkage& by, float* x, Index padded) {                                   \
    detail::shrink_body(by, x, padded);                                                                      \
  }
#define ZIPML_BATCH_MATH(target)                                                                \
  ZIPML_VECTOR_MATH(target)                                                                     \
  target static float fold(const float* step, const float* x, float* folded, Index padded) {    \
    return detail::fold_body(step, x, folded, padded);                                          \
  }                                                                                             \
  target static double unfold(const std::int8_t* codes, float scale, const float* ratio,        \
                              const float* inverse_step, float* x, Index padded) {              \
    return detail::unfold_body(codes, scale, ratio, inverse_step, x, padded);                   \
  }                                                                                             \
  target static float descend(const GradientFrame& frame, float step, float* x, Index padded) { \
    return detail::descend_body(frame, step, x, padded);                                        \
  }

}  // namespace zipml::inline ZIPML_ABI
