#pragma once
/// \file
/// Room io: tables in text, separated by commas, semicolons, tabs or blanks: numbers, categories, labels,
/// missing cells.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include <zipml/base/buffer.hpp>
#include <zipml/base/error.hpp>
#include <zipml/base/float_offset.hpp>
#include <zipml/io/dataset.hpp>
#include <zipml/io/line_reader.hpp>
#include <zipml/io/number.hpp>
#include <zipml/io/parallel_lines.hpp>
#include <zipml/io/table_plan.hpp>
#include <zipml/io/text_index.hpp>

namespace zipml::inline ZIPML_ABI {

namespace detail {

/// What separates the fields of `line`: a semicolon, a tab, a comma, whichever comes first in this list and
/// occurs outside quotes; tabs that only pad commas do not count. Otherwise ' ', for runs of blanks.
char find_separator(std::string_view line);

/// Cells of a table that were not there, or were texts that training has not seen.
struct CellCounts {
  Index count = 0;
  Index line = 0;    ///< of the first, as
  Index column = 0;  ///< Place has them; the column is known to the whole reader alone
  Index field = 0;   ///< of the first
  List<Index> of_field;

  void add(const Place& at, std::size_t at_field, std::size_t fields) {
    if (of_field.empty()) of_field.resize(fields);
    if (count++ == 0) {
      line = at.line;
      column = at.column;
      field = static_cast<Index>(at_field);
    }
    ++of_field[at_field];
  }
  void join(const CellCounts& other, Index lines_before);
};

/// Reads a table: lines become records, records rows of doubles (a number, or the number of a category in its
/// slot, NaN where the cell is missing), and all rows together a Dataset.
class CsvLoader {
 public:
  CsvLoader(LineReader& reader, const LoadOptions& options);

  /// For a part of the lines that `whole` reads.
  CsvLoader(LineReader& reader, const CsvLoader& whole);

  Dataset load();

  /// One record, which begins with this line.
  void add_line(std::string_view line) { add_record(record(line)); }

  /// Whether all rows fit the memory limit.
  bool accepts(const List<const CsvLoader*>& parts) const {
    std::uint64_t rows = rows_;
    for (const CsvLoader* part : parts) rows += part->rows_;
    return memory_of(rows, width(), 8) <= options_.memory_limit;
  }
  void join(CsvLoader&& part, long lines_before);

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
  std::uint64_t width() const { return static_cast<std::uint64_t>(plan_.slot_count); }

  /// The record that begins with `line`: itself, or with the lines behind it where a quoted field goes on there.
  std::string_view record(std::string_view line);
  /// Where in `text` a quoted field begins that does not end there; null when none does.
  const char* open_quote(std::string_view text) const;
  /// The place of `p`, which points into the record.
  Place place(const char* p) const;
  Place place() const { return reader_.place(std::size_t{0}); }

  /// Reads the field at p, which is behind its padding, and sets p to its end: a separator, a blank before
  /// one, or the end of the record.
  Field take_field(const char*& p, const char* end) const;

  /// All fields of a record, taken without looking at what they hold.
  List<Field> split(std::string_view text) const;

  /// Decides whether the first line is a header, and what each column is.
  void first_line(std::string_view line);

  /// A line is a header when a field of it is a name: not a number, well or badly written, and not a missing
  /// value. If it has numbers too, then it may as well be a sample with a typing error, which is worth a
  /// warning; and so are numbers that look like names, 1, 2, 3.
  bool looks_like_header(const List<Field>& fields);

  /// Whether the fields are the names of the training table, numbers as they may be.
  bool names_like(const List<Field>& fields) const {
    if (!like_ || !like_->has_names()) return false;
    return std::all_of(like_->columns.begin(), like_->columns.end(), [&](const TableColumn& column) {
      return std::any_of(fields.begin(), fields.end(), [&](const Field& f) { return f.text == column.name; });
    });
  }

