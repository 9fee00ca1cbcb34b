//! What the driver acts through, and what takes its place in a simulation.
//! Not here: sockets (workers).

use crate::io::clock::{Clock, SystemClock};
use crate::io::poll::{MioPoll, Poll};
use crate::log::{LogCommand, LogThread};
use crate::snapshot::{Job, Snapshotter};
use ostler_replication::Proposal;
use std::collections::VecDeque;

/// One choice of all seams.
pub trait Seams {
    type Log: Log;
    type Snapshots: Snapshots;
    type Clock: Clock;
    /// For the sockets of other servers.
    type PeerPoll: Poll;
}

/// The log as its owner sees it. What becomes of commands comes back as messages of the driver's mailbox.
pub trait Log {
    /// Queues proposals from the front, as many as there is room for.
    fn append(&mut self, proposals: &mut VecDeque<Proposal>);

    /// Makes all of `proposals` durable before it returns: true. False, and nothing done, when that would take longer than
    /// the caller should wait.
    fn append_here(&mut self, proposals: &mut VecDeque<Proposal>) -> bool;

    /// Queues any other command behind what was queued before.
    fn push(&mut self, command: LogCommand);

    /// Carries out what was queued, and ends.
    fn stop(self);
}

/// Whoever writes snapshots.
pub trait Snapshots {
    /// Begins a job; its outcome comes as a message. False: it cannot be begun now, and nothing will come.
    fn offer(&mut self, job: Job) -> bool;
}

/// Those of a real server.
pub struct Production;

impl Seams for Production {
    type Log = LogThread;
    type Snapshots = Snapshotter;
    type Clock = SystemClock;
    type PeerPoll = MioPoll;
}

impl Log for LogThread {
    fn append(&mut self, proposals: &mut VecDeque<Proposal>) {
        LogThread::append(self, proposals);
    }

    fn append_here(&mut self, proposals: &mut VecDeque<Proposal>) -> bool {
        LogThread::append_here(self, proposals)
    }

    fn push(&mut self, command: LogCommand) {
        LogThread::push(self, command);
    }

    fn stop(self) {
        LogThread::stop(self);
    }
}

impl Snapshots for Snapshotter {
    fn offer(&mut self, job: Job) -> bool {
        Snapshotter::offer(self, job)
    }
}
