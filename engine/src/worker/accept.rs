//! Taking connections from the listener: limits per address and in all, and the worker with the fewest for each.
//! Not here: the listener itself (the `poll` seam), what becomes of a connection.

use super::mail::{Departures, Mail, Mailbox};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// The number by which its worker's poll knows the listener of the client port.
pub const LISTENER: u32 = 0;

/// Driven by the worker whose poll has the listener.
pub struct Acceptor<S> {
    limits: AcceptLimits,
    workers: Vec<Arc<Mailbox<S>>>,
    departures: Departures,
    /// Open connections per worker and per address, as far as departures have been read.
    per_worker: Vec<u32>,
    per_address: HashMap<IpAddr, u32>,
    open: u32,
}

/// The limit that keeps a connection out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// `maxClientCnxns`.
    Address,
    /// `maxCnxns`.
    All,
}

/// 0 means no limit.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct AcceptLimits {
    /// `maxClientCnxns`.
    pub per_address: u32,
    /// `maxCnxns`.
    pub in_all: u32,
}

impl<S> Acceptor<S> {
    /// `workers` in the order of their indexes.
    pub fn new(limits: AcceptLimits, workers: Vec<Arc<Mailbox<S>>>, departures: Departures) -> Acceptor<S> {
        let per_worker = vec![0; workers.len()];
        Acceptor { limits, workers, departures, per_worker, per_address: HashMap::new(), open: 0 }
    }

    pub fn limits(&self) -> AcceptLimits {
        self.limits
    }

    /// Counts a connection from there in and says which worker is to have it: the one with the fewest. An error: close
    /// the socket.
    pub fn place(&mut self, peer: SocketAddr) -> Result<usize, Refusal> {
        self.read_departures();
        let AcceptLimits { per_address, in_all } = self.limits;
        let from_there = self.per_address.get(&peer.ip()).copied().unwrap_or(0);
        if per_address > 0 && from_there >= per_address {
            return Err(Refusal::Address);
        }
        if in_all > 0 && self.open >= in_all {
            return Err(Refusal::All);
        }
        let fewest = (0..self.workers.len()).min_by_key(|&worker| self.per_worker[worker]);
        let worker = fewest.expect("a server has a worker");
        self.per_worker[worker] += 1;
        self.open += 1;
        *self.per_address.entry(peer.ip()).or_default() += 1;
        Ok(worker)
    }

    /// To a worker other than the one that accepts.
    pub fn hand_over(&self, worker: usize, socket: S, peer: SocketAddr) {
        self.workers[worker].send(Mail::Adopt { socket, peer });
    }

    fn read_departures(&mut self) {
        while let Some(departure) = self.departures.pop() {
            self.open -= 1;
            self.per_worker[departure.worker as usize] -= 1;
            if let Some(count) = self.per_address.get_mut(&departure.address) {
                *count -= 1;
                if *count == 0 {
                    self.per_address.remove(&departure.address);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::mail::Departure;
    use super::*;

    struct NoWake;
    impl crate::ring::Wake for NoWake {
        fn wake(&self) {}
    }

    fn peer(host: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, host], 1000))
    }

    /// Connects from these hosts; after each, `leaves` says which (worker, host) departs.
    fn check(limits: AcceptLimits, hosts: &[u8], leaves: &[Option<(u16, u8)>], placed: &[Placed]) {
        let workers: Vec<_> = (0..2).map(|_| Mailbox::<()>::new(Box::new(NoWake))).collect();
        let departures = Departures::default();
        let mut acceptor = Acceptor::new(limits, workers, departures.clone());
        let mut results = Vec::new();
        for (at, &host) in hosts.iter().enumerate() {
            results.push(acceptor.place(peer(host)));
            if let Some((worker, host)) = leaves.get(at).copied().flatten() {
                departures.push(Departure { worker, address: peer(host).ip() });
            }
        }
        assert_eq!(results, placed);
    }

    type Placed = Result<usize, Refusal>;
    const A: Placed = Ok(0);
    const B: Placed = Ok(1);

    #[test]
    fn limits_hold_and_departures_make_room() {
        let two_each = AcceptLimits { per_address: 2, in_all: 0 };
        check(two_each, &[1, 1, 1, 2], &[], &[A, B, Err(Refusal::Address), A]);
        check(two_each, &[1, 1, 1, 1], &[None, None, Some((0, 1)), None], &[A, B, Err(Refusal::Address), A]);
        check(AcceptLimits { per_address: 0, in_all: 3 }, &[1, 2, 3, 4], &[], &[A, B, A, Err(Refusal::All)]);
    }

    #[test]
    fn the_worker_with_the_fewest_gets_the_next() {
        check(AcceptLimits::default(), &[1; 5], &[], &[A, B, A, B, A]);
        check(AcceptLimits::default(), &[1; 6], &[None, None, None, Some((1, 1))], &[A, B, A, B, B, A]);
    }
}
