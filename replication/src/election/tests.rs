//! Elections among servers on a network of the test's own: bytes arrive late, connections break, servers come and go. All
//! of it follows from one seed.

use super::*;
use crate::packet::handshake::Handshake;
use crate::{Output, Port};
use std::collections::VecDeque;

fn members(voters: u64, observers: u64) -> Arc<Members> {
    let line = |id| {
        let role = if id <= voters { "participant" } else { "observer" };
        format!("server.{id}=h{id}:2888:3888:{role}\n")
    };
    let lines: Vec<String> = (1..=voters + observers).map(line).collect();
    Arc::new(Members::parse(&lines.concat()).unwrap())
}

/// Steele, Lea and Flood's splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

struct Node {
    election: Election,
    held: (u64, u32),
    is_up: bool,
    /// Up, and says nothing to anybody: it has stopped, and its kernel has not.
    is_frozen: bool,
    /// The decided vote, until it looks again.
    decided: Option<Vote>,
    decided_at: Moment,
    looked_at: Moment,
}

/// One end of a connection.
struct End {
    node: u64,
    number: u64,
    received: VecDeque<u8>,
    received_bytes: u64,
    /// The election knows of it as this link.
    link: Option<Link>,
    is_open: bool,
}

struct Connection {
    ends: [End; 2],
    /// Bytes do not pass each other.
    last_arrival: [Moment; 2],
}

enum Event {
    Connected { from: u64, to: u64 },
    Refused { from: u64, to: u64 },
    Bytes { connection: usize, end: usize, bytes: Arc<[u8]> },
    Closed { connection: usize, end: usize },
    Drained { connection: usize, end: usize, bytes: u64 },
    Look { node: u64 },
    Watch { node: u64 },
}

struct Net {
    random: Random,
    now: Moment,
    nodes: BTreeMap<u64, Node>,
    connections: Vec<Connection>,
    events: BTreeMap<(Moment, u64), Event>,
    sequence: u64,
    cuts: BTreeSet<(u64, u64)>,
    numbers: u64,
    /// Greatest delay of anything on its way, in microseconds.
    delay_us: u64,
    /// Whether nodes look again that have lost their leader, or their followers.
    is_watched: bool,
    hangs: Vec<String>,
}

impl Net {
    fn new(seed: u64, voters: u64, observers: u64) -> Net {
        let members = members(voters, observers);
        let mut random = Random(seed);
        let mut nodes = BTreeMap::new();
        for id in 1..=voters + observers {
            let settings = ElectionSettings::default();
            let election = Election::new(ServerId(id), members.clone(), id <= voters, settings);
            let held = (random.below(3), random.below(2) as u32);
            let node = Node {
                election,
                held,
                is_up: false,
                is_frozen: false,
                decided: None,
                decided_at: Moment(0),
                looked_at: Moment(0),
            };
            nodes.insert(id, node);
        }
        Net {
            random,
            now: Moment(0),
            nodes,
            connections: Vec::new(),
            events: BTreeMap::new(),
            sequence: 0,
            cuts: BTreeSet::new(),
            numbers: 0,
            delay_us: 1000,
            is_watched: false,
            hangs: Vec::new(),
        }
    }

    /// All hold the same.
    fn even(mut self) -> Net {
        self.nodes.values_mut().for_each(|node| node.held = (0, 0));
        self
    }

    fn schedule(&mut self, at: Moment, event: Event) {
        self.sequence += 1;
        self.events.insert((at, self.sequence), event);
    }

    fn soon(&mut self) -> Moment {
        Moment(self.now.0 + 1000 * (1 + self.random.below(self.delay_us)))
    }

    fn start(&mut self, id: u64) {
        let members = self.nodes[&id].election.quorums().committed().clone();
        let is_participant = members.is_voter(ServerId(id));
        let node = self.nodes.get_mut(&id).unwrap();
        node.election = Election::new(ServerId(id), members, is_participant, ElectionSettings::default());
        node.is_up = true;
        self.look(id);
        if self.is_watched {
            self.schedule(self.now.plus_millis(500), Event::Watch { node: id });
        }
    }

