//! Fast leader election: who leads next, agreed on by votes over the election port.
//! Not here: what a leader does with its office (zab), sockets and names, the bytes of votes (packet).
//!
//! Every server that looks for a leader proposes itself, tells every voter, and takes over whatever better proposal it
//! hears of: the greater epoch, then the greater zxid, then the greater id. When a quorum votes as it does, the election is
//! over. A server that finds others already following one joins them once a quorum and the leader itself say so. Nothing
//! here is needed for safety, for an elected server that lacks what a quorum holds is refused in discovery; what an
//! election decides well or badly is how long the ensemble stands still.
//!
//! **When it is over.** Apache's servers wait 200 ms behind the last message once a quorum agrees, for one more voter might
//! know a better leader. That wait is all but the whole of a fail-over. Here it is kept only while it can change
//! anything, which is while some voter may still bring a better vote:
//! - A voter that has voted in this round has told the best that it knew. It was not better than what the quorum agrees
//!   on, or it would have been taken over. Whatever it may hear of later comes from a voter that we have not heard.
//! - A voter that cannot be connected to has nothing to say. That it could not be before the quorum agreed does not
//!   count, for servers are often started at the same time: it is tried once more, behind the agreement.
//! - Any other voter may be alive: its connection stands, is being opened, or is to be opened by the voter itself, which has
//!   the larger id; or it still follows, and will look in a moment. For such a one we wait, 200 ms behind the agreement.
//!
//! A voter that can reach others and not us may so be passed over, as it is in Apache's after 200 ms. The price is a
//! leader that has fewer followers than it could, or another election; never more than that.
//!
//! **Between two elections**, from [`Election::leave`] to [`Election::look`], a server may have to wait for its disk before
//! it can say what it holds. Meanwhile it claims no leader, and keeps the last notification of every voter until it looks.

mod connections;

use crate::members::Members;
use crate::mutants::{Mutant, planted};
use crate::packet::{Notification, PeerState, handshake, notification};
use crate::quorums::Quorums;
use crate::{Epoch, Link, Moment, Output, Outputs, ServerId, Zxid};
use connections::Connections;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::Arc;

/// How long a quorum's agreement stands open for a voter that has not been heard.
const FINALIZE_WAIT_MS: u64 = 200;

/// The zxid of a server that does not trust what it holds.
const UNTRUSTED: i64 = -1;

/// What observers propose and what they say to hold: nothing that anybody would vote for.
const NOTHING: i64 = i64::MIN;

/// What a server votes for, or has decided on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Vote {
    pub leader: i64,
    pub zxid: i64,
    pub round: i64,
    pub epoch: i64,
}

impl Vote {
    /// The proposed leader, unless it is no server at all.
    pub fn server(&self) -> Option<ServerId> {
        u64::try_from(self.leader).ok().map(ServerId)
    }

    fn of(n: &Notification) -> Vote {
        Vote { leader: n.leader, zxid: n.zxid, round: n.round, epoch: n.epoch }
    }
}

/// A vote as its voter sent it.
#[derive(Clone, Copy, Hash, Debug)]
struct Cast {
    vote: Vote,
    version: i32,
    state: PeerState,
}

impl Cast {
    /// Whether two votes count together. Those of servers that have decided differ in zxid and round, which they may have
    /// joined later, and in what they say of the epoch when one of them is of a time before versions
    /// (ZOOKEEPER-1805, ZOOKEEPER-1732).
    fn matches(&self, other: &Cast) -> bool {
        if self.state == PeerState::Looking || other.state == PeerState::Looking {
            self.vote == other.vote
        } else if (self.version > 0) != (other.version > 0) {
            self.vote.leader == other.vote.leader
        } else {
            self.vote.leader == other.vote.leader && self.vote.epoch == other.vote.epoch
        }
    }
}

/// What the operator may set.
#[derive(Clone, Hash, Debug)]
pub struct ElectionSettings {
    /// Before votes are sent again for the first time; doubles each time.
    pub interval_ms_min: u64,
    pub interval_ms_max: u64,
    /// Announce all own addresses, which needs servers since 3.6 everywhere.
    pub multi_address: bool,
}

impl Default for ElectionSettings {
    fn default() -> ElectionSettings {
        ElectionSettings { interval_ms_min: 200, interval_ms_max: 60_000, multi_address: false }
    }
}

