//! How a learner is brought in step: one pure function of where its zxid stands in the leader's history.
//! The table is Apache's (LearnerHandler.syncFollower), with its known holes closed. Not here: sending.

use super::history::{History, Place};
use crate::mutants::{Mutant, planted};
use crate::{Epoch, Zxid};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Plan {
    /// What the learner holds is a beginning of our history: send what stands behind this zxid.
    Diff { after: Zxid },
    /// The learner holds more than we do: it is to cut down to this record, and is sent what stands behind.
    Trunc { to: Zxid },
    /// Its whole world is replaced.
    Snap,
    /// Only the log on disk can tell.
    AskDisk,
    /// Whoever holds this must not follow us.
    Refuse,
}

/// `peer`: the zxid of its ACKEPOCH, `None` when it says that its history is not to be trusted. `end`: the last zxid of
/// our history that learners get with its COMMIT. `epoch`: ours.
pub(super) fn plan(history: &History, end: Zxid, epoch: Epoch, peer: Option<Zxid>) -> Plan {
    let Some(peer) = peer else {
        return Plan::Snap;
    };
    if epoch < peer.epoch() {
        return Plan::Refuse;
    }
    if peer == end || peer == history.reported() {
        return Plan::Diff { after: peer };
    }
    let is_epoch_start = peer.counter() == 0;
    if end < peer {
        if planted(Mutant::KeepsADeposedLeadersTail) {
            return Plan::Diff { after: peer };
        }
        let is_outstanding = peer.epoch() == epoch && peer <= history.logged() && !is_epoch_start;
        if is_outstanding && !planted(Mutant::TruncatesOutstanding) {
            // Proposed by this leader, logged by the learner, not committed yet. Cutting it off would take away a copy
            // that may be counted already, and the acknowledgement that died with the last link is never sent again:
            // the learner keeps it, it counts with the ACK of NEWLEADER, and UPTODATE waits until it is committed.
            return Plan::Diff { after: peer };
        }
        return if is_epoch_start { Plan::Snap } else { cut(end) };
    }
    match history.place(peer) {
        Place::BelowBase if peer == Zxid::ZERO && planted(Mutant::GivesABlankLearnerPartOfHistory) => {
            Plan::Diff { after: history.base() }
        }
        Place::BelowBase => Plan::AskDisk,
        Place::Held => Plan::Diff { after: peer },
        Place::Between { .. } if is_epoch_start => Plan::Diff { after: peer },
        Place::Between { before, behind } => between(before, behind, peer),
        Place::BehindAll => Plan::Snap,
    }
}

/// What the disk's answer means for a learner at `peer`: `from` is the last zxid at or before it that our history holds.
pub(super) fn plan_from_disk(from: Option<Zxid>, peer: Zxid) -> Plan {
    match from {
        Some(from) if from == peer => Plan::Diff { after: peer },
        Some(from) if from < peer && peer.counter() == 0 && from != Zxid::ZERO => Plan::Diff { after: peer },
        // Its epoch goes on differently here, and both have the part up to `from`.
        Some(from) if from < peer && from.epoch() == peer.epoch() => cut(from),
        _ => Plan::Snap,
    }
}

/// A record of the epoch of `peer` on either side proves that this epoch stood on a beginning of our history, so that the
/// learner holds `before`. Apache sends SNAP when `behind` is of another epoch; a learner cuts just as well there,
/// and this is the deposed leader's case.
fn between(before: Zxid, behind: Zxid, peer: Zxid) -> Plan {
    let is_shared = before.epoch() == peer.epoch() || behind.epoch() == peer.epoch();
    if is_shared { cut(before) } else { Plan::Snap }
}

/// Only a real record can be cut at: an Apache follower told TRUNC((e,0)) keeps (e,1) in log and tree.
fn cut(to: Zxid) -> Plan {
    if to.counter() > 1 && planted(Mutant::TruncatesTooMuch) {
        return Plan::Trunc { to: Zxid(to.0 - 1) };
    }
    if to.counter() == 0 { Plan::Snap } else { Plan::Trunc { to } }
}

#[cfg(test)]
mod tests {
    use super::super::history::CacheLimits;
    use super::*;
    use crate::Proposal;

    fn z(epoch: u32, counter: u32) -> Zxid {
        Zxid::new(Epoch(epoch), counter)
    }

    /// Epoch 1 from 4 to 9 and epoch 3 from 1 to 6 in memory, up to (3,4) committed; the disk holds what is before.
    fn check(peer: Option<Zxid>, expected: Plan) {
        let mut history = History::new(z(1, 3), CacheLimits { txns: 500, bytes: 1 << 20 });
        for (first, last) in [(z(1, 4), z(1, 9)), (z(3, 1), z(3, 4)), (z(3, 5), z(3, 6))] {
            let records = (first.0..=last.0).flat_map(|_| 0u32.to_be_bytes()).collect::<Vec<u8>>();
            history.append(Proposal { first, last, records: records.into() });
        }
        history.establish(Epoch(3));
        history.commit(z(3, 4));
        assert_eq!(plan(&history, z(3, 4), Epoch(3), peer), expected, "{peer:?}");
    }

    #[test]
    fn the_learners_zxid_decides() {
        check(Some(z(3, 4)), Plan::Diff { after: z(3, 4) });
        check(Some(z(1, 5)), Plan::Diff { after: z(1, 5) });
        check(Some(z(1, 3)), Plan::Diff { after: z(1, 3) });
        check(Some(z(3, 0)), Plan::Diff { after: z(3, 0) });
        check(Some(z(2, 0)), Plan::Diff { after: z(2, 0) });
        check(Some(z(1, 2)), Plan::AskDisk);
        check(Some(Zxid::ZERO), Plan::AskDisk);
        check(Some(z(1, 12)), Plan::Trunc { to: z(1, 9) });
        check(Some(z(2, 5)), Plan::Snap);
        check(None, Plan::Snap);
    }

    #[test]
    fn what_this_leader_proposed_is_never_cut_off() {
        check(Some(z(3, 5)), Plan::Diff { after: z(3, 5) });
        check(Some(z(3, 6)), Plan::Diff { after: z(3, 6) });
        check(Some(z(3, 9)), Plan::Trunc { to: z(3, 4) });
    }

    #[test]
    fn who_comes_from_a_later_epoch_is_refused() {
        check(Some(z(4, 1)), Plan::Refuse);
        check(Some(z(4, 0)), Plan::Refuse);
    }

    #[test]
    fn the_disk_tells_about_a_learner_far_behind() {
        assert_eq!(plan_from_disk(Some(z(1, 2)), z(1, 2)), Plan::Diff { after: z(1, 2) });
        assert_eq!(plan_from_disk(Some(z(1, 2)), z(1, 7)), Plan::Trunc { to: z(1, 2) });
        assert_eq!(plan_from_disk(Some(z(1, 2)), z(2, 7)), Plan::Snap);
        assert_eq!(plan_from_disk(Some(z(1, 2)), z(2, 0)), Plan::Diff { after: z(2, 0) });
        assert_eq!(plan_from_disk(None, z(1, 2)), Plan::Snap);
    }

    #[test]
    fn nothing_is_cut_at_the_start_of_an_epoch() {
        let history = History::new(z(2, 0), CacheLimits { txns: 500, bytes: 1 << 20 });
        assert_eq!(plan(&history, z(2, 0), Epoch(3), Some(z(2, 1))), Plan::Snap);
    }
}
