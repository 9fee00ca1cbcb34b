#!/bin/bash
# The simulation as a suite: some hundred seeds of one server and of ensembles, or thousands with OSTLER_LONG. A failure
# prints the seed that replays it.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
cargo build -q -p ostler-tests --bin simulate || exit 1

# play NAME SEEDS SEEDS-OF-A-LONG-RUN OPTION...
play() {
  local name=$1 seeds=$2
  [ -z "${OSTLER_LONG:-}" ] || seeds=$3
  shift 3
  if "${CARGO_TARGET_DIR:-target}/debug/simulate" --seeds "$seeds" "$@"; then
    echo "ok simulated seeds $seeds of $name"
  else
    echo "FAIL simulation of $name: see the seed above"
    exit 1
  fi
}

play "one server" 0..200 0..20000 --servers 1
play "three servers and an observer" 0..40 0..8000 --servers 3 --observers 1
play "ensembles of any size" 1000..1050 20000..28000
