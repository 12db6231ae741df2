#pragma once
/// \file
/// Room io: sparse text in the format of LIBSVM and SVMlight.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <zipml/base/buffer.hpp>
#include <zipml/base/error.hpp>
#include <zipml/base/float_offset.hpp>
#include <zipml/io/dataset.hpp>
#include <zipml/io/line_reader.hpp>
#include <zipml/io/load_checks.hpp>
#include <zipml/io/load_options.hpp>
#include <zipml/io/number.hpp>
#include <zipml/io/parallel_lines.hpp>
#include <zipml/io/pieces.hpp>
#include <zipml/io/scratch_file.hpp>

namespace zipml::inline ZIPML_ABI {

namespace detail {

/// A value of a sparse row as two floats: 48 bits of it.
struct SparseEntry {
  std::uint32_t column;
  float high;
  float low;
  double value() const { return static_cast<double>(high) + static_cast<double>(low); }
};

/// Rows of sparse text whose entries stay where they are, maybe in a scratch file.
class SparseReader final : public RowReader {
 public:
  /// `sizes` are the numbers of entries of the rows.
  SparseReader(Pieces<SparseEntry> entries, Buffer<std::uint32_t> sizes, Index cols,
               std::shared_ptr<const Buffer<double>> offsets);

  void read(Index first, Index count, float* out) const override;

 private:
  static constexpr Index together = 64;  // rows between places that are known

  Pieces<SparseEntry> entries_;
  Buffer<std::uint32_t> sizes_;
  Buffer<std::uint64_t> starts_;  // of every 64th row
  Index cols_;
  std::shared_ptr<const Buffer<double>> offsets_;
};

class LibsvmLoader {
 public:
  LibsvmLoader(LineReader& reader, const LoadOptions& options);

  /// For a part of the lines that `whole` reads.
  LibsvmLoader(LineReader& reader, const LibsvmLoader& whole)
      : reader_(&reader),
        limit_(whole.limit_),
        fixed_(whole.fixed_),
        first_index_(whole.first_index_),
        ignores_unseen_(whole.ignores_unseen_),
        predicting_(whole.predicting_),
        room_(whole.room_),
        scratch_folder_(whole.scratch_folder_),
        is_part_(true),
        cols_(whole.cols_) {}

  /// The rows of the reader's input, and of `more` files behind it.
  Dataset load(const LoadOptions& options, std::span<const std::string> more = {});

  /// One line, that is not blank.
  void add_line(std::string_view line) { add_row(line.substr(0, line.find('#'))); }

  /// Whether all rows fit the memory limit.
  bool accepts(const List<const LibsvmLoader*>& parts) const;
  void join(LibsvmLoader&& part, long lines_before);

 private:
  using Entry = SparseEntry;
  /// An index and where it is in its line. A type of ours: std::sort on std:: types may merge at link time.
  struct Found {
    std::uint64_t index;
    std::size_t at;
    bool operator<(const Found& other) const {
      return index != other.index ? index < other.index : at < other.at;
    }
  };
  static constexpr std::uint64_t highest_index = (std::numeric_limits<std::int32_t>::max)();

  /// One line without its comment; next_data_line() has seen that it is not blank.
  void add_row(std::string_view line);

  /// Makes the matrix as wide as `index`, when it may become so.
  void widen(std::uint64_t index, const char* token, const char* token_end);

  /// Indices that are not in increasing order are accepted, but none may come twice. `line` has been read
  /// once without a complaint.
  void check_duplicates(std::string_view line);

  Dataset make_dataset(const LoadOptions& options);
  /// Writes the rows to data.values; nothing is left here.
  void densify(Dataset& data, Buffer<std::uint32_t>& sizes);
  /// Throws Error when a matrix of `cols` columns and the rows that there are is beyond the limit.
  void require_memory(std::uint64_t cols, const char* at) const;
  /// Sends entries to the scratch file when they are more than memory has room for.
  void make_room();
  List<std::string> take_warnings() const;

