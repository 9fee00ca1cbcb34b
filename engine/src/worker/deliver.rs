//! What the ring brings, to the connections: per txn first its watch events, then its reply.
//! Not here: which watches match (`watch`), encoding of replies (the core did it).

use super::connection::Phase;
use super::read::acl_permits;
use super::turn::State;
use super::watch::{EventType, Quick, Trigger, Watches};
use crate::admin::{Counter, Summary};
use crate::intake::CoreRequest;
use crate::io::poll::Poll;
use crate::limits::FANOUT_EVENTS_PORTION;
use crate::model::acl::perms;
use crate::ring::{After, Event, News, Outcome};
use crate::wire::reply::{EventKind, frame_event};
use crate::world::{AclId, Change, ChangeKind, Changes, View};
use ostler_replication::Zxid;
use std::num::NonZeroU64;

/// The paths of the next changes, hashed together: each first look into the watch tables waits for memory, and these
/// waits shall overlap.
#[derive(Default)]
struct Approached {
    quick: [Quick; Approached::AHEAD],
    /// The change that the first of them belongs to; they reach to `end`.
    first: usize,
    end: usize,
}

impl Approached {
    const AHEAD: usize = 8;

    /// Of the change number `at`.
    #[inline]
    fn of(&mut self, at: usize, changes: &Changes, watches: &Watches) -> Quick {
        if !(self.first..self.end).contains(&at) {
            (self.first, self.end) = (at, at);
            for (quick, change) in self.quick.iter_mut().zip(&changes.list[at..]) {
                *quick = watches.quick(changes.path(change));
                self.end += 1;
            }
            self.quick[..self.end - at].iter().for_each(|&quick| watches.approach(quick));
        }
        self.quick[at - self.first]
    }
}

impl<P: Poll> State<P> {
    /// Delivers the event, or as much of it as one turn may; true when it is delivered to its end.
    pub(super) fn deliver(&mut self, event: &Event) -> bool {
        let batch = match &event.news {
            News::Batch(batch) => batch,
            News::Role(role) => return self.change_role(*role),
        };
        let changes = &batch.changes.list;
        if self.watches.is_empty() {
            self.change_at = changes.len();
        }
        let mut left = FANOUT_EVENTS_PORTION;
        let mut approached = Approached::default();
        loop {
            let (change, outcome) = (changes.get(self.change_at), batch.outcomes.get(self.outcome_at));
            match (change, outcome) {
                (None, None) => break,
                (Some(change), outcome) if outcome.is_none_or(|outcome| change.zxid <= outcome.zxid) => {
                    if left == 0 {
                        return false;
                    }
                    let quick = approached.of(self.change_at, &batch.changes, &self.watches);
                    let path = batch.changes.path(change);
                    left = left.saturating_sub(self.fire(change, path, quick, &event.view));
                    self.change_at += 1;
                }
                (_, Some(outcome)) => {
                    self.outcome(outcome, &batch.frames);
                    self.outcome_at += 1;
                }
                (Some(_), None) => unreachable!("the arm above takes changes without an outcome behind"),
            }
        }
        (self.change_at, self.outcome_at) = (0, 0);
        true
    }

    /// Queues the events of one change. Returns what that cost: one, and one per event.
    fn fire(&mut self, change: &Change, path: &str, quick: Quick, view: &View) -> usize {
        let trigger = match change.kind {
            ChangeKind::Created => Trigger::Created,
            ChangeKind::Deleted => Trigger::Deleted,
            ChangeKind::DataChanged => Trigger::DataChanged,
        };
        if !self.watches.may_concern(trigger, quick) {
            return 1;
        }
        let mut hits = std::mem::take(&mut self.hits);
        hits.clear();
        self.watches.fire(trigger, path, quick, &mut hits);
        if !hits.is_empty() {
            self.frame_events(trigger, path, change.zxid);
            let mut told = [0, 0];
            for hit in &hits {
                let children = hit.event == EventType::ChildrenChanged;
                let acl = if children { change.parent_acl } else { change.acl };
                told[usize::from(children)] += u64::from(self.tell(hit.slot, children, acl, view));
            }
            for (summary, told) in [summary_of(trigger), Summary::ChildrenWatches].into_iter().zip(told) {
                if told > 0 {
                    self.counters.record(summary, told);
                }
            }
        }
        let cost = 1 + hits.len();
        self.hits = hits;
        cost
    }

    /// Encodes the event about the znode and the one about its parent, once for all who get them.
    fn frame_events(&mut self, trigger: Trigger, path: &str, zxid: Zxid) {
        let kind = match trigger {
            Trigger::Created => EventKind::NodeCreated,
            Trigger::Deleted => EventKind::NodeDeleted,
            Trigger::DataChanged => EventKind::NodeDataChanged,
        };
        let [own, parent] = &mut self.event_frames;
        own.clear();
        parent.clear();
        frame_event(own, zxid, kind, path);
        if let Some((parent_path, _)) = crate::model::path::split(path) {
            frame_event(parent, zxid, EventKind::NodeChildrenChanged, parent_path);
        }
    }

