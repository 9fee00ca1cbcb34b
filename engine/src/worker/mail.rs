//! What reaches a worker besides sockets and the ring: fresh connections, answers to four-letter words, questions of
//! the admin side, the wish to stop.
//! Not here: how any of it is handled.
//!
//! Bounded by what it carries: every socket in a mailbox is an open descriptor, every text answers an open connection,
//! and each admin question waits for its answer before the next.

use super::inspect::Inspection;
use crate::ring::{ConnRef, Wake};
use crossbeam::queue::SegQueue;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// A question run inside the worker, between two turns' work: it must be brief.
pub type Question = Box<dyn FnOnce(&mut Inspection<'_>) + Send>;

pub enum Mail<S> {
    Adopt {
        socket: S,
        peer: SocketAddr,
    },
    /// The answer to a four-letter word: send it, then close.
    Text {
        to: ConnRef,
        text: Vec<u8>,
    },
    Ask(Question),
    /// Accept and read no more, hand out what is due; `Worker::is_drained` tells when that is done.
    Drain,
}

/// A worker's letter box, shared by whoever may write to it.
pub struct Mailbox<S> {
    mails: SegQueue<Mail<S>>,
    waker: Box<dyn Wake>,
}

impl<S> Mailbox<S> {
    pub fn new(waker: Box<dyn Wake>) -> Arc<Mailbox<S>> {
        Arc::new(Mailbox { mails: SegQueue::new(), waker })
    }

    pub fn send(&self, mail: Mail<S>) {
        self.mails.push(mail);
        self.waker.wake();
    }

    pub fn take(&self) -> Option<Mail<S>> {
        self.mails.pop()
    }

    pub fn is_empty(&self) -> bool {
        self.mails.is_empty()
    }
}

/// A connection that is closed, as the acceptor needs to know it.
#[derive(Clone, Copy, Debug)]
pub struct Departure {
    pub worker: u16,
    pub address: IpAddr,
}

/// Closed connections on their way to the acceptor, who reads them when it next accepts.
pub type Departures = Arc<SegQueue<Departure>>;
