#pragma once
/// \file
/// Room estimators: a store and the estimator that it was packed for.

#include <utility>

#include <zipml/estimators/estimator.hpp>
#include <zipml/storage/sample_store.hpp>

namespace zipml::inline ZIPML_ABI {

/// A store together with the gradient estimator that it was packed for, which `Sgd::fit` then uses.
template <class Estimator, SampleStore Store>
struct StoreFor : Store {
  using DefaultEstimator = Estimator;
  explicit StoreFor(Store store) : Store(std::move(store)) {}
};

}  // namespace zipml::inline ZIPML_ABI
