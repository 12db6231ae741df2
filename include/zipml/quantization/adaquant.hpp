#pragma once
/// \file
/// Room quantization: ADAQUANT, a greedy search for levels with a guarantee (ZipML 2017, section 3.1 and
/// appendix, after Acharya et al. 2015).

#include <algorithm>

#include <zipml/base/buffer.hpp>
#include <zipml/base/error.hpp>
#include <zipml/quantization/optimal_levels.hpp>

namespace zipml::inline ZIPML_ABI {

/// A table of at most 4 k intervals, that is 4 k + 1 levels, whose variance is at most twice that of the best
/// table of k intervals. Starts from one interval between neighbouring candidates; each round pairs
/// neighbours, leaves the 2 k - 1 pairs alone whose union would cost most, and merges the others. (At most k
/// - 1 pairs hold a level of the best table inside, so k or more of those left alone do not and cost less
/// than the best table does there: each merged pair that does hold one costs at most 1/k of the best.) O(n):
/// rounds halve. Throws Error for k < 1. For what find_optimal_levels finds exactly in O(n) it is kept as the
/// paper's, and as a yardstick.
FoundLevels find_adaquant_levels(const LevelCandidates& candidates, Index intervals);

#if ZIPML_DEFINES

ZIPML_FUNCTION FoundLevels find_adaquant_levels(const LevelCandidates& candidates, Index intervals) {
  if (intervals < 1) throw Error("a table needs an interval", "at least 1", std::to_string(intervals));
  if (candidates.size() == 0) throw Error("there are no values to place levels on", "at least one", "none");
  intervals = (std::min)(intervals, candidates.size());
  const Index alone = 2 * intervals - 1;
  List<Index> chain;
  for (Index i = 0; i < candidates.size(); ++i) chain.push_back(i);
  List<double> costs;
  List<double> sorted;
  while (static_cast<Index>(chain.size()) - 1 > 4 * intervals) {
    const Index pairs = (static_cast<Index>(chain.size()) - 1) / 2;
    const auto node = [&chain](Index i) { return chain[static_cast<std::size_t>(i)]; };
    costs.clear();
    for (Index p = 0; p < pairs; ++p)
      costs.push_back(candidates.rounding_variance(node(2 * p), node(2 * p + 2)));
    sorted = costs;
    const auto border = sorted.begin() + static_cast<std::ptrdiff_t>(pairs - alone);
    std::nth_element(sorted.begin(), border, sorted.end());
    const double least = *border;  // of the pairs that are left alone
    Index ties = alone - std::count_if(border, sorted.end(), [least](double c) { return c > least; });
    List<Index> next{chain.front()};
    for (Index p = 0; p < pairs; ++p) {
      const double cost = costs[static_cast<std::size_t>(p)];
      if (cost > least || (cost == least && ties-- > 0)) next.push_back(node(2 * p + 1));
      next.push_back(node(2 * p + 2));
    }
    if (next.back() != chain.back()) next.push_back(chain.back());
    chain = std::move(next);
  }
  return detail::table_of(candidates, chain);
}

#endif

}  // namespace zipml::inline ZIPML_ABI
