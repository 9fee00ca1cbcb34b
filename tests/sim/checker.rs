//! Judges a run while it goes on: every byte that a client receives, every txn that the core proposes, every recovery.
//! Not here: making anything happen (`workload`, `faults`), what is right for one request (`model`).
//!
//! What is checked:
//! - writes are linearizable in zxid order: each is executed once, in its connection's order, after everything anybody
//!   had heard of when it was sent, and answered with the very bytes the model gives at that zxid;
//! - reads are linearizable: each shows exactly the tree at the zxid of its reply, which is none older than what anybody
//!   had heard of when it was sent, and never older than what its session has seen, on this connection or an earlier one;
//! - replies come in the order of requests, their zxids never decrease;
//! - watch events: exactly those that the registered watches and the txns demand, in zxid order, before the reply of
//!   their own txn and before any reply that shows their txn; one-shot watches once; nothing from before registration;
//! - a session expires only after a silence of its timeout, and does expire; its ephemerals go with its closeSession;
//! - after a crash everything that anybody has heard of is there, and the tree is exactly that of some zxid.

use crate::model::{
    Answer, ChangeKind, Keep, Model, ReadKind, Request, Stamp, WatchLists, error, is_reapable, parent_of,
};
use ostler_engine::model::Owner;
use ostler_engine::wire::{TxnBody, TxnEntry};
use ostler_engine::world::View;
use ostler_tests::client::{ConnectResponse, EVENT_XID, Reply, op};
use ostler_tests::jute::{Body, Reader};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub type Checked<T = ()> = Result<T, String>;

/// What the caller is to know of a frame it handed in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Heard {
    Established {
        session: i64,
        password: Vec<u8>,
    },
    /// No such session (any more).
    Refused,
    Reply {
        request: Request,
        err: i32,
        zxid: i64,
    },
    Event,
}

/// One request on its way.
#[derive(Clone, Debug)]
struct Sent {
    xid: i32,
    request: Request,
    /// The newest zxid anybody had heard of.
    known: i64,
}

#[derive(Default)]
struct Connection {
    session: i64,
    established: bool,
    sent: VecDeque<Sent>,
    /// Writes in the order sent that the core has not proposed yet.
    unproposed: VecDeque<i32>,
    /// Writes that were passed over: they must be refused without a txn.
    refused: BTreeSet<i32>,
    /// Zxid of the last frame, or what the session had seen before this connection.
    seen: i64,
    /// Every txn up to here has been held against the watches.
    told: i64,
    /// Events of txn `told` that are still to come.
    due: VecDeque<(i32, String)>,
    watches: Watches,
    /// What setWatches has brought so far, before its reply.
    caught_up: Vec<(i32, String)>,
    /// Bytes of the connect request that have not reached the server.
    to_arrive: usize,
    /// When bytes last reached the server before the connection was established.
    arrived_ms: u64,
    /// When the whole request to attach to a session had reached the server, answered or not.
    asked_ms: Option<u64>,
    /// The session has moved to another connection.
    moved: bool,
}

#[derive(Default)]
struct Watches {
    data: BTreeSet<String>,
    child: BTreeSet<String>,
    persistent: BTreeSet<String>,
    recursive: BTreeSet<String>,
}

/// A write that the core has executed.
struct Executed {
    zxid: i64,
    answer: Answer,
}

/// What is known of a session beside the model.
#[derive(Default)]
struct Session {
    /// Newest zxid that any of its connections has seen.
    seen: i64,
    /// When its connection brought bytes to the server, milliseconds of time in which the server ran.
    heard_ms: Vec<u64>,
    executed: BTreeMap<i32, Executed>,
}

pub struct Checker {
    pub model: Model,
    connections: BTreeMap<u64, Connection>,
    sessions: BTreeMap<i64, Session>,
    /// Requests of writes by session and xid, for when the core proposes them.
    writes: BTreeMap<(i64, i32), (u64, Request, i64)>,
    /// Newest zxid that anybody has heard of.
    known: i64,
    /// Time in which the server ran, milliseconds; and since when the log has been taking nothing.
    pub running_ms: u64,
    pub full_since_ms: Option<u64>,
    /// Until then a worker may stand still: a connect that lies in its socket meanwhile is known to nobody.
    pub deaf_until_ms: u64,
    /// A sync may take so long, and what was decided meanwhile is proposed behind it.
    pub sync_ms_most: u64,
    /// The disk was full at some time: writes may be refused.
    pub may_refuse: bool,
    pub figures: Figures,
}

