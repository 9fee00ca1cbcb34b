//! The differential runner: plays seeded sequences of all client operations to two servers side by side, Apache 3.9.5
//! and Ostler, and stops to show the first step in which they differ, with the steps that lead there made few.
//! Steps, player and what is left out are in `ostler_tests::differential`.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ostler_tests::differential::play::{Seen, Side, settle};
use ostler_tests::differential::script::{Action, Call, Step, fresh, generate};
use ostler_tests::peers::{Apache, Ostler};

const USAGE: &str = "\
usage: differential [--seeds FIRST..LAST] [--steps N] [--peers apache,ostler] [--verbose] [--no-shrink] [--keep-going]
                    [--apache HOST:PORT --ostler HOST:PORT] [--setting KEY=VALUE]... [--plant]

Starts both servers unless their addresses are given, with the settings added to their zoo.cfg. LAST is included. Ends with 0 when no step differed.
--peers apache,apache checks the runner itself; --plant makes it break one side, so that a difference must show.";

/// What both servers run with: no reaping by the clock, sessions that outlive slow machines, a super user
/// (super:admin), quotas enforced.
const SETTINGS: [&str; 6] = [
    "minSessionTimeout=60000",
    "maxSessionTimeout=120000",
    "DigestAuthenticationProvider.superDigest=super:xQJmxLMiHGwaqBvst5y6rkB6HQs=",
    "enforceQuota=true",
    "-Dznode.container.checkIntervalMs=1000000000",
    "-Dzookeeper.forceSync=no",
];

/// A difference is made small by at most so many plays.
const SHRINK_PLAYS_MAX: u32 = 400;
const SHRINK_TIME_MAX: Duration = Duration::from_secs(120);

struct Options {
    seeds: (u64, u64),
    steps: usize,
    peers: [Kind; 2],
    given: Option<[SocketAddr; 2]>,
    verbose: bool,
    shrink: bool,
    keep_going: bool,
    plant: bool,
    settings: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Apache,
    Ostler,
}

enum Peer {
    Apache(Apache),
    Ostler(Ostler),
    Given(SocketAddr),
}

/// Both servers, and the directories they live in.
struct Pair {
    peers: [Peer; 2],
    _dirs: tempfile::TempDir,
}

/// The first step, or the look at the end, in which the two sides differ.
struct Difference {
    step: usize,
    what: String,
    lines: [Vec<Seen>; 2],
}

fn main() {
    let options = options(std::env::args().skip(1)).unwrap_or_else(|problem| {
        eprintln!("{problem}\n{USAGE}");
        std::process::exit(2)
    });
    let mut pair = Pair::start(&options);
    let began = Instant::now();
    let (mut played, mut different) = (0, 0);
    for seed in options.seeds.0..=options.seeds.1 {
        if options.verbose || seed % 50 == 0 {
            println!("seed {seed} ({:.0} s)", began.elapsed().as_secs_f64());
        }
        let steps = generate(seed, options.steps);
        let found = pair.play(seed, &steps, &options);
        played += 1;
        let Some(difference) = found else { continue };
        different += 1;
        println!("seed={seed} steps={}: differ at step {}", options.steps, difference.step);
        if options.shrink && pair.is_ours() {
            drop(pair);
            pair = shrink(seed, steps, difference, &options);
        } else {
            show(&steps, &difference);
        }
        let settings: String = options.settings.iter().map(|line| format!(" --setting {line}")).collect();
        println!("replay: --seeds {seed}..{seed} --steps {}{settings}", options.steps);
        if !options.keep_going {
            break;
        }
        if pair.is_ours() {
            pair = Pair::start(&options);
        }
    }
    println!(
        "{played} seeds of {} steps played, {different} differ ({:.0} s)",
        options.steps,
        began.elapsed().as_secs_f64()
    );
    drop(pair); // exit runs no destructors, and the servers must not outlive us
    std::process::exit(i32::from(different > 0));
}

impl Pair {
    fn start(options: &Options) -> Pair {
        let dirs = tempfile::tempdir().expect("a temporary directory");
        let settings: Vec<&str> =
            SETTINGS.into_iter().chain(options.settings.iter().map(String::as_str)).collect();
        let start = |which: usize| {
            if let Some(given) = options.given {
                return Peer::Given(given[which]);
            }
            let dir = dirs.path().join(which.to_string());
            match options.peers[which] {
                Kind::Apache => Peer::Apache(Apache::start(&dir, &settings)),
                Kind::Ostler => Peer::Ostler(Ostler::start(&dir, &settings)),
            }
        };
        Pair { peers: [start(0), start(1)], _dirs: dirs }
    }

