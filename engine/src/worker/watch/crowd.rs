//! Everybody who watches one path, by slot: four bytes each.
//!
//! Beyond a few hundred they stand in blocks of one size, as the leaves of a B+tree under a flat directory. So a list of any
//! length grows without moving what is there and without leaving holes in the heap, and whoever comes or goes moves at
//! most one block.
//! Not here: paths, what a mode means.

/// Largest slot: a connection's place in its worker takes 28 bits, one less than all for the numbers of lists.
pub const SLOT_MAX: u32 = (1 << 28) - 2;

/// One watcher of one path: the connection's slot and its modes there. Orders by slot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Watcher(pub(super) u32);

impl Watcher {
    pub fn new(slot: u32, modes: u8) -> Watcher {
        debug_assert!(slot <= SLOT_MAX && modes != 0 && modes < 16);
        Watcher(slot << 4 | modes as u32)
    }

    #[inline]
    pub fn slot(self) -> u32 {
        self.0 >> 4
    }

    #[inline]
    pub fn modes(self) -> u8 {
        (self.0 & 15) as u8
    }

    fn keep(self, modes: u8) -> Option<Watcher> {
        let kept = self.modes() & modes;
        (kept != 0).then(|| Watcher::new(self.slot(), kept))
    }
}

/// Watchers in a block: one kilobyte. With two, each of a hundred thousand connections that hang up pays for it.
const BLOCK: usize = 256;

pub(super) enum Crowd {
    Few(Vec<Watcher>),
    /// Two blocks at least.
    Many(Box<Blocks>),
}

pub(super) struct Blocks(Vec<Block>);

/// Never empty.
struct Block {
    /// Slots below it belong into an earlier block, if there is one.
    from: u32,
    /// With room for `BLOCK`.
    watchers: Vec<Watcher>,
}

impl Default for Crowd {
    fn default() -> Crowd {
        Crowd::Few(Vec::new())
    }
}

impl Crowd {
    pub fn pair(one: Watcher, other: Watcher) -> Crowd {
        Crowd::Few(vec![one.min(other), one.max(other)])
    }

    /// Of this slot; 0 when it does not watch.
    pub fn modes(&self, slot: u32) -> u8 {
        let watchers = match self {
            Crowd::Few(watchers) => watchers,
            Crowd::Many(blocks) => &blocks.0[blocks.place(slot)].watchers,
        };
        position(watchers, slot).map_or(0, |at| watchers[at].modes())
    }

    /// Everybody, by slot: the slices one after the other.
    pub fn slices(&self) -> impl Iterator<Item = &[Watcher]> {
        let (few, many) = match self {
            Crowd::Few(watchers) => (watchers.as_slice(), &[][..]),
            Crowd::Many(blocks) => (&[][..], blocks.0.as_slice()),
        };
        std::iter::once(few).chain(many.iter().map(|block| block.watchers.as_slice()))
    }

    /// `None` when there are several or none.
    pub fn only(&self) -> Option<Watcher> {
        match self {
            Crowd::Few(watchers) => (watchers.len() == 1).then(|| watchers[0]),
            Crowd::Many(_) => None,
        }
    }

    pub fn is_empty(&self) -> bool {
        matches!(self, Crowd::Few(watchers) if watchers.is_empty())
    }

    /// Sets the modes of `slot`; 0 removes it.
    pub fn set(&mut self, slot: u32, modes: u8) {
        let mut block = 0;
        let watchers = match self {
            Crowd::Few(watchers) => watchers,
            Crowd::Many(blocks) => {
                block = blocks.place(slot);
                &mut blocks.0[block].watchers
            }
        };
        match (position(watchers, slot), modes) {
            (Ok(at), 0) => {
                watchers.remove(at);
                self.lost_one(block);
            }
            (Ok(at), modes) => watchers[at] = Watcher::new(slot, modes),
            (Err(_), 0) => {}
            (Err(at), modes) => {
                let watcher = Watcher::new(slot, modes);
                if watchers.len() < BLOCK {
                    grow_sparingly(watchers, BLOCK);
                    watchers.insert(at, watcher);
                } else {
                    self.split(block, at, watcher);
                }
            }
        }
    }