    fn look(&mut self, id: u64) {
        let now = self.now;
        let node = self.nodes.get_mut(&id).unwrap();
        node.decided = None;
        node.looked_at = now;
        let (zxid, epoch) = (Zxid(node.held.0), Epoch(node.held.1));
        self.step(id, |election, out| election.look(Some(zxid), epoch, now, out));
    }

    fn crash(&mut self, id: u64) {
        let node = self.nodes.get_mut(&id).unwrap();
        node.is_up = false;
        node.decided = None;
        self.close_where(|a, b| a == id || b == id);
    }

    fn cut(&mut self, a: u64, b: u64) {
        self.cuts.insert((a.min(b), a.max(b)));
        self.close_where(|from, to| (from.min(to), from.max(to)) == (a.min(b), a.max(b)));
    }

    fn close_where(&mut self, is_meant: impl Fn(u64, u64) -> bool) {
        for connection in 0..self.connections.len() {
            let [a, b] = &self.connections[connection].ends;
            if is_meant(a.node, b.node) {
                for end in 0..2 {
                    let at = self.soon();
                    self.schedule(at, Event::Closed { connection, end });
                }
            }
        }
    }

    fn passes(&self, a: u64, b: u64) -> bool {
        !self.cuts.contains(&(a.min(b), a.max(b))) && self.nodes[&b].is_up && self.nodes[&a].is_up
    }

    fn step(&mut self, id: u64, action: impl FnOnce(&mut Election, &mut Outputs)) {
        let now = self.now;
        let node = self.nodes.get_mut(&id).unwrap();
        if !node.is_up || node.is_frozen {
            return;
        }
        let mut out = Outputs::new();
        action(&mut node.election, &mut out);
        if let Some(vote) = node.election.outcome() {
            node.decided = Some(vote);
            node.decided_at = now;
            let state = node.election.state();
            assert_eq!(state == PeerState::Leading, vote.leader == id as i64);
            assert!(node.election.next_timeout().is_none());
            self.judge(id, vote);
        }
        for output in out {
            self.carry_out(id, output);
        }
    }

    /// Whoever is decided on holds at least what each of some quorum holds.
    fn judge(&self, _id: u64, vote: Vote) {
        let leader = vote.leader as u64;
        let rank = |id: u64| (self.nodes[&id].held.1, self.nodes[&id].held.0);
        let quorums = self.nodes[&leader].election.quorums();
        assert!(quorums.is_voter(ServerId(leader)));
        assert!(quorums.reached(|id| rank(id.0) <= rank(leader)), "{vote:?} at {:?}", self.now);
    }

    fn carry_out(&mut self, id: u64, output: Output) {
        match output {
            Output::Dial { peer, port, .. } => {
                assert_eq!(port, Port::Election);
                let at = self.soon();
                let event = match self.passes(id, peer.0) {
                    true => Event::Connected { from: id, to: peer.0 },
                    false => Event::Refused { from: id, to: peer.0 },
                };
                self.schedule(at, event);
            }
            Output::Send(link, bytes) => {
                let Some((connection, end)) = self.find(id, link) else { return };
                let at = self.soon().max(self.connections[connection].last_arrival[1 - end]);
                self.connections[connection].last_arrival[1 - end] = at;
                self.schedule(at, Event::Bytes { connection, end: 1 - end, bytes });
            }
            Output::Hang(link, reason) => {
                self.hangs.push(format!("{id}->{}: {reason}", link.peer.0));
                let Some((connection, end)) = self.find(id, link) else { return };
                self.connections[connection].ends[end].is_open = false;
                let at = self.soon().max(self.connections[connection].last_arrival[1 - end]);
                self.schedule(at, Event::Closed { connection, end: 1 - end });
            }
            Output::Report(_) => {}
            other => panic!("{other:?}"),
        }
    }

    fn find(&self, id: u64, link: Link) -> Option<(usize, usize)> {
        let is_it = |end: &End| end.node == id && end.link == Some(link) && end.is_open;
        let all = self.connections.iter().enumerate();
        all.filter_map(|(index, c)| c.ends.iter().position(is_it).map(|end| (index, end))).next()
    }

    fn end(&mut self, node: u64) -> End {
        self.numbers += 1;
        let number = self.numbers;
        End { node, number, received: VecDeque::new(), received_bytes: 0, link: None, is_open: true }
    }

