#pragma once
/// \file
/// Room training: where the gradients of several workers meet.

#include <cstdint>
#include <span>

#include <zipml/base/buffer.hpp>
#include <zipml/base/collective.hpp>
#include <zipml/training/channels.hpp>

namespace zipml::inline ZIPML_ABI {

/// Brings the workers of a fit together. Each trains on the same store with the same options and takes its
/// share of the rows of every pass.
///
/// Where margins are integers the sums of a pass are integers with one agreed scale, and those of its outliers are exact
/// (GradientSums), so that any number of workers trains the bits of one.
class Reducer : public Collective {
 public:
  /// Writes the sums of codes that symmetric_levels(bits) says, of one scale on all workers; -1 and 1 at 1 bit.
  virtual void sum_codes(std::span<const std::int8_t> mine, int bits, std::span<std::int32_t> total) = 0;
  /// The messages of all workers in the order of their ranks: gradients that were rounded, each in its own way.
  virtual List<Message> gather(const Message& mine) = 0;
};

}  // namespace zipml::inline ZIPML_ABI
