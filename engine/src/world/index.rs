//! From a path's hash to the ids of the znodes that may have it: an extendible hash table of segments.
//! Not here: whether a candidate really has the path, and in which Views (view.rs confirms).
//!
//! The directory is indexed by the low bits of the hash, a segment's 64-byte groups by its top twelve. A segment has
//! 40, 52 or 64 groups of 8 slots: when it is four fifths full it is rebuilt one size larger, or, from the largest, as
//! two of the smallest, so that a table of any size is between 2/3 and 4/5 full. No step touches more than one segment:
//! the directory doubles in place (low-bit indexing makes its upper half a copy of the lower), a little with each
//! rebuild.
//!
//! Were the hash's low bits evenly spread, all segments would be full at the same time: each size would be asked for in
//! one wave, and what the wave before gave back would lie idle (as much as is in use, measured), and writes would pay
//! for the wave together. So the eight values of the lowest three bits have shares that grow by 2^(1/8) from one to the
//! next (`PathHash::of`): at any size of the table some segments are about to grow, others have just split, and what is
//! given back serves at once.
//!
//! A restore knows no View and looks nothing up, so it gathers the ids, and `fill` makes each segment once, in its last
//! size and while it is in the cache. One at a time, an id is moved five times and waits for memory each time.
//!
//! # Who runs at once
//! The writer inserts, removes and rebuilds; any number of readers look up without locks, each pinned by a View.
//! - A slot is stored with release after the znode's record is in the node table, and loaded with acquire.
//! - A rebuilt segment is complete before the release-store of its directory entry. The old one stays as it is until
//!   every View of that time is gone: what such a View can see is in it.
//! - When the directory doubles, both halves are complete before the new depth is stored with release, and only then
//!   entries begin to differ. A reader that loaded the old depth could meet an entry that is right only for the new one;
//!   it looks at the depth again after the entry, and the acquire-load of such an entry makes it see the new depth.
//! - A removed znode's slot is kept until no View sees the znode (retire.rs), and its id until readers that may still
//!   have it in hand are gone.
//! - A group with an empty slot ends a search. A slot of a group that has ever been full is never made empty again, only
//!   `DELETED`, so that searches for what was put behind it go on.

use super::arena::Region;
use super::hash::PathHash;
use super::record::NodeId;
use super::table::{Array, prefetch};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

const DEPTH_MAX: u32 = if cfg!(miri) { 8 } else { 21 };
const SEGMENTS_BYTES: usize = if cfg!(miri) { 4 << 20 } else { 8 << 30 };
const GROUP_BYTES: usize = 64;
const GROUP_SLOTS: u32 = 8;
type Group = [AtomicU64; GROUP_SLOTS as usize];
const _: () = assert!(size_of::<Group>() == GROUP_BYTES && SEGMENTS_BYTES.is_multiple_of(GROUP_BYTES));
/// Sizes of a segment in groups, and how many slots may be used in each (13 of 16).
const SIZES: [u32; 3] = [40, 52, 64];
/// Directory entries copied with each rebuild: twice what is needed to be done before the next doubling.
const COPY_STEP: u32 = 4;

const EMPTY: u64 = 0;
/// Matches hash 0 only, and then the id says that it is nobody.
const DELETED: u64 = u32::MAX as u64;

/// What is gathered is kept apart by so many low bits of the hash: enough that a part of a large tree fits into a CPU's
/// cache, few enough that the ends of all parts do, too.
const PART_BITS: u32 = 8;

fn used_max(size: usize) -> u32 {
    SIZES[size] * GROUP_SLOTS * 13 / 16
}

/// What readers and the writer share.
pub(super) struct Index {
    depth: AtomicU32,
    /// Segment's first group (low half) and its number of groups (high half).
    directory: Array<AtomicU64>,
    segments: Region,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Segment {
    first_group: u32,
    groups: u32,
}

impl Segment {
    fn from_entry(entry: u64) -> Segment {
        Segment { first_group: entry as u32, groups: (entry >> 32) as u32 }
    }

    fn to_entry(self) -> u64 {
        u64::from(self.groups) << 32 | u64::from(self.first_group)
    }

