//! Thousands of sessions doing the same thing once: storms of connects, watchers of one znode, idle sessions.
//! Not here: sustained load (load).

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::frames;

const READ_BYTES: usize = 64 * 1024;
/// Connects started between two looks at what has come: handshakes go on while a storm is still being dialled.
const DIALS_PER_TURN: usize = 64;
/// closeSessions under way while a swarm leaves.
const CLOSES_AT_A_TIME: usize = 512;
/// How long a turn waits for readiness.
const PATIENCE: Duration = Duration::from_millis(200);

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Ended,
    Refused,
}

struct Member {
    stream: TcpStream,
    output: Vec<u8>,
    input: Vec<u8>,
    session: i64,
    password: [u8; 16],
    established: bool,
    began: Instant,
}

/// Sessions in one epoll loop, addressed by index.
pub struct Swarm {
    poll: Poll,
    members: Vec<Option<Member>>,
    /// Indices of members that have gone.
    free: Vec<usize>,
    leaves_no_trace: bool,
    targets: Vec<SocketAddr>,
    session_timeout_ms: i32,
    scratch: Vec<u8>,
    ready: Events,
}

/// What a turn of the loop brought.
#[derive(Debug)]
pub enum Happening<'a> {
    /// The handshake is done; the duration counts from the connect call.
    Established(usize, Duration),
    /// A frame without its length word.
    Frame(usize, &'a [u8]),
    /// The server opened no session, or no longer knows the one that was asked for.
    Refused(usize),
    Closed(usize),
}

impl Swarm {
    pub fn new(targets: Vec<SocketAddr>, session_timeout_ms: i32) -> io::Result<Swarm> {
        Ok(Swarm {
            poll: Poll::new()?,
            members: Vec::new(),
            free: Vec::new(),
            leaves_no_trace: false,
            targets,
            session_timeout_ms,
            scratch: vec![0; READ_BYTES],
            ready: Events::with_capacity(4096),
        })
    }

    /// For storms: connections that end leave no TIME_WAIT. Behind tens of thousands of them the search for a free port
    /// would be what is measured.
    pub fn leaving_no_trace(mut self) -> Swarm {
        self.leaves_no_trace = true;
        self
    }

    /// Opens `count` sessions more, `burst` handshakes under way at a time; gives each handshake's time.
    pub fn open(&mut self, count: usize, burst: usize, limit: Duration) -> io::Result<Vec<Duration>> {
        let deadline = Instant::now() + limit;
        let mut times = Vec::with_capacity(count);
        let mut opened = 0;
        while times.len() < count {
            let dials = burst.saturating_sub(opened - times.len()).min(count - opened).min(DIALS_PER_TURN);
            for _ in 0..dials {
                self.dial()?;
            }
            opened += dials;
            let more = opened < count && opened - times.len() < burst;
            let patience = if more { Duration::ZERO } else { PATIENCE };
            let mut failed = None;
            self.turn_within(patience, deadline, &mut |happening| match happening {
                Happening::Established(_, time) => times.push(time),
                Happening::Closed(index) | Happening::Refused(index) => failed = Some(index),
                Happening::Frame(..) => {}
            })?;
            if let Some(index) = failed {
                return Err(io::Error::new(
                    io::ErrorKind::ConnectionReset,
                    format!("session {index} was refused or lost after {} stood", times.len()),
                ));
            }
        }
        Ok(times)
    }

    /// Ends every session with closeSession and waits until the server has closed every connection.
    pub fn leave(&mut self, limit: Duration) -> io::Result<()> {
        let deadline = Instant::now() + limit;
        let mut todo: Vec<usize> =
            (0..self.members.len()).filter(|index| self.members[*index].is_some()).collect();
        let mut under_way = 0usize;
        while !todo.is_empty() || under_way > 0 {
            while under_way < CLOSES_AT_A_TIME
                && let Some(index) = todo.pop()
            {
                self.send(index, |out| frames::close(out, 1))?;
                under_way += 1;
            }
            self.turn(deadline, &mut |happening| {
                under_way = under_way.saturating_sub(matches!(happening, Happening::Closed(_)).into());
            })?;
        }
        Ok(())
    }

    /// Starts one more session; its index.
    pub fn dial(&mut self) -> io::Result<usize> {
        let index = self.vacancy();
        let timeout_ms = self.session_timeout_ms;
        self.dial_at(index, |out| frames::connect(out, timeout_ms))?;
        Ok(index)
    }

    /// An index that no member has.
    fn vacancy(&mut self) -> usize {
        while let Some(index) = self.free.pop() {
            // `dial_at` may have taken it meanwhile.
            if self.members[index].is_none() {
                return index;
            }
        }
        self.members.len()
    }

    /// Connects member `index` anew and sends what `write` appends, a connect request; an earlier connection is dropped.
    /// The first index that was never used extends the swarm.
    pub fn dial_at(&mut self, index: usize, write: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        self.dial_to(index, self.targets[index % self.targets.len()], write)
    }

