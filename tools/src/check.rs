//! `ostler check`: says in plain words what a configuration means here, key by key, and starts nothing.

use std::io;
use std::path::{Path, PathBuf};

use ostler_engine::config::{self, Config, EnsembleConfig, Environment, Fate, Loaded, Setting, Severity};

use rustix::fs::{Access, access};

use crate::place::Place;
use crate::{Settings, exit, logging};

pub const EXIT_CODES: &str = "\
Exit codes: 0 valid; 1 valid, with warnings, and --strict was given; 2 not valid; 3 a data directory cannot be used.";

#[derive(clap::Args)]
pub struct Options {
    /// End with 1 when there are warnings.
    #[arg(long)]
    strict: bool,
    /// Directory of zoo.cfg; then FILE is searched there, as start does.
    #[arg(long, value_name = "DIR")]
    config: Option<PathBuf>,
    /// What `server` would be given: a zoo.cfg; or client port, data directory, tickTime and connections per address.
    #[arg(value_name = "FILE | PORT DIR [TICK] [MAX-PER-ADDRESS]", num_args = 0..=4)]
    words: Vec<String>,
    #[command(flatten)]
    settings: Settings,
}

/// `before`: the directory of a `--config` before the verb.
pub fn run(before: Option<PathBuf>, options: &Options) -> i32 {
    let words = options.settings.behind(&options.words);
    let loaded = match options.config.clone().or(before) {
        Some(directory) => Place::new(Some(&directory)).load(&words),
        None => config::load(&words, &Environment::of_process()),
    };
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(error) => {
            println!("Not valid: {error}");
            return exit::CONFIG;
        }
    };
    if let Some(level) = &loaded.config.log_level
        && let Err(reason) = logging::filter(level)
    {
        println!("Not valid: ostler.logLevel: {reason}");
        return exit::CONFIG;
    }
    print!("{}", report(&loaded));
    if let Err(problem) = directories(&loaded.config) {
        println!("Not valid: {problem}");
        return exit::DATA_DIR;
    }
    println!("Valid.");
    let warned = loaded.notices.iter().any(|notice| notice.severity >= Severity::Warning);
    if options.strict && warned { exit::ERROR } else { exit::OK }
}

/// Whether a server could make and use its directories, without making them.
fn directories(config: &Config) -> Result<(), String> {
    for (key, directory) in [("dataDir", &config.data_dir), ("dataLogDir", &config.data_log_dir)] {
        let version = directory.join("version-2");
        // The nearest that is there: what is missing below it would be made.
        let there = version.ancestors().find(|path| path.symlink_metadata().is_ok());
        let there = there.filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let problem = if !there.is_dir() {
            format!("{} is no directory", there.display())
        } else if let Err(error) = access(there, Access::WRITE_OK | Access::EXEC_OK) {
            format!("{} cannot be written: {}", there.display(), io::Error::from(error))
        } else if there == version {
            continue;
        } else if !config.data_dir_create {
            format!(
                "{} is missing, and zookeeper.datadir.autocreate=false forbids to make it",
                version.display()
            )
        } else if let Err(error) = can_make_in(there) {
            format!("nothing can be made in {}: {error}", there.display())
        } else {
            continue;
        };
        return Err(format!("{key}={}: {problem}", directory.display()));
    }
    Ok(())
}

/// Tried, with a name that nobody wants: permissions do not tell of /proc and the like, nor of quotas.
fn can_make_in(directory: &Path) -> io::Result<()> {
    let probe = directory.join(format!(".ostler-check-{}", std::process::id()));
    std::fs::create_dir(&probe)?;
    std::fs::remove_dir(&probe)
}

fn report(loaded: &Loaded) -> String {
    let mut text = String::new();
    let mut paragraph = |title: &str, lines: Vec<String>| {
        if !lines.is_empty() {
            text.push_str(&format!("{title}\n"));
            lines.iter().for_each(|line| text.push_str(&format!("  {line}\n")));
            text.push('\n');
        }
    };
    let alone = loaded.config.ensemble.is_none();
    paragraph("Settings:", loaded.settings.iter().map(|setting| explain(setting, alone)).collect());
    for (severity, title) in [
        (Severity::Danger, "Weaker than usual:"),
        (Severity::Warning, "Warnings:"),
        (Severity::Info, "Notes:"),
    ] {
        let of_this = loaded.notices.iter().filter(|notice| notice.severity == severity);
        paragraph(title, of_this.map(|notice| notice.text.clone()).collect());
    }
    paragraph("The server would:", summary(&loaded.config));
    text
}

