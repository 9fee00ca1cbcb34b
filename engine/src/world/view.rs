//! Views: the world as it was after one batch, for any number of readers, without locks and without writing shared
//! memory. Looking up paths, reading znodes, walking the tree.
//! Not here: changing anything (head, apply), and freeing (retire).
//!
//! # Who runs at once
//! A reader holds a `View`; the writer goes on. The View's `limit` selects, of each znode, the newest version whose
//! stamp is not above it. All that was written before the View was sealed is visible to whoever received the View, by
//! whatever handed it over (an `Arc` through a ring, a channel). What the writer does later is met in three places only:
//! index slots, the node table, the ACL and session tables. Those are atomics, and lead either to complete data or to
//! versions that the limit rules out. Nothing that a View can reach is freed or edited while it lives (retire.rs);
//! therefore every reference handed out borrows the View.

use super::arena::{Handle, Memory};
use super::children::Cursor;
use super::hash::{HashKey, PathHash};
use super::index::Index;
use super::record::{AclId, INLINE_BYTES_MAX, NodeId, Record};
use super::table::{AclList, Acls, CACHE_LINE_BYTES, Nodes, Sessions, prefetch};
use crate::limits::CHILDREN_PORTION;
use crate::model::java::{self, Table};
use crate::model::{Owner, SessionId, Stat, StatPersisted};
use ostler_replication::Zxid;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What readers and the writer share.
pub(super) struct Shared {
    pub memory: Memory,
    pub nodes: Nodes,
    pub index: Index,
    pub acls: Acls,
    pub sessions: Sessions,
    pub key: HashKey,
    /// The longest data that was ever kept apart from its record, bytes.
    pub longest: AtomicUsize,
}

/// What the index knows of a path: one znode, alive or deleted a moment ago.
pub(super) type Found<'a> = (NodeId, Record<'a>);

/// What `fetch_ahead` keeps between its steps; of no meaning to the caller.
#[derive(Default)]
pub struct Ahead(Vec<u32>);

/// The limit that sees everything, the open batch included. The writer's alone.
pub(super) const NEWEST: u64 = u64::MAX;

impl Shared {
    pub(super) fn new(key: HashKey) -> Shared {
        Shared {
            memory: Memory::new(),
            nodes: Nodes::new(),
            index: Index::new(),
            acls: Acls::new(),
            sessions: Sessions::new(),
            key,
            longest: AtomicUsize::new(0),
        }
    }

