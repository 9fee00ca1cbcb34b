//! Single scenarios: rules of Apache's tree that can be said in one sentence each.

use super::super::*;
use super::{SETTINGS, verify};
use crate::model::{Owner, SessionId, StatPersisted, WallMillis, Xid};
use crate::wire::{AclBytes, Create, CreateKind, SubTxn, TxnBody, TxnHeader};
use ostler_replication::{Epoch, Zxid};

struct World {
    head: Head,
    changes: Changes,
    zxid: u64,
}

impl World {
    fn new() -> World {
        let mut head = Head::new(SETTINGS);
        head.seal();
        World { head, changes: Changes::default(), zxid: 0 }
    }

    fn apply(&mut self, body: TxnBody<'_>) -> TxnResult {
        self.zxid += 1;
        let (zxid, time) = (Zxid(self.zxid), WallMillis(1000 + self.zxid as i64));
        let header = TxnHeader { session: SessionId(5), cxid: Xid(0), zxid, time, kind: body.kind() };
        self.head.apply(&header, &body, &mut self.changes)
    }

    fn create(&mut self, path: &str, data: &[u8]) -> TxnResult {
        self.apply(TxnBody::Create(create(path, data)))
    }

    fn text(&self, path: &str) -> String {
        String::from_utf8(self.head.get(path).unwrap().data().unwrap().to_vec()).unwrap()
    }
}

fn create<'a>(path: &'a str, data: &'a [u8]) -> Create<'a> {
    let kind = CreateKind::Plain { create2: false, ephemeral: false };
    Create { path: path.into(), data: Some(data.into()), acl: AclBytes::OPEN, kind, parent_cversion: -1 }
}

fn stat(result: &TxnResult) -> crate::model::Stat {
    match result.reply {
        TxnReply::Stat(stat) | TxnReply::Created(stat) => stat,
        _ => panic!("{result:?} has no Stat"),
    }
}

#[test]
fn znodes_in_any_order_that_has_parents_first_come_back() {
    let stat = StatPersisted::created(Zxid(1), WallMillis(1), Owner::Persistent);
    let paths = ["", "/x", "/a", "/x/y", "/x/q", "/a/b", "/x/y/z", "/a/b/c", "/ab", "/x/y/w", "/a/d"];
    for gather in [false, true] {
        let mut restorer = Restorer::new(SETTINGS, Zxid(5));
        if gather {
            restorer.gather();
        }
        come_back(restorer, &paths, stat);
    }
}

fn come_back(mut restorer: Restorer, paths: &[&str], stat: StatPersisted) {
    for path in paths {
        restorer.node(path, Some(path.as_bytes()), -1, stat).unwrap();
    }
    for (path, error) in [
        ("/x/q", RestoreError::Twice { path: "/x/q".into() }),
        ("/q/y", RestoreError::NoParent { path: "/q/y".into() }),
    ] {
        assert_eq!(restorer.node(path, None, -1, stat), Err(error));
    }
    let mut head = restorer.finish().unwrap();
    for path in &paths[1..] {
        assert_eq!(head.get(path).unwrap().data(), Some(path.as_bytes()), "{path}");
    }
    for (path, children) in [("/", 3), ("/x", 2), ("/a", 2), ("/x/y", 2), ("/a/b", 1), ("/ab", 0)] {
        assert_eq!(head.get(path).unwrap().child_count(), children, "{path}");
    }
    verify(&head.seal());
}

#[test]
fn an_empty_tree_is_apaches() {
    let mut head = Head::new(SETTINGS);
    assert_eq!(head.digest(), 0x51c6_d660);
    let totals = head.totals();
    assert_eq!((totals.znodes, totals.data_bytes), (4, 44));
    let view = head.seal();
    let root = view.get("").unwrap();
    assert_eq!((root.stat().cversion, root.child_count(), root.data()), (-1, 1, Some(&b""[..])));
    assert_eq!(view.get("/").unwrap().id(), root.id());
    assert_eq!(view.get("/zookeeper").unwrap().stat().cversion, -2);
    let config = view.get("/zookeeper/config").unwrap();
    assert_eq!(config.stat().aversion, -1);
    assert_eq!(view.acl(config.acl_id()).unwrap().list[0].perms, 1);
    assert_eq!(root.descendants(), 3);
}

