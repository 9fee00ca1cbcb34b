//! `ostler bench ...` from words to an exit code.

mod ensembles;

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Parser;

use crate::args::{Bench, BenchCommand, CompareArgs, LimitArgs, LimitKind, LoadArgs, PlotArgs, RestartArgs};
use crate::circumstances::{Circumstances, circumstances};
use crate::compare::{self, Comparison, ComparisonResult, Narrator, Step};
use crate::goals;
use crate::load::Progress;
use crate::proofs::{self, Proofs};
use crate::report;
use crate::rest::Rest;
use crate::scenario::{self, Report, Settings};
use crate::server::{Server, ServerKind, pin_self};

/// Runs the words behind `ostler bench`; returns the process's exit code: 0 done, 1 failed, 2 bad arguments, 3 done but
/// the result is invalid.
pub fn run(words: &[String]) -> i32 {
    let words = std::iter::once("ostler bench".to_string()).chain(words.iter().cloned());
    let bench = match Bench::try_parse_from(words) {
        Ok(bench) => bench,
        Err(e) => {
            let _ = e.print();
            return if e.use_stderr() { 2 } else { 0 };
        }
    };
    match dispatch(bench.command) {
        Ok(valid) => {
            if valid {
                0
            } else {
                3
            }
        }
        Err(e) => {
            eprintln!("ostler bench: {e}");
            1
        }
    }
}

fn dispatch(command: BenchCommand) -> io::Result<bool> {
    match command {
        BenchCommand::Mixed(args) => load("mixed", &args),
        BenchCommand::Read(args) => load("read", &args),
        BenchCommand::Write(args) => load("write", &args),
        BenchCommand::Create(args) => load("create", &args),
        BenchCommand::Soak(args) if args.rate.is_none() => {
            Err(io::Error::other("soak wants --rate: a constant number of requests a second"))
        }
        BenchCommand::Soak(args) => load("soak", &args),
        BenchCommand::Snapshot(args) => load("snapshot", &args),
        BenchCommand::Sessions(args) => load("sessions", &args),
        BenchCommand::Idle(args) => load("idle", &args),
        BenchCommand::Watch(args) => load("watch", &args),
        BenchCommand::Lock(args) => load("lock", &args),
        BenchCommand::Preload(args) => load("preload", &args),
        BenchCommand::Restart(args) => restart(&args),
        BenchCommand::Limit(args) => limit(&args),
        BenchCommand::Compare(args) => run_comparison(&args),
        BenchCommand::Failover(args) => ensembles::run_failover(&args),
        BenchCommand::Ensemble(args) => ensembles::run_scale(&args),
        BenchCommand::Observers(args) => ensembles::run_observers(&args),
        BenchCommand::Plot(args) => plot_results(&args),
        BenchCommand::EchoServer { port, value } => {
            crate::echo::serve(crate::echo::listen(port)?, value)?;
            Ok(true)
        }
    }
}

/// A live line on a terminal, silence elsewhere.
fn shower(label: String) -> impl FnMut(Progress) {
    let live = io::stderr().is_terminal();
    let mut last = (Duration::ZERO, 0);
    move |progress| {
        if !live {
            return;
        }
        let seconds = progress.elapsed.saturating_sub(last.0).as_secs_f64().max(1e-9);
        let rate = progress.completed.saturating_sub(last.1) as f64 / seconds;
        last = (progress.elapsed, progress.completed);
        let phase = if progress.warming { "warming up" } else { "measuring" };
        eprint!("\r\x1b[K{label}: {phase} {:.1} s, {rate:.0}/s", progress.elapsed.as_secs_f64());
        let _ = io::stderr().flush();
    }
}

fn end_of_line() {
    if io::stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
}

