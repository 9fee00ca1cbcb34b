//! The one binary: `ostler`. Without arguments it runs a server fit for a first benchmark.
//! Here: the list of subcommands. Each lives in a module of its own and returns the process's exit code.

// Help texts are printed as they stand, names such as log.<zxid> included.
#![allow(rustdoc::invalid_html_tags)]

mod check;
mod cli;
mod date;
mod ensemble;
mod init;
mod log_file;
mod logging;
mod offline;
mod pages;
mod place;
mod server;
mod verbs;
mod words;

use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand};
use ostler_engine::config::Environment;

use place::Place;

/// Exit codes scripts may rely on: those of Apache's server.
pub mod exit {
    pub const OK: i32 = 0;
    /// Unexpected.
    pub const ERROR: i32 = 1;
    /// Bad arguments or configuration.
    pub const CONFIG: i32 = 2;
    /// A data directory cannot be used.
    pub const DATA_DIR: i32 = 3;
}

const SERVER_EXIT_CODES: &str = "\
Exit codes: 0 ended by a signal; 1 unexpected; 2 bad arguments or configuration; 3 a data directory cannot be used; \
14 a port for other servers cannot be opened; 20 the disk failed.

Signals: SIGTERM and SIGINT end it, in order; SIGHUP opens the log file again and takes ostler.logLevel of the configuration \
anew; the log says what each did, and why the server ends.";
const VERB_EXIT_CODES: &str = "Exit codes: 0 done; 1 not done; 2 bad arguments or configuration.";
const STATUS_EXIT_CODES: &str = "Exit codes: 0 it serves; 1 it does not; 2 bad arguments or configuration.";

/// Ostler: a coordination server that ZooKeeper's clients use as they use Apache ZooKeeper 3.9.
#[derive(Parser)]
#[command(
    name = "ostler",
    version,
    disable_help_subcommand = true,
    after_help = "Without a command, `ostler` runs a server on 127.0.0.1:2181 with its data in the user's state \
                  directory (or $OSTLER_DATA_DIR); its first log line says where. -Dname=value behind it are settings, \
                  as with `ostler server`.\n\n\
                  Try:   ostler                          a server\n       \
                         ostler cli ls /                 what is in it, from another terminal\n       \
                         ostler check zoo.cfg            what a configuration means here\n       \
                         ostler server zoo.cfg           a server as that file says\n       \
                         ostler ensemble up              three servers, and what to try with them"
)]
struct Root {
    /// Directory of zoo.cfg, as behind the verbs that have this option (start, stop, status and so on).
    #[arg(long, value_name = "DIR")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Run the server in this terminal: `server [zoo.cfg]`, or `server PORT DIR [TICK] [MAX-PER-ADDRESS]`.
    ///
    /// Settings can be added as -Dname=value, named as Java's system properties, such as -Dzookeeper.snapCount=1000.
    /// JVMFLAGS and SERVER_JVMFLAGS are read for such settings. Without arguments the embedded defaults hold.
    #[command(after_help = SERVER_EXIT_CODES)]
    Server(ServerWords),
    /// Start the server in the background, as zkServer.sh does.
    #[command(after_help = VERB_EXIT_CODES)]
    Start(Launch),
    /// Run the server of the configured directory in this terminal.
    #[command(after_help = SERVER_EXIT_CODES)]
    StartForeground(Launch),
    /// Stop the server that `start` started.
    #[command(after_help = VERB_EXIT_CODES)]
    Stop(Verb),
    /// Stop it and start it again.
    #[command(after_help = VERB_EXIT_CODES)]
    Restart(Launch),
    /// Ask the configured server for its role.
    #[command(after_help = STATUS_EXIT_CODES)]
    Status(Verb),
    /// Print the version of ZooKeeper that this is compatible with.
    Version,
    /// Print the command that `start` would run.
    #[command(after_help = VERB_EXIT_CODES)]
    PrintCmd(Verb),
    /// Explain a configuration, key by key, without starting anything.
    #[command(after_help = check::EXIT_CODES)]
    Check(check::Options),
    /// Prepare data directories and myid, as zkServer-initialize.sh does.
    #[command(after_help = VERB_EXIT_CODES)]
    Init(init::Options),
    /// Run an ensemble on this machine, and let its servers come and go: `ensemble up`, `kill leader`, `status --live`.
    Ensemble(ensemble::Options),
    /// Send a four-letter word, such as `ruok` or `mntr`, and print the answer.
    #[command(name = "4lw")]
    FourLetterWord(words::Options),
    /// Apache's shell: `cli -server host:port [command]`; `cli -help` lists its commands.
    ///
    /// Exit codes: 0 done; 1 refused or failed; 127 no such command.
    #[command(disable_help_flag = true)]
    Cli(CliWords),
    #[command(flatten)]
    Offline(offline::Offline),
    /// Print a shell's completions for this command line: `ostler completions bash > FILE`, and source FILE.
    Completions {
        /// Which shell's.
        shell: clap_complete::Shell,
    },
    /// Print the manual page of `ostler`, or of one of its commands: `ostler man log recover | man -l -`.
    Man(pages::Options),
    /// Measure a ZooKeeper server of any kind; `bench` alone lists what can be measured.
    #[command(disable_help_flag = true)]
    Bench(BenchWords),
}

