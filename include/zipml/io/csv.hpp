#pragma once
/// \file
/// Room io: tables in text, separated by commas, semicolons, tabs or blanks: numbers, categories, labels,
/// missing cells.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include <zipml/base/buffer.hpp>
#include <zipml/base/error.hpp>
#include <zipml/io/dataset.hpp>
#include <zipml/io/line_reader.hpp>
#include <zipml/io/load_checks.hpp>
#include <zipml/io/load_options.hpp>
#include <zipml/io/number.hpp>
#include <zipml/io/parallel_lines.hpp>
#include <zipml/io/table_plan.hpp>
#include <zipml/io/table_rows.hpp>

namespace zipml::inline ZIPML_ABI {

namespace detail {

/// What separates the fields of `line`: a semicolon, a tab, a comma, whichever comes first in this list and
/// occurs outside quotes; tabs that only pad commas do not count. Otherwise ' ', for runs of blanks.
char find_separator(std::string_view line);

/// Reads the text of a table: lines become records, records cells, and cells the TableRows that a Dataset is
/// made of.
class CsvLoader {
 public:
  CsvLoader(LineReader& reader, const LoadOptions& options);

  /// For a part of the lines that `whole` reads.
  CsvLoader(LineReader& reader, const CsvLoader& whole);

  /// The rows of the reader's input, and of `more` files behind it.
  Dataset load(std::span<const std::string> more = {});

  /// One record, which begins with this line.
  void add_line(std::string_view line) { add_record(record(line)); }

  /// Whether all rows fit the memory limit.
  bool accepts(const List<const CsvLoader*>& parts) const {
    std::uint64_t rows = static_cast<std::uint64_t>(rows_.count());
    for (const CsvLoader* part : parts) rows += static_cast<std::uint64_t>(part->rows_.count());
    return !options_.scratch.empty() || memory_of(rows, width(), 8) <= room_in_memory(options_);
  }
  void join(CsvLoader&& part, long lines_before) {
    rows_.join(std::move(part.rows_), lines_before);
    make_room();
  }

 private:
  struct Field {
    std::string text;  ///< without quotes and the blanks around it
    const char* place;
    bool quoted = false;
  };

  /// What may surround a field: blanks, except the tab that separates.
  bool pads(char c) const { return c == ' ' || (c == '\t' && separator_ != '\t'); }
  const char* skip_padding(const char* p, const char* end) const {
    while (p < end && pads(*p)) ++p;
    return p;
  }
  void add_record(std::string_view text);
  std::uint64_t width() const { return static_cast<std::uint64_t>(format().plan.slot_count); }

  /// The record that begins with `line`: itself, or with the lines behind it where a quoted field goes on there.
  std::string_view record(std::string_view line);
  /// Where in `text` a quoted field begins that does not end there; null when none does.
  const char* open_quote(std::string_view text) const;
  /// The place of `p`, which points into the record.
  Place place(const char* p) const;
  Place place() const { return reader_->place(std::size_t{0}); }

  /// Reads the field at p, which is behind its padding, and sets p to its end: a separator, a blank before
  /// one, or the end of the record.
  Field take_field(const char*& p, const char* end) const;

  /// All fields of a record, taken without looking at what they hold.
  List<Field> split(std::string_view text) const;

  /// Decides whether the first line is a header, and what each column is.
  void first_line(std::string_view line);

  /// Decides whether the first line of a further file repeats the header of the first one, or is a row.
  void first_line_of_more(std::string_view line);

  /// A line is a header when a field of it is a name: not a number, well or badly written, and not a missing
  /// value. If it has numbers too, then it may as well be a sample with a typing error, which is worth a
  /// warning; and so are numbers that look like names, 1, 2, 3.
  bool looks_like_header(const List<Field>& fields);

  /// Whether the fields are the names of the training table, numbers as they may be.
  bool names_like(const List<Field>& fields) const {
    if (!like() || !like()->has_names()) return false;
    return std::all_of(like()->columns.begin(), like()->columns.end(), [&](const TableColumn& column) {
      return std::any_of(fields.begin(), fields.end(), [&](const Field& f) { return f.text == column.name; });
    });
  }

  /// Whether a label is text that stands for a class: seen in the first row.
  void look_at_label(const List<Field>& fields);

