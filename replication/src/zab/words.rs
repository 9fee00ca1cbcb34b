//! The leader's words for operators: what it waits for, what a learner was doing when its connection was closed.
//! Not here: decisions.

use super::Server;
use super::link::Phase;
use crate::ServerId;
use crate::packet::QuorumPacket;

/// "have 1 of voters 1,2,3; missing 2,3", the leader counted.
pub(super) fn missing(server: &Server, have: &[ServerId]) -> String {
    let me = server.settings.me;
    let list = |ids: Vec<ServerId>| ids.iter().map(|id| id.0.to_string()).collect::<Vec<_>>().join(",");
    let has = |id: &ServerId| *id == me || have.contains(id);
    let voters = server.quorums.voters().to_vec();
    let count = voters.iter().filter(|id| has(id)).count();
    let absent: Vec<ServerId> = voters.iter().copied().filter(|id| !has(id)).collect();
    format!("have {count} of voters {}; missing {}", list(voters), list(absent))
}

pub(super) fn words(phase: Phase) -> &'static str {
    match phase {
        Phase::Greeting => "FOLLOWERINFO or OBSERVERINFO is wanted of it",
        Phase::AwaitingEpoch => "it waits for LEADERINFO",
        Phase::Promising => "ACKEPOCH is wanted of it",
        Phase::AwaitingSync | Phase::Reading { .. } => "it waits to be synchronised",
        Phase::Snapshot { .. } => "it is sent a snapshot",
        Phase::CatchingUp => "it is sent history",
        Phase::AwaitingAck => "its ACK of NEWLEADER is wanted",
        Phase::Acknowledged => "it waits for UPTODATE",
        Phase::InSync => "in sync",
    }
}

pub(super) fn name(packet: &QuorumPacket) -> &'static str {
    match packet {
        QuorumPacket::Ask(_) => "a REQUEST",
        QuorumPacket::Proposal { .. } => "PROPOSAL",
        QuorumPacket::Ack(_) => "ACK",
        QuorumPacket::Commit(_) => "COMMIT",
        QuorumPacket::Ping { .. } => "PING",
        QuorumPacket::Answer(_) => "an answer",
        QuorumPacket::Inform { .. } => "INFORM",
        QuorumPacket::CommitAndActivate { .. } => "COMMITANDACTIVATE",
        QuorumPacket::InformAndActivate { .. } => "INFORMANDACTIVATE",
        QuorumPacket::NewLeader { .. } => "NEWLEADER",
        QuorumPacket::FollowerInfo { .. } => "FOLLOWERINFO",
        QuorumPacket::ObserverInfo { .. } => "OBSERVERINFO",
        QuorumPacket::LeaderInfo { .. } => "LEADERINFO",
        QuorumPacket::AckEpoch { .. } => "ACKEPOCH",
        QuorumPacket::UpToDate => "UPTODATE",
        QuorumPacket::Diff(_) => "DIFF",
        QuorumPacket::Trunc(_) => "TRUNC",
        QuorumPacket::Snap(_) => "SNAP",
        QuorumPacket::Unknown(_) => "an unknown packet",
    }
}
