//! Lines of the log about those who connect or are connected to, at most one per origin in ten seconds: a peer gone mad
//! does not fill a disk. Not here: what is complained about.

use ostler_replication::Moment;
use std::collections::BTreeMap;

const QUIET_MS: u64 = 10_000;
/// Origins remembered. When all of them have just been named, others go unnamed.
const ORIGINS_MAX: usize = 256;

#[derive(Default)]
pub(super) struct Complaints {
    /// When each was named last, and what was swallowed since.
    origins: BTreeMap<String, (Moment, u64)>,
}

impl Complaints {
    /// `Some`: say it now, and that so many were not said before.
    pub fn may_say(&mut self, origin: &str, now: Moment) -> Option<u64> {
        let is_over = |said: Moment| now.since(said) >= QUIET_MS * 1_000_000;
        if let Some((said, swallowed)) = self.origins.get_mut(origin) {
            if is_over(*said) {
                *said = now;
                return Some(std::mem::take(swallowed));
            }
            *swallowed += 1;
            return None;
        }
        if self.origins.len() >= ORIGINS_MAX {
            self.origins.retain(|_, (said, _)| !is_over(*said));
            if self.origins.len() >= ORIGINS_MAX {
                return None;
            }
        }
        self.origins.insert(origin.to_owned(), (now, 0));
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_per_origin_and_interval_and_a_bound_on_origins() {
        let mut complaints = Complaints::default();
        let at = |ms| Moment::from_millis(ms);
        assert_eq!(complaints.may_say("a", at(0)), Some(0));
        assert_eq!(complaints.may_say("a", at(9_999)), None);
        assert_eq!(complaints.may_say("b", at(9_999)), Some(0));
        assert_eq!(complaints.may_say("a", at(10_000)), Some(1));
        let said = (0..1000).filter(|n| complaints.may_say(&n.to_string(), at(10_001)).is_some()).count();
        assert_eq!(said, ORIGINS_MAX - 2);
        assert_eq!(complaints.may_say("later", at(20_001)), Some(0));
    }
}
