#!/usr/bin/env python3
"""The suites of single clients again, with a three-voter ensemble and an observer behind the server that they use: kazoo's
recipes at a follower, Curator's and the Java client at the observer, the C client at the leader.
"""

import os
import subprocess
import sys

from ensemble import Ensemble

HERE = os.path.dirname(os.path.abspath(__file__))
SUITE_SECONDS_MAX = 400


def main():
    wanted = sys.argv[1:]
    well = True
    with Ensemble(["ostler"] * 3, ["ostler"], tick_ms=2000) as ensemble:
        ensemble.start()
        followers = [member for member in ensemble.voters if member.mode() == "follower"]
        for suite, member in [
            ("kazoo_recipes.py", followers[0]),
            ("java_client.py", ensemble[4]),
            ("curator_recipes.py", ensemble[4]),
            ("c_client.py", ensemble.leader()),
        ]:
            if wanted and suite not in wanted:
                continue
            # What /zookeeper/config holds is the one thing that differs.
            environment = {**os.environ, "OSTLER_IN_ENSEMBLE": "1"}
            command = [sys.executable, os.path.join(HERE, suite), "--server", member.address]
            try:
                status = subprocess.run(command, stdin=subprocess.DEVNULL, env=environment, timeout=SUITE_SECONDS_MAX).returncode
            except subprocess.TimeoutExpired:
                status = f"no end within {SUITE_SECONDS_MAX} s"
            if status != 0:
                print(f"FAIL {suite} at a {member.mode()}: {status}; its server's log ends:\n{member.log()[-2000:]}", flush=True)
                well = False
        for member in ensemble.members:
            if not member.is_running():
                print(f"FAIL server {member.number}: ended:\n{member.log()[-2000:]}", flush=True)
                well = False
    sys.exit(0 if well else 1)


if __name__ == "__main__":
    main()
