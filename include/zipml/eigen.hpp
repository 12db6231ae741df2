#pragma once
/// \file
/// Room eigen: the one door for Eigen, matrices and vectors as the public functions take them.

#include <zipml/base/intrinsics.hpp>
// first: see there

#include <Eigen/Core>

#include <zipml/base/views.hpp>

namespace zipml::inline ZIPML_ABI {

using RowMajorMatrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

namespace detail {

template <class Derived>
inline constexpr bool has_memory = (int{Derived::Flags} & int{Eigen::DirectAccessBit}) != 0;

template <class Scalar>
inline constexpr bool is_real = std::is_same_v<Scalar, float> || std::is_same_v<Scalar, double>;

}  // namespace detail

/// The matrix type of the public functions: n samples in rows, d features in columns, float or double,
/// row-major or column-major. Any Eigen matrix, block or map binds without a copy, and rows are converted to
/// contiguous float32 as they are read; an expression without memory, a sum for instance, is evaluated once.
/// What binds must outlive the call. (Not an Eigen::Ref: that allocates its copy in functions whose code
/// depends on the -m flags but whose names do not.)
class MatrixRef {
 public:
  template <class Derived>
  MatrixRef(const Eigen::MatrixBase<Derived>& matrix) {  // NOLINT: converts at the door
    using Scalar = typename Derived::Scalar;
    static_assert(detail::is_real<Scalar>, "zipml: samples are float or double: pass matrix.cast<float>()");
    const Index n = matrix.rows();
    const Index d = matrix.cols();
    if constexpr (detail::has_memory<Derived>) {
      view_ = {nullptr, n, d, matrix.rowStride(), matrix.colStride()};
      if constexpr (std::is_same_v<Scalar, float>)
        view_.data = matrix.derived().data();
      else
        view_.doubles = matrix.derived().data();
    } else {
      copy_ = Buffer<float>(checked_product(n, d, "the sample matrix"));
      Eigen::Map<RowMajorMatrix>(copy_.data(), n, d).noalias() = matrix.derived().template cast<float>();
      view_ = {copy_.data(), n, d, d};
    }
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

/// The label type of the public functions: n values, float or double. A contiguous vector of float binds
/// without a copy, others are copied.
class VectorRef {
 public:
  template <class Derived>
  VectorRef(const Eigen::MatrixBase<Derived>& vector)  // NOLINT: converts at the door
      : size_(vector.size()) {
    using Scalar = typename Derived::Scalar;
    static_assert(detail::is_real<Scalar>, "zipml: labels are float or double: pass vector.cast<float>()");
    static_assert(Derived::IsVectorAtCompileTime, "zipml: labels are a vector");
    if constexpr (detail::has_memory<Derived> && std::is_same_v<Scalar, float>) {
      if (size_ <= 1 || vector.innerStride() == 1) {
        data_ = vector.derived().data();
        return;
      }
    }
    copy_ = Buffer<float>(size_);
    Eigen::Map<Eigen::Matrix<float, Derived::RowsAtCompileTime, Derived::ColsAtCompileTime,
                             Derived::ColsAtCompileTime == 1 ? Eigen::ColMajor : Eigen::RowMajor>>(
        copy_.data(), vector.rows(), vector.cols())
        .noalias() = vector.derived().template cast<float>();
    data_ = copy_.data();
  }
  VectorRef(const VectorRef&) = delete;
  VectorRef& operator=(const VectorRef&) = delete;

  Index size() const { return size_; }
  const float* data() const { return data_; }
  float operator[](Index i) const { return data_[i]; }
  std::span<const float> span() const { return {data_, static_cast<std::size_t>(size_)}; }
  operator std::span<const float>() const { return span(); }  // NOLINT: what the library uses

 private:
  Buffer<float> copy_;
  Index size_ = 0;
  const float* data_ = nullptr;
};

}  // namespace zipml::inline ZIPML_ABI