  /// Reads one cell into its slot, or the label.
  void take_cell(std::size_t i, std::string_view text, const char* at, double* row);
  double number_of(std::size_t i, std::string_view text, const char* at);
  void take_missing(std::size_t i, const char* at, double* out);

  const TableFormat& format() const { return whole_ != nullptr ? *whole_ : format_; }
  const std::shared_ptr<const Schema>& like() const { return format().like; }
  std::string describe(std::size_t field) const { return format().describe(field); }

  std::string separator_name() const;

  [[noreturn]] void refuse_width(std::string_view text, const char* at) const;
  /// Throws Error when `cols` for each of the rows are beyond the limit, and nothing but memory is theirs.
  void require_memory(std::uint64_t cols, std::uint64_t bytes_per_value) const;
  /// Sends rows to the scratch file when they are more than memory has room for.
  void make_room();

  LineReader* reader_;  ///< of the file that is being read
  const LoadOptions& options_;
  const TableFormat* whole_ = nullptr;  ///< of a part: the format of the whole
  TableFormat format_;
  TableRows rows_;
  char separator_ = ',';
  std::size_t fields_ = 0;  ///< of every line, the label included
  bool trailing_ = false;   ///< every line ends in one more separator
  bool rows_begun_ = false;
  List<std::string> names_;  ///< of the header, as they are written
  List<std::string> warnings_;

