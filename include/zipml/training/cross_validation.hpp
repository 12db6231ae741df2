#pragma once
/// \file
/// Room training: cross-validation over one packed store. Rows of a store are in random order, so that its folds are
/// ranges of rows; all folds of all penalties are models over one reading of the samples an epoch.

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>

#include <zipml/analysis/objective.hpp>
#include <zipml/io/hold_out.hpp>
#include <zipml/training/penalty_path.hpp>

namespace zipml::inline ZIPML_ABI {

/// Named options of cross_validate().
struct FoldOptions {
  int folds = 5;
  /// The rows that the store was packed from: losses of held-out rows, and their gradient at a pilot, are then exact. Null:
  /// as the estimator tells them from the rounded rows, which is unbiased up to second order where it corrects. Where it
  /// does not, strong penalties look better than they are, and with a pilot weak ones, since a share of what rounding has
  /// changed in the gradient of held-out rows stays in the model.
  const Dataset* exact = nullptr;
};

/// What cross_validate() returns, an entry for each penalty.
struct CrossValidation {
  List<double> losses;  ///< mean loss of held-out rows, without penalty; infinite where a fold diverged
  List<double> standard_errors;  ///< of these means: deviation between folds over the root of their number
  List<List<Fit>> fits;          ///< of each penalty, a fit for each fold

