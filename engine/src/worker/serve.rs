//! Bytes to requests: frames in order, each answered here, handed to the core, or left waiting for its turn.
//! Not here: what reads answer (`read`), the first frame of a connection (`handshake`), events.
//!
//! Order per session, both ways: what a worker answers by itself waits until the core has answered all that was handed
//! over before, and what is for the core waits behind a waiting read, because frames are taken strictly in order.
//! Requests for the core flow one behind the other. So a waiting request is simply one that is still bytes; each is
//! decoded when its turn comes, under the ids of that moment, which are those of its receipt, because auth packets
//! wait in the same line. Writes may overtake reads on the way to the core (`overtake`), not in what they mean.

use super::catch_up::Present;
use super::connection::{Connection, InFlight, POOL_BUFFERS_MAX, Phase};
use super::overtake::is_overtaker;
use super::read::Reading;
use super::settings::Shared;
use super::stream::Stream;
use super::turn::{Job, Source, State};
use crate::admin::Counter;
use crate::intake::{CoreRequest, Query};
use crate::io::poll::Poll;
use crate::limits::{
    CONNECTION_IDENTITIES_MAX, FLUSH_REPLY_BYTES, LINGER_JOBS_LEAST, REPLY_BYTES_LEAN, REPLY_BYTES_PAUSE,
    TURN_REPLY_BYTES_MAX, TURN_REQUESTS_MAX,
};
use crate::model::{ErrorCode, Identity, Xid, java};
use crate::ring::ConnRef;
use crate::wire::frame::{Front, front};
use crate::wire::jute::JutePut;
use crate::wire::reply;
use crate::wire::{OpCode, Reader, Request, RequestHeader};
use crate::world::{PathHash, View};
use ostler_replication::Zxid;
use std::sync::Arc;

/// What became of the frame at the front.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    Served,
    /// Its turn has not come.
    Wait,
    /// The connection is closing or gone.
    Over,
}

/// Requests whose znodes are fetched ahead at a time, over several connections: enough to keep the memory busy, few
/// enough to be still in the first cache when they are served.
const AHEAD_ENOUGH: usize = 64;
/// Of the last connection more may be looked at than it takes.
const AHEAD_MAX: usize = 256;

impl<P: Poll> State<P> {
    /// Serves what this turn read, then what waited and may go on. Replies are written some connections at a time: a system
    /// call sweeps out of the first cache what was fetched ahead for the next one, and a client that is woken by the first
    /// write is still awake at the last.
    pub(super) fn serve(&mut self, view: &View) {
        for slot in std::mem::take(&mut self.to_serve) {
            if let Some(connection) = self.connections.get_mut(slot) {
                connection.flags.listed_to_serve = false;
                let generation = connection.generation;
                self.jobs.push(Job { slot, generation, source: Source::Input, hashes: 0..0 });
            }
        }
        let mut jobs = std::mem::take(&mut self.jobs);
        self.crowded = jobs.len() >= LINGER_JOBS_LEAST;
        let arena = std::mem::take(&mut self.arena);
        let (mut served, mut written) = (0, 0);
        let mut made_before = self.tally.reply_bytes;
        while served < jobs.len() {
            let window = served + self.look_ahead(&mut jobs[served..], &arena, view);
            while served < window {
                self.serve_job(&jobs[served], &arena, view);
                served += 1;
                let enough = self.tally.reply_bytes - made_before > FLUSH_REPLY_BYTES;
                if enough || served - written == POOL_BUFFERS_MAX || served == jobs.len() {
                    jobs[written..served].iter().for_each(|job| self.finish_job(job));
                    (written, made_before) = (served, self.tally.reply_bytes);
                }
            }
        }
        self.arena = arena;
        jobs.clear();
        self.jobs = jobs;
    }

