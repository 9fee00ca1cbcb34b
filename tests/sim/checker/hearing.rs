//! When servers heard of whose session, and whether one may expire by that.
//! Not here: what becomes of the session's znodes (`commits`).
//!
//! What a client sends counts when it arrives at any server's socket. In an ensemble that server must be able to tell its
//! leader: what arrives shortly before something happens to one of the two, or to the way between them, counts for
//! nothing. A new leader gives every session its whole timeout.

use super::{Checked, Checker, ensure};
use crate::net::HostId;
use ostler_replication::Role;
use std::collections::{BTreeMap, VecDeque};

/// How late a client may speak and still find its session gone: the core had decided, the txn was on its way.
const DECIDED_MS: u64 = 1_500;
/// For a learner to tell its leader what it has heard, beside the half tick between two PINGs.
const TELL_MS: u64 = 250;

/// How the servers of an ensemble count time.
#[derive(Clone, Copy, Debug)]
pub struct EnsembleTime {
    pub tick_ms: u64,
    /// How wrong their clocks may go, in parts of a million.
    pub clock_ppm_max: u64,
}

/// What keeps a server of an ensemble from telling its leader what it hears.
pub(super) struct Hearing {
    /// In an ensemble.
    time: Option<EnsembleTime>,
    leader: Option<HostId>,
    /// Before that, a server may not hear or tell anything.
    deaf_until_ms: BTreeMap<HostId, u64>,
    cuts: Vec<(HostId, HostId)>,
    /// What may not be told yet: when it arrived, where, and whose it is.
    untold: VecDeque<(u64, HostId, i64)>,
}

impl Hearing {
    pub fn new(time: Option<EnsembleTime>) -> Hearing {
        let (deaf_until_ms, cuts, untold) = Default::default();
        Hearing { time, leader: None, deaf_until_ms, cuts, untold }
    }

    /// How long a learner may need.
    fn tell_ms(&self) -> u64 {
        self.time.map_or(0, |time| (time.tick_ms + TELL_MS) * (1_000_000 + time.clock_ppm_max) / 1_000_000)
    }

    pub fn note(&mut self, session: i64, server: HostId, at_ms: u64) {
        let before = at_ms.saturating_sub(self.tell_ms());
        while self.untold.front().is_some_and(|(at_ms, ..)| *at_ms < before) {
            self.untold.pop_front();
        }
        if self.time.is_some() {
            self.untold.push_back((at_ms, server, session));
        }
    }

    fn is_deaf(&self, server: HostId, now_ms: u64) -> bool {
        self.deaf_until_ms.get(&server).is_some_and(|until| *until > now_ms)
    }

    /// Whether what arrives at this server now is heard, and told where that matters.
    fn counts(&self, server: HostId, role: Option<Role>, now_ms: u64) -> bool {
        if self.time.is_none() {
            return true;
        }
        let Some(leader) = self.leader else { return false };
        let apart = |cut: &(HostId, HostId)| *cut == (server, leader) || *cut == (leader, server);
        let serves = match role {
            Some(Role::Leading) => server == leader,
            Some(Role::Following(of) | Role::Observing(of)) => of.0 == u64::from(leader),
            _ => false,
        };
        serves
            && !self.cuts.iter().any(apart)
            && !self.is_deaf(server, now_ms)
            && !self.is_deaf(leader, now_ms)
    }
}

impl Checker {
    /// Bytes of the connection have reached the server's socket. Whoever asks for a session is heard of by that, however
    /// long the answer takes.
    pub fn arrived(&mut self, connection: u64, bytes: usize) {
        let now = self.running_ms;
        let Some(made) = self.connections.get_mut(&connection) else { return };
        let role = self.servers.get(&made.server).map(|server| server.role);
        let counts = self.hearing.counts(made.server, role, now);
        if !made.established {
            made.arrived_ms = now;
            let waited = made.to_arrive > 0;
            made.to_arrive = made.to_arrive.saturating_sub(bytes);
            let is_deaf = self.hearing.is_deaf(made.server, now);
            if waited && made.to_arrive == 0 && made.session != 0 && !is_deaf && counts {
                made.asked_ms = Some(now);
                self.sessions.entry(made.session).or_default().heard_ms.push(now);
                self.hearing.note(made.session, made.server, now);
            }
        } else if !made.moved && counts {
            self.sessions.entry(made.session).or_default().heard_ms.push(now);
            self.hearing.note(made.session, made.server, now);
        }
    }

    /// The connection is no more, for whatever reason; the server may not have read all that had reached it.
    pub fn gone(&mut self, connection: u64, all_read: bool) {
        let Some(made) = self.connections.remove(&connection) else { return };
        if let (false, false, Some(asked_ms)) = (made.established, all_read, made.asked_ms) {
            self.unhear(made.session, asked_ms);
        }
    }

