//! Client sessions as the core tracks them: who owns each, when each is due, what is to be done about those that are.
//! Not here: the txns that open and close sessions, the znodes they own (`world`), sockets.
//!
//! **Deadlines** are whole ticks: `floor((now + timeout) / tick) + 1`, so that many sessions fall due at once and a
//! touch is one division. A session lies in the bucket of the deadline it had when it was put there; when the
//! bucket comes up, those touched since move on to the bucket of their present deadline. Touching moves nothing. Only who
//! re-attaches with a shorter timeout is put into an earlier bucket, too, and what is left in the later one is passed over.
//!
//! **A session may live longer than promised, never shorter.** When the deadline of a session with an open connection
//! passes, its worker is asked to read that socket dry in a turn begun after the question (a *probe*); only its
//! `Silent` expires the session. A stall of the process moves every deadline by the stall: time here is monotonic time
//! minus all stalls. So does time in which requests lay untaken, for a client's may be among them; and a deadline has
//! passed only when all that came before it has been taken (`note_taken`).

use super::owner::Owner;
use crate::limits;
use crate::model::{ErrorCode, SessionId, WallMillis, session};
use crate::ring::ConnRef;
use ostler_replication::Moment;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

pub(super) struct Sessions {
    // Keys are ours, so nobody can choose them to collide; nothing depends on the order of iteration. Boxed: half of the
    // places in a table may be empty, and growing moves all of them.
    table: HashMap<SessionId, Box<Session>, BuildHasherDefault<IdHasher>>,
    /// By deadline in ticks. Ids of sessions that are gone, or stand in an earlier bucket, may linger until it comes up.
    buckets: BTreeMap<u64, Vec<SessionId>>,
    /// From buckets that came up, not looked at yet.
    due: VecDeque<SessionId>,
    /// Those of them that nobody is connected to here, when there was no room for their closeSession txns. They may be
    /// attached to as before.
    orphans: VecDeque<SessionId>,
    tick_ms: u64,
    /// Deadlines count. At a learner they do not, and no session stands in a bucket.
    keeps_time: bool,
    /// Sum of all stalls, nanoseconds.
    stalled: u64,
    last_turn: Option<Moment>,
    /// On the clock without stalls: all that came before has been taken. Nanoseconds.
    heard: Option<u64>,
    next_id: SessionId,
    next_token: u64,
}

struct Session {
    /// As negotiated by the current connection, milliseconds.
    timeout_ms: u32,
    owner: Owner,
    /// Deadline in ticks.
    due: u64,
    state: State,
    /// Number of the last batch with an answer to one of its requests; none has the largest.
    batch: u64,
    /// Round in which a request of it was last put off.
    round: u64,
}

impl Session {
    /// True: it belongs into the bucket of its deadline, since it was being probed or that is earlier than it was.
    fn touch(&mut self, clock_ms: u64, tick_ms: u64) -> bool {
        self.due = (clock_ms + u64::from(self.timeout_ms)) / tick_ms + 1;
        let to_be_listed = match self.state {
            State::Live { listed } => self.due < listed,
            State::Probing(_) => true,
            State::Closing => false,
        };
        if to_be_listed {
            self.state = State::Live { listed: self.due };
        }
        to_be_listed
    }
}

/// One multiplication: session ids differ in their low bits.
#[derive(Default)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}

/// Where a request comes in the order of things.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// Number of the open batch.
    pub batch: u64,
    /// Number of the present round: requests put off in it wait for the next.
    pub round: u64,
    /// It must not share a batch with the request before it.
    pub apart: bool,
}

/// What becomes of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    /// Not from the session's connection: it does not count.
    Refused,
    Now,
    /// Not before the next batch.
    Later,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// With the earliest bucket that it stands in.
    Live { listed: u64 },
    /// The deadline has passed and the owner's worker was asked. In no bucket.
    Probing(u64),
    /// Takes no requests any more; goes when its closeSession txn is made. In no bucket.
    Closing,
}

/// What is to be done about a session that is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Due {
    Probe { session: SessionId, owner: ConnRef, token: u64 },
    Expire(SessionId),
}

impl Sessions {
    pub fn new(tick_ms: u32, first_id: SessionId) -> Sessions {
        Sessions {
            table: HashMap::default(),
            buckets: BTreeMap::new(),
            due: VecDeque::new(),
            orphans: VecDeque::new(),
            tick_ms: u64::from(tick_ms.max(1)),
            keeps_time: true,
            stalled: 0,
            last_turn: None,
            heard: None,
            next_id: first_id,
            next_token: 1,
        }
    }

    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Forgets all sessions. Ids, stalls and what was taken go on; `keeps_time`: the next ones have deadlines.
    pub fn clear(&mut self, keeps_time: bool) {
        self.table = HashMap::default();
        self.buckets.clear();
        self.due.clear();
        self.orphans.clear();
        self.keeps_time = keeps_time;
    }