#[test]
fn odd_paths_are_not_found() {
    let mut world = World::new();
    world.create("/a", b"1");
    world.create("/a/b", b"2");
    let view = world.head.seal();
    for path in ["/a/", "//a", "a", "/a/b/", "/a//b", "/a/b/c", "/b", "/b/a", "/a\0", "//", "/zookeeper/"] {
        assert!(view.get(path).is_none(), "{path:?}");
    }
    assert_eq!(view.get("/a/b").unwrap().data(), Some(&b"2"[..]));
}

#[test]
fn a_hash_alone_is_no_proof() {
    let mut world = World::new();
    for path in ["/a", "/a/b", "/a/b/a-longer-component"] {
        world.create(path, b"");
    }
    let view = world.head.seal();
    let path = "/a/b/a-longer-component";
    let hash = view.hash(path);
    assert!(view.get_hashed(hash, path).is_some());
    for other in [
        "/c/b/a-longer-component",
        "/a/c/a-longer-component",
        "/a/b/a-longer-componenT",
        "/a/b/A-longer-component",
        "/a/b/a-longer-c0mponent",
        "/b/a-longer-component",
        "/a-longer-component",
        "/z/a/b/a-longer-component",
        "a/b/a-longer-component",
        "/a/b",
    ] {
        assert!(view.get_hashed(hash, other).is_none(), "{other}");
    }
}

#[test]
fn stats_follow_the_table() {
    let mut world = World::new();
    let made = stat(&world.create("/p", b"abc"));
    assert_eq!((made.czxid, made.pzxid, made.version, made.data_length), (Zxid(1), Zxid(1), 0, 3));
    world.create("/p/a", b"");
    world.create("/p/b", b"");
    world.apply(TxnBody::Delete { path: "/p/a".into() });
    let p = world.head.get("/p").unwrap().stat();
    assert_eq!((p.cversion, p.num_children, p.pzxid, p.mzxid, p.version), (3, 1, Zxid(4), Zxid(1), 0));
    let set = world.apply(TxnBody::SetData { path: "/p".into(), data: Some(b"x"[..].into()), version: 1 });
    let set = stat(&set);
    assert_eq!(
        (set.version, set.mzxid, set.mtime, set.ctime),
        (1, Zxid(5), WallMillis(1005), WallMillis(1001))
    );
    assert_eq!((set.pzxid, set.data_length, set.num_children), (Zxid(4), 1, 1));
    let acl = stat(&world.apply(TxnBody::SetAcl { path: "/p".into(), acl: AclBytes::READ_ONLY, version: 1 }));
    assert_eq!((acl.aversion, acl.mzxid, acl.version), (1, Zxid(5), 1));
    // Only a greater cversion moves the parent's Stat.
    let mut stale = create("/p/c", b"");
    stale.parent_cversion = 2;
    world.apply(TxnBody::Create(stale));
    let p = world.head.get("/p").unwrap();
    assert_eq!((p.persisted().cversion, p.stat().num_children, p.stat().pzxid), (2, 2, Zxid(4)));
}

#[test]
fn replay_over_its_own_future_converges() {
    let mut world = World::new();
    world.create("/a", b"new");
    let before = world.head.get("/a").unwrap().persisted();
    let mut again = create("/a", b"old");
    again.acl = AclBytes::READ_ONLY;
    again.parent_cversion = 9;
    assert_eq!(world.apply(TxnBody::Create(again)).error, -110);
    let a = world.head.get("/a").unwrap();
    assert_eq!((a.data(), a.persisted()), (Some(&b"new"[..]), before));
    assert_eq!(&*world.head.acl(a.acl_id()).unwrap().bytes, AclBytes::READ_ONLY.bytes());
    let root = world.head.get("/").unwrap().persisted();
    assert_eq!((root.cversion, root.pzxid), (9, Zxid(2)));
    assert_eq!(world.apply(TxnBody::Delete { path: "/gone".into() }).error, -101);
    assert_eq!(world.head.get("/").unwrap().persisted().pzxid, Zxid(3));
    for body in [
        TxnBody::Create(create("/x/y", b"")),
        TxnBody::Delete { path: "/x/y".into() },
        TxnBody::SetData { path: "/x".into(), data: None, version: 3 },
        TxnBody::SetAcl { path: "/x".into(), acl: AclBytes::OPEN, version: 3 },
    ] {
        assert_eq!(world.apply(body).error, -101);
    }
    for body in [
        TxnBody::Create(create("/", b"")),
        TxnBody::Create(create("", b"")),
        TxnBody::Create(create("/a/", b"")),
        TxnBody::Create(create("a", b"")),
        TxnBody::Delete { path: "/".into() },
        TxnBody::Delete { path: "".into() },
    ] {
        assert_ne!(world.apply(body).error, 0);
    }
    verify(&world.head.seal());
}

