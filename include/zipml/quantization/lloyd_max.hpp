#pragma once
/// \file
/// Room quantization: Lloyd-Max levels, those of least squared error under nearest rounding (Lloyd 1957, Max
/// 1960). Not for stochastic rounding: the lowest and the highest level lie inside the data.

#include <zipml/base/buffer.hpp>
#include <zipml/base/error.hpp>
#include <zipml/quantization/optimal_levels.hpp>
#if ZIPML_DEFINES
#include <zipml/quantization/link_path.hpp>
#endif

namespace zipml::inline ZIPML_ABI {

/// The table of at most `levels` levels that minimises sum_i w_i (x_i - nearest level)^2: exact among cells
/// that end on candidates, hence over all tables when these are the values themselves; no iteration that
/// could stop in a poor local optimum. O(n) evaluations of the cost in practice. Throws Error for no levels.
FoundLevels find_lloyd_max_levels(const LevelCandidates& candidates, Index levels);

#if ZIPML_DEFINES

ZIPML_FUNCTION FoundLevels find_lloyd_max_levels(const LevelCandidates& candidates, Index levels) {
  if (levels < 1) throw Error("nearest rounding needs a level", "at least 1", std::to_string(levels));
  if (candidates.size() == 0) throw Error("there are no values to place levels on", "at least one", "none");
  // Node i of the path lies behind candidate i - 1.
  const auto cost = [&candidates](Index j, Index m) { return candidates.cell(j - 1, m - 1).squared_error; };
  const List<Index> chain = detail::link_path(cost, candidates.size(), levels);
  FoundLevels found;
  for (std::size_t k = 1; k < chain.size(); ++k) {
    const LevelCandidates::Cell cell = candidates.cell(chain[k - 1] - 1, chain[k] - 1);
    if (!(cell.weight > 0.0)) continue;  // an empty bin
    found.levels.push_back(cell.mean);
    found.cost += cell.squared_error;
  }
  return found;
}

#endif

}  // namespace zipml::inline ZIPML_ABI
