"""An ensemble of Ostler and Apache ZooKeeper servers in any mixture, on this machine, for the suites.

Not here: checks, and how the network between the servers is cut (network.py). Each member keeps its ports and its data directory for as long as the ensemble lives, whichever peer
runs on them, so that a directory goes from Apache to Ostler and back.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

import harness
from network import Network
from harness import ENV, TESTS, ask, eventually
from kazoo.client import KazooClient
from kazoo.exceptions import ConnectionClosedError, ConnectionLoss, KazooException, NodeExistsError, SessionExpiredError
from kazoo.handlers.threading import KazooTimeoutError

HOST = "127.0.0.1"
SERVE_SECONDS_MAX = 60


def free_ports(count):
    """Ports that nobody uses at this moment."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind((HOST, 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


class Member:
    """One server of the ensemble: `peer` is "ostler" or "apache"."""

    def __init__(self, ensemble, number, peer, observer):
        self.ensemble, self.number, self.peer, self.observer = ensemble, number, peer, observer
        self.client_port, self.quorum_port, self.election_port = free_ports(3)
        self.dir = os.path.join(ensemble.dir, str(number))
        os.makedirs(os.path.join(self.dir, "data"))
        with open(os.path.join(self.dir, "data", "myid"), "w") as out:
            out.write(f"{number}\n")
        self.process, self.lines = None, []

    @property
    def address(self):
        return f"{HOST}:{self.client_port}"

    def line_for(self, other):
        """This server in the configuration of another, or in its own."""
        role = "observer" if self.observer else "participant"
        host, quorum_port, election_port = HOST, self.quorum_port, self.election_port
        network = self.ensemble.network
        if network and other is self:
            # A wildcard tells nobody an address, so all others come through the network.
            host = "0.0.0.0"
        elif network:
            quorum_port, election_port = (network.port(other.number, self.number, port) for port in (quorum_port, election_port))
        return f"server.{self.number}={host}:{quorum_port}:{election_port}:{role}"

    def start(self, peer=None):
        """Starts the server, by another peer if one is named. Does not wait until it serves."""
        self.peer = peer or self.peer
        config = os.path.join(self.dir, "zoo.cfg")
        with open(config, "w") as out:
            out.write("\n".join([
                f"dataDir={self.dir}/data", f"clientPort={self.client_port}", f"clientPortAddress={HOST}",
                f"tickTime={self.ensemble.tick_ms}", f"initLimit={self.ensemble.init_limit}", f"syncLimit={self.ensemble.sync_limit}", "maxClientCnxns=0", "admin.enableServer=false",
                "4lw.commands.whitelist=*", "extendedTypesEnabled=true",
                *(["peerType=observer"] if self.observer else []), *self.ensemble.lines,
                *self.lines, *(member.line_for(self) for member in self.ensemble.members), ""]))
        log = open(os.path.join(self.dir, "server.log"), "a")
        print(f"--- {time.strftime('%H:%M:%S')} {self.peer} starts", file=log, flush=True)
        self.process = subprocess.Popen(self._command(config), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.dir)
        log.close()

    def _command(self, config):
        if self.peer == "apache":
            return ["java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dorg.apache.logging.log4j.level=INFO",
                    *self.ensemble.java_flags, "-cp", ENV["OSTLER_CLASSPATH"],
                    "org.apache.zookeeper.server.quorum.QuorumPeerMain", config]
        binary = os.environ.get("OSTLER_BIN") or os.path.join(TESTS, "..", "target", "release", "ostler")
        return [binary, "server", config]

    def log(self):
        with open(os.path.join(self.dir, "server.log"), errors="replace") as log:
            return log.read()

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def mode(self):
        """"leader", "follower", "observer", "standalone", or None while it does not serve."""
        try:
            answer = ask(self.client_port, "srvr")
        except OSError:
            return None
        modes = [line[len("Mode: "):] for line in answer.splitlines() if line.startswith("Mode: ")]
        return modes[0] if modes else None

    def mntr(self):
        pairs = (line.split("\t", 1) for line in ask(self.client_port, "mntr").splitlines() if "\t" in line)
        return {key: value for key, value in pairs}

    def serves(self):
        assert self.is_running(), f"server {self.number} ({self.peer}) ended with {self.process.returncode}:\n{self.log()[-3000:]}"
        return self.mode()

    def wait_until_it_serves(self, seconds=SERVE_SECONDS_MAX):
        return eventually(self.serves, seconds, f"server {self.number} ({self.peer}) serves; its log ends:\n{self.log()[-3000:]}")

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.terminate()
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"server {self.number} ({self.peer}) did not stop:\n{self.log()[-2000:]}") from None

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def client(self, timeout=10):
        zk = KazooClient(self.address, timeout=timeout)
        zk.start(30)
        return zk


