#pragma once
/// \file
/// Room io: packed samples in a file: packed once, trained on for years. The file is mapped, so that training
/// begins at once and reads from the page cache, also what is larger than memory.
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
/// one shorter: the list of checksums has the CRC-32C of every chunk, section after section.
///
///     kind                   element  count
///     1   about              1               a model of zero weights, as save_model() writes it: names,
///                                            table, representation
///     2   standardisation    8        2 d    mean and scale of each column
///     3   offsets            8        d      what columns have lost (float_offset.hpp); may be missing
///     4   label statistics   8        6      min, max, mean, deviation, 1 for two values, offset
///     5   labels             4        n      in store order
///     6   weights            4        n      of mean 1; may be missing
///     7   offset             4        d      levels as CodeLevels says, where they are affine
///     8   step               4        d
///     9   row offset         4        n      where rows are scaled
///     10  row step           4        n
///     11  entries            1        2^b    where there is one table for all columns
///     12  tables             4        d l    l levels of each column, where there are tables
///     13  bias               4        d      where the encoding has it
///     14  outliers, gaps     2        k      as OutlierView says, where there are any
///     15  corrections        4        k
///     16  first of blocks    8
///     17  pilot              8        2 d + 5  rows, fingerprint of the labels (bits), intercept, mean
///                                            square, d weights, d + 1 gradients
///     32  codes              1               as PlaneLayout says
///     33  values             4        n d    float32 rows instead
///     63  checksums          4
///
/// Versions to come may add sections. Golden files of version 1 are in tests/io/packed.

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include <zipml/base/crc32c.hpp>
#include <zipml/base/error.hpp>
#include <zipml/io/mapped_file.hpp>
#include <zipml/io/model_file.hpp>
#include <zipml/io/output_file.hpp>
#include <zipml/kernels/isa.hpp>
#include <zipml/storage/sample_store.hpp>

namespace zipml::inline ZIPML_ABI {

/// Named options of PackedFile.
struct OpenOptions {
  /// Whether all checksums are verified before the file is used, which reads it once. Without, those of the
  /// codes wait for verify(); all others are verified in any case.
  bool verify = true;
  bool map = true;  ///< false: read into memory, so that nobody can take the file away
};

/// The samples, targets and names of a packed file: a store, which any estimator that it was packed for can
/// train on, as open_store() says it. Copies share the mapping.
class PackedFile : public StoreHeader {
 public:
  struct Section {
    std::uint32_t kind;
    std::uint32_t flags;
    std::uint64_t offset;
    std::uint64_t bytes;
    std::uint32_t width;
    std::uint32_t check;
    const char* name() const;
  };

  /// Throws Error, which names the file and what is wrong, for anything that save_packed() does not write:
  /// sizes are checked against the file before anything is allocated, everything but the codes against
  /// its checksum.
  explicit PackedFile(const std::string& path, const OpenOptions& options = {});

  /// Keeps the file mapped as long as it is used.
  SampleView samples() const { return view_; }
  KernelTable kernels(Isa isa) const { return kernels_of(isa); }
  /// What save_packed() was told.
  const std::string& representation() const { return representation_; }
  const std::string& path() const { return file_->path(); }
  const List<Section>& sections() const { return sections_; }
  Index file_bytes() const { return static_cast<Index>(file_->bytes().size()); }

  /// Reads the whole file and throws Error for the first chunk whose checksum is another.
  void verify() const;
  /// Throws Error when the file was lost, in part, while it was in use: what was read since is not to be
  /// trusted. Fits ask it when they end.
  void require_intact() const { file_->require_intact(); }

 private:
  friend class PackedFileReader;

