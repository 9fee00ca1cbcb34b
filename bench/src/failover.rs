//! `failover`: what clients feel when a server of an ensemble ends. Ensembles of either server, or one that runs
//! already, are played the same way: clients write and read at all servers, the leader ends, the rest goes on, it comes
//! back, and in the end every server's tree is read for writes that are missing or there twice.
//! Not here: the clients (`load`), what they saw as figures (`tally`), how it is shown (`report`).

pub mod load;
pub mod report;
pub mod tally;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::circumstances::{self, Circumstances};
use crate::client::Client;
use crate::ensemble::{self, Ensemble};
use crate::frames;
use crate::scenario::{self, Settings};
use crate::server::ServerKind;
use crate::statistics::{Line, Sense};
use load::{Load, Plan, Record};
use tally::{Fault, Outage, ReadBack, quantile};

/// The load goes on undisturbed for so long before a fault, and behind its end.
const CALM: Duration = Duration::from_millis(700);
const BEHIND: Duration = Duration::from_millis(300);
/// How long a server may take to read its tree back.
const READ_BACK_PATIENCE: Duration = Duration::from_secs(60);

/// How a server ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
pub enum How {
    /// SIGKILL to the leader: as when its machine fails.
    Kill,
    /// SIGTERM to the leader: as when it is stopped for maintenance.
    Term,
    /// SIGTERM to every server in turn, each started again before the next: as for an upgrade.
    Rolling,
}

impl How {
    pub fn words(self) -> &'static str {
        match self {
            How::Kill => "leader killed",
            How::Term => "leader stopped",
            How::Rolling => "all restarted in turn",
        }
    }
}

/// An ensemble that somebody else runs.
#[derive(Clone, Debug)]
pub struct Foreign {
    pub addresses: Vec<SocketAddr>,
    /// Run by a shell with {server} (1 for the first address), {host} and {port} of the leader in it.
    pub kill: String,
    /// The same behind it, to start that server again; without it, it is waited for.
    pub start: Option<String>,
}

/// What to run.
pub struct Failover {
    /// Ensembles to start: kind, and faults of each way.
    pub kinds: Vec<(ServerKind, usize)>,
    pub foreign: Option<(Foreign, usize)>,
    pub voters: usize,
    pub observers: usize,
    pub hows: Vec<How>,
    /// Sizes of the tree; each gets an ensemble of its own.
    pub znodes: Vec<u64>,
    pub writers: usize,
    pub readers: usize,
    pub rate: Option<f64>,
    pub session_timeout_ms: i32,
    pub dir: PathBuf,
}

/// All faults of one way in one ensemble.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Series {
    pub name: String,
    pub how: How,
    pub znodes: u64,
    pub outages: Vec<Outage>,
    pub acknowledged: u64,
    /// Asked, and the connection went away before the answer.
    pub unknown: u64,
    /// Refused with an error.
    pub refused: u64,
    pub read_back: Vec<ReadBack>,
    /// Writes a second while nothing happened.
    pub calm_rate: f64,
}

impl Series {
    pub fn gaps(&self) -> Vec<f64> {
        self.outages.iter().map(|outage| outage.gap_ms).collect()
    }

    /// The worst over the servers.
    pub fn worst(&self, figure: impl Fn(&ReadBack) -> u64) -> u64 {
        self.read_back.iter().map(figure).max().unwrap_or(0)
    }

    pub fn sum(&self, figure: impl Fn(&Outage) -> u64) -> u64 {
        self.outages.iter().map(figure).sum()
    }

    pub fn label(&self) -> String {
        format!("{}, {}, {} znodes", self.name, self.how.words(), self.znodes)
    }

    /// Whether writes were lost, applied twice, or came from nowhere.
    pub fn is_wrong(&self) -> bool {
        self.worst(|back| back.lost + back.twice + back.uncalled) > 0
    }
}

#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub struct FailoverResult {
    pub circumstances: Circumstances,
    pub settings: Vec<(String, String)>,
    pub series: Vec<Series>,
    pub lines: Vec<Line>,
}

pub type Say<'a> = &'a mut dyn FnMut(String);

