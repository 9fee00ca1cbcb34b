//! The threads that turn core and workers: how many, where, when they sleep, when they end.
//! Not here: what a turn does.

use super::StartError;
use super::driver::{Driver, PATIENCE, Production};
use crate::config::Config;
use crate::intake::Bell;
use crate::io::poll::MioPoll;
use crate::limits::LONE_CALLER_MS;
use crate::worker::Worker;
use crossbeam::sync::Parker;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How many threads, by the CPUs this process may use.
pub struct Plan {
    pub workers: usize,
    /// One thread drives the core and the only worker.
    pub joint: bool,
    pin: bool,
    cpus: usize,
}

impl Plan {
    pub fn of(config: &Config, cpus: usize) -> Plan {
        // A member of an ensemble sleeps at the sockets of the other servers, a worker at those of clients.
        let joint = cpus == 1 && config.workers <= 1 && config.ensemble.is_none();
        let workers = match config.workers {
            // A quarter is left to the core, the log, and the kernel's work for them.
            0 => (cpus - cpus / 4).saturating_sub(usize::from(cpus < 4)).max(1),
            workers => workers,
        };
        Plan { workers, joint, pin: config.pin_threads, cpus }
    }

    /// The CPU of the thread that is started as this one; the core comes first.
    pub fn cpu(&self, thread: usize) -> Option<usize> {
        self.pin.then_some(thread % self.cpus)
    }
}

pub fn spawn(
    name: &str,
    cpu: Option<usize>,
    run: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, StartError> {
    let run = move || {
        if let Some(cpu) = cpu {
            crate::io::process::pin(cpu);
        }
        run();
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(run).map_err(StartError::Threads)
}

/// The core on a thread of its own.
pub struct CoreThread {
    pub driver: Driver<Production>,
    pub bell: Arc<Bell>,
    pub parker: Parker,
    pub stop: Arc<AtomicBool>,
    pub patience_ms: u64,
}

impl CoreThread {
    pub fn run(mut self) {
        let mut deadline = None;
        loop {
            self.driver.turn();
            if self.stop.load(Ordering::Acquire) {
                let patience = Duration::from_millis(self.patience_ms);
                let deadline = *deadline.get_or_insert_with(|| Instant::now() + patience);
                if self.driver.is_quiet() || Instant::now() >= deadline {
                    break;
                }
            }
            if self.driver.has_work() {
                self.driver.wait_for_peers(Duration::ZERO);
                continue;
            }
            self.bell.arm();
            let patience = self.driver.patience();
            if !self.driver.wait_for_peers(patience) && !patience.is_zero() {
                self.parker.park_timeout(patience);
            }
            self.bell.disarm();
        }
        self.driver.close();
    }
}

/// One worker.
pub struct WorkerThread {
    pub worker: Worker<MioPoll>,
    pub drain: Arc<AtomicBool>,
    pub patience_ms: u64,
}

impl WorkerThread {
    pub fn run(mut self) {
        let mut deadline = None;
        while !is_done(&self.worker, &self.drain, self.patience_ms, &mut deadline) {
            wait(&mut self.worker, PATIENCE);
            self.worker.turn();
        }
    }
}

/// The core and the only worker on one thread.
pub struct JointThread {
    pub driver: Driver<Production>,
    pub worker: Worker<MioPoll>,
    pub bell: Arc<Bell>,
    pub drain: Arc<AtomicBool>,
    pub patience_ms: u64,
}

impl JointThread {
    pub fn run(mut self) {
        let mut deadline = None;
        loop {
            let serves_one = self.worker.serves_one_for(LONE_CALLER_MS * 1_000_000);
            self.driver.share_thread(!serves_one);
            self.driver.turn();
            if is_done(&self.worker, &self.drain, self.patience_ms, &mut deadline)
                && (self.driver.is_quiet() || deadline.is_some_and(|deadline| Instant::now() >= deadline))
            {
                break;
            }
            self.bell.arm();
            wait(&mut self.worker, self.driver.patience());
            self.bell.disarm();
            self.worker.turn();
        }
        self.driver.close();
    }
}

fn wait(worker: &mut Worker<MioPoll>, patience: Duration) {
    if let Err(error) = worker.wait(patience)
        && error.kind() != std::io::ErrorKind::Interrupted
    {
        // Sockets can no longer be waited for: no client could be served, and none told.
        panic!("waiting for sockets failed: {error}");
    }
}

/// Whether a worker that was told to drain has nothing left to hand out, or has taken too long.
fn is_done(
    worker: &Worker<MioPoll>,
    drain: &AtomicBool,
    patience_ms: u64,
    deadline: &mut Option<Instant>,
) -> bool {
    if !drain.load(Ordering::Acquire) {
        return false;
    }
    let deadline = *deadline.get_or_insert_with(|| Instant::now() + Duration::from_millis(patience_ms));
    worker.is_drained() || Instant::now() >= deadline
}
