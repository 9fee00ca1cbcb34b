#!/usr/bin/env python3
"""A disk that is really full: a small tmpfs under the log, then under the snapshots. New writes are refused in order
(-119), reads and deletes go on, and once there is room again the server goes on by itself; nothing acknowledged is lost.
"""

import os
import subprocess
import tempfile

import harness
from harness import check, eventually
from kazoo.client import KazooClient
from kazoo.exceptions import NotReadOnlyCallError

MEGABYTE = 1 << 20


class SmallDisk:
    """A tmpfs of so many megabytes; needs the right to mount."""

    def __init__(self, megabytes):
        self.path = tempfile.mkdtemp(prefix="ostler-small-disk-")
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", self.path], check=True)

    def end(self):
        subprocess.run(["umount", "-l", self.path], check=False)
        os.rmdir(self.path)


def client(server):
    zk = KazooClient(server.address, timeout=10)
    zk.start()
    return zk


def fill(zk, root, bytes_each=100_000, most=3_000):
    """Creates until the server refuses; the number created."""
    zk.ensure_path(root)
    for number in range(most):
        try:
            zk.create(f"{root}/{number:05}", b"x" * bytes_each)
        except NotReadOnlyCallError:
            return number
    raise AssertionError(f"{most} znodes of {bytes_each} bytes fit")


def creates(zk, path):
    try:
        zk.create(path, b"again")
        return True
    except NotReadOnlyCallError:
        return False


def with_small(which, play):
    disk = SmallDisk(48)
    server = None
    try:
        server = harness.Server("ostler", lines=["preAllocSize=4096", f"{which}={disk.path}/{which}"])
        play(server, disk)
    finally:
        if server:
            server.end()
        disk.end()


@check
def a_full_log_disk_refuses_writes_serves_reads_and_recovers(_server):
    def play(server, _disk):
        zk = client(server)
        count = fill(zk, "/full")
        assert count > 50, count
        assert len(zk.get("/full/00000")[0]) == 100_000
        assert len(zk.get_children("/full")) == count
        zk.delete("/full/00000")
        eventually(lambda: creates(zk, "/after"), 60, "room again, by a snapshot and what it makes superfluous")
        zk.stop()
        zk.close()
        server.restart(gently=False)
        zk = client(server)
        assert zk.get("/after")[0] == b"again"
        names = sorted(zk.get_children("/full"))
        assert names == [f"{number:05}" for number in range(1, count)], (count, names[:3], names[-3:])
        zk.stop()
        zk.close()

    with_small("dataLogDir", play)


@check
def a_full_snapshot_disk_costs_no_write(_server):
    def play(server, disk):
        zk = client(server)
        with open(os.path.join(disk.path, "ballast"), "wb") as ballast:
            room = os.statvfs(disk.path)
            ballast.write(b"x" * (room.f_bavail * room.f_bsize - MEGABYTE))
        zk.ensure_path("/kept")
        for number in range(200):
            zk.create(f"/kept/{number:05}", b"y" * 50_000)
        zk.stop()
        zk.close()
        assert server.stop() == 0, server.log()[-1000:]
        os.unlink(os.path.join(disk.path, "ballast"))
        server.start()
        zk = client(server)
        assert len(zk.get_children("/kept")) == 200
        zk.stop()
        zk.close()

    directory = tempfile.mkdtemp(prefix="ostler-logs-")
    disk = SmallDisk(48)
    server = None
    try:
        lines = ["preAllocSize=4096", "snapCount=50", f"dataDir={disk.path}/data", f"dataLogDir={directory}"]
        server = harness.Server("ostler", lines=lines)
        play(server, disk)
    finally:
        if server:
            server.end()
        disk.end()
        subprocess.run(["rm", "-rf", directory], check=True)


if __name__ == "__main__":
    if os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], check=False).returncode:
        print("ok skipped: mounting a small disk needs root")
    else:
        harness.main(__doc__)
