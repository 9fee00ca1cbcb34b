//! What waits to be sent on one connection, in one order: packets, and snapshots that are made while they are sent.
//! Not here: who is sent what (replication), how a snapshot is made (snapshot).

use super::snapshot::{Outgoing, Piece};
use crate::io::poll::Poll;
use crate::limits::PEER_MESSAGE_BYTES;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};
use std::sync::Arc;

/// Pieces handed to the system at once.
const GATHERED_MAX: usize = 64;
/// Bytes written to one connection in one turn, so that a fast one does not keep the others waiting.
const TURN_WRITE_BYTES_MAX: usize = 2 << 20;

enum Item {
    Packets(Arc<[u8]>),
    /// A part of a snapshot.
    Part(Arc<[u8]>),
    Snapshot(Box<dyn Outgoing>),
}

#[derive(Default)]
pub(super) struct Outbox {
    items: VecDeque<Item>,
    /// Of the first item, bytes that have left.
    at: usize,
    /// Bytes of packets that wait, with what it takes to keep them.
    held_bytes: usize,
    /// Bytes of packets that have left, in all.
    drained_bytes: u64,
    /// The system takes no more for now.
    pub blocked: bool,
    /// A turn's share was written, and there is more.
    pub has_more: bool,
}

/// What came of writing.
pub(super) enum Wrote {
    Nothing,
    /// Bytes have left; of packets so many in all.
    Some(u64),
}

impl Outbox {
    pub fn put(&mut self, bytes: Arc<[u8]>) {
        if !bytes.is_empty() {
            self.held_bytes += bytes.len() + PEER_MESSAGE_BYTES;
            self.items.push_back(Item::Packets(bytes));
        }
    }

    pub fn put_snapshot(&mut self, snapshot: Box<dyn Outgoing>) {
        self.items.push_back(Item::Snapshot(snapshot));
    }

    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Writes what it can. An error: the connection is of no more use.
    pub fn write<P: Poll>(&mut self, poll: &mut P, token: u32) -> io::Result<Wrote> {
        let (mut written, mut packets) = (0, 0);
        self.has_more = false;
        while !self.blocked && !self.items.is_empty() {
            if written >= TURN_WRITE_BYTES_MAX {
                self.has_more = true;
                break;
            }
            if !self.pull()? {
                break;
            }
            match self.write_once(poll, token) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => {
                    written += count;
                    packets += self.advance(count);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.blocked = true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.drained_bytes += packets;
        Ok(if written > 0 { Wrote::Some(self.drained_bytes) } else { Wrote::Nothing })
    }

    /// Has bytes at the front, taken from the snapshot that stands there; false: there are none yet, or nothing is left.
    fn pull(&mut self) -> io::Result<bool> {
        while let Some(Item::Snapshot(snapshot)) = self.items.front_mut() {
            match snapshot.next() {
                Piece::Bytes(bytes) => self.items.push_front(Item::Part(bytes)),
                Piece::NotYet => return Ok(false),
                Piece::End => drop(self.items.pop_front()),
                Piece::Failed => return Err(io::Error::other("the snapshot could not be made")),
            }
        }
        Ok(!self.items.is_empty())
    }

    fn write_once<P: Poll>(&self, poll: &mut P, token: u32) -> io::Result<usize> {
        let mut pieces = [IoSlice::new(&[]); GATHERED_MAX];
        let (mut count, mut at) = (0, self.at);
        for (item, piece) in self.items.iter().zip(&mut pieces) {
            let (Item::Packets(bytes) | Item::Part(bytes)) = item else { break };
            *piece = IoSlice::new(&bytes[std::mem::take(&mut at)..]);
            count += 1;
        }
        poll.write_gathered(token, &pieces[..count])
    }

    /// So many bytes have left; how many of them were packets'.
    fn advance(&mut self, mut count: usize) -> u64 {
        let mut packets = 0;
        while count > 0 {
            let (bytes, is_packets) = match self.items.front() {
                Some(Item::Packets(bytes)) => (bytes, true),
                Some(Item::Part(bytes)) => (bytes, false),
                Some(Item::Snapshot(_)) | None => unreachable!("only bytes of the queue are written"),
            };
            let (left, length) = (bytes.len() - self.at, bytes.len());
            let gone = left.min(count);
            count -= gone;
            self.at += gone;
            if is_packets {
                packets += gone as u64;
                self.held_bytes -= gone;
            }
            if self.at == length {
                self.held_bytes -= if is_packets { PEER_MESSAGE_BYTES } else { 0 };
                self.items.pop_front();
                self.at = 0;
            }
        }
        packets
    }
}
