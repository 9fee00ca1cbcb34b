//! The first frame of a connection, answered: connect requests, four-letter words, and what is neither.
//! Not here: telling them apart (`opening`), which role lets clients in (`role`), settling sessions (core).

use super::connection::Phase;
use super::opening::{Opening, recognise};
use super::throttle::Asks;
use super::turn::State;
use crate::admin::{Counter, FourLetter};
use crate::intake::CoreRequest;
use crate::io::poll::Poll;
use crate::limits::{CONNECT_BYTES_MAX, WRONG_PROTOCOL_LOG_MS};
use crate::model::SessionId;
use crate::ring::ConnRef;
use crate::wire::frame::{Front, front};
use crate::wire::{ConnectRequest, OpCode};
use crate::world::View;
use std::sync::PoisonError;

impl<P: Poll> State<P> {
    /// The first bytes of a connection. Returns what the connect request took, once it is on its way.
    pub(super) fn open(&mut self, slot: u32, bytes: &[u8], view: &View) -> Option<usize> {
        match recognise(bytes) {
            Opening::Undecided => return None,
            Opening::HangUp => self.drop_now(slot),
            Opening::Word(word, argument) => self.word(slot, word, argument),
            Opening::Stranger(protocol) => self.stranger(slot, protocol),
            Opening::Frames => match front(bytes, CONNECT_BYTES_MAX) {
                Front::Frame { body, bytes } => return self.connect(slot, body, view).then_some(bytes),
                Front::Partial { .. } => return None,
                Front::Unreadable { .. } => self.stranger(slot, "no protocol that we know"),
            },
        }
        None
    }

    /// True when the connect request is with the core. The order of checks is Apache's.
    fn connect(&mut self, slot: u32, body: &[u8], view: &View) -> bool {
        if !self.is_serving {
            self.counters.add(Counter::ConnectsNotServed, 1);
            self.drop_now(slot);
            return false;
        }
        let Ok(ask) = ConnectRequest::decode(body) else {
            self.drop_now(slot);
            return false;
        };
        if self.draining || !self.admit_session(&ask) || ask.last_zxid_seen.to_wire() > view.zxid().to_wire()
        {
            if ask.last_zxid_seen.to_wire() > view.zxid().to_wire() {
                tracing::info!(seen = %ask.last_zxid_seen, ours = %view.zxid(), "a client has seen a newer zxid: refused");
            }
            self.drop_now(slot);
            return false;
        }
        let Some(connection) = self.connections.get_mut(slot) else { return false };
        let from = ConnRef { worker: self.index, slot, generation: connection.generation };
        if self.core.submit(CoreRequest::Connect { from, ask }).is_err() {
            self.turn_away(slot);
            return false;
        }
        connection.phase = Phase::Connecting;
        connection.figures.received += 1;
        connection.figures.last_op = Some(OpCode::CreateSession);
        self.counters.add(Counter::PacketsReceived, 1);
        self.counters.add(Counter::ConnectRequests, 1);
        true
    }

    fn admit_session(&mut self, ask: &ConnectRequest) -> bool {
        let Some(throttle) = &self.shared.session_throttle else { return true };
        let asks = if ask.session == SessionId::NONE { Asks::NewSession } else { Asks::Renewal };
        throttle.lock().unwrap_or_else(PoisonError::into_inner).admit(asks, self.now.mono)
    }

    fn word(&mut self, slot: u32, word: FourLetter, argument: i64) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        connection.figures.received += 1;
        self.counters.add(Counter::PacketsReceived, 1);
        match word.admit(&self.shared.words) {
            Ok(word) => {
                connection.phase = Phase::Word;
                let from = ConnRef { worker: self.index, slot, generation: connection.generation };
                self.shared.desk.ask(word, argument, from);
            }
            Err(refusal) => {
                connection.output.prepare(&mut self.pool).extend_from_slice(refusal.as_bytes());
                self.begin_close(slot);
            }
        }
    }

    /// The answer to a four-letter word has come.
    pub(super) fn text(&mut self, to: ConnRef, text: &[u8]) {
        let Some(connection) = self.connections.get_of(to.slot, to.generation) else { return };
        if connection.phase == Phase::Word {
            connection.output.prepare(&mut self.pool).extend_from_slice(text);
            connection.figures.sent += 1;
            self.counters.add(Counter::PacketsSent, 1);
            self.begin_close(to.slot);
        }
    }

    /// Somebody in the wrong place: said in plain words, but not once for each of them.
    fn stranger(&mut self, slot: u32, protocol: &str) {
        self.strangers += 1;
        let quiet = |logged| self.now.mono.since(logged) < WRONG_PROTOCOL_LOG_MS * 1_000_000;
        if let Some(connection) = self.connections.get(slot)
            && !self.strangers_logged.is_some_and(quiet)
        {
            tracing::warn!(
                peer = %connection.peer(),
                count = self.strangers,
                "a client speaks {protocol} on the ZooKeeper client port; closed (this line appears at most every {} s)",
                WRONG_PROTOCOL_LOG_MS / 1000,
            );
            self.strangers_logged = Some(self.now.mono);
            self.strangers = 0;
        }
        self.drop_now(slot);
    }
}
