#pragma once
/// \file
/// Room io: a file without a name, for rows that memory has no room for: gone with the program, however that
/// ends.

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>

#include <zipml/base/error.hpp>
#include <zipml/io/output_file.hpp>

#if !ZIPML_HAS_POSIX_FILES
#include <mutex>
#endif
#if ZIPML_DEFINES
#include <cstdlib>
#include <system_error>
#endif

namespace zipml::inline ZIPML_ABI {

/// Where scratch files go when nobody says: $TMPDIR, else /var/tmp, which is on a disk where /tmp may be memory.
std::string scratch_folder();

namespace detail {

/// Bytes that are appended by one thread and read by any.
class ScratchFile {
 public:
  /// In `folder`, which is named in errors.
  explicit ScratchFile(std::string folder);
  ~ScratchFile();
  ScratchFile(const ScratchFile&) = delete;
  ScratchFile& operator=(const ScratchFile&) = delete;

  const std::string& folder() const { return folder_; }
  std::uint64_t size() const { return size_; }

  /// Returns where the bytes begin. Throws Error when the disk is full.
  std::uint64_t append(const void* data, std::size_t bytes);
  /// Reads bytes that were appended.
  void read(std::uint64_t place, void* out, std::size_t bytes) const;

 private:
  [[noreturn]] void fail(const char* what, int code) const;

  std::string folder_;
  std::uint64_t size_ = 0;
#if ZIPML_HAS_POSIX_FILES
  int file_ = -1;
#else
  std::FILE* file_ = nullptr;
  mutable std::mutex mutex_;  // of the one position that such a file has
#endif
};

}  // namespace detail

#if ZIPML_DEFINES

ZIPML_FUNCTION std::string scratch_folder() {
  if (const char* named = std::getenv("TMPDIR"); named != nullptr && *named != '\0') return named;
#if ZIPML_HAS_POSIX_FILES
  struct stat status {};
  return stat("/var/tmp", &status) == 0 && S_ISDIR(status.st_mode) ? "/var/tmp" : "/tmp";
#else
  return ".";
#endif
}

namespace detail {

ZIPML_FUNCTION void ScratchFile::fail(const char* what, int code) const {
  std::string text = "cannot ";
  text += what;
  text += " a scratch file for rows that do not fit into memory: ";
  text += std::generic_category().message(code);
  throw Error(Place{folder_}, text, "a folder with room (--scratch, LoadOptions::scratch)",
              std::to_string(size_) + " bytes were written");
}

#if ZIPML_HAS_POSIX_FILES

ZIPML_FUNCTION ScratchFile::ScratchFile(std::string folder) : folder_(std::move(folder)) {
  std::string path = folder_;
  path += "/zipml-XXXXXX";
  file_ = ::mkstemp(path.data());
  if (file_ < 0) fail("make", errno);
  ::fcntl(file_, F_SETFD, FD_CLOEXEC);
  ::unlink(path.c_str());
}

ZIPML_FUNCTION ScratchFile::~ScratchFile() { ::close(file_); }

ZIPML_FUNCTION std::uint64_t ScratchFile::append(const void* data, std::size_t bytes) {
  const std::uint64_t place = size_;
  const char* from = static_cast<const char*>(data);
  while (bytes > 0) {
    const ::ssize_t done = ::pwrite(file_, from, bytes, static_cast<::off_t>(size_));
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) fail("write", done < 0 ? errno : ENOSPC);
    from += done;
    bytes -= static_cast<std::size_t>(done);
    size_ += static_cast<std::uint64_t>(done);
  }
  return place;
}

ZIPML_FUNCTION void ScratchFile::read(std::uint64_t place, void* out, std::size_t bytes) const {
  char* to = static_cast<char*>(out);
  while (bytes > 0) {
    const ::ssize_t done = ::pread(file_, to, bytes, static_cast<::off_t>(place));
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) fail("read", done < 0 ? errno : EIO);
    to += done;
    bytes -= static_cast<std::size_t>(done);
    place += static_cast<std::uint64_t>(done);
  }
}

#else

ZIPML_FUNCTION ScratchFile::ScratchFile(std::string folder) : folder_(std::move(folder)) {
  file_ = std::tmpfile();
  if (file_ == nullptr) fail("make", errno);
}

ZIPML_FUNCTION ScratchFile::~ScratchFile() { std::fclose(file_); }

ZIPML_FUNCTION std::uint64_t ScratchFile::append(const void* data, std::size_t bytes) {
  const std::uint64_t place = size_;
  const std::lock_guard<std::mutex> lock(mutex_);
  if (std::fseek(file_, 0, SEEK_END) != 0 || std::fwrite(data, 1, bytes, file_) != bytes)
    fail("write", errno);
  size_ += bytes;
  return place;
}

ZIPML_FUNCTION void ScratchFile::read(std::uint64_t place, void* out, std::size_t bytes) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (std::fseek(file_, static_cast<long>(place), SEEK_SET) != 0 || std::fread(out, 1, bytes, file_) != bytes)
    fail("read", errno);
}

#endif

}  // namespace detail

#endif

}  // namespace zipml::inline ZIPML_ABI
