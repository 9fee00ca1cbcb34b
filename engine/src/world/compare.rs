//! The tree's digest against those that txns and snapshots record: whether this server has computed the same tree as the
//! one that wrote them. For whoever applies decoded entries.
//! Not here: the digest itself (digest), what is done about a difference: as Apache, servers say it and go on.

use super::head::Head;
use crate::wire::txn::TxnDigest;
use ostler_replication::Zxid;

/// What was compared so far.
#[derive(Clone, Default, Debug)]
pub struct DigestCheck {
    /// While the tree is that of a snapshot which was written during changes, it is none that ever was; it is again at this
    /// zxid, with this digest.
    fuzzy_until: Option<(Zxid, TxnDigest)>,
    mismatches: u64,
    first: Option<Mismatch>,
}

/// A recorded digest that the tree does not have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mismatch {
    pub zxid: Zxid,
    pub recorded: u64,
    pub computed: u64,
}

impl DigestCheck {
    /// For the tree of a snapshot that records `digest` at a zxid.
    pub fn of_snapshot(head: &Head, recorded: Option<(Zxid, TxnDigest)>) -> DigestCheck {
        let mut check = DigestCheck::default();
        match recorded {
            Some((zxid, _)) if zxid > head.zxid() => check.fuzzy_until = recorded,
            // One of ours is exact. An older zxid, and 0, say nothing of this tree.
            Some((zxid, digest)) if zxid == head.zxid() && zxid != Zxid::ZERO => check.compare(head, digest),
            _ => {}
        }
        check
    }

    /// To be called behind each txn, with the digest that it records.
    #[inline]
    pub fn applied(&mut self, head: &Head, recorded: Option<TxnDigest>) {
        if self.fuzzy_until.is_some() {
            self.settle(head);
        } else if let Some(digest) = recorded {
            self.compare(head, digest);
        }
    }

    /// How many digests differed. After the first usually all do.
    pub fn mismatches(&self) -> u64 {
        self.mismatches
    }

    pub fn first(&self) -> Option<Mismatch> {
        self.first
    }

    #[cold]
    fn settle(&mut self, head: &Head) {
        let Some((zxid, digest)) = self.fuzzy_until else { return };
        if head.zxid() < zxid {
            return;
        }
        self.fuzzy_until = None;
        if head.zxid() == zxid {
            self.compare(head, digest);
        }
    }

    #[inline]
    fn compare(&mut self, head: &Head, digest: TxnDigest) {
        let (recorded, computed) = (digest.tree, head.digest());
        if recorded == computed || digest.version != TxnDigest::VERSION || !head.keeps_digests() {
            return;
        }
        self.mismatches += 1;
        self.first.get_or_insert(Mismatch { zxid: head.zxid(), recorded, computed });
    }
}