#[test]
fn zxids_that_repeat_or_descend_are_applied_all_the_same() {
    let mut world = World::new();
    world.zxid = 10;
    world.create("/a", b"");
    let old = world.head.seal();
    world.zxid = 4;
    world.create("/b", b"");
    world.create("/a/c", b"");
    let view = world.head.seal();
    assert_eq!(view.zxid(), Zxid(11));
    assert!(old.get("/b").is_none() && view.get("/b").is_some());
    assert_eq!((old.get("/a").unwrap().child_count(), view.get("/a").unwrap().child_count()), (0, 1));
    verify(&view);
    world.zxid = 11;
    world.create("/d", b"");
    assert_eq!(world.head.get("/d").unwrap().persisted().czxid, Zxid(12));
    verify(&world.head.seal());
}

/// What a `HashSet<>(8)` of JDK 17 prints after the same steps.
#[test]
fn children_are_listed_as_from_a_java_hash_set() {
    let mut world = World::new();
    world.create("/p", b"");
    let list = |world: &mut World| {
        let view = world.head.seal();
        let mut order = ChildOrder::default();
        let names =
            view.get("/p").unwrap().children_in_order(&mut order).map(|child| child.name().to_owned());
        let names: Vec<String> = names.collect();
        let mut listed = Vec::new();
        let mut listing = view.listing(&view.get("/p").unwrap());
        while !listing.portion(3, |name| listed.push(name.to_owned())) {}
        assert_eq!(names, listed);
        names.join(" ")
    };
    ["/p/BB", "/p/b", "/p/Aa", "/p/a"].iter().for_each(|path| _ = world.create(path, b""));
    assert_eq!(list(&mut world), "BB Aa a b");
    // One that is made again comes last at its place, whatever its id.
    world.apply(TxnBody::Delete { path: "/p/BB".into() });
    world.head.seal();
    world.create("/p/BB", b"");
    assert_eq!(list(&mut world), "Aa BB a b");
    ["/p/BB", "/p/b", "/p/Aa", "/p/a"]
        .iter()
        .for_each(|path| _ = world.apply(TxnBody::Delete { path: path.to_string().into() }));
    assert_eq!(list(&mut world), "");
    // The set stays as large as it was.
    (0..30).for_each(|n| _ = world.create(&format!("/p/n{n}"), b""));
    (5..30).for_each(|n| _ = world.apply(TxnBody::Delete { path: format!("/p/n{n}").into() }));
    ["/p/o0", "/p/mO"].iter().for_each(|path| _ = world.create(path, b""));
    assert_eq!(list(&mut world), "n0 mO n1 n2 n3 n4 o0");
    // Two hashes, each of four names: those of one multi have one czxid, and take ids that were given back in any order.
    let names = ["AaAa", "AaBB", "BBAa", "BBBB", "CcCc", "CcDD", "DDCc", "DDDD"];
    for path in ["/p/o0", "/p/mO", "/p/n3", "/p/n0", "/p/n4", "/p/n1", "/p/n2"] {
        world.apply(TxnBody::Delete { path: path.into() });
    }
    drop(world.head.seal());
    world.head.committed(world.head.zxid());
    while world.head.reclaim(100) == 100 {}
    let paths = names.map(|name| format!("/p/{name}"));
    world.apply(TxnBody::Multi(paths.iter().map(|path| SubTxn::Create(create(path, b""))).collect()));
    assert_eq!(list(&mut world), names.join(" "));
}

