#pragma once
// A picture that gnuplot draws: commands and data go to `stream()`, text from outside through `quoted`.

#include <cstdio>
#include <string>
#include <zipml/base/error.hpp>

class Gnuplot {
 public:
  /// A picture of width x height, `terminal` svg or pngcairo. Throws zipml::Error when the file cannot be
  /// written or gnuplot cannot be started.
  explicit Gnuplot(const std::string& path, int width = 900, int height = 600, const char* terminal = "svg") {
    std::FILE* const file = std::fopen(path.c_str(), "w");  // gnuplot itself would write elsewhere
    if (file == nullptr) throw zipml::Error(zipml::Place{path}, "cannot write", "a writable file", "none");
    std::fclose(file);
    stream_ = popen("gnuplot", "w");
    if (stream_ == nullptr) throw zipml::Error("cannot start gnuplot (Debian: gnuplot-nox)");
    std::fprintf(stream_, "set terminal %s size %d,%d background 'white'\nset output %s\n", terminal, width,
                 height, quoted(path).c_str());
  }
  ~Gnuplot() {
    if (stream_ != nullptr) pclose(stream_);
  }
  Gnuplot(const Gnuplot&) = delete;
  Gnuplot& operator=(const Gnuplot&) = delete;

  std::FILE* stream() { return stream_; }

  /// Waits for the picture. Throws zipml::Error when gnuplot failed.
  void finish() {
    std::FILE* stream = stream_;
    stream_ = nullptr;
    if (pclose(stream) != 0) throw zipml::Error("gnuplot failed (Debian: gnuplot-nox)");
  }

  /// As a gnuplot string: nothing in it is a command.
  static std::string quoted(const std::string& text) {
    std::string result = "'";
    for (const char c : text)
      result += c == '\'' ? std::string("''") : std::string(1, c < ' ' && c >= 0 ? ' ' : c);
    return result + "'";
  }

 private:
  std::FILE* stream_ = nullptr;
};
