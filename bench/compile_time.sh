#!/usr/bin/env bash
# User seconds that files take to compile, from headers alone and with the library zipml::kernels.
#
#     bench/compile_time.sh [CXX]        a minute and a half
set -euo pipefail
cd "$(dirname "$0")/.."
cxx=${1:-g++}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/five_stores.cpp" <<'CPP'
#include <cstdio>
#include <zipml/zipml.hpp>
int main() {
  const auto train = zipml::skewed({.rows = 5'000}).train;
  const auto a = zipml::Sgd{}.fit(zipml::quantize<32>(train, zipml::full_precision));
  const auto b = zipml::Sgd{}.fit(zipml::quantize<4>(train, zipml::variance_corrected, {.outliers = 0.003}));
  const auto c = zipml::Sgd{}.fit(zipml::quantize<3>(train, zipml::double_sampling));
  const auto d = zipml::Sgd{}.fit(zipml::quantize<2>(train, zipml::naive, zipml::lloyd_max_levels, zipml::nearest));
  const auto e = zipml::Sgd{}.fit(zipml::quantize<8>(train, zipml::naive));
  std::printf("%g\n", a.step + b.step + c.step + d.step + e.step);
}
CPP
TIMEFORMAT=%U
# shellcheck disable=SC2046
for file in examples/quickstart.cpp "$work/five_stores.cpp"; do
  for library in '' -DZIPML_COMPILED; do
    printf '%-18s %-18s ' "$(basename "$file")" "$library"
    time "$cxx" -std=c++20 -O2 $library -Iinclude $(pkg-config --cflags eigen3) -c "$file" -o "$work/object"
  done
done
