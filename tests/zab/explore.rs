//! Every course that events can take within bounds, for three servers. From each state a search goes on in all ways; states
//! that it has seen it does not enter again.
//!
//! What is in the bounds:
//! - **Order.** By themselves things happen in the order in which they came to be under way, and timers ring when nothing
//!   else is left. A *hold* stops one connection of the quorum port, or one disk, at any moment, until nothing else can
//!   happen. So many holds, so many departures from that order.
//! - **Crashes** of any server at any moment, with each number of its log's requests still carried out, and with what it has
//!   sent lost or arriving. It starts again whenever nothing else is left to happen but timers.
//! - **Breaks** of the connections between two servers, at any moment.
//! - **Txns** proposed by whoever leads, at any moment.
//!
//! Happenings at two servers do not depend on each other, but for what they send: so a fault strikes a server only right
//! behind something that happened to it, which takes no outcome away. At the end of each course everything heals, and the
//! ensemble must go on.

use crate::net::walk::Move;
use crate::net::{Event, Net, record, z};
use crate::{Failure, caught};
use ostler_replication::{Port, Role};
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Without anybody new serving for so long, there is nothing more to wait for.
const PATIENCE_MS: u64 = 10_000;
/// Hashes of states take 9 bytes each and some room to grow.
const STATES_MAX: usize = 60_000_000;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Bounds {
    pub txns: u32,
    pub crashes: u32,
    pub breaks: u32,
    pub holds: u32,
}

impl Bounds {
    pub fn growing() -> impl Iterator<Item = Bounds> {
        let bounds = |txns, crashes, breaks, holds| Bounds { txns, crashes, breaks, holds };
        [
            bounds(0, 1, 0, 0),
            bounds(1, 1, 0, 0),
            bounds(0, 0, 1, 1),
            bounds(1, 0, 1, 0),
            bounds(0, 2, 0, 0),
            bounds(0, 1, 0, 1),
            bounds(2, 1, 0, 0),
            bounds(1, 1, 0, 1),
            bounds(1, 0, 1, 1),
            bounds(1, 2, 0, 0),
            bounds(1, 1, 1, 0),
            bounds(0, 2, 0, 1),
            bounds(2, 0, 1, 1),
            bounds(3, 1, 0, 0),
            bounds(2, 2, 0, 0),
            bounds(3, 2, 0, 0),
            bounds(1, 1, 1, 1),
            bounds(2, 1, 1, 1),
            bounds(3, 2, 0, 1),
            bounds(3, 2, 1, 1),
            bounds(3, 2, 1, 2),
        ]
        .into_iter()
    }

    pub fn words(self) -> String {
        let Bounds { txns, crashes, breaks, holds } = self;
        format!("{txns} txns, {crashes} crashes, {breaks} breaks, {holds} holds")
    }
}

/// Where a search begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Start {
    /// All are in sync, and nothing has been proposed.
    Calm,
    /// All start. An earlier leader has a record that nobody else has, and so has a later one.
    Torn,
    /// One that has not got a record which was committed starts with one that has; the other is still down.
    Lagging,
    /// The same with a blank one, while the others have a snapshot and no log before it.
    Blank,
}

impl Start {
    pub const ALL: [Start; 4] = [Start::Calm, Start::Torn, Start::Lagging, Start::Blank];

