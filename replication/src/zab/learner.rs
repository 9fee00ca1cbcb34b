//! A learner, follower or observer, from its election to the loss of its leader: DISCOVERY, SYNCHRONIZATION, BROADCAST.
//! Not here: the election, the leader's side.
//! Invariant: nothing is delivered between the loss of one leader and UPTODATE of the next, and ACK(NEWLEADER) is sent for
//! the answer to its own `Persist` and for nothing else.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::discovery::{EPOCH_LAST, Offer, weigh};
use super::history::continues;
use super::{Goes, Server};
use crate::mutants::{Mutant, planted};
use crate::packet::quorum::{self, PROTOCOL_VERSION};
use crate::packet::{LearnerInfo, QuorumPacket, Side};
use crate::{
    Ask, Epoch, Epochs, Link, Moment, Number, Output, Outputs, Phase, Port, Proposal, Role, ServerId,
    SessionBits, Zxid,
};

/// Between two attempts to connect (`zookeeper.leaderConnectDelayDuringRetryMs`).
const RETRY_MS: u64 = 100;
/// Attempts, as Apache makes.
const ATTEMPTS_MAX: u32 = 5;
/// Sessions in one answer to a PING: 12 bytes each, and a leader takes about 1 MiB. The rest goes with the next.
const SESSIONS_PER_PING_MAX: usize = 80_000;

#[derive(Clone, Hash)]
pub(super) struct Learner {
    leader: ServerId,
    link: Option<Link>,
    stage: Stage,
    attempts: u32,
    /// When connecting, or the leader's silence, has taken too long.
    deadline: Option<Moment>,
    epoch: Epoch,
    /// What ACKEPOCH answers: -1 when the epoch had been promised before.
    ack_epoch: i32,
    reported: Zxid,
    /// A snapshot has been received that becomes the world at NEWLEADER: its zxid.
    snapshot: Option<Zxid>,
    /// Up to here UPTODATE says that all is committed.
    known: Zxid,
    /// Last zxid received or kept: what comes next follows it.
    received: Zxid,
    /// Received, and not for the log yet: a truncation or a snapshot must be done first.
    held: VecDeque<Proposal>,
    /// Received on this link, and its COMMIT not yet: zxids and bytes.
    uncommitted: VecDeque<(Zxid, usize)>,
    uncommitted_bytes: usize,
    /// Last COMMIT.
    commits: Zxid,
    has_new_leader: bool,
    /// In the log and not acknowledged: request, zxid.
    unacked: VecDeque<(Number, Zxid)>,
    touched: BTreeMap<SessionBits, i32>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Stage {
    /// `retry`: when to dial again; `None` while an attempt is under way.
    Connecting {
        retry: Option<Moment>,
    },
    /// FOLLOWERINFO is sent; LEADERINFO is wanted.
    Greeting,
    /// The promise is on its way to the disk.
    Promising(Number),
    /// ACKEPOCH waits until nothing is on its way to the disk.
    Settling,
    /// ACKEPOCH is sent; DIFF, TRUNC or SNAP is wanted.
    AwaitingSync,
    Truncating(Number),
    /// The snapshot's body is coming.
    Streaming,
    /// History comes, then NEWLEADER.
    Collecting,
    Installing(Number),
    /// `currentEpoch` is on its way to the disk, behind all that came before NEWLEADER.
    Beginning(Number),
    /// NEWLEADER is acknowledged; UPTODATE is wanted.
    Acknowledged,
    InSync,
}

impl Learner {
    pub(super) fn enter(leader: ServerId, server: &Server, now: Moment, outputs: &mut Outputs) -> Learner {
        let mut learner = Learner {
            leader,
            link: None,
            stage: Stage::Connecting { retry: None },
            attempts: 0,
            deadline: Some(now.plus_millis(server.settings.connect_ms())),
            epoch: Epoch(0),
            ack_epoch: -1,
            reported: Zxid::ZERO,
            snapshot: None,
            known: Zxid::ZERO,
            received: Zxid::ZERO,
            held: VecDeque::new(),
            uncommitted: VecDeque::new(),
            uncommitted_bytes: 0,
            commits: Zxid::ZERO,
            has_new_leader: false,
            unacked: VecDeque::new(),
            touched: BTreeMap::new(),
        };
        learner.dial(outputs);
        learner
    }

