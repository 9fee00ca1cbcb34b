//! `ensemble`: writes and a mix by number of voters, for each server in the same rounds, clients spread over all members.
//! What an operation costs is summed over the servers, and told for the leader alone.
//! Not here: fail-over (`failover`), observers (`observers`).

use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::circumstances::{self, Circumstances};
use crate::compare::{OSTLER, VALUE_BYTES};
use crate::ensemble::Ensemble;
use crate::frames::Op;
use crate::keys::Shape;
use crate::plot;
use crate::report::{aligned, circumstances_table, html_table, lines_table, number, page, pairs_table};
use crate::scenario::{self, Settings};
use crate::server::ServerKind;
use crate::statistics::{Line, Sense, median};

/// What is run: name, reads to writes.
const MIXES: [(&str, u64, u64); 2] = [(WRITES, 0, 1), ("10:1", 10, 1)];
const WRITES: &str = "writes";

pub struct Scale {
    pub kinds: Vec<ServerKind>,
    pub voters: Vec<usize>,
    pub rounds: usize,
    pub duration: Duration,
    pub warmup: Duration,
    pub connections: usize,
    pub depth: usize,
    pub keys: u64,
    pub dir: PathBuf,
}

/// One mix at one ensemble; a figure for each round.
#[derive(Clone, Default, Debug, serde::Serialize, serde::Deserialize)]
pub struct Row {
    pub name: String,
    pub voters: usize,
    pub mix: String,
    pub ops_per_second: Vec<f64>,
    pub p50_us: Vec<f64>,
    pub p99_us: Vec<f64>,
    /// Over all servers.
    pub cpu_us: Vec<f64>,
    pub leader_cpu_us: Vec<f64>,
    /// What makes a round's throughput worthless; what an operation cost stays right where the generator was the limit.
    pub invalid: Vec<Option<String>>,
}

#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub struct ScaleResult {
    pub circumstances: Circumstances,
    pub settings: Vec<(String, String)>,
    pub rows: Vec<Row>,
    pub lines: Vec<Line>,
}

pub fn run(scale: &Scale, say: &mut dyn FnMut(String)) -> io::Result<ScaleResult> {
    std::fs::create_dir_all(&scale.dir)?;
    let mut circumstances = circumstances::circumstances(&scale.dir);
    let mut ensembles = Vec::new();
    for kind in &scale.kinds {
        for voters in &scale.voters {
            say(format!("{}: starting {voters} voters", kind.name));
            let dir = scale.dir.join(format!("{}-{voters}", kind.name));
            let ensemble = Ensemble::start(kind, &dir, *voters, 0)?;
            let targets = vec![ensemble.members[ensemble.leader()? - 1].address];
            let settings =
                Settings { connections: 16, ..Settings::at(targets, Vec::new(), scale.keys, VALUE_BYTES) };
            scenario::preload(&settings, &mut |_| {})?;
            if !circumstances.versions.iter().any(|(name, _)| *name == kind.name) {
                circumstances.describe(&kind.name, ensemble.members[0].address);
            }
            ensembles.push((kind.name.clone(), *voters, ensemble));
        }
    }
    let mut rows: Vec<Row> = Vec::new();
    for (name, voters, _) in &ensembles {
        for (mix, _, _) in MIXES {
            rows.push(Row { name: name.clone(), voters: *voters, mix: mix.into(), ..Row::default() });
        }
    }
    // Round 0 heats: just-in-time compilers, caches, files of the log.
    for round in 0..=scale.rounds {
        for (at, (mix, reads, writes)) in MIXES.into_iter().enumerate() {
            for (place, (name, voters, ensemble)) in ensembles.iter().enumerate() {
                say(format!("{mix}, round {round} of {}: {name}, {voters} voters", scale.rounds));
                let taken = play(scale, ensemble, round as u64, reads, writes)?;
                if round > 0 {
                    rows[place * MIXES.len() + at].take(taken);
                }
            }
        }
    }
    ensembles.into_iter().for_each(|(_, _, ensemble)| ensemble.clear());
    let lines = lines(&rows);
    Ok(ScaleResult { circumstances, settings: described(scale), rows, lines })
}

