//! Applying txns: the one path for live requests, replay, sync and tests.
//! Not here: whether a request is allowed (core). A txn is applied as it says; what it names and the tree lacks is
//! skipped, because replay from a fuzzy snapshot of Apache's meets its own future.
//! Invariant: the state is a function of the txns alone.

use super::arena::Handle;
use super::foresight::{Foreseen, ForeseenTxn, Foresight};
use super::hash::PathHash;
use super::head::{CONFIG_PATH, Head, OpenSession, Writer};
use super::quota;
use super::record::{AclId, Fields, NodeId, Payload};
use super::retire::Undo;
use super::view::{Found, Shared, Walk, is_root};
use super::view::{NEWEST, Node};
use crate::model::java::Table;
use crate::model::quota::{QuotaText, stats_path};
use crate::model::{ErrorCode, Owner, SessionId, Stat, StatPersisted, WallMillis, Xid, path};
use crate::wire::{AclBytes, Create, CreateKind, OpCode, SubTxn, TxnBody, TxnHeader};
use ostler_replication::Zxid;
use std::borrow::Cow;
use std::ops::Range;

/// What became of a txn, for its reply.
#[derive(Clone, PartialEq, Debug)]
pub struct TxnResult {
    /// `ErrorCode` as on the wire; 0 for success. A failed multi has 0: its parts have the codes.
    pub error: i32,
    pub reply: TxnReply,
}

/// What a reply carries, as of its txn or part of a multi.
#[derive(Clone, PartialEq, Debug)]
pub enum TxnReply {
    None,
    /// setData, setACL, reconfig.
    Stat(Stat),
    /// The creates.
    Created(Stat),
    /// One for each part. If the multi failed: 0 before the part that failed, its code, then -2.
    Multi(Vec<TxnResult>),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChangeKind {
    Created,
    Deleted,
    DataChanged,
}

/// One znode's change as watches need it; several of one txn stand in the order in which they were applied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    pub zxid: Zxid,
    pub kind: ChangeKind,
    /// Where the path is in `Changes::text`.
    pub path: Range<u32>,
    /// The znode's ACL: the one it was created with, has, or had when it was deleted.
    pub acl: AclId,
    /// Its parent's ACL as of this change; the znode's own for data changes.
    pub parent_acl: AclId,
}

/// The changes of a batch.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Changes {
    pub list: Vec<Change>,
    pub text: String,
}

/// Where a list of changes can be cut off again, together with `Head::rollback`.
#[derive(Clone, Copy, Debug)]
pub struct ChangesMark {
    list: usize,
    text: usize,
}

impl Changes {
    pub fn path(&self, change: &Change) -> &str {
        &self.text[change.path.start as usize..change.path.end as usize]
    }

    pub fn mark(&self) -> ChangesMark {
        ChangesMark { list: self.list.len(), text: self.text.len() }
    }

    pub fn truncate(&mut self, to: ChangesMark) {
        self.list.truncate(to.list);
        self.text.truncate(to.text);
    }

    fn push(&mut self, zxid: Zxid, kind: ChangeKind, path: &str, acl: AclId, parent_acl: AclId) {
        let start = self.text.len() as u32;
        self.text.push_str(path);
        self.list.push(Change { zxid, kind, path: start..self.text.len() as u32, acl, parent_acl });
    }
}

impl TxnResult {
    const OK: TxnResult = TxnResult { error: 0, reply: TxnReply::None };

    fn failed(code: ErrorCode) -> TxnResult {
        TxnResult { error: code.to_wire(), reply: TxnReply::None }
    }
}

/// Znodes that whoever judged a request has found already, so that applying it does not look for them again. They
/// exist, and are those that the txn's path and its parent name.
#[derive(Clone, Copy, Default, Debug)]
pub struct Known {
    pub node: Option<NodeId>,
    pub parent: Option<NodeId>,
}

