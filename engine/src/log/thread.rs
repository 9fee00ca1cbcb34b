//! The log's threads: `ostler-log` carries commands out, `ostler-segments` makes spares ahead of need. Commands come in
//! through one bounded queue, what happened goes out through a function of the caller's.
//! Not here: what a command does (`turn`), what is written and how (`writer`), what is committed.
//!
//! Who runs at once: the core (and purge) push commands under the queue's mutex; the log thread takes all there are, in
//! order, and works without the mutex. Group commit needs no timer: what was queued while the last sync ran is the next
//! group. The pusher wakes the thread only when it sleeps, so a busy log costs no system call.
//!
//! The writer has a mutex of its own. The log thread holds it while it writes; while it sleeps with nothing queued the
//! core may write a group itself ([`LogThread::append_here`]): two hand-offs less for a client that waits alone. That the
//! thread sleeps is asked and the writer taken under the queue's mutex, so whoever writes has everything that was queued
//! before behind him, and nothing can be queued meanwhile: the core queues, and it is the core that writes.

use super::segments::{LogSpace, Spares};
use super::turn::{Executed, LogAnswer, LogCommand, LogCommands, LogExecutor, LogWork};
use super::writer::{LogFailure, LogSettings, LogWriter, open_dir};
use crate::admin::LineRate;
use crate::io::disk::Disk;
use crate::limits::{
    LOG_HERE_AGAIN_MS, LOG_HERE_BYTES_MAX, LOG_HERE_MEMORY, LOG_HERE_MICROS_MAX, LOG_HERE_MICROS_USUAL,
    LOG_QUEUE_PROPOSALS_MAX, SIDE_MARK_IDLE_MS,
};
use ostler_replication::{Moment, Proposal, Zxid};
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What the log tells its owner, from its own threads or from inside [`LogThread::append_here`]. The function must be quick
/// and must not call the log.
#[derive(Debug)]
pub enum LogEvent {
    Answer(LogAnswer),
    /// One group was stored and synced: how long that took, and its txns.
    Synced {
        took: Duration,
        txns: u64,
    },
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

struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
    spares: Arc<Spares>,
    counters: LogCounters,
}

struct Queue {
    commands: LogCommands,
    /// The log thread waits: it holds no command, and not the writer.
    asleep: bool,
    /// The side mark lags behind the log.
    mark_is_stale: bool,
    /// A group was written by the core since the log thread went to sleep.
    written_here: bool,
    /// Nothing is taken any more: the log has ended, or failed.
    closed: bool,
}

