//! One server as a whole: recovers its data, starts its threads, stops them.
//! Not here: what the threads do (core, worker, log, snapshot), signals and the process (tools).
//!
//! | thread | does |
//! |---|---|
//! | `ostler-core` | the core; with one CPU it drives the only worker, too |
//! | `ostler-worker-N` | a worker: sockets, reads, watches |
//! | `ostler-log`, `ostler-segments` | the log |
//! | `ostler-snap` | one snapshot, at a low priority; a new one for each |
//! | `ostler-desk` | four-letter words, purging |

mod desk;
pub mod driver;
pub mod ensemble;
pub mod recovery;
mod replay;
mod threads;

#[cfg(test)]
mod tests;

use crate::admin::{Counter, Counters, Registry, Summary};
use crate::config::{Compression, Config};
use crate::core::{Core, Figures, Now, Settings};
use crate::intake::{Bell, intake};
use crate::io::clock::{Clock, SystemClock};
use crate::io::directories::{Directories, DirectoryError};
use crate::io::disk::{Disk, RealDisk};
use crate::io::poll::{self, MioPoll, Poll};
use crate::io::process;
use crate::limits;
use crate::log::{self, LogEvent, LogFailure, LogSettings, LogThread, RecoverError};
use crate::ring::{Wake, ring};
use crate::snapshot::{self, LoadError, Snapshotter};
use crate::worker::watch::HashKey;
use crate::worker::{AcceptLimits, Acceptor, LISTENER, Mail, Mailbox, Parts, Shared, Worker};
use crossbeam::utils::CachePadded;
use desk::{Desk, DeskClerk};
use driver::{Driver, DriverMessage, Production, SharedFigures};
use ostler_replication::{Broadcast, Ensemble, EpochsLost, Outputs, Recovered, Solo, Zxid};
use recovery::Paths;
use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use threads::{CoreThread, JointThread, WorkerThread};

/// Why a server does not start. Nothing runs then, and no data was changed but for a torn tail of the log.
#[derive(Debug)]
pub enum StartError {
    Directory(DirectoryError),
    /// None of the snapshots loads, or they cannot be read.
    Snapshot(LoadError),
    /// A snapshot is whole as a file, but its content makes no tree.
    Content {
        path: PathBuf,
        reason: String,
    },
    /// Txns without a snapshot to start from: something was removed (ZOOKEEPER-2325).
    NoSnapshot {
        logs: PathBuf,
        snapshots: PathBuf,
    },
    /// The newest snapshot does not load, and the log does not reach as far as it did.
    Lost {
        known: Zxid,
        last: Zxid,
        damaged: snapshot::SnapshotError,
    },
    Log(RecoverError),
    LogStart(LogFailure),
    Purge(snapshot::purge::PurgeError),
    FirstSnapshot(snapshot::WriteError),
    /// A snapshot of the leader's was being installed when the process ended, and that cannot be finished.
    Install(log::quarantine::InstallError),
    Epochs(log::epochs::EpochError),
    EpochsLost(EpochsLost),
    /// `db.autocreate=false`, and there is no data.
    DataLost {
        snapshots: PathBuf,
    },
    Listen {
        address: SocketAddr,
        source: io::Error,
    },
    /// `clientPort` is not set.
    NoListener,
    Io {
        path: PathBuf,
        source: io::Error,
    },
    Threads(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Directory(error) => error.fmt(f),
            StartError::Snapshot(error) => write!(
                f,
                "{error}\nPut back a snapshot from a copy, or, to begin empty, move the data directory away"
            ),
            StartError::Content { path, reason } => {
                write!(
                    f,
                    "snapshot {} makes no tree: {reason}. Move it away to start from an older one",
                    path.display()
                )
            }
            StartError::NoSnapshot { logs, snapshots } => write!(
                f,
                "{} holds txns, but there is no snapshot in {}: one has been removed, or a directory is not mounted. Put \
                 it back; only if the log is known to be complete from its first txn, set zookeeper.snapshot.trust.empty=true",
                logs.display(),
                snapshots.display()
            ),
            StartError::Lost { known, last, damaged } => write!(
                f,
                "txns are missing: an older snapshot and the log behind it reach {last}, but there was a snapshot at {known} \
                 that does not load: {damaged}. Put it or the log files that are missing back from a copy; or, with other \
                 servers in the ensemble, move the data directory away and let this server fetch everything from them; or \
                 move that snapshot away to go on with what is left"
            ),
            StartError::Log(error) => error.fmt(f),
            StartError::LogStart(error) => error.fmt(f),
            StartError::Purge(error) => error.fmt(f),
            StartError::FirstSnapshot(error) => error.fmt(f),
            StartError::Install(error) => error.fmt(f),
            StartError::Epochs(error) => error.fmt(f),
            StartError::EpochsLost(error) => error.fmt(f),
            StartError::DataLost { snapshots } => write!(
                f,
                "{} holds no data, and db.autocreate=false takes that for a loss: a server that has forgotten what it \
                 acknowledged must not vote. Put the data back; or, if this server is new or is to fetch everything from the \
                 others, make an empty file `initialize` in dataDir",
                snapshots.display()
            ),
            StartError::Listen { address, source } => {
                write!(f, "cannot listen on {address}: {source}. Is another server running there?")
            }
            StartError::NoListener => write!(f, "clientPort is not set: there is nothing to listen on"),
            StartError::Io { path, source } => write!(f, "{}: {source}", path.display()),
            StartError::Threads(source) => write!(f, "cannot start a thread: {source}"),
        }
    }
}

