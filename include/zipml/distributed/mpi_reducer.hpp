#pragma once
/// \file
/// Room distributed: where the gradients of several processes meet: the reducer of the training loop over MPI.

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <utility>

#include <zipml/base/buffer.hpp>
#include <zipml/distributed/code_wire.hpp>
#include <zipml/distributed/communicator.hpp>
#include <zipml/training/reducer.hpp>

namespace zipml::inline ZIPML_ABI {

/// How codes of few bits are added up over processes.
enum class CodeExchange {
  automatic,      ///< as code_exchange_of says
  gather,         ///< each process gets the codes of all others
  reduce_scatter  ///< each adds up a part of the entries, and sends the sums
};

/// Named options of MpiReducer.
struct MpiOptions {
  double timeout = 0.0;  ///< seconds after which an exchange that others do not join throws Error; 0: never
  CodeExchange codes = CodeExchange::automatic;
};

/// Gathers what is short, 4 KiB of each process, or moves fewer bytes so: parts are P - 1 messages, a gather some log2 P, and a message of
/// that length takes as long as its latency on most networks. Parts where both move the same, since each process then unpacks two
/// vectors of codes instead of P.
CodeExchange code_exchange_of(Index d, int bits, int processes);

/// Bytes that a process sends to add up d codes of `bits` bits over P processes: (P - 1) ceil(d b / 8) to gather them, else about
/// (P - 1) / P d (b + s) / 8, s the bits of a sum of P codes.
double bytes_to_add_codes(Index d, int bits, int processes, CodeExchange how);

/// The processes of a communicator as the workers of a fit. Integers are added up by MPI, in any order; floats in the order of the
/// ranks, so that results are the same in every run. Codes of few bits travel in their bits, side by side.
///
///     zipml::MpiReducer reducer;   // all processes
///     const auto fit = zipml::Sgd{}.fit(store, {.model = {8}, .reducer = &reducer});
///
/// Each process opens the same packed file, of which it reads the rows of its share of every batch. MPI must have been
/// initialised, and every process must make the same fits in the same order. Throws Error for what MPI says, and after a time-out.
class MpiReducer final : public Reducer {
 public:
  explicit MpiReducer(MPI_Comm processes = MPI_COMM_WORLD, const MpiOptions& options = {})
      : all_(processes, options.timeout), how_(options.codes) {}

  int workers() const override { return all_.size(); }
  int rank() const override { return all_.rank(); }
  const Exchanged& exchanged() const { return all_.exchanged(); }
  Communicator& communicator() { return all_; }

  using Collective::largest;
  void largest(std::span<float> mine) override;
  void sum(std::span<std::int32_t> mine) override { all_.all_reduce(mine, MPI_SUM); }
  void sum(std::span<std::int64_t> mine) override { all_.all_reduce(mine, MPI_SUM); }
  void sum(std::span<float> mine) override { add_in_order(mine); }
  void sum(std::span<double> mine) override { add_in_order(mine); }
  void sum_codes(std::span<const std::int8_t> mine, int bits, std::span<std::int32_t> total) override;
  List<Message> gather(const Message& mine) override;

 private:
  /// Entries of each process's part of a vector, whole bytes of any number of bits.
  List<Index> parts_of(Index n) const;
  template <class T>
  void add_in_order(std::span<T> mine);
  void add_gathered(std::span<const std::int8_t> mine, const Wire& codes, std::span<std::int32_t> total);
  void add_scattered(std::span<const std::int8_t> mine, const Wire& codes, const Wire& sums,
                     std::span<std::int32_t> total);
  /// Room for so many bytes.
  static std::uint8_t* reserve(Buffer<std::uint8_t>& buffer, Index bytes) {
    if (buffer.size() < bytes) buffer = Buffer<std::uint8_t>(bytes);
    return buffer.data();
  }

