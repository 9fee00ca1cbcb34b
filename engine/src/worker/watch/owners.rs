//! Which entries each connection watches, so that a connection that goes away costs only its own watches.
//! A list may hold entries that were fired since, or twice the same: the table decides. It is cleaned when it holds
//! twice as many as are alive.

use super::crowd::grow_sparingly;
use super::table::{EntryId, Slab};

/// Four bytes for each connection, more for those with more than one watch, or with one whose path is kept for it.
pub(super) struct Owners {
    /// By slot, `PIECE` together: growing moves none, so it leaves no holes in the heap. One is empty until a slot of it
    /// watches something.
    pieces: Vec<Box<[Owner]>>,
    books: Slab<Book>,
}

/// Owners in a piece: a page of memory.
const PIECE: usize = 1024;

/// Nothing, the only watch, or with `BOOK` the number of a book.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Owner(u32);

const BOOK: u32 = 1 << 31;

impl Owner {
    const NOTHING: Owner = Owner(u32::MAX);

    fn as_book(self) -> Option<u32> {
        (self.0 & BOOK != 0 && self != Owner::NOTHING).then_some(self.0 & !BOOK)
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
        Owners { pieces: Vec::new(), books: Slab::new() }
    }

    /// `slot` began to watch `id`; `watches` tells whether it watches some entry now.
    pub fn add(&mut self, slot: u32, id: EntryId, watches: impl Fn(EntryId) -> bool) {
        let piece = slot as usize / PIECE;
        if self.pieces.len() <= piece {
            self.pieces.resize_with(piece + 1, Box::default);
        }
        if self.pieces[piece].is_empty() {
            self.pieces[piece] = vec![Owner::NOTHING; PIECE].into_boxed_slice();
        }
        let owner = self.owner_mut(slot);
        if *owner == Owner::NOTHING && id.0 < BOOK {
            *owner = Owner(id.0);
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
        match self.owner(slot).as_book() {
            None => most == 0,
            Some(number) => {
                let book = self.books.get(number);
                book.live > most || book.path_bytes > path_bytes_most
            }
        }
    }

    /// `slot` watches one entry less, with so many bytes of path kept.
    pub fn removed(&mut self, slot: u32, path_bytes: usize) {
        let owner = self.owner_mut(slot);
        let Some(number) = owner.as_book() else {
            *owner = Owner::NOTHING;
            return;
        };
        let book = self.books.get_mut(number);
        book.live -= 1;
        book.path_bytes = book.path_bytes.saturating_sub(path_bytes.min(u32::MAX as usize) as u32);
        if book.live == 0 {
            self.books.remove(number);
            *self.owner_mut(slot) = Owner::NOTHING;
        }
    }

    /// Everything `slot` may be watching; afterwards it watches nothing.
    pub fn take(&mut self, slot: u32) -> impl Iterator<Item = EntryId> + use<> {
        let owner = self.owner(slot);
        if owner != Owner::NOTHING {
            *self.owner_mut(slot) = Owner::NOTHING;
        }
        let entries = match owner.as_book() {
            None if owner == Owner::NOTHING => Entries::default(),
            None => Entries::from(vec![EntryId(owner.0)]),
            Some(number) => {
                let entries = std::mem::take(&mut self.books.get_mut(number).entries);
                self.books.remove(number);
                entries
            }
        };
        let (few, many) = match entries {
            Entries::Few(count, few) => (few.into_iter().take(count as usize), Vec::new()),
            Entries::Many(many) => ([EntryId(0); 4].into_iter().take(0), many),
        };
        few.chain(many)
    }

    /// The book of a connection, opened if it had none.
    fn book(&mut self, slot: u32) -> &mut Book {
        let owner = self.owner(slot);
        let number = owner.as_book().unwrap_or_else(|| {
            let book = match owner {
                Owner::NOTHING => Book::default(),
                Owner(only) => Book { live: 1, path_bytes: 0, entries: Entries::from(vec![EntryId(only)]) },
            };
            let number = self.books.insert(book);
            *self.owner_mut(slot) = Owner(BOOK | number);
            number
        });
        self.books.get_mut(number)
    }

    fn owner(&self, slot: u32) -> Owner {
        let piece = self.pieces.get(slot as usize / PIECE);
        piece.and_then(|piece| piece.get(slot as usize % PIECE)).copied().unwrap_or(Owner::NOTHING)
    }

    /// Of a slot that has watched something.
    fn owner_mut(&mut self, slot: u32) -> &mut Owner {
        &mut self.pieces[slot as usize / PIECE][slot as usize % PIECE]
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
                grow_sparingly(many, usize::MAX);
                many.push(id);
            }
        }
    }
}
