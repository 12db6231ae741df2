#pragma once
/// \file
/// Room io: a trained model in a text file: its weights in the user's units, what its features are called,
/// and how they come from the columns of a table, so that a new table can be read for it.

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include <zipml/base/buffer.hpp>
#include <zipml/base/error.hpp>
#include <zipml/io/line_reader.hpp>
#include <zipml/io/number.hpp>
#include <zipml/io/output_file.hpp>
#include <zipml/model/linear_model.hpp>

namespace zipml::inline ZIPML_ABI {

namespace detail {
/// What save_model() writes.
std::string model_file_2(const LinearModel& model);
}  // namespace detail

/// Saves a model, as write_file() does; numbers are written so that they read back exactly. The file is text:
///
///     zipml-model 2
///     kind regression                        or classifier
///     loss "least-squares"
///     representation "variance-corrected:2"
///     rows 20640                             that it was trained on
///     labels 0 5.00001                       lowest and highest; of a classifier the two classes
///     intercept -36.5
///     table 14 13 "price" keep header 0      fields, the label's field, its name, rows with missing cells (keep,
///                                            drop), the first line (header, rows; of LIBSVM text index-0,
///                                            index-1), number of classes
///     class "no"                             a line for each text class
///     columns 12                             of the table, one line each:
///     number 0 "age" 35.5 flagged            field, name, what a missing cell is read as (error: none), and
///                                            whether it has one more feature
///     text 3 "city" 2 "Bern" "Chur"          field, name, count and texts
///     features 13 named                      or unnamed; one line each:
///     0.25 35.5 8.25 "age"                   weight, mean and deviation of the training rows, name
///     end 6c62272e07bb0142                   FNV-1a of everything before this line
///
/// Throws Error when it cannot be written, and for weights that are not finite.
void save_model(const std::string& path, const LinearModel& model);

/// Loads what save_model wrote; also the files of version 1, which have no names and no checksum. "-" is
/// standard input. Throws Error with file and line for anything else: a file that differs from what
/// save_model would write in one bit is refused.
LinearModel load_model(const std::string& path);

#if ZIPML_DEFINES

namespace detail {

/// Text in double quotes on one line, whatever it holds.
ZIPML_FUNCTION std::string model_text(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\')
      (out += '\\') += c;
    else if (c == '\n')
      out += "\\n";
    else if (c == '\r')
      out += "\\r";
    else
      out += c;
  }
  return out + '"';
}

ZIPML_FUNCTION std::string model_file_1(const LinearModel& model) {
  std::string text = "zipml-model 1\n";
  text += std::string("kind ") + (model.classifies ? "classifier" : "regression") + "\n";
  text += "labels " + number_text(model.low_label) + " " + number_text(model.high_label) + "\n";
  text += "intercept " + number_text(model.intercept) + "\n";
  text += "weights " + std::to_string(model.cols()) + "\n";
  for (Index j = 0; j < model.cols(); ++j) text += number_text(model.weights[j]) + "\n";
  return text;
}

ZIPML_FUNCTION std::string model_file_2(const LinearModel& model) {
  const Schema none;
  const Schema& schema = model.schema ? *model.schema : none;
  const bool named = static_cast<Index>(schema.names.size()) == model.cols() && schema.has_names();
  std::string text = "zipml-model 2\n";
  text += std::string("kind ") + (model.classifies ? "classifier" : "regression") + "\n";
  text += "loss " + model_text(model.loss) + "\n";
  text += "representation " + model_text(model.representation) + "\n";
  text += "rows " + std::to_string(model.rows) + "\n";
  text += "labels " + number_text(model.low_label) + " " + number_text(model.high_label) + "\n";
  text += "intercept " + number_text(model.intercept) + "\n";
  text += "table " + std::to_string(schema.fields) + " " + std::to_string(schema.label_field) + " ";
  text += model_text(schema.label_name);
  text += schema.drops_missing ? " drop" : " keep";
  if (schema.first_index >= 0)
    text += schema.first_index == 0 ? " index-0 " : " index-1 ";
  else
    text += schema.lacks_header ? " rows " : " header ";
  text += std::to_string(schema.classes.size());
  text += "\n";
  for (const std::string& name : schema.classes) text += "class " + model_text(name) + "\n";
  text += "columns " + std::to_string(schema.columns.size()) + "\n";
  for (const TableColumn& column : schema.columns) {
    text += (column.categorical ? "text " : "number ") + std::to_string(column.field) + " " +
            model_text(column.name) + " ";
    if (column.categorical) {
      text += std::to_string(column.categories.size());
      for (const std::string& category : column.categories) (text += ' ') += model_text(category);
    } else {
      text += (column.fill ? number_text(*column.fill) : "error") + (column.flagged ? " flagged" : " plain");
    }
    text += "\n";
  }
  text += "features " + std::to_string(model.cols()) + (named ? " named\n" : " unnamed\n");
  for (Index j = 0; j < model.cols(); ++j) {
    text += number_text(model.weights[j]) + " " + number_text(model.means.empty() ? 0.0 : model.means[j]) +
            " " + number_text(model.deviations.empty() ? 0.0 : model.deviations[j]);
    if (named) (text += ' ') += model_text(schema.names[static_cast<std::size_t>(j)]);
    text += "\n";
  }
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  char digits[17] = {};
  for (int k = 15; k >= 0; --k, hash >>= 4) digits[k] = "0123456789abcdef"[hash & 15];
  return text + "end " + digits + "\n";
}

/// The words of a model file, one after the other; throws Error where one is not what was expected.
class ModelFileReader {
 public:
  explicit ModelFileReader(const std::string& path) : path_(path), reader_(path) {}
  ModelFileReader(LineReader reader, const std::string& path) : path_(path), reader_(std::move(reader)) {}

