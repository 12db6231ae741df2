#pragma once
/// \file
/// Room distributed: the few exchanges of MPI that training needs, with errors that are thrown, a time-out, and a count of what
/// was handed over. Needs MPI 3.

// The C++ bindings of old are slow to compile, and not needed.
#ifndef OMPI_SKIP_MPICXX
#define OMPI_SKIP_MPICXX 1
#endif
#ifndef MPICH_SKIP_MPICXX
#define MPICH_SKIP_MPICXX 1
#endif
#include <mpi.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <exception>
#include <limits>
#include <span>
#include <string>
#include <thread>
#include <type_traits>

#include <zipml/base/buffer.hpp>
#include <zipml/base/error.hpp>

namespace zipml::inline ZIPML_ABI {

/// What a process has exchanged.
struct Exchanged {
  /// Handed to MPI for other processes: a byte counts once for each that it is for. Sums over all processes, which MPI forms
  /// in its own way, count as what each of P processes sends at least for them, 2 (P - 1) / P of the vector.
  double bytes = 0.0;
  double seconds = 0.0;  ///< in exchanges, waiting for others with it
  Index exchanges = 0;
};

/// Processes that run the same program. Each exchange is called by all of them, in the same order; an error of MPI is thrown.
///
///     zipml::Communicator all(MPI_COMM_WORLD, 60.0);
class Communicator {
 public:
  /// Of the processes of `processes`, whose messages do not meet others: the communicator is duplicated. With `timeout` > 0
  /// seconds an exchange that others do not join by then throws Error: the program must then end by MPI_Abort and exchange nothing
  /// before, since they may come to it later, and MPI would write where the vectors were (run_together does so).
  explicit Communicator(MPI_Comm processes, double timeout = 0.0) : timeout_(timeout) {
    check(MPI_Comm_dup(processes, &comm_), "MPI_Comm_dup");
    check(MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    check(MPI_Comm_size(comm_, &size_), "MPI_Comm_size");
    check(MPI_Comm_rank(comm_, &rank_), "MPI_Comm_rank");
  }
  ~Communicator() {
    int finalized = 0;
    MPI_Finalized(&finalized);
    // Freeing is for all of them together: not where an exception has brought this one here alone.
    if (finalized == 0 && !is_broken_ && std::uncaught_exceptions() <= exceptions_) MPI_Comm_free(&comm_);
  }
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  /// Whether an exchange of this process has timed out.
  static bool has_timed_out() { return timed_out_; }

  int size() const { return size_; }
  int rank() const { return rank_; }
  MPI_Comm get() const { return comm_; }
  const Exchanged& exchanged() const { return exchanged_; }

  /// Replaces values by what `operation` makes of those of all processes.
  template <class T>
  void all_reduce(std::span<T> mine, MPI_Op operation) {
    if (size_ == 1) return;
    exchange(2.0 * (size_ - 1) / size_ * static_cast<double>(mine.size_bytes()), [&](MPI_Request* request) {
      return MPI_Iallreduce(MPI_IN_PLACE, mine.data(), count_of(static_cast<Index>(mine.size())),
                            type_of<T>(), operation, comm_, request);
    });
  }

  /// Writes the bytes of all processes one behind the other: sizes[r] of process r.
  void all_gather(std::span<const std::uint8_t> mine, const List<Index>& sizes, std::uint8_t* all) {
    const Parts parts(sizes);
    exchange(static_cast<double>(mine.size()) * (size_ - 1), [&](MPI_Request* request) {
      return MPI_Iallgatherv(mine.data(), count_of(static_cast<Index>(mine.size())), MPI_BYTE, all,
                             parts.counts.data(), parts.places.data(), MPI_BYTE, comm_, request);
    });
  }
  /// The same, as many of each.
  void all_gather(std::span<const std::uint8_t> mine, std::uint8_t* all) {
    const int count = count_of(static_cast<Index>(mine.size()) * size_) / size_;
    exchange(static_cast<double>(mine.size()) * (size_ - 1), [&](MPI_Request* request) {
      return MPI_Iallgather(mine.data(), count, MPI_BYTE, all, count, MPI_BYTE, comm_, request);
    });
  }
  /// Sends sizes[r] bytes to process r, from `mine` one behind the other, and writes what the others have for this one, in the
  /// order of their ranks: as many bytes of each as this process has for itself.
  void all_to_all(const std::uint8_t* mine, const List<Index>& sizes, std::uint8_t* theirs) {
    const Index own = sizes[static_cast<std::size_t>(rank_)];
    const Parts to(sizes), from(List<Index>(static_cast<std::size_t>(size_), own));
    (void)count_of(*std::max_element(sizes.begin(), sizes.end()) *
                   size_);  // too long for one, too long for all
    double others = 0.0;
    for (const Index size : sizes) others += static_cast<double>(size);
    exchange(others - static_cast<double>(own), [&](MPI_Request* request) {
      return MPI_Ialltoallv(mine, to.counts.data(), to.places.data(), MPI_BYTE, theirs, from.counts.data(),
                            from.places.data(), MPI_BYTE, comm_, request);
    });
  }

 private:
  using Clock = std::chrono::steady_clock;

  static void check(int code, const char* call) {
    if (code == MPI_SUCCESS) return;
    char text[MPI_MAX_ERROR_STRING] = {};
    int length = 0;
    MPI_Error_string(code, text, &length);
    std::string what(call);
    what += " has failed: ";
    what += text;
    throw Error(what);
  }
  static int count_of(Index count) {
    if (count > std::numeric_limits<int>::max())
      throw Error("a message is too long for MPI", "less than 2^31 bytes", std::to_string(count));
    return static_cast<int>(count);
  }
  template <class T>
  static MPI_Datatype type_of() {
    if constexpr (std::is_same_v<T, float>)
      return MPI_FLOAT;
    else if constexpr (std::is_same_v<T, double>)
      return MPI_DOUBLE;
    else if constexpr (std::is_same_v<T, std::int64_t>)
      return MPI_INT64_T;
    else
      return MPI_INT32_T;
  }

  /// Counts and places of parts that stand one behind the other.
  struct Parts {
    explicit Parts(const List<Index>& sizes) {
      Index place = 0;
      for (const Index size : sizes) {
        counts.push_back(count_of(size));
        places.push_back(count_of(place));
        place += size;
      }
      (void)count_of(place);
    }
    List<int> counts, places;
  };

  template <class Begin>
  void exchange(double bytes, const Begin& begin) {
    const auto start = Clock::now();
    MPI_Request request = MPI_REQUEST_NULL;
    check(begin(&request), "an exchange");
    if (timeout_ > 0.0)
      wait_until(request, start);
    else
      check(MPI_Wait(&request, MPI_STATUS_IGNORE), "an exchange");
    exchanged_.seconds += std::chrono::duration<double>(Clock::now() - start).count();
    exchanged_.bytes += bytes;
    ++exchanged_.exchanges;
  }

  void wait_until(MPI_Request& request, Clock::time_point start) {
    for (int done = 0;;) {
      check(MPI_Test(&request, &done, MPI_STATUS_IGNORE), "an exchange");
      if (done != 0) return;
      if (std::chrono::duration<double>(Clock::now() - start).count() > timeout_) {
        is_broken_ = timed_out_ = true;
        throw Error("another process does not answer", "an answer in " + number_text(timeout_) + " seconds",
                    "none");
      }
      std::this_thread::yield();
    }
  }

  MPI_Comm comm_ = MPI_COMM_NULL;
  double timeout_;
  int size_ = 1, rank_ = 0;
  bool is_broken_ = false;
  int exceptions_ = std::uncaught_exceptions();
  inline static bool timed_out_ = false;
  Exchanged exchanged_;
};

}  // namespace zipml::inline ZIPML_ABI
