//! Whether the log's disk is full, and when something was last done about it.
//! Not here: what is done.

use crate::core::Now;
use crate::limits;
use crate::log::LogSpace;
use ostler_replication::Moment;

#[derive(Default)]
pub struct SpaceWatch {
    low: bool,
    tried: Option<Moment>,
}

impl SpaceWatch {
    pub(super) fn told(&mut self, space: LogSpace) {
        self.low = space != LogSpace::Ok;
        if !self.low {
            self.tried = None;
        }
    }

    pub(super) fn is_low(&self) -> bool {
        self.low
    }

    pub(super) fn is_due(&mut self, now: Now) -> bool {
        let again = limits::SPACE_AGAIN_MS * 1_000_000;
        let due = self.low && self.tried.is_none_or(|at| now.mono.since(at) >= again);
        if due {
            self.tried = Some(now.mono);
        }
        due
    }
}
