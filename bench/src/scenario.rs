//! The scenarios: each one word on the command line, each a function from settings to a result.
//! Not here: how requests are paced (load), how results are shown (report).

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::client::Client;
use crate::frames::{self, Op};
use crate::keys::{Choice, Keys, Random, Shape};
use crate::load::{self, Mix, Pace, Plan, Progress};
use crate::measure::{Percentiles, Second, Usage, new_histogram};
use crate::server::{PROBE_PATIENCE, Server};
use crate::swarm::{Happening, Swarm};

/// Above this share of its CPU the generator is taken for the bottleneck, and the result for invalid.
const OWN_CPU_SHARE_MAX: f64 = 0.97;
/// Open loop: later than this at p99 means that the generator did not keep its own schedule.
const SEND_LAG_P99_MAX: Duration = Duration::from_millis(2);
/// Requests outstanding while a tree is built.
const PRELOAD_DEPTH: usize = 512;
const LOCK_ROOT: &str = "/bench-lock";
/// How Ostler calls a snapshot that is being written; Apache writes under the final name.
const PARTIAL: &str = "partial-snapshot.";
const WATCH_ROOT: &str = "/bench-watch";

/// What every scenario may ask for.
#[derive(Clone, Debug)]
pub struct Settings {
    pub targets: Vec<SocketAddr>,
    pub connections: usize,
    pub depth: usize,
    pub mix: Vec<(Op, u64)>,
    pub keys: Keys,
    pub choice: Choice,
    pub value_bytes: usize,
    pub pace: Pace,
    pub warmup: Duration,
    pub duration: Duration,
    pub session_timeout_ms: i32,
    pub seed: u64,
    pub server_pids: Vec<u32>,
    /// Sessions of `idle`, watchers of `watch`, contenders of `lock`.
    pub population: usize,
    /// `watch`: watches elsewhere, on other znodes.
    pub elsewhere: usize,
    /// `snapshot`: where the server's snapshots appear.
    pub data_dir: Option<PathBuf>,
    /// Parent of what `create` makes; it is made, too, when it is missing.
    pub created_parent: String,
}

impl Settings {
    /// Reads in a closed loop of one local server with so many znodes of production shape: what runs that nobody
    /// configured begin with.
    pub fn reading(server: &Server, keys: u64, value_bytes: usize) -> Settings {
        Settings::at(vec![server.address], vec![server.pid()], keys, value_bytes)
    }

    /// The same at any servers, those of this machine by their process ids.
    pub fn at(targets: Vec<SocketAddr>, server_pids: Vec<u32>, keys: u64, value_bytes: usize) -> Settings {
        Settings {
            targets,
            connections: 1,
            depth: 1,
            mix: vec![(Op::Read, 1)],
            keys: Keys { shape: Shape::Production, count: keys },
            choice: Choice::Uniform,
            value_bytes,
            pace: Pace::Closed,
            warmup: Duration::from_secs(1),
            duration: Duration::from_secs(1),
            session_timeout_ms: 30_000,
            seed: 1,
            server_pids,
            population: 0,
            elsewhere: 0,
            data_dir: None,
            created_parent: crate::load::CREATED_PARENT.into(),
        }
    }
}

/// A named figure with its unit.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Figure {
    pub name: String,
    pub value: f64,
    pub unit: String,
}

/// What one scenario gave.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Report {
    pub scenario: String,
    pub figures: Vec<Figure>,
    pub by_op: Vec<(String, Percentiles)>,
    /// The whole histogram, as (value in ns, count): nothing is lost by writing it down.
    pub histogram: Vec<(u64, u64)>,
    pub seconds: Vec<Second>,
    pub errors: Vec<(i32, u64)>,
    /// Seconds into the window at which something happened: a snapshot, a kill, a restart.
    pub marks: Vec<(f64, String)>,
    /// Why this result must not be used; empty when it may.
    pub invalid: Vec<String>,
    /// One of those reasons: the generator was the limit. What the server spent on an operation is right all the same.
    #[serde(default)]
    pub saturated: bool,
    pub server_cpu_us_per_op: Option<f64>,
    /// The same by process, where there is more than one.
    #[serde(default)]
    pub cpu_us_per_op_by_server: Vec<(u32, f64)>,
    pub server_rss_bytes: Option<u64>,
    pub own_cpu_share: f64,
}

