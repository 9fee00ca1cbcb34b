//! One server: production's driver, workers, log, recovery and, in an ensemble, its connections to the others, over a
//! simulated disk, network and clock, each turned by hand on one thread in any order.
//! Not here: when who runs (`run`), the log's threads (`log`), clients, judging.

use crate::checker::{Checked, Checker};
use crate::history::History;
use crate::log::{self, LogPlace, Pace, SimLog};
use crate::net::{Flag, HostId, SharedNet, SimPoll, Waker, lock};
use crate::plant::{Defective, Plant};
use crate::shape::{Shape, SimClock};
use crossbeam::channel::{Sender, unbounded};
use ostler_engine::admin::{FourLetter, Registry};
use ostler_engine::config::{Config, EnsembleConfig};
use ostler_engine::core::{Core, Now, Settings};
use ostler_engine::intake::{Bell, bounded_intake};
use ostler_engine::io::clock::Clock;
use ostler_engine::io::disk::Disk;
use ostler_engine::io::disk_sim::SimDisk;
use ostler_engine::limits;
use ostler_engine::log::history::{HistoryRequests, Request as HistoryRequest};
use ostler_engine::log::{LogExecutor, LogFailure, LogSettings, LogWriter, Spares};
use ostler_engine::peers::{Peers, snapshot::Inline};
use ostler_engine::ring::{ConnRef, Wake, ring};
use ostler_engine::server::driver::{self, Driver, DriverMessage, Membership, MembershipParts};
use ostler_engine::server::ensemble;
use ostler_engine::server::recovery::{self, Paths};
use ostler_engine::snapshot::{self, Compression, Job};
use ostler_engine::worker::watch::HashKey;
use ostler_engine::worker::{AcceptLimits, Acceptor, Desk, Mailbox, Parts, Shared, Worker};
use ostler_engine::world::{Head, Restorer, View};
use ostler_replication::{
    Broadcast, Ensemble, History as Piece, Link, Number, Outputs, Recovered, Role, Solo, Status, Zxid,
};
use ostler_tests::random::Random;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

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
    /// Reads the log for learners that lag.
    History,
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

/// What learners that lag have asked for.
type Asked = Arc<Mutex<VecDeque<HistoryRequest>>>;

struct SimHistory(Asked);

impl HistoryRequests for SimHistory {
    fn ask(&self, request: HistoryRequest) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(request);
        true
    }
}

/// The reader's end.
struct Reading {
    asked: Asked,
    found: Sender<(Link, Number, Piece)>,
}

/// Where a server runs.
#[derive(Clone)]
pub struct Site {
    pub host: HostId,
    pub disk: SimDisk,
    pub clock: SimClock,
    pub net: SharedNet,
}

pub struct Machine {
    host: HostId,
    driver: Driver<Simulated>,
    mailbox: Arc<driver::Mailbox>,
    bell: Arc<Bell>,
    core_flag: Arc<Flag>,
    core_sleep: Sleep,
    seats: Vec<Seat>,
    log: Rc<RefCell<LogPlace>>,
    snapshot: Underway,
    /// In an ensemble.
    reading: Option<Reading>,
    /// The protocol has no role for this server since then, as far as its core has run.
    looking_since: Option<u64>,
    /// The driver asks for a purge: the disk is full.
    purges: Receiver<()>,
    paths: Paths,
    paused_until: u64,
    pub disk: SimDisk,
    clock: SimClock,
    net: SharedNet,
    random: Random,
}

/// What later turns than this take for a stall is postponed (`server::threads`).
const PATIENCE_NANOS: u64 = limits::WAIT_MS_MAX / 2 * 1_000_000;

/// A worker that is not held up has closed its connections so long after its server lost its role.
const ROLE_END_NANOS_MAX: u64 = 1_000_000_000;

struct NoDesk;

impl Desk for NoDesk {
    fn ask(&self, _: FourLetter, _: i64, _: ConnRef) {}
}

