//! What the log does with its commands, one step at a time: takes them off their queue, writes and syncs proposals in
//! groups, carries the rest out between groups, and answers in the same order. The log's thread turns this over the real
//! disk; the simulation turns it by hand.
//! Not here: threads, sleeping and time (`thread`), how a group is written (`writer`).

use super::request::{self, RecoverUntil};
use super::writer::{AppendError, LogFailure, LogWriter};
use crate::limits::{BATCH_BYTES_MAX, LOG_QUEUE_BYTES_MAX};
use ostler_replication::{Epochs, Number, Proposal, Zxid};
use std::collections::VecDeque;

/// What the log is asked to do. Commands are carried out, and answered, in the order in which they were queued.
#[derive(Debug)]
pub enum LogCommand {
    /// Make this durable; `Durable` answers, once for all proposals of a group.
    Append(Proposal),
    /// Write the epoch files.
    Persist { number: Number, epochs: Epochs },
    /// End at `to`, once it is recovered until there.
    Truncate { number: Number, to: Zxid, recover: RecoverUntil },
    /// Put a snapshot that lies complete in the snapshots' directory, as `staged`, in place of the history, as `name`.
    Install { number: Number, zxid: Zxid, staged: String, name: String },
    /// What is appended behind this goes to a new file. Not answered.
    Roll,
    /// Write the side mark and cut the segment; nothing is carried out any more. Not answered.
    Stop,
}

/// What became of commands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogAnswer {
    /// Everything up to this zxid is on stable storage; always the last zxid of a proposal.
    Durable(Zxid),
    Persisted {
        number: Number,
        epochs: Epochs,
    },
    /// False: there is no way to end there, and nothing has changed.
    Truncated {
        number: Number,
        to: Zxid,
        done: bool,
    },
    /// False: it could not be written, and nothing has changed.
    Installed {
        number: Number,
        zxid: Zxid,
        done: bool,
    },
}

/// Commands that wait.
#[derive(Debug)]
pub struct LogCommands {
    commands: VecDeque<LogCommand>,
    proposals: usize,
    proposals_max: usize,
    /// Of the proposals that wait.
    bytes: usize,
}

/// What was taken off the queue and is not done yet: one group of proposals, then at most one command that must stand
/// between two groups.
#[derive(Default, Debug)]
pub struct LogWork {
    group: Vec<Proposal>,
    then: Option<LogCommand>,
}

/// What one step came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Executed {
    /// A group is on stable storage.
    Group,
    /// A command is carried out.
    Command,
    /// The disk is full. The work has kept what is not on stable storage: execute it again once there may be space.
    NoSpace,
    /// The log is closed: nothing can be executed any more.
    Ended,
}

/// Carries commands out, on whichever thread.
pub struct LogExecutor {
    writer: LogWriter,
    answers: VecDeque<LogAnswer>,
}

impl LogCommands {
    /// Proposals are taken while fewer than `proposals_max` wait, and fewer bytes than `LOG_QUEUE_BYTES_MAX`; other commands
    /// always.
    pub fn new(proposals_max: usize) -> LogCommands {
        LogCommands { commands: VecDeque::new(), proposals: 0, proposals_max, bytes: 0 }
    }

    /// Queues proposals from the front, so that one sync can cover them, as long as there is room.
    pub fn append(&mut self, proposals: &mut VecDeque<Proposal>) {
        while self.proposals < self.proposals_max
            && self.bytes < LOG_QUEUE_BYTES_MAX
            && let Some(proposal) = proposals.pop_front()
        {
            self.push(LogCommand::Append(proposal));
        }
    }

    pub fn push(&mut self, command: LogCommand) {
        if let LogCommand::Append(proposal) = &command {
            self.proposals += 1;
            self.bytes += proposal.records.len();
        }
        self.commands.push_back(command);
    }

    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    pub fn is_stopping(&self) -> bool {
        self.commands.iter().any(|command| matches!(command, LogCommand::Stop))
    }

