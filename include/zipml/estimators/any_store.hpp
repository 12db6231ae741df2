#pragma once
/// \file
/// Room estimators: samples in a representation that was chosen at run time.

#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include <zipml/base/visit_bits.hpp>
#include <zipml/estimators/quantize.hpp>
#include <zipml/estimators/representation.hpp>
#include <zipml/io/packed_file.hpp>

namespace zipml::inline ZIPML_ABI {

/// A store of any representation, without its type: what programs hold whose users choose. Copies share the
/// samples. Fits take the estimator as an argument:
///
///     const zipml::AnyStore store = zipml::quantize(data, zipml::parse_representation("naive:2,lloyd-max"));
///     const auto fit = zipml::visit_estimator(store.representation().estimator,
///                                             [&](auto estimator) { return zipml::Sgd{}.fit(store,
///                                             estimator); });
class AnyStore {
 public:
  template <SampleStore Store>
  AnyStore(Store store, const Representation& representation)
      : representation_(representation),
        owner_(std::make_shared<const Store>(std::move(store))),
        access_(&access_of<Store>) {}

  const Representation& representation() const { return representation_; }
  SampleView samples() const { return access_->samples(owner_.get()); }
  const Targets& targets() const { return header().targets(); }
  const Standardization& standardization() const { return header().standardization(); }
  std::uint64_t seed() const { return header().seed(); }
  KernelTable kernels(Isa isa) const { return access_->kernels(owner_.get(), isa); }
  /// Samples that are rounded anew for each epoch, or null where draws are frozen.
  std::unique_ptr<FreshSamples> fresh() const { return access_->fresh(owner_.get()); }

  /// Throws Error when samples that lie in a file were lost while they were in use.
  void require_intact() const { access_->require_intact(owner_.get()); }

  const StoreHeader& header() const { return access_->header(owner_.get()); }
  Index rows() const { return header().rows(); }
  Index cols() const { return header().cols(); }

 private:
  struct Access {
    const StoreHeader& (*header)(const void*);
    SampleView (*samples)(const void*);
    KernelTable (*kernels)(const void*, Isa);
    std::unique_ptr<FreshSamples> (*fresh)(const void*);
    void (*require_intact)(const void*);
  };
  template <class Store>
  static const Store& as(const void* owner) {
    return *static_cast<const Store*>(owner);
  }
  template <class Store>
  static constexpr Access access_of{[](const void* owner) -> const StoreHeader& { return as<Store>(owner); },
                                    [](const void* owner) { return as<Store>(owner).samples(); },
                                    [](const void* owner, Isa isa) { return as<Store>(owner).kernels(isa); },
                                    [](const void* owner) -> std::unique_ptr<FreshSamples> {
                                      if constexpr (FreshStore<Store>) return as<Store>(owner).fresh();
                                      (void)owner;
                                      return nullptr;
                                    },
                                    [](const void* owner) {
                                      if constexpr (requires { as<Store>(owner).require_intact(); })
                                        as<Store>(owner).require_intact();
                                      (void)owner;
                                    }};

