#!/usr/bin/env python3
"""Clients that mean harm, or know no better: broken frames, lying lengths, half handshakes, readers that never read.

While each of them is at it, a well-behaved session pings, writes and reads, and must never notice. What a broken request
is answered with, or that it closes the connection, is compared with Apache 3.9.5, byte for byte but for zxids and times.
"""

import contextlib
import multiprocessing
import os
import random
import resource
import select
import signal
import socket
import struct
import time

import harness
from harness import check

FRAME_MAX = 0xFFFFF
PING, CLOSE = 11, -11
OPEN_ACL = struct.pack(">ii", 1, 31) + b"\0\0\0\5world\0\0\0\6anyone"
# How long the bystander may wait for one answer on a machine that is busy with other suites.
PATIENCE = 10


def string(text):
    if text is None:
        return b"\xff\xff\xff\xff"
    raw = text if isinstance(text, bytes) else text.encode()
    return struct.pack(">i", len(raw)) + raw


def strings(*texts):
    return struct.pack(">i", len(texts)) + b"".join(map(string, texts))


def frame(body):
    return struct.pack(">i", len(body)) + body


def request(xid, op, record=b""):
    return frame(struct.pack(">ii", xid, op) + record)


def connect_record(session=0, password=bytes(16), timeout=10000, seen=0, protocol=0, read_only=b"\0"):
    return struct.pack(">iqiq", protocol, seen, timeout, session) + string(password) + read_only


def create(path, data=b"x", acl=OPEN_ACL, flags=0):
    return string(path) + string(data) + acl + struct.pack(">i", flags)


def multi(*parts):
    ends = struct.pack(">i?i", -1, True, -1)
    return b"".join(struct.pack(">i?i", op, False, -1) + record for op, record in parts) + ends


# Every operation with a record that is in order.
def records(root):
    flag = b"\0"
    some = root + "/some"
    return {
        "create": (1, create(root + "/c")),
        "delete": (2, string(root + "/c") + struct.pack(">i", -1)),
        "exists": (3, string(some) + flag),
        "getData": (4, string(some) + flag),
        "setData": (5, string(some) + string(b"data") + struct.pack(">i", -1)),
        "getACL": (6, string(some)),
        "setACL": (7, string(some) + OPEN_ACL + struct.pack(">i", -1)),
        "getChildren": (8, string(some) + flag),
        "sync": (9, string(some)),
        "ping": (11, b""),
        "getChildren2": (12, string(some) + flag),
        "check": (13, string(some) + struct.pack(">i", -1)),
        "multi": (14, multi((1, create(root + "/m")), (13, string(some) + struct.pack(">i", -1)),
                            (5, string(some) + string(b"y") + struct.pack(">i", -1)),
                            (2, string(root + "/m") + struct.pack(">i", -1)))),
        "create2": (15, create(root + "/c2")),
        "reconfig": (16, string("") + string("") + string("") + struct.pack(">q", -1)),
        "checkWatches": (17, string(some) + struct.pack(">i", 3)),
        "removeWatches": (18, string(some) + struct.pack(">i", 3)),
        "createContainer": (19, create(root + "/k", flags=4)),
        "deleteContainer": (20, string(root + "/k")),
        "createTTL": (21, create(root + "/t", flags=5) + struct.pack(">q", 60000)),
        "multiRead": (22, multi((4, string(some) + flag), (8, string(some) + flag))),
        "setWatches": (101, struct.pack(">q", 1 << 40) + strings(some) + strings() + strings(some)),
        "setWatches2": (105, struct.pack(">q", 1 << 40) + strings(some) + strings() + strings(some) + strings(some) + strings(some)),
        "addWatch": (106, string(some) + struct.pack(">i", 0)),
        "whoAmI": (107, b""),
        "getEphemerals": (103, string("/")),
        "getAllChildrenNumber": (104, string(some)),
        "auth": (100, struct.pack(">i", 0) + string("digest") + string(b"bob:secret")),
        "sasl": (102, string(b"token")),
    }


