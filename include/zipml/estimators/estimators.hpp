#pragma once
/// \file
/// Room estimators: the menu of gradient estimators, each a table of pairs of draws
/// (estimators/estimator.hpp).
///
/// Below: a a sample, b its label, x the model, q, q1, q2 independent roundings of a, D = diag(Var q_j), TV =
/// tr D, r = a'x - b.

#include <array>
#include <cstddef>
#include <span>

#include <zipml/estimators/estimator.hpp>
#include <zipml/storage/encodings.hpp>

namespace zipml::inline ZIPML_ABI {

namespace detail {

/// One draw: q l'(q'x, b).
struct OneDraw {
  static constexpr int draws = 1;
  static constexpr std::array<DrawPair, 1> pairs{{{0, 0, 1.0f}}};
  static constexpr bool corrected = false;
  static constexpr bool needs_affine_loss = false;
  static constexpr bool needs_stochastic = false;
  using Encoding = SeparateDraws<1>;
};

/// Mean of draws whose variance is known: m l'(m'x, b) - bias * x.
struct Corrected : OneDraw {
  static constexpr bool corrected = true;
  static constexpr bool needs_affine_loss = true;
  static constexpr bool needs_stochastic = true;
};

struct TwoDraws {
  static constexpr int draws = 2;
  static constexpr bool corrected = false;
  static constexpr bool needs_affine_loss = true;
  static constexpr bool needs_stochastic = true;
  using Encoding = SeparateDraws<2>;

  /// l'(z1, y) l'(z2, y) / (2 slope): unbiased for the loss of the sample itself when z1, z2 are margins of
  /// independent draws and the loss is quadratic.
  template <class L>
  static double loss(const L& loss, const DrawLists<const float>& z, std::span<const float> y) {
    double sum = 0.0;
    for (std::size_t i = 0; i < y.size(); ++i)
      sum += static_cast<double>(loss.derivative(z[0][i], y[i])) *
             static_cast<double>(loss.derivative(z[1][i], y[i])) / (2.0 * static_cast<double>(L::slope));
    return sum;
  }
};

}  // namespace detail

/// a l'(a'x, b) on float32 samples: 32 bits.
struct FullPrecision : detail::OneDraw {
  static constexpr const char* name = "full";
};

/// q l'(q'x, b): b bits. Biased: for squared loss E = gradient + D x, that is ridge regression with the
/// penalty mean_i d_ij on column j (ZipML 2017, section 2.2, "naive"). With nearest rounding, deterministic
/// instead: the one to take where there are few rows for a column, or very few bits with Lloyd-Max levels.
struct Naive : detail::OneDraw {
  static constexpr const char* name = "naive";
};

/// q1 l'(q2'x, b), b + 2 bits. Unbiased for affine l'; for squared loss the variance is
/// TV r^2 + |a|^2 x'Dx + TV x'Dx (ZipML 2017, section 2.2).
struct DoubleSampling : detail::TwoDraws {
  static constexpr const char* name = "double-sampling";
  static constexpr std::array<DrawPair, 1> pairs{{{1, 0, 1.0f}}};
};

/// (q1 l'(q2'x, b) + q2 l'(q1'x, b)) / 2, b + 2 bits. Unbiased for affine l'; for squared loss the variance
/// is TV r^2/2 + |a|^2 x'Dx/2 + r a'Dx + TV x'Dx/2 + |Dx|^2/2, never more than that of double sampling.
struct Symmetrized : detail::TwoDraws {
  static constexpr const char* name = "symmetrized";
  static constexpr std::array<DrawPair, 2> pairs{{{1, 0, 0.5f}, {0, 1, 0.5f}}};
};

/// m l'(m'x, b) - w * x, m the mean of K draws and w_j the column mean of the unbiased estimate of Var m_j
/// that the draws themselves give: b + log2 K bits. For K = 2, the sum code, m m' - diag((q1 - q2)^2 / 4) has
/// q1 q2 on its diagonal: unbiased for affine l', with never more variance than symmetrized, in b + 1 bits.
/// With the column mean of w in place of the row's own the realised system is the same and each gradient has
/// less variance; it is then unbiased summed over the rows. (Beyond ZipML 2017, which spends 2 b bits.)
template <int K>
struct SumCodeOf : detail::Corrected {
  static constexpr const char* name = K == 2 ? "sum-code" : K == 4 ? "sum-code-4" : "sum-code-8";
  using Encoding = SummedDraws<K>;
};
using SumCode = SumCodeOf<2>;

/// q l'(q'x, b) - dbar * x with dbar_j = mean_i Var q_ij, taken in full precision while packing: b bits.
/// Unbiased for affine l' over a uniformly drawn row, that is summed over the rows; one margin, one
/// accumulation and a d-vector.
struct VarianceCorrected : detail::Corrected {
  static constexpr const char* name = "variance-corrected";
  using Encoding = CorrectedDraw;
};

inline constexpr FullPrecision full_precision{};
inline constexpr Naive naive{};
inline constexpr DoubleSampling double_sampling{};
inline constexpr Symmetrized symmetrized{};
inline constexpr SumCode sum_code{};
template <int K>
inline constexpr SumCodeOf<K> sum_code_of{};
inline constexpr VarianceCorrected variance_corrected{};

static_assert(BilinearEstimator<FullPrecision> && BilinearEstimator<Naive> &&
              BilinearEstimator<DoubleSampling> && BilinearEstimator<Symmetrized> &&
              BilinearEstimator<SumCode> && BilinearEstimator<SumCodeOf<8>> &&
              BilinearEstimator<VarianceCorrected>);

}  // namespace zipml::inline ZIPML_ABI