  Representation representation_;
  std::shared_ptr<const void> owner_;
  const Access* access_;
};

namespace detail {

/// The visitor from a representation to types: f(estimator, levels policy, rounding).
template <class F>
auto visit_types(const Representation& representation, const F& f) {
  return visit_any_estimator(representation.estimator, [&](auto estimator) {
    using Estimator = decltype(estimator);
    if constexpr (std::is_same_v<Estimator, Naive>) {
      if (representation.rounding == RoundingKind::nearest) {
        if (representation.levels == LevelsKind::lloyd_max) return f(naive, lloyd_max_levels, nearest);
        if (representation.levels == LevelsKind::optimal) return f(naive, optimal_levels, nearest);
        if (representation.levels == LevelsKind::optimal_shared)
          return f(naive, shared_optimal_levels, nearest);
        return f(naive, uniform_levels, nearest);
      }
    }
    if (representation.levels == LevelsKind::optimal) return f(estimator, optimal_levels, stochastic);
    if constexpr (Estimator::Encoding::summed == 1)
      if (representation.levels == LevelsKind::optimal_shared)
        return f(estimator, shared_optimal_levels, stochastic);
    return f(estimator, uniform_levels, stochastic);
  });
}

/// The kernels of every width of an encoding.
template <class Encoding, class Decoder>
KernelSource kernels_of_width(int bits) {
  return visit_bits(bits, [](auto b) -> KernelSource {
    if constexpr (Encoding::summed > 1 && Encoding::stored_bits(b()) > 9)
      return nullptr;  // Representation::check refuses it
    else
      return kernels_of_representation<b(), Encoding, Decoder>;
  });
}

}  // namespace detail

/// Packs samples in a representation that is known at run time; `fresh` draws anew for each epoch, from
/// samples that must outlive the store. What options say of outliers, the representation overrules. O(n d
/// draws). Throws Error when the parts of the representation do not go together, and as quantize<bits> does.
///
///     const auto store = zipml::quantize(data, {.bits = 3, .outliers = 0.003});
AnyStore quantize(const MatrixView& features, const LabelView& labels, const Representation& representation,
                  QuantizeOptions options = {}, bool fresh = false);
inline AnyStore quantize(const Dataset& data, const Representation& representation,
                         const QuantizeOptions& options = {}, bool fresh = false) {
  return quantize(data.features(), data.label_view(), representation, options, fresh);
}

/// Saves packed samples, targets and names, from which training can go on without the text or matrix that they
/// were made of (io/packed_file.hpp says the format). Of fresh draws it saves the first. Throws Error when
/// the file cannot be written; then the old one is as it was.
///
///     zipml::save_store("houses.zipml", zipml::quantize(data, {.bits = 4, .outliers = 0.003}));
void save_store(const std::string& path, const AnyStore& store);

/// Samples that save_store() or the program pack has saved, mapped: the same bits, the same fits. Throws Error
/// for a file that is damaged or of another version.
///
///     const zipml::AnyStore store = zipml::open_store("houses.zipml");
///     const auto fit = zipml::visit_estimator(store.representation().estimator,
///                                             [&](auto estimator) { return zipml::Sgd{}.fit(store, estimator); });
AnyStore open_store(const std::string& path, const OpenOptions& options = {});

#if ZIPML_DEFINES

ZIPML_FUNCTION void save_store(const std::string& path, const AnyStore& store) {
  save_packed(path, store.samples(), store.header(), to_string(store.representation()));
}

ZIPML_FUNCTION AnyStore open_store(const std::string& path, const OpenOptions& options) {
  PackedFile file(path, options);
  const auto refuse = [&](const std::string& got) {
    throw Error(Place{path}, "samples and their representation do not go together",
                "what " + quote_input(file.representation()) + " stores", got);
  };
  Representation representation;
  try {
    representation = parse_representation(file.representation());
    representation.check();
  } catch (const Error& error) {
    refuse(error.what());
  }
  const SampleView samples = file.samples();
  detail::visit_any_estimator(representation.estimator, [&](auto estimator) {
    using Encoding = typename decltype(estimator)::Encoding;
    const bool dense = representation.estimator == EstimatorKind::full;
    if (samples.bits != representation.bits || samples.draws != (dense ? 1 : Encoding::draws) ||
        samples.is_dense() != dense ||
        (!dense && samples.layout.stored_bits != Encoding::stored_bits(samples.bits)))
      refuse(std::to_string(samples.bits) + " bits, " + std::to_string(samples.draws) + " draws, " +
             std::to_string(samples.layout.stored_bits) + " stored bits");
    if (!dense && Encoding::has_bias != (samples.bias != nullptr) && samples.cols > 0)
      refuse(samples.bias != nullptr ? "bias terms" : "no bias terms");
  });
  return AnyStore(std::move(file), representation);
}

ZIPML_FUNCTION AnyStore quantize(const MatrixView& features, const LabelView& labels,
                                 const Representation& representation, QuantizeOptions options, bool fresh) {
  representation.check();
  options.outliers = representation.outliers;
  return detail::visit_types(representation, [&](auto estimator, auto policy, auto rounding) {
    using Estimator = decltype(estimator);
    if constexpr (std::is_same_v<Estimator, FullPrecision>) {
      return AnyStore(
          StoreFor<Estimator, DenseStore>(DenseStore(features, labels, options.standardize, options.seed),
                                          detail::kernels_of_dense_rows),
          representation);
    } else {
      using Encoding = typename Estimator::Encoding;
      using Decoder = typename decltype(policy)::Decoder;
      const KernelSource kernels = detail::kernels_of_width<Encoding, Decoder>(representation.bits);
      if constexpr (rounding.stochastic)
        if (fresh)
          return AnyStore(
              StoreFor<Estimator, FreshPackedStore<Encoding, Decoder>>(
                  pack_fresh<Encoding>(features, labels, policy, representation.bits, options), kernels),
              representation);
      return AnyStore(
          StoreFor<Estimator, PackedStore<Encoding, Decoder>>(
              pack<Encoding>(features, labels, policy, rounding, representation.bits, options), kernels),
          representation);
    }
  });
}

#endif

}  // namespace zipml::inline ZIPML_ABI
