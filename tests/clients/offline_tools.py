#!/usr/bin/env python3
"""Ostler's offline tools beside Apache's on the same files: the same text, the same files written and removed.

Files come from a running Apache server, and from here: one txn of every type with everything odd in it, a snapshot with
thousands of siblings. Prints "ok NAME" or "FAIL NAME: why" for each check; non-zero when any failed.
"""

import difflib
import gzip
import os
import random
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib

import harness
from kazoo.client import KazooClient
from kazoo.security import ACL, Id, make_digest_acl
from kazoo.exceptions import KazooException

OSTLER = os.environ.get("OSTLER_BIN") or os.path.join(harness.TESTS, "..", "target", "release", "ostler")
SERVER = "org.apache.zookeeper.server."
TOOLKIT = SERVER + "persistence.TxnLogToolkit"
SECONDS_MAX = 60


class Run:
    """One tool's run: its exit code and what it printed, without what differs between any two runs."""

    def __init__(self, command, given=b""):
        done = subprocess.run(command, input=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=SECONDS_MAX)
        self.code, self.errors = done.returncode, done.stderr.decode(errors="replace")
        text = done.stdout.decode(errors="replace")
        text = re.sub(r"in \d+\.\d+ seconds", "in T seconds", text)
        text = re.sub(r'"timestamp":\d+', '"timestamp":T', text)
        # Java's own last words on a non-zero exit.
        self.text = re.sub(r".* main ERROR Exiting JVM with code \d+\n", "", text)


def apache(tool, *args, given=b""):
    return Run(harness.java(tool, *map(str, args)), given)


def ostler(*args, given=b""):
    return Run([OSTLER, *map(str, args)], given)


def same(theirs, ours, codes=True):
    if theirs.text != ours.text:
        lines = difflib.unified_diff(theirs.text.split("\n"), ours.text.split("\n"), "apache", "ostler", n=1, lineterm="")
        raise AssertionError("\n".join(list(lines)[:30]) + "\n" + ours.errors[:500])
    assert not codes or theirs.code == ours.code, f"exit {theirs.code} and {ours.code}: {ours.errors[:500]}"


# --- bytes -----------------------------------------------------------------------------------------------------------

def text(value):
    if value is None:
        return struct.pack(">i", -1)
    data = value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")
    return struct.pack(">i", len(data)) + data


def vector(values):
    return struct.pack(">i", len(values)) + b"".join(values)


def acl(*entries):
    return vector([struct.pack(">i", perms) + text(scheme) + text(who) for perms, scheme, who in entries])


OPEN = acl((31, "world", "anyone"))
ODD_ACL = acl((1, "digest", "a,b}c%d\ne\r:x="), (-7, "ip", ""), (31, "x509", "CN=ü"))


def create(path, data=b"d", acl=OPEN, ephemeral=False, cversion=1):
    return text(path) + text(data) + acl + struct.pack(">?i", ephemeral, cversion)


def log_file(txns, digests=True, start=0x100000001):
    """Apache's log of (type, body) in this order."""
    out = [b"ZKLG" + struct.pack(">iq", 2, 0)]
    for number, (kind, body) in enumerate(txns):
        header = struct.pack(">qiqqi", 0x100000000000000 + number, number - 2, start + number, 1795262493148 + number * 3_600_000, kind)
        entry = header + body + (struct.pack(">iq", 2, number * 77) if digests and kind != -1 else b"")
        out.append(struct.pack(">qi", zlib.adler32(entry), len(entry)) + entry + b"B")
    return b"".join(out)


