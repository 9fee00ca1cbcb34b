#!/usr/bin/env python3
"""Peers that mean harm, or know no better, at the election and the quorum port of a running ensemble: nonsense, lying
lengths, half-open connections, ids that exist or do not, wrong epochs, votes and acknowledgements out of nowhere, floods.

While each of them is at it a bystander pings, writes and reads through a follower and must never notice, the roles stay as they
are, and the log names peer and reason. A member that is elected and then speaks nonsense may cost its followers that
election and nothing else. Also: members whose configurations disagree.
"""

import contextlib
import os
import random
import socket
import struct
import threading
import time

import harness
from ensemble import HOST, Ensemble, assert_equal_digests, assert_equal_trees, free_ports
from harness import at_end, check, eventually

REQUEST, PROPOSAL, ACK, COMMIT, PING, REVALIDATE, SYNC, INFORM = 1, 2, 3, 4, 5, 6, 7, 8
NEWLEADER, FOLLOWERINFO, UPTODATE, DIFF, TRUNC, SNAP, OBSERVERINFO, LEADERINFO, ACKEPOCH = 10, 11, 12, 13, 14, 15, 16, 17, 18
LOOKING, FOLLOWING, LEADING, OBSERVING = range(4)
VERSION_1 = -65536
LONG_MAX = (1 << 63) - 1
TICK_MS = 250
# How long the bystander may wait for one answer on a machine that is busy with other suites.
PATIENCE_SECONDS = 10


def packet(kind, zxid=-1, data=None, authinfo=b"\xff\xff\xff\xff"):
    return struct.pack(">iq", kind, zxid) + (b"\xff\xff\xff\xff" if data is None else struct.pack(">i", len(data)) + data) + authinfo


def info(number, protocol=0x10000, version=0):
    return struct.pack(">qiq", number, protocol, version)


def handshake(number, address=f"{HOST}:1", version=VERSION_1):
    raw = address if isinstance(address, bytes) else address.encode()
    return struct.pack(">qqi", version, number, len(raw)) + raw


def notification(state, leader, zxid, round_, epoch, config=None, version=2):
    payload = struct.pack(">iqqqqi", state, leader, zxid, round_, epoch, version)
    if config is not None:
        payload += struct.pack(">i", len(config)) + config
    return struct.pack(">i", len(payload)) + payload


def entry(zxid, body=None, kind=1, session=0, cxid=0):
    """A txn as it stands in a log; without a body of one's own, the creation of a znode."""
    if body is None:
        path = f"/fake-{zxid:x}".encode()
        body = struct.pack(">i", len(path)) + path + struct.pack(">i", 1) + b"x" + struct.pack(">ii", 1, 31) + b"\0\0\0\5world\0\0\0\6anyone" + b"\0" + struct.pack(">i", -1)
    return struct.pack(">qiqqi", session, cxid, zxid, int(time.time() * 1000), kind) + body


class Origin:
    """Each check comes from an address of its own, for of one address a log speaks once in ten seconds."""

    number = 10

    @classmethod
    def address(cls):
        return f"127.0.0.{cls.number}"


