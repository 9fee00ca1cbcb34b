//! The clients of a fail-over: sessions spread over all servers, each writing or reading one request at a time, that come
//! back with their session when they lose their server; everything they saw is kept.
//! Not here: who ends which server when (`failover`), what it all means (`tally`).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::frames::{self, SEQUENTIAL};
use crate::keys::Random;
use crate::swarm::{Happening, Swarm};

/// Parent of all that is written; below it one znode for each writer.
pub const ROOT: &str = "/bench-failover";
/// How long a server may take to answer a handshake, and a request, before a client tries elsewhere. A server that is
/// starting may swallow a handshake for good.
const HANDSHAKE_PATIENCE: Duration = Duration::from_millis(500);
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);
/// Between two tries to connect: at least so long, and a random part of as much more, so that tries of many clients do
/// not come in step. With so many clients one tries about every millisecond, and none loads the servers much.
const RETRY: Duration = Duration::from_millis(10);
/// A reader's rest between two reads.
const READ_REST: Duration = Duration::from_millis(2);
const TURN: Duration = Duration::from_millis(1);

/// What the clients do.
#[derive(Clone, Debug)]
pub struct Plan {
    pub targets: Vec<SocketAddr>,
    pub writers: usize,
    /// Readers of each server.
    pub readers: usize,
    /// Writes a second over all writers; `None`: each writes as soon as it is answered.
    pub rate: Option<f64>,
    pub value_bytes: usize,
    pub session_timeout_ms: i32,
    /// Tells runs on one ensemble apart.
    pub run: u64,
}

impl Plan {
    /// Where writer `lane` writes.
    pub fn parent(&self, lane: usize) -> String {
        format!("{ROOT}/{}-{lane}", self.run)
    }

    fn create_parents(&self) -> io::Result<()> {
        let mut client = Client::connect(self.targets[0], self.session_timeout_ms)?;
        client.ensure(ROOT)?;
        for lane in 0..self.writers {
            client.ensure(&self.parent(lane))?;
        }
        client.close()
    }
}

/// Nanoseconds since the load began.
pub type At = u64;

/// A create: `number` stands in the name, so that the servers' trees tell how often it was applied.
#[derive(Clone, Copy, Debug)]
pub struct Write {
    pub lane: u32,
    pub number: u32,
    pub asked: At,
    pub fate: Fate,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    Acknowledged(At),
    /// The connection went away first: applied or not, both are right.
    Unknown,
    /// The server answered with this error: not applied.
    Refused(i32),
}

/// A read that was answered.
#[derive(Clone, Copy, Debug)]
pub struct Read {
    pub target: usize,
    pub at: At,
}

/// A connection with a session that stood.
#[derive(Clone, Copy, Debug)]
pub struct Stay {
    pub target: usize,
    pub from: At,
    /// `None`: it stood to the end.
    pub to: Option<At>,
    /// The server ended it, and not we.
    pub was_lost: bool,
}

/// Everything that the clients saw.
#[derive(Clone, Default, Debug)]
pub struct Record {
    pub writes: Vec<Write>,
    pub reads: Vec<Read>,
    pub stays: Vec<Stay>,
    /// When a server said of a session that it is no more.
    pub sessions_lost: Vec<At>,
}

/// The clients at work, on a thread of their own.
pub struct Load {
    shared: Arc<Shared>,
    clock: Instant,
    thread: Option<JoinHandle<io::Result<Record>>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    /// When the latest acknowledged write had been asked.
    acknowledged_asked: AtomicU64,
    acknowledged: AtomicU64,
    /// Counts how often the clients were told to go to the server that is their own; the first time is the start.
    order: AtomicU64,
    /// The last order that all of them have followed.
    followed: AtomicU64,
}

impl Load {
    /// Starts the clients and waits until all stand.
    pub fn start(plan: Plan) -> io::Result<Load> {
        plan.create_parents()?;
        let shared = Arc::new(Shared { order: 1.into(), ..Shared::default() });
        let clock = Instant::now();
        let theirs = shared.clone();
        let thread = std::thread::Builder::new()
            .name("failover-load".into())
            .spawn(move || Clients::new(&plan, theirs, clock)?.run())?;
        let load = Load { shared, clock, thread: Some(thread) };
        load.wait("the clients stand", |shared| shared.followed.load(Relaxed) == 1)?;
        Ok(load)
    }

    pub fn now(&self) -> At {
        self.clock.elapsed().as_nanos() as At
    }

    /// Waits until a write is acknowledged that was asked after `at`.
    pub fn wait_acknowledged(&self, at: At) -> io::Result<()> {
        self.wait("a write is acknowledged", |shared| shared.acknowledged_asked.load(Relaxed) > at)
    }

    /// Lets the load go on for a while.
    pub fn go_on(&self, time: Duration) -> io::Result<()> {
        let end = Instant::now() + time;
        self.wait("time passes", |_| Instant::now() >= end)
    }

