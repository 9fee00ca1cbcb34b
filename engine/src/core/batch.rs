//! The open batch: txns as wire entries, and what they and the requests between them bring the workers.
//! Not here: deciding (core), when to seal, the log, the ring.
//!
//! Outcomes stand in the order in which the requests were taken, whether a txn answers them or not, so one session's
//! replies never overtake each other.

use crate::model::{ErrorCode, Xid};
use crate::ring::{After, Batch, ConnRef, Outcome};
use crate::wire::reply;
use crate::world::Changes;
use ostler_replication::{Moment, Proposal, Zxid};

#[derive(Default)]
pub(super) struct Open {
    /// Each behind its length as a big-endian `u32`, as `Proposal` wants them.
    entries: Vec<u8>,
    pub txns: usize,
    /// When the first and the last txn came.
    pub since: Moment,
    pub last_entry: Moment,
    first: Zxid,
    last: Zxid,
    pub changes: Changes,
    pub outcomes: Vec<Outcome>,
    pub frames: Vec<u8>,
}

impl Open {
    pub fn push_entry(&mut self, zxid: Zxid, entry: &[u8], now: Moment) {
        if self.txns == 0 {
            self.first = zxid;
            self.since = now;
        }
        assert!(self.txns == 0 || self.last < zxid, "zxids ascend");
        self.last = zxid;
        self.last_entry = now;
        self.txns += 1;
        let length = u32::try_from(entry.len()).expect("an entry is less than 2 GiB");
        self.entries.extend_from_slice(&length.to_be_bytes());
        self.entries.extend_from_slice(entry);
    }

    /// What the txns take in the log, and what the replies take in the ring.
    pub fn bytes(&self) -> usize {
        self.entries.len().max(self.frames.len())
    }

    pub fn entry_bytes(&self) -> usize {
        self.entries.len()
    }

    /// The txns, for the broadcast; what is left is for the workers.
    pub fn take_proposal(&mut self) -> Proposal {
        assert!(self.txns > 0);
        self.txns = 0;
        Proposal { first: self.first, last: self.last, records: std::mem::take(&mut self.entries).into() }
    }

    /// What the workers learn.
    pub fn take_batch(&mut self) -> Batch {
        assert_eq!(self.txns, 0, "txns go first");
        Batch {
            changes: std::mem::take(&mut self.changes),
            outcomes: std::mem::take(&mut self.outcomes),
            frames: std::mem::take(&mut self.frames),
        }
    }

    /// Adds a reply whose frame `encode` appends.
    pub fn reply(
        &mut self,
        to: ConnRef,
        zxid: Zxid,
        xid: Xid,
        then: After,
        encode: impl FnOnce(&mut Vec<u8>),
    ) {
        let start = self.frames.len() as u32;
        encode(&mut self.frames);
        let end = u32::try_from(self.frames.len()).expect("the frames of a batch are far from 4 GiB");
        self.outcomes.push(Outcome { to, zxid, xid, frame: start..end, then });
    }

    /// A reply that is only its header.
    pub fn bare(&mut self, to: ConnRef, zxid: Zxid, xid: Xid, error: ErrorCode, then: After) {
        self.reply(to, zxid, xid, then, |out| reply::frame_bare(out, xid, zxid, error));
    }

    /// Something for the worker to do that sends nothing.
    pub fn quiet(&mut self, to: ConnRef, zxid: Zxid, then: After) {
        let at = self.frames.len() as u32;
        self.outcomes.push(Outcome { to, zxid, xid: Xid(0), frame: at..at, then });
    }
}
