#pragma once
/// \file
/// Room estimators: a representation of samples as one value, chosen at run time: estimator, bits, levels,
/// rounding, outliers. Programs parse it from a text and print it as one; one visitor turns it into types.

#include <charconv>
#include <string>
#include <string_view>

#include <zipml/base/error.hpp>
#include <zipml/estimators/estimators.hpp>
#include <zipml/estimators/polynomial.hpp>
#include <zipml/estimators/requirements.hpp>

namespace zipml::inline ZIPML_ABI {

// g++ 12 takes scoped enumerators for names that hide others.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow"
#endif

/// The estimators of the menu.
enum class EstimatorKind {
  full,
  naive,
  double_sampling,
  symmetrized,
  sum_code,
  sum_code_4,
  sum_code_8,
  variance_corrected,
  polynomial_3,
  polynomial_7
};
/// The levels policies of the library.
enum class LevelsKind { uniform, optimal, optimal_shared, lloyd_max };
enum class RoundingKind { stochastic, nearest };

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

namespace detail {

inline constexpr const char* estimator_names[] = {
    FullPrecision::name,   Naive::name,          DoubleSampling::name, Symmetrized::name,
    SumCode::name,         SumCodeOf<4>::name,   SumCodeOf<8>::name,   VarianceCorrected::name,
    PolynomialOf<3>::name, PolynomialOf<7>::name};
inline constexpr const char* levels_names[] = {"uniform", "optimal", "optimal-shared", "lloyd-max"};
inline constexpr const char* rounding_names[] = {"stochastic", "nearest"};

/// Which name a text is, or -1.
template <std::size_t N>
int index_of(std::string_view text, const char* const (&names)[N]) {
  for (std::size_t k = 0; k < N; ++k)
    if (text == names[k]) return static_cast<int>(k);
  return -1;
}
template <std::size_t N>
std::string choices_of(const char* const (&names)[N]) {
  std::string all;
  for (const char* name : names) {
    if (!all.empty()) all += '|';
    all += name;
  }
  return all;
}

}  // namespace detail

/// The name that each has in texts and in results: "variance-corrected", "uniform", "stochastic".
inline const char* to_string(EstimatorKind kind) { return detail::estimator_names[static_cast<int>(kind)]; }
inline const char* to_string(LevelsKind kind) { return detail::levels_names[static_cast<int>(kind)]; }
inline const char* to_string(RoundingKind kind) { return detail::rounding_names[static_cast<int>(kind)]; }

/// How samples are represented. As text NAME:BITS, then what is not the default: levels, rounding, and the
/// share of each column's values that is kept exactly.
///
///     variance-corrected:4,outliers=0.003        naive:2,lloyd-max,nearest        full
struct Representation {
  EstimatorKind estimator = EstimatorKind::variance_corrected;
  int bits = 4;  ///< of one draw, 1 to 8; 32 with `full`
  LevelsKind levels = LevelsKind::uniform;
  RoundingKind rounding = RoundingKind::stochastic;
  double outliers = 0.0;  ///< QuantizeOptions::outliers

  bool operator==(const Representation&) const = default;

  /// Independent draws that a sum is of, 1 for other estimators.
  int summed() const;
  /// Bits of a value without outliers.
  int code_bits() const;