#[derive(Clone, Hash)]
pub struct Election {
    me: ServerId,
    quorums: Quorums,
    is_participant: bool,
    settings: ElectionSettings,
    connections: Connections,

    state: PeerState,
    /// Looking, and has said what it holds. Without it, notifications wait in `early`.
    is_voting: bool,
    round: i64,
    /// What this server proposes when it knows of nothing better; of the round nothing is said in it.
    own: Vote,
    proposal: Vote,
    /// The votes of this round.
    votes: BTreeMap<ServerId, Cast>,
    /// The votes of those who have decided, of whatever round.
    decided: BTreeMap<ServerId, Cast>,
    early: BTreeMap<ServerId, Notification>,
    /// Configurations of voters that are not this server's, and what is wrong with them if anything is.
    foreign: BTreeMap<ServerId, (String, Option<String>)>,
    /// Of whom the operator has been told since this server looked last: one that says something else each time fills no log.
    told: BTreeSet<ServerId>,
    /// What was decided last.
    current: Vote,
    outcome: Option<Vote>,

    interval_ms: u64,
    resend_at: Option<Moment>,
    /// Since when a quorum votes as this server does.
    agreed_at: Option<Moment>,
}

impl Election {
    /// `is_participant`: the role that this server has been given. Whether it votes, the members say. Until `look`
    /// nothing is voted for.
    pub fn new(
        me: ServerId,
        members: Arc<Members>,
        is_participant: bool,
        settings: ElectionSettings,
    ) -> Election {
        let connections = Connections::new(me, greeting(me, &members, &settings), known(&members, None));
        let nothing = Vote { leader: NOTHING, zxid: NOTHING, round: 0, epoch: NOTHING };
        Election {
            me,
            quorums: Quorums::new(members, None),
            is_participant,
            connections,
            state: PeerState::Looking,
            is_voting: false,
            round: 0,
            own: nothing,
            proposal: nothing,
            votes: BTreeMap::new(),
            decided: BTreeMap::new(),
            early: BTreeMap::new(),
            foreign: BTreeMap::new(),
            told: BTreeSet::new(),
            current: nothing,
            outcome: None,
            interval_ms: settings.interval_ms_min,
            resend_at: None,
            agreed_at: None,
            settings,
        }
    }

    /// The configurations that count from now on. An election under way must begin again by `look`.
    pub fn set_members(&mut self, committed: Arc<Members>, last_seen: Option<Arc<Members>>) {
        let known = known(&committed, last_seen.as_deref());
        self.connections.set_known(greeting(self.me, &committed, &self.settings), known);
        self.quorums = Quorums::new(committed, last_seen);
        self.foreign.clear();
    }

    /// There is no leader any more, and what this server holds cannot be said yet.
    pub fn leave(&mut self) {
        self.state = PeerState::Looking;
        self.is_voting = false;
        self.outcome = None;
        self.resend_at = None;
        self.agreed_at = None;
    }

    /// Enters LOOKING and a new round, with the vote for itself. `zxid`: the last one logged, or `(e,0)` of an epoch seen
    /// established; `None` when what this server holds is not to be trusted, so that it only joins others.
    pub fn look(&mut self, zxid: Option<Zxid>, epoch: Epoch, now: Moment, out: &mut Outputs) {
        self.leave();
        self.round = self.round.saturating_add(1);
        let is_voter = self.quorums.committed().is_voter(self.me);
        let zxid = zxid.map_or(UNTRUSTED, Zxid::to_wire);
        let held = Vote { leader: self.me.0 as i64, zxid, round: 0, epoch: epoch.0.into() };
        if self.current.leader == NOTHING && self.current.round == 0 {
            // What those outside the configuration are told before anything was decided.
            self.current = held;
        }
        let (zxid, epoch) = if self.is_participant { (held.zxid, held.epoch) } else { (NOTHING, NOTHING) };
        self.own = Vote { leader: if is_voter { held.leader } else { NOTHING }, zxid, round: 0, epoch };
        self.proposal = self.own;
        self.is_voting = true;
        self.votes.clear();
        self.decided.clear();
        self.told.clear();
        self.interval_ms = self.settings.interval_ms_min;
        self.connections.is_eager = true;
        self.connections.try_anew();
        self.broadcast(now, out);
        for (peer, n) in std::mem::take(&mut self.early) {
            if self.is_voting {
                self.heard(peer, &n, now, out);
            }
        }
        self.settle(now, out);
    }

