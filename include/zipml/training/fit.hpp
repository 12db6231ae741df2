#pragma once
/// \file
/// Room training: what a training run takes and returns.

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include <zipml/base/buffer.hpp>
#include <zipml/base/error.hpp>
#include <zipml/model/linear_model.hpp>
#include <zipml/storage/sample_store.hpp>
#include <zipml/training/channels.hpp>
#include <zipml/training/reducer.hpp>

namespace zipml::inline ZIPML_ABI {

class Refetcher;

/// What to do when the quadratic form of an unbiased estimator, plus penalty, has a negative direction: few
/// bits, or few rows for a column. Training still works while the step is small and the epochs are few, but
/// there is no minimum to go to.
enum class Safety {
  warn,    ///< train as asked; the status says indefinite
  shrink,  ///< subtract only a share of the variance, the largest that is safe: a bias towards naive
  ridge,   ///< add a ridge penalty, the smallest that is safe
};

/// Named options of `Sgd::fit`.
struct FitOptions {
  int epochs = 20;
  Index batch = 64;        ///< rows of a minibatch
  bool average = true;     ///< tail averaging of the weights
  double tolerance = 0.0;  ///< > 0: converged when an epoch moves no weight by more than this; 0: all epochs
  Channel model = {};      ///< how the model reaches the gradient device: {8} is 8 bits, the integer path
  Channel gradient = {};   ///< how gradients come back
  Safety safety = Safety::warn;  ///< what to do when the rounded samples define no convex problem. With a
                                 ///< pilot always shrink: that makes no bias there
  std::optional<std::uint64_t> seed =
      std::nullopt;   ///< of the batch order and the channels; the store's when not given
  bool pilot = true;  ///< train the difference from the store's pilot, where it fits (storage/pilot.hpp)
  int threads = 1;    ///< for large batches of packed samples; 0: all of the machine. The same bits for any
  std::string isa = {};  ///< "scalar", "avx2", ...; empty: ZIPML_ISA, else the best of this machine
  /// Standardised weights to begin with, d + 1 for each model, the intercept last; empty: the pilot,
  /// where one is used, else 0.
  std::span<const double> start = {};
  /// A linear term l of the objective, <l, x> + l_d c with the intercept's entry last: d + 1 entries for each
  /// model, in standardised units; empty: none. The model store adds it, so that it travels through no
  /// channel.
  std::span<const double> linear_term = {};
  /// Full-precision rows to decide by where a hinge loss has its kink; null: packed rows decide
  /// (training/refetching.hpp). For estimators that read one draw; then without a pilot.
  const Refetcher* refetcher = nullptr;
  /// Where the gradients of several workers meet, each of which runs this fit; null: there is one.
  Reducer* reducer = nullptr;
  /// Batches that workers take steps on by themselves, each on its share, before they agree on the mean of their models, whose
  /// changes travel through the gradient channel (training/local_steps.hpp); 1: gradients meet in every batch. More exchange less,
  /// and end elsewhere, the further the more workers and steps there are.
  int local_steps = 1;
};

/// How a training run ended.
enum class FitStatus {
  completed,  ///< all epochs were used
  converged,  ///< the weights stopped moving
  stopped,    ///< by an observer
  diverged,   ///< the weights ran away or are worse than none: no success
  out_of_range,  ///< trained, but more than 1 % of the margins are beyond the range of the polynomial that stands for the
                 ///< loss: a warning
  indefinite,  ///< trained, but the quadratic form of the rounded samples has a negative direction, so that
               ///< the result depends on when it stopped, or rounding is more than a corrected loss undoes: a
               ///< warning
};

const char* to_string(FitStatus status);

/// A training run's result.
struct Fit {
  LinearModel model;       ///< in the user's units
  Buffer<double> weights;  ///< standardised
  double intercept = 0.0;  ///< standardised
  FitStatus status = FitStatus::completed;
  std::string advice;              ///< a sentence on what to do; empty when all is well
  int epochs = 0;                  ///< that were used
  double step = 0.0;               ///< of the first iteration
  double seconds = 0.0;            ///< of training: measuring the step and all epochs
  double seconds_per_epoch = 0.0;  ///< mean over the epochs
  double quantized_loss =
      0.0;  ///< estimate of the loss from the store alone, corrected where the estimator can
  std::string isa;
  Traffic samples_moved;  ///< in all epochs: codes apart from levels, scales and outliers
  Traffic model_moved;    ///< the same of the channels, payload and scales
  Traffic gradient_moved;

