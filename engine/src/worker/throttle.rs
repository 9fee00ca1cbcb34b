//! Holding clients back before they cost anything: the token bucket in front of new client sessions
//! (`connection_throttle_*`) and the sum of large requests in flight.
//! Not here: time and randomness, which come in as values; the per-address limit (`accept`).

use crate::config::ConnectionThrottle;
use ostler_replication::Moment;
use std::sync::atomic::{AtomicU64, Ordering};

/// A token bucket with a drop probability that rises while tokens are refused and falls while the bucket is full
/// enough (BlueThrottle; Apache's keys and meanings).
pub struct SessionThrottle {
    settings: ConnectionThrottle,
    tokens: u32,
    filled: Moment,
    drop_probability: f64,
    adjusted: Moment,
    refused_since_adjusted: bool,
    random: u64,
}

/// What a connect request asks for, as the weights know it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asks {
    NewSession,
    Renewal,
}

impl SessionThrottle {
    /// `seed` decides nothing but whom the drop probability hits.
    pub fn new(settings: ConnectionThrottle, seed: u64, now: Moment) -> SessionThrottle {
        SessionThrottle {
            settings,
            tokens: settings.tokens,
            filled: now,
            drop_probability: 0.0,
            adjusted: now,
            refused_since_adjusted: false,
            random: seed | 1,
        }
    }

    /// False: close without a response.
    pub fn admit(&mut self, asks: Asks, now: Moment) -> bool {
        if self.settings.tokens == 0 {
            return true;
        }
        self.fill(now);
        self.adjust(now);
        let price = match (self.settings.weighted, asks) {
            (false, _) => 1,
            (true, Asks::NewSession) => self.settings.weight_global,
            (true, Asks::Renewal) => self.settings.weight_renew,
        };
        let enough = self.tokens >= price;
        self.refused_since_adjusted |= !enough;
        if !enough || self.draw() < self.drop_probability {
            return false;
        }
        self.tokens -= price;
        true
    }

    pub fn drop_probability(&self) -> f64 {
        self.drop_probability
    }

    fn fill(&mut self, now: Moment) {
        let period = self.settings.fill_ms.max(1) as u64 * 1_000_000;
        let periods = now.since(self.filled) / period;
        if periods > 0 {
            let fresh = periods.saturating_mul(self.settings.fill_count as u64);
            self.tokens = (self.tokens as u64).saturating_add(fresh).min(self.settings.tokens as u64) as u32;
            self.filled = Moment(self.filled.0 + periods * period);
        }
    }

    fn adjust(&mut self, now: Moment) {
        let Some(freeze_ms) = self.settings.freeze_ms else { return };
        if now.since(self.adjusted) < freeze_ms as u64 * 1_000_000 {
            return;
        }
        self.adjusted = now;
        let full_enough = self.tokens as f64 > self.settings.tokens as f64 * self.settings.decrease_ratio;
        if std::mem::take(&mut self.refused_since_adjusted) {
            self.drop_probability = (self.drop_probability + self.settings.drop_increase).min(1.0);
        } else if full_enough {
            self.drop_probability = (self.drop_probability - self.settings.drop_decrease).max(0.0);
        }
    }

    /// 0..1.
    fn draw(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Bytes of large requests in flight in the whole server (`largeRequestThreshold`, `largeRequestMaxBytes`). Touched by
/// large requests only.
pub struct LargeRequests {
    threshold: Option<u32>,
    most: u64,
    in_flight: AtomicU64,
}

impl LargeRequests {
    pub fn new(threshold: Option<u32>, most: u64) -> LargeRequests {
        LargeRequests { threshold, most, in_flight: AtomicU64::new(0) }
    }

    /// Counts a request of that length; 0 if it is none of the large. `None`: too much, close the connection.
    pub fn admit(&self, bytes: usize) -> Option<u32> {
        if self.threshold.is_none_or(|threshold| bytes <= threshold as usize) {
            return Some(0);
        }
        let bytes = bytes as u64;
        let before = self.in_flight.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes > self.most {
            self.in_flight.fetch_sub(bytes, Ordering::Relaxed);
            return None;
        }
        Some(bytes as u32)
    }

    pub fn done(&self, bytes: u32) {
        if bytes > 0 {
            self.in_flight.fetch_sub(bytes as u64, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(settings: ConnectionThrottle, asks: &[(u64, Asks)], expected: &[bool]) -> SessionThrottle {
        let mut throttle = SessionThrottle::new(settings, 42, Moment(0));
        let admitted: Vec<bool> =
            asks.iter().map(|&(ms, asks)| throttle.admit(asks, Moment::from_millis(ms))).collect();
        assert_eq!(admitted, expected);
        throttle
    }

    use Asks::{NewSession, Renewal};

    #[test]
    fn off_by_default() {
        check(ConnectionThrottle::default(), &[(0, NewSession); 100], &[true; 100]);
    }

    #[test]
    fn tokens_come_back_with_time() {
        let settings = ConnectionThrottle { tokens: 2, fill_ms: 10, fill_count: 1, ..Default::default() };
        let asks = [
            (0, NewSession),
            (0, Renewal),
            (9, NewSession),
            (10, NewSession),
            (11, NewSession),
            (500, Renewal),
        ];
        check(settings, &asks, &[true, true, false, true, false, true]);
    }

    #[test]
    fn weights_charge_by_kind() {
        let settings =
            ConnectionThrottle { tokens: 6, fill_ms: 1000, weighted: true, ..ConnectionThrottle::default() };
        check(
            settings,
            &[(0, NewSession), (0, Renewal), (0, Renewal), (0, NewSession)],
            &[true, true, false, false],
        );
    }

    #[test]
    fn refusals_raise_the_drop_probability_and_calm_lowers_it() {
        let settings = ConnectionThrottle {
            tokens: 1,
            fill_ms: 1000,
            freeze_ms: Some(100),
            drop_increase: 0.5,
            drop_decrease: 0.25,
            ..Default::default()
        };
        let mut throttle =
            check(settings, &[(0, NewSession), (1, NewSession), (100, NewSession)], &[true, false, false]);
        assert_eq!(throttle.drop_probability(), 0.5);
        throttle.admit(NewSession, Moment::from_millis(2000));
        assert_eq!(throttle.drop_probability(), 1.0);
        throttle.tokens = 1;
        throttle.admit(NewSession, Moment::from_millis(2100));
        assert_eq!(throttle.drop_probability(), 0.75);
    }

    #[test]
    fn large_requests_share_a_sum() {
        let large = LargeRequests::new(Some(100), 250);
        assert_eq!(large.admit(100), Some(0));
        assert_eq!(large.admit(101), Some(101));
        assert_eq!(large.admit(140), Some(140));
        assert_eq!(large.admit(101), None);
        large.done(140);
        assert_eq!(large.admit(101), Some(101));
        assert_eq!(LargeRequests::new(None, 0).admit(1 << 30), Some(0));
    }
}