impl Known {
    pub fn node(node: &Node<'_>) -> Known {
        Known { node: Some(node.id()), parent: None }
    }

    pub fn parent(parent: Option<NodeId>) -> Known {
        Known { node: None, parent }
    }
}

/// The txn being applied.
struct Txn<'a> {
    shared: &'a Shared,
    writer: &'a mut Writer,
    changes: &'a mut Changes,
    session: SessionId,
    zxid: Zxid,
    time: WallMillis,
    known: Known,
    foreseen: Option<ForeseenTxn>,
}

impl Head {
    /// Applies one txn to the open batch. To apply the parts of a multi one by one as they are validated, use `apply_part`.
    pub fn apply(&mut self, header: &TxnHeader, body: &TxnBody<'_>, changes: &mut Changes) -> TxnResult {
        self.apply_known(header, body, Known::default(), changes)
    }

    /// The same, with less to look up.
    pub fn apply_known(
        &mut self,
        header: &TxnHeader,
        body: &TxnBody<'_>,
        known: Known,
        changes: &mut Changes,
    ) -> TxnResult {
        self.apply_txn(header, body, (known, None), changes)
    }

    /// The same with what the foresight of this world said of this txn.
    pub fn apply_foreseen(
        &mut self,
        header: &TxnHeader,
        body: &TxnBody<'_>,
        (known, foreseen): (Known, Option<ForeseenTxn>),
        changes: &mut Changes,
    ) -> TxnResult {
        self.apply_txn(header, body, (known, foreseen), changes)
    }

    fn apply_txn(
        &mut self,
        header: &TxnHeader,
        body: &TxnBody<'_>,
        (known, foreseen): (Known, Option<ForeseenTxn>),
        changes: &mut Changes,
    ) -> TxnResult {
        let result = Txn { foreseen, ..self.txn(header, known, changes) }.body(body);
        // Last, so that at no time the zxid claims more than was done (ZOOKEEPER-3127).
        let totals = &mut self.writer.totals;
        totals.zxid = totals.zxid.max(header.zxid);
        result
    }

    /// Applies one part of a multi, `header` being that of the whole. Between a savepoint with `begin_parts` and
    /// either `rollback` or `finish_parts` this does the same as `apply` does with the multi.
    pub fn apply_part(&mut self, header: &TxnHeader, part: &SubTxn<'_>, changes: &mut Changes) -> TxnResult {
        self.txn(header, Known::default(), changes).part(part)
    }

    /// Ends a multi that was applied in parts.
    pub fn finish_parts(&mut self, header: &TxnHeader) {
        let totals = &mut self.writer.totals;
        totals.zxid = totals.zxid.max(header.zxid);
    }

    fn txn<'a>(&'a mut self, header: &TxnHeader, known: Known, changes: &'a mut Changes) -> Txn<'a> {
        let writer = &mut self.writer;
        // Equal to the zxid, unless zxids repeat or descend in a damaged log.
        writer.stamp = header.zxid.0.max(writer.sealed_limit + 1).max(writer.stamp);
        Txn {
            shared: &self.shared,
            writer,
            changes,
            session: header.session,
            zxid: header.zxid,
            time: header.time,
            known,
            foreseen: None,
        }
    }
}

impl Head {
    /// `show_members`, for a znode that is there.
    pub(super) fn set_members(&mut self, text: &[u8], version: Zxid, wall: WallMillis) {
        // The head of a txn that there is not; the world's zxid stays as it is.
        let (session, cxid, kind) = (SessionId::NONE, Xid(0), OpCode::SetData.to_i32());
        let header = TxnHeader { session, cxid, zxid: version, time: wall, kind };
        self.txn(&header, Known::default(), &mut Changes::default()).set_data(CONFIG_PATH, Some(text), -1);
    }
}

