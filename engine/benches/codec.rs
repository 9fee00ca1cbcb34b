//! The codec's share of a request: splitting frames, decoding requests, encoding replies and txns.
//! Paths are of production shape: 115 characters; data 46 and 100 bytes.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ostler_engine::model::{SessionId, Stat, WallMillis, Xid, path};
use ostler_engine::wire::frame::{Front, front};
use ostler_engine::wire::request::{AclField, CreateRequest};
use ostler_engine::wire::txn::encode_entry;
use ostler_engine::wire::{
    AclBytes, Create, CreateKind, OpCode, Request, RequestHeader, TxnBody, TxnDigest, TxnEntry, TxnHeader,
    reply,
};
use ostler_replication::Zxid;
use std::hint::black_box;

fn long_path() -> String {
    format!("/{}/{}/{}/{}", "a".repeat(30), "b".repeat(30), "c".repeat(27), "d".repeat(24))
}

fn stat() -> Stat {
    Stat {
        czxid: Zxid(1),
        mzxid: Zxid(2),
        ctime: WallMillis(3),
        mtime: WallMillis(4),
        version: 5,
        cversion: 6,
        aversion: 7,
        ephemeral_owner: 0,
        data_length: 46,
        num_children: 0,
        pzxid: Zxid(8),
    }
}

/// One read of 16 pipelined getData requests, from bytes to borrowed requests.
fn get_data(c: &mut Criterion) {
    let path = long_path();
    let mut stream = Vec::new();
    for xid in 0..16 {
        Request::GetData { path: path.as_str().into(), watch: false }.frame(Xid(xid), &mut stream);
    }
    let mut group = c.benchmark_group("codec");
    group.throughput(Throughput::Elements(16));
    group.bench_function("frame, header and getData record, 16 pipelined", |b| {
        b.iter(|| {
            let mut rest = black_box(&stream[..]);
            let mut bytes_of_paths = 0;
            while let Front::Frame { body, bytes } = front(rest, 0xf_ffff) {
                let (header, record) = RequestHeader::decode(body).unwrap();
                let op = OpCode::from_i32(header.op).unwrap();
                if let Ok(Request::GetData { path, .. }) = Request::decode(op, record) {
                    bytes_of_paths += path.len();
                }
                rest = &rest[bytes..];
            }
            bytes_of_paths
        });
    });
    let data = [7; 46];
    let stat = stat();
    let mut out = Vec::with_capacity(4096);
    group.throughput(Throughput::Elements(16));
    group.bench_function("getData replies, 16 pipelined", |b| {
        b.iter(|| {
            out.clear();
            for xid in 0..16 {
                reply::frame_data(&mut out, Xid(xid), Zxid(9), Some(black_box(&data)), black_box(&stat));
            }
            out.len()
        });
    });
    group.finish();
}

fn create(c: &mut Criterion) {
    let path = long_path();
    let request = CreateRequest {
        op: OpCode::Create,
        path: path.as_str().into(),
        data: Some(&[7; 100]),
        acl: AclField::of(&AclBytes::OPEN),
        flags: 0,
        ttl: -1,
    };
    let mut record = Vec::new();
    Request::Create(request).encode(&mut record);
    let mut group = c.benchmark_group("codec");
    group.bench_function("create record, with path validation", |b| {
        b.iter(|| {
            let Ok(Request::Create(create)) = Request::decode(OpCode::Create, black_box(&record)) else {
                panic!("this decodes")
            };
            path::validate(&create.path).is_ok() && create.acl.is_open()
        });
    });
    group.finish();
}

fn txn(c: &mut Criterion) {
    let path = long_path();
    let body = TxnBody::Create(Create {
        path: path.as_str().into(),
        data: Some((&[7; 100][..]).into()),
        acl: AclBytes::OPEN,
        kind: CreateKind::Plain { create2: false, ephemeral: false },
        parent_cversion: 3,
    });
    let header = TxnHeader {
        session: SessionId(1),
        cxid: Xid(2),
        zxid: Zxid(3),
        time: WallMillis(4),
        kind: body.kind(),
    };
    let digest = Some(TxnDigest::of(5));
    let mut out = Vec::with_capacity(4096);
    let mut group = c.benchmark_group("codec");
    group.bench_function("create txn, encode", |b| {
        b.iter(|| {
            out.clear();
            encode_entry(black_box(&header), black_box(&body), digest, &mut out);
            out.len()
        });
    });
    group.bench_function("create txn, decode", |b| {
        b.iter(|| TxnEntry::decode(black_box(&out)).map(|(entry, consumed)| (entry.digest, consumed)));
    });
    group.finish();
}

criterion_group!(benches, get_data, create, txn);
criterion_main!(benches);
