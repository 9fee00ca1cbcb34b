//! What varies from run to run: how large everything is, how fast, and how servers are told to deal with each other; and
//! the clocks. Not here: what goes wrong (`faults`), the servers themselves (`machine`).

use crate::log::Pace;
use crate::net::{HostId, address_of};
use ostler_engine::config::{Config, Containers, EnsembleConfig, EnsembleSettings};
use ostler_engine::io::clock::{self, Clock};
use ostler_engine::limits;
use ostler_engine::log::Method;
use ostler_engine::model::WallMillis;
use ostler_replication::{Members, Moment, ServerId};
use ostler_tests::random::Random;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// One machine's clocks. The time that passes is everybody's; how fast it seems to pass, and what time it is, are not.
#[derive(Clone, Default)]
pub struct SimClock {
    nanos: Arc<AtomicU64>,
    /// What the wall clock is ahead, milliseconds.
    ahead: Arc<AtomicI64>,
    /// Parts of a million that this clock is too fast.
    fast_ppm: i64,
    /// What a monotonic clock counts from is the machine's own affair.
    since_nanos: u64,
}

impl SimClock {
    /// Another machine's, in the same world.
    pub fn of_another(&self, ppm_max: i64, random: &mut Random) -> SimClock {
        SimClock {
            nanos: self.nanos.clone(),
            ahead: Arc::new(AtomicI64::new(random.below(4000) as i64 - 2000)),
            fast_ppm: random.below(2 * ppm_max as u64) as i64 - ppm_max,
            since_nanos: random.below(1 << 50),
        }
    }

    pub fn nanos(&self) -> u64 {
        self.nanos.load(Ordering::Relaxed)
    }

    pub fn advance_to(&self, nanos: u64) {
        self.nanos.fetch_max(nanos, Ordering::Relaxed);
    }

    /// When so many nanoseconds of this clock will have passed.
    pub fn after(&self, own_nanos: u64) -> u64 {
        let nanos = i128::from(own_nanos) * 1_000_000 / i128::from(1_000_000 + self.fast_ppm);
        self.nanos() + nanos as u64 + 1
    }

    pub fn wall_ms(&self) -> i64 {
        self.now().wall.0
    }

    /// The operator, or NTP, sets the wall clock.
    pub fn set_wall_ahead(&self, millis: i64) {
        self.ahead.store(millis, Ordering::Relaxed);
    }
}

impl Clock for SimClock {
    fn now(&self) -> clock::Now {
        let nanos = self.nanos();
        let wall = 1_700_000_000_000 + (nanos / 1_000_000) as i64 + self.ahead.load(Ordering::Relaxed);
        let own = i128::from(nanos) * i128::from(1_000_000 + self.fast_ppm) / 1_000_000;
        // As the real clock: an hour of past.
        let mono = Moment(3_600_000_000_000 + self.since_nanos + own as u64);
        clock::Now { mono, wall: WallMillis(wall) }
    }
}

#[derive(Clone, Debug)]
pub struct Shape {
    /// That vote, and that do not.
    pub voters: u8,
    pub observers: u8,
    pub workers: usize,
    pub tick_ms: u32,
    pub snap_txns: u32,
    pub segment_bytes: u64,
    pub method: Method,
    pub ring_events: usize,
    pub outstanding_max: u32,
    pub pace: Pace,
    pub batch_txns_max: u32,
    /// Of all workers together.
    pub intake_requests_max: usize,
    pub intake_bytes_max: usize,
    pub ring_bytes_max: usize,
    /// Requests that the core takes in one turn.
    pub turn_requests_max: usize,
    pub log_proposals_max: usize,
    pub sync_ticks: u32,
    pub committed_txns_kept: u32,
    pub history_share: Option<f64>,
    pub leader_serves: bool,
    /// How wrong machines' clocks go, in parts of a million: no real one is as bad as the worst of these, which stand in
    /// for machines that are held up.
    pub clock_ppm_max: i64,
}

