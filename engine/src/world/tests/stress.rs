//! Readers on Views of their own beside a writer that never stops.

use super::super::*;
use super::{Random, SETTINGS, verify};
use crate::model::{SessionId, WallMillis, Xid};
use crate::wire::{AclBytes, Create, CreateKind, TxnBody, TxnHeader};
use ostler_replication::Zxid;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

fn write(head: &mut Head, random: &mut Random, zxid: u64, changes: &mut Changes) {
    let header =
        TxnHeader { session: SessionId(7), cxid: Xid(0), zxid: Zxid(zxid), time: WallMillis(9), kind: 0 };
    let path = format!("/{}/{}", random.below(3), random.below(60));
    let data: Vec<u8> = vec![zxid as u8; if random.one_in(9) { 700 } else { random.below(40) }];
    let body = match random.below(4) {
        0 => TxnBody::Delete { path: path.into() },
        1 => TxnBody::SetData { path: path.into(), data: Some(data.into()), version: zxid as i32 },
        _ => {
            let kind = CreateKind::Plain { create2: false, ephemeral: false };
            let path = if random.one_in(30) { path[..2].to_owned() } else { path };
            let acl = if random.one_in(2) { AclBytes::OPEN } else { AclBytes::READ_ONLY };
            TxnBody::Create(Create {
                path: path.into(),
                data: Some(data.into()),
                acl,
                kind,
                parent_cversion: -1,
            })
        }
    };
    head.apply(&header, &body, changes);
}

#[test]
fn readers_beside_the_writer_see_whole_views() {
    let (batches, readers) = if cfg!(miri) { (25, 2) } else { (6_000, 3) };
    let mut head = Head::new(SETTINGS);
    let current = Mutex::new(head.seal());
    let done = AtomicBool::new(false);
    let verified = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for reader in 0..readers {
            let (current, done, verified) = (&current, &done, &verified);
            scope.spawn(move || {
                let mut random = Random::new(reader + 100);
                while !done.load(Ordering::Relaxed) {
                    let view = current.lock().unwrap().clone();
                    for _ in 0..random.below(4) + 1 {
                        verify(&view);
                        verified.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        let mut random = Random::new(5);
        let (mut changes, mut zxid) = (Changes::default(), 0);
        for batch in 0..batches {
            for _ in 0..random.below(12) {
                zxid += 1;
                write(&mut head, &mut random, zxid, &mut changes);
            }
            changes = Changes::default();
            let boundary = head.zxid();
            let view = head.seal();
            if random.one_in(10) {
                let known = current.lock().unwrap().zxid();
                drop(view);
                head.rewind(known).unwrap();
                continue;
            }
            head.committed(boundary);
            *current.lock().unwrap() = view;
            head.reclaim(random.below(200));
            if batch % 500 == 0 {
                std::thread::yield_now();
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(verified.load(Ordering::Relaxed) > 0);
    verify(&current.into_inner().unwrap());
}
