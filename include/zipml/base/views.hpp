#pragma once
/// \file
/// Room base: dense matrices that somebody else owns, as everything behind the library's door reads them.

#include <memory>
#include <span>
#include <type_traits>

#include <zipml/base/buffer.hpp>
#include <zipml/base/schema.hpp>

namespace zipml::inline ZIPML_ABI {

/// n rows and d columns of float32 or double, at any distance from each other; values are read as float32.
/// Rows that are not contiguous float32 are converted one at a time (MatrixRows), so that no second copy of a
/// matrix is ever made.
///
///     const zipml::MatrixView view{values, n, d, d};   // row-major float32
struct MatrixView {
  const float* data = nullptr;  ///< null where the values are doubles
  Index rows = 0;
  Index cols = 0;
  Index stride = 0;                 ///< values from one row to the next
  Index col_stride = 1;             ///< values from one column to the next
  const double* doubles = nullptr;  ///< null where the values are float32
  /// What was subtracted from each column before it was rounded to float32 (float_offset.hpp), or what is to
  /// be subtracted from doubles: the user's value is offsets[j] + (*this)(i, j). Null: nothing.
  std::shared_ptr<const Buffer<double>> offsets = nullptr;
  std::shared_ptr<const Schema> schema = nullptr;  ///< or null: features without names

  /// Whether row(i) may be called: rows are contiguous float32.
  bool has_rows() const { return doubles == nullptr && (col_stride == 1 || cols <= 1); }
  /// Row i of a matrix that has_rows().
  const float* row(Index i) const { return data + i * stride; }
  /// Row i, converted into `scratch` (d values) unless the matrix has_rows(). O(d).
  const float* row(Index i, float* scratch) const {
    if (has_rows()) return row(i);
    for (Index j = 0; j < cols; ++j) scratch[j] = (*this)(i, j);
    return scratch;
  }
  float operator()(Index i, Index j) const {
    const Index at = i * stride + j * col_stride;
    return doubles != nullptr ? static_cast<float>(doubles[at] - offset(j)) : data[at];
  }
  double offset(Index j) const { return offsets ? (*offsets)[j] : 0.0; }
};

/// Reads the rows of a matrix, each until the next one is read.
class MatrixRows {
 public:
  explicit MatrixRows(const MatrixView& matrix)
      : matrix_(matrix), scratch_(matrix.has_rows() ? 0 : matrix.cols) {}
  const float* operator()(Index i) { return matrix_.row(i, scratch_.data()); }

 private:
  MatrixView matrix_;
  Buffer<float> scratch_;
};

/// n labels of float32, and what was subtracted from them before they were rounded: the user's label i is
/// offset + values[i]. Weights say how much each row counts: a row of weight 2 counts like two, one of weight
/// 0 not at all.
///
///     const zipml::LabelView view{labels, 0.0, weights};   // for quantize, Objective, evaluate
struct LabelView {
  std::span<const float> values;
  double offset = 0.0;
  std::span<const float> weights = {};  ///< n of them, at least 0; empty: every row counts the same

  LabelView() = default;
  template <class Values>
  requires std::is_convertible_v<const Values&, std::span<const float>> LabelView(  // NOLINT: a door
      const Values& labels, double subtracted = 0.0, std::span<const float> of_rows = {})
      : values(labels), offset(subtracted), weights(of_rows) {}

  Index size() const { return static_cast<Index>(values.size()); }
  const float* data() const { return values.data(); }
};

}  // namespace zipml::inline ZIPML_ABI