    #[inline]
    pub(super) fn newest(&self, id: NodeId) -> Record<'_> {
        Record::new(&self.memory, self.nodes.newest(id))
    }

    /// The version that a limit sees; `None` before creation and after deletion.
    #[inline]
    pub(super) fn visible(&self, id: NodeId, limit: u64) -> Option<Record<'_>> {
        let mut handle = self.nodes.newest(id);
        while !handle.is_none() {
            let record = Record::new(&self.memory, handle);
            if record.stamp() <= limit {
                return (!record.is_tombstone()).then_some(record);
            }
            handle = record.older();
        }
        None
    }

    /// Whether the znode of this record has this path: its last component, its parent's, and so on up to the root.
    #[inline]
    fn has_path(&self, record: Record<'_>, path: &str) -> bool {
        let mut rest = path.as_bytes();
        let mut record = record;
        loop {
            let name = record.name().as_bytes();
            let Some(slash) = rest.len().checked_sub(name.len() + 1) else { return false };
            if rest[slash] != b'/' || !same(&rest[slash + 1..], name) {
                return false;
            }
            rest = &rest[..slash];
            let parent = record.parent();
            if parent == NodeId::ROOT {
                return rest.is_empty();
            }
            if rest.is_empty() {
                return false;
            }
            // Name and parent are the same in all versions: the newest serves, whatever the limit.
            record = self.newest(parent);
        }
    }

    /// Begins to fetch what looking these up will touch: index, node table, record, and the parent's record.
    pub(super) fn fetch_ahead(&self, hashes: impl Iterator<Item = PathHash> + Clone, ahead: &mut Ahead) {
        hashes.clone().for_each(|hash| self.index.prefetch(hash));
        self.fetch_found(hashes, ahead);
    }

    /// The same when the index has been fetched.
    pub(super) fn fetch_found(&self, hashes: impl Iterator<Item = PathHash>, ahead: &mut Ahead) {
        let found = &mut ahead.0;
        found.clear();
        found.extend(hashes.filter_map(|hash| {
            self.index.find(hash, |id| {
                self.nodes.prefetch(id);
                Some(id.0)
            })
        }));
        for place in found.iter_mut() {
            let handle = self.nodes.newest(NodeId(*place));
            *place = handle.0;
            if !handle.is_none() {
                let at = self.memory.at(handle);
                prefetch(at);
                // Hardly any record ends before its second cache line.
                prefetch(at.wrapping_add(CACHE_LINE_BYTES));
            }
        }
        found.retain_mut(|handle| {
            if Handle(*handle).is_none() {
                return false;
            }
            let record = Record::new(&self.memory, Handle(*handle));
            record.prefetch_rest();
            self.nodes.prefetch(record.parent());
            *handle = record.parent().0;
            true
        });
        for parent in found.iter().map(|parent| self.nodes.newest(NodeId(*parent))) {
            if !parent.is_none() {
                let at = self.memory.at(parent);
                prefetch(at);
                // Of a parent, only the name is asked for, which may lie behind a full Stat.
                prefetch(at.wrapping_add(CACHE_LINE_BYTES));
                prefetch(at.wrapping_add(2 * CACHE_LINE_BYTES));
            }
        }
    }

    #[inline]
    pub(super) fn find(&self, hash: PathHash, path: &str, limit: u64) -> Option<Found<'_>> {
        if is_root(path) {
            return Some((NodeId::ROOT, self.visible(NodeId::ROOT, limit)?));
        }
        self.index.find(hash, |id| {
            let record = self.visible(id, limit)?;
            self.has_path(record, path).then_some((id, record))
        })
    }

    /// The newest record of the znode that the index has for a path, tombstones included.
    pub(super) fn find_any(&self, hash: PathHash, path: &str) -> Option<Found<'_>> {
        if is_root(path) {
            return Some((NodeId::ROOT, self.newest(NodeId::ROOT)));
        }
        self.index.find(hash, |id| {
            let record = self.newest(id);
            self.has_path(record, path).then_some((id, record))
        })
    }

    pub(super) fn find_newest(&self, path: &str) -> Option<Found<'_>> {
        self.find(self.key.hash(path), path, NEWEST)
    }

    /// The path of a znode that is in the index; `/` for the root.
    pub(super) fn path_of(&self, id: NodeId) -> String {
        self.path_if_any(id).expect("a znode of the index has a path")
    }

    /// `None`: no znode has this id.
    fn path_if_any(&self, id: NodeId) -> Option<String> {
        let mut names = Vec::new();
        let mut at = id;
        while at != NodeId::ROOT {
            let handle = self.nodes.newest_if_any(at)?;
            let record = Record::new(&self.memory, handle);
            names.push(record.name());
            at = record.parent();
        }
        if names.is_empty() {
            return Some("/".to_owned());
        }
        let mut path = String::with_capacity(names.iter().map(|name| name.len() + 1).sum());
        for name in names.iter().rev() {
            path.push('/');
            path.push_str(name);
        }
        Some(path)
    }
}

/// Equality of short texts of one length, without a call.
#[inline(always)]
fn same(a: &[u8], b: &[u8]) -> bool {
    let (mut left, mut right) = (a, b);
    while let (Some((x, a)), Some((y, b))) = (left.split_first_chunk::<8>(), right.split_first_chunk::<8>()) {
        if u64::from_ne_bytes(*x) != u64::from_ne_bytes(*y) {
            return false;
        }
        (left, right) = (a, b);
    }
    if let (Some(x), Some(y)) = (a.last_chunk::<8>(), b.last_chunk::<8>()) {
        return u64::from_ne_bytes(*x) == u64::from_ne_bytes(*y);
    }
    left.iter().zip(right).all(|(x, y)| x == y)
}

/// Reads take the empty path for the root's.
#[inline]
pub(super) fn is_root(path: &str) -> bool {
    path.is_empty() || path == "/"
}

/// Sums over the whole tree, as of some txn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Totals {
    /// Last txn applied.
    pub zxid: Zxid,
    /// Sum of all znodes' digests; 0 when digests are off.
    pub digest: u64,
    /// Znodes, the root and `/zookeeper` included. Apache reports one more: it counts the root under two names.
    pub znodes: u64,
    pub ephemerals: u64,
    /// Bytes of all paths and data (Apache's approximate data size).
    pub data_bytes: u64,
}

pub(super) struct Pinned {
    pub shared: Arc<Shared>,
    pub limit: u64,
    pub totals: Totals,
}

/// The world as of one zxid. Cloning counts holders; as long as one lives, what it sees stays.
#[derive(Clone)]
pub struct View(pub(super) Arc<Pinned>);

