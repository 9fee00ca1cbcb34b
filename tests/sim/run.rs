//! One run: a seed, a machine, its clients, what goes wrong, in any order that the dice give; then the reckoning.
//! Not here: any of the parts.

use crate::checker::{Checked, Checker, Figures};
use crate::faults::{Fault, Faults, WORKER_STALL_NANOS_MAX};
use crate::history::History;
use crate::machine::{Actor, Machine, Plant, Shape, SimClock, Stopped, check_digest};
use crate::net::{Net, SharedNet, lock};
use crate::workload::{Client, TTL_MS_MOST};
use ostler_engine::io::disk_sim::SimDisk;
use ostler_tests::random::Random;
use std::sync::{Arc, Mutex};

pub struct Run {
    pub history: History,
    pub checker: Option<Checker>,
    shape: Shape,
    clock: SimClock,
    net: SharedNet,
    disk: SimDisk,
    machine: Option<Machine>,
    down_until: u64,
    clients: Vec<Client>,
    faults: Faults,
    faulty: bool,
    /// A call of the disk was told to fail.
    may_fail: bool,
    plant: Option<Plant>,
    /// Of the time so far, what does not count for sessions, nanoseconds.
    forgiven: u64,
    random: Random,
}

/// What a turn of the run may be given to.
enum Turn {
    Machine(Actor),
    Client(usize),
    Network,
    Fault,
    Start,
}

/// Containers and TTL znodes are gone so long after nothing holds them: a scan, and a deletion of each.
const REAPED_NANOS: u64 = 2_000_000_000 + TTL_MS_MOST * 1_000_000;
/// Linux's number of a disk's error.
const EIO: i32 = 5;
/// Virtual time for the last answers to come, nanoseconds.
const SETTLE_NANOS: u64 = 20_000_000_000;

impl Run {
    pub fn new(seed: u64, verbose: bool) -> Run {
        let mut random = Random::new(seed);
        let shape = Shape::chosen(&mut random);
        let net = Arc::new(Mutex::new(Net::new(random.fork())));
        let count = random.between(1, 6) as usize;
        let clients = (0..count).map(|index| Client::new(index, random.fork(), shape.tick_ms)).collect();
        let mut history = History::new(verbose);
        history.note(0, format!("{shape:?}, {count} clients"));
        Run {
            history,
            checker: None,
            shape,
            clock: SimClock::default(),
            net,
            disk: SimDisk::new(),
            machine: None,
            down_until: 0,
            clients,
            faults: Faults::new(random.fork()),
            faulty: true,
            may_fail: false,
            plant: None,
            forgiven: 0,
            random,
        }
    }

    /// A defect for the tests of the simulation to find.
    pub fn plant(&mut self, plant: Option<Plant>) {
        self.plant = plant;
        self.clients.iter_mut().for_each(|client| client.plant = plant);
    }

    /// `steps` turns with faults, then none and the reckoning.
    pub fn play(&mut self, steps: u64) -> Checked<Figures> {
        self.start()?;
        for _ in 0..steps {
            self.step()?;
        }
        self.settle()?;
        self.let_expire()?;
        self.crash(true)?;
        self.faulty = false;
        self.start()?;
        Ok(self.checker.as_ref().map(|checker| checker.figures).unwrap_or_default())
    }

    /// Faults end; everything asked is answered, every event told, and the tree is the model's.
    fn settle(&mut self) -> Checked {
        self.faulty = false;
        self.disk.stop_at(u64::MAX);
        self.disk.set_capacity(None);
        let patience = SETTLE_NANOS + self.shape.pace.rare_most;
        self.shape.pace = self.shape.pace.calm();
        if let Some(machine) = &mut self.machine {
            machine.set_pace(self.shape.pace);
        }
        let now = self.clock.nanos();
        self.clients.iter_mut().for_each(|client| client.finish(now));
        // Events may still be on their way to a client that has all its answers.
        while !self.is_settled() || self.checker()?.settled().is_err() {
            if self.clock.nanos() > now + patience {
                self.checker()?.settled()?;
                return Err("the server never comes to rest".into());
            }
            self.step()?;
        }
        self.compare()
    }

    fn is_settled(&self) -> bool {
        self.machine.as_ref().is_some_and(Machine::is_quiet) && self.clients.iter().all(Client::is_finished)
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
        self.checker()?.reaped_all(self.clock.wall_ms())?;
        self.compare()
    }

    fn compare(&self) -> Checked {
        let view = self.machine.as_ref().ok_or("the server is down")?.view();
        self.checker()?.compare(&view)?;
        check_digest(&view)
    }

    fn checker(&self) -> Checked<&Checker> {
        self.checker.as_ref().ok_or_else(|| "no checker".into())
    }

    // --- one turn ---------------------------------------------------------------------------------------------------

