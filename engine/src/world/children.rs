//! The children of one znode: a copy-on-write B+tree set of znode ids. No names, so removing needs no look at the child.
//! Not here: who owns a root (record), when replaced nodes are freed (retire).
//!
//! # Layout (in blocks of the arena)
//! ```text
//!   header 8: level 4 bits (0 = leaf) | entries 9 bits | capacity 9 bits | epoch 42 bits
//!   leaf:  ids 4 bytes each, ascending
//!   inner: entries of {smallest id that belongs here 4, child's handle 4}, ascending; the first takes all below, too
//! ```
//! Nodes are as large as they need to be up to 1 KiB. A full node splits in halves, or, when the new id comes last,
//! leaves all behind (ids are mostly given out ascending), so that large sets are nearly full. Removing never merges: a
//! node goes when it is empty, and a copy is made only as large as its content.
//!
//! # Who runs at once
//! The writer edits in place the nodes it made in its present epoch: no View can reach those, because an epoch ends
//! whenever a View is taken (and at savepoints, so that they can be gone back to). All others it copies. Readers reach a
//! node only from the record of a version that their View sees, so they only meet nodes that are never written again.

use super::arena::{Allocator, Handle, Memory};
use super::record::NodeId;

const LEAF_MAX: usize = 254;
const INNER_MAX: usize = 126;
/// More levels than any number of ids can bring about: each but the first costs a full node below it.
const LEVELS_MAX: usize = 9;
const HEADER_BYTES: usize = 8;
const EPOCH_SHIFT: u32 = 22;

/// What the writer has at hand when it edits a set.
pub(super) struct Edit<'a> {
    pub memory: &'a Memory,
    pub blocks: &'a mut Allocator,
    /// The writer's epoch: never used twice.
    pub epoch: u64,
    /// What happened to blocks, in order.
    pub touched: &'a mut Vec<Touched>,
}

/// A block of a set that an edit made or put out of use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Touched {
    /// To be freed if the edit is undone.
    Made(Handle),
    /// To be freed when no View can reach it.
    Gone(Handle),
}

/// A node as readers and writer look at it.
#[derive(Clone, Copy)]
struct Page {
    at: *mut u8,
}

impl Page {
    #[inline]
    fn new(memory: &Memory, handle: Handle) -> Page {
        debug_assert!(!handle.is_none());
        Page { at: memory.at(handle) }
    }

    #[inline]
    fn header(self) -> u64 {
        // SAFETY: blocks are aligned to 8 bytes and begin with a header written before the handle was known; the writer
        // rewrites it only while no reader can reach the node.
        unsafe { self.at.cast::<u64>().read() }
    }

    fn set_header(self, level: u32, len: usize, capacity: usize, epoch: u64) {
        let header = u64::from(level) | (len as u64) << 4 | (capacity as u64) << 13 | epoch << EPOCH_SHIFT;
        // SAFETY: as in `header`; only the writer calls this, on a node that no reader can reach.
        unsafe { self.at.cast::<u64>().write(header) };
    }

    fn set_len(self, len: usize) {
        self.set_header(self.level(), len, self.capacity(), self.epoch());
    }

    #[inline]
    fn level(self) -> u32 {
        (self.header() & 15) as u32
    }

    #[inline]
    fn len(self) -> usize {
        (self.header() >> 4 & 511) as usize
    }

    fn capacity(self) -> usize {
        (self.header() >> 13 & 511) as usize
    }

    fn epoch(self) -> u64 {
        self.header() >> EPOCH_SHIFT
    }

    /// The id (leaf) or smallest id (inner) of an entry.
    #[inline]
    fn key(self, index: usize) -> u32 {
        self.word(index * self.stride())
    }

    #[inline]
    fn child(self, index: usize) -> Handle {
        Handle(self.word(index * 2 + 1))
    }

    /// Words per entry.
    #[inline]
    fn stride(self) -> usize {
        if self.level() == 0 { 1 } else { 2 }
    }

    #[inline]
    fn word(self, index: usize) -> u32 {
        debug_assert!(index < self.capacity() * self.stride());
        // SAFETY: within the capacity, hence the block; written before readers can reach the node.
        unsafe { self.at.add(HEADER_BYTES).cast::<u32>().add(index).read() }
    }

    fn set_word(self, index: usize, value: u32) {
        assert!(
            index < self.capacity() * self.stride(),
            "place {index} of {:?}",
            (self.level(), self.len(), self.capacity())
        );
        // SAFETY: within the capacity; only the writer calls this, on a node that no reader can reach.
        unsafe { self.at.add(HEADER_BYTES).cast::<u32>().add(index).write(value) };
    }

