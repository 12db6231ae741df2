#pragma once
/// \file
/// Room io: samples and labels as they come from the outside world, before anything is scaled or quantized.

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include <zipml/base/error.hpp>
#include <zipml/base/float_offset.hpp>
#include <zipml/base/views.hpp>
#include <zipml/eigen.hpp>

namespace zipml::inline ZIPML_ABI {

/// n samples of d features with one label each, in the user's own units, but for offsets: columns and labels
/// whose numbers are so large beside their differences that float32 would drown them, timestamps say, have
/// lost a constant before they were rounded (base/float_offset.hpp).
struct Dataset {
  Index rows = 0;
  Index cols = 0;
  Buffer<float> values;    ///< rows x cols, row-major, no padding
  Buffer<float> labels;    ///< rows; NaN where a table to be predicted has none
  bool has_labels = true;  ///< false: a table without a label column

  std::shared_ptr<const Buffer<double>> offsets;  ///< of the columns, or null: the user's value is
                                                  ///< offsets[j] + values[i * cols + j]
  double label_offset = 0.0;                      ///< the user's label is label_offset + labels[i]
  std::shared_ptr<const Schema> schema;           ///< what the columns are called, or null
  List<std::string> ids = {};                     ///< of the rows, where LoadOptions::id asked for them
  std::string source;          ///< file name, "-" for standard input, or the generator's name
  List<std::string> warnings;  ///< what a person should know before training on it

  /// Names of the features; empty when the file has none.
  const List<std::string>& column_names() const {
    static const List<std::string> none;
    return schema ? schema->names : none;
  }
  /// Empty when the file has none.
  std::string label_name() const { return schema ? schema->label_name : std::string(); }

  /// The samples as a view for the library's functions.
  MatrixView features() const { return {values.data(), rows, cols, cols, 1, nullptr, offsets, schema}; }
  /// The labels for the library's functions.
  LabelView label_view() const { return {labels, label_offset}; }
  /// The samples as an Eigen matrix, without the offsets.
  Eigen::Map<const RowMajorMatrix> matrix() const { return {values.data(), rows, cols}; }
  /// The labels as an Eigen vector, without the offset.
  Eigen::Map<const Eigen::VectorXf> label_vector() const { return {labels.data(), rows}; }
};

/// A Dataset copied from Eigen matrices: the way in for samples that are in memory already.
Dataset make_dataset(const MatrixRef& features, const VectorRef& labels, std::string source = "memory");

namespace detail {
/// Puts labels into a data set as float32, less an offset where that would drown them; NaN stands for none.
FloatOffset round_labels(const Buffer<double>& labels, Dataset& data);
}  // namespace detail

#if ZIPML_DEFINES

namespace detail {

ZIPML_FUNCTION FloatOffset round_labels(const Buffer<double>& labels, Dataset& data) {
  const Index n = labels.size();
  double low = 0.0, high = 0.0;
  bool inexact = false, first = true;
  for (const double y : labels) {
    if (std::isnan(y)) continue;
    low = first || y < low ? y : low;
    high = first || y > high ? y : high;
    first = false;
    inexact = inexact || static_cast<double>(static_cast<float>(y)) != y;
  }
  FloatOffset found;
  if (inexact) {
    const Index m = (std::min)(n, offset_sample_rows);
    Buffer<double> sample(m);
    Index count = 0;
    for (Index k = 0; k < m; ++k)
      if (const double y = labels[offset_sample_row(k, m, n)]; !std::isnan(y)) sample[count++] = y;
    found = float_offset(sample.data(), count, low, high);
  }
  data.label_offset = found.offset;
  data.labels = Buffer<float>(n);
  for (Index i = 0; i < n; ++i) data.labels[i] = static_cast<float>(labels[i] - found.offset);
  return found;
}

}  // namespace detail

ZIPML_FUNCTION Dataset make_dataset(const MatrixRef& features, const VectorRef& labels, std::string source) {
  if (features.rows() != labels.size())
    throw Error("samples and labels differ in number", std::to_string(features.rows()) + " labels",
                std::to_string(labels.size()));
  Dataset data;
  data.rows = features.rows();
  data.cols = features.cols();
  data.values = Buffer<float>(checked_product(data.rows, data.cols, "the sample matrix"));
  data.labels = Buffer<float>(data.rows);
  MatrixRows rows(features.view());
  for (Index i = 0; i < data.rows; ++i) {
    if (data.cols > 0)
      std::memcpy(data.values.data() + i * data.cols, rows(i),
                  static_cast<std::size_t>(data.cols) * sizeof(float));
    data.labels[i] = labels[i];
  }
  data.offsets = features.view().offsets;
  data.schema = features.view().schema;
  data.label_offset = labels.offset();
  data.source = std::move(source);
  return data;
}

#endif

}  // namespace zipml::inline ZIPML_ABI
