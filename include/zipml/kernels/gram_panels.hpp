#pragma once
/// \file
/// Room kernels: panels of codes, as gram kernels read them (kernels/gram.hpp), put together from the planes of packed samples.

#include <cstdint>
#include <cstring>

#include <zipml/base/buffer.hpp>
#include <zipml/base/config.hpp>
#include <zipml/base/index.hpp>
#include <zipml/base/intrinsics.hpp>
#include <zipml/base/isa.hpp>
#include <zipml/kernels/gram.hpp>
#include <zipml/storage/row_codes.hpp>
#include <zipml/storage/sample_view.hpp>

namespace zipml::inline ZIPML_ABI::detail {

/// The codes of a row in bytes, eight at a time: the bits of a plane stay within their bytes.
ZIPML_ALWAYS_INLINE void join_planes(const RowCodes& codes, Index d, std::uint8_t* __restrict out) {
  for (int p = 0; p < codes.count; ++p) {
    const std::uint64_t mask = 0x0101010101010101u * static_cast<unsigned>(codes.mask[p]);
    const std::uint8_t* __restrict const bytes = codes.bytes[p];
    const int shift = codes.shift[p], weight = codes.weight[p];
    const std::uint64_t before = p == 0 ? 0u : ~std::uint64_t{0};
    for (Index j = 0; j < d / 8; ++j) {
      std::uint64_t word, sum;
      std::memcpy(&word, bytes + 8 * j, 8);
      std::memcpy(&sum, out + 8 * j, 8);
      sum = (sum & before) + ((word >> shift & mask) << weight);
      std::memcpy(out + 8 * j, &sum, 8);
    }
    for (Index j = d / 8 * 8; j < d; ++j)
      out[j] =
          static_cast<std::uint8_t>((p == 0 ? 0 : out[j]) + ((bytes[j] >> shift & codes.mask[p]) << weight));
  }
}

#if ZIPML_X86
/// Four words of the same operations.
ZIPML_KERNEL("avx2") inline void join_planes_avx2(const RowCodes& codes, Index d, std::uint8_t* out) {
  join_planes(codes, d, out);
}
#endif

/// Rows of codes in bytes, and the panel that is made of them.
class GramPanels {
 public:
  GramPanels(const SampleView& samples, int draw, Index rows, Isa isa)
      : samples_(samples),
        isa_(isa),
        planes_(samples.planes(draw)),
        blocks_((samples.cols + gram_columns) / gram_columns),  // with the column of ones
        width_(blocks_ * gram_columns),
        rows_(gram_fours * width_),
        panel_(blocks_ * rows * gram_columns) {
    largest_ =
        samples.levels.entries != nullptr ? 255 : (1 << planes_.code_bits) - (planes_.has_draw_plane ? 0 : 1);
  }

  Index columns() const { return width_; }

  /// The panel of rows [first, first + count), a multiple of 4 of them but at the end.
  GramPanel of(Index first, Index count) {
    const Index fours = (count + gram_fours - 1) / gram_fours;
    for (Index f = 0; f < fours; ++f) {
      for (Index r = 0; r < gram_fours; ++r) {
        std::uint8_t* const row = rows_.data() + r * width_;
        const Index at = f * gram_fours + r;
        if (at < count)
          decode(first + at, row);
        else
          std::memset(row, 0, static_cast<std::size_t>(width_));
      }
      for (Index b = 0; b < blocks_; ++b)
        interleave(rows_.data() + b * gram_columns, panel_.data() + (b * fours + f) * 64);
    }
    return {panel_.data(), blocks_, fours, largest_};
  }

 private:
  void decode(Index i, std::uint8_t* out) const {
    const RowCodes codes(samples_.codes, samples_.layout, planes_, i);
    const Index d = samples_.cols;
    std::memset(out + d, 0, static_cast<std::size_t>(width_ - d));
#if ZIPML_X86
    if (isa_ != Isa::scalar)
      join_planes_avx2(codes, d, out);
    else
#endif
      join_planes(codes, d, out);
    if (samples_.levels.entries != nullptr)
      for (Index j = 0; j < d; ++j) out[j] = samples_.levels.entries[out[j]];
    out[d] = 1;
  }

  /// 16 columns of 4 rows, column after column.
  void interleave(const std::uint8_t* rows, std::uint8_t* out) const {
#if ZIPML_X86 && defined(__SSE2__)
    const auto row = [&](Index r) {
      return _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows + r * width_));
    };
    const __m128i low01 = _mm_unpacklo_epi8(row(0), row(1)), high01 = _mm_unpackhi_epi8(row(0), row(1));
    const __m128i low23 = _mm_unpacklo_epi8(row(2), row(3)), high23 = _mm_unpackhi_epi8(row(2), row(3));
    const auto store = [&](int at, __m128i v) { _mm_store_si128(reinterpret_cast<__m128i*>(out + at), v); };
    store(0, _mm_unpacklo_epi16(low01, low23));
    store(16, _mm_unpackhi_epi16(low01, low23));
    store(32, _mm_unpacklo_epi16(high01, high23));
    store(48, _mm_unpackhi_epi16(high01, high23));
#else
    for (Index j = 0; j < gram_columns; ++j)
      for (Index r = 0; r < gram_fours; ++r) out[j * gram_fours + r] = rows[r * width_ + j];
#endif
  }

  const SampleView& samples_;
  Isa isa_;
  PlaneList planes_;
  Index blocks_, width_;
  Buffer<std::uint8_t> rows_, panel_;
  int largest_;
};

}  // namespace zipml::inline ZIPML_ABI::detail
