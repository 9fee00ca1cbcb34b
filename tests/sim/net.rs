//! The network: byte streams in both directions that deliver late and in pieces, and the poll driver of each thread.
//! A client is at one end of its streams without a driver; between two servers each end is a socket of a driver.
//! Not here: what the bytes mean, who connects when.

use ostler_engine::io::poll::{Poll, Ready};
use ostler_engine::ring::Wake;
use ostler_engine::worker::LISTENER;
use ostler_tests::random::Random;
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Where clients connect.
const CLIENT_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 2181);

/// What comes to a socket.
enum Arrival {
    Bytes(Vec<u8>),
    /// The end of the stream.
    End,
    /// The answer to a connect: whether somebody listens there.
    Connected(bool),
}

/// One socket of a server. What is at its other end: a client, or the socket `far`.
#[derive(Default)]
struct Pipe {
    /// In flight to this server, each with its time of arrival.
    underway: VecDeque<(u64, Arrival)>,
    far: Option<u64>,
    /// What became of our connect; `None`: not known yet, or the other end connected.
    connected: Option<bool>,
    to_server: VecDeque<u8>,
    /// The client's FIN has arrived.
    client_ended: bool,
    /// The client has reset it, or died.
    reset: bool,
    to_client: VecDeque<u8>,
    /// Bytes that `to_client` holds at most.
    window: usize,
    server_ended: bool,
    /// Since the owner was last told.
    readable: bool,
    writable: bool,
    /// Who wakes when something comes: whoever's poll has it.
    owner: Option<Arc<Flag>>,
}

/// An open port.
struct Listener {
    /// Connected and not accepted, and from where.
    backlog: VecDeque<(u64, SocketAddr)>,
    owner: Arc<Flag>,
}

pub struct Net {
    pipes: BTreeMap<u64, Pipe>,
    next: u64,
    listeners: BTreeMap<SocketAddr, Listener>,
    /// As of the last delivery.
    now: u64,
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
        Net { pipes: BTreeMap::new(), next: 1, listeners: BTreeMap::new(), now: 0, random, written: 0 }
    }

    // --- the clients' side ------------------------------------------------------------------------------------------

    /// `None` when nobody listens.
    pub fn connect(&mut self) -> Option<u64> {
        if !self.listeners.contains_key(&CLIENT_PORT) {
            return None;
        }
        let number = self.pipe();
        self.queue(CLIENT_PORT, number);
        Some(number)
    }

    fn pipe(&mut self) -> u64 {
        let number = self.next;
        self.next += 1;
        let window = match self.random.below(4) {
            0 => self.random.between(16, 400) as usize,
            _ => 64 << 10,
        };
        self.pipes.insert(number, Pipe { window, writable: true, ..Pipe::default() });
        number
    }

    /// False when nobody listens there.
    fn queue(&mut self, at: SocketAddr, number: u64) -> bool {
        let Some(listener) = self.listeners.get_mut(&at) else { return false };
        let from = SocketAddr::from(([127, 0, 0, 1], 40_000 + (number % 20_000) as u16));
        listener.backlog.push_back((number, from));
        listener.owner.set();
        true
    }

    /// Sends bytes in pieces that arrive one after the other.
    pub fn send(&mut self, number: u64, now: u64, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let most = rest.len() as u64;
            let piece = if self.random.one_in(4) { self.random.between(1, most) } else { most } as usize;
            let (piece, behind) = rest.split_at(piece);
            self.post(number, now, Arrival::Bytes(piece.to_vec()));
            rest = behind;
        }
    }

    /// FIN behind what was sent.
    pub fn end(&mut self, number: u64, now: u64) {
        self.post(number, now, Arrival::End);
    }

    fn post(&mut self, number: u64, now: u64, arrival: Arrival) {
        let delay = match self.random.below(20) {
            0 => self.random.below(30_000_000),
            _ => self.random.below(300_000),
        };
        if let Some(pipe) = self.pipes.get_mut(&number) {
            let after = pipe.underway.back().map_or(0, |(due, _)| *due);
            pipe.underway.push_back((after.max(now + delay), arrival));
        }
    }

    /// The connection breaks: what was on its way is lost. True if the server has read all that had arrived.
    pub fn reset(&mut self, number: u64) -> bool {
        let all_read = self.pipes.get(&number).is_none_or(|pipe| pipe.to_server.is_empty());
        let far = self.pipes.get(&number).and_then(|pipe| pipe.far);
        for number in [Some(number), far].into_iter().flatten() {
            if let Some(pipe) = self.pipes.get_mut(&number) {
                pipe.reset = true;
                pipe.readable = true;
                pipe.underway.clear();
                pipe.to_server.clear();
                pipe.wake();
            }
            self.forget(number);
        }
        all_read
    }

    /// What the server has sent, at most `most` bytes.
    pub fn receive(&mut self, number: u64, most: usize) -> Vec<u8> {
        let Some(pipe) = self.pipes.get_mut(&number) else { return Vec::new() };
        let count = most.min(pipe.to_client.len());
        let taken: Vec<u8> = pipe.to_client.drain(..count).collect();
        if !taken.is_empty() {
            pipe.writable = true;
            pipe.wake();
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
        let waits = |listener: &Listener| listener.backlog.iter().any(|(waiting, _)| *waiting == number);
        if self.pipes.get(&number).is_some_and(|pipe| pipe.reset && pipe.owner.is_none())
            && !self.listeners.values().any(waits)
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
        self.now = self.now.max(now);
        let mut heard = BTreeMap::new();
        for (number, pipe) in &mut self.pipes {
            while pipe.underway.front().is_some_and(|(due, _)| *due <= now) {
                match pipe.underway.pop_front() {
                    Some((_, Arrival::Bytes(bytes))) => {
                        *heard.entry(*number).or_default() += bytes.len();
                        pipe.to_server.extend(bytes);
                    }
                    Some((_, Arrival::Connected(stands))) => {
                        pipe.connected = Some(stands);
                        pipe.writable = true;
                    }
                    Some((_, Arrival::End)) | None => pipe.client_ended = true,
                }
                pipe.readable = true;
                pipe.wake();
            }
        }
        heard
    }

    // --- the server's side ------------------------------------------------------------------------------------------

    /// A server opens its client port with these workers.
    pub fn open(&mut self, wakes: Vec<Arc<Flag>>) {
        if let Some(owner) = wakes.into_iter().next() {
            self.listeners.insert(CLIENT_PORT, Listener { backlog: VecDeque::new(), owner });
        }
    }

    /// The server is gone: its connections are reset.
    pub fn crash(&mut self) {
        self.listeners.clear();
        for pipe in self.pipes.values_mut() {
            (pipe.server_ended, pipe.owner) = (true, None);
            // What it had written may still arrive, or not.
            if self.random.one_in(2) {
                pipe.to_client.clear();
            }
            pipe.underway.clear();
        }
    }

    /// What a dead or released connection leaves is collected once its client has seen the end.
    pub fn collect(&mut self, number: u64) {
        if self.pipes.get(&number).is_some_and(|pipe| pipe.server_ended && pipe.owner.is_none()) {
            self.pipes.remove(&number);
        }
    }
}

