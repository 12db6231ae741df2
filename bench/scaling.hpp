#pragma once
// A model of a training step on P processes: measured work of one process, and exchanges over a network of given latency and
// bandwidth. What travels, and in which collective operations, is what GradientDevice and MpiReducer do.
//
// A message of n bytes takes alpha + n beta seconds, alpha the latency and beta the seconds of a byte, whoever sends it to whom, and
// a process sends and receives one at a time (Thakur, Rabenseifner, Gropp 2005, "Optimization of collective communication
// operations in MPICH", Int. J. High Performance Computing Applications 19(1), section 3). Networks with fewer wires than that,
// and messages that overlap, are not in it.

#include <algorithm>
#include <array>
#include <bit>
#include <string>
#include <zipml/base/thread_team.hpp>
#include <zipml/distributed/mpi_reducer.hpp>
#include <zipml/kernels/kernel_policy.hpp>
#include <zipml/storage/plane_layout.hpp>

namespace bench {

using zipml::Index;

struct Network {
  std::string name;
  double latency = 0.0;           ///< alpha, seconds
  double seconds_per_byte = 0.0;  ///< beta
  /// Of each further message of an all-to-all exchange, whose messages are sent at once; negative: the latency again.
  double overhead = -1.0;
};

/// What an operation takes of one process: seconds on the wire and at work, and bytes as Exchanged counts them.
struct Cost {
  double wire = 0.0;
  double work = 0.0;
  double bytes = 0.0;

