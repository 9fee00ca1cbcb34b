//! Pages behind the memory that a restore or a replay is about to fill, put there by another thread: to clear them costs
//! about as much as to plant the znodes. Not here: the memory itself (arena), the threads (snapshot, log).

use super::arena::Region;
use super::view::Shared;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Blocks, index and node table, and the part of a snapshot's bytes that becomes each: a little more than in production
/// shape, where 237 bytes become 92, 12 and 4. A create has about as many in the log.
const SHARES: [usize; 3] = [2, 16, 56];
/// What has fewer bytes is small: its pages come as they are touched. Of a larger one as much is taken for received
/// before it is, so that backing begins ahead. What has been received says how much more may come, not how much it is:
/// znodes with shorter paths than these fill more.
const SNAPSHOT_BYTES_LEAST: u64 = 8 << 20;
/// Bytes backed ahead of what is filled, at most. What is left of them in the end goes back.
const LEAD_BYTES: usize = 32 << 20;
/// Pages come in this size where the system has it.
const PAGE_BYTES: usize = 2 << 20;

/// How far each region is filled, which the filling thread says, and how far it is backed, in bytes.
#[derive(Default)]
pub struct Marks {
    filled: [AtomicUsize; 3],
    backed: [AtomicUsize; 3],
}

/// Backs the memory of one world while a `Restorer` or a replay fills it; works on any thread.
pub struct PagesAhead {
    shared: Arc<Shared>,
    marks: Arc<Marks>,
}

fn regions(shared: &Shared) -> [&Region; 3] {
    [shared.memory.region(), shared.index.region(), shared.nodes.region()]
}

impl Marks {
    #[inline]
    pub(super) fn fill(&self, blocks: usize, index: usize, nodes: usize) {
        for (mark, bytes) in self.filled.iter().zip([blocks, index, nodes]) {
            mark.store(bytes, Ordering::Relaxed);
        }
    }

    /// Gives back what was backed and not filled. Nobody backs any more.
    pub(super) fn give_back(&self, shared: &Shared) {
        for (at, region) in regions(shared).into_iter().enumerate() {
            let filled = self.filled[at].load(Ordering::Relaxed).next_multiple_of(PAGE_BYTES);
            let backed = self.backed[at].swap(0, Ordering::Relaxed);
            if backed > filled {
                region.discard(filled, backed - filled);
            }
        }
    }
}

impl PagesAhead {
    pub(super) fn new(shared: Arc<Shared>, marks: Arc<Marks>) -> PagesAhead {
        PagesAhead { shared, marks }
    }

    /// To be called again and again with the bytes of the snapshot, uncompressed, that have been received so far; or with
    /// those of creates in the log.
    pub fn back(&mut self, received: u64) {
        if received < SNAPSHOT_BYTES_LEAST {
            return;
        }
        let received = usize::try_from(received.saturating_add(SNAPSHOT_BYTES_LEAST)).unwrap_or(usize::MAX);
        for (at, region) in regions(&self.shared).into_iter().enumerate() {
            let filled = self.marks.filled[at].load(Ordering::Relaxed);
            let wanted = filled.saturating_add((received / SHARES[at]).min(LEAD_BYTES)).min(region.bytes());
            let from = self.marks.backed[at].load(Ordering::Relaxed).max(filled) / PAGE_BYTES * PAGE_BYTES;
            let to = wanted / PAGE_BYTES * PAGE_BYTES;
            if to > from {
                region.populate(from, to - from);
                self.marks.backed[at].store(to, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::arena::Handle;
    use super::super::hash::HashKey;
    use super::super::record::NodeId;
    use super::*;

    #[test]
    fn what_is_backed_and_not_filled_goes_back_and_what_is_filled_stays() {
        let shared = Arc::new(Shared::new(HashKey::new([1, 2])));
        let marks = Arc::new(Marks::default());
        let mut pages = PagesAhead::new(Arc::clone(&shared), Arc::clone(&marks));
        let backed = || marks.backed[2].load(Ordering::Relaxed);
        pages.back(SNAPSHOT_BYTES_LEAST - 1);
        assert_eq!(backed(), 0, "a small tree backs nothing");
        if cfg!(miri) {
            return;
        }
        pages.back(56 * (9 << 20) - SNAPSHOT_BYTES_LEAST);
        assert_eq!(backed(), 8 << 20);
        pages.back(1 << 40);
        assert_eq!(backed(), LEAD_BYTES);
        let filled = 9 << 20;
        let ids = [NodeId(1), NodeId(filled / 4 - 1)];
        ids.iter().for_each(|id| shared.nodes.publish(*id, Handle(7)));
        marks.fill(0, 0, filled as usize);
        marks.give_back(&shared);
        assert!(ids.iter().all(|id| shared.nodes.newest(*id) == Handle(7)));
        assert!(shared.nodes.newest(NodeId(filled / 4)).is_none());
        pages.back(1 << 40);
        assert_eq!(backed(), filled as usize / PAGE_BYTES * PAGE_BYTES + LEAD_BYTES);
    }
}