class Peer:
    """One connection spoken to in bytes."""

    def __init__(self, server, seconds=PATIENCE):
        self.socket = socket.create_connection((server.host, server.port), timeout=seconds)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""

    def send(self, raw):
        """What the other end closes meanwhile shows when its answers are read."""
        try:
            self.socket.sendall(raw)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def read(self):
        """The next frame, `None` at the end, "silence" when nothing comes."""
        try:
            while len(self.buffer) < 4 or len(self.buffer) < 4 + struct.unpack(">i", self.buffer[:4])[0]:
                part = self.socket.recv(1 << 20)
                if not part:
                    return None
                self.buffer += part
        except (ConnectionResetError, BrokenPipeError):
            return None
        except TimeoutError:
            return "silence"
        end = 4 + struct.unpack(">i", self.buffer[:4])[0]
        body, self.buffer = self.buffer[4:end], self.buffer[end:]
        return body

    def is_open(self):
        """Takes whatever has come, without waiting."""
        try:
            while select.select([self.socket], [], [], 0)[0]:
                if not self.socket.recv(1 << 20):
                    return False
        except ConnectionResetError:
            return False
        return True

    def open(self, **ask):
        self.send(frame(connect_record(**ask)))
        body = self.read()
        assert isinstance(body, bytes), f"no session: {body}"
        _, self.timeout, self.session, length = struct.unpack(">iiqi", body[:20])
        self.password = body[20:20 + length]
        return self

    def call(self, xid, op, record=b""):
        self.send(request(xid, op, record))
        body = self.read()
        assert isinstance(body, bytes), f"{op} got {body}"
        got, zxid, error = struct.unpack(">iqi", body[:16])
        assert got == xid, f"{op}: xid {got} instead of {xid}"
        return error, body[16:], zxid

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def outcome(server, raw):
    """What a session hears for these bytes and a ping behind them: replies as (xid, error, bytes of body), then whether
    the connection is open, closed or silent."""
    with Peer(server) as peer:
        peer.open()
        peer.send(raw + request(-2, PING))
        heard = []
        while True:
            body = peer.read()
            if body is None or body == "silence":
                return heard + ["closed" if body is None else body]
            xid, _, error = struct.unpack(">iqi", body[:16])
            if xid != -2 or error != 0:
                heard.append((xid, error, len(body) - 16))
            elif not any(error in (-6, -115, -124) for _, error, _ in heard):
                peer.send(request(1 << 20, CLOSE))
                return heard + ["open"]
            # Else it is going to close, and the ping was answered meanwhile.


def opening(server, raw, fin=False):
    """What a connection hears that begins with these bytes: "session", "refused", text, or how it ends."""
    with Peer(server, seconds=PATIENCE) as peer:
        peer.send(raw)
        if fin:
            try:
                peer.socket.shutdown(socket.SHUT_WR)
            except OSError:
                pass
        body = peer.read()
        if not isinstance(body, bytes):
            return "closed" if body is None else body
        _, timeout, session = struct.unpack(">iiq", body[:16])
        return ("session", timeout, len(body)) if session else ("refused", timeout, len(body), peer.read())


_apache = None


def apache():
    """Started for the first comparison."""
    global _apache
    if _apache is None:
        _apache = harness.Server("apache", lines=LINES)
        harness.at_end(_apache.end)
        prepare(_apache)
    return _apache


def prepare(server):
    with Peer(server) as peer:
        peer.open()
        for xid, path in enumerate(["/hostile", "/hostile/some"], 1):
            assert peer.call(xid, 1, create(path))[0] in (0, -110)
        peer.send(request(9, CLOSE))


def compare(server, cases, hear=outcome, differing=()):
    """Plays every case to both; only those named in `differing` may be answered otherwise."""
    prepare(server)
    wrong = []
    for name, raw in cases:
        ours, theirs = hear(server, raw), hear(apache(), raw)
        if ours != theirs and name not in differing:
            wrong.append(f"{name}: {ours}, Apache: {theirs}")
        assert "silence" not in ours or ours == theirs, f"{name}: {ours}"
    assert not wrong, f"{len(wrong)} of {len(cases)} differ: " + "; ".join(wrong[:12])


