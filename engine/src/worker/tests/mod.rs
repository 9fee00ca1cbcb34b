//! Scenarios on one worker with sockets in memory.

mod order;
mod rig;
mod role;

use super::Mail;
use crate::admin::{Counter, FourLetter, Summary};
use crate::config::{Auth, Config, RequestThrottle};
use crate::intake::CoreRequest;
use crate::limits;
use crate::model::{Acl, Identity, Xid};
use crate::ring::{After, ConnRef};
use crate::wire::{AclBytes, JutePut};
use ostler_replication::Moment;
use rig::{Client, Rig, connect_request, frame, ping, read, request, write};

const GET_DATA: i32 = 4;
const EXISTS: i32 = 3;
const GET_CHILDREN: i32 = 8;
const CLOSE: i32 = -11;

/// The references and xids of writes handed to the core since the last look.
fn writes(rig: &mut Rig) -> Vec<(ConnRef, Xid)> {
    references(rig.asked())
}

fn references(asked: Vec<CoreRequest>) -> Vec<(ConnRef, Xid)> {
    asked
        .into_iter()
        .filter_map(|request| match request {
            CoreRequest::Write { from, xid, .. } => Some((from, xid)),
            _ => None,
        })
        .collect()
}

fn xids(writes: &[(ConnRef, Xid)]) -> Vec<i32> {
    writes.iter().map(|(_, xid)| xid.0).collect()
}

fn closed(rig: &Rig, client: Client) -> bool {
    rig.pipe(client, |pipe| pipe.server_closed)
}

// --- the handshake -----------------------------------------------------------------------------------------------

#[test]
fn requests_behind_the_connect_request_wait_until_the_session_is_settled() {
    let mut rig = Rig::plain();
    let client = rig.connect();
    let bytes = [connect_request(0, 30_000), ping(), read(1, GET_DATA, "/", false)].concat();
    for chunk in bytes.chunks(7) {
        rig.send(client, chunk);
    }
    let asked = rig.asked();
    let [CoreRequest::Connect { from, ask }] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!((ask.timeout_ms, ask.read_only), (30_000, Some(false)));
    assert!(rig.raw(client).is_empty());
    rig.establish(*from, crate::model::SessionId(9));
    let raw = rig.raw(client);
    assert_eq!(raw[..4], [0, 0, 0, 37]);
    assert_eq!(raw.len(), 41 + 20 + 20 + 4 + 68);
}

#[test]
fn a_client_that_has_seen_more_than_we_have_is_closed_without_a_response() {
    let mut rig = Rig::plain();
    let client = rig.connect();
    rig.send(client, &connect_request(1, 30_000));
    assert!(closed(&rig, client) && rig.raw(client).is_empty() && rig.asked().is_empty());
}

#[test]
fn a_refused_handshake_is_answered_and_closed() {
    let mut rig = Rig::plain();
    let client = rig.connect();
    rig.send(client, &connect_request(0, 30_000));
    let Some(CoreRequest::Connect { from, .. }) = rig.asked().pop() else { panic!() };
    let refused = crate::wire::ConnectResponse::refused(Some(false));
    rig.answer(vec![(from, Xid(0), After::Close, Some(frame(|out| refused.encode(out))))]);
    assert_eq!(rig.raw(client).len(), 41);
    assert!(rig.pipe(client, |pipe| pipe.server_shut) && !closed(&rig, client));
    rig.hang_up(client);
    assert!(closed(&rig, client));
    assert!(rig.asked().is_empty());
}

#[test]
fn a_connection_that_sends_nothing_or_half_a_handshake_is_closed_in_time() {
    let mut rig = Rig::plain();
    let (silent, half) = (rig.connect(), rig.connect());
    rig.send(half, &connect_request(0, 1)[..20]);
    let (established, _) = rig.established();
    for _ in 0..12 {
        rig.pass(1000);
        rig.send(established, &ping());
    }
    assert!(!closed(&rig, silent));
    for _ in 0..10 {
        rig.pass(1000);
        rig.send(established, &ping());
    }
    assert!(closed(&rig, silent) && closed(&rig, half) && !closed(&rig, established));
}

#[test]
fn a_connect_request_that_the_core_does_not_answer_is_closed_in_time() {
    let mut rig = Rig::plain();
    let client = rig.connect();
    rig.send(client, &connect_request(0, 30_000));
    let Some(CoreRequest::Connect { from, .. }) = rig.asked().pop() else { panic!() };
    rig.pass(9_000);
    assert!(!closed(&rig, client));
    rig.pass(12_000);
    assert!(closed(&rig, client));
    // The answer comes all the same.
    rig.establish(from, crate::model::SessionId(9));
    let asked = rig.asked();
    assert!(matches!(&asked[..], [CoreRequest::Gone { session, .. }] if session.0 == 9), "{asked:?}");
}

