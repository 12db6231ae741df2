#pragma once
/// \file
/// Room kernels: the AVX2 kernels with the dot product of AVX-VNNI: processors that multiply bytes into int32
/// in one instruction but have no AVX-512 (Alder Lake and its successors). Integers equal the scalar kernels
/// bit for bit.
///
///     intrinsic            instruction   Zen 5   Alder Lake P   here
///     dpbusd_avx_epi32     vpdpbusd      4,  2   5,  2          4 codes x 4 int8 into int32, exact
///
/// The bits of a row are masked where they stand in their byte, as in the AVX-512 kernels, which saves the
/// shifts; no budget of int16 interrupts the loop. Accumulation is that of AVX2: its tables do not need the
/// product. The Gram matrix multiplies panels of AVX2; values above 127 stand less 128 on the signed side, for
/// which the sums of the columns make up (gram.hpp).
///
/// Preconditions used (kernel_policy.hpp): padded model, whole groups, code 0, readable tail.

#include <zipml/base/index.hpp>
#include <zipml/kernels/avx2.hpp>

#if ZIPML_X86

namespace zipml::inline ZIPML_ABI {

/// See kernel_policy.hpp for the contract.
struct AvxVnniKernels : Avx2Kernels {
  static constexpr Isa isa = Isa::avx_vnni;
  static constexpr const char* name = name_of(isa);

  using Avx2Kernels::accumulate;
  using Avx2Kernels::margins;

  template <class Codes>
  static void margins(const PackedView& view, const PlaneList& planes, GroupRange groups,
                      const std::int8_t* model, std::int32_t* out) {
    std::memset(out, 0, static_cast<std::size_t>(groups.rows()) * sizeof *out);
    for (int p = 0; p < planes.count; ++p)
      detail::visit_plane<Codes>(
          planes[p].width, [&](auto width) { add_margins<width()>(view, planes[p], groups, model, out); });
  }

  template <class Codes>
  static void margins(const PackedView& view, const PlaneList& planes, GroupRange groups,
                      ModelBlock<const std::int8_t> models, ModelBlock<std::int32_t> out) {
    block_margins<AvxVnniKernels, Codes>(view, planes, groups, models, out);
  }

  static void gram(const PackedView& view, const PlaneList& planes, CodeTable table, GroupRange groups,
                   GramSums out) {
    if (detail::largest_code(planes) > 255)  // codes are decoded to bytes
      return detail::gram_plainly(view, planes, table, groups, out);
    if (detail::largest_value(planes, table) > 127)
      gram_by(GramProducts<128>{}, view, planes, table, groups, out);
    else
      gram_by(GramProducts<0>{}, view, planes, table, groups, out);
  }

 private:
  friend Avx2Kernels;  // block_margins

