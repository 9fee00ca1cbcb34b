#!/usr/bin/env python3
"""Real ensembles of three and five voters, with observers and with Apache's servers among them, while everything fails that
can: processes are killed and paused, the network is cut whole, one way and in rings, slowed down and reset, a disk is wiped.
Some thousand requests of clients that lose sessions and move between servers are judged afterwards as one history (history.py).

Each scenario prints its seed first; OSTLER_SEED plays one again, as far as real processes do, and OSTLER_LONG=1 (or
OSTLER_CHAOS_SECONDS for each scenario) goes on for longer. Times between faults are part of the faults; nothing else sleeps.
"""

import collections
import os
import random
import shutil
import threading
import time

import harness
from ensemble import STAT_FIELDS, Ensemble, assert_equal_digests, assert_equal_trees
from harness import check, eventually
from history import Judge
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

    def __init__(self, ensemble, chance, history, wipes=True):
        self.ensemble, self.chance, self.history = ensemble, chance, history
        self.counts = collections.Counter()
        self.pause_between = threading.Event()
        self.faults = [self.kill_one, self.kill_leader, self.kill_leader, self.kill_most, self.kill_all, self.terminate, self.pause_leader,
                       self.pause_leader, self.pause_one, self.pause_most, self.cut_off_leader, self.cut_off_one, self.mute_leader, self.deafen_leader,
                       self.mute_one, self.halves, self.bridge, self.ring, self.slow, self.slow_leader, self.reset, self.kill_while_it_syncs,
                       self.flicker]
        if wipes:
            self.faults.append(self.wipe_follower)

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
        [member] = self.chance.sample([member for member in self.ensemble.members if member is not self.leader()], 1)
        member.kill()
        shutil.rmtree(os.path.join(member.dir, "data", "version-2"), ignore_errors=True)
        member.start()

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


def play(name, voters, observers, duration, clients=12, wipes=True):
    seed = int(os.environ.get("OSTLER_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"{name}: seed={seed}", flush=True)
    chance = random.Random(seed)
    with Ensemble(voters, observers, tick_ms=TICK_MS, init_limit=INIT_LIMIT, sync_limit=SYNC_LIMIT, networked=True) as ensemble:
        ensemble.start()
        prepare(ensemble[1].address)
        load = Load([(member.number, member.client_port) for member in ensemble.members], seed, clients)
        nemesis = Nemesis(ensemble, chance, load.history, wipes)
        deadline = time.monotonic() + duration
        try:
            while time.monotonic() < deadline:
                target = load.acknowledged + 100
                eventually(lambda: load.acknowledged >= target, HEALING_SECONDS_MAX, "writes are acknowledged again after all faults were mended")
                nemesis.strike()
        finally:
            print(f"{name}: faults {dict(sorted(nemesis.counts.items()))}", flush=True)
        history = load.stop()
        final = final_tree(ensemble)
        answered = collections.Counter(request.error for request in history.requests)
        print(f"{name}: {len(history.requests)} requests, {history.acknowledged} writes acknowledged, by error {dict(answered)}, "
              f"{len(history.sessions)} sessions, {len(history.watches)} watches, {sum(nemesis.counts.values())} faults", flush=True)
        exact = {member.number for member in ensemble.members} if A not in (*voters, *observers) else set()
        Judge(history, final, exact, TICK_MS / 1000).judge()


@check
def three_voters(_server):
    play("three voters", [O] * 3, [], seconds(22))


@check
def five_voters_and_an_observer(_server):
    play("five voters and an observer", [O] * 5, [O], seconds(22), clients=18)


@check
def among_apaches_servers(_server):
    play("among Apache's servers", [O, A, O], [A, O], seconds(22))


if __name__ == "__main__":
    harness.main_without_server(__doc__, check_seconds_max=7000 if LONG else 300)
