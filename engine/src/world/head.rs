//! The newest world, with exactly one owner: the core. Everything that changes goes through `apply`.
//! Not here: deciding what a request becomes (core); what readers see (view).

use super::acl::AclWriter;
use super::apply::{Planted, Sapling};
use super::arena::{Allocator, Handle};
use super::children::{Edit, Touched};
use super::digest;
use super::foresight::Foresight;
use super::hash::{HashKey, PathHash};
use super::index::{Gathered, IndexWriter};
use super::pages::{Marks, PagesAhead};
use super::quota::Quotas;
use super::record::{AclId, Blob, Draft, Fields, INLINE_BYTES_MAX, NodeId, Payload, Record, Stamp};
use super::retire::{Retire, Undo};
use super::table::{AclList, Nodes};
use super::view::{Ahead, Found, NEWEST, Node, Shared, Totals, View};
use crate::model::quota::{QuotaText, limits_path, stats_path};
use crate::model::{Owner, SessionId, StatPersisted, WallMillis};
use crate::wire::AclBytes;
use ostler_replication::Zxid;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What a world is made with.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Secret of this process: clients must not be able to choose paths that collide.
    pub hash_seed: [u64; 2],
    /// Whether the tree's digest is kept; it is 0 otherwise.
    pub digests: bool,
}

/// The speculative state: all txns applied, committed or not.
pub struct Head {
    pub(super) shared: Arc<Shared>,
    pub(super) writer: Writer,
}

/// All that is the writer's alone.
pub(super) struct Writer {
    pub blocks: Allocator,
    pub index: IndexWriter,
    pub acls: AclWriter,
    next_id: u32,
    pub free_ids: Vec<NodeId>,
    pub sessions: BTreeMap<SessionId, OpenSession>,
    next_slot: u32,
    pub free_slots: Vec<u32>,
    pub ephemerals: BTreeMap<SessionId, BTreeSet<NodeId>>,
    pub containers: BTreeSet<NodeId>,
    pub ttls: BTreeSet<NodeId>,
    pub quotas: Quotas,
    pub totals: Totals,
    /// What the present txn's records are stamped with: its zxid, or more if Views of this zxid exist already.
    pub stamp: u64,
    /// The highest limit that any View was given.
    pub sealed_limit: u64,
    /// Grows whenever what was written so far must not be edited in place any more.
    pub epoch: u64,
    pub retire: Retire,
    pub digests: bool,
    /// Nobody reads yet: everything is edited in place, and nothing that is replaced is kept.
    pub unread: bool,
    /// While a restore leaves the index for later: what belongs there.
    pub gathered: Option<Gathered>,
    touched: Vec<Touched>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct OpenSession {
    pub slot: u32,
    pub timeout_ms: i32,
}

/// A place in the open batch to go back to.
#[derive(Clone, Copy, Debug)]
pub struct Savepoint {
    pub(super) batch: u64,
    pub(super) undos: usize,
    pub(super) totals: Totals,
}

/// The batch boundary is not retained: it is older than what was committed, or was never one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotRetained;

/// An ephemeral znode as its session's list has it.
pub struct Ephemeral {
    pub id: NodeId,
    pub czxid: Zxid,
    pub path: String,
}

/// A znode's quota: the deepest one at or above a path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Quota<'p> {
    pub path: &'p str,
    pub limits: QuotaText,
    pub usage: QuotaText,
}

/// Memory of the world in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Usage {
    /// In records, large data and sets of children.
    pub blocks: u64,
    pub index: u64,
    /// Part of `blocks` that only waits for Views to go.
    pub retained: u64,
    /// What can still be had for blocks.
    pub left: u64,
}

/// What is left of the memory that the world may take, from plenty to nearly none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub enum Room {
    #[default]
    Ample,
    /// Nothing should be added; deleting and closing sessions go on.
    Low,
    /// Only closing sessions.
    Floor,
    /// A batch more might not find what it needs.
    Spent,
}

/// Most znodes: as many as the index finds quickly, and fewer than it has slots.
const ZNODES_MAX: usize = 300_000_000;
/// Most client sessions and different ACLs: some fewer than their tables hold.
const SESSIONS_MAX: usize = super::table::SESSIONS_MAX / 8 * 7;
const ACLS_MAX: usize = super::table::ACLS_MAX / 8 * 7;

