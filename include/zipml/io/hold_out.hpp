#pragma once
/// \file
/// Room io: rows of a table that are held out of training, to validate on.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>

#include <zipml/base/error.hpp>
#include <zipml/base/random.hpp>
#include <zipml/io/dataset.hpp>
#include <zipml/io/generated.hpp>

namespace zipml::inline ZIPML_ABI {

/// The rows of a data set whose numbers stand in `rows`, in that order, with everything that goes with them.
Dataset select_rows(const Dataset& data, std::span<const Index> rows);

/// Splits a data set at random, by the seed: `train` keeps its order of rows, `test` holds the share
/// `fraction` of them, at least one row, and one at least is left. O(n d). Throws Error when there are fewer
/// than two rows or the fraction is not between 0 and 1.
///
///     const auto [train, held_out] = zipml::hold_out(zipml::load("data.csv"), 0.2);
TrainTest hold_out(const Dataset& data, double fraction, std::uint64_t seed = 1);

#if ZIPML_DEFINES

namespace detail {

/// Some rows of another reader: neighbours are read together.
class SelectedRows final : public RowReader {
 public:
  SelectedRows(std::shared_ptr<const RowReader> all, std::span<const Index> rows, Index cols)
      : all_(std::move(all)), rows_(rows.begin(), rows.end()), cols_(cols) {}
  void read(Index first, Index count, float* out) const override {
    for (Index k = 0; k < count;) {
      const Index* id = rows_.data() + first + k;
      Index together = 1;
      while (k + together < count && id[together] == *id + together) ++together;
      all_->read(*id, together, out + k * cols_);
      k += together;
    }
  }

 private:
  std::shared_ptr<const RowReader> all_;
  List<Index> rows_;
  Index cols_;
};

}  // namespace detail

ZIPML_FUNCTION Dataset select_rows(const Dataset& data, std::span<const Index> rows) {
  Dataset part;
  part.rows = static_cast<Index>(rows.size());
  part.cols = data.cols;
  if (data.reader)
    part.reader = std::make_shared<detail::SelectedRows>(data.reader, rows, data.cols);
  else
    part.values =
        Buffer<float>::uninitialised(checked_product(part.rows, part.cols, "a part of the samples"));
  part.labels = Buffer<float>(part.rows);
  part.weights = Buffer<float>(data.weights.empty() ? 0 : part.rows);
  part.has_labels = data.has_labels;
  part.offsets = data.offsets;
  part.label_offset = data.label_offset;
  part.schema = data.schema;
  part.source = data.source;
  Index at = 0;
  for (const Index i : rows) {
    if (data.cols > 0 && !data.reader)
      std::memcpy(part.values.data() + at * data.cols, data.values.data() + i * data.cols,
                  static_cast<std::size_t>(data.cols) * sizeof(float));
    if (!data.weights.empty()) part.weights[at] = data.weights[i];
    part.labels[at++] = data.labels[i];
    if (!data.ids.empty()) part.ids.push_back(data.ids[static_cast<std::size_t>(i)]);
  }
  return part;
}

ZIPML_FUNCTION TrainTest hold_out(const Dataset& data, double fraction, std::uint64_t seed) {
  if (!(fraction > 0.0 && fraction < 1.0))
    throw Error("the share of rows to hold out is out of range", "between 0 and 1", number_text(fraction));
  if (data.rows < 2)
    throw Error("there are too few rows to hold some out", "2 or more", std::to_string(data.rows));
  const auto share = static_cast<Index>(fraction * static_cast<double>(data.rows) + 0.5);
  const Index held = std::clamp<Index>(share, 1, data.rows - 1);
  const Permutation order(seed, data.rows, Stream::row_order, 2);
  Buffer<std::uint8_t> out(data.rows);
  for (Index k = 0; k < held; ++k) out[order(k)] = 1;
  List<Index> train, test;
  for (Index i = 0; i < data.rows; ++i) (out[i] != 0 ? test : train).push_back(i);
  return {select_rows(data, {train.data(), train.size()}), select_rows(data, {test.data(), test.size()})};
}

#endif

}  // namespace zipml::inline ZIPML_ABI
