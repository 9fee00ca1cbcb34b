//! One run: a seed, servers, their clients, what goes wrong, in any order that the dice give; then the reckoning.
//! Not here: any of the parts.

use crate::checker::{Checked, Checker, EnsembleTime, Figures};
use crate::faults::{Fault, Faults, WORKER_STALL_NANOS_MAX};
use crate::history::History;
use crate::machine::{Actor, Machine, Site, Stopped, check_digest};
use crate::net::{HostId, Net, SharedNet, lock};
use crate::plant::Plant;
use crate::shape::{Shape, SimClock};
use crate::workload::{Client, TTL_MS_MOST};
use ostler_engine::io::disk_sim::SimDisk;
use ostler_replication::Role;
use ostler_tests::random::Random;
use std::sync::{Arc, Mutex};

/// Which servers a run has; `None`: the seed says.
#[derive(Clone, Copy, Debug)]
pub struct Servers {
    pub voters: Option<u8>,
    pub observers: Option<u8>,
}

/// A server's machine, on which it runs or not.
struct Host {
    id: HostId,
    clock: SimClock,
    disk: SimDisk,
    machine: Option<Machine>,
    down_until: u64,
    /// A call of the disk was told to fail.
    may_fail: bool,
    /// Its disk was wiped, and it has not come back to this zxid yet.
    wiped_at: Option<i64>,
}

pub struct Run {
    pub history: History,
    pub checker: Option<Checker>,
    shape: Shape,
    clock: SimClock,
    net: SharedNet,
    hosts: Vec<Host>,
    clients: Vec<Client>,
    faults: Faults,
    faulty: bool,
    plant: Option<Plant>,
    /// Of the time so far, what does not count for sessions, nanoseconds.
    forgiven: u64,
    turns: u64,
    random: Random,
}

/// What a turn of the run may be given to.
enum Turn {
    /// By the host's place.
    Machine(usize, Actor),
    Client(usize),
    Network,
    Fault,
    Start(usize),
}

/// Containers and TTL znodes are gone so long after nothing holds them: a scan, and a deletion of each.
const REAPED_NANOS: u64 = 2_000_000_000 + TTL_MS_MOST * 1_000_000;
/// Linux's number of a disk's error.
const EIO: i32 = 5;
/// Virtual time for the last answers to come, nanoseconds.
const SETTLE_NANOS: u64 = 20_000_000_000;

impl Run {
    pub fn new(seed: u64, servers: Servers, plant: Option<Plant>, verbose: bool) -> Run {
        let mut random = Random::new(seed);
        let mut dice = random.fork();
        let voters = servers.voters.unwrap_or(*dice.pick(&[1, 1, 1, 3, 3, 5]));
        let observers = servers.observers.unwrap_or(u8::from(voters > 1 && dice.one_in(4)));
        let shape = Shape::chosen(&mut random, voters, observers);
        let net = Arc::new(Mutex::new(Net::new(random.fork())));
        let count = random.between(1, 6) as usize;
        let servers: Vec<HostId> = shape.hosts().collect();
        let client = |index| Client::new(index, servers.clone(), plant, random.fork(), shape.tick_ms);
        let clients = (0..count).map(client).collect();
        let clock = SimClock::default();
        let host = |id| Host {
            id,
            clock: if shape.is_ensemble() {
                clock.of_another(shape.clock_ppm_max, &mut random)
            } else {
                clock.clone()
            },
            disk: SimDisk::new(),
            machine: None,
            down_until: 0,
            may_fail: false,
            wiped_at: None,
        };
        let hosts = shape.hosts().map(host).collect();
        let mut history = History::new(verbose);
        history.note(0, format!("{shape:?}, {count} clients"));
        Run {
            history,
            checker: None,
            faults: Faults::new(random.fork(), shape.is_ensemble()),
            shape,
            clock,
            net,
            hosts,
            clients,
            faulty: true,
            plant,
            forgiven: 0,
            turns: 0,
            random,
        }
    }

    /// `steps` turns for each server with faults, then none and the reckoning.
    pub fn play(&mut self, steps: u64) -> Checked<Figures> {
        for host in 0..self.hosts.len() {
            self.start(host)?;
        }
        for _ in 0..steps * self.hosts.len() as u64 {
            self.step()?;
        }
        self.settle()?;
        self.let_expire()?;
        for host in 0..self.hosts.len() {
            self.crash(host, true)?;
        }
        match self.shape.is_ensemble() {
            false => self.start(0)?,
            true => self.until_all_serve()?,
        }
        let (millis, turns) = (self.clock.nanos() / 1_000_000, self.turns);
        Ok(self
            .checker
            .as_ref()
            .map(|checker| Figures { millis, turns, ..checker.figures })
            .unwrap_or_default())
    }

