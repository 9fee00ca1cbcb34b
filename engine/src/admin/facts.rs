//! What the words need to know, as plain snapshots: the worker, the core and the server fill them in.
//! Not here: how they are printed, where they come from.

use crate::limits::{READY_LOG_WAITING_MS_MAX, READY_SILENT_MS_MAX, WELL_SILENT_MS_MAX};
use std::net::SocketAddr;

use ostler_replication::{Phase, Role, ServerId, Status, Zxid};

use crate::model::{SessionId, WallMillis};

/// The role this server plays, as `Mode:` and `zk_server_state` print it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    #[default]
    Standalone,
    Leader,
    Follower,
    Observer,
    ReadOnly,
}

impl Mode {
    pub const fn name(self) -> &'static str {
        match self {
            Mode::Standalone => "standalone",
            Mode::Leader => "leader",
            Mode::Follower => "follower",
            Mode::Observer => "observer",
            Mode::ReadOnly => "read-only",
        }
    }
}

impl Mode {
    /// `None` while the server looks for a leader: then no word shows its mode.
    pub fn of(role: Role) -> Option<Mode> {
        match role {
            Role::Standalone => Some(Mode::Standalone),
            Role::Looking => None,
            Role::Leading => Some(Mode::Leader),
            Role::Following(_) => Some(Mode::Follower),
            Role::Observing(_) => Some(Mode::Observer),
        }
    }
}

/// A member of an ensemble that serves clients.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EnsembleFacts {
    /// As Apache names state and phase: `leading - broadcast`.
    pub peer_state: String,
    /// Servers that vote.
    pub voters: u64,
    /// Whom an observer follows.
    pub observed: Option<ServerId>,
    pub leading: Option<LeaderFacts>,
}

/// What only a leader knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LeaderFacts {
    /// Connected, in sync or not.
    pub learners: u64,
    /// In sync and no observers, those that do not vote included.
    pub followers: u64,
    /// Those among them that the members do not name as voters.
    pub followers_without_vote: u64,
    pub observers: u64,
    /// Syncs that wait for txns before them.
    pub pending_syncs: u64,
    /// Since this epoch was established.
    pub leading_ms: u64,
}

impl EnsembleFacts {
    /// `pending_syncs` and `leading_ms` are asked for at a leader only. `None` without an ensemble, and while it looks for
    /// a leader.
    pub fn of(status: &Status, pending_syncs: u64, leading_ms: u64) -> Option<EnsembleFacts> {
        let state = match status.role {
            Role::Standalone | Role::Looking => return None,
            Role::Leading => "leading",
            Role::Following(_) => "following",
            Role::Observing(_) => "observing",
        };
        let phase = match status.phase {
            Phase::Election => "",
            Phase::Discovery => " - discovery",
            Phase::Synchronization => " - synchronization",
            Phase::Broadcast => " - broadcast",
        };
        let synced = || status.learners.iter().filter(|learner| learner.is_synced);
        let followers = || synced().filter(|learner| !learner.is_observer);
        let leading = (status.role == Role::Leading).then(|| LeaderFacts {
            learners: status.learners.len() as u64,
            followers: followers().count() as u64,
            followers_without_vote: followers().filter(|learner| !learner.is_voter).count() as u64,
            observers: synced().filter(|learner| learner.is_observer).count() as u64,
            pending_syncs,
            leading_ms,
        });
        let observed = match status.role {
            Role::Observing(leader) => Some(leader),
            _ => None,
        };
        let peer_state = format!("{state}{phase}");
        Some(EnsembleFacts { peer_state, voters: status.quorum_size as u64, observed, leading })
    }
}

/// The server as a whole, at about one moment.
#[derive(Clone, Debug, Default)]
pub struct ServerFacts {
    pub mode: Mode,
    /// Last zxid applied.
    pub zxid: Zxid,
    pub znodes: u64,
    pub ephemerals: u64,
    /// Bytes of paths and data.
    pub data_bytes: u64,
    /// Client sessions, all global without an ensemble.
    pub sessions: u64,
    pub local_sessions: u64,
    /// Data, child and persistent watches.
    pub watches: u64,
    /// Sockets open now, this one included.
    pub connections: u64,
    /// Requests accepted and not answered.
    pub outstanding: u64,
    pub uptime_ms: u64,
    /// Of the connection throttle, 0 to 1.
    pub drop_probability: f64,
    /// `None` = standalone.
    pub ensemble: Option<EnsembleFacts>,
    pub quotas: Vec<QuotaFacts>,
    /// Writes refused by hard quotas, by the first component of their path.
    pub quota_refusals: Vec<(String, u64)>,
    pub state: StateFacts,
}