def every_txn():
    subs = [(1, create("/m", b"1,\xff\x00")), (5, text("/m") + text(b"\xc3\xbc") + struct.pack(">i", 3)), (2, text("/m")),
            (13, text("/m") + struct.pack(">i", 4)), (15, create("/m2")), (19, text("/mc") + text(b"") + OPEN + struct.pack(">i", 2)),
            (21, text("/mt") + text(None) + OPEN + struct.pack(">iq", 2, 9)), (20, text("/mc")), (-1, struct.pack(">i", -2))]
    return [
        (-10, struct.pack(">i", 30000)),
        (1, create("/plain")),
        (1, create("/null", None)),
        (1, create("/odd", "ä,b\n]}\t\0ü€".encode() + b"\xff\xfe\xe2\x82", ODD_ACL, True, -1)),
        (1, create("/acls", b"", vector([]))),
        (15, create("/create2", b"two")),
        (19, text("/container") + text(b"c") + OPEN + struct.pack(">i", 7)),
        (21, text("/ttl") + text(b"t") + OPEN + struct.pack(">iq", 8, 60000)),
        (2, text("/od,d}%\n")),
        (20, text("/container")),
        (5, text("/plain") + text(b"new") + struct.pack(">i", 1)),
        (5, text("/plain") + text(None) + struct.pack(">i", 2)),
        (7, text("/pl,ain") + ODD_ACL + struct.pack(">i", 1)),
        (7, text("/plain") + vector([]) + struct.pack(">i", 2)),
        (14, vector([struct.pack(">i", kind) + text(body) for kind, body in subs])),
        (14, vector([])),
        (-1, struct.pack(">i", -110)),
        (16, text("/zookeeper/config") + text(b"server.1=h:1:2:participant;3\nversion=0") + struct.pack(">i", -1)),
        (-11, vector([text("/a,b"), text("/ü")])),
        (-11, vector([])),
        (-11, b""),
    ]


def stat(rng, owner=0):
    longs = [rng.getrandbits(40) for _ in range(2)] + [rng.randrange(1, 4 * 10**12) for _ in range(2)]
    return struct.pack(">qqqqiiiqq", *longs, *(rng.randrange(100) for _ in range(3)), owner, rng.getrandbits(40))


def snapshot_file(nodes, sessions=(), acls=(), zxid=5):
    out = b"ZKSN" + struct.pack(">iq", 2, -1)
    out += vector([struct.pack(">qi", *session) for session in sessions])
    out += vector([struct.pack(">q", key) + value for key, value in acls])
    out += b"".join(text(path) + text(data) + struct.pack(">q", key) + about for path, data, key, about in nodes)
    out += text("/")
    for section in [b"", struct.pack(">qiq", 0, 2, 0), struct.pack(">q", zxid)]:
        out += section
        out += struct.pack(">q", zlib.adler32(out)) + text("/")
    return out


def odd_snapshot():
    rng = random.Random(7)
    # Server ids up to 254, as extended types ask: above, an owner would be a TTL.
    sessions = [((rng.randrange(255) << 56 ^ 1 << 63) - (1 << 63) + rng.getrandbits(56), rng.randrange(60000)) for _ in range(200)]
    nodes = [("", b"", -1, stat(rng)), ("/null", None, -1, stat(rng)), ("/wide", b"w", 1, stat(rng))]
    names = {"".join(rng.choice("abcdeXYZ0189-_.üß€\U0001f600\"\\\t\x01\x1f\x7f") for _ in range(rng.randrange(1, 9))) for _ in range(1500)}
    for number, name in enumerate(sorted(names - {".", ".."}, key=lambda name: zlib.crc32(name.encode()))):
        owner = rng.choice([0, 0, 0, sessions[number % 200][0], -(2**63), -(2**56) + 60000])
        nodes.append((f"/wide/{name}", bytes(rng.randrange(256) for _ in range(rng.randrange(9))), -1, stat(rng, owner)))
    path = ""
    for depth in range(40):
        path += f"/d{depth}"
        nodes.append((path, b"x" * depth, -1, stat(rng)))
        nodes.append((path + "/leaf", b"y", -1, stat(rng)))
    return snapshot_file(nodes, sessions, [(1, OPEN)])


# --- the files -------------------------------------------------------------------------------------------------------

def drive(address):
    """A little of everything, on a running server."""
    client = KazooClient(hosts=address, timeout=30)
    client.start()
    client.create("/a", b"hello")
    client.create("/a/b", b"")
    client.create("/bin", b"\x00\x01bin\xff,x")
    client.create("/e", b"e", ephemeral=True)
    client.create("/seq-", b"s", sequence=True)
    client.create("/acl", b"d", acl=[make_digest_acl("u", "p", read=True, write=True), ACL(31, Id("world", "anyone"))])
    client.set_acls("/acl", [ACL(1, Id("world", "anyone")), ACL(31, Id("ip", "127.0.0.1"))])
    client.set("/a", b"world of data")
    for refused in [lambda: client.set("/a", b"no", version=77), lambda: client.create("/a"), lambda: client.delete("/a")]:
        try:
            refused()
        except KazooException:
            pass
    for last in ["/m1", "/none"]:
        transaction = client.transaction()
        transaction.create("/m1", b"1")
        transaction.set_data("/m1", b"2")
        transaction.check("/a", 1)
        transaction.delete(last)
        transaction.commit()
    for number in range(60):
        client.create(f"/a/n{number}", b"v" * number)
        if number % 3 == 0:
            client.create(f"/a/n{number}/deeper", b"x")
    client.create("/ü", "ünï".encode())
    client.delete("/a/b")
    client.stop()
    client.close()


