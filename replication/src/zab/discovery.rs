//! DISCOVERY: which epoch a new leader opens, and who may promise it. Pure decisions of both sides.
//! Not here: packets on links, files.

use crate::mutants::{Mutant, planted};
use crate::{Epoch, Zxid};

/// Epochs are signed on the wire and on disk.
pub(super) const EPOCH_LAST: u32 = i32::MAX as u32;

/// How recent a history is: the later epoch wins, then the longer history.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Standing {
    pub(super) current: Epoch,
    pub(super) zxid: Zxid,
}

/// The epoch to open: above everything that this server and those connected have promised. `None` when epochs are spent.
pub(super) fn next_epoch(own: Epoch, promised: impl Iterator<Item = Epoch>) -> Option<Epoch> {
    let highest = promised.fold(own, Epoch::max);
    (highest.0 < EPOCH_LAST).then(|| Epoch(highest.0 + 1))
}

/// What a learner answers to LEADERINFO.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Offer {
    /// Promise it, durably, then say so.
    New,
    /// Promised before, maybe in another election: the answer does not count.
    Repeated,
    /// Something later was promised.
    Stale,
}

pub(super) fn weigh(accepted: Epoch, offered: Epoch) -> Offer {
    match offered.cmp(&accepted) {
        std::cmp::Ordering::Greater => Offer::New,
        std::cmp::Ordering::Equal => Offer::Repeated,
        std::cmp::Ordering::Less if planted(Mutant::FollowsAStaleEpoch) => Offer::Repeated,
        std::cmp::Ordering::Less => Offer::Stale,
    }
}

/// An ACKEPOCH, read.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct EpochAck {
    /// `None`: had been promised before, does not count.
    pub(super) current: Option<Epoch>,
    /// `None`: the learner's history is not to be trusted; it neither counts nor is anything of it kept.
    pub(super) zxid: Option<Zxid>,
}

impl EpochAck {
    pub(super) fn read(zxid: i64, current: i32) -> Result<EpochAck, String> {
        let current = match current {
            -1 => None,
            0.. => Some(Epoch(current as u32)),
            _ => return Err(format!("ACKEPOCH names the epoch {current}")),
        };
        let zxid = match zxid {
            -1 => None,
            0.. => Some(Zxid::from_wire(zxid)),
            _ => return Err(format!("ACKEPOCH names the zxid {zxid}")),
        };
        Ok(EpochAck { current, zxid })
    }

    /// A quorum must not form around a leader that lacks what one of its members has.
    pub(super) fn is_more_recent_than(&self, leader: Standing) -> bool {
        match (self.current, self.zxid) {
            (Some(current), Some(zxid)) => leader < Standing { current, zxid },
            (Some(current), None) => leader.current < current,
            (None, _) => false,
        }
    }

    pub(super) fn counts(&self) -> bool {
        let is_new = self.current.is_some() || planted(Mutant::CountsARepeatedPromise);
        is_new && self.zxid.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_new_epoch_is_above_every_promise() {
        assert_eq!(next_epoch(Epoch(4), [].into_iter()), Some(Epoch(5)));
        assert_eq!(next_epoch(Epoch(4), [Epoch(7), Epoch(2)].into_iter()), Some(Epoch(8)));
        assert_eq!(next_epoch(Epoch(4), [Epoch(EPOCH_LAST)].into_iter()), None);
    }

    #[test]
    fn an_epoch_is_promised_once() {
        assert_eq!(weigh(Epoch(4), Epoch(5)), Offer::New);
        assert_eq!(weigh(Epoch(5), Epoch(5)), Offer::Repeated);
        assert_eq!(weigh(Epoch(6), Epoch(5)), Offer::Stale);
    }

    #[test]
    fn an_ack_epoch_counts_when_epoch_and_history_do() {
        let leader = Standing { current: Epoch(2), zxid: Zxid(0x2_0000_0005) };
        let read = |zxid, epoch| EpochAck::read(zxid, epoch).unwrap();
        assert!(read(0x2_0000_0006, 2).is_more_recent_than(leader));
        assert!(!read(0x2_0000_0005, 2).is_more_recent_than(leader));
        assert!(read(0x1_0000_0009, 3).is_more_recent_than(leader));
        assert!(!read(0x9_0000_0009, -1).is_more_recent_than(leader));
        assert!(read(5, 0).counts());
        assert!(!read(5, -1).counts());
        assert!(!read(-1, 2).counts());
        assert!(EpochAck::read(-2, 0).is_err());
        assert!(EpochAck::read(0, -2).is_err());
    }
}
