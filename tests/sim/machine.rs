//! One machine: the real core, workers, log writer, snapshots and recovery over a simulated disk, network and clock, each
//! turned by hand on one thread in any order. What `server::driver` does with threads is done here without.
//! Not here: when who runs (`run`), clients, judging.

use crate::checker::{Checked, Checker};
use crate::history::History;
use crate::model::Request;
use crate::net::{Flag, SharedNet, SimPoll, Waker, lock};
use ostler_engine::admin::{FourLetter, Registry};
use ostler_engine::config::{Config, Containers};
use ostler_engine::core::{Core, CoreInput, CoreOutput, Now, Settings, Space};
use ostler_engine::intake::{Bell, CoreRequest, Intake, intake};
use ostler_engine::io::clock::{self, Clock};
use ostler_engine::io::disk::Disk;
use ostler_engine::io::disk_sim::SimDisk;
use ostler_engine::limits;
use ostler_engine::log::{AppendError, LogSettings, LogSpace, LogWriter, Method, Spares};
use ostler_engine::model::WallMillis;
use ostler_engine::ring::{ConnRef, Event, News, Publisher, Wake, ring};
use ostler_engine::server::recovery::{self, Paths};
use ostler_engine::snapshot::{self, Compression, Pinned};
use ostler_engine::worker::watch::HashKey;
use ostler_engine::worker::{AcceptLimits, Acceptor, Desk, Mailbox, Parts, Shared, Worker};
use ostler_engine::world::{Head, Restorer, View};
use ostler_replication::{Moment, Outputs, Proposal, Role, Solo, Zxid};
use ostler_tests::random::Random;
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Both clocks of the simulated world.
#[derive(Clone, Default)]
pub struct SimClock(Arc<Clocks>);

#[derive(Default)]
struct Clocks {
    nanos: AtomicU64,
    /// What the wall clock is ahead, milliseconds.
    ahead: AtomicI64,
}

impl SimClock {
    pub fn nanos(&self) -> u64 {
        self.0.nanos.load(Ordering::Relaxed)
    }

    pub fn advance_to(&self, nanos: u64) {
        self.0.nanos.fetch_max(nanos, Ordering::Relaxed);
    }

    pub fn wall_ms(&self) -> i64 {
        self.now().wall.0
    }

    /// The operator, or NTP, sets the wall clock.
    pub fn set_wall_ahead(&self, millis: i64) {
        self.0.ahead.store(millis, Ordering::Relaxed);
    }
}

impl Clock for SimClock {
    fn now(&self) -> clock::Now {
        let nanos = self.nanos();
        let wall = 1_700_000_000_000 + (nanos / 1_000_000) as i64 + self.0.ahead.load(Ordering::Relaxed);
        // As the real clock: an hour of past.
        clock::Now { mono: Moment(3_600_000_000_000 + nanos), wall: WallMillis(wall) }
    }
}

/// What varies from machine to machine.
#[derive(Clone, Debug)]
pub struct Shape {
    pub workers: usize,
    pub tick_ms: u32,
    pub snap_txns: u32,
    pub segment_bytes: u64,
    pub method: Method,
    pub ring_events: usize,
    pub outstanding_max: u32,
    /// Longest sync, nanoseconds.
    pub sync_nanos_most: u64,
}

impl Shape {
    pub fn chosen(random: &mut Random) -> Shape {
        Shape {
            workers: random.between(1, 3) as usize,
            tick_ms: *random.pick(&[100, 500, 2000]),
            snap_txns: *random.pick(&[20, 100, 100_000]),
            segment_bytes: if random.one_in(8) { 8 << 20 } else { 64 << 10 },
            method: *random.pick(&[Method::Direct, Method::Mapped, Method::Pwrite]),
            ring_events: *random.pick(&[2, 4, 64, limits::RING_EVENTS_MAX]),
            outstanding_max: *random.pick(&[2, 1000]),
            sync_nanos_most: *random.pick(&[100_000, 5_000_000]),
        }
    }

