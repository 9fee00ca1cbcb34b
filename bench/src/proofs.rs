//! Goals with a measurement of their own, `compare --lines P7,P9,...`: each starts the servers it needs and leaves lines
//! behind. Not here: goals that follow from the table's cells (goals), memory and time of big trees (proofs/tree),
//! crowds of sessions and watches (proofs/crowds).

use std::io;
use std::time::Duration;

use crate::compare::{Comparison, ComparisonResult, NETTY, NIO, Narrator, OSTLER, START_LIMIT, VALUE_BYTES};
use crate::frames::Op;
use crate::keys::Keys;
use crate::load::Pace;
use crate::measure::Percentiles;
use crate::scenario::{self, Report, Settings};
use crate::server::{Server, ServerKind};
use crate::statistics::Sense::{AtLeast, AtMost};
use crate::statistics::{Line, median};

mod crowds;
mod tree;

/// Rounds of what is paired; and up to how many more when the goal is not judged by them.
const ROUNDS: u64 = 7;
const ROUNDS_MOST: u64 = 21;

/// Until a server under callgrind has read its tree.
const COUNTED_START_LIMIT: Duration = Duration::from_secs(400);

type Measurement = fn(&mut Lab<'_, '_>) -> io::Result<()>;

/// Name, seconds it takes with a million znodes, and the measurement.
const PROOFS: [(&str, u64, Measurement); 9] = [
    ("P5", 50, reads_beside_writes),
    ("P6", 200, tree::growth),
    ("P7", 60, tree::memory),
    ("P8", 160, tree::wide),
    ("P9", 50, tree::snapshot),
    ("P10", 120, tree::restart),
    ("P12", 300, crowds::watches),
    ("P13", 60, crowds::idle),
    ("P15", 110, tails),
];

/// Which of them to run.
pub struct Proofs {
    wanted: Vec<(&'static str, u64, Measurement)>,
    /// The table first.
    pub table: bool,
    long: bool,
}

impl Proofs {
    /// `None` when nothing is named: then there is only the table.
    pub fn parse(names: &[String], long: bool) -> Result<Option<Proofs>, String> {
        if names.is_empty() {
            return Ok(None);
        }
        if names.iter().any(|name| name == "all") {
            return Ok(Some(Proofs { wanted: PROOFS.to_vec(), table: true, long }));
        }
        let mut wanted = Vec::new();
        for name in names {
            let proof = PROOFS.into_iter().find(|(known, ..)| known.eq_ignore_ascii_case(name));
            let known = PROOFS.map(|(known, ..)| known).join(", ");
            wanted.push(proof.ok_or_else(|| {
                format!("--lines {name}: not one of {known}, all; P1 to P4 and P14 come with the table")
            })?);
        }
        Ok(Some(Proofs { wanted, table: false, long }))
    }

    /// What `run` will take, roughly.
    pub fn expected(&self, comparison: &Comparison) -> Duration {
        let seconds: u64 = self.wanted.iter().map(|(_, seconds, _)| seconds).sum();
        let size = (comparison.keys as f64 / 1e6).max(0.3);
        Duration::from_secs_f64(seconds as f64 * if self.long { 10.0 } else { size })
    }
}

/// Runs the wanted measurements, one after the other; their lines join `result`.
pub fn run(
    proofs: &Proofs,
    comparison: &Comparison,
    narrator: &mut Narrator<'_>,
    result: &mut ComparisonResult,
) -> io::Result<()> {
    for (name, _, measure) in &proofs.wanted {
        let mut lab = Lab { name, comparison, long: proofs.long, narrator, result };
        let measured = measure(&mut lab);
        lab.clear();
        if let Err(error) = measured {
            // A server that fails here must not take along what the others have shown.
            lab.say(&format!("was not measured: {error}"));
            let why = format!("the measurement failed: {error}");
            lab.line(Line::absent(name, "not measured", AtMost, 0.0, "", &why));
        }
    }
    Ok(())
}

/// What a measurement works with.
struct Lab<'a, 'n> {
    name: &'static str,
    comparison: &'a Comparison,
    long: bool,
    narrator: &'a mut Narrator<'n>,
    result: &'a mut ComparisonResult,
}

impl Lab<'_, '_> {
    fn say(&mut self, text: &str) {
        self.narrator.step(format!("{}: {text}", self.name));
    }

    fn kind(&self, name: &str) -> Option<ServerKind> {
        self.comparison.kinds.iter().find(|kind| kind.name == name).cloned()
    }

    /// The faster of Apache's stacks that is there.
    fn apache(&self) -> Option<ServerKind> {
        self.kind(NETTY).or_else(|| self.kind(NIO))
    }

