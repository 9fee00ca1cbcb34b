//! What path, data and Stat of a znode say by themselves: its hash and its share of the digest. A restore may have them
//! computed on another thread, ahead of planting.
//! Not here: planting (restore).

use super::digest;
use super::hash::{HashKey, PathHash};
use crate::model::StatPersisted;

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
}
