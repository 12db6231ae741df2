#pragma once
/// \file
/// Room training: where the gradients of several workers meet.

#include <cstdint>
#include <span>

#include <zipml/base/buffer.hpp>
#include <zipml/training/channels.hpp>

namespace zipml::inline ZIPML_ABI {

/// Brings the workers of a fit together. Each trains on the same store with the same options and takes its
/// share of the rows of every pass, so that each call happens on every worker, in the same order and with
/// spans of the same size; each ends with the same values everywhere.
///
/// Where margins are integers the sums of a pass are integers with one agreed scale, so that any number of
/// workers trains the bits of one, but for outliers, whose corrections are floats.
class Reducer {
 public:
  virtual ~Reducer() = default;
  virtual int workers() const = 0;
  virtual int rank() const = 0;  ///< of this worker, from 0

  /// The largest of what the workers have: the range of integer residuals.
  virtual float largest(float mine) = 0;
  /// Replaces what this worker has by the sum over the workers, formed in the order of their ranks.
  virtual void sum(std::span<std::int32_t> mine) = 0;
  virtual void sum(std::span<float> mine) = 0;
  virtual void sum(std::span<double> mine) = 0;
  /// The messages of all workers in the order of their ranks: gradients that were rounded.
  virtual List<Message> gather(const Message& mine) = 0;
};

}  // namespace zipml::inline ZIPML_ABI
