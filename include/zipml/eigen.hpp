#pragma once
/// \file
/// Room eigen: the one door for Eigen, matrices and vectors as the public functions take them.

#include <zipml/base/intrinsics.hpp>
// first: see there

#include <Eigen/Core>

#include <zipml/base/float_offset.hpp>
#include <zipml/base/views.hpp>

namespace zipml::inline ZIPML_ABI {

using RowMajorMatrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

namespace detail {

template <class Derived>
inline constexpr bool has_memory = (int{Derived::Flags} & int{Eigen::DirectAccessBit}) != 0;

template <class Scalar>
inline constexpr bool is_real = std::is_same_v<Scalar, float> || std::is_same_v<Scalar, double>;

/// Offsets of the columns of a matrix of doubles; null where all are 0. O(n d).
std::shared_ptr<const Buffer<double>> offsets_of(const MatrixView& doubles);

}  // namespace detail

/// The matrix type of the public functions: n samples in rows, d features in columns, float or double,
/// row-major or column-major. Any Eigen matrix, block or map binds without a copy, and rows are converted to
/// contiguous float32 as they are read, of doubles without the offset that float32 would drown in
/// (float_offset.hpp); an expression without memory, a sum for instance, is evaluated once.
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
    } else if constexpr (std::is_same_v<Scalar, float>) {
      copy_ = Buffer<float>(checked_product(n, d, "the sample matrix"));
      Eigen::Map<RowMajorMatrix>(copy_.data(), n, d).noalias() = matrix.derived();
      view_ = {copy_.data(), n, d, d};
    } else {
      double_copy_ = Buffer<double>(checked_product(n, d, "the sample matrix"));
      Eigen::Map<Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>(double_copy_.data(),
                                                                                         n, d)
          .noalias() = matrix.derived();
      view_ = {nullptr, n, d, d, 1, double_copy_.data()};
    }
    if constexpr (std::is_same_v<Scalar, double>) view_.offsets = detail::offsets_of(view_);
  }
  MatrixRef(const MatrixView& view) : view_(view) {}  // NOLINT: the same door
  MatrixRef(const MatrixRef&) = delete;
  MatrixRef& operator=(const MatrixRef&) = delete;

  Index rows() const { return view_.rows; }
  Index cols() const { return view_.cols; }
  const MatrixView& view() const { return view_; }
  operator const MatrixView&() const { return view_; }  // NOLINT: what the library uses

 private:
  Buffer<float> copy_;
  Buffer<double> double_copy_;
  MatrixView view_;
};

/// The label type of the public functions: n values, float or double. A contiguous vector of float binds
/// without a copy, others are copied, doubles without the offset that float32 would drown in.
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
    using Plain = Eigen::Matrix<Scalar, Derived::RowsAtCompileTime, Derived::ColsAtCompileTime,
                                Derived::ColsAtCompileTime == 1 ? Eigen::ColMajor : Eigen::RowMajor>;
    copy_ = Buffer<float>(size_);
    if constexpr (std::is_same_v<Scalar, float>) {
      Eigen::Map<Plain>(copy_.data(), vector.rows(), vector.cols()).noalias() = vector.derived();
    } else {
      Buffer<double> wide(size_);
      Eigen::Map<Plain>(wide.data(), vector.rows(), vector.cols()).noalias() = vector.derived();
      const auto offsets = detail::offsets_of({nullptr, size_, 1, 1, 1, wide.data()});
      if (offsets) offset_ = (*offsets)[0];
      for (Index i = 0; i < size_; ++i) copy_[i] = static_cast<float>(wide[i] - offset_);
    }
    data_ = copy_.data();
  }
  VectorRef(const LabelView& labels)  // NOLINT: the same door
      : size_(labels.size()), data_(labels.data()), offset_(labels.offset), weights_(labels.weights) {}
  VectorRef(const VectorRef&) = delete;
  VectorRef& operator=(const VectorRef&) = delete;

  Index size() const { return size_; }
  const float* data() const { return data_; }
  float operator[](Index i) const { return data_[i]; }
  std::span<const float> span() const { return {data_, static_cast<std::size_t>(size_)}; }
  /// What was subtracted from the labels before they were rounded to float32.
  double offset() const { return offset_; }
  /// Of the rows, as in LabelView; empty: none.
  std::span<const float> weights() const { return weights_; }
  operator LabelView() const { return {span(), offset_, weights_}; }  // NOLINT: what the library uses

 private:
  Buffer<float> copy_;
  Index size_ = 0;
  const float* data_ = nullptr;
  double offset_ = 0.0;
  std::span<const float> weights_;
};

#if ZIPML_DEFINES

namespace detail {

ZIPML_FUNCTION std::shared_ptr<const Buffer<double>> offsets_of(const MatrixView& doubles) {
  const Index n = doubles.rows, d = doubles.cols;
  if (n == 0 || d == 0) return nullptr;
  const auto value = [&](Index i, Index j) {
    return doubles.doubles[i * doubles.stride + j * doubles.col_stride];
  };
  OffsetSurvey survey(d);
  const bool by_row = doubles.col_stride <= doubles.stride;  // in the order of memory
  for (Index a = 0; a < (by_row ? n : d); ++a)
    for (Index b = 0; b < (by_row ? d : n); ++b)
      survey.note(by_row ? b : a, by_row ? value(a, b) : value(b, a));
  survey.begin_sample(n);
  for (Index i = 0; i < n; ++i)
    if (survey.wants_row(i))
      for (Index j = 0; j < d; ++j) survey.take(j, value(i, j));
  return survey.offsets([](Index, double) {});
}

}  // namespace detail

#endif

}  // namespace zipml::inline ZIPML_ABI
