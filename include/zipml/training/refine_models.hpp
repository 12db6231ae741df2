#pragma once
/// \file
/// Room training: several models to their exact optima over the same readings in full precision: labels of their own, a path of
/// penalties, a class each against the rest. Needs more of Eigen than its Core; not part of zipml.hpp.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>

#include <zipml/analysis/objective.hpp>
#include <zipml/base/buffer.hpp>
#include <zipml/base/error.hpp>
#include <zipml/io/dataset.hpp>
#include <zipml/model/class_model.hpp>
#include <zipml/model/losses.hpp>
#include <zipml/model/regularizers.hpp>
#include <zipml/model/softmax.hpp>
#include <zipml/storage/targets.hpp>
#include <zipml/training/classes.hpp>
#include <zipml/training/observer.hpp>
#include <zipml/training/penalty_path.hpp>
#include <zipml/training/refinement.hpp>
#include <zipml/training/refinement/softmax_refinement.hpp>

namespace zipml::inline ZIPML_ABI {

/// The minima of several objectives on the rows of a store, of one loss, with labels and penalties of their own: what refine()
/// finds for each of them, with the same bits, by readings that serve all models which still go on. A reading fetches each row from
/// memory once, whatever the number of models m. Of an affine loss the matrix of the packed samples is formed once, and factorised
/// once for each strength of l2; of another loss each model has its own.
///
/// A model is an event's `model`, an observer that stops ends that one. Observers may be called from other threads than the
/// caller's, one at a time. In `Refined` bytes and seconds of a reading that served several models are shared alike among them, so
/// that their sums are what was read; readings in all are the most of any `full_passes`.
///
/// The pilot of the store serves objectives with its labels. Other labels are taken to be in the order that the rows were packed in. O(m n d) a reading,
/// memory 512 d m bytes for it and 8 d^2 for each matrix, 16 n for each list of labels. Throws Error for no objectives or more than 1000, for
/// objectives of different rows, weights or units, and as refine().
///
///     const zipml::Objective first(data, zipml::LogisticLoss{}, zipml::L2{1e-4f});
///     const zipml::List objectives{first, first.with_labels(others, statistics, zipml::LogisticLoss{}, zipml::L2{1e-4f})};
///     const auto both = zipml::refine_models(store, zipml::variance_corrected, objectives);
template <SampleStore Store, BilinearEstimator Estimator, Loss L, Regularizer R, class... Observers>
requires(AffineLoss<L> || ConvexLoss<L>) List<Refined> refine_models(const Store& store, Estimator estimator,
                                                                     const List<Objective<L, R>>& objectives,
                                                                     const RefineOptions& options = {},
                                                                     Observers&&... observers);

/// The same of one objective with other penalties than its own: a model for each. Throws Error for no penalties or more than
/// 1000, and as refine().
///
///     zipml::List<zipml::L2> penalties;
///     for (const double l2 : zipml::geometric_strengths(1e-6, 1.0, 20)) penalties.emplace_back(static_cast<float>(l2));
///     const zipml::Objective objective(data, zipml::LogisticLoss{}, penalties[0]);
///     const auto path = zipml::refine_path(store, zipml::variance_corrected, objective, penalties);
template <SampleStore Store, BilinearEstimator Estimator, Loss L, Regularizer R, class... Observers>
requires(AffineLoss<L> ||
         ConvexLoss<L>) List<Refined> refine_path(const Store& store, Estimator estimator,
                                                  const Objective<L, R>& objective,
                                                  std::type_identity_t<std::span<const R>> penalties,
                                                  const RefineOptions& options = {},
                                                  Observers&&... observers);

/// What refine_classes() returns.
struct RefinedClasses {
  ClassModel model;
  List<Refined> refined;  ///< of each class

