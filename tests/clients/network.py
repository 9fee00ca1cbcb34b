"""A network between the servers of an ensemble that can be cut, one way or both, slowed down and reset.

Each ordered pair of servers that may dial has a port of its own here; what comes in there goes on to the port of the server
that is meant. So every byte from one server to another is known by both, whoever had opened the connection. A cut holds
bytes as a cut cable does: nothing is lost when it heals, and new connections get nowhere. It runs as a process of its own,
for it must not wait for the clients' Python; `Network` is the handle on it, and the file run as a program is the process.

Not here: which cut comes when.
"""

import collections
import heapq
import json
import os
import selectors
import socket
import struct
import subprocess
import sys
import time

HOST = "127.0.0.1"
# What one direction of a connection may hold before its sender is no longer read, as a full socket would.
HELD_BYTES_MAX = 1 << 20


class Network:
    """`routes` are pairs of numbers with the ports behind them: {(from, to): [port, ...]}."""

    def __init__(self, routes):
        self.process = subprocess.Popen([sys.executable, os.path.abspath(__file__)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        listed = [[*pair, port] for pair, ports in routes.items() for port in ports]
        answer = self._tell(routes=listed)
        self.ports = {(source, target, port): listening for (source, target, port), listening in zip(listed, answer, strict=True)}

    def _tell(self, **command):
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, "the network has ended"
        return json.loads(line)

    def port(self, source, target, port):
        """Where `source` reaches that port of `target`."""
        return self.ports[source, target, port]

    def cut(self, pairs):
        """From now on nothing passes from the first to the second of these pairs, and everything between others."""
        self._tell(cut=[list(pair) for pair in pairs])

    def cut_between(self, some, others):
        self.cut([pair for one in some for other in others for pair in ((one, other), (other, one))])

    def heal(self):
        self._tell(cut=[], delay=[])

    def delay(self, pairs):
        """{(from, to): seconds} for every chunk that passes."""
        self._tell(delay=[[*pair, seconds] for pair, seconds in pairs.items()])

    def reset(self, numbers):
        """Ends every connection that one of these servers has."""
        self._tell(reset=list(numbers))

    def syncs(self):
        """What leaders have sent to bring learners in step: {(leader, learner, kind): count}; and the epochs they have offered."""
        answer = self._tell(syncs=True)
        return {(leader, learner, kind): count for leader, learner, kind, count in answer["syncs"]}, answer["epochs"]

    def end(self):
        self.process.stdin.close()
        self.process.wait(10)


# Packets of the quorum port: LEADERINFO, which has 24 bytes, then how the learner is brought in step.
LEADERINFO, LEADERINFO_BYTES = 17, 24
SYNC_KINDS = {13: "DIFF", 14: "TRUNC", 15: "SNAP"}


class Direction:
    """One direction of a connection: from the socket of one end to that of the other."""

    def __init__(self, connection, source, target, source_end, target_end):
        self.connection, self.pair, self.source_end, self.target_end = connection, (source, target), source_end, target_end
        self.held = collections.deque()
        self.held_bytes, self.is_ended, self.is_shut = 0, False, False
        # How it began, as long as nobody has looked at it.
        self.beginning = b""


class Connection:
    def __init__(self, relay, source, target, port, accepted):
        self.relay, self.accepted, self.port = relay, accepted, port
        self.pair, self.dialled, self.is_open = (source, target), None, False
        self.directions = []

    def dial(self):
        """Goes on to the server that is meant; a cut either way keeps it from getting there."""
        self.dialled = socket.socket()
        self.dialled.setblocking(False)
        self.dialled.connect_ex((HOST, self.port))
        self.relay.watch(self.dialled, selectors.EVENT_WRITE, self)

    def connected(self):
        error = self.dialled.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            return self.close()
        self.is_open = True
        source, target = self.pair
        for end in (self.accepted, self.dialled):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.directions = [Direction(self, source, target, self.accepted, self.dialled),
                           Direction(self, target, source, self.dialled, self.accepted)]
        self.refresh()

    def refresh(self):
        """Which events are wanted now."""
        if not self.is_open:
            return
        now = time.monotonic()
        wanted = {self.accepted: 0, self.dialled: 0}
        for direction in self.directions:
            if not direction.is_ended and direction.held_bytes < HELD_BYTES_MAX:
                wanted[direction.source_end] |= selectors.EVENT_READ
            if direction.held and not self.relay.is_cut(direction.pair):
                if direction.held[0][0] <= now:
                    wanted[direction.target_end] |= selectors.EVENT_WRITE
                else:
                    self.relay.wake_at(direction.held[0][0], self)
        for end, events in wanted.items():
            self.relay.watch(end, events, self)

    def ready(self, end, events):
        if not self.is_open:
            return self.connected() if end is self.dialled else None
        try:
            for direction in self.directions:
                if end is direction.source_end and events & selectors.EVENT_READ:
                    self._take(direction)
                if end is direction.target_end and events & selectors.EVENT_WRITE:
                    self._give(direction)
        except OSError:
            return self.close()
        if all(direction.is_shut for direction in self.directions):
            return self.close(gently=True)
        self.refresh()

    def _take(self, direction):
        data = direction.source_end.recv(1 << 16)
        release = time.monotonic() + self.relay.delays.get(direction.pair, 0)
        direction.is_ended = not data
        direction.held.append((release, data))
        direction.held_bytes += len(data)
        if direction.beginning is not None and direction.source_end is self.dialled:
            self._look_at_beginning(direction, data)

    def _look_at_beginning(self, direction, data):
        direction.beginning += data
        if len(direction.beginning) < LEADERINFO_BYTES + 4:
            return
        kind, zxid = struct.unpack_from(">iq", direction.beginning)
        sync = SYNC_KINDS.get(struct.unpack_from(">i", direction.beginning, LEADERINFO_BYTES)[0])
        direction.beginning = None
        if kind == LEADERINFO and sync:
            self.relay.syncs[(*direction.pair, sync)] += 1
            self.relay.epochs.add(zxid >> 32)

    def _give(self, direction):
        now = time.monotonic()
        while direction.held and direction.held[0][0] <= now:
            release, data = direction.held.popleft()
            if not data:
                direction.target_end.shutdown(socket.SHUT_WR)
                direction.is_shut = True
                return
            try:
                sent = direction.target_end.send(data)
            except BlockingIOError:
                sent = 0
            direction.held_bytes -= sent
            if sent < len(data):
                return direction.held.appendleft((release, data[sent:]))

    def close(self, gently=False):
        self.relay.forget(self)
        for end in (self.accepted, self.dialled):
            if end is not None:
                self.relay.watch(end, 0, self)
                if not gently:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.close()


class Relay:
    def __init__(self):
        self.selector = selectors.DefaultSelector()
        self.cuts, self.delays = set(), {}
        self.connections, self.waiting, self.alarms = set(), [], []
        self.alarm_number = 0
        self.syncs, self.epochs = collections.Counter(), set()

    def is_cut(self, pair):
        return pair in self.cuts

    def watch(self, end, events, owner):
        try:
            known = self.selector.get_key(end)
        except (KeyError, ValueError):
            known = None
        if not events:
            if known:
                self.selector.unregister(end)
        elif known is None:
            self.selector.register(end, events, owner)
        elif known.events != events:
            self.selector.modify(end, events, owner)

    def wake_at(self, when, connection):
        self.alarm_number += 1
        heapq.heappush(self.alarms, (when, self.alarm_number, connection))

    def forget(self, connection):
        self.connections.discard(connection)
        if connection in self.waiting:
            self.waiting.remove(connection)

    def obey(self, command):
        if "routes" in command:
            return [self._listen(*route) for route in command["routes"]]
        if "syncs" in command:
            return {"syncs": [[*key, count] for key, count in self.syncs.items()], "epochs": sorted(self.epochs)}
        if "cut" in command:
            self.cuts = {tuple(pair) for pair in command["cut"]}
        if "delay" in command:
            self.delays = {(source, target): seconds for source, target, seconds in command["delay"]}
        for number in command.get("reset", []):
            for connection in [one for one in self.connections if number in one.pair]:
                connection.close()
        waiting, self.waiting = self.waiting, []
        for connection in waiting:
            self._dial_or_wait(connection)
        for connection in list(self.connections):
            connection.refresh()
        return True

    def _listen(self, source, target, port):
        listener = socket.socket()
        listener.bind((HOST, 0))
        listener.listen(128)
        listener.setblocking(False)
        self.selector.register(listener, selectors.EVENT_READ, (source, target, port))
        return listener.getsockname()[1]

    def _dial_or_wait(self, connection):
        source, target = connection.pair
        if self.is_cut((source, target)) or self.is_cut((target, source)):
            self.waiting.append(connection)
        else:
            connection.dial()

    def run(self):
        commands = sys.stdin
        os.set_blocking(commands.fileno(), False)
        text = ""
        self.selector.register(commands, selectors.EVENT_READ, None)
        while True:
            now = time.monotonic()
            while self.alarms and self.alarms[0][0] <= now:
                heapq.heappop(self.alarms)[2].refresh()
            patience = self.alarms[0][0] - now if self.alarms else None
            for key, events in self.selector.select(patience):
                if key.fileobj is commands:
                    part = os.read(commands.fileno(), 1 << 16).decode()
                    if not part:
                        return
                    text += part
                    while "\n" in text:
                        line, text = text.split("\n", 1)
                        print(json.dumps(self.obey(json.loads(line))), flush=True)
                elif isinstance(key.data, Connection):
                    if key.fileobj.fileno() >= 0:
                        key.data.ready(key.fileobj, events)
                else:
                    accepted, _ = key.fileobj.accept()
                    accepted.setblocking(False)
                    connection = Connection(self, *key.data, accepted)
                    self.connections.add(connection)
                    self._dial_or_wait(connection)


if __name__ == "__main__":
    Relay().run()
