//! The order of a connection's requests: what waits for what, what may overtake, what goes out before the end.

use super::rig::{Rig, bare, ping, read, request, write};
use super::{CLOSE, EXISTS, GET_CHILDREN, GET_DATA, closed, references, writes, xids};
use crate::intake::CoreRequest;
use crate::model::Xid;
use crate::ring::After;
use crate::wire::{AclBytes, JutePut};
use ostler_replication::Zxid;

#[test]
fn a_read_waits_behind_its_sessions_write_and_a_write_behind_that_read() {
    let mut rig = Rig::plain();
    let (client, _) = rig.established();
    let (other, _) = rig.established();
    let bytes = [
        read(1, EXISTS, "/a", false),
        write(2),
        write(3),
        read(4, EXISTS, "/a", false),
        write(5),
        write(6),
        ping(),
    ];
    rig.send(client, &bytes.concat());
    assert_eq!(rig.received(client), ["xid=1 zxid=0 err=-101 +0"]);
    // The writes behind the read are with the core, too; the first of them in another batch than those before.
    let asked = rig.asked();
    let apart = |request: &CoreRequest| matches!(request, CoreRequest::Write { apart: true, .. });
    assert_eq!(asked.iter().map(apart).collect::<Vec<_>>(), [false, false, true, false]);
    let handed = references(asked);
    assert_eq!(xids(&handed), [2, 3, 5, 6]);
    rig.send(other, &read(1, EXISTS, "/a", false));
    assert_eq!(rig.received(other), ["xid=1 zxid=0 err=-101 +0"]);

    rig.commit_with(&["+/a"], AclBytes::OPEN, &handed[..1]);
    assert_eq!(rig.received(client), ["xid=2 zxid=1 err=0 +0"]);
    assert!(writes(&mut rig).is_empty());
    rig.commit_with(&["=/a x"], AclBytes::OPEN, &handed[1..2]);
    assert_eq!(rig.received(client), ["xid=3 zxid=2 err=0 +0", "xid=4 zxid=2 err=0 +68"]);
    rig.commit_with(&["=/a y", "=/a z"], AclBytes::OPEN, &handed[2..]);
    assert_eq!(
        rig.received(client),
        ["xid=5 zxid=3 err=0 +0", "xid=6 zxid=4 err=0 +0", "xid=-2 zxid=4 err=0 +0"]
    );
}

/// Reads of one line with writes between them, all commits heard of at once: each read sees the writes before it and not
/// the one behind it.
#[test]
fn reads_between_writes_see_what_came_before_them_and_not_what_comes_after() {
    let mut rig = Rig::plain();
    let (client, _) = rig.established();
    rig.commit(&["+/a"]);
    let get = |xid| read(xid, GET_DATA, "/a", false);
    let bytes = [write(1), get(2), get(3), write(4), write(5), get(6), write(7), get(8)];
    rig.send(client, &bytes.concat());
    let handed = writes(&mut rig);
    assert_eq!(xids(&handed), [1, 4, 5, 7]);
    rig.held = true;
    rig.commit_with(&["=/a 1"], AclBytes::OPEN, &handed[..1]);
    rig.commit_with(&["=/a 22", "=/a 333"], AclBytes::OPEN, &handed[1..3]);
    rig.commit_with(&["=/a 4444"], AclBytes::OPEN, &handed[3..]);
    rig.commit(&["=/a 55555"]);
    rig.settle();
    assert_eq!(
        rig.received(client),
        [
            "xid=1 zxid=2 err=0 +0",
            "xid=2 zxid=2 err=0 +73",
            "xid=3 zxid=2 err=0 +73",
            "xid=4 zxid=3 err=0 +0",
            "xid=5 zxid=4 err=0 +0",
            "xid=6 zxid=4 err=0 +75",
            "xid=7 zxid=5 err=0 +0",
            // Nothing of this client's comes behind it: the newest there is.
            "xid=8 zxid=6 err=0 +77",
        ]
    );
}

/// Many at once: replies to reads may wait a moment for that of a write, but not for the write itself.
#[test]
fn in_a_crowd_no_reply_waits_for_a_write_that_does_not_come() {
    let mut rig = Rig::plain();
    let clients: Vec<_> = (0..50).map(|_| rig.established().0).collect();
    rig.held = true;
    for client in &clients {
        rig.send(*client, &[read(1, EXISTS, "/", false), write(2)].concat());
    }
    rig.held = false;
    rig.settle();
    for client in clients {
        assert_eq!(rig.received(client), ["xid=1 zxid=0 err=0 +68"]);
    }
}

#[test]
fn what_may_change_a_later_request_is_not_overtaken() {
    for between in [
        read(2, GET_CHILDREN, "/", false),
        request(2, 100, |out| {
            out.put_i32(0);
            out.put_string("digest");
            out.put_buffer(Some(b"a:b"));
        }),
        request(2, 9, |out| out.put_string("/")),
        request(2, CLOSE, |_| {}),
    ] {
        let mut rig = Rig::plain();
        let (client, _) = rig.established();
        rig.send(client, &[write(1), read(9, GET_DATA, "/", false), between, write(3)].concat());
        let handed = writes(&mut rig);
        assert_eq!(xids(&handed), [1]);
    }
}

