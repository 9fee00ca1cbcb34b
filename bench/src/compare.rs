//! `compare`: servers side by side. Rounds alternate (A B A B) so that a machine that drifts drifts for all; every cell
//! has its limits measured in the same round.
//! Not here: what the rounds mean for the goals (goals), how it is shown (report).

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::circumstances::{self, Circumstances};
use crate::frames::Op;
use crate::goals;
use crate::keys::{Keys, Shape};
use crate::rest::Rest;
use crate::scenario::{self, Report, Settings};
use crate::server::{self, Server, ServerKind};
use crate::statistics::{Interval, Line, interval, median};
use crate::sync_limit::{self, Probe, SyncResult};

pub const START_LIMIT: Duration = Duration::from_secs(120);
pub const VALUE_BYTES: usize = 100;
/// What one setData of 100 bytes takes in a log: the unit of raw group commit.
pub const RECORD_BYTES: usize = 300;
/// Sessions that connect at once in the last row.
pub const CROWD: usize = 10_000;
const PROBE: Duration = Duration::from_millis(200);
/// Load before the first round, so that just-in-time compilers have seen the paths: so many times one round.
const HEATING_ROUNDS: u32 = 2;

/// What a cell's load does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Load {
        reads: u64,
        writes: u64,
    },
    /// Sessions that come and go, so many at a time.
    Storm,
    /// All sessions at once, once.
    Crowd,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
struct Cell {
    name: &'static str,
    kind: Kind,
    sessions: usize,
    depth: usize,
}

const fn cell(name: &'static str, reads: u64, writes: u64, sessions: usize, depth: usize) -> Cell {
    Cell { name, kind: Kind::Load { reads, writes }, sessions, depth }
}

const CELLS: [Cell; 12] = [
    cell("read, 1 session, depth 1", 1, 0, 1, 1),
    cell("read, 100 sessions, depth 1", 1, 0, 100, 1),
    cell("read, 10 sessions, depth 16", 1, 0, 10, 16),
    cell("read, 100 sessions, depth 16", 1, 0, 100, 16),
    cell("write, 1 session, depth 1", 0, 1, 1, 1),
    cell("write, 100 sessions, depth 1", 0, 1, 100, 1),
    cell("write, 100 sessions, depth 16", 0, 1, 100, 16),
    cell("10:1, 100 sessions, depth 1", 10, 1, 100, 1),
    cell("10:1, 10 sessions, depth 16", 10, 1, 10, 16),
    cell("10:1, 100 sessions, depth 16", 10, 1, 100, 16),
    Cell { name: "session storm, 100 at once", kind: Kind::Storm, sessions: 100, depth: 1 },
    Cell { name: "10 000 sessions connect at once", kind: Kind::Crowd, sessions: CROWD, depth: 1 },
];

impl Cell {
    fn writes(&self) -> bool {
        !matches!(self.kind, Kind::Load { writes: 0, .. })
    }

    fn outstanding(&self) -> usize {
        self.sessions * self.depth
    }
}

/// What to run.
pub struct Comparison {
    pub kinds: Vec<ServerKind>,
    pub rounds: usize,
    /// More rounds for a cell whose goals the first ones do not judge, up to so many.
    pub rounds_most: usize,
    pub duration: Duration,
    pub warmup: Duration,
    pub keys: u64,
    pub shape: Shape,
    pub server_cpu: usize,
    pub load_cpu: usize,
    pub only: Option<String>,
    pub dir: PathBuf,
    pub rest: Rest,
}

