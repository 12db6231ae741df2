#pragma once
/// \file
/// Room estimators: gradients of losses whose derivative is not affine, without bias for a polynomial that is near the
/// derivative (ZipML 2017, section 4.1): p + 1 independent draws, of which p
/// make the powers of the margin and the last one is multiplied with the residual.

#include <algorithm>
#include <array>
#include <cmath>
#include <span>
#include <string>

#include <zipml/base/buffer.hpp>
#include <zipml/base/error.hpp>
#include <zipml/estimators/estimator.hpp>
#include <zipml/storage/encodings.hpp>

namespace zipml::inline ZIPML_ABI {

/// The truncated Chebyshev series of f on [-range, range], sum_k c_k t^k with t = u / range: degree + 1 coefficients, and
/// nearly the least sup error (Trefethen, "Approximation Theory and Approximation Practice", 2013, chapter 16). The
/// coefficients are sums over 1,024 nodes, exact to some 1e-14 for smooth f. Degree at most 15. O(1024 degree).
template <class F>
List<double> chebyshev_series(const F& f, int degree, double range) {
  if (degree < 0 || degree > 15)
    throw Error("the degree of a polynomial is out of range", "0 to 15", std::to_string(degree));
  if (!(range > 0.0) || !std::isfinite(range))
    throw Error("the range of a polynomial is out of range", "a finite number > 0", number_text(range));
  constexpr int nodes = 1024;
  const double pi = std::acos(-1.0);
  const auto size = static_cast<std::size_t>(degree) + 1;
  List<double> series(size, 0.0);
  for (int i = 0; i < nodes; ++i) {
    const double angle = pi * (i + 0.5) / nodes;
    const double value = f(range * std::cos(angle));
    for (std::size_t k = 0; k < size; ++k)
      series[k] += (k == 0 ? 1.0 : 2.0) / nodes * value * std::cos(static_cast<double>(k) * angle);
  }
  // T_{k+1} = 2 t T_k - T_{k-1}, in powers of t.
  List<double> powers(size, 0.0), before(size, 0.0), now(size, 0.0), next(size, 0.0);
  now[0] = 1.0;
  for (std::size_t k = 0; k < size; ++k) {
    for (std::size_t j = 0; j <= k; ++j) powers[j] += series[k] * now[j];
    for (std::size_t j = 0; j < size; ++j)
      next[j] = (j > 0 ? (k == 0 ? 1.0 : 2.0) * now[j - 1] : 0.0) - before[j];
    before = now;
    now = next;
  }
  return powers;
}

/// q_{p+1} y P(y z_1, ..., y z_p), z_i = q_i'x, for a loss of two classes l(z, y) = phi(y z): P is the Chebyshev series of
/// phi' of degree p on [-range, range], and its power u^k the mean of all products of k of the p margins (Hoeffding 1948;
/// the product of the first k, which ZipML takes, has more variance). E = P(y a'x) y a exactly, while all y z_i are in the
/// range: beyond, where a polynomial runs away, they count as its ends. Samples take b + p + 1
/// bits, and the variance grows quickly with p: at equal stored bits other estimators end nearer to the optimum
/// (training/README.md). A fit of which more than 1 % of the margins leave the range says so (FitStatus::out_of_range).
///
///     const auto store = zipml::quantize<4>(data, zipml::polynomial<3>);
///     const auto fit = zipml::Sgd{zipml::LogisticLoss{}}.fit(store, zipml::PolynomialOf<3>{.range = 6.0});
template <int Degree>
struct PolynomialOf {
  static_assert(Degree >= 1 && Degree <= 7,
                "zipml: a store keeps 8 draws apart: polynomials of degree 1 to 7");
  static constexpr std::array<const char*, 7> names{"polynomial-1", "polynomial-2", "polynomial-3",
                                                    "polynomial-4", "polynomial-5", "polynomial-6",
                                                    "polynomial-7"};
  static constexpr const char* name = names[Degree - 1];
  static constexpr int draws = Degree + 1;
  static constexpr unsigned margin_draws = (1u << Degree) - 1;
  static constexpr unsigned sample_draws = 1u << Degree;
  static constexpr bool corrected = false;
  static constexpr bool needs_affine_loss = false;
  static constexpr bool needs_two_classes = true;
  static constexpr bool needs_stochastic = true;
  using Encoding = SeparateDraws<draws>;

  double range = Degree <= 3 ? 4.0 : 8.0;  ///< of y z

  /// Coefficients of t^k, t = y z / range. Those of the last loss are kept: an object serves one thread.
  template <class L>
  std::span<const double, Degree + 1> coefficients(const L& loss) const {
    if (of_loss != L::name || of_range != range) {
      const List<double> found = chebyshev_series(
          [&](double u) { return static_cast<double>(loss.derivative(static_cast<float>(u), 1.0f)); }, Degree,
          range);
      std::copy(found.begin(), found.end(), powers.begin());
      of_loss = L::name;
      of_range = range;
    }
    return powers;
  }

  /// The largest |P'| on the range, which a step has to bear.
  template <class L>
  double steepest(const L& loss) const {
    const auto series = coefficients(loss);
    double largest = 0.0;
    for (int i = -64; i <= 64; ++i) {
      double slope = 0.0;
      for (int k = Degree; k > 0; --k) slope = slope * (i / 64.0) + k * series[static_cast<std::size_t>(k)];
      largest = (std::max)(largest, std::fabs(slope) / range);
    }
    return largest;
  }

  /// As GradientEstimator asks: from p margins of a row to the residual of draw p + 1. O(p^2) a row.
  template <class L>
  double residuals(const L& loss, const DrawLists<const float>& z, std::span<const float> y,
                   const DrawLists<float>& r) const {
    const auto series = coefficients(loss);
    // The mean of products is e_k / C(p, k), e_k the elementary symmetric polynomial.
    std::array<double, Degree + 1> factors;
    double choices = 1.0;
    for (int k = 0; k <= Degree; ++k) {
      factors[static_cast<std::size_t>(k)] = series[static_cast<std::size_t>(k)] / choices;
      choices = choices * (Degree - k) / (k + 1);
    }
    const double scale = 1.0 / range;
    for (std::size_t i = 0; i < y.size(); ++i) {
      const auto label = static_cast<double>(y[i]);
      std::array<double, Degree + 1> symmetric{1.0};
      for (int draw = 0; draw < Degree; ++draw) {
        const double t = std::clamp(label * scale * static_cast<double>(z[draw][i]), -1.0, 1.0);
        for (auto k = static_cast<std::size_t>(draw) + 1; k > 0; --k)
          symmetric[k] += pinned(t * symmetric[k - 1]);
      }
      double sum = 0.0;
      for (std::size_t k = 0; k < factors.size(); ++k) sum += pinned(factors[k] * symmetric[k]);
      r[Degree][i] = static_cast<float>(label * sum);
    }
    return 0.0;
  }

  /// The cache of coefficients().
  mutable std::array<double, Degree + 1> powers{};
  mutable const char* of_loss = nullptr;
  mutable double of_range = 0.0;
};
/// The polynomial of a degree on its default range: [-4, 4] up to degree 3, else [-8, 8].
template <int Degree>
inline const PolynomialOf<Degree> polynomial{};

/// An estimator that holds for margins up to its `range` alone.
template <class E>
concept RangedEstimator = requires(const E estimator) {
  { estimator.range } -> std::convertible_to<double>;
};

static_assert(GradientEstimator<PolynomialOf<1>> && GradientEstimator<PolynomialOf<7>> &&
              RangedEstimator<PolynomialOf<3>>);

}  // namespace zipml::inline ZIPML_ABI
