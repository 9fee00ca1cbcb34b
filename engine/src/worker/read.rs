//! Requests that a worker answers by itself: reads of its View, watches, ping, whoAmI.
//! Not here: order and pipelining (`serve`), the tree (`world`), anything that changes state.
//! Every reply's zxid is the View's.

use super::catch_up::{self, Present};
use super::stream::{CHILDREN_PORTION, Stream};
use super::watch::{Mode, WatcherType, Watches};
use crate::limits::REPLY_BYTES_PORTION;
use crate::model::acl::{masked, perms};
use crate::model::{ErrorCode, Identity, Schemes, Xid, path};
use crate::wire::jute::JutePut;
use crate::wire::reply;
use crate::wire::request::{MultiReadOp, SetWatches};
use crate::wire::{AclBytes, OpCode, Request};
use crate::world::{AclId, AclList, ChildOrder, Node, PathHash, View};
use std::sync::Arc;

/// Who asks, and what it is answered from.
pub struct Reading<'a> {
    pub view: &'a View,
    pub schemes: &'a Schemes,
    pub ids: &'a Arc<[Identity]>,
    pub watches: &'a mut Watches,
    pub order: &'a mut ChildOrder,
    pub slot: u32,
    pub xid: Xid,
    pub out: &'a mut Vec<u8>,
}

/// `Some` when the reply is too large for this turn.
pub type Rest = Option<Box<Stream>>;

