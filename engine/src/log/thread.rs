//! The log's threads: `ostler-log` drives the writer, `ostler-segments` makes spares ahead of need. Commands come in
//! through one bounded queue, what happened goes out through a function of the caller's.
//! Not here: what is written and how (`writer`), what is committed.
//!
//! Who runs at once: the core (and purge) push commands under the queue's mutex; the log thread takes all there are, in
//! order, and works without the mutex. Group commit needs no timer: what was queued while the last sync ran is the next
//! group. The pusher wakes the thread only when it sleeps, so a busy log costs no system call.

use super::segments::{LogSpace, Spares};
use super::writer::{AppendError, LogFailure, LogSettings, LogWriter, open_dir};
use crate::io::disk::Disk;
use crate::limits::{BATCH_BYTES_MAX, LOG_QUEUE_PROPOSALS_MAX, SIDE_MARK_IDLE_MS};
use ostler_replication::{Proposal, Zxid};
use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What the log tells its owner, from its own threads. The function must be quick and must not call the log.
#[derive(Debug)]
pub enum LogEvent {
    /// Everything up to this zxid is on stable storage; always the last zxid of a proposal.
    Durable(Zxid),
    /// One group was stored and synced: how long that took, and its txns.
    Synced { took: Duration, txns: u64 },
    /// How much room there is; told on each change, first before the first append.
    Space(LogSpace),
    /// The process must print this and exit with [`super::EXIT_DISK`] at once. The thread has ended.
    Failed(LogFailure),
}

/// Figures since the start. Read at any time, from any thread.
#[derive(Default, Debug)]
pub struct LogCounters {
    /// Groups synced.
    pub syncs: AtomicU64,
    /// From the first byte stored to the sync's return, summed and largest, nanoseconds.
    pub sync_nanos: AtomicU64,
    pub sync_nanos_most: AtomicU64,
    /// Bytes of records.
    pub bytes: AtomicU64,
    pub records: AtomicU64,
    /// Log files begun.
    pub segments: AtomicU64,
}

enum Command {
    Append(Proposal),
    Roll,
    /// Write the side mark, cut the segment, end.
    Stop,
}

struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
    spares: Arc<Spares>,
    counters: LogCounters,
}

#[derive(Default)]
struct Queue {
    commands: VecDeque<Command>,
    proposals: usize,
    asleep: bool,
    closed: bool,
}

/// The running log. Dropping it stops it as [`LogThread::stop`] does.
pub struct LogThread {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// What others than the core may do with the running log.
#[derive(Clone)]
pub struct LogHandle(Arc<Shared>);

impl LogThread {
    /// Starts both threads. `last` is the last zxid recovered; the first proposal opens a new file.
    pub fn start(
        disk: Arc<dyn Disk>,
        settings: LogSettings,
        last: Zxid,
        tell: impl Fn(LogEvent) + Send + Sync + 'static,
    ) -> Result<LogThread, LogFailure> {
        super::mapping::stop_on_bus_error();
        open_dir(&*disk, &settings.dir)?;
        let tell: Arc<dyn Fn(LogEvent) + Send + Sync> = Arc::new(tell);
        let tell_space = tell.clone();
        let failed = |source| LogFailure { doing: "starting on", path: settings.dir.clone(), source };
        let spares = Spares::open(
            disk.clone(),
            &settings,
            true,
            Box::new(move |level| tell_space(LogEvent::Space(level))),
        )
        .map_err(failed)?;
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            changed: Condvar::new(),
            spares: spares.clone(),
            counters: LogCounters::default(),
        });
        let mut log = LogThread { shared: shared.clone(), threads: Vec::new() };
        let warning = Duration::from_millis(settings.sync_warning_ms);
        let pool = spares.clone();
        let failed = |source| LogFailure { doing: "starting on", path: settings.dir.clone(), source };
        log.threads.push(spawn("ostler-segments", move || pool.run()).map_err(failed)?);
        let failed = |source| LogFailure { doing: "starting on", path: settings.dir.clone(), source };
        let writer = LogWriter::new(disk, settings.clone(), spares, last);
        let mut driver = Driver { shared, writer, tell, warning, group: Vec::new() };
        log.threads.push(spawn("ostler-log", move || driver.run()).map_err(failed)?);
        Ok(log)
    }

    /// Queues proposals from the front, so that one sync can cover them; `Durable` will tell. Some are left when
    /// `LOG_QUEUE_PROPOSALS_MAX` are waiting, or the log failed.
    pub fn append(&self, proposals: &mut VecDeque<Proposal>) {
        let mut queue = self.shared.lock();
        while !queue.closed
            && queue.proposals < LOG_QUEUE_PROPOSALS_MAX
            && let Some(proposal) = proposals.pop_front()
        {
            queue.proposals += 1;
            queue.commands.push_back(Command::Append(proposal));
        }
        self.shared.wake(queue);
    }

    /// What is appended from here on goes to a new file. For snapshots: their log begins with its own file.
    pub fn roll(&self) {
        self.shared.push(self.shared.lock(), Command::Roll);
    }

    pub fn handle(&self) -> LogHandle {
        LogHandle(self.shared.clone())
    }

    pub fn counters(&self) -> &LogCounters {
        &self.shared.counters
    }

    /// Syncs what was queued, writes the side mark, ends both threads. What a full disk kept from being logged is dropped:
    /// it was never reported durable.
    pub fn stop(mut self) {
        self.finish();
    }

    fn finish(&mut self) {
        if self.threads.is_empty() {
            return;
        }
        self.shared.push(self.shared.lock(), Command::Stop);
        self.shared.spares.retry();
        if let Some(writer) = self.threads.pop()
            && let Err(panic) = writer.join()
            && !std::thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
        self.shared.spares.close();
        for thread in self.threads.drain(..) {
            // The pool's thread has nothing to report; its panic was printed.
            let _ = thread.join();
        }
    }
}