impl View {
    #[inline]
    pub fn zxid(&self) -> Zxid {
        self.0.totals.zxid
    }

    pub fn totals(&self) -> Totals {
        self.0.totals
    }

    /// No znode's data is or was longer, in this View or one before it; bytes.
    #[inline]
    pub fn longest_data(&self) -> usize {
        self.0.shared.longest.load(Ordering::Relaxed).max(INLINE_BYTES_MAX)
    }

    /// The znode with exactly this path; `""` and `/` both name the root. Never allocates.
    #[inline]
    pub fn get(&self, path: &str) -> Option<Node<'_>> {
        self.get_hashed(self.hash(path), path)
    }

    /// For looking up many paths: `hash` all, `fetch_ahead`, then `get_hashed`.
    #[inline]
    pub fn hash(&self, path: &str) -> PathHash {
        let shared = &self.0.shared;
        let hash = shared.key.hash(path);
        shared.index.prefetch_directory(hash);
        hash
    }

    /// Begins to fetch what looking these up will touch, so that they wait for memory together.
    #[inline]
    pub fn fetch_ahead(&self, hashes: impl Iterator<Item = PathHash> + Clone, ahead: &mut Ahead) {
        self.0.shared.fetch_ahead(hashes, ahead);
    }

    #[inline]
    pub fn get_hashed(&self, hash: PathHash, path: &str) -> Option<Node<'_>> {
        let pinned = &*self.0;
        let (id, record) = pinned.shared.find(hash, path, pinned.limit)?;
        Some(Node { shared: &pinned.shared, limit: pinned.limit, id, record })
    }

    /// `None` only for ids that no znode of this View, and no change of its batch, names.
    #[inline]
    pub fn acl(&self, id: AclId) -> Option<&AclList> {
        self.0.shared.acls.get(id)
    }

    /// All ACLs that znodes of this View have, and perhaps some more. `AclId::OPEN` is among them.
    pub fn acls(&self) -> impl Iterator<Item = (AclId, &AclList)> {
        self.0.shared.acls.iter()
    }

    /// Client sessions and their timeouts in milliseconds, in no order.
    pub fn sessions(&self) -> impl Iterator<Item = (SessionId, i32)> + '_ {
        self.0.shared.sessions.at(self.0.limit)
    }

    /// The children of a znode of this View, to be told in portions: in Apache's order if they are few enough to be put
    /// into it at once.
    pub fn listing(&self, node: &Node<'_>) -> Listing {
        let left = match node.child_count() as usize <= CHILDREN_PORTION {
            true => {
                Left::Few(node.children_in_order(&mut ChildOrder::default()).map(|child| child.id).collect())
            }
            false => {
                let Children { cursor, left, .. } = node.children();
                Left::Many(cursor, left)
            }
        };
        Listing { view: self.clone(), left }
    }

    /// All znodes below a znode of this View, to be counted in portions.
    pub fn census(&self, node: &Node<'_>) -> Census {
        let Children { cursor, left, .. } = node.children();
        Census { view: self.clone(), levels: vec![(cursor, left)], count: 0 }
    }

    /// The path of the znode that had this number (`NodeId::number`) when it was seen and has not been deleted since.
    /// `None` when no znode of this tree has the number: numbers are those of one tree, and a server that has taken
    /// over another one from a peer may still be asked with a number of the first.
    pub fn path_of(&self, number: u32) -> Option<String> {
        self.0.shared.path_if_any(NodeId(number))
    }

    /// All znodes, parents before their children, the root first.
    pub fn walk(&self) -> Walk<'_> {
        let root = self.0.shared.visible(NodeId::ROOT, self.0.limit).expect("every View has a root");
        Walk::new(Node { shared: &self.0.shared, limit: self.0.limit, id: NodeId::ROOT, record: root }, "")
    }
}

/// One znode at one version.
#[derive(Clone, Copy)]
pub struct Node<'a> {
    pub(super) shared: &'a Shared,
    pub(super) limit: u64,
    pub(super) id: NodeId,
    pub(super) record: Record<'a>,
}

