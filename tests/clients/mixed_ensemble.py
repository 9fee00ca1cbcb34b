#!/usr/bin/env python3
"""Ensembles of Ostler and Apache ZooKeeper 3.9.5 servers together, under load: either leads, either follows or observes,
members are killed, paused and swapped on the same data directories. After each scenario every acknowledged write is at
every server, and all servers show the same tree, byte for byte.

OSTLER_IS=apache plays everything with Apache alone, which shows that the scenarios themselves are right.
"""

import os
import threading

import harness
from ensemble import Ensemble, Writers, assert_equal_digests, assert_equal_trees, assert_holds, tree
from harness import check, eventually
from kazoo.client import KazooClient
from kazoo.exceptions import BadVersionError, NoNodeError

A = "apache"
O = os.environ.get("OSTLER_IS", "ostler")


def finish(ensemble, writers):
    """Ends the load and compares everything with everything."""
    acknowledged = writers.stop()
    found = assert_equal_trees(ensemble)
    assert_holds(found, acknowledged)
    assert_equal_digests(ensemble)
    assert acknowledged


def use(member):
    """What a client does in its life, through this one server."""
    root = f"/use-{member.number}-{os.urandom(4).hex()}"
    zk, other = member.client(), member.client()
    try:
        zk.create(root, b"a")
        assert zk.set(root, b"b").version == 1
        events = []
        other.sync(root)
        assert other.get(root, watch=events.append)[0] == b"b"
        zk.set(root, b"c", version=1)
        eventually(lambda: events, 10, "the watch fires")
        try:
            zk.set(root, b"d", version=1)
            raise AssertionError("a wrong version was taken")
        except BadVersionError:
            pass
        first = zk.create(f"{root}/n-", sequence=True)
        second, stat = zk.create(f"{root}/n-", b"x", sequence=True, include_data=True)
        assert first < second and stat.version == 0
        transaction = zk.transaction()
        transaction.create(f"{root}/m", b"m")
        transaction.set_data(root, b"e")
        transaction.check(root, 3)
        results = transaction.commit()
        assert results[0] == f"{root}/m" and results[1].version == 3 and results[2] is True, results
        failing = zk.transaction()
        failing.create(f"{root}/never", b"")
        failing.delete(f"{root}/missing")
        kinds = [type(result).__name__ for result in failing.commit()]
        assert kinds == ["RolledBackError", "NoNodeError"], kinds
        other.create(f"{root}/ephemeral", b"", ephemeral=True)
        zk.sync(root)
        assert zk.exists(f"{root}/ephemeral").ephemeralOwner == other.client_id[0]
        other.stop()
        eventually(lambda: zk.exists(f"{root}/ephemeral") is None, 10, "an ephemeral ends with its session")
        try:
            zk.delete(f"{root}/missing")
            raise AssertionError("a missing znode was deleted")
        except NoNodeError:
            pass
    finally:
        for client in (zk, other):
            client.stop()
            client.close()


@check
def an_observer_in_a_live_apache_ensemble(_server):
    with Ensemble([A, A, A], [O]) as ensemble:
        for member in ensemble.voters:
            member.start()
        ensemble.wait_until_all_serve()
        writers = Writers(",".join(member.address for member in ensemble.voters))
        writers.progress(100)
        observer = ensemble[4]
        observer.start()  # with an empty directory: SNAP
        assert observer.wait_until_it_serves() == "observer"
        use(observer)
        writers.progress(100)
        observer.kill()
        writers.progress(100)
        observer.start()  # not far behind: DIFF
        observer.wait_until_it_serves()
        use(observer)
        ensemble.leader().kill()  # and into another epoch
        writers.progress(50)
        assert observer.wait_until_it_serves() == "observer"
        use(observer)
        finish(ensemble, writers)


@check
def a_follower_in_a_live_apache_ensemble(_server):
    with Ensemble([O, A, A]) as ensemble:
        for member in ensemble.members[1:]:
            member.start()
        writers = Writers(f"{ensemble[2].address},{ensemble[3].address}")
        writers.progress(100)
        follower = ensemble[1]
        follower.start()
        assert follower.wait_until_it_serves() == "follower"
        use(follower)
        # From here on every write needs its acknowledgement.
        [other] = [member for member in ensemble.members[1:] if member.mode() == "follower"]
        other.kill()
        writers.progress(200)
        follower.kill()
        follower.start()
        assert follower.wait_until_it_serves() == "follower"
        writers.progress(100)
        other.start()
        other.wait_until_it_serves()
        use(follower)
        finish(ensemble, writers)


@check
def a_leader_of_apache_followers(_server):
    with Ensemble([A, A, O], [A]) as ensemble:
        ensemble.start_led_by(3)
        writers = Writers(ensemble.addresses)
        for member in ensemble.members:
            use(member)
        writers.progress(200)
        ensemble[1].kill()
        writers.progress(200)
        ensemble[1].start()
        ensemble[1].wait_until_it_serves()
        writers.progress(50)
        ensemble[3].kill()
        writers.progress(100)
        ensemble[3].start()
        ensemble[3].wait_until_it_serves()
        writers.progress(50)
        finish(ensemble, writers)


