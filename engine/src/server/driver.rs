//! Drives the core: brings it requests, messages of other threads and the time, and does what it decides. One thread turns
//! it, or a simulation: whatever it acts through is one of its seams.
//! Not here: deciding (core); sockets (workers); when to turn and how to sleep (`threads`).

mod figures;
mod heap_trim;
mod lone_writer;
mod mailbox;
mod membership;
mod outbox;
mod seams;
mod space;
mod tally;

pub use figures::SharedFigures;
pub use mailbox::{DriverMessage, Mailbox, Question};
pub use membership::{Membership, MembershipParts, show_members};
pub use seams::{Log, Production, Seams, Snapshots};

use crate::admin::Counters;
use crate::core::{Core, CoreInput, CoreOutput, Now, Space};
use crate::intake::{CoreRequest, Intake};
use crate::io::clock::Clock;
use crate::limits;
use crate::log::{LogAnswer, LogCommand, LogSpace};
use crate::ring::{Event, Publisher};
use crate::snapshot::{Compression, Job, Pinned, Progress};
use crate::world::View;
use crossbeam::utils::CachePadded;
use heap_trim::HeapTrim;
use lone_writer::LoneWriter;
use ostler_replication::{Moment, Proposal, Role};
use outbox::Outbox;
use space::SpaceWatch;
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;
use tally::Tally;

/// How long to sleep at most: what later turns than this take for a stall is postponed.
pub(super) const PATIENCE: Duration = Duration::from_millis(limits::WAIT_MS_MAX / 2);
/// While something waits for a thread that rings no bell.
const PATIENCE_BLOCKED: Duration = Duration::from_millis(1);
/// Rounds of writing to other servers in one turn.
const WRITES_IN_TURN_MAX: usize = 4;
/// Of the process, as Apache's, when a port for other servers cannot be bound.
const EXIT_NO_PORT: i32 = 14;
/// Of the process, when something came that cannot be.
const EXIT_UNEXPECTED: i32 = 1;

/// What a driver is made of.
pub struct Parts<S: Seams> {
    pub core: Core,
    pub intake: Intake,
    pub publisher: Publisher<Event>,
    pub mailbox: Arc<Mailbox>,
    pub log: S::Log,
    /// In an ensemble.
    pub membership: Option<Membership<S::PeerPoll>>,
    pub snapshots: S::Snapshots,
    pub clock: S::Clock,
    pub counters: Arc<CachePadded<Counters>>,
    /// Set when the core is to end: a snapshot under way is given up.
    pub stop: Arc<AtomicBool>,
    /// Asked for a purge when the disk is full.
    pub purge: Sender<()>,
    pub settings: Settings,
}

/// What the driver itself goes by.
#[derive(Clone, Debug)]
pub struct Settings {
    pub compression: Compression,
    /// The tree's digest is kept.
    pub digest: bool,
    /// Bytes that the ring may hold before the core takes no more requests.
    pub ring_bytes_max: usize,
    /// Requests taken in one turn.
    pub turn_requests_max: usize,
    /// Gives memory that a burst of writes left free back to the system, without holding up whoever calls it.
    pub give_back_memory: fn(),
    /// Ends the process with this exit code.
    pub exit: fn(i32) -> !,
}

/// The core with everything it acts through.
pub struct Driver<S: Seams> {
    core: Core,
    intake: Intake,
    /// From the intake, not yet stepped.
    taken: VecDeque<CoreRequest>,
    /// All requests that came before then have been stepped.
    heard: Moment,
    outbox: Outbox,
    mailbox: Arc<Mailbox>,
    log: S::Log,
    membership: Option<Membership<S::PeerPoll>>,
    /// Decided, but the log's queue was full.
    proposals: VecDeque<Proposal>,
    snapshots: S::Snapshots,
    clock: S::Clock,
    stop: Arc<AtomicBool>,
    purge: Sender<()>,
    settings: Settings,
    figures: Arc<SharedFigures>,
    tally: Tally,
    space: SpaceWatch,
    lone_writer: LoneWriter,
    heap_trim: HeapTrim,
    is_shared: bool,
}