impl Drop for LogThread {
    fn drop(&mut self) {
        self.finish();
    }
}

impl LogHandle {
    /// Removes a log file that no recovery needs any more; it may become a spare segment.
    pub fn retire(&self, path: &Path, bytes: u64) -> io::Result<()> {
        self.0.spares.retire(path, bytes)
    }

    /// Space may have come back on the log's disk: ask again now.
    pub fn retry_space(&self) {
        self.0.spares.retry();
    }

    pub fn counters(&self) -> &LogCounters {
        &self.0.counters
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, mut queue: MutexGuard<'_, Queue>, command: Command) {
        queue.commands.push_back(command);
        self.wake(queue);
    }

    fn wake(&self, mut queue: MutexGuard<'_, Queue>) {
        if queue.commands.is_empty() {
            return;
        }
        let asleep = std::mem::take(&mut queue.asleep);
        drop(queue);
        if asleep {
            self.changed.notify_one();
        }
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.into()).spawn(run)
}

struct Driver {
    shared: Arc<Shared>,
    writer: LogWriter,
    tell: Arc<dyn Fn(LogEvent) + Send + Sync>,
    warning: Duration,
    group: Vec<Proposal>,
}

impl Driver {
    fn run(&mut self) {
        // A bug must not leave the server waiting for a log that is gone.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.drive()));
        self.shared.lock().closed = true;
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => (self.tell)(LogEvent::Failed(failure)),
            Err(panic) => {
                let source = io::Error::other("the log's thread panicked");
                let failure = LogFailure { doing: "writing", path: self.writer.dir().to_path_buf(), source };
                (self.tell)(LogEvent::Failed(failure));
                std::panic::resume_unwind(panic);
            }
        }
    }

    fn drive(&mut self) -> Result<(), LogFailure> {
        loop {
            let after = self.next_group()?;
            if !self.group.is_empty() && !self.log_group()? {
                return Ok(());
            }
            match after {
                Some(Command::Roll) => {
                    self.writer.write_mark()?;
                    self.writer.roll()?;
                }
                Some(Command::Stop) => return self.writer.close(),
                Some(Command::Append(_)) | None => {}
            }
        }
    }

    /// Takes proposals up to a bound in bytes, or up to a command that has to stand between two groups.
    fn next_group(&mut self) -> Result<Option<Command>, LogFailure> {
        let shared = self.shared.clone();
        let mut queue = shared.lock();
        while queue.commands.is_empty() {
            queue.asleep = true;
            if !self.writer.mark_is_stale() {
                queue = shared.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let idle = Duration::from_millis(SIDE_MARK_IDLE_MS);
            let (guard, waited) =
                shared.changed.wait_timeout(queue, idle).unwrap_or_else(PoisonError::into_inner);
            queue = guard;
            if waited.timed_out() && queue.commands.is_empty() {
                queue.asleep = false;
                drop(queue);
                self.writer.write_mark()?;
                queue = shared.lock();
            }
        }
        queue.asleep = false;
        let mut bytes = 0;
        while let Some(command) = queue.commands.pop_front() {
            match command {
                Command::Append(proposal) => {
                    queue.proposals -= 1;
                    bytes += proposal.records.len();
                    self.group.push(proposal);
                    if bytes >= BATCH_BYTES_MAX as usize {
                        break;
                    }
                }
                other => return Ok(Some(other)),
            }
        }
        Ok(None)
    }

    /// Logs the group and reports it durable; on a full disk as soon as there is space. False when the log was stopped
    /// meanwhile.
    fn log_group(&mut self) -> Result<bool, LogFailure> {
        let begun = Instant::now();
        let mut told = self.writer.last();
        loop {
            let outcome = self.writer.append(self.group.iter());
            let logged = self.writer.last();
            // Of a group that stopped half-way, the proposals that are whole.
            if let Some(whole) = self.group.iter().rev().find(|proposal| proposal.last <= logged)
                && whole.last > told
            {
                told = whole.last;
                (self.tell)(LogEvent::Durable(whole.last));
            }
            match outcome {
                Ok(()) => break,
                Err(AppendError::Failed(failure)) => return Err(failure),
                Err(AppendError::Closed) => return Ok(false),
                Err(AppendError::NoSpace) => {
                    self.group.retain(|proposal| proposal.last > logged);
                    if self.stopping() {
                        self.writer.close()?;
                        return Ok(false);
                    }
                    self.shared.spares.wait_for_space();
                }
            }
        }
        self.group.clear();
        self.count(begun.elapsed());
        Ok(true)
    }

    fn stopping(&self) -> bool {
        self.shared.lock().commands.iter().any(|command| matches!(command, Command::Stop))
    }

    fn count(&self, took: Duration) {
        let counters = &self.shared.counters;
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let written = self.writer.written();
        let txns = written.records.saturating_sub(counters.records.load(Ordering::Relaxed));
        (self.tell)(LogEvent::Synced { took, txns });
        // One writer, this thread: plain stores are enough.
        counters.syncs.store(written.syncs, Ordering::Relaxed);
        counters.bytes.store(written.bytes, Ordering::Relaxed);
        counters.records.store(written.records, Ordering::Relaxed);
        counters.segments.store(written.segments, Ordering::Relaxed);
        counters.sync_nanos.fetch_add(nanos, Ordering::Relaxed);
        counters.sync_nanos_most.fetch_max(nanos, Ordering::Relaxed);
        if took >= self.warning {
            tracing::warn!(
                "syncing the log took {} ms; writes waited as long. The disk is slow, or shared with something that is not",
                took.as_millis()
            );
        }
    }
}
