#pragma once
/// \file
/// Room io: packed samples in a file: packed once, trained on for years. The file is mapped, so that training
/// begins at once and reads from the page cache, also what is larger than memory. How it is built, and how
/// it is checked, io/section_file.hpp says; its sections are
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
///     18  pilot's loss       8        2 d + 6  the same for another loss than least squares, whose
///                                            fingerprint (bits) comes first; instead of 17
///     32  codes              1               as PlaneLayout says
///     33  values             4        n d    float32 rows instead
///
/// Versions to come may add sections. Golden files of version 1 are in tests/io/packed.

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>

#include <zipml/base/error.hpp>
#include <zipml/io/model_file.hpp>
#include <zipml/io/section_file.hpp>
#include <zipml/kernels/isa.hpp>
#include <zipml/storage/sample_store.hpp>

namespace zipml::inline ZIPML_ABI {

/// Named options of PackedFile.
struct OpenOptions {
  /// Whether all checksums are verified before the file is used, which reads it once. Without, those of codes
  /// and float32 rows wait for verify(); all others are verified in any case.
  bool verify = true;
  bool map = true;  ///< false: read into memory, so that nobody can take the file away
  /// Of `verifiers` processes that open the file each verifies a part of codes and rows, this one that of `verifier`: together()
  /// tells all of them what one has found.
  int verifier = 0, verifiers = 1;
};

namespace detail {
class PackedReader;
}

/// The samples, targets and names of a packed file: a store, which any estimator that it was packed for can
/// train on, as open_store() says it. Copies share the mapping.
class PackedFile : public StoreHeader {
 public:
  /// Throws Error, which names the file and what is wrong, for anything that save_packed() does not write:
  /// sizes are checked against the file before anything is allocated, everything but the codes against
  /// its checksum.
  explicit PackedFile(const std::string& path, const OpenOptions& options = {});

  /// Keeps the file mapped as long as it is used.
  SampleView samples() const {
    SampleView view = view_;
    view.weights = weights().data();  // of this copy
    return view;
  }
  KernelTable kernels(Isa isa) const { return kernels_of(isa); }
  /// What save_packed() was told.
  const std::string& representation() const { return representation_; }
  const std::string& path() const { return file_->path(); }
  const List<FileSection>& sections() const { return file_->sections(); }
  const char* name_of(const FileSection& section) const { return file_->name_of(section.kind); }
  Index file_bytes() const { return static_cast<Index>(file_->bytes().size()); }

  /// Reads the whole file and throws Error for the first chunk whose checksum is another.
  void verify() const;
  /// Throws Error when the file was lost, in part, while it was in use: what was read since is not to be
  /// trusted. Fits ask it when they end.
  void require_intact() const { file_->require_intact(); }

 private:
  friend class detail::PackedReader;

  std::string representation_;
  std::shared_ptr<const detail::SectionFile> file_;
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

/// Places in packed_kinds.
enum class PackedKind {
  about,
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
  pilot_of_loss,
  codes,
  values
};
inline constexpr SectionKind packed_kinds[] = {
    {1, 1, "about"},
    {2, 8, "standardisation"},
    {3, 8, "offsets of columns"},
    {4, 8, "label statistics"},
    {5, 4, "labels"},
    {6, 4, "weights"},
    {7, 4, "level offsets"},
    {8, 4, "level steps"},
    {9, 4, "row offsets"},
    {10, 4, "row steps"},
    {11, 1, "entries"},
    {12, 4, "tables of levels"},
    {13, 4, "bias terms"},
    {14, 2, "outlier gaps"},
    {15, 4, "outlier corrections"},
    {16, 8, "outlier blocks"},
    {17, 8, "pilot"},
    {18, 8, "pilot of another loss"},
    {32, 1, "codes"},
    {33, 4, "float32 rows"},
};
constexpr const SectionKind& kind(PackedKind which) { return packed_kinds[static_cast<int>(which)]; }

/// Reads the sections of a file into a PackedFile, each number checked.
class PackedReader {
 public:
  PackedReader(const std::string& path, const OpenOptions& options)
      : owned_(std::make_shared<Owned>(path, options.map)), file_(owned_->file), verify_(options.verify) {
    if (options.verifier < 0 || options.verifier >= options.verifiers)
      throw Error("there is no such verifier", "0 to " + std::to_string(options.verifiers - 1),
                  std::to_string(options.verifier));
    if (options.verify && options.verifiers == 1) file_.expect_reading();
    read_shape();
    for (const FileSection& section : file_.sections()) {
      const bool large =
          section.kind == kind(PackedKind::codes).kind || section.kind == kind(PackedKind::values).kind;
      if (!large)
        file_.verify(section);
      else if (options.verify)
        file_.verify(section, static_cast<std::size_t>(options.verifier),
                     static_cast<std::size_t>(options.verifiers));
    }
    read_about();
    read_columns();
    read_targets();
    read_samples();
    file_.require_intact();
  }