impl Machine {
    /// Recovers from the disk and listens. The errors are those of a real start.
    pub fn start(
        shape: &Shape,
        site: Site,
        plant: Option<Plant>,
        mut random: Random,
    ) -> Result<Machine, String> {
        let Site { host, disk, clock, net } = site;
        let config = shape.config(host);
        let paths = Paths::of(&config);
        let shared_disk: Arc<dyn Disk> = Arc::new(disk.clone());
        for dir in [&paths.snapshots, &paths.logs] {
            shared_disk.create_dir(dir).map_err(|error| error.to_string())?;
        }
        let registry = Registry::default();
        let seed = [random.word(), random.word()];
        let mut recovery = recovery::recover(&disk, &paths, &config, seed, false, &registry.thread())
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
        let mut broadcast: Box<dyn Broadcast> = match &config.ensemble {
            None => Box::new(Solo::new(recovery.head.zxid(), &mut begun)),
            Some(members) => {
                let logged = recovery.head.zxid();
                let epochs = recovery::epochs(&disk, &paths, logged).map_err(|error| error.to_string())?;
                driver::show_members(&mut recovery.head, &config, now.wall);
                let settings = ensemble::protocol_settings(&config, members);
                let made = Ensemble::new(settings, Recovered { epochs, logged }, now.mono, &mut begun);
                Box::new(made.map_err(|error| error.to_string())?)
            }
        };
        if let Some(plant) = plant.filter(|plant| plant.is_of_ensemble()) {
            broadcast = Box::new(Defective { inner: broadcast, plant });
        }
        let reading = config.ensemble.as_ref().map(|members| {
            let files = (&shared_disk, &paths);
            let poll = SimPoll::of_peers(net.clone(), host, core_flag.clone());
            membership((&config, members), poll, files, (recovery.snapshot_bytes, seed))
        });
        let (membership, reading) = reading.unzip();
        let settings = Settings::of(&config, random.word());
        let core = Core::new(settings, recovery.head, broadcast, begun, recovery.snapshot_bytes, now);
        check_digest(&core.view())?;
        let (publisher, subscribers) = ring(shape.ring_events, core.first_event(), wakers());

        let teller = mailbox.clone();
        let tell = move |space| teller.send(DriverMessage::Space(space));
        let settings = LogSettings {
            segment_bytes: shape.segment_bytes,
            method: shape.method,
            snapshot_dir: paths.snapshots.clone(),
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
            plant,
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
                poll: SimPoll::of_worker(net.clone(), host, index, flag.clone()),
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
        lock(&net).open(host, flags.clone());
        let snapshot = Underway::default();
        let (purge, purges) = channel();
        let driver = Driver::new(driver::Parts {
            core,
            intake,
            publisher,
            mailbox: mailbox.clone(),
            log: SimLog(log.clone()),
            membership,
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
                exit: |code| panic!("the process ends itself with {code}"),
            },
        });
        Ok(Machine {
            host,
            driver,
            mailbox,
            bell,
            core_flag,
            core_sleep: Sleep::Awake,
            seats,
            log,
            snapshot,
            reading,
            looking_since: None,
            purges,
            paths,
            paused_until: 0,
            disk,
            clock,
            net,
            random,
        })
    }

    /// One worker's thread does not run for so long, those of the others and the core's do.
    pub fn stall_worker(&mut self, nanos: u64) {
        let index = self.random.below(self.seats.len() as u64) as usize;
        self.seats[index].stalled_until = self.clock.nanos() + nanos;
    }

    /// The process does not run for so long.
    pub fn pause(&mut self, nanos: u64) {
        self.paused_until = self.clock.nanos() + nanos;
    }

    pub fn set_pace(&mut self, pace: Pace) {
        self.log.borrow_mut().pace = pace;
    }

    /// At the last committed zxid.
    pub fn view(&self) -> View {
        self.driver.core().view()
    }

    /// What it is to its clients.
    pub fn role(&self) -> Role {
        self.driver.core().role()
    }

    pub fn status(&self) -> Status {
        self.driver.core().status()
    }

