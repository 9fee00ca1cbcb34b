#!/bin/bash
# Kills the real server at points of a scripted run: some dozens spread over all, or every one with OSTLER_LONG.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
command -v strace >/dev/null || { echo "FAIL crash: strace is needed (apt-get install strace)"; exit 1; }
points=(--points 120)
[ -z "${OSTLER_LONG:-}" ] || points=(--long)
cargo build -q -p ostler-tests --bin crash || exit 1
if "${CARGO_TARGET_DIR:-target}/debug/crash" "${points[@]}"; then
  echo "ok kills ${points[*]}"
else
  echo "FAIL crash: see the points above"
  exit 1
fi