impl Report {
    pub fn empty(scenario: &str) -> Report {
        Report {
            scenario: scenario.to_string(),
            figures: Vec::new(),
            by_op: Vec::new(),
            histogram: Vec::new(),
            seconds: Vec::new(),
            errors: Vec::new(),
            marks: Vec::new(),
            invalid: Vec::new(),
            saturated: false,
            server_cpu_us_per_op: None,
            cpu_us_per_op_by_server: Vec::new(),
            server_rss_bytes: None,
            own_cpu_share: 0.0,
        }
    }

    pub fn figure(&mut self, name: &str, value: f64, unit: &str) {
        self.figures.push(Figure { name: name.to_string(), value, unit: unit.to_string() });
    }

    pub fn value(&self, name: &str) -> Option<f64> {
        self.figures.iter().find(|figure| figure.name == name).map(|figure| figure.value)
    }

    fn latencies(&mut self, histogram: &Histogram<u64>) {
        self.histogram =
            histogram.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())).collect();
        let p = Percentiles::of(histogram);
        for (name, value) in [
            ("mean", p.mean_us),
            ("p50", p.p50_us),
            ("p99", p.p99_us),
            ("p99.9", p.p999_us),
            ("p99.99", p.p9999_us),
            ("max", p.max_us),
        ] {
            self.figure(name, value, "us");
        }
    }
}

pub type Show<'a> = &'a mut dyn FnMut(Progress);

/// `mixed`, `read`, `write`, `create`, `soak`: sustained load of one mix.
pub fn sustained(name: &str, settings: &Settings, show: Show<'_>) -> io::Result<Report> {
    let mix = Mix::new(&settings.mix).ok_or_else(|| io::Error::other("every weight of the mix is 0"))?;
    Client::connect(settings.targets[0], settings.session_timeout_ms)?.ensure(&settings.created_parent)?;
    let plan = Plan {
        targets: settings.targets.clone(),
        connections: settings.connections,
        depth: settings.depth,
        mix,
        keys: settings.keys,
        choice: settings.choice.clone(),
        value_bytes: settings.value_bytes,
        multi_size: 10,
        created_parent: settings.created_parent.clone(),
        pace: settings.pace,
        warmup: settings.warmup,
        duration: settings.duration,
        session_timeout_ms: settings.session_timeout_ms,
        seed: settings.seed,
        server_pids: settings.server_pids.clone(),
    };
    let outcome = load::run(&plan, show)?;
    Ok(report_of(name, settings, &outcome))
}

fn report_of(name: &str, settings: &Settings, outcome: &load::Outcome) -> Report {
    let mut report = Report::empty(name);
    report.figure("throughput", outcome.ops_per_second(), "ops/s");
    report.latencies(&outcome.recording.total());
    for op in Op::ALL {
        if let Some(histogram) = outcome.recording.histogram(op) {
            report.by_op.push((op.name().to_string(), Percentiles::of(histogram)));
        }
    }
    report.seconds = outcome.recording.seconds.clone();
    let whole = settings.duration.as_secs() as usize;
    if let Some(least) = report.seconds.iter().take(whole).map(|s| s.completed).min() {
        report.figure("least second", least as f64, "ops/s");
    }
    if settings.targets.len() > 1 {
        for (target, count) in settings.targets.iter().zip(&outcome.per_target) {
            report.figure(&format!("at {target}"), *count as f64 / outcome.window.as_secs_f64(), "ops/s");
        }
    }
    report.errors = outcome.recording.errors.iter().map(|(code, count)| (*code, *count)).collect();
    report.server_cpu_us_per_op = outcome.server_cpu_us();
    if outcome.servers.len() > 1 {
        let each = 1e6 / outcome.recording.completed().max(1) as f64;
        report.cpu_us_per_op_by_server =
            outcome.servers.iter().map(|(pid, usage)| (*pid, usage.cpu().as_secs_f64() * each)).collect();
    }
    report.server_rss_bytes = outcome.server.map(|usage| usage.rss_bytes);
    report.own_cpu_share = outcome.own_cpu_share();
    if let Some(server) = outcome.server {
        report.figure("server CPU", server.cpu().as_secs_f64() / outcome.window.as_secs_f64(), "CPUs");
    }
    if let Some(count) = outcome.instructions {
        report.figure("instructions", count, "user-space instructions/op");
    }
    judge(&mut report, settings, outcome);
    report
}

