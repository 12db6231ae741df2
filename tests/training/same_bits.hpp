#pragma once
// Whether two fits have the same weights, to the last bit.

#include <algorithm>
#include <zipml/training/fit.hpp>

inline bool same_bits(const zipml::Fit& a, const zipml::Fit& b) {
  return std::equal(a.weights.begin(), a.weights.end(), b.weights.begin(), b.weights.end()) &&
         a.intercept == b.intercept;
}
