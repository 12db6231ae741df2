#pragma once
/// \file
/// Layer 3: what kernels of every instruction set do with the planes of a code: choose a width once, and find
/// the panels of a group.

#include <type_traits>

#include <zipml/kernels/kernel_policy.hpp>

namespace zipml::inline ZIPML_ABI::detail {

/// Calls f with the width of a code that is one plane, as visit_width does, and with 0 for other codes.
template <class F>
void visit_single(const PlaneList& planes, const F& f) {
  if (planes.count == 1 && planes[0].shift == 0) return visit_width(planes[0].width, f);
  f(std::integral_constant<int, 0>{});
}

/// Calls f with the width, as a constant, of a code of 3, 5, 6 or 7 bits, which is several planes; false for
/// other codes.
template <class F>
bool visit_several(const PlaneList& planes, const F& f) {
  if (planes.has_draw_plane) return false;
  switch (planes.code_bits) {
    case 3:
      return f(std::integral_constant<int, 3>{}), true;
    case 5:
      return f(std::integral_constant<int, 5>{}), true;
    case 6:
      return f(std::integral_constant<int, 6>{}), true;
    case 7:
      return f(std::integral_constant<int, 7>{}), true;
    default:
      return false;
  }
}

/// Calls f with the width of a code of 1 to 8 bits, and with whether a draw's own plane comes with it, as
/// constants; false for codes that may not fit a byte.
template <class F>
bool visit_bytes(const PlaneList& planes, const F& f) {
  const auto visit = [&](auto bits) {
    if (planes.has_draw_plane)
      f(bits, std::true_type{});
    else
      f(bits, std::false_type{});
    return true;
  };
  switch (planes.code_bits) {
    case 1:
      return visit(std::integral_constant<int, 1>{});
    case 2:
      return visit(std::integral_constant<int, 2>{});
    case 3:
      return visit(std::integral_constant<int, 3>{});
    case 4:
      return visit(std::integral_constant<int, 4>{});
    case 5:
      return visit(std::integral_constant<int, 5>{});
    case 6:
      return visit(std::integral_constant<int, 6>{});
    case 7:
      return visit(std::integral_constant<int, 7>{});
    default:
      return false;
  }
}

/// First panels of a group in each plane of a code.
struct GroupPanels {
  GroupPanels(const PackedView& view, const PlaneList& planes, Index group) {
    for (int p = 0; p < planes.count; ++p) plane[p] = view.group(planes[p], group);
  }
  const std::uint8_t* plane[max_planes] = {};
};

}  // namespace zipml::inline ZIPML_ABI::detail