#[test]
fn events_of_a_txn_come_before_its_reply_and_before_later_reads() {
    let mut rig = Rig::plain();
    let (client, _) = rig.established();
    rig.send(client, &[read(1, EXISTS, "/a", true), write(2), read(3, GET_DATA, "/a", false)].concat());
    let handed = writes(&mut rig);
    rig.received(client);
    rig.commit_with(&["+/a x", "=/a yy"], AclBytes::OPEN, &handed);
    assert_eq!(
        rig.received(client),
        ["event zxid=1 type=1 /a", "xid=2 zxid=1 err=0 +0", "xid=3 zxid=2 err=0 +74"]
    );
}

#[test]
fn a_close_waits_its_turn_then_everything_queued_goes_out_before_the_end() {
    let mut rig = Rig::plain();
    let (client, session) = rig.established();
    rig.send(client, &[write(1), ping(), request(2, CLOSE, |_| {}), ping()].concat());
    let handed = writes(&mut rig);
    assert_eq!(xids(&handed), [1]);
    rig.commit_with(&["+/a"], AclBytes::OPEN, &handed);
    let closing = writes(&mut rig);
    assert_eq!(xids(&closing), [2]);
    let (to, xid) = closing[0];
    let last = bare(xid, Zxid(1));
    rig.answer(vec![(to, xid, After::Close, Some(last))]);
    assert_eq!(
        rig.received(client),
        ["xid=1 zxid=1 err=0 +0", "xid=-2 zxid=1 err=0 +0", "xid=2 zxid=1 err=0 +0"]
    );
    let asked = rig.asked();
    assert!(matches!(&asked[..], [CoreRequest::Gone { session: gone, .. }] if *gone == session), "{asked:?}");
    rig.hang_up(client);
    assert!(closed(&rig, client));
}

#[test]
fn what_comes_behind_a_close_takes_no_reply_away() {
    let mut rig = Rig::plain();
    let (client, _) = rig.established();
    rig.send(client, &[write(1), request(2, CLOSE, |_| {}), write(3)].concat());
    let handed = writes(&mut rig);
    assert_eq!(xids(&handed), [1, 2, 3]);
    // One batch: the session is gone when the core comes to the last.
    let then = [After::Keep, After::Close, After::Drop];
    let outcomes = handed.into_iter().zip(then).map(|((to, xid), then)| {
        let frame = (then != After::Drop).then(|| bare(xid, Zxid(0)));
        (to, xid, then, frame)
    });
    rig.answer(outcomes.collect());
    assert_eq!(rig.received(client), ["xid=1 zxid=0 err=0 +0", "xid=2 zxid=0 err=0 +0"]);
    rig.hang_up(client);
    assert!(closed(&rig, client));
}

#[test]
fn drop_closes_without_another_byte() {
    let mut rig = Rig::plain();
    let (client, _) = rig.established();
    rig.send(client, &write(1));
    let (to, xid) = writes(&mut rig)[0];
    rig.answer(vec![(to, xid, After::Drop, None)]);
    assert!(closed(&rig, client) && rig.raw(client).is_empty());
}

#[test]
fn what_a_client_sent_before_it_hung_up_is_served_to_the_last() {
    let mut rig = Rig::plain();
    let (client, _) = rig.established();
    let close = request(3, CLOSE, |_| {});
    rig.send(client, &[write(1), read(2, GET_DATA, "/", false), close].concat());
    let first = writes(&mut rig);
    assert_eq!(xids(&first), [1]);
    rig.hang_up(client);
    assert!(!closed(&rig, client), "the close behind the read behind the write is still to be handed over");
    rig.commit_with(&["+/a"], AclBytes::OPEN, &first);
    assert_eq!(xids(&writes(&mut rig)), [3]);
}

#[test]
fn ephemerals_are_asked_for_one_reply_at_a_time() {
    let mut rig = Rig::plain();
    let (client, _) = rig.established();
    let ask = |xid| request(xid, 103, |out| out.put_string(""));
    rig.send(client, &[ask(1), ask(2), ask(3)].concat());
    for xid in 1..=3 {
        let asked = rig.asked();
        let [CoreRequest::Query { from, xid: asked, .. }] = asked[..] else { panic!("{asked:?}") };
        assert_eq!(asked, Xid(xid));
        let reply = bare(Xid(xid), Zxid(0));
        rig.answer(vec![(from, Xid(xid), After::Keep, Some(reply))]);
    }
    assert_eq!(rig.received(client).len(), 3);
}

#[test]
fn nothing_of_a_connection_overtakes_its_get_ephemerals() {
    let mut rig = Rig::plain();
    let (client, _) = rig.established();
    rig.send(client, &[request(1, 103, |out| out.put_string("/")), write(2)].concat());
    let asked = rig.asked();
    let [CoreRequest::Query { from, xid, .. }] = asked[..] else { panic!("{asked:?}") };
    let listed = bare(xid, Zxid(0));
    rig.answer(vec![(from, xid, After::Keep, Some(listed))]);
    assert_eq!(xids(&writes(&mut rig)), [2]);
}
