//! The log's place: production's queue and executor, turned by hand. What a sync answers is held back for as long as the
//! sync is to take. Both of its threads are turns here, and the core reaches it through the driver's seam.
//! Not here: when who runs (`run`), what is written and how (the engine's log).

use crate::plant::Plant;
use crate::shape::SimClock;
use ostler_engine::io::disk_sim::SimDisk;
use ostler_engine::limits;
use ostler_engine::log::{
    Executed, LogAnswer, LogCommand, LogCommands, LogExecutor, LogFailure, LogWork, Spares,
};
use ostler_engine::server::driver::{self, DriverMessage, Mailbox};
use ostler_replication::{Proposal, Zxid};
use ostler_tests::random::Random;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

/// How long syncs take, nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub usual_most: u64,
    /// One in fifty.
    pub rare_most: u64,
}

impl Pace {
    /// Once nothing goes wrong any more.
    pub fn calm(self) -> Pace {
        Pace { rare_most: self.rare_most.min(300_000_000), ..self }
    }
}

/// What a server does to its history, as soon as it is decided.
#[derive(Clone, Debug)]
pub enum LogNote {
    Append(Proposal),
    /// It is to end there, or with the last txn before.
    Truncate(Zxid),
    /// It is to begin behind a leader's snapshot.
    Install(Zxid),
    /// It ends there.
    Ends(Zxid),
}

pub struct LogPlace {
    commands: LogCommands,
    work: LogWork,
    executor: LogExecutor,
    spares: Arc<Spares>,
    mailbox: Arc<Mailbox>,
    /// A sync that returns then, and what it answers.
    syncing: Option<(u64, Vec<LogAnswer>)>,
    /// The disk is full; and whether there may be space again.
    is_full: bool,
    may_retry: bool,
    spares_due: u64,
    /// The side mark is written then, unless something is logged before.
    mark_due: Option<u64>,
    /// What became of the history since the machine last looked.
    notes: Vec<LogNote>,
    /// Of a write on the core's thread.
    failure: Option<LogFailure>,
    /// Writes on the core's thread, and attempts that found the disk full, since the machine last looked.
    pub counts: (u64, u64),
    plant: Option<Plant>,
    pub pace: Pace,
    clock: SimClock,
    disk: SimDisk,
    random: Random,
}

/// What it is made of.
pub struct Parts {
    pub executor: LogExecutor,
    pub proposals_max: usize,
    pub spares: Arc<Spares>,
    pub mailbox: Arc<Mailbox>,
    pub pace: Pace,
    pub clock: SimClock,
    pub disk: SimDisk,
    pub random: Random,
    pub plant: Option<Plant>,
}

/// The driver's end.
#[derive(Clone)]
pub struct SimLog(pub Rc<RefCell<LogPlace>>);

impl driver::Log for SimLog {
    fn append(&mut self, proposals: &mut VecDeque<Proposal>) {
        let mut place = self.0.borrow_mut();
        let all: Vec<Proposal> = proposals.iter().cloned().collect();
        place.commands.append(proposals);
        let taken = all.len() - proposals.len();
        place.notes.extend(all.into_iter().take(taken).map(LogNote::Append));
    }

    fn append_here(&mut self, proposals: &mut VecDeque<Proposal>) -> bool {
        self.0.borrow_mut().append_here(proposals)
    }

    fn push(&mut self, command: LogCommand) {
        let mut place = self.0.borrow_mut();
        match &command {
            LogCommand::Append(proposal) => place.notes.push(LogNote::Append(proposal.clone())),
            LogCommand::Truncate { to, .. } => place.notes.push(LogNote::Truncate(*to)),
            LogCommand::Install { zxid, .. } => place.notes.push(LogNote::Install(*zxid)),
            LogCommand::Persist { .. } | LogCommand::Roll | LogCommand::Stop => {}
        }
        place.commands.push(command);
    }

    fn stop(self) {
        self.0.borrow_mut().commands.push(LogCommand::Stop);
    }
}

impl LogPlace {
    pub fn new(parts: Parts) -> LogPlace {
        let Parts { executor, proposals_max, spares, mailbox, pace, clock, disk, random, plant } = parts;
        LogPlace {
            commands: LogCommands::new(proposals_max),
            work: LogWork::default(),
            executor,
            spares,
            mailbox,
            syncing: None,
            is_full: false,
            may_retry: false,
            spares_due: 0,
            mark_due: None,
            notes: Vec::new(),
            failure: None,
            counts: (0, 0),
            plant,
            pace,
            clock,
            disk,
            random,
        }
    }

    /// The log takes nothing for want of space.
    pub fn is_full(&self) -> bool {
        self.is_full
    }

