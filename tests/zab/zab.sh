#!/bin/bash
# The protocol alone, as a suite: random walks and a search through the build that everybody runs, then known bugs planted in
# a build of their own, each of which must be found. All of it with OSTLER_LONG; a failure prints how it came about.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
seeds=0..1000 search=10 seconds=120
mutants=AcksEpochBeforeHistory,RaisesEpochBeforeHistory,DropsOutstandingAtNewLeader,KeepsSyncedTxnsOutOfTheCache,TruncatesTooMuch
if [ -n "${OSTLER_LONG:-}" ]; then seeds=0..100000 search=1200 seconds=600 mutants=''; fi
target=${CARGO_TARGET_DIR:-target} failed=0

check() { # NAME COMMAND...
  local name=$1
  shift
  if "$@"; then echo "ok $name"; else echo "FAIL $name: see above"; failed=1; fi
}

cargo build -q -p ostler-zab || exit 1
check "walks of seeds $seeds" "$target/debug/zab" --seeds "$seeds"
check "search of $search s" "$target/debug/zab" --exhaustive --seconds "$search"
# A build that can plant bugs shares nothing with any other.
RUSTFLAGS='--cfg zab_mutants' CARGO_TARGET_DIR=$target/mutants cargo build -q -p ostler-zab || exit 1
# shellcheck disable=SC2086
check "planted bugs are found" "$target/mutants/debug/zab" --mutants $mutants --seconds "$seconds"
exit $failed
