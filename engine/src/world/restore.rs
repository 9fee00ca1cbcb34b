//! A world out of a snapshot: sessions, ACLs, then znodes in the file's order.
//! Not here: the file (snapshot).

use super::apply::{Misplaced, Planted, Sapling, recount_quota};
use super::foresight::{Foreseen, Foresight};
use super::head::{Head, OpenSession, Settings};
use super::index::Gathered;
use super::pages::{Marks, PagesAhead};
use super::quota::{self, LIMITS, QUOTA_ROOT};
use super::record::{AclId, NodeId};
use super::view::NEWEST;
use super::view::Node;
use crate::model::{Acl, Identity, SessionId, StatPersisted};
use crate::wire::AclBytes;
use ostler_replication::Zxid;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Key of the ACL that permits everything; never in a snapshot's map.
const OPEN_KEY: i64 = -1;
/// Children gathered before their parent gets to know them.
const CHILDREN_GATHERED_MAX: usize = 1024;

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
    last_path: String,
    /// From the root to the last znode. Empty: there is no root yet.
    line: Vec<Ancestor>,
    marks: Arc<Marks>,
    /// The first znode whose path one before it has, found when the index was filled.
    twice: Option<NodeId>,
}

struct Ancestor {
    /// 0 for the root.
    path_length: usize,
    id: NodeId,
    /// Planted, and not yet known to it: they are handed over together, because each time costs a new record.
    children: Vec<NodeId>,
}

impl Ancestor {
    fn new(path_length: usize, id: NodeId) -> Ancestor {
        Ancestor { path_length, id, children: Vec::new() }
    }
}

