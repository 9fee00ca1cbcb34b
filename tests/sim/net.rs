//! The network: byte streams in both directions that deliver late and in pieces, and the poll driver of each worker.
//! Not here: what the bytes mean, who connects when.

use ostler_engine::io::poll::{Poll, Ready};
use ostler_engine::ring::Wake;
use ostler_tests::random::Random;
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// One connection.
#[derive(Default)]
struct Pipe {
    /// In flight to the server, each piece with its time of arrival; `None` is the end of the stream.
    underway: VecDeque<(u64, Option<Vec<u8>>)>,
    to_server: VecDeque<u8>,
    /// The client's FIN has arrived.
    client_ended: bool,
    /// The client has reset it, or died.
    reset: bool,
    to_client: VecDeque<u8>,
    /// Bytes that `to_client` holds at most.
    window: usize,
    server_ended: bool,
    /// Since the worker was last told.
    readable: bool,
    writable: bool,
    /// Whose poll has it.
    worker: Option<usize>,
}

pub struct Net {
    pipes: BTreeMap<u64, Pipe>,
    next: u64,
    /// Connected and not accepted.
    backlog: VecDeque<u64>,
    listening: bool,
    wakes: Vec<Arc<Flag>>,
    random: Random,
    /// Bytes that workers have written, in all.
    pub written: u64,
}

/// All hold the same network.
pub type SharedNet = Arc<Mutex<Net>>;

/// A sleeper's alarm clock.
#[derive(Default)]
pub struct Flag(AtomicBool);

impl Flag {
    pub fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }

    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

pub struct Waker(pub Arc<Flag>);

impl Wake for Waker {
    fn wake(&self) {
        self.0.set();
    }
}

