use super::*;

const W1: u32 = 1;
const W2: u32 = 2;

fn watches(registered: &[(&str, u32, Mode)]) -> Watches {
    let mut watches = Watches::new(HashKey([3, 4]));
    for &(path, slot, mode) in registered {
        watches.add(path, None, slot, mode);
    }
    watches
}

fn fire(watches: &mut Watches, trigger: Trigger, path: &str, hits: &mut Vec<Hit>) {
    let (quick, before) = (watches.quick(path), hits.len());
    let may_concern = watches.may_concern(trigger, quick);
    watches.fire(trigger, path, quick, hits);
    assert!(may_concern || hits.len() == before);
}

/// Plays the changes; what is told must be `expected`, as "slot event path" in order.
fn check(registered: &[(&str, u32, Mode)], changes: &[(Trigger, &str)], expected: &[&str]) -> Watches {
    let mut watches = watches(registered);
    let mut told = Vec::new();
    for &(trigger, path) in changes {
        let mut hits = Vec::new();
        fire(&mut watches, trigger, path, &mut hits);
        for hit in hits {
            let about = match hit.event {
                EventType::ChildrenChanged => {
                    crate::model::path::split(path).map_or("?", |(parent, _)| parent)
                }
                _ => path,
            };
            told.push(format!("{} {:?} {}", hit.slot, hit.event, about));
        }
    }
    assert_eq!(told, expected);
    watches
}

use Mode::{Child, Data, Persistent, Recursive};
use Trigger::{Created, DataChanged, Deleted};

#[test]
fn create_fires_the_path_then_the_parents_children() {
    check(
        &[("/a/b", W1, Data), ("/a", W1, Child), ("/a", W2, Data)],
        &[(Created, "/a/b"), (Created, "/a/b")],
        &["1 Created /a/b", "1 ChildrenChanged /a"],
    );
    check(&[("/", W1, Child)], &[(Created, "/a")], &["1 ChildrenChanged /"]);
}

#[test]
fn delete_tells_each_connection_once() {
    check(
        &[("/a", W1, Data), ("/a", W1, Child), ("/a", W1, Persistent), ("/a", W2, Child), ("/", W2, Child)],
        &[(Deleted, "/a")],
        &["1 Deleted /a", "2 Deleted /a", "2 ChildrenChanged /"],
    );
    check(&[("/a", W1, Recursive), ("/a/b", W1, Child)], &[(Deleted, "/a/b")], &["1 Deleted /a/b"]);
}

#[test]
fn set_data_fires_data_watches_only() {
    check(
        &[("/a", W1, Data), ("/a", W2, Child), ("/", W2, Child), ("/", W1, Persistent)],
        &[(DataChanged, "/a"), (DataChanged, "/a")],
        &["1 DataChanged /a"],
    );
    check(&[("/", W1, Data)], &[(DataChanged, "/")], &["1 DataChanged /"]);
}

#[test]
fn a_persistent_watch_sees_its_path_and_children_and_survives() {
    check(
        &[("/p", W1, Persistent)],
        &[
            (Created, "/p"),
            (Created, "/p/c"),
            (DataChanged, "/p/c"),
            (DataChanged, "/p"),
            (Deleted, "/p/c"),
            (Deleted, "/p"),
            (Created, "/p"),
        ],
        &[
            "1 Created /p",
            "1 ChildrenChanged /p",
            "1 DataChanged /p",
            "1 ChildrenChanged /p",
            "1 Deleted /p",
            "1 Created /p",
        ],
    );
}

#[test]
fn a_recursive_watch_sees_all_below_but_never_children_changed() {
    check(
        &[("/r", W1, Recursive), ("/", W2, Recursive)],
        &[(Created, "/r"), (Created, "/r/x/y"), (DataChanged, "/r/x"), (Deleted, "/r"), (Created, "/rx")],
        &[
            "1 Created /r",
            "2 Created /r",
            "1 Created /r/x/y",
            "2 Created /r/x/y",
            "1 DataChanged /r/x",
            "2 DataChanged /r/x",
            "1 Deleted /r",
            "2 Deleted /r",
            "2 Created /rx",
        ],
    );
    check(
        &[("/r", W1, Recursive), ("/r", W1, Child)],
        &[(Created, "/r/x")],
        &["1 Created /r/x", "1 ChildrenChanged /r"],
    );
}

#[test]
fn modes_coexist_and_one_lookup_tells_once() {
    let watches = check(
        &[("/a", W1, Data), ("/a", W1, Persistent), ("/a", W1, Recursive), ("/", W1, Recursive)],
        &[(DataChanged, "/a"), (DataChanged, "/a")],
        &["1 DataChanged /a", "1 DataChanged /a"],
    );
    assert_eq!(watches.counts(), Counts { data: 2, child: 1 });
}

#[test]
fn odd_strings_are_keys_that_nothing_fires() {
    check(
        &[("", W1, Child), ("odd", W1, Data), ("/a/", W1, Data)],
        &[(Created, "/a"), (Created, "/a/b")],
        &[],
    );
}

