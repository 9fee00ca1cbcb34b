//! What of the configuration the core decides by.

use crate::config::{Config, Containers};
use crate::model::Schemes;

/// Units as in [`Config`].
#[derive(Clone, PartialEq, Debug)]
pub struct Settings {
    /// Top byte of session ids.
    pub session_server: u8,
    pub tick_ms: u32,
    pub session_timeout_ms_least: u32,
    pub session_timeout_ms_most: u32,
    pub extended_types: bool,
    pub enforce_quota: bool,
    pub reconfig_enabled: bool,
    pub schemes: Schemes,
    /// The digest of the tree goes into txns.
    pub digest: bool,
    pub containers: Containers,
    pub entry_bytes_max: usize,
    pub batch_bytes_max: usize,
    pub batch_txns_max: usize,
    /// How long a batch is held open for more, and after how long without a request it is not; 0 = not at all.
    pub flush_delay_ms: u64,
    pub flush_idle_ms: u64,
    pub snap_txns: u32,
    pub snap_log_bytes: Option<u64>,
    /// Seed of the halves of the snapshot triggers that are random, so that the servers of an ensemble do not all
    /// write theirs at once.
    pub seed: u64,
}

impl Settings {
    pub fn of(config: &Config, seed: u64) -> Settings {
        Settings {
            session_server: config.server.0 as u8,
            tick_ms: config.tick_ms.max(1),
            session_timeout_ms_least: config.session_timeout_ms_least,
            session_timeout_ms_most: config.session_timeout_ms_most,
            extended_types: config.extended_types,
            enforce_quota: config.enforce_quota,
            reconfig_enabled: config.reconfig_enabled,
            schemes: config.auth.schemes(),
            digest: config.digest,
            containers: config.containers,
            entry_bytes_max: config.entry_bytes_max() as usize,
            batch_bytes_max: config.batch_bytes_max() as usize,
            batch_txns_max: (config.batch_txns_max as usize).max(1),
            flush_delay_ms: config.flush_delay_ms,
            flush_idle_ms: config.flush_idle_ms,
            snap_txns: config.snap_txns,
            snap_log_bytes: config.snap_log_bytes,
            seed,
        }
    }

    /// The timeout a client gets that asks for `asked`, milliseconds.
    pub fn negotiated(&self, asked: i32) -> i32 {
        // `clamp` would panic on a minimum above the maximum, which Apache accepts: the minimum loses.
        let asked = i64::from(asked).max(i64::from(self.session_timeout_ms_least));
        i32::try_from(asked.min(i64::from(self.session_timeout_ms_most))).unwrap_or(i32::MAX)
    }

    /// A batch of so many bytes is not added to while another one is on its way.
    pub(super) fn batch_bytes_enough(&self) -> usize {
        self.batch_bytes_max / 2
    }
}