    fn step(&mut self) -> Checked {
        let (turns, next) = self.turns();
        if turns.is_empty() {
            self.pass(next);
            return Ok(());
        }
        let then = self.clock.nanos() + self.random.below(60_000);
        self.pass(then);
        let at = self.random.below(turns.len() as u64) as usize;
        let now = self.clock.nanos();
        match turns.into_iter().nth(at) {
            Some(Turn::Start) => self.start(),
            Some(Turn::Fault) => {
                let fault = self.faults.next(now);
                self.history.note(now, format!("{fault:?}"));
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
            Some(Turn::Machine(actor)) => {
                let (Some(machine), Some(checker)) = (&mut self.machine, &mut self.checker) else {
                    return Ok(());
                };
                let turned = machine.turn(actor, checker, &mut self.history);
                let full = machine.is_full().then_some(checker.running_ms);
                checker.full_since_ms = full.map(|now| checker.full_since_ms.unwrap_or(now));
                match turned {
                    Ok(()) => Ok(()),
                    Err(Stopped::Power) => self.crash(true),
                    Err(Stopped::Failed(why)) => self.fail(why),
                    Err(Stopped::Wrong(why)) => Err(why),
                }
            }
            None => Ok(()),
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
        if self.faulty && self.machine.is_some() {
            consider(self.faults.due(), Turn::Fault);
        }
        match &self.machine {
            None => consider(self.down_until, Turn::Start),
            Some(machine) => {
                let mut actors = Vec::new();
                machine.ready(&mut actors);
                if actors.is_empty() {
                    next = next.min(machine.next_due());
                }
                turns.extend(actors.into_iter().map(Turn::Machine));
            }
        }
        (turns, next)
    }

    /// Time goes on, the server running.
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

    fn suffer(&mut self, fault: Fault) -> Checked {
        match fault {
            Fault::Kill => self.crash(false),
            Fault::PowerCut { after_calls } => {
                self.disk.stop_at(self.disk.calls() + after_calls);
                Ok(())
            }
            Fault::Stall { nanos } => {
                self.clock.advance_to(self.clock.nanos() + nanos);
                // Of 300 ms or more all but 100 are forgiven (`limits::STALL_MS_LEAST`, `WAIT_MS_MAX`).
                self.note_running(if nanos >= 300_000_000 { nanos - 100_000_000 } else { 0 });
                Ok(())
            }
            Fault::WorkerStall { nanos } => {
                if let Some(machine) = &mut self.machine {
                    machine.stall_worker(nanos);
                }
                if let Some(checker) = &mut self.checker {
                    let until = checker.running_ms + nanos.div_ceil(1_000_000);
                    checker.deaf_until_ms = checker.deaf_until_ms.max(until);
                }
                Ok(())
            }
            Fault::WallClock { ahead_ms } => {
                self.clock.set_wall_ahead(ahead_ms);
                Ok(())
            }
            Fault::DiskFull { room_bytes } => {
                self.disk.set_capacity(Some(self.disk.used_bytes() + room_bytes));
                if let Some(checker) = &mut self.checker {
                    checker.may_refuse = true;
                }
                Ok(())
            }
            Fault::DiskFails { after_calls } => {
                self.may_fail = true;
                self.disk.fail_at(self.disk.calls() + after_calls, EIO);
                Ok(())
            }
            Fault::DiskFreed => {
                self.disk.set_capacity(None);
                Ok(())
            }
        }
    }

    /// The log's disk failed: the process ends itself at once. What a later start reads must not be less than what it had
    /// told; the power may go as well.
    fn fail(&mut self, why: String) -> Checked {
        if !self.may_fail {
            return Err(why);
        }
        self.history.note(self.clock.nanos(), why);
        if let Some(checker) = &mut self.checker {
            checker.figures.failures += 1;
        }
        let power = self.random.one_in(2);
        self.crash(power)
    }

    fn crash(&mut self, power: bool) -> Checked {
        let now = self.clock.nanos();
        self.history
            .note(now, format!("the server dies{}", if power { ", and the power with it" } else { "" }));
        self.machine = None;
        lock(&self.net).crash();
        if let Some(checker) = &mut self.checker {
            checker.crashed();
        }
        self.lose(power);
        self.down_until = now + self.random.below(50_000_000);
        Ok(())
    }

    /// The disk as the next start finds it.
    fn lose(&mut self, power: bool) {
        self.disk = match power {
            true => {
                let worst = self.random.one_in(4);
                let random = &mut self.random;
                let pick = |states: usize| if worst { 0 } else { random.below(states as u64) as usize };
                let picks: Vec<usize> = self.disk.choices().into_iter().map(pick).collect();
                self.disk.after_power_cut(&picks)
            }
            false => self.disk.after_kill(),
        };
        self.disk.set_capacity(None);
        self.may_fail = false;
    }

    fn start(&mut self) -> Checked {
        loop {
            if self.faulty && self.checker.is_some() && self.random.one_in(5) {
                self.disk.stop_at(self.disk.calls() + self.random.below(150));
            }
            let (shape, random) = (&self.shape, self.random.fork());
            match Machine::start(shape, self.disk.clone(), self.clock.clone(), self.net.clone(), random) {
                Ok(mut machine) => {
                    machine.plant(self.plant);
                    self.faults.restarted();
                    let view = machine.view();
                    let checker = self.checker.get_or_insert_with(|| Checker::new(&view));
                    checker.sync_ms_most = self.shape.pace.rare_most / 1_000_000;
                    checker.recovered(&view)?;
                    let note = format!("the server has recovered {:x}", view.zxid().0);
                    self.history.note(self.clock.nanos(), note);
                    self.machine = Some(machine);
                    return Ok(());
                }
                Err(_) if self.disk.stopped() => self.lose(true),
                Err(why) => return Err(format!("no start: {why}")),
            }
        }
    }
}