    fn config(&self) -> Config {
        Config {
            data_dir: "/data".into(),
            data_log_dir: "/log".into(),
            tick_ms: self.tick_ms,
            session_timeout_ms_least: 2 * self.tick_ms,
            session_timeout_ms_most: 20 * self.tick_ms,
            address_connections_max: 0,
            outstanding_requests_max: self.outstanding_max,
            snap_txns: self.snap_txns,
            extended_types: true,
            containers: Containers { check_ms: 200, ..Containers::default() },
            segment_bytes: self.segment_bytes,
            ..Config::default()
        }
    }
}

/// Why a machine stopped by itself.
#[derive(Debug)]
pub enum Stopped {
    /// Its disk stopped, as planned.
    Power,
    /// The log's disk failed: the server ends itself.
    Failed(String),
    /// The checker, or the machine, found something wrong.
    Wrong(String),
}

impl From<String> for Stopped {
    fn from(why: String) -> Stopped {
        Stopped::Wrong(why)
    }
}

/// Defects that the tests of the simulation plant in the machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Plant {
    /// Takes what a failing disk did not do for done.
    BelievesFailingDisks,
    /// Takes what a setWatches2 has missed for seen.
    TellsNothingMissed,
    /// Takes what a setWatches2 has seen for missed.
    TellsAllAsMissed,
    /// Sets nothing of the last two lists of a setWatches2.
    ForgetsPersistentWatches,
}

impl Plant {
    pub const ALL: [Plant; 4] = [
        Plant::BelievesFailingDisks,
        Plant::TellsNothingMissed,
        Plant::TellsAllAsMissed,
        Plant::ForgetsPersistentWatches,
    ];

    /// What a request with that defect is to the server.
    pub fn misread(self, asked: &Request) -> Request {
        let mut asked = asked.clone();
        if let Request::SetWatches { relative, lists } = &mut asked
            && lists.makes_set_watches2()
        {
            match self {
                Plant::BelievesFailingDisks => {}
                Plant::TellsNothingMissed => *relative = i64::MAX,
                Plant::TellsAllAsMissed => *relative = 0,
                Plant::ForgetsPersistentWatches => {
                    (lists.persistent, lists.recursive) = Default::default();
                }
            }
        }
        asked
    }
}

enum Command {
    Append(Proposal),
    Roll,
}

/// The log's thread.
struct Log {
    writer: LogWriter,
    spares: Arc<Spares>,
    told: Arc<Mutex<Vec<LogSpace>>>,
    queue: VecDeque<Command>,
    /// Appended in part: the disk is full.
    group: Vec<Proposal>,
    /// A sync that returns then, and what is durable by it.
    syncing: Option<(u64, Zxid)>,
}

struct Seat {
    worker: Worker<SimPoll>,
    flag: Arc<Flag>,
    sleep: Sleep,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sleep {
    Awake,
    /// Until woken, or then.
    Until(u64),
}

/// Who can be given a turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Actor {
    Core,
    Worker(usize),
    Log,
    Spares,
    Snapshot,
}

pub struct Machine {
    core: Core<Solo>,
    intake: Intake,
    /// From the intake, not yet stepped.
    taken: VecDeque<CoreRequest>,
    /// All requests that came before then have been stepped.
    heard: Moment,
    publisher: Publisher<Event>,
    proposals: VecDeque<Proposal>,
    events: VecDeque<Event>,
    news: VecDeque<CoreInput>,
    bell: Arc<Bell>,
    core_flag: Arc<Flag>,
    core_sleep: Sleep,
    seats: Vec<Seat>,
    log: Log,
    /// A snapshot being written, done by then.
    snapshot: Option<(u64, View)>,
    spares_due: u64,
    paths: Paths,
    pub disk: SimDisk,
    pub plant: Option<Plant>,
    clock: SimClock,
    net: SharedNet,
    sync_nanos_most: u64,
    random: Random,
}

/// What later turns than this take for a stall is postponed (`server::threads`).
const PATIENCE_NANOS: u64 = limits::WAIT_MS_MAX / 2 * 1_000_000;
/// While the ring or the log's queue is full.
const BLOCKED_NANOS: u64 = 1_000_000;

struct NoDesk;

