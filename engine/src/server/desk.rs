//! The desk: answers four-letter words from facts it collects at workers and core, and purges old files.
//! Not here: recognising words (worker), their bytes (admin).
//!
//! One thread of its own, because an answer waits for every worker's next turn; a purge has another, because removing
//! large files can take long.

use super::driver::{self, SharedFigures, Tidings};
use super::recovery::Paths;
use super::{StartError, threads};
use crate::admin::process::{self, ProcessFacts};
use crate::admin::words::{self, FourLetter, TRACE_MASK};
use crate::admin::{ConnectionFacts, DirectoryFacts, Mode, QuotaFacts, Registry, ServerFacts, WatchFacts};
use crate::config::Config;
use crate::core::Core;
use crate::io::clock::{Clock, SystemClock};
use crate::io::disk::Disk;
use crate::io::poll::{MioPoll, Poll};
use crate::limits;
use crate::log::LogHandle;
use crate::model::{SessionId, WallMillis};
use crate::ring::ConnRef;
use crate::snapshot;
use crate::worker::{self, Inspection, Mail};
use ostler_replication::{Moment, Solo};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

type WorkerMail = worker::Mailbox<<MioPoll as Poll>::Socket>;

/// How long an answer waits for a worker or the core that is busy.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

enum Order {
    Word { word: FourLetter, argument: i64, from: ConnRef },
    Close,
}

/// What workers hand words to.
pub struct Desk {
    orders: Sender<Order>,
    inbox: Mutex<Option<Receiver<Order>>>,
}

/// What the desk works with.
pub struct Office {
    pub config: Config,
    /// Where clients connect.
    pub address: SocketAddr,
    pub disk: Arc<dyn Disk>,
    pub paths: Paths,
    pub workers: Vec<Arc<WorkerMail>>,
    pub core: Arc<driver::Mailbox>,
    pub figures: Arc<SharedFigures>,
    pub registry: Arc<Registry>,
    pub log: LogHandle,
    pub clock: SystemClock,
}

/// The desk's threads. Closes the desk when dropped.
pub struct DeskClerk {
    orders: Sender<Order>,
    purge: Option<Sender<()>>,
    threads: Vec<JoinHandle<()>>,
}

impl Desk {
    pub fn new() -> Arc<Desk> {
        let (orders, inbox) = channel();
        Arc::new(Desk { orders, inbox: Mutex::new(Some(inbox)) })
    }

    /// Starts answering. Once.
    pub fn open(&self, office: Office) -> Result<DeskClerk, StartError> {
        let inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner).take();
        let inbox = inbox.expect("a desk is opened once");
        let mut threads = Vec::new();
        let (purge, stop) = channel();
        // Off: whoever read the configuration was told that nothing is ever removed.
        if let Some(every_ms) = office.config.purge_every_ms {
            let purger = Purger::of(&office, Duration::from_millis(every_ms));
            threads.push(threads::spawn("ostler-purge", None, move || purger.run(&stop))?);
        }
        let mut clerk = Clerk { begun: office.clock.now().mono, trace_mask: TRACE_MASK, office };
        threads.push(threads::spawn("ostler-desk", None, move || clerk.run(&inbox))?);
        Ok(DeskClerk { orders: self.orders.clone(), purge: Some(purge), threads })
    }
}

impl worker::Desk for Desk {
    fn ask(&self, word: FourLetter, argument: i64, from: ConnRef) {
        // Fails only when the server has stopped, and the connection with it.
        let _ = self.orders.send(Order::Word { word, argument, from });
    }
}

impl Drop for DeskClerk {
    fn drop(&mut self) {
        self.purge = None;
        let _ = self.orders.send(Order::Close);
        for thread in self.threads.drain(..) {
            // Its panic was printed; nothing else depends on it.
            let _ = thread.join();
        }
    }
}

struct Purger {
    disk: Arc<dyn Disk>,
    paths: Paths,
    keep: usize,
    every: Duration,
    log: LogHandle,
}

impl Purger {
    fn of(office: &Office, every: Duration) -> Purger {
        Purger {
            disk: office.disk.clone(),
            paths: office.paths.clone(),
            keep: office.config.purge_keep as usize,
            every,
            log: office.log.clone(),
        }
    }

