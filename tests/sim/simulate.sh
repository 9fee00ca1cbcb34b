#!/bin/bash
# The simulation as a suite: some hundred seeds, or thousands with OSTLER_LONG. A failure prints the seed that replays it.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
seeds=0..400
[ -z "${OSTLER_LONG:-}" ] || seeds=0..20000
cargo build -q -p ostler-tests --bin simulate || exit 1
if "${CARGO_TARGET_DIR:-target}/debug/simulate" --seeds "$seeds" --steps 5000; then
  echo "ok simulated seeds $seeds"
else
  echo "FAIL simulation: see the seed above"
  exit 1
fi