class Files:
    """What a server of this kind leaves behind, and what is made here."""

    def __init__(self, directory, peer):
        self.directory, self.peer = directory, peer
        os.makedirs(directory)
        # Apache writes a snapshot at each start; Ostler when so many txns came and the log has grown enough.
        server = harness.Server(peer, lines=["snapCount=20"] if peer == "ostler" else [])
        try:
            drive(server.address)
            server.restart()
            server.stop()
            shutil.copytree(os.path.join(server.dir, "version-2"), os.path.join(directory, "version-2"))
        finally:
            server.end()
        self.data = os.path.join(directory, "version-2")
        self.logs = [os.path.join(self.data, name) for name in sorted(os.listdir(self.data)) if name.startswith("log.")]
        snapshots = [name for name in os.listdir(self.data) if name.startswith("snapshot.")]
        self.snapshots = [os.path.join(self.data, name) for name in sorted(snapshots, key=lambda name: int(name[9:], 16))]
        self.odd_log = self.write("log.odd", log_file(every_txn()))
        self.bare_log = self.write("log.bare", log_file(every_txn(), digests=False))
        self.odd_snapshot = self.write("snapshot.5", odd_snapshot())
        few = [("", b"", -1, bytes(60)), ("/a", b"", -1, struct.pack(">qq44x", 7, 8)), ("/b", b"", -1, bytes(60))]
        self.fuzzy = self.write("snapshot.6", snapshot_file(few, zxid=6))
        self.quiet = self.write("snapshot.a", snapshot_file(few, zxid=9))
        self.gzipped = self.write("snapshot.5.gz", gzip.compress(odd_snapshot()))
        self.newest = self.snapshots[-1]
        # One with several creates in it.
        self.log = max(self.logs, key=lambda path: len(re.findall(rb"/a/n\d+\0\0", open(path, "rb").read())))

    def write(self, name, data):
        path = os.path.join(self.directory, name)
        with open(path, "wb") as out:
            out.write(data)
        return path

    def read(self, name):
        with open(os.path.join(self.directory, name), "rb") as file:
            return file.read()

    def damaged_log(self, name):
        """The server's log with the bodies of two txns changed."""
        with open(self.log, "rb") as file:
            data = bytearray(file.read().rstrip(b"\0"))
        found = [match.start() for match in re.finditer(rb"/a/n\d+\0\0", data)]
        for victim in [found[1], found[-2]]:
            data[victim + 3] ^= 4
        return self.write(name, bytes(data))


# --- checks ----------------------------------------------------------------------------------------------------------

CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


@check
def log_dump(files):
    for path in [*files.logs, files.odd_log, files.bare_log]:
        same(apache(TOOLKIT, path), ostler("log", "dump", path))


@check
def log_dump_of_damage(files):
    path = files.damaged_log("log.damaged")
    theirs, ours = apache(TOOLKIT, path), ostler("log", "dump", path)
    same(theirs, ours, codes=False)
    assert ours.code == 3 and ours.text.count("CRC ERROR - ") == 2


@check
def log_dump_of_torn_tails(files):
    whole = files.read("log.odd")
    # A record that lacks just its end byte Apache's tool prints, and then fails; ours does not print it.
    for cut in [16, 17, 27, 40, len(whole) - 2, len(whole) - 30]:
        path = files.write("log.torn", whole[:cut])
        theirs, ours = apache(TOOLKIT, path), ostler("log", "dump", path)
        same(theirs, ours, codes=False)


@check
def log_dump_of_no_log(files):
    for path in [files.newest, os.path.join(files.directory, "none")]:
        assert ostler("log", "dump", path).code == 1


def fixed(files, name, data, *flags, given=b""):
    """Both tools' recovery on a copy each, and the files they wrote."""
    theirs = files.write(f"theirs.{name}", data)
    ours = files.write(f"ours.{name}", data)
    runs = [apache(TOOLKIT, "-r", *flags, theirs, given=given), ostler("log", "recover", *flags, ours, given=given)]
    for run in runs:
        run.text = run.text.replace("theirs.", "").replace("ours.", "")
    return runs, files.read(f"theirs.{name}.fixed"), files.read(f"ours.{name}.fixed")