  std::string representation_;
  std::shared_ptr<const MappedFile> file_;
  List<Section> sections_;
  SampleView view_;
};

/// Whether a file begins as packed files do; false when it cannot be read. (What else is in it, opening it
/// tells.)
bool is_packed_file(const std::string& path);

/// Writes packed samples, or float32 rows, to a file, as write_file() does: the old file or the new one, whatever
/// happens. `representation` is told by PackedFile::representation(). O(bytes).
void save_packed(const std::string& path, const SampleView& samples, const StoreHeader& header,
                 const std::string& representation);

#if ZIPML_DEFINES

namespace detail {

inline constexpr std::size_t packed_header = 64, packed_section = 32, packed_chunk = std::size_t{1} << 20;
inline constexpr std::uint32_t packed_version = 1;
inline constexpr unsigned char packed_magic[8] = {0x89, 'Z', 'I', 'P', 'M', 'L', 0x0D, 0x0A};

/// Kinds of sections.
struct PackedKind {
  enum : std::uint32_t {
    about = 1,
    standardisation,
    offsets,
    label_statistics,
    labels,
    weights,
    level_offset,
    level_step,
    row_offset,
    row_step,
    entries,
    tables,
    bias,
    outlier_gaps,
    outlier_corrections,
    outlier_first,
    pilot,
    codes = 32,
    values = 33,
    checksums = 63
  };
};

/// Copies `bytes` bytes of elements of a width between the order of this machine and little-endian.
inline void to_little_endian(const void* from, std::size_t bytes, std::size_t width, void* to) {
  if (bytes > 0) std::memcpy(to, from, bytes);
  if constexpr (std::endian::native == std::endian::big) {
    auto* const p = static_cast<std::uint8_t*>(to);
    for (std::size_t at = 0; at + width <= bytes; at += width) std::reverse(p + at, p + at + width);
  }
}
inline std::size_t next_section(std::size_t end) { return (end + 64 + 63) / 64 * 64; }
inline std::size_t chunks_of(std::uint64_t bytes) {
  return static_cast<std::size_t>((bytes + packed_chunk - 1) / packed_chunk);
}

template <class T>
void put_number(std::string& out, T value) {
  char bytes[sizeof(T)];
  to_little_endian(&value, sizeof value, sizeof value, bytes);
  out.append(bytes, sizeof bytes);
}

}  // namespace detail

ZIPML_FUNCTION const char* PackedFile::Section::name() const {
  switch (kind) {
    case detail::PackedKind::about:
      return "about";
    case detail::PackedKind::standardisation:
      return "standardisation";
    case detail::PackedKind::offsets:
      return "offsets of columns";
    case detail::PackedKind::label_statistics:
      return "label statistics";
    case detail::PackedKind::labels:
      return "labels";
    case detail::PackedKind::weights:
      return "weights";
    case detail::PackedKind::level_offset:
      return "level offsets";
    case detail::PackedKind::level_step:
      return "level steps";
    case detail::PackedKind::row_offset:
      return "row offsets";
    case detail::PackedKind::row_step:
      return "row steps";
    case detail::PackedKind::entries:
      return "entries";
    case detail::PackedKind::tables:
      return "tables of levels";
    case detail::PackedKind::bias:
      return "bias terms";
    case detail::PackedKind::outlier_gaps:
      return "outlier gaps";
    case detail::PackedKind::outlier_corrections:
      return "outlier corrections";
    case detail::PackedKind::outlier_first:
      return "outlier blocks";
    case detail::PackedKind::pilot:
      return "pilot";
    case detail::PackedKind::codes:
      return "codes";
    case detail::PackedKind::values:
      return "float32 rows";
    case detail::PackedKind::checksums:
      return "checksums";
  }
  return "of a later version";
}

/// The sections of a file to be written.
class PackedFileWriter {
 public:
  template <class T>
  void add(std::uint32_t kind, const T* data, std::uint64_t count) {
    parts_.push_back(
        {reinterpret_cast<const std::uint8_t*>(data), {kind, 0, 0, count * sizeof(T), sizeof(T), 0}});
  }

  void write(const std::string& path, const SampleView& samples, std::uint64_t seed) {
    List<std::uint32_t> crcs;
    for (Part& part : parts_) {
      part.section.check = static_cast<std::uint32_t>(crcs.size());
      for_each_chunk(
          part, [&](const std::uint8_t* bytes, std::size_t count) { crcs.push_back(crc32c(bytes, count)); });
    }
    add(detail::PackedKind::checksums, crcs.data(), crcs.size());
    std::uint32_t crc = 0;
    for_each_chunk(parts_.back(),
                   [&](const std::uint8_t* bytes, std::size_t count) { crc = crc32c(bytes, count, crc); });
    parts_.back().section.check = crc;

    std::size_t at = detail::packed_header + detail::packed_section * parts_.size() + 4;
    for (Part& part : parts_) {
      at = detail::next_section(at);
      part.section.offset = at;
      at += static_cast<std::size_t>(part.section.bytes);
    }
    const std::size_t end = detail::next_section(at);
    write_file_in_pieces(path, [&](const auto& put) {
      const std::string head = header(samples, seed, end);
      put(head);
      std::size_t place = head.size();
      const auto fill = [&](std::size_t to) {
        put(std::string(to - place, '\0'));
        place = to;
      };
      for (const Part& part : parts_) {
        fill(static_cast<std::size_t>(part.section.offset));
        for_each_chunk(part, [&](const std::uint8_t* bytes, std::size_t count) {
          put(std::string_view(reinterpret_cast<const char*>(bytes), count));
        });
        place += static_cast<std::size_t>(part.section.bytes);
      }
      fill(end);
    });
  }

 private:
  struct Part {
    const std::uint8_t* data;
    PackedFile::Section section;
  };

