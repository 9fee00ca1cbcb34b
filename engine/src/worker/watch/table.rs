//! The compact table under the watches: path → who watches it, how. Made for two shapes: very many watchers of one
//! znode (4 bytes each, `crowd`) and one watcher of very many znodes (20 bytes of entry, about 10 of index).
//! Not here: what a mode means, what fires it (`super`).
//!
//! Entries live in chunks that never move, and the index (`index`) grows in small steps: a worker holding a million
//! watches never stalls to grow.

use super::absent::Absent;
use super::crowd::{Crowd, Watcher};
use super::hash::{PathKey, Quick};
use super::index::Index;
use std::cell::LazyCell;

/// How the path of an entry can be found again when an operator asks for a listing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Name<'a> {
    /// The znode existed at registration and still does: its node id.
    Node(u32),
    Stored(&'a str),
}

/// Number of an entry; reused after the entry is gone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub struct EntryId(pub u32);

struct Entry {
    key: PathKey,
    /// Node id, or with `STORED` set an index into `names`. In a free entry: the next free one.
    name: u32,
    watchers: Watchers,
}

/// One `Watcher` in place, or the number of a crowd in its upper 28 bits, from 1, and modes 0; 0 in a free entry.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Watchers(Watcher);

impl Watchers {
    const FREE: Watchers = Watchers(Watcher(0));

    fn crowd(number: u32) -> Watchers {
        Watchers(Watcher((number + 1) << 4))
    }

    fn as_crowd(self) -> Option<u32> {
        (self.0.modes() == 0 && self != Watchers::FREE).then(|| self.0.slot() - 1)
    }
}

/// The same, to be looked at.
enum Listed<'a> {
    Only(Watcher),
    Crowd(&'a Crowd),
}

const STORED: u32 = 1 << 31;
const NO_ENTRY: u32 = u32::MAX;
const CHUNK: usize = 512;

pub struct Table {
    chunks: Vec<Box<[Entry]>>,
    free_entry: u32,
    crowds: Slab<Crowd>,
    names: Slab<Box<str>>,
    index: Index,
    absent: Absent,
    live: usize,
}

impl Table {
    pub fn new() -> Table {
        Table {
            chunks: Vec::new(),
            free_entry: NO_ENTRY,
            crowds: Slab::new(),
            names: Slab::new(),
            index: Index::new(),
            absent: Absent::new(),
            live: 0,
        }
    }

    /// Paths in the table.
    pub fn len(&self) -> usize {
        self.live
    }

    pub fn find(&self, key: PathKey) -> Option<EntryId> {
        self.index.find(key.quick, |id| key_of(&self.chunks, id) == key).map(EntryId)
    }

    /// The same, for paths that are looked for often; the whole key is asked for only where the quick half leads to
    /// somebody.
    #[inline]
    pub fn find_often(&mut self, quick: Quick, key: impl FnOnce() -> PathKey) -> Option<EntryId> {
        if self.is_absent(quick) {
            return None;
        }
        let key = LazyCell::new(key);
        let mut is_absent = true;
        let found = self.index.find(quick, |id| {
            let there = key_of(&self.chunks, id);
            is_absent &= there.quick != quick;
            there.quick == quick && there == *key
        });
        if is_absent {
            self.absent.note(quick);
        }
        found.map(EntryId)
    }

    /// True: no path with this hash is watched. False means nothing.
    #[inline]
    pub fn is_absent(&self, quick: Quick) -> bool {
        self.absent.has(quick)
    }

    /// Begins to fetch what `find_often` of this path would look at first.
    #[inline]
    pub fn prefetch(&self, quick: Quick) {
        if !self.is_absent(quick) {
            self.index.prefetch(quick);
        }
    }

    /// The entry of `key`, made with no watcher if there is none. The caller adds one before anything else.
    pub fn find_or_make(&mut self, key: PathKey, name: Name<'_>) -> EntryId {
        if let Some(found) = self.find(key) {
            return found;
        }
        let name = match name {
            Name::Node(node) if node & STORED == 0 => node,
            Name::Node(_) => STORED | self.names.insert(Box::from("")),
            Name::Stored(path) => STORED | self.names.insert(path.into()),
        };
        let id = self.allocate();
        let crowd = self.crowds.insert(Crowd::default());
        *self.entry_mut(id) = Entry { key, name, watchers: Watchers::crowd(crowd) };
        self.absent.forget(key.quick);
        self.index.insert(key.quick, id, |id| key_of(&self.chunks, id).quick);
        self.live += 1;
        EntryId(id)
    }