  void move_to(PackedFile& to) {
    static_cast<StoreHeader&>(to) = std::move(header_);
    to.representation_ = std::move(representation_);
    to.file_ = std::shared_ptr<const SectionFile>(owned_, &owned_->file);
    view_.owner = owned_;
    to.view_ = std::move(view_);
  }

 private:
  /// What views of the file keep alive.
  struct Owned {
    Owned(const std::string& path, bool map) : file(path, map, packed_kinds) {}
    SectionFile file;
    Pilot pilot;
    Buffer<float> entry_values;
  };

  void read_shape() {
    rows_ = file_.header().rows;
    cols_ = file_.header().cols;
    bits_ = file_.header().bits;
    draws_ = file_.header().draws;
    stored_bits_ = file_.header().stored_bits;
    if (rows_ < 1 || rows_ > std::uint64_t{1} << 40)
      file_.fail("the number of rows is out of range", "1 to 2^40", std::to_string(rows_));
    if (cols_ > std::uint64_t{1} << 31 || (cols_ > 0 && rows_ > (std::uint64_t{1} << 53) / cols_))
      file_.fail("the number of columns is out of range", "at most 2^31, and 2^53 values",
                 std::to_string(cols_));
    const bool dense = bits_ == 32 && draws_ == 1 && stored_bits_ == 0;
    const bool packed = bits_ >= 1 && bits_ <= 8 && draws_ >= 1 && draws_ <= 8 && stored_bits_ >= 1 &&
                        stored_bits_ <= 16 &&
                        (draws_ == 1 ? stored_bits_ >= bits_ && stored_bits_ <= 9
                                     : stored_bits_ == (bits_ == 1 ? 0 : bits_) + draws_);
    if (!dense && !packed)
      file_.fail("the representation is out of range", "1 to 8 bits a draw, or 32",
                 std::to_string(bits_) + " bits, " + std::to_string(draws_) + " draws, " +
                     std::to_string(stored_bits_) + " stored bits");
  }

  void read_about() {
    const FileSection* const section = file_.find(kind(PackedKind::about));
    if (section == nullptr) file_.fail("a section is missing: about");
    const std::string_view text(reinterpret_cast<const char*>(file_.bytes().data() + section->offset),
                                static_cast<std::size_t>(section->bytes));
    const LinearModel model = detail::read_model(
        detail::ModelFileReader(LineReader::from_memory(text, file_.path()), file_.path()));
    if (static_cast<std::uint64_t>(model.cols()) != cols_)
      file_.fail("the names do not fit the samples", std::to_string(cols_) + " features",
                 std::to_string(model.cols()));
    schema_ = model.schema;
    representation_ = model.representation;
  }

  void read_columns() {
    const double* const map = file_.finite_list<double>(kind(PackedKind::standardisation), 2 * cols_);
    map_ = identity_standardization(static_cast<Index>(cols_));
    for (std::uint64_t j = 0; j < cols_; ++j) {
      map_.mean[static_cast<Index>(j)] = map[j];
      map_.scale[static_cast<Index>(j)] = map[cols_ + j];
      if (!(map[cols_ + j] > 0.0))
        file_.fail("the scale of a column is out of range", "above 0", number_text(map[cols_ + j]));
    }
    if (file_.find(kind(PackedKind::offsets)) != nullptr) {
      const double* const lost = file_.finite_list<double>(kind(PackedKind::offsets), cols_);
      auto copy = std::make_shared<Buffer<double>>(static_cast<Index>(cols_));
      std::copy_n(lost, cols_, copy->begin());
      map_.offsets = std::move(copy);
    }
    map_.schema = schema_;
  }

