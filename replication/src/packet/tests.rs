//! Bytes as Apache's servers send them, and bytes that nobody should send.

use super::*;
use crate::{Proposal, ServerId};
use proptest::prelude::*;
use std::sync::Arc;

const DATA_MAX: usize = 0xf_ffff + 1024;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

/// Decodes as this packet, and the packet encodes to these bytes.
fn check(from: Side, hex: &str, packet: QuorumPacket) {
    let bytes = bytes(hex);
    let decoded = quorum::decode(&bytes, from, DATA_MAX).unwrap();
    assert_eq!(decoded, Some((packet.clone(), bytes.len())));
    assert_eq!(quorum::encode(&packet, from), bytes);
}

const EPOCH_1: Zxid = Zxid(0x1_0000_0000);

#[test]
fn packets_of_a_learner() {
    let info = LearnerInfo { id: Some(ServerId(1)), protocol_version: 0x10000, config_version: 0 };
    check(
        Side::Learner,
        "0000000b 0000000000000000 00000014 0000000000000001 00010000 0000000000000000 ffffffff",
        QuorumPacket::FollowerInfo { accepted: Zxid::ZERO, info },
    );
    check(
        Side::Learner,
        "00000010 0000000000000000 00000014 0000000000000001 00010000 0000000000000000 ffffffff",
        QuorumPacket::ObserverInfo { accepted: Zxid::ZERO, info },
    );
    check(
        Side::Learner,
        "00000012 0000000000000000 00000004 00000000 ffffffff",
        QuorumPacket::AckEpoch { zxid: 0, epoch: 0 },
    );
    check(Side::Learner, "00000003 0000000100000000 ffffffff ffffffff", QuorumPacket::Ack(EPOCH_1));
    check(
        Side::Learner,
        "00000005 0000000100000000 00000000 ffffffff",
        QuorumPacket::Ping { zxid: EPOCH_1, sessions: Vec::new() },
    );
    check(
        Side::Learner,
        "00000005 0000000100000000 0000000c 010000174e3e0000 00002710 ffffffff",
        QuorumPacket::Ping { zxid: EPOCH_1, sessions: vec![(SessionBits(0x0100_0017_4e3e_0000), 10000)] },
    );
    check(
        Side::Learner,
        "00000001 ffffffffffffffff 00000014 010000174e3e0000 00000000 fffffff6 00002710 ffffffff",
        QuorumPacket::Ask(Ask::Request {
            session: SessionBits(0x0100_0017_4e3e_0000),
            cxid: 0,
            op: -10,
            body: vec![0, 0, 0x27, 0x10],
            identities: None,
        }),
    );
    check(
        Side::Learner,
        "00000001 ffffffffffffffff 00000010 0000000000000007 00000003 00000009
         00000001 00000002 6970 00000009 3132372e302e302e31",
        QuorumPacket::Ask(Ask::Request {
            session: SessionBits(7),
            cxid: 3,
            op: 9,
            body: Vec::new(),
            identities: Some(vec![("ip".to_string(), "127.0.0.1".to_string())]),
        }),
    );
    check(
        Side::Learner,
        "00000006 ffffffffffffffff 0000000c 0000000000000007 00002710 ffffffff",
        QuorumPacket::Ask(Ask::Revalidate { session: SessionBits(7), timeout_ms: 10000 }),
    );
}

