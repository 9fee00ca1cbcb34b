//! What was decoded, in batches: from the thread that reads, checks and decodes to the one that owns the state.
//! Not here: decoding (decode), reading (reader).
//! Order is the file's throughout, and a batch holds a bounded number of bytes beside its largest znode.

use super::decode::{Failure, Sink};
use super::{Restore, SnapshotNode};
use crate::model::{SessionId, StatPersisted};
use crate::world::{Foreseen, Foresight};
use std::sync::mpsc::{Receiver, SyncSender};

/// Bytes and entries of a batch above which it is handed over: they stay in the cache of the CPU that takes them.
const BATCH_BYTES: usize = 96 << 10;
const BATCH_ENTRIES: usize = 512;
/// Batches between the two threads: enough to cover the pauses of either.
pub(super) const BATCHES_AHEAD: usize = 16;
/// Znodes whose memory is fetched before it is their turn.
const EXPECTED: usize = 12;

/// A part of the file's sessions, ACLs and znodes.
#[derive(Default)]
pub(super) struct Batch {
    sessions: Vec<(u64, SessionId, i32)>,
    /// Offset, key, and where in `bytes` the ACL ends.
    acls: Vec<(u64, i64, usize)>,
    nodes: Vec<Node>,
    paths: String,
    /// Of each ACL its bytes, of each znode its data.
    bytes: Vec<u8>,
}

#[derive(Clone, Copy)]
struct Node {
    /// Where it stands in the file.
    offset: u64,
    path_bytes: usize,
    data_bytes: Option<usize>,
    acl: i64,
    stat: StatPersisted,
    foreseen: Option<Foreseen>,
}

/// Takes what is decoded; sends it on.
pub(super) struct Sender {
    pub batches: SyncSender<Batch>,
    /// Emptied batches, to be filled again.
    pub empty: Receiver<Batch>,
    pub foresight: Option<Foresight>,
    pub open: Batch,
}

impl Sender {
    fn pass_on_when_full(&mut self) -> Result<(), Failure> {
        let Batch { sessions, acls, nodes, paths, bytes } = &self.open;
        if paths.len() + bytes.len() < BATCH_BYTES
            && sessions.len() + acls.len() + nodes.len() < BATCH_ENTRIES
        {
            return Ok(());
        }
        self.pass_on()
    }

    /// What is gathered, full or not. An error: the other side wants no more, and knows why.
    pub fn pass_on(&mut self) -> Result<(), Failure> {
        let next = self.empty.try_recv().unwrap_or_default();
        self.batches.send(std::mem::replace(&mut self.open, next)).map_err(|_| Failure::GivenUp)
    }
}

impl Sink for Sender {
    fn session(&mut self, offset: u64, id: SessionId, timeout_ms: i32) -> Result<(), Failure> {
        self.open.sessions.push((offset, id, timeout_ms));
        self.pass_on_when_full()
    }

    fn acl(&mut self, offset: u64, key: i64, acl: &[u8]) -> Result<(), Failure> {
        self.open.bytes.extend_from_slice(acl);
        self.open.acls.push((offset, key, self.open.bytes.len()));
        self.pass_on_when_full()
    }

    fn node(&mut self, offset: u64, node: SnapshotNode<'_>) -> Result<(), Failure> {
        let SnapshotNode { path, data, acl, stat } = node;
        let foreseen = self.foresight.map(|foresight| foresight.of(path, data, &stat));
        self.open.paths.push_str(path);
        self.open.bytes.extend_from_slice(data.unwrap_or_default());
        let (path_bytes, data_bytes) = (path.len(), data.map(<[u8]>::len));
        self.open.nodes.push(Node { offset, path_bytes, data_bytes, acl, stat, foreseen });
        self.pass_on_when_full()
    }
}

impl Batch {
    /// Gives all of it to `into`, which leaves it empty.
    pub fn unpack(&mut self, into: &mut dyn Restore) -> Result<(), Failure> {
        let damaged = |offset_bytes: u64| move |what: String| Failure::Damaged { offset_bytes, what };
        for (offset, id, timeout_ms) in self.sessions.drain(..) {
            into.session(id, timeout_ms).map_err(damaged(offset))?;
        }
        let (mut at, mut path_at) = (0, 0);
        for (offset, key, end) in self.acls.drain(..) {
            into.acl(key, &self.bytes[at..end]).map_err(damaged(offset))?;
            at = end;
        }
        for index in 0..self.nodes.len() {
            if let Some(Node { foreseen: Some(foreseen), .. }) = self.nodes.get(index + EXPECTED) {
                into.expect(*foreseen);
            }
            let Node { offset, path_bytes, data_bytes, acl, stat, foreseen } = self.nodes[index];
            let path = &self.paths[path_at..path_at + path_bytes];
            let data = data_bytes.map(|length| &self.bytes[at..at + length]);
            path_at += path_bytes;
            at += data_bytes.unwrap_or(0);
            let node = SnapshotNode { path, data, acl, stat };
            plant(into, offset, node, foreseen)?;
        }
        self.nodes.clear();
        self.paths.clear();
        self.bytes.clear();
        Ok(())
    }
}

/// One znode into the state, an error with its place.
pub(super) fn plant(
    into: &mut dyn Restore,
    offset_bytes: u64,
    node: SnapshotNode<'_>,
    foreseen: Option<Foreseen>,
) -> Result<(), Failure> {
    let path = node.path;
    let planted = match foreseen {
        Some(foreseen) => into.node_foreseen(node, foreseen),
        None => into.node(node),
    };
    planted.map_err(|why| refused(offset_bytes, path, &why))
}

pub(super) fn refused(offset_bytes: u64, path: &str, why: &str) -> Failure {
    Failure::Damaged { offset_bytes, what: format!("znode {path:?}: {why}") }
}
