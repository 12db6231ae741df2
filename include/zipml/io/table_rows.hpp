#pragma once
/// \file
/// Room io: the rows of a table as they were read, and the Dataset that they become: categories are expanded,
/// missing cells filled, offsets subtracted.

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
#include <zipml/base/float_offset.hpp>
#include <zipml/io/dataset.hpp>
#include <zipml/io/load_checks.hpp>
#include <zipml/io/load_options.hpp>
#include <zipml/io/number.hpp>
#include <zipml/io/pieces.hpp>
#include <zipml/io/scratch_file.hpp>
#include <zipml/io/table_plan.hpp>
#include <zipml/io/table_reader.hpp>
#include <zipml/io/text_index.hpp>

namespace zipml::inline ZIPML_ABI::detail {

/// Cells of a table that were not there, or were texts that training has not seen.
struct CellCounts {
  Index count = 0;
  Index line = 0;    ///< of the first, as
  Index column = 0;  ///< Place has them; the column is known to the whole reader alone
  Index field = 0;   ///< of the first
  std::string file;  ///< of the first
  List<Index> of_field;

  void add(const Place& at, std::size_t at_field, std::size_t fields) {
    if (of_field.empty()) of_field.resize(fields);
    if (count++ == 0) {
      line = at.line;
      column = at.column;
      field = static_cast<Index>(at_field);
      file = at.file;
    }
    ++of_field[at_field];
  }
  void join(const CellCounts& other, Index lines_before);
};

/// What all rows of a table share.
struct TableFormat {
  TableHead head;
  TablePlan plan;
  std::shared_ptr<const Schema> like;  ///< the training table's, or null: this table stands for itself
  Missing missing = Missing::error;
  bool predicting = false;
  bool text_label = false;  ///< labels are classes

  /// Whether rows with missing cells are left out.
  bool drops_rows() const { return like ? like->drops_missing && !predicting : missing == Missing::drop; }
  /// What to call a field in a message.
  std::string describe(std::size_t field) const;
};

/// Rows of doubles, a number or the number of a category in each slot of the plan, NaN where a cell is missing,
/// and a label, NaN where there is none, and a weight where the plan has a column of them. 8 bytes a value, in memory
/// or in a scratch file, until take_dataset() gives them back. The format must outlive them.
class TableRows {
 public:
  explicit TableRows(const TableFormat& format) : format_(format) {}

  /// Knows the categories and classes of `format.like`: once the plan is made.
  void begin();

  Index count() const { return count_; }
  /// Slots of the next row, and then its label and, where it is asked for, its id.
  double* add_row() {
    ++count_;
    return values_.extend(static_cast<std::size_t>(format_.plan.slot_count));
  }
  void add_label(double label) { *labels_.extend(1) = label; }
  void add_weight(double weight) { *weights_.extend(1) = weight; }
  void add_id(std::string id) { ids_.push_back(std::move(id)); }
  /// The number of a text in a slot, or of a class; -1: the training table has none of that name.
  double category(Index slot, std::string_view text) {
    return number_of(categories_[static_cast<std::size_t>(slot)], text);
  }
  double class_of(std::string_view text) { return number_of(classes_, text); }
  /// Whether the training table has missing cells in a slot of texts.
  bool knows_missing(Index slot) const { return categories_[static_cast<std::size_t>(slot)].find("") >= 0; }

  CellCounts missing, unseen, unlabelled, huge;

  /// "2 missing cells (\"a\": 1, \"b\": 1)" for `what` " missing cell".
  std::string count_of(const CellCounts& cells, const char* what) const;

  /// Appends the rows of a part of the same text; its numbers of texts become those of the whole.
  void join(TableRows&& part, Index lines_before);

  /// Moves the cells of all rows to a scratch file in `folder`.
  void spill(const std::string& folder) {
    if (!scratch_) scratch_ = std::make_shared<ScratchFile>(folder);
    values_.spill(scratch_, static_cast<std::size_t>(format_.plan.slot_count));
    spilled_ = count_;
  }
  /// Rows whose cells are in memory.
  Index in_memory() const { return count_ - spilled_; }
  bool is_spilled() const { return scratch_ != nullptr; }

