#pragma once
#include <cstdint>

// One function, compiled with two sets of flags (CMakeLists.txt). Returns a hash of all bits that its calls
// of zipml produced. `column_major` hands the samples over in the order that the library has to copy.
std::uint64_t fit_baseline(bool column_major);
std::uint64_t fit_avx2(bool column_major);
