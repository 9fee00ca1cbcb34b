//! The shell's client session: one background thread owns the connection, re-attaches after a loss, pings, and hands
//! replies to the waiting command and events to a listener.
//! Not here: commands, their text.
//! Why our own and not a client library: the shell must show events, Stats and error codes exactly as they came, for
//! every operation of 3.9, and the engine's codec is at hand.

use std::collections::{BTreeSet, VecDeque};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::wire::{self, Event, Handshake, Reply};

const AUTH_XID: i32 = -4;
const PING_XID: i32 = -2;
const SET_WATCHES_XID: i32 = -8;
/// Apache's client splits what it re-registers into requests of about this many bytes of paths.
const SET_WATCHES_BYTES_MAX: usize = 128 * 1024;
/// Without a word nobody is kept waiting longer.
const SILENCE_MAX: Duration = Duration::from_secs(1);
/// Between two lines on the same trouble.
const TROUBLE_AGAIN: Duration = Duration::from_secs(5);
/// However many servers share the timeout.
const CONNECT_LEAST: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    Connecting,
    Connected,
    ConnectedReadOnly,
    AuthFailed,
    Expired,
    Closed,
}

impl State {
    /// As the prompt and the events name it.
    pub fn name(self) -> &'static str {
        match self {
            State::Connecting => "CONNECTING",
            State::Connected => "CONNECTED",
            State::ConnectedReadOnly => "CONNECTEDREADONLY",
            State::AuthFailed => "AUTH_FAILED",
            State::Expired | State::Closed => "CLOSED",
        }
    }
}

/// What a waiting request learns when no reply came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loss {
    Connection,
    SessionExpired,
    AuthFailed,
    Timeout,
    /// The user no longer wants to wait.
    Cancelled {
        sent: bool,
    },
}

/// Which table of the server a client-side watch belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WatchKind {
    Data,
    Exist,
    Child,
    Persistent,
    Recursive,
}

/// Paths this client watches, to be registered anew after a reconnect.
#[derive(Default)]
pub struct Watches([BTreeSet<String>; 5]);

impl Watches {
    pub fn add(&mut self, kind: WatchKind, path: &str) {
        self.0[kind as usize].insert(path.to_string());
    }

    pub fn remove(&mut self, kind: WatchKind, path: &str) -> bool {
        self.0[kind as usize].remove(path)
    }

    pub fn contains(&self, kind: WatchKind, path: &str) -> bool {
        self.0[kind as usize].contains(path)
    }

    /// One-shot watches that `event` used up.
    fn consume(&mut self, event: &Event) {
        let used: &[WatchKind] = match event.kind {
            wire::CREATED | wire::DATA_CHANGED => &[WatchKind::Data, WatchKind::Exist],
            wire::DELETED => &[WatchKind::Data, WatchKind::Exist, WatchKind::Child],
            wire::CHILDREN_CHANGED => &[WatchKind::Child],
            _ => &[],
        };
        for kind in used {
            self.remove(*kind, &event.path);
        }
    }

    /// The setWatches2 bodies that register everything again.
    fn registrations(&self, seen: i64) -> Vec<Vec<u8>> {
        let mut bodies = Vec::new();
        let mut lists: [Vec<&str>; 5] = Default::default();
        let mut bytes = 0;
        for (at, set) in self.0.iter().enumerate() {
            for path in set {
                if bytes + path.len() > SET_WATCHES_BYTES_MAX {
                    bodies.push(wire::set_watches(seen, &lists));
                    lists = Default::default();
                    bytes = 0;
                }
                bytes += path.len();
                lists[at].push(path);
            }
        }
        if bytes > 0 {
            bodies.push(wire::set_watches(seen, &lists));
        }
        bodies
    }
}

struct Waiting {
    xid: i32,
    answer: SyncSender<Result<Reply, Loss>>,
}

