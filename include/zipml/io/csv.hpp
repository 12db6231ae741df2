#pragma once
/// \file
/// Room io: tables of numbers in text, separated by commas, semicolons, tabs or blanks.

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <zipml/base/buffer.hpp>
#include <zipml/base/error.hpp>
#include <zipml/io/dataset.hpp>
#include <zipml/io/line_reader.hpp>
#include <zipml/io/number.hpp>
#include <zipml/io/parallel_lines.hpp>

namespace zipml::inline ZIPML_ABI {

namespace detail {

/// What separates the fields of `line`: a semicolon, a tab, a comma, whichever comes first in this list and
/// occurs outside quotes; tabs that only pad commas do not count. Otherwise ' ', for runs of blanks.
char find_separator(std::string_view line);

class CsvLoader {
 public:
  CsvLoader(LineReader& reader, const LoadOptions& options);

  /// For a part of the lines that `whole` reads.
  CsvLoader(LineReader& reader, const CsvLoader& whole);

  Dataset load();

  /// One line of a row.
  void add_line(std::string_view line);

  /// Whether all rows fit the memory limit.
  bool accepts(const List<const CsvLoader*>& parts) const {
    std::uint64_t rows = rows_;
    for (const CsvLoader* part : parts) rows += part->rows_;
    return fits_memory(rows, fields_ - 1, options_.memory_limit);
  }
  void join(CsvLoader&& part) {
    rows_ += part.rows_;
    values_.append(std::move(part.values_));
    labels_.append(std::move(part.labels_));
  }

 private:
  struct Field {
    std::string text;  ///< without quotes and the blanks around it
    const char* place;
  };

  /// What may surround a field: blanks, except the tab that separates.
  bool pads(char c) const { return c == ' ' || (c == '\t' && separator_ != '\t'); }
  const char* skip_padding(const char* p, const char* end) const {
    while (p < end && pads(*p)) ++p;
    return p;
  }

  /// Reads the field at p, which is behind its padding, and sets p to its end: a separator, a blank before
  /// one, or the end of the line.
  Field take_field(const char*& p, const char* end) const;

  /// All fields of a line, taken without looking at what they hold.
  List<Field> split(std::string_view line) const;

  /// Decides whether the first line is a header, and where the label is.
  void first_line(std::string_view line);

  /// A line is a header when a field of it is a name: not a number, well or badly written, and not a missing
  /// value. If it has numbers too, then it may as well be a sample with a typing error, which is worth a
  /// warning.
  bool looks_like_header(const List<Field>& fields);

  static bool is_name(std::string_view text);

  void choose_label(const List<Field>& fields, bool header);

  std::string describe(std::size_t field) const;

  std::string separator_name() const;

  [[noreturn]] void refuse_width(std::string_view line, const char* place) const;

