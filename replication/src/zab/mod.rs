//! A server of an ensemble: it looks for a leader, then leads or learns, until it has to look again.
//! ZAB as Apache ZooKeeper 3.9 speaks it, without the ways in which that has lost committed txns.
//! Not here: the election's own messages, bytes, sockets, files, clocks, znodes.
//!
//! Rules that hold in every role:
//! - What is visible is committed for good: nothing is delivered between the loss of a leader and UPTODATE.
//! - Memory is never ahead of the disk when a first vote or an ACKEPOCH leaves: both wait until the log owes nothing.
//! - History is on disk before the epoch, the epoch before the acknowledgement of NEWLEADER, and that before any other.

mod discovery;
mod history;
mod leader;
mod learner;
mod link;
mod plan;
mod queue;
mod words;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::mutants::{Mutant, planted};
use crate::packet::{Packet, PeerState, QuorumPacket};
use crate::{
    Broadcast, Election, ElectionSettings, Epoch, Epochs, Input, Link, Members, Moment, Number, Output,
    Outputs, Phase, Port, Quorums, Role, ServerId, Status, Zxid,
};
pub use history::CacheLimits;
use history::History;
use leader::Leader;
use learner::Learner;
use queue::LogQueue;

/// Why a role ends, in words for the operator; a leader that says so looks again.
type Goes = Result<(), String>;

/// Connections to the quorum port that came before this server knew whether it leads. Learners whose election was over
/// first would otherwise begin theirs again.
const EARLY_LINKS_MAX: usize = 256;

/// Before another vote when elected leaders could not be followed; doubles each time. A server that has promised a later
/// epoch than the one that stands has nobody to follow until that one ends, and would ask without a rest.
const PAUSE_MS_MIN: u64 = 100;
const PAUSE_MS_MAX: u64 = 1600;

#[derive(Clone, Hash, Debug)]
pub struct Settings {
    pub me: ServerId,
    pub members: Arc<Members>,
    /// This server's own role (`peerType`); whether it votes, the members say.
    pub is_observer: bool,
    pub tick_ms: u64,
    /// Ticks for connecting, DISCOVERY and SYNCHRONIZATION.
    pub init_limit: u64,
    /// Ticks of silence that are put up with afterwards.
    pub sync_limit: u64,
    /// Ticks in which a learner must have connected; 0: `init_limit`.
    pub connect_limit: u64,
    pub cache: CacheLimits,
    /// Bytes that may wait for one learner; one that takes less is hung up and synchronised anew.
    pub link_bytes_max: u64,
    /// Bytes that a leader may propose to this server without committing them.
    pub uncommitted_bytes_max: usize,
    /// Then the first epoch gives the configuration a version, as Apache does.
    pub is_reconfig_enabled: bool,
    pub election: ElectionSettings,
}

impl Settings {
    fn init_ms(&self) -> u64 {
        self.tick_ms * self.init_limit
    }

    fn sync_ms(&self) -> u64 {
        self.tick_ms * self.sync_limit
    }

    fn connect_ms(&self) -> u64 {
        self.tick_ms * if self.connect_limit == 0 { self.init_limit } else { self.connect_limit }
    }

    /// A leader sends PINGs twice a tick.
    fn beat_ms(&self) -> u64 {
        (self.tick_ms / 2).max(1)
    }
}

/// What the disk held at the start.
#[derive(Clone, Copy, Debug)]
pub struct Recovered {
    pub epochs: Epochs,
    /// The last zxid: of a record or of the snapshot, which may bear an epoch's beginning (e,0). The world holds it.
    pub logged: Zxid,
}

/// `acceptedEpoch` is lower than the epoch of what stands in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EpochsLost {
    pub epochs: Epochs,
    pub logged: Zxid,
}

impl fmt::Display for EpochsLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the log ends at {} of epoch {}, but acceptedEpoch is only {}: epoch files were lost or replaced; restore \
             them, or empty this server's directories so that it takes everything from the others",
            self.logged,
            self.logged.epoch().0,
            self.epochs.accepted.0
        )
    }
}

impl std::error::Error for EpochsLost {}

