#!/usr/bin/env python3
"""kazoo, unmodified, against the server: every operation it has, every recipe, sessions, restarts."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import harness
from harness import check, eventually, owns_server

import kazoo.exceptions as zk_errors
from kazoo.client import KazooClient, KazooState
from kazoo.protocol.states import EventType
from kazoo.recipe.barrier import Barrier, DoubleBarrier
from kazoo.recipe.cache import TreeCache, TreeEvent
from kazoo.recipe.lease import MultiNonBlockingLease, NonBlockingLease
from kazoo.recipe.watchers import PatientChildrenWatch
from kazoo.security import CREATOR_ALL_ACL, OPEN_ACL_UNSAFE, READ_ACL_UNSAFE, make_acl, make_digest_acl


@contextmanager
def client(server, chroot="", **options):
    zk = KazooClient(hosts=server.address + chroot, **options)
    zk.start(timeout=20)
    try:
        yield zk
    finally:
        zk.stop()
        zk.close()


@contextmanager
def clients(server, count, **options):
    all_of_them = [KazooClient(hosts=server.address, **options) for _ in range(count)]
    for zk in all_of_them:
        zk.start(timeout=20)
    try:
        yield all_of_them
    finally:
        for zk in all_of_them:
            zk.stop()
            zk.close()


def raises(error, call, *args, **options):
    try:
        call(*args, **options)
    except error:
        return
    raise AssertionError(f"{call.__name__}{args} did not raise {error.__name__}")


def in_threads(*functions):
    """Runs them at once; the first exception of any is raised here."""
    problems = []

    def guarded(function):
        try:
            function()
        except Exception as error:  # handed to the caller below
            problems.append(error)

    threads = [threading.Thread(target=guarded, args=(f,), daemon=True) for f in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a thread hangs"
    if problems:
        raise problems[0]


# --- operations -----------------------------------------------------------------------------------------------------


@check
def four_letter_words_and_version(server):
    with client(server) as zk:
        assert zk.server_version() == (3, 9, 5), zk.server_version()
        assert zk.command(b"ruok") == "imok"
        assert zk.command(b"isro") == "rw"
        mode = os.environ.get("OSTLER_IN_ENSEMBLE", "standalone")
        assert f"Mode: {mode}\n" in zk.command(b"srvr"), zk.command(b"srvr")
        assert f"zk_server_state\t{mode}\n" in zk.command(b"mntr"), zk.command(b"mntr")
        assert f"clientPort={server.port}" in zk.command(b"conf")


@check
def create_read_update_delete(server):
    with client(server) as zk:
        assert zk.create("/crud", b"one") == "/crud"
        data, stat = zk.get("/crud")
        assert (data, stat.version, stat.cversion, stat.aversion) == (b"one", 0, 0, 0)
        assert stat.czxid == stat.mzxid == stat.pzxid and stat.ctime == stat.mtime
        assert abs(stat.ctime / 1000 - time.time()) < 60
        after = zk.set("/crud", b"two!")
        assert (after.version, after.data_length) == (1, 4) and after.mzxid > stat.mzxid == after.czxid
        assert zk.set("/crud", b"three", version=1).version == 2
        assert zk.get("/crud")[0] == b"three" and zk.exists("/crud").version == 2
        zk.create("/crud/a", b"")
        zk.create("/crud/b", b"x")
        assert sorted(zk.get_children("/crud")) == ["a", "b"]
        names, parent = zk.get_children("/crud", include_data=True)
        assert sorted(names) == ["a", "b"] and (parent.cversion, parent.numChildren) == (2, 2)
        raises(zk_errors.NotEmptyError, zk.delete, "/crud")
        raises(zk_errors.BadVersionError, zk.delete, "/crud/a", version=7)
        zk.delete("/crud/a", version=0)
        assert zk.exists("/crud").cversion == 3
        zk.delete("/crud", recursive=True)
        assert zk.exists("/crud") is None


@check
def errors_are_the_right_ones(server):
    with client(server) as zk:
        zk.create("/errors")
        raises(zk_errors.NodeExistsError, zk.create, "/errors")
        raises(zk_errors.NoNodeError, zk.create, "/errors/none/child")
        raises(zk_errors.NoNodeError, zk.get, "/errors/none")
        raises(zk_errors.NoNodeError, zk.set, "/errors/none", b"")
        raises(zk_errors.NoNodeError, zk.delete, "/errors/none")
        raises(zk_errors.NoNodeError, zk.get_children, "/errors/none")
        raises(zk_errors.NoNodeError, zk.get_acls, "/errors/none")
        raises(zk_errors.BadVersionError, zk.set, "/errors", b"", version=3)
        raises(zk_errors.BadVersionError, zk.set_acls, "/errors", OPEN_ACL_UNSAFE, version=3)
        zk.create("/errors/ephemeral", ephemeral=True)
        raises(zk_errors.NoChildrenForEphemeralsError, zk.create, "/errors/ephemeral/child")
        raises(zk_errors.InvalidACLError, zk.create, "/errors/acl", acl=[make_acl("none", "x", read=True)])
        raises(zk_errors.BadArgumentsError, zk.delete, "/zookeeper")
        # kazoo normalises paths itself, so odd ones must slip past it as names.
        raises(zk_errors.BadArgumentsError, zk.create, "/errors/\x01bad")
        assert zk.exists("/errors/none") is None


@check
def makepath_and_ensure_path(server):
    with client(server) as zk:
        assert zk.create("/made/by/path", b"x", makepath=True) == "/made/by/path"
        zk.ensure_path("/made/by/path/and/more")
        zk.ensure_path("/made/by/path/and/more")
        assert zk.exists("/made/by/path/and/more")
        zk.delete("/made", recursive=True)


@check
def create_with_stat(server):
    with client(server) as zk:
        path, stat = zk.create("/with-stat", b"abc", include_data=True)
        assert path == "/with-stat" and stat.data_length == 3 and stat == zk.exists("/with-stat")
        path, stat = zk.create("/with-stat/s-", ephemeral=True, sequence=True, include_data=True)
        assert path == "/with-stat/s-0000000000" and stat.ephemeralOwner == zk.client_id[0]


@check
def sequential_names(server):
    with client(server) as zk:
        zk.create("/seq")
        assert zk.create("/seq/a-", sequence=True) == "/seq/a-0000000000"
        zk.create("/seq/plain")
        assert zk.create("/seq/b-", sequence=True) == "/seq/b-0000000002"
        zk.delete("/seq/plain")
        assert zk.create("/seq/", sequence=True) == "/seq/0000000003"
        futures = [zk.create_async("/seq/p-", sequence=True) for _ in range(50)]
        names = [future.get(20) for future in futures]
        assert names == [f"/seq/p-{n:010d}" for n in range(4, 54)]


@check
def data_of_all_sizes(server):
    with client(server) as zk:
        zk.create("/sizes")
        for size in (0, 1, 255, 256, 257, 4095, 4096, 65536, 1_000_000):
            value = bytes((size + i * 7) & 0xFF for i in range(min(size, 4096))) * (size // 4096 + 1)
            value = value[:size]
            path = f"/sizes/{size}"
            zk.create(path, value)
            assert zk.get(path)[0] == value, size
            assert zk.get(path)[1].data_length == size
            zk.set(path, value[::-1])
            assert zk.get(path)[0] == value[::-1], size
        zk.create("/sizes/null", None)
        assert zk.get("/sizes/null")[0] is None
        assert zk.get("/sizes/0")[0] == b""


@check
def names_beyond_ascii(server):
    with client(server) as zk:
        for name in ("ключ", "名前", "café", "a b", "%41", "é" * 100):
            path = zk.create(f"/unicode/{name}", name.encode(), makepath=True)
            assert path == f"/unicode/{name}"
            assert zk.get(path)[0].decode() == name
        assert len(zk.get_children("/unicode")) == 6


@check
def many_children(server):
    with client(server) as zk:
        zk.create("/many")
        futures = [zk.create_async(f"/many/child-{i:05d}", b"x") for i in range(5000)]
        for future in futures:
            future.get(60)
        names = zk.get_children("/many")
        assert sorted(names) == [f"child-{i:05d}" for i in range(5000)]
        for future in [zk.delete_async(f"/many/child-{i:05d}") for i in range(5000)]:
            future.get(60)
        assert zk.get_children("/many") == [] and zk.exists("/many").cversion == 10000


@check
def pipelined_requests_keep_their_order(server):
    with client(server) as zk:
        zk.create("/pipe", b"-1")
        seen = []
        futures = []
        for i in range(500):
            futures.append(zk.set_async("/pipe", str(i).encode()))
            read = zk.get_async("/pipe")
            read.rawlink(lambda future: seen.append(int(future.get_nowait()[0])))
            futures.append(read)
            futures.append(zk.exists_async("/pipe/none"))
        for future in futures:
            future.get(60)
        # The callbacks run on a thread of their own.
        eventually(lambda: len(seen) == 500)
        assert seen == list(range(500)), seen
        assert zk.exists("/pipe").version == 500


@check
def transactions(server):
    with client(server) as zk:
        zk.create("/txn", b"0")
        with zk.transaction() as t:
            t.check("/txn", 0)
            t.create("/txn/a", b"A")
            t.create("/txn/s-", sequence=True)
            t.create("/txn/e", ephemeral=True)
            t.set_data("/txn", b"1", version=0)
            t.delete("/txn/a", version=0)
        assert sorted(zk.get_children("/txn")) == ["e", "s-0000000001"]
        t = zk.transaction()
        t.create("/txn/b")
        t.check("/txn", 99)
        t.set_data("/txn", b"2")
        results = t.commit()
        kinds = [type(result) for result in results]
        assert kinds == [zk_errors.RolledBackError, zk_errors.BadVersionError, zk_errors.RuntimeInconsistency], kinds
        assert zk.exists("/txn/b") is None and zk.get("/txn")[0] == b"1"
        t = zk.transaction()
        created = t.create("/txn/c", b"x") or t.commit()
        assert created == ["/txn/c"]
        one = zk.exists("/txn/c")
        t = zk.transaction()
        t.set_data("/txn/c", b"y")
        t.create("/txn/c/d")
        stat, path = t.commit()
        assert stat.version == 1 and path == "/txn/c/d" and zk.exists("/txn/c/d").czxid == stat.mzxid > one.czxid


@check
def sync_answers(server):
    with client(server) as zk:
        assert zk.sync("/") == "/"
        assert zk.sync("/nowhere/at/all") == "/nowhere/at/all"


@check
def reconfig_is_refused(server):
    with client(server) as zk:
        before = zk.get("/zookeeper/config")[0]
        assert before.startswith(b"server.") if os.environ.get("OSTLER_IN_ENSEMBLE") else before == b""
        raises((zk_errors.ReconfigDisabledError if hasattr(zk_errors, "ReconfigDisabledError") else zk_errors.ZookeeperError),
               zk.reconfig, joining="server.9=localhost:1:2:observer;3", leaving=None, new_members=None)
        assert zk.get("/zookeeper/config")[0] == before
        zk.create("/reconfig-left-the-connection-alone")


@check
def chroot(server):
    with client(server) as zk:
        zk.create("/root/of/some", makepath=True)
        with client(server, "/root/of/some") as inside:
            assert inside.create("/thing", b"x") == "/thing"
            assert inside.create("/s-", sequence=True) == "/s-0000000001"
            assert sorted(inside.get_children("/")) == ["s-0000000001", "thing"]
            events = []
            inside.get("/thing", watch=events.append)
            zk.set("/root/of/some/thing", b"y")
            eventually(lambda: events)
            assert events[0].path == "/thing" and events[0].type == EventType.CHANGED
            with inside.transaction() as t:
                t.create("/in-txn")
            assert inside.exists("/in-txn")
        assert zk.get("/root/of/some/thing")[0] == b"y"


# --- ACL ------------------------------------------------------------------------------------------------------------


@check
def digest_auth(server):
    acl = [make_digest_acl("bob", "secret", all=True)]
    with client(server) as bob, client(server) as eve:
        bob.add_auth("digest", "bob:secret")
        bob.create("/bobs", b"private", acl=acl)
        assert bob.get("/bobs")[0] == b"private"
        raises(zk_errors.NoAuthError, eve.get, "/bobs")
        raises(zk_errors.NoAuthError, eve.set, "/bobs", b"")
        raises(zk_errors.NoAuthError, eve.get_children, "/bobs")
        raises(zk_errors.NoAuthError, eve.create, "/bobs/x")
        raises(zk_errors.NoAuthError, eve.set_acls, "/bobs", OPEN_ACL_UNSAFE)
        raises(zk_errors.NoAuthError, eve.get_acls, "/bobs")
        raises(zk_errors.NoAuthError, eve.exists, "/bobs")
        eve.add_auth("digest", "eve:other")
        raises(zk_errors.NoAuthError, eve.get, "/bobs")
        stat = bob.set_acls("/bobs", acl + READ_ACL_UNSAFE, version=0)
        assert stat.aversion == 1 and stat.version == 0
        assert eve.get("/bobs")[0] == b"private"
        seen = [entry for entry in eve.get_acls("/bobs")[0] if entry.id.scheme == "digest"][0]
        assert seen.id.id == "bob:x", seen
        assert bob.get_acls("/bobs")[0][0].id.id == acl[0].id.id
        eve.add_auth("digest", "bob:secret")
        eve.set("/bobs", b"both are bob")


@check
def auth_given_at_connect(server):
    with client(server, auth_data=[("digest", "carol:pw")], default_acl=CREATOR_ALL_ACL) as zk:
        zk.create("/carols")
        acls, _ = zk.get_acls("/carols")
        assert len(acls) == 1 and acls[0].id.scheme == "digest" and acls[0].id.id.startswith("carol:")
        with client(server) as other:
            raises(zk_errors.NoAuthError, other.get, "/carols")
            raises(zk_errors.InvalidACLError, other.create, "/others", acl=CREATOR_ALL_ACL)


@check
def ip_and_world_acl(server):
    with client(server) as zk:
        zk.create("/by-ip", acl=[make_acl("ip", "127.0.0.0/8", all=True)])
        zk.set("/by-ip", b"x")
        zk.create("/by-other-ip", acl=[make_acl("ip", "10.0.0.0/8", all=True)])
        raises(zk_errors.NoAuthError, zk.set, "/by-other-ip", b"x")
        zk.create("/read-only", b"r", acl=READ_ACL_UNSAFE)
        assert zk.get("/read-only")[0] == b"r"
        raises(zk_errors.NoAuthError, zk.set, "/read-only", b"w")
        raises(zk_errors.NoAuthError, zk.create, "/read-only/child")


@check
def wrong_scheme_fails_authentication(server):
    zk = KazooClient(hosts=server.address)
    zk.start(20)
    raises(zk_errors.AuthFailedError, zk.add_auth, "no-such-scheme", "x")
    zk.stop()
    zk.close()


# --- watches --------------------------------------------------------------------------------------------------------


@check
def plain_watches_fire_once(server):
    with client(server) as zk, client(server) as other:
        zk.create("/w")
        events = []
        zk.get("/w", watch=events.append)
        zk.get_children("/w", watch=events.append)
        zk.exists("/w/child", watch=events.append)
        other.create("/w/child")
        eventually(lambda: len(events) == 2)
        assert {(e.type, e.path) for e in events} == {(EventType.CREATED, "/w/child"), (EventType.CHILD, "/w")}
        other.set("/w", b"1")
        other.set("/w", b"2")
        eventually(lambda: len(events) == 3)
        assert (events[2].type, events[2].path) == (EventType.CHANGED, "/w")
        zk.get("/w/child", watch=events.append)
        other.delete("/w/child")
        eventually(lambda: len(events) == 4)
        assert (events[3].type, events[3].path) == (EventType.DELETED, "/w/child")


@check
def data_watch(server):
    with client(server) as zk, client(server) as other:
        seen = []

        @zk.DataWatch("/dw")
        def changed(data, stat, event):
            seen.append((data, stat and stat.version, event and event.type))

        assert seen == [(None, None, None)]
        other.create("/dw", b"a")
        eventually(lambda: len(seen) == 2)
        other.set("/dw", b"b")
        eventually(lambda: len(seen) == 3)
        other.delete("/dw")
        eventually(lambda: len(seen) == 4)
        assert seen[1:] == [(b"a", 0, EventType.CREATED), (b"b", 1, EventType.CHANGED), (None, None, EventType.DELETED)]
        other.create("/dw", b"again")
        eventually(lambda: len(seen) == 5)


@check
def children_watch(server):
    with client(server) as zk, client(server) as other:
        zk.create("/cw")
        seen = []

        @zk.ChildrenWatch("/cw")
        def changed(children):
            seen.append(sorted(children))
            return len(seen) < 4

        for name in ("a", "b", "c"):
            other.create(f"/cw/{name}")
            eventually(lambda: name in seen[-1])
        assert seen[-1] == ["a", "b", "c"]
        other.delete("/cw/a")
        watch = PatientChildrenWatch(zk, "/cw", time_boundary=0.2)
        children, event = watch.start().get(20)
        assert sorted(children) == ["b", "c"] and not event.ready()
        other.create("/cw/d")
        event.get(20)


@check
def many_watches_one_change(server):
    with client(server) as zk, client(server) as other:
        zk.create("/mw")
        count = 300
        events = []
        for i in range(count):
            zk.create(f"/mw/{i}")
            zk.get(f"/mw/{i}", watch=events.append)
        for i in range(count):
            other.set(f"/mw/{i}", b"x")
        eventually(lambda: len(events) == count)
        assert [event.path for event in events] == [f"/mw/{i}" for i in range(count)]


@check
def tree_cache(server):
    with client(server) as zk, client(server) as other:
        other.create("/tree/a/b", b"deep", makepath=True)
        cache = TreeCache(zk, "/tree")
        events = []
        cache.listen(lambda event: events.append(event))
        cache.start()
        eventually(lambda: any(e.event_type == TreeEvent.INITIALIZED for e in events))
        assert cache.get_data("/tree/a/b").data == b"deep"
        assert cache.get_children("/tree") == frozenset(["a"])
        other.set("/tree/a/b", b"changed")
        eventually(lambda: cache.get_data("/tree/a/b").data == b"changed")
        other.create("/tree/a/c/d", b"x", makepath=True)
        eventually(lambda: cache.get_data("/tree/a/c/d") is not None)
        other.delete("/tree/a", recursive=True)
        eventually(lambda: cache.get_children("/tree") == frozenset())
        cache.close()


# --- recipes --------------------------------------------------------------------------------------------------------


@check
def lock_excludes(server):
    with clients(server, 4) as zks:
        zks[0].create("/lock-data", b"0")
        inside = [0]

        def work(zk):
            for _ in range(10):
                with zk.Lock("/locks/l", str(zk.client_id[0])):
                    inside[0] += 1
                    assert inside[0] == 1, "two hold the lock"
                    value = int(zk.get("/lock-data")[0])
                    zk.set("/lock-data", str(value + 1).encode())
                    inside[0] -= 1

        in_threads(*[lambda zk=zk: work(zk) for zk in zks])
        assert zks[0].get("/lock-data")[0] == b"40"
        assert zks[0].get_children("/locks/l") == []


@check
def lock_contenders_timeout_and_loss(server):
    with clients(server, 3) as (a, b, c):
        first, second = a.Lock("/locks/m", "a"), b.Lock("/locks/m", "b")
        assert first.acquire()
        assert second.contenders() == ["a"]
        raises(zk_errors.LockTimeout, second.acquire, timeout=0.5)
        assert not second.acquire(blocking=False)
        got = threading.Event()
        third = c.Lock("/locks/m", "c")
        thread = threading.Thread(target=lambda: third.acquire() and got.set(), daemon=True)
        thread.start()
        eventually(lambda: first.contenders() == ["a", "c"])
        a.stop()  # its session closes, its ephemeral goes, c is next
        assert got.wait(20)
        third.release()
        a.start(20)


@check
def read_and_write_locks(server):
    with clients(server, 4) as (a, b, c, d):
        one, two = a.ReadLock("/locks/rw", "r1"), b.ReadLock("/locks/rw", "r2")
        assert one.acquire(timeout=10) and two.acquire(timeout=10)
        writer = c.WriteLock("/locks/rw", "w")
        raises(zk_errors.LockTimeout, writer.acquire, timeout=0.3)
        got = threading.Event()
        threading.Thread(target=lambda: writer.acquire() and got.set(), daemon=True).start()
        eventually(lambda: len(a.get_children("/locks/rw")) == 3)
        late = d.ReadLock("/locks/rw", "late")
        raises(zk_errors.LockTimeout, late.acquire, timeout=0.3)
        one.release()
        assert not got.is_set()
        two.release()
        assert got.wait(20)
        writer.release()
        assert late.acquire(timeout=10)
        late.release()


@check
def semaphore(server):
    with clients(server, 3) as (a, b, c):
        sa, sb, sc = (zk.Semaphore("/semaphore", max_leases=2) for zk in (a, b, c))
        assert sa.acquire() and sb.acquire()
        assert not sc.acquire(blocking=False)
        got = threading.Event()
        threading.Thread(target=lambda: sc.acquire() and got.set(), daemon=True).start()
        assert not got.wait(0.3)
        sa.release()
        assert got.wait(20)
        assert len(b.Semaphore("/semaphore", max_leases=2).lease_holders()) == 2
        sb.release()
        sc.release()


@check
def election(server):
    with clients(server, 3) as zks:
        led = []

        def run(zk, number):
            zk.Election("/election", str(number)).run(lambda: led.append(number))

        in_threads(*[lambda zk=zk, n=n: run(zk, n) for n, zk in enumerate(zks)])
        assert sorted(led) == [0, 1, 2]
        assert zks[0].Election("/election").contenders() == []


@check
def barriers(server):
    with clients(server, 3) as (a, b, c):
        barrier = Barrier(a, "/barrier")
        barrier.create()
        assert not Barrier(b, "/barrier").wait(0.2)
        passed = threading.Event()
        threading.Thread(target=lambda: Barrier(b, "/barrier").wait(20) and passed.set(), daemon=True).start()
        barrier.remove()
        assert passed.wait(20)
        inside, most = [], []

        def enter(zk, name):
            double = DoubleBarrier(zk, "/double", 3, name)
            double.enter()
            inside.append(name)
            most.append(len(inside))
            eventually(lambda: len(most) == 3)
            double.leave()

        in_threads(*[lambda zk=zk, n=n: enter(zk, n) for zk, n in ((a, "x"), (b, "y"), (c, "z"))])
        assert sorted(inside) == ["x", "y", "z"]


@check
def parties(server):
    for kind in ("Party", "ShallowParty"):
        with clients(server, 3) as zks:
            members = [getattr(zk, kind)(f"/{kind}", f"member{i}") for i, zk in enumerate(zks)]
            for member in members:
                member.join()
            assert len(members[0]) == 3 and sorted(members[0]) == ["member0", "member1", "member2"]
            members[1].leave()
            assert len(members[0]) == 2
            zks[2].stop()
            eventually(lambda: len(members[0]) == 1)
            zks[2].start(20)


@check
def queues(server):
    with clients(server, 2) as (a, b):
        queue = a.Queue("/queue")
        for value, priority in ((b"late", 200), (b"one", 100), (b"two", 100), (b"first", 1)):
            queue.put(value, priority)
        assert len(queue) == 4
        other = b.Queue("/queue")
        assert [other.get() for _ in range(5)] == [b"first", b"one", b"two", b"late", None]


@check
def locking_queue(server):
    with clients(server, 2) as (a, b):
        queue, other = a.LockingQueue("/locking"), b.LockingQueue("/locking")
        queue.put(b"one")
        queue.put_all([b"two", b"three"], priority=50)
        assert len(queue) == 3
        assert queue.get() == b"two"  # better priority first
        assert other.get() == b"three"
        assert queue.get() == b"two" and queue.holds_lock()
        assert queue.consume() and other.release()
        assert queue.get(timeout=10) == b"three" and queue.consume()
        got = []
        thread = threading.Thread(target=lambda: got.append(other.get(timeout=20)), daemon=True)
        assert queue.get() == b"one"
        thread.start()
        queue.release()
        thread.join(30)
        assert got == [b"one"] and other.consume() and len(queue) == 0


@check
def counters(server):
    with clients(server, 4) as zks:
        counter = zks[0].Counter("/counter")

        def add(zk):
            mine = zk.Counter("/counter")
            for _ in range(25):
                mine += 2

        in_threads(*[lambda zk=zk: add(zk) for zk in zks])
        assert counter.value == 200, counter.value
        counter -= 50
        assert counter.value == 150 and counter.pre_value == 200 and counter.post_value == 150
        real = zks[0].Counter("/counter-float", default=1.5)
        real += 1.0
        assert real.value == 2.5


@check
def leases(server):
    from datetime import timedelta

    with clients(server, 2) as (a, b):
        assert NonBlockingLease(a, "/lease", timedelta(seconds=300), identifier="a")
        assert not NonBlockingLease(b, "/lease", timedelta(seconds=300), identifier="b")
        assert NonBlockingLease(a, "/lease", timedelta(seconds=300), identifier="a")
        held = [bool(MultiNonBlockingLease(b, 2, "/leases", timedelta(seconds=300), identifier=str(i))) for i in range(3)]
        assert held == [True, True, False], held


@check
def set_partitioner(server):
    with clients(server, 2) as (a, b):
        parts = [zk.SetPartitioner("/partition", set=tuple(range(6)), time_boundary=0.3, identifier=str(i))
                 for i, zk in enumerate((a, b))]

        def settled():
            for part in parts:
                if part.release:
                    part.release_set()
                assert not part.failed
            return all(part.acquired for part in parts) and len(list(parts[0])) == 3

        eventually(settled, 40)
        assert sorted(list(parts[0]) + list(parts[1])) == list(range(6))
        for part in parts:
            part.finish()


# --- sessions -------------------------------------------------------------------------------------------------------


@check
def ephemerals_end_with_the_session(server):
    with client(server) as watcher:
        with client(server) as zk:
            zk.create("/eph", ephemeral=True)
            zk.create("/eph-parent")
            names = [zk.create("/eph-parent/n-", ephemeral=True, sequence=True) for _ in range(100)]
            assert watcher.exists("/eph").ephemeralOwner == zk.client_id[0]
            gone = threading.Event()
            watcher.exists("/eph", watch=lambda event: event.type == EventType.DELETED and gone.set())
        assert gone.wait(20)
        assert watcher.get_children("/eph-parent") == [] and len(names) == 100


@check
def session_moves_to_another_connection(server):
    first = KazooClient(hosts=server.address)
    first.start(20)
    first.create("/moves", ephemeral=True)
    session = first.client_id
    # `first` wins its session back as soon as it notices, so either may lose its connection here.
    with client(server, client_id=session) as second:
        assert second.retry(second.exists, "/moves").ephemeralOwner == session[0]
        second.retry(second.set, "/moves", b"still mine")
        first.stop()
    first.close()


@check
def wrong_password_gets_a_new_session(server):
    with client(server) as owner:
        owner.create("/pw", ephemeral=True)
        session, _password = owner.client_id
        lost = threading.Event()
        other = KazooClient(hosts=server.address, client_id=(session, b"x" * 16))
        other.add_listener(lambda state: state == KazooState.LOST and lost.set())
        other.start(20)
        assert other.client_id[0] != session
        other.stop()
        other.close()
        assert owner.exists("/pw").ephemeralOwner == session


@check
def closed_elsewhere_means_expired(server):
    states = []
    with client(server) as zk:
        zk.add_listener(states.append)
        zk.create("/closed-elsewhere", ephemeral=True)
        session = zk.client_id[0]
        with client(server, client_id=zk.client_id):
            pass  # attaches to the same session, then closes it
        eventually(lambda: KazooState.LOST in states)
        eventually(lambda: zk.connected and zk.client_id and zk.client_id[0] != session)
        eventually(lambda: zk.retry(zk.exists, "/closed-elsewhere") is None)


CRASHING = """
import sys
from kazoo.client import KazooClient
zk = KazooClient(hosts=sys.argv[1], timeout=4)
zk.start(20)
zk.create("/crashed", ephemeral=True)
print(zk.client_id[0], flush=True)
sys.stdin.read()
"""


@check
def a_crashed_client_expires(server):
    with client(server) as zk:
        child = subprocess.Popen([sys.executable, "-c", CRASHING, server.address], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        session = int(child.stdout.readline())
        gone = threading.Event()
        stat = zk.exists("/crashed", watch=lambda event: event.type == EventType.DELETED and gone.set())
        assert stat.ephemeralOwner == session
        began = time.monotonic()
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert gone.wait(20), "not expired"
        # Its last ping may have been a third of the timeout earlier; a tick is two seconds.
        lived = time.monotonic() - began
        assert 1.9 <= lived <= 10, lived


@check
def negotiated_timeout_is_clamped(server):
    for asked, granted in ((1.0, 4000), (10.0, 10000), (100.0, 40000)):
        with client(server, timeout=asked) as zk:
            mine = [line for line in zk.command(b"cons").splitlines() if f"sid={zk.client_id[0]:#x}" in line]
            assert f"to={granted}," in mine[0], (asked, mine)


@check
def an_idle_session_stays(server):
    with client(server, timeout=4.0) as zk:
        states = []
        zk.add_listener(states.append)
        zk.create("/idle", ephemeral=True)
        began = time.monotonic()
        # Longer than the timeout and a tick: the pings alone must keep it.
        eventually(lambda: time.monotonic() - began > 7, 30)
        assert states == [] and zk.exists("/idle")


@check
def second_host_is_tried(server):
    dead = "127.0.0.1:1"
    zk = KazooClient(hosts=f"{dead},{server.address}", randomize_hosts=False)
    zk.start(20)
    assert zk.exists("/") is not None
    zk.stop()
    zk.close()


@check
def read_only_clients_are_welcome(server):
    with client(server, read_only=True) as zk:
        zk.create("/from-a-read-only-capable-client")
        assert zk.client_state == "CONNECTED"


# --- restarts -------------------------------------------------------------------------------------------------------


def _restart(server, gently):
    name = "/gentle" if gently else "/hard"
    with client(server, timeout=20.0) as zk:
        zk.create(name, b"kept")
        zk.set(name, b"kept twice")
        zk.create(f"{name}/ephemeral", ephemeral=True)
        for _ in range(100):
            zk.create(f"{name}/s-", b"x", sequence=True)
        zk.create(f"{name}/acl", acl=[make_digest_acl("bob", "secret", all=True), *READ_ACL_UNSAFE])
        zk.delete(f"{name}/s-0000000050")
        before = zk.get(name), zk.get(f"{name}/ephemeral"), zk.get_acls(f"{name}/acl"), sorted(zk.get_children(name))
        session = zk.client_id
        events = []
        zk.get(name, watch=events.append)
        lock = zk.Lock(f"{name}-lock", "me")
        lock.acquire()
        server.restart(gently)
        eventually(lambda: zk.connected, 30)
        after = zk.retry(lambda: (zk.get(name), zk.get(f"{name}/ephemeral"), zk.get_acls(f"{name}/acl"), sorted(zk.get_children(name))))
        assert after == before, (before, after)
        assert zk.client_id == session
        assert lock.contenders() == ["me"]
        lock.release()
        assert zk.create(f"{name}/s-", sequence=True) == f"{name}/s-0000000102"
        zk.set(name, b"changed after the restart")
    with client(server) as zk:
        assert zk.exists(f"{name}/ephemeral") is None
        assert zk.get(name)[0] == b"changed after the restart"


@check
@owns_server
def restart_after_sigterm(server):
    _restart(server, True)


@check
@owns_server
def restart_after_sigkill(server):
    _restart(server, False)


@check
@owns_server
def session_dies_while_the_server_is_down(server):
    child = subprocess.Popen([sys.executable, "-c", CRASHING, server.address], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    child.stdout.readline()
    server.stop()
    child.send_signal(signal.SIGKILL)
    child.wait()
    server.start()
    with client(server) as zk:
        assert zk.exists("/crashed") is not None, "a restarted server gives every session its full timeout"
        eventually(lambda: zk.exists("/crashed") is None, 30)


if __name__ == "__main__":
    harness.main(__doc__)