impl Desk for NoDesk {
    fn ask(&self, _: FourLetter, _: i64, _: ConnRef) {}
}

impl Machine {
    /// Recovers from `disk` and listens. The errors are those of a real start.
    pub fn start(
        shape: &Shape,
        disk: SimDisk,
        clock: SimClock,
        net: SharedNet,
        mut random: Random,
    ) -> Result<Machine, String> {
        let config = shape.config();
        let paths = Paths::of(&config);
        let shared_disk: Arc<dyn Disk> = Arc::new(disk.clone());
        for dir in [&paths.snapshots, &paths.logs] {
            shared_disk.create_dir(dir).map_err(|error| error.to_string())?;
        }
        let registry = Registry::default();
        let seed = [random.word(), random.word()];
        let recovery = recovery::recover(&disk, &paths, &config, seed, false, &registry.thread())
            .map_err(|error| error.to_string())?;

        let flags: Vec<Arc<Flag>> = (0..shape.workers).map(|_| Arc::default()).collect();
        let wakers = || flags.iter().map(|flag| Box::new(Waker(flag.clone())) as Box<dyn Wake>).collect();
        let core_flag: Arc<Flag> = Arc::default();
        let bell = Arc::new(Bell::new(Box::new(Waker(core_flag.clone()))));
        let (intake, submitters) = intake(bell.clone(), wakers());
        let now = now_of(&clock);
        let solo = Solo::new(recovery.head.zxid(), &mut Outputs::new());
        let settings = Settings::of(&config, random.word());
        let core = Core::new(settings, recovery.head, solo, recovery.snapshot_bytes, now);
        check_digest(&core.view())?;
        let first = Event { view: core.view(), news: News::Role(Role::Standalone) };
        let (publisher, subscribers) = ring(shape.ring_events, first, wakers());

        let told: Arc<Mutex<Vec<LogSpace>>> = Arc::default();
        let tell = told.clone();
        let tell = move |space| tell.lock().unwrap_or_else(PoisonError::into_inner).push(space);
        let settings = LogSettings {
            segment_bytes: shape.segment_bytes,
            method: shape.method,
            ..LogSettings::new(&paths.logs)
        };
        let spares = Spares::open(shared_disk.clone(), &settings, false, Box::new(tell))
            .map_err(|error| error.to_string())?;
        let writer = LogWriter::new(shared_disk, settings, spares.clone(), core.view().zxid());
        let log = Log { writer, spares, told, queue: VecDeque::new(), group: Vec::new(), syncing: None };

        let shared = Shared::new(&config, shape.workers, Arc::new(NoDesk), random.word(), now.mono);
        let mails: Vec<_> = flags.iter().map(|flag| Mailbox::new(Box::new(Waker(flag.clone())))).collect();
        let departures = Arc::default();
        let limits = AcceptLimits { per_address: 0, in_all: 0 };
        let mut acceptor = Some(Acceptor::new(limits, mails.clone(), Arc::clone(&departures)));
        let parts = subscribers.into_iter().zip(submitters).enumerate();
        let seats = parts.map(|(index, (ring, core))| {
            let flag = flags[index].clone();
            let worker = Worker::new(Parts {
                index: index as u16,
                poll: SimPoll::new(net.clone(), index, flag.clone()),
                ring,
                core,
                mail: mails[index].clone(),
                departures: Arc::clone(&departures),
                acceptor: acceptor.take(),
                shared: shared.clone(),
                counters: registry.thread(),
                clock: Box::new(clock.clone()),
                key: HashKey([random.word(), random.word()]),
            });
            Seat { worker, flag, sleep: Sleep::Awake }
        });
        let seats = seats.collect();
        lock(&net).open(flags.clone());
        Ok(Machine {
            core,
            intake,
            taken: VecDeque::new(),
            heard: now.mono,
            publisher,
            proposals: VecDeque::new(),
            events: VecDeque::new(),
            news: VecDeque::new(),
            bell,
            core_flag,
            core_sleep: Sleep::Awake,
            seats,
            log,
            snapshot: None,
            spares_due: 0,
            paths,
            disk,
            plant: None,
            clock,
            net,
            sync_nanos_most: shape.sync_nanos_most,
            random,
        })
    }

