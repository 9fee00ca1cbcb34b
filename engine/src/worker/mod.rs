//! A worker: some connections, their watches, one View, driven in turns.
//! Not here: deciding anything about writes or sessions (core), the tree (world), the bytes of records (wire).
//!
//! A turn: `gather` reads sockets, `deliver` brings what the ring has, `serve` answers, `flush` writes; `duties` looks
//! at the clock. All over the `poll` and `clock` seams, so that a simulation can drive a worker on its own thread.

mod accept;
mod catch_up;
mod connection;
mod deliver;
mod duties;
mod flush;
mod gather;
mod handshake;
mod inspect;
mod mail;
mod opening;
mod overtake;
mod read;
mod role;
mod serve;
mod settings;
mod stream;
mod throttle;
mod turn;
pub mod watch;

pub use accept::{AcceptLimits, Acceptor, LISTENER};
pub use inspect::Inspection;
pub use mail::{Departures, Mail, Mailbox, Question};
pub use settings::{Desk, Shared};
pub use throttle::SessionThrottle;
pub use turn::{Parts, Worker};

#[cfg(test)]
mod tests;