/// Plays everything.
pub fn run(failover: &Failover, say: Say<'_>) -> io::Result<FailoverResult> {
    std::fs::create_dir_all(&failover.dir)?;
    let mut circumstances = circumstances::circumstances(&failover.dir);
    let mut series = Vec::new();
    for znodes in &failover.znodes {
        for (kind, faults) in failover.kinds.iter().filter(|(_, faults)| *faults > 0) {
            say(format!("{}: starting {} voters", kind.name, failover.voters));
            let dir = failover.dir.join(format!("{}-{znodes}", kind.name));
            let ensemble = Ensemble::start(kind, &dir, failover.voters, failover.observers)?;
            if !circumstances.versions.iter().any(|(name, _)| *name == kind.name) {
                circumstances.describe(&kind.name, ensemble.members[0].address);
            }
            let mut stage =
                Stage { failover, target: Target::Own(ensemble), name: kind.name.clone(), run: 0 };
            stage.build(*znodes, say)?;
            for how in &failover.hows {
                series.push(stage.play(*how, *znodes, *faults, say)?);
            }
            stage.target.clear();
        }
    }
    if let Some((foreign, faults)) = &failover.foreign {
        let name = "the ensemble".to_string();
        circumstances.describe(&name, foreign.addresses[0]);
        let mut stage = Stage { failover, target: Target::Foreign(foreign.clone()), name, run: 0 };
        let znodes = failover.znodes.first().copied().unwrap_or(0);
        stage.build(znodes, say)?;
        series.push(stage.play(How::Kill, znodes, *faults, say)?);
    }
    let lines = lines(&series);
    Ok(FailoverResult { circumstances, settings: described(failover), series, lines })
}

fn described(failover: &Failover) -> Vec<(String, String)> {
    let pace = match failover.rate {
        Some(rate) => format!("{rate} creates a second over all writers"),
        None => "each writer as soon as it is answered".into(),
    };
    let servers = match &failover.foreign {
        Some((foreign, _)) => format!("{} that ran already", foreign.addresses.len()),
        None => format!("{} voters and {} observers", failover.voters, failover.observers),
    };
    [
        ("servers", servers),
        ("writers", format!("{} sessions over all servers, one create under way on each", failover.writers)),
        ("writes", pace),
        ("readers", format!("{} sessions at each server, a read every 2 ms each", failover.readers)),
        (
            "clients",
            "lose their connection, try their own server within 10 ms, then the next one every 10 to 20 ms"
                .into(),
        ),
        ("on", "one machine: servers and clients share its CPUs".into()),
    ]
    .map(|(name, value)| (name.to_string(), value))
    .to_vec()
}

/// The ensemble under test.
enum Target {
    Own(Ensemble),
    Foreign(Foreign),
}

impl Target {
    fn addresses(&self) -> Vec<SocketAddr> {
        match self {
            Target::Own(ensemble) => ensemble.addresses(),
            Target::Foreign(foreign) => foreign.addresses.clone(),
        }
    }

    fn clear(self) {
        if let Target::Own(ensemble) = self {
            ensemble.clear();
        }
    }

    /// Ends server `at`.
    fn end(&mut self, at: usize, how: How) -> io::Result<()> {
        match self {
            Target::Own(ensemble) if how == How::Kill => ensemble.members[at].kill(),
            Target::Own(ensemble) => ensemble.members[at].terminate(),
            Target::Foreign(foreign) => shell(&foreign.kill, at, foreign.addresses[at]),
        }
    }

    /// Starts it again and waits until it serves.
    fn start(&mut self, at: usize) -> io::Result<()> {
        match self {
            Target::Own(ensemble) => {
                ensemble.members[at].ended()?;
                ensemble.launch(at + 1)?;
                ensemble.wait_serving(at + 1)
            }
            Target::Foreign(foreign) => {
                if let Some(start) = &foreign.start {
                    shell(start, at, foreign.addresses[at])?;
                }
                wait_mode(foreign.addresses[at])
            }
        }
    }
}

/// Runs one of the commands that were given, and waits for it.
fn shell(command: &str, at: usize, address: SocketAddr) -> io::Result<()> {
    let words = command
        .replace("{server}", &(at + 1).to_string())
        .replace("{host}", &address.ip().to_string())
        .replace("{port}", &address.port().to_string());
    let status = Command::new("sh").arg("-c").arg(&words).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("`{words}` ended with {status}"))) }
}

