#pragma once
/// \file
/// Room base: a few threads that work on the parts of a batch together. A batch takes microseconds, so they
/// wait by spinning, where std::barrier costs 1.8 us; a team that is left alone for longer sleeps.

#include <atomic>
#include <cstdint>
#include <exception>
#include <memory>
#include <new>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

#include <zipml/base/error.hpp>
#include <zipml/base/index.hpp>

namespace zipml::inline ZIPML_ABI {

/// Part `part` of [0, count) cut into `parts` pieces at multiples of `unit`.
struct Share {
  Index first;
  Index count;
};
constexpr Share share_of(Index count, Index unit, int part, int parts) {
  const Index units = (count + unit - 1) / unit;
  const Index begin = units * part / parts * unit;
  const Index end = units * (part + 1) / parts * unit;
  return {begin < count ? begin : count, (end < count ? end : count) - (begin < count ? begin : count)};
}

/// The number of threads that an option asks for: 0 is as many as the machine has. Throws Error out of range.
int thread_count(int asked);

/// `size` threads, the caller being one of them.
///
///     ThreadTeam team(2);
///     team.run([&](int part) { work_on(share_of(n, 64, part, team.size())); });
class ThreadTeam {
 public:
  /// Fewer than `size` when the system grants no more.
  explicit ThreadTeam(int size);
  ~ThreadTeam() {
    stop_ = true;
    start();
    for (int part = 1; part < size_; ++part) threads_[static_cast<std::size_t>(part)].join();
  }
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  int size() const { return size_; }

  /// Calls work(part) for every part in [0, size), part 0 on this thread; returns when all have returned, or
  /// throws what one of them has thrown.
  template <class Work>
  void run(const Work& work) {
    if (size_ == 1) return work(0);
    work_ = &work;
    call_ = [](const void* self, int part) { (*static_cast<const Work*>(self))(part); };
    start();
    guarded([&] { work(0); });
    while (busy_.load(std::memory_order_acquire) != 0) pause();
    if (failed_.exchange(false)) std::rethrow_exception(std::exchange(error_, nullptr));
  }

 private:
  static void pause() {
#if ZIPML_X86
    __builtin_ia32_pause();
#else
    std::this_thread::yield();
#endif
  }

  template <class F>
  void guarded(const F& f) {
    try {
      f();
    } catch (...) {
      if (!failed_.exchange(true)) error_ = std::current_exception();
    }
  }

  void start() {
    busy_.store(size_ - 1, std::memory_order_relaxed);
    round_.fetch_add(1, std::memory_order_seq_cst);  // before sleepers are counted
    if (sleeping_.load(std::memory_order_seq_cst) > 0) round_.notify_all();
  }

  void serve(int part);

  int size_ = 1;
  const void* work_ = nullptr;
  void (*call_)(const void*, int) = nullptr;
  bool stop_ = false;
  std::atomic<bool> failed_{false};
  std::exception_ptr error_;
  alignas(64) std::atomic<std::uint32_t> round_{0};
  alignas(64) std::atomic<int> busy_{0};
  alignas(64) std::atomic<int> sleeping_{0};
  std::unique_ptr<std::thread[]> threads_;
};

#if ZIPML_DEFINES

ZIPML_FUNCTION int thread_count(int asked) {
  if (asked < 0 || asked > 1024)
    throw Error("the number of threads is out of range", "0 to 1024", std::to_string(asked));
  const auto machine = static_cast<int>(std::thread::hardware_concurrency());
  return asked > 0 ? asked : machine > 0 ? machine : 1;
}

ZIPML_FUNCTION ThreadTeam::ThreadTeam(int size)
    : threads_(std::make_unique<std::thread[]>(static_cast<std::size_t>(size))) {
  try {
    for (; size_ < size; ++size_)
      threads_[static_cast<std::size_t>(size_)] = std::thread([this, part = size_] { serve(part); });
  } catch (const std::system_error&) {
  } catch (const std::bad_alloc&) {
  }
}

ZIPML_FUNCTION void ThreadTeam::serve(int part) {
  constexpr int spins = 20'000;  // some hundred microseconds
  std::uint32_t seen = 0;
  while (true) {
    int left = spins;
    while (round_.load(std::memory_order_acquire) == seen) {
      if (--left > 0) {
        pause();
        continue;
      }
      sleeping_.fetch_add(1, std::memory_order_seq_cst);
      round_.wait(seen, std::memory_order_acquire);
      sleeping_.fetch_sub(1, std::memory_order_seq_cst);
    }
    ++seen;
    if (stop_) return;
    guarded([&] { call_(work_, part); });
    busy_.fetch_sub(1, std::memory_order_release);
  }
}

#endif

}  // namespace zipml::inline ZIPML_ABI