    pub fn net(self) -> Net {
        let mut net = Net::new(3, 0);
        for id in 1..=3 {
            net.host(id).settings.cache.txns = if id == 2 { 500 } else { 1 };
        }
        let common = record(z(1, 1), 1);
        let disks = match self {
            Start::Calm => [(vec![], (0, 0)), (vec![], (0, 0)), (vec![], (0, 0))],
            Start::Torn => [
                (vec![common.clone(), record(z(1, 2), 2)], (1, 1)),
                (vec![common.clone()], (2, 2)),
                (vec![common, record(z(2, 1), 3)], (2, 2)),
            ],
            Start::Lagging | Start::Blank => {
                let both = vec![common.clone(), record(z(1, 2), 2)];
                let third = if self == Start::Lagging { vec![common] } else { vec![] };
                let epochs = if self == Start::Lagging { (1, 1) } else { (0, 0) };
                [(both.clone(), (1, 1)), (both, (1, 1)), (third, epochs)]
            }
        };
        // What more than one has was committed.
        net.history = if self == Start::Torn { vec![disks[1].0[0].clone()] } else { disks[1].0.clone() };
        for (id, (log, epochs)) in (1..).zip(disks) {
            let disk = &mut net.host(id).disk;
            disk.epochs = epochs;
            if self == Start::Blank && id < 3 {
                disk.snapshot = (z(1, 2), log);
            } else {
                disk.log = log;
            }
        }
        let first = if matches!(self, Start::Lagging | Start::Blank) { 2 } else { 1 };
        for id in first..=3 {
            net.start(id);
        }
        if self == Start::Calm {
            net.until_all_serve();
        }
        net.trace.clear();
        net.is_traced = false;
        net
    }
}

#[derive(Default)]
pub struct Figures {
    pub states: usize,
    pub ends: usize,
}

pub enum Found {
    Nothing,
    OutOfTime,
    Failure(Box<Failure>),
}

/// What is held back: everything of a connection's direction, or a disk.
type Source = Event;

/// The moves that led somewhere, the last one first.
struct Path {
    last: Move,
    before: Option<Rc<Path>>,
}

#[derive(Clone)]
struct Node {
    net: Net,
    left: Bounds,
    held: Vec<Source>,
    /// When something but a timer happened last.
    since_ms: u64,
    path: Option<Rc<Path>>,
}

impl Node {
    fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.net.hash_state(&mut hasher);
        self.left.hash(&mut hasher);
        self.held.hash(&mut hasher);
        hasher.finish()
    }

    fn moves(&self) -> Vec<Move> {
        let mut moves = Vec::new();
        let mut at = self.path.as_ref();
        while let Some(path) = at {
            moves.push(path.last);
            at = path.before.as_ref();
        }
        moves.reverse();
        moves
    }
}

pub fn explore(start: Start, bounds: Bounds, limit: Duration) -> (Figures, Found) {
    let end = Instant::now() + limit;
    let mut search = Search { start, seen: HashSet::new(), stack: Vec::new(), figures: Figures::default() };
    let net = match caught(|| start.net()) {
        Ok(net) => net,
        Err(why) => {
            let failure = Failure { start: Box::new(Net::new(3, 0)), moves: Vec::new(), heals: false, why };
            return (search.figures, Found::Failure(Box::new(failure)));
        }
    };
    let since_ms = net.now.as_millis();
    search.stack.push(Node { net, left: bounds, held: Vec::new(), since_ms, path: None });
    while let Some(node) = search.stack.pop() {
        if search.figures.states.is_multiple_of(64)
            && (end <= Instant::now() || STATES_MAX < search.seen.len())
        {
            return (search.figures, Found::OutOfTime);
        }
        if let Err(failure) = search.expand(node) {
            return (search.figures, Found::Failure(failure));
        }
    }
    (search.figures, Found::Nothing)
}

struct Search {
    start: Start,
    seen: HashSet<u64>,
    /// To be gone on from.
    stack: Vec<Node>,
    figures: Figures,
}

type Outcome<T> = Result<T, Box<Failure>>;

impl Search {
    fn expand(&mut self, node: Node) -> Outcome<()> {
        if !self.seen.insert(node.hash()) {
            return Ok(());
        }
        self.figures.states += 1;
        let events: Vec<Event> = node.net.events().into_iter().map(|(_, event)| event).collect();
        let Some(&next) = events.iter().find(|event| !node.held.contains(event)) else {
            return if events.is_empty() { self.at_rest(node) } else { self.release(node) };
        };
        if node.left.holds > 0 && may_be_held(next) {
            let mut held = node.clone();
            held.left.holds -= 1;
            held.held.push(next);
            self.stack.push(held);
        }
        let id = next.host();
        let mut node = self.make(node, Move::Event(next))?;
        node.since_ms = node.net.now.as_millis();
        self.strike(&node, id)?;
        self.stack.push(node);
        Ok(())
    }