    /// Begins to fetch what the reads of the first jobs will need, so that they wait for memory together: 58 ns a miss
    /// rather than 267. Returns how many jobs that are, at least one.
    pub(super) fn look_ahead(&mut self, jobs: &mut [Job], arena: &[u8], view: &View) -> usize {
        self.hashes.clear();
        let mut window = 0;
        for job in jobs.iter_mut() {
            if self.hashes.len() >= AHEAD_ENOUGH {
                break;
            }
            window += 1;
            let start = self.hashes.len();
            let Some(connection) = self.connections.get_of(job.slot, job.generation) else { continue };
            if connection.phase == Phase::Established && connection.may_serve() && !connection.must_wait() {
                let bytes = match &job.source {
                    Source::Arena(range) => &arena[range.clone()],
                    Source::Input => connection.input.waiting(),
                };
                hash_reads(bytes, self.shared.frame_bytes_max, view, &mut self.hashes);
            }
            job.hashes = start..self.hashes.len();
        }
        if self.hashes.len() > 1 {
            view.fetch_ahead(self.hashes.iter().flatten().copied(), &mut self.ahead);
        }
        window
    }

    fn serve_job(&mut self, job: &Job, arena: &[u8], view: &View) {
        let Job { slot, generation, .. } = *job;
        let Some(connection) = self.connections.get_of(slot, generation) else { return };
        match &job.source {
            Source::Arena(range) => {
                let bytes = &arena[range.clone()];
                let served = self.serve_bytes(slot, bytes, job, view);
                if served < bytes.len()
                    && let Some(connection) = self.connections.get_of(slot, generation)
                {
                    connection.input.keep(&bytes[served..]);
                }
            }
            Source::Input => {
                let (bytes, at) = connection.input.lend();
                let served = self.serve_bytes(slot, &bytes[at..], job, view);
                match self.connections.get_of(slot, generation) {
                    Some(connection) => connection.input.restore(bytes, at + served, &mut self.pool),
                    None => self.pool.give(bytes),
                }
            }
        }
    }

    /// Writes what was answered, and lets go of a connection that has nothing more to come.
    fn finish_job(&mut self, job: &Job) {
        let Job { slot, generation, .. } = *job;
        if self.connections.get_of(slot, generation).is_none() {
            return;
        }
        self.flush_or_linger(slot);
        self.read_again(slot);
        // A peer that has sent its last byte is still served what it sent, perhaps a closeSession behind a read that
        // waits for a write.
        if let Some(connection) = self.connections.get_of(slot, generation)
            && connection.flags.ended
            && !matches!(connection.phase, Phase::Connecting | Phase::Word | Phase::Closing)
            && (connection.in_flight.is_empty() && connection.stream().is_none()
                || connection.input.is_empty())
        {
            self.drop_now(slot);
        }
    }

    /// Serves frames from the front as far as may be; returns how many bytes they took.
    fn serve_bytes(&mut self, slot: u32, bytes: &[u8], job: &Job, view: &View) -> usize {
        let length_max = self.shared.frame_bytes_max;
        let mut at = 0;
        let mut served = 0;
        let most = if self.reply_bytes > self.reply_bytes_max { REPLY_BYTES_LEAN } else { REPLY_BYTES_PAUSE };
        loop {
            let Some(connection) = self.connections.get_mut(slot) else { return at };
            if !connection.may_serve() || connection.pause_if_full(most) {
                return at;
            }
            if connection.phase == Phase::Opening {
                match self.open(slot, &bytes[at..], view) {
                    Some(taken) => at += taken,
                    None => return at,
                }
                continue;
            }
            match front(&bytes[at..], length_max) {
                Front::Frame { body, bytes: taken } => {
                    let enough = served > 0 && self.tally.reply_bytes > TURN_REPLY_BYTES_MAX;
                    if enough || served == TURN_REQUESTS_MAX {
                        self.list_to_serve(slot);
                        return at;
                    }
                    connection.input.wanted = 0;
                    let in_stretch = connection.stretch.bytes > 0;
                    if in_stretch && is_overtaker(body) {
                        connection.stretch.pass(taken, true);
                        at += taken;
                        served += 1;
                        continue;
                    }
                    if !self.admit_large(slot, taken) {
                        return at;
                    }
                    let hash =
                        self.hashes.get(job.hashes.start + served).filter(|_| served < job.hashes.len());
                    let hash = hash.copied().flatten();
                    match self.request(slot, body, hash, view) {
                        Step::Served => at += taken,
                        Step::Wait => {
                            self.overtake(slot, &bytes[at..], view);
                            return at;
                        }
                        Step::Over => return at,
                    }
                    if in_stretch && let Some(connection) = self.connections.get_mut(slot) {
                        connection.stretch.pass(taken, false);
                    }
                    served += 1;
                }
                Front::Partial { wanted } => {
                    connection.input.wanted = wanted as u32;
                    self.admit_large(slot, wanted);
                    return at;
                }
                Front::Unreadable { length } => {
                    let (peer, session) = (connection.peer(), connection.session);
                    self.lines.too_large(peer, session, length, length_max, self.now.mono);
                    // As Apache: no reply, the session is not touched by it.
                    self.drop_now(slot);
                    return at;
                }
            }
        }
    }

