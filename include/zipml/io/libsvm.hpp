#pragma once
/// \file
/// Room io: sparse text in the format of LIBSVM and SVMlight.

#include <algorithm>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <zipml/base/buffer.hpp>
#include <zipml/base/error.hpp>
#include <zipml/io/dataset.hpp>
#include <zipml/io/line_reader.hpp>
#include <zipml/io/number.hpp>
#include <zipml/io/parallel_lines.hpp>

namespace zipml::inline ZIPML_ABI {

namespace detail {

class LibsvmLoader {
 public:
  LibsvmLoader(LineReader& reader, const LoadOptions& options);

  /// For a part of the lines that `whole` reads.
  LibsvmLoader(LineReader& reader, const LibsvmLoader& whole)
      : reader_(reader), limit_(whole.limit_), fixed_(whole.fixed_), cols_(whole.cols_) {}

  Dataset load();

  /// One line, that is not blank.
  void add_line(std::string_view line) { add_row(line.substr(0, line.find('#'))); }

  /// Whether no line is too wide and all rows fit the memory limit.
  bool accepts(const List<const LibsvmLoader*>& parts) const;
  void join(LibsvmLoader&& part);

 private:
  struct Entry {
    std::uint32_t column;
    float value;
  };
  /// An index and where it is in its line. A type of ours: std::sort on std:: types may merge at link time.
  struct Found {
    std::uint64_t index;
    std::size_t at;
    bool operator<(const Found& other) const {
      return index != other.index ? index < other.index : at < other.at;
    }
  };
  static constexpr std::uint64_t highest_index = std::numeric_limits<std::int32_t>::max();

  /// One line without its comment; next_data_line() has seen that it is not blank.
  void add_row(std::string_view line);

  /// Makes the matrix as wide as `index`, when it may become so.
  void widen(std::uint64_t index, const char* token, const char* token_end);

  /// Indices that are not in increasing order are accepted, but none may come twice. `line` has been read
  /// once without a complaint.
  void check_duplicates(std::string_view line);

  Dataset densify() const;

  static std::string_view word(const char* first, const char* end) {
    return {first, static_cast<std::size_t>(std::find_if(first, end, is_blank) - first)};
  }

  [[noreturn]] void refuse_label(const char* p, const char* end) const;

  [[noreturn]] void refuse_pair(const char* p, const char* end) const;

  [[noreturn]] void refuse_duplicate(const char* p, const char* end) const {
    throw Error(reader_.place(p), "feature index comes twice in this line", "each index once",
                quote_input({p, static_cast<std::size_t>(end - p)}));
  }

  [[noreturn]] void refuse_value(const char* token, const char* text, const char* end) const {
    const std::string index(token, std::min(text - 1, token + 40));
    throw_bad_number(reader_.place(text), "value of feature " + index, word(text, end));
  }