/// What fits one of the blocks that are freed all the time, such as those of a set of children.
const SMALL_BYTES: usize = 1024;

/// Where Apache shows who is in the ensemble.
pub(super) const CONFIG_PATH: &str = "/zookeeper/config";

impl Head {
    /// The tree of a new server, at zxid 0.
    pub fn new(settings: Settings) -> Head {
        let mut head = Head::bare(settings);
        head.writer.unread = true;
        let stat = StatPersisted::created(Zxid::ZERO, WallMillis(0), Owner::Persistent);
        head.writer.plant_root(&head.shared, Some(b""), AclId::OPEN, stat);
        head.plant_system();
        head.open();
        head
    }

    /// Until `open`, applying keeps nothing of what it replaces: no View may be taken, and nothing can be undone. Only for
    /// a world of which no View was taken yet, such as one that a log is replayed into.
    pub fn close(&mut self) {
        assert!(self.writer.retire.is_new(), "a View was taken, or may be, of what would be edited in place");
        self.writer.unread = true;
    }

    /// Ends the making of a world: from here on there may be readers.
    pub fn open(&mut self) {
        let writer = &mut self.writer;
        writer.unread = false;
        writer.retire.begin(writer.totals);
        // What stands here may be gone back to, so it is not edited in place any more.
        writer.sealed_limit = writer.stamp;
        writer.epoch += 1;
    }

    /// No znode at all.
    pub(super) fn bare(settings: Settings) -> Head {
        let shared = Shared::new(HashKey::new(settings.hash_seed));
        let writer = Writer {
            blocks: Allocator::new(&shared.memory),
            index: IndexWriter::new(&shared.index),
            acls: AclWriter::new(&shared),
            next_id: NodeId::ROOT.0,
            free_ids: Vec::new(),
            sessions: BTreeMap::new(),
            next_slot: 0,
            free_slots: Vec::new(),
            ephemerals: BTreeMap::new(),
            containers: BTreeSet::new(),
            ttls: BTreeSet::new(),
            quotas: Quotas::default(),
            totals: Totals { zxid: Zxid::ZERO, digest: 0, znodes: 0, ephemerals: 0, data_bytes: 0 },
            stamp: 0,
            sealed_limit: 0,
            epoch: 1,
            retire: Retire::default(),
            digests: settings.digests,
            unread: false,
            gathered: None,
            touched: Vec::new(),
        };
        Head { shared: Arc::new(shared), writer }
    }

    /// What the tree of a new server has beside its root.
    fn plant_system(&mut self) {
        self.plant_one("/zookeeper", AclId::OPEN, 0);
        // In the order of Apache's first snapshot.
        self.plant_config();
        self.plant_one("/zookeeper/quota", AclId::OPEN, 0);
    }

    fn plant_config(&mut self) {
        let read_only = self.writer.acls.intern(&self.shared, &AclBytes::READ_ONLY);
        self.plant_one(CONFIG_PATH, read_only, -1);
    }

    fn plant_one(&mut self, path: &str, acl: AclId, aversion: i32) {
        let mut stat = StatPersisted::created(Zxid::ZERO, WallMillis(0), Owner::Persistent);
        stat.aversion = aversion;
        let foreseen = self.foresight().of(path, Some(b""), &stat);
        let sapling = Sapling { path, data: Some(b""), acl, stat };
        let planted = self.writer.plant(&self.shared, sapling, None, foreseen);
        let Planted { id, parent } = planted.expect("parents come first");
        self.writer.adopt(&self.shared, parent, &[id]);
    }

    /// Writes the configuration of the ensemble, which came with the txn `version`, into the tree. It is no txn: each server
    /// does it by itself, and no digest counts it. For a world of which no View was taken yet.
    pub fn show_members(&mut self, text: &str, version: Zxid, wall: WallMillis) {
        if self.get(CONFIG_PATH).is_none() {
            // A directory that was begun before 3.5.
            self.close();
            if self.get("/zookeeper").is_none() {
                self.plant_one("/zookeeper", AclId::OPEN, 0);
            }
            self.plant_config();
            self.open();
        }
        self.set_members(text.as_bytes(), version, wall);
    }

