"""What clients asked and were answered, and the judgement whether one linearizable store can have said all of it.

Every znode of the workload tells its own order: each setData gives it the next version and a zxid. So instead of searching
for an order that explains the answers, the checker collects for each znode which value stood at which version and zxid, from
acknowledged writes, from reads and from the final tree, and then holds every single answer against that:

- one version has one value and one zxid, one value has one version (nothing is applied twice, nothing twice in turn);
- what was acknowledged is there; what was refused is not;
- an answer is not older than anything that was answered before its request was sent (writes, refused writes, sync + read);
- the requests of one session take effect in the order in which they were sent, over all its connections; none of its answers
  goes back in time;
- a read at zxid z shows exactly the state at z;
- a watch fires once, before the session sees anything at or behind the change, and not without a change;
- a session that was heard of lives as long as was promised, and what it left ends with it.

Not here: sockets, faults.
"""

import bisect
import collections

from sessions import BAD_VERSION, CREATE, CREATE2, DATA_CHANGED, DELETE, EPHEMERAL, GET, MULTI, MULTI_READ, NO_NODE, SEQUENCE, SET

SHOWN_MAX = 12


def name_of(value):
    """Values are unique in what stands before the first blank; the rest is ballast."""
    return value.split(b" ", 1)[0]


class Znode:
    """All that is known of the versions of one znode."""

    def __init__(self, path):
        self.path, self.versions, self.names = path, {}, {}

    def sort(self):
        self.order = sorted(self.versions)
        self.zxids = [self.versions[version][0] for version in self.order]

    def at(self, zxid):
        """The last known version at this zxid, and whether the version behind it is known to come later."""
        place = bisect.bisect_right(self.zxids, zxid) - 1
        if place < 0:
            return None, False
        is_followed = place + 1 < len(self.order) and self.order[place + 1] == self.order[place] + 1
        return self.order[place], is_followed


class History:
    def __init__(self):
        self.requests, self.sessions, self.watches, self.complaints = [], [], [], []
        self.acknowledged = 0
        # Times between which something was broken: (from, to).
        self.faults = []

    def complain(self, what):
        self.complaints.append(what)

    def write_zxids(self, request):
        """Where an acknowledged write took effect."""
        if request.op == MULTI:
            return {part.stat.mzxid for part in request.parts if part.stat}
        if request.op == CREATE2:
            return {request.stat.czxid}
        return {request.stat.mzxid} if request.op == SET else {request.zxid}


