#pragma once
/// \file
/// Room io: samples and labels of NPY files, one or several that hold the rows of one matrix, in memory or read from
/// where they lie.

#include <algorithm>
#include <atomic>
#include <charconv>
#include <limits>
#include <memory>
#include <string>
#include <utility>

#include <zipml/base/error.hpp>
#include <zipml/base/float_offset.hpp>
#include <zipml/base/views.hpp>
#include <zipml/io/dataset.hpp>
#include <zipml/io/load_checks.hpp>
#include <zipml/io/load_options.hpp>
#include <zipml/io/npy.hpp>
#include <zipml/io/number.hpp>

namespace zipml::inline ZIPML_ABI {

/// Loads the rows of NPY files into one Dataset: the label is column LoadOptions::label (a number from 1), else
/// the last one; with LoadOptions::like and as many columns as that has features there is none. `labels` is
/// another NPY file of labels, for matrices of features alone; empty: none. Columns have no names. Where
/// LoadOptions::scratch is set and the rows would take more than memory has room for, they are read from
/// the files, mapped, and must stay as they are. Throws Error for options that a table of numbers has no use
/// for, for files of different width, and as NpyFile.
Dataset load_npy(const List<std::string>& paths, const LoadOptions& options = {},
                 const std::string& labels = {});
inline Dataset load_npy(const std::string& path, const LoadOptions& options = {}) {
  return load_npy(List<std::string>{path}, options);
}

#if ZIPML_DEFINES

namespace detail {

/// The rows of NPY files, without the column of the label. What has been read is given back to the system from
/// time to time: memory stays small however large the files are.
class NpyRows final : public RowReader {
 public:
  NpyRows(List<NpyFile> files, Index label) : files_(std::move(files)), label_(label) {
    for (const NpyFile& file : files_) {
      starts_.push_back(rows_);
      rows_ += file.rows();
    }
  }

  Index rows() const { return rows_; }
  Index cols() const { return files_[0].cols() - (label_ >= 0 ? 1 : 0); }
  bool has_doubles() const {
    return std::any_of(files_.begin(), files_.end(), [](const NpyFile& file) { return file.is_double(); });
  }

  /// What float32 would drown: looks at all values, twice.
  void find_offsets() {
    if (rows_ == 0 || cols() == 0) return;
    OffsetSurvey survey(cols());
    Buffer<double> row(cols());
    for (Index i = 0; i < rows_; ++i) {
      take(i, row.data());
      for (Index j = 0; j < cols(); ++j) survey.note(j, row[j]);
    }
    survey.begin_sample(rows_);
    for (Index i = 0; i < rows_; ++i) {
      if (!survey.wants_row(i)) continue;
      take(i, row.data());
      for (Index j = 0; j < cols(); ++j) survey.take(j, row[j]);
    }
    offsets_ = survey.offsets([](Index, double) {});
  }
  const std::shared_ptr<const Buffer<double>>& offsets() const { return offsets_; }

  /// Value of the label's column in every row.
  Buffer<double> labels() const {
    Buffer<double> values(rows_);
    Index at = 0;
    for (const NpyFile& file : files_) {
      const MatrixView& view = file.matrix();
      for (Index i = 0; i < file.rows(); ++i) {
        values[at++] = value(view, i, label_);
        if (i % 1024 == 0) note(1024 * 4 * cols());
      }
      file.require_intact();
    }
    return values;
  }

  void read(Index first, Index count, float* out) const override {
    const Index d = cols();
    while (count > 0) {
      const std::size_t k = file_of(first);
      const NpyFile& file = files_[k];
      const Index at = first - starts_[k];
      const Index some = (std::min)(count, file.rows() - at);
      copy(file.matrix(), at, some, out);
      file.require_intact();
      note((std::max)(4 * some * d, some == 1 ? page : 0));
      first += some;
      count -= some;
      out += some * d;
    }
  }

 private:
  static double value(const MatrixView& view, Index i, Index j) {
    const Index at = i * view.stride + j * view.col_stride;
    return view.doubles != nullptr ? view.doubles[at] : static_cast<double>(view.data[at]);
  }
  std::size_t file_of(Index row) const {
    std::size_t k = 0;
    while (k + 1 < starts_.size() && starts_[k + 1] <= row) ++k;
    return k;
  }
  /// Column of the file that feature j is.
  Index column(Index j) const { return label_ >= 0 && j >= label_ ? j + 1 : j; }

  void take(Index row, double* out) const {
    const std::size_t k = file_of(row);
    const MatrixView& view = files_[k].matrix();
    for (Index j = 0; j < cols(); ++j) out[j] = value(view, row - starts_[k], column(j));
    note(8 * cols());
  }

  void copy(const MatrixView& view, Index first, Index count, float* out) const {
    const Index d = cols();
    const double* const offsets = offsets_ ? offsets_->data() : nullptr;
    if (view.data != nullptr && view.col_stride == 1 && offsets == nullptr) {
      const Index before = label_ >= 0 ? label_ : d;
      for (Index i = 0; i < count; ++i, out += d) {
        const float* const row = view.data + (first + i) * view.stride;
        std::copy_n(row, before, out);
        std::copy_n(row + before + 1, d - before, out + before);
      }
      return;
    }
    constexpr Index together = 64;  // of columns, some rows are side by side
    for (Index i = 0; i < count; i += together)
      for (Index j = 0; j < d; ++j) {
        const double offset = offsets != nullptr ? offsets[j] : 0.0;
        for (Index r = i; r < (std::min)(i + together, count); ++r)
          out[r * d + j] = static_cast<float>(value(view, first + r, column(j)) - offset);
      }
  }