  static bool is_name(std::string_view text);
  /// A name that is no number with something wrong in it.
  static bool is_word(std::string_view text) {
    return is_name(text) && !is_digit(text[0]) && text[0] != '+' && text[0] != '-' && text[0] != '.';
  }
  static bool is_date(std::string_view text) {
    return text.size() > 4 && is_digit(text[0]) && text.find_first_of("-/:", 1) != std::string_view::npos;
  }

  /// Whether a label is text that stands for a class: seen in the first row.
  void look_at_label(const List<Field>& fields);

  /// Reads one cell into its slot, or the label.
  void take_cell(std::size_t i, std::string_view text, const char* at, double* row);
  double number_of(std::size_t i, std::string_view text, const char* at);
  void take_missing(std::size_t i, const char* at, double* out);

  /// The schema of a table that stands for itself, and how its categories are renumbered.
  void make_schema();
  Dataset make_dataset();
  void say_what_was_missing();
  std::string count_of(const CellCounts& cells, const char* what) const;
  /// Whether rows with missing cells are left out.
  bool drops_rows() const {
    return like_ ? like_->drops_missing && !options_.predicting : options_.missing == Missing::drop;
  }
  void fill_slots(double* row) const;
  void expand(const double* row, double* out) const;

  std::string describe(std::size_t field) const;

  std::string separator_name() const;

  [[noreturn]] void refuse_width(std::string_view text, const char* at) const;
  void require_memory(std::uint64_t cols, std::uint64_t bytes_per_value) const;

  LineReader& reader_;
  const LoadOptions& options_;
  std::shared_ptr<const Schema> like_;
  const bool is_part_ = false;
  char separator_ = ',';
  std::size_t fields_ = 0;  ///< of every line, the label included
  bool trailing_ = false;   ///< every line ends in one more separator
  bool rows_begun_ = false;
  TableHead head_;
  TablePlan plan_;
  bool text_label_ = false;

  std::string record_;    ///< of several lines
  long record_line_ = 0;  ///< its first
  std::uint64_t rows_ = 0;
  Pieces<double> values_;  ///< rows x slot_count
  Pieces<double> labels_;
  List<TextIndex> categories_;  ///< of each slot; empty for numbers
  TextIndex classes_;
  List<std::string> ids_;
  CellCounts missing_, unseen_, unlabelled_, huge_;
  long comments_ = 0, blanks_ = 0;