/// A generator that was itself the limit measured itself.
fn judge(report: &mut Report, settings: &Settings, outcome: &load::Outcome) {
    let server_busy = outcome.server.map(|s| s.cpu().as_secs_f64() / outcome.window.as_secs_f64());
    if settings.pace == Pace::Closed {
        let idle_server = server_busy.is_none_or(|busy| busy < 0.9);
        if outcome.own_cpu_share() > OWN_CPU_SHARE_MAX && idle_server {
            report.saturated = true;
            report.invalid.push(format!(
                "the generator used {:.0} % of a CPU while the server was not saturated",
                outcome.own_cpu_share() * 100.0
            ));
        }
    } else {
        let lag = Duration::from_nanos(outcome.recording.send_lag.value_at_quantile(0.99));
        if lag > SEND_LAG_P99_MAX {
            report.invalid.push(format!("requests were sent up to {lag:?} late at p99"));
        }
    }
    if outcome.recording.lost_connections > 0 {
        report.invalid.push(format!("{} connections were lost", outcome.recording.lost_connections));
    }
}

/// `preload`: builds the tree of `settings.keys`; znodes that exist are left alone.
pub fn preload(settings: &Settings, show: Show<'_>) -> io::Result<Report> {
    let begin = Instant::now();
    let mut client = Client::connect(settings.targets[0], settings.session_timeout_ms)?;
    for path in settings.keys.parents() {
        client.ensure(&path)?;
    }
    client.close()?;
    let mut swarm = Swarm::new(settings.targets.clone(), settings.session_timeout_ms)?;
    let lanes = settings.connections.clamp(1, 16);
    swarm.open(lanes, lanes, Duration::from_secs(30))?;
    let value = vec![b'x'; settings.value_bytes];
    let (mut sent, mut done) = (0u64, 0u64);
    let mut failed: Option<String> = None;
    let mut free: Vec<usize> = (0..lanes).flat_map(|lane| [lane].repeat(PRELOAD_DEPTH / lanes)).collect();
    let mut path = Vec::new();
    let count = settings.keys.count;
    let mut shown = begin;
    while done < count {
        while sent < count
            && let Some(lane) = free.pop()
        {
            path.clear();
            settings.keys.path(&mut path, sent);
            sent += 1;
            swarm.send(lane, |out| frames::create(out, 1 + (sent % 1_000_000) as i32, &path, &value, 0))?;
        }
        swarm.turn(Instant::now() + Duration::from_secs(60), &mut |happening| match happening {
            Happening::Frame(lane, frame) => {
                if let Some(header) = frames::reply_header(frame).filter(|header| header.xid > 0) {
                    done += 1;
                    if !matches!(header.error, 0 | -110) {
                        let full = if header.error == -119 { ": is its disk full?" } else { "" };
                        failed =
                            Some(format!("the server refuses a create with error {}{full}", header.error));
                    }
                    free.push(lane);
                }
            }
            Happening::Closed(_) | Happening::Refused(_) => {
                failed = Some("the server closed a connection: see what it logged".into());
            }
            Happening::Established(..) => {}
        })?;
        if let Some(why) = failed {
            return Err(io::Error::other(format!("after {done} of {count} znodes: {why}")));
        }
        if shown.elapsed() > Duration::from_millis(250) {
            shown = Instant::now();
            show(Progress { elapsed: begin.elapsed(), completed: done, warming: false });
        }
    }
    let mut report = Report::empty("preload");
    report.figure("znodes", count as f64, "znodes");
    report.figure("throughput", count as f64 / begin.elapsed().as_secs_f64(), "creates/s");
    memory(&mut report, settings, None);
    Ok(report)
}