  /// Throws Error when its parts do not go together.
  void check() const;
};

/// "variance-corrected:4,outliers=0.003": reads back as the same value.
std::string to_string(const Representation& representation);

/// Reads what to_string has printed; parts after the bits in any order. Lloyd-Max levels alone mean nearest
/// rounding. Throws Error with the choices, and when the parts do not go together.
///
///     const auto representation = zipml::parse_representation("naive:2,lloyd-max");
Representation parse_representation(std::string_view text);

/// Calls f with the estimator of this kind and returns its result, one type for all. Throws Error for polynomials, which
/// are not for every loss.
///
///     const auto fit = zipml::visit_estimator(kind, [&](auto estimator) { return sgd.fit(store, estimator);
///     });
template <class F>
auto visit_estimator(EstimatorKind kind, F&& f) {
  switch (kind) {
    case EstimatorKind::full:
      return f(full_precision);
    case EstimatorKind::naive:
      return f(naive);
    case EstimatorKind::double_sampling:
      return f(double_sampling);
    case EstimatorKind::symmetrized:
      return f(symmetrized);
    case EstimatorKind::sum_code:
      return f(sum_code);
    case EstimatorKind::sum_code_4:
      return f(sum_code_of<4>);
    case EstimatorKind::sum_code_8:
      return f(sum_code_of<8>);
    case EstimatorKind::polynomial_3:
    case EstimatorKind::polynomial_7:
      throw Error("a polynomial is for the losses of two classes", "visit_estimator_for a loss",
                  to_string(kind));
    case EstimatorKind::variance_corrected:
      break;
  }
  return f(variance_corrected);
}

namespace detail {

/// The same with polynomials.
template <class F>
auto visit_any_estimator(EstimatorKind kind, F&& f) {
  if (kind == EstimatorKind::polynomial_3) return f(polynomial<3>);
  if (kind == EstimatorKind::polynomial_7) return f(polynomial<7>);
  return visit_estimator(kind, f);
}

}  // namespace detail

/// The same for a loss: f is called with the estimators that suit it (estimators/requirements.hpp). Throws Error for the
/// others, which says what does.
///
///     const auto fit = zipml::visit_estimator_for<zipml::LogisticLoss>(
///         store.representation().estimator, [&](auto estimator) { return sgd.fit(store, estimator); });
template <class L, class F>
auto visit_estimator_for(EstimatorKind kind, F&& f) {
  using Result = decltype(f(naive));
  return detail::visit_any_estimator(kind, [&](auto estimator) -> Result {
    if constexpr (EstimatorSuitsLoss<decltype(estimator), L> ||
                  EstimatorSuitsJointLoss<decltype(estimator), L>)
      return f(estimator);
    else
      throw Error(
          std::string("this estimator is not unbiased for ") + L::name,
          std::string(CorrectableLoss<L> ? "naive, variance-corrected, a sum code" : "naive") +
              (L::classifies && !AffineLoss<L> && !JointLoss<L> ? ", a polynomial or full" : " or full"),
          estimator.name);
  });
}

/// The representation that the programs take for a loss and a width, with 0.3 % outliers. Affine losses: variance
/// correction on uniform levels. Others, whose pilots train without a correction: nearest rounding, on uniform levels
/// from 4 bits on, whose sums are of integers, and below on Lloyd-Max levels; without a pilot the corrected loss from 4
/// bits on, where the loss has one. Measured: training/README.md.
template <class L>
Representation default_representation(int bits, bool with_pilot = true) {
  Representation chosen{.bits = bits, .outliers = 0.003};
  if constexpr (!AffineLoss<L>) {
    const bool has_pilot = with_pilot && ConvexLoss<L>;
    if (bits >= 4 && !has_pilot && ConvexLoss<L> && CorrectableLoss<L>) return chosen;
    chosen.estimator = EstimatorKind::naive;
    chosen.rounding = RoundingKind::nearest;
    if (bits < 4 || (!has_pilot && !JointLoss<L>)) chosen.levels = LevelsKind::lloyd_max;
  }
  return chosen;
}

#if ZIPML_DEFINES

ZIPML_FUNCTION int Representation::summed() const {
  return estimator == EstimatorKind::sum_code     ? 2
         : estimator == EstimatorKind::sum_code_4 ? 4
         : estimator == EstimatorKind::sum_code_8 ? 8
                                                  : 1;
}

ZIPML_FUNCTION int Representation::code_bits() const {
  switch (estimator) {
    case EstimatorKind::full:
      return 32;
    case EstimatorKind::double_sampling:
    case EstimatorKind::symmetrized:
      return SeparateDraws<2>::stored_bits(bits);
    case EstimatorKind::sum_code:
      return bits + 1;
    case EstimatorKind::sum_code_4:
      return bits + 2;
    case EstimatorKind::sum_code_8:
      return bits + 3;
    case EstimatorKind::polynomial_3:
      return PolynomialOf<3>::Encoding::stored_bits(bits);
    case EstimatorKind::polynomial_7:
      return PolynomialOf<7>::Encoding::stored_bits(bits);
    default:
      return bits;
  }
}

ZIPML_FUNCTION void Representation::check() const {
  const auto refuse = [](const char* problem, const char* expected, const std::string& got) {
    throw Error(problem, expected, got);
  };
  if (estimator == EstimatorKind::full) {
    if (bits != 32) refuse("full precision has no fewer bits", "32", std::to_string(bits));
    return;
  }
  if (bits < 1 || bits > 8) refuse("samples have no such width", "1 to 8 bits", std::to_string(bits));
  if (summed() > 1 && code_bits() > 9)
    refuse("sums of draws have 9 stored bits at most", "fewer bits or fewer draws",
           std::to_string(code_bits()));
  if (rounding == RoundingKind::nearest && estimator != EstimatorKind::naive)
    refuse("nearest rounding makes all draws equal", "the naive estimator", to_string(estimator));
  if (levels == LevelsKind::lloyd_max && rounding != RoundingKind::nearest)
    refuse("Lloyd-Max levels are for nearest rounding: their ends lie inside the data", "nearest",
           to_string(rounding));
  if (levels == LevelsKind::optimal_shared && summed() > 1)
    refuse("means of draws are on no shared table", "optimal levels", to_string(levels));
  if (!(outliers >= 0.0 && outliers < 0.5))
    refuse("the fraction of outliers is out of range", "0 <= fraction < 0.5", number_text(outliers));
}

ZIPML_FUNCTION std::string to_string(const Representation& representation) {
  std::string text = to_string(representation.estimator);
  if (representation.estimator == EstimatorKind::full) return text;
  text += ":" + std::to_string(representation.bits);
  if (representation.levels != LevelsKind::uniform)
    text += std::string(",") + to_string(representation.levels);
  if (representation.rounding != RoundingKind::stochastic)
    text += std::string(",") + to_string(representation.rounding);
  if (representation.outliers > 0.0) text += ",outliers=" + number_text(representation.outliers);
  return text;
}

ZIPML_FUNCTION Representation parse_representation(std::string_view text) {
  Representation result;
  const std::string whole = "'" + std::string(text) + "'";
  const std::string_view head = text.substr(0, text.find(','));
  std::string_view rest = head.size() < text.size() ? text.substr(head.size() + 1) : std::string_view{};
  const std::string_view name = head.substr(0, head.find(':'));
  const int kind = detail::index_of(name, detail::estimator_names);
  if (kind < 0)
    throw Error("this is no representation",
                "NAME:BITS, NAME one of " + detail::choices_of(detail::estimator_names), whole);
  result.estimator = static_cast<EstimatorKind>(kind);
  if (result.estimator == EstimatorKind::full) result.bits = 32;
  if (name.size() < head.size()) {
    const std::string_view bits = head.substr(name.size() + 1);
    const auto [end, error] = std::from_chars(bits.data(), bits.data() + bits.size(), result.bits);
    if (error != std::errc{} || end != bits.data() + bits.size())
      throw Error("a representation has a number of bits", "NAME:BITS, as in naive:4", whole);
  } else if (result.estimator != EstimatorKind::full) {
    throw Error("a representation has a number of bits", "NAME:BITS, as in naive:4", whole);
  }
  bool says_rounding = false;
  while (!rest.empty()) {
    const std::string_view part = rest.substr(0, rest.find(','));
    rest = part.size() < rest.size() ? rest.substr(part.size() + 1) : std::string_view{};
    constexpr std::string_view outliers = "outliers=";
    if (const int levels = detail::index_of(part, detail::levels_names); levels >= 0) {
      result.levels = static_cast<LevelsKind>(levels);
    } else if (const int rounding = detail::index_of(part, detail::rounding_names); rounding >= 0) {
      result.rounding = static_cast<RoundingKind>(rounding);
      says_rounding = true;
    } else if (part.substr(0, outliers.size()) == outliers) {
      const std::string_view share = part.substr(outliers.size());
      const auto [end, error] = std::from_chars(share.data(), share.data() + share.size(), result.outliers);
      if (error != std::errc{} || end != share.data() + share.size())
        throw Error("the share of outliers is no number", "outliers=0.003", "'" + std::string(part) + "'");
    } else {
      throw Error("a representation has no such part",
                  detail::choices_of(detail::levels_names) + "|" +
                      detail::choices_of(detail::rounding_names) + "|outliers=SHARE",
                  "'" + std::string(part) + "'");
    }
  }
  if (result.levels == LevelsKind::lloyd_max && !says_rounding) result.rounding = RoundingKind::nearest;
  result.check();
  return result;
}

#endif

}  // namespace zipml::inline ZIPML_ABI