/// One setting: where, what, and what it does to a server that runs alone, or in an ensemble.
fn explain(setting: &Setting, alone: bool) -> String {
    let head = format!("{}: {}={}", setting.origin, setting.spelling, setting.value);
    let Some(key) = setting.key else {
        let meaning = match setting.spelling.starts_with("server.") {
            true if alone => "nothing but where clients connect to a server that runs alone",
            true => "a member of the ensemble",
            false => "see the warnings",
        };
        return format!("{head} - {meaning}");
    };
    if !setting.is_taken {
        return format!("{head} - no effect here: see the warnings");
    }
    match key.fate {
        Fate::Honoured => format!("{head} - {} (default: {})", key.meaning, key.default),
        Fate::Ensemble | Fate::EnsembleLater(_) | Fate::EnsembleRefused(_) if alone => {
            format!("{head} - {}; nothing to a server that runs alone", key.meaning)
        }
        Fate::Ensemble => format!("{head} - {} (default: {})", key.meaning, key.default),
        Fate::EnsembleLater(instead) => {
            format!("{head} - {}; not served yet: {instead}", key.meaning)
        }
        Fate::EnsembleRefused(_) => format!("{head} - {}; only as it is by default", key.meaning),
        Fate::Later(reason) => format!("{head} - {}; no effect: {reason}", key.meaning),
        Fate::Ignored(reason) => format!("{head} - no effect: {reason}"),
    }
}

/// What is decided, whoever decided it.
fn summary(config: &Config) -> Vec<String> {
    let limit =
        |number: u32| if number == 0 { "any number of".to_owned() } else { format!("at most {number}") };
    let mut lines = Vec::new();
    if let Some(ensemble) = &config.ensemble {
        lines.extend(in_ensemble(ensemble, config.tick_ms));
    }
    if let Some(client) = config.client {
        let host = client.address.map_or("all interfaces".to_owned(), |address| address.to_string());
        lines.push(format!("listen for clients on port {} of {host}", client.port));
    }
    lines.push(format!("keep snapshots in {}/version-2", config.data_dir.display()));
    lines.push(format!("keep its txn log in {}/version-2", config.data_log_dir.display()));
    lines.push(format!(
        "grant session timeouts from {} to {} ms, in ticks of {} ms",
        config.session_timeout_ms_least, config.session_timeout_ms_most, config.tick_ms
    ));
    lines.push(format!(
        "take {} connections from one address, {} in all",
        limit(config.address_connections_max),
        limit(config.connections_max)
    ));
    lines.push(format!("take requests of at most {} bytes", config.frame_bytes_max));
    lines.push(format!(
        "acknowledge writes {} they are on disk",
        if config.sync_before_ack { "when" } else { "BEFORE" }
    ));
    lines.push(format!("take a snapshot after {} txns at the earliest", config.snap_txns));
    lines.push(match config.purge_every_ms {
        Some(every) => {
            format!("purge old files every {} h, keeping {} snapshots", every / 3_600_000, config.purge_keep)
        }
        None => "never purge old files".to_owned(),
    });
    lines.push(format!("answer these four-letter words: {}", words(config)));
    lines
}

/// "server 2 of an ensemble of 3 voters and 1 observer, as a voter"
pub fn place_in(ensemble: &EnsembleConfig) -> String {
    let count = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
    let observers = match ensemble.observers() {
        0 => String::new(),
        number => format!(" and {}", count(number, "observer")),
    };
    let role = if ensemble.own().is_observer { "an observer" } else { "a voter" };
    format!(
        "server {} of an ensemble of {}{observers}, {role}",
        ensemble.me.0,
        count(ensemble.voters(), "voter")
    )
}

