//! `compare`: servers side by side. Rounds alternate (A B A B) so that a machine that drifts drifts for all; every cell
//! has its limit measured in the same round; medians with 95 % intervals, ratios paired round by round.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::circumstances::{Circumstances, circumstances};
use crate::frames::Op;
use crate::keys::{Choice, Keys, Shape};
use crate::load::{Pace, Progress};
use crate::scenario::{self, Report, Settings};
use crate::server::{Server, ServerKind};
use crate::sync_limit::{self, Method, SyncResult};

const START_LIMIT: Duration = Duration::from_secs(120);
const VALUE_BYTES: usize = 100;

/// One row of the table.
#[derive(Clone, Copy, Debug)]
struct Cell {
    name: &'static str,
    scenario: &'static str,
    reads: u64,
    writes: u64,
    sessions: usize,
    depth: usize,
}

const fn cell(name: &'static str, reads: u64, writes: u64, sessions: usize, depth: usize) -> Cell {
    Cell { name, scenario: "mixed", reads, writes, sessions, depth }
}

const CELLS: [Cell; 11] = [
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
    Cell {
        name: "session storm, 100 at once",
        scenario: "sessions",
        reads: 0,
        writes: 0,
        sessions: 100,
        depth: 1,
    },
];

/// What to run.
pub struct Comparison {
    pub kinds: Vec<ServerKind>,
    pub rounds: usize,
    pub duration: Duration,
    pub warmup: Duration,
    pub keys: u64,
    pub server_cpu: usize,
    pub load_cpu: usize,
    pub only: Option<String>,
    pub dir: PathBuf,
}

/// One server's rounds of one cell.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Series {
    pub server: String,
    pub ops_per_second: Vec<f64>,
    pub server_cpu_us: Vec<f64>,
    pub p50_us: Vec<f64>,
    pub p99_us: Vec<f64>,
    pub max_us: Vec<f64>,
    pub invalid: Vec<String>,
    /// The last round, whole.
    pub last: Option<Report>,
}

#[derive(Clone, Debug, serde::Serialize)]
pub struct CellResult {
    pub name: String,
    pub series: Vec<Series>,
}

#[derive(Debug, serde::Serialize)]
pub struct ComparisonResult {
    pub circumstances: Circumstances,
    pub keys: u64,
    pub rounds: usize,
    pub seconds: f64,
    pub cells: Vec<CellResult>,
    pub sync_limits: Vec<SyncResult>,
    /// Resident bytes of each server after the preload.
    pub rss_bytes: Vec<(String, u64)>,
    /// Seconds each server took to build the tree.
    pub preload_seconds: Vec<(String, f64)>,
}

/// Median of a series; NaN when empty.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.len(), sorted.len() / 2) {
        (0, _) => f64::NAN,
        (n, half) if n % 2 == 1 => sorted[half],
        (_, half) => (sorted[half - 1] + sorted[half]) / 2.0,
    }
}

/// 95 % interval of the median of the pairwise ratios a/b, by order statistics (exact for any distribution); the
/// extremes when there are fewer than six pairs, which then cover less.
pub fn ratio_interval(a: &[f64], b: &[f64]) -> (f64, f64, f64) {
    let mut ratios: Vec<f64> = a.iter().zip(b).map(|(a, b)| a / b).collect();
    ratios.sort_by(f64::total_cmp);
    let count = ratios.len();
    if count == 0 {
        return (f64::NAN, f64::NAN, f64::NAN);
    }
    // Largest k with P(Binomial(n, 1/2) < k) <= 2.5 %.
    let (mut below, mut term, mut k) = (0.0, 0.5f64.powi(count as i32), 0);
    while below + term <= 0.025 && k < count / 2 {
        below += term;
        term *= (count - k) as f64 / (k + 1) as f64;
        k += 1;
    }
    let low = k.saturating_sub(1);
    (median(&ratios), ratios[low], ratios[count - 1 - low])
}

pub fn run(comparison: &Comparison, say: &mut dyn FnMut(&str)) -> io::Result<ComparisonResult> {
    crate::server::pin_self(comparison.load_cpu)?;
    let mut servers = Vec::new();
    let mut rss_bytes = Vec::new();
    let mut preload_seconds = Vec::new();
    for kind in &comparison.kinds {
        say(&format!("starting {}", kind.name));
        let dir = comparison.dir.join(&kind.name);
        let server = Server::start(kind, &dir, Some(comparison.server_cpu), START_LIMIT)?;
        if kind.real {
            let settings = settings(comparison, &server, &CELLS[0]);
            let report = scenario::preload(&settings, &mut |p: Progress| {
                say(&format!("{}: {} znodes built", kind.name, p.completed));
            })?;
            rss_bytes.push((kind.name.clone(), report.server_rss_bytes.unwrap_or(0)));
            let rate = report.value("throughput").unwrap_or(f64::NAN);
            preload_seconds.push((kind.name.clone(), comparison.keys as f64 / rate));
        }
        servers.push(server);
    }
    let cells: Vec<&Cell> = CELLS
        .iter()
        .filter(|cell| comparison.only.as_ref().is_none_or(|only| cell.name.contains(only.as_str())))
        .collect();
    let mut results = Vec::new();
    for cell in cells {
        results.push(run_cell(comparison, cell, &servers, say)?);
    }
    drop(servers);
    say("measuring the disk");
    let sync_limits = sync_limits(&comparison.dir)?;
    Ok(ComparisonResult {
        circumstances: circumstances(&comparison.dir),
        keys: comparison.keys,
        rounds: comparison.rounds,
        seconds: comparison.duration.as_secs_f64(),
        cells: results,
        sync_limits,
        rss_bytes,
        preload_seconds,
    })
}