impl<'a> Node<'a> {
    /// `None` for null data, which is not the same as empty data.
    #[inline]
    pub fn data(&self) -> Option<&'a [u8]> {
        self.record.data(&self.shared.memory)
    }

    /// As clients see it.
    #[inline]
    pub fn stat(&self) -> Stat {
        let children = self.record.children().1 as usize;
        self.record.stat().to_wire(self.record.data_length(&self.shared.memory), children)
    }

    /// As snapshots store it.
    #[inline]
    pub fn persisted(&self) -> StatPersisted {
        self.record.stat()
    }

    #[inline]
    pub fn owner(&self) -> Owner {
        self.record.owner()
    }

    #[inline]
    pub fn acl_id(&self) -> AclId {
        self.record.acl()
    }

    #[inline]
    pub fn child_count(&self) -> u32 {
        self.record.children().1
    }

    /// Names, in no order that means anything, and at once.
    pub fn children(&self) -> Children<'a> {
        let cursor = Cursor::new(&self.shared.memory, self.record.children().0);
        Children { shared: self.shared, limit: self.limit, cursor, left: self.child_count() }
    }

    /// The children in the order in which Apache lists them: by their places in a Java hash set, at one place by creation.
    pub fn children_in_order<'o>(
        &self,
        order: &'o mut ChildOrder,
    ) -> impl ExactSizeIterator<Item = Node<'a>> + use<'a, 'o> {
        let (shared, limit, table) = (self.shared, self.limit, self.record.table());
        let mut children = self.children();
        let alone = children.len() < 2;
        let (mut newest, mut ascending) = (Zxid::ZERO, true);
        order.children.clear();
        while let Some(child) = children.next_node() {
            let place = if alone { 0 } else { table.place(java::hash(child.name())) };
            let czxid = child.record.czxid();
            ascending &= newest <= czxid;
            newest = czxid;
            order.children.push(Placed { place, id: child.id });
        }
        order.sort(table);
        let node = move |child: &Placed| {
            let record = shared.visible(child.id, limit).expect("a child in the set is there");
            Node { shared, limit, id: child.id, record }
        };
        if !ascending {
            // Ids of deleted znodes are used again.
            for run in order.children.chunk_by_mut(|a, b| a.place == b.place) {
                run.sort_by_key(|child| node(child).record.czxid());
            }
        }
        order.children.iter().map(node)
    }

    /// The last component; empty for the root.
    pub fn name(&self) -> &'a str {
        self.record.name()
    }

    /// Names the znode while it, or a View that sees it, lives.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// This znode and all below it; `path` is its own (`""` for the root) and begins each path given out.
    pub fn walk(&self, path: &str) -> Walk<'a> {
        Walk::new(*self, path)
    }

    /// All znodes below this one: what getAllChildrenNumber answers. Takes time proportional to it; `Walk` counts in
    /// portions.
    pub fn descendants(&self) -> u64 {
        self.walk("").count_rest() - 1
    }
}

/// Where children are put into Apache's order; to be used again, since it is asked for ever so often.
#[derive(Default)]
pub struct ChildOrder {
    children: Vec<Placed>,
    sorted: Vec<Placed>,
    /// How many are before each place.
    before: Vec<u32>,
}

/// One child and its place in the table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Placed {
    place: u32,
    id: NodeId,
}

impl ChildOrder {
    /// Sorts children, which come in the order of their ids, by places.
    fn sort(&mut self, table: Table) {
        let count = self.children.len();
        if count <= SORTED_MOST || table.places() > count * PLACES_PER_CHILD_MOST {
            return self.children.sort_unstable();
        }
        // Counted, not compared: a comparison of hashes is guessed wrong half of the time.
        self.before.clear();
        self.before.resize(table.places() + 1, 0);
        self.children.iter().for_each(|child| self.before[child.place as usize + 1] += 1);
        let mut sum = 0;
        for before in &mut self.before {
            sum += *before;
            *before = sum;
        }
        self.sorted.resize(count, self.children[0]);
        for child in &self.children {
            let at = &mut self.before[child.place as usize];
            self.sorted[*at as usize] = *child;
            *at += 1;
        }
        std::mem::swap(&mut self.children, &mut self.sorted);
    }
}

/// Fewer are sorted sooner than counted.
const SORTED_MOST: usize = 20;
/// A table larger than this was filled by children that are gone: going through it takes longer than sorting.
const PLACES_PER_CHILD_MOST: usize = 8;

/// The children's names of one znode.
#[derive(Clone)]
pub struct Children<'a> {
    shared: &'a Shared,
    limit: u64,
    cursor: Cursor,
    left: u32,
}

/// How many children ahead the table's entry, and half as far the record, is fetched.
const CHILDREN_AHEAD: usize = 16;

