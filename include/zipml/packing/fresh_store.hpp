#pragma once
/// \file
/// Room packing: stores whose draws are new in each epoch.

#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include <zipml/packing/packer.hpp>

namespace zipml::inline ZIPML_ABI {

/// A packed store whose values are drawn anew for each epoch of a fit, from samples that must outlive it and
/// its copies: the paper's sampling (ZipML 2017, section 2.2). What it shows is epoch 0, the codes of `pack`.
template <class Encoding, class Decoder>
class FreshPackedStore : public PackedStore<Encoding, Decoder> {
 public:
  using Store = PackedStore<Encoding, Decoder>;
  using Packer = detail::Packer<Encoding, Decoder, StochasticRounding>;

  FreshPackedStore(Store store, std::shared_ptr<const Packer> packer)
      : Store(std::move(store)), packer_(std::move(packer)) {}

  /// Samples for one fit: a copy of the codes, which it redraws.
  std::unique_ptr<FreshSamples> fresh() const { return std::make_unique<Drawn>(*this, packer_); }

 private:
  class Drawn : public FreshSamples {
   public:
    Drawn(const Store& store, std::shared_ptr<const Packer> packer)
        : store_(store), packer_(std::move(packer)) {}
    SampleView samples() const override { return store_.samples(); }
    void draw(int epoch) override {
      if (epoch == std::exchange(epoch_, epoch)) return;
      packer_->draw_again(store_, epoch);
    }

   private:
    Store store_;
    std::shared_ptr<const Packer> packer_;
    int epoch_ = 0;
  };

  std::shared_ptr<const Packer> packer_;
};

/// The store of fresh draws. Training on it approaches the true optimum instead of the solution that one set
/// of draws defines; each epoch pays for reading and rounding the float32 samples.
template <class Encoding, LevelsPolicy Policy>
ZIPML_NOINLINE FreshPackedStore<Encoding, typename Policy::Decoder> pack_fresh(
    const MatrixView& features, const LabelView& labels, const Policy& policy, int bits,
    const QuantizeOptions& options) {
  using Packer = detail::Packer<Encoding, typename Policy::Decoder, StochasticRounding>;
  QuantizeOptions without_pilot =
      options;  // draws are new in each epoch: their errors average out by themselves
  without_pilot.pilot = 0;
  auto packer = std::make_shared<const Packer>(
      detail::make_packer<Encoding, Policy, StochasticRounding>(features, policy, bits, without_pilot));
  auto store = packer->pack(labels);
  return {std::move(store), std::move(packer)};
}

}  // namespace zipml::inline ZIPML_ABI
