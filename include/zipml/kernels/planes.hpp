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

/// First panels of a group in each plane of a code.
struct GroupPanels {
  GroupPanels(const PackedView& view, const PlaneList& planes, Index group) {
    for (int p = 0; p < planes.count; ++p) plane[p] = view.group(planes[p], group);
  }
  const std::uint8_t* plane[max_planes] = {};
};

}  // namespace zipml::inline ZIPML_ABI::detail
