//! `simulate`: one thread runs server, clients, network, disk and clocks from a seed, and a checker judges all of it.
//! `cargo run --release -p ostler-tests --bin simulate -- --seeds 0..1000`; a failure prints the seed that replays it.

mod checker;
mod faults;
mod history;
mod log;
mod machine;
mod model;
mod net;
mod run;
mod workload;

use checker::Figures;
use machine::Plant;
use run::Run;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitCode};
use std::time::Instant;

const USAGE: &str = "simulate [--seeds A..B] [--steps N] [--long] [--verbose]
  --seeds A..B   which runs (0..100); --long: 0..3000
  --steps N      turns with faults before the reckoning (5000)
  --verbose      every line of the history
  --plant NAME   with a defect that must be found: BelievesFailingDisks, AnswersBeforeItSyncs, TellsNothingMissed,
                 TellsAllAsMissed, ForgetsPersistentWatches";

struct Options {
    seeds: Range<u64>,
    steps: u64,
    verbose: bool,
    plant: Option<Plant>,
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
    println!("seeds={}..{} steps={} commit={commit}", options.seeds.start, options.seeds.end, options.steps);
    let begun = Instant::now();
    let mut all = Figures::default();
    for seed in options.seeds.clone() {
        match simulate(seed, options.steps, options.verbose, options.plant) {
            Ok((figures, _)) => all.add(figures),
            Err(why) => {
                println!("seed={seed} commit={commit} steps={}\n{why}", options.steps);
                return ExitCode::FAILURE;
            }
        }
    }
    println!("all right in {:.1?}: {all:?}", begun.elapsed());
    ExitCode::SUCCESS
}

/// One run: its figures and the hash of its history, or the story of its failure.
fn simulate(seed: u64, steps: u64, verbose: bool, plant: Option<Plant>) -> Result<(Figures, u64), String> {
    let mut run = Run::new(seed, verbose);
    run.plant(plant);
    let outcome = catch_unwind(AssertUnwindSafe(|| run.play(steps)));
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
    let mut options = Options { seeds: 0..100, steps: 5000, verbose: false, plant: None };
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--seeds" => {
                let text = value()?;
                let number = |text: &str| text.parse::<u64>().map_err(|_| format!("no number: {text}"));
                options.seeds = match text.split_once("..") {
                    Some((first, behind)) => number(first)?..number(behind)?,
                    None => number(&text)?..number(&text)? + 1,
                };
            }
            "--steps" => options.steps = value()?.parse().map_err(|_| "--steps needs a number")?,
            "--plant" => {
                let name = value()?;
                let plant = Plant::ALL.into_iter().find(|plant| format!("{plant:?}") == name);
                options.plant = Some(plant.ok_or(format!("no such plant: {name}"))?);
            }
            "--long" => options.seeds = 0..3000,
            "--verbose" => options.verbose = true,
            other => return Err(format!("unknown word {other}")),
        }
    }
    Ok(options)
}

/// Of the tree that was built; a dirty one says so.
fn commit() -> String {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).current_dir(env!("CARGO_MANIFEST_DIR")).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else { return "unknown".into() };
    let dirty = git(&["status", "--porcelain"]).is_none_or(|changes| !changes.is_empty());
    if dirty { format!("{commit}+changes") } else { commit }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_pass() {
        let count = std::env::var("OSTLER_SIM_SEEDS").ok().and_then(|count| count.parse().ok()).unwrap_or(30);
        for seed in 0..count {
            if let Err(why) = simulate(seed, 3000, false, None) {
                panic!("seed={seed} commit={} steps=3000\n{why}", commit());
            }
        }
    }

    #[test]
    fn planted_defects_are_seen() {
        for plant in Plant::ALL {
            let found = (0..40).find_map(|seed| simulate(seed, 3000, false, Some(plant)).err());
            let why = found.unwrap_or_else(|| panic!("{plant:?} was not seen"));
            println!("{plant:?}: {}", why.lines().last().unwrap_or_default());
        }
    }

    #[test]
    fn a_seed_replays_exactly() {
        for seed in [1, 2] {
            let hash = || simulate(seed, 2000, false, None).map(|(_, hash)| hash);
            assert_eq!(hash(), hash());
        }
    }
}
