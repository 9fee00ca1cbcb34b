//! Batches after they are applied: undoing them, and freeing what they replaced.
//! Not here: what a txn changes (apply), how blocks are laid out (record, children, index).
//!
//! One log per batch serves both ways. Undone backwards, it restores what was replaced and drops what was made. Gone
//! through forwards, once the batch is committed and no View older than it lives, it frees what was replaced.
//!
//! # What is kept alive how long
//! Seals are numbered. A View of number n can reach what was replaced by batches above n, and nothing replaced by n or
//! below. The writer keeps one count of each View; a View whose only holder is the writer is gone, which the writer
//! learns with acquire ordering (`Arc::get_mut`), so all that its holders read happened before.
//! - First grace: what batch b replaced is freed when b is committed and every View below b is gone.
//! - Second grace, for what readers may have in hand through the index or a table even if their View does not show it:
//!   taken out of sight first, then freed when every View that was sealed at that moment is gone. So go the ids and
//!   tombstones of deleted znodes, records of undone txns, replaced index segments, and ACLs. A reader with a later View
//!   got it after the store that took the thing out of sight, hence cannot find it.
//! - Blobs and sets of children are reached only through a version that the reader's View shows: undone ones are freed
//!   at once.

use super::arena::Handle;
use super::head::{NotRetained, OpenSession, Savepoint, Writer};
use super::index::OldSegment;
use super::record::{AclId, NodeId, Record};
use super::table::Unpublished;
use super::view::{Pinned, Shared, Totals, View, is_newest};
use crate::model::SessionId;
use ostler_replication::Zxid;
use std::collections::VecDeque;
use std::sync::Arc;

/// A tombstone's mark: its batch has not been reclaimed yet.
pub(super) const PENDING: u32 = 0;
/// Its batch was reclaimed while the znode had been created again: nobody will unlink it but who restores it.
const PASSED: u32 = 1;
/// The index has forgotten it.
const UNLINKED: u32 = 2;

/// Steps between fetching an old version, which was replaced some batches ago, and freeing it.
const AHEAD: usize = 8;

/// One step of a batch, with what undoing or reclaiming it needs.
pub(super) enum Undo {
    /// A znode that was not in the index.
    Created {
        id: NodeId,
    },
    /// A new version. The old one is freed later.
    Replaced {
        id: NodeId,
        old: Handle,
    },
    /// A tombstone, which leads to the old version.
    Deleted {
        id: NodeId,
        tombstone: Handle,
    },
    /// A first version over a tombstone.
    Recreated {
        id: NodeId,
        tombstone: Handle,
    },
    BlobMade(Handle),
    BlobGone(Handle),
    PageMade(Handle),
    PageGone(Handle),
    SessionOpened(SessionId),
    SessionClosed(SessionId, OpenSession),
    QuotaOn(Box<str>),
    QuotaOff(Box<str>),
}

/// Out of sight, and freed when the Views of that moment are gone.
enum Limbo {
    Record(Handle),
    /// An id and its last record.
    Id(NodeId, Handle),
    /// A tombstone that came back when its batch had been reclaimed already.
    Unlink(NodeId, Handle),
    Segment(OldSegment),
    UnusedAcl(AclId),
    Acl(AclId, Unpublished),
}

/// A sealed batch that may yet be undone.
struct Batch {
    seal: u64,
    last: Zxid,
    before: Totals,
    undos: Vec<Undo>,
    bytes: usize,
}

/// A committed batch on its way to being reclaimed.
struct Settled {
    seal: u64,
    undos: std::vec::IntoIter<Undo>,
    bytes: usize,
}

#[derive(Default)]
pub(super) struct Retire {
    /// Number of the last seal.
    seals: u64,
    views: VecDeque<(u64, Arc<Pinned>)>,
    /// The open batch.
    undos: Vec<Undo>,
    open_bytes: usize,
    before: Option<Totals>,
    sealed: VecDeque<Batch>,
    settled: VecDeque<Settled>,
    limbo: VecDeque<(u64, Limbo)>,
    bytes: u64,
}

impl Retire {
    /// The world begins here: the first batch can be undone to these totals.
    pub(super) fn begin(&mut self, totals: Totals) {
        self.before = Some(totals);
    }

    /// Whether nothing was sealed and nothing is to be undone yet.
    pub(super) fn is_new(&self) -> bool {
        self.seals == 0 && self.undos.is_empty()
    }

    pub(super) fn log(&mut self, undo: Undo) {
        self.undos.push(undo);
    }

    /// Logs a step that will free this many bytes.
    pub(super) fn log_bytes(&mut self, undo: Undo, bytes: usize) {
        self.undos.push(undo);
        self.open_bytes += bytes;
        self.bytes += bytes as u64;
    }

    /// For a znode that the index has forgotten and no View has seen.
    pub(super) fn forgotten(&mut self, id: NodeId, record: Handle) {
        self.limbo.push_back((self.seals, Limbo::Id(id, record)));
    }

