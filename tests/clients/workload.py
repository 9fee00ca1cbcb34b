"""Concurrent clients of an ensemble that read and write all they can while servers fail, and note everything in a `History`.

Registers with unconditional and conditional writes, pairs that change together in a multi, sequential znodes, ephemerals,
znodes that are made and deleted, plain reads, sync + read, reads of several znodes at one zxid, watches on data and children.
Clients move between servers, with and without ending the old connection properly, lose their sessions and close them.

Not here: faults (chaos.py), the judgement (history.py).
"""

import asyncio
import random
import threading
import time

from history import History
from kazoo.client import KazooClient
from sessions import CHECK, CHILDREN2, CLOSE, CREATE, CREATE2, DELETE, EPHEMERAL, GET, MULTI, MULTI_READ, SEQUENCE, SET, SYNC, Client, Disconnected, Request

REGISTERS, PAIRS = 12, 2
ROOTS = ("/r", "/m", "/s", "/e", "/d")
# What a step waits before the next one: the load shall fail servers by its kind, not by its weight.
THINK_SECONDS = 0.03


def prepare(addresses):
    """The znodes that are there before the load."""
    zk = KazooClient(addresses, timeout=10)
    zk.start(60)
    try:
        for root in ROOTS:
            zk.create(root, b"")
        for number in range(REGISTERS):
            zk.create(f"/r/{number}", b"initial")
        for number in range(PAIRS):
            for half in ("a", "b"):
                zk.create(f"/m/{number}{half}", b"initial")
    finally:
        zk.stop()
        zk.close()


