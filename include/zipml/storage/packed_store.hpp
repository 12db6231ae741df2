#pragma once
/// \file
/// Room storage: samples of 1 to 8 bits, packed at exactly their bits.

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include <zipml/base/buffer.hpp>
#include <zipml/quantization/levels.hpp>
#include <zipml/storage/encodings.hpp>
#include <zipml/storage/outliers.hpp>
#include <zipml/storage/plane_layout.hpp>
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

  /// offset + step * code in double, where the product is exact: no contraction can change it.
  static float value_of(float offset, float step, float code) {
    return static_cast<float>(static_cast<double>(offset) +
                              static_cast<double>(step) * static_cast<double>(code));
  }
  bool scales_rows() const { return !row_step.empty(); }
  float value(Index i, Index j, int code) const {
    const auto k = static_cast<float>(code);
    return value_of(offset[j], step[j], scales_rows() ? value_of(row_offset[i], row_step[i], k) : k);
  }
  /// Codes of row i become values, in place.
  void decode(Index i, Index d, float* codes) const {
    if (scales_rows())
      for (Index j = 0; j < d; ++j) codes[j] = value_of(row_offset[i], row_step[i], codes[j]);
    for (Index j = 0; j < d; ++j) codes[j] = value_of(offset[j], step[j], codes[j]);
  }
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

  float value(Index /*i*/, Index j, int code) const { return tables[j * levels + code]; }
  void decode(Index i, Index d, float* codes) const {
    for (Index j = 0; j < d; ++j) codes[j] = value(i, j, static_cast<int>(codes[j]));
  }
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

  float entry(int code) const { return entries.empty() ? static_cast<float>(code) : entry_values[code]; }
  float value(Index /*i*/, Index j, int code) const { return value_of(offset[j], step[j], entry(code)); }
  void decode(Index i, Index d, float* codes) const {
    if (!entries.empty())
      for (Index j = 0; j < d; ++j) codes[j] = entry_values[static_cast<Index>(codes[j])];
    AffineDecoder::decode(i, d, codes);
  }
  Index bytes() const {
    return AffineDecoder::bytes() + static_cast<Index>(entries.bytes() + entry_values.bytes());
  }
};

template <class Encoding, class Decoder>
class PackedStore;

/// Draws all values of a store anew: what a store of fresh draws holds. Without the width in its type, so
/// that one training loop serves frozen and fresh draws of all widths.
template <class Encoding, class Decoder>
struct Redraw {
  virtual ~Redraw() = default;
  /// Replaces codes and bias terms by those of `epoch`. O(n d draws).
  virtual void draw_again(const PackedStore<Encoding, Decoder>& store, int epoch, std::uint8_t* codes,
                          float* bias) const = 0;
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
  /// Where the rows [first, first + count) lie, to be asked for ahead: exactly their groups where a code is
  /// one plane, else as many bytes from the beginning of their block on, which are whole blocks where rows
  /// are.
  std::span<const std::byte> memory_of(Index first, Index count) const {
    const bool one_plane = std::has_single_bit(static_cast<unsigned>(layout_.stored_bits)) && draws == 1;
    const Index before = one_plane ? first % group_rows : first % block_rows;
    const Index group_bytes = layout_.stored_bits * cols();
    const Index offset = (first - before) / group_rows * group_bytes;
    const Index bytes = std::min((before + count + 7) / 8 * group_bytes, layout_.bytes() - offset);
    return std::as_bytes(std::span(codes_.data() + offset, static_cast<std::size_t>(bytes)));
  }
  PlaneList planes(int draw) const { return Encoding::planes(bits_, draw); }
  PlaneList base_planes() const { return Encoding::base_planes(bits_); }

