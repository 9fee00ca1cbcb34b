//! The worker itself and its turn: read bytes → catch up with the ring → serve → one flush per connection.
//! Not here: the steps (`gather`, `deliver`, `serve`, `flush`), the thread that drives it, the sleep of others.
//!
//! Invariant: what a turn serves was read before the ring's tail was loaded, and is served from the View
//! behind that tail. Bytes that cannot be served yet, because a large fan-out is still being delivered, wait.

use super::accept::{Acceptor, LISTENER};
use super::connection::{Connection, Connections, Phase, Pool};
use super::inspect::Inspection;
use super::mail::{Departure, Departures, Mail, Mailbox, Question};
use super::settings::Shared;
use super::watch::{HashKey, Hit, Watches};
use crate::admin::{Counter, Counters, Summary};
use crate::intake::{CoreRequest, Submitter};
use crate::io::clock::{Clock, Now};
use crate::io::poll::{Poll, Ready};
use crate::limits::{
    TOUCHES_PORTION, TURN_ACCEPTS_MAX, WAIT_MS_MAX, WORKER_REPLY_BYTES_MAX, WRONG_PROTOCOL_LOG_MS,
};
use crate::model::auth::ip_identity;
use crate::model::{Identity, SessionId};
use crate::ring::{ConnRef, Event, News, Subscriber};
use crate::world::{Ahead, ChildOrder, PathHash};
use crossbeam::utils::CachePadded;
use ostler_replication::{Moment, Role};
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// What a worker is made of.
pub struct Parts<P: Poll> {
    /// Its place among the workers: in every `ConnRef`.
    pub index: u16,
    pub poll: P,
    pub ring: Subscriber<Event>,
    pub core: Submitter,
    pub mail: Arc<Mailbox<P::Socket>>,
    pub departures: Departures,
    /// For the one worker whose poll has the listener.
    pub acceptor: Option<Acceptor<P::Socket>>,
    pub shared: Arc<Shared>,
    pub counters: Arc<CachePadded<Counters>>,
    pub clock: Box<dyn Clock>,
    /// Random.
    pub key: HashKey,
}

/// Some connections, their watches, one View.
pub struct Worker<P: Poll> {
    ring: Subscriber<Event>,
    /// The ring's current event has not been delivered to its end.
    delivering: bool,
    pub(super) state: State<P>,
}

/// Everything but the ring, so that the View can be borrowed from there meanwhile.
pub(super) struct State<P: Poll> {
    pub index: u16,
    pub poll: P,
    pub core: Submitter,
    pub mail: Arc<Mailbox<P::Socket>>,
    pub departures: Departures,
    pub acceptor: Option<Acceptor<P::Socket>>,
    /// The listener may have connections waiting.
    pub accept_ready: bool,
    pub shared: Arc<Shared>,
    pub counters: Arc<CachePadded<Counters>>,
    pub tally: Tally,
    pub clock: Box<dyn Clock>,
    pub now: Now,
    pub connections: Connections,
    pub watches: Watches,
    pub pool: Pool,
    pub ready: Vec<Ready>,
    /// Connections whose sockets may have bytes; those we do not want to read stay listed.
    pub to_read: Vec<u32>,
    /// Some of them wait only for room in this turn.
    pub more_to_read: bool,
    /// What this turn read, connection by connection.
    pub arena: Vec<u8>,
    pub arena_used: usize,
    pub jobs: Vec<Job>,
    /// Of the requests in `jobs`, as far as they were looked at ahead.
    pub hashes: Vec<Option<PathHash>>,
    pub ahead: Ahead,
    /// Connections whose waiting input may be served now.
    pub to_serve: Vec<u32>,
    /// Connections with reads to be served before the next batch is delivered.
    pub overtaken: Vec<u32>,
    /// Connections that the core's full queue turned away.
    pub turned_away: Vec<u32>,
    /// Connections with a large reply in production, the one that began first in front.
    pub streams: Vec<u32>,
    /// None of them may go on before clients have taken more of what waits for them.
    pub streams_held: bool,
    /// Bytes made for clients and not yet taken by them, and where that is too much.
    pub reply_bytes: usize,
    pub reply_bytes_max: usize,
    pub to_flush: Vec<u32>,
    /// Connections whose replies wait for that of a write, by slot, generation, and turns waited.
    pub lingering: Vec<(u32, NonZeroU32, u32)>,
    /// This turn serves many.
    pub crowded: bool,
    /// Requests to the core that no connection waits with, and when it was last empty.
    pub backlog: VecDeque<CoreRequest>,
    pub backlog_since: Moment,
    /// Heard from since the last report, by slot.
    pub touched: Vec<u32>,
    pub report_touches: bool,
    pub touch_at: Moment,
    pub sweep_at: Moment,
    pub sweep_slot: u32,
    /// Requests that the core has from our connections.
    pub outstanding: usize,
    /// Places in the batch being delivered.
    pub change_at: usize,
    pub outcome_at: usize,
    pub hits: Vec<Hit>,
    pub event_frames: [Vec<u8>; 2],
    pub order: ChildOrder,
    /// Ids of connections from the address seen last: most come from few.
    pub ids_of_address: Option<(IpAddr, Arc<[Identity]>)>,
    pub strangers: u64,
    pub strangers_logged: Option<Moment>,
    pub accept_failure_logged: Option<Moment>,
    pub questions: Vec<Question>,
    /// As far as it has been taken over: all connections are of it.
    pub role: Role,
    pub is_serving: bool,
    /// While a change of role is under way: connections before this slot are closed.
    pub role_slot: u32,
    pub draining: bool,
    /// The connection heard from last, and when another one was before it.
    pub caller: u32,
    pub others_at: Moment,
}