    /// At the last committed zxid.
    pub fn view(&self) -> View {
        self.core.view()
    }

    /// Nothing is on its way to being committed or told.
    pub fn is_quiet(&self) -> bool {
        self.core.is_quiet() && !self.has_requests() && self.proposals.is_empty() && self.events.is_empty()
    }

    /// The log has taken nothing for want of space.
    pub fn is_full(&self) -> bool {
        !self.log.group.is_empty()
    }

    /// Who can run now.
    pub fn ready(&self, into: &mut Vec<Actor>) {
        let now = self.clock.nanos();
        let over = |sleep: Sleep, flag: &Flag| match sleep {
            Sleep::Awake => true,
            Sleep::Until(then) => flag.is_set() || then <= now,
        };
        if over(self.core_sleep, &self.core_flag) {
            into.push(Actor::Core);
        }
        for (index, seat) in self.seats.iter().enumerate() {
            if over(seat.sleep, &seat.flag) {
                into.push(Actor::Worker(index));
            }
        }
        let log = &self.log;
        if log.syncing.map_or(!log.queue.is_empty() && log.group.is_empty(), |(then, _)| then <= now) {
            into.push(Actor::Log);
        }
        if self.spares_due <= now {
            into.push(Actor::Spares);
        }
        if self.snapshot.as_ref().is_some_and(|(then, _)| *then <= now) {
            into.push(Actor::Snapshot);
        }
    }

    /// When the next of those who cannot run now will.
    pub fn next_due(&self) -> u64 {
        let until = |sleep: Sleep| match sleep {
            Sleep::Awake => 0,
            Sleep::Until(then) => then,
        };
        let due =
            self.seats.iter().map(|seat| until(seat.sleep)).chain([until(self.core_sleep), self.spares_due]);
        let due = due.chain(self.log.syncing.map(|(then, _)| then));
        due.chain(self.snapshot.as_ref().map(|(then, _)| *then)).min().unwrap_or(0)
    }

    pub fn turn(
        &mut self,
        actor: Actor,
        checker: &mut Checker,
        history: &mut History,
    ) -> Result<(), Stopped> {
        match actor {
            Actor::Core => self.turn_core(checker, history)?,
            Actor::Worker(index) => self.turn_worker(index)?,
            Actor::Log => self.turn_log(history)?,
            Actor::Spares => self.turn_spares(),
            Actor::Snapshot => self.turn_snapshot(history),
        }
        match self.disk.stopped() {
            true => Err(Stopped::Power),
            false => Ok(()),
        }
    }

    // --- the core's thread ------------------------------------------------------------------------------------------

    fn turn_core(&mut self, checker: &mut Checker, history: &mut History) -> Checked {
        let woken = self.core_flag.take();
        if let Sleep::Until(_) = self.core_sleep {
            self.bell.disarm();
            if !woken && self.has_core_work() {
                return Err("the core slept over its work: a wake-up was lost".into());
            }
        }
        let now = now_of(&self.clock);
        while let Some(news) = self.news.pop_front() {
            self.core.step(news, now);
        }
        self.act(checker, history)?;
        for _ in 0..limits::CORE_STEP_REQUESTS_MAX {
            if !self.takes_requests() {
                break;
            }
            if self.taken.is_empty() {
                self.heard = self.intake.heard(now.mono);
                self.intake.take(limits::CORE_AHEAD_REQUESTS, &mut self.taken);
                self.core.foresee(&self.taken);
            }
            let Some(request) = self.taken.pop_front() else { break };
            self.core.step(CoreInput::Request(request), now);
        }
        if self.taken.is_empty() {
            self.heard = self.intake.heard(now.mono);
        }
        self.core.turn(now, self.heard);
        self.act(checker, history)?;
        self.core_sleep = Sleep::Awake;
        if !self.has_core_work() {
            self.bell.arm();
            let patience = if self.is_blocked() { BLOCKED_NANOS } else { PATIENCE_NANOS };
            self.core_sleep = Sleep::Until(self.clock.nanos() + patience);
        }
        Ok(())
    }

