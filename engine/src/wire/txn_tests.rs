//! Txn entries against bytes of Apache 3.9.5, by their odd forms, and by round trip.

use super::*;
use proptest::prelude::*;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}

/// Decodes and encodes again: `hex` must come out, and `body` must be what was in it.
fn check(hex: &str, body: TxnBody<'_>, digest: Option<TxnDigest>) {
    let input = bytes(hex);
    let (entry, consumed) = TxnEntry::decode(&input).unwrap();
    assert_eq!((&entry.body, entry.digest, consumed), (&body, digest, input.len()), "{hex}");
    assert_eq!(entry.header.kind, body.kind());
    let mut out = Vec::new();
    entry.encode(&mut out);
    assert_eq!(out, input, "{hex}");
}

fn head(kind: i32) -> String {
    format!("01000013b2df0000 00000000 0000000000000001 000001a1fa162b39 {kind:08x}")
}

const DIGEST: &str = "00000002 0000000051c6d660";

fn digest() -> Option<TxnDigest> {
    Some(TxnDigest::of(0x51c6_d660))
}

/// A createSession's txn out of a log of Apache 3.9.5.
#[test]
fn create_session() {
    let hex = format!("{} 00002710 {DIGEST}", head(-10));
    check(&hex, TxnBody::CreateSession { timeout_ms: 10_000 }, digest());
    let input = bytes(&hex);
    assert_eq!(input.len(), 48);
    let header = TxnEntry::decode(&input).unwrap().0.header;
    assert_eq!(header.session, SessionId(0x0100_0013_b2df_0000));
    assert_eq!((header.cxid, header.zxid, header.time), (Xid(0), Zxid(1), WallMillis(0x1a1_fa16_2b39)));
}

#[test]
fn simple_bodies() {
    let path = "00000002 2f61";
    let a = || Cow::Borrowed("/a");
    check(&format!("{} ffffff92", head(-1)), TxnBody::Error { code: -110 }, None);
    check(&format!("{} {path} {DIGEST}", head(2)), TxnBody::Delete { path: a() }, digest());
    check(&format!("{} {path}", head(20)), TxnBody::DeleteContainer { path: a() }, None);
    let data = Some(Cow::Borrowed(&b"x"[..]));
    let body = TxnBody::SetData { path: a(), data: data.clone(), version: 3 };
    check(&format!("{} {path} 00000001 78 00000003", head(5)), body, None);
    let body = TxnBody::SetData { path: a(), data: None, version: 3 };
    check(&format!("{} {path} ffffffff 00000003", head(5)), body, None);
    let body = TxnBody::Reconfig { path: a(), data, version: -1 };
    check(&format!("{} {path} 00000001 78 ffffffff", head(16)), body, None);
}

const OPEN_HEX: &str = "00000001 0000001f 00000005 776f726c64 00000006 616e796f6e65";

fn create(kind: CreateKind, parent_cversion: i32) -> Create<'static> {
    Create { path: "/a".into(), data: Some(Cow::Borrowed(b"x")), acl: AclBytes::OPEN, kind, parent_cversion }
}

#[test]
fn creates() {
    let start = format!("00000002 2f61 00000001 78 {OPEN_HEX}");
    for (type_, create2) in [(1, false), (15, true)] {
        let body = TxnBody::Create(create(CreateKind::Plain { create2, ephemeral: true }, 9));
        check(&format!("{} {start} 01 00000009 {DIGEST}", head(type_)), body, digest());
    }
    let body = TxnBody::Create(create(CreateKind::Container, 9));
    check(&format!("{} {start} 00000009", head(19)), body, None);
    let body = TxnBody::Create(create(CreateKind::Ttl(1000), 9));
    check(&format!("{} {start} 00000009 00000000000003e8", head(21)), body, None);
}

