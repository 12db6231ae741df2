#pragma once
/// \file
/// Room io: a file in memory: mapped, so that the system reads what is touched and forgets what it must, or
/// read where there is no mapping.

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <span>
#include <string>

#if defined(__unix__) || defined(__APPLE__)
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#define ZIPML_HAS_MAPPING 1
#else
#define ZIPML_HAS_MAPPING 0
#endif

#include <atomic>
#include <zipml/base/buffer.hpp>
#include <zipml/base/error.hpp>

namespace zipml::inline ZIPML_ABI {

/// The bytes of a file, read-only, as long as this lives. What others append or write while it is mapped may
/// be seen. A file that becomes shorter, or that the disk cannot read any more, would end a process with
/// SIGBUS: pages that are lost read as zeros instead, and require_intact() throws.
class MappedFile {
 public:
  /// Throws Error when there is no such file, or when it is none (a folder, a pipe). With `read` it is read
  /// into memory, which nobody can take away.
  explicit MappedFile(const std::string& path, bool read = false);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const { return path_; }
  std::span<const std::uint8_t> bytes() const { return {data_, static_cast<std::size_t>(size_)}; }
  bool is_mapped() const { return slot_ >= 0; }

  /// Tells the system that all of it will be read from its beginning to its end.
  void expect_reading() const;

  /// Lets go of the memory of what has been read; the system reads it again where it is touched again.
  void give_back() const;

  /// Throws Error when a part of the file was lost while it was mapped.
  void require_intact() const;

 private:
  void read_all(int file);
  void map(int file);

  std::string path_;
  const std::uint8_t* data_ = nullptr;
  Index size_ = 0;
  Buffer<std::uint8_t> read_;
  int slot_ = -1;  // of the mapping among all
};

namespace detail {
/// Whether a regular file begins with some bytes; false when it cannot be read. (A pipe can be read once.)
bool begins_with(const std::string& path, const unsigned char* bytes, std::size_t count);
}  // namespace detail

#if ZIPML_DEFINES

namespace detail {

ZIPML_FUNCTION bool begins_with(const std::string& path, const unsigned char* bytes, std::size_t count) {
#if ZIPML_HAS_MAPPING
  struct stat status {};
  if (stat(path.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) return false;
#endif
  std::FILE* const file = std::fopen(path.c_str(), "rb");
  if (file == nullptr) return false;
  unsigned char first[16] = {};
  const bool whole = std::fread(first, 1, count, file) == count;
  std::fclose(file);
  return whole && std::memcmp(first, bytes, count) == 0;
}

}  // namespace detail

#if ZIPML_HAS_MAPPING

namespace detail {

/// All mappings of the process, as a handler of signals may read them.
struct Mappings {
  static constexpr int most = 256;
  struct Slot {
    std::atomic<std::uintptr_t> first{0};  // 0: free
    std::atomic<std::uintptr_t> bytes{0};
    std::atomic<bool> taken{false};
    std::atomic<bool> broken{false};
  };
  Slot places[most];
  struct sigaction before {};
};

ZIPML_FUNCTION Mappings& mappings() {
  static Mappings all;
  return all;
}

/// Puts a page of zeros where one cannot be read. Whatever is no page of ours goes where it went before.
ZIPML_FUNCTION void on_bus_error(int number, siginfo_t* info, void* context) {
  Mappings& all = mappings();
  const auto at = reinterpret_cast<std::uintptr_t>(info->si_addr);
  for (Mappings::Slot& slot : all.places) {
    const std::uintptr_t first = slot.first;
    if (first == 0 || at < first || at >= first + slot.bytes) continue;
    const auto page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
    void* const where = reinterpret_cast<void*>(at / page * page);
    if (mmap(where, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED) break;
    slot.broken = true;
    return;
  }
  const struct sigaction& before = all.before;
  if ((before.sa_flags & SA_SIGINFO) != 0 && before.sa_sigaction != nullptr)
    return before.sa_sigaction(number, info, context);
  if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN && before.sa_handler != nullptr)
    return before.sa_handler(number);
  ::signal(number, SIG_DFL);  // happens again, and ends the process
}

/// Installs the handler once, for the life of the process.
ZIPML_FUNCTION void watch_bus_errors() {
  static const bool installed = [] {
    struct sigaction action {};
    action.sa_sigaction = on_bus_error;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
    return sigaction(SIGBUS, &action, &mappings().before) == 0;
  }();
  (void)installed;
}

}  // namespace detail

ZIPML_FUNCTION MappedFile::MappedFile(const std::string& path, bool read) : path_(path) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) throw Error(Place{path}, std::string("cannot open: ") + std::strerror(errno));
  struct Closing {
    int file;
    ~Closing() { close(file); }
  } closing{file};
  struct stat status {};
  if (fstat(file, &status) != 0)
    throw Error(Place{path}, std::string("cannot open: ") + std::strerror(errno));
  if (!S_ISREG(status.st_mode))
    throw Error(Place{path}, "is no regular file", "a file",
                S_ISDIR(status.st_mode) ? "a folder" : "a device or pipe");
  size_ = static_cast<Index>(status.st_size);
  if (size_ == 0) return;
  if (!read) map(file);
  if (!is_mapped()) read_all(file);
}