  LineReader& reader_;
  const LoadOptions& options_;
  char separator_ = ',';
  std::size_t fields_ = 0;  ///< of every line, the label included
  std::size_t label_ = 0;   ///< which field, from 0
  std::uint64_t rows_ = 0;
  List<std::string> names_;
  Pieces<float> values_;
  Pieces<float> labels_;
  Dataset data_;
};

}  // namespace detail

/// Loads a table of numbers from `reader`, one sample per line, one of the fields the label (options.label;
/// the last one if that is empty).
///
/// The separator is found in the first line: ';', tab, ',' or runs of blanks. A first line that has a name in
/// it is the header (options.header). Fields may be in double quotes, a quote inside doubled, and have blanks
/// around them; a quoted field ends in its line. Blank lines and lines that start with '#' are skipped. All
/// values become float32 and must be finite. With options.columns a file of another number of features is an
/// Error. O(text); memory once more that of the dense result.
///
/// Errors, with file, line and column: a field that is missing, not a number (decimal commas included), not
/// finite or too large; a row of another length than the first; a label that does not exist, or whose name
/// two columns have; fewer than two columns; no rows; a result that would exceed options.memory_limit.
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
    : reader_(reader), options_(options) {
  const char s = options.separator;
  const bool letter = (s >= 'a' && s <= 'z') || (s >= 'A' && s <= 'Z');
  if (letter || is_digit(s) ||
      (s != '\0' && std::string_view("+-.\"#\r\n\\").find(s) != std::string_view::npos))
    throw Error("LoadOptions::separator cannot separate numbers", "a character such as ',' ';' '\\t' ' ' '|'",
                quote_input({&s, 1}));
  if (options.columns < 0)
    throw Error("LoadOptions::columns is out of range", "0 or more", std::to_string(options.columns));
}

ZIPML_FUNCTION CsvLoader::CsvLoader(LineReader& reader, const CsvLoader& whole)
    : reader_(reader),
      options_(whole.options_),
      separator_(whole.separator_),
      fields_(whole.fields_),
      label_(whole.label_),
      names_(whole.names_) {}

ZIPML_FUNCTION Dataset CsvLoader::load() {
  std::string_view line;
  if (!next_data_line(reader_, line)) throw_no_data(reader_, "rows of numbers");
  separator_ = options_.separator != '\0' ? options_.separator : find_separator(line);
  first_line(line);
  add_lines(reader_, *this, thread_count(options_.threads));
  if (rows_ == 0) throw Error(reader_.place(), "no data", "rows of numbers after the header", "none");

  data_.rows = static_cast<Index>(rows_);
  data_.cols = static_cast<Index>(fields_) - 1;
  data_.labels = Buffer<float>(data_.rows);
  labels_.copy_to(data_.labels.data());
  data_.values = Buffer<float>(checked_product(data_.rows, data_.cols, "the sample matrix"));
  values_.copy_to(data_.values.data());
  data_.source = reader_.source();
  warn_of_order(data_);
  return std::move(data_);
}

ZIPML_FUNCTION void CsvLoader::add_line(std::string_view line) {
  ++rows_;
  if (!fits_memory(rows_, fields_ - 1, options_.memory_limit))
    throw_memory(reader_.place(line.data()), rows_, fields_ - 1, options_.memory_limit);
  float* out = values_.extend(fields_ - 1);
  const char* p = line.data();
  const char* const end = p + line.size();
  for (std::size_t i = 0;; ++i) {
    p = skip_padding(p, end);
    if (separator_ == ' ' && p == end) {
      if (i < fields_) refuse_width(line, end);
      return;
    }
    if (i == fields_) refuse_width(line, p);
    float value = 0;
    const char* after = parse_number(p, end, value);
    if (after != nullptr && after < end && *after != separator_ && !pads(*after)) after = nullptr;
    if (after != nullptr) {
      const char* const behind = skip_padding(after, end);
      if (separator_ != ' ' && behind < end && *behind != separator_)
        after = nullptr;
      else
        p = behind;
    }
    if (after == nullptr) {  // in quotes, or wrong
      const char* const place = p;
      const Field field = take_field(p, end);
      if (parse_number(field.text.data(), field.text.data() + field.text.size(), value) !=
              field.text.data() + field.text.size() ||
          field.text.empty())
        throw_bad_number(reader_.place(place), describe(i), field.text);
      p = skip_padding(p, end);
    }
    *(i == label_ ? labels_.extend(1) : out++) = value;
    if (separator_ == ' ') continue;
    if (p == end) {
      if (i + 1 < fields_) refuse_width(line, end);
      return;
    }
    ++p;
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
  for (++p;; ++p) {
    if (p == end)
      throw Error(reader_.place(field.place), "quoted field does not end in its line", "a closing \"",
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
    throw Error(reader_.place(behind), "text behind the closing quote", "the end of the field",
                quote_input({behind, static_cast<std::size_t>(end - behind)}));
  field.text = std::string(trimmed(field.text));
  return field;
}

ZIPML_FUNCTION List<CsvLoader::Field> CsvLoader::split(std::string_view line) const {
  List<Field> fields;
  const char* p = line.data();
  const char* const end = p + line.size();
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
  const List<Field> fields = split(line);
  fields_ = fields.size();
  if (fields_ < 2)
    throw Error(reader_.place(fields[0].place), "only one column, nothing is left beside the label",
                "two or more fields separated by " + separator_name(), quote_input(fields[0].text));
  if (options_.columns > 0 && fields_ != static_cast<std::size_t>(options_.columns) + 1)
    throw Error(reader_.place(line.data()), "wrong number of columns",
                std::to_string(options_.columns) + " features and a label",
                std::to_string(fields_) + " fields");
  const bool header =
      options_.header == Header::present || (options_.header == Header::detect && looks_like_header(fields));
  choose_label(fields, header);
  if (!header) return add_line(line);

  for (std::size_t i = 0; i < fields_; ++i) {
    if (fields[i].text.find('\0') != std::string::npos)
      throw Error(reader_.place(fields[i].place), "column name holds a NUL byte", "text",
                  quote_input(fields[i].text));
    names_.push_back(fields[i].text);
    if (i == label_)
      data_.label_name = fields[i].text;
    else
      data_.column_names.push_back(fields[i].text);
  }
}

ZIPML_FUNCTION bool CsvLoader::looks_like_header(const List<Field>& fields) {
  const Field* name = nullptr;
  bool number = false;
  for (const Field& field : fields) {
    if (is_number(field.text))
      number = true;
    else if (name == nullptr && is_name(field.text))
      name = &field;
  }
  if (name != nullptr && number)
    data_.warnings.push_back("line " + std::to_string(reader_.line_number()) +
                             " was taken for a header because of " + quote_input(name->text) +
                             ", though it has numbers too: say whether it is (LoadOptions::header)");
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

ZIPML_FUNCTION void CsvLoader::choose_label(const List<Field>& fields, bool header) {
  const std::string& wanted = options_.label;
  label_ = fields_ - 1;
  if (wanted.empty()) return;
  if (header) {
    const auto matches = [&](const Field& field) { return field.text == wanted; };
    const auto found = std::find_if(fields.begin(), fields.end(), matches);
    if (found != fields.end()) {
      label_ = static_cast<std::size_t>(found - fields.begin());
      const auto again = std::find_if(found + 1, fields.end(), matches);
      if (again == fields.end()) return;
      throw Error(
          reader_.place(again->place), "two columns have the name of the label",
          "one column " + quote_input(wanted) + " (or its number as LoadOptions::label)",
          "columns " + std::to_string(label_ + 1) + " and " + std::to_string(again - fields.begin() + 1));
    }
  }
  if (std::all_of(wanted.begin(), wanted.end(), is_digit)) {
    std::size_t number = 0;
    const std::from_chars_result result =
        std::from_chars(wanted.data(), wanted.data() + wanted.size(), number);
    if (result.ec != std::errc{} || number < 1 || number > fields_)
      throw Error(reader_.place(), "label column is out of range",
                  "1 to " + std::to_string(fields_) + ", or a name", quote_input(wanted));
    label_ = number - 1;
    return;
  }
  if (!header)
    throw Error(reader_.place(), "label column cannot be found by name, there is no header",
                "a number from 1 to " + std::to_string(fields_), quote_input(wanted));
  constexpr std::size_t most_names = 10;
  std::string list;
  for (std::size_t i = 0; i < std::min(fields_, most_names); ++i)
    list += (i > 0 ? ", " : "") + quote_input(fields[i].text);
  if (fields_ > most_names) list += " and " + std::to_string(fields_ - most_names) + " more";
  throw Error(reader_.place(fields[0].place), "no column has the name of the label", "one of " + list,
              quote_input(wanted));
}

ZIPML_FUNCTION std::string CsvLoader::describe(std::size_t field) const {
  std::string text = (field == label_ ? "label (field " : "field ") + std::to_string(field + 1);
  if (!names_.empty())
    text += (field == label_ ? ", " : " (") + quote_input(names_[field]) + (field == label_ ? "" : ")");
  return field == label_ ? text + ")" : text;
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

ZIPML_FUNCTION void CsvLoader::refuse_width(std::string_view line, const char* place) const {
  const std::size_t got = split(line).size();
  throw Error(
      reader_.place(place), "row is of another length than the first line",
      std::to_string(fields_) + " fields separated by " + (separator_ == ' ' ? "blanks" : separator_name()),
      std::to_string(got));
}

}  // namespace detail

#endif

}  // namespace zipml::inline ZIPML_ABI