class Bystander:
    """A session that does what sessions do, all the while; in a process of its own, so that only the server can slow it."""

    def __init__(self, server):
        self.server = server
        self.stop, self.done = multiprocessing.Event(), multiprocessing.Value("q", 0)
        # Told of each round and of the end.
        self.news = multiprocessing.Condition()
        self.worst = multiprocessing.Value("d", 0.0)
        self.reason = multiprocessing.SimpleQueue()
        self.process = multiprocessing.Process(target=self.run, daemon=True)

    @property
    def rounds(self):
        return self.done.value

    @property
    def failure(self):
        return None if self.reason.empty() else "disturbed"

    def run(self):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        try:
            with Peer(self.server) as peer:
                self.session(peer.open(timeout=6000))
        except Exception as error:  # told by whoever waits for us
            self.reason.put(repr(error))
            with self.news:
                self.news.notify_all()

    def session(self, peer):
        path = f"/bystander-{peer.session:x}"
        assert peer.call(1, 1, create(path, flags=1))[0] == 0
        last = 0
        while not self.stop.wait(0.005):
            began = time.monotonic()
            data = str(self.rounds).encode()
            assert peer.call(2, 5, string(path) + string(data) + struct.pack(">i", self.rounds))[0] == 0
            error, body, zxid = peer.call(3, 4, string(path) + b"\0")
            assert error == 0 and body[4:4 + len(data)] == data, (error, body)
            assert zxid >= last, f"{zxid:x} after {last:x}"
            last = zxid
            assert peer.call(-2, PING)[0] == 0
            self.worst.value = max(self.worst.value, time.monotonic() - began)
            with self.news:
                self.done.value += 1
                self.news.notify_all()
        assert peer.call(4, CLOSE)[0] == 0

    def await_rounds(self, more):
        """Returns early when it failed, which is told at the end."""
        last = self.rounds + more
        with self.news:
            came = self.news.wait_for(lambda: self.rounds >= last or self.failure, 30)
        assert came, f"{more} rounds of the bystander did not come in 30 s"

    def __enter__(self):
        self.process.start()
        self.await_rounds(3)
        return self

    def __exit__(self, kind, *_):
        self.stop.set()
        self.process.join(3 * PATIENCE)
        waits = self.process.is_alive()
        if waits:
            self.process.kill()
        if kind is None:
            assert self.failure is None, f"the bystander was disturbed in round {self.rounds}: {self.reason.get()}"
            assert not waits, "the bystander waits for ever"
            assert "panicked" not in (self.server.log() if self.server.dir else "")
        print(f"   {self.rounds} rounds beside it, the slowest {self.worst.value * 1000:.0f} ms", flush=True)


def beside(function):
    """The check with a bystander, whose rounds go on behind it."""
    def play(server):
        with Bystander(server) as bystander:
            function(server)
            bystander.await_rounds(3)
    play.__name__ = function.__name__
    return play