#[test]
fn who_hangs_up_while_connecting_is_noticed_and_served_if_the_answer_comes_soon() {
    let mut rig = Rig::plain();
    let (left, half_closed) = (rig.connect(), rig.connect());
    for client in [left, half_closed] {
        rig.send(client, &[connect_request(0, 30_000), read(1, GET_DATA, "/", false)].concat());
        rig.hang_up(client);
    }
    let Some(CoreRequest::Connect { from, .. }) = rig.asked().pop() else { panic!() };
    assert!(!closed(&rig, left) && !closed(&rig, half_closed));
    rig.pass(500);
    rig.establish(from, crate::model::SessionId(9));
    assert_eq!(rig.raw(half_closed).len(), 41 + 20 + 4 + 68);
    assert!(closed(&rig, half_closed));
    rig.pass(3_000);
    assert!(closed(&rig, left) && rig.raw(left).is_empty());
}

#[test]
fn who_is_not_read_and_gone_is_not_kept_alive_for_ever() {
    let mut rig = Rig::plain();
    let (client, session) = rig.established();
    // The core does not answer, and what comes behind the write fills the input.
    rig.send(client, &write(1));
    let reads: Vec<u8> =
        (2..2000).flat_map(|xid| read(xid, GET_DATA, "/0123456789012345678901234567", false)).collect();
    rig.send(client, &reads);
    rig.hang_up(client);
    for _ in 0..29 {
        rig.pass(1000);
    }
    assert!(!closed(&rig, client));
    rig.pass(3000);
    assert!(closed(&rig, client));
    let asked = rig.asked();
    assert!(matches!(asked.last(), Some(CoreRequest::Gone { session: gone, .. }) if *gone == session));
}

#[test]
fn reports_that_the_core_has_no_room_for_do_not_pile_up() {
    let requests = limits::INTAKE_REQUESTS_MAX;
    let mut rig = Rig::new(&Config {
        outstanding_requests_max: 2 * requests as u32,
        address_connections_max: 0,
        ..Config::default()
    });
    let (busy, _) = rig.established();
    let (alive, session) = rig.established();
    rig.intake.take_all();
    let writes: Vec<u8> = (1..=requests as i32 + 1).flat_map(write).collect();
    rig.send(busy, &writes);
    assert_eq!(rig.intake.len(), requests);
    for _ in 0..100 {
        rig.send(alive, &ping());
        rig.pass(1000);
    }
    assert!(!closed(&rig, alive) && rig.worker.state.backlog.len() <= 4);
    let since = rig.intake.heard(Moment::from_millis(u64::MAX / 2_000_000));
    assert_eq!(since, Moment::default(), "all that waits was not heard");
    rig.intake.take_all();
    rig.settle();
    let touched =
        |request: &CoreRequest| matches!(request, CoreRequest::Touch(who) if who.contains(&session));
    assert!(rig.intake.take_all().iter().any(touched));
}

#[test]
fn an_established_connection_that_is_silent_is_closed_and_the_core_told() {
    let mut rig = Rig::plain();
    let (client, session) = rig.established();
    for _ in 0..29 {
        rig.pass(1000);
    }
    assert!(!closed(&rig, client));
    for _ in 0..21 {
        rig.pass(1000);
    }
    assert!(closed(&rig, client));
    let asked = rig.asked();
    assert!(matches!(&asked[..], [CoreRequest::Gone { session: gone, .. }] if *gone == session), "{asked:?}");
}

#[test]
fn a_session_made_for_a_connection_that_is_gone_is_reported() {
    let mut rig = Rig::plain();
    let client = rig.connect();
    rig.send(client, &connect_request(0, 30_000));
    let Some(CoreRequest::Connect { from, .. }) = rig.asked().pop() else { panic!() };
    // Nobody has told us of its end yet, so that it is noticed by the failing write at the latest.
    rig.pipe(client, |pipe| pipe.client_closed = true);
    rig.mail(Mail::Drain);
    rig.establish(from, crate::model::SessionId(77));
    let limited = Config { address_connections_max: 1, ..Config::default() };
    let mut rig = Rig::new(&limited);
    let first = rig.connect();
    let second = rig.connect();
    assert!(!closed(&rig, first));
    assert!(rig.pipe(second, |pipe| pipe.reads == 0));
}

// --- bad input ---------------------------------------------------------------------------------------------------

#[test]
fn what_is_no_protocol_of_ours_closes_the_connection() {
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0x16, 3, 1, 0, 0xa5, 1],
        b"RUOK",
        &[0xff; 8],
        &[0x7f, 0xff, 0xff, 0xff, 0],
        &[0, 0, 0, 4, 1, 2, 3, 4],
        &[0, 0, 0, 0],
    ] {
        let mut rig = Rig::plain();
        let client = rig.connect();
        rig.send(client, bytes);
        assert!(closed(&rig, client), "{bytes:?}");
        assert!(rig.raw(client).is_empty() && rig.asked().is_empty());
    }
}