/// How much a run has looked at.
#[derive(Clone, Copy, Default, Debug)]
pub struct Figures {
    pub txns: u64,
    pub replies: u64,
    pub reads: u64,
    pub events: u64,
    pub expiries: u64,
    pub attached: u64,
    pub recoveries: u64,
    pub undone: u64,
    pub refused: u64,
    pub reaped: u64,
    /// Ends of a server whose disk failed.
    pub failures: u64,
    /// Groups that the core wrote itself.
    pub written_here: u64,
    /// Attempts of the log that found no space.
    pub found_full: u64,
}

impl Figures {
    pub fn add(&mut self, other: Figures) {
        self.txns += other.txns;
        self.replies += other.replies;
        self.reads += other.reads;
        self.events += other.events;
        self.expiries += other.expiries;
        self.attached += other.attached;
        self.recoveries += other.recoveries;
        self.undone += other.undone;
        self.refused += other.refused;
        self.reaped += other.reaped;
        self.failures += other.failures;
        self.written_here += other.written_here;
        self.found_full += other.found_full;
    }
}

macro_rules! ensure {
    ($holds:expr, $($why:tt)+) => {
        if !$holds {
            return Err(format!($($why)+));
        }
    };
}

/// A TTL znode that is old by less may not have been looked at yet.
const REAP_MS: i64 = 1_500;
/// How late a client may speak and still find its session gone: the core had decided, the txn was on its way.
const DECIDED_MS: u64 = 1_500;

impl Checker {
    /// `view`: what a server shows that was never used.
    pub fn new(view: &View) -> Checker {
        let mut model = Model::default();
        for (path, znode) in tree_of(view) {
            model.found(&path, znode);
        }
        Checker {
            model,
            connections: BTreeMap::new(),
            sessions: BTreeMap::new(),
            writes: BTreeMap::new(),
            known: 0,
            running_ms: 0,
            full_since_ms: None,
            deaf_until_ms: 0,
            sync_ms_most: 0,
            may_refuse: false,
            figures: Figures::default(),
        }
    }

    /// Newest zxid that the session has seen.
    pub fn seen(&self, session: i64) -> i64 {
        self.sessions.get(&session).map_or(0, |session| session.seen)
    }

    /// A connect request of so many bytes was sent; `session` 0 asks for a new one.
    pub fn connecting(&mut self, connection: u64, session: i64, bytes: usize) {
        let seen = self.seen(session);
        let made = Connection { session, seen, told: seen, to_arrive: bytes, ..Connection::default() };
        self.connections.insert(connection, made);
    }

    pub fn sent(&mut self, connection: u64, xid: i32, request: &Request) {
        let known = self.known;
        let Some(made) = self.connections.get_mut(&connection) else { return };
        made.sent.push_back(Sent { xid, request: request.clone(), known });
        if request.is_write() {
            // A connection that has lost its session may ask, and is dropped for it.
            if !made.moved {
                made.unproposed.push_back(xid);
                self.writes.insert((made.session, xid), (connection, request.clone(), known));
            }
        }
    }

    /// Bytes of the connection have reached the server's socket. Whoever asks for a session is heard of by that, however
    /// long the answer takes.
    pub fn arrived(&mut self, connection: u64, bytes: usize) {
        let Some(made) = self.connections.get_mut(&connection) else { return };
        if !made.established {
            made.arrived_ms = self.running_ms;
            let waited = made.to_arrive > 0;
            made.to_arrive = made.to_arrive.saturating_sub(bytes);
            if waited && made.to_arrive == 0 && made.session != 0 && self.deaf_until_ms <= self.running_ms {
                made.asked_ms = Some(self.running_ms);
                self.sessions.entry(made.session).or_default().heard_ms.push(self.running_ms);
            }
        } else if !made.moved {
            self.sessions.entry(made.session).or_default().heard_ms.push(self.running_ms);
        }
    }

    /// The connection is no more, for whatever reason; the server may not have read all that had reached it.
    pub fn gone(&mut self, connection: u64, all_read: bool) {
        let Some(made) = self.connections.remove(&connection) else { return };
        if let (false, false, Some(asked_ms)) = (made.established, all_read, made.asked_ms)
            && let Some(session) = self.sessions.get_mut(&made.session)
            // The first is the session's beginning, or that of the server's present life.
            && let Some(at) = session.heard_ms.iter().rposition(|heard_ms| *heard_ms == asked_ms)
            && at > 0
        {
            session.heard_ms.remove(at);
        }
    }

    // --- what clients hear ------------------------------------------------------------------------------------------

    pub fn frame(&mut self, connection: u64, frame: &[u8]) -> Checked<Heard> {
        let made = self.connections.get(&connection).ok_or("a frame on no connection")?;
        if !made.established {
            return self.handshake(connection, frame);
        }
        let reply = Reply::decode(frame).ok_or_else(|| format!("no reply: {frame:02x?}"))?;
        self.figures.replies += 1;
        let heard = match reply.xid {
            EVENT_XID => self.event(connection, &reply).map(|()| Heard::Event),
            _ => self.reply(connection, &reply),
        };
        heard.map_err(|why| format!("connection {connection}: {why} ({reply:?})"))
    }

