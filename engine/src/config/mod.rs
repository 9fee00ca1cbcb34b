//! One validated `Config`: every setting of the engine as a plain value with its unit.
//! `zoo.cfg`, `-D` flags and the environment become one in `load`; this is the only module that reads the environment.
//! Not here: what the settings do. Bounds that no operator can change are in `limits`.

mod ensemble;
mod hints;
mod keys;
mod load;
mod membership;
mod properties;
#[cfg(test)]
mod tests;

pub use ensemble::{EnsembleConfig, EnsembleSettings};
pub use keys::{Fate, KEYS, Key, Property, Take, by_property, by_spelling};
pub use load::{ConfigError, Environment, Loaded, Notice, Origin, Setting, Severity, load, load_file};

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use ostler_replication::ServerId;

use crate::limits;
use crate::model::Schemes;
pub use crate::model::auth::DigestAlgorithm;

/// Everything an operator can decide. `Default` is what an empty `zoo.cfg` of Apache ZooKeeper 3.9.5 means
/// (but for `data_dir`, which such a file must name); `embedded` is a server for one process or a first benchmark.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    // --- who and where
    /// The top byte of session ids: what `myid` says in an ensemble, and 1 when standalone, whatever `myid` says, as
    /// Apache's standalone server has it.
    pub server: ServerId,
    /// What `dataDir/myid` says, if there is one: in log lines; an ensemble's server id.
    pub myid: Option<ServerId>,
    /// The ensemble that this server is a member of; `None` = it is standalone.
    pub ensemble: Option<EnsembleConfig>,
    /// The plaintext listener; `None` when `clientPort` is not set.
    pub client: Option<Listener>,
    /// `clientTcpKeepAlive`: SO_KEEPALIVE on client sockets.
    pub keep_alive: bool,
    /// Snapshots, epochs, `myid`: the directory above `version-2`.
    pub data_dir: PathBuf,
    /// Txn logs: the directory above `version-2`. Equal to `data_dir` unless split.
    pub data_log_dir: PathBuf,
    /// `datadir.autocreate`: make missing data directories.
    pub data_dir_create: bool,
    /// Start although another process shows that it serves the directories.
    pub ignore_owner: bool,
    /// Worker threads; 0 = by the CPUs this process may use.
    pub workers: usize,
    /// Pin workers and core to CPUs of their own.
    pub pin_threads: bool,
    /// Most memory for znodes, replaced versions included.
    pub tree_bytes_max: usize,

    // --- client sessions
    pub tick_ms: u32,
    pub session_timeout_ms_least: u32,
    pub session_timeout_ms_most: u32,
    /// `nio.sessionlessCnxnTimeout`: a socket that never sends a connect request is closed after so long.
    pub sessionless_ms_max: u64,

    // --- admission
    /// Sockets per client address; 0 = no limit.
    pub address_connections_max: u32,
    /// Sockets per listener; 0 = no limit.
    pub connections_max: u32,
    /// Requests in flight above which connections with one outstanding are not read.
    pub outstanding_requests_max: u32,
    pub connection_throttle: ConnectionThrottle,
    /// A request that takes so long is told in the log.
    pub slow_request_ms: u32,
    pub request_throttle: RequestThrottle,
    /// A request frame of so many bytes counts as large; `None` = none does.
    pub large_request_bytes: Option<u32>,
    /// Sum of large requests in flight; more closes the connection.
    pub large_requests_bytes_max: u64,
    /// Largest request frame: `jute.maxbuffer`.
    pub frame_bytes_max: u32,
    /// What a txn may be longer than its request: `jute.maxbuffer.extrasize`.
    pub frame_extra_bytes: u32,

    // --- log
    /// `preAllocSize`: bytes of one log segment.
    pub segment_bytes: u64,
    /// `txnLogSizeLimitInKb` in bytes: roll the log without a snapshot; `None` = only with snapshots or full segments.
    pub log_bytes_roll: Option<u64>,
    /// `forceSync`: false acknowledges writes before they are on disk. For throw-away data only.
    pub sync_before_ack: bool,
    /// A sync slower than this is logged.
    pub sync_warning_ms: u64,
    /// `flushDelay`: hold a group commit this long; 0 = never.
    pub flush_delay_ms: u64,
    /// `maxWriteQueuePollTime`: while holding it, flush early when nothing came for so long.
    pub flush_idle_ms: u64,
    /// Txns of one group commit.
    pub batch_txns_max: u32,

    // --- snapshots
    /// Earliest trigger of a snapshot: txns since the last one.
    pub snap_txns: u32,
    /// Trigger by log bytes since the last one; `None` = off.
    pub snap_log_bytes: Option<u64>,
    pub snapshot_compression: Compression,
    /// Accept logs without any snapshot (an upgrade from ZooKeeper 3.4).
    pub trust_empty_snapshot: bool,
    /// Snapshots kept by the purge.
    pub purge_keep: u32,
    /// Time between purges; `None` = never.
    pub purge_every_ms: Option<u64>,

    // --- what clients may do
    /// TTL znodes allowed (`extendedTypesEnabled`); the server id is then at most 254.
    pub extended_types: bool,
    /// Hard quotas refuse writes.
    pub enforce_quota: bool,
    /// Without it reconfig answers that it is switched off; with it, a standalone server that it has no ensemble.
    pub reconfig_enabled: bool,
    pub containers: Containers,
    /// Keep the tree digest, write it to txns and snapshots.
    pub digest: bool,
    pub auth: Auth,

    // --- admin
    /// Four-letter words that are answered. `srvr` alone unless the operator says more.
    pub words: Words,
    /// `request_throttler.shutdownTimeout`: time to drain on SIGTERM.
    pub shutdown_ms_max: u64,
    /// What is logged: a level or a filter. Whoever sets up the log reads it, the engine does not.
    pub log_level: Option<String>,
    /// The file this came from, for `conf` and messages; `None` when embedded or positional.
    pub file: Option<PathBuf>,
}

