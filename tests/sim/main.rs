//! `simulate`: one thread runs server, clients, network, disk and clocks from a seed, and a checker judges all of it.
//! `cargo run --release -p ostler-tests --bin simulate -- --seeds 0..1000`; a failure prints the seed that replays it.

mod checker;
mod faults;
mod history;
mod log;
mod machine;
mod model;
mod net;
mod plant;
mod run;
mod shape;
mod workload;

use checker::Figures;
use ostler_tests::commit::commit;
use plant::Plant;
use run::{Run, Servers};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

const USAGE: &str = "simulate [--seeds A..B] [--servers N [--observers M]] [--steps N] [--long] [--verbose]
  --seeds A..B   which runs (0..100); --long: 0..3000
  --servers N    so many voting servers, 1 to 7, and M that observe; else the seed says: 1, 3 or 5
  --steps N      turns with faults before the reckoning (5000; for each server of an ensemble)
  --verbose      every line of the history, and what the servers log
  --plant NAME   with a defect that must be found: BelievesFailingDisks, AnswersBeforeItSyncs, TellsNothingMissed,
                 TellsAllAsMissed, ForgetsPersistentWatches; of ensembles: CommitsWithoutQuorum, ServesWithoutRole,
                 TouchesNothing";

#[derive(Clone, Copy)]
struct Kind {
    servers: Servers,
    steps: u64,
    verbose: bool,
    plant: Option<Plant>,
}

struct Options {
    seeds: Range<u64>,
    kind: Kind,
}

fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("simulate: {why}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let commit = commit();
    let Options { seeds, kind } = options;
    println!("seeds={}..{} steps={} {:?} commit={commit}", seeds.start, seeds.end, kind.steps, kind.servers);
    if kind.verbose {
        tracing_subscriber::fmt().with_writer(std::io::stderr).without_time().with_ansi(false).init();
    }
    let begun = Instant::now();
    let mut all = Figures::default();
    for seed in seeds {
        match simulate(seed, kind) {
            Ok((figures, _)) => all.add(figures),
            Err(why) => {
                println!("seed={seed} commit={commit} steps={} {:?}\n{why}", kind.steps, kind.servers);
                return ExitCode::FAILURE;
            }
        }
    }
    let hours = all.millis as f64 / 3_600_000.0;
    println!("all right in {:.1?}, {hours:.2} simulated hours: {all:?}", begun.elapsed());
    ExitCode::SUCCESS
}

/// One run: its figures and the hash of its history, or the story of its failure.
fn simulate(seed: u64, kind: Kind) -> Result<(Figures, u64), String> {
    let mut run = Run::new(seed, kind.servers, kind.plant, kind.verbose);
    let outcome = catch_unwind(AssertUnwindSafe(|| run.play(kind.steps)));
    let why = match outcome {
        Ok(Ok(figures)) => return Ok((figures, run.history.hash())),
        Ok(Err(why)) => why,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            format!("panic: {}", text.unwrap_or_default())
        }
    };
    let story: Vec<&str> = run.history.lines().collect();
    // A panic may have left anything half-done: nothing of it is used again.
    let count = run.history.len();
    let story = format!("... the last of {count} lines:\n{}\n{why}", story.join("\n"));
    std::mem::forget(run);
    Err(story)
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Options, String> {
    let servers = Servers { voters: None, observers: None };
    let mut kind = Kind { servers, steps: 5000, verbose: false, plant: None };
    let mut seeds = 0..100;
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--seeds" => {
                let text = value()?;
                let number = |text: &str| text.parse::<u64>().map_err(|_| format!("no number: {text}"));
                seeds = match text.split_once("..") {
                    Some((first, behind)) => number(first)?..number(behind)?,
                    None => number(&text)?..number(&text)? + 1,
                };
            }
            "--steps" => kind.steps = value()?.parse().map_err(|_| "--steps needs a number")?,
            "--servers" => {
                let count = value()?.parse().ok().filter(|count| (1..=7).contains(count));
                kind.servers.voters = Some(count.ok_or("--servers needs a number from 1 to 7")?);
                kind.servers.observers.get_or_insert(0);
            }
            "--observers" => {
                let count = value()?.parse().ok().filter(|count| *count <= 7);
                kind.servers.observers = Some(count.ok_or("--observers needs a number from 0 to 7")?);
            }
            "--plant" => {
                let name = value()?;
                let plant = Plant::ALL.into_iter().find(|plant| format!("{plant:?}") == name);
                kind.plant = Some(plant.ok_or(format!("no such plant: {name}"))?);
            }
            "--long" => seeds = 0..3000,
            "--verbose" => kind.verbose = true,
            other => return Err(format!("unknown word {other}")),
        }
    }
    Ok(Options { seeds, kind })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(voters: u8, plant: Option<Plant>) -> Kind {
        let servers = Servers { voters: Some(voters), observers: Some(u8::from(voters == 3)) };
        Kind { servers, steps: 3000, verbose: false, plant }
    }

    fn pass(seeds: Range<u64>, kind: Kind) {
        for seed in seeds {
            if let Err(why) = simulate(seed, kind) {
                panic!("seed={seed} commit={} steps={} {:?}\n{why}", commit(), kind.steps, kind.servers);
            }
        }
    }

    #[test]
    fn seeds_pass() {
        let count = std::env::var("OSTLER_SIM_SEEDS").ok().and_then(|count| count.parse().ok()).unwrap_or(30);
        pass(0..count, kind(1, None));
    }

    #[test]
    fn seeds_of_ensembles_pass() {
        pass(0..8, kind(3, None));
        pass(0..2, kind(5, None));
    }

    #[test]
    fn planted_defects_are_seen() {
        for plant in Plant::ALL {
            let kind = kind(if plant.is_of_ensemble() { 3 } else { 1 }, Some(plant));
            let found = (0..40).find_map(|seed| simulate(seed, kind).err());
            let why = found.unwrap_or_else(|| panic!("{plant:?} was not seen"));
            println!("{plant:?}: {}", why.lines().last().unwrap_or_default());
        }
    }

    #[test]
    fn a_seed_replays_exactly() {
        for (seed, voters) in [(1, 1), (2, 1), (1, 3), (2, 5)] {
            let hash = || simulate(seed, kind(voters, None)).map(|(_, hash)| hash);
            assert_eq!(hash(), hash());
        }
    }
}
