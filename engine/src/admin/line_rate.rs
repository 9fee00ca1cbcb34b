//! Bounds the lines of one kind in the server's log: a storm of clients is a few lines and a count.
//! Not here: what the lines say.

use ostler_replication::Moment;

use crate::limits::{LINE_PERIOD_MS, LINES_PER_PERIOD};

/// Of one thread.
#[derive(Default)]
pub struct LineRate {
    begun: Option<Moment>,
    said: u32,
    unsaid: u64,
}

impl LineRate {
    /// True: there is a line to write. False: it is counted.
    pub fn may_say(&mut self, now: Moment) -> bool {
        if self.begun.is_none_or(|begun| is_over(begun, now)) && self.unsaid == 0 {
            (self.begun, self.said) = (Some(now), 0);
        }
        if self.said < LINES_PER_PERIOD {
            self.said += 1;
            return true;
        }
        self.unsaid += 1;
        false
    }

    /// How many were counted instead of said, once their period is over. To be asked now and then.
    pub fn take_unsaid(&mut self, now: Moment) -> Option<u64> {
        let is_due = self.unsaid > 0 && self.begun.is_some_and(|begun| is_over(begun, now));
        is_due.then(|| {
            (self.begun, self.said) = (Some(now), 0);
            std::mem::take(&mut self.unsaid)
        })
    }
}

fn is_over(begun: Moment, now: Moment) -> bool {
    now.since(begun) >= LINE_PERIOD_MS * 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_is_a_few_lines_and_a_count() {
        let mut rate = LineRate::default();
        let at = Moment::from_millis;
        let said = (0..1000).filter(|_| rate.may_say(at(5))).count();
        assert_eq!(said, LINES_PER_PERIOD as usize);
        assert_eq!(rate.take_unsaid(at(6)), None);
        let later = at(5 + LINE_PERIOD_MS);
        // What was counted is told before anything else is said.
        assert!(!rate.may_say(later));
        assert_eq!(rate.take_unsaid(later), Some(1001 - u64::from(LINES_PER_PERIOD)));
        assert_eq!(rate.take_unsaid(later), None);
        assert!(rate.may_say(later));
        // Rare things are always said.
        assert!((1..100).all(|n| rate.may_say(at(n * 100_000))));
    }
}
