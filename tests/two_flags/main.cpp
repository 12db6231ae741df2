// two_flags baseline|avx2 [column-major]: prints the hash of one of the two functions.

#include <cinttypes>
#include <cstdio>
#include <cstring>

#include "fit.hpp"

int main(int argc, char** argv) {
  const bool avx2 = argc > 1 && std::strcmp(argv[1], "avx2") == 0;
  const bool column_major = argc > 2 && std::strcmp(argv[2], "column-major") == 0;
  if (avx2 && !(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))) {
    std::puts("skipped: this processor has no AVX2");
    return 0;
  }
  std::printf("%016" PRIx64 "\n", avx2 ? fit_avx2(column_major) : fit_baseline(column_major));
}