    fn happen(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::Connected { from, to } if self.passes(from, to) => {
                let mut ends = [self.end(from), self.end(to)];
                let link = Link { peer: ServerId(to), number: ends[0].number };
                ends[0].link = Some(link);
                self.connections.push(Connection { ends, last_arrival: [now; 2] });
                self.step(from, |election, out| election.linked(link, true, Vec::new(), now, out));
            }
            Event::Connected { from, to } | Event::Refused { from, to } => {
                self.step(from, |election, out| election.unreachable(ServerId(to), now, out));
            }
            Event::Bytes { connection, end, bytes } => {
                let ends = &mut self.connections[connection].ends;
                ends[end].received_bytes += bytes.len() as u64;
                let drained = Event::Drained { connection, end: 1 - end, bytes: ends[end].received_bytes };
                let (from, to) = (ends[1 - end].node, ends[end].node);
                if self.cuts.contains(&(from.min(to), from.max(to))) {
                    return;
                }
                self.connections[connection].ends[end].received.extend(bytes.iter());
                let at = self.soon();
                self.schedule(at, drained);
                self.read(connection, end);
            }
            Event::Closed { connection, end } => {
                let end = &mut self.connections[connection].ends[end];
                let (node, link, was_open) = (end.node, end.link, end.is_open);
                end.is_open = false;
                if let Some(link) = link.filter(|_| was_open) {
                    self.step(node, |election, out| election.unlinked(link, now, out));
                }
            }
            Event::Drained { connection, end, bytes } => {
                let end = &self.connections[connection].ends[end];
                if let Some(link) = end.link.filter(|_| end.is_open) {
                    let node = end.node;
                    self.step(node, |election, out| election.drained(link, bytes, now, out));
                }
            }
            Event::Look { node } => self.look(node),
            Event::Watch { node } => self.watch(node),
        }
    }

    /// What the network does with bytes: a handshake first, unless this end has dialled, then notifications.
    fn read(&mut self, connection: usize, end: usize) {
        let now = self.now;
        loop {
            let this = &mut self.connections[connection].ends[end];
            let node = this.node;
            if !this.is_open || !self.nodes[&node].is_up {
                return;
            }
            let bytes: Vec<u8> = this.received.iter().copied().collect();
            let Some(link) = this.link else {
                let Some((Handshake { peer, addresses }, used)) = handshake::decode(&bytes).unwrap() else {
                    return;
                };
                let link = Link { peer: peer.unwrap(), number: this.number };
                this.received.drain(..used);
                this.link = Some(link);
                assert_eq!(addresses, [format!("h{}:3888", link.peer.0)]);
                self.step(node, |election, out| election.linked(link, false, addresses, now, out));
                continue;
            };
            let Some((n, used)) = notification::decode(&bytes).unwrap() else { return };
            this.received.drain(..used);
            self.step(node, |election, out| election.received(link, n.unwrap(), now, out));
        }
    }

    /// What the rest of the protocol would notice sooner or later.
    fn watch(&mut self, id: u64) {
        self.schedule(self.now.plus_millis(500), Event::Watch { node: id });
        let node = &self.nodes[&id];
        let Some(vote) = node.decided.filter(|_| node.is_up && self.now.since(node.decided_at) > 400_000_000)
        else {
            return;
        };
        let leader = vote.leader as u64;
        let is_well = if leader == id {
            let follows = |other: u64| {
                let vote = self.nodes[&other].decided;
                other == id
                    || (self.passes(id, other) && vote.is_some_and(|vote| vote.leader == leader as i64))
            };
            node.election.quorums().reached(|other| follows(other.0))
        } else {
            self.passes(id, leader)
                && self.nodes[&leader].decided.is_some_and(|vote| vote.leader == leader as i64)
        };
        if !is_well {
            self.look(id);
        }
    }

    /// Runs until this holds; false when it does not come to that in time.
    fn run_until(&mut self, limit_ms: u64, holds: impl Fn(&Net) -> bool) -> bool {
        let end = self.now.plus_millis(limit_ms);
        while !holds(self) {
            let timeout = |(id, node): (&u64, &Node)| {
                let at = node.election.next_timeout().filter(|_| node.is_up && !node.is_frozen)?;
                Some((at, *id))
            };
            let timer = self.nodes.iter().filter_map(timeout).min();
            let event = self.events.keys().next().copied();
            let at = timer.map(|timer| timer.0).into_iter().chain(event.map(|event| event.0)).min();
            let Some(at) = at.filter(|at| *at <= end) else {
                self.now = end;
                return holds(self);
            };
            self.now = self.now.max(at);
            let now = self.now;
            match (timer, event) {
                (Some((due, id)), _) if due == at => {
                    self.step(id, |election, out| election.timeout(now, out))
                }
                (_, Some(key)) => {
                    let event = self.events.remove(&key).unwrap();
                    self.happen(event);
                }
                _ => unreachable!(),
            }
        }
        true
    }

    fn run(&mut self, ms: u64) {
        self.run_until(ms, |_| false);
    }

    fn leader_of(&self, id: u64) -> Option<u64> {
        self.nodes[&id].decided.map(|vote| vote.leader as u64)
    }

    /// All that are up agree on one leader that is up itself.
    fn is_settled(&self) -> bool {
        let up = self.nodes.iter().filter(|(_, node)| node.is_up && !node.is_frozen);
        let leaders: BTreeSet<Option<u64>> = up.map(|(id, _)| self.leader_of(*id)).collect();
        leaders.len() == 1
            && leaders.first().copied().flatten().is_some_and(|id| self.leader_of(id) == Some(id))
    }

    fn check_settles(&mut self, limit_ms: u64, expected: u64) {
        let states = |net: &Net| -> Vec<String> {
            let state = |(id, node): (&u64, &Node)| {
                format!("{id}: {:?} {}", node.decided, node.election.waiting_for())
            };
            net.nodes.iter().map(state).collect()
        };
        assert!(self.run_until(limit_ms, Net::is_settled), "{:#?}", states(self));
        let leaders: BTreeSet<u64> = self.nodes.keys().filter_map(|id| self.leader_of(*id)).collect();
        assert_eq!(leaders.into_iter().collect::<Vec<u64>>(), [expected], "{:#?}", states(self));
    }
}

