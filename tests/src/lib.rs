//! What the integration tests share: the servers they run (`peers`), a protocol client of their own (`client`, `jute`),
//! random sequences of operations (`differential`), chance from a seed (`random`), and what they were built from (`commit`). Not here: any test of its own subject.

pub mod client;
pub mod commit;
pub mod differential;
pub mod jute;
pub mod peers;
pub mod random;
