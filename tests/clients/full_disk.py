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


def with_small(which, play, megabytes=48, lines=("preAllocSize=4096",)):
    disk = SmallDisk(megabytes)
    server = None
    try:
        server = harness.Server("ostler", lines=[*lines, f"{which}={disk.path}/{which}", "4lw.commands.whitelist=*"])
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
        # Who comes new may read, and monitoring sees what is the matter.
        other = client(server)
        assert other.get("/full/00001")[0] == b"x" * 100_000
        other.stop()
        other.close()
        log = server.log()
        assert "bytes free, and the next log file needs" in log and "preAllocSize" in log, log[-2000:]
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


def refuses(server):
    return harness.ask(server.port, "isro") == "ro"


@check
def monitoring_sees_a_full_disk_and_its_end(_server):
    def play(server, disk):
        zk = client(server)
        zk.create("/before", b"1")
        assert harness.ask(server.port, "redy") == "ready\n" and not refuses(server)
        # Snapshots and purges cannot help: what fills the disk is not ours.
        ballast = os.path.join(disk.path, "ballast")
        with open(ballast, "wb") as out:
            room = os.statvfs(disk.path)
            out.write(b"x" * (room.f_bavail * room.f_bsize - MEGABYTE))
        fill(zk, "/fill")
        eventually(lambda: refuses(server), 20, "isro says ro")
        answer = harness.ask(server.port, "redy")
        assert answer.startswith("not ready: disk full, ") and "preAllocSize" in answer, answer
        assert harness.ask(server.port, "ruok") == "imok"
        lines = dict(line.split("\t") for line in harness.ask(server.port, "mntr").splitlines())
        assert (lines["zk_ostler_disk_full"], lines["zk_ostler_ready"], lines["zk_ostler_writes_refused"]) == ("1", "0", "1")
        assert int(lines["zk_ostler_disk_free_bytes"]) < 4 * MEGABYTE, lines["zk_ostler_disk_free_bytes"]
        assert zk.get("/before")[0] == b"1"
        os.unlink(ballast)
        eventually(lambda: not refuses(server), 20, "room again")
        assert harness.ask(server.port, "redy") == "ready\n"
        eventually(lambda: "has room again" in server.log(), 20, "a line about it")
        zk.stop()
        zk.close()

    with_small("dataDir", play)


@check
def a_small_volume_is_used_with_the_default_settings(_server):
    """40 MiB, of which a log file of the usual size would take more than all."""

    def play(server, disk):
        zk = client(server)
        count = fill(zk, "/small", most=400)
        # Logs of 4 MiB, and room for a snapshot of what is stored.
        assert count >= 100, f"{count} znodes of 100 kB"
        # What is stored can be written as a snapshot, and then the logs go.
        zk.delete("/small/00000")
        eventually(lambda: creates(zk, "/after"), 60, "room again")
        zk.stop()
        zk.close()
        server.restart(gently=False)
        zk = client(server)
        assert zk.get("/after")[0] == b"again" and len(zk.get_children("/small")) == count - 1
        zk.stop()
        zk.close()

    with_small("dataDir", play, 40, ())


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