/// One server's rounds of one cell. A round that says nothing has a reason in `invalid`.
#[derive(Clone, Default, Debug, serde::Serialize, serde::Deserialize)]
pub struct Series {
    pub server: String,
    pub ops_per_second: Vec<f64>,
    pub server_cpu_us: Vec<f64>,
    /// User-space instructions per operation; empty where the machine does not count them.
    pub instructions: Vec<f64>,
    /// Syncs of the log per operation, as the server counts them; empty for the limit.
    pub syncs_per_op: Vec<f64>,
    pub p50_us: Vec<f64>,
    pub p99_us: Vec<f64>,
    pub max_us: Vec<f64>,
    /// By round, as above.
    pub invalid: Vec<Option<String>>,
    /// By round: nothing is wrong but that the generator was the limit, so what an operation cost the server is right.
    #[serde(default)]
    pub saturated: Vec<bool>,
    /// All rounds together, as (value in ns, count).
    pub histogram: Vec<(u64, u64)>,
}

impl Series {
    /// What a reader of the table wants to see: the median rate.
    pub fn rate(&self) -> f64 {
        self.median_of(&self.ops_per_second)
    }

    pub fn cpu_us(&self) -> f64 {
        self.median_of(&self.server_cpu_us)
    }

    /// Over the rounds in which nothing was wrong but, at most, that the generator was the limit; over all when there is
    /// no such round. What a server refused is no rate of it.
    fn median_of(&self, values: &[f64]) -> f64 {
        let stands = |round: usize| {
            self.invalid.get(round).is_none_or(Option::is_none) || self.saturated.get(round) != Some(&false)
        };
        let standing: Vec<f64> =
            (0..).zip(values).filter(|(at, _)| stands(*at)).map(|(_, value)| *value).collect();
        median(if standing.is_empty() { values } else { &standing })
    }
}

/// Raw group commit in one round of a cell that writes.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct RawSync {
    /// One record at a time: latency of a commit, and CPU it costs.
    pub p50_us: f64,
    pub cpu_us: f64,
    /// Records a second when each commit takes all that is outstanding.
    pub records_per_second: f64,
}

#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct CellResult {
    pub name: String,
    pub sessions: usize,
    pub depth: usize,
    pub reads: u64,
    pub writes: u64,
    pub series: Vec<Series>,
    /// By round; empty for cells that do not write.
    pub raw_sync: Vec<RawSync>,
}

#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub struct ComparisonResult {
    pub circumstances: Circumstances,
    pub settings: Vec<(String, String)>,
    pub keys: u64,
    pub rounds: usize,
    pub seconds: f64,
    pub cells: Vec<CellResult>,
    pub sync_limits: Vec<SyncResult>,
    /// Resident bytes of each server after the preload.
    pub rss_bytes: Vec<(String, u64)>,
    /// Seconds each server took to build the tree.
    pub preload_seconds: Vec<(String, f64)>,
    pub lines: Vec<Line>,
    /// Scenario runs behind lines that are not cells, named; for plots over time.
    pub runs: Vec<(String, Report)>,
}

/// Where a comparison stands, for the live line.
#[derive(Clone, Debug)]
pub struct Step {
    pub text: String,
    pub elapsed: Duration,
    pub expected: Duration,
    /// Nothing new happens but time: shown on terminals only.
    pub passing: bool,
}

pub type Say<'a> = &'a mut dyn FnMut(&Step);

/// Says how far a comparison is; expects the whole to take what was told at first.
pub struct Narrator<'a> {
    begin: Instant,
    expected: Duration,
    say: Say<'a>,
}

impl<'a> Narrator<'a> {
    pub fn new(expected: Duration, say: Say<'a>) -> Narrator<'a> {
        Narrator { begin: Instant::now(), expected, say }
    }

    fn tell(&mut self, text: String, passing: bool) {
        (self.say)(&Step { text, elapsed: self.begin.elapsed(), expected: self.expected, passing });
    }

    pub fn step(&mut self, text: impl Into<String>) {
        self.tell(text.into(), false);
    }

    pub fn pass(&mut self, text: impl Into<String>) {
        self.tell(text.into(), true);
    }
}

impl Comparison {
    fn cells(&self) -> Vec<&'static Cell> {
        let wanted = |cell: &&Cell| self.only.as_ref().is_none_or(|only| cell.name.contains(only.as_str()));
        CELLS.iter().filter(wanted).collect()
    }

