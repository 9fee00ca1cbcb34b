//! From a decoded request to what its txn says, or to the code that rejects it: each function makes
//! the checks of one operation, in Apache's order, against the newest state.
//! Not here: decoding, zxids, applying, sessions (who gets here has an open one).

use super::Settings;
use super::quota::Charge;
use crate::model::acl::{self, Networks, perms};
use crate::model::owner::TTL_MILLIS_MAX;
use crate::model::{Acl, ErrorCode, Identity, Owner, path};
use crate::wire::request::{AclField, CreateRequest};
use crate::wire::{AclBytes, Create, CreateKind, OpCode};
use crate::world::{Head, Known, Node};
use std::borrow::Cow;

/// Who asks, and what they are judged by.
#[derive(Clone, Copy)]
pub(super) struct Judge<'h> {
    pub head: &'h Head,
    pub settings: &'h Settings,
    /// As of the receipt of the request.
    pub ids: &'h [Identity],
}

/// CreateMode.
mod flags {
    pub const EPHEMERAL: i32 = 1;
    pub const EPHEMERAL_SEQUENTIAL: i32 = 3;
    pub const TTL: i32 = 5;
    pub const TTL_SEQUENTIAL: i32 = 6;
    pub const MAX: i32 = 6;
}

type Checked<T> = Result<T, ErrorCode>;

