#!/usr/bin/env python3
"""`ostler ensemble`: an ensemble in one command, whose servers are killed, paused and started again by the next ones while
clients go on; and what it says to commands that make no sense.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile

import harness
from ensemble import Writers, free_ports
from harness import check, eventually
from kazoo.client import KazooClient

BINARY = os.environ.get("OSTLER_BIN") or os.path.join(harness.TESTS, "..", "target", "release", "ostler")
COLUMNS = ["server", "role", "epoch", "zxid", "lag", "sessions", "connections", "pid", "client port"]
HOME = tempfile.mkdtemp(prefix="ostler-local-ensemble-")


def ostler(*words, code=0):
    """What `ostler ensemble` printed, both streams together."""
    done = subprocess.run([BINARY, "ensemble", *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=90, cwd=HOME,
                          env={**os.environ, "OSTLER_DATA_DIR": os.path.join(HOME, "alone")})
    assert done.returncode == code, f"{words}: exit code {done.returncode} instead of {code}: {done.stdout}"
    return done.stdout


def table(text):
    """The rows of the table by server, each a dictionary by column."""
    lines = text.splitlines()
    [at] = [at for at, line in enumerate(lines) if re.match(r"\s*server\s+role\s", line)]
    rows = {}
    for line in lines[at + 1:]:
        if not re.match(r"\s*\d+  ", line):
            break
        cells = re.split(r"\s{2,}", line.strip())
        assert len(cells) == len(COLUMNS), line
        rows[int(cells[0])] = dict(zip(COLUMNS, cells))
    return rows


class Local:
    """An ensemble in a directory of its own."""

    def __init__(self, *words):
        self.dir = tempfile.mkdtemp(prefix="ensemble-", dir=HOME)
        self.said = self("up", *words)
        self.connect = re.search(r"^Connect to (\S+)$", self.said, re.M)[1]

    def __call__(self, verb, *words, code=0):
        return ostler(verb, *words, "--dir", self.dir, code=code)

    def rows(self):
        return table(self("status"))

    def leader(self):
        return eventually(lambda: [number for number, row in self.rows().items() if row["role"] == "leader"], 30, "a leader")[0]

    def wait_role(self, number, *roles):
        return eventually(lambda: self.rows()[number]["role"] in roles, 30, f"server {number} is one of {roles}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # Whatever a failed check left behind.
        for row in self.rows().values() if os.path.exists(os.path.join(self.dir, "ensemble")) else ():
            if row["pid"] != "-":
                os.kill(int(row["pid"]), signal.SIGKILL)


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@check
def an_ensemble_in_one_command(_server):
    with Local("--voters", "3", "--observers", "2") as local:
        rows = table(local.said)
        assert sorted(row["role"] for row in rows.values()) == ["follower", "follower", "leader", "observer", "observer"], rows
        assert [rows[number]["role"] for number in (4, 5)] == ["observer", "observer"]
        assert [f"127.0.0.1:{row['client port']}" for row in rows.values()] == local.connect.split(",")
        for hint in ("ostler cli -server", "ostler bench mixed --servers", "status --live", "kill leader", "down"):
            assert hint in local.said, local.said
        zk = KazooClient(local.connect)
        zk.start(30)
        zk.create("/here", b"x")
        zk.stop()
        eventually(lambda: {row["lag"] for row in local.rows().values()} == {"0"}, 10, "all have it")
        # The verbs of zkServer.sh know the servers, too.
        done = subprocess.run([BINARY, "status", "--config", os.path.join(local.dir, "1")], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)
        assert done.returncode == 0 and "Mode: " in done.stdout, done.stdout
        assert "5 servers stopped" in local("down")
        assert not any(alive(row["pid"]) for row in rows.values())
        assert {row["role"] for row in local.rows().values()} == {"stopped", "stopped (observer)"}
        # The same servers on the same data.
        again = local("up")
        assert "5 of them started now" in again and local.connect in again, again
        zk = KazooClient(local.connect)
        zk.start(30)
        assert zk.get("/here")[0] == b"x"
        zk.stop()
        local("down", "--remove")
        assert not os.path.exists(local.dir)


@check
def clients_go_on_while_servers_come_and_go(_server):
    with Local() as local:
        writers = Writers(local.connect)
        writers.progress(50)
        leader = local.leader()
        pid = local.rows()[leader]["pid"]
        assert f"Server {leader} is killed" in local("kill", "leader")
        assert not alive(pid)
        assert local.rows()[leader]["role"] == "stopped"
        writers.progress(50)
        assert "does not run" in local("kill", str(leader), code=1)
        local("start", str(leader))
        local.wait_role(leader, "follower")
        assert "runs already" in local("start", str(leader), code=1)
        # One that hangs: the others go on, and it catches up.
        hung = local.leader()
        local("pause", str(hung))
        assert local.rows()[hung]["role"] == "paused"
        assert "paused already" in local("pause", str(hung), code=1)
        writers.progress(50)
        local("start", str(hung))
        local.wait_role(hung, "follower", "leader")
        writers.progress(50)
        acknowledged = writers.stop()
        eventually(lambda: {row["lag"] for row in local.rows().values()} == {"0"}, 30, "all have all")
        zk = KazooClient(local.connect)
        zk.start(30)
        missing = [path for path in acknowledged if zk.exists(path) is None]
        assert not missing, f"{len(missing)} acknowledged writes are lost: {missing[:5]}"
        zk.stop()
        # A paused server is stopped as well.
        local("pause", "1")
        local("down", "--remove")


@check
def the_live_table_is_drawn_until_it_is_interrupted(_server):
    with Local("--voters", "1") as local:
        live = subprocess.Popen([BINARY, "ensemble", "status", "--live", "--dir", local.dir], stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, text=True)
        try:
            pictures = 0
            while pictures < 3:
                line = live.stdout.readline()
                assert line, "it ended by itself"
                pictures += "standalone" in line
        finally:
            live.send_signal(signal.SIGINT)
            live.wait(10)
            live.stdout.close()
        local("down", "--remove")


@check
def ports_may_be_chosen(_server):
    ports = free_ports(1)
    base = ports[0] if ports[0] < 60_000 else 20_000 + ports[0] % 10_000
    with Local("--base-port", str(base)) as local:
        assert [int(row["client port"]) for row in table(local.said).values()] == [base, base + 1, base + 2]
        other = os.path.join(HOME, "other")
        said = ostler("up", "--dir", other, "--base-port", str(base), code=1)
        assert f"port {base} of server 1" in said and "--base-port" in said, said
        local("down", "--remove")
    assert "--base-port 65000" in ostler("up", "--dir", other, "--base-port", "65000", code=1)


@check
def what_makes_no_sense_is_said(_server):
    with Local() as local:
        said = local("up", "--voters", "5", code=1)
        assert "3 voters already" in said and "down --remove" in said and local.dir in said, said
        assert "serve already" in local("up", "--voters", "3")
        said = local("kill", "4", code=2)
        assert "no server 4" in said and "1 to 3" in said, said
        local("kill", "all", code=2)
        local("down")
        assert "no server leads" in local("kill", "leader", code=1)
        said = local("pause", "2", code=1)
        assert "does not run" in said and f"start 2 --dir {local.dir}" in said, said
        local("down", "--remove")
    nowhere = os.path.join(HOME, "nowhere")
    for words in (["status"], ["down"], ["kill", "1"]):
        said = ostler(*words, "--dir", nowhere, code=1)
        assert "there is no ensemble" in said and "ensemble up" in said, said
    foreign = os.path.join(HOME, "foreign")
    os.mkdir(foreign)
    with open(os.path.join(foreign, "file"), "w"):
        pass
    assert "holds other files" in ostler("up", "--dir", foreign, code=1)
    ostler("up", "--dir", nowhere, "--voters", "0", code=2)
    ostler("up", "--dir", nowhere, "--voters", "1", "--observers", "1", code=2)
    assert not os.path.exists(nowhere)


@check
def a_server_that_cannot_start_says_where_to_look(_server):
    with Local("--voters", "3") as local:
        local("down")
        with socket.socket() as taken:
            port = int(local.rows()[2]["client port"])
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind(("127.0.0.1", port))
            taken.listen()
            said = local("start", "2", code=1)
            assert "server 2 did not start" in said and "; see " in said, said
        local("up")
        local("down", "--remove")


if __name__ == "__main__":
    harness.at_end(lambda: shutil.rmtree(HOME, True))
    harness.main_without_server(__doc__)