    /// Moves entries `from..len` to `to..`, within the capacity.
    fn shift(self, from: usize, to: usize) {
        let (stride, count) = (self.stride(), self.len() - from);
        assert!(to + count <= self.capacity());
        // SAFETY: both ranges are within the capacity; only the writer calls this, on a node no reader can reach.
        unsafe {
            let words = self.at.add(HEADER_BYTES).cast::<u32>();
            std::ptr::copy(words.add(from * stride), words.add(to * stride), count * stride);
        }
    }

    /// Copies entries `from..from + count` of another node of the same level to the front.
    fn copy_from(self, other: Page, from: usize, count: usize) {
        let stride = self.stride();
        assert!(count <= self.capacity() && from + count <= other.len() && other.stride() == stride);
        // SAFETY: the source range is filled, the target within the capacity; they are different blocks.
        unsafe {
            let source = other.at.add(HEADER_BYTES).cast::<u32>().add(from * stride);
            std::ptr::copy_nonoverlapping(source, self.at.add(HEADER_BYTES).cast::<u32>(), count * stride);
        }
    }

    /// First entry whose key is not below `id`.
    #[inline]
    fn lower_bound(self, id: u32) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = (low + high) / 2;
            if self.key(middle) < id { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// The entry of an inner node under which `id` belongs. The first one takes what is below the second's key; its own
    /// says nothing, for what came later may be smaller, and what has that very id may belong elsewhere by now.
    #[inline]
    fn branch(self, id: u32) -> usize {
        let (mut low, mut high) = (1, self.len());
        while low < high {
            let middle = (low + high) / 2;
            if self.key(middle) <= id { low = middle + 1 } else { high = middle }
        }
        low - 1
    }
}

/// Bytes of a node's block.
pub(super) fn bytes_of(memory: &Memory, handle: Handle) -> usize {
    let page = Page::new(memory, handle);
    HEADER_BYTES + page.capacity() * page.stride() * 4
}

impl Edit<'_> {
    fn allocate(&mut self, level: u32, capacity: usize) -> (Handle, Page) {
        let stride = if level == 0 { 1 } else { 2 };
        let handle = self.blocks.alloc(self.memory, HEADER_BYTES + capacity * stride * 4);
        let page = Page::new(self.memory, handle);
        page.set_header(level, 0, capacity, self.epoch & (u64::MAX >> EPOCH_SHIFT));
        self.touched.push(Touched::Made(handle));
        (handle, page)
    }

    /// A node with the same entries that may be edited and has room for `extra` more.
    fn own(&mut self, handle: Handle, extra: usize) -> (Handle, Page) {
        let page = Page::new(self.memory, handle);
        let wanted = page.len() + extra;
        if page.epoch() == self.epoch & (u64::MAX >> EPOCH_SHIFT) && wanted <= page.capacity() {
            return (handle, page);
        }
        let (copy, new) = self.allocate(page.level(), capacity_for(page.level(), wanted));
        new.copy_from(page, 0, page.len());
        new.set_len(page.len());
        self.touched.push(Touched::Gone(handle));
        (copy, new)
    }

    /// The set with `id`, which is not in it.
    pub(super) fn insert(&mut self, root: Handle, id: NodeId) -> Handle {
        if root.is_none() {
            let (handle, page) = self.allocate(0, capacity_for(0, 1));
            page.set_word(0, id.0);
            page.set_len(1);
            return handle;
        }
        let (root, split) = self.insert_below(root, id.0);
        let Some((key, right)) = split else { return root };
        let old = Page::new(self.memory, root);
        let level = old.level() + 1;
        assert!((level as usize) < LEVELS_MAX);
        let smallest = old.key(0);
        let (handle, page) = self.allocate(level, capacity_for(level, 2));
        for (at, word) in [smallest, root.0, key, right.0].into_iter().enumerate() {
            page.set_word(at, word);
        }
        page.set_len(2);
        handle
    }

    fn insert_below(&mut self, handle: Handle, id: u32) -> (Handle, Option<(u32, Handle)>) {
        let page = Page::new(self.memory, handle);
        if page.level() == 0 {
            let at = page.lower_bound(id);
            assert!(at == page.len() || page.key(at) != id, "{id} is a child already");
            return self.insert_entry(handle, at, [id, 0]);
        }
        let at = page.branch(id);
        let (child, split) = self.insert_below(page.child(at), id);
        let (handle, page) = self.own(handle, 0);
        page.set_word(at * 2 + 1, child.0);
        match split {
            None => (handle, None),
            Some((key, right)) => self.insert_entry(handle, at + 1, [key, right.0]),
        }
    }