pub fn lock(net: &SharedNet) -> MutexGuard<'_, Net> {
    net.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Net {
    pub fn new(random: Random) -> Net {
        Net {
            pipes: BTreeMap::new(),
            next: 1,
            backlog: VecDeque::new(),
            listening: false,
            wakes: Vec::new(),
            random,
            written: 0,
        }
    }

    // --- the clients' side ------------------------------------------------------------------------------------------

    /// `None` when nobody listens.
    pub fn connect(&mut self) -> Option<u64> {
        if !self.listening {
            return None;
        }
        let number = self.next;
        self.next += 1;
        let window = match self.random.below(4) {
            0 => self.random.between(16, 400) as usize,
            _ => 64 << 10,
        };
        self.pipes.insert(number, Pipe { window, writable: true, ..Pipe::default() });
        self.backlog.push_back(number);
        if let Some(first) = self.wakes.first() {
            first.set();
        }
        Some(number)
    }

    /// Sends bytes in pieces that arrive one after the other.
    pub fn send(&mut self, number: u64, now: u64, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let most = rest.len() as u64;
            let piece = if self.random.one_in(4) { self.random.between(1, most) } else { most } as usize;
            let (piece, behind) = rest.split_at(piece);
            self.post(number, now, Some(piece.to_vec()));
            rest = behind;
        }
    }

    /// FIN behind what was sent.
    pub fn end(&mut self, number: u64, now: u64) {
        self.post(number, now, None);
    }

    fn post(&mut self, number: u64, now: u64, piece: Option<Vec<u8>>) {
        let delay = match self.random.below(20) {
            0 => self.random.below(30_000_000),
            _ => self.random.below(300_000),
        };
        if let Some(pipe) = self.pipes.get_mut(&number) {
            let after = pipe.underway.back().map_or(0, |(due, _)| *due);
            pipe.underway.push_back((after.max(now + delay), piece));
        }
    }

    /// The connection breaks: what was on its way is lost. True if the server has read all that had arrived.
    pub fn reset(&mut self, number: u64) -> bool {
        let mut all_read = true;
        if let Some(pipe) = self.pipes.get_mut(&number) {
            all_read = pipe.to_server.is_empty();
            pipe.reset = true;
            pipe.readable = true;
            pipe.underway.clear();
            pipe.to_server.clear();
            let worker = pipe.worker;
            self.wake(worker);
        }
        self.forget(number);
        all_read
    }

    /// What the server has sent, at most `most` bytes.
    pub fn receive(&mut self, number: u64, most: usize) -> Vec<u8> {
        let Some(pipe) = self.pipes.get_mut(&number) else { return Vec::new() };
        let count = most.min(pipe.to_client.len());
        let taken: Vec<u8> = pipe.to_client.drain(..count).collect();
        if !taken.is_empty() {
            pipe.writable = true;
            let worker = pipe.worker;
            self.wake(worker);
        }
        taken
    }

    /// Nothing more will come.
    pub fn is_over(&self, number: u64) -> bool {
        self.pipes.get(&number).is_none_or(|pipe| pipe.server_ended && pipe.to_client.is_empty())
    }

    pub fn has_news(&self, number: u64) -> bool {
        self.pipes.get(&number).is_none_or(|pipe| pipe.server_ended || !pipe.to_client.is_empty())
    }

    /// Forgets a connection that neither side holds.
    fn forget(&mut self, number: u64) {
        if self.pipes.get(&number).is_some_and(|pipe| pipe.reset && pipe.worker.is_none())
            && !self.backlog.contains(&number)
        {
            self.pipes.remove(&number);
        }
    }

    // --- the wire ---------------------------------------------------------------------------------------------------

    /// The next arrival at a server's socket.
    pub fn next_due(&self) -> Option<u64> {
        self.pipes.values().filter_map(|pipe| pipe.underway.front().map(|(due, _)| *due)).min()
    }

    /// Delivers what has arrived; the connections to which bytes came, and how many.
    pub fn deliver(&mut self, now: u64) -> BTreeMap<u64, usize> {
        let mut heard = BTreeMap::new();
        let mut awake = Vec::new();
        for (number, pipe) in &mut self.pipes {
            while pipe.underway.front().is_some_and(|(due, _)| *due <= now) {
                match pipe.underway.pop_front() {
                    Some((_, Some(bytes))) => {
                        *heard.entry(*number).or_default() += bytes.len();
                        pipe.to_server.extend(bytes);
                    }
                    _ => pipe.client_ended = true,
                }
                pipe.readable = true;
                awake.push(pipe.worker);
            }
        }
        awake.into_iter().for_each(|worker| self.wake(worker));
        heard
    }

    fn wake(&self, worker: Option<usize>) {
        if let Some(flag) = worker.and_then(|worker| self.wakes.get(worker)) {
            flag.set();
        }
    }

    // --- the server's side ------------------------------------------------------------------------------------------

    /// A server opens its port with these workers.
    pub fn open(&mut self, wakes: Vec<Arc<Flag>>) {
        self.wakes = wakes;
        self.listening = true;
    }

    /// The server is gone: its connections are reset.
    pub fn crash(&mut self) {
        self.listening = false;
        self.wakes.clear();
        self.backlog.clear();
        for pipe in self.pipes.values_mut() {
            (pipe.server_ended, pipe.worker) = (true, None);
            // What it had written may still arrive, or not.
            if self.random.one_in(2) {
                pipe.to_client.clear();
            }
            pipe.underway.clear();
        }
    }

    /// What a dead or released connection leaves is collected once its client has seen the end.
    pub fn collect(&mut self, number: u64) {
        if self.pipes.get(&number).is_some_and(|pipe| pipe.server_ended && pipe.worker.is_none()) {
            self.pipes.remove(&number);
        }
    }
}

/// The driver of one worker.
pub struct SimPoll {
    pub net: SharedNet,
    pub index: usize,
    pub flag: Arc<Flag>,
    tokens: BTreeMap<u32, u64>,
}

impl SimPoll {
    pub fn new(net: SharedNet, index: usize, flag: Arc<Flag>) -> SimPoll {
        SimPoll { net, index, flag, tokens: BTreeMap::new() }
    }

