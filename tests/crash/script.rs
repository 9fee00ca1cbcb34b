//! What the client of a crash run does, one operation after the other, from a seed; and the tree that any number of the
//! operations leaves. Not here: processes, killing, files.

use ostler_tests::client::{OPEN_ACL, op, request};
use ostler_tests::jute::Body;
use std::collections::BTreeMap;

/// Data of each child of `/c`.
pub type Children = BTreeMap<String, Vec<u8>>;

/// Children that operations change: few, so that they do so again and again.
const NAMES: u64 = 12;

#[derive(Clone, Copy, Debug)]
pub struct Script {
    pub seed: u64,
}

enum Change {
    Create,
    CreateEphemeral,
    Set,
    Delete,
}

impl Script {
    /// Operation `index` as a frame, on a tree in which the operations before it were done. Each but the first two is a
    /// multi that also counts itself in `/seq`.
    pub fn frame(&self, index: usize) -> Vec<u8> {
        let xid = index as i32 + 1;
        match index {
            0 => request(xid, op::CREATE, &create("/seq", b"", 0)),
            1 => request(xid, op::CREATE, &create("/c", b"", 0)),
            _ => {
                let mark = index.to_string();
                let set = Body::new().string("/seq").buffer(Some(mark.as_bytes())).int(-1).0;
                let (kind, record) = self.record(index);
                let body = Body::new().int(op::SET_DATA).bool(false).int(-1).raw(&set);
                let body = body.int(kind).bool(false).int(-1).raw(&record).int(-1).bool(true).int(-1);
                request(xid, op::MULTI, &body.0)
            }
        }
    }

    fn record(&self, index: usize) -> (i32, Vec<u8>) {
        let (change, name) = self.change(index);
        let (path, data) = (format!("/c/{name}"), self.data(index));
        match change {
            Change::Create => (op::CREATE, create(&path, &data, 0)),
            Change::CreateEphemeral => (op::CREATE, create(&path, &data, 1)),
            Change::Set => (op::SET_DATA, Body::new().string(&path).buffer(Some(&data)).int(-1).0),
            Change::Delete => (op::DELETE, Body::new().string(&path).int(-1).0),
        }
    }

    /// Names tell whether a znode is ephemeral, and those are never touched again: when they go is the session's affair.
    fn change(&self, index: usize) -> (Change, String) {
        let dice = self.dice(index);
        if dice.is_multiple_of(4) {
            return (Change::CreateEphemeral, format!("e{index}"));
        }
        let name = format!("n{}", (dice >> 8) % NAMES);
        let there = self.persistent(index).contains_key(&name);
        match (there, dice.is_multiple_of(3)) {
            (false, _) => (Change::Create, name),
            (true, true) => (Change::Delete, name),
            (true, false) => (Change::Set, name),
        }
    }

    fn dice(&self, index: usize) -> u64 {
        let mut word = self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)
            ^ (index as u64).wrapping_mul(0xff51_afd7_ed55_8ccd);
        word = (word ^ (word >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        word ^ (word >> 33)
    }

    fn data(&self, index: usize) -> Vec<u8> {
        // Some within a page, some across several.
        vec![index as u8; 10 + (self.dice(index) >> 20) as usize % 5000]
    }

    fn persistent(&self, count: usize) -> Children {
        let mut found = self.children(count);
        found.retain(|name, _| name.starts_with('n'));
        found
    }

    /// What is below `/c` after the first `count` operations, while every session lives.
    pub fn children(&self, count: usize) -> Children {
        let mut found = Children::new();
        for index in 2..count {
            let dice = self.dice(index);
            if dice.is_multiple_of(4) {
                found.insert(format!("e{index}"), self.data(index));
                continue;
            }
            let name = format!("n{}", (dice >> 8) % NAMES);
            if found.contains_key(&name) && dice.is_multiple_of(3) {
                found.remove(&name);
            } else {
                found.insert(name, self.data(index));
            }
        }
        found
    }
}

fn create(path: &str, data: &[u8], flags: i32) -> Vec<u8> {
    Body::new().string(path).buffer(Some(data)).raw(OPEN_ACL).int(flags).0
}