/// One round: the scenario's report, and what an operation cost the leader.
fn play(
    scale: &Scale,
    ensemble: &Ensemble,
    seed: u64,
    reads: u64,
    writes: u64,
) -> io::Result<(scenario::Report, f64)> {
    let leader = ensemble.member(ensemble.leader()?).pid();
    let settings = Settings {
        connections: scale.connections,
        depth: scale.depth,
        mix: vec![(Op::Read, reads), (Op::Write, writes)],
        warmup: scale.warmup,
        duration: scale.duration,
        seed,
        ..Settings::at(ensemble.addresses(), ensemble.pids(), scale.keys, VALUE_BYTES)
    };
    let report = scenario::sustained("ensemble", &settings, &mut |_| {})?;
    let of_leader = report.cpu_us_per_op_by_server.iter().find(|(pid, _)| Some(*pid) == leader);
    let alone = report.server_cpu_us_per_op.unwrap_or(f64::NAN);
    let cost = of_leader.map_or(alone, |(_, cost)| *cost);
    Ok((report, cost))
}

impl Row {
    fn take(&mut self, (report, leader_cpu_us): (scenario::Report, f64)) {
        let figure = |name| report.value(name).unwrap_or(f64::NAN);
        self.ops_per_second.push(figure("throughput"));
        self.p50_us.push(figure("p50"));
        self.p99_us.push(figure("p99"));
        self.cpu_us.push(report.server_cpu_us_per_op.unwrap_or(f64::NAN));
        self.leader_cpu_us.push(leader_cpu_us);
        let mut reasons = report.invalid.clone();
        reasons
            .extend(report.errors.iter().map(|(code, count)| format!("{count} replies with error {code}")));
        self.invalid.push((!reasons.is_empty()).then(|| reasons.join("; ")));
    }
}

fn described(scale: &Scale) -> Vec<(String, String)> {
    let each =
        format!("{:.1} s after {:.1} s of warm-up", scale.duration.as_secs_f64(), scale.warmup.as_secs_f64());
    [
        (
            "sessions",
            format!("{} over all servers, {} requests under way on each", scale.connections, scale.depth),
        ),
        ("znodes", format!("{} of {:?} shape, {VALUE_BYTES} bytes", scale.keys, Shape::Production)),
        ("rounds", format!("{}, ensembles take turns inside each, behind one that heats", scale.rounds)),
        ("one round of one ensemble", each),
        ("on", "one machine: servers and clients share its CPUs, so that more voters have less each".into()),
    ]
    .map(|(name, value)| (name.to_string(), value))
    .to_vec()
}

fn row<'a>(rows: &'a [Row], name: &str, voters: usize, mix: &str) -> Option<&'a Row> {
    rows.iter().find(|row| row.name == name && row.voters == voters && row.mix == mix)
}

/// One figure a round: that of `a` over that of `b`.
fn ratios(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a / b).filter(|ratio| ratio.is_finite()).collect()
}

fn lines(rows: &[Row]) -> Vec<Line> {
    let mut lines = Vec::new();
    let Some(three) = row(rows, OSTLER, 3, WRITES) else { return lines };
    let mut line = |what: &str, bound, values: Option<Vec<f64>>, missing: &str| {
        lines.push(match values {
            Some(values) => Line::rounds("P16", what, Sense::AtLeast, bound, "", &values),
            None => Line::absent("P16", what, Sense::AtLeast, bound, "", missing),
        });
    };
    let alone =
        row(rows, OSTLER, 1, WRITES).map(|alone| ratios(&three.ops_per_second, &alone.ops_per_second));
    line(
        "writes of three servers over those of one, same CPUs",
        0.45,
        alone,
        "no standalone server in this run",
    );
    let apache = rows.iter().find(|row| row.name != OSTLER && row.voters == 3 && row.mix == WRITES);
    let rate = apache.map(|apache| ratios(&three.ops_per_second, &apache.ops_per_second));
    line("writes of three servers over three of Apache's", 6.0, rate, "no Apache in this run");
    let cost = apache.map(|apache| ratios(&apache.cpu_us, &three.cpu_us));
    line("server CPU per write, all three: Apache's over ours", 8.0, cost, "no Apache in this run");
    lines
}

