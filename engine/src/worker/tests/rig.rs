//! A worker on one thread: sockets in memory, a ring whose events the test makes, an intake whose requests it reads.

use crate::admin::{FourLetter, Registry};
use crate::config::Config;
use crate::intake::{Bell, CoreRequest, Intake, intake};
use crate::io::clock::{Clock, Now};
use crate::io::poll::{Poll, Ready};
use crate::limits::{RING_EVENTS_MAX, WAIT_MS_MAX};
use crate::model::{ErrorCode, SessionId, WallMillis, Xid};
use crate::ring::{After, Batch, ConnRef, Event, News, Outcome, Publisher, Wake, ring};
use crate::wire::{AclBytes, Create};
use crate::wire::{ConnectRequest, ConnectResponse, CreateKind, JutePut, TxnBody, TxnHeader, reply};
use crate::worker::watch::HashKey;
use crate::worker::{AcceptLimits, Acceptor, Departures, Desk, Mail, Mailbox, Parts, Shared, Worker};
use crate::world::{self, Head};
use ostler_replication::{Moment, Role, Zxid};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// One connection's two directions.
#[derive(Default)]
pub struct Pipe {
    pub to_server: VecDeque<u8>,
    pub to_client: Vec<u8>,
    /// The client has sent FIN.
    pub client_closed: bool,
    /// The server has sent FIN, or closed.
    pub server_shut: bool,
    pub server_closed: bool,
    /// Bytes that the socket still takes.
    pub window: usize,
    pub reads: usize,
    pub writes: usize,
    news: bool,
}

#[derive(Default)]
pub struct Net {
    pub pipes: Vec<Pipe>,
    waiting: VecDeque<(usize, SocketAddr)>,
}

#[derive(Clone, Default)]
pub struct SimPoll {
    pub net: Arc<Mutex<Net>>,
    by_token: BTreeMap<u32, usize>,
}

struct NoWake;
impl Wake for NoWake {
    fn wake(&self) {}
}

impl SimPoll {
    fn with<R>(&self, token: u32, act: impl FnOnce(&mut Pipe) -> R) -> io::Result<R> {
        let pipe = *self.by_token.get(&token).ok_or(io::ErrorKind::NotConnected)?;
        Ok(act(&mut self.net.lock().unwrap().pipes[pipe]))
    }
}

impl Poll for SimPoll {
    type Socket = usize;
    type Listener = ();

    fn waker(&self) -> Box<dyn Wake> {
        Box::new(NoWake)
    }
    fn listen(&mut self, _: ()) -> io::Result<()> {
        Ok(())
    }
    fn accept(&mut self) -> io::Result<(usize, SocketAddr)> {
        self.net.lock().unwrap().waiting.pop_front().ok_or(io::ErrorKind::WouldBlock.into())
    }
    fn unlisten(&mut self) {}
    fn adopt(&mut self, token: u32, socket: usize) -> io::Result<()> {
        self.by_token.insert(token, socket);
        Ok(())
    }
    fn release(&mut self, token: u32) {
        let _ = self.with(token, |pipe| (pipe.server_shut, pipe.server_closed) = (true, true));
        self.by_token.remove(&token);
    }
    fn shutdown(&mut self, token: u32) {
        let _ = self.with(token, |pipe| pipe.server_shut = true);
    }
    fn read(&mut self, token: u32, into: &mut [u8]) -> io::Result<usize> {
        self.with(token, |pipe| {
            pipe.reads += 1;
            let bytes = into.len().min(pipe.to_server.len());
            pipe.to_server.drain(..bytes).zip(into).for_each(|(byte, place)| *place = byte);
            match bytes {
                0 if !pipe.client_closed => Err(io::ErrorKind::WouldBlock.into()),
                bytes => Ok(bytes),
            }
        })?
    }
    fn write(&mut self, token: u32, bytes: &[u8]) -> io::Result<usize> {
        self.with(token, |pipe| {
            pipe.writes += 1;
            let taken = bytes.len().min(pipe.window);
            pipe.window -= taken;
            pipe.to_client.extend_from_slice(&bytes[..taken]);
            match taken {
                0 => Err(io::ErrorKind::WouldBlock.into()),
                taken => Ok(taken),
            }
        })?
    }
    fn wait(&mut self, _: Option<Duration>, ready: &mut Vec<Ready>) -> io::Result<()> {
        let mut net = self.net.lock().unwrap();
        if !net.waiting.is_empty() {
            ready.push(Ready::Listener);
        }
        for (&token, &pipe) in &self.by_token {
            let pipe = &mut net.pipes[pipe];
            if std::mem::take(&mut pipe.news) {
                ready.push(Ready::Socket {
                    token,
                    readable: true,
                    writable: true,
                    closing: pipe.client_closed,
                });
            }
        }
        Ok(())
    }
}