  std::shared_ptr<const Schema> schema_;
  List<List<Index>> renumbered_;  ///< category of a slot in the order it was met -> its place in the schema
  Dataset data_;
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
/// exist, or whose name two have; nothing beside the label; no rows; a result that would exceed
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

ZIPML_FUNCTION void CellCounts::join(const CellCounts& other, Index lines_before) {
  if (other.count == 0) return;
  if (count == 0) {
    line = other.line + lines_before;
    field = other.field;
  }
  count += other.count;
  if (of_field.empty()) of_field.resize(other.of_field.size());
  for (std::size_t i = 0; i < other.of_field.size(); ++i) of_field[i] += other.of_field[i];
}

ZIPML_FUNCTION CsvLoader::CsvLoader(LineReader& reader, const LoadOptions& options)
    : reader_(reader), options_(options), like_(options.like ? as_table(options) : nullptr) {
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
    : reader_(reader),
      options_(whole.options_),
      like_(whole.like_),
      is_part_(true),
      separator_(whole.separator_),
      fields_(whole.fields_),
      trailing_(whole.trailing_),
      rows_begun_(whole.rows_begun_),
      head_(whole.head_),
      plan_(whole.plan_),
      text_label_(whole.text_label_) {
  // Of a table like another one the numbers of texts are given; else a part numbers its own.
  if (like_) {
    categories_ = whole.categories_;
    classes_ = whole.classes_;
  } else {
    categories_.resize(whole.categories_.size());
  }
}

ZIPML_FUNCTION Dataset CsvLoader::load() {
  std::string_view line;
  if (!next_data_line(reader_, line)) throw_no_data(reader_, "rows of numbers");
  const long comments_before = reader_.comments();  // at the top they are a file's title
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
  const long blanks_before = reader_.blanks();
  if (head_.fields > 1 && !head_.named() && comments_before > 0) {
    const std::string& comment = reader_.comment();  // the last one
    std::size_t fields = 0;
    if (open_quote(comment) == nullptr) fields = split(trimmed(comment)).size();
    if (fields == fields_)
      data_.warnings.push_back(
          quote_input(comment) +
          " was skipped as a comment, though it has as many fields as the rows: when these are "
          "the names of the columns, take the # away");
  }
  add_lines(reader_, *this, rows_begun_ ? thread_count(options_.threads) : 1);
  if (rows_ == 0 && unlabelled_.count + missing_.count == 0)
    throw Error(reader_.place(), "no data", "rows of numbers after the header", "none");
  if (comments_ += reader_.comments() - comments_before; comments_ > 0)
    data_.warnings.push_back(std::to_string(comments_) +
                             (comments_ == 1 ? " line that starts" : " lines that start") +
                             " with # behind the first row was skipped as a comment");
  if (options_.missing == Missing::error && missing_.count > 0 && !like_) {
    throw Error(
        Place{reader_.place().file, static_cast<long>(missing_.line), static_cast<long>(missing_.column)},
        describe(static_cast<std::size_t>(missing_.field)) + " is missing",
        "a value, or LoadOptions::missing (--missing drop, mean or indicator)",
        count_of(missing_, " missing cell"));
  }
  blanks_ += reader_.blanks() - blanks_before;
  if (fields_ == 1 && blanks_ > 0)
    data_.warnings.push_back(std::to_string(blanks_) +
                             (blanks_ == 1 ? " blank line was skipped" : " blank lines were skipped") +
                             ": in a table of one column a missing cell is written NA or \"\"");
  make_schema();
  say_what_was_missing();
  return make_dataset();
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
  record_line_ = reader_.line_number();
  record_.assign(line);
  std::size_t begin = static_cast<std::size_t>(open - line.data());
  // From the opening quote on: whether the text behind what has been looked at is inside quotes is known.
  for (;;) {
    std::string_view more;
    if (!reader_.next(more))
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
  if (record_line_ == 0) return reader_.place(p);
  Place result = reader_.place();
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
  const std::uint64_t bytes = memory_of(rows_, cols, bytes_per_value);
  if (bytes > options_.memory_limit) throw_memory(place(), rows_, cols, bytes, options_.memory_limit);
}

ZIPML_FUNCTION void CsvLoader::add_record(std::string_view text) {
  if (!rows_begun_) {
    rows_begun_ = true;
    const List<Field> fields = split(text);
    trailing_ = trailing_ || (separator_ != ' ' && fields.size() == fields_ + 1 && !fields.back().quoted &&
                              fields.back().text.empty());
    look_at_label(fields);
  }
  ++rows_;
  require_memory(width(), 8);
  double* const row = values_.extend(static_cast<std::size_t>(plan_.slot_count));
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
    const FieldRole role = plan_.roles[i];
    const char* after = nullptr;
    if (role == FieldRole::number || (role == FieldRole::label && !text_label_)) {
      double value = 0;
      after = options_.decimal == '.' ? parse_number(p, end, value) : nullptr;
      if (after != nullptr && after < end && *after != separator_ && !pads(*after)) after = nullptr;
      if (after != nullptr) {
        const char* const behind = skip_padding(after, end);
        if (separator_ != ' ' && behind < end && *behind != separator_) {
          after = nullptr;
        } else {
          if (after - p >= 17 && std::fabs(value) >= 9007199254740992.0) huge_.add(place(p), i, fields_);
          if (static_cast<Index>(i) == plan_.id) ids_.emplace_back(p, after);
          *(role == FieldRole::label ? labels_.extend(1) : row + plan_.slot_of[i]) = value;
          p = behind;
        }
      }
    }
    if (after == nullptr) {  // text, in quotes, or wrong
      const char* const at = p;
      const Field field = take_field(p, end);
      if (static_cast<Index>(i) == plan_.id) ids_.push_back(field.text);
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
  if (plan_.label < 0) *labels_.extend(1) = std::numeric_limits<double>::quiet_NaN();
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
    const bool text_column = plan_.roles[i] == FieldRole::number && (is_word(text) || is_date(text));
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
  const Index slot = plan_.slot_of[i];
  *out = std::numeric_limits<double>::quiet_NaN();
  bool refused = options_.missing == Missing::error;
  if (like_) {
    const TableColumn& column = like_->columns[static_cast<std::size_t>(slot)];
    refused = !like_->drops_missing && !column.categorical && !column.fill;
    if (column.categorical) {
      const Index known = categories_[static_cast<std::size_t>(slot)].find("");
      refused = known < 0 && !like_->drops_missing;
      if (known >= 0) *out = static_cast<double>(known);
      if (known < 0 && !refused && options_.predicting) {  // training has left such rows out
        *out = -1.0;
        return unseen_.add(place(at), i, fields_);
      }
    }
    if (refused)
      throw Error(place(at), describe(i) + " is missing",
                  "a value, as the training table has in every row (it was read without --missing)",
                  "nothing");
  } else if (refused && is_part_) {
    throw Error(place(at), "missing");  // the whole reader reads it again, and counts
  }
  missing_.add(place(at), i, fields_);
}

ZIPML_FUNCTION void CsvLoader::take_cell(std::size_t i, std::string_view text, const char* at, double* row) {
  const bool absent = is_missing(text) || is_nonfinite(text);
  switch (plan_.roles[i]) {
    case FieldRole::ignored:
      return;
    case FieldRole::number: {
      double* const out = row + plan_.slot_of[i];
      const bool asked = options_.missing != Missing::error || like_;
      // NaN and infinities that nobody has asked to be missing are wrong.
      if (asked ? absent && !(is_nonfinite(text) && text.find("nf") != std::string_view::npos)
                : is_missing(text))
        return take_missing(i, at, out);
      *out = number_of(i, text, at);
      return;
    }
    case FieldRole::category: {
      double* const out = row + plan_.slot_of[i];
      TextIndex& known = categories_[static_cast<std::size_t>(plan_.slot_of[i])];
      if (absent) return take_missing(i, at, out);
      Index category = like_ ? known.find(text) : known.add(text);
      if (category < 0) {
        unseen_.add(place(at), i, fields_);
        *out = -1.0;
        return;
      }
      *out = static_cast<double>(category);
      return;
    }
    case FieldRole::label:
      if (absent && (options_.predicting || (options_.missing != Missing::error && is_missing(text)))) {
        *labels_.extend(1) = std::numeric_limits<double>::quiet_NaN();
        if (!options_.predicting) unlabelled_.add(place(at), i, fields_);
        return;
      }
      if (!text_label_) {
        *labels_.extend(1) = number_of(i, text, at);
        return;
      }
      if (absent) throw_bad_number(place(at), describe(i), text);
      const Index known = like_ ? classes_.find(text) : classes_.add(text);
      if (known < 0)
        throw Error(place(at), describe(i) + " is of no class that training has seen",
                    list_of_names(like_->classes), quote_input(text));
      *labels_.extend(1) = static_cast<double>(known);
      return;
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
  fields_ = head_.fields = fields.size();
  if (fields_ < 2 && !options_.predicting)
    throw Error(place(fields[0].place), "only one column, nothing is left beside the label",
                "two or more fields separated by " + separator_name(), quote_input(fields[0].text));
  if (options_.columns > 0 && fields_ != static_cast<std::size_t>(options_.columns) + 1)
    throw Error(place(text.data()), "wrong number of columns",
                std::to_string(options_.columns) + " features and a label",
                std::to_string(fields_) + " fields");
  const bool header =
      options_.header == Header::present || (options_.header == Header::detect && names_like(fields)) ||
      (options_.header == Header::detect && !(like_ && like_->lacks_header) && looks_like_header(fields));
  if (header)
    for (const Field& field : fields) {
      if (field.text.find('\0') != std::string::npos)
        throw Error(place(field.place), "column name holds a NUL byte", "text", quote_input(field.text));
      head_.names.push_back(field.text);
      head_.columns.push_back(place(field.place).column);
    }
  head_.name_apart(data_.warnings);
  plan_ = like_ ? plan_like(head_, *like_, options_, place()) : plan_table(head_, options_, place());
  for (const std::string& warning : plan_.warnings) data_.warnings.push_back(warning);
  categories_.resize(static_cast<std::size_t>(plan_.slot_count));
  if (like_) {
    for (std::size_t slot = 0; slot < categories_.size(); ++slot)
      for (const std::string& category : like_->columns[slot].categories) categories_[slot].add(category);
    for (const std::string& name : like_->classes) classes_.add(name);
  }
  if (header) {  // its rows begin with the next line, which says more
    if (next_data_line(reader_, line)) add_line(line);
    return;
  }
  rows_begun_ = true;
  look_at_label(fields);
  add_record(text);
}

ZIPML_FUNCTION void CsvLoader::look_at_label(const List<Field>& fields) {
  if (plan_.label < 0) return;
  if (like_) {
    text_label_ = !like_->classes.empty();
    return;
  }
  const auto label = static_cast<std::size_t>(plan_.label);
  if (label >= fields.size()) return;
  std::string text = fields[label].text;
  if (options_.decimal == ',') std::replace(text.begin(), text.end(), ',', '.');
  text_label_ = !is_missing(text) && is_word(text);
  for (const std::string& word : options_.categorical)
    for (const Index field : fields_of(word, head_, "LoadOptions::categorical (--categorical)", place()))
      text_label_ = text_label_ || field == plan_.label;
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
  const std::string line = "line " + std::to_string(reader_.line_number());
  if (in_steps)
    data_.warnings.push_back(
        line + " counts " + fields.front().text + ", " + fields[1].text + ", ... " + fields.back().text +
        " and was read as a row: when these are the names of the columns, say so (--header yes, "
        "LoadOptions::header)");
  const bool labels_are_text =
      name != nullptr && number && name == &fields.back() && fields.size() > 2 && options_.label.empty();
  if (name != nullptr && number)
    data_.warnings.push_back(line + " was taken for a header because of " + quote_input(name->text) +
                             ", though it has numbers too: say whether it is (--header yes or no, "
                             "LoadOptions::header)" +
                             (labels_are_text ? "; with --header no the label may be text" : ""));
  return name != nullptr;
}

ZIPML_FUNCTION bool CsvLoader::is_name(std::string_view text) {
  if (is_missing(text) || is_nonfinite(text)) return false;
  bool digit = false, other = false;
  for (const char c : text) {
    digit = digit || is_digit(c);
    other = other || !(is_digit(c) || std::string_view("+-.,eE").find(c) != std::string_view::npos);
  }
  return other || !digit;
}

ZIPML_FUNCTION void CsvLoader::join(CsvLoader&& part, long lines_before) {
  if (!like_) {  // the part's numbers of categories become ours
    const auto renumber = [](const TextIndex& from, TextIndex& to, List<double>& numbers) {
      bool same = true;
      for (const std::string& text : from.texts()) {
        numbers.push_back(static_cast<double>(to.add(text)));
        same = same && numbers.back() == static_cast<double>(numbers.size() - 1);
      }
      if (same) numbers.clear();
      return !same;
    };
    const auto slot_count = static_cast<std::size_t>(plan_.slot_count);
    for (std::size_t slot = 0; slot < slot_count; ++slot) {
      List<double> numbers;
      if (part.categories_[slot].size() == 0 || !renumber(part.categories_[slot], categories_[slot], numbers))
        continue;
      part.values_.change([&](std::span<double> values) {
        for (std::size_t k = slot; k < values.size(); k += slot_count)
          if (!std::isnan(values[k])) values[k] = numbers[static_cast<std::size_t>(values[k])];
      });
    }
    List<double> numbers;
    if (renumber(part.classes_, classes_, numbers))
      part.labels_.change([&](std::span<double> values) {
        for (double& v : values)
          if (!std::isnan(v)) v = numbers[static_cast<std::size_t>(v)];
      });
  }
  rows_ += part.rows_;
  values_.append(std::move(part.values_));
  labels_.append(std::move(part.labels_));
  for (std::string& id : part.ids_) ids_.push_back(std::move(id));
  missing_.join(part.missing_, lines_before);
  unseen_.join(part.unseen_, lines_before);
  unlabelled_.join(part.unlabelled_, lines_before);
  huge_.join(part.huge_, lines_before);
  comments_ += part.reader_.comments();
  blanks_ += part.reader_.blanks();
}

ZIPML_FUNCTION void CsvLoader::say_what_was_missing() {
  const auto say = [&](const CellCounts& cells, const char* what, const char* then) {
    if (cells.count > 0)
      data_.warnings.push_back(count_of(cells, what) + ", the first in line " + std::to_string(cells.line) +
                               ": " + then);
  };
  bool text = false;
  for (std::size_t i = 0; i < missing_.of_field.size(); ++i)
    text = text || (missing_.of_field[i] > 0 && plan_.roles[i] == FieldRole::category);
  say(missing_, " missing cell",
      drops_rows() ? "their rows are left out"
      : text       ? "numbers are read as the training mean of their column, texts as a category of their own"
                   : "read as the training mean of their column");
  say(unlabelled_, " missing label", "their rows are left out");
  say(unseen_, " unseen text", "training has not met it: read as none of its categories");
  for (std::size_t i = 0; i < huge_.of_field.size(); ++i)
    if (huge_.of_field[i] > 0)
      data_.warnings.push_back(
          describe(i) +
          " has whole numbers beyond 2^53, which double precision cannot tell apart: read them as text "
          "(LoadOptions::categorical) or leave them out (LoadOptions::ignore)");
}

ZIPML_FUNCTION std::string CsvLoader::count_of(const CellCounts& cells, const char* what) const {
  std::string text = std::to_string(cells.count) + what + (cells.count == 1 ? "" : "s");
  Index columns = 0;
  std::string list;
  for (std::size_t i = 0; i < cells.of_field.size(); ++i) {
    if (cells.of_field[i] == 0 || ++columns > 10) continue;
    list += (columns > 1 ? ", " : "") +
            (head_.named() ? quote_input(head_.names[i]) : "column " + std::to_string(i + 1)) + ": " +
            std::to_string(cells.of_field[i]);
  }
  if (columns > 10) list += " and " + std::to_string(columns - 10) + " columns more";
  return cells.count == 1 ? text : text + " (" + list + ")";
}

ZIPML_FUNCTION void CsvLoader::make_schema() {
  if (like_) {
    schema_ = like_;
    return;
  }
  auto schema = std::make_shared<Schema>();
  schema->fields = static_cast<Index>(fields_);
  schema->label_field = plan_.label;
  if (head_.named()) schema->label_name = head_.names[static_cast<std::size_t>(plan_.label)];
  schema->drops_missing = options_.missing == Missing::drop;
  schema->lacks_header = !head_.named();

  const auto sorted = [](const TextIndex& texts, List<std::string>& out, List<Index>& places) {
    List<Index> order;
    for (Index k = 0; k < texts.size(); ++k) order.push_back(k);
    const auto text = [&](Index k) -> const std::string& {
      return texts.texts()[static_cast<std::size_t>(k)];
    };
    std::sort(order.begin(), order.end(), [&](Index a, Index b) { return text(a) < text(b); });
    places.resize(order.size());
    for (const Index k : order) {
      places[static_cast<std::size_t>(k)] = static_cast<Index>(out.size());
      out.push_back(text(k));
    }
  };
  // Missing numbers are read as the mean of those that are there.
  const auto slot_count = static_cast<std::size_t>(plan_.slot_count);
  Buffer<double> sums(plan_.slot_count);
  Buffer<Index> counts(plan_.slot_count);
  if (options_.missing != Missing::error)
    values_.for_each_piece([&](std::span<const double> values) {
      for (std::size_t k = 0; k < values.size(); k += slot_count)
        for (std::size_t slot = 0; slot < slot_count; ++slot)
          if (const double v = values[k + slot]; !std::isnan(v)) {
            sums[static_cast<Index>(slot)] += v;
            ++counts[static_cast<Index>(slot)];
          }
    });
  renumbered_.resize(slot_count);
  for (std::size_t i = 0; i < fields_; ++i) {
    if (plan_.slot_of[i] < 0) continue;
    const Index slot = plan_.slot_of[i];
    TableColumn column;
    if (head_.named()) column.name = head_.names[i];
    column.field = static_cast<Index>(i);
    column.categorical = plan_.roles[i] == FieldRole::category;
    const bool has_missing = missing_.count > 0 && missing_.of_field[i] > 0;
    if (column.categorical) {
      TextIndex& texts = categories_[static_cast<std::size_t>(slot)];
      if (has_missing && options_.missing != Missing::drop) texts.add("");
      sorted(texts, column.categories, renumbered_[static_cast<std::size_t>(slot)]);
    } else if (options_.missing != Missing::error) {
      column.fill = counts[slot] > 0 ? sums[slot] / static_cast<double>(counts[slot]) : 0.0;
      column.flagged = has_missing && options_.missing == Missing::indicator;
    }
    schema->cols += column.features();
    if (head_.named()) {
      if (!column.categorical) schema->names.push_back(column.name);
      if (column.flagged) schema->names.push_back(column.name + " is missing");
      for (const std::string& category : column.categories)
        schema->names.push_back(category.empty() ? column.name + " is missing"
                                                 : column.name + "=" + category);
    }
    schema->columns.push_back(std::move(column));
  }
  if (text_label_) {
    List<Index> places;
    sorted(classes_, schema->classes, places);
    labels_.change([&](std::span<double> values) {
      for (double& v : values)
        if (!std::isnan(v)) v = static_cast<double>(places[static_cast<std::size_t>(v)]);
    });
  }
  schema_ = std::move(schema);
}

ZIPML_FUNCTION void CsvLoader::expand(const double* row, double* out) const {
  for (std::size_t slot = 0; slot < schema_->columns.size(); ++slot) {
    const TableColumn& column = schema_->columns[slot];
    const double v = row[slot];
    if (column.categorical) {
      const auto count = column.categories.size();
      std::fill_n(out, count, 0.0);
      Index place = -1;
      if (!std::isnan(v) && v >= 0.0)
        place = like_ ? static_cast<Index>(v) : renumbered_[slot][static_cast<std::size_t>(v)];
      else if (std::isnan(v) && count > 0 && column.categories[0].empty())
        place = 0;  // "" comes first in byte order
      if (place >= 0) out[place] = 1.0;
      out += count;
    } else {
      *out++ = std::isnan(v) ? column.fill.value_or(0.0) : v;
      if (column.flagged) *out++ = std::isnan(v) ? 1.0 : 0.0;
    }
  }
}

ZIPML_FUNCTION Dataset CsvLoader::make_dataset() {
  const bool drops = drops_rows();
  const auto slot_count = static_cast<std::size_t>(plan_.slot_count);
  const Index d = schema_->cols;
  if (d > 2 * plan_.slot_count) require_memory(static_cast<std::uint64_t>(d), 4);  // of categories
  // Rows that are left out: without a label, or with a missing cell.
  Buffer<std::uint8_t> kept(static_cast<Index>(rows_));
  Buffer<double> labels(static_cast<Index>(rows_));
  labels_.copy_to(labels.data());
  labels_ = {};
  Index n = 0, at = 0;
  values_.for_each_piece([&](std::span<const double> values) {
    for (std::size_t k = 0; k < values.size(); k += slot_count, ++at) {
      bool keep = options_.predicting || !std::isnan(labels[at]);
      if (drops)
        for (std::size_t slot = 0; slot < slot_count; ++slot) keep = keep && !std::isnan(values[k + slot]);
      kept[at] = keep ? 1 : 0;
      n += keep ? 1 : 0;
    }
  });
  if (n == 0)
    throw Error(reader_.place(), "no rows are left", "rows with a label and without missing cells",
                std::to_string(rows_) + " that have not");

  // What each column loses before it is rounded to float32, from a sample that is spread over all rows.
  Buffer<double> row(d), low(d), high(d);
  Buffer<std::uint8_t> inexact(d);
  const Index wanted = std::clamp<Index>((Index{1} << 23) / std::max<Index>(d, 1), 16, offset_sample_rows);
  const Index m = (std::min)(n, wanted);
  Buffer<double> sample(checked_product(m, d, "a sample of the columns"));
  Index i = 0, next = 0;
  at = 0;
  values_.for_each_piece([&](std::span<const double> values) {
    for (std::size_t k = 0; k < values.size(); k += slot_count, ++at) {
      if (kept[at] == 0) continue;
      expand(values.data() + k, row.data());
      for (Index j = 0; j < d; ++j) {
        const double v = row[j];
        if (i == 0 || v < low[j]) low[j] = v;
        if (i == 0 || v > high[j]) high[j] = v;
        inexact[j] |= static_cast<std::uint8_t>(static_cast<double>(static_cast<float>(v)) != v);
      }
      if (next < m && offset_sample_row(next, m, n) == i) {
        for (Index j = 0; j < d; ++j) sample[j * m + next] = row[j];
        ++next;
      }
      ++i;
    }
  });
  std::shared_ptr<Buffer<double>> offsets;
  const auto warn_of_merging = [&](const std::string& name, double share) {
    data_.warnings.push_back(name + ": float32 cannot tell apart " +
                             std::to_string(static_cast<int>(100.0 * share + 0.5)) +
                             " % of the different values of a sample: split it into parts or leave it out");
  };
  for (Index j = 0; j < d; ++j) {
    if (inexact[j] == 0) continue;
    const FloatOffset found = float_offset(sample.data() + j * m, next, low[j], high[j]);
    if (found.merged > 0.0) warn_of_merging(schema_->describe(j), found.merged);
    if (found.offset == 0.0) continue;
    if (!offsets) offsets = std::make_shared<Buffer<double>>(d);
    (*offsets)[j] = found.offset;
  }
  data_.offsets = offsets;

  data_.rows = n;
  data_.cols = d;
  data_.schema = schema_;
  data_.has_labels = plan_.label >= 0;
  data_.values = Buffer<float>::uninitialised(checked_product(n, d, "the sample matrix"));
  float* out = data_.values.data();
  at = 0;
  values_.drain([&](std::span<const double> values) {
    for (std::size_t k = 0; k < values.size(); k += slot_count, ++at) {
      if (kept[at] == 0) continue;
      expand(values.data() + k, row.data());
      for (Index j = 0; j < d; ++j) *out++ = static_cast<float>(row[j] - (offsets ? (*offsets)[j] : 0.0));
    }
  });
  Buffer<double> left(n);
  for (at = 0, i = 0; at < labels.size(); ++at) {
    if (kept[at] == 0) continue;
    if (!ids_.empty()) data_.ids.push_back(std::move(ids_[static_cast<std::size_t>(at)]));
    left[i++] = labels[at];
  }
  const FloatOffset of_labels = round_labels(left, data_);
  if (of_labels.merged > 0.0) warn_of_merging("the label", of_labels.merged);
  data_.source = reader_.source();
  if (!like_) warn_of_order(data_);
  return std::move(data_);
}

ZIPML_FUNCTION std::string CsvLoader::describe(std::size_t field) const {
  const bool label = static_cast<Index>(field) == plan_.label;
  std::string text = (label ? "label (field " : "field ") + std::to_string(field + 1);
  if (head_.named()) text += (label ? ", " : " (") + quote_input(head_.names[field]) + (label ? "" : ")");
  return label ? text + ")" : text;
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