pub fn sync_limits(dir: &Path) -> io::Result<Vec<SyncResult>> {
    let mut results = Vec::new();
    for method in sync_limit::METHODS {
        match sync_limit::measure(dir, method, 300, Duration::from_millis(700)) {
            Ok(result) => results.push(result),
            // Not every file system and sandbox has these two.
            Err(_) if matches!(method, Method::DirectDsync | Method::IoUring) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(results)
}

fn settings(comparison: &Comparison, server: &Server, cell: &Cell) -> Settings {
    Settings {
        targets: vec![server.address],
        connections: cell.sessions,
        depth: cell.depth,
        mix: vec![(Op::Read, cell.reads), (Op::Write, cell.writes)],
        keys: Keys { shape: Shape::Production, count: comparison.keys },
        choice: Choice::Uniform,
        value_bytes: VALUE_BYTES,
        pace: Pace::Closed,
        warmup: comparison.warmup,
        duration: comparison.duration,
        session_timeout_ms: 30_000,
        seed: 1,
        server_pids: vec![server.pid()],
        population: 0,
        elsewhere: 0,
        data_dir: None,
    }
}

fn run_cell(
    comparison: &Comparison,
    cell: &Cell,
    servers: &[Server],
    say: &mut dyn FnMut(&str),
) -> io::Result<CellResult> {
    let mut series: Vec<Series> = servers
        .iter()
        .map(|server| Series {
            server: server.kind.name.clone(),
            ops_per_second: Vec::new(),
            server_cpu_us: Vec::new(),
            p50_us: Vec::new(),
            p99_us: Vec::new(),
            max_us: Vec::new(),
            invalid: Vec::new(),
            last: None,
        })
        .collect();
    for round in 0..comparison.rounds {
        for (server, series) in servers.iter().zip(&mut series) {
            say(&format!(
                "{}: round {} of {}: {}",
                cell.name,
                round + 1,
                comparison.rounds,
                server.kind.name
            ));
            let mut settings = settings(comparison, server, cell);
            settings.seed = round as u64 + 1;
            let report = match cell.scenario {
                "sessions" => scenario::sessions(&settings, &mut |_| {})?,
                name => scenario::sustained(name, &settings, &mut |_| {})?,
            };
            let figure = |name| report.value(name).unwrap_or(f64::NAN);
            series.ops_per_second.push(figure("throughput"));
            series.p50_us.push(figure("p50"));
            series.p99_us.push(figure("p99"));
            series.max_us.push(figure("max"));
            series.server_cpu_us.push(report.server_cpu_us_per_op.unwrap_or(f64::NAN));
            series.invalid.extend(report.invalid.iter().cloned());
            series.last = Some(report);
        }
    }
    Ok(CellResult { name: cell.name.to_string(), series })
}

impl CellResult {
    pub fn of(&self, server: &str) -> Option<&Series> {
        self.series.iter().find(|series| series.server == server)
    }

    /// Throughput of `a` over `b`, paired by round: median, low, high.
    pub fn ratio(&self, a: &str, b: &str) -> Option<(f64, f64, f64)> {
        Some(ratio_interval(&self.of(a)?.ops_per_second, &self.of(b)?.ops_per_second))
    }

    /// Server CPU per operation of `b` over `a`: how many times cheaper `a` is.
    pub fn cpu_ratio(&self, a: &str, b: &str) -> Option<(f64, f64, f64)> {
        Some(ratio_interval(&self.of(b)?.server_cpu_us, &self.of(a)?.server_cpu_us))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn seven_pairs_give_the_whole_range_nine_leave_the_extremes_out() {
        let ones = vec![1.0; 9];
        let a: Vec<f64> = (1..=9).map(f64::from).collect();
        assert_eq!(ratio_interval(&a[..7], &ones[..7]), (4.0, 1.0, 7.0));
        assert_eq!(ratio_interval(&a, &ones), (5.0, 2.0, 8.0));
    }
}
