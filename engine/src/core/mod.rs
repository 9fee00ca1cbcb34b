//! The one that decides: validates requests against the newest state, turns them into txns, applies those, seals
//! batches, tracks client sessions, and learns from `Broadcast` what is committed.
//! Pure: time, requests and completions go in through `step` and `turn`, decisions come out of `next_output` in the
//! order that matters.
//! Not here: sockets, threads, clocks, files; reads and watches (workers).
//!
//! Invariants:
//! - every write whose body decodes takes one zxid, rejected ones too; nothing else does;
//! - no outcome is published before the txns up to its zxid are committed;
//! - outcomes for one connection come in the order of its requests;
//! - a request counts only if it comes from the connection that owns its session.

mod answer;
mod batch;
mod close;
mod foresee;
mod hear;
mod lead;
mod learn;
mod listing;
mod multi;
mod owner;
mod quota;
mod reap;
mod sessions;
mod settings;
mod shown;
mod snapshots;
mod validate;
mod write;

#[cfg(test)]
mod tests;

pub use settings::Settings;
pub use shown::{Dump, Expired, Figures};

use crate::intake::{CoreRequest, Query};
use crate::limits;
use crate::model::{ErrorCode, SessionId, WallMillis, Xid, session};
use crate::ring::{After, Batch, ConnRef, Event, News};
use crate::wire::{ConnectRequest, ConnectResponse, JutePut, TxnBody, TxnHeader, reply, txn};
use crate::world::{Head, Known, Room, TxnResult, View};
use batch::Open;
use close::Closings;
use lead::Learners;
use learn::Learning;
use listing::Listing;
use ostler_replication::{
    Broadcast, Epoch, Epochs, History, Input, Link, Moment, Number, Outputs, Port, Proposal, Role, ServerId,
    Status, Ticket, Zxid,
};
use owner::{Origin, Owner};
use reap::Reaper;
use sessions::{Due, Place, Sessions, Standing};
use snapshots::Snapshots;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use write::Asker;

/// Both clocks at one point.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Now {
    pub mono: Moment,
    /// Stamps txns, decides nothing but the age of container and TTL znodes, which is stored as wall time.
    pub wall: WallMillis,
}

/// Room in the log or in memory, from plenty to none. A full disk is a state, not an end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Space {
    #[default]
    Ok,
    /// New writes are refused; deletes, closes, expiry and new sessions, which may only want to read, use the reserve.
    Reserve,
    /// Only closeSession is taken.
    Floor,
    /// Nothing is; expiry is postponed.
    Full,
}

/// What happened.
pub enum CoreInput {
    Request(CoreRequest),
    /// Everything up to this zxid is on stable storage. The number is that of the last `Append` this stands for.
    Durable {
        number: Number,
        zxid: Zxid,
    },
    Space(Space),
    /// The epoch files hold these values.
    Persisted {
        number: Number,
        epochs: Epochs,
    },
    /// The log ends at `to`, and this is the world there. `None`: it cannot be cut there, and nothing has changed.
    Truncated {
        number: Number,
        to: Zxid,
        world: Option<Box<Head>>,
    },
    /// The snapshot received is on stable storage, and this is its world. `None`: it could not be written, or was not
    /// whole, and nothing has changed.
    Installed {
        number: Number,
        zxid: Zxid,
        world: Option<Box<Head>>,
    },
    History {
        link: Link,
        number: Number,
        history: History,
    },
    /// From the network, for the broadcast: `Linked`, `Received`, `Drained`, `Progress`, `Unlinked`, `Unreachable`,
    /// `Streamed`.
    Peer(Input),
    /// The operator wants a snapshot now.
    SnapshotWanted,
    /// The snapshot that `TakeSnapshot` asked for is written, with its size in bytes, or was given up.
    SnapshotEnded(Option<u64>),
}

