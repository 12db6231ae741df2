#pragma once
/// \file
/// Layer 2: from float32 samples to a packed store.

#include <algorithm>
#include <array>
#include <concepts>
#include <cstdint>
#include <vector>

#include <zipml/quantization/levels.hpp>
#include <zipml/quantization/rounding.hpp>
#include <zipml/storage/dense_store.hpp>
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
};

/// Chooses the levels of a column. `Decoder` says what the store then needs to read codes;
/// `levels<Bits>(...)` are the levels of column j in the user's units.
template <class P, int Bits>
concept LevelsPolicy = requires(const P policy, const MatrixView& features, const ColumnStatistics& column,
                                Index j) {
  typename P::Decoder;
  { P::name } -> std::convertible_to<const char*>;
  { policy.template levels<Bits>(features, column, j) } -> Levels;
};

/// Equally spaced levels from the smallest to the largest value of the column: integer kernels at every
/// width.
struct UniformLevelsPolicy {
  using Decoder = AffineDecoder;
  static constexpr const char* name = "uniform";

  template <int Bits>
  UniformLevels<Bits> levels(const MatrixView&, const ColumnStatistics& column, Index) const {
    return {column.min, column.max};
  }
};
inline constexpr UniformLevelsPolicy uniform_levels{};

/// A table of levels per column, given by the caller in the units of the data. Values outside a table are
/// moved to its end and counted in the store's `clamped`.
template <int Bits>
struct TablePerColumn {
  using Decoder = TableDecoder;
  static constexpr const char* name = "table";
  List<TableLevels<Bits>> tables;  ///< d

  template <int B>
  requires(B == Bits) const TableLevels<Bits>& levels(const MatrixView& features, const ColumnStatistics&,
                                                      Index j) const {
    if (static_cast<Index>(tables.size()) != features.cols)
      throw Error("tables of levels and columns differ in number", std::to_string(features.cols) + " tables",
                  std::to_string(tables.size()));
    return tables[static_cast<std::size_t>(j)];
  }
};

namespace detail {

/// Writes the codes of 8 rows into one group of every plane. `base` and `ups` hold 8 x cols: the code of the
/// lower level (or of the level, for one draw), and one bit per draw.
template <class Encoding>
void write_group(std::uint8_t* codes, const PlaneLayout& layout, int bits, Index group,
                 const std::uint8_t* base, const std::uint8_t* ups) {
  const auto write_plane = [&](const Plane& plane, const std::uint8_t* source, int source_shift) {
    std::uint8_t* out = codes + layout.offset(plane, group);
    const int rows_per_byte = 8 / plane.width;
    const unsigned mask = (1u << plane.width) - 1u;
    for (int panel = 0; panel < plane.width; ++panel, out += layout.cols) {
      const std::uint8_t* rows = source + panel * rows_per_byte * layout.cols;
      for (Index j = 0; j < layout.cols; ++j) {
        unsigned byte = 0;
        for (int r = 0; r < rows_per_byte; ++r)
          byte |= (unsigned{rows[r * layout.cols + j]} >> source_shift & mask) << (r * plane.width);
        out[j] = static_cast<std::uint8_t>(byte);
      }
    }
  };
  const PlaneList planes = Encoding::base_planes(bits);
  for (int p = 0; p < planes.count; ++p) write_plane(planes[p], base, planes[p].shift);
  if constexpr (Encoding::draws > 1)
    for (int draw = 0; draw < Encoding::draws; ++draw)
      write_plane({1, 0, Encoding::base_bits(bits) + draw}, ups, draw);
}

/// A random word for each draw of a value.
template <class Encoding>
using DrawWords = std::array<std::uint32_t, static_cast<std::size_t>(Encoding::draws)>;

/// Rounds one value in every draw.
template <class Encoding, class L, class R>
void encode_value(const L& levels, R, float value, const DrawWords<Encoding>& words, std::uint8_t& base,
                  std::uint8_t& ups) {
  const Position position = levels.lower(value);
  if constexpr (Encoding::draws == 1) {
    base = static_cast<std::uint8_t>(position.code + (R::up(position, words[0]) ? 1 : 0));
  } else {
    unsigned up = 0;
    for (int draw = 0; draw < Encoding::draws; ++draw)
      up |= (R::up(position, words[static_cast<std::size_t>(draw)]) ? 1u : 0u) << draw;
    base = static_cast<std::uint8_t>(position.code);
    ups = static_cast<std::uint8_t>(up);
  }
}

template <int Bits, class Encoding, class Policy, class R>
class Packer {
 public:
  using Store = PackedStore<Encoding, typename Policy::Decoder>;
  using LevelsType = std::remove_cvref_t<decltype(std::declval<const Policy&>().template levels<Bits>(
      std::declval<const MatrixView&>(), std::declval<const ColumnStatistics&>(), Index{}))>;

