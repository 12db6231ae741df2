#pragma once
// Ctrl-C in a long run: the first one asks it to end after the epoch, a second one ends the program at once.

#include <csignal>

namespace interrupt {

inline volatile std::sig_atomic_t asked = 0;

/// Catches the first interrupt as long as it lives.
class Guard {
 public:
  Guard()
      : before_(std::signal(SIGINT, [](int number) {
          asked = 1;
          std::signal(number, SIG_DFL);
        })) {
    if (before_ == SIG_IGN) std::signal(SIGINT, SIG_IGN);  // of a shell that runs us in the background
  }
  ~Guard() {
    if (asked == 0 && before_ != SIG_ERR) std::signal(SIGINT, before_);
  }
  Guard(const Guard&) = delete;
  Guard& operator=(const Guard&) = delete;

 private:
  void (*before_)(int);
};

}  // namespace interrupt
