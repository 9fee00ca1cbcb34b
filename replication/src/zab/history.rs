//! What this server holds of the common history, as far as memory needs to know: the last committed records, and those
//! that are logged and not committed. Marks tell them apart. Not here: the log's files, who acknowledged what.
//! Invariant: `base`, then the records of `recent`, are contiguous up to `logged`; every hand-over asserts it.

use std::collections::VecDeque;

use crate::mutants::{Mutant, planted};
use crate::{Epoch, Proposal, Zxid};

/// How much committed history is kept for learners that come back.
#[derive(Clone, Copy, Hash, Debug)]
pub struct CacheLimits {
    /// `zookeeper.commitLogCount`: at least so many txns are kept, if their bytes allow.
    pub txns: u64,
    pub bytes: usize,
}

#[derive(Clone, Hash, Debug)]
pub(super) struct History {
    /// What stands before the first record of `recent`: a record, a snapshot's zxid, or nothing.
    base: Zxid,
    recent: VecDeque<Proposal>,
    recent_txns: u64,
    recent_bytes: usize,
    /// The world holds everything up to here. Ahead of `committed` only with a tail that was there at the start, or was left
    /// by a truncation.
    applied: Zxid,
    /// Known to be committed for good. Zero after the start, until an epoch is established.
    committed: Zxid,
    logged: Zxid,
    /// On this server's own disk, as far as it has answered.
    durable: Zxid,
    /// The last epoch that this process has seen established.
    established: Option<Epoch>,
    limits: CacheLimits,
}

/// Where a zxid stands in the records that memory holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    BelowBase,
    /// It is `base` or one of the records.
    Held,
    /// It is none of the records: those around it.
    Between {
        before: Zxid,
        behind: Zxid,
    },
    BehindAll,
}

/// Whether `next` may follow right behind `last`: the next counter, or the first of a later epoch.
pub(super) fn continues(last: Zxid, next: Zxid) -> bool {
    last.successor() == Some(next) || (last.epoch() < next.epoch() && next.counter() == 1)
}

impl History {
    pub(super) fn new(logged: Zxid, limits: CacheLimits) -> History {
        History {
            base: logged,
            recent: VecDeque::new(),
            recent_txns: 0,
            recent_bytes: 0,
            applied: logged,
            committed: Zxid::ZERO,
            logged,
            durable: logged,
            established: None,
            limits,
        }
    }

    pub(super) fn base(&self) -> Zxid {
        self.base
    }

    pub(super) fn applied(&self) -> Zxid {
        self.applied
    }

    pub(super) fn committed(&self) -> Zxid {
        self.committed
    }

    pub(super) fn logged(&self) -> Zxid {
        self.logged
    }

    /// What votes and ACKEPOCH tell: the last zxid in the log, or (e,0) once epoch e is known to have been established on
    /// top of it. An epoch that was only accepted does not count: it may never have stood, and then a leader that
    /// believed (e,0) would leave a tail in place that nobody else has.
    pub(super) fn reported(&self) -> Zxid {
        if planted(Mutant::ForgetsTheLoggedTail) {
            return self.applied;
        }
        match self.established {
            Some(epoch) if self.logged.epoch() < epoch => Zxid::new(epoch, 0),
            _ => self.logged,
        }
    }

    pub(super) fn establish(&mut self, epoch: Epoch) {
        self.established = Some(epoch);
    }

    pub(super) fn append(&mut self, proposal: Proposal) {
        assert!(continues(self.logged, proposal.first), "{:?} behind {:?}", proposal.first, self.logged);
        assert!(proposal.first <= proposal.last);
        assert!(proposal.first.epoch() == proposal.last.epoch());
        self.logged = proposal.last;
        self.recent_txns += txns(&proposal);
        self.recent_bytes += proposal.records.len();
        self.recent.push_back(proposal);
    }

    /// Everything up to here is committed. Old records leave the memory.
    pub(super) fn commit(&mut self, to: Zxid) {
        self.committed = self.committed.max(to.min(self.logged));
        self.evict();
    }

    /// The own disk holds everything up to here. What a quorum has committed without it stays in memory until then: a
    /// learner that lags would be sent to a log which does not have it yet.
    pub(super) fn synced(&mut self, to: Zxid) {
        self.durable = to;
        self.evict();
    }