    fn handshake(&mut self, connection: u64, frame: &[u8]) -> Checked<Heard> {
        let answer =
            ConnectResponse::decode(frame).ok_or_else(|| format!("no ConnectResponse: {frame:02x?}"))?;
        let made = self.connections.get_mut(&connection).ok_or("a frame on no connection")?;
        let asked = made.session;
        if answer.timeout_ms == 0 {
            ensure!(asked != 0, "a new session was refused by a ConnectResponse");
            let open = self.model.sessions.get(&asked).is_some_and(|life| life.closed.is_none());
            ensure!(!open, "session 0x{asked:x} is open, yet its client was refused");
            return Ok(Heard::Refused);
        }
        let session = answer.session;
        ensure!(asked == 0 || asked == session, "asked for session 0x{asked:x}, got 0x{session:x}");
        let life = self.model.sessions.get(&session).ok_or("a session was established without its txn")?;
        if asked == 0 {
            ensure!(!self.sessions.contains_key(&session), "session 0x{session:x} was given out before");
            self.known = self.known.max(life.opened);
        } else {
            // It may be closing by now; it was open when the core took the request.
            self.figures.attached += 1;
        }
        made.session = session;
        made.established = true;
        made.seen = made.seen.max(life.opened);
        made.told = made.seen;
        let known = self.sessions.entry(session).or_default();
        known.seen = known.seen.max(made.seen);
        known.heard_ms.push(made.arrived_ms);
        known.heard_ms.sort_unstable();
        for (number, other) in &mut self.connections {
            other.moved |= *number != connection && other.session == session;
        }
        Ok(Heard::Established { session, password: answer.password.unwrap_or_default() })
    }

    fn reply(&mut self, connection: u64, reply: &Reply) -> Checked<Heard> {
        let made = self.connections.get_mut(&connection).ok_or("a reply on no connection")?;
        let sent = made.sent.pop_front().ok_or("a reply to nothing")?;
        ensure!(sent.xid == reply.xid, "out of order: the next reply is that of {sent:?}");
        ensure!(reply.zxid >= made.seen, "zxid 0x{:x} after 0x{:x}", reply.zxid, made.seen);
        made.tell(&self.model, reply.zxid)?;
        ensure!(made.due.is_empty(), "events of 0x{:x} missing: {:?}", made.told, made.due);
        made.seen = reply.zxid;
        self.known = self.known.max(reply.zxid);
        let session = self.sessions.entry(made.session).or_default();
        session.seen = session.seen.max(reply.zxid);
        if sent.request.is_write() {
            self.figures.refused += u64::from(reply.err == error::NOT_READ_ONLY);
            judge_write(made, session, &sent, reply, self.may_refuse)?;
        } else {
            self.figures.reads += 1;
            ensure!(
                reply.zxid >= sent.known,
                "stale: the reply to {sent:?} shows 0x{:x}, but 0x{:x} was known when it was sent",
                reply.zxid,
                sent.known
            );
            judge_read(&self.model, made, &sent, reply)?;
        }
        Ok(Heard::Reply { request: sent.request, err: reply.err, zxid: reply.zxid })
    }

    fn event(&mut self, connection: u64, reply: &Reply) -> Checked {
        self.figures.events += 1;
        let made = self.connections.get_mut(&connection).ok_or("an event on no connection")?;
        let mut body = Reader(&reply.body);
        let (kind, state, path) = (body.int(), body.int(), body.string());
        let (Some(kind), Some(3), Some(path)) = (kind, state, path) else { return Err("no event".into()) };
        if reply.zxid == -1 {
            made.caught_up.push((kind, path));
            return Ok(());
        }
        ensure!(reply.zxid >= made.told, "an event of 0x{:x} after news of 0x{:x}", reply.zxid, made.told);
        made.tell(&self.model, reply.zxid)?;
        let next = made.due.pop_front();
        ensure!(next == Some((kind, path)), "the watches of this connection demand {next:?}");
        made.seen = made.seen.max(reply.zxid);
        self.known = self.known.max(reply.zxid);
        let session = self.sessions.entry(made.session).or_default();
        session.seen = session.seen.max(reply.zxid);
        Ok(())
    }

    // --- what the core decides --------------------------------------------------------------------------------------