/// What is to be done, in this order.
pub enum CoreOutput {
    // For the log, one queue; answers bring the number back.
    Append {
        number: Number,
        proposal: Proposal,
    },
    Persist {
        number: Number,
        epochs: Epochs,
    },
    /// Recover a world up to `to`, then remove everything behind it from the log.
    Truncate {
        number: Number,
        to: Zxid,
    },
    /// Make a world of the snapshot received through this link, and it what the log stands behind.
    Install {
        number: Number,
        link: Link,
        zxid: Zxid,
    },
    /// Read what the log holds behind `after` up to `to`; outside of the queue.
    ReadHistory {
        number: Number,
        link: Link,
        after: Zxid,
        to: Zxid,
    },
    /// Later batches go to a new log file.
    RollLog,
    Publish(Event),
    TakeSnapshot(View),
    Peer(PeerOutput),
    /// For the operator's log.
    Report(String),
    /// This server cannot go on, for this reason.
    Stop(String),
}

/// For the connections to other servers.
pub enum PeerOutput {
    Dial {
        peer: ServerId,
        port: Port,
        addresses: Vec<String>,
    },
    Send(Link, Arc<[u8]>),
    /// The body of a snapshot of this View.
    SendSnapshot(Link, View),
    /// What comes next is a snapshot's body.
    TakeSnapshot(Link),
    Hang(Link, String),
}

/// What the server does for clients: nothing, unless the broadcast says what it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Duty {
    None,
    /// As an ensemble's leader, or without an ensemble.
    Lead,
    Learn,
}

/// A batch on its way to being committed.
struct Sealed {
    last: Zxid,
    view: View,
    batch: Batch,
    txns: usize,
    bytes: usize,
    /// It answers syncs: it is not shown before this has passed.
    ticket: Option<Ticket>,
    /// Learners whose syncs it answers.
    synced: Vec<Link>,
}

pub struct Core {
    settings: Settings,
    head: Head,
    /// At the last committed zxid.
    view: View,
    broadcast: Box<dyn Broadcast>,
    broadcast_outputs: Outputs,
    role: Role,
    role_since: Moment,
    duty: Duty,
    /// Zxids that are given out are above this one: the epoch's, when leading an ensemble.
    epoch_begin: Zxid,
    learners: Learners,
    learning: Learning,
    /// Last zxid that was logged or applied, committed or not: what answers a request of now comes behind it.
    received: Zxid,
    sessions: Sessions,
    closings: Closings,
    listings: VecDeque<Listing>,
    reaper: Reaper,
    snapshots: Snapshots,
    snapshot_wanted: bool,
    sessions_expired: u64,
    /// Since they were last taken, as many as are told one by one.
    expired: Vec<Expired>,
    quota_refusals: quota::Refusals,
    /// In the log.
    disk: Space,
    /// In memory, as of the last turn: no turn takes requests for more than a small part of the reserve.
    room: Room,
    open: Open,
    /// Requests that must not go into the open batch, and all later ones of their sessions, in order.
    put_off: VecDeque<CoreRequest>,
    put_off_bytes: usize,
    /// Number of the last batch with a txn that the core made by itself.
    duties_in: u64,
    /// Counts how often they were looked at.
    round: u64,
    sealed: VecDeque<Sealed>,
    /// Committed, and waiting for their barriers.
    settled: VecDeque<Sealed>,
    /// The last barrier asked for, and the last that has passed.
    ticket: Ticket,
    passed: Ticket,
    outputs: VecDeque<CoreOutput>,
    /// The entry being made.
    scratch: Vec<u8>,
    foreseeing: foresee::Scratch,
    digests: VecDeque<(Zxid, u64)>,
    digest_mismatches: u64,
    digest_differs_at: Option<Zxid>,
    now: Now,
}

impl From<Room> for Space {
    fn from(room: Room) -> Space {
        match room {
            Room::Ample => Space::Ok,
            Room::Low => Space::Reserve,
            Room::Floor => Space::Floor,
            Room::Spent => Space::Full,
        }
    }
}