    /// The group where the search for a hash begins.
    #[inline]
    fn home(self, hash: PathHash) -> u32 {
        ((hash.0 >> 20) * self.groups) >> 12
    }
}

impl Index {
    pub(super) fn new() -> Index {
        Index {
            depth: AtomicU32::new(0),
            directory: Array::new(1 << DEPTH_MAX),
            segments: Region::reserve(SEGMENTS_BYTES),
        }
    }

    /// Where the segments are.
    pub(super) fn region(&self) -> &Region {
        &self.segments
    }

    #[inline]
    fn group(&self, segment: Segment, group: u32) -> &Group {
        let at = (segment.first_group + group) as usize * GROUP_BYTES;
        // SAFETY: `at` is inside of the region (checked), which is a whole number of groups, and aligned to a group; slots
        // are only ever accessed as atomics, and zeroed memory is a valid atomic.
        unsafe { &*self.segments.at(at).cast::<Group>() }
    }

    #[inline]
    fn segment(&self, hash: PathHash) -> Segment {
        loop {
            let depth = self.depth.load(Ordering::Acquire);
            let at = hash.0 & ((1 << depth) - 1);
            let entry = self.directory.at(at as usize).load(Ordering::Acquire);
            if self.depth.load(Ordering::Relaxed) == depth {
                return Segment::from_entry(entry);
            }
        }
    }

    /// Fetches what says where the search begins.
    #[inline]
    pub(super) fn prefetch_directory(&self, hash: PathHash) {
        let depth = self.depth.load(Ordering::Relaxed);
        self.directory.prefetch((hash.0 & ((1 << depth) - 1)) as usize);
    }

    /// Fetches the group in which the search begins.
    #[inline]
    pub(super) fn prefetch(&self, hash: PathHash) {
        let segment = self.segment(hash);
        prefetch(self.segments.at((segment.first_group + segment.home(hash)) as usize * GROUP_BYTES));
    }

    /// The first answer that `confirm` gives for an id with this hash.
    #[inline]
    pub(super) fn find<R>(&self, hash: PathHash, mut confirm: impl FnMut(NodeId) -> Option<R>) -> Option<R> {
        let segment = self.segment(hash);
        let home = segment.home(hash);
        for step in 0..segment.groups {
            let group = if home + step < segment.groups { home + step } else { home + step - segment.groups };
            let mut has_empty = false;
            for slot in self.group(segment, group) {
                let value = slot.load(Ordering::Acquire);
                has_empty |= value == EMPTY;
                if (value >> 32) as u32 == hash.0 && value != EMPTY && value != DELETED {
                    let found = confirm(NodeId(value as u32));
                    if found.is_some() {
                        return found;
                    }
                }
            }
            if has_empty {
                return None;
            }
        }
        None
    }
}

/// The writer's side: room, fill, and the old segments that readers may still be in.
pub(super) struct IndexWriter {
    /// Groups never given out yet, and segments given back, by size.
    next_group: u32,
    free: [Vec<u32>; SIZES.len()],
    /// For each segment in use, by its first group / 4 (sizes are multiples of 4 groups): local depth and slots used.
    states: Vec<State>,
    /// Entries of the directory's upper half that are copies already.
    copied: u32,
    bytes: u64,
}

#[derive(Clone, Copy, Default)]
struct State {
    used: u16,
    live: u16,
    depth: u8,
}

/// A segment out of use: to be given back when every View of that time is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct OldSegment(Segment);

/// Ids with their hashes, as slots have them, for an index that is filled when all are known.
pub(super) struct Gathered {
    parts: [Vec<u64>; 1 << PART_BITS],
}

impl Gathered {
    pub(super) fn new() -> Gathered {
        Gathered { parts: [const { Vec::new() }; 1 << PART_BITS] }
    }

    #[inline]
    pub(super) fn add(&mut self, hash: PathHash, id: NodeId) {
        self.parts[hash.0 as usize % (1 << PART_BITS)].push(slot_of(hash, id));
    }