/// What outlives a role.
#[derive(Clone, Hash)]
struct Server {
    settings: Settings,
    quorums: Quorums,
    /// As they stand on disk.
    epochs: Epochs,
    log: LogQueue,
    history: History,
    /// The log could not be truncated as this leader asked: it is asked for a snapshot when it is met again. Any other is told
    /// what this server holds, which is as good as before; counted by nobody, it would be missing in every quorum.
    snapshot_wanted_of: Option<ServerId>,
}

#[derive(Clone, Hash)]
enum Stage {
    Looking(Looking),
    Leading(Box<Leader>),
    Learning(Box<Learner>),
}

#[derive(Clone, Hash)]
struct Looking {
    has_voted: bool,
    /// No vote before.
    pause_until: Moment,
    /// Connections that came early, with what they brought: at most one packet.
    early: BTreeMap<Link, Option<QuorumPacket>>,
}

/// Pure: a copy goes on from here by itself, and equal states are equal in all that follows.
#[derive(Clone, Hash)]
pub struct Ensemble {
    server: Server,
    election: Election,
    stage: Stage,
    role: Role,
    looking_since: Moment,
    election_ms: Option<u64>,
    /// Leaders, one after the other, that were elected and could not be followed.
    failures: u32,
}

impl Ensemble {
    pub fn new(
        settings: Settings,
        recovered: Recovered,
        now: Moment,
        outputs: &mut Outputs,
    ) -> Result<Ensemble, EpochsLost> {
        let Recovered { mut epochs, logged } = recovered;
        let last = logged.epoch();
        if epochs.accepted < last || epochs.accepted < epochs.current {
            return Err(EpochsLost { epochs, logged });
        }
        let mut log = LogQueue::new(logged);
        if epochs.current < last {
            if planted(Mutant::RefusesToStartBetweenHistoryAndEpoch) {
                return Err(EpochsLost { epochs, logged });
            }
            // A crash between history and epoch. Zxids are stored in order: whoever holds anything of an epoch holds all
            // that it started from.
            epochs.current = last;
            log.persist(epochs, now, outputs);
        }
        let election = Election::new(
            settings.me,
            settings.members.clone(),
            !settings.is_observer,
            settings.election.clone(),
        );
        let server = Server {
            quorums: Quorums::new(settings.members.clone(), None),
            epochs,
            log,
            history: History::new(logged, settings.cache),
            snapshot_wanted_of: None,
            settings,
        };
        outputs.push_back(Output::Role(Role::Looking));
        let mut ensemble = Ensemble {
            server,
            election,
            stage: Stage::Looking(Looking::new(now)),
            role: Role::Looking,
            looking_since: now,
            election_ms: None,
            failures: 0,
        };
        ensemble.settle(now, outputs);
        Ok(ensemble)
    }

    fn dispatch(&mut self, input: Input, now: Moment, outputs: &mut Outputs) -> Goes {
        match input {
            Input::Linked { link, port: Port::Election, dialled, addresses } => {
                self.election.linked(link, dialled, addresses, now, outputs);
            }
            Input::Unreachable { peer, port: Port::Election } => {
                self.election.unreachable(peer, now, outputs)
            }
            Input::Received(link, Packet::Notification(notification)) => {
                self.election.received(link, notification, now, outputs);
            }
            Input::Linked { link, port: Port::Quorum, dialled, .. } => {
                self.linked(link, dialled, now, outputs)
            }
            Input::Unreachable { peer, port: Port::Quorum } => {
                if let Stage::Learning(learner) = &mut self.stage {
                    return learner.unreachable(peer, now);
                }
            }
            Input::Received(link, Packet::Quorum(packet)) => {
                return self.received(link, packet, now, outputs);
            }
            Input::Drained(link, bytes) => match &mut self.stage {
                Stage::Leading(leader) if leader.knows(link) => {
                    leader.drained(link, bytes, &mut self.server, now, outputs);
                }
                _ => self.election.drained(link, bytes, now, outputs),
            },
            Input::Unlinked(link) => return self.unlinked(link, now, outputs),
            Input::Progress(link) => match &mut self.stage {
                Stage::Leading(leader) => leader.progressed(link, now),
                Stage::Learning(learner) if learner.link() == Some(link) => {
                    learner.progressed(&self.server, now)
                }
                _ => {}
            },
            Input::Streamed { link, done } => {
                if let Stage::Learning(learner) = &mut self.stage
                    && learner.link() == Some(link)
                {
                    return learner.streamed(done, &mut self.server, now);
                }
            }
            Input::Timeout => {
                self.election.timeout(now, outputs);
                return match &mut self.stage {
                    Stage::Looking(_) => Ok(()),
                    Stage::Leading(leader) => leader.timeout(&mut self.server, now, outputs),
                    Stage::Learning(learner) => learner.timeout(now, outputs),
                };
            }
            Input::Propose(_) | Input::Barrier(_) | Input::Answer(..) | Input::Ask(_) | Input::Touched(_) => {
                return self.wanted(input, now, outputs);
            }
            Input::StepDown(why) => {
                if let Stage::Leading(_) = self.stage {
                    return Err(why);
                }
            }
            Input::Durable { .. }
            | Input::Persisted { .. }
            | Input::Truncated { .. }
            | Input::Installed { .. }
            | Input::History { .. } => return self.answered(input, now, outputs),
        }
        Ok(())
    }