    /// Keeps only these modes of everybody.
    pub fn retain(&mut self, modes: u8) {
        match self {
            Crowd::Few(watchers) => retain(watchers, modes),
            Crowd::Many(blocks) => {
                blocks.0.iter_mut().for_each(|block| retain(&mut block.watchers, modes));
                blocks.0.dedup_by(|block, before| {
                    let fits = before.watchers.len() + block.watchers.len() <= BLOCK;
                    if fits {
                        before.watchers.append(&mut block.watchers);
                    }
                    fits
                });
            }
        }
        self.settle();
    }

    /// The full block, with one more at this place of it, becomes two.
    fn split(&mut self, block: usize, at: usize, watcher: Watcher) {
        if let Crowd::Few(watchers) = self {
            let watchers = std::mem::take(watchers);
            *self = Crowd::Many(Box::new(Blocks(vec![Block { from: 0, watchers }])));
        }
        let Crowd::Many(blocks) = self else { unreachable!("made so above") };
        // A crowd mostly arrives in the order of its slots, or, where another has left, against it: it leaves full blocks.
        let half = match at {
            0 if block == 0 => 0,
            BLOCK if block + 1 == blocks.0.len() => BLOCK,
            _ => BLOCK / 2,
        };
        let left = &mut blocks.0[block].watchers;
        let mut right = Vec::with_capacity(BLOCK);
        right.extend(left.drain(half..));
        if at <= half && at < BLOCK {
            left.insert(at, watcher);
        } else {
            right.insert(at - half, watcher);
        }
        grow_sparingly(&mut blocks.0, usize::MAX);
        blocks.0.insert(block + 1, Block { from: right[0].slot(), watchers: right });
    }

    /// A block that has become empty goes, a small one joins a small neighbour: with room left, so that the next who come
    /// do not part them again.
    fn lost_one(&mut self, block: usize) {
        if let Crowd::Many(blocks) = self {
            for left in (block.saturating_sub(1)..=block).rev() {
                let [one, next, ..] = &mut blocks.0[left..] else { continue };
                let (here, there) = (one.watchers.len(), next.watchers.len());
                if here == 0 || there == 0 || here + there <= BLOCK / 2 {
                    one.watchers.append(&mut next.watchers);
                    blocks.0.remove(left + 1);
                }
            }
        }
        self.settle();
    }

    /// What is left of a large crowd in as much memory as it needs.
    fn settle(&mut self) {
        if let Crowd::Many(blocks) = self
            && let [only] = &mut blocks.0[..]
        {
            *self = Crowd::Few(std::mem::take(&mut only.watchers));
        }
        if let Crowd::Few(watchers) = self
            && watchers.capacity() > 2 * watchers.len() + 16
        {
            watchers.shrink_to(watchers.len() + watchers.len() / 4);
        }
    }
}

impl Blocks {
    /// The block that `slot` belongs into.
    fn place(&self, slot: u32) -> usize {
        self.0.partition_point(|block| block.from <= slot).saturating_sub(1)
    }
}

/// Room for one more, but not for more than `most`, growing by a quarter: a doubled list would spend half the memory on
/// nothing.
pub(super) fn grow_sparingly<T>(list: &mut Vec<T>, most: usize) {
    if list.len() == list.capacity() {
        list.reserve_exact((list.len() / 4 + 2).min(most - list.len()));
    }
}

fn position(watchers: &[Watcher], slot: u32) -> Result<usize, usize> {
    watchers.binary_search_by_key(&slot, |watcher| watcher.slot())
}

