#pragma once
// What an error says.

#include <string>
#include <zipml/base/error.hpp>

/// The message of the Error that `f` throws; an empty text when it throws none.
template <class F>
std::string message_of(F&& f) {
  try {
    f();
  } catch (const zipml::Error& error) {
    return error.what();
  }
  return {};
}

inline bool holds(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}