    /// Puts an entry at a place of a node; the node may split.
    fn insert_entry(
        &mut self,
        handle: Handle,
        at: usize,
        entry: [u32; 2],
    ) -> (Handle, Option<(u32, Handle)>) {
        let page = Page::new(self.memory, handle);
        let (level, len) = (page.level(), page.len());
        if len < entries_max(level) {
            let (handle, page) = self.own(handle, 1);
            put(page, at, entry);
            return (handle, None);
        }
        let keep = if at == len { len } else { len / 2 };
        let (right_handle, right) = self.allocate(level, capacity_for(level, len - keep + 1));
        right.copy_from(page, keep, len - keep);
        right.set_len(len - keep);
        let (left_handle, left) =
            if keep == len { (handle, page) } else { self.truncated(handle, keep, at < keep) };
        if at < keep {
            put(left, at, entry);
        } else {
            put(right, at - keep, entry);
        }
        (left_handle, Some((right.key(0), right_handle)))
    }

    /// The first `keep` entries of a node, as a node that may be edited, with room for one more if wanted.
    fn truncated(&mut self, handle: Handle, keep: usize, room: bool) -> (Handle, Page) {
        let page = Page::new(self.memory, handle);
        let (copy, new) = self.allocate(page.level(), capacity_for(page.level(), keep + usize::from(room)));
        new.copy_from(page, 0, keep);
        new.set_len(keep);
        self.touched.push(Touched::Gone(handle));
        (copy, new)
    }

    /// The set without `id`, which is in it; `NONE` when that was the last.
    pub(super) fn remove(&mut self, root: Handle, id: NodeId) -> Handle {
        let mut root = self.remove_below(root, id.0);
        while !root.is_none() {
            let page = Page::new(self.memory, root);
            if page.level() == 0 || page.len() > 1 {
                break;
            }
            self.touched.push(Touched::Gone(root));
            root = page.child(0);
        }
        root
    }

    fn remove_below(&mut self, handle: Handle, id: u32) -> Handle {
        let page = Page::new(self.memory, handle);
        if page.level() == 0 {
            let at = page.lower_bound(id);
            assert!(at < page.len() && page.key(at) == id, "{id} is not a child");
            return self.remove_entry(handle, at);
        }
        let at = page.branch(id);
        let child = self.remove_below(page.child(at), id);
        if child.is_none() {
            return self.remove_entry(handle, at);
        }
        let (handle, page) = self.own(handle, 0);
        page.set_word(at * 2 + 1, child.0);
        handle
    }

    fn remove_entry(&mut self, handle: Handle, at: usize) -> Handle {
        if Page::new(self.memory, handle).len() == 1 {
            self.touched.push(Touched::Gone(handle));
            return Handle::NONE;
        }
        let (handle, page) = self.own(handle, 0);
        page.shift(at + 1, at);
        page.set_len(page.len() - 1);
        handle
    }
}

fn entries_max(level: u32) -> usize {
    if level == 0 { LEAF_MAX } else { INNER_MAX }
}

/// Room for `len` entries and a little more: an eighth, an even number in leaves (blocks are multiples of 8 bytes).
fn capacity_for(level: u32, len: usize) -> usize {
    if level == 0 { ((len + len / 8 + 1) & !1).min(LEAF_MAX) } else { (len + len / 8).min(INNER_MAX) }
}

fn put(page: Page, at: usize, entry: [u32; 2]) {
    let (stride, len) = (page.stride(), page.len());
    page.shift(at, at + 1);
    for (word, value) in entry.into_iter().take(stride).enumerate() {
        page.set_word(at * stride + word, value);
    }
    page.set_len(len + 1);
}

/// A place in a set: walks its ids in ascending order. The set must not be edited or freed meanwhile; holders keep the
/// View, or borrow the Head, that it was reached from.
#[derive(Clone)]
pub(super) struct Cursor {
    path: [(Handle, u32); LEVELS_MAX],
    depth: usize,
}

impl Cursor {
    pub(super) fn new(memory: &Memory, root: Handle) -> Cursor {
        let mut cursor = Cursor { path: [(Handle::NONE, 0); LEVELS_MAX], depth: 0 };
        if !root.is_none() {
            cursor.descend(memory, root);
        }
        cursor
    }

    fn descend(&mut self, memory: &Memory, mut handle: Handle) {
        loop {
            let page = Page::new(memory, handle);
            let is_leaf = page.level() == 0;
            self.path[self.depth] = (handle, u32::from(!is_leaf));
            self.depth += 1;
            if is_leaf {
                return;
            }
            handle = page.child(0);
        }
    }

    pub(super) fn next(&mut self, memory: &Memory) -> Option<NodeId> {
        while self.depth > 0 {
            let (handle, at) = self.path[self.depth - 1];
            let page = Page::new(memory, handle);
            if at as usize == page.len() {
                self.depth -= 1;
                continue;
            }
            self.path[self.depth - 1].1 = at + 1;
            if page.level() == 0 {
                return Some(NodeId(page.key(at as usize)));
            }
            self.descend(memory, page.child(at as usize));
        }
        None
    }

