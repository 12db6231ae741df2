#pragma once
/// \file
/// Room io: writing a file as a whole: whoever reads it sees the old content or the new one.

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>

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

ZIPML_FUNCTION void write_file(const std::string& path, std::string_view text) {
  if (path == "-") {
    if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0)
      detail::throw_unwritable("<stdout>", errno);
    return;
  }
  const std::string target = detail::place_to_write(path);
  struct stat status {};
  const bool replaces = detail::replaces_file(path, target, status);
  std::string part;
  const int file = replaces ? detail::open_beside(target, part) : open(target.c_str(), O_WRONLY | O_CLOEXEC);
  if (file < 0) detail::throw_unwritable(path, errno);
  int reason = detail::write_all(file, text);
  if (replaces && reason == 0) {
    if (status.st_mode != 0 && fchmod(file, status.st_mode & 07777) != 0) reason = errno;
    // Another owner's file stays theirs where we may give it away; where not, the content is what matters.
    if (status.st_mode != 0 && (status.st_uid != geteuid() || status.st_gid != getegid()))
      if (fchown(file, status.st_uid, status.st_gid) != 0) errno = 0;
    if (reason == 0 && fsync(file) != 0) reason = errno;
  }
  if (close(file) != 0 && reason == 0) reason = errno;  // a full disk may show only here
  if (!replaces) {
    if (reason != 0) detail::throw_unwritable(path, reason);
    return;
  }
  if (reason == 0 && std::rename(part.c_str(), target.c_str()) != 0) reason = errno;
  if (reason == 0) return;
  unlink(part.c_str());
  detail::throw_unwritable(path, reason);
}

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

ZIPML_FUNCTION void write_file(const std::string& path, std::string_view text) {
  const std::string part = path + ".part";
  std::FILE* file = std::fopen(part.c_str(), "wb");
  if (file == nullptr) detail::throw_unwritable(path, errno);
  bool good = std::fwrite(text.data(), 1, text.size(), file) == text.size() && std::fflush(file) == 0;
  good = std::fclose(file) == 0 && good;
  if (good && std::rename(part.c_str(), path.c_str()) == 0) return;
  const int reason = errno;
  std::remove(part.c_str());
  detail::throw_unwritable(path, reason);
}

ZIPML_FUNCTION bool is_same_file(const std::string& a, const std::string& b) { return a == b; }

#endif

#endif

}  // namespace zipml::inline ZIPML_ABI
