//! A snapshot held whole as plain values: for the offline tools and for tests. A server never uses this.

use super::{OPEN_ACL_KEY, Restore, SnapshotNode, SnapshotSource};
use crate::model::{Owner, SessionId, StatPersisted, WallMillis};
use ostler_replication::Zxid;
use std::ops::ControlFlow;

/// Everything a snapshot says, in file order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Image {
    pub zxid: Zxid,
    /// Tree digest to write; reading leaves it alone.
    pub digest: Option<u64>,
    pub sessions: Vec<(SessionId, i32)>,
    /// Key, and the jute encoding of the vector.
    pub acls: Vec<(i64, Box<[u8]>)>,
    pub nodes: Vec<ImageNode>,
}

/// One znode, owned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ImageNode {
    pub path: Box<str>,
    pub data: Option<Box<[u8]>>,
    pub acl: i64,
    pub stat: StatPersisted,
}

impl Image {
    /// What a virgin standalone server starts with, in the order Apache writes it.
    pub fn initial() -> Image {
        const READ_ANYONE: i64 = 1;
        let stat = StatPersisted::created(Zxid::ZERO, WallMillis(0), Owner::Persistent);
        let node = |path: &str, acl, aversion| ImageNode {
            path: path.into(),
            data: Some(Box::default()),
            acl,
            stat: StatPersisted { aversion, ..stat },
        };
        Image {
            zxid: Zxid::ZERO,
            digest: None,
            sessions: Vec::new(),
            acls: vec![(READ_ANYONE, b"\0\0\0\x01\0\0\0\x01\0\0\0\x05world\0\0\0\x06anyone"[..].into())],
            nodes: vec![
                node("", OPEN_ACL_KEY, 0),
                node("/zookeeper", OPEN_ACL_KEY, 0),
                node("/zookeeper/config", READ_ANYONE, -1),
                node("/zookeeper/quota", OPEN_ACL_KEY, 0),
            ],
        }
    }
}

impl SnapshotSource for Image {
    fn zxid(&self) -> Zxid {
        self.zxid
    }

    fn digest(&self) -> Option<u64> {
        self.digest
    }

    fn sessions(&self, put: &mut dyn FnMut(SessionId, i32)) {
        self.sessions.iter().for_each(|(id, timeout_ms)| put(*id, *timeout_ms));
    }

    fn acls(&self, put: &mut dyn FnMut(i64, &[u8])) {
        self.acls.iter().for_each(|(key, acl)| put(*key, acl));
    }

    fn nodes(&self, put: &mut dyn FnMut(SnapshotNode<'_>) -> ControlFlow<()>) {
        // Whoever breaks off has seen enough.
        let _ = self.nodes.iter().try_for_each(|node| {
            put(SnapshotNode { path: &node.path, data: node.data.as_deref(), acl: node.acl, stat: node.stat })
        });
    }
}

impl Restore for Image {
    fn session(&mut self, id: SessionId, timeout_ms: i32) -> Result<(), String> {
        self.sessions.push((id, timeout_ms));
        Ok(())
    }

    fn acl(&mut self, key: i64, acl: &[u8]) -> Result<(), String> {
        self.acls.push((key, acl.into()));
        Ok(())
    }

    fn node(&mut self, node: SnapshotNode<'_>) -> Result<(), String> {
        let SnapshotNode { path, data, acl, stat } = node;
        self.nodes.push(ImageNode { path: path.into(), data: data.map(Into::into), acl, stat });
        Ok(())
    }
}
