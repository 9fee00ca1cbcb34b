//! Keyed 96-bit hashes of paths and of their ancestors, in one pass over the bytes.
//! Not here: tables. The hash *is* a path's identity in the watch tables: 64 bits of SipHash-1-3 under a key private to
//! the process, so nobody can aim for a collision, and 32 bits of a quick hash, which alone says where to look. Most
//! changes concern nobody here and need no more than the quick one. By chance two of 2^24 watched paths collide once in
//! 2^49 processes.

/// A path's identity in the tables of one worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PathKey {
    pub quick: Quick,
    strong: [u32; 2],
}

/// Where a path is looked for: all bits depend on all bytes and on the key.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Quick(pub u32);

/// The secret of one worker's tables: random, from outside.
#[derive(Clone, Copy)]
pub struct HashKey(pub [u64; 2]);

impl PathKey {
    /// What an entry holds that is not in use.
    pub const NONE: PathKey = PathKey { quick: Quick(0), strong: [0; 2] };
}

impl HashKey {
    pub fn path(&self, path: &str) -> PathKey {
        let mut both = Both::new(self);
        both.finish(path.as_bytes(), path.len())
    }

    #[inline]
    pub fn quick(&self, path: &str) -> Quick {
        let mut fold = Fold::new(self);
        fold.absorb(path.as_bytes(), path.len());
        fold.finish(path.as_bytes(), path.len())
    }

    /// Pushes all proper ancestors from the root down to `ancestors`, however many in one pass over the path.
    pub fn ancestors(&self, path: &str, ancestors: &mut Vec<PathKey>) {
        ancestors.clear();
        let mut both = Both::new(self);
        if let Some(parent) = parent(path) {
            ancestors.extend(
                ancestor_ends(path.as_bytes(), parent.len()).map(|end| both.finish(path.as_bytes(), end)),
            );
        }
    }
}

/// `None` for the root and for strings without a `/`; the parent of `/a` is `/`.
pub fn parent(path: &str) -> Option<&str> {
    if path.len() <= 1 {
        return None;
    }
    path.rfind('/').map(|at| &path[..at.max(1)])
}

fn ancestor_ends(bytes: &[u8], parent_end: usize) -> impl Iterator<Item = usize> + '_ {
    let inner = (1..=parent_end).filter(|&at| at > 1 && bytes.get(at) == Some(&b'/'));
    std::iter::once(1).chain(inner)
}

/// Both hashes of growing prefixes.
struct Both {
    sip: Sip,
    fold: Fold,
}

impl Both {
    fn new(key: &HashKey) -> Both {
        Both { sip: Sip::new(key), fold: Fold::new(key) }
    }

    /// The key of `bytes[..end]`; `end` is not below that of the call before.
    fn finish(&mut self, bytes: &[u8], end: usize) -> PathKey {
        self.sip.absorb(bytes, end);
        self.fold.absorb(bytes, end);
        PathKey { quick: self.fold.finish(bytes, end), strong: self.sip.finish(bytes, end) }
    }
}

/// A chain of folded 128-bit products over 16 bytes at a time: three times as fast as SipHash and about as even, but
/// who watched it long enough might learn its key.
struct Fold {
    key: [u64; 2],
    state: u64,
    at: usize,
}

impl Fold {
    fn new(key: &HashKey) -> Fold {
        let [k0, k1] = key.0;
        // Not SipHash's own words: odd constants, the fractions of the golden ratio and of the root of two.
        let state = fold(k0 ^ 0x9e37_79b9_7f4a_7c15, k1 ^ 0x6a09_e667_f3bc_c909);
        let spread = fold(k1 ^ 0x9e37_79b9_7f4a_7c15, k0 ^ 0x6a09_e667_f3bc_c909);
        Fold { key: [state | 1, spread | 1], state: state ^ spread, at: 0 }
    }

    /// Takes in the whole pairs of words before `end`.
    #[inline]
    fn absorb(&mut self, bytes: &[u8], end: usize) {
        let (pairs, _) = bytes[self.at..end].as_chunks::<16>();
        for pair in pairs {
            self.state = self.after(pair);
        }
        self.at += pairs.len() * 16;
    }

    #[inline]
    fn after(&self, pair: &[u8; 16]) -> u64 {
        let both = u128::from_le_bytes(*pair);
        fold(both as u64 ^ self.key[0], (both >> 64) as u64 ^ self.state)
    }

    /// The hash of `bytes[..end]`; all whole pairs of words before `end` have been absorbed.
    #[inline]
    fn finish(&self, bytes: &[u8], end: usize) -> Quick {
        let mut last = [0u8; 16];
        let tail = &bytes[self.at..end];
        last[..tail.len()].copy_from_slice(tail);
        let mixed = fold(self.after(&last) ^ self.key[1], self.key[0] ^ end as u64);
        Quick((mixed >> 32) as u32 ^ mixed as u32)
    }
}

