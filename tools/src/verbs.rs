//! The verbs of zkServer.sh: start, start-foreground, stop, restart, status, version, print-cmd, with its words on
//! standard output, its pid file and its exit codes. What scripts do not read goes to standard error.
//! Not here: running a server (`server`), finding files (`place`).

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use ostler_engine::config::{Config, Listener};
use ostler_engine::version as upstream;

use crate::place::Place;
use crate::{exit, logging, server, words};

/// How long `start` waits for the server to serve, and `stop` for its end beyond the time it has to drain.
const START_PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks at a process or a port.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

pub fn start(place: &Place, words: &[String]) -> i32 {
    let Some(config) = announce(place, words) else { return exit::CONFIG };
    print!("Starting zookeeper ... ");
    let pid_file = place.pid_file(&config);
    wait_for_ending(&pid_file);
    if let Some(pid) = running(&pid_file) {
        println!("already running as process {}.", pid.as_raw_nonzero());
        return exit::ERROR;
    }
    match launch(place, words, &config, &pid_file) {
        Ok(log) => {
            println!("STARTED");
            eprintln!("Its log is {}", log.display());
            exit::OK
        }
        Err(reason) => {
            println!("FAILED TO START");
            eprintln!("{reason}");
            exit::ERROR
        }
    }
}

pub fn start_foreground(place: &Place, words: &[String]) -> i32 {
    if announce(place, words).is_none() {
        return exit::CONFIG;
    }
    server::run(&place.server_arguments(words), &place.environment)
}

pub fn stop(place: &Place, words: &[String]) -> i32 {
    let Some(config) = announce(place, words) else { return exit::CONFIG };
    print!("Stopping zookeeper ... ");
    let pid_file = place.pid_file(&config);
    if !pid_file.exists() {
        println!("no zookeeper to stop (could not find file {})", pid_file.display());
        return exit::OK;
    }
    // The server drains for as long as it is configured to, then it must be gone.
    let patience = Duration::from_millis(config.shutdown_ms_max) + START_PATIENCE;
    if let Some(pid) = running(&pid_file)
        && let Err(reason) = end(pid, patience)
    {
        println!("FAILED TO STOP");
        eprintln!("{reason}");
        return exit::ERROR;
    }
    let _ = fs::remove_file(&pid_file);
    println!("STOPPED");
    exit::OK
}

pub fn restart(place: &Place, words: &[String]) -> i32 {
    match stop(place, words) {
        exit::OK => start(place, words),
        code => code,
    }
}

pub fn status(place: &Place, words: &[String]) -> i32 {
    let Some(config) = announce(place, words) else { return exit::CONFIG };
    let Some((host, port)) = config.client.as_ref().map(reach) else {
        eprintln!("Client port not found in the configuration. Terminating.");
        return exit::ERROR;
    };
    println!("Client port found: {port}. Client address: {host}. Client SSL: false.");
    let answer = words::ask(&host, port, b"srvr").unwrap_or_default();
    let answer = String::from_utf8_lossy(&answer);
    match answer.lines().find(|line| line.starts_with("Mode: ")) {
        Some(mode) => {
            println!("{mode}");
            exit::OK
        }
        None => {
            println!("Error contacting service. It is probably not running.");
            if let Some(reason) = without_mode(&answer) {
                eprintln!("{reason}");
            }
            exit::ERROR
        }
    }
}

/// What an answer to `srvr` without a mode means, if there was one.
fn without_mode(answer: &str) -> Option<&'static str> {
    let not_serving = answer.contains("not currently serving requests");
    not_serving.then_some(
        "It runs, and serves no clients at the moment: it looks for a leader or comes into sync with one, or it leads and \
         leaderServes=no keeps clients away from the leader",
    )
}

pub fn version() -> i32 {
    let (_, built) = upstream::FULL.split_once(", built on ").unwrap_or_default();
    println!("Apache ZooKeeper, version {} {built}", upstream::COMPATIBLE);
    eprintln!("This is Ostler {}, compatible with that version", env!("CARGO_PKG_VERSION"));
    exit::OK
}

pub fn print_command(place: &Place, words: &[String]) -> i32 {
    let Some(config) = announce(place, words) else { return exit::CONFIG };
    let quoted: Vec<String> =
        place.server_arguments(words).iter().map(|word| format!("\"{word}\"")).collect();
    let program = std::env::current_exe().unwrap_or_else(|_| "ostler".into());
    let log = place.log_file(&config);
    println!(
        "\"{}\" server {} > \"{}\" 2>&1 < /dev/null",
        program.display(),
        quoted.join(" "),
        log.display()
    );
    exit::OK
}

/// The line every verb begins with, and the configuration; `None` after saying what is wrong with it.
fn announce(place: &Place, words: &[String]) -> Option<Config> {
    let name = words.iter().find(|word| !word.starts_with("-D")).map(String::as_str);
    match place.config_file(name) {
        Some(file) => eprintln!("Using config: {}", file.display()),
        None => eprintln!("Using config: none found, embedded defaults"),
    }
    match place.load(words) {
        Ok(loaded) => Some(loaded.config),
        Err(error) => {
            eprintln!("ostler: {error}");
            None
        }
    }
}

