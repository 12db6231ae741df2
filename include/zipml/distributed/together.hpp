#pragma once
/// \file
/// Room distributed: programs of several processes that begin, fail and end together.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#include <zipml/base/buffer.hpp>
#include <zipml/base/error.hpp>
#include <zipml/distributed/communicator.hpp>

namespace zipml::inline ZIPML_ABI {

/// MPI, from here to the end of main. Throws Error where MPI cannot be initialised.
class MpiSession {
 public:
  MpiSession(int* argc, char*** argv) {
    int has = MPI_THREAD_SINGLE;
    // Several models that are refined together have threads, of which one at a time talks to others.
    if (MPI_Init_thread(argc, argv, MPI_THREAD_SERIALIZED, &has) != MPI_SUCCESS ||
        has < MPI_THREAD_SERIALIZED)
      throw Error("MPI cannot be initialised");
    // Open MPI raises errors of exchanges that do not block here, whatever their communicator says.
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  }
  ~MpiSession() { MPI_Finalize(); }
  MpiSession(const MpiSession&) = delete;
  MpiSession& operator=(const MpiSession&) = delete;
};

/// What failed on a process, empty: nothing, as all of them get to know it: that of the lowest rank where any failed. With the
/// rank, unless all have failed alike.
inline std::string first_failure(Communicator& all, const std::string& mine) {
  constexpr Index most = 4000;
  const auto length = static_cast<std::int32_t>((std::min)(static_cast<Index>(mine.size()), most));
  List<std::int32_t> lengths(static_cast<std::size_t>(all.size()), 0);
  all.all_gather({reinterpret_cast<const std::uint8_t*>(&length), sizeof length},
                 reinterpret_cast<std::uint8_t*>(lengths.data()));
  List<Index> sizes;
  Index total = 0;
  for (const std::int32_t size : lengths) {
    sizes.push_back(size);
    total += size;
  }
  if (total == 0) return {};
  std::string texts(static_cast<std::size_t>(total), ' ');
  all.all_gather({reinterpret_cast<const std::uint8_t*>(mine.data()), static_cast<std::size_t>(length)},
                 sizes, reinterpret_cast<std::uint8_t*>(texts.data()));
  std::string first;
  int rank = 0, failed = 0;
  bool alike = true;
  std::size_t at = 0;
  for (int r = 0; r < all.size(); ++r) {
    const std::string text = texts.substr(at, static_cast<std::size_t>(sizes[static_cast<std::size_t>(r)]));
    at += text.size();
    if (text.empty()) continue;
    if (failed++ == 0) {
      first = text;
      rank = r;
    }
    alike = alike && text == first;
  }
  if (alike && failed == all.size()) return first;
  std::string of = "process ";
  of += std::to_string(rank) + " of " + std::to_string(all.size()) + ": ";
  return of + first;
}

/// f() on all processes, without exchanges of its own: loading a file, say. Where it throws on any of them, all throw Error
/// with what the lowest of them says.
///
///     const auto store = zipml::together(all, [&] { return zipml::open_store(path); });
template <class F>
auto together(Communicator& all, const F& f) {
  using Made = std::invoke_result_t<const F&>;
  std::optional<std::conditional_t<std::is_void_v<Made>, bool, Made>> made;
  std::string failure;
  try {
    if constexpr (std::is_void_v<Made>) {
      f();
      made = true;
    } else {
      made.emplace(f());
    }
  } catch (const std::exception& error) {
    failure = error.what();
    if (failure.empty()) failure = "failed without a reason";
  } catch (...) {
    failure = "an exception that says nothing";
  }
  if (const std::string first = first_failure(all, failure); !first.empty()) throw Error(first);
  if constexpr (!std::is_void_v<Made>) return std::move(*made);
}

/// Runs f(), exchanges and all, and returns what main returns: 0, or 1 after an error, which is printed once, behind `name`, where
/// all processes have it. An error that others do not have within two seconds, since they wait for this process in an exchange,
/// ends all of them (MPI_Abort), and so does a time-out, at once.
template <class F>
int run_together(const char* name, MPI_Comm processes, const F& f) {
  Communicator failures(processes, 2.0);
  std::string failure;
  try {
    f();
    return 0;
  } catch (const std::exception& error) {
    failure = error.what();
  } catch (...) {
    failure = "an exception that says nothing";
  }
  bool is_everybodys = false;
  if (!Communicator::has_timed_out()) {
    try {
      failure = first_failure(failures, failure);
      is_everybodys = true;
    } catch (const std::exception&) {  // others do not come
    }
  }
  if (is_everybodys) {
    if (failures.rank() == 0) std::fprintf(stderr, "%s: %s\n", name, failure.c_str());
  } else {
    std::fprintf(stderr, "%s: process %d of %d: %s\n", name, failures.rank(), failures.size(),
                 failure.c_str());
    std::fflush(stderr);
    MPI_Abort(processes, 1);
  }
  return 1;
}

}  // namespace zipml::inline ZIPML_ABI