    /// Modes of `slot` on this path; 0 when it does not watch it.
    pub fn modes(&self, id: EntryId, slot: u32) -> u8 {
        match self.list(id) {
            Some(Listed::Crowd(crowd)) => crowd.modes(slot),
            Some(Listed::Only(only)) if only.slot() == slot => only.modes(),
            _ => 0,
        }
    }

    /// Everybody on this path, by slot. Nobody for an entry that is gone, and only then.
    pub fn watchers(&self, id: EntryId) -> impl Iterator<Item = Watcher> {
        let (only, crowd) = match self.list(id) {
            Some(Listed::Crowd(crowd)) => (None, Some(crowd)),
            Some(Listed::Only(only)) => (Some(only), None),
            None => (None, None),
        };
        only.into_iter().chain(crowd.into_iter().flat_map(Crowd::slices).flatten().copied())
    }

    pub fn is_gone(&self, id: EntryId) -> bool {
        self.list(id).is_none()
    }

    /// Sets the modes of `slot` on this path; 0 removes it, and the last removal frees the entry.
    pub fn set(&mut self, id: EntryId, slot: u32, modes: u8) {
        let watchers = self.entry(id.0).watchers;
        let Some(number) = watchers.as_crowd() else {
            return self.set_single(id, watchers.0, slot, modes);
        };
        self.crowds.get_mut(number).set(slot, modes);
        self.settle(id, number);
    }

    /// Keeps only the modes in `keep` of everybody on this path; frees the entry when nobody is left.
    pub fn retain_modes(&mut self, id: EntryId, keep: u8) {
        let watchers = self.entry(id.0).watchers;
        let Some(number) = watchers.as_crowd() else {
            let only = watchers.0;
            return self.set_single(id, only, only.slot(), only.modes() & keep);
        };
        self.crowds.get_mut(number).retain(keep);
        self.settle(id, number);
    }

    pub fn name(&self, id: EntryId) -> Name<'_> {
        match self.entry(id.0).name {
            name if name & STORED != 0 => Name::Stored(self.names.get(name & !STORED)),
            node => Name::Node(node),
        }
    }

    /// Bytes of path that the entry keeps.
    pub fn stored_bytes(&self, id: EntryId) -> usize {
        match self.name(id) {
            Name::Node(_) => 0,
            Name::Stored(path) => path.len(),
        }
    }

    /// The znode is gone, watches on its path remain: from now on the path itself is kept. False: it was already.
    pub fn store_name(&mut self, id: EntryId, path: &str) -> bool {
        let name = self.entry(id.0).name;
        if name & STORED == 0 {
            let stored = STORED | self.names.insert(path.into());
            self.entry_mut(id.0).name = stored;
        }
        name & STORED == 0
    }

    /// Every entry with a number from here on, ascending.
    pub fn iter_from(&self, first: EntryId) -> impl Iterator<Item = EntryId> + '_ {
        let all = first.0..(self.chunks.len() * CHUNK) as u32;
        all.filter(|&id| self.entry(id).watchers != Watchers::FREE).map(EntryId)
    }

    fn list(&self, id: EntryId) -> Option<Listed<'_>> {
        let entry = &self.chunks.get(id.0 as usize / CHUNK)?[id.0 as usize % CHUNK];
        match entry.watchers.as_crowd() {
            Some(number) => Some(Listed::Crowd(self.crowds.get(number))),
            None => (entry.watchers != Watchers::FREE).then_some(Listed::Only(entry.watchers.0)),
        }
    }

    /// The crowd of an entry back to one word when one is left in it, to nothing when none is.
    fn settle(&mut self, id: EntryId, number: u32) {
        let crowd = self.crowds.get(number);
        if crowd.is_empty() {
            self.crowds.remove(number);
            self.remove(id);
        } else if let Some(only) = crowd.only() {
            self.crowds.remove(number);
            self.entry_mut(id.0).watchers = Watchers(only);
        }
    }

    fn set_single(&mut self, id: EntryId, there: Watcher, slot: u32, modes: u8) {
        if there.slot() != slot {
            if modes != 0 {
                let crowd = self.crowds.insert(Crowd::pair(there, Watcher::new(slot, modes)));
                self.entry_mut(id.0).watchers = Watchers::crowd(crowd);
            }
        } else if modes != 0 {
            self.entry_mut(id.0).watchers = Watchers(Watcher::new(slot, modes));
        } else {
            self.remove(id);
        }
    }

    fn remove(&mut self, id: EntryId) {
        let Entry { key, name, .. } = *self.entry(id.0);
        self.index.remove(key.quick, id.0);
        if name & STORED != 0 {
            self.names.remove(name & !STORED);
        }
        let next = self.free_entry;
        *self.entry_mut(id.0) = Entry { key, name: next, watchers: Watchers::FREE };
        self.free_entry = id.0;
        self.live -= 1;
    }

    fn allocate(&mut self) -> u32 {
        if self.free_entry == NO_ENTRY {
            let first = (self.chunks.len() * CHUNK) as u32;
            let chunk = (first + 1..=first + CHUNK as u32).map(|next| Entry {
                key: PathKey::NONE,
                name: if next == first + CHUNK as u32 { NO_ENTRY } else { next },
                watchers: Watchers::FREE,
            });
            self.chunks.push(chunk.collect());
            self.free_entry = first;
        }
        let id = self.free_entry;
        self.free_entry = self.entry(id).name;
        id
    }

    fn entry(&self, id: u32) -> &Entry {
        &self.chunks[id as usize / CHUNK][id as usize % CHUNK]
    }

    fn entry_mut(&mut self, id: u32) -> &mut Entry {
        &mut self.chunks[id as usize / CHUNK][id as usize % CHUNK]
    }
}

