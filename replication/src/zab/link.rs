//! One learner as its leader sees it: how far it has come, what was sent to it and what it has acknowledged.
//! Not here: decisions that take more than one learner.

use std::collections::VecDeque;
use std::sync::Arc;

use super::discovery::EpochAck;
use crate::mutants::{Mutant, planted};
use crate::{Epoch, LearnerStatus, Link, Moment, Number, Output, Outputs, Zxid};

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Phase {
    /// Connected; FOLLOWERINFO or OBSERVERINFO is wanted.
    Greeting,
    /// It waits until the epoch is chosen.
    AwaitingEpoch,
    /// LEADERINFO is sent; ACKEPOCH is wanted.
    Promising,
    /// It waits until enough have promised.
    AwaitingSync,
    /// The log is being read for it; `is_first`: how it is brought in step hangs on what the log says.
    Reading {
        number: Number,
        to: Zxid,
        is_first: bool,
    },
    /// A snapshot is on its way; it has left when so many bytes of `Send`s have.
    Snapshot {
        until_bytes: u64,
    },
    /// More committed history follows as soon as the connection takes it.
    CatchingUp,
    /// NEWLEADER is sent, and from here on what is proposed and committed.
    AwaitingAck,
    /// NEWLEADER is acknowledged; UPTODATE follows when the epoch is established.
    Acknowledged,
    InSync,
}

#[derive(Clone, Hash, Debug)]
pub(super) struct Learner {
    pub(super) link: Link,
    pub(super) phase: Phase,
    pub(super) is_voter: bool,
    pub(super) is_observer: bool,
    pub(super) accepted: Epoch,
    pub(super) promise: Option<EpochAck>,
    /// Last record that was queued for it; live traffic does not move an observer's.
    pub(super) cursor: Zxid,
    /// Up to here it knows what is committed by DIFF, TRUNC or SNAP, or was sent COMMITs in the synchronisation.
    pub(super) sync_point: Zxid,
    /// NEWLEADER is sent.
    pub(super) has_new_leader: bool,
    pub(super) acked: Zxid,
    /// Proposals sent and not acknowledged: last zxid and when.
    pub(super) unacked: VecDeque<(Zxid, Moment)>,
    /// Barrier rounds of the PINGs that it has to answer.
    pub(super) pings: VecDeque<u64>,
    /// It has answered a PING that was queued behind this round's beginning.
    pub(super) confirmed: u64,
    /// When something came from it, or of it, last.
    pub(super) heard: Moment,
    sent_bytes: u64,
    drained_bytes: u64,
}

impl Learner {
    pub(super) fn new(link: Link, now: Moment) -> Learner {
        Learner {
            link,
            phase: Phase::Greeting,
            is_voter: false,
            is_observer: false,
            accepted: Epoch(0),
            promise: None,
            cursor: Zxid::ZERO,
            sync_point: Zxid::ZERO,
            has_new_leader: false,
            acked: Zxid::ZERO,
            unacked: VecDeque::new(),
            pings: VecDeque::new(),
            confirmed: 0,
            heard: now,
            sent_bytes: 0,
            drained_bytes: 0,
        }
    }

    pub(super) fn send(&mut self, bytes: Arc<[u8]>, outputs: &mut Outputs) {
        self.sent_bytes += bytes.len() as u64;
        outputs.push_back(Output::Send(self.link, bytes));
    }

    pub(super) fn drained(&mut self, bytes: u64, now: Moment) {
        if self.drained_bytes < bytes {
            self.heard = if self.is_in_sync() { self.heard } else { now };
            self.drained_bytes = bytes.min(self.sent_bytes);
        }
    }

    pub(super) fn sent_bytes(&self) -> u64 {
        self.sent_bytes
    }

    pub(super) fn drained_bytes(&self) -> u64 {
        self.drained_bytes
    }

    pub(super) fn queued_bytes(&self) -> u64 {
        self.sent_bytes - self.drained_bytes
    }

    /// It has said who it is.
    pub(super) fn is_known(&self) -> bool {
        self.phase != Phase::Greeting
    }

    pub(super) fn has_acked_epoch(&self) -> bool {
        matches!(self.phase, Phase::Acknowledged | Phase::InSync)
    }

    /// What is proposed and committed is sent to it as it happens.
    pub(super) fn is_live(&self) -> bool {
        if planted(Mutant::ForwardsOnlyAfterTheAck) {
            return self.has_acked_epoch();
        }
        matches!(self.phase, Phase::AwaitingAck | Phase::Acknowledged | Phase::InSync)
    }

    pub(super) fn is_in_sync(&self) -> bool {
        self.phase == Phase::InSync
    }

    /// A PING may be sent: DIFF, TRUNC or SNAP is out. Before UPTODATE it only keeps the connection from timing out.
    pub(super) fn takes_pings(&self) -> bool {
        match self.phase {
            Phase::Greeting | Phase::AwaitingEpoch | Phase::Promising | Phase::AwaitingSync => false,
            Phase::Reading { is_first, .. } => !is_first,
            Phase::Snapshot { .. } => false,
            Phase::CatchingUp | Phase::AwaitingAck | Phase::Acknowledged | Phase::InSync => true,
        }
    }

    pub(super) fn ack(&mut self, zxid: Zxid) {
        self.acked = self.acked.max(zxid);
        while self.unacked.front().is_some_and(|&(last, _)| last <= self.acked) {
            self.unacked.pop_front();
        }
    }

    pub(super) fn status(&self) -> LearnerStatus {
        LearnerStatus {
            link: self.link,
            is_voter: self.is_voter,
            is_observer: self.is_observer,
            is_synced: self.is_in_sync(),
            acked: self.acked,
            queued_bytes: self.queued_bytes(),
        }
    }
}