    pub fn spares(&self) -> &Spares {
        &self.spares
    }

    /// What has become of the history since this was last asked.
    pub fn take_notes(&mut self) -> Vec<LogNote> {
        std::mem::take(&mut self.notes)
    }

    /// The last txn on stable storage.
    pub fn last(&self) -> Zxid {
        self.executor.writer().last()
    }

    /// The failure of a write on the core's thread: the process has ended in the middle of it.
    pub fn take_failure(&mut self) -> Option<LogFailure> {
        self.failure.take()
    }

    /// When the log's thread goes on; `None` while it sleeps.
    pub fn due(&self) -> Option<u64> {
        if let Some((then, _)) = &self.syncing {
            return Some(*then);
        }
        let waits = !self.work.is_done() || !self.commands.is_empty();
        match self.is_full {
            true => self.may_retry.then_some(0),
            false if waits => Some(0),
            false => self.mark_due,
        }
    }

    pub fn spares_due(&self) -> u64 {
        self.spares_due
    }

    /// One turn of the log's thread.
    pub fn turn(&mut self) -> Result<(), LogFailure> {
        if let Some((_, answers)) = self.syncing.take() {
            answers.into_iter().for_each(|answer| self.mailbox.send(DriverMessage::Log(answer)));
            return Ok(());
        }
        if self.work.is_done() {
            if self.commands.is_empty() {
                self.mark_due = None;
                return self.executor.write_mark();
            }
            self.commands.take(&mut self.work);
            if self.plant == Some(Plant::AnswersBeforeItSyncs)
                && let Some(last) = self.work.proposals().last()
            {
                self.mailbox.send(DriverMessage::Log(LogAnswer::Durable(last.last)));
                return Ok(());
            }
        }
        self.may_retry = false;
        let answers = self.execute()?;
        if !answers.is_empty() {
            self.syncing = Some((self.clock.nanos() + self.sync_nanos(), answers));
        }
        Ok(())
    }

    /// One turn of the thread that makes spares.
    pub fn turn_spares(&mut self) {
        self.spares.prepare();
        self.spares_due = self.clock.nanos() + self.random.between(1_000_000, 100_000_000);
        self.may_retry = true;
    }

    fn execute(&mut self) -> Result<Vec<LogAnswer>, LogFailure> {
        let last = self.work.proposals().last().map(|proposal| proposal.last);
        let executed = self.executor.execute(&mut self.work);
        let mut answers: Vec<LogAnswer> = std::iter::from_fn(|| self.executor.next_answer()).collect();
        match executed {
            Ok(executed) => {
                self.is_full = executed == Executed::NoSpace;
                self.counts.1 += u64::from(self.is_full);
            }
            Err(_) if self.plant == Some(Plant::BelievesFailingDisks) && !self.disk.stopped() => {
                answers = last.map(LogAnswer::Durable).into_iter().collect();
                self.work = LogWork::default();
            }
            Err(failure) => return Err(failure),
        }
        let turned =
            |answer: &LogAnswer| matches!(answer, LogAnswer::Truncated { .. } | LogAnswer::Installed { .. });
        if answers.iter().any(turned) && self.commands.is_empty() && self.work.is_done() {
            self.notes.push(LogNote::Ends(self.last()));
        }
        let is_stale = self.executor.writer().mark_is_stale();
        self.mark_due = is_stale.then(|| self.clock.nanos() + limits::SIDE_MARK_IDLE_MS * 1_000_000);
        Ok(answers)
    }

    fn append_here(&mut self, proposals: &mut VecDeque<Proposal>) -> bool {
        let bytes: usize = proposals.iter().map(|proposal| proposal.records.len()).sum();
        let is_idle = self.syncing.is_none() && self.work.is_done() && self.commands.is_empty();
        let has_room = self.executor.writer().has_room(proposals.iter());
        if !is_idle || !has_room || bytes > limits::LOG_HERE_BYTES_MAX || self.random.one_in(8) {
            return false;
        }
        self.counts.0 += 1;
        self.notes.extend(proposals.iter().cloned().map(LogNote::Append));
        self.work.append(proposals.drain(..));
        match self.execute() {
            Ok(answers) => {
                let took = self.random.below(limits::LOG_HERE_MICROS_USUAL * 1000);
                self.clock.advance_to(self.clock.nanos() + took);
                answers.into_iter().for_each(|answer| self.mailbox.send(DriverMessage::Log(answer)));
            }
            Err(failure) => self.failure = Some(failure),
        }
        true
    }

    fn sync_nanos(&mut self) -> u64 {
        match self.random.below(50) {
            0 => self.random.below(self.pace.rare_most),
            _ => self.random.below(self.pace.usual_most),
        }
    }
}
