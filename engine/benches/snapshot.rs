//! Snapshots in production shape (paths of 115 characters, data of 46 bytes): encoding a View, writing and syncing the
//! file, reading with all checks, reading into a world.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ostler_engine::io::disk::RealDisk;
use ostler_engine::model::{SessionId, WallMillis, Xid};
use ostler_engine::snapshot::{
    Compression, Pinned, ReadOptions, Restore, SnapshotNode, load_newest, reader, writer,
};
use ostler_engine::wire::{AclBytes, Create, CreateKind, TxnBody, TxnHeader};
use ostler_engine::world::{Changes, Head, Restorer, Settings};
use ostler_replication::Zxid;
use std::ops::ControlFlow;

const ZNODES: u64 = 200_000;
const CHILDREN: u64 = 1_000;
const SETTINGS: Settings = Settings { hash_seed: [1, 2], digests: true };

fn create(head: &mut Head, zxid: u64, path: String, data: usize) {
    let body = TxnBody::Create(Create {
        path: path.into(),
        data: Some(vec![zxid as u8; data].into()),
        acl: AclBytes::OPEN,
        kind: CreateKind::Plain { create2: false, ephemeral: false },
        parent_cversion: -1,
    });
    let header = TxnHeader {
        session: SessionId(1),
        cxid: Xid(1),
        zxid: Zxid(zxid),
        time: WallMillis(zxid as i64),
        kind: body.kind(),
    };
    let result = head.apply(&header, &body, &mut Changes::default());
    assert_eq!(result.error, 0);
}

fn production() -> Head {
    let mut head = Head::new(SETTINGS);
    let mut zxid = 0;
    let top = format!("/{}", "a".repeat(40));
    zxid += 1;
    create(&mut head, zxid, top.clone(), 0);
    for parent in 0..ZNODES / CHILDREN {
        let parent = format!("{top}/{parent:048}");
        zxid += 1;
        create(&mut head, zxid, parent.clone(), 0);
        for child in 0..CHILDREN {
            zxid += 1;
            create(&mut head, zxid, format!("{parent}/{child:024}"), 46);
        }
        head.seal();
        head.committed(Zxid(zxid));
        head.reclaim(usize::MAX);
    }
    head
}

struct Nothing;

impl Restore for Nothing {
    fn session(&mut self, _: SessionId, _: i32) -> Result<(), String> {
        Ok(())
    }
    fn acl(&mut self, _: i64, _: &[u8]) -> Result<(), String> {
        Ok(())
    }
    fn node(&mut self, _: SnapshotNode<'_>) -> Result<(), String> {
        Ok(())
    }
}

fn snapshot(c: &mut Criterion) {
    let mut head = production();
    let source = Pinned { view: head.seal(), digest: true };
    let dir = tempfile::tempdir().unwrap();
    let write = |compression| {
        writer::write(&RealDisk, dir.path(), &source, compression, &mut |_| ControlFlow::Continue(()))
            .unwrap()
    };
    let plain = write(Compression::Plain);
    let mut group = c.benchmark_group("snapshot");
    group.sample_size(10).throughput(Throughput::Bytes(plain.plain_bytes));
    group.bench_function("encode", |b| {
        b.iter(|| {
            let mut bytes = 0;
            writer::stream(&source, &mut |piece| {
                bytes += piece.len();
                Ok::<(), ()>(())
            })
            .unwrap();
            bytes
        })
    });
    group.bench_function("write and sync", |b| b.iter(|| write(Compression::Plain)));
    for ahead in [false, true] {
        let options = ReadOptions { ahead, ..ReadOptions::default() };
        let name = if ahead { "read ahead" } else { "read" };
        group.bench_function(format!("{name} and check"), |b| {
            b.iter(|| reader::read(&RealDisk, &plain.path, options, &mut Nothing).unwrap())
        });
        group.bench_function(format!("{name} into a world"), |b| {
            b.iter(|| {
                let loaded =
                    load_newest(&RealDisk, dir.path(), options, |zxid| Restorer::new(SETTINGS, zxid));
                loaded.unwrap().unwrap().restored.finish().unwrap()
            })
        });
    }
    group.finish();
}

criterion_group!(benches, snapshot);
criterion_main!(benches);