@check
def log_recover(files):
    with open(files.damaged_log("log.damaged"), "rb") as file:
        damaged = file.read()
    cases = [(("-y",), b"", 0), (("-y", "-v"), b"", 0), ((), b"maybe\nno\nYes\n", 3), ((), b"y\nYES\n", 0), (("-v",), b"n\nn\n", 3)]
    for number, (flags, given, code) in enumerate(cases):
        (theirs, ours), their_file, our_file = fixed(files, f"fix{number}", damaged, *flags, given=given)
        same(theirs, ours, codes=False)
        # Apache pads its file with zeros; ours ends with the last record. Of trailers Apache knows nothing.
        assert files.peer == "ostler" or their_file[:len(our_file)] == our_file and not their_file[len(our_file):].strip(b"\0"), flags
        assert ours.code == code, (flags, ours.code)
    again = ostler("log", "recover", "-y", os.path.join(files.directory, "ours.fix0"))
    assert again.code == 1 and "already exists" in again.errors


@check
def log_recover_abort(files):
    with open(files.damaged_log("log.damaged"), "rb") as file:
        (theirs, ours), their_file, our_file = fixed(files, "abort", file.read(), given=b"abort\n")
    same(theirs, ours)
    assert their_file[:len(our_file)] == our_file


@check
def log_chop(files):
    whole = files.read("log.odd")
    gaps = log_file(every_txn()[:3]) + log_file(every_txn()[3:6], start=0x100000009)[16:]
    gaps += log_file(every_txn()[6:], start=0x200000003)[16:]
    for data, zxid in [(whole, 0x100000005), (whole, 0x100000001), (gaps, 0x10000000a), (gaps, 0x200000004)]:
        for spelled in [str(zxid), hex(zxid)]:
            theirs = files.write("theirs.chop", data)
            ours = files.write("ours.chop", data)
            same(apache(TOOLKIT, "-c", theirs, "-z", spelled), ostler("log", "recover", ours, "--chop", spelled))
            assert files.read(f"theirs.chop.chopped{zxid}") == files.read(f"ours.chop.chopped{zxid}")
    refused = ostler("log", "recover", files.write("ours.chop", whole), "--chop", "0x7")
    assert refused.code == 1 and "there is no txn 0x7" in refused.errors


@check
def log_verify(files):
    sound = ostler("log", "verify", files.directory)
    assert sound.code == 0 and "A server would start (snapshot." in sound.text, sound.text + sound.errors
    damaged = ostler("log", "verify", files.damaged_log("log.damaged"))
    checksum = "Adler-32" if files.peer == "apache" else "CRC32C"
    assert damaged.code == 3 and damaged.text.count(f"{checksum} does not match") == 2, damaged.text
    again = ostler("log", "recover", "-y", os.path.join(files.directory, "log.damaged"))
    assert again.code == 0, again.errors
    repaired = ostler("log", "verify", os.path.join(files.directory, "log.damaged.fixed"))
    assert repaired.code == 0 and "DAMAGED" not in repaired.text, repaired.text
    whole = files.read("log.odd")
    hole = files.write("log.hole", log_file(every_txn()[:4]) + log_file(every_txn()[5:], start=0x100000006)[16:])
    found = ostler("log", "verify", hole)
    assert found.code == 3 and "0x100000006 comes after 0x100000004: txns are missing" in found.text, found.text
    torn = ostler("log", "verify", files.write("log.torn", whole[:-9]))
    assert torn.code == 0 and "the file ends inside a record" in torn.text, torn.text


@check
def snapshot_dump(files):
    for path in [*files.snapshots, files.odd_snapshot, files.gzipped, files.fuzzy, files.quiet]:
        same(apache(SERVER + "SnapshotFormatter", path), ostler("snapshot", "dump", path))
    for path in [files.newest, files.odd_snapshot]:
        same(apache(SERVER + "SnapshotFormatter", "-d", path), ostler("snapshot", "dump", "-d", path))
        for spelling in ["--json", "-json"]:
            same(apache(SERVER + "SnapshotFormatter", "-json", path), ostler("snapshot", "dump", spelling, path))
    both = ("-d", "-json", files.newest)
    assert apache(SERVER + "SnapshotFormatter", *both).code == ostler("snapshot", "dump", *both).code == 2
    assert ostler("snapshot", "dump").code == 2 and ostler("snapshot", "dump", "/none").code == 1