class Judge:
    """`final` is the tree at the end, {path: (data, fields)}; `exact` names the servers whose answers show exactly the state at
    their zxid; `has_barriers`: a sync passes only when a quorum has confirmed the leader, which Apache's leaders do not ask."""

    def __init__(self, history, final, exact, tick_seconds, has_barriers=True, alive=()):
        self.history, self.final, self.exact, self.tick_seconds = history, final, exact, tick_seconds
        self.has_barriers = has_barriers
        self.alive = {session.id for session in alive}
        self.znodes, self.broken = {}, collections.Counter()
        self.shown = []

    def reject(self, rule, what):
        self.broken[rule] += 1
        if self.broken[rule] <= SHOWN_MAX:
            self.shown.append(f"{rule}: {what}")

    def judge(self):
        """Raises with all that cannot be."""
        for complaint in self.history.complaints:
            self.reject("session", complaint)
        self._collect()
        self._place_unanswered()
        self._check_real_time()
        self._check_order_of_sessions()
        self._check_reads()
        self._check_final()
        self._check_watches()
        self._check_expiry()
        assert not self.broken, f"{dict(self.broken)}\n" + "\n".join(self.shown)

    # What is known.

    def _note(self, path, version, zxid, value, where):
        znode = self.znodes.setdefault(path, Znode(path))
        name = name_of(value)
        known = znode.versions.setdefault(version, (zxid, name))
        if known != (zxid, name):
            self.reject("two values of one version", f"{path} version {version}: {known} and {(zxid, name)} in {where}")
        first = znode.names.setdefault(name, version)
        if first != version:
            self.reject("applied twice", f"{path} has {name} as version {first} and {version} in {where}")

    def _parts(self, request):
        return request.parts if request.op in (MULTI, MULTI_READ) else (request,)

    def _collect(self):
        self.writers = {}
        for request in self.history.requests:
            if request.op in (SET, MULTI, CREATE, CREATE2):
                for part in self._parts(request):
                    if part.value is not None:
                        self.writers[part.path if part.op == SET else None, name_of(part.value)] = (request, part)
            if not request.is_acknowledged:
                continue
            for part in self._parts(request):
                if part.op == SET:
                    self._note(part.path, part.stat.version, part.stat.mzxid, part.value, request)
                    if part.expected >= 0 and part.stat.version != part.expected + 1:
                        self.reject("compare and set", f"{request}: became version {part.stat.version}")
                elif part.op == GET and part.error == 0:
                    self._note(part.path, part.stat.version, part.stat.mzxid, part.data, request)
        for path, (data, fields) in self.final.items():
            if path in self.znodes:
                self._note(path, fields["version"], fields["mzxid"], data, "the final tree")
        for znode in self.znodes.values():
            znode.sort()
            if sorted(znode.zxids) != znode.zxids or len(set(znode.zxids)) != len(znode.zxids):
                self.reject("order of versions", f"{znode.path}: {list(zip(znode.order, map(hex, znode.zxids), strict=True))}")

    def _place_unanswered(self):
        """The zxids of writes whose effect was seen: `self.effects` is {request: zxid}."""
        self.effects = {}
        for request in self.history.requests:
            if request.is_acknowledged and request.op in (SET, MULTI, CREATE, CREATE2, DELETE):
                zxids = self.history.write_zxids(request)
                if len(zxids) != 1:
                    self.reject("multi in one", f"{request}: {zxids}")
                self.effects[request] = min(zxids)
        for znode in self.znodes.values():
            for version, (zxid, name) in znode.versions.items():
                if version == 0 and (znode.path, name) not in self.writers:
                    continue  # as it was created before the load
                found = self.writers.get((znode.path, name))
                if found is None:
                    self.reject("value out of nowhere", f"{znode.path} version {version}: {name}")
                    continue
                request, part = found
                if request.error not in (None, 0):
                    self.reject("a refused write took effect", f"{request} as version {version} at 0x{zxid:x}")
                if part.expected >= 0 and version != part.expected + 1:
                    self.reject("compare and set", f"{request} became version {version}")
                if self.effects.setdefault(request, zxid) != zxid:
                    self.reject("multi in one", f"{request} at 0x{self.effects[request]:x} and 0x{zxid:x}")
        self.created = {}
        for path, (data, fields) in self.final.items():
            found = self.writers.get((None, name_of(data))) if data else None
            if found is None:
                continue
            request, _ = found
            if request in self.created:
                self.reject("applied twice", f"{request} made {self.created[request]} and {path}")
            self.created[request] = path
            if request.error not in (None, 0):
                self.reject("a refused write took effect", f"{request} made {path}")
            if self.effects.setdefault(request, fields["czxid"]) != fields["czxid"]:
                self.reject("order of versions", f"{request} made {path} at 0x{fields['czxid']:x}")
        owners = collections.defaultdict(list)
        for request, zxid in self.effects.items():
            owners[zxid].append(request)
        for zxid, requests in owners.items():
            if len(requests) > 1:
                self.reject("one zxid twice", f"0x{zxid:x}: {requests[:3]}")

    # What must hold of it.

    def _point(self, request):
        """The zxid that an answer stands for in the order of all, or None."""
        if request in self.effects:
            return self.effects[request]
        if request.completed is None or request.server not in self.exact:
            return None
        if (request.is_synced and self.has_barriers) or request.error == BAD_VERSION:
            return request.zxid
        return None

    def _check_real_time(self):
        """Nothing answered is older than what had been answered before it was asked for."""
        events = []
        for request in self.history.requests:
            point = self._point(request)
            if point is not None:
                events.append((request.invoked, 0, request, point))
            if request.completed is not None:
                events.append((request.completed, 1, request, point))
        events.sort(key=lambda event: event[:2])
        # What the world had certainly reached, and what anybody has seen of it, which a plain read may not know.
        highest = seen = 0
        by = seen_by = None
        for _, is_end, request, point in events:
            if is_end:
                if point is not None and point > highest:
                    highest, by = point, request
                if request.zxid > seen:
                    seen, seen_by = request.zxid, request
            elif point < highest:
                self.reject("real time", f"{request} stands at 0x{point:x}, but before it was sent there was an answer at 0x{highest:x}: {by}")
            elif request in self.effects and point <= seen:
                self.reject("real time", f"{request} took effect at 0x{point:x}, but before it was sent somebody saw 0x{seen:x}: {seen_by}")

    def _check_order_of_sessions(self):
        """`number` counts the requests of a client; what is known of their places must ascend with it."""
        by_session = collections.defaultdict(list)
        for request in self.history.requests:
            by_session[request.session.id].append(request)
        for requests in by_session.values():
            highest, by = 0, None
            for request in sorted(requests, key=lambda request: request.number):
                zxid = self.effects.get(request)
                if zxid is not None:
                    if zxid <= highest:
                        self.reject("order of a session", f"{request} took effect at 0x{zxid:x}, but the earlier {by} at 0x{highest:x}")
                    highest, by = zxid, request

    def _check_reads(self):
        for request in self.history.requests:
            if request.kind == "own ephemeral" and request.error == NO_NODE and request.completed < request.session.last_heard:
                self.reject("an ephemeral vanished", f"{request}, and its session lived on")
            if request.completed is None or request.server not in self.exact:
                continue
            for part in self._parts(request):
                znode = self.znodes.get(part.path)
                if znode is None:
                    continue
                if part.op == GET and part.error == 0:
                    version, _ = znode.at(request.zxid)
                    if version != part.stat.version:
                        self.reject("read at its zxid", f"{request} shows version {part.stat.version}, but there is {version} of {znode.versions.get(version)}")
                elif part.op == SET and part.error == BAD_VERSION:
                    version, is_followed = znode.at(request.zxid)
                    if version == part.expected and is_followed:
                        self.reject("compare and set", f"{request} was refused at 0x{request.zxid:x}, where the version was {version}")

    def _check_final(self):
        deleted = {request.path for request in self.history.requests if request.op == DELETE and request.error in (None, 0)}
        for request in self.history.requests:
            if request.op == DELETE and request.is_acknowledged and request.path in self.final:
                self.reject("acknowledged and lost", f"{request}: it is there")
            if not request.is_acknowledged:
                continue
            if request.op in (CREATE, CREATE2):
                path = request.found
                may_be_gone = path in deleted or (request.expected & EPHEMERAL and request.session.id not in self.alive)
                if path not in self.final and not may_be_gone:
                    self.reject("acknowledged and lost", f"{request} made {path}")
                if path in self.final and self.created.get(request) != path:
                    self.reject("acknowledged and lost", f"{request} made {path}, which is another's")
            for part in self._parts(request):
                if part.op == SET and self.final[part.path][1]["version"] < part.stat.version:
                    self.reject("acknowledged and lost", f"{request}: version {self.final[part.path][1]['version']} is the last")
        for path, (_, fields) in self.final.items():
            owner = fields["ephemeralOwner"]
            if owner and owner not in self.alive:
                self.reject("an ephemeral without a session", f"{path} of 0x{owner & (1 << 64) - 1:x}")
        self._check_sequences()

    def _check_sequences(self):
        made = [(request.found or self.created.get(request), request) for request in self.history.requests
                if request.op in (CREATE, CREATE2) and request.expected & SEQUENCE]
        by_name = collections.defaultdict(set)
        places = []
        for path, request in made:
            if path is None:
                continue
            by_name[path].add(request)
            if request in self.effects:
                places.append((self.effects[request], int(path[-10:]), path))
        for path, requests in by_name.items():
            if len(requests) > 1:
                self.reject("a sequence number twice", f"{path}: {requests}")
        places.sort()
        for (_, before, first), (_, after, second) in zip(places, places[1:]):
            if after <= before:
                self.reject("a sequence number twice", f"{second} came behind {first}")

    def _check_watches(self):
        changes = {path: znode.zxids for path, znode in self.znodes.items()}
        children = sorted(zxid for request, zxid in self.effects.items() if request.op in (CREATE, CREATE2) and request.expected & SEQUENCE)
        for watch in self.history.watches:
            zxids = changes.get(watch.path, []) if watch.kind == DATA_CHANGED else children
            place = bisect.bisect_right(zxids, watch.armed)
            first = zxids[place] if place < len(zxids) else None
            if first is not None and first <= watch.seen:
                self.reject("a watch missed", f"{watch}: changed at 0x{first:x}")
            if watch.fired is not None and watch.kind == DATA_CHANGED:
                last = self.final[watch.path][1]["mzxid"]
                if last <= watch.armed:
                    self.reject("a watch without a change", f"{watch}: last changed at 0x{last:x}")

    def _check_expiry(self):
        """A session that was heard of in calm times is not over before its timeout."""
        for session in self.history.sessions:
            if session.over_at is None or session.closing_from is not None:
                continue
            heard = session.last_heard
            # What a learner had heard when its way to the leader was cut may never have reached the leader.
            for began, ended in self.history.faults:
                if began - 2 * self.tick_seconds <= session.over_at and ended >= heard - 2 * self.tick_seconds:
                    heard = min(heard, began - 2 * self.tick_seconds)
            if session.over_at < heard + session.timeout_ms / 1000:
                self.reject("expired too early", f"session 0x{session.id:x} with {session.timeout_ms} ms, {session.over_at - session.last_heard:.3f} s after it was heard")
