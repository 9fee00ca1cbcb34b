//! What a server must know to take part in an ensemble: which member it is, who the others are, how long they are waited
//! for. Not here: the keys that say so (`keys`), what belongs together (`membership`), how members deal with each other.

use std::sync::Arc;

use ostler_replication::{Member, Members, ServerId};

/// One server's part in an ensemble.
#[derive(Clone, Debug)]
pub struct EnsembleConfig {
    /// The id in `myid`, which `members` names.
    pub me: ServerId,
    /// As the server lines have it. Its version is the hexadecimal end of the dynamic file's name, else 0.
    pub members: Arc<Members>,
    pub settings: EnsembleSettings,
}

impl PartialEq for EnsembleConfig {
    fn eq(&self, other: &EnsembleConfig) -> bool {
        let EnsembleConfig { me, members, settings } = self;
        *me == other.me && members.text() == other.members.text() && *settings == other.settings
    }
}

impl EnsembleConfig {
    /// This server's own line.
    pub fn own(&self) -> &Member {
        self.members.get(self.me).expect("the configuration lists the server it is for")
    }

    pub fn voters(&self) -> usize {
        self.members.voters().len()
    }

    pub fn observers(&self) -> usize {
        self.members.observers().count()
    }
}

/// What can be set, with Apache's defaults. A tick is `Config::tick_ms`.
#[derive(Clone, PartialEq, Debug)]
pub struct EnsembleSettings {
    /// `initLimit`: ticks a learner may take to connect and to come into sync. At least 1 in a `Config`.
    pub init_ticks: u32,
    /// `syncLimit`: ticks of silence, or of lagging behind, after which a learner or its leader is given up. At least 1.
    pub sync_ticks: u32,
    /// `connectToLearnerMasterLimit`: ticks a learner tries to connect to its leader. In a `Config` that is `init_ticks`
    /// where the key is not set.
    pub connect_ticks: u32,
    /// `leaderServes`: clients may connect to the leader.
    pub leader_serves: bool,
    /// `quorumListenOnAllIPs`: the peer ports are bound on all interfaces, not only on this server's addresses.
    pub listen_everywhere: bool,
    /// `electionPortBindRetry`: attempts to bind a peer port; `None` = without end.
    pub bind_tries: Option<u32>,
    /// `cnxTimeout`: to connect to another server's election port.
    pub election_connect_ms: u64,
    /// `quorumCnxnTimeoutMs`: to wait for the first bytes on an election connection; `None` = `sync_ticks`.
    pub election_handshake_ms: Option<u64>,
    /// `tcpKeepAlive`: SO_KEEPALIVE on connections between servers.
    pub keep_alive: bool,
    /// `multiAddress.enabled`: servers may have several addresses, and announce them all.
    pub multi_address: bool,
    /// `fastleader.minNotificationInterval`: votes are sent again after so long, ...
    pub notification_ms_least: u64,
    /// ... then after twice that, and so on up to `fastleader.maxNotificationInterval`.
    pub notification_ms_most: u64,
    /// `commitLogCount`: committed txns kept in memory for learners that lag.
    pub committed_txns_kept: u32,
    /// `snapshotSizeFactor`: a learner is sent txns from the log while they are no more bytes than this share of a
    /// snapshot; `None` = never from the log.
    pub history_share: Option<f64>,
    /// Whether an empty data directory is taken for a new server's, which votes as any other. `db.autocreate=false` takes
    /// it for a loss unless there is a file `initialize`: such a server does not start.
    pub empty_votes: bool,
}

impl Default for EnsembleSettings {
    fn default() -> EnsembleSettings {
        EnsembleSettings {
            init_ticks: 0,
            sync_ticks: 0,
            connect_ticks: 0,
            leader_serves: true,
            listen_everywhere: false,
            bind_tries: Some(3),
            election_connect_ms: 5000,
            election_handshake_ms: None,
            keep_alive: false,
            multi_address: false,
            notification_ms_least: 200,
            notification_ms_most: 60_000,
            committed_txns_kept: COMMITTED_TXNS_KEPT_LEAST,
            history_share: Some(HISTORY_SHARE_DEFAULT),
            empty_votes: true,
        }
    }
}

/// `commitLogCount` below this is raised to it, as Apache does.
pub(super) const COMMITTED_TXNS_KEPT_LEAST: u32 = 500;
/// What `snapshotSizeFactor` above 1 is taken for, as Apache does.
pub(super) const HISTORY_SHARE_DEFAULT: f64 = 0.33;
