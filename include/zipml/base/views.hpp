#pragma once
/// \file
/// Room base: dense matrices that somebody else owns, as everything behind the library's door reads them.

#include <algorithm>
#include <concepts>
#include <memory>
#include <span>
#include <type_traits>

#include <zipml/base/buffer.hpp>
#include <zipml/base/schema.hpp>

namespace zipml::inline ZIPML_ABI {

/// Samples that need not be in memory: n rows of d values, of which any range can be read, any number of times
/// and by several threads at once; the same values each time. A file, a table in a database, a generator.
///
///     struct Readings {
///       zipml::Index rows() const;
///       zipml::Index cols() const;
///       void read(zipml::Index first, zipml::Index count, float* out) const;  // row after row; may throw
///     };
///     const auto store = zipml::quantize<4>(zipml::rows_of(readings), labels, zipml::variance_corrected);
///
/// Packing reads a random sample of rows, in ascending order, each alone or with near ones, and then all of them in
/// their order, some thousand at a time.
template <class S>
concept RowSource = requires(const S& source, Index first, Index count, float* out) {
  { source.rows() } -> std::convertible_to<Index>;
  { source.cols() } -> std::convertible_to<Index>;
  source.read(first, count, out);
};

/// The reading of a RowSource, without its type.
class RowReader {
 public:
  virtual ~RowReader() = default;
  /// Writes rows first .. first + count - 1, each of as many floats as there are columns, to `out`. Several
  /// threads may call it at once.
  virtual void read(Index first, Index count, float* out) const = 0;
};

/// n rows and d columns of float32 or double, at any distance from each other, or of a RowSource; values are
/// read as float32. Rows that are not contiguous float32 are converted some at a time (MatrixRows), so that no
/// second copy of a matrix is ever made.
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
  std::shared_ptr<const Schema> schema = nullptr;     ///< or null: features without names
  std::shared_ptr<const RowReader> reader = nullptr;  ///< of rows that are not in memory, or null

  /// Whether row(i) may be called: rows are contiguous float32 in memory.
  bool has_rows() const { return !reader && doubles == nullptr && (col_stride == 1 || cols <= 1); }
  /// Row i of a matrix that has_rows().
  const float* row(Index i) const { return data + i * stride; }
  /// Row i, converted into `scratch` (d values) unless the matrix has_rows(). O(d).
  const float* row(Index i, float* scratch) const {
    if (has_rows()) return row(i);
    read(i, 1, scratch);
    return scratch;
  }
  /// Copies `count` rows from `first` on to `out`, row after row. O(count d).
  void read(Index first, Index count, float* out) const;
  /// One value. Where there is a reader, this reads a row.
  float operator()(Index i, Index j) const {
    if (reader) {
      Buffer<float> one(cols);
      reader->read(i, 1, one.data());
      return one[j];
    }
    return at(i, j);
  }
  double offset(Index j) const { return offsets ? (*offsets)[j] : 0.0; }

 private:
  float at(Index i, Index j) const {
    const Index place = i * stride + j * col_stride;
    return doubles != nullptr ? static_cast<float>(doubles[place] - offset(j)) : data[place];
  }
};

/// The rows of a source as a matrix, for the functions that take one. The source must outlive it.
template <RowSource S>
MatrixView rows_of(const S& source) {
  class Reader final : public RowReader {
   public:
    explicit Reader(const S& rows) : source_(rows) {}
    void read(Index first, Index count, float* out) const override { source_.read(first, count, out); }

   private:
    const S& source_;
  };
  MatrixView view;
  view.rows = source.rows();
  view.cols = source.cols();
  view.reader = std::make_shared<Reader>(source);
  return view;
}

/// Reads the rows of a matrix, each until the next one is read; those of a source some at a time where they are
/// read in their order.
class MatrixRows {
 public:
  explicit MatrixRows(const MatrixView& matrix)
      : matrix_(matrix),
        together_(matrix.reader ? std::clamp<Index>(65536 / std::max<Index>(matrix.cols, 1), 1, 1024) : 1),
        scratch_(matrix.has_rows() ? 0
                                   : (std::min)(together_, std::max<Index>(matrix.rows, 1)) * matrix.cols) {}
  const float* operator()(Index i) {
    if (!matrix_.reader) return matrix_.row(i, scratch_.data());
    if (i < first_ || i >= end_) {
      const Index count = i == end_ ? (std::min)(together_, matrix_.rows - i) : 1;
      matrix_.reader->read(i, count, scratch_.data());
      first_ = i;
      end_ = i + count;
    }
    return scratch_.data() + (i - first_) * matrix_.cols;
  }

 private:
  MatrixView matrix_;
  Index together_;
  Buffer<float> scratch_;
  Index first_ = 0, end_ = 0;  // rows in scratch_
};

/// The rows of these numbers, in this order, row after row. Rows of a source are read in ascending order.
/// O(m d).
Buffer<float> gathered_rows(const MatrixView& matrix, std::span<const Index> ids);

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

#if ZIPML_DEFINES

ZIPML_FUNCTION void MatrixView::read(Index first, Index count, float* out) const {
  if (reader) return reader->read(first, count, out);
  if (has_rows()) {
    for (Index i = 0; i < count; ++i) std::copy_n(row(first + i), cols, out + i * cols);
  } else if (col_stride > stride) {  // column after column: some rows of each are side by side
    constexpr Index together = 16;
    for (Index i = 0; i < count; i += together)
      for (Index j = 0; j < cols; ++j)
        for (Index r = i; r < (std::min)(i + together, count); ++r) out[r * cols + j] = at(first + r, j);
  } else {
    for (Index i = 0; i < count; ++i)
      for (Index j = 0; j < cols; ++j) out[i * cols + j] = at(first + i, j);
  }
}

namespace detail {
/// A row that is asked for, and where it goes. A type of ours: std::sort of std:: types may merge at link time
/// with that of a file with other -m flags.
struct WantedRow {
  Index id;
  Index place;
  bool operator<(const WantedRow& other) const { return id < other.id; }
};
}  // namespace detail

ZIPML_FUNCTION Buffer<float> gathered_rows(const MatrixView& matrix, std::span<const Index> ids) {
  const auto m = static_cast<Index>(ids.size());
  const Index d = matrix.cols;
  auto rows = Buffer<float>::uninitialised(checked_product(m, d, "a sample of the rows"));
  if (!matrix.reader) {
    for (Index k = 0; k < m; ++k) matrix.read(ids[static_cast<std::size_t>(k)], 1, rows.data() + k * d);
    return rows;
  }
  List<detail::WantedRow> wanted;
  wanted.reserve(ids.size());
  for (Index k = 0; k < m; ++k) wanted.push_back({ids[static_cast<std::size_t>(k)], k});
  std::sort(wanted.begin(), wanted.end());
  // Rows near each other are read together with those between them.
  const Index together = std::max<Index>(1, 4096 / std::max<Index>(d, 1));
  Buffer<float> some(together * d);
  for (std::size_t k = 0, end = 0; k < wanted.size(); k = end) {
    const Index first = wanted[k].id;
    for (end = k + 1; end < wanted.size() && wanted[end].id < first + together;) ++end;
    matrix.reader->read(first, wanted[end - 1].id - first + 1, some.data());
    for (std::size_t at = k; at < end; ++at)
      std::copy_n(some.data() + (wanted[at].id - first) * d, d, rows.data() + wanted[at].place * d);
  }
  return rows;
}

#endif

}  // namespace zipml::inline ZIPML_ABI
