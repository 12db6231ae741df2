#pragma once
/// \file
/// Room estimators: `quantize`, the way from samples to a store that an estimator can train on.

#include <type_traits>

#include <zipml/eigen.hpp>
#include <zipml/estimators/estimators.hpp>
#include <zipml/estimators/store_for.hpp>
#include <zipml/io/dataset.hpp>
#include <zipml/packing/fitted_levels.hpp>
#include <zipml/packing/fresh_store.hpp>
#include <zipml/packing/packer.hpp>
#include <zipml/storage/dense_store.hpp>

namespace zipml::inline ZIPML_ABI {

/// Nearest rounding makes every draw the same and has no variance to correct, so estimators that live on
/// either refuse it.
template <class Estimator, class Rounding>
concept RoundingSuitsEstimator = !Estimator::needs_stochastic || Rounding::stochastic;

/// Sums of draws must fit the widest code of the kernels.
template <class Estimator, int Bits>
concept FitsOneCode = Estimator::Encoding::summed == 1 || Estimator::Encoding::stored_bits(Bits) <= 9;

namespace detail {

template <int Bits, class Estimator, class Policy, class R>
constexpr void check_quantization() {
  static_assert(Bits >= 1 && Bits <= 8, "zipml: samples have 1 to 8 bits a draw, or 32 with full_precision");
  static_assert(RoundingSuitsEstimator<Estimator, R>,
                "zipml: nearest rounding makes all draws equal: use it with the naive estimator");
  static_assert(
      FitsOneCode<Estimator, Bits>,
      "zipml: sums of draws have 9 stored bits at most: fewer bits, fewer draws, or double sampling");
  if constexpr (requires { Policy::nearest_only; })
    static_assert(!Policy::nearest_only || !R::stochastic,
                  "zipml: Lloyd-Max levels are for nearest rounding: their ends lie inside the data");
  static_assert(LevelsPolicy<Policy>,
                "zipml: a levels policy has a Decoder, a name, and levels(features, columns, bits)");
  if constexpr (requires { Policy::bits; })
    static_assert(Policy::bits == Bits, "zipml: these tables of levels are of another width");
}

}  // namespace detail

/// Packs samples at Bits bits a draw for an estimator (default: variance correction on uniform levels with
/// stochastic rounding). Bits is 1 to 8, or 32 with full_precision for float32. The levels are fitted to the
/// columns and rows are placed in random order; `options.seed` decides every random choice;
/// `options.outliers` keeps that share of each column exactly. Draws are taken once: every epoch reads the
/// same ones, so that training solves the system that they define, whose distance from the true optimum falls
/// like 1 / sqrt(n). O(n d draws).
///
/// Throws Error when there are no rows, when a value or label is not finite, or when a column's range does
/// not fit float32.
///
///     const auto store = zipml::quantize<4>(data, zipml::double_sampling, {.seed = 1});
///     const auto exact = zipml::quantize<32>(data, zipml::full_precision);
template <int Bits, GradientEstimator Estimator, class Policy, Rounding R>
auto quantize(const MatrixRef& features, const VectorRef& labels, Estimator, const Policy& policy, R rounding,
              const QuantizeOptions& options = {}) {
  if constexpr (std::is_same_v<Estimator, FullPrecision>) {
    static_assert(Bits == 32, "zipml: full_precision stores float32 samples: quantize<32>");
    (void)policy;
    (void)rounding;
    return StoreFor<Estimator, DenseStore>(DenseStore(features, labels, options.standardize, options.seed),
                                           detail::kernels_of_dense_rows);
  } else {
    detail::check_quantization<Bits, Estimator, Policy, R>();
    using Encoding = typename Estimator::Encoding;
    using Decoder = typename Policy::Decoder;
    return StoreFor<Estimator, PackedStore<Encoding, Decoder>>(
        pack<Encoding>(features.view(), labels, policy, rounding, Bits, options),
        detail::kernels_of_representation<Bits, Encoding, Decoder>);
  }
}

template <int Bits, GradientEstimator Estimator, class Policy>
auto quantize(const MatrixRef& features, const VectorRef& labels, Estimator estimator, const Policy& policy,
              const QuantizeOptions& options = {}) {
  return quantize<Bits>(features, labels, estimator, policy, stochastic, options);
}

template <int Bits, GradientEstimator Estimator = VarianceCorrected>
auto quantize(const MatrixRef& features, const VectorRef& labels, Estimator estimator = {},
              const QuantizeOptions& options = {}) {
  return quantize<Bits>(features, labels, estimator, uniform_levels, stochastic, options);
}

template <int Bits, GradientEstimator Estimator, class Policy, Rounding R>
auto quantize(const Dataset& data, Estimator estimator, const Policy& policy, R rounding,
              const QuantizeOptions& options = {}) {
  return quantize<Bits>(data.features(), data.label_view(), estimator, policy, rounding, options);
}

template <int Bits, GradientEstimator Estimator, class Policy>
auto quantize(const Dataset& data, Estimator estimator, const Policy& policy,
              const QuantizeOptions& options = {}) {
  return quantize<Bits>(data.features(), data.label_view(), estimator, policy, stochastic, options);
}

template <int Bits, GradientEstimator Estimator = VarianceCorrected>
auto quantize(const Dataset& data, Estimator estimator = {}, const QuantizeOptions& options = {}) {
  return quantize<Bits>(data.features(), data.label_view(), estimator, uniform_levels, stochastic, options);
}

/// As quantize, but every epoch draws anew from `features`, which must outlive the store: the paper's
/// sampling (ZipML 2017, section 2.2), at the price of reading float32 samples.
///
///     const auto store = zipml::quantize_fresh<4>(data, zipml::double_sampling);
template <int Bits, GradientEstimator Estimator, class Policy>
auto quantize_fresh(const Dataset& data, Estimator, const Policy& policy,
                    const QuantizeOptions& options = {}) {
  detail::check_quantization<Bits, Estimator, Policy, StochasticRounding>();
  using Encoding = typename Estimator::Encoding;
  using Decoder = typename Policy::Decoder;
  return StoreFor<Estimator, FreshPackedStore<Encoding, Decoder>>(
      pack_fresh<Encoding>(data.features(), data.label_view(), policy, Bits, options),
      detail::kernels_of_representation<Bits, Encoding, Decoder>);
}
template <int Bits, GradientEstimator Estimator>
auto quantize_fresh(const Dataset& data, Estimator estimator, const QuantizeOptions& options = {}) {
  return quantize_fresh<Bits>(data, estimator, uniform_levels, options);
}

}  // namespace zipml::inline ZIPML_ABI
