#pragma once
/// \file
/// Room quantization: the levels that minimise the variance of stochastic rounding (ZipML 2017, section 3).

#include <zipml/base/buffer.hpp>
#include <zipml/base/error.hpp>
#include <zipml/quantization/level_candidates.hpp>
#if ZIPML_DEFINES
#include <zipml/quantization/link_path.hpp>
#endif

namespace zipml::inline ZIPML_ABI {

/// A table of levels that a search has found.
struct FoundLevels {
  List<double> levels;  ///< increasing; fewer than asked for where fewer cost nothing
  double cost = 0.0;    ///< sum of weight * what the search minimises
};

/// The table of at most `levels` levels on the candidates that minimises sum_i w_i (x_i - l(x_i)) (u(x_i) -
/// x_i), l and u the neighbouring levels: the lowest and the highest candidate and those between that serve
/// best. Exact, up to the rounding of double sums (see LevelCandidates); 0 when there are no more candidates
/// than levels. O(n) evaluations of the cost in practice (see link_path.hpp). Throws Error for fewer than 2
/// levels.
///
///     const auto found = zipml::find_optimal_levels(zipml::LevelCandidates::of_values(column), 16);
FoundLevels find_optimal_levels(const LevelCandidates& candidates, Index levels);

/// The same with a level on candidate `place`: zero, say, so that zeros stay zeros. The number of levels
/// below it is found by bisection, the cost on either side being convex in it: O(log levels) searches. At
/// least 3 levels unless the candidate is an end.
FoundLevels find_optimal_levels_through(const LevelCandidates& candidates, Index levels, Index place);

#if ZIPML_DEFINES

namespace detail {

inline void require_levels(Index levels) {
  if (levels < 2) throw Error("stochastic rounding needs two levels", "at least 2", std::to_string(levels));
}

/// The variance of a chain of positions and the table that it is.
inline FoundLevels table_of(const LevelCandidates& candidates, const List<Index>& chain) {
  FoundLevels found;
  for (std::size_t k = 0; k < chain.size(); ++k) {
    found.levels.push_back(candidates.position(chain[k]));
    if (k > 0) found.cost += candidates.rounding_variance(chain[k - 1], chain[k]);
  }
  found.cost = (std::max)(found.cost, 0.0);
  return found;
}

/// Part of the candidates, for searches on either side of a level that is given.
struct CandidateRange {
  const LevelCandidates& all;
  Index first;
  double operator()(Index j, Index m) const { return all.rounding_variance(first + j, first + m); }
};

inline List<Index> best_chain(const LevelCandidates& candidates, Index first, Index last, Index links) {
  List<Index> chain = link_path(CandidateRange{candidates, first}, last - first, links);
  for (Index& node : chain) node += first;
  return chain;
}

}  // namespace detail

ZIPML_FUNCTION FoundLevels find_optimal_levels(const LevelCandidates& candidates, Index levels) {
  detail::require_levels(levels);
  if (candidates.size() == 0) throw Error("there are no values to place levels on", "at least one", "none");
  return detail::table_of(candidates, detail::best_chain(candidates, 0, candidates.size() - 1, levels - 1));
}

ZIPML_FUNCTION FoundLevels find_optimal_levels_through(const LevelCandidates& candidates, Index levels,
                                                       Index place) {
  detail::require_levels(levels);
  const Index last = candidates.size() - 1;
  if (place < 0 || place > last)
    throw Error("there is no such candidate", "0 to " + std::to_string(last), std::to_string(place));
  if (place == 0 || place == last) return find_optimal_levels(candidates, levels);
  if (levels < 3)
    throw Error("a level inside the range needs two more at its ends", "at least 3 levels",
                std::to_string(levels));
  const auto with = [&](Index below) {
    List<Index> chain = detail::best_chain(candidates, 0, place, below);
    const List<Index> above = detail::best_chain(candidates, place, last, levels - 1 - below);
    chain.insert(chain.end(), above.begin() + 1, above.end());
    return detail::table_of(candidates, chain);
  };
  Index low = 1;
  Index high = levels - 2;
  while (low < high) {
    const Index middle = low + (high - low) / 2;
    if (with(middle).cost <= with(middle + 1).cost)
      high = middle;
    else
      low = middle + 1;
  }
  return with(low);
}

#endif

}  // namespace zipml::inline ZIPML_ABI
