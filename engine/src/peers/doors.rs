//! This server's own ports for other servers: bound on its addresses, tried again for a while, and names looked up anew
//! for each attempt, for in containers an address may come after the server.
//! Not here: who connects.

use super::dial::Endpoint;
use ostler_replication::{Moment, Port};
use std::fmt;
use std::io;
use std::net::IpAddr;

/// Between two attempts.
const BIND_AGAIN_MS: u64 = 1000;

/// One port at one address; its place among the doors is its listener's number.
pub(super) struct Door {
    pub port: Port,
    pub endpoint: Endpoint,
    pub state: State,
    failures: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// To be opened when this time has come.
    Closed(Moment),
    /// The number of the look-up.
    LookingUp(u64),
    Open {
        /// Connections may wait.
        accept: bool,
        /// Not before: the last one could not be taken.
        again: Moment,
    },
}

/// A port for other servers that could not be opened: this server cannot take part.
#[derive(Debug)]
pub struct BindError {
    pub port: Port,
    pub endpoint: Endpoint,
    pub attempts: u32,
    pub source: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BindError { port, endpoint, attempts, source } = self;
        write!(
            f,
            "the {} port cannot be opened at {endpoint} after {attempts} attempts: {source}; see this server's own \
             server line, quorumListenOnAllIPs and electionPortBindRetry",
            super::name_of(*port)
        )
    }
}

impl std::error::Error for BindError {}

impl Door {
    pub fn new(port: Port, endpoint: Endpoint) -> Door {
        Door { port, endpoint, state: State::Closed(Moment::default()), failures: 0 }
    }

    /// `tries`: how often; `None`: without end.
    pub fn failed(&mut self, error: io::Error, tries: Option<u32>, now: Moment) -> Result<(), BindError> {
        self.failures += 1;
        self.state = State::Closed(now.plus_millis(BIND_AGAIN_MS));
        let port = super::name_of(self.port);
        if tries.is_some_and(|tries| self.failures >= tries) {
            let (endpoint, attempts) = (self.endpoint.clone(), self.failures);
            return Err(BindError { port: self.port, endpoint, attempts, source: error });
        }
        tracing::warn!(%error, endpoint = %self.endpoint, "the {port} port cannot be opened yet, trying again");
        Ok(())
    }

    /// An address of the machine, or `None` for all.
    pub fn opened(&mut self, address: Option<IpAddr>) {
        self.state = State::Open { accept: true, again: Moment::default() };
        let (port, everywhere) = (super::name_of(self.port), address.is_none());
        tracing::info!(endpoint = %self.endpoint, everywhere, "listening for other servers on the {port} port");
    }

    /// When it wants a turn by itself.
    pub fn due(&self) -> Option<Moment> {
        match self.state {
            State::Closed(at) => Some(at),
            State::Open { accept: true, again } => Some(again),
            State::LookingUp(_) | State::Open { .. } => None,
        }
    }
}