    /// Of a session that is known, else 0.
    pub fn timeout_ms(&self, id: SessionId) -> u32 {
        self.table.get(&id).map_or(0, |session| session.timeout_ms)
    }

    /// Sum of all stalls.
    pub fn stalled_ms(&self) -> u64 {
        self.stalled / 1_000_000
    }

    /// An id that no session has.
    pub fn fresh_id(&mut self) -> SessionId {
        loop {
            let id = self.next_id;
            self.next_id = session::next_id(id);
            if !self.table.contains_key(&id) {
                return id;
            }
        }
    }

    /// A new session, or one found on disk, which has no connection yet.
    pub fn open(&mut self, id: SessionId, timeout_ms: i32, owner: Owner, now: Moment) {
        let timeout_ms = timeout_ms.max(0) as u32;
        let due = self.deadline(now, timeout_ms);
        let state = State::Live { listed: due };
        let session = Session { timeout_ms, owner, due, state, batch: u64::MAX, round: 0 };
        let before = self.table.insert(id, Box::new(session));
        assert!(before.is_none(), "a session is opened once");
        if self.keeps_time {
            self.buckets.entry(due).or_default().push(id);
        }
    }

    /// Open or closing.
    pub fn is_known(&self, id: SessionId) -> bool {
        self.table.contains_key(&id)
    }

    /// Known and not closing.
    pub fn is_open(&self, id: SessionId) -> bool {
        self.table.get(&id).is_some_and(|session| session.state != State::Closing)
    }

    /// Whether a request of this session from this connection counts, and when: the session is open, and the connection
    /// owns it. If so, the session is touched.
    pub fn admit(&mut self, id: SessionId, from: ConnRef, now: Moment, place: Place) -> Standing {
        let clock = self.clock_ms(now);
        let Some(session) = self.table.get_mut(&id) else { return Standing::Refused };
        if session.state == State::Closing || session.owner != Owner::here(from) {
            return Standing::Refused;
        }
        let later = session.round == place.round || place.apart && session.batch == place.batch;
        match later {
            true => session.round = place.round,
            false => session.batch = place.batch,
        }
        if session.touch(clock, self.tick_ms) {
            self.buckets.entry(session.due).or_default().push(id);
        }
        if later { Standing::Later } else { Standing::Now }
    }

    /// The answer to its last request went into another batch than was open when it was admitted.
    pub fn moved_on(&mut self, id: SessionId, batch: u64) {
        if let Some(session) = self.table.get_mut(&id) {
            session.batch = batch;
        }
    }

    /// What was put off of this connection is so in this round as well.
    pub fn stays_put_off(&mut self, id: SessionId, from: ConnRef, round: u64) {
        if let Some(session) = self.table.get_mut(&id)
            && session.owner == Owner::here(from)
        {
            session.round = round;
        }
    }

    /// Something of this connection was put off in this round.
    pub fn has_put_off(&self, id: SessionId, from: ConnRef, round: u64) -> bool {
        self.table
            .get(&id)
            .is_some_and(|session| session.owner == Owner::here(from) && session.round == round)
    }

    pub fn touch(&mut self, id: SessionId, now: Moment) {
        let clock = self.clock_ms(now);
        let Some(session) = self.table.get_mut(&id) else { return };
        if session.touch(clock, self.tick_ms) && self.keeps_time {
            self.buckets.entry(session.due).or_default().push(id);
        }
    }

    /// A learner has heard of it, and of this timeout.
    pub fn touch_for(&mut self, id: SessionId, timeout_ms: i32, now: Moment) {
        if let Some(session) = self.table.get_mut(&id) {
            session.timeout_ms = timeout_ms.max(0) as u32;
            self.touch(id, now);
        }
    }

    /// Re-attach: the session belongs to `to` from here on. Returns whose it was.
    pub fn move_to(&mut self, id: SessionId, to: Owner, timeout_ms: i32, now: Moment) -> Owner {
        let Some(session) = self.table.get_mut(&id) else { return Owner::Nobody };
        session.timeout_ms = timeout_ms.max(0) as u32;
        let before = std::mem::replace(&mut session.owner, to);
        self.touch(id, now);
        before
    }