    /// The last txn on stable storage.
    pub fn last_logged(&self) -> Zxid {
        self.log.borrow().last()
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
        if self.paused_until > now {
            return;
        }
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
        if self.reading.as_ref().is_some_and(Reading::has_work) {
            into.push(Actor::History);
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
        let due = due.chain(self.snapshot.borrow().as_ref().map(|(then, _)| *then)).min();
        due.unwrap_or(0).max(self.paused_until)
    }

    pub fn turn(
        &mut self,
        actor: Actor,
        checker: &mut Checker,
        history: &mut History,
    ) -> Result<(), Stopped> {
        match actor {
            Actor::Core => self.turn_core()?,
            Actor::Worker(index) => self.turn_worker(index)?,
            Actor::Log => self.turn_log()?,
            Actor::Spares => self.turn_spares(),
            Actor::Snapshot => self.turn_snapshot(history),
            Actor::History => self.turn_history(),
        }
        for note in self.log.borrow_mut().take_notes() {
            if let log::LogNote::Append(proposal) = &note {
                let range = format!("{} logs {:x}..{:x}", self.host, proposal.first.0, proposal.last.0);
                history.note(self.clock.nanos(), range);
            } else {
                history.note(self.clock.nanos(), format!("{} {note:?}", self.host));
            }
            checker.logs(self.host, &note)?;
        }
        if actor == Actor::Core {
            self.tell(checker, history)?;
            if let Some(failure) = self.log.borrow_mut().take_failure() {
                return Err(self.failed(failure));
            }
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
    fn turn_core(&mut self) -> Result<(), Stopped> {
        let woken = self.core_flag.take();
        if let Sleep::Until(_) = self.core_sleep {
            self.bell.disarm();
            if !woken && self.driver.has_work() {
                return Err(Stopped::Wrong("the core slept over its work: a wake-up was lost".into()));
            }
        }
        self.driver.wait_for_peers(Duration::ZERO);
        self.driver.turn();
        self.core_sleep = Sleep::Awake;
        if !self.driver.has_work() {
            self.bell.arm();
            let patience = self.driver.patience();
            if !patience.is_zero() {
                self.core_sleep = Sleep::Until(self.clock.after(patience.as_nanos() as u64));
            }
        }
        Ok(())
    }

    /// What the server shows by now.
    fn tell(&mut self, checker: &mut Checker, history: &mut History) -> Checked {
        let now = self.clock.nanos();
        let told = checker.shows(self.host, self.role(), &self.view())?;
        if let Some(told) = told {
            history.note(now, format!("{} {told}", self.host));
        }
        let looks = self.status().role == Role::Looking;
        self.looking_since = if looks { Some(self.looking_since.unwrap_or(now)) } else { None };
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
        // A ring that another worker holds up brings no change of role.
        let held_until = self.seats.iter().map(|seat| seat.stalled_until).max();
        let held_until = held_until.unwrap_or(0).max(self.paused_until);
        let seat = &mut self.seats[index];
        let woken = seat.flag.take();
        let slept = seat.sleep != Sleep::Awake;
        seat.worker.wake(Duration::ZERO).map_err(|error| error.to_string())?;
        seat.worker.turn();
        if slept && !woken && lock(&self.net).written != before {
            return Err(format!("worker {index} slept over something to say: a wake-up was lost"));
        }
        if lock(&self.net).written != before
            && let Some(since) = self.looking_since
            && now > since.max(held_until) + ROLE_END_NANOS_MAX
        {
            return Err(format!(
                "worker {index} of {} serves, {} ms after its role ended",
                self.host,
                (now - since) / 1_000_000
            ));
        }
        seat.sleep = match seat.worker.park() {
            true => Sleep::Until(self.clock.after(PATIENCE_NANOS)),
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

    fn turn_history(&mut self) {
        let Some(reading) = &self.reading else { return };
        let request = reading.asked.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let Some(request) = request else { return };
        request.serve(&self.disk, &self.paths.logs, &self.paths.snapshots, &mut |piece| {
            // Nobody listens any more when the server ends.
            reading.found.send((request.link, request.number, piece)).is_ok()
        });
        self.bell.ring();
    }

    fn turn_snapshot(&mut self, history: &mut History) {
        let Some((_, job)) = self.snapshot.take() else { return };
        let Job { source, compression, mut go_on } = job;
        let zxid = source.zxid();
        let dir = &self.paths.snapshots;
        let result = snapshot::writer::write(&self.disk, dir, &*source, compression, &mut *go_on);
        history.note(
            self.clock.nanos(),
            format!(
                "{} snapshot of {:x}: {}",
                self.host,
                zxid.0,
                if result.is_ok() { "ok" } else { "failed" }
            ),
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

impl Reading {
    fn has_work(&self) -> bool {
        !self.asked.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

/// As `server::ensemble` does, with snapshots and history made on the caller's thread.
fn membership(
    (config, members): (&Config, &EnsembleConfig),
    poll: SimPoll,
    (disk, paths): (&Arc<dyn Disk>, &Paths),
    (snapshot_bytes, hash_seed): (u64, [u64; 2]),
) -> (Membership<SimPoll>, Reading) {
    let background = Inline::new(ensemble::staging(config, disk, paths, hash_seed));
    let peers = Peers::new(poll, Box::new(background), ensemble::peer_settings(config, members));
    let asked = Asked::default();
    let (tell, found) = unbounded();
    let parts = MembershipParts {
        peers,
        disk: disk.clone(),
        paths: paths.clone(),
        config: config.clone(),
        hash_seed,
        found,
        reader: Box::new(SimHistory(asked.clone())),
        reads_ahead: false,
        snapshot_bytes,
    };
    (Membership::new(parts), Reading { asked, found: tell })
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
