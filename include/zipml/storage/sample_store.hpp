#pragma once
/// \file
/// Room storage: what every store of samples shares: shape, order of rows, labels, and the way back to the
/// user's units.

#include <concepts>
#include <cstdint>
#include <span>

#include <zipml/base/error.hpp>
#include <zipml/base/random.hpp>
#include <zipml/base/row_order.hpp>
#include <zipml/base/views.hpp>
#include <zipml/quantization/statistics.hpp>

namespace zipml::inline ZIPML_ABI {

/// The part of a store that does not depend on how its values are represented. Rows are placed by a keyed
/// permutation of (seed, n), so that a file sorted by label cannot hurt training, and float32 and packed
/// stores of one seed see the same batches.
class StoreHeader {
 public:
  StoreHeader() = default;
  StoreHeader(const MatrixView& features, std::span<const float> labels,
              const Buffer<ColumnStatistics>& columns, bool standardize, std::uint64_t seed)
      : rows_(features.rows),
        cols_(features.cols),
        seed_(seed),
        order_(Permutation(seed, features.rows, Stream::row_order)),
        labels_(features.rows),
        standardization_(standardize ? standardization_of(columns)
                                     : identity_standardization(features.cols)) {
    if (static_cast<Index>(labels.size()) != rows_)
      throw Error("samples and labels differ in number", std::to_string(rows_) + " labels",
                  std::to_string(labels.size()));
    label_statistics_ = zipml::label_statistics(labels.data(), rows_);
    constexpr Index piece = 1024;
    Index ids[piece];
    for (Index first = 0; first < rows_; first += piece) {
      const Index count = rows_ - first < piece ? rows_ - first : piece;
      row_ids(first, count, ids);
      for (Index k = 0; k < count; ++k) labels_[first + k] = labels[static_cast<std::size_t>(ids[k])];
    }
  }

  Index rows() const { return rows_; }
  Index cols() const { return cols_; }
  std::uint64_t seed() const { return seed_; }
  /// The row of the user's data that lies at place i of the store.
  Index row_id(Index i) const { return order_(i); }
  /// row_id of `count` places from `first` on, faster than one by one.
  void row_ids(Index first, Index count, Index* out) const { order_.places(first, count, out); }
  /// Labels in the user's units, in store order.
  const Buffer<float>& labels() const { return labels_; }
  const LabelStatistics& label_statistics() const { return label_statistics_; }
  /// From the user's columns to those that the model is trained on.
  const Standardization& standardization() const { return standardization_; }
  Index label_bytes() const { return static_cast<Index>(labels_.bytes()); }

 private:
  Index rows_ = 0;
  Index cols_ = 0;
  std::uint64_t seed_ = 0;
  RowOrder order_;
  Buffer<float> labels_;
  Standardization standardization_;
  LabelStatistics label_statistics_;
};

/// What the training loop asks of a store. `draws` counts the independent roundings of each value that it
/// holds; `value(i, j, draw)` and `decode_row` decode one, in standardised units (for diagnosis: kernels read
/// blocks).
template <class S>
concept SampleStore = requires(const S store, Index i, int draw, float* out) {
  { S::draws } -> std::convertible_to<int>;
  { store.rows() } -> std::convertible_to<Index>;
  { store.cols() } -> std::convertible_to<Index>;
  { store.row_id(i) } -> std::convertible_to<Index>;
  { store.labels()[i] } -> std::convertible_to<float>;
  { store.label_statistics() } -> std::convertible_to<const LabelStatistics&>;
  { store.standardization() } -> std::convertible_to<const Standardization&>;
  { store.stored_bits() } -> std::convertible_to<double>;
  { store.codes_bytes() } -> std::convertible_to<Index>;
  { store.store_bytes() } -> std::convertible_to<Index>;
  { store.label_bytes() } -> std::convertible_to<Index>;
  { store.value(i, i, draw) } -> std::convertible_to<float>;
  store.decode_row(i, draw, out);
};

/// A store together with the gradient estimator that it was packed for, which `Sgd::fit` then uses.
template <class Estimator, SampleStore Store>
struct StoreFor : Store {
  using DefaultEstimator = Estimator;
  explicit StoreFor(Store store) : Store(std::move(store)) {}
};

namespace detail {

/// The store itself: what does not ask for the estimator is compiled once for all of them.
template <class Store>
const Store& without_estimator(const Store& store) {
  return store;
}
template <class Estimator, class Store>
const Store& without_estimator(const StoreFor<Estimator, Store>& store) {
  return store;
}

}  // namespace detail

}  // namespace zipml::inline ZIPML_ABI