    // --- the reckoning ----------------------------------------------------------------------------------------------

    /// Faults end; everything asked is answered, every event told, and all trees are the model's.
    fn settle(&mut self) -> Checked {
        self.faulty = false;
        self.shape.pace = self.shape.pace.calm();
        for host in &mut self.hosts {
            host.disk.stop_at(u64::MAX);
            host.disk.set_capacity(None);
            if let Some(machine) = &mut host.machine {
                machine.set_pace(self.shape.pace);
            }
        }
        self.heal();
        if self.shape.is_ensemble() {
            self.until_all_serve()?;
        }
        let now = self.clock.nanos();
        self.clients.iter_mut().for_each(|client| client.finish(now));
        // Events may still be on their way to a client that has all its answers.
        let patience = self.patience();
        while !self.is_settled() || self.checker()?.settled().is_err() {
            if self.clock.nanos() > now + patience {
                self.checker()?.settled()?;
                return Err(format!("the servers never come to rest: {}", self.standing()));
            }
            self.step()?;
        }
        self.compare()
    }

    /// For what has to come once nothing goes wrong any more.
    fn patience(&self) -> u64 {
        SETTLE_NANOS + self.shape.pace.rare_most + 30 * u64::from(self.shape.tick_ms) * 1_000_000
    }

    /// All servers of an ensemble come to lead, follow or observe, and have shown all there is.
    fn until_all_serve(&mut self) -> Checked {
        let mut since = self.clock.nanos();
        let mut helped = false;
        while !self.all_serve()? {
            if self.clock.nanos() > since + self.patience() {
                // Who has promised a later epoch than the one that stands waits until that one ends.
                let Some(leader) = self.leader().filter(|leader| self.promised_beyond(*leader) && !helped)
                else {
                    return Err(format!("not all servers come to serve: {}", self.standing()));
                };
                (since, helped) = (self.clock.nanos(), true);
                self.checker.as_mut().ok_or("no checker")?.figures.stayed_out += 1;
                self.crash(leader, false)?;
            }
            self.step()?;
        }
        self.compare()
    }

    fn all_serve(&self) -> Checked<bool> {
        let committed = self.checker()?.committed();
        Ok(self.hosts.iter().all(|host| {
            host.machine.as_ref().is_some_and(|machine| {
                machine.role() != Role::Looking && machine.view().zxid().0 as i64 == committed
            })
        }))
    }

    fn promised_beyond(&self, leader: usize) -> bool {
        let accepted = |host: &Host| host.machine.as_ref().map(|machine| machine.status().epochs.accepted);
        let of_leader = accepted(&self.hosts[leader]);
        self.hosts.iter().any(|host| accepted(host) > of_leader)
    }

    /// Where each server stands, for a failure's story.
    fn standing(&self) -> String {
        let lines = self.hosts.iter().map(|host| match &host.machine {
            None => format!("\n  {} is down", host.id),
            Some(machine) => {
                let (view, status) = (machine.view().zxid(), machine.status());
                format!("\n  {} shows {view}, quiet {}: {status:?}", host.id, machine.is_quiet())
            }
        });
        lines.collect()
    }

    fn is_settled(&self) -> bool {
        let quiet = |host: &Host| host.machine.as_ref().is_some_and(Machine::is_quiet);
        self.hosts.iter().all(quiet)
            && self.clients.iter().all(Client::is_finished)
            && self.all_serve().is_ok_and(|all| all)
    }

    /// All clients vanish: their sessions must end, and their ephemerals with them.
    fn let_expire(&mut self) -> Checked {
        let net = self.net.clone();
        for client in &mut self.clients {
            client.vanish(&mut lock(&net), self.checker.as_mut().ok_or("no checker")?);
        }
        // A timeout is six ticks at most; then rounding up to a tick, a probe, and slow syncs one after the other.
        // What a worker that stood still kept from the core is a stall, which puts deadlines off by as much.
        let beyond_ms = u64::from(self.shape.tick_ms) + 3000 + WORKER_STALL_NANOS_MAX / 1_000_000;
        let until = self.clock.nanos() + (6 * u64::from(self.shape.tick_ms) + beyond_ms) * 1_000_000;
        while self.clock.nanos() <= until {
            self.step()?;
        }
        self.checker()?.overdue(beyond_ms)?;
        let until = self.clock.nanos() + REAPED_NANOS;
        while self.clock.nanos() <= until {
            self.step()?;
        }
        let leader = self.leader().ok_or("nobody leads")?;
        self.checker()?.reaped_all(self.hosts[leader].clock.wall_ms())?;
        self.compare()
    }

