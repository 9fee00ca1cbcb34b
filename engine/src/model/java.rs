//! The order in which Java's hash tables give out strings: that of Apache's lists of children, ephemerals and ids, and of
//! the deletes of a closing session. It is promised to nobody, but there are programs and tests that lean on it.
//! Not here: bins of eight strings and more, which Java keeps as trees; by then somebody chose the names for it.
//!
//! A table of 2^n places keeps a string at the lowest n bits of its hash, strings of one place in the order in which they
//! came. It doubles when it is filled by more than three quarters, and never shrinks.

use super::Identity;
use ostler_replication::Zxid;

/// Size of a table, as the binary logarithm of its places.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Table(pub u8);

impl Table {
    /// A znode's children, at first.
    pub const CHILDREN: Table = Table(3);
    /// A session's ephemerals, and a connection's ids.
    pub const DEFAULT: Table = Table(4);

    /// That holds `count`, having begun as this one.
    pub fn grown(self, count: usize) -> Table {
        let mut table = self;
        while count > table.places() / 4 * 3 {
            table.0 += 1;
        }
        table
    }

    /// What `HashSet.clone` makes for `count` strings (Java 17).
    pub fn cloned(count: usize) -> Table {
        let wanted = count * 4 / 3 + 1;
        Table(wanted.next_power_of_two().trailing_zeros() as u8)
    }

    pub fn places(self) -> usize {
        1 << self.0
    }

    /// Where it keeps what has this hash.
    pub fn place(self, hash: u32) -> u32 {
        (hash ^ hash >> 16) & (self.places() - 1) as u32
    }
}

/// `String.hashCode`.
#[inline]
pub fn hash(text: &str) -> u32 {
    let add = |hash: u32, unit: u32| hash.wrapping_mul(31).wrapping_add(unit);
    if !text.is_ascii() {
        return text.encode_utf16().fold(0, |hash, unit| add(hash, unit.into()));
    }
    // Eight at a time, whose products do not wait for one another.
    let (eights, rest) = text.as_bytes().as_chunks::<8>();
    let hash = eights.iter().fold(0u32, |hash, eight| {
        let products = eight.iter().zip(POWERS).map(|(byte, power)| u32::from(*byte).wrapping_mul(power));
        products.fold(hash.wrapping_mul(POWER_8), u32::wrapping_add)
    });
    rest.iter().fold(hash, |hash, byte| add(hash, (*byte).into()))
}

/// Of 31, from the seventh down.
const POWERS: [u32; 8] = {
    let mut powers = [1u32; 8];
    let mut at = 7;
    while at > 0 {
        powers[at - 1] = powers[at].wrapping_mul(31);
        at -= 1;
    }
    powers
};
const POWER_8: u32 = POWERS[0].wrapping_mul(31);

/// `hashCode` of the record of an id.
fn hash_id(id: &Identity) -> u32 {
    let add = |hash: u32, text: &str| hash.wrapping_mul(37).wrapping_add(self::hash(text));
    add(add(17, &id.scheme), &id.id)
}

/// Puts a connection's ids, held in the order in which they came, into that in which Apache goes through them.
pub fn sort_ids(ids: &mut [Identity]) {
    // This one is a ConcurrentHashMap, which doubles when it is filled by three quarters.
    let table = Table::DEFAULT.grown(ids.len() + 1);
    ids.sort_by_key(|id| table.place(hash_id(id)));
}

/// Puts a session's ephemerals into the order of the copy that Apache goes through. `of` tells path and czxid.
pub fn sort_ephemerals<T>(ephemerals: &mut [T], of: impl Fn(&T) -> (&str, Zxid)) {
    let (original, copy) = (Table::DEFAULT.grown(ephemerals.len()), Table::cloned(ephemerals.len()));
    ephemerals.sort_by_cached_key(|ephemeral| {
        let (path, czxid) = of(ephemeral);
        let hash = hash(path);
        (copy.place(hash), original.place(hash), czxid)
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a `HashSet<>(8)` of JDK 17 prints with these in it.
    #[track_caller]
    fn check<const N: usize>(names: [&str; N], expected: [&str; N]) {
        let table = Table::CHILDREN.grown(N);
        let mut sorted = names;
        sorted.sort_by_key(|name| table.place(hash(name)));
        assert_eq!(sorted, expected);
    }

    #[test]
    fn names_stand_where_java_has_them() {
        check(["zookeeper", "b", "a"], ["a", "b", "zookeeper"]);
        check(
            ["n-0000000001", "n-0000000000", "n-0000000003", "n-0000000002", "x", "lock", "queue"],
            ["n-0000000000", "n-0000000002", "x", "n-0000000001", "lock", "n-0000000003", "queue"],
        );
        check(["Aa", "BB", "C#", "żółw", "😀", "é"], ["Aa", "BB", "C#", "😀", "é", "żółw"]);
        assert_eq!((hash("😀"), hash("/zookeeper/quota") as i32, hash("")), (1_772_899, -1_414_033_946, 0));
    }

    #[test]
    fn tables_grow_as_javas_do() {
        let sizes = [(0, 3), (6, 3), (7, 4), (12, 4), (13, 5), (24, 5), (25, 6), (1 << 26, 27)];
        for (count, table) in sizes {
            assert_eq!(Table::CHILDREN.grown(count), Table(table), "{count}");
        }
        assert_eq!(Table(6).grown(1), Table(6));
        assert_eq!([1, 2, 3, 5, 6, 11, 12].map(|count| Table::cloned(count).0), [1, 2, 3, 3, 4, 4, 5]);
    }

    #[test]
    fn ephemerals_are_listed_as_from_a_copy() {
        let mut paths = [3, 1, 2, 7, 5, 6, 4].map(|n| (format!("/e/{n}"), Zxid(n)));
        sort_ephemerals(&mut paths, |(path, czxid)| (path, *czxid));
        assert_eq!(paths.map(|(_, czxid)| czxid.0), [7, 5, 6, 3, 4, 1, 2]);
    }
}
