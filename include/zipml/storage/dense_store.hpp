#pragma once
/// \file
/// Room storage: samples in float32, behind the same concept as the packed ones: full precision is a choice
/// of store.

#include <algorithm>
#include <cstddef>
#include <span>

#include <zipml/base/error.hpp>
#include <zipml/base/views.hpp>
#include <zipml/storage/sample_store.hpp>

namespace zipml::inline ZIPML_ABI {

/// n x d standardised float32 values in store order, row-major, no padding.
class DenseStore : public StoreHeader {
 public:
  static constexpr int draws = 1;
  static constexpr bool has_bias = false;

  DenseStore() = default;
  /// O(n d). Throws Error on values that are not finite or on n = 0.
  DenseStore(const MatrixView& features, const LabelView& labels, bool standardize, std::uint64_t seed)
      : DenseStore(features, labels, column_statistics(features), standardize, seed) {}

  /// A store around values that are standardised and in store order already.
  DenseStore(StoreHeader header, Buffer<float> values)
      : StoreHeader(std::move(header)), values_(std::move(values)) {
    if (values_.size() != rows() * cols())
      throw Error("values do not fill the store", std::to_string(rows() * cols()),
                  std::to_string(values_.size()));
  }

  int bits() const { return 32; }
  double stored_bits() const { return 32.0; }
  Index codes_bytes() const { return store_bytes(); }
  Index store_bytes() const { return static_cast<Index>(values_.bytes()); }

  const float* row(Index i) const { return values_.data() + i * cols(); }
  /// Valid as long as the store is.
  SampleView samples() const;
  float value(Index i, Index j, int /*draw*/ = 0) const { return row(i)[j]; }
  void decode_row(Index i, int /*draw*/, float* out) const { std::copy_n(row(i), cols(), out); }

 private:
  DenseStore(const MatrixView& features, const LabelView& labels, const Buffer<ColumnStatistics>& columns,
             bool standardize, std::uint64_t seed);

  Buffer<float> values_;
};

static_assert(SampleStore<DenseStore>);

#if ZIPML_DEFINES

ZIPML_FUNCTION SampleView DenseStore::samples() const {
  SampleView view;
  view.rows = rows();
  view.cols = view.stride = cols();
  view.codes_bytes = view.store_bytes = store_bytes();
  static constexpr float none = 0.0f;  // rows without columns are float32 rows all the same
  view.weights = weights().data();
  view.values = values_.empty() ? &none : values_.data();
  return view;
}

ZIPML_FUNCTION DenseStore::DenseStore(const MatrixView& features, const LabelView& labels,
                                      const Buffer<ColumnStatistics>& columns, bool standardize,
                                      std::uint64_t seed)
    : StoreHeader(features, labels, columns, standardize, seed),
      values_(checked_product(features.rows, features.cols, "a dense store")) {
  const Standardization& map = standardization();
  MatrixRows rows_of(features);
  for (Index i = 0; i < rows(); ++i) {
    const float* from = rows_of(row_id(i));
    float* to = values_.data() + i * cols();
    for (Index j = 0; j < cols(); ++j) to[j] = static_cast<float>(map.apply(static_cast<double>(from[j]), j));
  }
}

#endif

}  // namespace zipml::inline ZIPML_ABI
