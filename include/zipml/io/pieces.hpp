#pragma once
/// \file
/// Room io: arrays that grow while a file is read.

#include <algorithm>
#include <cstring>
#include <span>
#include <type_traits>
#include <utility>

#include <zipml/base/buffer.hpp>

namespace zipml::inline ZIPML_ABI::detail {

/// A growing array whose elements never move, in pieces from 64 K elements on that grow with it: std::vector
/// would copy what it has and need three times its size while it grows. Large pieces go back to the system at
/// once when they are given back.
template <class T>
class Pieces {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  /// Room for n more elements, side by side. Not initialised.
  T* extend(std::size_t n) {
    if (n > free_) add(n);
    T* place = pieces_.back().data.data() + pieces_.back().size;
    pieces_.back().size += n;
    free_ -= n;
    return place;
  }

  /// Calls f(elements) for all elements in their order, a contiguous part at a time.
  template <class F>
  void for_each_piece(F&& f) const {
    for (const Piece& piece : pieces_) f(std::span<const T>(piece.data.data(), piece.size));
  }

  /// Appends the elements of another array: large ones change hands, few are copied.
  void append(Pieces&& other) {
    for (Piece& piece : other.pieces_) {
      if (piece.size < smallest) {
        if (piece.size > 0) std::memcpy(extend(piece.size), piece.data.data(), piece.size * sizeof(T));
      } else {
        pieces_.push_back(std::move(piece));
        free_ = 0;
      }
    }
    other.pieces_.clear();
    other.free_ = 0;
  }

  std::size_t size() const {
    std::size_t sum = 0;
    for (const Piece& piece : pieces_) sum += piece.size;
    return sum;
  }

  /// Calls f(elements) as for_each_piece and gives the memory of each piece back when f has returned.
  template <class F>
  void drain(F&& f) {
    for (Piece& piece : pieces_) {
      f(std::span<const T>(piece.data.data(), piece.size));
      piece.data = {};
    }
    pieces_.clear();
    free_ = 0;
  }
  /// Calls f(elements) for all elements, which it may change.
  template <class F>
  void change(F&& f) {
    for (Piece& piece : pieces_) f(std::span<T>(piece.data.data(), piece.size));
  }

  /// Copies all elements, in their order, to `out`.
  void copy_to(T* out) const {
    for_each_piece([&](std::span<const T> part) {
      if (!part.empty()) std::memcpy(out, part.data(), part.size_bytes());
      out += part.size();
    });
  }

 private:
  struct Piece {
    Buffer<T> data;
    std::size_t size = 0;
  };

  static constexpr std::size_t smallest = std::size_t{1} << 16;
  static constexpr std::size_t largest = std::size_t{1} << 23;

  void add(std::size_t n) {
    const std::size_t capacity = (std::max)(n, std::clamp(size() / 2, smallest, largest));
    pieces_.push_back({Buffer<T>::uninitialised(static_cast<Index>(capacity)), 0});
    free_ = capacity;
  }

  List<Piece> pieces_;
  std::size_t free_ = 0;
};

}  // namespace zipml::inline ZIPML_ABI::detail
