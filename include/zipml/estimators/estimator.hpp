#pragma once
/// \file
/// Room estimators: what a gradient estimator is, how the draws of samples become a gradient. What one needs
/// of the loss and of the store is stated by its constants and checked where they meet
/// (estimators/requirements.hpp).
///
/// An estimator is one function of the rows of a batch: the margins of its draws go in, residuals for its
/// draws come out, and the gradient is
///     g = mean_i sum_draws r_i,draw q_i,draw - (mean_i f_i) bias * x
/// where f_i, the sum of which the function returns, is what the bias terms of the store are multiplied with.
/// Weights of rows are no business of its: whoever calls it multiplies with them.

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>

#include <zipml/base/index.hpp>
#include <zipml/base/rounded.hpp>
#include <zipml/model/losses.hpp>

namespace zipml::inline ZIPML_ABI {

/// A list of numbers, one for each row of a pass, for every draw: margins, or residuals.
template <class T>
struct DrawLists {
  T* data;
  Index stride;  ///< from one draw to the next
  Index count;   ///< rows

  std::span<T> operator[](int draw) const { return {data + draw * stride, static_cast<std::size_t>(count)}; }
  /// The lists of one row alone.
  DrawLists of_row(Index i) const { return part(i, 1); }
  /// Of the rows [first, first + rows).
  DrawLists part(Index first, Index rows) const { return {data + first, stride, rows}; }
  operator DrawLists<const T>() const { return {data, stride, count}; }  // NOLINT: as a span converts
};

/// weight * q_sample l'(q_margin'x, b).
struct DrawPair {
  int margin;
  int sample;
  float weight;
};

namespace detail {

/// A loss for concepts to try an estimator with.
struct AnyLoss {
  static constexpr const char* name = "any";
  static constexpr bool classifies = false;
  static constexpr float slope = 1.0f;
  double value(double z, double y) const { return 0.5 * (z - y) * (z - y); }
  float derivative(float z, float y) const { return z - y; }
  LabelMap label_map(const LabelStatistics&) const { return {}; }
};

template <class E>
concept EstimatorFacts = requires {
  typename E::Encoding;
  { E::name } -> std::convertible_to<const char*>;
  { E::draws } -> std::convertible_to<int>;
  { E::corrected } -> std::convertible_to<bool>;
  { E::needs_affine_loss } -> std::convertible_to<bool>;
  { E::needs_stochastic } -> std::convertible_to<bool>;
};

}  // namespace detail

/// An estimator whose gradient is a sum of pairs, sum_p w_p q_s(p) l'(q_m(p)'x, b), m the draw whose margin
/// is taken and s the draw that is accumulated: its table `pairs` says all of it, and the training loop,
/// batches of single rows, the realised system (analysis/realised_system.hpp) and the test of definiteness
/// (training/definiteness.hpp) read it.
template <class E>
concept BilinearEstimator = detail::EstimatorFacts<E> && requires {
  { E::pairs.size() } -> std::convertible_to<std::size_t>;
  { E::pairs[0] } -> std::convertible_to<DrawPair>;
};

/// `Encoding` is how quantize() stores samples for it, `draws` how many independent draws it reads,
/// `corrected` whether the store's bias terms are subtracted, `needs_affine_loss` whether its expectation is
/// the gradient only for an affine l', `needs_stochastic` whether nearest rounding would leave nothing of it.
/// Then its table of pairs (BilinearEstimator), or what the table says in other words: masks of the draws
/// whose margins it reads and of those that it gives residuals for, bit t for draw t, and
///
///     double residuals(loss, z, y, r) const;   // z[draw][i], y[i] -> r[draw][i]; returns sum_i f_i, see
///     above
///
/// It may also say how the loss of a model is told from margins, `double loss(loss, z, y)` summed over the
/// rows; else it is that of the first draw whose margin is read.
template <class E>
concept GradientEstimator = BilinearEstimator<E> ||
    (detail::EstimatorFacts<E>&& requires(const E estimator, const detail::AnyLoss& loss,
                                          DrawLists<const float> z, std::span<const float> y,
                                          DrawLists<float> r) {
      { E::margin_draws } -> std::convertible_to<unsigned>;
      { E::sample_draws } -> std::convertible_to<unsigned>;
      { estimator.residuals(loss, z, y, r) } -> std::convertible_to<double>;
    });

/// Whether every pair of a table names draws that the estimator has. True where there is no table.
template <class E>
constexpr bool pairs_name_draws() {
  if constexpr (BilinearEstimator<E>)
    for (const DrawPair& pair : E::pairs)
      if (pair.margin < 0 || pair.margin >= E::draws || pair.sample < 0 || pair.sample >= E::draws)
        return false;
  return true;
}

/// Mask of the draws whose margins an estimator reads.
template <GradientEstimator E>
constexpr unsigned margin_draws() {
  unsigned mask = 0;
  if constexpr (BilinearEstimator<E>)
    for (const DrawPair& pair : E::pairs) mask |= 1u << pair.margin;
  else
    mask = E::margin_draws;
  return mask;
}

/// Mask of the draws whose values an estimator multiplies with residuals.
template <GradientEstimator E>
constexpr unsigned sample_draws() {
  unsigned mask = 0;
  if constexpr (BilinearEstimator<E>)
    for (const DrawPair& pair : E::pairs) mask |= 1u << pair.sample;
  else
    mask = E::sample_draws;
  return mask;
}

namespace detail {

/// f(z, y, anchors, first row, count) for some rows at a time. What is behind the last row repeats it, so that lists are
/// always of rows_together: z and y may be of any length.
template <class F>
void in_pieces(const float* z, const float* y, const float* anchors, Index n, const F& f) {
  float margins[rows_together], labels[rows_together], of_pilot[rows_together] = {};
  Index first = 0;
  for (; first + rows_together <= n; first += rows_together)
    f(z + first, y + first, anchors != nullptr ? anchors + first : of_pilot, first, Index{rows_together});
  const Index count = n - first;
  if (count == 0) return;
  for (Index i = 0; i < rows_together; ++i) {
    const Index at = first + (i < count ? i : count - 1);
    margins[i] = z[at];
    labels[i] = y[at];
    if (anchors != nullptr) of_pilot[i] = anchors[at];
  }
  f(margins, labels, of_pilot, first, count);
}

/// out = factor * v for up to rows_together entries: a constant number of them is a loop that vectorises.
inline void scale_rows(float factor, const float* v, Index count, float* out) {
  if (count != rows_together) {
    for (Index i = 0; i < count; ++i) out[i] = factor * v[i];
    return;
  }
  float scaled[rows_together];
  for (int i = 0; i < rows_together; ++i) scaled[i] = factor * v[i];
  for (int i = 0; i < rows_together; ++i) out[i] = scaled[i];
}

/// The sum of a loss over n rows, of each times its weight where there are weights.
template <class L>
double sum_of_values(const L& loss, const float* z, const float* y, const float* weights, Index n) {
  double sum = 0.0;
  if constexpr (requires(double* out) { loss.values(z, y, out); }) {
    double values[rows_together];
    in_pieces(z, y, nullptr, n,
              [&](const float* margins, const float* labels, const float*, Index first, Index count) {
                loss.values(margins, labels, values);
                for (Index i = 0; i < count; ++i)
                  sum += weights != nullptr ? static_cast<double>(weights[first + i]) * values[i] : values[i];
              });
  } else {
    for (Index i = 0; i < n; ++i) {
      const double value = loss.value(static_cast<double>(z[i]), static_cast<double>(y[i]));
      sum += weights != nullptr ? static_cast<double>(weights[i]) * value : value;
    }
  }
  return sum;
}

/// l' of rows_together rows.
template <class L>
void first_derivatives(const L& loss, const float* z, const float* y, float* out) {
  if constexpr (requires { loss.derivatives(z, y, out); })
    loss.derivatives(z, y, out);
  else
    for (int i = 0; i < rows_together; ++i) out[i] = loss.derivative(z[i], y[i]);
}

}  // namespace detail

/// The residuals of an estimator from the margins of its draws; returns the sum over the rows of what the
/// correction is multiplied with: for an affine loss its slope.
template <GradientEstimator E, class L>
double estimate(const E& estimator, const L& loss, const DrawLists<const float>& z, std::span<const float> y,
                const DrawLists<float>& r) {
  if constexpr (BilinearEstimator<E>) {
    unsigned written = 0;
    for (const DrawPair& pair : E::pairs) {
      const float* margins = z[pair.margin].data();
      float* residuals = r[pair.sample].data();
      const bool is_first = (written >> pair.sample & 1u) == 0;
      written |= 1u << pair.sample;
      if constexpr (requires { loss.derivatives(margins, margins, residuals); } && E::pairs.size() == 1) {
        float slopes[detail::rows_together];
        detail::in_pieces(margins, y.data(), nullptr, static_cast<Index>(y.size()),
                          [&](const float* at, const float* labels, const float*, Index first, Index count) {
                            loss.derivatives(at, labels, slopes);
                            detail::scale_rows(pair.weight, slopes, count, residuals + first);
                          });
      } else if (is_first) {
        float slopes[detail::rows_together];
        const auto n = static_cast<Index>(y.size());
        Index first = 0;
        for (; first + detail::rows_together <= n; first += detail::rows_together) {
          for (int i = 0; i < detail::rows_together; ++i)
            slopes[i] = loss.derivative(margins[first + i], y.data()[first + i]);
          detail::scale_rows(pair.weight, slopes, Index{detail::rows_together}, residuals + first);
        }
        for (; first < n; ++first)
          residuals[first] = pair.weight * loss.derivative(margins[first], y.data()[first]);
      } else
        for (std::size_t i = 0; i < y.size(); ++i)
          residuals[i] += pinned(pair.weight * loss.derivative(margins[i], y[i]));
    }
    if constexpr (AffineLoss<L>) return static_cast<double>(L::slope) * static_cast<double>(y.size());
    return 0.0;
  } else {
    return estimator.residuals(loss, z, y, r);
  }
}

/// Mask of the draws whose margins estimated_loss reads.
template <GradientEstimator E>
constexpr unsigned loss_draws() {
  if constexpr (requires(const E e, DrawLists<const float> z, std::span<const float> y) {
                  e.loss(detail::AnyLoss{}, z, y);
                })
    return margin_draws<E>() | sample_draws<E>();
  return margin_draws<E>() & (~margin_draws<E>() + 1u);  // the lowest bit
}

/// The loss of a model summed over the rows, as an estimator tells it from margins: f itself for full
/// precision, f + x'Dx/2 in expectation for one rounded draw of an affine loss, from which the loop takes the
/// bias terms of a corrected store. Each row times its weight, where there are weights.
template <GradientEstimator E, class L>
double estimated_loss(const E& estimator, const L& loss, const DrawLists<const float>& z,
                      std::span<const float> y, std::span<const float> weights = {}) {
  if constexpr (requires { estimator.loss(loss, z, y); }) {
    if (weights.empty()) return estimator.loss(loss, z, y);
    double sum = 0.0;
    for (std::size_t i = 0; i < y.size(); ++i)
      sum += static_cast<double>(weights[i]) *
             estimator.loss(loss, z.of_row(static_cast<Index>(i)), y.subspan(i, 1));
    return sum;
  } else {
    int draw = 0;
    while ((margin_draws<E>() >> draw & 1u) == 0) ++draw;
    return detail::sum_of_values(loss, z[draw].data(), y.data(), weights.empty() ? nullptr : weights.data(),
                                 static_cast<Index>(y.size()));
  }
}

namespace detail {

template <BilinearEstimator E>
constexpr bool is_symmetric() {
  for (const DrawPair& pair : E::pairs) {
    if (pair.margin == pair.sample) continue;
    bool mirrored = false;
    for (const DrawPair& other : E::pairs)
      mirrored = mirrored ||
                 (other.margin == pair.sample && other.sample == pair.margin && other.weight == pair.weight);
    if (!mirrored) return false;
  }
  return true;
}

/// Every pair and its mirror image, half of each: the symmetric part of the matrix sum_p w_p q_s(p) q_m(p)'.
template <BilinearEstimator E>
struct Mirrored : E {
  static constexpr auto pairs = [] {
    std::array<DrawPair, 2 * E::pairs.size()> both{};
    for (std::size_t p = 0; p < E::pairs.size(); ++p) {
      const DrawPair& pair = E::pairs[p];
      both[2 * p] = {pair.margin, pair.sample, 0.5f * pair.weight};
      both[2 * p + 1] = {pair.sample, pair.margin, 0.5f * pair.weight};
    }
    return both;
  }();
};

/// The estimator whose matrix is the symmetric part of another's.
template <BilinearEstimator E, bool Symmetric = is_symmetric<E>()>
struct SymmetricPart {
  using type = E;
};
template <BilinearEstimator E>
struct SymmetricPart<E, false> {
  using type = Mirrored<E>;
};

}  // namespace detail

}  // namespace zipml::inline ZIPML_ABI
