//! Whole ensembles of the pure state machine: hosts with a disk and a stand-in for the core, joined by a network of bytes.
//! Nothing happens by itself: [`Net::events`] says what could happen next, the caller chooses, [`Net::perform`] does it. So
//! a scenario, a search (`tests/zab`) and a random walk can share this. All that happens is judged as it happens (checks):
//! what is wrong panics.
#![allow(dead_code)]

mod checks;
mod disk;
pub mod walk;

use checks::{Checks, Wire};
pub use disk::Disk;
use ostler_replication::packet::{PeerState, QuorumPacket, Side, handshake, notification, quorum};
use ostler_replication::{
    Answer, Ask, Broadcast, CacheLimits, ElectionSettings, Ensemble, Epoch, Input, Link, Members, Moment,
    Output, Outputs, Packet, Port, Proposal, Recovered, Role, ServerId, SessionBits, Settings, Ticket, Zxid,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

pub type Record = (Zxid, Vec<u8>);

pub fn z(epoch: u32, counter: u32) -> Zxid {
    Zxid::new(Epoch(epoch), counter)
}

pub fn members(voters: u64, observers: u64) -> Arc<Members> {
    let line = |id| {
        let role = if id <= voters { "participant" } else { "observer" };
        format!("server.{id}=h{id}:2888:3888:{role}\n")
    };
    let lines: Vec<String> = (1..=voters + observers).map(line).collect();
    Arc::new(Members::parse(&lines.concat()).unwrap())
}

pub fn settings(me: u64, members: &Arc<Members>) -> Settings {
    Settings {
        me: ServerId(me),
        members: members.clone(),
        is_observer: !members.is_voter(ServerId(me)),
        tick_ms: 100,
        init_limit: 10,
        sync_limit: 5,
        connect_limit: 0,
        cache: CacheLimits { txns: 500, bytes: 1 << 20 },
        link_bytes_max: 1 << 20,
        uncommitted_bytes_max: 1 << 20,
        is_reconfig_enabled: false,
        election: ElectionSettings::default(),
    }
}

/// A record as every server writes it: a txn header, of which only the zxid means anything here, and something unique.
pub fn record(zxid: Zxid, what: u64) -> Record {
    let mut entry = vec![0; 12];
    entry.extend_from_slice(&zxid.0.to_be_bytes());
    entry.extend_from_slice(&what.to_be_bytes());
    (zxid, entry)
}

pub fn proposal(records: &[Record]) -> Proposal {
    let mut bytes = Vec::new();
    for (_, entry) in records {
        bytes.extend_from_slice(&(entry.len() as u32).to_be_bytes());
        bytes.extend_from_slice(entry);
    }
    Proposal { first: records[0].0, last: records[records.len() - 1].0, records: bytes.into() }
}

pub fn records(proposal: &Proposal) -> Vec<Record> {
    proposal.entries().map(|entry| (quorum::entry_zxid(entry).unwrap(), entry.to_vec())).collect()
}

/// The words for a packet in traces.
pub fn words(packet: &QuorumPacket) -> String {
    match packet {
        QuorumPacket::Ask(_) => "REQUEST".into(),
        QuorumPacket::Proposal { zxid, .. } => format!("PROPOSAL {zxid:?}"),
        QuorumPacket::Ack(zxid) => format!("ACK {zxid:?}"),
        QuorumPacket::Commit(zxid) => format!("COMMIT {zxid:?}"),
        QuorumPacket::Ping { sessions, .. } if sessions.is_empty() => "PING".into(),
        QuorumPacket::Ping { sessions, .. } => format!("PING of {} sessions", sessions.len()),
        QuorumPacket::Answer(Answer::Synced) => "SYNC".into(),
        QuorumPacket::Answer(_) => "REVALIDATE".into(),
        QuorumPacket::Inform { zxid, .. } => format!("INFORM {zxid:?}"),
        QuorumPacket::NewLeader { zxid, .. } => format!("NEWLEADER {zxid:?}"),
        QuorumPacket::FollowerInfo { accepted, .. } => format!("FOLLOWERINFO {accepted:?}"),
        QuorumPacket::ObserverInfo { accepted, .. } => format!("OBSERVERINFO {accepted:?}"),
        QuorumPacket::LeaderInfo { zxid, .. } => format!("LEADERINFO {zxid:?}"),
        QuorumPacket::AckEpoch { zxid: -1, epoch } => format!("ACKEPOCH -1 {epoch}"),
        QuorumPacket::AckEpoch { zxid, epoch } => format!("ACKEPOCH {:?} {epoch}", Zxid::from_wire(*zxid)),
        QuorumPacket::UpToDate => "UPTODATE".into(),
        QuorumPacket::Diff(zxid) => format!("DIFF {zxid:?}"),
        QuorumPacket::Trunc(zxid) => format!("TRUNC {zxid:?}"),
        QuorumPacket::Snap(zxid) => format!("SNAP {zxid:?}"),
        other => format!("{other:?}"),
    }
}

/// All packets in these bytes.
pub fn decode(bytes: &[u8], from: Side) -> Vec<QuorumPacket> {
    let mut packets = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (packet, used) = quorum::decode(rest, from, 1 << 20).unwrap().expect("whole packets");
        packets.push(packet);
        rest = &rest[used..];
    }
    packets
}

