#pragma once
/// \file
/// Room io: lines of text from a file, standard input or memory, and what all loaders share: their options,
/// the memory limit, the look at the order of the labels.

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

#include <zipml/base/buffer.hpp>
#include <zipml/base/error.hpp>
#include <zipml/io/dataset.hpp>

namespace zipml::inline ZIPML_ABI {

/// Whether the first line of a CSV file names the columns.
enum class Header {
  detect,   ///< it does when one of its fields is neither a number nor a missing value (the default)
  present,  ///< it does, even when all names are numbers
  absent,   ///< it is a sample
};

/// What to do with cells that are missing: empty, or NA, NaN, null, ? and the like. All are counted, the first is
/// named.
enum class Missing {
  error,      ///< refuse the table (the default)
  drop,       ///< leave out the row
  mean,       ///< read the mean of the column, over the rows where it is there; text: a category of its own
  indicator,  ///< as mean, and one more feature for each column with missing cells: 1 where it is missing
};

/// Named options of the loaders.
struct LoadOptions {
  std::string format = "auto";  ///< for load(): "auto" looks at the first data line; "libsvm", "csv"
  /// Bytes that loading and training may take: at most 8 for each value while it is read, 4 afterwards, and
  /// `bytes_per_column` for what training keeps of each column.
  std::uint64_t memory_limit = std::uint64_t{8} << 30;
  static constexpr std::uint64_t bytes_per_column = 256;
  Index columns = 0;  ///< number of features that the file must fit (test files); 0: as many as it has

  std::string label = {};          ///< CSV: name of the label column, or its number from 1; empty: the last
  char separator = '\0';           ///< CSV: '\0' finds out; ' ' stands for runs of blanks
  Header header = Header::detect;  ///< CSV

  int threads =
      1;  ///< that read the lines; 0: all of the machine. The same result, and the same error, for any

  /// The schema of the table that a model was trained on, for a table to test it on or to predict: columns
  /// are matched by name where both have names, else by their places; categories, classes and what missing
  /// cells are read as are the training table's. Null: this table stands for itself.
  std::shared_ptr<const Schema> like = nullptr;
  /// With `like`: the label may be missing, of all rows or of some, and no row is left out.
  bool predicting = false;

  /// CSV, each an exact name, a number or a range of numbers from 1 ("3", "5-8"), or a pattern of names with
  /// * and ?: columns that are read over; when not empty, the only ones that are features; those that are
  /// text, and become one feature for each of their texts.
  List<std::string> ignore = {};
  List<std::string> use = {};
  List<std::string> categorical = {};
  std::string id = {};               ///< CSV: a column that is kept as it is written, in Dataset::ids
  Missing missing = Missing::error;  ///< CSV
  char decimal = '.';                ///< CSV: ',' for a decimal comma
  Index first_index = 1;             ///< LIBSVM: what indices count from, 1 or 0
};

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

/// Reads text line by line, in one pass and without seeking, so that pipes work. Lines end in LF or CR LF and
/// may have any length up to `longest_line`; the last one needs no end. A UTF-8 byte order mark at the start
/// is skipped.
///
/// A file costs one buffer of 256 KiB, or of twice the longest line; memory is read in place. Errors: cannot
/// open, is a directory, read error, a line too long, UTF-16 or compressed data.
class LineReader {
 public:
  static constexpr std::size_t longest_line = std::size_t{1} << 30;

  /// Opens a file; "-" is standard input.
  explicit LineReader(const std::string& path);

  /// Reads `text`, which must outlive the reader; `name` stands for the file's name in messages.
  static LineReader from_memory(std::string_view text, std::string name = "<memory>") {
    return LineReader(text, std::move(name), 0);
  }

  /// Sets `line` to the next line, without its end, and returns true; false at the end of the input. The line
  /// is valid until the next call. Time linear in the length of the line.
  bool next(std::string_view& line);

  /// Makes next() return the last line once more: for looking ahead.
  void unread() { held_ = true; }