    /// What `apply_foreseen` wants of each txn; may be computed on any thread.
    pub fn foresight(&self) -> Foresight {
        Foresight::new(self.shared.key, self.writer.digests)
    }

    /// Whoever reads txns to be applied here may have memory made ready by this, on another thread, as long as `marks` are
    /// kept up to date by `mark`.
    pub fn pages_ahead(&self, marks: &Arc<Marks>) -> PagesAhead {
        self.mark(marks);
        PagesAhead::new(Arc::clone(&self.shared), Arc::clone(marks))
    }

    /// Says how far the memory is filled.
    pub fn mark(&self, marks: &Marks) {
        self.writer.mark(marks);
    }

    /// Gives back what was made ready and not filled; to be called when nothing is made ready any more.
    pub fn give_back(&self, marks: &Marks) {
        self.mark(marks);
        marks.give_back(&self.shared);
    }

    /// Last txn applied.
    pub fn zxid(&self) -> Zxid {
        self.writer.totals.zxid
    }

    /// The tree's digest with all that is applied.
    pub fn digest(&self) -> u64 {
        self.writer.totals.digest
    }

    /// Whether `digest` means anything.
    pub fn keeps_digests(&self) -> bool {
        self.writer.digests
    }

    pub fn totals(&self) -> Totals {
        self.writer.totals
    }