    fn ostler(&self) -> ServerKind {
        self.kind(OSTLER).expect("every comparison has Ostler among its servers")
    }

    /// Removes what this goal's servers have written, all of which have ended: logs of a load fill disks.
    fn clear(&self) {
        let mine = format!("{}-", self.name);
        for entry in std::fs::read_dir(&self.comparison.dir).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(&mine) {
                // The next goal finds out if there is no room.
                let _ = std::fs::remove_dir_all(entry.path().join("data"));
            }
        }
    }

    fn echo(&self) -> ServerKind {
        self.kind(crate::compare::ECHO).expect("every comparison has the echo limit")
    }

    /// A server on the servers' CPU, with data of its own; `label` tells it from others of this measurement.
    fn start(&mut self, kind: &ServerKind, label: &str) -> io::Result<Server> {
        self.start_with(kind, label, Some(self.comparison.server_cpu), "")
    }

    fn start_with(
        &mut self,
        kind: &ServerKind,
        label: &str,
        cpu: Option<usize>,
        lines: &str,
    ) -> io::Result<Server> {
        let name = format!("{}-{}-{label}", self.name, kind.name);
        self.narrator.step(format!("{}: starting {} {label}", self.name, kind.name));
        Server::start_with(kind, &self.comparison.dir.join(name), cpu, START_LIMIT, lines)
    }

    fn settings(&self, server: &Server, mix: &[(Op, u64)], connections: usize, depth: usize) -> Settings {
        Settings {
            connections,
            depth,
            mix: mix.to_vec(),
            keys: Keys { shape: self.comparison.shape, count: self.keys() },
            warmup: self.comparison.warmup,
            duration: self.comparison.duration,
            session_timeout_ms: 600_000,
            ..Settings::reading(server, self.keys(), VALUE_BYTES)
        }
    }

    /// Znodes under a load.
    fn keys(&self) -> u64 {
        self.comparison.keys
    }

    fn preload(&mut self, settings: &Settings) -> io::Result<()> {
        let name = self.name;
        scenario::preload(settings, &mut |p| {
            self.narrator.pass(format!("{name}: {} znodes built", p.completed));
        })?;
        Ok(())
    }

    fn load(&mut self, what: &str, settings: &Settings) -> io::Result<Report> {
        let name = self.name;
        self.narrator.pass(format!("{name}: waiting for rest"));
        self.comparison.rest.come();
        self.narrator.step(format!("{name}: {what}"));
        scenario::sustained(what, settings, &mut |p| {
            self.narrator.pass(format!("{name}: {what}, {:.1} s", p.elapsed.as_secs_f64()));
        })
    }

    /// Whether instructions can be asked where time does not judge.
    fn counts(&self) -> bool {
        self.ostler().counted().is_some()
    }

    /// Ostler with its instructions counted, on a tree that `build` has made with one of full speed.
    fn start_counted(
        &mut self,
        label: &str,
        build: impl FnOnce(&mut Self, &Server) -> io::Result<()>,
    ) -> io::Result<Server> {
        let label = format!("{label}-counted");
        let kind = self.ostler();
        let server = self.start(&kind, &label)?;
        build(self, &server)?;
        drop(server);
        let kind = kind.counted().ok_or_else(|| io::Error::other("valgrind is not installed"))?;
        self.narrator.step(format!("{}: starting {label} under callgrind", self.name));
        // A snapshot in one of two servers would be counted with its operations.
        let dir = self.comparison.dir.join(format!("{}-{}-{label}", self.name, kind.name));
        let cpu = Some(self.comparison.server_cpu);
        Server::start_with(&kind, &dir, cpu, COUNTED_START_LIMIT, "snapCount=2000000000")
    }

    /// Leaves the line behind as `judge` makes it; as time has it where that fails.
    fn line_counted(&mut self, line: Line, judge: impl FnOnce(&mut Self, Line) -> io::Result<Line>) {
        let judged = judge(self, line.clone()).unwrap_or_else(|error| {
            let note = format!("{}; instructions were not counted: {error}", line.note);
            line.note(note.trim_start_matches("; "))
        });
        self.line(judged);
    }

