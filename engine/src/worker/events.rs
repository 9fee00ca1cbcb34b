//! What a worker says in the server's log about connections and sessions: opened, closed, refused and why, cut off, slow.
//! Bounded in rate by kind; what was not said is counted. Levels are those of README.
//! Not here: deciding any of it.

use super::accept::{AcceptLimits, Refusal};
use super::connection::InFlight;
use super::turn::State;
use crate::admin::LineRate;
use crate::io::poll::Poll;
use crate::model::SessionId;
use crate::wire::OpCode;
use ostler_replication::{Moment, Zxid};
use std::net::SocketAddr;

/// Lines of each kind.
#[derive(Default)]
pub(super) struct Lines {
    opened: LineRate,
    closed: LineRate,
    refused: LineRate,
    too_large: LineRate,
    slow: LineRate,
}

impl Lines {
    /// What was counted and not said.
    pub(super) fn tell_unsaid(&mut self, now: Moment) {
        if let Some(count) = self.opened.take_unsaid(now) {
            tracing::info!(count, "more sessions were established; lines about them are left out");
        }
        if let Some(count) = self.closed.take_unsaid(now) {
            tracing::info!(
                count,
                "more connections with a session were closed; lines about them are left out"
            );
        }
        if let Some(count) = self.refused.take_unsaid(now) {
            tracing::warn!(count, "more connections were refused; lines about them are left out");
        }
        if let Some(count) = self.too_large.take_unsaid(now) {
            tracing::warn!(
                count,
                "more connections were cut off for the size of a message; lines about them are left out"
            );
        }
        if let Some(count) = self.slow.take_unsaid(now) {
            tracing::warn!(count, "more requests were slow; lines about them are left out");
        }
    }

    pub(super) fn established(&mut self, session: SessionId, timeout_ms: i32, peer: SocketAddr, now: Moment) {
        if self.opened.may_say(now) {
            tracing::info!(
                "Established session {session} with negotiated timeout {timeout_ms} for client {peer}"
            );
        }
    }

    pub(super) fn closed(&mut self, closed: Closed, now: Moment) {
        if self.closed.may_say(now) {
            let Closed { session, peer, age_ms, in_flight, why } = closed;
            tracing::info!(
                "Closed the connection of session {session} with client {peer} after {age_ms} ms, {in_flight} requests \
                 under way: {why}"
            );
        }
    }

    /// By a limit on connections.
    pub(super) fn refused(&mut self, refusal: Refusal, limits: AcceptLimits, peer: SocketAddr, now: Moment) {
        if self.refused.may_say(now) {
            match refusal {
                Refusal::Address => tracing::warn!(
                    "Too many connections from {} - max is {} (maxClientCnxns): refused",
                    peer.ip(),
                    limits.per_address
                ),
                Refusal::All => tracing::warn!(
                    "Too many connections, {} is the most (maxCnxns): refused one from {}",
                    limits.in_all,
                    peer.ip()
                ),
            }
        }
    }

    /// For another reason, before it had a session.
    pub(super) fn turned_away(&mut self, peer: Option<SocketAddr>, why: &str, now: Moment) {
        if let Some(peer) = peer
            && self.refused.may_say(now)
        {
            tracing::warn!("refused a session to client {peer}: {why}");
        }
    }

    pub(super) fn has_seen_more(&mut self, peer: Option<SocketAddr>, seen: Zxid, ours: Zxid, now: Moment) {
        if let Some(peer) = peer
            && self.refused.may_say(now)
        {
            tracing::warn!(
                "Refusing session request for client {peer} as it has seen zxid {seen} and our last zxid is {ours}: it must \
                 try another server"
            );
        }
    }

    pub(super) fn too_large(
        &mut self,
        peer: SocketAddr,
        session: SessionId,
        length: i32,
        most: u32,
        now: Moment,
    ) {
        if self.too_large.may_say(now) {
            tracing::warn!(
                "Len error. A message from {peer} (session {session}) with advertised length of {length} is either \
                 malformed or longer than jute.maxbuffer={most} allows: closed"
            );
        }
    }

    pub(super) fn too_many_large(&mut self, peer: SocketAddr, bytes: usize, now: Moment) {
        if self.too_large.may_say(now) {
            tracing::warn!(
                "a request of {bytes} bytes from {peer} comes on top of more large ones than largeRequestMaxBytes allows: \
                 closed"
            );
        }
    }
}

/// A connection that had a session.
pub(super) struct Closed {
    pub session: SessionId,
    pub peer: SocketAddr,
    pub age_ms: i64,
    pub in_flight: usize,
    pub why: &'static str,
}

impl<P: Poll> State<P> {
    /// Asked for each answer of the core's; says so only where it took longer than `ostler.slowRequest`.
    #[cold]
    pub(super) fn say_slow(&mut self, slot: u32, request: &InFlight, zxid: Zxid, took_ms: u32) {
        let Some(connection) = self.connections.get(slot) else { return };
        if self.lines.slow.may_say(self.now.mono) {
            tracing::warn!(
                "slow request: {:?} with xid {} of session {} from {} took {took_ms} ms, answered at zxid {zxid} \
                 (ostler.slowRequest={})",
                request.op,
                request.xid.0,
                connection.session,
                connection.peer(),
                self.shared.slow_request_ms,
            );
        }
    }

    /// Reads of one turn are answered together.
    #[cold]
    pub(super) fn say_slow_reads(&mut self, reads: u64, took_ms: u64) {
        if self.lines.slow.may_say(self.now.mono) {
            tracing::warn!(
                "slow reads: {reads} that came together took {took_ms} ms (ostler.slowRequest={})",
                self.shared.slow_request_ms
            );
        }
    }

    /// Before the connection gives up its session.
    pub(super) fn say_closed(&mut self, slot: u32) {
        let Some(connection) = self.connections.get(slot) else { return };
        let why = match connection.figures.last_op {
            Some(OpCode::CloseSession) => "closed by its client",
            _ if connection.flags.ended => "the client has hung up",
            _ => {
                "the server ends it: it was silent, its session has ended or moved, or it broke the protocol"
            }
        };
        let closed = Closed {
            session: connection.session,
            peer: connection.peer(),
            age_ms: self.now.wall.0 - connection.figures.established.0,
            in_flight: connection.in_flight.len(),
            why,
        };
        self.lines.closed(closed, self.now.mono);
    }
}
