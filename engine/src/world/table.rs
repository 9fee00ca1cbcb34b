//! The tables that readers index by number: newest record of each znode, client sessions, ACLs.
//! Not here: finding a number (index, interning), and when numbers are used again (retire).
//!
//! # Who runs at once
//! The writer stores with release what it has completed before; readers load with acquire. Each entry is one atomic
//! word, except for sessions, whose four words are read like a sequence lock (see `Sessions`).

use super::arena::{Handle, Region};
use super::record::{AclId, NodeId};
use crate::model::acl::{Networks, permits};
use crate::model::{Acl, Identity, Schemes, SessionId};
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicPtr, AtomicU32, AtomicU64, Ordering, fence};

const NODES_MAX: usize = if cfg!(miri) { 1 << 16 } else { 1 << 30 };
pub(super) const ACLS_MAX: usize = if cfg!(miri) { 1 << 10 } else { 1 << 26 };
pub(super) const SESSIONS_MAX: usize = if cfg!(miri) { 1 << 10 } else { 1 << 26 };

/// An array of atomics in reserved memory; all zero at first.
pub(super) struct Array<T> {
    region: Region,
    kind: std::marker::PhantomData<T>,
}

/// Types for which zeroed memory is a valid value and which threads may share.
///
/// # Safety
/// All-zero bytes are a valid value, no destructor, `Sync`, alignment at most 4096.
pub(super) unsafe trait Zeroed: Sync {}
// SAFETY: plain atomics.
unsafe impl Zeroed for AtomicU32 {}
// SAFETY: plain atomics.
unsafe impl Zeroed for AtomicU64 {}
// SAFETY: an atomic, and null is valid.
unsafe impl Zeroed for AtomicPtr<AclList> {}
// SAFETY: made of plain atomics.
unsafe impl Zeroed for SessionSlot {}

impl<T: Zeroed> Array<T> {
    pub(super) fn new(length: usize) -> Array<T> {
        Array { region: Region::reserve(length * size_of::<T>()), kind: std::marker::PhantomData }
    }

    #[inline]
    pub(super) fn at(&self, index: usize) -> &T {
        // SAFETY: `Region::at` checks the bound (regions are whole numbers of T), the base is aligned to a page, zeroed
        // memory is a valid T, and only shared references to it are ever made.
        unsafe { &*self.region.at(index * size_of::<T>()).cast::<T>() }
    }

    /// Fetches the entry's cache line without waiting for it.
    #[inline]
    pub(super) fn prefetch(&self, index: usize) {
        prefetch(self.region.at(index * size_of::<T>()));
    }
}

/// What one `prefetch` fetches.
pub(super) const CACHE_LINE_BYTES: usize = 64;

#[inline(always)]
pub(crate) fn prefetch(at: *const u8) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a prefetch reads nothing and cannot fault.
    unsafe {
        std::arch::x86_64::_mm_prefetch(at.cast(), std::arch::x86_64::_MM_HINT_T0)
    };
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = at;
}

/// Newest record of each znode id. Entry 0 is not used; an entry without a znode is `NONE`.
pub(super) struct Nodes(Array<AtomicU32>);

impl Nodes {
    pub(super) fn new() -> Nodes {
        Nodes(Array::new(NODES_MAX))
    }

    pub(super) fn region(&self) -> &Region {
        &self.0.region
    }

    /// Bytes of the entries of all ids below this one.
    #[inline]
    pub(super) fn bytes_below(id: u32) -> usize {
        id as usize * size_of::<AtomicU32>()
    }

    #[inline]
    pub(super) fn newest(&self, id: NodeId) -> Handle {
        Handle(self.0.at(id.0 as usize).load(Ordering::Acquire))
    }

    /// `None` for an id that no znode has, and for one that no znode can have.
    pub(super) fn newest_if_any(&self, id: NodeId) -> Option<Handle> {
        (id.0 < Nodes::capacity()).then(|| self.newest(id)).filter(|handle| !handle.is_none())
    }

    /// Publishes a complete record.
    pub(super) fn publish(&self, id: NodeId, record: Handle) {
        self.0.at(id.0 as usize).store(record.0, Ordering::Release);
    }

    #[inline]
    pub(super) fn prefetch(&self, id: NodeId) {
        self.0.prefetch(id.0 as usize);
    }

    pub(super) fn capacity() -> u32 {
        NODES_MAX as u32
    }
}

/// One ACL: its stored form and what it says.
pub struct AclList {
    /// As txns and snapshots carry it: a jute vector of ACLs.
    pub bytes: Box<[u8]>,
    pub list: Box<[Acl]>,
    pub networks: Networks,
    /// world:anyone may do everything: no check is needed.
    pub is_open: bool,
}

impl AclList {
    /// Whether somebody with these ids may do any of `wanted`.
    pub fn permits(&self, wanted: i32, ids: &[Identity], schemes: &Schemes) -> bool {
        permits(&self.list, &self.networks, wanted, ids, schemes)
    }
}

/// ACLs by id. An entry is unpublished first and dropped when every View of that time is gone (retire.rs).
pub(super) struct Acls {
    entries: Array<AtomicPtr<AclList>>,
    /// Ids ever used.
    length: AtomicU32,
}

