//! Runs a server in this process until a signal ends it, and says in the log what matters.
//! Not here: what a server does (`ostler_engine`), background processes (`verbs`).

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use ostler_engine::config::{self, Config, Environment, Loaded, Setting, Severity};
use ostler_engine::server::{Server, StartError};
use ostler_engine::version;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;

use crate::logging::Log;
use crate::{check, exit, logging};

/// `words`: as behind `ostler server`. Returns the process's exit code.
pub fn run(words: &[String], environment: &Environment) -> i32 {
    let loaded = match config::load(words, environment) {
        Ok(loaded) => loaded,
        Err(error) => {
            eprintln!("ostler: {error}");
            return exit::CONFIG;
        }
    };
    let level = loaded.config.log_level.as_deref();
    let log = match logging::start(loaded.config.myid.map(|id| id.0), environment, level) {
        Ok(log) => log,
        Err(reason) => {
            eprintln!("ostler: {reason}");
            return exit::CONFIG;
        }
    };
    end_on_panic();
    announce(&loaded);
    let Loaded { config, settings, .. } = loaded;
    serve(config, environment, &mut Renewal { log, words, environment, settings })
}

/// What SIGHUP makes anew.
struct Renewal<'a> {
    log: Log,
    words: &'a [String],
    environment: &'a Environment,
    /// Those of the start.
    settings: Vec<Setting>,
}

impl Renewal<'_> {
    fn renew(&mut self) {
        let loaded = match config::load(self.words, self.environment) {
            Ok(loaded) => loaded,
            Err(error) => {
                let done = self.log.renew(None);
                return tracing::warn!("SIGHUP: {done}; the configuration cannot be read: {error}");
            }
        };
        let done = self.log.renew(loaded.config.log_level.as_deref());
        let changed = changed(&self.settings, &loaded.settings);
        match changed.is_empty() {
            true => tracing::info!("SIGHUP: {done}"),
            false => tracing::warn!(
                "SIGHUP: {done}; changed in the configuration, and taken at the next start: {}",
                changed.join(", ")
            ),
        }
    }
}

/// Keys that are set otherwise than they were, but for what is taken at once.
fn changed(before: &[Setting], now: &[Setting]) -> Vec<String> {
    let is_in = |list: &[Setting], wanted: &Setting| {
        list.iter().any(|setting| setting.spelling == wanted.spelling && setting.value == wanted.value)
    };
    let gone = before.iter().filter(|setting| !is_in(now, setting));
    let come = now.iter().filter(|setting| !is_in(before, setting));
    let mut keys: Vec<String> = gone.chain(come).map(|setting| setting.spelling.clone()).collect();
    keys.retain(|key| !key.ends_with("ostler.logLevel"));
    keys.sort();
    keys.dedup();
    keys
}

/// A thread that met a bug of ours leaves the others waiting for it for ever; clients are better off with another
/// server, and an operator with a process that ended and said why.
fn end_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        report(info);
        tracing::error!("a bug ends this server; what was acknowledged is on disk: {info}");
        std::process::exit(exit::ERROR);
    }));
}

/// First of all where the data is and what the server will do, then what the operator should know.
fn announce(loaded: &Loaded) {
    tracing::info!("{}", first_line(&loaded.config));
    for notice in &loaded.notices {
        match notice.severity {
            Severity::Info => tracing::info!("{}", notice.text),
            Severity::Warning => tracing::warn!("{}", notice.text),
            Severity::Danger => tracing::warn!("WEAKER THAN USUAL: {}", notice.text),
        }
    }
}

