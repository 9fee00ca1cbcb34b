//! The tree's digest: what one znode adds to it.
//! Not here: summing up (apply), comparing (compare).

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

/// Short ones are laid out as a whole: one run over it costs half of three runs over the parts.
const SHORT_BYTES: usize = 512;

/// A znode's digest.
pub(super) fn of(path: &str, data: Option<&[u8]>, stat: &StatPersisted) -> u32 {
    let (name, data) = (if path == "/" { "" } else { path }, data.unwrap_or_default());
    let mut whole = [0; SHORT_BYTES];
    let Some(whole) = whole.get_mut(..name.len() + data.len() + STAT_BYTES) else {
        return finish(prefix(path, Some(data)), stat);
    };
    // The words of the Stat come first: what is stored in small pieces is read fast only once it has reached the cache,
    // and they are read last.
    let (rest, stat_part) = whole.split_at_mut(name.len() + data.len());
    put_stat(stat_part.first_chunk_mut().expect("so much is left"), stat);
    let (path_part, data_part) = rest.split_at_mut(name.len());
    data_part.copy_from_slice(data);
    path_part.copy_from_slice(name.as_bytes());
    crc32fast::hash(whole)
}

/// A znode's digest from its `prefix`.
pub(super) fn finish(prefix: u32, stat: &StatPersisted) -> u32 {
    let mut bytes = [0; STAT_BYTES];
    put_stat(&mut bytes, stat);
    let mut crc = Hasher::new_with_initial(prefix);
    crc.update(&bytes);
    crc.finalize()
}

const STAT_BYTES: usize = 60;

#[inline]
fn put_stat(bytes: &mut [u8; STAT_BYTES], stat: &StatPersisted) {
    let words = [stat.czxid.0, stat.mzxid.0, stat.pzxid.0, stat.ctime.0 as u64, stat.mtime.0 as u64];
    for (at, word) in words.into_iter().enumerate() {
        bytes[at * 8..at * 8 + 8].copy_from_slice(&word.to_be_bytes());
    }
    for (at, word) in [stat.version, stat.cversion, stat.aversion].into_iter().enumerate() {
        bytes[40 + at * 4..44 + at * 4].copy_from_slice(&word.to_be_bytes());
    }
    bytes[52..].copy_from_slice(&stat.owner.to_stored().to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Owner, WallMillis};
    use ostler_replication::Zxid;

    #[test]
    fn a_znode_counts_the_same_in_one_run_and_in_parts() {
        let stat = StatPersisted::created(Zxid(0x1234), WallMillis(99), Owner::Container);
        let check = |path: &str, data: Option<&[u8]>| {
            assert_eq!(of(path, data, &stat), finish(prefix(path, data), &stat), "{path}");
        };
        check("/", None);
        check("/a", Some(b""));
        for length in 0..SHORT_BYTES {
            check("/path/of/some/length", Some(&vec![7; length]));
        }
    }
}
