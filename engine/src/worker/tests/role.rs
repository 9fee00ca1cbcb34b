//! Changes of the server's role: who is closed, who is refused, who is served again.

use super::*;
use crate::config::{EnsembleConfig, EnsembleSettings};
use crate::limits::TURN_CLOSES_MAX;
use crate::model::SessionId;
use ostler_replication::{Members, Role, ServerId, Zxid};
use std::sync::Arc;
use std::time::Duration;

const FOLLOWING: Role = Role::Following(ServerId(2));

fn turn(rig: &mut Rig) {
    rig.worker.wait(Duration::ZERO).unwrap();
    rig.worker.turn();
}

/// A connect request that is refused without a word.
fn is_refused(rig: &mut Rig) -> bool {
    let client = rig.connect();
    rig.send(client, &connect_request(0, 30_000));
    let refused = closed(rig, client);
    assert!(rig.raw(client).is_empty());
    assert_eq!(rig.asked().is_empty(), refused);
    refused
}

#[test]
fn a_role_that_does_not_serve_closes_all_in_portions_and_serves_nothing_meanwhile() {
    let mut rig = Rig::plain();
    rig.commit(&["+/a"]);
    let clients: Vec<_> = (0..TURN_CLOSES_MAX * 2 + 10).map(|_| rig.established().0).collect();
    for &client in &clients {
        rig.send(client, &read(1, GET_DATA, "/a", true));
        rig.received(client);
    }
    let last = *clients.last().unwrap();
    let open = |rig: &Rig| clients.iter().filter(|client| !closed(rig, **client)).count();
    rig.held = true;
    rig.change_role(Role::Looking);
    rig.commit(&["=/a new"]);
    rig.pipe(last, |pipe| pipe.to_server.extend(read(2, GET_DATA, "/a", false)));
    rig.hang_on(last);
    for turns in 1..=2 {
        turn(&mut rig);
        assert_eq!(open(&rig), clients.len() - turns * TURN_CLOSES_MAX as usize);
        assert!(rig.worker.has_work());
        assert!(
            rig.received(last).is_empty(),
            "no request is served, and no event of what comes behind the role"
        );
    }
    rig.settle();
    assert_eq!(open(&rig), 0);
    assert!(rig.received(last).is_empty());
    let gone = rig.asked().into_iter().filter(|asked| matches!(asked, CoreRequest::Gone { .. })).count();
    assert_eq!(gone, clients.len());
}

#[test]
fn who_connects_while_the_server_looks_for_a_leader_is_refused_at_once() {
    let mut rig = Rig::plain();
    let early = rig.connect();
    rig.change_role(Role::Looking);
    // It has not asked for anything, so it may ask yet.
    assert!(!closed(&rig, early));
    rig.send(early, &connect_request(0, 30_000));
    assert!(closed(&rig, early) && rig.asked().is_empty());
    assert!(is_refused(&mut rig));
    assert_eq!(rig.registry.totals().count(Counter::ConnectsNotServed), 2);
    rig.change_role(FOLLOWING);
    assert!(!is_refused(&mut rig));
    let (client, _) = rig.established();
    rig.send(client, &ping());
    assert_eq!(rig.received(client), ["xid=-2 zxid=0 err=0 +0"]);
}

#[test]
fn a_client_that_is_connecting_or_waits_for_a_write_is_not_left_waiting() {
    let mut rig = Rig::plain();
    let (writer, _) = rig.established();
    rig.send(writer, &write(1));
    let asked = writes(&mut rig);
    let client = rig.connect();
    rig.send(client, &connect_request(0, 30_000));
    let Some(CoreRequest::Connect { from, .. }) = rig.asked().pop() else { panic!() };
    rig.change_role(Role::Looking);
    assert!(closed(&rig, client) && closed(&rig, writer));
    rig.asked();
    // What the core had decided for them comes too late, and only a session that was made is of any matter.
    rig.answer(vec![(asked[0].0, asked[0].1, After::Keep, Some(rig::bare(asked[0].1, Zxid(0))))]);
    assert!(rig.asked().is_empty() && rig.raw(writer).is_empty());
    rig.establish(from, SessionId(77));
    let asked = rig.asked();
    assert!(matches!(&asked[..], [CoreRequest::Gone { session: SessionId(77), .. }]), "{asked:?}");
}

#[test]
fn four_letter_words_are_answered_in_any_role() {
    let mut rig = Rig::plain();
    let early = rig.connect();
    rig.send(early, b"srvr");
    rig.change_role(Role::Looking);
    let late = rig.connect();
    rig.send(late, b"ruok");
    let asked: Vec<_> = rig.desk.0.lock().unwrap().drain(..).collect();
    for ((word, _, to), client) in asked.into_iter().zip([early, late]) {
        rig.mail(Mail::Text { to, text: word.name().into() });
        assert_eq!(rig.raw(client), word.name().as_bytes());
    }
}

#[test]
fn no_watch_is_left_when_another_world_comes() {
    let mut rig = Rig::plain();
    rig.commit(&["+/a", "+/b"]);
    let (client, _) = rig.established();
    rig.send(client, &[read(1, GET_DATA, "/a", true), read(2, EXISTS, "/none", true)].concat());
    rig.change_role(Role::Looking);
    rig.new_world();
    rig.change_role(FOLLOWING);
    rig.commit(&["+/none", "+/other"]);
    let (client, _) = rig.established();
    rig.send(client, &read(1, GET_DATA, "/other", true));
    assert_eq!(rig.received(client), ["xid=1 zxid=2 err=0 +72"]);
    rig.commit(&["=/none x", "=/other y"]);
    assert_eq!(rig.received(client), ["event zxid=4 type=3 /other"]);
}

#[test]
fn another_leader_closes_as_well_and_the_same_role_again_does_not() {
    let mut rig = Rig::plain();
    rig.change_role(FOLLOWING);
    let (client, _) = rig.established();
    rig.change_role(FOLLOWING);
    assert!(!closed(&rig, client));
    rig.change_role(Role::Following(ServerId(3)));
    assert!(closed(&rig, client));
    assert!(!is_refused(&mut rig));
}

#[test]
fn a_leader_that_does_not_serve_keeps_clients_off() {
    let check = |leader_serves: bool| {
        let settings = EnsembleSettings { leader_serves, ..EnsembleSettings::default() };
        let members = Members::parse("server.1=a:2888:3888\nserver.2=b:2888:3888").unwrap();
        let ensemble = EnsembleConfig { me: ServerId(1), members: Arc::new(members), settings };
        let mut rig =
            Rig::new(&Config { ensemble: Some(ensemble), address_connections_max: 0, ..Config::default() });
        rig.change_role(Role::Looking);
        rig.change_role(FOLLOWING);
        let (client, _) = rig.established();
        rig.change_role(Role::Leading);
        assert!(closed(&rig, client));
        rig.asked();
        assert_eq!(is_refused(&mut rig), !leader_serves);
        rig.change_role(Role::Observing(ServerId(2)));
        rig.asked();
        assert!(!is_refused(&mut rig));
    };
    check(true);
    check(false);
}
