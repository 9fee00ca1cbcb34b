#!/usr/bin/env python3
"""Real ensembles of three and five voters, with observers and with Apache's servers among them, while everything fails that
can: processes are killed and paused, the network is cut whole, one way and in rings, slowed down and reset, a disk is wiped.
Some thousand requests of clients that lose sessions and move between servers are judged afterwards as one history (history.py).

Each scenario prints its seed first; OSTLER_SEED plays one again, as far as real processes do, and OSTLER_LONG=1 (or
OSTLER_CHAOS_SECONDS for each scenario) goes on for longer. Times between faults are part of the faults; nothing else sleeps.
"""

import asyncio
import collections
import contextlib
import os
import random
import shutil
import subprocess
import threading
import time

import harness
from ensemble import STAT_FIELDS, Ensemble, Writers, assert_equal_digests, assert_equal_trees, assert_holds
from harness import check, eventually
from history import History, Judge
from kazoo.client import KazooClient
from kazoo.security import OPEN_ACL_UNSAFE, make_acl, make_digest_acl
from sessions import BAD_VERSION, CLOSE, CONTAINER, CREATE_CONTAINER, CREATE_TTL, DATA_CHANGED, GET, SET, SYNC, TTL, Client, Request, Session, Stat, Watch
from workload import Load, prepare

A, O = "apache", os.environ.get("OSTLER_IS", "ostler")
LONG = bool(os.environ.get("OSTLER_LONG"))
TICK_MS, INIT_LIMIT, SYNC_LIMIT = 250, 20, 8
SILENCE_SECONDS = TICK_MS * SYNC_LIMIT / 1000
# From the end of all faults to an ensemble in which every server serves. Elections, a quarter of a minute for a
# connection that hangs, Java's start on a busy machine.
HEALING_SECONDS_MAX = 45


def seconds(short, long=900):
    return float(os.environ.get("OSTLER_CHAOS_SECONDS") or (long if LONG else short))