fn usage(settings: &Settings) -> Option<Usage> {
    settings.server_pids.first().and_then(|pid| Usage::of(*pid))
}

/// Resident memory now, and per member of the population when `before` is known.
fn memory(report: &mut Report, settings: &Settings, before: Option<(Usage, usize)>) {
    let Some(now) = usage(settings) else { return };
    report.server_rss_bytes = Some(now.rss_bytes);
    report.figure("server RSS", now.rss_bytes as f64 / (1 << 20) as f64, "MiB");
    if let Some((before, count)) = before {
        let each = now.rss_bytes.saturating_sub(before.rss_bytes) as f64 / count.max(1) as f64;
        report.figure("RSS each", each, "bytes");
    }
}

/// `sessions`: a storm of connects; each session is closed as soon as it stands and another takes its place.
pub fn sessions(settings: &Settings, show: Show<'_>) -> io::Result<Report> {
    let mut swarm = Swarm::new(settings.targets.clone(), settings.session_timeout_ms)?.leaving_no_trace();
    let begin = Instant::now();
    let before = usage(settings);
    let mut histogram = new_histogram();
    let mut report = Report::empty("sessions");
    let mut shown = begin;
    for _ in 0..settings.connections {
        swarm.dial()?;
    }
    while begin.elapsed() < settings.duration {
        let (mut stood, mut ended) = (Vec::new(), 0);
        swarm.turn(Instant::now() + Duration::from_secs(30), &mut |happening| match happening {
            Happening::Established(index, time) => {
                histogram.saturating_record(time.as_nanos() as u64);
                stood.push(index);
            }
            Happening::Closed(_) | Happening::Refused(_) => ended += 1,
            Happening::Frame(..) => {}
        })?;
        let second = begin.elapsed().as_secs() as usize;
        report.seconds.resize(report.seconds.len().max(second + 1), Second::default());
        report.seconds[second].completed += stood.len() as u64;
        for index in stood {
            swarm.send(index, |out| frames::close(out, 1))?;
        }
        for _ in 0..ended {
            swarm.dial()?;
        }
        if shown.elapsed() > Duration::from_millis(250) {
            shown = Instant::now();
            show(Progress { elapsed: begin.elapsed(), completed: histogram.len(), warming: false });
        }
    }
    let elapsed = begin.elapsed();
    report.figure("throughput", histogram.len() as f64 / elapsed.as_secs_f64(), "sessions/s");
    report.latencies(&histogram);
    if let (Some(before), Some(after)) = (before, usage(settings)) {
        let cpu = after.since(&before).cpu().as_secs_f64() * 1e6;
        report.server_cpu_us_per_op = Some(cpu / histogram.len().max(1) as f64);
    }
    memory(&mut report, settings, None);
    Ok(report)
}

/// `--at-once` of `sessions`: `population` sessions connect at once; from the first dial until the last one stands. They
/// are closed in order afterwards, outside the window.
pub fn crowd(settings: &Settings) -> io::Result<Report> {
    let mut swarm = Swarm::new(settings.targets.clone(), settings.session_timeout_ms)?.leaving_no_trace();
    let limit = Duration::from_secs(120);
    let before = usage(settings);
    let own = Usage::of(std::process::id()).unwrap_or_default();
    let begin = Instant::now();
    let times = swarm.open(settings.population, settings.population, limit)?;
    let elapsed = begin.elapsed();
    let after = usage(settings);
    let mut histogram = new_histogram();
    times.iter().for_each(|time| histogram.saturating_record(time.as_nanos() as u64));
    let mut report = Report::empty("sessions");
    report.figure("throughput", times.len() as f64 / elapsed.as_secs_f64(), "sessions/s");
    report.latencies(&histogram);
    if let (Some(before), Some(after)) = (before, after) {
        let cpu = after.since(&before).cpu().as_secs_f64();
        report.server_cpu_us_per_op = Some(cpu * 1e6 / times.len().max(1) as f64);
    }
    memory(&mut report, settings, before.map(|before| (before, settings.population)));
    report.own_cpu_share = Usage::of(std::process::id()).unwrap_or_default().since(&own).cpu().as_secs_f64()
        / elapsed.as_secs_f64();
    swarm.leave(limit)?;
    Ok(report)
}

