#pragma once
/// \file
/// Room io: writing a file as a whole: whoever reads it sees the old content or the new one.

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

#if defined(__unix__) || defined(__APPLE__)
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#define ZIPML_HAS_POSIX_FILES 1
#else
#define ZIPML_HAS_POSIX_FILES 0
#endif

#include <zipml/base/error.hpp>

namespace zipml::inline ZIPML_ABI {

/// Writes `text` to `path`; "-" is standard output. A regular file is written beside itself, under a name that
/// no other process uses, flushed to the disk and renamed: it is replaced as a whole, keeps its mode, and when
/// anything fails (Error) it is as it was. Links are followed; devices and pipes are written to.
void write_file(const std::string& path, std::string_view text);
/// The same of what `pieces` hands, one after the other, to the function that it is given.
///
///     write_file(path, [&](const auto& put) { put("first "); put("second"); });
template <class Pieces>
void write_file_in_pieces(const std::string& path, const Pieces& pieces);

namespace detail {

/// A file that is being written as write_file() does: what is put is there when finish() returns, and else
/// nothing is.
class OutputFile {
 public:
  explicit OutputFile(const std::string& path);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  void put(std::string_view text);
  void finish();

 private:
  std::string path_;
  std::string target_;  // behind the links
  std::string part_;    // the new file beside it
#if ZIPML_HAS_POSIX_FILES
  struct stat status_ {};
  bool replaces_ = false;
  int file_ = -1;  // -1: standard output
#else
  std::FILE* file_ = nullptr;
#endif
};

}  // namespace detail

template <class Pieces>
void write_file_in_pieces(const std::string& path, const Pieces& pieces) {
  detail::OutputFile file(path);
  pieces([&](std::string_view text) { file.put(text); });
  file.finish();
}
inline void write_file(const std::string& path, std::string_view text) {
  write_file_in_pieces(path, [&](const auto& put) { put(text); });
}

/// Throws the Error that write_file() would end with as far as that can be known beforehand: a folder that
/// does not exist or may not be written, a folder in the place of the file, a file that is read-only. Leaves
/// everything as it is.
void require_writable(const std::string& path);

/// Whether two paths are one file, through links too; "-" is standard input. False when one does not exist.
bool is_same_file(const std::string& a, const std::string& b);

#if ZIPML_DEFINES

namespace detail {

[[noreturn]] inline void throw_unwritable(const std::string& path, int reason) {
  throw Error(Place{path}, std::string("cannot write: ") + std::strerror(reason));
}

#if ZIPML_HAS_POSIX_FILES

/// What a path leads to at the end of its links, whether it exists or not.
ZIPML_FUNCTION std::string target_of_links(std::string path) {
  const std::string given = path;
  for (int followed = 0; followed < 40; ++followed) {
    struct stat status {};
    if (lstat(path.c_str(), &status) != 0 || !S_ISLNK(status.st_mode)) return path;
    char target[4096];
    const ssize_t length = readlink(path.c_str(), target, sizeof target);
    if (length < 0) return path;
    const std::string next(target, static_cast<std::size_t>(length));
    const std::size_t slash = path.rfind('/');
    path = next[0] == '/' || slash == std::string::npos ? next : path.substr(0, slash + 1) + next;
  }
  throw_unwritable(given, ELOOP);
}

/// Where to write: at the end of the links, but devices and pipes by the path itself, since what /dev/stdout
/// leads to has no name.
ZIPML_FUNCTION std::string place_to_write(const std::string& path) {
  struct stat status {};
  if (stat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode)) return path;
  return target_of_links(path);
}

/// A new file beside `path`, whose name is put into `part`.
ZIPML_FUNCTION int open_beside(const std::string& path, std::string& part) {
  for (int attempt = 0; attempt < 1000; ++attempt) {
    part = path + '.' + std::to_string(getpid()) + '.' + std::to_string(attempt) + ".part";
    const int file = open(part.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (file >= 0 || errno != EEXIST) return file;
  }
  return -1;
}

/// 0, or why not all could be written.
ZIPML_FUNCTION int write_all(int file, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = write(file, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return written == 0 ? EIO : errno;
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  return 0;
}

/// Whether `target`, a path behind its links, is a file to be replaced, or a new one; else it is written to.
/// Throws Error when it can be neither.
ZIPML_FUNCTION bool replaces_file(const std::string& path, const std::string& target, struct stat& status) {
  if (stat(target.c_str(), &status) != 0) {
    if (errno != ENOENT) throw_unwritable(path, errno);
    status = {};
    return true;
  }
  if (S_ISDIR(status.st_mode)) throw_unwritable(path, EISDIR);
  if (access(target.c_str(), W_OK) != 0) throw_unwritable(path, errno);
  return S_ISREG(status.st_mode);
}

#endif

}  // namespace detail

#if ZIPML_HAS_POSIX_FILES

ZIPML_FUNCTION void require_writable(const std::string& path) {
  if (path == "-") return;
  const std::string target = detail::place_to_write(path);
  struct stat status {};
  if (!detail::replaces_file(path, target, status)) return;
  std::string part;
  const int file = detail::open_beside(target, part);
  if (file < 0) detail::throw_unwritable(path, errno);
  close(file);
  unlink(part.c_str());
}

namespace detail {

ZIPML_FUNCTION OutputFile::OutputFile(const std::string& path) : path_(path) {
  if (path == "-") return;
  target_ = place_to_write(path);
  replaces_ = replaces_file(path, target_, status_);
  file_ = replaces_ ? open_beside(target_, part_) : open(target_.c_str(), O_WRONLY | O_CLOEXEC);
  if (file_ < 0) throw_unwritable(path, errno);
}

ZIPML_FUNCTION OutputFile::~OutputFile() {
  if (file_ < 0) return;
  close(file_);
  if (replaces_) unlink(part_.c_str());
}

ZIPML_FUNCTION void OutputFile::put(std::string_view text) {
  if (file_ < 0) {
    if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) throw_unwritable("<stdout>", errno);
    return;
  }
  if (const int reason = write_all(file_, text); reason != 0) throw_unwritable(path_, reason);
}

ZIPML_FUNCTION void OutputFile::finish() {
  if (file_ < 0) {
    if (std::fflush(stdout) != 0) throw_unwritable("<stdout>", errno);
    return;
  }
  int reason = 0;
  if (replaces_) {
    if (status_.st_mode != 0 && fchmod(file_, status_.st_mode & 07777) != 0) reason = errno;
    // Another owner's file stays theirs where we may give it away; where not, the content is what matters.
    if (status_.st_mode != 0 && (status_.st_uid != geteuid() || status_.st_gid != getegid()))
      if (fchown(file_, status_.st_uid, status_.st_gid) != 0) errno = 0;
    if (reason == 0 && fsync(file_) != 0) reason = errno;
  }
  if (close(std::exchange(file_, -1)) != 0 && reason == 0) reason = errno;  // a full disk may show only here
  if (!replaces_) {
    if (reason != 0) throw_unwritable(path_, reason);
    return;
  }
  if (reason == 0 && std::rename(part_.c_str(), target_.c_str()) != 0) reason = errno;
  if (reason == 0) return;
  unlink(part_.c_str());
  throw_unwritable(path_, reason);
}

}  // namespace detail

ZIPML_FUNCTION bool is_same_file(const std::string& a, const std::string& b) {
  struct stat first {};
  struct stat second {};
  const auto look = [](const std::string& path, struct stat& status) {
    return (path == "-" ? fstat(STDIN_FILENO, &status) : stat(path.c_str(), &status)) == 0;
  };
  return look(a, first) && look(b, second) && first.st_dev == second.st_dev && first.st_ino == second.st_ino;
}

#else

ZIPML_FUNCTION void require_writable(const std::string& path) {
  const std::string part = path + ".part";
  std::FILE* file = std::fopen(part.c_str(), "ab");
  if (file == nullptr) detail::throw_unwritable(path, errno);
  std::fclose(file);
  std::remove(part.c_str());
}

namespace detail {

ZIPML_FUNCTION OutputFile::OutputFile(const std::string& path)
    : path_(path), target_(path), part_(path + ".part") {
  if (path == "-") return;
  file_ = std::fopen(part_.c_str(), "wb");
  if (file_ == nullptr) throw_unwritable(path, errno);
}
ZIPML_FUNCTION OutputFile::~OutputFile() {
  if (file_ == nullptr) return;
  std::fclose(file_);
  std::remove(part_.c_str());
}
ZIPML_FUNCTION void OutputFile::put(std::string_view text) {
  std::FILE* const file = path_ == "-" ? stdout : file_;
  if (std::fwrite(text.data(), 1, text.size(), file) != text.size()) throw_unwritable(path_, errno);
}
ZIPML_FUNCTION void OutputFile::finish() {
  if (file_ == nullptr) {
    if (std::fflush(stdout) != 0) throw_unwritable(path_, errno);
    return;
  }
  const bool good = std::fflush(file_) == 0;
  if (std::fclose(std::exchange(file_, nullptr)) == 0 && good &&
      std::rename(part_.c_str(), target_.c_str()) == 0)
    return;
  const int reason = errno;
  std::remove(part_.c_str());
  throw_unwritable(path_, reason);
}

}  // namespace detail

ZIPML_FUNCTION bool is_same_file(const std::string& a, const std::string& b) { return a == b; }

#endif

#endif

}  // namespace zipml::inline ZIPML_ABI
