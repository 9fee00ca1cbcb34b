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


def a_follower(ensemble):
    return next(member for member in ensemble.voters if member.mode() == "follower")


def the_observer(ensemble):
    return ensemble[4]


def tells_proposal_sizes(leader):
    """What the leader has proposed to the others by now shows in its figures."""
    figures = leader.mntr()
    least, last, most = (int(figures[f"zk_{which}_proposal_size"]) for which in ("min", "last", "max"))
    well = 0 < least <= last <= most
    print("ok proposal_sizes" if well else f"FAIL proposal_sizes: {least} {last} {most}", flush=True)
    return well


def play(suite, choose):
    """One suite with an ensemble of its own, for the suites expect to create their znodes; true when it went well."""
    with Ensemble(["ostler"] * 3, ["ostler"], tick_ms=2000) as ensemble:
        ensemble.start()
        member = choose(ensemble)
        mode = member.mode()
        # What /zookeeper/config holds and the role that the words tell are all that differs from a standalone server.
        environment = {**os.environ, "OSTLER_IN_ENSEMBLE": mode}
        command = [sys.executable, os.path.join(HERE, suite), "--server", member.address]
        try:
            status = subprocess.run(command, stdin=subprocess.DEVNULL, env=environment, timeout=SUITE_SECONDS_MAX).returncode
        except subprocess.TimeoutExpired:
            status = f"no end within {SUITE_SECONDS_MAX} s"
        if status != 0:
            print(f"FAIL {suite} at a {mode}: {status}; its server's log ends:\n{member.log()[-2000:]}", flush=True)
        well = status == 0 and (mode != "leader" or tells_proposal_sizes(member))
        ended = [member for member in ensemble.members if not member.is_running()]
        for member in ended:
            print(f"FAIL server {member.number}: ended under {suite}:\n{member.log()[-2000:]}", flush=True)
        return well and not ended


def main():
    wanted = sys.argv[1:]
    suites = [
        ("kazoo_recipes.py", a_follower),
        ("java_client.py", the_observer),
        ("curator_recipes.py", the_observer),
        ("c_client.py", Ensemble.leader),
    ]
    well = [play(suite, choose) for suite, choose in suites if not wanted or suite in wanted]
    sys.exit(0 if all(well) else 1)


if __name__ == "__main__":
    main()
