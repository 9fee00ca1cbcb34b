//! Random walks: whatever may happen next, in any order, with crashes, partitions, broken connections and slow disks; then
//! everything heals, and the ensemble must go on. A walk is a list of moves: the same list is the same run, and a shorter one
//! is a run, too. Not here: what is judged meanwhile (checks).

use super::{Event, Net};
use ostler_replication::{Input, Role, Ticket};

/// Steele, Lea and Flood's splitmix64.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) % bound
    }

    fn among<T: Copy>(&mut self, these: &[T]) -> T {
        these[self.below(these.len() as u64) as usize]
    }
}

/// One thing that happens, or is done to somebody.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Move {
    Event(Event),
    /// Time goes on to the next timer.
    Timers,
    Propose {
        id: u64,
        records: u64,
    },
    Barrier(u64),
    /// So many requests of the log are still carried out, and of the next one its first record if it `tears`. What the
    /// server has sent is lost with it, or arrives.
    Crash {
        id: u64,
        done: usize,
        tears: bool,
        loses: bool,
    },
    Start(u64),
    Break(u64, u64),
    /// The first one has lost all connections to the second, which does not know until it sends something.
    BreakOneSide(u64, u64),
    Cut(u64, u64),
    CutOneWay(u64, u64),
    Heal,
    HoldLog(u64),
    FreeLog(u64),
    /// The process stands still, its clock too.
    Pause(u64),
    Resume(u64),
}

/// The ensemble that a walk begins with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Setup {
    pub voters: u64,
    pub observers: u64,
    /// Of each server: how much history it keeps in memory.
    pub cache: [u64; 8],
}

impl Setup {
    pub fn of(seed: u64) -> Setup {
        let mut random = Random(seed);
        let (voters, observers) = random.among(&[(3, 0), (3, 0), (3, 1), (5, 0), (5, 1), (2, 0)]);
        Setup { voters, observers, cache: std::array::from_fn(|_| random.among(&[1, 3, 500])) }
    }

    pub fn net(&self) -> Net {
        let mut net = Net::new(self.voters, self.observers);
        for id in 1..=self.servers() {
            net.host(id).settings.cache.txns = self.cache[id as usize - 1];
        }
        net
    }

    pub fn servers(&self) -> u64 {
        self.voters + self.observers
    }
}

impl Net {
    /// False when there was nothing of the kind to do.
    pub fn make(&mut self, it: Move) -> bool {
        let leads = |net: &Net, id: u64| net.hosts[&id].core.role == Some(Role::Leading);
        match it {
            Move::Event(event) => return self.perform(event),
            Move::Timers => return self.next_timers(),
            Move::Propose { id, .. } | Move::Barrier(id) if self.hosts[&id].is_paused => return false,
            Move::Propose { id, records } if leads(self, id) => {
                let batch: Vec<u64> = (1..=records).map(|nth| self.asked + nth).collect();
                self.asked += records;
                self.propose(id, &batch);
            }
            Move::Barrier(id) if leads(self, id) => {
                self.asked += 1;
                self.step(id, Input::Barrier(Ticket(self.asked)));
            }
            Move::Propose { .. } | Move::Barrier(_) => return false,
            Move::Crash { id, done, tears, loses } => {
                if self.hosts[&id].ensemble.is_none() {
                    return false;
                }
                if loses {
                    self.lose(id);
                }
                self.crash(id, done, tears);
            }
            Move::Start(id) => {
                if self.hosts[&id].ensemble.is_some() {
                    return false;
                }
                self.start(id);
            }
            Move::Break(a, b) => self.break_links(a, b),
            Move::BreakOneSide(a, b) => self.break_one_side(a, b),
            Move::Cut(a, b) => return self.cut.insert((a, b)),
            Move::CutOneWay(a, b) => return self.cut_one_way.insert((a, b)),
            Move::Heal => {
                self.cut.clear();
                self.cut_one_way.clear();
            }
            Move::HoldLog(id) => return !std::mem::replace(&mut self.host(id).is_log_held, true),
            Move::FreeLog(id) => return std::mem::replace(&mut self.host(id).is_log_held, false),
            Move::Pause(id) => return !std::mem::replace(&mut self.host(id).is_paused, true),
            Move::Resume(id) => return std::mem::replace(&mut self.host(id).is_paused, false),
        }
        true
    }

    /// Everything is well again: all serve after a while, what is proposed is committed, and all show the same.
    pub fn recover(&mut self) {
        self.cut.clear();
        self.cut_one_way.clear();
        for id in self.hosts.keys().copied().collect::<Vec<u64>>() {
            self.host(id).is_log_held = false;
            self.host(id).is_paused = false;
            self.make(Move::Start(id));
        }
        self.run_ms(5000);
        if let Some(leader) = self.leader() {
            let epoch = self.hosts[&leader].disk.epochs.1;
            if self.hosts.values().any(|host| epoch < host.disk.epochs.0) {
                // A server that has promised a later epoch has to wait until this one ends.
                self.crash(leader, 0, false);
                self.start(leader);
            }
        }
        self.until_all_serve();
        let leader = self.leader().unwrap();
        self.propose(leader, &[u64::MAX]);
        self.run_ms(2000);
        self.until_all_serve();
        self.check_all_equal();
    }
}

