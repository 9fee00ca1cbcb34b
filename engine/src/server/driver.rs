//! Drives the core: brings it requests, the log's and the snapshotter's news and the time, and does what it decides.
//! Not here: deciding (core); sockets (workers).

use crate::admin::{Counter, Counters, Summary};
use crate::core::{Core, CoreInput, CoreOutput, Figures, Now, Space};
use crate::intake::{Bell, CoreRequest, Intake};
use crate::io::clock::{Clock, SystemClock};
use crate::io::process;
use crate::limits;
use crate::log::{LogHandle, LogSpace, LogThread};
use crate::ring::{ConnRef, Event, Publisher};
use crate::snapshot::{Compression, Job, Pinned, Progress, Snapshotter};
use crate::world::{Room, View};
use crossbeam::queue::SegQueue;
use crossbeam::utils::CachePadded;
use ostler_replication::{Moment, Proposal, Solo, Zxid};
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::thread;

/// What other threads tell the core's.
pub enum Tidings {
    Durable(Zxid),
    Space(LogSpace),
    /// Size of the snapshot, or why there is none.
    Snapshot(Option<u64>),
    SnapshotWanted,
    /// A question run on the core's thread, between two steps: it must be brief.
    Ask(Question),
    /// Look at what was set to make you stop.
    Stop,
}

pub type Question = Box<dyn FnOnce(&Core<Solo>) + Send>;

/// Where they put it. Bounded by what is under way: one sync, one snapshot, and what operators ask for.
pub struct Mailbox {
    tidings: SegQueue<Tidings>,
    bell: Arc<Bell>,
}

impl Mailbox {
    pub fn new(bell: Arc<Bell>) -> Mailbox {
        Mailbox { tidings: SegQueue::new(), bell }
    }

    pub fn send(&self, tidings: Tidings) {
        self.tidings.push(tidings);
        self.bell.ring();
    }
}

/// The core's figures for other threads; each is right by itself, they need not fit each other.
#[derive(Default)]
pub struct SharedFigures {
    sessions: AtomicU64,
    txns_in_flight: AtomicU64,
    last_committed: AtomicU64,
    znodes: AtomicU64,
    ephemerals: AtomicU64,
    data_bytes: AtomicU64,
    snapshot_running: AtomicBool,
    retained_bytes: AtomicU64,
    tree_bytes: AtomicU64,
}

impl SharedFigures {
    fn store(&self, figures: Figures) {
        self.sessions.store(figures.sessions as u64, Ordering::Relaxed);
        self.txns_in_flight.store(figures.txns_in_flight as u64, Ordering::Relaxed);
        self.last_committed.store(figures.last_committed.0, Ordering::Relaxed);
        self.znodes.store(figures.znodes, Ordering::Relaxed);
        self.ephemerals.store(figures.ephemerals, Ordering::Relaxed);
        self.data_bytes.store(figures.data_bytes, Ordering::Relaxed);
        self.snapshot_running.store(figures.snapshot_running, Ordering::Relaxed);
        self.retained_bytes.store(figures.retained_bytes, Ordering::Relaxed);
        self.tree_bytes.store(figures.tree_bytes, Ordering::Relaxed);
    }

    pub fn load(&self) -> Figures {
        Figures {
            sessions: self.sessions.load(Ordering::Relaxed) as usize,
            txns_in_flight: self.txns_in_flight.load(Ordering::Relaxed) as usize,
            last_committed: Zxid(self.last_committed.load(Ordering::Relaxed)),
            znodes: self.znodes.load(Ordering::Relaxed),
            ephemerals: self.ephemerals.load(Ordering::Relaxed),
            data_bytes: self.data_bytes.load(Ordering::Relaxed),
            snapshot_running: self.snapshot_running.load(Ordering::Relaxed),
            retained_bytes: self.retained_bytes.load(Ordering::Relaxed),
            tree_bytes: self.tree_bytes.load(Ordering::Relaxed),
            // Of no use to others: the driver says it in the log.
            room: Room::Ample,
            // Counted where the registry's counters are.
            sessions_expired: 0,
        }
    }
}

/// Between two attempts to make room on a full disk.
const SPACE_AGAIN_MS: u64 = limits::SPACE_AGAIN_MS;

/// Whether the log's disk is full, and when something was last done about it.
#[derive(Default)]
pub struct SpaceWatch {
    low: bool,
    tried: Option<Moment>,
}

impl SpaceWatch {
    fn told(&mut self, space: LogSpace) {
        self.low = space != LogSpace::Ok;
        if !self.low {
            self.tried = None;
        }
    }

    fn is_low(&self) -> bool {
        self.low
    }

    fn is_due(&mut self, now: Now) -> bool {
        let due = self.low && self.tried.is_none_or(|at| now.mono.since(at) >= SPACE_AGAIN_MS * 1_000_000);
        if due {
            self.tried = Some(now.mono);
        }
        due
    }
}