  /// Calls f(bytes, count) with every chunk as it is in the file.
  template <class F>
  static void for_each_chunk(const Part& part, const F& f) {
    Buffer<std::uint8_t> swapped;
    for (std::uint64_t at = 0; at < part.section.bytes; at += detail::packed_chunk) {
      const auto count =
          static_cast<std::size_t>((std::min)(part.section.bytes - at, std::uint64_t{detail::packed_chunk}));
      const std::uint8_t* bytes = part.data + at;
      if constexpr (std::endian::native == std::endian::big) {
        if (swapped.empty()) swapped = Buffer<std::uint8_t>(static_cast<Index>(detail::packed_chunk));
        detail::to_little_endian(bytes, count, part.section.width, swapped.data());
        bytes = swapped.data();
      }
      f(bytes, count);
    }
  }

  std::string header(const SampleView& samples, std::uint64_t seed, std::size_t end) const {
    std::string out(reinterpret_cast<const char*>(detail::packed_magic), sizeof detail::packed_magic);
    detail::put_number(out, detail::packed_version);
    detail::put_number(out, static_cast<std::uint32_t>(parts_.size()));
    detail::put_number(out, static_cast<std::uint64_t>(end));
    detail::put_number(out, static_cast<std::uint64_t>(samples.rows));
    detail::put_number(out, static_cast<std::uint64_t>(samples.cols));
    detail::put_number(out, seed);
    out += static_cast<char>(samples.bits);
    out += static_cast<char>(samples.draws);
    out += static_cast<char>(samples.is_dense() ? 0 : samples.layout.stored_bits);
    out.resize(detail::packed_header, '\0');
    for (const Part& part : parts_) {
      const PackedFile::Section& section = part.section;
      detail::put_number(out, section.kind);
      detail::put_number(out, section.flags);
      detail::put_number(out, section.offset);
      detail::put_number(out, section.bytes);
      detail::put_number(out, section.width);
      detail::put_number(out, section.check);
    }
    detail::put_number(out, crc32c(out.data(), out.size()));
    return out;
  }

  List<Part> parts_;
};

/// Reads the sections of a file, each checked.
class PackedFileReader {
 public:
  PackedFileReader(PackedFile& to, const std::string& path, const OpenOptions& options) : to_(to) {
    auto file = std::make_shared<MappedFile>(path, !options.map);
    bytes_ = file->bytes();
    to_.file_ = file;
    if (options.verify) file->expect_reading();
    read_header();
    for (const PackedFile::Section& section : to_.sections_)
      if (options.verify ||
          (section.kind != detail::PackedKind::codes && section.kind != detail::PackedKind::values))
        verify(section);
    read_about();
    read_columns();
    read_targets();
    read_samples();
    file->require_intact();
    to_.view_.owner = owned_;
  }

  /// Verifies all of a file that is open.
  static void verify_all(const PackedFile& file) {
    PackedFileReader reader(file);
    for (const PackedFile::Section& section : file.sections_) reader.verify(section);
    file.require_intact();
  }

 private:
  using Section = PackedFile::Section;

  /// What a view of the file keeps alive: the mapping, and copies where this machine needs them.
  struct Owned {
    std::shared_ptr<const MappedFile> file;
    List<Buffer<std::uint8_t>> copies;
    Pilot pilot;
    Buffer<float> entry_values;
  };

  explicit PackedFileReader(const PackedFile& file)
      : to_(const_cast<PackedFile&>(file)), bytes_(file.file_->bytes()) {}

  [[noreturn]] void fail(const std::string& what, const std::string& expected = {},
                         const std::string& got = {}) const {
    throw Error(Place{to_.file_->path()}, what, expected, got);
  }

  template <class T>
  T number(std::size_t at) const {
    T value;
    detail::to_little_endian(bytes_.data() + at, sizeof value, sizeof value, &value);
    return value;
  }

