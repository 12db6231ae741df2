#pragma once
/// \file
/// Room kernels: for which codes kernels are compiled. A program whose stores have 4 bits needs no kernels of
/// the other widths, and these take most of its compile time: a store says which codes it has and which kinds
/// of operations they take.

#include <concepts>

#include <zipml/base/config.hpp>

namespace zipml::inline ZIPML_ABI {

/// Every code of up to 9 bits, with and without a draw's plane.
struct AnyCode {
  /// Whether a code of the set has a plane of this width: 1, 2, 4 or 8.
  static constexpr bool has_plane(int /*width*/) { return true; }
  /// Whether a code of so many bits, with a draw's plane or without one, is in the set.
  static constexpr bool has_code(int /*code_bits*/, bool /*draw_plane*/) { return true; }
};

/// The code of one store: exactly Bits stored bits (0 to 9) and, with HasDrawPlane, a plane of one bit for
/// each draw. Then the code without that plane and the plane alone are in the set as well: the margins of
/// several draws read what they share once (training/gradient_device.hpp).
template <int Bits, bool HasDrawPlane>
struct OneCode {
  static_assert(Bits >= 0 && Bits <= 9, "zipml: a code has 0 to 9 bits");
  static constexpr bool has_plane(int width) { return (Bits & width) != 0 || (HasDrawPlane && width == 1); }
  static constexpr bool has_code(int code_bits, bool draw_plane) {
    return draw_plane ? HasDrawPlane && (code_bits == Bits || code_bits == 0) : code_bits == Bits;
  }
};

/// Queries that a set of codes answers at compile time.
template <class Codes>
concept CodeSet = requires(int bits, bool draw_plane) {
  { Codes::has_plane(bits) } -> std::same_as<bool>;
  { Codes::has_code(bits, draw_plane) } -> std::same_as<bool>;
};
static_assert(CodeSet<AnyCode> && CodeSet<OneCode<4, true>>);

/// Kinds of operations, as bits of one number. Those on vectors, on single rows and on float32 rows, which
/// every store needs, are always compiled.
namespace kernel_families {
inline constexpr unsigned none = 0;
inline constexpr unsigned packed_integers = 1;  ///< int8 model, codes that stand for themselves
inline constexpr unsigned packed_floats = 2;    ///< float model, codes that stand for themselves
inline constexpr unsigned column_tables = 4;    ///< float model, a TableView with a table for each column
inline constexpr unsigned shared_tables = 8;    ///< a CodeTable, or a TableView of stride 0
inline constexpr unsigned gram = 16;            ///< products of columns, of any code (gram.hpp)
inline constexpr unsigned all = 31;
}  // namespace kernel_families

/// The kernels that a table has: families of them, for a set of codes.
template <CodeSet Codes, unsigned Families = kernel_families::all>
struct KernelSet {};

}  // namespace zipml::inline ZIPML_ABI