    fn evict(&mut self) {
        while let Some(front) = self.recent.front() {
            let spare = self.limits.txns <= self.recent_txns - txns(front);
            let is_done = front.last <= self.committed.min(self.applied).min(self.durable);
            if !is_done || !(spare || self.limits.bytes < self.recent_bytes) {
                break;
            }
            self.base = front.last;
            self.forget_front();
        }
    }

    fn forget_front(&mut self) {
        if let Some(front) = self.recent.pop_front() {
            self.recent_txns -= txns(&front);
            self.recent_bytes -= front.records.len();
        }
    }

    /// What a planted defect does: committed records leave the memory, and it does not know.
    pub(super) fn lose_committed(&mut self) {
        while self.recent.front().is_some_and(|front| front.last <= self.committed) {
            self.forget_front();
        }
    }

    /// The committed records that the world does not hold yet, in order; it is taken to hold them from now on.
    pub(super) fn take_unapplied(&mut self) -> Vec<Proposal> {
        let mut taken = Vec::new();
        while let Some(piece) = self.piece(self.applied, self.committed) {
            self.applied = piece.last;
            taken.push(piece);
        }
        self.evict();
        taken
    }

    /// The world of a leader runs ahead: it holds what it proposed, so what is committed needs no handing over.
    pub(super) fn applied_by_proposing(&mut self) {
        self.applied = self.applied.max(self.committed);
        self.evict();
    }

    /// The records behind `after` up to `to` of the first batch that has any; `None` when there are none. Not for
    /// an `after` below `base`.
    pub(super) fn piece(&self, after: Zxid, to: Zxid) -> Option<Proposal> {
        assert!(self.base <= after);
        let index = self.recent.partition_point(|p| p.last <= after);
        part(self.recent.get(index)?, after, to)
    }

    pub(super) fn place(&self, zxid: Zxid) -> Place {
        if zxid < self.base {
            return Place::BelowBase;
        }
        if zxid == self.base {
            return Place::Held;
        }
        let index = self.recent.partition_point(|p| p.last < zxid);
        match self.recent.get(index) {
            None => Place::BehindAll,
            Some(batch) if batch.first <= zxid => Place::Held,
            Some(batch) => {
                let before = if index == 0 { self.base } else { self.recent[index - 1].last };
                Place::Between { before, behind: batch.first }
            }
        }
    }

    /// The log and the world end at `to` now. The world was made anew from the log, so it holds also what of an uncommitted
    /// tail was left; handed over again, that would be applied twice.
    pub(super) fn truncate(&mut self, to: Zxid) {
        while let Some(back) = self.recent.pop_back() {
            self.recent_txns -= txns(&back);
            self.recent_bytes -= back.records.len();
            if let Some(kept) = part(&back, Zxid::ZERO, to) {
                self.recent_txns += txns(&kept);
                self.recent_bytes += kept.records.len();
                self.recent.push_back(kept);
                break;
            }
        }
        self.base = self.base.min(to);
        self.logged = to;
        self.durable = self.durable.min(to);
        self.applied = to;
        self.committed = self.committed.min(to);
        self.established = self.established.filter(|&epoch| epoch <= to.epoch());
    }

    /// A snapshot has taken the place of everything.
    pub(super) fn install(&mut self, at: Zxid) {
        self.recent.clear();
        self.recent_txns = 0;
        self.recent_bytes = 0;
        self.base = at;
        self.logged = at;
        self.durable = at;
        self.applied = at;
        self.committed = self.committed.min(at);
        self.established = None;
    }
}

pub(super) fn txns(batch: &Proposal) -> u64 {
    batch.last.0 - batch.first.0 + 1
}

