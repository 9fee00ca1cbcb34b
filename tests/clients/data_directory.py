#!/usr/bin/env python3
"""A data directory that a live server has: Ostler refuses it and names the process, whether that is Apache's server or its own
kind, and whether it has written anything yet; once that process is gone it starts.
"""

import os
import subprocess

import harness
from harness import check
from kazoo.client import KazooClient


def start_on(directory, *flags):
    """A second server on the same directory: it has to end by itself."""
    binary = os.environ.get("OSTLER_BIN") or os.path.join(harness.TESTS, "..", "target", "release", "ostler")
    command = [binary, "server", *flags, "0", directory]
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
    return ended.returncode, ended.stdout + ended.stderr


def refused_while_it_lives(peer, writes):
    server = harness.Server(peer)
    try:
        if writes:
            zk = KazooClient(hosts=server.address, timeout=20.0)
            zk.start(20)
            zk.create("/written", b"1")
            zk.stop()
            zk.close()
        code, said = start_on(server.dir)
        assert code == 3, (code, said[-1000:])
        assert f"process {server.process.pid} (" in said and "-Dostler.ignoreOwner=true" in said, said[-1000:]
        server.kill()
        log = server.log()
        server.peer = "ostler"
        server.start()
        assert "another server uses" not in server.log()[len(log):], server.log()[-1000:]
    finally:
        server.end()


@check
def an_idle_apache_is_found_by_its_configuration(_server):
    refused_while_it_lives("apache", writes=False)


@check
def an_apache_that_writes_is_found_by_its_files(_server):
    refused_while_it_lives("apache", writes=True)


@check
def another_ostler_is_found_by_its_lock(_server):
    refused_while_it_lives("ostler", writes=True)


if __name__ == "__main__":
    harness.main(__doc__)
