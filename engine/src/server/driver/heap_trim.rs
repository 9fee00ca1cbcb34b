//! When what a burst of writes left free in the heap goes back to the system.
//! Not here: how it does.

use crate::limits;
use ostler_replication::Moment;

#[derive(Default)]
pub struct HeapTrim {
    /// Of records, since it last did.
    written: u64,
    busy_at: Moment,
}

impl HeapTrim {
    pub(super) fn wrote(&mut self, bytes: usize, now: Moment) {
        self.written += bytes as u64;
        self.busy_at = now;
    }

    /// To be asked again and again; once it says so, it is over.
    pub(super) fn is_due(&mut self, is_busy: impl FnOnce() -> bool, now: Moment) -> bool {
        if self.written < limits::HEAP_TRIM_BYTES_LEAST {
            return false;
        }
        if is_busy() {
            self.busy_at = now;
        }
        let is_due = now.since(self.busy_at) >= limits::HEAP_TRIM_AFTER_MS * 1_000_000;
        if is_due {
            self.written = 0;
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_goes_back_once_when_much_was_written_and_nothing_goes_on() {
        let after = |ms: u64| Moment::from_millis(limits::HEAP_TRIM_AFTER_MS + ms);
        let half = limits::HEAP_TRIM_BYTES_LEAST as usize / 2;
        let mut trim = HeapTrim::default();
        trim.wrote(half, Moment::from_millis(1));
        assert!(!trim.is_due(|| false, after(1)), "little was written");
        trim.wrote(half, Moment::from_millis(2));
        assert!(!trim.is_due(|| false, after(1)), "too soon");
        assert!(!trim.is_due(|| true, after(2)), "something goes on");
        assert!(!trim.is_due(|| false, after(3)), "too soon behind it");
        assert!(trim.is_due(|| false, after(limits::HEAP_TRIM_AFTER_MS + 2)));
        assert!(!trim.is_due(|| false, after(10_000_000)), "once");
    }
}