    /// The number of low bits by which segments differ at least, and what is gathered, apart by these.
    fn parts(self) -> (u8, impl Iterator<Item = Vec<u64>>) {
        let count: usize = self.parts.iter().map(Vec::len).sum();
        // As many as fill two of the largest segments are split by `fill_below`, so that none is less than half full.
        let few = 2 * used_max(SIZES.len() - 1) as usize;
        let depth = (0..PART_BITS).find(|depth| count >> depth < few).unwrap_or(PART_BITS);
        let mut merged = [const { Vec::new() }; 1 << PART_BITS];
        for (at, part) in self.parts.into_iter().enumerate() {
            let to: &mut Vec<u64> = &mut merged[at % (1 << depth)];
            if to.is_empty() { *to = part } else { to.extend(part) }
        }
        (depth as u8, merged.into_iter().take(1 << depth))
    }
}

impl IndexWriter {
    pub(super) fn new(index: &Index) -> IndexWriter {
        let mut writer = IndexWriter {
            next_group: 0,
            free: [const { Vec::new() }; 3],
            states: Vec::new(),
            copied: 0,
            bytes: 0,
        };
        let first = writer.allocate(index, 0, 0);
        index.directory.at(0).store(first.to_entry(), Ordering::Release);
        writer
    }

    /// Bytes in segments, those waiting for readers included.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes from the region's begin to the end of what was ever taken for segments.
    #[inline]
    pub(super) fn bytes_taken(&self) -> usize {
        self.next_group as usize * GROUP_BYTES
    }

    /// Adds an id. Segments that went out of use are handed to `retire`.
    pub(super) fn insert(
        &mut self,
        index: &Index,
        hash: PathHash,
        id: NodeId,
        mut retire: impl FnMut(OldSegment),
    ) {
        loop {
            let segment = index.segment(hash);
            let size = size_of_segment(segment);
            let state = self.state(segment);
            if u32::from(state.used) < used_max(size) {
                let was_empty = put(index, segment, hash, id, |_| ());
                let state = self.state(segment);
                state.used += u16::from(was_empty);
                state.live += 1;
                return;
            }
            self.rebuild(index, hash, segment, size);
            retire(OldSegment(segment));
        }
    }

    /// Adds all that was gathered to an index that has nothing. Two ids with the same hash are shown to `meet`, the later
    /// one second.
    pub(super) fn fill(&mut self, index: &Index, gathered: Gathered, meet: &mut dyn FnMut(NodeId, NodeId)) {
        let (depth, parts) = gathered.parts();
        let empty = index.segment(PathHash(0));
        assert!(self.state(empty).live == 0 && index.depth.load(Ordering::Relaxed) == 0);
        self.free(OldSegment(empty));
        self.deepen(index, depth);
        for (low, mut part) in (0..).zip(parts) {
            self.fill_below(index, PathHash(low), depth, &mut part, meet);
        }
        self.copy_directory(index, u32::MAX);
    }

    /// Makes the segments for all hashes whose low `depth` bits are those of `low`.
    fn fill_below(
        &mut self,
        index: &Index,
        low: PathHash,
        depth: u8,
        mut slots: &mut [u64],
        meet: &mut dyn FnMut(NodeId, NodeId),
    ) {
        if u32::from(depth) == DEPTH_MAX {
            // Only ids of one path have so many bits in common; all but the first are of no use.
            slots = without_copies(slots, meet);
        }
        let fits = |size: &usize| slots.len() < used_max(*size) as usize;
        if let Some(size) = (0..SIZES.len()).find(fits) {
            let segment = self.allocate(index, size, depth);
            for (hash, id) in slots.iter().map(|slot| of_slot(*slot)) {
                put(index, segment, hash, id, |known| meet(known.min(id), known.max(id)));
            }
            let count = slots.len() as u16;
            *self.state(segment) = State { used: count, live: count, depth };
            return self.point(index, low, depth, segment);
        }
        self.deepen(index, depth + 1);
        let bit = 1 << depth;
        let (mut zeros, mut end) = (0, slots.len());
        while zeros < end {
            if of_slot(slots[zeros]).0.0 & bit == 0 {
                zeros += 1;
            } else {
                end -= 1;
                slots.swap(zeros, end);
            }
        }
        let (zeros, ones) = slots.split_at_mut(zeros);
        self.fill_below(index, low, depth + 1, zeros, meet);
        self.fill_below(index, PathHash(low.0 | bit), depth + 1, ones, meet);
    }

    /// Has the directory tell at least `depth` bits apart.
    fn deepen(&mut self, index: &Index, depth: u8) {
        assert!(u32::from(depth) <= DEPTH_MAX, "the index's directory is spent");
        while index.depth.load(Ordering::Relaxed) < u32::from(depth) {
            self.copy_directory(index, u32::MAX);
            self.copied = 0;
            index.depth.fetch_add(1, Ordering::Release);
        }
    }