    /// Every server's tree is the model's.
    fn compare(&self) -> Checked {
        for host in &self.hosts {
            let view = host.machine.as_ref().ok_or("a server is down")?.view();
            self.checker()?.compare(&view).map_err(|why| format!("server {}: {why}", host.id))?;
            check_digest(&view)?;
        }
        Ok(())
    }

    fn checker(&self) -> Checked<&Checker> {
        self.checker.as_ref().ok_or_else(|| "no checker".into())
    }

    /// Who leads, or stands alone.
    fn leader(&self) -> Option<usize> {
        let leads = |host: &Host| {
            host.machine
                .as_ref()
                .is_some_and(|machine| matches!(machine.role(), Role::Leading | Role::Standalone))
        };
        self.hosts.iter().position(leads)
    }

    // --- one turn ---------------------------------------------------------------------------------------------------

    fn step(&mut self) -> Checked {
        let (turns, next) = self.turns();
        if turns.is_empty() {
            self.pass(next);
            return Ok(());
        }
        self.turns += 1;
        let then = self.clock.nanos() + self.random.below(60_000);
        self.pass(then);
        let at = self.random.below(turns.len() as u64) as usize;
        let now = self.clock.nanos();
        match turns.into_iter().nth(at) {
            Some(Turn::Start(host)) => self.start(host),
            Some(Turn::Fault) => {
                let fault = self.faults.next(now);
                self.suffer(fault)
            }
            Some(Turn::Network) => {
                let checker = self.checker.as_mut().ok_or("no checker")?;
                let heard = lock(&self.net).deliver(now);
                heard.into_iter().for_each(|(connection, bytes)| checker.arrived(connection, bytes));
                Ok(())
            }
            Some(Turn::Client(index)) => {
                let checker = self.checker.as_mut().ok_or("no checker")?;
                self.clients[index].turn(now, &mut lock(&self.net), checker, &mut self.history)
            }
            Some(Turn::Machine(host, actor)) => self.turn(host, actor),
            None => Ok(()),
        }
    }

    fn turn(&mut self, at: usize, actor: Actor) -> Checked {
        let host = &mut self.hosts[at];
        let (Some(machine), Some(checker)) = (&mut host.machine, &mut self.checker) else {
            return Ok(());
        };
        let turned = machine.turn(actor, checker, &mut self.history);
        let full = machine.is_full().then_some(checker.running_ms);
        checker.full_since_ms = full.map(|now| checker.full_since_ms.unwrap_or(now));
        if let Some(zxid) = host.wiped_at
            && machine.role() != Role::Looking
            && machine.last_logged().0 as i64 >= zxid
        {
            host.wiped_at = None;
        }
        match turned {
            Ok(()) => Ok(()),
            Err(Stopped::Power) => self.crash(at, true),
            Err(Stopped::Failed(why)) => self.fail(at, why),
            Err(Stopped::Wrong(why)) => Err(why),
        }
    }

    /// Who can act now; and when the next of the others can.
    fn turns(&self) -> (Vec<Turn>, u64) {
        let now = self.clock.nanos();
        let mut turns = Vec::new();
        let mut next = u64::MAX;
        let mut consider =
            |due: u64, turn: Turn| if due <= now { turns.push(turn) } else { next = next.min(due) };
        let net = lock(&self.net);
        if let Some(due) = net.next_due() {
            consider(due, Turn::Network);
        }
        for (index, client) in self.clients.iter().enumerate() {
            consider(client.due(&net), Turn::Client(index));
        }
        if self.faulty && self.hosts.iter().any(|host| host.machine.is_some()) {
            consider(self.faults.due(), Turn::Fault);
        }
        let mut actors = Vec::new();
        for (at, host) in self.hosts.iter().enumerate() {
            match &host.machine {
                None => consider(host.down_until, Turn::Start(at)),
                Some(machine) => {
                    machine.ready(&mut actors);
                    if actors.is_empty() {
                        consider(machine.next_due().max(now + 1), Turn::Start(at));
                    }
                    actors.drain(..).for_each(|actor| consider(now, Turn::Machine(at, actor)));
                }
            }
        }
        (turns, next)
    }

