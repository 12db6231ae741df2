#pragma once
/// \file
/// Room training: recommend() for a classifier of several classes.

#include <algorithm>
#include <optional>
#include <type_traits>

#include <zipml/analysis/class_objective.hpp>
#include <zipml/training/classes.hpp>
#include <zipml/training/recommend.hpp>

namespace zipml::inline ZIPML_ABI {

/// The representation of fewest stored bits with which fit_classes() reaches an acceptable excess of its objective
/// (ClassObjective), found as recommend() does. Over the exact optimum, where that costs less than 2e11 operations; else
/// over the best training. Throws Error as recommend and fit_classes.
///
///     const auto best = zipml::recommend_classes(data, zipml::SoftmaxLoss{}, zipml::L2{1e-4f});
template <class L, Regularizer R = NoRegularizer>
Recommendation recommend_classes(const Dataset& data, L loss, R regularizer = R{},
                                 const RecommendOptions& options = {}) {
  Dataset sample;
  const Dataset& measured = detail::rows_to_measure(data, options, sample);
  const List<float> values = checked_classes(measured.labels.span());
  const ClassObjective<L, R> objective(measured, values, loss, regularizer);
  detail::SearchedProblem problem{measured.rows, data.cols, AffineLoss<L>,
                                  objective(Buffer<double>(objective.size()).span()), std::nullopt};
  if (objective.optimum_cost() < 2e11) problem.optimum = objective.optimum();
  const Sgd<L, R> sgd(loss, regularizer);
  return detail::search_representation(
      problem, options, [&](const Representation& candidate, std::uint64_t seed) {
        const AnyStore store = quantize(
            measured, candidate,
            {.seed = seed, .pilot = Index{0}, .threads = options.fit.threads, .isa = options.fit.isa});
        FitOptions how = options.fit;
        if (!store.samples().has_integer_path()) how.model = {};
        const ClassesFit fit = visit_estimator_for<L>(candidate.estimator, [&](auto estimator) -> ClassesFit {
          using E = decltype(estimator);
          if constexpr (std::is_same_v<E, FullPrecision> || std::is_same_v<E, Naive> ||
                        (std::is_same_v<E, VarianceCorrected> && !JointLoss<L>))
            return fit_classes(sgd, store, estimator, how);
          else  // the others are none, and are not compiled
            throw Error("no candidate");
        });
        detail::Tried result{candidate, store.samples().stored_bits};
        if (fit.success()) result.value = objective(class_point(fit.fits).span());
        return result;
      });
}

}  // namespace zipml::inline ZIPML_ABI