/// `idle`: many sessions that only ping, with the mix running beside them when connections are asked for.
pub fn idle(settings: &Settings, show: Show<'_>) -> io::Result<Report> {
    let before = usage(settings);
    let mut swarm = Swarm::new(settings.targets.clone(), settings.session_timeout_ms)?;
    let begin = Instant::now();
    swarm.open(settings.population, 256, Duration::from_secs(120))?;
    let opened = begin.elapsed();
    let mut report = Report::empty("idle");
    report.figure("sessions", settings.population as f64, "sessions");
    report.figure("opening", opened.as_secs_f64() * 1e3, "ms");
    memory(&mut report, settings, before.map(|before| (before, settings.population)));
    let idle_from = usage(settings);
    let window = Instant::now();
    let interval = Duration::from_millis(settings.session_timeout_ms as u64 / 3);
    let mut next_ping = window + interval;
    let mut lost = 0;
    while window.elapsed() < settings.duration {
        if Instant::now() >= next_ping {
            next_ping += interval;
            for index in 0..settings.population {
                swarm.send(index, frames::ping)?;
            }
        }
        swarm.turn(Instant::now() + Duration::from_secs(30), &mut |happening| {
            lost += usize::from(matches!(happening, Happening::Closed(_) | Happening::Refused(_)));
        })?;
        show(Progress { elapsed: window.elapsed(), completed: swarm.len() as u64, warming: false });
    }
    report.figure("lost", lost as f64, "sessions");
    if let (Some(from), Some(to)) = (idle_from, usage(settings)) {
        let share = to.since(&from).cpu().as_secs_f64() / window.elapsed().as_secs_f64();
        report.figure("server CPU", share * 100.0, "%");
    }
    Ok(report)
}

/// `watch`: one change fires `population` watchers; `elsewhere` watches on other znodes look on.
pub fn watch(settings: &Settings, show: Show<'_>) -> io::Result<Report> {
    let mut writer = Client::connect(settings.targets[0], settings.session_timeout_ms)?;
    writer.ensure(WATCH_ROOT)?;
    let path = format!("{WATCH_ROOT}/watched");
    writer.ensure(&path)?;
    let mut report = Report::empty("watch");
    if settings.elsewhere > 0 {
        let quiet = set_latency(&mut writer, &path)?;
        let before = usage(settings);
        register_elsewhere(settings)?;
        memory(&mut report, settings, before.map(|before| (before, settings.elsewhere)));
        let watched = set_latency(&mut writer, &path)?;
        report.figure("setData p50 without watches", quiet, "us");
        report.figure("setData p50 with watches elsewhere", watched, "us");
    }
    let mut swarm = Swarm::new(settings.targets.clone(), settings.session_timeout_ms)?;
    swarm.open(settings.population, 256, Duration::from_secs(120))?;
    let mut histogram = new_histogram();
    let begin = Instant::now();
    let before = usage(settings);
    let mut rounds = 0u64;
    while begin.elapsed() < settings.duration || rounds < 3 {
        swarm
            .each(1024, Duration::from_secs(60), |_, out| frames::get_data(out, 1, path.as_bytes(), true))?;
        let fired = Instant::now();
        writer.call(|out, xid| frames::set_data(out, xid, path.as_bytes(), b"changed"))?;
        let mut events = 0;
        while events < settings.population {
            swarm.turn(fired + Duration::from_secs(60), &mut |happening| {
                if let Happening::Frame(_, frame) = happening {
                    events += usize::from(frames::reply_header(frame).is_some_and(|h| h.xid == -1));
                }
            })?;
        }
        histogram.saturating_record(fired.elapsed().as_nanos() as u64);
        rounds += 1;
        show(Progress { elapsed: begin.elapsed(), completed: rounds, warming: false });
    }
    report.figure("watchers", settings.population as f64, "sessions");
    report.latencies(&histogram);
    if let (Some(before), Some(after)) = (before, usage(settings)) {
        let cpu = after.since(&before).cpu().as_secs_f64() * 1e6;
        report.server_cpu_us_per_op = Some(cpu / (rounds * settings.population as u64).max(1) as f64);
    }
    Ok(report)
}

