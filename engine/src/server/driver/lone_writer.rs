//! Whether one client writes alone: then the core waits for the disk in the log thread's stead.

use crate::core::Now;
use crate::intake::CoreRequest;
use crate::limits;
use crate::ring::ConnRef;
use ostler_replication::Moment;

#[derive(Default)]
pub struct LoneWriter {
    last: Option<ConnRef>,
    /// When another one wrote before it.
    others_at: Option<Moment>,
}

impl LoneWriter {
    pub(super) fn note(&mut self, request: &CoreRequest, now: Now) {
        if let CoreRequest::Write { from, .. } = request
            && self.last.replace(*from) != Some(*from)
        {
            self.others_at = Some(now.mono);
        }
    }

    pub(super) fn writes_alone(&self, now: Moment) -> bool {
        self.others_at.is_some_and(|at| now.since(at) >= limits::LONE_CALLER_MS * 1_000_000)
    }
}