    fn is_ours(&self) -> bool {
        !self.peers.iter().any(|peer| matches!(peer, Peer::Given(_)))
    }

    /// Plays all steps, then closes the sessions, compares the trees, and clears up.
    fn play(&self, seed: u64, steps: &[Step], options: &Options) -> Option<Difference> {
        let mut step = 0;
        self.try_play(seed, steps, options, &mut step).unwrap_or_else(|error| {
            let what = format!("a server is out of reach: {error}; {}", self.logs());
            Some(Difference { step, what, lines: Default::default() })
        })
    }

    fn try_play(
        &self,
        seed: u64,
        steps: &[Step],
        options: &Options,
        at: &mut usize,
    ) -> io::Result<Option<Difference>> {
        let [first, second] = self.peers.each_ref().map(Peer::address);
        let mut sides = [Side::begin(first, false)?, Side::begin(second, options.plant)?];
        let differ = |step: usize, what: &str, lines: [Vec<Seen>; 2]| {
            (lines[0] != lines[1]).then(|| Difference { step, what: what.to_owned(), lines })
        };
        for (index, step) in steps.iter().enumerate() {
            *at = index;
            let lines = play_step(&mut sides, seed, step)?;
            if options.verbose {
                println!("{index}: {}", words(step));
                lines[0].iter().for_each(|line| println!("      {line}"));
            }
            if let Some(difference) = differ(index, "answers", lines) {
                return Ok(Some(difference));
            }
        }
        *at = steps.len();
        let trees = [sides[0].tree()?, sides[1].tree()?];
        if let Some(difference) = differ(steps.len(), "trees before the sessions close", trees) {
            return Ok(Some(difference));
        }
        for slot in sides[0].open_sessions() {
            let close =
                Call { label: "closeSession".into(), xid: 1_000_000, op: -11, body: vec![], zxid_back: None };
            let step = Step { slot, action: Action::Calls(vec![close]) };
            let lines = play_step(&mut sides, seed, &step)?;
            if let Some(difference) = differ(steps.len(), "answers while the sessions close", lines) {
                return Ok(Some(difference));
            }
        }
        let trees = [sides[0].tree()?, sides[1].tree()?];
        let counts = [sides[0].counts()?, sides[1].counts()?];
        let found = differ(steps.len(), "trees at the end", trees)
            .or_else(|| differ(steps.len(), "four-letter word mntr at the end", counts));
        for side in sides {
            side.clear()?;
        }
        Ok(found)
    }

    fn logs(&self) -> String {
        let log = |peer: &Peer| match peer {
            Peer::Apache(server) => server.log(),
            Peer::Ostler(server) => server.log(),
            Peer::Given(_) => String::new(),
        };
        let logs = self.peers.each_ref().map(log);
        logs.map(|log| log.lines().rev().take(10).collect::<Vec<_>>().join("\n  ")).join("\n and\n  ")
    }
}

impl Peer {
    fn address(&self) -> SocketAddr {
        match self {
            Peer::Apache(server) => server.address(),
            Peer::Ostler(server) => server.address(),
            Peer::Given(address) => *address,
        }
    }
}

/// Both servers work at once; what they say is read afterwards.
fn play_step(sides: &mut [Side; 2], seed: u64, step: &Step) -> io::Result<[Vec<Seen>; 2]> {
    let mut seen: [Vec<Seen>; 2] = Default::default();
    let fresh = fresh(seed, step.slot);
    for (side, seen) in sides.iter_mut().zip(&mut seen) {
        side.prepare(step, &fresh, seen)?;
    }
    for side in sides.iter_mut() {
        side.send(step);
    }
    for (side, seen) in sides.iter_mut().zip(&mut seen) {
        side.gather(step, seen)?;
    }
    for side in sides.iter_mut() {
        side.send_pings();
    }
    for (side, seen) in sides.iter_mut().zip(&mut seen) {
        side.gather_pings(seen);
        settle(step, seen);
    }
    Ok(seen)
}

