#pragma once
/// \file
/// Room io: loads samples from text of either format or from an NPY file, chosen by what is in the file.

#include <algorithm>
#include <span>
#include <string>
#include <string_view>

#include <zipml/base/error.hpp>
#include <zipml/io/csv.hpp>
#include <zipml/io/libsvm.hpp>
#include <zipml/io/line_reader.hpp>
#include <zipml/io/load_options.hpp>
#include <zipml/io/npy_table.hpp>
#include <zipml/io/number.hpp>

namespace zipml::inline ZIPML_ABI {

namespace detail {

/// Whether the first data line of a file is LIBSVM text. It is when its second word is index:value, when it
/// starts with a number (or several, with commas) and its second word has a colon at all, so that a mistake
/// in it is reported as one in LIBSVM text, or when it is one number only: a row of zeros.
bool looks_like_libsvm(std::string_view line);

}  // namespace detail

/// Loads samples from `reader`: options.format is "libsvm", "csv", or "auto", which decides by the first line
/// that is neither blank nor a comment. `more` are files whose rows come behind: of the same format, with the
/// same columns in the same order, which a table may name again in its first line. Options and errors:
/// load_libsvm() and load_csv().
Dataset load(LineReader& reader, const LoadOptions& options = {}, std::span<const std::string> more = {});

/// Loads a file, or several that hold the rows of one table; "-" is standard input. Works on pipes: looks ahead by
/// one line, never back. A file that begins as NPY files do is loaded by load_npy().
///
///     const zipml::Dataset year = zipml::load({"jan.csv", "feb.csv", "mar.csv"});
Dataset load(const List<std::string>& paths, const LoadOptions& options = {});
inline Dataset load(const std::string& path, const LoadOptions& options = {}) {
  return load(List<std::string>{path}, options);
}
inline Dataset load(const char* path, const LoadOptions& options = {}) {
  return load(std::string(path), options);
}

#if ZIPML_DEFINES

namespace detail {

ZIPML_FUNCTION bool looks_like_libsvm(std::string_view line) {
  line = trimmed(line.substr(0, line.find('#')));
  const std::string_view label = line.substr(0, line.find_first_of(" \t"));
  std::string_view word = trimmed(line.substr(label.size()));
  word = word.substr(0, word.find_first_of(" \t"));
  if (word.empty())
    return is_number(label) || (is_digit(label[0]) && label.find(':') != std::string_view::npos);

  bool numbers = true;
  for (std::string_view rest = label; numbers && !rest.empty();) {
    const std::size_t comma = rest.find(',');
    numbers = is_number(rest.substr(0, comma)) || is_nonfinite(rest.substr(0, comma));
    rest = comma == std::string_view::npos ? std::string_view{} : rest.substr(comma + 1);
  }
  if (numbers && word.find(':') != std::string_view::npos) return true;
  std::size_t digits = 0;
  while (digits < word.size() && is_digit(word[digits])) ++digits;
  return digits > 0 && digits < word.size() && word[digits] == ':' &&
         word.find_first_of(":,;", digits + 1) == std::string_view::npos;
}

}  // namespace detail

ZIPML_FUNCTION Dataset load(const List<std::string>& paths, const LoadOptions& options) {
  if (paths.empty()) throw Error("there is no file to load", "one or more", "none");
  const auto is_npy = [&](const std::string& path) {
    return options.format == "npy" || (options.format == "auto" && path != "-" && is_npy_file(path));
  };
  const bool npy = is_npy(paths.front());
  for (const std::string& path : paths)
    if (is_npy(path) != npy)
      throw Error(Place{path}, "files of one set are of one format", npy ? "an NPY file" : "text",
                  npy ? "no NPY file" : "an NPY file");
  if (npy) return load_npy(paths, options);
  LineReader reader(paths.front());
  return load(reader, options, {paths.data() + 1, paths.size() - 1});
}

ZIPML_FUNCTION Dataset load(LineReader& reader, const LoadOptions& options,
                            std::span<const std::string> more) {
  if (options.predicting && !options.like)
    throw Error("LoadOptions::predicting needs LoadOptions::like", "the schema of the training table",
                "none");
  if (options.format == "libsvm") return detail::LibsvmLoader(reader, options).load(options, more);
  if (options.format == "csv") return detail::CsvLoader(reader, options).load(more);
  if (options.format != "auto")
    throw Error("unknown format", "auto, libsvm, csv, or npy for a file", quote_input(options.format));

  std::string_view line;
  if (!detail::next_data_line(reader, line)) detail::throw_no_data(reader, "LIBSVM or CSV text");
  reader.unread();
  if (detail::looks_like_libsvm(line)) return detail::LibsvmLoader(reader, options).load(options, more);
  const std::string_view text = trimmed(line);
  const char separator = options.separator != '\0' ? options.separator : detail::find_separator(line);
  const bool table = separator == ' ' ? text.find_first_of(" \t") != std::string_view::npos
                                      : line.find(separator) != std::string_view::npos;
  const bool goes_on =
      std::count(line.begin(), line.end(), '"') % 2 == 1;  // a quoted field, in the next line
  if (!table && !goes_on && !(options.predicting && options.like && options.like->columns.size() == 1))
    throw Error(reader.place(text.data()), "cannot tell the format",
                "LIBSVM (label index:value ...) or CSV (fields separated by , ; tab or blanks)",
                quote_input(text));
  return detail::CsvLoader(reader, options).load(more);
}

#endif

}  // namespace zipml::inline ZIPML_ABI