impl Judge<'_> {
    /// create, create2, createContainer, createTTL.
    pub fn create<'a>(&self, request: &CreateRequest<'a>, charge: &Charge) -> Checked<(Create<'a>, Known)> {
        let kind = self.create_kind(request)?;
        path::validate_create_first(&request.path)?;
        let acl = self.fixed_acl(&request.acl)?;
        let (parent_path, _) = path::split(&request.path).ok_or(ErrorCode::BadArguments)?;
        let parent = self.head.get(parent_path).ok_or(ErrorCode::NoNode)?;
        self.permitted(&parent, perms::CREATE)?;
        let parent_stat = parent.persisted();
        let path = if request.is_sequential() {
            Cow::Owned(path::sequential(&request.path, parent_stat.cversion))
        } else {
            request.path.clone()
        };
        path::validate(&path)?;
        if self.head.get(&path).is_some() {
            return Err(ErrorCode::NodeExists);
        }
        if parent_stat.owner.is_ephemeral() {
            return Err(ErrorCode::NoChildrenForEphemerals);
        }
        let bytes = request.data.map_or(0, <[u8]>::len) as i64;
        charge.permits(1, bytes)?;
        let data = request.data.map(Cow::Borrowed);
        let parent_cversion = parent_stat.cversion.wrapping_add(1);
        let known = Known { node: None, parent: Some(parent.id()) };
        Ok((Create { path, data, acl, kind, parent_cversion }, known))
    }

    /// Checks 1 to 4 of the table: flags, TTL switch, TTL value.
    fn create_kind(&self, request: &CreateRequest<'_>) -> Checked<CreateKind> {
        if !(0..=flags::MAX).contains(&request.flags) {
            return Err(ErrorCode::BadArguments);
        }
        let is_ttl = matches!(request.flags, flags::TTL | flags::TTL_SEQUENTIAL);
        if is_ttl && !self.settings.extended_types {
            return Err(ErrorCode::Unimplemented);
        }
        let ttl_fits =
            if is_ttl { (1..=TTL_MILLIS_MAX as i64).contains(&request.ttl) } else { request.ttl < 0 };
        if !ttl_fits {
            return Err(ErrorCode::BadArguments);
        }
        match request.op {
            // Under op 1 and 15 a TTL flag never gets here: their ttl is -1.
            OpCode::CreateTtl if is_ttl => Ok(CreateKind::Ttl(request.ttl)),
            // Apache lets this pass and dies of it.
            OpCode::CreateTtl => Err(ErrorCode::BadArguments),
            OpCode::CreateContainer => Ok(CreateKind::Container),
            op => Ok(CreateKind::Plain {
                create2: op == OpCode::Create2,
                ephemeral: matches!(request.flags, flags::EPHEMERAL | flags::EPHEMERAL_SEQUENTIAL),
            }),
        }
    }

    /// deleteContainer from a client gets the checks of a delete of any version, and Apache's own.
    pub fn delete_container(&self, path: &str) -> Checked<Known> {
        let known = self.delete(path, -1)?;
        reap(self.head, path)?;
        Ok(known)
    }

    pub fn delete(&self, path: &str, version: i32) -> Checked<Known> {
        path::validate_delete(path)?;
        let (parent_path, _) = path::split(path).ok_or(ErrorCode::BadArguments)?;
        let parent = self.head.get(parent_path).ok_or(ErrorCode::NoNode)?;
        self.permitted(&parent, perms::DELETE)?;
        let node = self.head.get(path).ok_or(ErrorCode::NoNode)?;
        matches_version(version, node.persisted().version)?;
        if node.child_count() > 0 {
            return Err(ErrorCode::NotEmpty);
        }
        Ok(Known { node: Some(node.id()), parent: Some(parent.id()) })
    }

    /// The new version, and the znode.
    pub fn set_data(
        &self,
        path: &str,
        data: Option<&[u8]>,
        version: i32,
        charge: &Charge,
    ) -> Checked<(i32, Known)> {
        path::validate(path)?;
        let node = self.head.get(path).ok_or(ErrorCode::NoNode)?;
        self.permitted(&node, perms::WRITE)?;
        let bytes = data.map_or(0, <[u8]>::len) as i64 - node.data().map_or(0, <[u8]>::len) as i64;
        charge.permits(0, bytes)?;
        Ok((matches_version(version, node.persisted().version)?, Known::node(&node)))
    }

    /// The ACL to store, the new aversion, and the znode.
    pub fn set_acl<'a>(
        &self,
        path: &str,
        acl: &AclField<'a>,
        version: i32,
    ) -> Checked<(AclBytes<'a>, i32, Known)> {
        path::validate(path)?;
        let acl = self.fixed_acl(acl)?;
        let node = self.head.get(path).ok_or(ErrorCode::NoNode)?;
        self.permitted(&node, perms::ADMIN)?;
        Ok((acl, matches_version(version, node.persisted().aversion)?, Known::node(&node)))
    }

    /// The version a check txn carries: one more than the one found.
    pub fn check(&self, path: &str, version: i32) -> Checked<i32> {
        path::validate(path)?;
        let node = self.head.get(path).ok_or(ErrorCode::NoNode)?;
        self.permitted(&node, perms::READ)?;
        matches_version(version, node.persisted().version)
    }

    fn fixed_acl<'a>(&self, sent: &AclField<'a>) -> Checked<AclBytes<'a>> {
        if sent.is_open() {
            return Ok(AclBytes::OPEN);
        }
        let Settings { schemes, entry_bytes_max, .. } = self.settings;
        acl::fix_up(sent.entries().as_deref(), self.ids, schemes, *entry_bytes_max)
            .map(|acl| AclBytes::encode(&acl))
            .map_err(|refusal| refusal.error())
    }

    fn permitted(&self, node: &Node<'_>, wanted: i32) -> Checked<()> {
        let permits = match self.head.acl(node.acl_id()) {
            Some(acl) => acl.is_open || acl.permits(wanted, self.ids, &self.settings.schemes),
            // Only damaged data leads here: nobody may, until someone who may do all repairs it.
            None => {
                let nobody = [Acl::new(0, "world", "anyone")];
                acl::permits(&nobody, &Networks::default(), wanted, self.ids, &self.settings.schemes)
            }
        };
        if permits { Ok(()) } else { Err(ErrorCode::NoAuth) }
    }
}

/// Reaping asks for the deletion of an empty container or TTL znode: what Apache checks of its own deleteContainer.
pub(super) fn reap(head: &Head, path: &str) -> Checked<()> {
    let node = head.get(path).ok_or(ErrorCode::NoNode)?;
    if node.child_count() > 0 {
        return Err(ErrorCode::NotEmpty);
    }
    if matches!(node.owner(), Owner::Ephemeral(_)) {
        return Err(ErrorCode::BadVersion);
    }
    Ok(())
}

/// -1 is any version; every other number, negative ones too, must be met. Gives the version after the change.
fn matches_version(expected: i32, found: i32) -> Checked<i32> {
    if expected != -1 && expected != found {
        return Err(ErrorCode::BadVersion);
    }
    Ok(found.wrapping_add(1))
}