impl<'a> Txn<'a> {
    /// Parent and name, if there is one.
    fn split<'p>(&self, path: &'p str) -> Option<(&'p str, &'p str)> {
        let foreseen = self.foreseen.and_then(|foreseen| foreseen.split(path));
        foreseen.or_else(|| path::split(path)).filter(|(_, name)| !name.is_empty())
    }

    fn find_node(&self, path: &str) -> Option<Found<'a>> {
        self.find(path, self.known.node, self.foreseen.map(|foreseen| foreseen.node))
    }

    fn find_parent(&self, path: &str) -> Option<Found<'a>> {
        self.find(path, self.known.parent, self.foreseen.and_then(|foreseen| foreseen.parent))
    }

    fn find(&self, path: &str, known: Option<NodeId>, hash: Option<PathHash>) -> Option<Found<'a>> {
        let Some(id) = known else {
            let hash = hash.unwrap_or_else(|| self.shared.key.hash(path));
            return self.shared.find(hash, path, NEWEST);
        };
        debug_assert_eq!(self.shared.find_newest(path).map(|(id, _)| id), known);
        Some((id, self.shared.newest(id)))
    }

    fn body(&mut self, body: &TxnBody<'_>) -> TxnResult {
        match body {
            TxnBody::CreateSession { timeout_ms } => self.open_session(*timeout_ms),
            TxnBody::CloseSession { paths } => self.close_session(paths.as_deref()),
            TxnBody::Error { code } => TxnResult { error: *code, reply: TxnReply::None },
            TxnBody::Create(create) => self.create(create),
            TxnBody::Delete { path } | TxnBody::DeleteContainer { path } => self.delete(path),
            TxnBody::SetData { path, data, version } | TxnBody::Reconfig { path, data, version } => {
                self.set_data(path, data.as_deref(), *version)
            }
            TxnBody::SetAcl { path, acl, version } => self.set_acl(path, acl, *version),
            TxnBody::Multi(parts) => self.multi(parts),
        }
    }

    fn part(&mut self, part: &SubTxn<'_>) -> TxnResult {
        match part {
            SubTxn::Error { code, .. } => TxnResult { error: *code, reply: TxnReply::None },
            SubTxn::Create(create) => self.create(create),
            SubTxn::Delete { path } | SubTxn::DeleteContainer { path } => self.delete(path),
            SubTxn::SetData { path, data, version } => self.set_data(path, data.as_deref(), *version),
            SubTxn::Check { .. } => TxnResult::OK,
        }
    }

    fn multi(&mut self, parts: &[SubTxn<'_>]) -> TxnResult {
        let failed = parts.iter().position(|part| matches!(part, SubTxn::Error { .. }));
        self.writer.ascend(parts.iter().filter(|part| matches!(part, SubTxn::Create(_))).count());
        let results = match failed {
            None => parts.iter().map(|part| self.part(part)).collect(),
            Some(failed) => (0..parts.len())
                .map(|at| match &parts[at] {
                    SubTxn::Error { code, .. } if at == failed => {
                        TxnResult { error: *code, reply: TxnReply::None }
                    }
                    _ if at < failed => TxnResult::OK,
                    _ => TxnResult::failed(ErrorCode::RuntimeInconsistency),
                })
                .collect(),
        };
        TxnResult { error: 0, reply: TxnReply::Multi(results) }
    }

    fn open_session(&mut self, timeout_ms: i32) -> TxnResult {
        let writer = &mut *self.writer;
        if let Some(old) = writer.sessions.remove(&self.session) {
            writer.end_session(self.shared, self.session, old);
        }
        let slot = writer.new_slot();
        self.shared.sessions.open(slot, self.session, timeout_ms, writer.stamp);
        writer.sessions.insert(self.session, OpenSession { slot, timeout_ms });
        writer.log(Undo::SessionOpened(self.session));
        TxnResult::OK
    }

    fn close_session(&mut self, paths: Option<&[Cow<'_, str>]>) -> TxnResult {
        let writer = &mut *self.writer;
        if let Some(session) = writer.sessions.remove(&self.session) {
            writer.end_session(self.shared, self.session, session);
        }
        for path in paths.unwrap_or_default() {
            // Missing ones are passed over, whoever owns the others.
            self.delete(path);
        }
        // By path, not by id: ids differ between servers. Backwards, so that children go before their parents.
        let rest = self.writer.ephemerals.get(&self.session);
        let mut rest: Vec<String> = rest.into_iter().flatten().map(|id| self.shared.path_of(*id)).collect();
        rest.sort_unstable();
        for path in rest.iter().rev() {
            // Only a damaged log gives an ephemeral children that stay, and then it stays too.
            self.delete(path);
        }
        TxnResult::OK
    }

    fn create(&mut self, create: &Create<'_>) -> TxnResult {
        let (path, data) = (&*create.path, create.data.as_deref());
        let Some((parent_path, name)) = self.split(path) else {
            return TxnResult::failed(if is_root(path) {
                ErrorCode::NodeExists
            } else {
                ErrorCode::BadArguments
            });
        };
        let Some(parent) = self.find_parent(parent_path) else {
            return TxnResult::failed(ErrorCode::NoNode);
        };
        let acl = self.writer.acls.intern(self.shared, &create.acl);
        let hash = self.foreseen.map_or_else(|| self.shared.key.hash(path), |foreseen| foreseen.node);
        let known = self.shared.find_any(hash, path);
        if let Some((id, record)) = known.filter(|(_, record)| !record.is_tombstone()) {
            let parent = (parent_path, parent);
            return self.create_existing(path, (id, record), acl, parent, create.parent_cversion);
        }
        let owner = owner_of(create.kind, self.session);
        let stat = StatPersisted::created(self.zxid, self.time, owner);
        let fields = Fields::leaf(parent.0, stat, acl);
        let payload = self.writer.payload(self.shared, path, data);
        let counted = || self.writer.digest_with(self.shared, path, payload, &stat);
        let digest = self.foreseen.map_or_else(counted, |foreseen| foreseen.digest);
        debug_assert_eq!(digest, counted());
        let id = match known {
            None => self.writer.insert(self.shared, hash, name, &fields, payload, digest),
            Some(tombstone) => {
                self.writer.insert_again(self.shared, tombstone, &fields, payload, digest);
                tombstone.0
            }
        };
        self.writer.count_owner(owner, id, true);
        self.writer.count_node(path, data.map_or(0, <[u8]>::len), owner, true);
        self.writer.count_digest(0, digest);
        let parent_acl = self.adopt((parent_path, parent), id, create.parent_cversion);
        let length = data.map_or(0, <[u8]>::len);
        self.changes.push(self.zxid, ChangeKind::Created, path, acl, parent_acl);
        self.quota_created(parent_path, name);
        self.charge(path, 1, length as i64);
        TxnResult { error: 0, reply: TxnReply::Created(stat.to_wire(length, 0)) }
    }

    /// Enters a child with its parent; returns the parent's ACL.
    fn adopt(&mut self, parent: (&str, Found<'_>), child: NodeId, cversion: i32) -> AclId {
        let mut fields = parent.1.1.fields();
        self.writer.edit_children(self.shared, &mut fields, |edit, root| edit.insert(root, child));
        fields.count_children(1);
        self.raise_cversion(&mut fields.stat, cversion);
        self.restat(parent, &fields);
        fields.acl
    }

    /// The parent's rule for creates: cversion and pzxid go up together, or not at all.
    fn raise_cversion(&self, stat: &mut StatPersisted, cversion: i32) {
        let cversion = if cversion == -1 { stat.cversion.wrapping_add(1) } else { cversion };
        if cversion > stat.cversion {
            stat.cversion = cversion;
            stat.pzxid = self.zxid;
        }
    }

    /// A fuzzy snapshot had the znode already: its ACL may be of later (ZOOKEEPER-4846), the parent's Stat of earlier.
    fn create_existing(
        &mut self,
        path: &str,
        found: Found<'_>,
        acl: AclId,
        parent: (&str, Found<'_>),
        cversion: i32,
    ) -> TxnResult {
        let record = found.1;
        if record.acl() != acl {
            self.restat((path, found), &Fields { acl, ..record.fields() });
        }
        let mut fields = parent.1.1.fields();
        let before = fields.stat;
        self.raise_cversion(&mut fields.stat, cversion);
        if fields.stat != before {
            self.restat(parent, &fields);
        }
        TxnResult::failed(ErrorCode::NodeExists)
    }

    /// Stores a changed Stat, ACL or set of children; the data stays.
    fn restat(&mut self, (path, found): (&str, Found<'_>), fields: &Fields) {
        let gone = self.writer.digest_of(self.shared, path, found.1);
        self.replace(path, found, fields, found.1.payload(), gone);
    }

    /// `gone`: what the old version added to the digest.
    fn replace(&mut self, path: &str, found: Found<'_>, fields: &Fields, payload: Payload<'_>, gone: u32) {
        let new = self.writer.digest_with(self.shared, path, payload, &fields.stat);
        self.writer.replace(self.shared, found, fields, payload, new);
        self.writer.count_digest(gone, new);
    }

    fn delete(&mut self, path: &str) -> TxnResult {
        let Some((parent_path, name)) = self.split(path) else {
            return TxnResult::failed(ErrorCode::BadArguments);
        };
        let Some(parent) = self.find_parent(parent_path) else {
            return TxnResult::failed(ErrorCode::NoNode);
        };
        let mut fields = parent.1.fields();
        let before = fields.stat;
        fields.stat.pzxid = fields.stat.pzxid.max(self.zxid);
        let Some((id, record)) = self.find_node(path) else {
            if fields.stat != before {
                self.restat((parent_path, parent), &fields);
            }
            return TxnResult::failed(ErrorCode::NoNode);
        };
        if record.children().1 > 0 {
            // No server logs this. Apache would leave the children behind as orphans.
            return TxnResult::failed(ErrorCode::NotEmpty);
        }
        let (stat, length) = (record.stat(), record.data_length(&self.shared.memory));
        let gone = self.writer.digest_of(self.shared, path, record);
        self.writer.count_digest(gone, 0);
        self.writer.count_node(path, length, stat.owner, false);
        self.writer.count_owner(stat.owner, id, false);
        self.changes.push(self.zxid, ChangeKind::Deleted, path, record.acl(), fields.acl);
        self.writer.edit_children(self.shared, &mut fields, |edit, root| edit.remove(root, id));
        fields.children -= 1;
        self.restat((parent_path, parent), &fields);
        self.writer.bury(self.shared, id, record);
        self.quota_deleted(parent_path, name);
        self.charge(path, -1, -(length as i64));
        TxnResult::OK
    }

    fn set_data(&mut self, path: &str, data: Option<&[u8]>, version: i32) -> TxnResult {
        let Some((id, record)) = self.find_node(path) else {
            return TxnResult::failed(ErrorCode::NoNode);
        };
        let mut fields = record.fields();
        let old_length = record.data_length(&self.shared.memory);
        let length = data.map_or(0, <[u8]>::len);
        fields.stat.mzxid = self.zxid;
        fields.stat.mtime = self.time;
        fields.stat.version = version;
        let gone = self.writer.digest_of(self.shared, path, record);
        let payload = self.writer.renewed(self.shared, record, path, data);
        self.replace(path, (id, record), &fields, payload, gone);
        self.writer.totals.data_bytes = self.writer.totals.data_bytes - old_length as u64 + length as u64;
        self.changes.push(self.zxid, ChangeKind::DataChanged, path, fields.acl, fields.acl);
        self.charge(path, 0, length as i64 - old_length as i64);
        TxnResult { error: 0, reply: TxnReply::Stat(fields.stat.to_wire(length, fields.children as usize)) }
    }

    fn set_acl(&mut self, path: &str, acl: &AclBytes<'_>, version: i32) -> TxnResult {
        let Some(found) = self.find_node(path) else {
            return TxnResult::failed(ErrorCode::NoNode);
        };
        let mut fields = found.1.fields();
        fields.acl = self.writer.acls.intern(self.shared, acl);
        fields.stat.aversion = version;
        let length = found.1.data_length(&self.shared.memory);
        self.restat((path, found), &fields);
        TxnResult { error: 0, reply: TxnReply::Stat(fields.stat.to_wire(length, fields.children as usize)) }
    }

    fn quota_created(&mut self, parent_path: &str, name: &str) {
        let Some(subject) = quota::subject(parent_path) else { return };
        if name == quota::LIMITS && self.writer.quotas.activate(subject) {
            self.writer.log(Undo::QuotaOn(subject.into()));
        }
        if name == quota::STATS {
            recount_quota(self.shared, self.writer, subject);
        }
    }

    fn quota_deleted(&mut self, parent_path: &str, name: &str) {
        let Some(subject) = quota::subject(parent_path) else { return };
        if name == quota::LIMITS && self.writer.quotas.deactivate(subject) {
            self.writer.log(Undo::QuotaOff(subject.into()));
        }
    }

    /// Adds to the usage of the quota above a change.
    fn charge(&mut self, path: &str, count: i64, bytes: i64) {
        let Some(subject) = self.writer.quotas.deepest(path) else { return };
        rewrite_usage(self.shared, self.writer, subject, |usage| {
            usage.count = usage.count.wrapping_add(count);
            usage.bytes = usage.bytes.wrapping_add(bytes);
        });
    }
}

/// Whose a new znode is.
pub(super) fn owner_of(kind: CreateKind, session: SessionId) -> Owner {
    match kind {
        CreateKind::Plain { ephemeral: true, .. } => Owner::from_stored(session.0),
        CreateKind::Plain { ephemeral: false, .. } => Owner::Persistent,
        CreateKind::Container => Owner::Container,
        CreateKind::Ttl(ms) => Owner::Ttl(ms as u64 & crate::model::owner::TTL_MILLIS_MAX),
    }
}

impl Fields {
    fn leaf(parent: NodeId, stat: StatPersisted, acl: AclId) -> Fields {
        let (children_root, table) = (Handle::NONE, Table::CHILDREN);
        Fields { parent, stat, acl, children_root, children: 0, table }
    }

    fn count_children(&mut self, more: u32) {
        self.children += more;
        self.table = self.table.grown(self.children as usize);
    }
}

/// Counts the subtree of a quota afresh, as Apache does when the stats node is created and when a snapshot is loaded.
pub(super) fn recount_quota(shared: &Shared, writer: &mut Writer, subject: &str) {
    let (mut count, mut bytes) = (0, 0);
    if let Some((id, record)) = shared.find_newest(subject) {
        let mut walk = Walk::new(Node { shared, limit: NEWEST, id, record }, "");
        while let Some((_, node)) = walk.next() {
            count += 1;
            bytes += node.data().map_or(0, |data| data.len() as i64);
        }
    }
    rewrite_usage(shared, writer, subject, |usage| *usage = QuotaText::usage(count, bytes));
}

/// Rewrites a stats node's data in place: no Stat changes, no event, no zxid, and the digest does not cover it.
fn rewrite_usage(shared: &Shared, writer: &mut Writer, subject: &str, change: impl FnOnce(&mut QuotaText)) {
    let path = stats_path(subject);
    let Some((id, record)) = shared.find_newest(&path) else { return };
    let old: Option<&[u8]> = record.data(&shared.memory);
    let mut usage = QuotaText::parse_usage(old.unwrap_or_default());
    change(&mut usage);
    let text = usage.to_string();
    writer.totals.data_bytes =
        writer.totals.data_bytes - old.map_or(0, <[u8]>::len) as u64 + text.len() as u64;
    let payload = writer.renewed(shared, record, &path, Some(text.as_bytes()));
    let digest = writer.digest_with(shared, &path, payload, &record.stat());
    writer.replace(shared, (id, record), &record.fields(), payload, digest);
}

impl Writer {
    /// The root of a tree that has none.
    pub(super) fn plant_root(
        &mut self,
        shared: &Shared,
        data: Option<&[u8]>,
        acl: AclId,
        stat: StatPersisted,
    ) {
        let foreseen = Foresight::new(shared.key, self.digests).of("/", data, &stat);
        let fields = Fields::leaf(NodeId(0), stat, acl);
        let payload = self.payload(shared, "/", data);
        let id = self.insert(shared, foreseen.hash, "", &fields, payload, foreseen.digest);
        assert_eq!(id, NodeId::ROOT);
        self.count_planted("/", id, data, stat.owner, foreseen);
    }

    /// A znode with the Stat it had, in a tree that nobody reads yet. `parent` saves looking it up, and must be given while
    /// ids are gathered; whether a path is there twice shows later then. The parent does not know of this child before
    /// `adopt`.
    pub(super) fn plant(
        &mut self,
        shared: &Shared,
        sapling: Sapling<'_>,
        parent: Option<NodeId>,
        foreseen: Foreseen,
    ) -> Result<Planted, Misplaced> {
        let Sapling { path, data, acl, stat } = sapling;
        let slash = foreseen.slash.filter(|slash| slash + 1 < path.len()).ok_or(Misplaced::NoPath)?;
        let name = &path[slash + 1..];
        let parent = match parent {
            Some(id) => id,
            // The empty path is the root's, too.
            None => shared.find_newest(&path[..slash]).ok_or(Misplaced::NoParent)?.0,
        };
        if self.gathered.is_none() && shared.find(foreseen.hash, path, NEWEST).is_some() {
            return Err(Misplaced::Twice);
        }
        let owner = stat.owner;
        let fields = Fields::leaf(parent, stat, acl);
        let payload = self.payload(shared, path, data);
        let id = self.insert(shared, foreseen.hash, name, &fields, payload, foreseen.digest);
        self.count_planted(path, id, data, owner, foreseen);
        Ok(Planted { id, parent })
    }

    /// Makes planted znodes known to their parent.
    pub(super) fn adopt(&mut self, shared: &Shared, parent: NodeId, children: &[NodeId]) {
        if children.is_empty() {
            return;
        }
        let record = shared.newest(parent);
        let mut fields = record.fields();
        self.edit_children(shared, &mut fields, |edit, root| {
            children.iter().fold(root, |root, child| edit.insert(root, *child))
        });
        fields.count_children(children.len() as u32);
        // Neither data nor Stat changes: a record without a stamp needs none now.
        let digest = record.digest();
        let stamp = digest.map(|digest| self.stamp(Handle::NONE, digest));
        self.replace_unseen(shared, (parent, record), &fields, record.payload(), stamp);
    }

    fn count_planted(
        &mut self,
        path: &str,
        id: NodeId,
        data: Option<&[u8]>,
        owner: Owner,
        foreseen: Foreseen,
    ) {
        self.count_owner(owner, id, true);
        self.count_node(path, data.map_or(0, <[u8]>::len), owner, true);
        self.totals.digest = self.totals.digest.wrapping_add(foreseen.digest.into());
    }
}

/// A znode that has a record and a place in the index.
pub(super) struct Planted {
    pub id: NodeId,
    pub parent: NodeId,
}

/// A znode to be restored.
pub(super) struct Sapling<'a> {
    pub path: &'a str,
    pub data: Option<&'a [u8]>,
    pub acl: AclId,
    pub stat: StatPersisted,
}

/// Why a znode has no place in the tree being restored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Misplaced {
    NoPath,
    NoParent,
    Twice,
}
