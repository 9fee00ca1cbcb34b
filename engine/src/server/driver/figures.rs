//! The core's figures where other threads can read them.

use crate::admin::StateFacts;
use crate::core::{Figures, Space};
use crate::world::Room;
use ostler_replication::{Moment, Zxid};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Each is right by itself; they need not fit each other.
#[derive(Default)]
pub struct SharedFigures {
    sessions: AtomicU64,
    txns_in_flight: AtomicU64,
    last_committed: AtomicU64,
    znodes: AtomicU64,
    ephemerals: AtomicU64,
    data_bytes: AtomicU64,
    snapshot_running: AtomicBool,
    retained_bytes: AtomicU64,
    tree_bytes: AtomicU64,
    refuses_writes: AtomicBool,
    tree_is_full: AtomicBool,
    stalled_ms: AtomicU64,
    /// When the core's last turn ended, and when the oldest txn that is not durable yet was handed to the log: monotonic
    /// nanoseconds, 0 = never, none.
    turned_at: AtomicU64,
    log_waits_since: AtomicU64,
}

impl SharedFigures {
    /// A turn of the core ends.
    pub(super) fn turned(&self, now: Moment, oldest_in_log: Option<Moment>) {
        self.turned_at.store(now.0.max(1), Ordering::Relaxed);
        self.log_waits_since.store(oldest_in_log.map_or(0, |since| since.0.max(1)), Ordering::Relaxed);
    }

    /// What tells whether the server can do what it is there for, without asking the core, which may stand still. The disk's
    /// room and the role are for others to say.
    pub fn state(&self, now: Moment) -> StateFacts {
        let ms_since = |at: &AtomicU64| match at.load(Ordering::Relaxed) {
            0 => 0,
            at => now.0.saturating_sub(at) / 1_000_000,
        };
        StateFacts {
            refuses_writes: self.refuses_writes.load(Ordering::Relaxed),
            tree_is_full: self.tree_is_full.load(Ordering::Relaxed),
            tree_bytes: self.tree_bytes.load(Ordering::Relaxed),
            log_waiting_ms: ms_since(&self.log_waits_since),
            silent_ms: ms_since(&self.turned_at),
            stalled_ms: self.stalled_ms.load(Ordering::Relaxed),
            ..StateFacts::default()
        }
    }

    pub(super) fn store(&self, figures: Figures) {
        self.sessions.store(figures.sessions as u64, Ordering::Relaxed);
        self.txns_in_flight.store(figures.txns_in_flight as u64, Ordering::Relaxed);
        self.last_committed.store(figures.last_committed.0, Ordering::Relaxed);
        self.znodes.store(figures.znodes, Ordering::Relaxed);
        self.ephemerals.store(figures.ephemerals, Ordering::Relaxed);
        self.data_bytes.store(figures.data_bytes, Ordering::Relaxed);
        self.snapshot_running.store(figures.snapshot_running, Ordering::Relaxed);
        self.retained_bytes.store(figures.retained_bytes, Ordering::Relaxed);
        self.tree_bytes.store(figures.tree_bytes, Ordering::Relaxed);
        self.refuses_writes.store(figures.space != Space::Ok, Ordering::Relaxed);
        self.tree_is_full.store(figures.room != Room::Ample, Ordering::Relaxed);
        self.stalled_ms.store(figures.stalled_ms, Ordering::Relaxed);
    }

    /// Memory kept only because something still reads it.
    pub(super) fn retained_bytes(&self) -> u64 {
        self.retained_bytes.load(Ordering::Relaxed)
    }

    pub fn load(&self) -> Figures {
        Figures {
            sessions: self.sessions.load(Ordering::Relaxed) as usize,
            txns_in_flight: self.txns_in_flight.load(Ordering::Relaxed) as usize,
            last_committed: Zxid(self.last_committed.load(Ordering::Relaxed)),
            znodes: self.znodes.load(Ordering::Relaxed),
            ephemerals: self.ephemerals.load(Ordering::Relaxed),
            data_bytes: self.data_bytes.load(Ordering::Relaxed),
            snapshot_running: self.snapshot_running.load(Ordering::Relaxed),
            retained_bytes: self.retained_bytes.load(Ordering::Relaxed),
            tree_bytes: self.tree_bytes.load(Ordering::Relaxed),
            // Of no use to others: the driver says it in the log.
            room: Room::Ample,
            space: Space::Ok,
            stalled_ms: self.stalled_ms.load(Ordering::Relaxed),
            // Counted where the registry's counters are.
            sessions_expired: 0,
            forwarded: 0,
            digest_mismatches: 0,
            digest_differs_at: None,
        }
    }
}
