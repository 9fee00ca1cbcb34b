//! `scale`: the real server with as many sessions, ephemerals, children, znodes and watches as it is meant to bear.
//! `cargo run --release -p ostler-tests --bin scale`; with `OSTLER_LONG` in full size. Each check prints its figures.
//! Not here: speed against other servers (bench), what the server answers (diff).

mod beside;
mod closes;
mod crowd;
mod frozen;
mod load;

use std::io;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// What the checks are played with.
#[derive(Clone, Copy, Debug)]
struct Size {
    ephemerals: usize,
    /// Clients of the frozen server.
    clients: usize,
    /// Timeouts of their sessions: spread evenly between these.
    timeouts_ms: (u64, u64),
    frozen: Duration,
    idle_sessions: usize,
    idle_timeout_ms: u64,
    children: usize,
    znodes: usize,
    watches: usize,
    /// Ask Apache to stand the same, for comparison.
    with_apache: bool,
}

const SHORT: Size = Size {
    ephemerals: 20_000,
    clients: 2_000,
    timeouts_ms: (2_000, 3_000),
    frozen: Duration::from_secs(4),
    idle_sessions: 2_000,
    idle_timeout_ms: 12_000,
    children: 50_000,
    znodes: 50_000,
    watches: 50_000,
    with_apache: false,
};

/// With OSTLER_LONG: as many clients as a limit of 20 000 files allows.
const LONG: Size = Size {
    ephemerals: 100_000,
    clients: 16_000,
    timeouts_ms: (6_000, 10_000),
    frozen: Duration::from_secs(8),
    idle_sessions: 16_000,
    idle_timeout_ms: 30_000,
    children: 1_000_000,
    znodes: 1_000_000,
    watches: 1_000_000,
    with_apache: true,
};

/// A check's figures in words, or why it failed.
type Outcome = io::Result<String>;
type Check = fn(&Size) -> Outcome;

fn main() -> ExitCode {
    let only: Vec<String> = std::env::args().skip(1).collect();
    let size = if std::env::var_os("OSTLER_LONG").is_some() { LONG } else { SHORT };
    let checks: [(&str, Check); 7] = [
        ("closed_by_the_client", closes::closed_by_the_client),
        ("closed_by_expiry", closes::closed_by_expiry),
        ("restart_with_ephemerals", closes::restart_with_ephemerals),
        ("close_cut_short_by_a_kill", closes::cut_short_by_a_kill),
        ("frozen_server_loses_nobody", frozen::loses_nobody),
        ("frozen_apache", frozen::apache_for_comparison),
        ("a_crowd_and_a_large_tree", crowd::all_are_served),
    ];
    let mut failed = 0;
    for (name, check) in checks {
        if !only.is_empty() && !only.iter().any(|word| name.contains(word.as_str())) {
            continue;
        }
        let began = Instant::now();
        match check(&size) {
            Ok(figures) => println!("ok {name}: {figures} ({:.1} s)", began.elapsed().as_secs_f64()),
            Err(why) => {
                failed += 1;
                println!("FAIL {name}: {why} ({:.1} s)", began.elapsed().as_secs_f64());
            }
        }
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// An error that says `why` unless `holds`.
fn ensure(holds: bool, why: impl FnOnce() -> String) -> io::Result<()> {
    if holds { Ok(()) } else { Err(io::Error::other(why())) }
}

/// Asks again and again until `seen` gives something; how often is up to `seen`, which waits for the server's answer.
fn until<T>(limit: Duration, what: &str, mut seen: impl FnMut() -> io::Result<Option<T>>) -> io::Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = seen()? {
            return Ok(found);
        }
        ensure(Instant::now() < deadline, || format!("not within {limit:?}: {what}"))?;
        // Between two looks at another process there is nothing to wait on but time.
        std::thread::park_timeout(Duration::from_millis(5));
    }
}