    pub fn get(&self, path: &str) -> Option<Node<'_>> {
        self.get_hashed(self.hash(path), path)
    }

    /// The same with the path's hash at hand.
    pub fn get_hashed(&self, hash: PathHash, path: &str) -> Option<Node<'_>> {
        let (id, record) = self.shared.find(hash, path, NEWEST)?;
        Some(self.node(id, record))
    }

    /// Of a path that is about to be looked up.
    pub fn hash(&self, path: &str) -> PathHash {
        self.shared.key.hash(path)
    }

    /// Begins to fetch what looking these up will touch, so that they wait for memory together.
    pub fn fetch_ahead(&self, hashes: &[PathHash], ahead: &mut Ahead) {
        self.shared.fetch_ahead(hashes.iter().copied(), ahead);
    }

    /// The first part of `fetch_ahead`, for txns to be applied some time later.
    pub fn fetch_index(&self, hashes: &[PathHash]) {
        hashes.iter().for_each(|hash| self.writer.index.prefetch(&self.shared.index, *hash));
    }

    /// The second part.
    pub fn fetch_found(&self, hashes: &[PathHash], ahead: &mut Ahead) {
        self.shared.fetch_found(hashes.iter().copied(), ahead);
    }

    /// For ids that Head named and no txn has since removed.
    pub fn get_id(&self, id: NodeId) -> Option<Node<'_>> {
        Some(self.node(id, self.shared.visible(id, NEWEST)?))
    }

    fn node<'a>(&'a self, id: NodeId, record: Record<'a>) -> Node<'a> {
        Node { shared: &self.shared, limit: NEWEST, id, record }
    }

    pub fn path_of(&self, node: &Node<'_>) -> String {
        self.shared.path_of(node.id)
    }

    pub fn acl(&self, id: AclId) -> Option<&AclList> {
        self.shared.acls.get(id)
    }

    pub fn acl_count(&self) -> usize {
        self.writer.acls.count()
    }

    /// Client sessions in the order of their ids, with their timeouts in milliseconds.
    pub fn sessions(&self) -> impl ExactSizeIterator<Item = (SessionId, i32)> + '_ {
        self.writer.sessions.iter().map(|(id, session)| (*id, session.timeout_ms))
    }

    /// The timeout in milliseconds of an open session.
    pub fn session(&self, id: SessionId) -> Option<i32> {
        self.writer.sessions.get(&id).map(|session| session.timeout_ms)
    }

    /// Sessions that own ephemerals, whether they are open or not.
    pub fn owners(&self) -> impl ExactSizeIterator<Item = (SessionId, usize)> + '_ {
        self.writer.ephemerals.iter().map(|(id, nodes)| (*id, nodes.len()))
    }

    /// Paths of the session's ephemerals, in no order that means anything.
    pub fn ephemerals(&self, session: SessionId) -> impl Iterator<Item = String> + '_ {
        self.ephemerals_after(session, None).map(|ephemeral| ephemeral.path)
    }

    /// The session's ephemerals behind a place (`None`: from the first), for going through them in portions.
    pub fn ephemerals_after(
        &self,
        session: SessionId,
        after: Option<NodeId>,
    ) -> impl Iterator<Item = Ephemeral> + '_ {
        let start = after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let nodes = self.writer.ephemerals.get(&session).into_iter();
        nodes.flat_map(move |nodes| nodes.range((start, std::ops::Bound::Unbounded))).map(|id| Ephemeral {
            id: *id,
            czxid: self.shared.newest(*id).czxid(),
            path: self.shared.path_of(*id),
        })
    }

    pub fn ephemeral_count(&self, session: SessionId) -> usize {
        self.writer.ephemerals.get(&session).map_or(0, BTreeSet::len)
    }

    /// Containers behind a place (`None`: from the first), for going through them in portions.
    pub fn containers(&self, after: Option<NodeId>) -> impl Iterator<Item = Node<'_>> {
        self.nodes_after(&self.writer.containers, after)
    }

    /// TTL znodes, likewise.
    pub fn ttl_nodes(&self, after: Option<NodeId>) -> impl Iterator<Item = Node<'_>> {
        self.nodes_after(&self.writer.ttls, after)
    }

    fn nodes_after<'a>(
        &'a self,
        set: &'a BTreeSet<NodeId>,
        after: Option<NodeId>,
    ) -> impl Iterator<Item = Node<'a>> {
        let start = after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        set.range((start, std::ops::Bound::Unbounded)).filter_map(|id| self.get_id(*id))
    }

    /// The quota that a change at this path is charged to; `None` too without a znode for its limits or its usage.
    pub fn quota<'p>(&self, path: &'p str) -> Option<Quota<'p>> {
        self.quota_at(self.writer.quotas.deepest(path)?)
    }

    /// The path itself or its deepest ancestor with a quota.
    pub fn quota_path<'p>(&self, path: &'p str) -> Option<&'p str> {
        self.writer.quotas.deepest(path)
    }

    /// Every quota that has both limits and usage, by path.
    pub fn quotas(&self) -> impl Iterator<Item = Quota<'_>> {
        self.writer.quotas.paths().filter_map(|path| self.quota_at(path))
    }

    fn quota_at<'p>(&self, path: &'p str) -> Option<Quota<'p>> {
        let text = |path: String| Some(self.get(&path)?.data().unwrap_or_default());
        let limits = QuotaText::parse_limits(text(limits_path(path))?);
        Some(Quota { path, limits, usage: QuotaText::parse_usage(text(stats_path(path))?) })
    }

    pub fn usage(&self) -> Usage {
        let writer = &self.writer;
        Usage {
            blocks: writer.blocks.bytes_live(),
            index: writer.index.bytes(),
            retained: writer.retire.bytes(),
            left: writer.blocks.bytes_left(),
        }
    }

    /// Lowers the bytes of znodes that this world may hold; by default, as many as its handles can name (32 GiB).
    pub fn limit_memory(&mut self, bytes: usize) {
        self.writer.blocks.limit(bytes);
    }

    /// What is left, given what was said last: a state is not left at once where it was entered.
    pub fn room(&self, before: Room) -> Room {
        self.writer.room(before)
    }

    /// Whether a txn with so many bytes of paths and data finds its place without breaking into what deletes need.
    pub fn holds(&self, bytes: usize) -> bool {
        self.writer.holds(bytes)
    }

    /// Whether a txn with so many bytes of paths and data finds its place at all: for what is not asked for, but was
    /// done already, by another process.
    pub fn fits(&self, bytes: usize) -> bool {
        self.writer.fits(bytes)
    }

    /// Closes the open batch: everything applied so far, as a View. Takes the same short time however large the batch.
    pub fn seal(&mut self) -> View {
        self.writer.seal(&self.shared)
    }

    /// What is to be known before the parts of a multi are applied one by one: how many of them create.
    pub fn begin_parts(&mut self, creates: usize) {
        self.writer.ascend(creates);
    }

    /// A place in the open batch for `rollback`.
    pub fn savepoint(&mut self) -> Savepoint {
        self.writer.savepoint()
    }

    /// Undoes what was applied since the savepoint, which must be of the open batch.
    pub fn rollback(&mut self, to: Savepoint) {
        self.writer.rollback(&self.shared, to);
    }

    /// Undoes the open batch and sealed, uncommitted ones down to the boundary at `to`. Views of undone batches show
    /// the state at `to` from then on and should not be read.
    pub fn rewind(&mut self, to: Zxid) -> Result<(), NotRetained> {
        self.writer.rewind(&self.shared, to)
    }

    /// Batches up to this zxid will not be undone.
    pub fn committed(&mut self, zxid: Zxid) {
        self.writer.retire.committed(zxid);
    }

    /// Retired things that are not freed yet, whether or not a View needs them still.
    pub fn backlog(&self) -> usize {
        self.writer.retire.backlog()
    }

    /// Frees up to `budget` retired things that no live View needs; returns how many. Less than `budget` means that
    /// there is nothing to do until a View goes or a batch commits.
    pub fn reclaim(&mut self, budget: usize) -> usize {
        self.writer.reclaim(&self.shared, budget)
    }
}