    fn is_blocked(&self) -> bool {
        !self.events.is_empty() || !self.proposals.is_empty()
    }

    fn takes_requests(&self) -> bool {
        self.core.wants_requests() && !self.is_blocked()
    }

    fn has_requests(&self) -> bool {
        !self.taken.is_empty() || !self.intake.is_empty()
    }

    fn has_core_work(&self) -> bool {
        !self.news.is_empty() || self.core.has_work() || self.takes_requests() && self.has_requests()
    }

    fn act(&mut self, checker: &mut Checker, history: &mut History) -> Checked {
        while let Some(output) = self.core.next_output() {
            match output {
                CoreOutput::Append(proposal) => {
                    history.note(
                        self.clock.nanos(),
                        format!("core proposes {:x}..{:x}", proposal.first.0, proposal.last.0),
                    );
                    for entry in proposal.entries() {
                        checker.proposed(entry)?;
                    }
                    self.proposals.push_back(proposal);
                }
                CoreOutput::Publish(event) => self.events.push_back(event),
                CoreOutput::RollLog => {
                    self.append();
                    self.log.queue.push_back(Command::Roll);
                }
                CoreOutput::TakeSnapshot(view) => {
                    let then = self.clock.nanos() + self.random.below(50_000_000);
                    self.snapshot = Some((then, view));
                }
                CoreOutput::Persist(_) => return Err("a standalone server keeps epochs".into()),
            }
        }
        self.append();
        self.publish();
        Ok(())
    }

    fn append(&mut self) {
        let room = limits::LOG_QUEUE_PROPOSALS_MAX.saturating_sub(self.log.queue.len());
        let count = room.min(self.proposals.len());
        self.log.queue.extend(self.proposals.drain(..count).map(Command::Append));
    }

    fn publish(&mut self) {
        while let Some(event) = self.events.pop_front() {
            let published =
                self.publisher.publish(event, |worker, watching, event| event.concerns(worker, watching));
            if let Err(event) = published {
                self.events.push_front(event);
                break;
            }
        }
    }

    fn tell_core(&mut self, news: CoreInput) {
        self.news.push_back(news);
        self.bell.ring();
    }

    // --- a worker's thread ------------------------------------------------------------------------------------------

    fn turn_worker(&mut self, index: usize) -> Checked {
        let now = self.clock.nanos();
        let before = lock(&self.net).written;
        let seat = &mut self.seats[index];
        let woken = seat.flag.take();
        let slept = seat.sleep != Sleep::Awake;
        seat.worker.wake(Duration::ZERO).map_err(|error| error.to_string())?;
        seat.worker.turn();
        if slept && !woken && lock(&self.net).written != before {
            return Err(format!("worker {index} slept over something to say: a wake-up was lost"));
        }
        seat.sleep = match seat.worker.park() {
            true => Sleep::Until(now + PATIENCE_NANOS),
            false => Sleep::Awake,
        };
        Ok(())
    }

    // --- the log's threads ------------------------------------------------------------------------------------------

    fn turn_log(&mut self, history: &mut History) -> Result<(), Stopped> {
        if let Some((_, zxid)) = self.log.syncing.take() {
            self.tell_core(CoreInput::Durable(zxid));
            return Ok(());
        }
        let failed = |error: String, disk: &SimDisk| match disk.stopped() {
            true => Stopped::Power,
            false => Stopped::Failed(error),
        };
        while let Some(command) = self.log.queue.pop_front() {
            match command {
                Command::Append(proposal) => self.log.group.push(proposal),
                Command::Roll if self.log.group.is_empty() => {
                    let rolled = self.log.writer.write_mark().and_then(|()| self.log.writer.roll());
                    rolled.map_err(|error| failed(error.to_string(), &self.disk))?;
                }
                Command::Roll => {
                    self.log.queue.push_front(Command::Roll);
                    break;
                }
            }
        }
        self.log_group(history)
    }