    fn with<R>(&self, token: u32, act: impl FnOnce(&mut Pipe, &mut Random) -> R) -> io::Result<R> {
        let number = self.tokens.get(&token).ok_or(ErrorKind::NotConnected)?;
        let net = &mut *lock(&self.net);
        let pipe = net.pipes.get_mut(number).ok_or(ErrorKind::NotConnected)?;
        match pipe.reset {
            true => Err(ErrorKind::ConnectionReset.into()),
            false => Ok(act(pipe, &mut net.random)),
        }
    }
}

impl Poll for SimPoll {
    type Socket = u64;
    type Listener = ();

    fn waker(&self) -> Box<dyn Wake> {
        Box::new(Waker(self.flag.clone()))
    }

    fn listen(&mut self, _: ()) -> io::Result<()> {
        Ok(())
    }

    fn accept(&mut self) -> io::Result<(u64, SocketAddr)> {
        let number = lock(&self.net).backlog.pop_front().ok_or(ErrorKind::WouldBlock)?;
        Ok((number, SocketAddr::from(([127, 0, 0, 1], 40_000 + (number % 20_000) as u16))))
    }

    fn unlisten(&mut self) {
        lock(&self.net).listening = false;
    }

    fn adopt(&mut self, token: u32, socket: u64) -> io::Result<()> {
        self.tokens.insert(token, socket);
        if let Some(pipe) = lock(&self.net).pipes.get_mut(&socket) {
            pipe.worker = Some(self.index);
            self.flag.set();
        }
        Ok(())
    }

    fn release(&mut self, token: u32) {
        let Some(number) = self.tokens.remove(&token) else { return };
        let mut net = lock(&self.net);
        if let Some(pipe) = net.pipes.get_mut(&number) {
            (pipe.server_ended, pipe.worker) = (true, None);
            pipe.underway.clear();
        }
        net.forget(number);
    }

    fn shutdown(&mut self, token: u32) {
        let _ = self.with(token, |pipe, _| pipe.server_ended = true);
    }

    fn read(&mut self, token: u32, into: &mut [u8]) -> io::Result<usize> {
        self.with(token, |pipe, random| {
            let count = into.len().min(pipe.to_server.len());
            if count > 0 && random.one_in(50) {
                return Err(ErrorKind::Interrupted.into());
            }
            pipe.to_server.drain(..count).zip(into).for_each(|(byte, place)| *place = byte);
            match count {
                0 if !pipe.client_ended => Err(ErrorKind::WouldBlock.into()),
                count => Ok(count),
            }
        })?
    }

    fn write(&mut self, token: u32, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.with(token, |pipe, random| {
            let mut count = bytes.len().min(pipe.window.saturating_sub(pipe.to_client.len()));
            let again = count > 1 && random.one_in(8);
            if again {
                // Less than there is room for, and told at once that there is more.
                count = random.between(1, count as u64) as usize;
                pipe.writable = true;
            }
            pipe.to_client.extend(&bytes[..count]);
            match count {
                0 => Err(io::Error::from(ErrorKind::WouldBlock)),
                count => Ok((count, again)),
            }
        })??;
        let (count, again) = taken;
        lock(&self.net).written += count as u64;
        if again {
            self.flag.set();
        }
        Ok(count)
    }

    fn wait(&mut self, _: Option<Duration>, ready: &mut Vec<Ready>) -> io::Result<()> {
        let net = &mut *lock(&self.net);
        if self.index == 0 && !net.backlog.is_empty() {
            ready.push(Ready::Listener);
        }
        for (&token, number) in &self.tokens {
            let Some(pipe) = net.pipes.get_mut(number) else { continue };
            let (readable, writable) =
                (std::mem::take(&mut pipe.readable), std::mem::take(&mut pipe.writable));
            if readable || writable {
                let closing = pipe.client_ended || pipe.reset;
                ready.push(Ready::Socket { token, readable, writable, closing });
            }
        }
        Ok(())
    }
}
