#pragma once
/// \file
/// Room quantization: the cheapest path of exactly k links, the search behind every optimal table of levels.
///
/// Nodes 0 .. n in a row, a link from j to m > j costs c(j, m), and c satisfies the quadrangle inequality
/// c(a, c) + c(b, d) <= c(a, d) + c(b, c) for a <= b <= c <= d. Then the cost T(k) of the best path of k
/// links is convex in k, so that a fee lambda on each link, T(k) + lambda k, is lowest at the k that is asked
/// for once lambda lies between T(k) - T(k + 1) and T(k - 1) - T(k); and for a given fee the best path of any
/// number of links takes one sweep over the nodes. Aggarwal, Schieber, Tokuyama 1994 (k-link paths);
/// Hirschberg, Larmore 1987 (the sweep). The work is O(n) evaluations of c in practice, whatever k is: a fee
/// that was found on a coarse selection of the nodes is, nearly always, right for all of them.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>

#include <zipml/base/buffer.hpp>

namespace zipml::inline ZIPML_ABI {

namespace detail {

/// All nodes 0 .. last.
struct AllNodes {
  Index last;
  Index count() const { return last + 1; }
  Index operator[](Index i) const { return i; }
};

/// Some of them, in order.
struct SomeNodes {
  List<Index> nodes;
  Index count() const { return static_cast<Index>(nodes.size()); }
  Index operator[](Index i) const { return nodes[static_cast<std::size_t>(i)]; }
};

/// Finds paths from the first to the last of some nodes.
template <class Cost, class Nodes>
class LinkPathSearch {
 public:
  LinkPathSearch(const Cost& cost, const Nodes& nodes)
      : cost_(cost), nodes_(nodes), end_(nodes.count() - 1), total_(end_ + 1), parent_(end_ + 1) {}

  /// The nodes of the best path of `links` links, both ends included; of fewer links where these cost nothing
  /// more. `fee` is a first guess, and becomes the fee that was used.
  List<Index> find(Index links, double& fee) {
    if (links >= end_) {
      List<Index> all;
      for (Index i = 0; i <= end_; ++i) all.push_back(nodes_[i]);
      return all;
    }
    Path fewer;
    Path more;
    const double nothing = 1e-30 * std::fabs(cost_(nodes_[0], nodes_[end_]));
    for (int step = 0; step < 200; ++step) {  // a handful; noise of costs must not make it endless
      Path path = sweep(fee);
      if (path.links() == links) return std::move(path.nodes);
      const bool known = path.links() == fewer.links() || path.links() == more.links();
      // T falls like k^-2, hence the fee like k^-3.
      const double ratio = static_cast<double>(path.links()) / static_cast<double>(links);
      double next = fee * std::clamp(ratio * ratio * ratio, 1e-6, 1e6);
      if (path.links() < links) {
        if (!(fee > nothing)) return std::move(path.nodes);  // more links would cost no less
        next = (std::min)(next, fee * 0.95);
        fewer = std::move(path);
      } else {
        next = (std::max)(next, fee * 1.05);
        more = std::move(path);
      }
      if (known && (fewer.nodes.empty() || more.nodes.empty()))  // a stretch of T that is not like k^-2
        next = fewer.nodes.empty() ? fee * 1e3 : fee * 1e-3;
      if (!fewer.nodes.empty() && !more.nodes.empty()) {
        // Where the two paths cost the same, others of the lower hull of T lie below both, or the paths
        // between them are as good.
        const double crossing = (fewer.cost - more.cost) / static_cast<double>(more.links() - fewer.links());
        if (known && fee == crossing_) break;
        if (known || !(next > more.fee && next < fewer.fee)) next = crossing_ = crossing;
      }
      fee = next;
    }
    if (more.nodes.empty()) return std::move(fewer.nodes);
    if (fewer.nodes.empty()) {  // all links cost nothing: any selection does
      List<Index> some;
      for (Index k = 0; k <= links; ++k)
        some.push_back(more.nodes[static_cast<std::size_t>(k * more.links() / links)]);
      return some;
    }
    return join(fewer.nodes, more.nodes, links);
  }

  /// Moves `fee`, for which the best path has `links` links, towards the middle of such fees.
  void center(Index links, double& fee) {
    if (links >= end_) return;
    const double reach = 4.0 / static_cast<double>(links);
    double inside[2] = {fee, fee};
    double outside[2] = {fee / (1.0 + reach), fee * (1.0 + reach)};
    for (int side = 0; side < 2; ++side)
      for (int step = 0; step < 5; ++step) {
        const double middle = std::sqrt(inside[side]) * std::sqrt(outside[side]);
        const bool good = sweep(middle).links() == links;
        (good ? inside : outside)[side] = middle;
      }
    fee = std::sqrt(inside[0]) * std::sqrt(inside[1]);
  }

 private:
  struct Path {
    List<Index> nodes;
    double cost = 0.0;
    double fee = 0.0;
    Index links() const { return static_cast<Index>(nodes.size()) - 1; }
  };

  /// From node `from` on, the best path to a node comes from `origin`, until the next entry says otherwise.
  struct Reign {
    std::int32_t origin;
    std::int32_t from;
  };