/// The 128-bit product's halves, folded: every bit of both factors reaches every bit of the result.
#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// SipHash-1-3, fed from a slice that stays in hand so that prefixes can be finished on the way.
struct Sip {
    v: [u64; 4],
    at: usize,
}

impl Sip {
    fn new(key: &HashKey) -> Sip {
        let [k0, k1] = key.0;
        Sip {
            v: [
                k0 ^ 0x736f_6d65_7073_6575,
                k1 ^ 0x646f_7261_6e64_6f6d,
                k0 ^ 0x6c79_6765_6e65_7261,
                k1 ^ 0x7465_6462_7974_6573,
            ],
            at: 0,
        }
    }

    /// Takes in the whole words before `end`.
    fn absorb(&mut self, bytes: &[u8], end: usize) {
        let (words, _) = bytes[self.at..end].as_chunks::<8>();
        for word in words {
            self.word(u64::from_le_bytes(*word));
        }
        self.at += words.len() * 8;
    }

    fn word(&mut self, word: u64) {
        self.v[3] ^= word;
        round(&mut self.v);
        self.v[0] ^= word;
    }

    /// The hash of `bytes[..end]`; all whole words before `end` have been absorbed.
    fn finish(&self, bytes: &[u8], end: usize) -> [u32; 2] {
        let mut last = [0u8; 8];
        let tail = &bytes[self.at..end];
        last[..tail.len()].copy_from_slice(tail);
        last[7] = end as u8;
        let mut sip = Sip { v: self.v, at: self.at };
        sip.word(u64::from_le_bytes(last));
        sip.v[2] ^= 0xff;
        for _ in 0..3 {
            round(&mut sip.v);
        }
        let hash = sip.v[0] ^ sip.v[1] ^ sip.v[2] ^ sip.v[3];
        [hash as u32, (hash >> 32) as u32]
    }
}

fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[2] = v[2].wrapping_add(v[3]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[1]);
    v[0] = v[0].wrapping_add(v[3]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, ancestors: &[&str]) {
        let key = HashKey([1, 2]);
        let mut found = Vec::new();
        key.ancestors(path, &mut found);
        assert_eq!(found, ancestors.iter().map(|a| key.path(a)).collect::<Vec<_>>(), "{path}");
        assert_eq!(parent(path), ancestors.last().copied(), "{path}");
        for path in ancestors.iter().chain([&path]) {
            assert_eq!(key.quick(path), key.path(path).quick, "{path}");
        }
    }

    #[test]
    fn a_lineage_holds_every_ancestor_from_the_root_down() {
        check("/", &[]);
        check("", &[]);
        check("odd", &[]);
        check("/a", &["/"]);
        check("/a/b", &["/", "/a"]);
        check("/a/bcdefghijkl/m", &["/", "/a", "/a/bcdefghijkl"]);
        check("/12345678/12345678/9", &["/", "/12345678", "/12345678/12345678"]);
        check("/2345678901234567/9/0", &["/", "/2345678901234567", "/2345678901234567/9"]);
    }

    #[test]
    fn keys_differ_by_secret_and_by_length() {
        let differ = |a: PathKey, b: PathKey| {
            assert_ne!(a.quick, b.quick);
            assert_ne!(a.strong, b.strong);
        };
        differ(HashKey([1, 2]).path("/a"), HashKey([2, 2]).path("/a"));
        differ(HashKey([1, 2]).path("/a"), HashKey([1, 3]).path("/a"));
        differ(HashKey([1, 2]).path("/a"), HashKey([1, 2]).path("/a\0"));
        differ(HashKey([1, 2]).path("/23456789012345"), HashKey([1, 2]).path("/23456789012345\0"));
    }

    #[test]
    fn the_strong_half_is_siphash_1_3() {
        // Of the 15 bytes 00 to 0e under the key 00 to 0f, as other implementations have it.
        let key = HashKey([0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908]);
        let text: String = (0..15u8).map(char::from).collect();
        let [low, high] = key.path(&text).strong;
        assert_eq!(u64::from(high) << 32 | u64::from(low), 0xd320_d86d_2a51_9956);
    }

    #[test]
    fn similar_paths_spread_quickly_over_all_bits() {
        let key = HashKey([1, 2]);
        let count = if cfg!(miri) { 640 } else { 60_000 };
        let hashes: Vec<u32> =
            (0..count).map(|i| key.quick(&format!("/app/service-{}/member-{i:010}", i % 7)).0).collect();
        for bits in (0..32 - 5).step_by(3) {
            let mut buckets = [0u32; 32];
            hashes.iter().for_each(|hash| buckets[(hash >> bits & 31) as usize] += 1);
            let mean = count / 32;
            assert!(buckets.iter().all(|n| n.abs_diff(mean) < mean / 2 + 1), "bits from {bits}: {buckets:?}");
        }
        let different: std::collections::HashSet<u32> = hashes.into_iter().collect();
        // Expected collisions among n of 2^32: n^2 / 2^33 = 0.4.
        assert!(different.len() >= count as usize - 6, "{} of {count}", different.len());
    }
}
