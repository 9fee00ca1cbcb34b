//! `zab`: the protocol alone, whole ensembles of it, judged after every step. `--exhaustive` takes every course that
//! events can take within bounds; `--seeds` walks at random. Built with `--cfg zab_mutants` it can plant known bugs, and
//! shows that it finds them. A failure prints how it came about, shortened as far as the failure stays.
//! Not here: the ensemble's network and what is judged (replication/tests/net).

#[path = "../src/commit.rs"]
mod commit;
mod explore;
#[cfg(zab_mutants)]
mod mutants;
#[path = "../../replication/tests/net/mod.rs"]
mod net;
mod shrink;

use commit::commit;
use explore::{Bounds, Found, Start};
use net::walk::{Move, Setup, Walk};
use std::cell::RefCell;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant};

const USAGE: &str = "zab [--seeds A..B] [--exhaustive] [--mutant NAME] [--mutants] [--seconds N]
  --seeds A..B    random walks of these seeds (0..100)
  --exhaustive    every course of three servers within bounds that grow until the time is over
  --bounds T,C,B,H  only within these: so many txns, crashes, broken connections, holds
  --mutant NAME   with a bug planted that must be found, by walks and by search
  --mutants       the same for each bug that is known to be found; --mutants A,B,… for some
  --seconds N     of processor time for a search, or for one bug (60)
Bugs can be planted in a build with RUSTFLAGS='--cfg zab_mutants'.";

struct Options {
    mode: Mode,
    bounds: Option<Bounds>,
    seconds: u64,
}

enum Mode {
    Walks(Range<u64>),
    Search,
    /// All, or those named.
    Mutants(Vec<String>),
}

thread_local! {
    /// Where the last panic came from.
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("zab: {why}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    // What panics is told when it has been shortened.
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(|at| format!("{}:{}", at.file(), at.line())).unwrap_or_default();
        PANIC.set(place);
    }));
    match options.mode {
        Mode::Walks(seeds) => walks(seeds),
        Mode::Search => search(options.bounds, Duration::from_secs(options.seconds)),
        Mode::Mutants(names) => mutants(&names, options.bounds, Duration::from_secs(options.seconds)),
    }
}

fn walks(seeds: Range<u64>) -> ExitCode {
    println!("seeds={}..{} commit={}", seeds.start, seeds.end, commit());
    let begun = Instant::now();
    let (mut hasher, mut figures) = (DefaultHasher::new(), Figures::default());
    for seed in seeds {
        match walk(seed) {
            Ok(walk) => {
                walk.net.trace.hash(&mut hasher);
                figures.add(&walk);
            }
            Err(failure) => {
                println!("seed={seed} commit={}\n{}", commit(), failure.story());
                return ExitCode::FAILURE;
            }
        }
    }
    println!("all right in {:.1?}: {figures:?} hash={:016x}", begun.elapsed(), hasher.finish());
    ExitCode::SUCCESS
}

#[derive(Default, Debug)]
struct Figures {
    walks: u64,
    moves: usize,
    simulated_s: u64,
    epochs: usize,
    shown: usize,
    crashes: usize,
    diffs: usize,
    truncs: usize,
    snaps: usize,
}

impl Figures {
    fn add(&mut self, walk: &Walk) {
        let net = &walk.net;
        let sent = |what: &str| net.trace.iter().filter(|line| line.contains(what)).count();
        self.walks += 1;
        self.moves += walk.moves.len();
        self.simulated_s += net.now.as_millis() / 1000;
        self.epochs += net.leaders.len();
        self.shown += net.history.len();
        self.crashes += sent(" crashes");
        self.diffs += sent(" DIFF ");
        self.truncs += sent(" TRUNC ");
        self.snaps += sent(" SNAP ");
    }
}

/// A run that went wrong.
struct Failure {
    start: Box<net::Net>,
    moves: Vec<Move>,
    /// It did not heal.
    heals: bool,
    why: String,
}

impl Failure {
    /// Shortened: its moves and what was sent.
    fn story(&self) -> String {
        shrink::shrink(self).story_as_it_is()
    }

    fn story_as_it_is(&self) -> String {
        let (trace, why) = shrink::replay(self, &self.moves);
        let moves: Vec<String> = self.moves.iter().map(|it| format!("  {it:?}")).collect();
        let tail = &trace[trace.len().saturating_sub(120)..];
        format!(
            "moves:\n{}\nwhat happened, the last of {} lines:\n  {}\n{}",
            moves.join("\n"),
            trace.len(),
            tail.join("\n  "),
            why.unwrap_or_else(|| self.why.clone())
        )
    }
}