  Communicator all_;
  CodeExchange how_;
  Buffer<std::uint8_t> mine_, theirs_;
};

inline CodeExchange code_exchange_of(Index d, int bits, int processes) {
  const Index codes = wire_of_codes(bits).bytes(d), sums = wire_of_sums(bits, processes).bytes(d);
  constexpr Index short_bytes = 4096;
  const bool gathers = codes <= short_bytes || processes * codes < codes + sums;
  return gathers ? CodeExchange::gather : CodeExchange::reduce_scatter;
}

inline double bytes_to_add_codes(Index d, int bits, int processes, CodeExchange how) {
  if (how == CodeExchange::automatic) how = code_exchange_of(d, bits, processes);
  const Wire codes = wire_of_codes(bits), sums = wire_of_sums(bits, processes);
  const double others = processes - 1;
  if (how == CodeExchange::gather) return others * static_cast<double>(codes.bytes(d));
  return others / processes * static_cast<double>(codes.bytes(d) + sums.bytes(d));
}

inline void MpiReducer::largest(std::span<float> mine) {
  // MPI says nothing of the largest of what is no number.
  for (float& value : mine)
    if (std::isnan(value)) value = std::numeric_limits<float>::infinity();
  all_.all_reduce(mine, MPI_MAX);
}

inline List<Index> MpiReducer::parts_of(Index n) const {
  const Index eights = (n + 7) / 8;
  List<Index> parts;
  for (Index r = 0; r < workers(); ++r) {
    const Index first = (std::min)(n, eights * r / workers() * 8);
    parts.push_back((std::min)(n, eights * (r + 1) / workers() * 8) - first);
  }
  return parts;
}

template <class T>
void MpiReducer::add_in_order(std::span<T> mine) {
  const Index n = static_cast<Index>(mine.size()), size = static_cast<Index>(sizeof(T)), count = workers();
  if (count == 1 || n == 0) return;
  const auto value = [](const std::uint8_t* bytes, Index i) {
    T out;
    std::memcpy(&out, bytes + i * static_cast<Index>(sizeof(T)), sizeof(T));
    return out;
  };
  const auto add = [&](const std::uint8_t* bytes, Index entries, std::span<T> out) {
    for (Index i = 0; i < entries; ++i) {
      T total = value(bytes, i);
      for (Index r = 1; r < count; ++r) total += value(bytes, r * entries + i);
      out[static_cast<std::size_t>(i)] = total;
    }
  };
  const auto* const bytes = reinterpret_cast<const std::uint8_t*>(mine.data());
  constexpr Index short_bytes = 4096;  // one exchange is then faster than two of fewer bytes
  if (count == 2 || n * size <= short_bytes) {
    std::uint8_t* const all = reserve(theirs_, n * size * count);
    all_.all_gather({bytes, static_cast<std::size_t>(n * size)}, all);
    return add(all, n, mine);
  }
  List<Index> parts = parts_of(n);
  const Index own = parts[static_cast<std::size_t>(rank())];
  for (Index& part : parts) part *= size;
  std::uint8_t* const all = reserve(theirs_, own * size * count);
  all_.all_to_all(bytes, parts, all);
  auto* const sums = reserve(mine_, own * size);
  Buffer<T> added(own);
  add(all, own, added.span());
  std::memcpy(sums, added.data(), static_cast<std::size_t>(own * size));
  all_.all_gather({sums, static_cast<std::size_t>(own * size)}, parts,
                  reinterpret_cast<std::uint8_t*>(mine.data()));
}

inline void MpiReducer::sum_codes(std::span<const std::int8_t> mine, int bits,
                                  std::span<std::int32_t> total) {
  const Wire codes = wire_of_codes(bits);
  const auto d = static_cast<Index>(mine.size());
  const CodeExchange how = how_ == CodeExchange::automatic ? code_exchange_of(d, bits, workers()) : how_;
  if (workers() == 1)
    std::copy(mine.begin(), mine.end(), total.begin());
  else if (how == CodeExchange::gather)
    add_gathered(mine, codes, total);
  else
    add_scattered(mine, codes, wire_of_sums(bits, workers()), total);
}

inline void MpiReducer::add_gathered(std::span<const std::int8_t> mine, const Wire& codes,
                                     std::span<std::int32_t> total) {
  const auto d = static_cast<Index>(mine.size());
  const Index bytes = codes.bytes(d);
  std::uint8_t* const packed = reserve(mine_, bytes);
  std::uint8_t* const all = reserve(theirs_, bytes * workers());
  write_wire(codes, mine, packed);
  all_.all_gather({packed, static_cast<std::size_t>(bytes)}, all);
  std::fill(total.begin(), total.end(), 0);
  for (Index r = 0; r < workers(); ++r)
    read_wire(codes, all + r * bytes, d,
              [&](Index j, int code) { total[static_cast<std::size_t>(j)] += code; });
}

inline void MpiReducer::add_scattered(std::span<const std::int8_t> mine, const Wire& codes, const Wire& sums,
                                      std::span<std::int32_t> total) {
  const List<Index> parts = parts_of(static_cast<Index>(mine.size()));
  const Index own = parts[static_cast<std::size_t>(rank())];
  List<Index> sizes, sum_sizes;
  for (const Index part : parts) {
    sizes.push_back(codes.bytes(part));
    sum_sizes.push_back(sums.bytes(part));
  }
  std::uint8_t* const packed = reserve(
      mine_, codes.bytes(static_cast<Index>(mine.size())) + sums.bytes(static_cast<Index>(mine.size())));
  write_wire(codes, mine, packed);  // parts begin with whole bytes
  std::uint8_t* const all =
      reserve(theirs_, (std::max)(codes.bytes(own) * workers(), sums.bytes(static_cast<Index>(mine.size()))));
  all_.all_to_all(packed, sizes, all);
  const std::span<std::int32_t> added = total.first(static_cast<std::size_t>(own));
  std::fill(added.begin(), added.end(), 0);
  for (Index r = 0; r < workers(); ++r)
    read_wire(codes, all + r * codes.bytes(own), own,
              [&](Index j, int code) { added[static_cast<std::size_t>(j)] += code; });
  write_wire(sums, std::span<const std::int32_t>(added), packed);
  all_.all_gather({packed, static_cast<std::size_t>(sums.bytes(own))}, sum_sizes, all);
  read_wire(sums, all, static_cast<Index>(mine.size()),
            [&](Index j, int sum) { total[static_cast<std::size_t>(j)] = sum; });
}

inline List<Message> MpiReducer::gather(const Message& mine) {
  // Sizes first, since some may send values where others have codes.
  const Index codes = mine.rounded() ? mine.codes.size() : 0;
  const std::int32_t sizes[4] = {
      static_cast<std::int32_t>(codes), static_cast<std::int32_t>(mine.scales.size()),
      static_cast<std::int32_t>(mine.table.size()), static_cast<std::int32_t>(mine.values.size())};
  Buffer<std::int32_t> all_sizes(4 * workers());
  all_.all_gather({reinterpret_cast<const std::uint8_t*>(sizes), sizeof sizes},
                  reinterpret_cast<std::uint8_t*>(all_sizes.data()));
  const auto wire_of = [](const std::int32_t* of) {
    return Wire{0, 1, of[2] > 0 ? static_cast<int>(std::bit_width(static_cast<unsigned>(of[2]))) - 1 : 8};
  };
  const auto bytes_of = [&](const std::int32_t* of) {
    return wire_of(of).bytes(of[0]) + 4 * (Index{of[1]} + of[2] + of[3]);
  };
  List<Index> bytes;
  Index total = 0;
  for (Index r = 0; r < workers(); ++r) {
    bytes.push_back(bytes_of(all_sizes.data() + 4 * r));
    total += bytes.back();
  }
  std::uint8_t* out = reserve(mine_, bytes_of(sizes));
  const auto append = [&out](const Buffer<float>& values) {
    if (!values.empty()) std::memcpy(out, values.data(), static_cast<std::size_t>(values.bytes()));
    out += values.bytes();
  };
  append(mine.scales);
  append(mine.table);
  append(mine.values);
  Buffer<std::uint8_t> indices(codes);  // of a table, or two's complement
  if (codes > 0) std::memcpy(indices.data(), mine.codes.data(), static_cast<std::size_t>(codes));
  write_wire(wire_of(sizes), std::as_const(indices).span(), out);
  std::uint8_t* const all = reserve(theirs_, total);
  all_.all_gather({mine_.data(), static_cast<std::size_t>(bytes_of(sizes))}, bytes, all);

  List<Message> messages;
  const std::uint8_t* in = all;
  for (Index r = 0; r < workers(); ++r) {
    const std::int32_t* const of = all_sizes.data() + 4 * r;
    Message message;
    const auto take = [&in](Index count) {
      Buffer<float> values(count);
      if (count > 0) std::memcpy(values.data(), in, static_cast<std::size_t>(values.bytes()));
      in += values.bytes();
      return values;
    };
    message.scales = take(of[1]);
    message.table = take(of[2]);
    message.values = take(of[3]);
    message.codes = Buffer<std::int8_t>(of[0]);
    const Wire its = wire_of(of);
    read_wire(its, in, of[0], [&](Index j, int code) {
      message.codes[j] = static_cast<std::int8_t>(static_cast<std::uint8_t>(code));
    });
    in += its.bytes(of[0]);
    messages.push_back(std::move(message));
  }
  return messages;
}

}  // namespace zipml::inline ZIPML_ABI
