#pragma once
/// \file
/// Layer 5: gradient estimators, how the draws of a store become a gradient. An estimator is a few lines over
/// a gradient device: margins of a draw in, residuals of a draw out. What one needs of the loss and of the
/// store is stated by its constants and checked where they meet (estimators/requirements.hpp).
///
/// Below: a a sample, b its label, x the model, q, q1, q2 independent roundings of a, D = diag(Var q_j), r =
/// a'x - b.

#include <concepts>
#include <cstdint>
#include <span>

#include <zipml/model/losses.hpp>
#include <zipml/storage/packed_store.hpp>

namespace zipml::inline ZIPML_ABI {

/// `Encoding` is how quantize() stores samples for it, `draws` how many independent draws it reads,
/// `needs_affine_loss` whether its expectation is the gradient only for an affine l'. Called once per pass of
/// a batch.
template <class E>
concept GradientEstimator = requires {
  typename E::Encoding;
  { E::name } -> std::convertible_to<const char*>;
  { E::draws } -> std::convertible_to<int>;
  { E::needs_affine_loss } -> std::convertible_to<bool>;
};

namespace detail {

/// Turns margins into factor * l'(z, y), in place.
template <class L>
std::span<float> to_residuals(const L& loss, std::span<float> margins, std::span<const float> labels,
                              float factor = 1.0f) {
  for (std::size_t i = 0; i < margins.size(); ++i)
    margins[i] = factor * loss.derivative(margins[i], labels[i]);
  return margins;
}

/// The loss of one draw: f itself for full precision, f + x'Dx/2 in expectation for a rounded affine one.
struct PlainLoss {
  template <class Device, class L>
  static double loss(Device& device, const L& loss) {
    const auto z = device.margins(0);
    const auto y = device.labels();
    double sum = 0.0;
    for (std::size_t i = 0; i < z.size(); ++i)
      sum += loss.value(static_cast<double>(z[i]), static_cast<double>(y[i]));
    return sum;
  }
};

/// l'(z1, y) l'(z2, y) / (2 slope): unbiased for the loss of the sample itself when z1, z2 are margins of
/// independent draws and the loss is quadratic.
struct ProductLoss {
  template <class Device, class L>
  static double loss(Device& device, const L& loss) {
    const auto z1 = device.margins(0);
    const auto z2 = device.margins(1);
    const auto y = device.labels();
    double sum = 0.0;
    for (std::size_t i = 0; i < y.size(); ++i)
      sum += static_cast<double>(loss.derivative(z1[i], y[i])) *
             static_cast<double>(loss.derivative(z2[i], y[i])) / (2.0 * static_cast<double>(L::slope));
    return sum;
  }
};

struct OneDraw : PlainLoss {
  static constexpr int draws = 1;
  static constexpr bool needs_affine_loss = false;
  using Encoding = SeparateDraws<1>;

  template <class Device, class L>
  void operator()(Device& device, const L& loss) const {
    device.accumulate(0, to_residuals(loss, device.margins(0), device.labels()));
  }
};

}  // namespace detail

/// a l'(a'x, b) on float32 samples: 32 bits.
struct FullPrecision : detail::OneDraw {
  static constexpr const char* name = "full";
};

/// q l'(q'x, b): b bits. Biased: for squared loss E = gradient + D x, that is ridge regression with the
/// penalty mean_i d_ij on column j (ZipML 2017, section 2.2, "naive"). With nearest rounding, deterministic
/// instead.
struct Naive : detail::OneDraw {
  static constexpr const char* name = "naive";
};

/// q1 l'(q2'x, b), b + 2 bits. Unbiased for affine l'; for squared loss the variance is
/// TV r^2 + |a|^2 x'Dx + TV x'Dx with TV = tr D (ZipML 2017, section 2.2).
struct DoubleSampling : detail::ProductLoss {
  static constexpr const char* name = "double-sampling";
  static constexpr int draws = 2;
  static constexpr bool needs_affine_loss = true;
  using Encoding = SeparateDraws<2>;

  template <class Device, class L>
  void operator()(Device& device, const L& loss) const {
    device.accumulate(0, detail::to_residuals(loss, device.margins(1), device.labels()));
  }
};

/// (q1 l'(q2'x, b) + q2 l'(q1'x, b)) / 2, b + 2 bits. Unbiased for affine l'; for squared loss the variance
/// is TV r^2/2 + |a|^2 x'Dx/2 + r a'Dx + TV x'Dx/2 + |Dx|^2/2, never more than that of double sampling.
struct Symmetrized : detail::ProductLoss {
  static constexpr const char* name = "symmetrized";
  static constexpr int draws = 2;
  static constexpr bool needs_affine_loss = true;
  using Encoding = SeparateDraws<2>;

  template <class Device, class L>
  void operator()(Device& device, const L& loss) const {
    const auto first = detail::to_residuals(loss, device.margins(0), device.labels(), 0.5f);
    const auto second = detail::to_residuals(loss, device.margins(1), device.labels(), 0.5f);
    device.accumulate(0, second);
    device.accumulate(1, first);
  }
};

inline constexpr FullPrecision full_precision{};
inline constexpr Naive naive{};
inline constexpr DoubleSampling double_sampling{};
inline constexpr Symmetrized symmetrized{};

static_assert(GradientEstimator<FullPrecision> && GradientEstimator<Naive> &&
              GradientEstimator<DoubleSampling> && GradientEstimator<Symmetrized>);

}  // namespace zipml::inline ZIPML_ABI