    /// What the core wants. Of another role than the present one it was wanted before the core knew; nobody waits for it.
    fn wanted(&mut self, input: Input, now: Moment, outputs: &mut Outputs) -> Goes {
        match (&mut self.stage, input) {
            (Stage::Leading(leader), Input::Propose(proposal)) if leader.is_active() => {
                return leader.propose(proposal, &mut self.server, now, outputs);
            }
            (Stage::Leading(leader), Input::Barrier(ticket)) if leader.is_active() => {
                leader.barrier(ticket, &mut self.server, outputs);
            }
            (Stage::Leading(leader), Input::Answer(link, answer)) => leader.answer(link, answer, outputs),
            (Stage::Learning(learner), Input::Ask(ask)) => learner.ask(ask, outputs),
            (Stage::Learning(learner), Input::Touched(sessions)) => learner.touch(sessions),
            _ => {}
        }
        Ok(())
    }

    /// What the log answers changes what the server holds, whatever has become of the role that asked.
    fn answered(&mut self, input: Input, now: Moment, outputs: &mut Outputs) -> Goes {
        let server = &mut self.server;
        match input {
            Input::Durable { number, .. } => {
                server.log.answer(number, now);
                server.history.synced(server.log.durable());
                self.logged(None, now, outputs)
            }
            Input::Persisted { number, epochs } => {
                server.log.answer(number, now);
                server.epochs = epochs;
                self.logged(Some(number), now, outputs)
            }
            Input::Truncated { number, to, done } => {
                server.log.answer(number, now);
                if done {
                    server.history.truncate(to);
                    server.log.ends_at(to);
                }
                match &mut self.stage {
                    Stage::Learning(learner) => learner.truncated(number, to, done, server, now, outputs),
                    _ => Ok(()),
                }
            }
            Input::Installed { number, zxid, done } => {
                server.log.answer(number, now);
                if done {
                    server.history.install(zxid);
                    server.log.ends_at(zxid);
                }
                match &mut self.stage {
                    Stage::Learning(learner) => learner.installed(number, done, server, now, outputs),
                    _ => Ok(()),
                }
            }
            Input::History { link, number, history } => match &mut self.stage {
                Stage::Leading(leader) => leader.history(link, number, history, server, now, outputs),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn logged(&mut self, persisted: Option<Number>, now: Moment, outputs: &mut Outputs) -> Goes {
        match &mut self.stage {
            Stage::Looking(_) => Ok(()),
            Stage::Leading(leader) => leader.logged(persisted, &mut self.server, now, outputs),
            Stage::Learning(learner) => {
                learner.logged(persisted, &mut self.server, outputs);
                Ok(())
            }
        }
    }

    fn linked(&mut self, link: Link, dialled: bool, now: Moment, outputs: &mut Outputs) {
        let refusal = match (&mut self.stage, dialled) {
            (Stage::Leading(leader), false) => return leader.linked(link, now),
            (Stage::Looking(looking), false) if looking.early.len() < EARLY_LINKS_MAX => {
                looking.early.insert(link, None);
                return;
            }
            (Stage::Learning(learner), true) => {
                if learner.linked(link, &self.server, now, outputs) {
                    return;
                }
                "one connection to the leader is enough"
            }
            (_, true) => "this connection is not wanted any more",
            (_, false) => "this server does not lead",
        };
        outputs.push_back(Output::Hang(link, refusal.into()));
    }

    fn received(&mut self, link: Link, packet: QuorumPacket, now: Moment, outputs: &mut Outputs) -> Goes {
        match &mut self.stage {
            Stage::Leading(leader) if leader.knows(link) => {
                return leader.received(link, packet, &mut self.server, now, outputs);
            }
            Stage::Learning(learner) if learner.link() == Some(link) => {
                return learner.received(packet, &mut self.server, now, outputs);
            }
            Stage::Looking(looking) => {
                if let Some(early @ None) = looking.early.get_mut(&link) {
                    *early = Some(packet);
                    return Ok(());
                }
                looking.early.remove(&link);
            }
            _ => {}
        }
        // What an older connection brings never counts.
        outputs.push_back(Output::Hang(link, "a packet on a connection that is over".into()));
        Ok(())
    }

    fn unlinked(&mut self, link: Link, now: Moment, outputs: &mut Outputs) -> Goes {
        match &mut self.stage {
            Stage::Leading(leader) if leader.knows(link) => {
                return leader.unlinked(link, &mut self.server, now, outputs);
            }
            Stage::Learning(learner) if learner.link() == Some(link) => {
                return Err(format!("the connection to leader {} is gone", link.peer.0));
            }
            Stage::Looking(looking) => {
                looking.early.remove(&link);
            }
            _ => {}
        }
        self.election.unlinked(link, now, outputs);
        Ok(())
    }

    /// Leaves a role. Clients are told first.
    fn leave(&mut self, why: String, now: Moment, outputs: &mut Outputs) {
        if self.role != Role::Looking {
            self.role = Role::Looking;
            outputs.push_back(Output::Role(Role::Looking));
        }
        let could_not_follow = matches!(&self.stage, Stage::Learning(learner) if !learner.is_in_sync());
        self.failures = if could_not_follow { self.failures.saturating_add(1) } else { 0 };
        // The first time at once: it is mostly a leader that was about to end.
        let pause_ms = match self.failures {
            0 | 1 => 0,
            more => (PAUSE_MS_MIN << (more - 2).min(16)).min(PAUSE_MS_MAX),
        };
        let looking = Looking::new(now.plus_millis(pause_ms));
        match std::mem::replace(&mut self.stage, Stage::Looking(looking)) {
            Stage::Looking(_) => {}
            Stage::Leading(leader) => {
                outputs.push_back(Output::Report(format!("leads no longer: {why}")));
                for learner in leader.links() {
                    outputs.push_back(Output::Hang(learner.link, format!("leads no longer: {why}")));
                }
            }
            Stage::Learning(learner) => {
                outputs.push_back(Output::Report(format!("has no leader any more: {why}")));
                if let Some(link) = learner.link() {
                    outputs.push_back(Output::Hang(link, why));
                }
            }
        }
        self.election.leave();
        self.looking_since = now;
    }

    /// Votes when it may, and takes up the role that an election gave.
    fn settle(&mut self, now: Moment, outputs: &mut Outputs) {
        if let Stage::Looking(looking) = &mut self.stage
            && !looking.has_voted
            && looking.pause_until <= now
            && (self.server.log.is_idle() || planted(Mutant::VotesBeforeTheLogIsIdle))
        {
            looking.has_voted = true;
            let zxid = self.server.history.reported();
            self.election.look(Some(zxid), self.server.epochs.current, now, outputs);
        }
        let Some(vote) = self.election.outcome() else { return };
        let Stage::Looking(looking) = &mut self.stage else { return };
        let early = std::mem::take(&mut looking.early);
        let Some(elected) = vote.server() else { return };
        if self.election.state() == PeerState::Leading {
            let mut leader = Leader::enter(&mut self.server, now, outputs);
            for &link in early.keys() {
                leader.linked(link, now);
            }
            self.stage = Stage::Leading(Box::new(leader));
            for (link, packet) in early {
                let Some(packet) = packet else { continue };
                if let Err(why) = self.received(link, packet, now, outputs) {
                    return self.leave(why, now, outputs);
                }
            }
        } else {
            for link in early.into_keys() {
                outputs.push_back(Output::Hang(link, "this server does not lead".into()));
            }
            self.stage = Stage::Learning(Box::new(Learner::enter(elected, &self.server, now, outputs)));
        }
    }

    /// Tells the election, and keeps for words, what the role has become.
    fn note_role(&mut self, now: Moment) {
        let (role, epoch) = match &self.stage {
            Stage::Leading(leader) if leader.is_active() => (Role::Leading, leader.epoch()),
            Stage::Learning(learner) if learner.is_in_sync() => {
                let leader = learner.leader();
                let role = if self.server.settings.is_observer { Role::Observing } else { Role::Following };
                (role(leader), learner.epoch())
            }
            _ => return,
        };
        if self.role != role {
            self.role = role;
            self.failures = 0;
            self.election_ms = Some(now.since(self.looking_since) / 1_000_000);
            if role == Role::Leading || !planted(Mutant::FollowersKeepTheVoteOfTheElection) {
                self.election.established(epoch);
            }
        }
    }
}

impl Looking {
    fn new(pause_until: Moment) -> Looking {
        Looking { has_voted: false, pause_until, early: BTreeMap::new() }
    }
}

impl Server {
    /// What NEWLEADER carries. An initial configuration gets its version from the first epoch, if it may ever change.
    fn new_leader_config(&self, epoch: Epoch) -> Vec<u8> {
        let members = self.quorums.committed();
        if self.settings.is_reconfig_enabled && members.version() == 0 {
            return members.with_version(Zxid::new(epoch, 0).to_wire()).text().into();
        }
        members.text().into()
    }

    /// Configurations of others are not taken over, but an operator should know of a difference.
    fn compare_config(&self, leader: ServerId, config: &[u8], outputs: &mut Outputs) {
        if config.len() <= 1 {
            return;
        }
        let own = self.quorums.committed();
        let theirs = std::str::from_utf8(config).ok().and_then(|text| Members::parse(text).ok());
        if theirs.is_none_or(|theirs| !own.is_same(&theirs)) {
            let theirs = String::from_utf8_lossy(config).replace('\n', " ");
            let own = own.text().replace('\n', " ");
            outputs.push_back(Output::Report(format!(
                "leader {} has another configuration: {theirs}; this server keeps its own: {own}",
                leader.0
            )));
        }
    }
}

impl Broadcast for Ensemble {
    fn step(&mut self, input: Input, now: Moment, outputs: &mut Outputs) {
        if let Err(why) = self.dispatch(input, now, outputs) {
            self.leave(why, now, outputs);
        }
        self.note_role(now);
        self.settle(now, outputs);
        self.note_role(now);
    }

    fn next_timeout(&self) -> Option<Moment> {
        let stage = match &self.stage {
            Stage::Looking(looking) => {
                (!looking.has_voted && self.server.log.is_idle()).then_some(looking.pause_until)
            }
            Stage::Leading(leader) => Some(leader.next_timeout()),
            Stage::Learning(learner) => learner.next_timeout(),
        };
        [stage, self.election.next_timeout()].into_iter().flatten().min()
    }

    fn may_propose(&self) -> bool {
        matches!(&self.stage, Stage::Leading(leader) if leader.may_propose(&self.server))
    }

    fn status(&self) -> Status {
        let me = self.server.settings.me;
        let (phase, leader, waiting_for) = match &self.stage {
            Stage::Looking(looking) if !looking.has_voted => {
                let what = if self.server.log.is_idle() {
                    "a pause to end, for the leaders elected last could not be followed"
                } else {
                    "the log to be on disk before the first vote"
                };
                (Phase::Election, None, what.into())
            }
            Stage::Looking(_) => {
                (Phase::Election, self.election.proposal().server(), self.election.waiting_for())
            }
            Stage::Leading(leader) => (leader.phase(), Some(me), leader.waiting_for(&self.server)),
            Stage::Learning(learner) => (learner.phase(), Some(learner.leader()), learner.waiting_for()),
        };
        let learners = match &self.stage {
            Stage::Leading(leader) => leader.links().map(|learner| learner.status()).collect(),
            _ => Vec::new(),
        };
        Status {
            role: self.role,
            phase,
            leader,
            epochs: self.server.epochs,
            logged: self.server.history.logged(),
            committed: self.server.history.committed(),
            members: self.server.quorums.committed().text().into(),
            quorum_size: self.server.quorums.size(),
            learners,
            election_ms: self.election_ms,
            waiting_for,
        }
    }
}
