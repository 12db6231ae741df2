#pragma once
/// \file
/// Room storage: targets, the labels of one model or of several, apart from the samples that they belong to.

#include <cstdint>
#include <initializer_list>
#include <span>
#include <utility>

#include <zipml/base/random.hpp>
#include <zipml/base/row_order.hpp>
#include <zipml/base/sample_weights.hpp>
#include <zipml/base/views.hpp>
#include <zipml/quantization/statistics.hpp>

namespace zipml::inline ZIPML_ABI {

/// Where the rows of the user's data lie in a store: a keyed permutation of (seed, n), so that a file sorted
/// by label cannot hurt training, and stores of one seed have the same batches.
class RowPlacement {
 public:
  RowPlacement() = default;
  RowPlacement(std::uint64_t seed, Index rows)
      : seed_(seed), order_(Permutation(seed, rows, Stream::row_order)) {}

  std::uint64_t seed() const { return seed_; }
  Index rows() const { return order_.size(); }
  /// The row of the user's data that lies at place i.
  Index row_id(Index i) const { return order_(i); }
  /// row_id of `count` places from `first` on, faster than one by one.
  void row_ids(Index first, Index count, Index* out) const { order_.places(first, count, out); }
  /// out[k] = the place of row first + k of the user's data.
  void places(Index first, Index count, Index* out) const { order_.inverse(first, count, out); }

 private:
  std::uint64_t seed_ = 0;
  RowOrder order_;
};

/// Values in the order of the user's rows, into store order. O(n).
void place_rows(const RowPlacement& placement, const float* values, float* out);

/// Weights of mean 1 (sample_weights) in store order. Errors: as there.
Buffer<float> placed_weights(const RowPlacement& placement, std::span<const float> weights);

/// n targets of each of m models, in store order and in the user's units, but for statistics(m).offset.
///
///     zipml::Targets targets(store.placement(), {by_year, by_price});   // one list of n labels for each
///     model
class Targets {
 public:
  Targets() = default;
  /// The labels of one model, in the order of the user's rows. Throws Error when their number is not that of
  /// the rows, when one is not finite, or when they bring weights: these belong to the samples (quantize).
  Targets(const RowPlacement& placement, const LabelView& labels)
      : Targets(placement, std::span<const LabelView>(&labels, 1)) {}
  Targets(const RowPlacement& placement, std::initializer_list<LabelView> labels)
      : Targets(placement, std::span<const LabelView>(labels.begin(), labels.size())) {}
  /// The same of several models.
  Targets(const RowPlacement& placement, std::span<const LabelView> labels);
  /// Labels that are in store order already, model after model, with their statistics.
  Targets(Buffer<float> placed, List<LabelStatistics> statistics)
      : rows_(placed.size() / static_cast<Index>(statistics.size())),
        values_(std::move(placed)),
        statistics_(std::move(statistics)) {}
  Targets(const RowPlacement& placement, std::span<const std::span<const float>> labels)
      : Targets(placement, std::span<const LabelView>(List<LabelView>(labels.begin(), labels.end()))) {}

  Index rows() const { return rows_; }
  int models() const { return static_cast<int>(statistics_.size()); }
  /// Of one model.
  std::span<const float> of(int model) const {
    return {values_.data() + model * rows_, static_cast<std::size_t>(rows_)};
  }
  const LabelStatistics& statistics(int model) const { return statistics_[static_cast<std::size_t>(model)]; }
  Index bytes() const { return static_cast<Index>(values_.bytes()); }
  /// All of them, model after model.
  const Buffer<float>& values() const { return values_; }

 private:
  Index rows_ = 0;
  Buffer<float> values_;  // m x n
  List<LabelStatistics> statistics_;
};

#if ZIPML_DEFINES

ZIPML_FUNCTION void place_rows(const RowPlacement& placement, const float* values, float* out) {
  constexpr Index piece = 1024;
  Index ids[piece];
  for (Index first = 0; first < placement.rows(); first += piece) {
    const Index count = placement.rows() - first < piece ? placement.rows() - first : piece;
    placement.row_ids(first, count, ids);
    for (Index k = 0; k < count; ++k) out[first + k] = values[ids[k]];
  }
}

ZIPML_FUNCTION Buffer<float> placed_weights(const RowPlacement& placement, std::span<const float> weights) {
  const Buffer<float> of_user = sample_weights(weights, placement.rows());
  Buffer<float> placed(of_user.size());
  if (!of_user.empty()) place_rows(placement, of_user.data(), placed.data());
  return placed;
}

ZIPML_FUNCTION Targets::Targets(const RowPlacement& placement, std::span<const LabelView> labels)
    : rows_(placement.rows()),
      values_(checked_product(rows_, static_cast<Index>(labels.size()), "the targets")) {
  Index model = 0;
  for (const LabelView& of_model : labels) {
    if (of_model.size() != rows_)
      throw Error("samples and labels differ in number", std::to_string(rows_) + " labels",
                  std::to_string(of_model.size()));
    if (!of_model.weights.empty())
      throw Error("weights belong to the samples, not to the targets of a model", "labels without weights",
                  "weights: give them to quantize");
    statistics_.push_back(label_statistics(of_model));
    place_rows(placement, of_model.data(), values_.data() + model++ * rows_);
  }
}

#endif

}  // namespace zipml::inline ZIPML_ABI