    /// The same load on both servers, which are counted; `line` judged by what an operation takes of the second over
    /// what it takes of the first. `settings` makes the load of a server, by its place and the round.
    fn count(
        &mut self,
        line: Line,
        servers: [&Server; 2],
        settings: impl Fn(&Lab<'_, '_>, &Server, usize, u64) -> Settings,
    ) -> io::Result<Line> {
        let mut ratios = Vec::new();
        for round in 1..=ROUNDS {
            let mut counts = [f64::NAN; 2];
            for (at, server) in servers.into_iter().enumerate() {
                self.say(&format!("{}: counting instructions, round {round}", line.what));
                let settings = settings(self, server, at, round);
                let report = scenario::sustained("counted", &settings, &mut |_| {})?;
                if let Some((code, count)) = report.errors.first() {
                    return Err(io::Error::other(format!(
                        "{count} operations were answered by error {code}"
                    )));
                }
                counts[at] = report.value("instructions").unwrap_or(f64::NAN);
            }
            ratios.extend(Some(counts[1] / counts[0]).filter(|ratio| ratio.is_finite()));
        }
        Ok(line.by_instructions(&ratios))
    }

    /// The highest rate of an open loop that server and generator keep up with, down from that of a closed one: an open
    /// loop has less in each read of a socket, so each request costs both of them more.
    fn capacity(&mut self, what: &str, settings: &Settings) -> io::Result<f64> {
        const STEP: f64 = 0.85;
        let mut probe = settings.clone();
        probe.duration = Duration::from_secs(1);
        probe.pace = Pace::Closed;
        let mut rate_tried = rate(&self.load(&format!("{what}, closed loop"), &probe)?);
        for _ in 0..8 {
            rate_tried *= STEP;
            probe.pace = Pace::Poisson(rate_tried);
            let open = self.load(&format!("{what}, open loop at {rate_tried:.0}/s"), &probe)?;
            if open.invalid.is_empty() && rate(&open) > 0.98 * rate_tried {
                break;
            }
        }
        Ok(rate_tried)
    }

    fn line(&mut self, line: Line) {
        self.result.lines.push(line);
    }
}

/// After a round: whether the line that its figures give is to stand.
fn stands(round: u64, line: &Line) -> bool {
    round >= ROUNDS_MOST || round >= ROUNDS && !line.wants_rounds()
}

/// The same of a line that instructions can judge: where they are counted they serve better than more rounds.
fn stands_or_counts(round: u64, line: &Line, counts: bool) -> bool {
    stands(round, line) || counts && round >= ROUNDS
}

/// Throughput of a load.
fn rate(report: &Report) -> f64 {
    report.value("throughput").unwrap_or(0.0)
}

fn of_op(report: &Report, op: Op) -> Option<&Percentiles> {
    report.by_op.iter().find(|(name, _)| name == op.name()).map(|(_, p)| p)
}

/// What a report gives when its round counts.
fn when_valid(reports: &[&Report], value: f64) -> Option<f64> {
    (value.is_finite() && reports.iter().all(|report| report.invalid.is_empty())).then_some(value)
}

/// Share of its CPU that a server may use while P5 looks at its tail.
const P5_BUSY_MOST: f64 = 0.7;

/// What a server spent on an operation in each of two runs, the second over the first, if both tell it.
fn dearer(without: &Report, with: &Report) -> Option<f64> {
    let tells = |report: &Report| report.invalid.is_empty() || report.saturated && report.invalid.len() == 1;
    let ratio = with.server_cpu_us_per_op? / without.server_cpu_us_per_op?;
    (ratio.is_finite() && tells(without) && tells(with)).then_some(ratio)
}

/// P5: reads at 30 % of capacity, with and without writes that keep a sync always in flight.
fn reads_beside_writes(lab: &mut Lab<'_, '_>) -> io::Result<()> {
    let kind = lab.ostler();
    let server = lab.start(&kind, "")?;
    let reads = [(Op::Read, 1)];
    let settings = lab.settings(&server, &reads, 100, 16);
    lab.preload(&settings)?;
    let capacity = lab.capacity("capacity for reads", &settings)?;
    // As many writes as keep the disk busy by themselves, and not more.
    let syncs = lab.result.sync_limits.iter().map(|limit| limit.syncs_per_second).fold(0.0, f64::max);
    let write_rate = 1.2 * syncs;
    let beside_writes = |lab: &Lab<'_, '_>, share: f64| {
        let read_rate = share * capacity;
        let weights = [(Op::Read, read_rate as u64), (Op::Write, write_rate as u64)];
        let mut settings = lab.settings(&server, &weights, 100, 16);
        settings.pace = Pace::Poisson(read_rate + write_rate);
        settings
    };
    // Less, where a sync costs so much CPU that this would leave the server too little.
    let mut share = 0.3;
    for smaller in [0.2, 0.13, 0.08, 0.05, 0.03] {
        let probe = lab.load("the server's CPU", &beside_writes(lab, share))?;
        if probe.value("server CPU").is_some_and(|busy| busy <= P5_BUSY_MOST) {
            break;
        }
        share = smaller;
    }
    let (mut added, mut busy) = (Vec::new(), Vec::new());
    let what = format!("read p99 added by writes, reads at {:.0} % of capacity", share * 100.0);
    for round in 1.. {
        let mut alone = lab.settings(&server, &reads, 100, 16);
        (alone.pace, alone.seed) = (Pace::Poisson(share * capacity), round);
        let mut beside = beside_writes(lab, share);
        beside.seed = round;
        let base = lab.load("reads alone", &alone)?;
        let with = lab.load("reads beside writes", &beside)?;
        busy.extend(with.value("server CPU"));
        if let (Some(base_p), Some(with_p)) = (of_op(&base, Op::Read), of_op(&with, Op::Read)) {
            added.extend(when_valid(&[&base, &with], with_p.p99_us - base_p.p99_us));
        }
        let line = Line::rounds("P5", &what, AtMost, 100.0, "us", &added);
        if stands(round, &line) {
            lab.line(line.note(format!(
                "{:.0} reads/s, {write_rate:.0} writes/s, the server's CPU {:.0} % busy; wanted are 30 % of capacity and \
                 up to 70 % busy",
                share * capacity,
                median(&busy) * 100.0
            )));
            break;
        }
    }
    Ok(())
}