#[test]
fn packets_of_a_leader() {
    check(
        Side::Leader,
        "00000011 0000000100000000 00000004 00010000 ffffffff",
        QuorumPacket::LeaderInfo { zxid: EPOCH_1, protocol_version: 0x10000 },
    );
    check(Side::Leader, "0000000f 0000000100000000 ffffffff ffffffff", QuorumPacket::Snap(EPOCH_1));
    check(Side::Leader, "0000000d 0000000100000000 ffffffff ffffffff", QuorumPacket::Diff(EPOCH_1));
    check(Side::Leader, "0000000e 0000000100000000 ffffffff ffffffff", QuorumPacket::Trunc(EPOCH_1));
    check(Side::Leader, "0000000c ffffffffffffffff ffffffff ffffffff", QuorumPacket::UpToDate);
    check(
        Side::Leader,
        "00000005 0000000100000000 ffffffff ffffffff",
        QuorumPacket::Ping { zxid: EPOCH_1, sessions: Vec::new() },
    );
    check(Side::Leader, "00000007 0000000000000000 ffffffff ffffffff", QuorumPacket::Answer(Answer::Synced));
    check(
        Side::Leader,
        "00000006 ffffffffffffffff 00000009 0000000000000007 01 ffffffff",
        QuorumPacket::Answer(Answer::Revalidated { session: SessionBits(7), valid: true }),
    );
    check(
        Side::Leader,
        "0000000a 0000000100000000 00000001 61 ffffffff",
        QuorumPacket::NewLeader { zxid: EPOCH_1, config: vec![b'a'] },
    );
    check(
        Side::Leader,
        "00000009 0000000100000001 00000008 0000000000000002 ffffffff",
        QuorumPacket::CommitAndActivate { zxid: Zxid(0x1_0000_0001), leader: 2 },
    );
    check(
        Side::Leader,
        "00000013 0000000100000001 00000009 0000000000000002 61 ffffffff",
        QuorumPacket::InformAndActivate { zxid: Zxid(0x1_0000_0001), leader: 2, entry: vec![b'a'] },
    );
}

#[test]
fn what_old_learners_leave_off() {
    let decode = |hex| quorum::decode(&bytes(hex), Side::Learner, DATA_MAX).unwrap().unwrap().0;
    let accepted = Zxid::ZERO;
    let info = |id, protocol_version| LearnerInfo { id, protocol_version, config_version: 0 };
    let nameless = QuorumPacket::FollowerInfo { accepted, info: info(None, 1) };
    assert_eq!(decode("0000000b 0000000000000000 ffffffff ffffffff"), nameless);
    let named = QuorumPacket::FollowerInfo { accepted, info: info(Some(ServerId(3)), 1) };
    assert_eq!(decode("0000000b 0000000000000000 00000008 0000000000000003 ffffffff"), named);
    let versioned = QuorumPacket::FollowerInfo { accepted, info: info(Some(ServerId(3)), 0x10000) };
    assert_eq!(decode("0000000b 0000000000000000 0000000c 0000000000000003 00010000 ffffffff"), versioned);
}

#[test]
fn types_of_the_wrong_side_are_passed_over() {
    let of = |hex, side| quorum::decode(&bytes(hex), side, DATA_MAX).unwrap().unwrap().0;
    assert_eq!(of("00000004 0000000100000001 ffffffff ffffffff", Side::Learner), QuorumPacket::Unknown(4));
    assert_eq!(of("00000003 0000000100000001 ffffffff ffffffff", Side::Leader), QuorumPacket::Unknown(3));
    assert_eq!(
        of("000000ff 0000000100000001 00000001 61 ffffffff", Side::Leader),
        QuorumPacket::Unknown(255)
    );
}

#[test]
fn bad_packets_are_refused_at_once() {
    let bad = |hex, side| quorum::decode(&bytes(hex), side, DATA_MAX).unwrap_err().to_string();
    let too_long = "a length of 1049600 for data, where 1049599 is the most";
    // The data itself has not come yet, and never needs to.
    assert_eq!(bad("00000002 0000000100000001 00100400", Side::Leader), too_long);
    let negative = "a length of -2 for data, where 1049599 is the most";
    assert_eq!(bad("00000002 0000000100000001 fffffffe", Side::Leader), negative);
    let many = "a length of 4097 for authinfo, where 4096 is the most";
    assert_eq!(bad("00000001 0000000100000001 ffffffff 00001001", Side::Learner), many);
    let empty = "a packet PROPOSAL with 0 bytes of data";
    assert_eq!(bad("00000002 0000000100000001 ffffffff ffffffff", Side::Leader), empty);
    let short = "a packet REQUEST with 4 bytes of data";
    assert_eq!(bad("00000001 ffffffffffffffff 00000004 00000000 ffffffff", Side::Learner), short);
    let torn = "a packet PING with 13 bytes of data";
    assert_eq!(
        bad("00000005 0000000100000000 0000000d 00000000000000000000000000 ffffffff", Side::Learner),
        torn
    );
}

fn entry(zxid: u64, tail: &[u8]) -> Vec<u8> {
    [&[1; 12][..], &zxid.to_be_bytes(), tail].concat()
}