    /// Removes an id that is there under this hash.
    pub(super) fn remove(&mut self, index: &Index, hash: PathHash, id: NodeId) {
        let segment = index.segment(hash);
        let wanted = u64::from(hash.0) << 32 | u64::from(id.0);
        let home = segment.home(hash);
        for step in 0..segment.groups {
            let group = (home + step) % segment.groups;
            let slots = index.group(segment, group);
            let values = slots.each_ref().map(|slot| slot.load(Ordering::Relaxed));
            let has_empty = values.contains(&EMPTY);
            if let Some(slot) = values.iter().position(|value| *value == wanted) {
                // A group with an empty slot was never full, so no search has ever gone past it.
                let value = if has_empty { EMPTY } else { DELETED };
                slots[slot].store(value, Ordering::Release);
                let state = self.state(segment);
                state.live -= 1;
                state.used -= u16::from(has_empty);
                return;
            }
            assert!(!has_empty, "{id:?} is not in the index");
        }
        panic!("{id:?} is not in the index");
    }

    /// Gives back a segment that no reader can be in any more.
    pub(super) fn free(&mut self, old: OldSegment) {
        self.free[size_of_segment(old.0)].push(old.0.first_group);
        self.bytes -= u64::from(old.0.groups) * GROUP_BYTES as u64;
    }

    /// Fetches what `insert` under this hash will touch.
    #[inline]
    pub(super) fn prefetch(&self, index: &Index, hash: PathHash) {
        index.prefetch(hash);
        if let Some(state) = self.states.get(index.segment(hash).first_group as usize / 4) {
            prefetch(std::ptr::from_ref(state).cast());
        }
    }

    fn state(&mut self, segment: Segment) -> &mut State {
        &mut self.states[segment.first_group as usize / 4]
    }

    fn allocate(&mut self, index: &Index, size: usize, depth: u8) -> Segment {
        let groups = SIZES[size];
        self.bytes += u64::from(groups) * GROUP_BYTES as u64;
        let segment = match self.free[size].pop() {
            Some(first_group) => {
                let segment = Segment { first_group, groups };
                for group in 0..groups {
                    index.group(segment, group).iter().for_each(|slot| slot.store(EMPTY, Ordering::Relaxed));
                }
                segment
            }
            None => {
                let segment = Segment { first_group: self.next_group, groups };
                self.next_group += groups;
                assert!(
                    self.next_group as usize * GROUP_BYTES <= index.segments.bytes(),
                    "the index's memory is spent"
                );
                let needed = (self.next_group / 4) as usize;
                self.states.resize(needed.max(self.states.len()), State::default());
                segment
            }
        };
        *self.state(segment) = State { used: 0, live: 0, depth };
        segment
    }

    /// Replaces a full segment: by one of the same size if it is full of deleted slots, by the next larger one, or by
    /// two small ones.
    fn rebuild(&mut self, index: &Index, hash: PathHash, old: Segment, size: usize) {
        let state = *self.state(old);
        if u32::from(state.live) * 4 < used_max(size) * 3 {
            let new = self.allocate(index, size, state.depth);
            self.refill(index, old, |_| new);
            self.point(index, hash, state.depth, new);
        } else if size + 1 < SIZES.len() {
            let new = self.allocate(index, size + 1, state.depth);
            self.refill(index, old, |_| new);
            self.point(index, hash, state.depth, new);
        } else {
            self.split(index, hash, old, state.depth);
        }
        self.copy_directory(index, COPY_STEP);
    }

    fn split(&mut self, index: &Index, hash: PathHash, old: Segment, depth: u8) {
        self.deepen(index, depth + 1);
        let bit = |hash: PathHash| (hash.0 >> depth & 1) as usize;
        let mut counts = [0; 2];
        entries(index, old).for_each(|(hash, _)| counts[bit(hash)] += 1);
        let halves = counts.map(|count| {
            let size = (0..SIZES.len()).find(|size| count < used_max(*size)).unwrap_or(SIZES.len() - 1);
            self.allocate(index, size, depth + 1)
        });
        self.refill(index, old, |hash| halves[bit(hash)]);
        for (side, half) in halves.into_iter().enumerate() {
            let hash = hash.0 & !(1 << depth) | (side as u32) << depth;
            self.point(index, PathHash(hash), depth + 1, half);
        }
    }