  /// Whole lines that next() has not delivered yet, with their ends, about `bytes` of them; fewer at the end
  /// of the input, none when a line is longer. Valid until the next call of anything but a const member.
  std::string_view lines_ahead(std::size_t bytes);
  /// Passes over the first `bytes` of what lines_ahead() has given, `lines` lines.
  void pass_over(std::size_t bytes, long lines) {
    begin_ += bytes;
    number_ += lines;
  }
  /// A reader of lines that are in the middle of this input.
  LineReader part(std::string_view lines) const;

  /// Whether the last line ended in a newline.
  bool ended_in_newline() const { return ended_; }
  /// Lines that were passed over as comments.
  long comments() const { return comments_; }
  void count_comment() {
    ++comments_;
    if (comments_ == 1 || line_.size() < 4096) comment_.assign(line_.substr(0, 4096));
  }
  /// The last of them, or its beginning.
  const std::string& comment() const { return comment_; }
  /// Lines that were passed over because there was nothing in them.
  long blanks() const { return blanks_; }
  void count_blank() { ++blanks_; }

  /// Number of the last line, from 1; 0 before the first.
  long line_number() const { return number_; }

  /// Place of byte `offset` (from 0) of the last line.
  Place place(std::size_t offset) const { return Place{name_, number_, static_cast<long>(offset) + 1}; }
  /// Place of `p`, which points into the last line or to its end.
  Place place(const char* p) const { return place(static_cast<std::size_t>(p - line_.data())); }
  /// The input as a whole.
  Place place() const { return Place{name_}; }

  /// The path that was opened ("-" for standard input), or the name given to from_memory().
  const std::string& source() const { return source_; }

 private:
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };

  LineReader() = default;
  LineReader(std::string_view text, std::string name, int)
      : name_(name), source_(std::move(name)), data_(text.data()), end_(text.size()) {
    skip_signature();
  }

  bool deliver(std::string_view& line, std::size_t length, std::size_t consumed);

  /// Moves what is left to the front of the buffer, doubles the buffer when that fills it, and reads behind
  /// it.
  bool refill();

  /// The same, but keeps an error until the lines in front of it have been delivered.
  bool refill_ahead();

  void skip_signature();

  std::string name_;
  std::string source_;
  std::unique_ptr<std::FILE, Close> owned_;
  std::FILE* file_ = nullptr;  ///< null: nothing left to read
  std::unique_ptr<char[]> buffer_;
  std::size_t capacity_ = 0;
  const char* data_ = nullptr;
  std::size_t begin_ = 0;  ///< of the bytes not yet delivered
  std::size_t end_ = 0;
  std::string_view line_;
  long number_ = 0;
  long comments_ = 0;
  long blanks_ = 0;
  std::string comment_;
  int read_error_ = 0;
  bool held_ = false;
  bool ended_ = true;
};

namespace detail {

/// The next line that is neither blank nor a comment: its first character other than a blank is not '#'.
bool next_data_line(LineReader& reader, std::string_view& line);

/// The Error for an input in which next_data_line() finds nothing.
[[noreturn]] inline void throw_no_data(const LineReader& reader, const char* expected) {
  throw Error(reader.place(), "no data", expected,
              reader.line_number() == 0 ? "an empty file" : "nothing but blank lines and comments");
}

/// A growing array whose elements never move, in pieces from 64 K elements on that grow with it: std::vector
/// would copy what it has and need three times its size while it grows. Large pieces go back to the system at
/// once when they are given back.
template <class T>
class Pieces {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  /// Room for n more elements, side by side. Not initialised.
  T* extend(std::size_t n) {
    if (n > free_) add(n);
    T* place = pieces_.back().data.get() + pieces_.back().size;
    pieces_.back().size += n;
    free_ -= n;
    return place;
  }

  /// Calls f(elements) for all elements in their order, a contiguous part at a time.
  template <class F>
  void for_each_piece(F&& f) const {
    for (const Piece& piece : pieces_) f(std::span<const T>(piece.data.get(), piece.size));
  }