/// Sends a frame on an established connection; `expected` are the replies, then whether it is closed.
fn check_bad(bytes: &[u8], expected: &[&str], closes: bool) {
    let mut rig = Rig::plain();
    let (client, _) = rig.established();
    let (other, _) = rig.established();
    rig.send(client, bytes);
    assert_eq!(rig.received(client), expected, "{bytes:?}");
    rig.hang_up_if(client, closes);
    assert_eq!(closed(&rig, client), closes, "{bytes:?}");
    rig.send(other, &ping());
    assert_eq!(rig.received(other), ["xid=-2 zxid=0 err=0 +0"]);
}

impl Rig {
    fn hang_up_if(&mut self, client: Client, wanted: bool) {
        if wanted {
            self.hang_up(client);
        }
    }
}

#[test]
fn malformed_frames_are_answered_or_closed() {
    check_bad(&[0xff, 0xff, 0xff, 0xff], &[], true);
    check_bad(&(0x10_0000u32).to_be_bytes(), &[], true);
    check_bad(&(0xf_ffffu32).to_be_bytes(), &[], false);
    check_bad(&[0, 0, 0, 0], &[], true);
    check_bad(&[0, 0, 0, 7, 0, 0, 0, 1, 0, 0, 0], &[], true);
    check_bad(&request(1, GET_DATA, |_| {}), &["xid=1 zxid=0 err=-5 +0"], false);
    check_bad(&request(1, GET_DATA, |out| out.put_i32(-1)), &["xid=1 zxid=0 err=-5 +0"], false);
    check_bad(&request(1, GET_DATA, |out| out.put_i32(i32::MAX)), &["xid=1 zxid=0 err=-5 +0"], false);
    check_bad(&request(1, 101, |out| out.put_i64(0)), &["xid=1 zxid=0 err=-5 +0"], false);
    let announces = |out: &mut Vec<u8>| {
        out.put_i64(0);
        out.put_i32(i32::MAX);
    };
    check_bad(&request(1, 105, announces), &["xid=1 zxid=0 err=-5 +0"], false);
    for op in [0, -1, 10, 13, -10, 9999] {
        check_bad(&request(7, op, |_| {}), &["xid=7 zxid=-1 err=-6 +0"], true);
    }
    check_bad(&request(1, 9, |_| {}), &["xid=1 zxid=0 err=-5 +0"], false);
    check_bad(&request(1, 103, |out| out.put_i32(9)), &["xid=1 zxid=0 err=-5 +0"], false);
}

#[test]
fn an_announced_length_costs_nothing() {
    let mut rig = Rig::plain();
    let (client, _) = rig.established();
    rig.send(client, &(0xf_ffffu32).to_be_bytes());
    for _ in 0..64 {
        rig.send(client, &[0; 1000]);
    }
    assert!(!closed(&rig, client));
}

// --- authentication ----------------------------------------------------------------------------------------------

fn auth(scheme: &str, packet: &str) -> Vec<u8> {
    request(-4, 100, |out| {
        out.put_i32(0);
        out.put_string(scheme);
        out.put_buffer(Some(packet.as_bytes()));
    })
}

#[test]
fn auth_adds_ids_or_ends_the_connection() {
    let mut rig = Rig::plain();
    let (client, _) = rig.established();
    let who = request(1, 107, |_| {});
    rig.send(
        client,
        &[auth("digest", "bob:secret"), auth("digest", "bob:secret"), auth("ip", ""), who].concat(),
    );
    let ok = "xid=-4 zxid=0 err=0 +0";
    let expected = 4 + (4 + 2 + 4 + 9) + (4 + 6 + 4 + 3);
    assert_eq!(rig.received(client), [ok, ok, ok, &format!("xid=1 zxid=0 err=0 +{expected}")]);
    rig.send(client, &[auth("nosuch", "x"), ping()].concat());
    assert_eq!(rig.received(client), ["xid=-4 zxid=0 err=-115 +0"]);
    rig.hang_up(client);
    assert!(closed(&rig, client));
}

#[test]
fn sasl_is_answered_as_by_a_server_without_it() {
    check_bad(&request(3, 102, |out| out.put_buffer(Some(b""))), &["xid=3 zxid=0 err=0 +4"], false);
    check_bad(&request(3, 102, |_| {}), &[], true);
    check_bad(&request(3, 102, |out| out.put_buffer(None)), &[], true);
}

#[test]
fn a_request_carries_the_ids_of_its_receipt() {
    let mut rig = Rig::plain();
    let (client, _) = rig.established();
    rig.send(client, &[write(1), auth("digest", "bob:secret"), write(2)].concat());
    let first = rig.asked();
    let [CoreRequest::Write { from, ids, .. }] = &first[..] else { panic!("{first:?}") };
    assert_eq!(ids.len(), 1);
    rig.commit_with(&["+/a"], AclBytes::OPEN, &[(*from, Xid(1))]);
    let second = rig.asked();
    let [CoreRequest::Write { ids, .. }] = &second[..] else { panic!("{second:?}") };
    assert_eq!(ids.len(), 2);
}

