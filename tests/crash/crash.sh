#!/bin/bash
# Kill points by the thousand, power cuts, damaged logs; with OSTLER_LONG many more, and every flipped bit.
#   tests/crash/crash.sh                    what every commit gets, about a minute
#   tests/crash/crash.sh --points 10000     at least so many kill points, counted and printed by kind
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
command -v strace >/dev/null || { echo "FAIL crash: strace is needed (apt-get install strace)"; exit 1; }
words=(--points 3000 --processes 100 --brief)
[ -z "${OSTLER_LONG:-}" ] || words=(--points 20000 --processes 1000)
[ $# -eq 0 ] || words=("$@")
cargo build -q --release -p ostler -p ostler-tests --bin ostler --bin crash || exit 1
exec "${CARGO_TARGET_DIR:-target}/release/crash" "${words[@]}"
