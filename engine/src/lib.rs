//! The engine of Ostler: a coordination server as a library, alone or as a member of an ensemble.
//! Depends on `ostler-replication` for what is committed and for what servers say to each other; carries their bytes.
//!
//! A server needs a [`config::Config`] and a directory of its own. In a test, for example, one that lives as long as the test:
//!
//! ```
//! use ostler_engine::config::Config;
//! use ostler_engine::server::Server;
//! use std::io::{Read, Write};
//! use std::net::TcpStream;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let data = tempfile::tempdir()?;
//! // On loopback, on a port that the kernel picks; serves clients when it returns.
//! let server = Server::start(Config::embedded(data.path()))?;
//!
//! // Any ZooKeeper client connects to `server.local_addr()`; here the shortest one there is.
//! let mut client = TcpStream::connect(server.local_addr())?;
//! client.write_all(b"ruok")?;
//! let mut answer = String::new();
//! client.read_to_string(&mut answer)?;
//! assert_eq!(answer, "imok");
//!
//! // Answers what was accepted, syncs, ends every thread; so does dropping it.
//! server.stop();
//! # Ok(())
//! # }
//! ```
//!
//! A server with the settings of a `zoo.cfg` is `Server::start(config::load(..)?.config)`. What it has to say goes to the
//! `tracing` subscriber of the program, if there is one. `examples/embedded.rs` is a whole program.

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
