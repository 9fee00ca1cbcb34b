//! The world against a model that is nothing but maps.

use super::*;

const SETTINGS: Settings = Settings { hash_seed: [11, 22], digests: true };

#[test]
fn an_empty_tree_is_apaches() {
    let mut head = Head::new(SETTINGS);
    assert_eq!(head.digest(), 0x51c6_d660);
    let totals = head.totals();
    assert_eq!((totals.znodes, totals.data_bytes), (4, 44));
    let view = head.seal();
    let root = view.get("").unwrap();
    assert_eq!((root.stat().cversion, root.child_count(), root.data()), (-1, 1, Some(&b""[..])));
    assert_eq!(view.get("/zookeeper").unwrap().stat().cversion, -2);
    let config = view.get("/zookeeper/config").unwrap();
    assert_eq!(config.stat().aversion, -1);
    assert_eq!(view.acl(config.acl_id()).unwrap().list[0].perms, 1);
    assert_eq!(root.descendants(), 3);
}