class Ensemble:
    """`voters` and `observers` name the peers; numbers go from 1, observers behind the voters."""

    def __init__(self, voters, observers=(), lines=(), java_flags=(), tick_ms=500, networked=False, init_limit=20, sync_limit=10):
        self.dir = tempfile.mkdtemp(prefix="ostler-ensemble-")
        self.lines, self.java_flags, self.tick_ms = list(lines), list(java_flags), tick_ms
        self.init_limit, self.sync_limit, self.network = init_limit, sync_limit, None
        self.members = []
        for number, peer in enumerate([*voters, *observers], 1):
            self.members.append(Member(self, number, peer, observer=number > len(voters)))
        if networked:
            pairs = [(one, other) for one in self.members for other in self.members if one is not other]
            self.network = Network({(one.number, other.number): [other.quorum_port, other.election_port] for one, other in pairs})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def __getitem__(self, number):
        return self.members[number - 1]

    @property
    def addresses(self):
        return ",".join(member.address for member in self.members)

    @property
    def voters(self):
        return [member for member in self.members if not member.observer]

    def start(self):
        for member in self.members:
            member.start()
        self.wait_until_all_serve()

    def start_led_by(self, number):
        """The highest of the first quorum leads: the server with this number starts with those below it that it needs."""
        others = [member for member in self.voters if member.number != number]
        needed = [member for member in others if member.number < number][-(len(self.voters) // 2):]
        first = [*needed, self[number]]
        for member in first:
            member.start()
        eventually(lambda: self[number].serves() == "leader", SERVE_SECONDS_MAX, f"server {number} leads")
        for member in self.members:
            if member not in first:
                member.start()
        self.wait_until_all_serve()

    def wait_until_all_serve(self):
        for member in self.members:
            if member.is_running():
                member.wait_until_it_serves()

    def restart_all(self):
        for member in self.members:
            if not member.is_running():
                member.start()
        self.wait_until_all_serve()

    def leader(self):
        def find():
            leaders = [member for member in self.members if member.is_running() and member.mode() == "leader"]
            return leaders[0] if len(leaders) == 1 else None
        return eventually(find, SERVE_SECONDS_MAX, "one leader")

    def end(self):
        for member in self.members:
            if member.is_running():
                member.kill()
        kept = os.environ.get("OSTLER_KEEP_LOGS")
        if kept:
            for member in self.members:
                if os.path.exists(os.path.join(member.dir, "server.log")):
                    name = f"{os.path.basename(self.dir)}-{member.number}.log"
                    shutil.copy(os.path.join(member.dir, "server.log"), os.path.join(kept, name))
        if self.network:
            self.network.end()
        shutil.rmtree(self.dir, ignore_errors=True)


class Writers:
    """Clients that create znodes one after the other through any server, and remember what was acknowledged."""

    def __init__(self, addresses, count=2, root="/load"):
        self.addresses, self.root = addresses, root
        self.acknowledged, self.failed, self.longest_gap = [], 0, 0.0
        self.stopping = threading.Event()
        self.lock = threading.Lock()
        first = KazooClient(addresses, timeout=10)
        first.start(60)
        first.ensure_path(root)
        first.stop()
        first.close()
        self.threads = [threading.Thread(target=self._write, args=(number,), daemon=True) for number in range(count)]
        for thread in self.threads:
            thread.start()

    def _write(self, number):
        zk = None
        count, last = 0, time.monotonic()
        while not self.stopping.is_set():
            try:
                if zk is None:
                    zk = KazooClient(self.addresses, timeout=10)
                    zk.start(5)
                path = f"{self.root}/{number}-{count:06}"
                zk.create_async(path, str(count).encode()).get(timeout=10)
            except NodeExistsError:
                pass  # an attempt whose answer was lost
            except (ConnectionLoss, ConnectionClosedError, SessionExpiredError, KazooTimeoutError, KazooException):
                with self.lock:
                    self.failed += 1
                if zk is not None and not zk.connected:
                    self.stopping.wait(0.02)
                if zk is not None and zk.client_state in ("CLOSED", "EXPIRED_SESSION", "AUTH_FAILED"):
                    self._end(zk)
                    zk = None
                continue
            now = time.monotonic()
            with self.lock:
                self.acknowledged.append(path)
                self.longest_gap = max(self.longest_gap, now - last)
            last = now
            count += 1
        if zk is not None:
            self._end(zk)

    @staticmethod
    def _end(zk):
        try:
            zk.stop()
            zk.close()
        except Exception:
            pass

    def progress(self, more=50, seconds=60):
        """Waits until so many more writes are acknowledged."""
        with self.lock:
            target = len(self.acknowledged) + more
        eventually(lambda: len(self.acknowledged) >= target, seconds, f"{more} more acknowledged writes ({len(self.acknowledged)} so far, {self.failed} failed)")

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(60)
        return self.acknowledged


STAT_FIELDS = ("czxid", "mzxid", "ctime", "mtime", "version", "cversion", "aversion", "ephemeralOwner", "dataLength",
               "numChildren", "pzxid")


def tree(member):
    """Every znode that this one server shows: data, Stat, ACL; what each server writes for itself is left out."""
    zk = member.client()
    try:
        zk.sync("/")
        found = {}
        paths = ["/"]
        while paths:
            # Some hundred requests under way at once.
            some, paths = paths[:100], paths[100:]
            asked = [(path, zk.get_async(path), zk.get_acls_async(path), zk.get_children_async(path)) for path in some]
            for path, got, acls, children in asked:
                (data, stat), (acl, _) = got.get(), acls.get()
                fields = tuple(getattr(stat, field) for field in STAT_FIELDS)
                if path == "/zookeeper/config":
                    # Each server writes its configuration itself, with its own clock; behind a network each knows other ports.
                    found[path] = () if member.ensemble.network else (data,)
                else:
                    found[path] = (data, fields, tuple(acl))
                paths.extend(f"{path.rstrip('/')}/{child}" for child in children.get())
        return found
    finally:
        zk.stop()
        zk.close()


def assert_equal_trees(ensemble, but=()):
    """All running members show the same tree; call it when nobody writes."""
    trees = [(member, tree(member)) for member in ensemble.members if member.is_running() and member not in but]
    first, expected = trees[0]
    for member, found in trees[1:]:
        if found == expected:
            continue
        paths = sorted(path for path in {*expected, *found} if expected.get(path) != found.get(path))
        shown = "\n".join(f"  {path}: {expected.get(path)} / {found.get(path)}" for path in paths[:10])
        raise AssertionError(f"servers {first.number} ({first.peer}) and {member.number} ({member.peer}) differ in {len(paths)} znodes:\n{shown}")
    return expected


def assert_holds(found, acknowledged):
    """Every acknowledged path is there."""
    missing = [path for path in acknowledged if path not in found]
    assert not missing, f"{len(missing)} of {len(acknowledged)} acknowledged writes are lost: {missing[:5]}"


def digests(member):
    """Tree digests by zxid, as the word `hash` lists them."""
    lines = (line.split(": ") for line in ask(member.client_port, "hash").splitlines() if ": " in line)
    return {int(zxid, 16): int(digest) for zxid, digest in lines}


def assert_equal_digests(ensemble):
    """Where two members have kept the digest at the same zxid, it is the same; and nobody has seen one differ."""
    kept = [(member, digests(member)) for member in ensemble.members if member.is_running()]
    common = 0
    for at, (first, expected) in enumerate(kept):
        for second, found in kept[at + 1:]:
            for zxid in expected.keys() & found.keys():
                common += 1
                assert expected[zxid] == found[zxid], f"at 0x{zxid:x} the trees of servers {first.number} and {second.number} differ"
    for member, _ in kept:
        count = member.mntr().get("zk_digest_mismatches_count", "0")
        # Apache's own SNAP is fuzzy, which its counter takes for a difference.
        assert member.peer == "apache" or count == "0", f"server {member.number} has counted {count} differing digests"
    return common
