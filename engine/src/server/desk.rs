//! The desk: answers four-letter words from facts it collects at workers and core, and purges old files.
//! Not here: recognising words (worker), their bytes (admin).
//!
//! One thread of its own, because an answer waits for every worker's next turn; a purge has another, because removing
//! large files can take long.

use super::driver::{self, DriverMessage, SharedFigures};
use super::recovery::Paths;
use super::{StartError, threads};
use crate::admin::process::{self, ProcessFacts};
use crate::admin::words::{self, FourLetter, TRACE_MASK};
use crate::admin::{
    ConnectionFacts, DirectoryFacts, EnsembleFacts, Mode, QuotaFacts, Registry, ServerFacts, StateFacts,
    WatchFacts,
};
use crate::config::Config;
use crate::core::Core;
use crate::io::clock::{Clock, SystemClock};
use crate::io::disk::Disk;
use crate::io::poll::{MioPoll, Poll};
use crate::limits;
use crate::log::LogHandle;
use crate::model::quota::QuotaText;
use crate::model::{SessionId, WallMillis};
use crate::ring::ConnRef;
use crate::snapshot;
use crate::worker::watch::Place;
use crate::worker::{self, Inspection, Mail};
use ostler_replication::{Moment, Role};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

type WorkerMail = worker::Mailbox<<MioPoll as Poll>::Socket>;

/// How long an answer waits for a worker or the core that is busy.
const ANSWER_WITHIN: Duration = Duration::from_millis(limits::FACTS_MS_MAX);

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
    pub shared: Arc<worker::Shared>,
    /// Purges that the core asks for; closed when it has ended.
    pub purges: Receiver<()>,
}

/// The desk's threads. Closes the desk when dropped; the core, which can ask for purges, has ended by then.
pub struct DeskClerk {
    orders: Sender<Order>,
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
        // Off: whoever read the configuration was told that nothing is ever removed.
        let every = office.config.purge_every_ms.map(Duration::from_millis);
        let purger = Purger {
            disk: office.disk.clone(),
            paths: office.paths.clone(),
            keep: office.config.purge_keep as usize,
            every,
            log: office.log,
        };
        let purges = office.purges;
        threads.push(threads::spawn("ostler-purge", None, move || purger.run(&purges))?);
        let mut clerk = Clerk {
            begun: office.clock.now().mono,
            trace_mask: TRACE_MASK,
            config: office.config,
            address: office.address,
            paths: office.paths,
            workers: office.workers,
            core: office.core,
            figures: office.figures,
            registry: office.registry,
            clock: office.clock,
            shared: office.shared,
            disk: office.disk,
            quota_refusals_before: BTreeMap::new(),
        };
        threads.push(threads::spawn("ostler-desk", None, move || clerk.run(&inbox))?);
        Ok(DeskClerk { orders: self.orders.clone(), threads })
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
    /// `None`: only when the disk is full.
    every: Option<Duration>,
    log: LogHandle,
}

