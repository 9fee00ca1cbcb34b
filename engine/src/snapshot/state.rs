//! The world as a snapshot's source and as what a snapshot is read into.
//! Not here: the format, the world itself.

use super::{OPEN_ACL_KEY, Restore, SnapshotNode, SnapshotSource};
use crate::model::SessionId;
use crate::wire::AclBytes;
use crate::wire::jute::Reader;
use crate::world::{AclId, Foreseen, Foresight, PagesAhead, Restorer, View};
use ostler_replication::Zxid;
use std::ops::ControlFlow;

/// A View to be written.
pub struct Pinned {
    pub view: View,
    /// Whether the tree's digest is kept.
    pub digest: bool,
}

fn key(acl: AclId) -> i64 {
    if acl == AclId::OPEN { OPEN_ACL_KEY } else { i64::from(acl.0) }
}

impl SnapshotSource for Pinned {
    fn zxid(&self) -> Zxid {
        self.view.zxid()
    }

    fn digest(&self) -> Option<u64> {
        self.digest.then(|| self.view.totals().digest)
    }

    fn sessions(&self, put: &mut dyn FnMut(SessionId, i32)) {
        self.view.sessions().for_each(|(id, timeout_ms)| put(id, timeout_ms));
    }

    fn acls(&self, put: &mut dyn FnMut(i64, &[u8])) {
        self.view.acls().filter(|(id, _)| *id != AclId::OPEN).for_each(|(id, acl)| put(key(id), &acl.bytes));
    }

    fn nodes(&self, put: &mut dyn FnMut(SnapshotNode<'_>) -> ControlFlow<()>) {
        let mut walk = self.view.walk();
        while let Some((path, node)) = walk.next() {
            let node =
                SnapshotNode { path, data: node.data(), acl: key(node.acl_id()), stat: node.persisted() };
            if put(node).is_break() {
                return;
            }
        }
    }
}

impl Restore for Restorer {
    fn session(&mut self, id: SessionId, timeout_ms: i32) -> Result<(), String> {
        Restorer::session(self, id, timeout_ms).map_err(|error| error.to_string())
    }

    fn acl(&mut self, key: i64, acl: &[u8]) -> Result<(), String> {
        let acl = AclBytes::read(&mut Reader::new(acl)).map_err(|error| error.to_string())?;
        Restorer::acl(self, key, &acl).map_err(|error| error.to_string())
    }

    fn node(&mut self, node: SnapshotNode<'_>) -> Result<(), String> {
        Restorer::node(self, node.path, node.data, node.acl, node.stat).map_err(|error| error.to_string())
    }

    fn foresight(&self) -> Option<Foresight> {
        Some(Restorer::foresight(self))
    }

    fn pages_ahead(&self) -> Option<PagesAhead> {
        Some(Restorer::pages_ahead(self))
    }

    fn node_foreseen(&mut self, node: SnapshotNode<'_>, foreseen: Foreseen) -> Result<(), String> {
        let SnapshotNode { path, data, acl, stat } = node;
        Restorer::node_foreseen(self, path, data, acl, stat, foreseen).map_err(|error| error.to_string())
    }

    fn gather(&mut self) {
        Restorer::gather(self);
    }

    fn complete(&mut self) -> Result<(), (u64, String)> {
        Restorer::complete(self).map_err(|(place, error)| (place, error.to_string()))
    }

    fn expect(&self, foreseen: Foreseen) {
        Restorer::expect(self, foreseen);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::disk::RealDisk;
    use crate::model::{WallMillis, Xid};
    use crate::snapshot::{Compression, Image, ReadOptions, load_newest, reader, writer};
    use crate::wire::txn::{Create, CreateKind, TxnBody, TxnHeader};
    use crate::world::{Changes, Head, Settings};

    const SETTINGS: Settings = Settings { hash_seed: [3, 4], digests: true };
    const SESSION: SessionId = SessionId(0x100_0000_0000_0001);

    fn apply(head: &mut Head, zxid: u64, body: TxnBody<'_>) {
        let header = TxnHeader {
            session: SESSION,
            cxid: Xid(0),
            zxid: Zxid(zxid),
            time: WallMillis(1_000 + zxid as i64),
            kind: body.kind(),
        };
        head.apply(&header, &body, &mut Changes::default());
    }

    fn create(
        path: &str,
        data: Option<Vec<u8>>,
        acl: &AclBytes<'static>,
        kind: CreateKind,
    ) -> TxnBody<'static> {
        TxnBody::Create(Create {
            path: path.to_owned().into(),
            data: data.map(Into::into),
            acl: acl.clone(),
            kind,
            parent_cversion: -1,
        })
    }

