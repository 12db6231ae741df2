#pragma once
/// \file
/// Room packing: what a caller chooses when samples are quantized: seed, scaling, outliers, and the policy
/// that gives each column its levels.

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <optional>
#include <string>

#include <zipml/base/error.hpp>
#include <zipml/base/views.hpp>
#include <zipml/packing/pilot_loss.hpp>
#include <zipml/quantization/levels.hpp>
#include <zipml/quantization/statistics.hpp>
#include <zipml/storage/packed_store.hpp>

namespace zipml::inline ZIPML_ABI {

/// What the lowest and the highest level are fitted to.
enum class Scaling {
  column_range,    ///< smallest to largest value of the column (the default)
  column_max_abs,  ///< -m to m, m the largest magnitude of the standardised column
  row_range,       ///< smallest to largest value of the standardised row; 8 bytes more per row
  row_max_abs,     ///< -m to m of the standardised row; 8 bytes more per row
};

/// Named options of `quantize`.
struct QuantizeOptions {
  std::uint64_t seed = 1;
  Scaling scaling = Scaling::column_range;
  bool standardize =
      true;  ///< train on columns of mean 0 and variance 1; weights come back in the user's units
  /// Share of each column's values that is kept exactly so that the levels span the others only: the column
  /// is clipped to the shortest interval that holds the rest (quantization/clipping.hpp). At most this share
  /// of the rows that are looked at, which are all where they are few, else a random sample
  /// (packing/column_fit.hpp), whose levels and clipping points serve all. 0: none.
  double outliers = 0.0;
  /// Rows of the random sample that a pilot is fitted to (storage/pilot.hpp): with one, training ends near the
  /// exact optimum at 1 to 4 bits already. No value: max(4,000, 100 d, n / 32), at most max(16 d, 2^24 / d)
  /// and half of the rows, and none below 128; 0: none.
  std::optional<Index> pilot = std::nullopt;
  PilotLoss pilot_loss = {};  ///< that the pilot is of: least squares serves any affine loss
  int threads =
      1;  ///< that share statistics and packing; 0: all of the machine. The same bits for any number
  std::string isa = {};  ///< "scalar", "avx2", ...; empty: ZIPML_ISA, else the best. The same bits for any

  bool scales_rows() const { return scaling == Scaling::row_range || scaling == Scaling::row_max_abs; }
};

/// Chooses the levels of all columns: 2^bits for each, in the user's units. `features` are the rows to look
/// at, all or a random sample (column_fit.hpp), `columns` their statistics, the ranges already clipped where
/// outliers are kept. `Decoder` says what a store needs to read the codes.
template <class P>
concept LevelsPolicy = requires(const P policy, const MatrixView& features,
                                const Buffer<ColumnStatistics>& columns, int bits) {
  typename P::Decoder;
  { P::name } -> std::convertible_to<const char*>;
  { policy.levels(features, columns, bits) } -> std::same_as<typename P::Decoder::ColumnLevels>;
};

/// Equally spaced levels from the smallest to the largest value of the column: integer kernels at every
/// width.
struct UniformLevelsPolicy {
  using Decoder = AffineDecoder;
  static constexpr const char* name = "uniform";

  Buffer<UniformGrid> levels(const MatrixView&, const Buffer<ColumnStatistics>& columns, int bits) const {
    Buffer<UniformGrid> grids(columns.size());
    for (Index j = 0; j < columns.size(); ++j) grids[j] = {columns[j].min, columns[j].max, 1 << bits};
    return grids;
  }
};
inline constexpr UniformLevelsPolicy uniform_levels{};

/// A table of levels per column, given by the caller in the units of the data. Values outside a table are
/// kept as outliers where these are on, else moved to its end and counted in the store's `clamped`.
template <int Bits>
struct TablePerColumn {
  using Decoder = TableDecoder;
  static constexpr const char* name = "table";
  static constexpr int bits = Bits;  ///< a policy that serves one width only says so
  List<TableLevels<Bits>> tables;    ///< d

  ColumnTables levels(const MatrixView& features, const Buffer<ColumnStatistics>&, int) const {
    if (static_cast<Index>(tables.size()) != features.cols)
      throw Error("tables of levels and columns differ in number", std::to_string(features.cols) + " tables",
                  std::to_string(tables.size()));
    ColumnTables all(features.cols, 1 << Bits);
    for (Index j = 0; j < features.cols; ++j)
      std::copy_n(tables[static_cast<std::size_t>(j)].table().data(), all.count, all.table(j));
    return all;
  }
};

}  // namespace zipml::inline ZIPML_ABI
