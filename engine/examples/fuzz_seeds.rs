//! Writes inputs that decode, for the fuzz targets to begin with: `cargo run -p ostler-engine --example fuzz_seeds -- DIR`
//! makes `DIR/TARGET/NAME`. They are made by the encoders, so that nobody has to keep binary files.

use ostler_engine::model::{SessionId, WallMillis, Xid};
use ostler_engine::snapshot::{Image, writer};
use ostler_engine::wire::request::MultiOp;
use ostler_engine::wire::txn::encode_entry;
use ostler_engine::wire::{
    AclBytes, ConnectRequest, Create, CreateKind, JutePut, OpCode, Request, SubTxn, TxnBody, TxnHeader,
};
use ostler_replication::packet::{self, LearnerInfo, Notification, PeerState, QuorumPacket, Side};
use ostler_replication::{ServerId, Zxid};
use std::borrow::Cow;
use std::io;
use std::path::Path;

/// Header, seals, digest and last zxid of a snapshot without a footer: what stands around the sections.
const SNAPSHOT_HEAD_BYTES: usize = 16;
const SNAPSHOT_TAIL_BYTES: usize = 5 + 13 + 33 + 21;

fn main() -> io::Result<()> {
    let dir = std::env::args().nth(1).ok_or_else(|| io::Error::other("usage: fuzz_seeds DIR"))?;
    let dir = Path::new(&dir);
    for (name, bytes) in requests() {
        put(dir, "request", &name, &bytes)?;
        let mut framed = vec![0; 2];
        framed.put_i32(bytes.len() as i32);
        framed.extend(&bytes);
        put(dir, "frame", &name, &framed)?;
    }
    for (name, bytes) in txns() {
        put(dir, "txn", name, &bytes)?;
    }
    let connect = ConnectRequest {
        protocol: 0,
        last_zxid_seen: Zxid(7),
        timeout_ms: 10_000,
        session: SessionId(1),
        password: Some([7; 16]),
        read_only: Some(false),
    };
    let mut bytes = Vec::new();
    connect.encode(&mut bytes);
    put(dir, "connect", "request", &bytes[4..])?;
    put(dir, "acl", "open", AclBytes::OPEN_BYTES)?;
    put(dir, "quota", "limits", b"count=5,bytes=-1;byteHardLimit=100;countHardLimit=9")?;
    put(dir, "path", "deep", b"/a/bc/..d/e-0000000001")?;
    let mut bytes = Vec::new();
    let written = writer::stream(&Image::initial(), &mut |piece| {
        bytes.extend_from_slice(piece);
        Ok::<(), io::Error>(())
    });
    written?;
    put(dir, "snapshot", "whole", &bytes)?;
    let sections = &bytes[SNAPSHOT_HEAD_BYTES..bytes.len() - SNAPSHOT_TAIL_BYTES];
    put(dir, "snapshot", "sections", sections)?;
    put(dir, "stream", "sections", &[&[0, 0], sections].concat())?;
    for (name, bytes) in peers() {
        put(dir, "peers", name, &[&[0, 0], &bytes[..]].concat())?;
    }
    Ok(())
}

/// First words, and what follows them.
fn peers() -> [(&'static str, Vec<u8>); 4] {
    let info = LearnerInfo { id: Some(ServerId(2)), protocol_version: 0x1_0000, config_version: 0 };
    let (state, config) = (PeerState::Looking, Some("version=0".to_owned()));
    let vote = Notification { state, leader: 2, zxid: 7, round: 1, epoch: 0, version: 2, config };
    let proposal = QuorumPacket::Proposal { zxid: Zxid(9), entry: txns()[0].1.clone() };
    [
        ("handshake", packet::handshake::encode(ServerId(2), &["127.0.0.1:3888".to_owned()], false)),
        ("vote", packet::notification::encode(&vote)),
        (
            "follower",
            packet::quorum::encode(&QuorumPacket::FollowerInfo { accepted: Zxid(0), info }, Side::Learner),
        ),
        ("proposal", packet::quorum::encode(&proposal, Side::Leader)),
    ]
}

fn put(dir: &Path, target: &str, name: &str, bytes: &[u8]) -> io::Result<()> {
    let dir = dir.join(target);
    std::fs::create_dir_all(&dir)?;
    std::fs::write(dir.join(name), bytes)
}

/// One of many kinds, behind its header.
fn requests() -> Vec<(String, Vec<u8>)> {
    let path = || Cow::Borrowed("/a");
    let delete = || MultiOp::Delete { path: path(), version: -1 };
    let set = || MultiOp::SetData { path: path(), data: Some(b"x"), version: 3 };
    let plain = [
        Request::Delete { path: path(), version: -1 },
        Request::SetData { path: path(), data: Some(b"data"), version: 2 },
        Request::DeleteContainer { path: path() },
        Request::Multi(vec![MultiOp::Check { path: path(), version: 1 }, delete(), set()]),
    ];
    let encoded = plain.iter().map(|request| {
        let mut out = head(request.op());
        request.encode(&mut out);
        (format!("{:?}", request.op()), out)
    });
    // The creates by hand: their ACL is a field as a client sends it.
    let creates = [OpCode::Create, OpCode::Create2, OpCode::CreateContainer, OpCode::CreateTtl].map(|op| {
        let mut out = head(op);
        out.put_string("/a/b");
        out.put_buffer(Some(b"data"));
        out.extend_from_slice(AclBytes::OPEN_BYTES);
        out.put_i32(if op == OpCode::CreateTtl { 5 } else { 1 });
        if op == OpCode::CreateTtl {
            out.put_i64(1_000);
        }
        (format!("{op:?}"), out)
    });
    let reads = [OpCode::GetData, OpCode::Exists, OpCode::GetChildren2].map(|op| {
        let mut out = head(op);
        out.put_string("/a/b");
        out.put_bool(true);
        (format!("{op:?}"), out)
    });
    encoded.chain(creates).chain(reads).collect()
}

fn head(op: OpCode) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_i32(1);
    out.put_i32(op.to_i32());
    out
}

fn txns() -> Vec<(&'static str, Vec<u8>)> {
    let create = Create {
        path: "/a".into(),
        data: Some(b"data"[..].into()),
        acl: AclBytes::OPEN,
        kind: CreateKind::Plain { create2: false, ephemeral: true },
        parent_cversion: 1,
    };
    let bodies = [
        ("session", TxnBody::CreateSession { timeout_ms: 10_000 }),
        ("close", TxnBody::CloseSession { paths: Some(vec!["/a".into()]) }),
        ("error", TxnBody::Error { code: -101 }),
        ("create", TxnBody::Create(create)),
        ("delete", TxnBody::Delete { path: "/a".into() }),
        ("set", TxnBody::SetData { path: "/a".into(), data: None, version: 1 }),
        (
            "multi",
            TxnBody::Multi(vec![
                SubTxn::Delete { path: "/a".into() },
                SubTxn::Error { code: -2, foreign: None },
            ]),
        ),
    ];
    let encode = |(name, body): (&'static str, TxnBody<'_>)| {
        let (session, cxid, zxid) = (SessionId(1), Xid(1), Zxid(9));
        let header = TxnHeader { session, cxid, zxid, time: WallMillis(1_000), kind: body.kind() };
        let mut out = Vec::new();
        encode_entry(&header, &body, None, &mut out);
        (name, out)
    };
    bodies.map(encode).into()
}
