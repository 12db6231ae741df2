#pragma once
/// \file
/// Layer 6: what a training run takes and returns.

#include <cstdint>
#include <optional>
#include <string>

#include <zipml/model/linear_model.hpp>
#include <zipml/storage/sample_store.hpp>

namespace zipml::inline ZIPML_ABI {

/// Named options of `Sgd::fit`.
struct FitOptions {
  int epochs = 20;
  Index batch = 64;        ///< rows of a minibatch
  bool average = true;     ///< tail averaging of the weights
  double tolerance = 0.0;  ///< > 0: converged when an epoch moves no weight by more than this; 0: all epochs
  int model_bits = 32;     ///< 1..8: integer path, see gradient_device.hpp
  std::optional<std::uint64_t> seed =
      std::nullopt;      ///< of the batch order and the channels; the store's when not given
  std::string isa = {};  ///< "scalar", "avx2", ...; empty: ZIPML_ISA, else the best of this machine
};

/// How a training run ended.
enum class Status {
  completed,   ///< all epochs were used
  converged,   ///< the weights stopped moving
  stopped,     ///< by an observer
  diverged,    ///< the step was too large
  indefinite,  ///< the quadratic form of the rounded samples has a negative direction: too few bits for this
               ///< estimator
};

inline const char* to_string(Status status) {
  switch (status) {
    case Status::completed:
      return "completed";
    case Status::converged:
      return "converged";
    case Status::stopped:
      return "stopped";
    case Status::diverged:
      return "diverged";
    case Status::indefinite:
      return "indefinite";
  }
  return "unknown";
}

/// A training run's result.
struct Fit {
  LinearModel model;       ///< in the user's units
  Buffer<double> weights;  ///< standardised
  double intercept = 0.0;  ///< standardised
  Status status = Status::completed;
  std::string advice;              ///< a sentence on what to do; empty when all is well
  int epochs = 0;                  ///< that were used
  double step = 0.0;               ///< of the first iteration
  double seconds = 0.0;            ///< of training: measuring the step and all epochs
  double seconds_per_epoch = 0.0;  ///< mean over the epochs
  double quantized_loss =
      0.0;  ///< estimate of the loss from the store alone, corrected where the estimator can
  std::string isa;

  bool success() const { return status != Status::diverged && status != Status::indefinite; }
};

}  // namespace zipml::inline ZIPML_ABI