impl<S: Seams> Driver<S> {
    pub fn new(parts: Parts<S>) -> Driver<S> {
        let Parts {
            core,
            intake,
            publisher,
            mailbox,
            log,
            membership,
            snapshots,
            clock,
            counters,
            stop,
            purge,
            settings,
        } = parts;
        Driver {
            core,
            intake,
            taken: VecDeque::new(),
            heard: Moment::default(),
            outbox: Outbox::new(publisher, settings.ring_bytes_max),
            mailbox,
            log,
            membership,
            proposals: VecDeque::new(),
            snapshots,
            clock,
            stop,
            purge,
            settings,
            figures: Arc::default(),
            tally: Tally::new(counters),
            space: SpaceWatch::default(),
            lone_writer: LoneWriter::default(),
            heap_trim: HeapTrim::default(),
            is_shared: false,
        }
    }

    pub fn core(&self) -> &Core {
        &self.core
    }

    pub fn figures(&self) -> Arc<SharedFigures> {
        self.figures.clone()
    }

    /// Whether the thread that turns this serves clients as well, and not one alone: then it does not wait for the disk.
    pub fn share_thread(&mut self, is_shared: bool) {
        self.is_shared = is_shared;
    }

    /// One round: everything that came in, one turn of the core, everything it decided.
    pub fn turn(&mut self) {
        let mut now = self.now();
        while let Some(message) = self.mailbox.take() {
            self.hear(message, now);
        }
        self.hear_peers(now);
        self.act();
        for taken in 0..self.settings.turn_requests_max {
            if !self.takes_requests() {
                break;
            }
            let Some(request) = self.next_request(now) else { break };
            // A round can be long; deadlines and stamps follow the clock all the same.
            if taken % 256 == 255 {
                now = self.now();
            }
            self.lone_writer.note(&request, now);
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
        while let Some(message) = self.mailbox.take() {
            let now = self.now();
            self.hear(message, now);
            self.act();
        }
        self.write_to_peers();
        let figures = self.core.figures();
        self.tally.turned(figures);
        self.figures.store(figures);
        self.figures.turned(now.mono, self.tally.oldest());
        self.tally.say_expired(&self.core.take_expired(), now.mono);
        // What a snapshot pins is freed behind it.
        let is_busy = || figures.snapshot_running || self.core.has_work() || !self.core.is_quiet();
        if self.heap_trim.is_due(is_busy, now.mono) {
            (self.settings.give_back_memory)();
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
        !self.mailbox.is_empty()
            || self.core.has_work()
            || self.takes_requests() && self.has_requests()
            || self.membership.as_ref().is_some_and(Membership::has_news)
    }

    /// How long whoever turns this may sleep when nobody rings the bell. Asked after arming it.
    pub fn patience(&self) -> Duration {
        match (self.has_work(), self.is_blocked() || self.core.is_holding()) {
            (true, _) => Duration::ZERO,
            (false, true) => PATIENCE_BLOCKED,
            (false, false) => self.until_next_timeout().min(PATIENCE),
        }
    }

    /// How long the core's clock has nothing to do.
    fn until_next_timeout(&self) -> Duration {
        let of_peers = self.membership.as_ref().and_then(Membership::next_timeout);
        let Some(at) = self.core.next_timeout().into_iter().chain(of_peers).min() else {
            return Duration::MAX;
        };
        Duration::from_nanos(at.since(self.clock.now().mono))
    }

    /// Sleeps until other servers want something, the bell's waker is called, or patience ends. False, and no sleep, without
    /// an ensemble.
    pub fn wait_for_peers(&mut self, patience: Duration) -> bool {
        let Some(membership) = &mut self.membership else { return false };
        membership.wait(patience);
        true
    }

    fn hear_peers(&mut self, now: Now) {
        let Some(membership) = &mut self.membership else { return };
        match membership.hear(now.mono) {
            Ok(heard) => heard.into_iter().for_each(|input| self.core.step(input, now)),
            Err(error) => {
                tracing::error!("{error}");
                (self.settings.exit)(EXIT_NO_PORT);
            }
        }
    }

    /// What came of writing may bring about more to write; what is left then waits for the next turn, which is at once.
    fn write_to_peers(&mut self) {
        for _ in 0..WRITES_IN_TURN_MAX {
            let now = self.now();
            let Some(membership) = &mut self.membership else { return };
            let heard = membership.flush(now.mono);
            if heard.is_empty() {
                return;
            }
            heard.into_iter().for_each(|input| self.core.step(input, now));
            self.act();
        }
    }

    /// Something that was decided waits for another thread, which will not ring.
    fn is_blocked(&self) -> bool {
        self.outbox.is_blocked() || !self.proposals.is_empty()
    }

    /// Everything accepted is committed and handed to the workers.
    pub fn is_quiet(&self) -> bool {
        self.core.is_quiet() && !self.has_requests() && !self.is_blocked()
    }

    /// Syncs and closes the log. A running snapshot is given up: the log has all that would be in it.
    pub fn close(self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(self.snapshots);
        self.log.stop();
    }

    fn now(&self) -> Now {
        let now = self.clock.now();
        Now { mono: now.mono, wall: now.wall }
    }

    /// A learner makes no proposals of requests but sends them on. However long its own log waits, its leader must hear which
    /// sessions are alive, or it expires them.
    fn takes_requests(&self) -> bool {
        let makes_proposals = matches!(self.core.role(), Role::Standalone | Role::Leading);
        let log_waits = makes_proposals && !self.proposals.is_empty();
        self.core.wants_requests() && !self.outbox.is_blocked() && !log_waits
    }

    fn hear(&mut self, message: DriverMessage, now: Now) {
        let input = match message {
            DriverMessage::Log(LogAnswer::Durable(zxid)) => {
                let number = self.tally.durable(zxid, now.mono);
                CoreInput::Durable { number, zxid }
            }
            DriverMessage::Log(answer) => {
                if matches!(answer, LogAnswer::Truncated { .. } | LogAnswer::Installed { .. }) {
                    self.tally.turned_back();
                }
                let membership = self.membership.as_mut().expect("only an ensemble's member asks for these");
                membership.answered(answer, now.wall)
            }
            DriverMessage::Space(space) => {
                self.space.told(space);
                CoreInput::Space(match space {
                    LogSpace::Ok => Space::Ok,
                    LogSpace::Reserve => Space::Reserve,
                    LogSpace::Floor => Space::Floor,
                    LogSpace::Full => Space::Full,
                })
            }
            DriverMessage::Snapshot(bytes) => {
                self.tally.snapshot_ended(bytes.is_some(), now.mono);
                if let (Some(bytes), Some(membership)) = (bytes, &mut self.membership) {
                    membership.snapshot_written(bytes);
                }
                if bytes.is_some() && self.space.is_low() {
                    // What it makes superfluous gives the log its room back. Fails only while the server stops.
                    let _ = self.purge.send(());
                }
                CoreInput::SnapshotEnded(bytes)
            }
            DriverMessage::SnapshotWanted => CoreInput::SnapshotWanted,
            DriverMessage::Ask(question) => return question(&self.core),
            DriverMessage::Stop => return,
        };
        self.core.step(input, now);
    }

    fn act(&mut self) {
        while let Some(output) = self.core.next_output() {
            match output {
                CoreOutput::Append { number, proposal } => {
                    let now = self.clock.now().mono;
                    self.tally.proposed(number, &proposal, self.core.role(), now);
                    self.heap_trim.wrote(proposal.records.len(), now);
                    self.proposals.push_back(proposal);
                }
                CoreOutput::Publish(event) => self.outbox.push(event),
                CoreOutput::RollLog => self.command(LogCommand::Roll),
                CoreOutput::Persist { number, epochs } => {
                    self.command(LogCommand::Persist { number, epochs });
                }
                CoreOutput::Truncate { number, to } => {
                    let command = self.membership().truncate(number, to);
                    self.command(command);
                    self.tally.turns_back();
                }
                CoreOutput::Install { number, link, zxid } => {
                    let command = self.membership().install(number, link, zxid);
                    self.command(command);
                    self.tally.turns_back();
                }
                CoreOutput::ReadHistory { number, link, after, to } => {
                    self.membership().read_history(number, link, after, to);
                }
                CoreOutput::Peer(output) => {
                    let (digest, now) = (self.settings.digest, self.clock.now().mono);
                    self.membership().act(output, digest, now);
                }
                CoreOutput::Report(what) => tracing::info!("{what}"),
                CoreOutput::Stop(reason) => {
                    tracing::error!("{reason}: the server ends");
                    (self.settings.exit)(EXIT_UNEXPECTED);
                }
                CoreOutput::TakeSnapshot(view) => self.begin_snapshot(view),
            }
        }
        self.append();
        self.outbox.publish();
    }

    fn membership(&mut self) -> &mut Membership<S::PeerPoll> {
        self.membership
            .as_mut()
            .expect("a server without an ensemble has no peers, and no history but its own")
    }

    /// Behind everything that was decided before, whatever room the log's queue has: the order is what makes it safe.
    fn command(&mut self, command: LogCommand) {
        for proposal in self.proposals.drain(..) {
            self.log.push(LogCommand::Append(proposal));
        }
        self.log.push(command);
    }

    fn append(&mut self) {
        let Some(newest) = self.tally.newest() else { return };
        if self.proposals.is_empty() {
            return;
        }
        // A leader's proposals are on their way to its followers meanwhile, and their answers come in on this thread.
        let may_wait = !self.is_shared && self.core.role() == Role::Standalone;
        let alone = may_wait && self.lone_writer.writes_alone(newest);
        if !alone || !self.log.append_here(&mut self.proposals) {
            self.log.append(&mut self.proposals);
        }
    }

    /// A full disk asks for what gives space back: a snapshot, and the purge of what it makes superfluous; again and
    /// again while it lasts.
    fn watch_space(&mut self, now: Now) {
        if self.space.is_due(now) {
            // Fails only while the server stops.
            let _ = self.purge.send(());
            self.core.step(CoreInput::SnapshotWanted, now);
        }
    }

    fn begin_snapshot(&mut self, view: View) {
        tracing::info!("Snapshotting: a snapshot of everything up to zxid {} begins", view.zxid());
        self.tally.snapshot_begins(self.clock.now().mono);
        let (figures, stop) = (self.figures.clone(), self.stop.clone());
        let job = Job {
            source: Box::new(Pinned { view, digest: self.settings.digest }),
            compression: self.settings.compression,
            go_on: Box::new(move |_: Progress| goes_on(&figures, &stop)),
        };
        if !self.snapshots.offer(job) {
            self.mailbox.send(DriverMessage::Snapshot(None));
        }
    }
}

/// Whether a snapshot is written on: what writers replace meanwhile cannot be freed, so that one is given up past the
/// bound, and a server that stops does not wait for one that its log can do without.
fn goes_on(figures: &SharedFigures, stop: &AtomicBool) -> ControlFlow<()> {
    let retained = figures.retained_bytes();
    match retained > limits::SNAPSHOT_RETAINED_BYTES_MAX as u64 || stop.load(Ordering::Relaxed) {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Figures;

    #[test]
    fn a_snapshot_is_given_up_past_its_bound_and_when_the_server_stops() {
        let check = |retained: u64, stop: bool, goes: bool| {
            let figures = SharedFigures::default();
            figures.store(Figures { retained_bytes: retained, ..Figures::default() });
            assert_eq!(goes_on(&figures, &AtomicBool::new(stop)).is_continue(), goes);
        };
        check(limits::SNAPSHOT_RETAINED_BYTES_MAX as u64, false, true);
        check(limits::SNAPSHOT_RETAINED_BYTES_MAX as u64 + 1, false, false);
        check(0, true, false);
    }
}