    pub(super) fn old_segment(&mut self, segment: OldSegment) {
        self.limbo.push_back((self.seals, Limbo::Segment(segment)));
    }

    pub(super) fn unused_acl(&mut self, acl: AclId) {
        self.limbo.push_back((self.seals, Limbo::UnusedAcl(acl)));
    }

    /// For an ACL that a version of the open batch had and no longer has: changes of that batch may name it, so it waits
    /// for the View that comes with them, too.
    pub(super) fn unused_acl_of_open(&mut self, acl: AclId) {
        self.limbo.push_back((self.seals + 1, Limbo::UnusedAcl(acl)));
    }

    /// Steps of committed batches that are not reclaimed yet.
    pub(super) fn backlog(&self) -> usize {
        self.settled.iter().map(|batch| batch.undos.len()).sum::<usize>() + self.limbo.len()
    }

    /// Bytes that batches replaced and that are not free yet.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn committed(&mut self, zxid: Zxid) {
        while self.sealed.front().is_some_and(|batch| batch.last <= zxid) {
            let batch = self.sealed.pop_front().expect("just seen");
            if batch.undos.is_empty() {
                // What was rolled back has counted some.
                self.bytes -= batch.bytes as u64;
            } else {
                let undos = batch.undos.into_iter();
                self.settled.push_back(Settled { seal: batch.seal, undos, bytes: batch.bytes });
            }
        }
    }

    /// Number of the oldest View that lives; of the next one if none does.
    fn oldest_view(&mut self) -> u64 {
        while let Some((_, view)) = self.views.front_mut() {
            // Acquires what the last holder did before it let go.
            if Arc::get_mut(view).is_none() {
                break;
            }
            self.views.pop_front();
        }
        self.views.front().map_or(self.seals + 1, |(seal, _)| *seal)
    }
}

impl Writer {
    pub(super) fn seal(&mut self, shared: &Arc<Shared>) -> View {
        assert!(!self.unread, "Views begin when the world is made");
        let retire = &mut self.retire;
        retire.seals += 1;
        let view = Pinned { shared: Arc::clone(shared), limit: self.stamp, totals: self.totals };
        let view = Arc::new(view);
        retire.views.push_back((retire.seals, Arc::clone(&view)));
        let before = retire.before.replace(self.totals).expect("a world has begun");
        retire.sealed.push_back(Batch {
            seal: retire.seals,
            last: self.totals.zxid,
            before,
            undos: std::mem::take(&mut retire.undos),
            bytes: std::mem::take(&mut retire.open_bytes),
        });
        self.sealed_limit = self.stamp;
        self.epoch += 1;
        View(view)
    }

    pub(super) fn savepoint(&mut self) -> Savepoint {
        assert!(!self.unread, "undoing begins when the world is made");
        // From here on, nothing written before is edited in place.
        self.epoch += 1;
        Savepoint { batch: self.retire.seals, undos: self.retire.undos.len(), totals: self.totals }
    }

    pub(super) fn rollback(&mut self, shared: &Shared, to: Savepoint) {
        assert_eq!(to.batch, self.retire.seals, "a savepoint is of the open batch");
        while self.retire.undos.len() > to.undos {
            let undo = self.retire.undos.pop().expect("more than the savepoint has");
            self.undo(shared, undo);
        }
        self.totals = to.totals;
    }

    pub(super) fn rewind(&mut self, shared: &Shared, to: Zxid) -> Result<(), NotRetained> {
        let retire = &mut self.retire;
        let base = retire.sealed.front().map_or(retire.before, |batch| Some(batch.before));
        let known = retire.sealed.iter().any(|batch| batch.last == to);
        if !known && base.is_none_or(|totals| totals.zxid != to) {
            return Err(NotRetained);
        }
        while let Some(undo) = self.retire.undos.pop() {
            self.undo(shared, undo);
        }
        self.retire.bytes -= std::mem::take(&mut self.retire.open_bytes) as u64;
        while self.retire.sealed.back().is_some_and(|batch| batch.last > to) {
            let batch = self.retire.sealed.pop_back().expect("just seen");
            batch.undos.into_iter().rev().for_each(|undo| self.undo(shared, undo));
            self.retire.bytes -= batch.bytes as u64;
            self.retire.before = Some(batch.before);
        }
        self.totals = self.retire.before.expect("a boundary was found");
        self.epoch += 1;
        // Stamps go on above every limit given out, so that Views of undone batches see nothing new.
        Ok(())
    }

    fn limbo(&mut self, limbo: Limbo) {
        self.retire.limbo.push_back((self.retire.seals, limbo));
    }