    /// What `run` will take, told up front.
    pub fn expected(&self) -> Duration {
        // Measured on two cores: creates a second while building, seconds of a crowd with its leaving.
        let building: f64 = self
            .kinds
            .iter()
            .map(|kind| match (kind.real, kind.name.starts_with("apache")) {
                (true, true) => self.keys as f64 / 35_000.0 + 2.0,
                (true, false) => self.keys as f64 / 200_000.0,
                (false, _) => 0.0,
            })
            .sum();
        let rest = 0.4;
        let turn = (self.duration + self.warmup).as_secs_f64() + 0.1 + rest;
        let crowd = 3.0 + rest;
        let round: f64 = self
            .cells()
            .iter()
            .map(|cell| {
                let one = if cell.kind == Kind::Crowd { crowd } else { turn };
                let sync = if cell.writes() { 2.0 * PROBE.as_secs_f64() } else { 0.0 };
                one * self.kinds.len() as f64 + sync
            })
            .sum();
        let heating = (self.duration * HEATING_ROUNDS).as_secs_f64() * self.kinds.len() as f64;
        Duration::from_secs_f64(building + heating + 6.0 + round * self.rounds as f64)
    }

    fn settings(&self, server: &Server, cell: &Cell) -> Settings {
        let (reads, writes) = match cell.kind {
            Kind::Load { reads, writes } => (reads, writes),
            _ => (1, 0),
        };
        Settings {
            connections: cell.sessions,
            depth: cell.depth,
            mix: vec![(Op::Read, reads), (Op::Write, writes)],
            keys: Keys { shape: self.shape, count: self.keys },
            warmup: self.warmup,
            duration: self.duration,
            population: cell.sessions,
            ..Settings::reading(server, self.keys, VALUE_BYTES)
        }
    }
}

/// Runs every cell, or with `table` false only looks at the disk; the result's `lines` are still empty.
pub fn run(
    comparison: &Comparison,
    table: bool,
    narrator: &mut Narrator<'_>,
) -> io::Result<ComparisonResult> {
    std::fs::create_dir_all(&comparison.dir)?;
    // Before this process is pinned: it asks how many CPUs there are.
    let mut circumstances = circumstances::circumstances(&comparison.dir);
    server::pin_self(comparison.load_cpu)?;
    narrator.step("measuring the disk");
    let sync_limits = sync_limit::measure_all(&comparison.dir, RECORD_BYTES, 3, Duration::from_millis(150))?;
    let best = sync_limits
        .iter()
        .max_by(|a, b| a.syncs_per_second.total_cmp(&b.syncs_per_second))
        .ok_or_else(|| io::Error::other("no way to sync works in the data directory"))?;
    let probe = Probe::new(&comparison.dir, best.method)?;
    let (mut servers, mut rss_bytes, mut preload_seconds) = (Vec::new(), Vec::new(), Vec::new());
    let kinds = if table { comparison.kinds.as_slice() } else { &[] };
    for kind in kinds {
        narrator.step(format!("starting {}", kind.name));
        let dir = comparison.dir.join(&kind.name);
        let server = Server::start(kind, &dir, Some(comparison.server_cpu), START_LIMIT)?;
        if kind.real {
            let settings = comparison.settings(&server, &CELLS[0]);
            let report = scenario::preload(&settings, &mut |p| {
                narrator.pass(format!("{}: {} znodes built", kind.name, p.completed));
            })?;
            rss_bytes.push((kind.name.clone(), report.server_rss_bytes.unwrap_or(0)));
            let rate = report.value("throughput").unwrap_or(f64::NAN);
            preload_seconds.push((kind.name.clone(), comparison.keys as f64 / rate));
            circumstances.describe(&kind.name, server.address);
        }
        servers.push(server);
    }
    for server in &servers {
        narrator.step(format!("heating {}", server.kind.name));
        let mut settings = comparison.settings(server, &CELLS[9]);
        (settings.duration, settings.warmup) = (comparison.duration * HEATING_ROUNDS, Duration::ZERO);
        scenario::sustained("heating", &settings, &mut |_| {})?;
    }
    let mut cells = Vec::new();
    for cell in comparison.cells().into_iter().filter(|_| table) {
        cells.push(run_cell(comparison, cell, &servers, &probe, narrator)?);
    }
    servers.into_iter().for_each(Server::clear);
    Ok(ComparisonResult {
        circumstances,
        settings: described(comparison, best),
        keys: comparison.keys,
        rounds: comparison.rounds,
        seconds: comparison.duration.as_secs_f64(),
        cells,
        sync_limits,
        rss_bytes,
        preload_seconds,
        lines: Vec::new(),
        runs: Vec::new(),
    })
}

