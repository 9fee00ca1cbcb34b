//! Last step of a turn: one `write` per connection that has bytes to send.
//! Not here: what the bytes are.

use super::connection::Phase;
use super::turn::State;
use crate::io::poll::Poll;
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