  double seconds() const { return wire + work; }
  Cost& operator+=(const Cost& other) {
    wire += other.wire;
    work += other.work;
    bytes += other.bytes;
    return *this;
  }
};

/// ceil(log2 P): rounds in which each process hears of all others.
inline double rounds_of(int processes) {
  return static_cast<double>(std::bit_width(static_cast<unsigned>(processes - 1)));
}

/// Sums of n bytes: recursive doubling, ceil(log2 P) (alpha + n beta), or Rabenseifner's reduce-scatter and all-gather,
/// 2 ceil(log2 P) alpha + 2 (P - 1) / P n beta, whichever is faster (Thakur et al., section 4.5). Additions are not in it.
inline Cost all_reduce(const Network& network, int processes, double n) {
  const double rounds = rounds_of(processes), sent = 2.0 * (processes - 1) / processes * n;
  return {.wire = (std::min)(rounds * (network.latency + n * network.seconds_per_byte),
                             2.0 * rounds * network.latency + sent * network.seconds_per_byte),
          .bytes = sent};
}

/// n bytes of each process to all others: ceil(log2 P) alpha + (P - 1) n beta (Thakur et al., section 4.1, recursive doubling).
inline Cost all_gather(const Network& network, int processes, double n) {
  const double sent = (processes - 1) * n;
  return {.wire = rounds_of(processes) * network.latency + sent * network.seconds_per_byte, .bytes = sent};
}

/// n bytes of each process, a part for each other one: pairs in P - 1 rounds, (P - 1) alpha + (P - 1) / P n beta (Thakur et al.,
/// section 4.2, long messages; parts of different sizes are exchanged so whatever their length).
inline Cost all_to_all(const Network& network, int processes, double n) {
  if (processes == 1) return {};
  const double further = network.overhead < 0.0 ? network.latency : network.overhead;
  const double sent = static_cast<double>(processes - 1) / processes * n;
  return {.wire = network.latency + (processes - 2) * further + sent * network.seconds_per_byte,
          .bytes = sent};
}

/// Seconds of one process for a vector of d entries that travels in codes.
struct CodeWork {
  double round = 0.0;  ///< largest magnitude, random numbers, codes, and sums of codes back to floats
  double write = 0.0;  ///< codes side by side
  double read = 0.0;   ///< and apart again, added up
};

/// Measured seconds of one process on d columns.
struct Work {
  Index columns = 0;
  double step = 0.0;                ///< of a batch, whatever its rows are
  double row = 0.0;                 ///< and of each of its rows
  double add = 0.0;                 ///< adding d values of 4 bytes
  std::array<CodeWork, 9> codes{};  ///< of each width; entry 0: sums of more than 8 bits
};

/// The widths of the gradient channel that are compared; 32: exact.
inline constexpr std::array widths{32, 8, 4, 2, 1};

/// Whether margins and gradients are integers, as with the model in 8 bits: of no more columns than int32 can add up.
inline bool has_integers(Index d) { return d <= zipml::max_int8_columns; }

/// Rows that GradientDevice works on together, of samples of 4 bits: those whose codes fit a second-level cache.
inline Index pass_rows(Index d) {
  const auto fit = [d](Index bytes, Index most, Index unit) {
    return (std::max)((std::min)(2 * bytes / d, most) / unit * unit, unit);
  };
  return has_integers(d) ? fit(512 * 1024, zipml::max_int8_rows, zipml::block_rows)
                         : fit(256 * 1024, 4096, zipml::group_rows);
}

/// Whether processes share the rows of each pass and add up its integers, as exact gradients of integers do; else they share the
/// batch, and meet once.
inline bool meets_in_passes(Index d, int bits) { return bits == 32 && has_integers(d); }

/// Rows of the process that has most of them.
inline Index busiest_rows(Index d, Index batch, int processes, int bits) {
  const auto share = [processes](Index rows) {
    Index most = 0;
    for (int k = 0; k < processes; ++k)
      most = (std::max)(most, zipml::share_of(rows, zipml::group_rows, k, processes).count);
    return most;
  };
  if (!meets_in_passes(d, bits)) return share(batch);
  const Index pass = pass_rows(d);
  return batch / pass * share(pass) + share(batch % pass);
}

/// Vectors of int32 of all processes added up, as MpiReducer::sum does: by MPI.
inline Cost sum_integers(const Network& network, int processes, const Work& work) {
  Cost cost = all_reduce(network, processes, 4.0 * static_cast<double>(work.columns));
  cost.work = work.add * (processes - 1) / processes;
  return cost;
}

/// Vectors of float32, which are added in the order of the ranks: each process adds a part of all, and sends the sums.
inline Cost sum_floats(const Network& network, int processes, const Work& work) {
  const double n = 4.0 * static_cast<double>(work.columns);
  Cost cost{.wire = 0.0, .work = work.add, .bytes = 0.0};
  if (processes == 2 || n <= 4096.0) {
    cost += all_gather(network, processes, n);
    cost.work *= processes;
    return cost;
  }
  cost += all_to_all(network, processes, n);
  cost += all_gather(network, processes, n / processes);
  return cost;
}

/// Codes of all processes added up, as MpiReducer::sum_codes does; rounding is not in it.
inline Cost sum_codes(const Network& network, int processes, const Work& work, int bits) {
  const Index d = work.columns;
  const CodeWork& codes = work.codes[static_cast<std::size_t>(bits)];
  const auto code_bytes = static_cast<double>(zipml::wire_of_codes(bits).bytes(d));
  Cost cost{.work = codes.write};
  if (zipml::code_exchange_of(d, bits, processes) == zipml::CodeExchange::gather) {
    cost += all_gather(network, processes, code_bytes);
    cost.work += processes * codes.read;
    return cost;
  }
  const zipml::Wire sums = zipml::wire_of_sums(bits, processes);
  const CodeWork& of_sums = work.codes[sums.bits > 8 ? 0 : static_cast<std::size_t>(sums.bits)];
  cost += all_to_all(network, processes, code_bytes);
  cost += all_gather(network, processes, static_cast<double>(sums.bytes(d)) / processes);
  cost.work += codes.read + of_sums.write / processes + of_sums.read;
  return cost;
}

/// Everything that processes tell each other in a step with `bits` bits of the gradient channel.
inline Cost meet(const Network& network, int processes, const Work& work, int bits, Index batch) {
  if (processes == 1) return {};
  Cost cost;
  if (bits != 32) {
    cost.work = work.codes[static_cast<std::size_t>(bits)].round;
    cost += all_reduce(network, processes, 4.0);  // the scale
    cost += sum_codes(network, processes, work, bits);
    cost += all_gather(network, processes, 8.0);  // the sum of the residuals
    return cost;
  }
  const bool integers = has_integers(work.columns);
  const Index pass = pass_rows(work.columns);
  const Index meetings = integers ? (batch + pass - 1) / pass : 1;
  for (Index k = 0; k < meetings; ++k) {
    if (integers) cost += all_reduce(network, processes, 4.0);  // the largest residual
    cost += integers ? sum_integers(network, processes, work) : sum_floats(network, processes, work);
  }
  cost += all_gather(network, processes, 24.0);  // three sums of doubles
  return cost;
}

/// Seconds of a step over a batch of so many rows, those of all processes. One process exchanges nothing, and rounds nothing.
inline double step_seconds(const Network& network, int processes, const Work& work, int bits, Index batch) {
  const double rows = static_cast<double>(busiest_rows(work.columns, batch, processes, bits));
  return work.step + work.row * rows + meet(network, processes, work, bits, batch).seconds();
}

/// What is kept while processes are added.
enum class Growth {
  strong,  ///< the batch
  weak,    ///< the rows of it for each process
};

/// Rows a second of P processes over those of one.
inline double speedup(const Network& network, int processes, const Work& work, int bits, Growth scaling,
                      Index batch) {
  const int times = scaling == Growth::weak ? processes : 1;
  return times * step_seconds(network, 1, work, bits, batch) /
         step_seconds(network, processes, work, bits, batch * times);
}

}  // namespace bench
