#pragma once
/// \file
/// Room storage: what packing knows of the full-precision problem and packed samples no longer tell: a model
/// near the optimum, and the exact gradient there.

#include <cstdint>
#include <span>

#include <zipml/base/buffer.hpp>
#include <zipml/base/fingerprint.hpp>

namespace zipml::inline ZIPML_ABI {

/// A pilot: weights w0 that were fitted to a random sample of the rows, and the gradient of a loss
/// over *all* rows there, summed in full precision while these were rounded (a control variate). Training
/// then solves
///
///     grad F_q(x) - grad F_q(w0) + grad F(w0) = 0
///
/// on the packed samples: whatever rounding did to their matrix multiplies x - w0 alone. With the realised
/// matrix P, the exact one H and the optimum x*, the solution is x - x* = (I - P^-1 H) (w0 - x*). One of
/// least squares serves any affine loss whose targets are an affine function of the labels, one of another loss that
/// loss alone, with P and H its second derivatives between w0 and the solution; the penalty is outside of it. Weights
/// of the samples are in all sums.
///
/// Columns are standardised, labels in the user's units; of another loss as it wants them, and r_i = l'(a_i'w0 + c0).
struct Pilot {
  Index rows = 0;            ///< that w0 was fitted to; 0: there is no pilot
  Buffer<float> weights;     ///< d
  double intercept = 0.0;    ///< c0
  Buffer<double> gradient;   ///< d + 1: (1/n) sum_i r_i (a_i, 1) with r_i = a_i'w0 + c0 - y_i
  double squares = 0.0;      ///< (1/n) sum_i r_i^2; of another loss 2/n times the sum of its values
  std::uint64_t labels = 0;  ///< label_fingerprint() of the labels that it belongs to, in store order
  std::uint64_t loss = 0;    ///< loss_fingerprint() of the loss that it is of; 0: least squares

  bool empty() const { return rows == 0; }
};

/// Tells lists of labels apart: other labels, or the same in another order, give another number, accidents
/// aside. O(n).
inline std::uint64_t label_fingerprint(std::span<const float> labels) {
  Fingerprint all(labels.size());
  for (const float label : labels) all.add(label);
  return all.value();
}

}  // namespace zipml::inline ZIPML_ABI
