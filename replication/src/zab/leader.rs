//! A leader, from its election to its end: DISCOVERY, SYNCHRONIZATION of each learner, BROADCAST, liveness, barriers.
//! Not here: the election, what a learner does, how a learner's history is compared (plan).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::discovery::{self, EpochAck, Standing};
use super::history::part;
use super::link::{Learner, Phase};
use super::plan::{Plan, plan, plan_from_disk};
use super::words::{missing, name, words};
use super::{Goes, Server};
use crate::mutants::{Mutant, planted};
use crate::packet::quorum::{self, PROTOCOL_VERSION};
use crate::packet::{LearnerInfo, QuorumPacket, Side};
use crate::{
    Answer, Epoch, Epochs, History, Link, Moment, Number, Output, Outputs, Proposal, Role, ServerId, Ticket,
    Zxid,
};

/// Batches that may be proposed and not committed. One would put a whole round of the network between two batches; many
/// gain nothing once the round is filled, and all of them are lost work when leadership is.
const BATCHES_UNCOMMITTED_MAX: usize = 8;
/// Bytes of the same; every follower's connection may have to hold them.
const BYTES_UNCOMMITTED_MAX: usize = 16 << 20;
/// The epoch ends when its counter comes here: far more zxids are left than batches under way can take.
const COUNTER_MAX: u32 = u32::MAX - (16 << 20);
/// What a learner that catches up may have waiting in memory: enough to keep its connection busy between two turns.
const CATCH_UP_BYTES: u64 = 4 << 20;
/// PINGs that a learner may leave unanswered. Barriers send more than the ticks do.
const PINGS_UNANSWERED_MAX: usize = 10_000;

#[derive(Clone, Hash)]
pub(super) struct Leader {
    stage: Stage,
    /// What this server brought along: nobody in its quorum may have more.
    standing: Standing,
    /// Chosen in DISCOVERY; zero before.
    epoch: Epoch,
    /// The own promise of it is on disk: it may be offered.
    has_promised: bool,
    /// Last zxid of the history that the epoch starts from.
    start: Zxid,
    links: BTreeMap<Link, Learner>,
    /// Those for whom reading the log broke off: they take a snapshot when they come back.
    unreadable: BTreeSet<ServerId>,
    /// Batches proposed and not committed: last zxid and bytes.
    batches: VecDeque<(Zxid, usize)>,
    barriers: VecDeque<Barrier>,
    /// Counts barriers; PINGs carry it.
    round: u64,
    next_beat: Moment,
    /// When the present stage of the beginning has taken too long.
    deadline: Moment,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Stage {
    /// Too few are connected to choose an epoch.
    Choosing,
    /// The own promise is on its way to the disk.
    Promising(Number),
    /// Too few have promised.
    Collecting,
    /// `currentEpoch` is on its way to the disk: the own acknowledgement of NEWLEADER.
    Beginning(Number),
    /// Too few have acknowledged NEWLEADER.
    Establishing,
    Active,
}

#[derive(Clone, Hash)]
struct Barrier {
    ticket: Ticket,
    /// What was proposed before it.
    behind: Zxid,
    round: u64,
}

impl Leader {
    pub(super) fn enter(server: &mut Server, now: Moment, outputs: &mut Outputs) -> Leader {
        let mut leader = Leader {
            stage: Stage::Choosing,
            standing: Standing { current: server.epochs.current, zxid: server.history.reported() },
            epoch: Epoch(0),
            has_promised: false,
            start: server.history.logged(),
            links: BTreeMap::new(),
            unreadable: BTreeSet::new(),
            batches: VecDeque::new(),
            barriers: VecDeque::new(),
            round: 0,
            next_beat: now.plus_millis(server.settings.beat_ms()),
            deadline: now.plus_millis(server.settings.init_ms()),
        };
        leader.choose(server, now, outputs);
        leader
    }