/// Where clients connect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Listener {
    /// `None` = all interfaces, IPv6 and IPv4.
    pub address: Option<IpAddr>,
    /// 0 = a port the kernel picks.
    pub port: u16,
    /// Waiting connects in the kernel; `None` = `limits::BACKLOG_CONNECTIONS_DEFAULT`.
    pub backlog: Option<u32>,
}

impl Listener {
    pub const fn loopback(port: u16) -> Listener {
        Listener { address: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), port, backlog: None }
    }

    /// The address to bind when one socket is enough: the given one, or IPv4's wildcard.
    pub fn socket_address(&self) -> SocketAddr {
        SocketAddr::new(self.address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), self.port)
    }
}

/// The token bucket in front of new client sessions (`connection_throttle_*`, BlueThrottle).
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ConnectionThrottle {
    /// Size of the bucket; 0 = no throttle.
    pub tokens: u32,
    pub fill_ms: u32,
    pub fill_count: u32,
    /// Period of adjusting the drop probability; `None` = it stays 0.
    pub freeze_ms: Option<u32>,
    pub drop_increase: f64,
    pub drop_decrease: f64,
    /// Fullness of the bucket below which the drop probability goes down; 0..=1.
    pub decrease_ratio: f64,
    /// Charge by kind of session instead of one token each.
    pub weighted: bool,
    pub weight_global: u32,
    pub weight_renew: u32,
    pub weight_local: u32,
}

impl Default for ConnectionThrottle {
    fn default() -> ConnectionThrottle {
        ConnectionThrottle {
            tokens: 0,
            fill_ms: 1,
            fill_count: 1,
            freeze_ms: None,
            drop_increase: 0.02,
            drop_decrease: 0.002,
            decrease_ratio: 0.0,
            weighted: false,
            weight_global: 3,
            weight_renew: 2,
            weight_local: 1,
        }
    }
}

/// Holding back requests (`request_throttle_*`, `throttled_op_wait_time`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RequestThrottle {
    /// Requests in the server before more wait; 0 = off.
    pub requests_max: u32,
    /// Drop requests of connections that are gone, or too old.
    pub drop_stale: bool,
    /// A request older than its session's timeout is stale.
    pub stale_by_latency: bool,
    /// Waited longer than this: answered -127 unprocessed. `None` = off.
    pub op_wait_ms_max: Option<u32>,
}

impl Default for RequestThrottle {
    fn default() -> RequestThrottle {
        RequestThrottle { requests_max: 0, drop_stale: true, stale_by_latency: false, op_wait_ms_max: None }
    }
}

/// Reaping of container and TTL znodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Containers {
    pub check_ms: u64,
    pub deletes_per_minute: u32,
    /// Reap containers that never had a child after so long without a change; `None` = never.
    pub never_used_ms: Option<u64>,
}

impl Default for Containers {
    fn default() -> Containers {
        Containers {
            check_ms: limits::CONTAINER_CHECK_MS_DEFAULT,
            deletes_per_minute: limits::CONTAINER_DELETES_PER_MINUTE_DEFAULT,
            never_used_ms: None,
        }
    }
}

/// Compression of the snapshots we write; all kinds are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Compression {
    #[default]
    None,
    Gzip,
    Snappy,
}

/// Who is who, and who need not care.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Auth {
    /// `skipACL`: nobody is checked.
    pub skip_acl: bool,
    /// The digest scheme is offered.
    pub digest: bool,
    /// `super:BASE64(HASH("super:password"))`: this identity passes every check.
    pub super_digest: Option<String>,
    pub digest_algorithm: DigestAlgorithm,
    /// At least one of these schemes must have been used, else requests get -124 and the connection closes; empty = not enforced.
    pub enforced_schemes: Vec<String>,
    /// Names of this ensemble for scheme `ensemble`; empty = scheme not offered.
    pub ensemble_names: Vec<String>,
}

impl Default for Auth {
    fn default() -> Auth {
        Auth {
            skip_acl: false,
            digest: true,
            super_digest: None,
            digest_algorithm: DigestAlgorithm::Sha1,
            enforced_schemes: Vec::new(),
            ensemble_names: Vec::new(),
        }
    }
}

