//! What servers of an ensemble send each other: election notifications and quorum packets as values, and their bytes in
//! the files below.
//! Not here: when they are sent (election, zab), sockets.

mod reader;

pub mod handshake;
pub mod notification;
pub mod quorum;

pub use handshake::Handshake;
pub use reader::Malformed;

use crate::{Answer, Ask, ServerId, SessionBits, Zxid};

/// Which end of a connection of the quorum port a packet comes from: some types mean another thing each way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    Learner,
    Leader,
}

/// One message of another server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Packet {
    /// On the election port.
    Notification(Notification),
    /// On the quorum port.
    Quorum(QuorumPacket),
}

/// What a server is, as election notifications tell.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PeerState {
    Looking = 0,
    Following = 1,
    Leading = 2,
    Observing = 3,
}

/// A vote on its way (FastLeaderElection's message).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Notification {
    pub state: PeerState,
    /// The proposed leader. Signed, for an observer proposes the least number there is.
    pub leader: i64,
    /// Last zxid of the proposed leader. Signed for the same reason.
    pub zxid: i64,
    /// The round: how often the sender has begun an election.
    pub round: i64,
    /// Epoch of the proposed leader.
    pub epoch: i64,
    /// 0 when the sender is of a time before versions.
    pub version: i32,
    /// The committed configuration of the sender, when it is sent and is text.
    pub config: Option<String>,
}

/// LearnerInfo, as FOLLOWERINFO and OBSERVERINFO carry it. Older learners leave the end off.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LearnerInfo {
    /// `None`: the learner has none, and the leader gives it one.
    pub id: Option<ServerId>,
    pub protocol_version: i32,
    pub config_version: i64,
}

/// The packets of the quorum port by their names in the protocol.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum QuorumPacket {
    /// REQUEST, and REVALIDATE from a learner.
    Ask(Ask),
    Proposal {
        zxid: Zxid,
        entry: Vec<u8>,
    },
    Ack(Zxid),
    Commit(Zxid),
    /// With the sessions that the learner has heard of since the last one, when it is a learner's.
    Ping {
        zxid: Zxid,
        sessions: Vec<(SessionBits, i32)>,
    },
    /// SYNC, and REVALIDATE from a leader.
    Answer(Answer),
    Inform {
        zxid: Zxid,
        entry: Vec<u8>,
    },
    CommitAndActivate {
        zxid: Zxid,
        leader: i64,
    },
    InformAndActivate {
        zxid: Zxid,
        leader: i64,
        entry: Vec<u8>,
    },
    /// `config` is empty when the leader sends none.
    NewLeader {
        zxid: Zxid,
        config: Vec<u8>,
    },
    FollowerInfo {
        accepted: Zxid,
        info: LearnerInfo,
    },
    ObserverInfo {
        accepted: Zxid,
        info: LearnerInfo,
    },
    LeaderInfo {
        zxid: Zxid,
        protocol_version: i32,
    },
    /// `zxid` is signed: -1 says that what the learner holds is not to be trusted. `epoch` -1 does not count.
    AckEpoch {
        zxid: i64,
        epoch: i32,
    },
    UpToDate,
    Diff(Zxid),
    Trunc(Zxid),
    Snap(Zxid),
    /// A type that nobody knows here; such are passed over.
    Unknown(i32),
}

#[cfg(test)]
mod tests;