/// Whether the server can do what it is there for, and what stands in the way.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StateFacts {
    /// In an ensemble: it looks for a leader, or its role serves no clients.
    pub is_looking: bool,
    /// For want of room on the log's disk or in memory.
    pub refuses_writes: bool,
    pub tree_is_full: bool,
    pub tree_bytes: u64,
    pub tree_bytes_max: u64,
    /// On the log's disk, for an ordinary user.
    pub disk_free_bytes: u64,
    /// The oldest txn that the disk has not taken yet.
    pub log_waiting_ms: u64,
    /// Since the core's last turn.
    pub silent_ms: u64,
    /// Time in which the process stood still, since the start.
    pub stalled_ms: u64,
}

impl StateFacts {
    pub fn disk_is_full(&self) -> bool {
        self.refuses_writes && !self.tree_is_full
    }

    /// What keeps the server from being ready, each in words; none: it is.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.silent_ms > READY_SILENT_MS_MAX {
            problems.push(format!("stalled for {} ms", self.silent_ms));
        }
        if self.is_looking {
            problems.push("no leader, or no clients are served in this role".to_owned());
        }
        if self.tree_is_full {
            problems.push(format!(
                "tree full, {} of {} bytes (ostler.treeMemory): writes are refused",
                self.tree_bytes, self.tree_bytes_max
            ));
        }
        if self.disk_is_full() {
            let free = self.disk_free_bytes;
            problems.push(format!("disk full, {free} bytes free (preAllocSize): writes are refused"));
        }
        if self.log_waiting_ms > READY_LOG_WAITING_MS_MAX && !self.refuses_writes {
            problems.push(format!("the log has waited {} ms for its disk", self.log_waiting_ms));
        }
        problems
    }

    /// The server works, whatever it may have to refuse: what `ruok` says.
    pub fn is_well(&self) -> bool {
        let log_is_stuck = self.log_waiting_ms > WELL_SILENT_MS_MAX && !self.refuses_writes;
        self.silent_ms <= WELL_SILENT_MS_MAX && !log_is_stuck
    }
}

/// A quota set on a znode below the root. -1 = that limit is not set.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct QuotaFacts {
    /// First component of the path, without the slash.
    pub namespace: String,
    pub count_limit: i64,
    pub bytes_limit: i64,
    pub count: i64,
    pub bytes: i64,
}

impl QuotaFacts {
    /// No limit, no usage yet.
    pub fn of(namespace: &str) -> QuotaFacts {
        QuotaFacts { namespace: namespace.to_owned(), count_limit: -1, bytes_limit: -1, count: 0, bytes: 0 }
    }

    /// One more quota's limits; -1 and less = not set.
    pub fn add_limits(&mut self, count: i64, bytes: i64) {
        for (sum, limit) in [(&mut self.count_limit, count), (&mut self.bytes_limit, bytes)] {
            if limit >= 0 {
                *sum = (*sum).max(0).saturating_add(limit);
            }
        }
    }

    pub fn add_usage(&mut self, count: i64, bytes: i64) {
        self.count = self.count.saturating_add(count.max(0));
        self.bytes = self.bytes.saturating_add(bytes.max(0));
    }
}

/// Bytes of the files below the two `version-2` directories; equal when they are one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DirectoryFacts {
    pub data_bytes: u64,
    pub log_bytes: u64,
}

/// One client connection.
#[derive(Clone, Debug)]
pub struct ConnectionFacts {
    pub peer: SocketAddr,
    /// Bits as epoll's: 1 = we read from it, 4 = we wait to write to it.
    pub interest: u32,
    /// Requests received and not answered.
    pub queued: u64,
    pub received: u64,
    pub sent: u64,
    /// `None` before the handshake.
    pub session: Option<SessionFacts>,
}