    fn refill(&mut self, index: &Index, old: Segment, target: impl Fn(PathHash) -> Segment) {
        for (hash, id) in entries(index, old) {
            let segment = target(hash);
            put(index, segment, hash, id, |_| ());
            let state = self.state(segment);
            state.used += 1;
            state.live += 1;
        }
    }

    /// Stores a segment into every entry whose low `depth` bits are those of `hash`, copied ones of the upper half too.
    fn point(&mut self, index: &Index, hash: PathHash, depth: u8, segment: Segment) {
        let entries = 1u32 << index.depth.load(Ordering::Relaxed);
        let step = 1usize << depth;
        let first = hash.0 as usize & (step - 1);
        for at in (first..entries as usize).step_by(step) {
            index.directory.at(at).store(segment.to_entry(), Ordering::Release);
            if (at as u32) < self.copied {
                index.directory.at(at + entries as usize).store(segment.to_entry(), Ordering::Release);
            }
        }
    }

    /// Copies up to `count` more entries to the upper half, which nobody reads before the depth grows.
    fn copy_directory(&mut self, index: &Index, count: u32) {
        let depth = index.depth.load(Ordering::Relaxed);
        if depth == DEPTH_MAX {
            return;
        }
        let entries = 1u32 << depth;
        let end = self.copied.saturating_add(count).min(entries);
        for at in self.copied..end {
            let entry = index.directory.at(at as usize).load(Ordering::Relaxed);
            index.directory.at((at + entries) as usize).store(entry, Ordering::Relaxed);
        }
        self.copied = end;
    }
}

/// What a segment holds, as the writer sees it.
fn entries(index: &Index, segment: Segment) -> impl Iterator<Item = (PathHash, NodeId)> + '_ {
    (0..segment.groups).flat_map(move |group| index.group(segment, group)).filter_map(|slot| {
        let value = slot.load(Ordering::Relaxed);
        (value != EMPTY && value != DELETED).then_some(of_slot(value))
    })
}

fn slot_of(hash: PathHash, id: NodeId) -> u64 {
    u64::from(hash.0) << 32 | u64::from(id.0)
}

fn of_slot(value: u64) -> (PathHash, NodeId) {
    (PathHash((value >> 32) as u32), NodeId(value as u32))
}

/// Of each hash the first id, at the front; `meet` is shown that and each later one.
fn without_copies<'a>(slots: &'a mut [u64], meet: &mut dyn FnMut(NodeId, NodeId)) -> &'a mut [u64] {
    slots.sort_unstable();
    let mut kept = 0;
    for at in 0..slots.len() {
        let ((first, known), (hash, id)) = (of_slot(slots[kept.max(1) - 1]), of_slot(slots[at]));
        if kept > 0 && first == hash {
            meet(known, id);
        } else {
            slots[kept] = slots[at];
            kept += 1;
        }
    }
    &mut slots[..kept]
}

fn size_of_segment(segment: Segment) -> usize {
    SIZES.iter().position(|groups| *groups == segment.groups).expect("a segment has one of the sizes")
}