/// The records of a batch behind `after` up to `to`.
pub(super) fn part(batch: &Proposal, after: Zxid, to: Zxid) -> Option<Proposal> {
    if batch.last <= after || to < batch.first {
        return None;
    }
    if after < batch.first && batch.last <= to {
        return Some(batch.clone());
    }
    let first = if after < batch.first { batch.first } else { Zxid(after.0 + 1) };
    let last = batch.last.min(to);
    if last < first {
        return None;
    }
    let mut records = Vec::new();
    let (skip, take) = ((first.0 - batch.first.0) as usize, (last.0 - first.0 + 1) as usize);
    for entry in batch.entries().skip(skip).take(take) {
        records.extend_from_slice(&(entry.len() as u32).to_be_bytes());
        records.extend_from_slice(entry);
    }
    Some(Proposal { first, last, records: records.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(first: u64, last: u64) -> Proposal {
        let mut records = Vec::new();
        for zxid in first..=last {
            records.extend_from_slice(&8u32.to_be_bytes());
            records.extend_from_slice(&zxid.to_be_bytes());
        }
        Proposal { first: Zxid(first), last: Zxid(last), records: records.into() }
    }

    fn history(base: u64, batches: &[(u64, u64)], txns: u64) -> History {
        let mut history = History::new(Zxid(base), CacheLimits { txns, bytes: 1 << 20 });
        for &(first, last) in batches {
            history.append(batch(first, last));
        }
        history.synced(history.logged());
        history
    }

    #[test]
    fn a_batch_is_cut_at_records() {
        let whole = batch(5, 9);
        assert_eq!(part(&whole, Zxid(6), Zxid(8)), Some(batch(7, 8)));
        assert_eq!(part(&whole, Zxid(0), Zxid(20)), Some(whole.clone()));
        assert_eq!(part(&whole, Zxid(9), Zxid(20)), None);
        assert_eq!(part(&whole, Zxid(0), Zxid(4)), None);
    }

    #[test]
    fn what_leaves_the_cache_is_committed_and_applied_and_beyond_the_limit() {
        let mut history = history(0, &[(1, 2), (3, 4), (5, 6)], 3);
        history.commit(Zxid(4));
        assert_eq!(history.base(), Zxid(0));
        assert_eq!(history.take_unapplied().len(), 2);
        assert_eq!(history.base(), Zxid(2));
        history.commit(Zxid(6));
        assert_eq!(history.take_unapplied(), vec![batch(5, 6)]);
        assert_eq!(history.base(), Zxid(2));
    }

    #[test]
    fn what_the_own_disk_does_not_hold_yet_stays_in_the_cache() {
        let mut history = history(0, &[(1, 2), (3, 4)], 1);
        history.append(batch(5, 6));
        history.append(batch(7, 8));
        history.commit(Zxid(8));
        history.take_unapplied();
        assert_eq!(history.base(), Zxid(4));
        history.synced(Zxid(6));
        assert_eq!(history.base(), Zxid(6));
    }

    #[test]
    fn the_cache_is_bounded_in_bytes() {
        let mut history = History::new(Zxid(0), CacheLimits { txns: 500, bytes: 30 });
        for zxid in 1..=5 {
            history.append(batch(zxid, zxid));
        }
        history.synced(Zxid(5));
        history.commit(Zxid(5));
        history.take_unapplied();
        assert_eq!(history.base(), Zxid(3));
    }

    #[test]
    fn a_truncation_cuts_inside_a_batch_and_takes_the_marks_along() {
        let mut history = history(0, &[(1, 5), (6, 9)], 500);
        history.commit(Zxid(5));
        history.take_unapplied();
        history.truncate(Zxid(3));
        assert_eq!((history.logged(), history.applied(), history.committed()), (Zxid(3), Zxid(3), Zxid(3)));
        history.append(batch(4, 4));
        assert_eq!(history.piece(Zxid(2), Zxid(9)), Some(batch(3, 3)));
        assert_eq!(history.place(Zxid(5)), Place::BehindAll);
    }

    #[test]
    fn what_a_truncation_leaves_of_an_uncommitted_tail_is_applied_by_it() {
        let mut history = history(0, &[(1, 5), (6, 9)], 500);
        history.commit(Zxid(5));
        history.take_unapplied();
        history.truncate(Zxid(8));
        assert_eq!((history.applied(), history.committed()), (Zxid(8), Zxid(5)));
        history.commit(Zxid(8));
        assert_eq!(history.take_unapplied(), vec![]);
    }

    #[test]
    fn an_epoch_is_reported_only_when_seen_established_and_before_its_first_record() {
        let mut history = history(0, &[(1, 5)], 500);
        assert_eq!(history.reported(), Zxid(5));
        history.establish(Epoch(3));
        assert_eq!(history.reported(), Zxid::new(Epoch(3), 0));
        history.append(batch(3 << 32 | 1, 3 << 32 | 1));
        assert_eq!(history.reported(), Zxid::new(Epoch(3), 1));
    }
}