ZIPML_FUNCTION void MappedFile::map(int file) {
  detail::watch_bus_errors();
  for (int slot = 0; slot < detail::Mappings::most; ++slot) {
    detail::Mappings::Slot& mine = detail::mappings().places[slot];
    if (mine.taken.exchange(true)) continue;
    void* const data = mmap(nullptr, static_cast<std::size_t>(size_), PROT_READ, MAP_PRIVATE, file, 0);
    if (data == MAP_FAILED) {
      mine.taken = false;
      return;
    }
    data_ = static_cast<const std::uint8_t*>(data);
    mine.broken = false;
    mine.bytes = static_cast<std::uintptr_t>(size_);
    mine.first = reinterpret_cast<std::uintptr_t>(data);
    slot_ = slot;
    return;
  }
}

ZIPML_FUNCTION void MappedFile::read_all(int file) {
  read_ = Buffer<std::uint8_t>::uninitialised(size_);
  Index done = 0;
  while (done < size_) {
    const ssize_t got = ::read(file, read_.data() + done, static_cast<std::size_t>(size_ - done));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0)
      throw Error(Place{path_}, "cannot read", std::to_string(size_) + " bytes",
                  got == 0 ? std::to_string(done) + " bytes: the file became shorter" : std::strerror(errno));
    done += static_cast<Index>(got);
  }
  data_ = read_.data();
}

ZIPML_FUNCTION MappedFile::~MappedFile() {
  if (!is_mapped()) return;
  detail::Mappings::Slot& mine = detail::mappings().places[slot_];
  mine.first = 0;
  munmap(const_cast<std::uint8_t*>(data_), static_cast<std::size_t>(size_));
  mine.taken = false;
}

ZIPML_FUNCTION void MappedFile::expect_reading() const {
  if (is_mapped()) madvise(const_cast<std::uint8_t*>(data_), static_cast<std::size_t>(size_), MADV_WILLNEED);
}

ZIPML_FUNCTION void MappedFile::give_back() const {
  if (is_mapped()) madvise(const_cast<std::uint8_t*>(data_), static_cast<std::size_t>(size_), MADV_DONTNEED);
}

ZIPML_FUNCTION void MappedFile::require_intact() const {
  if (is_mapped() && detail::mappings().places[slot_].broken)
    throw Error(Place{path_}, "the file became shorter, or cannot be read any more, while it was in use",
                std::to_string(size_) + " bytes", "fewer");
}

#else

ZIPML_FUNCTION MappedFile::MappedFile(const std::string& path, bool) : path_(path) {
  std::FILE* const file = std::fopen(path.c_str(), "rb");
  if (file == nullptr) throw Error(Place{path}, std::string("cannot open: ") + std::strerror(errno));
  List<std::uint8_t> bytes;
  std::uint8_t piece[65536];
  for (std::size_t got = 0; (got = std::fread(piece, 1, sizeof piece, file)) > 0;)
    bytes.insert(bytes.end(), piece, piece + got);
  std::fclose(file);
  size_ = static_cast<Index>(bytes.size());
  read_ = Buffer<std::uint8_t>(size_);
  std::copy(bytes.begin(), bytes.end(), read_.begin());
  data_ = read_.data();
}
ZIPML_FUNCTION MappedFile::~MappedFile() = default;
ZIPML_FUNCTION void MappedFile::expect_reading() const {}
ZIPML_FUNCTION void MappedFile::give_back() const {}
ZIPML_FUNCTION void MappedFile::require_intact() const {}

#endif

#endif

}  // namespace zipml::inline ZIPML_ABI
