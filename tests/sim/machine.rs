//! One machine: production's driver, workers, log and recovery over a simulated disk, network and clock, each turned by
//! hand on one thread in any order.
//! Not here: when who runs (`run`), the log's threads (`log`), clients, judging.

use crate::checker::{Checked, Checker};
use crate::history::History;
use crate::log::{self, LogPlace, Pace, SimLog};
use crate::model::Request;
use crate::net::{Flag, SharedNet, SimPoll, Waker, lock};
use ostler_engine::admin::{FourLetter, Registry};
use ostler_engine::config::{Config, Containers};
use ostler_engine::core::{Core, Now, Settings};
use ostler_engine::intake::{Bell, bounded_intake};
use ostler_engine::io::clock::{self, Clock};
use ostler_engine::io::disk::Disk;
use ostler_engine::io::disk_sim::SimDisk;
use ostler_engine::limits;
use ostler_engine::log::{LogExecutor, LogFailure, LogSettings, LogWriter, Method, Spares};
use ostler_engine::model::WallMillis;
use ostler_engine::ring::{ConnRef, Wake, ring};
use ostler_engine::server::driver::{self, Driver, DriverMessage};
use ostler_engine::server::recovery::{self, Paths};
use ostler_engine::snapshot::{self, Compression, Job};
use ostler_engine::worker::watch::HashKey;
use ostler_engine::worker::{AcceptLimits, Acceptor, Desk, Mailbox, Parts, Shared, Worker};
use ostler_engine::world::{Head, Restorer, View};
use ostler_replication::{Moment, Outputs, Solo};
use ostler_tests::random::Random;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
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
    pub pace: Pace,
    pub batch_txns_max: u32,
    /// Of all workers together.
    pub intake_requests_max: usize,
    pub intake_bytes_max: usize,
    pub ring_bytes_max: usize,
    /// Requests that the core takes in one turn.
    pub turn_requests_max: usize,
    pub log_proposals_max: usize,
}