    /// Sends every client to the server that is its own, and waits until each is there, or elsewhere when it is not taken.
    pub fn send_home(&self) -> io::Result<()> {
        let order = self.shared.order.fetch_add(1, Relaxed) + 1;
        self.wait("the clients go back to their servers", |shared| shared.followed.load(Relaxed) == order)
    }

    pub fn acknowledged(&self) -> u64 {
        self.shared.acknowledged.load(Relaxed)
    }

    fn wait(&self, what: &str, done: impl Fn(&Shared) -> bool) -> io::Result<()> {
        let deadline = Instant::now() + crate::ensemble::PATIENCE;
        while !done(&self.shared) {
            if self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
                return Err(io::Error::other("the clients ended early"));
            }
            if Instant::now() > deadline {
                let text = format!("not within {:?}: {what}", crate::ensemble::PATIENCE);
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            std::thread::park_timeout(TURN);
        }
        Ok(())
    }

    /// Asks nothing more, waits for what is under way, and gives what was seen.
    pub fn finish(mut self) -> io::Result<Record> {
        self.shared.stop.store(true, Relaxed);
        let ended = || io::Error::other("the clients' thread panicked");
        let thread = self.thread.take().ok_or_else(ended)?;
        thread.join().map_err(|_| ended())?
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            // What it saw nobody wants any more.
            let _ = thread.join();
        }
    }
}

enum State {
    /// Not connected; dials when it is due.
    Away,
    Dialling(Instant),
    Standing,
}

/// One client.
struct Lane {
    is_writer: bool,
    home: usize,
    target: usize,
    state: State,
    /// When it acts next: dials, or asks.
    due: Instant,
    identity: Option<(i64, [u8; 16])>,
    /// Index of its stay in the record.
    stay: usize,
    /// Asked and not answered: when, and for a writer the write's place in the record.
    pending: Option<(Instant, usize)>,
    next_number: u32,
    next_xid: i32,
    /// The last one that it followed.
    order: u64,
}

struct Clients<'a> {
    plan: &'a Plan,
    shared: Arc<Shared>,
    clock: Instant,
    swarm: Swarm,
    lanes: Vec<Lane>,
    random: Random,
    record: Record,
    value: Vec<u8>,
}

/// What a turn brought, without its bytes.
enum News {
    Established,
    Answer(i32),
    Refused,
    Closed,
}

