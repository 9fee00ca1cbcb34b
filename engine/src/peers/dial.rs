//! Connecting to another server: its addresses in order, names looked up anew each time, all within one deadline.
//! Not here: sockets and look-ups themselves, when a server is dialled (replication).

use ostler_replication::{Moment, Port, ServerId};
use std::collections::VecDeque;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// Where a server listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    /// A name or an address; IPv6 without its brackets.
    pub host: String,
    pub port: u16,
}

impl Endpoint {
    /// Reads `host:port` or `[address]:port`; `None` when it is no such thing, or names no single host.
    pub fn parse(text: &str) -> Option<Endpoint> {
        let (host, port) = text.rsplit_once(':')?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let endpoint = Endpoint { host: host.to_owned(), port: port.parse().ok()? };
        let is_any = endpoint.literal().is_some_and(|address| address.is_unspecified());
        (!host.is_empty() && endpoint.port != 0 && !is_any).then_some(endpoint)
    }

    /// The host, when it is an address and no name.
    pub(super) fn literal(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// One attempt to reach a server, over all its addresses.
pub(super) struct Dial {
    pub peer: ServerId,
    pub port: Port,
    /// Not looked up yet.
    endpoints: VecDeque<Endpoint>,
    /// Of the endpoint looked up last, not tried yet.
    addresses: VecDeque<SocketAddr>,
    /// What has failed so far, for the log.
    failures: String,
    pub state: State,
    deadline: Moment,
    /// When the step under way is given up for the next.
    pub step_deadline: Moment,
}

pub(super) enum State {
    Idle,
    /// The number of the look-up, and the port that goes with what it finds.
    LookingUp(u64, u16),
    /// The connection's token.
    Connecting(u32),
}

/// What is to be done next.
pub(super) enum Step {
    LookUp(Endpoint),
    Connect(SocketAddr),
    GiveUp,
}

/// One line of the log holds the failures of so many addresses.
const FAILURES_BYTES_MAX: usize = 400;

impl Dial {
    pub fn new(peer: ServerId, port: Port, endpoints: VecDeque<Endpoint>, deadline: Moment) -> Dial {
        let (addresses, failures) = Default::default();
        let (state, step_deadline) = (State::Idle, deadline);
        Dial { peer, port, endpoints, addresses, failures, state, deadline, step_deadline }
    }

    /// The next step gets its share of the time that is left, so that an address that never answers leaves some for the
    /// others.
    pub fn next(&mut self, now: Moment) -> Step {
        self.state = State::Idle;
        let (left, steps) = (self.deadline.since(now), self.addresses.len() + self.endpoints.len());
        if left == 0 {
            return Step::GiveUp;
        }
        self.step_deadline = Moment(now.0 + left / (steps as u64).max(1));
        if let Some(address) = self.addresses.pop_front() {
            return Step::Connect(address);
        }
        match self.endpoints.pop_front() {
            Some(endpoint) => match endpoint.literal() {
                Some(address) => Step::Connect(SocketAddr::new(address, endpoint.port)),
                None => Step::LookUp(endpoint),
            },
            None => Step::GiveUp,
        }
    }

    pub fn found(&mut self, addresses: Vec<IpAddr>, port: u16) {
        self.addresses.extend(addresses.into_iter().map(|address| SocketAddr::new(address, port)));
    }

    pub fn failed(&mut self, what: impl fmt::Display, why: impl fmt::Display) {
        if self.failures.len() < FAILURES_BYTES_MAX {
            let between = if self.failures.is_empty() { "" } else { "; " };
            self.failures.push_str(&format!("{between}{what}: {why}"));
        }
    }

    pub fn failures(&self) -> &str {
        if self.failures.is_empty() { "no address of it is known" } else { &self.failures }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<(&str, u16)>) {
        let found = Endpoint::parse(text);
        assert_eq!(found, expected.map(|(host, port)| Endpoint { host: host.to_owned(), port }), "{text}");
        if let Some(found) = found {
            assert_eq!(found.to_string(), text);
        }
    }

    #[test]
    fn endpoints_are_read_and_nonsense_is_not() {
        check("zk1.example:3888", Some(("zk1.example", 3888)));
        check("[::1]:3888", Some(("::1", 3888)));
        check("10.0.0.1:65535", Some(("10.0.0.1", 65535)));
        for text in ["", ":1", "h", "h:", "h:0", "h:65536", "h:-1", "0.0.0.0:3888", "[::]:3888"] {
            check(text, None);
        }
    }

    #[test]
    fn addresses_are_tried_in_order_and_share_the_time() {
        let at = |host: &str| Endpoint { host: host.to_owned(), port: 7 };
        let endpoints = VecDeque::from([at("name"), at("10.0.0.9")]);
        let deadline = Moment::from_millis(1000);
        let mut dial = Dial::new(ServerId(2), Port::Quorum, endpoints, deadline);
        assert!(matches!(dial.next(Moment(0)), Step::LookUp(endpoint) if endpoint.host == "name"));
        assert_eq!(dial.step_deadline, Moment::from_millis(500));
        dial.found(vec![IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2])], 7);
        for (host, from, until) in [(1, 100, 400), (2, 400, 700), (9, 700, 1000)] {
            let Step::Connect(address) = dial.next(Moment::from_millis(from)) else { panic!("{host}") };
            assert_eq!(address, SocketAddr::from(([10, 0, 0, host], 7)));
            assert_eq!(dial.step_deadline, Moment::from_millis(until));
        }
        assert!(matches!(dial.next(Moment::from_millis(990)), Step::GiveUp));
    }
}
