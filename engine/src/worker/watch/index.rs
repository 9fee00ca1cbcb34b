//! Where a path's entry stands: extendible hashing by the quick hash, so that no insertion ever rehashes more than one
//! segment. Not here: entries and their keys (`table`), which the caller brings.
//!
//! The upper bits of the hash choose a segment through the directory, the lower ones a place in it. What most look-ups
//! touch is one group of tags and nothing else, so the tags of all segments stand together: between the entries, which are
//! four times as long, each would lie on a page of its own, and the walk to that page costs more than the look.

use super::hash::Quick;
use crate::world::prefetch;

pub(super) struct Index {
    directory: Vec<u32>,
    /// Leading bits of the key that the directory looks at.
    depth: u32,
    /// Of the segments, `TAGS_TOGETHER` in a piece: growing moves none.
    tags: Vec<Box<[Tags]>>,
    segments: Vec<Segment>,
}

const SLOTS: usize = 512;
/// Live and deleted places together; above it an unsuccessful probe would grow long.
const USED_MAX: u16 = 435;
const EMPTY: u8 = 0;
const DELETED: u8 = 1;
/// Tags compared at once.
const GROUP: usize = size_of::<u64>();
const TAGS_TOGETHER: usize = 64;

/// Of one segment, by place.
#[derive(Clone)]
#[repr(align(64))]
struct Tags([u8; SLOTS]);

struct Segment {
    depth: u32,
    live: u16,
    deleted: u16,
    /// Boxed, so that adding a segment does not move the megabytes of the others.
    entries: Box<[u32; SLOTS]>,
}

impl Tags {
    const NONE: Tags = Tags([EMPTY; SLOTS]);

    /// The place of an entry of the same tag that `is_it` agrees with.
    #[inline]
    fn find(&self, quick: Quick, mut is_it: impl FnMut(usize) -> bool) -> Option<usize> {
        let (home, tag) = home(quick);
        let mut at = home & !(GROUP - 1);
        // In the first group, what stands before the home does not count; it comes last.
        let mut counts = u64::MAX << (8 * (home % GROUP));
        for _ in 0..=SLOTS / GROUP {
            let group = u64::from_le_bytes(*self.0[at..].first_chunk().expect("groups are whole"));
            let empty = bytes_that_are(group, EMPTY) & counts;
            // What stands before the first empty place: all, if there is none.
            let mut same = bytes_that_are(group, tag) & counts & (empty.wrapping_sub(1) & !empty);
            while same != 0 {
                let place = at + same.trailing_zeros() as usize / 8;
                if is_it(place) {
                    return Some(place);
                }
                same &= same - 1;
            }
            if empty != 0 {
                return None;
            }
            at = (at + GROUP) % SLOTS;
            counts = u64::MAX;
        }
        None
    }
}

/// The highest bit of each byte of `group` that is `byte`.
#[inline]
fn bytes_that_are(group: u64, byte: u8) -> u64 {
    const LOW: u64 = u64::from_le_bytes([0x7f; 8]);
    let differs = group ^ u64::from_le_bytes([byte; 8]);
    !(((differs & LOW) + LOW) | differs | LOW)
}

impl Segment {
    fn new(depth: u32) -> Segment {
        Segment { depth, live: 0, deleted: 0, entries: Box::new([0; SLOTS]) }
    }

    /// There is room: the caller has looked.
    fn insert(&mut self, tags: &mut Tags, quick: Quick, id: u32) {
        let (mut at, tag) = home(quick);
        while tags.0[at] > DELETED {
            at = (at + 1) % SLOTS;
        }
        self.deleted -= (tags.0[at] == DELETED) as u16;
        self.live += 1;
        tags.0[at] = tag;
        self.entries[at] = id;
    }

    fn remove(&mut self, tags: &mut Tags, mut at: usize) {
        self.live -= 1;
        tags.0[at] = DELETED;
        self.deleted += 1;
        // A deleted place in front of an empty one stops no probe that would go on.
        while tags.0[at] == DELETED && tags.0[(at + 1) % SLOTS] == EMPTY {
            tags.0[at] = EMPTY;
            self.deleted -= 1;
            at = (at + SLOTS - 1) % SLOTS;
        }
    }

    fn ids<'a>(&'a self, tags: &'a Tags) -> impl Iterator<Item = u32> + 'a {
        (0..SLOTS).filter(|&at| tags.0[at] > DELETED).map(|at| self.entries[at])
    }
}

/// First place to look, and the tag: 2..=255.
#[inline]
fn home(quick: Quick) -> (usize, u8) {
    (quick.0 as usize % SLOTS, ((quick.0 as usize / SLOTS) as u8).max(DELETED + 1))
}

impl Index {
    pub fn new() -> Index {
        let mut index = Index { directory: vec![0], depth: 0, tags: Vec::new(), segments: Vec::new() };
        index.push(Segment::new(0), Tags::NONE);
        index
    }

    /// The entry with that hash that `is_it` agrees with.
    #[inline]
    pub fn find(&self, quick: Quick, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let number = self.segment_of(quick);
        let mut found = 0;
        self.tags(number).find(quick, |at| {
            found = self.segments[number].entries[at];
            is_it(found)
        })?;
        Some(found)
    }

