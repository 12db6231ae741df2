#pragma once
/// \file
/// Layer 3: which kernels run. Chosen once per fit: by template argument, by the environment variable
/// ZIPML_ISA, or by what the processor and the operating system offer.

#include <array>
#include <cstdlib>
#include <string>
#include <string_view>
#include <tuple>

#include <zipml/kernels/avx2.hpp>
#include <zipml/kernels/avx512.hpp>
#include <zipml/kernels/avx_vnni.hpp>
#include <zipml/kernels/scalar.hpp>

namespace zipml::inline ZIPML_ABI {

/// All kernel policies of this build, the best last.
#if ZIPML_X86
using AllKernels = std::tuple<ScalarKernels, Avx2Kernels, AvxVnniKernels, Avx512Kernels>;
#else
using AllKernels = std::tuple<ScalarKernels>;
#endif

namespace detail {

template <class F>
void for_each_kernels(F&& f) {
  std::apply([&](auto... kernels) { (f(kernels), ...); }, AllKernels{});
}

}  // namespace detail

/// Calls f(kernels) with the policy of this name: "scalar", "avx2", "avx-vnni", "avx512", or "auto" for the
/// best that this machine has. Throws Error for a name that does not exist, with the list of those that do,
/// and for one that this machine lacks.
template <class F>
void visit_isa(std::string_view name, F&& f) {
  std::string choices = "auto";
  std::string best;
  bool known = name == "auto";
  detail::for_each_kernels([&](auto kernels) {
    choices += std::string("|") + kernels.name;
    known = known || name == kernels.name;
    if (kernels.available() && (name == "auto" || name == kernels.name)) best = kernels.name;
  });
  if (!known) throw Error("there is no such instruction set", choices, "'" + std::string(name) + "'");
  if (best.empty())
    throw Error("this machine lacks the instruction set", "one that it has, or auto",
                "'" + std::string(name) + "'");
  detail::for_each_kernels([&](auto kernels) {
    if (best == kernels.name) f(kernels);
  });
}

/// The name that is asked for: `name` unless it is empty, then ZIPML_ISA, then "auto".
inline std::string requested_isa(std::string_view name = {}) {
  if (!name.empty()) return std::string(name);
  const char* variable = std::getenv("ZIPML_ISA");
  return variable != nullptr && *variable != '\0' ? variable : "auto";
}

/// The kernels of an instruction set, as visit_isa names them.
inline KernelTable kernels_of(std::string_view name) {
  KernelTable table{ScalarKernels{}};
  visit_isa(name, [&](auto kernels) { table = KernelTable(kernels); });
  return table;
}

/// The instruction set that a fit uses which asks for `name` (empty: ZIPML_ISA, else the best). Throws like
/// visit_isa.
inline std::string active_isa(std::string_view name = {}) { return kernels_of(requested_isa(name)).name; }

}  // namespace zipml::inline ZIPML_ABI