#[test]
fn a_batch_becomes_one_buffer() {
    let entries = [entry(0x1_0000_0007, b"a"), entry(0x1_0000_0008, b""), entry(0x2_0000_0001, b"xyz")];
    let records: Vec<u8> =
        entries.iter().flat_map(|entry| [&(entry.len() as u32).to_be_bytes()[..], entry].concat()).collect();
    let batch =
        Proposal { first: Zxid(0x1_0000_0007), last: Zxid(0x2_0000_0001), records: Arc::new(records) };
    let zxids = [Zxid(0x1_0000_0007), Zxid(0x1_0000_0008), Zxid(0x2_0000_0001)];
    let each = |packet: &dyn Fn(Zxid, Vec<u8>) -> Vec<QuorumPacket>| -> Vec<u8> {
        let packets = zxids.iter().zip(&entries).flat_map(|(zxid, entry)| packet(*zxid, entry.clone()));
        packets.flat_map(|packet| quorum::encode(&packet, Side::Leader)).collect()
    };
    let proposal = |zxid, entry| QuorumPacket::Proposal { zxid, entry };
    assert_eq!(*quorum::proposals(&batch), *each(&|zxid, entry| vec![proposal(zxid, entry)]));
    assert_eq!(*quorum::informs(&batch), *each(&|zxid, entry| vec![QuorumPacket::Inform { zxid, entry }]));
    assert_eq!(*quorum::commits(&batch), *each(&|zxid, _| vec![QuorumPacket::Commit(zxid)]));
    let both = |zxid, entry| vec![proposal(zxid, entry), QuorumPacket::Commit(zxid)];
    assert_eq!(*quorum::history(&batch), *each(&both));
}

#[test]
fn handshakes() {
    let apache = bytes("ffffffffffff0000 0000000000000001 0000000f 3132372e302e302e313a3231333831");
    let addresses = vec!["127.0.0.1:21381".to_string()];
    let expected = Handshake { peer: Some(ServerId(1)), addresses: addresses.clone() };
    assert_eq!(handshake::decode(&apache).unwrap(), Some((expected, apache.len())));
    assert_eq!(handshake::encode(ServerId(1), &addresses, false), apache);
    for cut in 0..apache.len() {
        assert_eq!(handshake::decode(&apache[..cut]).unwrap(), None);
    }
    let several = vec!["a:1".to_string(), "[::1]:2".to_string()];
    let second = handshake::encode(ServerId(2), &several, true);
    assert_eq!(second[..8], (-65535i64).to_be_bytes());
    assert_eq!(handshake::decode(&second).unwrap().unwrap().0.addresses, several);
    let wild = handshake::encode(ServerId(2), &["0.0.0.0:1".into(), "[::]:2".into(), "c:3".into()], true);
    assert_eq!(handshake::decode(&wild).unwrap().unwrap().0.addresses, ["c:3"]);
    let old = handshake::decode(&5i64.to_be_bytes()).unwrap().unwrap();
    assert_eq!(old, (Handshake { peer: Some(ServerId(5)), addresses: Vec::new() }, 8));
    let nobody = handshake::decode(&i64::MAX.to_be_bytes()).unwrap().unwrap().0;
    assert_eq!(nobody.peer, None);
    let many: Vec<String> = (0..500).map(|port| format!("host:{port}")).collect();
    let many = handshake::decode(&handshake::encode(ServerId(1), &many, true)).unwrap().unwrap().0;
    assert!((100..500).contains(&many.addresses.len()));
}

#[test]
fn bad_handshakes_are_refused() {
    let bad = |bytes: &[u8]| handshake::decode(bytes).unwrap_err().to_string();
    let with = |address: &str| bad(&handshake::encode(ServerId(1), &[address.to_string()], false));
    assert_eq!(bad(&(-65534i64).to_be_bytes()), "a handshake of version -65534, which nobody knows");
    assert_eq!(with("h:65536"), "a handshake with the address \"h:65536\"");
    assert_eq!(with(""), "a length of 0 for addresses, where 2048 is the most");
    for address in ["h", "h:", ":1", "h:x", "::1:2", "[::1:2", "[]:1", "h:-1", "a b:1", "h:1|", "h:1||h:2"] {
        assert!(with(address).starts_with("a handshake with the address"), "{address}");
    }
    assert!(with(&"h".repeat(3000)).contains("3000 for addresses"));
    let negative = handshake::encode(ServerId(u64::MAX), &["h:1".to_string()], false);
    assert_eq!(bad(&negative), "a handshake with the server id -1");
}