    fn undo(&mut self, shared: &Shared, undo: Undo) {
        match undo {
            Undo::Created { id } => {
                let record = shared.newest(id);
                self.count_owner(record.owner(), id, false);
                self.index.remove(&shared.index, shared.key.hash(&shared.path_of(id)), id);
                self.limbo(Limbo::Id(id, record.handle()));
            }
            Undo::Replaced { id, old } => {
                let new = shared.nodes.newest(id);
                shared.nodes.publish(id, old);
                self.limbo(Limbo::Record(new));
            }
            Undo::Deleted { id, tombstone } => {
                let old = Record::new(&shared.memory, tombstone).older();
                shared.nodes.publish(id, old);
                self.count_owner(Record::new(&shared.memory, old).owner(), id, true);
                self.limbo(Limbo::Record(tombstone));
            }
            Undo::Recreated { id, tombstone } => {
                let record = shared.newest(id);
                self.count_owner(record.owner(), id, false);
                shared.nodes.publish(id, tombstone);
                self.limbo(Limbo::Record(record.handle()));
                if Record::new(&shared.memory, tombstone).mark() == Some(PASSED) {
                    self.limbo(Limbo::Unlink(id, tombstone));
                }
            }
            Undo::BlobMade(blob) => self.free_blob(shared, blob),
            Undo::PageMade(page) => self.free_page(shared, page),
            Undo::BlobGone(_) | Undo::PageGone(_) => {}
            Undo::SessionOpened(id) => {
                let session = self.sessions.remove(&id).expect("an opened session is open");
                shared.sessions.withdraw(session.slot);
                self.free_slots.push(session.slot);
            }
            Undo::SessionClosed(id, session) => {
                shared.sessions.close(session.slot, u64::MAX);
                self.sessions.insert(id, session);
            }
            Undo::QuotaOn(path) => assert!(self.quotas.deactivate(&path)),
            Undo::QuotaOff(path) => assert!(self.quotas.activate(&path)),
        }
    }

    pub(super) fn reclaim(&mut self, shared: &Shared, budget: usize) -> usize {
        let oldest = self.retire.oldest_view();
        for done in 0..budget {
            if self.retire.limbo.front().is_some_and(|(seal, _)| *seal < oldest) {
                let (_, limbo) = self.retire.limbo.pop_front().expect("just seen");
                self.end(shared, limbo);
                continue;
            }
            let Some(batch) = self.retire.settled.front_mut().filter(|batch| batch.seal <= oldest) else {
                return done;
            };
            if let Some(Undo::Replaced { old, .. }) = batch.undos.as_slice().get(AHEAD) {
                shared.memory.prefetch(*old);
            }
            match batch.undos.next() {
                Some(undo) => self.settle(shared, undo),
                None => {
                    self.retire.bytes -= batch.bytes as u64;
                    self.retire.settled.pop_front();
                }
            }
        }
        budget
    }

    /// First grace is over: frees what this step replaced.
    fn settle(&mut self, shared: &Shared, undo: Undo) {
        match undo {
            Undo::Replaced { old, .. } => self.free_record(shared, old),
            Undo::Deleted { id, tombstone } => {
                let record = Record::new(&shared.memory, tombstone);
                self.free_record(shared, record.older());
                if is_newest(shared, id, tombstone) {
                    self.unlink(shared, id, tombstone);
                } else {
                    record.set_mark(&shared.memory, PASSED);
                }
            }
            Undo::Recreated { tombstone, .. } => self.free_record(shared, tombstone),
            Undo::BlobGone(blob) => self.free_blob(shared, blob),
            Undo::PageGone(page) => self.free_page(shared, page),
            Undo::SessionClosed(_, session) => self.free_slots.push(session.slot),
            Undo::Created { .. } | Undo::BlobMade(_) | Undo::PageMade(_) | Undo::SessionOpened(_) => {}
            Undo::QuotaOn(_) | Undo::QuotaOff(_) => {}
        }
    }

    fn unlink(&mut self, shared: &Shared, id: NodeId, tombstone: Handle) {
        self.index.remove(&shared.index, shared.key.hash(&shared.path_of(id)), id);
        Record::new(&shared.memory, tombstone).set_mark(&shared.memory, UNLINKED);
        self.limbo(Limbo::Id(id, tombstone));
    }

    /// Second grace is over.
    fn end(&mut self, shared: &Shared, limbo: Limbo) {
        match limbo {
            Limbo::Record(record) => self.free_record(shared, record),
            Limbo::Id(id, record) => {
                shared.nodes.publish(id, Handle::NONE);
                self.free_record(shared, record);
                self.free_ids.push(id);
            }
            Limbo::Unlink(id, tombstone) => {
                // It may have been built on again, or unlinked by an earlier entry like this one.
                let tombstone =
                    is_newest(shared, id, tombstone).then(|| Record::new(&shared.memory, tombstone));
                if let Some(record) = tombstone.filter(|record| record.mark() == Some(PASSED)) {
                    self.unlink(shared, id, record.handle());
                }
            }
            Limbo::Segment(segment) => self.index.free(segment),
            Limbo::UnusedAcl(acl) => {
                if let Some(entry) = self.acls.retire(shared, acl) {
                    self.limbo(Limbo::Acl(acl, entry));
                }
            }
            Limbo::Acl(acl, entry) => {
                drop(entry);
                self.acls.recycle(acl);
            }
        }
    }
}