    /// That did not count after all.
    fn unhear(&mut self, session: i64, at_ms: u64) {
        if let Some(session) = self.sessions.get_mut(&session)
            // The first is the session's beginning, or that of the leader's reign.
            && let Some(at) = session.heard_ms.iter().rposition(|heard_ms| *heard_ms == at_ms)
            && at > 0
        {
            session.heard_ms.remove(at);
        }
    }

    /// Something happens to this server: for so long what arrives there may be heard by nobody, and what arrived a moment
    /// ago may not have been told.
    pub fn disturbed(&mut self, server: HostId, for_ms: u64) {
        let (now, tell_ms) = (self.running_ms, self.hearing.tell_ms());
        let until = self.hearing.deaf_until_ms.entry(server).or_default();
        *until = (*until).max(now + for_ms + tell_ms);
        let is_leader = self.hearing.leader == Some(server);
        let untold = std::mem::take(&mut self.hearing.untold);
        for (at_ms, at, session) in untold {
            if at_ms + tell_ms < now {
                continue;
            }
            match is_leader || at == server {
                true => self.unhear(session, at_ms),
                false => self.hearing.untold.push_back((at_ms, at, session)),
            }
        }
    }

    /// A server died. What it had sent may still be read.
    pub fn crashed(&mut self, server: HostId) {
        self.full_since_ms = None;
        if self.is_ensemble {
            self.disturbed(server, 0);
        }
    }

    /// One worker of a server stands still for so long: a connect that lies in its socket meanwhile is known to nobody.
    pub fn worker_stalls(&mut self, server: HostId, for_ms: u64) {
        if self.is_ensemble {
            return self.disturbed(server, for_ms);
        }
        let until = self.hearing.deaf_until_ms.entry(server).or_default();
        *until = (*until).max(self.running_ms + for_ms);
    }

    pub fn cut(&mut self, from: HostId, to: HostId) {
        self.hearing.cuts.push((from, to));
        self.disturbed(from, 0);
        self.disturbed(to, 0);
    }

    pub fn healed(&mut self) {
        for (from, to) in std::mem::take(&mut self.hearing.cuts) {
            self.disturbed(from, 0);
            self.disturbed(to, 0);
        }
    }

    /// A server of an ensemble has another role.
    pub(super) fn hearing_changes(&mut self, server: HostId, role: Role) {
        self.disturbed(server, 0);
        if role == Role::Leading {
            self.hearing.leader = Some(server);
            for session in self.sessions.values_mut() {
                session.heard_ms = vec![self.running_ms];
            }
            // It has just been said that each session is heard of now.
            self.hearing.deaf_until_ms.remove(&server);
        }
    }

    /// A server has decided by itself that this session is over.
    pub(super) fn expires(&self, session: i64) -> Checked {
        let Some(life) = self.model.sessions.get(&session) else {
            // In an ensemble its beginning may be not committed yet.
            return if self.is_ensemble { Ok(()) } else { Err("an unknown session expires".into()) };
        };
        let timeout_ms = life.timeout_ms as u64;
        let now = self.running_ms;
        let decided = self.full_since_ms.unwrap_or(now).min(now);
        let decided = decided.saturating_sub(DECIDED_MS.max(2 * self.sync_ms_most));
        let heard = self.sessions.get(&session).map_or(&[][..], |session| &session.heard_ms);
        let ends = heard.iter().skip(1).copied().chain([now]);
        // Clocks go wrong, and what a learner hears takes a while.
        let silence_ms = match self.hearing.time {
            Some(EnsembleTime { clock_ppm_max, .. }) => {
                (timeout_ms * (1_000_000 - clock_ppm_max) / 1_000_000).saturating_sub(self.hearing.tell_ms())
            }
            None => timeout_ms,
        };
        let silent = heard.iter().zip(ends).any(|(from, to)| to >= decided && to - from >= silence_ms);
        ensure!(
            silent || heard.is_empty(),
            "session 0x{session:x} with a timeout of {timeout_ms} ms expires at {now}; heard at {:?}",
            &heard[heard.len().saturating_sub(8)..]
        );
        Ok(())
    }

    /// Sessions that should have expired by now: open, and silent for this long beyond their timeouts.
    pub fn overdue(&self, beyond_ms: u64) -> Checked {
        for (session, life) in self.model.sessions.iter().filter(|(_, life)| life.closed.is_none()) {
            let heard = self.sessions.get(session).and_then(|session| session.heard_ms.last()).copied();
            // No client has heard of it yet, so when it began is not known here.
            let Some(since) = heard else { continue };
            let due = since + life.timeout_ms as u64 + beyond_ms;
            ensure!(
                self.running_ms < due,
                "session 0x{session:x} ({} ms) lives at {} and was last heard at {heard:?}",
                life.timeout_ms,
                self.running_ms
            );
        }
        Ok(())
    }
}