/// Bytes of one connection to be served in this turn.
pub(super) struct Job {
    pub slot: u32,
    pub generation: NonZeroU32,
    pub source: Source,
    /// In `hashes`.
    pub hashes: Range<usize>,
}

pub(super) enum Source {
    Arena(Range<usize>),
    /// The connection's own input.
    Input,
}

/// Figures of one turn, added to the counters once at its end: a read costs a few additions in registers.
#[derive(Default)]
pub(super) struct Tally {
    /// Requests answered from the View, or handed over.
    pub received: u64,
    /// Reads answered, pings apart.
    pub reads: u64,
    replies: u64,
    pub reply_bytes: u64,
    reply_bytes_least: u64,
    reply_bytes_most: u64,
    reply_bytes_last: u64,
}

impl Tally {
    #[inline]
    pub fn replied(&mut self, bytes: u64) {
        self.reply_bytes_least = if self.replies == 0 { bytes } else { self.reply_bytes_least.min(bytes) };
        self.reply_bytes_most = self.reply_bytes_most.max(bytes);
        self.reply_bytes_last = bytes;
        self.reply_bytes += bytes;
        self.replies += 1;
    }
}

/// What all connections together may bring in one turn.
const ARENA_BYTES: usize = 1 << 20;

impl<P: Poll> Worker<P> {
    pub fn new(parts: Parts<P>) -> Worker<P> {
        let now = parts.clock.now();
        let role = match parts.ring.current().news {
            News::Role(role) => role,
            News::Batch(_) => Role::Standalone,
        };
        let state = State {
            index: parts.index,
            poll: parts.poll,
            core: parts.core,
            mail: parts.mail,
            departures: parts.departures,
            accept_ready: parts.acceptor.is_some(),
            acceptor: parts.acceptor,
            role,
            is_serving: parts.shared.serves(role),
            role_slot: 0,
            shared: parts.shared,
            counters: parts.counters,
            tally: Tally::default(),
            clock: parts.clock,
            now,
            connections: Connections::new(),
            watches: Watches::new(parts.key),
            pool: Pool::new(),
            ready: Vec::new(),
            to_read: Vec::new(),
            more_to_read: false,
            arena: vec![0; ARENA_BYTES],
            arena_used: 0,
            jobs: Vec::new(),
            hashes: Vec::new(),
            ahead: Ahead::default(),
            to_serve: Vec::new(),
            overtaken: Vec::new(),
            turned_away: Vec::new(),
            streams: Vec::new(),
            streams_held: false,
            reply_bytes: 0,
            reply_bytes_max: WORKER_REPLY_BYTES_MAX,
            to_flush: Vec::new(),
            lingering: Vec::new(),
            crowded: false,
            backlog: VecDeque::new(),
            backlog_since: now.mono,
            touched: Vec::new(),
            report_touches: false,
            touch_at: now.mono,
            sweep_at: now.mono,
            sweep_slot: 0,
            outstanding: 0,
            change_at: 0,
            outcome_at: 0,
            hits: Vec::new(),
            event_frames: Default::default(),
            order: ChildOrder::default(),
            ids_of_address: None,
            strangers: 0,
            strangers_logged: None,
            accept_failure_logged: None,
            questions: Vec::new(),
            draining: false,
            caller: u32::MAX,
            others_at: now.mono,
        };
        Worker { ring: parts.ring, delivering: false, state }
    }

