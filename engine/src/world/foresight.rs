//! What path, data and Stat of a znode say by themselves: its hash and its share of the digest. A restore and a replay may
//! have them computed on another thread, ahead of planting and applying.
//! Not here: planting (restore), applying.

use super::apply::owner_of;
use super::digest;
use super::hash::{HashKey, PathHash};
use crate::model::{StatPersisted, path};
use crate::wire::{TxnBody, TxnHeader};

/// Computes `Foreseen` for one world; knows its key, and nothing of its state.
#[derive(Clone, Copy)]
pub struct Foresight {
    key: HashKey,
    digests: bool,
}

/// Of one znode of one world.
#[derive(Clone, Copy, Debug)]
pub struct Foreseen {
    pub(super) hash: PathHash,
    /// What it adds to the tree's digest.
    pub(super) digest: u32,
    /// Where the path's last `/` stands.
    pub(super) slash: Option<usize>,
}

/// Of one txn that names one znode.
#[derive(Clone, Copy, Debug)]
pub struct ForeseenTxn {
    pub(super) node: PathHash,
    /// If the txn changes the parent, too.
    pub(super) parent: Option<PathHash>,
    /// Where the path's last `/` stands, if the txn changes the parent.
    pub(super) slash: usize,
    /// What a new znode adds to the tree's digest.
    pub(super) digest: u32,
}

impl ForeseenTxn {
    /// Of its path.
    pub fn node(&self) -> PathHash {
        self.node
    }

    /// Of its parent's, if the txn changes that, too.
    pub fn parent(&self) -> Option<PathHash> {
        self.parent
    }

    /// The parent's path and the last component, if the txn changes the parent, too.
    pub fn split<'p>(&self, path: &'p str) -> Option<(&'p str, &'p str)> {
        self.parent.map(|_| path::split_at(path, self.slash))
    }
}

impl Foresight {
    pub(super) fn new(key: HashKey, digests: bool) -> Foresight {
        Foresight { key, digests }
    }

    /// The root's path is `/` or empty.
    pub fn of(&self, path: &str, data: Option<&[u8]>, stat: &StatPersisted) -> Foreseen {
        let path = if path.is_empty() { "/" } else { path };
        let digest = if self.digests && digest::counts(path) { digest::of(path, data, stat) } else { 0 };
        Foreseen { hash: self.key.hash(path), digest, slash: path.rfind('/') }
    }

    /// `None` where there is nothing to be said.
    pub fn of_txn(&self, header: &TxnHeader, body: &TxnBody<'_>) -> Option<ForeseenTxn> {
        let (path, is_child) = match body {
            TxnBody::Create(create) => (&create.path, true),
            TxnBody::Delete { path } | TxnBody::DeleteContainer { path } => (path, true),
            TxnBody::SetData { path, .. } | TxnBody::SetAcl { path, .. } => (path, false),
            _ => return None,
        };
        let slash = if is_child { path.rfind('/')? } else { 0 };
        let parent = is_child.then(|| path::split_at(path, slash).0);
        let digest = match body {
            TxnBody::Create(create) if self.digests && digest::counts(path) => {
                let owner = owner_of(create.kind, header.session);
                let stat = StatPersisted::created(header.zxid, header.time, owner);
                digest::of(path, create.data.as_deref(), &stat)
            }
            _ => 0,
        };
        let hash = |path: &str| self.key.hash(path);
        Some(ForeseenTxn { node: hash(path), parent: parent.map(hash), slash, digest })
    }
}