impl<'a> Children<'a> {
    fn next_node(&mut self) -> Option<Node<'a>> {
        let id = self.cursor.next(&self.shared.memory)?;
        if let Some(ahead) = self.cursor.peek(&self.shared.memory, CHILDREN_AHEAD) {
            self.shared.nodes.prefetch(ahead);
        }
        if let Some(ahead) = self.cursor.peek(&self.shared.memory, CHILDREN_AHEAD / 2) {
            prefetch(self.shared.memory.at(self.shared.nodes.newest(ahead)));
        }
        self.left -= 1;
        let record = self.shared.visible(id, self.limit).expect("a child in the set is there");
        Some(Node { shared: self.shared, limit: self.limit, id, record })
    }
}

impl<'a> Iterator for Children<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        self.next_node().map(|node| node.name())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl ExactSizeIterator for Children<'_> {}

/// The names of one znode's children with the View they are seen in, to be gone through in portions over any time.
pub struct Listing {
    view: View,
    left: Left,
}

/// The children not yet told.
enum Left {
    /// In Apache's order.
    Few(VecDeque<NodeId>),
    /// In the order of ids, and how many.
    Many(Cursor, u32),
}

impl Listing {
    /// Names not yet told.
    pub fn len(&self) -> usize {
        match &self.left {
            Left::Few(ids) => ids.len(),
            Left::Many(_, left) => *left as usize,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tells the next names, at most `most`. True when that was all.
    pub fn portion(&mut self, most: usize, mut each: impl FnMut(&str)) -> bool {
        match &mut self.left {
            Left::Few(ids) => {
                let (shared, limit) = (&self.view.0.shared, self.view.0.limit);
                for id in ids.drain(..most.min(ids.len())) {
                    each(shared.visible(id, limit).expect("a child in the set is there").name());
                }
            }
            Left::Many(cursor, left) => {
                let mut children = resumed(&self.view, cursor, *left);
                children.by_ref().take(most).for_each(each);
                (*cursor, *left) = (children.cursor, children.left);
            }
        }
        self.is_empty()
    }
}

/// Counts all znodes below one, in portions over any time.
pub struct Census {
    view: View,
    /// For each level the children not yet counted.
    levels: Vec<(Cursor, u32)>,
    count: u64,
}

impl Census {
    /// Counts on, at most `most` znodes. The sum when that was all.
    pub fn portion(&mut self, most: usize) -> Option<u64> {
        let mut left = most;
        while let Some((cursor, remaining)) = self.levels.last_mut() {
            let mut children = resumed(&self.view, cursor, *remaining);
            let mut below = None;
            while below.is_none()
                && left > 0
                && let Some(node) = children.next_node()
            {
                left -= 1;
                self.count += 1;
                below = (node.child_count() > 0).then(|| node.children());
            }
            (*cursor, *remaining) = (children.cursor, children.left);
            match below {
                Some(below) => {
                    let level = (below.cursor, below.left);
                    self.levels.push(level);
                }
                None if left == 0 => return None,
                None => drop(self.levels.pop()),
            }
        }
        Some(self.count)
    }
}

fn resumed<'a>(view: &'a View, cursor: &Cursor, left: u32) -> Children<'a> {
    Children { shared: &view.0.shared, limit: view.0.limit, cursor: cursor.clone(), left }
}

/// Walks a subtree in pre-order. Holds one place per level, nothing per znode; may be left alone between two steps as
/// long as the View lives.
pub struct Walk<'a> {
    first: Option<Node<'a>>,
    path: String,
    /// For each level above the next znode: the children not yet visited, and the length of their parent's path.
    levels: Vec<(Children<'a>, usize)>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(first: Node<'a>, path: &str) -> Walk<'a> {
        Walk { first: Some(first), path: path.to_owned(), levels: Vec::new() }
    }

    /// The next znode and its path: that of the root is empty, as in snapshots.
    #[expect(clippy::should_implement_trait, reason = "it lends the path")]
    pub fn next(&mut self) -> Option<(&str, Node<'a>)> {
        if let Some(first) = self.first.take() {
            self.levels.push((first.children(), self.path.len()));
            return Some((&self.path, first));
        }
        loop {
            let (children, length) = self.levels.last_mut()?;
            let Some(node) = children.next_node() else {
                self.levels.pop();
                continue;
            };
            self.path.truncate(*length);
            self.path.push('/');
            self.path.push_str(node.name());
            if node.child_count() > 0 {
                self.levels.push((node.children(), self.path.len()));
            }
            return Some((&self.path, node));
        }
    }

    fn count_rest(mut self) -> u64 {
        let mut count = 0;
        while self.next().is_some() {
            count += 1;
        }
        count
    }
}

/// Whether a handle is the newest version of a znode.
pub(super) fn is_newest(shared: &Shared, id: NodeId, handle: Handle) -> bool {
    shared.nodes.newest(id) == handle
}