  /// Appends the elements of another array: large ones change hands, few are copied.
  void append(Pieces&& other) {
    for (Piece& piece : other.pieces_) {
      if (piece.size < smallest) {
        if (piece.size > 0) std::memcpy(extend(piece.size), piece.data.get(), piece.size * sizeof(T));
      } else {
        pieces_.push_back(std::move(piece));
        free_ = 0;
      }
    }
    other.pieces_.clear();
    other.free_ = 0;
  }

  std::size_t size() const {
    std::size_t sum = 0;
    for (const Piece& piece : pieces_) sum += piece.size;
    return sum;
  }

  /// Calls f(elements) as for_each_piece and gives the memory of each piece back when f has returned.
  template <class F>
  void drain(F&& f) {
    for (Piece& piece : pieces_) {
      f(std::span<const T>(piece.data.get(), piece.size));
      piece.data.reset();
    }
    pieces_.clear();
    free_ = 0;
  }
  /// Calls f(elements) for all elements, which it may change.
  template <class F>
  void change(F&& f) {
    for (Piece& piece : pieces_) f(std::span<T>(piece.data.get(), piece.size));
  }

  /// Copies all elements, in their order, to `out`.
  void copy_to(T* out) const {
    for_each_piece([&](std::span<const T> part) {
      if (!part.empty()) std::memcpy(out, part.data(), part.size_bytes());
      out += part.size();
    });
  }

 private:
  struct Piece {
    std::unique_ptr<T[]> data;
    std::size_t size = 0;
  };

  static constexpr std::size_t smallest = std::size_t{1} << 16;
  static constexpr std::size_t largest = std::size_t{1} << 23;

  void add(std::size_t n) {
    const std::size_t capacity = (std::max)(n, std::clamp(size() / 2, smallest, largest));
    pieces_.push_back({std::unique_ptr<T[]>(new T[capacity]), 0});
    free_ = capacity;
  }