impl Purger {
    /// At the start, every so often, and when asked; until `asked` is closed.
    fn run(&self, asked: &Receiver<()>) {
        if self.every.is_some() {
            self.purge(false);
        }
        loop {
            let next = match self.every {
                Some(every) => asked.recv_timeout(every),
                None => asked.recv().map_err(RecvTimeoutError::from),
            };
            match next {
                Err(RecvTimeoutError::Timeout) => self.purge(false),
                // The disk is full. Our newest snapshot is exact, checked and synced: it alone recovers everything, and
                // the logs that older ones would need are what fills the disk.
                Ok(()) => self.purge(true),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn purge(&self, full: bool) {
        let Paths { logs, snapshots, .. } = &self.paths;
        let removed = match full {
            true => snapshot::make_room(&*self.disk, logs, snapshots),
            false => snapshot::purge(&*self.disk, logs, snapshots, self.keep),
        };
        match removed {
            Ok(removed) if removed.is_empty() => {}
            Ok(removed) => {
                let names: Vec<_> = removed.iter().filter_map(|path| path.file_name()).collect();
                tracing::info!(files = removed.len(), full, "purged old snapshots and logs");
                tracing::debug!(?names, "these were purged");
                self.log.retry_space();
            }
            Err(error) => tracing::warn!(%error, "the purge did not finish"),
        }
    }
}

struct Clerk {
    begun: Moment,
    trace_mask: i64,
    config: Config,
    address: SocketAddr,
    paths: Paths,
    workers: Vec<Arc<WorkerMail>>,
    core: Arc<driver::Mailbox>,
    figures: Arc<SharedFigures>,
    registry: Arc<Registry>,
    clock: SystemClock,
    shared: Arc<worker::Shared>,
    disk: Arc<dyn Disk>,
    /// As they stood at the last `srst`.
    quota_refusals_before: BTreeMap<String, u64>,
}

impl Clerk {
    fn run(&mut self, inbox: &Receiver<Order>) {
        while let Ok(Order::Word { word, argument, from }) = inbox.recv() {
            let text = self.answer(word, argument).into_bytes();
            if let Some(worker) = self.workers.get(usize::from(from.worker)) {
                worker.send(Mail::Text { to: from, text });
            }
        }
    }

    fn answer(&mut self, word: FourLetter, argument: i64) -> String {
        let totals = self.registry.totals();
        // Answered without the core, which may be what stands still.
        match word {
            FourLetter::Ruok => return words::ruok(&self.state()),
            FourLetter::Redy => return words::redy(&self.state()),
            _ => {}
        }
        let is_serving = self.config.ensemble.is_none() || self.ask_core(Core::role) != Some(Role::Looking);
        if !is_serving && let Some(answer) = word.when_not_serving() {
            return answer.to_owned();
        }
        match word {
            FourLetter::Ruok | FourLetter::Redy => unreachable!("answered above"),
            FourLetter::Isro => words::isro(self.state().refuses_writes),
            FourLetter::Gtmk => words::trace_mask(self.trace_mask),
            FourLetter::Stmk => {
                self.trace_mask = argument;
                words::trace_mask(self.trace_mask)
            }
            FourLetter::Srst => {
                self.registry.reset();
                let refusals = self.ask_core(Core::quota_refusals).unwrap_or_default();
                self.quota_refusals_before = refusals.into_iter().collect();
                words::srst()
            }
            FourLetter::Crst => {
                self.ask_workers(|inspection| inspection.reset_connections());
                words::crst()
            }
            FourLetter::Conf => {
                let members = self.ask_core(|core| core.status().members).unwrap_or_default();
                words::conf(&self.config, self.address.port(), self.directories(), &members)
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
            FourLetter::Hash => words::hash(&self.ask_core(Core::digests).unwrap_or_default()),
            FourLetter::Dump => self.dump(),
        }
    }

    /// Asks every worker and waits for all answers.
    fn ask_workers<T: Send + 'static>(
        &self,
        question: impl Fn(&mut Inspection<'_>) -> T + Clone + Send + 'static,
    ) -> Vec<T> {
        let workers = &self.workers;
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

    fn ask_core<T: Send + 'static>(&self, question: impl FnOnce(&Core) -> T + Send + 'static) -> Option<T> {
        let (answers, inbox) = sync_channel(1);
        self.core.send(DriverMessage::Ask(Box::new(move |core| {
            let _ = answers.send(question(core));
        })));
        inbox.recv_timeout(ANSWER_WITHIN).ok()
    }

    /// What the server can do at the moment.
    fn state(&self) -> StateFacts {
        let mut state = self.figures.state(self.clock.now().mono);
        // Asked only of a core that answers.
        let answers = state.silent_ms <= limits::READY_SILENT_MS_MAX;
        state.is_looking = self.config.ensemble.is_some()
            && answers
            && self.ask_core(Core::role).is_some_and(|role| !self.shared.serves(role));
        state.tree_bytes_max = self.config.tree_bytes_max as u64;
        state.disk_free_bytes = self.disk.free_bytes(&self.paths.logs).unwrap_or(0);
        state
    }

    /// Since the last `srst`.
    fn quota_refusals(&self, counts: Vec<(String, u64)>) -> Vec<(String, u64)> {
        let before = |namespace: &str| self.quota_refusals_before.get(namespace).copied().unwrap_or(0);
        let since = counts.into_iter().map(|(namespace, count)| {
            let count = count - before(&namespace);
            (namespace, count)
        });
        since.filter(|(_, count)| *count > 0).collect()
    }

    fn server(&self) -> ServerFacts {
        // From the core itself: whoever heard of a write and asks then is to find it counted.
        let asked = self.ask_core(|core| {
            let ensemble = EnsembleFacts::of(&core.status(), core.pending_syncs() as u64, core.role_age_ms());
            ((core.figures(), core.role(), ensemble), (core.quotas(), core.quota_refusals()))
        });
        let ((figures, role, ensemble), (quotas, refusals)) =
            asked.unwrap_or_else(|| ((self.figures.load(), Role::Standalone, None), Default::default()));
        let counts =
            self.ask_workers(|worker| (worker.open_connections(), watch_count(worker), worker.outstanding));
        ServerFacts {
            mode: Mode::of(role).unwrap_or(Mode::Standalone),
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
            uptime_ms: self.clock.now().mono.since(self.begun) / 1_000_000,
            drop_probability: self.drop_probability(),
            ensemble,
            quotas: by_namespace(quotas),
            quota_refusals: self.quota_refusals(refusals),
            state: self.state(),
        }
    }

    fn drop_probability(&self) -> f64 {
        let throttle = self.shared.session_throttle.as_ref();
        throttle.map_or(0.0, |throttle| {
            throttle.lock().unwrap_or_else(PoisonError::into_inner).drop_probability()
        })
    }

    fn connections(&self) -> Vec<ConnectionFacts> {
        self.ask_workers(|worker| worker.connections()).into_iter().flatten().collect()
    }

    /// By session, asked for in portions.
    fn watches(&self) -> Vec<WatchFacts> {
        let mut by_session: BTreeMap<SessionId, Vec<String>> = BTreeMap::new();
        for worker in &self.workers {
            let mut place = Some(Place::default());
            while let Some(from) = place {
                let answer = ask_worker(worker, move |worker| worker.watches(from));
                let Some((portion, next)) = answer else { break };
                for facts in portion {
                    by_session.entry(facts.session).or_default().extend(facts.paths);
                }
                place = next;
            }
        }
        by_session.into_iter().map(|(session, paths)| WatchFacts { session, paths }).collect()
    }

    fn directories(&self) -> DirectoryFacts {
        let Paths { snapshots, logs } = &self.paths;
        DirectoryFacts {
            data_bytes: process::directory_bytes(snapshots),
            log_bytes: process::directory_bytes(logs),
        }
    }

    fn dump(&self) -> String {
        let Some(dump) = self.ask_core(Core::dump) else { return String::new() };
        let now = self.clock.now().wall;
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

/// By first component, as Apache's metrics have it: several quotas below one add up.
fn by_namespace(quotas: Vec<(String, QuotaText, QuotaText)>) -> Vec<QuotaFacts> {
    let mut namespaces: BTreeMap<String, QuotaFacts> = BTreeMap::new();
    for (path, limits, usage) in quotas {
        let namespace = path.split('/').nth(1).unwrap_or_default();
        let facts = namespaces.entry(namespace.to_owned()).or_insert_with(|| QuotaFacts::of(namespace));
        let the_harder = |hard: i64, soft: i64| if hard > -1 { hard } else { soft };
        let count = the_harder(limits.count_hard, limits.count);
        facts.add_limits(count, the_harder(limits.bytes_hard, limits.bytes));
        facts.add_usage(usage.count, usage.bytes);
    }
    namespaces.into_values().collect()
}

/// Data and child watches alike.
fn ask_worker<T: Send + 'static>(
    worker: &WorkerMail,
    question: impl FnOnce(&mut Inspection<'_>) -> T + Send + 'static,
) -> Option<T> {
    let (answers, inbox) = sync_channel(1);
    worker.send(Mail::Ask(Box::new(move |inspection| {
        // Nobody waits any more if this fails.
        let _ = answers.send(question(inspection));
    })));
    inbox.recv_timeout(ANSWER_WITHIN).ok()
}

fn watch_count(worker: &Inspection<'_>) -> usize {
    let counts = worker.watch_counts();
    counts.data + counts.child
}
