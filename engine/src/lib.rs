//! The engine of Ostler: a standalone coordination server as a library.
//! Depends on `ostler-replication` for what is committed and for what servers say to each other; carries their bytes.

pub mod admin;
pub mod config;
pub mod core;
pub mod intake;
pub mod io;
pub mod limits;
pub mod log;
pub mod model;
pub mod peers;
pub mod ring;
pub mod server;
pub mod snapshot;
pub mod version;
pub mod wire;
pub mod worker;
pub mod world;
