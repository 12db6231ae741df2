#pragma once
/// \file
/// Room base: the one exception type of the library.

#include <charconv>
#include <stdexcept>
#include <string>
#include <utility>

#include <zipml/base/config.hpp>

namespace zipml::inline ZIPML_ABI {

/// The shortest text that reads back as this number. For messages too: std::to_string of a float is a
/// function template on types of std::, which the linker may keep from a file with other -m flags.
inline std::string number_text(double value) {
  char digits[64];
  const char* end = std::to_chars(digits, digits + sizeof digits, value).ptr;
  return std::string(static_cast<const char*>(digits), end);
}
inline std::string number_text(float value) {
  char digits[64];
  const char* end = std::to_chars(digits, digits + sizeof digits, value).ptr;
  return std::string(static_cast<const char*>(digits), end);
}

/// A place in an input: file name, line and column, both counted from 1; 0 means "not known".
struct Place {
  std::string file;
  long line = 0;
  long column = 0;
};

/// Every runtime error of zipml: what went wrong, where, what was expected and what was got.
///
/// what() is one line: `file:line:column: problem: expected X, got Y`, the parts that are unknown left out.
/// Derives from std::runtime_error, which is the type to catch in a file compiled with other -m flags (the
/// library's own types differ between such files, see config.hpp).
class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& problem) : std::runtime_error(problem) {}

  Error(const std::string& problem, std::string expected, std::string got)
      : Error(Place{}, problem, std::move(expected), std::move(got)) {}

  Error(Place place, const std::string& problem, std::string expected = {}, std::string got = {})
      : std::runtime_error(compose(place, problem, expected, got)),
        place_(std::move(place)),
        expected_(std::move(expected)),
        got_(std::move(got)) {}

  const Place& place() const noexcept { return place_; }
  const std::string& expected() const noexcept { return expected_; }
  const std::string& got() const noexcept { return got_; }

 private:
  static std::string compose(const Place& place, const std::string& problem, const std::string& expected,
                             const std::string& got) {
    std::string text = place.file;
    const auto append = [&text](const char* before, const std::string& part) {
      text.append(before).append(part);
    };
    if (place.line > 0) append(":", std::to_string(place.line));
    if (place.column > 0) append(":", std::to_string(place.column));
    append(text.empty() ? "" : ": ", problem);
    if (!expected.empty()) append(": expected ", expected);
    if (!got.empty()) append(expected.empty() ? ": got " : ", got ", got);
    return text;
  }

  Place place_;
  std::string expected_;
  std::string got_;
};

}  // namespace zipml::inline ZIPML_ABI