impl Core {
    /// `head`: as recovered. `begun`: what the broadcast had to say at once. `last_snapshot_bytes`: size of the snapshot
    /// that the head came from, 0 if none.
    pub fn new(
        settings: Settings,
        mut head: Head,
        broadcast: Box<dyn Broadcast>,
        begun: Outputs,
        last_snapshot_bytes: u64,
        now: Now,
    ) -> Core {
        let first_id = session::first_id(settings.session_server, now.wall.0.max(0) as u64);
        let mut sessions = Sessions::new(settings.tick_ms, first_id);
        // What passes before the first turn is a stall, too: nobody could be heard. Nothing came before.
        sessions.note_turn(now.mono);
        sessions.note_taken(now.mono);
        let view = head.seal();
        let received = view.zxid();
        let mut core = Core {
            reaper: Reaper::new(settings.containers),
            snapshots: Snapshots::new(&settings, last_snapshot_bytes),
            snapshot_wanted: false,
            sessions_expired: 0,
            expired: Vec::new(),
            quota_refusals: quota::Refusals::default(),
            settings,
            head,
            view,
            broadcast,
            broadcast_outputs: begun,
            role: Role::Looking,
            role_since: now.mono,
            duty: Duty::None,
            epoch_begin: Zxid::ZERO,
            learners: Learners::default(),
            learning: Learning::default(),
            received,
            sessions,
            closings: Closings::default(),
            listings: VecDeque::new(),
            disk: Space::Ok,
            room: Room::Ample,
            open: Open::default(),
            put_off: VecDeque::new(),
            put_off_bytes: 0,
            duties_in: u64::MAX,
            round: 1,
            sealed: VecDeque::new(),
            settled: VecDeque::new(),
            ticket: Ticket(0),
            passed: Ticket(0),
            outputs: VecDeque::new(),
            scratch: Vec::new(),
            foreseeing: foresee::Scratch::default(),
            digests: VecDeque::new(),
            digest_mismatches: 0,
            digest_differs_at: None,
            now,
        };
        core.hear_all();
        // Nobody listens yet: the ring's first event says it.
        core.outputs.retain(|output| !matches!(output, CoreOutput::Publish(_)));
        core
    }

    /// What the ring begins with.
    pub fn first_event(&self) -> Event {
        Event { view: self.view.clone(), news: News::Role(self.role) }
    }

    /// What this server is to its clients.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Where the server stands in its ensemble.
    pub fn status(&self) -> Status {
        self.broadcast.status()
    }

    /// Syncs of learners that wait for txns before them.
    pub fn pending_syncs(&self) -> usize {
        self.learners.syncs()
    }

    /// For how long the server has had its role, milliseconds.
    pub fn role_age_ms(&self) -> u64 {
        self.now.mono.since(self.role_since) / 1_000_000
    }

    /// When a turn is wanted at the latest, whatever else happens.
    pub fn next_timeout(&self) -> Option<Moment> {
        self.broadcast.next_timeout()
    }

    /// The newest committed state.
    pub fn view(&self) -> View {
        self.view.clone()
    }

    pub fn next_output(&mut self) -> Option<CoreOutput> {
        self.outputs.pop_front()
    }

    /// False: the batch that waits is large enough. Inputs other than requests are always welcome.
    pub fn wants_requests(&self) -> bool {
        (self.has_room()
            && self.put_off.len() < self.settings.batch_txns_max
            && self.put_off_bytes < self.settings.batch_bytes_enough()
            || self.makes_no_txns())
            && self.learning.len() < limits::FORWARDED_REQUESTS_MAX
            && self.learning.forwarded_bytes() < limits::FORWARDED_BYTES_MAX
            && !self.is_spent()
    }

    /// The epoch's zxids come to their end. The broadcast sees it, too, and hands leadership over; until then nothing
    /// more is begun. Without an ensemble the next epoch begins by itself.
    fn is_spent(&self) -> bool {
        self.epoch_begin != Zxid::ZERO && self.duty == Duty::Lead && self.head.zxid().is_nearly_spent()
    }

    /// The open batch takes further txns.
    fn has_room(&self) -> bool {
        self.open.bytes() < self.settings.batch_bytes_enough()
            && self.open.txns < self.settings.batch_txns_max
            && self.open.changes.list.len() < limits::BATCH_CHANGES_ENOUGH
    }

