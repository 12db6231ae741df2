#pragma once
/// \file
/// Room storage: samples of 1 to 8 bits, packed at exactly their bits.

#include <cstdint>

#include <zipml/base/buffer.hpp>
#include <zipml/quantization/levels.hpp>
#include <zipml/storage/encodings.hpp>
#include <zipml/storage/sample_store.hpp>

namespace zipml::inline ZIPML_ABI {

/// Codes whose values are offset_j + step_j * (row_offset_i + row_step_i * code), in standardised units.
/// Without scaling by row, row_offset = 0 and row_step = 1, and the row vectors are empty.
struct AffineDecoder {
  using ColumnLevels = Buffer<UniformGrid>;  ///< what columns are rounded to

  Buffer<float> offset;      ///< d
  Buffer<float> step;        ///< d, 0 for a constant column
  Buffer<float> row_offset;  ///< n, or empty
  Buffer<float> row_step;    ///< n, or empty

  bool scales_rows() const { return !row_step.empty(); }
  CodeLevels view() const;
  Index bytes() const {
    return static_cast<Index>(offset.bytes() + step.bytes() + row_offset.bytes() + row_step.bytes());
  }
};

/// A table of `count` levels for each column, in the user's units.
struct ColumnTables {
  int count = 0;
  Buffer<float> values;  ///< d x count
  bool fitted =
      false;  ///< to the columns: values beyond the ends of a table round to them and are no outliers

  ColumnTables() = default;
  ColumnTables(Index d, int levels)
      : count(levels), values(checked_product(d, levels, "the tables of levels")) {}
  Index size() const { return count > 0 ? values.size() / count : 0; }
  float* table(Index j) { return values.data() + j * count; }
  LevelTable operator[](Index j) const { return {values.data() + j * count, count}; }
};

/// Codes that index a table of levels per column, in standardised units.
struct TableDecoder {
  using ColumnLevels = ColumnTables;  ///< what columns are rounded to

  int levels = 0;        ///< 2^b
  Buffer<float> tables;  ///< d x levels

  CodeLevels view() const;
  Index bytes() const { return static_cast<Index>(tables.bytes()); }
};

/// One table of 2^bits entries on the grid 0 .. 255 for all columns: the levels of column j are
/// offset_j + step_j * entry, in the user's units.
struct SharedLevels {
  Buffer<std::uint8_t> entries;  ///< increasing
  Buffer<UniformGrid> grids;     ///< d, the 256 points of each column
  ColumnTables tables;           ///< the same levels, column by column

  Index size() const { return grids.size(); }
  LevelTable operator[](Index j) const { return tables[j]; }
};

/// Codes that stand for a byte, the same in all columns, which then is affine: values are offset_j + step_j *
/// entries[code], in standardised units. Integer kernels read them. Where the entries are evenly spaced they
/// are the codes themselves, and the list is empty.
struct SharedTableDecoder : AffineDecoder {
  using ColumnLevels = SharedLevels;  ///< what columns are rounded to

  Buffer<std::uint8_t> entries;  ///< 2^b, or empty
  Buffer<float> entry_values;    ///< the same as floats

  CodeLevels view() const;
  Index bytes() const {
    return AffineDecoder::bytes() + static_cast<Index>(entries.bytes() + entry_values.bytes());
  }
};

/// n x d samples of `bits` bits a draw. Made by `quantize`; the width is a number here, so that one training
/// loop serves all widths, and a template argument where values become codes and in the kernels.
///
/// Bytes: the codes take Encoding::stored_bits(bits) * d bits for each of n rows rounded up to 8, the decoder
/// 8 d (affine) or 4 d 2^b (tables), 8 n more when rows are scaled, bias terms 4 d, an outlier 6.
template <class Encoding, class Decoder>
class PackedStore : public StoreHeader {
 public:
  static constexpr int draws = Encoding::draws;
  static constexpr bool has_bias = Encoding::has_bias;
  using EncodingType = Encoding;
  using DecoderType = Decoder;

  PackedStore() = default;
  PackedStore(StoreHeader header, int bits)
      : StoreHeader(std::move(header)),
        bits_(bits),
        layout_{rows(), cols(), Encoding::stored_bits(bits)},
        codes_(layout_.bytes()) {}