    /// One turn. Afterwards `has_work` tells whether the next is due at once.
    pub fn turn(&mut self) {
        let state = &mut self.state;
        let before = std::mem::replace(&mut state.now, state.clock.now()).mono;
        state.excuse_stall(before);
        state.counters.begin_turn();
        state.take_ready();
        state.take_mail();
        state.accept();
        state.retry();
        state.gather();
        if self.catch_up() {
            let view = &self.ring.current().view;
            self.state.serve(view);
            self.state.advance_streams(view);
            self.state.answer_questions(view);
            self.state.say_lag();
        }
        let state = &mut self.state;
        state.flush();
        state.count_up();
        state.duties();
        state.core.announce();
    }

    /// The next turn has something to do, whatever sockets and ring say.
    pub fn has_work(&self) -> bool {
        let state = &self.state;
        self.delivering
            || state.more_to_read
            || state.accept_ready && state.acceptor.is_some()
            || !state.jobs.is_empty()
            || !state.to_serve.is_empty()
            || !state.streams.is_empty() && !state.streams_held
            || !state.to_flush.is_empty()
            || !state.lingering.is_empty()
            || !state.mail.is_empty()
    }

    /// Waits until there is something to do, at most for `patience`: sockets, mail, an event that concerns us.
    pub fn wait(&mut self, patience: Duration) -> io::Result<()> {
        let patience = match self.park() {
            true => patience.min(Duration::from_millis(WAIT_MS_MAX)),
            false => Duration::ZERO,
        };
        self.wake(patience)
    }

    /// First half of `wait`: true if the worker may sleep now. Whoever drives several workers on one thread calls `wake`
    /// when its sleep is over, and nothing in between.
    pub fn park(&mut self) -> bool {
        if self.has_work() {
            return false;
        }
        self.ring.set_watching(!self.state.watches.is_empty());
        self.ring.park()
    }

    /// Second half of `wait`: what became ready within `patience`.
    pub fn wake(&mut self, patience: Duration) -> io::Result<()> {
        let state = &mut self.state;
        let waited = state.poll.wait(Some(patience), &mut state.ready);
        self.ring.unpark();
        waited
    }

    /// After `Mail::Drain`: nothing is owed to anybody any more.
    pub fn is_drained(&self) -> bool {
        let owes = |connection: &Connection| {
            !connection.in_flight.is_empty() || !connection.output.is_empty() || connection.stream().is_some()
        };
        self.state.draining
            && !self.has_work()
            && !self.state.connections.iter().any(|(_, connection)| owes(connection))
    }

    /// As of the last turn nobody but one connection has called for so long, nanoseconds.
    pub fn serves_one_for(&self, nanos: u64) -> bool {
        self.state.now.mono.since(self.state.others_at) >= nanos
    }

    pub fn connections(&self) -> usize {
        self.state.connections.len()
    }

    /// Delivers what the ring has. False: a large fan-out goes on in the next turn, and nothing may be served before.
    fn catch_up(&mut self) -> bool {
        loop {
            if self.delivering {
                if !self.state.deliver(self.ring.current()) {
                    return false;
                }
                self.delivering = false;
                if !self.state.overtaken.is_empty() {
                    self.state.serve_overtaken(&self.ring.current().view);
                }
            }
            if self.ring.take().is_none() {
                return true;
            }
            self.delivering = true;
        }
    }
}

impl<P: Poll> State<P> {
    fn take_ready(&mut self) {
        let mut reports = std::mem::take(&mut self.ready);
        for ready in reports.drain(..) {
            match ready {
                Ready::Socket { token, readable, writable, closing } => {
                    if token != std::mem::replace(&mut self.caller, token) {
                        self.others_at = self.now.mono;
                    }
                    let Some(connection) = self.connections.get_mut(token) else { continue };
                    let flags = &mut connection.flags;
                    flags.readable |= readable;
                    flags.ending |= closing;
                    if (readable || closing) && !std::mem::replace(&mut flags.listed_to_read, true) {
                        self.to_read.push(token);
                    }
                    if writable && std::mem::take(&mut flags.blocked) {
                        self.list_to_flush(token);
                    }
                }
                Ready::Listener(_) => self.accept_ready = true,
                Ready::Woken => {}
            }
        }
        self.ready = reports;
    }

