//! What was asked of the log and is not answered yet. The log carries requests out, and answers them, in the order in
//! which they were made; an answer counts for the request whose number it bears and for nothing else.
//! Not here: files, and what an answer leads to.

use std::collections::VecDeque;

use crate::{Epochs, Link, Moment, Number, Output, Outputs, Proposal, Zxid};

#[derive(Clone, Hash, Debug)]
pub(super) struct LogQueue {
    last: Number,
    /// The last request that went into the queue; reading history does not.
    queued: Number,
    answered: Number,
    /// Batches on their way to the disk: the number of the request and the last zxid.
    appends: VecDeque<(Number, Zxid)>,
    durable: Zxid,
    /// Since when the queue has waited without an answer.
    waiting_since: Moment,
}

impl LogQueue {
    pub(super) fn new(durable: Zxid) -> LogQueue {
        LogQueue {
            last: Number::default(),
            queued: Number::default(),
            answered: Number::default(),
            appends: VecDeque::new(),
            durable,
            waiting_since: Moment::default(),
        }
    }

    /// Memory is not ahead of the disk: a vote and an ACKEPOCH may leave.
    pub(super) fn is_idle(&self) -> bool {
        self.answered == self.queued
    }

    pub(super) fn has_appends(&self) -> bool {
        !self.appends.is_empty()
    }

    pub(super) fn answered(&self) -> Number {
        self.answered
    }

    pub(super) fn durable(&self) -> Zxid {
        self.durable
    }

    /// For how long the disk has owed an answer, nanoseconds.
    pub(super) fn silence(&self, now: Moment) -> u64 {
        if self.is_idle() { 0 } else { now.since(self.waiting_since) }
    }

    pub(super) fn append(&mut self, proposal: Proposal, now: Moment, outputs: &mut Outputs) -> Number {
        let number = self.queue(now);
        self.appends.push_back((number, proposal.last));
        outputs.push_back(Output::Append { number, proposal });
        number
    }

    pub(super) fn persist(&mut self, epochs: Epochs, now: Moment, outputs: &mut Outputs) -> Number {
        let number = self.queue(now);
        outputs.push_back(Output::Persist { number, epochs });
        number
    }

    pub(super) fn truncate(&mut self, to: Zxid, now: Moment, outputs: &mut Outputs) -> Number {
        let number = self.queue(now);
        outputs.push_back(Output::Truncate { number, to });
        number
    }

    pub(super) fn install(&mut self, link: Link, zxid: Zxid, now: Moment, outputs: &mut Outputs) -> Number {
        let number = self.queue(now);
        outputs.push_back(Output::Install { number, link, zxid });
        number
    }

    pub(super) fn read(&mut self, link: Link, after: Zxid, to: Zxid, outputs: &mut Outputs) -> Number {
        self.last.0 += 1;
        outputs.push_back(Output::ReadHistory { number: self.last, link, after, to });
        self.last
    }

    fn queue(&mut self, now: Moment) -> Number {
        if self.is_idle() {
            self.waiting_since = now;
        }
        self.last.0 += 1;
        self.queued = self.last;
        self.last
    }

    /// Everything up to this request is done. The zxid that an answer names is not asked: after a truncation the same
    /// one may stand for another record.
    pub(super) fn answer(&mut self, number: Number, now: Moment) {
        self.answered = self.answered.max(number.min(self.queued));
        self.waiting_since = now;
        while let Some(&(_, last)) = self.appends.front().filter(|(asked, _)| *asked <= number) {
            self.durable = last;
            self.appends.pop_front();
        }
    }

    /// The log ends here now.
    pub(super) fn ends_at(&mut self, zxid: Zxid) {
        self.durable = zxid;
    }
}
