#pragma once
/// \file
/// Room io: arrays that grow while a file is read, and may move to a scratch file where they grow beyond memory.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>

#include <zipml/base/buffer.hpp>
#include <zipml/io/scratch_file.hpp>

namespace zipml::inline ZIPML_ABI::detail {

/// A growing array whose elements never move, in pieces from 64 K elements on that grow with it: std::vector
/// would copy what it has and need three times its size while it grows. Large pieces go back to the system at
/// once when they are given back. Pieces in a scratch file are read into memory one at a time.
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
    Buffer<T> read;
    for (const Piece& piece : pieces_) f(std::span<const T>(values_of(piece, read), piece.size));
  }

  /// Moves all elements to `file`; later ones stay in memory until the next call. Pieces there hold whole rows
  /// of `unit` elements, as those must that are in memory.
  void spill(const std::shared_ptr<ScratchFile>& file, std::size_t unit) {
    file_ = file;
    const std::size_t together = (std::max)(unit, spilled / (std::max)(unit, std::size_t{1}) * unit);
    List<Piece> pieces;
    for (Piece& piece : pieces_) {
      if (piece.is_spilled()) {
        pieces.push_back(std::move(piece));
        continue;
      }
      for (std::size_t at = 0; at < piece.size; at += together) {
        const std::size_t size = (std::min)(together, piece.size - at);
        const std::uint64_t place = file->append(piece.data.data() + at, size * sizeof(T));
        pieces.push_back({{}, size, place});
      }
      if (piece.data.size() >= static_cast<Index>(smallest)) spares_.push_back(std::move(piece.data));
    }
    pieces_ = std::move(pieces);
    free_ = 0;
    starts_.clear();
  }
  bool is_spilled() const { return file_ != nullptr; }
  /// Elements that are in memory, with the room that is kept for more.
  std::size_t in_memory() const {
    std::size_t sum = 0;
    for (const Piece& piece : pieces_) sum += static_cast<std::size_t>(piece.data.size());
    return sum;
  }

  /// Makes read() possible: when the last element has come.
  void index() {
    spares_.clear();
    starts_.clear();
    std::size_t sum = 0;
    for (const Piece& piece : pieces_) {
      starts_.push_back(sum);
      sum += piece.size;
    }
  }
  /// Copies `count` elements from `first` on to `out`. Several threads may call it. O(count + log pieces).
  void read(std::size_t first, std::size_t count, T* out) const {
    if (count == 0) return;
    std::size_t k = 0;  // the last piece that begins at `first` or before
    for (std::size_t end = starts_.size(); end - k > 1;) {
      const std::size_t middle = k + (end - k) / 2;
      (starts_[middle] <= first ? k : end) = middle;
    }
    for (std::size_t at = first - starts_[k]; count > 0; ++k, at = 0) {
      const Piece& piece = pieces_[k];
      const std::size_t some = (std::min)(count, piece.size - at);
      if (piece.is_spilled())
        file_->read(piece.place + at * sizeof(T), out, some * sizeof(T));
      else if (some > 0)
        std::memcpy(out, piece.data.data() + at, some * sizeof(T));
      out += some;
      count -= some;
    }
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
    Buffer<T> read;
    for (Piece& piece : pieces_) {
      f(std::span<const T>(values_of(piece, read), piece.size));
      piece.data = {};
    }
    pieces_.clear();
    free_ = 0;
  }
  /// Calls f(elements) for all elements, which it may change. Nothing is in a scratch file.
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
    std::uint64_t place = 0;  // in the file, where there are no data
    bool is_spilled() const { return data.empty() && size > 0; }
  };

  const T* values_of(const Piece& piece, Buffer<T>& read) const {
    if (!piece.is_spilled()) return piece.data.data();
    if (read.size() < static_cast<Index>(piece.size))
      read = Buffer<T>::uninitialised(static_cast<Index>(piece.size));
    file_->read(piece.place, read.data(), piece.size * sizeof(T));
    return read.data();
  }

  static constexpr std::size_t smallest = std::size_t{1} << 16;
  static constexpr std::size_t largest = std::size_t{1} << 23;
  static constexpr std::size_t spilled = std::size_t{1} << 18;  // elements of a piece in a file

  void add(std::size_t n) {
    if (!spares_.empty() && static_cast<std::size_t>(spares_.back().size()) >= n) {
      free_ = static_cast<std::size_t>(spares_.back().size());
      pieces_.push_back({std::move(spares_.back()), 0, 0});
      spares_.pop_back();
      return;
    }
    const std::size_t capacity =
        (std::max)(n, is_spilled() ? smallest : std::clamp(size() / 2, smallest, largest));
    pieces_.push_back({Buffer<T>::uninitialised(static_cast<Index>(capacity)), 0, 0});
    free_ = capacity;
  }

  List<Piece> pieces_;
  std::size_t free_ = 0;
  std::shared_ptr<ScratchFile> file_;  // of those that were spilled
  List<Buffer<T>> spares_;             // their memory, for later ones
  List<std::size_t> starts_;           // of each piece, for read()
};

}  // namespace zipml::inline ZIPML_ABI::detail