#[cfg(test)]
impl Head {
    pub(super) fn ids_in_use(&self) -> usize {
        self.writer.next_id as usize - 1 - self.writer.free_ids.len()
    }

    pub(super) fn session_slots_in_use(&self) -> usize {
        self.writer.next_slot as usize - self.writer.free_slots.len()
    }
}

impl Writer {
    /// Says how far each region is filled.
    #[inline]
    pub(super) fn mark(&self, marks: &Marks) {
        let nodes = Nodes::bytes_below(self.next_id);
        marks.fill(self.blocks.bytes_taken(), self.index.bytes_taken(), nodes);
    }

    /// The next so many new ids will ascend: what one multi creates is listed by them, having one czxid.
    pub(super) fn ascend(&mut self, creates: usize) {
        let from = self.free_ids.len().saturating_sub(creates);
        self.free_ids[from..].sort_unstable_by(|a, b| b.cmp(a));
    }

    pub(super) fn new_id(&mut self) -> NodeId {
        self.free_ids.pop().unwrap_or_else(|| {
            assert!(self.next_id < Nodes::capacity(), "more znodes than the table holds");
            self.next_id += 1;
            NodeId(self.next_id - 1)
        })
    }

    fn room(&self, before: Room) -> Room {
        let (left, free) = (self.blocks.bytes_left(), self.blocks.bytes_free());
        let reserve = self.blocks.bytes_reserve();
        let enough = if before == Room::Ample { reserve } else { reserve / 4 * 5 };
        // Freed blocks count, too; but they may be too small, so that some must be left that was never given out.
        match left + free {
            _ if left < reserve / 8 => Room::Spent,
            sum if sum < reserve / 4 => Room::Spent,
            _ if left < reserve / 4 => Room::Floor,
            sum if sum < reserve / 2 => Room::Floor,
            _ if left < reserve / 2 => Room::Low,
            sum if sum < enough => Room::Low,
            _ if self.is_crowded() => Room::Low,
            _ => Room::Ample,
        }
    }

    /// Whether a table is nearly full that takes no memory from the arena.
    fn is_crowded(&self) -> bool {
        self.next_id as usize - self.free_ids.len() > ZNODES_MAX
            || self.sessions.len() > SESSIONS_MAX
            || self.acls.count() > ACLS_MAX
    }

    fn holds(&self, bytes: usize) -> bool {
        // A block is up to an eighth larger than asked for, and a txn needs more than one.
        let wanted = bytes + bytes / 4 + SMALL_BYTES;
        self.blocks.bytes_left() > self.blocks.bytes_reserve() / 2 + wanted as u64
            || bytes <= SMALL_BYTES
            || self.blocks.has_free(wanted)
    }

    pub(super) fn fits(&self, bytes: usize) -> bool {
        let wanted = bytes + bytes / 4 + SMALL_BYTES;
        let (left, least) = (self.blocks.bytes_left(), self.blocks.bytes_reserve() / 8);
        (left > least + wanted as u64 || left > least && self.blocks.has_free(wanted))
            && self.next_id as usize - self.free_ids.len() < ZNODES_MAX / 16 * 17
            && self.sessions.len() < super::table::SESSIONS_MAX / 16 * 15
            && self.acls.count() < super::table::ACLS_MAX / 16 * 15
    }