fn described(comparison: &Comparison, best: &SyncResult) -> Vec<(String, String)> {
    let seconds = |duration: Duration| format!("{:.2} s", duration.as_secs_f64());
    [
        ("znodes", format!("{} of {:?} shape, {VALUE_BYTES} bytes", comparison.keys, comparison.shape)),
        (
            "rounds",
            format!(
                "{}, and up to {} where the goal is not judged by them; servers take turns inside each, the machine \
                 rests before each turn",
                comparison.rounds,
                comparison.rounds_most.max(comparison.rounds)
            ),
        ),
        ("one round of one cell", seconds(comparison.duration)),
        ("warm-up before it", seconds(comparison.warmup)),
        ("servers on", format!("CPU {}", comparison.server_cpu)),
        ("load on", format!("CPU {}", comparison.load_cpu)),
        ("raw group commit by", format!("{:?}, the fastest here", best.method)),
    ]
    .map(|(name, value)| (name.to_string(), value))
    .to_vec()
}

fn run_cell(
    comparison: &Comparison,
    cell: &Cell,
    servers: &[Server],
    probe: &Probe,
    narrator: &mut Narrator<'_>,
) -> io::Result<CellResult> {
    let (reads, writes) = match cell.kind {
        Kind::Load { reads, writes } => (reads, writes),
        _ => (0, 0),
    };
    let mut result = CellResult {
        name: cell.name.to_string(),
        sessions: cell.sessions,
        depth: cell.depth,
        reads,
        writes,
        series: servers.iter().map(|server| Series::new(&server.kind.name)).collect(),
        raw_sync: Vec::new(),
    };
    let mut round = 0;
    while round < comparison.rounds
        || round < comparison.rounds_most && goals::of_cell(&result).iter().any(Line::wants_rounds)
    {
        for (server, series) in servers.iter().zip(&mut result.series) {
            let place = format!("{}: round {} of {}", cell.name, round + 1, comparison.rounds.max(round + 1));
            narrator.pass(format!("{place}: waiting for rest"));
            comparison.rest.come();
            narrator.step(format!("{place}: {}", server.kind.name));
            let mut settings = comparison.settings(server, cell);
            settings.seed = round as u64 + 1;
            let began = Instant::now();
            let syncs = server::sync_count(server);
            let report = match cell.kind {
                // A server may refuse some of a crowd: its round does not count, those of the others stand.
                Kind::Storm => scenario::sessions(&settings, &mut |_| {}).unwrap_or_else(not_done),
                Kind::Crowd => scenario::crowd(&settings).unwrap_or_else(not_done),
                Kind::Load { .. } => scenario::sustained(cell.name, &settings, &mut |p| {
                    let rate = p.completed as f64
                        / (p.elapsed.as_secs_f64() - settings.warmup.as_secs_f64()).max(0.1);
                    narrator.pass(format!("{place}: {} {rate:.0}/s", server.kind.name));
                })?,
            };
            let syncs = server::sync_count(server).zip(syncs).map(|(after, before)| (after - before) as f64);
            series.take(&report, syncs, began.elapsed());
        }
        if cell.writes() {
            comparison.rest.come();
            result.raw_sync.push(raw_sync(probe, cell.outstanding())?);
        }
        round += 1;
    }
    Ok(result)
}

