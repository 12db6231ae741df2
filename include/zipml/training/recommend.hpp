#pragma once
/// \file
/// Room training: which representation of the samples a data set wants, measured by training as its user
/// will: for an acceptable excess, the fewest stored bits. Needs the exact solver; not part of zipml.hpp.

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>

#include <zipml/analysis/exact_solver.hpp>
#include <zipml/analysis/newton.hpp>
#include <zipml/base/buffer.hpp>
#include <zipml/base/error.hpp>
#include <zipml/estimators/any_store.hpp>
#include <zipml/io/dataset.hpp>
#include <zipml/io/hold_out.hpp>
#include <zipml/packing/pilot_loss.hpp>
#include <zipml/training/sgd.hpp>

namespace zipml::inline ZIPML_ABI {

/// What to ask of `recommend`.
struct RecommendOptions {
  double excess = 0.01;      ///< acceptable (f - f*) / f*
  double stored_bits = 9.5;  ///< budget, bits per value with outliers; at least 1
  std::uint64_t seed = 1;
  /// Rows to measure on; 0: as many as hold 8 million values, or 100 for each column where that is more and
  /// they hold no more than 32 million; all of them in smaller sets.
  Index sample_rows = 0;
  FitOptions fit = {};  ///< how the user is going to train
};

/// A representation and what it is expected to do.
///
///     const auto best = zipml::recommend(data);
///     const auto store = zipml::quantize(data, best.representation);
struct Recommendation {
  Representation representation;
  double stored_bits = 0.0;       ///< as measured
  double predicted_excess = 0.0;  ///< of training with RecommendOptions::fit, the worse of two seeds
  bool met = false;               ///< whether that is acceptable; else the least that was found
  std::optional<double>
      full_excess;          ///< what float32 samples leave in the same training; where it is not met
  bool has_optimum = true;  ///< else excesses are over the best that any training has reached
  Index sample_rows = 0;    ///< rows that were measured on
  int measured = 0;         ///< representations that were tried
};

namespace detail {

/// Candidates of a width, the most promising first. With few rows for a column the variance of stochastic
/// rounding is worse than the bias of nearest rounding; with a pilot of a loss that is not affine Lloyd-Max levels are
/// the best of all (training/README.md).
List<Representation> candidates_of(int bits, bool few_rows, bool affine);

/// `representation` with fewer outliers, and none.
List<Representation> with_fewer_outliers(const Representation& representation);

/// Rows of `data` chosen by a keyed permutation.
Dataset random_rows(const Dataset& data, Index rows, std::uint64_t seed);

/// A training that was measured.
struct Tried {
  Representation representation;
  double stored_bits = 0.0;
  double value = std::numeric_limits<double>::infinity();  ///< of the objective; infinite where it diverged
};

/// Of those, the fewest stored bits whose excess is within a tenth of the least.
const Tried& best_of(const List<Tried>& tried, double reference);

/// What a search for a representation rests on.
struct SearchedProblem {
  Index rows = 0, cols = 0;  ///< that are trained on
  bool affine = false;       ///< the loss
  double at_zero = 0.0;      ///< the objective without weights
  std::optional<double> optimum;
};

/// The rows that are measured on: of the data, or of a random sample of them, which is kept in `sample`. Throws Error for a
/// budget of less than a bit and fewer than two rows.
const Dataset& rows_to_measure(const Dataset& data, double stored_bits, Index sample_rows, std::uint64_t seed,
                               Dataset& sample);
/// The same of these options. Throws Error as recommend().
const Dataset& rows_to_measure(const Dataset& data, const RecommendOptions& options, Dataset& sample);

/// See recommend(): `train(representation, seed)` is a Tried.
template <class Train>
Recommendation search_representation(const SearchedProblem& problem, const RecommendOptions& options,
                                     const Train& train) {
  Recommendation best;
  best.sample_rows = problem.rows;
  best.has_optimum = problem.optimum.has_value();
  List<Tried> tried;
  double reference = problem.optimum.value_or(std::numeric_limits<double>::infinity());
  const auto excess_of = [&](double value) {
    return value <= reference ? 0.0
                              : (value - reference) / (std::max)({reference, 1e-9 * problem.at_zero, 1e-300});
  };
  std::optional<double> of_full;
  const auto full = [&] {
    if (!of_full) of_full = train({EstimatorKind::full, 32}, options.seed).value;
    return *of_full;
  };
  if (!problem.optimum) reference = full();

  /// Trains a candidate unless it is beyond the budget; true when it is acceptable with another seed as well.
  const auto meets = [&](const Representation& candidate) {
    if (candidate.code_bits() > options.stored_bits) return false;
    ++best.measured;
    Tried result = train(candidate, options.seed);
    if (result.stored_bits > options.stored_bits) return false;
    if (excess_of(result.value) <= options.excess && candidate.rounding == RoundingKind::stochastic)
      result.value = (std::max)(result.value, train(candidate, options.seed + 1).value);
    tried.push_back(result);
    return excess_of(result.value) <= options.excess;
  };
  const auto take = [&](const Tried& chosen) {
    best.representation = chosen.representation;
    best.stored_bits = chosen.stored_bits;
    best.predicted_excess = excess_of(chosen.value);
    best.met = best.predicted_excess <= options.excess;
  };

  double before = std::numeric_limits<double>::infinity();
  for (int bits = 1; bits <= 8; ++bits) {
    double least = std::numeric_limits<double>::infinity();
    for (const Representation& candidate :
         candidates_of(bits, problem.rows < 50 * problem.cols, problem.affine)) {
      if (meets(candidate)) {
        Tried chosen = tried.back();
        for (const Representation& cheaper : with_fewer_outliers(candidate))
          if (meets(cheaper) && tried.back().stored_bits < chosen.stored_bits) chosen = tried.back();
        take(chosen);
        return best;
      }
      if (!tried.empty()) least = (std::min)(least, excess_of(tried.back().value));
    }
    // What more bits do not mend, and float32 does not reach, is the optimizer's.
    if (bits >= 2 && least > 0.9 * before && excess_of(full()) > options.excess) break;
    before = (std::min)(before, least);
  }
  if (tried.empty())
    throw Error("no representation is within the budget", "more stored bits",
                number_text(options.stored_bits) + " stored bits");
  (void)full();
  if (!problem.optimum)
    for (const Tried& one : tried) reference = (std::min)(reference, one.value);
  take(best_of(tried, reference));
  best.full_excess = excess_of(*of_full);
  return best;
}

}  // namespace detail

/// The representation of fewest stored bits that trains to an acceptable excess: from 1 to 8 bits variance
/// correction on uniform levels with 0.3 % outliers (and the pilot of the store, which is what makes few bits
/// enough), where that fails or rows are few nearest rounding on uniform and on Lloyd-Max levels; of the
/// width that does, the fewest outliers. Each candidate is packed and trained on `fit`'s terms, at the automatic step, and judged by
/// the objective on full-precision rows, a random rounding with two seeds. Where no width does, the one of
/// least excess, which `met` and `full_excess` tell: no representation is better than its optimizer.
///
/// Never fails for the data: a constant, a duplicated or a collinear column is only slow to train. Excesses
/// are over the exact optimum, or over the best training where there is none (a box, or a cost above 2e10 operations).
/// O(n d^2) for the optimum, and the cost of some three to ten trainings. Throws Error for options out of
/// range and fewer than two rows.
///
///     const auto best = zipml::recommend(data, zipml::SquaredLoss{}, zipml::L2{0.0f}, {.excess = 0.001});
template <BoundedCurvature L = SquaredLoss, Regularizer R = NoRegularizer>
Recommendation recommend(const Dataset& data, L loss = {}, R regularizer = R{},
                         const RecommendOptions& options = {}) {
  Dataset sample;
  const Dataset& measured = detail::rows_to_measure(data, options, sample);
  const Objective<L, R> objective(measured, loss, regularizer);
  const auto penalty = strengths_of(regularizer);
  const SolverCost cost = exact_solution_cost(measured.rows, data.cols, penalty && penalty->l1 > 0.0);
  const Buffer<double> zero(data.cols);
  detail::SearchedProblem problem{measured.rows, data.cols, AffineLoss<L>, objective(zero.span(), 0.0),
                                  std::nullopt};
  if constexpr (AffineLoss<L> || ConvexLoss<L>) {
    constexpr double steps = AffineLoss<L> ? 1.0 : 10.0;  // Newton's
    if (steps * cost.operations < 2e10 && cost.bytes < 1e9)
      if (const auto exact = exact_solution(objective)) problem.optimum = exact->value;
  }
  const Sgd<L, R> sgd(loss, regularizer);
  return detail::search_representation(
      problem, options, [&](const Representation& candidate, std::uint64_t seed) {
        const AnyStore store = quantize(measured, candidate,
                                        {.seed = seed,
                                         .pilot = PilotableLoss<L> ? std::optional<Index>() : Index{0},
                                         .pilot_loss = pilot_loss_of(loss),
                                         .threads = options.fit.threads,
                                         .isa = options.fit.isa});
        FitOptions how = options.fit;
        if (!store.samples().has_integer_path()) how.model = {};
        const Fit fit = visit_estimator_for<L>(candidate.estimator, [&](auto estimator) -> Fit {
          using E = decltype(estimator);
          if constexpr (std::is_same_v<E, FullPrecision> || std::is_same_v<E, Naive> ||
                        std::is_same_v<E, VarianceCorrected>)
            return sgd.fit(store, estimator, how);
          else  // the others are none, and are not compiled
            throw Error("no candidate");
        });
        detail::Tried result{candidate, store.samples().stored_bits};
        if (fit.success()) result.value = objective(fit.weights.span(), fit.intercept);
        return result;
      });
}

#if ZIPML_DEFINES

namespace detail {

ZIPML_FUNCTION const Dataset& rows_to_measure(const Dataset& data, const RecommendOptions& options,
                                              Dataset& sample) {
  if (!(options.excess > 0.0))
    throw Error("the acceptable excess is out of range", "above 0", number_text(options.excess));
  return rows_to_measure(data, options.stored_bits, options.sample_rows, options.seed, sample);
}

ZIPML_FUNCTION const Dataset& rows_to_measure(const Dataset& data, double stored_bits, Index sample_rows,
                                              std::uint64_t seed, Dataset& sample) {
  if (!(stored_bits >= 1.0))
    throw Error("the budget of stored bits is out of range", "at least 1", number_text(stored_bits));
  if (data.rows < 2 || data.cols < 1)
    throw Error("there is nothing to measure", "2 rows and a column", "fewer");
  const Index enough =
      (std::max)((Index{1} << 23) / data.cols, (std::min)(100 * data.cols, (Index{1} << 25) / data.cols));
  const Index rows = (std::min)(data.rows, sample_rows > 0 ? sample_rows : std::max<Index>(enough, 1000));
  if (rows == data.rows) return data;
  return sample = random_rows(data, rows, seed);
}

ZIPML_FUNCTION List<Representation> candidates_of(int bits, bool few_rows, bool affine) {
  constexpr double outliers = 0.003;
  const Representation corrected{EstimatorKind::variance_corrected, bits, LevelsKind::uniform,
                                 RoundingKind::stochastic, outliers};
  const Representation uniform{EstimatorKind::naive, bits, LevelsKind::uniform, RoundingKind::nearest,
                               outliers};
  const Representation fitted{EstimatorKind::naive, bits, LevelsKind::lloyd_max, RoundingKind::nearest, 0.0};
  if (!affine) return {fitted, uniform};
  if (few_rows) return {uniform, fitted, corrected};
  return {corrected, fitted};
}

ZIPML_FUNCTION List<Representation> with_fewer_outliers(const Representation& representation) {
  List<Representation> all;
  for (const double outliers : {0.001, 0.0}) {
    if (outliers >= representation.outliers) continue;
    all.push_back(representation);
    all.back().outliers = outliers;
  }
  return all;
}

ZIPML_FUNCTION const Tried& best_of(const List<Tried>& tried, double reference) {
  double least = std::numeric_limits<double>::infinity();
  for (const Tried& one : tried) least = (std::min)(least, one.value);
  const double good = least + 0.1 * (std::max)(least - reference, 0.0);
  const Tried* best = &tried.back();
  for (const Tried& one : tried)
    if (one.value <= good && (best->value > good || one.stored_bits < best->stored_bits)) best = &one;
  return *best;
}

ZIPML_FUNCTION Dataset random_rows(const Dataset& data, Index rows, std::uint64_t seed) {
  const Permutation order(seed, data.rows, Stream::row_order, 1);
  List<Index> rows_of_sample;
  for (Index i = 0; i < rows; ++i) rows_of_sample.push_back(order(i));
  return select_rows(data, {rows_of_sample.data(), rows_of_sample.size()});
}

}  // namespace detail

#endif

}  // namespace zipml::inline ZIPML_ABI
