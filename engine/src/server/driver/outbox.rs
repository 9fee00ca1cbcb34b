//! Events on their way into the ring: what waits because the slowest worker has to move first, and what the ring holds, in
//! bytes.

use crate::ring::{Event, Publisher};
use std::collections::VecDeque;

pub(super) struct Outbox {
    publisher: Publisher<Event>,
    /// Decided, but the ring was full.
    waiting: VecDeque<Event>,
    /// Bytes of the newest events published, as many as the ring may still hold.
    in_ring: VecDeque<usize>,
    in_ring_bytes: usize,
    in_ring_bytes_max: usize,
}

impl Outbox {
    pub(super) fn new(publisher: Publisher<Event>, in_ring_bytes_max: usize) -> Outbox {
        let (waiting, in_ring) = Default::default();
        Outbox { publisher, waiting, in_ring, in_ring_bytes: 0, in_ring_bytes_max }
    }

    pub(super) fn push(&mut self, event: Event) {
        self.waiting.push_back(event);
    }

    pub(super) fn publish(&mut self) {
        self.forget_taken();
        while let Some(event) = self.waiting.pop_front() {
            let bytes = event.bytes();
            let published =
                self.publisher.publish(event, |worker, watching, event| event.concerns(worker, watching));
            if let Err(event) = published {
                self.waiting.push_front(event);
                break;
            }
            self.in_ring.push_back(bytes);
            self.in_ring_bytes += bytes;
        }
    }

    /// Nothing more should be decided before the workers have moved. The newest event does not count: the ring keeps it
    /// until there is another, whoever has taken it.
    pub(super) fn is_blocked(&self) -> bool {
        let newest = self.in_ring.back().copied().unwrap_or(0);
        !self.waiting.is_empty() || self.in_ring_bytes - newest > self.in_ring_bytes_max
    }

    /// What every worker has left behind counts no more.
    fn forget_taken(&mut self) {
        let held = self.publisher.free();
        while self.in_ring.len() > held {
            self.in_ring_bytes -= self.in_ring.pop_front().unwrap_or(0);
        }
    }
}