    /// At a learner: the session may belong to somebody else by now. Its owner so far.
    pub fn leave(&mut self, id: SessionId) -> Owner {
        self.table
            .get_mut(&id)
            .map_or(Owner::Nobody, |session| std::mem::replace(&mut session.owner, Owner::Gone))
    }

    /// Whether a learner's request of this session counts: the session is open, and `to` owns it. One that nobody has
    /// owned yet is its from here on. A learner that is gone owns its sessions still: their clients have to come with them
    /// to another server first. If the request counts, the session is touched.
    pub fn claim(&mut self, id: SessionId, to: Owner, now: Moment) -> Result<(), ErrorCode> {
        let session = self.table.get_mut(&id).filter(|session| session.state != State::Closing);
        let session = session.ok_or(ErrorCode::SessionExpired)?;
        if session.owner != to && session.owner != Owner::Nobody {
            return Err(ErrorCode::SessionMoved);
        }
        session.owner = to;
        self.touch(id, now);
        Ok(())
    }

    /// At a learner: a createSession txn has come. An owner that came before it stays.
    pub fn note_opened(&mut self, id: SessionId, timeout_ms: i32, owner: Owner, now: Moment) {
        match self.table.get_mut(&id) {
            Some(session) => {
                session.timeout_ms = timeout_ms.max(0) as u32;
                if owner != Owner::Nobody {
                    session.owner = owner;
                }
            }
            None => self.open(id, timeout_ms, owner, now),
        }
    }

    /// At a learner: whether a request of this session from this connection counts.
    pub fn belongs_to(&self, id: SessionId, from: ConnRef) -> bool {
        self.table.get(&id).is_some_and(|session| session.owner == Owner::here(from))
    }

    /// At a learner: the session was heard of in this round. Its timeout, if it is the first time.
    pub fn note_heard(&mut self, id: SessionId, round: u64) -> Option<i32> {
        let session = self.table.get_mut(&id)?;
        let is_first = std::mem::replace(&mut session.round, round) != round;
        is_first.then_some(session.timeout_ms as i32)
    }

    /// Whether the batch of this number has an answer to one of its requests.
    pub fn is_answered_in(&self, id: SessionId, batch: u64) -> bool {
        self.table.get(&id).is_some_and(|session| session.batch == batch)
    }

    /// Its connection is closed. True if the session expires by it: its deadline had passed and the answer to the
    /// probe was still out.
    pub fn gone(&mut self, id: SessionId, from: ConnRef) -> bool {
        let Some(session) = self.table.get_mut(&id) else { return false };
        if session.owner != Owner::here(from) {
            return false;
        }
        session.owner = Owner::Gone;
        matches!(session.state, State::Probing(_))
    }

    /// The answer to a probe. True if the session expires by it.
    pub fn silent(&mut self, id: SessionId, from: ConnRef, token: u64) -> bool {
        self.table.get(&id).is_some_and(|session| {
            session.owner == Owner::here(from) && session.state == State::Probing(token)
        })
    }

    /// No request of the session counts from here on. False if it was closing already, or is unknown.
    pub fn begin_close(&mut self, id: SessionId) -> bool {
        match self.table.get_mut(&id) {
            Some(session) if session.state != State::Closing => {
                session.state = State::Closing;
                true
            }
            _ => false,
        }
    }

    /// Its closeSession txn is made. Returns the connection of ours that owned it.
    pub fn remove(&mut self, id: SessionId) -> Option<ConnRef> {
        self.table.remove(&id)?.owner.connection()
    }

    /// Called once per turn of the core. A turn that comes much later than turns do means that the process did not
    /// run; clients could not be heard meanwhile, so that time does not count.
    pub fn note_turn(&mut self, now: Moment) {
        if let Some(last) = self.last_turn {
            let gap_ms = now.since(last) / 1_000_000;
            if gap_ms >= limits::WAIT_MS_MAX + limits::STALL_MS_LEAST {
                self.stalled += (gap_ms - limits::WAIT_MS_MAX) * 1_000_000;
            }
        }
        self.last_turn = Some(now);
    }

    /// Called once per turn of the core, with the moment before which everything that came has been taken. If that moment
    /// stood still for long, requests lay untaken so long: that is a stall as well.
    pub fn note_taken(&mut self, heard: Moment) {
        let mut clock = heard.0.saturating_sub(self.stalled);
        if let Some(before) = self.heard {
            let gap_ms = clock.saturating_sub(before) / 1_000_000;
            if gap_ms >= limits::WAIT_MS_MAX + limits::STALL_MS_LEAST {
                let stall = (gap_ms - limits::WAIT_MS_MAX) * 1_000_000;
                self.stalled += stall;
                clock -= stall;
            }
            clock = clock.max(before);
        }
        self.heard = Some(clock);
    }