@check
def members_are_swapped_under_load_and_back(_server):
    with Ensemble([A, A, A]) as ensemble:
        ensemble.start()
        writers = Writers(ensemble.addresses)
        writers.progress(100)
        for peer in (O, A):
            for member in ensemble.members:
                member.stop()
                writers.progress(20)
                member.start(peer)
                member.wait_until_it_serves()
                writers.progress(50)
            assert {member.peer for member in ensemble.members} == {peer}
            for member in ensemble.members:
                use(member)
        finish(ensemble, writers)


@check
def leaders_are_killed_in_an_ensemble_of_ostlers(_server):
    with Ensemble([O, O, O], [O]) as ensemble:
        ensemble.start()
        writers = Writers(ensemble.addresses)
        for _ in range(5):
            writers.progress(100)
            leader = ensemble.leader()
            leader.kill()
            writers.progress(50)
            leader.start()
            leader.wait_until_it_serves()
        for member in ensemble.members:
            use(member)
        finish(ensemble, writers)


def truncated(peers):
    """The leader takes a write that reaches nobody, and dies; the others go on without it."""
    with Ensemble(peers) as ensemble:
        ensemble.start_led_by(3)
        writers = Writers(ensemble.addresses)
        writers.progress(50)
        leader = ensemble[3]
        others = [member for member in ensemble.members if member is not leader]
        client = leader.client()
        writers.stop()
        for member in others:
            member.pause()
        answers = [client.create_async(f"/unheard-{number}", b"x") for number in range(5)]
        # On the leader's own disk, and nowhere else.
        eventually(lambda: b"/unheard-4" in newest_log(leader), 10, "the leader has logged it")
        leader.kill()
        for member in others:
            member.resume()
        assert not any(answer.ready() and answer.successful() for answer in answers)
        threading.Thread(target=client.stop, daemon=True).start()
        writers = Writers(",".join(member.address for member in others))
        writers.progress(50)
        leader.start()
        assert leader.wait_until_it_serves() == "follower"
        found = tree(leader)
        # Whether the others had received it before they stopped, they alone know; all must agree.
        finish(ensemble, writers)
        assert ("/unheard-0" in found) == ("/unheard-0" in tree(others[0]))


def newest_log(member):
    directory = os.path.join(member.dir, "data", "version-2")
    logs = sorted((int(name[4:], 16), name) for name in os.listdir(directory) if name.startswith("log."))
    with open(os.path.join(directory, logs[-1][1]), "rb") as log:
        return log.read()


@check
def a_deposed_ostler_leader_forgets_what_nobody_heard(_server):
    truncated([A, A, O])


@check
def a_deposed_apache_leader_forgets_what_nobody_heard(_server):
    truncated([O, O, A])


@check
def a_deposed_leader_forgets_among_ostlers(_server):
    truncated([O, O, O])


@check
def sessions_move_between_servers_and_outlive_their_leader(_server):
    with Ensemble([O, A, O], [O]) as ensemble:
        ensemble.start()
        zk = KazooClient(ensemble.addresses, timeout=10, randomize_hosts=False)
        zk.start(30)
        session = zk.client_id[0]
        zk.create("/mine", b"", ephemeral=True)
        for _ in range(3):
            # To the server that it is connected to the session is lost from view; the client goes on at another.
            served_by = [member for member in ensemble.members if member.is_running() and f"sid=0x{session:x}" in harness.ask(member.client_port, "cons")]
            [member] = served_by or [ensemble[1]]
            member.kill()
            eventually(lambda: zk.connected and zk.client_state == "CONNECTED", 30, "connected again")
            assert zk.client_id[0] == session
            zk.retry(zk.set, "/mine", b"still")
            member.start()
            member.wait_until_it_serves()
        assert zk.exists("/mine").ephemeralOwner == session
        # A session that nobody keeps alive ends, and its ephemerals with it, at every server.
        short = KazooClient(ensemble[4].address, timeout=2)
        short.start(30)
        short.create("/short", b"", ephemeral=True)
        ensemble[4].kill()  # and with it the only way to its clients
        ensemble[4].start()
        threading.Thread(target=short.stop, daemon=True).start()
        ensemble[4].wait_until_it_serves()
        for member in ensemble.members:
            looker = member.client()
            eventually(lambda: looker.exists("/short") is None, 30, "the session has expired")
            looker.stop()
            looker.close()
        zk.stop()
        zk.close()
        assert_equal_trees(ensemble)


@check
def servers_started_one_by_one_elect_the_third_of_five(_server):
    with Ensemble([O] * 5) as ensemble:
        ensemble[1].start()
        ensemble[2].start()
        ensemble[3].start()
        for number in (1, 2, 3):
            ensemble[number].wait_until_it_serves()
        assert ensemble.leader().number == 3
        for number in (4, 5):
            ensemble[number].start()
            assert ensemble[number].wait_until_it_serves() == "follower"
        assert ensemble.leader().number == 3
        assert ensemble[3].mntr()["zk_synced_followers"] == "4"


if __name__ == "__main__":
    harness.main_without_server(__doc__, check_seconds_max=300)