  /// What is checked against its spelling begins with the next line.
  void begin_part() { whole_.clear(); }
  void line(std::string_view key, const char* expected) {
    std::string_view text;
    at_end_ = !reader_.next(text);
    if (at_end_) fail(expected);
    whole_.append(text).append("\n");
    rest_ = text;
    if (text.substr(0, key.size()) != key) fail(expected);
    rest_.remove_prefix(key.size());
  }
  double number(const char* expected) {
    const std::string_view word = rest_.substr(0, rest_.find(' '));
    double value = 0.0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
    if (error != std::errc{} || end != word.data() + word.size() || !std::isfinite(value)) fail(expected);
    take(word.size());
    return value;
  }
  Index count(const char* expected, Index lowest = 0) {
    const double value = number(expected);
    if (!(value >= static_cast<double>(lowest) && value <= 1e9 && value == std::floor(value))) fail(expected);
    return static_cast<Index>(value);
  }
  std::string word() {
    const std::string result(rest_.substr(0, rest_.find(' ')));
    take(result.size());
    return result;
  }
  std::string text(const char* expected) {
    if (rest_.empty() || rest_.front() != '"') fail(expected);
    std::string result;
    for (std::size_t k = 1; k < rest_.size(); ++k) {
      const char c = rest_[k];
      if (c == '"') {
        take(k + 1);
        return result;
      }
      if (c == '\\' && ++k < rest_.size())
        result += rest_[k] == 'n' ? '\n' : rest_[k] == 'r' ? '\r' : rest_[k];
      else
        result += c;
    }
    fail(expected);
  }
  void end_of_line(const char* expected) {
    if (!rest_.empty()) fail(expected);
  }
  void end_of_file() {
    std::string_view more;
    if (!reader_.next(more)) return;
    rest_ = more;
    fail("the end of the file");
  }
  /// What has been read must be what save_model would have written, to the last bit.
  void require_same(const std::string& text) const {
    if (whole_ == text && (whole_.empty() || reader_.ended_in_newline())) return;
    throw Error(Place{path_}, "the model file is damaged", "a file as save_model writes it",
                whole_ == text ? "no end of the last line" : "a checksum or a spelling that does not fit");
  }
  [[noreturn]] void refuse_version(Index version) const {
    throw Error(Place{path_, 1, 0}, "the model file is of another version", "1 or 2",
                std::to_string(version));
  }
  [[noreturn]] void fail(const char* expected) const {
    throw Error(Place{path_, reader_.line_number(), 0}, "not a zipml model", expected,
                at_end_ ? "the end of the file" : quote_input(rest_));
  }
  bool matches(std::string_view word) const { return rest_ == word; }