#[test]
fn enforced_authentication_closes_whoever_lacks_it() {
    let auth_rule = Auth { enforced_schemes: vec!["digest".to_owned()], ..Auth::default() };
    let mut rig = Rig::new(&Config { auth: auth_rule, ..Config::default() });
    let (client, _) = rig.established();
    rig.send(client, &[auth("digest", "a:b"), ping()].concat());
    assert_eq!(rig.received(client), ["xid=-4 zxid=0 err=0 +0", "xid=-2 zxid=0 err=0 +0"]);
    let (client, _) = rig.established();
    rig.send(client, &[ping(), ping()].concat());
    assert_eq!(rig.received(client), ["xid=-2 zxid=0 err=-124 +0"]);
}

// --- watches -----------------------------------------------------------------------------------------------------

#[test]
fn events_for_those_who_may_not_read_are_dropped_but_the_watch_is_spent() {
    let mut rig = Rig::plain();
    let (owner, _) = rig.established();
    let (stranger, _) = rig.established();
    rig.send(owner, &auth("digest", "bob:secret"));
    for client in [owner, stranger] {
        rig.send(client, &read(1, EXISTS, "/a", true));
        rig.received(client);
    }
    let bob = Identity::new("digest", &crate::model::auth::digest_id(b"bob:secret", Default::default()));
    let acl = AclBytes::encode(&[Acl { perms: 31, id: bob }]);
    rig.commit_with(&["+/a"], acl, &[]);
    assert_eq!(rig.received(owner), ["event zxid=1 type=1 /a"]);
    assert!(rig.received(stranger).is_empty());
    rig.send(stranger, &[read(2, GET_DATA, "/a", true), read(3, EXISTS, "/a", true)].concat());
    assert_eq!(rig.received(stranger), ["xid=2 zxid=1 err=-102 +0", "xid=3 zxid=1 err=-102 +0"]);
    rig.commit(&["-/a"]);
    assert!(rig.received(stranger).is_empty());
}

/// setWatches2 with these lists since `zxid`, on a tree with /a (mzxid 2, pzxid 3) and /a/b; then one change.
fn check_catch_up(zxid: i64, lists: [&[&str]; 5], expected: &[&str]) {
    let mut rig = Rig::plain();
    rig.commit(&["+/a", "=/a x", "+/a/b"]);
    let (client, _) = rig.established();
    let record = request(-8, 105, |out| {
        out.put_i64(zxid);
        for list in lists {
            out.put_count(list.len());
            list.iter().for_each(|path| out.put_string(path));
        }
    });
    rig.send(client, &record);
    rig.commit(&["=/a y"]);
    assert_eq!(rig.received(client), expected);
}

#[test]
fn set_watches_catches_up_before_its_reply() {
    let reply = "xid=-8 zxid=3 err=0 +0";
    let changed = "event zxid=4 type=3 /a";
    check_catch_up(2, [&["/a"], &[], &[], &[], &[]], &[reply, changed]);
    check_catch_up(1, [&["/a"], &[], &[], &[], &[]], &["event zxid=-1 type=3 /a", reply]);
    check_catch_up(
        9,
        [&["/x"], &[], &["/x"], &[], &[]],
        &["event zxid=-1 type=2 /x", "event zxid=-1 type=2 /x", reply],
    );
    check_catch_up(9, [&[], &["/a", "/x"], &[], &[], &[]], &["event zxid=-1 type=1 /a", reply]);
    check_catch_up(2, [&[], &[], &["/a"], &[], &[]], &["event zxid=-1 type=4 /a", reply]);
    check_catch_up(3, [&[], &[], &["/a"], &[], &[]], &[reply]);
    check_catch_up(0, [&[], &[], &[], &["/a"], &["/"]], &[reply, changed]);
}

#[test]
fn watches_are_added_checked_and_removed() {
    let mut rig = Rig::plain();
    let (client, _) = rig.established();
    let with = |xid, op, path: &str, number| {
        request(xid, op, |out| {
            out.put_string(path);
            out.put_i32(number);
        })
    };
    let bytes = [
        with(1, 106, "/p", 0),
        with(2, 106, "/p", 2),
        with(3, 17, "/p", 4),
        with(4, 18, "/p", 4),
        with(5, 17, "/p", 4),
        with(6, 18, "/p", 9),
    ];
    rig.send(client, &bytes.concat());
    assert_eq!(
        rig.received(client),
        [
            "xid=1 zxid=0 err=0 +4",
            "xid=2 zxid=0 err=-5 +0",
            "xid=3 zxid=0 err=0 +0",
            "xid=4 zxid=0 err=0 +0",
            "xid=5 zxid=0 err=-121 +0",
            "xid=6 zxid=0 err=-5 +0"
        ]
    );
}