#[derive(Clone, Default)]
pub struct SimClock(Arc<Mutex<u64>>);

impl Clock for SimClock {
    fn now(&self) -> Now {
        let ms = *self.0.lock().unwrap();
        Now { mono: Moment::from_millis(ms), wall: WallMillis(1_700_000_000_000 + ms as i64) }
    }
}

#[derive(Default)]
pub struct Asked(pub Mutex<Vec<(FourLetter, i64, ConnRef)>>);

impl Desk for Asked {
    fn ask(&self, word: FourLetter, argument: i64, from: ConnRef) {
        self.0.lock().unwrap().push((word, argument, from));
    }
}

pub struct Rig {
    pub worker: Worker<SimPoll>,
    pub net: Arc<Mutex<Net>>,
    pub intake: Intake,
    pub publisher: Publisher<Event>,
    pub head: Head,
    pub clock: SimClock,
    pub mail: Arc<Mailbox<usize>>,
    pub desk: Arc<Asked>,
    pub registry: Registry,
    next_session: i64,
    /// Batches are published, and the worker does not run.
    pub held: bool,
}

/// A client's end: its pipe.
#[derive(Clone, Copy)]
pub struct Client(pub usize);

impl Rig {
    pub fn new(config: &Config) -> Rig {
        let mut head = Head::new(world::Settings { hash_seed: [1, 2], digests: true });
        let first = Event { view: head.seal(), news: News::Batch(Batch::default()) };
        let (publisher, mut subscribers) = ring(RING_EVENTS_MAX, first, vec![Box::new(NoWake)]);
        let (intake, mut submitters) = intake(Arc::new(Bell::new(Box::new(NoWake))), vec![Box::new(NoWake)]);
        let net: Arc<Mutex<Net>> = Arc::default();
        let mail = Mailbox::new(Box::new(NoWake));
        let departures = Departures::default();
        let limits =
            AcceptLimits { per_address: config.address_connections_max, in_all: config.connections_max };
        let clock = SimClock::default();
        *clock.0.lock().unwrap() = 100_000;
        let desk = Arc::new(Asked::default());
        let registry = Registry::default();
        let worker = Worker::new(Parts {
            index: 0,
            poll: SimPoll { net: net.clone(), by_token: BTreeMap::new() },
            ring: subscribers.remove(0),
            core: submitters.remove(0),
            mail: mail.clone(),
            departures: departures.clone(),
            acceptor: Some(Acceptor::new(limits, vec![mail.clone()], departures)),
            shared: Shared::new(config, 1, desk.clone(), 7, clock.now().mono),
            counters: registry.thread(),
            clock: Box::new(clock.clone()),
            key: HashKey([5, 6]),
        });
        Rig {
            worker,
            net,
            intake,
            publisher,
            head,
            clock,
            mail,
            desk,
            registry,
            next_session: 0x100,
            held: false,
        }
    }

    pub fn plain() -> Rig {
        let words = crate::config::Words::All;
        Rig::new(&Config { words, address_connections_max: 0, ..Config::default() })
    }

    /// Turns until nothing is left to do at this moment.
    pub fn settle(&mut self) {
        for _ in 0..100_000 {
            self.worker.wait(Duration::ZERO).unwrap();
            self.worker.turn();
            let idle = !self.worker.has_work();
            let quiet = self.net.lock().unwrap().pipes.iter().all(|pipe| !pipe.news || pipe.server_closed);
            if idle && quiet {
                return;
            }
        }
        panic!("the worker never comes to rest");
    }

    /// Time goes by, with turns as often as a worker's bounded sleep makes them.
    pub fn pass(&mut self, ms: u64) {
        let until = *self.clock.0.lock().unwrap() + ms;
        while *self.clock.0.lock().unwrap() < until {
            let now = *self.clock.0.lock().unwrap();
            *self.clock.0.lock().unwrap() = until.min(now + WAIT_MS_MAX);
            self.settle();
        }
    }