  std::string record_;    ///< of several lines
  long record_line_ = 0;  ///< its first
};

}  // namespace detail

/// Loads a table from `reader`, one sample a record, one of the columns the label (options.label; the last one
/// that is no id if that is empty).
///
/// The separator is found in the first line: ';', tab, ',' or runs of blanks. A first line that has a name in
/// it is the header (options.header). Fields may be in double quotes, a quote inside doubled, a line break
/// inside too, and have blanks around them; every line may end in one separator too many. Blank lines and lines
/// that start with '#' are skipped, the latter with a warning. Numbers are read in double and become float32
/// where they must be finite, without an offset that float32 would drown in (base/float_offset.hpp); what
/// float32 still cannot tell apart is a warning that names the column. Columns: options.ignore, use,
/// categorical, id; missing cells: options.missing; labels that are text in the first row are classes, in
/// byte order. With options.like the table is read as another one was. O(text / threads); memory 8 bytes a
/// value until the rows are complete, and 4 afterwards.
///
/// Errors, with file, line and column: a field that is missing (all of them counted), not a number (decimal
/// commas included), not finite or too large; a row of another length than the first; a column that does not
/// exist; a label whose name two have (other names of that kind are made different,
/// with a warning); nothing beside the label; no rows; a result that would exceed
/// options.memory_limit.
inline Dataset load_csv(LineReader& reader, const LoadOptions& options = {}) {
  return detail::CsvLoader(reader, options).load();
}

/// Loads a CSV file; "-" is standard input.
inline Dataset load_csv(const std::string& path, const LoadOptions& options = {}) {
  LineReader reader(path);
  return load_csv(reader, options);
}

#if ZIPML_DEFINES

namespace detail {

ZIPML_FUNCTION char find_separator(std::string_view line) {
  line = trimmed(line);
  bool in_quotes = false, semicolon = false, tab = false, comma = false;
  bool in_tabs = false;  // since the last character that is no blank, which is `before`
  char before = '\0';
  for (const char c : line) {
    if (c == '"') in_quotes = !in_quotes;
    if (c == ' ' || c == '\t') {
      in_tabs = in_tabs || (c == '\t' && !in_quotes);
      continue;
    }
    tab = tab || (in_tabs && before != ',' && c != ',');
    in_tabs = false;
    before = c;
    if (in_quotes) continue;
    semicolon = semicolon || c == ';';
    comma = comma || c == ',';
  }
  return semicolon ? ';' : tab ? '\t' : comma ? ',' : ' ';
}

ZIPML_FUNCTION CsvLoader::CsvLoader(LineReader& reader, const LoadOptions& options)
    : reader_(&reader), options_(options), rows_(format_) {
  if (options.like) format_.like = as_table(options);
  format_.missing = options.missing;
  format_.predicting = options.predicting;
  const char s = options.separator;
  const bool letter = (s >= 'a' && s <= 'z') || (s >= 'A' && s <= 'Z');
  if (letter || is_digit(s) ||
      (s != '\0' && std::string_view("+-.\"#\r\n\\").find(s) != std::string_view::npos))
    throw Error("LoadOptions::separator cannot separate numbers", "a character such as ',' ';' '\\t' ' ' '|'",
                quote_input({&s, 1}));
  if (options.columns < 0)
    throw Error("LoadOptions::columns is out of range", "0 or more", std::to_string(options.columns));
  if (options.decimal != '.' && options.decimal != ',')
    throw Error("LoadOptions::decimal is out of range", "'.' or ','", quote_input({&options.decimal, 1}));
}

ZIPML_FUNCTION CsvLoader::CsvLoader(LineReader& reader, const CsvLoader& whole)
    : reader_(&reader),
      options_(whole.options_),
      whole_(&whole.format_),
      rows_(whole.format_),
      separator_(whole.separator_),
      fields_(whole.fields_),
      trailing_(whole.trailing_),
      rows_begun_(whole.rows_begun_) {
  rows_.begin();
}

ZIPML_FUNCTION Dataset CsvLoader::load(std::span<const std::string> more) {
  std::string_view line;
  if (!next_data_line(*reader_, line)) throw_no_data(*reader_, "rows of numbers");
  const long comments_before = reader_->comments();  // at the top they are a file's title
  separator_ = options_.separator != '\0' ? options_.separator : find_separator(line);
  if (options_.separator == '\0' && separator_ == ' ' && std::count(line.begin(), line.end(), '"') % 2 == 1)
    separator_ = ',';  // the first name goes on in the next line
  if (separator_ == ',' && options_.decimal == ',')
    throw Error(place(), "a decimal comma needs another separator", "fields separated by ; tab or blanks",
                "\",\"");
  if (line.find('\r') != std::string_view::npos && line.find('"') == std::string_view::npos)
    throw Error(place(line.data() + line.find('\r')), "carriage return inside a line",
                "lines that end in LF or CR LF", "CR only");
  first_line(line);
  const long blanks_before = reader_->blanks();
  if (fields_ > 1 && !format_.head.named() && comments_before > 0) {
    const std::string& comment = reader_->comment();  // the last one
    if (open_quote(comment) == nullptr && split(trimmed(comment)).size() == fields_)
      warnings_.push_back(
          quote_input(comment) +
          " was skipped as a comment, though it has as many fields as the rows: when these are "
          "the names of the columns, take the # away");
  }
  const int threads = thread_count(options_.threads);
  add_lines(*reader_, *this, options_, rows_begun_ ? threads : 1);
  long comments = reader_->comments() - comments_before, blanks = reader_->blanks() - blanks_before;
  LineReader* const first = reader_;
  for (const std::string& path : more) {
    LineReader next(path);
    reader_ = &next;
    if (!next_data_line(next, line)) continue;  // nothing is in it
    const long title = next.comments();
    first_line_of_more(line);
    const long before = next.blanks();
    add_lines(next, *this, options_, rows_begun_ ? threads : 1);
    comments += next.comments() - title;
    blanks += next.blanks() - before;
  }
  reader_ = first;
  if (rows_.count() == 0)
    throw Error(reader_->place(), "no data", "rows of numbers after the header", "none");
  const CellCounts& missing = rows_.missing;
  if (options_.missing == Missing::error && missing.count > 0 && !like())
    throw Error(Place{missing.file, static_cast<long>(missing.line), static_cast<long>(missing.column)},
                describe(static_cast<std::size_t>(missing.field)) + " is missing",
                "a value, or LoadOptions::missing (--missing drop, mean or indicator)",
                rows_.count_of(missing, " missing cell"));
  const std::uint64_t slot_count = width();
  Dataset data = rows_.take_dataset(reader_->place(), options_, [&](Index d) {
    if (static_cast<std::uint64_t>(d) > 2 * slot_count) require_memory(static_cast<std::uint64_t>(d), 4);
  });
  data.source = source_of(reader_->source(), more.size());
  data.warnings.insert(data.warnings.begin(), warnings_.begin(), warnings_.end());
  warn_of_comments(data, comments);
  if (fields_ == 1 && blanks > 0)
    data.warnings.push_back(std::to_string(blanks) +
                            (blanks == 1 ? " blank line was skipped" : " blank lines were skipped") +
                            ": in a table of one column a missing cell is written NA or \"\"");
  if (!like()) warn_of_order(data);
  return data;
}

ZIPML_FUNCTION const char* CsvLoader::open_quote(std::string_view text) const {
  if (text.find('"') == std::string_view::npos) return nullptr;
  const char* p = text.data();
  const char* const end = p + text.size();
  while (p < end) {
    p = skip_padding(p, end);
    if (p == end) return nullptr;
    if (*p == '"') {
      const char* const begin = p;
      for (++p;; ++p) {
        if (p == end) return begin;
        if (*p != '"') continue;
        if (p + 1 == end || p[1] != '"') break;
        ++p;
      }
    }
    while (p < end && !(separator_ == ' ' ? is_blank(*p) : *p == separator_)) ++p;
    if (p < end) ++p;
  }
  return nullptr;
}

ZIPML_FUNCTION std::string_view CsvLoader::record(std::string_view line) {
  record_line_ = 0;
  const char* open = open_quote(line);
  if (open == nullptr) return line;
  record_line_ = reader_->line_number();
  record_.assign(line);
  std::size_t begin = static_cast<std::size_t>(open - line.data());
  // From the opening quote on: whether the text behind what has been looked at is inside quotes is known.
  for (;;) {
    std::string_view more;
    if (!reader_->next(more))
      throw Error(place(record_.data() + begin), "quoted field does not end", "a closing \"",
                  quote_input(std::string_view(record_).substr(begin)));
    record_ += '\n';
    const std::size_t from = record_.size();
    record_ += more;
    // The first quote of the new line that is not doubled closes the field.
    std::size_t k = from;
    for (; k < record_.size(); ++k) {
      if (record_[k] != '"') continue;
      if (k + 1 < record_.size() && record_[k + 1] == '"')
        ++k;
      else
        break;
    }
    if (k >= record_.size()) continue;
    // What is behind it may open another one.
    std::size_t rest = k + 1;
    while (rest < record_.size() &&
           !(separator_ == ' ' ? is_blank(record_[rest]) : record_[rest] == separator_))
      ++rest;
    const std::string_view behind = std::string_view(record_).substr((std::min)(rest + 1, record_.size()));
    open = open_quote(behind);
    if (open == nullptr) return record_;
    begin = static_cast<std::size_t>(open - record_.data());
  }
}

ZIPML_FUNCTION Place CsvLoader::place(const char* p) const {
  if (record_line_ == 0) return reader_->place(p);
  Place result = reader_->place();
  result.line = record_line_;
  const char* begin = record_.data();
  for (const char* c = begin; c < p; ++c)
    if (*c == '\n') {
      ++result.line;
      begin = c + 1;
    }
  result.column = static_cast<long>(p - begin) + 1;
  return result;
}

ZIPML_FUNCTION void CsvLoader::require_memory(std::uint64_t cols, std::uint64_t bytes_per_value) const {
  const auto rows = static_cast<std::uint64_t>(rows_.count());
  // Elsewhere there is room for rows, but not for what goes with columns and labels.
  const bool elsewhere = !options_.scratch.empty();
  const std::uint64_t bytes =
      elsewhere ? memory_of(rows, 0, 0) + memory_of(0, cols, 0) : memory_of(rows, cols, bytes_per_value);
  if (bytes > options_.memory_limit) throw_memory(place(), rows, cols, bytes, options_.memory_limit);
}

ZIPML_FUNCTION void CsvLoader::make_room() {
  if (options_.scratch.empty() || whole_ != nullptr) return;  // of a part, the whole takes care
  const auto rows = static_cast<std::uint64_t>(rows_.in_memory());
  const std::uint64_t room = room_in_memory(options_);
  if (memory_of(rows, rows_.is_spilled() ? 0 : width(), 0) + 8 * width() * rows >
      (rows_.is_spilled() ? before_scratch(room) : room))
    rows_.spill(options_.scratch);
}

ZIPML_FUNCTION void CsvLoader::add_record(std::string_view text) {
  if (!rows_begun_) {
    rows_begun_ = true;
    const List<Field> fields = split(text);
    trailing_ = trailing_ || (separator_ != ' ' && fields.size() == fields_ + 1 && !fields.back().quoted &&
                              fields.back().text.empty());
    look_at_label(fields);
  }
  make_room();
  double* const row = rows_.add_row();
  require_memory(width(), 8);
  const TablePlan& plan = format().plan;
  const bool text_label = format().text_label;
  const char* p = text.data();
  const char* const end = p + text.size();
  for (std::size_t i = 0;; ++i) {
    p = skip_padding(p, end);
    if (separator_ == ' ' && p == end) {
      if (i < fields_) refuse_width(text, end);
      break;
    }
    if (i == fields_) {
      if (trailing_ && p == end) break;
      refuse_width(text, p);
    }
    const FieldRole role = plan.roles[i];
    const char* after = nullptr;
    if (role == FieldRole::number || (role == FieldRole::label && !text_label)) {  // weights are checked
      double value = 0;
      after = options_.decimal == '.' ? parse_number(p, end, value) : nullptr;
      if (after != nullptr && after < end && *after != separator_ && !pads(*after)) after = nullptr;
      if (after != nullptr) {
        const char* const behind = skip_padding(after, end);
        if (separator_ != ' ' && behind < end && *behind != separator_) {
          after = nullptr;
        } else {
          if (after - p >= 17 && std::fabs(value) >= 9007199254740992.0) rows_.huge.add(place(p), i, fields_);
          if (static_cast<Index>(i) == plan.id) rows_.add_id(std::string(p, after));
          if (role == FieldRole::label)
            rows_.add_label(value);
          else
            row[plan.slot_of[i]] = value;
          p = behind;
        }
      }
    }
    if (after == nullptr) {  // text, in quotes, or wrong
      const char* const at = p;
      const Field field = take_field(p, end);
      if (static_cast<Index>(i) == plan.id) rows_.add_id(field.text);
      take_cell(i, field.text, at, row);
      p = skip_padding(p, end);
    }
    if (separator_ == ' ') continue;
    if (p == end) {
      if (i + 1 < fields_) refuse_width(text, end);
      break;
    }
    ++p;
  }
  if (plan.label < 0) rows_.add_label(std::numeric_limits<double>::quiet_NaN());
}

ZIPML_FUNCTION double CsvLoader::number_of(std::size_t i, std::string_view text, const char* at) {
  std::string pointed;
  std::string_view digits = text;
  if (options_.decimal == ',') {
    pointed.assign(text);
    if (pointed.find('.') != std::string::npos)
      throw Error(place(at), describe(i) + " has a decimal point", "a decimal comma", quote_input(text));
    std::replace(pointed.begin(), pointed.end(), ',', '.');
    digits = pointed;
  }
  double value = 0;
  const char* const end = digits.data() + digits.size();
  if (digits.empty() || parse_number(digits.data(), end, value) != end) {
    if (is_missing(text) || is_nonfinite(text)) throw_bad_number(place(at), describe(i), text);
    const bool text_column = format().plan.roles[i] == FieldRole::number && (is_word(text) || is_date(text));
    if (text_column)
      throw Error(
          place(at), describe(i) + " is not a number",
          "a number, or LoadOptions::categorical for text (--categorical; --ignore leaves a column out)",
          quote_input(text));
    throw_bad_number(place(at), describe(i), text);
  }
  return value;
}

ZIPML_FUNCTION void CsvLoader::take_missing(std::size_t i, const char* at, double* out) {
  const Index slot = format().plan.slot_of[i];
  *out = std::numeric_limits<double>::quiet_NaN();
  if (like()) {
    const TableColumn& column = like()->columns[static_cast<std::size_t>(slot)];
    const bool known = column.categorical ? rows_.knows_missing(slot) : column.fill.has_value();
    if (!known && !like()->drops_missing)
      throw Error(place(at), describe(i) + " is missing",
                  "a value, as the training table has in every row (it was read without --missing)",
                  "nothing");
    if (!known && column.categorical && options_.predicting) {  // training has left such rows out
      *out = -1.0;
      return rows_.unseen.add(place(at), i, fields_);
    }
  } else if (options_.missing == Missing::error && whole_ != nullptr) {
    throw Error(place(at), "missing");  // the whole reader reads it again, and counts
  }
  rows_.missing.add(place(at), i, fields_);
}

ZIPML_FUNCTION void CsvLoader::take_cell(std::size_t i, std::string_view text, const char* at, double* row) {
  const bool absent = is_missing(text) || is_nonfinite(text);
  const Index slot = format().plan.slot_of[i];
  switch (format().plan.roles[i]) {
    case FieldRole::ignored:
      return;
    case FieldRole::number: {
      const bool asked = options_.missing != Missing::error || like();
      // NaN and infinities that nobody has asked to be missing are wrong.
      if (asked ? absent && !(is_nonfinite(text) && text.find("nf") != std::string_view::npos)
                : is_missing(text))
        return take_missing(i, at, row + slot);
      row[slot] = number_of(i, text, at);
      return;
    }
    case FieldRole::category:
      if (absent) return take_missing(i, at, row + slot);
      row[slot] = rows_.category(slot, text);
      if (row[slot] < 0.0) rows_.unseen.add(place(at), i, fields_);
      return;
    case FieldRole::weight: {
      const double weight = number_of(i, text, at);
      if (!(weight >= 0.0) || weight > 1e30)
        throw Error(place(at), describe(i) + " is no weight", "a number from 0 to 1e30", quote_input(text));
      return rows_.add_weight(weight);
    }
    case FieldRole::label:
      if (absent && (options_.predicting || (options_.missing != Missing::error && is_missing(text)))) {
        rows_.add_label(std::numeric_limits<double>::quiet_NaN());
        if (!options_.predicting) rows_.unlabelled.add(place(at), i, fields_);
        return;
      }
      if (!format().text_label) return rows_.add_label(number_of(i, text, at));
      if (absent) throw_bad_number(place(at), describe(i), text);
      const double known = rows_.class_of(text);
      if (known < 0.0)
        throw Error(place(at), describe(i) + " is of no class that training has seen",
                    list_of_names(like()->classes), quote_input(text));
      return rows_.add_label(known);
  }
}

ZIPML_FUNCTION CsvLoader::Field CsvLoader::take_field(const char*& p, const char* end) const {
  Field field{{}, p};
  if (p == end || *p != '"') {
    if (separator_ == ' ')
      p = std::find_if(p, end, is_blank);
    else
      p = std::find(p, end, separator_);
    const char* last = p;
    while (last > field.place && pads(last[-1])) --last;
    field.text.assign(field.place, last);
    return field;
  }
  field.quoted = true;
  for (++p;; ++p) {
    if (p == end)
      throw Error(place(field.place), "quoted field does not end", "a closing \"",
                  quote_input({field.place, static_cast<std::size_t>(end - field.place)}));
    if (*p == '"') {
      if (p + 1 == end || p[1] != '"') break;
      ++p;
    }
    field.text += *p;
  }
  ++p;
  const char* const behind = skip_padding(p, end);
  if (behind < end && *behind != separator_ && !(separator_ == ' ' && behind > p))
    throw Error(place(behind), "text behind the closing quote", "the end of the field",
                quote_input({behind, static_cast<std::size_t>(end - behind)}));
  field.text = std::string(trimmed(field.text));
  return field;
}

ZIPML_FUNCTION List<CsvLoader::Field> CsvLoader::split(std::string_view text) const {
  List<Field> fields;
  const char* p = text.data();
  const char* const end = p + text.size();
  for (;;) {
    p = skip_padding(p, end);
    if (separator_ == ' ' && p == end && !fields.empty()) return fields;
    fields.push_back(take_field(p, end));
    p = skip_padding(p, end);
    if (separator_ == ' ') continue;
    if (p == end) return fields;
    ++p;
  }
}

ZIPML_FUNCTION void CsvLoader::first_line(std::string_view line) {
  const std::string_view text = record(line);
  List<Field> fields = split(text);
  if (fields.size() >= 3 && separator_ != ' ' && fields.back().text.empty() && !fields.back().quoted) {
    trailing_ = true;
    fields.pop_back();
  }
  fields_ = format_.head.fields = fields.size();
  if (fields_ < 2 && !options_.predicting)
    throw Error(place(fields[0].place), "only one column, nothing is left beside the label",
                "two or more fields separated by " + separator_name(), quote_input(fields[0].text));
  if (options_.columns > 0 && fields_ != static_cast<std::size_t>(options_.columns) + 1)
    throw Error(place(text.data()), "wrong number of columns",
                std::to_string(options_.columns) + " features and a label",
                std::to_string(fields_) + " fields");
  const bool header =
      options_.header == Header::present || (options_.header == Header::detect && names_like(fields)) ||
      (options_.header == Header::detect && !(like() && like()->lacks_header) && looks_like_header(fields));
  if (header)
    for (const Field& field : fields) {
      if (field.text.find('\0') != std::string::npos)
        throw Error(place(field.place), "column name holds a NUL byte", "text", quote_input(field.text));
      format_.head.names.push_back(field.text);
      format_.head.columns.push_back(place(field.place).column);
    }
  names_ = format_.head.names;
  format_.head.name_apart(warnings_);
  format_.plan = like() ? plan_like(format_.head, *like(), options_, place())
                        : plan_table(format_.head, options_, place());
  for (const std::string& warning : format_.plan.warnings) warnings_.push_back(warning);
  rows_.begin();
  if (header) {  // its rows begin with the next line, which says more
    if (next_data_line(*reader_, line)) add_line(line);
    return;
  }
  rows_begun_ = true;
  look_at_label(fields);
  add_record(text);
}

ZIPML_FUNCTION void CsvLoader::first_line_of_more(std::string_view line) {
  const std::string_view text = record(line);
  if (!names_.empty()) {
    List<Field> fields = split(text);
    if (trailing_ && fields.size() == fields_ + 1) fields.pop_back();
    std::size_t in_place = 0, known = 0;
    for (std::size_t i = 0; i < fields.size(); ++i) {
      in_place += i < names_.size() && fields[i].text == names_[i] ? 1 : 0;
      known += std::find(names_.begin(), names_.end(), fields[i].text) != names_.end() ? 1 : 0;
    }
    if (in_place == names_.size() && fields.size() == names_.size()) return;
    if (2 * known >= names_.size())
      throw Error(place(text.data()), "the columns are not those of the first file, in their order",
                  list_of_names(names_), quote_input(text));
  }
  add_record(text);
}

ZIPML_FUNCTION void CsvLoader::look_at_label(const List<Field>& fields) {
  if (format_.plan.label < 0) return;
  if (like()) {
    format_.text_label = !like()->classes.empty();
    return;
  }
  const auto label = static_cast<std::size_t>(format_.plan.label);
  if (label >= fields.size()) return;
  std::string text = fields[label].text;
  if (options_.decimal == ',') std::replace(text.begin(), text.end(), ',', '.');
  format_.text_label = !is_missing(text) && is_word(text);
  for (const std::string& word : options_.categorical)
    for (const Index field :
         fields_of(word, format_.head, "LoadOptions::categorical (--categorical)", place()))
      format_.text_label = format_.text_label || field == format_.plan.label;
}

ZIPML_FUNCTION bool CsvLoader::looks_like_header(const List<Field>& fields) {
  const Field* name = nullptr;
  bool number = false, in_steps = fields.size() >= 3;
  double before = 0, step = 0;
  for (std::size_t i = 0; i < fields.size(); ++i) {
    const Field& field = fields[i];
    if (is_number(field.text)) {
      number = true;
      double value = 0;
      parse_number(field.text.data(), field.text.data() + field.text.size(), value);
      in_steps = in_steps && value == std::floor(value) && (i == 0 || value > before) &&
                 (i < 2 || value - before == step);
      step = value - before;
      before = value;
    } else {
      in_steps = false;
      if (name == nullptr && is_name(field.text)) name = &field;
    }
  }
  const std::string line = "line " + std::to_string(reader_->line_number());
  if (in_steps)
    warnings_.push_back(
        line + " counts " + fields.front().text + ", " + fields[1].text + ", ... " + fields.back().text +
        " and was read as a row: when these are the names of the columns, say so (--header yes, "
        "LoadOptions::header)");
  const bool labels_are_text =
      name != nullptr && number && name == &fields.back() && fields.size() > 2 && options_.label.empty();
  if (name != nullptr && number)
    warnings_.push_back(line + " was taken for a header because of " + quote_input(name->text) +
                        ", though it has numbers too: say whether it is (--header yes or no, "
                        "LoadOptions::header)" +
                        (labels_are_text ? "; with --header no the label may be text" : ""));
  return name != nullptr;
}

ZIPML_FUNCTION std::string CsvLoader::separator_name() const {
  switch (separator_) {
    case ' ':
      return options_.separator == ' ' ? "blanks" : ", ; tab or blanks";
    case '\t':
      return "tabs";
    default:
      return quote_input({&separator_, 1});
  }
}

ZIPML_FUNCTION void CsvLoader::refuse_width(std::string_view text, const char* at) const {
  const std::size_t got = split(text).size();
  throw Error(
      place(at), "row is of another length than the first line",
      std::to_string(fields_) + " fields separated by " + (separator_ == ' ' ? "blanks" : separator_name()),
      std::to_string(got));
}

}  // namespace detail

#endif

}  // namespace zipml::inline ZIPML_ABI
