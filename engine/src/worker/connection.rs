//! One client connection as its worker keeps it: phase, buffers, what is in flight, what an operator may ask about it.
//! Not here: sockets (the `poll` seam), what requests mean, watches (`watch`).
//!
//! Memory: an idle connection holds this struct and nothing on the heap of its own; buffers come from a pool when bytes
//! arrive or leave and go back when they are empty. What few connections need (`Rare`) stands apart. Input grows with
//! bytes received, never with bytes announced.

use super::stream::Stream;
use crate::limits::{EVENT_BYTES_MAX, READ_BUFFER_BYTES_KEPT, REPLY_BYTES_RESUME};
use crate::model::{Identity, SessionId, WallMillis, Xid};
use crate::wire::OpCode;
use ostler_replication::{Moment, Zxid};
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;

/// How far a connection has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// No whole first frame yet: a connect request, a four-letter word, or somebody in the wrong place.
    Opening,
    /// The core has the connect request; what follows it waits.
    Connecting,
    Established,
    /// A four-letter word is being answered elsewhere.
    Word,
    /// Nothing more is served: what is queued goes out, then FIN, then what still comes is read and dropped, so that
    /// no reset eats the last bytes.
    Closing,
}

/// A request that the core has and has not answered.
#[derive(Clone, Copy, Debug)]
pub struct InFlight {
    pub xid: Xid,
    pub op: OpCode,
    /// Milliseconds on the monotonic clock, wrapping: for latency figures.
    pub since_ms: u32,
    /// Counted against the sum of large requests.
    pub large_bytes: u32,
}

pub struct Connection {
    pub generation: NonZeroU32,
    pub phase: Phase,
    address: IpAddr,
    port: u16,
    pub session: SessionId,
    /// As negotiated; 0 before.
    pub timeout_ms: u32,
    /// In a set's sense: no duplicates. Shared with requests on their way to the core, and between connections from
    /// one address.
    pub ids: Arc<[Identity]>,
    pub input: Input,
    pub output: Output,
    pub in_flight: VecDeque<InFlight>,
    /// The front of the input that was looked through for writes that may overtake.
    pub stretch: super::overtake::Stretch,
    rare: Option<Box<Rare>>,
    pub flags: Flags,
    /// Last time bytes came in.
    pub heard: Moment,
    /// Last time bytes went out; before the first of them, when the connection was opened.
    pub progressed: Moment,
    pub figures: Figures,
}

/// What a connection has only at times, and most never: made when the first of it comes, given back by a sweep.
#[derive(Default)]
pub struct Rare {
    /// A large reply being produced in portions; requests behind it wait.
    pub stream: Option<Box<Stream>>,
    /// Token of the core's question whether anything was heard.
    pub probe: Option<NonZeroU64>,
    /// When the request throttle first held the front request back.
    pub throttled_since: Option<Moment>,
    /// Large request announced or waiting here, counted against the sum of large requests.
    pub large_bytes: u32,
}

/// Which lists of the worker a connection stands in, and what holds it.
#[derive(Clone, Copy, Default, Debug)]
pub struct Flags {
    /// Bytes may be waiting in the socket.
    pub readable: bool,
    /// The peer has shut down or the socket failed: read on to the end.
    pub ending: bool,
    /// In the worker's list of connections to read.
    pub listed_to_read: bool,
    /// In the list of connections whose waiting input may be served.
    pub listed_to_serve: bool,
    /// In the list of connections with bytes to write.
    pub listed_to_flush: bool,
    /// The socket took less than it was given: wait until it is writable.
    pub blocked: bool,
    /// Replies piled up: not read and not served before `REPLY_BYTES_RESUME`.
    pub paused: bool,
    /// In the list of connections whose replies wait for that of a write.
    pub lingering: bool,
    /// FIN has been sent.
    pub shut: bool,
    /// The peer's FIN has been read.
    pub ended: bool,
    /// Heard from since the last report to the core.
    pub touched: bool,
    /// The core's queue was full when this connection had something for it.
    pub turned_away: bool,
}