/// Several runs with one setting turned up; the report is the curve.
fn swept(name: &str, args: &LoadArgs, sweep: &str) -> io::Result<bool> {
    let (what, runs) = args.sweep_runs(sweep).map_err(io::Error::other)?;
    let mut points = Vec::new();
    for (value, args) in runs {
        let result = one_load(name, &args)?;
        points.push(report::Point { value, report: result });
    }
    print!("{}", report::sweep_terminal(name, &what, &points));
    if args.out.json.is_some() || args.out.html.is_some() {
        let circumstances = described_circumstances(args)?;
        if let Some(path) = &args.out.json {
            report::write_sweep_json(path, &circumstances, &args.described(), &what, &points)?;
        }
        if let Some(path) = &args.out.html {
            let page = report::sweep_html(&circumstances, &args.described(), name, &what, &points);
            std::fs::write(path, page)?;
        }
    }
    Ok(points.iter().all(|point| point.report.invalid.is_empty()))
}

fn load(name: &str, args: &LoadArgs) -> io::Result<bool> {
    match &args.sweep {
        Some(sweep) => swept(name, args, sweep),
        None => deliver(&one_load(name, args)?, args),
    }
}

fn one_load(name: &str, args: &LoadArgs) -> io::Result<Report> {
    let settings = args.settings(name).map_err(io::Error::other)?;
    if let Some(cpu) = args.cpu {
        pin_self(cpu)?;
    }
    let touches_keys = matches!(name, "mixed" | "read" | "write" | "snapshot" | "soak");
    if touches_keys && !args.no_preload {
        scenario::preload(&settings, &mut shower("preload".into()))?;
        end_of_line();
    }
    let mut show = shower(name.to_string());
    let result = match name {
        "preload" => scenario::preload(&settings, &mut show)?,
        "sessions" if args.at_once => scenario::crowd(&settings)?,
        "sessions" => scenario::sessions(&settings, &mut show)?,
        "idle" => scenario::idle(&settings, &mut show)?,
        "watch" => scenario::watch(&settings, &mut show)?,
        "lock" => scenario::lock(&settings, &mut show)?,
        "snapshot" => scenario::snapshot(&settings, &mut show)?,
        name => scenario::sustained(name, &settings, &mut show)?,
    };
    end_of_line();
    Ok(result)
}

fn deliver(result: &Report, args: &LoadArgs) -> io::Result<bool> {
    print!("{}", report::terminal(result));
    let out = &args.out;
    if out.json.is_some() || out.hgrm.is_some() || out.html.is_some() {
        write_out(result, args)?;
    }
    Ok(result.invalid.is_empty())
}

fn described_circumstances(args: &LoadArgs) -> io::Result<Circumstances> {
    let mut circumstances = circumstances(args.data_dir.as_deref().unwrap_or(Path::new(".")));
    for server in &args.servers {
        if let Some(address) = std::net::ToSocketAddrs::to_socket_addrs(server)?.next() {
            circumstances.describe(server, address);
        }
    }
    Ok(circumstances)
}

fn write_out(result: &Report, args: &LoadArgs) -> io::Result<()> {
    let out = &args.out;
    let circumstances = described_circumstances(args)?;
    let settings = args.described();
    if let Some(path) = &out.json {
        report::write_json(path, &circumstances, &settings, result)?;
    }
    if let Some(path) = &out.hgrm {
        std::fs::write(path, report::hgrm(result))?;
    }
    if let Some(path) = &out.html {
        std::fs::write(path, report::html(&circumstances, &settings, result))?;
    }
    Ok(())
}

