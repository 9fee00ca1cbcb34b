//! What the client of a crash run does, one operation after the other, and the tree that any number of them leaves.
//! Not here: processes, killing, files.

use ostler_tests::client::{OPEN_ACL, op, request};
use ostler_tests::jute::Body;
use std::collections::BTreeMap;

/// Data of each child of `/c`, and which of them are ephemeral.
pub type Children = BTreeMap<String, Vec<u8>>;

/// Operation `index` as a frame. Each but the first two is a multi that also counts itself in `/seq`.
pub fn frame(index: usize) -> Vec<u8> {
    let xid = index as i32 + 1;
    match index {
        0 => request(xid, op::CREATE, &create("/seq", b"", 0)),
        1 => request(xid, op::CREATE, &create("/c", b"", 0)),
        _ => {
            let mark = index.to_string();
            let set = Body::new().string("/seq").buffer(Some(mark.as_bytes())).int(-1).0;
            let (kind, record) = change(index);
            let body = Body::new().int(op::SET_DATA).bool(false).int(-1).raw(&set);
            let body = body.int(kind).bool(false).int(-1).raw(&record).int(-1).bool(true).int(-1);
            request(xid, op::MULTI, &body.0)
        }
    }
}

fn create(path: &str, data: &[u8], flags: i32) -> Vec<u8> {
    Body::new().string(path).buffer(Some(data)).raw(OPEN_ACL).int(flags).0
}

fn data(index: usize) -> Vec<u8> {
    // Some within a page, some across several.
    vec![index as u8; 10 + (index * 577) % 5000]
}

fn change(index: usize) -> (i32, Vec<u8>) {
    match index % 4 {
        0 => (op::CREATE, create(&format!("/c/n{index}"), &data(index), 0)),
        1 => (op::CREATE, create(&format!("/c/e{index}"), &data(index), 1)),
        2 if index >= 6 => {
            let path = format!("/c/n{}", index - 2);
            (op::SET_DATA, Body::new().string(&path).buffer(Some(&data(index))).int(-1).0)
        }
        3 if index >= 11 => (op::DELETE, Body::new().string(&format!("/c/n{}", index - 7)).int(-1).0),
        _ => (op::CREATE, create(&format!("/c/p{index}"), &data(index), 0)),
    }
}

/// What is below `/c` after the first `count` operations.
pub fn children(count: usize) -> Children {
    let mut found = Children::new();
    for index in 2..count {
        match index % 4 {
            0 => found.insert(format!("n{index}"), data(index)),
            1 => found.insert(format!("e{index}"), data(index)),
            2 if index >= 6 => found.insert(format!("n{}", index - 2), data(index)),
            3 if index >= 11 => found.remove(&format!("n{}", index - 7)),
            _ => found.insert(format!("p{index}"), data(index)),
        };
    }
    found
}
