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
/// lost a constant before they were rounded (base/float_offset.hpp). Rows that memory has no room for are
/// elsewhere (LoadOptions::scratch): features() reads them there.
struct Dataset {
  Index rows = 0;
  Index cols = 0;
  Buffer<float> values;    ///< rows x cols, row-major, no padding; empty where there is a reader
  Buffer<float> labels;    ///< rows; NaN where a table to be predicted has none
  bool has_labels = true;  ///< false: a table without a label column
  Buffer<float> weights;   ///< rows, at least 0, as LabelView has them; empty: every row counts the same

  std::shared_ptr<const Buffer<double>> offsets;  ///< of the columns, or null: the user's value is
                                                  ///< offsets[j] + values[i * cols + j]
  double label_offset = 0.0;                      ///< the user's label is label_offset + labels[i]
  std::shared_ptr<const Schema> schema;           ///< what the columns are called, or null
  List<std::string> ids = {};                     ///< of the rows, where LoadOptions::id asked for them
  std::string source;          ///< file name, "-" for standard input, or the generator's name
  List<std::string> warnings;  ///< what a person should know before training on it
  std::shared_ptr<const RowReader> reader = nullptr;  ///< of rows that are not in memory, or null

  bool in_memory() const { return reader == nullptr; }
  /// Names of the features; empty when the file has none.
  const List<std::string>& column_names() const {
    static const List<std::string> none;
    return schema ? schema->names : none;
  }
  /// Empty when the file has none.
  std::string label_name() const { return schema ? schema->label_name : std::string(); }

  /// The samples as a view for the library's functions.
  MatrixView features() const {
    return {values.data(), rows, cols, cols, 1, nullptr, offsets, schema, reader};
  }
  /// The labels, and weights, for the library's functions.
  LabelView label_view() const { return {labels, label_offset, weights}; }
  /// The samples as an Eigen matrix, without the offsets. Throws Error where they are not in memory.
  Eigen::Map<const RowMajorMatrix> matrix() const {
    if (reader) throw Error("the samples are not in memory", "features()", "matrix()");
    return {values.data(), rows, cols};
  }
  /// The labels as an Eigen vector, without the offset.
  Eigen::Map<const Eigen::VectorXf> label_vector() const { return {labels.data(), rows}; }
};

/// A Dataset copied from Eigen matrices: the way in for samples that are in memory already.
Dataset make_dataset(const MatrixRef& features, const VectorRef& labels, std::string source = "memory");

namespace detail {
/// What a loader says of a column whose values float32 cannot tell apart.
void warn_of_merging(Dataset& data, const std::string& name, double share);

/// Puts labels into a data set as float32, less an offset where that would drown them; NaN stands for none.
void round_labels(const Buffer<double>& labels, Dataset& data);
}  // namespace detail

#if ZIPML_DEFINES

namespace detail {

ZIPML_FUNCTION void warn_of_merging(Dataset& data, const std::string& name, double share) {
  data.warnings.push_back(name + ": float32 cannot tell apart " +
                          std::to_string(static_cast<int>(100.0 * share + 0.5)) +
                          " % of the different values of a sample: split it into parts or leave it out");
}

ZIPML_FUNCTION void round_labels(const Buffer<double>& labels, Dataset& data) {
  const Index n = labels.size();
  OffsetSurvey survey(1);
  for (const double y : labels) survey.note(0, y);
  survey.begin_sample(n);
  for (Index i = 0; i < n; ++i)
    if (survey.wants_row(i)) survey.take(0, labels[i]);
  const auto offsets =
      survey.offsets([&](Index, double merged) { warn_of_merging(data, "the label", merged); });
  data.label_offset = offsets ? (*offsets)[0] : 0.0;
  data.labels = Buffer<float>(n);
  for (Index i = 0; i < n; ++i) data.labels[i] = static_cast<float>(labels[i] - data.label_offset);
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
  data.weights = Buffer<float>(static_cast<Index>(labels.weights().size()));
  std::copy(labels.weights().begin(), labels.weights().end(), data.weights.begin());
  data.source = std::move(source);
  return data;
}

#endif

}  // namespace zipml::inline ZIPML_ABI
