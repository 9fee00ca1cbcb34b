//! `ostler ensemble`: an ensemble of servers on this machine in one command, for trying out what happens when its
//! members come and go. All it knows lies in its directory; servers outlive the command that started them.
//! Not here: the directory (`layout`), what servers say (`table`), how a server is started (`verbs`).

mod layout;
mod table;

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::{exit, verbs};
use layout::{Layout, SERVERS_MAX};
use table::{Life, Row};

/// How long `up` and `start` wait for the ensemble to serve, and for a process to end.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Between two pictures of `status --live`.
const REDRAW: Duration = Duration::from_millis(500);

const EXIT_CODES: &str = "Exit codes: 0 done; 1 not done; 2 the command line makes no sense.";

#[derive(clap::Args)]
#[command(after_help = EXIT_CODES)]
pub struct Options {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Make an ensemble and start it, or start again what is stopped of the one that is there.
    Up {
        /// Servers that vote: 3 go on without one of them, 5 without two. 3 when left out.
        #[arg(long, value_name = "N")]
        voters: Option<usize>,
        /// Servers that only follow and serve reads. None when left out.
        #[arg(long, value_name = "N")]
        observers: Option<usize>,
        /// Client ports from this one on; ports that are free when left out.
        #[arg(long, value_name = "PORT")]
        base_port: Option<u16>,
        #[command(flatten)]
        place: Place,
    },
    /// Show roles, zxids, lag and sessions of all servers.
    Status {
        /// Draw the table again and again, until an interrupt.
        #[arg(long)]
        live: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Kill a server (SIGKILL), as when its machine fails.
    Kill(One),
    /// Halt a server (SIGSTOP), as when its machine hangs; `start` lets it go on.
    Pause(One),
    /// Start a server that was killed, or let a paused one go on.
    Start(One),
    /// Stop all servers. Their data stays, and `up` starts them again.
    Down {
        /// Remove the directory with all data, too.
        #[arg(long)]
        remove: bool,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(clap::Args)]
struct Place {
    /// Directory of the ensemble; beside the data of a plain `ostler` when left out.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

#[derive(clap::Args)]
struct One {
    /// Number of the server, or `leader`.
    #[arg(value_name = "N | leader", value_parser = which)]
    which: Which,
    #[command(flatten)]
    place: Place,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Which {
    Number(usize),
    Leader,
}

fn which(word: &str) -> Result<Which, String> {
    match word {
        "leader" => Ok(Which::Leader),
        number => number.parse().map(Which::Number).map_err(|_| "want a server's number, or leader".into()),
    }
}

/// What went wrong, and the exit code for it.
struct Failure(i32, String);

impl From<String> for Failure {
    fn from(problem: String) -> Failure {
        Failure(exit::ERROR, problem)
    }
}

type Done = Result<(), Failure>;

pub fn run(options: Options) -> i32 {
    let done = match options.verb {
        Verb::Up { voters, observers, base_port, place } => up(&place.dir(), voters, observers, base_port),
        Verb::Status { live, place } => status(&place, live),
        Verb::Kill(one) => one.play(kill),
        Verb::Pause(one) => one.play(pause),
        Verb::Start(one) => one.play(start),
        Verb::Down { remove, place } => down(&place, remove),
    };
    match done {
        Ok(()) => exit::OK,
        Err(Failure(code, problem)) => {
            eprintln!("ostler ensemble: {problem}");
            code
        }
    }
}

impl Place {
    fn dir(&self) -> PathBuf {
        let dir = self.dir.clone().unwrap_or_else(Layout::default_dir);
        std::path::absolute(&dir).unwrap_or(dir)
    }

    /// The ensemble that must be there.
    fn layout(&self) -> Result<Layout, Failure> {
        let dir = self.dir();
        match Layout::find(&dir)? {
            Some(layout) => Ok(layout),
            None => Err(layout::at(&dir, "there is no ensemble; `ostler ensemble up` makes one").into()),
        }
    }

    /// As one types it behind other verbs.
    fn option(dir: &Path) -> String {
        if dir == Layout::default_dir() { String::new() } else { format!(" --dir {}", dir.display()) }
    }
}

impl One {
    fn play(self, verb: impl FnOnce(&Layout, usize) -> Done) -> Done {
        let layout = self.place.layout()?;
        let number = match self.which {
            Which::Number(number) if layout.numbers().contains(&number) => number,
            Which::Number(number) => {
                let problem = format!("there is no server {number}: it has 1 to {}", layout.count());
                return Err(Failure(exit::CONFIG, problem));
            }
            Which::Leader => {
                let rows = table::rows(&layout)?;
                table::leader(&rows).map(|row| row.number).ok_or_else(|| {
                    "no server leads at the moment; `ostler ensemble status` shows them".to_string()
                })?
            }
        };
        verb(&layout, number)
    }
}

fn up(dir: &Path, voters: Option<usize>, observers: Option<usize>, base_port: Option<u16>) -> Done {
    let (layout, is_new) = match Layout::find(dir)? {
        Some(layout) => {
            let differs = voters.is_some_and(|voters| voters != layout.voters)
                || observers.is_some_and(|observers| observers != layout.observers)
                || base_port.is_some();
            if differs {
                let problem = format!(
                    "there is an ensemble of {} already; `ostler ensemble up{option}` starts it as it is, `ostler ensemble \
                     down --remove{option}` removes it, --dir names another place",
                    layout.words(),
                    option = Place::option(dir)
                );
                return Err(layout::at(dir, problem).into());
            }
            (layout, false)
        }
        None => {
            let (voters, observers) = (voters.unwrap_or(3), observers.unwrap_or(0));
            if voters == 0 || voters > SERVERS_MAX || observers > SERVERS_MAX - voters {
                let problem = format!("an ensemble has 1 to {SERVERS_MAX} servers, and one of them votes");
                return Err(Failure(exit::CONFIG, problem));
            }
            if voters == 1 && observers > 0 {
                let problem = "one voter is a standalone server, which has no observers: give it --voters 3";
                return Err(Failure(exit::CONFIG, problem.into()));
            }
            (Layout::make(dir, voters, observers, base_port)?, true)
        }
    };
    let mut started = 0;
    for number in layout.numbers() {
        started += usize::from(start_one(&layout, number)?);
    }
    let rows = wait_serving(&layout, layout.count())?;
    let state = match (is_new, started) {
        (true, _) => "serve".to_string(),
        (false, 0) => "serve already".to_string(),
        (false, started) => format!("serve, {started} of them started now on the data they had"),
    };
    println!("{} {state}, all below {}:", layout.words(), dir.display());
    println!("{}", table::text(&rows));
    println!("{}", what_next(dir, &rows));
    Ok(())
}

/// The connect string, and what one may do with it.
fn what_next(dir: &Path, rows: &[Row]) -> String {
    let connect: Vec<String> = rows.iter().map(|row| format!("127.0.0.1:{}", row.client_port)).collect();
    let connect = connect.join(",");
    let option = Place::option(dir);
    format!(
        "Connect to {connect}\n\nTry:  ostler cli -server {connect}\n      ostler bench mixed --servers {connect}\n      \
         ostler ensemble status --live{option}    in another terminal\n      \
         ostler ensemble kill leader{option}      and `start N` to bring it back\n      \
         ostler ensemble down{option}"
    )
}

/// Starts server `number`, or lets it go on; false when it runs already.
fn start_one(layout: &Layout, number: usize) -> Result<bool, Failure> {
    let (place, config) = layout.load(number)?;
    let pid_file = place.pid_file(&config);
    match Life::of(verbs::running(&pid_file)) {
        Life::Running(_) => Ok(false),
        Life::Paused(pid) => signal(number, pid, Signal::CONT).map(|()| true),
        Life::Stopped => {
            verbs::launch(&place, &[], &config, &pid_file)
                .map_err(|problem| format!("server {number} did not start: {problem}"))?;
            Ok(true)
        }
    }
}

/// Waits until so many servers have a role.
fn wait_serving(layout: &Layout, count: usize) -> Result<Vec<Row>, Failure> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let rows = table::rows(layout)?;
        let serves = |row: &&Row| row.facts.as_ref().is_some_and(|facts| facts.mode.is_some());
        if rows.iter().filter(serves).count() >= count {
            return Ok(rows);
        }
        let gone: Vec<&Row> = rows.iter().filter(|row| row.life == Life::Stopped).collect();
        if let Some(row) = gone.first()
            && rows.len() - gone.len() < count
        {
            return Err(format!("server {} has ended; see {}", row.number, log(layout, row.number)?).into());
        }
        if Instant::now() > deadline {
            let problem = format!("not all servers serve within {PATIENCE:?}:\n{}", table::text(&rows));
            return Err(problem.into());
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// Where a server logs.
fn log(layout: &Layout, number: usize) -> Result<String, Failure> {
    let (place, config) = layout.load(number)?;
    Ok(place.log_file(&config).display().to_string())
}

fn status(place: &Place, live: bool) -> Done {
    let layout = place.layout()?;
    if !live {
        print!("{}", table::text(&table::rows(&layout)?));
        return Ok(());
    }
    let begin = Instant::now();
    loop {
        let table = table::text(&table::rows(&layout)?);
        let mut out = io::stdout().lock();
        let shown = if out.is_terminal() {
            // Over the picture before; what is left of it below is wiped.
            write!(
                out,
                "\x1b[H\x1b[J{} in {}, {} s; Ctrl-C ends\n\n{table}",
                layout.words(),
                layout.dir.display(),
                begin.elapsed().as_secs()
            )
        } else {
            writeln!(out, "{table}")
        };
        // Whoever read it has gone.
        if shown.and_then(|()| out.flush()).is_err() {
            return Ok(());
        }
        drop(out);
        std::thread::sleep(REDRAW);
    }
}

/// The process of a server that must run.
fn process(layout: &Layout, number: usize) -> Result<Life, Failure> {
    let (place, config) = layout.load(number)?;
    match Life::of(verbs::running(&place.pid_file(&config))) {
        Life::Stopped => {
            let option = Place::option(&layout.dir);
            Err(format!("server {number} does not run; `ostler ensemble start {number}{option}` starts it")
                .into())
        }
        life => Ok(life),
    }
}

fn signal(number: usize, pid: Pid, signal: Signal) -> Done {
    let broken = |error| format!("cannot signal server {number}, process {}: {error}", pid.as_raw_nonzero());
    Ok(kill_process(pid, signal).map_err(broken)?)
}

fn kill(layout: &Layout, number: usize) -> Done {
    if let Life::Running(pid) | Life::Paused(pid) = process(layout, number)? {
        signal(number, pid, Signal::KILL)?;
        verbs::wait_for_end(pid, PATIENCE)?;
        println!(
            "Server {number} is killed; `ostler ensemble start {number}{}` brings it back",
            Place::option(&layout.dir)
        );
    }
    Ok(())
}

fn pause(layout: &Layout, number: usize) -> Done {
    let option = Place::option(&layout.dir);
    match process(layout, number)? {
        Life::Running(pid) => {
            signal(number, pid, Signal::STOP)?;
            println!("Server {number} is paused; `ostler ensemble start {number}{option}` lets it go on");
            Ok(())
        }
        _ => Err(format!(
            "server {number} is paused already; `ostler ensemble start {number}{option}` lets it go on"
        )
        .into()),
    }
}

fn start(layout: &Layout, number: usize) -> Done {
    if !start_one(layout, number)? {
        return Err(format!("server {number} runs already").into());
    }
    println!(
        "Server {number} runs; `ostler ensemble status{}` shows when it serves",
        Place::option(&layout.dir)
    );
    Ok(())
}

fn down(place: &Place, remove: bool) -> Done {
    let layout = place.layout()?;
    let mut ended = 0;
    // All are asked before any is waited for: who is left alone meanwhile only looks for a leader.
    let mut asked = Vec::new();
    for number in layout.numbers() {
        let (place, config) = layout.load(number)?;
        match Life::of(verbs::running(&place.pid_file(&config))) {
            Life::Running(pid) => signal(number, pid, Signal::TERM)?,
            // It cannot hear.
            Life::Paused(pid) => signal(number, pid, Signal::KILL)?,
            Life::Stopped => continue,
        }
        asked.push((number, place, config));
    }
    for (number, place, config) in asked {
        let pid_file = place.pid_file(&config);
        if let Some(pid) = verbs::running(&pid_file) {
            let patience = PATIENCE + Duration::from_millis(config.shutdown_ms_max);
            verbs::wait_for_end(pid, patience).map_err(|problem| format!("server {number}: {problem}"))?;
        }
        let _ = std::fs::remove_file(&pid_file);
        ended += 1;
    }
    let dir = layout.dir.display().to_string();
    if remove {
        layout.remove()?;
        println!("{ended} servers stopped; {dir} is removed");
    } else {
        let option = Place::option(&layout.dir);
        println!(
            "{ended} servers stopped; their data stays in {dir}: `ostler ensemble up{option}` starts them again"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_have_numbers_and_the_leader_a_name() {
        assert_eq!(which("3"), Ok(Which::Number(3)));
        assert_eq!(which("leader"), Ok(Which::Leader));
        which("all").expect_err("no such server");
        which("-1").expect_err("no such number");
    }
}
