//! Looking ahead: which znodes the requests that wait will touch, so that their memory is fetched together.
//! Not here: deciding anything; what cannot be read here is read again, and refused, by validation.

use crate::intake::CoreRequest;
use crate::model::path;
use crate::wire::{OpCode, Reader};
use crate::world::{Ahead, Head, PathHash};
use std::collections::VecDeque;

/// What looking ahead works with.
#[derive(Default)]
pub(super) struct Scratch {
    hashes: Vec<PathHash>,
    ahead: Ahead,
}

/// Fetches for all of `requests` at once.
pub(super) fn foresee(head: &Head, requests: &VecDeque<CoreRequest>, scratch: &mut Scratch) {
    let Scratch { hashes, ahead } = scratch;
    hashes.clear();
    for request in requests {
        let CoreRequest::Write { op, body, .. } = request else { continue };
        let Some(op) = OpCode::from_i32(*op).filter(|op| begins_with_path(*op)) else { continue };
        let Ok(Some(znode)) = Reader::new(body).string() else { continue };
        hashes.push(head.hash(&znode));
        if !matches!(op, OpCode::SetData | OpCode::SetAcl)
            && let Some((parent, _)) = path::split(&znode)
        {
            hashes.push(head.hash(parent));
        }
    }
    if hashes.len() > 1 {
        head.fetch_ahead(hashes, ahead);
    }
}

fn begins_with_path(op: OpCode) -> bool {
    use OpCode::{Create, Create2, CreateContainer, CreateTtl, Delete, DeleteContainer, SetAcl, SetData};
    matches!(op, Create | Create2 | CreateContainer | CreateTtl | Delete | DeleteContainer | SetAcl | SetData)
}
