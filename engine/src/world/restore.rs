//! A world out of a snapshot: sessions, ACLs, then znodes in the file's order.
//! Not here: the file (snapshot).

use super::apply::{Misplaced, recount_quota};
use super::head::{Head, OpenSession, Settings};
use super::quota::{self, LIMITS, QUOTA_ROOT};
use super::record::{AclId, NodeId};
use super::view::NEWEST;
use super::view::Node;
use crate::model::{Acl, Identity, SessionId, StatPersisted};
use crate::wire::AclBytes;
use ostler_replication::Zxid;
use std::collections::BTreeMap;

/// Key of the ACL that permits everything; never in a snapshot's map.
const OPEN_KEY: i64 = -1;

/// What makes a snapshot's content impossible.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RestoreError {
    #[error("the first znode of a snapshot is the root, with the path \"\", not {path:?}")]
    NoRoot { path: String },
    #[error("{path:?} is no path of a znode")]
    NoPath { path: String },
    #[error("znode {path:?} stands before its parent")]
    NoParent { path: String },
    #[error("znode {path:?} is there twice")]
    Twice { path: String },
    #[error("the file has no znodes")]
    Empty,
    #[error(
        "the tree is larger than a server holds ({bytes} bytes of znodes, {znodes} of them, are read so far): this file may \
         be whole; see ostler.treeMemory"
    )]
    TooLarge { bytes: u64, znodes: u64 },
}

/// Takes a snapshot's content and becomes a Head. Each attempt starts with a new one.
pub struct Restorer {
    head: Head,
    acls: BTreeMap<i64, AclId>,
    /// For keys that the map lacks: nobody may do anything, until replay brings the txn that set the ACL.
    unknown: AclId,
    has_root: bool,
    last_path: String,
    /// The last znode and its ancestors below the root, each with the length of its path.
    ancestors: Vec<(usize, NodeId)>,
}

impl Restorer {
    /// `zxid` is that of the file's name.
    pub fn new(settings: Settings, zxid: Zxid) -> Restorer {
        let mut head = Head::bare(settings);
        head.writer.restoring = true;
        head.writer.totals.zxid = zxid;
        head.writer.stamp = zxid.0;
        head.writer.sealed_limit = zxid.0;
        let nobody = AclBytes::encode(&[Acl { perms: 0, id: Identity::new("world", "anyone") }]);
        let unknown = head.writer.acls.intern(&head.shared, &nobody);
        Restorer {
            head,
            acls: BTreeMap::from([(OPEN_KEY, AclId::OPEN)]),
            unknown,
            has_root: false,
            last_path: String::new(),
            ancestors: Vec::new(),
        }
    }

    /// As [`Head::limit_memory`].
    pub fn limit_memory(&mut self, bytes: usize) {
        self.head.limit_memory(bytes);
    }

    fn make_room(&self, bytes: usize) -> Result<(), RestoreError> {
        if self.head.fits(bytes) {
            return Ok(());
        }
        let (usage, totals) = (self.head.usage(), self.head.totals());
        Err(RestoreError::TooLarge { bytes: usage.blocks, znodes: totals.znodes })
    }

    pub fn session(&mut self, id: SessionId, timeout_ms: i32) -> Result<(), RestoreError> {
        self.make_room(0)?;
        let writer = &mut self.head.writer;
        let slot = match writer.sessions.get(&id) {
            Some(known) => known.slot,
            None => writer.new_slot(),
        };
        writer.sessions.insert(id, OpenSession { slot, timeout_ms });
        self.head.shared.sessions.open(slot, id, timeout_ms, writer.stamp);
        Ok(())
    }

    pub fn acl(&mut self, key: i64, acl: &AclBytes<'_>) -> Result<(), RestoreError> {
        self.make_room(0)?;
        let id = self.head.writer.acls.intern(&self.head.shared, acl);
        self.acls.insert(key, id);
        Ok(())
    }

    /// The next znode of the file; the root's path is `""`.
    pub fn node(
        &mut self,
        path: &str,
        data: Option<&[u8]>,
        acl_key: i64,
        stat: StatPersisted,
    ) -> Result<(), RestoreError> {
        self.make_room(path.len() + data.map_or(0, <[u8]>::len))?;
        let acl = self.acls.get(&acl_key).copied().unwrap_or(self.unknown);
        let Head { shared, writer } = &mut self.head;
        if !self.has_root {
            if !path.is_empty() {
                return Err(RestoreError::NoRoot { path: path.to_owned() });
            }
            writer.plant_root(shared, data, acl, stat);
            self.has_root = true;
            return Ok(());
        }
        let parent = self.parent(path);
        let Head { shared, writer } = &mut self.head;
        let planted = writer.plant(shared, path, data, acl, stat, parent);
        let id = planted.map_err(|reason| {
            let path = path.to_owned();
            match reason {
                Misplaced::NoPath => RestoreError::NoPath { path },
                Misplaced::NoParent => RestoreError::NoParent { path },
                Misplaced::Twice => RestoreError::Twice { path },
            }
        })?;
        self.ancestors.push((path.len(), id));
        self.last_path.clear();
        self.last_path.push_str(path);
        Ok(())
    }

    /// In pre-order the parent is the last znode or one of its ancestors.
    fn parent(&mut self, path: &str) -> Option<NodeId> {
        let length = path.rfind('/')?;
        while self.ancestors.last().is_some_and(|(known, _)| *known > length) {
            self.ancestors.pop();
        }
        if length == 0 {
            return Some(NodeId::ROOT);
        }
        let (known, id) = *self.ancestors.last()?;
        (known == length && self.last_path.as_bytes().get(..length) == Some(&path.as_bytes()[..length]))
            .then_some(id)
    }

    /// The world, with usage of quotas counted afresh.
    pub fn finish(mut self) -> Result<Head, RestoreError> {
        if !self.has_root {
            return Err(RestoreError::Empty);
        }
        self.head.plant_missing();
        for subject in self.quotas() {
            let Head { shared, writer } = &mut self.head;
            writer.quotas.activate(&subject);
            recount_quota(shared, writer, &subject);
        }
        self.head.open();
        Ok(self.head)
    }

    /// Paths with limits that can have some.
    fn quotas(&self) -> Vec<String> {
        let shared = &self.head.shared;
        let Some((id, record)) = shared.find_newest(QUOTA_ROOT) else { return Vec::new() };
        let mut walk = Node { shared, limit: NEWEST, id, record }.walk(QUOTA_ROOT);
        let mut subjects = Vec::new();
        while let Some((path, node)) = walk.next() {
            if node.name() == LIMITS {
                let parent = &path[..path.len() - LIMITS.len() - 1];
                subjects.extend(quota::subject(parent).map(str::to_owned));
            }
        }
        subjects
    }
}
