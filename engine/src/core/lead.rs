//! Beginning and ending what a server does for clients, and what a leader does for its learners: their requests, session
//! moves, touches.
//! Not here: what a learner does (`learn`), who leads (the broadcast).
//!
//! **What a learner asks becomes txns in the order in which it asked, one for each request**: it matches them to its
//! clients in that order. So whatever takes a while here, a sync or the closing of a session with very many ephemerals,
//! holds back what the same learner asked behind it.
//!
//! **What ends with a role.** A deposed leader, and a learner without its leader, knows nothing for certain but the View
//! shown. Everything that is not in it goes: no answer is given, for the fate of a write under way is unknown, and the
//! workers close the connections when they are told of the role.

use super::close::Closings;
use super::learn::Learning;
use super::owner::{Origin, Owner};
use super::reap::Reaper;
use super::write::Asker;
use super::{Core, CoreOutput, Duty, PeerOutput, Space};
use crate::limits::{LEARNER_BYTES_MAX, PEER_MESSAGE_BYTES};
use crate::model::{ErrorCode, Identity, SessionId, Xid};
use crate::ring::{After, News};
use crate::wire::{OpCode, Reader, TxnBody};
use crate::world::Head;
use ostler_replication::{Answer, Ask, Epoch, Input, Link, Role, SessionBits, Zxid};
use std::collections::{BTreeMap, VecDeque};

/// What learners ask.
#[derive(Default)]
pub(super) struct Learners {
    /// Not looked at yet, in the order in which it came.
    asked: VecDeque<(Link, Ask)>,
    /// Some of it was left for want of room in the open batch.
    is_crowded: bool,
    /// By the numbers of their links, those that have asked for anything.
    known: BTreeMap<u64, Learner>,
    /// For the broadcast: answers to learners, that one is hung up, and what a learner asks because of an answer.
    answers: VecDeque<Input>,
}

#[derive(Default)]
struct Learner {
    /// What it asked and nobody has looked at yet, with what that costs beside.
    asked_bytes: usize,
    /// Syncs that wait for their barriers.
    syncs: usize,
    /// A session is being closed over several turns.
    is_closing: bool,
}

impl Learners {
    pub fn is_empty(&self) -> bool {
        self.asked.is_empty() && self.known.is_empty() && self.answers.is_empty()
    }

    /// Nothing waits to be looked at.
    pub fn is_quiet(&self) -> bool {
        self.asked.is_empty()
    }

    /// Something waits for nothing but room in the open batch.
    pub fn is_crowded(&self) -> bool {
        self.is_crowded
    }

    /// How much waits now of what this learner asked.
    pub fn asked(&mut self, link: Link, ask: Ask) -> usize {
        let learner = self.known.entry(link.number).or_default();
        learner.asked_bytes += cost_bytes(&ask);
        self.asked.push_back((link, ask));
        learner.asked_bytes
    }

    fn taken(&mut self, link: Link, ask: &Ask) {
        if let Some(learner) = self.known.get_mut(&link.number) {
            learner.asked_bytes -= cost_bytes(ask);
        }
    }

    pub fn lost(&mut self, link: Link) {
        self.known.remove(&link.number);
        self.asked.retain(|(asker, _)| *asker != link);
        self.answers.retain(|answer| !matches!(answer, Input::Answer(to, _) if *to == link));
    }

    /// Something that the learner asked before has yet to come to its end, and this must not pass it.
    fn must_wait(&self, link: Link, ask: &Ask) -> bool {
        let Some(learner) = self.known.get(&link.number) else { return false };
        let is_sync = matches!(ask, Ask::Request { op, .. } if *op == OpCode::Sync.to_i32());
        learner.is_closing || learner.syncs > 0 && !is_sync
    }

    /// Its syncs have passed.
    pub fn synced(&mut self, links: Vec<Link>) {
        for link in links {
            if let Some(learner) = self.known.get_mut(&link.number) {
                learner.syncs -= 1;
                self.answers.push_back(Input::Answer(link, Answer::Synced));
            }
        }
    }

    pub fn syncs(&self) -> usize {
        self.known.values().map(|learner| learner.syncs).sum()
    }

    /// For the broadcast, when it has said all that it has to say.
    pub fn tell(&mut self, input: Input) {
        self.answers.push_back(input);
    }

    pub fn next_answer(&mut self) -> Option<Input> {
        self.answers.pop_front()
    }
}

/// What it takes to keep an ask.
fn cost_bytes(ask: &Ask) -> usize {
    let bytes = match ask {
        Ask::Revalidate { .. } => 0,
        Ask::Request { body, identities, .. } => {
            let identities = identities.iter().flatten().map(|(scheme, id)| scheme.len() + id.len());
            body.len() + identities.map(|bytes| bytes + PEER_MESSAGE_BYTES).sum::<usize>()
        }
    };
    bytes + PEER_MESSAGE_BYTES
}

