#pragma once
/// \file
/// Room base: what the features of a data set are called and how they come from the columns of a table. Goes
/// with the data, the store that they are packed into, the model that is trained on it, and the model file.

#include <memory>
#include <optional>
#include <string>

#include <zipml/base/buffer.hpp>

namespace zipml::inline ZIPML_ABI {

/// A column of a table and what it becomes: a number is one feature; text (`categories` not empty) is one
/// feature for each text, 1 where the cell holds it and else 0, which one bit represents exactly.
struct TableColumn {
  std::string name = {};  ///< empty: the table names none
  Index field = 0;        ///< where it stood in the table, from 0
  bool categorical = false;
  List<std::string> categories = {};          ///< in byte order; "" stands for a missing cell
  std::optional<double> fill = std::nullopt;  ///< what a missing number is read as; none: it is an error
  bool flagged = false;                       ///< a number with one more feature: 1 where the cell is missing

  Index features() const { return categorical ? static_cast<Index>(categories.size()) : flagged ? 2 : 1; }
};

/// Features, where they come from, and the label. Shared and never changed once it is made: everything that
/// was made from one table points to one schema.
struct Schema {
  Index cols = 0;                  ///< features, d
  List<std::string> names = {};    ///< d of them: "age", "city=Paris", "age is missing"; empty: none
  std::string label_name = {};     ///< empty: none
  List<std::string> classes = {};  ///< of labels that are text: class k is label k; empty: numbers

  Index fields = 0;                ///< of a line of the table, the label included; 0: not from a table
  Index label_field = 0;           ///< from 0; -1: the table has no label
  int first_index = -1;            ///< of a LIBSVM file: what its indices count from; -1: not from one
  bool lacks_header = false;       ///< its first line was a row
  bool drops_missing = false;      ///< rows with a missing cell were left out
  List<TableColumn> columns = {};  ///< that features come from, in their order; empty: not from a table

  bool has_names() const { return !names.empty(); }
  /// What to call feature j: "age"; of a table without names "column 4", "column 2=Paris"; else "feature 3".
  std::string describe(Index j) const {
    if (has_names()) return names[static_cast<std::size_t>(j)];
    Index first = 0;
    for (const TableColumn& column : columns) {
      const Index at = j - first;
      if (at < column.features()) {
        const std::string name = "column " + std::to_string(column.field + 1);
        if (!column.categorical) return at == 0 ? name : name + " is missing";
        const std::string& category = column.categories[static_cast<std::size_t>(at)];
        return category.empty() ? name + " is missing" : name + "=" + category;
      }
      first += column.features();
    }
    return "feature " + std::to_string(j + 1);
  }
};

/// `schema`, or where that is null, d features without names.
inline std::shared_ptr<const Schema> schema_or_unnamed(std::shared_ptr<const Schema> schema, Index d) {
  if (schema) return schema;
  auto unnamed = std::make_shared<Schema>();
  unnamed->cols = d;
  return unnamed;
}

}  // namespace zipml::inline ZIPML_ABI