fn frame(payload: &[u8]) -> Vec<u8> {
    [&(payload.len() as u32).to_be_bytes()[..], payload].concat()
}

#[test]
fn notifications_of_every_age() {
    let config = "server.1=h:1:2:participant\nversion=0";
    let whole = Notification {
        state: PeerState::Leading,
        leader: 3,
        zxid: 0x5_0000_0009,
        round: 7,
        epoch: 6,
        version: 2,
        config: Some(config.to_string()),
    };
    let encoded = notification::encode(&whole);
    let decode = |payload: &[u8]| {
        let bytes = frame(payload);
        let (notification, used) = notification::decode(&bytes).unwrap().unwrap();
        assert_eq!(used, bytes.len());
        notification
    };
    assert_eq!(decode(&encoded[4..]), Some(whole.clone()));
    for cut in 0..encoded.len() {
        assert_eq!(notification::decode(&encoded[..cut]).unwrap(), None);
    }
    let payload = &encoded[4..];
    let oldest = Notification { epoch: 5, version: 0, config: None, ..whole.clone() };
    assert_eq!(decode(&payload[..28]), Some(oldest));
    assert_eq!(decode(&payload[..40]), Some(Notification { version: 0, config: None, ..whole.clone() }));
    for length in (1..28).chain(29..40).chain(41..payload.len()) {
        assert_eq!(decode(&payload[..length]), None, "{length}");
    }
    // Whoever is newer says more; what is known stands where it stood.
    let mut newer = payload.to_vec();
    newer[39] = 9;
    newer.extend(b"more");
    assert_eq!(decode(&newer), Some(Notification { version: 9, ..whole.clone() }));
    let mut strange = payload.to_vec();
    strange[3] = 4;
    assert_eq!(decode(&strange), None);
    let mut not_text = payload.to_vec();
    not_text[44] = 0xff;
    assert_eq!(decode(&not_text), Some(Notification { config: None, ..whole }));
    let mut negative = payload.to_vec();
    negative[40] = 0xff;
    assert_eq!(decode(&negative), None);
}

#[test]
fn frames_of_impossible_length_are_refused() {
    for length in [0i32, -1, i32::MIN, 524_289, i32::MAX] {
        assert!(notification::decode(&length.to_be_bytes()).is_err(), "{length}");
    }
    assert_eq!(notification::decode(&524_288i32.to_be_bytes()).unwrap(), None);
}
/// What one of three servers of Apache ZooKeeper 3.9.5 said that followed server 2, which led in epoch 1.
const VOTE: &str =
    "000000b6000000010000000000000002000000000000000000000000000000010000000000000001000000020000008a
         7365727665722e313d3132372e302e302e313a33393831333a34343232373a7061727469636970616e740a7365727665
         722e323d3132372e302e302e313a33373836333a33373433373a7061727469636970616e740a7365727665722e333d31
         32372e302e302e313a35333832333a33363530393a7061727469636970616e740a76657273696f6e3d30";

#[test]
fn a_recorded_vote() {
    let bytes = bytes(VOTE);
    let (notification, used) = notification::decode(&bytes).unwrap().unwrap();
    assert_eq!(used, bytes.len());
    let notification = notification.unwrap();
    assert_eq!(notification::encode(&notification), bytes);
    let config = notification.config.clone().unwrap();
    let expected = Notification {
        state: PeerState::Following,
        leader: 2,
        zxid: 0,
        round: 1,
        epoch: 1,
        version: 2,
        config: notification.config.clone(),
    };
    assert_eq!(notification, expected);
    assert_eq!(crate::Members::parse(&config).unwrap().text(), config);
}

/// What their leader sent behind UPTODATE to a follower, and then to an observer, that opened a session, asked whether it
/// was valid, and asked for a sync.
const TO_FOLLOWER: &str =
    "00000002000000010000000100000030090000000000000c000000000000000100000001000001a22d5d4be7fffffff6
         00002710000000020000000051c6d660ffffffff000000040000000100000001ffffffffffffffff00000006ffffffff
         ffffffff00000009090000000000000c01ffffffff000000070000000000000000ffffffffffffffff00000005000000
         0100000001ffffffffffffffff000000050000000100000001ffffffffffffffff";
