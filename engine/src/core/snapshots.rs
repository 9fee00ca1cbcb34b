//! When a snapshot is due.
//! Not here: writing it.

use super::Settings;
use crate::limits::{
    SNAP_TXNS_DEFAULT, SNAPSHOT_CALM_BYTES_PER_SECOND, SNAPSHOT_LOG_BYTES_LEAST, SNAPSHOT_LOG_SIZES_RESTED,
    SNAPSHOT_LOG_SIZES_WORTH, SNAPSHOT_RESTS,
};
use ostler_replication::Moment;

pub(super) struct Snapshots {
    txns_limit: u32,
    bytes_limit: Option<u64>,
    /// Log bytes without which no number of txns is worth a snapshot.
    bytes_least: u64,
    /// Since the last one was begun.
    txns: u32,
    bytes: u64,
    /// Thresholds of this round: half the limit plus a random part of the other half.
    txns_due: u32,
    bytes_due: u64,
    /// Size of the last one, 0 when none is known.
    last_bytes: u64,
    /// When the one that is being written was begun.
    running: Option<Moment>,
    /// When the last one ended, and the nanoseconds it took. `None`: none since the start.
    last: Option<(Moment, u64)>,
    pace: Pace,
    random: u64,
}

/// How much is being logged, second by second.
struct Pace {
    since: Moment,
    bytes: u64,
    /// Whether the last whole second was calm.
    calm: bool,
}

impl Pace {
    fn is_calm(&mut self, now: Moment) -> bool {
        const SECOND: u64 = 1_000_000_000;
        let passed = now.since(self.since);
        if passed >= SECOND {
            let each_second = u128::from(self.bytes) * u128::from(SECOND) / u128::from(passed);
            self.calm = each_second <= u128::from(SNAPSHOT_CALM_BYTES_PER_SECOND);
            (self.since, self.bytes) = (now, 0);
        }
        self.calm
    }
}

impl Snapshots {
    /// `last_bytes`: size of the snapshot that recovery started from.
    pub fn new(settings: &Settings, last_bytes: u64) -> Snapshots {
        // Who sets `snapCount` means it.
        let chosen = settings.snap_txns != SNAP_TXNS_DEFAULT;
        let bytes_least = if chosen { 0 } else { SNAPSHOT_LOG_BYTES_LEAST };
        let mut snapshots = Snapshots {
            txns_limit: settings.snap_txns.max(2),
            bytes_limit: settings.snap_log_bytes,
            bytes_least,
            txns: 0,
            bytes: 0,
            txns_due: 0,
            bytes_due: 0,
            last_bytes,
            running: None,
            last: None,
            pace: Pace { since: Moment::default(), bytes: 0, calm: false },
            random: settings.seed | 1,
        };
        snapshots.draw();
        snapshots
    }

    /// A batch was handed to the log.
    pub fn logged(&mut self, txns: usize, bytes: usize) {
        self.txns = self.txns.saturating_add(txns as u32);
        self.bytes += bytes as u64;
        self.pace.bytes += bytes as u64;
    }

    /// Whether one is to be begun now; if so, the counts begin anew.
    pub fn begin(&mut self, now: Moment) -> bool {
        let calm = self.pace.is_calm(now);
        let enough = self.txns > self.txns_due && self.bytes >= self.bytes_least
            || self.bytes_limit.is_some() && self.bytes > self.bytes_due;
        if self.is_running() || !enough {
            return false;
        }
        let rested =
            self.last.is_none_or(|(ended, took)| now.since(ended) >= took.saturating_mul(SNAPSHOT_RESTS));
        let sizes = if rested && calm { SNAPSHOT_LOG_SIZES_RESTED } else { SNAPSHOT_LOG_SIZES_WORTH };
        // Rewriting a large tree for a few txns would cost more than replaying them.
        if self.bytes <= self.last_bytes.saturating_mul(sizes) {
            return false;
        }
        self.begun(now);
        true
    }

    /// One is written that was asked for by someone else, or by `begin`.
    pub fn begun(&mut self, now: Moment) {
        self.running = Some(now);
        self.txns = 0;
        self.bytes = 0;
        self.draw();
    }

    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// `bytes`: its size, `None` if it was given up; then the next comes after the usual interval. Either way it took its
    /// time, and the rest is due.
    pub fn ended(&mut self, bytes: Option<u64>, now: Moment) {
        let took = self.running.take().map_or(0, |begun| now.since(begun));
        self.last = Some((now, took));
        if let Some(bytes) = bytes {
            self.last_bytes = bytes;
        }
    }

    fn draw(&mut self) {
        let half = self.txns_limit / 2;
        self.txns_due = half + (self.next_random() % u64::from(half.max(1))) as u32;
        let half = self.bytes_limit.unwrap_or(0) / 2;
        self.bytes_due = half + self.next_random() % half.max(1);
    }

    /// xorshift64: spreads servers apart, nothing more is asked of it.
    fn next_random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Logs so many bytes by so many milliseconds; are the times calm then?
    fn check(steps: &[(u64, u64, bool)]) {
        let mut pace = Pace { since: Moment::default(), bytes: 0, calm: false };
        for &(ms, bytes, calm) in steps {
            pace.bytes += bytes;
            assert_eq!(pace.is_calm(Moment(ms * 1_000_000)), calm, "at {ms} ms");
        }
    }

    #[test]
    fn times_are_calm_after_a_second_of_little_log_until_one_of_much() {
        const MUCH: u64 = SNAPSHOT_CALM_BYTES_PER_SECOND;
        check(&[(500, 1, false), (999, 1, false), (1000, 1, true), (1500, MUCH, true), (2000, 1, false)]);
        check(&[(1000, MUCH + 1, false), (1999, 0, false), (2000, 0, true)]);
        // A long pause counts as a whole.
        check(&[(3000, 3 * MUCH, true), (5000, 2 * MUCH + 2, false)]);
    }
}