class Nemesis:
    """Breaks an ensemble in every way and mends it again. One fault, or two that overlap, and then peace until all is well."""

    def __init__(self, ensemble, chance, history):
        self.ensemble, self.chance, self.history = ensemble, chance, history
        self.counts = collections.Counter()
        self.pause_between = threading.Event()
        self.faults = [self.kill_one, self.kill_leader, self.kill_leader, self.kill_most, self.kill_all, self.terminate, self.pause_leader,
                       self.pause_leader, self.pause_one, self.pause_most, self.cut_off_leader, self.cut_off_one, self.mute_leader, self.deafen_leader,
                       self.mute_one, self.halves, self.bridge, self.ring, self.slow, self.slow_leader, self.reset, self.kill_while_it_syncs,
                       self.flicker]
        self.faults += [self.wipe_follower, self.wipe_and_flicker]

    @property
    def numbers(self):
        return [member.number for member in self.ensemble.members]

    def hold(self, least, most):
        """For as long as the fault shall last."""
        self.pause_between.wait(self.chance.uniform(least, most))

    def leader(self):
        leaders = [member for member in self.ensemble.members if member.is_running() and self.mode(member) == "leader"]
        return self.chance.choice(leaders) if leaders else self.chance.choice(self.ensemble.voters)

    @staticmethod
    def mode(member):
        return member.mode() if member.is_running() else None

    def some(self, count=1):
        return self.chance.sample(self.ensemble.members, count)

    def most(self):
        voters = self.ensemble.voters
        return self.chance.sample(voters, len(voters) // 2 + 1)

    def restart(self, members):
        for member in members:
            if not member.is_running():
                member.start()

    def strike(self):
        fault = self.chance.choice(self.faults)
        self.counts[fault.__name__] += 1
        began = time.monotonic()
        fault()
        self.mend()
        self.history.faults.append((began, time.monotonic()))

    def mend(self):
        self.ensemble.network.heal()
        for member in self.ensemble.members:
            if member.is_running():
                member.resume()
        self.restart(self.ensemble.members)
        for member in self.ensemble.members:
            member.wait_until_it_serves(HEALING_SECONDS_MAX)

    # Processes.

    def kill_one(self):
        [member] = self.some()
        member.kill()
        self.hold(0, 3)

    def kill_leader(self):
        self.leader().kill()
        self.hold(0, 2)

    def kill_most(self):
        for member in self.most():
            member.kill()
        self.hold(0, 3)

    def kill_all(self):
        members = self.some(len(self.ensemble.members))
        for member in members:
            member.kill()
        self.restart(members)

    def terminate(self):
        members = self.some(self.chance.choice([1, 1, len(self.ensemble.members)]))
        for member in members:
            member.process.terminate()
        for member in members:
            member.process.wait(30)
        self.hold(0, 1)

    def flicker(self):
        """Killed again as soon as it is back, whatever it is doing then."""
        [member] = self.some()
        for _ in range(4):
            member.kill()
            member.start()
            self.hold(0.02, 0.4)

    def kill_while_it_syncs(self):
        """Behind by some hundred txns, and killed when it has just begun to learn them; then the leader as well."""
        leader = self.leader()
        member = self.chance.choice([member for member in self.ensemble.members if member is not leader])
        member.kill()
        self.hold(1, 2)
        member.start()
        self.hold(0, 0.2)
        (member if self.chance.random() < 0.5 else leader).kill()
        self.hold(0, 0.5)

    def pause_leader(self):
        """It does not know how long it was away; the others have elected another by then, or have not."""
        leader = self.leader()
        leader.pause()
        self.hold(0.3, 3 * SILENCE_SECONDS)
        leader.resume()
        self.hold(0, 0.5)

    def pause_one(self):
        [member] = self.some()
        member.pause()
        self.hold(0.3, 3 * SILENCE_SECONDS)
        if self.chance.random() < 0.3:
            member.kill()

    def pause_most(self):
        members = self.most()
        for member in members:
            member.pause()
        self.hold(0.3, 2 * SILENCE_SECONDS)
        for member in members:
            member.resume()
            self.hold(0, 0.3)

    def wipe_follower(self):
        """Its disk is replaced by an empty one. That is safe only while all others are well."""
        leader = self.leader()
        self.wiped = member = self.chance.choice([member for member in self.ensemble.members if member is not leader])
        member.kill()
        shutil.rmtree(os.path.join(member.dir, "data", "version-2"), ignore_errors=True)
        member.start()

    def wipe_and_flicker(self):
        """As above, and killed again and again on its way back: while a snapshot comes, just behind it, before its first txn."""
        self.wipe_follower()
        member = self.wiped
        for _ in range(4):
            self.hold(0, 0.4)
            member.kill()
            member.start()

    # Disks.

    def fill(self, member):
        """Its disk has no room left, until it is mended."""
        filler = os.path.join(member.dir, "data", "filler")
        with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as out:
            while out.write(bytes(1 << 20)):
                pass
        self.hold(1, 2.5 * SILENCE_SECONDS)
        os.unlink(filler)

    def fill_follower(self):
        leader = self.leader()
        self.fill(self.chance.choice([member for member in self.ensemble.members if member is not leader]))

    def fill_leader(self):
        self.fill(self.leader())

    # The network.

    def cut(self, pairs):
        self.ensemble.network.cut(pairs)
        self.hold(0.3, 2.5 * SILENCE_SECONDS)

    def both_ways(self, pairs):
        return [way for one, other in pairs for way in ((one, other), (other, one))]

    def cut_off(self, numbers):
        self.cut(self.both_ways((one, other) for one in numbers for other in self.numbers if other not in numbers))

    def cut_off_leader(self):
        self.cut_off([self.leader().number])

    def cut_off_one(self):
        self.cut_off([self.some()[0].number])

    def halves(self):
        count = self.chance.randrange(1, len(self.numbers))
        self.cut_off(self.chance.sample(self.numbers, count))

    def mute(self, number):
        """It hears all and is not heard."""
        self.cut([(number, other) for other in self.numbers if other != number])

    def mute_leader(self):
        self.mute(self.leader().number)

    def mute_one(self):
        self.mute(self.some()[0].number)

    def deafen_leader(self):
        """It is heard and hears nobody."""
        number = self.leader().number
        self.cut([(other, number) for other in self.numbers if other != number])

    def bridge(self):
        """Two halves that see each other only through one server in the middle."""
        numbers = self.chance.sample(self.numbers, len(self.numbers))
        middle = len(numbers) // 2
        self.cut(self.both_ways((one, other) for one in numbers[:middle] for other in numbers[middle + 1:]))

    def ring(self):
        """Each sees a majority, and none the same one."""
        numbers = self.chance.sample(self.numbers, len(self.numbers))
        count = len(numbers)
        seen = max(1, count // 4)
        pairs = [(numbers[at], numbers[(at + step) % count]) for at in range(count) for step in range(seen + 1, count - seen)]
        self.cut(self.both_ways(pairs))

    def slow(self):
        pairs = [(one, other) for one in self.numbers for other in self.numbers if one != other]
        self.ensemble.network.delay({pair: self.chance.uniform(0, 0.15) for pair in pairs})
        self.hold(0.5, 2 * SILENCE_SECONDS)

    def slow_leader(self):
        number = self.leader().number
        self.ensemble.network.delay({(number, other): 0.3 for other in self.numbers if other != number})
        self.hold(0.5, 2 * SILENCE_SECONDS)

    def reset(self):
        for _ in range(self.chance.randrange(1, 4)):
            self.ensemble.network.reset([self.some()[0].number])
            self.hold(0, 0.3)


def final_tree(ensemble):
    """The tree that all servers show, once the sessions of the load are over."""
    def without_ephemerals():
        return all(member.mntr().get("zk_ephemerals_count") == "0" for member in ensemble.members)
    eventually(without_ephemerals, 30, "what the sessions of the load have left ends with them, at every server")
    found = assert_equal_trees(ensemble)
    assert_equal_digests(ensemble)
    return {path: (entry[0], dict(zip(STAT_FIELDS, entry[1], strict=True))) for path, entry in found.items() if len(entry) == 3}


def new_seed(name):
    seed = int(os.environ.get("OSTLER_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"{name}: seed={seed}", flush=True)
    return seed


def play(name, voters, observers, duration, clients=12, faults=None, calm=100, prepared=None, lines=()):
    """`faults` names those that may come, if not all; `calm` is how many writes are acknowledged between two."""
    seed = new_seed(name)
    chance = random.Random(seed)
    with Ensemble(voters, observers, tick_ms=TICK_MS, init_limit=INIT_LIMIT, sync_limit=SYNC_LIMIT, networked=True, lines=lines) as ensemble:
        if prepared:
            prepared(ensemble)
        ensemble.start()
        prepare(ensemble[1].address)
        load = Load([(member.number, member.client_port) for member in ensemble.members], seed, clients)
        nemesis = Nemesis(ensemble, chance, load.history)
        if faults:
            nemesis.faults = [getattr(nemesis, fault) for fault in faults]
        deadline = time.monotonic() + duration
        try:
            while time.monotonic() < deadline:
                target = load.acknowledged + calm
                eventually(lambda: load.acknowledged >= target, HEALING_SECONDS_MAX, "writes are acknowledged again after all faults were mended")
                nemesis.strike()
        finally:
            print(f"{name}: faults {dict(sorted(nemesis.counts.items()))}", flush=True)
        history = load.stop()
        final = final_tree(ensemble)
        answered = collections.Counter(request.error for request in history.requests)
        print(f"{name}: {len(history.requests)} requests, {history.acknowledged} writes acknowledged, by error {dict(answered)}, "
              f"{len(history.sessions)} sessions, {len(history.watches)} watches, {sum(nemesis.counts.values())} faults", flush=True)
        syncs, epochs = ensemble.network.syncs()
        ways = collections.Counter()
        for (leader, learner, kind), count in syncs.items():
            ways[f"{ensemble[leader].peer} to {ensemble[learner].peer} {kind}"] += count
        print(f"{name}: {len(epochs)} epochs, syncs {dict(sorted(ways.items()))}", flush=True)
        exact = {member.number for member in ensemble.members if member.peer != A}
        Judge(history, final, exact, TICK_MS / 1000, has_barriers=A not in (*voters, *observers)).judge()


class Told:
    """A small history made by hand: two sessions, one znode, two writes, a read."""

    def __init__(self):
        self.history, self.clock = History(), 0.0
        self.one, self.two = (Session(number, b"", 4000) for number in (1, 2))
        self.history.sessions += [self.one, self.two]
        self.first = self.add(self.one, 1, SET, b"a", zxid=11, version=1)
        self.second = self.add(self.two, 1, SET, b"b", zxid=12, version=2)
        self.read = self.add(self.one, 2, GET, None, zxid=12, version=2, data=b"b", seen=12, is_synced=True)
        self.final = {"/r": (b"b", {"version": 2, "mzxid": 12, "czxid": 1, "ephemeralOwner": 0})}

    def add(self, session, number, op, value, zxid, version, data=None, seen=None, is_synced=False):
        request = Request("told", op, "/r", value, -1, is_synced=is_synced)
        request.session, request.number, request.server, request.connection = session, number, 1, 1
        request.invoked, request.completed = self.clock, self.clock + 1
        self.clock += 2
        request.error, request.zxid, request.data = 0, zxid, data
        request.stat = Stat([1, seen or zxid, 0, 0, version, 0, 0, 0, 0, 0, 0])
        self.history.requests.append(request)
        return request

    def broken(self):
        judge = Judge(self.history, self.final, {1}, 0.25)
        try:
            judge.judge()
        except AssertionError:
            pass
        return set(judge.broken)


@check
def the_judge_knows_what_cannot_be(_server):
    def lost(told):
        told.final = {"/r": (b"a", {**told.final["/r"][1], "version": 1, "mzxid": 11})}
        told.history.requests.remove(told.read)

    def stale(told):
        told.read.zxid, told.read.data = 11, b"a"
        told.read.stat.version, told.read.stat.mzxid = 1, 11

    def twice(told):
        told.final = {"/r": (b"b", {**told.final["/r"][1], "version": 3, "mzxid": 13})}

    def turned_around(told):
        told.first.invoked, told.first.completed = told.second.completed + 0.1, told.second.completed + 0.2

    def of_a_later_time(told):
        told.read.data, told.read.stat.version, told.read.stat.mzxid = b"a", 1, 11

    def refused_and_there(told):
        told.first.error = BAD_VERSION
        told.history.requests[0] = told.first
        told.read.stat.version, told.read.data, told.read.stat.mzxid, told.read.zxid, told.read.is_synced = 1, b"a", 11, 11, False

    def missed(told):
        watch = Watch(told.one, "/r", DATA_CHANGED, 11, 1)
        watch.seen = 12
        told.history.watches.append(watch)

    def early(told):
        told.one.last_heard, told.one.over_at = 10.0, 12.0

    def out_of_turn(told):
        told.second.session, told.second.number = told.one, 0

    expected = {lost: "acknowledged and lost", stale: "real time", twice: "applied twice", turned_around: "real time", of_a_later_time: "read at its zxid",
                refused_and_there: "a refused write took effect", missed: "a watch missed", early: "expired too early", out_of_turn: "order of a session"}
    assert Told().broken() == set(), Told().broken()
    for spoil, rule in expected.items():
        told = Told()
        spoil(told)
        assert rule in told.broken(), f"{spoil.__name__}: {told.broken()}"


@check
def three_voters(_server):
    play("three voters", [O] * 3, [], seconds(14))


@check
def five_voters_and_an_observer(_server):
    play("five voters and an observer", [O] * 5, [O], seconds(14), clients=18)


@check
def among_apaches_servers(_server):
    play("among Apache's servers", [O, A, O], [A, O], seconds(16))


@check
def kills_under_load(_server):
    """Nothing but kills, one after the other, with hardly a breath between them."""
    play("kills under load", [O] * 3, [], seconds(10), faults=["kill_one", "kill_leader", "kill_leader", "kill_most", "kill_all", "flicker"], calm=20)


class SmallDisks:
    """A small file system of its own for each server's data; needs the right to mount."""

    def __init__(self, ensemble):
        self.paths = [os.path.join(member.dir, "data") for member in ensemble.members]
        for member, path in zip(ensemble.members, self.paths, strict=True):
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", path], check=True)
            with open(os.path.join(path, "myid"), "w") as out:
                out.write(f"{member.number}\n")

    def end(self):
        for path in self.paths:
            subprocess.run(["umount", "-l", path], check=False)


@check
def full_disks(_server):
    """The disk of a follower, or of the leader, is full for a while: the others go on, nothing acknowledged is lost, and
    with room again all is well by itself."""
    if os.geteuid() != 0:
        print("   skipped: mounting a small disk needs root", flush=True)
        return
    disks = []
    try:
        play("full disks", [O] * 3, [], seconds(10, 300), faults=["fill_follower", "fill_leader", "fill_leader"], lines=["preAllocSize=4096", "autopurge.purgeInterval=1"],
             prepared=lambda ensemble: disks.append(SmallDisks(ensemble)))
    finally:
        for each in disks:
            each.end()


@check
def a_whole_ensemble_returns_with_one_disk_replaced(_server):
    with Ensemble([O] * 3, tick_ms=TICK_MS) as ensemble:
        ensemble.start()
        writers = Writers(ensemble.addresses)
        for number in (1, 2, 3):
            writers.progress(200)
            acknowledged = list(writers.stop())
            before = assert_equal_trees(ensemble)
            for member in ensemble.members:
                member.kill()
            shutil.rmtree(os.path.join(ensemble[number].dir, "data", "version-2"))
            for member in ensemble.members:
                member.start()
            ensemble.wait_until_all_serve()
            # By now the writers' sessions may be over, and nothing else has changed.
            found = assert_equal_trees(ensemble)
            assert {path for path in before if path.startswith("/load")} == {path for path in found if path.startswith("/load")}
            assert_holds(found, acknowledged)
            writers = Writers(ensemble.addresses, root=f"/load{number}")
        writers.stop()


@check
def a_paused_leader_neither_acknowledges_nor_serves_what_is_stale(_server):
    """Its clients' requests wait in its sockets while it is paused and another is elected; it answers none of them as if it led."""
    new_seed("a paused leader")
    for most_paused in (False, True):
        with Ensemble([O] * 3, tick_ms=TICK_MS, sync_limit=SYNC_LIMIT, init_limit=INIT_LIMIT) as ensemble:
            ensemble.start()
            prepare(ensemble[1].address)
            history = asyncio.run(around_a_pause(ensemble, most_paused))
            ensemble.wait_until_all_serve()
            Judge(history, final_tree(ensemble), {1, 2, 3}, TICK_MS / 1000).judge()


async def around_a_pause(ensemble, is_cut_in_between):
    history, leader = History(), await asyncio.to_thread(ensemble.leader)
    others = [member for member in ensemble.members if member is not leader]
    at_leader = [Client(history, 4000) for _ in range(10)]
    elsewhere = Client(history, 4000)
    for client in at_leader:
        assert await client.connect(leader.number, leader.client_port, 10)
        await client.ask(Request("set", SET, "/r/1", os.urandom(6).hex().encode(), -1), 10)
    leader.pause()
    waiting = []
    for client in at_leader:
        for _ in range(5):
            client.send(Request("sync", SYNC, "/r/0"))
            got = Request("synced get", GET, "/r/0", is_synced=True)
            waiting += [client.send(got), client.send(Request("set", SET, "/r/2", os.urandom(6).hex().encode(), -1))]
    await asyncio.to_thread(eventually, lambda: any(member.mode() == "leader" for member in others), 30, "the others have a leader")
    assert await elsewhere.connect(others[0].number, others[0].client_port, 10)
    for _ in range(20):
        assert (await elsewhere.ask(Request("set", SET, "/r/0", os.urandom(6).hex().encode(), -1), 10)).error == 0
    leader.resume()
    if is_cut_in_between:
        # What it has read by then it may not answer later either.
        for member in others:
            member.pause()
        await asyncio.sleep(1)
        for member in others:
            member.resume()
    done, pending = await asyncio.wait(waiting, timeout=30)
    assert not pending, f"{len(pending)} requests are neither answered nor given up by the old leader"
    for client in (*at_leader, elsewhere):
        client.abandon_session()
    return history


@check
def a_rich_tree_travels_by_snapshot(_server):
    """Between Ostler and Apache and back: sessions, ephemerals, ACLs of all kinds, containers, TTLs, empty and very large data."""
    with Ensemble([A, A, O], lines=["extendedTypesEnabled=true"]) as ensemble:
        for member in (ensemble[1], ensemble[2], ensemble[3]):
            member.start()
        ensemble.wait_until_all_serve()
        clients = [KazooClient(ensemble.addresses, timeout=10) for _ in range(60)]
        for zk in clients:
            zk.start(30)
        first = clients[0]
        for root in ("/acl", "/big", "/e", "/odd"):
            first.create(root)
        for number, zk in enumerate(clients):
            for count in range(5):
                zk.create(f"/e/{number}-{count}", bytes(count), ephemeral=True)
        for number in range(300):
            acl = [make_digest_acl(f"user{number}", "secret", read=True, write=number % 2 == 0), make_acl("ip", f"10.0.{number % 256}.0/24", all=True)]
            first.create(f"/acl/{number}", b"x", acl=[*acl[:1 + number % 2], *OPEN_ACL_UNSAFE])
        for number in range(6):
            first.create(f"/big/{number}", os.urandom(900_000))
        first.create("/odd/empty", b"")
        first.create("/odd/ünï-✓", "✓".encode())
        for number in range(50):
            first.set("/odd/empty", str(number).encode())
        asyncio.run(make_rare_kinds(ensemble[3]))
        for number, from_peer in ((1, A), (3, O)):
            # The one that returns empty takes everything from whoever leads; both peers lead once.
            for member in ensemble.members:
                member.kill()
            ensemble.start_led_by(3 if from_peer == O else 2)
            member = ensemble[1] if from_peer == O else ensemble[3]
            member.kill()
            shutil.rmtree(os.path.join(member.dir, "data", "version-2"))
            member.start()
            member.wait_until_it_serves()
            found = assert_equal_trees(ensemble)
            assert len([path for path in found if path.startswith("/e/")]) == 300
            assert len([path for path in found if path.startswith("/odd/")]) == 22, sorted(path for path in found if path.startswith("/odd/"))
        for zk in clients:
            zk.stop()
            zk.close()


async def make_rare_kinds(member):
    client = Client(History(), 4000)
    assert await client.connect(member.number, member.client_port, 10)
    for number in range(10):
        for kind, op, flags in (("container", CREATE_CONTAINER, CONTAINER), ("ttl", CREATE_TTL, TTL)):
            made = await client.ask(Request(kind, op, f"/odd/{kind}-{number}", b"x", flags), 10)
            assert made.error == 0, made
    await client.ask(Request("close", CLOSE, None), 10)
    client.disconnect()


if __name__ == "__main__":
    harness.main_without_server(__doc__, check_seconds_max=7000 if LONG else 300)