    /// While the log's disk is full no request makes a txn, so that they are taken and answered however large the batch
    /// is that waits for space. Only what waits behind that batch must not pile up.
    fn makes_no_txns(&self) -> bool {
        self.disk == Space::Full
            && self.open.frames.len() < limits::STUCK_REPLY_BYTES_MAX
            && self.put_off.len() < limits::STUCK_REQUESTS_MAX
            && self.put_off_bytes < limits::STUCK_REPLY_BYTES_MAX
    }

    /// The open batch is held back for more (`flushDelay`): the next turn should come within a millisecond or two.
    pub fn is_holding(&self) -> bool {
        let Settings { flush_delay_ms, flush_idle_ms, .. } = self.settings;
        let younger = |than_ms: u64, since: Moment| self.now.mono.since(since) < than_ms * 1_000_000;
        self.open.txns > 0
            && self.has_room()
            && younger(flush_delay_ms, self.open.since)
            && (flush_idle_ms == 0 || younger(flush_idle_ms, self.open.last_entry))
    }

    /// Fetches the memory that these requests, which will be stepped next, are going to touch.
    pub fn foresee(&mut self, requests: &VecDeque<CoreRequest>) {
        if self.duty == Duty::Lead {
            foresee::foresee(&self.head, requests, &mut self.foreseeing);
        }
    }

    /// Nothing is proposed, waiting to be, or waiting to be told.
    pub fn is_quiet(&self) -> bool {
        self.sealed.is_empty()
            && self.settled.is_empty()
            && self.open.is_blank()
            && self.put_off.is_empty()
            && self.learners.is_quiet()
            && self.learning.is_idle()
            && self.listings.is_empty()
            && self.outputs.is_empty()
    }

    pub fn step(&mut self, input: CoreInput, now: Now) {
        self.now = now;
        // Before anything is touched: a deadline counted from a stall's end would be late by the whole stall.
        self.sessions.note_turn(now.mono);
        match input {
            CoreInput::Request(request) => self.request(request),
            CoreInput::Durable { number, zxid } => self.broadcast(Input::Durable { number, zxid }),
            CoreInput::Persisted { number, epochs } => self.broadcast(Input::Persisted { number, epochs }),
            CoreInput::Truncated { number, to, world } => {
                let done = self.take_world(world);
                self.broadcast(Input::Truncated { number, to, done });
            }
            CoreInput::Installed { number, zxid, world } => {
                let done = self.take_world(world);
                self.broadcast(Input::Installed { number, zxid, done });
            }
            CoreInput::History { link, number, history } => {
                self.broadcast(Input::History { link, number, history });
            }
            CoreInput::Peer(input) => self.broadcast(input),
            CoreInput::Space(space) => self.disk = space,
            CoreInput::SnapshotWanted => self.snapshot_wanted = true,
            CoreInput::SnapshotEnded(bytes) => self.snapshots.ended(bytes, now.mono),
        }
    }

    /// Ends a round of inputs: duties of the clock, then sealing. At least every `limits::WAIT_MS_MAX`, for later turns
    /// count as a stall of the process. `heard`: all requests that came before then have been stepped.
    pub fn turn(&mut self, now: Now, heard: Moment) {
        self.now = now;
        self.sessions.note_turn(now.mono);
        self.sessions.note_taken(heard);
        if self.broadcast.next_timeout().is_some_and(|at| at <= now.mono) {
            self.broadcast(Input::Timeout);
        }
        self.room = self.head.room(self.room);
        self.step_down_if_unfit();
        match self.duty {
            Duty::Lead => self.end_leaders_turn(),
            Duty::Learn | Duty::None => {
                self.list_portion();
                self.end_learners_turn();
            }
        }
        self.begin_snapshot();
        // In proportion to what waits, so that no load brings about more than is freed.
        self.head.reclaim(limits::RECLAIM_RECORDS_PORTION.max(self.head.backlog() / 4));
    }

    fn end_leaders_turn(&mut self) {
        self.take_asked();
        // Batches that requests fill one after the other would leave none for the duties.
        let crowded_out = !self.has_room() && self.duties_in != self.open.number;
        self.duties();
        self.list_portion();
        let may_seal = self.broadcast.may_propose();
        for _ in 0..limits::TURN_BATCHES_MAX {
            if may_seal && !self.is_holding() {
                self.seal();
            }
            let told = self.publish_answers();
            if self.put_off.is_empty() {
                break;
            } else if self.open.is_blank() {
                self.take_up();
            } else if !told || !self.take_up_told() {
                break;
            }
        }
        // The broadcast may have ended the role meanwhile.
        if crowded_out && self.duty == Duty::Lead {
            self.duties();
        }
    }

