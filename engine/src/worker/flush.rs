//! Last step of a turn: one `write` per connection that has bytes to send.
//! Not here: what the bytes are.

use super::connection::Phase;
use super::turn::State;
use crate::io::poll::Poll;
use crate::limits::{LINGER_BYTES_MAX, LINGER_TURNS_MAX};
use std::io::ErrorKind;

/// Writes of one turn for connections that were not served in it: a large fan-out goes out in portions of this many.
const FLUSHES_MAX: usize = crate::limits::TURN_FLUSHES_MAX;

impl<P: Poll> State<P> {
    pub(super) fn flush(&mut self) {
        let mut listed = std::mem::take(&mut self.to_flush);
        let now = listed.len().min(FLUSHES_MAX);
        for slot in listed.drain(..now) {
            if let Some(connection) = self.connections.get_mut(slot) {
                connection.flags.listed_to_flush = false;
                self.flush_one(slot);
            }
        }
        listed.append(&mut self.to_flush);
        self.to_flush = listed;
        self.flush_lingering();
    }

    /// While many connections are served in a turn, replies of one that has a write under way wait for the write's: one
    /// system call for both, and a client that is woken once. With less to do a reply never waits.
    pub(super) fn flush_or_linger(&mut self, slot: u32) {
        if self.crowded
            && let Some(connection) = self.connections.get_mut(slot)
            && !connection.in_flight.is_empty()
            && (1..LINGER_BYTES_MAX).contains(&connection.output.len())
            && !connection.flags.ended
        {
            if !std::mem::replace(&mut connection.flags.lingering, true) {
                self.lingering.push((slot, connection.generation, 0));
            }
            return;
        }
        self.flush_one(slot);
    }

    fn flush_lingering(&mut self) {
        let mut lingering = std::mem::take(&mut self.lingering);
        lingering.retain_mut(|(slot, generation, turns)| {
            let Some(connection) = self.connections.get_of(*slot, *generation) else { return false };
            *turns += 1;
            let stays = self.crowded && *turns <= LINGER_TURNS_MAX && !connection.output.is_empty();
            if !stays {
                connection.flags.lingering = false;
                self.flush_one(*slot);
            }
            stays
        });
        self.lingering = lingering;
    }

    /// One write, if there is anything to write and the socket takes it.
    pub(super) fn flush_one(&mut self, slot: u32) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        if connection.flags.blocked {
            return connection.output.weigh(&mut self.reply_bytes);
        }
        if !connection.output.is_empty() {
            let waiting = connection.output.waiting();
            match self.poll.write(slot, waiting) {
                Ok(bytes) => {
                    connection.flags.blocked = bytes < waiting.len();
                    connection.progressed = self.now.mono;
                    connection.output.sent(bytes, &mut self.pool);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => connection.flags.blocked = true,
                Err(error) if error.kind() == ErrorKind::Interrupted => return self.list_to_flush(slot),
                Err(_) => return self.drop_now(slot),
            }
        }
        connection.output.weigh(&mut self.reply_bytes);
        if connection.resume_if_drained() {
            self.list_to_serve(slot);
            self.read_again(slot);
        }
        self.finish_close(slot);
    }

    /// A closing connection whose last byte is written: FIN, then the peer's end is awaited.
    fn finish_close(&mut self, slot: u32) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        if connection.phase != Phase::Closing || !connection.output.is_empty() || connection.flags.shut {
            return;
        }
        if connection.flags.ended {
            return self.drop_now(slot);
        }
        connection.flags.shut = true;
        connection.flags.readable = true;
        self.poll.shutdown(slot);
        self.list_to_read(slot);
        self.read_again(slot);
    }
}
