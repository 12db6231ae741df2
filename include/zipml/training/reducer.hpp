#pragma once
/// \file
/// Room training: where the gradients of several workers meet.

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>

#include <zipml/base/buffer.hpp>
#include <zipml/base/error.hpp>
#include <zipml/training/channels.hpp>
#include <zipml/training/visiting_order.hpp>

namespace zipml::inline ZIPML_ABI {

/// Brings the workers of a fit together. Each trains on the same store with the same options and takes its
/// share of the rows of every pass, so that each call happens on every worker, in the same order and with
/// spans of the same size; each ends with the same values everywhere.
///
/// Where margins are integers the sums of a pass are integers with one agreed scale, and those of its outliers are exact
/// (GradientSums), so that any number of workers trains the bits of one.
class Reducer {
 public:
  virtual ~Reducer() = default;
  virtual int workers() const = 0;
  virtual int rank() const = 0;  ///< of this worker, from 0

  /// Replaces each entry by the largest of what the workers have; what is no number counts as infinite.
  virtual void largest(std::span<float> mine) = 0;
  /// Replaces what this worker has by the sum over the workers, formed in the order of their ranks; of integers in any.
  virtual void sum(std::span<std::int32_t> mine) = 0;
  virtual void sum(std::span<float> mine) = 0;
  virtual void sum(std::span<double> mine) = 0;
  /// Writes the sums of codes that symmetric_levels(bits) says, of one scale on all workers; -1 and 1 at 1 bit.
  virtual void sum_codes(std::span<const std::int8_t> mine, int bits, std::span<std::int32_t> total) = 0;
  /// The messages of all workers in the order of their ranks: gradients that were rounded, each in its own way.
  virtual List<Message> gather(const Message& mine) = 0;

  /// The largest of what the workers have.
  float largest(float mine) {
    largest(std::span<float>(&mine, 1));
    return mine;
  }
};

/// Rows that workers read by pieces, each its own: what the pieces say is put together in their order, so that it does not
/// depend on the number of workers.
struct SharedRows {
  RowRange rows;
  Reducer* reducer = nullptr;  ///< null: one worker reads all

  /// f(k, rows) for each piece k, of `size` rows but for the last, that this worker takes.
  template <class F>
  void for_pieces(Index size, const F& f) const {
    const Index step = reducer != nullptr ? reducer->workers() : 1;
    for (Index k = reducer != nullptr ? reducer->rank() : 0; k * size < rows.count; k += step)
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
///     zipml::require_agreement(reducer, {{"numbers of rows", rows}, {"seeds", seed}});
void require_agreement(Reducer& reducer, std::initializer_list<Agreement> all);

#if ZIPML_DEFINES

ZIPML_FUNCTION void require_agreement(Reducer& reducer, std::initializer_list<Agreement> all) {
  // 16 bits are exact in a float, and all are equal where the largest is the smallest.
  List<float> parts;
  for (const Agreement& one : all)
    for (int k = 0; k < 64; k += 16)
      for (const float sign : {1.0f, -1.0f})
        parts.push_back(sign * static_cast<float>(one.value >> k & 0xFFFFu));
  reducer.largest(std::span<float>(parts.data(), parts.size()));
  for (std::size_t at = 0; at < parts.size(); at += 2) {
    if (parts[at] == -parts[at + 1]) continue;
    const Agreement& one = all.begin()[at / 8];
    std::string what = "the workers have different ";
    what += one.what;
    std::string here = std::to_string(one.value);
    here += " on worker " + std::to_string(reducer.rank());
    throw Error(what, "the same on all of them", here);
  }
}

#endif

}  // namespace zipml::inline ZIPML_ABI