/// The core with everything it acts through. One thread turns it.
pub struct Driver {
    pub core: Core<Solo>,
    pub intake: Intake,
    /// From the intake, not yet stepped.
    pub taken: VecDeque<CoreRequest>,
    /// All requests that came before then have been stepped.
    pub heard: Moment,
    pub publisher: Publisher<Event>,
    pub mailbox: Arc<Mailbox>,
    pub log: LogThread,
    pub snapshotter: Snapshotter,
    pub compression: Compression,
    /// The tree's digest is kept.
    pub digest: bool,
    pub figures: Arc<SharedFigures>,
    pub clock: SystemClock,
    /// Decided, but the log's queue was full.
    pub proposals: VecDeque<Proposal>,
    pub counters: Arc<CachePadded<Counters>>,
    pub tally: Tally,
    /// Decided, but the ring was full: the slowest worker has to move first.
    pub events: VecDeque<Event>,
    /// Of the newest events published, as many as the ring may still hold.
    pub in_ring: VecDeque<usize>,
    pub in_ring_bytes: usize,
    /// Set when the core is to end: a snapshot under way is given up.
    pub stop: Arc<AtomicBool>,
    /// Asked for a purge when the disk is full, and when that was.
    pub purge: Sender<()>,
    pub space: SpaceWatch,
    pub writers: Writers,
    pub rest: Rest,
    /// The thread that turns this serves clients as well, and not one alone.
    pub is_shared: bool,
}

/// Whether one client writes alone: then the core waits for the disk in the log thread's stead.
#[derive(Default)]
pub struct Writers {
    last: Option<ConnRef>,
    /// When another one wrote before it.
    others_at: Option<Moment>,
}

impl Writers {
    fn note(&mut self, request: &CoreRequest, now: Now) {
        if let CoreRequest::Write { from, .. } = request
            && self.last.replace(*from) != Some(*from)
        {
            self.others_at = Some(now.mono);
        }
    }

    fn is_one(&self, now: Moment) -> bool {
        self.others_at.is_some_and(|at| now.since(at) >= limits::LONE_CALLER_MS * 1_000_000)
    }
}

/// Tells when a burst of writes is over: then what it left free in the heap goes back to the system.
#[derive(Default)]
pub struct Rest {
    /// Of records, since it last did.
    written: u64,
    busy_at: Moment,
}

impl Rest {
    fn wrote(&mut self, bytes: usize, now: Moment) {
        self.written += bytes as u64;
        self.busy_at = now;
    }

    /// To be asked again and again; once it says so, it is over.
    fn is_due(&mut self, is_busy: impl FnOnce() -> bool, now: Moment) -> bool {
        if self.written < limits::REST_BYTES_LEAST {
            return false;
        }
        if is_busy() {
            self.busy_at = now;
        }
        let is_due = now.since(self.busy_at) >= limits::REST_AFTER_MS * 1_000_000;
        if is_due {
            self.written = 0;
        }
        is_due
    }
}

/// What the counters are computed from.
#[derive(Default)]
pub struct Tally {
    /// Last zxids of proposals on their way to the disk, and when they were handed over.
    on_the_way: VecDeque<(Zxid, Moment)>,
    snapshot_begun: Option<Moment>,
    sessions_expired: u64,
    room: Room,
}

fn say_room(figures: Figures) {
    let Figures { znodes, tree_bytes, .. } = figures;
    match figures.room {
        Room::Ample => tracing::info!(znodes, tree_bytes, "the tree has room again: writes are served"),
        Room::Low => tracing::warn!(
            znodes,
            tree_bytes,
            "the tree has nearly filled its memory (ostler.treeMemory): writes are refused, deletes go on. If deleting \
             does not help, what is free is in too small pieces: a restart joins them"
        ),
        Room::Floor | Room::Spent => tracing::error!(
            znodes,
            tree_bytes,
            "the tree has filled its memory: deletes are refused, too; only sessions end. A running snapshot keeps what is \
             replaced: wait for its end, or restart with a larger ostler.treeMemory"
        ),
    }
}