/// Bodies of very old logs end before the parent's cversion. They are written anew as V1.
#[test]
fn create_v0() {
    let start = format!("00000002 2f61 00000001 78 {OPEN_HEX} 01");
    for tail in ["", "00", "000000"] {
        let input = bytes(&format!("{} {start} {tail}", head(1)));
        let (entry, consumed) = TxnEntry::decode(&input).unwrap();
        let kind = CreateKind::Plain { create2: false, ephemeral: true };
        assert_eq!(entry.body, TxnBody::Create(create(kind, -1)));
        assert_eq!(consumed, input.len() - tail.len() / 2);
        let mut out = Vec::new();
        entry.encode(&mut out);
        assert_eq!(out.len(), consumed + 4);
    }
    // Only type 1 ever had such bodies, and never inside a multi.
    let input = bytes(&format!("{} {start}", head(15)));
    assert_eq!(TxnEntry::decode(&input), Err(Malformed::Truncated));
}

#[test]
fn close_session_with_and_without_a_body() {
    let closing = |paths: Option<&[&'static str]>| TxnBody::CloseSession {
        paths: paths.map(|paths| paths.iter().copied().map(Cow::Borrowed).collect()),
    };
    let head = head(-11);
    check(&head, closing(None), None);
    check(&format!("{head} {DIGEST}"), closing(None), digest());
    check(&format!("{head} 00000000 {DIGEST}"), closing(Some(&[])), digest());
    check(&format!("{head} 00000001 00000002 2f61 {DIGEST}"), closing(Some(&["/a"])), digest());
    // Twelve bytes that are a whole list are one.
    check(&format!("{head} 00000001 00000004 2f616263"), closing(Some(&["/abc"])), None);
    // An unknown digest version is kept.
    check(
        &format!("{head} 00000007 0000000051c6d660"),
        closing(None),
        Some(TxnDigest { version: 7, tree: 0x51c6_d660 }),
    );
    // A negative count, such as the magic of our trailer behind a body-less entry: an empty list.
    let input = bytes(&format!("{head} d64f5354"));
    assert_eq!(TxnEntry::decode(&input).unwrap().0.body, closing(Some(&[])));
}

#[test]
fn a_digest_takes_twelve_bytes_or_is_absent() {
    let entry = |tail: &str| {
        let input = bytes(&format!("{} ffffff92 {tail}", head(-1)));
        TxnEntry::decode(&input).map(|(entry, consumed)| (entry.digest, input.len() - consumed)).unwrap()
    };
    assert_eq!(entry(""), (None, 0));
    assert_eq!(entry("00"), (None, 1));
    assert_eq!(entry("0000000000000000 000000"), (None, 11));
    assert_eq!(entry(DIGEST), (digest(), 0));
    assert_eq!(entry(&format!("{DIGEST} 0000000000000000")), (digest(), 8));
}

#[test]
fn multis() {
    let sub = |kind: i32, data: &str| format!("{kind:08x} {:08x} {data}", bytes(data).len());
    let a = || Cow::Borrowed("/a");
    let path = "00000002 2f61";
    let body = format!(
        "{} 00000006 {} {} {} {} {} {}",
        head(14),
        sub(1, &format!("{path} 00000001 78 {OPEN_HEX} 00 00000001")),
        sub(5, &format!("{path} ffffffff 00000001")),
        sub(13, &format!("{path} 00000002")),
        sub(2, path),
        sub(20, path),
        sub(21, &format!("{path} 00000001 78 {OPEN_HEX} 00000002 0000000000000005")),
    );
    let subs = vec![
        SubTxn::Create(create(CreateKind::Plain { create2: false, ephemeral: false }, 1)),
        SubTxn::SetData { path: a(), data: None, version: 1 },
        SubTxn::Check { path: a(), version: 2 },
        SubTxn::Delete { path: a() },
        SubTxn::DeleteContainer { path: a() },
        SubTxn::Create(create(CreateKind::Ttl(5), 2)),
    ];
    check(&format!("{body} {DIGEST}"), TxnBody::Multi(subs), digest());
    check(&format!("{} 00000000", head(14)), TxnBody::Multi(vec![]), None);

    // A failed one: the operations before the failure, its code, then -2. Apache may leave other data under type -1.
    let failed = format!(
        "{} 00000004 {} {} {} {}",
        head(14),
        sub(2, path),
        sub(-1, "ffffff9b"),
        sub(-1, "fffffffe"),
        sub(-1, path),
    );
    let subs = vec![
        SubTxn::Delete { path: a() },
        SubTxn::error(-101),
        SubTxn::error(-2),
        SubTxn::Error { code: 2, foreign: Some(bytes(path).into()) },
    ];
    check(&failed, TxnBody::Multi(subs), None);
    check(
        &format!("{} 00000001 {}", head(14), sub(-1, "")),
        TxnBody::Multi(vec![SubTxn::Error { code: 0, foreign: Some(Cow::Borrowed(b"")) }]),
        None,
    );
}

