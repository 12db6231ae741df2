#pragma once
/// \file
/// Room kernels: the packed codes that a kernel is called for: a view of them, groups of their rows, a table of
/// bytes that they stand for.

#include <cstdint>

#include <zipml/base/index.hpp>
#include <zipml/storage/plane_layout.hpp>

namespace zipml::inline ZIPML_ABI {

/// Memory that will be needed next: batches come in random order, which no prefetcher follows, but the loop
/// knows the next one. Kernels ask for a line now and then while they work on this one.
struct Ahead {
  const char* next = nullptr;
  const char* end = nullptr;

  /// Without a branch, which would cut the loops of the kernels: behind the end the same line again.
  void touch() {
    __builtin_prefetch(next, 0, 2);  // into the second-level cache
    next += next < end ? 64 : 0;
  }
  /// So many lines at once, between kernels.
  void touch(Index lines) {
    const char* const last = end - next > 64 * lines ? next + 64 * lines : end;
    for (; next < last; next += 64) __builtin_prefetch(next, 0, 2);
  }
};

/// A kernel's own copy of what it was asked to look ahead to, written back at the end of its work. Nothing
/// asked: some line that it reads itself.
class LookAhead : public Ahead {
 public:
  LookAhead(Ahead* asked, const void* own)
      : Ahead(asked != nullptr && asked->next < asked->end
                  ? *asked
                  : Ahead{static_cast<const char*>(own), static_cast<const char*>(own)}),
        asked_(asked != nullptr && asked->next < asked->end ? asked : nullptr) {}
  LookAhead(const LookAhead&) = delete;
  LookAhead& operator=(const LookAhead&) = delete;
  ~LookAhead() {
    if (asked_ != nullptr) *asked_ = *this;
  }

 private:
  Ahead* asked_;
};

/// The codes of a packed store.
struct PackedView {
  const std::uint8_t* codes;
  PlaneLayout layout;
  Index width;             ///< columns to work on, from the first one of `codes`: d, or some of them
  Ahead* ahead = nullptr;  ///< for kernels that help with it

  PackedView(const std::uint8_t* first, const PlaneLayout& geometry)
      : PackedView(first, geometry, geometry.cols) {}
  PackedView(const std::uint8_t* first, const PlaneLayout& geometry, Index columns,
             Ahead* look_ahead = nullptr)
      : codes(first), layout(geometry), width(columns), ahead(look_ahead) {}

  const std::uint8_t* group(const Plane& plane, Index g) const { return codes + layout.offset(plane, g); }
};

/// Groups of 8 rows [first, first + count).
struct GroupRange {
  Index first;
  Index count;
  Index rows() const { return count * group_rows; }
};

/// One table for all columns on the grid of bytes: what integer kernels read instead of the code.
struct CodeTable {
  const std::uint8_t* entries;  ///< increasing
  int count;                    ///< codes, at most 256
};

}  // namespace zipml::inline ZIPML_ABI