    /// Time goes on, the servers running.
    fn pass(&mut self, until: u64) {
        self.clock.advance_to(until);
        self.note_running(0);
    }

    /// What of the time so far counts for sessions: all but what a stalled process is forgiven.
    fn note_running(&mut self, forgiven_nanos: u64) {
        self.forgiven += forgiven_nanos;
        let running = self.clock.nanos() - self.forgiven;
        if let Some(checker) = &mut self.checker {
            checker.running_ms = running / 1_000_000;
        }
    }

    // --- what goes wrong --------------------------------------------------------------------------------------------

    /// Whom it happens to: the leader more often than others.
    fn victim(&mut self) -> usize {
        let any = self.random.below(self.hosts.len() as u64) as usize;
        match self.leader() {
            Some(leader) if self.random.one_in(3) => leader,
            _ => any,
        }
    }

    fn suffer(&mut self, fault: Fault) -> Checked {
        let at = self.victim();
        let (now, id) = (self.clock.nanos(), self.hosts[at].id);
        self.history.note(now, format!("{fault:?} of {id}"));
        let checker = self.checker.as_mut().ok_or("no checker")?;
        let host = &mut self.hosts[at];
        match fault {
            Fault::Kill => return if host.machine.is_some() { self.crash(at, false) } else { Ok(()) },
            Fault::PowerCut { after_calls } => host.disk.stop_at(host.disk.calls() + after_calls),
            Fault::Stall { nanos } if self.shape.is_ensemble() => {
                checker.disturbed(id, nanos.div_ceil(1_000_000));
                if let Some(machine) = &mut host.machine {
                    machine.pause(nanos);
                }
            }
            Fault::Stall { nanos } => {
                self.clock.advance_to(now + nanos);
                // Of 300 ms or more all but 100 are forgiven (`limits::STALL_MS_LEAST`, `WAIT_MS_MAX`).
                self.note_running(if nanos >= 300_000_000 { nanos - 100_000_000 } else { 0 });
            }
            Fault::WorkerStall { nanos } => {
                if let Some(machine) = &mut host.machine {
                    machine.stall_worker(nanos);
                }
                checker.worker_stalls(id, nanos.div_ceil(1_000_000));
            }
            Fault::WallClock { ahead_ms } => host.clock.set_wall_ahead(ahead_ms),
            Fault::DiskFull { room_bytes } => {
                host.disk.set_capacity(Some(host.disk.used_bytes() + room_bytes));
                checker.may_refuse = true;
            }
            // A start that finds the disk failing gives up, as it should.
            Fault::DiskFails { .. } if host.machine.is_none() => {}
            Fault::DiskFails { after_calls } => {
                host.may_fail = true;
                host.disk.fail_at(host.disk.calls() + after_calls, EIO);
            }
            Fault::DiskFreed => self.hosts.iter().for_each(|host| host.disk.set_capacity(None)),
            Fault::Isolate { .. } | Fault::Split | Fault::CutOne => self.cut(fault, id),
            Fault::Heal => self.heal(),
            Fault::Break => {
                let broken = lock(&self.net).break_one();
                for end in broken.into_iter().flat_map(|(one, other)| [one, other]) {
                    checker.disturbed(end, 0);
                }
            }
            Fault::Outage => {
                for at in 0..self.hosts.len() {
                    if self.hosts[at].machine.is_some() {
                        self.crash(at, true)?;
                    }
                }
            }
            Fault::Wipe => return self.wipe(at),
        }
        Ok(())
    }

    fn cut(&mut self, fault: Fault, id: HostId) {
        let others: Vec<HostId> = self.shape.hosts().filter(|other| *other != id).collect();
        let mut cuts = Vec::new();
        match fault {
            Fault::Isolate { one_way } => {
                for other in others {
                    cuts.extend((one_way != Some(false)).then_some((id, other)));
                    cuts.extend((one_way != Some(true)).then_some((other, id)));
                }
            }
            Fault::Split => {
                let random = &mut self.random;
                let (left, right): (Vec<_>, Vec<_>) = self.shape.hosts().partition(|_| random.one_in(2));
                for one in left {
                    cuts.extend(right.iter().flat_map(|other| [(one, *other), (*other, one)]));
                }
            }
            _ => cuts.push((id, *self.random.pick(&others))),
        }
        for (from, to) in cuts {
            lock(&self.net).cut(from, to);
            if let Some(checker) = &mut self.checker {
                checker.cut(from, to);
            }
        }
    }

    fn heal(&mut self) {
        lock(&self.net).heal();
        if let Some(checker) = &mut self.checker {
            checker.healed();
        }
    }