fn in_ensemble(ensemble: &EnsembleConfig, tick_ms: u32) -> Vec<String> {
    let settings = &ensemble.settings;
    let ms = |ticks: u32| u64::from(ticks) * u64::from(tick_ms);
    let mut lines = vec![format!("be {}", place_in(ensemble))];
    lines.push(match (ensemble.voters() - 1) / 2 {
        0 => "stop serving when any voter fails".to_owned(),
        failures => format!("serve on while no more than {failures} of the voters fail"),
    });
    for address in &ensemble.own().addresses {
        let host = if settings.listen_everywhere { "all interfaces" } else { &address.host };
        lines.push(format!(
            "listen for other servers on ports {} and {} of {host}",
            address.quorum_port, address.election_port
        ));
    }
    lines.push(format!(
        "let a learner take {} ms to come into sync, and be silent for {} ms afterwards",
        ms(settings.init_ticks),
        ms(settings.sync_ticks)
    ));
    if !settings.leader_serves {
        lines.push("serve no clients while it leads".to_owned());
    }
    if !settings.empty_votes {
        lines.push(
            "not start with an empty data directory, unless there is a file `initialize` in it".to_owned(),
        );
    }
    lines
}

pub fn words(config: &Config) -> String {
    match &config.words {
        config::Words::All => "all".to_owned(),
        config::Words::Only(words) => words.join(" "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, parts: &[&str]) {
        let loaded = config::load_file(Path::new("zoo.cfg"), text.as_bytes(), &Environment::default());
        let report = report(&loaded.unwrap_or_else(|error| panic!("{error}")));
        for part in parts {
            assert!(report.contains(part), "{part:?} is not in:\n{report}");
        }
    }

    #[test]
    fn reports() {
        check(
            "clientPort=2181\ndataDir=/d\nforceSync=no\ninitLimit=10\nnio.numWorkerThreads=4\n",
            &[
                "zoo.cfg:1: clientPort=2181 - port of the plain-text client listener",
                "zoo.cfg:4: initLimit=10 - ticks a learner may take to connect and sync; nothing to a server that runs alone",
                "zoo.cfg:5: nio.numWorkerThreads=4 - no effect: threads follow the CPUs",
                "Weaker than usual:\n  forceSync=no",
                "listen for clients on port 2181 of all interfaces",
                "acknowledge writes BEFORE they are on disk",
                "never purge",
                "four-letter words: srvr\n",
            ],
        );
        check(
            "clientPort=2181\ndataDir=/d\njute.maxbuffer=4194304\nznode.container.maxPerMinute=5\n",
            &[
                "zoo.cfg:3: jute.maxbuffer=4194304 - no effect here: see the warnings",
                "zoo.cfg:3: jute.maxbuffer has no effect here [it binds what may stand on the disk",
                "take requests of at most 1048575 bytes",
                "zoo.cfg:4: Apache takes it only as -Dznode.container.maxPerMinute",
            ],
        );
    }

    #[test]
    fn reports_of_an_ensemble() {
        let home = tempfile::tempdir().expect("a directory");
        std::fs::write(home.path().join("myid"), "2\n").expect("written");
        let head = format!(
            "clientPort=2181\ndataDir={}\ntickTime=2000\ninitLimit=10\nsyncLimit=5\n",
            home.path().display()
        );
        check(
            &format!(
                "{head}leaderServes=no\nlocalSessionsEnabled=true\nserver.1=a:2888:3888\nserver.2=b:2888:3888\n\
                 server.3=c:2888:3888\nserver.4=d:2888:3888:observer\n"
            ),
            &[
                "zoo.cfg:4: initLimit=10 - ticks a learner may take to connect and sync (default: must be set",
                "zoo.cfg:7: localSessionsEnabled=true - sessions start on one server, not replicated; not served yet: every",
                "zoo.cfg:8: server.1=a:2888:3888 - a member of the ensemble",
                "be server 2 of an ensemble of 3 voters and 1 observer, a voter",
                "serve on while no more than 1 of the voters fail",
                "listen for other servers on ports 2888 and 3888 of b",
                "take 20000 ms to come into sync, and be silent for 10000 ms",
                "serve no clients while it leads",
            ],
        );
    }
}
