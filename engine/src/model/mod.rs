//! The field's nouns: paths, ACLs and authentication schemes, Stats, owners, sessions, quotas, error codes. Pure values.
//! Not here: bytes (wire), state (world), decisions (core).

pub mod acl;
pub mod auth;
pub mod error;
pub mod ids;
pub mod java;
pub mod owner;
pub mod path;
pub mod quota;
pub mod session;
pub mod stat;

pub use acl::{Acl, Identity};
pub use auth::Schemes;
pub use error::ErrorCode;
pub use ids::{SessionId, WallMillis, Xid};
pub use owner::Owner;
pub use stat::{Stat, StatPersisted};
