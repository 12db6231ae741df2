#pragma once
/// \file
/// Room estimators: a store, the estimator that it was packed for, and the kernels that read its codes.

#include <utility>

#include <zipml/estimators/estimator.hpp>
#include <zipml/kernels/isa.hpp>
#include <zipml/storage/dense_store.hpp>
#include <zipml/storage/packed_store.hpp>

namespace zipml::inline ZIPML_ABI {

namespace detail {

/// Which kinds of operations the codes of a decoder take.
template <class Decoder>
inline constexpr unsigned families_of = kernel_families::packed_integers | kernel_families::packed_floats;
template <>
inline constexpr unsigned families_of<TableDecoder> = kernel_families::column_tables;
template <>
inline constexpr unsigned families_of<SharedTableDecoder> =
    kernel_families::packed_integers | kernel_families::packed_floats | kernel_families::shared_tables;

/// The kernels of one representation: those of other widths are not compiled for it.
template <int Bits, class Encoding, class Decoder>
KernelTable kernels_of_representation(Isa isa) {
  return kernels_for<OneCode<Encoding::base_bits(Bits), (Encoding::draws > 1)>, families_of<Decoder>>(isa);
}
inline KernelTable kernels_of_dense_rows(Isa isa) {
  return kernels_for<OneCode<0, false>, kernel_families::none>(isa);
}

}  // namespace detail

/// A store together with the gradient estimator that it was packed for, which `Sgd::fit` then uses, and the
/// kernels that it takes. The width is no part of the type: stores of all widths are one.
template <class Estimator, SampleStore Store>
class StoreFor : public Store {
 public:
  using DefaultEstimator = Estimator;

  StoreFor(Store store, KernelSource source) : Store(std::move(store)), kernels_(source) {}

  /// Of an instruction set that is available.
  KernelTable kernels(Isa isa) const { return kernels_(isa); }

 private:
  KernelSource kernels_;
};

}  // namespace zipml::inline ZIPML_ABI