#[test]
fn what_is_no_txn() {
    for kind in [0, 3, 13, 18, 99, -2] {
        let input = bytes(&format!("{} {}", head(kind), "00".repeat(64)));
        assert_eq!(TxnEntry::decode(&input), Err(Malformed::UnknownType), "{kind}");
    }
    let setting_acl_in_multi = bytes(&format!("{} 00000001 00000007 00000000", head(14)));
    assert_eq!(TxnEntry::decode(&setting_acl_in_multi), Err(Malformed::UnknownType));
    assert_eq!(TxnEntry::decode(&bytes(&head(2))), Err(Malformed::Truncated));
    assert_eq!(TxnEntry::decode(&bytes(&format!("{} ffffffff", head(2)))), Err(Malformed::Null));
    let announced = bytes(&format!("{} 7fffffff", head(14)));
    assert_eq!(TxnEntry::decode(&announced), Err(Malformed::Truncated));
}

#[test]
fn acl_bytes() {
    let read = |hex: &str| {
        let input = bytes(hex);
        AclBytes::read(&mut Reader::new(&input)).map(|acl| (acl.bytes() == input, acl.decode()))
    };
    let open = Acl::new(31, "world", "anyone");
    assert_eq!(read(OPEN_HEX), Ok((true, vec![open.clone()])));
    assert_eq!(read("ffffffff"), Ok((true, vec![])));
    assert_eq!(read("fffffffe"), Ok((false, vec![])));
    assert_eq!(
        read("00000001 00000001 00000002 6970 00000001 ff"),
        Ok((false, vec![Acl::new(1, "ip", "\u{fffd}")]))
    );
    assert_eq!(read("00000001 00000001 ffffffff ffffffff"), Ok((true, vec![Acl::new(1, "", "")])));
    assert_eq!(read("00000002 00000001 ffffffff ffffffff"), Err(Malformed::Truncated));
    assert!(AclBytes::encode(std::slice::from_ref(&open)).is_open());
    assert_eq!(AclBytes::OPEN.decode(), [open]);
    assert_eq!(AclBytes::READ_ONLY.decode(), [Acl::new(1, "world", "anyone")]);
    assert_eq!(AclBytes::from_canonical(&bytes(OPEN_HEX)), Some(AclBytes::OPEN));
    assert_eq!(AclBytes::from_canonical(&bytes("fffffffe")), None);
    assert_eq!(AclBytes::from_canonical(&bytes(&format!("{OPEN_HEX} 00"))), None);
}

fn path() -> impl Strategy<Value = Cow<'static, str>> {
    "/[a-zé]{0,9}".prop_map(Cow::Owned)
}

fn data() -> impl Strategy<Value = Option<Cow<'static, [u8]>>> {
    prop::option::of(prop::collection::vec(any::<u8>(), 0..20).prop_map(Cow::Owned))
}

