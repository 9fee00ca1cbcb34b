//! The only door between the engine and whatever decides what is committed.
//! Knows zxids, epochs, servers and opaque records; knows no znode, no socket, no clock.
//!
//! Implementations are pure state machines: time and events go in through [`Broadcast::step`], decisions come out in
//! one queue whose order matters (an `Append` stands before whatever depends on it).

mod election;
mod ids;
mod members;
mod mutants;
mod quorums;
mod solo;
mod zab;

pub mod packet;

pub use election::{Election, ElectionSettings, Vote};
pub use ids::{Epoch, Epochs, Moment, Number, ServerId, SessionBits, Ticket, Zxid};
pub use members::{Address, BadMembers, Member, Members};
#[cfg(zab_mutants)]
pub use mutants::{Mutant, plant};
pub use packet::Packet;
pub use quorums::Quorums;
pub use solo::Solo;
pub use zab::{CacheLimits, Ensemble, EpochsLost, Recovered, Settings};

use std::collections::VecDeque;
use std::sync::Arc;

/// One sealed batch on its way to durability: the unit that is logged, replicated and committed.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
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

/// What the server is in its ensemble, as far as clients may know: it follows or observes only when it is in sync, and
/// leads only when its epoch is established.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Role {
    Standalone,
    Looking,
    Leading,
    Following(ServerId),
    Observing(ServerId),
}

/// One TCP connection for as long as it lives: what an older one brings never counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Link {
    pub peer: ServerId,
    /// Counts the links of this process.
    pub number: u64,
}

/// Which of a server's two ports for other servers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Port {
    Election,
    Quorum,
}

/// What a learner wants of its leader; opaque here.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Ask {
    /// A write, a sync, or the opening or closing of a session.
    Request {
        session: SessionBits,
        cxid: i32,
        /// The client protocol's number of the operation.
        op: i32,
        /// The client's request record, without its header.
        body: Vec<u8>,
        /// Scheme and id of each of the client's identities; `None` when the server itself asks.
        identities: Option<Vec<(String, String)>>,
    },
    /// A client has come to the learner with this session.
    Revalidate { session: SessionBits, timeout_ms: i32 },
}

/// What a leader answers other than by a txn. Stands in the same order as the commits around it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Answer {
    /// To the oldest sync that the learner has under way.
    Synced,
    Revalidated {
        session: SessionBits,
        valid: bool,
    },
}

/// A piece of the log on disk, read for a learner that lags behind what is kept in memory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct History {
    /// The last zxid at or before the one that was asked for which this server's history is known to hold: a record, or
    /// the snapshot that the log begins behind. `None`: the log does not reach back so far, or has a hole, or sending
    /// the records would cost more than a snapshot.
    pub from: Option<Zxid>,
    /// Records behind `from`, or behind the piece before.
    pub records: Option<Proposal>,
    /// Nothing follows: everything up to the zxid asked for has been handed over.
    pub is_last: bool,
}

/// What happened, told to the broadcast.
#[derive(Clone, Debug)]
pub enum Input {
    // From the core of a leader, or of a server without an ensemble.
    /// A batch that the core sealed; zxids continue where the last one ended.
    Propose(Proposal),
    /// `Passed` is wanted once all that was proposed before cannot be lost and leadership is confirmed.
    Barrier(Ticket),
    /// For the learner behind this link.
    Answer(Link, Answer),
    /// The core of a leader cannot lead any longer, and says why: its disk is full, or the server is to end.
    StepDown(String),

    // From the core of a learner.
    /// For the leader, in this order.
    Ask(Ask),
    /// These sessions were heard of, with their timeouts in milliseconds.
    Touched(Vec<(SessionBits, i32)>),

    // From the log. Requests are carried out and answered in the order in which they were made, each with the number
    // that it came with; one answer to an `Append` may stand for several.
    /// Everything up to this zxid is on stable storage.
    Durable {
        number: Number,
        zxid: Zxid,
    },
    /// The epoch files hold these values on stable storage.
    Persisted {
        number: Number,
        epochs: Epochs,
    },
    /// Log and world end at `to` now; false: they cannot be brought there, and nothing has changed. `to` is what was
    /// asked for, but where that was the beginning (e,0) of an epoch: then the last zxid before it.
    Truncated {
        number: Number,
        to: Zxid,
        done: bool,
    },
    /// The snapshot received through `link` is on stable storage and is the world now; false: it could not be written or
    /// the stream had broken off, and nothing has changed.
    Installed {
        number: Number,
        zxid: Zxid,
        done: bool,
    },
    History {
        link: Link,
        number: Number,
        history: History,
    },