#[test]
fn servers_started_one_by_one_follow_the_third_of_five() {
    let mut net = Net::new(1, 5, 0).even();
    for id in 1..=5 {
        net.start(id);
        net.run(3000);
        let leaders: Vec<Option<u64>> = (1..=id).map(|id| net.leader_of(id)).collect();
        let expected = if id < 3 { None } else { Some(3) };
        assert_eq!(leaders, vec![expected; id as usize], "with {id} servers");
    }
    assert_eq!(net.nodes[&5].election.state(), PeerState::Following);
}

#[test]
fn nothing_is_waited_for_when_every_voter_has_been_heard() {
    for seed in 0..50 {
        let mut net = Net::new(seed, 3, 0).even();
        (1..=3).for_each(|id| net.start(id));
        net.check_settles(100, 3);
        assert!(net.now.as_millis() < 50, "seed {seed}: {:?}", net.now);
    }
}

#[test]
fn a_dead_leader_is_replaced_within_a_few_delays() {
    for seed in 0..50 {
        let mut net = Net::new(seed, 3, 0).even();
        (1..=3).for_each(|id| net.start(id));
        net.check_settles(100, 3);
        net.run(1000);
        net.crash(3);
        let begin = net.now;
        (1..=2).for_each(|id| net.look(id));
        net.check_settles(200, 2);
        assert!(net.now.since(begin) < 50_000_000, "seed {seed}");
    }
}

/// What a server is told that has not noticed yet, it does not keep.
#[test]
fn who_notices_the_leaders_death_later_hears_the_better_vote_at_once() {
    for seed in 0..50 {
        let mut net = Net::new(seed, 3, 0).even();
        (1..=3).for_each(|id| net.start(id));
        net.check_settles(100, 3);
        net.run(1000);
        net.crash(3);
        let begin = net.now;
        net.look(2);
        net.run(5);
        net.look(1);
        net.check_settles(500, 2);
        let took_ms = net.now.since(begin) / 1_000_000;
        assert!(took_ms < 60, "seed {seed}: {took_ms} ms");
    }
}

