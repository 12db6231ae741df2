#pragma once
/// \file
/// Room storage: where the bits of a packed store lie.
///
/// A code of b bits is cut into planes of widths 8, 4, 2 and 1 (3 = 2 + 1, 5 = 4 + 1, 6 = 4 + 2, 7 = 4 + 2 +
/// 1, widest plane = most significant bits), so that every width costs exactly its bits and four small sets
/// of kernels serve them all. In a plane of width w, byte j of a *panel* holds column j of 8/w consecutive
/// rows, the first of them in the lowest bits; w panels, one behind the other, make a *group* of 8 rows,
/// which is the unit of the kernels. Eight groups make a *block* of 64 rows, in which the planes follow each
/// other, so that a batch of 64 rows is one contiguous piece of memory:
///
///     block 0: [ plane 0: group 0 .. group 7 ][ plane 1: group 0 .. group 7 ] ...   block 1: ...
///     group:   [ panel 0: d bytes ] .. [ panel w-1: d bytes ]
///
/// Nothing is padded but the last group (to 8 rows, with code 0). A kernel may therefore read behind the last
/// column of a panel only where it knows that the buffer goes on.

#include <array>
#include <cstdint>
#include <type_traits>

#include <zipml/base/index.hpp>

namespace zipml::inline ZIPML_ABI {

inline constexpr Index group_rows = 8;
inline constexpr Index block_groups = 8;
inline constexpr Index block_rows = group_rows * block_groups;
static_assert(group_rows == 8 && block_groups == 8);

/// A slice of the code bits: `width` bits (1, 2, 4 or 8) that count `1 << shift` each. `start` is where the
/// plane begins in a block, in bits per value of the planes before it.
struct Plane {
  int width = 0;
  int shift = 0;
  int start = 0;
};

/// Three planes make any code of up to 9 bits; a fourth is a draw's own.
inline constexpr int max_planes = 4;

/// Planes whose weighted bits add up to the code of one draw: those of a code of `code_bits` bits (0 to 9),
/// widest first, beginning `start` bits into the block, and perhaps the draw's own plane of one bit behind
/// them.
struct PlaneList {
  std::array<Plane, max_planes> planes{};
  int count = 0;
  int code_bits = 0;
  bool has_draw_plane = false;

  const Plane& operator[](int p) const { return planes[static_cast<std::size_t>(p)]; }
  void push(Plane plane) { planes[static_cast<std::size_t>(count++)] = plane; }

  static PlaneList of_code(int bits, int start = 0) {
    PlaneList list;
    list.code_bits = bits;
    for (const int width : {8, 4, 2, 1}) {
      if ((bits & width) == 0) continue;
      const int below = bits & (width - 1);
      list.push({width, below, start});
      start += width;
    }
    return list;
  }

  void push_draw_plane(int start) {
    push({1, 0, start});
    has_draw_plane = true;
  }
};

/// Geometry of the codes of n rows and d columns at `stored_bits` bits a value.
struct PlaneLayout {
  Index rows = 0;
  Index cols = 0;
  int stored_bits = 0;

  Index groups() const { return (rows + group_rows - 1) >> 3; }
  /// Shifts and masks, where division would round negative numbers: kernels come here for each group.
  static Index within_block(Index group) { return group & (block_groups - 1); }
  /// Groups in the block that `group` belongs to: 8, fewer in the last block.
  Index groups_in_block(Index group) const {
    const Index left = groups() - (group - within_block(group));
    return left < block_groups ? left : block_groups;
  }
  /// Bytes of all codes: stored_bits * cols for each group.
  Index bytes() const { return checked_product(groups() * stored_bits, cols, "a packed store"); }

  /// Offset of the first panel of a group in a plane.
  Index offset(const Plane& plane, Index group) const {
    const Index within = within_block(group);
    return ((group - within) * stored_bits + groups_in_block(group) * plane.start + within * plane.width) *
           cols;
  }
};

namespace detail {

/// Calls f with the width of a plane, 1, 2, 4 or 8, as a constant.
template <class F>
void visit_width(int width, const F& f) {
  switch (width) {
    case 1:
      return f(std::integral_constant<int, 1>{});
    case 2:
      return f(std::integral_constant<int, 2>{});
    case 4:
      return f(std::integral_constant<int, 4>{});
    default:
      return f(std::integral_constant<int, 8>{});
  }
}

}  // namespace detail

}  // namespace zipml::inline ZIPML_ABI