impl Pipe {
    fn wake(&self) {
        if let Some(owner) = &self.owner {
            owner.set();
        }
    }

    /// Written to this socket and not read from it.
    fn unread(&self) -> usize {
        let underway = self.underway.iter().map(|(_, arrival)| match arrival {
            Arrival::Bytes(bytes) => bytes.len(),
            Arrival::End | Arrival::Connected(_) => 0,
        });
        self.to_server.len() + underway.sum::<usize>()
    }
}

/// The driver of one thread.
pub struct SimPoll {
    pub net: SharedNet,
    pub flag: Arc<Flag>,
    listeners: BTreeMap<u32, SocketAddr>,
    tokens: BTreeMap<u32, u64>,
}

impl SimPoll {
    /// The first worker has the client port.
    pub fn new(net: SharedNet, index: usize, flag: Arc<Flag>) -> SimPoll {
        let listeners = (index == 0).then_some((LISTENER, CLIENT_PORT)).into_iter().collect();
        SimPoll { net, flag, listeners, tokens: BTreeMap::new() }
    }

    /// The driver of a thread that has no clients.
    #[cfg(test)]
    pub fn apart(net: SharedNet, flag: Arc<Flag>) -> SimPoll {
        SimPoll { net, flag, listeners: BTreeMap::new(), tokens: BTreeMap::new() }
    }

