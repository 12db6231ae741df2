#pragma once
/// \file
/// Room io: what all loaders check and say: the memory limit, the order of the labels, lines that were skipped.

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

#include <zipml/base/error.hpp>
#include <zipml/io/dataset.hpp>
#include <zipml/io/load_options.hpp>

namespace zipml::inline ZIPML_ABI {

/// Whether the labels, in the order of the file, are sorted or come in blocks, so that a part of the file is
/// no fair sample of the whole.
///
/// At most 10 different values: counts the changes from one row to the next. In a random order of n labels,
/// of which n_k have value k, their number has, with S2 = sum n_k^2 and S3 = sum n_k^3,
///
///     mean n - S2/n,   variance (S2 (S2 + n (n + 1)) - 2 n S3 - n^3) / (n^2 (n - 1))
///
/// (Wald & Wolfowitz's runs test in the form for several kinds: Barton & David 1957, Multiple runs). True
/// when the changes are fewer than half of the mean (a difference that matters) and more than six standard
/// deviations below it (one that is no accident), and the mean is at least 10. More values: true when they
/// never fall or never rise. Always false for fewer than 100 labels. O(n).
bool labels_sorted_in_blocks(std::span<const float> labels);

namespace detail {

/// A size in words: "8.0 GiB".
std::string bytes_in_words(double bytes);

/// What loading and training take, as LoadOptions::memory_limit counts it; saturates.
inline std::uint64_t memory_of(std::uint64_t rows, std::uint64_t cols, std::uint64_t bytes_per_value) {
  const double bytes =
      static_cast<double>(rows) * (static_cast<double>(cols) * static_cast<double>(bytes_per_value) + 8.0) +
      static_cast<double>(cols) * static_cast<double>(LoadOptions::bytes_per_column);
  return bytes < 1.8e19 ? static_cast<std::uint64_t>(bytes) : ~std::uint64_t{0};
}

/// What a loader adds to `warnings` when labels_sorted_in_blocks().
inline constexpr const char* sorted_labels_warning =
    "the labels are sorted in blocks; zipml shuffles rows while packing, so training is unaffected, but the "
    "head or "
    "the tail of this file is no fair test set: shuffle the lines before splitting it by position";

/// Bytes of rows that are kept in memory, counted as memory_of() does.
inline std::uint64_t room_in_memory(const LoadOptions& options) {
  return (std::min)(options.memory_limit, options.keep_in_memory);
}
/// Of rows that go to a scratch file, the bytes of those which wait for that in memory: 8 MiB, or `room` where
/// that is less, but 1 MiB at least.
inline std::uint64_t before_scratch(std::uint64_t room) {
  return std::clamp(room, std::uint64_t{1} << 20, std::uint64_t{8} << 20);
}

/// What stands for several files: "a.csv and 2 more".
inline std::string source_of(const std::string& first, std::size_t more) {
  return more == 0 ? first : first + " and " + std::to_string(more) + " more";
}

/// What a loader says when the limit has sent rows to a scratch file.
void say_where_rows_are(Dataset& data, const LoadOptions& options, std::uint64_t bytes, const char* folder);

inline void warn_of_order(Dataset& data) {
  if (labels_sorted_in_blocks(std::as_const(data.labels).span()))
    data.warnings.emplace_back(sorted_labels_warning);
}

[[noreturn]] void throw_memory(Place place, std::uint64_t rows, std::uint64_t cols, std::uint64_t bytes,
                               std::uint64_t limit);

/// What a loader says of comments behind the first row, which may be rows that begin with #.
void warn_of_comments(Dataset& data, long comments);

}  // namespace detail

#if ZIPML_DEFINES

ZIPML_FUNCTION bool labels_sorted_in_blocks(std::span<const float> labels) {
  constexpr std::size_t fewest = 100, most_values = 10;
  if (labels.size() < fewest) return false;
  float values[most_values] = {};
  double counts[most_values] = {};
  std::size_t kinds = 0;
  bool few = true, falls = false, rises = false;
  double changes = 0;
  for (std::size_t i = 0; i < labels.size(); ++i) {
    if (few) {
      const std::size_t k = static_cast<std::size_t>(std::find(values, values + kinds, labels[i]) - values);
      if (k < kinds) {
        ++counts[k];
      } else if (kinds < most_values) {
        values[kinds] = labels[i];
        counts[kinds++] = 1;
      } else {
        few = false;
      }
    }
    if (i == 0) continue;
    falls = falls || labels[i] < labels[i - 1];
    rises = rises || labels[i] > labels[i - 1];
    if (labels[i] != labels[i - 1]) ++changes;
  }
  if (!few) return !(falls && rises);

  const double n = static_cast<double>(labels.size());
  double s2 = 0, s3 = 0;
  for (std::size_t k = 0; k < kinds; ++k) {
    s2 += counts[k] * counts[k];
    s3 += counts[k] * counts[k] * counts[k];
  }
  const double mean = n - s2 / n;
  const double variance = (s2 * (s2 + n * (n + 1)) - 2 * n * s3 - n * n * n) / (n * n * (n - 1));
  return mean >= 10 && changes < mean / 2 && changes < mean - 6 * std::sqrt((std::max)(variance, 0.0));
}

namespace detail {

ZIPML_FUNCTION void say_where_rows_are(Dataset& data, const LoadOptions& options, std::uint64_t bytes,
                                       const char* folder) {
  if (options.keep_in_memory <= options.memory_limit) return;  // was asked for
  std::string text = std::to_string(data.rows) + " rows would take ";
  text += bytes_in_words(static_cast<double>(bytes));
  text += " in memory, and the limit is ";
  text += bytes_in_words(static_cast<double>(options.memory_limit));
  text += ": they are read from a scratch file in ";
  text += folder;
  data.warnings.push_back(text);
}

ZIPML_FUNCTION void warn_of_comments(Dataset& data, long comments) {
  if (comments > 0)
    data.warnings.push_back(std::to_string(comments) +
                            (comments == 1 ? " line that starts" : " lines that start") +
                            " with # behind the first row was skipped as a comment");
}

ZIPML_FUNCTION std::string bytes_in_words(double bytes) {
  const char* const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  int unit = 0;
  for (; bytes >= 1024 && unit < 6; ++unit) bytes /= 1024;
  char digits[64];
  const std::to_chars_result end =
      std::to_chars(digits, digits + sizeof digits, bytes, std::chars_format::fixed, unit == 0 ? 0 : 1);
  return std::string(digits, end.ptr) + ' ' + units[unit];
}

ZIPML_FUNCTION void throw_memory(Place place, std::uint64_t rows, std::uint64_t cols, std::uint64_t bytes,
                                 std::uint64_t limit) {
  throw Error(std::move(place), "the samples become too large",
              "at most " + bytes_in_words(static_cast<double>(limit)) +
                  " (LoadOptions::memory_limit, --memory-limit)",
              bytes_in_words(static_cast<double>(bytes)) + " for the " + std::to_string(rows) + " x " +
                  std::to_string(cols) + " values so far and what training keeps of each column");
}

}  // namespace detail

#endif

}  // namespace zipml::inline ZIPML_ABI
