#pragma once
/// \file
/// Room training: in which order the epochs of a fit visit the rows of a store.

#include <algorithm>
#include <cstdint>
#include <utility>

#include <zipml/base/buffer.hpp>
#include <zipml/base/collective.hpp>
#include <zipml/base/random.hpp>
#include <zipml/storage/plane_layout.hpp>

namespace zipml::inline ZIPML_ABI {

/// Epochs visit *runs* of rows in a fresh random order: batches, and of batches below 64 rows as many as make
/// 64, one after the other. Rows of a store are in random order already; a processor fetches ahead what is
/// read in line, and waits for every row that is not. At least 64 runs make an epoch.
class VisitingOrder {
 public:
  VisitingOrder(Index rows, Index batch, std::uint64_t seed)
      : rows_(rows), run_rows_(run_of(rows, batch)), random_(seed) {
    order_ = Buffer<Index>((rows + run_rows_ - 1) / run_rows_);
  }

  /// Runs of an epoch.
  Index size() const { return order_.size(); }
  /// The run that is visited at place r; none behind the last.
  RowRange run(Index r) const {
    if (r >= size()) return {};
    const Index first = order_[r] * run_rows_;
    return {first, (std::min)(run_rows_, rows_ - first)};
  }

  /// The order of an epoch: Fisher and Yates, from counters of the stream batch_order.
  void shuffle(int epoch);

 private:
  static Index run_of(Index rows, Index batch) {
    const Index most = rows / batch / 64;
    return batch * std::max<Index>(1, (std::min)(block_rows / batch, most));
  }

  Index rows_;
  Index run_rows_;
  Random random_;
  Buffer<Index> order_;
};

#if ZIPML_DEFINES

ZIPML_FUNCTION void VisitingOrder::shuffle(int epoch) {
  for (Index k = 0; k < order_.size(); ++k) order_[k] = k;
  PhiloxWords words{};
  for (Index k = order_.size() - 1; k > 0; --k) {
    const auto place = static_cast<std::uint32_t>(k);
    words = random_.words(Stream::batch_order, 0, static_cast<std::uint32_t>(epoch), place / 4);
    const auto pick = std::uint64_t{words[place % 4]} * static_cast<std::uint64_t>(k + 1) >> 32;
    std::swap(order_[k], order_[static_cast<Index>(pick)]);
  }
}

#endif

}  // namespace zipml::inline ZIPML_ABI
