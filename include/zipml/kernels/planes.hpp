#pragma once
/// \file
/// Room kernels: what kernels of every instruction set do with the planes of a code: choose a width once, and
/// find the panels of a group.
///
/// What chooses a width takes a set of codes (code_set.hpp): widths outside it are not instantiated, and are
/// refused at run time. The kernels behind it know nothing of the set, so that a program that uses several
/// sets has each kernel once.

#include <type_traits>

#include <zipml/base/index.hpp>
#include <zipml/kernels/code_set.hpp>
#include <zipml/kernels/kernel_policy.hpp>

namespace zipml::inline ZIPML_ABI::detail {

/// Calls f with Value as a constant if that is `value`, and if there is such a case.
template <bool Exists, int Value, class F>
bool visit_if(int value, const F& f) {
  if constexpr (Exists) {
    if (value == Value) {
      f(std::integral_constant<int, Value>{});
      return true;
    }
  }
  return false;
}

/// Calls f with the width of a plane, 1, 2, 4 or 8, as a constant.
template <class Codes, class F>
void visit_plane(int width, const F& f) {
  const bool done = visit_if<Codes::has_plane(1), 1>(width, f) ||
                    visit_if<Codes::has_plane(2), 2>(width, f) ||
                    visit_if<Codes::has_plane(4), 4>(width, f) || visit_if<Codes::has_plane(8), 8>(width, f);
  if (!done) refuse_codes();
}

/// Whether some code of the set has a plane of this width behind another one: a narrower one, or a draw's.
template <class Codes>
constexpr bool is_later_plane(int width) {
  bool later = false;
  for (int bits = 1; bits <= 9; ++bits) {
    const bool behind_wider = (bits & width) != 0 && bits >= 2 * width;
    later = later || (behind_wider && Codes::has_code(bits, false)) ||
            ((behind_wider || width == 1) && Codes::has_code(bits, true));
  }
  return later;
}
static_assert(is_later_plane<AnyCode>(1) && !is_later_plane<AnyCode>(8));

/// Calls f with the width of a code that is one plane, as visit_plane does, and with 0 for codes that do not
/// fit a byte: 9 bits, or 8 and a draw's.
template <class Codes, class F>
void visit_single(const PlaneList& planes, const F& f) {
  const int width = planes.count == 1 && planes[0].shift == 0 ? planes[0].width : 0;
  constexpr bool of_two_bytes =
      Codes::has_code(9, false) || Codes::has_code(9, true) || Codes::has_code(8, true);
  const bool done = visit_if < Codes::has_code(1, false) || Codes::has_code(0, true),
             1 > (width, f) || visit_if<Codes::has_code(2, false), 2>(width, f) ||
                 visit_if<Codes::has_code(4, false), 4>(width, f) ||
                 visit_if<Codes::has_code(8, false), 8>(width, f) || visit_if<of_two_bytes, 0>(width, f);
  if (!done) refuse_codes();
}

/// Calls f with the width of a code, First to Last, as a constant; false for other widths, and for those that
/// the set lacks.
template <class Codes, bool Draw, int First, int Last, class F>
bool visit_code_bits(int bits, const F& f) {
  if constexpr (First > Last)
    return false;
  else
    return visit_if<Codes::has_code(First, Draw), First>(bits, f) ||
           visit_code_bits<Codes, Draw, First + 1, Last>(bits, f);
}

/// The same for a code of several planes, 3, 5, 6 or 7 bits; false for other codes.
template <class Codes, class F>
bool visit_several(const PlaneList& planes, const F& f) {
  if (planes.has_draw_plane || planes.count < 2) return false;
  return visit_code_bits<Codes, false, 3, 7>(planes.code_bits, [&](auto bits) {
    if constexpr (bits() != 4) f(bits);
  });
}

/// Calls f with the width of a code of several planes, 1 to 7 bits, and with whether one of them is a draw's
/// own, as constants; false for other codes.
template <class Codes, class F>
bool visit_bytes(const PlaneList& planes, const F& f) {
  if (!planes.has_draw_plane)
    return visit_several<Codes>(planes, [&](auto bits) { f(bits, std::false_type{}); });
  return visit_code_bits<Codes, true, 1, 7>(planes.code_bits, [&](auto bits) { f(bits, std::true_type{}); });
}

/// Whether there are codes for which tables of bytes are read entry by entry: those with a draw's plane, and
/// those of 0, 1 or 9 bits.
template <class Codes>
constexpr bool reads_entries() {
  bool reads = Codes::has_code(0, false) || Codes::has_code(1, false) || Codes::has_code(9, false);
  for (int bits = 0; bits <= 9; ++bits) reads = reads || Codes::has_code(bits, true);
  return reads;
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
