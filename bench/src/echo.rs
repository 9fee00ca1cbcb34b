//! `limit echo`: the ceiling for any server behind this protocol. A bare epoll loop takes frames apart and answers each
//! with a reply of the right shape and size, and does nothing else: no tree, no log. Of sessions it knows only how they
//! begin and end: a connect is greeted, and behind the answer to closeSession the connection is closed, as servers do.

use std::io::{self, Write};
use std::net::SocketAddr;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use crate::frames;

const LISTENER: Token = Token(usize::MAX);
const READ_BYTES: usize = 256 * 1024;
const STAT_BYTES: usize = 68;
/// Connects waiting in the kernel: as many as it allows, so that a storm is not slowed by retransmitted SYNs.
const BACKLOG: i32 = 65_535;
const GET_DATA: &[u8] = &4i32.to_be_bytes();
const SET_DATA: &[u8] = &5i32.to_be_bytes();
const CLOSE_SESSION: &[u8] = &(-11i32).to_be_bytes();

struct Client {
    stream: TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
    written: usize,
    greeted: bool,
    closing: bool,
    /// It asked for a watch.
    watching: bool,
    /// It changed something: every watcher is due an event.
    fired: bool,
}

/// Connections by token; slots of closed ones are taken again, so that a storm finds one without a search.
#[derive(Default)]
struct Clients {
    slots: Vec<Option<Client>>,
    free: Vec<usize>,
    /// Somebody may be watching.
    watchers: bool,
}

impl Clients {
    fn insert(&mut self, poll: &Poll, mut stream: TcpStream) -> io::Result<()> {
        let index = self.free.pop().unwrap_or(self.slots.len());
        poll.registry().register(&mut stream, Token(index), Interest::READABLE | Interest::WRITABLE)?;
        let client = Client {
            stream,
            input: Vec::new(),
            output: Vec::new(),
            written: 0,
            greeted: false,
            closing: false,
            watching: false,
            fired: false,
        };
        match self.slots.get_mut(index) {
            Some(slot) => *slot = Some(client),
            None => self.slots.push(Some(client)),
        }
        Ok(())
    }

    fn turn(&mut self, index: usize, scratch: &mut [u8], data: &[u8]) {
        let Some(client) = self.slots.get_mut(index).and_then(Option::as_mut) else { return };
        let open = client.turn(scratch, data).unwrap_or(false);
        let fired = std::mem::take(&mut client.fired);
        self.watchers |= client.watching;
        if !open {
            self.slots[index] = None;
            self.free.push(index);
        }
        if fired && self.watchers {
            self.fire();
        }
    }

    /// One event to each watcher, each by a bare send: the ceiling for a watch that fires.
    fn fire(&mut self) {
        self.watchers = false;
        for client in self.slots.iter_mut().flatten().filter(|client| client.watching) {
            client.watching = false;
            event(&mut client.output);
            // Who is gone shows at its next turn.
            let _ = client.flush();
        }
    }
}

/// A listener on a loopback port (0: one the kernel picks) with room for a storm of connects.
pub fn listen(port: u16) -> io::Result<std::net::TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], port)).into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Serves on `listener` until the process ends. `value_bytes`: data in the answer to getData.
pub fn serve(listener: std::net::TcpListener, value_bytes: usize) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let mut listener = TcpListener::from_std(listener);
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(1024);
    let mut clients = Clients::default();
    let mut scratch = vec![0; READ_BYTES];
    let data = vec![b'x'; value_bytes];
    loop {
        crate::load::wait(&mut poll, &mut events, None)?;
        for event in &events {
            match event.token() {
                LISTENER => accept(&poll, &listener, &mut clients)?,
                Token(index) => clients.turn(index, &mut scratch, &data),
            }
        }
    }
}

fn accept(poll: &Poll, listener: &TcpListener, clients: &mut Clients) -> io::Result<()> {
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nodelay(true)?;
                clients.insert(poll, stream)?;
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(e) => return Err(e),
        }
    }
}

impl Client {
    /// One read, all its frames, one write. False when the client is gone.
    fn turn(&mut self, scratch: &mut [u8], data: &[u8]) -> io::Result<bool> {
        if !frames::read_dry(&mut self.stream, scratch, &mut self.input)? {
            return Ok(false);
        }
        let mut at = 0;
        while let Some(length) = frames::whole_frame(&self.input[at..]) {
            if self.greeted {
                let op = self.input.get(at + 8..at + 12);
                self.closing |= op == Some(CLOSE_SESSION);
                self.watching |= op == Some(GET_DATA) && self.input.get(at + length - 1) == Some(&1);
                self.fired |= op == Some(SET_DATA);
                answer(&mut self.output, &self.input[at + 4..at + length], data);
            } else {
                greet(&mut self.output);
                self.greeted = true;
            }
            at += length;
        }
        self.input.drain(..at);
        self.flush()?;
        Ok(!self.closing)
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.written < self.output.len() {
            match self.stream.write(&self.output[self.written..]) {
                Ok(count) => self.written += count,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e),
            }
        }
        self.output.clear();
        self.written = 0;
        Ok(())
    }
}

