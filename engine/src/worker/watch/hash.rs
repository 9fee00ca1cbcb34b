//! Keyed 96-bit hashes of paths and of their ancestors, in one pass over the bytes.
//! Not here: tables. The hash *is* a path's identity in the watch tables: SipHash-1-3 under a key private to the
//! process, so nobody can aim for a collision, and by chance two of 2^24 watched paths collide once in 2^49 processes.

/// A path's identity in the tables of one worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PathKey(pub [u32; 3]);

/// The secret of one worker's tables: random, from outside.
#[derive(Clone, Copy)]
pub struct HashKey(pub [u64; 2]);

impl HashKey {
    pub fn path(&self, path: &str) -> PathKey {
        let mut sip = Sip::new(self);
        sip.absorb(path.as_bytes(), path.len());
        sip.finish(path.as_bytes(), path.len())
    }

    /// The path itself, its parent (`None` for the root and for strings without a `/`), and, only if `with_ancestors`,
    /// all proper ancestors from the root down pushed to `ancestors`.
    pub fn lineage(
        &self,
        path: &str,
        with_ancestors: bool,
        ancestors: &mut Vec<PathKey>,
    ) -> (PathKey, Option<PathKey>) {
        ancestors.clear();
        let bytes = path.as_bytes();
        let mut sip = Sip::new(self);
        let parent_end = parent_end(path);
        let mut parent = None;
        if let Some(parent_end) = parent_end {
            if with_ancestors {
                for end in ancestor_ends(bytes, parent_end) {
                    sip.absorb(bytes, end);
                    ancestors.push(sip.finish(bytes, end));
                }
                parent = ancestors.last().copied();
            } else {
                sip.absorb(bytes, parent_end);
                parent = Some(sip.finish(bytes, parent_end));
            }
        }
        sip.absorb(bytes, bytes.len());
        (sip.finish(bytes, bytes.len()), parent)
    }
}

/// Where the parent's path ends inside `path`; the parent of `/a` is `/`.
fn parent_end(path: &str) -> Option<usize> {
    if path.len() <= 1 {
        return None;
    }
    path.rfind('/').map(|at| at.max(1))
}

fn ancestor_ends(bytes: &[u8], parent_end: usize) -> impl Iterator<Item = usize> + '_ {
    let inner = (1..=parent_end).filter(|&at| at > 1 && bytes.get(at) == Some(&b'/'));
    std::iter::once(1).chain(inner)
}

/// SipHash-1-3 with 128 bits of output, fed from a slice that stays in hand so that prefixes can be finished on the way.
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
                k1 ^ 0x646f_7261_6e64_6f6d ^ 0xee,
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
    fn finish(&self, bytes: &[u8], end: usize) -> PathKey {
        let mut last = [0u8; 8];
        let tail = &bytes[self.at..end];
        last[..tail.len()].copy_from_slice(tail);
        last[7] = end as u8;
        let mut sip = Sip { v: self.v, at: self.at };
        sip.word(u64::from_le_bytes(last));
        sip.v[2] ^= 0xee;
        let low = sip.squeeze();
        sip.v[1] ^= 0xdd;
        let high = sip.squeeze();
        PathKey([low as u32, (low >> 32) as u32, high as u32])
    }

    fn squeeze(&mut self) -> u64 {
        for _ in 0..3 {
            round(&mut self.v);
        }
        self.v[0] ^ self.v[1] ^ self.v[2] ^ self.v[3]
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
        let (own, parent) = key.lineage(path, true, &mut found);
        assert_eq!(own, key.path(path), "{path}");
        assert_eq!(found, ancestors.iter().map(|a| key.path(a)).collect::<Vec<_>>(), "{path}");
        assert_eq!(parent, ancestors.last().map(|a| key.path(a)), "{path}");
        let (own, parent) = key.lineage(path, false, &mut found);
        assert_eq!((own, parent), (key.path(path), ancestors.last().map(|a| key.path(a))), "{path}");
        assert!(found.is_empty());
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
    }

    #[test]
    fn keys_differ_by_secret_and_by_length() {
        assert_ne!(HashKey([1, 2]).path("/a"), HashKey([2, 2]).path("/a"));
        assert_ne!(HashKey([1, 2]).path("/a"), HashKey([1, 2]).path("/a\0"));
    }
}