    /// A connection of the election port stands. Of one that this server has dialled, the first bytes are sent here; a
    /// `Hang` behind them must let them leave first.
    pub fn linked(
        &mut self,
        link: Link,
        dialled: bool,
        addresses: Vec<String>,
        now: Moment,
        out: &mut Outputs,
    ) {
        self.connections.linked(link, dialled, addresses, now, out);
    }

    pub fn unreachable(&mut self, peer: ServerId, now: Moment, out: &mut Outputs) {
        self.connections.unreachable(peer, now);
        self.settle(now, out);
    }

    pub fn unlinked(&mut self, link: Link, now: Moment, out: &mut Outputs) {
        self.connections.unlinked(link, now, out);
    }

    /// What was sent through this link has left, up to so many bytes in all. The next message for the peer waits for it.
    pub fn drained(&mut self, link: Link, bytes: u64, _now: Moment, out: &mut Outputs) {
        self.connections.drained(link, bytes, out);
    }

    pub fn received(&mut self, link: Link, n: Notification, now: Moment, out: &mut Outputs) {
        if !self.connections.hears(link) {
            return;
        }
        let peer = link.peer;
        if let Some(wrong) = self.compare(peer, n.config.as_deref())
            && self.told.insert(peer)
        {
            let own: Vec<String> = self.quorums.voters().iter().map(|id| id.0.to_string()).collect();
            let report = format!("server {} has {wrong}; this server's has {}", peer.0, own.join(" "));
            out.push_back(Output::Report(report));
        }
        if !self.quorums.is_voter(peer) {
            // So observers, and servers that have yet to be taken in, learn who leads. One that has found its leader answers
            // everybody who looks, and is not answered in turn.
            if n.state == PeerState::Looking {
                let vote = Vote { round: self.round, ..self.current };
                self.tell(peer, vote, now, out);
            }
        } else if self.state != PeerState::Looking {
            if n.state == PeerState::Looking {
                self.tell(peer, self.current, now, out);
            }
        } else if self.is_voting {
            self.heard(peer, &n, now, out);
            self.settle(now, out);
        } else {
            self.early.insert(peer, n);
        }
    }

    pub fn timeout(&mut self, now: Moment, out: &mut Outputs) {
        self.settle(now, out);
        if self.resend_at.is_some_and(|at| at <= now) {
            self.interval_ms = self.interval_ms.saturating_mul(2).min(self.settings.interval_ms_max);
            self.broadcast(now, out);
            self.settle(now, out);
        }
        self.connections.timeout(now, out);
    }

    pub fn next_timeout(&self) -> Option<Moment> {
        let finish_at = self.agreed_at.map(|at| at.plus_millis(FINALIZE_WAIT_MS));
        [finish_at, self.resend_at, self.connections.next_timeout()].into_iter().flatten().min()
    }

    /// The vote on which an election has ended, once. To be asked for after every other call. The state is LEADING,
    /// FOLLOWING or OBSERVING from then on, until `leave` or `look`.
    pub fn outcome(&mut self) -> Option<Vote> {
        self.outcome.take()
    }

    /// The leader that was decided on has opened this epoch and a quorum is in sync with it: from now on all its members
    /// answer with one epoch, whenever they have joined.
    pub fn established(&mut self, epoch: Epoch) {
        self.current.epoch = epoch.0.into();
    }

    /// What was decided last; before that what this server held when it looked for the first time.
    pub fn vote(&self) -> Vote {
        self.current
    }

    /// What this server votes for while it looks.
    pub fn proposal(&self) -> Vote {
        Vote { round: self.round, ..self.proposal }
    }

    pub fn state(&self) -> PeerState {
        self.state
    }

    /// How often an election has begun, here or wherever one was heard of.
    pub fn round(&self) -> i64 {
        self.round
    }

    pub fn quorums(&self) -> &Quorums {
        &self.quorums
    }

    /// Whose votes are missing, in words; empty while nobody looks for a leader.
    pub fn waiting_for(&self) -> String {
        let mut words = String::new();
        if !self.is_voting {
            return words;
        }
        for voter in self.quorums.voters().iter().filter(|id| **id != self.me) {
            let how = match (self.votes.get(voter), self.decided.get(voter)) {
                (Some(cast), _) if cast.vote.leader == self.proposal.leader => continue,
                (Some(cast), _) => format!("votes for server {}", cast.vote.leader),
                (None, Some(cast)) if cast.state == PeerState::Leading => "says that it leads".to_string(),
                (None, Some(cast)) => format!("says that it follows server {}", cast.vote.leader),
                (None, None) if self.connections.is_down(*voter, Moment::default()) => {
                    "cannot be reached".to_string()
                }
                (None, None) => "has not voted".to_string(),
            };
            let comma = if words.is_empty() { "" } else { ", " };
            let _ = write!(words, "{comma}server {} {how}", voter.0);
        }
        words
    }