/// A process that is being killed has closed its connections and not yet its listener.
#[test]
fn a_dying_leader_that_still_takes_connections_is_not_taken_for_a_silent_one() {
    for seed in 0..50 {
        let mut net = Net::new(seed, 3, 0).even();
        (1..=3).for_each(|id| net.start(id));
        net.check_settles(100, 3);
        net.run(1000);
        let dying = net.nodes.get_mut(&3).unwrap();
        (dying.is_frozen, dying.decided) = (true, None);
        net.close_where(|a, b| a == 3 || b == 3);
        let begin = net.now;
        (1..=2).for_each(|id| net.look(id));
        net.run(8);
        net.crash(3);
        net.check_settles(200, 2);
        let took_ms = net.now.since(begin) / 1_000_000;
        assert!(took_ms < 60, "seed {seed}: {took_ms} ms");
    }
}

#[test]
fn a_silent_voter_is_waited_for_and_no_longer_than_that() {
    let mut net = Net::new(7, 3, 0).even();
    (1..=3).for_each(|id| net.start(id));
    net.check_settles(100, 3);
    net.run(1000);
    net.nodes.get_mut(&3).unwrap().is_frozen = true;
    net.nodes.get_mut(&3).unwrap().decided = None;
    let begin = net.now;
    (1..=2).for_each(|id| net.look(id));
    net.check_settles(1000, 2);
    let took_ms = net.now.since(begin) / 1_000_000;
    assert!((FINALIZE_WAIT_MS..FINALIZE_WAIT_MS + 50).contains(&took_ms), "{took_ms} ms");
}

#[test]
fn the_longest_history_wins_over_the_greatest_id() {
    let mut net = Net::new(3, 3, 0).even();
    net.nodes.get_mut(&1).unwrap().held = (5, 2);
    net.nodes.get_mut(&2).unwrap().held = (9, 1);
    (1..=3).for_each(|id| net.start(id));
    net.check_settles(1000, 1);
}

#[test]
fn a_joiner_learns_the_leader_whatever_the_members_remember_of_its_election() {
    let mut net = Net::new(5, 5, 0).even();
    (1..=3).for_each(|id| net.start(id));
    net.check_settles(1000, 3);
    net.start(4);
    net.check_settles(1000, 3);
    // Members that joined in other rounds say other rounds and zxids; since the epoch was established, all say the same
    // of it.
    for id in 1..=4 {
        net.nodes.get_mut(&id).unwrap().election.established(Epoch(1));
        net.nodes.get_mut(&id).unwrap().election.current.zxid += id as i64;
        net.nodes.get_mut(&id).unwrap().election.current.round += id as i64;
    }
    net.start(5);
    net.check_settles(1000, 3);
    assert_eq!(net.nodes[&5].election.vote().epoch, 1);
    // And once more, for a member that has forgotten all.
    net.crash(1);
    net.run(100);
    net.start(1);
    net.check_settles(1000, 3);
}

#[test]
fn observers_learn_the_leader_and_never_count() {
    let mut net = Net::new(5, 3, 2).even();
    net.start(4);
    net.start(5);
    net.start(1);
    net.run(5000);
    assert_eq!(net.leader_of(1), None);
    net.start(2);
    net.check_settles(10_000, 2);
    assert_eq!(net.nodes[&4].election.state(), PeerState::Observing);
    net.start(3);
    net.check_settles(1000, 2);
    net.crash(5);
    net.run(10);
    net.start(5);
    net.check_settles(1000, 2);
}

#[test]
fn a_server_that_does_not_trust_what_it_holds_joins_and_never_votes() {
    let mut net = Net::new(5, 3, 0).even();
    net.start(2);
    net.nodes.get_mut(&1).unwrap().is_up = true;
    net.step(1, |election, out| election.look(None, Epoch(0), Moment(0), out));
    net.run(5000);
    assert_eq!(net.leader_of(1), None);
    assert_eq!(net.leader_of(2), None);
    net.start(3);
    net.check_settles(10_000, 3);
    assert_eq!(net.nodes[&1].election.state(), PeerState::Following);
}

#[test]
fn votes_that_come_before_a_server_can_vote_are_kept() {
    let mut net = Net::new(5, 3, 0).even();
    (1..=2).for_each(|id| net.start(id));
    net.check_settles(1000, 2);
    net.nodes.get_mut(&2).unwrap().election.leave();
    net.look(1);
    net.run(150);
    assert_eq!(net.leader_of(1), None);
    net.nodes.get_mut(&2).unwrap().held = (7, 0);
    net.look(2);
    net.check_settles(100, 2);
}