  void read_header() {
    const std::size_t have = bytes_.size();
    const auto is_short = [&](std::size_t need) {
      if (have < need)
        fail("the packed file is cut short", "at least " + std::to_string(need) + " bytes",
             std::to_string(have));
    };
    if (have < sizeof detail::packed_magic ||
        std::memcmp(bytes_.data(), detail::packed_magic, sizeof detail::packed_magic) != 0)
      fail("is no packed file of zipml", "what save_packed() or the program pack writes",
           "another beginning");
    is_short(detail::packed_header);
    const auto version = number<std::uint32_t>(8);
    if (version != detail::packed_version)
      fail("the packed file is of another version", std::to_string(detail::packed_version),
           std::to_string(version));
    const auto count = number<std::uint32_t>(12);
    if (count > 4096) fail("the packed file is damaged", "at most 4096 sections", std::to_string(count));
    const std::size_t table_end = detail::packed_header + detail::packed_section * count;
    is_short(table_end + 4);
    if (number<std::uint32_t>(table_end) != crc32c(bytes_.data(), table_end))
      fail("the header of the packed file is damaged", "its checksum", "another");
    if (number<std::uint64_t>(16) != have)
      fail(have < number<std::uint64_t>(16) ? "the packed file is cut short"
                                            : "the packed file has bytes behind its end",
           std::to_string(number<std::uint64_t>(16)) + " bytes", std::to_string(have));
    rows_ = number<std::uint64_t>(24);
    cols_ = number<std::uint64_t>(32);
    seed_ = number<std::uint64_t>(40);
    bits_ = bytes_[48];
    draws_ = bytes_[49];
    stored_bits_ = bytes_[50];
    for (std::size_t k = 51; k < detail::packed_header; ++k)
      if (bytes_[k] != 0)
        fail("the packed file is of a later version", "0 in byte " + std::to_string(k),
             std::to_string(bytes_[k]));
    if (rows_ < 1 || rows_ > std::uint64_t{1} << 40)
      fail("the number of rows is out of range", "1 to 2^40", std::to_string(rows_));
    if (cols_ > std::uint64_t{1} << 31 || (cols_ > 0 && rows_ > (std::uint64_t{1} << 53) / cols_))
      fail("the number of columns is out of range", "at most 2^31, and 2^53 values", std::to_string(cols_));
    const bool dense = bits_ == 32 && draws_ == 1 && stored_bits_ == 0;
    const bool packed = bits_ >= 1 && bits_ <= 8 && draws_ >= 1 && draws_ <= 8 && stored_bits_ >= 1 &&
                        stored_bits_ <= 16 &&
                        (draws_ == 1 ? stored_bits_ >= bits_ && stored_bits_ <= 9
                                     : stored_bits_ == (bits_ == 1 ? 0 : bits_) + draws_);
    if (!dense && !packed)
      fail("the representation is out of range", "1 to 8 bits a draw, or 32",
           std::to_string(bits_) + " bits, " + std::to_string(draws_) + " draws, " +
               std::to_string(stored_bits_) + " stored bits");

    std::size_t end = table_end + 4;
    std::uint32_t before = 0;
    std::size_t chunks = 0;
    for (std::uint32_t k = 0; k < count; ++k) {
      const std::size_t at = detail::packed_header + detail::packed_section * k;
      const Section section{number<std::uint32_t>(at),      number<std::uint32_t>(at + 4),
                            number<std::uint64_t>(at + 8),  number<std::uint64_t>(at + 16),
                            number<std::uint32_t>(at + 24), number<std::uint32_t>(at + 28)};
      const std::string name = "section " + std::to_string(section.kind) + " (" + section.name() + ")";
      if (section.kind <= before)
        fail(name + " is out of order", "increasing kinds",
             std::to_string(section.kind) + " behind " + std::to_string(before));
      before = section.kind;
      if (section.flags > 1) fail(name + " has unknown flags", "0 or 1", std::to_string(section.flags));
      if (section.width != 1 && section.width != 2 && section.width != 4 && section.width != 8)
        fail(name + " has no width", "1, 2, 4 or 8", std::to_string(section.width));
      const std::size_t first = detail::next_section(end);
      if (section.offset != first || first > have || section.bytes > have - first)
        fail(name + " lies outside of the file",
             "offset " + std::to_string(first) + " and at most " + std::to_string(have) + " bytes",
             std::to_string(section.offset) + " and " + std::to_string(section.bytes));
      if (section.bytes % section.width != 0)
        fail(name + " is no list", "a multiple of " + std::to_string(section.width) + " bytes",
             std::to_string(section.bytes));
      require_zeros(end, first);
      end = first + static_cast<std::size_t>(section.bytes);
      if (section.kind != detail::PackedKind::checksums) {
        if (section.check != chunks)
          fail(name + " has other checksums", "from " + std::to_string(chunks) + " on",
               std::to_string(section.check));
        chunks += detail::chunks_of(section.bytes);
      }
      if ((section.flags & 1u) == 0 && std::strcmp(section.name(), "of a later version") == 0)
        fail(name + " is needed, and unknown", "a reader of a later version",
             "version " + std::string(ZIPML_VERSION));
      to_.sections_.push_back(section);
    }
    if (detail::next_section(end) != have)
      fail("the packed file does not end where its sections do",
           std::to_string(detail::next_section(end)) + " bytes", std::to_string(have));
    require_zeros(end, have);
    const Section& list = need(detail::PackedKind::checksums, 4, chunks);
    if (crc32c(bytes_.data() + list.offset, static_cast<std::size_t>(list.bytes)) != list.check)
      fail("the list of checksums is damaged", "its own checksum", "another");
  }