    /// Counts a large request in, once. False: there are too many, and the connection is closed.
    fn admit_large(&mut self, slot: u32, bytes: usize) -> bool {
        let Some(connection) = self.connections.get_mut(slot) else { return false };
        if connection.large_bytes() > 0 {
            return true;
        }
        match self.shared.large.admit(bytes) {
            Some(0) => true,
            Some(large) => {
                connection.rare().large_bytes = large;
                true
            }
            None => {
                self.lines.too_many_large(connection.peer(), bytes, self.now.mono);
                self.counters.add(Counter::LargeRequestsRejected, 1);
                self.drop_now(slot);
                false
            }
        }
    }

    pub(super) fn request(&mut self, slot: u32, body: &[u8], hash: Option<PathHash>, view: &View) -> Step {
        let Ok((header, record)) = RequestHeader::decode(body) else {
            self.drop_now(slot);
            return Step::Over;
        };
        let Some(op) = OpCode::from_i32(header.op).filter(|op| op.is_request()) else {
            return self.refuse(slot, header.xid, reply::ZXID_NONE, ErrorCode::Unimplemented);
        };
        if !self.shared.enforced_schemes.is_empty() && !self.is_authenticated(slot, op) {
            return self.refuse(slot, header.xid, Zxid::ZERO, ErrorCode::SessionClosedRequireAuth);
        }
        if op.is_write() || op == OpCode::Sync {
            if self.connections.get(slot).is_some_and(|connection| connection.awaits_listing()) {
                return Step::Wait;
            }
            return self.hand_over(slot, header.xid, op, record, view);
        }
        let Some(connection) = self.connections.get_mut(slot) else { return Step::Over };
        if connection.must_wait() {
            return Step::Wait;
        }
        if op == OpCode::GetEphemerals {
            // The core answers it, but one at a time: its reply may be large, and takes the core long.
            return self.hand_over(slot, header.xid, op, record, view);
        }
        connection.figures.received += 1;
        self.tally.received += 1;
        match op {
            OpCode::Auth => self.authenticate(slot, header.xid, record),
            OpCode::Sasl => self.sasl(slot, header.xid, record),
            _ => self.read_op(slot, header.xid, op, record, hash, view),
        }
    }

    /// Answers from the View.
    #[inline]
    fn read_op(
        &mut self,
        slot: u32,
        xid: Xid,
        op: OpCode,
        record: &[u8],
        hash: Option<PathHash>,
        view: &View,
    ) -> Step {
        let State { connections, watches, pool, shared, order, tally, now, .. } = self;
        let Some(connection) = connections.get_mut(slot) else { return Step::Over };
        let xid = if op == OpCode::Ping { Xid::PING } else { xid };
        let out = connection.output.prepare(pool);
        let before = out.len();
        let mut reading =
            Reading { view, schemes: &shared.schemes, ids: &connection.ids, watches, order, slot, xid, out };
        let rest = match Request::decode(op, record) {
            Ok(request) => reading.serve(op, &request, hash),
            Err(_) => {
                reading.bare(ErrorCode::MarshallingError);
                None
            }
        };
        let bytes = out.len() - before;
        shared.large.done(connection.take_large_bytes());
        if watches.take_overfull() {
            self.drop_overfull(slot);
            return Step::Over;
        }
        if let Some(stream) = rest {
            self.begin_stream(slot, stream);
            return Step::Served;
        }
        connection.figures.replied(op, xid, view.zxid(), now.mono.as_millis(), 0);
        tally.replied(bytes as u64);
        tally.reads += (op != OpCode::Ping) as u64;
        Step::Served
    }

    /// A last reply, in its turn; then the connection closes.
    fn refuse(&mut self, slot: u32, xid: Xid, zxid: Zxid, error: ErrorCode) -> Step {
        let Some(connection) = self.connections.get_mut(slot) else { return Step::Over };
        if !connection.in_flight.is_empty() {
            return Step::Wait;
        }
        reply::frame_bare(connection.output.prepare(&mut self.pool), xid, zxid, error);
        self.begin_close(slot);
        Step::Over
    }