    /// Time goes by without us.
    pub fn freeze(&mut self, ms: u64) {
        *self.clock.0.lock().unwrap() += ms;
        self.settle();
    }

    pub fn connect(&mut self) -> Client {
        let client = {
            let mut net = self.net.lock().unwrap();
            net.pipes.push(Pipe { window: usize::MAX, ..Pipe::default() });
            let client = net.pipes.len() - 1;
            net.waiting.push_back((client, SocketAddr::from(([127, 0, 0, 1], 40_000 + client as u16))));
            client
        };
        self.settle();
        Client(client)
    }

    pub fn pipe<R>(&self, client: Client, act: impl FnOnce(&mut Pipe) -> R) -> R {
        act(&mut self.net.lock().unwrap().pipes[client.0])
    }

    pub fn send(&mut self, client: Client, bytes: &[u8]) {
        self.pipe(client, |pipe| {
            pipe.to_server.extend(bytes);
            pipe.news = true;
        });
        self.settle();
    }

    /// What is in the pipe is there to be read; no turn is taken.
    pub fn hang_on(&self, client: Client) {
        self.pipe(client, |pipe| pipe.news = true);
    }

    pub fn hang_up(&mut self, client: Client) {
        self.pipe(client, |pipe| (pipe.client_closed, pipe.news) = (true, true));
        self.settle();
    }

    pub fn open_window(&mut self, client: Client, bytes: usize) {
        self.pipe(client, |pipe| (pipe.window, pipe.news) = (bytes, true));
        self.settle();
    }

    pub fn raw(&self, client: Client) -> Vec<u8> {
        self.pipe(client, |pipe| std::mem::take(&mut pipe.to_client))
    }

    /// The frames received since the last look, as text: see `describe`.
    pub fn received(&self, client: Client) -> Vec<String> {
        let bytes = self.raw(client);
        let mut rest = &bytes[..];
        let mut frames = Vec::new();
        while let Some((word, tail)) = rest.split_first_chunk::<4>() {
            let (body, tail) = tail.split_at(u32::from_be_bytes(*word) as usize);
            frames.push(describe(body));
            rest = tail;
        }
        assert!(rest.is_empty());
        frames
    }

    /// What the worker asked of the core, but for touches.
    pub fn asked(&mut self) -> Vec<CoreRequest> {
        let all = self.intake.take_all().into_iter();
        all.filter(|request| !matches!(request, CoreRequest::Touch(_))).collect()
    }

    /// A connection with a session.
    pub fn established(&mut self) -> (Client, SessionId) {
        let client = self.connect();
        let session = self.handshake(client, &connect_request(0, 30_000));
        (client, session)
    }

    pub fn handshake(&mut self, client: Client, bytes: &[u8]) -> SessionId {
        self.send(client, bytes);
        let Some(CoreRequest::Connect { from, .. }) = self.asked().pop() else {
            panic!("no connect request")
        };
        self.next_session += 1;
        let session = SessionId(self.next_session);
        self.establish(from, session);
        self.raw(client);
        session
    }

    pub fn establish(&mut self, to: ConnRef, session: SessionId) {
        let response =
            ConnectResponse { timeout_ms: 30_000, session, password: [1; 16], read_only: Some(false) };
        let then = After::Established { session, timeout_ms: 30_000 };
        self.answer(vec![(to, Xid(0), then, Some(frame(|out| response.encode(out))))]);
    }

    /// Publishes outcomes at the present zxid.
    pub fn answer(&mut self, outcomes: Vec<(ConnRef, Xid, After, Option<Vec<u8>>)>) {
        let mut batch = Batch::default();
        for outcome in outcomes {
            self.push(&mut batch, outcome);
        }
        self.publish(batch);
    }

    fn push(&self, batch: &mut Batch, (to, xid, then, frame): (ConnRef, Xid, After, Option<Vec<u8>>)) {
        let start = batch.frames.len() as u32;
        batch.frames.extend(frame.unwrap_or_default());
        let frame = start..batch.frames.len() as u32;
        batch.outcomes.push(Outcome { to, zxid: self.head.zxid(), xid, frame, then });
    }

    pub fn publish(&mut self, batch: Batch) {
        let event = Event { view: self.head.seal(), news: News::Batch(batch) };
        assert!(self.publisher.publish(event, |_, _, _| true).is_ok());
        if !self.held {
            self.settle();
        }
    }