    /// One txn that the core proposes.
    pub fn proposed(&mut self, entry: &[u8]) -> Checked {
        let (entry, _) =
            TxnEntry::decode(entry).map_err(|error| format!("a proposal of nonsense: {error:?}"))?;
        let header = entry.header;
        let stamp = Stamp { zxid: header.zxid.0 as i64, time: header.time.0, session: header.session.0 };
        ensure!(
            stamp.zxid == self.model.last + 1,
            "proposed 0x{:x} after 0x{:x}",
            stamp.zxid,
            self.model.last
        );
        self.figures.txns += 1;
        match &entry.body {
            TxnBody::CreateSession { timeout_ms } => {
                self.model.open_session(stamp, *timeout_ms);
                Ok(())
            }
            TxnBody::CloseSession { paths } => {
                let paths: Vec<String> = paths.iter().flatten().map(|path| path.to_string()).collect();
                if header.cxid.0 == 0 {
                    self.expired(stamp.session)?;
                } else {
                    self.executes(stamp, header.cxid.0)?;
                }
                let answer = self.model.close_session(stamp, &paths)?;
                if header.cxid.0 != 0 {
                    self.note_executed(stamp, header.cxid.0, answer);
                }
                Ok(())
            }
            TxnBody::DeleteContainer { path } => {
                self.figures.reaped += 1;
                self.model.reap(stamp, path)
            }
            // A znode that was to be reaped is gone, or has children by now.
            TxnBody::Error { .. } if stamp.session == 0 => {
                self.model.last = stamp.zxid;
                Ok(())
            }
            _ => {
                let request = self.executes(stamp, header.cxid.0)?;
                let answer = self.model.execute(stamp, &request);
                self.note_executed(stamp, header.cxid.0, answer);
                Ok(())
            }
        }
    }

    /// The request behind a txn, which must be the next of its connection.
    fn executes(&mut self, stamp: Stamp, xid: i32) -> Checked<Request> {
        let Stamp { zxid, session, .. } = stamp;
        let life = self.model.sessions.get(&session);
        ensure!(
            life.is_some_and(|life| life.closed.is_none()),
            "0x{zxid:x} is a txn of session 0x{session:x}, which is not open"
        );
        let (connection, request, known) = self.writes.remove(&(session, xid)).ok_or_else(|| {
            format!("0x{zxid:x} is a txn that nobody sent: session 0x{session:x} xid {xid}")
        })?;
        ensure!(zxid > known, "0x{zxid:x} was decided before 0x{known:x}, which was known when it was sent");
        let executed = &self.sessions.entry(session).or_default().executed;
        let last = executed.last_key_value().map_or(0, |(xid, _)| *xid);
        ensure!(last < xid, "xid {xid} of session 0x{session:x} executed after xid {last}");
        if let Some(made) = self.connections.get_mut(&connection) {
            while let Some(next) = made.unproposed.pop_front() {
                if next == xid {
                    break;
                }
                ensure!(self.may_refuse, "xid {next} of session 0x{session:x} was passed over by xid {xid}");
                self.writes.remove(&(session, next));
                made.refused.insert(next);
            }
        }
        Ok(request)
    }

    fn note_executed(&mut self, stamp: Stamp, xid: i32, answer: Answer) {
        let session = self.sessions.entry(stamp.session).or_default();
        session.executed.insert(xid, Executed { zxid: stamp.zxid, answer });
    }

    /// The server has decided by itself that this session is over.
    fn expired(&mut self, session: i64) -> Checked {
        self.figures.expiries += 1;
        let life = self.model.sessions.get(&session).ok_or("an unknown session expires")?;
        let timeout_ms = life.timeout_ms as u64;
        let now = self.running_ms;
        let decided = self.full_since_ms.unwrap_or(now).min(now);
        let decided = decided.saturating_sub(DECIDED_MS.max(2 * self.sync_ms_most));
        let heard = self.sessions.get(&session).map_or(&[][..], |session| &session.heard_ms);
        let ends = heard.iter().skip(1).copied().chain([now]);
        let silent = heard.iter().zip(ends).any(|(from, to)| to >= decided && to - from >= timeout_ms);
        ensure!(
            silent || heard.is_empty(),
            "session 0x{session:x} with a timeout of {timeout_ms} ms expires at {now}; heard at {:?}",
            &heard[heard.len().saturating_sub(8)..]
        );
        Ok(())
    }

    // --- crashes ----------------------------------------------------------------------------------------------------

    /// The server died. What it had sent may still be read.
    pub fn crashed(&mut self) {
        self.full_since_ms = None;
    }

    /// A server has recovered to this View.
    pub fn recovered(&mut self, view: &View) -> Checked {
        self.figures.recoveries += 1;
        let zxid = view.zxid().0 as i64;
        ensure!(zxid >= self.known, "lost: 0x{:x} was known, recovery ends at 0x{zxid:x}", self.known);
        ensure!(zxid <= self.model.last, "recovered 0x{zxid:x}, but 0x{:x} was the last", self.model.last);
        self.figures.undone += (self.model.last - zxid) as u64;
        self.model.truncate(zxid);
        for session in self.sessions.values_mut() {
            session.executed.retain(|_, executed| executed.zxid <= zxid);
            // It gets its whole timeout again.
            session.heard_ms = vec![self.running_ms];
        }
        self.writes.clear();
        self.compare(view)
    }

