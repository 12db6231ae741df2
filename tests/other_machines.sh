#!/usr/bin/env bash
# Reads and writes packed files and NPY files on an emulated aarch64 and on an emulated s390x, which is big-endian: the same bytes,
# and the same weights on the integer path. Needs g++-aarch64-linux-gnu, g++-s390x-linux-gnu, qemu-user and Catch2 2.
#
#     tests/other_machines.sh
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

on() {  # on MACHINE TEST FILTER
  local program=$work/$1_$(basename "$2")
  "$1-linux-gnu-g++" -std=c++20 -O1 -static -DCATCH_CONFIG_MAIN -Iinclude -Itests -isystem /usr/include/eigen3 \
    -idirafter /usr/include "tests/$2.cpp" -o "$program" -pthread
  echo "-- $1: $2"
  "qemu-$1" "$program" "$3"
}
both() {
  on "$1" io/packed_file_test 'CRC*,a store comes back*,writing a store*,files of version 1*,every truncation*'
  on "$1" io/npy_test '*'
}
both aarch64 & first=$!
both s390x
wait "$first"
