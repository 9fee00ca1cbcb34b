//! What must hold whatever happens: Zab's invariants, judged from outside after every step by what servers show, what stands
//! on their disks and what they send. Not here: that an ensemble goes on (walk).
//!
//! What is shown, wherever, is one history: agreement, total order, integrity and the primaries' orders in one comparison.
//! What was ever shown stands on a quorum of disks, from the first moment on. A zxid names one record. Two disks that hold a
//! record in common hold the same before it. An epoch has one leader, a quorum has its number on disk when it begins, and
//! its leader holds all that was shown before. A server never goes back behind what it has shown.

use super::{Host, Net, Record};
use ostler_replication::packet::QuorumPacket;
use ostler_replication::{Broadcast, Epoch, Phase, ServerId, Ticket, Zxid};
use std::collections::{BTreeMap, VecDeque};

#[derive(Clone)]
pub struct Checks {
    voters: u64,
    /// Who has proposed what under each zxid.
    proposed: BTreeMap<Zxid, (u64, Vec<u8>)>,
    /// How much had been shown when a barrier was asked for.
    barriers: BTreeMap<(u64, Ticket), usize>,
    /// The most that each server has ever shown.
    shown: BTreeMap<u64, usize>,
    /// The highest epochs that each server has had on disk.
    epochs: BTreeMap<u64, (u32, u32)>,
}

impl Checks {
    pub fn new(voters: u64) -> Checks {
        Checks {
            voters,
            proposed: BTreeMap::new(),
            barriers: BTreeMap::new(),
            shown: BTreeMap::new(),
            epochs: BTreeMap::new(),
        }
    }

    pub fn asked(&mut self, id: u64, ticket: Ticket, shown: usize) {
        self.barriers.insert((id, ticket), shown);
    }

    pub fn proposed(&mut self, id: u64, batch: &[Record]) {
        for (zxid, entry) in batch {
            let before = self.proposed.insert(*zxid, (id, entry.clone()));
            assert!(before.is_none(), "{zxid:?} is proposed by {id} and was by {}", before.unwrap().0);
        }
    }
}

impl Net {
    fn quorum(&self, holds: impl Fn(&Host) -> bool) -> bool {
        let voters = self.checks.voters;
        let count = self.hosts.iter().filter(|(id, host)| **id <= voters && holds(host)).count() as u64;
        count > voters / 2
    }

    /// What is shown is a beginning of the one history, or continues it.
    pub(super) fn check(&mut self, id: u64) {
        let core = &self.hosts[&id].core;
        let known = core.shown.min(self.history.len());
        if let Some(index) = (0..known).find(|&index| core.world[index] != self.history[index]) {
            panic!(
                "server {id} shows {:?} as record {index}, where {:?} was shown before",
                core.world[index], self.history[index]
            );
        }
        let new = core.world[known..core.shown].to_vec();
        let shown = core.shown;
        let most = self.checks.shown.entry(id).or_default();
        *most = shown.max(*most);
        if !new.is_empty() {
            self.history.extend(new);
            self.check_durable();
        }
    }

    /// Two disks that agree in a record agree in all before it, so that the last record stands for all.
    fn check_durable(&self) {
        let Some((last, _)) = self.history.last() else { return };
        assert!(
            self.quorum(|host| host.disk.records().rev().any(|(zxid, _)| zxid == last)),
            "{last:?} has been shown, but no quorum of disks holds it"
        );
    }

    pub(super) fn check_disk(&mut self, id: u64) {
        let disk = &self.hosts[&id].disk;
        let most = self.checks.epochs.entry(id).or_default();
        let (accepted, current) = disk.epochs;
        assert!(most.0 <= accepted && most.1 <= current, "server {id} has gone back from epochs {most:?}");
        assert!(current <= accepted, "server {id} is in epoch {current}, and has promised only {accepted}");
        *most = (accepted, current);
        for (zxid, entry) in disk.records().rev().take(4) {
            if let Some((_, proposed)) = self.checks.proposed.get(zxid) {
                assert!(
                    entry == proposed,
                    "server {id} holds another record under {zxid:?} than was proposed"
                );
            }
        }
        for (other, host) in self.hosts.iter().filter(|(other, _)| **other != id) {
            let differs = parting(disk.records().rev(), host.disk.records().rev());
            if let Some((common, a, b)) = differs {
                panic!(
                    "servers {id} and {other} both hold {common:?}, but before it {id} holds {a:?} and {other} {b:?}"
                );
            }
        }
        self.check_durable();
    }