    /// auth and sasl are how one becomes authenticated; everything else needs it, pings included.
    fn is_authenticated(&self, slot: u32, op: OpCode) -> bool {
        let enforced = &self.shared.enforced_schemes;
        matches!(op, OpCode::Auth | OpCode::Sasl)
            || self.connections.get(slot).is_some_and(|connection| {
                connection.ids.iter().any(|id| enforced.iter().any(|scheme| **scheme == *id.scheme))
            })
    }

    fn authenticate(&mut self, slot: u32, xid: Xid, record: &[u8]) -> Step {
        let Some(connection) = self.connections.get_mut(slot) else { return Step::Over };
        let Ok(Request::Auth { scheme, auth }) = Request::decode(OpCode::Auth, record) else {
            self.drop_now(slot);
            return Step::Over;
        };
        let proven = self.shared.schemes.authenticate(scheme.as_deref(), auth, connection.peer().ip());
        let united = proven.and_then(|proven| united(&connection.ids, proven));
        let Some(united) = united else {
            self.counters.add(Counter::AuthFailed, 1);
            return self.refuse(slot, xid, Zxid::ZERO, ErrorCode::AuthFailed);
        };
        connection.ids = united;
        let out = connection.output.prepare(&mut self.pool);
        reply::frame_bare(out, xid, Zxid::ZERO, ErrorCode::Ok);
        connection.figures.sent += 1;
        self.tally.replied(reply::HEADER_BYTES as u64 + 4);
        Step::Served
    }

    /// As a server without SASL: a null token, and nobody is the wiser.
    fn sasl(&mut self, slot: u32, xid: Xid, record: &[u8]) -> Step {
        let Some(connection) = self.connections.get_mut(slot) else { return Step::Over };
        if !matches!(Reader::new(record).buffer(), Ok(Some(_))) {
            // No answer, as to an auth packet that cannot be read. Apache trips over a null token, too.
            self.drop_now(slot);
            return Step::Over;
        }
        let out = connection.output.prepare(&mut self.pool);
        reply::frame_reply(out, xid, Zxid::ZERO, ErrorCode::Ok, |out| out.put_buffer(None));
        connection.figures.sent += 1;
        self.tally.replied(reply::HEADER_BYTES as u64 + 8);
        Step::Served
    }

    /// A request that the core answers: writes, sync, getEphemerals.
    fn hand_over(&mut self, slot: u32, xid: Xid, op: OpCode, record: &[u8], view: &View) -> Step {
        match self.throttled(slot, op) {
            Throttled::No => {}
            Throttled::Wait => return Step::Wait,
            Throttled::TooLong => return self.bare_in_turn(slot, xid, op, view, ErrorCode::ThrottledOp),
            Throttled::Stale => {
                self.counters.add(Counter::StaleRequestsDropped, 1);
                self.drop_now(slot);
                return Step::Over;
            }
        }
        let large_bytes = self.connections.get(slot).map_or(0, Connection::large_bytes);
        match self.submit(slot, xid, op, record, Submit { apart: false, large_bytes }) {
            Submitted::Yes => {}
            Submitted::Full => return self.turn_away(slot),
            Submitted::Malformed => {
                return self.bare_in_turn(slot, xid, op, view, ErrorCode::MarshallingError);
            }
        }
        if let Some(connection) = self.connections.get_mut(slot) {
            connection.take_large_bytes();
        }
        Step::Served
    }