/// Median of 200 setData, one at a time, in microseconds.
fn set_latency(writer: &mut Client, path: &str) -> io::Result<f64> {
    let mut times = Vec::with_capacity(200);
    for _ in 0..200 {
        let start = Instant::now();
        writer.call(|out, xid| frames::set_data(out, xid, path.as_bytes(), b"x"))?;
        times.push(start.elapsed().as_nanos() as f64 / 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

/// exists-watches on znodes that are not there, over 16 sessions.
fn register_elsewhere(settings: &Settings) -> io::Result<()> {
    let mut swarm = Swarm::new(settings.targets.clone(), settings.session_timeout_ms)?;
    let lanes = 16;
    swarm.open(lanes, lanes, Duration::from_secs(30))?;
    let (mut sent, mut done) = (0usize, 0usize);
    while done < settings.elsewhere {
        while sent < settings.elsewhere && sent - done < PRELOAD_DEPTH {
            let path = format!("{WATCH_ROOT}/elsewhere-{sent:012}");
            swarm.send(sent % lanes, |out| frames::exists(out, 1, path.as_bytes(), true))?;
            sent += 1;
        }
        swarm.turn(Instant::now() + Duration::from_secs(60), &mut |happening| {
            done += usize::from(matches!(happening, Happening::Frame(..)));
        })?;
    }
    // The watches are to stay while the caller measures: the sessions live as long as the process.
    std::mem::forget(swarm);
    Ok(())
}

/// `lock`: `population` contenders for one lock, as the recipe has it: an ephemeral sequential znode each, a watch on
/// the predecessor, deletion as release.
pub fn lock(settings: &Settings, show: Show<'_>) -> io::Result<Report> {
    let mut client = Client::connect(settings.targets[0], settings.session_timeout_ms)?;
    client.ensure(LOCK_ROOT)?;
    let begin = Instant::now();
    let stop_at = begin + settings.duration;
    let before = usage(settings);
    let workers: Vec<_> = (0..settings.population)
        .map(|index| {
            let target = settings.targets[index % settings.targets.len()];
            let timeout = settings.session_timeout_ms;
            std::thread::spawn(move || contend(target, timeout, stop_at))
        })
        .collect();
    let mut histogram = new_histogram();
    for worker in workers {
        let times = worker.join().map_err(|_| io::Error::other("a contender panicked"))??;
        times.iter().for_each(|time| histogram.saturating_record(time.as_nanos() as u64));
        show(Progress { elapsed: begin.elapsed(), completed: histogram.len(), warming: false });
    }
    let mut report = Report::empty("lock");
    report.figure("throughput", histogram.len() as f64 / begin.elapsed().as_secs_f64(), "locks/s");
    report.latencies(&histogram);
    if let (Some(before), Some(after)) = (before, usage(settings)) {
        let cpu = after.since(&before).cpu().as_secs_f64() * 1e6;
        report.server_cpu_us_per_op = Some(cpu / histogram.len().max(1) as f64);
    }
    Ok(report)
}

/// Takes and releases the lock until `stop_at`; the time of each acquisition.
fn contend(target: SocketAddr, timeout_ms: i32, stop_at: Instant) -> io::Result<Vec<Duration>> {
    let mut client = Client::connect(target, timeout_ms)?;
    let mut times = Vec::new();
    while Instant::now() < stop_at {
        let start = Instant::now();
        let path = format!("{LOCK_ROOT}/lock-");
        let (header, body) = client.call(|out, xid| {
            frames::create(out, xid, path.as_bytes(), b"", frames::EPHEMERAL_SEQUENTIAL);
        })?;
        if header.error != 0 {
            return Err(io::Error::other(format!("create: error {}", header.error)));
        }
        let own = String::from_utf8_lossy(body.get(4..).unwrap_or_default()).into_owned();
        await_turn(&mut client, &own)?;
        times.push(start.elapsed());
        client.call(|out, xid| frames::delete(out, xid, own.as_bytes()))?;
    }
    client.close()?;
    Ok(times)
}

fn await_turn(client: &mut Client, own: &str) -> io::Result<()> {
    let name = own.rsplit('/').next().unwrap_or(own);
    loop {
        let names = client.children(LOCK_ROOT)?;
        let Some(before) = names.iter().filter(|other| other.as_str() < name).max() else { return Ok(()) };
        let path = format!("{LOCK_ROOT}/{before}");
        client.events.clear();
        let (header, _) = client.call(|out, xid| frames::exists(out, xid, path.as_bytes(), true))?;
        if header.error == 0 {
            client.await_event()?;
        }
    }
}

/// `snapshot`: the mix, with marks where snapshots appeared in the data directory.
pub fn snapshot(settings: &Settings, show: Show<'_>) -> io::Result<Report> {
    let dir = settings.data_dir.clone().ok_or_else(|| {
        io::Error::other("snapshot wants --data-dir, the server's dataDir, to see when a snapshot was taken")
    })?;
    let (begin, over) = (Instant::now(), AtomicBool::new(false));
    // From there to the load's own clock: the time its connections took.
    let mut opening = Duration::ZERO;
    let (mut report, seen) = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| watch_snapshots(&dir, begin, &over));
        let report = sustained("snapshot", settings, &mut |progress| {
            opening = begin.elapsed().saturating_sub(progress.elapsed);
            show(progress);
        });
        over.store(true, Ordering::Relaxed);
        let seen = watcher.join().map_err(|_| io::Error::other("the watcher of snapshots failed"));
        Ok::<_, io::Error>((report?, seen?))
    })?;
    let zero = (opening + settings.warmup).as_secs_f64();
    let marks: Vec<_> = seen.into_iter().map(|(at, what)| (at.as_secs_f64() - zero, what)).collect();
    if !marks.iter().any(|(_, what)| what.starts_with("snapshot.")) {
        report.invalid.push("no snapshot was taken inside the window: write more, or lower snapCount".into());
    }
    report.marks = marks;
    Ok(report)
}