class Peer:
    """One connection to a port of a server, spoken to in bytes."""

    def __init__(self, port, connection=None):
        self.socket = connection or socket.create_connection((HOST, port), PATIENCE_SECONDS, (Origin.address(), 0))
        self.socket.settimeout(PATIENCE_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, raw):
        """What the other end closes meanwhile shows when it is read."""
        try:
            self.socket.sendall(raw)
        except OSError:
            pass
        return self

    def read(self, count):
        raw = b""
        while len(raw) < count:
            part = self.socket.recv(count - len(raw))
            if not part:
                raise ConnectionResetError("closed")
            raw += part
        return raw

    def packet(self):
        kind, zxid, length = struct.unpack(">iqi", self.read(16))
        data = self.read(max(length, 0))
        assert self.read(4) == b"\xff\xff\xff\xff"
        return kind, zxid, data

    def until(self, *kinds):
        while True:
            found = self.packet()
            if found[0] in kinds:
                return found

    def assert_closed(self, what, seconds=PATIENCE_SECONDS):
        """The other end hangs up, whatever it says before."""
        self.socket.settimeout(seconds)
        try:
            while self.socket.recv(1 << 16):
                pass
        except ConnectionResetError:
            pass
        except TimeoutError:
            raise AssertionError(f"{what}: the connection stays open") from None

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Bystander:
    """A well-behaved client of one server: writes, reads behind a sync, and notes how long it had to wait."""

    def __init__(self, member):
        self.zk = member.client(timeout=PATIENCE_SECONDS)
        self.stopping, self.longest, self.count, self.trouble = threading.Event(), 0.0, 0, None
        self.states = []
        self.zk.add_listener(self.states.append)
        self.path = f"/bystander-{os.urandom(4).hex()}"
        self.zk.create(self.path, b"0")
        self.thread = threading.Thread(target=self._live, daemon=True)
        self.thread.start()

    def _live(self):
        try:
            while not self.stopping.wait(0.01):
                began = time.monotonic()
                self.zk.set(self.path, str(self.count + 1).encode())
                self.zk.sync(self.path)
                data, _ = self.zk.get(self.path)
                assert data == str(self.count + 1).encode(), data
                self.longest = max(self.longest, time.monotonic() - began)
                self.count += 1
        except Exception as error:
            self.trouble = error

    def goes_on(self):
        target = self.count + 5
        eventually(lambda: self.trouble or self.count >= target, 3 * PATIENCE_SECONDS, "the bystander goes on")

    def end(self):
        self.stopping.set()
        self.thread.join(3 * PATIENCE_SECONDS)
        assert self.trouble is None, f"the bystander has noticed: {self.trouble!r}"
        assert not self.states, f"the bystander was disconnected: {self.states}"
        assert self.longest < PATIENCE_SECONDS, f"the bystander has waited for {self.longest:.1f} s"
        self.zk.stop()
        self.zk.close()


