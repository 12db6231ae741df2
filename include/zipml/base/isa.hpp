#pragma once
/// \file
/// Room base: which instruction set runs: what a call names, else what the environment variable ZIPML_ISA
/// names, else the best of this machine. Packing and training ask here, so that one choice rules both.

#include <array>
#include <cstdlib>
#include <string>
#include <string_view>

#include <zipml/base/cpu.hpp>
#include <zipml/base/error.hpp>

namespace zipml::inline ZIPML_ABI {

/// The instruction sets that this library has code for, the best last. See CpuFeatures for what each needs.
enum class Isa { scalar, avx2, avx_vnni, avx512 };

inline constexpr std::array<Isa, 4> all_isas{Isa::scalar, Isa::avx2, Isa::avx_vnni, Isa::avx512};

/// "scalar", "avx2", "avx-vnni" or "avx512".
constexpr const char* name_of(Isa isa) {
  constexpr const char* names[] = {"scalar", "avx2", "avx-vnni", "avx512"};
  return names[static_cast<int>(isa)];
}

/// Whether processor and operating system of this machine have it.
inline bool available(Isa isa) {
  const CpuFeatures& cpu = cpu_features();
  return isa == Isa::scalar || (isa == Isa::avx2 && cpu.avx2) || (isa == Isa::avx_vnni && cpu.avx_vnni) ||
         (isa == Isa::avx512 && cpu.avx512);
}

/// The instruction set of this name; empty: of ZIPML_ISA, and without that the best one ("auto"). Throws
/// Error for a name that does not exist, with the list of those that do, and for one that this machine lacks.
///
///     zipml::name_of(zipml::active_isa())   // "avx512"
Isa active_isa(std::string_view name = {});

#if ZIPML_DEFINES

ZIPML_FUNCTION Isa active_isa(std::string_view name) {
  if (name.empty()) {
    const char* variable = std::getenv("ZIPML_ISA");
    name = variable != nullptr && *variable != '\0' ? variable : "auto";
  }
  std::string choices = "auto";
  bool known = name == "auto";
  bool found = false;
  Isa best = Isa::scalar;
  for (const Isa isa : all_isas) {
    choices += std::string("|") + name_of(isa);
    known = known || name == name_of(isa);
    if ((name == "auto" || name == name_of(isa)) && available(isa)) {
      best = isa;
      found = true;
    }
  }
  if (!known) throw Error("there is no such instruction set", choices, "'" + std::string(name) + "'");
  if (!found)
    throw Error("this machine lacks the instruction set", "one that it has, or auto",
                "'" + std::string(name) + "'");
  return best;
}

#endif

}  // namespace zipml::inline ZIPML_ABI