#[test]
fn closing_a_session_deletes_what_is_listed_and_what_is_left() {
    let mut world = World::new();
    world.apply(TxnBody::CreateSession { timeout_ms: 4000 });
    world.create("/p", b"");
    for path in ["/p/1", "/p/2", "/p/3"] {
        let kind = CreateKind::Plain { create2: true, ephemeral: true };
        world.apply(TxnBody::Create(Create { kind, acl: AclBytes::READ_ONLY, ..create(path, b"") }));
    }
    assert_eq!((world.head.ephemeral_count(SessionId(5)), world.head.totals().ephemerals), (3, 3));
    assert_eq!(world.head.ephemerals(SessionId(5)).collect::<Vec<_>>(), ["/p/1", "/p/2", "/p/3"]);
    let before = world.head.seal();
    world.changes = Changes::default();
    let paths = Some(vec!["/p/3".into(), "/p/none".into(), "/p/1".into()]);
    world.apply(TxnBody::CloseSession { paths });
    let seen: Vec<_> =
        world.changes.list.iter().map(|change| (change.kind, world.changes.path(change))).collect();
    assert_eq!(seen, ["/p/3", "/p/1", "/p/2"].map(|path| (ChangeKind::Deleted, path)));
    let read_only = before.get("/p/1").unwrap().acl_id();
    assert!(
        world.changes.list.iter().all(|change| change.acl == read_only && change.parent_acl == AclId::OPEN)
    );
    let after = world.head.seal();
    assert_eq!((before.sessions().count(), after.sessions().count()), (1, 0));
    assert_eq!(world.head.owners().count(), 0);
    assert_eq!(after.get("/p").unwrap().stat().pzxid, Zxid(6));
    verify(&after);
}