/// Kills the server that listens on the first target, starts it anew by the given command, and waits for the first
/// served read of a key.
fn restart(args: &RestartArgs) -> io::Result<bool> {
    let settings = args.load.settings("restart").map_err(io::Error::other)?;
    if !args.load.no_preload {
        scenario::preload(&settings, &mut shower("preload".into()))?;
        end_of_line();
    }
    let pid = *settings
        .server_pids
        .first()
        .ok_or_else(|| io::Error::other("restart wants a server on this machine; give its --pid"))?;
    // SAFETY: a plain system call on the process id the user named.
    if unsafe { libc::kill(pid as libc::pid_t, libc::SIGKILL) } != 0 {
        return Err(io::Error::last_os_error());
    }
    while !is_gone(pid) {
        std::thread::yield_now();
    }
    let begin = Instant::now();
    std::process::Command::new("sh").arg("-c").arg(format!("exec {}", args.start)).spawn()?;
    while scenario::read_once(&settings).is_err() {
        if begin.elapsed() > Duration::from_secs(600) {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "no read was served within ten minutes"));
        }
        // Between two tries at another process there is nothing to wait on but time.
        std::thread::park_timeout(Duration::from_millis(1));
    }
    let mut result = Report::empty("restart");
    result.figure("first served read", begin.elapsed().as_secs_f64(), "s");
    result.figure("znodes", settings.keys.count as f64, "znodes");
    deliver(&result, &args.load)
}

/// Whether a killed process holds nothing any more: while one of its threads is left, its data directory is locked.
fn is_gone(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return true };
    let is_zombie = stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'));
    is_zombie && std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count) <= 1
}

fn this_binary() -> io::Result<PathBuf> {
    std::env::current_exe()
}

fn limit(args: &LimitArgs) -> io::Result<bool> {
    if args.which == LimitKind::Sync {
        for result in compare::sync_limits(&args.dir)? {
            let p = result.latency;
            println!(
                "{:<12} {:>9.0} syncs/s   p50 {:>7.1} us   p99 {:>7.1} us   max {:>8.1} us",
                format!("{:?}", result.method),
                result.syncs_per_second,
                p.p50_us,
                p.p99_us,
                p.max_us
            );
        }
        return Ok(true);
    }
    let dir = std::env::temp_dir().join(format!("ostler-echo-{}", std::process::id()));
    let kind = ServerKind::echo(&this_binary()?, args.value);
    let server = Server::start(&kind, &dir, Some(0), Duration::from_secs(10))?;
    pin_self(1).or_else(|_| pin_self(0))?;
    let settings = Settings {
        connections: args.connections,
        depth: args.depth,
        duration: Duration::from_secs_f64(args.duration),
        ..Settings::reading(&server, 1_000_000, args.value)
    };
    let result = scenario::sustained("limit echo", &settings, &mut shower("echo".into()))?;
    end_of_line();
    print!("{}", report::terminal(&result));
    drop(server);
    std::fs::remove_dir_all(&dir)?;
    Ok(true)
}

fn kinds(args: &CompareArgs) -> io::Result<Vec<ServerKind>> {
    let binary = this_binary()?;
    let mut kinds = Vec::new();
    if let Some(classpath) = &args.apache_classpath {
        // Twice what the znodes need; --long has ten times as many for some goals.
        let znodes = args.keys * if args.long { 10 } else { 1 };
        let heap_gib = u32::try_from(znodes / 1_000_000).unwrap_or(u32::MAX).clamp(6, 64);
        let apache = |factory, name| ServerKind::apache(classpath, factory, name, heap_gib);
        kinds.push(apache("NIOServerCnxnFactory", compare::NIO));
        kinds.push(apache("NettyServerCnxnFactory", compare::NETTY));
    } else {
        eprintln!(
            "no --apache-classpath: Apache is left out (tests/setup fetches it and says where it lies)"
        );
    }
    kinds.push(ServerKind::ostler(&binary));
    for peer in &args.peer {
        let (name, command) = peer
            .split_once('=')
            .ok_or_else(|| io::Error::other(format!("--peer {peer}: want NAME=COMMAND")))?;
        let command = command.split_whitespace().map(String::from).collect();
        kinds.push(ServerKind { name: name.to_string(), command, real: true });
    }
    kinds.push(ServerKind::echo(&binary, compare::VALUE_BYTES));
    Ok(kinds)
}