  /// f(m) = min_j f(j) + c(j, m) + fee. With the quadrangle inequality a later origin that is better than an
  /// earlier one at some node is better at all nodes behind it: origins in the queue take turns.
  Path sweep(double fee) {
    queue_.clear();
    queue_.push_back({0, 1});
    std::size_t head = 0;
    total_[0] = 0.0;
    for (Index m = 1;; ++m) {
      while (head + 1 < queue_.size() && queue_[head + 1].from <= m) ++head;
      const Index j = queue_[head].origin;
      total_[m] = via(j, m) + fee;
      parent_[m] = static_cast<std::int32_t>(j);
      if (m == end_) break;
      // Origin m against those whose turn is still to come.
      while (queue_.size() > head) {
        const Index from = std::max<Index>(queue_.back().from, m + 1);
        if (!(via(m, from) < via(queue_.back().origin, from))) break;
        queue_.pop_back();
      }
      Index from = m + 1;
      if (queue_.size() > head)
        from = first_better(m, queue_.back().origin, std::max<Index>(queue_.back().from, from));
      if (from <= end_) queue_.push_back({static_cast<std::int32_t>(m), static_cast<std::int32_t>(from)});
      if (head >= 4096 && 2 * head >= queue_.size()) {  // those whose turn is over
        queue_.erase(queue_.begin(), queue_.begin() + static_cast<std::ptrdiff_t>(head));
        head = 0;
      }
    }
    Path path;
    path.fee = fee;
    for (Index m = end_; m != 0; m = parent_[m]) {
      path.nodes.push_back(nodes_[m]);
      path.cost += cost_(nodes_[parent_[m]], nodes_[m]);
    }
    path.nodes.push_back(nodes_[0]);
    std::reverse(path.nodes.begin(), path.nodes.end());
    return path;
  }

  double via(Index j, Index m) const { return total_[j] + cost_(nodes_[j], nodes_[m]); }

  /// The first node behind `worse_until` where origin `later` is better than `earlier`: steps that double,
  /// since it is near, then bisection. end_ + 1: none.
  Index first_better(Index later, Index earlier, Index worse_until) const {
    Index low = worse_until;
    Index step = 1;
    Index high = low + step;
    while (high <= end_ && !(via(later, high) < via(earlier, high))) {
      low = high;
      step *= 2;
      high = low + step;
    }
    high = (std::min)(high, end_ + 1);
    while (high - low > 1) {
      const Index middle = low + (high - low) / 2;
      (via(later, middle) < via(earlier, middle) ? high : low) = middle;
    }
    return high;
  }

  /// Both paths are best for the same fee (up to rounding); by the quadrangle inequality so is the one that
  /// follows `more` up to a link that lies inside a link of `fewer`, and then `fewer`.
  static List<Index> join(const List<Index>& fewer, const List<Index>& more, Index links) {
    const std::size_t shift = static_cast<std::size_t>(links) + 1 - fewer.size();
    for (std::size_t i = 0; i + 1 < fewer.size() && i + shift + 1 < more.size(); ++i)
      if (fewer[i] <= more[i + shift] && more[i + shift + 1] <= fewer[i + 1]) {
        List<Index> path(more.begin(), more.begin() + static_cast<std::ptrdiff_t>(i + shift) + 1);
        path.insert(path.end(), fewer.begin() + static_cast<std::ptrdiff_t>(i) + 1, fewer.end());
        return path;
      }
    return fewer;
  }

  const Cost& cost_;
  const Nodes& nodes_;
  Index end_;
  Buffer<double> total_;
  Buffer<std::int32_t> parent_;
  List<Reign> queue_;
  double crossing_ = -1.0;  // the last fee at which two paths cost the same
};

/// About `wanted` nodes, denser where links are short: where c is the cost of intervals in a density p, best
/// links have p dx^3 about equal, so that equal sums of c^(1/3) lie between nodes.
template <class Cost>
SomeNodes coarse_nodes(const Cost& cost, Index last, Index wanted) {
  const Index stride = std::max<Index>(1, last / (8 * wanted));
  double total = 0.0;
  for (Index j = 0; j < last; j += stride)
    total += std::cbrt((std::max)(0.0, cost(j, (std::min)(j + stride, last))));
  SomeNodes some;
  some.nodes.push_back(0);
  const double share = total / static_cast<double>(wanted);
  double sum = 0.0;
  for (Index j = 0; j + stride < last; j += stride) {
    const double length = std::cbrt((std::max)(0.0, cost(j, j + stride)));
    sum += length;
    if (sum < share) continue;
    if (length > share)  // a long tail: a few values far apart, each of which matters
      for (Index m = j + 1; m < j + stride; ++m) some.nodes.push_back(m);
    some.nodes.push_back(j + stride);
    sum = std::fmod(sum, share);
  }
  for (Index m = (std::max)(some.nodes.back() + 1, last - stride); m <= last; ++m) some.nodes.push_back(m);
  return some;
}

/// The best path of `links` links from node 0 to node `last`. cost(j, m) for j < m.
template <class Cost>
List<Index> link_path(const Cost& cost, Index last, Index links) {
  if (links == 1 || last <= 1) return last == 0 ? List<Index>{0} : List<Index>{0, last};
  links = (std::min)(links, last);
  const auto k = static_cast<double>(links);
  double fee = 2.0 * cost(0, last) / (k * k * k);
  const Index coarse = std::clamp<Index>(32 * links, 1024, Index{1} << 14);
  if (last > 8 * coarse) {
    const SomeNodes some = coarse_nodes(cost, last, coarse);
    LinkPathSearch<Cost, SomeNodes> search(cost, some);
    search.find(links, fee);
    search.center(links, fee);
  }
  const AllNodes all{last};
  return LinkPathSearch<Cost, AllNodes>(cost, all).find(links, fee);
}

}  // namespace detail

}  // namespace zipml::inline ZIPML_ABI
