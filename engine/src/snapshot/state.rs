//! The world as a snapshot's source and as what a snapshot is read into.
//! Not here: the format, the world itself.

use super::{OPEN_ACL_KEY, Restore, SnapshotNode, SnapshotSource};
use crate::model::SessionId;
use crate::wire::AclBytes;
use crate::world::{AclId, Restorer, View};
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

    fn session_count(&self) -> usize {
        self.view.sessions().count()
    }

    fn sessions(&self, put: &mut dyn FnMut(SessionId, i32)) {
        self.view.sessions().for_each(|(id, timeout_ms)| put(id, timeout_ms));
    }

    fn acl_count(&self) -> usize {
        self.view.acls().filter(|(id, _)| *id != AclId::OPEN).count()
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
        Restorer::session(self, id, timeout_ms);
        Ok(())
    }

    fn acl(&mut self, key: i64, acl: &[u8]) -> Result<(), String> {
        let acl = AclBytes::from_canonical(acl).ok_or("an ACL is not encoded as any server does")?;
        Restorer::acl(self, key, &acl);
        Ok(())
    }

    fn node(&mut self, node: SnapshotNode<'_>) -> Result<(), String> {
        Restorer::node(self, node.path, node.data, node.acl, node.stat).map_err(|error| error.to_string())
    }
}
