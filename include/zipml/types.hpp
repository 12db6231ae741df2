#pragma once
/// \file
/// Layer 0: index type, cache-line aligned buffers, and the views of dense matrices that the library takes at
/// its door.

#include <Eigen/Core>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <new>
#include <span>
#include <type_traits>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <zipml/config.hpp>
#include <zipml/error.hpp>

namespace zipml::inline ZIPML_ABI {

/// Signed, as Eigen's: counts rows, columns and bytes.
using Index = std::ptrdiff_t;

/// n rounded up to a multiple of `unit`.
constexpr Index round_up(Index n, Index unit) { return (n + unit - 1) / unit * unit; }

/// `value`, with its rounding made final: a compiler may not contract the product that made it into an FMA.
/// For expressions that decide bits and cannot avoid a product that feeds a sum.
template <class T>
T pinned(T value) {
#if ZIPML_X86 && defined(__SSE2__)
  asm("" : "+x"(value));
#elif defined(__aarch64__)
  asm("" : "+w"(value));
#else
  volatile T stored = value;
  value = stored;
#endif
  return value;
}

/// a * b, or an Error that names `what` when the product does not fit: sizes from files are multiplied with
/// this.
inline Index checked_product(Index a, Index b, const char* what) {
  if (a < 0 || b < 0 || (b != 0 && a > std::numeric_limits<Index>::max() / b))
    throw Error(std::string(what) + " is too large to hold", "a size that fits memory",
                std::to_string(a) + " x " + std::to_string(b));
  return a * b;
}

/// Zero-initialised array of a trivial type, aligned to 64 bytes (a cache line, an AVX-512 register).
/// Owned storage of the library: not an Eigen type, because Eigen's allocation depends on the -m flags.
template <class T>
class Buffer {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  static constexpr std::size_t alignment = 64;

  Buffer() = default;
  explicit Buffer(Index size) : size_(size) {
    if (size == 0) return;
    const Index bytes = checked_product(size, static_cast<Index>(sizeof(T)), "a buffer");
    data_ = static_cast<T*>(::operator new (static_cast<std::size_t>(bytes), std::align_val_t{alignment}));
    std::memset(static_cast<void*>(data_), 0, static_cast<std::size_t>(bytes));
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
  ~Buffer() { ::operator delete (static_cast<void*>(data_), std::align_val_t{alignment}); }

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
  static constexpr Index huge_page = Index{2} << 20;
  static std::align_val_t align_for(Index bytes) {
    return std::align_val_t{bytes >= huge_page ? static_cast<std::size_t>(huge_page) : alignment};
  }

  T* data_ = nullptr;
  Index size_ = 0;
};

using RowMajorMatrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// The matrix type of the public functions: n samples in rows, d features in columns, float32. A row-major
/// Eigen matrix, block or map binds without a copy; a column-major one is copied once.
using MatrixRef = Eigen::Ref<const RowMajorMatrix, 0, Eigen::OuterStride<>>;

/// The label type of the public functions: n values, float32.
using VectorRef = Eigen::Ref<const Eigen::VectorXf>;

/// A dense row-major float32 matrix that somebody else owns. What the library uses behind its door.
struct MatrixView {
  const float* data = nullptr;
  Index rows = 0;
  Index cols = 0;
  Index stride = 0;  ///< floats from one row to the next

  MatrixView() = default;
  MatrixView(const float* values, Index n, Index d, Index row_stride)
      : data(values), rows(n), cols(d), stride(row_stride) {}
  MatrixView(const MatrixRef& matrix)  // NOLINT: converts at the door
      : data(matrix.data()), rows(matrix.rows()), cols(matrix.cols()), stride(matrix.outerStride()) {}

  const float* row(Index i) const { return data + i * stride; }
  float operator()(Index i, Index j) const { return data[i * stride + j]; }
};

}  // namespace zipml::inline ZIPML_ABI
