#pragma once
/// \file
/// Room estimators: which estimator may meet which loss and which store. The concept names are the first line
/// of the compiler's message when a combination is wrong.

#include <string>

#include <zipml/base/error.hpp>
#include <zipml/estimators/estimator.hpp>
#include <zipml/storage/sample_store.hpp>

namespace zipml::inline ZIPML_ABI {

/// An estimator that reads one draw, or one mean of draws, in one pair of weight 1.
template <class E>
concept OneDrawEstimator = BilinearEstimator<E> && E::draws == 1 && E::pairs.size() == 1;

/// Whether an estimator subtracts the variance of rounding from a loss that is not affine.
template <class Estimator, class L>
concept CorrectsLoss =
    !AffineLoss<L> && CorrectableLoss<L> && OneDrawEstimator<Estimator> && Estimator::corrected;

namespace detail {
template <class Estimator>
constexpr bool needs_two_classes() {
  if constexpr (requires { Estimator::needs_two_classes; }) return Estimator::needs_two_classes;
  return false;
}
}  // namespace detail

/// An estimator for the losses of two classes alone, where double sampling has a bias, says so.
template <class Estimator, class L>
concept SuitsLabels = !detail::needs_two_classes<Estimator>() || (L::classifies && !AffineLoss<L>);

/// An estimator that multiplies independent draws or subtracts their variance is unbiased only for a loss
/// whose derivative is affine in the margin (AffineLoss): least squares and ls-svm, not logistic or hinge. One that
/// subtracts a known variance takes a CorrectableLoss too (estimators/corrected_loss.hpp).
template <class Estimator, class L>
concept EstimatorSuitsLoss = GradientEstimator<Estimator> && Loss<L> && SuitsLabels<Estimator, L> &&
    (!Estimator::needs_affine_loss || AffineLoss<L> || CorrectsLoss<Estimator, L>);

/// A JointLoss reads the margins of one draw, and nothing is subtracted from it: rounding brings noise into the margins of
/// all classes at once, whose covariance no estimator here knows.
template <class Estimator, class L>
concept EstimatorSuitsJointLoss =
    OneDrawEstimator<Estimator> && JointLoss<L> && !Estimator::corrected && !Estimator::needs_affine_loss;

/// A store has to hold as many independent draws as the estimator reads. One that does not say how many at
/// compile time is asked when training begins (require_samples_for).
template <class Estimator, class Store>
concept StoreHasEnoughDraws = GradientEstimator<Estimator> && SampleStore<Store> &&(
    !requires { Store::draws; } || requires { requires Store::draws >= Estimator::draws; });

/// A store has to hold the variance that the estimator subtracts, at compile time or when training begins.
template <class Estimator, class Store>
concept StoreHasBias = GradientEstimator<Estimator> && SampleStore<Store> &&(
    !Estimator::corrected || !requires { Store::has_bias; } || requires { requires Store::has_bias; });

/// Throws Error when samples lack the draws or the bias terms that the estimator needs.
template <GradientEstimator Estimator>
void require_samples_for(const Estimator& estimator, const SampleView& samples) {
  if (samples.draws < Estimator::draws)
    throw Error(std::string("the samples hold too few draws for ") + estimator.name,
                std::to_string(Estimator::draws), std::to_string(samples.draws));
  if (Estimator::corrected && samples.bias == nullptr && samples.cols > 0)
    throw Error(std::string("the samples hold no bias terms for ") + estimator.name,
                "samples that were packed for a corrected estimator", "none");
}

}  // namespace zipml::inline ZIPML_ABI
