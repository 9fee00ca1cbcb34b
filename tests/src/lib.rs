//! What the integration tests share: the servers they run (`peers`), and a protocol client of their own (`client`,
//! `jute`). Not here: any test of its own subject.

pub mod client;
pub mod jute;
pub mod peers;