  void read_targets() {
    const double* const of = file_.finite_list<double>(kind(PackedKind::label_statistics), 6);
    const float* const labels = file_.finite_list<float>(kind(PackedKind::labels), rows_);
    const auto [low, high] =
        std::minmax_element(labels, labels + rows_, [](float a, float b) { return a < b; });
    LabelStatistics statistics{
        static_cast<float>(of[0]), static_cast<float>(of[1]), of[2], of[3], of[4] != 0.0, of[5]};
    if (statistics.min != *low || statistics.max != *high || !(of[3] >= 0.0))
      file_.fail("the label statistics do not fit the labels",
                 number_text(*low) + " to " + number_text(*high),
                 number_text(of[0]) + " to " + number_text(of[1]));
    const auto n = static_cast<Index>(rows_);
    Buffer<float> values(n);
    std::copy_n(labels, n, values.data());
    Buffer<float> weights;
    if (file_.find(kind(PackedKind::weights)) != nullptr) {
      weights = Buffer<float>(n);
      std::copy_n(file_.finite_list<float>(kind(PackedKind::weights), rows_, 0.0f), n, weights.data());
    }
    header_ = StoreHeader(RowPlacement(file_.header().seed, n), Targets(std::move(values), {statistics}),
                          std::move(weights), std::move(map_));
  }

  void read_samples() {
    SampleView& view = view_;
    view.rows = static_cast<Index>(rows_);
    view.cols = static_cast<Index>(cols_);
    view.bits = bits_;
    view.draws = draws_;
    if (bits_ == 32) {
      view.values = verify_ ? file_.finite_list<float>(kind(PackedKind::values), rows_ * cols_)
                            : file_.list<float>(kind(PackedKind::values), rows_ * cols_);
      view.stride = view.cols;
      view.codes_bytes = view.store_bytes = view.rows * view.cols * Index{sizeof(float)};
      return;
    }
    view.layout = PlaneLayout{view.rows, view.cols, stored_bits_};
    view.codes =
        file_.list<std::uint8_t>(kind(PackedKind::codes), static_cast<std::uint64_t>(view.layout.bytes()));
    view.codes_bytes = view.layout.bytes();
    require_empty_rows(view);
    read_levels(view.levels);
    if (file_.find(kind(PackedKind::bias)) != nullptr)
      view.bias = file_.finite_list<float>(kind(PackedKind::bias), cols_, 0.0f);
    read_outliers(view);
    read_pilot();
    view.store_bytes = view.codes_bytes;
    for (const PackedKind each :
         {PackedKind::level_offset, PackedKind::level_step, PackedKind::row_offset, PackedKind::row_step,
          PackedKind::entries, PackedKind::tables, PackedKind::bias, PackedKind::outlier_gaps,
          PackedKind::outlier_corrections, PackedKind::outlier_first})
      if (const FileSection* const section = file_.find(kind(each)))
        view.store_bytes += static_cast<Index>(section->bytes);
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
            file_.fail("the packed file is damaged", "code 0 behind the last row", std::to_string(row[j]));
      }
  }

  void read_levels(CodeLevels& levels) {
    if (file_.find(kind(PackedKind::tables)) != nullptr) {
      const FileSection& section = *file_.find(kind(PackedKind::tables));
      levels.levels =
          static_cast<int>(cols_ > 0 ? (std::min)(section.bytes / 4 / cols_, std::uint64_t{1} << 16) : 0);
      const int least = draws_ == 1 && stored_bits_ > bits_
                            ? (1 << (stored_bits_ - bits_)) * ((1 << bits_) - 1) + 1
                            : 1 << bits_;
      if (cols_ > 0 && levels.levels != least)
        file_.fail("the tables of levels have another size", std::to_string(least) + " levels of each column",
                   std::to_string(levels.levels));
      levels.tables = file_.finite_list<float>(kind(PackedKind::tables),
                                               cols_ * static_cast<std::uint64_t>(levels.levels));
      return;
    }
    levels.offset = file_.finite_list<float>(kind(PackedKind::level_offset), cols_);
    levels.step = file_.finite_list<float>(kind(PackedKind::level_step), cols_, 0.0f);
    if (file_.find(kind(PackedKind::row_offset)) != nullptr) {
      levels.row_offset = file_.finite_list<float>(kind(PackedKind::row_offset), rows_);
      levels.row_step = file_.finite_list<float>(kind(PackedKind::row_step), rows_, 0.0f);
    }
    if (file_.find(kind(PackedKind::entries)) != nullptr) {
      if (draws_ == 1 && stored_bits_ != bits_)
        file_.fail("sums of draws have no shared table", "stored bits as the draw's",
                   std::to_string(stored_bits_));
      levels.entries = file_.list<std::uint8_t>(kind(PackedKind::entries), std::uint64_t{1} << bits_);
      levels.entry_count = 1 << bits_;
      owned_->entry_values = Buffer<float>(levels.entry_count);
      for (int k = 0; k < levels.entry_count; ++k)
        owned_->entry_values[k] = static_cast<float>(levels.entries[k]);
      levels.entry_values = owned_->entry_values.data();
    }
  }