  void require_zeros(std::size_t first, std::size_t end) const {
    for (std::size_t k = first; k < end; ++k)
      if (bytes_[k] != 0)
        fail("the packed file is damaged", "0 in byte " + std::to_string(k) + ", which is between sections",
             std::to_string(bytes_[k]));
  }

  const Section* find(std::uint32_t kind) const {
    for (const Section& section : to_.sections_)
      if (section.kind == kind) return &section;
    return nullptr;
  }
  /// A section of a width and a number of elements.
  const Section& need(std::uint32_t kind, std::size_t width, std::uint64_t count) const {
    const Section* const section = find(kind);
    const Section named{kind, 0, 0, 0, 0, 0};
    if (section == nullptr) fail(std::string("a section is missing: ") + named.name());
    if (section->width != width || section->bytes / width != count)
      fail(std::string("the section of the ") + named.name() + " has another size",
           std::to_string(count) + " elements of " + std::to_string(width) + " bytes",
           std::to_string(section->bytes / section->width) + " of " + std::to_string(section->width));
    return *section;
  }

  void verify(const Section& section) const {
    if (section.kind == detail::PackedKind::checksums) return;  // read_header has
    const Section& list = *find(detail::PackedKind::checksums);
    for (std::size_t chunk = 0; chunk < detail::chunks_of(section.bytes); ++chunk) {
      const std::uint64_t first = chunk * detail::packed_chunk;
      const auto count =
          static_cast<std::size_t>((std::min)(section.bytes - first, std::uint64_t{detail::packed_chunk}));
      const auto expected =
          number<std::uint32_t>(static_cast<std::size_t>(list.offset) + 4 * (section.check + chunk));
      if (crc32c(bytes_.data() + section.offset + first, count) != expected)
        fail(std::string("the packed file is damaged in its ") + section.name(), "a checksum that fits",
             "another in bytes " + std::to_string(section.offset + first) + " to " +
                 std::to_string(section.offset + first + count));
    }
  }

  /// The elements of a section: in the file, or a copy in the order of this machine.
  template <class T>
  const T* list(std::uint32_t kind, std::uint64_t count) {
    const Section& section = need(kind, sizeof(T), count);
    const std::uint8_t* const data = bytes_.data() + section.offset;
    if (std::endian::native == std::endian::little || sizeof(T) == 1) return reinterpret_cast<const T*>(data);
    owned_->copies.emplace_back(static_cast<Index>(section.bytes));
    detail::to_little_endian(data, static_cast<std::size_t>(section.bytes), sizeof(T),
                             owned_->copies.back().data());
    return reinterpret_cast<const T*>(owned_->copies.back().data());
  }
  /// Numbers that are finite, and at least `lowest`.
  template <class T>
  const T* finite_list(std::uint32_t kind, std::uint64_t count, T lowest = std::numeric_limits<T>::lowest()) {
    const T* const values = list<T>(kind, count);
    for (std::uint64_t k = 0; k < count; ++k)
      if (!detail::all_finite(values + k, 1) || values[k] < lowest)
        fail(std::string("a number of the ") + Section{kind, 0, 0, 0, 0, 0}.name() + " is out of range",
             lowest == std::numeric_limits<T>::lowest() ? "finite numbers"
                                                        : "finite numbers of at least " + number_text(lowest),
             number_text(values[k]) + " at place " + std::to_string(k));
    return values;
  }

  void read_about() {
    const Section* const section = find(detail::PackedKind::about);
    if (section == nullptr) fail("a section is missing: about");
    const std::string_view text(reinterpret_cast<const char*>(bytes_.data() + section->offset),
                                static_cast<std::size_t>(section->bytes));
    const LinearModel model = detail::read_model(
        detail::ModelFileReader(LineReader::from_memory(text, to_.file_->path()), to_.file_->path()));
    if (static_cast<std::uint64_t>(model.cols()) != cols_)
      fail("the names do not fit the samples", std::to_string(cols_) + " features",
           std::to_string(model.cols()));
    schema_ = model.schema;
    to_.representation_ = model.representation;
  }

  void read_columns() {
    const double* const map = finite_list<double>(detail::PackedKind::standardisation, 2 * cols_);
    map_ = identity_standardization(static_cast<Index>(cols_));
    for (std::uint64_t j = 0; j < cols_; ++j) {
      map_.mean[static_cast<Index>(j)] = map[j];
      map_.scale[static_cast<Index>(j)] = map[cols_ + j];
      if (!(map[cols_ + j] > 0.0))
        fail("the scale of a column is out of range", "above 0", number_text(map[cols_ + j]));
    }
    if (find(detail::PackedKind::offsets) != nullptr) {
      const double* const lost = finite_list<double>(detail::PackedKind::offsets, cols_);
      auto copy = std::make_shared<Buffer<double>>(static_cast<Index>(cols_));
      std::copy_n(lost, cols_, copy->begin());
      map_.offsets = std::move(copy);
    }
    map_.schema = schema_;
  }