impl std::error::Error for StartError {}

/// A running server. Stops when dropped.
pub struct Server {
    address: SocketAddr,
    workers: Vec<Arc<Mailbox<<MioPoll as Poll>::Socket>>>,
    /// Those that drain first, then those that are stopped.
    draining: Vec<JoinHandle<()>>,
    core: Option<JoinHandle<()>>,
    /// Workers end when they have handed out what is due.
    drain: Arc<AtomicBool>,
    core_stop: Arc<AtomicBool>,
    core_mail: Arc<driver::Mailbox>,
    figures: Arc<SharedFigures>,
    desk: Option<DeskClerk>,
    _directories: Directories,
}

impl Server {
    /// Recovers the data and serves clients when it returns. Threads are those of the table above.
    pub fn start(config: Config) -> Result<Server, StartError> {
        let cpus = std::thread::available_parallelism().map_or(1, |cpus| cpus.get());
        Server::start_on(config, cpus)
    }

    /// As if the process were allowed so many CPUs.
    fn start_on(config: Config, cpus: usize) -> Result<Server, StartError> {
        let listener = config.client.ok_or(StartError::NoListener)?;
        let directories = Directories::take(&config).map_err(StartError::Directory)?;
        let paths = Paths::of(&config);
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let registry = Arc::new(Registry::default());
        if let Some(ensemble) = &config.ensemble {
            ensemble::check_not_lost(&*disk, &paths, ensemble)?;
        }
        let hash_seed = [random(), random()];
        let mut recovery = recovery::recover(&*disk, &paths, &config, hash_seed, true, &registry.thread())?;
        let backlog = listener.backlog.unwrap_or(limits::BACKLOG_CONNECTIONS_DEFAULT);
        let (socket, address) = poll::bind(listener.address, listener.port, backlog)
            .map_err(|source| StartError::Listen { address: listener.socket_address(), source })?;

        let clock = SystemClock::start();
        let plan = threads::Plan::of(&config, cpus);
        let mut polls = Vec::new();
        for _ in 0..plan.workers {
            polls.push(MioPoll::new(config.keep_alive).map_err(StartError::Threads)?);
        }
        let wakers =
            |polls: &[MioPoll]| -> Vec<Box<dyn Wake>> { polls.iter().map(|poll| poll.waker()).collect() };
        let parker = crossbeam::sync::Parker::new();
        let peer_poll = match &config.ensemble {
            Some(ensemble) => Some(MioPoll::new(ensemble.settings.keep_alive).map_err(StartError::Threads)?),
            None => None,
        };
        let core_waker: Box<dyn Wake> = match &peer_poll {
            Some(poll) => poll.waker(),
            None if plan.joint => polls[0].waker(),
            None => Box::new(ThreadWaker(parker.unparker().clone())),
        };
        let bell = Arc::new(Bell::new(core_waker));
        let core_mail = Arc::new(driver::Mailbox::new(bell.clone()));
        let (intake, submitters) = intake(bell.clone(), wakers(&polls));

        let mut outputs = Outputs::new();
        let now = clock.now();
        let now = Now { mono: now.mono, wall: now.wall };
        let broadcast: Box<dyn Broadcast> = match &config.ensemble {
            None => Box::new(Solo::new(recovery.head.zxid(), &mut outputs)),
            Some(ensemble) => {
                let epochs = recovery::epochs(&*disk, &paths, recovery.head.zxid())?;
                driver::show_members(&mut recovery.head, &config, now.wall);
                let recovered = Recovered { epochs, logged: recovery.head.zxid() };
                let settings = ensemble::protocol_settings(&config, ensemble);
                let ensemble = Ensemble::new(settings, recovered, now.mono, &mut outputs);
                Box::new(ensemble.map_err(StartError::EpochsLost)?)
            }
        };
        ensemble::forget_initialize(&*disk, &config);
        let snapshot_bytes = recovery.snapshot_bytes;
        let membership = match (peer_poll, &config.ensemble) {
            (Some(poll), Some(members)) => {
                let files = (&disk, &paths);
                let found = (bell.clone(), snapshot_bytes, hash_seed);
                Some(ensemble::membership(&config, members, poll, files, found)?)
            }
            _ => None,
        };
        let settings = Settings::of(&config, random());
        let core = Core::new(settings, recovery.head, broadcast, outputs, snapshot_bytes, now);
        let first = core.first_event();
        let (publisher, subscribers) = ring(limits::RING_EVENTS_MAX, first, wakers(&polls));

        let log = start_log(&config, &paths, &disk, core.view().zxid(), &core_mail, registry.thread())?;
        let snapshotter = snapshotter(&paths, &disk, &core_mail);
        let mailboxes: Vec<_> = wakers(&polls).into_iter().map(Mailbox::new).collect();
        let desk = Desk::new();
        let (purge, purges) = channel();
        let shared = Shared::new(&config, plan.workers, desk.clone(), random(), now.mono);
        let departures = Arc::default();
        let mut acceptor = Some(Acceptor::new(
            AcceptLimits { per_address: config.address_connections_max, in_all: config.connections_max },
            mailboxes.clone(),
            Arc::clone(&departures),
        ));
        polls[0].listen(LISTENER, socket).map_err(StartError::Threads)?;
        let mut workers = Vec::new();
        for (index, ((poll, ring), core)) in polls.into_iter().zip(subscribers).zip(submitters).enumerate() {
            workers.push(Worker::new(Parts {
                index: index as u16,
                poll,
                ring,
                core,
                mail: mailboxes[index].clone(),
                departures: Arc::clone(&departures),
                acceptor: acceptor.take(),
                shared: shared.clone(),
                counters: registry.thread(),
                clock: Box::new(clock),
                key: HashKey([random(), random()]),
            }));
        }
        let core_stop = Arc::new(AtomicBool::new(false));
        let log_handle = log.handle();
        let driver: Driver<Production> = Driver::new(driver::Parts {
            core,
            intake,
            publisher,
            mailbox: core_mail.clone(),
            log,
            membership,
            snapshots: snapshotter,
            clock,
            counters: registry.thread(),
            stop: core_stop.clone(),
            purge,
            settings: driver::Settings {
                compression: compression(&config),
                digest: config.digest,
                ring_bytes_max: limits::RING_BYTES_MAX,
                turn_requests_max: limits::CORE_STEP_REQUESTS_MAX,
                give_back_memory,
                exit: std::process::exit,
            },
        });
        let figures = driver.figures();
        let drain = Arc::new(AtomicBool::new(false));
        let patience_ms = config.shutdown_ms_max;
        let mut draining = Vec::new();
        let mut core = None;
        if plan.joint {
            let worker = workers.remove(0);
            let thread = JointThread { driver, worker, bell, drain: drain.clone(), patience_ms };
            draining.push(threads::spawn("ostler-core", plan.cpu(0), move || thread.run())?);
        } else {
            let thread = CoreThread { driver, bell, parker, stop: core_stop.clone(), patience_ms };
            core = Some(threads::spawn("ostler-core", plan.cpu(0), move || thread.run())?);
            for (index, worker) in workers.into_iter().enumerate() {
                let thread = WorkerThread { worker, drain: drain.clone(), patience_ms };
                let name = format!("ostler-worker-{index}");
                draining.push(threads::spawn(&name, plan.cpu(index + 1), move || thread.run())?);
            }
        }
        let clerk = desk.open(desk::Office {
            config,
            address,
            disk,
            paths,
            workers: mailboxes.clone(),
            core: core_mail.clone(),
            figures: figures.clone(),
            registry,
            log: log_handle,
            clock,
            shared,
            purges,
        })?;
        Ok(Server {
            address,
            workers: mailboxes,
            draining,
            core,
            drain,
            core_stop,
            core_mail,
            figures,
            desk: Some(clerk),
            _directories: directories,
        })
    }