/// Stores into the first free slot from the hash's home; true if that slot was empty. Ids with the same hash before it go
/// to `meet`.
#[inline]
fn put(index: &Index, segment: Segment, hash: PathHash, id: NodeId, mut meet: impl FnMut(NodeId)) -> bool {
    let home = segment.home(hash);
    for step in 0..segment.groups {
        let group = if home + step < segment.groups { home + step } else { home + step - segment.groups };
        for slot in index.group(segment, group) {
            let value = slot.load(Ordering::Relaxed);
            if value == EMPTY || value == DELETED {
                slot.store(slot_of(hash, id), Ordering::Release);
                return value == EMPTY;
            }
            if of_slot(value).0 == hash {
                meet(of_slot(value).1);
            }
        }
    }
    panic!("a segment is never full");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    struct Pair {
        index: Index,
        writer: IndexWriter,
        model: BTreeMap<u32, u32>,
    }

    impl Pair {
        fn new() -> Pair {
            let index = Index::new();
            let writer = IndexWriter::new(&index);
            Pair { index, writer, model: BTreeMap::new() }
        }

        fn insert(&mut self, hash: u32, id: u32) {
            let mut old = Vec::new();
            self.writer.insert(&self.index, PathHash(hash), NodeId(id), |segment| old.push(segment));
            old.into_iter().for_each(|segment| self.writer.free(segment));
            self.model.insert(id, hash);
        }

        fn remove(&mut self, id: u32) {
            let hash = self.model.remove(&id).unwrap();
            self.writer.remove(&self.index, PathHash(hash), NodeId(id));
        }

        fn has(&self, hash: u32, id: u32) -> bool {
            self.index.find(PathHash(hash), |found| (found.0 == id).then_some(())).is_some()
        }

        fn check(&self) {
            assert!(self.model.iter().all(|(id, hash)| self.has(*hash, *id)));
        }
    }

    fn mix(n: u32) -> u32 {
        let n = u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let n = (n ^ n >> 32).wrapping_mul(0xbb67_ae85_84ca_a73b);
        PathHash::of(n ^ n >> 29).0
    }

    #[test]
    fn grows_and_stays_two_thirds_full() {
        let mut pair = Pair::new();
        let count = if cfg!(miri) { 1_000 } else { 200_000 };
        for id in 1..=count {
            pair.insert(mix(id), id);
            if id.is_power_of_two() || id == count {
                pair.check();
            }
        }
        let bytes = pair.writer.bytes() as f64 / f64::from(count);
        assert!(bytes < 13.0, "{bytes} bytes per id");
        // What rebuilding gave back and nobody wants yet is little, at any size.
        let taken = pair.writer.bytes_taken() as f64 / f64::from(count);
        assert!(cfg!(miri) || taken < 13.0, "{taken} bytes of memory per id");
        assert!(!pair.has(mix(count + 1), count + 1));
    }

    #[test]
    fn what_was_gathered_is_found_and_the_index_goes_on() {
        let counts = if cfg!(miri) { &[0, 1, 900][..] } else { &[0, 1, 400, 900, 7_000, 300_000] };
        for count in counts {
            let mut pair = Pair::new();
            let mut gathered = Gathered::new();
            for id in 1..=*count {
                gathered.add(PathHash(mix(id)), NodeId(id));
                pair.model.insert(id, mix(id));
            }
            let mut met = 0;
            pair.writer.fill(&pair.index, gathered, &mut |_, _| met += 1);
            pair.check();
            assert!(met < 99, "{met} of {count} have the hash of another");
            let bytes = pair.writer.bytes_taken() as f64 / f64::from(*count);
            assert!(*count < 7_000 || bytes < 13.0, "{bytes} bytes of memory per id of {count}");
            (1..=*count).step_by(3).for_each(|id| pair.remove(id));
            (1..=*count).for_each(|id| pair.insert(mix(id + count), id + count));
            pair.check();
        }
    }

    #[test]
    fn any_number_of_ids_with_one_hash_meet_the_first() {
        for count in [2, 300, 5_000] {
            let (mut pair, mut gathered) = (Pair::new(), Gathered::new());
            for id in 1..=count {
                gathered.add(PathHash(77), NodeId(2 * id));
                gathered.add(PathHash(mix(id)), NodeId(2 * id + 1));
            }
            let mut first = NodeId(u32::MAX);
            pair.writer.fill(&pair.index, gathered, &mut |known, later| {
                assert!(known < later);
                first = first.min(later);
            });
            assert_eq!(first, NodeId(4));
        }
    }

    #[test]
    fn removed_ids_go_and_others_stay() {
        let mut pair = Pair::new();
        let rounds = if cfg!(miri) { 1_200 } else { 60_000 };
        for n in 1..=rounds {
            // Few hashes, so that groups overflow and deleted slots matter.
            pair.insert(mix(n % 997) & 0xfff0_00ff, n);
            if n > 900 {
                let gone = n - 900 + mix(n) % 3;
                if pair.model.contains_key(&gone) {
                    let hash = pair.model[&gone];
                    pair.remove(gone);
                    assert!(!pair.has(hash, gone));
                }
            }
            if n % 1_000 == 0 {
                pair.check();
            }
        }
        pair.check();
    }
}