    /// The same at a server of the caller's choice.
    pub fn dial_to(
        &mut self,
        index: usize,
        target: SocketAddr,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> io::Result<()> {
        let began = Instant::now();
        if let Some(slot) = self.members.get_mut(index) {
            *slot = None;
        }
        let mut stream = TcpStream::connect(target)?;
        if self.leaves_no_trace {
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        }
        self.poll.registry().register(&mut stream, Token(index), Interest::READABLE | Interest::WRITABLE)?;
        let mut output = Vec::with_capacity(64);
        write(&mut output);
        let member = Member {
            stream,
            output,
            input: Vec::new(),
            session: 0,
            password: [0; 16],
            established: false,
            began,
        };
        match self.members.get_mut(index) {
            Some(slot) => *slot = Some(member),
            None => self.members.push(Some(member)),
        }
        Ok(())
    }

    pub fn hang_up(&mut self, index: usize) {
        self.members[index] = None;
        self.free.push(index);
    }

    pub fn len(&self) -> usize {
        self.members.iter().flatten().count()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn session(&self, index: usize) -> Option<i64> {
        self.members.get(index)?.as_ref().map(|member| member.session)
    }

    /// Session and password of member `index`, for asking for the session again.
    pub fn identity(&self, index: usize) -> Option<(i64, [u8; 16])> {
        let member = self.members.get(index)?.as_ref().filter(|member| member.established)?;
        Some((member.session, member.password))
    }

    /// Appends requests for member `index` and sends what the socket takes.
    pub fn send(&mut self, index: usize, write: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        match self.members.get_mut(index).and_then(Option::as_mut) {
            Some(member) => {
                write(&mut member.output);
                member.flush()
            }
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Waits for the next readiness, or until `deadline`, which is an error.
    pub fn turn(&mut self, deadline: Instant, seen: &mut dyn FnMut(Happening<'_>)) -> io::Result<()> {
        self.turn_within(PATIENCE, deadline, seen)
    }

    /// The same, and gives up the wait after `patience`, which is none.
    pub fn turn_within(
        &mut self,
        patience: Duration,
        deadline: Instant,
        seen: &mut dyn FnMut(Happening<'_>),
    ) -> io::Result<()> {
        let left = deadline
            .checked_duration_since(Instant::now())
            .ok_or_else(|| io::Error::new(io::ErrorKind::TimedOut, "the server did not answer in time"))?;
        crate::load::wait(&mut self.poll, &mut self.ready, Some(left.min(patience)))?;
        for event in &self.ready {
            let index = event.token().0;
            let Some(member) = self.members.get_mut(index).and_then(Option::as_mut) else { continue };
            if event.is_writable() {
                // A failed connect shows as an error of the read below.
                let _ = member.flush();
            }
            // The end of the stream may come with the last bytes: then no later event tells of it.
            let closing = event.is_read_closed();
            match member.receive(index, closing, &mut self.scratch, seen) {
                State::Open => {}
                ended => {
                    self.members[index] = None;
                    self.free.push(index);
                    seen(if ended == State::Refused {
                        Happening::Refused(index)
                    } else {
                        Happening::Closed(index)
                    });
                }
            }
        }
        Ok(())
    }

    /// Sends `request` from every member, `burst` outstanding at a time, and waits for one reply to each.
    pub fn each(
        &mut self,
        burst: usize,
        limit: Duration,
        mut request: impl FnMut(usize, &mut Vec<u8>),
    ) -> io::Result<()> {
        let deadline = Instant::now() + limit;
        let mut todo: VecDeque<usize> =
            (0..self.members.len()).filter(|index| self.members[*index].is_some()).collect();
        let mut outstanding = 0;
        let mut lost = 0;
        while !todo.is_empty() || outstanding > 0 {
            while outstanding < burst {
                let Some(index) = todo.pop_front() else { break };
                self.send(index, |out| request(index, out))?;
                outstanding += 1;
            }
            self.turn(deadline, &mut |happening| match happening {
                Happening::Frame(_, frame) if frames::reply_header(frame).is_some_and(|h| h.xid >= 0) => {
                    outstanding -= 1;
                }
                Happening::Closed(_) | Happening::Refused(_) => lost += 1,
                _ => {}
            })?;
            if lost > 0 {
                return Err(io::Error::new(io::ErrorKind::ConnectionReset, "a session was lost"));
            }
        }
        Ok(())
    }
}

impl Member {
    fn flush(&mut self) -> io::Result<()> {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(count) => drop(self.output.drain(..count)),
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) => {
                    break;
                }
                Err(e) => return Err(e),
            }
        }
        if self.output.is_empty() {
            // Thousands of idle members are not to hold a buffer each.
            self.output = Vec::new();
        }
        Ok(())
    }

    fn receive(
        &mut self,
        index: usize,
        closing: bool,
        scratch: &mut [u8],
        seen: &mut dyn FnMut(Happening<'_>),
    ) -> State {
        let open = loop {
            match self.stream.read(scratch) {
                Ok(0) => break false,
                Ok(count) => {
                    self.input.extend_from_slice(&scratch[..count]);
                    if count < scratch.len() && !closing {
                        break true;
                    }
                }
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) => {
                    break true;
                }
                Err(_) => break false,
            }
        };
        let mut at = 0;
        while let Some(length) = frames::whole_frame(&self.input[at..]) {
            let frame = &self.input[at + 4..at + length];
            at += length;
            if self.established {
                seen(Happening::Frame(index, frame));
                continue;
            }
            match frames::connect_response(frame) {
                Some((timeout, session)) if timeout > 0 => {
                    self.established = true;
                    self.session = session;
                    self.password = frames::connect_password(frame).unwrap_or_default();
                    seen(Happening::Established(index, self.began.elapsed()));
                }
                _ => return State::Refused,
            }
        }
        self.input.drain(..at);
        if self.input.is_empty() {
            self.input = Vec::new();
        }
        if open { State::Open } else { State::Ended }
    }
}
