//! Plants one bug after the other and looks for it: by random walks, and by search with bounds that grow.
//!
//! Apache's other bugs of this kind lie outside of the protocol's state machine, and are for tests of whole servers:
//! - in files: records hidden under a newer snapshot (2832, 2846), a snapshot above the point of a TRUNC (4837), a log cut
//!   at the wrong place (1489), a TRUNC to what is no record (a leader of ours never asks for one; an Apache leader's is
//!   played by a script in replication/tests), a failing log behind a memory that goes on (4882);
//! - in bytes: configurations (4787), handshakes (2164, 3720, 4886), bodies of requests (2623);
//! - in what is replicated: sessions and ephemerals (4306, 5010), a read-only server's own txns (3526);
//! - in configurations that change (2819, 3829, 3814, 3830, 3842), which are refused so far;
//! - 16 million txns away: the end of an epoch's counter (1277, 4883).

use crate::explore::{Bounds, Found, Start, explore};
use crate::{Failure, walk};
use ostler_replication::{Mutant, plant};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Walks of the first seeds, which find many a bug in a moment; then a search; then further seeds.
const FIRST_SEEDS: u64 = 40;
/// One part in so many of the time is searched.
const SEARCHED: u32 = 3;

/// Not found yet, and looked for only by name. Each is one of two guards: where it fails, either five servers and a rare
/// order of their messages are needed for harm, or an election has to go wrong besides.
const BY_NAME_ONLY: [Mutant; 5] = [
    Mutant::PromisesInMemory,
    Mutant::FollowsAStaleEpoch,
    Mutant::CountsARepeatedPromise,
    Mutant::CountsAMoreRecentFollower,
    Mutant::ReportsAnEpochNeverEstablished,
];

pub fn run(names: &[String], only: Option<Bounds>, limit: Duration) -> ExitCode {
    let mut chosen: Vec<Mutant> = Vec::new();
    for name in names {
        let Some(&mutant) = Mutant::ALL.iter().find(|mutant| format!("{mutant:?}") == *name) else {
            let all: Vec<String> = Mutant::ALL.iter().map(|mutant| format!("{mutant:?}")).collect();
            eprintln!("zab: no bug is called {name}; there are {}", all.join(" "));
            return ExitCode::from(2);
        };
        chosen.push(mutant);
    }
    if names.is_empty() {
        chosen = Mutant::ALL.iter().copied().filter(|mutant| !BY_NAME_ONLY.contains(mutant)).collect();
    }
    let mut missed = 0;
    println!("{:<38} {:<16} {:<52} {:>7}  why", "bug", "ZOOKEEPER-", "found by", "seconds");
    for &mutant in &chosen {
        let begun = Instant::now();
        plant(Some(mutant));
        let found = find(only, limit);
        let seconds = begun.elapsed().as_secs_f64();
        match found {
            Some((how, failure)) => {
                let why: String = failure.why.lines().next().unwrap_or_default().chars().take(150).collect();
                println!(
                    "{:<38} {:<16} {how:<52} {seconds:>7.1}  {why}",
                    format!("{mutant:?}"),
                    mutant.issues()
                );
                if chosen.len() == 1 {
                    println!("{}: {}\n{}", mutant.issues(), mutant.story(), failure.story());
                }
            }
            None => {
                missed += 1;
                println!(
                    "{:<38} {:<16} {:<52} {seconds:>7.1}",
                    format!("{mutant:?}"),
                    mutant.issues(),
                    "MISSED"
                );
            }
        }
        plant(None);
    }
    println!("{} of {} found", chosen.len() - missed, chosen.len());
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn find(only: Option<Bounds>, limit: Duration) -> Option<(String, Failure)> {
    let begun = Instant::now();
    for seed in 0..FIRST_SEEDS {
        if let Err(failure) = walk(seed) {
            return Some((format!("walk: seed {seed}"), failure));
        }
    }
    let searched = limit / SEARCHED;
    'search: for bounds in Bounds::growing().filter(|_| only.is_none()).chain(only) {
        for start in Start::ALL {
            let Some(left) = searched.checked_sub(begun.elapsed()) else { break 'search };
            match explore(start, bounds, left) {
                (_, Found::Failure(failure)) => {
                    return Some((format!("search: {start:?}, {}", bounds.words()), *failure));
                }
                (_, Found::OutOfTime) => break 'search,
                (_, Found::Nothing) => {}
            }
        }
    }
    for seed in FIRST_SEEDS.. {
        if limit <= begun.elapsed() {
            break;
        }
        if let Err(failure) = walk(seed) {
            return Some((format!("walk: seed {seed}"), failure));
        }
    }
    None
}
