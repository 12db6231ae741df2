#pragma once
/// \file
/// Room model: penalties and constraints on the standardised weights, by their proximal operators
/// prox(v, s) = argmin_x  |x - v|^2 / 2 + s * penalty(x)   (Parikh, Boyd, "Proximal Algorithms", 2014,
/// sections 2, 6.5). The intercept is never penalised.

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>

#include <zipml/base/buffer.hpp>
#include <zipml/base/error.hpp>
#include <zipml/base/fingerprint.hpp>
#include <zipml/base/rounded.hpp>

namespace zipml::inline ZIPML_ABI {

/// `value(x)` is the penalty (0 inside a constraint), `prox(x, step)` applies the operator in place, O(d).
template <class R>
concept Regularizer = requires(const R regularizer, std::span<float> x, std::span<const double> weights,
                               float step) {
  { R::name } -> std::convertible_to<const char*>;
  regularizer.prox(x, step);
  { regularizer.value(weights) } -> std::convertible_to<double>;
};

/// A regularizer that acts on each weight alone, so that prox() of one weight is that entry of prox() of all: `separable`
/// says so.
template <class R>
concept SeparableRegularizer = Regularizer<R> && requires {
  requires R::separable;
};

namespace detail {
inline float checked_strength(float value, const char* what) {
  if (!(value >= 0.0f) || !std::isfinite(value))
    throw Error(std::string(what) + " is out of range", "a finite number >= 0", number_text(value));
  return value;
}
inline float soft_threshold(float v, float t) { return v > t ? v - t : v < -t ? v + t : 0.0f; }
}  // namespace detail

/// (l2 / 2) |x|^2 + l1 |x|_1, what a penalty is made of that exact solvers know.
struct PenaltyStrengths {
  double l2 = 0.0;
  double l1 = 0.0;
};

/// No penalty: the one to copy when adding a regularizer.
struct NoRegularizer {
  static constexpr const char* name = "none";
  static constexpr bool separable = true;
  void prox(std::span<float>, float) const {}
  double value(std::span<const double>) const { return 0.0; }
};

/// Elastic net: (lambda / 2) |x|^2 + mu |x|_1 (Zou, Hastie 2005). prox = soft(v, s mu) / (1 + s lambda).
class ElasticNet {
 public:
  static constexpr const char* name = "elastic-net";
  static constexpr bool separable = true;
  explicit ElasticNet(float lambda, float mu)
      : lambda_(detail::checked_strength(lambda, "l2")), mu_(detail::checked_strength(mu, "l1")) {}
  float lambda() const { return lambda_; }
  float mu() const { return mu_; }

  void prox(std::span<float> x, float step) const {
    const float t = threshold(step), shrink = divisor(step);
    if (t >= 0.0f)
      for (float& v : x) v = detail::soft_threshold(v, t);
    if (shrink != 1.0f)
      for (float& v : x) v = v / shrink;
  }
  /// What prox consists of, for those who do the same faster (kernels/batch_math.hpp, Shrinkage): a soft threshold,
  /// negative where there is none, and then a division.
  float threshold(float step) const { return mu_ > 0.0f ? step * mu_ : -1.0f; }
  float divisor(float step) const { return 1.0f + pinned(step * lambda_); }
  double value(std::span<const double> x) const {
    double squares = 0.0;
    double magnitudes = 0.0;
    for (const double v : x) {
      squares += v * v;
      magnitudes += std::fabs(v);
    }
    return 0.5 * static_cast<double>(lambda_) * squares + static_cast<double>(mu_) * magnitudes;
  }

 private:
  float lambda_;
  float mu_;
};

/// Ridge: (lambda / 2) |x|^2. prox = v / (1 + s lambda).
struct L2 : ElasticNet {
  static constexpr const char* name = "l2";
  explicit L2(float lambda) : ElasticNet(lambda, 0.0f) {}
};

/// Lasso: mu |x|_1. prox = soft(v, s mu).
struct L1 : ElasticNet {
  static constexpr const char* name = "l1";
  explicit L1(float mu) : ElasticNet(0.0f, mu) {}
};

/// Whether prox is that of ElasticNet: a class of a user's that derives from it may have another.
template <class R>
inline constexpr bool is_elastic_net =
    std::is_same_v<R, ElasticNet> || std::is_same_v<R, L2> || std::is_same_v<R, L1>;

/// low <= x_j <= high. prox = clamp.
class Box {
 public:
  static constexpr const char* name = "box";
  static constexpr bool separable = true;
  Box(float low, float high) : low_(low), high_(high) {
    if (!(low <= high))
      throw Error("an empty box", "low <= high", number_text(low) + " and " + number_text(high));
  }
  void prox(std::span<float> x, float) const {
    for (float& v : x) v = std::clamp(v, low_, high_);
  }
  double value(std::span<const double>) const { return 0.0; }

 private:
  float low_;
  float high_;
};

/// |x|_2 <= radius. prox = v * min(1, radius / |v|).
class L2Ball {
 public:
  static constexpr const char* name = "l2-ball";
  explicit L2Ball(float radius) : radius_(detail::checked_strength(radius, "the radius of a ball")) {}
  void prox(std::span<float> x, float) const {
    double squares = 0.0;
    for (const float v : x) squares += pinned(static_cast<double>(v) * static_cast<double>(v));
    const double norm = std::sqrt(squares);
    if (norm <= static_cast<double>(radius_)) return;
    const auto factor = static_cast<float>(static_cast<double>(radius_) / norm);
    for (float& v : x) v *= factor;
  }
  double value(std::span<const double>) const { return 0.0; }

 private:
  float radius_;
};

/// The strengths of a penalty that is quadratic, absolute or both; nullopt for others, constraints for
/// instance. A regularizer of one's own that has `lambda()` and `mu()` says so.
template <Regularizer R>
std::optional<PenaltyStrengths> strengths_of(const R& regularizer) {
  if constexpr (requires {
                  regularizer.lambda();
                  regularizer.mu();
                })
    return PenaltyStrengths{static_cast<double>(regularizer.lambda()), static_cast<double>(regularizer.mu())};
  else if constexpr (std::is_same_v<R, NoRegularizer>)
    return PenaltyStrengths{};
  else
    return std::nullopt;
}

/// Tells penalties on d weights apart by their value and their prox at one point, which constraints differ in. O(d).
template <Regularizer R>
std::uint64_t penalty_fingerprint(const R& regularizer, Index d) {
  Buffer<double> point(d);
  Buffer<float> moved(d);
  for (Index j = 0; j < d; ++j) {
    moved[j] = 0.5f + static_cast<float>(j % 7) - 2.0f * static_cast<float>(j % 2);
    point[j] = static_cast<double>(moved[j]);
  }
  Fingerprint all;
  all.add(regularizer.value(std::as_const(point).span()));
  regularizer.prox(moved.span(), 0.25f);
  return all.add(std::as_const(moved).span()).value();
}

static_assert(Regularizer<NoRegularizer> && Regularizer<ElasticNet> && Regularizer<L1> && Regularizer<L2> &&
              Regularizer<Box> && Regularizer<L2Ball>);

}  // namespace zipml::inline ZIPML_ABI