fn first_line(config: &Config) -> String {
    let listen = config.client.map_or("nowhere".to_owned(), |client| match client.address {
        Some(_) => client.socket_address().to_string(),
        None => format!("*:{}", client.port),
    });
    let logs = match config.data_log_dir == config.data_dir {
        true => String::new(),
        false => format!(", txn logs in {}", config.data_log_dir.display()),
    };
    let purge = match config.purge_every_ms {
        Some(every) => format!("purge every {} h keeping {}", every / 3_600_000, config.purge_keep),
        None => "no purge".to_owned(),
    };
    let role = config
        .ensemble
        .as_ref()
        .map_or("standalone".to_owned(), |ensemble| format!("as {}", check::place_in(ensemble)));
    format!(
        "Ostler {} (ZooKeeper {}) starts {role} with its data in {}{logs}; configuration {}; clients on {listen}; \
         tickTime {} ms, sessions {} to {} ms; requests up to {} bytes; {} connections per address; writes acknowledged \
         {}; snapshot after {} txns, {purge}; four-letter words: {}",
        env!("CARGO_PKG_VERSION"),
        version::COMPATIBLE,
        config.data_dir.display(),
        config.file.as_ref().map_or("built in".to_owned(), |file| file.display().to_string()),
        config.tick_ms,
        config.session_timeout_ms_least,
        config.session_timeout_ms_most,
        config.frame_bytes_max,
        if config.address_connections_max == 0 {
            "unlimited".to_owned()
        } else {
            config.address_connections_max.to_string()
        },
        if config.sync_before_ack { "when on disk" } else { "BEFORE they are on disk" },
        config.snap_txns,
        check::words(config),
    )
}

/// Serves until SIGTERM or SIGINT, then drains. A second one ends the process without draining.
fn serve(config: Config, environment: &Environment, renewal: &mut Renewal<'_>) -> i32 {
    // Caught before the server starts, so that none falls between. None of them may end it without a line.
    let mut signals = match Signals::new([SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2]) {
        Ok(signals) => signals,
        Err(error) => {
            tracing::error!("cannot catch signals: {error}");
            return exit::ERROR;
        }
    };
    let server = match Server::start(config) {
        Ok(server) => server,
        Err(error) => {
            tracing::error!("{error}");
            let code = code(&error);
            tracing::info!("not started; the process ends with exit code {code}");
            return code;
        }
    };
    tracing::info!("serving clients on {}", server.local_addr());
    tell_starter(environment);
    for signal in signals.forever() {
        match signal {
            SIGTERM | SIGINT => {
                tracing::info!("{}: handing out what is due, then stopping", name(signal));
                break;
            }
            SIGHUP => renewal.renew(),
            SIGQUIT => {
                tracing::warn!("SIGQUIT: there is no Java runtime here that would print its threads; ignored")
            }
            other => tracing::warn!("{}: ignored", name(other)),
        }
    }
    let handle = signals.handle();
    let impatient = std::thread::spawn(move || {
        if let Some(signal) = signals.forever().find(|signal| matches!(*signal, SIGTERM | SIGINT)) {
            tracing::warn!("{} again: ending at once; what was acknowledged is on disk", name(signal));
            std::process::exit(exit::ERROR);
        }
    });
    server.stop();
    handle.close();
    let _ = impatient.join();
    tracing::info!("stopped");
    exit::OK
}

fn name(signal: i32) -> &'static str {
    signal_hook::low_level::signal_name(signal).unwrap_or("a signal")
}

/// Set to `stdin` by whoever wants one byte on the socket it gave us there as soon as clients are served.
pub const READY: &str = "OSTLER_READY";

fn tell_starter(environment: &Environment) {
    if environment.get(READY) == Some("stdin")
        && let Ok(socket) = std::io::stdin().as_fd().try_clone_to_owned()
        && let Err(error) = UnixStream::from(socket).write_all(b"1")
    {
        tracing::debug!("nobody waits for our start: {error}");
    }
}

/// The exit code for a server that did not start.
fn code(error: &StartError) -> i32 {
    match error {
        StartError::Directory(_) => exit::DATA_DIR,
        StartError::NoListener => exit::CONFIG,
        _ => exit::ERROR,
    }
}
