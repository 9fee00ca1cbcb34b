//! Snapshots: all replicated state at one zxid as one file, in Apache's format (FORMAT.md beside this file).
//! Here: writing one from a pinned source, choosing and reading the newest that loads, purging old ones with their logs.
//! Not here: what a znode is in memory (world), the txn log (log), when a snapshot is due (core).
//! Invariant: a name that starts with `snapshot.` appears only when the bytes behind it are on stable storage.

mod batches;
pub mod candidates;
pub mod codec;
mod decode;
mod encode;
pub mod image;
pub mod names;
mod priority;
pub mod purge;
pub mod reader;
pub mod snapshotter;
mod state;
pub mod writer;

use crate::model::{SessionId, StatPersisted};
use crate::world::{Foreseen, Foresight, PagesAhead};
use ostler_replication::Zxid;
use std::ops::ControlFlow;

pub use candidates::{Candidate, LoadError, Loaded, load_newest, load_newest_until};
pub use codec::Compression;
pub use decode::Contents;
pub use image::{Image, ImageNode};
pub use purge::{make_room, purge, remove_leftovers};
pub use reader::{ReadOptions, SnapshotError};
pub use snapshotter::{Job, Snapshotter};
pub use state::Pinned;
pub use writer::{Progress, WriteError, Written};

/// The key of the one ACL that no table stores: everything to world:anyone.
pub const OPEN_ACL_KEY: i64 = -1;

/// The tree digest as a snapshot records it: the value after the txn `zxid`; zxid 0 = none recorded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DigestSection {
    pub zxid: Zxid,
    /// 2 is Apache's AdHash of today; of older ones no value is kept.
    pub version: i32,
    pub value: u64,
}

/// One znode as the file stores it. The root's path is `""`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SnapshotNode<'a> {
    pub path: &'a str,
    /// `None` is null data, which is not empty data.
    pub data: Option<&'a [u8]>,
    /// Key into the ACL table, or [`OPEN_ACL_KEY`].
    pub acl: i64,
    pub stat: StatPersisted,
}

/// State that can be written: exact at one zxid for as long as the value lives.
pub trait SnapshotSource {
    /// The last txn whose effects are in here; names the file.
    fn zxid(&self) -> Zxid;
    /// Tree digest at `zxid`; `None` when digests are switched off.
    fn digest(&self) -> Option<u64>;
    /// Calls `put` for every session, with its id and its timeout in milliseconds.
    fn sessions(&self, put: &mut dyn FnMut(SessionId, i32));
    /// Calls `put` for every ACL but the open one, with its key and the jute encoding of the vector. More than the znodes
    /// name is harmless, so a table that others add to meanwhile will do.
    fn acls(&self, put: &mut dyn FnMut(i64, &[u8]));
    /// Calls `put` for every znode, each after its parent, until it breaks off.
    fn nodes(&self, put: &mut dyn FnMut(SnapshotNode<'_>) -> ControlFlow<()>);
}

/// State that can be read back: sessions, then ACLs, then nodes, each in file order.
/// An error is one sentence on why the value cannot be part of a tree; the attempt is then given up.
pub trait Restore {
    fn session(&mut self, id: SessionId, timeout_ms: i32) -> Result<(), String>;
    /// `acl` is the jute encoding of a vector of ACLs, already checked to decode.
    fn acl(&mut self, key: i64, acl: &[u8]) -> Result<(), String>;
    fn node(&mut self, node: SnapshotNode<'_>) -> Result<(), String>;

    /// What another thread may compute of each znode before it comes here; `None`: nothing.
    fn foresight(&self) -> Option<Foresight> {
        None
    }

    /// What may put pages behind the state's memory while it is being read, on another thread; `None`: nothing.
    fn pages_ahead(&self) -> Option<PagesAhead> {
        None
    }

    /// Called before anything else where `complete` will be called: what only shows when all znodes are there may be left
    /// to that.
    fn gather(&mut self) {}

    /// No more znodes come. An error: the number of a znode, counted from 0, that cannot be part of the tree; one before
    /// all that was refused.
    fn complete(&mut self) -> Result<(), (u64, String)> {
        Ok(())
    }

    /// `node`, with what the foresight said of it.
    fn node_foreseen(&mut self, node: SnapshotNode<'_>, _: Foreseen) -> Result<(), String> {
        self.node(node)
    }

    /// A znode of which the foresight said this comes soon.
    fn expect(&self, _: Foreseen) {}
}

#[cfg(test)]
mod crash;
#[cfg(test)]
mod tests;
