//! What the words need to know, as plain snapshots: the worker, the core and the server fill them in.
//! Not here: how they are printed, where they come from.

use std::net::SocketAddr;

use ostler_replication::Zxid;

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
    pub quotas: Vec<QuotaFacts>,
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
mod tests {
    use super::*;

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
}
