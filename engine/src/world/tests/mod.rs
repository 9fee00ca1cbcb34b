//! The world against a model that is nothing but maps, its Views beside a running writer, and single scenarios.

mod model;
mod property;
mod scenarios;
mod stress;

use super::*;
use crate::model::StatPersisted;

pub const SETTINGS: Settings = Settings { hash_seed: [11, 22], digests: true };

/// A small generator of numbers: what a seed gives is always the same.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// 0 to below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % end
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// A znode's digest, written without what the world uses.
pub fn digest_of(path: &str, data: Option<&[u8]>, stat: &StatPersisted) -> u64 {
    let path = if path == "/" { "" } else { path };
    if path.starts_with("/zookeeper/") {
        return 0;
    }
    let mut bytes = path.as_bytes().to_vec();
    bytes.extend_from_slice(data.unwrap_or_default());
    for word in [stat.czxid.0, stat.mzxid.0, stat.pzxid.0, stat.ctime.0 as u64, stat.mtime.0 as u64] {
        bytes.extend_from_slice(&word.to_be_bytes());
    }
    for word in [stat.version, stat.cversion, stat.aversion] {
        bytes.extend_from_slice(&word.to_be_bytes());
    }
    bytes.extend_from_slice(&stat.owner.to_stored().to_be_bytes());
    u64::from(crc32fast::hash(&bytes))
}

/// Everything a View says of itself must agree with what it shows. Returns the znodes' number.
pub fn verify(view: &View) -> u64 {
    let (mut znodes, mut ephemerals, mut bytes, mut digest, mut listed) = (0, 0, 0, 0u64, 0);
    let mut walk = view.walk();
    while let Some((path, node)) = walk.next() {
        znodes += 1;
        ephemerals += u64::from(node.owner().is_ephemeral());
        bytes += path.len().max(1) as u64 + node.data().map_or(0, |data| data.len() as u64);
        digest = digest.wrapping_add(digest_of(path, node.data(), &node.persisted()));
        listed += node.children().inspect(|name| assert!(!name.is_empty())).count() as u64;
        assert_eq!(node.children().count(), node.child_count() as usize, "{path}");
        let found =
            view.get(path).unwrap_or_else(|| panic!("{path} is walked but not found at {}", view.zxid()));
        assert_eq!((found.id(), found.persisted()), (node.id(), node.persisted()), "{path}");
        assert!(view.acl(node.acl_id()).is_some(), "{path}");
    }
    let totals = view.totals();
    assert_eq!(listed + 1, znodes);
    let seen = Totals { zxid: totals.zxid, digest, znodes, ephemerals, data_bytes: bytes };
    assert_eq!(totals, seen, "totals kept against totals counted");
    znodes
}
