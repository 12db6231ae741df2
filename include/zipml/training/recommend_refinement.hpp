#pragma once
/// \file
/// Room training: the packed samples with which refinement moves the fewest bytes on its way to the exact optimum, measured by
/// refining. Needs more of Eigen than its Core; not part of zipml.hpp.

#include <cstdint>
#include <limits>
#include <optional>
#include <type_traits>

#include <zipml/analysis/objective.hpp>
#include <zipml/estimators/any_store.hpp>
#include <zipml/io/dataset.hpp>
#include <zipml/packing/pilot_loss.hpp>
#include <zipml/training/recommend.hpp>
#include <zipml/training/refinement.hpp>

namespace zipml::inline ZIPML_ABI {

/// What to ask of recommend_refinement().
struct RefinementSearch {
  RefineOptions refine = {};  ///< how the user is going to refine, and to which tolerance
  double stored_bits = 9.5;   ///< budget, bits per value with outliers; at least 1
  std::uint64_t seed = 1;
  Index sample_rows = 0;  ///< as RecommendOptions::sample_rows
};

/// A representation, and what refinement with it is expected to take.
struct RefinementRecommendation {
  Representation representation;
  double stored_bits = 0.0;  ///< as measured
  int full_passes = 0;       ///< readings in full precision, of the worse of two seeds
  int packed_passes = 0;
  double bytes = 0.0;  ///< that packing and refinement of all rows of the data move: read and written
  bool met = false;    ///< whether the tolerance is reached; else the representation of least gap
  double gap = 0.0;    ///< estimate of F - F* on the rows that were measured
  /// The same of conjugate gradients without packed samples, for an affine loss with a smooth penalty, where they reach the
  /// tolerance.
  std::optional<double> plain_bytes;
  int plain_passes = 0;
  Index sample_rows = 0;  ///< rows that were measured on
  int measured = 0;       ///< representations that were tried
};

/// The packed samples that take `data` to the exact optimum with the fewest bytes moved: of 1 to 8 bits, and for each the
/// estimator that refinement takes by itself (variance correction, or nearest rounding where rows are few; for a loss that is
/// not affine its default), each packed and refined. A width is left out when a single reading with it moves more than the
/// best of those before. Packing counts, for who packs for nothing else. Throws Error as recommend() and refine().
///
///     const auto best = zipml::recommend_refinement(data);
///     const auto store = zipml::quantize(data, best.representation);
template <Loss L = SquaredLoss, SeparableRegularizer R = NoRegularizer>
requires(AffineLoss<L> || ConvexLoss<L>) RefinementRecommendation
    recommend_refinement(const Dataset& data, L loss = {}, R regularizer = R{},
                         const RefinementSearch& search = {}) {
  Dataset sample;
  const Dataset& measured =
      detail::rows_to_measure(data, search.stored_bits, search.sample_rows, search.seed, sample);
  const Objective<L, R> objective(measured, loss, regularizer);
  const auto rows = static_cast<double>(measured.rows), cols = static_cast<double>(data.cols);
  const double scale = static_cast<double>(data.rows) / rows, reading = 4.0 * rows * cols;

  RefinementRecommendation best;
  best.sample_rows = measured.rows;
  const auto attempt = [&](const Representation& candidate, std::uint64_t seed) {
    const AnyStore store = quantize(measured, candidate,
                                    {.seed = seed,
                                     .pilot = PilotableLoss<L> ? std::optional<Index>() : Index{0},
                                     .pilot_loss = pilot_loss_of(loss),
                                     .threads = search.refine.threads,
                                     .isa = search.refine.isa});
    const Refined refined = visit_estimator_for<L>(candidate.estimator, [&](auto estimator) -> Refined {
      using E = decltype(estimator);
      if constexpr (std::is_same_v<E, Naive> || std::is_same_v<E, VarianceCorrected>)
        return refine(store, estimator, objective, search.refine);
      else  // the others are none, and are not compiled
        throw Error("no candidate");
    });
    RefinementRecommendation tried;
    tried.representation = candidate;
    tried.stored_bits = store.samples().stored_bits;
    tried.full_passes = refined.full_passes;
    tried.packed_passes = refined.packed_passes;
    const double packing = reading + tried.stored_bits / 8.0 * rows * cols;
    tried.bytes = scale * (packing + refined.full_bytes + refined.packed_bytes);
    tried.met = refined.status == FitStatus::converged;
    tried.gap = refined.success() ? refined.gap : std::numeric_limits<double>::infinity();
    return tried;
  };

  const bool few_rows = measured.rows < 50 * measured.cols;
  for (int bits = 1; bits <= 8 && bits <= search.stored_bits; ++bits) {
    const double least = scale * (2.0 * reading + bits / 4.0 * rows * cols);  // packing and one reading
    if (best.met && least >= best.bytes) break;
    Representation candidate = default_representation<L>(bits, PilotableLoss<L>);
    if (AffineLoss<L> && few_rows) {
      candidate.estimator = EstimatorKind::naive;
      candidate.rounding = RoundingKind::nearest;
    }
    RefinementRecommendation tried = attempt(candidate, search.seed);
    if (tried.stored_bits > search.stored_bits) {
      candidate.outliers = 0.0;
      tried = attempt(candidate, search.seed);
    }
    ++best.measured;
    if (tried.stored_bits > search.stored_bits) continue;
    if (tried.met && candidate.rounding == RoundingKind::stochastic) {
      const RefinementRecommendation again = attempt(candidate, search.seed + 1);
      if (!again.met || again.bytes > tried.bytes) tried = again;
    }
    const bool better = tried.met ? !best.met || tried.bytes < best.bytes
                                  : !best.met && (best.stored_bits == 0.0 || tried.gap < best.gap);
    if (!better) continue;
    tried.sample_rows = best.sample_rows;
    tried.measured = best.measured;
    best = tried;
  }
  if (best.stored_bits == 0.0)
    throw Error("no representation is within the budget", "more stored bits",
                number_text(search.stored_bits) + " stored bits");
  if constexpr (AffineLoss<L>) {
    const auto penalty = strengths_of(regularizer);
    if (penalty && penalty->l1 == 0.0) {
      const Refined plain = conjugate_gradients(objective, search.refine);
      best.plain_passes = plain.full_passes;
      if (plain.status == FitStatus::converged) best.plain_bytes = scale * plain.full_bytes;
    }
  }
  return best;
}

}  // namespace zipml::inline ZIPML_ABI
