//! First step of a turn: one `read` per socket that may have bytes, all into one arena.
//! Not here: making sense of the bytes (`serve`).
//!
//! A connection with a part of a frame, or with requests that wait for an earlier write, is read into its own input.

use super::connection::Phase;
use super::turn::{Job, Source, State};
use crate::admin::Counter;
use crate::intake::CoreRequest;
use crate::io::poll::Poll;
use crate::limits::TURN_READ_BYTES_MAX;
use std::io::ErrorKind;

/// Input up to this is moved to the arena rather than the other way round.
const MOVED_BYTES_MAX: usize = 4096;

/// What came of one read.
enum Got {
    Bytes(usize, Source),
    End,
    Dry,
    /// Interrupted: next turn.
    Again,
    Failed,
}

impl<P: Poll> State<P> {
    pub(super) fn gather(&mut self) {
        self.more_to_read = false;
        if !self.jobs.is_empty() {
            return;
        }
        self.arena_used = 0;
        let mut listed = std::mem::take(&mut self.to_read);
        for slot in listed.drain(..) {
            self.visit(slot);
        }
        // What was listed anew meanwhile is in the other list.
        listed.append(&mut self.to_read);
        self.to_read = listed;
    }

    fn visit(&mut self, slot: u32) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        connection.flags.listed_to_read = false;
        let probed = connection.is_probed();
        if !connection.flags.readable && !connection.flags.ending && !probed {
            return;
        }
        let held_back = self.outstanding > self.shared.outstanding_max && !connection.in_flight.is_empty();
        if held_back || self.draining && connection.phase != Phase::Closing || !connection.wants_reading() {
            // Its silence is our doing.
            if probed {
                connection.take_probe();
                self.touch(slot);
                self.report_touches = true;
            }
            return self.list_to_read(slot);
        }
        if self.arena.len() - self.arena_used < TURN_READ_BYTES_MAX + MOVED_BYTES_MAX {
            self.more_to_read = true;
            return self.list_to_read(slot);
        }
        match self.read(slot) {
            Got::Bytes(bytes, source) => self.heard(slot, bytes, source),
            Got::Dry => self.dry(slot),
            Got::Again => {
                self.more_to_read = true;
                self.list_to_read(slot);
            }
            Got::End => self.ended(slot),
            Got::Failed => {
                self.counters.add(Counter::ConnectionsDropped, 1);
                self.drop_now(slot);
            }
        }
    }

    fn read(&mut self, slot: u32) -> Got {
        let Some(connection) = self.connections.get_mut(slot) else { return Got::Failed };
        let waiting = connection.input.len();
        let in_arena = waiting == 0
            || waiting <= MOVED_BYTES_MAX && connection.may_serve() && connection.in_flight.is_empty();
        let (result, room) = if in_arena {
            let start = self.arena_used;
            self.arena[start..start + waiting].copy_from_slice(connection.input.waiting());
            let room = &mut self.arena[start + waiting..start + waiting + TURN_READ_BYTES_MAX];
            (self.poll.read(slot, room), TURN_READ_BYTES_MAX)
        } else {
            let room = connection.input.room(TURN_READ_BYTES_MAX);
            let of = room.len();
            let result = self.poll.read(slot, room);
            connection.input.received(*result.as_ref().unwrap_or(&0), of);
            (result, of)
        };
        match result {
            Ok(0) => Got::End,
            Ok(bytes) => {
                // A short read has emptied the socket, unless its end was announced.
                connection.flags.readable = bytes == room || connection.flags.ending;
                let source = if in_arena {
                    let (moved, at) = connection.input.lend();
                    let length = moved.len();
                    connection.input.restore(moved, at.max(length), &mut self.pool);
                    let start = self.arena_used;
                    self.arena_used += waiting + bytes;
                    Source::Arena(start..self.arena_used)
                } else {
                    Source::Input
                };
                Got::Bytes(bytes, source)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Got::Dry,
            Err(error) if error.kind() == ErrorKind::Interrupted => Got::Again,
            Err(_) => Got::Failed,
        }
    }

    fn heard(&mut self, slot: u32, bytes: usize, source: Source) {
        self.counters.add(Counter::BytesReceived, bytes as u64);
        let Some(connection) = self.connections.get_mut(slot) else { return };
        connection.heard = self.now.mono;
        if connection.flags.readable {
            self.more_to_read = true;
            if !std::mem::replace(&mut connection.flags.listed_to_read, true) {
                self.to_read.push(slot);
            }
        }
        if connection.phase == Phase::Closing {
            // Read only so that closing does not reset the connection.
            return connection.input.clear();
        }
        if connection.take_probe().is_some() {
            self.report_touches = true;
        }
        let generation = connection.generation;
        self.jobs.push(Job { slot, generation, source, hashes: 0..0 });
        self.touch(slot);
    }

    fn dry(&mut self, slot: u32) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        connection.flags.readable = false;
        connection.flags.ending = false;
        let (generation, session) = (connection.generation, connection.session);
        if let Some(token) = connection.take_probe() {
            if connection.flags.touched {
                // Heard from since the last report, which tells the core what it asks.
                self.report_touches = true;
            } else {
                let from = self.reference(slot, generation);
                self.tell_core(CoreRequest::Silent { from, session, token: token.get() });
            }
        }
    }

    /// The peer has sent its last byte. What it sent is still served, a four-letter word still answered.
    fn ended(&mut self, slot: u32) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        connection.flags.readable = false;
        connection.flags.ending = false;
        connection.flags.ended = true;
        match connection.phase {
            Phase::Word => {}
            Phase::Closing if !connection.output.is_empty() => {}
            Phase::Closing => self.drop_now(slot),
            _ => {
                self.counters.add(Counter::ConnectionsDropped, 1);
                let generation = connection.generation;
                let source = Source::Input;
                self.jobs.push(Job { slot, generation, source, hashes: 0..0 });
            }
        }
    }
}
