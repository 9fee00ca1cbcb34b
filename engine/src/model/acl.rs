//! Access control lists as values. Checking them is `core`'s and `worker`'s work, through one function in this file.

use std::borrow::Cow;

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

/// An ACL entry as a client sent it: either string may be null.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AclEntry<'a> {
    pub perms: i32,
    pub scheme: Option<Cow<'a, str>>,
    pub id: Option<Cow<'a, str>>,
}

impl AclEntry<'_> {
    /// Nulls become empty strings, which match nobody.
    pub fn to_acl(&self) -> Acl {
        let text = |text: &Option<Cow<'_, str>>| text.as_deref().unwrap_or_default().into();
        Acl { perms: self.perms, id: Identity { scheme: text(&self.scheme), id: text(&self.id) } }
    }
}