    /// Puts a request for the core in flight.
    pub(super) fn submit(
        &mut self,
        slot: u32,
        xid: Xid,
        op: OpCode,
        record: &[u8],
        how: Submit,
    ) -> Submitted {
        let Some(connection) = self.connections.get_mut(slot) else { return Submitted::Full };
        let from = ConnRef { worker: self.index, slot, generation: connection.generation };
        let session = connection.session;
        let request = match op {
            // Echoed as it was understood.
            OpCode::Sync => Reader::new(record).string().map(|path| {
                let path = path.map(|path| Box::from(path.as_bytes()));
                CoreRequest::Sync { from, session, xid, path }
            }),
            OpCode::GetEphemerals => Reader::new(record).string().map(|prefix| {
                let prefix = prefix.map(|prefix| prefix.as_ref().into());
                CoreRequest::Query { from, xid, query: Query::Ephemerals { session, prefix } }
            }),
            _ => {
                let (op, body, ids) = (op.to_i32(), record.into(), connection.ids.clone());
                Ok(CoreRequest::Write { from, session, xid, op, body, ids, apart: how.apart })
            }
        };
        let Ok(request) = request else { return Submitted::Malformed };
        if self.core.submit(request).is_err() {
            return Submitted::Full;
        }
        let since_ms = self.now.mono.as_millis() as u32;
        let large_bytes = how.large_bytes;
        connection.in_flight.push_back(InFlight { xid, op, since_ms, large_bytes });
        connection.figures.received += 1;
        self.outstanding += 1;
        self.counters.add(Counter::PacketsReceived, 1);
        if op.is_write() {
            self.counters.add(Counter::WritesReceived, 1);
        }
        Submitted::Yes
    }

    /// The core's queue is full: tried again in the next turn.
    pub(super) fn turn_away(&mut self, slot: u32) -> Step {
        if let Some(connection) = self.connections.get_mut(slot)
            && !std::mem::replace(&mut connection.flags.turned_away, true)
        {
            self.turned_away.push(slot);
        }
        Step::Wait
    }

    /// A bare reply to what would be the core's, when everything before it is answered.
    fn bare_in_turn(&mut self, slot: u32, xid: Xid, op: OpCode, view: &View, error: ErrorCode) -> Step {
        let Some(connection) = self.connections.get_mut(slot) else { return Step::Over };
        if !connection.in_flight.is_empty() {
            return Step::Wait;
        }
        reply::frame_bare(connection.output.prepare(&mut self.pool), xid, view.zxid(), error);
        connection.figures.received += 1;
        connection.figures.replied(op, xid, view.zxid(), self.now.mono.as_millis(), 0);
        connection.end_throttling();
        self.shared.large.done(connection.take_large_bytes());
        if error == ErrorCode::ThrottledOp {
            self.counters.add(Counter::ThrottledOps, 1);
        }
        self.counters.add(Counter::PacketsReceived, 1);
        self.tally.replied(reply::HEADER_BYTES as u64 + 4);
        Step::Served
    }

    /// The request throttle (`request_throttle_*`, `throttled_op_wait_time`): holds back what would be more in flight
    /// than allowed.
    fn throttled(&mut self, slot: u32, op: OpCode) -> Throttled {
        let Shared { requests_max, request_throttle, .. } = &*self.shared;
        if *requests_max == 0 {
            return Throttled::No;
        }
        let Some(connection) = self.connections.get_mut(slot) else { return Throttled::No };
        if self.outstanding >= *requests_max {
            if connection.throttled_since().is_none() {
                connection.rare().throttled_since = Some(self.now.mono);
                self.counters.add(Counter::RequestThrottleWaits, 1);
            }
            self.turn_away(slot);
            return Throttled::Wait;
        }
        let Some(since) = connection.throttled_since() else { return Throttled::No };
        let waited_ms = self.now.mono.since(since) / 1_000_000;
        let stale = request_throttle.stale_by_latency && waited_ms > connection.timeout_ms.into();
        if stale && request_throttle.drop_stale {
            return Throttled::Stale;
        }
        if op != OpCode::CloseSession
            && request_throttle.op_wait_ms_max.is_some_and(|most| waited_ms > most.into())
        {
            return Throttled::TooLong;
        }
        connection.end_throttling();
        Throttled::No
    }

    fn drop_overfull(&mut self, slot: u32) {
        if let Some(connection) = self.connections.get(slot) {
            tracing::warn!(peer = %connection.peer(), session = %connection.session, "watches more than any connection may: closed");
        }
        self.drop_now(slot);
    }

    // --- large replies -------------------------------------------------------------------------------------------

    fn begin_stream(&mut self, slot: u32, stream: Box<Stream>) {
        if let Some(connection) = self.connections.get_mut(slot) {
            connection.rare().stream = Some(stream);
            self.streams.push(slot);
        }
    }