    fn take_mail(&mut self) {
        while let Some(mail) = self.mail.take() {
            match mail {
                Mail::Adopt { socket, peer } => self.adopt(socket, peer),
                Mail::Text { to, text } => self.text(to, &text),
                Mail::Ask(question) => self.questions.push(question),
                Mail::Drain => {
                    self.draining = true;
                    if self.acceptor.take().is_some() {
                        self.poll.unlisten(LISTENER);
                    }
                }
            }
        }
    }

    fn accept(&mut self) {
        let Some(acceptor) = &mut self.acceptor else { return };
        let mut mine = Vec::new();
        for _ in 0..TURN_ACCEPTS_MAX {
            if !self.accept_ready {
                break;
            }
            match self.poll.accept(LISTENER) {
                Ok((socket, peer)) => match acceptor.place(peer) {
                    Some(worker) if worker == usize::from(self.index) => mine.push((socket, peer)),
                    Some(worker) => acceptor.hand_over(worker, socket, peer),
                    None => self.counters.add(Counter::ConnectionsRejected, 1),
                },
                Err(error) => {
                    self.accept_ready = false;
                    let quiet = |logged| self.now.mono.since(logged) < WRONG_PROTOCOL_LOG_MS * 1_000_000;
                    if error.kind() != io::ErrorKind::WouldBlock
                        && !self.accept_failure_logged.is_some_and(quiet)
                    {
                        // Out of descriptors, or the peer was gone before we came: the next report or sweep tries again.
                        tracing::warn!(%error, "a connection could not be accepted (said once in a while)");
                        self.accept_failure_logged = Some(self.now.mono);
                    }
                }
            }
        }
        for (socket, peer) in mine {
            self.adopt(socket, peer);
        }
    }

    fn adopt(&mut self, socket: P::Socket, peer: SocketAddr) {
        let ids = self.ids_of(peer.ip());
        let now = self.now;
        let slot =
            self.connections.insert(|generation| Connection::new(generation, peer, ids, now.mono, now.wall));
        if let Err(error) = self.poll.adopt(slot, socket) {
            tracing::warn!(%error, %peer, "a connection could not be registered");
            self.drop_now(slot);
            return;
        }
        // Its first bytes are often there already: no need to be told.
        self.list_to_read(slot);
    }

    /// The `ip` identity that a connection from there begins with.
    fn ids_of(&mut self, address: IpAddr) -> Arc<[Identity]> {
        match &self.ids_of_address {
            Some((known, ids)) if *known == address => ids.clone(),
            _ => {
                let ids: Arc<[Identity]> = Arc::new([ip_identity(address)]);
                self.ids_of_address = Some((address, ids.clone()));
                ids
            }
        }
    }

    /// What the core's full queue turned away before.
    fn retry(&mut self) {
        while let Some(request) = self.backlog.pop_front() {
            if let Err(request) = self.core.submit(request) {
                self.backlog.push_front(request);
                return;
            }
        }
        for slot in std::mem::take(&mut self.turned_away) {
            if let Some(connection) = self.connections.get_mut(slot) {
                connection.flags.turned_away = false;
                self.list_to_serve(slot);
            }
        }
    }

    /// Since when something waits here for which the core's full queue has no room and by which it knows that a session
    /// is alive: reports, and connect requests. Everything that was turned away has been tried again before.
    fn say_lag(&mut self) {
        let connections = &self.connections;
        let opening = |slot: &u32| {
            let connection = connections.get(*slot)?;
            (connection.phase == Phase::Opening).then_some(connection.heard)
        };
        let reports = (!self.backlog.is_empty()).then_some(self.backlog_since);
        let oldest = self.turned_away.iter().filter_map(opening).chain(reports).min();
        self.core.lags_since(oldest);
    }

    /// Tells the core something that nobody waits for.
    pub fn tell_core(&mut self, request: CoreRequest) {
        if self.backlog.is_empty() {
            match self.core.submit(request) {
                Ok(()) => {}
                Err(request) => {
                    self.backlog_since = self.now.mono;
                    self.backlog.push_back(request);
                }
            }
        } else {
            self.backlog.push_back(request);
        }
    }

    fn answer_questions(&mut self, view: &crate::world::View) {
        for question in std::mem::take(&mut self.questions) {
            question(&mut Inspection {
                index: self.index,
                connections: &mut self.connections,
                watches: &self.watches,
                outstanding: self.outstanding,
                view,
            });
        }
    }

