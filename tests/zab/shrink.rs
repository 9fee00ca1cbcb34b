//! Shortens a run that went wrong: moves are left out as long as it goes wrong in the same way.

use crate::net::Net;
use crate::net::walk::Move;
use crate::{Failure, caught};
use std::time::{Duration, Instant};

const SECONDS_MAX: u64 = 20;

/// The trace of these moves, and what goes wrong, if anything.
pub fn replay(failure: &Failure, moves: &[Move]) -> (Vec<String>, Option<String>) {
    let mut net = (*failure.start).clone();
    net.is_traced = true;
    let why = run(&mut net, moves, failure.heals).err();
    (net.trace, why)
}

fn run(net: &mut Net, moves: &[Move], heals: bool) -> Result<(), String> {
    caught(|| {
        for &it in moves {
            net.make(it);
        }
        if heals {
            net.recover();
        }
    })
}

/// The first line without its numbers, which differ from run to run.
fn kind(why: &str) -> String {
    let first = why.lines().next().unwrap_or_default();
    first.chars().filter(|c| !c.is_ascii_digit()).take(60).collect()
}

pub fn shrink(failure: &Failure) -> Failure {
    let end = Instant::now() + Duration::from_secs(SECONDS_MAX);
    let wanted = kind(&failure.why);
    let fails = |moves: &[Move]| {
        let mut net = (*failure.start).clone();
        net.is_traced = false;
        run(&mut net, moves, failure.heals).is_err_and(|why| kind(&why) == wanted)
    };
    let mut moves = failure.moves.clone();
    let mut size = moves.len().div_ceil(2).max(1);
    loop {
        let (mut at, before) = (0, moves.len());
        while at < moves.len() && Instant::now() < end {
            let mut fewer = moves.clone();
            fewer.drain(at..(at + size).min(moves.len()));
            if fails(&fewer) {
                moves = fewer;
            } else {
                at += size;
            }
        }
        if Instant::now() >= end || (size == 1 && moves.len() == before) {
            break;
        }
        size = (size / 2).max(1);
    }
    Failure { start: failure.start.clone(), moves, heals: failure.heals, why: failure.why.clone() }
}
