//! Time from outside: a monotonic clock for decisions, the wall clock for stamps.
//! Not here: timers; whoever waits asks for the time and compares.

use crate::model::WallMillis;
use ostler_replication::Moment;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Both clocks, read at one point.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Now {
    pub mono: Moment,
    pub wall: WallMillis,
}

pub trait Clock: Send {
    fn now(&self) -> Now;
}

/// The operating system's clocks. Clones share their origin, so Moments of one process compare.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    origin: Instant,
}

impl SystemClock {
    /// Starts counting one hour before now, so that a deadline in the recent past can be expressed.
    pub fn start() -> SystemClock {
        let now = Instant::now();
        SystemClock { origin: now.checked_sub(std::time::Duration::from_secs(3600)).unwrap_or(now) }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
        Now { mono: Moment(self.origin.elapsed().as_nanos() as u64), wall: WallMillis(wall) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_their_origin() {
        let clock = SystemClock::start();
        let earlier = clock.now();
        let later = { clock }.now();
        assert!(later.mono >= earlier.mono && later.mono.since(earlier.mono) < 60_000_000_000);
        assert!(later.wall.0 > 1_700_000_000_000);
    }
}