struct Shared {
    state: State,
    stream: Option<TcpStream>,
    waiting: VecDeque<Waiting>,
    next_xid: i32,
    session: i64,
    password: Vec<u8>,
    seen: i64,
    sent_at: Instant,
    auths: Vec<(String, Option<Vec<u8>>)>,
    watches: Watches,
    /// closeSession is on its way: the end of the connection is no loss.
    closing: bool,
    /// Server the connection stands on, as in the list the user gave.
    server: String,
    /// The command under way shall wait for nothing any more.
    cancelled: bool,
    /// Why there is no connection, and when that was last said.
    trouble: Option<(String, Instant)>,
}

struct Inner {
    shared: Mutex<Shared>,
    changed: Condvar,
    options: SessionOptions,
    listener: Listener,
}

/// Who hears of events, and of attempts to connect that failed.
pub struct Listener {
    pub event: Box<dyn Fn(&Event) + Send + Sync>,
    pub trouble: fn(&str),
}

#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// `host:port` each.
    pub servers: Vec<String>,
    pub timeout: Duration,
    pub read_only: bool,
    /// How long a request may wait for its reply; `None` for ever.
    pub request_timeout: Option<Duration>,
    pub frame_bytes_max: usize,
}

/// For what goes on beside the commands: completion, and giving up.
pub struct Handle(Arc<Inner>);

impl Handle {
    /// Names of the children of `path`; none when the answer does not come soon.
    pub fn children(&self, path: &str) -> Vec<String> {
        let body = wire::Body::new().text(path).flag(false).done();
        match self.0.call(wire::op::GET_CHILDREN2, &body, Some(Duration::from_secs(2))) {
            Ok(reply) if reply.error == 0 => wire::Fields(&reply.body).texts().unwrap_or_default(),
            _ => Vec::new(),
        }
    }

    /// Ends whatever the command under way waits for. Replies still to come are taken in their order, for nobody.
    pub fn cancel(&self) {
        let mut shared = self.0.lock();
        shared.cancelled = true;
        for waiting in &shared.waiting {
            let _ = waiting.answer.try_send(Err(Loss::Cancelled { sent: true }));
        }
        drop(shared);
        self.0.changed.notify_all();
    }
}

/// A live session. Dropping it closes the connection but, like a crash, not the session: call [`Session::close`].
pub struct Session {
    inner: Arc<Inner>,
    thread: Option<JoinHandle<()>>,
}

impl Session {
    pub fn open(options: SessionOptions, listener: Listener) -> Session {
        let shared = Shared {
            state: State::Connecting,
            stream: None,
            waiting: VecDeque::new(),
            next_xid: 1,
            session: 0,
            password: vec![0; 16],
            seen: 0,
            sent_at: Instant::now(),
            auths: Vec::new(),
            watches: Watches::default(),
            closing: false,
            server: options.servers.first().cloned().unwrap_or_default(),
            cancelled: false,
            trouble: None,
        };
        let inner =
            Arc::new(Inner { shared: Mutex::new(shared), changed: Condvar::new(), options, listener });
        let background = Arc::clone(&inner);
        let thread =
            std::thread::Builder::new().name("cli-connection".into()).spawn(move || background.run()).ok();
        Session { inner, thread }
    }

    pub fn state(&self) -> State {
        self.inner.lock().state
    }

    pub fn server(&self) -> String {
        self.inner.lock().server.clone()
    }

    pub fn watches<R>(&self, f: impl FnOnce(&mut Watches) -> R) -> R {
        f(&mut self.inner.lock().watches)
    }

    /// A command begins, or ended: what was cancelled before is over.
    pub fn forget_cancelling(&self) {
        self.inner.lock().cancelled = false;
    }

    /// Waits until the session is connected, or it is known why not; not longer than `limit`.
    pub fn wait_for_news(&self, limit: Duration) {
        let waited = self.inner.changed.wait_timeout_while(self.inner.lock(), limit, |shared| {
            shared.state == State::Connecting && shared.trouble.is_none() && !shared.cancelled
        });
        drop(waited);
    }