 private:
  void take(std::size_t n) {
    rest_.remove_prefix(n);
    if (!rest_.empty() && rest_.front() == ' ') rest_.remove_prefix(1);
  }

  std::string path_;
  LineReader reader_;
  std::string whole_;
  std::string_view rest_;
  bool at_end_ = false;
};

ZIPML_FUNCTION void read_kind(ModelFileReader& file, LinearModel& model) {
  file.line("kind ", "'kind regression' or 'kind classifier'");
  if (!file.matches("regression") && !file.matches("classifier"))
    file.fail("'kind regression' or 'kind classifier'");
  model.classifies = file.matches("classifier");
}

ZIPML_FUNCTION void read_labels(ModelFileReader& file, LinearModel& model) {
  file.line("labels ", "'labels LOW HIGH'");
  model.low_label = file.number("two numbers");
  model.high_label = file.number("two numbers");
  file.end_of_line("two numbers");
}

ZIPML_FUNCTION void read_intercept(ModelFileReader& file, LinearModel& model) {
  file.line("intercept ", "'intercept VALUE'");
  model.intercept = file.number("a finite number");
  file.end_of_line("one finite number");
}

ZIPML_FUNCTION LinearModel read_model_1(ModelFileReader& file) {
  LinearModel model;
  read_kind(file, model);
  read_labels(file, model);
  read_intercept(file, model);
  file.line("weights ", "'weights COUNT'");
  const Index count = file.count("a count of at most 1,000,000,000");
  file.end_of_line("one count");
  List<double> weights;  // grows with the file: a wrong count allocates nothing
  while (static_cast<Index>(weights.size()) < count) {
    file.line("", "a weight");
    weights.push_back(file.number("a finite weight"));
    file.end_of_line("one weight in a line");
  }
  file.end_of_file();
  model.weights = Buffer<double>(count);
  std::copy(weights.begin(), weights.end(), model.weights.begin());
  model.schema = schema_or_unnamed(nullptr, count);
  file.require_same(model_file_1(model));
  return model;
}

ZIPML_FUNCTION TableColumn read_table_column(ModelFileReader& file) {
  TableColumn column;
  file.line("", "'number FIELD NAME FILL plain|flagged' or 'text FIELD NAME COUNT TEXT ...'");
  const std::string kind = file.word();
  if (kind != "number" && kind != "text") file.fail("'number' or 'text'");
  column.categorical = kind == "text";
  column.field = file.count("the number of a field");
  column.name = file.text("a name in quotes");
  if (column.categorical) {
    const Index count = file.count("a count of texts");
    for (Index k = 0; k < count; ++k) column.categories.push_back(file.text("a text in quotes"));
  } else {
    if (file.matches("error plain") || file.matches("error flagged"))
      file.word();
    else
      column.fill = file.number("a number, or 'error'");
    const std::string word = file.word();
    if (word != "plain" && word != "flagged") file.fail("'plain' or 'flagged'");
    column.flagged = word == "flagged";
  }
  file.end_of_line("the end of the line");
  return column;
}

ZIPML_FUNCTION LinearModel read_model_2(ModelFileReader& file, bool ends_file = true) {
  LinearModel model;
  auto schema = std::make_shared<Schema>();
  read_kind(file, model);
  file.line("loss ", "'loss \"NAME\"'");
  model.loss = file.text("a name in quotes");
  file.line("representation ", "'representation \"TEXT\"'");
  model.representation = file.text("a text in quotes");
  file.line("rows ", "'rows COUNT'");
  model.rows = static_cast<Index>(file.number("a count"));
  read_labels(file, model);
  read_intercept(file, model);
  file.line("table ", "'table FIELDS LABEL NAME keep|drop FIRST CLASSES'");
  schema->fields = file.count("a number of fields");
  schema->label_field = file.count("the field of the label, or -1", -1);
  schema->label_name = file.text("the name of the label in quotes");
  const std::string missing = file.word();
  if (missing != "keep" && missing != "drop") file.fail("'keep' or 'drop'");
  schema->drops_missing = missing == "drop";
  const std::string first = file.word();
  if (first != "header" && first != "rows" && first != "index-0" && first != "index-1")
    file.fail("'header', 'rows', 'index-0' or 'index-1'");
  schema->lacks_header = first == "rows";
  if (first == "index-0") schema->first_index = 0;
  if (first == "index-1") schema->first_index = 1;
  const Index classes = file.count("a number of classes");
  for (Index k = 0; k < classes; ++k) {
    file.line("class ", "'class \"NAME\"'");
    schema->classes.push_back(file.text("a name in quotes"));
  }
  file.line("columns ", "'columns COUNT'");
  const Index columns = file.count("a number of columns");
  Index features = 0;
  for (Index k = 0; k < columns; ++k) {
    schema->columns.push_back(read_table_column(file));
    features += schema->columns.back().features();
  }
  file.line("features ", "'features COUNT named|unnamed'");
  schema->cols = file.count("a number of features");
  const std::string named = file.word();
  if (named != "named" && named != "unnamed") file.fail("'named' or 'unnamed'");
  if (columns > 0 && features != schema->cols) file.fail("as many features as the columns have");
  List<double> numbers;  // grows with the file: a wrong count allocates nothing
  for (Index j = 0; j < schema->cols; ++j) {
    file.line("", "weight, mean and deviation of a feature");
    for (int k = 0; k < 3; ++k) numbers.push_back(file.number("a finite number"));
    if (named == "named") schema->names.push_back(file.text("the feature's name in quotes"));
    file.end_of_line("the end of the line");
  }
  file.line("end ", "'end CHECKSUM'");
  if (ends_file) file.end_of_file();
  model.weights = Buffer<double>(schema->cols);
  model.means = Buffer<double>(schema->cols);
  model.deviations = Buffer<double>(schema->cols);
  for (Index j = 0; j < schema->cols; ++j) {
    const double* of = numbers.data() + 3 * j;
    model.weights[j] = of[0];
    model.means[j] = of[1];
    model.deviations[j] = of[2];
  }
  model.schema = schema;
  file.require_same(model_file_2(model));
  return model;
}

ZIPML_FUNCTION void require_finite(const std::string& path, const LinearModel& model) {
  bool finite = std::isfinite(model.intercept);
  for (const double w : model.weights) finite = finite && std::isfinite(w);
  if (!finite) throw Error(Place{path}, "the model is not saved: its weights are not finite");
}

ZIPML_FUNCTION LinearModel read_model(ModelFileReader file) {
  file.line("zipml-model ", "the line 'zipml-model 2'");
  const Index version = file.count("version 1 or 2");
  file.end_of_line("version 1 or 2");
  if (version != 1 && version != 2) file.refuse_version(version);
  return version == 1 ? read_model_1(file) : read_model_2(file);
}

}  // namespace detail

ZIPML_FUNCTION void save_model(const std::string& path, const LinearModel& model) {
  detail::require_finite(path, model);
  write_file(path, detail::model_file_2(model));
}

ZIPML_FUNCTION LinearModel load_model(const std::string& path) {
  return detail::read_model(detail::ModelFileReader(path));
}

#endif

}  // namespace zipml::inline ZIPML_ABI