class Player:
    """One client that plays all parts at random."""

    def __init__(self, load, number, timeout_ms):
        self.load, self.number, self.chance = load, number, random.Random(f"{load.seed}-{number}")
        self.client = Client(load.history, timeout_ms)
        self.count = 0
        # Some give up soon, some still wait when a paused server comes back.
        self.patience = self.chance.choice([1.0, 2.0, 5.0, 15.0])
        self.versions, self.own, self.ephemerals, self.strays = {}, [], [], []

    def unique(self):
        self.count += 1
        ballast = b"" if self.chance.random() < 0.9 else b" " + b"x" * self.chance.choice([100, 5_000, 60_000])
        return f"{self.number}.{self.count}".encode() + ballast

    async def live(self):
        while not self.load.stopping:
            number, port = self.chance.choice(self.load.servers)
            if not await self.client.connect(number, port, min(self.patience, 3.0)):
                await asyncio.sleep(0.05)
                continue
            self.moves_at = time.monotonic() + self.chance.expovariate(1 / 6)
            await asyncio.gather(*(self._play() for _ in range(self.chance.choice([1, 2, 4]))))
            self.client.disconnect()

    async def _play(self):
        connection = self.client.connection_number
        steps = [self._put] * 4 + [self._compare_and_set] * 3 + [self._get] * 3 + [self._synced_get] * 4 + [self._pair] * 2 + [
            self._read_pair, self._sequence, self._sequence, self._ephemeral, self._own_ephemeral, self._make, self._remove, self._remove, self._watch, self._watch_children]
        try:
            while self.client.is_connected and self.client.connection_number == connection and not self.load.stopping:
                if time.monotonic() > self.moves_at:
                    return await self._move()
                await self.chance.choice(steps)()
                await asyncio.sleep(self.chance.random() * THINK_SECONDS)
        except Disconnected:
            pass

    async def _move(self):
        """Away from this server; rarely the session ends as well."""
        self.moves_at = float("inf")
        kind = self.chance.random()
        if kind < 0.15:
            session = self.client.session
            session.closing_from = time.monotonic()
            try:
                await self.client.ask(Request("close", CLOSE, None), self.patience)
            except Disconnected:
                pass
            self.client.give_up_session()
        elif kind < 0.4:
            # A write that is under way while the session goes elsewhere must not overtake what is written there.
            for _ in range(3):
                path = f"/r/{self.chance.randrange(REGISTERS)}"
                self.client.send(Request("stray", SET, path, self.unique(), -1))
            self.strays.append(self.client.leave_open())
            if len(self.strays) > 3:
                self.strays.pop(0).transport.abort()
        else:
            self.client.disconnect()

    def ask(self, *args, **options):
        return self.client.ask(Request(*args, **options), self.patience)

    def register(self):
        # The first is fought over by all.
        return f"/r/{0 if self.chance.random() < 0.3 else self.chance.randrange(REGISTERS)}"

    async def _put(self):
        await self.ask("set", SET, self.register(), self.unique(), -1)

    async def _get(self):
        path = self.register()
        got = await self.ask("get", GET, path)
        if got.error == 0:
            self.versions[path] = got.stat.version

    async def _synced_get(self):
        path = self.register()
        sync = self.client.send(Request("sync", SYNC, path))
        got = await self.ask("synced get", GET, path)
        got.is_synced = sync.done() and not sync.cancelled() and sync.result().error == 0
        if got.error == 0:
            self.versions[path] = got.stat.version

    async def _compare_and_set(self):
        path = self.register()
        if path not in self.versions or self.chance.random() < 0.7:
            got = await self.ask("get", GET, path)
            if got.error != 0:
                return
            self.versions[path] = got.stat.version
        done = await self.ask("compare and set", SET, path, self.unique(), self.versions[path])
        if done.error == 0:
            self.versions[path] = done.stat.version

    async def _pair(self):
        number, value = self.chance.randrange(PAIRS), self.unique()
        some = self.register()
        await self.ask("multi", MULTI, None, parts=(
            Request("check", CHECK, some, expected=-1), Request("set", SET, f"/m/{number}a", value, -1), Request("set", SET, f"/m/{number}b", value, -1)))

    async def _read_pair(self):
        number = self.chance.randrange(PAIRS)
        await self.ask("multi read", MULTI_READ, None, parts=(Request("get", GET, f"/m/{number}a"), Request("get", GET, f"/m/{number}b")))

    async def _sequence(self):
        await self.ask("sequence", self.chance.choice([CREATE, CREATE2]), "/s/n-", self.unique(), SEQUENCE)

    async def _ephemeral(self):
        value = self.unique()
        made = await self.ask("ephemeral", CREATE, f"/e/{value.split()[0].decode()}", value, EPHEMERAL)
        if made.error == 0:
            self.ephemerals.append((made.session, made.path))

    async def _own_ephemeral(self):
        """One that this session has made: it must be there as long as the session is."""
        made = [path for session, path in self.ephemerals if session is self.client.session]
        if made:
            await self.ask("own ephemeral", GET, self.chance.choice(made))

    async def _make(self):
        value = self.unique()
        made = await self.ask("make", CREATE, f"/d/{value.split()[0].decode()}", value, 0)
        if made.error == 0:
            self.own.append(made.path)

    async def _remove(self):
        if self.own:
            await self.ask("remove", DELETE, self.own.pop(self.chance.randrange(len(self.own))), expected=-1)

    async def _watch(self):
        await self.ask("watch", GET, self.register(), is_watching=True)

    async def _watch_children(self):
        await self.ask("watch children", CHILDREN2, "/s", is_watching=True)


class Load:
    """Runs the clients in a thread of their own until it is stopped."""

    def __init__(self, servers, seed, clients=12, timeouts_ms=(1000, 2000, 4000)):
        self.servers, self.seed, self.history = servers, seed, History()
        self.stopping = False
        self.players = [Player(self, number, timeouts_ms[number % len(timeouts_ms)]) for number in range(clients)]
        self.error = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        try:
            asyncio.run(self._live())
        except BaseException as error:
            self.error = error
            raise

    async def _live(self):
        await asyncio.gather(*(player.live() for player in self.players))
        for player in self.players:
            player.client.abandon_session()
            for stray in player.strays:
                stray.transport.abort()

    @property
    def acknowledged(self):
        """How many writes have been acknowledged so far."""
        assert self.error is None, f"the load has ended: {self.error!r}"
        return self.history.acknowledged

    def stop(self):
        self.stopping = True
        self.thread.join(60)
        assert not self.thread.is_alive(), "the clients do not end"
        assert self.error is None, f"the load has ended: {self.error!r}"
        return self.history