impl Core {
    /// The broadcast says what this server is.
    pub(super) fn change_role(&mut self, role: Role) {
        match role {
            Role::Looking => self.depose(),
            Role::Standalone if self.duty != Duty::Lead => self.lead(Epoch(0)),
            Role::Leading if self.duty == Duty::Learn => self.depose(),
            Role::Standalone | Role::Leading => {}
            Role::Following(_) | Role::Observing(_) => {
                self.depose();
                self.learn();
            }
        }
        if self.role != role {
            self.role = role;
            self.role_since = self.now.mono;
            self.publish(News::Role(role));
        }
    }

    /// Zxids are given out from the first of this epoch on; without an ensemble, which has no epochs, from the last one.
    /// Every session gets a full timeout from now; ephemerals whose session is unknown are closed by real txns in the
    /// next turns.
    pub(super) fn lead(&mut self, epoch: Epoch) {
        self.depose();
        self.duty = Duty::Lead;
        self.epoch_begin = Zxid::new(epoch, 0);
        for (id, timeout_ms) in self.head.sessions() {
            self.sessions.open(id, timeout_ms, Owner::Nobody, self.now.mono);
        }
        self.closings = Closings::of_orphans(&self.head, &self.sessions);
    }

    /// A leader that can log nothing, or has no zxids left, holds up all.
    pub(super) fn step_down_if_unfit(&mut self) {
        if self.role != Role::Leading || self.duty != Duty::Lead {
            return;
        }
        let why = match (self.is_spent(), self.disk) {
            (true, _) => "the epoch has nearly no zxids left",
            (false, Space::Full) => "the log's disk is full",
            (false, _) => return,
        };
        self.broadcast(Input::StepDown(why.to_owned()));
    }

    /// Ends what this server did for clients, if it did anything; the Head is at the View shown again.
    pub(super) fn depose(&mut self) {
        self.end_delivery();
        if self.duty != Duty::None {
            self.open = self.open.successor();
            self.sealed.clear();
            self.settled.clear();
            if self.head.zxid() != self.view.zxid() {
                // Committed batches stay, so the View shown is always a boundary that can be gone back to.
                self.head
                    .rewind(self.view.zxid())
                    .expect("the View shown is where the last batch was committed");
            }
            self.duty = Duty::None;
            self.forget();
            if self.role != Role::Looking {
                self.role = Role::Looking;
                self.publish(News::Role(Role::Looking));
            }
        }
        self.assert_idle();
    }

    /// Everything beside the Head.
    fn forget(&mut self) {
        self.put_off.clear();
        self.put_off_bytes = 0;
        self.listings.clear();
        self.closings = Closings::default();
        self.reaper = Reaper::new(self.settings.containers);
        // Its deadlines come back with the next epoch of this server's.
        self.sessions.clear(true);
        self.learners = Learners::default();
        self.learning = Learning::default();
        // What passes from here on was asked by a leader that is no more.
        self.passed = self.ticket;
        let shown = self.view.zxid();
        self.digests.retain(|(zxid, _)| *zxid <= shown);
    }

    /// Nothing is left of what an earlier role began.
    fn assert_idle(&self) {
        assert_eq!(self.duty, Duty::None);
        assert_eq!(self.head.zxid(), self.view.zxid());
        assert!(self.open.is_blank());
        assert!(self.open.synced.is_empty());
        assert!(self.sealed.is_empty());
        assert!(self.settled.is_empty());
        assert!(self.put_off.is_empty());
        assert!(self.listings.is_empty());
        assert!(self.closings.is_empty());
        assert!(!self.reaper.is_scanning());
        assert_eq!(self.sessions.len(), 0);
        assert!(self.learners.is_empty());
        assert!(self.learning.is_idle());
        assert_eq!(self.passed, self.ticket);
    }

    /// The log was cut, or a leader's snapshot taken: another world, which begins where they end.
    pub(super) fn replace_world(&mut self, head: Head) {
        self.depose();
        self.head = head;
        self.view = self.head.seal();
        self.received = self.view.zxid();
        self.digests.clear();
        // Whoever reads reads this one from here on; that nobody is served is known.
        self.publish(News::Role(self.role));
    }

    /// Looked at in the turn: the broadcast may have decided more already.
    pub(super) fn asked(&mut self, link: Link, ask: Ask) {
        if self.duty == Duty::Lead && self.learners.asked(link, ask) > LEARNER_BYTES_MAX {
            // Its connection is read no slower for that: the acknowledgements behind would wait, and commits with them.
            let why = format!("it has asked for {} MiB more than was taken up yet", LEARNER_BYTES_MAX >> 20);
            self.outputs.push_back(CoreOutput::Peer(PeerOutput::Hang(link, why)));
            self.learners.lost(link);
            self.learners.tell(Input::Unlinked(link));
        }
    }

