#!/usr/bin/env python3
"""Curator 5.9.0, unmodified: locks, counters, caches and memberships in full use while the server is killed and comes back."""

import logging
import threading

import harness
from kazoo.client import KazooClient
from kazoo.retry import KazooRetry

CRASHES = 3


def crash(server, failures):
    """Kills the server again and again once the program is at work, and tells it when that is over."""
    try:
        control = KazooClient(server.address, timeout=20, command_retry=KazooRetry(max_tries=-1, max_delay=1, deadline=60))
        control.start(60)
        harness.eventually(lambda: control.retry(control.exists, "/through/ready"), 60, "the program is at work")
        for _ in range(CRASHES):
            seen = len(control.retry(control.get_children, "/through/locked"))
            server.restart(gently=False)
            harness.eventually(
                lambda: len(control.retry(control.get_children, "/through/locked")) > seen + 20, 60, "work goes on after a crash")
        control.retry(control.ensure_path, "/through/over")
        control.stop()
    except (Exception, SystemExit) as problem:
        failures.append(problem)
        print(f"FAIL crashes: {type(problem).__name__}: {problem}", flush=True)


def play(server):
    if server.dir is None:
        print("skip crashes: the server is not ours to kill", flush=True)
        return True
    failures = []
    logging.getLogger("kazoo").setLevel(logging.CRITICAL)
    with harness.compiled("Checks.java", "CuratorThroughCrashes.java") as classes:
        killing = threading.Thread(target=crash, args=(server, failures), daemon=True)
        killing.start()
        well = harness.relay(harness.java("CuratorThroughCrashes", server.address, classes=classes), 300)
        # It must not start a server again behind the end of this one.
        killing.join(120)
        return well and not failures


if __name__ == "__main__":
    harness.serve(__doc__, play)