const TO_OBSERVER: &str =
    "00000006ffffffffffffffff00000009090000000000001101ffffffff00000008000000010000000200000030090000
         0000000011000000000000000100000002000001a22d5d5acafffffff600002710000000020000000051c6d660ffffff
         ff000000070000000000000000ffffffffffffffff000000050000000100000002ffffffffffffffff";

#[test]
fn recorded_packets_of_a_leader() {
    check_stream(TO_FOLLOWER, "Proposal 1:1, Commit 1:1, Revalidated true, Synced, Ping 1:1, Ping 1:1");
    check_stream(TO_OBSERVER, "Revalidated true, Inform 1:2, Synced, Ping 1:2");
    // Behind the snapshot, before this learner answered.
    let behind_snapshot =
        "0000000a00000001000000000000008a7365727665722e313d3132372e302e302e313a33393831333a34343232373a70
         61727469636970616e740a7365727665722e323d3132372e302e302e313a33373836333a33373433373a706172746963
         6970616e740a7365727665722e333d3132372e302e302e313a35333832333a33363530393a7061727469636970616e74
         0a76657273696f6e3d30ffffffff000000050000000100000000ffffffffffffffff";
    check_stream(behind_snapshot, "NewLeader 1:0 138, Ping 1:0");
}

fn check_stream(hex: &str, expected: &str) {
    let bytes = bytes(hex);
    let mut rest = &bytes[..];
    let mut names = Vec::new();
    while let Some((packet, used)) = quorum::decode(rest, Side::Leader, DATA_MAX).unwrap() {
        assert_eq!(quorum::encode(&packet, Side::Leader), rest[..used]);
        rest = &rest[used..];
        names.push(match packet {
            QuorumPacket::Proposal { zxid, entry } => {
                assert_eq!(quorum::entry_zxid(&entry), Some(zxid));
                format!("Proposal {zxid:?}")
            }
            QuorumPacket::Inform { zxid, entry } => {
                assert_eq!(quorum::entry_zxid(&entry), Some(zxid));
                format!("Inform {zxid:?}")
            }
            QuorumPacket::Commit(zxid) => format!("Commit {zxid:?}"),
            QuorumPacket::Ping { zxid, .. } => format!("Ping {zxid:?}"),
            QuorumPacket::NewLeader { zxid, config } => format!("NewLeader {zxid:?} {}", config.len()),
            QuorumPacket::Answer(Answer::Revalidated { valid, .. }) => format!("Revalidated {valid}"),
            QuorumPacket::Answer(Answer::Synced) => "Synced".to_string(),
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(rest, b"");
    assert_eq!(names.join(", "), expected);
}

fn touches() -> impl Strategy<Value = Vec<(SessionBits, i32)>> {
    prop::collection::vec((any::<i64>().prop_map(SessionBits), any::<i32>()), 0..5)
}

fn zxids() -> impl Strategy<Value = Zxid> {
    any::<u64>().prop_map(Zxid)
}

fn asks() -> impl Strategy<Value = Ask> {
    let identities = prop::option::of(prop::collection::vec((".{0,5}", ".{0,9}"), 0..4));
    let body = prop::collection::vec(any::<u8>(), 0..40);
    prop_oneof![
        (any::<i64>(), any::<i32>(), any::<i32>(), body, identities).prop_map(
            |(session, cxid, op, body, identities)| {
                Ask::Request { session: SessionBits(session), cxid, op, body, identities }
            }
        ),
        (any::<i64>(), any::<i32>())
            .prop_map(|(session, timeout_ms)| Ask::Revalidate { session: SessionBits(session), timeout_ms }),
    ]
}

fn of_learner() -> impl Strategy<Value = QuorumPacket> {
    let info = (0..=i64::MAX as u64, any::<i32>(), any::<i64>()).prop_map(
        |(id, protocol_version, config_version)| LearnerInfo {
            id: Some(ServerId(id)),
            protocol_version,
            config_version,
        },
    );
    prop_oneof![
        asks().prop_map(QuorumPacket::Ask),
        zxids().prop_map(QuorumPacket::Ack),
        (zxids(), touches()).prop_map(|(zxid, sessions)| QuorumPacket::Ping { zxid, sessions }),
        (zxids(), info.clone()).prop_map(|(accepted, info)| QuorumPacket::FollowerInfo { accepted, info }),
        (zxids(), info).prop_map(|(accepted, info)| QuorumPacket::ObserverInfo { accepted, info }),
        (any::<i64>(), any::<i32>()).prop_map(|(zxid, epoch)| QuorumPacket::AckEpoch { zxid, epoch }),
    ]
}

fn of_leader() -> impl Strategy<Value = QuorumPacket> {
    let entry = || prop::collection::vec(any::<u8>(), 1..60);
    prop_oneof![
        (zxids(), entry()).prop_map(|(zxid, entry)| QuorumPacket::Proposal { zxid, entry }),
        (zxids(), entry()).prop_map(|(zxid, entry)| QuorumPacket::Inform { zxid, entry }),
        (zxids(), entry()).prop_map(|(zxid, config)| QuorumPacket::NewLeader { zxid, config }),
        (zxids(), any::<i64>(), entry())
            .prop_map(|(zxid, leader, entry)| { QuorumPacket::InformAndActivate { zxid, leader, entry } }),
        (zxids(), any::<i64>()).prop_map(|(zxid, leader)| QuorumPacket::CommitAndActivate { zxid, leader }),
        (zxids(), any::<i32>())
            .prop_map(|(zxid, protocol_version)| QuorumPacket::LeaderInfo { zxid, protocol_version }),
        (any::<i64>(), any::<bool>()).prop_map(|(session, valid)| {
            QuorumPacket::Answer(Answer::Revalidated { session: SessionBits(session), valid })
        }),
        zxids().prop_map(QuorumPacket::Commit),
        zxids().prop_map(QuorumPacket::Diff),
        zxids().prop_map(QuorumPacket::Trunc),
        zxids().prop_map(QuorumPacket::Snap),
        Just(QuorumPacket::UpToDate),
        Just(QuorumPacket::Answer(Answer::Synced)),
        zxids().prop_map(|zxid| QuorumPacket::Ping { zxid, sessions: Vec::new() }),
    ]
}

fn check_round_trip(packet: QuorumPacket, from: Side) {
    let mut bytes = quorum::encode(&packet, from);
    for cut in 0..bytes.len() {
        assert_eq!(quorum::decode(&bytes[..cut], from, DATA_MAX).unwrap(), None, "cut at {cut}");
    }
    let length = bytes.len();
    bytes.extend(b"what follows");
    assert_eq!(quorum::decode(&bytes, from, DATA_MAX).unwrap(), Some((packet, length)));
}

proptest! {
    #[test]
    fn learners_packets_come_through_whole(packet in of_learner()) {
        check_round_trip(packet, Side::Learner);
    }

    #[test]
    fn leaders_packets_come_through_whole(packet in of_leader()) {
        check_round_trip(packet, Side::Leader);
    }

    #[test]
    fn no_bytes_do_harm(kind in 0i32..22, mut bytes in prop::collection::vec(any::<u8>(), 0..80), length in -2i32..50) {
        for side in [Side::Learner, Side::Leader] {
            let _ = quorum::decode(&bytes, side, DATA_MAX);
        }
        let _ = handshake::decode(&bytes);
        let _ = notification::decode(&bytes);
        let _ = notification::decode(&frame(&bytes));
        let _ = handshake::decode(&[&(-65536i64).to_be_bytes()[..], &bytes].concat());
        // The same where type and length are likely.
        bytes.splice(0..0, [&kind.to_be_bytes()[..], &[0; 8], &length.to_be_bytes()].concat());
        for side in [Side::Learner, Side::Leader] {
            if let Ok(Some((_, used))) = quorum::decode(&bytes, side, DATA_MAX) {
                prop_assert!(used <= bytes.len());
            }
        }
    }

    #[test]
    fn no_configuration_does_harm(text in "(server\\.[0-9]{1,3}=[a-z\\[\\]:0-9;|]{0,20}\n|group\\.1=[0-9:]{0,5}\n|weight\\.[0-9]=[0-9]\n|.{0,10}\n){0,6}") {
        if let Ok(members) = crate::Members::parse(&text) {
            let again = crate::Members::parse(members.text()).unwrap();
            prop_assert_eq!(again.text(), members.text());
        }
    }
}
