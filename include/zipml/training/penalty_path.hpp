#pragma once
/// \file
/// Room training: models for a path of penalties, from weak to strong, over one reading of the samples an epoch.

#include <cmath>
#include <span>
#include <string>
#include <type_traits>

#include <zipml/base/buffer.hpp>
#include <zipml/base/error.hpp>
#include <zipml/training/sgd.hpp>

namespace zipml::inline ZIPML_ABI {

/// The most models that are trained over one reading.
inline constexpr Index most_models = 1000;

namespace detail {

/// Throws Error unless there are 1 to most_models of what is counted.
inline void check_model_count(Index count, const char* what) {
  if (count < 1 || count > most_models)
    throw Error(std::string("the number of ") + what + " is out of range",
                "1 to " + std::to_string(most_models), std::to_string(count));
}

}  // namespace detail

/// `count` strengths from `from` to `to`, each the same multiple of the one before. Throws Error unless 0 < from <= to
/// and 1 <= count <= 1000 (one strength: from = to).
///
///     for (const double l2 : zipml::geometric_strengths(1e-6, 1.0, 20)) ...
List<double> geometric_strengths(double from, double to, int count);

/// Trains a model for each penalty, all of them on the labels of the store, with one step and one correction: those that
/// are safe for the weakest penalty, whose model is the one of Sgd::fit. Throws Error for no penalties or more than 1000, and as Sgd::fit.
///
///     zipml::List<zipml::L2> penalties;
///     for (const double l2 : zipml::geometric_strengths(1e-6, 1.0, 20)) penalties.emplace_back(static_cast<float>(l2));
///     const zipml::Sgd sgd{zipml::LogisticLoss{}, zipml::L2{0.0f}};
///     const auto fits = zipml::fit_path(sgd, store, zipml::naive, penalties);
template <Loss L, Regularizer R, class Step, SampleStore Store, GradientEstimator Estimator,
          class... Observers>
List<Fit> fit_path(const Sgd<L, R, Step>& sgd, const Store& store, Estimator estimator,
                   std::type_identity_t<std::span<const R>> penalties, const FitOptions& options = {},
                   Observers&&... observers) {
  detail::check_model_count(static_cast<Index>(penalties.size()), "penalties");
  List<Variant<R>> variants;
  for (const R& penalty : penalties) variants.push_back({penalty});
  return sgd.fit_variants(store, store.targets(), variants, estimator, options, observers...);
}

#if ZIPML_DEFINES

ZIPML_FUNCTION List<double> geometric_strengths(double from, double to, int count) {
  if (!(from > 0.0) || !(to >= from) || !std::isfinite(to))
    throw Error("the ends of a path are out of range", "0 < from <= to",
                number_text(from) + " and " + number_text(to));
  if (count < 1 || count > most_models || (count == 1 && from != to))
    throw Error("the strengths of a path are out of range", "2 to " + std::to_string(most_models),
                std::to_string(count));
  List<double> strengths;
  for (int k = 0; k < count; ++k)
    strengths.push_back(k == 0           ? from
                        : k == count - 1 ? to
                                         : from * std::pow(to / from, static_cast<double>(k) / (count - 1)));
  return strengths;
}

#endif

}  // namespace zipml::inline ZIPML_ABI