  List<Piece> pieces_;
  std::size_t free_ = 0;
};

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

inline void warn_of_order(Dataset& data) {
  if (labels_sorted_in_blocks(std::as_const(data.labels).span()))
    data.warnings.emplace_back(sorted_labels_warning);
}

[[noreturn]] void throw_memory(Place place, std::uint64_t rows, std::uint64_t cols, std::uint64_t bytes,
                               std::uint64_t limit);

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

ZIPML_FUNCTION LineReader::LineReader(const std::string& path)
    : name_(path == "-" ? "<stdin>" : path), source_(path) {
  if (path == "-") {
    file_ = stdin;
  } else {
    errno = 0;
    owned_.reset(std::fopen(path.c_str(), "rb"));
    if (!owned_) throw Error(Place{name_}, "cannot open: " + std::generic_category().message(errno));
    file_ = owned_.get();
  }
  capacity_ = std::size_t{1} << 18;
  buffer_.reset(new char[capacity_]);
  data_ = buffer_.get();
  refill();
  skip_signature();
}

ZIPML_FUNCTION bool LineReader::next(std::string_view& line) {
  if (held_) {
    held_ = false;
    line = line_;
    return true;
  }
  std::size_t scanned = begin_;
  for (;;) {
    if (end_ > scanned) {
      const void* newline = std::memchr(data_ + scanned, '\n', end_ - scanned);
      if (newline != nullptr) {
        const auto length = static_cast<std::size_t>(static_cast<const char*>(newline) - (data_ + begin_));
        return deliver(line, length, length + 1);
      }
    }
    const std::size_t pending = end_ - begin_;
    if (pending > longest_line)
      throw Error(Place{name_, number_ + 1}, "line is too long", "text of at most 1 GiB per line",
                  "more than that without a line end");
    if (!refill()) return pending > 0 && deliver(line, pending, pending);
    scanned = begin_ + pending;
  }
}

ZIPML_FUNCTION std::string_view LineReader::lines_ahead(std::size_t bytes) {
  if (held_) return {};
  if (file_ != nullptr && capacity_ < bytes) {
    std::unique_ptr<char[]> larger(new char[bytes]);
    std::memcpy(larger.get(), data_ + begin_, end_ - begin_);
    buffer_ = std::move(larger);
    data_ = buffer_.get();
    capacity_ = bytes;
    end_ -= std::exchange(begin_, 0);
  }
  while (end_ - begin_ < bytes && refill_ahead()) {
  }
  const std::string_view text(data_ + begin_, (std::min)(end_ - begin_, bytes));
  return text.substr(0, text.rfind('\n') + 1);
}

ZIPML_FUNCTION LineReader LineReader::part(std::string_view lines) const {
  LineReader reader;
  reader.name_ = name_;
  reader.source_ = source_;
  reader.data_ = lines.data();
  reader.end_ = lines.size();
  return reader;
}

ZIPML_FUNCTION bool LineReader::deliver(std::string_view& line, std::size_t length, std::size_t consumed) {
  line_ = std::string_view(data_ + begin_, length);
  if (!line_.empty() && line_.back() == '\r') line_.remove_suffix(1);
  begin_ += consumed;
  ended_ = consumed > length;
  ++number_;
  line = line_;
  return true;
}

ZIPML_FUNCTION bool LineReader::refill() {
  if (refill_ahead()) return true;
  if (read_error_ == EISDIR) throw Error(place(), "is a directory", "a file", "a directory");
  if (read_error_ != 0)
    throw Error(Place{name_, number_ + 1}, "cannot read: " + std::generic_category().message(read_error_));
  return false;
}

ZIPML_FUNCTION bool LineReader::refill_ahead() {
  if (file_ == nullptr || read_error_ != 0) return false;
  const std::size_t pending = end_ - begin_;
  if (pending == capacity_) {
    std::unique_ptr<char[]> larger(new char[2 * capacity_]);
    std::memcpy(larger.get(), data_ + begin_, pending);
    buffer_ = std::move(larger);
    capacity_ *= 2;
  } else if (begin_ > 0) {
    std::memmove(buffer_.get(), data_ + begin_, pending);
  }
  data_ = buffer_.get();
  begin_ = 0;
  end_ = pending;
  for (;;) {
    errno = 0;
    const std::size_t got = std::fread(buffer_.get() + end_, 1, capacity_ - end_, file_);
    end_ += got;
    const int code = std::ferror(file_) != 0 ? (errno != 0 ? errno : EIO) : 0;
    if (code == EINTR) std::clearerr(file_);
    if (got > 0) return true;
    if (code == EINTR) continue;
    read_error_ = code;
    if (code != 0) return false;
    break;
  }
  file_ = nullptr;
  return false;
}

ZIPML_FUNCTION void LineReader::skip_signature() {
  const std::string_view text(data_ + begin_, end_ - begin_);
  const auto starts_with = [&](std::string_view bytes) { return text.substr(0, bytes.size()) == bytes; };
  if (starts_with("\xef\xbb\xbf")) begin_ += 3;
  if (starts_with("\xff\xfe") || starts_with("\xfe\xff"))
    throw Error(place(), "unknown text encoding", "UTF-8", "UTF-16");
  const std::pair<std::string_view, const char*> packers[] = {{"\x1f\x8b", "gzip"},
                                                              {"\xfd"
                                                               "7zXZ",
                                                               "xz"},
                                                              {"BZh", "bzip2"},
                                                              {"\x28\xb5\x2f\xfd", "zstd"},
                                                              {"PK\x03\x04", "zip"}};
  for (const auto& [magic, packer] : packers)
    if (starts_with(magic))
      throw Error(place(), "is compressed", "text (unpack it first, or pipe it in and load \"-\")",
                  std::string(packer) + " data");
}

namespace detail {

ZIPML_FUNCTION bool next_data_line(LineReader& reader, std::string_view& line) {
  while (reader.next(line)) {
    std::size_t i = 0;
    while (i < line.size() && (line[i] == ' ' || line[i] == '\t')) ++i;
    if (i == line.size()) {
      reader.count_blank();
      continue;
    }
    if (line[i] != '#') return true;
    reader.count_comment();
  }
  return false;
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