/// What the engine's core would hold.
#[derive(Clone, Default)]
pub struct Core {
    /// Runs ahead of what is shown on a leader, and after a start.
    pub world: Vec<Record>,
    pub shown: usize,
    pub role: Option<Role>,
    pub next: Zxid,
    /// Records were delivered, and no role has come yet that may show them.
    is_ahead: bool,
    pub passed: Vec<Ticket>,
    pub asked: Vec<(Link, Ask)>,
    pub answered: Vec<Answer>,
    pub touches: Vec<(SessionBits, i32)>,
    pub lost: Vec<Link>,
    pub reports: Vec<String>,
}

#[derive(Clone)]
pub struct Host {
    pub ensemble: Option<Ensemble>,
    pub settings: Settings,
    pub disk: Disk,
    pub core: Core,
    pub log: VecDeque<(u64, Output)>,
    reads: VecDeque<(u64, Output)>,
    /// The disk does not answer.
    pub is_log_held: bool,
    /// The process stands still, its clock too.
    pub is_paused: bool,
    ends: BTreeMap<Link, (u64, usize)>,
    /// Counts the links of this host.
    links: u64,
    outputs: Outputs,
}

#[derive(Clone, Hash)]
enum Item {
    Bytes(Arc<[u8]>),
    Snapshot(Zxid, Vec<Record>),
    Close,
}

#[derive(Clone, Default)]
struct End {
    host: u64,
    link: Option<Link>,
    /// On its way to this end.
    queue: VecDeque<(u64, Item)>,
    unread: Vec<u8>,
    /// Of the bytes that this end has sent, those that the other has taken.
    taken: u64,
    snapshot: Option<(Zxid, Vec<Record>)>,
    is_closed: bool,
}

#[derive(Clone)]
struct Connection {
    port: Port,
    /// The first one dialled.
    ends: [End; 2],
    /// What a learner of Apache's would make of what its leader sends here.
    wire: Wire,
}

/// What could happen next. Named so that it means the same in another run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Event {
    Dial {
        from: u64,
        to: u64,
        port: Port,
    },
    /// The oldest of what is on its way on one connection; `nth`: of the connections between these two, from the oldest.
    Deliver {
        from: u64,
        to: u64,
        port: Port,
        nth: usize,
    },
    Log(u64),
    Read(u64),
}

impl Event {
    /// Whom it happens to.
    pub fn host(self) -> u64 {
        match self {
            Event::Dial { from, .. } => from,
            Event::Deliver { to, .. } => to,
            Event::Log(id) | Event::Read(id) => id,
        }
    }
}

#[derive(Clone)]
pub struct Net {
    pub now: Moment,
    pub hosts: BTreeMap<u64, Host>,
    connections: BTreeMap<u64, Connection>,
    dials: BTreeMap<u64, (u64, u64, Port)>,
    /// Between these nothing arrives, and nothing is heard of that.
    pub cut: BTreeSet<(u64, u64)>,
    /// The same in one direction.
    pub cut_one_way: BTreeSet<(u64, u64)>,
    sequence: u64,
    /// What any host has shown, in order.
    pub history: Vec<Record>,
    pub leaders: BTreeMap<Epoch, u64>,
    checks: Checks,
    /// Records and barriers so far: what is unique in each.
    asked: u64,
    pub is_traced: bool,
    pub trace: Vec<String>,
}