  /// The data set, with warnings; nothing is left here. `place` stands for the file in errors; check(d) may
  /// refuse the number of features. What has no room in memory, as `options` say, stays where it is. Throws
  /// Error when no row is left. O(n d).
  template <class Check>
  Dataset take_dataset(const Place& place, const LoadOptions& options, const Check& check) {
    make_schema();
    check(schema()->cols);
    return make_dataset(place, options);
  }

 private:
  const std::shared_ptr<const Schema>& schema() const { return expansion_.schema; }
  double number_of(TextIndex& texts, std::string_view text) const {
    return static_cast<double>(format_.like ? texts.find(text) : texts.add(text));
  }
  /// The schema of a table that stands for itself, and how its categories are renumbered.
  void make_schema();
  void say_what_was_missing(Dataset& data, const Place& place) const;
  Dataset make_dataset(const Place& place, const LoadOptions& options);

  const TableFormat& format_;
  Index count_ = 0;
  Pieces<double> values_;  // rows x slot_count
  Pieces<double> labels_;
  Pieces<double> weights_;      // where the plan has them
  List<TextIndex> categories_;  // of each slot; empty for numbers
  TextIndex classes_;
  List<std::string> ids_;
  RowExpansion expansion_;
  std::shared_ptr<ScratchFile> scratch_;
  Index spilled_ = 0;  // rows whose cells are there
};

#if ZIPML_DEFINES

ZIPML_FUNCTION void CellCounts::join(const CellCounts& other, Index lines_before) {
  if (other.count == 0) return;
  if (count == 0) {
    line = other.line + lines_before;
    file = other.file;
    field = other.field;
  }
  count += other.count;
  if (of_field.empty()) of_field.resize(other.of_field.size());
  for (std::size_t i = 0; i < other.of_field.size(); ++i) of_field[i] += other.of_field[i];
}

ZIPML_FUNCTION std::string TableFormat::describe(std::size_t field) const {
  const bool label = static_cast<Index>(field) == plan.label;
  std::string text = (label ? "label (field " : "field ") + std::to_string(field + 1);
  if (head.named()) text += (label ? ", " : " (") + quote_input(head.names[field]) + (label ? "" : ")");
  return label ? text + ")" : text;
}

ZIPML_FUNCTION void TableRows::begin() {
  categories_.resize(static_cast<std::size_t>(format_.plan.slot_count));
  if (!format_.like) return;
  for (std::size_t slot = 0; slot < categories_.size(); ++slot)
    for (const std::string& text : format_.like->columns[slot].categories) categories_[slot].add(text);
  for (const std::string& name : format_.like->classes) classes_.add(name);
}

ZIPML_FUNCTION void TableRows::join(TableRows&& part, Index lines_before) {
  if (!format_.like) {  // the part's numbers of categories become ours
    const auto renumber = [](const TextIndex& from, TextIndex& to, List<double>& numbers) {
      bool same = true;
      for (const std::string& text : from.texts()) {
        numbers.push_back(static_cast<double>(to.add(text)));
        same = same && numbers.back() == static_cast<double>(numbers.size() - 1);
      }
      if (same) numbers.clear();
      return !same;
    };
    const auto slot_count = static_cast<std::size_t>(format_.plan.slot_count);
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
  count_ += part.count_;
  values_.append(std::move(part.values_));
  labels_.append(std::move(part.labels_));
  weights_.append(std::move(part.weights_));
  for (std::string& id : part.ids_) ids_.push_back(std::move(id));
  missing.join(part.missing, lines_before);
  unseen.join(part.unseen, lines_before);
  unlabelled.join(part.unlabelled, lines_before);
  huge.join(part.huge, lines_before);
}

ZIPML_FUNCTION std::string TableRows::count_of(const CellCounts& cells, const char* what) const {
  std::string text = std::to_string(cells.count) + what + (cells.count == 1 ? "" : "s");
  Index columns = 0;
  std::string list;
  for (std::size_t i = 0; i < cells.of_field.size(); ++i) {
    if (cells.of_field[i] == 0 || ++columns > 10) continue;
    list += (columns > 1 ? ", " : "") +
            (format_.head.named() ? quote_input(format_.head.names[i]) : "column " + std::to_string(i + 1)) +
            ": " + std::to_string(cells.of_field[i]);
  }
  if (columns > 10) list += " and " + std::to_string(columns - 10) + " columns more";
  return cells.count == 1 ? text : text + " (" + list + ")";
}

ZIPML_FUNCTION void TableRows::say_what_was_missing(Dataset& data, const Place& place) const {
  const auto say = [&](const CellCounts& cells, const char* what, const char* then) {
    if (cells.count > 0)
      data.warnings.push_back(count_of(cells, what) + ", the first in line " + std::to_string(cells.line) +
                              (cells.file == place.file ? "" : " of " + cells.file) + ": " + then);
  };
  bool text = false;
  for (std::size_t i = 0; i < missing.of_field.size(); ++i)
    text = text || (missing.of_field[i] > 0 && format_.plan.roles[i] == FieldRole::category);
  say(missing, " missing cell",
      format_.drops_rows() ? "their rows are left out"
      : text ? "numbers are read as the training mean of their column, texts as a category of their own"
             : "read as the training mean of their column");
  say(unlabelled, " missing label", "their rows are left out");
  say(unseen, " unseen text", "training has not met it: read as none of its categories");
  for (std::size_t i = 0; i < huge.of_field.size(); ++i)
    if (huge.of_field[i] > 0)
      data.warnings.push_back(
          format_.describe(i) +
          " has whole numbers beyond 2^53, which double precision cannot tell apart: read them as text "
          "(LoadOptions::categorical) or leave them out (LoadOptions::ignore)");
}

ZIPML_FUNCTION void TableRows::make_schema() {
  if (format_.like) {
    expansion_.schema = format_.like;
    return;
  }
  auto schema = std::make_shared<Schema>();
  schema->fields = static_cast<Index>(format_.head.fields);
  schema->label_field = format_.plan.label;
  if (format_.head.named())
    schema->label_name = format_.head.names[static_cast<std::size_t>(format_.plan.label)];
  schema->drops_missing = format_.missing == Missing::drop;
  schema->lacks_header = !format_.head.named();

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
  const auto slot_count = static_cast<std::size_t>(format_.plan.slot_count);
  Buffer<double> sums(format_.plan.slot_count);
  Buffer<Index> counts(format_.plan.slot_count);
  if (format_.missing != Missing::error)
    values_.for_each_piece([&](std::span<const double> values) {
      for (std::size_t k = 0; k < values.size(); k += slot_count)
        for (std::size_t slot = 0; slot < slot_count; ++slot)
          if (const double v = values[k + slot]; !std::isnan(v)) {
            sums[static_cast<Index>(slot)] += v;
            ++counts[static_cast<Index>(slot)];
          }
    });
  expansion_.renumbered.resize(slot_count);
  for (std::size_t i = 0; i < format_.head.fields; ++i) {
    if (format_.plan.slot_of[i] < 0) continue;
    const Index slot = format_.plan.slot_of[i];
    TableColumn column;
    if (format_.head.named()) column.name = format_.head.names[i];
    column.field = static_cast<Index>(i);
    column.categorical = format_.plan.roles[i] == FieldRole::category;
    const bool has_missing = missing.count > 0 && missing.of_field[i] > 0;
    if (column.categorical) {
      TextIndex& texts = categories_[static_cast<std::size_t>(slot)];
      if (has_missing && format_.missing != Missing::drop) texts.add("");
      sorted(texts, column.categories, expansion_.renumbered[static_cast<std::size_t>(slot)]);
    } else if (format_.missing != Missing::error) {
      column.fill = counts[slot] > 0 ? sums[slot] / static_cast<double>(counts[slot]) : 0.0;
      column.flagged = has_missing && format_.missing == Missing::indicator;
    }
    schema->cols += column.features();
    if (format_.head.named()) {
      if (!column.categorical) schema->names.push_back(column.name);
      if (column.flagged) schema->names.push_back(column.name + " is missing");
      for (const std::string& category : column.categories)
        schema->names.push_back(category.empty() ? column.name + " is missing"
                                                 : column.name + "=" + category);
    }
    schema->columns.push_back(std::move(column));
  }
  if (format_.text_label) {
    List<Index> places;
    sorted(classes_, schema->classes, places);
    labels_.change([&](std::span<double> values) {
      for (double& v : values)
        if (!std::isnan(v)) v = static_cast<double>(places[static_cast<std::size_t>(v)]);
    });
  }
  expansion_.schema = std::move(schema);
}

ZIPML_FUNCTION Dataset TableRows::make_dataset(const Place& place, const LoadOptions& options) {
  Dataset data;
  say_what_was_missing(data, place);
  const auto slot_count = static_cast<std::size_t>(format_.plan.slot_count);
  const Index d = schema()->cols;
  expansion_.is_plain = static_cast<Index>(slot_count) == d && missing.count == 0 &&
                        std::none_of(schema()->columns.begin(), schema()->columns.end(),
                                     [](const TableColumn& column) { return column.categorical; });
  // Rows that are left out: without a label, or with a missing cell.
  Buffer<std::uint8_t> kept(count_);
  Buffer<double> labels(count_);
  labels_.copy_to(labels.data());
  labels_ = {};
  Index n = 0, at = 0;
  values_.for_each_piece([&](std::span<const double> values) {
    for (std::size_t k = 0; k < values.size(); k += slot_count, ++at) {
      bool keep = format_.predicting || !std::isnan(labels[at]);
      if (missing.count > 0 && format_.drops_rows())
        for (std::size_t slot = 0; slot < slot_count; ++slot) keep = keep && !std::isnan(values[k + slot]);
      kept[at] = keep ? 1 : 0;
      n += keep ? 1 : 0;
    }
  });
  if (n == 0)
    throw Error(place, "no rows are left", "rows with a label and without missing cells",
                std::to_string(count_) + " that have not");

  // Calls f(row of cells) for the rows that are kept.
  Buffer<double> row(d);
  const auto features = [&](const double* cells) { return expansion_(cells, row.data()); };
  const auto for_each_row = [&](std::span<const double> values, Index& next, const auto& f) {
    for (std::size_t k = 0; k < values.size(); k += slot_count, ++next)
      if (kept[next] != 0) f(values.data() + k);
  };
  OffsetSurvey survey(d);
  at = 0;
  values_.for_each_piece([&](std::span<const double> values) {
    for_each_row(values, at, [&](const double* raw) {
      const double* const v = features(raw);
      for (Index j = 0; j < d; ++j) survey.note(j, v[j]);
    });
  });
  survey.begin_sample(n);
  Index i = 0;
  at = 0;
  values_.for_each_piece([&](std::span<const double> values) {
    for_each_row(values, at, [&](const double* raw) {
      if (!survey.wants_row(i++)) return;
      const double* const v = features(raw);
      for (Index j = 0; j < d; ++j) survey.take(j, v[j]);
    });
  });
  data.offsets =
      survey.offsets([&](Index j, double merged) { warn_of_merging(data, schema()->describe(j), merged); });

  data.rows = n;
  data.cols = d;
  data.schema = schema();
  data.has_labels = format_.plan.label >= 0;
  const std::uint64_t bytes = memory_of(static_cast<std::uint64_t>(n), static_cast<std::uint64_t>(d), 4);
  if (!is_spilled() && (options.scratch.empty() || bytes <= room_in_memory(options))) {
    data.values = Buffer<float>::uninitialised(checked_product(n, d, "the sample matrix"));
    const Buffer<double> none(data.offsets ? 0 : d);
    const double* const offsets = data.offsets ? data.offsets->data() : none.data();
    float* out = data.values.data();
    at = 0;
    values_.drain([&](std::span<const double> values) {
      for_each_row(values, at, [&](const double* raw) {
        const double* const v = features(raw);
        for (Index j = 0; j < d; ++j) *out++ = static_cast<float>(v[j] - offsets[j]);
      });
    });
  } else {
    Buffer<Index> rows(n < count_ ? n : 0);
    for (at = 0, i = 0; at < count_ && !rows.empty(); ++at)
      if (kept[at] != 0) rows[i++] = at;
    data.reader =
        std::make_shared<TableReader>(std::move(values_), expansion_, data.offsets, std::move(rows));
    if (is_spilled()) say_where_rows_are(data, options, bytes, scratch_->folder().c_str());
  }
  Buffer<double> weights(format_.plan.weight >= 0 ? count_ : 0);
  if (!weights.empty()) {
    weights_.copy_to(weights.data());
    data.weights = Buffer<float>(n);
  }
  Buffer<double> left(n);
  for (at = 0, i = 0; at < labels.size(); ++at) {
    if (kept[at] == 0) continue;
    if (!ids_.empty()) data.ids.push_back(std::move(ids_[static_cast<std::size_t>(at)]));
    if (!weights.empty()) data.weights[i] = static_cast<float>(weights[at]);
    left[i++] = labels[at];
  }
  round_labels(left, data);
  return data;
}

#endif

}  // namespace zipml::inline ZIPML_ABI::detail
