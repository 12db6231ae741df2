#pragma once
/// \file
/// Room base: the index type, and sizes that are multiplied with a look at overflow.

#include <cstddef>
#include <limits>
#include <string>

#include <zipml/base/error.hpp>

namespace zipml::inline ZIPML_ABI {

/// Signed: counts rows, columns and bytes.
using Index = std::ptrdiff_t;

/// n rounded up to a multiple of `unit`.
constexpr Index round_up(Index n, Index unit) { return (n + unit - 1) / unit * unit; }

/// a * b, or an Error that names `what` when the product does not fit: sizes from files are multiplied with
/// this.
inline Index checked_product(Index a, Index b, const char* what) {
  if (a < 0 || b < 0 || (b != 0 && a > (std::numeric_limits<Index>::max)() / b))
    throw Error(std::string(what) + " is too large to hold", "a size that fits memory",
                std::to_string(a) + " x " + std::to_string(b));
  return a * b;
}

}  // namespace zipml::inline ZIPML_ABI
