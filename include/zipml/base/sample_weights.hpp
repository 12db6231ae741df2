#pragma once
/// \file
/// Room base: weights of samples: how much each row counts in the loss.

#include <algorithm>
#include <cmath>
#include <span>
#include <string>

#include <zipml/base/buffer.hpp>
#include <zipml/base/error.hpp>

namespace zipml::inline ZIPML_ABI {

/// Weights of mean 1 from those that a user gives for n rows: w_i n / sum w, so that the loss (1/n) sum_i w_i
/// l_i is as large as without weights and steps and penalties mean what they mean there. Empty where `given`
/// is empty or all are equal. Throws Error when their number is not n, when one is negative or not finite, or
/// when all are 0. O(n).
Buffer<float> sample_weights(std::span<const float> given, Index rows);

#if ZIPML_DEFINES

ZIPML_FUNCTION Buffer<float> sample_weights(std::span<const float> given, Index rows) {
  if (given.empty()) return {};
  if (static_cast<Index>(given.size()) != rows)
    throw Error("samples and weights differ in number", std::to_string(rows) + " weights",
                std::to_string(given.size()));
  double sum = 0.0;
  for (std::size_t i = 0; i < given.size(); ++i) {
    if (!(given[i] >= 0.0f) || !std::isfinite(given[i]))
      throw Error("the weight of a sample is out of range", "a finite number of at least 0",
                  number_text(given[i]) + " in row " + std::to_string(i + 1));
    sum += static_cast<double>(given[i]);
  }
  if (!(sum > 0.0)) throw Error("all samples have weight 0", "a weight above 0", "none");
  if (std::all_of(given.begin(), given.end(), [&](float w) { return w == given[0]; })) return {};
  Buffer<float> weights(rows);
  const double scale = static_cast<double>(rows) / sum;
  for (Index i = 0; i < rows; ++i)
    weights[i] = static_cast<float>(static_cast<double>(given[static_cast<std::size_t>(i)]) * scale);
  return weights;
}

#endif

}  // namespace zipml::inline ZIPML_ABI