    /// The log's disk failed: the process ends itself at once. What a later start reads must not be less than what it had
    /// told; the power may go as well.
    fn fail(&mut self, at: usize, why: String) -> Checked {
        if !self.hosts[at].may_fail {
            return Err(why);
        }
        self.history.note(self.clock.nanos(), why);
        if let Some(checker) = &mut self.checker {
            checker.figures.failures += 1;
        }
        let power = self.random.one_in(2);
        self.crash(at, power)
    }

    fn crash(&mut self, at: usize, power: bool) -> Checked {
        let now = self.clock.nanos();
        let id = self.hosts[at].id;
        let note = format!("server {id} dies{}", if power { ", and the power with it" } else { "" });
        self.history.note(now, note);
        self.hosts[at].machine = None;
        lock(&self.net).crash(id, power);
        if let Some(checker) = &mut self.checker {
            checker.crashed(id);
        }
        self.lose(at, power);
        let down_most = match (self.shape.is_ensemble(), self.faulty) {
            (true, true) => *self.random.pick(&[50_000_000, 3_000_000_000]),
            _ => 50_000_000,
        };
        self.hosts[at].down_until = now + self.random.below(down_most);
        Ok(())
    }

    /// The disk as the next start finds it.
    fn lose(&mut self, at: usize, power: bool) {
        let host = &mut self.hosts[at];
        host.disk = match power {
            true => {
                let worst = self.random.one_in(4);
                let random = &mut self.random;
                let pick = |states: usize| if worst { 0 } else { random.below(states as u64) as usize };
                let picks: Vec<usize> = host.disk.choices().into_iter().map(pick).collect();
                host.disk.after_power_cut(&picks)
            }
            false => host.disk.after_kill(),
        };
        host.disk.set_capacity(None);
        host.may_fail = false;
    }

    /// A server that has forgotten all it has acknowledged, and votes as any other, loses nothing only while all the
    /// other voters have everything, in the same epoch, and none of them has forgotten.
    fn wipe(&mut self, at: usize) -> Checked {
        let committed = self.checker()?.committed();
        let voters =
            self.hosts.iter().filter(|host| host.id <= self.shape.voters && host.id != self.hosts[at].id);
        let others: Vec<Option<_>> = voters
            .map(|host| {
                let machine = host.machine.as_ref().filter(|_| host.wiped_at.is_none())?;
                let (epochs, has_all) =
                    (machine.status().epochs, machine.last_logged().0 as i64 >= committed);
                (machine.role() != Role::Looking && has_all && epochs.accepted == epochs.current)
                    .then_some(epochs)
            })
            .collect();
        let safe = others.iter().all(|other| other.is_some() && *other == others[0]);
        if !safe || self.shape.voters < 3 || self.hosts[at].machine.is_none() {
            return Ok(());
        }
        self.crash(at, false)?;
        self.history.note(self.clock.nanos(), format!("the disk of {} is wiped", self.hosts[at].id));
        self.hosts[at].disk = SimDisk::new();
        self.hosts[at].wiped_at = Some(committed);
        Ok(())
    }

    fn start(&mut self, at: usize) -> Checked {
        loop {
            let host = &mut self.hosts[at];
            if self.faulty && self.checker.is_some() && self.random.one_in(5) {
                host.disk.stop_at(host.disk.calls() + self.random.below(150));
            }
            let (disk, clock, net) = (host.disk.clone(), host.clock.clone(), self.net.clone());
            let site = Site { host: host.id, disk, clock, net };
            match Machine::start(&self.shape, site, self.plant, self.random.fork()) {
                Ok(machine) => {
                    self.faults.restarted();
                    let view = machine.view();
                    let time = EnsembleTime {
                        tick_ms: u64::from(self.shape.tick_ms),
                        clock_ppm_max: self.shape.clock_ppm_max as u64,
                    };
                    let time = self.shape.is_ensemble().then_some(time);
                    let checker = self.checker.get_or_insert_with(|| Checker::new(&view, time));
                    checker.sync_ms_most = self.shape.pace.rare_most / 1_000_000;
                    checker.recovered(host.id, &view)?;
                    let note = format!("server {} has recovered {:x}", host.id, view.zxid().0);
                    self.history.note(self.clock.nanos(), note);
                    host.machine = Some(machine);
                    return Ok(());
                }
                Err(_) if host.disk.stopped() => self.lose(at, true),
                Err(why) => return Err(format!("no start of server {}: {why}", host.id)),
            }
        }
    }
}
