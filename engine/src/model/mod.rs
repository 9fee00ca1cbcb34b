//! The field's nouns: paths, ACLs, Stats, owners, sessions, error codes. Pure values.
//! Not here: bytes (wire), state (world), decisions (core).

pub mod acl;
pub mod error;
pub mod ids;
pub mod owner;
pub mod path;
pub mod stat;

pub use acl::{Acl, Identity};
pub use error::ErrorCode;
pub use ids::{SessionId, WallMillis, Xid};
pub use owner::Owner;
pub use stat::{Stat, StatPersisted};