def resident_mib(server):
    if server.process is None:
        return 0
    with open(f"/proc/{server.process.pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024


# --- requests ----------------------------------------------------------------------------------------------------------


@check
@beside
def every_request_cut_off_at_every_byte(server):
    cases = []
    for name, (op, record) in records("/hostile").items():
        cases += [(f"{name}[:{cut}]", request(7, op, record[:cut])) for cut in range(len(record))]
    compare(server, cases)


@check
@beside
def headers_cut_off_and_lengths_that_lie(server):
    header = struct.pack(">ii", 7, 4)
    cases = [(f"header[:{cut}]", frame(header[:cut])) for cut in range(8)]
    lengths = [-1, -2, -(1 << 31), 0, FRAME_MAX + 1, 1 << 24, (1 << 31) - 1]
    cases += [(f"length {length}", struct.pack(">i", length)) for length in lengths]
    cases += [("largest frame", request(7, 5, string("/hostile/some") + string(bytes(FRAME_MAX - 8 - 25)) + struct.pack(">i", -1)))]
    compare(server, cases)


@check
@beside
def unknown_operations(server):
    # -10 opens a second session on the same socket in Apache.
    numbers = [-100, -12, -10, -2, -1, 0, 10, 23, 24, 50, 99, 108, 1000, 1 << 30, -(1 << 31), (1 << 31) - 1]
    compare(server, [(f"op {op}", request(7, op, b"\0" * 40)) for op in numbers], differing=["op -10"])


@check
@beside
def strings_and_vectors_that_announce_what_never_comes(server):
    big, path = struct.pack(">i", (1 << 31) - 1), string("/hostile/some")
    cases = []
    for length in [(1 << 31) - 1, FRAME_MAX + 1, 2 * FRAME_MAX + 1, -2, -(1 << 31)]:
        lying = struct.pack(">i", length)
        for name, (op, record) in records("/hostile").items():
            if record:
                at = 4 if name == "auth" else 8 if name.startswith("setWatches") else 9 if name.startswith("multi") else 0
                cases.append((f"{name} first length {length}", request(7, op, record[:at] + lying + record[at + 4:])))
        cases.append((f"create data {length}", request(7, 1, string("/hostile/n") + lying + b"x" + OPEN_ACL + bytes(4))))
        cases.append((f"create acl {length}", request(7, 1, string("/hostile/n") + string(b"") + lying + OPEN_ACL[4:] + bytes(4))))
        cases.append((f"setACL acl {length}", request(7, 7, path + lying + OPEN_ACL[4:] + struct.pack(">i", -1))))
        cases.append((f"setData data {length}", request(7, 5, path + lying + b"x" + struct.pack(">i", -1))))
    cases.append(("setWatches all vectors", request(7, 101, bytes(8) + big * 3)))
    # As a vector of 2^31 - 1 and of 0, these two leave bytes that mean something else.
    clean(server)
    compare(server, cases)


def clean(server):
    for one in (server, apache()):
        with Peer(one) as peer:
            peer.open()
            for name in ["c", "c2", "m", "k", "t", "n"]:
                peer.call(1, 2, string("/hostile/" + name) + struct.pack(">i", -1))
            peer.send(request(9, CLOSE))


@check
@beside
def null_paths_null_lists_and_odd_text(server):
    clean(server)
    null, cases = string(None), []
    for name, (op, record) in records("/hostile").items():
        if record and name not in ("auth", "sasl", "reconfig", "setWatches", "setWatches2", "multi", "multiRead"):
            at = 4 + struct.unpack(">i", record[:4])[0]
            for kind, text in [("null", None), ("empty", b""), ("bad", b"/\xff\xfe"), ("nul", b"/a\0b"), ("surrogate", b"/\xed\xa0\x80"),
                               ("emoji", "/\U0001f600".encode()), ("no slash", b"abc"), ("long", b"/" + b"l" * 5000), ("dots", b"/../x")]:
                cases.append((f"{name} {kind}", request(7, op, string(text) + record[at:])))
    for flags in [-1, 7, 1 << 30]:
        cases.append((f"flags {flags}", request(7, 1, create("/hostile/n", flags=flags))))
    for name, acl in [("null", null), ("empty", bytes(4)), ("null scheme", struct.pack(">ii", 1, 31) + null + string("anyone")),
                      ("null id", struct.pack(">ii", 1, 31) + string("world") + null), ("minus two", struct.pack(">i", -2)),
                      ("odd scheme", struct.pack(">ii", 1, 31) + string(b"\xff") + string(b"\xff"))]:
        cases.append((f"create acl {name}", request(7, 1, create("/hostile/n", acl=acl))))
        cases.append((f"setACL acl {name}", request(7, 7, string("/hostile/some") + acl + struct.pack(">i", -1))))
        cases.append((f"multi create acl {name}", request(7, 14, multi((1, create("/hostile/n", acl=acl))))))
    for name, scheme, packet in [("null scheme", None, b"x"), ("null packet", "digest", None), ("unknown", "nobody", b"x"),
                                 ("binary", "digest", bytes(range(256))), ("world", "world", b"anyone"), ("super", "super", b"")]:
        cases.append((f"auth {name}", request(7, 100, bytes(4) + string(scheme) + string(packet))))
    for kind in [0, 6, -1, 1 << 30]:
        cases.append((f"removeWatches {kind}", request(7, 18, string("/hostile") + struct.pack(">i", kind))))
        cases.append((f"addWatch {kind}", request(7, 106, string("/hostile") + struct.pack(">i", kind))))
    # On purpose: see ARCHITECTURE.md, "Differences".
    differing = ["addWatch null", "checkWatches null", "removeWatches null", "getAllChildrenNumber empty"]
    # "" is the root, and the bystander's znode below it is only ours; supplementary characters come back as UTF-8 here,
    # as two surrogates there.
    differing += ["getChildren empty", "getChildren2 empty", "sync emoji"]
    compare(server, cases, differing=differing)
    clean(server)


@check
@beside
def multis_in_multis_and_multis_without_end(server):
    one = (1, create("/hostile/n"))
    end = struct.pack(">i?i", -1, True, -1)
    cases = [
        ("nested", request(7, 14, multi((14, multi(one))))),
        ("nested read", request(7, 22, multi((22, multi((4, string("/hostile") + b"\0")))))),
        ("read in multi", request(7, 14, multi((4, string("/hostile") + b"\0")))),
        ("write in multiRead", request(7, 22, multi(one))),
        ("no end", request(7, 14, multi(one)[:-9])),
        ("end at once", request(7, 14, end)),
        ("end twice", request(7, 14, end + end)),
        ("close inside", request(7, 14, multi((-11, b"")))),
        ("unknown inside", request(7, 14, multi((999, b"")))),
        ("done but not -1", request(7, 14, struct.pack(">i?i", 1, True, -1))),
        ("null path", request(7, 14, multi((2, string(None) + struct.pack(">i", -1))))),
        ("thousands of failing", request(7, 14, multi(*[(2, string("/hostile/none") + struct.pack(">i", -1))] * 20000))),
        ("thousands of checks", request(7, 14, multi(*[(13, string("/hostile") + struct.pack(">i", -1))] * 20000))),
    ]
    # Apache sends half a result list behind the error.
    compare(server, cases, differing=["write in multiRead"])
    clean(server)


# --- the handshake -----------------------------------------------------------------------------------------------------


@check
@beside
def handshakes_cut_off_and_odd(server):
    record = connect_record()
    cases = [(f"connect[:{cut}]", frame(record[:cut])) for cut in range(len(record) + 1)]
    cases += [(f"connect and {more} bytes", frame(record + bytes(more))) for more in (1, 100, 3000)]
    for timeout in [-1, -(1 << 31), 0, 1, (1 << 31) - 1]:
        cases.append((f"timeout {timeout}", frame(connect_record(timeout=timeout))))
    for length in [-2, -(1 << 31), (1 << 31) - 1, 1 << 20]:
        lying = record[:24] + struct.pack(">i", length) + record[28:]
        cases.append((f"password length {length}", frame(lying)))
    for name, password in [("null", None), ("empty", b""), ("short", b"abc"), ("long", bytes(1000))]:
        cases.append((f"password {name}", frame(connect_record(password=password))))
        cases.append((f"password {name} for a session", frame(connect_record(session=0x7700112233445566, password=password))))
    for name, session in [("unknown", 0x0100112233445566), ("negative", -1), ("container", -(1 << 63))]:
        cases.append((f"session {name}", frame(connect_record(session=session))))
    cases += [
        ("seen more", frame(connect_record(seen=(1 << 63) - 1))),
        ("seen less than nothing", frame(connect_record(seen=-1))),
        ("protocol 9", frame(connect_record(protocol=9))),
        ("read only", frame(connect_record(read_only=b"\1"))),
    ]
    compare(server, cases, hear=opening)


@check
@beside
def other_protocols_and_garbage(server):
    hello = bytes.fromhex("16030100c8010000c40303") + bytes(range(200))
    cases = [
        ("http", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("http post", b"POST /x HTTP/1.0\r\n\r\n"),
        ("tls", hello),
        ("ssh", b"SSH-2.0-OpenSSH_9.6\r\n"),
        ("zeros", bytes(4)),
        ("minus one", b"\xff\xff\xff\xff"),
        ("telnet", b"\xff\xf4\xff\xfd\x06"),
        ("no word", b"abcd\n"),
        ("lower", b"RUOK"),
    ]
    compare(server, cases, hear=opening)
    for word in [b"ruok", b"ruokruok", b"ruok\n" * 1000]:
        with Peer(server) as peer:
            peer.send(word)
            try:
                assert peer.socket.recv(4) == b"imok"
            except ConnectionResetError:
                # What is sent behind the word may meet a closed socket; our answer is lost with it, as Apache's is.
                assert len(word) > 4


@check
@beside
def a_wrong_password_disturbs_nobody(server):
    with Peer(server) as owner:
        owner.open()
        for _ in range(50):
            with Peer(server) as thief:
                thief.send(frame(connect_record(session=owner.session, password=b"0123456789abcdef")))
                body = thief.read()
                assert isinstance(body, bytes) and struct.unpack(">q", body[8:16])[0] == 0, body
                assert thief.read() is None
        assert owner.call(-2, PING)[0] == 0


@check
@beside
def thousands_of_half_open_handshakes(server):
    before = resident_mib(server)
    crowd = []
    for number in range(2000):
        peer = Peer(server)
        peer.send([b"", b"\0", b"\0\0\0\x2d", frame(connect_record())[:30], struct.pack(">i", 4000) + b"x"][number % 5])
        crowd.append(peer)
    with Peer(server) as late:
        late.open(timeout=40000)
        assert late.call(-2, PING)[0] == 0
        grown = resident_mib(server) - before
        assert grown < 64, f"{grown:.0f} MiB for 2000 half handshakes"
        # None of them is kept for long: sessionless for two seconds, looked at in rounds.
        deadline = time.monotonic() + 30
        for number, peer in enumerate(crowd):
            peer.socket.settimeout(max(0.001, deadline - time.monotonic()))
            body = peer.read()
            assert body is None, f"half handshake {number}: {body}"
        assert late.call(-2, PING)[0] == 0
    for peer in crowd:
        peer.close()


@check
@beside
def one_byte_at_a_time(server):
    prepare(server)
    with Peer(server) as peer, Peer(server) as other:
        other.open()

        def drip(raw):
            for at in raw:
                peer.send(bytes([at]))
                # The server goes on: what it answers came behind that byte.
                assert other.call(-2, PING)[0] == 0
        drip(frame(connect_record()))
        assert isinstance(peer.read(), bytes)
        for xid in range(1, 4):
            drip(request(xid, 4, string("/hostile/some") + b"\0"))
            body = peer.read()
            assert struct.unpack(">i", body[:4])[0] == xid and struct.unpack(">i", body[12:16])[0] == 0


# --- memory ------------------------------------------------------------------------------------------------------------


@check
@beside
def announced_frames_cost_nothing_until_they_come(server):
    before = resident_mib(server)
    crowd = []
    for _ in range(500):
        peer = Peer(server)
        peer.open()
        peer.send(struct.pack(">i", FRAME_MAX) + struct.pack(">ii", 1, 5) + string("/hostile")[:4])
        crowd.append(peer)
    grown = resident_mib(server) - before
    assert grown < 64, f"{grown:.0f} MiB for 500 announced megabytes"
    for peer in crowd:
        peer.close()


@contextlib.contextmanager
def flood(server, clients, portion, bytes_max):
    """So many clients that never read send a portion again and again, as far as they are let; how much each sent, and
    how many MiB larger the server is for it. They hang up at the end."""
    before = resident_mib(server)
    crowd = [Peer(server).open() for _ in range(clients)]
    for one in crowd:
        one.socket.setblocking(False)
    sent = list(pour([one.socket for one in crowd], portion, bytes_max, 15).values())
    grown = resident_mib(server) - before
    print(f"   {sum(sent) >> 20} MiB of requests taken, {grown:.0f} MiB more resident", flush=True)
    yield sent, grown
    for one in crowd:
        one.close()


def pour(sockets, portion, bytes_max, seconds):
    """Writes as much as the server takes, up to a bound for each; how much that was."""
    sent = dict.fromkeys(sockets, 0)
    deadline = time.monotonic() + seconds
    still = set(sockets)
    while still and time.monotonic() < deadline:
        _, ready, _ = select.select([], list(still), [], 1)
        if not ready:
            break
        for one in ready:
            try:
                sent[one] += one.send(portion)
            except BlockingIOError:
                pass
            except OSError:
                still.discard(one)
            if sent[one] >= bytes_max:
                still.discard(one)
    return sent


@check
@beside
def those_who_never_read(server):
    """Forty clients send a hundred megabytes of requests each, as far as they are let, and take no answer."""
    with Peer(server) as peer:
        peer.open()
        assert peer.call(1, 1, create("/hostile-big", bytes(900_000)))[0] in (0, -110)
        portion = b"".join(request(xid, 4, string("/hostile-big") + b"\0") for xid in range(1, 1000))
        with flood(server, 40, portion, 100 << 20) as (sent, grown):
            assert grown < 40 * 4 + 128, f"{grown:.0f} MiB for 40 clients that never read"
            assert max(sent) < 100 << 20, "nobody stopped the flood"
            assert peer.call(-2, PING)[0] == 0
        assert peer.call(2, 2, string("/hostile-big") + struct.pack(">i", -1))[0] == 0


@check
@beside
def writers_that_never_read(server):
    with Peer(server) as peer:
        peer.open()
        assert peer.call(1, 1, create("/hostile-flood"))[0] in (0, -110)
        write = string("/hostile-flood") + string(bytes(200)) + struct.pack(">i", -1)
        portion = b"".join(request(xid, 5, write) for xid in range(1, 200))
        with flood(server, 10, portion, 20 << 20) as (_, grown):
            assert grown < 512, f"{grown:.0f} MiB"
            assert peer.call(-2, PING)[0] == 0


@check
@beside
def random_bytes_and_broken_requests(server):
    """Whatever the bytes, the server answers or closes; the seed is printed."""
    seed = int(os.environ.get("OSTLER_SEED", "0")) or random.randrange(1 << 32)
    print(f"   seed {seed}", flush=True)
    dice = random.Random(seed)
    prepare(server)
    known = list(records("/hostile").values())
    rounds = 200_000 if os.environ.get("OSTLER_LONG") else 15_000
    peer, orderly = None, Peer(server).open()
    for _ in range(rounds):
        if peer is None:
            peer = Peer(server)
            if dice.random() < 0.8:
                peer.open()
        op, record = dice.choice(known)
        raw = bytearray(request(dice.randrange(1, 100), op, record))
        for _ in range(dice.randrange(6)):
            at = dice.randrange(4 if dice.random() < 0.9 else 0, len(raw))
            match dice.randrange(4):
                case 0:
                    raw[at] = dice.randrange(256)
                case 1:
                    raw[at:at] = dice.randbytes(dice.randrange(8))
                case 2:
                    del raw[at:at + dice.randrange(8)]
                    raw += bytes(max(0, 5 - len(raw)))
                case 3:
                    raw[at:at + 4] = struct.pack(">i", dice.choice([-1, -2, 0, 1, (1 << 31) - 1, -(1 << 31), 65536]))
        if dice.random() < 0.7 and len(raw) > 4:
            raw[:4] = struct.pack(">i", len(raw) - 4)
        peer.send(bytes(raw))
        # The server has come to it when it answers somebody who spoke later; whether it does so is open.
        assert orderly.call(-2, PING)[0] == 0
        if not peer.is_open() or dice.random() < 0.05:
            peer.close()
            peer = None
    orderly.close()


soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536) if hard != resource.RLIM_INFINITY else 65536, hard))
LINES = ["nio.sessionlessCnxnTimeout=2000"]
if __name__ == "__main__":
    harness.main(__doc__, LINES)
