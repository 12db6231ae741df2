#pragma once
/// \file
/// Layer 0: index type, cache-line aligned buffers, and the views of dense matrices that the library takes at
/// its door.

#include <zipml/intrinsics.hpp>
// first

#include <Eigen/Core>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include <zipml/config.hpp>
#include <zipml/error.hpp>

#if defined(__linux__)
#include <sys/mman.h>
#endif

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

namespace detail {

/// Memory of at least a large page asks for large pages: batches in random order otherwise miss the address
/// cache with nearly every row.
inline constexpr std::size_t large_page = std::size_t{2} << 20;

inline std::align_val_t alignment_for(std::size_t bytes) {
  return std::align_val_t{bytes >= large_page ? large_page : 64};
}

inline void* allocate_zeroed(std::size_t bytes) {
  void* memory = ::operator new(bytes, alignment_for(bytes));
#if defined(__linux__)
  // A wish: without large pages the memory is what it was.
  if (bytes >= large_page) madvise(memory, bytes, MADV_HUGEPAGE);
#endif
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

using RowMajorMatrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// A dense row-major float32 matrix that somebody else owns. What the library uses behind its door.
struct MatrixView {
  const float* data = nullptr;
  Index rows = 0;
  Index cols = 0;
  Index stride = 0;  ///< floats from one row to the next

  const float* row(Index i) const { return data + i * stride; }
  float operator()(Index i, Index j) const { return data[i * stride + j]; }
};

namespace detail {

template <class Derived>
inline constexpr bool has_memory = (int{Derived::Flags} & int{Eigen::DirectAccessBit}) != 0;

/// Copies any float matrix into `out`, row-major. With loops of our own where the matrix has memory.
template <class Derived>
void copy_row_major(const Eigen::MatrixBase<Derived>& matrix, float* out) {
  if constexpr (has_memory<Derived>) {
    const float* data = matrix.derived().data();
    const Index row_stride = matrix.rowStride();
    const Index col_stride = matrix.colStride();
    for (Index i = 0; i < matrix.rows(); ++i)
      for (Index j = 0; j < matrix.cols(); ++j) *out++ = data[i * row_stride + j * col_stride];
  } else {
    Eigen::Map<RowMajorMatrix>(out, matrix.rows(), matrix.cols()).noalias() = matrix.derived();
  }
}

}  // namespace detail

/// The matrix type of the public functions: n samples in rows, d features in columns, float32. Any Eigen
/// matrix, block, map or expression of float; a row-major one with memory binds without a copy, others are
/// copied once. (Not an Eigen::Ref: that allocates its copy in functions whose code depends on the -m flags
/// but whose names do not.)
class MatrixRef {
 public:
  template <class Derived>
  MatrixRef(const Eigen::MatrixBase<Derived>& matrix) {  // NOLINT: converts at the door
    static_assert(std::is_same_v<typename Derived::Scalar, float>,
                  "zipml: samples are float32: pass matrix.cast<float>()");
    const Index n = matrix.rows();
    const Index d = matrix.cols();
    if constexpr (detail::has_memory<Derived>) {
      if (d <= 1 || matrix.colStride() == 1) {
        view_ = {matrix.derived().data(), n, d, matrix.rowStride()};
        return;
      }
    }
    copy_ = Buffer<float>(checked_product(n, d, "the sample matrix"));
    detail::copy_row_major(matrix, copy_.data());
    view_ = {copy_.data(), n, d, d};
  }
  MatrixRef(const MatrixRef&) = delete;
  MatrixRef& operator=(const MatrixRef&) = delete;

  Index rows() const { return view_.rows; }
  Index cols() const { return view_.cols; }
  const MatrixView& view() const { return view_; }
  operator const MatrixView&() const { return view_; }  // NOLINT: what the library uses

 private:
  Buffer<float> copy_;
  MatrixView view_;
};

/// The label type of the public functions: n values, float32. A contiguous Eigen vector binds without a copy.
class VectorRef {
 public:
  template <class Derived>
  VectorRef(const Eigen::MatrixBase<Derived>& vector)
      : size_(vector.size()) {  // NOLINT: converts at the door
    static_assert(std::is_same_v<typename Derived::Scalar, float>,
                  "zipml: labels are float32: pass vector.cast<float>()");
    static_assert(Derived::IsVectorAtCompileTime, "zipml: labels are a vector");
    if constexpr (detail::has_memory<Derived>) {
      if (size_ <= 1 || vector.innerStride() == 1) {
        data_ = vector.derived().data();
        return;
      }
    }
    copy_ = Buffer<float>(size_);
    detail::copy_row_major(vector, copy_.data());
    data_ = copy_.data();
  }
  VectorRef(const VectorRef&) = delete;
  VectorRef& operator=(const VectorRef&) = delete;

  Index size() const { return size_; }
  const float* data() const { return data_; }
  float operator[](Index i) const { return data_[i]; }

 private:
  Buffer<float> copy_;
  Index size_ = 0;
  const float* data_ = nullptr;
};

}  // namespace zipml::inline ZIPML_ABI
