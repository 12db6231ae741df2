#pragma once
/// \file
/// Room storage: samples in float32, behind the same concept as the packed ones: full precision is a choice
/// of store.

#include <algorithm>
#include <cstddef>
#include <span>

#include <zipml/base/error.hpp>
#include <zipml/base/isa.hpp>
#include <zipml/base/views.hpp>
#include <zipml/storage/sample_store.hpp>
#if ZIPML_DEFINES
#include <zipml/base/intrinsics.hpp>
#endif

namespace zipml::inline ZIPML_ABI {

namespace detail {
/// A row of the user's in standardised units. O(d).
void standardise_row(Isa isa, const float* from, const Standardization& map, float* to);
}  // namespace detail

/// n x d standardised float32 values in store order, row-major, no padding.
class DenseStore : public StoreHeader {
 public:
  static constexpr int draws = 1;
  static constexpr bool has_bias = false;

  DenseStore() = default;
  /// O(n d). Throws Error on values that are not finite or on n = 0.
  DenseStore(const MatrixView& features, const LabelView& labels, bool standardize, std::uint64_t seed)
      : DenseStore(features, labels, column_statistics(features), standardize, seed) {}

  /// A store around values that are standardised and in store order already.
  DenseStore(StoreHeader header, Buffer<float> values)
      : StoreHeader(std::move(header)), values_(std::move(values)) {
    if (values_.size() != rows() * cols())
      throw Error("values do not fill the store", std::to_string(rows() * cols()),
                  std::to_string(values_.size()));
  }

  int bits() const { return 32; }
  double stored_bits() const { return 32.0; }
  Index codes_bytes() const { return store_bytes(); }
  Index store_bytes() const { return static_cast<Index>(values_.bytes()); }

  const float* row(Index i) const { return values_.data() + i * cols(); }
  /// Valid as long as the store is.
  SampleView samples() const;
  float value(Index i, Index j, int /*draw*/ = 0) const { return row(i)[j]; }
  void decode_row(Index i, int /*draw*/, float* out) const { std::copy_n(row(i), cols(), out); }

 private:
  DenseStore(const MatrixView& features, const LabelView& labels, const Buffer<ColumnStatistics>& columns,
             bool standardize, std::uint64_t seed);

  Buffer<float> values_;
};

static_assert(SampleStore<DenseStore>);

#if ZIPML_DEFINES

namespace detail {

#if ZIPML_X86

/// (v - mean) / scale in double, then float32: the same bits in any number of lanes.
__attribute__((target("avx2"))) inline Index standardise_avx2(const float* from, const double* mean,
                                                              const double* scale, Index d, float* to) {
  Index j = 0;
  for (; j + 4 <= d; j += 4) {
    const __m256d centred = _mm256_sub_pd(_mm256_cvtps_pd(_mm_loadu_ps(from + j)), _mm256_loadu_pd(mean + j));
    _mm_storeu_ps(to + j, _mm256_cvtpd_ps(_mm256_div_pd(centred, _mm256_loadu_pd(scale + j))));
  }
  return j;
}
ZIPML_TARGET_AVX512 inline Index standardise_avx512(const float* from, const double* mean,
                                                    const double* scale, Index d, float* to) {
  Index j = 0;
  for (; j + 8 <= d; j += 8) {
    const __m512d centred =
        _mm512_sub_pd(_mm512_cvtps_pd(_mm256_loadu_ps(from + j)), _mm512_loadu_pd(mean + j));
    _mm256_storeu_ps(to + j, _mm512_cvtpd_ps(_mm512_div_pd(centred, _mm512_loadu_pd(scale + j))));
  }
  return j;
}

#endif

ZIPML_FUNCTION void standardise_row(Isa isa, const float* from, const Standardization& map, float* to) {
  const Index d = map.cols();
  Index j = 0;
#if ZIPML_X86
  if (isa == Isa::avx512)
    j = standardise_avx512(from, map.mean.data(), map.scale.data(), d, to);
  else if (isa != Isa::scalar)
    j = standardise_avx2(from, map.mean.data(), map.scale.data(), d, to);
#endif
  (void)isa;
  for (; j < d; ++j) to[j] = static_cast<float>(map.apply(static_cast<double>(from[j]), j));
}

}  // namespace detail

ZIPML_FUNCTION SampleView DenseStore::samples() const {
  SampleView view;
  view.rows = rows();
  view.cols = view.stride = cols();
  view.codes_bytes = view.store_bytes = store_bytes();
  static constexpr float none = 0.0f;  // rows without columns are float32 rows all the same
  view.weights = weights().data();
  view.values = values_.empty() ? &none : values_.data();
  return view;
}

ZIPML_FUNCTION DenseStore::DenseStore(const MatrixView& features, const LabelView& labels,
                                      const Buffer<ColumnStatistics>& columns, bool standardize,
                                      std::uint64_t seed)
    : StoreHeader(features, labels, columns, standardize, seed),
      values_(checked_product(features.rows, features.cols, "a dense store")) {
  // Rows are read in their order and written where they belong.
  const Isa isa = active_isa({});
  constexpr Index piece = 64;
  Index places[piece];
  MatrixRows rows_of(features);
  for (Index first = 0; first < rows(); first += piece) {
    const Index count = (std::min)(piece, rows() - first);
    placement().places(first, count, places);
    for (Index k = 0; k < count; ++k)
      detail::standardise_row(isa, rows_of(first + k), standardization(),
                              values_.data() + places[k] * cols());
  }
}

#endif

}  // namespace zipml::inline ZIPML_ABI
