#pragma once
/// \file
/// Room io: which columns of a table are features, label, id, or nothing, from its first line, from what the user
/// asks for, and from the table that a model was trained on.

#include <algorithm>
#include <charconv>
#include <memory>
#include <string>
#include <string_view>

#include <zipml/base/buffer.hpp>
#include <zipml/base/error.hpp>
#include <zipml/base/schema.hpp>
#include <zipml/io/load_options.hpp>
#include <zipml/io/number.hpp>
#include <zipml/io/text_index.hpp>

namespace zipml::inline ZIPML_ABI::detail {

/// What a field of each line is read as.
enum class FieldRole { ignored, number, category, label, weight };

/// Roles of the fields of a table and the slot of each feature column: the k-th column of the schema.
struct TablePlan {
  List<FieldRole> roles;  ///< of each field
  List<Index> slot_of;    ///< of each field, -1 where it is no feature
  Index slot_count = 0;
  Index label = -1;   ///< field, or -1
  Index weight = -1;  ///< field, or -1
  Index id = -1;      ///< field, or -1
  List<std::string> warnings;
};

/// Names and fields of the first line.
struct TableHead {
  List<std::string> names;  ///< of all fields; empty: the table names none
  List<long> columns;       ///< of the text, where each name begins
  std::size_t fields = 0;
  List<std::string> repeated = {};  ///< names that several columns have
  bool named() const { return !names.empty(); }