    /// To the server at the other end. What there is no room for stays with the caller.
    fn write_far(&self, number: u64, far: u64, bytes: &[u8]) -> io::Result<usize> {
        let net = &mut *lock(&self.net);
        let window = net.pipes.get(&number).map_or(0, |pipe| pipe.window);
        let unread = match net.pipes.get(&far) {
            Some(other) if !other.server_ended => other.unread(),
            _ => return Err(ErrorKind::BrokenPipe.into()),
        };
        let count = bytes.len().min(window.saturating_sub(unread));
        if count == 0 && !bytes.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        net.send(far, net.now, &bytes[..count]);
        Ok(count)
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
    type Listener = SocketAddr;

    fn waker(&self) -> Box<dyn Wake> {
        Box::new(Waker(self.flag.clone()))
    }

    fn bind(&mut self, address: Option<IpAddr>, port: u16, _: u32) -> io::Result<(SocketAddr, SocketAddr)> {
        let address = SocketAddr::new(address.unwrap_or(Ipv4Addr::LOCALHOST.into()), port);
        match lock(&self.net).listeners.contains_key(&address) {
            true => Err(ErrorKind::AddrInUse.into()),
            false => Ok((address, address)),
        }
    }

    fn listen(&mut self, number: u32, listener: SocketAddr) -> io::Result<()> {
        let open = Listener { backlog: VecDeque::new(), owner: self.flag.clone() };
        lock(&self.net).listeners.insert(listener, open);
        self.listeners.insert(number, listener);
        Ok(())
    }

    fn accept(&mut self, number: u32) -> io::Result<(u64, SocketAddr)> {
        let address = self.listeners.get(&number).ok_or(ErrorKind::WouldBlock)?;
        let net = &mut *lock(&self.net);
        let listener = net.listeners.get_mut(address).ok_or(ErrorKind::WouldBlock)?;
        Ok(listener.backlog.pop_front().ok_or(ErrorKind::WouldBlock)?)
    }

    fn unlisten(&mut self, number: u32) {
        let Some(address) = self.listeners.remove(&number) else { return };
        lock(&self.net).listeners.remove(&address);
    }

    fn connect(&mut self, token: u32, address: SocketAddr) -> io::Result<()> {
        let net = &mut *lock(&self.net);
        let [near, far] = [net.pipe(), net.pipe()];
        let stands = net.queue(address, far);
        for (number, other) in [(near, far), (far, near)] {
            if let Some(pipe) = net.pipes.get_mut(&number) {
                pipe.far = stands.then_some(other);
            }
        }
        if let Some(pipe) = net.pipes.get_mut(&near) {
            (pipe.writable, pipe.owner) = (false, Some(self.flag.clone()));
        }
        if !stands {
            net.pipes.remove(&far);
        }
        net.post(near, net.now, Arrival::Connected(stands));
        self.tokens.insert(token, near);
        Ok(())
    }

    fn connected(&mut self, token: u32) -> io::Result<bool> {
        self.with(token, |pipe, _| match pipe.connected {
            Some(false) => Err(ErrorKind::ConnectionRefused.into()),
            stands => Ok(stands.is_some()),
        })?
    }

    fn adopt(&mut self, token: u32, socket: u64) -> io::Result<()> {
        self.tokens.insert(token, socket);
        if let Some(pipe) = lock(&self.net).pipes.get_mut(&socket) {
            pipe.owner = Some(self.flag.clone());
            self.flag.set();
        }
        Ok(())
    }

    fn release(&mut self, token: u32) {
        let Some(number) = self.tokens.remove(&token) else { return };
        let net = &mut *lock(&self.net);
        let mut far = None;
        if let Some(pipe) = net.pipes.get_mut(&number) {
            far = pipe.far.filter(|_| !pipe.server_ended);
            (pipe.server_ended, pipe.owner) = (true, None);
            pipe.underway.clear();
        }
        if let Some(far) = far {
            net.post(far, net.now, Arrival::End);
        }
        // No client looks at a connection between servers.
        if net.pipes.get(&number).is_some_and(|pipe| pipe.far.is_some() || pipe.connected.is_some()) {
            net.pipes.remove(&number);
        }
        net.forget(number);
    }

    fn shutdown(&mut self, token: u32) {
        let far =
            self.with(token, |pipe, _| pipe.far.filter(|_| !std::mem::replace(&mut pipe.server_ended, true)));
        if let Ok(Some(far)) = far {
            let net = &mut *lock(&self.net);
            net.post(far, net.now, Arrival::End);
        }
    }

    fn read(&mut self, token: u32, into: &mut [u8]) -> io::Result<usize> {
        let (count, far) = self.with(token, |pipe, random| {
            let count = into.len().min(pipe.to_server.len());
            if count > 0 && random.one_in(50) {
                return Err(ErrorKind::Interrupted.into());
            }
            pipe.to_server.drain(..count).zip(into).for_each(|(byte, place)| *place = byte);
            match count {
                0 if !pipe.client_ended => Err(io::Error::from(ErrorKind::WouldBlock)),
                count => Ok((count, pipe.far)),
            }
        })??;
        if let Some(other) = far.and_then(|far| {
            lock(&self.net).pipes.get_mut(&far).map(|other| {
                other.writable = true;
                other.owner.clone()
            })
        }) {
            other.iter().for_each(|owner| owner.set());
        }
        Ok(count)
    }

    fn write(&mut self, token: u32, bytes: &[u8]) -> io::Result<usize> {
        if let Some(far) = self.with(token, |pipe, _| pipe.far)? {
            return self.write_far(self.tokens[&token], far, bytes);
        }
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
        for (&number, address) in &self.listeners {
            if net.listeners.get(address).is_some_and(|listener| !listener.backlog.is_empty()) {
                ready.push(Ready::Listener(number));
            }
        }
        for (&token, number) in &self.tokens {
            let Some(pipe) = net.pipes.get_mut(number) else { continue };
            let (readable, writable) =
                (std::mem::take(&mut pipe.readable), std::mem::take(&mut pipe.writable));
            if readable || writable {
                let closing = pipe.client_ended || pipe.reset || pipe.connected == Some(false);
                ready.push(Ready::Socket { token, readable, writable, closing });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 2888);
    const OTHER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 3888);

    fn pair() -> (SharedNet, SimPoll, SimPoll) {
        let net = Arc::new(Mutex::new(Net::new(Random::new(7))));
        let apart = || SimPoll::apart(net.clone(), Arc::default());
        (net.clone(), apart(), apart())
    }

    /// All that is under way arrives.
    fn arrive(net: &SharedNet) {
        let mut net = lock(net);
        while let Some(due) = net.next_due() {
            net.deliver(due);
        }
    }

    fn told(poll: &mut SimPoll) -> Vec<Ready> {
        let mut ready = Vec::new();
        poll.wait(None, &mut ready).expect("a wait");
        ready
    }

    fn listen(poll: &mut SimPoll, number: u32, address: SocketAddr) {
        let (listener, _) = poll.bind(Some(address.ip()), address.port(), 8).expect("free");
        poll.listen(number, listener).expect("open");
    }

    #[test]
    fn servers_connect_to_one_of_several_listeners_and_bytes_go_both_ways() {
        let (net, mut one, mut two) = pair();
        listen(&mut two, 0, PORT);
        listen(&mut two, 1, OTHER);
        assert!(one.bind(Some(PORT.ip()), PORT.port(), 8).is_err());
        one.connect(3, OTHER).expect("begun");
        assert!(!one.connected(3).expect("under way"));
        assert_eq!(told(&mut two), [Ready::Listener(1)]);
        assert_eq!(two.accept(0).expect_err("nobody there").kind(), ErrorKind::WouldBlock);
        let (socket, _) = two.accept(1).expect("a connection");
        two.adopt(9, socket).expect("adopted");
        arrive(&net);
        assert!(one.connected(3).expect("connected"));
        assert!(matches!(
            told(&mut one)[..],
            [Ready::Socket { token: 3, writable: true, closing: false, .. }]
        ));

        // More than any window takes: the rest goes when the other end has read.
        let sent: Vec<u8> = (0..200_000u32).map(|n| n as u8).collect();
        let (mut at, mut got, mut buffer) = (0, Vec::new(), [0; 5000]);
        while got.len() < sent.len() {
            match one.write(3, &sent[at..]) {
                Ok(count) => at += count,
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            arrive(&net);
            if let Ok(count) = two.read(9, &mut buffer) {
                got.extend_from_slice(&buffer[..count]);
                assert!(one.flag.take());
            }
        }
        assert!(got == sent);
        two.release(9);
        arrive(&net);
        let ends = told(&mut one);
        assert!(matches!(ends[..], [Ready::Socket { token: 3, closing: true, .. }]), "{ends:?}");
        assert_eq!(one.read(3, &mut buffer).expect("the end"), 0);
        assert!(one.write(3, b"x").is_err());
        one.release(3);
        assert!(lock(&net).pipes.is_empty());
    }

    #[test]
    fn a_connect_to_a_closed_port_is_refused() {
        let (net, mut one, mut two) = pair();
        listen(&mut two, 0, PORT);
        two.unlisten(0);
        one.connect(3, PORT).expect("begun");
        arrive(&net);
        assert!(matches!(told(&mut one)[..], [Ready::Socket { token: 3, closing: true, .. }]));
        assert_eq!(one.connected(3).expect_err("refused").kind(), ErrorKind::ConnectionRefused);
        one.release(3);
        assert!(lock(&net).pipes.is_empty());
    }
}