    pub(super) fn leader(&self) -> ServerId {
        self.leader
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub(super) fn link(&self) -> Option<Link> {
        self.link
    }

    pub(super) fn is_in_sync(&self) -> bool {
        self.stage == Stage::InSync
    }

    pub(super) fn phase(&self) -> Phase {
        match self.stage {
            Stage::Connecting { .. } | Stage::Greeting | Stage::Promising(_) | Stage::Settling => {
                Phase::Discovery
            }
            Stage::InSync => Phase::Broadcast,
            _ => Phase::Synchronization,
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Moment> {
        let retry = match self.stage {
            Stage::Connecting { retry } => retry,
            _ => None,
        };
        [self.deadline, retry].into_iter().flatten().min()
    }

    pub(super) fn waiting_for(&self) -> String {
        let leader = self.leader.0;
        match self.stage {
            Stage::Connecting { .. } => format!("a connection to leader {leader}, attempt {}", self.attempts),
            Stage::Greeting => format!("LEADERINFO from {leader}, which waits for a quorum"),
            Stage::Promising(_) => "the promise of the epoch to be on disk".into(),
            Stage::Settling => "the log to be on disk".into(),
            Stage::AwaitingSync => format!("DIFF, TRUNC or SNAP from {leader}, which waits for a quorum"),
            Stage::Truncating(_) => "the log to be truncated".into(),
            Stage::Streaming => format!("a snapshot from {leader}"),
            Stage::Collecting => format!("NEWLEADER from {leader}"),
            Stage::Installing(_) => "the snapshot to be on disk".into(),
            Stage::Beginning(_) => "history and epoch to be on disk".into(),
            Stage::Acknowledged => format!("UPTODATE from {leader}, which waits for a quorum"),
            Stage::InSync => String::new(),
        }
    }

    // The connection.

    fn dial(&mut self, outputs: &mut Outputs) {
        self.attempts += 1;
        self.stage = Stage::Connecting { retry: None };
        outputs.push_back(Output::Dial { peer: self.leader, port: Port::Quorum, addresses: Vec::new() });
    }

    pub(super) fn unreachable(&mut self, peer: ServerId, now: Moment) -> Goes {
        if peer != self.leader || self.stage != (Stage::Connecting { retry: None }) {
            return Ok(());
        }
        if ATTEMPTS_MAX <= self.attempts {
            return Err(format!(
                "the elected leader {} could not be reached in {ATTEMPTS_MAX} attempts",
                peer.0
            ));
        }
        self.stage = Stage::Connecting { retry: Some(now.plus_millis(RETRY_MS)) };
        Ok(())
    }

    /// Whether this is the connection that was waited for.
    pub(super) fn linked(&mut self, link: Link, server: &Server, now: Moment, outputs: &mut Outputs) -> bool {
        if link.peer != self.leader || !matches!(self.stage, Stage::Connecting { .. }) {
            return false;
        }
        self.link = Some(link);
        self.stage = Stage::Greeting;
        self.deadline = Some(now.plus_millis(server.settings.init_ms()));
        let info = LearnerInfo {
            id: Some(server.settings.me),
            protocol_version: PROTOCOL_VERSION,
            config_version: server.quorums.committed().version(),
        };
        let accepted = Zxid::new(server.epochs.accepted, 0);
        let packet = if server.settings.is_observer {
            QuorumPacket::ObserverInfo { accepted, info }
        } else {
            QuorumPacket::FollowerInfo { accepted, info }
        };
        self.send(&packet, outputs);
        true
    }

    fn send(&self, packet: &QuorumPacket, outputs: &mut Outputs) {
        if let Some(link) = self.link {
            outputs.push_back(Output::Send(link, bytes(packet)));
        }
    }

    /// The leader was heard of.
    fn renew(&mut self, server: &Server, now: Moment) {
        let limit_ms = match self.stage {
            Stage::Acknowledged | Stage::InSync => server.settings.sync_ms(),
            _ => server.settings.init_ms(),
        };
        self.deadline = Some(now.plus_millis(limit_ms));
    }

    pub(super) fn progressed(&mut self, server: &Server, now: Moment) {
        self.renew(server, now);
    }

    pub(super) fn timeout(&mut self, now: Moment, outputs: &mut Outputs) -> Goes {
        if let Stage::Connecting { retry: Some(at) } = self.stage
            && at <= now
        {
            self.dial(outputs);
        }
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            return Err(format!(
                "leader {} has been silent for too long; waited for {}",
                self.leader.0,
                self.words()
            ));
        }
        Ok(())
    }

    fn words(&self) -> String {
        if self.is_in_sync() { "its PING".into() } else { self.waiting_for() }
    }

    // What the leader sends.

    pub(super) fn received(
        &mut self,
        packet: QuorumPacket,
        server: &mut Server,
        now: Moment,
        outputs: &mut Outputs,
    ) -> Goes {
        self.renew(server, now);
        match self.stage {
            Stage::Greeting => self.offered(packet, server, now, outputs),
            Stage::AwaitingSync => self.begin_sync(packet, server, now, outputs),
            Stage::Connecting { .. } | Stage::Promising(_) | Stage::Settling | Stage::Streaming => {
                Err(self.unexpected(&packet))
            }
            _ => self.follow(packet, server, now, outputs),
        }
    }

    fn unexpected(&self, packet: &QuorumPacket) -> String {
        let kind = format!("{packet:?}");
        let kind = kind.split(['(', ' ']).next().unwrap_or_default();
        format!("leader {} sends {kind} while this server waits for {}", self.leader.0, self.words())
    }

    fn offered(
        &mut self,
        packet: QuorumPacket,
        server: &mut Server,
        now: Moment,
        outputs: &mut Outputs,
    ) -> Goes {
        let QuorumPacket::LeaderInfo { zxid, .. } = packet else {
            return Err(self.unexpected(&packet));
        };
        if EPOCH_LAST < zxid.epoch().0 {
            // Promised, it would stand on disk as a number that no server reads, and shut this one out for good.
            return Err(format!(
                "leader {} offers epoch {:#x}, which is none",
                self.leader.0,
                zxid.epoch().0
            ));
        }
        self.epoch = zxid.epoch();
        match weigh(server.epochs.accepted, self.epoch) {
            Offer::New => {
                self.ack_epoch = server.epochs.current.0 as i32;
                let epochs = Epochs { accepted: self.epoch, current: server.epochs.current };
                self.stage = Stage::Promising(server.log.persist(epochs, now, outputs));
                if planted(Mutant::PromisesInMemory) {
                    self.stage = Stage::Settling;
                    self.settle(server, outputs);
                }
                Ok(())
            }
            Offer::Repeated => {
                self.ack_epoch = -1;
                self.stage = Stage::Settling;
                self.settle(server, outputs);
                Ok(())
            }
            Offer::Stale => Err(format!(
                "leader {} offers epoch {}, but this server has promised {} already",
                self.leader.0, self.epoch.0, server.epochs.accepted.0
            )),
        }
    }

    /// ACKEPOCH, once memory is not ahead of the disk.
    fn settle(&mut self, server: &Server, outputs: &mut Outputs) {
        let is_idle = server.log.is_idle()
            || planted(Mutant::VotesBeforeTheLogIsIdle)
            || planted(Mutant::PromisesInMemory);
        if self.stage != Stage::Settling || !is_idle {
            return;
        }
        self.reported = server.history.reported();
        self.received = server.history.logged();
        let zxid = if server.snapshot_wanted_of == Some(self.leader) { -1 } else { self.reported.to_wire() };
        self.stage = Stage::AwaitingSync;
        self.send(&QuorumPacket::AckEpoch { zxid, epoch: self.ack_epoch }, outputs);
    }

    fn begin_sync(
        &mut self,
        packet: QuorumPacket,
        server: &mut Server,
        now: Moment,
        outputs: &mut Outputs,
    ) -> Goes {
        match packet {
            QuorumPacket::Diff(zxid) => {
                if server.snapshot_wanted_of == Some(self.leader) {
                    return Err(format!(
                        "leader {} sends DIFF, but was told that nothing is trusted",
                        self.leader.0
                    ));
                }
                // What this server came with is a beginning of the leader's history, and no COMMIT comes for it any more.
                self.known = self.reported.min(zxid);
                self.stage = Stage::Collecting;
                if planted(Mutant::RaisesEpochBeforeHistory) {
                    self.raise_epoch(server, now, outputs);
                }
            }
            QuorumPacket::Trunc(zxid) => {
                let is_epoch_start = zxid.counter() == 0;
                let is_sound = if is_epoch_start { zxid.epoch() == server.epochs.current } else { true };
                if !is_sound || self.reported < zxid || server.snapshot_wanted_of == Some(self.leader) {
                    server.snapshot_wanted_of = Some(self.leader);
                    return Err(format!(
                        "leader {} asks to truncate to {zxid}, which this history ({}) cannot; a snapshot will be asked for",
                        self.leader.0, self.reported
                    ));
                }
                self.known = zxid;
                self.received = zxid;
                self.stage = Stage::Truncating(server.log.truncate(zxid, now, outputs));
            }
            QuorumPacket::Snap(zxid) if self.epoch < zxid.epoch() => {
                // Installed, it would be history of an epoch that was never promised.
                return Err(format!(
                    "leader {} of epoch {} sends a snapshot of a later epoch: {zxid}",
                    self.leader.0, self.epoch.0
                ));
            }
            QuorumPacket::Snap(zxid) => {
                self.known = zxid;
                self.received = zxid;
                self.snapshot = Some(zxid);
                self.stage = Stage::Streaming;
                if let Some(link) = self.link {
                    outputs.push_back(Output::TakeSnapshot(link));
                }
            }
            packet => return Err(self.unexpected(&packet)),
        }
        Ok(())
    }

    pub(super) fn streamed(&mut self, done: bool, server: &mut Server, now: Moment) -> Goes {
        if self.stage != Stage::Streaming {
            return Ok(());
        }
        if !done {
            return Err(format!("the snapshot from leader {} broke off", self.leader.0));
        }
        if let Some(zxid) = self.snapshot.filter(|_| planted(Mutant::KeepsASnapshotInMemory)) {
            server.history.install(zxid);
        }
        self.stage = Stage::Collecting;
        self.renew(server, now);
        Ok(())
    }

    fn follow(
        &mut self,
        packet: QuorumPacket,
        server: &mut Server,
        now: Moment,
        outputs: &mut Outputs,
    ) -> Goes {
        match packet {
            QuorumPacket::Proposal { zxid, entry } => self.proposed(zxid, entry, server, now, outputs),
            QuorumPacket::Commit(zxid) | QuorumPacket::CommitAndActivate { zxid, .. } => {
                self.committed(zxid, server, outputs)
            }
            QuorumPacket::Inform { zxid, entry } | QuorumPacket::InformAndActivate { zxid, entry, .. }
                if server.settings.is_observer =>
            {
                self.proposed(zxid, entry, server, now, outputs)?;
                self.committed(zxid, server, outputs)
            }
            QuorumPacket::NewLeader { zxid, config } if !self.has_new_leader && !self.has_begun() => {
                self.new_leader(zxid, config, server, now, outputs)
            }
            QuorumPacket::UpToDate if self.stage == Stage::Acknowledged => {
                self.up_to_date(server, outputs);
                Ok(())
            }
            QuorumPacket::Ping { zxid, .. } => {
                // Before UPTODATE a PING only keeps the connection from timing out.
                if self.is_in_sync() {
                    self.answer_ping(zxid, outputs);
                }
                Ok(())
            }
            QuorumPacket::Answer(answer) if self.is_in_sync() => {
                outputs.push_back(Output::Answered(answer));
                Ok(())
            }
            QuorumPacket::Unknown(_) => Ok(()),
            packet => Err(self.unexpected(&packet)),
        }
    }

    fn has_begun(&self) -> bool {
        matches!(self.stage, Stage::Beginning(_) | Stage::Acknowledged | Stage::InSync)
    }

    fn proposed(
        &mut self,
        zxid: Zxid,
        entry: Vec<u8>,
        server: &mut Server,
        now: Moment,
        outputs: &mut Outputs,
    ) -> Goes {
        if zxid == self.received || (zxid < self.received && !self.is_in_sync()) {
            // Around a synchronisation a proposal may come twice, and records come that the snapshot holds already. And an
            // Apache leader proposes two txns of one zxid when it could not decode a request; the log takes one.
            return Ok(());
        }
        if !continues(self.received, zxid) || self.epoch < zxid.epoch() {
            return Err(format!("leader {} proposes {zxid} behind {}", self.leader.0, self.received));
        }
        if quorum::entry_zxid(&entry) != Some(zxid) {
            return Err(format!(
                "leader {} proposes {zxid} with a record that names another zxid",
                self.leader.0
            ));
        }
        self.uncommitted_bytes += entry.len();
        if server.settings.uncommitted_bytes_max < self.uncommitted_bytes {
            return Err(format!(
                "leader {} has proposed {} bytes without a COMMIT",
                self.leader.0, self.uncommitted_bytes
            ));
        }
        self.received = zxid;
        self.uncommitted.push_back((zxid, entry.len()));
        let mut records = Vec::with_capacity(4 + entry.len());
        records.extend_from_slice(&(entry.len() as u32).to_be_bytes());
        records.extend_from_slice(&entry);
        let proposal = Proposal { first: zxid, last: zxid, records: records.into() };
        let waits = matches!(self.stage, Stage::Truncating(_) | Stage::Installing(_))
            || (self.snapshot.is_some() && self.stage == Stage::Collecting);
        if waits {
            self.held.push_back(proposal);
        } else {
            self.log(proposal, server, now, outputs);
        }
        Ok(())
    }

    fn log(&mut self, proposal: Proposal, server: &mut Server, now: Moment, outputs: &mut Outputs) {
        let last = proposal.last;
        server.history.append(proposal.clone());
        let is_trunc_sync = self.known < self.reported && !self.has_begun();
        if is_trunc_sync && planted(Mutant::AppliesATruncSyncInMemory) {
            return self.held.push_back(proposal);
        }
        let number = server.log.append(proposal, now, outputs);
        let may_ack = matches!(self.stage, Stage::Acknowledged | Stage::InSync);
        if may_ack && !server.settings.is_observer && planted(Mutant::AcksProposalsUnsynced) {
            self.send(&QuorumPacket::Ack(last), outputs);
            return;
        }
        // Observers acknowledge nothing but NEWLEADER.
        if !server.settings.is_observer {
            self.unacked.push_back((number, last));
        }
    }

    fn committed(&mut self, zxid: Zxid, server: &mut Server, outputs: &mut Outputs) -> Goes {
        if zxid <= self.commits.max(self.known) {
            // It is in what the synchronisation began with, or is said twice.
            return Ok(());
        }
        let Some(&(_, bytes)) = self.uncommitted.front().filter(|(next, _)| *next == zxid) else {
            let next = self
                .uncommitted
                .front()
                .map_or("nothing is proposed".into(), |(next, _)| format!("{next} is next"));
            return Err(format!("leader {} commits {zxid}, but {next}", self.leader.0));
        };
        self.uncommitted.pop_front();
        self.uncommitted_bytes -= bytes;
        self.commits = zxid;
        if self.is_in_sync() || planted(Mutant::PublishesBeforeUpToDate) {
            self.deliver(server, outputs);
        }
        Ok(())
    }

    fn deliver(&mut self, server: &mut Server, outputs: &mut Outputs) {
        server.history.commit(self.commits.max(self.known));
        for proposal in server.history.take_unapplied() {
            outputs.push_back(Output::Deliver(proposal));
        }
    }

    fn new_leader(
        &mut self,
        zxid: Zxid,
        config: Vec<u8>,
        server: &mut Server,
        now: Moment,
        outputs: &mut Outputs,
    ) -> Goes {
        if zxid != Zxid::new(self.epoch, 0) {
            return Err(format!("leader {} sends NEWLEADER {zxid} in epoch {}", self.leader.0, self.epoch.0));
        }
        server.compare_config(self.leader, &config, outputs);
        self.has_new_leader = true;
        if planted(Mutant::DropsOutstandingAtNewLeader) {
            self.uncommitted.clear();
            self.uncommitted_bytes = 0;
        }
        self.begin_epoch(server, now, outputs);
        Ok(())
    }

    /// After NEWLEADER, and when the disk has done what must stand before it: history, then epoch, then the ACK.
    fn begin_epoch(&mut self, server: &mut Server, now: Moment, outputs: &mut Outputs) {
        if !self.has_new_leader || self.stage != Stage::Collecting {
            return;
        }
        if let (Some(zxid), Some(link)) = (self.snapshot, self.link) {
            if planted(Mutant::RaisesEpochBeforeSnapshot) {
                self.raise_epoch(server, now, outputs);
            }
            // What follows waits for the answer: were the snapshot not there, records behind it would stand behind a hole.
            self.stage = Stage::Installing(server.log.install(link, zxid, now, outputs));
            return;
        }
        // What came with its COMMIT needs no ACK: the quorum of NEWLEADER covers it.
        let commits = self.commits.max(self.known);
        self.unacked.retain(|&(_, zxid)| commits < zxid);
        if planted(Mutant::AppliesATruncSyncInMemory) {
            for proposal in std::mem::take(&mut self.held) {
                server.log.append(proposal, now, outputs);
            }
        }
        self.stage = Stage::Beginning(if planted(Mutant::RaisesEpochAtUpToDate) {
            server.log.persist(server.epochs, now, outputs)
        } else {
            self.raise_epoch(server, now, outputs)
        });
        if planted(Mutant::AcksEpochBeforeHistory) {
            self.stage = Stage::Acknowledged;
            self.send(&QuorumPacket::Ack(Zxid::new(self.epoch, 0)), outputs);
        }
    }

    fn raise_epoch(&self, server: &mut Server, now: Moment, outputs: &mut Outputs) -> Number {
        let accepted = server.epochs.accepted.max(self.epoch);
        server.log.persist(Epochs { accepted, current: self.epoch }, now, outputs)
    }

    fn log_held(&mut self, server: &mut Server, now: Moment, outputs: &mut Outputs) {
        for proposal in std::mem::take(&mut self.held) {
            self.log(proposal, server, now, outputs);
        }
    }

    fn up_to_date(&mut self, server: &mut Server, outputs: &mut Outputs) {
        self.send(&QuorumPacket::Ack(Zxid::new(self.epoch, 0)), outputs);
        self.stage = Stage::InSync;
        if planted(Mutant::CommitsAllAtUpToDate) {
            self.known = self.received;
            self.uncommitted.clear();
        }
        if planted(Mutant::RaisesEpochAtUpToDate) {
            self.raise_epoch(server, Moment::default(), outputs);
        }
        self.deliver(server, outputs);
        if planted(Mutant::KeepsSyncedTxnsOutOfTheCache) {
            server.history.lose_committed();
        }
        server.history.establish(self.epoch);
        server.snapshot_wanted_of = None;
        let role = if server.settings.is_observer { Role::Observing } else { Role::Following };
        outputs.push_back(Output::Role(role(self.leader)));
    }

    fn answer_ping(&mut self, zxid: Zxid, outputs: &mut Outputs) {
        let mut sessions = Vec::with_capacity(self.touched.len().min(SESSIONS_PER_PING_MAX));
        while sessions.len() < SESSIONS_PER_PING_MAX {
            let Some(session) = self.touched.pop_first() else { break };
            sessions.push(session);
        }
        self.send(&QuorumPacket::Ping { zxid, sessions }, outputs);
    }

    // What the log answers. The server has taken it over before.

    /// An epoch is on disk, when `persisted` names the request; else records are.
    pub(super) fn logged(&mut self, persisted: Option<Number>, server: &mut Server, outputs: &mut Outputs) {
        match (self.stage, persisted) {
            (Stage::Promising(asked), Some(number)) if asked == number => self.stage = Stage::Settling,
            (Stage::Beginning(asked), Some(number)) if asked == number => {
                self.stage = Stage::Acknowledged;
                self.send(&QuorumPacket::Ack(Zxid::new(self.epoch, 0)), outputs);
                if planted(Mutant::ReportsAnEpochNeverEstablished) {
                    server.history.establish(self.epoch);
                }
            }
            _ => {}
        }
        self.settle(server, outputs);
        let may_ack = matches!(self.stage, Stage::Acknowledged | Stage::InSync);
        if !may_ack && !planted(Mutant::TakesAnyAckForTheEpochs) {
            // Never before ACK(NEWLEADER).
            return;
        }
        let mut acks = Vec::new();
        while let Some((_, zxid)) =
            self.unacked.front().copied().filter(|(asked, _)| *asked <= server.log.answered())
        {
            self.unacked.pop_front();
            acks.extend_from_slice(&quorum::encode(&QuorumPacket::Ack(zxid), Side::Learner));
        }
        if let Some(link) = self.link.filter(|_| !acks.is_empty()) {
            outputs.push_back(Output::Send(link, acks.into()));
        }
    }

    pub(super) fn truncated(
        &mut self,
        number: Number,
        to: Zxid,
        done: bool,
        server: &mut Server,
        now: Moment,
        outputs: &mut Outputs,
    ) -> Goes {
        if self.stage != Stage::Truncating(number) {
            return Ok(());
        }
        // (e,0) is no record: what remains then ends before that epoch.
        let is_there = to == self.known || (self.known.counter() == 0 && to < self.known);
        if !done || !is_there {
            server.snapshot_wanted_of = Some(self.leader);
            return Err(format!(
                "the log could not be truncated to {} as the leader asked; a snapshot will be asked for",
                self.known
            ));
        }
        self.log_held(server, now, outputs);
        self.stage = Stage::Collecting;
        self.begin_epoch(server, now, outputs);
        Ok(())
    }

    pub(super) fn installed(
        &mut self,
        number: Number,
        done: bool,
        server: &mut Server,
        now: Moment,
        outputs: &mut Outputs,
    ) -> Goes {
        if self.stage != Stage::Installing(number) {
            return Ok(());
        }
        if !done {
            return Err(format!("the snapshot from leader {} could not be written", self.leader.0));
        }
        server.snapshot_wanted_of = None;
        self.snapshot = None;
        self.log_held(server, now, outputs);
        self.stage = Stage::Collecting;
        self.begin_epoch(server, now, outputs);
        Ok(())
    }

    // What the core of a learner wants of its leader.

    pub(super) fn ask(&mut self, ask: Ask, outputs: &mut Outputs) {
        // Asked while the role was being lost: nobody waits for it any more.
        if self.is_in_sync() {
            self.send(&QuorumPacket::Ask(ask), outputs);
        }
    }

    pub(super) fn touch(&mut self, sessions: Vec<(SessionBits, i32)>) {
        if self.is_in_sync() {
            self.touched.extend(sessions);
        }
    }
}

fn bytes(packet: &QuorumPacket) -> Arc<[u8]> {
    quorum::encode(packet, Side::Learner).into()
}
