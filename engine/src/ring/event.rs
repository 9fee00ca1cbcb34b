//! What the core tells the workers.
//! Not here: how it travels (`ring`), what a worker does with it.

use crate::model::{SessionId, Xid};
use crate::world::{Changes, View};
use ostler_replication::{Role, Zxid};
use std::num::NonZeroU32;
use std::ops::Range;

/// One event of the ring. `view` is the world with it: what reads are served from until the next one.
pub struct Event {
    pub view: View,
    pub news: News,
}

/// What is new.
pub enum News {
    Batch(Batch),
    /// What this server is from here on.
    Role(Role),
}

/// What txns that were committed together, and requests between them, bring: for each txn in zxid order first the watch
/// events of its changes, then the outcome. Both lists ascend by zxid; `changes` is empty when no txn stands behind the
/// outcomes.
#[derive(Default)]
pub struct Batch {
    pub changes: Changes,
    /// In the order in which the core took the requests.
    pub outcomes: Vec<Outcome>,
    /// All replies, encoded once.
    pub frames: Vec<u8>,
}

impl Event {
    /// What it holds of its own, the View's share of the world apart.
    pub fn bytes(&self) -> usize {
        match &self.news {
            News::Batch(Batch { changes, outcomes, frames }) => {
                frames.len() + changes.text.len() + size_of_val(&*changes.list) + size_of_val(&**outcomes)
            }
            News::Role(_) => 0,
        }
    }

    /// Whether a worker that sleeps is to be woken by it.
    pub fn concerns(&self, worker: usize, is_watching: bool) -> bool {
        match &self.news {
            News::Batch(batch) => {
                is_watching && !batch.changes.list.is_empty()
                    || batch.outcomes.iter().any(|outcome| usize::from(outcome.to.worker) == worker)
            }
            News::Role(_) => true,
        }
    }
}

/// One client connection for as long as it lives: slots are used again, generations are not.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ConnRef {
    pub worker: u16,
    pub slot: u32,
    /// From 1, so that an `Option` of this takes no more room.
    pub generation: NonZeroU32,
}

/// What the core decided for one connection: nearly always the answer to one request of it, in request order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    pub to: ConnRef,
    /// The txn this belongs to, or the last one before it: events of txns up to here go out first. Equals the zxid in
    /// the reply's header.
    pub zxid: Zxid,
    /// Of the request answered; means nothing for frames of the handshake and for outcomes without a frame.
    pub xid: Xid,
    /// Where in the batch's `frames` the complete reply stands, length word included.
    /// Empty: nothing is sent.
    pub frame: Range<u32>,
    pub then: After,
}

/// What the worker does with the connection behind the frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum After {
    Keep,
    /// The frame is the ConnectResponse: from here on the connection belongs to this session.
    Established {
        session: SessionId,
        timeout_ms: i32,
    },
    /// Send what is queued, then close.
    Close,
    /// Close at once, nothing more is sent: the session expired, moved to another connection, or the request came from
    /// a connection that no longer owns it.
    Drop,
    /// Not an answer. The session's deadline has passed: read this socket dry in a turn begun after this outcome, then
    /// send `CoreRequest::Silent` with the token, or a touch if anything came.
    Probe {
        session: SessionId,
        token: u64,
    },
}