/// What a panic said, and where.
fn caught<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        format!("{} ({})", text.unwrap_or_default(), PANIC.take())
    })
}

/// One walk from a seed.
fn walk(seed: u64) -> Result<Walk, Failure> {
    let setup = Setup::of(seed);
    let mut walk = Walk::new(setup.net());
    let mut heals = false;
    let outcome = caught(|| {
        walk.wander(seed, &setup);
        heals = true;
        walk.net.recover();
    });
    match outcome {
        Ok(()) => Ok(walk),
        Err(why) => Err(Failure { start: Box::new(setup.net()), moves: walk.moves, heals, why }),
    }
}

/// Bounds that grow, from both beginnings, until the time is over.
fn search(only: Option<Bounds>, limit: Duration) -> ExitCode {
    println!("exhaustive commit={}", commit());
    println!("{:<8} {:<44} {:>12} {:>9} {:>8}", "start", "bounds", "states", "ends", "seconds");
    let begun = Instant::now();
    for bounds in Bounds::growing().filter(|_| only.is_none()).chain(only) {
        for start in Start::ALL {
            let part = Instant::now();
            let Some(left) = limit.checked_sub(begun.elapsed()) else { return ExitCode::SUCCESS };
            let (figures, found) = explore::explore(start, bounds, left);
            let cut = if matches!(found, Found::OutOfTime) { " (cut off)" } else { "" };
            println!(
                "{:<8} {:<44} {:>12} {:>9} {:>8.1}{cut}",
                format!("{start:?}"),
                bounds.words(),
                figures.states,
                figures.ends,
                part.elapsed().as_secs_f64()
            );
            if let Found::Failure(failure) = found {
                println!("commit={}\n{}", commit(), failure.story());
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

#[cfg(zab_mutants)]
fn mutants(names: &[String], only: Option<Bounds>, limit: Duration) -> ExitCode {
    println!("mutants commit={}", commit());
    mutants::run(names, only, limit)
}

#[cfg(not(zab_mutants))]
fn mutants(_names: &[String], _only: Option<Bounds>, _limit: Duration) -> ExitCode {
    eprintln!("zab: no bug can be planted in this build; it takes RUSTFLAGS='--cfg zab_mutants'");
    ExitCode::from(2)
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options { mode: Mode::Walks(0..100), bounds: None, seconds: 60 };
    let mut words = words.by_ref().peekable();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--seeds" => {
                let text = words.next().ok_or("--seeds needs a range")?;
                let number = |text: &str| text.parse::<u64>().map_err(|_| format!("no number: {text}"));
                options.mode = Mode::Walks(match text.split_once("..") {
                    Some((first, behind)) => number(first)?..number(behind)?,
                    None => number(&text)?..number(&text)? + 1,
                });
            }
            "--exhaustive" => options.mode = Mode::Search,
            "--bounds" => {
                let text = words.next().ok_or("--bounds needs four numbers")?;
                let numbers: Result<Vec<u32>, _> = text.split(',').map(str::parse).collect();
                let Ok([txns, crashes, breaks, holds]) = numbers.as_deref() else {
                    return Err(format!("no four numbers: {text}"));
                };
                let (txns, crashes, breaks, holds) = (*txns, *crashes, *breaks, *holds);
                options.bounds = Some(Bounds { txns, crashes, breaks, holds });
            }
            "--mutant" => options.mode = Mode::Mutants(vec![words.next().ok_or("--mutant needs a name")?]),
            "--mutants" => {
                let names = words.next_if(|word| !word.starts_with("--")).unwrap_or_default();
                let names = names.split(',').filter(|name| !name.is_empty());
                options.mode = Mode::Mutants(names.map(str::to_owned).collect());
            }
            "--seconds" => {
                let text = words.next().ok_or("--seconds needs a number")?;
                options.seconds = text.parse().map_err(|_| format!("no number: {text}"))?;
            }
            other => return Err(format!("unknown word {other}")),
        }
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_replays_exactly() {
        for seed in [1, 2, 3] {
            let trace = || walk(seed).map(|walk| walk.net.trace).map_err(|failure| failure.why);
            assert_eq!(trace(), trace());
        }
    }

    #[test]
    fn every_course_with_one_txn_and_one_crash_is_right() {
        let bounds = Bounds { txns: 1, crashes: 1, breaks: 0, holds: 0 };
        for start in Start::ALL {
            let (_, found) = explore::explore(start, bounds, Duration::from_secs(600));
            if let Found::Failure(failure) = found {
                panic!("{}", failure.story());
            }
        }
    }
}