/// The session on a connection.
#[derive(Clone, Debug)]
pub struct SessionFacts {
    pub id: SessionId,
    pub timeout_ms: u32,
    /// When this connection was made.
    pub established: WallMillis,
    /// Code of the last request that counts as one (`words::operation` names it); `None` before the first.
    pub operation_last: Option<i32>,
    /// Last xid above 0; negative = none.
    pub cxid_last: i64,
    /// Zxid of the last reply; -1 before the first.
    pub zxid_last: i64,
    /// Monotonic ms of the last reply.
    pub reply_last_ms: u64,
    pub latency_ms_last: u64,
    /// `None` before the first reply.
    pub latency_ms_least: Option<u64>,
    pub latency_ms_average: u64,
    pub latency_ms_most: u64,
}

/// What one session watches: paths of data, exists and persistent watches (the words leave child watches out).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WatchFacts {
    pub session: SessionId,
    pub paths: Vec<String>,
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use ostler_replication::{Epochs, LearnerStatus, Link};

    #[test]
    fn quotas_below_one_znode_add_up() {
        let mut facts = QuotaFacts::of("a");
        facts.add_limits(-1, 10);
        facts.add_usage(3, -1);
        assert_eq!((facts.count_limit, facts.bytes_limit, facts.count, facts.bytes), (-1, 10, 3, 0));
        facts.add_limits(5, 10);
        facts.add_usage(1, i64::MAX);
        assert_eq!((facts.count_limit, facts.bytes_limit, facts.count, facts.bytes), (5, 20, 4, i64::MAX));
    }

    /// Server 1 of three voters as its leader has it, with learners of each kind.
    pub(in crate::admin) fn leader() -> Status {
        let learner = |peer, is_voter, is_observer, is_synced| LearnerStatus {
            link: Link { peer: ServerId(peer), number: peer },
            is_voter,
            is_observer,
            is_synced,
            acked: Zxid(7),
            queued_bytes: 0,
        };
        Status {
            role: Role::Leading,
            phase: Phase::Broadcast,
            leader: Some(ServerId(1)),
            epochs: Epochs::default(),
            logged: Zxid(7),
            committed: Zxid(7),
            members: "server.1=a:2888:3888:participant\nversion=0".to_owned(),
            quorum_size: 3,
            learners: vec![
                learner(2, true, false, true),
                learner(3, true, false, false),
                learner(4, false, true, true),
                learner(5, false, true, true),
                learner(6, false, true, false),
                learner(7, false, false, true),
            ],
            election_ms: Some(20),
            waiting_for: String::new(),
        }
    }

    #[test]
    fn a_leader_counts_its_learners_as_apache_does() {
        let leading = LeaderFacts {
            learners: 6,
            followers: 2,
            followers_without_vote: 1,
            observers: 2,
            pending_syncs: 3,
            leading_ms: 40,
        };
        let expected = EnsembleFacts {
            peer_state: "leading - broadcast".to_owned(),
            voters: 3,
            observed: None,
            leading: Some(leading),
        };
        assert_eq!(EnsembleFacts::of(&leader(), 3, 40), Some(expected));
    }

    #[test]
    fn learners_and_those_who_look() {
        let check = |role, mode, peer_state: Option<&str>, observed| {
            let status = Status { role, learners: Vec::new(), ..leader() };
            let facts = EnsembleFacts::of(&status, 0, 0);
            assert_eq!(Mode::of(role), mode);
            assert_eq!(facts.as_ref().map(|facts| &*facts.peer_state), peer_state);
            assert_eq!(facts.as_ref().and_then(|facts| facts.observed), observed);
            assert!(facts.is_none_or(|facts| facts.leading.is_none()));
        };
        let two = ServerId(2);
        check(Role::Following(two), Some(Mode::Follower), Some("following - broadcast"), None);
        check(Role::Observing(two), Some(Mode::Observer), Some("observing - broadcast"), Some(two));
        check(Role::Looking, None, None, None);
        check(Role::Standalone, Some(Mode::Standalone), None, None);
    }
}