    /// Takes proposals up to a bound in bytes, or up to a command that has to stand between two groups, and that command.
    /// `work` is done.
    pub fn take(&mut self, work: &mut LogWork) {
        assert!(work.is_done(), "the log took work before it had done the last");
        let mut bytes = 0;
        while bytes < BATCH_BYTES_MAX as usize
            && let Some(command) = self.commands.pop_front()
        {
            match command {
                LogCommand::Append(proposal) => {
                    self.proposals -= 1;
                    self.bytes -= proposal.records.len();
                    bytes += proposal.records.len();
                    work.group.push(proposal);
                }
                other => {
                    work.then = Some(other);
                    break;
                }
            }
        }
    }
}

impl LogWork {
    /// One group that nothing follows.
    pub fn append(&mut self, proposals: impl Iterator<Item = Proposal>) {
        assert!(self.is_done(), "the log was given work before it had done the last");
        self.group.extend(proposals);
    }

    pub fn is_done(&self) -> bool {
        self.group.is_empty() && self.then.is_none()
    }

    /// Proposals that are not on stable storage.
    pub fn proposals(&self) -> &[Proposal] {
        &self.group
    }
}

impl LogExecutor {
    pub fn new(writer: LogWriter) -> LogExecutor {
        LogExecutor { writer, answers: VecDeque::new() }
    }

    pub fn writer(&self) -> &LogWriter {
        &self.writer
    }

    /// Does the next part of `work`: its group, or the command behind it. What is answered is true when this returns,
    /// also beside a failure, which is final.
    pub fn execute(&mut self, work: &mut LogWork) -> Result<Executed, LogFailure> {
        if !work.group.is_empty() {
            return self.log_group(&mut work.group);
        }
        match work.then.take() {
            Some(LogCommand::Append(proposal)) => {
                work.group.push(proposal);
                return self.log_group(&mut work.group);
            }
            Some(LogCommand::Persist { number, epochs }) => {
                self.answers.push_back(request::persist(&self.writer, number, epochs)?);
            }
            Some(LogCommand::Truncate { number, to, recover }) => {
                self.answers.push_back(request::cut(&mut self.writer, (number, to), recover)?);
            }
            Some(LogCommand::Install { number, zxid, staged, name }) => {
                let answer = request::install(&mut self.writer, (number, zxid), (&staged, &name))?;
                self.answers.push_back(answer);
            }
            Some(LogCommand::Roll) => {
                self.writer.write_mark()?;
                self.writer.roll()?;
            }
            Some(LogCommand::Stop) => return self.close(),
            None => {}
        }
        Ok(Executed::Command)
    }

    pub fn next_answer(&mut self) -> Option<LogAnswer> {
        self.answers.pop_front()
    }

    /// The log has been idle for a while: notes in the side mark how far it is synced.
    pub fn write_mark(&mut self) -> Result<(), LogFailure> {
        self.writer.write_mark()
    }

    pub fn close(&mut self) -> Result<Executed, LogFailure> {
        self.writer.close()?;
        Ok(Executed::Ended)
    }

    fn log_group(&mut self, group: &mut Vec<Proposal>) -> Result<Executed, LogFailure> {
        let outcome = self.writer.append(group.iter());
        let logged = self.writer.last();
        // Of a group that stopped half-way, the proposals that are whole.
        let whole = group.iter().rev().map(|proposal| proposal.last).find(|last| *last <= logged);
        self.answers.extend(whole.map(LogAnswer::Durable));
        group.retain(|proposal| proposal.last > logged);
        match outcome {
            Ok(()) => {
                assert!(group.is_empty(), "the log did not write what it says it wrote");
                Ok(Executed::Group)
            }
            Err(AppendError::Failed(failure)) => Err(failure),
            Err(AppendError::Closed) => Ok(Executed::Ended),
            Err(AppendError::NoSpace) => Ok(Executed::NoSpace),
        }
    }
}
