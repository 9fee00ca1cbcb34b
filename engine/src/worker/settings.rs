//! What a worker needs of the configuration, made once for all workers.
//! Not here: reading the configuration (`config`).

use super::throttle::{LargeRequests, SessionThrottle};
use crate::admin::FourLetter;
use crate::config::{Config, RequestThrottle, Words};
use crate::model::Schemes;
use crate::ring::ConnRef;
use ostler_replication::Moment;
use std::sync::{Arc, Mutex};

/// Shared by all workers of a server; nothing in here is written by a read.
pub struct Shared {
    /// Largest request frame, bytes.
    pub frame_bytes_max: u32,
    pub schemes: Schemes,
    /// Without an id of one of these schemes a request is refused; empty = no such rule.
    pub enforced_schemes: Vec<String>,
    pub words: Words,
    /// `leaderServes`: clients are let in while this server leads an ensemble.
    pub leader_serves: bool,
    pub desk: Arc<dyn Desk>,
    pub sessionless_ms: u64,
    /// A request that takes longer is told in the log.
    pub slow_request_ms: u32,
    /// This worker's share of `globalOutstandingLimit`.
    pub outstanding_max: usize,
    pub request_throttle: RequestThrottle,
    /// This worker's share of `request_throttle_max_requests`; 0 = off.
    pub requests_max: usize,
    /// Between two reports of who was heard from.
    pub touch_ms: u64,
    pub large: LargeRequests,
    /// `None` when connects are not throttled. Taken once per connect request, never by anything else.
    pub session_throttle: Option<Mutex<SessionThrottle>>,
}

/// Where four-letter words are answered. Called inside a turn: must return at once, and answer through the worker's
/// mailbox (`Mail::Text`).
pub trait Desk: Send + Sync {
    fn ask(&self, word: FourLetter, argument: i64, from: ConnRef);
}

impl Shared {
    /// `seed`: random, for the throttle's dice only.
    pub fn new(config: &Config, workers: usize, desk: Arc<dyn Desk>, seed: u64, now: Moment) -> Arc<Shared> {
        let share = |limit: u32| (limit as usize).div_ceil(workers.max(1));
        let throttle = config.connection_throttle;
        let session_throttle =
            (throttle.tokens > 0).then(|| Mutex::new(SessionThrottle::new(throttle, seed, now)));
        Arc::new(Shared {
            frame_bytes_max: config.frame_bytes_max,
            schemes: config.auth.schemes(),
            enforced_schemes: config.auth.enforced_schemes.clone(),
            words: config.words.clone(),
            leader_serves: config.ensemble.as_ref().is_none_or(|ensemble| ensemble.settings.leader_serves),
            desk,
            sessionless_ms: config.sessionless_ms_max.max(1),
            slow_request_ms: config.slow_request_ms,
            outstanding_max: share(config.outstanding_requests_max).max(1),
            request_throttle: config.request_throttle,
            requests_max: share(config.request_throttle.requests_max),
            touch_ms: (config.tick_ms as u64 / 2).clamp(10, 1000),
            large: LargeRequests::new(config.large_request_bytes, config.large_requests_bytes_max),
            session_throttle,
        })
    }
}
