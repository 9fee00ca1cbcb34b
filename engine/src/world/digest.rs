//! The tree's digest (storage.md §12): what one znode adds to it.
//! Not here: summing up (apply), comparing (core, peers).

use crate::model::StatPersisted;
use crc32fast::Hasher;

/// Znodes below here count 0, because servers rewrite some of them on their own.
const OUTSIDE: &str = "/zookeeper/";

/// Whether a znode with this path counts.
pub(super) fn counts(path: &str) -> bool {
    !path.starts_with(OUTSIDE)
}

/// The state of the CRC behind path and data, which is the same for all versions of the Stat.
pub(super) fn prefix(path: &str, data: Option<&[u8]>) -> u32 {
    let mut crc = Hasher::new();
    // The root's path is hashed as the empty one.
    crc.update(if path == "/" { b"" } else { path.as_bytes() });
    crc.update(data.unwrap_or_default());
    crc.finalize()
}

/// A znode's digest from its `prefix`.
pub(super) fn finish(prefix: u32, stat: &StatPersisted) -> u64 {
    let mut bytes = [0; 60];
    let words = [stat.czxid.0, stat.mzxid.0, stat.pzxid.0, stat.ctime.0 as u64, stat.mtime.0 as u64];
    for (at, word) in words.into_iter().enumerate() {
        bytes[at * 8..at * 8 + 8].copy_from_slice(&word.to_be_bytes());
    }
    for (at, word) in [stat.version, stat.cversion, stat.aversion].into_iter().enumerate() {
        bytes[40 + at * 4..44 + at * 4].copy_from_slice(&word.to_be_bytes());
    }
    bytes[52..].copy_from_slice(&stat.owner.to_stored().to_be_bytes());
    let mut crc = Hasher::new_with_initial(prefix);
    crc.update(&bytes);
    u64::from(crc.finalize())
}