    /// One of each kind, in two levels, and enough to fill several pieces.
    fn populated() -> Head {
        const PLAIN: CreateKind = CreateKind::Plain { create2: false, ephemeral: false };
        const EPHEMERAL: CreateKind = CreateKind::Plain { create2: true, ephemeral: true };
        let mut head = Head::new(SETTINGS);
        let (open, read) = (AclBytes::OPEN, AclBytes::READ_ONLY);
        apply(&mut head, 1, TxnBody::CreateSession { timeout_ms: 30_000 });
        apply(&mut head, 2, create("/a", None, &open, PLAIN));
        apply(&mut head, 3, create("/a/e", Some(b"mine".to_vec()), &read, EPHEMERAL));
        apply(&mut head, 4, create("/c", Some(Vec::new()), &open, CreateKind::Container));
        apply(&mut head, 5, create("/t", Some(b"soon".to_vec()), &read, CreateKind::Ttl(60_000)));
        for n in 6..3_000 {
            let data = Some(vec![n as u8; (n * 7 % 600) as usize]);
            apply(&mut head, n, create(&format!("/a/{n}"), data, &open, PLAIN));
        }
        apply(&mut head, 3_000, TxnBody::Delete { path: "/a/77".into() });
        apply(&mut head, 3_001, TxnBody::SetData { path: "/a/78".into(), data: None, version: 1 });
        head
    }

    fn image_of(view: View) -> Image {
        let source = Pinned { view, digest: true };
        let mut image = Image { zxid: source.zxid(), digest: source.digest(), ..Image::default() };
        source.sessions(&mut |id, timeout_ms| Restore::session(&mut image, id, timeout_ms).unwrap());
        source.acls(&mut |key, acl| Restore::acl(&mut image, key, acl).unwrap());
        source.nodes(&mut |node| {
            Restore::node(&mut image, node).unwrap();
            ControlFlow::Continue(())
        });
        image.nodes.sort_by(|a, b| a.path.cmp(&b.path));
        image
    }

    #[test]
    fn a_new_world_is_apaches_initial_snapshot_to_the_byte() {
        let source = Pinned { view: Head::new(SETTINGS).seal(), digest: true };
        let mut bytes = Vec::new();
        writer::stream(&source, &mut |piece| {
            bytes.extend_from_slice(piece);
            Ok::<(), ()>(())
        })
        .unwrap();
        assert_eq!(bytes, include_bytes!("initial.golden"));
    }

    #[test]
    fn a_world_comes_back_as_it_was_and_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let mut head = populated();
        let source = Pinned { view: head.seal(), digest: true };
        // The View stays what it is while the world goes on and the ACL table grows.
        let acl = AclBytes::encode(&[crate::model::Acl {
            perms: 7,
            id: crate::model::Identity::new("ip", "10.0.0.1"),
        }]);
        apply(&mut head, 3_002, TxnBody::SetAcl { path: "/a".into(), acl: acl.clone(), version: 1 });
        apply(&mut head, 3_003, TxnBody::CloseSession { paths: Some(vec!["/a/e".into()]) });
        let _later = head.seal();
        for compression in [Compression::Plain, Compression::Gzip] {
            writer::write(&RealDisk, dir.path(), &source, compression, &mut |_| ControlFlow::Continue(()))
                .unwrap();
            let loaded = load_newest(&RealDisk, dir.path(), ReadOptions::default(), |zxid| {
                Restorer::new(SETTINGS, zxid)
            });
            let loaded = loaded.unwrap().unwrap();
            assert_eq!(loaded.zxid, Zxid(3_001));
            assert_eq!(loaded.contents.digest.unwrap().value, source.digest().unwrap());
            let mut back = loaded.restored.finish().unwrap();
            assert_eq!(back.digest(), source.digest().unwrap());
            let (was, is) = (image_of(source.view.clone()), image_of(back.seal()));
            assert_eq!((was.zxid, was.digest, &was.sessions), (is.zxid, is.digest, &is.sessions));
            assert!(
                was.nodes
                    .iter()
                    .map(|n| (&n.path, &n.data, n.stat))
                    .eq(is.nodes.iter().map(|n| (&n.path, &n.data, n.stat)))
            );
            // Replaying what came later leads to the same world.
            apply(&mut back, 3_002, TxnBody::SetAcl { path: "/a".into(), acl: acl.clone(), version: 1 });
            apply(&mut back, 3_003, TxnBody::CloseSession { paths: Some(vec!["/a/e".into()]) });
            assert_eq!(back.digest(), head.digest());
            std::fs::remove_file(loaded.path).unwrap();
        }
    }