  static std::string_view word(const char* first, const char* end) {
    return {first, static_cast<std::size_t>(std::find_if(first, end, is_blank) - first)};
  }

  [[noreturn]] void refuse_label(const char* p, const char* end) const;

  [[noreturn]] void refuse_pair(const char* p, const char* end) const;

  [[noreturn]] void refuse_duplicate(const char* p, const char* end) const {
    throw Error(reader_->place(p), "feature index comes twice in this line", "each index once",
                quote_input({p, static_cast<std::size_t>(end - p)}));
  }

  [[noreturn]] void refuse_value(const char* token, const char* text, const char* end) const {
    const std::string index(token, (std::min)(std::find(token, text, ':'), token + 40));
    throw_bad_number(reader_->place(text), "value of feature " + index, word(text, end));
  }

  LineReader* reader_;  ///< of the file that is being read
  std::uint64_t limit_;
  std::uint64_t fixed_;  ///< number of features asked for, 0 for none
  std::uint64_t first_index_ = 1;
  bool ignores_unseen_ = false;  ///< indices that the training table has not
  bool predicting_ = false;
  std::uint64_t room_ = 0;  ///< bytes of rows that memory has room for
  std::string scratch_folder_;
  bool is_part_ = false;
  std::shared_ptr<ScratchFile> scratch_;
  std::shared_ptr<const Schema> like_;
  int threads_ = 1;
  std::uint64_t cols_ = 0;
  std::uint64_t rows_ = 0;
  std::uint64_t too_wide_ = 0;   ///< lines with an index beyond fixed_
  std::uint64_t query_ids_ = 0;  ///< lines with one
  Place wide_place_;
  std::string wide_index_;
  Pieces<Entry> entries_;
  Pieces<double> labels_;
  Pieces<std::uint32_t> row_sizes_;
};

}  // namespace detail

/// Loads LIBSVM text from `reader`: lines of `label index:value index:value ...  # comment`.
///
/// Indices count from options.first_index; they need not increase, but none may come twice in a line. A blank
/// behind the colon is passed over, as svm-train does, and so are query ids (qid:). What a line leaves out is
/// zero, a line with a label only is a row of zeros, blank and comment lines are skipped. Values are read in
/// double and become float32, finite, as those of load_csv(). The matrix has as many columns as the largest
/// index; as options.like: then larger indices are passed over, with a warning that counts the lines, and with
/// options.predicting lines need no label; or as options.columns says: then larger indices are an Error that
/// counts the lines that have them. O(text / threads); memory 12 bytes per nonzero besides the dense result.
///
/// Errors, with file, line and column: anything else in the text, among it several labels per line; no sample;
/// no feature; a result that would exceed options.memory_limit.
inline Dataset load_libsvm(LineReader& reader, const LoadOptions& options = {}) {
  return detail::LibsvmLoader(reader, options).load(options);
}

/// Loads a LIBSVM file; "-" is standard input.
inline Dataset load_libsvm(const std::string& path, const LoadOptions& options = {}) {
  LineReader reader(path);
  return load_libsvm(reader, options);
}

#if ZIPML_DEFINES

namespace detail {

ZIPML_FUNCTION LibsvmLoader::LibsvmLoader(LineReader& reader, const LoadOptions& options)
    : reader_(&reader),
      limit_(options.memory_limit),
      fixed_(static_cast<std::uint64_t>(options.columns)),
      first_index_(static_cast<std::uint64_t>(options.first_index)),
      ignores_unseen_(options.like != nullptr),
      predicting_(options.predicting),
      room_(room_in_memory(options)),
      scratch_folder_(options.scratch),
      like_(options.like),
      threads_(thread_count(options.threads)) {
  if (options.columns < 0 || fixed_ > highest_index)
    throw Error("LoadOptions::columns is out of range", "0 to " + std::to_string(highest_index),
                std::to_string(options.columns));
  if (options.first_index != 0 && options.first_index != 1)
    throw Error("LoadOptions::first_index is out of range", "0 or 1", std::to_string(options.first_index));
  const auto does_not_apply = [&](bool given, const char* option, const std::string& value) {
    if (given)
      throw Error(reader.place(), std::string(option) + " does not apply to LIBSVM files",
                  "none, the label is the first number of a line", quote_input(value));
  };
  does_not_apply(!options.label.empty() && !like_, "LoadOptions::label", options.label);
  for (const auto& [words, option] :
       {std::pair(&options.ignore, "LoadOptions::ignore"), std::pair(&options.use, "LoadOptions::use"),
        std::pair(&options.categorical, "LoadOptions::categorical")})
    does_not_apply(!words->empty(), option, words->empty() ? std::string() : words->front());
  does_not_apply(!options.id.empty(), "LoadOptions::id", options.id);
  does_not_apply(!options.weights.empty(), "LoadOptions::weights", options.weights);
  if (like_) {
    for (const TableColumn& column : like_->columns)
      if (column.features() != 1 || column.categorical)
        throw Error(reader.place(), "a LIBSVM file cannot hold the columns of the training table",
                    "a table with a column " + quote_input(column.name), "index:value");
    fixed_ = static_cast<std::uint64_t>(like_->cols);
    if (like_->first_index == 0) first_index_ = 0;
  }
  cols_ = fixed_;
}

ZIPML_FUNCTION Dataset LibsvmLoader::load(const LoadOptions& options, std::span<const std::string> more) {
  std::string_view line;
  if (next_data_line(*reader_, line)) add_line(line);  // it may have been looked at, and held back
  const long title = reader_->comments();
  add_lines(*reader_, *this, options, threads_);
  long comments = reader_->comments() - title;
  LineReader* const first = reader_;
  for (const std::string& path : more) {
    LineReader next(path);
    reader_ = &next;
    if (!next_data_line(next, line)) continue;  // nothing is in it
    const long before = next.comments();
    add_line(line);
    add_lines(next, *this, options, threads_);
    comments += next.comments() - before;
  }
  reader_ = first;
  if (rows_ == 0) throw_no_data(*reader_, "lines of label index:value ...");
  if (too_wide_ > 0 && !ignores_unseen_)
    throw Error(std::move(wide_place_),
                std::to_string(too_wide_) + (too_wide_ == 1 ? " line has" : " lines have") +
                    " a feature index that is too large, the first one here",
                "at most " + std::to_string(fixed_) + " features", wide_index_);
  if (cols_ == 0)
    throw Error(reader_->place(), "no features", "index:value on at least one line",
                std::to_string(rows_) + (rows_ == 1 ? " label only" : " labels only"));
  Dataset data = make_dataset(options);
  data.source = source_of(reader_->source(), more.size());
  warn_of_comments(data, comments);
  if (!like_) warn_of_order(data);
  return data;
}

ZIPML_FUNCTION bool LibsvmLoader::accepts(const List<const LibsvmLoader*>& parts) const {
  std::uint64_t rows = rows_, cols = cols_;
  for (const LibsvmLoader* part : parts) {
    rows += part->rows_;
    cols = (std::max)(cols, part->cols_);
  }
  return !scratch_folder_.empty() || memory_of(rows, cols, 4) <= limit_;
}

ZIPML_FUNCTION void LibsvmLoader::join(LibsvmLoader&& part, long lines_before) {
  if (too_wide_ == 0 && part.too_wide_ > 0) {
    wide_place_ = part.wide_place_;
    wide_place_.line += lines_before;
    wide_index_ = part.wide_index_;
  }
  too_wide_ += part.too_wide_;
  query_ids_ += part.query_ids_;
  rows_ += part.rows_;
  cols_ = (std::max)(cols_, part.cols_);
  entries_.append(std::move(part.entries_));
  labels_.append(std::move(part.labels_));
  row_sizes_.append(std::move(part.row_sizes_));
  make_room();
}

ZIPML_FUNCTION void LibsvmLoader::require_memory(std::uint64_t cols, const char* at) const {
  // Elsewhere there is room for rows, but not for what goes with columns and labels.
  const std::uint64_t bytes =
      scratch_folder_.empty() ? memory_of(rows_, cols, 4) : memory_of(rows_, 0, 0) + memory_of(0, cols, 0);
  if (bytes <= limit_) return;
  throw_memory(at == nullptr ? reader_->place(std::size_t{0}) : reader_->place(at), rows_, cols, bytes,
               limit_);
}

ZIPML_FUNCTION void LibsvmLoader::make_room() {
  if (scratch_folder_.empty() || is_part_) return;  // of a part, the whole takes care
  const std::uint64_t room = scratch_ ? before_scratch(room_) : room_;
  if (entries_.in_memory() * sizeof(Entry) <= room) return;
  if (!scratch_) scratch_ = std::make_shared<ScratchFile>(scratch_folder_);
  entries_.spill(scratch_, 1);
}

ZIPML_FUNCTION void LibsvmLoader::add_row(std::string_view line) {
  const char* p = line.data();
  const char* const end = p + line.size();
  while (p < end && is_blank(*p)) ++p;

  double label = 0;
  const char* after = parse_number(p, end, label);
  if (after == nullptr || (after < end && !is_blank(*after))) {
    if (!predicting_ || word(p, end).find(':') == std::string_view::npos) refuse_label(p, end);
    label = std::numeric_limits<double>::quiet_NaN();
    after = p;
  }
  p = after;

  ++rows_;
  require_memory(cols_, nullptr);
  if (rows_ % 1024 == 0) make_room();
  std::uint32_t stored = 0;
  std::uint64_t previous = 0;
  bool sorted = true, too_wide = false, first = true;
  for (;;) {
    while (p < end && is_blank(*p)) ++p;
    if (p == end) break;

    const char* const token = p;
    if (end - p > 4 && std::string_view(p, 4) == "qid:" && first) {  // of ranking data: says nothing of a row
      p = std::find_if(p, end, is_blank);
      ++query_ids_;
      continue;
    }
    first = false;
    std::uint64_t index = 0;
    for (; p < end && is_digit(*p); ++p)
      if (index <= highest_index) index = index * 10 + static_cast<std::uint64_t>(*p - '0');
    if (p == token || p == end || *p != ':' || index < first_index_) refuse_pair(token, end);
    index += 1 - first_index_;  // from 1 on
    const bool unseen = index > cols_ && fixed_ > 0;
    if (index > cols_) {
      if (fixed_ == 0) {
        widen(index, token, p);
      } else if (!too_wide) {
        too_wide = true;
        if (too_wide_++ == 0) {
          wide_place_ = reader_->place(token);
          wide_index_ = "index " + std::string(token, (std::min)(p, token + 40));
        }
      }
    }
    if (index == previous && index <= highest_index) refuse_duplicate(token, p);
    if (index < previous) sorted = false;
    previous = index;

    const char* text = ++p;
    while (text < end && is_blank(*text)) ++text;
    // A blank behind the colon: the value, unless that is the next feature, or the end.
    if (text > p && word(text, end).find(':') != std::string_view::npos) text = p;
    double value = 0;
    p = parse_number(text, end, value);
    if (p == nullptr || (p < end && !is_blank(*p))) refuse_value(token, text, end);
    if (value != 0 && !unseen && (too_wide_ == 0 || ignores_unseen_)) {
      const auto high = static_cast<float>(value);
      *entries_.extend(1) = {static_cast<std::uint32_t>(index - 1), high,
                             static_cast<float>(value - static_cast<double>(high))};
      ++stored;
    }
  }
  if (!sorted) check_duplicates(line);
  *labels_.extend(1) = label;
  *row_sizes_.extend(1) = stored;
}

ZIPML_FUNCTION void LibsvmLoader::widen(std::uint64_t index, const char* token, const char* token_end) {
  if (index > highest_index)
    throw Error(reader_->place(token), "feature index is too large",
                "at most " + std::to_string(highest_index),
                quote_input({token, static_cast<std::size_t>(token_end - token)}));
  require_memory(index, token);
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
    if (first < at && index <= highest_index) found.push_back({index, first});  // else qid:
  }
  std::sort(found.begin(), found.end());
  std::size_t earliest = line.size();
  for (std::size_t i = 1; i < found.size(); ++i)
    if (found[i].index == found[i - 1].index) earliest = (std::min)(earliest, found[i].at);
  if (earliest < line.size())
    refuse_duplicate(line.data() + earliest, line.data() + line.find(':', earliest));
}

ZIPML_FUNCTION List<std::string> LibsvmLoader::take_warnings() const {
  List<std::string> warnings;
  if (too_wide_ > 0)
    warnings.push_back(std::to_string(too_wide_) + (too_wide_ == 1 ? " line has" : " lines have") +
                       " a feature index beyond the " + std::to_string(fixed_) +
                       " features of the training table, which is passed over; the first is " + wide_index_ +
                       " in line " + std::to_string(wide_place_.line));
  if (query_ids_ > 0)
    warnings.push_back("query ids (qid:) are passed over, in " + std::to_string(query_ids_) +
                       (query_ids_ == 1 ? " line" : " lines"));
  return warnings;
}

ZIPML_FUNCTION Dataset LibsvmLoader::make_dataset(const LoadOptions& options) {
  Dataset data;
  data.rows = static_cast<Index>(rows_);
  data.cols = static_cast<Index>(cols_);
  data.warnings = take_warnings();
  if (like_) {
    data.schema = like_;
  } else {
    auto schema = std::make_shared<Schema>();
    schema->cols = data.cols;
    schema->first_index = static_cast<int>(first_index_);
    data.schema = schema;
  }
  Buffer<double> labels(data.rows);
  labels_.copy_to(labels.data());
  labels_ = {};
  data.has_labels = std::any_of(labels.begin(), labels.end(), [](double y) { return !std::isnan(y); });
  round_labels(labels, data);
  Buffer<std::uint32_t> sizes(data.rows);
  row_sizes_.copy_to(sizes.data());

  // A column that is left out of a row holds 0 there.
  OffsetSurvey survey(data.cols);
  Buffer<std::uint32_t> present(data.cols);
  entries_.for_each_piece([&](std::span<const Entry> part) {
    for (const Entry& entry : part) {
      survey.note(entry.column, entry.value());
      ++present[entry.column];
    }
  });
  for (Index j = 0; j < data.cols; ++j)
    if (present[j] < rows_) survey.note(j, 0.0);
  survey.begin_sample(data.rows);
  Index at = -1;
  bool wanted = false;
  std::uint32_t remaining = 0;
  entries_.for_each_piece([&](std::span<const Entry> part) {
    for (const Entry& entry : part) {
      for (; remaining == 0; remaining = sizes[at]) wanted = survey.wants_row(++at);
      if (wanted) survey.take(entry.column, entry.value());
      --remaining;
    }
  });
  while (++at < data.rows) survey.wants_row(at);  // rows of zeros at the end
  data.offsets = survey.offsets(
      [&](Index j, double merged) { warn_of_merging(data, data.schema->describe(j), merged); });
  const std::uint64_t bytes = memory_of(rows_, cols_, 4);
  if (!scratch_ && (scratch_folder_.empty() || bytes <= room_)) {
    densify(data, sizes);
    return data;
  }
  data.reader =
      std::make_shared<SparseReader>(std::move(entries_), std::move(sizes), data.cols, data.offsets);
  if (scratch_) say_where_rows_are(data, options, bytes, scratch_->folder().c_str());
  return data;
}

ZIPML_FUNCTION void LibsvmLoader::densify(Dataset& data, Buffer<std::uint32_t>& sizes) {
  const Buffer<double>* const offsets = data.offsets.get();
  data.values = Buffer<float>(checked_product(data.rows, data.cols, "the sample matrix"));
  if (offsets)
    for (Index i = 0; i < data.rows; ++i)
      for (Index j = 0; j < data.cols; ++j)
        if ((*offsets)[j] != 0.0) data.values[i * data.cols + j] = static_cast<float>(-(*offsets)[j]);
  float* row = data.values.data();
  std::uint32_t* left = sizes.data();  // entries of this row that are still to come
  entries_.drain([&](std::span<const Entry> part) {
    for (const Entry& entry : part) {
      for (; *left == 0; ++left) row += data.cols;
      row[entry.column] = offsets ? static_cast<float>(entry.value() - (*offsets)[entry.column]) : entry.high;
      --*left;
    }
  });
}

ZIPML_FUNCTION SparseReader::SparseReader(Pieces<SparseEntry> entries, Buffer<std::uint32_t> sizes,
                                          Index cols, std::shared_ptr<const Buffer<double>> offsets)
    : entries_(std::move(entries)),
      sizes_(std::move(sizes)),
      starts_(sizes_.size() / together + 1),
      cols_(cols),
      offsets_(std::move(offsets)) {
  entries_.index();
  std::uint64_t sum = 0;
  for (Index i = 0; i < sizes_.size(); ++i) {
    if (i % together == 0) starts_[i / together] = sum;
    sum += sizes_[i];
  }
}

ZIPML_FUNCTION void SparseReader::read(Index first, Index count, float* out) const {
  std::uint64_t place = starts_[first / together];
  for (Index i = first / together * together; i < first; ++i) place += sizes_[i];
  constexpr std::uint64_t most = 65536;  // entries at a time
  Buffer<SparseEntry> entries;
  for (Index i = first; i < first + count;) {
    std::uint64_t size = sizes_[i];
    Index end = i + 1;
    while (end < first + count && size + sizes_[end] <= most) size += sizes_[end++];
    if (entries.size() < static_cast<Index>(size))
      entries = Buffer<SparseEntry>::uninitialised(static_cast<Index>((std::max)(size, most / 64)));
    entries_.read(static_cast<std::size_t>(place), static_cast<std::size_t>(size), entries.data());
    place += size;
    const SparseEntry* entry = entries.data();
    for (; i < end; ++i, out += cols_) {
      for (Index j = 0; j < cols_; ++j)  // what a row leaves out is 0
        out[j] = offsets_ && (*offsets_)[j] != 0.0 ? static_cast<float>(-(*offsets_)[j]) : 0.0f;
      for (std::uint32_t k = 0; k < sizes_[i]; ++k, ++entry)
        out[entry->column] =
            offsets_ ? static_cast<float>(entry->value() - (*offsets_)[entry->column]) : entry->high;
    }
  }
}

ZIPML_FUNCTION void LibsvmLoader::refuse_label(const char* p, const char* end) const {
  const std::string_view text = word(p, end);
  if (text.find(':') != std::string_view::npos)
    throw Error(reader_->place(p), "line has no label", "a label before the features", quote_input(text));
  if (text.find(',') != std::string_view::npos)
    throw Error(reader_->place(p), "line has several labels or a decimal comma", "one label",
                quote_input(text));
  throw_bad_number(reader_->place(p), "label", text);
}

ZIPML_FUNCTION void LibsvmLoader::refuse_pair(const char* p, const char* end) const {
  const std::string_view text = word(p, end);
  const std::size_t colon = text.find(':');
  const std::string_view index = text.substr(0, colon);
  if (index == "qid")
    throw Error(reader_->place(p), "query id behind a feature", "qid: next to the label", quote_input(text));
  if (colon == std::string_view::npos)
    throw Error(reader_->place(p), "feature has no colon", "index:value", quote_input(text));
  if (index.empty()) throw Error(reader_->place(p), "feature has no index", "index:value", quote_input(text));
  if (std::all_of(index.begin(), index.end(), is_digit))
    throw Error(reader_->place(p), "feature index is zero",
                "1 or more (or LoadOptions::first_index 0, --first-index 0)", quote_input(index));
  throw Error(reader_->place(p), "feature index is not a whole number", "digits before the colon",
              quote_input(text));
}

}  // namespace detail

#endif

}  // namespace zipml::inline ZIPML_ABI