  /// Counts bytes that were read, and gives memory back after some.
  void note(Index bytes) const {
    constexpr Index some = Index{32} << 20;
    if ((read_bytes_ += bytes) < some) return;
    read_bytes_ = 0;
    for (const NpyFile& file : files_) file.give_back();
  }

  List<NpyFile> files_;
  List<Index> starts_;
  Index rows_ = 0;
  Index label_;  // column, or -1
  std::shared_ptr<const Buffer<double>> offsets_;
  static constexpr Index page = 65536;  // what the system maps around a byte that is touched
  mutable std::atomic<Index> read_bytes_{0};
};

inline void refuse_options_of_text(const LoadOptions& options, const std::string& path) {
  const auto refuse = [&](bool given, const char* name) {
    if (given)
      throw Error(Place{path}, std::string(name) + " does not apply to an NPY file", "a CSV file",
                  "a matrix of numbers");
  };
  refuse(!options.use.empty(), "LoadOptions::use (--columns)");
  refuse(!options.ignore.empty(), "LoadOptions::ignore (--ignore)");
  refuse(!options.categorical.empty(), "LoadOptions::categorical (--categorical)");
  refuse(!options.id.empty(), "LoadOptions::id (--id)");
  refuse(!options.weights.empty(), "LoadOptions::weights (--weights)");
  refuse(options.missing != Missing::error, "LoadOptions::missing (--missing)");
}

/// The column of the label, or -1.
inline Index label_column(const LoadOptions& options, Index cols, const std::string& path) {
  if (options.label.empty())
    return options.like && options.predicting && options.like->cols == cols ? -1 : cols - 1;
  std::size_t number = 0;
  const char* const end = options.label.data() + options.label.size();
  const auto [stop, error] = std::from_chars(options.label.data(), end, number);
  if (error != std::errc{} || stop != end || number < 1 || static_cast<Index>(number) > cols)
    throw Error(Place{path}, "label column is out of range", "1 to " + std::to_string(cols),
                quote_input(options.label));
  return static_cast<Index>(number) - 1;
}

}  // namespace detail

ZIPML_FUNCTION Dataset load_npy(const List<std::string>& paths, const LoadOptions& options,
                                const std::string& labels) {
  const std::string& path = paths.front();
  const Place place{path};
  detail::refuse_options_of_text(options, path);
  List<NpyFile> files;
  for (const std::string& one : paths) {
    files.emplace_back(one, false);
    if (files.back().cols() != files.front().cols())
      throw Error(Place{one}, "has another number of columns than " + path,
                  std::to_string(files.front().cols()), std::to_string(files.back().cols()));
  }
  const Index cols = files.front().cols();
  if (!labels.empty() && !options.label.empty())
    throw Error(place, "labels are given twice", "a column or a file", "both");
  const Index label = labels.empty() ? detail::label_column(options, cols, path) : -1;
  const Index wanted = options.like ? options.like->cols : options.columns;
  auto rows = std::make_shared<detail::NpyRows>(std::move(files), label);
  if (rows->rows() == 0) throw Error(place, "no data rows", "at least one", "none");
  if (wanted > 0 && rows->cols() != wanted)
    throw Error(place, "wrong number of columns", std::to_string(wanted) + " features",
                std::to_string(rows->cols()));
  if (rows->cols() == 0)
    throw Error(place, "no column is left beside the label", "at least one feature", "1 column");

  Dataset data;
  data.rows = rows->rows();
  data.cols = rows->cols();
  const auto n = static_cast<std::uint64_t>(data.rows), d = static_cast<std::uint64_t>(data.cols);
  const std::uint64_t bytes = detail::memory_of(n, d, 4);
  const bool in_memory =
      bytes <= (options.scratch.empty() ? options.memory_limit : detail::room_in_memory(options));
  if (!in_memory && (options.scratch.empty() ||
                     detail::memory_of(n, 0, 0) + detail::memory_of(0, d, 0) > options.memory_limit))
    detail::throw_memory(place, n, d, bytes, options.memory_limit);
  if (!labels.empty()) {
    const NpyFile file(labels, false);
    if (file.cols() != 1 || file.rows() != data.rows)
      throw Error(Place{labels}, "labels and samples differ in number", std::to_string(data.rows) + " labels",
                  std::to_string(file.rows()) + " x " + std::to_string(file.cols()));
    const Dataset read = file.labels();
    data.labels = read.labels;
    data.label_offset = read.label_offset;
  } else if (label >= 0) {
    detail::round_labels(rows->labels(), data);
  } else {
    data.labels = Buffer<float>(data.rows);
    std::fill(data.labels.begin(), data.labels.end(), std::numeric_limits<float>::quiet_NaN());
    data.has_labels = false;
  }
  if (data.has_labels && !options.predicting)
    for (Index i = 0; i < data.rows; ++i)
      if (!detail::all_finite(data.labels.data() + i, 1))
        throw Error(Place{labels.empty() ? path : labels}, "the label is not finite", "a number",
                    number_text(data.labels[i]) + " in row " + std::to_string(i + 1));
  if (rows->has_doubles()) rows->find_offsets();
  data.source = path;
  data.offsets = rows->offsets();
  data.schema = options.like ? options.like : schema_or_unnamed(nullptr, data.cols);
  if (in_memory) {
    data.values = Buffer<float>::uninitialised(checked_product(data.rows, data.cols, "the sample matrix"));
    constexpr Index together = 4096;
    for (Index i = 0; i < data.rows; i += together)
      rows->read(i, (std::min)(together, data.rows - i), data.values.data() + i * data.cols);
    require_finite(data.features(), path.c_str());
  } else {
    data.reader = std::move(rows);  // what is not finite is found when it is read
  }
  detail::warn_of_order(data);
  return data;
}

#endif

}  // namespace zipml::inline ZIPML_ABI