/// What stands for a round that could not be played.
fn not_done(error: io::Error) -> Report {
    let mut report = Report::empty("not done");
    report.invalid.push(error.to_string());
    report
}

fn raw_sync(probe: &Probe, outstanding: usize) -> io::Result<RawSync> {
    let one = probe.measure(RECORD_BYTES, PROBE)?;
    let all =
        if outstanding == 1 { one.clone() } else { probe.measure(RECORD_BYTES * outstanding, PROBE)? };
    Ok(RawSync {
        p50_us: one.latency.p50_us,
        cpu_us: one.cpu_us,
        records_per_second: all.syncs_per_second * outstanding as f64,
    })
}

impl Series {
    fn new(server: &str) -> Series {
        Series {
            server: server.to_string(),
            ops_per_second: Vec::new(),
            server_cpu_us: Vec::new(),
            instructions: Vec::new(),
            syncs_per_op: Vec::new(),
            p50_us: Vec::new(),
            p99_us: Vec::new(),
            max_us: Vec::new(),
            invalid: Vec::new(),
            saturated: Vec::new(),
            histogram: Vec::new(),
        }
    }

    /// One round: its report, the syncs the server counted meanwhile, and how long it took with the warm-up.
    fn take(&mut self, report: &Report, syncs: Option<f64>, took: Duration) {
        let figure = |name| report.value(name).unwrap_or(0.0);
        let rate = figure("throughput");
        self.ops_per_second.push(rate);
        self.p50_us.push(figure("p50"));
        self.p99_us.push(figure("p99"));
        self.max_us.push(figure("max"));
        self.server_cpu_us.push(report.server_cpu_us_per_op.unwrap_or(0.0));
        self.instructions.extend(report.value("instructions"));
        self.syncs_per_op.extend(syncs.map(|syncs| syncs / (rate * took.as_secs_f64()).max(1.0)));
        let mut reasons = report.invalid.clone();
        reasons
            .extend(report.errors.iter().map(|(code, count)| format!("{count} replies with error {code}")));
        self.saturated.push(report.saturated && reasons.len() == 1);
        self.invalid.push((!reasons.is_empty()).then(|| reasons.join("; ")));
        let mut all: std::collections::BTreeMap<u64, u64> = self.histogram.drain(..).collect();
        for (value, count) in &report.histogram {
            *all.entry(*value).or_default() += count;
        }
        self.histogram = all.into_iter().collect();
    }

    pub fn valid(&self, round: usize) -> bool {
        self.invalid.get(round).is_some_and(Option::is_none)
    }

    /// Whether the round's server CPU per operation counts.
    pub fn tells_cost(&self, round: usize) -> bool {
        self.valid(round) || self.saturated.get(round) == Some(&true)
    }
}

impl CellResult {
    pub fn of(&self, server: &str) -> Option<&Series> {
        self.series.iter().find(|series| series.server == server)
    }

    /// One figure for each round in which all of `servers` are valid.
    pub fn paired(&self, servers: &[&str], figure: impl Fn(usize, &[&Series]) -> Option<f64>) -> Vec<f64> {
        self.paired_where(servers, Series::valid, figure)
    }

    /// The same for figures of server CPU per operation alone.
    pub fn paired_costs(
        &self,
        servers: &[&str],
        figure: impl Fn(usize, &[&Series]) -> Option<f64>,
    ) -> Vec<f64> {
        self.paired_where(servers, Series::tells_cost, figure)
    }

