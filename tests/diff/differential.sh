#!/bin/bash
# The differential runner as a suite: some dozens of seeds, or a thousand with OSTLER_LONG; and, either way, a planted
# difference that must be found. `--peer apache` plays Apache against itself, which must not differ.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
peers=apache,ostler seeds=1..40
[ -z "${OSTLER_LONG:-}" ] || seeds=1..1000
while [ $# -gt 0 ]; do
  case $1 in
    --peer) [ "$2" = ostler ] || { peers=apache,$2 seeds=1..20; }; shift ;;
    --seeds) seeds=$2; shift ;;
    *) echo "usage: differential.sh [--peer ostler|apache] [--seeds FIRST..LAST]"; exit 2 ;;
  esac
  shift
done

cargo build -q -p ostler-tests --bin differential || exit 1
runner=${CARGO_TARGET_DIR:-target}/debug/differential
status=0
play() { # SEEDS [FLAG...]
  if "$runner" --peers "$peers" --steps 300 --seeds "$@"; then
    echo "ok seeds $*, $peers"
  else
    echo "FAIL seeds $*, $peers: see the steps above"
    status=1
  fi
}
play "$seeds"
# The same operations where TTL nodes are off, quotas are only counted, and reconfig is allowed but has no ensemble.
play 2001..2010 --setting extendedTypesEnabled=false --setting enforceQuota=false --setting reconfigEnabled=true
play 2011..2015 --setting skipACL=yes
if "$runner" --peers "$peers" --seeds 1..5 --steps 300 --plant --no-shrink >/dev/null 2>&1; then
  echo "FAIL planted difference: not found"
  status=1
else
  echo "ok planted difference"
fi
exit $status