    /// The whole tree and the sessions of a View, against the model.
    pub fn compare(&self, view: &View) -> Checked {
        let zxid = view.zxid().0 as i64;
        let mut found = 0;
        for (path, znode) in tree_of(view) {
            found += 1;
            let expected = self.model.at(&path, zxid);
            ensure!(
                expected.is_some_and(|expected| **expected == znode),
                "at 0x{zxid:x} {path} is {znode:?}, not {expected:?}"
            );
        }
        let expected = self.model.tree(zxid).count();
        ensure!(found == expected, "at 0x{zxid:x} there are {found} znodes, not {expected}");
        let sessions: BTreeMap<i64, i32> =
            view.sessions().map(|(session, timeout_ms)| (session.0, timeout_ms)).collect();
        let open =
            |life: &crate::model::Life| life.opened <= zxid && life.closed.is_none_or(|closed| closed > zxid);
        let expected: BTreeMap<i64, i32> = self
            .model
            .sessions
            .iter()
            .filter(|(_, life)| open(life))
            .map(|(id, life)| (*id, life.timeout_ms))
            .collect();
        ensure!(sessions == expected, "at 0x{zxid:x} sessions are {sessions:x?}, not {expected:x?}");
        Ok(())
    }

    /// Nothing may be owed to anybody: called when the server has had time to answer all.
    pub fn settled(&self) -> Checked {
        for (number, connection) in &self.connections {
            ensure!(
                connection.sent.is_empty(),
                "connection {number} waits for {:?}",
                connection.sent.front()
            );
            ensure!(connection.due.is_empty(), "connection {number} waits for events {:?}", connection.due);
        }
        Ok(())
    }

    /// Nothing is left that nothing holds.
    pub fn reaped_all(&self, wall_ms: i64) -> Checked {
        for (path, znode) in self.model.tree(self.model.last) {
            ensure!(
                !is_reapable(znode, wall_ms - REAP_MS),
                "{path} should have been reaped by {wall_ms}: {znode:?}"
            );
        }
        Ok(())
    }

    /// Sessions that should have expired by now: open, and silent for this long beyond their timeouts.
    pub fn overdue(&self, beyond_ms: u64) -> Checked {
        for (session, life) in self.model.sessions.iter().filter(|(_, life)| life.closed.is_none()) {
            let heard = self.sessions.get(session).and_then(|session| session.heard_ms.last()).copied();
            // No client has heard of it yet, so when it began is not known here.
            let Some(since) = heard else { continue };
            let due = since + life.timeout_ms as u64 + beyond_ms;
            ensure!(
                self.running_ms < due,
                "session 0x{session:x} ({} ms) lives at {} and was last heard at {heard:?}",
                life.timeout_ms,
                self.running_ms
            );
        }
        Ok(())
    }
}

fn judge_write(
    made: &mut Connection,
    session: &Session,
    sent: &Sent,
    reply: &Reply,
    may_refuse: bool,
) -> Checked {
    if reply.err == error::NOT_READ_ONLY && !session.executed.contains_key(&sent.xid) {
        ensure!(may_refuse, "refused, but the disk was never full");
        made.unproposed.retain(|xid| *xid != sent.xid);
        return Ok(());
    }
    ensure!(!made.refused.contains(&sent.xid), "a later write was executed before it");
    let executed =
        session.executed.get(&sent.xid).ok_or_else(|| format!("{sent:?} answered, but never executed"))?;
    ensure!(reply.zxid == executed.zxid, "executed at 0x{:x}", executed.zxid);
    let answer = Answer { err: reply.err, body: reply.body.clone() };
    ensure!(answer == executed.answer, "{sent:?} must be answered {:02x?}", executed.answer);
    Ok(())
}

