//! Which entries each connection watches, so that a connection that goes away costs only its own watches.
//! A list may hold entries that were fired since, or twice the same: the table decides. It is cleaned when it holds
//! twice as many as are alive.

use super::table::{EntryId, grow_sparingly};

pub(super) struct Owners {
    by_slot: Vec<Owner>,
}

#[derive(Default)]
struct Owner {
    live: u32,
    /// Of paths that are kept for its watches, each counted in full however many share it.
    path_bytes: u32,
    entries: Entries,
}

/// Up to four without a heap allocation: most connections watch next to nothing.
enum Entries {
    Few(u8, [EntryId; 4]),
    Many(Vec<EntryId>),
}

impl Default for Entries {
    fn default() -> Entries {
        Entries::Few(0, [EntryId(0); 4])
    }
}

impl Owners {
    pub fn new() -> Owners {
        Owners { by_slot: Vec::new() }
    }

    /// `slot` began to watch `id`; `watches` tells whether it watches some entry now.
    pub fn add(&mut self, slot: u32, id: EntryId, watches: impl Fn(EntryId) -> bool) {
        if self.by_slot.len() <= slot as usize {
            self.by_slot.resize_with(slot as usize + 1, Owner::default);
        }
        let owner = &mut self.by_slot[slot as usize];
        owner.live += 1;
        if owner.entries.as_slice().len() >= 2 * owner.live as usize + 4 {
            let mut kept: Vec<EntryId> =
                owner.entries.as_slice().iter().copied().filter(|&id| watches(id)).collect();
            kept.sort_unstable();
            kept.dedup();
            owner.entries = Entries::from(kept);
        }
        owner.entries.push(id);
    }

    /// A path of so many bytes is kept for one of its watches.
    pub fn charge(&mut self, slot: u32, bytes: usize) {
        let owner = &mut self.by_slot[slot as usize];
        owner.path_bytes = owner.path_bytes.saturating_add(bytes.min(u32::MAX as usize) as u32);
    }

    /// Whether `slot` watches more than anybody may.
    pub fn is_over(&self, slot: u32, most: u32, path_bytes_most: u32) -> bool {
        let owner = &self.by_slot[slot as usize];
        owner.live > most || owner.path_bytes > path_bytes_most
    }

    /// `slot` watches one entry less, with so many bytes of path kept.
    pub fn removed(&mut self, slot: u32, path_bytes: usize) {
        let owner = &mut self.by_slot[slot as usize];
        owner.live -= 1;
        owner.path_bytes = owner.path_bytes.saturating_sub(path_bytes.min(u32::MAX as usize) as u32);
        if owner.live == 0 {
            owner.entries = Entries::default();
            owner.path_bytes = 0;
        }
    }

    /// Everything `slot` may be watching; afterwards it watches nothing.
    pub fn take(&mut self, slot: u32) -> impl Iterator<Item = EntryId> + use<> {
        let owner = self.by_slot.get_mut(slot as usize).map(std::mem::take).unwrap_or_default();
        let (few, many) = match owner.entries {
            Entries::Few(count, few) => (few.into_iter().take(count as usize), Vec::new()),
            Entries::Many(many) => ([EntryId(0); 4].into_iter().take(0), many),
        };
        few.chain(many)
    }
}

impl Entries {
    fn from(list: Vec<EntryId>) -> Entries {
        if list.len() > 4 {
            return Entries::Many(list);
        }
        let mut few = [EntryId(0); 4];
        few[..list.len()].copy_from_slice(&list);
        Entries::Few(list.len() as u8, few)
    }

    fn as_slice(&self) -> &[EntryId] {
        match self {
            Entries::Few(count, few) => &few[..*count as usize],
            Entries::Many(many) => many,
        }
    }

    fn push(&mut self, id: EntryId) {
        match self {
            Entries::Few(count, few) if (*count as usize) < few.len() => {
                few[*count as usize] = id;
                *count += 1;
            }
            Entries::Few(_, few) => {
                let mut many = Vec::with_capacity(8);
                many.extend_from_slice(few);
                many.push(id);
                *self = Entries::Many(many);
            }
            Entries::Many(many) => {
                grow_sparingly(many);
                many.push(id);
            }
        }
    }
}