  Packer(const MatrixView& features, const VectorRef& labels, const Policy& policy,
         const QuantizeOptions& options)
      : features_(features),
        options_(options),
        columns_(column_statistics(features)),
        store_(StoreHeader(features, labels, columns_, options.standardize, options.seed), Bits),
        levels_(features.cols) {
    constexpr bool affine = std::same_as<typename Policy::Decoder, AffineDecoder>;
    const bool by_row = options.scaling == Scaling::row_range || options.scaling == Scaling::row_max_abs;
    if constexpr (!affine) {
      if (options.scaling != Scaling::column_range)
        throw Error("tables of levels are fitted to columns", "Scaling::column_range", "another scaling");
    }
    const Standardization& map = store_.standardization();
    for (Index j = 0; j < features.cols; ++j) {
      if (options.scaling == Scaling::column_max_abs) center(columns_[j], map.mean[j]);
      levels_[j] = policy.template levels<Bits>(features, columns_[j], j);
    }
    if constexpr (affine) {
      store_.decoder.offset = Buffer<float>(features.cols);
      store_.decoder.step = Buffer<float>(features.cols);
      for (Index j = 0; j < features.cols; ++j) {
        const double offset = static_cast<double>(levels_[j].offset()) - map.mean[j];
        store_.decoder.offset[j] = by_row ? 0.0f : static_cast<float>(offset / map.scale[j]);
        store_.decoder.step[j] =
            by_row ? 1.0f : static_cast<float>(static_cast<double>(levels_[j].step()) / map.scale[j]);
      }
      if (by_row) {
        store_.decoder.row_offset = Buffer<float>(features.rows);
        store_.decoder.row_step = Buffer<float>(features.rows);
      }
    } else {
      store_.decoder.levels = LevelsType::count;
      store_.decoder.tables = Buffer<float>(features.cols * LevelsType::count);
      for (Index j = 0; j < features.cols; ++j)
        for (int code = 0; code < LevelsType::count; ++code)
          store_.decoder.tables[j * LevelsType::count + code] =
              static_cast<float>((static_cast<double>(levels_[j].value(code)) - map.mean[j]) / map.scale[j]);
    }
    by_row_ = by_row;
  }

  Store pack() {
    const Index d = features_.cols;
    Buffer<std::uint8_t> base(group_rows * d);
    Buffer<std::uint8_t> ups(group_rows * d);
    Buffer<float> standardised(by_row_ ? d : 0);
    for (Index group = 0; group < store_.layout().groups(); ++group) {
      for (Index r = 0; r < group_rows; ++r) {
        const Index i = group * group_rows + r;
        if (i < features_.rows) {
          encode_row(i, base.data() + r * d, ups.data() + r * d, standardised);
        } else {  // the store promises code 0 behind the last row
          std::fill_n(base.data() + r * d, d, std::uint8_t{0});
          std::fill_n(ups.data() + r * d, d, std::uint8_t{0});
        }
      }
      write_group<Encoding>(store_.mutable_codes().data(), store_.layout(), Bits, group, base.data(),
                            ups.data());
    }
    return std::move(store_);
  }