  void read_targets() {
    const double* const of = finite_list<double>(detail::PackedKind::label_statistics, 6);
    const float* const labels = finite_list<float>(detail::PackedKind::labels, rows_);
    const auto [low, high] =
        std::minmax_element(labels, labels + rows_, [](float a, float b) { return a < b; });
    LabelStatistics statistics{
        static_cast<float>(of[0]), static_cast<float>(of[1]), of[2], of[3], of[4] != 0.0, of[5]};
    if (statistics.min != *low || statistics.max != *high || !(of[3] >= 0.0))
      fail("the label statistics do not fit the labels", number_text(*low) + " to " + number_text(*high),
           number_text(of[0]) + " to " + number_text(of[1]));
    const auto n = static_cast<Index>(rows_);
    Buffer<float> values(n);
    std::copy_n(labels, n, values.data());
    Buffer<float> weights;
    if (find(detail::PackedKind::weights) != nullptr) {
      weights = Buffer<float>(n);
      std::copy_n(finite_list<float>(detail::PackedKind::weights, rows_, 0.0f), n, weights.data());
    }
    const RowPlacement placement(seed_, n);
    static_cast<StoreHeader&>(to_) =
        StoreHeader(placement, Targets(std::move(values), {statistics}), std::move(weights), std::move(map_));
  }

  void read_samples() {
    SampleView& view = to_.view_;
    view.rows = static_cast<Index>(rows_);
    view.cols = static_cast<Index>(cols_);
    view.bits = bits_;
    view.draws = draws_;
    view.weights = to_.weights().data();
    owned_->file = to_.file_;
    if (bits_ == 32) {
      view.values = list<float>(detail::PackedKind::values, rows_ * cols_);
      view.stride = view.cols;
      view.codes_bytes = view.store_bytes = view.rows * view.cols * Index{sizeof(float)};
      return;
    }
    view.layout = PlaneLayout{view.rows, view.cols, stored_bits_};
    view.codes =
        list<std::uint8_t>(detail::PackedKind::codes, static_cast<std::uint64_t>(view.layout.bytes()));
    view.codes_bytes = view.layout.bytes();
    require_empty_rows(view);
    read_levels(view.levels);
    if (find(detail::PackedKind::bias) != nullptr)
      view.bias = finite_list<float>(detail::PackedKind::bias, cols_, 0.0f);
    read_outliers(view);
    read_pilot();
    view.store_bytes = view.codes_bytes;
    for (const std::uint32_t kind :
         {detail::PackedKind::level_offset, detail::PackedKind::level_step, detail::PackedKind::row_offset,
          detail::PackedKind::row_step, detail::PackedKind::entries, detail::PackedKind::tables,
          detail::PackedKind::bias, detail::PackedKind::outlier_gaps, detail::PackedKind::outlier_corrections,
          detail::PackedKind::outlier_first})
      if (const Section* const section = find(kind)) view.store_bytes += static_cast<Index>(section->bytes);
    view.store_bytes += static_cast<Index>(owned_->entry_values.bytes());
    const double n_d = static_cast<double>(rows_) * static_cast<double>(cols_);
    view.stored_bits = static_cast<double>(stored_bits_);
    if (view.outliers.entries > 0)
      view.stored_bits += Outliers::bits_per_entry * static_cast<double>(view.outliers.entries) / n_d;
  }

  /// Rows of the last group behind the last row have code 0: kernels read them.
  void require_empty_rows(const SampleView& view) const {
    for (Index i = view.rows; i < view.layout.groups() * group_rows; ++i)
      for (int draw = 0; draw < view.draws; ++draw) {
        const RowCodes row(view.codes, view.layout, view.planes(draw), i);
        for (Index j = 0; j < view.cols; ++j)
          if (row[j] != 0)
            fail("the packed file is damaged", "code 0 behind the last row", std::to_string(row[j]));
      }
  }

