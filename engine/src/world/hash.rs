//! The keyed hash of paths. The key is drawn by whoever starts the process, so that clients cannot choose paths that
//! collide. Not here: what is done with it (index).

/// Two secret words, spread to what the rounds need.
#[derive(Clone, Copy)]
pub struct HashKey([u64; 4]);

/// What the index needs of a path's hash; valid in every View of one world.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PathHash(pub(super) u32);

impl HashKey {
    pub fn new(seed: [u64; 2]) -> HashKey {
        // Odd constants with evenly spread bits (the fraction of the golden ratio and of square roots).
        const SPREAD: [u64; 4] =
            [0x9e37_79b9_7f4a_7c15, 0x6a09_e667_f3bc_c909, 0xbb67_ae85_84ca_a73b, 0x3c6e_f372_fe94_f82b];
        let mut state = seed[0] ^ SPREAD[0];
        HashKey(SPREAD.map(|constant| {
            state = fold(state ^ constant, seed[1] ^ constant.rotate_left(32)).wrapping_add(constant);
            state | 1
        }))
    }

    /// Well mixed bits, each of which depends on all bytes and on the key.
    #[inline]
    pub(super) fn hash(&self, path: &str) -> PathHash {
        let bytes = path.as_bytes();
        let length = bytes.len();
        let [k0, k1, k2, k3] = self.0;
        let (mut a, mut b) = (k0, k1 ^ length as u64);
        let (first, last) = if length >= 16 {
            // Two lanes of 16 bytes at a time; the tail overlaps what was read before.
            let mut rest = bytes;
            while rest.len() > 32 {
                a = fold(word(rest, 0) ^ k2, word(rest, 8) ^ a);
                b = fold(word(rest, 16) ^ k3, word(rest, 24) ^ b);
                rest = &rest[32..];
            }
            if rest.len() > 16 {
                a = fold(word(rest, 0) ^ k2, word(rest, 8) ^ a);
            }
            (word(bytes, length - 16), word(bytes, length - 8))
        } else if length >= 8 {
            (word(bytes, 0), word(bytes, length - 8))
        } else {
            let mut short = [0; 8];
            short[..length].copy_from_slice(bytes);
            (u64::from_le_bytes(short), 0)
        };
        let mixed = fold(first ^ k1 ^ a, last ^ k3 ^ b);
        PathHash::of(fold(mixed ^ k0, k2 ^ a.rotate_left(17) ^ b.rotate_left(41)))
    }
}

impl PathHash {
    /// From 64 well mixed bits. The lowest three bits have one of eight values, each about 2^(1/8) times as frequent as
    /// the one before (index.rs says why); all others are evenly spread.
    #[inline]
    pub(super) fn of(mixed: u64) -> PathHash {
        let even = (mixed >> 32) as u32 ^ mixed as u32;
        // 8 log2(1 + u / 256), as a parabola: these eight bits are in `even` only under others.
        let u = (mixed >> 24) as u32 & 0xff;
        let phase = (u * (345 - ((u * 89) >> 8))) >> 13;
        PathHash(even & !7 | phase)
    }
}

#[inline]
fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// The 128-bit product's halves, folded: every bit of both factors reaches every bit of the result.
#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn similar_paths_spread_over_all_bits() {
        let key = HashKey::new([1, 2]);
        let paths: Vec<String> =
            (0..60_000).map(|i| format!("/app/service-{}/member-{i:010}", i % 7)).collect();
        let hashes: HashSet<u32> = paths.iter().map(|path| key.hash(path).0).collect();
        // Expected collisions among n of 2^32: n^2 / 2^33 = 0.4.
        assert!(hashes.len() >= paths.len() - 6, "{} of {}", hashes.len(), paths.len());
        for bits in [3, 10, 20, 26] {
            let mut buckets = [0u32; 64];
            paths.iter().for_each(|path| buckets[(key.hash(path).0 >> bits & 63) as usize] += 1);
            let mean = paths.len() as u32 / 64;
            assert!(buckets.iter().all(|n| n.abs_diff(mean) < mean / 4), "bits from {bits}: {buckets:?}");
        }
    }

    #[test]
    fn each_phase_is_more_frequent_than_the_one_before() {
        let key = HashKey::new([1, 2]);
        let (count, margin) = if cfg!(miri) { (1_000, 0.5) } else { (100_000, 0.1) };
        let mut phases = [0u32; 8];
        (0..count).for_each(|i| phases[(key.hash(&format!("/app/member-{i:010}")).0 & 7) as usize] += 1);
        let sum: f64 = (0..8).map(|i| 2f64.powf(f64::from(i) / 8.0)).sum();
        for (phase, found) in (0..).zip(phases) {
            let wanted = f64::from(count) * 2f64.powf(f64::from(phase) / 8.0) / sum;
            assert!((f64::from(found) / wanted - 1.0).abs() < margin, "{phase}: {found} of {wanted}");
        }
    }

    #[test]
    fn every_length_and_every_byte_counts() {
        let key = HashKey::new([3, 4]);
        let long = "/".to_owned() + &"x".repeat(200);
        let mut seen = HashSet::new();
        for length in 0..long.len() {
            assert!(seen.insert(key.hash(&long[..length]).0), "length {length}");
            for at in 0..length {
                let mut other = long.as_bytes()[..length].to_vec();
                other[at] = b'y';
                let other = String::from_utf8(other).unwrap();
                assert_ne!(key.hash(&other), key.hash(&long[..length]), "byte {at} of {length}");
            }
        }
        assert_ne!(key.hash("/a"), HashKey::new([3, 5]).hash("/a"));
    }
}
