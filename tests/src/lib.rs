//! What the integration tests share: the servers they run (`peers`). Not here: any test of its own subject.

pub mod peers;