fn judge_read(model: &Model, made: &mut Connection, sent: &Sent, reply: &Reply) -> Checked {
    let zxid = reply.zxid;
    let watches = &mut made.watches;
    let caught_up = std::mem::take(&mut made.caught_up);
    let missed = match &sent.request {
        Request::SetWatches { relative, lists } => watches.set(model, zxid, *relative, lists),
        _ => Vec::new(),
    };
    ensure!(caught_up == missed, "{sent:?} brought {caught_up:?}, not {missed:?}");
    let expected = match &sent.request {
        Request::Read { path, kind, watch } => {
            let answer = model.read(path, *kind, zxid);
            let table = match kind {
                ReadKind::Exists | ReadKind::Data => &mut watches.data,
                ReadKind::Children | ReadKind::ChildrenStat => &mut watches.child,
            };
            if *watch && (answer.err == error::OK || *kind == ReadKind::Exists) {
                table.insert(path.clone());
            }
            answer
        }
        Request::AddWatch { path, recursive } => {
            let table = if *recursive { &mut watches.recursive } else { &mut watches.persistent };
            table.insert(path.clone());
            // ErrorResponse(0), as Apache has it.
            Answer { err: error::OK, body: Body::new().int(0).0 }
        }
        Request::SetWatches { .. } => Answer { err: error::OK, body: Vec::new() },
        Request::MultiRead(reads) => model.multi_read(reads, zxid),
        Request::FindWatches { path, kind, remove } => {
            let err = if watches.find(path, *kind, *remove) { error::OK } else { error::NO_WATCHER };
            Answer { err, body: Vec::new() }
        }
        Request::Sync { path } => Answer { err: error::OK, body: Body::new().string(path).0 },
        Request::Ephemerals => {
            let owned: Vec<String> = model.ephemerals(made.session, zxid).into_iter().collect();
            Answer { err: error::OK, body: Body::new().strings(&owned).0 }
        }
        Request::Ping => Answer { err: error::OK, body: Vec::new() },
        Request::Write(_) | Request::Multi(_) | Request::Close => return Err("no read".into()),
    };
    let body = match &sent.request {
        Request::Read { kind: ReadKind::Children | ReadKind::ChildrenStat, .. } | Request::Ephemerals
            if reply.err == 0 =>
        {
            sorted(&reply.body).ok_or("no list of names")?
        }
        Request::MultiRead(_) => sorted_results(&reply.body).ok_or("no list of results")?,
        _ => reply.body.clone(),
    };
    let answer = Answer { err: reply.err, body };
    ensure!(answer == expected, "{sent:?} at 0x{zxid:x} must be answered {expected:02x?}");
    Ok(())
}

/// A vector of names with whatever follows, the names in ascending order.
fn sorted(body: &[u8]) -> Option<Vec<u8>> {
    let mut reader = Reader(body);
    let mut names = reader.strings()?;
    names.sort();
    Some(Body::new().strings(&names).raw(reader.0).0)
}

/// Results of a multiRead, the names of children in ascending order.
fn sorted_results(body: &[u8]) -> Option<Vec<u8>> {
    let mut reader = Reader(body);
    let mut sorted = Body::new();
    loop {
        let (kind, done, err) = (reader.int()?, reader.byte()? != 0, reader.int()?);
        sorted = sorted.int(kind).bool(done).int(err);
        sorted = match kind {
            _ if done => return Some(sorted.raw(reader.0).0),
            op::GET_DATA => {
                let data = reader.buffer()?;
                sorted.buffer(data).raw(reader.take(STAT_BYTES)?)
            }
            op::GET_CHILDREN => {
                let mut names = reader.strings()?;
                names.sort();
                sorted.strings(&names)
            }
            _ => sorted.int(reader.int()?),
        };
    }
}

const STAT_BYTES: usize = 68;

impl Connection {
    /// Holds all txns up to `zxid` against the watches. Only the events of the last one may still be outstanding.
    fn tell(&mut self, model: &Model, zxid: i64) -> Checked {
        ensure!(zxid <= model.last, "news of 0x{zxid:x}, which nobody has proposed");
        while self.told < zxid {
            ensure!(self.due.is_empty(), "events of 0x{:x} missing: {:?}", self.told, self.due);
            self.told += 1;
            for change in model.changes(self.told) {
                self.watches.fire(change.kind, &change.path, &mut self.due);
            }
        }
        Ok(())
    }
}

const CREATED: i32 = 1;
const DELETED: i32 = 2;
const DATA_CHANGED: i32 = 3;
const CHILDREN_CHANGED: i32 = 4;

impl Watches {
    /// Registers what setWatches lists and returns what has been missed since `relative`.
    fn set(&mut self, model: &Model, zxid: i64, relative: i64, lists: &WatchLists) -> Vec<(i32, String)> {
        let WatchLists { data, exist, child, persistent, recursive } = lists;
        self.persistent.extend(persistent.iter().cloned());
        self.recursive.extend(recursive.iter().cloned());
        let mut missed = Vec::new();
        for path in data {
            match model.at(path, zxid) {
                None => missed.push((DELETED, path.clone())),
                Some(znode) if znode.mzxid > relative => missed.push((DATA_CHANGED, path.clone())),
                Some(_) => drop(self.data.insert(path.clone())),
            }
        }
        for path in exist {
            match model.at(path, zxid) {
                None => drop(self.data.insert(path.clone())),
                Some(_) => missed.push((CREATED, path.clone())),
            }
        }
        for path in child {
            match model.at(path, zxid) {
                None => missed.push((DELETED, path.clone())),
                Some(znode) if znode.pzxid > relative => missed.push((CHILDREN_CHANGED, path.clone())),
                Some(_) => drop(self.child.insert(path.clone())),
            }
        }
        missed
    }