  void read_outliers(SampleView& view) {
    const FileSection* const section = file_.find(kind(PackedKind::outlier_gaps));
    if (section == nullptr) return;
    const std::uint64_t count = section->bytes / 2;
    OutlierView& outliers = view.outliers;
    outliers.cols = view.cols;
    outliers.entries = static_cast<Index>(count);
    outliers.gaps = file_.list<std::uint16_t>(kind(PackedKind::outlier_gaps), count);
    outliers.corrections = file_.finite_list<float>(kind(PackedKind::outlier_corrections), count);
    const auto together = static_cast<std::uint64_t>(OutlierView::block_rows_of(view.cols));
    const std::uint64_t blocks = (rows_ + together - 1) / together;
    outliers.first = file_.list<std::uint64_t>(kind(PackedKind::outlier_first), blocks + 1);
    if (outliers.first[0] != 0 || outliers.first[blocks] != count)
      file_.fail("the outlier blocks are out of range", "0 to " + std::to_string(count),
                 std::to_string(outliers.first[0]) + " to " + std::to_string(outliers.first[blocks]));
    for (std::uint64_t block = 0; block < blocks; ++block) {
      const std::uint64_t from = outliers.first[block], end = outliers.first[block + 1];
      if (end < from || end > count)
        file_.fail("the outlier blocks do not increase", std::to_string(from) + " or more",
                   std::to_string(end));
      std::uint64_t next = 0;
      const std::uint64_t places = (std::min)(together, rows_ - block * together) * cols_;
      for (std::uint64_t k = from; k < end; ++k) {
        const std::uint64_t place = next + outliers.gaps[k];
        if (place >= places)
          file_.fail("an outlier lies outside of its block", "a place below " + std::to_string(places),
                     std::to_string(place));
        next = place + 1;
      }
    }
  }

  void read_pilot() {
    const bool of_loss = file_.find(kind(PackedKind::pilot_of_loss)) != nullptr;
    if (file_.find(kind(PackedKind::pilot)) == nullptr && !of_loss) return;
    if (of_loss && file_.find(kind(PackedKind::pilot)) != nullptr)
      file_.fail("there are two pilots", "one, of least squares or of another loss", "both");
    Pilot& pilot = owned_->pilot;
    const double* numbers;
    if (of_loss) {
      numbers = file_.list<double>(kind(PackedKind::pilot_of_loss), 2 * cols_ + 6);
      std::memcpy(&pilot.loss, numbers++, sizeof pilot.loss);
      if (pilot.loss == 0) file_.fail("the pilot's loss has no fingerprint", "not 0", "0");
    } else {
      numbers = file_.list<double>(kind(PackedKind::pilot), 2 * cols_ + 5);
    }
    std::memcpy(&pilot.labels, numbers + 1, sizeof pilot.labels);
    for (std::uint64_t k = 0; k < 2 * cols_ + 5; ++k)
      if (k != 1 && !all_finite(numbers + k, 1))
        file_.fail("a number of the pilot is out of range", "finite numbers", number_text(numbers[k]));
    if (!(numbers[0] >= 1.0 && numbers[0] <= static_cast<double>(rows_)))
      file_.fail("the pilot's number of rows is out of range", "1 to " + std::to_string(rows_),
                 number_text(numbers[0]));
    pilot.rows = static_cast<Index>(numbers[0]);
    pilot.intercept = numbers[2];
    pilot.squares = numbers[3];
    pilot.weights = Buffer<float>(static_cast<Index>(cols_));
    pilot.gradient = Buffer<double>(static_cast<Index>(cols_) + 1);
    for (Index j = 0; j < pilot.weights.size(); ++j) pilot.weights[j] = static_cast<float>(numbers[4 + j]);
    std::copy_n(numbers + 4 + cols_, cols_ + 1, pilot.gradient.data());
    view_.pilot = &pilot;
  }