impl Shape {
    pub fn chosen(random: &mut Random, voters: u8, observers: u8) -> Shape {
        let tick_ms = *random.pick(&[100, 500, 2000]);
        let tick_nanos = u64::from(tick_ms) * 1_000_000;
        Shape {
            voters,
            observers,
            workers: random.between(1, 3) as usize,
            tick_ms,
            snap_txns: *random.pick(&[20, 100, 100_000]),
            segment_bytes: if random.one_in(8) { 8 << 20 } else { 64 << 10 },
            method: *random.pick(&[Method::Direct, Method::Mapped, Method::Pwrite]),
            ring_events: *random.pick(&[2, 4, 64, limits::RING_EVENTS_MAX]),
            outstanding_max: *random.pick(&[2, 1000]),
            pace: Pace {
                usual_most: *random.pick(&[100_000, 5_000_000]),
                // Now and then longer than any client's timeout, which is six ticks at most.
                rare_most: if random.one_in(4) { 8 * tick_nanos } else { 300_000_000 },
            },
            batch_txns_max: *random.pick(&[2, 8, 1000]),
            intake_requests_max: *random.pick(&[4, 64, limits::INTAKE_REQUESTS_MAX]),
            intake_bytes_max: *random.pick(&[512, limits::INTAKE_BYTES_MAX]),
            ring_bytes_max: *random.pick(&[2048, limits::RING_BYTES_MAX]),
            turn_requests_max: *random.pick(&[1, 16, limits::CORE_STEP_REQUESTS_MAX]),
            log_proposals_max: *random.pick(&[1, limits::LOG_QUEUE_PROPOSALS_MAX]),
            sync_ticks: *random.pick(&[2, 5]),
            committed_txns_kept: *random.pick(&[1, 10, 500]),
            history_share: *random.pick(&[None, Some(0.33), Some(1000.0)]),
            leader_serves: !random.one_in(8),
            clock_ppm_max: *random.pick(&[1_000, 30_000, 200_000]),
        }
    }

    pub fn is_ensemble(&self) -> bool {
        self.voters + self.observers > 1
    }

    pub fn hosts(&self) -> impl Iterator<Item = HostId> {
        1..=self.voters + self.observers
    }

    fn members(&self) -> Members {
        let line = |host: HostId| {
            let (address, role) =
                (address_of(host), if host <= self.voters { "participant" } else { "observer" });
            format!("server.{host}={address}:2888:3888:{role};{address}:2181\n")
        };
        Members::parse(&self.hosts().map(line).collect::<String>()).expect("written a moment ago")
    }

    pub fn config(&self, me: HostId) -> Config {
        let settings = EnsembleSettings {
            init_ticks: 10,
            sync_ticks: self.sync_ticks,
            connect_ticks: 10,
            leader_serves: self.leader_serves,
            election_connect_ms: 1000,
            notification_ms_most: 2000,
            committed_txns_kept: self.committed_txns_kept,
            history_share: self.history_share,
            ..EnsembleSettings::default()
        };
        let of_ensemble =
            || EnsembleConfig { me: ServerId(me.into()), members: Arc::new(self.members()), settings };
        let ensemble = self.is_ensemble().then(of_ensemble);
        let server = ensemble.as_ref().map_or(Config::default().server, |ensemble| ensemble.me);
        Config {
            server,
            ensemble,
            data_dir: "/data".into(),
            data_log_dir: "/log".into(),
            tick_ms: self.tick_ms,
            session_timeout_ms_least: 2 * self.tick_ms,
            session_timeout_ms_most: 20 * self.tick_ms,
            address_connections_max: 0,
            outstanding_requests_max: self.outstanding_max,
            batch_txns_max: self.batch_txns_max,
            snap_txns: self.snap_txns,
            extended_types: true,
            containers: Containers { check_ms: 200, ..Containers::default() },
            segment_bytes: self.segment_bytes,
            ..Config::default()
        }
    }
}