    /// Where clients connect; the port that the kernel picked if the configuration left it to it.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    pub fn figures(&self) -> Figures {
        self.figures.load()
    }

    /// Begins a snapshot now, unless one is being written.
    pub fn snapshot(&self) {
        self.core_mail.send(DriverMessage::SnapshotWanted);
    }

    /// Accepts and reads no more, answers what it has accepted, syncs, ends every thread.
    pub fn stop(mut self) {
        self.finish();
    }

    fn finish(&mut self) {
        self.drain.store(true, Ordering::Release);
        for worker in &self.workers {
            worker.send(Mail::Drain);
        }
        for thread in self.draining.drain(..) {
            rejoin(thread);
        }
        self.core_stop.store(true, Ordering::Release);
        if let Some(core) = self.core.take() {
            // Any message wakes it, and it looks at the flag when it runs.
            self.core_mail.send(DriverMessage::Stop);
            rejoin(core);
        }
        self.desk = None;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.finish();
    }
}

/// A bug in a thread is not swallowed.
fn rejoin(thread: JoinHandle<()>) {
    if let Err(panic) = thread.join()
        && !std::thread::panicking()
    {
        std::panic::resume_unwind(panic);
    }
}

fn start_log(
    config: &Config,
    paths: &Paths,
    disk: &Arc<dyn Disk>,
    last: ostler_replication::Zxid,
    core: &Arc<driver::Mailbox>,
    counters: Arc<CachePadded<Counters>>,
) -> Result<LogThread, StartError> {
    let settings = LogSettings {
        segment_bytes: config.segment_bytes,
        roll_bytes: config.log_bytes_roll,
        sync: config.sync_before_ack,
        sync_warning_ms: config.sync_warning_ms,
        snapshot_dir: paths.snapshots.clone(),
        ..LogSettings::new(&paths.logs)
    };
    let core = core.clone();
    let warning_nanos = config.sync_warning_ms.saturating_mul(1_000_000);
    let tell = move |event| match event {
        // Whoever holds the log's writer tells this, so these counters have one writer at a time.
        LogEvent::Synced { took, txns } => {
            let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
            counters.begin_turn();
            counters.record(Summary::SyncTime, nanos);
            counters.record(Summary::LogFlushTime, nanos);
            counters.record(Summary::BatchTxns, txns);
            counters.add(Counter::TxnsLogged, txns);
            counters.add(Counter::SlowSyncs, u64::from(nanos >= warning_nanos));
        }
        LogEvent::Answer(answer) => core.send(DriverMessage::Log(answer)),
        LogEvent::Space(space) => core.send(DriverMessage::Space(space)),
        LogEvent::Failed(failure) => {
            // Nothing later may be acknowledged, and nobody can say what is on the disk: the one honest thing is to end.
            tracing::error!("{failure}");
            eprintln!("ostler: {failure}; the server ends");
            std::process::exit(log::EXIT_DISK);
        }
    };
    LogThread::start(disk.clone(), settings, last, tell).map_err(StartError::LogStart)
}