#[test]
fn a_large_fan_out_reaches_everybody_in_order() {
    let mut rig = Rig::plain();
    let clients: Vec<Client> = (0..300).map(|_| rig.established().0).collect();
    for &client in &clients {
        rig.send(
            client,
            &request(1, 106, |out| {
                out.put_string("/");
                out.put_i32(1);
            }),
        );
        rig.received(client);
    }
    let changes: Vec<String> = (0..40).map(|n| format!("+/n{n}")).collect();
    rig.commit(&changes.iter().map(String::as_str).collect::<Vec<_>>());
    let expected: Vec<String> = (0..40).map(|n| format!("event zxid={} type=1 /n{n}", n + 1)).collect();
    for &client in &clients {
        assert_eq!(rig.received(client), expected);
    }
}

#[test]
fn events_are_counted_by_what_they_tell() {
    let mut rig = Rig::plain();
    for _ in 0..2 {
        let (client, _) = rig.established();
        rig.send(client, &read(1, GET_CHILDREN, "/", true));
        rig.send(client, &read(2, EXISTS, "/a", true));
    }
    rig.commit(&["+/a", "+/b"]);
    let totals = rig.registry.totals();
    let told = |summary| {
        let distribution = totals.distribution(summary);
        (distribution.count, distribution.sum)
    };
    assert_eq!(told(Summary::CreatedWatches), (1, 2));
    assert_eq!(told(Summary::ChildrenWatches), (1, 2));
}

// --- bounds ------------------------------------------------------------------------------------------------------

#[test]
fn a_reader_that_does_not_read_is_paused_and_goes_on_where_it_stopped() {
    let mut rig = Rig::plain();
    rig.commit(&[&format!("+/big {}", "x".repeat(500_000))]);
    let (client, _) = rig.established();
    rig.pipe(client, |pipe| pipe.window = 0);
    let many: Vec<u8> = (1..=20).flat_map(|xid| read(xid, GET_DATA, "/big", false)).collect();
    rig.send(client, &many);
    let facts = connection_facts(&mut rig);
    assert_eq!(facts.interest, 4);
    for _ in 0..200 {
        rig.open_window(client, 100_000);
    }
    let received = rig.received(client);
    assert_eq!(received.len(), 20);
    assert!(received.iter().enumerate().all(|(at, text)| text.starts_with(&format!("xid={} ", at + 1))));
}

fn connection_facts(rig: &mut Rig) -> crate::admin::ConnectionFacts {
    let found = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let to = found.clone();
    rig.mail(Mail::Ask(Box::new(move |inspection| to.lock().unwrap().extend(inspection.connections()))));
    let mut all = std::mem::take(&mut *found.lock().unwrap());
    all.pop().expect("a connection")
}

#[test]
fn a_client_without_progress_for_its_timeout_is_dropped() {
    let mut rig = Rig::plain();
    rig.commit(&["+/a x"]);
    let (client, _) = rig.established();
    rig.pipe(client, |pipe| pipe.window = 0);
    for second in 0..35 {
        if !closed(&rig, client) {
            rig.send(client, &read(second, GET_DATA, "/a", false));
        }
        rig.pass(1000);
    }
    assert!(closed(&rig, client));
}

#[test]
fn wide_znodes_are_listed_in_portions_with_events_behind_the_reply() {
    let mut rig = Rig::plain();
    rig.commit(&["+/w"]);
    for thousand in 0..20 {
        let children: Vec<String> = (0..1000).map(|n| format!("+/w/child-{thousand:02}-{n:03}")).collect();
        rig.commit(&children.iter().map(String::as_str).collect::<Vec<_>>());
    }
    let (client, _) = rig.established();
    rig.send(client, &[read(1, GET_CHILDREN, "/w", true), read(2, 12, "/w", false), ping()].concat());
    rig.commit(&["+/w/late"]);
    let names = 4 + 20_000 * (4 + 12);
    let all = rig.received(client);
    assert_eq!(all[0], format!("xid=1 zxid=20001 err=0 +{names}"));
    assert!(all.contains(&"event zxid=20002 type=4 /w".to_owned()));
    assert!(all.contains(&format!("xid=2 zxid=20001 err=0 +{}", names + 68)));
    rig.send(client, &request(3, 104, |out| out.put_string("/w")));
    assert_eq!(rig.received(client), ["xid=3 zxid=20002 err=0 +4"]);
}

#[test]
fn a_multi_read_answers_each_by_itself() {
    let mut rig = Rig::plain();
    rig.commit(&["+/a x", "+/a/b"]);
    let (client, _) = rig.established();
    let bytes = request(1, 22, |out| {
        for (op, path) in [(4, "/a"), (8, "/a"), (4, "/missing")] {
            crate::wire::reply::put_multi_header(out, op, false, -1);
            out.put_string(path);
            out.put_bool(false);
        }
        crate::wire::reply::put_multi_end(out);
    });
    rig.send(client, &bytes);
    let body = (9 + 4 + 1 + 68) + (9 + 4 + 4 + 1) + (9 + 4) + 9;
    assert_eq!(rig.received(client), [format!("xid=1 zxid=2 err=0 +{body}")]);
}