    /// Voters whose configuration does not fit this server's, in words; empty when there are none. Nothing else is done
    /// about it: it is how servers are added one by one, and how ensembles are torn apart by mistake.
    pub fn disagreements(&self) -> String {
        let each = self.foreign.iter().filter_map(|(id, (_, wrong))| {
            wrong.as_ref().map(|wrong| format!("server {} has {wrong}", id.0))
        });
        each.collect::<Vec<String>>().join(", ")
    }

    /// What is wrong with a voter's configuration, the first time that it is heard of.
    fn compare(&mut self, peer: ServerId, config: Option<&str>) -> Option<String> {
        let config = config.filter(|_| self.quorums.is_voter(peer))?;
        let mut news = None;
        if config == self.quorums.committed().text() {
            self.foreign.remove(&peer);
        } else if self.foreign.get(&peer).is_none_or(|(known, _)| known != config) {
            let wrong = match Members::parse(config) {
                Err(bad) => Some(format!("a configuration that cannot be read ({bad})")),
                Ok(members) if members.voters() != self.quorums.committed().voters() => {
                    let ids: Vec<String> = members.voters().iter().map(|id| id.0.to_string()).collect();
                    Some(format!("a configuration with the voters {}", ids.join(" ")))
                }
                Ok(_) => None,
            };
            news = wrong.clone();
            self.foreign.insert(peer, (config.to_string(), wrong));
        }
        news
    }

    /// Tells every voter what this server proposes, itself included.
    fn broadcast(&mut self, now: Moment, out: &mut Outputs) {
        let vote = self.proposal();
        let message = self.message(vote);
        for index in 0..self.quorums.voters().len() {
            let voter = self.quorums.voters()[index];
            if voter != self.me {
                self.connections.post(voter, message.clone(), now, out);
            } else if self.own.zxid != UNTRUSTED && vote.zxid != UNTRUSTED {
                self.votes.insert(self.me, Cast { vote, version: 0, state: PeerState::Looking });
            }
        }
        self.resend_at = Some(now.plus_millis(self.interval_ms));
    }

    fn tell(&mut self, peer: ServerId, vote: Vote, now: Moment, out: &mut Outputs) {
        let message = self.message(vote);
        self.connections.post(peer, message, now, out);
    }

    fn message(&self, vote: Vote) -> Arc<[u8]> {
        notification::encode(&Notification {
            state: self.state,
            leader: vote.leader,
            zxid: vote.zxid,
            round: vote.round,
            epoch: vote.epoch,
            version: notification::VERSION,
            config: Some(self.quorums.committed().text().to_string()),
        })
        .into()
    }

    /// A voter's notification, while this server looks.
    fn heard(&mut self, peer: ServerId, n: &Notification, now: Moment, out: &mut Outputs) {
        // Not by those who do not vote: voters answer everything that such a one says, and so the two would go on for ever.
        if n.state == PeerState::Looking && n.round < self.round && self.quorums.is_voter(self.me) {
            self.tell(peer, self.proposal(), now, out);
        }
        let vote = Vote::of(n);
        if !vote.server().is_some_and(|leader| self.quorums.is_voter(leader)) {
            return;
        }
        match n.state {
            PeerState::Looking => self.heard_looking(peer, vote, n.version, now, out),
            PeerState::Following | PeerState::Leading => self.heard_decided(peer, vote, n),
            PeerState::Observing => {}
        }
    }

    fn heard_looking(&mut self, peer: ServerId, vote: Vote, version: i32, now: Moment, out: &mut Outputs) {
        if self.own.zxid == UNTRUSTED || vote.zxid == UNTRUSTED || vote.round < self.round {
            return;
        }
        if vote.round > self.round {
            self.round = vote.round;
            self.votes.clear();
            self.proposal = if self.beats(&vote, &self.own) { vote } else { self.own };
            self.agreed_at = None;
            self.broadcast(now, out);
        } else if self.beats(&vote, &self.proposal) {
            self.proposal = vote;
            self.agreed_at = None;
            self.broadcast(now, out);
        } else if self.beats(&self.proposal, &vote) && self.quorums.is_voter(self.me) {
            // It may have lost its leader later than this server, and then it has not kept what it was told meanwhile. Without
            // an answer the two would wait for the next repetition.
            self.tell(peer, self.proposal(), now, out);
        }
        self.votes.insert(peer, Cast { vote, version, state: PeerState::Looking });
    }