    fn paired_where(
        &self,
        servers: &[&str],
        counts: impl Fn(&Series, usize) -> bool,
        figure: impl Fn(usize, &[&Series]) -> Option<f64>,
    ) -> Vec<f64> {
        let series: Option<Vec<&Series>> = servers.iter().map(|name| self.of(name)).collect();
        let Some(series) = series else { return Vec::new() };
        let rounds = series.iter().map(|s| s.ops_per_second.len()).min().unwrap_or(0);
        (0..rounds)
            .filter(|round| series.iter().all(|s| counts(s, *round)))
            .filter_map(|round| figure(round, &series))
            .filter(|value| value.is_finite())
            .collect()
    }

    /// Throughput of `a` over `b`, paired by round.
    pub fn ratio(&self, a: &str, b: &str) -> Interval {
        interval(&self.paired(&[a, b], |at, s| Some(s[0].ops_per_second[at] / s[1].ops_per_second[at])))
    }

    /// The ceiling of a round in operations per second: the echo's rate; for cells that only write no more than raw
    /// group commit; for mixes the echo's cost plus `syncs_per_op` times what a raw sync costs.
    pub fn limit(&self, round: usize, echo: &Series, syncs_per_op: f64) -> Option<f64> {
        let echo = *echo.ops_per_second.get(round)?;
        let raw = self.raw_sync.get(round);
        match (self.reads, self.writes, raw) {
            (1.., 1.., Some(raw)) => Some(1e6 / (1e6 / echo + syncs_per_op * raw.cpu_us)),
            (_, _, Some(raw)) => Some(echo.min(raw.records_per_second)),
            (_, _, None) => Some(echo),
        }
    }

    /// What an operation costs at the limit, microseconds of server CPU.
    pub fn limit_cost(&self, round: usize, echo: &Series, syncs_per_op: f64) -> Option<f64> {
        let echo = *echo.server_cpu_us.get(round)?;
        match (self.reads, self.writes, self.raw_sync.get(round)) {
            (1.., 1.., Some(raw)) => Some(echo + syncs_per_op * raw.cpu_us),
            (_, _, Some(raw)) => Some(echo.max(1e6 / raw.records_per_second)),
            (_, _, None) => Some(echo),
        }
    }

    /// Median over the rounds of `limit`, with the syncs that `server` needed.
    pub fn limit_median(&self, server: &str) -> Option<f64> {
        let limits = self.paired(&[server, ECHO], |at, s| {
            self.limit(at, s[1], s[0].syncs_per_op.get(at).copied().unwrap_or(0.0))
        });
        (!limits.is_empty()).then(|| median(&limits))
    }
}

/// Names of the servers in results.
pub const OSTLER: &str = "ostler";
pub const NIO: &str = "apache-nio";
pub const NETTY: &str = "apache-netty";
pub const ECHO: &str = "echo";

/// Short measurements of every method, for `limit sync`.
pub fn sync_limits(dir: &Path) -> io::Result<Vec<SyncResult>> {
    sync_limit::measure_all(dir, RECORD_BYTES, 3, Duration::from_millis(150))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rounds as (operations a second, what is wrong, whether it is only the generator).
    fn check(rounds: &[(f64, Option<&str>, bool)], rate: f64) {
        let series = Series {
            ops_per_second: rounds.iter().map(|round| round.0).collect(),
            invalid: rounds.iter().map(|round| round.1.map(String::from)).collect(),
            saturated: rounds.iter().map(|round| round.2).collect(),
            ..Series::default()
        };
        assert_eq!(series.rate(), rate);
    }

    #[test]
    fn what_a_server_refused_is_no_rate_of_it() {
        let refused = (0.0, Some("refused"), false);
        check(&[refused, refused, (20.0, None, false), refused], 20.0);
        check(&[(10.0, Some("busy generator"), true), (30.0, None, false), refused], 20.0);
        check(&[refused, refused], 0.0);
    }
}