    /// The next of the sessions whose deadline has passed: one with a connection is probed, one without expires, if it may
    /// now. `looks` counts down how many are looked at; at 0 there is none.
    pub fn next_due(&mut self, may_expire: bool, looks: &mut usize) -> Option<Due> {
        let tick_now = self.heard.unwrap_or(0) / 1_000_000 / self.tick_ms;
        while let Some(bucket) = self.buckets.first_entry()
            && *bucket.key() <= tick_now
        {
            self.due.extend(bucket.remove());
        }
        while *looks > 0 {
            let id = match self.due.pop_front() {
                None if may_expire => self.orphans.pop_front()?,
                next => next?,
            };
            *looks -= 1;
            let Some(session) = self.table.get_mut(&id) else { continue };
            let State::Live { listed } = session.state else { continue };
            if session.due > tick_now {
                // Unless it stands in a later bucket already: one place is enough.
                if listed <= tick_now {
                    session.state = State::Live { listed: session.due };
                    self.buckets.entry(session.due).or_default().push(id);
                }
                continue;
            }
            if session.owner.connection().is_none() && !may_expire {
                self.orphans.push_back(id);
                continue;
            }
            let token = self.next_token;
            self.next_token += 1;
            session.state = State::Probing(token);
            // A learner tells of all that it hears, so its silence is its sessions'.
            return Some(match session.owner.connection() {
                Some(owner) => Due::Probe { session: id, owner, token },
                None => Due::Expire(id),
            });
        }
        None
    }

    /// `next_due` has something to look at right now.
    pub fn has_due(&self, may_expire: bool) -> bool {
        !self.due.is_empty() || may_expire && !self.orphans.is_empty()
    }

    /// Sessions by the wall time at which they are due, soonest first.
    pub fn expiries(&self, now: super::Now) -> Vec<(WallMillis, Vec<SessionId>)> {
        let mut by_tick: BTreeMap<u64, Vec<SessionId>> = BTreeMap::new();
        for (id, session) in &self.table {
            by_tick.entry(session.due).or_default().push(*id);
        }
        let clock = self.clock_ms(now.mono);
        by_tick
            .into_iter()
            .map(|(tick, mut sessions)| {
                sessions.sort_unstable();
                let left = (tick * self.tick_ms) as i64 - clock as i64;
                (WallMillis(now.wall.0 + left), sessions)
            })
            .collect()
    }

    fn deadline(&self, now: Moment, timeout_ms: u32) -> u64 {
        (self.clock_ms(now) + u64::from(timeout_ms)) / self.tick_ms + 1
    }