    /// Begins to fetch what `find` looks at first.
    #[inline]
    pub fn prefetch(&self, quick: Quick) {
        prefetch(&raw const self.tags(self.segment_of(quick)).0[home(quick).0]);
    }

    /// An entry that is not there yet; `quick_of` tells the hash of any that is.
    pub fn insert(&mut self, quick: Quick, id: u32, quick_of: impl Fn(u32) -> Quick) {
        loop {
            let number = self.segment_of(quick);
            let segment = &mut self.segments[number];
            let tags = &mut self.tags[number / TAGS_TOGETHER][number % TAGS_TOGETHER];
            if segment.live + segment.deleted < USED_MAX {
                return segment.insert(tags, quick, id);
            }
            if segment.live < USED_MAX - USED_MAX / 8 {
                let (mut fresh, mut its_tags) = (Segment::new(segment.depth), Tags::NONE);
                segment.ids(tags).for_each(|id| fresh.insert(&mut its_tags, quick_of(id), id));
                (*segment, *tags) = (fresh, its_tags);
            } else {
                self.split(number, &quick_of);
            }
        }
    }

    pub fn remove(&mut self, quick: Quick, id: u32) {
        let number = self.segment_of(quick);
        let segment = &mut self.segments[number];
        let tags = &mut self.tags[number / TAGS_TOGETHER][number % TAGS_TOGETHER];
        let at = tags.find(quick, |at| segment.entries[at] == id);
        segment.remove(tags, at.expect("an entry of the table is in its index"));
    }

    #[inline]
    fn segment_of(&self, quick: Quick) -> usize {
        self.directory[leading_bits(quick, self.depth)] as usize
    }

    #[inline]
    fn tags(&self, number: usize) -> &Tags {
        &self.tags[number / TAGS_TOGETHER][number % TAGS_TOGETHER]
    }

    fn push(&mut self, segment: Segment, tags: Tags) {
        let number = self.segments.len();
        if number.is_multiple_of(TAGS_TOGETHER) {
            self.tags.push(vec![Tags::NONE; TAGS_TOGETHER].into_boxed_slice());
        }
        self.tags[number / TAGS_TOGETHER][number % TAGS_TOGETHER] = tags;
        self.segments.push(segment);
    }

    fn split(&mut self, number: usize, quick_of: impl Fn(u32) -> Quick) {
        let depth = self.segments[number].depth;
        // 400 keyed hashes that agree in 28 bits: not by chance, and nobody knows the key.
        assert!(depth < 28, "the hash of the watch table is broken");
        if depth == self.depth {
            self.directory = self.directory.iter().flat_map(|&segment| [segment; 2]).collect();
            self.depth += 1;
        }
        let mut halves = [Segment::new(depth + 1), Segment::new(depth + 1)];
        let mut their_tags = [Tags::NONE; 2];
        let mut prefix = 0;
        for id in self.segments[number].ids(self.tags(number)) {
            let quick = quick_of(id);
            let bits = leading_bits(quick, depth + 1);
            prefix = bits >> 1;
            halves[bits & 1].insert(&mut their_tags[bits & 1], quick, id);
        }
        let ([zero, one], [zero_tags, one_tags]) = (halves, their_tags);
        self.segments[number] = zero;
        self.tags[number / TAGS_TOGETHER][number % TAGS_TOGETHER] = zero_tags;
        self.push(one, one_tags);
        let new = self.segments.len() as u32 - 1;
        let wide = self.depth - depth - 1;
        let first = (prefix << 1 | 1) << wide;
        self.directory[first..first + (1 << wide)].fill(new);
    }
}

#[inline]
fn leading_bits(quick: Quick, bits: u32) -> usize {
    quick.0.checked_shr(32 - bits).unwrap_or(0) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a walk from place to place finds.
    fn check(tags: &Tags, home: usize, tag: u8, wanted: usize) {
        let mut expected = None;
        for at in (0..SLOTS).map(|step| (home + step) % SLOTS) {
            if tags.0[at] == EMPTY {
                break;
            }
            if tags.0[at] == tag && at == wanted {
                expected = Some(at);
                break;
            }
        }
        let quick = Quick((u32::from(tag) * SLOTS as u32) | home as u32);
        assert_eq!(tags.find(quick, |at| at == wanted), expected, "tag {tag} at {wanted} from {home}");
    }

    #[test]
    fn groups_find_what_a_walk_from_place_to_place_finds() {
        let mut random = 1u64;
        let mut next = |below: u64| {
            random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            (random >> 33) % below
        };
        let rounds = if cfg!(miri) { 3 } else { 60 };
        for round in 0..rounds {
            // From sparse to full, with tags that differ in one bit, deleted places, and runs over the end.
            let mut tags = Tags::NONE;
            let filled = if round == 0 { SLOTS as u64 } else { next(SLOTS as u64) };
            for _ in 0..4 * filled {
                tags.0[next(SLOTS as u64) as usize] = 1 + next(4) as u8;
            }
            if round == 0 {
                tags.0.fill(3);
            }
            for _ in 0..2_000 {
                let (home, wanted) = (next(SLOTS as u64) as usize, next(SLOTS as u64) as usize);
                check(&tags, home, 2 + next(3) as u8, wanted);
                check(&tags, home, tags.0[home].max(2), home);
            }
        }
    }
}
