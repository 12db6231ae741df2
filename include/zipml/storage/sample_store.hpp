#pragma once
/// \file
/// Room storage: what a store of samples is to those who train on it, and what every store of this library
/// shares.

#include <concepts>
#include <cstdint>
#include <span>
#include <utility>

#include <zipml/base/sample_weights.hpp>
#include <zipml/base/views.hpp>
#include <zipml/quantization/statistics.hpp>
#include <zipml/storage/sample_view.hpp>
#include <zipml/storage/targets.hpp>

namespace zipml::inline ZIPML_ABI {

/// What training asks of a store: samples, their targets, the seed of its random choices, and the map between
/// the user's columns and those of the samples. A store may also say at compile time how many `draws` it
/// holds and whether it `has_bias` terms; then a wrong estimator does not compile, else it is an Error when
/// training begins.
template <class S>
concept SampleStore = requires(const S store) {
  { store.samples() } -> std::convertible_to<SampleView>;
  { store.targets() } -> std::convertible_to<const Targets&>;
  { store.standardization() } -> std::convertible_to<const Standardization&>;
  { store.seed() } -> std::convertible_to<std::uint64_t>;
};

/// Samples whose values are rounded anew for each epoch, in memory of their own.
class FreshSamples {
 public:
  virtual ~FreshSamples() = default;
  /// Valid as long as this lives; its codes and bias terms change with each draw.
  virtual SampleView samples() const = 0;
  /// Makes codes and bias terms those of `epoch`, from 0. O(n d draws).
  virtual void draw(int epoch) = 0;
};

/// A store of fresh draws: what `samples()` shows is epoch 0; training draws from what `fresh()` makes for
/// it, so that the store stays as it is and several fits may use it at once. (Null: its draws are frozen
/// after all.)
template <class S>
concept FreshStore = SampleStore<S> && requires(const S store) {
  { store.fresh()->samples() } -> std::convertible_to<SampleView>;
  store.fresh()->draw(0);
};

/// Samples with their targets, wherever their memory is: what to train on codes that lie in a mapped file, or
/// in an array of one's own.
///
///     const zipml::SampleSet set{view, targets, zipml::identity_standardization(d)};
///     const auto fit = zipml::Sgd{}.fit(set, zipml::variance_corrected);
class SampleSet {
 public:
  /// Throws Error when the parts are not of one shape.
  SampleSet(SampleView samples, Targets targets, Standardization standardization, std::uint64_t seed = 1);

  const SampleView& samples() const { return samples_; }
  const Targets& targets() const { return targets_; }
  const Standardization& standardization() const { return standardization_; }
  std::uint64_t seed() const { return seed_; }

 private:
  SampleView samples_;
  Targets targets_;
  Standardization standardization_;
  std::uint64_t seed_;
};

/// The part of a store that does not depend on how its values are represented.
class StoreHeader {
 public:
  StoreHeader() = default;
  StoreHeader(const MatrixView& features, const LabelView& labels, const Buffer<ColumnStatistics>& columns,
              bool standardize, std::uint64_t seed);
  /// From parts that are in store order already; weights of mean 1, or none.
  StoreHeader(const RowPlacement& placement, Targets targets, Buffer<float> weights, Standardization map)
      : cols_(map.cols()),
        placement_(placement),
        targets_(std::move(targets)),
        weights_(std::move(weights)),
        standardization_(std::move(map)) {}

  Index rows() const { return placement_.rows(); }
  Index cols() const { return cols_; }
  std::uint64_t seed() const { return placement_.seed(); }
  /// Where the rows of the user's data lie.
  const RowPlacement& placement() const { return placement_; }
  Index row_id(Index i) const { return placement_.row_id(i); }
  void row_ids(Index first, Index count, Index* out) const { placement_.row_ids(first, count, out); }
  const Targets& targets() const { return targets_; }
  /// Labels in the user's units less label_statistics().offset, in store order.
  const Buffer<float>& labels() const { return targets_.values(); }
  const LabelStatistics& label_statistics() const { return targets_.statistics(0); }
  /// From the user's columns to those that the model is trained on.
  const Standardization& standardization() const { return standardization_; }
  Index label_bytes() const { return targets_.bytes() + static_cast<Index>(weights_.bytes()); }
  /// Replaces the map between the user's columns and those of the samples, where packing has learnt more of
  /// them: of `columns`, or none.
  void standardise(const Buffer<ColumnStatistics>& columns, bool standardize);
  /// How much each row counts, of mean 1 and in store order; empty: 1.
  const Buffer<float>& weights() const { return weights_; }

 private:
  Index cols_ = 0;
  RowPlacement placement_;
  Targets targets_;
  Buffer<float> weights_;
  Standardization standardization_;
};

#if ZIPML_DEFINES

ZIPML_FUNCTION SampleSet::SampleSet(SampleView samples, Targets targets, Standardization standardization,
                                    std::uint64_t seed)
    : samples_(std::move(samples)),
      targets_(std::move(targets)),
      standardization_(std::move(standardization)),
      seed_(seed) {
  if (targets_.rows() != samples_.rows)
    throw Error("samples and labels differ in number", std::to_string(samples_.rows) + " labels",
                std::to_string(targets_.rows()));
  if (standardization_.cols() != samples_.cols)
    throw Error("samples and standardisation differ in columns", std::to_string(samples_.cols),
                std::to_string(standardization_.cols()));
}

ZIPML_FUNCTION StoreHeader::StoreHeader(const MatrixView& features, const LabelView& labels,
                                        const Buffer<ColumnStatistics>& columns, bool standardize,
                                        std::uint64_t seed)
    : cols_(features.cols),
      placement_(seed, features.rows),
      targets_(placement_, LabelView(labels.values, labels.offset)),
      weights_(placed_weights(placement_, labels.weights)) {
  standardise(columns, standardize);
  standardization_.offsets = features.offsets;
  standardization_.schema = features.schema;
}

ZIPML_FUNCTION void StoreHeader::standardise(const Buffer<ColumnStatistics>& columns, bool standardize) {
  Standardization map = standardize ? standardization_of(columns) : identity_standardization(columns.size());
  standardization_.mean = std::move(map.mean);
  standardization_.scale = std::move(map.scale);
}

#endif

}  // namespace zipml::inline ZIPML_ABI