    /// Monotonic time without stalls, milliseconds.
    fn clock_ms(&self, now: Moment) -> u64 {
        now.0.saturating_sub(self.stalled) / 1_000_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU32;

    #[test]
    fn a_session_fits_its_budget() {
        // With the allocator's word, 64 bytes.
        assert!(size_of::<Session>() <= 56, "{}", size_of::<Session>());
    }

    /// Plays a script on sessions with a tick of 1000 ms, checked every 100 ms as the core's turns do, and compares
    /// what fell due with when. Words: `o<id>:<timeout>` opens with a connection (`O` without), `t<id>` touches,
    /// `m<id>:<timeout>` re-attaches,
    /// `s<id>` answers the last probe, `g<id>` closes the connection, `@<ms>` runs turns until then, `!<ms>` freezes
    /// the process until then, `?<ms>` runs turns until then that take no requests.
    fn check(script: &str, expected: &str) {
        let mut sessions = Sessions::new(1000, SessionId(1));
        let conn = |id: i64| ConnRef { worker: 0, slot: id as u32, generation: NonZeroU32::MIN };
        let mut now = 0;
        let mut heard = Moment(0);
        let mut probes = HashMap::new();
        let mut seen = Vec::new();
        for word in script.split_whitespace() {
            let (verb, rest) = word.split_at(1);
            let (first, second) = rest.split_once(':').unwrap_or((rest, "0"));
            let (first, second): (i64, i64) = (first.parse().unwrap(), second.parse().unwrap());
            let id = SessionId(first);
            let at = Moment::from_millis(now);
            match verb {
                "o" => sessions.open(id, second as i32, Owner::here(conn(first)), at),
                "O" => sessions.open(id, second as i32, Owner::Nobody, at),
                "t" => sessions.touch(id, at),
                "m" => _ = sessions.move_to(id, Owner::here(conn(first)), second as i32, at),
                "s" => {
                    seen.push(format!("silent{first}={}", sessions.silent(id, conn(first), probes[&first])))
                }
                "g" => seen.push(format!("gone{first}={}", sessions.gone(id, conn(first)))),
                "@" | "!" | "?" => {
                    while now < first as u64 {
                        now = if verb == "!" { first as u64 } else { now + 100 };
                        let at = Moment::from_millis(now);
                        sessions.note_turn(at);
                        heard = if verb == "?" { heard } else { at };
                        sessions.note_taken(heard);
                        let mut looks = usize::MAX;
                        while let Some(due) = sessions.next_due(true, &mut looks) {
                            seen.push(match due {
                                Due::Probe { session, token, .. } => {
                                    probes.insert(session.0, token);
                                    format!("{now}:probe{}", session.0)
                                }
                                Due::Expire(session) => {
                                    sessions.begin_close(session);
                                    format!("{now}:expire{}", session.0)
                                }
                            });
                        }
                    }
                }
                other => panic!("no such word: {other}"),
            }
        }
        assert_eq!(seen.join(" "), expected, "{script}");
    }

    #[test]
    fn deadlines_round_up_to_the_tick_after_the_timeout() {
        check("O1:2500 @5000", "3000:expire1");
        check("O1:3000 @5000", "4000:expire1");
        check("@900 O1:2500 @5000", "4000:expire1");
    }

    #[test]
    fn a_touch_postpones() {
        check("O1:2500 @2900 t1 @9000", "6000:expire1");
    }

    #[test]
    fn who_comes_again_with_another_timeout_has_that_from_then_on() {
        check("O1:20000 @1000 m1:2500 @30000", "4000:probe1");
        check("O1:2500 @1000 m1:20000 @30000", "22000:probe1");
        // Touched as before, and to and fro.
        check("O1:20000 @1000 m1:2500 @3500 t1 @30000", "7000:probe1");
        check("O1:20000 @1000 m1:2500 @2000 m1:20000 @3500 m1:2500 @30000", "7000:probe1");
        check("o1:2500 @3500 m1:9000 @30000 s1", "3000:probe1 13000:probe1 silent1=true");
    }

    #[test]
    fn a_session_that_comes_again_and_again_leaves_few_places_behind() {
        let mut sessions = Sessions::new(1000, SessionId(1));
        let conn = ConnRef { worker: 0, slot: 1, generation: NonZeroU32::MIN };
        sessions.open(SessionId(1), 4000, Owner::here(conn), Moment(0));
        for ms in 0..100_000 {
            let now = Moment::from_millis(ms);
            sessions.move_to(SessionId(1), Owner::here(conn), if ms % 2 == 0 { 40_000 } else { 4000 }, now);
            sessions.note_taken(now);
            while sessions.next_due(true, &mut 1000).is_some() {}
            let places: usize = sessions.buckets.values().map(Vec::len).sum();
            // One for each time that a bucket of the shorter timeout came up within the longer one.
            assert!(places + sessions.due.len() <= 12, "{places} at {ms} ms");
        }
    }

    #[test]
    fn a_connected_session_is_probed_first() {
        check("o1:2500 @5000 s1", "3000:probe1 silent1=true");
        check("o1:2500 @3500 t1 s1 @9000 s1", "3000:probe1 silent1=false 7000:probe1 silent1=true");
        check("o1:2500 @3500 g1", "3000:probe1 gone1=true");
        check("o1:2500 @2500 g1 @5000", "gone1=false 3000:expire1");
    }

    #[test]
    fn a_stall_postpones_every_deadline_by_the_stall() {
        // Frozen from 1000 to 9000: of the 8 s, all but the length of one wait is forgiven.
        check("O1:2500 O2:6500 @1000 !9000 @20000", "10900:expire1 14900:expire2");
    }

    #[test]
    fn a_deadline_passes_only_when_all_that_came_before_it_is_taken() {
        check("O1:2500 ?5000 t1 @20000", "13000:expire1");
        // The first turn that has taken everything comes 9 s late: of those, all but the length of one wait is forgiven.
        check("O1:2500 O2:6500 @1000 ?10000 @20000", "12000:expire1 16000:expire2");
        // Requests that wait a little are no stall.
        check("O1:2500 @1000 ?1100 @20000", "3000:expire1");
    }
}