/// Settings of the command line, as Java's flags.
#[derive(Args)]
pub struct Settings {
    /// A setting, named as Java's system property, such as -Dzookeeper.snapCount=1000.
    #[arg(short = 'D', value_name = "NAME=VALUE")]
    define: Vec<String>,
}

impl Settings {
    /// `words` with the settings behind them, as the configuration's loader takes them.
    pub fn behind<'a>(&self, words: impl IntoIterator<Item = &'a String>) -> Vec<String> {
        let flags = self.define.iter().map(|setting| format!("-D{setting}"));
        words.into_iter().cloned().chain(flags).collect()
    }
}

#[derive(Args)]
struct ServerWords {
    /// A zoo.cfg; or client port, data directory, tickTime and connections per address.
    #[arg(value_name = "ZOO.CFG | PORT DIR [TICK] [MAX-PER-ADDRESS]", num_args = 0..=4)]
    words: Vec<String>,
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    log: logging::Options,
}

/// What a verb that runs a server takes.
#[derive(Args)]
struct Launch {
    #[command(flatten)]
    verb: Verb,
    #[command(flatten)]
    log: logging::Options,
}

impl Launch {
    fn run(self, before: Option<PathBuf>, verb: impl FnOnce(&Place, &[String]) -> i32) -> i32 {
        let mut place = Place::new(self.verb.config.or(before).as_deref());
        self.log.put_into(&mut place.environment);
        verb(&place, &self.verb.settings.behind(&self.verb.file))
    }
}

/// What each verb of zkServer.sh takes.
#[derive(Args)]
struct Verb {
    /// Directory of zoo.cfg (else $ZOOCFGDIR, else ./conf).
    #[arg(long, value_name = "DIR")]
    config: Option<PathBuf>,
    /// Name of the configuration in that directory, or its path (else $ZOOCFG, else zoo.cfg).
    #[arg(value_name = "FILE")]
    file: Option<String>,
    #[command(flatten)]
    settings: Settings,
}

impl Verb {
    fn run(self, before: Option<PathBuf>, verb: impl FnOnce(&Place, &[String]) -> i32) -> i32 {
        let place = Place::new(self.config.or(before).as_deref());
        verb(&place, &self.settings.behind(&self.file))
    }
}

#[derive(Args)]
struct CliWords {
    /// Options of Apache's shell (-server, -timeout, -r, -waitforconnection, -client-configuration), then a command; none:
    /// lines are read.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTION | COMMAND")]
    words: Vec<String>,
}

#[derive(Args)]
struct BenchWords {
    /// What to measure, and how.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
    words: Vec<String>,
}

fn main() {
    let arguments: Vec<String> =
        std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    // `ostler -Dname=value` is the server with a setting.
    if arguments.get(1).is_none_or(|word| word.starts_with("-D")) {
        std::process::exit(server::run(&arguments[arguments.len().min(1)..], &Environment::of_process()));
    }
    let root = Root::parse_from(offline::respelled(arguments));
    std::process::exit(run(root));
}

