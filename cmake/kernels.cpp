// The library zipml::kernels: the kernels of every instruction set, compiled once for a program.
// Empty where this file itself is compiled for more than the baseline: its users are then as well, most
// likely, and keep to the headers.
#include <zipml/kernels/all_kernels.hpp>
#include <zipml/kernels/isa.hpp>

#if ZIPML_HAS_LIBRARY

namespace zipml::inline ZIPML_ABI {

KernelTable kernels_of(Isa isa) { return detail::table_of<AnyCode, kernel_families::all>(isa); }

}  // namespace zipml::inline ZIPML_ABI

#endif
