#pragma once
/// \file
/// Layer 2: samples of 1 to 8 bits, packed at exactly their bits.

#include <cstdint>

#include <zipml/storage/plane_layout.hpp>
#include <zipml/storage/sample_store.hpp>

namespace zipml::inline ZIPML_ABI {

/// How K independent draws of a value are stored, K = 1: the code of the level, b bits.
/// K > 1: the draws of a value lie at one of two neighbouring levels, so the code of the lower one (2^b - 1
/// intervals) is stored once and each draw adds one bit that says "upper": b + K bits (K bits when b = 1,
/// where there is one interval). ZipML 2017, section 2.2, stores the draws apart, in K b bits.
template <int K>
struct SeparateDraws {
  static_assert(K >= 1 && K <= 8, "zipml: a store keeps 1 to 8 draws apart");
  static constexpr int draws = K;

  static constexpr int base_bits(int bits) { return K > 1 && bits == 1 ? 0 : bits; }
  static constexpr int stored_bits(int bits) { return base_bits(bits) + (K > 1 ? K : 0); }

  static PlaneList base_planes(int bits) { return PlaneList::of_code(base_bits(bits)); }
  /// The planes whose sum is the code of one draw.
  static PlaneList planes(int bits, int draw) {
    PlaneList list = base_planes(bits);
    if (K > 1) list.push_draw_plane(base_bits(bits) + draw);
    return list;
  }
};

/// Codes whose values are offset_j + step_j * (row_offset_i + row_step_i * code), in standardised units.
/// Without scaling by row, row_offset = 0 and row_step = 1, and the row vectors are empty.
struct AffineDecoder {
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

/// Codes that index a table of levels per column, in standardised units.
struct TableDecoder {
  int levels = 0;        ///< 2^b
  Buffer<float> tables;  ///< d x levels

  float value(Index /*i*/, Index j, int code) const { return tables[j * levels + code]; }
  void decode(Index i, Index d, float* codes) const {
    for (Index j = 0; j < d; ++j) codes[j] = value(i, j, static_cast<int>(codes[j]));
  }
  Index bytes() const { return static_cast<Index>(tables.bytes()); }
};

/// n x d samples of `bits` bits a draw. Made by `quantize`; the width is a number here, so that one training
/// loop serves all widths, and a template argument where values become codes and in the kernels.
///
/// Bytes: the codes take stored_bits() * d bits for each of n rows rounded up to 8, the decoder 8 d (affine)
/// or 4 d 2^b (tables), 8 n more when rows are scaled.
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
  double stored_bits() const { return static_cast<double>(layout_.stored_bits); }
  Index store_bytes() const { return static_cast<Index>(codes_.bytes()) + decoder.bytes(); }

  const PlaneLayout& layout() const { return layout_; }
  const Buffer<std::uint8_t>& codes() const { return codes_; }
  Buffer<std::uint8_t>& mutable_codes() { return codes_; }
  PlaneList planes(int draw) const { return Encoding::planes(bits_, draw); }

  int code(Index i, Index j, int draw = 0) const {
    const PlaneList list = planes(draw);
    int sum = 0;
    for (int p = 0; p < list.count; ++p)
      sum += plane_bits(codes_.data(), layout_, list[p], i, j) << list[p].shift;
    return sum;
  }
  float value(Index i, Index j, int draw = 0) const { return decoder.value(i, j, code(i, j, draw)); }

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
  }

  Decoder decoder;
  /// Values that lay outside the levels and were moved to the nearest one.
  Index clamped = 0;

 private:
  int bits_ = 0;
  PlaneLayout layout_;
  Buffer<std::uint8_t> codes_;
};

}  // namespace zipml::inline ZIPML_ABI