fn snapshotter(paths: &Paths, disk: &Arc<dyn Disk>, core: &Arc<driver::Mailbox>) -> Snapshotter {
    let core = core.clone();
    let done = move |outcome: snapshot::snapshotter::Outcome| {
        match &outcome.result {
            Ok(written) => tracing::info!(
                path = %written.path.display(),
                znodes = written.nodes,
                bytes = written.file_bytes,
                "snapshot written"
            ),
            Err(error) => tracing::warn!("{error}; the log keeps what it would have held"),
        }
        core.send(DriverMessage::Snapshot(outcome.result.ok().map(|written| written.file_bytes)));
    };
    Snapshotter::new(disk.clone(), paths.snapshots.clone(), done)
}

fn compression(config: &Config) -> snapshot::Compression {
    match config.snapshot_compression {
        Compression::None => snapshot::Compression::Plain,
        Compression::Gzip => snapshot::Compression::Gzip,
        Compression::Snappy => snapshot::Compression::Snappy,
    }
}

/// Not on the caller's thread: with a hundred thousand freed pieces in the heap it takes 18 ms. What the core asks of the
/// heap meanwhile it mostly finds in its own cache.
fn give_back_memory() {
    let trim = std::thread::Builder::new().name("ostler-trim".into()).spawn(process::give_back_memory);
    if let Err(error) = trim {
        tracing::warn!(%error, "freed memory is kept");
    }
}

struct ThreadWaker(crossbeam::sync::Unparker);

impl Wake for ThreadWaker {
    fn wake(&self) {
        self.0.unpark();
    }
}

/// From the operating system, by way of the standard library's own hashing.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