#[test]
fn too_many_in_flight_stop_the_reading_of_those_who_have_some() {
    let mut rig = Rig::new(&Config { outstanding_requests_max: 2, ..Config::default() });
    let (client, _) = rig.established();
    let (other, _) = rig.established();
    rig.send(client, &[write(1), write(2), write(3)].concat());
    let handed = writes(&mut rig);
    assert_eq!(xids(&handed), [1, 2, 3]);
    rig.send(client, &write(4));
    assert!(writes(&mut rig).is_empty());
    rig.send(other, &ping());
    assert_eq!(rig.received(other).len(), 1);
    rig.commit_with(&["+/a", "=/a 1"], AclBytes::OPEN, &handed[..2]);
    assert_eq!(xids(&writes(&mut rig)), [4]);
}

#[test]
fn requests_held_back_too_long_are_answered_unprocessed() {
    let request_throttle =
        RequestThrottle { requests_max: 1, op_wait_ms_max: Some(50), ..Default::default() };
    let mut rig = Rig::new(&Config { request_throttle, ..Config::default() });
    let (client, _) = rig.established();
    let (other, _) = rig.established();
    rig.send(client, &write(1));
    let handed = writes(&mut rig);
    rig.send(other, &write(1));
    assert!(writes(&mut rig).is_empty());
    rig.pass(60);
    rig.commit_with(&["+/a"], AclBytes::OPEN, &handed);
    rig.pass(1);
    assert_eq!(rig.received(other), ["xid=1 zxid=1 err=-127 +0"]);
    rig.send(other, &write(2));
    assert_eq!(xids(&writes(&mut rig)), [2]);
}

#[test]
fn large_requests_beyond_the_sum_close_the_connection() {
    let config =
        Config { large_request_bytes: Some(1000), large_requests_bytes_max: 5000, ..Config::default() };
    let mut rig = Rig::new(&config);
    let (client, _) = rig.established();
    let (other, _) = rig.established();
    let large = request(1, 5, |out| out.extend_from_slice(&[0; 3000]));
    rig.send(client, &large);
    let handed = writes(&mut rig);
    assert_eq!(handed.len(), 1);
    rig.send(other, &large[..4]);
    assert!(closed(&rig, other));
    rig.commit_with(&["+/a"], AclBytes::OPEN, &handed);
    rig.send(client, &large);
    assert_eq!(writes(&mut rig).len(), 1);
}

// --- liveness ----------------------------------------------------------------------------------------------------

#[test]
fn a_probe_is_answered_only_after_the_socket_was_read_dry() {
    let mut rig = Rig::plain();
    let (client, session) = rig.established();
    rig.send(client, &write(1));
    let (to, _) = writes(&mut rig)[0];
    rig.pass(5000);
    rig.intake.take_all();

    let probe = |token| (to, Xid(0), After::Probe { session, token }, None);
    rig.answer(vec![probe(7)]);
    let asked = rig.asked();
    assert!(matches!(&asked[..], [CoreRequest::Silent { token: 7, .. }]), "{asked:?}");

    // Bytes that nobody has reported yet: a touch instead.
    rig.pipe(client, |pipe| pipe.to_server.extend(ping()));
    rig.answer(vec![probe(8)]);
    let touched = rig
        .intake
        .take_all()
        .into_iter()
        .any(|request| matches!(request, CoreRequest::Touch(list) if list == [session]));
    assert!(touched);
    assert!(rig.asked().is_empty());
}

#[test]
fn nobody_is_silent_or_slow_by_our_own_stall() {
    let mut rig = Rig::plain();
    let (client, session) = rig.established();
    let half = rig.connect();
    rig.send(half, &[0, 0]);
    rig.freeze(600_000);
    rig.pass(3000);
    assert!(!closed(&rig, client) && !closed(&rig, half));
    rig.pass(50_000);
    assert!(closed(&rig, client) && closed(&rig, half));
    let gone =
        |request: CoreRequest| matches!(request, CoreRequest::Gone { session: gone, .. } if gone == session);
    assert!(rig.asked().into_iter().any(gone));
}

/// The core expires a session whose connection ends while a probe is out, unless something was heard.
#[test]
fn what_was_heard_is_reported_before_the_connections_end() {
    let mut rig = Rig::plain();
    let (client, session) = rig.established();
    rig.pass(5000);
    rig.intake.take_all();
    rig.send(client, &ping());
    rig.hang_up(client);
    let told: Vec<_> = rig.intake.take_all().into_iter().collect();
    let [CoreRequest::Touch(heard), CoreRequest::Gone { session: gone, .. }] = &told[..] else {
        panic!("{told:?}")
    };
    assert_eq!((&heard[..], *gone), (&[session][..], session));
}