  void read_levels(CodeLevels& levels) {
    if (find(detail::PackedKind::tables) != nullptr) {
      const Section& section = *find(detail::PackedKind::tables);
      levels.levels =
          static_cast<int>(cols_ > 0 ? (std::min)(section.bytes / 4 / cols_, std::uint64_t{1} << 16) : 0);
      const int least = draws_ == 1 && stored_bits_ > bits_
                            ? (1 << (stored_bits_ - bits_)) * ((1 << bits_) - 1) + 1
                            : 1 << bits_;
      if (cols_ > 0 && levels.levels != least)
        fail("the tables of levels have another size", std::to_string(least) + " levels of each column",
             std::to_string(levels.levels));
      levels.tables =
          finite_list<float>(detail::PackedKind::tables, cols_ * static_cast<std::uint64_t>(levels.levels));
      return;
    }
    levels.offset = finite_list<float>(detail::PackedKind::level_offset, cols_);
    levels.step = finite_list<float>(detail::PackedKind::level_step, cols_, 0.0f);
    if (find(detail::PackedKind::row_offset) != nullptr) {
      levels.row_offset = finite_list<float>(detail::PackedKind::row_offset, rows_);
      levels.row_step = finite_list<float>(detail::PackedKind::row_step, rows_, 0.0f);
    }
    if (find(detail::PackedKind::entries) != nullptr) {
      if (draws_ == 1 && stored_bits_ != bits_)
        fail("sums of draws have no shared table", "stored bits as the draw's", std::to_string(stored_bits_));
      levels.entries = list<std::uint8_t>(detail::PackedKind::entries, std::uint64_t{1} << bits_);
      levels.entry_count = 1 << bits_;
      owned_->entry_values = Buffer<float>(levels.entry_count);
      for (int k = 0; k < levels.entry_count; ++k)
        owned_->entry_values[k] = static_cast<float>(levels.entries[k]);
      levels.entry_values = owned_->entry_values.data();
    }
  }

  void read_outliers(SampleView& view) {
    const Section* const section = find(detail::PackedKind::outlier_gaps);
    if (section == nullptr) return;
    const std::uint64_t count = section->bytes / 2;
    OutlierView& outliers = view.outliers;
    outliers.cols = view.cols;
    outliers.entries = static_cast<Index>(count);
    outliers.gaps = list<std::uint16_t>(detail::PackedKind::outlier_gaps, count);
    outliers.corrections = finite_list<float>(detail::PackedKind::outlier_corrections, count);
    const auto together = static_cast<std::uint64_t>(OutlierView::block_rows_of(view.cols));
    const std::uint64_t blocks = (rows_ + together - 1) / together;
    outliers.first = list<std::uint64_t>(detail::PackedKind::outlier_first, blocks + 1);
    if (outliers.first[0] != 0 || outliers.first[blocks] != count)
      fail("the outlier blocks are out of range", "0 to " + std::to_string(count),
           std::to_string(outliers.first[0]) + " to " + std::to_string(outliers.first[blocks]));
    for (std::uint64_t block = 0; block < blocks; ++block) {
      const std::uint64_t from = outliers.first[block], end = outliers.first[block + 1];
      if (end < from || end > count)
        fail("the outlier blocks do not increase", std::to_string(from) + " or more", std::to_string(end));
      std::uint64_t next = 0;
      const std::uint64_t places = (std::min)(together, rows_ - block * together) * cols_;
      for (std::uint64_t k = from; k < end; ++k) {
        const std::uint64_t place = next + outliers.gaps[k];
        if (place >= places)
          fail("an outlier lies outside of its block", "a place below " + std::to_string(places),
               std::to_string(place));
        next = place + 1;
      }
    }
  }

  void read_pilot() {
    if (find(detail::PackedKind::pilot) == nullptr) return;
    const double* const numbers = list<double>(detail::PackedKind::pilot, 2 * cols_ + 5);
    Pilot& pilot = owned_->pilot;
    std::memcpy(&pilot.labels, numbers + 1, sizeof pilot.labels);
    for (std::uint64_t k = 0; k < 2 * cols_ + 5; ++k)
      if (k != 1 && !detail::all_finite(numbers + k, 1))
        fail("a number of the pilot is out of range", "finite numbers", number_text(numbers[k]));
    if (!(numbers[0] >= 1.0 && numbers[0] <= static_cast<double>(rows_)))
      fail("the pilot's number of rows is out of range", "1 to " + std::to_string(rows_),
           number_text(numbers[0]));
    pilot.rows = static_cast<Index>(numbers[0]);
    pilot.intercept = numbers[2];
    pilot.squares = numbers[3];
    pilot.weights = Buffer<float>(static_cast<Index>(cols_));
    pilot.gradient = Buffer<double>(static_cast<Index>(cols_) + 1);
    for (Index j = 0; j < pilot.weights.size(); ++j) pilot.weights[j] = static_cast<float>(numbers[4 + j]);
    std::copy_n(numbers + 4 + cols_, cols_ + 1, pilot.gradient.data());
    to_.view_.pilot = &pilot;
  }

