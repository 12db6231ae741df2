#pragma once
/// \file
/// Room base: turns a run-time width into a template argument.

#include <string>
#include <type_traits>
#include <utility>

#include <zipml/base/error.hpp>

namespace zipml::inline ZIPML_ABI {

/// Calls f(std::integral_constant<int, bits>{}) and returns its result; f must return one type for all
/// widths, as `quantize` does for 1 to 8 bits. Throws Error for other widths.
///
///     auto store = zipml::visit_bits(4, [&](auto b) { return zipml::quantize<b()>(data, zipml::naive); });
template <class F>
auto visit_bits(int bits, F&& f) {
  switch (bits) {
    case 1:
      return f(std::integral_constant<int, 1>{});
    case 2:
      return f(std::integral_constant<int, 2>{});
    case 3:
      return f(std::integral_constant<int, 3>{});
    case 4:
      return f(std::integral_constant<int, 4>{});
    case 5:
      return f(std::integral_constant<int, 5>{});
    case 6:
      return f(std::integral_constant<int, 6>{});
    case 7:
      return f(std::integral_constant<int, 7>{});
    case 8:
      return f(std::integral_constant<int, 8>{});
    default:
      throw Error("samples have no such width", "1 to 8 bits", std::to_string(bits));
  }
}

}  // namespace zipml::inline ZIPML_ABI