#[test]
fn whoever_was_heard_from_is_reported_in_bulk() {
    let mut rig = Rig::plain();
    let sessions: Vec<_> = (0..3).map(|_| rig.established()).collect();
    rig.pass(5000);
    rig.intake.take_all();
    for (client, _) in &sessions {
        rig.send(*client, &ping());
        rig.send(*client, &ping());
    }
    rig.pass(5000);
    let mut touched: Vec<_> = rig
        .intake
        .take_all()
        .into_iter()
        .flat_map(|request| match request {
            CoreRequest::Touch(list) => list,
            other => panic!("{other:?}"),
        })
        .collect();
    touched.sort();
    assert_eq!(touched, sessions.iter().map(|(_, session)| *session).collect::<Vec<_>>());
}

// --- four-letter words, draining ---------------------------------------------------------------------------------

#[test]
fn words_are_answered_even_to_those_who_hung_up_already() {
    let mut rig = Rig::plain();
    let client = rig.connect();
    rig.pipe(client, |pipe| {
        pipe.to_server.extend(b"ruok\n");
        pipe.client_closed = true;
    });
    rig.send(client, b"");
    let asked = std::mem::take(&mut *rig.desk.0.lock().unwrap());
    let [(FourLetter::Ruok, 0, to)] = asked[..] else { panic!("{asked:?}") };
    rig.mail(Mail::Text { to, text: b"imok".to_vec() });
    assert_eq!(rig.raw(client), b"imok");
    rig.settle();
    assert!(rig.pipe(client, |pipe| pipe.server_shut));
}

#[test]
fn words_that_are_not_allowed_are_refused_in_a_line() {
    let mut rig = Rig::new(&Config::default());
    let client = rig.connect();
    rig.send(client, b"mn");
    rig.send(client, b"tr");
    assert_eq!(rig.raw(client), b"mntr is not executed because it is not in the whitelist.\n");
    assert!(rig.desk.0.lock().unwrap().is_empty());
}

#[test]
fn draining_hands_out_what_is_due_and_takes_nothing_new() {
    let mut rig = Rig::plain();
    let (client, _) = rig.established();
    rig.send(client, &write(1));
    let handed = writes(&mut rig);
    rig.mail(Mail::Drain);
    assert!(!rig.worker.is_drained());
    rig.send(client, &ping());
    rig.commit_with(&["+/a"], AclBytes::OPEN, &handed);
    assert_eq!(rig.received(client), ["xid=1 zxid=1 err=0 +0"]);
    assert!(rig.worker.is_drained());
}

#[test]
fn clients_that_leave_their_replies_lying_are_held_to_a_sum_and_others_are_served() {
    let mut rig = Rig::plain();
    rig.worker.state.reply_bytes_max = 3_000_000;
    rig.commit(&[&format!("+/big {}", "x".repeat(500_000)), "+/small x"]);
    let lazy: Vec<Client> = (0..6).map(|_| rig.established().0).collect();
    let many: Vec<u8> = (1..=20).flat_map(|xid| read(xid, GET_DATA, "/big", false)).collect();
    for client in &lazy {
        rig.pipe(*client, |pipe| pipe.window = 0);
        rig.send(*client, &many);
    }
    // The one that went beyond, and a reply for each that followed; without the sum, 2.5 MB for each.
    assert!(rig.worker.state.reply_bytes <= 3_000_000 + 2_600_000 + 4 * 500_100);
    let (reader, _) = rig.established();
    for xid in 1..50 {
        rig.send(reader, &[read(xid, GET_DATA, "/big", false), ping()].concat());
        assert_eq!(rig.received(reader).len(), 2);
    }
    for client in &lazy {
        rig.open_window(*client, usize::MAX);
        assert_eq!(rig.received(*client).len(), 20);
    }
    assert_eq!(rig.worker.state.reply_bytes, 0);
}

#[test]
fn large_replies_that_nobody_takes_hold_up_further_ones_until_they_are_taken_or_dropped() {
    let mut rig = Rig::plain();
    rig.worker.state.reply_bytes_max = 600_000;
    rig.commit(&["+/w"]);
    for thousand in 0..10 {
        let children: Vec<String> = (0..1000).map(|n| format!("+/w/child-{thousand:02}-{n:03}")).collect();
        rig.commit(&children.iter().map(String::as_str).collect::<Vec<_>>());
    }
    let clients: Vec<Client> = (0..20).map(|_| rig.established().0).collect();
    for client in &clients {
        rig.pipe(*client, |pipe| pipe.window = 0);
        rig.send(*client, &read(1, GET_CHILDREN, "/w", false));
    }
    assert!(rig.worker.state.reply_bytes < 600_000);
    // The first two read, another hangs up: all the rest is made as they go.
    let size = 4 + 20 + 10_000 * (4 + 12);
    rig.hang_up(clients[2]);
    for (at, client) in clients.iter().enumerate().filter(|(at, _)| *at != 2) {
        rig.open_window(*client, usize::MAX);
        assert_eq!(rig.raw(*client).len(), size, "{at}");
    }
    assert_eq!((rig.worker.state.reply_bytes, rig.worker.state.streams.len()), (0, 0));
    // Those who never read are dropped, and the others go on.
    for client in &clients[3..] {
        rig.pipe(*client, |pipe| pipe.window = 0);
        rig.send(*client, &read(2, GET_CHILDREN, "/w", false));
    }
    let last = clients[19];
    rig.open_window(last, usize::MAX);
    for _ in 0..200 {
        rig.send(last, &ping());
        rig.pass(1000);
    }
    assert!(rig.raw(last).len() > size);
}