    /// More can be done right away: the driver does not sleep.
    pub fn has_work(&self) -> bool {
        !self.closings.is_empty() && self.space() < Space::Floor && self.has_room()
            || !self.put_off.is_empty() && self.open.is_blank()
            || self.learners.is_crowded() && self.takes_asked()
            || self.sessions.has_due(self.has_room()) && self.space() < Space::Full
            || self.may_list()
            || self.reaper.is_scanning()
    }

    fn space(&self) -> Space {
        if self.is_spent() { Space::Full } else { self.disk.max(self.room.into()) }
    }

    fn request(&mut self, request: CoreRequest) {
        match self.duty {
            Duty::Lead => self.request_here(request),
            Duty::Learn => self.request_of_client(request),
            Duty::None => self.turn_away(request),
        }
    }

    /// A server that knows nothing for certain answers nothing.
    fn turn_away(&mut self, request: CoreRequest) {
        match request {
            CoreRequest::Connect { from, .. } => self.open.quiet(from, self.head.zxid(), After::Close),
            CoreRequest::Write { from, .. }
            | CoreRequest::Sync { from, .. }
            | CoreRequest::Query { from, .. } => self.open.quiet(from, self.head.zxid(), After::Drop),
            CoreRequest::Touch(_) | CoreRequest::Silent { .. } | CoreRequest::Gone { .. } => {}
        }
    }

    fn request_here(&mut self, request: CoreRequest) {
        match request {
            CoreRequest::Connect { from, ask } => self.connect(from, &ask),
            CoreRequest::Write { from, session, xid, op, ref body, ref ids, apart } => {
                match self.admit(from, session, apart) {
                    Standing::Refused => {}
                    Standing::Later => self.put_off(request),
                    Standing::Now => {
                        let batch = self.open.number;
                        self.write(Asker { from: Origin::Here(from), session, xid }, op, body, ids);
                        if self.open.number != batch {
                            self.sessions.moved_on(session, self.open.number);
                        }
                    }
                }
            }
            CoreRequest::Sync { from, session, xid, ref path } => match self.admit(from, session, false) {
                Standing::Refused => {}
                Standing::Later => self.put_off(request),
                Standing::Now => {
                    let zxid = self.head.zxid();
                    self.open.reply(from, zxid, xid, After::Keep, |out| {
                        reply::frame_reply(out, xid, zxid, ErrorCode::Ok, |out| {
                            out.put_buffer(path.as_deref());
                        });
                    });
                    self.open.has_sync = true;
                    // Alone, whatever was acknowledged is committed; in an ensemble that is to be asked.
                    if self.role == Role::Standalone {
                        self.open.loosen();
                    }
                }
            },
            CoreRequest::Query { from, xid, query: Query::Ephemerals { session, ref prefix } } => {
                match self.admit(from, session, false) {
                    Standing::Refused => {}
                    Standing::Later => self.put_off(request),
                    Standing::Now => self.list_ephemerals(from, session, xid, prefix.as_deref()),
                }
            }
            CoreRequest::Gone { from, session } if self.sessions.has_put_off(session, from, self.round) => {
                self.put_off(request);
            }
            CoreRequest::Touch(sessions) => {
                for session in sessions {
                    self.sessions.touch(session, self.now.mono);
                }
            }
            CoreRequest::Silent { from, session, token } => {
                if self.sessions.silent(session, from, token) {
                    self.expire(session);
                }
            }
            CoreRequest::Gone { from, session } => {
                if self.sessions.gone(session, from) {
                    self.expire(session);
                }
            }
        }
    }