/// What `cons`, `stat` and `crst` know of one connection.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    pub established: WallMillis,
    pub received: u64,
    pub sent: u64,
    /// `None` before the first request.
    pub last_op: Option<OpCode>,
    /// Last xid, as Apache's `lcxid`; negative before the first.
    pub last_xid: i32,
    pub last_zxid: Zxid,
    /// Monotonic milliseconds of the last reply.
    pub last_reply_ms: u64,
    pub last_latency_ms: u32,
    pub least_latency_ms: u32,
    pub most_latency_ms: u32,
    pub sum_latency_ms: u64,
    pub replies: u64,
}

impl Figures {
    pub fn new(established: WallMillis) -> Figures {
        Figures {
            established,
            received: 0,
            sent: 0,
            last_op: None,
            last_xid: -1,
            last_zxid: Zxid::ZERO,
            last_reply_ms: 0,
            last_latency_ms: 0,
            least_latency_ms: u32::MAX,
            most_latency_ms: 0,
            sum_latency_ms: 0,
            replies: 0,
        }
    }

    #[inline]
    pub fn replied(&mut self, op: OpCode, xid: Xid, zxid: Zxid, now_ms: u64, latency_ms: u32) {
        self.last_op = Some(op);
        if xid.0 > 0 {
            self.last_xid = xid.0;
        }
        self.last_zxid = zxid;
        self.last_reply_ms = now_ms;
        self.last_latency_ms = latency_ms;
        self.least_latency_ms = self.least_latency_ms.min(latency_ms);
        self.most_latency_ms = self.most_latency_ms.max(latency_ms);
        self.sum_latency_ms += latency_ms as u64;
        self.sent += 1;
        self.replies += 1;
    }

    /// `crst`.
    pub fn reset(&mut self) {
        *self = Figures { last_zxid: self.last_zxid, ..Figures::new(self.established) };
    }
}

impl Connection {
    pub fn new(
        generation: NonZeroU32,
        peer: SocketAddr,
        ids: Arc<[Identity]>,
        mono: Moment,
        wall: WallMillis,
    ) -> Connection {
        Connection {
            generation,
            phase: Phase::Opening,
            address: peer.ip(),
            port: peer.port(),
            session: SessionId::NONE,
            timeout_ms: 0,
            ids,
            input: Input::default(),
            output: Output::default(),
            in_flight: VecDeque::new(),
            stretch: Default::default(),
            rare: None,
            flags: Flags { readable: true, ..Flags::default() },
            heard: mono,
            progressed: mono,
            figures: Figures::new(wall),
        }
    }

    pub fn peer(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }

    /// To be changed.
    pub fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    pub fn stream(&self) -> Option<&Stream> {
        self.rare.as_ref()?.stream.as_deref()
    }

    pub fn stream_mut(&mut self) -> Option<&mut Stream> {
        self.rare.as_mut()?.stream.as_deref_mut()
    }

    pub fn take_stream(&mut self) -> Option<Box<Stream>> {
        self.rare.as_mut()?.stream.take()
    }

