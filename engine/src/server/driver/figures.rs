//! The core's figures where other threads can read them.

use crate::core::Figures;
use crate::world::Room;
use ostler_replication::Zxid;
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
}

impl SharedFigures {
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
            // Counted where the registry's counters are.
            sessions_expired: 0,
            forwarded: 0,
            digest_mismatches: 0,
            digest_differs_at: None,
        }
    }
}