impl Net {
    pub fn new(voters: u64, observers: u64) -> Net {
        let members = members(voters, observers);
        let hosts = (1..=voters + observers).map(|id| {
            let host = Host {
                ensemble: None,
                settings: settings(id, &members),
                disk: Disk::default(),
                core: Core::default(),
                log: VecDeque::new(),
                reads: VecDeque::new(),
                is_log_held: false,
                is_paused: false,
                ends: BTreeMap::new(),
                links: 0,
                outputs: Outputs::new(),
            };
            (id, host)
        });
        Net {
            now: Moment::from_millis(1000),
            hosts: hosts.collect(),
            connections: BTreeMap::new(),
            dials: BTreeMap::new(),
            cut: BTreeSet::new(),
            cut_one_way: BTreeSet::new(),
            sequence: 0,
            history: Vec::new(),
            leaders: BTreeMap::new(),
            checks: Checks::new(voters),
            asked: 0,
            is_traced: true,
            trace: Vec::new(),
        }
    }

    pub fn host(&mut self, id: u64) -> &mut Host {
        self.hosts.get_mut(&id).unwrap()
    }

    fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        if self.is_traced {
            self.trace.push(line());
        }
    }

    // Processes.

    pub fn start(&mut self, id: u64) {
        let now = self.now;
        let host = self.host(id);
        let recovered = Recovered { epochs: host.disk.epochs(), logged: host.disk.last() };
        let mut outputs = Outputs::new();
        host.core = Core { world: host.disk.world(), ..Core::default() };
        match Ensemble::new(host.settings.clone(), recovered, now, &mut outputs) {
            Ok(ensemble) => host.ensemble = Some(ensemble),
            Err(lost) => panic!("server {id} does not start: {lost}"),
        }
        host.outputs = outputs;
        self.note(|| format!("{id} starts"));
        self.obey(id);
    }

    /// `done`: so many requests of the log's queue are still carried out; `tears`: of the next one its first record.
    pub fn crash(&mut self, id: u64, done: usize, tears: bool) {
        for _ in 0..done {
            self.log_one(id, false);
        }
        let host = self.host(id);
        if let Some((_, Output::Append { proposal, .. })) = host.log.front()
            && tears
        {
            let first = records(proposal).swap_remove(0);
            host.disk.log.push(first);
            self.check_disk(id);
        }
        let host = self.host(id);
        host.ensemble = None;
        host.log.clear();
        host.reads.clear();
        host.core = Core::default();
        let links: Vec<Link> = host.ends.keys().copied().collect();
        for link in links {
            self.close(id, link);
        }
        self.dials.retain(|_, dial| dial.0 != id);
        for connection in self.connections.values_mut() {
            let is_its: Vec<usize> = (0..2).filter(|&end| connection.ends[end].host == id).collect();
            for end in is_its {
                connection.ends[end].is_closed = true;
                connection.ends[end].queue.clear();
            }
        }
        let orphans: Vec<u64> = self.connections.keys().copied().collect();
        for number in orphans {
            let sequence = self.next_sequence();
            let connection = self.connections.get_mut(&number).unwrap();
            for end in 0..2 {
                if connection.ends[1 - end].is_closed && !connection.ends[end].is_closed {
                    let has_close =
                        connection.ends[end].queue.iter().any(|(_, item)| matches!(item, Item::Close));
                    if !has_close {
                        connection.ends[end].queue.push_back((sequence, Item::Close));
                    }
                }
            }
        }
        self.note(|| format!("{id} crashes"));
    }

    pub fn step(&mut self, id: u64, input: Input) {
        let now = self.now;
        if let Input::Barrier(ticket) = input {
            self.checks.asked(id, ticket, self.history.len());
        }
        let host = self.host(id);
        let Some(ensemble) = &mut host.ensemble else { return };
        ensemble.step(input, now, &mut host.outputs);
        self.obey(id);
    }

    // The core's part.

    pub fn propose(&mut self, id: u64, what: &[u64]) {
        let host = self.host(id);
        let mut batch = Vec::new();
        for &what in what {
            batch.push(record(host.core.next, what));
            host.core.next = host.core.next.successor().unwrap();
        }
        host.core.world.extend(batch.iter().cloned());
        self.checks.proposed(id, &batch);
        self.step(id, Input::Propose(proposal(&batch)));
    }

    pub fn leader(&self) -> Option<u64> {
        let leads = |host: &Host| host.core.role == Some(Role::Leading);
        self.hosts
            .iter()
            .filter(|(_, host)| leads(host))
            .map(|(&id, _)| id)
            .max_by_key(|id| self.hosts[id].disk.epochs.1)
    }

    pub fn is_serving(&self, id: u64) -> bool {
        !matches!(self.hosts[&id].core.role, None | Some(Role::Looking))
    }

    fn obey(&mut self, id: u64) {
        while let Some(output) = self.host(id).outputs.pop_front() {
            self.obey_one(id, output);
        }
        assert!(
            !self.hosts[&id].core.is_ahead,
            "server {id} shows records while its leader's epoch may never be established"
        );
    }

    fn obey_one(&mut self, id: u64, output: Output) {
        match output {
            Output::Append { .. }
            | Output::Persist { .. }
            | Output::Truncate { .. }
            | Output::Install { .. } => {
                let sequence = self.next_sequence();
                self.host(id).log.push_back((sequence, output));
            }
            Output::ReadHistory { .. } => {
                let sequence = self.next_sequence();
                self.host(id).reads.push_back((sequence, output));
            }
            Output::Lead(epoch) => {
                let other = self.leaders.insert(epoch, id);
                assert!(other.is_none(), "epoch {epoch:?} has two leaders, {other:?} and {id}");
                let core = &mut self.host(id).core;
                core.next = z(epoch.0, 1);
                self.show_all(id);
                self.check_established(id, epoch);
            }
            Output::Commit(zxid) => {
                let core = &mut self.host(id).core;
                core.shown = core.world.iter().take_while(|record| record.0 <= zxid).count();
                assert_eq!(core.world[core.shown - 1].0, zxid);
                self.check(id);
            }
            Output::Deliver(proposal) => {
                for record in records(&proposal) {
                    let world = &mut self.host(id).core.world;
                    assert!(
                        world.last().is_none_or(|last| last.0 < record.0),
                        "{record:?} is delivered late"
                    );
                    world.push(record);
                }
                if self.is_serving(id) {
                    self.show_all(id);
                } else {
                    self.host(id).core.is_ahead = true;
                }
            }
            Output::Role(role) => {
                self.note(|| format!("{id} {role:?}"));
                let core = &mut self.host(id).core;
                let was = core.role.replace(role);
                match role {
                    Role::Looking if was.is_some() => {
                        let shown = core.shown;
                        core.world.truncate(shown);
                    }
                    Role::Looking => {}
                    _ => {
                        self.show_all(id);
                        self.check_not_behind(id);
                    }
                }
            }
            Output::Passed(ticket) => {
                self.host(id).core.passed.push(ticket);
                self.check_barrier(id, ticket);
            }
            Output::Asked(link, ask) => self.host(id).core.asked.push((link, ask)),
            Output::Answered(answer) => self.host(id).core.answered.push(answer),
            Output::Touches(_, touches) => self.host(id).core.touches.extend(touches),
            Output::Lost(link) => self.host(id).core.lost.push(link),
            Output::Report(report) => {
                self.note(|| format!("{id} reports: {report}"));
                checks::no_accusation(id, &report);
                self.host(id).core.reports.push(report);
            }
            Output::Dial { peer, port, .. } => {
                let sequence = self.next_sequence();
                self.dials.insert(sequence, (id, peer.0, port));
            }
            Output::Send(link, bytes) => self.send(id, link, Item::Bytes(bytes)),
            Output::SendSnapshot(link) => {
                let core = &self.host(id).core;
                let until = if core.role == Some(Role::Leading) { core.shown } else { core.world.len() };
                let world = core.world[..until].to_vec();
                let zxid = world.last().map_or(Zxid::ZERO, |record| record.0);
                self.send(id, link, Item::Snapshot(zxid, world));
            }
            Output::TakeSnapshot(_) => {}
            Output::Hang(link, why) => {
                self.note(|| format!("{id} hangs up on {}: {why}", link.peer.0));
                checks::no_accusation(id, &why);
                self.close(id, link);
            }
        }
    }

    fn show_all(&mut self, id: u64) {
        let core = &mut self.host(id).core;
        core.shown = core.world.len();
        core.is_ahead = false;
        self.check(id);
    }

    // Connections.

    fn send(&mut self, id: u64, link: Link, item: Item) {
        let sequence = self.next_sequence();
        let Some(&(number, end)) = self.hosts[&id].ends.get(&link) else { return };
        let connection = self.connections.get_mut(&number).unwrap();
        let to = connection.ends[1 - end].host;
        let mut reported = None;
        match (connection.port, &item) {
            (Port::Quorum, Item::Bytes(bytes)) => {
                let side = if end == 0 { Side::Learner } else { Side::Leader };
                for packet in decode(bytes, side) {
                    if self.is_traced {
                        self.trace.push(format!("{id}>{to} {}", words(&packet)));
                    }
                    if side == Side::Leader {
                        connection.wire.check(id, to, &packet);
                    } else if let QuorumPacket::AckEpoch { zxid, .. } = packet {
                        reported = Some(zxid);
                    }
                }
            }
            (Port::Election, Item::Bytes(bytes)) => {
                if let Ok(Some((Some(vote), _))) = notification::decode(bytes)
                    && vote.state == PeerState::Looking
                    && vote.leader == id as i64
                {
                    self.check_vote(id, to, vote.zxid);
                }
            }
            _ => {}
        }
        if let Some(zxid) = reported {
            self.check_report(id, zxid);
        }
        let ends = &mut self.connections.get_mut(&number).unwrap().ends;
        if ends[end].queue.iter().any(|(_, item)| matches!(item, Item::Close)) {
            return;
        }
        if ends[1 - end].is_closed {
            // The other host knows nothing of this connection any more, and says so.
            return ends[end].queue.push_back((sequence, Item::Close));
        }
        ends[1 - end].queue.push_back((sequence, item));
    }

    fn close(&mut self, id: u64, link: Link) {
        let sequence = self.next_sequence();
        let Some((number, end)) = self.host(id).ends.remove(&link) else { return };
        let connection = self.connections.get_mut(&number).unwrap();
        connection.ends[end].is_closed = true;
        connection.ends[end].queue.clear();
        connection.ends[1 - end].queue.push_back((sequence, Item::Close));
    }

    /// All connections between two hosts break, and both hear of it.
    pub fn break_links(&mut self, a: u64, b: u64) {
        let numbers: Vec<u64> = self.connections.keys().copied().collect();
        for number in numbers {
            let sequence = self.next_sequence();
            let connection = self.connections.get_mut(&number).unwrap();
            let pair = [connection.ends[0].host, connection.ends[1].host];
            if pair == [a, b] || pair == [b, a] {
                for end in &mut connection.ends {
                    end.queue.clear();
                    end.queue.push_back((sequence, Item::Close));
                }
            }
        }
    }

    /// `a` has lost all connections to `b`, which does not know until it sends something.
    pub fn break_one_side(&mut self, a: u64, b: u64) {
        let numbers: Vec<u64> = self.connections.keys().copied().collect();
        for number in numbers {
            let sequence = self.next_sequence();
            let ends = &mut self.connections.get_mut(&number).unwrap().ends;
            if !ends.iter().any(|end| end.host == a) || !ends.iter().any(|end| end.host == b) || a == b {
                continue;
            }
            for end in 0..2 {
                if ends[end].host == a {
                    // What `b` has under way will not be acknowledged, and that tells it. What `a` has sent still arrives.
                    let is_told = !ends[end].queue.is_empty();
                    ends[end].queue.clear();
                    ends[end].queue.push_back((sequence, Item::Close));
                    let knows = ends[1 - end].queue.iter().any(|(_, item)| matches!(item, Item::Close));
                    if is_told && !knows {
                        ends[1 - end].queue.push_back((sequence, Item::Close));
                    }
                }
            }
        }
    }

    /// What `a` has sent to all others and they have not taken is lost.
    pub fn lose(&mut self, a: u64) {
        for connection in self.connections.values_mut() {
            for end in 0..2 {
                if connection.ends[1 - end].host == a {
                    connection.ends[end].queue.retain(|(_, item)| matches!(item, Item::Close));
                }
            }
        }
    }

    fn is_cut(&self, from: u64, to: u64) -> bool {
        self.cut.contains(&(from, to))
            || self.cut.contains(&(to, from))
            || self.cut_one_way.contains(&(from, to))
    }

    // Events.

    pub fn events(&self) -> Vec<(u64, Event)> {
        let mut events = Vec::new();
        for (&sequence, &(from, to, port)) in &self.dials {
            if !self.is_cut(from, to) && !self.is_cut(to, from) {
                events.push((sequence, Event::Dial { from, to, port }));
            }
        }
        let mut counts: Vec<((u64, u64, Port), usize)> = Vec::new();
        for connection in self.connections.values() {
            for end in 0..2 {
                let (from, to) = (connection.ends[1 - end].host, connection.ends[end].host);
                let key = (from, to, connection.port);
                let nth = match counts.iter_mut().find(|(known, _)| *known == key) {
                    Some((_, count)) => {
                        *count += 1;
                        *count
                    }
                    None => {
                        counts.push((key, 0));
                        0
                    }
                };
                if let Some(&(sequence, _)) = connection.ends[end].queue.front()
                    && !connection.ends[end].is_closed
                    && !self.is_cut(from, to)
                {
                    events.push((sequence, Event::Deliver { from, to, port: connection.port, nth }));
                }
            }
        }
        for (&id, host) in &self.hosts {
            if let Some(&(sequence, _)) = host.log.front()
                && !host.is_log_held
            {
                events.push((sequence, Event::Log(id)));
            }
            if let Some(&(sequence, _)) = host.reads.front() {
                events.push((sequence, Event::Read(id)));
            }
        }
        events.retain(|(_, event)| !self.hosts[&event.host()].is_paused);
        events.sort_unstable();
        events
    }

    /// False when there is nothing of the kind to happen.
    pub fn perform(&mut self, event: Event) -> bool {
        match event {
            Event::Dial { from, to, port } => {
                let found = self.dials.iter().find(|(_, dial)| **dial == (from, to, port));
                let Some(sequence) = found.map(|(&sequence, _)| sequence) else { return false };
                self.dialled(sequence);
            }
            Event::Deliver { from, to, port, nth } => {
                let fits = |connection: &Connection, end: usize| {
                    let pair = (connection.ends[1 - end].host, connection.ends[end].host);
                    connection.port == port && pair == (from, to)
                };
                let mut all = self.connections.iter().flat_map(|(&number, connection)| {
                    (0..2).filter(move |&end| fits(connection, end)).map(move |end| (number, end))
                });
                let Some((number, end)) = all.nth(nth) else { return false };
                let end_of = &self.connections[&number].ends[end];
                if end_of.queue.is_empty() || end_of.is_closed {
                    return false;
                }
                self.deliver(number, end);
                self.connections.retain(|_, connection| connection.ends.iter().any(|end| !end.is_closed));
            }
            Event::Log(id) => {
                if self.hosts[&id].log.is_empty() {
                    return false;
                }
                self.log_one(id, true);
            }
            Event::Read(id) => {
                if self.hosts[&id].reads.is_empty() {
                    return false;
                }
                self.read(id);
            }
        }
        true
    }

    /// Equal for states that go on in the same ways, in the order in which things are on their way too.
    pub fn hash_state(&self, hasher: &mut impl Hasher) {
        self.now.hash(hasher);
        let mut order: Vec<u64> = self.dials.keys().copied().collect();
        for dial in self.dials.values() {
            dial.hash(hasher);
        }
        for (id, host) in &self.hosts {
            id.hash(hasher);
            host.ensemble.hash(hasher);
            host.disk.hash(hasher);
            host.is_log_held.hash(hasher);
            host.core.world.hash(hasher);
            (host.core.shown, host.core.role, host.core.next).hash(hasher);
            for (sequence, output) in host.log.iter().chain(&host.reads) {
                order.push(*sequence);
                hash_request(output, hasher);
            }
        }
        for connection in self.connections.values() {
            connection.port.hash(hasher);
            for end in &connection.ends {
                (end.host, end.link, end.taken, end.is_closed).hash(hasher);
                end.unread.hash(hasher);
                end.snapshot.hash(hasher);
                end.queue.len().hash(hasher);
                for (sequence, item) in &end.queue {
                    order.push(*sequence);
                    item.hash(hasher);
                }
            }
        }
        self.cut.hash(hasher);
        self.history.len().hash(hasher);
        let mut ranks: Vec<usize> = (0..order.len()).collect();
        ranks.sort_unstable_by_key(|&index| order[index]);
        ranks.hash(hasher);
    }

    fn dialled(&mut self, sequence: u64) {
        let Some((from, to, port)) = self.dials.remove(&sequence) else { return };
        if self.hosts[&to].ensemble.is_none() {
            return self.step(from, Input::Unreachable { peer: ServerId(to), port });
        }
        let number = self.next_sequence();
        let link = self.next_link(from, to);
        let ends =
            [End { host: from, link: Some(link), ..End::default() }, End { host: to, ..End::default() }];
        self.connections.insert(number, Connection { port, ends, wire: Wire::default() });
        self.host(from).ends.insert(link, (number, 0));
        self.step(from, Input::Linked { link, port, dialled: true, addresses: Vec::new() });
    }

    fn next_link(&mut self, id: u64, peer: u64) -> Link {
        let host = self.host(id);
        host.links += 1;
        Link { peer: ServerId(peer), number: host.links }
    }

    fn deliver(&mut self, number: u64, end: usize) {
        let connection = self.connections.get_mut(&number).unwrap();
        let Some((_, item)) = connection.ends[end].queue.pop_front() else { return };
        let id = connection.ends[end].host;
        let port = connection.port;
        match item {
            Item::Close => {
                connection.ends[end].is_closed = true;
                let ends = &mut connection.ends;
                let knows = ends[1 - end].queue.iter().any(|(_, item)| matches!(item, Item::Close));
                if !ends[end].queue.is_empty() && !knows {
                    // What came behind is not taken any more, which tells the other one.
                    ends[1 - end].queue.push_back((number, Item::Close));
                }
                if let Some(link) = connection.ends[end].link {
                    self.host(id).ends.remove(&link);
                    self.step(id, Input::Unlinked(link));
                }
            }
            Item::Snapshot(zxid, world) => {
                connection.ends[end].snapshot = Some((zxid, world));
                if let Some(link) = connection.ends[end].link {
                    self.step(id, Input::Streamed { link, done: true });
                }
            }
            Item::Bytes(bytes) => {
                connection.ends[end].unread.extend_from_slice(&bytes);
                let sender = &mut connection.ends[1 - end];
                sender.taken += bytes.len() as u64;
                let (taken, sender_host) = (sender.taken, sender.host);
                let sender_link = sender.link.filter(|_| !sender.is_closed);
                while self.read_one(number, end, id, port) {}
                if let Some(link) = sender_link
                    && self.hosts[&sender_host].ends.contains_key(&link)
                {
                    self.step(sender_host, Input::Drained(link, taken));
                }
            }
        }
    }

    /// Decodes one message and hands it over; false when there is none.
    fn read_one(&mut self, number: u64, end: usize, id: u64, port: Port) -> bool {
        let connection = self.connections.get_mut(&number).unwrap();
        let from = connection.ends[1 - end].host;
        let this = &mut connection.ends[end];
        if this.is_closed || this.unread.is_empty() {
            return false;
        }
        let accepts = end == 1;
        let known = this.link;
        if port == Port::Election {
            if accepts && known.is_none() {
                let Some((hello, used)) = handshake::decode(&this.unread).unwrap() else { return false };
                this.unread.drain(..used);
                assert_eq!(hello.peer, Some(ServerId(from)));
                self.accept(number, end, id, from, port, hello.addresses);
                return true;
            }
            let Some((message, used)) = notification::decode(&this.unread).unwrap() else { return false };
            this.unread.drain(..used);
            if let (Some(link), Some(message)) = (known, message) {
                self.step(id, Input::Received(link, Packet::Notification(message)));
            }
            return true;
        }
        let side = if accepts { Side::Learner } else { Side::Leader };
        let Some((packet, used)) = quorum::decode(&this.unread, side, 1 << 20).unwrap() else { return false };
        this.unread.drain(..used);
        if accepts && known.is_none() {
            self.accept(number, end, id, from, port, Vec::new());
        }
        if let Some(link) = self.connections[&number].ends[end].link {
            self.step(id, Input::Received(link, Packet::Quorum(packet)));
        }
        true
    }

    fn accept(&mut self, number: u64, end: usize, id: u64, from: u64, port: Port, addresses: Vec<String>) {
        let link = self.next_link(id, from);
        self.connections.get_mut(&number).unwrap().ends[end].link = Some(link);
        self.host(id).ends.insert(link, (number, end));
        self.step(id, Input::Linked { link, port, dialled: false, addresses });
    }

    // Going on.

    pub fn next_timeout(&self) -> Option<Moment> {
        let running = self.hosts.values().filter(|host| !host.is_paused);
        running.filter_map(|host| host.ensemble.as_ref()?.next_timeout()).min()
    }

    /// The next thing in the order in which it came about, or the next timer. False when nothing is left to happen.
    pub fn turn(&mut self) -> bool {
        if let Some(&(_, event)) = self.events().first() {
            self.perform(event);
            return true;
        }
        self.next_timers()
    }

    /// Time goes on to the next timer, and it rings. False when there is none.
    pub fn next_timers(&mut self) -> bool {
        let Some(at) = self.next_timeout() else { return false };
        self.now = self.now.max(at);
        let now = self.now;
        for id in self.hosts.keys().copied().collect::<Vec<_>>() {
            let is_due = |ensemble: &Ensemble| ensemble.next_timeout().is_some_and(|at| at <= now);
            let host = &self.hosts[&id];
            if !host.is_paused && host.ensemble.as_ref().is_some_and(is_due) {
                self.step(id, Input::Timeout);
            }
        }
        true
    }

    /// Everything that needs no timer.
    pub fn quiesce(&mut self) {
        for _ in 0..20_000 {
            let Some(&(_, event)) = self.events().first() else { return };
            self.perform(event);
        }
        panic!("no quiet: {}\n{}", self.due(), self.tail());
    }

    pub fn run_ms(&mut self, ms: u64) {
        let end = self.now.plus_millis(ms);
        self.quiesce();
        let mut turns = 0;
        while self.next_timeout().is_some_and(|at| at <= end) && self.turn() {
            self.quiesce();
            turns += 1;
            assert!(turns < 3_000, "a timer does not stop ringing: {}\n{}", self.due(), self.tail());
        }
        self.now = self.now.max(end);
    }

    /// Runs until it holds, for at most a simulated minute.
    pub fn until(&mut self, what: &str, holds: impl Fn(&Net) -> bool) {
        let end = self.now.plus_millis(60_000);
        for turn in 0.. {
            if holds(self) {
                return;
            }
            assert!(turn < 20_000, "{}goes round in circles: {what}\n{}", self.due(), self.tail());
            assert!(self.now < end, "never: {what}\n{}", self.tail());
            assert!(self.turn(), "nothing left to happen: {what}\n{}", self.tail());
        }
    }

    fn due(&self) -> String {
        let ensembles = self.hosts.iter().filter_map(|(id, host)| Some((id, host.ensemble.as_ref()?)));
        let lines = ensembles.map(|(id, it)| format!("{id}: {:?} {:?}\n", it.next_timeout(), it.status()));
        format!("now {:?}\n{}", self.now, lines.collect::<String>())
    }

    pub fn tail(&self) -> String {
        self.trace[self.trace.len().saturating_sub(60)..].join("\n")
    }

    pub fn until_all_serve(&mut self) {
        self.until("all that run serve", |net| {
            net.hosts.iter().all(|(&id, host)| host.ensemble.is_none() || net.is_serving(id))
                && net.leader().is_some()
        });
        self.quiesce();
    }

    /// Everybody shows everything that anybody has shown.
    pub fn check_all_equal(&mut self) {
        let history = self.history.len();
        self.until("all show the same", |net| {
            let up = net.hosts.values().filter(|host| host.ensemble.is_some());
            up.into_iter().all(|host| host.core.shown == history)
        });
        for (id, host) in &self.hosts {
            if host.ensemble.is_some() {
                assert_eq!(host.core.world[..host.core.shown], self.history[..], "server {id}");
            }
        }
    }
}

fn hash_request(request: &Output, hasher: &mut impl Hasher) {
    match request {
        Output::Append { number, proposal } => (0, number, proposal).hash(hasher),
        Output::Persist { number, epochs } => (1, number, epochs).hash(hasher),
        Output::Truncate { number, to } => (2, number, to).hash(hasher),
        Output::Install { number, link, zxid } => (3, number, link, zxid).hash(hasher),
        Output::ReadHistory { number, link, after, to } => (4, number, link, after, to).hash(hasher),
        _ => unreachable!("not for the log"),
    }
}

/// For scripts of one server: a vote as a peer casts it.
pub fn vote(
    state: PeerState,
    leader: u64,
    zxid: Zxid,
    round: i64,
    epoch: u32,
) -> ostler_replication::packet::Notification {
    ostler_replication::packet::Notification {
        state,
        leader: leader as i64,
        zxid: zxid.to_wire(),
        round,
        epoch: epoch.into(),
        version: notification::VERSION,
        config: None,
    }
}
