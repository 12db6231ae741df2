#pragma once
/// \file
/// Room estimators: which estimator may meet which loss and which store. The concept names are the first line
/// of the compiler's message when a combination is wrong.

#include <zipml/estimators/estimators.hpp>
#include <zipml/storage/sample_store.hpp>

namespace zipml::inline ZIPML_ABI {

/// An estimator that multiplies independent draws or subtracts their variance is unbiased only for a loss
/// whose derivative is affine in the margin (AffineLoss): least squares and ls-svm, not logistic or hinge.
template <class Estimator, class L>
concept EstimatorSuitsLoss = GradientEstimator<Estimator> && Loss<L> &&
    (!Estimator::needs_affine_loss || AffineLoss<L>);

/// A store has to hold as many independent draws as the estimator reads.
template <class Estimator, class Store>
concept StoreHasEnoughDraws = GradientEstimator<Estimator> && SampleStore<Store> &&
    (Store::draws >= Estimator::draws);

/// A store has to hold the variance that the estimator subtracts.
template <class Estimator, class Store>
concept StoreHasBias = GradientEstimator<Estimator> && SampleStore<Store> &&
    (!Estimator::corrected || requires { requires Store::EncodingType::has_bias; });

}  // namespace zipml::inline ZIPML_ABI
