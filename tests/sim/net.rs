//! The network: byte streams in both directions that deliver late and in pieces, and the poll driver of each thread.
//! A client is at one end of its streams without a driver; between two servers each end is a socket of a driver.
//! Not here: what the bytes mean, who connects when.

use ostler_engine::io::poll::{Poll, Ready};
use ostler_engine::ring::Wake;
use ostler_engine::worker::LISTENER;
use ostler_tests::random::Random;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The machine of a server, by the server's id.
pub type HostId = u8;

pub fn address_of(host: HostId) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, host))
}

/// Where clients connect.
fn client_port(host: HostId) -> SocketAddr {
    SocketAddr::new(address_of(host), 2181)
}

fn host_of(address: IpAddr) -> HostId {
    match address {
        IpAddr::V4(address) => address.octets()[3],
        IpAddr::V6(_) => 0,
    }
}

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
    /// Whose socket it is.
    host: HostId,
    /// The server at the other end.
    far_host: Option<HostId>,
    /// In flight to this server, each with its time of arrival.
    underway: VecDeque<(u64, Arrival)>,
    far: Option<u64>,
    /// Its machine lost its power: nobody answers, not even with a reset.
    is_dark: bool,
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
    /// Nothing arrives from the first at the second.
    cuts: BTreeSet<(HostId, HostId)>,
    /// Machines without power.
    dark: BTreeSet<HostId>,
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
        Net {
            pipes: BTreeMap::new(),
            next: 1,
            listeners: BTreeMap::new(),
            cuts: BTreeSet::new(),
            dark: BTreeSet::new(),
            now: 0,
            random,
            written: 0,
        }
    }

    // --- what goes wrong --------------------------------------------------------------------------------------------

    /// From now on nothing arrives from `from` at `to`. What is on its way waits, as TCP has it.
    pub fn cut(&mut self, from: HostId, to: HostId) {
        self.cuts.insert((from, to));
    }

    pub fn heal(&mut self) {
        self.cuts.clear();
        for pipe in self.pipes.values_mut().filter(|pipe| pipe.far_host.is_some()) {
            pipe.writable |= pipe.connected != Some(false) && pipe.far.is_some();
            pipe.wake();
        }
    }

    pub fn is_cut(&self, one: HostId, other: HostId) -> bool {
        self.cuts.contains(&(one, other)) || self.cuts.contains(&(other, one))
    }

    /// Breaks one of the connections between two servers; between whom.
    pub fn break_one(&mut self) -> Option<(HostId, HostId)> {
        let linked: Vec<u64> =
            self.pipes.iter().filter(|(_, pipe)| pipe.far.is_some()).map(|(number, _)| *number).collect();
        if linked.is_empty() {
            return None;
        }
        let number = *self.random.pick(&linked);
        let ends = self.pipes.get(&number).and_then(|pipe| Some((pipe.host, pipe.far_host?)));
        self.reset(number);
        ends
    }

    // --- the clients' side ------------------------------------------------------------------------------------------

    /// `None` when nobody listens.
    pub fn connect(&mut self, host: HostId) -> Option<u64> {
        let port = client_port(host);
        if !self.listeners.contains_key(&port) {
            return None;
        }
        let window = match self.random.below(4) {
            0 => self.random.between(16, 400) as usize,
            _ => 64 << 10,
        };
        let number = self.pipe(host, None, window);
        self.queue(port, number);
        Some(number)
    }

    fn pipe(&mut self, host: HostId, far_host: Option<HostId>, window: usize) -> u64 {
        let number = self.next;
        self.next += 1;
        let pipe = Pipe { host, far_host, window, writable: true, ..Pipe::default() };
        self.pipes.insert(number, pipe);
        number
    }

    /// False when nobody listens there.
    fn queue(&mut self, at: SocketAddr, number: u64) -> bool {
        let Some(listener) = self.listeners.get_mut(&at) else { return false };
        let far_host = self.pipes.get(&number).and_then(|pipe| pipe.far_host);
        let from = SocketAddr::new(
            far_host.map_or(Ipv4Addr::LOCALHOST.into(), address_of),
            40_000 + (number % 20_000) as u16,
        );
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
        let arrives = |pipe: &&Pipe| !pipe.is_held(&self.cuts);
        let next = |pipe: &Pipe| pipe.underway.front().map(|(due, _)| *due);
        self.pipes.values().filter(arrives).filter_map(next).min()
    }

    /// Delivers what has arrived; the connections to which bytes came, and how many.
    pub fn deliver(&mut self, now: u64) -> BTreeMap<u64, usize> {
        self.now = self.now.max(now);
        let mut heard = BTreeMap::new();
        for (number, pipe) in &mut self.pipes {
            if pipe.is_held(&self.cuts) {
                continue;
            }
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

    /// A server's machine runs, and its client port opens with these workers. What it was sent while it had no power
    /// is answered with resets.
    pub fn open(&mut self, host: HostId, wakes: Vec<Arc<Flag>>) {
        self.dark.remove(&host);
        let dark = |pipe: &Pipe| pipe.is_dark && pipe.host == host;
        let left: Vec<u64> =
            self.pipes.iter().filter(|(_, pipe)| dark(pipe)).map(|(number, _)| *number).collect();
        for number in left {
            self.reset(number);
            self.pipes.remove(&number);
        }
        if let Some(owner) = wakes.into_iter().next() {
            self.listeners.insert(client_port(host), Listener { backlog: VecDeque::new(), owner });
        }
    }

    /// The server is gone: its connections are reset, or, when its machine has no power, silent.
    pub fn crash(&mut self, host: HostId, power: bool) {
        self.listeners.retain(|address, _| host_of(address.ip()) != host);
        if power {
            self.dark.insert(host);
        }
        let mut ends = Vec::new();
        for (number, pipe) in self.pipes.iter_mut().filter(|(_, pipe)| pipe.host == host) {
            pipe.owner = None;
            match (pipe.far_host, power) {
                (Some(_), true) => pipe.is_dark = true,
                (Some(_), false) => ends.push((*number, pipe.far)),
                (None, _) => {
                    pipe.server_ended = true;
                    // What it had written may still arrive, or not.
                    if self.random.one_in(2) {
                        pipe.to_client.clear();
                    }
                    pipe.underway.clear();
                }
            }
        }
        for (number, far) in ends {
            self.pipes.remove(&number);
            if let Some(far) = far {
                self.post(far, self.now, Arrival::End);
            }
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
    /// What is on its way here does not arrive for now.
    fn is_held(&self, cuts: &BTreeSet<(HostId, HostId)>) -> bool {
        self.far_host.is_some_and(|from| cuts.contains(&(from, self.host)))
    }

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
    host: HostId,
    pub flag: Arc<Flag>,
    listeners: BTreeMap<u32, SocketAddr>,
    tokens: BTreeMap<u32, u64>,
}

impl SimPoll {
    /// The first worker has the client port.
    pub fn of_worker(net: SharedNet, host: HostId, index: usize, flag: Arc<Flag>) -> SimPoll {
        let listeners = (index == 0).then_some((LISTENER, client_port(host))).into_iter().collect();
        SimPoll { net, host, flag, listeners, tokens: BTreeMap::new() }
    }

    /// The driver of a thread that has no clients.
    pub fn of_peers(net: SharedNet, host: HostId, flag: Arc<Flag>) -> SimPoll {
        SimPoll { net, host, flag, listeners: BTreeMap::new(), tokens: BTreeMap::new() }
    }

    /// To the server at the other end. What there is no room for stays with the caller.
    fn write_far(&self, number: u64, far: u64, bytes: &[u8]) -> io::Result<usize> {
        let net = &mut *lock(&self.net);
        let (window, there) = net.pipes.get(&number).map_or((0, None), |pipe| (pipe.window, pipe.far_host));
        let unread = match net.pipes.get(&far) {
            Some(other) if !other.server_ended => other.unread(),
            // That it is gone is not known here before the cut is healed.
            _ if there.is_some_and(|there| net.is_cut(self.host, there)) => window,
            _ => return Err(ErrorKind::BrokenPipe.into()),
        };
        let mut count = bytes.len().min(window.saturating_sub(unread));
        if count == 0 && !bytes.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        if count > 1 && net.random.one_in(8) {
            count = net.random.between(1, count as u64) as usize;
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
        let address = SocketAddr::new(address.unwrap_or(address_of(self.host)), port);
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
        let (here, there) = (self.host, host_of(address.ip()));
        let window = if net.random.one_in(4) { net.random.between(1000, 9000) as usize } else { 64 << 10 };
        let near = net.pipe(here, Some(there), window);
        self.tokens.insert(token, near);
        let is_silent = net.dark.contains(&there) || net.is_cut(here, there);
        let far = (!is_silent).then(|| net.pipe(there, Some(here), window));
        let stands = far.is_some_and(|far| net.queue(address, far));
        if let Some(pipe) = net.pipes.get_mut(&near) {
            (pipe.writable, pipe.owner) = (false, Some(self.flag.clone()));
            pipe.far = far.filter(|_| stands);
        }
        let Some(far) = far else { return Ok(()) };
        match net.pipes.get_mut(&far) {
            Some(pipe) if stands => pipe.far = Some(near),
            _ => drop(net.pipes.remove(&far)),
        }
        net.post(near, net.now, Arrival::Connected(stands));
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
        if net.pipes.get(&number).is_some_and(|pipe| pipe.far_host.is_some()) {
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

    const PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)), 2888);
    const OTHER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)), 3888);

    fn pair() -> (SharedNet, SimPoll, SimPoll) {
        let net = Arc::new(Mutex::new(Net::new(Random::new(7))));
        let apart = |host| SimPoll::of_peers(net.clone(), host, Arc::default());
        (net.clone(), apart(1), apart(2))
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