 private:
  /// Makes the range symmetric about `middle`.
  static void center(ColumnStatistics& column, double middle) {
    const double reach =
        std::max(static_cast<double>(column.max) - middle, middle - static_cast<double>(column.min));
    column.min = static_cast<float>(middle - reach);
    column.max = static_cast<float>(middle + reach);
  }

  void encode_row(Index i, std::uint8_t* base, std::uint8_t* ups, Buffer<float>& standardised) {
    const Index original = store_.row_id(i);
    const float* row = features_.row(original);
    if (!by_row_) {
      encode_values(original, row, base, ups, [&](Index j) -> const LevelsType& { return levels_[j]; });
      return;
    }
    if constexpr (std::same_as<typename Policy::Decoder, AffineDecoder>) {
      const Standardization& map = store_.standardization();
      ColumnStatistics range;
      for (Index j = 0; j < features_.cols; ++j) {
        const auto v = static_cast<float>((static_cast<double>(row[j]) - map.mean[j]) / map.scale[j]);
        standardised[j] = v;
        range.min = j == 0 ? v : std::min(range.min, v);
        range.max = j == 0 ? v : std::max(range.max, v);
      }
      if (options_.scaling == Scaling::row_max_abs) center(range, 0.0);
      const UniformLevels<Bits> levels(range.min, range.max);
      store_.decoder.row_offset[i] = levels.offset();
      store_.decoder.row_step[i] = levels.step();
      encode_values(original, standardised.data(), base, ups,
                    [&](Index) -> const UniformLevels<Bits>& { return levels; });
    }
  }

  template <class LevelsOf>
  void encode_values(Index original, const float* row, std::uint8_t* base, std::uint8_t* ups,
                     const LevelsOf& levels_of) {
    const Random random(options_.seed);
    const Index d = features_.cols;
    for (Index first = 0; first < d; first += 4) {
      DrawWords<Encoding> words[4] = {};
      if constexpr (R::stochastic) {
        for (std::size_t draw = 0; draw < words[0].size(); ++draw) {
          const PhiloxWords four =
              random.words(Stream::samples, static_cast<std::uint32_t>(draw),
                           static_cast<std::uint32_t>(first / 4), static_cast<std::uint64_t>(original));
          for (std::size_t k = 0; k < 4; ++k) words[k][draw] = four[k];
        }
      }
      for (Index k = 0; k < 4 && first + k < d; ++k) {
        const Index j = first + k;
        const auto& levels = levels_of(j);
        using L = std::remove_cvref_t<decltype(levels)>;
        if (row[j] < levels.value(0) || row[j] > levels.value(L::count - 1)) {
          if constexpr (!AffineLevels<L>)
            ++store_.clamped;  // uniform levels end at the extremes, up to rounding
        }
        encode_value<Encoding>(levels, R{}, row[j], words[k], base[j], ups[j]);
      }
    }
  }

  MatrixView features_;
  QuantizeOptions options_;
  Buffer<ColumnStatistics> columns_;
  Store store_;
  Buffer<LevelsType> levels_;
  bool by_row_ = false;
};

}  // namespace detail

/// The store of `Estimator::Encoding` at Bits bits a draw: rounds every value in every draw, O(n d draws).
/// Throws Error on n = 0, on values or labels that are not finite, on a range beyond float32.
template <int Bits, class Encoding, class Policy, class R>
PackedStore<Encoding, typename Policy::Decoder> pack(const MatrixView& features, const VectorRef& labels,
                                                     const Policy& policy, R,
                                                     const QuantizeOptions& options) {
  return detail::Packer<Bits, Encoding, Policy, R>(features, labels, policy, options).pack();
}

}  // namespace zipml::inline ZIPML_ABI