  /// See Avx2Integers: W models, 8 / W rows.
  template <int W>
  ZIPML_TARGET_AVX_VNNI static void add_margins_of_models(const PackedView& view, const Plane& plane,
                                                          GroupRange groups,
                                                          ModelBlock<const std::int8_t> models,
                                                          ModelBlock<std::int32_t> out) {
    constexpr int per_byte = 8 / W;
    const Index d = view.layout.cols;
    const Index width = view.width;
    const std::int8_t* x[W];
    for (int m = 0; m < W; ++m) x[m] = models[m];
    LookAhead ahead(view.ahead, view.codes);
    for (Index g = 0; g < groups.count; ++g)
      for (int k = 0; k < W; ++k) {
        const std::uint8_t* panel = view.group(plane, groups.first + g) + k * d;
        __m256i acc[8];
        for (__m256i& a : acc) a = _mm256_setzero_si256();
        for (Index j = 0; j < width; j += 32) {
          const __m256i codes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(panel + j));
          for (int r = 0; r < per_byte; ++r) {
            const __m256i mask = _mm256_set1_epi8(static_cast<char>(((1 << W) - 1) << (r * W)));
            const __m256i bits = _mm256_and_si256(codes, mask);
            for (int m = 0; m < W; ++m) {
              const __m256i x_i8x32 = _mm256_load_si256(reinterpret_cast<const __m256i*>(x[m] + j));
              acc[m * per_byte + r] = _mm256_dpbusd_avx_epi32(acc[m * per_byte + r], bits, x_i8x32);
            }
          }
        }
        const __m256i positions =
            W == 2 ? _mm256_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6) : _mm256_setr_epi32(0, 4, 0, 4, 0, 4, 0, 4);
        const __m256i sums = _mm256_srav_epi32(row_sums(acc), positions);
        add_sums_of_models<W>(sums, plane.shift, out, g * group_rows + k * per_byte);
        ahead.touch(width / 64);
      }
  }

  /// Eight rows at once: |sum| <= 255 * 127 * d < 2^31.
  template <int W>
  ZIPML_TARGET_AVX_VNNI static void add_margins(const PackedView& view, const Plane& plane, GroupRange groups,
                                                const std::int8_t* x, std::int32_t* out) {
    constexpr int per_byte = 8 / W;
    const Index d = view.layout.cols;
    const Index width = view.width;
    LookAhead ahead(view.ahead, view.codes);
    for (Index g = 0; g < groups.count; ++g, out += group_rows) {
      const std::uint8_t* panels = view.group(plane, groups.first + g);
      __m256i acc[8];
      for (__m256i& a : acc) a = _mm256_setzero_si256();
      for (Index j = 0; j < width; j += 32) {
        const __m256i x_i8x32 = _mm256_load_si256(reinterpret_cast<const __m256i*>(x + j));
        for (int k = 0; k < W; ++k) {
          const __m256i codes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(panels + k * d + j));
          for (int r = 0; r < per_byte; ++r) {
            const __m256i mask = _mm256_set1_epi8(static_cast<char>(((1 << W) - 1) << (r * W)));
            const __m256i bits = W == 8 ? codes : _mm256_and_si256(codes, mask);
            acc[k * per_byte + r] = _mm256_dpbusd_avx_epi32(acc[k * per_byte + r], bits, x_i8x32);
          }
        }
        if (W >= 4 || j % 64 == 0) ahead.touch();
      }
      // The sum of a row is a multiple of 2^position of its bits.
      __m256i positions = _mm256_setzero_si256();
      if constexpr (W == 1) positions = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
      if constexpr (W == 2) positions = _mm256_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6);
      if constexpr (W == 4) positions = _mm256_setr_epi32(0, 4, 0, 4, 0, 4, 0, 4);
      const __m256i sums =
          _mm256_sll_epi32(_mm256_srav_epi32(row_sums(acc), positions), _mm_cvtsi32_si128(plane.shift));
      __m256i* to = reinterpret_cast<__m256i*>(out);
      _mm256_storeu_si256(to, _mm256_add_epi32(_mm256_loadu_si256(to), sums));
    }
  }

  // ---- products of a panel, as in avx2_gram.hpp

  template <int Row>
  ZIPML_TARGET_AVX_VNNI __attribute__((always_inline)) static void add_products(const std::uint8_t* j,
                                                                                __m256i low, __m256i high,
                                                                                __m256i* sum) {
    std::int32_t four;
    std::memcpy(&four, j + 4 * Row, 4);
    const __m256i row = _mm256_set1_epi32(four);
    sum[2 * Row] = _mm256_dpbusd_avx_epi32(sum[2 * Row], row, low);
    asm("" : "+x"(sum[2 * Row]));
    sum[2 * Row + 1] = _mm256_dpbusd_avx_epi32(sum[2 * Row + 1], row, high);
    asm("" : "+x"(sum[2 * Row + 1]));
    if constexpr (Row < 3) add_products<Row + 1>(j, low, high, sum);
  }
  template <int Offset>
  ZIPML_TARGET_AVX_VNNI static void multiply_bytes(const std::uint8_t* j, const std::uint8_t* k, Index steps,
                                                   std::int32_t* tile, Index width) {
    const __m256i offset = _mm256_set1_epi8(static_cast<char>(Offset));
    __m256i sum[8];
    clear<8>(sum);
    for (Index s = 0; s < steps; ++s, j += 64, k += 64) {
      __m256i low = load32(k), high = load32(k + 32);
      if constexpr (Offset != 0) {  // t - 128, as a signed byte
        low = _mm256_xor_si256(low, offset);
        high = _mm256_xor_si256(high, offset);
      }
      add_products<0>(j, low, high, sum);
    }
    add_to_tile(sum, tile, width);
  }
  template <int Offset>
  struct GramProducts : GramPanels<false> {
    static constexpr int unsigned_offset = Offset;
    void multiply(const std::uint8_t* j, const std::uint8_t* k, Index block_bytes, Index steps, Index count,
                  std::int32_t* tile) const {
      for_each_part(j, k, block_bytes, count, tile,
                    [&](const std::uint8_t* rows, const std::uint8_t* columns, std::int32_t* to,
                        Index width) { multiply_bytes<Offset>(rows, columns, steps, to, width); });
    }
  };
};

static_assert(KernelPolicy<AvxVnniKernels>);

}  // namespace zipml::inline ZIPML_ABI

#endif  // ZIPML_X86