  /// Gives each column a name of its own: the second "a" becomes "a (2)", with a warning.
  void name_apart(List<std::string>& warnings);
};

/// Whether a name matches a pattern, in which * stands for any text and ? for one character. O(product).
bool matches_pattern(std::string_view name, std::string_view pattern);

/// "\"a\", \"b\" and 3 more" of a list of names.
std::string list_of_names(const List<std::string>& names, std::size_t most = 10);

/// The fields that one of the user's words stands for: the fields of that name, else the field of that number
/// or the range of numbers (from 1), else the names that it matches as a pattern. Throws Error when there is
/// none.
List<Index> fields_of(const std::string& word, const TableHead& head, const char* option, const Place& place);

/// The plan of a table that stands for itself.
TablePlan plan_table(const TableHead& head, const LoadOptions& options, const Place& place);

/// options.like as a table: a model of a matrix or a LIBSVM file takes its features for columns, the label behind.
std::shared_ptr<const Schema> as_table(const LoadOptions& options);

/// The plan of a table that is read as another one was.
TablePlan plan_like(const TableHead& head, const Schema& like, const LoadOptions& options,
                    const Place& place);

#if ZIPML_DEFINES

ZIPML_FUNCTION bool matches_pattern(std::string_view name, std::string_view pattern) {
  std::size_t n = 0, p = 0, star = std::string_view::npos, from = 0;
  while (n < name.size()) {
    if (p < pattern.size() && (pattern[p] == '?' || (pattern[p] == name[n] && pattern[p] != '*'))) {
      ++n, ++p;
    } else if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      from = n;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      n = ++from;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

ZIPML_FUNCTION void TableHead::name_apart(List<std::string>& warnings) {
  TextIndex seen;
  List<Index> times;
  for (std::string& name : names) {
    const Index k = seen.add(name);
    if (k == static_cast<Index>(times.size())) times.push_back(0);
    if (++times[static_cast<std::size_t>(k)] == 1) continue;
    if (times[static_cast<std::size_t>(k)] == 2) repeated.push_back(name);
    name += " (" + std::to_string(times[static_cast<std::size_t>(k)]) + ")";
  }
  if (!repeated.empty())
    warnings.push_back("several columns are named " + list_of_names(repeated) +
                       ": the second one is called " + quote_input(repeated[0] + " (2)"));
}

ZIPML_FUNCTION std::string list_of_names(const List<std::string>& names, std::size_t most) {
  std::string list;
  for (std::size_t i = 0; i < (std::min)(names.size(), most); ++i)
    list += (i > 0 ? ", " : "") + quote_input(names[i]);
  if (names.size() > most) list += " and " + std::to_string(names.size() - most) + " more";
  return list;
}

ZIPML_FUNCTION List<Index> fields_of(const std::string& word, const TableHead& head, const char* option,
                                     const Place& place) {
  List<Index> found;
  for (std::size_t i = 0; i < head.names.size(); ++i)
    if (head.names[i] == word) found.push_back(static_cast<Index>(i));
  if (!found.empty()) return found;

  const auto number = [&](std::string_view text, std::size_t& value) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    return error == std::errc{} && end == text.data() + text.size() && is_digit(text[0]);
  };
  const std::size_t dash = word.find('-', 1);
  std::size_t first = 0, last = 0;
  const bool single = !word.empty() && number(word, first);
  if (single) last = first;
  if (single || (!word.empty() && dash != std::string::npos && dash + 1 < word.size() &&
                 number(std::string_view(word).substr(0, dash), first) &&
                 number(std::string_view(word).substr(dash + 1), last))) {
    if (first < 1 || last < first || last > head.fields)
      throw Error(place, std::string(option) + " names a column out of range",
                  "1 to " + std::to_string(head.fields) + ", or a name", quote_input(word));
    for (std::size_t i = first; i <= last; ++i) found.push_back(static_cast<Index>(i) - 1);
    return found;
  }
  for (std::size_t i = 0; i < head.names.size(); ++i)
    if (matches_pattern(head.names[i], word)) found.push_back(static_cast<Index>(i));
  if (!found.empty()) return found;
  throw Error(place, std::string(option) + " names no column",
              head.named() ? "one of " + list_of_names(head.names)
                           : "a number from 1 to " + std::to_string(head.fields) + ", there is no header",
              quote_input(word));
}

ZIPML_FUNCTION TablePlan plan_table(const TableHead& head, const LoadOptions& options, const Place& place) {
  TablePlan plan;
  plan.roles.assign(head.fields, options.use.empty() ? FieldRole::number : FieldRole::ignored);
  plan.slot_of.assign(head.fields, -1);
  const auto role = [&](Index field) -> FieldRole& { return plan.roles[static_cast<std::size_t>(field)]; };
  for (const std::string& word : options.use)
    for (const Index field : fields_of(word, head, "LoadOptions::use (--columns)", place))
      role(field) = FieldRole::number;
  for (const std::string& word : options.categorical)
    for (const Index field : fields_of(word, head, "LoadOptions::categorical (--categorical)", place))
      role(field) = FieldRole::category;
  for (const std::string& word : options.ignore)
    for (const Index field : fields_of(word, head, "LoadOptions::ignore (--ignore)", place))
      role(field) = FieldRole::ignored;
  if (!options.id.empty()) {
    plan.id = fields_of(options.id, head, "LoadOptions::id (--id)", place)[0];
    role(plan.id) = FieldRole::ignored;
  }
  if (!options.weights.empty()) {
    plan.weight = fields_of(options.weights, head, "LoadOptions::weights (--weights)", place)[0];
    role(plan.weight) = FieldRole::weight;
  }
  // Without a word of the user's, the last column that is left.
  if (options.label.empty()) {
    plan.label = static_cast<Index>(head.fields) - 1;
    while (plan.label > 0 && (plan.label == plan.id || plan.label == plan.weight ||
                              (role(plan.label) == FieldRole::ignored && options.use.empty())))
      --plan.label;
  } else {
    List<Index> found;
    const bool repeats =
        std::find(head.repeated.begin(), head.repeated.end(), options.label) != head.repeated.end();
    for (std::size_t i = 0; i < head.names.size(); ++i)
      if (head.names[i] == options.label || (repeats && head.names[i] == options.label + " (2)"))
        found.push_back(static_cast<Index>(i));
    if (found.size() > 1)
      throw Error(Place{place.file, place.line, head.columns[static_cast<std::size_t>(found[1])]},
                  "two columns have the name of the label",
                  "one column " + quote_input(options.label) + " (or its number as LoadOptions::label)",
                  "columns " + std::to_string(found[0] + 1) + " and " + std::to_string(found[1] + 1));
    const bool digits = std::all_of(options.label.begin(), options.label.end(), is_digit);
    if (found.empty() && !digits && !head.named())
      throw Error(place, "label column cannot be found by name, there is no header",
                  "a number from 1 to " + std::to_string(head.fields), quote_input(options.label));
    if (found.empty() && !digits)
      throw Error(place, "no column has the name of the label", "one of " + list_of_names(head.names),
                  quote_input(options.label));
    if (found.empty()) {
      std::size_t number = 0;
      const char* const end = options.label.data() + options.label.size();
      if (std::from_chars(options.label.data(), end, number).ec != std::errc{} || number < 1 ||
          number > head.fields)
        throw Error(place, "label column is out of range",
                    "1 to " + std::to_string(head.fields) + ", or a name", quote_input(options.label));
      found.push_back(static_cast<Index>(number) - 1);
    }
    plan.label = found[0];
  }
  if (plan.label == plan.weight)
    throw Error(place, "label and weights are one column", "two columns", quote_input(options.weights));
  role(plan.label) = FieldRole::label;
  for (std::size_t i = 0; i < head.fields; ++i) {
    if (plan.roles[i] != FieldRole::number && plan.roles[i] != FieldRole::category) continue;
    plan.slot_of[i] = plan.slot_count++;
    // pandas writes an index without a name, and calls it so when it reads it back.
    if (head.named() && (head.names[i].empty() || head.names[i].compare(0, 9, "Unnamed: ") == 0))
      plan.warnings.push_back("column " + std::to_string(i + 1) +
                              " has no name: when it numbers the rows, it is no feature (--ignore " +
                              std::to_string(i + 1) + ", LoadOptions::ignore)");
  }
  if (plan.slot_count == 0)
    throw Error(place, "no column is left beside the label", "at least one feature",
                std::to_string(head.fields) + (head.fields == 1 ? " column" : " columns"));
  return plan;
}

ZIPML_FUNCTION std::shared_ptr<const Schema> as_table(const LoadOptions& options) {
  if (!options.like->columns.empty()) return options.like;
  auto table = std::make_shared<Schema>(*options.like);
  table->fields = table->cols + 1;
  table->label_field = table->cols;
  for (Index j = 0; j < table->cols; ++j) {
    TableColumn column;
    column.field = j;
    if (table->has_names()) column.name = table->names[static_cast<std::size_t>(j)];
    table->columns.push_back(std::move(column));
  }
  return table;
}

ZIPML_FUNCTION TablePlan plan_like(const TableHead& head, const Schema& like, const LoadOptions& options,
                                   const Place& place) {
  TablePlan plan;
  plan.roles.assign(head.fields, FieldRole::ignored);
  plan.slot_of.assign(head.fields, -1);
  plan.slot_count = static_cast<Index>(like.columns.size());
  if (!options.id.empty()) plan.id = fields_of(options.id, head, "LoadOptions::id (--id)", place)[0];
  const auto take = [&](std::size_t field, Index slot) {
    plan.roles[field] =
        like.columns[static_cast<std::size_t>(slot)].categorical ? FieldRole::category : FieldRole::number;
    plan.slot_of[field] = slot;
  };
  const auto find = [&](const std::string& name, Index& field) {
    field = -1;
    for (std::size_t i = 0; i < head.fields && field < 0; ++i)
      if (head.names[i] == name) field = static_cast<Index>(i);
    // Several of them serve a training table that had several too.
    const auto second = [&](const TableColumn& column) { return column.name == name + " (2)"; };
    if (std::find(head.repeated.begin(), head.repeated.end(), name) != head.repeated.end() &&
        std::none_of(like.columns.begin(), like.columns.end(), second))
      throw Error(place, "two columns have the name of a feature", "one column " + quote_input(name),
                  "several");
    return field >= 0;
  };
  // Other tables need no weights: by a name that they do not have, all rows count the same.
  if (!options.weights.empty()) {
    const bool numbered = std::all_of(options.weights.begin(), options.weights.end(), is_digit);
    const bool known = std::find(head.names.begin(), head.names.end(), options.weights) != head.names.end();
    if (known || numbered || !head.named())
      plan.weight = fields_of(options.weights, head, "LoadOptions::weights (--weights)", place)[0];
    else
      plan.warnings.push_back("no column is called " + quote_input(options.weights) +
                              ": all rows count the same");
  }
  const bool by_name = like.has_names() && head.named();
  if (by_name) {
    List<std::string> missing, extra;
    for (Index slot = 0; slot < plan.slot_count; ++slot) {
      Index field = -1;
      const std::string& name = like.columns[static_cast<std::size_t>(slot)].name;
      if (find(name, field))
        take(static_cast<std::size_t>(field), slot);
      else
        missing.push_back(name);
    }
    if (!missing.empty())
      throw Error(place, "columns of the training table are missing",
                  "columns named " + list_of_names(missing), "columns named " + list_of_names(head.names));
    if (!options.label.empty())
      plan.label = fields_of(options.label, head, "LoadOptions::label (--label)", place)[0];
    else if (!like.label_name.empty() && like.label_field >= 0)
      find(like.label_name, plan.label);
    if (plan.label >= 0 && plan.slot_of[static_cast<std::size_t>(plan.label)] >= 0)
      throw Error(place, "the label column is a feature of the training table", "another label",
                  quote_input(head.names[static_cast<std::size_t>(plan.label)]));
    if (plan.label >= 0) plan.roles[static_cast<std::size_t>(plan.label)] = FieldRole::label;
    for (std::size_t i = 0; i < head.fields; ++i)
      if (plan.roles[i] == FieldRole::ignored && static_cast<Index>(i) != plan.id &&
          static_cast<Index>(i) != plan.weight)
        extra.push_back(head.names[i]);
    if (!extra.empty())
      plan.warnings.push_back("columns that training has not used are passed over: " + list_of_names(extra));
  } else {
    // The same places; a table to be predicted may lack the label.
    const bool all = static_cast<Index>(head.fields) == like.fields;
    const bool without_label = !all && options.predicting && like.label_field >= 0 &&
                               static_cast<Index>(head.fields) + 1 == like.fields;
    if (!all && !without_label)
      throw Error(place, "wrong number of columns",
                  std::to_string(like.fields) + " as in the training table (there are no names to go by)",
                  std::to_string(head.fields) + " fields");
    if (like.has_names() != head.named())
      plan.warnings.push_back(
          like.has_names()
              ? "this table names no columns: they are taken by their places in the training table"
              : "the training table names no columns: they are taken by their places");
    if (all) plan.label = like.label_field;
    if (!options.label.empty()) {
      plan.label = fields_of(options.label, head, "LoadOptions::label (--label)", place)[0];
      if (!all)
        throw Error(place, "wrong number of columns", std::to_string(like.fields) + " with a label",
                    std::to_string(head.fields) + " fields");
    }
    for (Index slot = 0; slot < plan.slot_count; ++slot) {
      Index field = like.columns[static_cast<std::size_t>(slot)].field;
      // In the order of the columns that are no label, wherever the label stands here.
      if (like.label_field >= 0 && field > like.label_field) --field;
      if (plan.label >= 0 && field >= plan.label) ++field;
      take(static_cast<std::size_t>(field), slot);
    }
    if (plan.label >= 0) plan.roles[static_cast<std::size_t>(plan.label)] = FieldRole::label;
  }
  if (plan.weight >= 0) {
    FieldRole& role = plan.roles[static_cast<std::size_t>(plan.weight)];
    if (role != FieldRole::ignored)
      throw Error(place, "the column of weights is a feature or the label of the training table",
                  "another column", quote_input(options.weights));
    role = FieldRole::weight;
  }
  if (plan.label < 0 && !options.predicting)
    throw Error(place, "the label column is missing",
                "a column named " + quote_input(options.label.empty() ? like.label_name : options.label),
                "columns named " + list_of_names(head.names));
  return plan;
}

#endif

}  // namespace zipml::inline ZIPML_ABI::detail