#[test]
fn a_failed_multi_changes_nothing_but_the_zxid() {
    let mut world = World::new();
    let parts = vec![SubTxn::Create(create("/a", b"")), SubTxn::error(-103), SubTxn::error(-2)];
    let result = world.apply(TxnBody::Multi(parts));
    let TxnReply::Multi(results) = result.reply else { panic!() };
    assert_eq!(results.iter().map(|part| part.error).collect::<Vec<_>>(), [0, -103, -2]);
    assert!(world.head.get("/a").is_none() && world.changes.list.is_empty());
    assert_eq!((world.head.zxid(), world.head.digest()), (Zxid(1), 0x51c6_d660));
    let version = |version| SubTxn::SetData { path: "/a".into(), data: Some(b"1"[..].into()), version };
    let result = world.apply(TxnBody::Multi(vec![SubTxn::Create(create("/a", b"")), version(1), version(2)]));
    let TxnReply::Multi(results) = result.reply else { panic!() };
    // Each part's Stat is as of that part.
    assert_eq!(results.iter().map(|part| stat(part).version).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(world.changes.list.len(), 3);
}

#[test]
fn quotas_charge_the_deepest_and_survive_garbage() {
    let mut world = World::new();
    for path in ["/q", "/q/in", "/zookeeper/quota/q", "/zookeeper/quota/q/in"] {
        world.create(path, b"12345");
    }
    world.create("/zookeeper/quota/q/zookeeper_limits", b"count=10,bytes=-1");
    world.create("/zookeeper/quota/q/zookeeper_stats", b"anything");
    let stats = "/zookeeper/quota/q/zookeeper_stats";
    assert_eq!(world.text(stats), "count=2,bytes=10");
    let before = world.head.get(stats).unwrap().persisted();
    world.create("/q/a", b"123");
    world.apply(TxnBody::SetData { path: "/q".into(), data: None, version: 1 });
    world.apply(TxnBody::Delete { path: "/q/in".into() });
    assert_eq!(world.text(stats), "count=2,bytes=3");
    assert_eq!(world.head.get(stats).unwrap().persisted(), before);
    let quota = world.head.quota("/q/a").unwrap();
    assert_eq!((quota.path, quota.limits.count, quota.usage.count), ("/q", 10, 2));
    // A deeper quota takes over, the shallower is not charged.
    world.create("/zookeeper/quota/q/in/zookeeper_limits", b"count=1,bytes=-1");
    world.create("/q/in", b"");
    assert_eq!(world.text(stats), "count=2,bytes=3");
    world.create("/zookeeper/quota/q/in/zookeeper_stats", b"");
    assert_eq!(world.text("/zookeeper/quota/q/in/zookeeper_stats"), "count=1,bytes=0");
    let garbage = Some(b"garbage"[..].into());
    world.apply(TxnBody::SetData { path: stats.into(), data: garbage, version: 1 });
    world.create("/q/b", b"1");
    assert_eq!(world.text(stats), "count=1,bytes=1");
    // The root cannot have one.
    world.create("/zookeeper/quota/zookeeper_limits", b"count=1,bytes=1");
    world.create("/zookeeper/quota/zookeeper_stats", b"mine");
    world.create("/other", b"");
    assert_eq!(world.text("/zookeeper/quota/zookeeper_stats"), "mine");
    // Undoing keeps the list of quotas in step.
    let limits = "/zookeeper/quota/q/zookeeper_limits";
    let savepoint = world.head.savepoint();
    world.apply(TxnBody::Delete { path: limits.into() });
    world.create("/q/rolled", b"1");
    world.head.rollback(savepoint);
    assert_eq!(world.head.quota("/q").unwrap().path, "/q");
    world.apply(TxnBody::Delete { path: limits.into() });
    let savepoint = world.head.savepoint();
    world.create(limits, b"count=1,bytes=1");
    world.head.rollback(savepoint);
    assert_eq!(world.head.quota("/q"), None);
    let text = world.text(stats);
    world.create("/q/uncharged", b"1");
    assert_eq!(world.text(stats), text);
    world.create("/q/c", b"1");
    assert_eq!(world.text(stats), "count=1,bytes=1");
    verify(&world.head.seal());
}

#[test]
fn rewinding_knows_only_boundaries_behind_the_committed() {
    let mut world = World::new();
    world.create("/a", b"");
    world.create("/b", b"");
    drop(world.head.seal());
    world.create("/c", b"");
    assert_eq!(world.head.rewind(Zxid(1)), Err(NotRetained));
    assert_eq!(world.head.rewind(Zxid(2)), Ok(()));
    assert!(world.head.get("/c").is_none() && world.head.get("/b").is_some());
    world.head.committed(Zxid(2));
    assert_eq!(world.head.rewind(Zxid(0)), Err(NotRetained));
    world.zxid = Zxid::new(Epoch(1), 0).0;
    world.create("/d", b"");
    let view = world.head.seal();
    assert_eq!(world.head.rewind(Zxid(2)), Ok(()));
    assert_eq!((world.head.zxid(), view.get("/d").is_some()), (Zxid(2), false));
    verify(&world.head.seal());
}

#[test]
fn what_a_reader_may_have_in_hand_waits_for_it() {
    let mut world = World::new();
    world.apply(TxnBody::Create(Create { acl: AclBytes::READ_ONLY, ..create("/a", b"1") }));
    let acl = AclBytes::encode(&[]);
    world.apply(TxnBody::Create(Create { acl, ..create("/b", b"1") }));
    drop(world.head.seal());
    world.apply(TxnBody::Delete { path: "/b".into() });
    // Does not show /b, but its holder may have read the index before.
    let view = world.head.seal();
    world.head.committed(Zxid(3));
    assert_eq!((world.head.ids_in_use(), world.head.acl_count()), (6, 3));
    while world.head.reclaim(9) == 9 {}
    assert_eq!((world.head.ids_in_use(), world.head.acl_count()), (6, 3), "the second grace lasts");
    drop(view);
    let later = world.head.seal();
    while world.head.reclaim(9) == 9 {}
    assert_eq!(
        (world.head.ids_in_use(), world.head.acl_count()),
        (5, 2),
        "a View that came later is no obstacle"
    );
    verify(&later);
    // Undone znodes and versions wait too.
    let savepoint = world.head.savepoint();
    world.create("/c", b"1");
    world.head.rollback(savepoint);
    while world.head.reclaim(9) == 9 {}
    assert_eq!(world.head.ids_in_use(), 6);
    drop(later);
    while world.head.reclaim(9) == 9 {}
    assert_eq!(world.head.ids_in_use(), 5);
    // And the index's segments that a reader may be searching.
    let view = world.head.seal();
    (0..2_000).for_each(|n| drop(world.create(&format!("/n{n}"), b"")));
    while world.head.reclaim(9) == 9 {}
    let with_old = world.head.usage().index;
    drop(view);
    while world.head.reclaim(9) == 9 {}
    assert!(world.head.usage().index * 3 < with_old * 2, "{} of {with_old}", world.head.usage().index);
    verify(&world.head.seal());
}

/// All that a snapshot stores, in its order.
fn copy(view: &View) -> Head {
    let mut restorer = Restorer::new(SETTINGS, view.zxid());
    view.sessions().for_each(|(id, timeout)| restorer.session(id, timeout).unwrap());
    for (id, acl) in view.acls().filter(|(id, _)| *id != AclId::OPEN) {
        restorer.acl(i64::from(id.0) + 1000, &AclBytes::from_canonical(&acl.bytes).unwrap()).unwrap();
    }
    let mut walk = view.walk();
    while let Some((path, node)) = walk.next() {
        let key = if node.acl_id() == AclId::OPEN { -1 } else { i64::from(node.acl_id().0) + 1000 };
        restorer.node(path, node.data(), key, node.persisted()).unwrap();
    }
    restorer.finish().unwrap()
}

#[test]
fn a_restored_world_goes_on_like_the_one_it_was_taken_from() {
    let mut world = World::new();
    world.apply(TxnBody::CreateSession { timeout_ms: 4000 });
    for n in 0..300 {
        world.create(&format!("/n{n}"), &vec![1; n]);
        if n % 3 == 0 {
            let kind = CreateKind::Plain { create2: true, ephemeral: true };
            let path = format!("/n{n}/e");
            world.apply(TxnBody::Create(Create { kind, acl: AclBytes::READ_ONLY, ..create(&path, b"") }));
            world.apply(TxnBody::Create(Create {
                kind: CreateKind::Ttl(5),
                ..create(&format!("/n{n}/t"), b"")
            }));
        }
    }
    world.create("/zookeeper/quota/n9", b"");
    world.create("/zookeeper/quota/n9/zookeeper_limits", b"count=1,bytes=-1");
    world.create("/zookeeper/quota/n9/zookeeper_stats", b"");
    let view = world.head.seal();
    let mut other = World { head: copy(&view), changes: Changes::default(), zxid: world.zxid };
    let restored = other.head.seal();
    verify(&restored);
    assert_eq!(super::model::Model::of(&restored).nodes, super::model::Model::of(&view).nodes);
    assert_eq!((restored.totals(), restored.sessions().count()), (view.totals(), 1));
    for world in [&mut world, &mut other] {
        world.create("/n9/more", b"123");
        world.apply(TxnBody::CloseSession { paths: None });
        world.apply(TxnBody::SetData { path: "/n7".into(), data: None, version: 1 });
    }
    assert_eq!((world.head.totals(), other.head.totals()), (other.head.totals(), other.head.totals()));
    assert_eq!(other.text("/zookeeper/quota/n9/zookeeper_stats"), "count=3,bytes=12");
    assert_eq!(other.head.ttl_nodes(None).count(), 100);
    verify(&other.head.seal());
}

#[test]
fn of_znodes_that_are_there_twice_the_first_is_told_when_all_are_there() {
    let stat = StatPersisted::created(Zxid(1), WallMillis(1), Owner::Persistent);
    let check = |paths: &[&str], expected: Result<(), (u64, &str)>| {
        let mut restorer = Restorer::new(SETTINGS, Zxid(5));
        restorer.gather();
        paths.iter().for_each(|path| restorer.node(path, None, -1, stat).unwrap());
        let expected = expected.map_err(|(at, path)| (at, RestoreError::Twice { path: path.into() }));
        assert_eq!(restorer.complete(), expected);
        assert_eq!(restorer.complete(), expected, "asked again");
        assert_eq!(restorer.finish().err(), expected.err().map(|(_, error)| error));
    };
    check(&["", "/a", "/a/b", "/b", "/b/b"], Ok(()));
    check(&["", "/a", "/a/b", "/a/b", "/a", "/a/b"], Err((3, "/a/b")));
    check(&["", "/a", "/a/b", "/b", "/a", "/a/b"], Err((4, "/a")));
    // The index is needed on the way.
    check(&["", "/a", "/a/b", "/a/b", "/b", "/a/c", "/d"], Err((3, "/a/b")));
}

#[test]
fn what_cannot_be_a_snapshot_is_refused() {
    let stat = StatPersisted::created(Zxid(1), WallMillis(1), Owner::Persistent);
    let mut restorer = Restorer::new(SETTINGS, Zxid(5));
    assert!(matches!(restorer.node("/a", None, -1, stat), Err(RestoreError::NoRoot { .. })));
    restorer.node("", None, -1, stat).unwrap();
    restorer.node("/a", None, -1, stat).unwrap();
    restorer.node("/a/b", None, 77, stat).unwrap();
    let refused = |result: Result<(), RestoreError>, wanted: fn(String) -> RestoreError, path: &str| {
        assert_eq!(result, Err(wanted(path.to_owned())));
    };
    refused(restorer.node("/a/b", None, -1, stat), |path| RestoreError::Twice { path }, "/a/b");
    refused(restorer.node("/b/c", None, -1, stat), |path| RestoreError::NoParent { path }, "/b/c");
    refused(restorer.node("/ab/c", None, -1, stat), |path| RestoreError::NoParent { path }, "/ab/c");
    refused(restorer.node("b", None, -1, stat), |path| RestoreError::NoPath { path }, "b");
    refused(restorer.node("/", None, -1, stat), |path| RestoreError::NoPath { path }, "/");
    let mut future = stat;
    future.czxid = Zxid(9);
    restorer.node("/a/c", None, -1, future).unwrap();
    let mut head = restorer.finish().unwrap();
    // An ACL that the map lacks denies all until replay sets it.
    let acl = head.get("/a/b").unwrap().acl_id();
    assert_eq!(head.acl(acl).unwrap().list[0].perms, 0);
    let view = head.seal();
    assert!(view.get("/a/c").is_some());
    verify(&view);
}

#[test]
fn an_acl_that_a_change_names_outlives_its_replacement_in_the_same_batch() {
    let mut world = World::new();
    let read_by = |id: &str| AclBytes::encode(&[crate::model::Acl::new(1, "ip", id)]);
    world.create("/a", b"1");
    let before = world.head.seal();
    world.head.committed(Zxid(1));
    world.changes = Changes::default();
    for (version, id) in [(1, "10.0.0.1"), (2, "10.0.0.2"), (3, "10.0.0.3")] {
        world.apply(TxnBody::SetAcl { path: "/a".into(), acl: read_by(id), version });
        world.apply(TxnBody::SetData { path: "/a".into(), data: None, version });
    }
    let view = world.head.seal();
    world.head.committed(Zxid(7));
    drop(before);
    while world.head.reclaim(9) == 9 {}
    let named: Vec<_> = world.changes.list.iter().map(|change| view.acl(change.acl).is_some()).collect();
    assert_eq!(named, [true; 3], "whoever delivers the changes asks these ACLs who may know");
    drop(view);
    let view = world.head.seal();
    while world.head.reclaim(9) == 9 {}
    assert_eq!(world.head.acl_count(), 3, "the open one, that of /zookeeper/config, the last one");
    verify(&view);
}

#[test]
fn a_number_of_another_tree_has_no_path() {
    let mut world = World::new();
    world.create("/a", b"");
    let view = world.head.seal();
    let number = view.get("/a").unwrap().id().number();
    assert_eq!(view.path_of(number).as_deref(), Some("/a"));
    // Followed upwards, an id that no znode has led to itself for ever.
    for number in [0, number + 1, number + 1000, u32::MAX / 4, u32::MAX] {
        assert_eq!(view.path_of(number), None, "{number}");
    }
}