/// The running log. Dropping it stops it as [`LogThread::stop`] does.
pub struct LogThread {
    shared: Arc<Shared>,
    writing: Arc<Mutex<Writing>>,
    tell: Arc<dyn Fn(LogEvent) + Send + Sync>,
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
        let queue = Queue {
            commands: LogCommands::new(LOG_QUEUE_PROPOSALS_MAX),
            asleep: false,
            mark_is_stale: false,
            written_here: false,
            closed: false,
        };
        let shared = Arc::new(Shared {
            queue: Mutex::new(queue),
            changed: Condvar::new(),
            spares: spares.clone(),
            counters: LogCounters::default(),
        });
        let warning = Duration::from_millis(settings.sync_warning_ms);
        let executor = LogExecutor::new(LogWriter::new(disk, settings.clone(), spares.clone(), last));
        let (here, waits) = Default::default();
        let writing = Arc::new(Mutex::new(Writing {
            executor,
            tell: tell.clone(),
            warning,
            slow: LineRate::default(),
            here,
            waits,
        }));
        let mut log = LogThread {
            shared: shared.clone(),
            writing: writing.clone(),
            tell: tell.clone(),
            threads: Vec::new(),
        };
        let pool = spares.clone();
        let failed = |source| LogFailure { doing: "starting on", path: settings.dir.clone(), source };
        log.threads.push(spawn("ostler-segments", move || pool.run()).map_err(failed)?);
        let failed = |source| LogFailure { doing: "starting on", path: settings.dir.clone(), source };
        let driver = Driver { shared, writing, tell, dir: settings.dir.clone() };
        log.threads.push(spawn("ostler-log", move || driver.run()).map_err(failed)?);
        Ok(log)
    }

    /// Queues proposals from the front, so that one sync can cover them; `Durable` will tell. Some are left when
    /// `LOG_QUEUE_PROPOSALS_MAX` are waiting, or the log failed.
    pub fn append(&self, proposals: &mut VecDeque<Proposal>) {
        let mut queue = self.shared.lock();
        if !queue.closed {
            queue.commands.append(proposals);
        }
        self.shared.wake(queue);
    }

    /// Writes and syncs all of `proposals` before it returns, and tells `Durable` as ever: true. False, and nothing done,
    /// when the log thread has something to do, a new segment is needed, the group is large, or the disk has been slow of
    /// late: then [`LogThread::append`] it is. Blocks the caller for the time of a sync.
    pub fn append_here(&self, proposals: &mut VecDeque<Proposal>) -> bool {
        let mut queue = self.shared.lock();
        if !queue.asleep || queue.closed || !queue.commands.is_empty() {
            return false;
        }
        let Ok(mut writing) = self.writing.try_lock() else { return false };
        if !writing.may_write_here(proposals) {
            return false;
        }
        queue.written_here = true;
        let mark_is_due = !std::mem::replace(&mut queue.mark_is_stale, true);
        drop(queue);
        if mark_is_due {
            // It sleeps without an end in sight: it is to look after the mark.
            self.shared.changed.notify_one();
        }
        let mut work = std::mem::take(&mut writing.here);
        work.append(proposals.drain(..));
        let done = writing.carry_out(&mut work, &self.shared);
        writing.here = work;
        drop(writing);
        match done {
            Ok(true) => true,
            // It needed no segment, so there is nothing it could have waited for.
            Ok(false) => unreachable!("a group for the open segment was given up"),
            Err(failure) => {
                self.shared.lock().closed = true;
                self.shared.changed.notify_one();
                (self.tell)(LogEvent::Failed(failure));
                true
            }
        }
    }

    /// Queues a command behind what was queued before. Proposals go by [`LogThread::append`], which has a bound.
    pub fn push(&self, command: LogCommand) {
        self.shared.push(self.shared.lock(), command);
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
        self.shared.push(self.shared.lock(), LogCommand::Stop);
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

    /// Log files leave so many bytes of the disk free: what a snapshot needs, without which nothing is ever purged. Once.
    pub fn leave_free(&self, bytes: impl Fn() -> u64 + Send + Sync + 'static) {
        self.0.spares.leave_free(Box::new(bytes));
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

    fn stopping(&self) -> bool {
        self.lock().commands.is_stopping()
    }

    fn push(&self, mut queue: MutexGuard<'_, Queue>, command: LogCommand) {
        queue.commands.push(command);
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

/// What is held to write: by the log thread, or by the core in its stead.
struct Writing {
    executor: LogExecutor,
    tell: Arc<dyn Fn(LogEvent) + Send + Sync>,
    warning: Duration,
    slow: LineRate,
    /// What the core writes itself; kept from one time to the next.
    here: LogWork,
    waits: Waits,
}

/// How long groups have taken: whether anybody but the log thread should wait for the next.
#[derive(Default)]
struct Waits {
    /// A mean over the last ones.
    usual: Duration,
    stalled_at: Option<Instant>,
}

impl Waits {
    fn note(&mut self, took: Duration, ended: Instant) {
        self.usual = (self.usual * (LOG_HERE_MEMORY - 1) + took) / LOG_HERE_MEMORY;
        if took >= Duration::from_micros(LOG_HERE_MICROS_MAX) {
            self.stalled_at = Some(ended);
        }
    }

    fn are_short(&self, now: Instant) -> bool {
        let again = Duration::from_millis(LOG_HERE_AGAIN_MS);
        self.usual <= Duration::from_micros(LOG_HERE_MICROS_USUAL)
            && self.stalled_at.is_none_or(|at| now.duration_since(at) >= again)
    }
}

struct Driver {
    shared: Arc<Shared>,
    writing: Arc<Mutex<Writing>>,
    tell: Arc<dyn Fn(LogEvent) + Send + Sync>,
    dir: PathBuf,
}

impl Driver {
    fn run(&self) {
        // A bug must not leave the server waiting for a log that is gone.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.drive()));
        self.shared.lock().closed = true;
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => (self.tell)(LogEvent::Failed(failure)),
            Err(panic) => {
                let source = io::Error::other("the log's thread panicked");
                let failure = LogFailure { doing: "writing", path: self.dir.clone(), source };
                (self.tell)(LogEvent::Failed(failure));
                std::panic::resume_unwind(panic);
            }
        }
    }

    /// Who finds the lock poisoned stops as well: half a group may have been written.
    fn writing(&self) -> MutexGuard<'_, Writing> {
        self.writing.lock().expect("nobody panicked while writing the log")
    }

    fn drive(&self) -> Result<(), LogFailure> {
        let mut work = LogWork::default();
        loop {
            if !self.take(&mut work)? {
                return Ok(());
            }
            let mut writing = self.writing();
            if !writing.carry_out(&mut work, &self.shared)? {
                return Ok(());
            }
            let stale = writing.executor.writer().mark_is_stale();
            drop(writing);
            self.shared.lock().mark_is_stale = stale;
        }
    }

    /// Waits for commands. False at the end: the core's write failed.
    fn take(&self, work: &mut LogWork) -> Result<bool, LogFailure> {
        let mut queue = self.wait()?;
        if queue.closed {
            return Ok(false);
        }
        queue.commands.take(work);
        Ok(true)
    }

    /// Until there is a command, or the log has failed; writes the side mark when nothing was logged for a while.
    fn wait(&self) -> Result<MutexGuard<'_, Queue>, LogFailure> {
        let shared = &self.shared;
        let mut queue = shared.lock();
        while queue.commands.is_empty() && !queue.closed {
            queue.asleep = true;
            if !queue.mark_is_stale {
                queue = shared.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            queue.written_here = false;
            let idle = Duration::from_millis(SIDE_MARK_IDLE_MS);
            let (guard, waited) =
                shared.changed.wait_timeout(queue, idle).unwrap_or_else(PoisonError::into_inner);
            queue = guard;
            if waited.timed_out() && !queue.written_here && queue.commands.is_empty() && !queue.closed {
                queue.asleep = false;
                drop(queue);
                self.writing().executor.write_mark()?;
                queue = shared.lock();
                queue.mark_is_stale = false;
            }
        }
        queue.asleep = false;
        Ok(queue)
    }
}

/// On a clock of the process's own, for bounding lines.
fn moment(at: Instant) -> Moment {
    static BEGUN: OnceLock<Instant> = OnceLock::new();
    let since = at.saturating_duration_since(*BEGUN.get_or_init(|| at));
    Moment(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

impl Writing {
    /// Whether the core may wait for these proposals itself.
    fn may_write_here(&self, proposals: &VecDeque<Proposal>) -> bool {
        let bytes: usize = proposals.iter().map(|proposal| proposal.records.len()).sum();
        bytes <= LOG_HERE_BYTES_MAX
            && self.waits.are_short(Instant::now())
            && self.executor.writer().has_room(proposals.iter())
    }

    /// Does all of `work` and reports it; on a full disk as soon as there is space. False when the log has come to its end.
    fn carry_out(&mut self, work: &mut LogWork, shared: &Shared) -> Result<bool, LogFailure> {
        let mut begun = Instant::now();
        while !work.is_done() {
            let executed = self.executor.execute(work);
            while let Some(answer) = self.executor.next_answer() {
                (self.tell)(LogEvent::Answer(answer));
            }
            match executed? {
                Executed::Group => begun = self.count(&shared.counters, begun),
                Executed::Command => {}
                Executed::Ended => return Ok(false),
                Executed::NoSpace if shared.stopping() => {
                    self.executor.close()?;
                    return Ok(false);
                }
                Executed::NoSpace => shared.spares.wait_for_space(),
            }
        }
        Ok(true)
    }

    /// A group was logged; the time now.
    fn count(&mut self, counters: &LogCounters, begun: Instant) -> Instant {
        let ended = Instant::now();
        let took = ended.duration_since(begun);
        self.waits.note(took, ended);
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let written = self.executor.writer().written();
        let txns = written.records.saturating_sub(counters.records.load(Ordering::Relaxed));
        (self.tell)(LogEvent::Synced { took, txns });
        // One writer at a time, whoever holds the log's: plain stores are enough.
        counters.syncs.store(written.syncs, Ordering::Relaxed);
        counters.bytes.store(written.bytes, Ordering::Relaxed);
        counters.records.store(written.records, Ordering::Relaxed);
        counters.segments.store(written.segments, Ordering::Relaxed);
        counters.sync_nanos.fetch_add(nanos, Ordering::Relaxed);
        counters.sync_nanos_most.fetch_max(nanos, Ordering::Relaxed);
        if took >= self.warning && self.slow.may_say(moment(ended)) {
            tracing::warn!(
                "fsync-ing the write ahead log took {}ms, and writes waited as long (fsync.warningthresholdms={}). The disk \
                 is slow, or shared with something that is not",
                took.as_millis(),
                self.warning.as_millis()
            );
        }
        if let Some(count) = self.slow.take_unsaid(moment(ended)) {
            tracing::warn!(count, "more syncs of the log were slow; lines about them are left out");
        }
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Notes waits, each in microseconds and followed by a pause in milliseconds; are they short now?
    #[track_caller]
    fn check(waits: &[(u64, u64)], expected: bool) {
        let (mut noted, mut now) = (Waits::default(), Instant::now());
        for &(took_us, pause_ms) in waits {
            now += Duration::from_micros(took_us);
            noted.note(Duration::from_micros(took_us), now);
            now += Duration::from_millis(pause_ms);
        }
        assert_eq!(noted.are_short(now), expected, "{waits:?}");
    }

    #[test]
    fn a_disk_that_is_slow_now_and_then_is_waited_for_and_a_slow_one_is_not() {
        check(&[], true);
        check(&[(150, 0); 100], true);
        // One in a hundred takes milliseconds.
        let now_and_then: Vec<_> = (0..1000).map(|at| (if at % 100 == 99 { 5000 } else { 150 }, 0)).collect();
        check(&now_and_then, true);
        check(&[(3000, 0); 100], false);
        check(&[(150, 0), (LOG_HERE_MICROS_MAX, 50)], false);
        check(&[(150, 0), (LOG_HERE_MICROS_MAX, LOG_HERE_AGAIN_MS)], true);
        // A stall long enough is not forgotten at once.
        check(&[(400_000, 500), (150, 0)], false);
    }
}