    /// Whether there are any of that kind on the path, which are then removed if so wished.
    fn find(&mut self, path: &str, kind: i32, remove: bool) -> bool {
        let tables = [
            (&mut self.child, [1, 3]),
            (&mut self.data, [2, 3]),
            (&mut self.persistent, [4, 3]),
            (&mut self.recursive, [5, 3]),
        ];
        let mut found = false;
        for (table, _) in tables.into_iter().filter(|(_, kinds)| kinds.contains(&kind)) {
            found |= if remove { table.remove(path) } else { table.contains(path) };
        }
        found
    }

    fn fire(&mut self, kind: ChangeKind, path: &str, due: &mut VecDeque<(i32, String)>) {
        let event = match kind {
            ChangeKind::Created => CREATED,
            ChangeKind::Deleted => DELETED,
            ChangeKind::DataChanged => DATA_CHANGED,
        };
        let above = |root: &String| {
            root == "/"
                || path == root
                || path.strip_prefix(root.as_str()).is_some_and(|rest| rest.starts_with('/'))
        };
        let mut told = self.data.remove(path);
        told |= self.persistent.contains(path) || self.recursive.iter().any(above);
        if kind == ChangeKind::Deleted {
            told |= self.child.remove(path);
        }
        if told {
            due.push_back((event, path.to_owned()));
        }
        if kind != ChangeKind::DataChanged {
            let parent = parent_of(path);
            if self.child.remove(parent) | self.persistent.contains(parent) {
                due.push_back((CHILDREN_CHANGED, parent.to_owned()));
            }
        }
    }
}