/// Leaves out steps as long as a difference remains; shows what is left. Servers that differed start anew.
fn shrink(seed: u64, mut steps: Vec<Step>, mut difference: Difference, options: &Options) -> Pair {
    let (began, mut plays) = (Instant::now(), 0);
    steps.truncate(difference.step + 1);
    let mut chunk = steps.len().div_ceil(2);
    let mut pair = Pair::start(options);
    loop {
        let mut from = 0;
        while from < steps.len() {
            if plays >= SHRINK_PLAYS_MAX || began.elapsed() > SHRINK_TIME_MAX {
                break;
            }
            let mut fewer = steps.clone();
            fewer.drain(from..(from + chunk).min(steps.len()));
            plays += 1;
            match pair.play(seed, &fewer, options) {
                Some(found) => {
                    fewer.truncate(found.step + 1);
                    (steps, difference) = (fewer, found);
                    pair = Pair::start(options);
                }
                None => from += chunk,
            }
        }
        if chunk == 1 {
            break;
        }
        chunk = chunk.div_ceil(2);
    }
    println!("made smaller in {plays} plays, {:.0} s:", began.elapsed().as_secs_f64());
    show(&steps, &difference);
    pair
}

fn show(steps: &[Step], difference: &Difference) {
    let from = difference.step.saturating_sub(30);
    for (index, step) in steps.iter().enumerate().take(difference.step + 1).skip(from) {
        println!("  {index}: {}", words(step));
    }
    if let Some(Action::Calls(calls)) = steps.get(difference.step).map(|step| &step.action) {
        for call in calls.iter().filter(|call| call.body.len() <= 400) {
            println!("      {}: {}", call.label, call.body.escape_ascii());
        }
    }
    println!("  {} differ:", difference.what);
    let [first, second] = &difference.lines;
    for index in 0..first.len().max(second.len()) {
        match (first.get(index), second.get(index)) {
            (Some(a), Some(b)) if a == b => println!("    both  {a}"),
            (a, b) => {
                a.iter().for_each(|a| println!("    1st   {a}"));
                b.iter().for_each(|b| println!("    2nd   {b}"));
            }
        }
    }
}

fn words(step: &Step) -> String {
    let action = match &step.action {
        Action::Calls(calls) => calls.iter().map(|call| call.label.as_str()).collect::<Vec<_>>().join("; "),
        Action::BadFrame(bytes) | Action::Stranger(bytes) => format!("bytes {}", bytes.escape_ascii()),
        other => format!("{other:?}"),
    };
    format!("slot {}: {action}", step.slot)
}

fn options(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options {
        seeds: (1, 20),
        steps: 300,
        peers: [Kind::Apache, Kind::Ostler],
        given: None,
        verbose: false,
        shrink: true,
        keep_going: false,
        plant: false,
        settings: Vec::new(),
    };
    let mut given = [None, None];
    while let Some(flag) = args.next() {
        let mut value = || args.next().ok_or(format!("{flag} needs a value"));
        match flag.as_str() {
            "--seeds" => options.seeds = seeds(&value()?)?,
            "--steps" => options.steps = value()?.parse().map_err(|e| format!("--steps: {e}"))?,
            "--apache" => given[0] = Some(value()?.parse().map_err(|e| format!("--apache: {e}"))?),
            "--ostler" => given[1] = Some(value()?.parse().map_err(|e| format!("--ostler: {e}"))?),
            "--peers" => options.peers = peers(&value()?)?,
            "--verbose" => options.verbose = true,
            "--no-shrink" => options.shrink = false,
            "--keep-going" => options.keep_going = true,
            "--setting" => options.settings.push(value()?),
            "--plant" => options.plant = true,
            _ => return Err(format!("no such flag: {flag}")),
        }
    }
    options.given = match given {
        [Some(first), Some(second)] => Some([first, second]),
        [None, None] => None,
        _ => return Err("give both addresses or none".to_owned()),
    };
    Ok(options)
}

fn seeds(text: &str) -> Result<(u64, u64), String> {
    let (first, last) = text.split_once("..").unwrap_or((text, text));
    let number = |text: &str| text.parse::<u64>().map_err(|e| format!("--seeds {text}: {e}"));
    Ok((number(first)?, number(last)?))
}

fn peers(text: &str) -> Result<[Kind; 2], String> {
    let kind = |name: &str| match name {
        "apache" => Ok(Kind::Apache),
        "ostler" => Ok(Kind::Ostler),
        _ => Err(format!("--peers: no such server: {name}")),
    };
    let (first, second) = text.split_once(',').ok_or("--peers takes two, as in apache,ostler")?;
    Ok([kind(first)?, kind(second)?])
}