impl Restorer {
    /// `zxid` is that of the file's name.
    pub fn new(settings: Settings, zxid: Zxid) -> Restorer {
        let mut head = Head::bare(settings);
        head.writer.unread = true;
        head.writer.totals.zxid = zxid;
        head.writer.stamp = zxid.0;
        head.writer.sealed_limit = zxid.0;
        let nobody = AclBytes::encode(&[Acl { perms: 0, id: Identity::new("world", "anyone") }]);
        let unknown = head.writer.acls.intern(&head.shared, &nobody);
        Restorer {
            head,
            acls: BTreeMap::from([(OPEN_KEY, AclId::OPEN)]),
            unknown,
            last_path: String::new(),
            line: Vec::new(),
            marks: Arc::default(),
            twice: None,
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

    /// What `node_foreseen` wants of each znode; may be computed on any thread.
    pub fn foresight(&self) -> Foresight {
        self.head.foresight()
    }

    /// Whoever reads the snapshot may have memory made ready by this, on another thread.
    pub fn pages_ahead(&self) -> PagesAhead {
        PagesAhead::new(Arc::clone(&self.head.shared), Arc::clone(&self.marks))
    }

    /// Fetches the memory that planting this znode will touch.
    pub fn expect(&self, foreseen: Foreseen) {
        if self.head.writer.gathered.is_none() {
            self.head.writer.index.prefetch(&self.head.shared.index, foreseen.hash);
        }
    }

    /// Has the index filled when all znodes are there, which is much quicker (index.rs says why). Of a znode that is there
    /// twice only `complete` tells then.
    pub fn gather(&mut self) {
        assert!(self.line.is_empty(), "asked for before the first znode");
        self.head.writer.gathered = Some(Gathered::new());
    }

    /// No more znodes come, or those that come are to find the ones before. An error: the number of the first znode that
    /// is there twice, counted from 0, which comes before all other errors.
    pub fn complete(&mut self) -> Result<(), (u64, RestoreError)> {
        let Head { shared, writer } = &mut self.head;
        if let Some(gathered) = writer.gathered.take() {
            let twice = &mut self.twice;
            writer.index.fill(&shared.index, gathered, &mut |known, later| {
                let (a, b) = (shared.newest(known), shared.newest(later));
                if a.parent() == b.parent() && a.name() == b.name() {
                    *twice = Some(twice.map_or(later, |first| first.min(later)));
                }
            });
        }
        match self.twice {
            // Ids are given out in the file's order.
            Some(id) => {
                let path = shared.path_of(id);
                Err((u64::from(id.0 - NodeId::ROOT.0), RestoreError::Twice { path }))
            }
            None => Ok(()),
        }
    }

    /// The next znode of the file; the root's path is `""`.
    pub fn node(
        &mut self,
        path: &str,
        data: Option<&[u8]>,
        acl_key: i64,
        stat: StatPersisted,
    ) -> Result<(), RestoreError> {
        let foreseen = self.foresight().of(path, data, &stat);
        self.node_foreseen(path, data, acl_key, stat, foreseen)
    }

    /// The same with what `foresight` says of this znode.
    pub fn node_foreseen(
        &mut self,
        path: &str,
        data: Option<&[u8]>,
        acl_key: i64,
        stat: StatPersisted,
        foreseen: Foreseen,
    ) -> Result<(), RestoreError> {
        self.make_room(path.len() + data.map_or(0, <[u8]>::len))?;
        let acl = self.acls.get(&acl_key).copied().unwrap_or(self.unknown);
        if self.line.is_empty() {
            if !path.is_empty() {
                return Err(RestoreError::NoRoot { path: path.to_owned() });
            }
            let Head { shared, writer } = &mut self.head;
            writer.plant_root(shared, data, acl, stat);
            self.line.push(Ancestor::new(0, NodeId::ROOT));
            return Ok(());
        }
        let parent = self.parent(path, foreseen.slash);
        if parent.is_none() {
            // It is to be looked up. A znode that is there twice is told of in the end.
            let _ = self.complete();
        }
        let Head { shared, writer } = &mut self.head;
        let Planted { id, parent: found } =
            writer.plant(shared, Sapling { path, data, acl, stat }, parent, foreseen).map_err(|reason| {
                let path = path.to_owned();
                match reason {
                    Misplaced::NoPath => RestoreError::NoPath { path },
                    Misplaced::NoParent => RestoreError::NoParent { path },
                    Misplaced::Twice => RestoreError::Twice { path },
                }
            })?;
        match self.line.last_mut().filter(|_| parent.is_some()) {
            Some(ancestor) => ancestor.children.push(id),
            None => {
                // Not in pre-order: the line leads elsewhere.
                self.shorten(1);
                self.head.writer.adopt(&self.head.shared, found, &[id]);
            }
        }
        self.shorten_children();
        self.head.writer.mark(&self.marks);
        self.line.push(Ancestor::new(path.len(), id));
        self.last_path.clear();
        self.last_path.push_str(path);
        Ok(())
    }

    /// In pre-order the parent is the last znode or one of its ancestors; if so, it ends the line.
    fn parent(&mut self, path: &str, slash: Option<usize>) -> Option<NodeId> {
        let length = slash?;
        let keep = self.line.iter().rposition(|ancestor| ancestor.path_length <= length)? + 1;
        self.shorten(keep);
        let last = self.line.last()?;
        let is_below = last.path_length == length
            && self.last_path.as_bytes().get(..length) == Some(&path.as_bytes()[..length]);
        is_below.then_some(last.id)
    }

    /// Lets go of all but the first `keep` of the line, whose children are all there.
    fn shorten(&mut self, keep: usize) {
        let Head { shared, writer } = &mut self.head;
        for ancestor in self.line.drain(keep.min(self.line.len())..).rev() {
            writer.adopt(shared, ancestor.id, &ancestor.children);
        }
    }

    /// The last of the line hands over its children when they are many.
    fn shorten_children(&mut self) {
        let Head { shared, writer } = &mut self.head;
        if let Some(last) = self.line.last_mut().filter(|last| last.children.len() >= CHILDREN_GATHERED_MAX) {
            writer.adopt(shared, last.id, &last.children);
            last.children.clear();
        }
    }

    /// The world with the znodes that the file holds and no other, so that servers with one history have one tree; usage of
    /// quotas is counted afresh. A directory that was begun before 3.5 has no `/zookeeper/config`.
    pub fn finish(mut self) -> Result<Head, RestoreError> {
        if self.line.is_empty() {
            return Err(RestoreError::Empty);
        }
        self.complete().map_err(|(_, error)| error)?;
        self.shorten(0);
        self.head.writer.mark(&self.marks);
        self.marks.give_back(&self.head.shared);
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