/// P15: an open loop at 70 % of Apache's capacity.
fn tails(lab: &mut Lab<'_, '_>) -> io::Result<()> {
    let Some(apache) = lab.apache() else {
        for (what, bound) in [("p99.9 over Apache's", 0.05), ("p99.99 over the echo's", 1.5)] {
            lab.line(Line::absent(
                "P15",
                what,
                AtMost,
                bound,
                "times",
                "its rate is a share of Apache's capacity",
            ));
        }
        return Ok(());
    };
    let mix = [(Op::Read, 10), (Op::Write, 1)];
    let seconds = if lab.long { 600 } else { 20 };
    let apache_name = apache.name.clone();
    let (mut capacity, mut reports) = (0.0, Vec::new());
    // One at a time: the snapshots of a server that has had its turn would stand in the tail of the next.
    for kind in [apache, lab.ostler(), lab.echo()] {
        let server = lab.start(&kind, "")?;
        let mut settings = lab.settings(&server, &mix, 100, 16);
        if kind.real {
            lab.preload(&settings)?;
        }
        if reports.is_empty() {
            settings.duration = Duration::from_secs(4);
            lab.load("heating Apache", &settings)?;
            capacity = rate(&lab.load("capacity of Apache", &settings)?);
        }
        (settings.pace, settings.duration) = (Pace::Fixed(0.7 * capacity), Duration::from_secs(seconds));
        let report = lab.load(&format!("{} at {:.0}/s", kind.name, 0.7 * capacity), &settings)?;
        let title = format!("P15, {}: open loop at 70 % of Apache's capacity", kind.name);
        lab.result.runs.push((title, report.clone()));
        reports.push(report);
    }
    let at = |server: usize, name: &str| reports[server].value(name).unwrap_or(f64::NAN);
    let circumstances = format!("{seconds} s at {:.0}/s; ostler, {apache_name}, echo", 0.7 * capacity);
    let three = |name: &str| {
        format!("{circumstances}: {:.0}, {:.0}, {:.0} us", at(1, name), at(0, name), at(2, name))
    };
    let invalid: Vec<&String> = reports.iter().flat_map(|report| &report.invalid).collect();
    if let Some(why) = invalid.first() {
        lab.line(Line::absent("P15", "p99.9 over Apache's", AtMost, 0.05, "times", why).note(three("p99.9")));
        return Ok(());
    }
    let ratio = at(1, "p99.9") / at(0, "p99.9");
    lab.line(Line::once("P15", "p99.9 over Apache's", AtMost, 0.05, "times", ratio).note(three("p99.9")));
    // Either of two bounds is enough: the looser one of the two counts.
    let bound = (1.5 * at(2, "p99.99") / 1e3).max(5.0);
    let line =
        Line::once("P15", "p99.99: 5 ms or 1.5 times the echo's", AtMost, bound, "ms", at(1, "p99.99") / 1e3);
    lab.line(line.note(three("p99.99")));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_are_found_by_name() {
        let parse = |names: &[&str]| {
            Proofs::parse(&names.iter().map(|name| name.to_string()).collect::<Vec<_>>(), false)
        };
        assert!(parse(&[]).unwrap().is_none());
        assert_eq!(parse(&["p7", "P9"]).unwrap().unwrap().wanted.len(), 2);
        assert!(parse(&["all"]).unwrap().unwrap().table);
        assert!(parse(&["P1"]).is_err());
    }
}
