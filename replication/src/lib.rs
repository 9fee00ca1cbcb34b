//! The only door between the engine and whatever decides what is committed.
//! Knows zxids, epochs, servers and opaque records; knows no znode, no socket, no clock.
//!
//! Implementations are pure state machines: time and events go in through [`Broadcast::step`], decisions come out in
//! one queue whose order matters (an `Append` stands before whatever depends on it).

mod ids;
mod solo;

pub use ids::{Epoch, Epochs, Moment, ServerId, Ticket, Zxid};
pub use solo::Solo;

use std::collections::VecDeque;
use std::sync::Arc;

/// One sealed batch on its way to durability: the unit that is logged, replicated and committed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proposal {
    /// Zxid of the first record.
    pub first: Zxid,
    /// Zxid of the last record; the batch commits when this one does.
    pub last: Zxid,
    /// Wire entries (txn header, body, optional digest), each behind its length as a big-endian `u32`. The buffer that
    /// they were collected in, for copying a batch costs more than following one more pointer.
    pub records: Arc<Vec<u8>>,
}

impl Proposal {
    /// The entries in zxid order, without their lengths. Panics when `records` is not what the engine encodes.
    pub fn entries(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest: &[u8] = &self.records;
        std::iter::from_fn(move || {
            let (length, tail) = rest.split_first_chunk::<4>()?;
            let (entry, tail) = tail.split_at(u32::from_be_bytes(*length) as usize);
            rest = tail;
            Some(entry)
        })
    }
}

/// What the server is in its ensemble.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    Standalone,
    Looking,
    Leading,
    Following(ServerId),
    Observing(ServerId),
}

/// What happened, told to the broadcast.
#[derive(Clone, Debug)]
pub enum Input {
    /// A batch that the core sealed; zxids continue where the last one ended.
    Propose(Proposal),
    /// Everything up to this zxid is on stable storage.
    Durable(Zxid),
    /// The epoch files hold these values on stable storage.
    Persisted(Epochs),
    /// `Passed` is wanted once all that was proposed before cannot be lost and leadership is confirmed.
    Barrier(Ticket),
    /// A frame from another server.
    Received(ServerId, Arc<[u8]>),
    /// The connection to another server is gone.
    Lost(ServerId),
    /// `next_timeout` has come.
    Timeout,
}

/// What is to be done, in this order.
#[derive(Clone, Debug)]
pub enum Output {
    /// Log this batch; answer with `Durable`.
    Append(Proposal),
    /// Write the epoch files; answer with `Persisted`.
    Persist(Epochs),
    /// Remove everything behind this zxid from log and world.
    Truncate(Zxid),
    /// Everything up to this zxid can no longer be lost.
    Commit(Zxid),
    Passed(Ticket),
    Send(ServerId, Arc<[u8]>),
    Role(Role),
}

pub type Outputs = VecDeque<Output>;

/// Total order: what is proposed once comes out once, when it cannot be lost.
pub trait Broadcast: Send {
    fn step(&mut self, input: Input, now: Moment, outputs: &mut Outputs);

    /// When `Input::Timeout` is wanted next.
    fn next_timeout(&self) -> Option<Moment>;
}