    /// An id about `ahead` places on in the same leaf, to prefetch.
    #[inline]
    pub(super) fn peek(&self, memory: &Memory, ahead: usize) -> Option<NodeId> {
        let (handle, at) = *self.path.get(self.depth.checked_sub(1)?)?;
        let page = Page::new(memory, handle);
        let at = at as usize + ahead;
        (page.level() == 0 && at < page.len()).then(|| NodeId(page.key(at)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// A set beside its model, with old versions kept as Views would.
    struct Set {
        memory: Memory,
        blocks: Allocator,
        epoch: u64,
        root: Handle,
        model: BTreeSet<u32>,
        kept: Vec<(Handle, BTreeSet<u32>)>,
        touched: Vec<Touched>,
    }

    impl Set {
        fn new() -> Set {
            let memory = Memory::new();
            let blocks = Allocator::new(&memory);
            let (model, kept, touched) = (BTreeSet::new(), Vec::new(), Vec::new());
            Set { memory, blocks, epoch: 1, root: Handle::NONE, model, kept, touched }
        }

        fn edit(&mut self, edit: impl FnOnce(&mut Edit<'_>, Handle) -> Handle) {
            let (blocks, touched) = (&mut self.blocks, &mut self.touched);
            let mut context = Edit { memory: &self.memory, blocks, epoch: self.epoch, touched };
            self.root = edit(&mut context, self.root);
        }

        fn toggle(&mut self, id: u32) {
            if self.model.insert(id) {
                self.edit(|edit, root| edit.insert(root, NodeId(id)));
            } else {
                self.model.remove(&id);
                self.edit(|edit, root| edit.remove(root, NodeId(id)));
            }
        }

        fn ids(&self, root: Handle) -> Vec<u32> {
            let mut cursor = Cursor::new(&self.memory, root);
            std::iter::from_fn(|| cursor.next(&self.memory)).map(|id| id.0).collect()
        }

        fn keep(&mut self) {
            self.kept.push((self.root, self.model.clone()));
            self.epoch += 1;
        }

        fn check(&self) {
            assert!(self.ids(self.root).iter().eq(self.model.iter()));
            assert!(self.kept.iter().all(|(root, model)| self.ids(*root).iter().eq(model.iter())));
        }

        /// Frees what was replaced, all old versions being forgotten, and says how many bytes live.
        fn settle(&mut self) -> u64 {
            self.kept.clear();
            for touched in self.touched.drain(..) {
                let Touched::Gone(handle) = touched else { continue };
                let bytes = bytes_of(&self.memory, handle);
                self.blocks.free(&self.memory, handle, bytes);
            }
            self.blocks.bytes_live()
        }
    }

    #[test]
    fn random_edits_leave_old_versions_alone() {
        let (range, rounds) = if cfg!(miri) { (300, 840) } else { (4_000, 60_000u64) };
        let mut set = Set::new();
        let mut random = 7u64;
        for n in 0..rounds {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            set.toggle((random >> 33) as u32 % range + 1);
            if n % 7 == 0 {
                set.epoch += 1;
            }
            if n % (rounds / 12) == 0 {
                set.keep();
                set.check();
            }
        }
        set.check();
    }

    /// Whole stretches of ids go and come back, as under a parent whose children are created and deleted all the time.
    #[test]
    fn stretches_that_come_and_go_are_found_again() {
        let (range, stretch, rounds) = if cfg!(miri) { (700, 300, 8) } else { (4_000, 300, 2_000u64) };
        let mut set = Set::new();
        let mut random = 11u64;
        for _ in 0..rounds {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let first = (random >> 33) as u32 % range + 1;
            let wanted = (random >> 32) & 1 == 0;
            for n in 0..stretch {
                // In an order that splits nodes anywhere.
                let id = first + n * 7 % stretch;
                if set.model.contains(&id) != wanted {
                    set.toggle(id);
                }
            }
            set.epoch += 1;
            set.settle();
        }
        set.check();
    }

    #[test]
    fn ascending_ids_fill_nodes_and_emptying_frees_all() {
        let count = if cfg!(miri) { 600 } else { 200_000 };
        let mut set = Set::new();
        for id in 1..=count {
            set.epoch += u64::from(id % 16 == 0);
            set.toggle(id);
            if id % 1_000 == 0 {
                set.settle();
            }
        }
        set.check();
        let bytes = set.settle() as f64 / f64::from(count);
        // A small set has its share of half empty nodes.
        assert!(bytes < if cfg!(miri) { 6.0 } else { 4.3 }, "{bytes} bytes per child");
        for id in (1..=count).step_by(2).chain((2..=count).rev().step_by(2)) {
            set.epoch += u64::from(id % 16 == 0);
            set.toggle(id);
        }
        assert_eq!((set.root, set.settle()), (Handle::NONE, 0));
    }
}