    pub fn is_probed(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.probe.is_some())
    }

    pub fn take_probe(&mut self) -> Option<NonZeroU64> {
        self.rare.as_mut()?.probe.take()
    }

    pub fn throttled_since(&self) -> Option<Moment> {
        self.rare.as_ref()?.throttled_since
    }

    pub fn end_throttling(&mut self) {
        if let Some(rare) = &mut self.rare {
            rare.throttled_since = None;
        }
    }

    pub fn large_bytes(&self) -> u32 {
        self.rare.as_ref().map_or(0, |rare| rare.large_bytes)
    }

    pub fn take_large_bytes(&mut self) -> u32 {
        self.rare.as_mut().map_or(0, |rare| std::mem::take(&mut rare.large_bytes))
    }

    /// Gives back what it holds on the heap and does not need at the moment.
    pub fn tidy(&mut self) {
        if self.in_flight.is_empty() && self.in_flight.capacity() > 0 {
            self.in_flight = VecDeque::new();
        }
        if self.rare.as_ref().is_some_and(|rare| rare.is_empty()) {
            self.rare = None;
        }
    }

    /// May be read: whoever may not is touched, because its silence is our doing.
    pub fn wants_reading(&self) -> bool {
        match self.phase {
            // A little of what follows a connect request is read, for behind it there may be the end.
            Phase::Opening | Phase::Connecting => self.input.len() < INPUT_BYTES_WAITING_MAX,
            Phase::Closing => true,
            Phase::Word => false,
            Phase::Established => {
                !self.flags.paused
                    && self.input.len() < INPUT_BYTES_WAITING_MAX.max(self.input.wanted as usize)
            }
        }
    }

    /// Requests may be served now, as far as this connection's own state goes.
    pub fn may_serve(&self) -> bool {
        !self.flags.paused
            && self.stream().is_none()
            && matches!(self.phase, Phase::Opening | Phase::Established)
    }

    /// The core is answering a getEphemerals, which may take it several turns: nothing overtakes it.
    pub fn awaits_listing(&self) -> bool {
        self.in_flight.back().is_some_and(|request| request.op == OpCode::GetEphemerals)
    }

    /// The request at the front of the input waits for an earlier one.
    #[inline]
    pub fn must_wait(&self) -> bool {
        self.in_flight.len() > usize::from(self.stretch.writes)
    }

    /// Pauses above a bound for replies. True if it is paused now.
    pub fn pause_if_full(&mut self, most: usize) -> bool {
        if self.output.len() > most {
            self.flags.paused = true;
        }
        self.flags.paused
    }

    /// After bytes have gone out: true if the connection was paused and may go on.
    pub fn resume_if_drained(&mut self) -> bool {
        self.flags.paused && self.output.len() < REPLY_BYTES_RESUME && {
            self.flags.paused = false;
            true
        }
    }

    /// Unsolicited events have piled up beyond what we keep for anybody.
    pub fn is_hopelessly_behind(&self) -> bool {
        self.output.event_bytes as usize > EVENT_BYTES_MAX
    }
}

impl Rare {
    fn is_empty(&self) -> bool {
        let Rare { stream, probe, throttled_since, large_bytes } = self;
        stream.is_none() && probe.is_none() && throttled_since.is_none() && *large_bytes == 0
    }
}

/// Requests waiting unserved beyond this, and a whole one among them: the socket is not read for now.
const INPUT_BYTES_WAITING_MAX: usize = crate::limits::INPUT_BYTES_WAITING_MAX;

/// Bytes received and not yet served.
#[derive(Default)]
pub struct Input {
    bytes: Vec<u8>,
    /// Served already. A frame's length is an `i32`, and little more than one frame waits here.
    at: u32,
    /// The frame at the front is so long with its length word, once that is known; 0 when a whole one is there.
    pub wanted: u32,
}