  PackedFile& to_;
  std::span<const std::uint8_t> bytes_;
  std::shared_ptr<Owned> owned_ = std::make_shared<Owned>();
  std::uint64_t rows_ = 0, cols_ = 0, seed_ = 0;
  int bits_ = 0, draws_ = 0, stored_bits_ = 0;
  std::shared_ptr<const Schema> schema_;
  Standardization map_;
};

ZIPML_FUNCTION PackedFile::PackedFile(const std::string& path, const OpenOptions& options) {
  PackedFileReader(*this, path, options);
}

ZIPML_FUNCTION bool is_packed_file(const std::string& path) {
  return detail::begins_with(path, detail::packed_magic, sizeof detail::packed_magic);
}

ZIPML_FUNCTION void PackedFile::verify() const { PackedFileReader::verify_all(*this); }

ZIPML_FUNCTION void save_packed(const std::string& path, const SampleView& samples, const StoreHeader& header,
                                const std::string& representation) {
  const auto n = static_cast<std::uint64_t>(samples.rows), d = static_cast<std::uint64_t>(samples.cols);
  const Targets& targets = header.targets();
  if (targets.models() != 1)
    throw Error("a packed file has the labels of one model", "1", std::to_string(targets.models()));
  const Standardization& map = header.standardization();
  const LabelStatistics& statistics = targets.statistics(0);

  LinearModel about;
  about.schema = schema_or_unnamed(map.schema, samples.cols);
  about.representation = representation;
  about.weights = Buffer<double>(samples.cols);
  about.rows = samples.rows;
  about.low_label = statistics.offset + static_cast<double>(statistics.min);
  about.high_label = statistics.offset + static_cast<double>(statistics.max);
  const std::string text = detail::model_file_2(about);
  Buffer<double> columns(2 * samples.cols);
  std::copy(map.mean.begin(), map.mean.end(), columns.begin());
  std::copy(map.scale.begin(), map.scale.end(), columns.begin() + samples.cols);
  const double of_labels[6] = {static_cast<double>(statistics.min),
                               static_cast<double>(statistics.max),
                               statistics.mean,
                               statistics.deviation,
                               statistics.two_values ? 1.0 : 0.0,
                               statistics.offset};
  List<double> pilot;
  if (samples.pilot != nullptr) {
    double fingerprint;
    std::memcpy(&fingerprint, &samples.pilot->labels, sizeof fingerprint);
    pilot = {static_cast<double>(samples.pilot->rows), fingerprint, samples.pilot->intercept,
             samples.pilot->squares};
    for (const float w : samples.pilot->weights) pilot.push_back(static_cast<double>(w));
    pilot.insert(pilot.end(), samples.pilot->gradient.begin(), samples.pilot->gradient.end());
  }

  PackedFileWriter file;
  file.add(detail::PackedKind::about, text.data(), text.size());
  file.add(detail::PackedKind::standardisation, columns.data(), 2 * d);
  if (map.offsets) file.add(detail::PackedKind::offsets, map.offsets->data(), d);
  file.add(detail::PackedKind::label_statistics, of_labels, 6);
  file.add(detail::PackedKind::labels, targets.of(0).data(), n);
  if (samples.weights != nullptr) file.add(detail::PackedKind::weights, samples.weights, n);
  if (samples.is_dense()) {
    if (samples.stride != samples.cols)
      throw Error("rows of a packed file have no padding", std::to_string(samples.cols),
                  std::to_string(samples.stride));
    file.add(detail::PackedKind::values, samples.values, n * d);
    return file.write(path, samples, header.seed());
  }
  const CodeLevels& levels = samples.levels;
  if (levels.tables == nullptr) {
    file.add(detail::PackedKind::level_offset, levels.offset, d);
    file.add(detail::PackedKind::level_step, levels.step, d);
    if (levels.scales_rows()) {
      file.add(detail::PackedKind::row_offset, levels.row_offset, n);
      file.add(detail::PackedKind::row_step, levels.row_step, n);
    }
    if (levels.entries != nullptr)
      file.add(detail::PackedKind::entries, levels.entries, std::uint64_t{1} << samples.bits);
  } else {
    file.add(detail::PackedKind::tables, levels.tables, d * static_cast<std::uint64_t>(levels.levels));
  }
  if (samples.bias != nullptr) file.add(detail::PackedKind::bias, samples.bias, d);
  if (!samples.outliers.empty()) {
    const auto entries = static_cast<std::uint64_t>(samples.outliers.entries);
    const auto together = static_cast<std::uint64_t>(OutlierView::block_rows_of(samples.cols));
    file.add(detail::PackedKind::outlier_gaps, samples.outliers.gaps, entries);
    file.add(detail::PackedKind::outlier_corrections, samples.outliers.corrections, entries);
    file.add(detail::PackedKind::outlier_first, samples.outliers.first, (n + together - 1) / together + 1);
  }
  if (!pilot.empty()) file.add(detail::PackedKind::pilot, pilot.data(), pilot.size());
  file.add(detail::PackedKind::codes, samples.codes, static_cast<std::uint64_t>(samples.layout.bytes()));
  file.write(path, samples, header.seed());
}

#endif

}  // namespace zipml::inline ZIPML_ABI