    /// A request from a connection that does not own the session (any more) is dropped, and the connection with it.
    fn admit(&mut self, from: ConnRef, session: SessionId, apart: bool) -> Standing {
        let place = Place { batch: self.open.number, round: self.round, apart };
        let standing = self.sessions.admit(session, from, self.now.mono, place);
        if standing == Standing::Refused {
            self.open.quiet(from, self.head.zxid(), After::Drop);
            self.open.loosen();
        }
        standing
    }

    /// Until the open batch is closed.
    fn put_off(&mut self, request: CoreRequest) {
        self.put_off_bytes += request.bytes();
        self.put_off.push_back(request);
    }

    /// A new batch is open: what was put off comes first. Some of it may be put off again.
    fn take_up(&mut self) {
        self.round += 1;
        // What was answered so far stands in no batch that is open, even if that one was closed without a trace.
        self.open.number += 1;
        self.put_off_bytes = 0;
        for request in std::mem::take(&mut self.put_off) {
            self.request(request);
        }
    }

    fn connect(&mut self, from: ConnRef, ask: &ConnectRequest) {
        let timeout_ms = self.settings.negotiated(ask.timeout_ms);
        if ask.session == SessionId::NONE {
            self.new_session(from, ask, timeout_ms);
        } else {
            self.attach(from, ask, timeout_ms);
        }
    }

    fn new_session(&mut self, from: ConnRef, ask: &ConnectRequest, timeout_ms: i32) {
        if self.space() >= Space::Floor {
            // A handshake has no error code; the client tries elsewhere, or again.
            self.open.quiet(from, self.head.zxid(), After::Close);
            self.open.loosen();
            return;
        }
        let id = self.sessions.fresh_id();
        self.sessions.open(id, timeout_ms, Owner::here(from), self.now.mono);
        let (header, _) = self.execute(id, Xid(0), &TxnBody::CreateSession { timeout_ms });
        self.established(from, ask, id, timeout_ms, header.zxid);
    }

    /// The password comes first, so that nobody can disturb a session whose password they do not have.
    fn attach(&mut self, from: ConnRef, ask: &ConnectRequest, timeout_ms: i32) {
        let zxid = self.head.zxid();
        let known =
            ask.password == Some(session::password(ask.session)) && self.sessions.is_open(ask.session);
        if !known {
            let refused = ConnectResponse::refused(ask.read_only.map(|_| false));
            self.open.reply(from, zxid, Xid(0), After::Close, |out| refused.encode(out));
            self.open.loosen();
            return;
        }
        let before = self.sessions.move_to(ask.session, Owner::here(from), timeout_ms, self.now.mono);
        self.established(from, ask, ask.session, timeout_ms, zxid);
        self.open.loosen();
        if let Some(before) = before.connection() {
            self.open.quiet(before, zxid, After::Drop);
            self.open.loosen();
        }
    }

    fn established(&mut self, to: ConnRef, ask: &ConnectRequest, id: SessionId, timeout_ms: i32, zxid: Zxid) {
        let password = session::password(id);
        let read_only = ask.read_only.map(|_| false);
        let response = ConnectResponse { timeout_ms, session: id, password, read_only };
        let then = After::Established { session: id, timeout_ms };
        self.open.reply(to, zxid, Xid(0), then, |out| response.encode(out));
    }

    /// What the core does by itself and makes txns of: no more of it than the open batch takes, so that a turn is not longer
    /// than one of requests, and those of others go on in between.
    fn duties(&mut self) {
        let before = self.open.txns;
        self.due_sessions();
        self.close_portion();
        self.reap();
        if self.open.txns != before {
            self.duties_in = self.open.number;
        }
    }

    fn due_sessions(&mut self) {
        if self.space() == Space::Full {
            // A closeSession could not be logged: those that are due stay due.
            return;
        }
        let closings = self.closings.len();
        let mut looks = limits::SESSIONS_SCAN_PORTION;
        for _ in 0..limits::EXPIRIES_PORTION {
            // One that is too large to be closed at once costs a look at many paths.
            if self.closings.len() > closings {
                return;
            }
            match self.sessions.next_due(self.has_room(), &mut looks) {
                None => return,
                Some(Due::Expire(session)) => self.expire(session),
                Some(Due::Probe { session, owner, token }) => {
                    self.open.quiet(owner, self.head.zxid(), After::Probe { session, token });
                    self.open.loosen();
                }
            }
        }
    }