#[test]
fn removal_by_type() {
    let everything: Vec<_> = [Data, Child, Persistent, Recursive].map(|mode| ("/a", W1, mode)).into();
    for (kind, left) in [
        (1, Counts { data: 1, child: 1 }),
        (2, Counts { data: 1, child: 1 }),
        (4, Counts { data: 1, child: 1 }),
        (5, Counts { data: 1, child: 1 }),
        (3, Counts::default()),
    ] {
        let mut watches = watches(&everything);
        let kind = WatcherType::from_wire(kind).expect("known");
        assert!(!watches.contains("/a", W2, kind) && !watches.remove("/a", W2, kind));
        assert!(!watches.remove("/b", W1, kind));
        assert!(watches.contains("/a", W1, kind));
        assert!(watches.remove("/a", W1, kind));
        assert!(!watches.contains("/a", W1, kind) && !watches.remove("/a", W1, kind));
        assert_eq!(watches.counts(), left);
    }
    assert!([0, 6, -1].iter().all(|&raw| WatcherType::from_wire(raw).is_none()));
    // Type 2 leaves a persistent watch in place.
    let mut watches = watches(&[("/a", W1, Persistent)]);
    assert!(!watches.remove("/a", W1, WatcherType::from_wire(2).expect("known")));
}

#[test]
fn a_lost_connection_leaves_nothing_behind() {
    let mut watches =
        watches(&[("/a", W1, Data), ("/a", W2, Data), ("/b", W1, Persistent), ("/c", W1, Recursive)]);
    let mut hits = Vec::new();
    fire(&mut watches, Trigger::DataChanged, "/a", &mut hits);
    watches.add("/a", Some(9), W1, Data);
    watches.drop_connection(W1);
    assert_eq!(watches.counts(), Counts::default());
    assert!(watches.is_empty());
    watches.drop_connection(W1);
    watches.drop_connection(77);
}

#[test]
fn firing_and_registering_again_for_long_keeps_lists_short() {
    let mut watches = watches(&[]);
    let mut hits = Vec::new();
    for round in 0..10_000u32 {
        let path = format!("/p/{}", round % 7);
        watches.add(&path, Some(round % 7), W1, Data);
        watches.add("/p", Some(99), W1, Child);
        fire(&mut watches, Trigger::Deleted, &path, &mut hits);
    }
    assert_eq!(hits.len(), 20_000);
    assert!(watches.is_empty());
    watches.add("/p", None, W1, Persistent);
    for _ in 0..10_000 {
        watches.add("/q", Some(1), W1, Data);
        fire(&mut watches, Trigger::DataChanged, "/q", &mut hits);
    }
    assert!(watches.owners.take(W1).count() <= 8);
}

#[test]
fn a_name_outlives_its_znode() {
    let mut watches = watches(&[]);
    watches.add("/a", Some(5), W1, Persistent);
    watches.add("/a", Some(5), W2, Data);
    let names = |watches: &Watches| {
        let mut all = Vec::new();
        let mut place = Some(Place::default());
        while let Some(from) = place {
            place = watches
                .portion(from, 1, |name, slots| all.push((format!("{name:?}"), slots.collect::<Vec<_>>())));
        }
        all
    };
    assert_eq!(names(&watches), [("Node(5)".to_string(), vec![W1, W2])]);
    fire(&mut watches, Trigger::Deleted, "/a", &mut Vec::new());
    assert_eq!(names(&watches), [("Stored(\"/a\")".to_string(), vec![W1])]);
    watches.add("/c", None, W1, Child);
    assert_eq!(names(&watches).len(), 1);
}

#[test]
fn a_connection_beyond_its_bounds_is_told_of_once_and_what_fires_no_longer_counts() {
    let mut watches = watches(&[]);
    (watches.watches_max, watches.path_bytes_max) = (100, 300);
    let mut hits = Vec::new();
    for round in 0..1000u32 {
        // Stored paths and nodes, fired, removed, stored because the znode went.
        watches.add("/missing/znode", None, W1, Data);
        fire(&mut watches, Created, "/missing/znode", &mut hits);
        watches.add("/missing/other", None, W1, Child);
        assert!(watches.remove("/missing/other", W1, WatcherType::from_wire(1).expect("known")));
        watches.add("/there", Some(round), W1, Persistent);
        fire(&mut watches, Deleted, "/there", &mut hits);
        assert!(watches.remove("/there", W1, WatcherType::from_wire(4).expect("known")));
        assert!(!watches.take_overfull());
    }
    (0..100).for_each(|n| watches.add(&format!("/{n}"), Some(n), W1, Data));
    assert!(!watches.take_overfull());
    watches.add("/one more", Some(100), W1, Data);
    assert!(watches.take_overfull() && !watches.take_overfull());
    watches.drop_connection(W1);
    (0..30).for_each(|n| watches.add(&format!("/missing{n:02}"), None, W1, Data));
    assert!(!watches.take_overfull());
    watches.add("/more", None, W1, Data);
    assert!(watches.take_overfull());
    watches.add("/more", None, W2, Data);
    assert!(!watches.take_overfull(), "another's watches are another's");
}

#[test]
fn the_empty_path_is_listed_as_it_was_given() {
    let mut watches = watches(&[]);
    watches.add("", Some(1), W1, Persistent);
    watches.add("/", Some(1), W1, Persistent);
    let mut names = Vec::new();
    watches.portion(Place::default(), 10, |name, _| names.push(format!("{name:?}")));
    names.sort();
    assert_eq!(names, ["Node(1)", "Stored(\"\")"]);
}