    pub(super) fn is_active(&self) -> bool {
        self.stage == Stage::Active
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub(super) fn phase(&self) -> crate::Phase {
        match self.stage {
            Stage::Choosing | Stage::Promising(_) | Stage::Collecting => crate::Phase::Discovery,
            Stage::Beginning(_) | Stage::Establishing => crate::Phase::Synchronization,
            Stage::Active => crate::Phase::Broadcast,
        }
    }

    pub(super) fn links(&self) -> impl Iterator<Item = &Learner> {
        self.links.values()
    }

    pub(super) fn knows(&self, link: Link) -> bool {
        self.links.contains_key(&link)
    }

    pub(super) fn next_timeout(&self) -> Moment {
        self.next_beat
    }

    pub(super) fn may_propose(&self, server: &Server) -> bool {
        self.is_active()
            // The own log has caught up: while it syncs, the next batch grows, which keeps group commit self-clocked.
            && !server.log.has_appends()
            && self.batches.len() < BATCHES_UNCOMMITTED_MAX
            && self.batches.iter().map(|&(_, bytes)| bytes).sum::<usize>() < BYTES_UNCOMMITTED_MAX
            && server.history.logged().counter() < COUNTER_MAX
    }

    // Connections.

    pub(super) fn linked(&mut self, link: Link, now: Moment) {
        self.links.insert(link, Learner::new(link, now));
    }

    pub(super) fn unlinked(
        &mut self,
        link: Link,
        server: &mut Server,
        now: Moment,
        outputs: &mut Outputs,
    ) -> Goes {
        let Some(learner) = self.links.remove(&link) else { return Ok(()) };
        if learner.is_in_sync() {
            outputs.push_back(Output::Lost(link));
        }
        self.check_quorum(server, now)
    }

    fn hang(
        &mut self,
        link: Link,
        why: String,
        server: &mut Server,
        now: Moment,
        outputs: &mut Outputs,
    ) -> Goes {
        outputs.push_back(Output::Hang(link, why));
        self.unlinked(link, server, now, outputs)
    }

    pub(super) fn drained(
        &mut self,
        link: Link,
        bytes: u64,
        server: &mut Server,
        now: Moment,
        outputs: &mut Outputs,
    ) {
        let Some(learner) = self.links.get_mut(&link) else { return };
        learner.drained(bytes, now);
        match learner.phase {
            Phase::Snapshot { until_bytes } if until_bytes <= learner.drained_bytes() => {
                learner.phase = Phase::CatchingUp;
                self.catch_up(link, server, now, outputs);
            }
            Phase::CatchingUp => self.catch_up(link, server, now, outputs),
            _ => {}
        }
    }

    pub(super) fn progressed(&mut self, link: Link, now: Moment) {
        if let Some(learner) = self.links.get_mut(&link) {
            learner.heard = now;
        }
    }

    // What learners send.

    pub(super) fn received(
        &mut self,
        link: Link,
        packet: QuorumPacket,
        server: &mut Server,
        now: Moment,
        outputs: &mut Outputs,
    ) -> Goes {
        let Some(learner) = self.links.get_mut(&link) else { return Ok(()) };
        learner.heard = now;
        match self.obey(link, packet, server, now, outputs) {
            Ok(goes) => goes,
            Err(why) => self.hang(link, why, server, now, outputs),
        }
    }

    /// The outer error is the learner's fault and costs it its connection; the inner one ends leadership.
    fn obey(
        &mut self,
        link: Link,
        packet: QuorumPacket,
        server: &mut Server,
        now: Moment,
        outputs: &mut Outputs,
    ) -> Result<Goes, String> {
        let learner = self.links.get_mut(&link).ok_or("is not connected")?;
        match (learner.phase, packet) {
            (Phase::Greeting, QuorumPacket::FollowerInfo { accepted, info }) => {
                self.greet(link, accepted.epoch(), info, false, server, now, outputs)?;
            }
            (Phase::Greeting, QuorumPacket::ObserverInfo { accepted, info }) => {
                self.greet(link, accepted.epoch(), info, true, server, now, outputs)?;
            }
            (Phase::Greeting, _) => {
                return Err("its first packet is neither FOLLOWERINFO nor OBSERVERINFO".into());
            }
            (Phase::Promising, QuorumPacket::AckEpoch { zxid, epoch }) => {
                let ack = EpochAck::read(zxid, epoch)?;
                self.promised(link, ack, server, now, outputs)?;
            }
            (Phase::AwaitingAck | Phase::Acknowledged | Phase::InSync, QuorumPacket::Ack(zxid)) => {
                return self.acked(link, zxid, server, now, outputs);
            }
            (Phase::InSync, QuorumPacket::Ping { sessions, .. }) => {
                // One more than was asked for is no harm: it only tells of sessions.
                if let Some(round) = learner.pings.pop_front() {
                    learner.confirmed = learner.confirmed.max(round);
                }
                if !sessions.is_empty() {
                    outputs.push_back(Output::Touches(link, sessions));
                }
                self.pass_barriers(server, outputs);
            }
            (Phase::InSync, QuorumPacket::Ask(ask)) => outputs.push_back(Output::Asked(link, ask)),
            // What a later version may send is passed over, as Apache does.
            (_, QuorumPacket::Unknown(_)) => {}
            // Learners swallow PINGs before UPTODATE; one of an older kind that answers them does no harm.
            (phase, QuorumPacket::Ping { .. }) if phase != Phase::Promising => {}
            (phase, packet) => return Err(format!("sends {} while {}", name(&packet), words(phase))),
        }
        Ok(Ok(()))
    }

    #[allow(clippy::too_many_arguments)]
    fn greet(
        &mut self,
        link: Link,
        accepted: Epoch,
        info: LearnerInfo,
        is_observer: bool,
        server: &mut Server,
        now: Moment,
        outputs: &mut Outputs,
    ) -> Result<(), String> {
        if info.id.is_some_and(|id| id != link.peer) {
            return Err("its LearnerInfo names another server than its connection did".into());
        }
        if link.peer == server.settings.me {
            return Err(format!("it has this server's own id {}; every myid must be another", link.peer.0));
        }
        if info.protocol_version < PROTOCOL_VERSION {
            return Err(format!("it speaks protocol {:#x}, of a time before epochs", info.protocol_version));
        }
        let own_version = server.quorums.committed().version();
        if own_version < info.config_version {
            return Err(format!(
                "its configuration (version {:x}) is newer than this leader's ({own_version:x})",
                info.config_version
            ));
        }
        if discovery::EPOCH_LAST <= accepted.0 {
            return Err(format!("it has promised epoch {:#x}, behind which there is none", accepted.0));
        }
        let Some(learner) = self.links.get_mut(&link) else { return Ok(()) };
        learner.accepted = accepted;
        learner.is_observer = is_observer;
        learner.is_voter = !is_observer && server.quorums.is_voter(link.peer);
        learner.phase = Phase::AwaitingEpoch;
        if self.stage == Stage::Choosing {
            self.choose(server, now, outputs);
        } else if self.has_promised {
            self.offer(link, outputs);
        }
        Ok(())
    }

    /// DISCOVERY's first half: enough are connected to open an epoch above all of their promises.
    fn choose(&mut self, server: &mut Server, now: Moment, outputs: &mut Outputs) {
        let me = server.settings.me;
        let voters = self.voters_with(Learner::is_known);
        if !server.quorums.reached_committed(|id| id == me || voters.contains(&id)) {
            return;
        }
        // Observers' promises are respected, too.
        let promised =
            self.links.values().filter(|learner| learner.is_known()).map(|learner| learner.accepted);
        let Some(epoch) = discovery::next_epoch(server.epochs.accepted, promised) else { return };
        self.epoch = epoch;
        // Alone in its quorum a server need not wait for anybody's promise: one sync for both.
        let is_alone = server.quorums.reached_committed(|id| id == me);
        let current = if is_alone { epoch } else { server.epochs.current };
        let number = server.log.persist(Epochs { accepted: epoch, current }, now, outputs);
        self.stage = if is_alone { Stage::Beginning(number) } else { Stage::Promising(number) };
        self.deadline = now.plus_millis(server.settings.init_ms());
        if planted(Mutant::LeadsBeforeItsOwnEpochIsDurable) {
            self.stage = Stage::Collecting;
            self.offer_to_all(outputs);
        }
    }

    fn offer(&mut self, link: Link, outputs: &mut Outputs) {
        let Some(learner) = self.links.get_mut(&link) else { return };
        learner.phase = Phase::Promising;
        let zxid = Zxid::new(self.epoch, 0);
        let packet = QuorumPacket::LeaderInfo { zxid, protocol_version: PROTOCOL_VERSION };
        learner.send(bytes(&packet), outputs);
    }

    fn offer_to_all(&mut self, outputs: &mut Outputs) {
        self.has_promised = true;
        for link in self.links_in(|learner| learner.phase == Phase::AwaitingEpoch) {
            self.offer(link, outputs);
        }
    }

    /// DISCOVERY's second half. Who comes late is not compared: the epoch has its quorum.
    fn promised(
        &mut self,
        link: Link,
        ack: EpochAck,
        server: &mut Server,
        now: Moment,
        outputs: &mut Outputs,
    ) -> Result<(), String> {
        let is_refused = self.stage == Stage::Collecting && ack.is_more_recent_than(self.standing);
        if is_refused && !planted(Mutant::CountsAMoreRecentFollower) {
            return Err(format!(
                "its history (epoch {:?}, zxid {:?}) is more recent than this leader's (epoch {:?}, zxid {})",
                ack.current, ack.zxid, self.standing.current, self.standing.zxid
            ));
        }
        let Some(learner) = self.links.get_mut(&link) else { return Ok(()) };
        learner.promise = Some(ack);
        learner.phase = Phase::AwaitingSync;
        match self.stage {
            Stage::Collecting => self.count_promises(server, now, outputs),
            _ => self.synchronize(link, server, now, outputs),
        }
        Ok(())
    }

    fn count_promises(&mut self, server: &mut Server, now: Moment, outputs: &mut Outputs) {
        let me = server.settings.me;
        let counted = |learner: &Learner| learner.is_voter && learner.promise.is_some_and(|ack| ack.counts());
        let voters: Vec<ServerId> = self.links.values().filter(|l| counted(l)).map(|l| l.link.peer).collect();
        if !server.quorums.reached_committed(|id| id == me || voters.contains(&id)) {
            return;
        }
        let number = server.log.persist(Epochs { accepted: self.epoch, current: self.epoch }, now, outputs);
        self.stage = Stage::Beginning(number);
        if planted(Mutant::LeadsBeforeItsOwnEpochIsDurable) {
            self.stage = Stage::Establishing;
        }
        self.deadline = now.plus_millis(server.settings.init_ms());
        for link in self.links_in(|learner| learner.phase == Phase::AwaitingSync) {
            self.synchronize(link, server, now, outputs);
        }
    }

    // SYNCHRONIZATION of one learner.

    /// The last zxid that learners are sent with its COMMIT while they are synchronised. Before the epoch is established
    /// that is all there is: what it starts from is committed by the same quorum that establishes it.
    fn end(&self, server: &Server) -> Zxid {
        if self.is_active() { server.history.committed() } else { self.start }
    }

    fn synchronize(&mut self, link: Link, server: &mut Server, now: Moment, outputs: &mut Outputs) {
        let end = self.end(server);
        let Some(learner) = self.links.get_mut(&link) else { return };
        let is_readable = !self.unreadable.remove(&link.peer);
        let peer = learner.promise.and_then(|ack| ack.zxid).filter(|_| is_readable);
        match (plan(&server.history, end, self.epoch, peer), peer) {
            (Plan::AskDisk, Some(peer)) => {
                learner.cursor = peer;
                let to = server.history.base();
                let number = server.log.read(link, peer, to, outputs);
                learner.phase = Phase::Reading { number, to, is_first: true };
                learner.heard = now;
            }
            (plan, _) => self.carry_out(plan, link, server, now, outputs),
        }
    }

    fn carry_out(&mut self, plan: Plan, link: Link, server: &mut Server, now: Moment, outputs: &mut Outputs) {
        let end = self.end(server);
        let last_proposed = self.last_proposed(server);
        let Some(learner) = self.links.get_mut(&link) else { return };
        learner.heard = now;
        match plan {
            Plan::Diff { after } => {
                learner.send(bytes(&QuorumPacket::Diff(end.max(after))), outputs);
                learner.cursor = after;
                learner.phase = Phase::CatchingUp;
            }
            Plan::Trunc { to } => {
                learner.send(bytes(&QuorumPacket::Trunc(to)), outputs);
                learner.cursor = to;
                learner.phase = Phase::CatchingUp;
            }
            Plan::Snap | Plan::AskDisk => {
                let at = server.history.applied();
                learner.send(bytes(&QuorumPacket::Snap(at)), outputs);
                outputs.push_back(Output::SendSnapshot(link));
                // What follows is not piled up behind a stream that may take minutes: the learner passes this PING over,
                // and when its bytes have left, so has the snapshot.
                learner.send(bytes(&ping(last_proposed)), outputs);
                learner.cursor = at;
                if planted(Mutant::SnapSkipsOutstanding) {
                    learner.cursor = server.history.logged();
                }
                learner.phase = Phase::Snapshot { until_bytes: learner.sent_bytes() };
                return;
            }
            Plan::Refuse => {
                let why = format!("it holds history of an epoch later than {}", self.epoch.0);
                outputs.push_back(Output::Hang(link, why));
                self.links.remove(&link);
                return;
            }
        }
        self.catch_up(link, server, now, outputs);
    }

    /// Sends committed history as far as the connection takes it, then what is proposed, then NEWLEADER.
    fn catch_up(&mut self, link: Link, server: &mut Server, now: Moment, outputs: &mut Outputs) {
        let end = self.end(server);
        if planted(Mutant::NewLeaderOvertakesHistory) {
            self.send_new_leader(link, server, outputs);
        }
        let Some(learner) = self.links.get_mut(&link) else { return };
        while learner.cursor < end {
            if CATCH_UP_BYTES < learner.queued_bytes() {
                return;
            }
            if learner.cursor < server.history.base() {
                let to = server.history.base();
                let number = server.log.read(link, learner.cursor, to, outputs);
                learner.phase = Phase::Reading { number, to, is_first: false };
                learner.heard = now;
                return;
            }
            let Some(piece) = server.history.piece(learner.cursor, end) else { break };
            learner.send(quorum::history(&piece), outputs);
            learner.cursor = piece.last;
        }
        learner.sync_point = learner.cursor;
        // Registered for live traffic before NEWLEADER, in the same turn: nothing can fall between.
        if !learner.is_observer && !planted(Mutant::ForgetsOutstandingAtRegistration) {
            while let Some(piece) = server.history.piece(learner.cursor, server.history.logged()) {
                learner.send(quorum::proposals(&piece), outputs);
                learner.unacked.push_back((piece.last, now));
                learner.cursor = piece.last;
            }
        }
        learner.phase = Phase::AwaitingAck;
        learner.heard = now;
        self.send_new_leader(link, server, outputs);
    }

    fn send_new_leader(&mut self, link: Link, server: &Server, outputs: &mut Outputs) {
        let zxid = Zxid::new(self.epoch, 0);
        let config = server.new_leader_config(self.epoch);
        if let Some(learner) = self.links.get_mut(&link).filter(|learner| !learner.has_new_leader) {
            learner.has_new_leader = true;
            learner.send(bytes(&QuorumPacket::NewLeader { zxid, config }), outputs);
        }
    }

    pub(super) fn history(
        &mut self,
        link: Link,
        number: Number,
        history: History,
        server: &mut Server,
        now: Moment,
        outputs: &mut Outputs,
    ) -> Goes {
        let end = self.end(server);
        let Some(learner) = self.links.get_mut(&link) else { return Ok(()) };
        let Phase::Reading { number: asked, to, is_first } = learner.phase else { return Ok(()) };
        if asked != number {
            return Ok(());
        }
        learner.heard = now;
        if is_first {
            match plan_from_disk(history.from, learner.cursor) {
                Plan::Snap => {
                    self.carry_out(Plan::Snap, link, server, now, outputs);
                    return Ok(());
                }
                plan => {
                    learner.phase = Phase::Reading { number, to, is_first: false };
                    let (packet, cursor) = match plan {
                        Plan::Trunc { to } => (QuorumPacket::Trunc(to), to),
                        _ => (QuorumPacket::Diff(end.max(learner.cursor)), learner.cursor),
                    };
                    learner.send(bytes(&packet), outputs);
                    learner.cursor = cursor;
                }
            }
        }
        if let Some(records) = history.records {
            // The first zxid behind (e,0) may be any; the log vouches for the rest, and a bug there must not make a hole here.
            let fits = super::history::continues(learner.cursor, records.first)
                || (learner.cursor.counter() == 0 && learner.cursor < records.first);
            if !fits || records.last < records.first {
                let why = format!("the log gives {} behind {}", records.first, learner.cursor);
                self.unreadable.insert(link.peer);
                return self.hang(link, why, server, now, outputs);
            }
            learner.send(quorum::history(&records), outputs);
            learner.cursor = records.last;
        }
        if history.is_last {
            // An epoch's beginning is no record: nothing stands between it and what was sent.
            if to.counter() == 0 {
                learner.cursor = learner.cursor.max(to);
            }
            if learner.cursor < to {
                let why = format!("the log no longer holds what it was to be sent behind {}", learner.cursor);
                self.unreadable.insert(link.peer);
                return self.hang(link, why, server, now, outputs);
            }
            if learner.cursor < end && planted(Mutant::LeavesAGapBehindTheDisk) {
                learner.cursor = Zxid(learner.cursor.0 + 1);
            }
            learner.phase = Phase::CatchingUp;
            self.catch_up(link, server, now, outputs);
        }
        Ok(())
    }

    // Acknowledgements.

    fn acked(
        &mut self,
        link: Link,
        zxid: Zxid,
        server: &mut Server,
        now: Moment,
        outputs: &mut Outputs,
    ) -> Result<Goes, String> {
        let epoch = self.epoch;
        let is_active = self.is_active();
        let Some(learner) = self.links.get_mut(&link) else { return Ok(Ok(())) };
        let zxid = if learner.phase == Phase::AwaitingAck && planted(Mutant::TakesAnyAckForTheEpochs) {
            Zxid::new(epoch, 0)
        } else {
            zxid
        };
        if zxid.counter() == 0 {
            if zxid != Zxid::new(epoch, 0) {
                return Err(format!("acknowledges {zxid}, which this leader has not sent"));
            }
            // The second one answers UPTODATE.
            if learner.phase == Phase::AwaitingAck {
                learner.phase = Phase::Acknowledged;
                // All that stood before NEWLEADER with its COMMIT, and what it came with, is on its disk.
                learner.ack(learner.sync_point);
                if planted(Mutant::SendsUpToDateBeforeAQuorum) {
                    learner.phase = Phase::InSync;
                    learner.send(bytes(&QuorumPacket::UpToDate), outputs);
                }
                if is_active {
                    let goes = self.advance(server, now, outputs);
                    self.finish_syncs(server, outputs);
                    return Ok(goes);
                }
                return Ok(self.establish(server, now, outputs));
            }
            return Ok(Ok(()));
        }
        if learner.cursor < zxid {
            return Err(format!("acknowledges {zxid}, but was sent nothing behind {}", learner.cursor));
        }
        // One link's acknowledgements come in the order of its proposals, so that one stands for all before it. They come
        // one for each txn, and only that of a batch's last can commit anything.
        let before = learner.acked;
        learner.ack(zxid);
        let ends_a_batch = self.batches.iter().any(|&(last, _)| before < last && last <= zxid);
        if ends_a_batch { Ok(self.advance(server, now, outputs)) } else { Ok(Ok(())) }
    }

    /// An epoch is on disk, when `persisted` names the request; else records are.
    pub(super) fn logged(
        &mut self,
        persisted: Option<Number>,
        server: &mut Server,
        now: Moment,
        outputs: &mut Outputs,
    ) -> Goes {
        match (self.stage, persisted) {
            (Stage::Promising(asked), Some(number)) if asked == number => {
                self.stage = Stage::Collecting;
                self.offer_to_all(outputs);
            }
            (Stage::Beginning(asked), Some(number)) if asked == number => {
                self.stage = Stage::Establishing;
                self.offer_to_all(outputs);
                return self.establish(server, now, outputs);
            }
            (Stage::Active, _) => return self.advance(server, now, outputs),
            _ => {}
        }
        Ok(())
    }

    /// The quorum of NEWLEADER: from here on what the epoch started from is committed for good.
    fn establish(&mut self, server: &mut Server, now: Moment, outputs: &mut Outputs) -> Goes {
        if self.stage != Stage::Establishing {
            return Ok(());
        }
        let me = server.settings.me;
        if !server.quorums.reached(|id| id == me || self.voters_with(Learner::has_acked_epoch).contains(&id))
        {
            return Ok(());
        }
        assert!(server.history.logged() == self.start, "nothing is proposed before the epoch is established");
        self.stage = Stage::Active;
        self.next_beat = now.plus_millis(server.settings.beat_ms());
        server.history.commit(self.start);
        server.history.establish(self.epoch);
        for proposal in server.history.take_unapplied() {
            outputs.push_back(Output::Deliver(proposal));
        }
        outputs.push_back(Output::Lead(self.epoch));
        outputs.push_back(Output::Role(Role::Leading));
        self.finish_syncs(server, outputs);
        Ok(())
    }

    /// UPTODATE to those who may have it. One that came with records which were not committed yet waits for them: it takes
    /// UPTODATE for their commit.
    fn finish_syncs(&mut self, server: &Server, outputs: &mut Outputs) {
        let committed = server.history.committed();
        for learner in self.links.values_mut() {
            if learner.phase == Phase::Acknowledged
                && (planted(Mutant::SendsUpToDateBeforeTheCommit)
                    || server.history.piece(committed, learner.sync_point).is_none())
            {
                learner.phase = Phase::InSync;
                learner.send(bytes(&QuorumPacket::UpToDate), outputs);
            }
        }
    }

    // BROADCAST.

    pub(super) fn propose(
        &mut self,
        proposal: Proposal,
        server: &mut Server,
        now: Moment,
        outputs: &mut Outputs,
    ) -> Goes {
        let expected = server.history.logged().max(Zxid::new(self.epoch, 0)).successor();
        assert!(self.is_active());
        assert!(Some(proposal.first) == expected, "{:?} proposed, {expected:?} is next", proposal.first);
        let mut slow = Vec::new();
        let encoded = quorum::proposals(&proposal);
        for learner in self.links.values_mut().filter(|l| l.is_live() && !l.is_observer) {
            learner.send(encoded.clone(), outputs);
            learner.cursor = proposal.last;
            learner.unacked.push_back((proposal.last, now));
            if server.settings.link_bytes_max < learner.queued_bytes() {
                slow.push(learner.link);
            }
        }
        self.batches.push_back((proposal.last, proposal.records.len()));
        server.history.append(proposal.clone());
        // Behind the sends: the network takes longer than the disk.
        server.log.append(proposal, now, outputs);
        self.hang_slow(slow, server, now, outputs)
    }

    fn hang_slow(
        &mut self,
        slow: Vec<Link>,
        server: &mut Server,
        now: Moment,
        outputs: &mut Outputs,
    ) -> Goes {
        for link in slow {
            let bytes = self.links.get(&link).map_or(0, Learner::queued_bytes);
            let why = format!("it is too slow: {bytes} bytes wait for it; it will be synchronised anew");
            self.hang(link, why, server, now, outputs)?;
        }
        Ok(())
    }

    /// Commits the batches that a quorum has on disk.
    fn advance(&mut self, server: &mut Server, now: Moment, outputs: &mut Outputs) -> Goes {
        let Some(&(first, _)) = self.batches.front() else { return Ok(()) };
        let me = server.settings.me;
        let mut marks: BTreeMap<ServerId, Zxid> = BTreeMap::new();
        for learner in self.links.values().filter(|l| l.is_voter && l.has_acked_epoch()) {
            let mark = marks.entry(learner.link.peer).or_default();
            *mark = learner.acked.max(*mark);
        }
        let is_unsynced_enough = planted(Mutant::CountsItsOwnAckUnsynced);
        marks.insert(me, if is_unsynced_enough { server.history.logged() } else { server.log.durable() });
        let Some(agreed) = server.quorums.agreed(|id| marks.get(&id).copied()) else { return Ok(()) };
        if agreed < first {
            return Ok(());
        }
        let before = server.history.committed();
        let mut to = before;
        while let Some(&(last, _)) = self.batches.front().filter(|(last, _)| *last <= agreed) {
            to = last;
            self.batches.pop_front();
        }
        let slow = self.announce(before, to, server, outputs);
        server.history.commit(to);
        server.history.applied_by_proposing();
        outputs.push_back(Output::Commit(to));
        self.finish_syncs(server, outputs);
        self.pass_barriers(server, outputs);
        self.hang_slow(slow, server, now, outputs)?;
        self.check_counter(server)
    }

    /// COMMITs to followers, INFORMs to observers: one encoding of a batch for all of a kind. Tells who takes
    /// too little of it.
    fn announce(&mut self, before: Zxid, to: Zxid, server: &Server, outputs: &mut Outputs) -> Vec<Link> {
        let mut after = before;
        while let Some(batch) = server.history.piece(after, to) {
            after = batch.last;
            let mut commits: Option<Arc<[u8]>> = None;
            let mut informs: Option<Arc<[u8]>> = None;
            for learner in self.links.values_mut().filter(|learner| learner.is_live()) {
                let encode = if learner.is_observer { quorum::informs } else { quorum::commits };
                let shared = if learner.is_observer { &mut informs } else { &mut commits };
                let is_whole = learner.sync_point < batch.first || planted(Mutant::CommitsBelowTheSyncPoint);
                let bytes = if is_whole {
                    shared.get_or_insert_with(|| encode(&batch)).clone()
                } else if let Some(rest) = part(&batch, learner.sync_point, batch.last) {
                    encode(&rest)
                } else {
                    continue;
                };
                learner.send(bytes, outputs);
            }
        }
        let is_slow =
            |learner: &Learner| learner.is_live() && server.settings.link_bytes_max < learner.queued_bytes();
        self.links_in(is_slow)
    }

    fn check_counter(&self, server: &Server) -> Goes {
        let committed = server.history.committed();
        if self.is_active() && self.batches.is_empty() && COUNTER_MAX <= committed.counter() {
            return Err(format!(
                "the zxids of epoch {} are nearly spent; a new epoch is needed",
                self.epoch.0
            ));
        }
        Ok(())
    }

    // Barriers: a quorum has confirmed this leader after the barrier was asked for, and all that was proposed before is
    // committed. A batch proposed behind the barrier and committed proves both; otherwise answered PINGs do.

    pub(super) fn barrier(&mut self, ticket: Ticket, server: &mut Server, outputs: &mut Outputs) {
        self.round += 1;
        self.barriers.push_back(Barrier { ticket, behind: server.history.logged(), round: self.round });
        let packet = bytes(&ping(self.last_proposed(server)));
        let me = server.settings.me;
        if !server.quorums.reached(|id| id == me) {
            for learner in self.links.values_mut().filter(|l| l.is_in_sync() && l.is_voter) {
                learner.send(packet.clone(), outputs);
                learner.pings.push_back(self.round);
            }
        }
        self.pass_barriers(server, outputs);
    }

    fn pass_barriers(&mut self, server: &Server, outputs: &mut Outputs) {
        let me = server.settings.me;
        let committed = server.history.committed();
        while let Some(barrier) = self.barriers.front() {
            let round = barrier.round;
            let is_confirmed = || {
                let voters = self.voters_with(|learner| round <= learner.confirmed);
                server.quorums.reached(|id| id == me || voters.contains(&id))
                    || planted(Mutant::PassesBarriersAlone)
            };
            let passes = barrier.behind < committed || (barrier.behind <= committed && is_confirmed());
            if !passes {
                return;
            }
            outputs.push_back(Output::Passed(barrier.ticket));
            self.barriers.pop_front();
        }
    }

    pub(super) fn answer(&mut self, link: Link, answer: Answer, outputs: &mut Outputs) {
        if let Some(learner) = self.links.get_mut(&link).filter(|learner| learner.is_in_sync()) {
            learner.send(bytes(&QuorumPacket::Answer(answer)), outputs);
        }
    }

    // Liveness.

    pub(super) fn timeout(&mut self, server: &mut Server, now: Moment, outputs: &mut Outputs) -> Goes {
        if now < self.next_beat {
            return Ok(());
        }
        self.next_beat = now.plus_millis(server.settings.beat_ms());
        let (init, sync) = (server.settings.init_ms(), server.settings.sync_ms());
        if sync * 1_000_000 <= server.log.silence(now) {
            return Err(format!("the own log has not answered for {sync} ms: is the disk hung?"));
        }
        if !self.is_active() && self.deadline <= now {
            return Err(format!(
                "no epoch was established within {init} ms: waited for {}",
                self.waiting_for(server)
            ));
        }
        let mut late = Vec::new();
        for learner in self.links.values() {
            if let Some(why) = overdue(learner, now, init, sync) {
                late.push((learner.link, why));
            }
        }
        for (link, why) in late {
            self.hang(link, why, server, now, outputs)?;
        }
        let packet = bytes(&ping(self.last_proposed(server)));
        let round = self.round;
        for learner in self.links.values_mut().filter(|learner| learner.takes_pings()) {
            learner.send(packet.clone(), outputs);
            if learner.is_in_sync() {
                learner.pings.push_back(round);
            }
        }
        self.check_quorum(server, now)
    }

    /// A leader whose quorum is not even connected ends at once: its followers are electing already.
    fn check_quorum(&mut self, server: &Server, _now: Moment) -> Goes {
        if !self.is_active() || planted(Mutant::LeadsOnWithoutAQuorum) {
            return Ok(());
        }
        let me = server.settings.me;
        let voters = self.voters_with(Learner::is_known);
        if server.quorums.reached(|id| id == me || voters.contains(&id)) {
            return Ok(());
        }
        Err(format!("no quorum of voters is connected: {}", missing(server, &voters)))
    }

    // Words and helpers.

    fn last_proposed(&self, server: &Server) -> Zxid {
        server.history.logged().max(Zxid::new(self.epoch, 0))
    }

    fn voters_with(&self, holds: impl Fn(&Learner) -> bool) -> Vec<ServerId> {
        self.links.values().filter(|l| l.is_voter && holds(l)).map(|l| l.link.peer).collect()
    }

    fn links_in(&self, holds: impl Fn(&Learner) -> bool) -> Vec<Link> {
        self.links.values().filter(|learner| holds(learner)).map(|learner| learner.link).collect()
    }

    pub(super) fn waiting_for(&self, server: &Server) -> String {
        match self.stage {
            Stage::Choosing => {
                format!("connections of a quorum; {}", missing(server, &self.voters_with(Learner::is_known)))
            }
            Stage::Promising(_) | Stage::Beginning(_) => "the epoch to be on disk".into(),
            Stage::Collecting => {
                let promised = self.voters_with(|l| l.promise.is_some_and(|ack| ack.counts()));
                format!("ACKEPOCH of a quorum; {}", missing(server, &promised))
            }
            Stage::Establishing => {
                format!(
                    "acks of NEWLEADER of a quorum; {}",
                    missing(server, &self.voters_with(Learner::has_acked_epoch))
                )
            }
            Stage::Active => String::new(),
        }
    }
}

fn overdue(learner: &Learner, now: Moment, init_ms: u64, sync_ms: u64) -> Option<String> {
    let silent_ms = now.since(learner.heard) / 1_000_000;
    let limit_ms = match learner.phase {
        // It waits for this leader.
        Phase::AwaitingEpoch | Phase::AwaitingSync | Phase::Acknowledged | Phase::Reading { .. } => {
            return None;
        }
        Phase::InSync => sync_ms,
        _ => init_ms,
    };
    if limit_ms <= silent_ms {
        return Some(format!("it was silent for {silent_ms} ms while {}", words(learner.phase)));
    }
    let oldest = learner.unacked.front().filter(|_| learner.has_acked_epoch());
    if let Some(&(zxid, since)) = oldest.filter(|(_, since)| sync_ms * 1_000_000 <= now.since(*since)) {
        let ms = now.since(since) / 1_000_000;
        return Some(format!("it has not acknowledged {zxid} for {ms} ms: is its disk hung?"));
    }
    if PINGS_UNANSWERED_MAX < learner.pings.len() {
        return Some(format!("it has left {} PINGs unanswered", learner.pings.len()));
    }
    None
}

fn ping(zxid: Zxid) -> QuorumPacket {
    QuorumPacket::Ping { zxid, sessions: Vec::new() }
}

fn bytes(packet: &QuorumPacket) -> Arc<[u8]> {
    quorum::encode(packet, Side::Leader).into()
}