/// A run under way: the moves so far, and what they have led to.
pub struct Walk {
    pub net: Net,
    pub moves: Vec<Move>,
}

impl Walk {
    pub fn new(net: Net) -> Walk {
        Walk { net, moves: Vec::new() }
    }

    /// Noted before it is made: what panics is the last one.
    pub fn make(&mut self, it: Move) {
        self.moves.push(it);
        if !self.net.make(it) {
            self.moves.pop();
        }
    }

    /// Chooses the moves of a seed.
    pub fn wander(&mut self, seed: u64, setup: &Setup) {
        let mut random = Random(seed ^ 0x5eed_0000_0000_0000);
        let servers = setup.servers();
        // Calm seeds come far, wild ones meet the beginnings of epochs again and again.
        let (steps, faults) = (1000 + random.below(2500), 1 + random.below(40));
        let (timers, proposals) = (1 + random.below(30), 20 + random.below(120));
        // Some kinds of faults and not others, so that each kind is met in plenty somewhere.
        let kinds: [u64; 3] = std::array::from_fn(|_| random.below(9));
        // A bridge: the others are two halves that only one of them reaches, and most faults strike that one. So two leaders
        // want the same promises.
        let bridge = (random.below(3) == 0).then(|| 1 + random.below(setup.voters));
        // Now and then one server's disk or connections hardly move.
        let mut slow = None;
        for id in 1..=servers {
            if random.below(8) > 0 {
                self.make(Move::Start(id));
            }
        }
        for a in (1..=servers).filter(|&a| bridge.is_some_and(|bridge| a != bridge)) {
            for b in (a + 1..=servers).filter(|&b| Some(b) != bridge && (a + b) % 2 == 1) {
                self.make(Move::Cut(a, b));
            }
        }
        for _ in 0..steps {
            let strikes_bridge = random.below(4) > 0;
            let id = bridge.filter(|_| strikes_bridge).unwrap_or(1 + random.below(servers));
            let other = 1 + random.below(servers);
            match random.below(1000) {
                n if n < faults => {
                    let kind = random.among(&kinds);
                    let leader = self.net.leader().filter(|_| bridge.is_none() && random.below(3) == 0);
                    let id = leader.unwrap_or(id);
                    self.make(match kind {
                        0 | 1 => Move::Crash {
                            id,
                            done: random.below(4) as usize,
                            tears: random.below(3) == 0,
                            loses: random.below(3) == 0,
                        },
                        2 => Move::Break(id, other),
                        3 => Move::HoldLog(id),
                        4 => Move::Pause(id),
                        5 => Move::BreakOneSide(id, other),
                        6 => Move::BreakOneSide(other, id),
                        _ if bridge.is_some() => Move::Break(id, other),
                        7 => Move::Cut(id, other),
                        _ => Move::CutOneWay(id, other),
                    });
                    if kind == 1 {
                        // It is there again before anybody knows that it was gone.
                        self.make(Move::Start(id));
                    }
                }
                n if n < 2 * faults => {
                    self.make(Move::Start(id));
                    self.make(Move::FreeLog(id));
                    self.make(Move::Resume(id));
                    if random.below(4) == 0 && bridge.is_none() {
                        self.make(Move::Heal);
                    }
                    slow = match random.below(4) {
                        0 => Some(other),
                        1 => self.net.leader(),
                        _ => None,
                    };
                }
                n if n < 2 * faults + proposals => {
                    let leaders = self.net.hosts.iter().filter(|(_, h)| h.core.role == Some(Role::Leading));
                    let leaders: Vec<u64> = leaders.map(|(&id, _)| id).collect();
                    if let Some(&id) = leaders.get(random.below(2) as usize) {
                        // Of two leaders one does not know yet that it leads no longer.
                        let is_barrier = random.below(if leaders.len() > 1 { 2 } else { 10 }) == 0;
                        let records = 1 + random.below(3);
                        self.make(if is_barrier { Move::Barrier(id) } else { Move::Propose { id, records } });
                    }
                }
                _ => {
                    let mut events = self.net.events();
                    if random.below(20) > 0 {
                        events.retain(|(_, event)| Some(event.host()) != slow);
                    }
                    if events.is_empty() || random.below(1000) < timers {
                        self.make(Move::Timers);
                    } else {
                        let (_, event) = random.among(&events);
                        self.make(Move::Event(event));
                    }
                }
            }
        }
    }
}

/// The whole of one seed.
pub fn walk(seed: u64) -> Walk {
    let setup = Setup::of(seed);
    let mut walk = Walk::new(setup.net());
    walk.wander(seed, &setup);
    walk.net.recover();
    walk
}