    /// One portion of each large reply; only of the first while too much waits for clients, and of none before they
    /// have taken enough for one to be finished.
    pub(super) fn advance_streams(&mut self, view: &View) {
        if self.streams.is_empty() {
            return;
        }
        let streams = std::mem::take(&mut self.streams);
        let made = |slot: &u32| self.connections.get(*slot)?.stream().map(Stream::bytes);
        let making: usize = streams.iter().filter_map(made).sum();
        let going = match self.reply_bytes {
            waiting if waiting + making <= self.reply_bytes_max => streams.len(),
            waiting if waiting <= self.reply_bytes_max / 2 => 1,
            _ => 0,
        };
        self.streams_held = going == 0;
        for (place, slot) in streams.into_iter().enumerate() {
            if place < going {
                self.advance_stream(slot, view);
            } else {
                self.streams.push(slot);
            }
        }
    }

    fn advance_stream(&mut self, slot: u32, view: &View) {
        use super::stream::Progress;
        let Some(connection) = self.connections.get_mut(slot) else { return };
        let Some(mut stream) = connection.take_stream() else { return };
        let mut present = Present { view, watches: &mut self.watches, slot };
        let progress = stream.portion(&self.shared.schemes, &mut present);
        if self.watches.take_overfull() {
            return self.drop_overfull(slot);
        }
        match progress {
            Progress::More => {
                connection.rare().stream = Some(stream);
                self.streams.push(slot);
            }
            Progress::TooLarge => {
                tracing::warn!(peer = %connection.peer(), "a reply would be larger than any client takes; closed");
                self.drop_now(slot);
            }
            Progress::Done => {
                let (xid, op, zxid) = (stream.xid, stream.op, stream.view().zxid());
                let (frame, events) = stream.finish();
                let bytes = frame.len();
                connection.output.append(frame, &mut self.pool);
                connection.output.append(events, &mut self.pool);
                connection.figures.replied(op, xid, zxid, self.now.mono.as_millis(), 0);
                self.tally.replied(bytes as u64);
                self.tally.reads += 1;
                self.list_to_flush(slot);
                self.list_to_serve(slot);
            }
        }
    }
}

/// How a request goes to the core.
pub(super) struct Submit {
    /// A write: in another batch than what came before.
    pub apart: bool,
    /// What it was counted in with; once it is in flight, its answer gives it back.
    pub large_bytes: u32,
}

pub(super) enum Submitted {
    Yes,
    /// The core's queue takes no more, or the connection is gone.
    Full,
    Malformed,
}

enum Throttled {
    No,
    Wait,
    /// Answered -127 unprocessed.
    TooLong,
    /// Its client has given up: the connection closes.
    Stale,
}

/// The ids with the proven ones added; `None` when they would be too many to check against every ACL.
fn united(ids: &Arc<[Identity]>, proven: Vec<Identity>) -> Option<Arc<[Identity]>> {
    let new: Vec<_> = proven.into_iter().filter(|id| !ids.contains(id)).collect();
    if new.is_empty() {
        return Some(ids.clone());
    }
    if ids.len() + new.len() > CONNECTION_IDENTITIES_MAX {
        return None;
    }
    let mut all: Vec<_> = ids.iter().cloned().chain(new).collect();
    java::sort_ids(&mut all);
    Some(all.into())
}

/// For each whole frame from the front: the hash of the path if it is a read that looks one up.
fn hash_reads(bytes: &[u8], length_max: u32, view: &View, hashes: &mut Vec<Option<PathHash>>) {
    let mut at = 0;
    while let Front::Frame { body, bytes: taken } = front(&bytes[at..], length_max) {
        if hashes.len() >= AHEAD_MAX {
            return;
        }
        let (hash, op) = hash_read(body, view);
        hashes.push(hash);
        if op.is_some_and(OpCode::is_write) {
            // What follows waits for it.
            return;
        }
        at += taken;
    }
}

#[inline]
fn hash_read(body: &[u8], view: &View) -> (Option<PathHash>, Option<OpCode>) {
    let Ok((header, record)) = RequestHeader::decode(body) else { return (None, None) };
    let op = OpCode::from_i32(header.op);
    let hash = || {
        let path = Reader::new(record).buffer().ok()??;
        Some(view.hash(std::str::from_utf8(path).ok()?))
    };
    match op {
        Some(OpCode::GetData | OpCode::Exists | OpCode::GetChildren | OpCode::GetChildren2) => (hash(), op),
        _ => (None, op),
    }
}