impl Shape {
    pub fn chosen(random: &mut Random) -> Shape {
        let tick_ms = *random.pick(&[100, 500, 2000]);
        let tick_nanos = u64::from(tick_ms) * 1_000_000;
        Shape {
            workers: random.between(1, 3) as usize,
            tick_ms,
            snap_txns: *random.pick(&[20, 100, 100_000]),
            segment_bytes: if random.one_in(8) { 8 << 20 } else { 64 << 10 },
            method: *random.pick(&[Method::Direct, Method::Mapped, Method::Pwrite]),
            ring_events: *random.pick(&[2, 4, 64, limits::RING_EVENTS_MAX]),
            outstanding_max: *random.pick(&[2, 1000]),
            pace: Pace {
                usual_most: *random.pick(&[100_000, 5_000_000]),
                // Now and then longer than any client's timeout, which is six ticks at most.
                rare_most: if random.one_in(4) { 8 * tick_nanos } else { 300_000_000 },
            },
            batch_txns_max: *random.pick(&[2, 8, 1000]),
            intake_requests_max: *random.pick(&[4, 64, limits::INTAKE_REQUESTS_MAX]),
            intake_bytes_max: *random.pick(&[512, limits::INTAKE_BYTES_MAX]),
            ring_bytes_max: *random.pick(&[2048, limits::RING_BYTES_MAX]),
            turn_requests_max: *random.pick(&[1, 16, limits::CORE_STEP_REQUESTS_MAX]),
            log_proposals_max: *random.pick(&[1, limits::LOG_QUEUE_PROPOSALS_MAX]),
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
            batch_txns_max: self.batch_txns_max,
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
    /// Answers when it takes proposals, not when they are on the disk.
    AnswersBeforeItSyncs,
    /// Takes what a setWatches2 has missed for seen.
    TellsNothingMissed,
    /// Takes what a setWatches2 has seen for missed.
    TellsAllAsMissed,
    /// Sets nothing of the last two lists of a setWatches2.
    ForgetsPersistentWatches,
}

impl Plant {
    pub const ALL: [Plant; 5] = [
        Plant::BelievesFailingDisks,
        Plant::AnswersBeforeItSyncs,
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
                Plant::BelievesFailingDisks | Plant::AnswersBeforeItSyncs => {}
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

struct Seat {
    worker: Worker<SimPoll>,
    flag: Arc<Flag>,
    sleep: Sleep,
    /// Its thread does not run until then.
    stalled_until: u64,
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

/// What production's driver acts through here.
struct Simulated;

impl driver::Seams for Simulated {
    type Log = SimLog;
    type Snapshots = SimSnapshots;
    type Clock = SimClock;
    type PeerPoll = SimPoll;
}

/// A snapshot being written, done by then.
type Underway = Rc<RefCell<Option<(u64, Job)>>>;

struct SimSnapshots {
    underway: Underway,
    clock: SimClock,
    random: Random,
}

impl driver::Snapshots for SimSnapshots {
    fn offer(&mut self, job: Job) -> bool {
        let mut underway = self.underway.borrow_mut();
        if underway.is_some() {
            return false;
        }
        *underway = Some((self.clock.nanos() + self.random.below(50_000_000), job));
        true
    }
}

pub struct Machine {
    driver: Driver<Simulated>,
    mailbox: Arc<driver::Mailbox>,
    bell: Arc<Bell>,
    core_flag: Arc<Flag>,
    core_sleep: Sleep,
    seats: Vec<Seat>,
    log: Rc<RefCell<LogPlace>>,
    snapshot: Underway,
    /// The driver asks for a purge: the disk is full.
    purges: Receiver<()>,
    paths: Paths,
    pub disk: SimDisk,
    clock: SimClock,
    net: SharedNet,
    random: Random,
}

/// What later turns than this take for a stall is postponed (`server::threads`).
const PATIENCE_NANOS: u64 = limits::WAIT_MS_MAX / 2 * 1_000_000;

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
        let (intake, submitters) =
            bounded_intake(bell.clone(), wakers(), shape.intake_requests_max, shape.intake_bytes_max);
        let mailbox = Arc::new(driver::Mailbox::new(bell.clone()));
        let now = now_of(&clock);
        let mut begun = Outputs::new();
        let solo = Box::new(Solo::new(recovery.head.zxid(), &mut begun));
        let settings = Settings::of(&config, random.word());
        let core = Core::new(settings, recovery.head, solo, begun, recovery.snapshot_bytes, now);
        check_digest(&core.view())?;
        let (publisher, subscribers) = ring(shape.ring_events, core.first_event(), wakers());

        let teller = mailbox.clone();
        let tell = move |space| teller.send(DriverMessage::Space(space));
        let settings = LogSettings {
            segment_bytes: shape.segment_bytes,
            method: shape.method,
            ..LogSettings::new(&paths.logs)
        };
        let spares = Spares::open(shared_disk.clone(), &settings, false, Box::new(tell))
            .map_err(|error| error.to_string())?;
        let writer = LogWriter::new(shared_disk, settings, spares.clone(), core.view().zxid());
        let log = LogPlace::new(log::Parts {
            executor: LogExecutor::new(writer),
            proposals_max: shape.log_proposals_max,
            spares,
            mailbox: mailbox.clone(),
            pace: shape.pace,
            clock: clock.clone(),
            disk: disk.clone(),
            random: random.fork(),
        });
        let log = Rc::new(RefCell::new(log));

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
            Seat { worker, flag, sleep: Sleep::Awake, stalled_until: 0 }
        });
        let seats = seats.collect();
        lock(&net).open(flags.clone());
        let snapshot = Underway::default();
        let (purge, purges) = channel();
        let driver = Driver::new(driver::Parts {
            core,
            intake,
            publisher,
            mailbox: mailbox.clone(),
            log: SimLog(log.clone()),
            membership: None,
            snapshots: SimSnapshots {
                underway: snapshot.clone(),
                clock: clock.clone(),
                random: random.fork(),
            },
            clock: clock.clone(),
            counters: registry.thread(),
            stop: Arc::default(),
            purge,
            settings: driver::Settings {
                compression: Compression::Plain,
                digest: config.digest,
                ring_bytes_max: shape.ring_bytes_max,
                turn_requests_max: shape.turn_requests_max,
                give_back_memory: || {},
            },
        });
        Ok(Machine {
            driver,
            mailbox,
            bell,
            core_flag,
            core_sleep: Sleep::Awake,
            seats,
            log,
            snapshot,
            purges,
            paths,
            disk,
            clock,
            net,
            random,
        })
    }

    pub fn plant(&mut self, plant: Option<Plant>) {
        self.log.borrow_mut().plant = plant;
    }

    /// One worker's thread does not run for so long, those of the others and the core's do.
    pub fn stall_worker(&mut self, nanos: u64) {
        let index = self.random.below(self.seats.len() as u64) as usize;
        self.seats[index].stalled_until = self.clock.nanos() + nanos;
    }

    pub fn set_pace(&mut self, pace: Pace) {
        self.log.borrow_mut().pace = pace;
    }

    /// At the last committed zxid.
    pub fn view(&self) -> View {
        self.driver.core().view()
    }

    /// Nothing is on its way to being committed or told.
    pub fn is_quiet(&self) -> bool {
        self.driver.is_quiet()
    }

    /// The log has taken nothing for want of space.
    pub fn is_full(&self) -> bool {
        self.log.borrow().is_full()
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
            if seat.stalled_until <= now && over(seat.sleep, &seat.flag) {
                into.push(Actor::Worker(index));
            }
        }
        let log = self.log.borrow();
        if log.due().is_some_and(|due| due <= now) {
            into.push(Actor::Log);
        }
        if log.spares_due() <= now {
            into.push(Actor::Spares);
        }
        if self.snapshot.borrow().as_ref().is_some_and(|(then, _)| *then <= now) {
            into.push(Actor::Snapshot);
        }
    }

