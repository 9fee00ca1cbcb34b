//! The commands that measure ensembles: from arguments to what is run, and where its result goes.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use super::{end_of_line, this_binary};
use crate::args::{EnsembleArgs, FailoverArgs, KindArgs, ObserversArgs, PageArgs, resolve};
use crate::failover::{self, Failover, Foreign};
use crate::observers::{self, Observers};
use crate::scale::{self, Scale};
use crate::server::ServerKind;

/// What Apache is called where one connection factory is enough.
const APACHE: &str = "apache";

/// On a terminal one live line; elsewhere a line each time that something else is said.
fn teller() -> impl FnMut(String) {
    let live = io::stderr().is_terminal();
    let mut last = String::new();
    move |text| {
        if live {
            eprint!("\r\x1b[K{text}");
            let _ = io::stderr().flush();
            return;
        }
        // What only counts on is the same to a log.
        let bare: String = text.chars().filter(|c| !c.is_ascii_digit()).collect();
        if bare != last {
            eprintln!("{text}");
            last = bare;
        }
    }
}

impl KindArgs {
    fn ostler(&self) -> io::Result<ServerKind> {
        match &self.ostler {
            Some(binary) => Ok(ServerKind::ostler(binary)),
            None => Ok(ServerKind::ostler(&this_binary()?)),
        }
    }

    /// Apache for ensembles, if it can be had; says so when it cannot. `heap_gib`: of each server, at most.
    fn apache(&self, heap_gib: u32) -> Option<ServerKind> {
        if self.no_apache {
            return None;
        }
        let Some(classpath) = &self.apache_classpath else {
            eprintln!(
                "no --apache-classpath: Apache is left out (tests/setup fetches it and says where it lies)"
            );
            return None;
        };
        Some(ServerKind::apache(classpath, "NIOServerCnxnFactory", APACHE, heap_gib))
    }

    /// Runs `work` in the directory that was named, or in a temporary one, which stays only when the work fails: its
    /// logs may say why.
    fn in_directory<T>(&self, work: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
        if let Some(dir) = &self.dir {
            return work(dir);
        }
        let dir = std::env::temp_dir().join(format!("ostler-bench-{}", std::process::id()));
        let result = work(&dir);
        if result.is_ok() && dir.exists() {
            std::fs::remove_dir_all(&dir)?;
        }
        result
    }
}

fn write_out(
    out: &PageArgs,
    result: &impl serde::Serialize,
    html: impl FnOnce() -> String,
) -> io::Result<()> {
    if let Some(path) = &out.json {
        std::fs::write(path, serde_json::to_string(result)?)?;
    }
    if let Some(path) = &out.html {
        std::fs::write(path, html())?;
    }
    Ok(())
}

pub fn run_failover(args: &FailoverArgs) -> io::Result<bool> {
    if args.writers == 0 || args.voters == 0 || args.kills == 0 {
        return Err(io::Error::other("--writers, --voters and --kills are at least 1"));
    }
    let survivors = if args.connect.is_empty() { args.voters } else { args.connect.len() };
    if survivors < 3 {
        let text = format!(
            "{survivors} voters lose their quorum with one of them: nothing fails over; want 3 or more"
        );
        return Err(io::Error::other(text));
    }
    let foreign = match &args.kill_command {
        Some(kill) => {
            let addresses = args.connect.iter().map(|server| resolve(server)).collect::<Result<Vec<_>, _>>();
            let addresses = addresses.map_err(|e| io::Error::other(format!("--connect {e}")))?;
            let foreign = Foreign { addresses, kill: kill.clone(), start: args.start_command.clone() };
            Some((foreign, args.kills))
        }
        None => None,
    };
    let mut kinds = Vec::new();
    if foreign.is_none() {
        kinds.push((args.kinds.ostler()?, args.kills));
        let znodes = args.znodes.iter().max().copied().unwrap_or(0);
        let heap_gib = u32::try_from(znodes / 500_000).unwrap_or(u32::MAX).clamp(2, 16);
        kinds.extend(args.kinds.apache(heap_gib).map(|kind| (kind, args.apache_kills)));
    }
    let mut tell = teller();
    let result = args.kinds.in_directory(|dir| {
        let failover = Failover {
            kinds,
            foreign,
            voters: args.voters,
            observers: args.observers,
            hows: args.hows.clone(),
            znodes: args.znodes.clone(),
            writers: args.writers,
            readers: args.readers,
            rate: (args.rate > 0.0).then_some(args.rate),
            session_timeout_ms: args.session_timeout,
            dir: dir.to_path_buf(),
        };
        failover::run(&failover, &mut tell)
    });
    end_of_line();
    let result = result?;
    print!("{}", failover::report::terminal(&result));
    write_out(&args.out, &result, || failover::report::html(&result))?;
    Ok(result.series.iter().all(|series| !series.is_wrong()))
}

pub fn run_scale(args: &EnsembleArgs) -> io::Result<bool> {
    if args.voters.contains(&0)
        || args.rounds == 0
        || args.connections == 0
        || args.depth == 0
        || args.keys == 0
    {
        let text = "--voters, --rounds, --connections, --depth and --keys are at least 1";
        return Err(io::Error::other(text));
    }
    let mut kinds = vec![args.kinds.ostler()?];
    kinds.extend(args.kinds.apache(1));
    let mut tell = teller();
    let result = args.kinds.in_directory(|dir| {
        let scale = Scale {
            kinds,
            voters: args.voters.clone(),
            rounds: args.rounds,
            duration: Duration::from_secs_f64(args.duration.max(0.05)),
            warmup: Duration::from_secs_f64(args.warmup.max(0.0)),
            connections: args.connections,
            depth: args.depth,
            keys: args.keys,
            dir: dir.to_path_buf(),
        };
        scale::run(&scale, &mut tell)
    });
    end_of_line();
    let result = result?;
    print!("{}", scale::terminal(&result));
    write_out(&args.out, &result, || scale::html(&result))?;
    Ok(true)
}

pub fn run_observers(args: &ObserversArgs) -> io::Result<bool> {
    if args.voters < 2 || args.readers == 0 || args.depth == 0 || args.keys == 0 || args.rate <= 0.0 {
        let text = "--readers, --depth, --keys and --rate are more than 0; observers want 2 --voters or more";
        return Err(io::Error::other(text));
    }
    let mut counts = args.observers.clone();
    counts.sort_unstable();
    counts.dedup();
    let mut kinds = vec![args.kinds.ostler()?];
    kinds.extend(args.kinds.apache(1));
    let mut tell = teller();
    let result = args.kinds.in_directory(|dir| {
        let observers = Observers {
            kinds,
            voters: args.voters,
            counts,
            rate: args.rate,
            duration: Duration::from_secs_f64(args.duration.max(0.05)),
            warmup: Duration::from_secs_f64(args.warmup.max(0.0)),
            readers: args.readers,
            depth: args.depth,
            keys: args.keys,
            dir: dir.to_path_buf(),
        };
        observers::run(&observers, &mut tell)
    });
    end_of_line();
    let result = result?;
    print!("{}", observers::report::terminal(&result));
    write_out(&args.out, &result, || observers::report::html(&result))?;
    Ok(true)
}