    /// What may be done to a server to which something has happened.
    fn strike(&mut self, node: &Node, id: u64) -> Outcome<()> {
        let host = &node.net.hosts[&id];
        if host.ensemble.is_none() {
            return Ok(());
        }
        if node.left.txns > 0 && host.core.role == Some(Role::Leading) {
            let mut node = self.make(node.clone(), Move::Propose { id, records: 1 })?;
            node.left.txns -= 1;
            self.stack.push(node);
        }
        if node.left.breaks > 0 {
            for other in (1..=3).filter(|&other| other != id) {
                let mut node = self.make(node.clone(), Move::Break(id, other))?;
                node.left.breaks -= 1;
                self.stack.push(node);
            }
        }
        if node.left.crashes > 0 {
            for done in 0..=host.log.len().min(2) {
                for loses in [false, true] {
                    let it = Move::Crash { id, done, tears: false, loses };
                    let mut node = self.make(node.clone(), it)?;
                    node.left.crashes -= 1;
                    self.stack.push(node);
                }
            }
        }
        Ok(())
    }

    /// Nothing is left but what is held.
    fn release(&mut self, node: Node) -> Outcome<()> {
        for index in 0..node.held.len() {
            let mut node = node.clone();
            node.held.remove(index);
            self.stack.push(node);
        }
        Ok(())
    }

    /// Nothing is under way: whoever is down may start, a timer may ring, or this is the end.
    fn at_rest(&mut self, mut node: Node) -> Outcome<()> {
        node.held.clear();
        let net = &node.net;
        let up = net.hosts.values().filter(|host| host.ensemble.is_some()).count();
        let down: Vec<u64> =
            net.hosts.iter().filter(|(_, host)| host.ensemble.is_none()).map(|(&id, _)| id).collect();
        let all_serve = (1..=3).all(|id| down.contains(&id) || net.is_serving(id));
        let is_patient = net.now.as_millis() < node.since_ms + PATIENCE_MS;
        let mut is_end = true;
        for &id in &down {
            is_end = false;
            let started = self.make(node.clone(), Move::Start(id))?;
            self.stack.push(started);
        }
        if up >= 2 && !all_serve && is_patient {
            is_end = false;
            let later = self.make(node.clone(), Move::Timers)?;
            self.stack.push(later);
        }
        for id in (1..=3).filter(|_| all_serve) {
            let before = self.stack.len();
            self.strike(&node, id)?;
            is_end &= self.stack.len() == before;
        }
        if is_end {
            self.figures.ends += 1;
            self.heal(node)?;
        }
        Ok(())
    }

    fn make(&self, mut node: Node, it: Move) -> Outcome<Node> {
        node.path = Some(Rc::new(Path { last: it, before: node.path.take() }));
        match caught(|| node.net.make(it)) {
            Ok(_) => Ok(node),
            Err(why) => Err(self.failure(&node, false, why)),
        }
    }

    fn heal(&self, mut node: Node) -> Outcome<()> {
        caught(|| node.net.recover()).map_err(|why| self.failure(&node, true, why))
    }

    fn failure(&self, node: &Node, heals: bool, why: String) -> Box<Failure> {
        Box::new(Failure { start: Box::new(self.start.net()), moves: node.moves(), heals, why })
    }
}

/// Slow connections of the election port only delay elections, which timers do as well.
fn may_be_held(event: Event) -> bool {
    matches!(event, Event::Deliver { port: Port::Quorum, .. } | Event::Log(_))
}