/// A View as the model would hold it.
fn tree_of(view: &View) -> Vec<(String, crate::model::Znode)> {
    let mut found = Vec::new();
    let mut walk = view.walk();
    while let Some((path, node)) = walk.next() {
        let path = if path.is_empty() { "/" } else { path };
        let (stat, wire) = (node.persisted(), node.stat());
        let znode = crate::model::Znode {
            data: node.data().map(<[u8]>::to_vec),
            czxid: stat.czxid.0 as i64,
            mzxid: stat.mzxid.0 as i64,
            pzxid: stat.pzxid.0 as i64,
            ctime: stat.ctime.0,
            mtime: stat.mtime.0,
            version: stat.version,
            creates: stat.cversion,
            aversion: stat.aversion,
            owner: wire.ephemeral_owner,
            keep: match node.owner() {
                Owner::Persistent => Keep::Always,
                Owner::Ephemeral(_) => Keep::Ephemeral,
                Owner::Container => Keep::Container,
                Owner::Ttl(ms) => Keep::Ttl(ms as i64),
            },
            children: node.children().map(str::to_owned).collect(),
        };
        found.push((path.to_owned(), znode));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Write;
    use ostler_engine::model::{SessionId, WallMillis, Xid};
    use ostler_engine::wire::TxnHeader;
    use ostler_engine::world::{Head, Settings};
    use ostler_replication::Zxid;

    const SESSION: i64 = 7;

    /// A session of one connection, with `/c`, a container that had a child, `/t` with a TTL of 100 ms, and `/n`.
    fn checker() -> Checker {
        let mut head = Head::new(Settings { hash_seed: [1, 2], digests: true });
        let mut checker = Checker::new(&head.seal());
        let stamp = |zxid| Stamp { zxid, time: 1000, session: SESSION };
        checker.model.open_session(stamp(1), 4000);
        let create = |path: &str, keep| {
            let (path, data) = (path.to_owned(), b"data".to_vec());
            Request::Write(Write::Create { path, data, keep, sequential: false, with_stat: true })
        };
        let delete = |path: &str| Request::Write(Write::Delete { path: path.to_owned(), version: -1 });
        let writes = [
            create("/c", Keep::Container),
            create("/c/a", Keep::Always),
            delete("/c/a"),
            create("/t", Keep::Ttl(100)),
            create("/n", Keep::Always),
        ];
        for (zxid, write) in (2..).zip(&writes) {
            assert_eq!(checker.model.execute(stamp(zxid), write).err, error::OK);
        }
        checker.connecting(1, 0, 0);
        let answer = Body::new().int(0).int(4000).long(SESSION).buffer(Some(&[1; 16])).bool(false).0;
        checker.frame(1, &answer).unwrap();
        checker
    }

    fn reply(checker: &mut Checker, xid: i32, request: &Request, err: i32, body: &[u8]) -> Checked {
        checker.sent(1, xid, request);
        let frame = Body::new().int(xid).long(checker.model.last).int(err).raw(body).0;
        checker.frame(1, &frame).map(drop)
    }

    #[test]
    fn who_asked_for_the_session_in_time_was_heard_whether_answered_or_not() {
        let check = |arrives: usize, all_read: Option<bool>, right: bool| {
            let mut checker = checker();
            checker.running_ms = 3000;
            checker.gone(1, true);
            checker.connecting(2, SESSION, 40);
            checker.arrived(2, 30);
            checker.arrived(2, arrives);
            if let Some(all_read) = all_read {
                checker.gone(2, all_read);
            }
            checker.running_ms = 6000;
            assert_eq!(checker.expired(SESSION).is_ok(), right, "{arrives} {all_read:?}");
        };
        check(10, None, false);
        check(10, Some(true), false);
        // Half a request is none, and what was lost with its connection is none either.
        check(9, None, true);
        check(10, Some(false), true);
    }

    #[test]
    fn a_multi_read_that_shows_anything_else_is_seen() {
        let request =
            Request::MultiRead(vec![("/n".into(), false), ("/no".into(), false), ("/".into(), true)]);
        let checker = checker();
        let right = checker.model.multi_read(
            match &request {
                Request::MultiRead(reads) => reads,
                _ => unreachable!("as above"),
            },
            checker.model.last,
        );
        reply(&mut self::checker(), 1, &request, 0, &right.body).unwrap();
        for at in 0..right.body.len() {
            let mut wrong = right.body.clone();
            wrong[at] ^= 1;
            assert!(reply(&mut self::checker(), 1, &request, 0, &wrong).is_err(), "byte {at}");
        }
    }

    #[test]
    fn watches_that_are_removed_and_are_not_are_told_apart() {
        let watch = |path: &str, recursive| Request::AddWatch { path: path.into(), recursive };
        let find = |kind, remove| Request::FindWatches { path: "/n".into(), kind, remove };
        let zero = Body::new().int(0).0;
        let check = |kind: i32, remove: bool, err: i32, again: i32| {
            let mut checker = checker();
            reply(&mut checker, 1, &watch("/n", false), 0, &zero).unwrap();
            reply(&mut checker, 2, &find(kind, remove), err, &[]).unwrap();
            let wrong = if err == 0 { error::NO_WATCHER } else { 0 };
            let mut other = self::checker();
            reply(&mut other, 1, &watch("/n", false), 0, &zero).unwrap();
            assert!(reply(&mut other, 2, &find(kind, remove), wrong, &[]).is_err());
            reply(&mut checker, 3, &find(3, false), again, &[]).unwrap();
        };
        check(4, true, 0, error::NO_WATCHER);
        check(3, true, 0, error::NO_WATCHER);
        check(4, false, 0, 0);
        check(5, true, error::NO_WATCHER, 0);
        check(2, true, error::NO_WATCHER, 0);
    }

    #[test]
    fn an_event_of_a_removed_watch_is_seen() {
        let mut checker = checker();
        reply(
            &mut checker,
            1,
            &Request::AddWatch { path: "/n".into(), recursive: true },
            0,
            &Body::new().int(0).0,
        )
        .unwrap();
        let remove = Request::FindWatches { path: "/n".into(), kind: 5, remove: true };
        reply(&mut checker, 2, &remove, 0, &[]).unwrap();
        let set = Write::SetData { path: "/n".into(), data: vec![1], version: -1 };
        let zxid = checker.model.last + 1;
        checker.model.execute(Stamp { zxid, time: 2000, session: SESSION }, &Request::Write(set));
        let event = Body::new().int(-1).long(zxid).int(0).int(DATA_CHANGED).int(3).string("/n").0;
        assert!(checker.frame(1, &event).is_err());
    }

    /// Whether the checker lets `/path` be reaped at that wall time.
    fn reaps(path: &str, wall_ms: i64) -> bool {
        let mut checker = checker();
        let zxid = checker.model.last + 1;
        let body = TxnBody::DeleteContainer { path: path.into() };
        let header = TxnHeader {
            session: SessionId(0),
            cxid: Xid(0),
            zxid: Zxid(zxid as u64),
            time: WallMillis(wall_ms),
            kind: body.kind(),
        };
        let mut entry = Vec::new();
        TxnEntry { header, body, digest: None }.encode(&mut entry);
        checker.proposed(&entry).is_ok()
    }

    #[test]
    fn only_what_nothing_holds_is_reaped_and_all_of_it() {
        assert!(reaps("/c", 1000));
        assert!(reaps("/t", 1101));
        assert!(!reaps("/t", 1100));
        assert!(!reaps("/n", 9000));
        assert!(!reaps("/none", 9000));
        let why = checker().reaped_all(9000).unwrap_err();
        assert!(why.contains("/c should have been reaped"), "{why}");
    }
}
