//! The open batch: txns as wire entries, and what they and the requests between them bring the workers.
//! Not here: deciding (core), when to seal, the log, the ring.
//!
//! Outcomes stand in the order in which the requests were taken, whether a txn answers them or not, so one session's
//! replies never overtake each other.

use crate::model::{ErrorCode, Xid};
use crate::ring::{After, Batch, ConnRef, Outcome};
use crate::wire::reply;
use crate::world::Changes;
use ostler_replication::{Link, Moment, Proposal, Zxid};
use std::collections::HashSet;
use std::sync::Arc;

#[derive(Default)]
pub(super) struct Open {
    /// Counts batches.
    pub number: u64,
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
    /// Those of the outcomes, by place, that no txn brought about: see `loosen`.
    loose: Vec<u32>,
    /// It answers a sync: it is shown behind a barrier.
    pub has_sync: bool,
    /// Learners whose syncs it answers, in order.
    pub synced: Vec<Link>,
}

impl Open {
    /// The next batch, when nothing of this one counts.
    pub fn successor(&self) -> Open {
        Open { number: self.number + 1, ..Open::default() }
    }

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

    /// Nothing is in it.
    pub fn is_blank(&self) -> bool {
        self.txns == 0 && self.outcomes.is_empty()
    }

    pub fn entry_bytes(&self) -> usize {
        self.entries.len()
    }

    /// The txns, for the broadcast; what is left is for the workers.
    pub fn take_proposal(&mut self) -> Proposal {
        assert!(self.txns > 0);
        self.txns = 0;
        Proposal { first: self.first, last: self.last, records: Arc::new(take(&mut self.entries)) }
    }

    /// What the workers learn.
    pub fn take_batch(&mut self) -> Batch {
        assert_eq!(self.txns, 0, "txns go first");
        self.loose.clear();
        self.number += 1;
        let text = String::with_capacity(self.changes.text.len());
        let text = std::mem::replace(&mut self.changes.text, text);
        Batch {
            changes: Changes { list: take(&mut self.changes.list), text },
            outcomes: take(&mut self.outcomes),
            frames: take(&mut self.frames),
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

    /// The outcome just added tells nothing of any txn, so it is as right at any other zxid.
    pub fn loosen(&mut self) {
        self.loose.push(self.outcomes.len() as u32 - 1);
    }

    /// What can be told although no batch is committed: loose outcomes with nothing of their connection before them, be
    /// it here or in what is sealed (`waiting`). They say `at`, the committed zxid, instead of the one they were made at.
    pub fn take_loose(&mut self, mut waiting: HashSet<ConnRef>, at: Zxid) -> Option<Batch> {
        let mut loose = std::mem::take(&mut self.loose).into_iter().peekable();
        loose.peek()?;
        let frames = std::mem::take(&mut self.frames);
        let (mut told, mut told_frames) = (Vec::new(), Vec::new());
        for (place, mut outcome) in std::mem::take(&mut self.outcomes).into_iter().enumerate() {
            let is_loose = loose.next_if_eq(&(place as u32)).is_some();
            let frame = &frames[outcome.frame.start as usize..outcome.frame.end as usize];
            let goes = is_loose && !waiting.contains(&outcome.to);
            let (outcomes, frames) = match goes {
                true => (&mut told, &mut told_frames),
                false => (&mut self.outcomes, &mut self.frames),
            };
            let start = frames.len();
            frames.extend_from_slice(frame);
            outcome.frame = start as u32..frames.len() as u32;
            if goes {
                restamp(&mut frames[start..], &outcome, at);
                outcome.zxid = at;
            } else {
                waiting.insert(outcome.to);
                if is_loose {
                    self.loose.push(outcomes.len() as u32);
                }
            }
            outcomes.push(outcome);
        }
        let batch = Batch { changes: Changes::default(), outcomes: told, frames: told_frames };
        (!batch.outcomes.is_empty()).then_some(batch)
    }
}

/// Leaves a buffer with room for as much again: the next batch is likely to be as large, and growing into it from nothing
/// would copy each byte about once more.
fn take<T>(buffer: &mut Vec<T>) -> Vec<T> {
    let room = buffer.len();
    std::mem::replace(buffer, Vec::with_capacity(room))
}

/// Puts another zxid into a reply's header, if it has the outcome's. A connect response has no header.
fn restamp(frame: &mut [u8], outcome: &Outcome, at: Zxid) {
    let is_handshake = matches!(outcome.then, After::Established { .. });
    if !is_handshake
        && let Some(header) = frame.get_mut(4..20)
        && header[..4] == outcome.xid.0.to_be_bytes()
        && header[4..12] == outcome.zxid.0.to_be_bytes()
    {
        header[4..12].copy_from_slice(&at.0.to_be_bytes());
    }
}