#[test]
fn a_synced_path_is_echoed_as_it_was_understood() {
    let mut rig = Rig::plain();
    let (client, _) = rig.established();
    rig.send(client, &request(1, 9, |out| out.put_buffer(Some(b"/a\xff\xed\xa0\x80"))));
    rig.send(client, &request(2, 9, |out| out.put_buffer(None)));
    let paths = rig.asked().into_iter().map(|request| match request {
        CoreRequest::Sync { path, .. } => path,
        other => panic!("{other:?}"),
    });
    assert_eq!(paths.collect::<Vec<_>>(), [Some("/a\u{fffd}\u{fffd}".as_bytes().into()), None]);
}

#[test]
fn long_lists_of_watches_are_set_in_portions_and_miss_nothing() {
    let mut rig = Rig::plain();
    let (client, _) = rig.established();
    let paths: Vec<String> = (0..10_000).map(|n| format!("/w{n:05}")).collect();
    let bytes = request(1, 101, |out| {
        out.put_i64(1 << 40);
        out.put_count(0);
        out.put_count(paths.len());
        paths.iter().for_each(|path| out.put_string(path));
        out.put_count(0);
    });
    let all = [bytes, ping(), write(2)].concat();
    rig.pipe(client, |pipe| pipe.to_server.extend(&all));
    rig.hang_on(client);
    while !rig.pipe(client, |pipe| pipe.to_server.is_empty()) {
        rig.worker.wait(std::time::Duration::ZERO).unwrap();
        rig.worker.turn();
    }
    // Some are set, others are not come to; both learn of the change exactly once.
    assert!(rig.worker.has_work() && rig.raw(client).is_empty());
    rig.commit(&["+/w00000", "+/w04000", "+/w09999"]);
    let received = rig.received(client);
    for path in ["/w00000", "/w04000", "/w09999"] {
        let events = received.iter().filter(|text| text.starts_with("event") && text.ends_with(path));
        assert_eq!(events.count(), 1, "{path}: {received:?}");
    }
    assert!(received.contains(&"event zxid=-1 type=1 /w09999".to_owned()));
    let reply = received.iter().position(|text| text == "xid=1 zxid=0 err=0 +0").expect("a reply");
    assert!(received[reply + 1..].contains(&"xid=-2 zxid=3 err=0 +0".to_owned()), "{received:?}");
    assert_eq!(xids(&writes(&mut rig)), [2]);
    rig.commit(&["+/w00001", "+/w09998"]);
    assert_eq!(rig.received(client), ["event zxid=4 type=1 /w00001", "event zxid=5 type=1 /w09998"]);
}

#[test]
fn one_turn_makes_only_so_many_bytes_of_replies() {
    let mut rig = Rig::plain();
    rig.commit(&[&format!("+/big {}", "x".repeat(500_000))]);
    let clients: Vec<Client> = (0..20).map(|_| rig.established().0).collect();
    let many: Vec<u8> = (1..=5).flat_map(|xid| read(xid, GET_DATA, "/big", false)).collect();
    for client in &clients {
        rig.pipe(*client, |pipe| pipe.to_server.extend(&many));
        rig.hang_on(*client);
    }
    rig.worker.wait(std::time::Duration::ZERO).unwrap();
    rig.worker.turn();
    let made: usize = clients.iter().map(|client| rig.pipe(*client, |pipe| pipe.to_client.len())).sum();
    // Of 50 MB: the bound, what took it there, and one reply for each of the others.
    assert!(made > 8 << 20 && made < (8 << 20) + 17 * 510_000, "{made}");
    rig.settle();
    clients.iter().for_each(|client| assert_eq!(rig.received(*client).len(), 5));
}

#[test]
fn whatever_one_turn_answers_goes_out_in_one_write_for_each_connection() {
    let mut rig = Rig::plain();
    rig.commit(&[&format!("+/big {}", "x".repeat(20_000)), "+/small x"]);
    let clients: Vec<Client> = (0..200).map(|_| rig.established().0).collect();
    for (at, client) in clients.iter().enumerate() {
        let path = if at % 9 == 0 { "/big" } else { "/small" };
        let bytes = [read(1, GET_DATA, path, false), read(2, EXISTS, path, false), ping()].concat();
        rig.pipe(*client, |pipe| {
            pipe.to_server.extend(&bytes);
            pipe.writes = 0;
        });
        rig.hang_on(*client);
    }
    rig.worker.wait(std::time::Duration::ZERO).unwrap();
    rig.worker.turn();
    for client in &clients {
        assert_eq!(rig.pipe(*client, |pipe| pipe.writes), 1);
        assert_eq!(rig.received(*client).len(), 3);
    }
}
