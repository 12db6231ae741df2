#pragma once
/// \file
/// Room training: functions that run by turns until all of them wait for the same thing: how several models share a reading.

#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <utility>

#include <zipml/base/buffer.hpp>
#include <zipml/base/index.hpp>

namespace zipml::inline ZIPML_ABI::detail {

/// Members, each a call of a function, of which one runs at a time, in the order of their numbers: until it ends, or waits for an
/// answer, which comes when all that have not ended wait. Each has a thread for its stack alone, so that what they do does not depend
/// on how threads are scheduled. A handing over costs some 10 us.
///
///     LockStep steps;
///     steps.run(2, [&](Index k) { ask(k); steps.wait(k); use(k); },
///               [&](std::span<const Index> waiting) { answer_all(waiting); });
class LockStep {
 public:
  LockStep() = default;
  ~LockStep() { cancel(); }
  LockStep(const LockStep&) = delete;
  LockStep& operator=(const LockStep&) = delete;

  /// Calls body(k) for k in [0, count) in threads of their own, and answer(waiting) in this one, with the numbers that wait,
  /// ascending, until all have ended. What a member or the answer throws ends all members, whose waits then throw as well, and is
  /// rethrown; of what several would have thrown it is the first.
  template <class Body, class Answer>
  void run(Index count, const Body& body, const Answer& answer) {
    body_ = &body;
    call_ = [](const void* self, Index k) { (*static_cast<const Body*>(self))(k); };
    members_.clear();
    cancelled_ = false;
    for (Index k = 0; k < count; ++k) members_.push_back(std::make_unique<Member>());
    try {
      for (List<Index> waiting = take_turns(); !waiting.empty(); waiting = take_turns())
        answer(std::span<const Index>(waiting));
    } catch (...) {
      cancel();
      throw;
    }
    cancel();
  }
  /// From body(k): returns after the answer.
  void wait(Index k);

 private:
  /// Wakes the one thread that awaits it.
  class Signal {
   public:
    void send() {
      const std::lock_guard lock(mutex_);
      is_sent_ = true;
      changed_.notify_one();
    }
    void await() {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return is_sent_; });
      is_sent_ = false;
    }

   private:
    std::mutex mutex_;
    std::condition_variable changed_;
    bool is_sent_ = false;
  };
  /// What wait() throws when all is over: no std::exception, which an observer or a source might take for one of its own.
  struct Cancelled {};
  struct Member {
    Signal turn;
    std::thread thread;
    bool has_ended = false;
    std::exception_ptr error;
  };

  /// Lets each member that has not ended run until it waits or ends; those that wait.
  List<Index> take_turns();
  /// Lets a member run.
  void give_turn(Index k);
  /// Ends and joins all threads.
  void cancel();

  List<std::unique_ptr<Member>> members_;
  Signal back_;  // the turn is the caller's again
  bool cancelled_ = false;
  const void* body_ = nullptr;
  void (*call_)(const void*, Index) = nullptr;
};

#if ZIPML_DEFINES

ZIPML_FUNCTION void LockStep::wait(Index k) {
  back_.send();
  members_[static_cast<std::size_t>(k)]->turn.await();
  if (cancelled_) throw Cancelled{};
}

ZIPML_FUNCTION void LockStep::give_turn(Index k) {
  Member& member = *members_[static_cast<std::size_t>(k)];
  if (member.thread.joinable())
    member.turn.send();
  else
    member.thread = std::thread([this, k, &member] {
      try {
        call_(body_, k);
      } catch (const Cancelled&) {
      } catch (...) {
        member.error = std::current_exception();
      }
      member.has_ended = true;
      back_.send();
    });
  back_.await();
}

ZIPML_FUNCTION List<Index> LockStep::take_turns() {
  List<Index> waiting;
  for (std::size_t k = 0; k < members_.size(); ++k) {
    Member& member = *members_[k];
    if (member.has_ended) continue;
    give_turn(static_cast<Index>(k));
    if (member.error) std::rethrow_exception(std::exchange(member.error, nullptr));
    if (!member.has_ended) waiting.push_back(static_cast<Index>(k));
  }
  return waiting;
}

ZIPML_FUNCTION void LockStep::cancel() {
  cancelled_ = true;
  for (std::size_t k = 0; k < members_.size(); ++k) {
    Member& member = *members_[k];
    if (!member.thread.joinable()) continue;
    while (!member.has_ended) give_turn(static_cast<Index>(k));
    member.thread.join();
  }
}

#endif

}  // namespace zipml::inline ZIPML_ABI::detail
