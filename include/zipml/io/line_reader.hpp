#pragma once
/// \file
/// Room io: lines of text from a file, standard input or memory.

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <zipml/base/error.hpp>
#if ZIPML_DEFINES && (defined(__unix__) || defined(__APPLE__))
#include <sys/stat.h>
#endif

namespace zipml::inline ZIPML_ABI {

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
  /// Passes over the next `bytes` of what lines_ahead() has given, which the reader of a part has read.
  void pass_over(std::size_t bytes, const LineReader& part) {
    begin_ += bytes;
    number_ += part.number_;
    comments_ += part.comments_;
    blanks_ += part.blanks_;
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

  /// Bytes that have been delivered, and those of the file; 0 where they are not known (a pipe).
  std::uint64_t bytes_read() const { return passed_ + begin_; }
  std::uint64_t bytes() const { return bytes_; }

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
  std::size_t begin_ = 0;     ///< of the bytes not yet delivered
  std::uint64_t passed_ = 0;  ///< bytes that the buffer has held before
  std::uint64_t bytes_ = 0;
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

}  // namespace detail

#if ZIPML_DEFINES

ZIPML_FUNCTION LineReader::LineReader(const std::string& path)
    : name_(path == "-" ? "<stdin>" : path), source_(path) {
  if (path == "-") {
    file_ = stdin;
  } else {
    errno = 0;
    owned_.reset(std::fopen(path.c_str(), "rb"));
    if (!owned_) throw Error(Place{name_}, "cannot open: " + std::generic_category().message(errno));
    file_ = owned_.get();
#if defined(__unix__) || defined(__APPLE__)
    struct stat status {};
    if (stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode))
      bytes_ = static_cast<std::uint64_t>(status.st_size);
#endif
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
    passed_ += begin_;
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
  passed_ += begin_;
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

}  // namespace detail

#endif

}  // namespace zipml::inline ZIPML_ABI
