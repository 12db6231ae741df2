#pragma once
// How a program's options say what a table looks like: the same words for training, testing and predicting.

#include <CLI/CLI.hpp>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <map>
#include <string>
#include <vector>
#include <zipml/io/load.hpp>

struct TableOptions {
  std::string format = "auto";
  std::string label;
  std::string weights;
  std::vector<std::string> columns;
  std::vector<std::string> ignore;
  std::vector<std::string> categorical;
  std::string missing = "error";
  std::string header = "auto";
  std::string separator = "auto";
  std::string decimal = "point";
  int first_index = 1;
  double memory_gib = 8.0;
  std::string scratch;   // folder for rows beyond that; empty: the usual one
  bool streams = false;  // the program can do with rows that are not in memory
  int threads = 1;

  /// The options of a table to train on; one that is read like the training table has no use for its columns.
  void add_to(CLI::App& app, bool training) {
    app.add_option("--format", format, "format of the files")
        ->check(CLI::IsMember({"auto", "libsvm", "csv", "npy"}));
    app.add_option("--label", label,
                   training ? "CSV: label column by name or number from 1 (the last one)"
                            : "CSV: label column by name, where it is not that of the training table");
    app.add_option("--weights", weights,
                   training
                       ? "CSV: column that says how much each row counts, by name or number: no feature then"
                       : "CSV: column that says how much each row counts in the metrics");
    if (training) {
      const auto words = [&](const char* name, std::vector<std::string>& list, const char* text) {
        app.add_option(name, list, text)
            ->delimiter(',')
            ->allow_extra_args(false)
            ->always_capture_default(false);
      };
      words("--columns", columns,
            "CSV: only these are features: names, numbers, ranges (3-7) or patterns (temp_*), by commas");
      words("--ignore", ignore, "CSV: columns to leave out: an id, a date, an index of pandas; as --columns");
      words("--categorical", categorical,
            "CSV: columns that hold text: one feature for each of their texts, exact in 1 bit; as --columns");
      app.add_option(
             "--missing", missing,
             "CSV, cells that are empty, NA, NaN, null, ?: refuse the table, leave out the row, read the "
             "mean of the column, or that with a feature that says so")
          ->check(CLI::IsMember({"error", "drop", "mean", "indicator"}));
    }
    app.add_option("--header", header, "CSV: whether the first line names the columns")
        ->check(CLI::IsMember({"auto", "yes", "no"}));
    app.add_option("--separator", separator, "CSV: auto, comma, semicolon, tab, blank, or a character")
        ->check([](const std::string& text) {
          return text.size() == 1 || separators().count(text) > 0 ? std::string()
                                                                  : "one character or its name: " + text;
        });
    app.add_option("--decimal", decimal, "CSV: what numbers are written with")
        ->check(CLI::IsMember({"point", "comma"}));
    app.add_option("--first-index", first_index, "LIBSVM: what indices count from")
        ->check(CLI::IsMember({0, 1}));
    app.add_option("--memory-limit", memory_gib, "GiB that loading and training may take")
        ->check([](const std::string& text) {
          double value = 0.0;
          const bool number = CLI::detail::lexical_cast(text, value);
          return number && value > 0.0 && value <= 1e9 ? std::string()
                                                       : "expected a number above 0, at most 1e9: " + text;
        });
    if (streams)
      app.add_option("--scratch", scratch,
                     "folder for rows that do not fit into memory, 8 bytes a value while the program runs "
                     "($TMPDIR, else /var/tmp)")
          ->always_capture_default(false);
  }

  zipml::LoadOptions load_options() const {
    zipml::LoadOptions load;
    load.format = format;
    load.label = label;
    load.weights = weights;
    load.use.assign(columns.begin(), columns.end());
    load.ignore.assign(ignore.begin(), ignore.end());
    load.categorical.assign(categorical.begin(), categorical.end());
    load.missing = missing == "drop"        ? zipml::Missing::drop
                   : missing == "mean"      ? zipml::Missing::mean
                   : missing == "indicator" ? zipml::Missing::indicator
                                            : zipml::Missing::error;
    load.header = header == "yes"  ? zipml::Header::present
                  : header == "no" ? zipml::Header::absent
                                   : zipml::Header::detect;
    const auto named = separators().find(separator);
    load.separator = named != separators().end() ? named->second : separator[0];
    load.decimal = decimal == "comma" ? ',' : '.';
    load.first_index = first_index;
    load.threads = threads;
    load.memory_limit = static_cast<std::uint64_t>(memory_gib * 1024.0 * 1024.0 * 1024.0);
    if (streams) load.scratch = scratch.empty() ? zipml::scratch_folder() : scratch;
    return load;
  }

 private:
  static const std::map<std::string, char>& separators() {
    static const std::map<std::string, char> names = {
        {"auto", '\0'}, {"comma", ','}, {"semicolon", ';'}, {"tab", '\t'}, {"blank", ' '}};
    return names;
  }
};

/// A seed: digits only, so that -1 is no large number.
inline std::string check_seed(const std::string& text) {
  const bool digits = !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
  std::uint64_t value = 0;
  const bool fits = std::from_chars(text.data(), text.data() + text.size(), value).ec == std::errc{};
  return digits && fits ? std::string() : "a whole number from 0 to 2^64 - 1: " + text;
}

/// Says on standard error what a person should know of a table.
inline void say_warnings(const zipml::Dataset& data, const char* program) {
  for (const std::string& warning : data.warnings)
    std::fprintf(stderr, "%s: warning: %s: %s\n", program, data.source.c_str(), warning.c_str());
}

inline zipml::Dataset load_table(const std::string& file, const TableOptions& options, const char* program) {
  zipml::Dataset data = zipml::load(file, options.load_options());
  say_warnings(data, program);
  return data;
}
