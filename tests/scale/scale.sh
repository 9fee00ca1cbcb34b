#!/bin/bash
# The real server at scale: some tens of thousands of everything, or more with OSTLER_LONG.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
# Each session is a socket at both ends.
ulimit -n "$(ulimit -Hn)"
cargo build -q --release -p ostler-tests --bin scale || exit 1
exec "${CARGO_TARGET_DIR:-target}/release/scale" "$@"