/// Values behind small numbers that are reused.
pub(super) struct Slab<T> {
    values: Vec<T>,
    free: Vec<u32>,
}

impl<T: Default> Slab<T> {
    pub(super) fn new() -> Slab<T> {
        Slab { values: Vec::new(), free: Vec::new() }
    }

    pub(super) fn insert(&mut self, value: T) -> u32 {
        if let Some(number) = self.free.pop() {
            self.values[number as usize] = value;
            return number;
        }
        self.values.push(value);
        self.values.len() as u32 - 1
    }

    pub(super) fn remove(&mut self, number: u32) {
        self.values[number as usize] = T::default();
        self.free.push(number);
    }

    pub(super) fn get(&self, number: u32) -> &T {
        &self.values[number as usize]
    }

    pub(super) fn get_mut(&mut self, number: u32) -> &mut T {
        &mut self.values[number as usize]
    }
}

fn key_of(chunks: &[Box<[Entry]>], id: u32) -> PathKey {
    chunks[id as usize / CHUNK][id as usize % CHUNK].key
}

#[cfg(test)]
mod tests {
    use super::super::hash::HashKey;
    use super::*;
    use std::collections::BTreeMap;

    /// Plays additions and removals on the table and on a plain map; both must tell the same.
    fn check(operations: impl Iterator<Item = (u32, u32, u8)>) -> Table {
        let key = HashKey([7, 8]);
        let mut table = Table::new();
        let mut model: BTreeMap<u32, BTreeMap<u32, u8>> = BTreeMap::new();
        for (path, slot, modes) in operations {
            let text = format!("/node/{path}");
            let key_of_it = key.path(&text);
            let found = table.find(key_of_it);
            assert_eq!(table.find_often(key_of_it.quick, || key_of_it), found);
            match found {
                None if modes == 0 => {}
                found => {
                    let id =
                        found.unwrap_or_else(|| table.find_or_make(key.path(&text), Name::Stored(&text)));
                    table.set(id, slot, modes);
                }
            }
            let watchers = model.entry(path).or_default();
            match modes {
                0 => drop(watchers.remove(&slot)),
                modes => drop(watchers.insert(slot, modes)),
            }
            if watchers.is_empty() {
                model.remove(&path);
            }
        }
        assert_eq!(table.len(), model.len());
        assert_eq!(table.iter_from(EntryId(0)).count(), model.len());
        for (path, watchers) in model {
            let text = format!("/node/{path}");
            let id = table.find(key.path(&text)).expect("watched");
            assert_eq!(table.name(id), Name::Stored(&text));
            let expected: Vec<_> = watchers.iter().map(|(&slot, &modes)| Watcher::new(slot, modes)).collect();
            assert_eq!(present(&table, id), expected);
        }
        table
    }