  std::size_t best = 0;  ///< of the least loss
  /// The strongest penalty, l2 + l1, whose loss is within one standard error of the least (Breiman, Friedman, Olshen,
  /// Stone 1984, section 3.4.3).
  std::size_t simplest = 0;
};

/// Fold k of the rows of a store.
inline RowRange fold_of(Index rows, int folds, int k) {
  const auto edge = [&](int e) { return rows / folds * e + (std::min)(rows % folds, Index{e}); };
  return {edge(k), edge(k + 1) - edge(k)};
}

/// The loss of held-out rows for each penalty: K models for each, of which model k is trained without fold k. An epoch
/// reads the samples once for all of them. Models are trained as fit_variants says, with the pilot of the store. Throws
/// Error for less than 2 folds or more than rows, more than 1000 models, and as Sgd::fit.
///
///     const auto found = zipml::cross_validate(sgd, store, zipml::variance_corrected, penalties, {.exact = &train});
///     const auto fit = sgd.with(penalties[found.best]).fit(store);
template <Loss L, Regularizer R, class Step, SampleStore Store, GradientEstimator Estimator,
          class... Observers>
CrossValidation cross_validate(const Sgd<L, R, Step>& sgd, const Store& store, Estimator estimator,
                               std::type_identity_t<std::span<const R>> penalties,
                               const FoldOptions& how = {}, const FitOptions& options = {},
                               Observers&&... observers);

namespace detail {

/// Losses of models on rows of a store, as its estimator tells them: the targets of models that stand side by side follow each
/// other, and begin anew behind the last.
template <GradientEstimator Estimator, class L, SampleStore Store>
List<double> losses_of_fold(const Store& store, const Targets& targets, const Estimator& estimator,
                            const L& loss, std::span<const Fit> fits, RowRange rows,
                            const FitOptions& options) {
  const SampleView samples = store.samples();
  const int together = targets.models();
  List<LabelMap> maps;
  for (int k = 0; k < together; ++k) maps.push_back(loss.label_map(targets.statistics(k)));
  List<int> of_models;
  for (std::size_t m = 0; m < fits.size(); ++m) of_models.push_back(static_cast<int>(m) % together);
  const MappedTargets labels(targets, maps, of_models);
  ThreadTeam team(thread_count(options.threads));
  GradientDevice device(kernels_for_store(store, active_isa(options.isa)), samples, labels,
                        {.models = static_cast<int>(fits.size()), .team = &team});
  const Index width = padded(samples.cols);
  Buffer<float> x(width * static_cast<Index>(fits.size())), c(static_cast<Index>(fits.size()));
  for (std::size_t m = 0; m < fits.size(); ++m) {
    const Index at = static_cast<Index>(m);
    for (Index j = 0; j < samples.cols; ++j) x[at * width + j] = static_cast<float>(fits[m].weights[j]);
    c[at] = static_cast<float>(fits[m].intercept);
  }
  Buffer<float> correction(Estimator::corrected && samples.bias != nullptr ? samples.cols : 0);
  std::copy_n(samples.bias, correction.size(), correction.data());
  const SharedRows shared{rows, options.reducer};
  if constexpr (JointLoss<L>) {
    return joint_losses_on(device, samples.cols, shared, loss, together, x.data(), c.data());
  } else if constexpr (CorrectsLoss<Estimator, L>) {
    device.set_correction(correction);
    return rowwise_losses_on(device, samples.cols, shared, 0.0, Buffer<float>(), x.data(), c.data(),
                             [&](int m) { return corrected_loss(loss, device.margin_variance(m)); });
  } else {
    double slope = 0.0;
    if constexpr (AffineLoss<L>) slope = static_cast<double>(L::slope);
    return losses_on(device, samples.cols, shared, estimator, loss, slope, correction, x.data(), c.data());
  }
}

/// A fold of the rows that a store was packed from, in ascending order.
template <SampleStore Store>
Dataset exact_fold(const Store& store, const Dataset& data, RowRange rows) {
  if (data.rows != store.targets().rows())
    throw Error("the exact rows are not those of the store", std::to_string(store.targets().rows()) + " rows",
                std::to_string(data.rows));
  List<Index> ids(static_cast<std::size_t>(rows.count));
  const RowPlacement placement(store.seed(), data.rows);
  placement.row_ids(rows.first, rows.count, ids.data());
  std::sort(ids.begin(), ids.end());
  return select_rows(data, ids);
}

/// The mean gradient of an objective without penalty at the weights of an anchor, d + 1 entries. O(n d).
template <Loss L>
Buffer<double> gradient_at(const Objective<L>& objective, const Anchor& anchor) {
  const Index n = objective.rows(), d = objective.cols();
  Buffer<double> gradient(d + 1), row(d);
  MatrixRows row_of(objective.features());
  for (Index i = 0; i < n; ++i) {
    const float* const values = row_of(i);
    double z = anchor.intercept();
    for (Index j = 0; j < d; ++j) {
      row[j] = objective.standardise(values[j], j);
      z += row[j] * anchor.weight(j);
    }
    double residual = 0.0;
    if constexpr (AffineLoss<L>)
      residual = static_cast<double>(L::slope) * (z - target_of(objective.loss(), objective.label(i)));
    else if constexpr (ConvexLoss<L>)
      residual = objective.loss().derivatives(z, objective.label(i)).first;
    residual *= objective.weight(i) / static_cast<double>(n);
    for (Index j = 0; j < d; ++j) gradient[j] += residual * row[j];
    gradient[d] += residual;
  }
  return gradient;
}

/// What the rows of a fold bring to the gradient of a pilot, as a mean over them: weights of mean 1 over all rows are others
/// over these, so that the mean gradient is multiplied with the mean weight.
template <Loss L, SampleStore Store>
Buffer<double> gradient_of_fold(const Store& store, const Dataset& data, const L& loss, RowRange rows,
                                const Anchor& anchor) {
  const Dataset held_out = exact_fold(store, data, rows);
  Buffer<double> gradient = gradient_at(objective_on(store, held_out, loss), anchor);
  const float* const weights = store.samples().weights;
  if (weights == nullptr) return gradient;
  double mean = 0.0;
  for (Index i = rows.first; i < rows.first + rows.count; ++i)
    mean += static_cast<double>(weights[i]) / static_cast<double>(rows.count);
  for (double& v : gradient) v *= mean;
  return gradient;
}

/// Throws Error for less than 2 folds, or more than rows.
void check_folds(int folds, Index rows);

/// l2 + l1 of each penalty; 0 of one that has neither.
template <Regularizer R>
List<double> strengths_of_all(std::span<const R> penalties) {
  List<double> strengths;
  for (const R& penalty : penalties) {
    const PenaltyStrengths strength = strengths_of(penalty).value_or(PenaltyStrengths{});
    strengths.push_back(strength.l2 + strength.l1);
  }
  return strengths;
}

/// Means and errors from losses[fold][penalty] and fits[penalty], as many of each fold.
CrossValidation summed_up(List<List<Fit>> fits, const List<List<double>>& losses,
                          const List<double>& strengths);

}  // namespace detail

template <Loss L, Regularizer R, class Step, SampleStore Store, GradientEstimator Estimator,
          class... Observers>
CrossValidation cross_validate(const Sgd<L, R, Step>& sgd, const Store& store, Estimator estimator,
                               std::type_identity_t<std::span<const R>> penalties, const FoldOptions& how,
                               const FitOptions& options, Observers&&... observers) {
  const Index rows = store.targets().rows();
  detail::check_folds(how.folds, rows);
  detail::check_model_count(static_cast<Index>(penalties.size()) * how.folds, "models");
  Anchor anchor;
  if (options.pilot && how.exact != nullptr)
    anchor = anchor_for<Estimator>(store.samples().pilot, sgd.loss(), store.targets());
  List<Buffer<double>> gradients(static_cast<std::size_t>(how.folds));
  List<Variant<R>> variants;
  for (int k = 0; k < how.folds; ++k) {
    const RowRange fold = fold_of(rows, how.folds, k);
    Buffer<double>& gradient = gradients[static_cast<std::size_t>(k)];
    if (anchor.used()) gradient = detail::gradient_of_fold(store, *how.exact, sgd.loss(), fold, anchor);
    for (const R& penalty : penalties) variants.push_back({penalty, 0, fold, std::as_const(gradient).span()});
  }
  List<Fit> all = sgd.fit_variants(store, store.targets(), variants, estimator, options, observers...);
  List<List<double>> losses;
  List<List<Fit>> fits(penalties.size());
  for (int k = 0; k < how.folds; ++k) {
    const std::span<Fit> of_fold(all.data() + static_cast<std::size_t>(k) * penalties.size(),
                                 penalties.size());
    const RowRange fold = fold_of(rows, how.folds, k);
    if (how.exact != nullptr) {
      const Dataset held_out = detail::exact_fold(store, *how.exact, fold);
      const Objective<L> objective = objective_on(store, held_out, sgd.loss());
      losses.emplace_back();
      for (const Fit& fit : of_fold) losses.back().push_back(objective(fit.weights.span(), fit.intercept));
    } else {
      losses.push_back(
          detail::losses_of_fold(store, store.targets(), estimator, sgd.loss(), of_fold, fold, options));
    }
    for (std::size_t p = 0; p < penalties.size(); ++p) fits[p].push_back(std::move(of_fold[p]));
  }
  return detail::summed_up(std::move(fits), losses, detail::strengths_of_all(penalties));
}

#if ZIPML_DEFINES

namespace detail {

ZIPML_FUNCTION void check_folds(int folds, Index rows) {
  if (rows < 2) throw Error("cross-validation holds out rows", "at least 2 rows", std::to_string(rows));
  if (folds < 2 || folds > rows)
    throw Error("the number of folds is out of range", "2 to " + std::to_string(rows), std::to_string(folds));
}

ZIPML_FUNCTION CrossValidation summed_up(List<List<Fit>> fits, const List<List<double>>& losses,
                                         const List<double>& strengths) {
  CrossValidation result;
  const auto folds = static_cast<double>(losses.size());
  for (std::size_t p = 0; p < fits.size(); ++p) {
    double mean = 0.0, squares = 0.0;
    const std::size_t together = fits[p].size() / losses.size();
    for (std::size_t k = 0; k < losses.size(); ++k) {
      const auto first = fits[p].begin() + static_cast<std::ptrdiff_t>(k * together);
      const bool good = std::all_of(first, first + static_cast<std::ptrdiff_t>(together),
                                    [](const Fit& fit) { return fit.success(); });
      mean += (good ? losses[k][p] : std::numeric_limits<double>::infinity()) / folds;
    }
    for (const List<double>& of_fold : losses) squares += (of_fold[p] - mean) * (of_fold[p] - mean);
    result.losses.push_back(mean);
    result.standard_errors.push_back(std::isfinite(mean) ? std::sqrt(squares / (folds - 1.0) / folds) : 0.0);
  }
  result.fits = std::move(fits);
  const auto least = std::min_element(result.losses.begin(), result.losses.end());
  result.best = result.simplest = static_cast<std::size_t>(least - result.losses.begin());
  const double bound = *least + result.standard_errors[result.best];
  for (std::size_t p = 0; p < result.losses.size(); ++p)
    if (result.losses[p] <= bound && strengths[p] > strengths[result.simplest]) result.simplest = p;
  return result;
}

}  // namespace detail

#endif

}  // namespace zipml::inline ZIPML_ABI