fn wait_mode(address: SocketAddr) -> io::Result<()> {
    let deadline = Instant::now() + ensemble::PATIENCE;
    while ensemble::mode(address).is_none() {
        if Instant::now() > deadline {
            let text = format!("{address} does not serve again: start it, or give --start-command");
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
        // Between two looks at another process there is nothing to wait on but time.
        std::thread::park_timeout(Duration::from_millis(20));
    }
    Ok(())
}

/// One ensemble and what is played on it.
struct Stage<'a> {
    failover: &'a Failover,
    target: Target,
    name: String,
    /// Counts the loads, which write below parents of their own.
    run: u64,
}

impl Stage<'_> {
    fn build(&self, znodes: u64, say: Say<'_>) -> io::Result<()> {
        if znodes == 0 {
            return Ok(());
        }
        let leader = ensemble::leader(&self.target.addresses())?;
        let settings = Settings {
            connections: 16,
            ..Settings::at(vec![self.target.addresses()[leader]], Vec::new(), znodes, 100)
        };
        let name = &self.name;
        scenario::preload(&settings, &mut |progress| {
            say(format!("{name}: {} of {znodes} znodes built", progress.completed));
        })?;
        Ok(())
    }

    fn play(&mut self, how: How, znodes: u64, count: usize, say: Say<'_>) -> io::Result<Series> {
        let failover = self.failover;
        // Unique among runs on an ensemble that was there before.
        let run = u64::from(std::process::id()) * 1_000 + self.run;
        self.run += 1;
        let plan = Plan {
            targets: self.target.addresses(),
            writers: failover.writers,
            readers: failover.readers,
            rate: failover.rate,
            value_bytes: 100,
            session_timeout_ms: failover.session_timeout_ms,
            run,
        };
        ensemble::leader(&plan.targets)?;
        let load = Load::start(plan.clone())?;
        let (mut faults, mut restarts) = (Vec::new(), Vec::new());
        let (mut calm_writes, mut calm_time) = (0, Duration::ZERO);
        let mut worst = 0.0f64;
        for number in 1..=count {
            say(format!("{}, {}: {number} of {count}", self.name, how.words()));
            load.send_home()?;
            let (calm_from, before) = (load.now(), load.acknowledged());
            load.go_on(CALM)?;
            calm_writes += load.acknowledged() - before;
            calm_time += Duration::from_nanos(load.now() - calm_from);
            let (fault, restart) = match how {
                How::Rolling => self.roll(&load, calm_from)?,
                _ => self.fall(&load, how, calm_from)?,
            };
            worst = worst.max(restart);
            faults.push(fault);
            restarts.push(restart);
        }
        load.send_home()?;
        let record = load.finish()?;
        say(format!("{}, {}: reading every tree back", self.name, how.words()));
        let read_back = self.read_back(&plan, &record)?;
        let mut outages = tally::outages(&record, &faults);
        for (outage, restart) in outages.iter_mut().zip(restarts) {
            outage.restart_ms = Some(restart);
        }
        let fated = |wanted: fn(load::Fate) -> bool| {
            record.writes.iter().filter(|write| wanted(write.fate)).count() as u64
        };
        Ok(Series {
            name: self.name.clone(),
            how,
            znodes,
            outages,
            acknowledged: fated(|fate| matches!(fate, load::Fate::Acknowledged(_))),
            unknown: fated(|fate| fate == load::Fate::Unknown),
            refused: fated(|fate| matches!(fate, load::Fate::Refused(_))),
            read_back,
            calm_rate: calm_writes as f64 / calm_time.as_secs_f64(),
        })
    }

    /// The leader ends, the others go on, it comes back. The fault, and how long the start took in milliseconds.
    fn fall(&mut self, load: &Load, how: How, calm_from: load::At) -> io::Result<(Fault, f64)> {
        let victim = ensemble::leader(&self.target.addresses())?;
        let at = load.now();
        self.target.end(victim, how)?;
        load.wait_acknowledged(at)?;
        load.go_on(BEHIND)?;
        let until = load.now();
        let begin = Instant::now();
        self.target.start(victim)?;
        let restart = begin.elapsed().as_secs_f64() * 1e3;
        Ok((Fault { at, until, calm_from, victim: Some(victim) }, restart))
    }

    /// Every server ends and comes back, one behind the other.
    fn roll(&mut self, load: &Load, calm_from: load::At) -> io::Result<(Fault, f64)> {
        let begin = Instant::now();
        let at = load.now();
        for victim in 0..self.target.addresses().len() {
            self.target.end(victim, How::Term)?;
            self.target.start(victim)?;
        }
        let took = begin.elapsed().as_secs_f64() * 1e3;
        load.wait_acknowledged(load.now())?;
        load.go_on(BEHIND)?;
        Ok((Fault { at, until: load.now(), calm_from, victim: None }, took))
    }

    /// Every server's tree against what the clients know.
    fn read_back(&self, plan: &Plan, record: &Record) -> io::Result<Vec<ReadBack>> {
        let mut backs = Vec::new();
        for (at, address) in plan.targets.iter().enumerate() {
            backs.push(tally::read_back(record, at + 1, &names_at(*address, plan)?));
        }
        Ok(backs)
    }
}

