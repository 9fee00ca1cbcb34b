//! What other threads tell the core's, and where they put it.

use crate::core::Core;
use crate::intake::Bell;
use crate::log::{LogAnswer, LogSpace};
use crossbeam::queue::SegQueue;
use std::sync::Arc;

pub enum DriverMessage {
    Log(LogAnswer),
    Space(LogSpace),
    /// Size of the snapshot, or why there is none.
    Snapshot(Option<u64>),
    SnapshotWanted,
    /// A question run on the core's thread, between two steps: it must be brief.
    Ask(Question),
    /// Look at what was set to make you stop.
    Stop,
}

pub type Question = Box<dyn FnOnce(&Core) + Send>;

/// Bounded by what is under way: one sync, one snapshot, and what operators ask for.
pub struct Mailbox {
    messages: SegQueue<DriverMessage>,
    bell: Arc<Bell>,
}

impl Mailbox {
    pub fn new(bell: Arc<Bell>) -> Mailbox {
        Mailbox { messages: SegQueue::new(), bell }
    }

    pub fn send(&self, message: DriverMessage) {
        self.messages.push(message);
        self.bell.ring();
    }

    pub(super) fn take(&self) -> Option<DriverMessage> {
        self.messages.pop()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }
}
