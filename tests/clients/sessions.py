"""Client sessions spoken in bytes, for workloads that must know exactly what was asked when and what was answered.

kazoo tries again by itself, forgets zxids and hides which server answered. Here every request is sent once, and what was
asked, answered or never answered is noted in a `History` (history.py), with times of one monotonic clock. A session moves between
servers, takes its watches along, and is given up when a server says that it has expired.

Not here: what to ask, what must hold of the answers.
"""

import asyncio
import struct
import time

STAT = struct.Struct(">qqqqiiiqiiq")
OPEN_ACL = struct.pack(">ii", 1, 31) + b"\0\0\0\5world\0\0\0\6anyone"
CREATE, DELETE, GET, SET, SYNC, CHILDREN2, CHECK, MULTI, CREATE2, MULTI_READ, SET_WATCHES, CLOSE = 1, 2, 4, 5, 9, 12, 13, 14, 15, 22, 101, -11
CREATE_CONTAINER, CREATE_TTL = 19, 21
PING = 11
WRITES = (CREATE, DELETE, SET, MULTI, CREATE2)
EVENT_XID, PING_XID, SET_WATCHES_XID = -1, -2, -8
DATA_CHANGED, CHILDREN_CHANGED = 3, 4
EPHEMERAL, SEQUENCE, CONTAINER, TTL, TTL_SEQUENCE = 1, 2, 4, 5, 6
TTL_MS = 3_600_000
BAD_VERSION, NO_NODE = -103, -101
FRAME_BYTES_MAX = 64 << 20


class Stat:
    __slots__ = ("czxid", "mzxid", "ctime", "mtime", "version", "cversion", "aversion", "ephemeral_owner", "data_length", "children", "pzxid")

    def __init__(self, fields):
        for name, value in zip(self.__slots__, fields, strict=True):
            setattr(self, name, value)


def buffer(raw):
    raw = raw.encode() if isinstance(raw, str) else raw
    return struct.pack(">i", len(raw)) + raw


def strings(texts):
    return struct.pack(">i", len(texts)) + b"".join(map(buffer, texts))


class Reader:
    def __init__(self, raw):
        self.raw, self.at = raw, 0

    def take(self, form):
        values = struct.unpack_from(">" + form, self.raw, self.at)
        self.at += struct.calcsize(">" + form)
        return values if len(values) > 1 else values[0]

    def buffer(self):
        length = self.take("i")
        self.at += max(length, 0)
        return None if length < 0 else self.raw[self.at - length:self.at]

    def string(self):
        return self.buffer().decode()

    def stat(self):
        self.at += STAT.size
        return Stat(STAT.unpack_from(self.raw, self.at - STAT.size))


class Request:
    """One request from the moment it is sent; `completed` stays None when no answer came."""

    __slots__ = ("kind", "op", "session", "connection", "number", "server", "path", "value", "expected", "is_synced", "is_watching",
                 "invoked", "completed", "error", "zxid", "stat", "data", "found", "parts")

    def __init__(self, kind, op, path, value=None, expected=None, is_synced=False, is_watching=False, parts=()):
        self.kind, self.op, self.path, self.value, self.expected = kind, op, path, value, expected
        self.is_synced, self.is_watching, self.parts = is_synced, is_watching, parts
        self.invoked = self.completed = self.error = self.zxid = self.stat = self.data = self.found = None

    @property
    def is_acknowledged(self):
        return self.error == 0

    def __repr__(self):
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in ("path", "value", "expected", "server", "connection", "number", "error", "invoked", "completed"))
        session = f"0x{self.session.id:x}" if getattr(self, "session", None) else "-"
        return f"{self.kind}({shown}, session={session}, zxid={'-' if self.zxid is None else hex(self.zxid)})"


def record(request):
    """The body of a request."""
    if request.op in (CREATE, CREATE2, CREATE_CONTAINER, CREATE_TTL):
        made = buffer(request.path) + buffer(request.value) + OPEN_ACL + struct.pack(">i", request.expected or 0)
        return made + (struct.pack(">q", TTL_MS) if request.op == CREATE_TTL else b"")
    if request.op == DELETE or request.op == CHECK:
        return buffer(request.path) + struct.pack(">i", request.expected)
    if request.op == SET:
        return buffer(request.path) + buffer(request.value) + struct.pack(">i", request.expected)
    if request.op in (GET, CHILDREN2):
        return buffer(request.path) + struct.pack(">?", request.is_watching)
    if request.op == SYNC:
        return buffer(request.path)
    if request.op in (MULTI, MULTI_READ):
        return b"".join(struct.pack(">i?i", part.op, False, -1) + record(part) for part in request.parts) + struct.pack(">i?i", -1, True, -1)
    assert request.op in (CLOSE, PING), request.op
    return b""