    pub(super) fn new_slot(&mut self) -> u32 {
        self.free_slots.pop().unwrap_or_else(|| {
            self.next_slot += 1;
            self.next_slot - 1
        })
    }

    pub(super) fn stamp(&self, older: Handle, digest: u32) -> Stamp {
        Stamp { stamp: self.stamp, older, mark: self.epoch as u32, digest }
    }

    /// Writes a record into a block of its own and counts its ACL.
    fn write(&mut self, shared: &Shared, draft: &Draft<'_>, stamp: Option<Stamp>) -> Handle {
        let handle = self.blocks.alloc(&shared.memory, draft.bytes());
        draft.write(&shared.memory, handle, stamp);
        let acl = Record::new(&shared.memory, handle).acl();
        if acl != AclId::OPEN {
            self.acls.acquire(acl);
        }
        handle
    }

    /// Frees a record's block; its ACL may go with it.
    pub(super) fn free_record(&mut self, shared: &Shared, handle: Handle) {
        let record = Record::new(&shared.memory, handle);
        let (acl, bytes) = (record.acl(), record.bytes());
        self.release_acl(acl);
        self.blocks.free(&shared.memory, handle, bytes);
    }

    fn release_acl(&mut self, acl: AclId) {
        if acl != AclId::OPEN && self.acls.release(acl) {
            self.retire.unused_acl(acl);
        }
    }

    pub(super) fn free_blob(&mut self, shared: &Shared, blob: Handle) {
        let bytes = Blob::bytes_for(Blob::new(&shared.memory, blob).bytes());
        self.blocks.free(&shared.memory, blob, bytes);
    }

