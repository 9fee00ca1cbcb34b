use super::watching::DATA_CHANGED;
use super::{Checked, Checker, EnsembleTime};
use crate::log::LogNote;
use crate::model::{Keep, Request, Stamp, Write, error};
use ostler_engine::model::{SessionId, WallMillis, Xid};
use ostler_engine::wire::{TxnBody, TxnEntry, TxnHeader};
use ostler_engine::world::{Head, Settings};
use ostler_replication::{Proposal, Zxid};
use ostler_tests::jute::Body;

const SESSION: i64 = 7;

/// A session of one connection, with `/c`, a container that had a child, `/t` with a TTL of 100 ms, and `/n`.
fn checker() -> Checker {
    let mut head = Head::new(Settings { hash_seed: [1, 2], digests: true });
    let mut checker = Checker::new(&head.seal(), None);
    let stamp = |zxid| Stamp { zxid, time: 1000, session: SESSION };
    checker.model.open_session(stamp(1), 4000);
    let create = |path: &str, keep| {
        let (path, data) = (path.to_owned(), b"data".to_vec());
        Request::Write(Write::Create { path, data, keep, sequential: false, with_stat: true })
    };
    let delete = |path: &str| Request::Write(Write::Delete { path: path.to_owned(), version: -1 });
    let writes = [
        create("/c", Keep::Container),
        create("/c/a", Keep::Always),
        delete("/c/a"),
        create("/t", Keep::Ttl(100)),
        create("/n", Keep::Always),
    ];
    for (zxid, write) in (2..).zip(&writes) {
        assert_eq!(checker.model.execute(stamp(zxid), write).err, error::OK);
    }
    checker.connecting(1, 1, 0, 0);
    let answer = Body::new().int(0).int(4000).long(SESSION).buffer(Some(&[1; 16])).bool(false).0;
    checker.frame(1, &answer).unwrap();
    checker
}

fn reply(checker: &mut Checker, xid: i32, request: &Request, err: i32, body: &[u8]) -> Checked {
    checker.sent(1, xid, request);
    let frame = Body::new().int(xid).long(checker.model.last).int(err).raw(body).0;
    checker.frame(1, &frame).map(drop)
}

#[test]
fn who_asked_for_the_session_in_time_was_heard_whether_answered_or_not() {
    let check = |arrives: usize, all_read: Option<bool>, right: bool| {
        let mut checker = checker();
        checker.running_ms = 3000;
        checker.gone(1, true);
        checker.connecting(2, 1, SESSION, 40);
        checker.arrived(2, 30);
        checker.arrived(2, arrives);
        if let Some(all_read) = all_read {
            checker.gone(2, all_read);
        }
        checker.running_ms = 6000;
        assert_eq!(checker.expires(SESSION).is_ok(), right, "{arrives} {all_read:?}");
    };
    check(10, None, false);
    check(10, Some(true), false);
    // Half a request is none, and what was lost with its connection is none either.
    check(9, None, true);
    check(10, Some(false), true);
}

#[test]
fn a_multi_read_that_shows_anything_else_is_seen() {
    let request = Request::MultiRead(vec![("/n".into(), false), ("/no".into(), false), ("/".into(), true)]);
    let checker = checker();
    let right = checker.model.multi_read(
        match &request {
            Request::MultiRead(reads) => reads,
            _ => unreachable!("as above"),
        },
        checker.model.last,
    );
    reply(&mut self::checker(), 1, &request, 0, &right.body).unwrap();
    for at in 0..right.body.len() {
        let mut wrong = right.body.clone();
        wrong[at] ^= 1;
        assert!(reply(&mut self::checker(), 1, &request, 0, &wrong).is_err(), "byte {at}");
    }
}

#[test]
fn watches_that_are_removed_and_are_not_are_told_apart() {
    let watch = |path: &str, recursive| Request::AddWatch { path: path.into(), recursive };
    let find = |kind, remove| Request::FindWatches { path: "/n".into(), kind, remove };
    let zero = Body::new().int(0).0;
    let check = |kind: i32, remove: bool, err: i32, again: i32| {
        let mut checker = checker();
        reply(&mut checker, 1, &watch("/n", false), 0, &zero).unwrap();
        reply(&mut checker, 2, &find(kind, remove), err, &[]).unwrap();
        let wrong = if err == 0 { error::NO_WATCHER } else { 0 };
        let mut other = self::checker();
        reply(&mut other, 1, &watch("/n", false), 0, &zero).unwrap();
        assert!(reply(&mut other, 2, &find(kind, remove), wrong, &[]).is_err());
        reply(&mut checker, 3, &find(3, false), again, &[]).unwrap();
    };
    check(4, true, 0, error::NO_WATCHER);
    check(3, true, 0, error::NO_WATCHER);
    check(4, false, 0, 0);
    check(5, true, error::NO_WATCHER, 0);
    check(2, true, error::NO_WATCHER, 0);
}

#[test]
fn an_event_of_a_removed_watch_is_seen() {
    let mut checker = checker();
    reply(
        &mut checker,
        1,
        &Request::AddWatch { path: "/n".into(), recursive: true },
        0,
        &Body::new().int(0).0,
    )
    .unwrap();
    let remove = Request::FindWatches { path: "/n".into(), kind: 5, remove: true };
    reply(&mut checker, 2, &remove, 0, &[]).unwrap();
    let set = Write::SetData { path: "/n".into(), data: vec![1], version: -1 };
    let zxid = checker.model.last + 1;
    checker.model.execute(Stamp { zxid, time: 2000, session: SESSION }, &Request::Write(set));
    let event = Body::new().int(-1).long(zxid).int(0).int(DATA_CHANGED).int(3).string("/n").0;
    assert!(checker.frame(1, &event).is_err());
}

