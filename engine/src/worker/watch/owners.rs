//! Which entries each connection watches, so that a connection that goes away costs only its own watches.
//! A list may hold entries that were fired since, or twice the same: the table decides. It is cleaned when it holds
//! twice as many as are alive.

use super::table::{EntryId, Slab, grow_sparingly};

/// Eight bytes for each connection, more for those with more than one watch, or with one whose path is kept for it.
pub(super) struct Owners {
    by_slot: Vec<Owner>,
    books: Slab<Book>,
}

/// Either the only watch, or the number of a book, from 1.
#[derive(Clone, Copy)]
struct Owner {
    only: EntryId,
    book: u32,
}

impl Owner {
    const NOTHING: Owner = Owner { only: EntryId(u32::MAX), book: 0 };

    fn is_nothing(self) -> bool {
        self.book == 0 && self.only == Owner::NOTHING.only
    }
}

#[derive(Default)]
struct Book {
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
        Owners { by_slot: Vec::new(), books: Slab::new() }
    }

    /// `slot` began to watch `id`; `watches` tells whether it watches some entry now.
    pub fn add(&mut self, slot: u32, id: EntryId, watches: impl Fn(EntryId) -> bool) {
        let needed = slot as usize + 1;
        if self.by_slot.len() < needed {
            if self.by_slot.capacity() < needed {
                self.by_slot.reserve_exact(needed + needed / 4 - self.by_slot.len());
            }
            self.by_slot.resize(needed, Owner::NOTHING);
        }
        if self.by_slot[slot as usize].is_nothing() {
            self.by_slot[slot as usize].only = id;
            return;
        }
        let book = self.book(slot);
        book.live += 1;
        if book.entries.as_slice().len() >= 2 * book.live as usize + 4 {
            let mut kept: Vec<EntryId> =
                book.entries.as_slice().iter().copied().filter(|&id| watches(id)).collect();
            kept.sort_unstable();
            kept.dedup();
            book.entries = Entries::from(kept);
        }
        book.entries.push(id);
    }

    /// A path of so many bytes is kept for one of its watches.
    pub fn charge(&mut self, slot: u32, bytes: usize) {
        if bytes > 0 {
            let book = self.book(slot);
            book.path_bytes = book.path_bytes.saturating_add(bytes.min(u32::MAX as usize) as u32);
        }
    }

    /// Whether `slot` watches more than anybody may.
    pub fn is_over(&self, slot: u32, most: u32, path_bytes_most: u32) -> bool {
        match self.by_slot[slot as usize].book {
            0 => most == 0,
            number => {
                let book = self.books.get(number - 1);
                book.live > most || book.path_bytes > path_bytes_most
            }
        }
    }

    /// `slot` watches one entry less, with so many bytes of path kept.
    pub fn removed(&mut self, slot: u32, path_bytes: usize) {
        let owner = &mut self.by_slot[slot as usize];
        if owner.book == 0 {
            *owner = Owner::NOTHING;
            return;
        }
        let book = self.books.get_mut(owner.book - 1);
        book.live -= 1;
        book.path_bytes = book.path_bytes.saturating_sub(path_bytes.min(u32::MAX as usize) as u32);
        if book.live == 0 {
            self.books.remove(owner.book - 1);
            *owner = Owner::NOTHING;
        }
    }

    /// Everything `slot` may be watching; afterwards it watches nothing.
    pub fn take(&mut self, slot: u32) -> impl Iterator<Item = EntryId> + use<> {
        let owner = self.by_slot.get_mut(slot as usize);
        let owner = owner.map_or(Owner::NOTHING, |owner| std::mem::replace(owner, Owner::NOTHING));
        let entries = match owner.book {
            0 if owner.is_nothing() => Entries::default(),
            0 => Entries::from(vec![owner.only]),
            number => {
                let entries = std::mem::take(&mut self.books.get_mut(number - 1).entries);
                self.books.remove(number - 1);
                entries
            }
        };
        let (few, many) = match entries {
            Entries::Few(count, few) => (few.into_iter().take(count as usize), Vec::new()),
            Entries::Many(many) => ([EntryId(0); 4].into_iter().take(0), many),
        };
        few.chain(many)
    }

    /// The book of a connection that watches something, opened if it had none.
    fn book(&mut self, slot: u32) -> &mut Book {
        let owner = &mut self.by_slot[slot as usize];
        if owner.book == 0 {
            let entries = Entries::from(vec![owner.only]);
            owner.book = self.books.insert(Book { live: 1, path_bytes: 0, entries }) + 1;
        }
        self.books.get_mut(owner.book - 1)
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