fn run(Root { config, command }: Root) -> i32 {
    let takes_config = matches!(
        command,
        Some(
            Command::Start(_)
                | Command::StartForeground(_)
                | Command::Stop(_)
                | Command::Restart(_)
                | Command::Status(_)
                | Command::PrintCmd(_)
                | Command::Check(_)
                | Command::Init(_)
        )
    );
    if config.is_some() && !takes_config {
        eprintln!(
            "ostler: --config means something to start, start-foreground, stop, restart, status, print-cmd, check and init \
             only; to run a server in this terminal with the zoo.cfg of a directory: ostler start-foreground --config DIR"
        );
        return exit::CONFIG;
    }
    match command {
        None => server::run(&[], &Environment::of_process()),
        Some(Command::Server(ServerWords { words, settings, log })) => {
            let mut environment = Environment::of_process();
            log.put_into(&mut environment);
            server::run(&settings.behind(&words), &environment)
        }
        Some(Command::Start(launch)) => launch.run(config, verbs::start),
        Some(Command::StartForeground(launch)) => launch.run(config, verbs::start_foreground),
        Some(Command::Stop(verb)) => verb.run(config, verbs::stop),
        Some(Command::Restart(launch)) => launch.run(config, verbs::restart),
        Some(Command::Status(verb)) => verb.run(config, verbs::status),
        Some(Command::Version) => verbs::version(),
        Some(Command::PrintCmd(verb)) => verb.run(config, verbs::print_command),
        Some(Command::Check(options)) => check::run(config, &options),
        Some(Command::Init(options)) => init::run(config, &options),
        Some(Command::Ensemble(options)) => ensemble::run(options),
        Some(Command::FourLetterWord(options)) => words::run(&options),
        Some(Command::Cli(CliWords { words })) => cli::run(&words),
        Some(Command::Offline(command)) => offline::run(command),
        Some(Command::Completions { shell }) => pages::completions(shell, Root::command()),
        Some(Command::Man(options)) => pages::manual(&options, Root::command()),
        Some(Command::Bench(BenchWords { words })) => ostler_bench::command::run(&words),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Root::command().debug_assert();
    }

    #[test]
    fn words_behind_a_verb_are_taken_as_they_stand() {
        let root = Root::parse_from(["ostler", "server", "2181", "/d", "-Dzookeeper.snapCount=5"]);
        assert!(matches!(root.command, Some(Command::Server(server))
            if server.settings.behind(&server.words) == ["2181", "/d", "-Dzookeeper.snapCount=5"]));
        let root = Root::parse_from(["ostler", "cli", "-server", "h:1", "ls", "-s", "/"]);
        assert!(matches!(root.command, Some(Command::Cli(CliWords { words })) if words.len() == 5));
        let root = Root::parse_from(["ostler", "--config", "/etc", "status", "other.cfg"]);
        assert_eq!(root.config, Some("/etc".into()));
        for words in [["other.cfg", "--config", "/etc"], ["--config", "/etc", "other.cfg"]] {
            let root = Root::parse_from(["ostler", "status"].into_iter().chain(words));
            assert!(matches!(root.command, Some(Command::Status(verb))
                if verb.config == Some("/etc".into()) && verb.file.as_deref() == Some("other.cfg")));
        }
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for words in [
            &["status", "a.cfg", "b.cfg"][..],
            &["start", "--nonsense"],
            &["server", "1", "2", "3", "4", "5"],
            &["4lw", "h", "1", "nope"],
            &["4lw", "h", "1", "stmk"],
        ] {
            let refused = Root::try_parse_from(std::iter::once("ostler").chain(words.iter().copied()));
            assert!(refused.is_err(), "{words:?}");
        }
        for verb in ["server", "version", "bench"] {
            assert_eq!(run(Root::parse_from(["ostler", "--config", "/etc", verb])), exit::CONFIG, "{verb}");
        }
    }

    #[test]
    fn every_argument_is_described() {
        let mut left = vec![Root::command()];
        while let Some(command) = left.pop() {
            for argument in command.get_arguments() {
                let described = argument.get_help().is_some() || argument.get_long_help().is_some();
                assert!(described, "{} {}", command.get_name(), argument.get_id());
            }
            assert!(command.get_about().is_some(), "{}", command.get_name());
            left.extend(command.get_subcommands().cloned());
        }
    }
}
