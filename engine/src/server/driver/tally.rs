//! What the core's share of the server's counters is computed from.

use crate::admin::{Counter, Counters, Summary};
use crate::core::Figures;
use crate::world::Room;
use crossbeam::utils::CachePadded;
use ostler_replication::{Moment, Number, Proposal, Role, Zxid};
use std::collections::VecDeque;
use std::sync::Arc;

pub(super) struct Tally {
    counters: Arc<CachePadded<Counters>>,
    /// On its way through the log.
    underway: VecDeque<Underway>,
    /// Of the last proposal that is there.
    durable: Number,
    snapshot_begun: Option<Moment>,
    sessions_expired: u64,
    digest_mismatches: u64,
    room: Room,
}

enum Underway {
    Proposal {
        number: Number,
        last: Zxid,
        since: Moment,
    },
    /// The log is to end elsewhere: what comes behind may have zxids again that stood before.
    Turn,
}

impl Tally {
    pub(super) fn new(counters: Arc<CachePadded<Counters>>) -> Tally {
        Tally {
            counters,
            underway: VecDeque::new(),
            durable: Number::default(),
            snapshot_begun: None,
            sessions_expired: 0,
            digest_mismatches: 0,
            room: Room::default(),
        }
    }

    /// Handed to the log. What a leader hands over it proposes to its followers as well.
    pub(super) fn proposed(&mut self, number: Number, proposal: &Proposal, role: Role, now: Moment) {
        self.underway.push_back(Underway::Proposal { number, last: proposal.last, since: now });
        if role == Role::Leading {
            proposal.entries().for_each(|entry| self.counters.proposed(entry.len() as u64));
        }
    }

    /// When the newest proposal on its way was handed over.
    pub(super) fn newest(&self) -> Option<Moment> {
        match self.underway.back()? {
            Underway::Proposal { since, .. } => Some(*since),
            Underway::Turn => None,
        }
    }

    /// The number of the last proposal that this stands for.
    pub(super) fn durable(&mut self, zxid: Zxid, now: Moment) -> Number {
        while let Some(Underway::Proposal { number, last, since }) = self.underway.front()
            && *last <= zxid
        {
            self.counters.record(Summary::LogQueueAndSyncTime, now.since(*since));
            self.durable = *number;
            self.underway.pop_front();
        }
        self.durable
    }

    /// A TRUNC or an installation goes into the log's queue.
    pub(super) fn turns_back(&mut self) {
        self.underway.push_back(Underway::Turn);
    }

    /// It is answered, and with it all that stood before it.
    pub(super) fn turned_back(&mut self) {
        while let Some(passed) = self.underway.pop_front() {
            if matches!(passed, Underway::Turn) {
                return;
            }
        }
        unreachable!("the log answers what it was asked");
    }

    pub(super) fn snapshot_begins(&mut self, now: Moment) {
        self.snapshot_begun = Some(now);
    }

    pub(super) fn snapshot_ended(&mut self, is_written: bool, now: Moment) {
        match self.snapshot_begun.take().map(|since| now.since(since)) {
            Some(took) if is_written => self.counters.record(Summary::SnapshotTime, took),
            _ => self.counters.add(Counter::SnapshotErrors, 1),
        }
    }

    pub(super) fn turned(&mut self, figures: Figures) {
        self.counters.begin_turn();
        let before = std::mem::replace(&mut self.sessions_expired, figures.sessions_expired);
        self.counters.add(Counter::SessionsExpired, figures.sessions_expired - before);
        let mismatches = figures.digest_mismatches
            - std::mem::replace(&mut self.digest_mismatches, figures.digest_mismatches);
        if let (1.., Some(zxid)) = (mismatches, figures.digest_differs_at) {
            self.counters.add(Counter::DigestMismatches, mismatches);
            tracing::error!(%zxid, mismatches, "the leader's txns say another digest of the tree than ours has");
        }
        if figures.room != std::mem::replace(&mut self.room, figures.room) {
            say_room(figures);
        }
    }
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