fn greet(out: &mut Vec<u8>) {
    out.extend_from_slice(&37i32.to_be_bytes());
    out.extend_from_slice(&0i32.to_be_bytes());
    out.extend_from_slice(&30_000i32.to_be_bytes());
    out.extend_from_slice(&1i64.to_be_bytes());
    out.extend_from_slice(&16i32.to_be_bytes());
    out.extend_from_slice(&[0; 17]);
}

/// NodeDataChanged on a path of the length scenarios watch.
fn event(out: &mut Vec<u8>) {
    const PATH: &[u8] = b"/bench-watch/watched";
    out.extend_from_slice(&((28 + PATH.len()) as i32).to_be_bytes());
    out.extend_from_slice(&(-1i32).to_be_bytes());
    out.extend_from_slice(&(-1i64).to_be_bytes());
    out.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 3]);
    out.extend_from_slice(&(PATH.len() as i32).to_be_bytes());
    out.extend_from_slice(PATH);
}

/// `request` begins with xid and type; the reply carries the xid and a body of the operation's size.
fn answer(out: &mut Vec<u8>, request: &[u8], data: &[u8]) {
    let (Some(xid), Some(op)) = (request.get(..4), request.get(4..8)) else { return };
    let body = match op {
        [0, 0, 0, 4] => 4 + data.len() + STAT_BYTES,
        [0, 0, 0, 3] | [0, 0, 0, 5] => STAT_BYTES,
        [0, 0, 0, 1] => 4 + 24,
        _ => 0,
    };
    out.reserve(20 + body);
    out.extend_from_slice(&((16 + body) as i32).to_be_bytes());
    out.extend_from_slice(xid);
    out.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]);
    if op == [0, 0, 0, 4] {
        out.extend_from_slice(&(data.len() as i32).to_be_bytes());
        out.extend_from_slice(data);
    }
    let end = out.len() + body - if op == [0, 0, 0, 4] { 4 + data.len() } else { 0 };
    out.resize(end, 0);
}

/// Starts the loop on a thread of this process, on a port the kernel picks: for smoke tests. Measurements run it as a
/// process of its own, pinned.
pub fn start_thread(value_bytes: usize) -> io::Result<SocketAddr> {
    let listener = listen(0)?;
    let address = listener.local_addr()?;
    std::thread::Builder::new().name("echo".into()).spawn(move || {
        if let Err(e) = serve(listener, value_bytes) {
            eprintln!("echo: {e}");
        }
    })?;
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::Op;
    use crate::keys::{Choice, Keys, Shape};
    use crate::load::{Mix, Pace, Plan, run};
    use std::time::Duration;

    #[test]
    fn the_load_engine_runs_against_it() {
        let address = start_thread(100).unwrap();
        for pace in [Pace::Closed, Pace::Fixed(2_000.0), Pace::Poisson(2_000.0)] {
            let plan = Plan {
                targets: vec![address],
                connections: 3,
                depth: 4,
                mix: Mix::new(&[(Op::Read, 10), (Op::Write, 1), (Op::Create, 1), (Op::Delete, 1)]).unwrap(),
                keys: Keys { shape: Shape::Flat, count: 100 },
                choice: Choice::Uniform,
                value_bytes: 100,
                multi_size: 2,
                created_parent: "/created".into(),
                pace,
                warmup: Duration::from_millis(50),
                duration: Duration::from_millis(300),
                session_timeout_ms: 30_000,
                seed: 1,
                server_pids: vec![std::process::id()],
            };
            let outcome = run(&plan, &mut |_| {}).unwrap();
            assert!(outcome.recording.completed() > 100, "{pace:?}: {}", outcome.recording.completed());
            assert!(outcome.recording.errors.is_empty());
            assert_eq!(outcome.per_target.iter().sum::<u64>(), outcome.recording.completed());
        }
    }

    #[test]
    fn a_session_ends_with_its_connection() {
        use crate::swarm::{Happening, Swarm};
        let mut swarm = Swarm::new(vec![start_thread(100).unwrap()], 30_000).unwrap();
        let limit = Duration::from_secs(20);
        for _ in 0..2 {
            swarm.open(300, 300, limit).unwrap();
            for index in 0..300 {
                swarm.send(index, |out| frames::close(out, 1)).unwrap();
            }
            let (mut answers, mut closed) = (0, 0);
            while closed < 300 {
                swarm
                    .turn(std::time::Instant::now() + limit, &mut |happening| match happening {
                        Happening::Frame(..) => answers += 1,
                        Happening::Closed(_) => closed += 1,
                        _ => panic!("nobody dialled"),
                    })
                    .unwrap();
            }
            assert_eq!((answers, swarm.len()), (300, 0));
        }
    }
}
