//! Access control lists as values. Checking them is `core`'s and `worker`'s work, through one function in this file.

/// Permission bits (ZooDefs).
pub mod perms {
    pub const READ: i32 = 1;
    pub const WRITE: i32 = 2;
    pub const CREATE: i32 = 4;
    pub const DELETE: i32 = 8;
    pub const ADMIN: i32 = 16;
    pub const ALL: i32 = 31;
}

/// Who: an authentication scheme and that scheme's name for somebody.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Identity {
    pub scheme: Box<str>,
    pub id: Box<str>,
}

impl Identity {
    pub fn new(scheme: &str, id: &str) -> Identity {
        Identity { scheme: scheme.into(), id: id.into() }
    }
}

/// One entry: what `id` may do. `perms` is stored as sent, unmasked.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Acl {
    pub perms: i32,
    pub id: Identity,
}