    pub fn change_role(&mut self, role: Role) {
        let event = Event { view: self.head.seal(), news: News::Role(role) };
        assert!(self.publisher.publish(event, |_, _, _| true).is_ok());
        if !self.held {
            self.settle();
        }
    }

    /// What is committed from here on stands in another tree, as after a snapshot was received.
    pub fn new_world(&mut self) {
        self.head = Head::new(world::Settings { hash_seed: [3, 4], digests: true });
    }

    fn apply(&mut self, batch: &mut Batch, body: &TxnBody<'_>) {
        let zxid = Zxid(self.head.zxid().0 + 1);
        let header =
            TxnHeader { session: SessionId(1), cxid: Xid(1), zxid, time: WallMillis(1), kind: body.kind() };
        let result = self.head.apply(&header, body, &mut batch.changes);
        assert_eq!(result.error, 0, "{body:?}");
    }

    /// Commits these changes as one batch: "+/path", "-/path", "=/path data".
    pub fn commit(&mut self, changes: &[&str]) {
        self.commit_with(changes, AclBytes::OPEN, &[]);
    }

    /// The same, answering `writes` in order, one per change.
    pub fn commit_with(&mut self, changes: &[&str], acl: AclBytes<'static>, writes: &[(ConnRef, Xid)]) {
        let mut batch = Batch::default();
        for (at, change) in changes.iter().enumerate() {
            let (kind, rest) = change.split_at(1);
            let (path, data) = rest.split_once(' ').unwrap_or((rest, ""));
            let body = match kind {
                "+" => TxnBody::Create(Create {
                    path: path.into(),
                    data: Some(data.as_bytes().into()),
                    acl: acl.clone(),
                    kind: CreateKind::Plain { create2: false, ephemeral: false },
                    parent_cversion: -1,
                }),
                "-" => TxnBody::Delete { path: path.into() },
                _ => TxnBody::SetData { path: path.into(), data: Some(data.as_bytes().into()), version: -1 },
            };
            self.apply(&mut batch, &body);
            if let Some(&(to, xid)) = writes.get(at) {
                let zxid = self.head.zxid();
                let reply = bare(xid, zxid);
                self.push(&mut batch, (to, xid, After::Keep, Some(reply)));
            }
        }
        self.publish(batch);
    }

    pub fn mail(&mut self, mail: Mail<usize>) {
        self.mail.send(mail);
        self.settle();
    }
}

/// A reply without a body.
pub fn bare(xid: Xid, zxid: Zxid) -> Vec<u8> {
    frame(|out| reply::frame_bare(out, xid, zxid, ErrorCode::Ok))
}

pub fn frame(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

pub fn connect_request(last_zxid_seen: u64, timeout_ms: i32) -> Vec<u8> {
    let request = ConnectRequest {
        protocol: 0,
        last_zxid_seen: Zxid(last_zxid_seen),
        timeout_ms,
        session: SessionId::NONE,
        password: Some([0; 16]),
        read_only: Some(false),
    };
    frame(|out| request.encode(out))
}

/// A request frame: xid, op number, record.
pub fn request(xid: i32, op: i32, record: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut body = Vec::new();
    body.put_i32(xid);
    body.put_i32(op);
    record(&mut body);
    let mut out = (body.len() as u32).to_be_bytes().to_vec();
    out.extend(body);
    out
}

pub fn read(xid: i32, op: i32, path: &str, watch: bool) -> Vec<u8> {
    request(xid, op, |out| {
        out.put_string(path);
        out.put_bool(watch);
    })
}

pub fn ping() -> Vec<u8> {
    request(-2, 11, |_| {})
}

/// A write whose record the rig does not look at.
pub fn write(xid: i32) -> Vec<u8> {
    request(xid, 5, |out| out.put_i32(0))
}

/// "xid=1 zxid=2 err=0 +70" or, for an event, "event zxid=2 type=3 /path".
fn describe(body: &[u8]) -> String {
    let mut reader = crate::wire::Reader::new(body);
    let (Ok(xid), Ok(zxid), Ok(err)) = (reader.i32(), reader.i64(), reader.i32()) else {
        return format!("{body:?}");
    };
    if xid == -1 {
        let kind = reader.i32().unwrap();
        reader.i32().unwrap();
        return format!("event zxid={zxid} type={kind} {}", reader.string().unwrap().unwrap());
    }
    format!("xid={xid} zxid={zxid} err={err} +{}", reader.rest().len())
}