  /// The code that draw `draw` of value (i, j) is read as; of an outlier, the clipped one.
  int code(Index i, Index j, int draw = 0) const {
    const PlaneList list = planes(draw);
    int sum = 0;
    for (int p = 0; p < list.count; ++p)
      sum += plane_bits(codes_.data(), layout_, list[p], i, j) << list[p].shift;
    return sum;
  }
  /// Value (i, j) of a draw in standardised units. O(outliers of a block).
  float value(Index i, Index j, int draw = 0) const {
    float v = decoder.value(i, j, code(i, j, draw));
    List<Outlier> found;
    outliers.find(i, 1, found);
    for (const Outlier& outlier : found)
      if (outlier.column == j) v += outlier.correction;
    return v;
  }

  /// Decodes row i of one draw into `out` (d values, standardised units), O(d).
  void decode_row(Index i, int draw, float* out) const {
    const PlaneList list = planes(draw);
    for (Index j = 0; j < cols(); ++j) out[j] = 0.0f;
    for (int p = 0; p < list.count; ++p) {
      const Plane& plane = list[p];
      const Index rows_per_byte = 8 / plane.width;
      const std::uint8_t* bytes =
          codes_.data() + layout_.offset(plane, i / group_rows) + i % group_rows / rows_per_byte * cols();
      const int shift = static_cast<int>(i % rows_per_byte) * plane.width;
      const int mask = (1 << plane.width) - 1;
      for (Index j = 0; j < cols(); ++j)
        out[j] += static_cast<float>((bytes[j] >> shift & mask) << plane.shift);
    }
    decoder.decode(i, cols(), out);
    if (outliers.empty()) return;
    List<Outlier> found;
    outliers.find(i, 1, found);
    for (const Outlier& outlier : found) out[outlier.column] += outlier.correction;
  }

  /// The k = Encoding::summed draws of row i apart, in `out` (k x d values): the multiset that was packed,
  /// arranged anew for each reading `pass` and each row, so that the draws of a value are exchangeable and
  /// those of different values independent. For estimators that multiply draws of one value. O(k d).
  void draws_of(Index i, std::uint64_t pass, float* out) const requires(Encoding::summed > 1) {
    constexpr int k = Encoding::summed;
    const Random random(seed());
    const auto original = static_cast<std::uint64_t>(row_id(i));
    PhiloxWords words{};
    for (Index j = 0; j < cols(); ++j) {
      if (j % 4 == 0)
        words = random.words(Stream::arrangement, static_cast<std::uint32_t>(pass),
                             static_cast<std::uint32_t>(j / 4), original);
      const DrawCount count = split_sum(code(i, j), k, bits_);
      const unsigned up = arrangement(k, count.up, words[static_cast<std::size_t>(j % 4)]);
      for (int t = 0; t < k; ++t)
        out[t * cols() + j] = decoder.value(i, j, k * (count.low + static_cast<int>(up >> t & 1u)));
    }
    List<Outlier> found;
    outliers.find(i, 1, found);
    for (const Outlier& outlier : found)
      for (int t = 0; t < k; ++t) out[t * cols() + outlier.column] += outlier.correction;
  }

  /// Called by the training loop: where `redraw` is set, codes and bias terms become those of this epoch
  /// (from 0), else nothing happens. One fit at a time then.
  void begin_epoch(int epoch) const {
    if (!redraw || epoch == epoch_) return;
    // What changes is on the heap and not const, so that a const store can be trained on.
    redraw->draw_again(*this, epoch, const_cast<std::uint8_t*>(codes_.data()),
                       const_cast<float*>(bias.data()));
    epoch_ = epoch;
  }

  Decoder decoder;
  /// Encoding::has_bias: for each column the mean variance of what is read, which E q q' has too much on the
  /// diagonal (d values, standardised units squared). Else empty.
  Buffer<float> bias;
  Outliers outliers;
  /// Values that lay outside the levels and were moved to the nearest one; none where outliers are kept.
  Index clamped = 0;
  /// Set by quantize_fresh.
  std::shared_ptr<const Redraw<Encoding, Decoder>> redraw;

 private:
  mutable int epoch_ = 0;  // whose draws the codes are
  int bits_ = 0;
  PlaneLayout layout_;
  Buffer<std::uint8_t> codes_;
};

}  // namespace zipml::inline ZIPML_ABI
