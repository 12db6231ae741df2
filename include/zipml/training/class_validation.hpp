#pragma once
/// \file
/// Room training: penalties for a classifier of several classes, judged by rows that its models have not seen: all classes
/// of all penalties and folds are models over one reading of the samples an epoch. Needs more of Eigen than its Core; not
/// part of zipml.hpp.

#include <algorithm>
#include <span>
#include <string>
#include <type_traits>
#include <utility>

#include <zipml/analysis/class_objective.hpp>
#include <zipml/training/classes.hpp>
#include <zipml/training/cross_validation.hpp>
#include <zipml/training/penalty_path.hpp>

namespace zipml::inline ZIPML_ABI {

/// Trains a classifier for each penalty, as fit_classes() does for one: `result[p][k]` is class k of penalty p. Throws Error
/// for more than 1000 models, and as fit_classes.
///
///     const auto fits = zipml::fit_class_path(sgd, store, zipml::naive, penalties);
template <class L, Regularizer R, class Step, SampleStore Store, GradientEstimator Estimator,
          class... Observers>
List<List<Fit>> fit_class_path(const Sgd<L, R, Step>& sgd, const Store& store, Estimator estimator,
                               std::type_identity_t<std::span<const R>> penalties,
                               const FitOptions& options = {}, Observers&&... observers);

/// The loss of held-out rows for each penalty, as cross_validate() tells it for one model: of SoftmaxLoss its own, else the
/// sum over the classes. `fits[p]` has the classes of the first fold, then those of the next ones. With FoldOptions::exact
/// from the rows themselves; else from those of the store, as they are rounded. Throws Error as cross_validate and
/// fit_classes.
///
///     const auto found = zipml::cross_validate_classes(sgd, store, zipml::naive, penalties, {.exact = &train});
template <class L, Regularizer R, class Step, SampleStore Store, GradientEstimator Estimator,
          class... Observers>
CrossValidation cross_validate_classes(const Sgd<L, R, Step>& sgd, const Store& store, Estimator estimator,
                                       std::type_identity_t<std::span<const R>> penalties,
                                       const FoldOptions& how = {}, const FitOptions& options = {},
                                       Observers&&... observers);

template <class L, Regularizer R, class Step, SampleStore Store, GradientEstimator Estimator,
          class... Observers>
List<List<Fit>> fit_class_path(const Sgd<L, R, Step>& sgd, const Store& store, Estimator estimator,
                               std::type_identity_t<std::span<const R>> penalties, const FitOptions& options,
                               Observers&&... observers) {
  const List<float> values = checked_classes(store.targets().of(0));
  detail::check_model_count(static_cast<Index>(penalties.size() * values.size()), "models");
  const Targets targets = class_targets(store.targets().of(0), values);
  List<Variant<R>> variants;
  for (const R& penalty : penalties)
    for (int k = 0; k < targets.models(); ++k) variants.push_back({penalty, k});
  List<Fit> all = sgd.fit_variants(store, targets, variants, estimator, options, observers...);
  List<List<Fit>> fits(penalties.size());
  for (std::size_t m = 0; m < all.size(); ++m) fits[m / values.size()].push_back(std::move(all[m]));
  return fits;
}

template <class L, Regularizer R, class Step, SampleStore Store, GradientEstimator Estimator,
          class... Observers>
CrossValidation cross_validate_classes(const Sgd<L, R, Step>& sgd, const Store& store, Estimator estimator,
                                       std::type_identity_t<std::span<const R>> penalties,
                                       const FoldOptions& how, const FitOptions& options,
                                       Observers&&... observers) {
  const Index rows = store.targets().rows();
  detail::check_folds(how.folds, rows);
  const List<float> values = checked_classes(store.targets().of(0));
  detail::check_model_count(static_cast<Index>(penalties.size() * values.size()) * how.folds, "models");
  const Targets targets = class_targets(store.targets().of(0), values);
  List<Variant<R>> variants;
  for (int f = 0; f < how.folds; ++f)
    for (const R& penalty : penalties)
      for (int k = 0; k < targets.models(); ++k)
        variants.push_back({penalty, k, fold_of(rows, how.folds, f)});
  List<Fit> all = sgd.fit_variants(store, targets, variants, estimator, options, observers...);
  const std::size_t per_fold = penalties.size() * values.size();
  List<List<double>> losses;
  List<List<Fit>> fits(penalties.size());
  for (int f = 0; f < how.folds; ++f) {
    const std::span<Fit> of_fold(all.data() + static_cast<std::size_t>(f) * per_fold, per_fold);
    const RowRange fold = fold_of(rows, how.folds, f);
    if (how.exact != nullptr) {
      const Dataset held_out = detail::exact_fold(store, *how.exact, fold);
      const ClassObjective<L> objective(objective_on(store, held_out), held_out.label_view(), values,
                                        sgd.loss());
      losses.emplace_back();
      for (std::size_t p = 0; p < penalties.size(); ++p)
        losses.back().push_back(
            objective(class_point(of_fold.subspan(p * values.size(), values.size())).span()));
    } else {
      // Of classes together the same in each of them, else one for each.
      const List<double> of_models =
          detail::losses_of_fold(store, targets, estimator, sgd.loss(), of_fold, fold, options);
      losses.emplace_back(penalties.size());
      for (std::size_t m = 0; m < per_fold; ++m)
        if (!JointLoss<L> || m % values.size() == 0) losses.back()[m / values.size()] += of_models[m];
    }
    for (std::size_t m = 0; m < per_fold; ++m) fits[m / values.size()].push_back(std::move(of_fold[m]));
  }
  return detail::summed_up(std::move(fits), losses, detail::strengths_of_all(penalties));
}

}  // namespace zipml::inline ZIPML_ABI