    fn reap(&mut self) {
        self.reaper.look(&self.head, self.now.mono, self.now.wall);
        for _ in 0..limits::REAP_SCAN_PORTION {
            if self.space() != Space::Ok || !self.has_room() {
                return;
            }
            let Some(path) = self.reaper.next(self.now.mono) else { return };
            if !self.reaper.is_still_due(&self.head, &path, self.now.wall) {
                continue;
            }
            let body = match validate::reap(&self.head, &path) {
                Ok(()) => TxnBody::DeleteContainer { path: (&*path).into() },
                Err(code) => TxnBody::Error { code: code.to_wire() },
            };
            self.execute(SessionId::NONE, Xid(0), &body);
        }
    }

    /// Makes a txn of `body`: gives it the next zxid, adds it to the open batch and applies it.
    fn execute(&mut self, session: SessionId, cxid: Xid, body: &TxnBody<'_>) -> (TxnHeader, TxnResult) {
        self.execute_known(session, cxid, body, Known::default())
    }

    fn execute_known(
        &mut self,
        session: SessionId,
        cxid: Xid,
        body: &TxnBody<'_>,
        known: Known,
    ) -> (TxnHeader, TxnResult) {
        let header = self.header(session, cxid, body);
        self.encode(&header, body);
        if self.is_crowded() {
            self.seal();
        }
        let result = self.head.apply_known(&header, body, known, &mut self.open.changes);
        self.push_encoded(header.zxid, body);
        (header, result)
    }

    fn header(&self, session: SessionId, cxid: Xid, body: &TxnBody<'_>) -> TxnHeader {
        TxnHeader { session, cxid, zxid: self.next_zxid(), time: self.now.wall, kind: body.kind() }
    }

    /// Into `scratch`, without the digest, which only applying makes.
    fn encode(&mut self, header: &TxnHeader, body: &TxnBody<'_>) {
        self.scratch.clear();
        txn::encode_entry(header, body, None, &mut self.scratch);
    }

    /// Whether what is encoded does not fit the open batch.
    fn is_crowded(&self) -> bool {
        self.open.txns > 0 && self.open.entry_bytes() + self.scratch.len() > self.settings.batch_bytes_max
    }

    /// Whether what is encoded is too large for the log (and for Apache's readers).
    fn is_too_large(&self) -> bool {
        self.scratch.len() + txn::TxnDigest::BYTES + limits::TRAILER_BYTES > self.settings.entry_bytes_max
    }

    /// Adds what is encoded to the open batch, with the digest as of now. Apache leaves it off error txns.
    fn push_encoded(&mut self, zxid: Zxid, body: &TxnBody<'_>) {
        if self.settings.digest && !matches!(body, TxnBody::Error { .. }) {
            self.scratch.put_i32(txn::TxnDigest::VERSION);
            self.scratch.put_i64(self.head.digest() as i64);
        }
        self.open.push_entry(zxid, &self.scratch, self.now.mono);
        self.remember_digest(zxid);
    }

    fn remember_digest(&mut self, zxid: Zxid) {
        if self.settings.digest && u64::from(zxid.counter()).is_multiple_of(limits::DIGEST_TXNS_STEP) {
            if self.digests.len() == limits::DIGESTS_KEPT_MAX {
                self.digests.pop_front();
            }
            self.digests.push_back((zxid, self.head.digest()));
        }
    }

    /// Without an ensemble to elect anyone, a spent counter opens the next epoch by itself; a leader stops long before.
    fn next_zxid(&self) -> Zxid {
        let last = self.head.zxid().max(self.epoch_begin);
        last.successor().unwrap_or_else(|| {
            assert_eq!(self.epoch_begin, Zxid::ZERO, "a leader has handed over before its epoch is spent");
            Zxid::new(Epoch(last.epoch().0 + 1), 1)
        })
    }