    fn present(table: &Table, id: EntryId) -> Vec<Watcher> {
        table.watchers(id).collect()
    }

    fn scattered(seed: u64) -> impl Iterator<Item = u64> {
        let mut state = seed;
        std::iter::repeat_with(move || {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            state >> 33
        })
    }

    #[test]
    fn agrees_with_a_plain_map() {
        let random = scattered(1).take(60_000);
        check(random.map(|r| {
            (r as u32 % 3000, (r >> 12) as u32 % 7, ((r >> 20) % 16) as u8 & if r & 1 == 0 { 0 } else { 15 })
        }));
    }

    #[test]
    fn empties_completely() {
        let fill = (0..5000).map(|path| (path, path % 3, 1));
        let empty = (0..5000).map(|path| (path, path % 3, 0));
        let table = check(fill.chain(empty));
        assert_eq!(table.len(), 0);
    }

    #[test]
    fn a_path_is_found_beside_one_with_the_same_quick_hash() {
        let key = HashKey([7, 8]);
        let (watched, mut other) = (key.path("/a"), key.path("/b"));
        other.quick = watched.quick;
        let mut table = Table::new();
        let find = |table: &mut Table, key: PathKey| table.find_often(key.quick, || key);
        assert_eq!(find(&mut table, watched), None);
        let id = table.find_or_make(watched, Name::Node(5));
        table.set(id, 1, 1);
        for _ in 0..2 {
            assert_eq!(find(&mut table, other), None);
            assert_eq!(find(&mut table, watched), Some(id));
        }
        table.set(id, 1, 0);
        assert_eq!((find(&mut table, other), find(&mut table, watched)), (None, None));
    }

    #[test]
    fn many_watchers_on_one_path_come_and_go() {
        let order = scattered(3).take(4000).map(|r| (0, r as u32 % 1000, (r >> 20) as u8 & 3));
        check(order);
    }

    #[test]
    fn a_crowd_of_any_size_comes_and_leaves_in_any_order() {
        let key = HashKey([7, 8]);
        let mut table = Table::new();
        // Each moving all others would take minutes.
        let crowd = if cfg!(miri) { 2_000 } else { 200_000 };
        for step in [1, crowd - 1, 77_777] {
            let id = table.find_or_make(key.path("/a"), Name::Node(5));
            let order =
                || (0..crowd).map(|turn| (u64::from(turn) * u64::from(step) % u64::from(crowd)) as u32);
            order().for_each(|slot| table.set(id, slot, 1));
            assert_eq!(table.watchers(id).count() as u32, crowd);
            order().skip(2).for_each(|slot| table.set(id, slot, 0));
            let two: Vec<u32> = order().take(2).collect();
            table.set(id, two[0], 2);
            table.set(id, two[1], 0);
            assert_eq!(present(&table, id), [Watcher::new(two[0], 2)]);
            table.set(id, two[0], 0);
            assert!(table.is_gone(id) && present(&table, id).is_empty());
            assert_eq!(table.len(), 0);
        }
    }

    #[test]
    fn retaining_modes_frees_what_is_left_without() {
        let key = HashKey([7, 8]);
        let mut table = Table::new();
        for slots in [1u32, 2, 3] {
            let id = table.find_or_make(key.path("/a"), Name::Node(5));
            (0..slots).for_each(|slot| table.set(id, slot, if slot == 1 { 3 } else { 1 }));
            table.retain_modes(id, 2);
            assert_eq!(table.len(), (slots > 1) as usize);
            if slots > 1 {
                assert_eq!(present(&table, id), [Watcher::new(1, 2)]);
                assert_eq!(table.name(id), Name::Node(5));
                table.set(id, 1, 0);
            }
        }
        assert_eq!(table.len(), 0);
    }
}
