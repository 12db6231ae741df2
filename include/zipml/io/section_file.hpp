#pragma once
/// \file
/// Room io: a file of sections: arrays of numbers, each of a kind, with checksums, mapped. What kinds there are
/// and what they mean, io/packed_file.hpp knows.
///
/// All numbers are little-endian, floats are IEEE 754. A file is
///
///     offset  bytes
///     0       8      89 'Z' 'I' 'P' 'M' 'L' 0D 0A, which a transfer as text breaks
///     8       4      version, 1
///     12      4      s, the number of sections
///     16      8      bytes of the file
///     24      8      n, rows
///     32      8      d, columns
///     40      8      seed: of the placement of rows (storage/targets.hpp)
///     48      1      b, bits of one draw; 32: float32 rows
///     49      1      draws that can be read apart
///     50      1      stored bits of a code: base and draws; 0: float32 rows
///     51      13     0
///     64      32 s   the sections, kinds increasing, 32 bytes each:
///                        4  kind
///                        4  1: a reader that does not know the kind may pass over it; 0: it must refuse
///                        8  offset
///                        8  bytes
///                        4  width of an element: 1, 2, 4 or 8
///                        4  first of the section's entries in the list of checksums; of that list its own
///     64+32s  4      CRC-32C of everything before it
///
/// and the sections, each at the first multiple of 64 that is at least 64 bytes behind what is before it, and
/// so the end of the file; all bytes between are 0. A section is checked in chunks of 2^20 bytes, the last
/// one shorter: the list of checksums, kind 63 and the last section, has the CRC-32C of every chunk, section
/// after section.

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <utility>

#include <zipml/base/buffer.hpp>
#include <zipml/base/config.hpp>
#include <zipml/base/crc32c.hpp>
#include <zipml/base/error.hpp>
#include <zipml/io/mapped_file.hpp>
#include <zipml/io/output_file.hpp>
#include <zipml/quantization/statistics.hpp>

namespace zipml::inline ZIPML_ABI {

/// A section of a file, as its table has it.
struct FileSection {
  std::uint32_t kind;
  std::uint32_t flags;
  std::uint64_t offset;
  std::uint64_t bytes;
  std::uint32_t width;
  std::uint32_t check;
};

namespace detail {

/// A kind of section: its number, the bytes of an element, and what messages call it.
struct SectionKind {
  std::uint32_t kind;
  std::uint32_t width;
  const char* name;
};
inline constexpr SectionKind checksum_section{63, 4, "checksums"};

/// What the header says of the samples.
struct SectionHeader {
  std::uint64_t rows = 0, cols = 0, seed = 0;
  std::uint8_t bits = 0, draws = 0, stored_bits = 0;
};

/// Collects sections and writes them as a file; what they point to must live until then.
class SectionWriter {
 public:
  template <class T>
  void add(const SectionKind& kind, const T* data, std::uint64_t count) {
    parts_.push_back(
        {reinterpret_cast<const std::uint8_t*>(data), {kind.kind, 0, 0, count * sizeof(T), sizeof(T), 0}});
  }
  /// As write_file() does. O(bytes).
  void write(const std::string& path, const SectionHeader& header);

 private:
  struct Part {
    const std::uint8_t* data;
    FileSection section;
  };
  std::string head(const SectionHeader& header, std::size_t end) const;

  List<Part> parts_;
};

/// A file of sections, open: everything that can be wrong with it as a file is found here. The meaning of
/// numbers is for others to check.
class SectionFile {
 public:
  /// Maps the file, or reads it, and checks the header, the places of the sections, and that what is between
  /// them is 0. `known` are the kinds that the caller understands. Throws Error, which names the file.
  SectionFile(const std::string& path, bool map, std::span<const SectionKind> known);

  const std::string& path() const { return file_.path(); }
  std::span<const std::uint8_t> bytes() const { return file_.bytes(); }
  const SectionHeader& header() const { return header_; }
  const List<FileSection>& sections() const { return sections_; }
  /// What a kind is called.
  const char* name_of(std::uint32_t kind) const;
  const FileSection* find(const SectionKind& kind) const;

  /// Throws Error for the first chunk of a section whose checksum is another, among every `parts`-th from `part` on.
  void verify(const FileSection& section, std::size_t part = 0, std::size_t parts = 1) const;
  void require_intact() const { file_.require_intact(); }
  void expect_reading() const { file_.expect_reading(); }

  /// The elements of a section: where they lie in the file, or a copy in the order of this machine. Throws
  /// Error when there is no such section, or it has another number of elements.
  template <class T>
  const T* list(const SectionKind& kind, std::uint64_t count);
  /// The same, of numbers that are finite and at least `lowest`; else Error.
  template <class T>
  const T* finite_list(const SectionKind& kind, std::uint64_t count,
                       T lowest = std::numeric_limits<T>::lowest());

