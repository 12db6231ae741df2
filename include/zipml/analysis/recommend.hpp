#pragma once
/// \file
/// Room analysis: which representation of the samples a data set wants: measured on a subsample of its rows,
/// for a budget of stored bits or an acceptable excess. Needs the exact solver; not part of zipml.hpp.

#include <algorithm>
#include <cstdint>

#include <zipml/analysis/realised_system.hpp>
#include <zipml/base/buffer.hpp>
#include <zipml/base/error.hpp>
#include <zipml/estimators/any_store.hpp>
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
///
///     const auto best = zipml::recommend(data);
///     const auto store = zipml::quantize(data, best.representation);
struct Recommendation {
  Representation representation;
  double stored_bits = 0.0;     ///< as measured on the sample
  double predicted_excess = 0;  ///< of the solution on all rows
  bool met = false;             ///< whether that is acceptable; else the best within the budget
  Index sample_rows = 0;        ///< rows that were measured on
  int measured = 0;             ///< representations that were tried
};

namespace detail {

/// Every candidate, in the order of the bits that it may store at most; uniform levels first, since they have
/// integer kernels at every width.
List<Representation> candidate_representations();

/// Rows of `data` chosen by a keyed permutation.
Dataset random_rows(const Dataset& data, Index rows, std::uint64_t seed);

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
  bool found = false;
  const auto measure = [&](const Representation& candidate) {
    const bool random = candidate.rounding == RoundingKind::stochastic;
    double worst = 0.0;
    double stored = 0.0;
    for (std::uint64_t seed = options.seed; seed <= options.seed + (random ? 1 : 0); ++seed) {
      const AnyStore store = quantize(measured, candidate, {.seed = seed});
      const auto solution = visit_estimator(candidate.estimator, [&](auto estimator) {
        return realised_solution(store, estimator, objective);
      });
      if (!solution) throw Error("recommend needs an exact optimum", "no penalty or l2", R::name);
      if (!solution->definite) return;
      stored = store.samples().stored_bits;
      worst = std::max(worst, excess(solution->value, optimum->value));
    }
    const double predicted = random ? worst * share : worst;
    if (stored > options.stored_bits || (found && predicted >= best.predicted_excess)) return;
    found = true;
    best.representation = candidate;
    best.stored_bits = stored;
    best.predicted_excess = predicted;
    best.met = predicted <= options.excess;
  };
  for (const Representation& candidate : detail::candidate_representations()) {
    if (candidate.code_bits() > options.stored_bits) continue;
    ++tried;
    measure(candidate);
    if (best.met) break;
  }
  if (!found)
    throw Error("no representation within the budget gives a convex problem",
                "more stored bits, more rows, or a ridge penalty",
                number_text(options.stored_bits) + " stored bits");
  best.sample_rows = rows;
  best.measured = tried;
  return best;
}

#if ZIPML_DEFINES

namespace detail {

ZIPML_FUNCTION List<Representation> candidate_representations() {
  List<Representation> all;
  for (int bits = 2; bits <= 8; ++bits)
    for (const bool fitted : {false, true})
      for (const EstimatorKind estimator :
           {EstimatorKind::naive, EstimatorKind::variance_corrected, EstimatorKind::sum_code})
        for (const double outliers : {0.0, 0.001, 0.003, 0.01}) {
          const bool rounds_nearest = estimator == EstimatorKind::naive;
          const LevelsKind levels = !fitted          ? LevelsKind::uniform
                                    : rounds_nearest ? LevelsKind::lloyd_max
                                                     : LevelsKind::optimal;
          all.push_back({estimator, bits, levels,
                         rounds_nearest ? RoundingKind::nearest : RoundingKind::stochastic, outliers});
        }
  const auto most_bits = [](const Representation& r) {
    return r.code_bits() + Outliers::bits_per_entry * r.outliers;
  };
  std::stable_sort(all.begin(), all.end(), [&](const Representation& a, const Representation& b) {
    return most_bits(a) < most_bits(b);
  });
  return all;
}

ZIPML_FUNCTION Dataset random_rows(const Dataset& data, Index rows, std::uint64_t seed) {
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

#endif

}  // namespace zipml::inline ZIPML_ABI