    /// Until `stop` is closed.
    fn run(&self, stop: &Receiver<()>) {
        loop {
            match snapshot::purge(&*self.disk, &self.paths.logs, &self.paths.snapshots, self.keep) {
                Ok(removed) if removed.is_empty() => {}
                Ok(removed) => {
                    tracing::info!(files = removed.len(), "purged old snapshots and logs");
                    self.log.retry_space();
                }
                Err(error) => tracing::warn!(%error, "the purge did not finish"),
            }
            match stop.recv_timeout(self.every) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}

struct Clerk {
    office: Office,
    begun: Moment,
    trace_mask: i64,
}

impl Clerk {
    fn run(&mut self, inbox: &Receiver<Order>) {
        while let Ok(Order::Word { word, argument, from }) = inbox.recv() {
            let text = self.answer(word, argument).into_bytes();
            if let Some(worker) = self.office.workers.get(usize::from(from.worker)) {
                worker.send(Mail::Text { to: from, text });
            }
        }
    }

    fn answer(&mut self, word: FourLetter, argument: i64) -> String {
        let totals = self.office.registry.totals();
        match word {
            FourLetter::Ruok => words::ruok(),
            FourLetter::Isro => words::isro(false),
            FourLetter::Gtmk => words::trace_mask(self.trace_mask),
            FourLetter::Stmk => {
                self.trace_mask = argument;
                words::trace_mask(self.trace_mask)
            }
            FourLetter::Srst => {
                self.office.registry.reset();
                words::srst()
            }
            FourLetter::Crst => {
                self.workers(|inspection| inspection.reset_connections());
                words::crst()
            }
            FourLetter::Conf => {
                words::conf(&self.office.config, self.office.address.port(), self.directories())
            }
            FourLetter::Dirs => words::dirs(self.directories()),
            FourLetter::Envi => words::envi(&ProcessFacts::read()),
            FourLetter::Srvr => words::srvr(&self.server(), &totals),
            FourLetter::Stat => words::stat(&self.server(), &totals, &self.connections()),
            FourLetter::Cons => words::cons(&self.connections()),
            FourLetter::Mntr => words::mntr(&self.server(), &totals, &ProcessFacts::read()),
            FourLetter::Wchs => words::wchs(&self.watches()),
            FourLetter::Wchc => words::wchc(&self.watches()),
            FourLetter::Wchp => words::wchp(&self.watches()),
            FourLetter::Hash => words::hash(&self.core(Core::digests).unwrap_or_default()),
            FourLetter::Dump => self.dump(),
        }
    }

    /// Asks every worker and waits for all answers.
    fn workers<T: Send + 'static>(
        &self,
        question: impl Fn(&mut Inspection<'_>) -> T + Clone + Send + 'static,
    ) -> Vec<T> {
        let workers = &self.office.workers;
        let (answers, inbox) = sync_channel(workers.len());
        for worker in workers {
            let (answers, question) = (answers.clone(), question.clone());
            worker.send(Mail::Ask(Box::new(move |inspection| {
                // Nobody waits any more if this fails.
                let _ = answers.send(question(inspection));
            })));
        }
        drop(answers);
        std::iter::from_fn(|| inbox.recv_timeout(ANSWER_WITHIN).ok()).collect()
    }

    fn core<T: Send + 'static>(&self, question: impl FnOnce(&Core<Solo>) -> T + Send + 'static) -> Option<T> {
        let (answers, inbox) = sync_channel(1);
        self.office.core.send(Tidings::Ask(Box::new(move |core| {
            let _ = answers.send(question(core));
        })));
        inbox.recv_timeout(ANSWER_WITHIN).ok()
    }

    fn server(&self) -> ServerFacts {
        let figures = self.office.figures.load();
        let counts =
            self.workers(|worker| (worker.open_connections(), watch_count(worker), worker.outstanding));
        ServerFacts {
            mode: Mode::Standalone,
            zxid: figures.last_committed,
            // Apache counts the root under both of its names.
            znodes: figures.znodes + 1,
            ephemerals: figures.ephemerals,
            data_bytes: figures.data_bytes,
            sessions: figures.sessions as u64,
            local_sessions: 0,
            watches: counts.iter().map(|(_, watches, _)| *watches as u64).sum(),
            connections: counts.iter().map(|(connections, _, _)| *connections as u64).sum(),
            outstanding: counts.iter().map(|(_, _, outstanding)| *outstanding as u64).sum(),
            uptime_ms: self.office.clock.now().mono.since(self.begun) / 1_000_000,
            drop_probability: 0.0,
            quotas: self.quotas(),
        }
    }

    /// By first component, as Apache's metrics have it: several quotas below one add up.
    fn quotas(&self) -> Vec<QuotaFacts> {
        let mut namespaces: BTreeMap<String, QuotaFacts> = BTreeMap::new();
        for (path, limits, usage) in self.core(Core::quotas).unwrap_or_default() {
            let namespace = path.split('/').nth(1).unwrap_or_default();
            let facts = namespaces.entry(namespace.to_owned()).or_insert_with(|| QuotaFacts::of(namespace));
            facts.add_limits(
                limits.count_hard.unwrap_or(limits.count),
                limits.bytes_hard.unwrap_or(limits.bytes),
            );
            facts.add_usage(usage.count, usage.bytes);
        }
        namespaces.into_values().collect()
    }

    fn connections(&self) -> Vec<ConnectionFacts> {
        self.workers(|worker| worker.connections()).into_iter().flatten().collect()
    }

    fn watches(&self) -> Vec<WatchFacts> {
        self.workers(|worker| worker.watches()).into_iter().flatten().collect()
    }

    fn directories(&self) -> DirectoryFacts {
        let Paths { snapshots, logs } = &self.office.paths;
        DirectoryFacts {
            data_bytes: process::directory_bytes(snapshots),
            log_bytes: process::directory_bytes(logs),
        }
    }

    fn dump(&self) -> String {
        let Some(dump) = self.core(Core::dump) else { return String::new() };
        let now = self.office.clock.now().wall;
        let mut text = words::dump_sessions(&dump.expiries, &dump.ephemerals);
        // Connections are closed for silence after their session's timeout; by then the session is what counts.
        let connections: Vec<(SocketAddr, SessionId)> = self
            .connections()
            .into_iter()
            .map(|connection| {
                (connection.peer, connection.session.map_or(SessionId::NONE, |session| session.id))
            })
            .collect();
        let until = WallMillis(now.0 + limits::SESSIONLESS_MS_MAX_DEFAULT as i64);
        text.push_str(&words::dump_connections(&[(until, connections)]));
        text
    }
}

/// Data and child watches alike.
fn watch_count(worker: &Inspection<'_>) -> usize {
    let counts = worker.watch_counts();
    counts.data + counts.child
}