    /// As `wait_connected`, and says after a while that it waits, and for whom.
    pub fn wait_connected_aloud(&self, limit: Duration) -> bool {
        self.wait_for_news(limit.min(SILENCE_MAX));
        let silent = {
            let shared = self.inner.lock();
            shared.state == State::Connecting && shared.trouble.is_none() && !shared.cancelled
        };
        if silent {
            (self.inner.listener.trouble)(&format!(
                "{}: no answer yet; waiting for it",
                self.inner.options.servers.join(",")
            ));
        }
        self.wait_connected(limit.saturating_sub(SILENCE_MAX))
    }

    /// Waits until the session is connected or can no longer be; false when `limit` passed first.
    pub fn wait_connected(&self, limit: Duration) -> bool {
        let guard = self.inner.lock();
        let waited = self
            .inner
            .changed
            .wait_timeout_while(guard, limit, |shared| shared.state == State::Connecting && !shared.cancelled)
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        matches!(waited.0.state, State::Connected | State::ConnectedReadOnly)
    }

    /// Sends one request and waits for its reply; the error means that its fate is unknown.
    pub fn call(&self, op: i32, body: &[u8]) -> Result<Reply, Loss> {
        self.inner.call(op, body, self.inner.options.request_timeout)
    }

    pub fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.inner))
    }

    /// Adds credentials, now and after each reconnect. The server closes the connection when it does not like them.
    pub fn add_auth(&self, scheme: &str, auth: Option<&[u8]>) {
        let mut shared = self.inner.lock();
        shared.auths.push((scheme.to_string(), auth.map(<[u8]>::to_vec)));
        if shared.stream.is_some() {
            // A failed send shows as a lost connection, after which the credentials are sent again.
            let _ = shared.send(AUTH_XID, wire::op::AUTH, &wire::auth(scheme, auth));
        }
    }

    /// Ends the session on the server: ephemerals go, then the connection.
    pub fn close(mut self) {
        {
            let mut shared = self.inner.lock();
            shared.closing = true;
            shared.cancelled = false;
        }
        let _ = self.call(wire::op::CLOSE_SESSION, &[]);
        self.shut();
    }

    fn shut(&mut self) {
        {
            let mut shared = self.inner.lock();
            shared.state = State::Closed;
            shared.drop_connection();
        }
        self.inner.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.shut();
    }
}

