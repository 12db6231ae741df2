#pragma once
/// \file
/// Room kernels: the kernels of an instruction set, chosen once per fit. They come from the headers, or from
/// the library zipml::kernels, which has them compiled (base/config.hpp); then the policies are not known
/// here (all_kernels.hpp has them).

#include <zipml/base/isa.hpp>
#include <zipml/kernels/kernel_policy.hpp>

#if !ZIPML_HAS_LIBRARY
#include <zipml/kernels/all_kernels.hpp>
#endif

namespace zipml::inline ZIPML_ABI {

/// The kernels of an instruction set that is available, of active_isa(), say. In headers: one of the slowest
/// functions to compile, since it needs every kernel; see kernels_for.
#if ZIPML_HAS_LIBRARY
KernelTable kernels_of(Isa isa);
#else
inline KernelTable kernels_of(Isa isa) { return detail::table_of<AnyCode, kernel_families::all>(isa); }
#endif

/// Those of a set of codes and of some families (code_set.hpp). Other operations on packed codes throw Error,
/// unless the kernels are compiled, which are all there.
///
///     using namespace zipml;
///     kernels_for<OneCode<4, false>, kernel_families::packed_integers>(active_isa())
template <class Codes, unsigned Families>
KernelTable kernels_for(Isa isa) {
#if ZIPML_HAS_LIBRARY
  return kernels_of(isa);
#else
  return detail::table_of<Codes, Families>(isa);
#endif
}

}  // namespace zipml::inline ZIPML_ABI