/// The names of all that was written, as this server lists them. One that is not in sync with its leader yet, or loses it
/// just now, closes the connection, and is asked again.
fn names_at(address: SocketAddr, plan: &Plan) -> io::Result<Vec<Vec<String>>> {
    let deadline = Instant::now() + READ_BACK_PATIENCE;
    loop {
        match try_names_at(address, plan) {
            Err(error) if is_closing(&error) && Instant::now() < deadline => {
                // Between two looks at another process there is nothing to wait on but time.
                std::thread::park_timeout(Duration::from_millis(20));
            }
            done => return done,
        }
    }
}

fn is_closing(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionRefused | ConnectionReset | UnexpectedEof)
}

fn try_names_at(address: SocketAddr, plan: &Plan) -> io::Result<Vec<Vec<String>>> {
    let mut client = Client::connect_within(address, 30_000, READ_BACK_PATIENCE)?;
    // What is not here yet comes before the answer.
    client.call(|out, xid| frames::sync(out, xid, load::ROOT.as_bytes()))?;
    let names =
        (0..plan.writers).map(|lane| client.children(&plan.parent(lane))).collect::<io::Result<Vec<_>>>()?;
    client.close()?;
    Ok(names)
}

/// What the series say about the goals: P11 against Apache in the same run, R14 by all kills together.
fn lines(series: &[Series]) -> Vec<Line> {
    let ours = |how: How| series.iter().filter(move |s| s.name == crate::compare::OSTLER && s.how == how);
    let mut lines = Vec::new();
    let Some(small) = ours(How::Kill).min_by_key(|s| s.znodes) else { return lines };
    let p99 = quantile(&small.gaps(), 0.99);
    let what = "leader killed: longest gap in acknowledged writes, p99";
    let note = format!("{} kills, median {:.1} ms", small.outages.len(), quantile(&small.gaps(), 0.5));
    lines.push(Line::once("P11", what, Sense::AtMost, 60.0, "ms", p99).note(note));
    let apache =
        series.iter().find(|s| s.name != small.name && s.how == How::Kill && s.znodes == small.znodes);
    let what = "median gap of Apache over ours";
    lines.push(match apache {
        Some(apache) => {
            let (ours, theirs) = (quantile(&small.gaps(), 0.5), quantile(&apache.gaps(), 0.5));
            let note = format!("{ours:.1} ms against {theirs:.1} ms of {} kills", apache.outages.len());
            Line::once("P11", what, Sense::AtLeast, 12.0, "", theirs / ours).note(note)
        }
        None => Line::absent("P11", what, Sense::AtLeast, 12.0, "", "no Apache in this run"),
    });
    if let Some(large) = ours(How::Kill).max_by_key(|s| s.znodes).filter(|s| s.znodes > small.znodes) {
        let what = format!("median gap with {} znodes against {}", large.znodes, small.znodes);
        let ratio = quantile(&large.gaps(), 0.5) / quantile(&small.gaps(), 0.5);
        lines.push(Line::once("P11", &what, Sense::AtMost, 1.1, "", ratio));
    }
    let wrong: u64 = [How::Kill, How::Term, How::Rolling]
        .iter()
        .flat_map(|how| ours(*how))
        .map(|s| s.worst(|back| back.lost) + s.worst(|back| back.twice) + s.worst(|back| back.uncalled))
        .sum();
    let kills: usize = ours(How::Kill).map(|s| s.outages.len()).sum();
    let what = "acknowledged writes lost, or writes applied twice or without being asked";
    lines.push(Line::once("R14", what, Sense::AtMost, 0.0, "", wrong as f64).note(format!("{kills} kills")));
    lines
}