fn retain(watchers: &mut Vec<Watcher>, modes: u8) {
    watchers.retain_mut(|watcher| {
        let kept = watcher.keep(modes);
        *watcher = kept.unwrap_or(*watcher);
        kept.is_some()
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn everybody(crowd: &Crowd) -> Vec<Watcher> {
        crowd.slices().flatten().copied().collect()
    }

    /// Plays changes (slot, modes) on a crowd and on a plain map; both must tell the same, and blocks stand as they shall.
    fn check(crowd: &mut Crowd, changes: impl Iterator<Item = (u32, u8)>) {
        let mut model: BTreeMap<u32, u8> =
            everybody(crowd).into_iter().map(|watcher| (watcher.slot(), watcher.modes())).collect();
        for (slot, modes) in changes {
            assert_eq!(crowd.modes(slot), model.get(&slot).copied().unwrap_or(0));
            crowd.set(slot, modes);
            match modes {
                0 => drop(model.remove(&slot)),
                modes => drop(model.insert(slot, modes)),
            }
            assert_eq!(crowd.is_empty(), model.is_empty());
            assert_eq!(crowd.only().is_some(), model.len() == 1);
        }
        let expected: Vec<_> = model.into_iter().map(|(slot, modes)| Watcher::new(slot, modes)).collect();
        assert_eq!(everybody(crowd), expected);
        if let Crowd::Many(blocks) = crowd {
            assert!(blocks.0.len() > 1);
            assert!(blocks.0.is_sorted_by_key(|block| block.from));
            for (number, block) in blocks.0.iter().enumerate() {
                let first = block.watchers.first().expect("never empty").slot();
                assert!(number == 0 || block.from <= first);
                assert_eq!(block.watchers.capacity(), BLOCK);
            }
        }
    }

    fn scattered(seed: u64) -> impl Iterator<Item = u32> {
        let mut state = seed;
        std::iter::repeat_with(move || {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            (state >> 33) as u32
        })
    }

    fn room(crowd: &Crowd) -> usize {
        match crowd {
            Crowd::Few(watchers) => watchers.capacity(),
            Crowd::Many(blocks) => blocks.0.len() * BLOCK,
        }
    }

    #[test]
    fn agrees_with_a_plain_map_while_it_grows_and_shrinks() {
        let mut crowd = Crowd::default();
        // Of eight changes, so many take somebody away.
        let (count, slots) = if cfg!(miri) { (700, 2_000) } else { (20_000, 6_000) };
        for (seed, leave) in [1, 3, 7, 2, 6, 8].into_iter().enumerate() {
            let random = scattered(seed as u64).take(count);
            check(
                &mut crowd,
                random.map(|r| (r % slots, if (r >> 16) % 8 < leave { 0 } else { 1 + (r >> 20) as u8 % 15 })),
            );
        }
    }

    #[test]
    fn arriving_in_order_or_against_it_fills_the_blocks() {
        let count = 4 * BLOCK as u32;
        for order in [Box::new(0..count) as Box<dyn Iterator<Item = u32>>, Box::new((0..count).rev())] {
            let mut crowd = Crowd::default();
            check(&mut crowd, order.map(|slot| (slot, 1)));
            assert_eq!(room(&crowd), count as usize);
        }
    }

    #[test]
    fn leaving_in_any_order_gives_memory_back() {
        let count = 8 * BLOCK as u32;
        let steps = [1, count - 1, 1709];
        for step in steps {
            let mut crowd = Crowd::default();
            check(&mut crowd, (0..count).map(|slot| (slot, 3)));
            let leaving = (0..count).map(|turn| turn * step % count);
            for (gone, slot) in leaving.enumerate() {
                crowd.set(slot, 0);
                let left = count as usize - gone - 1;
                assert!(room(&crowd) <= 4 * left + 2 * BLOCK, "{} for {left}", room(&crowd));
                assert!(left >= 20 || room(&crowd) <= 2 * left + 16, "{} for {left}", room(&crowd));
            }
            assert!(crowd.is_empty());
        }
    }

    #[test]
    fn keeping_some_modes_joins_what_is_left() {
        let count = 5 * BLOCK as u32;
        for kept in [1, 2, 3, 100, count] {
            let mut crowd = Crowd::default();
            check(&mut crowd, (0..count).map(|slot| (slot, if slot % kept == 0 { 5 } else { 1 })));
            crowd.retain(4);
            let expected: Vec<_> =
                (0..count).filter(|slot| slot % kept == 0).map(|slot| Watcher::new(slot, 4)).collect();
            assert_eq!(everybody(&crowd), expected);
            check(&mut crowd, (0..count).map(|slot| (slot, 2)));
            crowd.retain(4);
            assert!(crowd.is_empty());
        }
    }
}