impl Acls {
    pub(super) fn new() -> Acls {
        Acls { entries: Array::new(ACLS_MAX), length: AtomicU32::new(0) }
    }

    #[inline]
    pub(super) fn get(&self, id: AclId) -> Option<&AclList> {
        if id.0 >= self.length.load(Ordering::Acquire) {
            return None;
        }
        // SAFETY: a published entry was complete before the release-store of its address, and outlives every View that
        // was alive when it was unpublished; the caller holds such a View, or is the writer.
        unsafe { self.entries.at(id.0 as usize).load(Ordering::Acquire).as_ref() }
    }

    pub(super) fn publish(&self, id: AclId, entry: Box<AclList>) {
        assert!((id.0 as usize) < ACLS_MAX, "more ACLs than {ACLS_MAX}");
        let old = self.entries.at(id.0 as usize).swap(Box::into_raw(entry), Ordering::AcqRel);
        assert!(old.is_null(), "{id:?} is taken");
        if self.length.load(Ordering::Relaxed) <= id.0 {
            self.length.store(id.0 + 1, Ordering::Release);
        }
    }

    /// Takes the entry out of the readers' sight. `Unpublished` drops it.
    pub(super) fn unpublish(&self, id: AclId) -> Unpublished {
        let old = self.entries.at(id.0 as usize).swap(std::ptr::null_mut(), Ordering::AcqRel);
        assert!(!old.is_null(), "{id:?} was not there");
        Unpublished(old)
    }

    /// Every entry there is; some of them no View may name any more.
    pub(super) fn iter(&self) -> impl Iterator<Item = (AclId, &AclList)> {
        (0..self.length.load(Ordering::Acquire)).filter_map(|id| Some((AclId(id), self.get(AclId(id))?)))
    }
}

impl Drop for Acls {
    fn drop(&mut self) {
        for id in 0..*self.length.get_mut() {
            let old = self.entries.at(id as usize).swap(std::ptr::null_mut(), Ordering::Relaxed);
            if !old.is_null() {
                drop(Unpublished(old));
            }
        }
    }
}

/// An ACL that new readers cannot find any more. To be kept until the old ones are gone, then dropped.
pub(super) struct Unpublished(*mut AclList);

// SAFETY: it owns the entry, and entries are Send.
unsafe impl Send for Unpublished {}

impl Drop for Unpublished {
    fn drop(&mut self) {
        // SAFETY: made by `Box::into_raw` in `publish`, taken out of the table exactly once, and by the owner's promise
        // no reader is left.
        drop(unsafe { Box::from_raw(self.0) });
    }
}

/// A client session's life in limits of Views: seen from `from` to before `until`. `from` of a free slot is 0.
pub(super) struct SessionSlot {
    from: AtomicU64,
    until: AtomicU64,
    id: AtomicI64,
    timeout_ms: AtomicI32,
}

/// Client sessions as Views see them. A slot is used again only when no View is left that sees its session, so a reader
/// that looks at a slot being rewritten can only be one that sees neither the old nor the new session: it recognises
/// that by `from` having changed.
pub(super) struct Sessions {
    slots: Array<SessionSlot>,
    /// Slots ever used.
    length: AtomicU32,
}

impl Sessions {
    pub(super) fn new() -> Sessions {
        Sessions { slots: Array::new(SESSIONS_MAX), length: AtomicU32::new(0) }
    }

    /// Fills a free slot.
    pub(super) fn open(&self, slot: u32, id: SessionId, timeout_ms: i32, from: u64) {
        assert!((slot as usize) < SESSIONS_MAX, "more sessions than {SESSIONS_MAX}");
        let s = self.slots.at(slot as usize);
        // Nobody may take the new fields for the old session's, so its `from` goes first.
        s.from.store(u64::MAX, Ordering::Relaxed);
        fence(Ordering::Release);
        s.id.store(id.0, Ordering::Relaxed);
        s.timeout_ms.store(timeout_ms, Ordering::Relaxed);
        s.until.store(u64::MAX, Ordering::Relaxed);
        s.from.store(from, Ordering::Release);
        if self.length.load(Ordering::Relaxed) <= slot {
            self.length.store(slot + 1, Ordering::Release);
        }
    }

    /// `u64::MAX` opens it again.
    pub(super) fn close(&self, slot: u32, until: u64) {
        self.slots.at(slot as usize).until.store(until, Ordering::Release);
    }

    /// Takes back an `open` that no View has seen.
    pub(super) fn withdraw(&self, slot: u32) {
        self.slots.at(slot as usize).from.store(u64::MAX, Ordering::Release);
    }

    /// The sessions that a View with this limit sees.
    pub(super) fn at(&self, limit: u64) -> impl Iterator<Item = (SessionId, i32)> + '_ {
        let length = self.length.load(Ordering::Acquire);
        (0..length).filter_map(move |slot| {
            let s = self.slots.at(slot as usize);
            let from = s.from.load(Ordering::Acquire);
            let session = (SessionId(s.id.load(Ordering::Relaxed)), s.timeout_ms.load(Ordering::Relaxed));
            let until = s.until.load(Ordering::Relaxed);
            fence(Ordering::Acquire);
            let unchanged = s.from.load(Ordering::Relaxed) == from;
            (from <= limit && limit < until && unchanged).then_some(session)
        })
    }
}