impl Auth {
    /// The same, as checks need it.
    pub fn schemes(&self) -> Schemes {
        Schemes {
            skip_acl: self.skip_acl,
            digest: self.digest,
            digest_algorithm: self.digest_algorithm,
            super_digest: self.super_digest.as_deref().map(Box::from),
            ensemble_names: self.ensemble_names.iter().map(|name| name.as_str().into()).collect(),
            ..Schemes::default()
        }
    }
}

/// `4lw.commands.whitelist`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Words {
    All,
    /// Exactly these, as written.
    Only(Vec<String>),
}

impl Words {
    pub fn permits(&self, word: &str) -> bool {
        match self {
            Words::All => true,
            Words::Only(list) => list.iter().any(|allowed| allowed == word),
        }
    }
}

impl Default for Words {
    fn default() -> Words {
        Words::Only(vec!["srvr".to_owned()])
    }
}

impl Default for Config {
    fn default() -> Config {
        Config {
            server: ServerId(1),
            myid: None,
            ensemble: None,
            client: None,
            keep_alive: false,
            data_dir: PathBuf::new(),
            data_log_dir: PathBuf::new(),
            data_dir_create: true,
            ignore_owner: false,
            workers: 0,
            pin_threads: false,
            tree_bytes_max: limits::TREE_BYTES_MAX_DEFAULT,
            tick_ms: limits::TICK_MS_DEFAULT,
            session_timeout_ms_least: limits::TICK_MS_DEFAULT * limits::SESSION_TICKS_LEAST_DEFAULT,
            session_timeout_ms_most: limits::TICK_MS_DEFAULT * limits::SESSION_TICKS_MOST_DEFAULT,
            sessionless_ms_max: limits::SESSIONLESS_MS_MAX_DEFAULT,
            address_connections_max: limits::ADDRESS_CONNECTIONS_MAX_DEFAULT,
            connections_max: 0,
            outstanding_requests_max: limits::OUTSTANDING_REQUESTS_MAX_DEFAULT,
            connection_throttle: ConnectionThrottle::default(),
            slow_request_ms: limits::SLOW_REQUEST_MS_DEFAULT,
            request_throttle: RequestThrottle::default(),
            large_request_bytes: None,
            large_requests_bytes_max: 100 << 20,
            frame_bytes_max: limits::FRAME_BYTES_MAX_DEFAULT,
            frame_extra_bytes: limits::FRAME_EXTRA_BYTES_DEFAULT,
            segment_bytes: limits::SEGMENT_BYTES_DEFAULT,
            log_bytes_roll: None,
            sync_before_ack: true,
            sync_warning_ms: limits::SYNC_WARNING_MS_DEFAULT,
            flush_delay_ms: 0,
            flush_idle_ms: 0,
            batch_txns_max: limits::BATCH_TXNS_MAX_DEFAULT,
            snap_txns: limits::SNAP_TXNS_DEFAULT,
            snap_log_bytes: Some(limits::SNAP_LOG_BYTES_DEFAULT),
            snapshot_compression: Compression::None,
            trust_empty_snapshot: false,
            purge_keep: limits::SNAPSHOTS_KEPT_LEAST,
            purge_every_ms: None,
            extended_types: false,
            enforce_quota: false,
            reconfig_enabled: false,
            containers: Containers::default(),
            digest: true,
            auth: Auth::default(),
            words: Words::default(),
            shutdown_ms_max: limits::SHUTDOWN_MS_MAX_DEFAULT,
            log_level: None,
            file: None,
        }
    }
}

/// Keys and values of a `zoo.cfg` as they stand, that of another server for example; `None` when it is none.
pub(crate) fn file_properties(bytes: &[u8]) -> Option<Vec<(String, String)>> {
    let properties = properties::parse(bytes).ok()?;
    Some(properties.into_iter().map(|property| (property.key, property.value)).collect())
}

impl Config {
    /// A server for this process: loopback on a port the kernel picks, every four-letter word, TTL znodes, purging on,
    /// no limit per address.
    pub fn embedded(data_dir: impl AsRef<Path>) -> Config {
        let data_dir = data_dir.as_ref().to_path_buf();
        let tick_ms = 2000;
        Config {
            client: Some(Listener::loopback(0)),
            data_log_dir: data_dir.clone(),
            data_dir,
            tick_ms,
            session_timeout_ms_least: tick_ms * limits::SESSION_TICKS_LEAST_DEFAULT,
            session_timeout_ms_most: tick_ms * limits::SESSION_TICKS_MOST_DEFAULT,
            address_connections_max: 0,
            purge_every_ms: Some(60 * 60 * 1000),
            extended_types: true,
            words: Words::All,
            ..Config::default()
        }
    }

    /// Largest log entry: what the log writes at most and recovery accepts at most.
    pub fn entry_bytes_max(&self) -> u32 {
        self.frame_bytes_max + self.frame_extra_bytes
    }

    /// Bytes of one batch: `limits::BATCH_BYTES_MAX`, or one largest entry where the operator raised `jute.maxbuffer`.
    pub fn batch_bytes_max(&self) -> u32 {
        limits::BATCH_BYTES_MAX.max(self.entry_bytes_max())
    }
}