  std::shared_ptr<Owned> owned_;
  SectionFile& file_;
  bool verify_;
  std::uint64_t rows_ = 0, cols_ = 0;
  int bits_ = 0, draws_ = 0, stored_bits_ = 0;
  std::shared_ptr<const Schema> schema_;
  Standardization map_;
  std::string representation_;
  StoreHeader header_;
  SampleView view_;
};

}  // namespace detail

ZIPML_FUNCTION PackedFile::PackedFile(const std::string& path, const OpenOptions& options) {
  detail::PackedReader(path, options).move_to(*this);
}

ZIPML_FUNCTION void PackedFile::verify() const {
  for (const FileSection& section : sections()) file_->verify(section);
  require_intact();
}

ZIPML_FUNCTION bool is_packed_file(const std::string& path) {
  return detail::begins_with(path, detail::section_magic, sizeof detail::section_magic);
}

ZIPML_FUNCTION void save_packed(const std::string& path, const SampleView& samples, const StoreHeader& header,
                                const std::string& representation) {
  const auto n = static_cast<std::uint64_t>(samples.rows), d = static_cast<std::uint64_t>(samples.cols);
  const Targets& targets = header.targets();
  if (targets.models() != 1)
    throw Error("a packed file has the labels of one model", "1", std::to_string(targets.models()));
  const detail::SectionHeader head{
      n,
      d,
      header.seed(),
      static_cast<std::uint8_t>(samples.bits),
      static_cast<std::uint8_t>(samples.draws),
      static_cast<std::uint8_t>(samples.is_dense() ? 0 : samples.layout.stored_bits)};
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
    if (samples.pilot->loss != 0) {
      std::memcpy(&fingerprint, &samples.pilot->loss, sizeof fingerprint);
      pilot.insert(pilot.begin(), fingerprint);
    }
    for (const float w : samples.pilot->weights) pilot.push_back(static_cast<double>(w));
    pilot.insert(pilot.end(), samples.pilot->gradient.begin(), samples.pilot->gradient.end());
  }

  using detail::kind;
  using detail::PackedKind;
  detail::SectionWriter file;
  file.add(kind(PackedKind::about), text.data(), text.size());
  file.add(kind(PackedKind::standardisation), columns.data(), 2 * d);
  if (map.offsets) file.add(kind(PackedKind::offsets), map.offsets->data(), d);
  file.add(kind(PackedKind::label_statistics), of_labels, 6);
  file.add(kind(PackedKind::labels), targets.of(0).data(), n);
  if (samples.weights != nullptr) file.add(kind(PackedKind::weights), samples.weights, n);
  if (samples.is_dense()) {
    if (samples.stride != samples.cols)
      throw Error("rows of a packed file have no padding", std::to_string(samples.cols),
                  std::to_string(samples.stride));
    file.add(kind(PackedKind::values), samples.values, n * d);
    return file.write(path, head);
  }
  const CodeLevels& levels = samples.levels;
  if (levels.tables == nullptr) {
    file.add(kind(PackedKind::level_offset), levels.offset, d);
    file.add(kind(PackedKind::level_step), levels.step, d);
    if (levels.scales_rows()) {
      file.add(kind(PackedKind::row_offset), levels.row_offset, n);
      file.add(kind(PackedKind::row_step), levels.row_step, n);
    }
    if (levels.entries != nullptr)
      file.add(kind(PackedKind::entries), levels.entries, std::uint64_t{1} << samples.bits);
  } else {
    file.add(kind(PackedKind::tables), levels.tables, d * static_cast<std::uint64_t>(levels.levels));
  }
  if (samples.bias != nullptr) file.add(kind(PackedKind::bias), samples.bias, d);
  if (!samples.outliers.empty()) {
    const auto entries = static_cast<std::uint64_t>(samples.outliers.entries);
    const auto together = static_cast<std::uint64_t>(OutlierView::block_rows_of(samples.cols));
    file.add(kind(PackedKind::outlier_gaps), samples.outliers.gaps, entries);
    file.add(kind(PackedKind::outlier_corrections), samples.outliers.corrections, entries);
    file.add(kind(PackedKind::outlier_first), samples.outliers.first, (n + together - 1) / together + 1);
  }
  if (!pilot.empty())
    file.add(kind(samples.pilot->loss != 0 ? PackedKind::pilot_of_loss : PackedKind::pilot), pilot.data(),
             pilot.size());
  file.add(kind(PackedKind::codes), samples.codes, static_cast<std::uint64_t>(samples.layout.bytes()));
  file.write(path, head);
}

#endif

}  // namespace zipml::inline ZIPML_ABI
