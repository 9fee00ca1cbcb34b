//! Watches of the connections of one worker: registering, matching a change, removal, listings.
//! Not here: sockets, encoding, the tree, who may read what (the caller filters what `fire` returns).
//! Invariant: whatever is fired concerns a zxid that this worker has taken from the ring.
//!
//! Apache keeps a *data* and a *child* table; here both share one entry per path, and a watcher's four mode bits say
//! in which table it would be and how. Persistent watches are in both tables and always come and go in both, so they
//! are one bit.

mod absent;
mod crowd;
mod hash;
mod index;
mod owners;
mod table;

pub use hash::{HashKey, Quick};
pub use table::Name;

use crate::limits::{CONNECTION_WATCH_PATH_BYTES_MAX, CONNECTION_WATCHES_MAX};
use crowd::Watcher;
use hash::PathKey;
use owners::Owners;
use table::{EntryId, Table};

/// One way to watch a path. Several may hold for one path and connection at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// getData and exists: one-shot, on the path itself.
    Data,
    /// getChildren: one-shot, on the path and its list of children.
    Child,
    /// addWatch mode 0: both of the above, staying.
    Persistent,
    /// addWatch mode 1: the path and everything below it, staying; never children-changed.
    Recursive,
}

const DATA: u8 = 1;
const CHILD: u8 = 2;
const PERSISTENT: u8 = 4;
const RECURSIVE: u8 = 8;
const ALL: u8 = 15;

impl Mode {
    const fn bit(self) -> u8 {
        match self {
            Mode::Data => DATA,
            Mode::Child => CHILD,
            Mode::Persistent => PERSISTENT,
            Mode::Recursive => RECURSIVE,
        }
    }
}

/// What removeWatches and checkWatches ask about (Watcher.WatcherType).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WatcherType(u8);

impl WatcherType {
    /// `None` for numbers that the protocol does not know: -5.
    pub fn from_wire(raw: i32) -> Option<WatcherType> {
        let modes = match raw {
            1 => CHILD,
            2 => DATA,
            3 => ALL,
            4 => PERSISTENT,
            5 => RECURSIVE,
            _ => return None,
        };
        Some(WatcherType(modes))
    }
}

/// What happened to a znode, as far as watches care.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trigger {
    Created,
    Deleted,
    DataChanged,
}

/// Event types that a server sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i32)]
pub enum EventType {
    Created = 1,
    Deleted = 2,
    DataChanged = 3,
    ChildrenChanged = 4,
}

/// One event for one connection. Children-changed speaks of the parent and is filtered by the parent's ACL.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hit {
    pub slot: u32,
    pub event: EventType,
}

/// A place in a listing of all watches; the default is its beginning.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Place(EntryId);

/// Sums as Apache counts them.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counts {
    /// Pairs of path and connection in the data table and in the child table.
    pub data: usize,
    pub child: usize,
}

pub struct Watches {
    key: HashKey,
    table: Table,
    owners: Owners,
    counts: Counts,
    /// Recursive watches; without any, no ancestor is looked up.
    recursive: usize,
    ancestors: Vec<PathKey>,
    matched: Vec<u32>,
    watches_max: u32,
    path_bytes_max: u32,
    overfull: bool,
}

impl Watches {
    pub fn new(key: HashKey) -> Watches {
        Watches {
            key,
            table: Table::new(),
            owners: Owners::new(),
            counts: Counts::default(),
            recursive: 0,
            ancestors: Vec::new(),
            matched: Vec::new(),
            watches_max: CONNECTION_WATCHES_MAX,
            path_bytes_max: CONNECTION_WATCH_PATH_BYTES_MAX,
            overfull: false,
        }
    }

    /// True once after an `add` that took a connection beyond what one may watch: the caller closes it.
    #[inline]
    pub fn take_overfull(&mut self) -> bool {
        std::mem::take(&mut self.overfull)
    }