impl Shared {
    fn send(&mut self, xid: i32, op: i32, body: &[u8]) -> io::Result<()> {
        let frame = wire::request(xid, op, body);
        self.sent_at = Instant::now();
        match &mut self.stream {
            Some(stream) => stream.write_all(&frame),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn drop_connection(&mut self) {
        if let Some(stream) = self.stream.take() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn fail_waiting(&mut self, loss: Loss) {
        for waiting in self.waiting.drain(..) {
            let _ = waiting.answer.try_send(Err(loss));
        }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn call(&self, op: i32, body: &[u8], limit: Option<Duration>) -> Result<Reply, Loss> {
        let (answer, reply) = mpsc::sync_channel(1);
        {
            let mut shared = self.lock();
            match shared.state {
                State::Expired | State::Closed => return Err(Loss::SessionExpired),
                State::AuthFailed => return Err(Loss::AuthFailed),
                _ if shared.cancelled => return Err(Loss::Cancelled { sent: false }),
                State::Connecting => return Err(Loss::Connection),
                State::Connected | State::ConnectedReadOnly => {}
            }
            let xid = shared.next_xid;
            shared.next_xid = if xid == i32::MAX { 1 } else { xid + 1 };
            shared.send(xid, op, body).map_err(|_| Loss::Connection)?;
            shared.waiting.push_back(Waiting { xid, answer });
        }
        let outcome = match limit {
            Some(limit) => reply.recv_timeout(limit),
            None => reply.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match outcome {
            Ok(outcome) => outcome,
            Err(RecvTimeoutError::Timeout) => Err(Loss::Timeout),
            Err(RecvTimeoutError::Disconnected) => Err(Loss::Connection),
        }
    }

    fn ended(&self) -> bool {
        matches!(self.lock().state, State::Expired | State::Closed | State::AuthFailed)
    }

    fn announce(&self, state: i32) {
        (self.listener.event)(&Event { kind: wire::NONE, state, path: String::new(), zxid: -1 });
    }

    fn run(&self) {
        let mut at = 0;
        while !self.ended() {
            let server = self.options.servers[at % self.options.servers.len()].clone();
            at += 1;
            match self.attach(&server) {
                Ok(Some(stream)) => {
                    self.serve(stream);
                    self.detach();
                }
                Ok(None) => return self.expire(),
                Err(error) => {
                    self.say_trouble(&server, &error);
                    self.pause();
                }
            }
        }
    }

    /// Each reason at once, and again now and then while it lasts.
    fn say_trouble(&self, server: &str, error: &io::Error) {
        let reason = match error.kind() {
            io::ErrorKind::UnexpectedEof => "it closed the connection before it granted a session".to_owned(),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "no answer".to_owned(),
            _ => error.to_string(),
        };
        let text = format!("{server}: {reason}; trying again");
        {
            let mut shared = self.lock();
            let known = |(said, at): &(String, Instant)| *said == text && at.elapsed() < TROUBLE_AGAIN;
            if shared.state != State::Connecting || shared.trouble.as_ref().is_some_and(known) {
                return;
            }
            shared.trouble = Some((text.clone(), Instant::now()));
        }
        self.changed.notify_all();
        (self.listener.trouble)(&text);
    }

    /// Waits before the next attempt, but not longer than the session lives on.
    fn pause(&self) {
        let guard = self.lock();
        let _ = self.changed.wait_timeout_while(guard, Duration::from_millis(500), |shared| {
            shared.state == State::Connecting
        });
    }

    /// Connects and shakes hands. `None`: the server no longer knows the session.
    fn attach(&self, server: &str) -> io::Result<Option<TcpStream>> {
        let mut stream = self.connect(server)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(self.options.timeout))?;
        let hello = {
            let shared = self.lock();
            wire::connect(
                shared.seen,
                self.options.timeout.as_millis() as i32,
                shared.session,
                &shared.password,
                self.options.read_only,
            )
        };
        stream.write_all(&hello)?;
        let answer = read_frame(&mut stream, self.options.frame_bytes_max)?;
        let Handshake { timeout_ms, session, password, read_only } =
            wire::handshake(&answer).ok_or(io::ErrorKind::InvalidData)?;
        if timeout_ms <= 0 {
            return Ok(None);
        }
        // A third of the timeout between looks at the clock: pings go out in time and a dead server is noticed.
        stream.set_read_timeout(Some(Duration::from_millis((timeout_ms as u64 / 3).max(10))))?;
        self.established(stream.try_clone()?, server, session, password, read_only)?;
        Ok(Some(stream))
    }

    /// To the first address of the name that answers.
    fn connect(&self, server: &str) -> io::Result<TcpStream> {
        let addresses: Vec<_> = server.to_socket_addrs()?.collect();
        let share = self.options.timeout / (self.options.servers.len() * addresses.len()).max(1) as u32;
        let mut outcome = Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        for address in &addresses {
            outcome = TcpStream::connect_timeout(address, share.max(CONNECT_LEAST));
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }

    fn established(
        &self,
        stream: TcpStream,
        server: &str,
        session: i64,
        password: Vec<u8>,
        read_only: bool,
    ) -> io::Result<()> {
        let mut shared = self.lock();
        if shared.state == State::Closed {
            return Err(io::ErrorKind::Interrupted.into());
        }
        shared.trouble = None;
        shared.stream = Some(stream);
        shared.session = session;
        shared.password = password;
        shared.server = server.to_string();
        for (scheme, auth) in shared.auths.clone() {
            shared.send(AUTH_XID, wire::op::AUTH, &wire::auth(&scheme, auth.as_deref()))?;
        }
        for body in shared.watches.registrations(shared.seen) {
            shared.send(SET_WATCHES_XID, wire::op::SET_WATCHES2, &body)?;
        }
        shared.state = if read_only { State::ConnectedReadOnly } else { State::Connected };
        drop(shared);
        self.changed.notify_all();
        self.announce(if read_only { wire::STATE_CONNECTED_READ_ONLY } else { wire::STATE_SYNC_CONNECTED });
        Ok(())
    }

    fn detach(&self) {
        let lost = {
            let mut shared = self.lock();
            shared.drop_connection();
            shared.fail_waiting(Loss::Connection);
            let live = matches!(shared.state, State::Connected | State::ConnectedReadOnly);
            if live {
                shared.state = if shared.closing { State::Closed } else { State::Connecting };
            }
            live && !shared.closing
        };
        if lost {
            self.announce(wire::STATE_DISCONNECTED);
        }
    }

    fn expire(&self) {
        {
            let mut shared = self.lock();
            shared.state = State::Expired;
            shared.fail_waiting(Loss::SessionExpired);
        }
        self.changed.notify_all();
        self.announce(wire::STATE_EXPIRED);
    }

    /// Reads replies and events until the connection ends.
    fn serve(&self, mut stream: TcpStream) {
        let mut pinged = false;
        let mut buffer = Vec::new();
        loop {
            match read_more(&mut stream, &mut buffer) {
                Ok(0) => return,
                Ok(_) => pinged = false,
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    if pinged || self.lock().send(PING_XID, wire::op::PING, &[]).is_err() {
                        return;
                    }
                    pinged = true;
                }
                Err(_) => return,
            }
            while let Some(frame) = wire::take_frame(&mut buffer) {
                if !self.receive(&frame) {
                    return;
                }
            }
            if buffer.len() > self.options.frame_bytes_max + 4 {
                eprintln!("Packet len {} is out of range!", buffer.len());
                return;
            }
            self.ping_if_silent();
        }
    }

    /// A busy incoming stream must not keep pings from going out.
    fn ping_if_silent(&self) {
        let mut shared = self.lock();
        if shared.sent_at.elapsed() > self.options.timeout / 3 {
            let _ = shared.send(PING_XID, wire::op::PING, &[]);
        }
    }

    /// False when the connection is of no more use.
    fn receive(&self, frame: &[u8]) -> bool {
        let Some(reply) = wire::reply(frame) else { return false };
        match reply.xid {
            PING_XID | SET_WATCHES_XID => true,
            -1 => {
                if let Some(event) = wire::event(&reply) {
                    self.lock().watches.consume(&event);
                    (self.listener.event)(&event);
                }
                true
            }
            AUTH_XID if reply.error == 0 => true,
            AUTH_XID => {
                {
                    let mut shared = self.lock();
                    shared.state = State::AuthFailed;
                    shared.fail_waiting(Loss::AuthFailed);
                }
                self.announce(wire::STATE_AUTH_FAILED);
                false
            }
            xid => {
                let mut shared = self.lock();
                if reply.zxid > 0 {
                    shared.seen = reply.zxid;
                }
                match shared.waiting.pop_front() {
                    Some(waiting) if waiting.xid == xid => {
                        // The command may have given up waiting; its reply still had to be taken in order.
                        let _ = waiting.answer.try_send(Ok(reply));
                        true
                    }
                    _ => false,
                }
            }
        }
    }
}

fn read_frame(stream: &mut TcpStream, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = i32::from_be_bytes(length);
    if length < 0 || length as usize > bytes_max {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("frame of {length} bytes")));
    }
    let mut frame = Vec::new();
    stream.take(length as u64).read_to_end(&mut frame)?;
    if frame.len() == length as usize { Ok(frame) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn read_more(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<usize> {
    let mut chunk = [0; 16 * 1024];
    let count = stream.read(&mut chunk)?;
    buffer.extend_from_slice(&chunk[..count]);
    Ok(count)
}