impl Reading<'_> {
    /// Answers a request that decoded. `hash` is the path's, where it is known already.
    #[inline]
    pub fn serve(&mut self, op: OpCode, request: &Request<'_>, hash: Option<PathHash>) -> Rest {
        match request {
            Request::GetData { path, watch } => self.get_data(path, *watch, hash),
            Request::Exists { path, watch } => self.exists(path, *watch, hash),
            Request::GetChildren { path, watch } | Request::GetChildren2 { path, watch } => {
                return self.get_children(op, path, *watch, hash);
            }
            Request::Ping => self.bare(ErrorCode::Ok),
            Request::GetAcl { path } => self.get_acl(path),
            Request::GetAllChildrenNumber { path } => return self.count_all(path),
            Request::MultiRead(operations) => return self.multi_read(operations),
            Request::WhoAmI => self.who_am_i(),
            Request::SetWatches(lists) => return self.set_watches(lists),
            Request::AddWatch { path, mode } => self.add_watch(path, *mode),
            Request::CheckWatches { path, kind } => self.check_watches(path, *kind),
            Request::RemoveWatches { path, kind } => self.remove_watches(path, *kind),
            _ => unreachable!("the core's request or the connection's own came to the reader"),
        }
        None
    }

    /// A reply that is only a header.
    pub fn bare(&mut self, error: ErrorCode) {
        reply::frame_bare(self.out, self.xid, self.view.zxid(), error);
    }

    #[inline]
    fn get_data(&mut self, path: &str, watch: bool, hash: Option<PathHash>) {
        let view = self.view;
        let node = match lookup(view, path, hash, self.ids, self.schemes) {
            Ok(node) => node,
            Err(error) => return self.bare(error),
        };
        reply::frame_data(self.out, self.xid, view.zxid(), node.data(), &node.stat());
        if watch {
            self.watches.add(path, Some(node.id().number()), self.slot, Mode::Data);
        }
    }

    /// The watch is registered on a missing znode, too; on a forbidden one it is not.
    fn exists(&mut self, path: &str, watch: bool, hash: Option<PathHash>) {
        if let Err(error) = path::validate_exists(path) {
            return self.bare(error);
        }
        let view = self.view;
        match lookup(view, path, hash, self.ids, self.schemes) {
            Ok(node) => {
                reply::frame_stat(self.out, self.xid, view.zxid(), &node.stat());
                if watch {
                    self.watches.add(path, Some(node.id().number()), self.slot, Mode::Data);
                }
            }
            Err(error) => {
                self.bare(error);
                if watch && error == ErrorCode::NoNode {
                    self.watches.add(path, None, self.slot, Mode::Data);
                }
            }
        }
    }

    fn get_children(&mut self, op: OpCode, path: &str, watch: bool, hash: Option<PathHash>) -> Rest {
        let view = self.view;
        let node = match lookup(view, path, hash, self.ids, self.schemes) {
            Ok(node) => node,
            Err(error) => {
                self.bare(error);
                return None;
            }
        };
        if watch {
            self.watches.add(path, Some(node.id().number()), self.slot, Mode::Child);
        }
        let stat = (op == OpCode::GetChildren2).then(|| node.stat());
        if node.child_count() as usize > CHILDREN_PORTION {
            let listing = view.listing(&node);
            return Some(Box::new(Stream::children(self.xid, op, view.clone(), listing, stat)));
        }
        let start = self.out.len();
        let mut fits = true;
        reply::frame_reply(self.out, self.xid, view.zxid(), ErrorCode::Ok, |out| {
            out.put_count(node.child_count() as usize);
            for child in node.children_in_order(self.order) {
                out.put_string(child.name());
                fits = out.len() - start <= REPLY_BYTES_PORTION;
                if !fits {
                    break;
                }
            }
            if let Some(stat) = &stat {
                out.put_stat(stat);
            }
        });
        if !fits {
            // A single name can be as long as a frame.
            self.out.truncate(start);
            let listing = view.listing(&node);
            return Some(Box::new(Stream::children(self.xid, op, view.clone(), listing, stat)));
        }
        None
    }

    /// READ or ADMIN lets one see the list; without ADMIN the hashes in digest ids are hidden.
    fn get_acl(&mut self, path: &str) {
        let view = self.view;
        let Some(node) = view.get(path) else { return self.bare(ErrorCode::NoNode) };
        let may = |wanted| acl_permits(view, node.acl_id(), wanted, self.ids, self.schemes);
        let is_admin = may(perms::ADMIN);
        if !is_admin && !may(perms::READ) {
            return self.bare(ErrorCode::NoAuth);
        }
        let (stat, acl) = (node.stat(), view.acl(node.acl_id()));
        reply::frame_reply(self.out, self.xid, view.zxid(), ErrorCode::Ok, |out| {
            match acl {
                Some(acl) if is_admin => out.extend_from_slice(&acl.bytes),
                Some(acl) => out.extend_from_slice(AclBytes::encode(&masked(&acl.list)).bytes()),
                None => out.put_count(0),
            }
            out.put_stat(&stat);
        });
    }

    fn count_all(&mut self, path: &str) -> Rest {
        let view = self.view;
        let mut census = match lookup(view, path, None, self.ids, self.schemes) {
            Ok(node) => view.census(&node),
            Err(error) => {
                self.bare(error);
                return None;
            }
        };
        let Some(count) = census.portion(CHILDREN_PORTION) else {
            let op = OpCode::GetAllChildrenNumber;
            return Some(Box::new(Stream::count(self.xid, op, view.clone(), census)));
        };
        reply::frame_reply(self.out, self.xid, view.zxid(), ErrorCode::Ok, |out| {
            out.put_i32(count.min(i32::MAX as u64) as i32);
        });
        None
    }

    /// Each operation by itself; no watches. Even a short list may ask for gigabytes, so it is always produced apart.
    fn multi_read(&mut self, operations: &[MultiReadOp<'_>]) -> Rest {
        let operations = operations.iter().map(|operation| match operation {
            MultiReadOp::GetData { path } => (OpCode::GetData, path.as_ref().into()),
            MultiReadOp::GetChildren { path } => (OpCode::GetChildren, path.as_ref().into()),
        });
        let (view, ids) = (self.view.clone(), self.ids.clone());
        Some(Box::new(Stream::multi_read(self.xid, view, operations.collect(), ids)))
    }

    fn who_am_i(&mut self) {
        let (ids, schemes) = (self.ids, self.schemes);
        reply::frame_reply(self.out, self.xid, self.view.zxid(), ErrorCode::Ok, |out| {
            out.put_count(ids.len());
            for id in ids.iter() {
                out.put_string(&id.scheme);
                out.put_string(schemes.display_name(id));
            }
        });
    }

    /// Events first, then the reply.
    fn set_watches(&mut self, lists: &SetWatches<'_>) -> Rest {
        let present = Present { view: self.view, watches: self.watches, slot: self.slot };
        if let Some(rest) = catch_up::begin(lists, present, self.out) {
            let op = if lists.two { OpCode::SetWatches2 } else { OpCode::SetWatches };
            return Some(Box::new(Stream::catch_up(self.xid, op, self.view.clone(), rest)));
        }
        self.bare(ErrorCode::Ok);
        None
    }

    fn add_watch(&mut self, path: &str, mode: i32) {
        let mode = match mode {
            0 => Mode::Persistent,
            1 => Mode::Recursive,
            _ => return self.bare(ErrorCode::MarshallingError),
        };
        let node = self.view.get(path).map(|node| node.id().number());
        self.watches.add(path, node, self.slot, mode);
        // The response record is an ErrorResponse of its own.
        reply::frame_reply(self.out, self.xid, self.view.zxid(), ErrorCode::Ok, |out| out.put_i32(0));
    }

    fn check_watches(&mut self, path: &str, kind: i32) {
        let Some(kind) = WatcherType::from_wire(kind) else { return self.bare(ErrorCode::MarshallingError) };
        let found = self.watches.contains(path, self.slot, kind);
        self.bare(if found { ErrorCode::Ok } else { ErrorCode::NoWatcher });
    }

    fn remove_watches(&mut self, path: &str, kind: i32) {
        let Some(kind) = WatcherType::from_wire(kind) else { return self.bare(ErrorCode::MarshallingError) };
        let removed = self.watches.remove(path, self.slot, kind);
        self.bare(if removed { ErrorCode::Ok } else { ErrorCode::NoWatcher });
    }
}

/// The znode if it is there and may be read.
#[inline]
pub fn lookup<'v>(
    view: &'v View,
    path: &str,
    hash: Option<PathHash>,
    ids: &[Identity],
    schemes: &Schemes,
) -> Result<Node<'v>, ErrorCode> {
    let node = match hash {
        Some(hash) => view.get_hashed(hash, path),
        None => view.get(path),
    };
    let node = node.ok_or(ErrorCode::NoNode)?;
    if acl_permits(view, node.acl_id(), perms::READ, ids, schemes) {
        Ok(node)
    } else {
        Err(ErrorCode::NoAuth)
    }
}

/// Whether the ACL with this id, of this View or of its batch's changes, lets these ids do `wanted`.
#[inline]
pub fn acl_permits(view: &View, acl: AclId, wanted: i32, ids: &[Identity], schemes: &Schemes) -> bool {
    acl == AclId::OPEN || listed(view, acl).is_some_and(|acl| acl.permits(wanted, ids, schemes))
}

#[cold]
fn listed(view: &View, acl: AclId) -> Option<&AclList> {
    view.acl(acl)
}