    pub fn is_empty(&self) -> bool {
        self.table.len() == 0
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Registers; idempotent. `node` is the znode's id when it exists: then the path is not stored again.
    pub fn add(&mut self, path: &str, node: Option<u32>, slot: u32, mode: Mode) {
        // `""` is the root by another name: from its id, a listing would give the other.
        let name = node.filter(|_| !path.is_empty()).map_or(Name::Stored(path), Name::Node);
        let id = self.table.find_or_make(self.key.path(path), name);
        let before = self.table.modes(id, slot);
        let after = before | mode.bit();
        if after == before {
            return;
        }
        self.table.set(id, slot, after);
        self.count(before, after);
        if before == 0 {
            let table = &self.table;
            self.owners.add(slot, id, |id| table.modes(id, slot) != 0);
            self.owners.charge(slot, table.stored_bytes(id));
            self.overfull |= self.owners.is_over(slot, self.watches_max, self.path_bytes_max);
        }
    }

    /// What `fire` needs of the path.
    #[inline]
    pub fn quick(&self, path: &str) -> Quick {
        self.key.quick(path)
    }

    /// Begins to fetch what `fire` of this path will look at.
    #[inline]
    pub fn approach(&self, quick: Quick) {
        self.table.prefetch(quick);
    }

    /// False: `fire` would tell nobody.
    #[inline]
    pub fn may_concern(&self, trigger: Trigger, quick: Quick) -> bool {
        trigger != Trigger::DataChanged || self.recursive > 0 || !self.table.is_absent(quick)
    }

    /// Appends to `hits` everybody to be told, in the order of Apache's lookups, and consumes one-shot watches. Within
    /// one lookup a connection appears once. `quick` is the path's.
    pub fn fire(&mut self, trigger: Trigger, path: &str, quick: Quick, hits: &mut Vec<Hit>) {
        if self.is_empty() {
            return;
        }
        let own = self.table.find_often(quick, || self.key.path(path));
        if own.is_none() && self.recursive == 0 && trigger == Trigger::DataChanged {
            return;
        }
        let mut ancestors = std::mem::take(&mut self.ancestors);
        if self.recursive > 0 {
            self.key.ancestors(path, &mut ancestors);
        }
        let event = match trigger {
            Trigger::Created => EventType::Created,
            Trigger::Deleted => EventType::Deleted,
            Trigger::DataChanged => EventType::DataChanged,
        };
        self.match_path(own, &ancestors, event, hits);
        if let Some(own) = own {
            let consumed = if trigger == Trigger::Deleted { DATA | CHILD } else { DATA };
            self.consume(own, consumed);
            if trigger == Trigger::Deleted && !self.table.is_gone(own) && self.table.store_name(own, path) {
                for watcher in self.table.watchers(own) {
                    self.owners.charge(watcher.slot(), path.len());
                }
            }
        }
        if trigger != Trigger::DataChanged
            && let Some(parent) = hash::parent(path).and_then(|parent| self.find_often(parent))
        {
            let told = slots_in(self.table.watchers(parent), CHILD | PERSISTENT);
            told.for_each(|slot| hits.push(Hit { slot, event: EventType::ChildrenChanged }));
            self.consume(parent, CHILD);
        }
        self.ancestors = ancestors;
    }

    /// False when there was nothing to remove: -121.
    pub fn remove(&mut self, path: &str, slot: u32, kind: WatcherType) -> bool {
        let Some(id) = self.find(path) else { return false };
        let before = self.table.modes(id, slot);
        let after = before & !kind.0;
        if after == before {
            return false;
        }
        let path_bytes = self.table.stored_bytes(id);
        self.table.set(id, slot, after);
        self.count(before, after);
        if after == 0 {
            self.owners.removed(slot, path_bytes);
        }
        true
    }

    pub fn contains(&self, path: &str, slot: u32, kind: WatcherType) -> bool {
        self.find(path).is_some_and(|id| self.table.modes(id, slot) & kind.0 != 0)
    }

    /// Forgets all watches of a connection that is gone, in time proportional to their number.
    pub fn drop_connection(&mut self, slot: u32) {
        for id in self.owners.take(slot) {
            let modes = self.table.modes(id, slot);
            if modes != 0 {
                self.table.set(id, slot, 0);
                self.count(modes, 0);
            }
        }
    }

    /// The data table as `wchs`, `wchc` and `wchp` show it: paths with the slots watching them there, one portion of
    /// them, and where the next begins. Between two portions watches may come and go.
    pub fn portion(
        &self,
        from: Place,
        paths: usize,
        mut tell: impl FnMut(Name<'_>, &mut dyn Iterator<Item = u32>),
    ) -> Option<Place> {
        let mut entries = self.table.iter_from(from.0);
        for id in entries.by_ref().take(paths) {
            let in_data = DATA | PERSISTENT | RECURSIVE;
            let mut slots = slots_in(self.table.watchers(id), in_data).peekable();
            if slots.peek().is_some() {
                tell(self.table.name(id), &mut slots);
            }
        }
        entries.next().map(Place)
    }

    fn find(&self, path: &str) -> Option<EntryId> {
        self.table.find(self.key.path(path))
    }

    fn find_often(&mut self, path: &str) -> Option<EntryId> {
        self.table.find_often(self.key.quick(path), || self.key.path(path))
    }

    /// The lookup in the data table for the path and its ancestors, then for deletions the one in the child table.
    fn match_path(
        &mut self,
        own: Option<EntryId>,
        ancestors: &[PathKey],
        event: EventType,
        hits: &mut Vec<Hit>,
    ) {
        // All by `for_each`, which is a loop over each of a crowd's blocks; asked for one by one they are a search for the
        // next block each time.
        let table = &self.table;
        let own = || own.into_iter().flat_map(|own| table.watchers(own));
        let direct = slots_in(own(), DATA | PERSISTENT | RECURSIVE);
        if self.recursive == 0 {
            direct.for_each(|slot| hits.push(Hit { slot, event }));
        } else {
            let above = ancestors.iter().filter_map(|&key| table.find(key)).flat_map(|id| table.watchers(id));
            let (matched, above) = (&mut self.matched, slots_in(above, RECURSIVE));
            matched.clear();
            direct.chain(above).for_each(|slot| matched.push(slot));
            matched.sort_unstable();
            matched.dedup();
            hits.extend(matched.iter().map(|&slot| Hit { slot, event }));
        }
        if event == EventType::Deleted {
            // Whoever the data lookup told already is skipped: recursive ones higher up are in `matched`.
            let only_child = own().filter(|watcher| watcher.modes() == CHILD).map(Watcher::slot);
            let untold =
                only_child.filter(|slot| self.recursive == 0 || self.matched.binary_search(slot).is_err());
            untold.for_each(|slot| hits.push(Hit { slot, event }));
        }
    }

    /// Takes these one-shot modes from everybody on the path.
    fn consume(&mut self, id: EntryId, modes: u8) {
        let mut any = false;
        let path_bytes = self.table.stored_bytes(id);
        self.table.watchers(id).for_each(|watcher| {
            let (before, after) = (watcher.modes(), watcher.modes() & !modes);
            if before != after {
                any = true;
                count(&mut self.counts, &mut self.recursive, before, after);
                if after == 0 {
                    self.owners.removed(watcher.slot(), path_bytes);
                }
            }
        });
        if any {
            self.table.retain_modes(id, !modes & ALL);
        }
    }

    fn count(&mut self, before: u8, after: u8) {
        count(&mut self.counts, &mut self.recursive, before, after);
    }
}

/// Of those who watch in one of these modes.
fn slots_in(watchers: impl Iterator<Item = Watcher>, modes: u8) -> impl Iterator<Item = u32> {
    watchers.filter(move |watcher| watcher.modes() & modes != 0).map(Watcher::slot)
}

fn count(counts: &mut Counts, recursive: &mut usize, before: u8, after: u8) {
    let within = |modes: u8, table: u8| (modes & table != 0) as usize;
    let (data, child) = (DATA | PERSISTENT | RECURSIVE, CHILD | PERSISTENT);
    counts.data = counts.data + within(after, data) - within(before, data);
    counts.child = counts.child + within(after, child) - within(before, child);
    *recursive = *recursive + within(after, RECURSIVE) - within(before, RECURSIVE);
}

#[cfg(test)]
mod tests;