    /// Closes the open batch and hands it to the broadcast.
    fn seal(&mut self) {
        if self.open.txns == 0 {
            return;
        }
        let txns = self.open.txns;
        let proposal = self.open.take_proposal();
        let view = self.head.seal();
        assert_eq!(view.zxid(), proposal.last);
        let (ticket, synced) = self.take_syncs();
        let batch = self.open.take_batch();
        let (last, bytes) = (proposal.last, proposal.records.len());
        self.sealed.push_back(Sealed { last, view, batch, txns, bytes, ticket, synced });
        self.broadcast(Input::Propose(proposal));
        if let Some(ticket) = ticket {
            self.broadcast(Input::Barrier(ticket));
        }
    }

    /// The barrier that the syncs of the open batch want, if it has any.
    fn take_syncs(&mut self) -> (Option<Ticket>, Vec<Link>) {
        if !std::mem::take(&mut self.open.has_sync) {
            return (None, Vec::new());
        }
        self.ticket.0 += 1;
        (Some(self.ticket), std::mem::take(&mut self.open.synced))
    }

    /// Outcomes behind which no txn stands: they may go once everything before them is committed. When a proposal waits
    /// for space, which may take long, they need not wait for those of others.
    /// True if the rest may have to wait for long, and the open batch stays open meanwhile.
    fn publish_answers(&mut self) -> bool {
        if self.open.txns == 0 && self.sealed.is_empty() && self.settled.is_empty() {
            if !self.open.outcomes.is_empty() || self.open.has_sync {
                self.publish_open();
            }
            return false;
        }
        // What is settled waits for no space, and the state is ahead of it until it is told.
        if self.disk != Space::Full || !self.settled.is_empty() {
            return false;
        }
        let waiting = self.untold().collect();
        if let Some(batch) = self.open.take_loose(waiting, self.view.zxid()) {
            self.publish(News::Batch(batch));
        }
        true
    }

    fn publish_open(&mut self) {
        let (ticket, synced) = self.take_syncs();
        let batch = self.open.take_batch();
        let Some(barrier) = ticket else { return self.publish(News::Batch(batch)) };
        let (last, view) = (self.view.zxid(), self.view.clone());
        self.settled.push_back(Sealed { last, view, batch, txns: 0, bytes: 0, ticket, synced });
        self.broadcast(Input::Barrier(barrier));
    }

    /// Who waits for what is sealed or settled.
    fn untold(&self) -> impl Iterator<Item = ConnRef> {
        let batches = self.settled.iter().chain(&self.sealed).map(|sealed| &sealed.batch);
        batches.flat_map(|batch| &batch.outcomes).map(|outcome| outcome.to)
    }

    /// A batch was told that leaves the open one open: what was put off behind answers that have gone with it is taken up,
    /// one request of each connection. False if there is nothing like that.
    fn take_up_told(&mut self) -> bool {
        self.round += 1;
        let in_open = self.open.outcomes.iter().map(|outcome| outcome.to);
        let mut waiting: HashSet<ConnRef> = self.untold().chain(in_open).collect();
        let before = self.put_off.len();
        self.put_off_bytes = 0;
        for request in std::mem::take(&mut self.put_off) {
            match request.asker() {
                Some((from, session)) if !waiting.insert(from) => {
                    self.sessions.stays_put_off(session, from, self.round);
                    self.put_off(request);
                }
                asker => {
                    if let Some((_, session)) = asker {
                        self.sessions.moved_on(session, u64::MAX);
                    }
                    self.request(request);
                }
            }
        }
        self.put_off.len() < before
    }

    fn publish(&mut self, news: News) {
        self.outputs.push_back(CoreOutput::Publish(Event { view: self.view.clone(), news }));
    }

    /// Only of what is shown: the world that a server in an ensemble was started with may yet lose its end.
    fn begin_snapshot(&mut self) {
        if self.duty == Duty::None {
            return;
        }
        if self.snapshot_wanted && !self.snapshots.is_running() {
            self.snapshot_wanted = false;
            self.snapshots.begun(self.now.mono);
        } else if !self.snapshots.begin(self.now.mono) {
            return;
        }
        self.outputs.push_back(CoreOutput::RollLog);
        self.outputs.push_back(CoreOutput::TakeSnapshot(self.view.clone()));
    }
}