def take_answer(request, reader):
    """What the answer to a request that went well says."""
    if request.op in (CREATE, CREATE2, CREATE_CONTAINER, CREATE_TTL):
        request.found = reader.string()
        request.stat = reader.stat() if request.op != CREATE else None
    elif request.op == GET:
        request.data, request.stat = reader.buffer(), reader.stat()
    elif request.op == SET:
        request.stat = reader.stat()
    elif request.op == CHILDREN2:
        request.found = [reader.string() for _ in range(reader.take("i"))]
        request.stat = reader.stat()
    elif request.op in (MULTI, MULTI_READ):
        for part in request.parts:
            op, _, error = reader.take("i?i")
            if op == -1:
                part.error = reader.take("i")
            else:
                part.error = error
                take_answer(part, reader)
        if any(part.error for part in request.parts) and request.op == MULTI:
            request.error = next(part.error for part in request.parts if part.error)


class Session:
    """One session as the servers know it, with the times at which it was surely alive or surely over."""

    def __init__(self, number, password, timeout_ms):
        self.id, self.password, self.timeout_ms = number, password, timeout_ms
        self.last_zxid, self.last_heard = 0, time.monotonic()
        self.closing_from = self.over_at = None


class Watch:
    """A watch from its registration until it fires or its session is over."""

    def __init__(self, session, path, kind, zxid, server):
        self.session, self.path, self.kind, self.armed, self.server = session, path, kind, zxid, server
        self.seen = zxid
        self.fired = None

    def __repr__(self):
        return f"watch({self.path}, {self.kind}, armed at 0x{self.armed:x} at server {self.server}, replies until 0x{self.seen:x}, fired {self.fired}, session 0x{self.session.id:x})"


class Disconnected(Exception):
    pass


