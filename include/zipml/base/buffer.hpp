#pragma once
/// \file
/// Room base: memory that the library owns, cache-line aligned buffers and lists.

#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include <zipml/base/config.hpp>
#include <zipml/base/index.hpp>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace zipml::inline ZIPML_ABI {

namespace detail {

/// Memory of at least a large page asks for large pages: batches in random order otherwise miss the address
/// cache with nearly every row.
inline constexpr std::size_t large_page = std::size_t{2} << 20;

inline std::align_val_t alignment_for(std::size_t bytes) {
  return std::align_val_t{bytes >= large_page ? large_page : 64};
}

inline void* allocate(std::size_t bytes) {
  void* memory = ::operator new(bytes, alignment_for(bytes));
#if defined(__linux__)
  // A wish: without large pages the memory is what it was.
  if (bytes >= large_page) madvise(memory, bytes, MADV_HUGEPAGE);
#endif
  return memory;
}
inline void* allocate_zeroed(std::size_t bytes) {
  void* memory = allocate(bytes);
  std::memset(memory, 0, bytes);
  return memory;
}

}  // namespace detail

/// Zero-initialised array of a trivial type, aligned to 64 bytes (a cache line, an AVX-512 register), with 64
/// readable zero bytes behind its last element, so that kernels may load whole registers there.
/// Owned storage of the library: not an Eigen type, because Eigen's allocation depends on the -m flags.
template <class T>
class Buffer {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  static constexpr Index slack = 64;  ///< bytes behind the last element

  Buffer() = default;
  explicit Buffer(Index size) : size_(size) {
    if (size == 0) return;
    checked_product(size, static_cast<Index>(sizeof(T)), "a buffer");
    data_ = static_cast<T*>(detail::allocate_zeroed(allocated()));
  }
  /// Not initialised but for the bytes behind its end: memory that is written to before it is read takes no
  /// room until then.
  static Buffer uninitialised(Index size) {
    Buffer buffer;
    if (size == 0) return buffer;
    checked_product(size, static_cast<Index>(sizeof(T)), "a buffer");
    buffer.size_ = size;
    buffer.data_ = static_cast<T*>(detail::allocate(buffer.allocated()));
    std::memset(static_cast<void*>(buffer.data_ + size), 0, static_cast<std::size_t>(slack));
    return buffer;
  }
  Buffer(const Buffer& other) : Buffer(other.size_) {
    if (size_ > 0) std::memcpy(static_cast<void*>(data_), other.data_, bytes());
  }
  Buffer(Buffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Buffer& operator=(Buffer other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~Buffer() { ::operator delete(static_cast<void*>(data_), detail::alignment_for(allocated())); }

  Index size() const { return size_; }
  std::size_t bytes() const { return static_cast<std::size_t>(size_) * sizeof(T); }
  bool empty() const { return size_ == 0; }
  T* data() { return data_; }
  const T* data() const { return data_; }
  T& operator[](Index i) { return data_[i]; }
  const T& operator[](Index i) const { return data_[i]; }
  T* begin() { return data_; }
  T* end() { return data_ + size_; }
  const T* begin() const { return data_; }
  const T* end() const { return data_ + size_; }
  std::span<const T> span() const { return {data_, static_cast<std::size_t>(size_)}; }
  std::span<T> span() { return {data_, static_cast<std::size_t>(size_)}; }

 private:
  std::size_t allocated() const { return bytes() + static_cast<std::size_t>(slack); }

  T* data_ = nullptr;
  Index size_ = 0;
};

/// A std::vector whose members carry the -m flags in their names, as everything of this library does: those
/// of std::vector<double> are functions that the linker may keep from a file with other flags.
template <class T>
struct Allocator : std::allocator<T> {
  Allocator() = default;
  template <class U>
  Allocator(const Allocator<U>&) noexcept {}  // NOLINT: allocators convert
  template <class U>
  struct rebind {
    using other = Allocator<U>;
  };
};
template <class T>
using List = std::vector<T, Allocator<T>>;

}  // namespace zipml::inline ZIPML_ABI