fn table(result: &ScaleResult) -> Vec<Vec<String>> {
    let header = [
        "medians over rounds",
        "voters",
        "ops/s",
        "least",
        "most",
        "p50 us",
        "p99 us",
        "server CPU us/op, all",
        "leader's",
    ];
    let mut rows = vec![header.map(String::from).to_vec()];
    for row in &result.rows {
        let bound =
            |fold: fn(f64, f64) -> f64| row.ops_per_second.iter().copied().reduce(fold).unwrap_or(f64::NAN);
        let mark = if row.invalid.iter().any(Option::is_some) { " (!)" } else { "" };
        rows.push(vec![
            format!("{}, {}{mark}", row.mix, row.name),
            row.voters.to_string(),
            number(median(&row.ops_per_second).round()),
            number(bound(f64::min).round()),
            number(bound(f64::max).round()),
            number(median(&row.p50_us)),
            number(median(&row.p99_us)),
            number(median(&row.cpu_us)),
            number(median(&row.leader_cpu_us)),
        ]);
    }
    // Rows to be compared stand together.
    rows[1..].sort_by(|a, b| (&a[0], &a[1]).cmp(&(&b[0], &b[1])));
    rows
}

/// Why rounds count for less, each reason once.
fn remarks(result: &ScaleResult) -> Vec<String> {
    let of_row = |row: &Row| {
        let reasons: Vec<&String> = row.invalid.iter().flatten().collect();
        let first = reasons.first()?;
        let count = format!("{} of {} rounds", reasons.len(), row.invalid.len());
        Some(format!("{}, {}, {} voters: {count}: {first}", row.mix, row.name, row.voters))
    };
    result.rows.iter().filter_map(of_row).collect()
}

pub fn terminal(result: &ScaleResult) -> String {
    let mut text = format!("{}\n", aligned(&table(result), 1));
    if !result.lines.is_empty() {
        let _ = writeln!(text, "{}", aligned(&lines_table(&result.lines), 6));
    }
    for remark in remarks(result) {
        let _ = writeln!(text, "(!) {remark}");
    }
    text
}

pub fn html(result: &ScaleResult) -> String {
    let mut names: Vec<&str> = Vec::new();
    for row in &result.rows {
        if !names.contains(&row.name.as_str()) {
            names.push(&row.name);
        }
    }
    let mut body = String::new();
    for (mix, _, _) in MIXES {
        let curve = |name: &'_ str, figure: fn(&Row) -> f64| -> Vec<(f64, f64)> {
            let rows = result.rows.iter().filter(|row| row.name == name && row.mix == mix);
            rows.map(|row| (row.voters as f64, figure(row))).collect()
        };
        for (caption, unit, figure) in [
            (
                "operations a second by number of voters",
                "ops/s",
                (|row| median(&row.ops_per_second)) as fn(&Row) -> f64,
            ),
            ("server CPU of an operation, all servers together", "us", |row| median(&row.cpu_us)),
        ] {
            let curves: Vec<plot::Curve<'_>> =
                names.iter().map(|name| (*name, curve(name, figure))).collect();
            body.push_str(&plot::lines(&format!("{mix}: {caption}"), ("voters", unit), &curves, false));
        }
    }
    body.push_str(&html_table(&table(result), "figures"));
    for remark in remarks(result) {
        let _ = write!(body, "<p class=\"bad\">(!) {}</p>", crate::report::escape(&remark));
    }
    if !result.lines.is_empty() {
        let _ = write!(body, "<h2>Goals</h2>{}", html_table(&lines_table(&result.lines), "lines"));
    }
    let _ = write!(body, "<h2>Settings</h2>{}", pairs_table(&result.settings));
    body.push_str(&circumstances_table(&result.circumstances));
    page("ostler bench ensemble", &body)
}
