//! What the integration tests share: the servers they run (`peers`), a protocol client of their own (`client`, `jute`),
//! and random sequences of operations (`differential`). Not here: any test of its own subject.

pub mod client;
pub mod differential;
pub mod jute;
pub mod peers;
