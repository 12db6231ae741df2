#pragma once
/// \file
/// Room base: workers that share the reading of rows, threads of a test or processes of several machines, and put together what
/// they have found.

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>

#include <zipml/base/buffer.hpp>
#include <zipml/base/error.hpp>
#include <zipml/base/index.hpp>
#include <zipml/base/thread_team.hpp>

namespace zipml::inline ZIPML_ABI {

/// Workers that run the same program on the same rows. Each call happens on every worker, in the same order and with spans of
/// the same size; each ends with the same values everywhere.
class Collective {
 public:
  virtual ~Collective() = default;
  virtual int workers() const = 0;
  virtual int rank() const = 0;  ///< of this worker, from 0

  /// Replaces each entry by the largest of what the workers have; what is no number counts as infinite.
  virtual void largest(std::span<float> mine) = 0;
  /// Replaces what this worker has by the sum over the workers, formed in the order of their ranks; of integers in any.
  virtual void sum(std::span<std::int32_t> mine) = 0;
  virtual void sum(std::span<std::int64_t> mine) = 0;
  virtual void sum(std::span<float> mine) = 0;
  virtual void sum(std::span<double> mine) = 0;

  /// The largest of what the workers have.
  float largest(float mine) {
    largest(std::span<float>(&mine, 1));
    return mine;
  }
  /// Replaces what this worker has by what the first one has, where processors differ in how they compute it.
  void take_first(std::span<double> mine) {
    if (rank() != 0) std::fill(mine.begin(), mine.end(), 0.0);
    sum(mine);
  }
  /// Whether any of them says so.
  bool any(bool mine) { return largest(mine ? 1.0f : 0.0f) > 0.0f; }
};

/// Rows [first, first + count) of a store.
struct RowRange {
  Index first = 0;
  Index count = 0;
};

/// The part of `count` things that a worker takes, in whole units but for the last; all of them where there are no workers.
inline Share share_of_worker(Index count, Index unit, const Collective* workers) {
  if (workers == nullptr) return {0, count};
  return share_of(count, unit, workers->rank(), workers->workers());
}

/// Rows that workers read by pieces, each its own: what the pieces say is put together in their order, so that it does not
/// depend on the number of workers.
struct SharedRows {
  RowRange rows;
  Collective* workers = nullptr;  ///< null: one worker reads all

  /// f(k, rows) for each piece k, of `size` rows but for the last, that this worker takes.
  template <class F>
  void for_pieces(Index size, const F& f) const {
    const Index step = workers != nullptr ? workers->workers() : 1;
    for (Index k = workers != nullptr ? workers->rank() : 0; k * size < rows.count; k += step)
      f(k, RowRange{rows.first + k * size, (std::min)(size, rows.count - k * size)});
  }
};

/// What has to be the same on all workers.
struct Agreement {
  const char* what;  ///< in plural: "numbers of rows"
  std::uint64_t value;
};

/// Throws Error on every worker unless all of them have the same values. One exchange.
///
///     zipml::require_agreement(workers, {{"numbers of rows", rows}, {"seeds", seed}});
void require_agreement(Collective& workers, std::initializer_list<Agreement> all);

#if ZIPML_DEFINES

ZIPML_FUNCTION void require_agreement(Collective& workers, std::initializer_list<Agreement> all) {
  // 16 bits are exact in a float, and all are equal where the largest is the smallest.
  List<float> parts;
  for (const Agreement& one : all)
    for (int k = 0; k < 64; k += 16)
      for (const float sign : {1.0f, -1.0f})
        parts.push_back(sign * static_cast<float>(one.value >> k & 0xFFFFu));
  workers.largest(std::span<float>(parts.data(), parts.size()));
  for (std::size_t at = 0; at < parts.size(); at += 2) {
    if (parts[at] == -parts[at + 1]) continue;
    const Agreement& one = all.begin()[at / 8];
    std::string what = "the workers have different ";
    what += one.what;
    std::string here = std::to_string(one.value);
    here += " on worker " + std::to_string(workers.rank());
    throw Error(what, "the same on all of them", here);
  }
}

#endif

}  // namespace zipml::inline ZIPML_ABI
