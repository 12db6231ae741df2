#pragma once
/// \file
/// Room storage: float32 rows that are trained on where they lie, without a copy.

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include <zipml/base/error.hpp>
#include <zipml/base/sample_weights.hpp>
#include <zipml/base/views.hpp>
#include <zipml/storage/sample_store.hpp>

namespace zipml::inline ZIPML_ABI {

/// The rows of a matrix as samples, as they are: columns are not standardised, and rows are in their order, of
/// which a batch takes neighbours, batches at random. For matrices whose columns are of similar scale and
/// whose rows are in random order; for others the copy that quantize<32> makes is worth its time. The matrix
/// must outlive the set and stay as it is; nothing behind it is read. O(n d) to look for values that are not
/// finite, and labels are copied. Throws Error for those, for rows that are not side by side in float32
/// memory, and for labels of another number.
///
///     const auto set = zipml::in_place(data.features(), data.label_view());
///     const auto fit = zipml::Sgd{}.fit(set, zipml::full_precision);
SampleSet in_place(const MatrixView& features, const LabelView& labels, std::uint64_t seed = 1);

#if ZIPML_DEFINES

ZIPML_FUNCTION SampleSet in_place(const MatrixView& features, const LabelView& labels, std::uint64_t seed) {
  if (!features.has_rows() || (features.rows > 1 && features.stride != features.cols))
    throw Error("the rows are not side by side", "a row-major matrix of float32",
                features.reader       ? "rows of a source"
                : features.has_rows() ? "rows " + std::to_string(features.stride) + " values apart"
                : features.doubles    ? "doubles"
                                      : "another layout");
  if (labels.size() != features.rows)
    throw Error("samples and labels differ in number", std::to_string(features.rows) + " labels",
                std::to_string(labels.size()));
  if (features.rows == 0) throw Error("there are no samples", "at least one row", "0 rows");
  require_finite(features, "the sample matrix");
  const auto weights = std::make_shared<const Buffer<float>>(sample_weights(labels.weights, features.rows));
  SampleView view;
  view.rows = features.rows;
  view.cols = view.stride = features.cols;
  view.codes_bytes = view.store_bytes = 4 * features.rows * features.cols;
  static constexpr float none = 0.0f;  // rows without columns are float32 rows all the same
  view.values = features.cols > 0 ? features.data : &none;
  view.has_tail = false;
  view.weights = weights->empty() ? nullptr : weights->data();
  view.owner = weights;
  const LabelView of_user(labels.values, labels.offset);
  Buffer<float> values(labels.size());
  std::copy(labels.values.begin(), labels.values.end(), values.begin());
  Targets targets(std::move(values), {label_statistics(of_user)});
  Standardization map = identity_standardization(features.cols);
  map.offsets = features.offsets;
  map.schema = features.schema;
  return {std::move(view), std::move(targets), std::move(map), seed};
}

#endif

}  // namespace zipml::inline ZIPML_ABI