impl Driver {
    /// One round: everything that came in, one turn of the core, everything it decided.
    pub fn turn(&mut self) {
        let mut now = self.now();
        while let Some(tidings) = self.mailbox.tidings.pop() {
            self.hear(tidings, now);
        }
        self.act();
        for taken in 0..limits::CORE_STEP_REQUESTS_MAX {
            if !self.takes_requests() {
                break;
            }
            let Some(request) = self.next_request(now) else { break };
            // A round can be long; deadlines and stamps follow the clock all the same.
            if taken % 256 == 255 {
                now = self.now();
            }
            self.writers.note(&request, now);
            self.core.step(CoreInput::Request(request), now);
        }
        if self.taken.is_empty() {
            self.heard = self.intake.heard(now.mono);
        }
        let now = self.now();
        self.watch_space(now);
        self.core.turn(now, self.heard);
        self.act();
        // What `append` wrote itself was told meanwhile.
        while let Some(tidings) = self.mailbox.tidings.pop() {
            let now = self.now();
            self.hear(tidings, now);
            self.act();
        }
        let figures = self.core.figures();
        self.counters.begin_turn();
        let expired = figures.sessions_expired
            - std::mem::replace(&mut self.tally.sessions_expired, figures.sessions_expired);
        self.counters.add(Counter::SessionsExpired, expired);
        if figures.room != std::mem::replace(&mut self.tally.room, figures.room) {
            say_room(figures);
        }
        self.figures.store(figures);
        // What a snapshot pins is freed behind it.
        let is_busy = || figures.snapshot_running || self.core.has_work() || !self.core.is_quiet();
        if self.rest.is_due(is_busy, now.mono) {
            // Not here: with a hundred thousand freed pieces in the heap it takes 18 ms. What the core asks of the heap
            // meanwhile it mostly finds in its own cache.
            let trim = thread::Builder::new().name("ostler-trim".into()).spawn(process::give_back_memory);
            if let Err(error) = trim {
                tracing::warn!(%error, "freed memory is kept");
            }
        }
    }

    /// The next request; they are taken some at a time, so that the core can look ahead.
    fn next_request(&mut self, now: Now) -> Option<CoreRequest> {
        if self.taken.is_empty() {
            self.heard = self.intake.heard(now.mono);
            self.intake.take(limits::CORE_AHEAD_REQUESTS, &mut self.taken);
            self.core.foresee(&self.taken);
        }
        self.taken.pop_front()
    }

    fn has_requests(&self) -> bool {
        !self.taken.is_empty() || !self.intake.is_empty()
    }

    /// Whether a sleep would leave something undone that can be done now. Asked again after arming the bell.
    pub fn has_work(&self) -> bool {
        !self.mailbox.tidings.is_empty()
            || self.core.has_work()
            || self.takes_requests() && self.has_requests()
    }

    /// Something waits for the clock, or for another thread that will not ring: look again soon.
    pub fn is_blocked(&self) -> bool {
        !self.events.is_empty()
            || !self.proposals.is_empty()
            || self.in_ring_bytes > limits::RING_BYTES_MAX
            || self.core.is_holding()
    }

    /// Everything accepted is committed and handed to the workers.
    pub fn is_quiet(&self) -> bool {
        self.core.is_quiet() && !self.has_requests() && !self.is_blocked()
    }

    pub fn log_handle(&self) -> LogHandle {
        self.log.handle()
    }

    /// Syncs and closes the log. A running snapshot is given up: the log has all that would be in it.
    pub fn close(self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(self.snapshotter);
        self.log.stop();
    }

    fn now(&self) -> Now {
        let now = self.clock.now();
        Now { mono: now.mono, wall: now.wall }
    }

    fn takes_requests(&self) -> bool {
        self.core.wants_requests()
            && self.events.is_empty()
            && self.proposals.is_empty()
            && self.in_ring_bytes <= limits::RING_BYTES_MAX
    }

    fn hear(&mut self, tidings: Tidings, now: Now) {
        let input = match tidings {
            Tidings::Durable(zxid) => {
                while let Some((last, since)) = self.tally.on_the_way.front()
                    && *last <= zxid
                {
                    self.counters.record(Summary::LogQueueAndSyncTime, now.mono.since(*since));
                    self.tally.on_the_way.pop_front();
                }
                CoreInput::Durable(zxid)
            }
            Tidings::Space(space) => {
                if space == LogSpace::Ok && self.space.is_low() {
                    tracing::info!("the log's disk has room again: writes are served");
                }
                self.space.told(space);
                CoreInput::Space(match space {
                    LogSpace::Ok => Space::Ok,
                    LogSpace::Reserve => Space::Reserve,
                    LogSpace::Floor => Space::Floor,
                    LogSpace::Full => Space::Full,
                })
            }
            Tidings::Snapshot(bytes) => {
                let took = self.tally.snapshot_begun.take().map(|since| now.mono.since(since));
                match (bytes, took) {
                    (Some(_), Some(took)) => self.counters.record(Summary::SnapshotTime, took),
                    _ => self.counters.add(Counter::SnapshotErrors, 1),
                }
                if bytes.is_some() && self.space.is_low() {
                    // What it makes superfluous gives the log its room back. Fails only while the server stops.
                    let _ = self.purge.send(());
                }
                CoreInput::SnapshotEnded(bytes)
            }
            Tidings::SnapshotWanted => CoreInput::SnapshotWanted,
            Tidings::Ask(question) => return question(&self.core),
            Tidings::Stop => return,
        };
        self.core.step(input, now);
    }

