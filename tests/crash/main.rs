//! `crash`: kills and power cuts at more places than anybody would think of, and every kind of damage to a recorded log.
//! `cargo run --release -p ostler-tests --bin crash -- --points 10000` counts at least so many kill points and prints, by
//! kind, what it has looked at; it needs the release binary (`cargo build --release -p ostler`) and strace.
//!
//! Two ways: real processes, killed at their system calls (`process`), and the engine's recovery, log, segments, snapshots
//! and purge over a simulated disk, killed and cut off from power at every call and between any two stores (`explore`).
//! Then recorded logs are torn and flipped bit by bit (`damage`).

mod damage;
mod explore;
mod figures;
mod ledger;
#[cfg(test)]
mod plants;
mod process;
mod script;
mod server;
mod watched;

use damage::Stride;
use explore::Effort;
use figures::Figures;
use server::Subject;
use std::process::ExitCode;
use std::time::Instant;

const USAGE: &str = "crash [--points N] [--processes N] [--seed N] [--brief]
  --points N      at least so many kill points in all (10000)
  --processes N   of these so many kills of real processes (one in 20); 0 needs neither strace nor the binary
  --seed N        which ones (1)
  --brief         fewer power cuts at each point, one flipped bit in 31 (for every commit)";

struct Options {
    points: u64,
    processes: Option<u64>,
    seed: u64,
    brief: bool,
}

const FULL: Effort = Effort { exhaustive_most: 256, random_cuts: 12, nested_one_in: 6 };
const BRIEF: Effort = Effort { exhaustive_most: 16, random_cuts: 2, nested_one_in: 40 };
/// Lives of one script: enough for files to be rolled, purged and used again.
const LIVES: u64 = 8;

fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("crash: {why}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(figures) => {
            figures.print();
            if figures.points.sum() < options.points {
                println!("FAIL crash: fewer kill points than asked for");
                return ExitCode::FAILURE;
            }
            println!("ok {} kill points", figures.points.sum());
            println!("ok {} power cuts", figures.disks.of("after a power cut"));
            println!("ok torn and damaged logs");
            ExitCode::SUCCESS
        }
        Err(why) => {
            println!("FAIL crash: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Thousands of worlds are made for a few znodes each: clearing a huge page for each would take most of the time.
fn without_huge_pages() {
    // A wish: without it everything works, slower.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

fn run(options: &Options) -> Result<Figures, String> {
    let mut figures = Figures::default();
    without_huge_pages();
    // A panic of the engine is caught and told with its place in the story.
    std::panic::set_hook(Box::new(|_| {}));
    let begun = Instant::now();
    let processes = options.processes.unwrap_or(options.points / 20);
    if processes > 0 {
        figures.merge(&process::processes(options.seed, processes)?);
        println!("real processes: {:.0?}", begun.elapsed());
    }
    let begun = Instant::now();
    let (effort, stride) = if options.brief { (BRIEF, Stride(31)) } else { (FULL, Stride(1)) };
    let mut seed = options.seed;
    while figures.points.sum() < options.points {
        figures.merge(&explore::explore(seed, LIVES, &Subject::ENGINE, effort)?);
        seed += 1;
    }
    println!("{} scripts in process: {:.0?}", seed - options.seed, begun.elapsed());
    let begun = Instant::now();
    figures.merge(&damage::damage(&Subject::ENGINE, stride)?);
    println!("damage: {:.0?}", begun.elapsed());
    Ok(figures)
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options { points: 10_000, processes: None, seed: 1, brief: false };
    while let Some(word) = words.next() {
        let mut number = || {
            let value = words.next().ok_or(format!("{word} needs a number"))?;
            value.parse::<u64>().map_err(|_| format!("no number: {value}"))
        };
        match word.as_str() {
            "--points" => options.points = number()?,
            "--processes" => options.processes = Some(number()?),
            "--seed" => options.seed = number()?,
            "--brief" => options.brief = true,
            other => return Err(format!("unknown word {other}")),
        }
    }
    Ok(options)
}