/// Table, plot and page of a comparison that was kept.
fn plot_results(args: &PlotArgs) -> io::Result<bool> {
    let result = report::read_comparison_json(&args.results)?;
    println!("{}\n{}", report::headline(&result), report::goals_terminal(&result));
    if let Some(path) = &args.svg {
        std::fs::write(path, crate::plot::headline(&result)?)?;
    }
    if let Some(path) = &args.html {
        std::fs::write(path, report::comparison_html(&result))?;
    }
    if let Some(path) = &args.readme {
        let text = report::between_markers(&std::fs::read_to_string(path)?, &report::headline(&result));
        let text = text.ok_or_else(|| {
            io::Error::other(format!("{}: no <!-- bench --> and <!-- /bench -->", path.display()))
        })?;
        std::fs::write(path, text)?;
    }
    Ok(true)
}

fn minutes(duration: Duration) -> String {
    let seconds = duration.as_secs();
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

/// On a terminal one live line; elsewhere a line each time something new begins, at most one in ten seconds.
fn narrate() -> impl FnMut(&Step) {
    let live = io::stderr().is_terminal();
    let mut told: Option<Duration> = None;
    move |step| {
        let clock = format!("[{} of about {}]", minutes(step.elapsed), minutes(step.expected));
        if live {
            eprint!("\r\x1b[K{clock} {}", step.text);
            let _ = io::stderr().flush();
        } else if !step.passing
            && told.is_none_or(|told| step.elapsed.saturating_sub(told) >= Duration::from_secs(10))
        {
            told = Some(step.elapsed);
            eprintln!("{clock} {}", step.text);
        }
    }
}

fn run_comparison(args: &CompareArgs) -> io::Result<bool> {
    let temporary = std::env::temp_dir().join(format!("ostler-compare-{}", std::process::id()));
    let dir = args.dir.clone().unwrap_or_else(|| temporary.clone());
    let comparison = Comparison {
        kinds: kinds(args)?,
        rounds: args.rounds.max(1),
        rounds_most: args.rounds_most.unwrap_or(3 * args.rounds),
        duration: Duration::from_secs_f64(args.duration.max(0.05)),
        warmup: Duration::from_secs_f64(args.warmup.max(0.0)),
        keys: args.keys.max(1),
        shape: args.shape.shape(),
        server_cpu: args.server_cpu,
        load_cpu: args.load_cpu,
        only: args.only.clone(),
        rest: Rest::new(args.server_cpu, &dir),
        dir,
    };
    let proofs = Proofs::parse(&args.lines, args.long).map_err(io::Error::other)?;
    let mut expected = Duration::ZERO;
    if proofs.as_ref().is_none_or(|proofs| proofs.table) {
        expected += comparison.expected();
    }
    if let Some(proofs) = &proofs {
        expected += proofs.expected(&comparison);
    }
    eprintln!(
        "{} rounds and more where they do not judge; this takes at least {} minutes",
        comparison.rounds,
        minutes(expected)
    );
    let outcome = measure(&comparison, proofs.as_ref(), expected);
    if args.dir.is_none() && temporary.exists() {
        std::fs::remove_dir_all(&temporary)?;
    }
    let result = outcome?;
    print!("{}", report::comparison_terminal(&result));
    if let Some(path) = &args.out.json {
        report::write_comparison_json(path, &result)?;
    }
    if let Some(path) = &args.out.html {
        std::fs::write(path, report::comparison_html(&result))?;
    }
    Ok(true)
}

fn measure(
    comparison: &Comparison,
    proofs: Option<&Proofs>,
    expected: Duration,
) -> io::Result<ComparisonResult> {
    let mut say = narrate();
    let mut narrator = Narrator::new(expected, &mut say);
    let table = proofs.is_none_or(|proofs| proofs.table);
    let mut result = compare::run(comparison, table, &mut narrator)?;
    result.lines = goals::lines(&result);
    if let Some(proofs) = proofs {
        proofs::run(proofs, comparison, &mut narrator, &mut result)?;
    }
    end_of_line();
    Ok(result)
}