    /// When the next of those who cannot run now will.
    pub fn next_due(&self) -> u64 {
        let until = |sleep: Sleep| match sleep {
            Sleep::Awake => 0,
            Sleep::Until(then) => then,
        };
        let log = self.log.borrow();
        let due = self
            .seats
            .iter()
            .map(|seat| until(seat.sleep).max(seat.stalled_until))
            .chain([until(self.core_sleep)]);
        let due = due.chain(log.due()).chain([log.spares_due()]);
        due.chain(self.snapshot.borrow().as_ref().map(|(then, _)| *then)).min().unwrap_or(0)
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
            Actor::Log => self.turn_log()?,
            Actor::Spares => self.turn_spares(),
            Actor::Snapshot => self.turn_snapshot(history),
        }
        let (written_here, found_full) = std::mem::take(&mut self.log.borrow_mut().counts);
        checker.figures.written_here += written_here;
        checker.figures.found_full += found_full;
        match self.disk.stopped() {
            true => Err(Stopped::Power),
            false => Ok(()),
        }
    }

    // --- the core's thread ------------------------------------------------------------------------------------------

    /// As `server::threads` does with the same driver.
    fn turn_core(&mut self, checker: &mut Checker, history: &mut History) -> Result<(), Stopped> {
        let woken = self.core_flag.take();
        if let Sleep::Until(_) = self.core_sleep {
            self.bell.disarm();
            if !woken && self.driver.has_work() {
                return Err(Stopped::Wrong("the core slept over its work: a wake-up was lost".into()));
            }
        }
        self.driver.turn();
        let (proposed, failure) = {
            let mut log = self.log.borrow_mut();
            (log.take_proposed(), log.take_failure())
        };
        for proposal in proposed {
            let range = format!("core proposes {:x}..{:x}", proposal.first.0, proposal.last.0);
            history.note(self.clock.nanos(), range);
            proposal.entries().try_for_each(|entry| checker.proposed(entry))?;
        }
        if let Some(failure) = failure {
            return Err(self.failed(failure));
        }
        self.core_sleep = Sleep::Awake;
        if !self.driver.has_work() {
            self.bell.arm();
            let patience = self.driver.patience();
            self.core_sleep = Sleep::Until(self.clock.nanos() + patience.as_nanos() as u64);
        }
        Ok(())
    }

    fn failed(&self, failure: LogFailure) -> Stopped {
        match self.disk.stopped() {
            true => Stopped::Power,
            false => Stopped::Failed(failure.to_string()),
        }
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

    // --- the log's threads, the snapshot's and the purge's ----------------------------------------------------------

    fn turn_log(&mut self) -> Result<(), Stopped> {
        let turned = self.log.borrow_mut().turn();
        turned.map_err(|failure| self.failed(failure))
    }

    fn turn_spares(&mut self) {
        self.log.borrow_mut().turn_spares();
        if self.purges.try_iter().count() > 0 {
            // Neither its outcome nor its being cut short by a power loss changes what is there to recover.
            let _ = snapshot::make_room(&self.disk, &self.paths.logs, &self.paths.snapshots);
            self.log.borrow().spares().retry();
        }
    }

    fn turn_snapshot(&mut self, history: &mut History) {
        let Some((_, job)) = self.snapshot.take() else { return };
        let Job { source, compression, mut go_on } = job;
        let zxid = source.zxid();
        let dir = &self.paths.snapshots;
        let result = snapshot::writer::write(&self.disk, dir, &*source, compression, &mut *go_on);
        history.note(
            self.clock.nanos(),
            format!("snapshot of {:x}: {}", zxid.0, if result.is_ok() { "ok" } else { "failed" }),
        );
        if result.is_ok() && self.random.one_in(2) {
            // Neither its outcome nor its being cut short by a power loss changes what is there to recover.
            let _ = snapshot::purge(&self.disk, &self.paths.logs, dir, 3);
            self.log.borrow().spares().retry();
        }
        drop(source);
        let bytes = result.ok().map(|written| written.file_bytes);
        self.mailbox.send(DriverMessage::Snapshot(bytes));
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