/// Whether the checker lets `/path` be reaped at that wall time.
fn reaps(path: &str, wall_ms: i64) -> bool {
    let mut checker = checker();
    let zxid = checker.model.last + 1;
    let body = TxnBody::DeleteContainer { path: path.into() };
    let header = TxnHeader {
        session: SessionId(0),
        cxid: Xid(0),
        zxid: Zxid(zxid as u64),
        time: WallMillis(wall_ms),
        kind: body.kind(),
    };
    let mut entry = Vec::new();
    TxnEntry { header, body, digest: None }.encode(&mut entry);
    checker.commit(&entry).is_ok()
}

#[test]
fn only_what_nothing_holds_is_reaped_and_all_of_it() {
    assert!(reaps("/c", 1000));
    assert!(reaps("/t", 1101));
    assert!(!reaps("/t", 1100));
    assert!(!reaps("/n", 9000));
    assert!(!reaps("/none", 9000));
    let why = checker().reaped_all(9000).unwrap_err();
    assert!(why.contains("/c should have been reaped"), "{why}");
}

/// Two servers of an ensemble, 1 and 2.
fn ensemble() -> Checker {
    let mut head = Head::new(Settings { hash_seed: [1, 2], digests: true });
    let view = head.seal();
    let mut checker = Checker::new(&view, Some(EnsembleTime { tick_ms: 1000, clock_ppm_max: 0 }));
    checker.recovered(1, &view).unwrap();
    checker.recovered(2, &view).unwrap();
    checker
}

/// One entry that does nothing.
fn append(zxid: i64, code: i32) -> LogNote {
    let (session, cxid, zxid) = (SessionId(0), Xid(0), Zxid(zxid as u64));
    let body = TxnBody::Error { code };
    let header = TxnHeader { session, cxid, zxid, time: WallMillis(1), kind: body.kind() };
    let mut entry = Vec::new();
    TxnEntry { header, body, digest: None }.encode(&mut entry);
    let mut records = (entry.len() as u32).to_be_bytes().to_vec();
    records.extend(entry);
    LogNote::Append(Proposal { first: zxid, last: zxid, records: records.into() })
}

const EPOCH: i64 = 1 << 32;

#[test]
fn a_zxid_is_one_entry_behind_one_other() {
    let mut checker = ensemble();
    checker.logs(1, &append(EPOCH + 1, -101)).unwrap();
    checker.logs(1, &append(EPOCH + 2, -101)).unwrap();
    checker.logs(2, &append(EPOCH + 1, -101)).unwrap();
    assert!(checker.logs(2, &append(EPOCH + 2, -110)).unwrap_err().contains("another"));
    // Without the one before it.
    checker.logs(2, &append(EPOCH + 3, -101)).unwrap();
    assert!(checker.logs(1, &append(EPOCH + 3, -101)).unwrap_err().contains("behind"));
}

#[test]
fn what_is_committed_is_neither_lost_nor_passed_over() {
    let logged = || {
        let mut checker = ensemble();
        for zxid in [EPOCH + 1, EPOCH + 2] {
            checker.logs(1, &append(zxid, -101)).unwrap();
            checker.logs(2, &append(zxid, -101)).unwrap();
        }
        checker
    };
    let next_epoch = |mut checker: Checker| {
        checker.logs(2, &LogNote::Truncate(Zxid(EPOCH as u64 + 1))).unwrap();
        checker.logs(2, &append(2 * EPOCH + 1, -101)).unwrap();
        checker.commit_to(2 * EPOCH + 1)
    };
    next_epoch(logged()).unwrap();
    let mut checker = logged();
    checker.commit_to(EPOCH + 2).unwrap();
    assert!(next_epoch(checker).unwrap_err().contains("lost"));
    assert!(logged().commit_to(EPOCH + 3).unwrap_err().contains("nobody has logged"));
}

#[test]
fn an_old_read_is_right_and_an_old_sync_is_not() {
    let check = |request: Request, body: &[u8], right: bool| {
        let mut checker = ensemble();
        checker.logs(1, &append(EPOCH + 1, -101)).unwrap();
        checker.commit_to(EPOCH + 1).unwrap();
        let stamp = Stamp { zxid: EPOCH + 1, time: 1, session: SESSION };
        checker.model.open_session(stamp, 4000);
        checker.connecting(1, 1, 0, 0);
        let answer = Body::new().int(0).int(4000).long(SESSION).buffer(Some(&[1; 16])).bool(false).0;
        checker.frame(1, &answer).unwrap();
        checker.logs(1, &append(EPOCH + 2, -101)).unwrap();
        checker.commit_to(EPOCH + 2).unwrap();
        checker.known = EPOCH + 2;
        checker.sent(1, 1, &request);
        let frame = Body::new().int(1).long(EPOCH + 1).int(0).raw(body).0;
        assert_eq!(checker.frame(1, &frame).is_ok(), right, "{request:?}");
    };
    check(Request::Ephemerals, &Body::new().strings::<&str>(&[]).0, true);
    check(Request::Sync { path: "/".into() }, &Body::new().string("/").0, false);
}
