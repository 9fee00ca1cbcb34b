//! Judges a run while it goes on: every byte that a client receives, every txn that a server logs or shows, every recovery.
//! Not here: making anything happen (`workload`, `faults`), what is right for one request (`model`).
//!
//! What is checked:
//! - history is one: a zxid is one entry behind one other, whoever logs it; what any server shows is of the committed
//!   history, which only grows, and no server shows less than it did; at equal zxids all digests are equal (`commits`);
//! - writes are linearizable in zxid order: each is executed once, when it is committed, in its connection's order, after
//!   everything anybody had heard of when it was sent, and answered with the very bytes the model gives at that zxid;
//! - reads show exactly the tree at the zxid of their replies, which is never older than what their session has seen, on
//!   this connection or an earlier one, at whichever server (`answers`). They are linearizable behind a sync, and always
//!   where there is one server: none is older than what anybody had heard of when it was sent;
//! - replies come in the order of requests, their zxids never decrease;
//! - watch events: exactly those that the registered watches and the txns demand, in zxid order, before the reply of
//!   their own txn and before any reply that shows their txn; one-shot watches once; nothing from before registration
//!   (`watching`);
//! - a session expires only after a silence of its timeout, and does expire; its ephemerals go with its closeSession
//!   (`hearing`);
//! - after a crash everything that anybody has heard of is there, and the tree is exactly that of some zxid.

mod answers;
mod commits;
mod hearing;
#[cfg(test)]
mod tests;
mod watching;

use crate::model::{Answer, Model, Request, error};
use crate::net::HostId;
use answers::{judge_read, judge_write};
use commits::{Entry, Server, tree_of};
pub use hearing::EnsembleTime;
use hearing::Hearing;
use ostler_engine::world::View;
use ostler_tests::client::{ConnectResponse, EVENT_XID, Reply};
use ostler_tests::jute::Reader;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use watching::Watches;

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
    server: HostId,
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
    /// Writes that became txns without effect, as of a connection that the session has left.
    rejected: BTreeMap<i32, Executed>,
}

pub struct Checker {
    pub model: Model,
    connections: BTreeMap<u64, Connection>,
    sessions: BTreeMap<i64, Session>,
    /// All that was ever logged anywhere, and what each server has logged and shown.
    entries: BTreeMap<i64, Entry>,
    servers: BTreeMap<HostId, Server>,
    /// Of trees that were shown.
    digests: BTreeMap<i64, u64>,
    /// Sessions that a server has decided to close.
    closing: BTreeSet<i64>,
    hearing: Hearing,
    /// Requests of writes by session and xid, for when they are committed.
    writes: BTreeMap<(i64, i32), (u64, Request, i64)>,
    /// Newest zxid that anybody has heard of.
    known: i64,
    /// Time in which the server ran, milliseconds; and since when the log has been taking nothing.
    pub running_ms: u64,
    pub full_since_ms: Option<u64>,
    /// A sync may take so long, and what was decided meanwhile is proposed behind it.
    pub sync_ms_most: u64,
    /// Several servers: then a read may show less than others have heard of.
    is_ensemble: bool,
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
    /// Servers that began to lead, to follow or observe; that lost such a role.
    pub leaders: u64,
    pub learners: u64,
    pub ends: u64,
    /// Times that a server was told to cut its log, and that it took a snapshot of a leader's.
    pub truncated: u64,
    pub installed: u64,
    /// Times that a server had promised a later epoch than the one that stood, and stayed out until that one ended.
    pub stayed_out: u64,
    /// Milliseconds that went by, in so many turns.
    pub millis: u64,
    pub turns: u64,
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
        self.leaders += other.leaders;
        self.learners += other.learners;
        self.ends += other.ends;
        self.truncated += other.truncated;
        self.installed += other.installed;
        self.stayed_out += other.stayed_out;
        self.millis += other.millis;
        self.turns += other.turns;
    }
}

macro_rules! ensure {
    ($holds:expr, $($why:tt)+) => {
        if !$holds {
            return Err(format!($($why)+));
        }
    };
}
use ensure;

/// A TTL znode that is old by less may not have been looked at yet.
const REAP_MS: i64 = 1_500;
impl Checker {
    /// `view`: what a server shows that was never used. `time`, for an ensemble: how its servers count it.
    pub fn new(view: &View, time: Option<EnsembleTime>) -> Checker {
        let mut model = Model::default();
        for (path, znode) in tree_of(view) {
            model.found(&path, znode);
        }
        Checker {
            model,
            connections: BTreeMap::new(),
            sessions: BTreeMap::new(),
            entries: BTreeMap::new(),
            servers: BTreeMap::new(),
            digests: BTreeMap::new(),
            closing: BTreeSet::new(),
            hearing: Hearing::new(time),
            writes: BTreeMap::new(),
            known: 0,
            running_ms: 0,
            full_since_ms: None,
            sync_ms_most: 0,
            is_ensemble: time.is_some(),
            may_refuse: false,
            figures: Figures::default(),
        }
    }

    /// Newest zxid that the session has seen.
    pub fn seen(&self, session: i64) -> i64 {
        self.sessions.get(&session).map_or(0, |session| session.seen)
    }

    /// A connect request of so many bytes was sent; `session` 0 asks for a new one.
    pub fn connecting(&mut self, connection: u64, server: HostId, session: i64, bytes: usize) {
        let seen = self.seen(session);
        let made =
            Connection { server, session, seen, told: seen, to_arrive: bytes, ..Connection::default() };
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
        let asked = self.connections.get(&connection).ok_or("a frame on no connection")?.session;
        if answer.timeout_ms == 0 {
            ensure!(asked != 0, "a new session was refused by a ConnectResponse");
            let open = self.model.sessions.get(&asked).is_some_and(|life| life.closed.is_none());
            // Told by a leader that has decided to close it and has not proposed that yet.
            let decided = self.is_ensemble && (self.expires(asked).is_ok() || self.is_asked_to_close(asked));
            let open = open && !self.closing.contains(&asked) && !decided;
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
        let made = self.connections.get_mut(&connection).ok_or("a frame on no connection")?;
        made.session = session;
        made.established = true;
        made.seen = made.seen.max(life.opened);
        made.told = made.seen;
        let known = self.sessions.entry(session).or_default();
        known.seen = known.seen.max(made.seen);
        known.heard_ms.push(made.arrived_ms);
        known.heard_ms.sort_unstable();
        self.hearing.note(session, made.server, made.arrived_ms);
        for (number, other) in &mut self.connections {
            other.moved |= *number != connection && other.session == session;
        }
        Ok(Heard::Established { session, password: answer.password.unwrap_or_default() })
    }

    fn is_asked_to_close(&self, session: i64) -> bool {
        let mut asked = self.writes.range((session, i32::MIN)..=(session, i32::MAX));
        asked.any(|(_, (_, request, _))| *request == Request::Close)
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
                reply.zxid >= sent.known || self.is_ensemble && !matches!(sent.request, Request::Sync { .. }),
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
}
