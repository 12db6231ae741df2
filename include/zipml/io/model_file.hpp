#pragma once
/// \file
/// Room io: a trained model in a text file: one `key value` a line, weights in the order of the columns.

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif

#include <zipml/base/buffer.hpp>
#include <zipml/base/error.hpp>
#include <zipml/io/line_reader.hpp>
#include <zipml/model/linear_model.hpp>

namespace zipml::inline ZIPML_ABI {

namespace detail {

/// Writes to `path` + ".part", flushes to the disk, and renames: whoever reads `path` sees the old file or
/// the new one.
void write_file(const std::string& path, const std::string& text);

}  // namespace detail

/// Saves a model; numbers are written so that they read back exactly. An existing file is replaced as a whole
/// or, when anything fails (Error), left as it was.
void save_model(const std::string& path, const LinearModel& model);

/// Loads what save_model wrote. Throws Error with file, line and column for anything else.
LinearModel load_model(const std::string& path);

#if ZIPML_DEFINES

namespace detail {

ZIPML_FUNCTION void write_file(const std::string& path, const std::string& text) {
  const std::string part = path + ".part";
  std::FILE* file = std::fopen(part.c_str(), "wb");
  if (file == nullptr) throw Error(Place{part}, std::string("cannot write: ") + std::strerror(errno));
  bool good = std::fwrite(text.data(), 1, text.size(), file) == text.size() && std::fflush(file) == 0;
#if defined(__unix__) || defined(__APPLE__)
  good = good && fsync(fileno(file)) == 0;
#endif
  int reason = errno;
  if (std::fclose(file) != 0 && good) {  // a full disk may show only here
    reason = errno;
    good = false;
  }
  if (good && std::rename(part.c_str(), path.c_str()) == 0) return;
  if (good) reason = errno;
  std::remove(part.c_str());
  throw Error(Place{path}, std::string("cannot write: ") + std::strerror(reason));
}

}  // namespace detail

ZIPML_FUNCTION void save_model(const std::string& path, const LinearModel& model) {
  std::string text = "zipml-model 1\n";
  text += std::string("kind ") + (model.classifies ? "classifier" : "regression") + "\n";
  text += "labels " + number_text(model.low_label) + " " + number_text(model.high_label) + "\n";
  text += "intercept " + number_text(model.intercept) + "\n";
  text += "weights " + std::to_string(model.cols()) + "\n";
  for (Index j = 0; j < model.cols(); ++j) text += number_text(model.weights[j]) + "\n";
  detail::write_file(path, text);
}

ZIPML_FUNCTION LinearModel load_model(const std::string& path) {
  LineReader reader(path);
  std::string_view rest;
  const auto fail = [&](const char* expected) -> Error {
    return Error(Place{path, reader.line_number(), 1}, "not a zipml model", expected,
                 "'" + std::string(rest.substr(0, 40)) + "'");
  };
  const auto line = [&](std::string_view key, const char* expected) {
    std::string_view text;
    rest = "the end of the file";
    if (!reader.next(text)) throw fail(expected);
    rest = text;
    if (text.substr(0, key.size()) != key) throw fail(expected);
    rest.remove_prefix(key.size());
  };
  const auto number = [&](const char* expected) {
    double value = 0.0;
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), value);
    if (error != std::errc{} || !std::isfinite(value)) throw fail(expected);
    rest.remove_prefix(static_cast<std::size_t>(end - rest.data()));
    if (!rest.empty() && rest.front() == ' ') rest.remove_prefix(1);
    return value;
  };
  LinearModel model;
  line("zipml-model 1", "the line 'zipml-model 1'");
  line("kind ", "'kind regression' or 'kind classifier'");
  if (rest != "regression" && rest != "classifier") throw fail("'kind regression' or 'kind classifier'");
  model.classifies = rest == "classifier";
  line("labels ", "'labels LOW HIGH'");
  model.low_label = number("two numbers");
  model.high_label = number("two numbers");
  line("intercept ", "'intercept VALUE'");
  model.intercept = number("a finite number");
  line("weights ", "'weights COUNT'");
  const double count = number("a count");
  if (!(count >= 0.0 && count <= 1e8 && count == std::floor(count)))
    throw fail("a count of at most 100,000,000");
  List<double> weights;  // grows with the file: a wrong count allocates nothing
  while (static_cast<double>(weights.size()) < count) {
    line("", "a weight");
    weights.push_back(number("a finite weight"));
    if (!rest.empty()) throw fail("one weight in a line");
  }
  model.weights = Buffer<double>(static_cast<Index>(weights.size()));
  std::copy(weights.begin(), weights.end(), model.weights.begin());
  std::string_view text;
  while (reader.next(text)) {
    rest = text;
    if (!text.empty()) throw fail("the end of the file");
  }
  return model;
}

#endif

}  // namespace zipml::inline ZIPML_ABI
