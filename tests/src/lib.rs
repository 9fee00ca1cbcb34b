//! What the integration tests share: the servers they run (`peers`), a protocol client of their own (`client`, `jute`),
//! random sequences of operations (`differential`), and chance from a seed (`random`). Not here: any test of its own subject.

pub mod client;
pub mod differential;
pub mod jute;
pub mod peers;
pub mod random;