class Client:
    """A client with one session at a time and one connection at a time."""

    def __init__(self, history, timeout_ms):
        self.history, self.timeout_ms = history, timeout_ms
        self.session, self.watches, self.under_way = None, {}, []
        self.connection_number = self.request_number = self.xid = 0
        self.reader = self.writer = self.task = self.server = None

    async def connect(self, server, port, seconds):
        """To this server, with the session if there is one. False when it does not answer, refuses, or the session is over."""
        try:
            async with asyncio.timeout(seconds):
                self.reader, self.writer = await asyncio.open_connection("127.0.0.1", port, limit=FRAME_BYTES_MAX)
                known = self.session
                record = struct.pack(">iqiq", 0, known.last_zxid if known else 0, self.timeout_ms, known.id if known else 0)
                self._send(record + buffer(known.password if known else bytes(16)) + b"\0")
                answer = Reader(await self._frame())
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            self._drop()
            return False
        _, timeout_ms, session = answer.take("iiq")
        if session == 0:
            self._drop()
            self.give_up_session()
            return False
        password = answer.buffer()
        if known is None:
            self.session = Session(session, password, timeout_ms)
            self.history.sessions.append(self.session)
        elif session != known.id:
            self.history.complain(f"session 0x{known.id:x} came back as 0x{session:x} from server {server}")
        self.server, self.under_way, self.xid = server, [], 0
        self.connection_number += 1
        if self.watches:
            data = [path for path, kind in self.watches if kind == DATA_CHANGED]
            children = [path for path, kind in self.watches if kind == CHILDREN_CHANGED]
            self._send(struct.pack(">iiq", SET_WATCHES_XID, SET_WATCHES, self.session.last_zxid) + strings(data) + strings([]) + strings(children))
            self.under_way.append((SET_WATCHES_XID, None, asyncio.get_running_loop().create_future()))
        self.task = asyncio.create_task(self._read())
        return True

    @property
    def is_connected(self):
        return self.writer is not None

    def send(self, request):
        """Sends it and returns the future that has it when it is answered."""
        if self.writer is None:
            raise Disconnected
        self.xid += 1
        self.request_number += 1
        request.session, request.server = self.session, self.server
        request.connection, request.number = self.connection_number, self.request_number
        future = asyncio.get_running_loop().create_future()
        self.under_way.append((self.xid, request, future))
        self.history.requests.append(request)
        raw = struct.pack(">ii", self.xid, request.op) + record(request)
        request.invoked = time.monotonic()
        self._send(raw)
        return future

    async def ask(self, request, seconds):
        """Sends it and waits for the answer, for so long: then the connection is given up."""
        future = self.send(request)
        try:
            async with asyncio.timeout(seconds):
                return await future
        except TimeoutError:
            self.disconnect()
            raise Disconnected from None

    def disconnect(self):
        """What is under way stays without an answer."""
        if self.writer is None:
            return
        self.task.cancel()
        self._drop()
        under_way, self.under_way = self.under_way, []
        for _, _, future in under_way:
            if not future.done():
                future.set_exception(Disconnected())
                # Nobody may be waiting for it any more.
                future.exception()

    def leave_open(self):
        """As a client that moves because it believes the connection dead: no end reaches the server. The caller closes what it gets."""
        writer, self.writer = self.writer, None
        self.task.cancel()
        under_way, self.under_way = self.under_way, []
        for _, _, future in under_way:
            if not future.done():
                future.set_exception(Disconnected())
                future.exception()
        self.reader = None
        return writer

    def give_up_session(self):
        """The session is over: a server has said so, or the client has ended it."""
        self.session.over_at = time.monotonic()
        self.abandon_session()

    def abandon_session(self):
        """Nobody keeps it alive any more, but it need not be over yet."""
        self.disconnect()
        for watch in self.watches.values():
            self._ended(watch)
        self.session, self.watches = None, {}

    def _ended(self, watch):
        watch.seen = watch.session.last_zxid
        self.history.watches.append(watch)

    def _send(self, raw):
        self.writer.write(struct.pack(">i", len(raw)) + raw)

    def _drop(self):
        if self.writer is not None:
            # Not close(): what lies in the buffer shall not arrive any more.
            self.writer.transport.abort()
        self.reader = self.writer = None

    async def _frame(self):
        length = struct.unpack(">i", await self.reader.readexactly(4))[0]
        return await self.reader.readexactly(length)

    async def _read(self):
        try:
            while True:
                self._take(Reader(await self._frame()))
        except (OSError, asyncio.IncompleteReadError):
            pass
        except (struct.error, UnicodeDecodeError, IndexError) as error:
            self.history.complain(f"server {self.server} sent what cannot be read: {error!r}")
        self.task = asyncio.current_task()
        self.disconnect()

    def _take(self, reader):
        xid, zxid, error = reader.take("iqi")
        if xid == EVENT_XID:
            return self._event(reader, zxid)
        if not self.under_way or self.under_way[0][0] != xid:
            return self.history.complain(f"server {self.server} answered {xid}, but {self.under_way[:1]} was to be answered first")
        _, request, future = self.under_way.pop(0)
        if request is None:
            return None
        now = time.monotonic()
        session = self.session
        request.error, request.zxid = error, zxid
        if error == 0:
            take_answer(request, reader)
        request.completed = now
        session.last_heard = max(session.last_heard, request.invoked)
        if request.error == 0 and request.op in WRITES:
            self.history.acknowledged += 1
        if zxid < session.last_zxid:
            self.history.complain(f"session 0x{session.id:x} goes back from 0x{session.last_zxid:x}: {request}")
        session.last_zxid = max(session.last_zxid, zxid)
        if request.is_watching and request.error == 0:
            kind = CHILDREN_CHANGED if request.op == CHILDREN2 else DATA_CHANGED
            older = self.watches.get((request.path, kind))
            if older is None:
                armed = request.stat.pzxid if kind == CHILDREN_CHANGED else request.stat.mzxid
                self.watches[request.path, kind] = Watch(session, request.path, kind, armed, self.server)
        if not future.done():
            future.set_result(request)

    def _event(self, reader, zxid):
        kind, _, path = reader.take("i"), reader.take("i"), reader.string()
        watch = self.watches.pop((path, kind), None)
        if watch is None:
            return self.history.complain(f"server {self.server} sent session 0x{self.session.id:x} an event {kind} of {path} that it does not wait for (0x{zxid:x})")
        self._ended(watch)
        watch.fired = zxid