fn acl() -> impl Strategy<Value = AclBytes<'static>> {
    let entry = (any::<i32>(), "[a-z]{0,6}", "[a-z:]{0,6}")
        .prop_map(|(perms, scheme, id)| Acl::new(perms, &scheme, &id));
    prop_oneof![
        Just(AclBytes::OPEN),
        prop::collection::vec(entry, 0..4).prop_map(|list| AclBytes::encode(&list)),
    ]
}

fn creation() -> impl Strategy<Value = Create<'static>> {
    let kind = prop_oneof![
        (any::<bool>(), any::<bool>())
            .prop_map(|(create2, ephemeral)| CreateKind::Plain { create2, ephemeral }),
        Just(CreateKind::Container),
        any::<i64>().prop_map(CreateKind::Ttl),
    ];
    (path(), data(), acl(), kind, any::<i32>()).prop_map(|(path, data, acl, kind, parent_cversion)| Create {
        path,
        data,
        acl,
        kind,
        parent_cversion,
    })
}

fn sub_txn() -> impl Strategy<Value = SubTxn<'static>> {
    prop_oneof![
        any::<i32>().prop_map(SubTxn::error),
        creation().prop_map(SubTxn::Create),
        path().prop_map(|path| SubTxn::Delete { path }),
        path().prop_map(|path| SubTxn::DeleteContainer { path }),
        (path(), data(), any::<i32>()).prop_map(|(path, data, version)| SubTxn::SetData {
            path,
            data,
            version
        }),
        (path(), any::<i32>()).prop_map(|(path, version)| SubTxn::Check { path, version }),
    ]
}

fn body() -> impl Strategy<Value = TxnBody<'static>> {
    prop_oneof![
        any::<i32>().prop_map(|timeout_ms| TxnBody::CreateSession { timeout_ms }),
        prop::collection::vec(path(), 0..4).prop_map(|paths| TxnBody::CloseSession { paths: Some(paths) }),
        any::<i32>().prop_map(|code| TxnBody::Error { code }),
        creation().prop_map(TxnBody::Create),
        path().prop_map(|path| TxnBody::Delete { path }),
        path().prop_map(|path| TxnBody::DeleteContainer { path }),
        (path(), data(), any::<i32>()).prop_map(|(path, data, version)| TxnBody::SetData {
            path,
            data,
            version
        }),
        (path(), acl(), any::<i32>()).prop_map(|(path, acl, version)| TxnBody::SetAcl { path, acl, version }),
        (path(), data(), any::<i32>()).prop_map(|(path, data, version)| TxnBody::Reconfig {
            path,
            data,
            version
        }),
        prop::collection::vec(sub_txn(), 0..5).prop_map(TxnBody::Multi),
    ]
}

proptest! {
    #[test]
    fn entries_come_back(
        session: i64, cxid: i32, zxid: u64, time: i64, body in body(), tree: Option<u64>, trailer in 0..2_usize,
    ) {
        let header = TxnHeader {
            session: SessionId(session),
            cxid: Xid(cxid),
            zxid: Zxid(zxid),
            time: WallMillis(time),
            kind: body.kind(),
        };
        let entry = TxnEntry { header, body, digest: tree.map(TxnDigest::of) };
        let mut out = Vec::new();
        entry.encode(&mut out);
        let whole = out.len();
        // The log hands entries over without their trailers. Only for closeSession it must: four bytes of an empty
        // list and eight of a trailer look like a digest behind no body.
        let trailer = if header.kind == kind::CLOSE_SESSION { 0 } else { trailer };
        out.extend_from_slice(&[0xd6; 8][..8 * trailer]);
        let (found, consumed) = TxnEntry::decode(&out).unwrap();
        prop_assert_eq!(&found.body, &entry.body);
        prop_assert_eq!(found.header, header);
        // With nothing but a trailer behind it, an entry without a digest still has none.
        prop_assert_eq!(found.digest, entry.digest);
        prop_assert_eq!(consumed, whole);
    }
}
