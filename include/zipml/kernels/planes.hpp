#pragma once
/// \file
/// Room kernels: what kernels of every instruction set do with the planes of a code: choose a width once, and
/// find the panels of a group.

#include <type_traits>

#include <zipml/base/index.hpp>
#include <zipml/kernels/kernel_policy.hpp>

namespace zipml::inline ZIPML_ABI::detail {

/// Calls f with the width of a code that is one plane, as visit_width does, and with 0 for other codes.
template <class F>
void visit_single(const PlaneList& planes, const F& f) {
  if (planes.count == 1 && planes[0].shift == 0) return visit_width(planes[0].width, f);
  f(std::integral_constant<int, 0>{});
}

/// Calls f with the width of a code, First to Last, as a constant; false for other widths.
template <int First, int Last, class F>
bool visit_code_bits(int bits, const F& f) {
  if constexpr (First > Last) {
    return false;
  } else {
    if (bits != First) return visit_code_bits<First + 1, Last>(bits, f);
    f(std::integral_constant<int, First>{});
    return true;
  }
}

/// The same for a code of several planes, 3, 5, 6 or 7 bits; false for other codes.
template <class F>
bool visit_several(const PlaneList& planes, const F& f) {
  if (planes.has_draw_plane || planes.count < 2) return false;
  return visit_code_bits<3, 7>(planes.code_bits, [&](auto bits) {
    if constexpr (bits() != 4) f(bits);
  });
}

/// Calls f with the width of a code of 1 to 7 bits, and with whether a draw's own plane comes with it, as
/// constants; false for codes that may not fit a byte.
template <class F>
bool visit_bytes(const PlaneList& planes, const F& f) {
  return visit_code_bits<1, 7>(planes.code_bits, [&](auto bits) {
    if (planes.has_draw_plane)
      f(bits, std::true_type{});
    else
      f(bits, std::false_type{});
  });
}

/// First panels of a group in each plane of a code.
struct GroupPanels {
  GroupPanels() = default;
  GroupPanels(const PackedView& view, const PlaneList& planes, Index group) {
    for (int p = 0; p < planes.count; ++p) plane[p] = view.group(planes[p], group);
  }
  const std::uint8_t* plane[max_planes] = {};
};

}  // namespace zipml::inline ZIPML_ABI::detail