    /// What learners asked, as far as the open batch has room.
    pub(super) fn take_asked(&mut self) {
        self.learners.is_crowded = false;
        if self.learners.asked.is_empty() {
            return;
        }
        let mut waiting = std::mem::take(&mut self.learners.asked);
        let mut later = VecDeque::new();
        let mut held: Vec<Link> = Vec::new();
        while self.takes_asked()
            && let Some((link, ask)) = waiting.pop_front()
        {
            if held.contains(&link) {
                later.push_back((link, ask));
            } else if self.learners.must_wait(link, &ask) {
                held.push(link);
                later.push_back((link, ask));
            } else {
                self.learners.taken(link, &ask);
                self.ask_of_learner(link, ask);
            }
        }
        self.learners.is_crowded = !waiting.is_empty();
        later.append(&mut waiting);
        self.learners.asked = later;
        self.hear_all();
    }

    /// Whatever a learner asks becomes a txn, or waits in the open batch.
    pub(super) fn takes_asked(&self) -> bool {
        self.has_room() && !self.is_spent()
    }

    fn ask_of_learner(&mut self, link: Link, ask: Ask) {
        match ask {
            Ask::Revalidate { session, timeout_ms } => self.revalidate(link, session, timeout_ms),
            Ask::Request { session, cxid, op, body, identities } => {
                let asker = Asker { from: Origin::At(link), session: SessionId(session.0), xid: Xid(cxid) };
                let ids = identities.unwrap_or_default();
                let ids: Vec<Identity> = ids.iter().map(|(scheme, id)| Identity::new(scheme, id)).collect();
                self.request_of_learner(link, asker, op, &body, &ids);
            }
        }
    }

    fn request_of_learner(&mut self, link: Link, asker: Asker, op: i32, body: &[u8], ids: &[Identity]) {
        match OpCode::from_i32(op) {
            Some(OpCode::Sync) => {
                self.open.has_sync = true;
                self.open.synced.push(link);
                if let Some(learner) = self.learners.known.get_mut(&link.number) {
                    learner.syncs += 1;
                }
            }
            Some(OpCode::CreateSession) => self.open_for_learner(link, asker, body),
            _ => match self.sessions.claim(asker.session, Owner::at(link), self.now.mono) {
                Ok(()) => self.write(asker, op, body, ids),
                Err(code) => self.fail(asker, code),
            },
        }
    }

    /// The learner has chosen id and timeout.
    fn open_for_learner(&mut self, link: Link, asker: Asker, body: &[u8]) {
        let id = asker.session;
        let Ok(timeout_ms) = Reader::new(body).i32() else {
            return self.fail(asker, ErrorCode::MarshallingError);
        };
        if self.space() != Space::Ok {
            return self.fail(asker, ErrorCode::NotReadOnly);
        }
        if id == SessionId::NONE || self.sessions.is_known(id) {
            return self.fail(asker, ErrorCode::RuntimeInconsistency);
        }
        self.sessions.open(id, timeout_ms, Owner::at(link), self.now.mono);
        self.execute(id, asker.xid, &TxnBody::CreateSession { timeout_ms });
    }

    /// A client has come to a learner with its session.
    fn revalidate(&mut self, link: Link, session: SessionBits, timeout_ms: i32) {
        let id = SessionId(session.0);
        let valid = self.sessions.is_open(id);
        if valid {
            let before = self.sessions.move_to(id, Owner::at(link), timeout_ms, self.now.mono);
            if let Some(before) = before.connection() {
                self.open.quiet(before, self.head.zxid(), After::Drop);
                self.open.loosen();
            }
        }
        self.learners.answers.push_back(Input::Answer(link, Answer::Revalidated { session, valid }));
    }

    pub(super) fn touched_at(&mut self, link: Link, sessions: &[(SessionBits, i32)]) {
        if self.duty == Duty::Lead {
            self.learners.known.entry(link.number).or_default();
            for (session, timeout_ms) in sessions {
                self.sessions.touch_for(SessionId(session.0), *timeout_ms, self.now.mono);
            }
        }
    }

    pub(super) fn lost(&mut self, link: Link) {
        self.learners.lost(link);
        let batches = self.sealed.iter_mut().chain(&mut self.settled).map(|sealed| &mut sealed.synced);
        for synced in batches.chain([&mut self.open.synced]) {
            synced.retain(|asker| *asker != link);
        }
    }

    /// This learner's session takes several txns to close.
    pub(super) fn close_begun(&mut self, link: Link) {
        if let Some(learner) = self.learners.known.get_mut(&link.number) {
            learner.is_closing = true;
        }
    }

    pub(super) fn close_ended(&mut self, link: Link) {
        if let Some(learner) = self.learners.known.get_mut(&link.number) {
            learner.is_closing = false;
        }
    }
}
