#pragma once
/// \file
/// Room analysis: which representation of the samples a data set wants: measured on a subsample of its rows, for a budget of
/// stored bits or an acceptable excess. Needs the exact solver; not part of zipml.hpp.

#include <algorithm>
#include <string>

#include <zipml/analysis/realised_system.hpp>
#include <zipml/base/buffer.hpp>
#include <zipml/base/error.hpp>
#include <zipml/base/visit_bits.hpp>
#include <zipml/estimators/quantize.hpp>
#include <zipml/io/dataset.hpp>

namespace zipml::inline ZIPML_ABI {

/// What to ask of `recommend`.
struct RecommendOptions {
  double excess = 0.01;      ///< acceptable (f - f*) / f*
  double stored_bits = 9.5;  ///< budget, bits per value with outliers
  std::uint64_t seed = 1;
  Index sample_rows = 0;  ///< rows to measure on; 0: as many as take about a second for a representation
};

/// A representation and what it is expected to do.
struct Recommendation {
  std::string estimator;        ///< name of the estimator: "naive" (with nearest rounding), "sum-code", ...
  std::string rounding;         ///< "nearest" or "stochastic"
  std::string levels;           ///< "uniform", "optimal" or, with nearest rounding, "lloyd-max"
  int bits = 0;                 ///< of one draw
  double outliers = 0.0;        ///< QuantizeOptions::outliers
  double stored_bits = 0.0;     ///< as measured on the sample
  double predicted_excess = 0;  ///< of the solution on all rows
  bool met = false;             ///< whether that is acceptable; else the best within the budget
  Index sample_rows = 0;        ///< rows that were measured on
  int measured = 0;             ///< representations that were tried
};

/// Calls f(estimator, levels policy, rounding) with those that were recommended and returns its result, one
/// type for all.
///
///     const auto model = zipml::visit_representation(best, [&](auto estimator, auto levels, auto rounding) {
///       return zipml::visit_bits(best.bits, [&](auto b) {
///         const zipml::QuantizeOptions options{.outliers = best.outliers};
///         return sgd.fit(zipml::quantize<b()>(data, estimator, levels, rounding, options)).model;
///       });
///     });
template <class F>
auto visit_representation(const Recommendation& best, F&& f) {
  const bool fitted = best.levels != uniform_levels.name;
  if (best.estimator == naive.name)
    return fitted ? f(naive, lloyd_max_levels, nearest) : f(naive, uniform_levels, nearest);
  if (best.estimator == sum_code.name)
    return fitted ? f(sum_code, optimal_levels, stochastic) : f(sum_code, uniform_levels, stochastic);
  if (best.estimator != variance_corrected.name)
    throw Error("this representation is never recommended", "naive, variance-corrected or sum-code",
                "'" + best.estimator + "'");
  return fitted ? f(variance_corrected, optimal_levels, stochastic)
                : f(variance_corrected, uniform_levels, stochastic);
}

namespace detail {

struct Representation {
  int estimator;  // 0 nearest, 1 variance-corrected, 2 sum code
  bool fitted;    // levels: lloyd-max or optimal instead of uniform
  int bits;
  double outliers;
  double stored_bits() const { return bits + (estimator == 2 ? 1.0 : 0.0) + 48.0 * outliers; }
};

/// Every candidate, in the order of the bits that it may store at most; uniform levels first, since they have
/// integer kernels at every width.
inline List<Representation> candidate_representations() {
  List<Representation> all;
  for (int bits = 2; bits <= 8; ++bits)
    for (const bool fitted : {false, true})
      for (int estimator = 0; estimator <= 2; ++estimator)
        for (const double outliers : {0.0, 0.001, 0.003, 0.01})
          all.push_back({estimator, fitted, bits, outliers});
  std::stable_sort(all.begin(), all.end(), [](const Representation& a, const Representation& b) {
    return a.stored_bits() < b.stored_bits();
  });
  return all;
}

/// Rows of `data` chosen by a keyed permutation.
inline Dataset random_rows(const Dataset& data, Index rows, std::uint64_t seed) {
  const Permutation order(seed, data.rows, Stream::row_order, 1);
  Dataset sample;
  sample.rows = rows;
  sample.cols = data.cols;
  sample.values = Buffer<float>(rows * data.cols);
  sample.labels = Buffer<float>(rows);
  for (Index i = 0; i < rows; ++i) {
    const Index from = order(i);
    std::copy_n(data.values.data() + from * data.cols, data.cols, sample.values.data() + i * data.cols);
    sample.labels[i] = data.labels[from];
  }
  return sample;
}

}  // namespace detail

/// The representation of fewest stored bits whose predicted excess is acceptable, among nearest rounding,
/// variance correction and the sum code at 2 to 8 bits, on uniform and on fitted levels, without outliers and
/// with up to 0.1, 0.3 and 1 %; when none is, the one of least predicted excess within the budget.
///
/// Each candidate is packed on a random sample of m rows and its realised system solved
/// (realised_system.hpp), with two seeds where rounding is random, of which the worse counts. The excess of
/// an unbiased representation falls like 1/n and is scaled by m/n; the bias of nearest rounding is not. A
/// representation that is indefinite on the sample is passed over. The prediction is of the solution: SGD
/// adds what it leaves unsolved. O(candidates (m d^2 + d^3)).
///
/// For an affine loss with no penalty or l2. Throws Error for other penalties, for options out of range, and
/// where the optimum fits the sample exactly, so that an excess means nothing.
///
///     const auto best = zipml::recommend(data, zipml::SquaredLoss{}, zipml::L2{0.0f}, {.excess = 0.001});
template <AffineLoss L = SquaredLoss, Regularizer R = NoRegularizer>
Recommendation recommend(const Dataset& data, L loss = {}, R regularizer = R{},
                         const RecommendOptions& options = {}) {
  if (!(options.excess > 0.0))
    throw Error("the acceptable excess is out of range", "above 0", number_text(options.excess));
  if (!(options.stored_bits >= 2.0))
    throw Error("the budget of stored bits is out of range", "at least 2", number_text(options.stored_bits));
  if (data.rows < 2 || data.cols < 1)
    throw Error("there is nothing to measure", "2 rows and a column", "fewer");
  const double d = static_cast<double>(data.cols);
  const auto affordable = static_cast<Index>(std::max(1e9 / (d * d), 20.0 * d));
  const Index wanted = options.sample_rows > 0 ? options.sample_rows : std::max<Index>(affordable, 1000);
  const Index rows = std::min({data.rows, wanted, Index{1} << 18});
  const Dataset sample = rows < data.rows ? detail::random_rows(data, rows, options.seed) : Dataset{};
  const Dataset& measured = rows < data.rows ? sample : data;
  const Objective<L, R> objective(measured, loss, regularizer);
  const auto optimum = exact_solution(objective);
  if (!optimum) throw Error("recommend needs an exact optimum", "no penalty or l2", R::name);
  const Buffer<double> zero(data.cols);
  if (!(optimum->value > 1e-12 * objective(zero.span(), 0.0)))
    throw Error("the samples are fitted exactly, an excess over that means nothing", "noise in the labels",
                "none");
  const double share = static_cast<double>(rows) / static_cast<double>(data.rows);

  Recommendation best;
  int tried = 0;
  const auto measure = [&](const detail::Representation& candidate, auto estimator, auto policy,
                           auto rounding) {
    double worst = 0.0;
    double stored = 0.0;
    for (std::uint64_t seed = options.seed; seed <= options.seed + (rounding.stochastic ? 1 : 0); ++seed) {
      const QuantizeOptions quantization{.seed = seed, .outliers = candidate.outliers};
      const auto store = visit_bits(candidate.bits, [&](auto b) {
        return quantize<b()>(measured, estimator, policy, rounding, quantization);
      });
      const auto solution = realised_solution(store, estimator, objective);
      if (!solution) throw Error("recommend needs an exact optimum", "no penalty or l2", R::name);
      if (!solution->definite) return;
      stored = store.stored_bits();
      worst = std::max(worst, excess(solution->value, optimum->value));
    }
    const double predicted = rounding.stochastic ? worst * share : worst;
    if (stored > options.stored_bits || (best.bits > 0 && predicted >= best.predicted_excess)) return;
    best.estimator = estimator.name;
    best.rounding = rounding.name;
    best.levels = policy.name;
    best.bits = candidate.bits;
    best.outliers = candidate.outliers;
    best.stored_bits = stored;
    best.predicted_excess = predicted;
    best.met = predicted <= options.excess;
  };
  for (const auto& candidate : detail::candidate_representations()) {
    if (candidate.bits + (candidate.estimator == 2 ? 1 : 0) > options.stored_bits) continue;
    ++tried;
    if (candidate.fitted) {
      if (candidate.estimator == 0) measure(candidate, naive, lloyd_max_levels, nearest);
      if (candidate.estimator == 1) measure(candidate, variance_corrected, optimal_levels, stochastic);
      if (candidate.estimator == 2) measure(candidate, sum_code, optimal_levels, stochastic);
    } else {
      if (candidate.estimator == 0) measure(candidate, naive, uniform_levels, nearest);
      if (candidate.estimator == 1) measure(candidate, variance_corrected, uniform_levels, stochastic);
      if (candidate.estimator == 2) measure(candidate, sum_code, uniform_levels, stochastic);
    }
    if (best.met) break;
  }
  if (best.bits == 0)
    throw Error("no representation within the budget gives a convex problem",
                "more stored bits, more rows, or a ridge penalty",
                number_text(options.stored_bits) + " stored bits");
  best.sample_rows = rows;
  best.measured = tried;
  return best;
}

}  // namespace zipml::inline ZIPML_ABI
