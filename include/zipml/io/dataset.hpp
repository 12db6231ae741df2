#pragma once
/// \file
/// Room io: samples and labels as they come from the outside world, before anything is scaled or quantized.

#include <string>
#include <vector>

#include <zipml/base/error.hpp>
#include <zipml/base/views.hpp>
#include <zipml/eigen.hpp>

namespace zipml::inline ZIPML_ABI {

/// n samples of d features with one label each, in the user's own units.
struct Dataset {
  Index rows = 0;
  Index cols = 0;
  Buffer<float> values;  ///< rows x cols, row-major, no padding
  Buffer<float> labels;  ///< rows

  List<std::string> column_names;  ///< of the features; empty when the file names none
  std::string label_name;          ///< empty when the file names none
  std::string source;              ///< file name, "-" for standard input, or the generator's name
  List<std::string> warnings;      ///< what a person should know before training on it

  /// The samples as a view for the library's functions.
  MatrixView features() const { return {values.data(), rows, cols, cols}; }
  /// The samples as an Eigen matrix.
  Eigen::Map<const RowMajorMatrix> matrix() const { return {values.data(), rows, cols}; }
  /// The labels as an Eigen vector.
  Eigen::Map<const Eigen::VectorXf> label_vector() const { return {labels.data(), rows}; }
};

/// A Dataset copied from Eigen matrices: the way in for samples that are in memory already.
Dataset make_dataset(const MatrixRef& features, const VectorRef& labels, std::string source = "memory");

#if ZIPML_DEFINES

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
  data.source = std::move(source);
  return data;
}

#endif

}  // namespace zipml::inline ZIPML_ABI
