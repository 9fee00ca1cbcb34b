//! What the core shows of itself: figures, and answers for four-letter words and the log.
//! Not here: how they are printed (`admin`).

use super::{Core, Duty, Space};
use crate::model::quota::QuotaText;
use crate::model::{SessionId, WallMillis};
use crate::world::Room;
use ostler_replication::Zxid;

/// Numbers for whoever watches the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Figures {
    pub sessions: usize,
    /// Proposed and not yet committed.
    pub txns_in_flight: usize,
    pub last_committed: Zxid,
    pub znodes: u64,
    pub ephemerals: u64,
    pub data_bytes: u64,
    pub snapshot_running: bool,
    /// Replaced, and kept only because something still reads it.
    pub retained_bytes: u64,
    /// Memory of znodes, that of replaced versions included.
    pub tree_bytes: u64,
    /// What is left of it.
    pub room: Room,
    /// What is left in the log, or in memory where that is less: below `Ok` new writes are refused.
    pub space: Space,
    /// Time in which this process stood still, or did not take what came, since the start.
    pub stalled_ms: u64,
    /// Sessions expired since the start.
    pub sessions_expired: u64,
    /// Requests sent to the leader and not answered yet.
    pub forwarded: usize,
    /// Txns of a leader's whose digest is not this tree's, since the start, and the last one of them.
    pub digest_mismatches: u64,
    pub digest_differs_at: Option<Zxid>,
}

/// A session that has expired.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Expired {
    pub session: SessionId,
    pub timeout_ms: u32,
    pub ephemerals: usize,
}

/// What `Core::dump` gives.
pub struct Dump {
    pub expiries: Vec<(WallMillis, Vec<SessionId>)>,
    pub ephemerals: Vec<(SessionId, Vec<String>)>,
}

impl Core {
    pub fn figures(&self) -> Figures {
        let totals = self.view.totals();
        Figures {
            sessions: self.sessions.len(),
            txns_in_flight: self.open.txns + self.sealed.iter().map(|sealed| sealed.txns).sum::<usize>(),
            last_committed: self.view.zxid(),
            znodes: totals.znodes,
            ephemerals: totals.ephemerals,
            data_bytes: totals.data_bytes,
            snapshot_running: self.snapshots.is_running(),
            retained_bytes: self.head.usage().retained,
            tree_bytes: self.head.usage().blocks,
            room: self.room,
            space: self.disk.max(self.room.into()),
            stalled_ms: self.sessions.stalled_ms(),
            sessions_expired: self.sessions_expired,
            forwarded: self.learning.len(),
            digest_mismatches: self.digest_mismatches,
            digest_differs_at: self.digest_differs_at,
        }
    }

    /// Sessions by the wall time at which they are due, and the ephemerals of each owner: for the word `dump`.
    pub fn dump(&self) -> Dump {
        let ephemerals = |(owner, _)| (owner, self.head.ephemerals(owner).collect());
        Dump {
            // Only who leads knows when.
            expiries: if self.duty == Duty::Lead { self.sessions.expiries(self.now) } else { Vec::new() },
            ephemerals: self.head.owners().map(ephemerals).collect(),
        }
    }

    /// Every quota: its path, limits and usage. For the word `mntr`.
    pub fn quotas(&self) -> Vec<(String, QuotaText, QuotaText)> {
        self.head.quotas().map(|quota| (quota.path.to_owned(), quota.limits, quota.usage)).collect()
    }

    /// Writes refused by a hard quota since the start, by the first component of the path. For the word `mntr`.
    pub fn quota_refusals(&self) -> Vec<(String, u64)> {
        self.quota_refusals.counts()
    }

    /// Sessions that expired since the last call, for the log; a large crowd is told in part.
    pub fn take_expired(&mut self) -> Vec<Expired> {
        std::mem::take(&mut self.expired)
    }

    /// Tree digests at committed zxids, one per `limits::DIGEST_TXNS_STEP`, oldest first: for the word `hash`.
    pub fn digests(&self) -> Vec<(Zxid, u64)> {
        let committed = self.view.zxid();
        self.digests.iter().copied().filter(|(zxid, _)| *zxid <= committed).collect()
    }
}