    pub(super) fn check_established(&self, id: u64, epoch: Epoch) {
        assert!(
            self.quorum(|host| epoch.0 <= host.disk.epochs.1),
            "server {id} leads epoch {}, which no quorum has on disk",
            epoch.0
        );
        // The last ACK may come late, when a later epoch is established already. That is no harm: nothing can be committed in
        // this one any more.
        let earlier = self.history.iter().take_while(|(zxid, _)| zxid.epoch() < epoch).count();
        assert!(
            earlier <= self.hosts[&id].core.shown,
            "server {id} leads epoch {} without all that was shown in earlier ones",
            epoch.0
        );
    }

    pub(super) fn check_not_behind(&self, id: u64) {
        let most = self.checks.shown.get(&id).copied().unwrap_or_default();
        let shown = self.hosts[&id].core.shown;
        assert!(most <= shown, "server {id} serves with {shown} records and has shown {most} already");
    }

    /// Whoever asks for a barrier sees everything that anybody had seen when it was asked for.
    pub(super) fn check_barrier(&self, id: u64, ticket: Ticket) {
        let Some(&asked) = self.checks.barriers.get(&(id, ticket)) else { return };
        let shown = self.hosts[&id].core.shown;
        assert!(
            asked <= shown,
            "a barrier passes at {id} with {shown} records; {asked} had been shown elsewhere"
        );
    }

    /// A server that votes, or reports in ACKEPOCH, says what its disk holds.
    pub(super) fn check_vote(&self, id: u64, to: u64, zxid: i64) {
        let status = self.hosts[&id].ensemble.as_ref().map(Broadcast::status);
        let votes = |status: ostler_replication::Status| {
            status.phase == Phase::Election && status.leader == Some(ServerId(id))
        };
        // The last message goes out again on a new connection, at any time.
        if to <= self.checks.voters && status.is_some_and(votes) {
            self.check_report(id, zxid);
        }
    }

    pub(super) fn check_report(&self, id: u64, zxid: i64) {
        if zxid == -1 {
            return;
        }
        let (zxid, last) = (Zxid::from_wire(zxid), self.hosts[&id].disk.last());
        let is_epoch_start = zxid.counter() == 0 && last < zxid;
        assert!(
            zxid == last || is_epoch_start,
            "server {id} says that it holds {zxid:?}; its disk ends at {last:?}"
        );
    }
}

/// The last record that both have, and the first difference before it; histories from the end.
fn parting<'a>(
    a: impl Iterator<Item = &'a Record>,
    b: impl Iterator<Item = &'a Record>,
) -> Option<(Zxid, Option<Zxid>, Option<Zxid>)> {
    let (mut a, mut b) = (a.peekable(), b.peekable());
    let common = loop {
        let (left, right) = (a.peek()?.0, b.peek()?.0);
        match left.cmp(&right) {
            std::cmp::Ordering::Greater => a.next(),
            std::cmp::Ordering::Less => b.next(),
            std::cmp::Ordering::Equal => break left,
        };
    };
    loop {
        let (left, right) = (a.next(), b.next());
        if left != right {
            return Some((common, left.map(|record| record.0), right.map(|record| record.0)));
        }
        left?;
    }
}

/// Both sides are this implementation and no byte is lost, so nobody ever has to blame the other for breaking the protocol.
pub fn no_accusation(id: u64, why: &str) {
    const WORDS: [&str; 8] = [
        " proposes ",
        " commits ",
        " sends ",
        "acknowledges ",
        "first packet",
        " names ",
        "the log gives",
        "the log no longer holds",
    ];
    assert!(!WORDS.iter().any(|words| why.contains(words)), "server {id} says: {why}");
}

/// An Apache learner ends its process, or the connection, at a COMMIT that is not the next one of what was proposed to it.
#[derive(Clone, Default, Hash)]
pub struct Wire {
    last: Zxid,
    pending: VecDeque<Zxid>,
}

impl Wire {
    pub fn check(&mut self, from: u64, to: u64, packet: &QuorumPacket) {
        match packet {
            QuorumPacket::Proposal { zxid, .. } => {
                assert!(self.last < *zxid, "{from} proposes {zxid:?} to {to} behind {:?}", self.last);
                self.last = *zxid;
                self.pending.push_back(*zxid);
            }
            QuorumPacket::Commit(zxid) => {
                let next = self.pending.pop_front();
                assert!(next == Some(*zxid), "{from} sends {to} COMMIT {zxid:?}, where {next:?} is next");
            }
            _ => {}
        }
    }
}