  bool success() const {
    return std::all_of(refined.begin(), refined.end(), [](const Refined& one) { return one.success(); });
  }
};

/// The classifier of all values that the labels of a store have, a model of each against the rest as fit_classes() trains it, at the
/// exact optimum of each, from the rows that the store was packed from. No pilot: the first reading is at no weights. Memory as
/// refine_models. Throws Error for labels of less than two or more than most_classes values, for rows of other labels, as far as the
/// numbers of the classes tell, and as refine().
///
///     const auto digits = zipml::refine_classes(store, zipml::variance_corrected, data, zipml::LogisticLoss{}, zipml::L2{1e-4f});
///     const auto metrics = zipml::evaluate(digits.model, test);
template <SampleStore Store, BilinearEstimator Estimator, Loss L, Regularizer R, class... Observers>
requires(AffineLoss<L> || ConvexLoss<L>) RefinedClasses
    refine_classes(const Store& store, Estimator estimator, const Dataset& data, L loss, R regularizer,
                   const RefineOptions& options = {}, Observers&&... observers);

/// The same of all classes together (SoftmaxLoss), whose minimum is one of all weights: quasi-Newton steps whose first matrix has a
/// block for each class, that of its own second derivatives on the packed samples. An observer that stops ends all of them; value, gap
/// and readings of each class are those of all. The penalty is none or l2. Any bilinear estimator serves. Memory some 500 d a class for the steps besides.
/// Throws Error for another penalty, and as above.
///
///     const auto digits = zipml::refine_classes(store, zipml::naive, data, zipml::SoftmaxLoss{}, zipml::L2{1e-4f});
template <SampleStore Store, BilinearEstimator Estimator, Regularizer R, class... Observers>
RefinedClasses refine_classes(const Store& store, Estimator estimator, const Dataset& data, SoftmaxLoss,
                              R regularizer, const RefineOptions& options = {}, Observers&&... observers);

namespace detail {

/// Throws Error unless two objectives are of the same rows, weights and units.
template <Loss L, Regularizer R>
void check_alike(const Objective<L, R>& first, const Objective<L, R>& other) {
  const MatrixView &a = first.features(), &b = other.features();
  const Standardization &of_a = first.standardization(), &of_b = other.standardization();
  const auto same = [](const auto& left, const auto& right) {
    return std::equal(left.begin(), left.end(), right.begin(), right.end());
  };
  if (a.data != b.data || a.doubles != b.doubles || a.reader != b.reader || a.rows != b.rows ||
      a.cols != b.cols || !same(of_a.mean, of_b.mean) || !same(of_a.scale, of_b.scale) ||
      !same(first.weights(), other.weights()))
    throw Error("models that are refined together share their readings",
                "the same rows, weights and units of all objectives", "others");
}

/// The labels of an objective in the order of a store, in the user's units; nothing where they are the store's own, but for rounding.
template <SampleStore Store, Loss L, Regularizer R>
std::optional<Targets> labels_of_its_own(const Store& store, const Objective<L, R>& objective) {
  const Index n = objective.rows();
  const RowPlacement placement(store.seed(), n);
  Buffer<Index> ids(n);
  placement.row_ids(0, n, ids.data());
  const Targets& targets = store.targets();
  // Of several classes no model of two has the labels.
  bool same = !L::classifies || targets.statistics(0).two_values;
  if (same) {
    const LabelMap map = objective.loss().label_map(targets.statistics(0));
    for (Index i = 0; i < n && same; ++i) {
      const double label = objective.label(ids[i]);
      const auto packed = static_cast<double>(map.apply(targets.of(0)[static_cast<std::size_t>(i)]));
      same = std::fabs(label - packed) <= 1e-5 * (1.0 + std::fabs(label));
    }
  }
  if (same) return std::nullopt;
  const LabelStatistics& statistics = objective.label_statistics();
  const LabelMap map = objective.loss().label_map(statistics);
  Buffer<float> placed(n);
  for (Index i = 0; i < n; ++i)
    placed[i] = static_cast<float>(map.offset + map.scale * objective.label(ids[i]));
  return Targets(std::move(placed), {statistics});
}

/// The labels of rows in the units of a store. Throws Error unless every class has as many rows as there.
Buffer<float> labels_as_packed(const Targets& packed, const Dataset& data, const List<float>& values);

}  // namespace detail

template <SampleStore Store, BilinearEstimator Estimator, Loss L, Regularizer R, class... Observers>
requires(AffineLoss<L> || ConvexLoss<L>) List<Refined> refine_models(const Store& store, Estimator estimator,
                                                                     const List<Objective<L, R>>& objectives,
                                                                     const RefineOptions& options,
                                                                     Observers&&... observers) {
  const std::array<detail::ObserverRef, sizeof...(Observers)> watching{detail::ObserverRef(observers)...};
  detail::check_model_count(static_cast<Index>(objectives.size()), "objectives");
  detail::check_samples(objectives[0], store.samples());
  List<std::optional<Targets>> labels;
  for (const Objective<L, R>& objective : objectives) {
    detail::check_alike(objectives[0], objective);
    labels.push_back(detail::labels_of_its_own(store, objective));
  }
  List<detail::RefinementTask<L, R>> tasks;
  for (std::size_t m = 0; m < objectives.size(); ++m)
    tasks.push_back(
        {&objectives[m], &objectives[m].regularizer(), labels[m] ? &*labels[m] : &store.targets()});
  return detail::refine_together<Store, Estimator, L, R>(store, estimator, tasks, options, watching);
}

template <SampleStore Store, BilinearEstimator Estimator, Loss L, Regularizer R, class... Observers>
requires(AffineLoss<L> ||
         ConvexLoss<L>) List<Refined> refine_path(const Store& store, Estimator estimator,
                                                  const Objective<L, R>& objective,
                                                  std::type_identity_t<std::span<const R>> penalties,
                                                  const RefineOptions& options, Observers&&... observers) {
  const std::array<detail::ObserverRef, sizeof...(Observers)> watching{detail::ObserverRef(observers)...};
  detail::check_model_count(static_cast<Index>(penalties.size()), "penalties");
  detail::check_rows(objective, store.samples(), store.targets());
  List<detail::RefinementTask<L, R>> tasks;
  for (const R& penalty : penalties) tasks.push_back({&objective, &penalty, &store.targets()});
  return detail::refine_together<Store, Estimator, L, R>(store, estimator, tasks, options, watching);
}

template <SampleStore Store, BilinearEstimator Estimator, Loss L, Regularizer R, class... Observers>
requires(AffineLoss<L> || ConvexLoss<L>) RefinedClasses
    refine_classes(const Store& store, Estimator estimator, const Dataset& data, L loss, R regularizer,
                   const RefineOptions& options, Observers&&... observers) {
  static_assert(L::classifies, "zipml: several classes need a loss that classifies: logistic, ls-svm");
  const std::array<detail::ObserverRef, sizeof...(Observers)> watching{detail::ObserverRef(observers)...};
  const Targets& packed = store.targets();
  const List<float> values = checked_classes(packed.of(0));
  const Buffer<float> labels = detail::labels_as_packed(packed, data, values);
  const Targets targets = class_targets(packed.of(0), values);
  const Objective<SquaredLoss> rows = objective_on(store, data);
  detail::check_samples(rows, store.samples());
  List<Objective<L, R>> objectives;
  List<detail::RefinementTask<L, R>> tasks;
  Buffer<float> of_class(labels.size());
  for (std::size_t k = 0; k < values.size(); ++k) {
    for (Index i = 0; i < labels.size(); ++i) of_class[i] = labels[i] == values[k] ? 1.0f : -1.0f;
    objectives.push_back(rows.with_labels(std::as_const(of_class).span(),
                                          targets.statistics(static_cast<int>(k)), loss, regularizer));
  }
  for (std::size_t k = 0; k < values.size(); ++k)
    tasks.push_back({&objectives[k], &objectives[k].regularizer(), &targets, static_cast<int>(k)});
  RefinedClasses result;
  result.refined =
      detail::refine_together<Store, Estimator, L, R>(store, estimator, tasks, options, watching);
  result.model = class_model(result.refined, values, packed.statistics(0).offset);
  return result;
}

template <SampleStore Store, BilinearEstimator Estimator, Regularizer R, class... Observers>
RefinedClasses refine_classes(const Store& store, Estimator estimator, const Dataset& data, SoftmaxLoss,
                              R regularizer, const RefineOptions& options, Observers&&... observers) {
  static_assert(StoreHasEnoughDraws<Estimator, Store> && StoreHasBias<Estimator, Store>,
                "zipml: this store was not quantized for this estimator");
  const std::array<detail::ObserverRef, sizeof...(Observers)> watching{detail::ObserverRef(observers)...};
  const auto penalty = strengths_of(regularizer);
  if (!penalty || penalty->l1 > 0.0)
    throw Error("softmax is refined with smooth penalties", "none or l2", R::name);
  const SampleView samples = store.samples();
  require_samples_for(estimator, samples);
  const Targets& packed = store.targets();
  const List<float> values = checked_classes(packed.of(0));
  const Buffer<float> labels = detail::labels_as_packed(packed, data, values);
  const Objective<SquaredLoss> rows = objective_on(store, data);
  detail::check_samples(rows, samples);
  Buffer<std::int32_t> class_of(labels.size());
  for (Index i = 0; i < labels.size(); ++i)
    class_of[i] =
        static_cast<std::int32_t>(std::lower_bound(values.begin(), values.end(), labels[i]) - values.begin());
  const detail::SoftmaxProblem problem{rows, std::as_const(class_of).span(),
                                       static_cast<Index>(values.size()), penalty->l2};
  RefinedClasses result;
  result.refined = detail::refine_softmax<Estimator>(
      detail::kernels_for_store(store, active_isa(options.isa)), samples, problem, options, watching);
  if constexpr (requires { store.require_intact(); }) store.require_intact();
  result.model = class_model(result.refined, values, packed.statistics(0).offset);
  return result;
}

#if ZIPML_DEFINES

namespace detail {

ZIPML_FUNCTION Buffer<float> labels_as_packed(const Targets& packed, const Dataset& data,
                                              const List<float>& values) {
  const double offset = data.label_offset - packed.statistics(0).offset;
  Buffer<float> labels(data.labels.size());
  List<Index> surplus(values.size(), 0);  // of rows that are here and not there
  const auto count = [&](float label, Index by) {
    const auto at = std::lower_bound(values.begin(), values.end(), label);
    if (at == values.end() || *at != label)
      throw Error("the labels are not those that the store was packed with",
                  "the " + std::to_string(values.size()) + " classes of the store",
                  number_text(static_cast<double>(label) + packed.statistics(0).offset));
    surplus[static_cast<std::size_t>(at - values.begin())] += by;
  };
  for (const float label : packed.of(0)) count(label, -1);
  for (Index i = 0; i < labels.size(); ++i) {
    labels[i] = static_cast<float>(static_cast<double>(data.labels[i]) + offset);
    count(labels[i], 1);
  }
  if (labels.size() == packed.rows() &&
      std::any_of(surplus.begin(), surplus.end(), [](Index rows) { return rows != 0; }))
    throw Error("the labels are not those that the store was packed with",
                "as many rows of each class as the store has", "others");
  return labels;
}

}  // namespace detail

#endif

}  // namespace zipml::inline ZIPML_ABI