impl Input {
    pub fn len(&self) -> usize {
        self.bytes.len() - self.at as usize
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn waiting(&self) -> &[u8] {
        &self.bytes[self.at as usize..]
    }

    /// Forgets what came.
    pub fn clear(&mut self) {
        *self = Input::default();
    }

    /// Takes the bytes out to serve them; `restore` puts back what was not.
    pub fn lend(&mut self) -> (Vec<u8>, usize) {
        (std::mem::take(&mut self.bytes), std::mem::take(&mut self.at) as usize)
    }

    pub fn restore(&mut self, bytes: Vec<u8>, at: usize, pool: &mut Pool) {
        if at == bytes.len() {
            pool.give(bytes);
        } else {
            (self.bytes, self.at) = (bytes, at as u32);
            self.compact();
        }
    }

    /// Keeps bytes that cannot be served yet. Not in a buffer of the pool, which may be far larger than what came.
    pub fn keep(&mut self, bytes: &[u8]) {
        self.bytes.reserve_exact(bytes.len());
        self.bytes.extend_from_slice(bytes);
    }

    /// Room behind what is there: as much again as has been received, within bounds; `received` tells how much came.
    pub fn room(&mut self, most: usize) -> &mut [u8] {
        self.compact();
        let room = self.bytes.len().clamp(4096, most);
        let used = self.bytes.len();
        self.bytes.resize(used + room, 0);
        &mut self.bytes[used..]
    }

    pub fn received(&mut self, bytes: usize, of: usize) {
        self.bytes.truncate(self.bytes.len() - (of - bytes));
    }

    /// Moves what is left to the front once more than half has been served.
    fn compact(&mut self) {
        let at = self.at as usize;
        if at > self.bytes.len() / 2 {
            self.bytes.drain(..at);
            self.at = 0;
        }
    }
}

/// Bytes to be sent, in order.
#[derive(Default)]
pub struct Output {
    pub bytes: Vec<u8>,
    sent: usize,
    /// Bytes of unsolicited events that are queued, at most.
    pub event_bytes: u32,
    /// What the worker's sum counts for it.
    weighed: u32,
}

impl Output {
    pub fn len(&self) -> usize {
        self.bytes.len() - self.sent
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn waiting(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// Before the first byte is queued.
    #[inline]
    pub fn prepare(&mut self, pool: &mut Pool) -> &mut Vec<u8> {
        if self.bytes.capacity() == 0 {
            self.bytes = pool.take();
        }
        &mut self.bytes
    }

    /// Queues a whole buffer, without copying it if it is the only one.
    pub fn append(&mut self, bytes: Vec<u8>, pool: &mut Pool) {
        if bytes.is_empty() {
            return;
        }
        if self.is_empty() {
            pool.give(std::mem::replace(&mut self.bytes, bytes));
            self.sent = 0;
        } else {
            self.bytes.extend_from_slice(&bytes);
        }
    }

    /// Brings the worker's sum of waiting bytes up to date.
    #[inline]
    pub fn weigh(&mut self, sum: &mut usize) {
        let bytes = u32::try_from(self.len()).unwrap_or(u32::MAX);
        if self.weighed != bytes {
            *sum = *sum + bytes as usize - self.weighed as usize;
            self.weighed = bytes;
        }
    }

    /// Takes it out of the sum.
    pub fn leave(&mut self, sum: &mut usize) {
        *sum -= std::mem::take(&mut self.weighed) as usize;
    }

    pub fn sent(&mut self, bytes: usize, pool: &mut Pool) {
        self.sent += bytes;
        // Of what is left, that many can be events: a reader that is slow but reads on is not behind for ever.
        self.event_bytes = self.event_bytes.min(u32::try_from(self.len()).unwrap_or(u32::MAX));
        if self.sent == self.bytes.len() {
            self.sent = 0;
            self.event_bytes = 0;
            pool.give(std::mem::take(&mut self.bytes));
        } else if self.sent > self.bytes.len() / 2 && self.sent > READ_BUFFER_BYTES_KEPT {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
    }
}

/// Empty buffers, warm from their last use.
pub struct Pool {
    buffers: Vec<Vec<u8>>,
}

/// More connections than this have no replies waiting only for the turn to write them.
pub const POOL_BUFFERS_MAX: usize = 64;
const POOL_BUFFER_BYTES_FIRST: usize = crate::limits::READ_BUFFER_BYTES_FIRST;

impl Pool {
    pub fn new() -> Pool {
        Pool { buffers: Vec::new() }
    }

    #[inline]
    pub fn take(&mut self) -> Vec<u8> {
        self.buffers.pop().unwrap_or_else(|| Vec::with_capacity(POOL_BUFFER_BYTES_FIRST))
    }

    #[inline]
    pub fn give(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() >= POOL_BUFFER_BYTES_FIRST
            && buffer.capacity() <= READ_BUFFER_BYTES_KEPT
            && self.buffers.len() < POOL_BUFFERS_MAX
        {
            buffer.clear();
            self.buffers.push(buffer);
        }
    }
}

/// A worker's connections by slot. Slots are used again, generations are not.
pub struct Connections {
    slots: Vec<Option<Box<Connection>>>,
    free: Vec<u32>,
    next_generation: NonZeroU32,
}

impl Connections {
    pub fn new() -> Connections {
        Connections { slots: Vec::new(), free: Vec::new(), next_generation: NonZeroU32::MIN }
    }

    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Slots that exist, taken or not.
    pub fn slots(&self) -> u32 {
        self.slots.len() as u32
    }

    pub fn insert(&mut self, make: impl FnOnce(NonZeroU32) -> Connection) -> u32 {
        let connection = Some(Box::new(make(self.next_generation)));
        self.next_generation = self.next_generation.checked_add(1).unwrap_or(NonZeroU32::MIN);
        match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = connection;
                slot
            }
            None => {
                self.slots.push(connection);
                self.slots.len() as u32 - 1
            }
        }
    }

    pub fn remove(&mut self, slot: u32) -> Option<Box<Connection>> {
        let connection = self.slots.get_mut(slot as usize)?.take()?;
        self.free.push(slot);
        Some(connection)
    }

    #[inline]
    pub fn get_mut(&mut self, slot: u32) -> Option<&mut Connection> {
        self.slots.get_mut(slot as usize)?.as_deref_mut()
    }

    pub fn get(&self, slot: u32) -> Option<&Connection> {
        self.slots.get(slot as usize)?.as_deref()
    }

    /// The connection that was meant, unless it is gone and the slot somebody else's.
    pub fn get_of(&mut self, slot: u32, generation: NonZeroU32) -> Option<&mut Connection> {
        self.get_mut(slot).filter(|connection| connection.generation == generation)
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Connection> {
        self.slots.iter_mut().filter_map(|connection| connection.as_deref_mut())
    }

    pub fn iter(&self) -> impl Iterator<Item = (u32, &Connection)> {
        self.slots
            .iter()
            .enumerate()
            .filter_map(|(slot, connection)| Some((slot as u32, connection.as_deref()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_fits_its_budget() {
        // 512 bytes a session: the watch table, the allocator and the core want their share.
        assert!(size_of::<Connection>() <= 280, "{}", size_of::<Connection>());
    }

    #[test]
    fn slots_come_back_and_generations_do_not() {
        let mut connections = Connections::new();
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let make = |generation| Connection::new(generation, peer, [].into(), Moment(0), WallMillis(0));
        let first = connections.insert(make);
        let generation = connections.get(first).expect("there").generation;
        assert!(connections.remove(first).is_some());
        assert!(connections.remove(first).is_none());
        let second = connections.insert(make);
        assert_eq!(first, second);
        assert!(connections.get_of(second, generation).is_none());
        assert_eq!(connections.len(), 1);
    }

    #[test]
    fn input_keeps_the_order_of_bytes_however_they_come() {
        let mut pool = Pool::new();
        let mut input = Input::default();
        input.keep(b"abc");
        let room = input.room(64 << 10);
        let of = room.len();
        room[..3].copy_from_slice(b"def");
        input.received(3, of);
        assert_eq!(input.waiting(), b"abcdef");
        let (bytes, at) = input.lend();
        input.restore(bytes, at + 4, &mut pool);
        assert_eq!(input.waiting(), b"ef");
        input.keep(b"g");
        let (bytes, at) = input.lend();
        let len = bytes.len();
        assert_eq!(&bytes[at..], b"efg");
        input.restore(bytes, len, &mut pool);
        assert!(input.is_empty());
        assert_eq!(input.bytes.capacity(), 0);
    }

    #[test]
    fn output_gives_its_buffer_back_when_all_is_sent() {
        let mut pool = Pool::new();
        let mut output = Output::default();
        output.prepare(&mut pool).extend_from_slice(b"abcdef");
        output.sent(2, &mut pool);
        assert_eq!(output.waiting(), b"cdef");
        output.sent(4, &mut pool);
        assert!(output.is_empty());
        assert_eq!((output.bytes.capacity(), pool.buffers.len()), (0, 1));
    }

    #[test]
    fn a_slow_reader_that_reads_on_is_not_hopelessly_behind() {
        let mut pool = Pool::new();
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let mut connection = Connection::new(NonZeroU32::MIN, peer, [].into(), Moment(0), WallMillis(0));
        connection.output.prepare(&mut pool).push(0);
        for _ in 0..40 {
            // Never empty, but never much more than a mebibyte.
            connection.output.prepare(&mut pool).extend_from_slice(&[0; 1 << 20]);
            connection.output.event_bytes += 1 << 20;
            assert!(!connection.is_hopelessly_behind());
            connection.output.sent(1 << 20, &mut pool);
        }
        connection.output.event_bytes += EVENT_BYTES_MAX as u32;
        assert!(connection.is_hopelessly_behind());
    }

    #[test]
    fn what_follows_a_connect_request_waits_unread() {
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let mut connection = Connection::new(NonZeroU32::MIN, peer, [].into(), Moment(0), WallMillis(0));
        assert!(connection.wants_reading());
        connection.input.keep(&vec![0; INPUT_BYTES_WAITING_MAX]);
        assert!(!connection.wants_reading());
    }
}