    fn act(&mut self) {
        while let Some(output) = self.core.next_output() {
            match output {
                CoreOutput::Append(proposal) => {
                    let now = self.clock.now().mono;
                    self.tally.on_the_way.push_back((proposal.last, now));
                    self.rest.wrote(proposal.records.len(), now);
                    self.proposals.push_back(proposal);
                }
                CoreOutput::Publish(event) => self.events.push_back(event),
                CoreOutput::RollLog => {
                    self.append();
                    self.log.roll();
                }
                CoreOutput::TakeSnapshot(view) => self.begin_snapshot(view),
                CoreOutput::Persist(_) => unreachable!("a server without an ensemble has no epochs to keep"),
            }
        }
        self.append();
        self.publish();
    }

    fn append(&mut self) {
        let Some(newest) = self.tally.on_the_way.back() else { return };
        if self.proposals.is_empty() {
            return;
        }
        let alone = !self.is_shared && self.writers.is_one(newest.1);
        if !alone || !self.log.append_here(&mut self.proposals) {
            self.log.append(&mut self.proposals);
        }
    }

    fn publish(&mut self) {
        self.weigh_ring();
        while let Some(event) = self.events.pop_front() {
            let bytes = event.bytes();
            let published =
                self.publisher.publish(event, |worker, watching, event| event.concerns(worker, watching));
            if let Err(event) = published {
                self.events.push_front(event);
                break;
            }
            self.in_ring.push_back(bytes);
            self.in_ring_bytes += bytes;
        }
    }

    /// Forgets what every worker has left behind.
    fn weigh_ring(&mut self) {
        let held = self.publisher.free();
        while self.in_ring.len() > held {
            self.in_ring_bytes -= self.in_ring.pop_front().unwrap_or(0);
        }
    }

    /// A full disk asks for what gives space back: a snapshot, and the purge of what it makes superfluous; again and
    /// again while it lasts.
    fn watch_space(&mut self, now: Now) {
        if self.space.is_due(now) {
            tracing::warn!(
                "the log's disk is full: writes are refused until a purge or an operator makes room"
            );
            // Fails only while the server stops.
            let _ = self.purge.send(());
            self.core.step(CoreInput::SnapshotWanted, now);
        }
    }

    fn begin_snapshot(&mut self, view: View) {
        self.tally.snapshot_begun = Some(self.clock.now().mono);
        let (figures, stop) = (self.figures.clone(), self.stop.clone());
        let job = Job {
            source: Box::new(Pinned { view, digest: self.digest }),
            compression: self.compression,
            go_on: Box::new(move |_: Progress| goes_on(&figures, &stop)),
        };
        if !self.snapshotter.offer(job) {
            self.mailbox.send(Tidings::Snapshot(None));
        }
    }
}

/// Whether a snapshot is written on: what writers replace meanwhile cannot be freed, so that one is given up past the
/// bound, and a server that stops does not wait for one that its log can do without.
fn goes_on(figures: &SharedFigures, stop: &AtomicBool) -> ControlFlow<()> {
    let retained = figures.retained_bytes.load(Ordering::Relaxed);
    match retained > limits::SNAPSHOT_RETAINED_BYTES_MAX as u64 || stop.load(Ordering::Relaxed) {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_given_up_past_its_bound_and_when_the_server_stops() {
        let check = |retained: u64, stop: bool, goes: bool| {
            let figures = SharedFigures::default();
            figures.retained_bytes.store(retained, Ordering::Relaxed);
            assert_eq!(goes_on(&figures, &AtomicBool::new(stop)).is_continue(), goes);
        };
        check(limits::SNAPSHOT_RETAINED_BYTES_MAX as u64, false, true);
        check(limits::SNAPSHOT_RETAINED_BYTES_MAX as u64 + 1, false, false);
        check(0, true, false);
    }

    #[test]
    fn memory_goes_back_once_when_much_was_written_and_nothing_goes_on() {
        let after = |ms: u64| Moment::from_millis(limits::REST_AFTER_MS + ms);
        let half = limits::REST_BYTES_LEAST as usize / 2;
        let mut rest = Rest::default();
        rest.wrote(half, Moment::from_millis(1));
        assert!(!rest.is_due(|| false, after(1)), "little was written");
        rest.wrote(half, Moment::from_millis(2));
        assert!(!rest.is_due(|| false, after(1)), "too soon");
        assert!(!rest.is_due(|| true, after(2)), "something goes on");
        assert!(!rest.is_due(|| false, after(3)), "too soon behind it");
        assert!(rest.is_due(|| false, after(limits::REST_AFTER_MS + 2)));
        assert!(!rest.is_due(|| false, after(10_000_000)), "once");
    }
}
