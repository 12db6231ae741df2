#pragma once
/// \file
/// Room io: what a user may say of a file that is loaded.

#include <cstdint>
#include <memory>
#include <string>

#include <zipml/base/buffer.hpp>
#include <zipml/base/schema.hpp>

namespace zipml::inline ZIPML_ABI {

/// Whether the first line of a CSV file names the columns.
enum class Header {
  detect,   ///< it does when one of its fields is neither a number nor a missing value (the default)
  present,  ///< it does, even when all names are numbers
  absent,   ///< it is a sample
};

/// What to do with cells that are missing: empty, or NA, NaN, null, ? and the like. All are counted, the first is
/// named.
enum class Missing {
  error,      ///< refuse the table (the default)
  drop,       ///< leave out the row
  mean,       ///< read the mean of the column, over the rows where it is there; text: a category of its own
  indicator,  ///< as mean, and one more feature for each column with missing cells: 1 where it is missing
};

/// Whoever is told from time to time how far the reading of a text is.
class LoadProgress {
 public:
  virtual ~LoadProgress() = default;
  /// Bytes of a file that are done, and all of them, 0 where nobody knows (a pipe).
  virtual void show(std::uint64_t done, std::uint64_t bytes) = 0;
};

/// Named options of the loaders.
struct LoadOptions {
  std::string format = "auto";  ///< for load(): "auto" looks at the first data line; "libsvm", "csv", "npy"
  /// Bytes that loading and training may take: at most 8 for each value while it is read, 4 afterwards, and
  /// `bytes_per_column` for what training keeps of each column.
  std::uint64_t memory_limit = std::uint64_t{8} << 30;
  static constexpr std::uint64_t bytes_per_column = 256;
  /// Folder for a file without a name that rows go to when they would take more than `memory_limit`, or
  /// `keep_in_memory`: scratch_folder(), say. They are read from there then, wherever Dataset::features() goes,
  /// and never are in memory as a whole. 8 bytes a value of a table, 12 a nonzero of LIBSVM text, on that disk.
  /// Empty: none, such a table is an Error.
  std::string scratch = {};
  /// Bytes of rows, counted like memory_limit, from which on they go to the scratch file.
  std::uint64_t keep_in_memory = ~std::uint64_t{0};
  LoadProgress* progress = nullptr;  ///< who wants to know how far the reading of text is, or null
  Index columns = 0;  ///< number of features that the file must fit (test files); 0: as many as it has

  std::string label = {};          ///< CSV: name of the label column, or its number from 1; empty: the last
  char separator = '\0';           ///< CSV: '\0' finds out; ' ' stands for runs of blanks
  Header header = Header::detect;  ///< CSV

  int threads =
      1;  ///< that read the lines; 0: all of the machine. The same result, and the same error, for any

  /// The schema of the table that a model was trained on, for a table to test it on or to predict: columns
  /// are matched by name where both have names, else by their places; categories, classes and what missing
  /// cells are read as are the training table's. Null: this table stands for itself.
  std::shared_ptr<const Schema> like = nullptr;
  /// With `like`: the label may be missing, of all rows or of some, and no row is left out.
  bool predicting = false;

  /// CSV, each an exact name, a number or a range of numbers from 1 ("3", "5-8"), or a pattern of names with
  /// * and ?: columns that are read over; when not empty, the only ones that are features; those that are
  /// text, and become one feature for each of their texts.
  List<std::string> ignore = {};
  List<std::string> use = {};
  List<std::string> categorical = {};
  std::string weights = {};          ///< CSV: a column that says how much each row counts (Dataset::weights)
  std::string id = {};               ///< CSV: a column that is kept as it is written, in Dataset::ids
  Missing missing = Missing::error;  ///< CSV
  char decimal = '.';                ///< CSV: ',' for a decimal comma
  Index first_index = 1;             ///< LIBSVM: what indices count from, 1 or 0
};

}  // namespace zipml::inline ZIPML_ABI