  /// Smallest eigenvalue of the symmetric part of the realised matrix plus penalty, as estimated before
  /// training (training/definiteness.hpp), for estimators whose matrix may be indefinite. Of double sampling,
  /// a negative one is a warning only: its test is sufficient, not necessary.
  std::optional<double> smallest_eigenvalue;
  List<double> refetched;  ///< share of the rows that were fetched in each epoch, where there is a refetcher
  Index pilot_rows = 0;    ///< rows that the pilot was fitted to; 0: trained without one
  std::string without_pilot = {};  ///< why the pilot of the store was not used, where there is one
  double kept_correction = 1.0;    ///< share of the correction that Safety::shrink has left
  double added_ridge = 0.0;        ///< that Safety::ridge has added

  bool success() const { return status != FitStatus::diverged; }
};

namespace detail {

/// What a user should do about how a fit ended; empty when all is well.
std::string advice_for(const Fit& fit, bool indefinite);
/// Where a share of the margins is beyond the range of a polynomial.
std::string advice_for_range(double share, double range);
/// And where rounding brings more noise into margins than a corrected loss can undo.
std::string advice_for_noise(double variance);

}  // namespace detail

#if ZIPML_DEFINES

ZIPML_FUNCTION const char* to_string(FitStatus status) {
  switch (status) {
    case FitStatus::completed:
      return "completed";
    case FitStatus::converged:
      return "converged";
    case FitStatus::stopped:
      return "stopped";
    case FitStatus::diverged:
      return "diverged";
    case FitStatus::out_of_range:
      return "out-of-range";
    case FitStatus::indefinite:
      return "indefinite";
  }
  return "unknown";
}

namespace detail {

ZIPML_FUNCTION std::string advice_for(const Fit& fit, bool indefinite) {
  const std::string remedies =
      "take more bits, outliers, a ridge penalty, Safety::shrink, or naive with nearest rounding";
  if (fit.status == FitStatus::diverged && indefinite)
    return "the rounded samples define no convex problem, and the weights ran away along it: " + remedies;
  if (fit.status == FitStatus::diverged)
    return "the loss grew instead of falling at step " + number_text(static_cast<float>(fit.step)) +
           ": take a smaller step or, when this was the automatic one, more bits or a ridge penalty";
  if (fit.status == FitStatus::indefinite)
    return "the rounded samples define no convex problem (smallest eigenvalue " +
           number_text(static_cast<float>(*fit.smallest_eigenvalue)) +
           "), so that more epochs may be worse: " + remedies;
  if (fit.pilot_rows > 0) return {};  // whatever has become of the matrix, the solution has no bias from it
  if (fit.kept_correction < 1.0)
    return "only " + number_text(static_cast<float>(fit.kept_correction)) +
           " of the variance was corrected, to stay convex: a bias towards smaller weights remains";
  if (fit.added_ridge > 0.0)
    return "a ridge of " + number_text(static_cast<float>(fit.added_ridge)) +
           " was added, to stay convex: a bias towards smaller weights remains";
  return {};
}

ZIPML_FUNCTION std::string advice_for_range(double share, double range) {
  return number_text(static_cast<float>(100.0 * share)) + " % of the margins are beyond " +
         number_text(range) +
         ", where the polynomial is not near the loss: take a larger range, a higher degree, or a ridge "
         "penalty";
}

ZIPML_FUNCTION std::string advice_for_noise(double variance) {
  return "rounding brings noise of variance " + number_text(static_cast<float>(variance)) +
         " into the margins, more than a corrected loss undoes: take more bits, a pilot, or naive with "
         "nearest "
         "rounding on Lloyd-Max levels";
}

}  // namespace detail

#endif

}  // namespace zipml::inline ZIPML_ABI
