#pragma once
/// \file
/// Layer 3: the float work of a batch, O(d) for the model and the gradient: fused loops whose results are the
/// same bits on every instruction set and compiler.
///
/// The bodies are plain C++ on blocks of 64 entries, inlined into functions with the target attributes of each
/// instruction set (ZIPML_BATCH_MATH). What makes the bits equal: a product and the sum that it feeds are in
/// different loops with a barrier between them, so that no compiler contracts them into an FMA, and sums are
/// formed in a fixed number of lanes.
///
/// All vectors are padded to a multiple of model_padding = 64 entries, the padding being 0 in inputs.

#include <cmath>
#include <cstdint>

#include <zipml/types.hpp>

namespace zipml::inline ZIPML_ABI {

/// How a gradient leaves codes: g = (g + inner) * step + offset * outer, then * share - diagonal * model.
struct GradientFrame {
  const float* step;
  const float* offset;
  const float* outliers;  ///< added after the steps, or null
  const float* diagonal;  ///< or null
  const float* model;     ///< what the diagonal multiplies
  float inner;
  float outer;
  float share;  ///< 1 / rows of the batch
};

namespace detail {

inline constexpr Index math_block = 64;

/// The compiler may not move memory accesses across, nor keep `products` in registers: they stay rounded.
ZIPML_ALWAYS_INLINE void settle(float* products) { asm volatile("" : : "r"(products) : "memory"); }

/// The largest of 64 lanes.
ZIPML_ALWAYS_INLINE float largest_of(const float* lanes) {
  float largest = lanes[0];
  for (Index l = 1; l < math_block; ++l) largest = lanes[l] > largest ? lanes[l] : largest;
  return largest;
}
/// The sum of 64 lanes by halving.
ZIPML_ALWAYS_INLINE double sum_of(double* lanes) {
  for (Index half = math_block / 2; half > 0; half /= 2)
    for (Index l = 0; l < half; ++l) lanes[l] += lanes[l + half];
  return lanes[0];
}

/// folded = step * x; returns max |folded|.
ZIPML_ALWAYS_INLINE float fold_body(const float* __restrict step, const float* __restrict x,
                                    float* __restrict folded, Index padded) {
  float lanes[math_block] = {};
  for (Index j = 0; j < padded; j += math_block)
    for (Index l = 0; l < math_block; ++l) {
      const float v = step[j + l] * x[j + l];
      folded[j + l] = v;
      const float magnitude = std::fabs(v);
      lanes[l] = magnitude > lanes[l] ? magnitude : lanes[l];
    }
  return largest_of(lanes);
}

/// rounded = scale * code; where asked for, x = inverse_step * rounded. Returns sum_j ratio_j * rounded_j.
ZIPML_ALWAYS_INLINE double unfold_body(const std::int8_t* __restrict codes, float scale,
                                       const float* __restrict ratio, const float* __restrict inverse_step,
                                       float* __restrict x, Index padded) {
  double lanes[math_block] = {};
  float products[math_block];
  for (Index j = 0; j < padded; j += math_block) {
    float rounded[math_block];
    for (Index l = 0; l < math_block; ++l) rounded[l] = static_cast<float>(codes[j + l]) * scale;
    for (Index l = 0; l < math_block; ++l) products[l] = rounded[l] * ratio[j + l];
    if (x != nullptr)
      for (Index l = 0; l < math_block; ++l) x[j + l] = rounded[l] * inverse_step[j + l];
    settle(products);
    for (Index l = 0; l < math_block; ++l) lanes[l] += static_cast<double>(products[l]);
  }
  return sum_of(lanes);
}

/// sum_j a_j b_j.
ZIPML_ALWAYS_INLINE double dot_body(const float* __restrict a, const float* __restrict b, Index padded) {
  double lanes[math_block] = {};
  float products[math_block];
  for (Index j = 0; j < padded; j += math_block) {
    for (Index l = 0; l < math_block; ++l) products[l] = a[j + l] * b[j + l];
    settle(products);
    for (Index l = 0; l < math_block; ++l) lanes[l] += static_cast<double>(products[l]);
  }
  return sum_of(lanes);
}

/// gradient += scale * sums; sums = 0.
ZIPML_ALWAYS_INLINE void add_scaled_body(std::int32_t* __restrict sums, float scale,
                                         float* __restrict gradient, Index padded) {
  float products[math_block];
  for (Index j = 0; j < padded; j += math_block) {
    for (Index l = 0; l < math_block; ++l) {
      products[l] = static_cast<float>(sums[j + l]) * scale;
      sums[j + l] = 0;
    }
    settle(products);
    for (Index l = 0; l < math_block; ++l) gradient[j + l] += products[l];
  }
}

/// y += factor * a.
ZIPML_ALWAYS_INLINE void add_multiple_body(float factor, const float* __restrict a, float* __restrict y,
                                           Index padded) {
  float products[math_block];
  for (Index j = 0; j < padded; j += math_block) {
    for (Index l = 0; l < math_block; ++l) products[l] = a[j + l] * factor;
    settle(products);
    for (Index l = 0; l < math_block; ++l) y[j + l] += products[l];
  }
}

/// sums += a, in double.
ZIPML_ALWAYS_INLINE void add_to_doubles_body(const float* __restrict a, double* __restrict sums,
                                             Index padded) {
  for (Index j = 0; j < padded; j += math_block)
    for (Index l = 0; l < math_block; ++l) sums[j + l] += static_cast<double>(a[j + l]);
}

/// Takes the sums over codes to the mean gradient, see GradientFrame; sums = 0. Returns max |gradient|.
ZIPML_ALWAYS_INLINE float finish_gradient_body(float* __restrict sums, const GradientFrame& frame,
                                               float* __restrict gradient, Index padded) {
  float lanes[math_block] = {};
  float g[math_block];
  float products[math_block];
  const float* __restrict step = frame.step;
  const float* __restrict offset = frame.offset;
  for (Index j = 0; j < padded; j += math_block) {
    for (Index l = 0; l < math_block; ++l) {
      g[l] = sums[j + l];
      sums[j + l] = 0.0f;
    }
    if (step != nullptr) {
      for (Index l = 0; l < math_block; ++l) products[l] = offset[j + l] * frame.outer;
      for (Index l = 0; l < math_block; ++l) g[l] = (g[l] + frame.inner) * step[j + l];
      settle(products);
      settle(g);
      for (Index l = 0; l < math_block; ++l) g[l] += products[l];
    }
    if (frame.outliers != nullptr)
      for (Index l = 0; l < math_block; ++l) g[l] += frame.outliers[j + l];
    for (Index l = 0; l < math_block; ++l) g[l] *= frame.share;
    if (frame.diagonal != nullptr) {
      for (Index l = 0; l < math_block; ++l) products[l] = frame.diagonal[j + l] * frame.model[j + l];
      settle(products);
      settle(g);
      for (Index l = 0; l < math_block; ++l) g[l] -= products[l];
    }
    for (Index l = 0; l < math_block; ++l) {
      gradient[j + l] = g[l];
      const float magnitude = std::fabs(g[l]);
      lanes[l] = magnitude > lanes[l] ? magnitude : lanes[l];
    }
  }
  return largest_of(lanes);
}

}  // namespace detail

/// The functions of a kernel policy over these bodies, with its target attribute.
#define ZIPML_BATCH_MATH(target)                                                                            \
  target static float fold(const float* step, const float* x, float* folded, Index padded) {                \
    return detail::fold_body(step, x, folded, padded);                                                      \
  }                                                                                                         \
  target static double unfold(const std::int8_t* codes, float scale, const float* ratio,                    \
                              const float* inverse_step, float* x, Index padded) {                          \
    return detail::unfold_body(codes, scale, ratio, inverse_step, x, padded);                               \
  }                                                                                                         \
  target static double dot(const float* a, const float* b, Index padded) {                                  \
    return detail::dot_body(a, b, padded);                                                                  \
  }                                                                                                         \
  target static void add_scaled(std::int32_t* sums, float scale, float* gradient, Index padded) {           \
    detail::add_scaled_body(sums, scale, gradient, padded);                                                 \
  }                                                                                                         \
  target static void add_multiple(float factor, const float* a, float* y, Index padded) {                   \
    detail::add_multiple_body(factor, a, y, padded);                                                        \
  }                                                                                                         \
  target static void add_to_doubles(const float* a, double* sums, Index padded) {                           \
    detail::add_to_doubles_body(a, sums, padded);                                                           \
  }                                                                                                         \
  target static float finish_gradient(float* sums, const GradientFrame& frame, float* gradient,             \
                                      Index padded) {                                                       \
    return detail::finish_gradient_body(sums, frame, gradient, padded);                                     \
  }

}  // namespace zipml::inline ZIPML_ABI