def resident_mib(member):
    with open(f"/proc/{member.process.pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024


def threads(member):
    return len(os.listdir(f"/proc/{member.process.pid}/task"))


def cpu_seconds(member):
    with open(f"/proc/{member.process.pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Target:
    """The ensemble that all checks attack but those that need one of their own: three voters and an observer."""

    ensemble = None

    @classmethod
    def get(cls):
        if cls.ensemble is None:
            cls.ensemble = Ensemble(["ostler"] * 3, ["ostler"], tick_ms=TICK_MS)
            cls.ensemble.start()
        return cls.ensemble

    @classmethod
    def end(cls):
        if cls.ensemble:
            cls.ensemble.end()
            cls.ensemble = None


at_end(Target.end)


@contextlib.contextmanager
def unnoticed(says=(), memory_mib=96):
    """Gives the ensemble, its leader and a follower; afterwards nobody has noticed anything, and each of `says` stands in the
    new part of some server's log."""
    Origin.number += 1
    ensemble = Target.get()
    leader = ensemble.leader()
    follower = next(member for member in ensemble.voters if member is not leader)
    modes = {member.number: member.mode() for member in ensemble.members}
    logs = {member.number: len(member.log()) for member in ensemble.members}
    before = {member.number: resident_mib(member) for member in ensemble.members}
    bystander = Bystander(follower)
    try:
        yield ensemble, leader, follower
        bystander.goes_on()
    finally:
        bystander.end()
    for member in ensemble.members:
        assert member.is_running(), f"server {member.number} ended:\n{member.log()[-2000:]}"
    assert {member.number: member.mode() for member in ensemble.members} == modes, "roles have changed"
    new = "\n".join(member.log()[logs[member.number]:] for member in ensemble.members)
    for words in says:
        assert words in new, f"no log says {words!r}:\n{new[-3000:]}"
    assert "panicked" not in new, new
    for member in ensemble.members:
        grown = resident_mib(member) - before[member.number]
        assert grown < memory_mib, f"server {member.number} has grown by {grown:.0f} MiB"


# --- the election port ---------------------------------------------------------------------------------------------------


@check
def nonsense_at_the_election_port(_server):
    """Every opening that is none is hung up at once, at each server."""
    dice = random.Random(7)
    openings = {
        "random bytes": b"\xff" + dice.randbytes(2000),
        "HTTP": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 3,
        "an unknown version": struct.pack(">qqi", -65000, 9, 5) + b"a:1:2",
        "no address": struct.pack(">qqi", VERSION_1, 9, 0),
        "a negative length": struct.pack(">qqi", VERSION_1, 9, -5),
        "two gigabytes of address": struct.pack(">qqi", VERSION_1, 9, 0x7FFFFFFF),
        "a port above 65535": handshake(9, "127.0.0.1:99999"),
        "an address without port": handshake(9, "127.0.0.1"),
        "no text": handshake(9, b"\xff\xfe:1"),
        "a negative id": handshake(-7),
    }
    with unnoticed(["a connection to the election port was closed"]) as (ensemble, _, _):
        for member in ensemble.members:
            for what, raw in openings.items():
                if what == "HTTP":
                    # To an old server it is the id 5135603447292250196 and frames of 791 MB.
                    continue
                with Peer(member.election_port) as peer:
                    peer.send(raw).assert_closed(f"{what} at server {member.number}")
            with Peer(member.election_port) as peer:
                peer.send(openings["HTTP"]).assert_closed("HTTP")


@check
def a_server_that_bears_ones_own_id(_server):
    with unnoticed(["own id"]) as (ensemble, _, _):
        for member in ensemble.members:
            with Peer(member.election_port) as peer:
                peer.send(handshake(member.number)).assert_closed("its own id")
            with Peer(member.quorum_port) as peer:
                peer.send(packet(FOLLOWERINFO, 0, info(member.number))).assert_closed("its own id at the quorum port")


@check
def strange_notifications(_server):
    """From a stranger, and from one who bears a member's id: votes of all kinds, whole and broken."""
    broken = [struct.pack(">i", 0x7FFFFFFF), struct.pack(">i", -1), struct.pack(">i", 0), struct.pack(">i", (512 << 10) + 1)]
    frames = [
        notification(LOOKING, 99, LONG_MAX, LONG_MAX, LONG_MAX, b"version=0"),
        notification(LOOKING, -1, -1, -1, -1, b"version=0"),
        notification(LOOKING, 1, LONG_MAX, LONG_MAX, LONG_MAX, b""),
        notification(LEADING, 99, LONG_MAX, LONG_MAX, 0x7FFFFFFF, b"server.99=a:1:2:participant\nversion=ffffffff"),
        notification(FOLLOWING, 99, 0, 1, 0, b"group.1=1:2\nweight.1=0"),
        notification(OBSERVING, 99, 0, 1, 0, b"server.1=:::::\nversion=zz"),
        notification(77, 1, 0, 1, 0, b"version=0"),
        notification(LOOKING, 1, 0, 1, 0, b"version=0", version=-3),
        notification(LOOKING, 1, 0, 1, 0, b"version=0", version=9),
        struct.pack(">i", 44) + struct.pack(">iqqqqi", LOOKING, 1, 0, 1, 0, 2) + struct.pack(">i", -9),
        struct.pack(">i", 44) + struct.pack(">iqqqqi", LOOKING, 1, 0, 1, 0, 2) + struct.pack(">i", 0x7FFFFFFF),
        struct.pack(">i", 5) + b"short",
        struct.pack(">i", 28) + struct.pack(">iqqq", LOOKING, 1, LONG_MAX, 1),
        notification(LOOKING, 1, 0, 1, 0, b"x" * 400_000),
    ]
    with unnoticed() as (ensemble, _, _):
        for member in ensemble.members:
            for number in (99, LONG_MAX, 1, 2, 3, 4):
                if number == member.number:
                    continue
                for raw in frames:
                    with Peer(member.election_port) as peer:
                        peer.send(handshake(number) + raw)
                        if number > member.number:
                            # It stays connected until it says what cannot be.
                            peer.send(random.choice(broken)).assert_closed(f"as {number} at {member.number}")
                        else:
                            peer.assert_closed(f"as {number} at {member.number}")


@check
def two_hundred_half_open_connections_keep_nobody_out(_server):
    """At all ports of all servers, while a follower is started anew."""
    with unnoticed(["too many connections have not said who is there"]) as (ensemble, leader, follower):
        other = next(member for member in ensemble.voters if member not in (leader, follower))
        crowd = [Peer(port) for member in ensemble.members for port in (member.election_port, member.quorum_port) for _ in range(200)]
        for number, peer in enumerate(crowd):
            peer.send([b"", b"\xff", handshake(9)[:19], packet(FOLLOWERINFO, 0, info(9))[:20]][number % 4])
        other.kill()
        began = time.monotonic()
        other.start()
        assert other.wait_until_it_serves() == "follower"
        took = time.monotonic() - began
        print(f"   back after {took:.1f} s", flush=True)
        assert took < 10, f"{took:.1f} s"
        for peer in crowd:
            peer.assert_closed("a half-open connection", 60)
            peer.close()


@check
def one_byte_at_a_time(_server):
    """A slow one has one deadline for all that it must say, not one for each byte."""
    with unnoticed() as (_, leader, follower):
        peers = [Peer(member.election_port) for member in (leader, follower)] + [Peer(member.quorum_port) for member in (leader, follower)]
        raw = handshake(9, "a" * 900 + ":1")
        long_info = packet(FOLLOWERINFO, 0, info(9) + bytes(1000))
        gone, deadline, at = set(), time.monotonic() + 60, 0
        while len(gone) < len(peers):
            assert time.monotonic() < deadline, "they are still listened to"
            for number, peer in enumerate(peers):
                try:
                    peer.socket.sendall((raw if number < 2 else long_info)[at:at + 1])
                except OSError:
                    gone.add(number)
            at += 1
            # The slow one's own pace.
            threading.Event().wait(0.1)
        for peer in peers:
            peer.close()


@check
def who_connects_again_and_again(_server):
    """Five thousand connections, some with a handshake; descriptors and memory stay where they were."""
    with unnoticed(memory_mib=48) as (ensemble, leader, _):
        descriptors = len(os.listdir(f"/proc/{leader.process.pid}/fd"))
        for number in range(5000):
            port = (leader.election_port, leader.quorum_port)[number % 2]
            with Peer(port) as peer:
                peer.send([b"", handshake(1000 + number), packet(OBSERVERINFO, 0, info(2000 + number)), b"\xff" * 7][number // 2 % 4])
        eventually(lambda: len(os.listdir(f"/proc/{leader.process.pid}/fd")) <= descriptors + 8, 30, "all descriptors are given back")


# --- the quorum port -----------------------------------------------------------------------------------------------------


def learner(leader, number, kind=OBSERVERINFO, zxid=-1, epoch=-1):
    """A learner in sync with the leader, with everything by a snapshot; gives the epoch as well."""
    peer = Peer(leader.quorum_port)
    peer.send(packet(kind, 0, info(number)))
    _, offered, _ = peer.until(LEADERINFO)
    peer.send(packet(ACKEPOCH, zxid, struct.pack(">i", epoch)))
    assert peer.packet()[0] == SNAP
    # The body has no length: its signature ends it.
    tail = b""
    while not tail.endswith(b"\0\0\0\nBenWasHere"):
        tail = tail[-64:] + peer.read(1)
    peer.until(NEWLEADER)
    peer.send(packet(ACK, offered))
    peer.until(UPTODATE)
    peer.send(packet(ACK, offered))
    return peer, offered >> 32


@check
def nonsense_at_the_quorum_port(_server):
    dice = random.Random(11)
    openings = {
        "random bytes": dice.randbytes(5000),
        "HTTP": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "two gigabytes of data": struct.pack(">iqi", FOLLOWERINFO, 0, 0x7FFFFFFF),
        "a negative length": struct.pack(">iqi", FOLLOWERINFO, 0, -2),
        "a short LearnerInfo": packet(FOLLOWERINFO, 0, b"abc"),
        "authinfo without end": struct.pack(">iqii", FOLLOWERINFO, 0, -1, 0x7FFFFFFF),
        "an ACK first": packet(ACK, 1),
        "a REQUEST first": packet(REQUEST, -1, struct.pack(">qii", 1, 1, 1)),
        "LEADERINFO from a learner": packet(LEADERINFO, 1 << 32, struct.pack(">i", 0x10000)),
        "an unknown type": packet(4711, 1),
        "a protocol before epochs": packet(FOLLOWERINFO, 0, info(1, protocol=1)),
        "a newer configuration": packet(FOLLOWERINFO, 0, info(1, version=LONG_MAX)),
        "an epoch behind which there is none": packet(FOLLOWERINFO, 0x7FFFFFFF << 32, info(1)),
        "a negative epoch": packet(OBSERVERINFO, -1 << 63, info(77)),
    }
    says = ["a connection to the quorum port was closed", "of a time before epochs", "is newer than this leader's", "behind which there is none"]
    with unnoticed(says) as (_, leader, follower):
        for member in (leader, follower):
            for what, raw in openings.items():
                with Peer(member.quorum_port) as peer:
                    peer.send(raw).assert_closed(f"{what} at server {member.number}", 30)


@check
def acknowledgements_out_of_nowhere(_server):
    """Behind a sound FOLLOWERINFO: ACKEPOCHs and ACKs that name what was never promised, proposed or sent."""
    def greeted(leader, number, kind):
        peer = Peer(leader.quorum_port)
        peer.send(packet(kind, 0, info(number)))
        return peer, peer.until(LEADERINFO)[1]

    def in_discovery(*raws):
        def play(leader, number, kind):
            peer, _ = greeted(leader, number, kind)
            return peer.send(b"".join(raws))
        return play

    def in_sync(*raws):
        def play(leader, number, kind):
            peer, _ = learner(leader, number, kind)
            return peer.send(b"".join(raws))
        return play

    plays = {
        "ACKEPOCH without data": in_discovery(packet(ACKEPOCH, 0)),
        "ACKEPOCH of epoch -7": in_discovery(packet(ACKEPOCH, 0, struct.pack(">i", -7))),
        "ACKEPOCH of zxid -7": in_discovery(packet(ACKEPOCH, -7, struct.pack(">i", 0))),
        "ACKEPOCH from the future": in_discovery(packet(ACKEPOCH, 0x7FFFFFFF << 32 | 5, struct.pack(">i", 0x7FFFFFFF))),
        "an ACK before the ACKEPOCH": in_discovery(packet(ACK, 1 << 32)),
        "an ACK of a later epoch": in_sync(packet(ACK, 0x7FFF << 32)),
        "an ACK of what was never sent": in_sync(packet(ACK, LONG_MAX)),
        "FOLLOWERINFO again": in_sync(packet(FOLLOWERINFO, 0, info(50))),
        "PROPOSAL from a learner": in_sync(packet(PROPOSAL, 1, b"x") * 3, packet(FOLLOWERINFO, 0, info(50))),
        "half a PING": in_sync(packet(PING, 0, b"1234567")),
        "half a REVALIDATE": in_sync(packet(REVALIDATE, -1, b"1")),
        "half a REQUEST": in_sync(packet(REQUEST, -1, b"123")),
        "REQUEST with a thousand million identities": in_sync(packet(REQUEST, -1, struct.pack(">qii", 1, 1, 1), struct.pack(">i", 10**9))),
        "a packet of 200 MB": in_sync(struct.pack(">iqi", REQUEST, -1, 200 << 20)),
    }
    with unnoticed(["acknowledges", "ACKEPOCH names", "later than"]) as (_, leader, _):
        for number, (what, play) in enumerate(plays.items()):
            # As a stranger, and as the observer that is there already.
            for peer_number, kind in ((50 + number, FOLLOWERINFO), (60 + number, OBSERVERINFO), (4, OBSERVERINFO)):
                with play(leader, peer_number, kind) as peer:
                    peer.assert_closed(f"{what} as {peer_number}", 30)


@check
def requests_and_sessions_out_of_nowhere(_server):
    """Requests with sessions, types and bodies that are none: each becomes a txn that says so, in order, and costs nobody else."""
    with unnoticed() as (_, leader, _):
        peer, _ = learner(leader, 70)
        with peer:
            cases = [(op, body) for op in (0, 1, 2, 5, 7, 13, 14, 15, 16, 19, 20, 21, 100, 999, -10, -11, -2**31) for body in (b"", b"\xff" * 40, bytes(100))]
            for cxid, (op, body) in enumerate(cases, 1):
                peer.send(packet(REQUEST, -1, struct.pack(">qii", 0x7777, cxid, op) + body))
            heard = []
            while len(heard) < len(cases):
                kind, _, data = peer.until(INFORM)
                session, cxid = struct.unpack(">qi", data[:12])
                if session == 0x7777:
                    heard.append(cxid)
            # A request to create or close a session bears no number of the client's; all others come in order.
            assert heard == sorted(heard) and len(set(heard)) == len(heard), heard
            peer.send(packet(REVALIDATE, -1, struct.pack(">qi", 0x1234, -5)))
            kind, _, data = peer.until(REVALIDATE)
            assert data == struct.pack(">qb", 0x1234, 0), data
            # Touches of sessions that there are not, and with timeouts that there are not.
            peer.send(packet(PING, 0, b"".join(struct.pack(">qi", number * 7919, random.choice([-1, 0, 2**31 - 1])) for number in range(50_000))))
            peer.send(packet(REVALIDATE, -1, struct.pack(">qi", 0x4321, 1)))
            peer.until(REVALIDATE)


@check
def floods_of_those_who_never_read(_server):
    """REVALIDATEs, REQUESTs and syncs without end from learners that take no answer: memory is bounded, and they go."""
    revalidate = packet(REVALIDATE, -1, struct.pack(">qi", 5, 5)) * 2000
    sync = packet(REQUEST, -1, struct.pack(">qii", 5, 5, 9) + struct.pack(">i", 1) + b"/") * 2000
    write = packet(REQUEST, -1, struct.pack(">qii", 5, 5, 5) + bytes(60_000)) * 20
    with unnoticed(memory_mib=400) as (_, leader, _):
        for number, portion in enumerate((revalidate, sync, write)):
            peer, _ = learner(leader, 80 + number)
            peer.socket.settimeout(5)
            sent, deadline = 0, time.monotonic() + 8
            try:
                while sent < 300 << 20 and time.monotonic() < deadline:
                    sent += peer.socket.send(portion)
                how = "was let"
            except TimeoutError:
                how = "is not read any more"
            except OSError:
                how = "was cut off"
            print(f"   flood {number}: {sent >> 20} MiB, {how}; the leader has {resident_mib(leader):.0f} MiB, {threads(leader)} threads", flush=True)
            peer.close()


@check
def many_learners_at_once(_server):
    """Two hundred strangers want a snapshot each and take none of it; a true follower that returns is served before them all."""
    with unnoticed(memory_mib=300) as (ensemble, leader, follower):
        other = next(member for member in ensemble.voters if member not in (leader, follower))
        crowd = []
        for number in range(200):
            peer = Peer(leader.quorum_port)
            peer.send(packet(OBSERVERINFO, 0, info(300 + number)) + packet(ACKEPOCH, -1, struct.pack(">i", -1)))
            crowd.append(peer)
        other.kill()
        began = time.monotonic()
        other.start()
        assert other.wait_until_it_serves() == "follower"
        took = time.monotonic() - began
        print(f"   back after {took:.1f} s; the leader has {threads(leader)} threads, {resident_mib(leader):.0f} MiB", flush=True)
        assert took < 10
        assert threads(leader) < 64, f"{threads(leader)} threads"
        for peer in crowd:
            peer.close()


# --- a member that is elected and speaks nonsense -------------------------------------------------------------------------


class FakeLeader:
    """The third member of an ensemble of three: it votes for itself with the most recent history of all and is elected for it.
    Each follower that connects is given the next of `plays`; when there are none left, it falls silent."""

    def __init__(self, ensemble, plays):
        self.member, self.others = ensemble[3], [ensemble[1], ensemble[2]]
        self.plays, self.played, self.failed = list(plays), [], []
        self.lock, self.done = threading.Lock(), threading.Event()
        self.listeners = []
        for port, serve in ((self.member.quorum_port, self._follower), (self.member.election_port, lambda connection: connection.close())):
            listener = socket.create_server((HOST, port))
            self.listeners.append(listener)
            threading.Thread(target=self._accept, args=(listener, serve), daemon=True).start()
        for other in self.others:
            threading.Thread(target=self._vote, args=(other,), daemon=True).start()

    def _accept(self, listener, serve):
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    def _vote(self, other):
        """Answers every vote with a better one of the same round."""
        while not self.done.is_set():
            try:
                with Peer(other.election_port) as peer:
                    peer.socket.settimeout(0.5)
                    peer.send(handshake(3, f"{HOST}:{self.member.election_port}"))
                    while not self.done.is_set():
                        try:
                            length = struct.unpack(">i", peer.read(4))[0]
                        except TimeoutError:
                            continue
                        state, _, _, round_ = struct.unpack(">iqqq", peer.read(length)[:28])
                        if state == LOOKING:
                            peer.send(notification(LOOKING, 3, 0x7FFF << 32, round_, 0x7FFF, b"version=0"))
            except OSError:
                self.done.wait(0.05)

    def _follower(self, connection):
        with self.lock:
            play = self.plays.pop(0) if self.plays else None
            if not self.plays:
                self.done.set()
        if play is None:
            return connection.close()
        with Peer(0, connection) as peer:
            try:
                play(peer)
                peer.assert_closed(play.__name__, 3 * PATIENCE_SECONDS)
            except ConnectionResetError:
                pass
            except Exception as error:
                self.failed.append(f"{play.__name__}: {error!r}")
            self.played.append(play.__name__)

    def end(self):
        self.done.set()
        for listener in self.listeners:
            listener.close()


def offered(peer, ahead=1):
    """LEADERINFO of the next epoch; the epoch, and the follower's zxid."""
    _, accepted, _ = peer.until(FOLLOWERINFO)
    epoch = (accepted >> 32) + ahead
    peer.send(packet(LEADERINFO, epoch << 32, struct.pack(">i", 0x10000)))
    _, zxid, _ = peer.until(ACKEPOCH)
    return epoch, zxid


def established(peer):
    """A follower in sync, as with a true leader."""
    epoch, zxid = offered(peer)
    peer.send(packet(DIFF, zxid) + packet(NEWLEADER, epoch << 32, b"version=0"))
    peer.until(ACK)
    peer.send(packet(UPTODATE))
    peer.until(ACK)
    return epoch << 32, zxid


def plays():
    """Each lets a follower follow as far as it must, and then says what no leader says."""
    def stale_epoch(peer):
        peer.until(FOLLOWERINFO)
        peer.send(packet(LEADERINFO, 0, struct.pack(">i", 0x10000)))

    def negative_epoch(peer):
        peer.until(FOLLOWERINFO)
        peer.send(packet(LEADERINFO, -1 << 63, struct.pack(">i", 0x10000)))

    def nonsense_first(peer):
        peer.until(FOLLOWERINFO)
        peer.send(b"GET / HTTP/1.1\r\n\r\n" * 10)

    def huge_packet(peer):
        peer.until(FOLLOWERINFO)
        peer.send(struct.pack(">iqi", LEADERINFO, 1 << 32, 0x7FFFFFFF))

    def proposal_first(peer):
        epoch, zxid = offered(peer)
        peer.send(packet(PROPOSAL, zxid + 1, entry(zxid + 1)))

    def commit_of_nothing(peer):
        epoch, zxid = offered(peer)
        peer.send(packet(DIFF, zxid) + packet(COMMIT, zxid + 5))

    def a_gap(peer):
        epoch, zxid = offered(peer)
        base = epoch << 32
        peer.send(packet(DIFF, zxid) + packet(PROPOSAL, base + 1, entry(base + 1)) + packet(PROPOSAL, base + 3, entry(base + 3)))

    def an_epoch_of_its_own(peer):
        epoch, zxid = offered(peer)
        peer.send(packet(DIFF, zxid) + packet(PROPOSAL, 0x7FFF << 32 | 1, entry(0x7FFF << 32 | 1)))

    def a_record_of_another_zxid(peer):
        epoch, zxid = offered(peer)
        base = epoch << 32
        peer.send(packet(DIFF, zxid) + packet(PROPOSAL, base + 1, entry(base + 2)))

    def a_record_without_header(peer):
        epoch, zxid = offered(peer)
        peer.send(packet(DIFF, zxid) + packet(PROPOSAL, (epoch << 32) + 1, b"short"))

    def another_epochs_new_leader(peer):
        epoch, zxid = offered(peer)
        peer.send(packet(DIFF, zxid) + packet(NEWLEADER, (epoch + 1) << 32, b"version=0"))

    def up_to_date_too_early(peer):
        epoch, zxid = offered(peer)
        peer.send(packet(DIFF, zxid) + packet(UPTODATE))

    def truncate_to_what_is_not_there(peer):
        epoch, zxid = offered(peer)
        peer.send(packet(TRUNC, zxid + 1000))

    def truncate_to_less_than_nothing(peer):
        offered(peer)
        peer.send(packet(TRUNC, -5))

    def a_snapshot_of_nonsense(peer):
        epoch, zxid = offered(peer)
        peer.send(packet(SNAP, max(zxid, 1)) + random.Random(3).randbytes(100_000))

    def a_snapshot_with_a_thousand_million_sessions(peer):
        epoch, zxid = offered(peer)
        peer.send(packet(SNAP, max(zxid, 1)) + struct.pack(">i", 10**9) + bytes(1000) + struct.pack(">i", -5) + b"\xff" * 1000)

    def a_snapshot_that_breaks_off(peer):
        epoch, zxid = offered(peer)
        peer.send(packet(SNAP, max(zxid, 1)) + struct.pack(">i", 0))
        peer.socket.shutdown(socket.SHUT_WR)

    def a_snapshot_of_a_later_epoch(peer):
        epoch, zxid = offered(peer)
        peer.send(packet(SNAP, 0x7FFF << 32 | 7) + empty_snapshot() + packet(NEWLEADER, epoch << 32, b"version=0"))

    def a_txn_that_cannot_be_read(peer):
        epoch, zxid = offered(peer)
        base = epoch << 32
        peer.send(packet(DIFF, zxid) + packet(PROPOSAL, base + 1, entry(base + 1, b"\xff" * 30)) + packet(COMMIT, base + 1))
        peer.send(packet(NEWLEADER, base, b"version=0") + packet(UPTODATE))

    def a_txn_of_an_unknown_type(peer):
        base, zxid = established(peer)
        peer.send(packet(PROPOSAL, base + 1, entry(base + 1, b"", kind=4711)) + packet(COMMIT, base + 1))

    def answers_to_nobody(peer):
        established(peer)
        peer.send(packet(REVALIDATE, -1, struct.pack(">qb", 0x55, 1)) * 1000 + packet(SYNC, 0) * 1000 + packet(PING, 5) * 1000)
        peer.send(packet(4711, 5) + packet(DIFF, 5))

    def commits_again_and_out_of_turn(peer):
        base, zxid = established(peer)
        peer.send(packet(PROPOSAL, base + 1, entry(base + 1)) + packet(PROPOSAL, base + 2, entry(base + 2)))
        peer.send(packet(COMMIT, base + 1) * 3 + packet(COMMIT, base + 7))

    def silence(peer):
        offered(peer)

    return [play for name, play in locals().items() if name != "play"]


def empty_snapshot():
    """A snapshot's body with the root alone: sessions, ACLs, znodes, their end, the signature."""
    stat = struct.pack(">qqqqiiiqq", 0, 0, 0, 0, 0, 0, 0, 0, 0)
    acls = struct.pack(">iq", 1, 1) + struct.pack(">ii", 1, 31) + b"\0\0\0\5world\0\0\0\6anyone"
    node = struct.pack(">i", 0) + struct.pack(">i", 0) + struct.pack(">q", 1) + stat
    return struct.pack(">i", 0) + acls + node + struct.pack(">i", 1) + b"/" + struct.pack(">i", 10) + b"BenWasHere"


@check
def an_elected_member_that_speaks_nonsense(_server):
    """Two true members elect it again and again, say why they leave it, and in the end serve without it."""
    with Ensemble(["ostler"] * 3, tick_ms=TICK_MS, init_limit=8) as ensemble:
        first, second = ensemble[1], ensemble[2]
        first.start()
        second.start()
        second.wait_until_it_serves()
        first.wait_until_it_serves()
        zk = first.client()
        zk.create("/kept", b"kept")
        zk.stop()
        zk.close()
        first.kill()
        second.kill()
        fake = FakeLeader(ensemble, plays())
        count = len(fake.plays)
        try:
            for member in (first, second):
                member.start()
            eventually(fake.done.is_set, 200, f"all plays have been given; so far {fake.played}")
            eventually(lambda: len(fake.played) == count, 60, f"all plays have ended: {fake.played}")
        finally:
            fake.end()
        for member in (first, second):
            member.wait_until_it_serves()
            assert "panicked" not in member.log()
        assert not fake.failed, fake.failed
        logs = first.log() + second.log()
        for words in ("offers epoch", "but nothing is proposed", "behind", "names another zxid", "sends NEWLEADER", "sends UpToDate", "asks to truncate",
                      "sends Proposal", "later epoch", "cannot be read", "silent for too long"):
            assert words in logs, f"no log says {words!r}:\n{logs[-6000:]}"
        found = assert_equal_trees(ensemble)
        assert found["/kept"][0] == b"kept"
        assert_equal_digests(ensemble)
        for member in (first, second):
            member.kill()
            member.start()
        for member in (first, second):
            member.wait_until_it_serves()
        assert assert_equal_trees(ensemble) == found
        assert resident_mib(first) < 400 and resident_mib(second) < 400


# --- configurations that disagree -----------------------------------------------------------------------------------------


@check
def configurations_that_disagree(_server):
    """One server believes in a fourth voter, for whom it would need a third one to lead: the others serve, and every log says who
    has what."""
    with Ensemble(["ostler"] * 3, tick_ms=TICK_MS) as ensemble:
        ports = free_ports(2)
        ensemble[1].lines = [f"server.9={HOST}:{ports[0]}:{ports[1]}:participant"]
        for member in ensemble.members:
            member.start()
        for member in (ensemble[2], ensemble[3]):
            member.wait_until_it_serves()
            eventually(lambda: "server 1 has a configuration with the voters 1 2 3 9; this server's has 1 2 3" in member.log(), 20,
                       "its log says what server 1 has")
        eventually(lambda: "has a configuration with the voters 1 2 3; this server's has 1 2 3 9" in ensemble[1].log(), 20, "its log says what others have")


@check
def a_configuration_that_names_no_quorum(_server):
    """Observers alone elect nobody: the server says so, names the file and ends."""
    with Ensemble([], ["ostler"], tick_ms=TICK_MS) as ensemble:
        member = ensemble[1]
        member.start()
        assert member.process.wait(20) == 2
        assert "zoo.cfg: observers need servers that vote" in member.log(), member.log()


if __name__ == "__main__":
    harness.main_without_server(__doc__, check_seconds_max=300)
