#pragma once
// A line on a terminal that says how far a program is, how fast, and what is left.

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <mutex>
#include <zipml/io/load_options.hpp>

#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif

/// Drawn over itself on standard error, where that is a terminal, ten times a second at most. Several threads may
/// call it.
class ProgressLine final : public zipml::LoadProgress {
 public:
  /// `what` is done; `unit` is shown, so many of which one of the counted things is.
  ProgressLine(const char* what, const char* unit, double units) : what_(what), unit_(unit), units_(units) {
#if defined(__unix__) || defined(__APPLE__)
    on_terminal_ = isatty(STDERR_FILENO) != 0;
#endif
  }
  ~ProgressLine() override { end(); }
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  /// `all` of 0: nobody knows.
  void show(std::uint64_t done, std::uint64_t all) override {
    if (!on_terminal_) return;
    const std::lock_guard<std::mutex> lock(mutex_);
    const Clock::time_point now = Clock::now();
    if (now - last_ < std::chrono::milliseconds(100) || now - start_ < std::chrono::milliseconds(300)) return;
    last_ = now;
    drawn_ = true;
    const double seconds = std::chrono::duration<double>(now - start_).count();
    const double rate = static_cast<double>(done) / seconds;
    std::fprintf(stderr, "\r%s: %.2f G%s, %.0f M%s/s", what_, static_cast<double>(done) * units_ * 1e-9,
                 unit_, rate * units_ * 1e-6, unit_);
    if (all >= done && all > 0 && rate > 0.0) {
      const double left = static_cast<double>(all - done) / rate;
      std::fprintf(stderr, ", %.0f %%, %.0f s left",
                   100.0 * static_cast<double>(done) / static_cast<double>(all), left);
    }
    std::fprintf(stderr, "\033[K");
  }
  /// Takes the line away.
  void end() {
    if (drawn_) std::fprintf(stderr, "\r\033[K");
    drawn_ = false;
  }

 private:
  using Clock = std::chrono::steady_clock;
  const char* what_;
  const char* unit_;
  double units_;
  bool on_terminal_ = false, drawn_ = false;
  Clock::time_point start_ = Clock::now(), last_{};
  std::mutex mutex_;
};