@check
def snapshot_summary(files):
    for path, node, depth in [(files.newest, "/", 0), (files.newest, "/a", 1), (files.newest, "/", 1),
                              (files.odd_snapshot, "/", 0), (files.odd_snapshot, "/d0/d1", 3), (files.odd_snapshot, "/wide", 2)]:
        same(apache(SERVER + "SnapshotRecursiveSummary", path, node, depth), ostler("snapshot", "summary", path, node, depth))
    missing = ostler("snapshot", "summary", files.newest, "/none", 0)
    assert missing.code == 1 and "there is no znode /none" in missing.errors


@check
def snapshot_compare(files):
    pairs = [(files.snapshots[0], files.newest), (files.newest, files.odd_snapshot), (files.odd_snapshot, files.odd_snapshot)]
    for left, right in pairs:
        for flags in [("-b", 5, "-n", 1), ("-b", 0, "-n", 0, "-d"), ("-b", 100000, "-n", 100000)]:
            args = ("-l", left, "-r", right, *flags)
            same(apache(SERVER + "SnapshotComparer", *args), ostler("snapshot", "compare", *args))
    # As many layers as the deeper side has, and then some.
    answers = b"\n2\n/a\nnope\n/nope\n99\n0\n/wide\n" + b"\n" * 60
    args = ("-l", files.newest, "-r", files.odd_snapshot, "-b", 1, "-n", 1, "-i")
    same(apache(SERVER + "SnapshotComparer", *args, given=answers), ostler("snapshot", "compare", *args, given=answers))
    assert ostler("snapshot", "compare", "-l", files.newest).code == 2


@check
def snapshot_verify(files):
    sound = ostler("snapshot", "verify", files.directory)
    seals = "Apache's seals match" if files.peer == "apache" else "Ostler's footer and Apache's seals match"
    assert sound.code == 0 and sound.text.count(seals) == len(files.snapshots), sound.text
    # snapshot.0 records none.
    assert sound.text.count("the tree's digest 0x") == len(files.snapshots) - 1, sound.text
    data = bytearray(files.read("snapshot.5"))
    data[len(data) // 2] ^= 1
    damaged = ostler("snapshot", "verify", files.write("snapshot.7", bytes(data)))
    assert damaged.code == 3 and "at offset" in damaged.text, damaged.text


@check
def purge(files):
    names = ["snapshot.1", "snapshot.2", "snapshot.3", "snapshot.4", "snapshot.5.gz", "snapshot.6", "log.1", "log.2", "log.4",
             "log.5", "log.7", "log.x", "snapshot.3.crc", "acceptedEpoch"]
    left = []
    for owner in ["theirs", "ours"]:
        directory = os.path.join(files.directory, owner, "version-2")
        os.makedirs(directory)
        for name in names:
            source = files.gzipped if name.endswith(".gz") else files.odd_snapshot
            if name.startswith("snapshot") and not name.endswith((".crc", ".4")):
                shutil.copy(source, os.path.join(directory, name))
            else:
                with open(os.path.join(directory, name), "wb") as out:
                    out.write(b"ZKLG\0\0\0\2" + bytes(8))
        root = os.path.dirname(directory)
        run = apache(SERVER + "PurgeTxnLog", root, root, "-n", "3") if owner == "theirs" else ostler("purge", root, root, "-n", 3)
        lines = sorted(re.sub(r".*\t.*/", "", line) for line in run.text.splitlines() if line.startswith("Removing file: "))
        left.append((run.code, lines, sorted(os.listdir(directory))))
    assert left[0] == left[1], left
    assert ostler("purge", files.directory, "-n", 2).code == 1


def main():
    wanted = sys.argv[1:]
    failed = 0
    with tempfile.TemporaryDirectory(prefix="ostler-offline-") as directory:
        for peer in ["apache", "ostler"]:
            files = Files(os.path.join(directory, peer), peer)
            for function in CHECKS:
                name = f"{function.__name__}_{peer}"
                if wanted and function.__name__ not in wanted and name not in wanted:
                    continue
                try:
                    function(files)
                    print(f"ok {name}", flush=True)
                except Exception as error:  # noqa: BLE001: every way to fail is one line and the next check
                    failed += 1
                    print(f"FAIL {name}: {error!r}"[:4000].replace("\\n", "\n"), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