impl<'a> Clients<'a> {
    fn new(plan: &'a Plan, shared: Arc<Shared>, clock: Instant) -> io::Result<Clients<'a>> {
        let servers = plan.targets.len();
        let lane = |index: usize| {
            let is_writer = index < plan.writers;
            let home = if is_writer { index % servers } else { (index - plan.writers) % servers };
            Lane {
                is_writer,
                home,
                target: home,
                state: State::Away,
                due: clock,
                identity: None,
                stay: 0,
                pending: None,
                next_number: 0,
                next_xid: 1,
                order: 1,
            }
        };
        Ok(Clients {
            plan,
            shared,
            clock,
            swarm: Swarm::new(plan.targets.clone(), plan.session_timeout_ms)?.leaving_no_trace(),
            lanes: (0..plan.writers + plan.readers * servers).map(lane).collect(),
            random: Random::new(1),
            record: Record::default(),
            value: vec![b'x'; plan.value_bytes],
        })
    }

    fn at(&self, moment: Instant) -> At {
        moment.saturating_duration_since(self.clock).as_nanos() as At
    }

    fn run(mut self) -> io::Result<Record> {
        let mut news = Vec::new();
        let mut end = None;
        loop {
            let now = Instant::now();
            if end.is_none() && self.shared.stop.load(Relaxed) {
                end = Some(now + ANSWER_PATIENCE);
            }
            if let Some(end) = end
                && (now >= end || self.lanes.iter().all(|lane| lane.pending.is_none()))
            {
                return Ok(self.record);
            }
            for index in 0..self.lanes.len() {
                self.act(index, now, end.is_some());
            }
            self.swarm.turn_within(TURN, now + ANSWER_PATIENCE, &mut |happening| match happening {
                Happening::Established(index, _) => news.push((index, News::Established)),
                Happening::Frame(index, frame) => {
                    if let Some(header) = frames::reply_header(frame).filter(|header| header.xid >= 0) {
                        news.push((index, News::Answer(header.error)));
                    }
                }
                Happening::Refused(index) => news.push((index, News::Refused)),
                Happening::Closed(index) => news.push((index, News::Closed)),
            })?;
            let now = Instant::now();
            for (index, news) in news.drain(..) {
                self.take(index, news, now);
            }
            let order = self.shared.order.load(Relaxed);
            let follows = |lane: &Lane| matches!(lane.state, State::Standing) && lane.order == order;
            if self.lanes.iter().all(follows) {
                self.shared.followed.store(order, Relaxed);
            }
        }
    }

    /// Whatever client `index` has to do by now.
    fn act(&mut self, index: usize, now: Instant, ending: bool) {
        let at = self.at(now);
        let lane = &mut self.lanes[index];
        match lane.state {
            State::Away if now >= lane.due && !ending => self.dial(index, now),
            State::Dialling(since) if now > since + HANDSHAKE_PATIENCE => {
                self.swarm.hang_up(index);
                self.lose(index, now);
            }
            State::Standing => match lane.pending {
                Some((since, _)) if now > since + ANSWER_PATIENCE => {
                    self.swarm.hang_up(index);
                    self.lose(index, now);
                }
                Some(_) => {}
                None if lane.order != self.shared.order.load(Relaxed) => {
                    lane.order = self.shared.order.load(Relaxed);
                    if lane.target != lane.home {
                        self.swarm.hang_up(index);
                        lane.state = State::Away;
                        (lane.due, lane.target) = (now, lane.home);
                        self.record.stays[lane.stay].to = Some(at);
                    }
                }
                None if now >= lane.due && !ending => self.ask(index, now),
                None => {}
            },
            _ => {}
        }
    }

    fn dial(&mut self, index: usize, now: Instant) {
        let lane = &mut self.lanes[index];
        lane.state = State::Dialling(now);
        let (session, password) = lane.identity.unwrap_or_default();
        let timeout_ms = self.plan.session_timeout_ms;
        let target = self.plan.targets[lane.target];
        let dialled =
            self.swarm.dial_to(index, target, |out| frames::attach(out, timeout_ms, session, &password));
        if dialled.is_err() {
            self.lose(index, now);
        }
    }

    fn ask(&mut self, index: usize, now: Instant) {
        let asked = self.at(now);
        let lane = &mut self.lanes[index];
        let xid = lane.next_xid;
        lane.next_xid = if xid == i32::MAX { 1 } else { xid + 1 };
        let sent = if lane.is_writer {
            let number = lane.next_number;
            lane.next_number += 1;
            lane.pending = Some((now, self.record.writes.len()));
            self.record.writes.push(Write { lane: index as u32, number, asked, fate: Fate::Unknown });
            let path = format!("{}/{number}-", self.plan.parent(index));
            let value = &self.value;
            self.swarm.send(index, |out| frames::create(out, xid, path.as_bytes(), value, SEQUENTIAL))
        } else {
            lane.pending = Some((now, 0));
            self.swarm.send(index, |out| frames::get_data(out, xid, ROOT.as_bytes(), false))
        };
        if sent.is_err() {
            self.swarm.hang_up(index);
            self.lose(index, now);
        }
    }

    fn take(&mut self, index: usize, news: News, now: Instant) {
        let at = self.at(now);
        let lane = &mut self.lanes[index];
        match news {
            News::Established => {
                lane.identity = self.swarm.identity(index);
                lane.state = State::Standing;
                lane.due = now;
                lane.stay = self.record.stays.len();
                self.record.stays.push(Stay { target: lane.target, from: at, to: None, was_lost: false });
            }
            News::Answer(error) => {
                let Some((asked, place)) = lane.pending.take() else { return };
                if !lane.is_writer {
                    lane.due = now + READ_REST;
                    self.record.reads.push(Read { target: lane.target, at });
                    return;
                }
                let rest = self.plan.rate.map(|rate| self.plan.writers as f64 / rate);
                lane.due = rest.map_or(now, |rest| asked + Duration::from_secs_f64(rest));
                self.record.writes[place].fate = match error {
                    0 => Fate::Acknowledged(at),
                    code => Fate::Refused(code),
                };
                if error == 0 {
                    let asked = self.record.writes[place].asked;
                    self.shared.acknowledged_asked.fetch_max(asked, Relaxed);
                    self.shared.acknowledged.fetch_add(1, Relaxed);
                }
            }
            News::Refused => {
                // The next session is a new one.
                if lane.identity.take().is_some() {
                    self.record.sessions_lost.push(at);
                }
                self.lose(index, now);
            }
            News::Closed => self.lose(index, now),
        }
    }

    /// The connection of client `index` is gone, or did not come about: to its own server when it stood, else to the next.
    fn lose(&mut self, index: usize, now: Instant) {
        let at = self.at(now);
        let lane = &mut self.lanes[index];
        let mut rest = RETRY + RETRY.mul_f64(self.random.unit());
        if matches!(lane.state, State::Standing) {
            let stay = &mut self.record.stays[lane.stay];
            (stay.to, stay.was_lost) = (Some(at), true);
            lane.target = lane.home;
            // The first try comes soon, as with every client.
            rest = RETRY.mul_f64(self.random.unit());
        } else {
            lane.target = (lane.target + 1) % self.plan.targets.len();
        }
        lane.pending = None;
        lane.state = State::Away;
        lane.due = now + rest;
    }
}
