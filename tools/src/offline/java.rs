//! The order in which Java's hash tables give out what was put into them: Apache's tools print in that order, and
//! outputs can then be compared line by line.
//! Not here: buckets of eight and more that Java turns into trees, whose first element it moves; so wide a bucket needs
//! thousands of siblings and bad luck.

/// `String.hashCode`: over UTF-16 units.
fn string_hash(text: &str) -> u32 {
    text.encode_utf16().fold(0u32, |hash, unit| hash.wrapping_mul(31).wrapping_add(u32::from(unit)))
}

/// `Long.hashCode`.
fn long_hash(value: i64) -> u32 {
    (value ^ (value as u64 >> 32) as i64) as u32
}

/// Sorts `items`, in the order they were put in, as a `HashSet<String>` made for `capacity` would give them out.
pub fn string_set_order<'a, T>(items: &mut [T], capacity: usize, name: impl Fn(&T) -> &'a str) {
    order(items, capacity, |item| string_hash(name(item)));
}

/// The same for the keys of a `HashMap<Long, _>` of the default capacity.
pub fn long_map_order<T>(items: &mut [T], key: impl Fn(&T) -> i64) {
    order(items, 16, |item| long_hash(key(item)));
}

/// Within a bucket the order is that of putting in; growing keeps it.
fn order<T>(items: &mut [T], capacity: usize, hash: impl Fn(&T) -> u32) {
    let mut buckets = capacity.next_power_of_two();
    while items.len() > buckets / 4 * 3 {
        buckets *= 2;
    }
    items.sort_by_cached_key(|item| {
        let hash = hash(item);
        (hash ^ (hash >> 16)) as usize & (buckets - 1)
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_javas() {
        assert_eq!(string_hash(""), 0);
        assert_eq!(string_hash("abc"), 96354);
        assert_eq!(string_hash("ü"), 252);
        assert_eq!(long_hash(-1), 0);
        assert_eq!(long_hash(0x1_0000_0003), 2);
    }

    /// As SnapshotFormatter 3.9.5 printed the children of a znode made in numeric order.
    #[test]
    fn children_come_as_apache_prints_them() {
        let mut names: Vec<String> =
            std::iter::once("b".to_owned()).chain((0..20).map(|n| format!("n{n}"))).collect();
        let texts = names.clone();
        let mut order: Vec<usize> = (0..names.len()).collect();
        string_set_order(&mut order, 8, |at| &texts[*at]);
        names = order.iter().map(|at| texts[*at].clone()).collect();
        let printed = "b n0 n1 n2 n3 n4 n5 n6 n7 n8 n9 n10 n12 n11 n14 n13 n16 n15 n18 n17 n19";
        assert_eq!(names.join(" "), printed);
    }
}
