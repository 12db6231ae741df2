#!/usr/bin/env bash
# Plants the mutants of mutants.txt one at a time in a copy of the headers and shows that the test named there fails on each.
# Ends with a failure when one survives, or when its text no longer stands in the header.
#
#     tests/mutants/run.sh [CXX]        about 10 minutes on 2 cores
set -uo pipefail
cd "$(dirname "$0")/../.."
cxx=${1:-g++}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
eigen=$(pkg-config --cflags eigen3)

trim() { local t=$1; t=${t#"${t%%[! ]*}"}; printf '%s' "${t%"${t##*[! ]}"}"; }
field() { local rest=$1 k; for ((k = 0; k < $2; ++k)); do rest=${rest#*@@}; done; trim "${rest%%@@*}"; }

killed=0
total=0
while IFS= read -r line; do
  [[ $line == '#'* || -z $line ]] && continue
  name=$(field "$line" 0) header=$(field "$line" 1) test=$(field "$line" 2) old=$(field "$line" 3) new=$(field "$line" 4)
  total=$((total + 1))
  rm -rf "$work/include"
  cp -r include "$work/include"
  # Formatting must not hide a text: white space is folded before it is compared.
  # Macros of several lines become one, and stay lines of their own.
  content=$(tr -s ' \n' '  ' <<<"$(sed -e ':a' -e '/\\$/N; s/ *\\\n/ /; ta' "include/zipml/$header" |
    sed 's|//.*||; /^#/s/$/\x01/; /^#/s/^/\x01/')")
  if [[ $content != *"$old"* ]]; then
    echo "ROTTEN    $name: its text is not in $header"
    continue
  fi
  content=${content/"$old"/"$new"}
  tr '\001' '\n' <<<"$content" >"$work/include/zipml/$header"
  # shellcheck disable=SC2086
  if ! "$cxx" -std=c++20 -O1 -w -I"$work/include" $eigen -Itests "tests/$test.cpp" -o "$work/test" -lCatch2WithMain \
    2>"$work/log"; then
    echo "BROKEN    $name: does not compile"
    grep -m3 error "$work/log"
  elif (cd "$work" && timeout 300 ./test --abort >/dev/null 2>&1); then
    echo "SURVIVED  $name ($test)"
  else
    killed=$((killed + 1))
    echo "killed    $name"
  fi
done <tests/mutants/mutants.txt
echo "$total mutants, $killed killed"
[ "$killed" = "$total" ]
