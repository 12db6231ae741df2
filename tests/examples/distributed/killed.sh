#!/bin/sh
# killed.sh PROGRAM MPIRUN FLAG TIMES: kills one of three processes that load, pack or train, so often. Each time all of them must
# end, with an error, within ten seconds.
program=$1 mpirun=$2 flag=$3 times=$4
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# A process that has ended and waits for somebody to ask is not alive; in a container nobody may.
alive() { kill -0 "$1" 2>/dev/null && ! grep -q '^State:[[:space:]]*Z' "/proc/$1/status" 2>/dev/null; }
k=0
while [ "$k" -lt "$times" ]; do
  k=$((k + 1))
  rm -f "$folder"/*
  # Each process leaves its number behind.
  "$mpirun" "$flag" 3 sh -c 'echo $$ >"$0/$$.process"; exec "$@"' "$folder" \
    "$program" --rows 20000 --epochs 100000 --batch 256 --model-bits 8 --json >"$folder/log" 2>&1 &
  group=$!
  tries=0
  while [ "$(ls "$folder" | grep -c process)" -lt 3 ] && [ "$tries" -lt 200 ]; do sleep 0.1; tries=$((tries + 1)); done
  sleep "$((k % 2)).$((k * 7919 % 90 + 10))"
  all=$(cat "$folder"/*.process)
  victim=$(echo "$all" | sed -n "$((k % 3 + 1))p")
  if [ -z "$victim" ]; then
    echo "run $k: nobody to kill"
    cat "$folder/log"
    exit 1
  fi
  kill -KILL "$victim"
  waited=0
  while [ "$waited" -lt 100 ]; do
    left=
    for process in $group $all; do if alive "$process"; then left="$left $process"; fi; done
    [ -z "$left" ] && break
    sleep 0.1
    waited=$((waited + 1))
  done
  if [ -n "$left" ]; then
    echo "run $k: ten seconds after the kill of $victim there are$left of $group and" $all
    kill -KILL $left 2>/dev/null
    exit 1
  fi
  if wait "$group"; then
    echo "run $k: no error after the kill of $victim"
    cat "$folder/log"
    exit 1
  fi
done
echo "$times kills, no hang"