    /// Adds the turn's figures to the counters. A read's latency runs from the turn's beginning, before its bytes were
    /// read, to here, behind its reply's write.
    fn count_up(&mut self) {
        let tally = std::mem::take(&mut self.tally);
        if tally.received > 0 {
            self.counters.add(Counter::PacketsReceived, tally.received);
        }
        if tally.replies > 0 {
            self.counters.replied_many(
                tally.replies,
                tally.reply_bytes,
                tally.reply_bytes_least..=tally.reply_bytes_most,
                tally.reply_bytes_last,
            );
        }
        if tally.reads > 0 {
            let latency = self.clock.now().mono.since(self.now.mono);
            self.counters.record_many(Summary::Latency, latency, tally.reads);
            self.counters.record_many(Summary::ReadLatency, latency, tally.reads);
        }
    }

    pub fn reference(&self, slot: u32, generation: NonZeroU32) -> ConnRef {
        ConnRef { worker: self.index, slot, generation }
    }

    pub fn list_to_read(&mut self, slot: u32) {
        if let Some(connection) = self.connections.get_mut(slot)
            && !std::mem::replace(&mut connection.flags.listed_to_read, true)
        {
            self.to_read.push(slot);
        }
    }

    /// This connection may be wanted again: if it waits in the list, the next turn looks at it at once.
    pub fn read_again(&mut self, slot: u32) {
        if let Some(connection) = self.connections.get(slot) {
            self.more_to_read |= connection.flags.listed_to_read && connection.wants_reading();
        }
    }

    pub fn list_to_serve(&mut self, slot: u32) {
        if let Some(connection) = self.connections.get_mut(slot)
            && !std::mem::replace(&mut connection.flags.listed_to_serve, true)
        {
            self.to_serve.push(slot);
        }
    }

    pub fn list_to_flush(&mut self, slot: u32) {
        if let Some(connection) = self.connections.get_mut(slot)
            && !std::mem::replace(&mut connection.flags.listed_to_flush, true)
        {
            self.to_flush.push(slot);
        }
    }

    /// Serves no more: what is queued goes out, then the connection closes.
    pub fn begin_close(&mut self, slot: u32) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        if connection.phase == Phase::Closing {
            return;
        }
        connection.phase = Phase::Closing;
        connection.progressed = self.now.mono;
        connection.take_stream();
        self.part(slot);
        self.list_to_flush(slot);
        self.read_again(slot);
    }

    /// Closes without another byte.
    pub fn drop_now(&mut self, slot: u32) {
        self.part(slot);
        let Some(mut connection) = self.connections.remove(slot) else { return };
        connection.output.leave(&mut self.reply_bytes);
        self.poll.release(slot);
        self.departures.push(Departure { worker: self.index, address: connection.peer().ip() });
        self.pool.give(connection.output.bytes);
    }

    /// Undoes what the connection meant to others: watches, requests in flight, its session's place.
    fn part(&mut self, slot: u32) {
        let from = self.connections.get(slot).map(|connection| self.reference(slot, connection.generation));
        let Some((from, connection)) = from.zip(self.connections.get_mut(slot)) else { return };
        self.outstanding -= connection.in_flight.len();
        connection.stretch = Default::default();
        for request in std::mem::take(&mut connection.in_flight) {
            self.shared.large.done(request.large_bytes);
        }
        self.shared.large.done(connection.take_large_bytes());
        let session = std::mem::take(&mut connection.session);
        if session != SessionId::NONE {
            if std::mem::take(&mut connection.flags.touched) {
                // Before its end: the core may just be asking whether anything was heard.
                self.tell_core(CoreRequest::Touch(vec![session]));
            }
            self.tell_core(CoreRequest::Gone { from, session });
        }
        self.watches.drop_connection(slot);
    }

    /// Reports who was heard from; while the core has no room for reports, they wait where each session counts once.
    pub fn send_touches(&mut self) {
        if !self.backlog.is_empty() {
            self.report_touches = true;
            return;
        }
        self.report_touches = false;
        let mut sessions = Vec::new();
        for slot in std::mem::take(&mut self.touched) {
            if let Some(connection) = self.connections.get_mut(slot)
                && std::mem::take(&mut connection.flags.touched)
            {
                sessions.push(connection.session);
            }
        }
        for portion in sessions.chunks(TOUCHES_PORTION) {
            self.tell_core(CoreRequest::Touch(portion.to_vec()));
        }
    }

    /// The session of this connection is alive.
    pub fn touch(&mut self, slot: u32) {
        if let Some(connection) = self.connections.get_mut(slot)
            && connection.session != SessionId::NONE
            && !std::mem::replace(&mut connection.flags.touched, true)
        {
            self.touched.push(slot);
        }
    }
}
