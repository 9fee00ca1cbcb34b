//! All replicated state: znodes, client sessions, ACLs. One writer (`Head`), many readers pinned at versions (`View`),
//! no locks, no reference counts in nodes.
//! Not here: what a request becomes (core), files (log, snapshot), watches (worker). Pure: no clock, no randomness, no
//! I/O; memory comes from one anonymous mapping per table (arena).
//! Invariants: the state is a function of the txns alone; what a View shows never changes while it lives.
//!
//! `unsafe` lives in arena, record, index, children and table only. Their functions are safe to call from within this
//! module as long as handles and ids come from the tables they belong to; nothing outside can make either.

mod acl;
mod apply;
mod arena;
mod children;
mod compare;
mod digest;
mod foresight;
mod hash;
mod head;
mod index;
mod pages;
mod quota;
mod record;
mod restore;
mod retire;
mod table;
#[cfg(test)]
mod tests;
mod view;

pub use apply::{Change, ChangeKind, Changes, ChangesMark, Known, TxnReply, TxnResult};
pub use compare::{DigestCheck, Mismatch};
pub use foresight::{Foreseen, ForeseenTxn, Foresight};
pub use hash::PathHash;
pub use head::{Ephemeral, Head, NotRetained, Quota, Room, Savepoint, Settings, Usage};
pub use pages::{Marks, PagesAhead};
pub use record::{AclId, NodeId};
pub use restore::{RestoreError, Restorer};
pub use table::AclList;
pub(crate) use table::prefetch;
pub use view::{Ahead, Census, ChildOrder, Children, Listing, Node, Totals, View, Walk};