    /// A voter has decided: perhaps in this round, perhaps long ago. Either way its leader is to be joined once a quorum
    /// follows it and it says itself that it leads.
    fn heard_decided(&mut self, peer: ServerId, vote: Vote, n: &Notification) {
        let cast = Cast { vote, version: n.version, state: n.state };
        if vote.round == self.round {
            self.votes.insert(peer, Cast { version: 0, ..cast });
            if self.stands(&self.votes, &cast) {
                return self.decide(vote);
            }
        }
        self.decided.insert(peer, cast);
        if self.stands(&self.decided, &cast) {
            self.round = vote.round;
            self.decide(vote);
        }
    }

    /// Whether these votes carry the leader of this one.
    fn stands(&self, votes: &BTreeMap<ServerId, Cast>, cast: &Cast) -> bool {
        let is_mine = cast.vote.leader == self.me.0 as i64;
        let leads = if is_mine {
            // Others may still follow what this server was before it was started again.
            cast.vote.round == self.round
        } else {
            let leader = cast.vote.server().and_then(|id| votes.get(&id));
            leader.is_some_and(|leader| leader.state == PeerState::Leading)
        };
        leads && self.quorums.reached(|id| votes.get(&id).is_some_and(|other| cast.matches(other)))
    }

    fn beats(&self, vote: &Vote, other: &Vote) -> bool {
        let epoch = |vote: &Vote| if planted(Mutant::VotesByZxidAlone) { 0 } else { vote.epoch };
        let rank = |vote: &Vote| (epoch(vote), vote.zxid, vote.leader);
        vote.server().is_some_and(|id| self.quorums.weight(id) > 0) && rank(vote) > rank(other)
    }

    /// Ends the election if it may end now.
    fn settle(&mut self, now: Moment, out: &mut Outputs) {
        if !self.is_voting {
            return;
        }
        let mine = Cast { vote: self.proposal(), version: 0, state: PeerState::Looking };
        let agrees = |id| self.votes.get(&id).is_some_and(|cast| mine.matches(cast));
        if !self.quorums.reached(agrees) {
            self.agreed_at = None;
            return;
        }
        let agreed_at = *self.agreed_at.get_or_insert(now);
        let mut is_settled = true;
        for voter in self.quorums.voters().iter().filter(|id| **id != self.me) {
            let cast = self.votes.get(voter);
            let has_voted = cast.is_some_and(|cast| cast.state == PeerState::Looking || mine.matches(cast));
            if !has_voted && !self.connections.is_down(*voter, agreed_at) {
                self.connections.probe(*voter, agreed_at, now, out);
                is_settled = false;
            }
        }
        if is_settled || now >= agreed_at.plus_millis(FINALIZE_WAIT_MS) {
            self.decide(mine.vote);
        }
    }

    fn decide(&mut self, vote: Vote) {
        self.state = if vote.leader == self.me.0 as i64 {
            PeerState::Leading
        } else if self.is_participant {
            PeerState::Following
        } else {
            PeerState::Observing
        };
        self.current = vote;
        self.outcome = Some(vote);
        self.is_voting = false;
        self.connections.is_eager = false;
        self.resend_at = None;
        self.agreed_at = None;
        self.votes.clear();
        self.decided.clear();
        self.early.clear();
    }
}

/// The first bytes on a connection to another server.
fn greeting(me: ServerId, members: &Members, settings: &ElectionSettings) -> Arc<[u8]> {
    let addresses: Vec<String> = match members.get(me) {
        Some(member) => member.addresses.iter().map(|address| address.election()).collect(),
        // Nobody would be told how to reach it, and each looks into its own configuration.
        None => vec!["0.0.0.0:0".to_string()],
    };
    handshake::encode(me, &addresses, settings.multi_address).into()
}

fn known(committed: &Members, last_seen: Option<&Members>) -> BTreeSet<ServerId> {
    let all = [Some(committed), last_seen].into_iter().flatten();
    all.flat_map(|members| members.servers().map(|(id, _)| id)).collect()
}

#[cfg(test)]
mod tests;
