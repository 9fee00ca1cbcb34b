//! `limit echo`: the ceiling for any server behind this protocol. A bare epoll loop takes frames apart and answers each
//! with a reply of the right shape and size, and does nothing else: no tree, no log, no session.

use std::io::{self, Read, Write};
use std::net::SocketAddr;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use crate::frames;

const LISTENER: Token = Token(usize::MAX);
const READ_BYTES: usize = 256 * 1024;
const STAT_BYTES: usize = 68;

struct Client {
    stream: TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
    written: usize,
    greeted: bool,
}

/// Serves on `listener` until the process ends. `value_bytes`: data in the answer to getData.
pub fn serve(listener: std::net::TcpListener, value_bytes: usize) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let mut listener = TcpListener::from_std(listener);
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(1024);
    let mut clients: Vec<Option<Client>> = Vec::new();
    let mut scratch = vec![0; READ_BYTES];
    let data = vec![b'x'; value_bytes];
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == LISTENER {
                accept(&poll, &listener, &mut clients)?;
                continue;
            }
            let slot = &mut clients[event.token().0];
            let keep = slot.as_mut().is_some_and(|client| client.turn(&mut scratch, &data).unwrap_or(false));
            if !keep {
                *slot = None;
            }
        }
    }
}

fn accept(poll: &Poll, listener: &TcpListener, clients: &mut Vec<Option<Client>>) -> io::Result<()> {
    loop {
        let mut stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(e) => return Err(e),
        };
        stream.set_nodelay(true)?;
        let index = clients.iter().position(Option::is_none).unwrap_or(clients.len());
        poll.registry().register(&mut stream, Token(index), Interest::READABLE | Interest::WRITABLE)?;
        let client = Client { stream, input: Vec::new(), output: Vec::new(), written: 0, greeted: false };
        match clients.get_mut(index) {
            Some(slot) => *slot = Some(client),
            None => clients.push(Some(client)),
        }
    }
}

impl Client {
    /// One read, all its frames, one write. False when the client is gone.
    fn turn(&mut self, scratch: &mut [u8], data: &[u8]) -> io::Result<bool> {
        loop {
            match self.stream.read(scratch) {
                Ok(0) => return Ok(false),
                Ok(count) => {
                    self.input.extend_from_slice(&scratch[..count]);
                    if count < scratch.len() {
                        break;
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => return Err(e),
            }
        }
        let mut at = 0;
        while let Some(length) = frames::whole_frame(&self.input[at..]) {
            if self.greeted {
                answer(&mut self.output, &self.input[at + 4..at + length], data);
            } else {
                greet(&mut self.output);
                self.greeted = true;
            }
            at += length;
        }
        self.input.drain(..at);
        while self.written < self.output.len() {
            match self.stream.write(&self.output[self.written..]) {
                Ok(count) => self.written += count,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(e) => return Err(e),
            }
        }
        self.output.clear();
        self.written = 0;
        Ok(true)
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
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
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
}