/// Behind a kill -9 the old process may take a while to give its memory back; it is no server any more.
fn wait_for_ending(pid_file: &Path) {
    let deadline = Instant::now() + START_PATIENCE;
    while Instant::now() < deadline && running(pid_file).is_some_and(is_ending) {
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// Killed, and not gone yet.
fn is_ending(pid: Pid) -> bool {
    /// Of the flags in a process's `stat`: it is exiting.
    const EXITING: u32 = 4;
    const KILL: u64 = 1 << (9 - 1);
    let read =
        |name: &str| fs::read_to_string(format!("/proc/{}/{name}", pid.as_raw_nonzero())).unwrap_or_default();
    let stat = read("stat");
    // State, parent, group, session, terminal and its group stand between the name and the flags.
    let flags = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(6)?.parse::<u32>().ok());
    let status = read("status");
    let is_killed = status.lines().any(|line| {
        let pending = line.strip_prefix("ShdPnd:").or(line.strip_prefix("SigPnd:"));
        pending.is_some_and(|bits| u64::from_str_radix(bits.trim(), 16).is_ok_and(|bits| bits & KILL != 0))
    });
    is_killed || flags.is_some_and(|flags| flags & EXITING != 0)
}

/// The process named by a pid file, if it lives and is one of ours: pids are used again.
pub(crate) fn running(pid_file: &Path) -> Option<Pid> {
    let pid = Pid::from_raw(fs::read_to_string(pid_file).ok()?.trim().parse().ok()?)?;
    test_kill_process(pid).ok()?;
    if state(pid) == Some('Z') {
        return None;
    }
    let program = fs::read_link(format!("/proc/{}/exe", pid.as_raw_nonzero())).ok();
    let ours = std::env::current_exe().ok();
    let name = |path: &Option<PathBuf>| {
        path.as_ref().and_then(|p| Some(p.file_name()?.to_string_lossy().into_owned()))
    };
    // A replaced binary is reported as `ostler (deleted)`.
    let same = match (name(&program), name(&ours)) {
        (Some(program), Some(ours)) => program.starts_with(&ours),
        // Not ours to look into, then believe the file.
        _ => true,
    };
    same.then_some(pid)
}

/// Starts the server in the background and waits until it listens. Returns where it logs.
pub(crate) fn launch(
    place: &Place,
    words: &[String],
    config: &Config,
    pid_file: &Path,
) -> Result<PathBuf, String> {
    let log = place.log_file(config);
    let at = |path: &Path, error: io::Error| format!("{}: {error}", path.display());
    for directory in [log.parent(), pid_file.parent()].into_iter().flatten() {
        fs::create_dir_all(directory).map_err(|error| at(directory, error))?;
    }
    let out = OpenOptions::new().create(true).append(true).open(&log).map_err(|error| at(&log, error))?;
    let errors = out.try_clone().map_err(|error| at(&log, error))?;
    let program = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    let (ours, theirs) =
        UnixStream::pair().map_err(|error| format!("cannot make a pair of sockets: {error}"))?;
    let mut command = Command::new(program);
    command.arg("server").args(place.server_arguments(words));
    // By its name, so that SIGHUP can open it again; standard output is for what is no line of the log.
    command
        .envs(place.variables())
        .env(logging::FILE, &log)
        .env(server::READY, "stdin")
        .stdin(Stdio::from(OwnedFd::from(theirs)));
    command.stdout(out).stderr(errors);
    // A group of its own: an interrupt typed into this terminal is not for it.
    let child = std::os::unix::process::CommandExt::process_group(&mut command, 0).spawn();
    let child = child.map_err(|error| format!("cannot start the server: {error}"))?;
    fs::write(pid_file, child.id().to_string()).map_err(|error| at(pid_file, error))?;
    drop(command); // ... and with it our copy of the server's end
    wait_until_ready(child, ours).map(|()| log.clone()).map_err(|reason| {
        let _ = fs::remove_file(pid_file);
        format!("{reason}; see {}", log.display())
    })
}

/// Waits for the byte by which the server says that it serves, or for its end.
fn wait_until_ready(mut child: Child, mut ready: UnixStream) -> Result<(), String> {
    let broken = |error: io::Error| format!("cannot wait for the server: {error}");
    ready.set_read_timeout(Some(START_PATIENCE)).map_err(broken)?;
    match ready.read(&mut [0]) {
        Ok(0) => match child.wait() {
            Ok(status) => Err(format!("the server ended with {status}")),
            Err(error) => Err(broken(error)),
        },
        Ok(_) => Ok(()),
        // A server that still recovers has started, too.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        Err(error) => Err(broken(error)),
    }
}

/// Asks a process to end and waits until it has.
fn end(pid: Pid, patience: Duration) -> Result<(), String> {
    kill_process(pid, Signal::TERM).map_err(|error| format!("cannot signal process {pid:?}: {error}"))?;
    wait_for_end(pid, patience)
}

/// Waits until a process that was asked to end has ended.
pub(crate) fn wait_for_end(pid: Pid, patience: Duration) -> Result<(), String> {
    let deadline = Instant::now() + patience;
    // A zombie has ended, and is only not yet reaped by whoever started it.
    while test_kill_process(pid).is_ok() && state(pid) != Some('Z') {
        if Instant::now() >= deadline {
            return Err(format!("process {} still runs after {patience:?}", pid.as_raw_nonzero()));
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    Ok(())
}

/// The kernel's letter for what a process does: T is stopped, Z ended; `None` when there is no such process.
pub(crate) fn state(pid: Pid) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    stat.rsplit(')').next()?.trim_start().chars().next()
}

/// Host and port at which the listener answers from this machine.
fn reach(listener: &Listener) -> (String, u16) {
    let host = match listener.address {
        Some(address) if !address.is_unspecified() => address.to_string(),
        _ => "localhost".to_owned(),
    };
    (host, listener.port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ostler_engine::admin::words::NOT_SERVING;

    #[test]
    fn a_server_that_looks_for_a_leader_is_not_called_dead() {
        assert!(without_mode(NOT_SERVING).is_some());
        assert_eq!(without_mode(""), None);
        assert_eq!(without_mode("srvr is not executed because it is not in the whitelist.\n"), None);
    }
}