    #[test]
    fn ahead_and_straight_say_the_same_of_znodes_that_are_there_twice() {
        let dir = tempfile::tempdir().unwrap();
        let image = image_of(populated().seal());
        let outcome = |image: &Image, ahead: bool| {
            let written = writer::write(&RealDisk, dir.path(), image, Compression::Gzip, &mut |_| {
                ControlFlow::Continue(())
            })
            .unwrap();
            let options = ReadOptions { ahead, ..ReadOptions::default() };
            let mut restorer = Restorer::new(SETTINGS, image.zxid);
            reader::read(&RealDisk, &written.path, options, &mut restorer).map_err(|error| error.to_string())
        };
        let check = |copies: &[(usize, usize)], expected: &str| {
            let mut image = image.clone();
            for (from, to) in copies {
                image.nodes[*to] = image.nodes[*from].clone();
            }
            let error = outcome(&image, false).unwrap_err();
            assert!(error.contains(expected), "{error}");
            assert_eq!(outcome(&image, true).unwrap_err(), error);
        };
        assert_eq!(outcome(&image, true), outcome(&image, false));
        let last = image.nodes.len() - 1;
        let path = |at: usize| image.nodes[at].path.to_string();
        check(&[(900, 2_000)], &format!("{:?} is there twice", path(900)));
        check(&[(900, 2_000), (700, 1_000)], &format!("{:?} is there twice", path(700)));
        check(&[(900, 2_000), (0, last)], &format!("{:?} is there twice", path(900)));
        check(&[(900, 2_000), (0, 1_000)], "is no path of a znode");
    }

    #[test]
    fn a_world_holds_the_znodes_of_its_snapshot_and_no_other() {
        // As a server of 3.4 wrote them, which knew no /zookeeper/config.
        let nodes = [("", 0), ("/zookeeper", -1), ("/zookeeper/quota", 0), ("/t", 0)];
        for holds in [nodes.as_slice(), &nodes[..1]] {
            let mut restorer = Restorer::new(SETTINGS, Zxid(1));
            for &(path, cversion) in holds {
                let owner = crate::model::Owner::Persistent;
                let stat = crate::model::StatPersisted::created(Zxid::ZERO, WallMillis(0), owner);
                restorer.node(path, Some(b""), -1, crate::model::StatPersisted { cversion, ..stat }).unwrap();
            }
            let head = restorer.finish().unwrap();
            assert_eq!(head.totals().znodes, holds.len() as u64);
            for &(path, cversion) in &holds[1..] {
                assert_eq!(head.get(path).unwrap().persisted().cversion, cversion, "{path}");
            }
        }
    }

    #[test]
    fn an_acl_that_is_not_utf8_does_not_make_a_snapshot_unusable() {
        // A supplementary character as Apache's writer encodes it: two surrogates of three bytes.
        let mut acl = b"\0\0\0\x01\0\0\0\x1f\0\0\0\x04auth\0\0\0\x06".to_vec();
        acl.extend([0xed, 0xa0, 0xbd, 0xed, 0xb8, 0x80]);
        let mut restorer = Restorer::new(SETTINGS, Zxid(1));
        assert_eq!(Restore::acl(&mut restorer, 5, &acl), Ok(()));
    }
}