    /// Queues one event, if its connection may read the znode it speaks of.
    fn tell(&mut self, slot: u32, children: bool, acl: AclId, view: &View) -> bool {
        let Some(connection) = self.connections.get_mut(slot) else { return false };
        if connection.phase != Phase::Established
            || !acl_permits(view, acl, perms::READ, &connection.ids, &self.shared.schemes)
        {
            return false;
        }
        let frame = &self.event_frames[children as usize];
        match connection.stream_mut() {
            Some(stream) => stream.events.extend_from_slice(frame),
            None => connection.output.prepare(&mut self.pool).extend_from_slice(frame),
        }
        connection.output.event_bytes = connection.output.event_bytes.saturating_add(frame.len() as u32);
        connection.figures.sent += 1;
        self.counters.add(Counter::PacketsSent, 1);
        self.counters.add(Counter::BytesOfEvents, frame.len().saturating_sub(4) as u64);
        if connection.is_hopelessly_behind() {
            tracing::warn!(peer = %connection.peer(), session = %connection.session, "does not read its watch events: closed");
            self.drop_now(slot);
        } else if connection.stream().is_none() {
            self.list_to_flush(slot);
        }
        true
    }

    fn outcome(&mut self, outcome: &Outcome, frames: &[u8]) {
        let (slot, generation) = (outcome.to.slot, outcome.to.generation);
        if usize::from(outcome.to.worker) != usize::from(self.index) {
            return;
        }
        let Some(connection) = self.connections.get_of(slot, generation) else {
            // Gone before its handshake was over: nobody else would tell the core.
            if let After::Established { session, .. } = outcome.then {
                self.tell_core(CoreRequest::Gone { from: outcome.to, session });
            }
            return;
        };
        match outcome.then {
            // One that is closing already still owes its client the last replies, however wrong what came behind them is.
            After::Drop if connection.phase != Phase::Closing => return self.drop_now(slot),
            After::Probe { session, token } => {
                if connection.session == session {
                    // Tokens count from 1.
                    connection.rare().probe = NonZeroU64::new(token);
                    self.list_to_read(slot);
                    self.more_to_read = true;
                }
                return;
            }
            After::Established { session, .. } if connection.phase == Phase::Closing => {
                return self.tell_core(CoreRequest::Gone { from: outcome.to, session });
            }
            _ if connection.phase == Phase::Closing => return,
            _ => {}
        }
        let frame = &frames[outcome.frame.start as usize..outcome.frame.end as usize];
        if !frame.is_empty() {
            connection.output.prepare(&mut self.pool).extend_from_slice(frame);
        }
        if connection.phase == Phase::Established {
            self.answered(slot, outcome, frame.len());
        }
        match outcome.then {
            After::Established { session, timeout_ms } => self.established(slot, session, timeout_ms),
            After::Close => self.begin_close(slot),
            _ => {}
        }
        self.list_to_flush(slot);
    }

    /// Takes the request off the line; what waited behind it may go on when it was the last.
    fn answered(&mut self, slot: u32, outcome: &Outcome, bytes: usize) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        let request = connection.in_flight.pop_front().expect("the core answers what it was asked");
        assert_eq!(request.xid, outcome.xid, "the core answers in the order it was asked");
        assert!(
            connection.in_flight.len() >= connection.stretch.writes.into(),
            "reads before it were served"
        );
        self.outstanding -= 1;
        // Whoever was held back by the limit may be read again.
        self.more_to_read |= self.outstanding == self.shared.outstanding_max;
        self.shared.large.done(request.large_bytes);
        let now_ms = self.now.mono.as_millis();
        let latency_ms = (now_ms as u32).wrapping_sub(request.since_ms);
        connection.figures.replied(request.op, request.xid, outcome.zxid, now_ms, latency_ms);
        let waits = !connection.input.is_empty();
        match connection.in_flight.len() {
            0 if waits => self.list_to_serve(slot),
            0 => {}
            _ if !connection.must_wait() => self.overtaken.push(slot),
            _ => {}
        }
        self.read_again(slot);
        if latency_ms >= self.shared.slow_request_ms {
            self.say_slow(slot, &request, outcome.zxid, latency_ms);
        }
        self.tally.replied(bytes as u64);
        self.counters.record(Summary::Latency, latency_ms as u64 * 1_000_000);
        self.counters.record(Summary::UpdateLatency, latency_ms as u64 * 1_000_000);
    }

    /// The session is settled: what the client sent behind its connect request is served now.
    fn established(&mut self, slot: u32, session: crate::model::SessionId, timeout_ms: i32) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        connection.phase = Phase::Established;
        connection.session = session;
        connection.timeout_ms = timeout_ms.max(0) as u32;
        connection.heard = self.now.mono;
        connection.figures.sent += 1;
        self.lines.established(session, timeout_ms, connection.peer(), self.now.mono);
        self.counters.add(Counter::PacketsSent, 1);
        self.list_to_serve(slot);
        self.read_again(slot);
    }
}

fn summary_of(trigger: Trigger) -> Summary {
    match trigger {
        Trigger::Created => Summary::CreatedWatches,
        Trigger::Deleted => Summary::DeletedWatches,
        Trigger::DataChanged => Summary::ChangedWatches,
    }
}