  LineReader& reader_;
  std::uint64_t limit_;
  std::uint64_t fixed_;  ///< number of features asked for, 0 for none
  int threads_ = 1;
  std::uint64_t cols_ = 0;
  std::uint64_t rows_ = 0;
  std::uint64_t too_wide_ = 0;  ///< lines with an index beyond fixed_
  Place wide_place_;
  std::string wide_index_;
  Pieces<Entry> entries_;
  Pieces<float> labels_;
  Pieces<std::uint32_t> row_sizes_;
};

}  // namespace detail

/// Loads LIBSVM text from `reader`: lines of `label index:value index:value ...  # comment`.
///
/// Indices count from 1; they need not increase, but none may come twice in a line. What a line leaves out is
/// zero, a line with a label only is a row of zeros, blank and comment lines are skipped. All values become
/// float32 and must be finite. The matrix has as many columns as the largest index, or options.columns: then
/// larger indices are an Error that counts the lines that have them. O(text / threads); memory about 8 bytes
/// per nonzero besides the dense result.
///
/// Errors, with file, line and column: anything else in the text, among it several labels per line and query
/// ids; no sample; no feature; a dense result that would exceed options.memory_limit.
inline Dataset load_libsvm(LineReader& reader, const LoadOptions& options = {}) {
  return detail::LibsvmLoader(reader, options).load();
}

/// Loads a LIBSVM file; "-" is standard input.
inline Dataset load_libsvm(const std::string& path, const LoadOptions& options = {}) {
  LineReader reader(path);
  return load_libsvm(reader, options);
}

#if ZIPML_DEFINES

namespace detail {

ZIPML_FUNCTION LibsvmLoader::LibsvmLoader(LineReader& reader, const LoadOptions& options)
    : reader_(reader),
      limit_(options.memory_limit),
      fixed_(static_cast<std::uint64_t>(options.columns)),
      threads_(thread_count(options.threads)) {
  if (options.columns < 0 || fixed_ > highest_index)
    throw Error("LoadOptions::columns is out of range", "0 to " + std::to_string(highest_index),
                std::to_string(options.columns));
  if (!options.label.empty())
    throw Error(reader.place(), "LoadOptions::label does not apply to LIBSVM files",
                "none, the label is the first number of a line", quote_input(options.label));
  cols_ = fixed_;
}

ZIPML_FUNCTION Dataset LibsvmLoader::load() {
  std::string_view line;
  if (next_data_line(reader_, line)) add_line(line);  // it may have been looked at, and held back
  add_lines(reader_, *this, threads_);
  if (rows_ == 0) throw_no_data(reader_, "lines of label index:value ...");
  if (too_wide_ > 0)
    throw Error(std::move(wide_place_),
                std::to_string(too_wide_) + (too_wide_ == 1 ? " line has" : " lines have") +
                    " a feature index that is too large, the first one here",
                "at most " + std::to_string(fixed_) + " features", wide_index_);
  if (cols_ == 0)
    throw Error(reader_.place(), "no features", "index:value on at least one line",
                std::to_string(rows_) + (rows_ == 1 ? " label only" : " labels only"));
  return densify();
}

ZIPML_FUNCTION bool LibsvmLoader::accepts(const List<const LibsvmLoader*>& parts) const {
  std::uint64_t rows = rows_, cols = cols_, too_wide = too_wide_;
  for (const LibsvmLoader* part : parts) {
    rows += part->rows_;
    cols = std::max(cols, part->cols_);
    too_wide += part->too_wide_;
  }
  return too_wide == 0 && fits_memory(rows, cols, limit_);
}

ZIPML_FUNCTION void LibsvmLoader::join(LibsvmLoader&& part) {
  rows_ += part.rows_;
  cols_ = std::max(cols_, part.cols_);
  entries_.append(std::move(part.entries_));
  labels_.append(std::move(part.labels_));
  row_sizes_.append(std::move(part.row_sizes_));
}

ZIPML_FUNCTION void LibsvmLoader::add_row(std::string_view line) {
  const char* p = line.data();
  const char* const end = p + line.size();
  while (p < end && is_blank(*p)) ++p;

  float label = 0;
  const char* after = parse_number(p, end, label);
  if (after == nullptr || (after < end && !is_blank(*after))) refuse_label(p, end);
  p = after;

  ++rows_;
  if (!fits_memory(rows_, cols_, limit_)) throw_memory(reader_.place(std::size_t{0}), rows_, cols_, limit_);
  std::uint32_t stored = 0;
  std::uint64_t previous = 0;
  bool sorted = true, too_wide = false;
  for (;;) {
    while (p < end && is_blank(*p)) ++p;
    if (p == end) break;

    const char* const token = p;
    std::uint64_t index = 0;
    for (; p < end && is_digit(*p); ++p)
      if (index <= highest_index) index = index * 10 + static_cast<std::uint64_t>(*p - '0');
    if (p == token || p == end || *p != ':' || index == 0) refuse_pair(token, end);
    if (index > cols_) {
      if (fixed_ == 0) {
        widen(index, token, p);
      } else if (!too_wide) {
        too_wide = true;
        if (too_wide_++ == 0) {
          wide_place_ = reader_.place(token);
          wide_index_ = "index " + std::string(token, std::min(p, token + 40));
        }
      }
    }
    if (index == previous && index <= highest_index) refuse_duplicate(token, p);
    if (index < previous) sorted = false;
    previous = index;

    const char* const text = ++p;
    float value = 0;
    p = parse_number(text, end, value);
    if (p == nullptr || (p < end && !is_blank(*p))) refuse_value(token, text, end);
    if (value != 0 && too_wide_ == 0) {
      *entries_.extend(1) = {static_cast<std::uint32_t>(index - 1), value};
      ++stored;
    }
  }
  if (!sorted) check_duplicates(line);
  *labels_.extend(1) = label;
  *row_sizes_.extend(1) = stored;
}

ZIPML_FUNCTION void LibsvmLoader::widen(std::uint64_t index, const char* token, const char* token_end) {
  if (index > highest_index)
    throw Error(reader_.place(token), "feature index is too large",
                "at most " + std::to_string(highest_index),
                quote_input({token, static_cast<std::size_t>(token_end - token)}));
  if (!fits_memory(rows_, index, limit_)) throw_memory(reader_.place(token), rows_, index, limit_);
  cols_ = index;
}

ZIPML_FUNCTION void LibsvmLoader::check_duplicates(std::string_view line) {
  List<Found> found;
  std::size_t at = line.find(':');
  for (; at != std::string_view::npos; at = line.find(':', at + 1)) {
    std::size_t first = at;
    while (first > 0 && is_digit(line[first - 1])) --first;
    std::uint64_t index = 0;
    for (std::size_t i = first; i < at; ++i)
      if (index <= highest_index) index = index * 10 + static_cast<std::uint64_t>(line[i] - '0');
    if (index <= highest_index) found.push_back({index, first});
  }
  std::sort(found.begin(), found.end());
  std::size_t earliest = line.size();
  for (std::size_t i = 1; i < found.size(); ++i)
    if (found[i].index == found[i - 1].index) earliest = std::min(earliest, found[i].at);
  if (earliest < line.size())
    refuse_duplicate(line.data() + earliest, line.data() + line.find(':', earliest));
}

ZIPML_FUNCTION Dataset LibsvmLoader::densify() const {
  Dataset data;
  data.rows = static_cast<Index>(rows_);
  data.cols = static_cast<Index>(cols_);
  data.labels = Buffer<float>(data.rows);
  labels_.copy_to(data.labels.data());
  Buffer<std::uint32_t> sizes(data.rows);
  row_sizes_.copy_to(sizes.data());
  data.values = Buffer<float>(checked_product(data.rows, data.cols, "the sample matrix"));

  float* row = data.values.data();
  std::uint32_t* left = sizes.data();  // entries of this row that are still to come
  entries_.for_each_piece([&](std::span<const Entry> part) {
    for (const Entry& entry : part) {
      for (; *left == 0; ++left) row += data.cols;
      row[entry.column] = entry.value;
      --*left;
    }
  });
  data.source = reader_.source();
  warn_of_order(data);
  return data;
}

ZIPML_FUNCTION void LibsvmLoader::refuse_label(const char* p, const char* end) const {
  const std::string_view text = word(p, end);
  if (text.find(':') != std::string_view::npos)
    throw Error(reader_.place(p), "line has no label", "a label before the features", quote_input(text));
  if (text.find(',') != std::string_view::npos)
    throw Error(reader_.place(p), "line has several labels or a decimal comma", "one label",
                quote_input(text));
  throw_bad_number(reader_.place(p), "label", text);
}

ZIPML_FUNCTION void LibsvmLoader::refuse_pair(const char* p, const char* end) const {
  const std::string_view text = word(p, end);
  const std::size_t colon = text.find(':');
  const std::string_view index = text.substr(0, colon);
  if (index == "qid")
    throw Error(reader_.place(p), "query ids (ranking data) are not supported", "index:value",
                quote_input(text));
  if (colon == std::string_view::npos)
    throw Error(reader_.place(p), "feature has no colon", "index:value", quote_input(text));
  if (index.empty()) throw Error(reader_.place(p), "feature has no index", "index:value", quote_input(text));
  if (std::all_of(index.begin(), index.end(), is_digit))
    throw Error(reader_.place(p), "feature index is zero", "1 or more (LIBSVM counts from 1)",
                quote_input(index));
  throw Error(reader_.place(p), "feature index is not a whole number", "digits before the colon",
              quote_input(text));
}

}  // namespace detail

#endif

}  // namespace zipml::inline ZIPML_ABI