#[test]
fn a_stranger_is_told_who_leads() {
    let mut net = Net::new(5, 3, 0).even();
    (1..=3).for_each(|id| net.start(id));
    net.check_settles(1000, 3);
    let larger = Arc::new(
        Members::parse(
            "server.1=h1:2888:3888\nserver.2=h2:2888:3888\nserver.3=h3:2888:3888\nserver.9=h9:2888:3888",
        )
        .unwrap(),
    );
    for id in [4, 0] {
        let members = Arc::new(
            Members::parse(&larger.text().replace("server.9=h9", &format!("server.{id}=h{id}"))).unwrap(),
        );
        let election = Election::new(ServerId(id), members, true, ElectionSettings::default());
        let now = net.now;
        let node = Node {
            election,
            held: (0, 0),
            is_up: true,
            is_frozen: false,
            decided: None,
            decided_at: now,
            looked_at: now,
        };
        net.nodes.insert(id, node);
        net.look(id);
        net.check_settles(1000, 3);
    }
}

#[test]
fn configurations_that_do_not_fit_are_told_of_and_do_no_harm() {
    let mut election = Election::new(ServerId(2), members(3, 0), true, ElectionSettings::default());
    let (now, mut out) = (Moment(0), Outputs::new());
    election.look(Some(Zxid(0)), Epoch(0), now, &mut out);
    let link = Link { peer: ServerId(3), number: 1 };
    election.linked(link, false, Vec::new(), now, &mut out);
    let mut check = |config: &str, expected: &str| {
        let config = Some(config.to_string());
        let state = PeerState::Looking;
        let n = Notification { state, leader: 9, zxid: 0, round: 1, epoch: 0, version: 2, config };
        election.received(link, n, now, &mut out);
        assert_eq!(election.disagreements(), expected);
        assert_eq!(election.proposal().leader, 2);
    };
    check(
        "",
        "server 3 has a configuration that cannot be read (no server.N is a participant, so nobody could ever lead)",
    );
    check("server.3=h3:1:2\nserver.4=h4:1:2", "server 3 has a configuration with the voters 3 4");
    check("server.1=x:1:2\nserver.2=x:3:4\nserver.3=x:5:6", "");
    check("server.3=h3:1:2", "server 3 has a configuration with the voters 3");
    check(members(3, 0).text(), "");
    let told = out.iter().filter_map(|output| match output {
        Output::Report(words) => Some(words.as_str()),
        _ => None,
    });
    let words = "server 3 has a configuration that cannot be read (no server.N is a participant, so nobody could ever lead); \
                 this server's has 1 2 3";
    assert_eq!(told.collect::<Vec<_>>(), [words], "once, until it looks again");
}

#[test]
fn every_disturbance_ends_in_one_leader() {
    for seed in 0..120 {
        let voters = if seed % 2 == 0 { 3 } else { 5 };
        let mut net = Net::new(seed, voters, seed % 3);
        net.is_watched = true;
        net.delay_us = [200, 5_000, 100_000][net.random.below(3) as usize];
        let all: Vec<u64> = net.nodes.keys().copied().collect();
        for id in &all {
            net.start(*id);
        }
        for _ in 0..12 {
            let pause = net.random.below(3000);
            net.run(pause);
            let id = all[net.random.below(all.len() as u64) as usize];
            let other = all[net.random.below(all.len() as u64) as usize];
            match net.random.below(5) {
                0 if net.nodes[&id].is_up => net.crash(id),
                0 | 1 if !net.nodes[&id].is_up => net.start(id),
                2 if id != other => net.cut(id, other),
                3 => {
                    net.cuts.pop_first();
                }
                4 if net.nodes[&id].is_up => {
                    let at = net.soon();
                    net.schedule(at, Event::Look { node: id });
                }
                _ => {}
            }
        }
        net.cuts.clear();
        for id in &all {
            if !net.nodes[id].is_up {
                net.start(*id);
            }
        }
        assert!(net.run_until(300_000, Net::is_settled), "seed {seed}");
        net.run(5_000);
        assert!(net.is_settled(), "seed {seed}");
    }
}