    // From the network.
    /// A connection stands: one of ours (`dialled`), or one whose first bytes have told who is there. On the election port
    /// `addresses` are those that the other side announced for itself.
    Linked {
        link: Link,
        port: Port,
        dialled: bool,
        addresses: Vec<String>,
    },
    /// A connection that was asked for did not come about.
    Unreachable {
        peer: ServerId,
        port: Port,
    },
    Received(Link, Packet),
    /// So many bytes of what was sent have left for the kernel, in all. Counts the bytes of `Send`s; those of a snapshot
    /// stand between them and are not counted.
    Drained(Link, u64),
    /// More of a snapshot has come in or gone out through this link: it is slow, not silent. Once a second is enough.
    Progress(Link),
    /// The connection is gone. Not told of one that `Hang` ended.
    Unlinked(Link),
    /// The snapshot that `TakeSnapshot` waited for has been received whole and checked, or has broken off (`done`
    /// false). What the link brings comes behind it.
    Streamed {
        link: Link,
        done: bool,
    },

    /// `next_timeout` has come.
    Timeout,
}

/// What is to be done, in this order.
#[derive(Clone, Debug)]
pub enum Output {
    // For the log, one queue.
    /// Log this batch; answer with `Durable`.
    Append {
        number: Number,
        proposal: Proposal,
    },
    /// Write the epoch files; answer with `Persisted`.
    Persist {
        number: Number,
        epochs: Epochs,
    },
    /// Remove everything behind this zxid from log and world; answer with `Truncated`.
    Truncate {
        number: Number,
        to: Zxid,
    },
    /// Make the snapshot received through this link the world and what the log stands behind; answer with `Installed`.
    Install {
        number: Number,
        link: Link,
        zxid: Zxid,
    },
    /// Read what the log holds behind `after` up to `to`; answer with `History`, in pieces. Does not wait for the queue,
    /// and holds nothing up.
    ReadHistory {
        number: Number,
        link: Link,
        after: Zxid,
        to: Zxid,
    },

    // For the core.
    /// This epoch is established with this server as its leader: zxids are given out from its first on.
    Lead(Epoch),
    /// Everything up to this zxid of what was proposed here can no longer be lost.
    Commit(Zxid),
    /// Committed, and not applied yet: to be applied in this order. Everything of one turn is one batch for clients.
    Deliver(Proposal),
    Passed(Ticket),
    /// A learner asks; its requests are to become txns in the order in which they come.
    Asked(Link, Ask),
    /// The leader answers what this server asked.
    Answered(Answer),
    /// Sessions that a learner has heard of, with their timeouts in milliseconds.
    Touches(Link, Vec<(SessionBits, i32)>),
    /// A learner's connection is gone, and with it what it asked for.
    Lost(Link),
    Role(Role),

    // For the network.
    /// Connect; answer with `Linked` or `Unreachable`. Names are resolved anew. `addresses`: where else than the
    /// configuration says.
    Dial {
        peer: ServerId,
        port: Port,
        addresses: Vec<String>,
    },
    /// Put these bytes behind what is queued for the link.
    Send(Link, Arc<[u8]>),
    /// Put a snapshot behind what is queued: the body without the packet before it. Of the world up to the last `Commit`
    /// or `Deliver`, exactly; before the first one of this process, as it was recovered.
    SendSnapshot(Link),
    /// What this link brings next is a snapshot's body, not packets; answer with `Streamed`.
    TakeSnapshot(Link),
    /// Close the connection, and say why.
    Hang(Link, String),

    /// For the operator's log.
    Report(String),
}

pub type Outputs = VecDeque<Output>;

/// Where a server stands in the protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    Election,
    Discovery,
    Synchronization,
    Broadcast,
}

/// One learner as its leader sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LearnerStatus {
    pub link: Link,
    /// It counts in quorums.
    pub is_voter: bool,
    /// It has said that it observes.
    pub is_observer: bool,
    /// It has acknowledged the epoch and is sent what is proposed.
    pub is_synced: bool,
    pub acked: Zxid,
    /// Bytes that wait for the connection.
    pub queued_bytes: u64,
}

/// For operators' words, metrics and checkers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    pub role: Role,
    pub phase: Phase,
    /// Votes, while looking: the proposed leader.
    pub leader: Option<ServerId>,
    pub epochs: Epochs,
    /// Last zxid in the log, on stable storage or on its way there.
    pub logged: Zxid,
    /// Last zxid known to be committed.
    pub committed: Zxid,
    /// The text of the configuration, as `/zookeeper/config` shows it; empty without an ensemble.
    pub members: String,
    pub quorum_size: usize,
    pub learners: Vec<LearnerStatus>,
    /// Between losing the last leader and having the present one, milliseconds.
    pub election_ms: Option<u64>,
    /// What is being waited for, in words for the log.
    pub waiting_for: String,
}

/// Total order: what is proposed once comes out once, when it cannot be lost.
pub trait Broadcast: Send {
    fn step(&mut self, input: Input, now: Moment, outputs: &mut Outputs);

    /// When `Input::Timeout` is wanted next.
    fn next_timeout(&self) -> Option<Moment>;

    /// Whether another batch may be sealed now.
    fn may_propose(&self) -> bool;

    fn status(&self) -> Status;
}