    /// The payload for new data: inline, or a blob that is written now.
    pub(super) fn payload<'a>(&mut self, shared: &Shared, path: &str, data: Option<&'a [u8]>) -> Payload<'a> {
        match data {
            None => Payload::Null,
            Some(data) if data.len() <= INLINE_BYTES_MAX => Payload::Inline(data),
            Some(data) => {
                let crc =
                    if self.digests && digest::counts(path) { digest::prefix(path, Some(data)) } else { 0 };
                let blob = self.blocks.alloc(&shared.memory, Blob::bytes_for(data));
                Blob::write(&shared.memory, blob, data, crc);
                self.log(Undo::BlobMade(blob));
                shared.longest.fetch_max(data.len(), Ordering::Relaxed);
                Payload::External(blob)
            }
        }
    }

    /// The same in place of what `old` has, which goes.
    pub(super) fn renewed<'a>(
        &mut self,
        shared: &Shared,
        old: Record<'_>,
        path: &str,
        data: Option<&'a [u8]>,
    ) -> Payload<'a> {
        if let Payload::External(blob) = old.payload() {
            self.gone_blob(shared, blob);
        }
        self.payload(shared, path, data)
    }

    pub(super) fn log(&mut self, undo: Undo) {
        if !self.unread {
            self.retire.log(undo);
        }
    }

    /// A new version of a znode, in place of the old one if no View can see that. `digest`: what it adds to the tree's.
    pub(super) fn replace(
        &mut self,
        shared: &Shared,
        (id, old): Found<'_>,
        fields: &Fields,
        payload: Payload<'_>,
        digest: u32,
    ) {
        if self.unread {
            let stamp = self.stamp(Handle::NONE, digest);
            return self.replace_unseen(shared, (id, old), fields, payload, Some(stamp));
        }
        let draft = Draft::stamped(fields, old.name(), payload);
        let owned = old.stamp() > self.sealed_limit && old.mark() == Some(self.epoch as u32);
        if owned && draft.fits(&old) {
            self.overwrite(shared, &draft, old, fields.acl, digest);
            return;
        }
        let new = self.write(shared, &draft, Some(self.stamp(old.handle(), digest)));
        shared.nodes.publish(id, new);
        self.retire.log_bytes(Undo::Replaced { id, old: old.handle() }, old.bytes());
    }

    fn overwrite(&mut self, shared: &Shared, draft: &Draft<'_>, old: Record<'_>, acl: AclId, digest: u32) {
        let before = old.acl();
        if acl != before {
            if acl != AclId::OPEN {
                self.acls.acquire(acl);
            }
            if before != AclId::OPEN && self.acls.release(before) {
                if self.unread {
                    self.retire.unused_acl(before);
                } else {
                    self.retire.unused_acl_of_open(before);
                }
            }
        }
        draft.overwrite(&shared.memory, old.handle(), digest);
    }

    /// `replace` where nobody reads. A stamp is of no use to Views then, but it knows the digest.
    pub(super) fn replace_unseen(
        &mut self,
        shared: &Shared,
        (id, old): Found<'_>,
        fields: &Fields,
        payload: Payload<'_>,
        stamp: Option<Stamp>,
    ) {
        let draft = match stamp {
            Some(_) => Draft::stamped(fields, old.name(), payload),
            None => Draft::first(fields, old.name(), payload),
        };
        if draft.fits(&old) {
            let digest = stamp.map_or(0, |stamp| stamp.digest);
            return self.overwrite(shared, &draft, old, fields.acl, digest);
        }
        let new = self.write(shared, &draft, stamp);
        shared.nodes.publish(id, new);
        self.free_record(shared, old.handle());
    }

    fn gone_blob(&mut self, shared: &Shared, blob: Handle) {
        if self.unread {
            self.free_blob(shared, blob);
        } else {
            let bytes = Blob::new(&shared.memory, blob).bytes().len();
            self.retire.log_bytes(Undo::BlobGone(blob), bytes);
        }
    }

    /// A znode that the index knows nothing of.
    pub(super) fn insert(
        &mut self,
        shared: &Shared,
        hash: PathHash,
        name: &str,
        fields: &Fields,
        payload: Payload<'_>,
        digest: u32,
    ) -> NodeId {
        let id = self.new_id();
        let record =
            if fields.stat.czxid.0 == self.stamp || (self.unread && fields.stat.czxid.0 <= self.stamp) {
                self.write(shared, &Draft::first(fields, name, payload), None)
            } else {
                let stamp = self.stamp(Handle::NONE, digest);
                self.write(shared, &Draft::stamped(fields, name, payload), Some(stamp))
            };
        shared.nodes.publish(id, record);
        if let Some(gathered) = self.gathered.as_mut().filter(|_| id != NodeId::ROOT) {
            gathered.add(hash, id);
        } else if id != NodeId::ROOT {
            let retire = &mut self.retire;
            let unread = self.unread;
            let mut unused = None;
            self.index.insert(&shared.index, hash, id, |segment| {
                if unread { unused = Some(segment) } else { retire.old_segment(segment) }
            });
            unused.into_iter().for_each(|segment| self.index.free(segment));
        }
        self.log(Undo::Created { id });
        id
    }

    /// A znode again where one was deleted a moment ago, so that old Views keep seeing the deleted one.
    pub(super) fn insert_again(
        &mut self,
        shared: &Shared,
        (id, tombstone): Found<'_>,
        fields: &Fields,
        payload: Payload<'_>,
        digest: u32,
    ) {
        assert!(!self.unread, "tombstones are for Views");
        let draft = Draft::stamped(fields, tombstone.name(), payload);
        let new = self.write(shared, &draft, Some(self.stamp(tombstone.handle(), digest)));
        shared.nodes.publish(id, new);
        self.retire.log_bytes(Undo::Recreated { id, tombstone: tombstone.handle() }, tombstone.bytes());
    }

    /// Marks a znode as deleted.
    pub(super) fn bury(&mut self, shared: &Shared, id: NodeId, old: Record<'_>) {
        let fields = old.fields();
        if let Payload::External(blob) = old.payload() {
            self.gone_blob(shared, blob);
        }
        if self.unread {
            return self.forget(shared, id, old.handle());
        }
        let stamp = Stamp { mark: super::retire::PENDING, ..self.stamp(old.handle(), 0) };
        let tombstone = self.write(shared, &Draft::tombstone(&fields, old.name()), Some(stamp));
        shared.nodes.publish(id, tombstone);
        self.retire.log_bytes(Undo::Deleted { id, tombstone }, old.bytes());
    }

    /// Takes a znode away that nobody has seen. Its id is free at the next `reclaim`, as ever not within the same multi:
    /// what that creates gets ascending ids.
    fn forget(&mut self, shared: &Shared, id: NodeId, record: Handle) {
        self.index.remove(&shared.index, shared.key.hash(&shared.path_of(id)), id);
        self.retire.forgotten(id, record);
    }

    /// Ends a session that is no longer among the open ones.
    pub(super) fn end_session(&mut self, shared: &Shared, id: SessionId, session: OpenSession) {
        shared.sessions.close(session.slot, self.stamp);
        if self.unread {
            self.free_slots.push(session.slot);
        } else {
            self.retire.log(Undo::SessionClosed(id, session));
        }
    }

    /// Changes the set of children in `fields`; the caller stores them.
    pub(super) fn edit_children(
        &mut self,
        shared: &Shared,
        fields: &mut Fields,
        edit: impl FnOnce(&mut Edit<'_>, Handle) -> Handle,
    ) {
        let mut touched = std::mem::take(&mut self.touched);
        let mut context = Edit {
            memory: &shared.memory,
            blocks: &mut self.blocks,
            epoch: self.epoch,
            touched: &mut touched,
        };
        fields.children_root = edit(&mut context, fields.children_root);
        for touched in touched.drain(..) {
            match touched {
                Touched::Made(page) => self.log(Undo::PageMade(page)),
                Touched::Gone(page) if self.unread => self.free_page(shared, page),
                Touched::Gone(page) => {
                    let bytes = super::children::bytes_of(&shared.memory, page);
                    self.retire.log_bytes(Undo::PageGone(page), bytes);
                }
            }
        }
        self.touched = touched;
    }

    pub(super) fn free_page(&mut self, shared: &Shared, page: Handle) {
        let bytes = super::children::bytes_of(&shared.memory, page);
        self.blocks.free(&shared.memory, page, bytes);
    }

    /// Enters a znode where its kind is looked up, or takes it out.
    pub(super) fn count_owner(&mut self, owner: Owner, id: NodeId, is_there: bool) {
        let set = match owner {
            Owner::Persistent => return,
            Owner::Container => &mut self.containers,
            Owner::Ttl(_) => &mut self.ttls,
            Owner::Ephemeral(session) => self.ephemerals.entry(session).or_default(),
        };
        let changed = if is_there { set.insert(id) } else { set.remove(&id) };
        assert!(changed, "{id:?} of {owner:?} was there twice or never");
        if let Owner::Ephemeral(session) = owner
            && self.ephemerals[&session].is_empty()
        {
            self.ephemerals.remove(&session);
        }
    }

    /// What a version that is there adds to the digest.
    #[inline]
    pub(super) fn digest_of(&self, shared: &Shared, path: &str, record: Record<'_>) -> u32 {
        let known = record.digest();
        known.unwrap_or_else(|| self.digest_with(shared, path, record.payload(), &record.stat()))
    }

    /// What a version with this data and this Stat adds to the digest.
    pub(super) fn digest_with(
        &self,
        shared: &Shared,
        path: &str,
        payload: Payload<'_>,
        stat: &StatPersisted,
    ) -> u32 {
        if !self.digests || !digest::counts(path) {
            return 0;
        }
        match payload {
            Payload::External(blob) => digest::finish(Blob::new(&shared.memory, blob).crc(), stat),
            Payload::Null => digest::of(path, None, stat),
            Payload::Inline(data) => digest::of(path, Some(data), stat),
        }
    }

    /// Takes what one znode added out of the digest, and puts in what another one adds.
    pub(super) fn count_digest(&mut self, gone: u32, new: u32) {
        self.totals.digest = self.totals.digest.wrapping_sub(gone.into()).wrapping_add(new.into());
    }

    /// Counts a znode that has come or gone.
    pub(super) fn count_node(&mut self, path: &str, data_length: usize, owner: Owner, is_there: bool) {
        let (one, bytes) = (1, (path.len() + data_length) as u64);
        let change = |count: &mut u64, by: u64| *count = if is_there { *count + by } else { *count - by };
        change(&mut self.totals.znodes, one);
        change(&mut self.totals.data_bytes, bytes);
        change(&mut self.totals.ephemerals, u64::from(owner.is_ephemeral()));
    }
}