  int bits() const { return bits_; }
  /// Bits per value of all draws and side structures: those of the encoding, and 48 an outlier.
  double stored_bits() const {
    const double values = static_cast<double>(rows()) * static_cast<double>(cols());
    return static_cast<double>(layout_.stored_bits) +
           (outliers.empty() ? 0.0
                             : Outliers::bits_per_entry * static_cast<double>(outliers.count()) / values);
  }
  /// What an epoch reads whatever the levels: codes with their padding.
  Index codes_bytes() const { return static_cast<Index>(codes_.bytes()); }
  /// Codes, levels, bias terms and outliers.
  Index store_bytes() const {
    return codes_bytes() + decoder.bytes() + static_cast<Index>(bias.bytes()) + outliers.bytes();
  }

  const PlaneLayout& layout() const { return layout_; }
  const Buffer<std::uint8_t>& codes() const { return codes_; }
  Buffer<std::uint8_t>& mutable_codes() { return codes_; }
  /// Valid as long as the store is, and where it is.
  SampleView samples() const {
    SampleView view;
    view.rows = rows();
    view.cols = cols();
    view.bits = bits_;
    view.draws = draws;
    view.stored_bits = stored_bits();
    view.codes_bytes = codes_bytes();
    view.store_bytes = store_bytes();
    view.codes = codes_.data();
    view.layout = layout_;
    view.levels = decoder.view();
    view.outliers = outliers.view();
    view.bias = bias.data();
    view.weights = weights().data();
    view.pilot = pilot.empty() ? nullptr : &pilot;
    return view;
  }
  /// SampleView::code, value and decode_row.
  int code(Index i, Index j, int draw = 0) const { return samples().code(i, j, draw); }
  float value(Index i, Index j, int draw = 0) const { return samples().value(i, j, draw); }
  void decode_row(Index i, int draw, float* out) const { samples().decode_row(i, draw, out); }

  /// The k = Encoding::summed draws of row i apart, in `out` (k x d values): the multiset that was packed,
  /// arranged anew for each reading `pass` and each row, so that the draws of a value are exchangeable and
  /// those of different values independent. For estimators that multiply draws of one value. O(k d).
  void draws_of(Index i, std::uint64_t pass, float* out) const requires(Encoding::summed > 1) {
    constexpr int k = Encoding::summed;
    const Random random(seed());
    const auto original = static_cast<std::uint64_t>(row_id(i));
    const SampleView view = samples();
    PhiloxWords words{};
    for (Index j = 0; j < cols(); ++j) {
      if (j % 4 == 0)
        words = random.words(Stream::arrangement, static_cast<std::uint32_t>(pass),
                             static_cast<std::uint32_t>(j / 4), original);
      const DrawCount count = split_sum(view.code(i, j), k, bits_);
      const unsigned up = arrangement(k, count.up, words[static_cast<std::size_t>(j % 4)]);
      for (int t = 0; t < k; ++t)
        out[t * cols() + j] = view.levels.value(i, j, k * (count.low + static_cast<int>(up >> t & 1u)));
    }
    List<Outlier> found;
    outliers.find(i, 1, found);
    for (const Outlier& outlier : found)
      for (int t = 0; t < k; ++t) out[t * cols() + outlier.column] += outlier.correction;
  }

  Decoder decoder;
  /// Encoding::has_bias: for each column the mean variance of what is read, which E q q' has too much on the
  /// diagonal (d values, standardised units squared). Else empty.
  Buffer<float> bias;
  Outliers outliers;
  /// Empty where there is none.
  Pilot pilot;
  /// Values that lay outside the levels and were moved to the nearest one; none where outliers are kept.
  Index clamped = 0;

 private:
  int bits_ = 0;
  PlaneLayout layout_;
  Buffer<std::uint8_t> codes_;
};

#if ZIPML_DEFINES

ZIPML_FUNCTION CodeLevels AffineDecoder::view() const {
  CodeLevels levels;
  levels.offset = offset.data();
  levels.step = step.data();
  levels.row_offset = row_offset.data();
  levels.row_step = row_step.data();
  return levels;
}

ZIPML_FUNCTION CodeLevels TableDecoder::view() const {
  CodeLevels view;
  view.tables = tables.data();
  view.levels = levels;
  return view;
}

ZIPML_FUNCTION CodeLevels SharedTableDecoder::view() const {
  CodeLevels levels = AffineDecoder::view();
  if (entries.empty()) return levels;
  levels.entries = entries.data();
  levels.entry_values = entry_values.data();
  levels.entry_count = static_cast<int>(entries.size());
  return levels;
}

#endif

}  // namespace zipml::inline ZIPML_ABI