/// Files that appear in the directory, and when.
fn watch_snapshots(dir: &Path, begin: Instant, over: &AtomicBool) -> Vec<(Duration, String)> {
    const LOOK_EVERY: Duration = Duration::from_millis(10);
    let (mut known, mut seen) = (snapshots(dir), Vec::new());
    while !over.load(Ordering::Relaxed) {
        let now = snapshots(dir);
        for name in now.iter().filter(|name| !known.contains(name)) {
            let what = if name.starts_with(PARTIAL) { format!("begins: {name}") } else { name.clone() };
            seen.push((begin.elapsed(), what));
        }
        known = now;
        std::thread::sleep(LOOK_EVERY);
    }
    seen
}

fn snapshots(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir.join("version-2")).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.starts_with("snapshot.") || name.starts_with(PARTIAL)).collect()
}

/// Reads one random key; used to tell when a restarted server serves.
pub fn read_once(settings: &Settings) -> io::Result<()> {
    let mut client =
        Client::connect_within(settings.targets[0], settings.session_timeout_ms, PROBE_PATIENCE)?;
    let mut path = Vec::new();
    settings.keys.path(&mut path, Random::new(settings.seed).below(settings.keys.count));
    let (header, _) = client.call(|out, xid| frames::get_data(out, xid, &path, false))?;
    match header.error {
        0 => Ok(()),
        code => Err(io::Error::other(format!("read: error {code}"))),
    }
}