  [[noreturn]] void fail(const std::string& what, const std::string& expected = {},
                         const std::string& got = {}) const {
    throw Error(Place{path()}, what, expected, got);
  }

 private:
  const FileSection& need(const SectionKind& kind, std::uint64_t count) const;
  template <class T>
  T number(std::size_t at) const;
  void read_header();
  void read_table(std::size_t count);
  void require_zeros(std::size_t first, std::size_t end) const;

  MappedFile file_;
  std::span<const SectionKind> known_;
  SectionHeader header_;
  List<FileSection> sections_;
  List<Buffer<std::uint8_t>> copies_;
};

inline constexpr std::size_t section_header = 64, section_entry = 32, section_chunk = std::size_t{1} << 20;
inline constexpr std::uint32_t section_version = 1;
inline constexpr unsigned char section_magic[8] = {0x89, 'Z', 'I', 'P', 'M', 'L', 0x0D, 0x0A};

/// Copies `bytes` bytes of elements of a width between the order of this machine and little-endian.
inline void to_little_endian(const void* from, std::size_t bytes, std::size_t width, void* to) {
  if (bytes > 0) std::memcpy(to, from, bytes);
  if constexpr (std::endian::native == std::endian::big) {
    auto* const p = static_cast<std::uint8_t*>(to);
    for (std::size_t at = 0; at + width <= bytes; at += width) std::reverse(p + at, p + at + width);
  }
}

template <class T>
T SectionFile::number(std::size_t at) const {
  T value;
  to_little_endian(bytes().data() + at, sizeof value, sizeof value, &value);
  return value;
}

template <class T>
const T* SectionFile::list(const SectionKind& kind, std::uint64_t count) {
  const FileSection& section = need(kind, count);
  const std::uint8_t* const data = bytes().data() + section.offset;
  if (std::endian::native == std::endian::little || sizeof(T) == 1) return reinterpret_cast<const T*>(data);
  copies_.emplace_back(static_cast<Index>(section.bytes));
  to_little_endian(data, static_cast<std::size_t>(section.bytes), sizeof(T), copies_.back().data());
  return reinterpret_cast<const T*>(copies_.back().data());
}

template <class T>
const T* SectionFile::finite_list(const SectionKind& kind, std::uint64_t count, T lowest) {
  const T* const values = list<T>(kind, count);
  for (std::uint64_t k = 0; k < count; ++k)
    if (!all_finite(values + k, 1) || values[k] < lowest)
      fail(std::string("a number of the ") + kind.name + " is out of range",
           lowest == std::numeric_limits<T>::lowest() ? "finite numbers"
                                                      : "finite numbers of at least " + number_text(lowest),
           number_text(values[k]) + " at place " + std::to_string(k));
  return values;
}

#if ZIPML_DEFINES

inline std::size_t next_section(std::size_t end) { return (end + 64 + 63) / 64 * 64; }
inline std::size_t chunks_of(std::uint64_t bytes) {
  return static_cast<std::size_t>((bytes + section_chunk - 1) / section_chunk);
}

template <class T>
void put_number(std::string& out, T value) {
  char bytes[sizeof(T)];
  to_little_endian(&value, sizeof value, sizeof value, bytes);
  out.append(bytes, sizeof bytes);
}

/// Calls f(bytes, count) with every chunk of an array as it is in the file.
template <class F>
void for_each_chunk(const std::uint8_t* data, const FileSection& section, const F& f) {
  Buffer<std::uint8_t> swapped;
  for (std::uint64_t at = 0; at < section.bytes; at += section_chunk) {
    const auto count = static_cast<std::size_t>((std::min)(section.bytes - at, std::uint64_t{section_chunk}));
    const std::uint8_t* bytes = data + at;
    if constexpr (std::endian::native == std::endian::big) {
      if (swapped.empty()) swapped = Buffer<std::uint8_t>(static_cast<Index>(section_chunk));
      to_little_endian(bytes, count, section.width, swapped.data());
      bytes = swapped.data();
    }
    f(bytes, count);
  }
}

ZIPML_FUNCTION void SectionWriter::write(const std::string& path, const SectionHeader& header) {
  List<std::uint32_t> crcs;
  for (Part& part : parts_) {
    part.section.check = static_cast<std::uint32_t>(crcs.size());
    for_each_chunk(part.data, part.section, [&](const std::uint8_t* bytes, std::size_t count) {
      crcs.push_back(crc32c(bytes, count));
    });
  }
  add(checksum_section, crcs.data(), crcs.size());
  FileSection& list = parts_.back().section;
  for_each_chunk(parts_.back().data, list, [&](const std::uint8_t* bytes, std::size_t count) {
    list.check = crc32c(bytes, count, list.check);
  });

  std::size_t at = section_header + section_entry * parts_.size() + 4;
  for (Part& part : parts_) {
    at = next_section(at);
    part.section.offset = at;
    at += static_cast<std::size_t>(part.section.bytes);
  }
  const std::size_t end = next_section(at);
  write_file_in_pieces(path, [&](const auto& put) {
    const std::string first = head(header, end);
    put(first);
    std::size_t place = first.size();
    const auto fill = [&](std::size_t to) {
      put(std::string(to - place, '\0'));
      place = to;
    };
    for (const Part& part : parts_) {
      fill(static_cast<std::size_t>(part.section.offset));
      for_each_chunk(part.data, part.section, [&](const std::uint8_t* bytes, std::size_t count) {
        put(std::string_view(reinterpret_cast<const char*>(bytes), count));
      });
      place += static_cast<std::size_t>(part.section.bytes);
    }
    fill(end);
  });
}

ZIPML_FUNCTION std::string SectionWriter::head(const SectionHeader& header, std::size_t end) const {
  std::string out(reinterpret_cast<const char*>(section_magic), sizeof section_magic);
  put_number(out, section_version);
  put_number(out, static_cast<std::uint32_t>(parts_.size()));
  put_number(out, static_cast<std::uint64_t>(end));
  put_number(out, header.rows);
  put_number(out, header.cols);
  put_number(out, header.seed);
  put_number(out, header.bits);
  put_number(out, header.draws);
  put_number(out, header.stored_bits);
  out.resize(section_header, '\0');
  for (const Part& part : parts_) {
    const FileSection& section = part.section;
    put_number(out, section.kind);
    put_number(out, section.flags);
    put_number(out, section.offset);
    put_number(out, section.bytes);
    put_number(out, section.width);
    put_number(out, section.check);
  }
  put_number(out, crc32c(out.data(), out.size()));
  return out;
}

ZIPML_FUNCTION SectionFile::SectionFile(const std::string& path, bool map, std::span<const SectionKind> known)
    : file_(path, !map), known_(known) {
  read_header();
}

ZIPML_FUNCTION const char* SectionFile::name_of(std::uint32_t kind) const {
  if (kind == checksum_section.kind) return checksum_section.name;
  for (const SectionKind& one : known_)
    if (one.kind == kind) return one.name;
  return "of a later version";
}

ZIPML_FUNCTION const FileSection* SectionFile::find(const SectionKind& kind) const {
  for (const FileSection& section : sections_)
    if (section.kind == kind.kind) return &section;
  return nullptr;
}

ZIPML_FUNCTION const FileSection& SectionFile::need(const SectionKind& kind, std::uint64_t count) const {
  const FileSection* const section = find(kind);
  if (section == nullptr) fail(std::string("a section is missing: ") + kind.name);
  if (section->width != kind.width || section->bytes / kind.width != count)
    fail(std::string("the section of the ") + kind.name + " has another size",
         std::to_string(count) + " elements of " + std::to_string(kind.width) + " bytes",
         std::to_string(section->bytes / section->width) + " of " + std::to_string(section->width));
  return *section;
}

ZIPML_FUNCTION void SectionFile::read_header() {
  const std::size_t have = bytes().size();
  const auto is_short = [&](std::size_t need) {
    if (have < need)
      fail("the packed file is cut short", "at least " + std::to_string(need) + " bytes",
           std::to_string(have));
  };
  if (have < sizeof section_magic || std::memcmp(bytes().data(), section_magic, sizeof section_magic) != 0)
    fail("is no packed file of zipml", "what save_packed() or the program pack writes", "another beginning");
  is_short(section_header);
  const auto version = number<std::uint32_t>(8);
  if (version != section_version)
    fail("the packed file is of another version", std::to_string(section_version), std::to_string(version));
  const auto count = number<std::uint32_t>(12);
  if (count > 4096) fail("the packed file is damaged", "at most 4096 sections", std::to_string(count));
  const std::size_t table_end = section_header + section_entry * count;
  is_short(table_end + 4);
  if (number<std::uint32_t>(table_end) != crc32c(bytes().data(), table_end))
    fail("the header of the packed file is damaged", "its checksum", "another");
  const auto end = number<std::uint64_t>(16);
  if (end != have)
    fail(have < end ? "the packed file is cut short" : "the packed file has bytes behind its end",
         std::to_string(end) + " bytes", std::to_string(have));
  for (std::size_t k = 51; k < section_header; ++k)
    if (bytes()[k] != 0)
      fail("the packed file is of a later version", "0 in byte " + std::to_string(k),
           std::to_string(bytes()[k]));
  header_ = {number<std::uint64_t>(24),
             number<std::uint64_t>(32),
             number<std::uint64_t>(40),
             bytes()[48],
             bytes()[49],
             bytes()[50]};
  read_table(count);
}

ZIPML_FUNCTION void SectionFile::read_table(std::size_t count) {
  const std::size_t have = bytes().size();
  std::size_t end = section_header + section_entry * count + 4;
  std::uint32_t before = 0;
  std::size_t chunks = 0;
  for (std::size_t k = 0; k < count; ++k) {
    const std::size_t at = section_header + section_entry * k;
    const FileSection section{number<std::uint32_t>(at),      number<std::uint32_t>(at + 4),
                              number<std::uint64_t>(at + 8),  number<std::uint64_t>(at + 16),
                              number<std::uint32_t>(at + 24), number<std::uint32_t>(at + 28)};
    const std::string name = "section " + std::to_string(section.kind) + " (" + name_of(section.kind) + ")";
    if (section.kind <= before)
      fail(name + " is out of order", "increasing kinds",
           std::to_string(section.kind) + " behind " + std::to_string(before));
    before = section.kind;
    if (section.flags > 1) fail(name + " has unknown flags", "0 or 1", std::to_string(section.flags));
    if (section.width != 1 && section.width != 2 && section.width != 4 && section.width != 8)
      fail(name + " has no width", "1, 2, 4 or 8", std::to_string(section.width));
    const std::size_t first = next_section(end);
    if (section.offset != first || first > have || section.bytes > have - first)
      fail(name + " lies outside of the file",
           "offset " + std::to_string(first) + " and at most " + std::to_string(have) + " bytes",
           std::to_string(section.offset) + " and " + std::to_string(section.bytes));
    if (section.bytes % section.width != 0)
      fail(name + " is no list", "a multiple of " + std::to_string(section.width) + " bytes",
           std::to_string(section.bytes));
    require_zeros(end, first);
    end = first + static_cast<std::size_t>(section.bytes);
    if (section.kind != checksum_section.kind) {
      if (section.check != chunks)
        fail(name + " has other checksums", "from " + std::to_string(chunks) + " on",
             std::to_string(section.check));
      chunks += chunks_of(section.bytes);
      const bool known = std::any_of(known_.begin(), known_.end(),
                                     [&](const SectionKind& one) { return one.kind == section.kind; });
      if ((section.flags & 1u) == 0 && !known)
        fail(name + " is needed, and unknown", "a reader of a later version",
             std::string("version ") + ZIPML_VERSION);
    }
    sections_.push_back(section);
  }
  if (next_section(end) != have)
    fail("the packed file does not end where its sections do", std::to_string(next_section(end)) + " bytes",
         std::to_string(have));
  require_zeros(end, have);
  const FileSection& list = need(checksum_section, chunks);
  if (crc32c(bytes().data() + list.offset, static_cast<std::size_t>(list.bytes)) != list.check)
    fail("the list of checksums is damaged", "its own checksum", "another");
}

ZIPML_FUNCTION void SectionFile::require_zeros(std::size_t first, std::size_t end) const {
  for (std::size_t k = first; k < end; ++k)
    if (bytes()[k] != 0)
      fail("the packed file is damaged", "0 in byte " + std::to_string(k) + ", which is between sections",
           std::to_string(bytes()[k]));
}

ZIPML_FUNCTION void SectionFile::verify(const FileSection& section, std::size_t part,
                                        std::size_t parts) const {
  if (section.kind == checksum_section.kind) return;  // when it was opened
  const FileSection& list = *find(checksum_section);
  for (std::size_t chunk = part; chunk < chunks_of(section.bytes); chunk += parts) {
    const std::uint64_t first = chunk * section_chunk;
    const auto count =
        static_cast<std::size_t>((std::min)(section.bytes - first, std::uint64_t{section_chunk}));
    const auto expected =
        number<std::uint32_t>(static_cast<std::size_t>(list.offset) + 4 * (section.check + chunk));
    if (crc32c(bytes().data() + section.offset + first, count) != expected)
      fail(std::string("the packed file is damaged in its ") + name_of(section.kind), "a checksum that fits",
           "another in bytes " + std::to_string(section.offset + first) + " to " +
               std::to_string(section.offset + first + count));
  }
}

#endif

}  // namespace detail

}  // namespace zipml::inline ZIPML_ABI