    fn log_group(&mut self, history: &mut History) -> Result<(), Stopped> {
        if self.log.group.is_empty() {
            return Ok(());
        }
        let outcome = self.log.writer.append(self.log.group.iter());
        let logged = self.log.writer.last();
        let whole = self.log.group.iter().rev().map(|proposal| proposal.last).find(|last| *last <= logged);
        self.log.group.retain(|proposal| proposal.last > logged);
        let now = self.clock.nanos();
        if let Some(zxid) = whole {
            let took = match self.random.below(50) {
                0 => self.random.below(300_000_000),
                _ => self.random.below(self.sync_nanos_most),
            };
            self.log.syncing = Some((now + took, zxid));
        }
        match outcome {
            Ok(()) => Ok(()),
            Err(AppendError::NoSpace) => {
                history.note(now, "log has no space".into());
                self.hear_space();
                Ok(())
            }
            Err(_) if self.disk.stopped() => Err(Stopped::Power),
            Err(_) if self.plant == Some(Plant::BelievesFailingDisks) => {
                let last = self.log.group.last().map(|proposal| proposal.last);
                self.log.syncing = last.map(|last| (now, last));
                self.log.group.clear();
                Ok(())
            }
            Err(error) => Err(Stopped::Failed(format!("the log failed: {error:?}"))),
        }
    }

    fn turn_spares(&mut self) {
        self.log.spares.prepare();
        self.hear_space();
        self.spares_due = self.clock.nanos() + self.random.between(1_000_000, 100_000_000);
        if self.log.syncing.is_none() && !self.log.group.is_empty() {
            // What a full disk kept waiting goes first; its outcome is found like any other's.
            self.log.queue.push_front(Command::Append(self.log.group.remove(0)));
            while let Some(proposal) = self.log.group.pop() {
                self.log.queue.insert(1, Command::Append(proposal));
            }
        }
    }

    fn hear_space(&mut self) {
        let told = std::mem::take(&mut *self.log.told.lock().unwrap_or_else(PoisonError::into_inner));
        for space in told {
            self.tell_core(CoreInput::Space(match space {
                LogSpace::Ok => Space::Ok,
                LogSpace::Reserve => Space::Reserve,
                LogSpace::Floor => Space::Floor,
                LogSpace::Full => Space::Full,
            }));
        }
    }

    fn turn_snapshot(&mut self, history: &mut History) {
        let Some((_, view)) = self.snapshot.take() else { return };
        let zxid = view.zxid();
        let source = Pinned { view, digest: true };
        let mut go_on = |_| ControlFlow::Continue(());
        let dir = &self.paths.snapshots;
        let result = snapshot::writer::write(&self.disk, dir, &source, Compression::Plain, &mut go_on);
        history.note(
            self.clock.nanos(),
            format!("snapshot of {:x}: {}", zxid.0, if result.is_ok() { "ok" } else { "failed" }),
        );
        if result.is_ok() && self.random.one_in(2) {
            // Neither its outcome nor its being cut short by a power loss changes what is there to recover.
            let _ = snapshot::purge(&self.disk, &self.paths.logs, dir, 3);
            self.log.spares.retry();
        }
        drop(source);
        self.tell_core(CoreInput::SnapshotEnded(result.ok().map(|written| written.file_bytes)));
    }
}

fn now_of(clock: &SimClock) -> Now {
    let now = clock.now();
    Now { mono: now.mono, wall: now.wall }
}

/// The digest kept along with every change is that of the tree counted afresh.
pub fn check_digest(view: &View) -> Checked {
    let settings = ostler_engine::world::Settings { hash_seed: [3, 4], digests: true };
    let mut restorer = Restorer::new(settings, view.zxid());
    let mut walk = view.walk();
    while let Some((path, node)) = walk.next() {
        let path = if path == "/" { "" } else { path };
        restorer.node(path, node.data(), -1, node.persisted()).map_err(|error| error.to_string())?;
    }
    let head: Head = restorer.finish().map_err(|error| error.to_string())?;
    let (kept, counted) = (view.totals().digest, head.digest());
    match kept == counted {
        true => Ok(()),
        false => Err(format!("at {:?} the digest is {kept:x}, of the tree itself {counted:x}", view.zxid())),
    }
}
